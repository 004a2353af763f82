//! Pure. Who knows the hosts of a cluster besides the settings: Patroni, or the monitor of pg_auto_failover.

use super::super::finding::{Finding, Source};
use super::super::raw::{Section, Value, Written};
use super::super::reference::DATABASE;
use super::super::settings::{HostSource, MonitorSettings, Secret, ServerTls};
use super::super::url::{self, DEFAULT_PORT};
use super::reader::Reader;
use super::server_tls;

/// Port of Patroni's REST API.
const PATRONI_PORT: u16 = 8008;

/// User of nodes on a monitor.
const MONITOR_USER: &str = "autoctl_node";

/// Database of a monitor.
const MONITOR_DATABASE: &str = "pg_auto_failover";

/// What `cluster.patroni` and `cluster.monitor` say has been put into databases, and without a URL there is none.
pub(super) fn of_cluster(reader: &mut Reader<'_>) {
    // Read for SHOW CONFIG.
    let _values = (reader.list("cluster.patroni"), reader.optional_text("cluster.monitor"));
    for name in ["cluster.patroni", "cluster.monitor"] {
        if reader.is_written(name) && !reader.is_written("cluster.url") {
            let short = name.trim_start_matches("cluster.");
            let suggestion = format!("write databases.NAME.{short}, or cluster.url");
            reader.problem(name, "stands without cluster.url", &suggestion);
        }
    }
}

/// The sources of one database.
pub(super) fn of_database(name: &str, reader: &mut Reader<'_>, general: &ServerTls) -> Vec<HostSource> {
    let mut sources = Vec::new();
    let mut addresses = Vec::new();
    for (text, source) in reader.list("patroni") {
        match patroni(&text) {
            Ok(address) => addresses.push(address),
            Err(what) => {
                let finding = Finding::new(&source, format!("databases.{name}.patroni: {text:?} {what}"));
                reader.problems.push(finding.suggest("write \"http://HOST:8008\""));
            }
        }
    }
    if !addresses.is_empty() {
        sources.push(HostSource::Patroni(addresses));
    }
    let source = reader.source("monitor");
    if let Some(text) = reader.optional_text("monitor").filter(|text| !text.is_empty()) {
        let monitor = monitor(&text, &source, reader, general);
        sources.extend(monitor.map(|monitor| HostSource::Monitor(Box::new(monitor))));
    }
    sources
}

/// `http://HOST:PORT`, or less of it.
fn patroni(text: &str) -> Result<(String, u16), &'static str> {
    let text = text.trim();
    let text = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => return Err("is not spoken to under TLS"),
        Some(_) => return Err("is no HTTP address"),
        None => text,
    };
    let authority = text.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("holds a user, and GET needs none");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, url::parse_port(port).ok_or("has a port that is not a number from 1 to 65535")?)
        }
        _ => (authority, PATRONI_PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err("names no host") } else { Ok((host.to_owned(), port)) }
}

fn monitor(
    text: &str,
    source: &Source,
    reader: &mut Reader<'_>,
    general: &ServerTls,
) -> Option<MonitorSettings> {
    let url = match url::parse(text) {
        Ok(url) => url,
        Err(errors) => {
            let found = errors.iter().map(|error| Finding::new(source, format!("monitor: {error}")));
            reader.problems.extend(found);
            return None;
        }
    };
    let hosts: Vec<_> = url.hosts.iter().map(|host| host.address("localhost", DEFAULT_PORT)).collect();
    if url.hosts.iter().all(|host| host.host.is_none()) {
        reader.problem("monitor", "names no host", "write \"postgres://autoctl_node@HOST/pg_auto_failover\"");
        return None;
    }
    let tls: Section = url
        .tls
        .iter()
        .map(|(name, text)| (*name, Written { value: Value::Text(text.clone()), source: source.clone() }))
        .collect();
    let mut tls_reader = Reader::new(DATABASE, &tls, "monitor: ".to_owned());
    let tls = server_tls(&mut tls_reader, Some(general));
    reader.problems.append(&mut tls_reader.problems);
    Some(MonitorSettings {
        hosts,
        user: url.user.unwrap_or_else(|| MONITOR_USER.to_owned()),
        password: url.password.map(Secret::Password),
        dbname: url.dbname.unwrap_or_else(|| MONITOR_DATABASE.to_owned()),
        tls,
    })
}

#[cfg(test)]
mod tests {
    use super::patroni;

    #[test]
    fn an_address_of_patroni_may_leave_out_what_is_usual() {
        let cases = [
            ("http://db1:8008", Ok(("db1", 8008))),
            ("http://db1/", Ok(("db1", 8008))),
            ("db1:9000", Ok(("db1", 9000))),
            ("http://[::1]:8009/cluster", Ok(("::1", 8009))),
            ("[::1]", Ok(("::1", 8008))),
            ("https://db1:8008", Err("is not spoken to under TLS")),
            ("http://", Err("names no host")),
            ("http://db1:x", Err("has a port that is not a number from 1 to 65535")),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(patroni(text), expected, "{text}");
        }
    }
}
