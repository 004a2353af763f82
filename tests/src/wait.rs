//! Waiting for something to be so, without guessing how long it takes.

use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than a tool takes to give a node up and promote another one.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// Asks until it is so; fails after 20 seconds, naming what it waited for.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Asks until there is a value; fails after 20 seconds, naming what it waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait(what, PATIENCE, ask)
}

/// As [`wait_until`], for two minutes: tools take their time.
#[track_caller]
pub fn wait_long_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait(what, LONG_PATIENCE, || is_so().then_some(()));
}

#[track_caller]
fn wait<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = ask() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
