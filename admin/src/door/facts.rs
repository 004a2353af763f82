//! Answers: what is so, as values. Pure. Times are the system's; durations are exact.

use std::time::{Duration, SystemTime};

/// Everything that was asked for; fields that were not asked for are empty.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// See [`super::Question::Process`].
    pub process: Option<Process>,
    /// See [`super::Question::Workers`].
    pub workers: Vec<Worker>,
    /// See [`super::Question::Settings`].
    pub settings: Vec<Setting>,
    /// See [`super::Question::Databases`].
    pub databases: Vec<Database>,
    /// See [`super::Question::Users`].
    pub users: Vec<User>,
    /// See [`super::Question::Pools`].
    pub pools: Vec<Pool>,
    /// See [`super::Question::Stats`].
    pub stats: Vec<Stats>,
    /// See [`super::Question::Clients`].
    pub clients: Vec<Client>,
    /// See [`super::Question::Servers`].
    pub servers: Vec<Server>,
    /// See [`super::Question::Statements`].
    pub statements: Vec<Statement>,
    /// See [`super::Question::Listeners`].
    pub listeners: Vec<Listener>,
    /// See [`super::Question::Hosts`].
    pub hosts: Vec<Host>,
    /// See [`super::Question::Hosts`].
    pub failovers: Vec<Failover>,
    /// See [`super::Question::Fingerprints`].
    pub fingerprints: Vec<Fingerprint>,
    /// See [`super::Question::Routes`].
    pub routes: Vec<Route>,
}

/// A worker thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Its number, from 0.
    pub number: usize,
    /// Clients that are logged in and served by it.
    pub clients: usize,
    /// How much of a core it needs, in thousandths: a mean over about 0.4 s.
    pub load: u32,
    /// CPU time that it has used.
    pub cpu: Duration,
    /// Sessions that went on on another worker.
    pub departures: u64,
}

/// Batches that went one way for one reason. Those of databases with one host are not routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// `standby` or `primary`.
    pub to: &'static str,
    /// Why.
    pub reason: &'static str,
    /// How many.
    pub total: u64,
}

/// Queries of one shape in one pool. Time, rows, bytes, errors, waiting and pins are of batches in which all statements
/// have this shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Fingerprint {
    /// Database as clients name it.
    pub database: String,
    /// User on the server.
    pub user: String,
    /// See [`Pool::host`].
    pub host: String,
    /// Equal for texts of one shape.
    pub hash: u64,
    /// The shape: SQL with `?` for literals.
    pub text: String,
    /// Statements run.
    pub calls: u64,
    /// Errors.
    pub errors: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Bytes to clients.
    pub bytes: u64,
    /// How long servers worked on a batch.
    pub time: Histogram,
    /// Times that a client had to wait for a server connection first.
    pub waits: u64,
    /// How long those waited.
    pub waited: Duration,
    /// Times that it pinned its session.
    pub pins: u64,
    /// Why batches went to the primary where there was a choice, and how many.
    pub reasons: Vec<(&'static str, u64)>,
}

/// One host of a cluster that is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// The cluster: its databases, parted by commas.
    pub cluster: String,
    /// Its number in the cluster.
    pub id: u16,
    /// Its address.
    pub address: String,
    /// What it says that it is: `primary`, `standby`, `unknown`.
    pub role: &'static str,
    /// Whether writes go there now.
    pub is_primary: bool,
    /// Whether statements may be sent to it.
    pub is_usable: bool,
    /// Its state, in words.
    pub state: String,
    /// How long it has been in this state.
    pub age: Duration,
    /// What an operator has ordered about it.
    pub ban: Ban,
    /// Server connections that lead there; none if nobody has counted.
    pub servers: Option<usize>,
    /// Its timeline; 0 before it has answered.
    pub timeline: u32,
    /// Position in the log up to which it has replayed (primary: inserted).
    pub position: String,
    /// Bytes that the primary was ahead at the last round.
    pub lag_bytes: u64,
    /// How old its data may be at most; none for the primary, and where nothing is proven.
    pub lag: Option<Duration>,
    /// How long the last question took.
    pub round_trip: Duration,
    /// `server_version_num`; 0 before it has answered.
    pub version: u32,
}

/// What an operator has ordered about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ban {
    /// Nothing.
    #[default]
    None,
    /// BAN: nothing is read there while it is a standby.
    Banned,
    /// DRAIN: as BAN, and no server connection is to be left.
    Drained,
}

/// One stretch without a primary.
#[derive(Debug, Clone, PartialEq)]
pub struct Failover {
    /// The cluster: its databases, parted by commas.
    pub cluster: String,
    /// When it began.
    pub began: SystemTime,
    /// The primary before.
    pub from: Option<String>,
    /// The primary after; none yet.
    pub to: Option<String>,
    /// How long there was no primary; none while there is none.
    pub lost_for: Option<Duration>,
    /// What happened, with times.
    pub phases: String,
}

/// Whether server connections are lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lending {
    /// They are.
    #[default]
    Active,
    /// PAUSE.
    Paused,
    /// SUSPEND.
    Suspended,
}

/// The process as a whole.
#[derive(Debug, Clone)]
pub struct Process {
    /// Version of the program, such as `0.1.0`.
    pub version: String,
    /// When it started.
    pub started: SystemTime,
    /// Whether server connections are lent.
    pub lending: Lending,
    /// Whether it is ending, and takes no new clients.
    pub draining: bool,
    /// Worker threads.
    pub workers: usize,
    /// Clients that are connected, whether logged in or not.
    pub clients: usize,
    /// Clients that may be connected.
    pub max_clients: usize,
    /// Clients in the middle of logging in.
    pub logins: usize,
    /// Operators on the console.
    pub consoles: usize,
    /// Blocks for bytes in flight: in reserve, and the size of one in bytes.
    pub blocks: (usize, usize),
    /// Distinct prepared statements that somebody has.
    pub statements: usize,
    /// Memory that the process occupies, in bytes.
    pub resident: u64,
    /// CPU time that the process has used.
    pub cpu: Duration,
    /// File descriptors: open, and how many may be.
    pub descriptors: (u64, u64),
    /// Clients, and server connections, that use TLS.
    pub tls: (usize, usize),
    /// When the settings were last read without a mistake.
    pub settings_read: SystemTime,
    /// Whether the last attempt to read them failed.
    pub settings_wrong: bool,
}

/// One setting of the whole process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Our name.
    pub name: String,
    /// PgBouncer's name; empty when it has none.
    pub pgbouncer: String,
    /// Value in force; a secret is hidden.
    pub value: String,
    /// The same as PgBouncer would write it: durations are numbers of seconds.
    pub pgbouncer_value: String,
    /// Value when nothing is written.
    pub default: String,
    /// The same as PgBouncer would write it.
    pub pgbouncer_default: String,
    /// Where the value came from.
    pub source: String,
    /// Whether it can be changed without a restart.
    pub changeable: bool,
    /// What it does.
    pub help: String,
}

/// One database as clients see it.
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its hosts, parted by commas; `None` for the console.
    pub host: Option<String>,
    /// Port of the first host.
    pub port: u16,
    /// Name on the server.
    pub dbname: String,
    /// User that every client becomes on the server.
    pub force_user: Option<String>,
    /// Server connections of each pool at most.
    pub pool_size: usize,
    /// Server connections kept open.
    pub min_pool_size: usize,
    /// More connections for those who wait long.
    pub reserve_pool_size: usize,
    /// Age at which a server connection is closed; `None`: never.
    pub server_lifetime: Option<Duration>,
    /// `session`, `transaction` or `statement`.
    pub pool_mode: String,
    /// `round-robin` or `disable`, as PgBouncer says it.
    pub load_balance_hosts: String,
    /// Server connections of all its pools at most.
    pub max_connections: Option<usize>,
    /// Server connections now.
    pub connections: usize,
    /// Clients at most.
    pub max_clients: Option<usize>,
    /// Clients now.
    pub clients: usize,
    /// PAUSE or KILL.
    pub paused: bool,
    /// HOLD, SUSPEND, or a switchover that was announced.
    pub held: bool,
    /// DISABLE, or disabled by the settings.
    pub disabled: bool,
}

/// One user.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Overrides of its pools' size.
    pub pool_size: Option<usize>,
    /// Overrides of its pools' reserve.
    pub reserve_pool_size: Option<usize>,
    /// Overrides of its pools' mode.
    pub pool_mode: Option<String>,
    /// Server connections at most.
    pub max_connections: Option<usize>,
    /// Server connections now.
    pub connections: usize,
    /// Clients at most.
    pub max_clients: Option<usize>,
    /// Clients now.
    pub clients: usize,
}

/// Counters that only grow. Times are in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Server connections lent to clients.
    pub assignments: u64,
    /// Transactions ended.
    pub transactions: u64,
    /// Queries (batches) answered.
    pub queries: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// Time in which a server connection was lent.
    pub transaction_time: u64,
    /// Time in which a server worked on a query.
    pub query_time: u64,
    /// Time that clients waited for a server connection.
    pub wait_time: u64,
    /// Parses by clients.
    pub client_parses: u64,
    /// Parses sent to servers.
    pub server_parses: u64,
    /// Binds.
    pub binds: u64,
    /// Logins of clients.
    pub logins: u64,
}

impl Totals {
    /// Each counter with that of `other`.
    #[must_use]
    pub fn zip(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            assignments: join(self.assignments, other.assignments),
            transactions: join(self.transactions, other.transactions),
            queries: join(self.queries, other.queries),
            received: join(self.received, other.received),
            sent: join(self.sent, other.sent),
            transaction_time: join(self.transaction_time, other.transaction_time),
            query_time: join(self.query_time, other.query_time),
            wait_time: join(self.wait_time, other.wait_time),
            client_parses: join(self.client_parses, other.client_parses),
            server_parses: join(self.server_parses, other.server_parses),
            binds: join(self.binds, other.binds),
            logins: join(self.logins, other.logins),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What this has more than `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        self.zip(before, u64::saturating_sub)
    }

    /// Averages over a period in which these were counted, as PgBouncer makes them: counts, bytes and waiting per
    /// second, transaction and query time for each.
    #[must_use]
    pub fn averages(&self, period: Duration) -> Self {
        let micros = u128::from(super::micros(period)).max(1);
        let per_second =
            |count: u64| u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX);
        Self {
            transaction_time: self.transaction_time.checked_div(self.transactions).unwrap_or(0),
            query_time: self.query_time.checked_div(self.queries).unwrap_or(0),
            ..self.zip(self, |count, _| per_second(count))
        }
    }
}

/// Counters of one database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Which.
    pub database: String,
    /// Since the start.
    pub totals: Totals,
    /// Over the last whole period.
    pub averages: Totals,
}

/// How long things took: counts by powers of two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// `buckets[i]` took at most `2^(FIRST + i)` microseconds, and more than half of that; the last one is for all
    /// that took longer. Empty: nothing was measured.
    pub buckets: Vec<u64>,
    /// Microseconds in all.
    pub sum: u64,
}

impl Histogram {
    /// The first bucket's bound is two to this, in microseconds: 32 us.
    pub const FIRST: u32 = 5;
    /// Buckets with a bound: up to 33.5 s.
    pub const BOUNDED: usize = 21;

    /// Bound of a bucket in seconds; `None` for the last.
    #[must_use]
    pub fn bound(bucket: usize) -> Option<f64> {
        let power = Self::FIRST + u32::try_from(bucket).unwrap_or(u32::MAX - Self::FIRST);
        (bucket < Self::BOUNDED).then(|| f64::from(1u32 << power) / 1e6)
    }

    /// The bucket that so many microseconds belong into.
    #[must_use]
    #[inline]
    pub const fn bucket(micros: u64) -> usize {
        let above = micros.saturating_sub(1) >> Self::FIRST;
        let bits = (u64::BITS - above.leading_zeros()) as usize;
        if bits > Self::BOUNDED { Self::BOUNDED } else { bits }
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many were measured.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// A value that `part` (0.0 to 1.0) of all do not exceed: the bound of a bucket, in microseconds.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank need not be exact"
        )]
        let rank = ((count as f64) * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, more) in self.buckets.iter().enumerate() {
            seen += more;
            if seen >= rank {
                return Some(1 << (Self::FIRST + u32::try_from(bucket).unwrap_or(0)));
            }
        }
        None
    }
}

/// One pool: server connections of one database and user, on all workers.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    /// Database as clients name it.
    pub database: String,
    /// User on the server.
    pub user: String,
    /// `primary`, or the address of the standby that it leads to.
    pub host: String,
    /// `session`, `transaction` or `statement`.
    pub mode: String,
    /// See [`Database::load_balance_hosts`].
    pub load_balance_hosts: String,
    /// Server connections at most.
    pub size: usize,
    /// Clients that are logged in.
    pub clients: usize,
    /// Clients that wait.
    pub waiting: usize,
    /// How long the first of them has waited.
    pub oldest_wait: Duration,
    /// Server connections that are lent.
    pub active: usize,
    /// Server connections that are free.
    pub idle: usize,
    /// Server connections between two clients: reset, check, cancel under way.
    pub resetting: usize,
    /// Server connections being opened.
    pub opening: usize,
    /// Server connections opened since the start.
    pub opened: u64,
    /// Server connections closed since the start.
    pub closed: u64,
    /// Lost transactions that were put back to run again.
    pub reruns: u64,
    /// Those that could not go on from there.
    pub failed_reruns: u64,
    /// Counters.
    pub totals: Totals,
    /// How long clients waited for a server connection.
    pub wait: Histogram,
    /// How long batches waited for a standby that has seen enough.
    pub route: Histogram,
    /// How long servers worked on queries.
    pub query: Histogram,
    /// How long clients did not read what was there for them.
    pub network: Histogram,
    /// How long server connections were lent.
    pub transaction: Histogram,
    /// How long logins took, from accept on.
    pub login: Histogram,
    /// Pins by reason.
    pub pins: Vec<Pin>,
    /// Errors that clients saw, by SQLSTATE.
    pub errors: Vec<(String, u64)>,
}

impl Pool {
    /// Adds a pool of the same database and user, or of others where nobody asks which.
    pub fn add(&mut self, other: &Self) {
        self.size += other.size;
        self.clients += other.clients;
        self.waiting += other.waiting;
        self.oldest_wait = self.oldest_wait.max(other.oldest_wait);
        self.active += other.active;
        self.idle += other.idle;
        self.resetting += other.resetting;
        self.opening += other.opening;
        self.opened += other.opened;
        self.closed += other.closed;
        self.reruns += other.reruns;
        self.failed_reruns += other.failed_reruns;
        self.totals = self.totals.plus(&other.totals);
        self.wait.add(&other.wait);
        self.route.add(&other.route);
        self.network.add(&other.network);
        self.query.add(&other.query);
        self.transaction.add(&other.transaction);
        self.login.add(&other.login);
        for pin in &other.pins {
            match self.pins.iter_mut().find(|known| known.reason == pin.reason) {
                Some(known) => {
                    known.now += pin.now;
                    known.total += pin.total;
                    known.time += pin.time;
                }
                None => self.pins.push(pin.clone()),
            }
        }
        for (sqlstate, more) in &other.errors {
            match self.errors.iter_mut().find(|(known, _)| known == sqlstate) {
                Some((_, total)) => *total += more,
                None => self.errors.push((sqlstate.clone(), *more)),
            }
        }
    }
}

/// Sessions that keep their server connection, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Why.
    pub reason: &'static str,
    /// Sessions that are pinned now.
    pub now: u64,
    /// Times that a session was pinned.
    pub total: u64,
    /// For how long altogether; a pin that still holds is not in it.
    pub time: Duration,
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// It has a server connection.
    Active,
    /// It has none, and wants none.
    Idle,
    /// It wants one.
    Waiting,
}

impl ClientState {
    /// As PgBouncer says it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
        }
    }
}

/// What both ends of a connection have in common.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// Address of the other side; `unix` for a Unix socket.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Our address.
    pub local_address: String,
    /// Our port.
    pub local_port: u16,
    /// TLS version and cipher; empty without TLS.
    pub tls: String,
    /// The file descriptor.
    pub descriptor: i32,
}

/// One client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its number: KILL_CLIENT takes it, and it is what the client was told for cancelling.
    pub id: u32,
    /// As whom it logged in.
    pub user: String,
    /// Database as it named it.
    pub database: String,
    /// `none`, `logical` or `physical`.
    pub replication: &'static str,
    /// What it is doing.
    pub state: ClientState,
    /// Its connection.
    pub ends: Ends,
    /// When it connected.
    pub connected: SystemTime,
    /// When it last asked for something.
    pub requested: SystemTime,
    /// How long it has waited for a server connection.
    pub wait: Duration,
    /// Its server connection.
    pub server: Option<u64>,
    /// The process number of that on the server.
    pub server_pid: u32,
    /// Whether its transaction is open.
    pub in_transaction: bool,
    /// Whether the server works for it.
    pub busy: bool,
    /// Why it keeps its server connection, and for how long each reason has held.
    pub pins: Vec<(&'static str, Duration)>,
    /// Its name for itself.
    pub application_name: String,
    /// Named prepared statements that it has.
    pub prepared_statements: usize,
    /// The worker that serves it; none serves those on the console.
    pub worker: Option<usize>,
}

/// What a server connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// It is lent.
    Active,
    /// It is free.
    Idle,
    /// It is between two clients.
    Tested,
}

impl ServerState {
    /// As PgBouncer says it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Tested => "tested",
        }
    }
}

/// One server connection.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its number.
    pub id: u64,
    /// User on the server.
    pub user: String,
    /// Database as clients name it.
    pub database: String,
    /// What it is doing.
    pub state: ServerState,
    /// Its connection.
    pub ends: Ends,
    /// When it was opened.
    pub connected: SystemTime,
    /// When it was last lent.
    pub requested: SystemTime,
    /// It is closed as soon as it is free.
    pub close_needed: bool,
    /// The client that it is lent to.
    pub client: Option<u32>,
    /// Its process number on the server.
    pub pid: u32,
    /// Statements that it has prepared.
    pub prepared_statements: usize,
}

/// One prepared statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its number; servers know it as `hawser_p<number>`.
    pub id: u64,
    /// Its text.
    pub text: String,
    /// How many parameter types the client gave.
    pub parameters: usize,
    /// Clients and server connections that have it.
    pub users: usize,
    /// Bytes that it costs to keep.
    pub size: usize,
}

/// A socket that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address, or the path of a Unix socket.
    pub address: String,
    /// Port.
    pub port: u16,
    /// The file descriptor.
    pub descriptor: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        for micros in [0, 1, 31, 32, 33, 64, 65, 1_000, 33_554_432, 33_554_433, u64::MAX] {
            let bucket = Histogram::bucket(micros);
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let seconds = micros as f64 / 1e6;
            assert!(Histogram::bound(bucket).is_none_or(|bound| seconds <= bound), "{micros}");
            if bucket > 0 {
                assert!(Histogram::bound(bucket - 1).is_some_and(|bound| seconds > bound), "{micros}");
            }
        }
        assert_eq!(Histogram::bucket(u64::MAX), Histogram::BOUNDED);
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let mut histogram = Histogram { buckets: vec![0; Histogram::BOUNDED + 1], sum: 0 };
        assert_eq!(histogram.quantile(0.5), None);
        histogram.buckets[0] = 98;
        histogram.buckets[5] = 2;
        assert_eq!((histogram.quantile(0.5), histogram.quantile(0.99)), (Some(32), Some(1024)));
    }

    #[test]
    fn averages_are_per_second_but_times_are_per_event() {
        let counted = Totals { transactions: 20, transaction_time: 600, wait_time: 40, ..Totals::default() };
        let averages = counted.averages(Duration::from_secs(2));
        assert_eq!((averages.transactions, averages.transaction_time, averages.wait_time), (10, 30, 20));
        assert_eq!(averages.query_time, 0);
    }
}
