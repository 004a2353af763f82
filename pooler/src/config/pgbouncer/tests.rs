use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::super::convert::convert;
use super::super::settings::{HostAddress, PoolMode, Secret, Target, TlsMode};
use super::super::{Arguments, Environment, Loaded, load};
use super::*;

const COMPLETE: &str = r#"
;; comment
# comment
[databases]
app = host=10.0.0.1,10.0.0.2 port=5433 dbname=app_v2 user=owner password='it''s' pool_size=5 pool_mode=statement connect_query='select ''x''' timezone=UTC
"odd ""name" = host=/run/postgresql load_balance_hosts=disable server_lifetime=0
local =
"secret" = host=h user=u password=pw2
* = host=fallback auth_user=asker max_db_connections=7 auth_dbname=postgres
[users]
report = pool_mode=session max_user_connections=5 query_timeout=1.5
[pgbouncer]
listen_addr = *
listen_port = 7000
unix_socket_dir = /run/x
unix_socket_mode = 0770
auth_type = scram-sha-256
auth_file = userlist.txt
admin_users = a, b
stats_users = c
suspend_timeout = 10
log_stats = 1
pool_mode = transaction
default_pool_size = 12
max_client_conn = 500
server_lifetime = 1200
server_idle_timeout = 0
query_wait_timeout = 0
client_login_timeout = 0
server_login_retry = 0
reserve_pool_timeout = 3
max_packet_size = 100000000
client_tls_protocols = tlsv1.3
tcp_keepidle = 30
tcp_user_timeout = 1500
ignore_startup_parameters = extra_float_digits, search_path
verbose = 1
%include extra.ini
[peers]
1 = host=a
2 = host=b
"#;

const USERLIST: &str = "\"owner\" \"p1\"\n\"asker\" \"md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n";

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hawser-pgbouncer-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        folder.write("pgbouncer.ini", COMPLETE);
        folder.write("extra.ini", "server_round_robin = 1\n");
        folder.write("userlist.txt", USERLIST);
        folder
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, name: &str) -> Loaded {
        let source = self.0.join(name).to_str().map(str::to_owned);
        load(&Arguments { source, ..Arguments::default() }, &Environment::of([])).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn told(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let mut include = |_: &Path| Err("not there".to_owned());
    read(text, Path::new("p.ini"), &mut include, &mut problems, &mut warnings);
    let strings = |found: Vec<Finding>| found.iter().map(ToString::to_string).collect();
    (strings(problems), strings(warnings))
}

#[test]
fn an_installation_is_read_as_it_stands() {
    let settings = Folder::new("read").load("pgbouncer.ini").settings;
    assert_eq!(settings.listen.tcp, ["0.0.0.0:7000", "[::]:7000"].map(|a| a.parse().unwrap()));
    assert_eq!(settings.listen.unix_dir.as_deref(), Some(Path::new("/run/x")));
    assert_eq!((settings.listen.unix_port, settings.listen.unix_mode), (7000, 0o770));
    assert_eq!(settings.listen.keepalive.idle, Some(Duration::from_secs(30)));
    assert_eq!(settings.pool.keepalive.user_timeout, Some(Duration::from_millis(1500)));
    let app = &settings.databases["app"];
    let hosts = ["10.0.0.1", "10.0.0.2"].map(|host| HostAddress::Tcp(host.to_owned(), 5433));
    assert_eq!((app.hosts.as_slice(), app.target), (hosts.as_slice(), Target::Any));
    assert_eq!((app.dbname.as_deref(), app.user.as_deref()), (Some("app_v2"), Some("owner")));
    assert!(matches!(&app.password, Some(Secret::Password(password)) if password.as_str() == "it's"));
    assert_eq!((app.pool.mode, app.pool.size), (Some(PoolMode::Statement), Some(5)));
    assert_eq!(app.connect_query.as_deref(), Some("select 'x'"));
    assert_eq!(app.startup_parameters, [("timezone".to_owned(), "UTC".to_owned())]);
    let odd = &settings.databases["odd \"name"];
    assert_eq!(odd.hosts, [HostAddress::Unix("/run/postgresql".into(), 5432)]);
    assert_eq!(odd.pool.server_lifetime, Some(Some(Duration::from_millis(1))));
    assert_eq!(settings.databases["local"].hosts, [HostAddress::Unix("/run/x".into(), 5432)]);
    let wildcard = settings.wildcard_database.as_ref().unwrap();
    assert_eq!(wildcard.max_db_connections, Some(7));
    assert_eq!(wildcard.auth_query.as_ref().unwrap().user, "asker");
    let report = &settings.users["report"];
    assert_eq!((report.pool.mode, report.max_user_connections), (Some(PoolMode::Session), Some(5)));
    assert_eq!(report.timeouts.query, Some(Some(Duration::from_millis(1500))));
    assert!(matches!(settings.users["asker"].secrets[..], [Secret::Md5(_)]));
    assert_eq!((settings.pool.size, settings.pool.round_robin), (12, true));
    assert_eq!((settings.pool.server_idle_timeout, settings.timeouts.query_wait), (None, None));
    assert_eq!(settings.limits.max_message, 100_000_000);
    assert_eq!(settings.client_tls.min_version, super::super::settings::TlsVersion::Tls13);
    assert_eq!(settings.ignore_startup_parameters, ["extra_float_digits", "search_path"]);
    assert_eq!(settings.log.level, "debug");
}

#[test]
fn each_ignored_key_is_named_once_with_the_reason() {
    let warnings: Vec<_> =
        Folder::new("ignored").load("pgbouncer.ini").warnings.iter().map(ToString::to_string).collect();
    for (key, times) in [("suspend_timeout is ignored", 1), ("[peers] is ignored", 1)] {
        assert_eq!(warnings.iter().filter(|told| told.contains(key)).count(), times, "{warnings:#?}");
    }
    for expected in ["client_login_timeout = 0 becomes 1d", "clients there may talk without TLS"] {
        assert!(warnings.iter().any(|told| told.contains(expected)), "{expected}\n{warnings:#?}");
    }
}

#[test]
fn a_silent_file_does_what_pgbouncer_does() {
    let folder = Folder::new("silent");
    folder.write("pgbouncer.ini", "[databases]\napp = host=db\n[pgbouncer]\nlisten_addr = localhost\n");
    let settings = folder.load("pgbouncer.ini").settings;
    assert_eq!((settings.pool.mode, settings.limits.max_client_connections), (PoolMode::Session, 100));
    assert_eq!(settings.timeouts.query_wait, Some(Duration::from_secs(120)));
    assert_eq!(settings.listen.tcp, ["127.0.0.1:6432".parse().unwrap()]);
    assert_eq!(settings.listen.unix_dir.as_deref(), Some(Path::new("/tmp")));
    assert_eq!(settings.auth.rules.len(), 2);
    assert_eq!(settings.databases["app"].tls.mode, TlsMode::Prefer);
}

#[test]
fn every_mistake_is_told_by_line_with_a_remedy() {
    let text = "early = 1\n[databases]\napp = host\nb = hots=x\nc = host=h port=99999\n\"d = host=h\ne\nf = password='x\n[pgbouncer]\nlisten_prt = 1\nserver_lifetime = long\nauth_type = scram-sha-265\n%include none.ini\n[userz]\na = b\n[broken\n";
    let (mut problems, _) = told(text);
    problems.sort();
    let expected = [
        "p.ini:10: unknown key \"listen_prt\"; did you mean \"listen_port\"?",
        "p.ini:11: server_lifetime: \"long\" is not a number of seconds",
        "p.ini:12: unknown auth_type \"scram-sha-265\"; did you mean \"scram-sha-256\"?",
        "p.ini:13: none.ini cannot be read: not there",
        "p.ini:15: unknown section [userz]; did you mean \"users\"?",
        "p.ini:16: a section is not closed by ]",
        "p.ini:1: \"early\" stands before the first section",
        "p.ini:3: the value of \"app\" is not a list of key=value",
        "p.ini:4: unknown key \"hots\"; did you mean \"host\"?",
        "p.ini:5: database \"c\": a port is not a number from 1 to 65535",
        "p.ini:6: a double quote is not closed",
        "p.ini:7: this is not a key and a value; write key = value",
        "p.ini:8: the value of \"f\" has a single quote that is not closed",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn each_way_to_log_in_becomes_rules_or_a_mistake() {
    let rules = |kind: &str| {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let text = format!("[pgbouncer]\nauth_type = {kind}\nauth_hba_file = hba.conf\n");
        let mut include = |_: &Path| Err(String::new());
        let raw = read(&text, Path::new("p.ini"), &mut include, &mut problems, &mut warnings);
        match raw.settings.get("auth.rules").map(|written| written.value.clone()) {
            Some(super::super::raw::Value::List(items)) => {
                items.into_iter().map(|(item, _)| item).collect::<Vec<_>>().join("; ")
            }
            _ if raw.settings.contains_key("auth.hba_file") => "file".to_owned(),
            _ => problems.iter().map(ToString::to_string).collect(),
        }
    };
    let cases = [
        ("md5", "local all all md5; host all all all md5"),
        ("plain", "local all all password; host all all all password"),
        ("any", "local all all trust; host all all all trust"),
        ("cert", "hostssl all all all cert"),
        ("hba", "file"),
        (
            "pam",
            "p.ini:2: auth_type = pam is not to be had in Hawser; use scram-sha-256 with auth_file or auth_query",
        ),
    ];
    for (kind, expected) in cases {
        assert_eq!(rules(kind), expected, "{kind}");
    }
}

#[test]
fn a_converted_file_means_the_same() {
    let folder = Folder::new("convert");
    let conversion = convert(&folder.0.join("pgbouncer.ini"), &folder.0.join("secrets")).unwrap();
    std::fs::create_dir_all(folder.0.join("secrets")).unwrap();
    for (path, secret) in &conversion.secrets {
        std::fs::write(path, secret.as_str()).unwrap();
    }
    folder.write("hawser.toml", &conversion.toml);
    let loaded = folder.load("hawser.toml");
    assert_eq!(loaded.settings, folder.load("pgbouncer.ini").settings);
    assert_eq!(loaded.warnings, []);
    assert_eq!(conversion.secrets.len(), 2);
    for secret in ["it's", "pw2", "p1\"", "md5aaa"] {
        assert!(!conversion.toml.contains(secret), "{secret}\n{}", conversion.toml);
    }
    assert!(conversion.toml.contains("# ") && conversion.toml.contains("suspend_timeout is ignored"));
}

#[test]
fn files_that_include_themselves_come_to_an_end() {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let mut include = |_: &Path| Ok("%include p.ini\n".to_owned());
    read("%include p.ini\n", Path::new("p.ini"), &mut include, &mut problems, &mut warnings);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].what.contains("too deeply"));
}

#[test]
fn connection_strings_are_read_as_pgbouncer_reads_them() {
    let pairs = |pairs: &[(&str, &str)]| {
        Ok(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    };
    let cases = [
        ("", pairs(&[])),
        ("host=a port=1", pairs(&[("host", "a"), ("port", "1")])),
        ("host = a  Port= 1", pairs(&[("host", "a"), ("port", "1")])),
        ("q='a b' r='it''s' s=''", pairs(&[("q", "a b"), ("r", "it's"), ("s", "")])),
        ("password=a'b", pairs(&[("password", "a'b")])),
        ("a='b'c", Err(StringError::AfterQuote)),
        ("a='b", Err(StringError::OpenQuote)),
        ("a", Err(StringError::NoValue)),
        ("=b", Err(StringError::NoValue)),
        ("a b=c", Err(StringError::NoValue)),
    ];
    for (text, expected) in cases {
        assert_eq!(connection_string(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,100}", ini in "(\\[databases\\]\n|\\[pgbouncer\\]\n|\\[users\\]\n|[a-z_ =\"',;*]|listen_addr|host=|\n|%include x){0,60}") {
        told(&text);
        told(&ini);
        let _ = connection_string(&text);
    }
}
