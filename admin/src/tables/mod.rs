//! What can be shown: one description per table, with the rows made of facts. Pure.
//!
//! Console, API, reference page and tests all read these descriptions. Tables that PgBouncer has too have its columns in
//! its order, with ours behind them, because its tools go by names and some by places.

mod ours;
mod pgbouncer;
mod reference;
pub mod time;
mod value;

pub use pgbouncer::PGBOUNCER_VERSION;
pub(crate) use pgbouncer::version_text;
pub use reference::markdown;
pub use value::{Kind, Value};

use crate::door::{Facts, Question, Role};

/// One row.
pub type Row = Vec<Value>;

/// One column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it means.
    pub help: &'static str,
}

/// Something that can be shown.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name, in lower case: `SHOW <name>`, `SELECT … FROM hawser.<name>`, `/api/v1/<name>`.
    pub name: &'static str,
    /// Whether PgBouncer has it too.
    pub pgbouncer: bool,
    /// Who may see it.
    pub role: Role,
    /// What it tells.
    pub help: &'static str,
    /// What has to be asked for it.
    pub questions: &'static [Question],
    /// Its columns, in order.
    pub columns: &'static [Column],
    /// Its rows.
    pub rows: fn(&Facts) -> Vec<Row>,
}

/// Every table, PgBouncer's first.
pub fn all() -> impl Iterator<Item = &'static Table> {
    pgbouncer::TABLES.iter().chain(ours::TABLES)
}

/// The table of that name, in any case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Table> {
    all().find(|table| table.name.eq_ignore_ascii_case(name))
}

const fn text(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Text, help }
}

const fn int4(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Int4, help }
}

const fn int8(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Int8, help }
}

const fn numeric(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Numeric, help }
}

const fn bytea(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Bytea, help }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::facts;
    use std::collections::BTreeSet;
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
    fn facts() -> Facts {
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
                pins: vec![facts::Pin { reason: "listen", now: 1, total: 2 }],
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
                    pins: vec!["listen"],
                    application_name: String::new(),
                    prepared_statements: 0,
                    worker: 0,
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
                worker: 0,
            }],
            statements: vec![facts::Statement {
                id: 1,
                text: "SELECT 1".into(),
                parameters: 0,
                users: 1,
                size: 8,
            }],
            listeners: vec![facts::Listener { address: "127.0.0.1".into(), port: 6432, descriptor: 3 }],
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

    #[test]
    fn each_row_has_a_value_of_the_right_type_for_each_column() {
        let facts = facts();
        for table in all() {
            for row in (table.rows)(&facts) {
                assert_eq!(row.len(), table.columns.len(), "{}", table.name);
                for (value, column) in row.iter().zip(table.columns) {
                    assert!(value.fits(column.kind), "{}.{}: {value:?}", table.name, column.name);
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_everything_is_explained() {
        let names: BTreeSet<_> = all().map(|table| table.name).collect();
        assert_eq!(names.len(), all().count());
        for table in all() {
            assert!(table.help.ends_with('.'), "{}", table.name);
            let columns: BTreeSet<_> = table.columns.iter().map(|column| column.name).collect();
            assert_eq!(columns.len(), table.columns.len(), "{}", table.name);
            assert!(table.columns.iter().all(|column| column.help.ends_with('.')), "{}", table.name);
            assert_eq!(table.name, table.name.to_lowercase());
        }
    }

    #[test]
    fn the_reference_in_the_repository_is_the_generated_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/CONSOLE.md");
        let stored = std::fs::read_to_string(file).unwrap_or_default();
        assert!(stored == markdown(), "run: cargo run -p hawser -- reference console > admin/CONSOLE.md");
    }
}
