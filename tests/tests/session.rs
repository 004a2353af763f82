//! A session keeps in transaction mode what it would have on a connection of its own, and nobody else gets any of it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::raw::messages::{bind, execute, extended, function_call, message, parse, query, sync};
use hawser_tests::raw::{Client, rows, tags};
use hawser_tests::{Account, Config, Ensemble, Site, cluster, disturb, is_direct, wait_until};

/// Hawser with two server connections for a superuser.
fn site_of_superuser() -> (Site, Account) {
    let account = Account::new(cluster());
    let superuser = account.superuser(cluster());
    let config = Config::new(cluster(), &account).user(&superuser).set("pool.size", 2);
    (Site::of(account, &config), superuser)
}

#[test]
fn what_a_function_called_like_a_key_word_has_set_is_its_sessions() {
    let site = Site::new();
    let mut client = site.client();
    client.execute(
        "CREATE FUNCTION sets(text) RETURNS text LANGUAGE sql AS 'SELECT set_config(''work_mem'', $1, false)'",
    );
    client.value("SELECT sets('1234kB')");
    if !is_direct() {
        assert_ne!(site.client().value("SHOW work_mem"), "1234kB");
    }
    assert_eq!(client.value("SHOW work_mem"), "1234kB");
    site.others_are_well();
}

#[test]
fn what_is_done_at_the_end_of_a_long_text_is_seen() {
    let site = Site::new();
    site.client().execute(
        "CREATE FUNCTION makes(text) RETURNS text LANGUAGE sql AS 'SELECT set_config(''work_mem'', $1, false)'",
    );
    for length in [20_000, 40_000, 100_000, 300_000] {
        for (value, is_simple) in [("1111kB", true), ("2222kB", false)] {
            let mut client = site.client();
            let text = format!("SELECT length('{}'), makes('{value}')", "x".repeat(length));
            client.send(&if is_simple { query(&text) } else { [extended(&text, &[]), sync()].concat() });
            assert_eq!(rows(&client.read_until_ready()), [length.to_string()]);
            if !is_direct() {
                assert_eq!(site.client().value("SHOW work_mem"), "4MB", "{length} {is_simple}");
            }
            assert_eq!(client.value("SHOW work_mem"), value, "{length} {is_simple}");
        }
    }
    let mut client = site.client();
    let long = "x".repeat(300_000);
    client.query(&format!("SELECT length('{long}'); CREATE TEMP TABLE mine AS SELECT 1"));
    assert_eq!(client.value("TABLE mine"), "1");
    client.execute("DROP TABLE mine");
    client.execute(&format!("SET app.long TO '{long}'"));
    disturb(&mut site.client());
    assert_eq!(client.value("SELECT length(current_setting('app.long'))"), "300000");
    site.others_are_well();
}

#[test]
fn what_is_called_by_its_number_is_asked_about() {
    let site = Site::new();
    let mut client = site.client();
    client.execute(
        "CREATE FUNCTION enters(text) RETURNS text LANGUAGE sql AS 'SELECT set_config(''work_mem'', $1, false)'",
    );
    let oid = client.value("SELECT 'enters'::regproc::oid").parse().unwrap();
    client.send(&function_call(oid, &["3333kB"]));
    client.expect("VZ");
    if !is_direct() {
        assert_eq!(site.client().value("SHOW work_mem"), "4MB");
    }
    assert_eq!(client.value("SHOW work_mem"), "3333kB");
    site.others_are_well();
}

#[test]
fn a_connection_that_a_session_has_opened_is_its_own() {
    const ASK: &str = "SELECT a FROM dblink('mine', 'SELECT 7') AS t (a int)";
    let (site, superuser) = site_of_superuser();
    let login = || Client::login(site.port, &superuser);
    let (mut one, mut other) = (login(), login());
    one.execute("CREATE EXTENSION dblink");
    let (folder, port, user) = (cluster().socket_folder(), cluster().port(), cluster().superuser());
    let dial =
        format!("SELECT dblink_connect('mine', 'host={folder} port={port} user={user} dbname=postgres')");
    for is_prepared in [false, true] {
        let mut client = login();
        if is_prepared {
            client.execute(&format!("PREPARE dial AS {dial}"));
        }
        assert_eq!(client.value(if is_prepared { "EXECUTE dial" } else { &dial }), "OK");
        for _ in 0..2 {
            assert_eq!(client.value(ASK), "7");
            assert_eq!(other.error(ASK).sqlstate(), "08001");
        }
        drop(client);
        // It is gone with its session, whichever server connection it was on.
        one.execute("BEGIN");
        assert_eq!(one.error(ASK).sqlstate(), "08001");
        assert_eq!(other.error(ASK).sqlstate(), "08001");
        one.execute("ROLLBACK");
    }
}

#[test]
fn what_no_reset_removes_ends_with_its_session() {
    const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'passing'";
    const HAS_ORIGIN: &str = "SELECT pg_replication_origin_session_is_setup()";
    let (site, superuser) = site_of_superuser();
    let login = || Client::login(site.port, &superuser);
    let (mut client, mut other) = (login(), login());
    other.execute("SELECT pg_replication_origin_create('elsewhere')");
    client.execute("SELECT pg_replication_origin_session_setup('elsewhere')");
    client.execute("SELECT pg_create_physical_replication_slot('passing', true, true)");
    client.execute("DISCARD ALL");
    for _ in 0..2 {
        assert_eq!(client.value(HAS_ORIGIN), "t");
        assert_eq!(other.value(HAS_ORIGIN), "f");
    }
    let held = "SELECT active_pid = pg_backend_pid() FROM pg_replication_slots WHERE slot_name = 'passing'";
    assert_eq!(client.value(held), "t");
    drop(client);
    wait_until("the slot is gone", || other.value(SLOTS) == "0");
    let mut third = login();
    third.execute("BEGIN");
    assert_eq!((third.value(HAS_ORIGIN), other.value(HAS_ORIGIN)), ("f".to_owned(), "f".to_owned()));
    third.execute("ROLLBACK");
    other.execute("SELECT pg_replication_origin_drop('elsewhere')");
}

#[test]
fn a_session_that_ends_its_own_server_process_ends_with_it() {
    let site = Site::new();
    let mut client = site.client();
    client.send(&query("SELECT pg_terminate_backend(pg_backend_pid())"));
    let last = client.expect_closed();
    let farewell = last.iter().find(|message| message.tag == b'E').expect("its last words");
    assert_eq!((farewell.field(b'S'), farewell.sqlstate()), ("FATAL".to_owned(), "57P01".to_owned()));
    site.others_are_well();
}

// ---------------------------------------------------------------------------------------------------------- settings

#[test]
fn what_a_function_sets_is_its_sessions_and_nobody_elses() {
    let site = Site::new();
    let (mut one, mut two) = (site.client(), site.client());
    one.execute(
        "CREATE FUNCTION enter(t text) RETURNS void LANGUAGE plpgsql AS \
         $$ begin perform set_config('app.tenant', t, false); perform set_config('work_mem', '12MB', false); end $$",
    );
    one.query("SELECT enter('blue')");
    two.query("SELECT enter('green')");
    assert_eq!(one.value("SELECT current_setting('app.tenant')"), "blue");
    assert_eq!(two.value("SELECT current_setting('app.tenant')"), "green");
    assert_eq!(one.value("SHOW work_mem"), "12MB");
    let mut stranger = site.client();
    assert_eq!(stranger.value("SELECT coalesce(current_setting('app.tenant', true), '') || '!'"), "!");
    assert_eq!(stranger.value("SHOW work_mem"), "4MB");
    stranger.execute("DO $$ BEGIN SET app.block TO 'own'; SET enable_seqscan TO off; END $$");
    disturb(&mut site.client());
    assert_eq!(stranger.value("SHOW app.block"), "own");
    assert_eq!(stranger.value("SHOW enable_seqscan"), "off");
    assert_eq!(one.value("SHOW enable_seqscan"), "on");
}

#[test]
fn what_a_function_sets_under_a_name_that_nobody_can_know_never_reaches_another_client() {
    let site = Site::new();
    let mut one = site.client();
    one.execute(
        "CREATE FUNCTION hide(t text) RETURNS void LANGUAGE plpgsql AS \
         $$ begin perform set_config('app.' || t, 'secret', false); end $$",
    );
    one.query("SELECT hide('x')");
    let mut stranger = site.client();
    assert_eq!(stranger.value("SELECT coalesce(current_setting('app.x', true), '') || '!'"), "!");
}

#[test]
fn a_setting_of_an_application_is_known_by_the_name_that_a_query_or_its_parameters_give() {
    const SET: &str = "SELECT set_config($1, $2 || '!', false)";
    let site = Site::new();
    let mut client = site.client();
    client.execute("PREPARE enter (text, text) AS SELECT set_config($1, $2, false)");
    client.query("SELECT set_config('app.by_query', 'o' || 'ne', false)");
    client.query("WITH n AS (SELECT 'app.by_with'::text AS n) SELECT set_config(n, 'two', false) FROM n");
    client.query("EXECUTE enter('app.by_execute', 'three')");
    client.send(&[extended(SET, &[Some("app.By_Parameter"), Some("four")]), sync()].concat());
    assert_eq!(rows(&client.read_until_ready()), ["four!"]);
    client.send(&[parse("named", SET), sync()].concat());
    client.expect("1Z");
    client.send(&[bind("", "named", &[Some("app.by_bind"), Some("five")]), execute("", 0), sync()].concat());
    client.expect("2DCZ");
    client.execute("SET app.by_escapes TO E'si\\x78'");
    client.execute("SET app.by_unicode TO U&'s\\0065ven'");
    client.execute("SET app.by_pieces TO 'ei'\n'ght'");
    disturb(&mut site.client());
    for (name, value) in [
        ("by_query", "one"),
        ("by_with", "two"),
        ("by_execute", "three"),
        ("by_parameter", "four!"),
        ("by_bind", "five!"),
        ("by_escapes", "six"),
        ("by_unicode", "seven"),
        ("by_pieces", "eight"),
    ] {
        assert_eq!(client.value(&format!("SHOW app.{name}")), value);
    }
    site.others_are_well();
}

#[test]
fn texts_of_other_encodings_keep_what_they_do() {
    const HEX: &str = "SELECT encode(convert_to(current_setting('app.word'), 'UTF8'), 'hex')";
    let site = Site::new();
    let mut western = Client::login_with(site.port, &site.account, &[("client_encoding", "LATIN1")]);
    let mut client = site.client();
    client.execute(
        "CREATE FUNCTION leads(text, text) RETURNS text LANGUAGE sql AS 'SELECT set_config(''work_mem'', $2, false)'",
    );
    client.execute("SET app.word TO 'été'");
    western.execute("SET app.other TO 'x'");
    assert_eq!(client.value(HEX), "c3a974c3a9");
    let latin = |text: &str| -> Vec<u8> {
        let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap());
        message(b'Q', &bytes.chain([0]).collect::<Vec<_>>())
    };
    western.send(&latin("SELECT leads('é', '4444kB')"));
    assert_eq!(rows(&western.read_until_ready()), ["4444kB"]);
    if !is_direct() {
        assert_eq!(client.value("SHOW work_mem"), "4MB");
    }
    assert_eq!(western.value("SHOW work_mem"), "4444kB");
    western.send(&latin("PREPARE say (text) AS SELECT $1 || 'é' AS é"));
    western.expect("CZ");
    disturb(&mut client);
    western.send(&latin("EXECUTE say('à')"));
    let said = western.expect("TDCZ");
    assert_eq!(said[1].body.as_slice()[6..], [0xe0, 0xe9]);
    western.execute("DEALLOCATE say");
    assert_eq!(client.value(HEX), "c3a974c3a9");
    // Nobody else can say it as it was said: the session keeps the server connection that has it.
    western.send(&latin("SET app.word TO 'été'"));
    western.expect("CZ");
    assert_eq!(western.value(HEX), "c3a974c3a9");
    western.execute("DISCARD ALL");
    assert_eq!(client.value(HEX), "c3a974c3a9");
}

#[test]
fn what_a_function_leaves_when_nobody_asks_never_reaches_another_client() {
    const RUN: &str = "SELECT leave((SELECT kind FROM wanted))";
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE wanted AS SELECT 'nothing' AS kind");
    client.execute(
        "CREATE FUNCTION leave(kind text) RETURNS text LANGUAGE plpgsql AS $$ begin \
         if kind = 'everything' then \
           create temp table if not exists left_over (a int); \
           perform pg_advisory_lock(77), set_config('work_mem', '5555kB', false); \
         end if; return kind; end $$",
    );
    // It has proved clean so often that it is asked about now and then only.
    for _ in 0..20 {
        assert_eq!(client.value(RUN), "nothing");
    }
    site.client().execute("UPDATE wanted SET kind = 'everything'");
    assert_eq!(client.value(RUN), "everything");
    if !is_direct() {
        let mut stranger = site.client();
        let left = "SELECT to_regclass('left_over') IS NULL AND NOT EXISTS \
            (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
        assert_eq!(stranger.value(left), "t");
        assert_eq!(stranger.value("SHOW work_mem"), "4MB");
    }
    site.others_are_well();
}

/// What triggers, views, defaults and casts run is named by no text.
#[test]
fn what_runs_without_being_named_leaves_nothing_to_another_client() {
    const CLEAN: &str = "/* hawser: primary */ SELECT to_regclass('left_over') IS NULL AND current_setting('work_mem') = '4MB' \
        AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
    const LEAVE: &str = "CREATE FUNCTION leave() RETURNS int LANGUAGE plpgsql AS $$ begin \
        create temp table if not exists left_over (a int); \
        perform pg_advisory_lock(78), set_config('work_mem', '6666kB', false); return 1; end $$";
    const CALL: &str = "CREATE FUNCTION calls() RETURNS trigger LANGUAGE plpgsql AS \
        $$ begin perform leave(); return new; end $$; CREATE TABLE t (a int); \
        CREATE TRIGGER calls BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION calls()";
    for (made, run) in [
        (CALL, "INSERT INTO t VALUES (1) RETURNING a"),
        ("CREATE TABLE t (a int DEFAULT leave())", "INSERT INTO t DEFAULT VALUES RETURNING a"),
        ("CREATE VIEW t AS SELECT leave() AS a", "SELECT a FROM t"),
        ("CREATE DOMAIN d AS int CHECK (leave() = value)", "SELECT 1::d"),
    ] {
        let ensemble = Ensemble::with_conf(1, &[], |config| config.set("pool.size", 1).set("workers", 1));
        let site = Site::new();
        for (place, connect) in
            [("a cluster", &(|| ensemble.client()) as &dyn Fn() -> Client), ("one host", &|| site.client())]
        {
            let mut owner = connect();
            owner.execute(LEAVE);
            owner.execute(made);
            for _ in 0..30 {
                let mut client = connect();
                assert_eq!(client.value(run), "1");
                drop(client);
                assert!(is_direct() || owner.value(CLEAN) == "t", "{run} on {place}");
            }
        }
    }
}

#[test]
fn what_a_trigger_sets_stays_with_its_session() {
    let site = Site::new();
    let mut client = site.client();
    client.execute(
        "CREATE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS \
         $$ begin perform set_config('work_mem', '6666kB', false), set_config('app.seen', 'yes', false); return new; end $$",
    );
    client.execute("CREATE TABLE t (a int)");
    let begins = "BEGIN; CREATE TRIGGER sets BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION sets()";
    client.execute(&format!("{begins}; INSERT INTO t VALUES (1); COMMIT"));
    let mut keeps = || {
        let mut stranger = site.client();
        assert!(is_direct() || stranger.value("SHOW work_mem") == "4MB");
        disturb(&mut stranger);
        let keeps = client.value("SHOW work_mem") == "6666kB" && client.value("SHOW app.seen") == "yes";
        client.execute("RESET ALL");
        client.execute("INSERT INTO t VALUES (1)");
        keeps
    };
    // The catalogue is looked at soon after it has changed.
    wait_until("what the trigger sets is known", &mut keeps);
    for _ in 0..100 {
        assert!(keeps());
    }
}

/// The catalogue is looked at without anybody saying something more.
#[test]
fn what_a_new_trigger_sets_first_stays_with_its_session() {
    let site = Site::with(|config| config.set("pool.size", 1));
    let mut client = site.client();
    client.execute(
        "CREATE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS \
         $$ begin perform set_config('work_mem', '6666kB', false); return new; end $$; CREATE TABLE t (a int); \
         CREATE TRIGGER sets BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION sets()",
    );
    let looked = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND state = 'idle' \
         AND query LIKE '/* hawser: catalogue%' AND clock_timestamp() - state_change > '500ms'",
        site.account.user
    );
    wait_until("the catalogue was looked at", || {
        is_direct() || cluster().psql(&looked).is_ok_and(|found| found.trim() == "1")
    });
    client.execute("INSERT INTO t VALUES (1)");
    disturb(&mut site.client());
    assert_eq!(client.value("SHOW work_mem"), "6666kB");
}

#[test]
fn settings_keep_their_forms() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY");
    client.execute("SET TIME ZONE -7");
    client.execute("SET XML OPTION DOCUMENT");
    client.execute("SET app.name TO 'x'");
    client.execute("RESET app.name");
    disturb(&mut site.client());
    assert_eq!(client.value("SHOW transaction_isolation"), "serializable");
    assert_eq!(client.value("SHOW transaction_read_only"), "on");
    assert_eq!(client.value("SHOW TimeZone"), "<-07>+07");
    assert_eq!(client.value("SHOW xmloption"), "document");
    assert_eq!(client.value("SHOW app.name"), "");
    site.others_are_well();
}

#[test]
fn a_reset_in_a_transaction_goes_back_to_what_the_client_asked_for_at_login() {
    let site = Site::new();
    let parameters = [("options", "-c work_mem=7MB -c app.a=mine"), ("TimeZone", "Asia/Tokyo")];
    let mut client = Client::login_with(site.port, &site.account, &parameters);
    client.execute("SET work_mem TO '9MB'");
    client.execute("SET TimeZone TO 'UTC'");
    client.execute("BEGIN");
    client.execute("RESET work_mem");
    client.execute("RESET TimeZone");
    assert_eq!(client.value("SHOW work_mem"), "7MB");
    assert_eq!(client.value("SHOW TimeZone"), "Asia/Tokyo");
    client.execute("ROLLBACK");
    assert_eq!(client.value("SHOW work_mem"), "9MB");
    client.execute("RESET ALL");
    assert_eq!(client.value("SHOW work_mem"), "7MB");
    client.execute("DISCARD ALL");
    assert_eq!(client.value("SHOW app.a"), "mine");
}

#[test]
fn who_leaves_its_session_authorization_leaves_its_role_too() {
    let site = Site::new();
    let (user, mut client) = (&site.account.user, site.client());
    client.execute(&format!("SET SESSION AUTHORIZATION \"{user}\""));
    client.execute(&format!("SET ROLE \"{user}\""));
    disturb(&mut site.client());
    assert_eq!(client.value("SHOW role"), *user);
    client.execute("RESET SESSION AUTHORIZATION");
    disturb(&mut site.client());
    assert_eq!(client.value("SHOW role"), "none");
}

#[test]
fn a_client_is_told_its_encoding_however_it_writes_it() {
    let site = Site::new();
    for written in ["eucjp", "EUC-JP"] {
        let client = Client::login_with(site.port, &site.account, &[("client_encoding", written)]);
        assert_eq!(client.parameter("client_encoding"), Some("EUC_JP"), "{written}");
    }
}

#[test]
fn settings_are_made_in_an_order_in_which_they_are_allowed() {
    let site = Site::new();
    let (mut one, mut two) = (site.client(), site.client());
    let role = format!("{}_role", site.account.user);
    cluster().psql(&format!("CREATE ROLE {role}; GRANT {role} TO {}", site.account.user)).unwrap();
    one.execute("SET work_mem TO '5MB'");
    one.execute(&format!("SET ROLE {role}"));
    two.execute("SET work_mem TO '6MB'");
    assert_eq!(one.value("SELECT current_user"), role);
    assert_eq!(one.value("SHOW work_mem"), "5MB");
    assert_eq!(two.value("SELECT current_user"), site.account.user);
    one.execute("RESET ALL");
    assert_eq!(one.value("SELECT current_user"), role);
    one.execute("RESET ROLE");
    assert_eq!(one.value("SELECT current_user"), site.account.user);
}

#[test]
fn what_a_client_that_vanished_had_set_in_a_transaction_is_not_taken_for_set() {
    let site = Site::new();
    let mut gone = site.client();
    gone.execute("BEGIN");
    gone.execute("SET work_mem TO '5MB'");
    drop(gone);
    let mut next = site.client();
    next.execute("SET work_mem TO '5MB'");
    next.execute("SELECT 1");
    disturb(&mut site.client());
    assert_eq!(next.value("SHOW work_mem"), "5MB");
    let mut last = site.client();
    assert_eq!(last.value("SHOW work_mem"), "4MB");
}

// -------------------------------------------------------------------------------------------------------------- pins

#[test]
fn a_pin_ends_when_its_reason_is_gone() {
    let site = Site::new();
    let mut client = site.client();
    let ends = [
        ("CREATE TEMP TABLE t (a int)", "DROP TABLE t"),
        ("CREATE TEMP TABLE t (a int)", "DISCARD TEMP"),
        ("CREATE TABLE pg_temp.t (a int)", "DROP TABLE t"),
        ("SELECT 1 AS a INTO TEMP t", "DROP TABLE t"),
        ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"),
        ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock_all()"),
        ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "CLOSE c"),
        ("SET hawser.pin TO on", "RESET hawser.pin"),
        ("BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT", "SELECT 1"),
    ];
    for (begin, end) in ends {
        client.query(begin);
        client.query("SELECT 1");
        client.query(end);
        // There is one server connection, so this needs it.
        site.others_are_well();
    }
}

#[test]
fn what_pins_a_session_stays_with_it() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let (mut one, mut two) = (site.client(), site.client());
    one.execute("CREATE TEMP TABLE t AS SELECT 'mine' AS a");
    one.execute("CREATE FUNCTION lock() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(11)'");
    disturb(&mut two);
    assert_eq!(one.value("SELECT a FROM t"), "mine");
    assert_eq!(two.error("SELECT a FROM t").sqlstate(), "42P01");
    one.execute("DROP TABLE t");
    // A function took it, and that is found out.
    one.query("SELECT lock()");
    disturb(&mut two);
    assert_eq!(two.value("SELECT pg_try_advisory_xact_lock(11)"), "f");
    one.terminate();
    wait_until("the lock is gone", || two.value("SELECT pg_try_advisory_xact_lock(11)") == "t");
}

#[test]
fn what_a_session_got_from_a_sequence_is_told_to_it_alone() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let (mut one, mut two) = (site.client(), site.client());
    one.execute("CREATE SEQUENCE s");
    one.execute("CREATE TABLE t (id serial, a text)");
    one.query("SELECT nextval('s')");
    assert_eq!(one.value("SELECT currval('s')"), "1");
    two.query("SELECT nextval('s')");
    assert_eq!(one.value("SELECT currval('s')"), "1");
    two.execute("INSERT INTO t (a) VALUES ('x')");
    assert_eq!(two.value("SELECT lastval()"), "1");
    let mut stranger = site.client();
    two.terminate();
    assert_eq!(stranger.error("SELECT currval('s')").sqlstate(), "55000");
}

#[test]
fn who_reads_its_sequence_values_gives_its_connection_up_for_those_who_wait() {
    let site = Site::new();
    let (mut one, mut two) = (site.client(), site.client());
    one.execute("CREATE TABLE kept (id serial)");
    let add = "INSERT INTO kept DEFAULT VALUES";
    one.execute(add);
    assert_eq!(one.value("SELECT lastval()"), "1");
    // It may ask again, and does not for a while.
    assert_eq!(two.value("SELECT 'served'"), "served");
    assert_eq!(one.value("SELECT lastval()"), "1", "nobody else has advanced a sequence");
    two.execute(add);
    if !is_direct() {
        assert_eq!(one.error("SELECT lastval()").sqlstate(), "55000", "not what another has got");
    }
    one.execute(add);
    assert_eq!(one.value("SELECT lastval()"), "3");
}

#[test]
fn who_calls_nextval_and_never_asks_for_it_again_holds_nobody_up() {
    let site = Site::new();
    let (mut one, mut two) = (site.client(), site.client());
    one.execute("CREATE SEQUENCE s");
    // So often it is waited for.
    for _ in 0..25 {
        one.value("SELECT nextval('s')");
    }
    two.send(&query("SELECT last_value FROM s"));
    for _ in 0..300 {
        one.value("SELECT nextval('s')");
    }
    let seen: u32 = rows(&two.read_until_ready())[0].parse().unwrap();
    assert!(seen < 325, "it had to wait until the other one was silent");
}

#[test]
fn a_batch_behind_discard_all_is_planned_by_what_that_leaves() {
    let site = Site::new();
    let mut client = Client::login_with(site.port, &site.account, &[("search_path", "pg_catalog")]);
    client.send(
        &[query("DISCARD ALL"), parse("s", "SHOW search_path"), bind("", "s", &[]), execute("", 0), sync()]
            .concat(),
    );
    let answer = [client.read_until_ready(), client.read_until_ready()].concat();
    assert_eq!(rows(&answer), ["pg_catalog"], "{}", tags(&answer));
}
