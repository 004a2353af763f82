//! Pure. The one list of settings: name, kind, default, PgBouncer's name, when a change applies, and a sentence.
//!
//! It drives the TOML file, the environment, `hawser reference` and `SHOW CONFIG`; a setting that is not here does
//! not exist, and a test holds `REFERENCE.md` against it.

use std::fmt::Write;

/// What may be written for a setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number between bounds.
    Count {
        /// Smallest.
        least: u64,
        /// Largest.
        most: u64,
    },
    /// A number from 0 to a bound.
    Fraction {
        /// Largest.
        most: f64,
    },
    /// A duration with a unit, longer than zero.
    Duration,
    /// A duration with a unit; "0" is off.
    DurationOrOff,
    /// A number of bytes with a unit.
    Size {
        /// Smallest.
        least: usize,
    },
    /// Any string.
    Text,
    /// The name of a file or folder.
    Path,
    /// Permission bits such as "0777".
    Permissions,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// A list of strings; a single string is a list of one.
    List,
    /// A table of strings.
    Pairs,
    /// A string that is never shown.
    Secret,
    /// A list of strings that are never shown.
    Secrets,
}

impl Kind {
    /// Whether the value must never be shown.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::Secrets)
    }

    /// The kind in words, for people.
    pub fn in_words(self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Count { least, most } if most >= MANY => format!("number, at least {least}"),
            Self::Count { least, most } => format!("number, {least} to {most}"),
            Self::Fraction { most } => format!("number, 0.0 to {most:.1}"),
            Self::Duration => "duration".to_owned(),
            Self::DurationOrOff => "duration, 0 is off".to_owned(),
            Self::Size { least } => format!("size, at least {}", super::units::format_size(least)),
            Self::Text => "text".to_owned(),
            Self::Path => "file name".to_owned(),
            Self::Permissions => "permission bits".to_owned(),
            Self::Word(words) => words.join(", "),
            Self::List => "list of texts".to_owned(),
            Self::Pairs => "table of texts".to_owned(),
            Self::Secret => "secret".to_owned(),
            Self::Secrets => "list of secrets".to_owned(),
        }
    }
}

/// What holds when nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// This, as if it had been written.
    Value(&'static str),
    /// Nothing, which means what the words say.
    Unset(&'static str),
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// On reload, without dropping a client.
    Reload,
    /// On restart only.
    Restart,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Name in the file; dots part tables.
    pub name: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// What holds when nothing is written.
    pub preset: Preset,
    /// PgBouncer's name for it; empty when it has none.
    pub pgbouncer: &'static str,
    /// When a change takes effect.
    pub change: Change,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

impl Setting {
    /// The environment variable that sets it: `HAWSER_POOL_SIZE` for `pool.size`.
    pub fn environment_name(&self) -> String {
        let name = match self.name {
            "listen.address" => "listen",
            "http.address" => "http",
            name => name,
        };
        format!("{ENVIRONMENT_PREFIX}{}", name.replace('.', "_").to_uppercase())
    }
}

/// What the environment variables of Hawser begin with.
pub const ENVIRONMENT_PREFIX: &str = "HAWSER_";

/// A bound on counts that only keeps arithmetic safe.
const MANY: u64 = 1_000_000_000;

/// At least none.
const ANY: Kind = Kind::Count { least: 0, most: MANY };
/// At least one.
const SOME: Kind = Kind::Count { least: 1, most: MANY };
/// libpq's words for TLS.
pub const TLS_MODES: Kind =
    Kind::Word(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]);
/// TLS versions.
const TLS_VERSIONS: Kind = Kind::Word(&["1.2", "1.3"]);
/// How TLS begins.
const TLS_NEGOTIATION: Kind = Kind::Word(&["postgres", "direct"]);
/// What is told of a commit that was not answered.
const COMMIT_OUTCOMES: Kind = Kind::Word(&["unknown", "resolve", "resolve-all"]);
/// What becomes of a transaction whose server is lost.
const LOST_TRANSACTIONS: Kind = Kind::Word(&["fail", "replay"]);
/// Where statements run.
const ROUTES: Kind = Kind::Word(&["auto", "primary", "standby"]);
/// Where a transaction begins that may write.
const BEGINNINGS: Kind = Kind::Word(&["primary", "standby"]);
const CONSISTENCIES: Kind = Kind::Word(&["session", "cluster", "eventual"]);

const POOL_MODES: Kind = Kind::Word(&["session", "transaction", "statement"]);

const fn live(
    name: &'static str,
    kind: Kind,
    preset: Preset,
    pgbouncer: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { name, kind, preset, pgbouncer, change: Change::Reload, doc }
}

const fn fixed(
    name: &'static str,
    kind: Kind,
    preset: Preset,
    pgbouncer: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { name, kind, preset, pgbouncer, change: Change::Restart, doc }
}

use Preset::{Unset, Value};

/// Settings of the whole process.
#[rustfmt::skip]
pub const GLOBAL: &[Setting] = &[
    live("cluster.url", Kind::Secret, Unset("none"), "",
        "The cluster as a URL, `postgres://user:password@host1,host2/dbname`. Its user may log in with its password; its database and every other database name lead to its hosts. `DATABASE_URL` means the same when nothing is named on the command line."),
    live("cluster.patroni", Kind::List, Unset("none"), "",
        "Addresses of Patroni's REST API, `http://HOST:8008`, of the cluster that `cluster.url` names. Hosts that Patroni adds are taken up without a restart; a switchover that it has scheduled is waited for."),
    live("cluster.monitor", Kind::Secret, Unset("none"), "",
        "URL of the monitor of pg_auto_failover, `postgres://autoctl_node@HOST/pg_auto_failover`, of the cluster that `cluster.url` names. Nodes that it adds are taken up without a restart; a switchover is known when it begins."),
    fixed("listen.address", Kind::List, Value("127.0.0.1:6432"), "listen_addr",
        "TCP addresses, `ADDRESS:PORT`; `*:6432` is every address. `listen = \"…\"` at the top is short for it. An address that is not loopback needs `client_tls.mode` of `require` or better, or `listen.allow_plaintext`."),
    fixed("listen.allow_plaintext", Kind::Switch, Value("false"), "",
        "Allow clients on a public address to talk without TLS."),
    fixed("listen.unix_dir", Kind::Path, Unset("no Unix socket"), "unix_socket_dir",
        "Folder of the Unix socket `.s.PGSQL.<port>`."),
    fixed("listen.unix_port", Kind::Count { least: 1, most: 65_535 }, Value("6432"), "listen_port",
        "Port in the name of the Unix socket."),
    fixed("listen.unix_mode", Kind::Permissions, Value("0777"), "unix_socket_mode",
        "Permission bits of the Unix socket."),
    fixed("listen.unix_group", Kind::Text, Unset("the group of the process"), "unix_socket_group",
        "Group of the Unix socket."),
    fixed("listen.backlog", SOME, Value("1024"), "listen_backlog",
        "Length of the queue of connections that are not accepted yet."),
    fixed("listen.defer_accept", Kind::DurationOrOff, Value("45s"), "tcp_defer_accept",
        "A client that connects by TCP and says nothing stays with the kernel for about so long, and costs nothing until then (TCP_DEFER_ACCEPT); 0: it is accepted at once, and has `timeouts.login` to speak. A socket from systemd has what its unit says (`DeferAcceptSec=`)."),
    fixed("listen.keepalive", Kind::Switch, Value("true"), "tcp_keepalive",
        "TCP keep-alive on client sockets."),
    fixed("listen.keepalive_idle", Kind::DurationOrOff, Value("0"), "tcp_keepidle",
        "Idle time before the first keep-alive probe; 0: the system's."),
    fixed("listen.keepalive_interval", Kind::DurationOrOff, Value("0"), "tcp_keepintvl",
        "Time between keep-alive probes; 0: the system's."),
    fixed("listen.keepalive_count", ANY, Value("0"), "tcp_keepcnt",
        "Probes without an answer before a connection counts as dead; 0: the system's."),
    fixed("listen.user_timeout", Kind::DurationOrOff, Value("0"), "tcp_user_timeout",
        "How long sent bytes may stay unacknowledged; 0: the system's."),
    fixed("workers", Kind::Count { least: 1, most: 1024 }, Unset("one per core"), "",
        "Worker threads."),
    live("balance", Kind::Word(&["auto", "off", "roam"]), Value("auto"), "",
        "How sessions are spread over the workers. `auto`: a session may go on on another worker between two transactions, so that little work gathers on few workers and much is spread. `off`: it stays where it has logged in. `roam`: it moves after every transaction, which only tests want."),
    fixed("pid_file", Kind::Path, Unset("none"), "pidfile",
        "File that holds the number of the process while it runs."),
    live("ignore_startup_parameters", Kind::List, Value(""), "ignore_startup_parameters",
        "Startup parameters that are accepted from clients and dropped."),

    live("client_tls.mode", TLS_MODES, Unset("prefer with a certificate, else disable"), "client_tls_sslmode",
        "TLS towards clients. `allow` and `prefer` leave the choice to the client; `verify-ca` and `verify-full` ask for a certificate that `client_tls.ca_file` signed."),
    live("client_tls.cert_file", Kind::Path, Unset("none"), "client_tls_cert_file",
        "Hawser's certificate chain (PEM). Read again on reload."),
    live("client_tls.key_file", Kind::Path, Unset("none"), "client_tls_key_file",
        "Its private key (PEM)."),
    live("client_tls.ca_file", Kind::Path, Unset("none"), "client_tls_ca_file",
        "Authorities of client certificates (PEM)."),
    live("client_tls.min_version", TLS_VERSIONS, Value("1.2"), "client_tls_protocols",
        "Lowest TLS version."),

    live("server_tls.mode", TLS_MODES, Value("prefer"), "server_tls_sslmode",
        "TLS towards servers, as libpq's `sslmode`."),
    live("server_tls.ca_file", Kind::Path, Unset("the system's authorities"), "server_tls_ca_file",
        "Authorities of server certificates (PEM). Where they are named, `prefer` and `require` verify too that one of them signed, as libpq does; the system's count for `verify-ca` and `verify-full` alone."),
    live("server_tls.cert_file", Kind::Path, Unset("none"), "server_tls_cert_file",
        "Certificate that servers are shown (PEM)."),
    live("server_tls.key_file", Kind::Path, Unset("none"), "server_tls_key_file",
        "Its private key (PEM)."),
    live("server_tls.min_version", TLS_VERSIONS, Value("1.2"), "server_tls_protocols",
        "Lowest TLS version."),
    live("server_tls.negotiation", TLS_NEGOTIATION, Value("postgres"), "",
        "`direct` begins with TLS at once (PostgreSQL 17 and later), as libpq's `sslnegotiation`."),

    live("auth.rules", Kind::List, Unset("scram-sha-256 for all"), "auth_type",
        "Rules in the manner of pg_hba.conf, one a string; the first that fits counts, none refuses."),
    live("auth.hba_file", Kind::Path, Unset("none"), "auth_hba_file",
        "A pg_hba.conf instead of `auth.rules`."),
    live("auth.name_maps", Kind::List, Unset("none"), "",
        "Lines in the manner of pg_ident.conf, for `map=` in a rule."),
    live("auth.ident_file", Kind::Path, Unset("none"), "auth_ident_file",
        "A pg_ident.conf instead of `auth.name_maps`."),
    live("auth.user_file", Kind::Path, Unset("none"), "auth_file",
        "A userlist.txt: `\"name\" \"secret\"` a line; the secret is a SCRAM verifier, an md5 hash or a password."),
    live("auth.password_without_tls", Kind::Switch, Value("false"), "",
        "Let the method `password` take a password in the clear without TLS."),
    live("auth.throttle_failures", ANY, Value("10"), "",
        "Failed logins of one address, per `auth.throttle_window`, before its logins are delayed; 0: never."),
    live("auth.throttle_window", Kind::Duration, Value("1min"), "",
        "See `auth.throttle_failures`."),
    live("auth.query.user", Kind::Text, Unset("no look-up"), "auth_user",
        "User that looks secrets of other users up on a server. Its own secret is in `users` or in `auth.user_file`."),
    live("auth.query.query", Kind::Text,
        Value("SELECT rolname, rolpassword, rolvaliduntil, rolcanlogin FROM pg_catalog.pg_authid WHERE rolname = $1"),
        "auth_query",
        "The query; `$1` is the name. Columns: name, secret, and if wanted valid-until and can-login."),
    live("auth.query.dbname", Kind::Text, Unset("the client's database"), "auth_dbname",
        "Database to ask in."),
    live("auth.query.cache_ttl", Kind::Duration, Value("1min"), "",
        "How long an answer is believed; a failed login asks again at once."),
    live("auth.query.negative_ttl", Kind::Duration, Value("5s"), "",
        "How long \"no such user\" is believed."),

    live("pool.mode", POOL_MODES, Value("transaction"), "pool_mode",
        "When a server connection goes back: when the client leaves, when its transaction ends, or when its statement ends."),
    live("pool.size", SOME, Value("20"), "default_pool_size",
        "Server connections of one pool (database and user) at most."),
    live("pool.min_size", ANY, Value("0"), "min_pool_size",
        "Server connections kept open in a pool that has been used."),
    live("pool.reserve_size", ANY, Value("0"), "reserve_pool_size",
        "More server connections, for clients that waited longer than `pool.reserve_timeout`."),
    live("pool.reserve_timeout", Kind::Duration, Value("5s"), "reserve_pool_timeout",
        "See `pool.reserve_size`."),
    live("pool.round_robin", Kind::Switch, Value("false"), "server_round_robin",
        "Lend the server connection that has been idle longest, not the freshest."),
    live("pool.server_lifetime", Kind::DurationOrOff, Value("1h"), "server_lifetime",
        "Age at which a server connection is closed once nobody uses it."),
    live("pool.lifetime_jitter", Kind::Fraction { most: 0.5 }, Value("0.1"), "",
        "Part of `pool.server_lifetime` by which it varies, so that connections do not end all at once."),
    live("pool.server_idle_timeout", Kind::DurationOrOff, Value("10min"), "server_idle_timeout",
        "A server connection that nobody used for so long is closed."),
    live("pool.server_check_query", Kind::Text, Value(""), "server_check_query",
        "Query that checks a server connection before it is lent; empty: only a look at the socket."),
    live("pool.server_check_delay", Kind::DurationOrOff, Value("30s"), "server_check_delay",
        "A server connection that was used within this time is lent unchecked; 0: every one is checked."),
    live("pool.server_reset_query", Kind::Text, Value("DISCARD ALL"), "server_reset_query",
        "Run before a server connection serves another client in session mode."),
    live("pool.server_reset_query_always", Kind::Switch, Value("false"), "server_reset_query_always",
        "Run it in transaction and statement mode too."),
    live("pool.server_connect_timeout", Kind::Duration, Value("15s"), "server_connect_timeout",
        "Bound on connecting and logging in to a server."),
    live("pool.server_login_retry", Kind::Duration, Value("1s"), "server_login_retry",
        "Pause after a failed connect or login; it doubles while it goes on failing, up to 16 times."),
    live("pool.max_prepared_statements", Kind::Count { least: 1, most: MANY }, Value("1000"), "max_prepared_statements",
        "Prepared statements kept on each server connection."),
    live("pool.application_name_add_host", Kind::Switch, Value("false"), "application_name_add_host",
        "Add the client's address to `application_name` on the server."),
    live("pool.keepalive", Kind::Switch, Value("true"), "tcp_keepalive",
        "TCP keep-alive on server sockets."),
    live("pool.keepalive_idle", Kind::DurationOrOff, Value("0"), "tcp_keepidle",
        "Idle time before the first keep-alive probe; 0: the system's."),
    live("pool.keepalive_interval", Kind::DurationOrOff, Value("0"), "tcp_keepintvl",
        "Time between keep-alive probes; 0: the system's."),
    live("pool.keepalive_count", ANY, Value("0"), "tcp_keepcnt",
        "Probes without an answer before a connection counts as dead; 0: the system's."),
    live("pool.user_timeout", Kind::DurationOrOff, Value("0"), "tcp_user_timeout",
        "How long sent bytes may stay unacknowledged; 0: the system's."),

    live("routing.route", ROUTES, Value("auto"), "",
        "Where statements of databases with several hosts run: reads on standbys and everything else on the primary (auto), or all on one of them. A session says otherwise with `SET hawser.route`, a statement with `/* hawser: primary */`."),
    live("routing.consistency", CONSISTENCIES, Value("session"), "",
        "What a read on a standby must see: every write of its own session, every write that any client of this process was told of (cluster), or whatever is there (eventual). A session says otherwise with `SET hawser.consistency`."),
    live("routing.transaction_reads", BEGINNINGS, Value("primary"), "",
        "Where a READ COMMITTED transaction that may write is until its first write: the primary, or a standby. On a standby its first reads may see what was committed a moment earlier than the rest, take no locks that the rest could rely on, and `now()` goes on when it moves."),
    live("routing.wait", Kind::Duration, Value("50ms"), "",
        "A read waits so long for a standby that has seen enough; then the primary serves it."),
    live("routing.max_lag", Kind::DurationOrOff, Value("10s"), "",
        "A standby that is further behind serves nothing; 0: however far."),
    live("routing.max_lag_bytes", Kind::Size { least: 0 }, Value("0"), "",
        "The same in bytes of write-ahead log; 0: however far."),
    live("routing.weights", Kind::Pairs, Unset("1 for each"), "",
        "Shares of the standbys: `{ \"db2:5432\" = \"2\" }` gives that host twice the reads of one that is not named, and 0 none while there is another."),
    live("routing.zones", Kind::Pairs, Unset("none"), "",
        "Where hosts are: `{ \"db2:5432\" = \"eu-1a\" }`."),
    live("routing.prefer_zone", Kind::Text, Unset("none"), "",
        "The zone that this process is in: standbys elsewhere serve reads only while none in it will do."),

    live("commit_outcome", COMMIT_OUTCOMES, Value("unknown"), "",
        "What a client is told whose server is lost before its COMMIT is answered: that the outcome is unknown (08007), or the outcome, which the next primary knows (resolve). With resolve-all that holds of single statements that change rows, too."),
    live("lost_transactions", LOST_TRANSACTIONS, Value("fail"), "",
        "What becomes of a transaction whose server is lost before it commits: it fails with 40001, or it runs again on the next primary (replay), unseen if every answer is what the client has heard, else it fails. What it did outside of the database happens twice."),

    live("timeouts.login", Kind::Duration, Value("60s"), "client_login_timeout",
        "From accept to the end of the login."),
    live("timeouts.query_wait", Kind::DurationOrOff, Value("30s"), "query_wait_timeout",
        "A client waits at most so long for a server connection."),
    live("timeouts.query_wait_notify", Kind::DurationOrOff, Value("5s"), "query_wait_notify",
        "A client that waits so long is told with a NOTICE."),
    live("timeouts.hold", Kind::DurationOrOff, Value("30s"), "",
        "While a cluster has no primary, new work waits at most so long for one; 0: for ever."),
    live("timeouts.query", Kind::DurationOrOff, Value("0"), "query_timeout",
        "A query may run so long; then it is cancelled on the server and the client is closed."),
    live("timeouts.transaction", Kind::DurationOrOff, Value("0"), "transaction_timeout",
        "A transaction may take so long."),
    live("timeouts.idle_transaction", Kind::DurationOrOff, Value("0"), "idle_transaction_timeout",
        "A client may be silent so long inside a transaction."),
    live("timeouts.client_idle", Kind::DurationOrOff, Value("0"), "client_idle_timeout",
        "A client may be silent so long outside a transaction."),
    live("timeouts.cancel_wait", Kind::Duration, Value("10s"), "cancel_wait_timeout",
        "A cancel request may take so long to reach the server."),
    live("timeouts.shutdown", Kind::Duration, Value("60s"), "",
        "A drain waits so long for clients, then closes them."),

    live("limits.max_client_connections", SOME, Value("10000"), "max_client_conn",
        "Client connections at most."),
    live("limits.max_db_connections", ANY, Value("0"), "max_db_connections",
        "Server connections of one database, all users together; 0: no limit."),
    live("limits.max_db_client_connections", ANY, Value("0"), "max_db_client_connections",
        "Client connections to one database; 0: no limit."),
    live("limits.max_user_connections", ANY, Value("0"), "max_user_connections",
        "Server connections of one user, all databases together; 0: no limit."),
    live("limits.max_user_client_connections", ANY, Value("0"), "max_user_client_connections",
        "Client connections of one user; 0: no limit."),
    live("limits.max_startup_packet", Kind::Size { least: 1024 }, Value("10kB"), "",
        "Longest startup packet."),
    live("limits.max_message", Kind::Size { least: 64 << 10 }, Value("64MB"), "max_packet_size",
        "Longest message that has to be held whole (Parse, and a simple query that names prepared statements). Others pass in pieces, whatever their length."),
    live("limits.max_client_prepared_statements", SOME, Value("10000"), "",
        "Named prepared statements of one client."),
    live("limits.max_logins", SOME, Value("1000"), "",
        "Clients in the middle of logging in; more wait in the accept queue."),
    live("limits.notify_queue", Kind::Size { least: 64 << 10 }, Value("4MB"), "",
        "Notifications that wait for one client that listens in transaction mode; a client that leaves more unread is closed with 53400."),

    live("limits.max_held", Kind::Count { least: 1, most: 1_000_000_000 }, Value("10000"), "",
        "Clients of one pool that may wait while its cluster has no primary; more are refused at once."),

    live("health.interval", Kind::Duration, Value("500ms"), "",
        "How often each host of a cluster is asked whether it is the primary, and how far it has replayed. Hosts are asked if a database has several, or its `target` is `primary`."),
    live("health.fast_interval", Kind::Duration, Value("50ms"), "",
        "The same while a host fails to answer or there is no primary, so that a promotion is seen at once."),
    live("health.jitter", Kind::Fraction { most: 0.5 }, Value("0.1"), "",
        "Part of these intervals by which they vary, so that several Hawsers do not ask in step."),
    live("health.timeout", Kind::Duration, Value("1s"), "",
        "A host that has not answered within this long has failed to answer, whether it accepts connections or not."),
    live("health.failures", Kind::Count { least: 1, most: 1000 }, Value("2"), "",
        "Failures in a row after which a host is down."),
    live("health.successes", Kind::Count { least: 1, most: 1000 }, Value("2"), "",
        "Answers in a row after which a host that was down is up."),
    live("health.user", Kind::Text, Unset("the user of a database or URL, or of `auth.query`, or else the first client that logs in"), "",
        "User that asks. It needs no rights; with `pg_monitor` a standby counts as following a new primary at once instead of after its next restart point."),
    live("health.password", Kind::Secret, Unset("that of the user in `[users]`"), "",
        "Secret of `health.user`."),
    live("health.password_file", Kind::Path, Unset("none"), "",
        "File that holds the secret of `health.user`."),
    live("health.database", Kind::Text, Unset("`postgres`, or else a database of the cluster in which the user may log in"), "",
        "Database in which hosts are asked. While they are, nobody can drop, rename or copy it."),

    live("stats.fingerprints", Kind::Count { least: 0, most: 100_000 }, Value("5000"), "",
        "Shapes of queries that each worker keeps count of, for `SHOW FINGERPRINTS`: about 1 kB each; 0: none. Where there are more, those with few calls give way."),

    live("admin.users", Kind::List, Unset("nobody"), "admin_users",
        "Users that may do everything on the console, the databases `hawser` and `pgbouncer`. Their secrets are where those of other users are, and `auth.rules` hold. Over the Unix socket the operating system's user that Hawser runs as needs neither."),
    live("admin.stats_users", Kind::List, Unset("nobody"), "stats_users",
        "Users that may look at the console and change nothing."),

    fixed("http.address", Kind::Text, Value("127.0.0.1:6433"), "",
        "Where metrics, health and tables are served by HTTP, `ADDRESS:PORT`; `off`: nowhere. `http = \"…\"` at the top is short for it. An address that is not loopback needs `http.token`. If the default is taken, Hawser runs without."),
    fixed("http.token", Kind::Secret, Unset("none"), "",
        "What callers have to bring as `Authorization: Bearer …`; health needs none."),
    fixed("http.token_file", Kind::Path, Unset("none"), "",
        "File that holds the token."),

    fixed("log.format", Kind::Word(&["text", "json"]), Value("text"), "",
        "Text for people, or one JSON object a line."),
    live("log.level", Kind::Text, Value("info"), "verbose",
        "`error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,hawser::auth=debug`."),
    fixed("log.file", Kind::Path, Unset("standard error"), "logfile",
        "File to write to. It is opened again on reload, so that it can be rotated."),
    live("log.connections", Kind::Switch, Value("true"), "log_connections",
        "Log each client that logs in."),
    live("log.disconnections", Kind::Switch, Value("true"), "log_disconnections",
        "Log each client that leaves, and why."),
    live("log.pooler_errors", Kind::Switch, Value("true"), "log_pooler_errors",
        "Log the errors that Hawser itself sends to clients."),
    fixed("log.stats_period", Kind::DurationOrOff, Value("1min"), "stats_period",
        "Write the counters of each pool to the log this often."),
];

/// Settings of one database, in `[databases.NAME]`.
#[rustfmt::skip]
pub const DATABASE: &[Setting] = &[
    live("url", Kind::Secret, Unset("none"), "",
        "Hosts, database, user, password and TLS as a URL, instead of the keys below."),
    live("hosts", Kind::List, Unset("those of `url`"), "host",
        "Hosts, `HOST` or `HOST:PORT`, `[::1]:5432`, or the folder of a Unix socket, `/run/postgresql` or `/run/postgresql:5433`."),
    live("patroni", Kind::List, Unset("none"), "",
        "As `cluster.patroni`, for the cluster of this database."),
    live("monitor", Kind::Secret, Unset("none"), "",
        "As `cluster.monitor`, for the cluster of this database."),
    live("host_order", Kind::Word(&["round-robin", "in-order"]), Value("round-robin"), "load_balance_hosts",
        "Which of several hosts a new server connection tries first."),
    live("target", Kind::Word(&["primary", "any"]), Unset("primary with several hosts, or with `patroni` or `monitor`; else any"), "",
        "Which of the hosts serve: the one that is primary, or any."),
    live("dbname", Kind::Text, Unset("the name that the client asked for"), "dbname",
        "Name on the server."),
    live("user", Kind::Text, Unset("the client's user"), "user",
        "Log in to the server as this user, whoever the client is."),
    live("password", Kind::Secret, Unset("that of the user"), "password",
        "Secret of `user`."),
    live("password_file", Kind::Path, Unset("none"), "",
        "File that holds the secret of `user`."),
    live("commit_outcome", COMMIT_OUTCOMES, Unset("the setting of the same name"), "",
        "Instead of `commit_outcome`."),
    live("lost_transactions", LOST_TRANSACTIONS, Unset("the setting of the same name"), "",
        "Instead of `lost_transactions`."),
    live("pool_mode", POOL_MODES, Unset("`pool.mode`"), "pool_mode",
        "Instead of `pool.mode`."),
    live("pool_size", SOME, Unset("`pool.size`"), "pool_size",
        "Instead of `pool.size`."),
    live("min_pool_size", ANY, Unset("`pool.min_size`"), "min_pool_size",
        "Instead of `pool.min_size`."),
    live("reserve_pool_size", ANY, Unset("`pool.reserve_size`"), "reserve_pool_size",
        "Instead of `pool.reserve_size`."),
    live("server_lifetime", Kind::DurationOrOff, Unset("`pool.server_lifetime`"), "server_lifetime",
        "Instead of `pool.server_lifetime`."),
    live("connect_query", Kind::Text, Unset("none"), "connect_query",
        "Run once on each new server connection."),
    live("startup_parameters", Kind::Pairs, Unset("none"), "",
        "Startup parameters for each server connection, such as `client_encoding`."),
    live("max_connections", ANY, Unset("`limits.max_db_connections`"), "max_db_connections",
        "Server connections of the database, all users together; 0: no limit."),
    live("max_client_connections", ANY, Unset("`limits.max_db_client_connections`"), "max_db_client_connections",
        "Client connections to the database; 0: no limit."),
    live("route", ROUTES, Unset("`routing.route`"), "",
        "Instead of `routing.route`: `standby` makes a database name that only reads."),
    live("consistency", CONSISTENCIES, Unset("`routing.consistency`"), "",
        "Instead of `routing.consistency`."),
    live("transaction_reads", BEGINNINGS, Unset("`routing.transaction_reads`"), "",
        "Instead of `routing.transaction_reads`."),
    live("query_wait_timeout", Kind::DurationOrOff, Unset("`timeouts.query_wait`"), "",
        "Instead of `timeouts.query_wait`."),
    live("query_timeout", Kind::DurationOrOff, Unset("`timeouts.query`"), "",
        "Instead of `timeouts.query`."),
    live("transaction_timeout", Kind::DurationOrOff, Unset("`timeouts.transaction`"), "",
        "Instead of `timeouts.transaction`."),
    live("idle_transaction_timeout", Kind::DurationOrOff, Unset("`timeouts.idle_transaction`"), "",
        "Instead of `timeouts.idle_transaction`."),
    live("client_idle_timeout", Kind::DurationOrOff, Unset("`timeouts.client_idle`"), "",
        "Instead of `timeouts.client_idle`."),
    live("auth_query.user", Kind::Text, Unset("`auth.query.user`"), "auth_user",
        "Instead of `auth.query.user`."),
    live("auth_query.query", Kind::Text, Unset("`auth.query.query`"), "auth_query",
        "Instead of `auth.query.query`."),
    live("auth_query.dbname", Kind::Text, Unset("`auth.query.dbname`"), "auth_dbname",
        "Instead of `auth.query.dbname`."),
    live("server_tls.mode", TLS_MODES, Unset("`server_tls.mode`"), "",
        "Instead of `server_tls.mode`."),
    live("server_tls.ca_file", Kind::Path, Unset("`server_tls.ca_file`"), "",
        "Instead of `server_tls.ca_file`."),
    live("server_tls.cert_file", Kind::Path, Unset("`server_tls.cert_file`"), "",
        "Instead of `server_tls.cert_file`."),
    live("server_tls.key_file", Kind::Path, Unset("`server_tls.key_file`"), "",
        "Instead of `server_tls.key_file`."),
    live("server_tls.min_version", TLS_VERSIONS, Unset("`server_tls.min_version`"), "",
        "Instead of `server_tls.min_version`."),
    live("server_tls.negotiation", TLS_NEGOTIATION, Unset("`server_tls.negotiation`"), "",
        "Instead of `server_tls.negotiation`."),
    live("disabled", Kind::Switch, Value("false"), "",
        "Refuse new clients."),
];

/// Settings of one user, in `[users.NAME]`.
#[rustfmt::skip]
pub const USER: &[Setting] = &[
    live("password", Kind::Secret, Unset("that of `auth.user_file`, if any"), "",
        "Secret: a SCRAM verifier (`SCRAM-SHA-256$…`), an md5 hash or a password."),
    live("passwords", Kind::Secrets, Unset("none"), "",
        "Several secrets of which any will do, for changing them one by one."),
    live("password_file", Kind::Path, Unset("none"), "",
        "File that holds the secret."),
    live("commit_outcome", COMMIT_OUTCOMES, Unset("that of the database"), "",
        "Instead of the database's `commit_outcome`."),
    live("lost_transactions", LOST_TRANSACTIONS, Unset("that of the database"), "",
        "Instead of the database's `lost_transactions`."),
    live("pool_mode", POOL_MODES, Unset("that of the database"), "pool_mode",
        "Instead of the database's and `pool.mode`."),
    live("pool_size", SOME, Unset("that of the database"), "pool_size",
        "Instead of the database's and `pool.size`."),
    live("min_pool_size", ANY, Unset("that of the database"), "",
        "Instead of the database's and `pool.min_size`."),
    live("reserve_pool_size", ANY, Unset("that of the database"), "reserve_pool_size",
        "Instead of the database's and `pool.reserve_size`."),
    live("server_lifetime", Kind::DurationOrOff, Unset("that of the database"), "",
        "Instead of the database's and `pool.server_lifetime`."),
    live("max_connections", ANY, Unset("`limits.max_user_connections`"), "max_user_connections",
        "Server connections of the user, all databases together; 0: no limit."),
    live("max_client_connections", ANY, Unset("`limits.max_user_client_connections`"), "max_user_client_connections",
        "Client connections of the user; 0: no limit."),
    live("route", ROUTES, Unset("that of the database"), "",
        "Instead of the database's and `routing.route`."),
    live("consistency", CONSISTENCIES, Unset("that of the database"), "",
        "Instead of the database's and `routing.consistency`."),
    live("transaction_reads", BEGINNINGS, Unset("that of the database"), "",
        "Instead of the database's and `routing.transaction_reads`."),
    live("query_wait_timeout", Kind::DurationOrOff, Unset("that of the database"), "",
        "Instead of the database's and `timeouts.query_wait`."),
    live("query_timeout", Kind::DurationOrOff, Unset("that of the database"), "query_timeout",
        "Instead of the database's and `timeouts.query`."),
    live("transaction_timeout", Kind::DurationOrOff, Unset("that of the database"), "transaction_timeout",
        "Instead of the database's and `timeouts.transaction`."),
    live("idle_transaction_timeout", Kind::DurationOrOff, Unset("that of the database"), "idle_transaction_timeout",
        "Instead of the database's and `timeouts.idle_transaction`."),
    live("client_idle_timeout", Kind::DurationOrOff, Unset("that of the database"), "client_idle_timeout",
        "Instead of the database's and `timeouts.client_idle`."),
];

/// The setting of that name in a table.
pub fn find(table: &'static [Setting], name: &str) -> Option<&'static Setting> {
    table.iter().find(|setting| setting.name == name)
}

/// The reference as Markdown: what `hawser reference` prints.
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    let mut table = "";
    for setting in GLOBAL {
        let (this, _) = setting.name.rsplit_once('.').unwrap_or(("", setting.name));
        if setting.name == GLOBAL.first().map_or("", |first| first.name) || this != table {
            let title = if this.is_empty() { "At the top".to_owned() } else { format!("`[{this}]`") };
            let _ = write!(text, "\n## {title}\n");
            table = this;
        }
        describe(&mut text, setting, true);
    }
    text.push_str("\n## `[databases.NAME]`\n\nOne table a database, as clients name it; `[databases.\"*\"]` is any other name.\n");
    DATABASE.iter().for_each(|setting| describe(&mut text, setting, false));
    text.push_str("\n## `[users.NAME]`\n\nOne table a user: its secret, and what differs for it.\n");
    USER.iter().for_each(|setting| describe(&mut text, setting, false));
    text
}

/// One setting as Markdown.
fn describe(text: &mut String, setting: &Setting, environment: bool) {
    let _ = write!(text, "\n**`{}`** · {} · default: ", setting.name, setting.kind.in_words());
    let _ = match setting.preset {
        Value("") => write!(text, "empty"),
        Value(value) => write!(text, "`{value}`"),
        Unset(words) => write!(text, "{words}"),
    };
    if setting.change == Change::Restart {
        text.push_str(" · **restart**");
    }
    let _ = write!(text, "\n: {}", setting.doc);
    if environment {
        let _ = write!(text, " Environment: `{}`.", setting.environment_name());
    }
    if !setting.pgbouncer.is_empty() {
        let _ = write!(text, " PgBouncer: `{}`.", setting.pgbouncer);
    }
    text.push('\n');
}

/// What the reference begins with.
const INTRODUCTION: &str = "# Settings

Made by `hawser reference`; do not edit.

A setting is taken from the first of these that has it: a flag, the environment, the file, the default. Durations are
written with a unit (`\"500ms\"`, `\"30s\"`, `\"10min\"`, `\"1h\"`, `\"1d\"`), sizes too (`\"64kB\"`, `\"256MB\"`, `\"1GB\"`; a kB is 1024
bytes). File names are relative to the folder of the file that they stand in. Changes apply on reload (SIGHUP) without
dropping a client, except where **restart** is noted. `hawser check FILE` says whether a file is right.

A URL may be read from a file: `HAWSER_CLUSTER_URL_FILE` or `DATABASE_URL_FILE` names it. What a URL leaves out is taken from
libpq's `PGSERVICE` (`~/.pg_service.conf`, or `PGSERVICEFILE`), then from `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD` (or
`PGPASSWORD_FILE`), `PGDATABASE`, `PGSSLMODE`, `PGSSLROOTCERT` and `PGPASSFILE` (`~/.pgpass`).
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_settings_share_a_name_or_an_environment_variable() {
        for table in [GLOBAL, DATABASE, USER] {
            let names: BTreeSet<_> = table.iter().map(|setting| setting.name).collect();
            assert_eq!(names.len(), table.len());
        }
        let variables: BTreeSet<_> = GLOBAL.iter().map(Setting::environment_name).collect();
        assert_eq!(variables.len(), GLOBAL.len());
        assert!(variables.contains("HAWSER_POOL_SIZE") && variables.contains("HAWSER_LISTEN"));
    }

    #[test]
    fn no_setting_is_also_a_table() {
        for table in [GLOBAL, DATABASE, USER] {
            for setting in table {
                let prefix = format!("{}.", setting.name);
                assert!(!table.iter().any(|other| other.name.starts_with(&prefix)), "{}", setting.name);
            }
        }
    }

    #[test]
    fn every_setting_has_a_sentence() {
        for setting in [GLOBAL, DATABASE, USER].concat() {
            assert!(setting.doc.ends_with('.'), "{}", setting.name);
        }
    }

    #[test]
    fn the_reference_in_the_repository_is_the_generated_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/REFERENCE.md");
        let stored = std::fs::read_to_string(file).unwrap_or_default();
        assert!(stored == markdown(), "run: cargo run -p hawser -- reference > pooler/REFERENCE.md");
    }
}
