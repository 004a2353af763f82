//! What an operator sees of hosts and routes is true, and what is ordered of a host happens.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::Duration;

use hawser::scratch::free_port;
use hawser_tests::raw::messages::query;
use hawser_tests::raw::{Client, sqlstates};
use hawser_tests::{Account, Config, Ensemble, http_get, wait_until};

/// A read that tells where it ran.
const PORT: &str = "/* hawser: standby */ SELECT inet_server_port()";

/// Hosts with a Hawser in front whose only user is also its operator.
struct Scene {
    ensemble: Ensemble,
    http: u16,
}

impl Scene {
    fn new(standbys: usize, change: impl FnOnce(Config) -> Config) -> Self {
        let http = free_port().unwrap();
        let ensemble = Ensemble::with_conf(standbys, &["synchronous_commit = on"], |config| {
            change(config.set("http.address", format!("\"127.0.0.1:{http}\"")).set(
                "auth.rules",
                "[\"host hawser,pgbouncer all all trust\", \"host all all all scram-sha-256\"]",
            ))
            .set("admin.users", "[\"operator\"]")
            .user_with("operator", "password = \"unused\"")
        });
        let mut client = ensemble.client();
        client.execute("CREATE TABLE t(i int)");
        ensemble.wait_for_replay();
        let scene = Self { ensemble, http };
        for host in 1..=standbys {
            scene.wait_for_reads(host);
        }
        scene
    }

    fn console(&self) -> Client {
        let operator =
            Account { user: "operator".into(), database: "hawser".into(), password: "unused".into() };
        Client::login(self.ensemble.hawser.port(), &operator)
    }

    fn port(&self, host: usize) -> String {
        self.ensemble.hosts[host].port().to_string()
    }

    fn address(&self, host: usize) -> String {
        format!("127.0.0.1:{}", self.port(host))
    }

    /// Waits until a read runs on this host.
    #[track_caller]
    fn wait_for_reads(&self, host: usize) {
        let mut client = self.ensemble.client();
        wait_until("reads go to the host", || client.value(PORT) == self.port(host));
    }

    /// A client in a transaction on the first standby.
    #[track_caller]
    fn reader_in_transaction(&self) -> Client {
        let mut reader = self.ensemble.client();
        wait_until("a transaction runs on the standby", || {
            reader.execute("BEGIN READ ONLY");
            let there = reader.value(PORT) == self.port(1);
            if !there {
                reader.execute("COMMIT");
            }
            there
        });
        reader
    }

    /// Columns of SHOW HOSTS for one host.
    fn host(&self, console: &mut Client, host: usize, columns: &str) -> Vec<String> {
        let sql = format!("SELECT {columns} FROM hawser.hosts WHERE host = '{}'", self.address(host));
        rows(console, &sql).remove(0)
    }

    /// What a server has of connections of clients; those of probes do not count.
    fn connections(&self, host: usize) -> usize {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name <> 'hawser health'",
            self.ensemble.account.database
        );
        self.ensemble.hosts[host].psql(&sql).unwrap().trim().parse().unwrap()
    }
}

/// Rows of a simple query; columns that are NULL are empty.
#[track_caller]
fn rows(console: &mut Client, sql: &str) -> Vec<Vec<String>> {
    let messages = console.query(sql);
    assert!(messages.iter().all(|message| message.tag != b'E'), "{sql}: {messages:?}");
    let rows = messages.iter().filter(|message| message.tag == b'D');
    rows.map(|row| row.columns().into_iter().map(Option::unwrap_or_default).collect()).collect()
}

#[test]
fn hosts_are_shown_as_they_are() {
    let scene = Scene::new(1, |config| config);
    let mut console = scene.console();
    let columns = "role, writes, usable, state, timeline, banned";
    assert_eq!(scene.host(&mut console, 0, columns), ["primary", "yes", "yes", "up", "1", "no"]);
    assert_eq!(scene.host(&mut console, 1, columns), ["standby", "no", "yes", "up", "1", "no"]);
    let version = scene.ensemble.hosts[0].psql("SHOW server_version_num").unwrap();
    assert_eq!(scene.host(&mut console, 0, "version"), [version.trim()]);
    assert_eq!(scene.host(&mut console, 1, "cluster"), ["*"]);
    // One client has read and written: a server connection on each.
    let servers: usize = scene.host(&mut console, 1, "servers")[0].parse().unwrap();
    assert!(servers > 0);
    wait_until("as many are counted as the server has", || {
        scene.host(&mut console, 1, "servers")[0] == scene.connections(1).to_string()
    });
    let written = scene.ensemble.hosts[0].psql("SELECT pg_current_wal_insert_lsn()").unwrap();
    let position = written.trim().to_owned();
    wait_until("the standby is seen to have replayed everything", || {
        let shown = scene.host(&mut console, 1, "lsn, lag_bytes");
        shown[1] == "0" && at_least(&shown[0], &position)
    });
}

/// Whether a position in the log is not before another one. What is shown is rounded down to its page's beginning where
/// it points behind the page's head.
fn at_least(shown: &str, wanted: &str) -> bool {
    let number = |text: &str| {
        let (high, low) = text.split_once('/').unwrap();
        (u64::from_str_radix(high, 16).unwrap() << 32) + u64::from_str_radix(low, 16).unwrap()
    };
    number(shown) + 64 >= number(wanted)
}

#[test]
fn a_banned_standby_gets_no_reads_until_its_ban_is_lifted() {
    let scene = Scene::new(2, |config| config);
    let mut console = scene.console();
    let mut clients: Vec<Client> = (0..8).map(|_| scene.ensemble.client()).collect();
    console.execute(&format!("BAN {}", scene.address(1)));
    // It holds for sessions that are there and for new ones, on every worker, from the answer on.
    clients.extend((0..8).map(|_| scene.ensemble.client()));
    for _ in 0..20 {
        for client in &mut clients {
            assert_ne!(client.value(PORT), scene.port(1));
        }
    }
    let shown = scene.host(&mut console, 1, "state, usable, banned");
    assert_eq!(shown, ["banned by an operator", "no", "yes"]);
    let (status, body) = http_get(scene.http, "/standby", &[]);
    assert_eq!(status, 200);
    assert!(body.contains(&scene.port(2)) && !body.contains(&scene.port(1)), "{body}");
    let banned = format!("hawser_host_banned{{cluster=\"*\",host=\"{}\"}} 1", scene.address(1));
    assert!(http_get(scene.http, "/metrics", &[]).1.contains(&banned));
    console.execute(&format!("BAN {}", scene.address(2)));
    assert_eq!(http_get(scene.http, "/standby", &[]).0, 503);
    assert_eq!(clients[0].value(PORT), scene.port(0));
    console.execute(&format!("UNBAN '{}'", scene.address(1)));
    assert_eq!(scene.host(&mut console, 1, "state, banned"), ["up", "no"]);
    scene.wait_for_reads(1);
    assert_eq!(console.error(&format!("BAN {}", scene.address(0))).sqlstate(), "55000");
    assert_eq!(console.error("BAN elsewhere:5432").sqlstate(), "42704");
}

#[test]
fn a_drained_standby_is_left_by_everybody_and_what_is_under_way_there_ends_in_peace() {
    let scene = Scene::new(1, |config| config);
    let mut console = scene.console();
    let mut reader = scene.reader_in_transaction();
    console.send(&query(&format!("DRAIN {}", scene.address(1))));
    let mut other = scene.console();
    wait_until("only the transaction is left", || {
        scene.host(&mut other, 1, "banned, servers") == ["draining", "1"] && scene.connections(1) == 1
    });
    assert_eq!(scene.ensemble.client().value(PORT), scene.port(0));
    assert_eq!(reader.value(PORT), scene.port(1));
    console.expect_silence(Duration::from_millis(50));
    reader.execute("COMMIT");
    assert_eq!(console.read_until_ready()[0].strings(), ["DRAIN"]);
    assert_eq!(scene.host(&mut other, 1, "banned, servers"), ["drained", "0"]);
    assert_eq!(reader.value(PORT), scene.port(0));
    wait_until("the standby has seen them go", || scene.connections(1) == 0);
    other.execute(&format!("UNBAN {}", scene.address(1)));
    scene.wait_for_reads(1);
}

#[test]
fn a_drain_does_not_wait_for_ever() {
    let scene = Scene::new(1, |config| config.set("timeouts.shutdown", "\"300ms\""));
    let mut console = scene.console();
    let mut reader = scene.reader_in_transaction();
    let error = console.error(&format!("DRAIN {}", scene.address(1)));
    assert_eq!(error.sqlstate(), "55000");
    assert!(error.text().ends_with("still has 1 server connections; it stays banned"), "{}", error.text());
    assert_eq!(reader.value(PORT), scene.port(1));
    reader.execute("COMMIT");
    console.execute(&format!("DRAIN {}", scene.address(1)));
}

#[test]
fn work_that_is_held_goes_on_with_the_new_primary() {
    let mut scene = Scene::new(1, |config| config);
    let mut console = scene.console();
    let mut inside = scene.ensemble.client();
    inside.execute("BEGIN; INSERT INTO t VALUES (1)");
    let name = scene.ensemble.account.database.clone();
    console.send(&query(&format!("HOLD {name}")));
    let mut other = scene.console();
    let held = format!("SELECT held, paused FROM databases WHERE name = '{name}'");
    wait_until("the hold has begun", || rows(&mut other, &held) == [["1", "0"]]);
    let mut waiting = scene.ensemble.client();
    waiting.send(&query("INSERT INTO t VALUES (2)"));
    wait_until("a client waits", || rows(&mut other, "SELECT id FROM hawser.waiters").len() == 1);
    inside.execute("COMMIT");
    assert_eq!(console.read_until_ready()[0].strings(), ["HOLD"]);
    scene.ensemble.wait_for_replay();
    scene.ensemble.hosts[0].kill9().unwrap();
    scene.ensemble.hosts[1].promote().unwrap();
    scene.ensemble.wait_for_primary(1, 2);
    assert_eq!(sqlstates(&waiting.read_until_ready()), Vec::<String>::new());
    assert_eq!(waiting.value("SELECT count(*) FROM t"), "2");
    assert_eq!(inside.value("SELECT count(*) FROM t"), "2");
    assert_eq!(rows(&mut other, &held), [["0", "0"]]);
}

#[test]
fn work_that_is_held_goes_on_where_it_is_by_release_or_when_nothing_has_come() {
    let mut scene = Scene::new(1, |config| config.set("timeouts.hold", "\"9s\""));
    let mut console = scene.console();
    let mut reader = scene.ensemble.client();
    wait_until("reads go to the standby", || reader.value(PORT) == scene.port(1));
    let mut waiting = scene.ensemble.client();
    console.execute("HOLD");
    waiting.send(&query("INSERT INTO t VALUES (1)"));
    waiting.expect_silence(Duration::from_millis(100));
    assert_eq!(reader.value(PORT), scene.port(1));
    console.execute("RELEASE");
    assert_eq!(sqlstates(&waiting.read_until_ready()), Vec::<String>::new());
    // Nobody releases it, and it ends before those who wait are told that there is no primary.
    console.execute("HOLD");
    waiting.send(&query("INSERT INTO t VALUES (2)"));
    assert_eq!(sqlstates(&waiting.read_until_ready()), Vec::<String>::new());
    console.execute("RELEASE");
    assert_eq!(waiting.value("SELECT count(*) FROM t"), "2");
    scene.ensemble.hosts[0].kill9().unwrap();
    scene.ensemble.hawser.wait_for_log("no primary");
    assert_eq!(sqlstates(&console.query("HOLD")).len(), 1);
}

#[test]
fn a_failover_is_told_by_the_console_the_metrics_and_the_health_checks() {
    let mut scene = Scene::new(1, |config| config);
    let mut console = scene.console();
    assert_eq!(http_get(scene.http, "/primary", &[]).0, 200);
    assert!(http_get(scene.http, "/primary", &[]).1.contains(&scene.port(0)));
    assert!(http_get(scene.http, "/standby", &[]).1.contains(&scene.port(1)));
    assert_eq!(rows(&mut console, "SHOW FAILOVERS").len(), 0);
    scene.ensemble.hosts[0].kill9().unwrap();
    scene.ensemble.hawser.wait_for_log("no primary");
    assert_eq!(http_get(scene.http, "/primary", &[]).0, 503);
    assert!(http_get(scene.http, "/metrics", &[]).1.contains("hawser_cluster_has_primary{cluster=\"*\"} 0"));
    scene.ensemble.hosts[1].promote().unwrap();
    scene.ensemble.wait_for_primary(1, 2);
    wait_until("the failover is over", || {
        rows(&mut console, "SELECT from_host, to_host FROM hawser.failovers")
            == [[scene.address(0), scene.address(1)]]
    });
    let told = rows(&mut console, "SELECT cluster, lost_ms, phases FROM hawser.failovers").remove(0);
    assert_eq!(told[0], "*");
    assert!(told[1].parse::<u64>().is_ok(), "{told:?}");
    assert!(told[2].contains("promoted"), "{told:?}");
    assert_eq!(http_get(scene.http, "/primary", &[]).0, 200);
    assert_eq!(http_get(scene.http, "/standby", &[]).0, 503, "the old primary is down");
    let shown = scene.host(&mut console, 0, "role, writes, usable");
    assert_eq!(shown[1..], ["no", "no"]);
    assert_eq!(scene.host(&mut console, 1, "role, writes, timeline"), ["primary", "yes", "2"]);
}

#[test]
fn it_is_told_where_batches_went_and_why_and_where_a_text_would_go() {
    let scene = Scene::new(1, |config| config);
    let (mut console, mut client) = (scene.console(), scene.ensemble.client());
    let name = &scene.ensemble.account.database;
    let total = |console: &mut Client, reason: &str| -> u64 {
        let sql = format!("SELECT total FROM hawser.routes WHERE reason = '{reason}'");
        rows(console, &sql)[0][0].parse().unwrap()
    };
    let before = (total(&mut console, "write"), total(&mut console, "asked"));
    client.execute("INSERT INTO t VALUES (1)");
    client.execute("UPDATE t SET i = 2");
    client.execute("SET hawser.route = 'primary'");
    client.execute("SELECT count(*) FROM t");
    client.execute("SELECT count(*) FROM t");
    client.execute("RESET hawser.route");
    assert!(total(&mut console, "asked") >= before.1 + 2);
    assert!(total(&mut console, "write") >= before.0 + 2);
    assert!(total(&mut console, "read") > 0);
    let shape = "SELECT host, reasons FROM hawser.fingerprints WHERE query LIKE 'update t set%'";
    assert_eq!(rows(&mut console, shape), [["primary", "write 1"]]);
    let shape = "SELECT reasons FROM hawser.fingerprints WHERE query LIKE 'select count(%from t' AND host = 'primary'";
    let shown = rows(&mut console, shape);
    assert!(shown.iter().any(|row| row[0].contains("asked 2")), "{shown:?}");
    let explain =
        |console: &mut Client, text: &str| rows(console, &format!("EXPLAIN ROUTE {name} '{text}'")).remove(0);
    let told = explain(&mut console, "INSERT INTO t VALUES (1)");
    assert_eq!((told[0].as_str(), &told[4]), ("primary", &scene.address(0)));
    wait_until("the standby would have it", || {
        explain(&mut console, "SELECT i FROM t")[4] == scene.address(1)
    });
    console.execute(&format!("BAN {}", scene.address(1)));
    let told = explain(&mut console, "SELECT i FROM t");
    assert_eq!((told[0].as_str(), &told[4], told[5].as_str()), ("standby", &scene.address(0), "no standby"));
}

#[test]
fn the_time_that_a_client_does_not_read_is_not_the_servers() {
    let scene = Scene::new(1, |config| config);
    let (mut console, mut client) = (scene.console(), scene.ensemble.client());
    client.execute("SET hawser.route = 'primary'");
    // More than all buffers on the way hold together.
    client.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 60000)"));
    let stuck = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    wait_until("everything on the way is full", || {
        scene.ensemble.hosts[0].psql(stuck).unwrap().trim() == "1"
    });
    client.read_until_ready();
    let name = &scene.ensemble.account.database;
    let spent = |console: &mut Client, what: &str| -> u64 {
        let sql = format!(
            "SELECT sum_us FROM hawser.latency WHERE what = '{what}' AND database = '{name}' AND host = 'primary'"
        );
        rows(console, &sql)[0][0].parse().unwrap()
    };
    assert!(spent(&mut console, "network") > 0);
}
