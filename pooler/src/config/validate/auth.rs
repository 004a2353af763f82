//! Pure. Who may log in: rules, name maps, the look-up on a server, and the secrets of userlist.txt.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::super::finding::{Finding, Source};
use super::super::settings::{AuthQuery, AuthSettings, ClientTls, DatabaseSettings, Limits, UserSettings};
use super::Files;
use super::reader::Reader;
use crate::auth::hba::{self, ClientCertificate, Method, Rule};
use crate::auth::name_map::{self, Mapping};
use crate::auth::userlist;

/// What holds without a rule.
const DEFAULT_RULES: [&str; 2] = ["local all all scram-sha-256", "host all all all scram-sha-256"];

/// Reads `[auth]`.
pub(super) fn settings(reader: &mut Reader<'_>, files: &Files, client_tls: &ClientTls) -> AuthSettings {
    let rules = rules(reader, files);
    let name_maps = name_maps(reader, files);
    check_rules(reader, &rules, &name_maps, client_tls);
    let query = query(reader);
    AuthSettings {
        rules,
        name_maps,
        query,
        password_without_tls: reader.switch("auth.password_without_tls"),
        throttle_failures: reader.small("auth.throttle_failures"),
        throttle_window: reader.duration("auth.throttle_window"),
    }
}

/// The content of the file that a setting names.
fn content<'f>(reader: &mut Reader<'_>, files: &'f Files, name: &str) -> Option<(std::path::PathBuf, &'f str)> {
    let path = reader.path(name)?;
    match files.get(&path) {
        Some(Ok(text)) => Some((path, text.as_str())),
        Some(Err(why)) => {
            reader.problem(name, &format!("{} cannot be read: {why}", path.display()), "");
            None
        }
        None => None,
    }
}

fn at(file: &Path, line: u32) -> Source {
    Source::line(file, usize::try_from(line).unwrap_or(0))
}

fn rules(reader: &mut Reader<'_>, files: &Files) -> Vec<Rule> {
    let inline = reader.list("auth.rules");
    let file = content(reader, files, "auth.hba_file");
    if reader.is_written("auth.rules") && reader.is_written("auth.hba_file") {
        reader.problem("auth.hba_file", "stands beside auth.rules", "write one of them");
    }
    if let Some((path, text)) = file {
        return hba::parse(text).unwrap_or_else(|errors| {
            let found = errors.into_iter().map(|e| Finding::new(&at(&path, e.line), e.problem.to_string()));
            reader.problems.extend(found);
            Vec::new()
        });
    }
    if !reader.is_written("auth.rules") {
        return DEFAULT_RULES.iter().filter_map(|rule| hba::parse_rule(rule).ok()).collect();
    }
    let mut rules = Vec::new();
    for (text, source) in inline {
        match hba::parse_rule(&text) {
            Ok(rule) => rules.push(rule),
            Err(problem) => reader.problems.push(Finding::new(&source, format!("auth.rules: {problem}"))),
        }
    }
    rules
}

fn name_maps(reader: &mut Reader<'_>, files: &Files) -> BTreeMap<String, Vec<Mapping>> {
    let inline = reader.list("auth.name_maps");
    let file = content(reader, files, "auth.ident_file");
    if reader.is_written("auth.name_maps") && reader.is_written("auth.ident_file") {
        reader.problem("auth.ident_file", "stands beside auth.name_maps", "write one of them");
    }
    if let Some((path, text)) = file {
        return name_map::parse(text).unwrap_or_else(|errors| {
            let found = errors.into_iter().map(|e| Finding::new(&at(&path, e.line), e.problem.to_string()));
            reader.problems.extend(found);
            BTreeMap::new()
        });
    }
    let mut maps: BTreeMap<String, Vec<Mapping>> = BTreeMap::new();
    for (text, source) in inline {
        match name_map::parse(&text) {
            Ok(found) => {
                for (name, mappings) in found {
                    maps.entry(name).or_default().extend(mappings);
                }
            }
            Err(errors) => reader.problems.extend(
                errors.into_iter().map(|e| Finding::new(&source, format!("auth.name_maps: {}", e.problem))),
            ),
        }
    }
    maps
}

/// Rules that could never let anybody in as they stand.
fn check_rules(
    reader: &mut Reader<'_>,
    rules: &[Rule],
    maps: &BTreeMap<String, Vec<Mapping>>,
    client_tls: &ClientTls,
) {
    let name = if reader.is_written("auth.hba_file") { "auth.hba_file" } else { "auth.rules" };
    let asks = |rule: &&Rule| {
        rule.method == Method::Cert || rule.client_certificate != ClientCertificate::NotAsked
    };
    if rules.iter().any(|rule| asks(&rule)) && client_tls.ca_file.is_none() {
        reader.problem(name, "has a rule that wants a client certificate", "set client_tls.ca_file to what signs them");
    }
    for rule in rules {
        if let Some(map) = rule.map.as_ref().filter(|map| !maps.contains_key(*map)) {
            reader.problem(name, &format!("has a rule with map={map}, and there is no such map"), "set auth.name_maps or auth.ident_file");
        }
    }
}

fn query(reader: &mut Reader<'_>) -> Option<AuthQuery> {
    let user = reader.optional_text("auth.query.user").filter(|user| !user.is_empty());
    let query = reader.text("auth.query.query");
    let dbname = reader.optional_text("auth.query.dbname").filter(|dbname| !dbname.is_empty());
    let (cache_ttl, negative_ttl) =
        (reader.duration("auth.query.cache_ttl"), reader.duration("auth.query.negative_ttl"));
    check_query(reader, "auth.query.query", &query);
    Some(AuthQuery { user: user?, query, dbname, cache_ttl, negative_ttl })
}

fn check_query(reader: &mut Reader<'_>, name: &str, query: &str) {
    if !query.contains("$1") {
        reader.problem(name, "does not ask for a user", "write $1 where the name belongs");
    }
}

/// The look-up of one database: what it does not say is `general`'s.
pub(super) fn query_of_database(reader: &mut Reader<'_>, general: Option<&AuthQuery>) -> Option<AuthQuery> {
    let user = reader.optional_text("auth_query.user");
    let query = reader.optional_text("auth_query.query");
    let dbname = reader.optional_text("auth_query.dbname");
    if let Some(query) = &query {
        check_query(reader, "auth_query.query", query);
    }
    if user.is_none() && query.is_none() && dbname.is_none() {
        return None;
    }
    let preset = || Reader::new(super::GLOBAL, &super::super::raw::Section::new(), String::new()).query_preset();
    let general = general.cloned().unwrap_or_else(preset);
    let user = user.unwrap_or(general.user);
    if user.is_empty() {
        reader.problem("auth_query.query", "has nobody to ask it", "set auth_query.user or auth.query.user");
    }
    Some(AuthQuery { user, query: query.unwrap_or(general.query), dbname: dbname.or(general.dbname), ..general })
}

impl Reader<'_> {
    /// The look-up of the defaults, with nobody to ask.
    fn query_preset(&mut self) -> AuthQuery {
        AuthQuery {
            user: String::new(),
            query: self.text("auth.query.query"),
            dbname: None,
            cache_ttl: self.duration("auth.query.cache_ttl"),
            negative_ttl: self.duration("auth.query.negative_ttl"),
        }
    }
}

/// Adds the secrets of `auth.user_file`; a user with a secret in the settings keeps that one.
pub(super) fn add_user_file(
    reader: &mut Reader<'_>,
    files: &Files,
    limits: &Limits,
    users: &mut BTreeMap<String, UserSettings>,
    warnings: &mut Vec<Finding>,
) {
    let Some((path, text)) = content(reader, files, "auth.user_file") else { return };
    let entries = match userlist::parse(text) {
        Ok(entries) => entries,
        Err(errors) => {
            let found = errors.into_iter().map(|e| Finding::new(&at(&path, e.line), e.problem.to_string()));
            return reader.problems.extend(found);
        }
    };
    let settled: Vec<String> =
        users.iter().filter(|(_, user)| !user.secrets.is_empty()).map(|(name, _)| name.clone()).collect();
    for entry in entries {
        if settled.contains(&entry.user) {
            let what = format!("user {:?} has a secret in the settings, which counts", entry.user);
            warnings.push(Finding::new(&at(&path, entry.line), what));
            continue;
        }
        let user = users.entry(entry.user).or_insert_with(|| super::database::plain_user(limits));
        user.secrets.extend(entry.secret);
    }
}

/// Warns when nobody can prove who he is, and when the user that looks secrets up has none.
pub(super) fn look_for_users(
    auth: &AuthSettings,
    users: &BTreeMap<String, UserSettings>,
    databases: &BTreeMap<String, Arc<DatabaseSettings>>,
    whole: &Source,
    warnings: &mut Vec<Finding>,
) {
    let queries: Vec<&AuthQuery> =
        auth.query.iter().chain(databases.values().filter_map(|database| database.auth_query.as_ref())).collect();
    for query in &queries {
        if users.get(&query.user).is_none_or(|user| user.secrets.is_empty()) {
            let what = format!("user {:?} looks secrets up and has none of its own", query.user);
            let finding = Finding::new(whole, what);
            warnings.push(finding.suggest("give it one in [users], unless the server trusts it"));
        }
    }
    let by_secret = |rule: &Rule| !matches!(rule.method, Method::Trust | Method::Cert | Method::Peer);
    let has_secrets = users.values().any(|user| !user.secrets.is_empty());
    if !has_secrets && queries.is_empty() && auth.rules.iter().all(by_secret) {
        let finding = Finding::new(whole, "nobody can log in: no user has a secret");
        warnings.push(finding.suggest("write [users.NAME], auth.user_file or [auth.query]"));
    }
}
