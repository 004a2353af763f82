//! Hawser beside Patroni, which decides who the primary is.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

use hawser_tests::{Hawser, Patroni, Writer, wait_long_until, wait_until};

fn write(hawser: &Hawser, number: u32) {
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", hawser.port());
    let insert = format!("INSERT INTO written VALUES ({number})");
    let output = Command::new("psql").args([&url, "-AtXqc", &insert]).output().expect("psql");
    assert!(output.status.success(), "{output:?}\n{}", hawser.log());
}

#[test]
fn nodes_are_found_and_the_leader_is_followed_through_a_switchover_and_a_crash() {
    if !Patroni::is_there() {
        eprintln!("Patroni is not installed here: nothing is tested");
        return;
    }
    let mut tool = Patroni::start(3);
    let hawser = Hawser::start(&tool.config());
    for port in tool.nodes() {
        let address = format!("host=\"127.0.0.1:{port}\"");
        wait_until("every node is known", || {
            hawser.log().lines().any(|line| line.contains("host is up") && line.contains(&address))
        });
    }
    let leader = tool.leader().expect("a leader");
    tool.psql(leader, "CREATE TABLE written (n int)");
    write(&hawser, 1);
    let failovers = || hawser.log().matches("failover:").count();

    tool.switch_over();
    wait_long_until("the switchover is over", || failovers() == 1);
    write(&hawser, 2);

    // One that is scheduled is known before it begins, so that no client meets it.
    let writer = Writer::start(&hawser);
    let soon =
        Command::new("date").args(["-u", "-d", "+6 seconds", "+%FT%T+00:00"]).output().expect("a date");
    tool.schedule_switchover(String::from_utf8_lossy(&soon.stdout).trim());
    wait_long_until("the switchover is over", || failovers() == 2);
    hawser.wait_for_log("failover: announced 0 ms");
    let (rows, errors) = writer.finish();
    assert!(rows > 0);
    assert_eq!(errors, "", "{}", hawser.log());

    let leader = tool.leader().expect("a leader");
    let written = tool.psql(leader, "SELECT count(*) FROM written");
    assert_eq!(written, (rows + 2).to_string());

    // Replication is asynchronous here, so the crash may take the newest rows with it.
    tool.kill9(leader);
    wait_long_until("the failover is over", || failovers() == 3);
    write(&hawser, 2_000_000_000);
    let leader = tool.leader().expect("a leader");
    assert_eq!(tool.psql(leader, "SELECT count(*) FROM written WHERE n = 2000000000"), "1");
}
