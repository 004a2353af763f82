//! Metrics and HTTP: what Prometheus's own tools say, who may read, health, and the files that use the metrics.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use hawser_admin::metrics::{FAMILIES, Type};
use hawser_admin::tables;
use hawser_tests::raw::messages::query;
use hawser_tests::{
    Account, Config, Finished, Hawser, Program, Site, binary, cluster, repository, wait_until,
};

/// A Hawser with HTTP on a free port.
struct Served {
    site: Site,
    port: u16,
}

impl Served {
    fn new(change: impl FnOnce(Config) -> Config) -> Self {
        let port = hawser::scratch::free_port().unwrap();
        let account = Account::new(cluster());
        let config = Config::new(cluster(), &account)
            .set("http.address", format!("\"127.0.0.1:{port}\""))
            .set("admin.users", format!("[{:?}]", account.user));
        Self { site: Site::of(account, &change(config)), port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Status and body.
    fn get(&self, path: &str, arguments: &[&str]) -> (String, String) {
        let answer = Program::new("curl")
            .args(["-s", "-m", "10", "-w", "\n%{http_code}", &self.url(path)])
            .args(arguments)
            .succeed();
        let (body, status) = answer.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }

    fn health(&self, path: &str) -> Finished {
        Program::new(binary()).args(["health", &self.url(path)]).run()
    }
}

fn promtool(arguments: &[&str], input: &str) -> Finished {
    let promtool = "/usr/bin/promtool";
    assert!(std::path::Path::new(promtool).exists(), "{promtool} is missing: run `make deps` first");
    Program::new(promtool).args(arguments).input(input).folder(repository()).run()
}

#[test]
fn promtool_finds_nothing_wrong_with_a_scrape() {
    let served = Served::new(|config| config);
    let mut client = served.site.client();
    client.execute("SELECT 1");
    client.error("SELECT 1/0");
    client.execute("CREATE TEMP TABLE a (b int)");
    let database = &served.site.account.database;
    let all_expected = [
        format!(
            "hawser_pool_errors_total{{database=\"{database}\",user=\"{database}\",host=\"primary\",sqlstate=\"22012\"}} 1"
        ),
        format!(
            "hawser_pool_pinned_sessions{{database=\"{database}\",user=\"{database}\",host=\"primary\",reason=\"temporary_object\"}} 1"
        ),
        format!(
            "hawser_pool_query_seconds_count{{database=\"{database}\",user=\"{database}\",host=\"primary\"}} 3"
        ),
    ];
    // A pin is known when the server has said what it was asked behind the client's statement.
    wait_until("what was done is told", || {
        let (status, text) = served.get("/metrics", &[]);
        assert_eq!(status, "200");
        all_expected.iter().all(|expected| text.lines().any(|line| line == expected))
    });
    let (_, text) = served.get("/metrics", &[]);
    let checked = promtool(&["check", "metrics"], &text);
    assert!(checked.success, "{}{}\n{text}", checked.stdout, checked.stderr);
    for word in [&served.site.account.password, "generate_series"] {
        assert!(!text.contains(word));
    }
}

#[test]
fn every_table_can_be_read_as_json_but_not_what_only_admins_see() {
    let served = Served::new(|config| config);
    served.site.client().execute("SELECT 1");
    for table in tables::all() {
        let (status, body) = served.get(&format!("/api/v1/{}", table.name), &[]);
        if table.role == hawser_admin::door::Role::Admin {
            assert_eq!(status, "404", "{}", table.name);
            continue;
        }
        let parsed: serde_json::Value = serde_json::from_str(&body).expect(&body);
        assert_eq!((status.as_str(), parsed["table"].as_str()), ("200", Some(table.name)));
        for row in parsed["rows"].as_array().unwrap() {
            assert_eq!(row.as_object().unwrap().len(), table.columns.len(), "{}", table.name);
        }
        assert!(!body.contains(&served.site.account.password), "{}", table.name);
    }
}

#[test]
fn with_a_token_nothing_but_health_is_told_without_it() {
    let served = Served::new(|config| config.set("http.token", "\"open sesame\""));
    for path in ["/healthz", "/readyz", "/primary", "/standby"] {
        assert_eq!(served.get(path, &[]).0, "200", "{path}");
    }
    for path in ["/metrics", "/api/v1/pools", "/api/v1", "/"] {
        assert_eq!(served.get(path, &[]).0, "401", "{path}");
        assert_eq!(served.get(path, &["-H", "Authorization: Bearer open sesam"]).0, "401", "{path}");
        assert_eq!(served.get(path, &["-H", "Authorization: Bearer open sesame"]).0, "200", "{path}");
    }
    assert!(!served.site.hawser().log().contains("sesame"));
}

#[test]
fn a_public_address_without_a_token_does_not_start() {
    let account = Account::new(cluster());
    let config = Config::new(cluster(), &account).set("http.address", "\"0.0.0.0:6433\"").text(1);
    let (status, log) = Hawser::start_wrong(&config);
    assert!(!status.success());
    assert!(log.contains("http.token"), "{log}");
}

#[test]
fn readiness_ends_when_clients_are_not_served_and_the_command_says_it_too() {
    let mut served = Served::new(|config| config);
    assert!(served.health("").success);
    let account = Account { database: "hawser".to_owned(), ..served.site.account.clone() };
    let mut console = hawser_tests::raw::Client::login(served.site.port, &account);
    console.execute("PAUSE");
    assert_eq!(served.get("/readyz", &[]), ("503".to_owned(), "paused\n".to_owned()));
    let unwell = served.health("/readyz");
    assert!(!unwell.success && unwell.stderr.contains("paused"), "{unwell:?}");
    assert!(served.health("/healthz").success);
    console.execute("RESUME");
    let mut inside = served.site.client();
    inside.execute("BEGIN; SELECT 1");
    console.execute("SHUTDOWN WAIT_FOR_SERVERS");
    assert_eq!(served.get("/readyz", &[]), ("503".to_owned(), "draining\n".to_owned()));
    inside.send(&query("COMMIT"));
    assert!(served.site.hawser_mut().wait().success());
    assert!(!served.health("/healthz").success);
}

#[test]
fn scrapes_do_not_disturb_who_works() {
    let served = Served::new(|config| config.set("pool.size", 4));
    let account = &served.site.account;
    let bench = |arguments: &[&str]| {
        Program::postgres("pgbench")
            .args(["-h", "127.0.0.1", "-p", &served.site.port.to_string(), "-U", &account.user, "-n"])
            .args(arguments)
            .args([account.database.as_str()])
            .env("PGPASSWORD", &account.password)
    };
    bench(&["-i", "-q"]).succeed();
    std::thread::scope(|scope| {
        let bench = scope.spawn(|| bench(&["-S", "-c", "8", "-t", "2000"]).succeed());
        while !bench.is_finished() {
            assert_eq!(served.get("/metrics", &[]).0, "200");
            assert_eq!(served.get("/api/v1/clients", &[]).0, "200");
        }
        assert!(bench.join().unwrap().contains("number of failed transactions: 0"));
    });
    wait_until("everything is counted", || {
        served.get("/metrics", &[]).1.lines().any(|line| {
            line.starts_with("hawser_pool_transactions_total") && line.contains(&account.database) && {
                let count = line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
                count >= 16_000
            }
        })
    });
}

/// Names that look like metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("hawser_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn dashboard_and_alerts_use_metrics_that_exist_with_labels_that_exist() {
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut labels: BTreeSet<&str> = ["instance", "job", "le"].into();
    for family in FAMILIES {
        known.insert(family.name.to_owned());
        labels.extend(family.labels);
        if family.kind == Type::Histogram {
            known.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", family.name)));
        }
    }
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let (alerts, dashboard) =
        (read("docker/prometheus/alerts.yml"), read("docker/grafana/dashboards/hawser.json"));
    for text in [&alerts, &dashboard] {
        let used = metrics_in(text);
        assert!(used.len() > 5);
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let mut expressions = 0;
    for panel in parsed["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            expressions += 1;
            for by in expression.split("by (").skip(1) {
                for label in by.split(')').next().unwrap().split(", ") {
                    assert!(labels.contains(label), "{label} in {expression}");
                }
            }
            let plain = expression
                .replace("$__rate_interval", "1m")
                .replace("$instance", ".*")
                .replace("$database", ".*");
            let rule = format!("groups:\n- name: a\n  rules:\n  - record: a\n    expr: '{plain}'\n");
            let file =
                std::env::temp_dir().join(format!("hawser-rule-{}-{expressions}.yml", std::process::id()));
            std::fs::write(&file, rule).unwrap();
            let checked = promtool(&["check", "rules", &file.display().to_string()], "");
            std::fs::remove_file(&file).unwrap();
            assert!(checked.success, "{expression}\n{}{}", checked.stdout, checked.stderr);
        }
    }
    assert!(expressions > 30);
    let checked = promtool(&["check", "rules", "docker/prometheus/alerts.yml"], "");
    assert!(checked.success, "{}{}", checked.stdout, checked.stderr);
    let checked = promtool(&["check", "config", "--syntax-only", "docker/prometheus/prometheus.yml"], "");
    assert!(checked.success, "{}{}", checked.stdout, checked.stderr);
}

#[test]
fn files_that_are_shipped_are_right() {
    let folder = std::env::temp_dir().join(format!("hawser-shipped-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for secret in ["http_token", "app_password", "admin_password"] {
        std::fs::write(folder.join(secret), "secret-of-a-test").unwrap();
    }
    for (file, name) in [("docker/hawser.toml", "docker.toml"), ("packaging/hawser.toml", "package.toml")] {
        let text = std::fs::read_to_string(repository().join(file)).unwrap();
        let text = text.replace("/run/secrets", &folder.display().to_string());
        let copy = folder.join(name);
        std::fs::write(&copy, text).unwrap();
        let checked = Program::new(binary()).args(["check", &copy.display().to_string()]).run();
        assert!(checked.success, "{file}: {checked:?}");
    }
    let unit = std::fs::read_to_string(repository().join("packaging/hawser.service")).unwrap();
    let unit = unit.replace("/usr/bin/hawser", &binary().display().to_string());
    let copy = folder.join("hawser.service");
    std::fs::write(&copy, unit.replace("Documentation=man:hawser(1)\n", "")).unwrap();
    if std::path::Path::new("/usr/bin/systemd-analyze").exists() {
        let verified = Program::new("systemd-analyze").args(["verify", &copy.display().to_string()]).run();
        let complaints: Vec<_> =
            verified.stderr.lines().filter(|line| line.contains("hawser.service")).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
