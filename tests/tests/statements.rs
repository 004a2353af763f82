//! Prepared statements in transaction mode: a session's names, plans and columns are its own, whichever server connection
//! it gets.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::raw::messages::{bind, bind_with_formats, close, describe, execute, extended, parse, sync};
use hawser_tests::raw::{Backend, Client, rows, sqlstate_of, tags};
use hawser_tests::{Site, cluster, disturb, is_direct};

#[test]
fn prepare_and_execute_follow_their_session() {
    let site = Site::new();
    let (mut one, mut two) = (site.client(), site.client());
    one.execute("PREPARE p (int) AS SELECT 'one ' || $1");
    two.execute("PREPARE p AS SELECT 'two'");
    disturb(&mut site.client());
    assert_eq!(one.value("EXECUTE p(1)"), "one 1");
    assert_eq!(two.value("execute P"), "two");
    assert_eq!(one.error("PREPARE p AS SELECT 1").field(b'M'), "prepared statement \"p\" already exists");
    one.execute("DEALLOCATE p");
    assert_eq!(one.error("EXECUTE p(1)").field(b'M'), "prepared statement \"p\" does not exist");
    assert_eq!(two.value("EXECUTE p"), "two");
    two.execute("DEALLOCATE ALL");
    assert_eq!(two.error("EXECUTE p").sqlstate(), "26000");
    two.execute("PREPARE p AS SELECT 'again'; EXECUTE p; DEALLOCATE p");
    assert_eq!(two.error("EXECUTE p").sqlstate(), "26000");
    site.others_are_well();
}

#[test]
fn statements_of_sql_and_of_the_protocol_have_one_space_of_names() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("PREPARE s (text) AS SELECT 'sql ' || $1");
    client.send(&[parse("p", "SELECT 'protocol ' || $1::text"), sync()].concat());
    client.expect("1Z");
    disturb(&mut site.client());
    client.send(&[bind("", "s", &[Some("a")]), execute("", 0), sync()].concat());
    assert_eq!(rows(&client.expect("2DCZ")), ["sql a"]);
    disturb(&mut site.client());
    assert_eq!(client.value("EXECUTE p('b')"), "protocol b");
    client.send(&[parse("s", "SELECT 1"), sync()].concat());
    assert_eq!(sqlstate_of(&client.expect("EZ")), "42P05");
    assert_eq!(client.error("PREPARE p AS SELECT 1").sqlstate(), "42P05");
    client.execute("DEALLOCATE p");
    client.send(&[describe(b'S', "p"), sync()].concat());
    assert_eq!(sqlstate_of(&client.expect("EZ")), "26000");
}

#[test]
fn execute_works_inside_of_other_statements_and_of_the_extended_protocol() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("PREPARE p (int) AS SELECT $1 AS n");
    disturb(&mut site.client());
    assert!(client.value("EXPLAIN (COSTS OFF) EXECUTE p(1)").contains("Result"));
    client.execute("CREATE TABLE made AS EXECUTE p(7)");
    assert_eq!(client.value("SELECT n FROM made"), "7");
    disturb(&mut site.client());
    client.send(&[extended("EXECUTE p(3)", &[]), sync()].concat());
    let answer = client.read_until_ready();
    assert_eq!(rows(&answer), ["3"], "{}", tags(&answer));
    disturb(&mut site.client());
    client.send(&[parse("e", "EXECUTE p(4)"), sync()].concat());
    client.expect("1Z");
    disturb(&mut site.client());
    client.send(&[bind("", "e", &[]), execute("", 0), sync()].concat());
    assert_eq!(rows(&client.expect("2DCZ")), ["4"]);
    client.send(&[extended("PREPARE q AS SELECT 5", &[]), sync()].concat());
    client.read_until_ready();
    disturb(&mut site.client());
    assert_eq!(client.value("EXECUTE q"), "5");
}

#[test]
fn a_session_that_looks_for_its_statements_finds_them() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("PREPARE p (int) AS SELECT $1");
    disturb(&mut site.client());
    let names = "SELECT name FROM pg_prepared_statements WHERE from_sql";
    assert_eq!(rows(&client.query(names)), ["p"]);
    client.execute(
        "CREATE FUNCTION run(text) RETURNS int LANGUAGE plpgsql AS 'declare n int; begin execute $1 into n; return n; end'",
    );
    assert_eq!(client.value("SELECT run('EXECUTE p(8)')"), "8");
    assert_eq!(client.value("EXECUTE p(9)"), "9");
    client.execute("DEALLOCATE p");
    site.others_are_well();
    assert_eq!(rows(&client.query(names)), Vec::<String>::new());
    client.execute("DISCARD ALL");
    site.others_are_well();
}

#[test]
fn what_a_block_of_code_has_prepared_is_there_beside_what_the_session_has() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS 'begin return 1; end'");
    client.execute("DO $$ BEGIN EXECUTE 'PREPARE made AS SELECT 5'; END $$");
    client.execute("PREPARE p AS SELECT 6");
    client.send(&[parse("s", "SELECT 7"), sync()].concat());
    client.expect("1Z");
    for _ in 0..2 {
        assert_eq!(client.value("SELECT sets()"), "1");
        assert_eq!([client.value("EXECUTE made"), client.value("EXECUTE p")], ["5", "6"]);
        let names = client.query("SELECT name FROM pg_prepared_statements ORDER BY name");
        assert_eq!(rows(&names), ["made", "p", "s"]);
    }
    client.execute("DEALLOCATE ALL");
    site.others_are_well();
}

#[test]
fn long_texts_may_name_prepared_statements() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("PREPARE measure (text) AS SELECT length($1)");
    for length in [40_000, 100_000, 300_000, 2_000_000] {
        let long = "x".repeat(length);
        disturb(&mut site.client());
        assert_eq!(client.value(&format!("EXECUTE measure('{long}')")), length.to_string());
        client.send(&[extended(&format!("EXECUTE measure('{long}')"), &[]), sync()].concat());
        assert_eq!(rows(&client.read_until_ready()), [length.to_string()]);
        let both = client.query(&format!("SELECT length('{long}'); EXECUTE measure('one')"));
        assert_eq!(rows(&both), [length.to_string(), "3".to_owned()]);
        client.execute(&format!("PREPARE long AS SELECT length('{long}')"));
        disturb(&mut site.client());
        assert_eq!(client.value("EXECUTE long"), length.to_string());
        client.execute("DEALLOCATE long");
    }
    client.execute("DEALLOCATE ALL");
    site.others_are_well();
}

#[test]
fn a_session_that_looks_finds_what_it_has_parsed_under_its_own_names() {
    const LOOK: &str = "SELECT name FROM pg_prepared_statements ORDER BY prepare_time";
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE gone (a int)");
    for (name, text) in [("b", "SELECT 'b'"), ("gone", "TABLE gone"), ("a", "SELECT $1::int + 1")] {
        client.send(&[parse(name, text), sync()].concat());
        client.expect("1Z");
    }
    disturb(&mut site.client());
    client.execute("DROP TABLE gone");
    client.execute("BEGIN");
    let expected: &[&str] = if is_direct() { &["b", "gone", "a"] } else { &["b", "a"] };
    assert_eq!(rows(&client.query(LOOK)), expected);
    client.send(&[parse("c", "SELECT 'c'"), bind("", "a", &[Some("1")]), execute("", 0), sync()].concat());
    assert_eq!(rows(&client.expect("12DCZ")), ["2"]);
    client.send(&[close(b'S', "b"), close(b'S', "unknown"), sync()].concat());
    client.expect("33Z");
    client.send(&[describe(b'S', "b"), sync()].concat());
    assert_eq!(sqlstate_of(&client.read_until_ready()), "26000");
    client.execute("ROLLBACK");
    assert_eq!(client.value("EXECUTE a(2)"), "3");
    client.execute("DEALLOCATE ALL");
    site.others_are_well();
}

#[test]
fn a_plan_that_went_stale_is_made_anew_unseen() {
    let site = Site::new();
    let (mut client, mut other) = (site.client(), site.client());
    client.execute("CREATE TABLE t AS SELECT 1 AS a");
    client.send(&[parse("s", "SELECT * FROM t"), sync()].concat());
    client.expect("1Z");
    let run = [bind("", "s", &[]), describe(b'P', ""), execute("", 0), sync()].concat();
    client.send(&run);
    client.expect("2TDCZ");
    other.execute("ALTER TABLE t ADD b text DEFAULT 'new'");
    if !is_direct() {
        client.send(&run);
        assert_eq!(client.expect("2TDCZ")[2].columns(), [Some("1".to_owned()), Some("new".to_owned())]);
        // A client that does not ask what the rows look like relies on what it was told before.
        other.execute("ALTER TABLE t ADD d int");
        client.send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
        assert_eq!(sqlstate_of(&client.expect("EZ")), "0A000");
        client.send(&run);
        client.expect("2TDCZ");
        // In a transaction it is the client's to see, and the next time is well.
        other.execute("ALTER TABLE t ADD c int");
        client.execute("BEGIN");
        client.execute("SELECT 1");
        client.send(&run);
        assert_eq!(sqlstate_of(&client.expect("EZ")), "0A000");
        client.execute("ROLLBACK");
        client.send(&run);
        client.expect("2TDCZ");
    }
}

#[test]
fn a_text_that_servers_take_is_prepared_while_none_is_free() {
    if is_direct() {
        return;
    }
    let site = Site::new();
    let (mut holder, mut client) = (site.client(), site.client());
    holder.execute("CREATE TABLE t AS SELECT 1 AS a");
    holder.send(&[parse("mine", "SELECT a FROM t"), sync()].concat());
    holder.expect("1Z");
    holder.execute("BEGIN");
    holder.execute("LOCK TABLE t");
    client.send(&[parse("s", "SELECT a FROM t"), sync()].concat());
    assert_eq!(client.expect("1Z")[1].body, b"I");
    // In a transaction that has begun and was not sent, too.
    client.execute("BEGIN");
    client.send(&[parse("second", "SELECT a FROM t"), sync()].concat());
    assert_eq!(client.expect("1Z")[1].body, b"T");
    // Nobody knows what becomes of these: the name is taken, the text is new.
    client.send(&[parse("s", "SELECT a FROM t"), sync(), parse("other", "SELECT b FROM t"), sync()].concat());
    client.expect_silence(std::time::Duration::from_millis(200));
    holder.execute("COMMIT");
    assert_eq!(sqlstate_of(&client.expect("EZ")), "42P05");
    assert_eq!(sqlstate_of(&client.expect("EZ")), "25P02");
    client.execute("ROLLBACK");
    for name in ["s", "second"] {
        client.send(&[bind("", name, &[]), execute("", 0), sync()].concat());
        assert_eq!(client.expect("2DCZ")[1].first(), "1");
    }
    // A table that only its session can see is no reason to say yes to another.
    holder.execute("CREATE TEMP TABLE own (a int)");
    holder.send(&[parse("temporary", "SELECT a FROM own"), sync()].concat());
    holder.expect("1Z");
    holder.execute("BEGIN");
    client.send(&[parse("temporary", "SELECT a FROM own"), sync()].concat());
    client.expect_silence(std::time::Duration::from_millis(200));
    holder.execute("COMMIT");
    holder.execute("DROP TABLE own");
    client.read_until_ready();
    // What the text means has changed: the server is asked.
    holder.execute("DROP TABLE t");
    client.send(&[parse("third", "SELECT a FROM t"), sync()].concat());
    assert_eq!(sqlstate_of(&client.expect("EZ")), "42P01");
}

/// How the columns of a table change: by a client of Hawser, or past it.
fn change(site: &Site, past: bool, sql: &str) {
    let mut changer = if past { Client::login(cluster().port(), &site.account) } else { site.client() };
    changer.execute(sql);
    // The next server connection has none of the statements.
    if !is_direct() {
        site.client().execute("DEALLOCATE ALL");
    }
}

#[test]
fn who_was_told_other_columns_is_given_no_rows_whichever_server_connection_it_gets() {
    for past in [false, true] {
        let site = Site::new();
        let mut client = site.client();
        client.execute("CREATE TABLE t AS SELECT 1 AS a");
        // One is told of the statement, one of its portal.
        client.send(&[parse("s", "SELECT * FROM t"), describe(b'S', "s"), sync()].concat());
        client.expect("1tTZ");
        client.send(&[parse("i", "INSERT INTO t VALUES (2) RETURNING *"), sync()].concat());
        client.expect("1Z");
        client.send(&[bind("", "i", &[]), describe(b'P', ""), execute("", 0), sync()].concat());
        client.expect("2TDCZ");
        let run = |name| [bind("", name, &[]), execute("", 0)].concat();
        // Nothing has changed.
        change(&site, past, "CREATE TABLE other ()");
        client.send(&[run("s"), run("s"), sync()].concat());
        client.expect("2DDC2DDCZ");
        change(&site, past, "ALTER TABLE t ADD b text DEFAULT 'new'");
        for name in ["s", "i", "s"] {
            client.send(&[run(name), sync()].concat());
            let error = client.expect("EZ").swap_remove(0);
            assert_eq!(error.sqlstate(), "0A000");
            assert_eq!(error.field(b'R'), "RevalidateCachedQuery");
        }
        client.execute("BEGIN");
        client.send(&[run("s"), run("s"), sync()].concat());
        assert_eq!(sqlstate_of(&client.expect("EZ")), "0A000");
        assert_eq!(client.error("SELECT 1").sqlstate(), "25P02");
        client.execute("ROLLBACK");
        assert_eq!(client.value("SELECT count(*) FROM t"), "2");
        // Who prepares it again is told anew.
        client.send(&[parse("again", "SELECT * FROM t"), describe(b'S', "again"), sync()].concat());
        client.expect("1tTZ");
        client.send(&[run("again"), sync()].concat());
        assert_eq!(client.expect("2DDCZ")[1].columns(), [Some("1".to_owned()), Some("new".to_owned())]);
        if !is_direct() {
            // So is who asks.
            client.send(&[bind("", "s", &[]), describe(b'P', ""), execute("", 0), sync()].concat());
            client.expect("2TDDCZ");
            client.send(&[run("s"), sync()].concat());
            client.expect("2DDCZ");
        }
    }
}

/// As pgx does, which prepares again after 0A000 only.
#[test]
fn who_chooses_a_format_for_each_column_that_it_was_told_of_hears_that_there_are_others() {
    for past in [false, true] {
        let site = Site::new();
        let mut client = site.client();
        client.execute("CREATE TABLE t AS SELECT 1 AS a, 2 AS b, 3 AS c");
        client.send(&[parse("s", "SELECT * FROM t"), describe(b'S', "s"), sync()].concat());
        client.expect("1tTZ");
        let mut run = |formats: &[u16]| {
            let bind = bind_with_formats("", "s", &[], formats);
            client.send(&[bind, describe(b'P', ""), execute("", 0), sync()].concat());
            client.read_until_ready()
        };
        assert_eq!(tags(&run(&[0, 1, 0])), "2TDCZ");
        assert_eq!(sqlstate_of(&run(&[0, 0])), "08P01", "nothing has changed");
        change(&site, past, "ALTER TABLE t DROP b");
        for _ in 0..2 {
            let said = run(&[0, 1, 0]);
            let error = said.first().expect("an error");
            assert_eq!(
                (error.sqlstate().as_str(), error.field(b'R').as_str()),
                ("0A000", "RevalidateCachedQuery")
            );
        }
        client.send(&[close(b'S', "s"), parse("s", "SELECT * FROM t"), describe(b'S', "s"), sync()].concat());
        client.expect("31tTZ");
        client.send(&[bind_with_formats("", "s", &[], &[1, 0]), execute("", 0), sync()].concat());
        client.expect("2DCZ");
    }
}

#[test]
fn columns_of_a_text_that_means_something_else_to_another_are_its_own_affair() {
    let site = Site::with(|config| config.set("pool.size", 3));
    let mut clients = [site.client(), site.client(), site.client()];
    for (client, columns) in clients.iter_mut().zip(["1 AS a", "1 AS a, 'x' AS b", "now() AS c"]) {
        client.execute(&format!("CREATE TEMP TABLE own AS SELECT {columns}"));
    }
    for round in 0..3 {
        for (client, columns) in clients.iter_mut().zip([1, 2, 1]) {
            if round == 0 {
                client.send(&[parse("s", "SELECT * FROM own"), describe(b'S', "s"), sync()].concat());
                client.expect("1tTZ");
            }
            client.send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
            assert_eq!(client.expect("2DCZ")[1].columns().len(), columns);
            client.execute("SELECT 1");
        }
    }
    // Without the tables their statements fail as they would directly.
    clients[0].execute("DROP TABLE own");
    clients[0].send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
    assert_eq!(sqlstate_of(&clients[0].expect("EZ")), "42P01");
}

#[test]
fn a_statement_that_somebody_dropped_behind_our_back_is_made_anew_unseen() {
    if is_direct() {
        return;
    }
    let site = Site::new();
    let mut client = site.client();
    client.send(&[parse("s", "SELECT 'still here'"), sync()].concat());
    client.expect("1Z");
    site.client().execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$");
    client.send(&[bind("", "s", &[]), describe(b'P', ""), execute("", 0), sync()].concat());
    assert_eq!(rows(&client.expect("2TDCZ")), ["still here"]);
}

#[test]
fn what_cannot_be_prepared_any_more_can_be_deallocated() {
    let site = Site::new();
    let (mut one, mut two) = (site.client(), site.client());
    one.execute("CREATE TABLE short_lived (a int)");
    let text = "SELECT a FROM short_lived";
    for name in ["first", "second"] {
        one.send(&[parse(name, text), sync()].concat());
        one.expect("1Z");
        one.execute(&format!("PREPARE {name}_of_sql AS {text}"));
    }
    one.execute("DROP TABLE short_lived");
    disturb(&mut two);
    if !is_direct() {
        // The server connection has none of them now.
        two.execute("DEALLOCATE ALL");
    }
    one.execute("BEGIN");
    one.execute("DEALLOCATE first");
    one.execute("DEALLOCATE first_of_sql");
    assert_eq!(one.value("SELECT 'not aborted'"), "not aborted");
    one.send(&[extended("DEALLOCATE second", &[]), sync()].concat());
    one.expect("12nCZ");
    one.send(&[extended("DEALLOCATE second_of_sql", &[]), sync()].concat());
    one.expect("12nCZ");
    one.execute("COMMIT");
    assert_eq!(one.value("SELECT count(*) FROM pg_prepared_statements"), "0");
    // What stood for them is nothing that anybody meets.
    two.execute("CREATE TABLE short_lived (a int); INSERT INTO short_lived VALUES (7)");
    two.send(&[parse("first", text), bind("", "first", &[]), execute("", 0), sync()].concat());
    assert_eq!(rows(&two.expect("12DCZ")), ["7"]);
    one.execute(&format!("PREPARE first AS {text}"));
    assert_eq!(one.value("EXECUTE first"), "7");
    one.execute(&format!("DEALLOCATE first; PREPARE first AS {text}"));
    assert_eq!(one.value("EXECUTE first"), "7");
    two.execute(&format!("PREPARE first_of_sql AS {text}"));
    assert_eq!(two.value("EXECUTE first_of_sql"), "7");
}

#[test]
fn a_text_is_another_statement_where_it_means_another_thing() {
    let site = Site::new();
    let mut maker = site.client();
    maker.execute("CREATE SCHEMA a");
    maker.execute("CREATE SCHEMA b");
    maker.execute("CREATE TABLE a.t AS SELECT 1 AS n");
    maker.execute("CREATE TABLE b.t AS SELECT 'x'::text AS n, 2 AS m");
    let (mut one, mut two) = (site.client(), site.client());
    one.execute("SET search_path TO a");
    two.execute("SET search_path TO b");
    for (client, columns) in [(&mut one, 1), (&mut two, 2)] {
        client.send(&[parse("s", "SELECT * FROM t"), sync()].concat());
        client.expect("1Z");
        client.send(&[bind("", "s", &[]), describe(b'P', ""), execute("", 0), sync()].concat());
        assert_eq!(client.expect("2TDCZ")[2].columns().len(), columns);
    }
    // A literal is read when a statement is parsed.
    one.execute("SET DateStyle TO 'ISO, DMY'");
    two.execute("SET DateStyle TO 'ISO, MDY'");
    for (client, date) in [(&mut one, "2020-02-01"), (&mut two, "2020-01-02")] {
        client.send(&[parse("d", "SELECT '01/02/2020'::date"), sync()].concat());
        client.expect("1Z");
        client.send(&[bind("", "d", &[]), execute("", 0), sync()].concat());
        assert_eq!(rows(&client.expect("2DCZ")), [date]);
    }
    // The same in a transaction, by SET LOCAL.
    for (schema, columns) in [("a", 1), ("b", 2)] {
        let mut client = site.client();
        client.execute("BEGIN");
        client.execute(&format!("SET LOCAL search_path TO {schema}"));
        client.send(
            &[parse("l", "SELECT * FROM t /* local */"), bind("", "l", &[]), execute("", 0), sync()].concat(),
        );
        assert_eq!(client.expect("12DCZ")[2].columns().len(), columns);
        client.execute("COMMIT");
    }
}

#[test]
fn who_parses_a_text_after_a_change_of_the_catalog_is_told_what_it_means_now() {
    let site = Site::new();
    let (mut maker, mut one, mut two) = (site.client(), site.client(), site.client());
    let oid = |answer: &[Backend]| {
        let types = answer.iter().find(|message| message.tag == b't').unwrap();
        u32::from_be_bytes(types.body[2..6].try_into().unwrap())
    };
    for (kind, number, client) in [("int", 23, &mut one), ("text", 25, &mut two)] {
        maker.execute(&format!("CREATE TABLE t (v {kind})"));
        client.send(&[parse("s", "INSERT INTO t VALUES ($1)"), describe(b'S', "s"), sync()].concat());
        assert_eq!(oid(&client.expect("1tnZ")), number);
        maker.execute("DROP TABLE t");
    }
}
