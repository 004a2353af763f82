//! `transaction_reads = "standby"`: a transaction that may write reads on a standby until it does, and is right all the
//! same.
//!
//! The standby has stopped at an empty table, of which the primary has one row: a count tells where it was read.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::raw::messages::{bind, execute, extended, parse, query, sync};
use hawser_tests::raw::{Client, row, status, tags};
use hawser_tests::{Ensemble, wait_until};

const COUNT: &str = "SELECT count(*) FROM t";
const ON_STANDBY: &str = "0";
const ON_PRIMARY: &str = "1";

fn ensemble() -> Ensemble {
    let ensemble = Ensemble::with_conf(1, &["synchronous_commit = on"], |config| {
        config
            .set("workers", 1)
            .set("routing.max_lag", 0)
            .set("routing.consistency", "\"eventual\"")
            .set("routing.transaction_reads", "\"standby\"")
    });
    let mut client = ensemble.client();
    client.execute("CREATE TABLE t(i int)");
    ensemble.wait_for_replay();
    ensemble.pause_replay(1);
    client.execute("INSERT INTO t VALUES (1)");
    wait_until("reads go to the standby", || client.value(COUNT) == ON_STANDBY);
    ensemble
}

/// Begins with `begin`, says `first`, and tells where a count runs then.
fn place_after(client: &mut Client, begin: &str, first: &str) -> String {
    client.execute(begin);
    if !first.is_empty() {
        client.execute(first);
    }
    let place = client.value(COUNT);
    client.execute("ROLLBACK");
    place
}

#[test]
fn a_transaction_reads_on_a_standby_until_its_first_write_and_sees_that_from_then_on() {
    let ensemble = ensemble();
    let mut client = ensemble.client();
    client.execute("BEGIN");
    for _ in 0..3 {
        let said = client.query(COUNT);
        assert_eq!((row(&said).as_str(), status(&said)), (ON_STANDBY, 'T'));
    }
    client.execute("INSERT INTO t VALUES (2)");
    assert_eq!(client.value(COUNT), "2");
    client.execute("SAVEPOINT s");
    client.execute("DELETE FROM t");
    assert_eq!(client.value(COUNT), "0");
    client.execute("ROLLBACK TO s");
    assert_eq!(client.value(COUNT), "2");
    let said = client.query("COMMIT");
    assert_eq!((tags(&said).as_str(), status(&said)), ("CZ", 'I'));
    assert_eq!(ensemble.client().value("/* hawser: primary */ SELECT count(*) FROM t"), "2");
}

#[test]
fn a_transaction_that_never_writes_ends_on_the_standby() {
    let ensemble = ensemble();
    let mut client = ensemble.client();
    for (end, tag) in [("COMMIT", "COMMIT"), ("END", "COMMIT"), ("ROLLBACK", "ROLLBACK")] {
        client.execute("BEGIN");
        assert_eq!(client.value(COUNT), ON_STANDBY);
        let said = client.query(end);
        assert_eq!((said[0].strings()[0].clone(), status(&said)), (tag.to_owned(), 'I'));
    }
    client.send(&[query("BEGIN"), query(COUNT), query(COUNT), query("COMMIT"), query(COUNT)].concat());
    assert_eq!(status(&client.read_until_ready()), 'T');
    assert_eq!(row(&client.read_until_ready()), ON_STANDBY);
    assert_eq!(row(&client.read_until_ready()), ON_STANDBY);
    assert_eq!(status(&client.read_until_ready()), 'I');
    assert_eq!(row(&client.read_until_ready()), ON_STANDBY);
}

#[test]
fn what_ties_a_transaction_to_its_place_takes_it_to_the_primary() {
    let ensemble = ensemble();
    let mut client = ensemble.client();
    assert_eq!(place_after(&mut client, "BEGIN", ""), ON_STANDBY);
    assert_eq!(place_after(&mut client, "START TRANSACTION", ""), ON_STANDBY);
    assert_eq!(place_after(&mut client, "BEGIN READ WRITE", ""), ON_STANDBY);
    assert_eq!(place_after(&mut client, "BEGIN ISOLATION LEVEL READ COMMITTED", ""), ON_STANDBY);
    for begin in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
        assert_eq!(place_after(&mut client, begin, ""), ON_PRIMARY);
    }
    for first in [
        "SAVEPOINT s",
        "SET LOCAL work_mem = '1MB'",
        "SET work_mem = '1MB'",
        "SELECT set_config('work_mem', '1MB', true)",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "DECLARE c CURSOR FOR SELECT 1",
        "PREPARE p AS SELECT 1",
        "LOCK TABLE t",
        "SELECT i FROM t FOR UPDATE",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT 1; SAVEPOINT s",
    ] {
        assert_eq!(place_after(&mut client, "BEGIN", first), ON_PRIMARY, "{first}");
        client.execute("RESET work_mem; DEALLOCATE ALL");
        // Also where the transaction is on the standby already.
        client.execute("BEGIN");
        assert_eq!(client.value(COUNT), ON_STANDBY);
        client.execute(first);
        assert_eq!(client.value(COUNT), ON_PRIMARY, "{first}");
        client.execute("ROLLBACK");
        client.execute("RESET work_mem; DEALLOCATE ALL");
    }
    client.execute("SET default_transaction_isolation = 'repeatable read'");
    assert_eq!(place_after(&mut client, "BEGIN", ""), ON_PRIMARY);
}

#[test]
fn a_portal_that_is_fetched_from_again_stays_where_it_is() {
    let ensemble = ensemble();
    let mut client = ensemble.client();
    client.execute("BEGIN");
    client.send(&[parse("", "SELECT i FROM t"), bind("p", "", &[]), execute("p", 1), sync()].concat());
    assert_eq!(row(&client.read_until_ready()), "1");
    client.send(&[execute("p", 1), sync()].concat());
    assert_eq!(tags(&client.read_until_ready()), "CZ");
    client.execute("COMMIT");
    // What runs to its end can go on elsewhere.
    client.execute("BEGIN");
    client.send(&[extended(COUNT, &[]), sync()].concat());
    assert_eq!(row(&client.read_until_ready()), ON_STANDBY);
    client.send(&[extended("INSERT INTO t VALUES (2)", &[]), extended(COUNT, &[]), sync()].concat());
    assert_eq!(row(&client.read_until_ready()), "2");
    client.execute("COMMIT");
}

#[test]
fn an_error_fails_the_transaction_as_everywhere() {
    let ensemble = ensemble();
    let mut client = ensemble.client();
    client.execute("BEGIN");
    assert_eq!(client.value(COUNT), ON_STANDBY);
    assert_eq!(client.error("SELECT 1 / (count(*))::int FROM t").sqlstate(), "22012");
    assert_eq!(client.error("INSERT INTO t VALUES (2)").sqlstate(), "25P02");
    let said = client.query("COMMIT");
    assert_eq!((said[0].strings()[0].clone(), status(&said)), ("ROLLBACK".to_owned(), 'I'));
    assert_eq!(place_after(&mut client, "BEGIN", ""), ON_STANDBY);
}

#[test]
fn a_database_with_another_isolation_level_has_its_transactions_on_the_primary() {
    let ensemble = ensemble();
    let database = &ensemble.account.database;
    let alter =
        format!("ALTER DATABASE \"{database}\" SET default_transaction_isolation = 'repeatable read'");
    ensemble.hosts[0].psql(&alter).unwrap();
    // Replay goes on up to here, and stops again.
    ensemble.hosts[1].psql("SELECT pg_wal_replay_resume()").unwrap();
    ensemble.wait_for_replay();
    ensemble.pause_replay(1);
    ensemble.hosts[0].psql_in(database, "INSERT INTO t VALUES (2)").unwrap();
    // Connections that are open keep what they had.
    let mut hosts = ensemble.hosts.iter();
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
    assert!(hosts.all(|host| host.psql(&end).is_ok()));
    let mut client = ensemble.client();
    wait_until("the transaction has the level of the database", || {
        client.execute("BEGIN");
        let place = client.value(COUNT);
        let level = client.value("SHOW transaction_isolation");
        client.execute("ROLLBACK");
        level == "repeatable read" && place == "2"
    });
}

#[test]
fn a_standby_that_goes_away_in_the_middle_is_not_noticed() {
    let mut ensemble = ensemble();
    let mut client = ensemble.client();
    client.execute("BEGIN");
    assert_eq!(client.value(COUNT), ON_STANDBY);
    ensemble.hosts[1].kill9().unwrap();
    assert_eq!(client.value(COUNT), ON_PRIMARY);
    client.execute("INSERT INTO t VALUES (2)");
    client.execute("COMMIT");
    assert_eq!(client.value(COUNT), "2");
}
