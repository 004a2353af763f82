//! What takes too long is ended with the right word, and what it held is given back.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::{Duration, Instant};

use hawser_tests::raw::Client;
use hawser_tests::raw::messages::{V3_0, extended, flush, query, startup};
use hawser_tests::{Account, Site, cluster, wait_for, wait_until};

#[test]
fn a_query_that_takes_too_long_is_cancelled_on_the_server_too() {
    let site = Site::with(|config| config.set("pool.size", 1).set("timeouts.query", "\"300ms\""));
    let mut client = site.client();
    client.send(&query("SELECT pg_sleep(60)"));
    let said = client.expect_closed();
    let error = said.iter().find(|message| message.tag == b'E').expect("an error");
    assert_eq!((error.sqlstate().as_str(), error.field(b'S').as_str()), ("57014", "FATAL"));
    wait_until("the server is at rest", || site.server_connections().1 == 0);
    site.others_are_well();
}

#[test]
fn a_client_that_thinks_too_long_in_a_transaction_loses_it() {
    let site = Site::with(|config| config.set("pool.size", 1).set("timeouts.idle_transaction", "\"300ms\""));
    let mut client = site.client();
    client.execute("CREATE TABLE undone (id int)");
    client.execute("BEGIN; INSERT INTO undone VALUES (1)");
    let said = client.expect_closed();
    assert_eq!(said.last().map(hawser_tests::raw::Backend::sqlstate).as_deref(), Some("25P03"));
    assert_eq!(site.client().value("SELECT count(*) FROM undone"), "0");
}

#[test]
fn a_batch_without_its_sync_counts_as_a_transaction() {
    let site = Site::with(|config| config.set("pool.size", 1).set("timeouts.idle_transaction", "\"300ms\""));
    let mut client = site.client();
    client.send(&[extended("SELECT 1", &[]), flush()].concat());
    client.expect("12TDC");
    client.expect_closed();
    site.others_are_well();
}

#[test]
fn a_transaction_that_takes_too_long_is_ended_however_busy_it_is() {
    let site = Site::with(|config| config.set("pool.size", 1).set("timeouts.transaction", "\"500ms\""));
    let mut client = site.client();
    client.execute("BEGIN");
    let begin = Instant::now();
    while client.try_send(&query("SELECT pg_sleep(0.05)")).is_ok() {
        let mut ended = false;
        loop {
            match client.try_read() {
                Ok(message) if message.tag == b'Z' => break,
                Ok(_) => {}
                Err(_) => {
                    ended = true;
                    break;
                }
            }
        }
        if ended {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "the transaction goes on");
    }
    assert!(begin.elapsed() >= Duration::from_millis(400));
    site.others_are_well();
}

#[test]
fn an_idle_client_is_closed_after_its_time_and_a_busy_one_is_not() {
    let site = Site::with(|config| config.set("pool.size", 2).set("timeouts.client_idle", "\"2s\""));
    let mut busy = site.client();
    let mut idle = site.client();
    idle.set_patience(Duration::from_millis(1));
    let told = wait_for("the idle one is told", || {
        assert_eq!(busy.value("SELECT 1"), "1");
        idle.try_read().ok()
    });
    assert_eq!(told.sqlstate(), "57P05");
    assert_eq!(busy.value("SELECT 1"), "1");
}

#[test]
fn a_client_waits_for_a_server_connection_so_long_and_is_told_so() {
    let site = Site::with(|config| {
        config
            .set("pool.size", 1)
            .set("workers", 1)
            .set("timeouts.query_wait", "\"900ms\"")
            .set("timeouts.query_wait_notify", "\"200ms\"")
    });
    let mut holder = site.client();
    holder.execute("BEGIN; SELECT 1");
    let mut waiter = site.client();
    let begin = Instant::now();
    let messages = waiter.query("SELECT 1");
    assert!(begin.elapsed() >= Duration::from_millis(800));
    assert_eq!(messages.iter().filter(|message| message.tag == b'N').count(), 1, "{messages:?}");
    let error = messages.iter().find(|message| message.tag == b'E').expect("an error");
    assert_eq!(error.sqlstate(), "53300");
    holder.execute("COMMIT");
    assert_eq!(waiter.value("SELECT 1"), "1");
}

#[test]
fn a_login_that_is_not_finished_in_time_is_ended() {
    let site =
        Site::with(|config| config.set("timeouts.login", "\"500ms\"").set("listen.defer_accept", "\"0\""));
    let mut silent = Client::connect(site.port);
    let mut half = Client::connect(site.port);
    half.send(&startup(V3_0, &[("user", &site.account.user), ("database", &site.account.database)]));
    half.expect("R");
    silent.expect_closed();
    // Who has said which protocol it speaks is told.
    assert_eq!(half.expect("E")[0].sqlstate(), "57014");
    half.expect_closed();
    site.others_are_well();
}

#[test]
fn a_login_that_waits_for_the_server_for_too_long_is_told() {
    // It accepts and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let account = Account::new(cluster());
    let config = hawser_tests::Config::new(cluster(), &account)
        .set("timeouts.login", "\"500ms\"")
        .hosts(&[mute.local_addr().unwrap().to_string()]);
    let site = Site::of(account, &config);
    let error = Client::connect(site.port).try_login(&site.account, &[]).unwrap_err();
    assert_eq!(error.sqlstate(), "57014");
}

#[test]
fn a_user_and_a_database_may_have_timeouts_of_their_own() {
    let account = Account::new(cluster());
    let patient = account.second_user(cluster());
    let config = hawser_tests::Config::new(cluster(), &account)
        .set("timeouts.query", "\"300ms\"")
        .user_with(&patient.user, &format!("password = \"{}\"\nquery_timeout = \"0\"", patient.password));
    let site = Site::of(account, &config);
    let mut client = site.client();
    client.send(&query("SELECT pg_sleep(1)"));
    client.expect_closed();
    let mut client = Client::login(site.port, &patient);
    assert_eq!(client.value("SELECT 'slept' FROM pg_sleep(1)"), "slept");
}
