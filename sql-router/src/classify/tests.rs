use super::*;
use crate::knowledge::{Hazard, Nothing, Volatility};
use crate::statement::{Host, Isolation, Modes, TransactionControl};
use proptest::prelude::*;

/// A database with a few functions, views and types.
struct Shop;

impl Knowledge for Shop {
    fn function(&self, schema: Option<&[u8]>, name: &[u8], path: &SearchPath) -> Volatility {
        let known: &[(&[u8], &[u8], Volatility)] = &[
            (b"public", b"price", Volatility::Reads),
            (b"public", b"charge", Volatility::Writes),
            (b"audit", b"price", Volatility::Writes),
            (b"public", b"over", Volatility::Writes),
        ];
        let mut found = Volatility::Unknown;
        for (home, known, volatility) in known {
            let reachable = schema.map_or_else(|| path.has(home), |schema| schema == *home);
            if reachable && *known == name && found != Volatility::Writes {
                found = *volatility;
            }
        }
        found
    }

    fn is_volatile_attribute(&self, name: &[u8]) -> bool {
        name == b"charge"
    }

    fn hazard(&self, name: &[u8]) -> Option<Hazard> {
        match name {
            b"charging_view" => Some(Hazard::View),
            b"scratch" => Some(Hazard::Unlogged),
            b"checked_email" => Some(Hazard::Type),
            _ => None,
        }
    }

    fn is_volatile_operator(&self, operator: &[u8]) -> bool {
        operator == b"@@@" || operator == b"~~"
    }

    fn has_volatile_operators(&self) -> bool {
        true
    }
}

fn public() -> SearchPath {
    SearchPath::parse("public", "bob")
}

fn hosts(text: &str, knowledge: &dyn Knowledge) -> Vec<Host> {
    classify(text.as_bytes(), knowledge, &public()).statements().iter().map(Verdict::host).collect()
}

fn all_go_to(host: Host, knowledge: &dyn Knowledge, texts: &[&str]) {
    for text in texts {
        let verdicts = classify(text.as_bytes(), knowledge, &public());
        assert_eq!(verdicts.host(), host, "{text}: {:?}", verdicts.decisive());
    }
}

#[test]
fn queries_that_read_go_to_standbys() {
    all_go_to(
        Host::Standby,
        &Nothing,
        &[
            "SELECT 1",
            "select abalance from pgbench_accounts where aid = $1",
            "  -- x\n /* y */ Select lower(a), count(*) FILTER (WHERE b IN (1, 2)) OVER (PARTITION BY c) FROM t",
            "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 LIMIT 1",
            "WITH a AS (SELECT 1), b(x) AS MATERIALIZED (SELECT 2), c(y) AS (TABLE t) SELECT * FROM a, b, c",
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 9) SELECT * FROM s",
            "VALUES (1, 'INSERT INTO t'), (2, $$UPDATE$$)",
            "TABLE t",
            "SELECT random(), clock_timestamp(), pg_sleep(0), gen_random_uuid(), now()",
            "SELECT \"update\", t.insert, 1 AS into FROM t AS delete",
            "SELECT * FROM generate_series(1, 3) g(x) JOIN (SELECT 1) AS s(y) ON true",
            "SELECT * FROM json_to_record('{}') AS x(a int, b numeric(10, 2))",
            "SELECT x::numeric(10, 2), CAST(y AS varchar(3)), interval(3) '1 s' FROM t",
            "SELECT extract(year FROM d), coalesce(a, b), substring(a FROM 1 FOR 2), trim(both from a) FROM t",
            "SELECT a FROM t WHERE (a, b) IN ((1, 2)) GROUP BY ROLLUP (a), CUBE (b), GROUPING SETS ((a), (b))",
            "SELECT DISTINCT ON (a) lower(b) FROM t",
            "EXPLAIN SELECT nextval('s')",
            "EXPLAIN (COSTS OFF) SELECT 1",
            "EXPLAIN INSERT INTO t VALUES (nextval('s'))",
            "EXPLAIN WITH a AS (DELETE FROM t RETURNING 1) SELECT * FROM a FOR UPDATE",
            "EXPLAIN (SELECT 1)",
            "EXPLAIN ANALYZE VERBOSE SELECT 1",
            "COPY t TO STDOUT",
            "COPY public.t (a, b) TO STDOUT WITH (FORMAT csv)",
            "COPY (SELECT a FROM t) TO STDOUT",
            "SHOW search_path",
            "SHOW TRANSACTION ISOLATION LEVEL",
            "DECLARE c CURSOR FOR SELECT 1",
            "DECLARE c SCROLL CURSOR WITHOUT HOLD FOR SELECT 1",
            "SELECT current_setting('work_mem')",
            "BEGIN READ ONLY",
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            "SELECT 'x' LIKE 'y', pg_catalog.lower('A')",
            "SELECT 1;",
            "SELECT (SELECT max(a) FROM t), array(SELECT 1), ROW(1, 2), xmlelement(name a, xmlattributes(1 AS b))",
            "SELECT a FROM t TABLESAMPLE system (10) REPEATABLE (1)",
            "/* hawser: standby */ SELECT my_function()",
            "SELECT a FROM t WHERE a LIKE $1 ESCAPE '\\'",
            "SELECT a FROM t WHERE a LIKE $1 ESCAPE '\\' AND b LIKE $2 ESCAPE '\\'",
            "SELECT 'C:\\', lower('x')",
            "SELECT ts_rewrite(q, 'a', lower('b')) FROM t",
        ],
    );
}

#[test]
fn what_writes_or_asks_the_primary_goes_there() {
    all_go_to(
        Host::Primary,
        &Nothing,
        &[
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET a = 1",
            "DELETE FROM t",
            "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE",
            "TRUNCATE t",
            "CREATE TABLE t (a int)",
            "DO $$ BEGIN END $$",
            "CALL p()",
            "VACUUM",
            "ANALYZE t",
            "REINDEX TABLE t",
            "CLUSTER",
            "CHECKPOINT",
            "LOCK t",
            "GRANT SELECT ON t TO u",
            "REFRESH MATERIALIZED VIEW v",
            "LISTEN a",
            "NOTIFY a",
            "LOAD 'x'",
            "SELECT 1 FOR UPDATE",
            "SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED",
            "SELECT * FROM t FOR SHARE OF t",
            "SELECT * FROM t for/**/key share",
            "SELECT 1 INTO t",
            "SELECT 1into t",
            "WITH a AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM a",
            "WITH a AS (SELECT 1) DELETE FROM t",
            "SELECT nextval('s')",
            "SELECT pg_catalog . nextval ('s')",
            "SELECT \"nextval\"('s')",
            "SELECT NEXTVAL/* */('s')",
            "SELECT ('s'::regclass).nextval",
            "SELECT t.nextval FROM t",
            "SELECT TREAT('s'::regclass AS nextval)",
            "SELECT U&\"n\\0065xtval\"('s')",
            "SELECT DISTINCT ON (a) nextval('s') FROM t",
            "SELECT 1 OPERATOR(pg_catalog.+) nextval('s')",
            "SELECT * FROM t LIMIT nextval('s')",
            "SELECT a FROM t ORDER BY a FETCH FIRST nextval('s') ROWS ONLY",
            "SELECT 'a' LIKE 'b' ESCAPE nextval('s')::text",
        ],
    );
}

#[test]
fn functions_and_forms_that_need_the_primary_go_there() {
    all_go_to(
        Host::Primary,
        &Nothing,
        &[
            "SELECT txid_current()",
            "SELECT pg_current_wal_lsn()",
            "SELECT pg_advisory_lock(1)",
            "SELECT lo_create(0)",
            "SELECT pg_notify('a', 'b')",
            "SELECT currval('s'), lastval()",
            "SELECT query_to_xml('DELETE FROM t', true, true, '')",
            "SELECT pg_is_in_recovery()",
            "SELECT pg_backend_pid()",
            "SELECT * FROM pg_stat_replication",
            "SELECT * FROM pg_catalog.pg_locks",
            "SELECT my_function()",
            "SELECT * FROM t, my_function(1) AS f(x)",
            "SELECT * FROM other.lower('A')",
            "SELECT set_config('a', b, false) FROM t",
            "SELECT set_config('transaction_read_only', 'off', true)",
            "SELECT * FROM pg_temp.t",
            "SHOW transaction_read_only",
            "SELECT current_setting('transaction_read_only')",
            "SELECT current_setting($1)",
            "SELECT current_setting(name) FROM t",
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
            "EXPLAIN CREATE TABLE t AS SELECT 1",
            "EXPLAIN (ANALYZE) SELECT nextval('s')",
            "EXPLAIN (\"analyze\" on, costs off) SELECT nextval('s')",
            "EXPLAIN EXECUTE p",
            "COPY t FROM STDIN",
            "COPY t TO '/tmp/x'",
            "COPY t TO PROGRAM 'cat'",
            "COPY (INSERT INTO t VALUES (1) RETURNING a) TO STDOUT",
            "COPY (SELECT nextval('s')) TO STDOUT",
            "EXECUTE p",
            "EXECUTE p(nextval('s'))",
            "PREPARE p AS INSERT INTO t VALUES ($1)",
            "PREPARE p (int) AS SELECT nextval('s')",
            "DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "BEGIN",
            "BEGIN READ WRITE",
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            "BEGIN READ ONLY, READ WRITE",
            "SET TRANSACTION READ WRITE",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET transaction_read_only = off",
            "SET LOCAL \"Transaction_Isolation\" TO 'serializable'",
            "PREPARE TRANSACTION 'x'",
            "COMMIT PREPARED 'x'",
            "ROLLBACK PREPARED 'x'",
            "foo bar",
            "\"select\" 1",
            "SELECT '\\', nextval('s') --'",
            "SELECT '\\'', nextval('s') --'",
            "SELECT '\\', '; DELETE FROM t --'",
            "SELECT ts_rewrite('a', 'SELECT 1')",
            "SELECT ts_rewrite(ARRAY[a, b, c], 'SELECT 1')",
            "SELECT 'unclosed",
            "SELECT (1",
            "/* hawser: primary */ SELECT 1",
            "SELECT 1 -- HAWSER:PRIMARY\n",
            "SELECT 1 /* hawser: standby */ /* hawser: primary */",
            "/* hawser: standby */ INSERT INTO t VALUES (1)",
            "/* hawser: standby */ SELECT 1 FOR UPDATE",
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
        ],
    );
}

#[test]
fn what_concerns_the_session_goes_anywhere() {
    all_go_to(
        Host::Any,
        &Nothing,
        &[
            "",
            ";;",
            "-- nothing",
            "SET work_mem = '1MB'",
            "RESET ALL",
            "SELECT set_config('search_path', '', false)",
            "DISCARD ALL",
            "UNLISTEN *",
            "DEALLOCATE ALL",
            "PREPARE p (int) AS SELECT * FROM t WHERE a = $1",
            "FETCH 1 FROM c",
            "CLOSE ALL",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT a",
            "ROLLBACK TO a",
            "SET TRANSACTION READ ONLY",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        ],
    );
}

#[test]
fn what_the_database_knows_decides() {
    all_go_to(
        Host::Standby,
        &Shop,
        &[
            "SELECT price(1)",
            "SELECT public.price(1)",
            "SELECT t.price, count(*) OVER w FROM t WINDOW w AS (ORDER BY a)",
        ],
    );
    all_go_to(
        Host::Primary,
        &Shop,
        &[
            "SELECT charge(1)",
            "SELECT audit.price(1)",
            "SELECT (t).charge FROM t",
            "SELECT * FROM charging_view",
            "SELECT * FROM x.charging_view AS v",
            "SELECT * FROM \"scratch\"",
            "SELECT 'x'::checked_email",
            "SELECT 1 @@@ 2",
            "SELECT a LIKE b FROM t",
            "SELECT over (1)",
            "COPY charging_view TO STDOUT",
        ],
    );
    let unknown = SearchPath::unknown();
    assert_eq!(classify(b"SELECT price(1)", &Shop, &unknown).host(), Host::Primary);
}

#[test]
fn each_statement_of_a_text_has_its_verdict() {
    assert_eq!(
        hosts("SELECT 1; INSERT INTO t VALUES (1);; SELECT ';'", &Nothing),
        [Host::Standby, Host::Primary, Host::Standby]
    );
    assert_eq!(
        hosts("/* hawser: primary */ SELECT 1; SELECT 2 /* hawser: primary */; SELECT 3", &Nothing),
        [Host::Primary, Host::Primary, Host::Standby]
    );
    let verdicts = classify(b"SELECT 1; INSERT INTO t VALUES (1)", &Nothing, &public());
    assert_eq!((verdicts.host(), verdicts.access()), (Host::Primary, Access::Write));
    assert_eq!(hosts("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3", &Nothing).len(), 2);
}

#[test]
fn a_path_that_the_text_changes_is_not_relied_upon() {
    assert_eq!(hosts("SELECT price(1)", &Shop), [Host::Standby]);
    assert_eq!(hosts("SET search_path TO audit; SELECT price(1)", &Shop), [Host::Any, Host::Primary]);
}

#[test]
fn transactions_are_told_with_their_modes() {
    let control = |text: &str| classify(text.as_bytes(), &Nothing, &public()).access();
    let begin =
        |read_only, isolation| Access::Transaction(TransactionControl::Begin(Modes { read_only, isolation }));
    assert_eq!(control("BEGIN"), begin(None, None));
    assert_eq!(
        control("START TRANSACTION READ ONLY ISOLATION LEVEL SERIALIZABLE"),
        begin(Some(true), Some(Isolation::Serializable))
    );
    let chain = Access::Transaction(TransactionControl::Commit { chain: true });
    assert_eq!(control("COMMIT WORK AND CHAIN"), chain);
    let no_chain = Access::Transaction(TransactionControl::Rollback { chain: false });
    assert_eq!(control("abort and no chain"), no_chain);
    assert_eq!(
        control("ROLLBACK TRANSACTION TO SAVEPOINT a"),
        Access::Transaction(TransactionControl::Savepoint)
    );
}

#[test]
fn prepared_statements_are_named() {
    let prepared = |text: &str| {
        classify(text.as_bytes(), &Nothing, &public())
            .statements()
            .first()
            .and_then(|one| one.prepared.clone())
    };
    assert_eq!(prepared("PREPARE \"P\" AS SELECT 1"), Some(Prepared::Makes("P".into())));
    assert_eq!(prepared("PREPARE p AS DELETE FROM t"), None);
    assert_eq!(prepared("EXECUTE P(1)"), Some(Prepared::Runs("p".into())));
    assert_eq!(prepared("EXECUTE P(nextval('s'))"), None);
    assert_eq!(prepared("DEALLOCATE PREPARE p"), Some(Prepared::Drops(Some("p".into()))));
    assert_eq!(prepared("DEALLOCATE ALL"), Some(Prepared::Drops(None)));
}

#[test]
fn what_only_asks_the_primary_does_not_write() {
    let may_write = |text: &str| {
        classify(text.as_bytes(), &Nothing, &public()).statements().iter().any(Verdict::may_write)
    };
    assert!(may_write("SELECT nextval('s')") && may_write("DELETE FROM t"));
    assert!(
        !may_write("SHOW transaction_read_only") && !may_write("TABLE pg_locks") && !may_write("SELECT 1")
    );
}

#[test]
fn long_and_deep_texts_are_bounded() {
    let deep = "(".repeat(LONGEST + 1);
    assert_eq!(hosts(&deep, &Nothing), [Host::Primary]);
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(hosts(&deep, &Nothing), [Host::Standby]);
    let wide = format!("SELECT * FROM t WHERE a IN ({}1)", "1,".repeat(100_000));
    assert_eq!(hosts(&wide, &Nothing), [Host::Standby]);
}

proptest! {
    #[test]
    fn any_bytes_are_judged(text: Vec<u8>) {
        let _ = classify(&text, &Shop, &public());
    }

    #[test]
    fn sql_like_texts_are_judged_and_a_write_behind_them_is_seen(
        text in "(SELECT|WITH|AS|FROM|VALUES|COPY|TO|EXPLAIN|SET|BEGIN|CREATE|ATOMIC|CASE|END|a|f|1|\\(|\\)|,|\\.|;|'|\"|\\$\\$|E'|\\\\|/\\*|\\*/|--|\n| ){0,24}"
    ) {
        let _ = classify(text.as_bytes(), &Shop, &public());
        let text = format!("{text}\n; INSERT INTO t VALUES (1)");
        prop_assert_eq!(classify(text.as_bytes(), &Shop, &public()).host(), Host::Primary);
    }

    #[test]
    fn a_call_that_writes_is_seen_wherever_an_expression_can_be(
        before in "(SELECT|DISTINCT ON \\(a\\)|a,|1 \\+|NOT|ROW\\(1\\),|lower\\(a\\),|\\(a\\)\\.b,|ARRAY\\[1\\],|'x' \\|\\||\\$1,|a::int,)",
        name in "(nextval|NEXTVAL|\"nextval\"|pg_catalog\\.nextval|unknown_one|s\\.f)",
    ) {
        let start = if before == "SELECT" { String::new() } else { "SELECT ".to_owned() };
        let text = format!("{start}{before} {name}('s') FROM t");
        prop_assert_eq!(classify(text.as_bytes(), &Nothing, &public()).host(), Host::Primary, "{}", text);
    }
}
