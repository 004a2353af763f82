//! The tables that PgBouncer does not have. Pure.

use super::time::timestamp;
use super::{Column, Row, Table, Value, int4, int8, numeric, text};
use crate::door::facts::{Ban, Client, ClientState, Worker};
use crate::door::{Facts, Question, Role, micros};
use std::time::Duration;

const fn table(
    name: &'static str,
    help: &'static str,
    questions: &'static [Question],
    columns: &'static [Column],
    rows: fn(&Facts) -> Vec<Row>,
) -> Table {
    Table { name, pgbouncer: false, role: Role::Reader, help, questions, columns, rows }
}

/// See the module.
pub(super) const TABLES: &[Table] = &[
    table(
        "settings",
        "Settings by our names: value in force, default, and where the value came from.",
        &[Question::Settings],
        SETTINGS,
        settings,
    ),
    table(
        "pins",
        "Why sessions keep their server connection beyond the transaction, and why they did.",
        &[Question::Pools],
        PINS,
        pins,
    ),
    table(
        "prepared",
        "Prepared statements that clients or server connections have.",
        &[Question::Statements],
        PREPARED,
        prepared,
    ),
    table(
        "transactions",
        "Clients that have a server connection now, those that took it first at the top.",
        &[Question::Clients],
        TRANSACTIONS,
        transactions,
    ),
    table(
        "waiters",
        "Clients that wait for a server connection, the first in the queue at the top.",
        &[Question::Clients],
        WAITERS,
        waiters,
    ),
    table("errors", "Errors that clients were sent, by SQLSTATE.", &[Question::Pools], ERRORS, errors),
    table(
        "fingerprints",
        "Queries by their shape, those on which servers worked longest at the top. Times, rows, bytes, errors, waiting and pins are of batches in which all statements have this shape.",
        &[Question::Fingerprints],
        FINGERPRINTS,
        fingerprints,
    ),
    table(
        "latency",
        "How long waiting, queries, transactions and logins took: bounds that so many of them kept.",
        &[Question::Pools],
        LATENCY,
        latency,
    ),
    table(
        "host_pools",
        "Pools by host, with what `pools` adds up.",
        &[Question::Pools],
        HOST_POOLS,
        host_pools,
    ),
    table(
        "hosts",
        "Hosts of clusters that are watched: those of databases with several hosts, or with `target = \"primary\"`.",
        &[Question::Hosts, Question::Pools],
        HOSTS,
        hosts,
    ),
    table(
        "routes",
        "Where batches of databases with several hosts went, and why.",
        &[Question::Routes],
        ROUTES,
        routes,
    ),
    table(
        "failovers",
        "The last stretches without a primary, newest first.",
        &[Question::Hosts],
        FAILOVERS,
        failovers,
    ),
    table("process", "The process as a whole.", &[Question::Process], PROCESS, process),
    table(
        "workers",
        "Worker threads, and how the work is spread over them (`balance`).",
        &[Question::Workers],
        WORKERS,
        workers,
    ),
];

const SETTINGS: &[Column] = &[
    text("name", "Name, as in the file and in the reference."),
    text("value", "Value in force."),
    text("default", "Value when nothing is written."),
    text("source", "Where the value came from."),
    text("changeable", "`yes`: RELOAD or SET changes it; `no`: a restart does."),
    text("pgbouncer", "PgBouncer's name for it."),
    text("help", "What it does."),
];

fn settings(facts: &Facts) -> Vec<Row> {
    let row = |setting: &crate::door::facts::Setting| {
        vec![
            Value::text(&setting.name),
            Value::text(&setting.value),
            Value::text(&setting.default),
            Value::text(&setting.source),
            Value::text(if setting.changeable { "yes" } else { "no" }),
            Value::optional(Some(setting.pgbouncer.as_str()).filter(|name| !name.is_empty())),
            Value::text(&setting.help),
        ]
    };
    facts.settings.iter().map(row).collect()
}

const PINS: &[Column] = &[
    text("database", "Database."),
    text("user", "User on the server."),
    text("reason", "Why."),
    int8("sessions", "Sessions that are pinned now."),
    int8("total", "Times that a session was pinned since the start."),
    int8("total_us", "Microseconds for which sessions were pinned, as far as that is over."),
];

fn pins(facts: &Facts) -> Vec<Row> {
    let mut rows = Vec::new();
    for pool in &facts.pools {
        for pin in pool.pins.iter().filter(|pin| pin.total > 0) {
            rows.push(vec![
                Value::text(&pool.database),
                Value::text(&pool.user),
                Value::text(pin.reason),
                Value::int8(pin.now),
                Value::int8(pin.total),
                Value::int8(u64::try_from(pin.time.as_micros()).unwrap_or(u64::MAX)),
            ]);
        }
    }
    rows
}

const PREPARED: &[Column] = &[
    int8("id", "Number; servers know the statement as `hawser_p<id>`."),
    text("query", "Its text."),
    int4("parameters", "Parameter types that the client gave."),
    int4("users", "Clients and server connections that have it."),
    int4("bytes", "Memory that it takes."),
];

fn prepared(facts: &Facts) -> Vec<Row> {
    let row = |statement: &crate::door::facts::Statement| {
        vec![
            Value::int8(statement.id),
            Value::text(&statement.text),
            Value::int4(statement.parameters),
            Value::int4(statement.users),
            Value::int4(statement.size),
        ]
    };
    facts.statements.iter().map(row).collect()
}

const TRANSACTIONS: &[Column] = &[
    int4("id", "Number of the client; KILL_CLIENT takes it."),
    text("database", "Database."),
    text("user", "User of the client."),
    text(
        "state",
        "`active`: the server works; `idle in transaction`: the client thinks; `pinned`: between two transactions.",
    ),
    text("since", "When it took the server connection."),
    int8("age_us", "Microseconds since then."),
    int4("remote_pid", "Process number on the server."),
    text(
        "pins",
        "Why it keeps its server connection, each reason with the time for which it has held, parted by commas.",
    ),
    text("addr", "Address of the client."),
    int4("port", "Its port."),
    text("application_name", "Its name for itself."),
    int4("worker", "The worker that serves it."),
];

fn transactions(facts: &Facts) -> Vec<Row> {
    let mut linked: Vec<&Client> =
        facts.clients.iter().filter(|client| client.state == ClientState::Active).collect();
    linked.sort_by_key(|client| client.requested);
    let row = |client: &Client| {
        let state = match (client.busy, client.in_transaction) {
            (true, _) => "active",
            (false, true) => "idle in transaction",
            (false, false) => "pinned",
        };
        vec![
            Value::int4(client.id),
            Value::text(&client.database),
            Value::text(&client.user),
            Value::text(state),
            Value::text(timestamp(client.requested)),
            Value::int8(micros(client.requested.elapsed().unwrap_or_default())),
            Value::int4(client.server_pid),
            Value::text(held(&client.pins)),
            Value::text(&client.ends.address),
            Value::int4(client.ends.port),
            Value::text(&client.application_name),
            client.worker.map_or(Value::Null, Value::int4),
        ]
    };
    linked.into_iter().map(row).collect()
}

const WAITERS: &[Column] = &[
    int4("id", "Number of the client; KILL_CLIENT takes it."),
    text("database", "Database."),
    text("user", "User of the client."),
    int8("waited_us", "Microseconds so far."),
    text("addr", "Address of the client."),
    int4("port", "Its port."),
    text("application_name", "Its name for itself."),
];

/// `temporary_object 12s,listen 3s`
fn held(pins: &[(&'static str, Duration)]) -> String {
    let words: Vec<String> =
        pins.iter().map(|(reason, held)| format!("{reason} {}s", held.as_secs())).collect();
    words.join(",")
}

fn waiters(facts: &Facts) -> Vec<Row> {
    let mut waiting: Vec<&Client> =
        facts.clients.iter().filter(|client| client.state == ClientState::Waiting).collect();
    waiting.sort_by_key(|client| std::cmp::Reverse(client.wait));
    let row = |client: &Client| {
        vec![
            Value::int4(client.id),
            Value::text(&client.database),
            Value::text(&client.user),
            Value::int8(micros(client.wait)),
            Value::text(&client.ends.address),
            Value::int4(client.ends.port),
            Value::text(&client.application_name),
        ]
    };
    waiting.into_iter().map(row).collect()
}

const ERRORS: &[Column] = &[
    text("database", "Database."),
    text("user", "User on the server."),
    text("sqlstate", "SQLSTATE."),
    int8("total", "Times since the start."),
];

fn errors(facts: &Facts) -> Vec<Row> {
    let mut rows = Vec::new();
    for pool in &facts.pools {
        for (sqlstate, total) in &pool.errors {
            rows.push(vec![
                Value::text(&pool.database),
                Value::text(&pool.user),
                Value::text(sqlstate),
                Value::int8(*total),
            ]);
        }
    }
    rows
}

const FINGERPRINTS: &[Column] = &[
    text("database", "Database."),
    text("user", "User on the server."),
    text("host", "`primary`, or the address of a standby."),
    text("fingerprint", "Equal for texts of one shape; it may change with the version of Hawser."),
    int8("calls", "Statements run."),
    int8("total_us", "Microseconds that servers worked."),
    int8("mean_us", "Microseconds of one batch."),
    int8("p50_us", "Half of them took no longer; the bound of a bucket, at most twice too large."),
    int8("p95_us", "95 % took no longer."),
    int8("p99_us", "99 % took no longer."),
    int8("rows", "Rows returned or changed."),
    int8("bytes", "Bytes to clients."),
    int8("errors", "Errors."),
    int8("waits", "Times that a client had to wait for a server connection first."),
    int8("wait_us", "Microseconds that those waited."),
    int8("pins", "Times that it pinned its session."),
    text("query", "The shape: SQL with `?` for literals."),
    text(
        "reasons",
        "Why batches went to the primary where there was a choice, and how many: `write 12, lag 3`.",
    ),
];

fn fingerprints(facts: &Facts) -> Vec<Row> {
    let row = |one: &crate::door::facts::Fingerprint| {
        let bound = |part| one.time.quantile(part).map_or(Value::Null, Value::int8);
        vec![
            Value::text(&one.database),
            Value::text(&one.user),
            Value::text(&one.host),
            Value::text(format!("{:016x}", one.hash)),
            Value::int8(one.calls),
            Value::int8(one.time.sum),
            one.time.sum.checked_div(one.time.count()).map_or(Value::Null, Value::int8),
            bound(0.5),
            bound(0.95),
            bound(0.99),
            Value::int8(one.rows),
            Value::int8(one.bytes),
            Value::int8(one.errors),
            Value::int8(one.waits),
            Value::int8(micros(one.waited)),
            Value::int8(one.pins),
            Value::text(&one.text),
            Value::text(in_words(&one.reasons)),
        ]
    };
    facts.fingerprints.iter().map(row).collect()
}

/// Reasons, the most frequent first.
fn in_words(reasons: &[(&'static str, u64)]) -> String {
    let mut reasons = reasons.to_vec();
    reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
    let words: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    words.join(", ")
}

const LATENCY: &[Column] = &[
    text("database", "Database."),
    text("user", "User on the server."),
    text("host", "`primary`, or the address of a standby."),
    text(
        "what",
        "`wait`: in the queue of the pool; `route`: for a standby that has seen enough; `query`: the server worked; `network`: the client did not read; `transaction`: a server connection was lent; `login`.",
    ),
    int8("count", "How many were measured since the start."),
    numeric("sum_us", "Microseconds of all of them."),
    int8("p50_us", "Half of them took no longer; the bound of a bucket, at most twice too large."),
    int8("p95_us", "95 % took no longer."),
    int8("p99_us", "99 % took no longer."),
];

fn latency(facts: &Facts) -> Vec<Row> {
    let mut rows = Vec::new();
    for pool in &facts.pools {
        let measured = [
            ("wait", &pool.wait),
            ("route", &pool.route),
            ("query", &pool.query),
            ("network", &pool.network),
            ("transaction", &pool.transaction),
            ("login", &pool.login),
        ];
        for (what, histogram) in measured {
            let mut row = vec![
                Value::text(&pool.database),
                Value::text(&pool.user),
                Value::text(&pool.host),
                Value::text(what),
                Value::int8(histogram.count()),
                Value::Numeric(histogram.sum),
            ];
            let bound = |part| histogram.quantile(part).map_or(Value::Null, Value::int8);
            row.extend([0.5, 0.95, 0.99].map(bound));
            rows.push(row);
        }
    }
    rows
}

const PROCESS: &[Column] = &[text("name", "What."), text("value", "Its value.")];

fn process(facts: &Facts) -> Vec<Row> {
    let Some(process) = &facts.process else { return Vec::new() };
    [
        ("version", process.version.clone()),
        ("started", timestamp(process.started)),
        ("workers", process.workers.to_string()),
        ("clients", process.clients.to_string()),
        ("max_clients", process.max_clients.to_string()),
        ("logins", process.logins.to_string()),
        ("consoles", process.consoles.to_string()),
        ("draining", if process.draining { "yes" } else { "no" }.to_owned()),
        ("resident_bytes", process.resident.to_string()),
        ("cpu_seconds", format!("{:.2}", process.cpu.as_secs_f64())),
        ("open_files", process.descriptors.0.to_string()),
        ("max_open_files", process.descriptors.1.to_string()),
        ("settings_read", timestamp(process.settings_read)),
        ("settings_wrong", if process.settings_wrong { "yes" } else { "no" }.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| vec![Value::text(name), Value::text(value)])
    .collect()
}

const WORKERS: &[Column] = &[
    int4("worker", "Its number."),
    int4("clients", "Clients that are logged in and served by it."),
    int4("load", "How much of a core it needs now, in percent."),
    int8("cpu_us", "Microseconds of CPU time since the start."),
    int8("departures", "Sessions that went on on another worker since the start."),
];

fn workers(facts: &Facts) -> Vec<Row> {
    let row = |worker: &Worker| {
        vec![
            Value::int4(worker.number),
            Value::int4(worker.clients),
            Value::int4(worker.load.div_ceil(10)),
            Value::int8(micros(worker.cpu)),
            Value::int8(worker.departures),
        ]
    };
    facts.workers.iter().map(row).collect()
}

const HOST_POOLS: &[Column] = &[
    text("database", "Database."),
    text("user", "User on the server."),
    text("host", "`primary`, or the address of a standby."),
    int4("size", "Server connections at most."),
    int4("active", "Server connections that are lent."),
    int4("idle", "Server connections that are free."),
    int4("resetting", "Server connections between two clients."),
    int4("opening", "Server connections being opened."),
    int4("waiting", "Clients that wait."),
    int8("opened", "Server connections opened since the start."),
    int8("closed", "Server connections closed since the start."),
    int8("reruns", "Lost transactions that were put back to run again (`lost_transactions`)."),
    int8("failed_reruns", "Of these, the ones that could not go on from there."),
    int8("transactions", "Transactions ended."),
    int8("queries", "Queries answered."),
];

fn host_pools(facts: &Facts) -> Vec<Row> {
    let row = |pool: &crate::door::facts::Pool| {
        vec![
            Value::text(&pool.database),
            Value::text(&pool.user),
            Value::text(&pool.host),
            Value::int4(pool.size),
            Value::int4(pool.active),
            Value::int4(pool.idle),
            Value::int4(pool.resetting),
            Value::int4(pool.opening),
            Value::int4(pool.waiting),
            Value::int8(pool.opened),
            Value::int8(pool.closed),
            Value::int8(pool.reruns),
            Value::int8(pool.failed_reruns),
            Value::int8(pool.totals.transactions),
            Value::int8(pool.totals.queries),
        ]
    };
    facts.pools.iter().map(row).collect()
}

const HOSTS: &[Column] = &[
    text("cluster", "Databases of the cluster, parted by commas."),
    int4("id", "Number of the host in the cluster."),
    text("host", "Its address."),
    text("role", "What it says that it is: `primary`, `standby` or `unknown`."),
    text("writes", "`yes`: writes go there."),
    text("usable", "`yes`: statements may be sent there."),
    text("state", "Its state, and why."),
    int8("age_ms", "Milliseconds in this state."),
    int4("timeline", "Its timeline."),
    text("lsn", "Position in the log that it has replayed; of the primary: that it has written."),
    int8("lag_bytes", "Bytes that the primary was ahead when last asked."),
    int8("lag_ms", "How old its data may be at most, in milliseconds."),
    int8("round_trip_us", "Microseconds that the last question took."),
    int4("version", "`server_version_num`."),
    text(
        "banned",
        "`no`; `yes` after BAN; after DRAIN `draining` while server connections lead there, and `drained` then.",
    ),
    int4("servers", "Server connections that lead there."),
];

fn hosts(facts: &Facts) -> Vec<Row> {
    let yes = |is| Value::text(if is { "yes" } else { "no" });
    let row = |host: &crate::door::facts::Host| {
        vec![
            Value::text(&host.cluster),
            Value::int4(host.id),
            Value::text(&host.address),
            Value::text(host.role),
            yes(host.is_primary),
            yes(host.is_usable),
            Value::text(&host.state),
            Value::int8(host.age.as_millis()),
            Value::int4(host.timeline),
            Value::text(&host.position),
            Value::int8(host.lag_bytes),
            host.lag.map_or(Value::Null, |lag| Value::int8(lag.as_millis())),
            Value::int8(micros(host.round_trip)),
            Value::int4(host.version),
            Value::text(match (host.ban, host.servers) {
                (Ban::None, _) => "no",
                (Ban::Banned, _) => "yes",
                (Ban::Drained, Some(0)) => "drained",
                (Ban::Drained, _) => "draining",
            }),
            host.servers.map_or(Value::Null, Value::int4),
        ]
    };
    facts.hosts.iter().map(row).collect()
}

const ROUTES: &[Column] = &[
    text("host", "`standby` or `primary`."),
    text(
        "reason",
        "`read`; or why not: `write`, `asked` (session or settings say so), `serializable`, `no standby`, `lag`, `not fresh` (no standby had seen the session's writes in time), `refused` (a standby refused it, and it ran again).",
    ),
    int8("total", "Batches since the start."),
];

fn routes(facts: &Facts) -> Vec<Row> {
    let row = |route: &crate::door::facts::Route| {
        vec![Value::text(route.to), Value::text(route.reason), Value::int8(route.total)]
    };
    facts.routes.iter().map(row).collect()
}

const FAILOVERS: &[Column] = &[
    text("cluster", "Databases of the cluster, parted by commas."),
    text("began", "When the first sign was seen."),
    text("from_host", "The primary before."),
    text("to_host", "The primary after; empty while there is none."),
    int8("lost_ms", "Milliseconds without a primary."),
    text("phases", "What happened, each with its time after the first sign."),
];

fn failovers(facts: &Facts) -> Vec<Row> {
    let row = |failover: &crate::door::facts::Failover| {
        vec![
            Value::text(&failover.cluster),
            Value::text(timestamp(failover.began)),
            Value::optional(failover.from.as_deref()),
            Value::optional(failover.to.as_deref()),
            failover.lost_for.map_or(Value::Null, |lost| Value::int8(lost.as_millis())),
            Value::text(&failover.phases),
        ]
    };
    facts.failovers.iter().map(row).collect()
}
