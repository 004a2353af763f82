//! Every metric with its type, labels and meaning. Pure.

use std::fmt::Write as _;

/// A type of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by bounds.
    Histogram,
}

/// A metric with all its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means, in one line.
    pub help: &'static str,
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Type::Gauge, labels, help }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Type::Counter, labels, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Type::Histogram, labels: POOL, help }
}

const NONE: &[&str] = &[];
const WORKER: &[&str] = &["worker"];
const DATABASE: &[&str] = &["database"];
const USER: &[&str] = &["user"];
const POOL: &[&str] = &["database", "user", "host"];
const FINGERPRINT: &[&str] = &["database", "user", "host", "fingerprint"];
const HOST: &[&str] = &["cluster", "host"];

/// All of them, in the order of a scrape.
pub const FAMILIES: &[Family] = &[
    gauge("hawser_build_info", &["version"], "Always 1; the version is in the label."),
    gauge("process_start_time_seconds", NONE, "When the process started, in seconds since 1970."),
    counter("process_cpu_seconds_total", NONE, "CPU time that the process has used."),
    gauge("process_resident_memory_bytes", NONE, "Memory that the process occupies."),
    gauge("process_open_fds", NONE, "File descriptors that are open."),
    gauge("process_max_fds", NONE, "File descriptors that may be open."),
    gauge("hawser_workers", NONE, "Worker threads."),
    gauge("hawser_clients", NONE, "Clients that are connected, whether logged in or not."),
    gauge("hawser_clients_limit", NONE, "Clients that may be connected."),
    gauge("hawser_clients_logging_in", NONE, "Clients in the middle of logging in."),
    gauge("hawser_consoles", NONE, "Operators on the console."),
    gauge("hawser_tls_connections", &["side"], "Connections with TLS, to clients and to servers."),
    gauge(
        "hawser_prepared_statements",
        NONE,
        "Distinct prepared statements that clients or server connections have.",
    ),
    gauge("hawser_block_reserve_bytes", NONE, "Memory in reserve for bytes in flight."),
    gauge(
        "hawser_lending_state",
        &["state"],
        "Whether server connections are lent: 1 for the state that holds.",
    ),
    gauge("hawser_draining", NONE, "1 while the process is ending and takes no new clients."),
    gauge(
        "hawser_settings_read_timestamp_seconds",
        NONE,
        "When the settings were last read without a mistake, in seconds since 1970.",
    ),
    gauge("hawser_settings_wrong", NONE, "1 if the last attempt to read the settings failed."),
    gauge("hawser_worker_clients", WORKER, "Clients that are logged in and served by a worker."),
    counter("hawser_worker_cpu_seconds_total", WORKER, "CPU time that a worker has used."),
    counter(
        "hawser_worker_departures_total",
        WORKER,
        "Sessions that left a worker to go on on another, to gather little work or to spread much.",
    ),
    gauge("hawser_database_servers", DATABASE, "Server connections of a database."),
    gauge(
        "hawser_database_servers_limit",
        DATABASE,
        "Server connections of a database at most; absent without a limit.",
    ),
    gauge("hawser_database_clients", DATABASE, "Clients of a database."),
    gauge(
        "hawser_database_clients_limit",
        DATABASE,
        "Clients of a database at most; absent without a limit.",
    ),
    gauge("hawser_database_paused", DATABASE, "1 after PAUSE or KILL."),
    gauge(
        "hawser_database_held",
        DATABASE,
        "1 after HOLD or SUSPEND, and while a switchover that was announced is awaited.",
    ),
    gauge("hawser_database_disabled", DATABASE, "1 if new clients are refused."),
    gauge("hawser_user_servers", USER, "Server connections of a user of the settings."),
    gauge("hawser_user_clients", USER, "Clients of a user of the settings."),
    gauge("hawser_pool_size", POOL, "Server connections of a pool at most."),
    gauge(
        "hawser_pool_clients",
        &["database", "user", "host", "state"],
        "Clients of a pool: active (with a server connection or in no need of one) or waiting.",
    ),
    gauge(
        "hawser_pool_servers",
        &["database", "user", "host", "state"],
        "Server connections of a pool: active, idle, resetting or opening.",
    ),
    gauge("hawser_pool_oldest_wait_seconds", POOL, "How long the first client in the queue has waited."),
    counter("hawser_pool_assignments_total", POOL, "Server connections lent to clients."),
    counter("hawser_pool_transactions_total", POOL, "Transactions ended."),
    counter("hawser_pool_queries_total", POOL, "Queries (batches) answered."),
    counter("hawser_pool_received_bytes_total", POOL, "Bytes from clients."),
    counter("hawser_pool_sent_bytes_total", POOL, "Bytes to clients."),
    counter("hawser_pool_client_parses_total", POOL, "Parses by clients."),
    counter("hawser_pool_server_parses_total", POOL, "Parses sent to servers."),
    counter("hawser_pool_binds_total", POOL, "Binds."),
    counter("hawser_pool_servers_opened_total", POOL, "Server connections opened."),
    counter("hawser_pool_servers_closed_total", POOL, "Server connections closed."),
    counter(
        "hawser_pool_reruns_total",
        POOL,
        "Lost transactions that were put back to run again (`lost_transactions`).",
    ),
    counter(
        "hawser_pool_failed_reruns_total",
        POOL,
        "Of these, the ones that could not go on from there: an answer differed, or no primary came in time.",
    ),
    histogram(
        "hawser_pool_wait_seconds",
        "How long clients waited for a server connection, those that did not wait included.",
    ),
    histogram(
        "hawser_pool_route_seconds",
        "How long batches waited for a standby that has seen enough, those that did not wait included.",
    ),
    histogram("hawser_pool_query_seconds", "How long servers worked on a query."),
    histogram(
        "hawser_pool_network_seconds",
        "How long clients did not read what was there for them, by query, those that read at once included.",
    ),
    histogram("hawser_pool_transaction_seconds", "How long server connections were lent."),
    histogram("hawser_pool_login_seconds", "How long logins took, from accept on."),
    gauge(
        "hawser_pool_pinned_sessions",
        &["database", "user", "host", "reason"],
        "Sessions that keep their server connection beyond the transaction.",
    ),
    counter(
        "hawser_pool_pins_total",
        &["database", "user", "host", "reason"],
        "Times that a session was pinned.",
    ),
    counter(
        "hawser_pool_pinned_seconds_total",
        &["database", "user", "host", "reason"],
        "How long sessions were pinned, as far as that is over.",
    ),
    counter(
        "hawser_pool_errors_total",
        &["database", "user", "host", "sqlstate"],
        "Errors that clients were sent, the server's and ours.",
    ),
    counter(
        "hawser_fingerprint_calls_total",
        FINGERPRINT,
        "Statements of one shape that were run, of the hundred shapes on which servers worked longest.",
    ),
    counter("hawser_fingerprint_seconds_total", FINGERPRINT, "How long servers worked on them."),
    counter(
        "hawser_fingerprint_wait_seconds_total",
        FINGERPRINT,
        "How long clients waited for a server connection before them.",
    ),
    counter("hawser_fingerprint_rows_total", FINGERPRINT, "Rows that they returned or changed."),
    counter("hawser_fingerprint_errors_total", FINGERPRINT, "Their errors."),
    counter(
        "hawser_routed_total",
        &["host", "reason"],
        "Batches of databases with several hosts, by where they went and why.",
    ),
    gauge("hawser_host_usable", HOST, "1 if statements may be sent to a host."),
    gauge("hawser_host_primary", HOST, "1 for the host that takes writes."),
    gauge("hawser_host_banned", HOST, "1 after BAN or DRAIN."),
    gauge("hawser_host_servers", HOST, "Server connections that lead to a host."),
    gauge("hawser_host_timeline", HOST, "Timeline of a host."),
    gauge(
        "hawser_host_lag_bytes",
        HOST,
        "Bytes of log that the primary was ahead of a host when last asked.",
    ),
    gauge("hawser_host_lag_seconds", HOST, "How old a standby's data may be at most."),
    gauge("hawser_host_round_trip_seconds", HOST, "How long the last question to a host took."),
    gauge("hawser_cluster_has_primary", &["cluster"], "1 while a host takes writes."),
    gauge(
        "hawser_cluster_failovers",
        &["cluster"],
        "Stretches without a primary that are remembered, 32 at most.",
    ),
];

/// The page about metrics as Markdown: what `hawser reference metrics` prints.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    for family in FAMILIES {
        let kind = match family.kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let _ =
            writeln!(text, "| `{}` | {kind} | {} | {} |", family.name, family.labels.join(", "), family.help);
    }
    text
}

const INTRODUCTION: &str = "# Metrics

Made by `hawser reference metrics`; do not edit.

`GET /metrics` on the HTTP port, in Prometheus's text format. Histograms have bounds from 32 us to 33.5 s, each twice the one
before. Labels are bounded: pools beyond the 1000 busiest are one pool called `(other)`, and SQLSTATEs beyond 200 of a pool are `other`.

| metric | type | labels | |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            assert_eq!(family.name.ends_with("_total"), family.kind == Type::Counter, "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{}", family.name);
        }
    }

    #[test]
    fn the_reference_in_the_repository_is_the_generated_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/METRICS.md");
        let stored = std::fs::read_to_string(file).unwrap_or_default();
        assert!(stored == markdown(), "run: cargo run -p hawser -- reference metrics > admin/METRICS.md");
    }
}
