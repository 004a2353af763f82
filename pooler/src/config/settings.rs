//! Pure. The settings as meant: the contract between `config` and the rest of the house.
//!
//! Durations of zero never mean "off" here: what can be off is an `Option`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that a running Hawser was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where clients connect.
    pub listen: Listen,
    /// Worker threads; at least 1.
    pub workers: usize,
    /// How sessions are spread over them.
    pub balance: Balance,
    /// TLS towards clients.
    pub client_tls: ClientTls,
    /// How clients prove who they are.
    pub auth: AuthSettings,
    /// Databases by the name that a client asks for.
    pub databases: BTreeMap<String, Arc<DatabaseSettings>>,
    /// The database `*`: any name that is not in `databases`.
    pub wildcard_database: Option<Arc<DatabaseSettings>>,
    /// Users by name: secrets and overrides.
    pub users: BTreeMap<String, Arc<UserSettings>>,
    /// Limits for the whole process.
    pub limits: Limits,
    /// Timeouts for clients, overridable per user and database where the field is repeated there.
    pub timeouts: Timeouts,
    /// What is true of each pool unless its database or user says otherwise.
    pub pool: PoolSettings,
    /// Which host statements go to.
    pub routing: RoutingSettings,
    /// Startup parameters that are accepted and dropped (`ignore_startup_parameters`).
    pub ignore_startup_parameters: Vec<String>,
    /// How hosts are asked what they are.
    pub health: HealthSettings,
    /// Log format, level and what is logged.
    pub log: LogSettings,
    /// What is counted beyond what is needed.
    pub stats: StatsSettings,
    /// Who may use the console.
    pub admin: AdminSettings,
    /// Metrics, health and tables by HTTP.
    pub http: HttpSettings,
    /// Where the process writes its number, if anywhere.
    pub pid_file: Option<PathBuf>,
}

/// What a word of the settings means, in any case.
fn meant_by<T, const N: usize>(word: &str, words: [(&str, T); N]) -> Option<T> {
    words.into_iter().find_map(|(known, meaning)| word.eq_ignore_ascii_case(known).then_some(meaning))
}

/// How sessions are spread over the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Little work gathers on few workers, much is spread.
    #[default]
    Auto,
    /// Each stays where it has logged in.
    Off,
    /// Each goes on on the next worker after every transaction.
    Roam,
}

impl Balance {
    /// What this word of the settings asks for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        meant_by(word, [("auto", Self::Auto), ("off", Self::Off), ("roam", Self::Roam)])
    }
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// TCP addresses.
    pub tcp: Vec<SocketAddr>,
    /// Folder of the Unix socket `.s.PGSQL.<port>`, if any.
    pub unix_dir: Option<PathBuf>,
    /// Port in the name of the Unix socket.
    pub unix_port: u16,
    /// Permission bits of the Unix socket.
    pub unix_mode: u32,
    /// Group of the Unix socket.
    pub unix_group: Option<String>,
    /// Length of the accept queue.
    pub backlog: u32,
    /// How long the kernel keeps a client that says nothing, if at all; in whole seconds.
    pub defer_accept: Option<Duration>,
    /// TCP keep-alive on client sockets.
    pub keepalive: Keepalive,
}

/// TCP keep-alive, `None`: the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keepalive {
    /// Off altogether when false.
    pub enabled: bool,
    /// Idle time before the first probe.
    pub idle: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Probes before the connection counts as dead.
    pub count: Option<u32>,
    /// `TCP_USER_TIMEOUT`.
    pub user_timeout: Option<Duration>,
}

/// libpq's six modes, used on both legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TlsMode {
    /// Never TLS.
    Disable,
    /// TLS if the peer insists.
    Allow,
    /// TLS if it can be had.
    #[default]
    Prefer,
    /// TLS or nothing; the peer's certificate is not checked (client leg: a certificate is not asked for).
    Require,
    /// TLS and a certificate signed by a known authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host (client leg: same as `VerifyCa`).
    VerifyFull,
}

/// Lowest TLS version spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClientTls {
    /// `Disable` answers SSLRequest with `N`; `Allow` and `Prefer` leave the choice to the client.
    pub mode: TlsMode,
    /// Our certificate chain (PEM).
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// Authorities of client certificates (PEM).
    pub ca_file: Option<PathBuf>,
    /// Lowest version.
    pub min_version: TlsVersion,
}

/// TLS towards a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ServerTls {
    /// Mode, as libpq's `sslmode`.
    pub mode: TlsMode,
    /// Authorities (PEM); `None`: the system's, when the mode verifies.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, when the server asks for one.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Lowest version.
    pub min_version: TlsVersion,
    /// `sslnegotiation=direct`: no SSLRequest, ALPN `postgresql`.
    pub direct: bool,
}

/// How clients prove who they are.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthSettings {
    /// Rules in the manner of pg_hba.conf, first match wins, none refuses.
    pub rules: Vec<crate::auth::hba::Rule>,
    /// Name maps (`map=` of a rule), in the manner of pg_ident.conf.
    pub name_maps: BTreeMap<String, Vec<crate::auth::name_map::Mapping>>,
    /// The default way to look up secrets on a server.
    pub query: Option<AuthQuery>,
    /// Allow `password` in the clear without TLS.
    pub password_without_tls: bool,
    /// Failed logins from one address before they are delayed, per `throttle_window`; 0: never delayed.
    pub throttle_failures: u32,
    /// See `throttle_failures`.
    pub throttle_window: Duration,
}

/// Looks up secrets on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthQuery {
    /// User that asks; its own secret is in `users`.
    pub user: String,
    /// Query with `$1` for the name; columns: name, secret, and optionally valid-until and can-login.
    pub query: String,
    /// Database to ask in; `None`: the client's.
    pub dbname: Option<String>,
    /// How long an answer is believed.
    pub cache_ttl: Duration,
    /// How long "no such user" is believed.
    pub negative_ttl: Duration,
}

/// How a pool lends its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PoolMode {
    /// Until the client leaves.
    Session,
    /// Until the transaction ends.
    #[default]
    Transaction,
    /// Until the statement ends; transactions are refused.
    Statement,
}

/// Which host of several a new connection goes to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostOrder {
    /// The next one each time.
    #[default]
    RoundRobin,
    /// As written.
    InOrder,
}

/// Which of several hosts serve a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Target {
    /// Any that answers, as PgBouncer does.
    #[default]
    Any,
    /// The one that is primary.
    Primary,
}

/// One PostgreSQL address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostAddress {
    /// A name or address, and a port.
    Tcp(String, u16),
    /// The folder of a Unix socket, and the port in its name.
    Unix(PathBuf, u16),
}

impl std::fmt::Display for HostAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(folder, port) => write!(f, "{}:{port}", folder.display()),
        }
    }
}

/// Who knows the hosts of a cluster, and what is about to happen to them, besides the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostSource {
    /// Patroni: any of these addresses of its REST API, host and port.
    Patroni(Vec<(String, u16)>),
    /// The monitor of pg_auto_failover.
    Monitor(Box<MonitorSettings>),
}

/// Where the monitor of pg_auto_failover is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorSettings {
    /// Its addresses; never empty.
    pub hosts: Vec<HostAddress>,
    /// User there.
    pub user: String,
    /// The user's secret, if it needs one.
    pub password: Option<Secret>,
    /// Its database.
    pub dbname: String,
    /// TLS to it.
    pub tls: ServerTls,
}

/// One database as clients see it.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseSettings {
    /// Where its cluster is; never empty.
    pub hosts: Vec<HostAddress>,
    /// Who else knows the hosts of the cluster.
    pub sources: Vec<HostSource>,
    /// Which host comes first.
    pub host_order: HostOrder,
    /// Which of the hosts serve.
    pub target: Target,
    /// Name on the server; `None`: the client's word.
    pub dbname: Option<String>,
    /// Forced server user, if any.
    pub user: Option<String>,
    /// Secret of the forced user.
    pub password: Option<Secret>,
    /// Secrets are looked up so, instead of `AuthSettings::query`.
    pub auth_query: Option<AuthQuery>,
    /// TLS to its hosts.
    pub tls: ServerTls,
    /// Run once on each new server connection.
    pub connect_query: Option<String>,
    /// Extra startup parameters on each server connection (`client_encoding`, `datestyle`, `timezone`, ...).
    pub startup_parameters: Vec<(String, String)>,
    /// Overrides of `Settings::pool`.
    pub pool: PoolOverrides,
    /// Instead of [`Settings::routing`].
    pub routing: RoutingOverrides,
    /// Server connections of the database, all users together.
    pub max_db_connections: Option<usize>,
    /// Client connections to the database.
    pub max_db_client_connections: Option<usize>,
    /// Overrides of `Settings::timeouts`.
    pub timeouts: TimeoutOverrides,
    /// Why new clients are refused, when they are.
    pub disabled: bool,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UserSettings {
    /// What proves the user to us, and us to servers where it can. Several: any of them will do (rotation).
    pub secrets: Vec<Secret>,
    /// Overrides of the pool.
    pub pool: PoolOverrides,
    /// Instead of [`Settings::routing`].
    pub routing: RoutingOverrides,
    /// Server connections of the user, all databases together.
    pub max_user_connections: Option<usize>,
    /// Client connections of the user.
    pub max_user_client_connections: Option<usize>,
    /// Overrides of `Settings::timeouts`.
    pub timeouts: TimeoutOverrides,
}

/// Something secret. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself.
    Password(zeroize::Zeroizing<String>),
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    Scram(hawser_wire::scram::Verifier),
    /// `md5` and 32 hexadecimal digits.
    Md5(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(hidden)",
            Self::Scram(_) => "Scram(hidden)",
            Self::Md5(_) => "Md5(hidden)",
        })
    }
}

/// Where statements run whose session does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Route {
    /// Reads on standbys, everything else on the primary.
    #[default]
    Auto,
    /// All on the primary.
    Primary,
    /// All on a standby.
    Standby,
}

impl Route {
    /// The word for it, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        meant_by(word, [("auto", Self::Auto), ("primary", Self::Primary), ("standby", Self::Standby)])
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }
}

/// What a read on a standby must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Consistency {
    /// Whatever the standby has.
    Eventual,
    /// Every write of its own session.
    #[default]
    Session,
    /// Every write that any session of this process was told of.
    Cluster,
}

impl Consistency {
    /// The word for it, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        meant_by(word, [("eventual", Self::Eventual), ("session", Self::Session), ("cluster", Self::Cluster)])
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Session => "session",
            Self::Cluster => "cluster",
        }
    }
}

/// What a client is told whose server is lost before its commit is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CommitOutcome {
    /// That the outcome is unknown.
    #[default]
    Unknown,
    /// The outcome of its COMMIT, which the next primary knows.
    Resolve,
    /// The same of statements outside of transactions too.
    ResolveAll,
}

impl CommitOutcome {
    /// The outcome that this word of the settings asks for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        meant_by(
            word,
            [("unknown", Self::Unknown), ("resolve", Self::Resolve), ("resolve-all", Self::ResolveAll)],
        )
    }
}

/// What becomes of a transaction whose server is lost before it commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LostTransactions {
    /// It fails, and the client tries again.
    #[default]
    Fail,
    /// It runs again, and goes on if every answer is what the client has heard.
    Replay,
}

impl LostTransactions {
    /// What this word of the settings asks for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        meant_by(word, [("fail", Self::Fail), ("replay", Self::Replay)])
    }
}

/// Which host statements go to, for databases with several.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingSettings {
    /// Where statements run.
    pub route: Route,
    /// What reads must see.
    pub consistency: Consistency,
    /// A read waits so long for a standby that has seen enough; then the primary serves.
    pub wait: Duration,
    /// A standby that is further behind serves nothing.
    pub max_lag: Option<Duration>,
    /// The same in bytes of log.
    pub max_lag_bytes: Option<usize>,
    /// Where a READ COMMITTED transaction is until its first write: the primary, or a standby.
    pub transaction_reads: Route,
    /// Shares of the hosts; 1 for those that are not named.
    pub weights: Vec<(HostAddress, f64)>,
    /// Where hosts are.
    pub zones: Vec<(HostAddress, String)>,
    /// Standbys elsewhere serve only while none in this zone will do.
    pub prefer_zone: Option<String>,
}

impl Default for RoutingSettings {
    fn default() -> Self {
        Self {
            route: Route::default(),
            consistency: Consistency::default(),
            wait: Duration::from_millis(50),
            max_lag: Some(Duration::from_secs(10)),
            max_lag_bytes: None,
            transaction_reads: Route::Primary,
            weights: Vec::new(),
            zones: Vec::new(),
            prefer_zone: None,
        }
    }
}

/// Overrides of [`RoutingSettings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoutingOverrides {
    /// See [`RoutingSettings::route`].
    pub route: Option<Route>,
    /// See [`RoutingSettings::consistency`].
    pub consistency: Option<Consistency>,
    /// See [`RoutingSettings::transaction_reads`].
    pub transaction_reads: Option<Route>,
}

/// What is true of each pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolSettings {
    /// When a server connection goes back.
    pub mode: PoolMode,
    /// What is told of a commit that was not answered.
    pub commit_outcome: CommitOutcome,
    /// What becomes of a transaction whose server is lost.
    pub lost_transactions: LostTransactions,
    /// Server connections at most.
    pub size: usize,
    /// Server connections kept open even when idle, once the pool has been used.
    pub min_size: usize,
    /// More connections, for clients that waited longer than `reserve_timeout`.
    pub reserve_size: usize,
    /// See `reserve_size`.
    pub reserve_timeout: Duration,
    /// Take the idle server connection that waited longest instead of the freshest.
    pub round_robin: bool,
    /// A server connection is closed when it is this old (plus or minus `lifetime_jitter`).
    pub server_lifetime: Option<Duration>,
    /// Part of `server_lifetime` by which it varies, 0.0 to 0.5.
    pub lifetime_jitter: f64,
    /// An idle server connection is closed after this long.
    pub server_idle_timeout: Option<Duration>,
    /// Query that checks a server connection before it is lent; empty: a cheap look at the socket only.
    pub server_check_query: String,
    /// A server connection idle for less than this is lent unchecked; zero checks every one.
    pub server_check_delay: Duration,
    /// Run before a server connection serves another client in session mode.
    pub server_reset_query: String,
    /// Run it in transaction mode too.
    pub server_reset_query_always: bool,
    /// Bound on connecting to a server.
    pub server_connect_timeout: Duration,
    /// Pause after a failed connect or login, doubled up to 16 times itself while it goes on failing.
    pub server_login_retry: Duration,
    /// Prepared statements kept on each server connection.
    pub max_prepared_statements: usize,
    /// Add the client's address to `application_name`.
    pub application_name_add_host: bool,
    /// Keep-alive on server sockets.
    pub keepalive: Keepalive,
}

/// Overrides of [`PoolSettings`] for a database or a user; a user's word comes first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoolOverrides {
    /// See [`PoolSettings::mode`].
    pub mode: Option<PoolMode>,
    /// See [`PoolSettings::commit_outcome`].
    pub commit_outcome: Option<CommitOutcome>,
    /// See [`PoolSettings::lost_transactions`].
    pub lost_transactions: Option<LostTransactions>,
    /// See [`PoolSettings::size`].
    pub size: Option<usize>,
    /// See [`PoolSettings::min_size`].
    pub min_size: Option<usize>,
    /// See [`PoolSettings::reserve_size`].
    pub reserve_size: Option<usize>,
    /// See [`PoolSettings::server_lifetime`].
    pub server_lifetime: Option<Option<Duration>>,
}

/// Limits for the whole process.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Client connections at most.
    pub max_client_connections: usize,
    /// Server connections of one user, all databases together, unless the user says otherwise.
    pub max_user_connections: Option<usize>,
    /// Client connections of one user, unless the user says otherwise.
    pub max_user_client_connections: Option<usize>,
    /// Longest startup packet.
    pub max_startup_packet: usize,
    /// Longest message that is held whole (Parse, Bind, Query, ...). Longer data messages pass in pieces.
    pub max_message: usize,
    /// Named prepared statements of one client.
    pub max_client_prepared_statements: usize,
    /// Clients in the middle of logging in.
    pub max_logins: usize,
    /// Bytes of notifications that may wait for one client.
    pub notify_queue: usize,
    /// Clients of one pool that may wait while its cluster has no primary.
    pub max_held: usize,
}

/// Timeouts that end waiting, queries, transactions or clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    /// From accept to the end of the login.
    pub login: Duration,
    /// A client waits at most so long for a server connection.
    pub query_wait: Option<Duration>,
    /// After this long in the queue a client gets a NOTICE.
    pub query_wait_notify: Option<Duration>,
    /// While there is no primary, work waits at most so long for one.
    pub hold: Option<Duration>,
    /// A query may run so long; then it is cancelled on the server and the client is closed.
    pub query: Option<Duration>,
    /// A transaction may take so long.
    pub transaction: Option<Duration>,
    /// A client may think so long inside a transaction.
    pub idle_transaction: Option<Duration>,
    /// A client may be idle so long.
    pub client_idle: Option<Duration>,
    /// A cancel request may take so long to reach the server.
    pub cancel_wait: Duration,
    /// A drain waits so long for clients, then closes them.
    pub shutdown: Duration,
}

/// Overrides of [`Timeouts`]; `Some(None)` is "off".
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TimeoutOverrides {
    /// See [`Timeouts::query_wait`].
    pub query_wait: Option<Option<Duration>>,
    /// See [`Timeouts::query`].
    pub query: Option<Option<Duration>>,
    /// See [`Timeouts::transaction`].
    pub transaction: Option<Option<Duration>>,
    /// See [`Timeouts::idle_transaction`].
    pub idle_transaction: Option<Option<Duration>>,
    /// See [`Timeouts::client_idle`].
    pub client_idle: Option<Option<Duration>>,
}

/// What is counted beyond what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatsSettings {
    /// Shapes of queries that each worker knows; 0: none.
    pub fingerprints: usize,
}

/// Metrics, health and tables by HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpSettings {
    /// Where; `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// Nobody has written the address down: where it is taken, there is no HTTP.
    pub is_preset: bool,
    /// What callers have to bring.
    pub token: Option<Token>,
}

/// Something that callers have to bring. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub zeroize::Zeroizing<String>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Who may use the console.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdminSettings {
    /// Users that may do everything.
    pub users: Vec<String>,
    /// Users that may look.
    pub stats_users: Vec<String>,
}

impl AdminSettings {
    /// Whether a user may do everything; `None`: not even look.
    #[must_use]
    pub fn role(&self, user: &str) -> Option<bool> {
        let is_admin = self.users.iter().any(|name| name == user);
        (is_admin || self.stats_users.iter().any(|name| name == user)).then_some(is_admin)
    }
}

/// How the hosts of clusters are asked what they are.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthSettings {
    /// Time from one question to the next while all is well.
    pub interval: Duration,
    /// The same while a host fails to answer or there is no primary.
    pub fast_interval: Duration,
    /// Part by which both vary, 0.0 to 0.5.
    pub jitter: f64,
    /// A host that has not answered within this long, connecting and login included, has failed to answer.
    pub timeout: Duration,
    /// Failures in a row after which a host is down; at least 1.
    pub failures: u32,
    /// Answers in a row after which a host that was down is up; at least 1.
    pub successes: u32,
    /// User that asks; `None`: one that the settings or clients give.
    pub user: Option<String>,
    /// Its secret; `None`: that of the user in `Settings::users`.
    pub password: Option<Secret>,
    /// Database in which to ask; `None`: the first of the cluster.
    pub database: Option<String>,
}

/// What the log says, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a tracing filter.
    pub level: String,
    /// Log each client that logs in.
    pub connections: bool,
    /// Log each client that leaves, and why.
    pub disconnections: bool,
    /// Log errors that Hawser itself sends to clients.
    pub pooler_errors: bool,
    /// Write each pool's counters to the log this often.
    pub stats_period: Option<Duration>,
    /// Write to this file instead of standard error.
    pub file: Option<PathBuf>,
}
