//! What it costs to know where a statement may run: a text that is known, and one that is new.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hawser_sql_router::cache::Cache;
use hawser_sql_router::classify::classify;
use hawser_sql_router::fingerprint;
use hawser_sql_router::knowledge::{Nothing, SearchPath};

/// A statement of pgbench, and one that an application might send.
const TEXTS: [(&str, &str); 2] = [
    ("pgbench", "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;"),
    (
        "report",
        "SELECT o.id, o.total, c.name, count(*) FILTER (WHERE i.quantity > 1) AS many FROM orders o \
         JOIN customers c ON c.id = o.customer_id LEFT JOIN items i ON i.order_id = o.id \
         WHERE o.created_at > now() - interval '1 day' AND c.country IN ('DE', 'FR', 'IT') \
         GROUP BY 1, 2, 3 ORDER BY o.created_at DESC LIMIT 50",
    ),
];

/// Texts that a worker remembers.
const REMEMBERED: usize = 4096;

fn verdicts(c: &mut Criterion) {
    let path = SearchPath::parse("\"$user\", public", "app");
    let mut group = c.benchmark_group("router");
    for (name, text) in TEXTS {
        let text = text.as_bytes();
        let mut cache = Cache::new(REMEMBERED);
        group.bench_function(format!("known text, {name}"), |b| {
            b.iter(|| cache.classify(black_box(text), &Nothing, &path));
        });
        group.bench_function(format!("new text, {name}"), |b| {
            b.iter(|| classify(black_box(text), &Nothing, &path));
        });
        group.bench_function(format!("fingerprint, {name}"), |b| {
            b.iter(|| fingerprint::of(black_box(text)));
        });
    }
    let mut cache = Cache::new(REMEMBERED);
    let mut number = 0u64;
    group.bench_function("a text that comes once, in a full cache", |b| {
        b.iter(|| {
            number += 1;
            let text = format!("SELECT column_{number} FROM pgbench_accounts WHERE aid = 1");
            cache.classify(text.as_bytes(), &Nothing, &path)
        });
    });
    group.bench_function("a text with another number, its template known", |b| {
        b.iter(|| {
            number += 1;
            let text = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number}");
            cache.classify(text.as_bytes(), &Nothing, &path)
        });
    });
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    group.bench_function("200 KB of parentheses", |b| {
        b.iter(|| classify(black_box(deep.as_bytes()), &Nothing, &path));
    });
    group.finish();
}

criterion_group!(benches, verdicts);
criterion_main!(benches);
