//! A cancel reaches exactly the query that it was meant for.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::{Duration, Instant};

use hawser::scratch::Cluster;
use hawser_tests::raw::messages::{self, V3_2, bind, describe, execute, extended, flush, parse, query, sync};
use hawser_tests::raw::{Backend, CancelKey, Client, TlsOptions, sqlstate_of};
use hawser_tests::{Account, Config, Site, cluster, own_cluster, wait_for, wait_until};

fn cancel(site: &Site, key: &CancelKey) {
    let mut other = Client::connect(site.port);
    other.send(&messages::cancel(key.process, &key.secret));
    assert!(other.expect_closed().is_empty(), "a cancel request is never answered");
}

/// Waits until the server runs this query of ours.
fn wait_until_running(site: &Site, marker: &str) {
    wait_until_running_at(cluster(), site, marker);
}

/// As [`wait_until_running`], behind a site in front of another cluster.
fn wait_until_running_at(cluster: &Cluster, site: &Site, marker: &str) {
    wait_until("the query runs", || {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND state = 'active' AND query LIKE '%{marker}%'",
            site.account.user
        );
        cluster.psql(&sql).unwrap().trim() != "0"
    });
}

/// Cancels what a client waits with until it is told so: a cancel that comes before the query meets nothing.
#[track_caller]
fn cancel_until_told(site: &Site, waiter: &mut Client) -> Backend {
    let key = waiter.key.clone().unwrap();
    waiter.set_patience(Duration::from_millis(200));
    let told = wait_for("the client is told", || {
        cancel(site, &key);
        waiter.try_read().ok()
    });
    waiter.set_patience(Duration::from_secs(20));
    assert_eq!(told.sqlstate(), "57014", "{told:?}");
    told
}

#[test]
fn a_cancel_ends_the_query_and_nothing_else() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let mut gate = Client::login(cluster().port(), &site.account);
    gate.execute("SELECT pg_advisory_lock(1)");
    let mut victim = site.client();
    let mut bystander = site.client();
    victim.send(&query("SELECT pg_sleep(60) /* victim */"));
    bystander.send(&query("SELECT pg_advisory_xact_lock(1), 'bystander'"));
    wait_until_running(&site, "victim");
    wait_until_running(&site, "bystander");
    cancel(&site, &victim.key.clone().unwrap());
    assert_eq!(sqlstate_of(&victim.read_until_ready()), "57014");
    gate.execute("SELECT pg_advisory_unlock(1)");
    assert_eq!(sqlstate_of(&bystander.read_until_ready()), "");
    assert_eq!(victim.value("SELECT 1"), "1");
}

#[test]
fn a_cancel_works_under_tls_and_with_keys_of_protocol_3_2() {
    let site = Site::new();
    let mut victim = Client::connect_tls(site.port, &TlsOptions::of(cluster()));
    victim.try_login_as(V3_2, &site.account, &[]).unwrap();
    let key = victim.key.clone().unwrap();
    victim.send(&query("SELECT pg_sleep(60) /* victim */"));
    wait_until_running(&site, "victim");
    let mut other = Client::connect_tls(site.port, &TlsOptions::of(cluster()));
    other.send(&messages::cancel(key.process, &key.secret));
    assert!(other.expect_closed().is_empty());
    assert_eq!(sqlstate_of(&victim.read_until_ready()), "57014");
}

#[test]
fn a_cancel_with_a_wrong_key_does_nothing() {
    let site = Site::new();
    let mut gate = Client::login(cluster().port(), &site.account);
    gate.execute("SELECT pg_advisory_lock(1)");
    let mut victim = site.client();
    let key = victim.key.clone().unwrap();
    victim.send(&query("SELECT pg_advisory_xact_lock(1), 'unharmed' /* victim */"));
    wait_until_running(&site, "victim");
    for wrong in [
        CancelKey { secret: key.secret.iter().map(|byte| byte ^ 1).collect(), ..key.clone() },
        CancelKey { process: key.process ^ 1, ..key.clone() },
        CancelKey { secret: Vec::new(), ..key.clone() },
        CancelKey { secret: key.secret[..3].to_vec(), ..key.clone() },
        CancelKey { secret: vec![0; 256], ..key.clone() },
    ] {
        let mut other = Client::connect(site.port);
        other.send(&messages::cancel(wrong.process, &wrong.secret));
        other.expect_closed();
    }
    gate.execute("SELECT pg_advisory_unlock(1)");
    assert_eq!(sqlstate_of(&victim.read_until_ready()), "");
}

#[test]
fn a_cancel_that_comes_when_the_query_is_over_harms_nobody() {
    // The server connection may serve somebody else by now.
    let site = Site::new();
    let mut first = site.client();
    let key = first.key.clone().unwrap();
    for round in 0..30 {
        assert_eq!(first.value("SELECT 1"), "1");
        let mut second = site.client();
        second.send(&query(&format!("SELECT pg_sleep(0.02), 'round {round}'")));
        cancel(&site, &key);
        assert_eq!(sqlstate_of(&second.read_until_ready()), "", "round {round}");
    }
}

#[test]
fn cancels_that_race_with_the_end_of_the_query_never_hit_the_next_client() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut victim = site.client();
                let key = victim.key.clone().unwrap();
                while Instant::now() < end {
                    victim.send(&query("SELECT pg_sleep(0.003)"));
                    cancel(&site, &key);
                    // Either way is right; the answer is its own.
                    let outcome = sqlstate_of(&victim.read_until_ready());
                    assert!(outcome.is_empty() || outcome == "57014", "{outcome}");
                }
            });
            scope.spawn(|| {
                let mut bystander = site.client();
                let mut asked = 0;
                while Instant::now() < end {
                    assert_eq!(bystander.value(&format!("SELECT 'b{asked}'")), format!("b{asked}"));
                    asked += 1;
                }
                assert!(asked > 0);
            });
        }
    });
    site.others_are_well();
}

/// Each statement has settings of its session go ahead of it, which are not the client's to cancel.
#[test]
fn a_cancel_hits_nothing_that_goes_ahead_of_the_query() {
    let site = Site::with(|config| config.set("pool.size", 1));
    let end = Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        for number in 1..=2 {
            let site = &site;
            scope.spawn(move || {
                let mut victim = site.client();
                let key = victim.key.clone().unwrap();
                victim.execute(&format!("SET work_mem TO '{number}MB'"));
                for other in 0..200 {
                    victim.execute(&format!("SET app.s{other} TO '{number}'"));
                }
                while Instant::now() < end {
                    victim.send(&query("SHOW work_mem"));
                    cancel(site, &key);
                    let said = victim.read_until_ready();
                    let outcome = sqlstate_of(&said);
                    assert!(outcome.is_empty() || outcome == "57014", "{outcome}");
                    assert!(!outcome.is_empty() || said[1].first() == format!("{number}MB"), "{said:?}");
                }
            });
        }
    });
    site.others_are_well();
}

#[test]
fn a_cancel_connection_is_closed_when_the_cancel_has_been_delivered() {
    // A client that waits for that may send its next query: the cancel cannot hit it.
    let cluster = own_cluster(&[]);
    let account = Account::new(&cluster);
    let config = Config::new(&cluster, &account);
    let site = Site::of(account, &config);
    let mut victim = site.client();
    let key = victim.key.clone().unwrap();
    victim.send(&query("SELECT pg_sleep(60) /* victim */"));
    wait_until_running_at(&cluster, &site, "victim");
    cluster.close_door();
    let mut other = Client::connect(site.port);
    other.send(&messages::cancel(key.process, &key.secret));
    other.expect_silence(Duration::from_millis(300));
    cluster.open_door();
    assert!(other.expect_closed().is_empty(), "a cancel request is never answered");
    assert_eq!(sqlstate_of(&victim.read_until_ready()), "57014");
    assert_eq!(victim.value("SELECT 1"), "1");
}

#[test]
fn a_client_that_waits_for_a_server_connection_can_be_cancelled() {
    let site = Site::new();
    let mut holder = site.client();
    holder.execute("BEGIN; SELECT 1");
    let mut waiter = site.client();
    waiter.send(&[extended("SELECT 'never'", &[]), sync()].concat());
    cancel_until_told(&site, &mut waiter);
    waiter.expect("Z");
    holder.execute("COMMIT");
    assert_eq!(waiter.value("SELECT 1"), "1");
}

#[test]
fn a_client_that_waits_with_its_begin_is_cancelled_into_a_failed_transaction() {
    // It was told that its transaction has begun; it must be able to end it.
    let site = Site::new();
    let mut holder = site.client();
    holder.execute("BEGIN; SELECT 1");
    let mut waiter = site.client();
    waiter.execute("BEGIN");
    waiter.send(&query("SELECT 'never'"));
    assert_eq!(cancel_until_told(&site, &mut waiter).field(b'S'), "ERROR");
    assert_eq!(waiter.expect("Z")[0].body, b"E");
    holder.execute("COMMIT");
    assert_eq!(sqlstate_of(&waiter.query("SELECT 1")), "25P02");
    waiter.execute("ROLLBACK");
    assert_eq!(waiter.value("SELECT 1"), "1");
}

/// What a client was told as the number of its server process.
fn number(client: &Client) -> i32 {
    client.key.as_ref().unwrap().process
}

#[test]
fn a_session_is_ended_by_the_number_that_its_client_was_told() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let mut other = site.client();
    for extended_protocol in [false, true] {
        let mut victim = site.client();
        let number = number(&victim).to_string();
        if extended_protocol {
            let call = extended("SELECT pg_terminate_backend($1::int)", &[Some(&number)]);
            other.send(&[call, sync()].concat());
            assert_eq!(sqlstate_of(&other.read_until_ready()), "");
        } else {
            other.execute(&format!("SELECT pg_terminate_backend({number})"));
        }
        assert_eq!(sqlstate_of(&victim.expect_closed()), "57P01");
    }
    let mut alone = site.client();
    let end = format!("SELECT pg_terminate_backend({})", number(&alone));
    alone.send(&query(&end));
    assert_eq!(sqlstate_of(&alone.expect_closed()), "57P01");
    let mut victim = site.client();
    victim.execute("BEGIN; CREATE TABLE half_way (a int)");
    other.execute(&format!("SELECT pg_terminate_backend({})", number(&victim)));
    assert_eq!(sqlstate_of(&victim.expect_closed()), "57P01");
    other.execute("CREATE TABLE half_way (a int)");
    site.others_are_well();
}

#[test]
fn a_session_is_ended_by_the_number_of_the_server_process_that_it_was_told() {
    const ASK: &str = "SELECT pg_backend_pid()";
    for size in [1, 2] {
        let site = Site::with(|config| config.set("pool.size", size));
        let mut other = site.client();
        // It is idle, and what ends its process may run on that very process.
        let mut victim = site.client();
        let process = victim.value(ASK);
        assert_eq!(sqlstate_of(&other.query(&format!("SELECT pg_terminate_backend({process})"))), "");
        assert_eq!(sqlstate_of(&victim.expect_closed()), "57P01");
        wait_until("the process is gone", || {
            let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process}");
            cluster().psql(&sql).unwrap().trim() == "0"
        });
        // The number is a parameter, as drivers send it.
        let mut victim = site.client();
        let process = victim.value(ASK);
        let call = extended("SELECT $1::text, pg_terminate_backend($2::int)", &[None, Some(&process)]);
        other.send(&[call, sync()].concat());
        assert_eq!(sqlstate_of(&other.read_until_ready()), "");
        assert_eq!(sqlstate_of(&victim.expect_closed()), "57P01");
        // It keeps its process.
        let mut victim = site.client();
        victim.execute("CREATE TEMP TABLE kept (a int)");
        let end = format!("SELECT pg_terminate_backend({})", victim.value(ASK));
        if size == 2 {
            assert_eq!(sqlstate_of(&other.query(&end)), "");
            assert_eq!(sqlstate_of(&victim.expect_closed()), "57P01");
        }
        drop(victim);
        site.others_are_well();
    }
}

#[test]
fn what_runs_is_ended_by_the_number_of_its_server_process() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let (mut victim, mut other) = (site.client(), site.client());
    // In one transaction, so that it is the same process.
    victim.execute("BEGIN");
    let process = victim.value("SELECT pg_backend_pid()");
    victim.send(&query("SELECT pg_sleep(60) /* ended */"));
    wait_until_running(&site, "ended");
    let call = extended("SELECT pg_terminate_backend($1::int)", &[Some(&process)]);
    other.send(&[call, sync()].concat());
    assert_eq!(sqlstate_of(&other.read_until_ready()), "");
    let last = victim.expect_closed();
    let farewell = last.iter().find(|message| message.tag == b'E').expect("its last words");
    assert_eq!((farewell.sqlstate().as_str(), farewell.field(b'S').as_str()), ("57P01", "FATAL"));
    site.others_are_well();
}

#[test]
fn who_ends_its_own_server_process_as_anothers_goes_on() {
    let site = Site::new();
    let mut other = site.client();
    for flushed in [false, true] {
        let mut victim = site.client();
        let process = victim.value("SELECT pg_backend_pid()");
        // The only server connection serves the other now; with a Flush, the batch has been answered in part.
        let name = format!("end_{flushed}");
        let prepare = [parse(&name, "SELECT pg_terminate_backend($1::int)"), describe(b'S', &name)].concat();
        if flushed {
            other.send(&[prepare, flush()].concat());
            other.expect("1tT");
        } else {
            other.send(&[prepare, sync()].concat());
            other.expect("1tTZ");
        }
        other.send(&[bind("", &name, &[Some(&process)]), execute("", 0), sync()].concat());
        assert_eq!(sqlstate_of(&other.read_until_ready()), "");
        assert_eq!(sqlstate_of(&victim.expect_closed()), "57P01");
        site.others_are_well();
    }
}

#[test]
fn a_query_is_cancelled_by_the_number_that_its_client_was_told() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let (mut victim, mut other) = (site.client(), site.client());
    victim.send(&query("SELECT pg_sleep(60) /* by number */"));
    wait_until_running(&site, "by number");
    other.execute(&format!("SELECT pg_cancel_backend({})", number(&victim)));
    assert_eq!(sqlstate_of(&victim.read_until_ready()), "57014");
    site.others_are_well();
}

#[test]
fn nobody_is_ended_by_another_user_but_a_superuser() {
    let account = Account::new(cluster());
    let stranger = account.second_user(cluster());
    let superuser = account.superuser(cluster());
    let config = Config::new(cluster(), &account).user(&stranger).user(&superuser);
    let site = Site::of(account, &config);
    let mut victim = site.client();
    let call = format!("SELECT pg_terminate_backend({})", number(&victim));
    Client::login(site.port, &stranger).query(&call);
    assert_eq!(victim.value("SELECT 'alive'"), "alive");
    Client::login(site.port, &superuser).query(&call);
    assert_eq!(sqlstate_of(&victim.expect_closed()), "57P01");
}
