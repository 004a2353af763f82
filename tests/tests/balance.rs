//! Sessions go on on another worker, and nobody notices.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hawser_tests::raw::Client;
use hawser_tests::raw::messages::{self, bind, close, execute, parse, query, sync};
use hawser_tests::{Config, Site, wait_for, wait_until};

const MOVES: &str = "session goes on on another worker";

/// Every session moves after every transaction.
fn roaming(config: Config) -> Config {
    config.set("workers", 3).set("balance", "\"roam\"").set("log.level", "\"debug\"")
}

fn moves(site: &Site) -> usize {
    site.hawser().log().matches(MOVES).count()
}

/// The first row of what follows, if it has one.
fn row_of(client: &mut Client, bytes: &[Vec<u8>]) -> String {
    client.send(&bytes.concat());
    let messages = client.read_until_ready();
    let row = messages.iter().find(|message| message.tag == b'D');
    row.unwrap_or_else(|| panic!("no row in {messages:?}")).first()
}

fn goes_along(site: &Site, mut client: Client) {
    client.execute("SET application_name = 'wanderer'; SET work_mem = '4321kB'");
    row_of(
        &mut client,
        &[parse("named", "SELECT $1::int + 1"), bind("", "named", &[Some("1")]), execute("", 0), sync()],
    );
    row_of(
        &mut client,
        &[parse("", "SELECT 'unnamed ' || $1"), bind("", "", &[Some("x")]), execute("", 0), sync()],
    );
    let before = moves(site);
    for round in 0..20 {
        let number = round.to_string();
        let next = row_of(&mut client, &[bind("", "named", &[Some(&number)]), execute("", 0), sync()]);
        assert_eq!(next, (round + 1).to_string());
        let again = row_of(&mut client, &[bind("", "", &[Some(&number)]), execute("", 0), sync()]);
        assert_eq!(again, format!("unnamed {number}"));
    }
    assert_eq!(row_of(&mut client, &[query("SELECT current_setting('work_mem')")]), "4321kB");
    assert_eq!(row_of(&mut client, &[query("SHOW application_name")]), "wanderer");
    row_of(
        &mut client,
        &[close(b'S', "named"), parse("named", "SELECT 7"), bind("", "named", &[]), execute("", 0), sync()],
    );
    client.execute("RESET work_mem");
    assert_ne!(row_of(&mut client, &[query("SHOW work_mem")]), "4321kB");
    wait_until("it has moved each time", || moves(site) >= before + 40);
}

#[test]
fn settings_and_statements_go_along() {
    let site = Site::with(|config| roaming(config).set("pool.size", 2));
    goes_along(&site, site.client());
    goes_along(&site, site.client_tls());
}

#[test]
fn an_unnamed_statement_is_not_taken_for_one_that_the_session_had_before() {
    let site = Site::with(|config| roaming(config).set("workers", 2).set("pool.size", 4));
    let mut client = site.client();
    for round in 0..12 {
        // One is parsed on one worker and bound on the other, where there is still the one before.
        let text = format!("SELECT 'round {round}'");
        client.send(&[parse("", &text), sync()].concat());
        client.read_until_ready();
        let row = row_of(&mut client, &[bind("", "", &[]), execute("", 0), sync()]);
        assert_eq!(row, format!("round {round}"));
    }
    wait_until("it has moved each time", || moves(&site) >= 24);
}

#[test]
fn what_a_nextval_yielded_is_found_again_from_wherever_the_session_has_gone() {
    let site = Site::with(|config| roaming(config).set("pool.size", 4));
    site.client().execute("CREATE TABLE numbered (id serial)");
    for round in 1..=8 {
        let mut client = site.client();
        client.execute("INSERT INTO numbered DEFAULT VALUES");
        let before = moves(&site);
        for _ in 0..round {
            client.execute("SELECT 1");
        }
        wait_until("it has moved on", || moves(&site) >= before + round);
        assert_eq!(row_of(&mut client, &[query("SELECT lastval()")]), round.to_string());
        client.terminate();
    }
}

#[test]
fn a_session_stays_while_something_ties_it_to_where_it_is() {
    let site = Site::with(|config| roaming(config).set("pool.size", 2));
    let mut client = site.client();
    client.execute("CREATE TEMP TABLE mine (n int)");
    let before = moves(&site);
    for number in 0..5 {
        client.execute(&format!("INSERT INTO mine VALUES ({number})"));
    }
    assert_eq!(row_of(&mut client, &[query("SELECT count(*) FROM mine")]), "5");
    assert_eq!(moves(&site), before);
    client.execute("DROP TABLE mine");
    client.execute("LISTEN news");
    client.execute("SELECT 1");
    let before = moves(&site);
    let mut other = site.client();
    other.execute("NOTIFY news, 'hello'");
    let heard = wait_for("the notification", || client.try_read().ok());
    assert_eq!(heard.tag, b'A');
    client.execute("SELECT 1");
    assert!(moves(&site) <= before + 1, "only the other one has moved");
    client.execute("UNLISTEN news");
    // What waits for a BEGIN to be followed by something goes on where that is.
    client.execute("BEGIN");
    client.execute("SELECT 1");
    client.execute("COMMIT");
}

#[test]
fn a_cancel_finds_its_query_wherever_that_runs() {
    let site = Site::with(|config| roaming(config).set("pool.size", 2));
    let mut client = site.client();
    let key = client.key.clone().unwrap();
    for round in 0..6 {
        client.execute("SELECT 1");
        client.send(&query("SELECT pg_sleep(60)"));
        client.set_patience(Duration::from_millis(200));
        let told = wait_for("the client is told", || {
            let mut other = Client::connect(site.port);
            other.send(&messages::cancel(key.process, &key.secret));
            assert!(other.expect_closed().is_empty());
            client.try_read().ok().filter(|message| message.tag == b'E')
        });
        client.set_patience(Duration::from_secs(20));
        assert_eq!(told.sqlstate(), "57014", "round {round}: {told:?}");
        client.read_until_ready();
    }
    wait_until("it has moved", || moves(&site) >= 6);
}

#[test]
fn who_ends_a_session_by_its_number_finds_it_wherever_it_is() {
    let site = Site::with(|config| roaming(config).set("pool.size", 2));
    let mut clients: Vec<Client> = (0..6).map(|_| site.client()).collect();
    for client in &mut clients {
        client.execute("SELECT 1");
        client.execute("SELECT 1");
    }
    for client in &mut clients {
        let process = client.key.clone().unwrap().process;
        let mut other = site.client();
        // The number that the client was told is that of its session.
        other.execute(&format!("SELECT pg_terminate_backend({process})"));
        wait_until("its connection is closed", || client.try_read().is_err());
    }
    site.others_are_well();
}

#[test]
fn little_work_gathers_on_one_worker() {
    let site = Site::with(|config| config.set("workers", 2).set("log.level", "\"debug\""));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut client = site.client();
                while !over.load(Ordering::Relaxed) {
                    client.execute("SELECT 1");
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        site.hawser().wait_for_log(MOVES);
        over.store(true, Ordering::Relaxed);
    });
}
