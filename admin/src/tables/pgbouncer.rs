//! The tables of PgBouncer 1.25, column by column. Source: its `src/admin.c` and `src/stats.c`. Pure.

use super::time::timestamp;
use super::{Column, Row, Table, Value, bytea, int4, int8, numeric, text};
use crate::door::facts::{Client, ClientState, Database, Facts, Lending, Pool, Server, Stats, Totals};
use crate::door::{Question, Role};
use std::time::Duration;

const fn table(
    name: &'static str,
    help: &'static str,
    questions: &'static [Question],
    columns: &'static [Column],
    rows: fn(&Facts) -> Vec<Row>,
) -> Table {
    Table { name, pgbouncer: true, role: Role::Reader, help, questions, columns, rows }
}

/// See the module.
pub(super) const TABLES: &[Table] = &[
    table(
        "databases",
        "Databases, their limits, and what is used of them.",
        &[Question::Databases],
        DATABASES,
        databases,
    ),
    table("pools", "Pools: one for each database and user.", &[Question::Pools], POOLS, pools),
    table("clients", "Clients that are logged in.", &[Question::Clients], LINKS, clients),
    table("servers", "Server connections.", &[Question::Servers], LINKS, servers),
    table(
        "sockets",
        "Clients and server connections, with their buffers.",
        &[Question::Clients, Question::Servers],
        SOCKETS,
        sockets,
    ),
    table(
        "active_sockets",
        "As `sockets`, without those that are idle.",
        &[Question::Clients, Question::Servers],
        SOCKETS,
        active_sockets,
    ),
    table(
        "users",
        "Users of the settings, their limits, and what is used of them.",
        &[Question::Users],
        USERS,
        users,
    ),
    table(
        "stats",
        "Counters by database, in total and on average over the last `log.stats_period` (60 s if that is off). Times are in microseconds.",
        &[Question::Stats],
        STATS,
        stats,
    ),
    table("stats_totals", "The totals of `stats`.", &[Question::Stats], STATS_TOTALS, stats_totals),
    table("stats_averages", "The averages of `stats`.", &[Question::Stats], STATS_AVERAGES, stats_averages),
    table(
        "totals",
        "`stats` of all databases together, one counter a row.",
        &[Question::Stats],
        TOTALS,
        totals,
    ),
    table(
        "lists",
        "How many there are of what.",
        &[Question::Process, Question::Databases, Question::Users, Question::Pools],
        LISTS,
        lists,
    ),
    table(
        "config",
        "Settings, by PgBouncer's name where it has one; durations are in seconds there. `SHOW SETTINGS` has ours.",
        &[Question::Settings],
        CONFIG,
        config,
    ),
    table("state", "Whether server connections are lent.", &[Question::Process], STATE, state),
    table(
        "mem",
        "Memory: what blocks and statements take, and the process as a whole.",
        &[Question::Process],
        MEM,
        mem,
    ),
    table("peers", "Other poolers that cancel requests are passed to; there are none.", &[], PEERS, none),
    table("peer_pools", "Pools of cancel requests to peers; there are none.", &[], PEER_POOLS, none),
    table("dns_hosts", "Names that were resolved; the system does that.", &[], DNS_HOSTS, none),
    table("dns_zones", "Zones that are watched; the system does that.", &[], DNS_ZONES, none),
    Table {
        role: Role::Admin,
        ..table(
            "fds",
            "File descriptors. Secrets are never shown.",
            &[Question::Listeners, Question::Clients, Question::Servers],
            FDS,
            fds,
        )
    },
    table(
        "version",
        "The version of PgBouncer whose console this is, and that of Hawser.",
        &[Question::Process],
        VERSION,
        version,
    ),
];

fn none(_: &Facts) -> Vec<Row> {
    Vec::new()
}

fn count(number: usize) -> Value {
    Value::int4(number)
}

/// A limit; none is 0.
fn limit(number: Option<usize>) -> Value {
    Value::int4(number.unwrap_or(0))
}

fn flag(is: bool) -> Value {
    Value::Int4(i32::from(is))
}

const DATABASES: &[Column] = &[
    text("name", "Name that clients ask for."),
    text("host", "Its hosts."),
    int4("port", "Port of the first host."),
    text("database", "Name on the server."),
    text("force_user", "User that every client becomes on the server."),
    int4("pool_size", "Server connections of one pool at most."),
    int4("min_pool_size", "Server connections kept open."),
    int4("reserve_pool_size", "More server connections for clients that wait long."),
    int4("server_lifetime", "Age in seconds at which a server connection is closed; 0: never."),
    text("pool_mode", "`session`, `transaction` or `statement`."),
    text("load_balance_hosts", "`round-robin`, or `disable`: the first host that answers."),
    int4("max_connections", "Server connections of all its pools at most; 0: no limit."),
    int4("current_connections", "Server connections now."),
    int4("max_client_connections", "Clients at most; 0: no limit."),
    int4("current_client_connections", "Clients now."),
    int4("paused", "1 after PAUSE or KILL."),
    int4("disabled", "1 after DISABLE."),
    // Behind PgBouncer's.
    int4("reserve_pool", "The same as `reserve_pool_size`, under its name before PgBouncer 1.24."),
    int4("held", "1 after HOLD or SUSPEND, and while a switchover that was announced is awaited."),
];

fn databases(facts: &Facts) -> Vec<Row> {
    facts.databases.iter().map(database).collect()
}

fn database(database: &Database) -> Row {
    vec![
        Value::text(&database.name),
        Value::optional(database.host.as_deref()),
        Value::int4(database.port),
        Value::text(&database.dbname),
        Value::optional(database.force_user.as_deref()),
        count(database.pool_size),
        count(database.min_pool_size),
        count(database.reserve_pool_size),
        Value::int4(database.server_lifetime.unwrap_or_default().as_secs()),
        Value::text(&database.pool_mode),
        Value::text(&database.load_balance_hosts),
        limit(database.max_connections),
        count(database.connections),
        limit(database.max_clients),
        count(database.clients),
        flag(database.paused),
        flag(database.disabled),
        count(database.reserve_pool_size),
        flag(database.held),
    ]
}

const POOLS: &[Column] = &[
    text("database", "Database as clients name it."),
    text("user", "User on the server."),
    int4("cl_active", "Clients that have a server connection or want none."),
    int4("cl_waiting", "Clients that wait for a server connection."),
    int4("cl_active_cancel_req", "Always 0: a cancel request is no client of a pool."),
    int4("cl_waiting_cancel_req", "Always 0: cancel requests do not wait."),
    int4("sv_active", "Server connections that are lent."),
    int4("sv_active_cancel", "Always 0: cancel requests use connections outside the pool."),
    int4("sv_being_canceled", "Always 0: counted as `sv_tested`."),
    int4("sv_idle", "Server connections that are free."),
    int4("sv_used", "Always 0: a connection that needs a check is checked when it is wanted."),
    int4(
        "sv_tested",
        "Server connections between two clients: reset, checked, or with a cancel request under way.",
    ),
    int4("sv_login", "Server connections being opened."),
    int4("maxwait", "Whole seconds that the first client in the queue has waited."),
    int4("maxwait_us", "Microseconds beyond those."),
    text("pool_mode", "`session`, `transaction` or `statement`."),
    text("load_balance_hosts", "As in `databases`."),
];

/// PgBouncer has one pool for each database and user; ours on several hosts are one to its tools.
fn pools(facts: &Facts) -> Vec<Row> {
    let mut merged: Vec<Pool> = Vec::new();
    for pool in &facts.pools {
        match merged.last_mut().filter(|last| (&last.database, &last.user) == (&pool.database, &pool.user)) {
            Some(last) => last.add(pool),
            None => merged.push(pool.clone()),
        }
    }
    merged.iter().map(pool).collect()
}

fn pool(pool: &Pool) -> Row {
    let (seconds, micros) = split(pool.oldest_wait);
    vec![
        Value::text(&pool.database),
        Value::text(&pool.user),
        count(pool.clients.saturating_sub(pool.waiting)),
        count(pool.waiting),
        Value::Int4(0),
        Value::Int4(0),
        count(pool.active),
        Value::Int4(0),
        Value::Int4(0),
        count(pool.idle),
        Value::Int4(0),
        count(pool.resetting),
        count(pool.opening),
        seconds,
        micros,
        Value::text(&pool.mode),
        Value::text(&pool.load_balance_hosts),
    ]
}

fn split(duration: Duration) -> (Value, Value) {
    (Value::int4(duration.as_secs()), Value::int4(duration.subsec_micros()))
}

macro_rules! link_columns {
    ($($more:expr),* $(,)?) => {
        &[
            text("type", "`C` is a client, `S` a server connection."),
            text("user", "User."),
            text("database", "Database as clients name it."),
            text("replication", "`none`, `logical` or `physical`."),
            text("state", "Clients: `active`, `idle`, `waiting`. Server connections: `active`, `idle`, `tested`."),
            text("addr", "Address of the other side."),
            int4("port", "Its port."),
            text("local_addr", "Our address."),
            int4("local_port", "Our port."),
            text("connect_time", "When it connected."),
            text("request_time", "When it last asked for something, or was last lent."),
            int4("wait", "Whole seconds that it has waited for a server connection."),
            int4("wait_us", "Microseconds beyond those."),
            int4("close_needed", "1: it is closed as soon as it is free."),
            text("ptr", "A word for this connection."),
            text("link", "The word for what it is linked to."),
            int4("remote_pid", "Process number on the server."),
            text("tls", "TLS version and cipher."),
            text("application_name", "The client's name for itself."),
            int4("prepared_statements", "Prepared statements that it has."),
            int4("id", "A number for it; KILL_CLIENT takes it."),
            $($more),*
        ]
    };
}

const LINKS: &[Column] = link_columns!();
const SOCKETS: &[Column] = link_columns!(
    int4("recv_pos", "Always 0: a connection at rest has no buffer."),
    int4("pkt_pos", "Always 0."),
    int4("pkt_remain", "Always 0."),
    int4("send_pos", "Always 0."),
    int4("send_remain", "Always 0."),
    int4("pkt_avail", "Always 0."),
    int4("send_avail", "Always 0."),
);

fn client_word(id: u32) -> String {
    format!("0xc{id:08x}")
}

fn server_word(id: u64) -> String {
    format!("0x5{id:08x}")
}

fn clients(facts: &Facts) -> Vec<Row> {
    facts.clients.iter().map(|one| client(one, "")).collect()
}

fn client(client: &Client, prefix: &str) -> Row {
    let (wait, wait_us) = split(client.wait);
    let ends = &client.ends;
    vec![
        Value::text("C"),
        Value::text(&client.user),
        Value::text(&client.database),
        Value::text(client.replication),
        Value::text(format!("{prefix}{}", client.state.word())),
        Value::text(&ends.address),
        Value::int4(ends.port),
        Value::text(&ends.local_address),
        Value::int4(ends.local_port),
        Value::text(timestamp(client.connected)),
        Value::text(timestamp(client.requested)),
        wait,
        wait_us,
        Value::Int4(0),
        Value::text(client_word(client.id)),
        Value::text(client.server.map(server_word).unwrap_or_default()),
        Value::int4(client.server_pid),
        Value::text(&ends.tls),
        Value::text(&client.application_name),
        count(client.prepared_statements),
        Value::int4(client.id),
    ]
}

fn servers(facts: &Facts) -> Vec<Row> {
    facts.servers.iter().map(|one| server(one, "")).collect()
}

fn server(server: &Server, prefix: &str) -> Row {
    let ends = &server.ends;
    vec![
        Value::text("S"),
        Value::text(&server.user),
        Value::text(&server.database),
        Value::text("none"),
        Value::text(format!("{prefix}{}", server.state.word())),
        Value::text(&ends.address),
        Value::int4(ends.port),
        Value::text(&ends.local_address),
        Value::int4(ends.local_port),
        Value::text(timestamp(server.connected)),
        Value::text(timestamp(server.requested)),
        Value::Int4(0),
        Value::Int4(0),
        flag(server.close_needed),
        Value::text(server_word(server.id)),
        Value::text(server.client.map(client_word).unwrap_or_default()),
        Value::int4(server.pid),
        Value::text(&ends.tls),
        Value::text(""),
        count(server.prepared_statements),
        Value::int4(server.id),
    ]
}

fn sockets(facts: &Facts) -> Vec<Row> {
    let clients = facts.clients.iter().map(|one| client(one, "cl_"));
    let servers = facts.servers.iter().map(|one| server(one, "sv_"));
    let buffers = || std::iter::repeat_n(Value::Int4(0), SOCKETS.len() - LINKS.len());
    clients.chain(servers).map(|row| row.into_iter().chain(buffers()).collect()).collect()
}

fn active_sockets(facts: &Facts) -> Vec<Row> {
    use crate::door::facts::ServerState;
    let busy = Facts {
        clients: facts.clients.iter().filter(|one| one.state != ClientState::Idle).cloned().collect(),
        servers: facts.servers.iter().filter(|one| one.state != ServerState::Idle).cloned().collect(),
        ..Facts::default()
    };
    sockets(&busy)
}

const USERS: &[Column] = &[
    text("name", "Name."),
    text("pool_size", "Its own pool size, if it has one."),
    text("reserve_pool_size", "Its own reserve, if it has one."),
    text("pool_mode", "Its own pool mode, if it has one."),
    int4("max_user_connections", "Server connections at most; 0: no limit."),
    int4("current_connections", "Server connections now."),
    int4("max_user_client_connections", "Clients at most; 0: no limit."),
    int4("current_client_connections", "Clients now."),
];

fn users(facts: &Facts) -> Vec<Row> {
    let size = |size: Option<usize>| Value::optional(size.map(|size| size.to_string()));
    let row = |user: &crate::door::facts::User| {
        vec![
            Value::text(&user.name),
            size(user.pool_size),
            size(user.reserve_pool_size),
            Value::optional(user.pool_mode.as_deref()),
            limit(user.max_connections),
            count(user.connections),
            limit(user.max_clients),
            count(user.clients),
        ]
    };
    facts.users.iter().map(row).collect()
}

const STATS: &[Column] = &[
    text("database", "Database."),
    numeric("total_server_assignment_count", "Server connections lent."),
    numeric("total_xact_count", "Transactions ended."),
    numeric("total_query_count", "Queries answered."),
    numeric("total_received", "Bytes from clients."),
    numeric("total_sent", "Bytes to clients."),
    numeric("total_xact_time", "Microseconds in transactions."),
    numeric("total_query_time", "Microseconds in which a server worked on a query."),
    numeric("total_wait_time", "Microseconds that clients waited for a server connection."),
    numeric("total_client_parse_count", "Parses by clients."),
    numeric("total_server_parse_count", "Parses sent to servers."),
    numeric("total_bind_count", "Binds."),
    numeric("total_client_login_count", "Logins."),
    numeric("avg_server_assignment_count", "Server connections lent in a second."),
    numeric("avg_xact_count", "Transactions in a second."),
    numeric("avg_query_count", "Queries in a second."),
    numeric("avg_recv", "Bytes from clients in a second."),
    numeric("avg_sent", "Bytes to clients in a second."),
    numeric("avg_xact_time", "Microseconds of a transaction."),
    numeric("avg_query_time", "Microseconds of a query."),
    numeric("avg_wait_time", "Microseconds of waiting in a second."),
    numeric("avg_client_parse_count", "Parses by clients in a second."),
    numeric("avg_server_parse_count", "Parses sent to servers in a second."),
    numeric("avg_bind_count", "Binds in a second."),
    numeric("avg_client_login_count", "Logins in a second."),
    numeric("total_requests", "The same as `total_query_count`, under its name before PgBouncer 1.8."),
];

const STATS_TOTALS: &[Column] = &[
    text("database", "Database."),
    numeric("server_assignment_count", "Server connections lent."),
    numeric("xact_count", "Transactions ended."),
    numeric("query_count", "Queries answered."),
    numeric("bytes_received", "Bytes from clients."),
    numeric("bytes_sent", "Bytes to clients."),
    numeric("xact_time", "Microseconds in transactions."),
    numeric("query_time", "Microseconds in which a server worked on a query."),
    numeric("wait_time", "Microseconds that clients waited for a server connection."),
    numeric("client_parse_count", "Parses by clients."),
    numeric("server_parse_count", "Parses sent to servers."),
    numeric("bind_count", "Binds."),
    numeric("client_login_count", "Logins."),
];

const STATS_AVERAGES: &[Column] = &[
    text("database", "Database."),
    numeric("server_assignment_count", "Server connections lent in a second."),
    numeric("xact_count", "Transactions in a second."),
    numeric("query_count", "Queries in a second."),
    numeric("bytes_received", "Bytes from clients in a second."),
    numeric("bytes_sent", "Bytes to clients in a second."),
    numeric("xact_time", "Microseconds of a transaction."),
    numeric("query_time", "Microseconds of a query."),
    numeric("wait_time", "Microseconds of waiting in a second."),
    numeric("avg_client_parse_count", "Parses by clients in a second."),
    numeric("avg_server_parse_count", "Parses sent to servers in a second."),
    numeric("avg_bind_count", "Binds in a second."),
    numeric("avg_client_login_count", "Logins in a second."),
];

/// Counters in PgBouncer's order.
fn counters(totals: &Totals) -> [u64; 12] {
    [
        totals.assignments,
        totals.transactions,
        totals.queries,
        totals.received,
        totals.sent,
        totals.transaction_time,
        totals.query_time,
        totals.wait_time,
        totals.client_parses,
        totals.server_parses,
        totals.binds,
        totals.logins,
    ]
}

fn counted(database: &str, totals: &[&Totals]) -> Row {
    let numbers = totals.iter().flat_map(|totals| counters(totals)).map(Value::Numeric);
    std::iter::once(Value::text(database)).chain(numbers).collect()
}

fn stats(facts: &Facts) -> Vec<Row> {
    let row = |stats: &Stats| {
        let mut row = counted(&stats.database, &[&stats.totals, &stats.averages]);
        row.push(Value::Numeric(stats.totals.queries));
        row
    };
    facts.stats.iter().map(row).collect()
}

fn stats_totals(facts: &Facts) -> Vec<Row> {
    facts.stats.iter().map(|stats| counted(&stats.database, &[&stats.totals])).collect()
}

fn stats_averages(facts: &Facts) -> Vec<Row> {
    facts.stats.iter().map(|stats| counted(&stats.database, &[&stats.averages])).collect()
}

const TOTALS: &[Column] = &[text("name", "Counter."), numeric("value", "Its value.")];

const TOTAL_NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

fn totals(facts: &Facts) -> Vec<Row> {
    let sum = facts.stats.iter().fold((Totals::default(), Totals::default()), |sum, stats| {
        (sum.0.plus(&stats.totals), sum.1.plus(&stats.averages))
    });
    let rows = |prefix: &'static str, totals: Totals| {
        let named = TOTAL_NAMES.into_iter().zip(counters(&totals));
        named.map(move |(name, value)| vec![Value::text(format!("{prefix}_{name}")), Value::Numeric(value)])
    };
    rows("total", sum.0).chain(rows("avg", sum.1)).collect()
}

const LISTS: &[Column] = &[text("list", "What."), int4("items", "How many.")];

fn lists(facts: &Facts) -> Vec<Row> {
    let sum = |part: fn(&Pool) -> usize| facts.pools.iter().map(part).sum::<usize>();
    let process = facts.process.as_ref();
    [
        ("databases", facts.databases.len()),
        ("users", facts.users.len()),
        ("peers", 0),
        ("pools", facts.pools.len()),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", process.map_or(0, |process| process.clients + process.consoles)),
        ("login_clients", process.map_or(0, |process| process.logins)),
        ("free_servers", sum(|pool| pool.idle)),
        ("used_servers", sum(|pool| pool.active + pool.resetting + pool.opening)),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ]
    .into_iter()
    .map(|(list, items)| vec![Value::text(list), count(items)])
    .collect()
}

const CONFIG: &[Column] = &[
    text("key", "Name."),
    text("value", "Value in force."),
    text("default", "Value when nothing is written."),
    text("changeable", "`yes`: RELOAD or SET changes it; `no`: a restart does."),
];

fn config(facts: &Facts) -> Vec<Row> {
    let mut seen = std::collections::BTreeSet::new();
    let mut rows = Vec::new();
    for setting in &facts.settings {
        let (key, value, default) = if setting.pgbouncer.is_empty() {
            (&setting.name, &setting.value, &setting.default)
        } else {
            (&setting.pgbouncer, &setting.pgbouncer_value, &setting.pgbouncer_default)
        };
        if seen.insert(key) {
            let changeable = if setting.changeable { "yes" } else { "no" };
            rows.push(vec![
                Value::text(key),
                Value::text(value),
                Value::text(default),
                Value::text(changeable),
            ]);
        }
    }
    rows
}

const STATE: &[Column] = &[text("key", "State."), text("value", "`yes` or `no`.")];

fn state(facts: &Facts) -> Vec<Row> {
    let now = facts.process.as_ref().map(|process| process.lending).unwrap_or_default();
    [("active", Lending::Active), ("paused", Lending::Paused), ("suspended", Lending::Suspended)]
        .into_iter()
        .map(|(key, state)| vec![Value::text(key), Value::text(if state == now { "yes" } else { "no" })])
        .collect()
}

const MEM: &[Column] = &[
    text("name", "What."),
    int4("size", "Bytes of one."),
    int4("used", "How many are in use; 0 where nobody counts them."),
    int4("free", "How many are in reserve."),
    int4("memtotal", "Bytes in all."),
];

fn mem(facts: &Facts) -> Vec<Row> {
    let Some(process) = &facts.process else { return Vec::new() };
    let (free, size) = process.blocks;
    let row = |name: &str, size: usize, used: usize, free: usize, total: u64| {
        vec![Value::text(name), count(size), count(used), count(free), Value::int4(total)]
    };
    vec![
        row("block_cache", size, 0, free, (size * free) as u64),
        row("statements", 0, process.statements, 0, 0),
        row("clients", 0, process.clients, 0, 0),
        row("process", 0, 0, 0, process.resident),
    ]
}

const PEERS: &[Column] = &[
    int4("peer_id", "Number."),
    text("host", "Host."),
    int4("port", "Port."),
    int4("pool_size", "Connections at most."),
];

const PEER_POOLS: &[Column] = &[
    int4("peer_id", "Number of the peer."),
    int4("cl_active_cancel_req", "Cancel requests passed on."),
    int4("cl_waiting_cancel_req", "Cancel requests that wait."),
    int4("sv_active_cancel", "Connections that carry one."),
    int4("sv_login", "Connections being opened."),
];

const DNS_HOSTS: &[Column] =
    &[text("hostname", "Name."), int8("ttl", "Seconds that the answer holds."), text("addrs", "Addresses.")];

const DNS_ZONES: &[Column] =
    &[text("zonename", "Zone."), int8("serial", "Its serial number."), int4("count", "Names in it.")];

const FDS: &[Column] = &[
    int4("fd", "Number of the descriptor."),
    text("task", "`pooler`, `client` or `server`."),
    text("user", "User."),
    text("database", "Database."),
    text("addr", "Address of the other side; ours for `pooler`."),
    int4("port", "Its port."),
    int8("cancel", "Always 0: keys are never shown."),
    int4("link", "Descriptor that it is linked to."),
    text("client_encoding", "Always empty: settings are tracked, not shown here."),
    text("std_strings", "Always empty."),
    text("datestyle", "Always empty."),
    text("timezone", "Always empty."),
    text("password", "Always empty."),
    bytea("scram_client_key", "Always empty."),
    bytea("scram_server_key", "Always empty."),
];

fn fds(facts: &Facts) -> Vec<Row> {
    let row =
        |descriptor: i32, task: &str, user: &str, database: &str, address: &str, port: u16, link: i32| {
            let mut row = vec![
                Value::Int4(descriptor),
                Value::text(task),
                Value::text(user),
                Value::text(database),
                Value::text(address),
                Value::int4(port),
                Value::Int8(0),
                Value::Int4(link),
            ];
            row.resize(FDS.len(), Value::Null);
            row
        };
    let listeners =
        facts.listeners.iter().map(|one| row(one.descriptor, "pooler", "", "", &one.address, one.port, 0));
    let clients = facts.clients.iter().map(|one| {
        let linked = facts.servers.iter().find(|server| Some(server.id) == one.server);
        let link = linked.map_or(0, |server| server.ends.descriptor);
        row(one.ends.descriptor, "client", &one.user, &one.database, &one.ends.address, one.ends.port, link)
    });
    let servers = facts.servers.iter().map(|one| {
        let linked = facts.clients.iter().find(|client| Some(client.id) == one.client);
        let link = linked.map_or(0, |client| client.ends.descriptor);
        row(one.ends.descriptor, "server", &one.user, &one.database, &one.ends.address, one.ends.port, link)
    });
    listeners.chain(clients).chain(servers).collect()
}

const VERSION: &[Column] = &[text("version", "PgBouncer's version, and ours.")];

fn version(facts: &Facts) -> Vec<Row> {
    let ours = facts.process.as_ref().map_or("", |process| process.version.as_str());
    vec![vec![Value::text(version_text(ours))]]
}

/// What `SHOW VERSION` and `version()` say.
pub(crate) fn version_text(ours: &str) -> String {
    format!("PgBouncer {PGBOUNCER_VERSION} (Hawser {ours})")
}

/// The version of PgBouncer whose console this is.
pub const PGBOUNCER_VERSION: &str = "1.25.2";
