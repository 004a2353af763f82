//! Pure. From the entries of pgbouncer.ini to the raw form, key by key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::super::expand::host_text;
use super::super::finding::{Finding, Source};
use super::super::raw::{Manners, NamedSection, Raw, Section, Value, Written};
use super::super::settings::HostAddress;
use super::super::units::{format_duration, parse_seconds};
use super::super::url::parse_port;
use super::super::value::parse_switch;
use super::ini::{Entry, connection_string};
use super::keys::{self, How, Meaning};

/// Where PgBouncer puts and looks for Unix sockets when nothing is said.
const UNIX_DIR: &str = "/tmp";
/// Where PgBouncer listens when nothing is said.
const PORT: &str = "6432";
/// The prefix of sockets in the abstract namespace.
const ABSTRACT: char = '@';

/// Brings all entries into the raw form.
pub(super) fn translate(
    entries: &[Entry],
    file: &Path,
    problems: &mut Vec<Finding>,
    warnings: &mut Vec<Finding>,
) -> Raw {
    let raw = Raw { manners: Manners::Pgbouncer, file: Some(file.to_owned()), ..Raw::default() };
    let mut translation =
        Translation { raw, specials: BTreeMap::new(), named: BTreeSet::new(), problems, warnings };
    for entry in entries.iter().filter(|entry| entry.section == "pgbouncer") {
        translation.global(entry);
    }
    translation.listen();
    translation.auth();
    translation.pool();
    translation.log_and_tls();
    for (name, value) in keys::DEFAULTS {
        translation.raw.set_if_absent(name, Value::Text((*value).to_owned()), Source::PgbouncerDefault);
    }
    for entry in entries {
        match entry.section.as_str() {
            "pgbouncer" => {}
            "databases" => translation.database(entry),
            "users" => translation.user(entry),
            "peers" => {
                translation.ignored(entry, "[peers]", "cancel requests are not passed between processes")
            }
            other => {
                let what = format!("unknown section [{other}]");
                let known = ["databases", "users", "pgbouncer", "peers"];
                translation.problems.push(Finding::new(&entry.source, what).did_you_mean(other, known));
            }
        }
    }
    translation.raw
}

/// See [`super::assign`].
pub(super) fn assign(key: &str, value: &str) -> Option<Result<Vec<(&'static str, String)>, String>> {
    let (names, how) = match keys::meaning(keys::GLOBAL, key)? {
        Meaning::Settings(names, how) => (names, how),
        Meaning::Special | Meaning::Ignored(_) => return Some(Ok(Vec::new())),
    };
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let mut translation = Translation {
        raw: Raw::default(),
        specials: BTreeMap::new(),
        named: BTreeSet::new(),
        problems: &mut problems,
        warnings: &mut warnings,
    };
    let text = translation.converted(how, key, value, &Source::Console);
    let why = || problems.first().map_or_else(String::new, |problem| problem.what.clone());
    Some(text.map(|text| names.iter().map(|name| (*name, text.clone())).collect()).ok_or_else(why))
}

struct Translation<'a> {
    raw: Raw,
    /// Entries that depend on one another, by key in small letters.
    specials: BTreeMap<String, Entry>,
    /// Keys that were already named as ignored.
    named: BTreeSet<String>,
    problems: &'a mut Vec<Finding>,
    warnings: &'a mut Vec<Finding>,
}

impl Translation<'_> {
    fn global(&mut self, entry: &Entry) {
        match keys::meaning(keys::GLOBAL, &entry.key) {
            Some(Meaning::Special) => {
                self.specials.insert(entry.key.to_lowercase(), entry.clone());
            }
            Some(Meaning::Settings(names, how)) => {
                let mut section = std::mem::take(&mut self.raw.settings);
                self.put(&mut section, names, how, &entry.key, &entry.value, &entry.source);
                self.raw.settings = section;
            }
            Some(Meaning::Ignored(why)) => self.ignored(entry, &entry.key.to_lowercase(), why),
            None => self.unknown(keys::GLOBAL, &entry.key, &entry.source),
        }
    }

    /// Names an ignored key once.
    fn ignored(&mut self, entry: &Entry, key: &str, why: &str) {
        if self.named.insert(key.to_owned()) {
            self.warnings.push(Finding::new(&entry.source, format!("{key} is ignored: {why}")));
        }
    }

    fn unknown(&mut self, table: &[(&str, Meaning)], key: &str, source: &Source) {
        let finding = Finding::new(source, format!("unknown key \"{key}\""));
        self.problems.push(finding.did_you_mean(key, table.iter().map(|(known, _)| *known)));
    }

    /// Takes a value over into the settings that it stands for.
    fn put(
        &mut self,
        section: &mut Section,
        names: &[&'static str],
        how: How,
        key: &str,
        value: &str,
        source: &Source,
    ) {
        let Some(text) = self.converted(how, key, value, source) else { return };
        for name in names {
            section.insert(name, Written { value: Value::Text(text.clone()), source: source.clone() });
        }
    }

    /// The value in our words.
    fn converted(&mut self, how: How, key: &str, value: &str, source: &Source) -> Option<String> {
        let read = match how {
            How::Same => return Some(value.to_owned()),
            How::Milliseconds => value.trim().parse().map(Duration::from_millis).ok(),
            How::Seconds | How::SecondsNotZero(_) => parse_seconds(value).ok(),
        };
        let Some(duration) = read else {
            let unit = if how == How::Milliseconds { "milliseconds" } else { "seconds" };
            self.problems.push(Finding::new(source, format!("{key}: {value:?} is not a number of {unit}")));
            return None;
        };
        match how {
            How::SecondsNotZero(instead) if duration.is_zero() => {
                let instead = parse_seconds(instead).unwrap_or(Duration::from_secs(1));
                if instead > Duration::from_secs(1) {
                    let what =
                        format!("{key} = 0 becomes {}: there is always a bound", format_duration(instead));
                    self.warnings.push(Finding::new(source, what));
                }
                Some(format_duration(instead))
            }
            _ => Some(format_duration(duration)),
        }
    }

    fn special(&self, key: &str) -> Option<(String, Source)> {
        self.specials.get(key).map(|entry| (entry.value.clone(), entry.source.clone()))
    }

    fn set(&mut self, name: &'static str, text: impl Into<String>, source: &Source) {
        self.raw.set(name, Value::Text(text.into()), source.clone());
    }

    fn listen(&mut self) {
        let (port, port_source) =
            self.special("listen_port").unwrap_or((PORT.to_owned(), Source::PgbouncerDefault));
        if parse_port(&port).is_none() {
            let what = format!("listen_port: {port:?} is not a number from 1 to 65535");
            self.problems.push(Finding::new(&port_source, what));
            return;
        }
        self.set("listen.unix_port", port.clone(), &port_source);
        let (hosts, source) =
            self.special("listen_addr").unwrap_or((String::new(), Source::PgbouncerDefault));
        let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty());
        let addresses = hosts.map(|host| match host.contains(':') {
            true => (format!("[{host}]:{port}"), source.clone()),
            false => (format!("{host}:{port}"), source.clone()),
        });
        let addresses = addresses.collect();
        self.raw.set("listen.address", Value::List(addresses), source.clone());
        if let Some((dir, source)) = self.special("unix_socket_dir") {
            if dir.starts_with(ABSTRACT) {
                let what = "unix_socket_dir is ignored: a socket in the abstract namespace is not made";
                self.warnings.push(Finding::new(&source, what));
                self.set("listen.unix_dir", "", &source);
            } else {
                self.set("listen.unix_dir", dir, &source);
            }
        }
    }

    fn auth(&mut self) {
        let (kind, source) =
            self.special("auth_type").unwrap_or(("md5".to_owned(), Source::PgbouncerDefault));
        let hba_file = self.special("auth_hba_file");
        let method = match kind.to_lowercase().as_str() {
            "hba" => {
                match hba_file {
                    Some((file, source)) => self.set("auth.hba_file", file, &source),
                    None => self.problems.push(Finding::new(&source, "auth_type = hba needs auth_hba_file")),
                }
                return;
            }
            "cert" => {
                self.rules(&["hostssl all all all cert"], &source);
                return;
            }
            "any" => {
                let what = "auth_type = any becomes trust: a client is the user that it says, unless its database has user=";
                self.warnings.push(Finding::new(&source, what));
                "trust"
            }
            "trust" => {
                let what = "auth_type = trust lets every user name in, in auth_file or not";
                self.warnings.push(Finding::new(&source, what));
                "trust"
            }
            "plain" => {
                self.set("auth.password_without_tls", "true", &source);
                "password"
            }
            "md5" => "md5",
            "scram-sha-256" => "scram-sha-256",
            "pam" | "ldap" => {
                let finding = Finding::new(&source, format!("auth_type = {kind} is not to be had in Hawser"));
                self.problems.push(finding.suggest("use scram-sha-256 with auth_file or auth_query"));
                return;
            }
            _ => {
                let known = ["any", "trust", "plain", "md5", "cert", "hba", "scram-sha-256"];
                let finding = Finding::new(&source, format!("unknown auth_type {kind:?}"));
                self.problems.push(finding.did_you_mean(&kind, known));
                return;
            }
        };
        self.rules(&[&format!("local all all {method}"), &format!("host all all all {method}")], &source);
    }

    fn rules(&mut self, rules: &[&str], source: &Source) {
        let rules = rules.iter().map(|rule| ((*rule).to_owned(), source.clone())).collect();
        self.raw.set("auth.rules", Value::List(rules), source.clone());
    }

    fn pool(&mut self) {
        if let Some((value, source)) = self.special("reserve_pool_timeout") {
            match self.converted(How::Seconds, "reserve_pool_timeout", &value, &source) {
                Some(zero) if zero == "0" => self.set("pool.reserve_size", "0", &source),
                Some(duration) => self.set("pool.reserve_timeout", duration, &source),
                None => {}
            }
        }
        if let Some((value, source)) = self.special("max_prepared_statements") {
            if value.trim() == "0" {
                let what = "max_prepared_statements = 0 is ignored: named prepared statements always work";
                self.warnings.push(Finding::new(&source, what));
            } else {
                self.set("pool.max_prepared_statements", value, &source);
            }
        }
    }

    fn log_and_tls(&mut self) {
        if let Some((value, source)) = self.special("verbose") {
            let level = match value.trim() {
                "0" => "info",
                "1" => "debug",
                _ => "trace",
            };
            self.set("log.level", level, &source);
        }
        if let Some((value, source)) = self.special("stats_period")
            && let Some(period) = self.converted(How::Seconds, "stats_period", &value, &source)
        {
            self.set("log.stats_period", period, &source);
        }
        if let Some((value, source)) = self.special("log_stats")
            && parse_switch(&value) == Some(false)
        {
            self.set("log.stats_period", "0", &source);
        }
        let legs = [
            ("client_tls_protocols", "client_tls.min_version"),
            ("server_tls_protocols", "server_tls.min_version"),
        ];
        for (key, name) in legs {
            let Some((value, source)) = self.special(key) else { continue };
            let protocols: Vec<String> = value.split([',', ':']).map(|p| p.trim().to_lowercase()).collect();
            let only_13 = !protocols.is_empty() && protocols.iter().all(|protocol| protocol == "tlsv1.3");
            let older = ["tlsv1.0", "tlsv1.1", "all", "legacy"];
            if protocols.iter().any(|protocol| older.contains(&protocol.as_str())) {
                let what = format!("{key}: versions before TLS 1.2 are not spoken");
                self.warnings.push(Finding::new(&source, what));
            }
            self.set(name, if only_13 { "1.3" } else { "1.2" }, &source);
        }
    }

    fn pairs(&mut self, entry: &Entry) -> Option<Vec<(String, String)>> {
        match connection_string(&entry.value) {
            Ok(pairs) => Some(pairs),
            Err(error) => {
                let what = format!("the value of \"{}\" {error}", entry.key);
                self.problems.push(Finding::new(&entry.source, what));
                None
            }
        }
    }

    fn database(&mut self, entry: &Entry) {
        let Some(pairs) = self.pairs(entry) else { return };
        let source = &entry.source;
        let mut section = Section::new();
        let (mut host, mut port) = (String::new(), "5432".to_owned());
        let mut parameters = Vec::new();
        for (key, value) in pairs {
            match keys::meaning(keys::DATABASE, &key) {
                Some(Meaning::Settings(names, how)) => {
                    self.put(&mut section, names, how, &key, &value, source);
                }
                Some(_) => match key.as_str() {
                    "host" => host = value,
                    "port" => port = value,
                    "load_balance_hosts" => {
                        let order = if value == "disable" { "in-order" } else { "round-robin" };
                        self.put(&mut section, &["host_order"], How::Same, &key, order, source);
                    }
                    _ => parameters.push((key, value)),
                },
                None => self.unknown(keys::DATABASE, &key, source),
            }
        }
        if !section.contains_key("user") && section.remove("password").is_some() {
            let what =
                format!("password of database \"{}\" is ignored: there is no user= beside it", entry.key);
            self.warnings.push(Finding::new(source, what));
        }
        let hosts = self.hosts(&host, &port, entry);
        let mut put = |name, value| section.insert(name, Written { value, source: source.clone() });
        put("hosts", Value::List(hosts));
        put("target", Value::Text("any".to_owned()));
        if !parameters.is_empty() {
            put("startup_parameters", Value::Pairs(parameters));
        }
        let named = NamedSection { source: source.clone(), settings: section };
        self.raw.databases.insert(entry.key.clone(), named);
    }

    /// The hosts of a database; without `host` it is the Unix socket of this machine.
    fn hosts(&mut self, host: &str, ports: &str, entry: &Entry) -> Vec<(String, Source)> {
        let source = &entry.source;
        let ports: Vec<_> = ports.split(',').map(|port| parse_port(port.trim())).collect();
        if ports.iter().any(Option::is_none) {
            let what = format!("database \"{}\": a port is not a number from 1 to 65535", entry.key);
            self.problems.push(Finding::new(source, what));
        }
        let unix_dir = match self.raw.settings.get("listen.unix_dir").map(|written| &written.value) {
            Some(Value::Text(dir)) if !dir.is_empty() => dir.clone(),
            _ => UNIX_DIR.to_owned(),
        };
        let hosts: Vec<&str> =
            if host.is_empty() { vec![&unix_dir] } else { host.split(',').map(str::trim).collect() };
        let ports = ports.into_iter().map(|port| port.unwrap_or(1)).cycle();
        let address = |(host, port): (&str, u16)| match host.starts_with('/') {
            true => HostAddress::Unix(host.into(), port),
            false => HostAddress::Tcp(host.to_owned(), port),
        };
        hosts.into_iter().zip(ports).map(|pair| (host_text(&address(pair)), source.clone())).collect()
    }

    fn user(&mut self, entry: &Entry) {
        let Some(pairs) = self.pairs(entry) else { return };
        let mut section = Section::new();
        for (key, value) in pairs {
            match keys::meaning(keys::USER, &key) {
                Some(Meaning::Settings(names, how)) => {
                    self.put(&mut section, names, how, &key, &value, &entry.source);
                }
                _ => self.unknown(keys::USER, &key, &entry.source),
            }
        }
        let named = NamedSection { source: entry.source.clone(), settings: section };
        self.raw.users.insert(entry.key.clone(), named);
    }
}
