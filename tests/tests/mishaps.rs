//! A crowd of clients lives through everything that can happen to a cluster: the idle notice nothing, who reads is told
//! no error, and nothing that was acknowledged is lost, doubled, or taken by a host that was left behind.
//!
//! `HAWSER_CROWD=200` makes the idle ones that many.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Instant;

use hawser::scratch::StopMode;
use hawser_tests::crowd::{self, Allowed, Crowd, Found, NOTHING, TABLE, UNDER_WAY};
use hawser_tests::{Ensemble, wait_until};

/// A primary whose commits wait for one of two standbys.
fn ensemble(outcome: &str) -> Ensemble {
    let conf = ["wal_retrieve_retry_interval = 100ms", "synchronous_commit = local"];
    let ensemble =
        Ensemble::with_conf(2, &conf, |config| config.set("commit_outcome", format!("{outcome:?}")));
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
    outcome: &str,
    allowed: Allowed<'_>,
    gone: impl FnOnce(&mut Ensemble),
    back: impl FnOnce(&mut Ensemble),
) {
    let mut ensemble = ensemble(outcome);
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
    crash("resolve-all", UNDER_WAY, |ensemble| ensemble.hosts[0].kill9().unwrap(), back);
}

#[test]
fn the_primary_is_killed_and_only_what_was_under_way_is_in_doubt() {
    let in_doubt = Allowed { sqlstates: &["08006", "08007", "40001"], ..UNDER_WAY };
    let back = |ensemble: &mut Ensemble| ensemble.hosts[0].start_again().unwrap();
    crash("unknown", in_doubt, |ensemble| ensemble.hosts[0].kill9().unwrap(), back);
}

#[test]
fn the_primary_is_stopped_fast() {
    let back = |ensemble: &mut Ensemble| ensemble.hosts[0].start_again().unwrap();
    crash("resolve-all", UNDER_WAY, |ensemble| ensemble.hosts[0].stop(StopMode::Fast).unwrap(), back);
}

#[test]
fn the_primary_is_frozen_and_wakes_up_after_the_promotion() {
    let gone = |ensemble: &mut Ensemble| {
        ensemble.hosts[0].sigstop();
        ensemble.wait_for(0, "host is down: it does not answer in time");
    };
    crash("resolve-all", UNDER_WAY, gone, |ensemble| ensemble.hosts[0].sigcont());
}

#[test]
fn a_standby_is_lost_and_comes_back() {
    let mut ensemble = ensemble("unknown");
    let mut crowd = crowd(&ensemble);
    ensemble.hosts[2].kill9().unwrap();
    ensemble.wait_for(2, "host is down");
    crowd.wait_for_writes();
    let ups = ups(&ensemble);
    ensemble.hosts[2].start_again().unwrap();
    wait_until("the standby is up again", || self::ups(&ensemble) > ups);
    crowd.wait_for_writes();
    crowd.check_idle();
    check(&ensemble, crowd, 0, NOTHING, None);
}

#[test]
fn both_standbys_are_lost_and_come_back() {
    let mut ensemble = ensemble("unknown");
    let mut crowd = crowd(&ensemble);
    for host in [1, 2] {
        ensemble.hosts[host].kill9().unwrap();
    }
    for host in [1, 2] {
        ensemble.wait_for(host, "host is down");
    }
    // Commits wait for a standby, and reads are at the primary.
    let mut reader = ensemble.client();
    let port = ensemble.hosts[0].port().to_string();
    assert_eq!(reader.value("SELECT inet_server_port()"), port);
    let ups = ups(&ensemble);
    for host in [1, 2] {
        ensemble.hosts[host].start_again().unwrap();
    }
    wait_until("the standbys are up again", || self::ups(&ensemble) == ups + 2);
    crowd.wait_for_writes();
    crowd.check_idle();
    check(&ensemble, crowd, 0, NOTHING, None);
}

/// How often a host came up.
fn ups(ensemble: &Ensemble) -> usize {
    ensemble.hawser.log().matches("host is up").count()
}

#[test]
fn hawser_is_killed_in_the_middle_of_a_failover() {
    let mut ensemble = ensemble("resolve-all");
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
