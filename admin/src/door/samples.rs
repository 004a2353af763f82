//! Facts for tests: one of everything.

use super::facts::{self, Facts};
use std::time::{Duration, SystemTime};

fn host() -> facts::Host {
    facts::Host {
        cluster: "app".into(),
        id: 0,
        address: "db1:5432".into(),
        role: "standby",
        is_primary: false,
        is_usable: true,
        state: "up".into(),
        age: Duration::ZERO,
        ban: facts::Ban::Drained,
        servers: Some(0),
        timeline: 1,
        position: "0/0".into(),
        lag_bytes: 0,
        lag: None,
        round_trip: Duration::ZERO,
        version: 170_000,
    }
}

/// One of everything.
#[expect(clippy::too_many_lines, reason = "one of everything")]
pub(crate) fn facts() -> Facts {
    let ends = facts::Ends { address: "10.0.0.9".into(), port: 5000, ..Default::default() };
    Facts {
        process: Some(facts::Process {
            version: "0".into(),
            started: SystemTime::UNIX_EPOCH,
            lending: facts::Lending::Active,
            draining: false,
            workers: 1,
            clients: 1,
            max_clients: 1,
            logins: 0,
            consoles: 0,
            blocks: (1, 1),
            statements: 1,
            resident: 1,
            cpu: Duration::ZERO,
            descriptors: (1, 1),
            tls: (0, 0),
            settings_read: SystemTime::UNIX_EPOCH,
            settings_wrong: false,
        }),
        workers: vec![facts::Worker { number: 0, clients: 1, load: 550, cpu: Duration::ZERO, departures: 2 }],
        settings: vec![facts::Setting {
            name: "pool.size".into(),
            pgbouncer: "default_pool_size".into(),
            value: "20".into(),
            pgbouncer_value: "20".into(),
            default: "20".into(),
            pgbouncer_default: "20".into(),
            source: "default".into(),
            changeable: true,
            help: "Size.".into(),
        }],
        databases: vec![facts::Database::default()],
        users: vec![facts::User::default()],
        pools: vec![facts::Pool {
            pins: vec![facts::Pin {
                reason: "listen",
                now: 1,
                total: 2,
                time: std::time::Duration::from_secs(3),
            }],
            errors: vec![("23505".into(), 3)],
            ..Default::default()
        }],
        stats: vec![facts::Stats::default()],
        clients: [facts::ClientState::Active, facts::ClientState::Waiting]
            .map(|state| facts::Client {
                id: 1,
                user: "u".into(),
                database: "d".into(),
                replication: "none",
                state,
                ends: ends.clone(),
                connected: SystemTime::UNIX_EPOCH,
                requested: SystemTime::UNIX_EPOCH,
                wait: Duration::from_micros(1_500_000),
                server: Some(1),
                server_pid: 1,
                in_transaction: true,
                busy: false,
                pins: vec![("listen", Duration::from_secs(3))],
                application_name: String::new(),
                prepared_statements: 0,
                worker: Some(0),
            })
            .to_vec(),
        servers: vec![facts::Server {
            id: 1,
            user: "u".into(),
            database: "d".into(),
            state: facts::ServerState::Idle,
            ends: ends.clone(),
            connected: SystemTime::UNIX_EPOCH,
            requested: SystemTime::UNIX_EPOCH,
            close_needed: true,
            client: Some(1),
            pid: 7,
            prepared_statements: 0,
        }],
        statements: vec![facts::Statement {
            id: 1,
            text: "SELECT 1".into(),
            parameters: 0,
            users: 1,
            size: 8,
        }],
        listeners: vec![facts::Listener { address: "127.0.0.1".into(), port: 6432, descriptor: 3 }],
        fingerprints: vec![facts::Fingerprint {
            database: "d".into(),
            user: "u".into(),
            host: "primary".into(),
            hash: 1,
            text: "select ?".into(),
            calls: 1,
            errors: 0,
            rows: 1,
            bytes: 1,
            time: facts::Histogram::default(),
            waits: 0,
            waited: Duration::ZERO,
            pins: 0,
            reasons: vec![("write", 2), ("lag", 3)],
        }],
        routes: vec![facts::Route { to: "standby", reason: "read", total: 1 }],
        hosts: vec![host()],
        failovers: vec![facts::Failover {
            cluster: "app".into(),
            began: SystemTime::UNIX_EPOCH,
            from: None,
            to: Some("db2:5432".into()),
            lost_for: Some(Duration::from_millis(700)),
            phases: "suspect 0 ms".into(),
        }],
    }
}
