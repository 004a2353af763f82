//! Hawser beside pg_auto_failover, which decides who the primary is.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

use hawser_tests::{AutoFailover, Hawser, Writer, wait_until};

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
    let hawser = Hawser::start(&tool.config());
    // The settings name the first node only.
    wait_until("the primary is known", || said(&hawser, "timeline=", tool.nodes()[0]));
    wait_until("the second node is known", || said(&hawser, "host is up", tool.nodes()[1]));
    tool.add_node();
    wait_until("the third node is known", || said(&hawser, "host is up", tool.nodes()[2]));

    tool.psql(0, "CREATE TABLE written (n int)");
    let writer = Writer::start(&hawser);
    wait_until("rows are written", || tool.psql(0, "SELECT EXISTS (SELECT FROM written)") == "t");
    tool.switch_over();
    hawser.wait_for_log("failover: announced 0 ms");
    let (rows, errors) = writer.finish();
    assert_eq!(errors, "", "{}", hawser.log());

    // Whoever is the primary now dies, and so does the monitor once the next one is there.
    let primary =
        (0..3).find(|node| tool.psql(*node, "SELECT NOT pg_is_in_recovery()") == "t").expect("a primary");
    assert_eq!(
        tool.psql(primary, "SELECT count(*), count(DISTINCT n) FROM written"),
        format!("{rows}|{rows}")
    );
    let before = hawser.log().matches("failover:").count();
    tool.kill9(primary);
    wait_until("the next primary is known", || hawser.log().matches("failover:").count() > before);
    tool.kill_monitor();
    hawser.wait_for_log("no news, what was said last holds: monitor");
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", hawser.port());
    let output = Command::new("psql").args([&url, "-AtXqc", "INSERT INTO written VALUES (0)"]).output();
    let output = output.expect("psql");
    assert!(output.status.success(), "{output:?}");
}
