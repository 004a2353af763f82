//! How long Hawser takes to let work go on after a promotion: the first write through it, minus the first write that the
//! new primary takes directly.
//!
//! A measurement, not a check: `cargo test -p hawser-tests --test failover_delay --release -- --ignored --nocapture`, and
//! `HAWSER_CRASHES=10` says how often.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::{Duration, Instant};

use hawser_tests::Ensemble;
use hawser_tests::raw::Client;
use hawser_tests::raw::messages::query;

/// Tries until a write is taken, and returns when that was.
fn first_write(client: &mut Client, number: i32) -> Instant {
    loop {
        let said = client.query(&format!("INSERT INTO t VALUES ({number})"));
        if said.iter().all(|message| message.tag != b'E') {
            return Instant::now();
        }
    }
}

/// One crash: what Hawser adds, in milliseconds; below zero if its client was first.
fn crash() -> f64 {
    let mut ensemble = Ensemble::with_conf(2, &["synchronous_commit = on"], |config| config);
    let mut through = ensemble.client();
    through.execute("CREATE TABLE t (i int)");
    ensemble.wait_for_replay();
    through.set_patience(Duration::from_secs(60));
    let mut direct = Client::login(ensemble.hosts[1].port(), &ensemble.account);
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
    let milliseconds = |span: Duration| span.as_secs_f64() * 1000.0;
    if held >= taken { milliseconds(held - taken) } else { -milliseconds(taken - held) }
}

#[test]
#[ignore = "it measures, and takes a minute"]
fn work_goes_on_soon_after_a_promotion() {
    let crashes = std::env::var("HAWSER_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut delays: Vec<f64> = (0..crashes).map(|_| crash()).collect();
    delays.sort_by(f64::total_cmp);
    let words: Vec<String> = delays.iter().map(|delay| format!("{delay:.1}")).collect();
    println!("milliseconds that Hawser adds: {}", words.join(" "));
    println!("median {:.1}, worst {:.1}", delays[delays.len() / 2], delays[delays.len() - 1]);
}
