//! Hawser beside pg_auto_failover, which decides who the primary is.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use hawser_tests::crowd::{self, Crowd, NOTHING, TABLE, UNDER_WAY};
use hawser_tests::{Account, AutoFailover, Hawser, wait_long_until, wait_until};

fn said(hawser: &Hawser, words: &str, port: u16) -> bool {
    let address = format!("127.0.0.1:{port}");
    hawser.log().lines().any(|line| line.contains(words) && line.contains(&address))
}

#[test]
fn nodes_come_and_go_and_a_switchover_costs_no_client_an_error() {
    if !AutoFailover::is_there() {
        eprintln!("pg_auto_failover is not installed here: nothing is tested");
        return;
    }
    let mut tool = AutoFailover::start(2);
    let config = tool.config().set("commit_outcome", "\"resolve-all\"").set("timeouts.hold", "\"1m\"");
    let hawser = Hawser::start(&config);
    // The settings name the first node only.
    wait_until("the primary is known", || said(&hawser, "timeline=", tool.nodes()[0]));
    wait_until("the second node is known", || said(&hawser, "host is up", tool.nodes()[1]));
    tool.add_node();
    wait_until("the third node is known", || said(&hawser, "host is up", tool.nodes()[2]));

    tool.psql(0, TABLE);
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    tool.switch_over();
    hawser.wait_for_log("failover: announced 0 ms");
    crowd.wait_for_writes();
    crowd.check_idle();
    let diaries = crowd.finish();
    println!("switchover: {}", crowd::figures(&diaries));
    let next = tool.primary();
    assert_ne!(next, 0);
    crowd::check(&diaries, &crowd::found(&tool.psql(next, crowd::FIND)), NOTHING);

    // Whoever is the primary now dies, and so does the monitor once the next one is there.
    tool.psql(next, "TRUNCATE written");
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    let failovers = || hawser.log().matches("failover:").count();
    let before = failovers();
    tool.kill9(next);
    wait_long_until("the next primary is known", || failovers() > before);
    tool.kill_monitor();
    hawser.wait_for_log("no news, what was said last holds: monitor");
    crowd.wait_for_writes();
    crowd.check_idle();
    let diaries = crowd.finish();
    println!("crash: {}", crowd::figures(&diaries));
    crowd::check(&diaries, &crowd::found(&tool.psql(tool.primary(), crowd::FIND)), UNDER_WAY);
}
