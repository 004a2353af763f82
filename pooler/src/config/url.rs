//! Pure. Connection URLs as libpq reads them: `postgres://user:password@host1:5432,host2/dbname?sslmode=require`.
//!
//! Every mistake is told at once, and no message repeats the URL, for it holds a password.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::finding::closest;
use super::service::Pairs;
use super::settings::HostAddress;

/// PostgreSQL's port.
pub const DEFAULT_PORT: u16 = 5432;

/// What a URL says; what it leaves out is `None` or empty.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Url {
    /// User.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Zeroizing<String>>,
    /// Hosts, with `None` where host or port was left out.
    pub hosts: Vec<UrlHost>,
    /// Database.
    pub dbname: Option<String>,
    /// `sslmode` and its kin, under our names and in our words: (`server_tls.mode`, `require`).
    pub tls: Vec<(&'static str, String)>,
    /// `target_session_attrs`, in our words: `primary` or `any`.
    pub target: Option<&'static str>,
    /// `load_balance_hosts`, in our words: `in-order` or `round-robin`.
    pub host_order: Option<&'static str>,
    /// `connect_timeout` in seconds, when it is on.
    pub connect_timeout: Option<u64>,
    /// `passfile`.
    pub passfile: Option<PathBuf>,
    /// `service`.
    pub service: Option<String>,
    /// `application_name`, `options`, `client_encoding`.
    pub startup_parameters: Vec<(String, String)>,
    /// Known keys that change nothing here, and why.
    pub ignored: Vec<(&'static str, &'static str)>,
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Url")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "hidden"))
            .field("hosts", &self.hosts)
            .field("dbname", &self.dbname)
            .field("tls", &self.tls)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// A host as a URL names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UrlHost {
    /// Name, address, or folder of a Unix socket (begins with `/`).
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
}

impl UrlHost {
    /// The address, with `host` and `port` for what was left out.
    pub fn address(&self, host: &str, port: u16) -> HostAddress {
        let host = self.host.as_deref().unwrap_or(host);
        let port = self.port.unwrap_or(port);
        if host.starts_with('/') {
            HostAddress::Unix(PathBuf::from(host), port)
        } else {
            HostAddress::Tcp(host.to_owned(), port)
        }
    }
}

/// What is wrong with a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme.
    #[error("begins with neither postgres:// nor postgresql://")]
    Scheme,
    /// `%` without two hexadecimal digits, a zero byte, or bytes that are not UTF-8.
    #[error("the {0} has a bad percent-encoding; write % as %25")]
    Encoding(&'static str),
    /// A `[` without `]`, or text between `]` and `:`.
    #[error("an IPv6 address is not closed by ]")]
    Bracket,
    /// An address that needs brackets.
    #[error("a host has several colons; write an IPv6 address in brackets, [::1]")]
    Colons,
    /// Not 1 to 65535.
    #[error("a port is not a number from 1 to 65535")]
    Port,
    /// `port=` with a number of ports that fits the hosts in no way.
    #[error("there are {hosts} hosts and {ports} ports")]
    PortCount {
        /// Hosts.
        hosts: usize,
        /// Ports.
        ports: usize,
    },
    /// A key that nobody knows.
    #[error("unknown key \"{key}\"{}", .meant.map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
    /// A key that libpq knows and Hawser does not take.
    #[error("\"{0}\" cannot be given to Hawser: {1}")]
    Refused(&'static str, &'static str),
    /// A value that the key does not take.
    #[error("\"{key}\" takes {takes}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What it takes.
        takes: &'static str,
    },
    /// Something without `=`.
    #[error("the part after ? is not key=value")]
    NoValue,
}

/// Keys that may stand after the `?`.
const KEYS: [&str; 25] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "passfile",
    "dbname",
    "sslmode",
    "ssl",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "target_session_attrs",
    "load_balance_hosts",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "options",
    "connect_timeout",
    "channel_binding",
    "gssencmode",
    "replication",
    "service",
];

/// Whether a text claims to be such a URL.
pub fn is_url(text: &str) -> bool {
    let scheme = text.split("://").next().unwrap_or_default();
    text.contains("://")
        && (scheme.eq_ignore_ascii_case("postgres") || scheme.eq_ignore_ascii_case("postgresql"))
}

/// Reads a URL; all mistakes at once.
pub fn parse(text: &str) -> Result<Url, Vec<UrlError>> {
    parse_over(text, &Pairs::new())
}

/// Reads a URL, and takes what it leaves out from a service.
pub fn parse_over(text: &str, service: &Pairs) -> Result<Url, Vec<UrlError>> {
    let text = text.trim();
    let Some((_, rest)) = text.split_once("://").filter(|_| is_url(text)) else {
        return Err(vec![UrlError::Scheme]);
    };
    let mut parser = Parser::default();
    let (before, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    let (authority, path) =
        before.split_once('/').map_or((before, None), |(authority, path)| (authority, Some(path)));
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            parser.login(login);
            hosts
        }
        None => authority,
    };
    if !hosts.is_empty() {
        for host in hosts.split(',') {
            parser.host(host);
        }
    }
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        parser.given.push("dbname");
        parser.url.dbname = parser.decode(path, "database name").map(|name| name.to_string());
    }
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        parser.pair(pair);
    }
    for (key, value) in service {
        parser.beneath(key, value);
    }
    parser.finish()
}

/// The URL so far, and what was wrong so far.
#[derive(Default)]
struct Parser {
    url: Url,
    errors: Vec<UrlError>,
    /// Keys that were said.
    given: Vec<&'static str>,
    /// `host=`, and ports of `port=`.
    query_hosts: Option<Vec<String>>,
    query_ports: Option<Vec<Option<u16>>>,
}

impl Parser {
    fn decode(&mut self, text: &str, what: &'static str) -> Option<Zeroizing<String>> {
        let decoded = decode(text);
        if decoded.is_none() {
            self.errors.push(UrlError::Encoding(what));
        }
        decoded
    }

    fn login(&mut self, login: &str) {
        let (user, password) =
            login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        if !user.is_empty() {
            self.given.push("user");
            self.url.user = self.decode(user, "user").map(|user| user.to_string());
        }
        if let Some(password) = password {
            self.given.push("password");
            self.url.password = self.decode(password, "password");
        }
    }

    fn host(&mut self, text: &str) {
        let (host, port) = match split_host(text) {
            Ok(parts) => parts,
            Err(error) => return self.errors.push(error),
        };
        let host = self.decode(host, "host").map(|host| host.to_string()).filter(|host| !host.is_empty());
        let port = port.and_then(|port| self.port(port));
        self.given.extend(host.as_ref().map(|_| "host"));
        self.given.extend(port.map(|_| "port"));
        self.url.hosts.push(UrlHost { host, port });
    }

    fn port(&mut self, text: &str) -> Option<u16> {
        if text.is_empty() {
            return None;
        }
        let port = parse_port(text);
        if port.is_none() {
            self.errors.push(UrlError::Port);
        }
        port
    }

    fn pair(&mut self, pair: &str) {
        let Some((key, value)) = pair.split_once('=') else {
            return self.errors.push(UrlError::NoValue);
        };
        let Some(key) = self.decode(key, "key after ?") else { return };
        let Some(known) = self.known(&key) else { return };
        let Some(value) = self.decode(value, known) else { return };
        self.given.push(known);
        self.set(known, value);
    }

    /// What a service says where nothing was said yet. As in libpq, the first of its lines counts.
    fn beneath(&mut self, key: &str, value: &Zeroizing<String>) {
        let Some(known) = self.known(key) else { return };
        if known == "service" {
            return self.errors.push(UrlError::Refused("service", "a service cannot name another one"));
        }
        if !self.given.contains(&known) {
            self.given.push(known);
            self.set(known, value.clone());
        }
    }

    fn known(&mut self, key: &str) -> Option<&'static str> {
        let known = KEYS.iter().find(|known| **known == key).copied();
        if known.is_none() {
            let meant = closest(key, KEYS);
            self.errors.push(UrlError::UnknownKey { key: key.to_owned(), meant });
        }
        known
    }

    fn set(&mut self, key: &'static str, value: Zeroizing<String>) {
        if key.starts_with("ssl") { self.tls(key, &value) } else { self.key(key, value) }
    }

    fn key(&mut self, key: &'static str, value: Zeroizing<String>) {
        let owned = || value.to_string();
        match key {
            "host" => self.query_hosts = Some(value.split(',').map(str::to_owned).collect()),
            "port" => {
                let ports: Vec<_> = value.split(',').map(|port| self.port(port)).collect();
                self.query_ports = Some(ports);
            }
            "user" => self.url.user = Some(owned()),
            "password" => self.url.password = Some(value),
            "passfile" => self.url.passfile = Some(PathBuf::from(owned())),
            "service" => self.url.service = Some(owned()),
            "dbname" => self.url.dbname = Some(owned()),
            "application_name" | "client_encoding" | "options" => {
                self.url.startup_parameters.push((key.to_owned(), owned()));
            }
            "connect_timeout" => match value.parse::<i64>() {
                Ok(seconds) => self.url.connect_timeout = u64::try_from(seconds).ok().filter(|s| *s > 0),
                Err(_) => self.errors.push(UrlError::BadValue { key, takes: "whole seconds" }),
            },
            "target_session_attrs" => self.target(&value),
            "load_balance_hosts" => match value.as_str() {
                "disable" => self.url.host_order = Some("in-order"),
                "random" => self.url.host_order = Some("round-robin"),
                _ => self.errors.push(UrlError::BadValue { key, takes: "disable or random" }),
            },
            "channel_binding" => self.url.ignored.push(("channel_binding", "it is used whenever it can be")),
            "fallback_application_name" => {
                self.url.ignored.push(("fallback_application_name", "clients say their own name"));
            }
            "gssencmode" if value.as_str() == "require" => {
                self.errors
                    .push(UrlError::Refused("gssencmode=require", "it has no GSSAPI; use sslmode=require"));
            }
            "gssencmode" => {}
            "hostaddr" => self.errors.push(UrlError::Refused("hostaddr", "write the address as the host")),
            _ => self
                .errors
                .push(UrlError::Refused("replication", "each client says for itself what it wants")),
        }
    }

    fn target(&mut self, value: &str) {
        match value {
            "any" => self.url.target = Some("any"),
            "read-write" | "primary" => self.url.target = Some("primary"),
            "read-only" | "standby" | "prefer-standby" => self.errors.push(UrlError::Refused(
                "target_session_attrs",
                "only any, primary and read-write choose a host here",
            )),
            _ => self.errors.push(UrlError::BadValue {
                key: "target_session_attrs",
                takes: "any, primary or read-write",
            }),
        }
    }

    fn tls(&mut self, key: &'static str, value: &str) {
        let modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        let owned = value.to_owned();
        match key {
            "sslmode" if modes.contains(&value) => self.url.tls.push(("server_tls.mode", owned)),
            "sslmode" => self.errors.push(UrlError::BadValue {
                key,
                takes: "disable, allow, prefer, require, verify-ca or verify-full",
            }),
            "ssl" if value == "true" => self.url.tls.push(("server_tls.mode", "require".to_owned())),
            "ssl" => self.errors.push(UrlError::BadValue { key, takes: "true; otherwise write sslmode" }),
            "sslrootcert" if value == "system" => {}
            "sslrootcert" => self.url.tls.push(("server_tls.ca_file", owned)),
            "sslcert" => self.url.tls.push(("server_tls.cert_file", owned)),
            "sslkey" => self.url.tls.push(("server_tls.key_file", owned)),
            "sslnegotiation" if ["postgres", "direct"].contains(&value) => {
                self.url.tls.push(("server_tls.negotiation", owned));
            }
            "sslnegotiation" => self.errors.push(UrlError::BadValue { key, takes: "postgres or direct" }),
            _ if value.eq_ignore_ascii_case("TLSv1.3") => {
                self.url.tls.push(("server_tls.min_version", "1.3".to_owned()));
            }
            _ if value.eq_ignore_ascii_case("TLSv1.2") => {
                self.url.tls.push(("server_tls.min_version", "1.2".to_owned()));
            }
            _ => self.errors.push(UrlError::BadValue { key, takes: "TLSv1.2 or TLSv1.3" }),
        }
    }

    /// Settles `host=` and `port=`, which as in libpq come before what stands in front of the `?`.
    fn finish(mut self) -> Result<Url, Vec<UrlError>> {
        if let Some(hosts) = self.query_hosts.take() {
            let named = |host: String| Some(host).filter(|host| !host.is_empty());
            self.url.hosts =
                hosts.into_iter().map(|host| UrlHost { host: named(host), port: None }).collect();
        }
        if let Some(ports) = self.query_ports.take() {
            if self.url.hosts.is_empty() {
                self.url.hosts.push(UrlHost::default());
            }
            let hosts = self.url.hosts.len();
            match ports.as_slice() {
                [port] => self.url.hosts.iter_mut().for_each(|host| host.port = *port),
                ports if ports.len() == hosts => {
                    self.url.hosts.iter_mut().zip(ports).for_each(|(host, port)| host.port = *port);
                }
                ports => self.errors.push(UrlError::PortCount { hosts, ports: ports.len() }),
            }
        }
        if self.errors.is_empty() { Ok(self.url) } else { Err(self.errors) }
    }
}

/// Reads a port.
pub fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok().filter(|port| *port > 0) } else { None }
}

/// Parts `host:port`, `[::1]:port` or `host`.
pub fn split_host(text: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlError::Bracket)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(UrlError::Bracket),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(UrlError::Colons),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// Undoes the percent-encoding; `None` when it is broken, holds a zero byte or is not UTF-8.
fn decode(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        };
        if byte == 0 {
            return None;
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(host: &str, port: Option<u16>) -> UrlHost {
        UrlHost { host: Some(host.to_owned()), port }
    }

    #[test]
    fn every_part_of_a_url_is_read() {
        let url = parse(
            "postgresql://app%40x:s%3Acret@db1,db2:5433,[fd00::1]:5434/my%20db?sslmode=verify-full\
             &sslrootcert=/ca.pem&sslnegotiation=direct&target_session_attrs=read-write\
             &application_name=shop&connect_timeout=5&options=-c%20geqo%3Doff&load_balance_hosts=disable",
        )
        .unwrap();
        assert_eq!(url.user.as_deref(), Some("app@x"));
        assert_eq!(url.password.as_ref().map(|password| password.as_str()), Some("s:cret"));
        assert_eq!(url.hosts, [host("db1", None), host("db2", Some(5433)), host("fd00::1", Some(5434))]);
        assert_eq!(url.dbname.as_deref(), Some("my db"));
        let tls = [
            ("server_tls.mode", "verify-full".to_owned()),
            ("server_tls.ca_file", "/ca.pem".to_owned()),
            ("server_tls.negotiation", "direct".to_owned()),
        ];
        assert_eq!(url.tls, tls);
        assert_eq!((url.target, url.host_order), (Some("primary"), Some("in-order")));
        assert_eq!(url.connect_timeout, Some(5));
        let parameters = [("application_name", "shop"), ("options", "-c geqo=off")];
        assert_eq!(url.startup_parameters, parameters.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn hosts_are_found_wherever_libpq_finds_them() {
        let cases: [(&str, Vec<UrlHost>); 9] = [
            ("postgres://", vec![]),
            ("postgres:///app", vec![]),
            ("postgres://db", vec![host("db", None)]),
            ("postgres://db:/app", vec![host("db", None)]),
            ("postgres://%2Fvar%2Frun:5433/app", vec![host("/var/run", Some(5433))]),
            ("postgres:///app?host=/var/run&port=5433", vec![host("/var/run", Some(5433))]),
            ("postgres://x/app?host=a,b&port=1,2", vec![host("a", Some(1)), host("b", Some(2))]),
            ("postgres://a,b/app?port=7", vec![host("a", Some(7)), host("b", Some(7))]),
            ("postgres://:5433/app", vec![UrlHost { host: None, port: Some(5433) }]),
        ];
        for (text, hosts) in cases {
            assert_eq!(parse(text).unwrap().hosts, hosts, "{text}");
        }
    }

    #[test]
    fn a_service_says_what_the_url_leaves_out() {
        let service: Pairs = [
            ("host", "db1,db2"),
            ("port", "5433"),
            ("port", "1"),
            ("user", "other"),
            ("dbname", "shop"),
            ("sslmode", "require"),
        ]
        .map(|(key, value)| (key.to_owned(), Zeroizing::new(value.to_owned())))
        .to_vec();
        let url = parse_over("postgres://app@/?service=s&sslmode=disable", &service).unwrap();
        assert_eq!((url.user.as_deref(), url.dbname.as_deref()), (Some("app"), Some("shop")));
        assert_eq!(url.hosts, [host("db1", Some(5433)), host("db2", Some(5433))]);
        assert_eq!(url.tls, [("server_tls.mode", "disable".to_owned())]);
        assert_eq!(url.service.as_deref(), Some("s"));
        let url = parse_over("postgres://db:7/app", &service).unwrap();
        assert_eq!((url.hosts, url.dbname.as_deref()), (vec![host("db", Some(7))], Some("app")));
        let wrong = ["hots", "service"].map(|key| (key.to_owned(), Zeroizing::default()));
        let told: Vec<_> =
            parse_over("postgres://", &wrong.to_vec()).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "unknown key \"hots\"; did you mean \"host\"?",
                "\"service\" cannot be given to Hawser: a service cannot name another one"
            ]
        );
    }

    #[test]
    fn a_folder_is_a_unix_socket_and_a_name_is_tcp() {
        assert_eq!(host("/run", Some(1)).address("x", 2), HostAddress::Unix("/run".into(), 1));
        assert_eq!(UrlHost::default().address("db", 2), HostAddress::Tcp("db".to_owned(), 2));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let errors = parse("postgres://a%zz:b@h:x,[::1/db?sslmod=require&sslmode=yes&target_session_attrs=standby&port=1,2,3&oops")
            .unwrap_err();
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "the user has a bad percent-encoding; write % as %25",
                "a port is not a number from 1 to 65535",
                "an IPv6 address is not closed by ]",
                "unknown key \"sslmod\"; did you mean \"sslmode\"?",
                "\"sslmode\" takes disable, allow, prefer, require, verify-ca or verify-full",
                "\"target_session_attrs\" cannot be given to Hawser: only any, primary and read-write choose a host here",
                "the part after ? is not key=value",
                "there are 1 hosts and 3 ports",
            ]
        );
    }

    #[test]
    fn other_schemes_and_bare_ipv6_are_refused() {
        assert_eq!(parse("mysql://a/b"), Err(vec![UrlError::Scheme]));
        assert_eq!(parse("postgresql+psycopg2://a/b"), Err(vec![UrlError::Scheme]));
        assert_eq!(parse("host=a dbname=b"), Err(vec![UrlError::Scheme]));
        assert_eq!(parse("postgres://::1/b"), Err(vec![UrlError::Colons]));
        assert_eq!(parse("postgres://a:70000/b"), Err(vec![UrlError::Port]));
        assert_eq!(parse("postgres://a/b%00"), Err(vec![UrlError::Encoding("database name")]));
    }

    #[test]
    fn the_password_is_not_in_debug_or_in_errors() {
        let url = parse("postgres://app:topsecret@db/app").unwrap();
        assert!(!format!("{url:?}").contains("topsecret"));
        let errors = parse("postgres://app:topsecret%@db:0/app").unwrap_err();
        assert!(errors.iter().all(|error| !error.to_string().contains("topsecret")));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,120}", rest in "[a-z:@/?&=,%\\[\\]0-9]{0,80}") {
            let _ = parse(&text);
            let _ = parse(&format!("postgres://{rest}"));
        }

        #[test]
        fn any_user_and_password_survive_the_encoding(user in "\\PC{1,12}", password in "\\PC{0,12}") {
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let url = parse(&format!("postgres://{}:{}@h/d", encode(&user), encode(&password))).unwrap();
            prop_assert_eq!(url.user, Some(user));
            prop_assert_eq!(url.password.map(|found| found.to_string()), Some(password));
        }
    }
}
