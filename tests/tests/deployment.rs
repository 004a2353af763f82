//! What docker/compose.yaml describes, with its very files, but without containers: a primary and two standbys set up by
//! its scripts, Hawser with its settings and secrets, and Prometheus with its scrapes and alerts.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hawser::scratch::{Packages, free_port};
use hawser_tests::raw::Client;
use hawser_tests::raw::messages::query;
use hawser_tests::{Account, Program, Programs, binary, http_get, repository, wait_long_until, wait_until};
use rustix::process::Signal;

/// The scene of the compose file.
struct Deployment {
    programs: Programs,
    packages: Packages,
    /// Where the primary and the standbys listen.
    hosts: [u16; 3],
    sql: u16,
    http: u16,
    prometheus: u16,
}

impl Deployment {
    fn new() -> Self {
        let port = || free_port().unwrap();
        let scene = Self {
            programs: Programs::new(),
            packages: Packages::find().unwrap(),
            hosts: [port(), port(), port()],
            sql: port(),
            http: port(),
            prometheus: port(),
        };
        let copied =
            Command::new("cp").arg("-r").arg(repository().join("docker")).arg(scene.docker()).status();
        assert!(copied.unwrap().success());
        // Secrets of a deployment beside this one are none of ours.
        let _ = fs::remove_dir_all(scene.docker().join("secrets"));
        let made = Program::new(scene.docker().join("make-secrets.sh")).run();
        assert!(made.success, "{made:?}");
        // In containers they are mounted, for whoever runs there.
        let opened = Command::new("chmod").arg("-R").arg("a+rX").arg(scene.docker()).status();
        assert!(opened.unwrap().success());
        scene
    }

    fn docker(&self) -> PathBuf {
        self.programs.folder().join("docker")
    }

    fn secret(&self, name: &str) -> String {
        fs::read_to_string(self.docker().join("secrets").join(name)).unwrap()
    }

    /// A file of docker/ with our names for its places; where it is now.
    fn file(&self, path: &str, more: &[(&str, &str)]) -> PathBuf {
        let file = self.docker().join(path);
        let mut text = fs::read_to_string(&file).unwrap();
        let place = |port: u16| format!("127.0.0.1:{port}");
        let [primary, first, second] = self.hosts;
        let ours = [
            ("/run/secrets", self.docker().join("secrets").display().to_string()),
            ("primary:5432", place(primary)),
            ("standby1:5432", place(first)),
            ("standby2:5432", place(second)),
            ("0.0.0.0:6432", place(self.sql)),
            ("0.0.0.0:6433", place(self.http)),
            ("hawser:6433", place(self.http)),
        ];
        for (theirs, ours) in
            ours.iter().map(|(name, ours)| (*name, ours.as_str())).chain(more.iter().copied())
        {
            text = text.replace(theirs, ours);
        }
        fs::write(&file, text).unwrap();
        file
    }

    /// A program of PostgreSQL, or a script around them.
    fn postgres(&self, program: &str) -> Command {
        let folder = self.packages.program("postgres").parent().unwrap().to_owned();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        let mut command =
            self.programs.command(if program == "bash" { "/bin/bash".into() } else { folder.join(program) });
        command.env("PATH", path).env("PGHOST", self.programs.folder()).env("PGUSER", "postgres");
        command
            .env("PGPORT", self.hosts[0].to_string())
            .env("PGDATA", self.programs.folder().join("primary"));
        command
    }

    /// As the image of PostgreSQL does it: a new cluster, then the script, then the server.
    fn start_primary(&mut self) {
        let password = self.docker().join("secrets/postgres_password");
        let mut initdb = self.postgres("initdb");
        initdb.args(["-U", "postgres", "-A", "trust", "--auth-host=scram-sha-256", "--no-sync", "--pwfile"]);
        self.programs.run(initdb.arg(password));
        let hba = self.programs.folder().join("primary/pg_hba.conf");
        let text = fs::read_to_string(&hba).unwrap();
        fs::write(&hba, format!("{text}\nhost all all all scram-sha-256\n")).unwrap();
        let mut server = self.postgres("postgres");
        let folder = self.programs.folder().display().to_string();
        server.args(["-c", "wal_level=replica", "-c", "max_wal_senders=10", "-c", "hot_standby=on"]);
        server.args(["-c", "fsync=off", "-p", &self.hosts[0].to_string(), "-k", &folder]);
        self.programs.start("primary", &mut server);
        wait_long_until("the primary is ready", || {
            self.postgres("pg_isready").arg("-q").status().unwrap().success()
        });
        let script = self.file("postgres/primary.sh", &[]);
        self.programs.run(self.postgres("bash").arg(script));
        self.programs.run(self.postgres("pg_ctl").arg("reload"));
    }

    fn start_standby(&mut self, number: usize) {
        let name = format!("standby{number}");
        let folder = self.programs.folder().join(&name);
        let (primary, own) = (self.hosts[0], self.hosts[number]);
        let basebackup = format!("pg_basebackup -h 127.0.0.1 -p {primary} --no-sync");
        let server = format!("exec postgres -p {own} -k '{}' -c fsync=off", self.programs.folder().display());
        let source = self.docker().join("postgres/standby.sh");
        fs::copy(repository().join("docker/postgres/standby.sh"), &source).unwrap();
        let script = self.file(
            "postgres/standby.sh",
            &[("pg_basebackup -h primary", &basebackup), ("exec postgres", &server)],
        );
        let own_script = self.programs.folder().join(format!("{name}.sh"));
        fs::copy(script, &own_script).unwrap();
        let mut command = self.postgres("bash");
        command
            .arg(own_script)
            .env_remove("PGHOST")
            .env_remove("PGUSER")
            .env_remove("PGPORT")
            .env("PGDATA", folder);
        self.programs.start(&name, &mut command);
    }

    fn start_hawser(&mut self) {
        let file = self.file("hawser.toml", &[]);
        let mut command = Command::new(binary());
        command.arg(file).current_dir(self.programs.folder()).env_remove("DATABASE_URL");
        self.programs.start("hawser", &mut command);
    }

    fn start_prometheus(&mut self) {
        let file = self.file("prometheus/prometheus.yml", &[("interval: 15s", "interval: 1s")]);
        let mut command = Command::new("/usr/bin/prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", self.programs.folder().join("metrics").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{}", self.prometheus));
        self.programs.start("prometheus", &mut command);
    }

    fn client(&self, user: &str, database: &str) -> Client {
        let password = self.secret(&format!("{user}_password"));
        Client::login(self.sql, &Account { user: user.into(), database: database.into(), password })
    }

    /// What Prometheus says, if it is there and has no complaint.
    fn prometheus(&self, path: &str) -> Option<serde_json::Value> {
        std::net::TcpStream::connect(("127.0.0.1", self.prometheus)).ok()?;
        let (status, body) = http_get(self.prometheus, path, &[]);
        (status == 200).then(|| serde_json::from_str::<serde_json::Value>(&body).unwrap()["data"].clone())
    }

    /// Says that it is well, as the image's HEALTHCHECK asks.
    fn is_healthy(&self) -> bool {
        let place = format!("postgres://127.0.0.1:{}", self.sql);
        Program::new(binary()).args(["health", &place]).run().success
    }
}

/// For a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

/// Expressions of the dashboard and of the alerts, with Grafana's variables filled in.
fn expressions() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("docker/grafana/dashboards/hawser.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut all: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    let alerts = read("docker/prometheus/alerts.yml");
    all.extend(alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned));
    let filled = |text: &String| {
        text.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$database", ".*")
    };
    all.iter().map(filled).collect()
}

/// Names of metrics in an expression.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("hawser_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_files_of_the_compose_file_make_a_site_that_works_is_watched_and_survives_a_failover() {
    let mut scene = Deployment::new();
    scene.start_primary();
    scene.start_standby(1);
    scene.start_standby(2);
    scene.start_hawser();
    wait_until("Hawser is healthy", || scene.is_healthy());

    let mut app = scene.client("app", "app");
    let mut console = scene.client("admin", "hawser");
    let mut hosts = || {
        let rows = console.query("SELECT role, usable FROM hawser.hosts");
        let rows = rows.iter().filter(|message| message.tag == b'D').map(|row| row.columns());
        rows.map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    wait_long_until("every host is found", || hosts() == ["primary yes", "standby yes", "standby yes"]);
    app.execute("CREATE TABLE t(i int)");
    app.execute("INSERT INTO t VALUES (1)");
    assert_eq!(app.value("SELECT count(*) FROM t"), "1");
    wait_until("reads go to a standby", || {
        app.value("/* hawser: standby */ SELECT pg_is_in_recovery()") == "t"
    });

    assert_eq!(http_get(scene.http, "/metrics", &[]).0, 401, "a token is needed");
    assert_eq!(http_get(scene.http, "/readyz", &[]).0, 200);
    prometheus_finds_everything(&mut scene);

    scene.programs.kill9("primary");
    let mut promote = scene.postgres("psql");
    promote.env("PGPORT", scene.hosts[1].to_string()).args(["-XAtc", "SELECT pg_promote()"]);
    scene.programs.run(&mut promote);
    app.execute("INSERT INTO t VALUES (2)");
    assert_eq!(app.value("SELECT count(*) FROM t"), "2");
    wait_until("health says so", || {
        http_get(scene.http, "/primary", &[]).1.contains(&scene.hosts[1].to_string())
    });

    // As `docker stop`: who is in the middle of something may finish.
    app.execute("BEGIN; INSERT INTO t VALUES (3)");
    scene.programs.signal("hawser", Signal::TERM);
    wait_until("it takes nobody in", || http_get(scene.http, "/readyz", &[]).0 == 503);
    app.send(&query("COMMIT"));
    assert_eq!(app.read_until_ready()[0].strings(), ["COMMIT"]);
    drop((app, console));
    wait_until("it has ended", || std::net::TcpStream::connect(("127.0.0.1", scene.http)).is_err());
}

/// Prometheus scrapes with its token, evaluates every alert, understands every expression of the dashboard, and has every
/// metric in them.
fn prometheus_finds_everything(scene: &mut Deployment) {
    // One of everything that is counted only when it happens.
    let mut app = scene.client("app", "app");
    app.error("SELECT 1/0");
    app.execute("CREATE TEMP TABLE pinned(i int)");
    scene.start_prometheus();
    wait_until("Prometheus scrapes", || {
        scene.prometheus("/api/v1/targets").is_some_and(|targets| {
            let target = &targets["activeTargets"][0];
            assert_eq!(targets["droppedTargets"].as_array().map(Vec::len), Some(0));
            target["health"] == "up"
        })
    });
    wait_long_until("every alert is evaluated", || {
        let groups = scene.prometheus("/api/v1/rules").unwrap()["groups"].clone();
        let rules = groups[0]["rules"].as_array().unwrap().clone();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
        rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok" && rule["state"] != "firing")
    });
    let mut used = BTreeSet::new();
    for expression in expressions() {
        let path = format!("/api/v1/query?query={}", encoded(&expression));
        assert!(scene.prometheus(&path).is_some(), "{expression}");
        used.append(&mut metrics_in(&expression));
    }
    wait_until(&format!("every metric of {used:?} is there"), || {
        let names = scene.prometheus("/api/v1/label/__name__/values").unwrap();
        let names: BTreeSet<&str> =
            names.as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
        used.iter().all(|name| names.contains(name.as_str()))
    });
    app.terminate();
}
