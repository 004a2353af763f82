//! Idle clients cost next to nothing.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use hawser_tests::raw::Client;
use hawser_tests::{Site, raise_file_limit};

const CLIENTS: usize = 5000;

/// Resident bytes of Hawser for each of 5,000 clients that have run a query and are idle.
fn resident_per_client(site: &Site, connect: impl Fn() -> Client + Sync) -> u64 {
    let limit = raise_file_limit();
    assert!(limit > 2 * CLIENTS as u64, "the system allows only {limit} open files");
    // What the first clients cost is not theirs alone.
    let mut first: Vec<Client> = (0..50).map(|_| connect()).collect();
    first.iter_mut().for_each(|client| assert_eq!(client.value("SELECT 1"), "1"));
    let before = site.hawser().usage().resident;
    let clients: Vec<Client> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    (0..CLIENTS / 2)
                        .map(|_| {
                            let mut client = connect();
                            assert_eq!(client.value("SELECT 1"), "1");
                            client
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let after = site.hawser().usage().resident;
    drop(clients);
    let each = after.saturating_sub(before) / CLIENTS as u64;
    println!("{each} bytes of resident memory for each idle client");
    each
}

#[test]
fn an_idle_client_in_the_clear_costs_at_most_4_kib() {
    let site = Site::with(|config| config.set("pool.size", 10).set("log.connections", false));
    let each = resident_per_client(&site, || site.client());
    assert!(each <= 4096, "{each} bytes");
}

#[test]
fn an_idle_client_under_tls_costs_at_most_16_kib() {
    let site = Site::with(|config| config.set("pool.size", 10).set("log.connections", false));
    let each = resident_per_client(&site, || site.client_tls());
    assert!(each <= 16384, "{each} bytes");
}
