//! A crowd of clients lives through everything that can happen to a cluster: the idle notice nothing, who reads is told
//! no error, and nothing that was acknowledged is lost, doubled, or taken by a host that was left behind.
//!
//! `HAWSER_CROWD=200` makes the idle ones that many.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use hawser::scratch::StopMode;
use hawser_tests::crowd::{self, Allowed, Crowd, Found, NOTHING, TABLE, UNDER_WAY};
use hawser_tests::raw::messages::query;
use hawser_tests::raw::{Backend, Client};
use hawser_tests::{Config, Ensemble, wait_until};

/// What becomes of what was under way, by the settings.
#[derive(Clone, Copy)]
struct Fate {
    /// `commit_outcome`
    commits: &'static str,
    /// `lost_transactions`
    transactions: &'static str,
}

const UNKNOWN: Fate = Fate { commits: "unknown", transactions: "fail" };

const FOUND_OUT: Fate = Fate { commits: "resolve-all", ..UNKNOWN };

const RUNS_AGAIN: Fate = Fate { transactions: "replay", ..FOUND_OUT };

/// A primary whose commits wait for one of two standbys.
fn ensemble(fate: Fate) -> Ensemble {
    let conf = ["wal_retrieve_retry_interval = 100ms", "synchronous_commit = local"];
    let ensemble = Ensemble::with_conf(2, &conf, |config| {
        config
            .set("commit_outcome", format!("{:?}", fate.commits))
            .set("lost_transactions", format!("{:?}", fate.transactions))
    });
    ensemble.client().execute(TABLE);
    ensemble.wait_for_replay();
    ensemble.make_synchronous(1);
    ensemble
}

fn crowd(ensemble: &Ensemble) -> Crowd {
    Crowd::start(ensemble.hawser.port(), &ensemble.account)
}

/// What of the crowd's writing is at a host.
fn found(ensemble: &Ensemble, host: usize) -> Found {
    let text = ensemble.hosts[host].psql_in(&ensemble.account.database, crowd::FIND).unwrap();
    crowd::found(&text)
}

/// The crowd goes home, and what it was told is held against what is at the primary. With the moment from which on the
/// first host must have taken nothing.
fn check(ensemble: &Ensemble, crowd: Crowd, primary: usize, allowed: Allowed<'_>, fenced: Option<Instant>) {
    let diaries = crowd.finish();
    println!("{}", crowd::figures(&diaries));
    for line in ensemble.hawser.log().lines().filter(|line| line.contains("failover:")) {
        println!("{line}");
    }
    crowd::check(&diaries, &found(ensemble, primary), allowed);
    if let Some(moment) = fenced {
        crowd::check_fenced(&diaries, &found(ensemble, 0), moment);
    }
}

/// The first host is gone, another one takes over, the first one comes back as it was.
fn crash(
    fate: Fate,
    allowed: Allowed<'_>,
    gone: impl FnOnce(&mut Ensemble),
    back: impl FnOnce(&mut Ensemble),
) {
    let mut ensemble = ensemble(fate);
    let mut crowd = crowd(&ensemble);
    gone(&mut ensemble);
    let primary = ensemble.take_over();
    let promoted = Instant::now();
    crowd.wait_for_writes();
    back(&mut ensemble);
    ensemble.wait_for(0, "host is fenced");
    crowd.wait_for_writes();
    crowd.check_idle();
    check(&ensemble, crowd, primary, allowed, Some(promoted));
}

#[test]
fn the_primary_is_killed_and_what_became_of_each_commit_is_found_out() {
    let back = |ensemble: &mut Ensemble| ensemble.hosts[0].start_again().unwrap();
    crash(FOUND_OUT, UNDER_WAY, |ensemble| ensemble.hosts[0].kill9().unwrap(), back);
}

#[test]
fn the_primary_is_killed_and_only_what_was_under_way_is_in_doubt() {
    let in_doubt = Allowed { sqlstates: &["08006", "08007", "40001"], ..UNDER_WAY };
    let back = |ensemble: &mut Ensemble| ensemble.hosts[0].start_again().unwrap();
    crash(UNKNOWN, in_doubt, |ensemble| ensemble.hosts[0].kill9().unwrap(), back);
}

#[test]
fn the_primary_is_stopped_fast() {
    let back = |ensemble: &mut Ensemble| ensemble.hosts[0].start_again().unwrap();
    crash(FOUND_OUT, UNDER_WAY, |ensemble| ensemble.hosts[0].stop(StopMode::Fast).unwrap(), back);
}

#[test]
fn the_primary_is_frozen_and_wakes_up_after_the_promotion() {
    let gone = |ensemble: &mut Ensemble| {
        ensemble.hosts[0].sigstop();
        ensemble.wait_for(0, "host is down: it does not answer in time");
    };
    crash(FOUND_OUT, UNDER_WAY, gone, |ensemble| ensemble.hosts[0].sigcont());
}

#[test]
fn the_primary_is_killed_or_stopped_and_what_was_under_way_runs_again_unseen() {
    let back = |ensemble: &mut Ensemble| ensemble.hosts[0].start_again().unwrap();
    crash(RUNS_AGAIN, NOTHING, |ensemble| ensemble.hosts[0].kill9().unwrap(), back);
    crash(RUNS_AGAIN, NOTHING, |ensemble| ensemble.hosts[0].stop(StopMode::Fast).unwrap(), back);
}

#[test]
fn a_standby_is_lost_and_comes_back() {
    let mut ensemble = ensemble(UNKNOWN);
    let mut crowd = crowd(&ensemble);
    ensemble.hosts[2].kill9().unwrap();
    ensemble.wait_for(2, "host is down");
    crowd.wait_for_writes();
    ensemble.hosts[2].start_again().unwrap();
    ensemble.wait_until_up(2);
    crowd.wait_for_writes();
    crowd.check_idle();
    check(&ensemble, crowd, 0, NOTHING, None);
}

#[test]
fn both_standbys_are_lost_and_come_back() {
    let mut ensemble = ensemble(UNKNOWN);
    let mut crowd = crowd(&ensemble);
    for host in [1, 2] {
        ensemble.hosts[host].kill9().unwrap();
    }
    for host in [1, 2] {
        ensemble.wait_for(host, "host is down");
    }
    // Commits wait for a standby, and reads are at the primary.
    assert_eq!(ensemble.client().value(WHERE), "primary");
    for host in [1, 2] {
        ensemble.hosts[host].start_again().unwrap();
    }
    for host in [1, 2] {
        ensemble.wait_until_up(host);
    }
    crowd.wait_for_writes();
    crowd.check_idle();
    check(&ensemble, crowd, 0, NOTHING, None);
}

#[test]
fn hawser_is_killed_in_the_middle_of_a_failover() {
    let mut ensemble = ensemble(FOUND_OUT);
    let mut crowd = crowd(&ensemble);
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hawser.wait_for_log("no primary");
    crowd.see_off();
    ensemble.restart_hawser();
    crowd.welcome();
    // The new one has seen no primary yet.
    let primary = ensemble.take_over();
    let promoted = Instant::now();
    ensemble.hosts[0].start_again().unwrap();
    ensemble.wait_for(0, "host is fenced");
    crowd.wait_for_writes();
    let allowed = Allowed { losses: 1, ..UNDER_WAY };
    check(&ensemble, crowd, primary, allowed, Some(promoted));
}

/// A read that tells where it runs.
const WHERE: &str =
    "/* hawser: standby */ SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END";

/// A primary with one standby, from which one client reads.
fn read_ensemble(change: impl FnOnce(Config) -> Config) -> (Ensemble, Client) {
    let ensemble = Ensemble::new(1, |config| change(config.set("timeouts.hold", "\"1s\"")));
    let mut client = ensemble.client();
    wait_until("reads go to the standby", || client.value(WHERE) == "standby");
    (ensemble, client)
}

#[test]
fn standbys_do_not_grow_too_old_to_be_read_while_there_is_no_primary() {
    let (mut ensemble, mut client) = read_ensemble(|config| config.set("routing.max_lag", "\"1s\""));
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hawser.wait_for_log("no primary");
    let lost = Instant::now();
    while lost.elapsed() < Duration::from_secs(3) {
        assert_eq!(client.value(WHERE), "standby");
    }
}

#[test]
fn a_host_that_was_promoted_and_takes_no_writes_yet_is_read() {
    let (mut ensemble, mut client) = read_ensemble(|config| config);
    let next = &ensemble.hosts[1];
    next.psql("ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
    next.psql("SELECT pg_reload_conf()").unwrap();
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hosts[1].promote().unwrap();
    ensemble.hawser.wait_for_log("takes no writes yet");
    for _ in 0..20 {
        assert_eq!(client.value(WHERE), "primary");
    }
    assert_eq!(client.error("CREATE TABLE t (i int)").sqlstate(), "57P03");
}

#[test]
fn a_read_that_has_tried_every_host_in_vain_is_served_by_a_standby_that_comes_back() {
    // No host is given up, so that the read goes from one to the other.
    let mut ensemble =
        Ensemble::new(2, |config| config.set("timeouts.hold", "\"1m\"").set("health.failures", 1000));
    let mut client = ensemble.client();
    wait_until("reads go to a standby", || client.value(WHERE) == "standby");
    for host in [1, 2, 0] {
        ensemble.hosts[host].kill9().unwrap();
    }
    client.set_patience(Duration::from_secs(60));
    client.send(&query(WHERE));
    client.expect_silence(Duration::from_millis(300));
    ensemble.hosts[1].start_again().unwrap();
    let said = client.read_until_ready();
    let row = said.iter().find(|message| message.tag == b'D').map(Backend::first);
    assert_eq!(row.as_deref(), Some("standby"), "{said:?}");
}

#[test]
fn a_read_that_waits_for_a_primary_is_served_by_a_standby_that_comes_back() {
    let change = |config: Config| config.set("timeouts.hold", "\"1m\"").set("routing.max_lag", "\"0\"");
    let (mut ensemble, mut client) = read_ensemble(change);
    client.set_patience(Duration::from_secs(60));
    ensemble.hosts[1].kill9().unwrap();
    ensemble.wait_for(1, "host is down");
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hawser.wait_for_log("no primary");
    client.send(&query(WHERE));
    ensemble.hosts[1].start_again().unwrap();
    let said = client.read_until_ready();
    let row = said.iter().find(|message| message.tag == b'D').map(Backend::first);
    assert_eq!(row.as_deref(), Some("standby"), "{said:?}");
}
