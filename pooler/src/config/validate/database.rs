//! Pure. One database and one user: where it leads, and what differs for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::expand::parse_host;
use super::super::finding::Finding;
use super::super::raw::{NamedSection, Raw};
use super::super::reference::{DATABASE, USER};
use super::super::settings::{
    AuthQuery, CommitOutcome, Consistency, DatabaseSettings, HealthSettings, HostAddress, HostOrder, Limits,
    LostTransactions, PoolOverrides, PoolSettings, Route, RoutingOverrides, Secret, ServerTls, Target,
    TimeoutOverrides, UserSettings,
};
use super::reader::Reader;
use super::{Files, auth, pool_mode, server_tls, source};
use crate::auth::secret;

/// What holds for a database unless it says otherwise.
pub(super) struct Inherited<'a> {
    pub(super) server_tls: ServerTls,
    pub(super) query: Option<&'a AuthQuery>,
    pub(super) max_connections: Option<usize>,
    pub(super) max_client_connections: Option<usize>,
    pub(super) pool: &'a PoolSettings,
}

/// All databases, `*` among them.
pub(super) fn databases(
    raw: &Raw,
    files: &Files,
    inherited: &Inherited<'_>,
    problems: &mut Vec<Finding>,
) -> BTreeMap<String, Arc<DatabaseSettings>> {
    raw.databases
        .iter()
        .map(|(name, section)| {
            let mut reader = Reader::new(DATABASE, &section.settings, format!("databases.{name}."));
            let settings = database(name, section, &mut reader, files, inherited);
            problems.append(&mut reader.problems);
            (name.clone(), Arc::new(settings))
        })
        .collect()
}

fn database(
    name: &str,
    section: &NamedSection,
    reader: &mut Reader<'_>,
    files: &Files,
    inherited: &Inherited<'_>,
) -> DatabaseSettings {
    let hosts = hosts(name, section, reader);
    let sources = source::of_database(name, reader, &inherited.server_tls);
    // Read for its kind; `expand` has put its parts where they belong.
    let _url = reader.optional_text("url");
    let target = match reader.word("target") {
        Some("any") => Target::Any,
        Some(_) => Target::Primary,
        None if hosts.len() > 1 || !sources.is_empty() => Target::Primary,
        None => Target::Any,
    };
    let user = reader.optional_text("user");
    let mut secrets = secrets(reader, files);
    let password = secrets.pop();
    if password.is_some() && user.is_none() {
        let at = if reader.is_written("password") { "password" } else { "password_file" };
        reader.problem(
            at,
            "stands without user",
            &format!("write databases.{name}.user, or give [users.NAME] the password"),
        );
    }
    let order = reader.word("host_order");
    let pool = overrides(reader);
    if let Some(min) = pool.min_size.filter(|min| *min > pool.size.unwrap_or(inherited.pool.size)) {
        reader.problem("min_pool_size", &format!("is {min}, more than the size of the pool"), "");
    }
    DatabaseSettings {
        hosts,
        sources,
        host_order: if order == Some("in-order") { HostOrder::InOrder } else { HostOrder::RoundRobin },
        target,
        dbname: reader.optional_text("dbname"),
        user,
        password,
        auth_query: auth::query_of_database(reader, inherited.query),
        tls: server_tls(reader, Some(&inherited.server_tls)),
        connect_query: reader.optional_text("connect_query").filter(|query| !query.is_empty()),
        startup_parameters: reader.pairs("startup_parameters"),
        pool,
        routing: routing(reader, ""),
        max_db_connections: reader.limit_or("max_connections", inherited.max_connections),
        max_db_client_connections: reader
            .limit_or("max_client_connections", inherited.max_client_connections),
        timeouts: timeouts(reader),
        disabled: reader.switch("disabled"),
    }
}

fn hosts(name: &str, section: &NamedSection, reader: &mut Reader<'_>) -> Vec<HostAddress> {
    let written = reader.is_written("hosts");
    let mut hosts = Vec::new();
    for (text, source) in reader.list("hosts") {
        match parse_host(&text) {
            Ok(HostAddress::Tcp(host, _)) if host.is_empty() => {
                reader
                    .problems
                    .push(Finding::new(&source, format!("databases.{name}.hosts: a host is empty")));
            }
            Ok(host) => hosts.push(host),
            Err(error) => {
                let what = format!("databases.{name}.hosts: {text:?}: {error}");
                reader.problems.push(Finding::new(&source, what));
            }
        }
    }
    let nothing_told = hosts.is_empty() && reader.problems.is_empty();
    if !reader.is_written("url") && (!written || nothing_told) {
        let finding = Finding::new(&section.source, format!("databases.{name} names no host"));
        reader.problems.push(finding.suggest("write url = \"postgres://…\" or hosts = [\"HOST:PORT\"]"));
    }
    hosts
}

fn overrides(reader: &mut Reader<'_>) -> PoolOverrides {
    PoolOverrides {
        mode: pool_mode(reader.word("pool_mode")),
        commit_outcome: reader.word("commit_outcome").and_then(CommitOutcome::from_word),
        lost_transactions: reader.word("lost_transactions").and_then(LostTransactions::from_word),
        size: reader.optional_count("pool_size"),
        min_size: reader.optional_count("min_pool_size"),
        reserve_size: reader.optional_count("reserve_pool_size"),
        server_lifetime: reader.optional_duration("server_lifetime"),
    }
}

/// Where statements run and what they must see, by settings whose names begin so.
pub(super) fn routing(reader: &mut Reader<'_>, prefix: &str) -> RoutingOverrides {
    let mut word = |name: &str| reader.word(&format!("{prefix}{name}"));
    RoutingOverrides {
        route: word("route").and_then(Route::from_word),
        consistency: word("consistency").and_then(Consistency::from_word),
        transaction_reads: word("transaction_reads").and_then(Route::from_word),
    }
}

fn timeouts(reader: &mut Reader<'_>) -> TimeoutOverrides {
    TimeoutOverrides {
        query_wait: reader.optional_duration("query_wait_timeout"),
        query: reader.optional_duration("query_timeout"),
        transaction: reader.optional_duration("transaction_timeout"),
        idle_transaction: reader.optional_duration("idle_transaction_timeout"),
        client_idle: reader.optional_duration("client_idle_timeout"),
    }
}

/// All users that the settings name.
pub(super) fn users(
    raw: &Raw,
    files: &Files,
    limits: &Limits,
    problems: &mut Vec<Finding>,
) -> BTreeMap<String, UserSettings> {
    raw.users
        .iter()
        .map(|(name, section)| {
            let mut reader = Reader::new(USER, &section.settings, format!("users.{name}."));
            let settings = UserSettings {
                secrets: secrets(&mut reader, files),
                pool: overrides(&mut reader),
                routing: routing(&mut reader, ""),
                max_user_connections: reader.limit_or("max_connections", limits.max_user_connections),
                max_user_client_connections: reader
                    .limit_or("max_client_connections", limits.max_user_client_connections),
                timeouts: timeouts(&mut reader),
            };
            problems.append(&mut reader.problems);
            (name.clone(), settings)
        })
        .collect()
}

/// A user of whom nothing is known but the name.
pub(super) fn plain_user(limits: &Limits) -> UserSettings {
    UserSettings {
        max_user_connections: limits.max_user_connections,
        max_user_client_connections: limits.max_user_client_connections,
        ..UserSettings::default()
    }
}

/// How hosts are asked, and by whom.
pub(super) fn health(reader: &mut Reader<'_>, files: &Files) -> HealthSettings {
    let user = reader.optional_text("health.user").filter(|user| !user.is_empty());
    let password = secrets_of(reader, files, ["health.password", "", "health.password_file"]).pop();
    if password.is_some() && user.is_none() {
        let written = reader.is_written("health.password");
        let at = if written { "health.password" } else { "health.password_file" };
        reader.problem(at, "stands without health.user", "write health.user");
    }
    let health = HealthSettings {
        interval: reader.duration("health.interval"),
        fast_interval: reader.duration("health.fast_interval"),
        jitter: reader.fraction("health.jitter"),
        timeout: reader.duration("health.timeout"),
        failures: reader.small("health.failures"),
        successes: reader.small("health.successes"),
        user,
        password,
        database: reader.optional_text("health.database").filter(|name| !name.is_empty()),
    };
    HealthSettings { fast_interval: health.fast_interval.min(health.interval), ..health }
}

/// The secrets of a section: `password`, `passwords` and the content of `password_file`.
fn secrets(reader: &mut Reader<'_>, files: &Files) -> Vec<Secret> {
    secrets_of(reader, files, ["password", "passwords", "password_file"])
}

/// The secrets that stand under the names `ways`: one, several, or in a file.
fn secrets_of(reader: &mut Reader<'_>, files: &Files, ways: [&'static str; 3]) -> Vec<Secret> {
    let [single, several, in_file] = ways;
    let written: Vec<&str> = ways.into_iter().filter(|name| reader.is_written(name)).collect();
    if let [first, second, ..] = written.as_slice() {
        reader.problem(second, &format!("stands beside {first}"), "write one of them");
    }
    let mut texts = Vec::new();
    if let Some(text) = reader.optional_text(single) {
        texts.push((single, text));
    }
    texts.extend(reader.list(several).into_iter().map(|(text, _)| (several, text)));
    if let Some(path) = reader.path(in_file) {
        match files.get(&path) {
            Some(Ok(text)) => {
                texts.push((in_file, text.trim_end_matches(['\r', '\n']).to_owned()));
            }
            Some(Err(why)) => {
                reader.problem(in_file, &format!("{} cannot be read: {why}", path.display()), "");
            }
            None => {}
        }
    }
    let mut secrets = Vec::new();
    for (name, text) in texts {
        let text = zeroize::Zeroizing::new(text);
        if text.is_empty() {
            reader.problem(name, "is empty, and an empty password never logs in", "");
            continue;
        }
        match secret::parse(&text) {
            Ok(secret) => secrets.push(secret),
            Err(error) => reader.problem(name, &format!("cannot be read: {error}"), ""),
        }
    }
    secrets
}
