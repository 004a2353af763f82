//! Facts for the operator, of what workers report and settings say.

use super::consoles::Console;
use super::{Desk, machine, merged, wanted};
use crate::balance::Work;
use crate::config::Effective;
use crate::config::reference::{Change, Kind, Preset};
use crate::config::settings::{DatabaseSettings, HostAddress, HostOrder, PoolMode};
use crate::config::units::parse_duration;
use crate::ids::PoolKey;
use crate::pins::PinReason;
use crate::pool::PoolReport;
use crate::pool::card::{ServerReport, Stage};
use crate::pool::halt::Stance;
use crate::pool::tally::Tally;
use crate::report::{ClientReport, Doing, Spot, WorkerReport};
use crate::shapes::Told;
use crate::stopwatch::{self, Times};
use crate::stream::buffer::BLOCK;
use hawser_admin::door::Question;
use hawser_admin::door::facts::{
    self, Client, ClientState, Database, Facts, Fingerprint, Histogram, Lending, Listener, Pin, Pool,
    Process, Route, Server, ServerState, Setting, Statement, Totals, User, Worker,
};
use hawser_wire::startup::Replication;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant, SystemTime};

// The buckets of the counters are those of the facts.
const _: () = assert!(stopwatch::FIRST_BOUND == Histogram::FIRST && stopwatch::BOUNDED == Histogram::BOUNDED);

/// What PgBouncer calls the pool of its console, and so its tools.
const CONSOLE: &str = "pgbouncer";

/// The same moment on two clocks.
#[derive(Clone, Copy)]
struct Clocks {
    now: Instant,
    time: SystemTime,
}

impl Clocks {
    fn time_of(self, at: Instant) -> SystemTime {
        let before = self.time.checked_sub(self.now.saturating_duration_since(at));
        before.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl Desk {
    /// Answers.
    pub(super) async fn facts(&self, questions: &[Question]) -> Facts {
        let asks_workers = questions.iter().copied().any(is_of_workers);
        let reports = if asks_workers { self.survey(wanted(questions)).await } else { Vec::new() };
        let clocks = Clocks { now: Instant::now(), time: SystemTime::now() };
        let mut facts = Facts::default();
        for question in questions {
            match question {
                Question::Process => facts.process = Some(self.process(&reports)),
                Question::Workers => facts.workers = self.workers(&reports),
                Question::Settings => facts.settings = self.sources.borrow().iter().map(setting).collect(),
                Question::Databases => facts.databases = self.databases(),
                Question::Users => facts.users = self.users(),
                Question::Pools => facts.pools = self.pools(&reports, clocks),
                Question::Stats => {
                    let mut totals = totals(&merged(&reports));
                    totals.entry(CONSOLE.to_owned()).or_default();
                    facts.stats = self.periods.borrow().stats(totals);
                }
                Question::Clients => facts.clients = self.clients(&reports, clocks),
                Question::Servers => facts.servers = servers(&reports, clocks),
                Question::Statements => facts.statements = self.statements(),
                Question::Fingerprints | Question::BusiestFingerprints => {
                    facts.fingerprints = self.fingerprints(&reports);
                }
                Question::Routes => facts.routes = routes(&reports),
                Question::Listeners => facts.listeners = self.listeners(),
                Question::Hosts => {
                    (facts.hosts, facts.failovers) = self.hosts(asks_workers.then_some(&*reports));
                }
            }
        }
        facts
    }

    fn process(&self, reports: &[WorkerReport]) -> Process {
        let runtime = self.runtime();
        let facilities = &runtime.facilities;
        Process {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            lending: match self.halts.borrow().of_all() {
                Stance::Open => Lending::Active,
                Stance::Paused => Lending::Paused,
                Stance::Suspended => Lending::Suspended,
            },
            draining: self.draining.get(),
            workers: self.mailboxes.workers(),
            clients: facilities.clients.used(),
            max_clients: runtime.settings.limits.max_client_connections,
            logins: reports.iter().map(|report| report.logins).sum(),
            consoles: self.consoles.len(),
            blocks: (reports.iter().map(|report| report.free_blocks).sum(), BLOCK),
            statements: facilities.registry.len(),
            resident: machine::resident(),
            cpu: machine::cpu(),
            descriptors: machine::descriptors(),
            tls: reports.iter().fold((0, 0), |sum, report| (sum.0 + report.tls.0, sum.1 + report.tls.1)),
            settings_read: self.settings_read.get(),
            settings_wrong: self.settings_wrong.get(),
        }
    }

    fn workers(&self, reports: &[WorkerReport]) -> Vec<Worker> {
        let works = self.facilities().loads.told();
        let worker = |(number, (work, report)): (usize, (Work, &WorkerReport))| Worker {
            number,
            clients: report.sessions,
            load: work.load,
            cpu: work.cpu,
            departures: work.departures,
        };
        works.into_iter().zip(reports).enumerate().map(worker).collect()
    }

    fn databases(&self) -> Vec<Database> {
        let runtime = self.runtime();
        let settings = &runtime.settings;
        let used = runtime.facilities.used_databases();
        let mut names: BTreeSet<&str> = settings.databases.keys().map(String::as_str).collect();
        names.extend(used.iter().map(String::as_str));
        let named = names.into_iter().filter_map(|name| Some((name, runtime.database(name)?)));
        let mut databases: Vec<Database> =
            named.map(|(name, database)| self.database(name, database)).collect();
        databases.push(Database {
            name: CONSOLE.to_owned(),
            port: settings.listen.unix_port,
            dbname: CONSOLE.to_owned(),
            force_user: Some(CONSOLE.to_owned()),
            pool_size: 2,
            pool_mode: mode(PoolMode::Statement).to_owned(),
            clients: self.consoles.len(),
            ..Database::default()
        });
        databases
    }

    fn database(&self, name: &str, database: &DatabaseSettings) -> Database {
        let runtime = self.runtime();
        let pool = &runtime.settings.pool;
        let (connections, clients) = runtime.facilities.used_by_database(name);
        let hosts = database.hosts.iter().map(|host| match host {
            HostAddress::Tcp(host, _) => host.clone(),
            HostAddress::Unix(folder, _) => folder.display().to_string(),
        });
        let port = |host: &HostAddress| match host {
            HostAddress::Tcp(_, port) | HostAddress::Unix(_, port) => *port,
        };
        Database {
            name: name.to_owned(),
            host: Some(hosts.collect::<Vec<_>>().join(",")),
            port: database.hosts.first().map_or(0, port),
            dbname: database.dbname.clone().unwrap_or_else(|| name.to_owned()),
            force_user: database.user.clone(),
            pool_size: database.pool.size.unwrap_or(pool.size),
            min_pool_size: database.pool.min_size.unwrap_or(pool.min_size),
            reserve_pool_size: database.pool.reserve_size.unwrap_or(pool.reserve_size),
            server_lifetime: database.pool.server_lifetime.unwrap_or(pool.server_lifetime),
            pool_mode: mode(database.pool.mode.unwrap_or(pool.mode)).to_owned(),
            load_balance_hosts: balance(database).to_owned(),
            max_connections: database.max_db_connections,
            connections,
            max_clients: database.max_db_client_connections,
            clients,
            paused: self.halts.borrow().of(name) == Stance::Paused,
            held: self.halts.borrow().of(name) == Stance::Suspended || self.is_held(name),
            disabled: runtime.is_disabled(name, database),
        }
    }

    fn users(&self) -> Vec<User> {
        let runtime = self.runtime();
        let user = |(name, user): (&String, &std::sync::Arc<crate::config::settings::UserSettings>)| {
            let (connections, clients) = runtime.facilities.used_by_user(name);
            User {
                name: name.clone(),
                pool_size: user.pool.size,
                reserve_pool_size: user.pool.reserve_size,
                pool_mode: user.pool.mode.map(|own| mode(own).to_owned()),
                max_connections: user.max_user_connections,
                connections,
                max_clients: user.max_user_client_connections,
                clients,
            }
        };
        runtime.settings.users.iter().map(user).collect()
    }

    fn pools(&self, reports: &[WorkerReport], clocks: Clocks) -> Vec<Pool> {
        let runtime = self.runtime();
        let pool = |report: &PoolReport| {
            let hosts = runtime.database(&report.key.database).map_or("", |database| balance(database));
            let pool = pool(report, hosts, clocks);
            Pool { host: self.host_of(&report.key), ..pool }
        };
        let mut pools: Vec<Pool> = merged(reports).iter().map(pool).collect();
        pools.push(Pool {
            database: CONSOLE.to_owned(),
            user: CONSOLE.to_owned(),
            host: CONSOLE.to_owned(),
            mode: mode(PoolMode::Statement).to_owned(),
            size: 2,
            clients: self.consoles.len(),
            ..Pool::default()
        });
        pools
    }

    fn fingerprints(&self, reports: &[WorkerReport]) -> Vec<Fingerprint> {
        let mut merged: BTreeMap<(&PoolKey, u64), Told> = BTreeMap::new();
        for report in reports {
            let keys: BTreeMap<_, _> = report.pools.iter().map(|pool| (pool.number, &pool.key)).collect();
            for told in &report.shapes {
                // The pool may have been forgotten meanwhile.
                let Some(key) = keys.get(&told.pool) else { continue };
                let known = merged.entry((*key, told.hash));
                known.and_modify(|known| known.add(told)).or_insert_with(|| told.clone());
            }
        }
        let fingerprint = |((key, hash), told): ((&PoolKey, u64), Told)| Fingerprint {
            database: key.database.clone(),
            user: key.user.clone(),
            host: self.host_of(key),
            hash,
            text: told.text.to_string(),
            calls: told.calls,
            errors: told.errors,
            rows: told.rows,
            bytes: told.bytes,
            time: histogram(&told.time),
            waits: told.waits,
            waited: Duration::from_micros(told.waited),
            pins: told.pins,
            reasons: told.reasons,
        };
        let mut fingerprints: Vec<Fingerprint> = merged.into_iter().map(fingerprint).collect();
        fingerprints.sort_by_key(|one| std::cmp::Reverse(one.time.sum));
        fingerprints
    }

    fn clients(&self, reports: &[WorkerReport], clocks: Clocks) -> Vec<Client> {
        // A session that moved between two reports is in both.
        let mut seen = HashSet::new();
        let all = reports.iter().enumerate();
        let served = all.flat_map(|(worker, report)| report.clients.iter().map(move |one| (worker, one)));
        let served = served.filter(|(_, one)| seen.insert(one.id));
        let served = served.map(|(worker, one)| client(one, worker, clocks));
        served.chain(self.consoles.all().iter().map(|one| operator(one, clocks))).collect()
    }

    fn statements(&self) -> Vec<Statement> {
        let known = self.facilities().registry.list();
        let statement =
            |(statement, users): &(std::sync::Arc<crate::statements::Statement>, usize)| Statement {
                id: statement.id.0,
                text: String::from_utf8_lossy(&statement.text).into_owned(),
                parameters: statement.types.get(2..).map_or(0, |types| types.len() / 4),
                users: *users,
                size: statement.size(),
            };
        known.iter().map(statement).collect()
    }

    fn listeners(&self) -> Vec<Listener> {
        let listener = |one: &crate::listener::Listening| Listener {
            address: one.address.clone(),
            port: one.port,
            descriptor: one.descriptor,
        };
        self.listening.iter().map(listener).collect()
    }
}

/// Whether workers have to be asked for this.
const fn is_of_workers(question: Question) -> bool {
    match question {
        Question::Process
        | Question::Workers
        | Question::Pools
        | Question::Stats
        | Question::Clients
        | Question::Servers
        | Question::Fingerprints
        | Question::BusiestFingerprints
        | Question::Routes => true,
        Question::Settings
        | Question::Databases
        | Question::Users
        | Question::Statements
        | Question::Listeners
        | Question::Hosts => false,
    }
}

const fn mode(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    }
}

const fn balance(database: &DatabaseSettings) -> &'static str {
    match database.host_order {
        HostOrder::RoundRobin => "round-robin",
        HostOrder::InOrder => "disable",
    }
}

/// A setting, with its value as PgBouncer would write it.
fn setting(effective: &Effective) -> Setting {
    let setting = effective.setting;
    let default = match setting.preset {
        Preset::Value(value) => value,
        Preset::Unset(_) => "",
    };
    let as_pgbouncer = |text: &str| match setting.kind {
        Kind::Duration | Kind::DurationOrOff if !setting.pgbouncer.is_empty() => match parse_duration(text) {
            Ok(duration) if setting.pgbouncer == "tcp_user_timeout" => duration.as_millis().to_string(),
            Ok(duration) => duration.as_secs_f64().to_string(),
            Err(_) => text.to_owned(),
        },
        Kind::Switch => if text == "true" { "1" } else { "0" }.to_owned(),
        _ => text.to_owned(),
    };
    // Unwritten counts are "no limit", which PgBouncer writes as 0.
    let value = match setting.kind {
        Kind::Count { .. } if effective.value.is_empty() => "0",
        _ => effective.value.as_str(),
    };
    Setting {
        name: setting.name.to_owned(),
        pgbouncer: setting.pgbouncer.to_owned(),
        value: effective.value.clone(),
        pgbouncer_value: as_pgbouncer(value),
        default: default.to_owned(),
        pgbouncer_default: as_pgbouncer(default),
        source: effective.source.to_string(),
        changeable: setting.change == Change::Reload,
        help: setting.doc.to_owned(),
    }
}

fn totals_of(tally: &Tally) -> Totals {
    Totals {
        assignments: tally.assignments,
        transactions: tally.transactions,
        queries: tally.queries,
        received: tally.received,
        sent: tally.sent,
        transaction_time: tally.transaction_time.micros,
        query_time: tally.query_time.micros,
        wait_time: tally.wait_time.micros,
        client_parses: tally.client_parses,
        server_parses: tally.server_parses,
        binds: tally.binds,
        logins: tally.login_time.count(),
    }
}

/// Counters by database.
pub(super) fn totals(pools: &[PoolReport]) -> BTreeMap<String, Totals> {
    let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
    for pool in pools {
        let known = totals.entry(pool.key.database.clone()).or_default();
        *known = known.plus(&totals_of(&pool.tally));
    }
    totals
}

fn histogram(times: &Times) -> Histogram {
    Histogram { buckets: times.buckets.to_vec(), sum: times.micros }
}

/// With those that took no time at all, which nobody has timed.
fn of_all(times: &Times, all: u64) -> Histogram {
    let mut histogram = histogram(times);
    if let Some(first) = histogram.buckets.first_mut() {
        *first += all.saturating_sub(times.count());
    }
    histogram
}

fn pool(report: &PoolReport, hosts: &str, clocks: Clocks) -> Pool {
    let (counts, tally) = (report.counts, &report.tally);
    let queries = tally.query_time.count();
    let counted =
        PinReason::ALL.into_iter().zip(report.pinned).zip(tally.pins.into_iter().zip(tally.pin_time));
    let pins = counted.map(|((reason, now), (total, micros))| Pin {
        reason: reason.word(),
        now,
        total,
        time: Duration::from_micros(micros),
    });
    let since = |at: Instant| clocks.now.saturating_duration_since(at);
    Pool {
        database: report.key.database.clone(),
        user: report.key.user.clone(),
        host: String::new(),
        mode: mode(report.mode).to_owned(),
        load_balance_hosts: hosts.to_owned(),
        size: report.size,
        clients: report.clients,
        waiting: counts.waiting,
        oldest_wait: report.waits_since.map_or(Duration::ZERO, since),
        active: counts.leased,
        idle: counts.idle,
        resetting: counts.resetting,
        opening: counts.opening,
        opened: tally.opened,
        closed: tally.closed,
        reruns: tally.reruns,
        failed_reruns: tally.failed_reruns,
        totals: totals_of(tally),
        wait: of_all(&tally.wait_time, tally.assignments),
        route: of_all(&tally.route_time, tally.assignments),
        query: histogram(&tally.query_time),
        network: of_all(&tally.network_time, queries),
        transaction: histogram(&tally.transaction_time),
        login: histogram(&tally.login_time),
        pins: pins.collect(),
        errors: tally
            .errors
            .iter()
            .map(|(sqlstate, total)| (String::from_utf8_lossy(sqlstate).into_owned(), *total))
            .collect(),
    }
}

fn routes(reports: &[WorkerReport]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for (to, reason, total) in reports.iter().flat_map(|report| &report.routes) {
        match routes.iter_mut().find(|known| (known.to, known.reason) == (*to, *reason)) {
            Some(known) => known.total += total,
            None => routes.push(Route { to, reason, total: *total }),
        }
    }
    routes
}

fn ends(ends: &crate::stream::Ends) -> facts::Ends {
    let address = |at: Option<std::net::SocketAddr>| at.map_or("unix".to_owned(), |at| at.ip().to_string());
    let port = |at: Option<std::net::SocketAddr>| at.map_or(0, |at| at.port());
    let tls = ends.tls.map(|(version, suite)| {
        let version = version.as_str().unwrap_or("TLS").replace("TLSv1_", "TLSv1.");
        format!("{version}/{}", suite.as_str().unwrap_or("unknown"))
    });
    facts::Ends {
        address: address(ends.remote),
        port: port(ends.remote),
        local_address: address(ends.local),
        local_port: port(ends.local),
        tls: tls.unwrap_or_default(),
        descriptor: ends.descriptor,
    }
}

fn client(report: &ClientReport, worker: usize, clocks: Clocks) -> Client {
    let about = &report.about;
    let (state, server, pid, doing) = match report.spot {
        Spot::Detached => (ClientState::Idle, None, 0, None),
        Spot::Waiting => (ClientState::Waiting, None, 0, None),
        Spot::Linked { server, pid, doing } => (ClientState::Active, server, pid, Some(doing)),
    };
    let waited = clocks.now.saturating_duration_since(report.requested);
    Client {
        id: report.id.0,
        user: about.user.to_string(),
        database: about.database.to_string(),
        replication: match about.replication {
            Replication::No => "none",
            Replication::Physical => "physical",
            Replication::Logical => "logical",
        },
        state,
        ends: ends(&about.ends),
        connected: clocks.time_of(about.connected),
        requested: clocks.time_of(report.requested),
        wait: if state == ClientState::Waiting { waited } else { Duration::ZERO },
        server,
        server_pid: pid,
        in_transaction: matches!(doing, Some(Doing::Busy | Doing::Thinking)),
        busy: doing == Some(Doing::Busy),
        pins: report
            .pins
            .iter()
            .map(|(reason, since)| (reason.word(), clocks.now.saturating_duration_since(*since)))
            .collect(),
        application_name: report.application_name.clone(),
        prepared_statements: report.statements,
        worker: Some(worker),
    }
}

/// An operator as PgBouncer shows it: a client without a server connection. No worker serves it.
fn operator(console: &Console, clocks: Clocks) -> Client {
    let about = &console.about;
    let connected = clocks.time_of(about.connected);
    Client {
        id: console.id,
        user: about.user.to_string(),
        database: about.database.to_string(),
        replication: "none",
        state: ClientState::Idle,
        ends: ends(&about.ends),
        connected,
        requested: connected,
        wait: Duration::ZERO,
        server: None,
        server_pid: 0,
        in_transaction: false,
        busy: false,
        pins: Vec::new(),
        application_name: console.application_name.clone(),
        prepared_statements: 0,
        worker: None,
    }
}

fn servers(reports: &[WorkerReport], clocks: Clocks) -> Vec<Server> {
    let mut servers = Vec::new();
    for report in reports {
        for (key, one) in &report.servers {
            servers.push(server(key, one, clocks));
        }
    }
    servers
}

fn server(key: &PoolKey, report: &ServerReport, clocks: Clocks) -> Server {
    Server {
        id: report.id,
        user: key.user.clone(),
        database: key.database.clone(),
        state: match report.stage {
            Stage::Idle => ServerState::Idle,
            Stage::Lent => ServerState::Active,
            Stage::Resetting => ServerState::Tested,
        },
        ends: ends(&report.ends),
        connected: clocks.time_of(report.opened),
        requested: clocks.time_of(report.lent),
        close_needed: report.outdated,
        client: report.client.map(|client| client.0),
        pid: report.pid,
        prepared_statements: report.statements,
    }
}
