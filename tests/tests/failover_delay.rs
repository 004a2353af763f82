//! How long Hawser takes to let work go on after a promotion: the first write through it, minus the first write that the
//! new primary takes directly. And how long the longest read takes from before the crash until then, through Hawser and
//! directly at the standby that stays one.
//!
//! A measurement, not a check: `HAWSER_TEST_BINARY=target/release/hawser cargo test -p hawser-tests --test failover_delay
//! -- --ignored --nocapture`, and `HAWSER_CRASHES=10` says how often.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hawser_tests::raw::Client;
use hawser_tests::raw::messages::query;
use hawser_tests::{Ensemble, wait_until};

/// Tries until a write is taken, and returns when that was.
fn first_write(client: &mut Client, number: i32) -> Instant {
    loop {
        let said = client.query(&format!("INSERT INTO t VALUES ({number})"));
        if said.iter().all(|message| message.tag != b'E') {
            return Instant::now();
        }
    }
}

/// Reads from a standby until it is over, and returns how long the longest read took.
fn longest_read(client: &mut Client, over: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let since = Instant::now();
        client.value("/* hawser: standby */ SELECT 1");
        longest = longest.max(since.elapsed());
    }
    longest
}

/// A client whose reads have been to every standby, as they have where a cluster has run for a while.
fn reader(ensemble: &Ensemble) -> Client {
    let mut reader = ensemble.client();
    let mut seen = BTreeSet::new();
    wait_until("every standby is read", || {
        seen.insert(reader.value("/* hawser: standby */ SELECT inet_server_port()"));
        ensemble.hosts[1..].iter().all(|host| seen.contains(&host.port().to_string()))
    });
    reader
}

/// One crash, in milliseconds: what Hawser adds, below zero if its client was first; the longest read through Hawser, and
/// the longest directly.
fn crash() -> [f64; 3] {
    let mut ensemble = Ensemble::with_conf(2, &["synchronous_commit = on"], |config| config);
    let mut through = ensemble.client();
    through.execute("CREATE TABLE t (i int)");
    ensemble.wait_for_replay();
    through.set_patience(Duration::from_secs(60));
    let mut direct = Client::login(ensemble.hosts[1].port(), &ensemble.account);
    let over = Arc::new(AtomicBool::new(false));
    let [reads, direct_reads] =
        [reader(&ensemble), Client::login(ensemble.hosts[2].port(), &ensemble.account)].map(|mut reader| {
            let told = over.clone();
            std::thread::spawn(move || longest_read(&mut reader, &told))
        });
    ensemble.hosts[0].kill9().expect("it is killed");
    ensemble.hawser.wait_for_log("no primary: host 0 is down");
    let held = std::thread::spawn(move || {
        through.send(&query("INSERT INTO t VALUES (1)"));
        let said = through.read_until_ready();
        assert!(said.iter().all(|message| message.tag != b'E'), "{said:?}");
        Instant::now()
    });
    let taken = std::thread::spawn(move || first_write(&mut direct, 2));
    ensemble.hosts[1].promote().expect("it is promoted");
    let (held, taken) = (held.join().expect("it is written"), taken.join().expect("it is written"));
    over.store(true, Ordering::Relaxed);
    let [read, direct_read] = [reads, direct_reads].map(|reads| reads.join().expect("it reads"));
    let milliseconds = |span: Duration| span.as_secs_f64() * 1000.0;
    let delay = if held >= taken { milliseconds(held - taken) } else { -milliseconds(taken - held) };
    [delay, milliseconds(read), milliseconds(direct_read)]
}

/// All of them, in order, and the median.
fn told(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let words: Vec<String> = figures.iter().map(|figure| format!("{figure:.1}")).collect();
    format!("{} (median {:.1})", words.join(" "), figures[figures.len() / 2])
}

#[test]
#[ignore = "it measures, and takes a minute"]
fn work_goes_on_soon_after_a_promotion() {
    let crashes = std::env::var("HAWSER_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let crashes: Vec<[f64; 3]> = (0..crashes).map(|_| crash()).collect();
    let words = ["that Hawser adds", "of the longest read", "of the longest read directly at a standby"];
    for (place, words) in words.iter().enumerate() {
        println!("milliseconds {words}: {}", told(crashes.iter().map(|figures| figures[place]).collect()));
    }
}
