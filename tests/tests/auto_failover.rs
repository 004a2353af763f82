//! Hawser beside pg_auto_failover, which decides who the primary is.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use hawser_tests::crowd::{self, Crowd, NOTHING, TABLE};
use hawser_tests::{Account, AutoFailover, Doors, Hawser, wait_long_until, wait_until};

fn said(hawser: &Hawser, words: &str, port: u16) -> bool {
    let address = format!("127.0.0.1:{port}");
    hawser.log().lines().any(|line| line.contains(words) && line.contains(&address))
}

#[test]
fn nodes_come_and_go_and_neither_a_switchover_nor_a_crash_costs_a_client_an_error() {
    if !AutoFailover::is_there() {
        eprintln!("pg_auto_failover is not installed here: nothing is tested");
        return;
    }
    let mut tool = AutoFailover::start(2);
    let config = tool
        .config()
        .set("commit_outcome", "\"resolve-all\"")
        .set("lost_transactions", "\"replay\"")
        .set("timeouts.hold", "\"1m\"");
    let hawser = Hawser::start(&config);
    // The settings name the first node only.
    wait_until("the primary is known", || said(&hawser, "timeline=", tool.nodes()[0]));
    wait_until("the second node is known", || said(&hawser, "host is up", tool.nodes()[1]));
    tool.add_node();
    wait_until("the third node is known", || said(&hawser, "host is up", tool.nodes()[2]));

    tool.psql(0, TABLE);
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    let doors = Doors::watch(tool.nodes());
    tool.switch_over();
    hawser.wait_for_log("failover: announced 0 ms");
    crowd.wait_for_writes();
    crowd.check_idle();
    let diaries = crowd.finish();
    let closed = doors.longest_closed().as_millis();
    println!("switchover: {}; no host let anybody in for {closed} ms", crowd::figures(&diaries));
    let next = tool.primary();
    assert_ne!(next, 0);
    crowd::check(&diaries, &crowd::found(&tool.psql(next, crowd::FIND)), NOTHING);

    // Whoever is the primary now dies, and so does the monitor once the next one is there.
    tool.psql(next, "TRUNCATE written");
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    let doors = Doors::watch(tool.nodes());
    let failovers = || hawser.log().matches("failover:").count();
    let before = failovers();
    tool.kill9(next);
    wait_long_until("the next primary is known", || failovers() > before);
    tool.kill_monitor();
    hawser.wait_for_log("no news, what was said last holds: monitor");
    crowd.wait_for_writes();
    crowd.check_idle();
    let diaries = crowd.finish();
    let closed = doors.longest_closed().as_millis();
    println!("crash: {}; no host let anybody in for {closed} ms", crowd::figures(&diaries));
    crowd::check(&diaries, &crowd::found(&tool.psql(tool.primary(), crowd::FIND)), NOTHING);
}
