//! A failover that idle clients never notice, and busy ones survive.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::Ensemble;
use hawser_tests::raw::messages::{bind, execute, parse, query, sync};
use hawser_tests::raw::{Backend, Client, sqlstates};
use std::time::Duration;

fn port(client: &mut Client) -> String {
    client.value("SELECT inet_server_port()")
}

#[test]
fn idle_sessions_keep_everything_when_the_primary_crashes() {
    let mut ensemble = Ensemble::new(2, |config| config);
    let mut clients: Vec<Client> = (0..20).map(|_| ensemble.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.execute(&format!("SET search_path = mine_{number}"));
        client.send(&[parse("kept", "SELECT current_setting('search_path')"), sync()].concat());
        client.read_until_ready();
    }
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hosts[2].promote().unwrap();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&[bind("", "kept", &[]), execute("", 0), sync()].concat());
        let said = client.read_until_ready();
        assert_eq!(sqlstates(&said), Vec::<String>::new(), "client {number}: {said:?}");
        let row = said.iter().find(|message| message.tag == b'D').map(Backend::first);
        assert_eq!(row, Some(format!("mine_{number}")));
        assert_eq!(client.value("SHOW transaction_read_only"), "off");
    }
    ensemble.wait_for_primary(2, 2);
}

#[test]
fn new_work_waits_for_the_promotion_and_then_goes_on() {
    let mut ensemble = Ensemble::new(1, |config| config);
    let mut client = ensemble.client();
    client.execute("CREATE TABLE t(i int)");
    ensemble.wait_for_replay();
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hawser.wait_for_log("no primary");
    client.send(&query("INSERT INTO t VALUES (1)"));
    client.expect_silence(Duration::from_millis(300));
    let standby = ensemble.hosts[1].port().to_string();
    ensemble.hosts[1].promote().unwrap();
    let said = client.read_until_ready();
    assert_eq!(sqlstates(&said), Vec::<String>::new(), "{said:?}");
    assert_eq!(client.value("SELECT count(*) FROM t"), "1");
    assert_eq!(port(&mut client), standby);
}

#[test]
fn a_client_that_logs_in_while_there_is_no_primary_waits_too() {
    let mut ensemble = Ensemble::new(1, |config| config);
    let mut client = ensemble.client();
    assert_eq!(client.value("SELECT 1"), "1");
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hawser.wait_for_log("no primary");
    let (hawser, account) = (ensemble.hawser.port(), &ensemble.account);
    std::thread::scope(|scope| {
        let late = scope.spawn(move || Client::login(hawser, account).value("SELECT 2"));
        ensemble.hosts[1].promote().unwrap();
        assert_eq!(late.join().unwrap(), "2");
    });
}

#[test]
fn work_that_waits_for_too_long_is_refused_and_the_session_stays() {
    let mut ensemble = Ensemble::new(1, |config| config.set("timeouts.hold", "\"1s\""));
    let mut client = ensemble.client();
    assert_eq!(client.value("SELECT 1"), "1");
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hawser.wait_for_log("no primary");
    assert_eq!(client.error("INSERT INTO nothing VALUES (1)").sqlstate(), "57P03");
    ensemble.hosts[1].promote().unwrap();
    assert_eq!(client.value("SELECT 2"), "2");
}

#[test]
fn when_a_connection_breaks_nothing_is_begun_before_the_host_has_answered_anew() {
    // No answer is awaited for a minute, and all clients are on one worker.
    let ensemble = Ensemble::new(1, |config| config.set("workers", 1).set("health.timeout", "\"1m\""));
    let mut direct = Client::login(ensemble.hosts[0].port(), &ensemble.account);
    let (mut one, mut other) = (ensemble.client(), ensemble.client());
    direct.execute("CREATE TABLE t(i int)");
    one.execute("BEGIN");
    one.execute("INSERT INTO t VALUES (0)");
    let process = direct.value(
        "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE 'INSERT%'",
    );
    other.execute("INSERT INTO t VALUES (0)");
    // Who is connected is served, and nobody else is let in.
    ensemble.hosts[0].close_door();
    direct.execute(&format!("SELECT pg_terminate_backend({process})"));
    assert_eq!(one.error("SELECT 1").sqlstate(), "40001");
    other.send(&query("INSERT INTO t VALUES (1)"));
    other.expect_silence(Duration::from_millis(300));
    ensemble.hosts[0].open_door();
    let said = other.read_until_ready();
    assert_eq!(sqlstates(&said), Vec::<String>::new(), "{said:?}");
}

#[test]
fn a_statement_on_a_frozen_primary_is_cut_and_nothing_reaches_it_when_it_wakes_up() {
    let ensemble = Ensemble::new(1, |config| config);
    let mut client = ensemble.client();
    client.execute("CREATE TABLE t(i int)");
    ensemble.wait_for_replay();
    assert_eq!(client.value("SELECT 1"), "1");
    ensemble.wait_for_rest();
    ensemble.hosts[0].sigstop();
    client.send(&query("INSERT INTO t VALUES (1)"));
    let said = client.read_until_ready();
    assert_eq!(sqlstates(&said), vec!["08006".to_owned()]);
    ensemble.hosts[1].promote().unwrap();
    client.execute("INSERT INTO t VALUES (2)");
    ensemble.hosts[0].sigcont();
    ensemble.wait_for(0, "host is fenced");
    for _ in 0..20 {
        client.execute("INSERT INTO t VALUES (3)");
    }
    assert_eq!(client.value("SELECT count(*) FROM t WHERE i <> 1"), "21");
    let old = ensemble.hosts[0].psql_in("postgres", "SELECT 1").unwrap();
    assert_eq!(old.trim(), "1");
    let database = &ensemble.account.database;
    let there = ensemble.hosts[0].psql_in(database, "SELECT count(*) FROM t WHERE i <> 1").unwrap();
    assert_eq!(there.trim(), "0");
}
