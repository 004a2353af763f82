//! Hostile input: a clear error or a closed connection, bounded memory, and other clients never wait.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use hawser_tests::raw::messages::{V3_0, bind, message, packet, parse, query, startup, sync};
use hawser_tests::raw::{Backend, Client, TlsOptions, tags};
use hawser_tests::{Account, Config, Site, cluster, raise_file_limit};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// The same bytes on every run.
const SEED: u64 = 20_260_228;

/// Somebody who minds her own business: she never waits for those who do not answer, read or finish.
struct Bystander<'a> {
    site: &'a Site,
    client: Client,
}

impl<'a> Bystander<'a> {
    fn of(site: &'a Site) -> Self {
        let mut client = site.client();
        assert_eq!(client.value("SELECT 1"), "1");
        Self { site, client }
    }

    #[track_caller]
    fn is_served(&mut self) {
        assert_eq!(self.client.value("SELECT 'served'"), "served");
    }

    /// She is served, and what the others left behind costs at most so much memory.
    #[track_caller]
    fn was_never_disturbed(mut self, memory_before: u64, most_more: u64) {
        self.is_served();
        let more = self.site.hawser().usage().resident.saturating_sub(memory_before);
        assert!(more < most_more, "{more} bytes more");
        self.site.others_are_well();
    }
}

const MIB: u64 = 1 << 20;
/// What a first byte of 22 is answered with: it begins TLS.
const TLS_ALERT: u8 = 21;

/// Sends these bytes as the first ones, and then nothing; what comes back until it is closed, and whether it was.
fn first_words(site: &Site, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut tcp = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = tcp.write_all(bytes);
    let _ = tcp.shutdown(std::net::Shutdown::Write);
    let mut back = Vec::new();
    let closed = match tcp.read_to_end(&mut back) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    (back, closed)
}

#[test]
fn a_first_packet_of_1_to_64_random_bytes_is_an_error_or_the_end() {
    let site = Site::new();
    let before = site.hawser().usage().resident;
    let mut bystander = Bystander::of(&site);
    let mut random = StdRng::seed_from_u64(SEED);
    for length in 1..=64 {
        for _ in 0..20 {
            let mut bytes = vec![0; length];
            random.fill(bytes.as_mut_slice());
            let (back, closed) = first_words(&site, &bytes);
            assert!(closed, "{bytes:?} is still connected");
            assert!(
                matches!(back.first(), None | Some(&(b'E' | b'S' | b'N' | TLS_ALERT))),
                "{bytes:?} gave {back:?}"
            );
        }
        bystander.is_served();
    }
    bystander.was_never_disturbed(before, 8 * MIB);
}

#[test]
fn a_first_packet_that_is_nearly_right_is_an_error_or_the_end() {
    let site = Site::new();
    let good = startup(V3_0, &[("user", &site.account.user), ("database", &site.account.database)]);
    let mut random = StdRng::seed_from_u64(SEED);
    for round in 0..600 {
        let mut bytes = good.clone();
        // The length stays right in most of them, so that the rest is looked at.
        let at = if round % 8 == 0 { random.random_range(0..4) } else { random.random_range(4..bytes.len()) };
        bytes[at] = random.random();
        let (_, closed) = first_words(&site, &bytes);
        assert!(closed, "{bytes:?} is still connected");
    }
    site.others_are_well();
}

#[test]
fn impossible_lengths_of_the_first_packet_are_refused_at_once() {
    let site = Site::new();
    let before = site.hawser().usage().resident;
    let bystander = Bystander::of(&site);
    for length in [0_u32, 3, 4, 7, 20_000, 1 << 20, i32::MAX as u32, i32::MAX as u32 + 1, u32::MAX] {
        let mut client = Client::connect(site.port);
        client.send(&[&length.to_be_bytes()[..], &V3_0.to_be_bytes()].concat());
        // Nothing more is sent: it must not wait for what was announced.
        client.set_patience(Duration::from_secs(5));
        let said = client.expect_closed();
        assert!(tags(&said).chars().all(|tag| tag == 'E'), "{length}: {said:?}");
    }
    bystander.was_never_disturbed(before, 4 * MIB);
}

#[test]
fn impossible_lengths_after_the_login_end_the_connection_or_pass_in_pieces() {
    let site = Site::new();
    let before = site.hawser().usage().resident;
    let mut bystander = Bystander::of(&site);
    let tags = [b'Q', b'P', b'B', b'E', b'D', b'C', b'S', b'H', b'X', b'd', b'c', b'f', b'F', b'p', b'?', 0];
    for tag in tags {
        for length in [0_u32, 3, i32::MAX as u32, u32::MAX] {
            let mut client = site.client();
            let _ = client.try_send(&[&[tag][..], &length.to_be_bytes(), b"some bytes"].concat());
            if length < 4 || length > i32::MAX as u32 {
                client.set_patience(Duration::from_secs(5));
                client.expect_closed();
            }
            drop(client);
            bystander.is_served();
        }
    }
    bystander.was_never_disturbed(before, 8 * MIB);
}

#[test]
fn messages_in_the_wrong_state_are_errors() {
    let site = Site::new();
    let mut bystander = Bystander::of(&site);
    // Before the login.
    for bytes in [query("SELECT 1"), sync(), message(b'p', b"secret\0"), message(b'X', b"")] {
        let (_, closed) = first_words(&site, &bytes);
        assert!(closed);
    }
    // COPY without a COPY is ignored, as PostgreSQL does; a password after the login is not.
    let mut client = site.client();
    client.send(
        &[message(b'd', b"data"), message(b'c', b""), message(b'f', b"no\0"), query("SELECT 1")].concat(),
    );
    client.expect("TDCZ");
    client.send(&message(b'p', b"secret\0"));
    let said = client.expect_closed();
    assert_eq!(
        said.iter().find(|message| message.tag == b'E').map(Backend::sqlstate).as_deref(),
        Some("08P01")
    );
    // Startup once more.
    let mut client = site.client();
    let _ = client.try_send(&startup(V3_0, &[("user", "x")]));
    client.set_patience(Duration::from_secs(5));
    client.expect_closed();
    bystander.is_served();
    site.others_are_well();
}

#[test]
fn a_bind_with_lying_counts_is_an_error_and_no_more() {
    let site = Site::new();
    let mut bystander = Bystander::of(&site);
    let body = |tail: &[u8]| message(b'B', &[b"\0s\0", tail].concat());
    let lies: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\xff\xff",
        b"\0\0\xff\xff\0\0\0\x01x",
        b"\0\0\0\x01\x7f\xff\xff\xffx\0\0",
        b"\0\0\0\x01\xff\xff\xff\xfex\0\0",
        b"\0\0\0\x01\0\0\0\x01",
        b"\0\0\0\x01\0\0\0\x01x\xff\xff",
        b"\0\x01\0\x07\0\x01\0\0\0\x01x\0\0",
    ];
    for lie in lies {
        let mut client = site.client();
        client.send(&[parse("s", "SELECT $1::text"), sync()].concat());
        client.expect("1Z");
        client.send(&[body(lie), sync()].concat());
        let mut said = Vec::new();
        while let Ok(message) = client.try_read() {
            said.push(message);
            if said.last().is_some_and(|message| message.tag == b'Z') {
                break;
            }
        }
        assert!(said.iter().any(|message| message.tag == b'E'), "{lie:?}: {said:?}");
        bystander.is_served();
    }
    // Strings that do not end.
    for bytes in
        [message(b'B', b"no end"), message(b'P', b"no end"), message(b'D', b"Sno end"), message(b'C', b"P")]
    {
        let mut client = site.client();
        let _ = client.try_send(&[bytes, sync()].concat());
        client.set_patience(Duration::from_secs(5));
        let mut failed = false;
        while let Ok(message) = client.try_read() {
            failed |= message.tag == b'E';
            if message.tag == b'Z' {
                break;
            }
        }
        assert!(failed);
    }
    site.others_are_well();
}

#[test]
fn random_messages_with_right_lengths_never_disturb_others() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let before = site.hawser().usage().resident;
    let mut bystander = Bystander::of(&site);
    let mut random = StdRng::seed_from_u64(SEED);
    let tags = b"PBDECSHQdcfFPBDECSHQp?\0\xff";
    for _ in 0..250 {
        let mut client = site.client();
        client.set_patience(Duration::from_secs(5));
        let mut bytes = Vec::new();
        for _ in 0..random.random_range(1..12) {
            let tag = tags[random.random_range(0..tags.len())];
            let mut body = vec![0; random.random_range(0..40)];
            random.fill(body.as_mut_slice());
            // Names that exist make it go further.
            if random.random_bool(0.5) {
                body.splice(0..0, *b"\0\0");
            }
            bytes.extend(message(tag, &body));
        }
        let _ = client.try_send(&bytes);
        drop(client);
        bystander.is_served();
    }
    bystander.was_never_disturbed(before, 8 * MIB);
}

#[test]
fn ten_thousand_half_open_logins_do_not_keep_anybody_out() {
    const HALF_OPEN: usize = 10_000;
    let limit = raise_file_limit();
    let count = HALF_OPEN.min(usize::try_from(limit / 2).unwrap() - 200);
    let site = Site::with(|config| {
        config.set("limits.max_logins", 20_000).set("timeouts.login", "\"60s\"").set("log.connections", false)
    });
    let before = site.hawser().usage().resident;
    let mut bystander = Bystander::of(&site);
    let half = startup(V3_0, &[("user", &site.account.user), ("database", &site.account.database)]);
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let mut tcp = TcpStream::connect(("127.0.0.1", site.port)).expect("a connection");
        match number % 3 {
            0 => {}
            1 => tcp.write_all(&half[..5]).unwrap(),
            _ => tcp.write_all(&half).unwrap(),
        }
        open.push(tcp);
        if number % 500 == 0 {
            bystander.is_served();
        }
    }
    assert_eq!(site.client().value("SELECT 'in'"), "in");
    bystander.was_never_disturbed(before, 8192 * count as u64 + 8 * MIB);
}

#[test]
fn half_open_logins_beyond_the_limit_do_not_keep_anybody_out_for_ever() {
    let site = Site::with(|config| {
        let config = config.set("listen.defer_accept", "\"0\"");
        config.set("limits.max_logins", 50).set("timeouts.login", "\"2s\"")
    });
    let open: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(("127.0.0.1", site.port)).expect("a connection")).collect();
    // They are closed when their time is out; then it is the turn of those behind them.
    let mut client = site.client();
    assert_eq!(client.value("SELECT 'in'"), "in");
    drop(open);
}

#[test]
fn who_connects_and_says_nothing_takes_nobodys_place() {
    let site = Site::with(|config| config.set("limits.max_client_connections", 5));
    let mut silent: Vec<Client> = (0..20).map(|_| Client::connect(site.port)).collect();
    assert_eq!(site.client().value("SELECT 'in'"), "in");
    // The kernel has kept it, and nothing is lost of what it says at last.
    let mut late = silent.pop().expect("one of them");
    late.send(&startup(V3_0, &[("user", &site.account.user), ("database", &site.account.database)]));
    late.expect("R");
}

#[test]
fn clients_that_never_read_hold_up_nobody_and_cost_little() {
    let site = Site::with(|config| config.set("pool.size", 12));
    let before = site.hawser().usage().resident;
    let mut bystander = Bystander::of(&site);
    let deaf: Vec<Client> = (0..10)
        .map(|_| {
            let mut client = site.client();
            client.send(&query("SELECT repeat('x', 10000) FROM generate_series(1, 100000)"));
            client
        })
        .collect();
    for _ in 0..300 {
        bystander.is_served();
    }
    assert_eq!(deaf.len(), 10);
    bystander.was_never_disturbed(before, 16 * MIB);
}

#[test]
fn a_client_that_sends_a_byte_at_a_time_is_served_and_holds_nothing() {
    let site = Site::new();
    let mut bystander = Bystander::of(&site);
    let mut slow = site.client();
    let bytes =
        [parse("", "SELECT 'slow'"), bind("", "", &[]), message(b'E', b"\0\0\0\0\0"), sync()].concat();
    let (last, first) = bytes.split_last().unwrap();
    // Up to the end of the Parse nothing is for the server: the only connection is free for others.
    for byte in &first[..10] {
        slow.send(&[*byte]);
        std::thread::sleep(Duration::from_millis(50));
        bystander.is_served();
    }
    slow.send(&first[10..]);
    slow.send(&[*last]);
    assert_eq!(slow.expect("12DCZ")[2].first(), "slow");
    // And one that sends a byte a second before its login gets no further than the login time-out.
    let mut tcp = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    tcp.write_all(&packet(V3_0, b"user")[..6]).unwrap();
    bystander.is_served();
    site.others_are_well();
}

#[test]
fn a_client_that_talks_on_after_its_tls_farewell_holds_up_nobody() {
    let site = Site::with(|config| config.set("workers", 1));
    let mut bystander = Bystander::of(&site);
    for bytes in [b"more".as_slice(), &[0x17, 3, 3, 0, 1, 0], &[0; 5000]] {
        let mut before_login = Client::connect_tls(site.port, &TlsOptions::of(cluster()));
        before_login.talk_after_tls_farewell(bytes);
        let mut client = site.client_tls();
        assert_eq!(client.value("SELECT 1"), "1");
        client.talk_after_tls_farewell(bytes);
        bystander.is_served();
    }
    site.others_are_well();
}

#[test]
fn a_flood_of_connections_that_are_dropped_at_once_is_survived() {
    let site = Site::new();
    let before = site.hawser().usage();
    let mut bystander = Bystander::of(&site);
    for number in 0..3000 {
        drop(TcpStream::connect(("127.0.0.1", site.port)));
        if number % 100 == 0 {
            bystander.is_served();
        }
    }
    hawser_tests::wait_until("their descriptors are closed", || {
        site.hawser().usage().files <= before.files + 20
    });
    bystander.was_never_disturbed(before.resident, 8 * MIB);
}

#[test]
fn very_many_statements_of_one_client_are_refused_at_the_limit() {
    let account = Account::new(cluster());
    let config = Config::new(cluster(), &account)
        .set("admin.users", format!("[{:?}]", account.user))
        .set("pool.size", 1)
        .set("limits.max_client_prepared_statements", 100)
        .set("pool.max_prepared_statements", 20);
    let operator = Account { database: "hawser".to_owned(), ..account.clone() };
    let site = Site::of(account, &config);
    let mut client = site.client();
    // More than a server connection keeps: the oldest make room, and come back when they are used.
    for number in 0..100 {
        client.send(&[parse(&format!("s{number}"), &format!("SELECT {number}")), sync()].concat());
        client.expect("1Z");
    }
    for number in [0, 50, 99, 1] {
        client.send(&[bind("", &format!("s{number}"), &[]), message(b'E', b"\0\0\0\0\0"), sync()].concat());
        assert_eq!(client.expect("2DCZ")[1].first(), number.to_string());
    }
    let mut console = Client::login(site.port, &operator);
    let held = console.value("SELECT prepared_statements FROM hawser.servers");
    assert_eq!(held, "20", "statements on the server");
    client.send(&[parse("one too many", "SELECT 1"), sync()].concat());
    let mut failed = false;
    while let Ok(message) = client.try_read() {
        failed |= message.tag == b'E';
        if message.tag == b'Z' {
            break;
        }
    }
    assert!(failed);
    site.others_are_well();
}
