//! A session outlives its server connection: it is told what is lost, at once if it waits, else when it next speaks.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::raw::messages::{execute, extended, parse, query, sync};
use hawser_tests::raw::{Backend, Client, sqlstates, status};
use hawser_tests::{Site, cluster, is_direct, wait_for};

fn pid(client: &mut Client) -> String {
    client.value("SELECT pg_backend_pid()")
}

fn terminate(pid: &str) {
    cluster().psql(&format!("SELECT pg_terminate_backend({pid}, 5000)")).unwrap();
}

/// Waits until a statement that ends like this runs: the number of its server process.
fn running(end: &str) -> String {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%{end}' AND state = 'active' AND pid <> pg_backend_pid()"
    );
    wait_for("the statement runs", || {
        let process = cluster().psql(&sql).expect("an answer").trim().to_owned();
        (!process.is_empty()).then_some(process)
    })
}

#[test]
fn a_transaction_that_was_lost_while_its_client_thought_is_an_error_once_and_then_failed() {
    if is_direct() {
        return;
    }
    let site = Site::with(|config| config.set("pool.size", 2));
    let mut client = site.client();
    client.execute("BEGIN");
    let lost = pid(&mut client);
    let mut other = site.client();
    other.execute("BEGIN");
    assert_eq!(other.value("SELECT 1"), "1");
    terminate(&lost);
    let said = client.query("SELECT 1");
    assert_eq!((sqlstates(&said), status(&said)), (vec!["40001".to_owned()], 'E'));
    let said = client.query("SELECT 1");
    assert_eq!((sqlstates(&said), status(&said)), (vec!["25P02".to_owned()], 'E'));
    client.send(&[extended("SELECT 1", &[]), sync()].concat());
    let said = client.read_until_ready();
    assert_eq!((sqlstates(&said), status(&said)), (vec!["25P02".to_owned()], 'E'));
    client.execute("ROLLBACK");
    assert_eq!(client.value("SELECT 2"), "2");
    other.execute("COMMIT");
    site.others_are_well();
}

#[test]
fn a_lost_transaction_ends_by_rollback_in_silence_and_by_commit_with_an_error() {
    if is_direct() {
        return;
    }
    let site = Site::new();
    let mut client = site.client();
    client.execute("BEGIN");
    let lost = pid(&mut client);
    terminate(&lost);
    client.execute("ROLLBACK");
    client.execute("BEGIN");
    let lost = pid(&mut client);
    terminate(&lost);
    let said = client.query("COMMIT");
    assert_eq!((sqlstates(&said), status(&said)), (vec!["40001".to_owned()], 'I'));
    client.execute("BEGIN");
    let lost = pid(&mut client);
    terminate(&lost);
    client.send(&[extended("COMMIT", &[]), sync()].concat());
    let said = client.read_until_ready();
    assert_eq!((sqlstates(&said), status(&said)), (vec!["40001".to_owned()], 'I'));
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn a_statement_under_way_is_an_error_and_the_session_goes_on() {
    if is_direct() {
        return;
    }
    let site = Site::new();
    let mut client = site.client();
    client.send(&query("CREATE TEMP TABLE IF NOT EXISTS nothing(); SELECT pg_sleep(60)"));
    terminate(&running("pg_sleep(60)"));
    let said = client.read_until_ready();
    assert_eq!((sqlstates(&said), status(&said)), (vec!["08006".to_owned()], 'I'));
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn each_batch_of_a_pipeline_that_was_lost_gets_its_answer() {
    if is_direct() {
        return;
    }
    let site = Site::new();
    let mut client = site.client();
    let batch = [extended("SELECT pg_sleep(61)", &[]), sync()].concat();
    // The last one is not ended yet.
    client.send(&[batch.clone(), batch.clone(), parse("", "SELECT 1")].concat());
    terminate(&running("pg_sleep(61)"));
    for _ in 0..2 {
        let said = client.read_until_ready();
        assert_eq!((sqlstates(&said), status(&said)), (vec!["08006".to_owned()], 'I'));
    }
    client.send(&[execute("", 0), sync()].concat());
    let said = client.read_until_ready();
    assert_eq!((sqlstates(&said), status(&said)), (vec!["08006".to_owned()], 'I'));
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn settings_and_statements_are_there_again_and_what_cannot_be_is_told() {
    if is_direct() {
        return;
    }
    let site = Site::new();
    let mut client = site.client();
    client.execute("SET search_path = elsewhere");
    client.send(&[parse("mine", "SELECT current_setting('search_path')"), sync()].concat());
    client.read_until_ready();
    client.execute("CREATE TEMP TABLE kept(i int)");
    let lost = pid(&mut client);
    terminate(&lost);
    let said = client.query("SELECT 1");
    assert_eq!((sqlstates(&said), status(&said)), (vec!["08006".to_owned()], 'I'));
    assert!(said[0].field(b'M').contains("temporary_object"), "{said:?}");
    client.send(&[hawser_tests::raw::messages::bind("", "mine", &[]), execute("", 0), sync()].concat());
    let said = client.read_until_ready();
    assert_eq!(
        said.iter().find(|message| message.tag == b'D').map(Backend::first).as_deref(),
        Some("elsewhere")
    );
}

#[test]
fn a_session_that_has_its_server_connection_for_itself_gets_another() {
    if is_direct() {
        return;
    }
    let site = Site::with(|config| config.set("pool.mode", "\"session\""));
    let mut client = site.client();
    client.execute("SET DateStyle = 'German'");
    let lost = pid(&mut client);
    terminate(&lost);
    assert_eq!(client.value("SHOW DateStyle"), "German, DMY");
    assert_ne!(pid(&mut client), lost);
}
