//! Hawser beside Patroni, which decides who the primary is.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::process::Command;
use std::time::Instant;

use hawser_tests::crowd::{self, Allowed, Crowd, NOTHING, TABLE, UNDER_WAY};
use hawser_tests::raw::Client;
use hawser_tests::{Account, Hawser, Patroni, wait_long_until, wait_until};

#[test]
fn nodes_are_found_and_the_leader_is_followed_through_a_switchover_and_a_crash() {
    if !Patroni::is_there() {
        eprintln!("Patroni is not installed here: nothing is tested");
        return;
    }
    let (mut tool, hawser) = start();
    let failovers = || hawser.log().matches("failover:").count();

    // One that is scheduled is known before it begins, so that no client meets it.
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    let soon =
        Command::new("date").args(["-u", "-d", "+6 seconds", "+%FT%T+00:00"]).output().expect("a date");
    tool.schedule_switchover(String::from_utf8_lossy(&soon.stdout).trim());
    wait_long_until("the switchover is over", || failovers() >= 1);
    hawser.wait_for_log("failover: announced 0 ms");
    crowd.wait_for_writes();
    crowd.check_idle();
    finish(&tool, crowd, "scheduled switchover", NOTHING);

    // One that is not has to be told, and the hold ends with it.
    tool.wait_until_settled();
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    let console = Account { database: "hawser".to_owned(), ..Account::postgres() };
    Client::login(hawser.port(), &console).execute("HOLD");
    tool.switch_over();
    wait_long_until("the switchover is over", || failovers() >= 2);
    crowd.wait_for_writes();
    crowd.check_idle();
    finish(&tool, crowd, "switchover that was held for", NOTHING);

    // One of which nobody is told ends transactions, which run again.
    tool.wait_until_settled();
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    tool.switch_over();
    wait_long_until("the switchover is over", || failovers() >= 3);
    crowd.wait_for_writes();
    crowd.check_idle();
    finish(&tool, crowd, "switchover without a word", NOTHING);

    tool.wait_until_settled();
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    let leader = tool.leader().expect("a leader");
    tool.kill9(leader);
    wait_long_until("the failover is over", || failovers() >= 4);
    crowd.wait_for_writes();
    crowd.check_idle();
    finish(&tool, crowd, "crash", NOTHING);
}

#[test]
#[ignore = "it takes a minute and a half"]
fn a_leader_that_lives_on_without_its_patroni_is_fenced() {
    let (mut tool, hawser) = start();
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    let old = tool.leader().expect("a leader");
    tool.kill_daemon(old);
    wait_long_until("the old leader is fenced", || hawser.log().contains("host is fenced"));
    let promoted = Instant::now();
    crowd.wait_for_writes();
    crowd.check_idle();
    let diaries = crowd.finish();
    println!("two primaries: {}", crowd::figures(&diaries));
    let primary = (0..3).find(|node| *node != old && tool.is_standby(*node) == Some(false));
    let found = |node| crowd::found(&tool.psql(node, crowd::FIND));
    crowd::check(&diaries, &found(primary.expect("a leader")), UNDER_WAY);
    crowd::check_fenced(&diaries, &found(old), promoted);
}

/// Three nodes, all known to Hawser, and the table of the crowd.
fn start() -> (Patroni, Hawser) {
    let tool = Patroni::start(3);
    let config = tool
        .config()
        .set("commit_outcome", "\"resolve-all\"")
        .set("lost_transactions", "\"replay\"")
        .set("timeouts.hold", "\"1m\"")
        .set("admin.users", "[\"postgres\"]");
    let hawser = Hawser::start(&config);
    for port in tool.nodes() {
        let address = format!("host=\"127.0.0.1:{port}\"");
        wait_until("every node is known", || {
            hawser.log().lines().any(|line| line.contains("host is up") && line.contains(&address))
        });
    }
    tool.wait_until_settled();
    tool.psql(tool.leader().expect("a leader"), TABLE);
    (tool, hawser)
}

/// The crowd goes home, and what it was told is held against what is at the leader.
fn finish(tool: &Patroni, crowd: Crowd, what: &str, allowed: Allowed<'_>) {
    let diaries = crowd.finish();
    println!("{what}: {}", crowd::figures(&diaries));
    let leader = tool.leader().expect("a leader");
    crowd::check(&diaries, &crowd::found(&tool.psql(leader, crowd::FIND)), allowed);
    tool.psql(leader, "TRUNCATE written");
}
