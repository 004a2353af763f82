//! Metrics in Prometheus's text format, made of facts. Pure.
//!
//! Everything here is counted already when a scrape comes, histograms included, so that rendering is all there is to do.
//! The crates `metrics` and `metrics-exporter-prometheus` take a sample at a time and keep them behind locks; they
//! have no way to hand in a histogram that was counted elsewhere.

mod families;
mod text;

pub use families::{FAMILIES, Family, Type, markdown};

use crate::door::{Facts, Question, facts};
use text::Text;

/// What has to be asked for a scrape.
pub const QUESTIONS: &[Question] = &[
    Question::Process,
    Question::Workers,
    Question::Databases,
    Question::Users,
    Question::Pools,
    Question::Hosts,
    Question::BusiestFingerprints,
    Question::Routes,
];

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Pools that have series of their own. A wildcard database lets clients invent names; what is beyond this is one
/// pool, called [`OTHERS`].
const MOST_POOLS: usize = 1000;

/// Databases and users that have series of their own.
const MOST_NAMES: usize = 1000;

/// Shapes of queries that have series of their own.
const MOST_FINGERPRINTS: usize = 100;

/// What the pools beyond [`MOST_POOLS`] are called.
const OTHERS: &str = "(other)";

/// The text of a scrape.
#[must_use]
pub fn render(facts: &Facts) -> String {
    collect(facts).finish()
}

fn collect(facts: &Facts) -> Text {
    let mut text = Text::default();
    if let Some(process) = &facts.process {
        of_process(&mut text, process);
    }
    for worker in &facts.workers {
        of_worker(&mut text, worker);
    }
    of_databases(&mut text, facts);
    of_users(&mut text, facts);
    let (pools, other) = bounded(&facts.pools);
    pools.into_iter().chain(&other).for_each(|pool| of_pool(&mut text, pool));
    of_hosts(&mut text, facts);
    for route in &facts.routes {
        text.count("hawser_routed_total", &[("host", route.to), ("reason", route.reason)], route.total);
    }
    of_fingerprints(&mut text, facts);
    text
}

/// The pools that have series of their own, and one that stands for the others.
fn bounded(pools: &[facts::Pool]) -> (Vec<&facts::Pool>, Option<facts::Pool>) {
    let mut kept: Vec<&facts::Pool> = pools.iter().collect();
    if kept.len() <= MOST_POOLS {
        return (kept, None);
    }
    // Those that nobody uses go first; series of the others stay where they are.
    kept.sort_by_key(|pool| std::cmp::Reverse(pool.totals.transactions));
    let mut other = facts::Pool {
        database: OTHERS.to_owned(),
        user: OTHERS.to_owned(),
        host: OTHERS.to_owned(),
        ..facts::Pool::default()
    };
    kept.split_off(MOST_POOLS).into_iter().for_each(|pool| other.add(pool));
    (kept, Some(other))
}

fn of_process(text: &mut Text, process: &facts::Process) {
    use facts::Lending;
    use std::time::UNIX_EPOCH;
    let seconds = |at: std::time::SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    text.value("hawser_build_info", &[("version", &process.version)], 1.0);
    text.value("process_start_time_seconds", &[], seconds(process.started));
    text.value("process_cpu_seconds_total", &[], process.cpu.as_secs_f64());
    text.count("process_resident_memory_bytes", &[], process.resident);
    text.count("process_open_fds", &[], process.descriptors.0);
    text.count("process_max_fds", &[], process.descriptors.1);
    text.size("hawser_workers", &[], process.workers);
    text.size("hawser_clients", &[], process.clients);
    text.size("hawser_clients_limit", &[], process.max_clients);
    text.size("hawser_clients_logging_in", &[], process.logins);
    text.size("hawser_consoles", &[], process.consoles);
    text.size("hawser_tls_connections", &[("side", "client")], process.tls.0);
    text.size("hawser_tls_connections", &[("side", "server")], process.tls.1);
    text.size("hawser_prepared_statements", &[], process.statements);
    text.size("hawser_block_reserve_bytes", &[], process.blocks.0 * process.blocks.1);
    for (state, is) in
        [("active", Lending::Active), ("paused", Lending::Paused), ("suspended", Lending::Suspended)]
    {
        text.flag("hawser_lending_state", &[("state", state)], process.lending == is);
    }
    text.flag("hawser_draining", &[], process.draining);
    text.value("hawser_settings_read_timestamp_seconds", &[], seconds(process.settings_read));
    text.flag("hawser_settings_wrong", &[], process.settings_wrong);
}

fn of_worker(text: &mut Text, worker: &facts::Worker) {
    let number = worker.number.to_string();
    let labels: &[(&str, &str)] = &[("worker", &number)];
    text.size("hawser_worker_clients", labels, worker.clients);
    text.value("hawser_worker_cpu_seconds_total", labels, worker.cpu.as_secs_f64());
    text.count("hawser_worker_departures_total", labels, worker.departures);
}

fn of_databases(text: &mut Text, facts: &Facts) {
    for database in facts.databases.iter().take(MOST_NAMES) {
        let labels: &[(&str, &str)] = &[("database", &database.name)];
        text.size("hawser_database_servers", labels, database.connections);
        text.size("hawser_database_clients", labels, database.clients);
        if let Some(limit) = database.max_connections {
            text.size("hawser_database_servers_limit", labels, limit);
        }
        if let Some(limit) = database.max_clients {
            text.size("hawser_database_clients_limit", labels, limit);
        }
        text.flag("hawser_database_paused", labels, database.paused);
        text.flag("hawser_database_held", labels, database.held);
        text.flag("hawser_database_disabled", labels, database.disabled);
    }
}

fn of_users(text: &mut Text, facts: &Facts) {
    for user in facts.users.iter().take(MOST_NAMES) {
        let labels: &[(&str, &str)] = &[("user", &user.name)];
        text.size("hawser_user_servers", labels, user.connections);
        text.size("hawser_user_clients", labels, user.clients);
    }
}

fn of_pool(text: &mut Text, pool: &facts::Pool) {
    let labels: [(&str, &str); 3] =
        [("database", &pool.database), ("user", &pool.user), ("host", &pool.host)];
    let with = |name, value| [labels[0], labels[1], labels[2], (name, value)];
    text.size("hawser_pool_size", &labels, pool.size);
    let active = pool.clients.saturating_sub(pool.waiting);
    text.size("hawser_pool_clients", &with("state", "active"), active);
    text.size("hawser_pool_clients", &with("state", "waiting"), pool.waiting);
    for (state, count) in [
        ("active", pool.active),
        ("idle", pool.idle),
        ("resetting", pool.resetting),
        ("opening", pool.opening),
    ] {
        text.size("hawser_pool_servers", &with("state", state), count);
    }
    text.value("hawser_pool_oldest_wait_seconds", &labels, pool.oldest_wait.as_secs_f64());
    let totals = &pool.totals;
    for (name, count) in [
        ("hawser_pool_assignments_total", totals.assignments),
        ("hawser_pool_transactions_total", totals.transactions),
        ("hawser_pool_queries_total", totals.queries),
        ("hawser_pool_received_bytes_total", totals.received),
        ("hawser_pool_sent_bytes_total", totals.sent),
        ("hawser_pool_client_parses_total", totals.client_parses),
        ("hawser_pool_server_parses_total", totals.server_parses),
        ("hawser_pool_binds_total", totals.binds),
        ("hawser_pool_servers_opened_total", pool.opened),
        ("hawser_pool_servers_closed_total", pool.closed),
        ("hawser_pool_reruns_total", pool.reruns),
        ("hawser_pool_failed_reruns_total", pool.failed_reruns),
    ] {
        text.count(name, &labels, count);
    }
    for (name, histogram) in [
        ("hawser_pool_wait_seconds", &pool.wait),
        ("hawser_pool_route_seconds", &pool.route),
        ("hawser_pool_query_seconds", &pool.query),
        ("hawser_pool_network_seconds", &pool.network),
        ("hawser_pool_transaction_seconds", &pool.transaction),
        ("hawser_pool_login_seconds", &pool.login),
    ] {
        text.histogram(name, &labels, histogram);
    }
    for pin in pool.pins.iter().filter(|pin| pin.total > 0) {
        text.count("hawser_pool_pinned_sessions", &with("reason", pin.reason), pin.now);
        text.count("hawser_pool_pins_total", &with("reason", pin.reason), pin.total);
        let seconds = pin.time.as_secs_f64();
        text.value("hawser_pool_pinned_seconds_total", &with("reason", pin.reason), seconds);
    }
    for (sqlstate, total) in &pool.errors {
        text.count("hawser_pool_errors_total", &with("sqlstate", sqlstate), *total);
    }
}

fn of_fingerprints(text: &mut Text, facts: &Facts) {
    for one in facts.fingerprints.iter().take(MOST_FINGERPRINTS) {
        let hash = format!("{:016x}", one.hash);
        let labels: &[(&str, &str)] =
            &[("database", &one.database), ("user", &one.user), ("host", &one.host), ("fingerprint", &hash)];
        text.count("hawser_fingerprint_calls_total", labels, one.calls);
        #[expect(clippy::cast_precision_loss, reason = "285 years are exact")]
        let seconds = one.time.sum as f64 / 1e6;
        text.value("hawser_fingerprint_seconds_total", labels, seconds);
        text.value("hawser_fingerprint_wait_seconds_total", labels, one.waited.as_secs_f64());
        text.count("hawser_fingerprint_rows_total", labels, one.rows);
        text.count("hawser_fingerprint_errors_total", labels, one.errors);
    }
}

fn of_hosts(text: &mut Text, facts: &Facts) {
    for host in &facts.hosts {
        let labels: &[(&str, &str)] = &[("cluster", &host.cluster), ("host", &host.address)];
        text.flag("hawser_host_usable", labels, host.is_usable);
        text.flag("hawser_host_primary", labels, host.is_primary);
        text.flag("hawser_host_banned", labels, host.ban != facts::Ban::None);
        if let Some(servers) = host.servers {
            text.size("hawser_host_servers", labels, servers);
        }
        text.count("hawser_host_timeline", labels, u64::from(host.timeline));
        text.count("hawser_host_lag_bytes", labels, host.lag_bytes);
        if let Some(lag) = host.lag {
            text.value("hawser_host_lag_seconds", labels, lag.as_secs_f64());
        }
        text.value("hawser_host_round_trip_seconds", labels, host.round_trip.as_secs_f64());
    }
    let mut clusters: Vec<&str> = facts.hosts.iter().map(|host| host.cluster.as_str()).collect();
    clusters.dedup();
    for cluster in clusters {
        let is_here = |host: &&facts::Host| host.cluster == cluster && host.is_primary;
        let labels: &[(&str, &str)] = &[("cluster", cluster)];
        text.flag("hawser_cluster_has_primary", labels, facts.hosts.iter().any(|host| is_here(&host)));
        let failovers = facts.failovers.iter().filter(|failover| failover.cluster == cluster);
        text.size("hawser_cluster_failovers", labels, failovers.count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(number: usize) -> facts::Pool {
        facts::Pool {
            database: format!("db{number}"),
            user: "u\"\\\n".to_owned(),
            host: "primary".to_owned(),
            clients: 3,
            waiting: 1,
            wait: facts::Histogram { buckets: vec![5; facts::Histogram::BOUNDED + 1], sum: 1_500_000 },
            pins: vec![facts::Pin {
                reason: "listen",
                now: 1,
                total: 2,
                time: std::time::Duration::from_secs(3),
            }],
            errors: vec![("23505".to_owned(), 7)],
            ..facts::Pool::default()
        }
    }

    #[test]
    fn a_scrape_has_help_type_and_escaped_labels() {
        let text = render(&Facts { pools: vec![pool(1)], ..Facts::default() });
        for line in [
            "# TYPE hawser_pool_clients gauge",
            "hawser_pool_clients{database=\"db1\",user=\"u\\\"\\\\\\n\",host=\"primary\",state=\"active\"} 2",
            "# TYPE hawser_pool_wait_seconds histogram",
            "hawser_pool_wait_seconds_bucket{database=\"db1\",user=\"u\\\"\\\\\\n\",host=\"primary\",le=\"0.000064\"} 10",
            "hawser_pool_wait_seconds_bucket{database=\"db1\",user=\"u\\\"\\\\\\n\",host=\"primary\",le=\"+Inf\"} 110",
            "hawser_pool_wait_seconds_sum{database=\"db1\",user=\"u\\\"\\\\\\n\",host=\"primary\"} 1.5",
            "hawser_pool_errors_total{database=\"db1\",user=\"u\\\"\\\\\\n\",host=\"primary\",sqlstate=\"23505\"} 7",
        ] {
            assert!(text.lines().any(|known| known == line), "no {line} in\n{text}");
        }
        assert_eq!(text.matches("# HELP hawser_pool_clients ").count(), 1);
    }

    #[test]
    fn everything_that_is_told_is_described_and_the_other_way_round() {
        let mut facts = crate::door::samples::facts();
        facts.databases.push(facts::Database {
            max_connections: Some(1),
            max_clients: Some(1),
            ..facts::Database::default()
        });
        facts.pools.push(pool(1));
        facts.hosts.iter_mut().for_each(|host| host.lag = Some(std::time::Duration::ZERO));
        for pool in &mut facts.pools {
            let measured = facts::Histogram { buckets: vec![1; facts::Histogram::BOUNDED + 1], sum: 1 };
            (pool.wait, pool.query) = (measured.clone(), measured.clone());
            (pool.route, pool.network) = (measured.clone(), measured.clone());
            (pool.transaction, pool.login) = (measured.clone(), measured);
        }
        let told = collect(&facts).names();
        let described: std::collections::BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(told.into_iter().collect::<std::collections::BTreeSet<_>>(), described);
    }

    #[test]
    fn names_that_clients_invent_do_not_make_series_without_end() {
        let text = render(&Facts { pools: (0..3000).map(pool).collect(), ..Facts::default() });
        assert_eq!(text.matches("hawser_pool_size{").count(), MOST_POOLS + 1);
        assert!(text.contains("hawser_pool_clients{database=\"(other)\",user=\"(other)\",host=\"(other)\",state=\"waiting\"} 2000"));
    }
}
