//! What functions, views, types and operators of a database do is known, to a user who owns none of it, and
//! `hawser route` says so.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use hawser::catalog::{Catalog, Hidden, Live};
use hawser::config::{Arguments, Environment, load};
use hawser_sql_router::classify::classify;
use hawser_sql_router::knowledge::{Knowledge, SearchPath};
use hawser_sql_router::statement::Host;
use hawser_tests::{Account, Program, binary, cluster};

/// Made by the superuser, and looked at by another.
const OBJECTS: &str = "
    CREATE SEQUENCE s;
    CREATE FUNCTION stab(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
    CREATE FUNCTION vola(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION vola2(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION with_default(int, int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION upper(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
    CREATE AGGREGATE writing_sum(int) (sfunc = vola2, stype = int);
    CREATE AGGREGATE reading_sum(int) (sfunc = int4pl, stype = int);
    CREATE VIEW view_next AS SELECT nextval('s');
    CREATE VIEW view_vola AS SELECT vola(1);
    CREATE VIEW view_on_view AS SELECT * FROM view_vola;
    CREATE VIEW view_stab AS SELECT stab(1), random();
    CREATE VIEW view_config AS SELECT set_config('a.b', 'c', false);
    CREATE UNLOGGED TABLE unlogged (a int);
    CREATE VIEW view_unlogged AS SELECT * FROM unlogged;
    CREATE TABLE parted (a int) PARTITION BY RANGE (a);
    CREATE UNLOGGED TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE OPERATOR ### (leftarg = int, rightarg = int, function = vola2);
    CREATE VIEW view_operator AS SELECT 1 ### 2;
    CREATE DOMAIN checked AS int CHECK (vola(value) > 0);
    CREATE DOMAIN counted AS int CHECK (value < nextval('s'));
    CREATE DOMAIN positive AS int CHECK (value > 0);
    CREATE DOMAIN on_checked AS checked;
    CREATE TYPE pair AS (a on_checked, b int);
    CREATE TYPE colour AS ENUM ('red');
    CREATE TABLE secured (a int);
    ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON secured USING (vola(a) > 0);
    CREATE TABLE counted_rows (a int);
    CREATE POLICY p ON counted_rows USING (nextval('s') > 0);
    CREATE VIEW view_lock AS SELECT * FROM (SELECT a FROM counted_rows FOR UPDATE) AS t;
    CREATE MATERIALIZED VIEW kept AS SELECT vola(1) AS a;
    CREATE TYPE euro AS (cents int);
    CREATE FUNCTION euro_of(int) RETURNS euro LANGUAGE sql AS 'SELECT row($1)::euro';
    CREATE CAST (int AS euro) WITH FUNCTION euro_of(int) AS IMPLICIT;
    CREATE FUNCTION cents(euro) RETURNS int LANGUAGE sql STABLE AS 'SELECT ($1).cents';
    CREATE TABLE prices (price euro);
    CREATE SCHEMA other;
    CREATE FUNCTION other.stab(int) RETURNS int LANGUAGE sql AS 'SELECT 1'";

const READS: &[&str] = &[
    "SELECT stab(1)",
    "SELECT public.stab(1)",
    "SELECT lower('A')",
    "SELECT reading_sum(1)",
    "TABLE view_stab",
    "TABLE kept",
    "SELECT 1::positive, 'red'::colour, row(1, 2)",
    "SELECT p.a FROM kept p",
    "SELECT information_schema._pg_truetypid(NULL, NULL)",
    "EXPLAIN SELECT vola(1)",
    "SELECT 1 + 2",
];

const WRITES: &[&str] = &[
    "SELECT vola(1)",
    "SELECT upper(1)",
    "SELECT public.lower('A')",
    "SELECT writing_sum(1)",
    "SELECT (1).with_default",
    "SELECT other.stab(1)",
    "SELECT unknown_one(1)",
    "TABLE view_next",
    "TABLE view_vola",
    "TABLE view_on_view",
    "TABLE view_config",
    "TABLE view_lock",
    "TABLE unlogged",
    "TABLE view_unlogged",
    "TABLE parted",
    "SELECT 1 ### 2",
    "TABLE view_operator",
    "SELECT 1::checked",
    "SELECT CAST(1 AS counted)",
    "SELECT on_checked '1'",
    "SELECT row(1, 2)::pair",
    "TABLE secured",
    "SELECT a FROM public.counted_rows",
    "SELECT cents(1)",
    "SELECT 1::euro",
    "SELECT * FROM prices",
];

/// A database with the objects, and a user who owns none of them.
fn shop() -> Account {
    let account = Account::new(cluster());
    cluster().psql_in(&account.database, OBJECTS).expect("the objects are made");
    account
}

fn url(account: &Account) -> String {
    format!(
        "postgres://{}:{}@127.0.0.1:{}/{}",
        account.user,
        account.password,
        cluster().port(),
        account.database
    )
}

fn look(account: &Account) -> (Catalog, SearchPath) {
    let arguments = Arguments { source: Some(url(account)), ..Arguments::default() };
    let settings = load(&arguments, &Environment::of([])).expect("settings").settings;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut live = Live::connect(&settings).await.expect("a connection");
        (live.catalog().await.expect("a catalogue"), live.path().await.expect("a path"))
    })
}

#[test]
fn what_reaches_a_volatile_function_or_an_unlogged_table_is_known() {
    let (catalog, path) = look(&shop());
    let host = |text: &str| classify(text.as_bytes(), &catalog, &path).host();
    let wrong: Vec<&str> = READS.iter().copied().filter(|text| host(text) != Host::Standby).collect();
    assert!(wrong.is_empty(), "not taken for reads: {wrong:?}");
    let wrong: Vec<&str> = WRITES.iter().copied().filter(|text| host(text) != Host::Primary).collect();
    assert!(wrong.is_empty(), "taken for reads: {wrong:?}");
}

#[test]
fn a_schema_before_postgresqls_own_hides_its_functions() {
    let (catalog, _) = look(&shop());
    let host = |setting: &str, text: &str| {
        classify(text.as_bytes(), &catalog, &SearchPath::parse(setting, "nobody")).host()
    };
    assert_eq!(host("public", "SELECT lower('A')"), Host::Standby);
    assert_eq!(host("public, pg_catalog", "SELECT lower('A')"), Host::Primary);
    assert_eq!(host("other", "SELECT stab(1)"), Host::Primary);
    assert_eq!(host("", "SELECT stab(1)"), Host::Primary);
}

#[test]
fn another_generation_tells_that_something_has_changed() {
    let account = shop();
    let generation = || look(&account).0.generation();
    let mut before = generation();
    assert_eq!(generation(), before);
    for change in [
        "CREATE OR REPLACE FUNCTION stab(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION other.stab",
        "ALTER TABLE unlogged SET LOGGED",
        "ALTER DOMAIN positive ADD CHECK (vola(value) > 1)",
        "DROP POLICY p ON secured",
        "ALTER SCHEMA other RENAME TO another",
    ] {
        cluster().psql_in(&account.database, change).expect("the change");
        let after = generation();
        assert_ne!(before, after, "{change}");
        before = after;
    }
    let rows = "CREATE TABLE rows (a int); INSERT INTO rows VALUES (1)";
    cluster().psql_in(&account.database, rows).expect("a table");
    assert_eq!(generation(), before, "tables and rows are no matter of the catalogue");
}

#[test]
fn what_runs_a_function_that_leaves_something_is_found() {
    const LEAVES: &str = "perform set_config('work_mem', '5MB', false)";
    let account = Account::new(cluster());
    let make = |sql: &str| cluster().psql_in(&account.database, sql).expect("it is made");
    make(&format!(
        "CREATE FUNCTION leaves() RETURNS int LANGUAGE plpgsql AS $$ begin {LEAVES}; return 1; end $$;
         CREATE FUNCTION calls() RETURNS int LANGUAGE sql AS 'SELECT leaves()';
         CREATE FUNCTION clean() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION on_write() RETURNS trigger LANGUAGE plpgsql AS $$ begin perform calls(); return new; end $$;
         CREATE FUNCTION on_change() RETURNS event_trigger LANGUAGE plpgsql AS $$ begin {LEAVES}; end $$;
         CREATE TABLE t (a int); CREATE DOMAIN clean_one AS int DEFAULT clean();
         CREATE VIEW clean_view AS SELECT clean()"
    ));
    for (made, dropped, expected) in [
        ("SELECT 1", "SELECT 1", Hidden::Nothing),
        (
            "CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION on_write()",
            "DROP TRIGGER a ON t",
            Hidden::Writes,
        ),
        (
            "CREATE EVENT TRIGGER a ON ddl_command_end EXECUTE FUNCTION on_change()",
            "DROP EVENT TRIGGER a",
            Hidden::Writes,
        ),
        ("CREATE TABLE b (a int DEFAULT calls())", "DROP TABLE b", Hidden::Writes),
        ("ALTER TABLE t ADD CHECK (calls() > 0)", "ALTER TABLE t DROP CONSTRAINT t_check", Hidden::Writes),
        ("CREATE VIEW b AS SELECT calls()", "DROP VIEW b", Hidden::Anything),
        ("CREATE POLICY b ON t USING (calls() > 0)", "DROP POLICY b ON t", Hidden::Anything),
        ("CREATE DOMAIN b AS int CHECK (calls() > 0)", "DROP DOMAIN b", Hidden::Anything),
    ] {
        make(made);
        assert_eq!(look(&account).0.hidden(), expected, "{made}");
        make(dropped);
    }
}

#[test]
fn the_command_says_where_each_statement_goes() {
    let account = shop();
    let input = "{\"sql\": \"SELECT stab(1)\"}\n{\"sql\": \"SELECT stab(1); SELECT vola(1)\"}\n";
    let output = Program::new(binary())
        .args(["route", "--json", "--stdin", "--url", &url(&account)])
        .input(input)
        .succeed();
    let answers: Vec<serde_json::Value> =
        output.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(answers.len(), 2, "{output}");
    assert_eq!((&answers[0]["host"], &answers[0]["access"]), (&"standby".into(), &"read".into()));
    assert_eq!(answers[1]["host"], "primary");
    assert_eq!(answers[1]["statements"][0]["host"], "standby");
    let table = Program::new(binary()).args(["route", "SELECT 1", "VACUUM"]).succeed();
    assert!(table.contains("standby  read") && table.contains("VACUUM is not a read"), "{table}");
}
