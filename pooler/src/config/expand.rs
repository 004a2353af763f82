//! Pure. Turns URLs in [`Raw`] into the settings that they stand for: hosts, TLS, database, user and password.

use super::environment::Environment;
use super::finding::{Finding, Source};
use super::pgpass::{self, Wanted};
use super::raw::{NamedSection, Raw, Section, Value, set_if_absent};
use super::service::Pairs;
use super::settings::HostAddress;
use super::url::{self, DEFAULT_PORT, Url, UrlHost};

/// What lies beside the configuration in files of libpq's.
#[derive(Clone, Default)]
pub struct Beside {
    /// The service that `cluster.url` or `PGSERVICE` names.
    pub service: Pairs,
    /// Content of `PGPASSWORD_FILE`, if it is named.
    pub password_file: Option<zeroize::Zeroizing<String>>,
    /// Content of the password file of libpq, if there is one.
    pub pgpass: Option<zeroize::Zeroizing<String>>,
}

/// Any database that has no name of its own here.
const WILDCARD: &str = "*";

/// Puts the parts of `cluster.url` and of each `databases.NAME.url` where they belong. What the file says beside a URL
/// comes first; what `cluster.url` leaves out is taken from libpq's service file, then from its variables.
pub fn expand(
    raw: &mut Raw,
    environment: &Environment,
    beside: &Beside,
    problems: &mut Vec<Finding>,
    warnings: &mut Vec<Finding>,
) {
    for (name, section) in &mut raw.databases {
        database(name, &mut section.settings, problems, warnings);
    }
    let Some(written) = raw.settings.get("cluster.url") else { return };
    let source = written.source.clone();
    let Value::Text(text) = &written.value else { return };
    match url::parse_over(text, &beside.service) {
        Ok(url) => {
            warn_of_ignored(&url, &source, warnings);
            cluster(raw, url, &source, environment, beside, problems);
        }
        Err(errors) => report(&errors, &source, problems),
    }
}

/// The password file of libpq that `cluster.url` and the environment lead to, before `~/.pgpass`.
pub fn passfile(raw: &Raw, environment: &Environment, service: &Pairs) -> Option<std::path::PathBuf> {
    let written = raw.settings.get("cluster.url")?;
    let Value::Text(text) = &written.value else { return None };
    let of_url = url::parse_over(text, service).ok().and_then(|url| url.passfile);
    of_url
        .or_else(|| environment.get("PGPASSFILE").map(Into::into))
        .or_else(|| environment.home().map(|home| home.join(".pgpass")))
}

fn report(errors: &[url::UrlError], source: &Source, problems: &mut Vec<Finding>) {
    problems.extend(errors.iter().map(|error| Finding::new(source, format!("URL: {error}"))));
}

fn warn_of_ignored(url: &Url, source: &Source, warnings: &mut Vec<Finding>) {
    for (key, why) in &url.ignored {
        warnings.push(Finding::new(source, format!("URL: \"{key}\" changes nothing: {why}")));
    }
}

/// The URL of one database: its user is forced on every client.
fn database(name: &str, section: &mut Section, problems: &mut Vec<Finding>, warnings: &mut Vec<Finding>) {
    let Some(written) = section.get("url") else { return };
    let source = written.source.clone();
    let Value::Text(text) = &written.value else { return };
    let url = match url::parse(text) {
        Ok(url) => url,
        Err(errors) => return report(&errors, &source, problems),
    };
    warn_of_ignored(&url, &source, warnings);
    let mut refuse = |what: String| problems.push(Finding::new(&source, what));
    if url.connect_timeout.is_some() {
        refuse(
            "URL: \"connect_timeout\" is set for all databases; write pool.server_connect_timeout".to_owned(),
        );
    }
    if url.passfile.is_some() {
        refuse(format!("URL: \"passfile\" is for cluster.url; write databases.{name}.password_file"));
    }
    if url.service.is_some() {
        refuse("URL: \"service\" is for cluster.url".to_owned());
    }
    if url.hosts.iter().all(|host| host.host.is_none()) {
        refuse("URL: it names no host".to_owned());
        return;
    }
    if section.contains_key("hosts") {
        refuse(format!("databases.{name} has url and hosts; write one of them"));
    }
    hosts(section, &url, "localhost", DEFAULT_PORT, &source);
    connection(section, &url, &source);
    let texts =
        [("dbname", url.dbname), ("user", url.user), ("password", url.password.map(|p| p.to_string()))];
    for (name, text) in texts {
        if let Some(text) = text {
            set_if_absent(section, name, Value::Text(text), &source);
        }
    }
}

/// The hosts of a URL as the setting `hosts`.
fn hosts(section: &mut Section, url: &Url, host: &str, port: u16, source: &Source) {
    let texts = url.hosts.iter().map(|named| (host_text(&named.address(host, port)), source.clone()));
    set_if_absent(section, "hosts", Value::List(texts.collect()), source);
}

/// TLS, choice of host and startup parameters of a URL.
fn connection(section: &mut Section, url: &Url, source: &Source) {
    for (name, text) in &url.tls {
        set_if_absent(section, name, Value::Text(text.clone()), source);
    }
    for (name, word) in [("target", url.target), ("host_order", url.host_order)] {
        if let Some(word) = word {
            set_if_absent(section, name, Value::Text(word.to_owned()), source);
        }
    }
    if !url.startup_parameters.is_empty() {
        set_if_absent(section, "startup_parameters", Value::Pairs(url.startup_parameters.clone()), source);
    }
}

/// `cluster.url`: its database, every other database, and its user.
fn cluster(
    raw: &mut Raw,
    mut url: Url,
    source: &Source,
    environment: &Environment,
    beside: &Beside,
    problems: &mut Vec<Finding>,
) {
    complete(&mut url, environment, problems);
    let Some(user) = url.user.clone() else {
        let finding = Finding::new(source, "URL: it names no user");
        problems.push(finding.suggest("write postgres://USER:PASSWORD@HOST/DATABASE, or set PGUSER"));
        return;
    };
    let dbname = url.dbname.clone().unwrap_or_else(|| user.clone());
    let tools = [("patroni", "cluster.patroni"), ("monitor", "cluster.monitor")];
    let tools: Vec<_> =
        tools.iter().filter_map(|(to, from)| Some((*to, raw.settings.get(*from)?.clone()))).collect();
    for name in [dbname.as_str(), WILDCARD] {
        let section = raw.databases.entry(name.to_owned());
        let section = &mut section.or_insert_with(|| NamedSection::new(source.clone())).settings;
        // A database that the file describes goes where the file says.
        if !section.contains_key("hosts") {
            hosts(section, &url, "localhost", DEFAULT_PORT, source);
            connection(section, &url, source);
            for (name, written) in &tools {
                section.entry(name).or_insert_with(|| written.clone());
            }
        }
    }
    if let Some(seconds) = url.connect_timeout {
        let value = Value::Text(format!("{seconds}s"));
        raw.set_if_absent("pool.server_connect_timeout", value, source.clone());
    }
    let password =
        url.password.clone().or_else(|| password_beside(&url, &user, &dbname, environment, beside));
    let proven_elsewhere = ["auth.rules", "auth.hba_file", "auth.user_file", "auth.query.user"]
        .iter()
        .any(|name| raw.settings.contains_key(name));
    let section = raw.users.entry(user.clone()).or_insert_with(|| NamedSection::new(source.clone()));
    let has_secret =
        ["password", "passwords", "password_file"].iter().any(|name| section.settings.contains_key(name));
    match password {
        Some(password) if !has_secret => {
            let value = Value::Text(password.to_string());
            set_if_absent(&mut section.settings, "password", value, source);
        }
        None if !has_secret && !proven_elsewhere => {
            let finding = Finding::new(source, format!("URL: there is no password for user {user:?}"));
            problems.push(finding.suggest("put it into the URL, PGPASSWORD, PGPASSWORD_FILE or ~/.pgpass"));
        }
        _ => {}
    }
}

/// Fills in from libpq's variables what a URL leaves out.
fn complete(url: &mut Url, environment: &Environment, problems: &mut Vec<Finding>) {
    let owned = |name: &str| environment.get(name).map(str::to_owned);
    if url.hosts.is_empty() {
        let hosts = owned("PGHOST").unwrap_or_else(|| "localhost".to_owned());
        url.hosts =
            hosts.split(',').map(|host| UrlHost { host: Some(host.trim().to_owned()), port: None }).collect();
    }
    if let Some(ports) = environment.get("PGPORT") {
        let read: Vec<_> = ports.split(',').map(|port| url::parse_port(port.trim())).collect();
        if read.iter().any(Option::is_none) || !(read.len() == 1 || read.len() == url.hosts.len()) {
            let variable = Source::Environment("PGPORT".to_owned());
            problems.push(Finding::new(&variable, "is neither one port nor one for each host"));
        }
        for (host, port) in url.hosts.iter_mut().zip(read.iter().cycle()) {
            host.port = host.port.or(*port);
        }
    }
    for host in &mut url.hosts {
        if host.host.is_none() {
            host.host = environment.get("PGHOST").filter(|host| !host.contains(',')).map(str::to_owned);
        }
    }
    url.user = url.user.take().or_else(|| owned("PGUSER"));
    url.dbname = url.dbname.take().or_else(|| owned("PGDATABASE"));
    let variables = [
        ("PGSSLMODE", "sslmode", "server_tls.mode"),
        ("PGSSLROOTCERT", "sslrootcert", "server_tls.ca_file"),
        ("PGSSLCERT", "sslcert", "server_tls.cert_file"),
        ("PGSSLKEY", "sslkey", "server_tls.key_file"),
        ("PGSSLNEGOTIATION", "sslnegotiation", "server_tls.negotiation"),
    ];
    for (variable, key, name) in variables {
        let Some(value) = environment.get(variable) else { continue };
        if url.tls.iter().any(|(known, _)| *known == name) || (key == "sslrootcert" && value == "system") {
            continue;
        }
        url.tls.push((name, value.to_owned()));
    }
}

/// The password that is not in the URL.
fn password_beside(
    url: &Url,
    user: &str,
    dbname: &str,
    environment: &Environment,
    beside: &Beside,
) -> Option<zeroize::Zeroizing<String>> {
    if let Some(password) = environment.get("PGPASSWORD") {
        return Some(zeroize::Zeroizing::new(password.to_owned()));
    }
    if let Some(text) = &beside.password_file {
        return Some(zeroize::Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    let text = beside.pgpass.as_ref()?;
    url.hosts.iter().find_map(|host| match host.address("localhost", DEFAULT_PORT) {
        HostAddress::Tcp(host, port) => pgpass::find(text, Wanted { host: &host, port, dbname, user }),
        HostAddress::Unix(dir, port) => {
            let dir = dir.to_string_lossy();
            let named = pgpass::find(text, Wanted { host: &dir, port, dbname, user });
            named.or_else(|| pgpass::find(text, Wanted { host: "localhost", port, dbname, user }))
        }
    })
}

/// A host as the setting `hosts` has it.
pub fn host_text(address: &HostAddress) -> String {
    match address {
        HostAddress::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        HostAddress::Tcp(host, port) => format!("{host}:{port}"),
        HostAddress::Unix(dir, port) => format!("{}:{port}", dir.display()),
    }
}

/// Reads a host as the setting `hosts` has it.
pub fn parse_host(text: &str) -> Result<HostAddress, url::UrlError> {
    let text = text.trim();
    if text.starts_with('/') {
        let (dir, port) = text
            .rsplit_once(':')
            .and_then(|(dir, port)| Some((dir, url::parse_port(port)?)))
            .unwrap_or((text, DEFAULT_PORT));
        return Ok(HostAddress::Unix(dir.into(), port));
    }
    let (host, port) = url::split_host(text)?;
    let port = match port {
        Some(port) => url::parse_port(port).ok_or(url::UrlError::Port)?,
        None => DEFAULT_PORT,
    };
    Ok(HostAddress::Tcp(host.to_owned(), port))
}
