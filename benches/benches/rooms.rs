//! What the decisions around a query cost: who gets a connection, what it lacks, what must be set.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use hawser::parameters::{Interner, ParameterSet, difference};
use hawser::pool::ledger::{Ledger, Order};
use hawser::statements::{ClientStatements, Form, Registry, ServerStatements, Statement, StatementKey};

/// Server connections of a pool, as in the pgbench runs.
const POOL_SIZE: u32 = 20;

/// Prepared statements on a server connection.
const STATEMENT_LIMIT: usize = 200;

fn pool(c: &mut Criterion) {
    let full = || {
        let mut ledger = Ledger::<u32, u32>::default();
        for connection in 0..POOL_SIZE {
            ledger.begin_opening();
            assert!(ledger.opened(connection).is_none());
        }
        ledger
    };
    let mut group = c.benchmark_group("ledger");
    let mut ledger = full();
    group.bench_function("lend and give back", |b| {
        b.iter(|| ledger.lend(Order::Freshest).and_then(|connection| ledger.give_back(connection)));
    });
    let mut ledger = full();
    let mut leased = ledger.lend(Order::Freshest);
    while let Some(connection) = ledger.lend(Order::Freshest) {
        leased = Some(connection);
    }
    group.bench_function("wait and be served", |b| {
        b.iter(|| {
            ledger.wait(black_box(7));
            leased =
                leased.and_then(|connection| ledger.give_back(connection)).map(|(_, connection)| connection);
            leased
        });
    });
    // Had a hand-over failed, the second case would have measured an empty pool.
    assert!(leased.is_some());
    group.finish();
}

fn statements(c: &mut Criterion) {
    let (registry, plain) = (Registry::default(), Arc::from(""));
    let key = |text| StatementKey { form: Form::Parse, text, types: &[0, 0], meaning: &plain };
    let texts: Vec<String> = (0..=STATEMENT_LIMIT)
        .map(|i| format!("SELECT abalance + {i} FROM pgbench_accounts WHERE aid = $1"))
        .collect();
    let known: Vec<Arc<Statement>> =
        texts.iter().map(|text| registry.statement(key(text.as_bytes()))).collect();
    let names: Vec<String> = (0..texts.len()).map(|i| format!("P0_{i}")).collect();
    let mut client = ClientStatements::default();
    for (name, statement) in names.iter().zip(&known) {
        client.define(name.as_bytes(), Arc::clone(statement));
    }
    let mut server = ServerStatements::default();
    for statement in known.iter().take(STATEMENT_LIMIT) {
        assert!(server.prepare(Arc::clone(statement), 0, STATEMENT_LIMIT).is_none());
    }

    let mut group = c.benchmark_group("statements");
    group.bench_function("bind: name to number, and whether the server has it", |b| {
        b.iter(|| client.named(black_box(b"P0_7")).map(|named| server.touch(named.statement.id)));
    });
    group.bench_function("parse of a text that another client has", |b| {
        b.iter(|| {
            registry.statement(key(black_box(b"SELECT abalance + 7 FROM pgbench_accounts WHERE aid = $1"))).id
        });
    });
    let mut turn = known.iter().cycle().skip(STATEMENT_LIMIT);
    group.bench_function("prepare where another must go", |b| {
        b.iter(|| {
            turn.next().and_then(|statement| server.prepare(Arc::clone(statement), 0, STATEMENT_LIMIT))
        });
    });
    group.finish();
}

fn parameters(c: &mut Criterion) {
    let pairs = [
        ("application_name", "pgbench"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "Etc/UTC"),
        ("standard_conforming_strings", "on"),
    ];
    let interner = Interner::default();
    let present = interner.intern(ParameterSet::from_pairs(pairs));
    let wanted = interner.with(&present, "application_name", "psql");
    let mut group = c.benchmark_group("parameters");
    group.bench_function("one value differs", |b| {
        b.iter(|| {
            let mut statements = String::new();
            difference(&mut statements, black_box(&present), black_box(&wanted));
            statements
        });
    });
    group.bench_function("intern a known set", |b| {
        b.iter(|| interner.with(black_box(&present), "application_name", "psql"))
    });
    group.finish();
}

criterion_group!(benches, pool, statements, parameters);
criterion_main!(benches);
