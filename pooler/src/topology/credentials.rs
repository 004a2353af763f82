//! What the probes of a cluster log in with.

use super::bell::Offer;
use crate::auth::server_login::Credential;
use crate::config::settings::{DatabaseSettings, HostAddress, HostOrder, MonitorSettings, Target};
use crate::ids::{PoolHost, PoolKey};
use crate::runtime::Runtime;
use crate::server::dial::DialPlan;
use std::sync::Arc;

/// Users of the settings that are tried. Each one that a server does not know costs it a failed login.
const MOST_USERS: usize = 4;

/// A database that every cluster has, and that nobody drops, renames or copies: while a probe is in a database, that fails.
const USUAL_DATABASE: &str = "postgres";

/// Plans for the probes, best first: the user of `[health]`; then each user that the settings know how to log in as; then
/// whoever has logged in lately. Each of them tries `health.database` or the usual one, and then the one it is for.
///
/// In `[health]` the operator says what holds, and nothing else is tried.
#[must_use]
pub(super) fn plans(runtime: &Runtime, hosts: &[HostAddress], offers: &[Offer]) -> Vec<DialPlan> {
    let settings = &runtime.settings;
    let named = settings.databases.iter().map(|(name, database)| (Some(name.as_str()), &**database));
    let wildcard = settings.wildcard_database.iter().map(|database| (None, &**database));
    let databases: Vec<(Option<&str>, &DatabaseSettings)> =
        named.chain(wildcard).filter(|(_, database)| database.hosts == hosts).collect();
    let Some((_, any)) = databases.first() else { return Vec::new() };
    let dbname = |name: Option<&str>, database: &DatabaseSettings| {
        database.dbname.clone().or_else(|| name.map(str::to_owned))
    };
    let first = databases.iter().find_map(|(name, database)| dbname(*name, database));
    let first = first.unwrap_or_else(|| USUAL_DATABASE.to_owned());
    let health = &settings.health;
    let preferred = health.database.as_deref().unwrap_or(USUAL_DATABASE);
    let mut plans = Vec::new();
    let mut add = |database: &DatabaseSettings, user: &str, own: &str, credential: Credential| {
        let own = (own != preferred).then_some(own);
        for dbname in [Some(preferred), own].into_iter().flatten() {
            plans.extend(plan(runtime, database, user, dbname, credential.clone()));
        }
    };
    if let Some(user) = &health.user {
        let credential = match &health.password {
            Some(secret) => Credential::from(secret),
            None => runtime.own_credential(user),
        };
        add(any, user, health.database.as_deref().unwrap_or(&first), credential);
        return plans;
    }
    for (name, database) in &databases {
        if let Some(user) = &database.user {
            let credential = database.password.as_ref().map(Credential::from);
            let credential = credential.unwrap_or_else(|| runtime.own_credential(user));
            let own = dbname(*name, database);
            add(database, user, own.as_deref().unwrap_or(&first), credential);
        }
    }
    let askers =
        databases.iter().filter_map(|(_, database)| runtime.auth_query(database)).map(|query| query.user);
    let users = askers.chain(settings.users.keys().cloned());
    let known = users.map(|user| (runtime.own_credential(&user), user));
    for (credential, user) in known.filter(|(credential, _)| *credential != Credential::None).take(MOST_USERS)
    {
        add(any, &user, &first, credential);
    }
    for offer in offers {
        add(any, &offer.user, &offer.dbname, offer.credential.clone());
    }
    plans
}

/// How the monitor of pg_auto_failover is reached.
pub(super) fn monitor_plan(runtime: &Runtime, monitor: &MonitorSettings) -> Option<DialPlan> {
    let pool = &runtime.settings.pool;
    Some(DialPlan {
        hosts: monitor.hosts.clone(),
        order: HostOrder::InOrder,
        target: Target::Any,
        preferred: Arc::default(),
        tls: runtime.connector(&monitor.tls)?,
        user: monitor.user.clone(),
        dbname: monitor.dbname.clone(),
        credential: monitor.password.as_ref().map_or(Credential::None, Credential::from),
        parameters: parameters(),
        connect_query: None,
        keepalive: pool.keepalive,
        timeout: pool.server_connect_timeout,
        lifetime: None,
    })
}

/// Whoever looks at the sessions of a server knows what this one is.
fn parameters() -> Vec<(String, String)> {
    vec![
        ("application_name".to_owned(), "hawser health".to_owned()),
        ("search_path".to_owned(), "pg_catalog".to_owned()),
    ]
}

fn plan(
    runtime: &Runtime,
    database: &DatabaseSettings,
    user: &str,
    dbname: &str,
    credential: Credential,
) -> Option<DialPlan> {
    let key = PoolKey { database: dbname.to_owned(), user: user.to_owned(), host: PoolHost::Primary };
    let plan = runtime.pool_plan(&key, database, credential.clone())?.dial;
    Some(DialPlan {
        dbname: dbname.to_owned(),
        credential,
        parameters: parameters(),
        connect_query: None,
        lifetime: None,
        ..plan
    })
}
