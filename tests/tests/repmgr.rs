//! Hawser beside repmgr, whose daemons decide who the primary is. Hawser asks the servers only.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Instant;

use hawser_tests::crowd::{self, Crowd, NOTHING, TABLE};
use hawser_tests::{Account, Hawser, Repmgr, wait_long_until, wait_until};

#[test]
fn a_standby_that_repmgr_promotes_is_followed_and_the_old_primary_is_fenced() {
    if !Repmgr::is_there() {
        eprintln!("repmgr is not installed here: nothing is tested");
        return;
    }
    let mut tool = Repmgr::start(3);
    let config = tool
        .config()
        .set("commit_outcome", "\"resolve-all\"")
        .set("lost_transactions", "\"replay\"")
        .set("timeouts.hold", "\"1m\"");
    let hawser = Hawser::start(&config);
    hawser.wait_for_log("timeline=1");
    tool.psql(0, TABLE);
    let mut crowd = Crowd::start(hawser.port(), &Account::postgres());
    // Standbys have shown by then that they have what was written before the readers came.
    (0..5).for_each(|_| crowd.wait_for_writes());
    tool.kill9(0);
    wait_long_until("the failover is over", || hawser.log().contains("failover:"));
    let (promoted, next) = (Instant::now(), tool.wait_for_successor());
    crowd.wait_for_writes();
    tool.start_again(0);
    let old = format!("host=\"127.0.0.1:{}\"", tool.nodes()[0]);
    wait_until("the old primary is fenced", || {
        hawser.log().lines().any(|line| line.contains("host is fenced") && line.contains(&old))
    });
    crowd.wait_for_writes();
    crowd.check_idle();
    let diaries = crowd.finish();
    println!("crash: {}", crowd::figures(&diaries));
    let found = |node| crowd::found(&tool.psql(node, crowd::FIND));
    crowd::check(&diaries, &found(next), NOTHING);
    crowd::check_fenced(&diaries, &found(0), promoted);
}
