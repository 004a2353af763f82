//! A transaction whose server is lost runs again unseen (`lost_transactions = "replay"`), if its answers are the same.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::raw::messages::{
    bind, close, copy_data, copy_done, describe, execute, extended, parse, query, sync,
};
use hawser_tests::raw::{Client, sqlstates, tags};
use hawser_tests::{Ensemble, Site, cluster, wait_for, wait_until};
use std::time::Duration;

/// Two server connections, and a table that is empty.
fn site() -> (Site, Client) {
    let site = Site::with(|config| config.set("lost_transactions", "\"replay\"").set("pool.size", 2));
    let mut client = site.client();
    client.execute("CREATE TABLE t (id serial, i int)");
    (site, client)
}

/// Ends the server process on which the account has a transaction, in whatever it is.
fn cut(site: &Site) {
    let processes = format!(
        "SELECT pid FROM pg_stat_activity WHERE usename = '{}' AND (state <> 'idle' OR xact_start IS NOT NULL) \
         AND query NOT LIKE '/* hawser%'",
        site.account.user
    );
    let process = wait_for("a transaction is open", || {
        let process = cluster().psql(&processes).expect("an answer").trim().to_owned();
        (!process.is_empty()).then_some(process)
    });
    cluster().psql(&format!("SELECT pg_terminate_backend({process}, 5000)")).expect("it ends");
}

/// Waits until a statement with this in it runs.
fn wait_until_running(words: &str) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{words}%' AND state = 'active' \
         AND pid <> pg_backend_pid()"
    );
    wait_for("the statement runs", || (cluster().psql(&sql).ok()?.trim() == "1").then_some(()));
}

fn rows(client: &mut Client) -> String {
    client.value("SELECT coalesce(string_agg(i::text, ' ' ORDER BY i), '-') FROM t")
}

#[test]
fn a_client_that_thinks_in_its_transaction_notices_nothing() {
    let (site, mut client) = site();
    client.execute("BEGIN");
    client.execute("INSERT INTO t (i) VALUES (1)");
    assert_eq!(rows(&mut client), "1");
    cut(&site);
    client.execute("INSERT INTO t (i) VALUES (2)");
    cut(&site);
    assert_eq!(rows(&mut client), "1 2");
    client.execute("COMMIT");
    cut_nothing(&site);
    assert_eq!(rows(&mut client), "1 2");
    site.others_are_well();
}

/// No transaction is open.
fn cut_nothing(site: &Site) {
    wait_until("no transaction is open", || site.server_connections().1 == 0);
}

#[test]
fn a_statement_that_was_cut_off_is_answered_by_the_second_run() {
    let (site, mut client) = site();
    client.execute("BEGIN");
    client.execute("INSERT INTO t (i) VALUES (1)");
    client.send(&query("SELECT 'here', pg_sleep(0.5) FROM t"));
    wait_until_running("pg_sleep(0.5) FROM t");
    cut(&site);
    assert_eq!(tags(&client.read_until_ready()), "TDCZ");
    client.execute("COMMIT");
    assert_eq!(rows(&mut client), "1");
}

#[test]
fn what_may_be_the_cause_of_the_loss_is_not_tried_for_ever() {
    let (site, mut client) = site();
    client.execute("BEGIN");
    client.execute("INSERT INTO t (i) VALUES (1)");
    client.send(&query("SELECT pg_sleep(60) FROM t"));
    for _ in 0..2 {
        wait_until_running("pg_sleep(60) FROM t");
        cut(&site);
    }
    let said = client.read_until_ready();
    assert_eq!((sqlstates(&said), said.last().unwrap().body[0]), (vec!["40001".to_owned()], b'E'));
    client.execute("ROLLBACK");
    assert_eq!(rows(&mut client), "-");
    // It counts anew for the next one.
    client.execute("BEGIN");
    client.execute("INSERT INTO t (i) VALUES (2)");
    cut(&site);
    client.execute("COMMIT");
    assert_eq!(rows(&mut client), "2");
}

#[test]
fn one_whose_answers_are_others_by_now_has_failed() {
    let (site, mut client) = site();
    for simple in [true, false] {
        client.execute("BEGIN");
        let returning = "INSERT INTO t (i) VALUES (1) RETURNING id";
        if simple {
            client.value(returning);
        } else {
            client.send(&[extended(returning, &[]), sync()].concat());
            client.read_until_ready();
        }
        cut(&site);
        let said = client.query("SELECT 1");
        assert_eq!((sqlstates(&said), said.last().unwrap().body[0]), (vec!["40001".to_owned()], b'E'));
        assert_eq!(client.error("SELECT 1").sqlstate(), "25P02");
        client.execute("ROLLBACK");
        assert_eq!(rows(&mut client), "-");
        site.others_are_well();
    }
}

#[test]
fn what_another_has_changed_meanwhile_is_an_answer_too() {
    let (site, mut client) = site();
    client.execute("BEGIN");
    assert_eq!(client.value("SELECT count(*) FROM t"), "0");
    site.client().execute("INSERT INTO t (i) VALUES (9)");
    cut(&site);
    assert_eq!(client.error("COMMIT").sqlstate(), "40001");
    assert_eq!(rows(&mut client), "9");
}

/// A transaction with everything that may run again, and what it is answered.
fn script(client: &mut Client, mut between: impl FnMut()) -> Vec<String> {
    let batches = [
        query("BEGIN ISOLATION LEVEL REPEATABLE READ"),
        query("SET LOCAL statement_timeout = '1min'; SET search_path = public, pg_temp"),
        [parse("kept", "INSERT INTO t (i) VALUES ($1) RETURNING i"), describe(b'S', "kept"), sync()].concat(),
        [bind("", "kept", &[Some("4")]), execute("", 0), sync()].concat(),
        query("SAVEPOINT s"),
        [parse("gone", "SELECT 1/(i - 4) FROM t"), sync()].concat(),
        [bind("", "gone", &[]), execute("", 0), sync()].concat(),
        query("ROLLBACK TO s"),
        [close(b'S', "gone"), bind("", "kept", &[Some("5")]), execute("", 0), sync()].concat(),
        query("SHOW statement_timeout; SHOW search_path; NOTIFY heard"),
        [extended("SELECT $1::text, count(*) FROM t", &[Some("x")]), sync()].concat(),
        query("DECLARE c CURSOR FOR SELECT i FROM t ORDER BY i; FETCH 1 FROM c"),
        query("FETCH ALL FROM c"),
        [extended("COMMIT", &[]), sync()].concat(),
        query("SELECT i FROM t ORDER BY i; SHOW search_path"),
        [bind("", "kept", &[Some("6")]), execute("", 0), sync()].concat(),
    ];
    let answer = |client: &mut Client, batch: &[u8]| {
        client.send(batch);
        let said = client.read_until_ready();
        said.iter()
            .map(|message| format!("{} {}", char::from(message.tag), String::from_utf8_lossy(&message.body)))
            .collect::<Vec<_>>()
            .join("\n")
    };
    batches
        .iter()
        .map(|batch| {
            let said = answer(client, batch);
            between();
            said
        })
        .collect()
}

#[test]
fn a_transaction_of_every_kind_of_message_is_answered_as_if_nothing_had_happened() {
    let (site, mut client) = site();
    let quiet = script(&mut client, || {});
    client.execute("DEALLOCATE ALL");
    client.execute("TRUNCATE t");
    client.execute("RESET search_path");
    let mut batch = 0;
    let disturbed = script(&mut client, || {
        batch += 1;
        if (2..14).contains(&batch) {
            cut(&site);
        }
    });
    assert_eq!(quiet, disturbed);
    site.others_are_well();
}

#[test]
fn what_leaves_something_behind_does_not_run_again() {
    let (site, mut client) = site();
    let lost = |client: &mut Client| {
        cut(&site);
        assert_eq!(client.error("SELECT 1").sqlstate(), "40001");
        client.execute("ROLLBACK");
    };
    client.execute("BEGIN");
    client.send(&[query("COPY t (i) FROM STDIN"), copy_data(b"1\n"), copy_done()].concat());
    client.read_until_ready();
    lost(&mut client);
    client.execute("BEGIN");
    client.execute("PREPARE of_sql AS SELECT 1");
    lost(&mut client);
    client.execute("BEGIN");
    assert_eq!(client.value("SELECT repeat('x', 70000)").len(), 70_000);
    lost(&mut client);
    client.execute("BEGIN");
    client.execute("SET application_name = 'told'");
    lost(&mut client);
    assert_eq!(rows(&mut client), "-");
}

#[test]
fn a_transaction_goes_on_at_the_next_primary_with_all_that_was_sent_meanwhile() {
    let mut ensemble = Ensemble::new(1, |config| config.set("lost_transactions", "\"replay\""));
    let mut client = ensemble.client();
    client.execute("CREATE TABLE t (i int)");
    ensemble.wait_for_replay();
    client.execute("BEGIN");
    client.execute("INSERT INTO t VALUES (1)");
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hawser.wait_for_log("no primary");
    client.send(&[query("INSERT INTO t VALUES (2)"), extended("COMMIT", &[]), sync()].concat());
    client.expect_silence(Duration::from_millis(300));
    ensemble.hosts[1].promote().unwrap();
    assert_eq!(tags(&client.read_until_ready()), "CZ");
    assert_eq!(tags(&client.read_until_ready()), "12nCZ");
    assert_eq!(client.value("SELECT string_agg(i::text, ' ' ORDER BY i) FROM t"), "1 2");
}

#[test]
fn one_that_waits_for_a_primary_for_too_long_has_failed_and_nothing_of_it_is_left() {
    let mut ensemble = Ensemble::new(1, |config| {
        config.set("lost_transactions", "\"replay\"").set("timeouts.hold", "\"1s\"")
    });
    let mut client = ensemble.client();
    client.execute("CREATE TABLE t (i int)");
    ensemble.wait_for_replay();
    client.execute("BEGIN");
    client.send(&[parse("kept", "SELECT 1"), sync()].concat());
    client.read_until_ready();
    client.execute("INSERT INTO t VALUES (1)");
    ensemble.hosts[0].kill9().unwrap();
    client.send(&query("INSERT INTO t VALUES (2)"));
    let said = client.read_until_ready();
    assert_eq!((tags(&said).as_str(), sqlstates(&said)), ("EZ", vec!["40001".to_owned()]));
    assert_eq!(said[1].body, b"E");
    client.execute("ROLLBACK");
    ensemble.hosts[1].promote().unwrap();
    assert_eq!(client.value("SELECT count(*) FROM t"), "0");
    // What was prepared in a transaction outlives it.
    client.send(&[bind("", "kept", &[]), execute("", 0), sync()].concat());
    assert_eq!(tags(&client.read_until_ready()), "2DCZ");
}
