//! What the settings came to: certificates loaded, limits in use, everything that threads share.
//!
//! A reload makes a new [`Runtime`] from new [`Settings`] and the same [`Facilities`]; whoever has the old one goes
//! on with it until it looks again.

use crate::auth::lookup::SecretCache;
use crate::auth::server_login::Credential;
use crate::auth::throttle::Throttle;
use crate::balance::Loads;
use crate::config::settings::{
    AuthQuery, DatabaseSettings, HostAddress, HostSource, PoolMode, ServerTls, Settings, TimeoutOverrides,
    Timeouts, UserSettings,
};
use crate::endings::Endings;
use crate::ids::{PoolHost, PoolKey};
use crate::pool::budget::{Budget, Cap};
use crate::pool::halt::Scope;
use crate::pool::{PoolPlan, Told, ledger};
use crate::relay::RelayLimits;
use crate::server::dial::DialPlan;
use crate::statements::Registry;
use crate::stream::tls::{Acceptor, Connector, Connectors, TlsError};
use crate::topology::Clusters;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Addresses whose failed logins are remembered.
const THROTTLED: usize = 10_000;

/// Answers of `auth_query` that are remembered.
const SECRETS: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub struct Runtime {
    /// As meant by the operator.
    pub settings: Settings,
    /// TLS towards clients.
    pub acceptor: Acceptor,
    /// What outlives a reload.
    pub facilities: Arc<Facilities>,
    /// Secrets that servers told; a reload asks them again.
    pub secrets: SecretCache,
    /// Who guesses passwords; a reload forgives.
    pub throttle: Throttle,
    connectors: Connectors,
}

/// What outlives a reload.
#[derive(Debug)]
pub struct Facilities {
    /// Prepared statements of all clients.
    pub registry: Arc<Registry>,
    /// When clients called for the end of a server process.
    pub endings: Arc<Endings>,
    /// Clients that are connected, whether logged in or not.
    pub clients: Arc<Cap>,
    /// Clusters by their hosts.
    pub clusters: Clusters,
    /// What each worker does.
    pub loads: Arc<Loads>,
    /// What workers share for choosing hosts.
    pub routing: Arc<crate::route::Common>,
    /// From this, users that do not exist get their salt.
    pub mock_secret: [u8; 32],
    workers: usize,
    budgets: DashMap<PoolKey, Arc<Budget>>,
    told: DashMap<PoolKey, Arc<Told>>,
    database_servers: DashMap<String, Arc<Cap>>,
    user_servers: DashMap<String, Arc<Cap>>,
    database_clients: DashMap<String, Arc<Cap>>,
    user_clients: DashMap<String, Arc<Cap>>,
    primaries: DashMap<Vec<HostAddress>, Arc<AtomicUsize>>,
    /// Databases that an operator has disabled, or enabled against the settings.
    disabled: DashMap<String, bool>,
}

impl Facilities {
    /// For so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            registry: Arc::default(),
            endings: Arc::default(),
            clients: Cap::new(usize::MAX),
            clusters: Clusters::default(),
            loads: Loads::new(workers),
            routing: Arc::default(),
            mock_secret: rand::random(),
            workers,
            budgets: DashMap::new(),
            told: DashMap::new(),
            database_servers: DashMap::new(),
            user_servers: DashMap::new(),
            database_clients: DashMap::new(),
            user_clients: DashMap::new(),
            primaries: DashMap::new(),
            disabled: DashMap::new(),
        })
    }

    /// An operator lets new clients of a database in, or does not.
    pub fn set_disabled(&self, database: &str, disabled: bool) {
        self.disabled.insert(database.to_owned(), disabled);
    }

    /// Outdates the server connections of these databases.
    pub fn reconnect(&self, scope: &Scope) {
        for budget in self.budgets.iter().filter(|budget| scope.has(&budget.key().database)) {
            budget.reconnect();
        }
    }

    /// Server connections and clients of a database, all users together.
    #[must_use]
    pub fn used_by_database(&self, name: &str) -> (usize, usize) {
        (used(&self.database_servers, name), used(&self.database_clients, name))
    }

    /// Server connections and clients of a user, all databases together.
    #[must_use]
    pub fn used_by_user(&self, name: &str) -> (usize, usize) {
        (used(&self.user_servers, name), used(&self.user_clients, name))
    }

    /// Databases that somebody has used, whether the settings name them or not.
    #[must_use]
    pub fn used_databases(&self) -> Vec<String> {
        self.database_servers.iter().map(|cap| cap.key().clone()).collect()
    }

    /// The budget of a pool that exists on some worker.
    #[must_use]
    pub fn budget(&self, key: &PoolKey) -> Option<Arc<Budget>> {
        self.budgets.get(key).map(|found| found.clone())
    }

    /// What clients of a pool were told at login.
    #[must_use]
    pub fn told(&self, key: &PoolKey) -> Arc<Told> {
        self.told.entry(key.clone()).or_default().clone()
    }

    /// Forgets what nobody uses any more.
    pub fn sweep(&self) {
        self.registry.sweep();
        self.told.retain(|_, told| Arc::strong_count(told) > 1);
        self.budgets.retain(|_, budget| Arc::strong_count(budget) > 1 || budget.open() > 0);
        for caps in [&self.database_servers, &self.user_servers, &self.database_clients, &self.user_clients] {
            caps.retain(|_, cap| Arc::strong_count(cap) > 1 || cap.used() > 0);
        }
    }
}

fn used(caps: &DashMap<String, Arc<Cap>>, name: &str) -> usize {
    caps.get(name).map_or(0, |cap| cap.used())
}

fn cap(caps: &DashMap<String, Arc<Cap>>, name: &str, limit: Option<usize>) -> Arc<Cap> {
    let limit = limit.unwrap_or(usize::MAX);
    let cap = caps.entry(name.to_owned()).or_insert_with(|| Cap::new(limit)).clone();
    cap.set_limit(limit);
    cap
}

impl Runtime {
    /// Loads what the settings name.
    ///
    /// # Errors
    /// A certificate file is missing or wrong.
    pub fn load(settings: Settings, facilities: Arc<Facilities>) -> Result<Self, TlsError> {
        let acceptor = Acceptor::load(&settings.client_tls)?;
        let mut connectors = Connectors::default();
        for database in settings.databases.values().chain(&settings.wildcard_database) {
            connectors.connector(&database.tls)?;
            for source in &database.sources {
                if let HostSource::Monitor(monitor) = source {
                    connectors.connector(&monitor.tls)?;
                }
            }
        }
        facilities.clients.set_limit(settings.limits.max_client_connections);
        let secrets = SecretCache::new(SECRETS);
        let throttle =
            Throttle::new(settings.auth.throttle_failures, settings.auth.throttle_window, THROTTLED);
        Ok(Self { settings, acceptor, facilities, secrets, throttle, connectors })
    }

    /// The settings of the database that a client calls `name`.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<&Arc<DatabaseSettings>> {
        self.settings.databases.get(name).or(self.settings.wildcard_database.as_ref())
    }

    /// Whether this name is our console's: nobody has named a database so.
    #[must_use]
    pub fn is_console(&self, name: &str) -> bool {
        matches!(name, "hawser" | "pgbouncer") && !self.settings.databases.contains_key(name)
    }

    /// Whether new clients of a database are refused: an operator's word comes before the settings.
    #[must_use]
    pub fn is_disabled(&self, name: &str, database: &DatabaseSettings) -> bool {
        self.facilities.disabled.get(name).map_or(database.disabled, |disabled| *disabled)
    }

    /// The settings of a user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&Arc<UserSettings>> {
        self.settings.users.get(name)
    }

    /// What the settings give us to log in as this user.
    #[must_use]
    pub fn own_credential(&self, user: &str) -> Credential {
        let secrets = self.user(user).map(|user| user.secrets.as_slice()).unwrap_or_default();
        secrets
            .iter()
            .map(Credential::from)
            .find(|known| *known != Credential::None)
            .unwrap_or(Credential::None)
    }

    /// How secrets are looked up for a database.
    #[must_use]
    pub fn auth_query(&self, database: &DatabaseSettings) -> Option<AuthQuery> {
        database.auth_query.clone().or_else(|| self.settings.auth.query.clone())
    }

    /// The pool for a client, by the words of the client and the settings.
    #[must_use]
    pub fn pool_key(database_name: &str, database: &DatabaseSettings, user: &str) -> PoolKey {
        PoolKey {
            database: database_name.to_owned(),
            user: database.user.clone().unwrap_or_else(|| user.to_owned()),
            host: PoolHost::Primary,
        }
    }

    /// What the settings say about a pool.
    #[must_use]
    pub fn pool_plan(
        &self,
        key: &PoolKey,
        database: &DatabaseSettings,
        credential: Credential,
    ) -> Option<PoolPlan> {
        let pool = &self.settings.pool;
        let user = self.user(&key.user).map(|user| &user.pool);
        let over = &database.pool;
        let lifetime = user
            .and_then(|user| user.server_lifetime)
            .or(over.server_lifetime)
            .unwrap_or(pool.server_lifetime);
        let preferred = self.facilities.primaries.entry(database.hosts.clone()).or_default().clone();
        let credential = match (&database.user, &database.password) {
            (Some(forced), Some(secret)) if *forced == key.user => Credential::from(secret),
            (Some(forced), None) if *forced == key.user => self.own_credential(forced),
            _ => credential,
        };
        Some(PoolPlan {
            dial: DialPlan {
                hosts: database.hosts.clone(),
                order: database.host_order,
                target: database.target,
                preferred,
                tls: self.connector(&database.tls)?,
                user: key.user.clone(),
                dbname: database.dbname.clone().unwrap_or_else(|| key.database.clone()),
                credential,
                parameters: database.startup_parameters.clone(),
                connect_query: database.connect_query.clone(),
                keepalive: pool.keepalive,
                timeout: pool.server_connect_timeout,
                lifetime,
            },
            mode: user.and_then(|user| user.mode).or(over.mode).unwrap_or(pool.mode),
            commit_outcome: user
                .and_then(|user| user.commit_outcome)
                .or(over.commit_outcome)
                .unwrap_or(pool.commit_outcome),
            lost_transactions: user
                .and_then(|user| user.lost_transactions)
                .or(over.lost_transactions)
                .unwrap_or(pool.lost_transactions),
            size: user.and_then(|user| user.size).or(over.size).unwrap_or(pool.size),
            min_size: user.and_then(|user| user.min_size).or(over.min_size).unwrap_or(pool.min_size),
            reserve_size: user
                .and_then(|user| user.reserve_size)
                .or(over.reserve_size)
                .unwrap_or(pool.reserve_size),
            reserve_timeout: pool.reserve_timeout,
            order: if pool.round_robin { ledger::Order::RoundRobin } else { ledger::Order::Freshest },
            idle_timeout: pool.server_idle_timeout,
            lifetime_jitter: pool.lifetime_jitter,
            check_query: pool.server_check_query.clone(),
            check_delay: pool.server_check_delay,
            reset_query: pool.server_reset_query.clone(),
            reset_always: pool.server_reset_query_always,
            login_retry: pool.server_login_retry,
            max_held: self.settings.limits.max_held.div_ceil(self.facilities.workers.max(1)),
            limits: RelayLimits {
                max_message: self.settings.limits.max_message,
                max_client_statements: self.settings.limits.max_client_prepared_statements,
                max_server_statements: pool.max_prepared_statements,
                notify_queue: self.settings.limits.notify_queue,
            },
        })
    }

    /// The budget of a pool, shared by all workers.
    #[must_use]
    pub fn budget(&self, key: &PoolKey, database: &DatabaseSettings, size: usize) -> Arc<Budget> {
        let facilities = &self.facilities;
        let database = cap(&facilities.database_servers, &key.database, database.max_db_connections);
        let limit = match self.user(&key.user) {
            Some(user) => user.max_user_connections,
            None => self.settings.limits.max_user_connections,
        };
        let user = cap(&facilities.user_servers, &key.user, limit);
        let fresh = || Budget::new(size, database, user, facilities.workers);
        facilities.budgets.entry(key.clone()).or_insert_with(fresh).clone()
    }

    /// A place among the clients of a database and user.
    ///
    /// # Errors
    /// The name of the limit that is reached.
    pub fn admit(
        &self,
        database_name: &str,
        database: &DatabaseSettings,
        user: &str,
    ) -> Result<Admission, &'static str> {
        let facilities = &self.facilities;
        let of_database =
            cap(&facilities.database_clients, database_name, database.max_db_client_connections);
        let limit = match self.user(user) {
            Some(user) => user.max_user_client_connections,
            None => self.settings.limits.max_user_client_connections,
        };
        let of_user = cap(&facilities.user_clients, user, limit);
        if !of_database.take(0) {
            return Err("max_db_client_connections");
        }
        if !of_user.take(0) {
            of_database.release();
            return Err("max_user_client_connections");
        }
        Ok(Admission { of_database, of_user })
    }

    /// The timeouts of a client.
    #[must_use]
    pub fn timeouts(&self, database: &DatabaseSettings, user: &str) -> Timeouts {
        let mut timeouts = self.settings.timeouts.clone();
        override_timeouts(&mut timeouts, &database.timeouts);
        if let Some(user) = self.user(user) {
            override_timeouts(&mut timeouts, &user.timeouts);
        }
        timeouts
    }

    /// How many workers a pool's clients are spread over: a small pool on several would only be carried about.
    #[must_use]
    pub fn spread(size: usize, mode: PoolMode) -> usize {
        match mode {
            PoolMode::Session => usize::MAX,
            PoolMode::Transaction | PoolMode::Statement => (size / 2).max(1),
        }
    }

    /// Who else knows the cluster with these hosts: what the first of its databases says that says anything.
    #[must_use]
    pub fn sources(&self, hosts: &[HostAddress]) -> Vec<HostSource> {
        let mut databases = self.settings.databases.values().chain(&self.settings.wildcard_database);
        let found = databases.find(|database| database.hosts == hosts && !database.sources.is_empty());
        found.map(|database| database.sources.clone()).unwrap_or_default()
    }

    /// What makes TLS connections so.
    #[must_use]
    pub fn connector(&self, tls: &ServerTls) -> Option<Connector> {
        self.connectors.known(tls)
    }
}

fn override_timeouts(timeouts: &mut Timeouts, over: &TimeoutOverrides) {
    let replace = |place: &mut Option<Duration>, over: Option<Option<Duration>>| {
        if let Some(value) = over {
            *place = value;
        }
    };
    replace(&mut timeouts.query_wait, over.query_wait);
    replace(&mut timeouts.query, over.query);
    replace(&mut timeouts.transaction, over.transaction);
    replace(&mut timeouts.idle_transaction, over.idle_transaction);
    replace(&mut timeouts.client_idle, over.client_idle);
}

/// A client's place under the limits of its database and user.
#[derive(Debug)]
pub struct Admission {
    of_database: Arc<Cap>,
    of_user: Arc<Cap>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.of_database.release();
        self.of_user.release();
    }
}
