//! File descriptors: how many the settings need, and how many the process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use crate::config::settings::{DatabaseSettings, Settings};

/// For listening, logs, certificates, resolvers and the runtimes.
const SPARE: u64 = 64;
/// For the runtime of each worker.
const PER_WORKER: u64 = 8;

/// The process may not have as many file descriptors as the settings need. It can run, but not with all its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the settings need {needed} file descriptors and the process may have {allowed}: raise LimitNOFILE= (systemd) or \
     `ulimit -n`, or lower limits.max_client_connections"
)]
pub struct Shortage {
    /// What the settings need.
    pub needed: u64,
    /// What the process may have.
    pub allowed: u64,
}

/// How many file descriptors the settings need when every client and every server connection is there.
pub fn needed(settings: &Settings) -> u64 {
    let databases = settings.databases.values().chain(&settings.wildcard_database);
    let servers: u64 = databases.map(|database| servers(settings, database)).fold(0, u64::saturating_add);
    let clients = count(settings.limits.max_client_connections);
    let workers = count(settings.workers).saturating_mul(PER_WORKER);
    clients.saturating_add(servers).saturating_add(workers).saturating_add(SPARE)
}

/// Server connections of one database at most, as far as its users are known.
fn servers(settings: &Settings, database: &DatabaseSettings) -> u64 {
    let size = database.pool.size.unwrap_or(settings.pool.size);
    let reserve = database.pool.reserve_size.unwrap_or(settings.pool.reserve_size);
    let users = if database.user.is_some() { 1 } else { count(settings.users.len()).max(1) };
    let pools = count(size).saturating_add(count(reserve)).saturating_mul(users);
    database.max_db_connections.map_or(pools, |most| pools.min(count(most)))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Raises the limit of this process to `needed`, or as far as it goes.
///
/// # Errors
/// It does not go far enough; what was possible has been done.
pub fn raise(needed: u64) -> Result<(), Shortage> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // Above the hard limit only root may go.
    let hard = maximum.map(|maximum| maximum.max(needed));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: hard }).is_ok() {
        return Ok(());
    }
    let allowed = maximum.unwrap_or(needed).min(needed);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum });
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed >= needed { Ok(()) } else { Err(Shortage { needed, allowed }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arguments, Environment, load};

    fn needed_with(variables: &[(&str, &str)]) -> u64 {
        let source = Some("postgres://app:secret@db/app".to_owned());
        let arguments = Arguments { source, ..Arguments::default() };
        needed(&load(&arguments, &Environment::of(variables.iter().copied())).unwrap().settings)
    }

    #[test]
    fn clients_pools_and_workers_are_counted() {
        // 10,000 clients, a pool of 20 for `app` and one for `*`, one worker.
        assert_eq!(needed_with(&[]), 10_000 + 40 + PER_WORKER + SPARE);
        let variables = [("HAWSER_POOL_RESERVE_SIZE", "5"), ("HAWSER_LIMITS_MAX_CLIENT_CONNECTIONS", "100")];
        assert_eq!(needed_with(&variables), 100 + 50 + PER_WORKER + SPARE);
        let variables = [("HAWSER_LIMITS_MAX_DB_CONNECTIONS", "3"), ("HAWSER_WORKERS", "4")];
        assert_eq!(needed_with(&variables), 10_000 + 6 + 4 * PER_WORKER + SPARE);
    }

    #[test]
    fn what_is_within_reach_is_reached_and_a_shortage_is_told_in_full() {
        let current = getrlimit(Resource::Nofile).current.unwrap_or(1024);
        assert_eq!(raise(current), Ok(()));
        let shortage = raise(u64::MAX / 2).unwrap_err();
        assert!(shortage.allowed >= current);
        assert!(shortage.to_string().contains("LimitNOFILE"));
    }
}
