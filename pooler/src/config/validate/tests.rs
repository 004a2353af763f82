use std::path::Path;

use super::super::settings::{HostAddress, HostOrder, Secret, Target};
use super::super::{Arguments, Environment, load};
use super::*;
use std::time::Duration;

/// A folder of its own for each test, removed when it is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hawser-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn of_url(url: &str, variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let arguments = Arguments { source: Some(url.to_owned()), ..Arguments::default() };
    load(&arguments, &Environment::of(variables.iter().copied()))
}

fn of_toml(text: &str) -> Result<Loaded, Vec<String>> {
    let mut problems = Vec::new();
    let mut raw = super::super::toml_file::read(text, Path::new("h.toml"), &mut problems);
    let mut warnings = Vec::new();
    let environment = Environment::of([]);
    super::super::expand::expand(&mut raw, &environment, &Default::default(), &mut problems, &mut warnings);
    validate(&raw, &Files::new(), 4, problems, warnings).map_err(|problems| told(&problems))
}

fn told(problems: &Problems) -> Vec<String> {
    problems.0.iter().map(ToString::to_string).collect()
}

fn password(secret: &Secret) -> &str {
    match secret {
        Secret::Password(password) => password,
        other => panic!("{other:?}"),
    }
}

const MINIMAL: &str = "[cluster]\nurl = \"postgres://app:secret@db1,db2/app\"\n";

#[test]
fn a_url_alone_is_a_whole_configuration() {
    let Loaded { settings, warnings, .. } =
        of_url("postgres://app:secret@db1,db2:5433/shop?sslmode=require", &[]).unwrap();
    assert_eq!(warnings, []);
    let hosts = [("db1", 5432), ("db2", 5433)].map(|(host, port)| HostAddress::Tcp(host.to_owned(), port));
    for database in [settings.databases.get("shop"), settings.wildcard_database.as_ref()] {
        let database = database.unwrap();
        assert_eq!(database.hosts, hosts);
        assert_eq!((database.target, database.host_order), (Target::Primary, HostOrder::RoundRobin));
        assert_eq!((&database.user, &database.dbname), (&None, &None));
        assert_eq!(database.tls.mode, TlsMode::Require);
    }
    assert_eq!(settings.users.keys().collect::<Vec<_>>(), ["app"]);
    assert_eq!(password(&settings.users["app"].secrets[0]), "secret");
    assert_eq!(settings.listen.tcp, ["127.0.0.1:6432".parse().unwrap()]);
    assert_eq!(settings.workers, 1);
    let methods: Vec<_> = settings.auth.rules.iter().map(|rule| rule.method).collect();
    assert_eq!(methods, [crate::auth::hba::Method::ScramSha256; 2]);
}

#[test]
fn the_minimal_file_means_the_same_as_its_url() {
    let of_file = of_toml(MINIMAL).unwrap().settings;
    let of_url = of_url("postgres://app:secret@db1,db2/app", &[]).unwrap().settings;
    assert_eq!(Settings { workers: 1, ..of_file }, of_url);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let settings = of_toml(MINIMAL).unwrap().settings;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!((settings.pool.mode, settings.pool.size), (PoolMode::Transaction, 20));
    assert_eq!(settings.timeouts.query_wait, seconds(30));
    assert_eq!(settings.timeouts.query_wait_notify, seconds(5));
    assert_eq!(Some(settings.timeouts.login), seconds(60));
    assert_eq!(settings.timeouts.query, None);
    assert_eq!(settings.pool.server_lifetime, seconds(3600));
    assert_eq!(settings.pool.server_idle_timeout, seconds(600));
    assert_eq!(Some(settings.pool.server_connect_timeout), seconds(15));
    assert_eq!(Some(settings.pool.server_login_retry), seconds(1));
    assert_eq!(settings.limits.max_client_connections, 10_000);
    assert_eq!(settings.workers, 4);
    assert_eq!(settings.client_tls.mode, TlsMode::Disable);
}

#[test]
fn what_a_url_leaves_out_is_taken_from_the_variables_of_libpq() {
    let variables = [
        ("PGHOST", "h1,h2"),
        ("PGPORT", "5433,5434"),
        ("PGUSER", "me"),
        ("PGPASSWORD", "secret"),
        ("PGDATABASE", "mine"),
        ("PGSSLMODE", "require"),
    ];
    let settings = load(&Arguments::default(), &Environment::of(variables)).unwrap().settings;
    let hosts = [("h1", 5433), ("h2", 5434)].map(|(host, port)| HostAddress::Tcp(host.to_owned(), port));
    assert_eq!(settings.databases["mine"].hosts, hosts);
    assert_eq!(settings.databases["mine"].tls.mode, TlsMode::Require);
    assert_eq!(password(&settings.users["me"].secrets[0]), "secret");
    let settings = of_url("postgres://you:other@h/yours?sslmode=disable", &variables[2..]).unwrap().settings;
    assert_eq!(settings.databases["yours"].tls.mode, TlsMode::Disable);
    assert_eq!(password(&settings.users["you"].secrets[0]), "other");
}

#[test]
fn passwords_and_urls_are_read_from_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("files");
    let secret = folder.write("secret", "from file\n");
    let url = folder.write("url", "postgres://app:inside@db/app\n");
    let pgpass = folder.write(".pgpass", "db:5432:app:app:from pgpass\n");
    std::fs::set_permissions(&pgpass, PermissionsExt::from_mode(0o600)).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let secret_of = |url: Option<&str>, name: &str, value: &str| {
        let arguments = Arguments { source: url.map(str::to_owned), ..Arguments::default() };
        let loaded = load(&arguments, &Environment::of([(name, value)])).unwrap();
        password(&loaded.settings.users["app"].secrets[0]).to_owned()
    };
    assert_eq!(secret_of(Some("postgres://app@db/app"), "PGPASSWORD_FILE", &path(&secret)), "from file");
    assert_eq!(secret_of(Some("postgres://app@db/app"), "PGPASSFILE", &path(&pgpass)), "from pgpass");
    assert_eq!(secret_of(Some("postgres://app@db/app"), "HOME", &path(&folder.0)), "from pgpass");
    assert_eq!(secret_of(None, "DATABASE_URL_FILE", &path(&url)), "inside");
    assert_eq!(secret_of(None, "HAWSER_CLUSTER_URL_FILE", &path(&url)), "inside");
    std::fs::set_permissions(&pgpass, PermissionsExt::from_mode(0o644)).unwrap();
    let open = of_url("postgres://app@db/app", &[("PGPASSFILE", &path(&pgpass))]).unwrap_err();
    assert!(told(&open)[0].contains("there is no password for user \"app\""), "{open}");
}

#[test]
fn a_service_is_taken_from_the_file_of_libpq() {
    let folder = Folder::new("service");
    let text =
        "[shop]\nhost=db\nport=5433\nuser=me\npassword=secret\ndbname=mine\n[odd]\nhots=db\n[bad]\nhost\n";
    let file = folder.write("services", text);
    let with = |name| [("PGSERVICEFILE", file.to_str().unwrap()), ("PGSERVICE", name), ("PGUSER", "you")];
    let settings = load(&Arguments::default(), &Environment::of(with("shop"))).unwrap().settings;
    assert_eq!(settings.databases["mine"].hosts, [HostAddress::Tcp("db".to_owned(), 5433)]);
    assert_eq!(password(&settings.users["me"].secrets[0]), "secret");
    let settings = of_url("postgres://other/?service=shop", &with("odd")).unwrap().settings;
    assert_eq!(settings.databases["mine"].hosts, [HostAddress::Tcp("other".to_owned(), 5433)]);
    let refused = |name| load(&Arguments::default(), &Environment::of(with(name))).unwrap_err().to_string();
    assert!(refused("odd").contains("services: service \"odd\": unknown key \"hots\""), "{}", refused("odd"));
    assert!(refused("bad").contains("services:10: is not key=value"), "{}", refused("bad"));
    assert!(refused("none").contains("PGSERVICE: there is no service \"none\""), "{}", refused("none"));
}

#[test]
fn a_flag_comes_before_the_environment_and_that_before_the_file() {
    let folder = Folder::new("precedence");
    let file = folder.write("hawser.toml", &format!("[pool]\nsize = 1\nmin_size = 1\n{MINIMAL}"));
    let arguments = |size: Option<&str>| Arguments {
        source: file.to_str().map(str::to_owned),
        pool_size: size.map(str::to_owned),
        ..Arguments::default()
    };
    let size = |flag, variables: &[(&str, &str)]| {
        let loaded = load(&arguments(flag), &Environment::of(variables.iter().copied())).unwrap();
        let effective = loaded.sources.into_iter().find(|e| e.setting.name == "pool.size").unwrap();
        assert_eq!(effective.value, loaded.settings.pool.size.to_string());
        (loaded.settings.pool.size, effective.source)
    };
    let variables = [("HAWSER_POOL_SIZE", "2"), ("DATABASE_URL", "postgres://not:used@nowhere/at_all")];
    assert_eq!(size(Some("3"), &variables), (3, Source::Flag("--pool-size")));
    assert_eq!(size(None, &variables), (2, Source::Environment("HAWSER_POOL_SIZE".to_owned())));
    assert_eq!(size(None, &[]), (1, Source::line(&file, 2)));
}

#[test]
fn every_setting_is_taken_and_shown_with_its_source() {
    let loaded = of_toml(MINIMAL).unwrap();
    let names: Vec<_> = loaded.sources.iter().map(|effective| effective.setting.name).collect();
    let all: Vec<_> = GLOBAL.iter().map(|setting| setting.name).collect();
    assert_eq!(names, all);
    let url = &loaded.sources[0];
    assert_eq!((url.value.as_str(), &url.source), ("hidden", &Source::line(Path::new("h.toml"), 2)));
    assert!(loaded.sources[1..].iter().all(|effective| effective.source == Source::Default));
    assert!(loaded.sources.iter().all(|effective| !effective.value.contains("secret@")));
}

#[test]
fn a_complete_file_is_read_as_meant() {
    let settings = of_toml(
        r#"
listen = ["127.0.0.1:7000", "[::1]:7000"]
workers = 3
[auth]
rules = ["local all all peer map=os", "host all all 10.0.0.0/8 md5"]
name_maps = ["os root postgres"]
[auth.query]
user = "asker"
dbname = "postgres"
[server_tls]
mode = "verify-full"
[pool]
mode = "session"
server_lifetime = "0"
[timeouts]
query = "30s"
[limits]
max_db_connections = 50
[databases.app]
hosts = ["db1", "db2:5433", "[fd00::1]:5434", "/run/postgresql", "/run/pg:5435"]
host_order = "in-order"
target = "any"
dbname = "app_v2"
user = "owner"
password = "md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
pool_mode = "statement"
pool_size = 5
server_lifetime = "5min"
query_timeout = 0
max_connections = 0
connect_query = "SET x = 1"
startup_parameters = { client_encoding = "UTF8" }
auth_query.dbname = "app"
server_tls.mode = "require"
server_tls.negotiation = "direct"
[databases.old]
url = "postgres://o:p@old/legacy?sslmode=disable"
disabled = true
[users.asker]
password = "x"
[users.rotating]
passwords = ["one", "two"]
max_client_connections = 7
"#,
    )
    .unwrap()
    .settings;
    assert_eq!(settings.listen.tcp.len(), 2);
    assert_eq!((settings.workers, settings.pool.server_lifetime), (3, None));
    let app = &settings.databases["app"];
    let hosts = [
        HostAddress::Tcp("db1".to_owned(), 5432),
        HostAddress::Tcp("db2".to_owned(), 5433),
        HostAddress::Tcp("fd00::1".to_owned(), 5434),
        HostAddress::Unix("/run/postgresql".into(), 5432),
        HostAddress::Unix("/run/pg".into(), 5435),
    ];
    assert_eq!(app.hosts, hosts);
    assert_eq!((app.host_order, app.target), (HostOrder::InOrder, Target::Any));
    assert_eq!((app.dbname.as_deref(), app.user.as_deref()), (Some("app_v2"), Some("owner")));
    assert!(matches!(app.password, Some(Secret::Md5(_))));
    assert_eq!((app.pool.mode, app.pool.size), (Some(PoolMode::Statement), Some(5)));
    assert_eq!(app.pool.server_lifetime, Some(Some(Duration::from_secs(300))));
    assert_eq!((app.timeouts.query, app.timeouts.client_idle), (Some(None), None));
    assert_eq!((app.max_db_connections, settings.databases["old"].max_db_connections), (None, Some(50)));
    assert_eq!((app.tls.mode, app.tls.direct), (TlsMode::Require, true));
    let query = app.auth_query.as_ref().unwrap();
    assert_eq!((query.user.as_str(), query.dbname.as_deref()), ("asker", Some("app")));
    let old = &settings.databases["old"];
    assert_eq!((old.user.as_deref(), old.dbname.as_deref(), old.disabled), (Some("o"), Some("legacy"), true));
    assert_eq!((old.tls.mode, old.target), (TlsMode::Disable, Target::Any));
    let rotating = &settings.users["rotating"];
    assert_eq!((rotating.secrets.len(), rotating.max_user_client_connections), (2, Some(7)));
    assert!(settings.wildcard_database.is_none());
}

#[test]
fn every_mistake_is_told_at_once_with_line_and_remedy() {
    let problems = of_toml(
        r#"workers = 0
listen = ["localhost", "0.0.0.0:6432"]
[pol]
[pool]
size = 5
min_size = 9
server_lifetime = 60
mode = "transction"
[log]
level = "inof"
[auth]
rules = ["host all all all scram", "hostssl all all all cert map=nobody"]
[client_tls]
mode = "verify-ca"
[databases.app]
host = "db"
[databases.b]
hosts = ["::1:5432"]
password = "x"
server_tls.negotiation = "direct"
[databases.c]
url = "postgres://a:topsecret@h/d?sslmod=x"
[users.u]
password = "SCRAM-SHA-256$broken"
password_file = "x"
"#,
    )
    .unwrap_err();
    let expected = [
        "h.toml:1: workers: 0 is not a number from 1 to 1024",
        "h.toml:2: listen.address: \"localhost\" is not an IP address and a port; write \"127.0.0.1:6432\"",
        "h.toml:3: unknown key \"pol\"; did you mean \"pool\"?",
        "h.toml:6: pool.min_size is 9, more than pool.size, which is 5",
        "h.toml:7: pool.server_lifetime: 60 has no unit; write \"60s\"",
        "h.toml:8: pool.mode: \"transction\" is not one of session, transaction, statement; did you mean \"transaction\"?",
        "h.toml:10: log.level \"inof\" is no level and no filter; did you mean \"info\"?",
        "h.toml:12: auth.rules has a rule that wants a client certificate; set client_tls.ca_file",
        "h.toml:12: auth.rules has a rule with map=nobody, and there is no such map",
        "h.toml:12: auth.rules: invalid authentication method \"scram\"",
        "h.toml:14: client_tls.mode needs a certificate and its key",
        "h.toml:14: client_tls.mode needs authorities",
        "h.toml:15: databases.app names no host",
        "h.toml:16: unknown key \"host\"; did you mean \"hosts\"?",
        "h.toml:18: databases.b.hosts: \"::1:5432\"",
        "h.toml:19: databases.b.password stands without user; write databases.b.user",
        "h.toml:20: databases.b.server_tls.negotiation direct needs a mode that insists on TLS",
        "h.toml:22: URL: unknown key \"sslmod\"; did you mean \"sslmode\"?",
        "h.toml:24: users.u.password cannot be read: not a SCRAM verifier",
        "h.toml:25: users.u.password_file stands beside password; write one of them",
    ];
    for (told, expected) in problems.iter().zip(expected) {
        assert!(told.starts_with(expected), "{expected}\n{problems:#?}");
    }
    // `mode = "verify-ca"` allows the public address, so that line is not among them.
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    assert!(problems.iter().all(|told| !told.contains("topsecret")));
}

#[test]
fn a_public_address_needs_tls_or_an_explicit_word() {
    let url = "postgres://app:secret@db/app";
    let listen = |address: &str, more: &[(&str, &str)]| {
        let variables: Vec<_> =
            [("HAWSER_LISTEN", address)].into_iter().chain(more.iter().copied()).collect();
        of_url(url, &variables)
    };
    for address in ["0.0.0.0:6432", "[::]:6432", "*:6432", "10.0.0.1:6432"] {
        let problems = told(&listen(address, &[]).unwrap_err());
        assert!(problems[0].contains("--allow-plaintext"), "{problems:?}");
        assert!(listen(address, &[("HAWSER_LISTEN_ALLOW_PLAINTEXT", "true")]).is_ok());
    }
    assert!(listen("127.0.0.2:6432, [::1]:6432", &[]).is_ok());
}

#[test]
fn a_certificate_turns_tls_on_and_one_that_cannot_be_read_is_a_mistake() {
    let folder = Folder::new("tls");
    let (cert, key) = (folder.write("cert.pem", ""), folder.write("key.pem", ""));
    let text =
        |cert: &str, key: &str| format!("{MINIMAL}[client_tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n");
    let load = |text: String| {
        let file = folder.write("hawser.toml", &text);
        let arguments = Arguments { source: file.to_str().map(str::to_owned), ..Arguments::default() };
        load(&arguments, &Environment::of([]))
    };
    let settings = load(text("cert.pem", "key.pem")).unwrap().settings;
    assert_eq!(settings.client_tls.mode, TlsMode::Prefer);
    assert_eq!((settings.client_tls.cert_file, settings.client_tls.key_file), (Some(cert), Some(key)));
    let problems = told(&load(text("cert.pem", "nokey.pem")).unwrap_err());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("hawser.toml:5: client_tls.key_file: "), "{problems:?}");
}

#[test]
fn files_that_are_named_are_read_and_their_mistakes_told_by_line() {
    let folder = Folder::new("named");
    let load = |more: &str| {
        let file = folder.write("hawser.toml", &format!("{MINIMAL}{more}"));
        let arguments = Arguments { source: file.to_str().map(str::to_owned), ..Arguments::default() };
        load(&arguments, &Environment::of([]))
    };
    folder.write("hba", "# rules\nlocal all all trust\n");
    folder.write("users", "\"other\" \"hers\"\n\"app\" \"his\"\n");
    let loaded = load("[auth]\nhba_file = \"hba\"\nuser_file = \"users\"\n").unwrap();
    assert_eq!(loaded.settings.auth.rules.len(), 1);
    assert_eq!(password(&loaded.settings.users["other"].secrets[0]), "hers");
    assert_eq!(password(&loaded.settings.users["app"].secrets[0]), "secret");
    assert_eq!(loaded.warnings.len(), 1);
    folder.write("hba", "# rules\nlocal all all trst\n");
    folder.write("users", "\"other\" \"hers\n");
    let problems = told(
        &load("[auth]\nhba_file = \"hba\"\nuser_file = \"users\"\nident_file = \"none\"\n").unwrap_err(),
    );
    assert_eq!(problems.len(), 3, "{problems:#?}");
    let begins = |place: &str| problems.iter().any(|told| told.contains(place));
    assert!(
        begins("/hba:2: ") && begins("/users:1: ") && begins("hawser.toml:6: auth.ident_file "),
        "{problems:#?}"
    );
}

#[test]
fn nothing_to_serve_is_a_mistake() {
    let problems = told(&load(&Arguments::default(), &Environment::of([])).unwrap_err());
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("command line: ") && problems[0].ends_with("set DATABASE_URL"),
        "{problems:?}"
    );
    let problems = of_toml("workers = 1\n").unwrap_err();
    assert_eq!(
        problems,
        ["h.toml: no database is named, so nobody could connect; write cluster.url or [databases.NAME]"]
    );
}

#[test]
fn a_mistyped_command_is_recognised() {
    let arguments = Arguments { source: Some("chek".to_owned()), ..Arguments::default() };
    let problems = told(&load(&arguments, &Environment::of([])).unwrap_err());
    assert!(problems.iter().any(|told| told.ends_with("did you mean \"hawser check\"?")), "{problems:?}");
}

#[test]
fn warnings_say_who_cannot_log_in() {
    let loaded = of_toml("[databases.app]\nhosts = \"db\"\n").unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].what.contains("nobody can log in"));
    let loaded = of_toml("[databases.app]\nhosts = \"db\"\n[auth.query]\nuser = \"asker\"\n").unwrap();
    assert!(loaded.warnings[0].what.contains("\"asker\" looks secrets up and has none"));
}

#[test]
fn no_secret_is_in_debug() {
    let loaded = of_url("postgres://app:topsecret@db/app", &[]).unwrap();
    assert!(!format!("{loaded:?}").contains("topsecret"));
    let arguments =
        Arguments { source: Some("postgres://app:topsecret@db/app".to_owned()), ..Arguments::default() };
    assert!(!format!("{arguments:?}").contains("topsecret"));
}

proptest::proptest! {
    #[test]
    fn no_values_make_the_check_panic(
        values in proptest::collection::vec((0..GLOBAL.len(), "\\PC{0,20}|[0-9a-z:./\\[\\]*$,-]{0,20}", 0..5_u8), 0..12),
    ) {
        let mut text = String::new();
        for (at, value, form) in values {
            let name = GLOBAL[at].name;
            text.push_str(&match form {
                0 => format!("{name} = {}\n", value.len()),
                1 => format!("{name} = [{value:?}, \"x\"]\n"),
                2 => format!("databases.{value:?}.hosts = {value:?}\n"),
                3 => format!("users.{value:?}.password = {value:?}\n"),
                _ => format!("{name} = {value:?}\n"),
            });
        }
        if let Err(problems) = of_toml(&text) {
            proptest::prop_assert!(problems.iter().all(|told| !told.is_empty()));
        }
    }
}
