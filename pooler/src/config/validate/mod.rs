//! Pure. From the configuration as written to the settings as meant: every mistake at once, with its place.
//!
//! Files that the configuration names come in as text, so that this room reads nothing itself.

mod auth;
mod database;
mod operator;
mod reader;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::finding::{Finding, Problems, Source};
use super::raw::{Manners, Raw};
use super::reference::{GLOBAL, Setting};
use super::settings::{
    Balance, ClientTls, CommitOutcome, DatabaseSettings, HostAddress, Keepalive, Limits, Listen, LogSettings,
    LostTransactions, PoolMode, PoolSettings, Route, RoutingSettings, ServerTls, Settings, Timeouts, TlsMode,
    TlsVersion, UserSettings,
};
use reader::Reader;
pub(super) use reader::resolve;

/// The content of each file that the configuration names, or why it could not be read.
pub type Files = BTreeMap<PathBuf, Result<Zeroizing<String>, String>>;

/// A setting of the whole process as it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value as text; a secret is `hidden`.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// The settings, and what is worth saying about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// As meant.
    pub settings: Settings,
    /// What is odd without being wrong.
    pub warnings: Vec<Finding>,
    /// Each setting of the whole process, in the order of the reference.
    pub sources: Vec<Effective>,
}

/// Files that [`validate`] wants the content of.
pub fn named_files(raw: &Raw) -> Vec<PathBuf> {
    let global = ["auth.hba_file", "auth.ident_file", "auth.user_file"].map(|name| (&raw.settings, name));
    let sections = raw.databases.values().chain(raw.users.values());
    let secrets = sections
        .map(|section| (&section.settings, "password_file"))
        .chain([(&raw.settings, "health.password_file"), (&raw.settings, "http.token_file")]);
    global
        .into_iter()
        .chain(secrets)
        .filter_map(|(section, name)| match section.get(name) {
            Some(written) => match &written.value {
                super::raw::Value::Text(text) if !text.is_empty() => Some(resolve(text, &written.source)),
                _ => None,
            },
            None => None,
        })
        .collect()
}

/// Checks everything. `problems` are the mistakes that were found before; they are part of the answer.
pub fn validate(
    raw: &Raw,
    files: &Files,
    cores: usize,
    problems: Vec<Finding>,
    warnings: Vec<Finding>,
) -> Result<Loaded, Problems> {
    let mut reader = Reader::new(GLOBAL, &raw.settings, String::new());
    reader.problems = problems;
    let mut warnings = warnings;
    let client_tls = client_tls(&mut reader);
    let listen = listen(&mut reader, client_tls.mode, raw.manners, &mut warnings);
    let server_tls = server_tls(&mut reader, None);
    let pool = pool(&mut reader);
    let timeouts = timeouts(&mut reader);
    let routing = routing(&mut reader);
    let limits = limits(&mut reader);
    let max_db_connections = reader.limit("limits.max_db_connections");
    let max_db_client_connections = reader.limit("limits.max_db_client_connections");
    let workers = reader.limit("workers").unwrap_or(cores.max(1));
    let balance = reader.word("balance").and_then(Balance::from_word).unwrap_or_default();
    let health = database::health(&mut reader, files);
    let log = log(&mut reader);
    let pid_file = reader.path("pid_file");
    let ignore = reader.list("ignore_startup_parameters");
    let stats = operator::stats(&mut reader);
    let admin = operator::admin(&mut reader);
    let http = operator::http(&mut reader, files);
    // Read for SHOW CONFIG; `expand` has put its parts where they belong.
    let _url = reader.optional_text("cluster.url");
    source::of_cluster(&mut reader);
    let auth = auth::settings(&mut reader, files, &client_tls);
    let inherited = database::Inherited {
        server_tls,
        query: auth.query.as_ref(),
        max_connections: max_db_connections,
        max_client_connections: max_db_client_connections,
        pool: &pool,
    };
    let databases = database::databases(raw, files, &inherited, &mut reader.problems);
    let mut users = database::users(raw, files, &limits, &mut reader.problems);
    auth::add_user_file(&mut reader, files, &limits, &mut users, &mut warnings);
    // Without a file or with a broken URL it has been said already why there is none.
    if databases.is_empty() && raw.file.is_some() && !raw.settings.contains_key("cluster.url") {
        let finding = Finding::new(&whole(raw), "no database is named, so nobody could connect");
        reader.problems.push(finding.suggest("write cluster.url or [databases.NAME]"));
    }
    auth::look_for_users(&auth, &users, &databases, &whole(raw), &mut warnings);
    let Reader { mut problems, effective, .. } = reader;
    if !problems.is_empty() {
        problems.sort();
        problems.dedup();
        return Err(Problems(problems));
    }
    warnings.sort();
    warnings.dedup();
    let mut databases: BTreeMap<String, Arc<DatabaseSettings>> = databases;
    let settings = Settings {
        listen,
        workers,
        balance,
        client_tls,
        auth,
        wildcard_database: databases.remove("*"),
        databases,
        users: users
            .into_iter()
            .map(|(name, user)| (name, Arc::new(user)))
            .collect::<BTreeMap<_, Arc<UserSettings>>>(),
        limits,
        timeouts,
        pool,
        routing,
        ignore_startup_parameters: ignore.into_iter().map(|(name, _)| name).collect(),
        health,
        log,
        stats,
        admin,
        http,
        pid_file,
    };
    Ok(Loaded { settings, warnings, sources: in_order(effective, workers) })
}

/// Where to point when something is missing altogether.
fn whole(raw: &Raw) -> Source {
    raw.file.clone().map_or(Source::Default, Source::WholeFile)
}

/// Effective settings in the order of the reference; what was computed is shown as computed.
fn in_order(mut effective: Vec<Effective>, workers: usize) -> Vec<Effective> {
    let place = |name: &str| GLOBAL.iter().position(|setting| setting.name == name);
    effective.sort_by_key(|effective| place(effective.setting.name));
    effective.dedup_by_key(|effective| effective.setting.name);
    for effective in &mut effective {
        if effective.setting.name == "workers" {
            effective.value = workers.to_string();
        }
    }
    effective
}

fn listen(reader: &mut Reader<'_>, mode: TlsMode, manners: Manners, warnings: &mut Vec<Finding>) -> Listen {
    let mut tcp: Vec<SocketAddr> = Vec::new();
    for (text, source) in reader.list("listen.address") {
        match addresses(&text) {
            Some(addresses) => tcp.extend(addresses),
            None => {
                let what = format!("listen.address: {text:?} is not an IP address and a port");
                let finding = Finding::new(&source, what);
                reader
                    .problems
                    .push(finding.suggest("write \"127.0.0.1:6432\", \"[::1]:6432\" or \"*:6432\""));
            }
        }
    }
    let allowed = reader.switch("listen.allow_plaintext") || mode >= TlsMode::Require;
    if let Some(public) = tcp.iter().find(|address| !address.ip().is_loopback() && !allowed) {
        let what =
            format!("{public} can be reached from other hosts, and clients there may talk without TLS");
        let finding = Finding::new(&reader.source("listen.address"), what)
            .suggest("set client_tls.mode = \"require\" with a certificate, or allow it with listen.allow_plaintext = true (--allow-plaintext)");
        match manners {
            Manners::Hawser => reader.problems.push(finding),
            Manners::Pgbouncer => {
                warnings.push(finding.suggest("set client_tls_sslmode = require with a certificate"))
            }
        }
    }
    let unix_dir = reader.path("listen.unix_dir");
    if tcp.is_empty() && unix_dir.is_none() {
        reader.problem("listen.address", "is empty and there is no Unix socket", "write \"127.0.0.1:6432\"");
    }
    let port = reader.small("listen.unix_port");
    Listen {
        tcp,
        unix_dir,
        unix_port: u16::try_from(port).unwrap_or(0),
        unix_mode: reader.permissions("listen.unix_mode"),
        unix_group: reader.optional_text("listen.unix_group").filter(|group| !group.is_empty()),
        backlog: reader.small("listen.backlog"),
        defer_accept: reader.duration_or_off("listen.defer_accept"),
        keepalive: keepalive(reader, "listen"),
    }
}

/// The addresses of one text; `*` is both families, `localhost` is the IPv4 loopback.
fn addresses(text: &str) -> Option<Vec<SocketAddr>> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let port = super::url::parse_port(port)?;
    let hosts = match host {
        "*" => vec!["0.0.0.0", "::"],
        "localhost" => vec!["127.0.0.1"],
        host => vec![host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)],
    };
    hosts.into_iter().map(|host| Some(SocketAddr::new(host.parse().ok()?, port))).collect()
}

fn keepalive(reader: &mut Reader<'_>, of: &str) -> Keepalive {
    Keepalive {
        enabled: reader.switch(&format!("{of}.keepalive")),
        idle: reader.duration_or_off(&format!("{of}.keepalive_idle")),
        interval: reader.duration_or_off(&format!("{of}.keepalive_interval")),
        count: Some(reader.small(&format!("{of}.keepalive_count"))).filter(|count| *count > 0),
        user_timeout: reader.duration_or_off(&format!("{of}.user_timeout")),
    }
}

/// A TLS mode by libpq's word.
fn tls_mode(word: Option<&str>) -> Option<TlsMode> {
    Some(match word? {
        "disable" => TlsMode::Disable,
        "allow" => TlsMode::Allow,
        "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        _ => TlsMode::VerifyFull,
    })
}

fn tls_version(word: Option<&str>) -> Option<TlsVersion> {
    word.map(|word| if word == "1.3" { TlsVersion::Tls13 } else { TlsVersion::Tls12 })
}

fn client_tls(reader: &mut Reader<'_>) -> ClientTls {
    let written = tls_mode(reader.word("client_tls.mode"));
    let cert_file = reader.path("client_tls.cert_file");
    let key_file = reader.path("client_tls.key_file");
    let ca_file = reader.path("client_tls.ca_file");
    let min_version = tls_version(reader.word("client_tls.min_version")).unwrap_or_default();
    let unset = if cert_file.is_some() { TlsMode::Prefer } else { TlsMode::Disable };
    let mode = written.unwrap_or(unset);
    if mode != TlsMode::Disable && (cert_file.is_none() || key_file.is_none()) {
        let at =
            if reader.is_written("client_tls.mode") { "client_tls.mode" } else { "client_tls.cert_file" };
        reader.problem(
            at,
            "needs a certificate and its key",
            "set client_tls.cert_file and client_tls.key_file",
        );
    }
    if mode >= TlsMode::VerifyCa && ca_file.is_none() {
        reader.problem(
            "client_tls.mode",
            "needs authorities to check certificates with",
            "set client_tls.ca_file",
        );
    }
    ClientTls { mode, cert_file, key_file, ca_file, min_version }
}

/// TLS towards servers; what is not written is `general`'s.
fn server_tls(reader: &mut Reader<'_>, general: Option<&ServerTls>) -> ServerTls {
    let general = general.cloned().unwrap_or_default();
    let mode = tls_mode(reader.word("server_tls.mode")).unwrap_or(general.mode);
    let direct = reader.word("server_tls.negotiation").map_or(general.direct, |word| word == "direct");
    let written = |name: &str, reader: &Reader<'_>| reader.is_written(name);
    if direct && mode < TlsMode::Require {
        reader.problem(
            "server_tls.negotiation",
            "direct needs a mode that insists on TLS",
            "set server_tls.mode = \"require\" or better",
        );
    }
    let own_certificate = written("server_tls.cert_file", reader) || written("server_tls.key_file", reader);
    let (cert_file, key_file) = (reader.path("server_tls.cert_file"), reader.path("server_tls.key_file"));
    if cert_file.is_some() != key_file.is_some() {
        let at = if cert_file.is_some() { "server_tls.cert_file" } else { "server_tls.key_file" };
        reader.problem(at, "stands alone", "set both server_tls.cert_file and server_tls.key_file");
    }
    let (cert_file, key_file) =
        if own_certificate { (cert_file, key_file) } else { (general.cert_file, general.key_file) };
    ServerTls {
        mode,
        ca_file: reader.path("server_tls.ca_file").or(general.ca_file),
        cert_file,
        key_file,
        min_version: tls_version(reader.word("server_tls.min_version")).unwrap_or(general.min_version),
        direct,
    }
}

/// A pool mode by its word.
fn pool_mode(word: Option<&str>) -> Option<PoolMode> {
    Some(match word? {
        "session" => PoolMode::Session,
        "statement" => PoolMode::Statement,
        _ => PoolMode::Transaction,
    })
}

fn pool(reader: &mut Reader<'_>) -> PoolSettings {
    let pool = PoolSettings {
        mode: pool_mode(reader.word("pool.mode")).unwrap_or_default(),
        commit_outcome: reader.word("commit_outcome").and_then(CommitOutcome::from_word).unwrap_or_default(),
        lost_transactions: reader
            .word("lost_transactions")
            .and_then(LostTransactions::from_word)
            .unwrap_or_default(),
        size: reader.count("pool.size"),
        min_size: reader.count("pool.min_size"),
        reserve_size: reader.count("pool.reserve_size"),
        reserve_timeout: reader.duration("pool.reserve_timeout"),
        round_robin: reader.switch("pool.round_robin"),
        server_lifetime: reader.duration_or_off("pool.server_lifetime"),
        lifetime_jitter: reader.fraction("pool.lifetime_jitter"),
        server_idle_timeout: reader.duration_or_off("pool.server_idle_timeout"),
        server_check_query: reader.text("pool.server_check_query"),
        server_check_delay: reader.duration("pool.server_check_delay"),
        server_reset_query: reader.text("pool.server_reset_query"),
        server_reset_query_always: reader.switch("pool.server_reset_query_always"),
        server_connect_timeout: reader.duration("pool.server_connect_timeout"),
        server_login_retry: reader.duration("pool.server_login_retry"),
        max_prepared_statements: reader.count("pool.max_prepared_statements"),
        application_name_add_host: reader.switch("pool.application_name_add_host"),
        keepalive: keepalive(reader, "pool"),
    };
    if pool.min_size > pool.size {
        let what = format!("is {}, more than pool.size, which is {}", pool.min_size, pool.size);
        reader.problem("pool.min_size", &what, "");
    }
    pool
}

fn routing(reader: &mut Reader<'_>) -> RoutingSettings {
    let overrides = database::routing(reader, "routing.");
    let bytes = reader.size("routing.max_lag_bytes");
    let zones = zones(reader);
    let prefer_zone = reader.optional_text("routing.prefer_zone");
    if let Some(zone) = &prefer_zone
        && !zones.iter().any(|(_, known)| known == zone)
    {
        let what = format!("no host is in {zone:?}");
        reader.problem("routing.prefer_zone", &what, "say in routing.zones where the hosts are");
    }
    RoutingSettings {
        route: overrides.route.unwrap_or_default(),
        consistency: overrides.consistency.unwrap_or_default(),
        wait: reader.duration("routing.wait"),
        max_lag: reader.duration_or_off("routing.max_lag"),
        max_lag_bytes: (bytes > 0).then_some(bytes),
        transaction_reads: overrides.transaction_reads.unwrap_or(Route::Primary),
        weights: weights(reader),
        zones,
        prefer_zone,
    }
}

fn zones(reader: &mut Reader<'_>) -> Vec<(HostAddress, String)> {
    let mut zones = Vec::new();
    for (host, zone) in reader.pairs("routing.zones") {
        match super::expand::parse_host(&host) {
            Ok(host) => zones.push((host, zone)),
            Err(error) => reader.problem("routing.zones", &format!("{host:?}: {error}"), ""),
        }
    }
    zones
}

fn weights(reader: &mut Reader<'_>) -> Vec<(HostAddress, f64)> {
    let mut weights = Vec::new();
    for (host, weight) in reader.pairs("routing.weights") {
        let number = weight.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        match (super::expand::parse_host(&host), number) {
            (Ok(host), Some(number)) => weights.push((host, number)),
            (Err(error), _) => reader.problem("routing.weights", &format!("{host:?}: {error}"), ""),
            (_, None) => {
                reader.problem("routing.weights", &format!("{weight:?} is no share"), "write 0, 1, 2.5")
            }
        }
    }
    weights
}

fn timeouts(reader: &mut Reader<'_>) -> Timeouts {
    Timeouts {
        login: reader.duration("timeouts.login"),
        query_wait: reader.duration_or_off("timeouts.query_wait"),
        query_wait_notify: reader.duration_or_off("timeouts.query_wait_notify"),
        hold: reader.duration_or_off("timeouts.hold"),
        query: reader.duration_or_off("timeouts.query"),
        transaction: reader.duration_or_off("timeouts.transaction"),
        idle_transaction: reader.duration_or_off("timeouts.idle_transaction"),
        client_idle: reader.duration_or_off("timeouts.client_idle"),
        cancel_wait: reader.duration("timeouts.cancel_wait"),
        shutdown: reader.duration("timeouts.shutdown"),
    }
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    Limits {
        max_client_connections: reader.count("limits.max_client_connections"),
        max_user_connections: reader.limit("limits.max_user_connections"),
        max_user_client_connections: reader.limit("limits.max_user_client_connections"),
        max_startup_packet: reader.size("limits.max_startup_packet"),
        max_message: reader.size("limits.max_message"),
        max_client_prepared_statements: reader.count("limits.max_client_prepared_statements"),
        max_logins: reader.count("limits.max_logins"),
        notify_queue: reader.size("limits.notify_queue"),
        max_held: reader.count("limits.max_held"),
    }
}

fn log(reader: &mut Reader<'_>) -> LogSettings {
    let level = reader.text("log.level");
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    let is_word = level.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_level = levels.iter().any(|known| known.eq_ignore_ascii_case(&level));
    let is_filter = || level.parse::<tracing_subscriber::filter::Targets>().is_ok();
    if level.is_empty() || (is_word && !is_level) || !is_filter() {
        let meant = super::finding::closest(&level, levels);
        let suggestion = meant.map_or_else(
            || {
                "write error, warn, info, debug, trace, or a filter such as \"info,hawser::auth=debug\""
                    .to_owned()
            },
            |meant| format!("did you mean \"{meant}\"?"),
        );
        reader.problem("log.level", &format!("{level:?} is no level and no filter"), &suggestion);
    }
    LogSettings {
        json: reader.word("log.format") == Some("json"),
        level,
        connections: reader.switch("log.connections"),
        disconnections: reader.switch("log.disconnections"),
        pooler_errors: reader.switch("log.pooler_errors"),
        stats_period: reader.duration_or_off("log.stats_period"),
        file: reader.path("log.file"),
    }
}
