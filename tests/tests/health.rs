//! `hawser health` tells by its exit status whether a Hawser serves.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

use hawser::scratch::free_port;
use hawser_tests::{Ensemble, binary, wait_until};

/// Whether it succeeds, and what it says.
fn health(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary())
        .arg("health")
        .args(arguments)
        .env_remove("HAWSER_LISTEN")
        .env_remove("PGPASSWORD")
        .output()
        .expect("hawser health runs");
    let words = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&words).into_owned())
}

#[test]
fn a_hawser_that_greets_clients_is_well_and_a_port_without_one_is_not() {
    let ensemble = Ensemble::new(1, |config| config);
    let place = format!("postgres://127.0.0.1:{}", ensemble.hawser.port());
    let (well, words) = health(&[&place]);
    assert!(well, "{words}");
    let (well, words) = health(&[&place, "--primary"]);
    assert!(!well && words.contains("names no user"), "{words}");
    let nobody = format!("postgres://127.0.0.1:{}", free_port().expect("a free port"));
    let (well, words) = health(&[&nobody]);
    assert!(!well && words.contains("nobody greets clients"), "{words}");
}

#[test]
fn whether_writes_reach_a_primary_is_told_too() {
    let mut ensemble = Ensemble::new(1, |config| config);
    let account = &ensemble.account;
    let place = format!(
        "postgres://{}:{}@127.0.0.1:{}/{}",
        account.user,
        account.password,
        ensemble.hawser.port(),
        account.database
    );
    let (well, words) = health(&[&place]);
    assert!(well, "{words}");
    let (well, words) = health(&[&place, "--primary"]);
    assert!(well, "{words}");
    let wrong = place.replace(&account.password, "wrong");
    let (well, words) = health(&[&wrong]);
    assert!(!well && words.contains("28P01") && !words.contains("wrong@"), "{words}");
    ensemble.hosts[0].kill9().expect("it is killed");
    ensemble.hawser.wait_for_log("no primary: host 0 is down");
    let (well, words) = health(&[&place, "--primary", "--timeout", "300ms"]);
    assert!(!well, "{words}");
    ensemble.hosts[1].promote().expect("it is promoted");
    wait_until("writes reach the new primary", || health(&[&place, "--primary"]).0);
}
