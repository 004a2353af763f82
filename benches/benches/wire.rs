//! What the protocol costs per message: cutting frames, reading requests, matching replies.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hawser_wire::encode;
use hawser_wire::frame::{self, HEADER_LENGTH};
use hawser_wire::frontend as requests;
use hawser_wire::reply_queue::{Fate, ReplyQueue, Request};
use hawser_wire::tag::{backend, frontend};

/// Messages with bodies of `size` bytes, back to back.
fn messages(tag: u8, count: usize, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        encode::message(&mut bytes, tag, |out| out.resize(out.len() + size, b'x'));
    }
    bytes
}

/// Walks the headers as the relay does, and counts.
fn walk(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some(header)) = frame::header(bytes) {
        let Some(rest) = bytes.get(header.total()..) else { break };
        bytes = rest;
        count += 1;
    }
    count
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for (name, count, size) in
        [("1,000 rows of 1,000 bytes", 1000, 1000), ("1,000 rows of 10 bytes", 1000, 10)]
    {
        let bytes = messages(backend::DATA_ROW, count, size);
        assert_eq!(walk(&bytes), count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |b| b.iter(|| walk(black_box(&bytes))));
    }
    group.finish();
}

fn request_bodies(c: &mut Criterion) {
    let mut parse = Vec::new();
    encode::message(&mut parse, frontend::PARSE, |out| {
        encode::c_string(out, b"P0_7");
        encode::c_string(out, b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;");
        out.extend_from_slice(&[0, 0]);
    });
    let mut bind = Vec::new();
    encode::message(&mut bind, frontend::BIND, |out| {
        encode::c_string(out, b"");
        encode::c_string(out, b"P0_7");
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 4, 1, 2, 3, 4, 0, 0]);
    });
    let (parse, bind) = (parse.split_off(HEADER_LENGTH), bind.split_off(HEADER_LENGTH));
    assert!(requests::parse(&parse).is_ok() && requests::bind_names(&bind).is_ok());
    let mut group = c.benchmark_group("frontend");
    group.bench_function("parse", |b| b.iter(|| requests::parse(black_box(&parse)).is_ok()));
    group.bench_function("bind names", |b| b.iter(|| requests::bind_names(black_box(&bind)).is_ok()));
    group.finish();
}

/// Sends `requests` and lets the server answer `replies`; true if nothing is owed at the end.
fn exchange(queue: &mut ReplyQueue<u64>, requests: &[Request], replies: &[u8]) -> bool {
    for &request in requests {
        queue.push(request, Fate::Forward, None);
    }
    replies.iter().all(|&tag| queue.observe(tag, &mut |_| {}).is_ok()) && queue.is_settled()
}

fn reply_queue(c: &mut Criterion) {
    let simple_replies =
        [backend::ROW_DESCRIPTION, backend::DATA_ROW, backend::COMMAND_COMPLETE, backend::READY_FOR_QUERY];
    let prepared = [Request::Bind, Request::Describe, Request::Execute];
    let prepared_replies =
        [backend::BIND_COMPLETE, backend::ROW_DESCRIPTION, backend::DATA_ROW, backend::COMMAND_COMPLETE];
    let cases = [
        ("simple query", vec![Request::Query], simple_replies.to_vec()),
        (
            "prepared statement",
            [&prepared[..], &[Request::Sync]].concat(),
            [&prepared_replies[..], &[backend::READY_FOR_QUERY]].concat(),
        ),
        (
            "pipeline of ten",
            [&prepared.repeat(10)[..], &[Request::Sync]].concat(),
            [&prepared_replies.repeat(10)[..], &[backend::READY_FOR_QUERY]].concat(),
        ),
    ];
    let mut group = c.benchmark_group("reply queue");
    for (name, requests, replies) in cases {
        let mut queue = ReplyQueue::default();
        assert!(exchange(&mut queue, &requests, &replies));
        group.bench_function(name, |b| {
            b.iter(|| exchange(&mut queue, black_box(&requests), black_box(&replies)))
        });
    }
    group.finish();
}

criterion_group!(benches, frames, request_bodies, reply_queue);
criterion_main!(benches);
