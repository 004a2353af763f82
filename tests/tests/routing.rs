//! Reads go to standbys, writes to the primary, and a client always reads its own writes.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::raw::messages::{bind, close, describe, execute, extended, parse, query, sync};
use hawser_tests::raw::{Backend, Client, row, rows, sqlstates};
use hawser_tests::{Account, Config, Ensemble, Program, wait_until};

const WHERE: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END";

/// One worker: whatever one session has seen of the hosts, the next one knows.
fn ensemble(standbys: usize) -> Ensemble {
    ensemble_of(standbys, 1)
}

fn ensemble_of(standbys: usize, workers: u32) -> Ensemble {
    ensemble_with(standbys, |config| config.set("workers", workers))
}

fn ensemble_with(standbys: usize, change: impl FnOnce(Config) -> Config) -> Ensemble {
    // The scratch clusters' own setting would keep every write from the standbys for a fifth of a second.
    let ensemble = Ensemble::with_conf(standbys, &["synchronous_commit = on"], change);
    let mut client = ensemble.client();
    client.execute("CREATE TABLE t(i int)");
    ensemble.wait_for_replay();
    wait_until("reads go to a standby", || place(&mut ensemble.client()) == "standby");
    ensemble
}

/// A read that tells where it ran: the table is empty, what matters is the host.
fn place(client: &mut Client) -> String {
    client
        .value("/* hawser: standby */ SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END")
}

#[test]
fn reads_go_to_standbys_and_see_what_their_session_wrote() {
    let ensemble = ensemble(2);
    let mut client = ensemble.client();
    for number in 0..50 {
        client.execute(&format!("INSERT INTO t VALUES ({number})"));
        assert_eq!(client.value("SELECT max(i) FROM t"), number.to_string());
    }
    wait_until("a standby has seen that", || place(&mut client) == "standby");
}

/// `pg_settings` says otherwise once a SET TRANSACTION was committed, and a standby refuses to have it set.
#[test]
fn what_a_transaction_was_is_no_setting_of_a_session() {
    let ensemble = ensemble_with(1, |config| config.set("workers", 1).set("pool.size", 1));
    let (mut client, mut other) = (ensemble.client(), ensemble.client());
    client.execute(
        "CREATE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS \
         $$ begin perform set_config('work_mem', '5MB', false); return 1; end $$",
    );
    for modes in ["READ ONLY", "ISOLATION LEVEL SERIALIZABLE, READ WRITE, NOT DEFERRABLE"] {
        client.execute("BEGIN");
        client.execute(&format!("SET TRANSACTION {modes}"));
        client.execute("SELECT count(*) FROM t");
        client.execute("COMMIT");
        assert_eq!(other.value("/* hawser: primary */ SELECT sets()"), "1");
        wait_until("its reads go to the standby", || place(&mut other) == "standby");
        assert_eq!(other.value("/* hawser: standby */ SHOW work_mem"), "5MB");
        other.execute("SET transaction_read_only TO off");
        wait_until("its reads go to the standby again", || place(&mut other) == "standby");
    }
}

/// A commit that nobody waits for is written out, and sent to standbys, when the walwriter next wakes up.
#[test]
fn who_reads_behind_a_commit_that_is_not_written_out_is_served_by_the_primary() {
    let conf = ["synchronous_commit = on", "wal_writer_delay = '10s'"];
    let ensemble = Ensemble::with_conf(1, &conf, |config| config.set("routing.wait", "\"60s\""));
    let mut client = ensemble.client();
    client.execute("CREATE TABLE t(i int)");
    ensemble.wait_for_replay();
    wait_until("reads go to a standby", || place(&mut client) == "standby");
    for (off, write) in
        [("off", "INSERT INTO t VALUES (1)"), ("on", "NOTIFY nobody"), ("on", "SELECT pg_notify('n', '')")]
    {
        client.execute(&format!("SET synchronous_commit TO {off}"));
        client.execute(write);
        assert_eq!(place(&mut client), "primary", "{write}");
        assert_eq!(client.value("SELECT max(i) FROM t"), "1");
        // So is what comes before it.
        client.execute("SET synchronous_commit TO on");
        client.execute("INSERT INTO t VALUES (0)");
        wait_until("reads go to the standby again", || place(&mut client) == "standby");
    }
}

#[test]
fn a_pipeline_is_cut_where_it_has_to_go_elsewhere() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    client.send(
        &[
            extended("SELECT count(*) FROM t", &[]),
            sync(),
            extended("INSERT INTO t VALUES (1)", &[]),
            sync(),
            extended("SELECT count(*) FROM t", &[]),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(row(&client.read_until_ready()), "0");
    assert_eq!(sqlstates(&client.read_until_ready()), Vec::<String>::new());
    assert_eq!(row(&client.read_until_ready()), "1");
}

#[test]
fn a_text_with_several_statements_goes_where_all_of_them_can_run() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    let said = client.query("SELECT 1; INSERT INTO t VALUES (1); SELECT count(*) FROM t");
    assert_eq!(sqlstates(&said), Vec::<String>::new());
    client.execute("BEGIN; SELECT count(*) FROM t; INSERT INTO t VALUES (2); COMMIT");
    assert_eq!(client.value("SELECT count(*) FROM t"), "2");
}

#[test]
fn a_transaction_that_has_failed_on_a_standby_does_not_hold_its_session_there() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    let fail = |client: &mut Client| {
        let said = client.query(&format!("BEGIN; /* hawser: standby */ {WHERE}; SELECT 1 / 0; COMMIT"));
        assert_eq!((row(&said).as_str(), sqlstates(&said)), ("standby", vec!["22012".to_owned()]));
    };
    fail(&mut client);
    assert_eq!(client.error("SELECT 1").sqlstate(), "25P02");
    client.send(&[close(b'S', "none"), sync()].concat());
    client.expect("3Z");
    client.send(&query(""));
    client.expect("IZ");
    client.execute("ROLLBACK AND CHAIN");
    client.execute("INSERT INTO t VALUES (1)");
    client.execute("COMMIT");
    fail(&mut client);
    client.execute("ROLLBACK; INSERT INTO t VALUES (2)");
    fail(&mut client);
    assert_eq!(client.value("ROLLBACK; SELECT count(*) FROM t"), "2");
}

#[test]
fn a_read_only_transaction_runs_on_a_standby_and_another_on_the_primary() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    client.execute("BEGIN READ ONLY");
    assert_eq!(place(&mut client), "standby");
    assert_eq!(place(&mut client), "standby");
    client.execute("COMMIT");
    client.execute("BEGIN");
    assert_eq!(place(&mut client), "primary");
    client.execute("INSERT INTO t VALUES (7)");
    client.execute("COMMIT");
    assert_eq!(client.value("SELECT i FROM t"), "7");
}

#[test]
fn a_read_only_transaction_in_the_extended_protocol_goes_on_on_the_standby() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    for opening in [query("BEGIN READ ONLY"), [extended("BEGIN READ ONLY", &[]), sync()].concat()] {
        client.send(&opening);
        client.read_until_ready();
        for _ in 0..3 {
            client.send(&[extended(&format!("/* hawser: standby */ {WHERE}"), &[]), sync()].concat());
            assert_eq!(row(&client.read_until_ready()), "standby");
        }
        client.send(&[extended("COMMIT", &[]), sync()].concat());
        assert_eq!(sqlstates(&client.read_until_ready()), Vec::<String>::new());
    }
}

#[test]
fn a_long_text_in_a_read_only_transaction_runs_on_the_standby() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    client.execute("BEGIN READ ONLY");
    assert_eq!(place(&mut client), "standby");
    for length in [1000, 20_000, 300_000] {
        let text = format!("SELECT length('{}')", "x".repeat(length));
        client.send(&[extended(&text, &[]), sync()].concat());
        assert_eq!(row(&client.read_until_ready()), length.to_string());
        assert_eq!(client.value(&text), length.to_string());
    }
    assert_eq!(place(&mut client), "standby");
    client.execute("COMMIT");
}

#[test]
fn a_session_goes_on_on_the_standby_that_has_something_of_it() {
    let ensemble = ensemble(2);
    let mut client = ensemble.client();
    client.execute("SET hawser.route = standby");
    client.execute("SELECT pg_advisory_lock(5)");
    let process = client.value("SELECT pg_backend_pid()");
    for length in [10, 100_000] {
        client.send(&[extended(&format!("SELECT length('{}')", "x".repeat(length)), &[]), sync()].concat());
        assert_eq!(row(&client.read_until_ready()), length.to_string());
    }
    client.execute("PREPARE mine AS SELECT 7");
    assert_eq!(client.value("EXECUTE mine"), "7");
    assert_eq!(client.value("SELECT pg_advisory_unlock(5)"), "t");
    assert_eq!(client.value("SELECT pg_backend_pid()"), process);
    client.execute("DEALLOCATE mine");
    // Nothing keeps it there any more.
    client.execute("SET hawser.route = auto");
    client.execute("INSERT INTO t VALUES (1)");
    assert_eq!(client.value("SELECT i FROM t"), "1");
}

#[test]
fn a_session_that_has_used_prepare_is_kept_by_no_standby() {
    let ensemble = ensemble(1);
    ensemble.client().execute("CREATE FUNCTION same(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1'");
    let port = "SELECT same(setting::int) FROM pg_settings WHERE name = 'port'";
    wait_until("its calls are known to be reads", || {
        let mut client = ensemble.client();
        client.value(port) != client.value(&format!("/* hawser: primary */ {port}"))
    });
    let mut client = ensemble.client();
    client.execute("PREPARE mine AS SELECT 7");
    let call = || [extended("SELECT same($1)", &[Some("3")]), sync()].concat();
    for (rows, opening) in [(1, None), (2, Some("BEGIN READ ONLY")), (3, Some("START TRANSACTION READ ONLY"))]
    {
        opening.into_iter().for_each(|opening| client.execute(opening));
        assert_eq!(client.value("SELECT same(2)"), "2");
        client.send(&call());
        assert_eq!(row(&client.read_until_ready()), "3");
        assert_eq!(client.value("EXECUTE mine"), "7");
        opening.into_iter().for_each(|_| client.execute("COMMIT"));
        client.execute("INSERT INTO t VALUES (1)");
        assert_eq!(client.value("SELECT count(*) FROM t"), rows.to_string());
    }
    client.execute("DEALLOCATE mine");
    let primary = client.value(&format!("/* hawser: primary */ {port}"));
    wait_until("its reads go to the standby again", || client.value(port) != primary);
}

/// A standby that has stopped at an empty table, of which the primary has one row: the count tells where it was read.
fn held_back(change: impl FnOnce(Config) -> Config) -> Ensemble {
    let ensemble = Ensemble::with_conf(1, &["synchronous_commit = on"], |config| {
        let config = config.set("workers", 1);
        change(config.set("routing.max_lag", 0).set("routing.consistency", "\"eventual\""))
    });
    let mut client = ensemble.client();
    client.execute("CREATE TABLE t(i int)");
    ensemble.wait_for_replay();
    wait_until("reads go to the standby", || place(&mut client) == "standby");
    ensemble.pause_replay(1);
    client.execute("INSERT INTO t VALUES (1)");
    ensemble
}

/// As above, with a name for the database under which everything goes to standbys.
fn reads_and_writes() -> Ensemble {
    held_back(|config| {
        let database = config.text(1).lines().find(|line| line.starts_with("hosts")).unwrap().to_owned();
        config.table(&format!("[databases.reads]\n{database}\ndbname = \"postgres\"\nroute = \"standby\""))
    })
}

const COUNT: &str = "SELECT count(*) FROM t";

#[test]
fn a_read_whose_standby_is_lost_before_it_has_said_what_rows_look_like_runs_elsewhere() {
    let mut ensemble = ensemble(1);
    let mut client = ensemble.client();
    client.send(&[parse("named", COUNT), describe(b'S', "named"), sync()].concat());
    client.read_until_ready();
    // The standby has to parse it first, and waits for the table.
    let mut locker = Client::login(ensemble.hosts[0].port(), &ensemble.account);
    locker.execute("BEGIN");
    locker.execute("LOCK TABLE t");
    // A commit sends the lock on its way.
    ensemble.hosts[0].psql("SELECT pg_logical_emit_message(true, '', '')").unwrap();
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'";
    wait_until("the table is locked", || ensemble.hosts[1].psql(locked).unwrap().trim() == "1");
    client.send(&[bind("", "named", &[]), execute("", 0), sync()].concat());
    wait_until("the read waits", || ensemble.hosts[1].psql(waits).unwrap().trim() == "1");
    ensemble.hosts[1].kill9().unwrap();
    locker.execute("COMMIT");
    let said = client.read_until_ready();
    assert_eq!((sqlstates(&said), row(&said)), (Vec::new(), "0".to_owned()));
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn a_prepared_read_goes_to_a_standby_however_it_was_prepared() {
    let ensemble = held_back(|config| config);
    let mut client = ensemble.client();
    client.execute("PREPARE of_sql(int) AS SELECT count(*) FROM t WHERE i = $1");
    assert_eq!(client.value("EXECUTE of_sql(1)"), "0");
    client.send(&[extended("EXECUTE of_sql(1)", &[]), sync()].concat());
    assert_eq!(row(&client.read_until_ready()), "0");
    client.send(&[parse("named", COUNT), sync()].concat());
    client.read_until_ready();
    client.send(&[bind("", "named", &[]), execute("", 0), sync()].concat());
    assert_eq!(row(&client.read_until_ready()), "0");
    // What was prepared and writes runs where it can.
    client.execute("PREPARE writes AS INSERT INTO t VALUES (2)");
    client.execute("EXECUTE writes");
}

#[test]
fn a_batch_of_several_statements_goes_where_all_of_them_can_run() {
    let ensemble = held_back(|config| config);
    let mut client = ensemble.client();
    // One Sync: one transaction, and the second read sees the write.
    client.send(
        &[extended(COUNT, &[]), extended("INSERT INTO t VALUES (2)", &[]), extended(COUNT, &[]), sync()]
            .concat(),
    );
    assert_eq!(rows(&client.read_until_ready()), ["1", "2"]);
    // Three Syncs: three transactions, each where it can run, answered in order. What is sent
    // behind a write before that is answered goes the same way.
    client.send(
        &[extended(COUNT, &[]), sync(), extended("INSERT INTO t VALUES (3)", &[]), sync(), query(COUNT)]
            .concat(),
    );
    assert_eq!(row(&client.read_until_ready()), "0");
    assert_eq!(sqlstates(&client.read_until_ready()), Vec::<String>::new());
    assert_eq!(row(&client.read_until_ready()), "3");
    // A transaction is somewhere as a whole.
    client.execute("BEGIN");
    assert_eq!(client.value(COUNT), "3");
    client.execute("COMMIT");
    // A text is one transaction, also where a cursor in it only reads.
    let said = client.query("SELECT 1; INSERT INTO t VALUES (4); SELECT count(*) FROM t");
    let counted = said.iter().rfind(|message| message.tag == b'D').map(Backend::first);
    assert_eq!(counted.as_deref(), Some("4"));
}

#[test]
fn a_name_that_a_batch_has_changed_the_meaning_of_is_not_trusted() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    client.execute("CREATE SCHEMA other");
    client.execute("CREATE FUNCTION f() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'");
    client.execute(
        "CREATE FUNCTION other.f() RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO t VALUES (1); RETURN 2; END$$",
    );
    ensemble.wait_for_replay();
    client.send(
        &[extended("SET search_path = other, public", &[]), extended("SELECT f()", &[]), sync()].concat(),
    );
    let said = client.read_until_ready();
    assert_eq!((sqlstates(&said), row(&said)), (Vec::new(), "2".to_owned()));
    assert_eq!(client.value(COUNT), "1");
}

#[test]
fn what_a_session_has_just_changed_in_the_catalogue_is_not_trusted() {
    trusts_no_change_of_its_own(&ensemble(1));
}

#[test]
fn nor_is_it_where_the_session_has_gone_to_since() {
    let roaming = |config: Config| config.set("workers", 2).set("balance", "\"roam\"");
    trusts_no_change_of_its_own(&ensemble_with(1, roaming));
}

fn trusts_no_change_of_its_own(ensemble: &Ensemble) {
    let mut client = ensemble.client();
    let (stable, volatile) = (
        "CREATE FUNCTION f() RETURNS int STABLE LANGUAGE sql AS 'SELECT pg_is_in_recovery()::int'",
        "CREATE OR REPLACE FUNCTION f() RETURNS int VOLATILE LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING 2'",
    );
    client.execute(stable);
    wait_until("the function is known", || client.value("SELECT f()") == "1");
    for statement in ["BEGIN", "SELECT 1", volatile, "COMMIT"] {
        client.query(statement);
    }
    // The answer to the first statement leaves before the second can be refused.
    client.send(&[extended("SELECT 1", &[]), extended("SELECT f()", &[]), sync()].concat());
    assert_eq!(sqlstates(&client.read_until_ready()), Vec::<String>::new());
    assert_eq!(client.value(COUNT), "1");
}

#[test]
fn a_name_for_the_database_or_an_option_at_login_makes_a_session_that_only_reads() {
    let ensemble = reads_and_writes();
    let account = Account { database: "reads".to_owned(), ..ensemble.account.clone() };
    let mut reads = Client::login(ensemble.hawser.port(), &account);
    wait_until("the standby is known", || reads.value(WHERE) == "standby");
    assert_eq!(reads.error("CREATE TABLE x()").sqlstate(), "25006");
    reads.execute("BEGIN");
    assert_eq!(reads.value(WHERE), "standby");
    reads.execute("COMMIT");
    let port = ensemble.hawser.port();
    let mut asks = Client::login_with(port, &ensemble.account, &[("options", "-c hawser.route=standby")]);
    assert_eq!(asks.value(WHERE), "standby");
    let mut asks = Client::login_with(port, &ensemble.account, &[("hawser.route", "primary")]);
    assert_eq!(asks.value(COUNT), "1");
}

#[test]
fn drivers_that_look_for_a_kind_of_host_find_it() {
    let ensemble = reads_and_writes();
    let port = ensemble.hawser.port();
    let finds = |database: &str, wanted: &str| {
        let account = &ensemble.account;
        let told = Program::postgres("psql")
            .env("PGPASSWORD", &account.password)
            .args([&format!(
                "host=127.0.0.1 port={port} user={} dbname={database} target_session_attrs={wanted}",
                account.user
            )])
            .args(["-AtXqc", "SELECT 1"])
            .run();
        told.success
    };
    let everything = ensemble.account.database.as_str();
    for (database, kinds) in [
        (everything, [("read-write", true), ("primary", true), ("read-only", false), ("standby", false)]),
        ("reads", [("read-write", false), ("primary", false), ("read-only", true), ("standby", true)]),
    ] {
        for (kind, found) in kinds {
            assert_eq!(finds(database, kind), found, "{kind} in {database}");
        }
        assert!(finds(database, "prefer-standby"));
    }
    // What a standby says of itself while it serves somebody is not for the client.
    let mut client = ensemble.client();
    assert_eq!(client.parameter("in_hot_standby"), Some("off"));
    assert_eq!(client.parameter("default_transaction_read_only"), Some("off"));
    let told = |messages: &[Backend]| -> Vec<Vec<String>> {
        messages.iter().filter(|message| message.tag == b'S').map(Backend::strings).collect()
    };
    let read = client.query(COUNT);
    assert_eq!((row(&read).as_str(), told(&read)), ("0", Vec::new()));
    let set = told(&client.query("SET default_transaction_read_only = on"));
    assert_eq!(set, [["default_transaction_read_only", "on"]]);
}

#[test]
fn our_own_settings_are_set_and_shown_in_every_protocol_and_in_transactions() {
    let ensemble = held_back(|config| config);
    let mut client = ensemble.client();
    let shows = |client: &mut Client, name: &str| {
        let text = format!("SHOW hawser.{name}");
        let simple = client.value(&text);
        client.send(&[extended(&text, &[]), sync()].concat());
        assert_eq!(row(&client.read_until_ready()), simple, "{text}");
        simple
    };
    assert_eq!(shows(&mut client, "route"), "auto");
    assert_eq!(shows(&mut client, "consistency"), "eventual");
    assert_eq!(shows(&mut client, "min_lsn"), "");
    assert!(shows(&mut client, "write_lsn").contains('/'));
    client.send(&[extended("SET hawser.route = 'primary'", &[]), sync(), query(COUNT)].concat());
    assert_eq!(sqlstates(&client.read_until_ready()), Vec::<String>::new());
    assert_eq!(row(&client.read_until_ready()), "1");
    assert_eq!(shows(&mut client, "route"), "primary");
    client.execute("BEGIN");
    client.execute("SET LOCAL hawser.route = 'standby'");
    assert_eq!(shows(&mut client, "route"), "standby");
    assert_eq!(client.value(COUNT), "1", "a transaction stays where it is");
    client.execute("SET hawser.consistency = 'Cluster'");
    assert!(shows(&mut client, "write_lsn").contains('/'));
    client.execute("COMMIT");
    assert_eq!(shows(&mut client, "route"), "primary");
    assert_eq!(shows(&mut client, "consistency"), "cluster");
    client.execute("BEGIN");
    client.execute("SET hawser.consistency = 'session'");
    client.execute("ROLLBACK");
    assert_eq!(shows(&mut client, "consistency"), "cluster");
    client.execute("RESET hawser.route");
    client.execute("SET hawser.consistency = 'whatever'");
    assert_eq!(shows(&mut client, "consistency"), "eventual");
    assert_eq!(client.value(COUNT), "0");
    // A prepared one, in a pipeline with what it is about.
    client.send(&[parse("s", "SHOW hawser.route"), sync()].concat());
    client.read_until_ready();
    client.send(
        &[
            bind("", "s", &[]),
            execute("", 0),
            query("SET hawser.route = 'primary'"),
            query("SHOW hawser.route"),
        ]
        .concat(),
    );
    let mut said = Vec::new();
    while said.len() < 2 {
        said.extend(rows(&client.read_until_ready()));
    }
    assert_eq!(said, ["auto", "primary"]);
}

#[test]
fn standbys_in_the_same_zone_serve_while_one_of_them_will_do() {
    let mut ensemble = Ensemble::with_conf(2, &["synchronous_commit = on"], |config| {
        let text = config.text(1);
        let hosts: Vec<&str> =
            text.lines().find(|line| line.starts_with("hosts")).unwrap().split('"').collect();
        let (near, far) = (hosts[3], hosts[5]);
        config
            .set("workers", 1)
            .set("routing.zones", format!("{{ \"{near}\" = \"here\", \"{far}\" = \"there\" }}"))
            .set("routing.prefer_zone", "\"here\"")
    });
    let mut client = ensemble.client();
    let port = "/* hawser: standby */ SELECT current_setting('port')";
    let (near, far) = (ensemble.hosts[1].port().to_string(), ensemble.hosts[2].port().to_string());
    wait_until("the nearer standby serves", || client.value(port) == near);
    assert!((0..20).all(|_| client.value(port) == near));
    ensemble.hosts[1].kill9().unwrap();
    wait_until("the other serves", || client.value(port) == far);
}

#[test]
fn named_statements_and_settings_are_the_same_on_every_host() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    client.execute("SET search_path = public, pg_catalog");
    client.send(&[parse("s", "SELECT current_setting('search_path'), pg_is_in_recovery()"), sync()].concat());
    client.read_until_ready();
    for _ in 0..3 {
        client.send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
        assert_eq!(row(&client.read_until_ready()), "public, pg_catalog");
        client.execute("INSERT INTO t VALUES (1)");
    }
}

#[test]
fn what_a_standby_refuses_runs_on_the_primary_unseen_and_is_remembered() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    client.execute("CREATE FUNCTION sly() RETURNS int STABLE LANGUAGE plpgsql AS $$BEGIN EXECUTE 'INSERT INTO t VALUES (1)'; RETURN 1; END$$");
    client.execute("ALTER FUNCTION sly() IMMUTABLE");
    ensemble.wait_for_replay();
    for _ in 0..3 {
        let said = client.query("/* hawser: standby */ SELECT sly()");
        // PostgreSQL itself refuses to write in a function that is not volatile; a standby says something else.
        assert_ne!(sqlstates(&said), vec!["25006".to_owned()], "{said:?}");
    }
    client.send(&query("/* hawser: standby */ SELECT pg_current_wal_lsn() IS NOT NULL"));
    assert_eq!(row(&client.read_until_ready()), "t");
}

#[test]
fn a_session_says_where_its_statements_run() {
    let ensemble = ensemble(1);
    let mut client = ensemble.client();
    client.execute("SET hawser.route = 'primary'");
    assert_eq!(client.value(WHERE), "primary");
    client.execute("SET hawser.route = 'standby'");
    assert_eq!(client.value(WHERE), "standby");
    assert_eq!(client.error("INSERT INTO t VALUES (1)").sqlstate(), "25006");
    client.execute("RESET hawser.route");
    client.execute("INSERT INTO t VALUES (1)");
}

#[test]
fn a_position_carries_consistency_from_one_session_to_another() {
    let ensemble = ensemble_of(1, 2);
    let (mut writer, mut reader) = (ensemble.client(), ensemble.client());
    assert_eq!(reader.value("SHOW hawser.consistency"), "session");
    for number in 0..20 {
        writer.execute(&format!("INSERT INTO t VALUES ({number})"));
        let position = writer.value("SHOW hawser.write_lsn");
        reader.execute(&format!("SET hawser.min_lsn = '{position}'"));
        assert_eq!(reader.value("SHOW hawser.min_lsn"), position);
        assert_eq!(reader.value("SELECT max(i) FROM t"), number.to_string());
    }
}

#[test]
fn every_session_sees_what_any_session_wrote_if_it_asks_for_that() {
    let ensemble = ensemble_of(1, 2);
    let (mut writer, mut reader) = (ensemble.client(), ensemble.client());
    reader.execute("SET hawser.consistency = 'cluster'");
    for number in 0..20 {
        writer.execute(&format!("INSERT INTO t VALUES ({number})"));
        assert_eq!(reader.value("SELECT max(i) FROM t"), number.to_string());
    }
}

#[test]
fn without_a_standby_the_primary_serves_and_a_standby_that_comes_back_is_used_again() {
    let mut ensemble = ensemble(1);
    let mut client = ensemble.client();
    assert_eq!(place(&mut client), "standby");
    ensemble.hosts[1].kill9().unwrap();
    for _ in 0..20 {
        assert_eq!(client.value("SELECT count(*) FROM t"), "0");
    }
    ensemble.hosts[1].start_again().unwrap();
    wait_until("the standby is used again", || place(&mut client) == "standby");
}

#[test]
fn reads_go_on_while_there_is_no_primary() {
    let mut ensemble = ensemble(1);
    let mut client = ensemble.client();
    ensemble.hosts[0].kill9().unwrap();
    for _ in 0..50 {
        assert_eq!(client.value("SELECT count(*) FROM t"), "0");
    }
}
