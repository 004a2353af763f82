//! Clients are killed at any byte and servers are terminated: every reply that arrives is the one that was asked for, and
//! nothing is lost.
//!
//! Eight seconds by default, `HAWSER_CHAOS_SECONDS=60` for the long run.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hawser_tests::raw::messages::{self, copy_data, copy_done, execute, extended, flush, parse, query, sync};
use hawser_tests::raw::{Backend, Client, TlsOptions};
use hawser_tests::{Config, Site, cluster, is_direct, wait_until};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

const CLIENTS: u64 = 200;
const POOL: usize = 20;

fn duration() -> Duration {
    let seconds = std::env::var("HAWSER_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    killed: AtomicU64,
    over: AtomicBool,
}

#[derive(Debug)]
/// One way to use a connection: what is sent, and the markers that must come back in this order.
struct Deed {
    bytes: Vec<u8>,
    markers: Vec<String>,
    /// ReadyForQuery that must come.
    ready: usize,
}

fn deed(random: &mut StdRng, marker: &str) -> Deed {
    let one = |number: usize| format!("{marker}.{number}");
    let select = |number: usize| query(&format!("SELECT '{}'", one(number)));
    let bound = |number: usize| extended("SELECT $1::text", &[Some(&one(number))]);
    match random.random_range(0..8) {
        0 => Deed { bytes: select(0), markers: vec![one(0)], ready: 1 },
        1 => Deed { bytes: [bound(0), sync()].concat(), markers: vec![one(0)], ready: 1 },
        2 => Deed {
            bytes: [query("BEGIN"), select(0), bound(1), sync(), query("COMMIT")].concat(),
            markers: vec![one(0), one(1)],
            ready: 4,
        },
        3 => Deed {
            bytes: (0..10).flat_map(|number| [bound(number), sync()].concat()).collect(),
            markers: (0..10).map(one).collect(),
            ready: 10,
        },
        4 => Deed {
            bytes: [
                query("COPY chaos FROM STDIN"),
                copy_data(format!("{marker}\n").as_bytes()),
                copy_done(),
                select(0),
            ]
            .concat(),
            markers: vec![one(0)],
            ready: 2,
        },
        5 => {
            // A statement with a name, as drivers have them; the same text for everybody.
            let name = format!("n{}", random.random_range(0..3));
            Deed {
                bytes: [
                    messages::close(b'S', &name),
                    parse(&name, "SELECT $1::text || '.0'"),
                    messages::bind("", &name, &[Some(marker)]),
                    execute("", 0),
                    sync(),
                ]
                .concat(),
                markers: vec![one(0)],
                ready: 1,
            }
        }
        6 => Deed {
            bytes: [
                bound(0),
                extended("SELECT 1 / (random() * 0)::int", &[]),
                bound(1),
                sync(),
                bound(2),
                sync(),
            ]
            .concat(),
            markers: vec![one(0), one(2)],
            ready: 2,
        },
        _ => Deed {
            bytes: [bound(0), flush(), bound(1), sync()].concat(),
            markers: vec![one(0), one(1)],
            ready: 1,
        },
    }
}

/// Lives, dies and comes back until it is over.
fn live(site: &Site, who: u64, tally: &Tally) {
    let mut random = StdRng::seed_from_u64(who);
    let mut round = 0_u64;
    'life: while !tally.over.load(Ordering::Relaxed) {
        let Some(mut client) = connect(site, who) else {
            tally.failed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        loop {
            if tally.over.load(Ordering::Relaxed) {
                return;
            }
            round += 1;
            let marker = format!("{who}/{round}");
            let deed = deed(&mut random, &marker);
            match random.random_range(0..12) {
                // Dies at some byte of what it says.
                0 => {
                    let cut = random.random_range(0..deed.bytes.len());
                    let _ = client.try_send(&deed.bytes[..cut]);
                    tally.killed.fetch_add(1, Ordering::Relaxed);
                    continue 'life;
                }
                // Dies after it has said everything and heard a little.
                1 => {
                    let _ = client.try_send(&deed.bytes);
                    for _ in 0..random.random_range(0..4) {
                        let _ = client.try_read();
                    }
                    tally.killed.fetch_add(1, Ordering::Relaxed);
                    continue 'life;
                }
                // Cancels what may or may not run.
                2 => {
                    let _ = client.try_send(&deed.bytes);
                    if let Some(key) = &client.key {
                        let mut other = Client::connect(site.port);
                        let _ = other.try_send(&messages::cancel(key.process, &key.secret));
                        let _ = other.try_read();
                    }
                }
                _ => {
                    if client.try_send(&deed.bytes).is_err() {
                        continue 'life;
                    }
                }
            }
            if !listen(&mut client, &deed, tally) {
                continue 'life;
            }
        }
    }
}

fn connect(site: &Site, who: u64) -> Option<Client> {
    let mut client = if who.is_multiple_of(5) {
        Client::connect_tls(site.port, &TlsOptions::of(cluster()))
    } else {
        Client::connect(site.port)
    };
    client.try_login(&site.account, &[]).ok()?;
    client.set_patience(Duration::from_secs(30));
    Some(client)
}

/// Hears the answers out. False when the connection ended.
fn listen(client: &mut Client, deed: &Deed, tally: &Tally) -> bool {
    let mut markers = Vec::new();
    let mut ready = 0;
    let mut errors: Vec<Backend> = Vec::new();
    while ready < deed.ready {
        match client.try_read() {
            Ok(message) => match message.tag {
                b'D' => markers.push(message.first()),
                b'Z' => ready += 1,
                b'E' => {
                    // A statement that failed inside BEGIN leaves a transaction to be ended; this deed is over then.
                    errors.push(message);
                }
                _ => {}
            },
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock,
                    "no answer in 30 s to {}, {markers:?}, {ready}, {errors:?}",
                    String::from_utf8_lossy(&deed.bytes)
                );
                in_order(&markers, &deed.markers);
                tally.failed.fetch_add(1, Ordering::Relaxed);
                return false;
            }
        }
    }
    in_order(&markers, &deed.markers);
    tally.answered.fetch_add(markers.len() as u64, Ordering::Relaxed);
    if !errors.is_empty() {
        // Whatever the state is, the next deed begins outside a transaction.
        return client.try_send(&query("ROLLBACK")).is_ok() && until_ready(client);
    }
    assert_eq!(markers, deed.markers);
    true
}

fn until_ready(client: &mut Client) -> bool {
    loop {
        match client.try_read() {
            Ok(message) if message.tag == b'Z' => return true,
            Ok(message) => assert_ne!(message.tag, b'D', "a row that nobody asked for: {message:?}"),
            Err(_) => return false,
        }
    }
}

/// What came is what was asked for, in that order, though some may be missing.
fn in_order(came: &[String], asked: &[String]) {
    let mut rest = asked.iter();
    for marker in came {
        assert!(rest.any(|wanted| wanted == marker), "{came:?} came, {asked:?} was asked for");
    }
}

#[test]
fn every_reply_is_the_one_that_was_asked_for_and_nothing_is_lost() {
    let site = Site::with(chaos);
    survive(&site);
}

#[test]
fn the_same_is_true_of_sessions_that_move_to_another_worker_after_every_transaction() {
    if is_direct() {
        return;
    }
    let site = Site::with(|config| chaos(config).set("workers", 3).set("balance", "\"roam\""));
    survive(&site);
}

fn chaos(config: Config) -> Config {
    config
        .set("pool.size", POOL)
        .set("log.level", "\"error\"")
        .set("log.connections", false)
        .set("log.disconnections", false)
        .set("pool.server_login_retry", "\"100ms\"")
}

fn survive(site: &Site) {
    site.client().execute("CREATE UNLOGGED TABLE chaos (marker text)");
    let before = (!is_direct()).then(|| site.hawser().usage().files);
    let tally = Tally::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..if is_direct() { CLIENTS / 2 } else { CLIENTS })
            .map(|who| {
                scope.spawn({
                    let tally = &tally;
                    move || live(site, who, tally)
                })
            })
            .collect();
        let end = Instant::now() + duration();
        while Instant::now() < end && clients.iter().all(|client| !client.is_finished()) {
            // A server connection is terminated four times a second.
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}' ORDER BY random() LIMIT 1",
                site.account.user
            );
            cluster().psql(&sql).unwrap();
            std::thread::sleep(Duration::from_millis(250));
        }
        tally.over.store(true, Ordering::Relaxed);
    });
    println!(
        "{} answers, {} clients killed, {} connections lost",
        tally.answered.load(Ordering::Relaxed),
        tally.killed.load(Ordering::Relaxed),
        tally.failed.load(Ordering::Relaxed)
    );
    assert!(tally.answered.load(Ordering::Relaxed) > 1000);
    assert!(tally.killed.load(Ordering::Relaxed) > 100);

    // Everything comes to rest: no server connection is busy, none is lost to the pool, no descriptor stays open.
    wait_until("the server is at rest", || site.server_connections().1 == 0);
    let Some(files) = before else { return };
    wait_until("descriptors are closed", || site.hawser().usage().files <= files + POOL + 4);
    let mut all: Vec<Client> = (0..POOL).map(|_| site.client()).collect();
    for client in &mut all {
        client.execute("BEGIN; SELECT 1");
    }
    assert_eq!(site.server_connections().0, POOL, "the whole pool can be used");
    for client in &mut all {
        client.execute("COMMIT");
    }
    site.others_are_well();
}
