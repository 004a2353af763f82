//! A message of 1 GiB passes in pieces: up, down and by COPY, with bounded memory and without a deadlock.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::Duration;

use hawser_tests::raw::Client;
use hawser_tests::raw::messages::{copy_done, describe, execute, message, parse, query, sync};
use hawser_tests::{Site, Usage};

const MIB: u64 = 1 << 20;
/// Just under the longest value that PostgreSQL takes (1 GiB less its header and the row's).
const HUGE: u64 = 1024 * MIB - 65536;
const MOST_MORE_MEMORY: u64 = 16 * MIB;

/// What Hawser's memory grows by at most while `work` goes on.
fn growth(site: &Site, work: impl FnOnce()) -> u64 {
    let pid = site.hawser().pid();
    Usage::reset_peak(pid);
    let before = site.hawser().usage().resident;
    work();
    site.hawser().usage().peak_resident.saturating_sub(before)
}

/// A Bind of the unnamed statement whose only parameter has `length` bytes, sent in pieces of a mebibyte.
fn send_bind_of(client: &mut Client, length: u64) {
    let mut head = vec![b'B'];
    // Portal, statement, one format (binary), one parameter with its length, no result format.
    let total = 4 + 1 + 1 + 2 + 2 + 2 + 4 + length + 2;
    head.extend_from_slice(&u32::try_from(total).unwrap().to_be_bytes());
    head.extend_from_slice(&[0, 0, 0, 1, 0, 1, 0, 1]);
    head.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    client.send(&head);
    let piece = vec![7_u8; MIB as usize];
    let mut left = length;
    while left > 0 {
        let count = left.min(piece.len() as u64);
        client.send(&piece[..count as usize]);
        left -= count;
    }
    client.send(&[0, 0]);
}

#[test]
fn a_value_of_a_gibibyte_goes_up() {
    let site = Site::new();
    let mut client = site.client();
    client.set_patience(Duration::from_secs(120));
    // Parse first, so that the type of the parameter is known to be bytea.
    client.send(&[parse("", "SELECT length($1::bytea)"), sync()].concat());
    client.expect("1Z");
    let growth = growth(&site, || {
        send_bind_of(&mut client, HUGE / 2 * 2 - MIB);
        client.send(&[describe(b'P', ""), execute("", 0), sync()].concat());
        let answer = client.expect("2TDCZ");
        assert_eq!(answer[2].first(), (HUGE / 2 * 2 - MIB).to_string());
    });
    assert!(growth < MOST_MORE_MEMORY, "{growth} bytes more");
}

#[test]
fn a_value_of_a_gibibyte_comes_down() {
    let site = Site::new();
    let mut client = site.client();
    client.set_patience(Duration::from_secs(120));
    let growth = growth(&site, || {
        // As text a bytea has two digits a byte.
        client.send(&query(&format!("SELECT repeat('x', {})", HUGE - MIB)));
        client.expect("T");
        let (tag, length) = client.skim().unwrap();
        assert_eq!((tag, length), (b'D', HUGE - MIB + 6));
        client.expect("CZ");
    });
    assert!(growth < MOST_MORE_MEMORY, "{growth} bytes more");
    site.others_are_well();
}

#[test]
fn a_reader_that_is_slow_holds_up_the_server_and_nobody_else() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let mut slow = site.client();
    let growth = growth(&site, || {
        slow.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"));
        slow.expect("T");
        // While 200 MB wait for it, others are served.
        let mut other = site.client();
        for _ in 0..200 {
            assert_eq!(other.value("SELECT 1"), "1");
        }
        let mut rows = 0;
        loop {
            let (tag, _) = slow.skim().unwrap();
            match tag {
                b'D' => rows += 1,
                b'Z' => break,
                _ => {}
            }
        }
        assert_eq!(rows, 200_000);
    });
    assert!(growth < MOST_MORE_MEMORY, "{growth} bytes more");
}

#[test]
fn copy_moves_hundreds_of_megabytes_with_bounded_memory() {
    let site = Site::new();
    let mut client = site.client();
    client.set_patience(Duration::from_secs(120));
    client.execute("CREATE UNLOGGED TABLE bulk (body text)");
    let line = [vec![b'y'; 999], b"\n".to_vec()].concat().repeat(1000);
    let data = message(b'd', &line);
    let growth = growth(&site, || {
        client.send(&query("COPY bulk FROM STDIN"));
        client.expect("G");
        for _ in 0..100 {
            client.send(&data);
        }
        client.send(&copy_done());
        assert_eq!(client.expect("CZ")[0].strings(), ["COPY 100000"]);
        client.send(&query("COPY bulk TO STDOUT"));
        let mut bytes = 0;
        loop {
            let (tag, length) = client.skim().unwrap();
            match tag {
                b'd' => bytes += length,
                b'Z' => break,
                _ => {}
            }
        }
        assert_eq!(bytes, 100_000_000);
    });
    assert!(growth < MOST_MORE_MEMORY, "{growth} bytes more");
}

#[test]
fn both_sides_may_talk_at_once_without_a_deadlock() {
    // A pipeline that is long in both directions: who writes everything before it reads would block a pooler that does
    // the same.
    let site = Site::new();
    let client = site.client();
    let mut reader = client.second_handle();
    reader.set_patience(Duration::from_secs(60));
    let mut writer = client;
    const BATCHES: usize = 3000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let value = "v".repeat(5000);
            for _ in 0..BATCHES {
                let batch =
                    hawser_tests::raw::messages::extended("SELECT $1::text, $1::text", &[Some(&value)]);
                writer.send(&[batch, sync()].concat());
            }
        });
        for _ in 0..BATCHES {
            reader.expect("12TDCZ");
        }
    });
}

#[test]
fn a_parse_that_is_longer_than_allowed_is_refused_and_a_long_one_is_not() {
    let site = Site::with(|config| config.set("pool.size", 1).set("limits.max_message", "\"1MB\""));
    let mut client = site.client();
    let long = format!("SELECT length('{}')", "z".repeat(900_000));
    client.send(
        &[parse("long", &long), hawser_tests::raw::messages::bind("", "long", &[]), execute("", 0), sync()]
            .concat(),
    );
    assert_eq!(client.expect("12DCZ")[2].first(), "900000");
    let too_long = format!("SELECT length('{}')", "z".repeat(3_000_000));
    let _ = client.try_send(&[parse("too_long", &too_long), sync()].concat());
    let mut said = Vec::new();
    while let Ok(message) = client.try_read() {
        said.push(message);
        if said.last().is_some_and(|message| message.tag == b'Z') {
            break;
        }
    }
    assert!(said.iter().any(|message| message.tag == b'E'), "{said:?}");
    site.others_are_well();
    // A simple query passes in pieces, whatever its length.
    let mut client = site.client();
    assert_eq!(client.value(&too_long), "3000000");
}
