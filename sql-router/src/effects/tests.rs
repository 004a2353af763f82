//! What texts do to their sessions.

use super::*;
use proptest::prelude::*;

fn one(text: &str) -> Effect {
    let mut effects = all(text).statements;
    assert_eq!(effects.len(), 1, "{text}");
    effects.remove(0)
}

fn all(text: &str) -> Effects {
    of_text(text.as_bytes())
        .unwrap_or_else(|| Effects { statements: vec![Effect::None], ..Effects::default() })
}

fn set(name: &str, value: &str) -> Effect {
    Effect::Set(name.into(), value.into())
}

#[test]
fn settings_are_read_as_they_are_meant() {
    assert_eq!(one("SET search_path TO a, \"B c\", 'd'"), set("search_path", "\"a\", \"B c\", \"d\""));
    assert_eq!(one("set session Work_Mem = '4MB';"), set("work_mem", "4MB"));
    assert_eq!(one("SET statement_timeout = 100"), set("statement_timeout", "100"));
    assert_eq!(one("SET seed TO -0.5"), set("seed", "-0.5"));
    assert_eq!(one("SET MyApp.User TO 'O''Clock'"), set("myapp.user", "O'Clock"));
    assert_eq!(one("SET TIME ZONE 'Europe/Paris'"), set("timezone", "Europe/Paris"));
    assert_eq!(one("SET ROLE \"Bob\""), set("role", "Bob"));
    assert_eq!(one("SET SESSION AUTHORIZATION alice"), set("session_authorization", "alice"));
    assert_eq!(one("SET NAMES 'UTF8'"), set("client_encoding", "UTF8"));
    assert_eq!(one("SET datestyle TO ISO, DMY"), set("datestyle", "ISO, DMY"));
    assert_eq!(one("SELECT pg_catalog.set_config('search_path', '', false)"), set("search_path", ""));
    assert_eq!(one("SET work_mem TO DEFAULT"), Effect::Reset("work_mem".into()));
    assert_eq!(one("RESET ALL"), Effect::ResetAll);
    assert_eq!(
        one("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
        Effect::Characteristics(vec![
            ("default_transaction_isolation", "repeatable read".into()),
            ("default_transaction_read_only", "on".into())
        ])
    );
    assert_eq!(one("RESET myapp.user"), Effect::Reset("myapp.user".into()));
}

#[test]
fn a_session_that_ends_itself_is_told_from_one_that_ends_others() {
    let disturbs = |text| all(text).disturbs;
    assert_eq!(disturbs("SELECT pg_terminate_backend(pg_backend_pid())"), Disturbs::EndsItself);
    assert_eq!(disturbs("SELECT pg_terminate_backend(1), pg_cancel_backend(2)"), Disturbs::Ends);
    assert_eq!(disturbs("SELECT pg_cancel_backend($1)"), Disturbs::Cancels);
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'd'";
    assert_eq!(disturbs(others), Disturbs::Ends);
}

#[test]
fn a_number_of_a_server_process_is_told_and_called_for() {
    assert!(all("SELECT pg_backend_pid()").tells_process);
    assert!(!all("SELECT pg_cancel_backend(1)").tells_process);
    let ends = |text| all(text).ends;
    let number = std::num::NonZeroU32::new(1234).map(Process::Number);
    assert_eq!(ends("select pg_catalog.pg_terminate_backend( 1234 )"), number);
    assert_eq!(ends("SELECT pg_terminate_backend(1234, 100)"), number);
    assert_eq!(ends("SELECT pg_terminate_backend($1)"), Some(Process::Parameter(1)));
    assert_eq!(ends("SELECT $1, pg_terminate_backend($2::int, 100)"), Some(Process::Parameter(2)));
    for text in
        ["SELECT pg_terminate_backend($1 + 1)", "SELECT pg_terminate_backend(12 + 1)", "SELECT f(1234)"]
    {
        assert_eq!(ends(text), None, "{text}");
    }
}

#[test]
fn a_database_that_is_dropped_renamed_or_copied_must_be_empty() {
    for (text, database) in [
        ("DROP DATABASE app", "app"),
        ("drop database if exists \"App\" WITH (FORCE)", "App"),
        ("ALTER DATABASE App RENAME TO other", "app"),
        ("ALTER DATABASE app SET TABLESPACE fast", "app"),
        ("CREATE DATABASE app", "template1"),
        ("CREATE DATABASE app OWNER me TEMPLATE = 'base'", "base"),
        ("CREATE DATABASE app WITH TEMPLATE template0", "template0"),
    ] {
        assert_eq!(one(text), Effect::NeedsAlone(database.into()), "{text}");
    }
    assert_eq!(all("ALTER DATABASE app SET work_mem TO '1MB'").statements, [Effect::None]);
    assert_eq!(all("COMMENT ON DATABASE app IS ''").statements, [Effect::None]);
    assert_eq!(one("SAVEPOINT database"), Effect::Savepoint("database".into()));
}

#[test]
fn roles_that_are_somebody_else_from_now_on_are_told() {
    for (text, roles) in [
        ("DROP ROLE app", &["app"][..]),
        ("drop user if exists \"App\", other", &["App", "other"]),
        ("ALTER USER App RENAME TO other", &["app"]),
    ] {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        assert_eq!(one(text), Effect::Renames(roles), "{text}");
    }
    assert_eq!(all("ALTER ROLE app SET work_mem TO '1MB'").statements, [Effect::None]);
}

#[test]
fn a_function_in_c_loads_its_library() {
    for text in [
        "CREATE FUNCTION f(int) RETURNS int AS '/lib/f' LANGUAGE C STRICT",
        "create or replace procedure f() language 'c' as '/lib/f', 'g'",
    ] {
        assert_eq!(one(text), Effect::LoadLibrary, "{text}");
    }
    for text in
        ["CREATE FUNCTION c() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE TABLE language (c int)"]
    {
        assert_eq!(one(text), Effect::None, "{text}");
    }
}

#[test]
fn what_ends_with_the_transaction_is_told_apart() {
    for text in
        ["SET TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ ONLY", "SET CONSTRAINTS ALL DEFERRED"]
    {
        assert_eq!(one(text), Effect::SetLocal(None), "{text}");
    }
    for text in ["SET LOCAL a = 'b'", "SELECT set_config('a', 'b', true)"] {
        assert_eq!(one(text), Effect::SetLocal(Some(("a".into(), "b".into()))), "{text}");
    }
    assert_eq!(one("ROLLBACK TO SAVEPOINT A"), Effect::RollbackTo("a".into()));
    assert_eq!(one("release \"B\""), Effect::Release("B".into()));
    assert_eq!(one("ROLLBACK"), Effect::None);
}

#[test]
fn what_is_not_understood_says_so() {
    for text in ["SET x TO (1)", "SET TIME ZONE -7"] {
        assert_eq!(one(text), Effect::Unknown, "{text}");
    }
    for text in ["SET x TO (1)", "SELECT set_config(a, b, false) FROM t"] {
        assert_eq!(all(text).ask, Ask::Always, "{text}");
    }
}

#[test]
fn the_server_is_asked_about_what_only_one_connection_has() {
    for text in [
        "CREATE TEMP TABLE t (a int)",
        "create local temporary view v as select 1",
        "CREATE TABLE pg_temp.t (a int)",
        "select 1 into temp t",
        "select 1 into local temporary table t",
        "(SELECT 1 INTO TEMP t)",
        "WITH a AS (SELECT 1) SELECT * INTO TEMP t FROM a",
        "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1",
        "EXPLAIN (ANALYZE) SELECT 1 INTO TEMPORARY t",
        "CREATE TABLE \"pg_temp\".t (a int)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT pg_advisory_lock(1)",
        "WITH a AS (SELECT pg_advisory_lock(1)) SELECT 1",
        "INSERT INTO t SELECT set_config('a', 'b', false)",
        "SELECT pg_advisory_unlock_all()",
    ] {
        assert_eq!(all(text).ask, Ask::Always, "{text}");
    }
    for text in [
        "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
        "DECLARE c CURSOR FOR SELECT 'with hold'",
        "SELECT pg_advisory_xact_lock(1)",
        "SET a TO 1",
        "SELECT set_config('a', 'b', false)",
    ] {
        assert_eq!(all(text).ask, Ask::No, "{text}");
    }
}

#[test]
fn names_of_prepared_statements_are_found_where_they_stand() {
    let name = |text: &'static str| match one(text) {
        Effect::Prepare { name, rest } => (name.0, &text[name.1], &text[rest]),
        Effect::Execute(name) | Effect::Deallocate(name) => (name.0, &text[name.1], ""),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(name("PREPARE p (int) AS SELECT $1;"), ("p".into(), "p", " (int) AS SELECT $1;"));
    assert_eq!(name("prepare \"A b\" as select 1"), ("A b".into(), "\"A b\"", " as select 1"));
    assert_eq!(name("EXECUTE P(1)"), ("p".into(), "P", ""));
    assert_eq!(name("EXPLAIN (COSTS OFF, ANALYZE) EXECUTE p(1)"), ("p".into(), "p", ""));
    assert_eq!(name("explain analyze verbose execute p"), ("p".into(), "p", ""));
    assert_eq!(name("CREATE TABLE t AS EXECUTE p"), ("p".into(), "p", ""));
    assert_eq!(name("DEALLOCATE PREPARE p"), ("p".into(), "p", ""));
    assert_eq!(one("DEALLOCATE PREPARE ALL"), Effect::DeallocateAll);
    assert_eq!(one("DISCARD ALL"), Effect::DiscardAll);
    for text in [
        "PREPARE TRANSACTION 'x'",
        "CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f()",
        "EXPLAIN SELECT 1",
    ] {
        assert_eq!(one(text), Effect::None, "{text}");
    }
    assert_eq!(
        of_prepared(b" (numeric(1,2)) AS SELECT f($1)").map(|effects| effects.ask),
        Some(Ask::Sampled)
    );
    assert_eq!(of_prepared(b" AS SELECT $1"), None);
}

#[test]
fn a_do_block_names_the_settings_that_it_may_make() {
    let effects =
        all("DO $$ BEGIN PERFORM set_config('App.a', 'x', false); SET session app.b TO 1; SET c = 1; END $$");
    assert_eq!((effects.ask, effects.custom), (Ask::Sampled, vec!["app.a".into(), "app.b".into()]));
    assert_eq!(all("SELECT enter('App.x', 'a.b c', '1.5')").custom, ["app.x"]);
}

#[test]
fn settings_that_cannot_be_read_are_named_and_asked_for() {
    for text in [
        &b"SET app.a TO '\xe9'"[..],
        br"SET app.a TO E'\x41'",
        br"SET SESSION app.a TO U&'\0041'",
        b"SET app.a TO 'a'\n'b'",
        b"SELECT set_config('App.a', 'b' || 'c', false)",
        b"SELECT set_config('app.a', '\xe9', false)",
        b"WITH n AS (SELECT 'app.a') SELECT set_config(n, '', false) FROM n",
    ] {
        let effects = of_text(text).unwrap();
        assert_eq!((effects.ask, effects.custom.as_slice()), (Ask::Always, &["app.a".to_owned()][..]));
    }
    assert_eq!(all("EXECUTE p('app.a', 'b')").custom, ["app.a"]);
}

#[test]
fn names_in_another_encoding_are_not_taken_for_known_ones() {
    for text in [&b"PREPARE \xe9 AS SELECT 1"[..], b"EXECUTE \xe9", b"LISTEN \xe9", b"SAVEPOINT \xe9"] {
        let effects = of_text(text).unwrap();
        assert_eq!((effects.ask, effects.statements), (Ask::Always, vec![Effect::None]));
    }
    // The second byte of a character of SJIS.
    assert!(of_text(b"SELECT \x83\x7c(1)").unwrap().unseen);
    assert!(of_text(b"SELECT E'\x95\\', f()").unwrap().unseen);
    let known = of_text(b"EXECUTE p('\xe9')").unwrap();
    assert_eq!((known.ask, known.statements), (Ask::No, vec![Effect::Execute(("p".into(), 8..9))]));
    assert_eq!(of_text(b"SELECT f('\xe9')").map(|effects| effects.ask), Some(Ask::Sampled));
    assert_eq!(of_text(b"SELECT lower('\xe9')"), None);
}

#[test]
fn of_a_long_text_everything_is_seen_or_it_is_said_that_it_was_not() {
    let long = "x".repeat(1024 * 1024);
    assert_eq!(all(&format!("SELECT length('{long}'), f()")).ask, Ask::Sampled);
    assert_eq!(one(&format!("SET app.a TO '{long}'")), set("app.a", &long));
    assert_eq!(all(&format!("SELECT '{long}', ';'")), all("SELECT 1"));
    let words = "1,".repeat(MOST_WORDS);
    let unseen = all(&format!("SELECT {words} f()"));
    assert!(unseen.unseen && unseen.ask == Ask::Always);
    let executed = all(&format!("EXECUTE p({words} 1)"));
    assert!(executed.unseen && matches!(executed.statements[..], [Effect::Execute(_)]));
    let cut = of_beginning(b"SET app.a TO 1; SET app.b TO 'be");
    assert_eq!(cut.statements, [set("app.a", "1"), Effect::Unknown]);
    assert!(cut.unseen && cut.ask == Ask::Always && cut.custom == ["app.b"]);
}

#[test]
fn channels_are_named_as_the_server_names_them() {
    assert_eq!(one("LISTEN Jobs"), Effect::Listen("jobs".into()));
    assert_eq!(one("listen /* all */ \"Big \"\"Jobs\" ;"), Effect::Listen("Big \"Jobs".into()));
    assert_eq!(one("LISTEN ÄRGER"), Effect::Listen("Ärger".into()));
    assert_eq!(one("UNLISTEN Jobs"), Effect::Unlisten("jobs".into()));
    assert_eq!(one("unlisten *"), Effect::UnlistenAll);
    assert_eq!(one("discard all"), Effect::DiscardAll);
    let long = "x".repeat(62) + "ä" + "y";
    assert_eq!(one(&format!("LISTEN {long}")), Effect::Listen("x".repeat(62)));
    assert_eq!(one(&format!("LISTEN {}", "x".repeat(64))), Effect::Listen("x".repeat(63)));
    for text in ["LISTEN", "LISTEN U&\"d\\0061t\"", "LISTEN 'a'", "LISTEN a b", "LISTEN \"\""] {
        assert_eq!(one(text), Effect::None, "{text}");
    }
}

#[test]
fn who_notifies_is_seen() {
    assert_eq!(one("NOTIFY jobs"), Effect::Notify);
    assert_eq!(one("notify jobs, 'one; two'"), Effect::Notify);
    assert_eq!(one("SELECT pg_notify('jobs', $1)"), Effect::Notify);
    assert_eq!(one("WITH a AS (SELECT 1) SELECT PG_NOTIFY('a', 'b') FROM a"), Effect::Notify);
    assert_eq!(one("SELECT 'pg_notify'"), Effect::None);
}

#[test]
fn most_texts_have_no_effect() {
    for text in [
        "SELECT 1",
        "select abalance from t where aid = 1;",
        "UPDATE t SET a = 1",
        "BEGIN",
        "",
        ";;",
        "insert into t values (';')",
    ] {
        assert_eq!(of_text(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn each_statement_of_a_text_has_its_place() {
    assert_eq!(
        of_text(b"SELECT 1; SET a TO 1;; SELECT ';SET b TO 2'"),
        Some(Effects { statements: vec![Effect::None, set("a", "1"), Effect::None], ..Effects::default() })
    );
}

proptest! {
    #[test]
    fn any_text_is_judged(text: Vec<u8>) {
        let _ = of_text(&text);
    }

    #[test]
    fn the_quick_answer_never_misses_what_the_words_tell(
        text in "(SELECT|WITH)( |INTO|SET|PREPARE|LISTEN|TABLE|TEMP|c|=|,|'x'|\"q\"|;|\x0b|--c\n|/\\*c\\*/|E'\\\\'|\\$\\$|[(),. ]){0,16}"
    ) {
        if are_surely_none(text.as_bytes()) {
            prop_assert_eq!(of_words(text.as_bytes()), None);
        }
    }

    #[test]
    fn any_set_is_judged(text in "(SET|RESET|SELECT|CREATE|ROLLBACK|DECLARE)( |LOCAL|TO|=|,|'|\"|;|[a-z.]|\\(|\\)){0,20}") {
        let _ = of_text(text.as_bytes());
    }
}
