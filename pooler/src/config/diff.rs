//! Pure. What a reload changes: what applies at once, what has to wait for a restart, and both in words for the log.

use std::collections::BTreeMap;
use std::fmt;

use super::settings::{DatabaseSettings, LogSettings, Settings, UserSettings};

/// One thing that differs between two settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A database that was not there before; `*` is the wildcard.
    DatabaseAdded(String),
    /// A database that is no longer there.
    DatabaseRemoved(String),
    /// A database that differs in more than limits: its server connections must be made anew.
    DatabaseMoved(String),
    /// A database with other limits, timeouts or pool sizes.
    DatabaseChanged(String),
    /// A user that was not there before.
    UserAdded(String),
    /// A user that is no longer there.
    UserRemoved(String),
    /// A user with another secret.
    UserSecret(String),
    /// A user with other limits, timeouts or pool sizes.
    UserChanged(String),
    /// Rules, name maps, look-up of secrets, throttle.
    Auth,
    /// TLS towards clients.
    ClientTls,
    /// What holds for each pool.
    Pool,
    /// Timeouts of clients.
    Timeouts,
    /// Limits for the whole process.
    Limits,
    /// Startup parameters that are dropped.
    IgnoreStartupParameters,
    /// What is counted beyond what is needed.
    Stats,
    /// Who may use the console.
    Admin,
    /// How hosts are asked what they are.
    Health,
    /// How sessions are spread over the workers.
    Balance,
    /// Level of the log and what is logged.
    Log,
    /// Address and token of HTTP; on restart.
    Http,
    /// Addresses and sockets; on restart.
    Listen,
    /// Number of worker threads; on restart.
    Workers,
    /// The file with the number of the process; on restart.
    PidFile,
    /// Format, file or clock of the log; on restart.
    LogPlace,
}

impl Change {
    /// Whether it takes effect on restart only.
    pub fn needs_restart(&self) -> bool {
        matches!(self, Self::Http | Self::Listen | Self::Workers | Self::PidFile | Self::LogPlace)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DatabaseAdded(name) => write!(f, "database {name:?} added"),
            Self::DatabaseRemoved(name) => write!(f, "database {name:?} removed"),
            Self::DatabaseMoved(name) => {
                write!(f, "database {name:?} leads elsewhere, its server connections are renewed")
            }
            Self::DatabaseChanged(name) => write!(f, "database {name:?} has other limits"),
            Self::UserAdded(name) => write!(f, "user {name:?} added"),
            Self::UserRemoved(name) => write!(f, "user {name:?} removed"),
            Self::UserSecret(name) => write!(f, "user {name:?} has another secret"),
            Self::UserChanged(name) => write!(f, "user {name:?} has other limits"),
            Self::Auth => f.write_str("[auth]"),
            Self::ClientTls => f.write_str("[client_tls]"),
            Self::Pool => f.write_str("[pool]"),
            Self::Timeouts => f.write_str("[timeouts]"),
            Self::Limits => f.write_str("[limits]"),
            Self::IgnoreStartupParameters => f.write_str("ignore_startup_parameters"),
            Self::Stats => f.write_str("[stats]"),
            Self::Admin => f.write_str("[admin]"),
            Self::Health => f.write_str("[health]"),
            Self::Log => f.write_str("[log]"),
            Self::Http => f.write_str("[http]"),
            Self::Listen => f.write_str("[listen]"),
            Self::Workers => f.write_str("workers"),
            Self::Balance => f.write_str("balance"),
            Self::PidFile => f.write_str("pid_file"),
            Self::LogPlace => f.write_str("log.format, log.file or log.stats_period"),
        }
    }
}

/// Everything that differs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes(pub Vec<Change>);

impl Changes {
    /// What applies at once.
    pub fn live(&self) -> impl Iterator<Item = &Change> {
        self.0.iter().filter(|change| !change.needs_restart())
    }

    /// What has to wait for a restart.
    pub fn restart(&self) -> impl Iterator<Item = &Change> {
        self.0.iter().filter(|change| change.needs_restart())
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |changes: Vec<String>| changes.join(", ");
        let live = words(self.live().map(ToString::to_string).collect());
        let restart = words(self.restart().map(ToString::to_string).collect());
        match (live.is_empty(), restart.is_empty()) {
            (true, true) => f.write_str("nothing changed"),
            (false, true) => write!(f, "changed: {live}"),
            (true, false) => write!(f, "nothing changed; after a restart: {restart}"),
            (false, false) => write!(f, "changed: {live}; after a restart: {restart}"),
        }
    }
}

/// What differs between the running settings and new ones.
pub fn diff(old: &Settings, new: &Settings) -> Changes {
    let mut changes = Vec::new();
    let mut note = |differs: bool, change: Change| {
        if differs {
            changes.push(change);
        }
    };
    note(old.http != new.http, Change::Http);
    note(old.listen != new.listen, Change::Listen);
    note(old.workers != new.workers, Change::Workers);
    note(old.balance != new.balance, Change::Balance);
    note(old.pid_file != new.pid_file, Change::PidFile);
    note(log_place(&old.log) != log_place(&new.log), Change::LogPlace);
    note(log_words(&old.log) != log_words(&new.log), Change::Log);
    note(old.auth != new.auth, Change::Auth);
    note(old.client_tls != new.client_tls, Change::ClientTls);
    note(old.stats != new.stats, Change::Stats);
    note(old.admin != new.admin, Change::Admin);
    note(old.pool != new.pool, Change::Pool);
    note(old.timeouts != new.timeouts, Change::Timeouts);
    note(old.limits != new.limits, Change::Limits);
    note(old.health != new.health, Change::Health);
    let ignored = old.ignore_startup_parameters != new.ignore_startup_parameters;
    note(ignored, Change::IgnoreStartupParameters);
    databases(old, new, &mut changes);
    let user = |name: &String, old: &UserSettings, new: &UserSettings| {
        let secret = (old.secrets != new.secrets).then(|| Change::UserSecret(name.clone()));
        let same_secret = UserSettings { secrets: old.secrets.clone(), ..new.clone() };
        let limits = (*old != same_secret).then(|| Change::UserChanged(name.clone()));
        secret.into_iter().chain(limits).collect()
    };
    named(&old.users, &new.users, Change::UserAdded, Change::UserRemoved, user, &mut changes);
    Changes(changes)
}

fn databases(old: &Settings, new: &Settings, changes: &mut Vec<Change>) {
    let all = |settings: &Settings| {
        let mut databases = settings.databases.clone();
        databases.extend(settings.wildcard_database.clone().map(|database| ("*".to_owned(), database)));
        databases
    };
    let database = |name: &String, old: &DatabaseSettings, new: &DatabaseSettings| {
        let moved = !same_place(old, new);
        vec![if moved { Change::DatabaseMoved(name.clone()) } else { Change::DatabaseChanged(name.clone()) }]
    };
    named(&all(old), &all(new), Change::DatabaseAdded, Change::DatabaseRemoved, database, changes);
}

/// Whether server connections that were made for one serve the other.
fn same_place(old: &DatabaseSettings, new: &DatabaseSettings) -> bool {
    let limits_of_old = DatabaseSettings {
        sources: old.sources.clone(),
        host_order: old.host_order,
        auth_query: old.auth_query.clone(),
        pool: old.pool.clone(),
        max_db_connections: old.max_db_connections,
        max_db_client_connections: old.max_db_client_connections,
        timeouts: old.timeouts.clone(),
        disabled: old.disabled,
        ..new.clone()
    };
    *old == limits_of_old
}

/// What was added, removed and changed between two maps.
fn named<V: PartialEq>(
    old: &BTreeMap<String, std::sync::Arc<V>>,
    new: &BTreeMap<String, std::sync::Arc<V>>,
    added: fn(String) -> Change,
    removed: fn(String) -> Change,
    changed: impl Fn(&String, &V, &V) -> Vec<Change>,
    changes: &mut Vec<Change>,
) {
    changes.extend(new.keys().filter(|name| !old.contains_key(*name)).cloned().map(added));
    changes.extend(old.keys().filter(|name| !new.contains_key(*name)).cloned().map(removed));
    for (name, new) in new {
        if let Some(old) = old.get(name).filter(|old| *old != new) {
            changes.extend(changed(name, old, new));
        }
    }
}

fn log_place(log: &LogSettings) -> (bool, Option<&std::path::PathBuf>, Option<std::time::Duration>) {
    (log.json, log.file.as_ref(), log.stats_period)
}

fn log_words(log: &LogSettings) -> (&str, bool, bool, bool) {
    (&log.level, log.connections, log.disconnections, log.pooler_errors)
}

/// The settings that hold after a reload: the new ones, with the old where only a restart can change them.
pub fn reloaded(old: &Settings, new: Settings) -> Settings {
    Settings {
        listen: old.listen.clone(),
        http: old.http.clone(),
        workers: old.workers,
        pid_file: old.pid_file.clone(),
        log: LogSettings {
            json: old.log.json,
            file: old.log.file.clone(),
            stats_period: old.log.stats_period,
            ..new.log
        },
        ..new
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arguments, Environment, load};
    use super::*;

    fn settings(url: &str, variables: &[(&str, &str)]) -> Settings {
        let arguments = Arguments { source: Some(url.to_owned()), ..Arguments::default() };
        load(&arguments, &Environment::of(variables.iter().copied())).unwrap().settings
    }

    const URL: &str = "postgres://app:secret@db/app";

    #[test]
    fn equal_settings_differ_in_nothing() {
        let changes = diff(&settings(URL, &[]), &settings(URL, &[]));
        assert_eq!(changes, Changes::default());
        assert_eq!(changes.to_string(), "nothing changed");
    }

    #[test]
    fn what_is_safe_applies_at_once_and_the_rest_waits_for_a_restart() {
        let old = settings(URL, &[]);
        let new = settings(
            "postgres://app:other@db,db2/shop",
            &[
                ("HAWSER_LISTEN", "127.0.0.1:7000"),
                ("HAWSER_WORKERS", "3"),
                ("HAWSER_POOL_SIZE", "3"),
                ("HAWSER_LOG_LEVEL", "debug"),
                ("HAWSER_LOG_FORMAT", "json"),
                ("HAWSER_TIMEOUTS_QUERY", "3s"),
            ],
        );
        let changes = diff(&old, &new);
        assert_eq!(
            changes.to_string(),
            "changed: [log], [pool], [timeouts], database \"shop\" added, database \"app\" removed, \
             database \"*\" leads elsewhere, its server connections are renewed, user \"app\" has another secret; \
             after a restart: [listen], workers, log.format, log.file or log.stats_period"
        );
        let running = reloaded(&old, new.clone());
        assert_eq!((running.listen, running.workers, running.log.json), (old.listen, old.workers, false));
        assert_eq!((running.log.level, running.pool), (new.log.level, new.pool));
    }

    #[test]
    fn other_limits_keep_the_server_connections_of_a_database() {
        let old = settings(URL, &[]);
        let new = settings(URL, &[("HAWSER_LIMITS_MAX_DB_CONNECTIONS", "5")]);
        let changed = ["*", "app"].map(|name| Change::DatabaseChanged(name.to_owned()));
        assert_eq!(diff(&old, &new).0, changed);
    }
}
