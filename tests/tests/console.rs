//! The console: what PgBouncer's tools expect column by column, every command, every driver, and who may do what.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::process::Stdio;

use hawser_tests::raw::messages::{bind, describe, execute, extended, parse, query, sync};
use hawser_tests::raw::{Backend, Client};
use hawser_tests::{Account, Config, Program, Site, cluster, http_get, repository, wait_until};

/// PgBouncer's tables: name, then its columns with their types (t text, i int4, q int8, N numeric, b bytea).
const TABLES: &[(&str, &str)] = &[
    ("config", "key t, value t, default t, changeable t"),
    (
        "databases",
        "name t, host t, port i, database t, force_user t, pool_size i, min_pool_size i, reserve_pool_size i, \
         server_lifetime i, pool_mode t, load_balance_hosts t, max_connections i, current_connections i, \
         max_client_connections i, current_client_connections i, paused i, disabled i",
    ),
    (
        "pools",
        "database t, user t, cl_active i, cl_waiting i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active i, \
         sv_active_cancel i, sv_being_canceled i, sv_idle i, sv_used i, sv_tested i, sv_login i, maxwait i, \
         maxwait_us i, pool_mode t, load_balance_hosts t",
    ),
    ("clients", LINKS),
    ("servers", LINKS),
    ("sockets", SOCKETS),
    ("active_sockets", SOCKETS),
    (
        "users",
        "name t, pool_size t, reserve_pool_size t, pool_mode t, max_user_connections i, current_connections i, \
         max_user_client_connections i, current_client_connections i",
    ),
    (
        "stats",
        "database t, total_server_assignment_count N, total_xact_count N, total_query_count N, total_received N, \
         total_sent N, total_xact_time N, total_query_time N, total_wait_time N, total_client_parse_count N, \
         total_server_parse_count N, total_bind_count N, total_client_login_count N, avg_server_assignment_count N, \
         avg_xact_count N, avg_query_count N, avg_recv N, avg_sent N, avg_xact_time N, avg_query_time N, \
         avg_wait_time N, avg_client_parse_count N, avg_server_parse_count N, avg_bind_count N, \
         avg_client_login_count N",
    ),
    (
        "stats_totals",
        "database t, server_assignment_count N, xact_count N, query_count N, bytes_received N, bytes_sent N, \
         xact_time N, query_time N, wait_time N, client_parse_count N, server_parse_count N, bind_count N, \
         client_login_count N",
    ),
    (
        "stats_averages",
        "database t, server_assignment_count N, xact_count N, query_count N, bytes_received N, bytes_sent N, \
         xact_time N, query_time N, wait_time N, avg_client_parse_count N, avg_server_parse_count N, \
         avg_bind_count N, avg_client_login_count N",
    ),
    ("totals", "name t, value N"),
    ("lists", "list t, items i"),
    ("peers", "peer_id i, host t, port i, pool_size i"),
    (
        "peer_pools",
        "peer_id i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active_cancel i, sv_login i",
    ),
    ("mem", "name t, size i, used i, free i, memtotal i"),
    ("state", "key t, value t"),
    ("dns_hosts", "hostname t, ttl q, addrs t"),
    ("dns_zones", "zonename t, serial q, count i"),
    (
        "fds",
        "fd i, task t, user t, database t, addr t, port i, cancel q, link i, client_encoding t, std_strings t, \
         datestyle t, timezone t, password t, scram_client_key b, scram_server_key b",
    ),
    ("version", "version t"),
];

const LINKS: &str = "type t, user t, database t, replication t, state t, addr t, port i, local_addr t, local_port i, \
     connect_time t, request_time t, wait i, wait_us i, close_needed i, ptr t, link t, remote_pid i, tls t, \
     application_name t, prepared_statements i, id i";

const SOCKETS: &str = "type t, user t, database t, replication t, state t, addr t, port i, local_addr t, local_port i, \
     connect_time t, request_time t, wait i, wait_us i, close_needed i, ptr t, link t, remote_pid i, tls t, \
     application_name t, prepared_statements i, id i, recv_pos i, pkt_pos i, pkt_remain i, send_pos i, \
     send_remain i, pkt_avail i, send_avail i";

/// A Hawser whose only user is also its operator.
fn site(change: impl FnOnce(Config) -> Config) -> Site {
    let account = Account::new(cluster());
    let config = Config::new(cluster(), &account).set("admin.users", format!("[{:?}]", account.user));
    Site::of(account, &change(config))
}

fn operator(site: &Site) -> Account {
    Account { database: "pgbouncer".to_owned(), ..site.account.clone() }
}

fn console(site: &Site) -> Client {
    Client::login(site.port, &operator(site))
}

/// Rows of a simple query; columns that are NULL are empty.
fn rows(console: &mut Client, sql: &str) -> Vec<Vec<String>> {
    let messages = console.query(sql);
    assert!(messages.iter().all(|message| message.tag != b'E'), "{sql}: {messages:?}");
    let rows = messages.iter().filter(|message| message.tag == b'D');
    rows.map(|row| row.columns().into_iter().map(Option::unwrap_or_default).collect()).collect()
}

/// Columns of a RowDescription, as [`TABLES`] writes them.
fn columns(description: &Backend) -> Vec<String> {
    assert_eq!(description.tag, b'T', "{description:?}");
    let mut rest = &description.body[2..];
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let name = String::from_utf8(rest[..end].to_vec()).unwrap();
        let oid = u32::from_be_bytes(rest[end + 7..end + 11].try_into().unwrap());
        let kind = match oid {
            25 => "t",
            23 => "i",
            20 => "q",
            1700 => "N",
            17 => "b",
            other => panic!("{name} has type {other}"),
        };
        columns.push(format!("{name} {kind}"));
        rest = &rest[end + 19..];
    }
    columns
}

#[test]
fn every_table_of_pgbouncer_has_its_columns_in_its_order_and_the_tag_show() {
    let site = site(|config| config);
    site.client().execute("SELECT 1");
    let mut console = console(&site);
    for (table, expected) in TABLES {
        let expected: Vec<&str> = expected.split(", ").collect();
        let messages = console.query(&format!("SHOW {};", table.to_uppercase()));
        let found = columns(&messages[0]);
        // Columns of ours come behind.
        assert_eq!(found[..expected.len()], expected, "{table}");
        let exact = ["config", "lists", "totals", "stats_totals", "stats_averages", "state", "version"];
        assert!(!exact.contains(table) || found.len() == expected.len(), "{table}: {found:?}");
        assert_eq!(messages[messages.len() - 2].strings(), ["SHOW"], "{table}");
        // The extended protocol says the same.
        console.send(&[extended(&format!("SHOW {table}"), &[]), sync()].concat());
        let messages = console.read_until_ready();
        assert!(messages.iter().all(|message| message.tag != b'E'), "{table}: {messages:?}");
    }
}

/// Columns that the community's pgbouncer_exporter looks up by name and reads as numbers. Source: its `collector.go`.
const EXPORTED: &[(&str, &str)] = &[
    ("databases", "pool_size, reserve_pool, max_connections, current_connections, paused, disabled"),
    (
        "stats_totals",
        "query_count, query_time, bytes_received, bytes_sent, wait_time, xact_count, xact_time, client_parse_count, \
         server_parse_count, bind_count",
    ),
    (
        "pools",
        "cl_active, cl_active_cancel_req, cl_waiting, cl_waiting_cancel_req, sv_active, sv_active_cancel, \
         sv_being_canceled, sv_idle, sv_used, sv_tested, sv_login, maxwait",
    ),
];

#[test]
fn rows_and_columns_that_tools_look_up_by_name_are_there() {
    let site = site(|config| config);
    site.client().execute("SELECT 1");
    let mut console = console(&site);
    let names = |rows: Vec<Vec<String>>| rows.into_iter().map(|mut row| row.remove(0)).collect::<Vec<_>>();
    let lists = names(rows(&mut console, "SHOW LISTS"));
    let expected = "databases users peers pools peer_pools free_clients used_clients login_clients free_servers \
                    used_servers dns_names dns_zones dns_queries dns_pending";
    assert_eq!(lists, expected.split(' ').collect::<Vec<_>>());
    let totals = names(rows(&mut console, "SHOW TOTALS"));
    let counters = "server_assignment_count xact_count query_count client_bytes server_bytes xact_time query_time \
                    wait_time ps_client_parse_count ps_server_parse_count ps_bind_count client_login_count";
    let expected: Vec<String> = ["total", "avg"]
        .iter()
        .flat_map(|kind| counters.split(' ').map(move |counter| format!("{kind}_{counter}")))
        .collect();
    assert_eq!(totals, expected);
    assert_eq!(names(rows(&mut console, "SHOW STATE")), ["active", "paused", "suspended"]);
    assert!(rows(&mut console, "SHOW VERSION")[0][0].starts_with("PgBouncer 1.25"));
    for (table, columns) in EXPORTED {
        for row in rows(&mut console, &format!("SELECT {columns} FROM {table}")) {
            assert!(row.iter().all(|value| value.parse::<f64>().is_ok()), "{table}: {row:?}");
        }
    }
    let limits = "SELECT value FROM config WHERE key IN ('max_client_conn', 'max_user_connections')";
    let limits = rows(&mut console, limits);
    assert!(limits.len() == 2 && limits.iter().all(|row| row[0].parse::<f64>().is_ok()), "{limits:?}");
}

#[test]
fn what_is_shown_is_true() {
    let site = site(|config| config.set("pool.size", 3).database("pool_size = 2"));
    let mut client = site.client();
    client.execute("BEGIN; SELECT 1");
    let mut console = console(&site);
    let name = &site.account.database;
    let pool =
        format!("SELECT cl_active, sv_active, sv_idle, pool_mode FROM pools WHERE database = '{name}'");
    assert_eq!(rows(&mut console, &pool), [["1", "1", "0", "transaction"]]);
    let sizes = format!("SELECT pool_size, current_connections FROM databases WHERE name = '{name}'");
    assert_eq!(rows(&mut console, &sizes), [["2", "1"]]);
    let linked =
        rows(&mut console, "SELECT link, state, remote_pid FROM clients WHERE database <> 'pgbouncer'");
    let server = rows(&mut console, "SELECT ptr, state, remote_pid FROM servers");
    assert_eq!(linked, server, "client and server connection point at each other");
    let states = rows(&mut console, "SELECT state FROM hawser.transactions");
    assert_eq!(states, [["idle in transaction"]]);
    client.execute("COMMIT");
    // Hawser may look at the catalogue over the connection first.
    wait_until("the connection is idle", || rows(&mut console, &pool) == [["1", "0", "1", "transaction"]]);
    let stats = format!(
        "SELECT xact_count, query_count, client_login_count FROM stats_totals WHERE database = '{name}'"
    );
    assert_eq!(rows(&mut console, &stats), [["1", "2", "1"]]);
    client.execute("LISTEN a");
    client.error("SELECT 1/0");
    let errors = rows(&mut console, "SELECT sqlstate, total FROM hawser.errors");
    assert_eq!(errors, [["22012", "1"]]);
    client.execute("CREATE TEMP TABLE pinned (a int)");
    // The server is asked what the statement left behind.
    wait_until("the pin is told", || {
        let pins = "SELECT reason, sessions, total FROM hawser.pins WHERE reason = 'temporary_object'";
        rows(&mut console, pins) == [["temporary_object", "1", "1"]]
    });
    client.terminate();
    wait_until("the pin is gone", || {
        rows(&mut console, "SELECT sessions FROM hawser.pins WHERE reason = 'temporary_object'") == [["0"]]
    });
}

#[test]
fn queries_are_counted_by_their_shape() {
    let site = site(|config| config.set("workers", 1).set("pool.size", 1));
    let mut client = site.client();
    for number in 0..3 {
        client.execute(&format!("SELECT generate_series(1, 10) AS number_{number} LIMIT {}", number + 1));
        client.execute(&format!("select  generate_series(1,{number})"));
    }
    client.error("SELECT no_such_column");
    client.send(&[parse("twice", "SELECT $1::int * 2"), sync()].concat());
    client.expect("1Z");
    for _ in 0..5 {
        client.send(&[bind("", "twice", &[Some("1")]), execute("", 0), sync()].concat());
        client.expect("2DCZ");
    }
    let mut console = console(&site);
    let found = rows(
        &mut console,
        "SELECT calls, rows, errors FROM hawser.fingerprints WHERE query LIKE '%generate_series(?, ?)' ",
    );
    assert_eq!(found, [["3", "3", "0"]]);
    let found = rows(
        &mut console,
        "SELECT calls, errors FROM hawser.fingerprints WHERE query LIKE '%no_such_column'",
    );
    assert_eq!(found, [["1", "1"]]);
    let found = rows(&mut console, "SELECT calls, rows FROM hawser.fingerprints WHERE query LIKE '%* ?'");
    assert_eq!(found, [["5", "5"]]);
    let found = rows(&mut console, "SELECT query, users FROM hawser.prepared");
    assert_eq!(found, [["SELECT $1::int * 2", "2"]], "one client and one server connection have it");
}

#[test]
fn a_session_is_shown_once_and_where_it_is_however_it_moves() {
    let site = site(|config| config.set("workers", 3).set("balance", "\"roam\""));
    let mut console = console(&site);
    let mut client = site.client();
    let mut seen = BTreeSet::new();
    for _ in 0..12 {
        client.execute("BEGIN; SELECT 1");
        seen.extend(rows(&mut console, "SELECT worker FROM hawser.transactions").concat());
        client.execute("COMMIT");
        let shown = rows(&mut console, "SHOW CLIENTS");
        let served = shown.iter().filter(|row| row[2] == site.account.database);
        assert!(served.count() <= 1, "{shown:?}");
    }
    assert_eq!(seen, ["0", "1", "2"].map(String::from).into());
    wait_until("it is served by one of three workers, and has left others twelve times", || {
        let workers = rows(&mut console, "SELECT clients, departures FROM hawser.workers");
        let sum = |column: usize| workers.iter().map(|row| row[column].parse::<u64>().unwrap()).sum::<u64>();
        (workers.len(), sum(0), sum(1)) == (3, 1, 12)
    });
}

#[test]
fn a_pause_waits_for_transactions_closes_their_connections_and_clients_wait_until_resume() {
    let site = site(|config| config);
    let mut inside = site.client();
    inside.execute("BEGIN; SELECT 1");
    let mut console = console(&site);
    console.send(&query("PAUSE"));
    let mut other = self::console(&site);
    wait_until("the pause has begun", || rows(&mut other, "SHOW STATE")[1] == ["paused", "yes"]);
    let mut waiting = site.client();
    waiting.send(&query("SELECT 'waited'"));
    wait_until("a client waits", || rows(&mut other, "SELECT id FROM hawser.waiters").len() == 1);
    assert_eq!(other.error("PAUSE").text(), "already suspended/paused");
    console.expect_silence(std::time::Duration::from_millis(50));
    inside.execute("COMMIT");
    assert_eq!(console.read_until_ready()[0].strings(), ["PAUSE"]);
    assert_eq!(site.server_connections().0, 0);
    waiting.expect_silence(std::time::Duration::from_millis(50));
    other.execute("RESUME");
    assert_eq!(waiting.read_until_ready()[1].first(), "waited");
    assert_eq!(other.error("RESUME").text(), "pooler is not paused/suspended");
}

#[test]
fn a_pause_that_somebody_ends_says_so() {
    let site = site(|config| config);
    let mut inside = site.client();
    inside.execute("BEGIN; SELECT 1");
    let mut console = console(&site);
    let name = site.account.database.clone();
    console.send(&query(&format!("PAUSE {name}")));
    let mut other = self::console(&site);
    wait_until("the pause has begun", || {
        rows(&mut other, &format!("SELECT paused FROM databases WHERE name = '{name}'")) == [["1"]]
    });
    other.execute(&format!("RESUME {name}"));
    assert_eq!(console.read_until_ready()[0].sqlstate(), "57014");
    assert_eq!(other.error(&format!("RESUME {name}")).text(), format!("database {name} is not paused"));
    inside.execute("COMMIT");
}

#[test]
fn what_cannot_be_done_is_refused_in_the_words_of_pgbouncer() {
    let site = site(|config| config);
    site.client().execute("SELECT 1");
    let mut console = console(&site);
    for (order, words) in [
        ("PAUSE pgbouncer", "cannot pause admin db: pgbouncer"),
        ("RECONNECT pgbouncer", "cannot reconnect admin db: pgbouncer"),
        ("DISABLE pgbouncer", "cannot disable admin db: pgbouncer"),
        ("ENABLE hawser", "cannot enable admin db: hawser"),
        ("KILL pgbouncer", "cannot kill admin db: pgbouncer"),
        ("WAIT_CLOSE pgbouncer", "cannot wait in admin db: pgbouncer"),
        ("DISABLE", "a database is required"),
        ("RESUME", "pooler is not paused/suspended"),
        ("KILL_CLIENT me", "invalid client pointer supplied"),
        ("KILL_CLIENT 1", "client not found"),
        ("SHUTDOWN later", "invalid command 'SHUTDOWN later', use SHOW HELP;"),
    ] {
        assert_eq!(console.error(order).text(), words);
    }
    let pause = format!("PAUSE {}", site.account.database);
    console.execute(&pause);
    assert_eq!(console.error("SUSPEND").text(), "cannot suspend with paused databases");
    console.execute(&pause);
    console.execute("PAUSE");
    assert_eq!(console.error(&pause).text(), "already suspended/paused");
    assert_eq!(console.error("SUSPEND").text(), "already suspended/paused");
    console.execute("RESUME");
    site.others_are_well();
}

#[test]
fn operators_are_clients_too_and_can_be_killed() {
    let site = site(|config| config);
    let mut operator = console(&site);
    let mut other = console(&site);
    let name = &site.account.user;
    let shown = rows(&mut operator, "SELECT id, user, database, state, link FROM clients ORDER BY id DESC");
    let who = |row: &[String]| row[1..] == [name.as_str(), "pgbouncer", "idle", ""];
    assert!(shown.len() == 2 && shown.iter().all(|row| who(row)), "{shown:?}");
    assert_eq!(rows(&mut operator, "SELECT items FROM lists WHERE list = 'used_clients'"), [["2"]]);
    operator.execute(&format!("KILL_CLIENT {}", shown[1][0]));
    other.expect_closed();
    wait_until("one is left", || rows(&mut operator, "SELECT count(*) FROM clients") == [["1"]]);
}

#[test]
fn a_suspension_ends_with_the_last_operator() {
    let site = site(|config| config);
    let mut client = site.client();
    client.execute("SELECT 1");
    let mut leaving = console(&site);
    leaving.execute("SUSPEND");
    client.send(&query("SELECT 'well'"));
    let mut staying = console(&site);
    leaving.terminate();
    wait_until("one operator is left", || {
        rows(&mut staying, "SELECT count(*) FROM hawser.clients WHERE database = 'pgbouncer'") == [["1"]]
    });
    assert_eq!(rows(&mut staying, "SELECT value FROM hawser.state WHERE key = 'suspended'"), [["yes"]]);
    client.expect_silence(std::time::Duration::from_millis(50));
    staying.terminate();
    assert_eq!(client.read_until_ready()[1].columns(), [Some("well".to_owned())]);
}

#[test]
fn nobody_sees_an_error_while_pgbench_runs_and_operators_order() {
    let site = site(|config| config.set("pool.size", 4));
    let bench = |arguments: &[&str]| {
        Program::postgres("pgbench")
            .args(["-h", "127.0.0.1", "-p", &site.port.to_string(), "-U", &site.account.user, "-n"])
            .args(arguments)
            .args([site.account.database.as_str()])
            .env("PGPASSWORD", &site.account.password)
    };
    bench(&["-i", "-q"]).succeed();
    let running = std::thread::scope(|scope| {
        let bench = scope.spawn(|| bench(&["-S", "-c", "8", "-t", "3000", "-M", "prepared"]).run());
        let mut console = console(&site);
        let name = &site.account.database;
        wait_until("pgbench runs", || {
            rows(&mut console, &format!("SELECT cl_active FROM pools WHERE database = '{name}'")) != [["0"]]
        });
        // Not for ever: a pool that is closed all the time serves few.
        for _ in 0..10 {
            for order in ["PAUSE", "RESUME", "RECONNECT", "WAIT_CLOSE", "RELOAD", "SUSPEND", "RESUME"] {
                console.execute(order);
            }
            console.execute(&format!("PAUSE {name}"));
            console.execute(&format!("RESUME {name}"));
            console.execute("SET default_pool_size = 5");
        }
        bench.join().unwrap()
    });
    assert!(running.success, "{}\n{}", running.stdout, running.stderr);
    assert!(running.stdout.contains("number of failed transactions: 0"), "{}", running.stdout);
}

#[test]
fn reconnect_replaces_connections_and_wait_close_waits_for_the_old_ones() {
    let site = site(|config| config.set("pool.size", 1));
    let mut client = site.client();
    let before = client.value("SELECT pg_backend_pid()");
    client.execute("BEGIN; SELECT 1");
    let mut console = console(&site);
    console.execute("RECONNECT");
    assert_eq!(rows(&mut console, "SELECT close_needed FROM servers"), [["1"]]);
    console.send(&query("WAIT_CLOSE"));
    console.expect_silence(std::time::Duration::from_millis(50));
    client.execute("COMMIT");
    assert_eq!(console.read_until_ready()[0].strings(), ["WAIT_CLOSE"]);
    assert_ne!(client.value("SELECT pg_backend_pid()"), before);
}

#[test]
fn who_comes_after_reconnect_is_told_what_holds_by_default_then() {
    let site = site(|config| config.set("workers", 2));
    let zone = |site: &Site| site.client().parameter("TimeZone").map(str::to_owned);
    let before = zone(&site);
    let set = format!("ALTER DATABASE \"{}\" SET TimeZone TO 'Asia/Tokyo'", site.account.database);
    cluster().psql(&set).unwrap();
    assert_eq!(zone(&site), before);
    console(&site).execute("RECONNECT");
    for _ in 0..4 {
        assert_eq!(zone(&site).as_deref(), Some("Asia/Tokyo"));
        assert_eq!(site.client().value("SHOW TimeZone"), "Asia/Tokyo");
    }
}

#[test]
fn clients_are_killed_one_by_one_and_by_database_and_the_database_is_paused_then() {
    let site = site(|config| config);
    let (mut one, mut other) = (site.client(), site.client());
    one.execute("SET application_name = 'victim'");
    one.execute("SELECT 1");
    other.execute("SELECT 1");
    let mut console = console(&site);
    let victim = &rows(&mut console, "SELECT id FROM clients WHERE application_name = 'victim'")[0][0];
    console.execute(&format!("KILL_CLIENT {victim}"));
    assert_eq!(one.expect_closed().last().unwrap().sqlstate(), "57P01");
    assert_eq!(other.value("SELECT 'well'"), "well");
    assert_eq!(console.error("KILL_CLIENT 1").text(), "client not found");
    let name = site.account.database.clone();
    console.execute(&format!("KILL {name}"));
    assert_eq!(other.expect_closed().last().unwrap().sqlstate(), "57P01");
    assert_eq!(rows(&mut console, &format!("SELECT paused FROM databases WHERE name = '{name}'")), [["1"]]);
    console.execute(&format!("RESUME {name}"));
    site.others_are_well();
}

#[test]
fn a_disabled_database_lets_nobody_in_and_keeps_who_is_there() {
    let site = site(|config| config);
    let mut old = site.client();
    old.execute("SELECT 1");
    let mut console = console(&site);
    let name = site.account.database.clone();
    console.execute(&format!("DISABLE {name}"));
    let refused = Client::connect(site.port).try_login(&site.account, &[]).unwrap_err();
    assert_eq!(refused.sqlstate(), "57P03");
    assert_eq!(old.value("SELECT 'stays'"), "stays");
    console.execute(&format!("ENABLE {name}"));
    site.others_are_well();
    assert_eq!(console.error("DISABLE").text(), "a database is required");
}

#[test]
fn settings_are_set_by_hand_until_the_next_reload_and_mistakes_are_named() {
    let site = site(|config| config.set("pool.size", 3));
    let mut console = console(&site);
    assert_eq!(console.query("SET default_pool_size = 7")[0].strings(), ["SET default_pool_size=7"]);
    let shown = "SELECT value, source FROM hawser.settings WHERE name = 'pool.size'";
    assert_eq!(rows(&mut console, shown), [["7", "SET on the console"]]);
    assert_eq!(rows(&mut console, "SELECT value FROM config WHERE key = 'default_pool_size'"), [["7"]]);
    let error = console.error("SET query_wait_timeout = 'soon'");
    assert_eq!(error.sqlstate(), "F0000");
    assert_eq!(console.error("SET listen_addr = '0.0.0.0'").sqlstate(), "55P02");
    assert_eq!(console.error("SET nonsense = 1").text(), "unknown setting: nonsense");
    console.execute("RELOAD");
    assert_eq!(rows(&mut console, shown)[0][0], "3");
    std::fs::write(site.hawser().folder().join("hawser.toml"), "pool.sise = 3\n").unwrap();
    let error = console.error("RELOAD");
    assert_eq!(error.sqlstate(), "F0000");
    assert!(error.text().contains("did you mean \"size\"?"), "{}", error.text());
}

#[test]
fn only_operators_come_in_and_those_who_may_look_change_nothing() {
    let account = Account::new(cluster());
    let viewer = account.second_user(cluster());
    let config = Config::new(cluster(), &account)
        .user(&viewer)
        .set("admin.stats_users", format!("[{:?}]", viewer.user));
    let site = Site::of(account, &config);
    let refused = Client::connect(site.port).try_login(&operator(&site), &[]).unwrap_err();
    assert_eq!(refused.sqlstate(), "28000");
    let mut looking = Client::login(site.port, &Account { database: "hawser".to_owned(), ..viewer });
    assert_eq!(rows(&mut looking, "SHOW STATE")[0], ["active", "yes"]);
    for order in ["PAUSE", "RELOAD", "SHOW FDS", "SET pool.size = 1", "SHUTDOWN"] {
        assert_eq!(looking.error(order).text(), "admin access needed", "{order}");
    }
}

#[test]
fn the_owner_of_the_process_needs_no_password_on_the_unix_socket() {
    let folder = std::env::temp_dir().join(format!("hawser-console-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let account = Account::new(cluster());
    let config = Config::new(cluster(), &account).set("listen.unix_dir", format!("{:?}", folder.display()));
    let _site = Site::of(account, &config);
    let psql = |user: &[&str], sql: &str| {
        let folder = folder.display().to_string();
        Program::postgres("psql")
            .args(["-XAtq", "-h", &folder, "-p", "6432", "-d", "pgbouncer", "-c", sql])
            .args(user)
            .run()
    };
    let answer = psql(&["-U", "pgbouncer"], "SHOW VERSION");
    let own = psql(&[], "SHOW STATE");
    let stranger = psql(&["-U", "stranger", "-w"], "SHOW STATE");
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(answer.stdout.starts_with("PgBouncer 1."), "{answer:?}");
    assert!(own.success, "{own:?}");
    assert!(!stranger.success, "{stranger:?}");
}

/// Everything of psql that asks the catalog, but for what asks for a password or an editor.
const PSQL: &[&str] = &[
    "\\d",
    "\\d+",
    "\\d pools",
    "\\d+ pg_class",
    "\\dS",
    "\\da",
    "\\dA",
    "\\dAc",
    "\\dAf",
    "\\dAo",
    "\\dAp",
    "\\db+",
    "\\dc",
    "\\dconfig",
    "\\dC",
    "\\dd",
    "\\dD",
    "\\ddp",
    "\\dE",
    "\\des",
    "\\det",
    "\\deu",
    "\\dew",
    "\\df+",
    "\\dF",
    "\\dFd",
    "\\dFp",
    "\\dFt",
    "\\dg+",
    "\\di",
    "\\dl",
    "\\dL",
    "\\dm",
    "\\dn+",
    "\\do",
    "\\dO",
    "\\dp",
    "\\dP",
    "\\drds",
    "\\dRp",
    "\\dRs",
    "\\ds",
    "\\dt+",
    "\\dT+",
    "\\du+",
    "\\dv",
    "\\dx",
    "\\dX",
    "\\dy",
    "\\l",
    "\\l+",
    "\\z",
    "\\sf now",
    "\\sv views",
    "\\encoding",
    "\\encoding LATIN1",
    "\\encoding UTF8",
    "\\conninfo",
    "SHOW HELP;",
    "SELECT version();",
    "\\x",
    "SHOW POOLS; SHOW LISTS;",
    "SHOW POOLS \\gdesc",
    "SELECT name FROM hawser.databases \\gexec",
    "\\copy pools to '/dev/null'",
    "BEGIN;",
    "SHOW VERSION;",
    "COMMIT;",
];

#[test]
fn psql_gets_along_with_a_server_that_has_no_catalog() {
    let site = site(|config| config);
    let psql = |commands: &[&str]| {
        Program::postgres("psql")
            .args(["-X", "-h", "127.0.0.1", "-p", &site.port.to_string(), "-U", &site.account.user, "hawser"])
            .env("PGPASSWORD", &site.account.password)
            .input(format!("{}\n\\echo the end\nSHOW STATE;\n", commands.join("\n")))
            .run()
    };
    let all = psql(PSQL);
    assert!(all.stdout.contains("Hawser") && all.stderr.contains("Console usage"), "{all:?}");
    for command in PSQL {
        let finished = psql(&[command]);
        // An answer, or an error that says what is not understood; and the next command finds all in order.
        let (_, rest) =
            finished.stdout.split_once("the end").unwrap_or_else(|| panic!("{command}: {finished:?}"));
        assert!(rest.contains("active") && rest.contains("suspended"), "{command}: {finished:?}");
        for line in finished.stderr.lines() {
            let known = [
                "ERROR: ",
                "Did not find any",
                "NOTICE: ",
                "DETAIL: ",
                "\t",
                "invalid command",
                "LINE ",
                "does not support",
            ];
            let broken =
                ["server closed", "synchronization", "unexpected", "message type", "connection to server"];
            assert!(!broken.iter().any(|words| line.contains(words)), "{command}: {line}");
            assert!(line.is_empty() || known.iter().any(|words| line.contains(words)), "{command}: {line}");
        }
    }
}

#[test]
fn tab_completion_of_psql_finds_nothing_and_breaks_nothing() {
    let site = site(|config| config);
    let finished = Program::new("python3")
        .args([Program::driver_file("python/psql_tabs.py")])
        .args([cluster().packages().program("psql")])
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", site.port.to_string())
        .env("PGUSER", &site.account.user)
        .env("PGPASSWORD", &site.account.password)
        .env("PGDATABASE", "hawser")
        .run();
    assert!(finished.success && finished.stdout.contains("ok"), "{finished:?}");
}

#[test]
fn drivers_speak_to_the_console() {
    let site = site(|config| config);
    let with = |program: Program| {
        program
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", site.port.to_string())
            .env("PGUSER", &site.account.user)
            .env("PGPASSWORD", &site.account.password)
            .env("PGDATABASE", "pgbouncer")
            .env("PGSSLMODE", "disable")
    };
    let python = repository().join("target/venv/bin/python");
    assert!(python.is_file(), "{} is missing: run `make drivers` first", python.display());
    let script = Program::driver_file("python/console_check.py");
    assert!(with(Program::new(python).args([script])).succeed().contains("ok"));
    let node = Program::new("node").args(["console_check.js"]).folder(Program::driver_file("node"));
    assert!(with(node).succeed().contains("ok"));
    let java = Program::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/postgresql.jar"])
        .args([Program::driver_file("java/ConsoleCheck.java")]);
    assert!(with(java).succeed().contains("ok"));
}

#[test]
fn a_text_is_explained_without_being_run() {
    let site = site(|config| config);
    let mut console = console(&site);
    let explained = rows(&mut console, "EXPLAIN ROUTE 'SELECT 1; DELETE FROM everything'");
    let hosts: Vec<&str> = explained.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(hosts, ["standby", "primary"]);
    assert_eq!(console.query("EXPLAIN ROUTE app 'SET a TO 1'").last().unwrap().tag, b'Z');
    assert_eq!(console.error("BAN nowhere:1").text(), "no such host: nowhere:1");
    assert_eq!(rows(&mut console, "SELECT count(*) FROM hawser.routes WHERE total > 0"), [["0"]]);
}

#[test]
fn hostile_messages_end_one_console_and_nothing_else() {
    let site = site(|config| config);
    for bytes in [
        &b"B\0\0\0\x04"[..],
        b"B\0\0\0\x0a\0\0\xff\xff\0\0",
        b"P\0\0\0\x06\0\0",
        b"D\0\0\0\x04",
        b"\xff\0\0\0\x04",
        b"Q\0\0\0\0",
        b"B\0\0\0\x0e\0\0\0\0\0\x01\x7f\xff\xff\xff",
    ] {
        let mut console = console(&site);
        let _ = console.try_send(bytes);
        console.shut_write();
        console.expect_closed();
    }
    let mut console = console(&site);
    assert_eq!(rows(&mut console, "SHOW STATE")[0], ["active", "yes"]);
    // A failed batch is left out up to its Sync, and the console goes on.
    console.send(&[parse("", "SHOW nonsense"), bind("", "", &[]), execute("", 0), sync()].concat());
    assert_eq!(console.expect("EZ")[0].sqlstate(), "42601");
    console.send(
        &[parse("", "SHOW LISTS"), bind("", "", &[]), describe(b'P', ""), execute("", 5), sync()].concat(),
    );
    console.expect("12TDDDDDsZ");
}

#[test]
fn shutdown_ends_the_process_as_it_says() {
    let mut site = site(|config| config);
    let mut inside = site.client();
    inside.execute("BEGIN; SELECT 1");
    let mut idle = site.client();
    idle.execute("SELECT 1");
    let mut console = console(&site);
    console.execute("SHUTDOWN WAIT_FOR_SERVERS");
    assert_eq!(idle.expect_closed().last().unwrap().sqlstate(), "57P01");
    assert_eq!(rows(&mut console, "SELECT value FROM hawser.process WHERE name = 'draining'"), [["yes"]]);
    inside.execute("COMMIT");
    assert!(site.hawser_mut().wait().success());
}

#[test]
fn the_exporter_of_debian_scrapes_the_console() {
    let exporter = "/usr/bin/prometheus-pgbouncer-exporter";
    assert!(std::path::Path::new(exporter).exists(), "{exporter} is missing: run `make deps` first");
    let folder = std::env::temp_dir().join(format!("hawser-exporter-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let account = Account::new(cluster());
    let config = Config::new(cluster(), &account).set("listen.unix_dir", format!("{:?}", folder.display()));
    let site = Site::of(account, &config);
    let mut client = site.client();
    client.execute("SELECT 1");
    let port = hawser::scratch::free_port().unwrap();
    let log = folder.join("exporter.log");
    let mut command = std::process::Command::new(exporter);
    command
        .args(["--pgbouncer-host", &folder.display().to_string(), "--pgbouncer-port", "6432"])
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut running = command.spawn().unwrap();
    wait_until("the exporter listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let scrapes = [(); 3].map(|()| http_get(port, "/metrics", &[]));
    let _ = running.kill();
    let _ = running.wait();
    let log = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(!log.contains("Traceback"), "{log}");
    let name = &site.account.database;
    for (status, text) in scrapes {
        assert_eq!(status, 200, "{text}");
        let value = |series: String| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&series)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
        };
        for counter in ["requests", "received_bytes", "sent_bytes", "query_microseconds"] {
            assert!(value(format!("pgbouncer_{counter}_total{{database=\"{name}\"}}")) > 0.0, "{counter}");
        }
        assert_eq!(value(format!("pgbouncer_active_clients{{database=\"{name}\",user=\"{name}\"}}")), 1.0);
        assert_eq!(value(format!("pgbouncer_waiting_clients{{database=\"{name}\",user=\"{name}\"}}")), 0.0);
        assert!(value(format!("pgbouncer_pool_size{{database=\"{name}\"}}")) > 0.0);
        assert_eq!(value(format!("pgbouncer_reserve_pool{{database=\"{name}\"}}")), 0.0);
        let lists = "databases dns_names dns_pending dns_queries dns_zones free_clients free_servers login_clients \
                     pools used_clients used_servers users";
        lists.split(' ').for_each(|list| assert!(value(format!("pgbouncer_{list}")) >= 0.0));
    }
}
