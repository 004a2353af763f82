//! The outcome of a commit that was never answered: found out on the next primary, never guessed.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::raw::messages::{extended, parse, query, sync};
use hawser_tests::raw::{Backend, Client, sqlstates};
use hawser_tests::{Config, Ensemble, Site, wait_until};
use std::time::Duration;

/// A primary whose commits wait for so many standbys of two; table `t` is there.
fn ensemble(quorum: usize, outcome: &str) -> Ensemble {
    let names = format!("synchronous_standby_names = 'ANY {quorum} (*)'");
    let change = |config: Config| config.set("commit_outcome", format!("{outcome:?}"));
    let ensemble = Ensemble::with_conf(2, &["synchronous_commit = local"], change);
    ensemble.client().execute("CREATE TABLE t (i int)");
    ensemble.wait_for_replay();
    let primary = &ensemble.hosts[0];
    primary.psql(&format!("ALTER SYSTEM SET {names}")).unwrap();
    primary.psql("ALTER SYSTEM SET synchronous_commit = on").unwrap();
    primary.psql("SELECT pg_reload_conf()").unwrap();
    wait_until("commits wait for standbys", || {
        primary.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'").unwrap().trim()
            == "2"
    });
    ensemble
}

/// Lets no more of the log come to a standby.
fn cut_off(ensemble: &Ensemble, host: usize) {
    let standby = &ensemble.hosts[host];
    standby.psql("ALTER SYSTEM SET primary_conninfo = ''").unwrap();
    standby.psql("SELECT pg_reload_conf()").unwrap();
    wait_until("nothing is received", || {
        standby.psql("SELECT count(*) FROM pg_stat_wal_receiver").unwrap().trim() == "0"
    });
}

/// Waits until a commit on the primary waits for standbys.
fn wait_for_commit(ensemble: &Ensemble) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait_until("a commit waits for standbys", || ensemble.hosts[0].psql(waiting).unwrap().trim() == "1");
}

/// The primary dies, and this standby takes over, whose commits wait for nobody.
fn crash(ensemble: &mut Ensemble, next: usize) {
    ensemble.hosts[0].kill9().unwrap();
    let standby = &ensemble.hosts[next];
    standby.psql("ALTER SYSTEM SET synchronous_standby_names = ''").unwrap();
    standby.psql("SELECT pg_reload_conf()").unwrap();
    standby.promote().unwrap();
}

fn tags(messages: &[Backend]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

fn count(client: &mut Client) -> String {
    client.value("/* hawser: primary */ SELECT count(*) FROM t")
}

/// A client in a transaction that has written a row.
fn writer(ensemble: &Ensemble) -> Client {
    let mut client = ensemble.client();
    client.set_patience(Duration::from_secs(60));
    client.execute("BEGIN");
    client.execute("INSERT INTO t VALUES (1)");
    client
}

#[test]
fn a_commit_that_reached_the_next_primary_succeeds_although_nobody_answered_it() {
    for extended_protocol in [false, true] {
        // One standby is frozen, so that the commit is never answered; the other one has it.
        let mut ensemble = ensemble(2, "resolve");
        let mut client = writer(&ensemble);
        client.execute("SET search_path = public, kept");
        ensemble.hosts[2].sigstop();
        if extended_protocol {
            client.send(&[extended("COMMIT", &[]), sync()].concat());
        } else {
            client.send(&query("COMMIT"));
        }
        wait_for_commit(&ensemble);
        crash(&mut ensemble, 1);
        let said = client.read_until_ready();
        assert_eq!(tags(&said), if extended_protocol { "12nCZ" } else { "CZ" }, "{said:?}");
        assert_eq!(said[said.len() - 1].body, b"I");
        assert_eq!(count(&mut client), "1");
        // What was set in the transaction holds.
        assert_eq!(client.value("SHOW search_path"), "public, kept");
        ensemble.hosts[2].sigcont();
    }
}

#[test]
fn a_commit_that_did_not_reach_the_next_primary_can_be_tried_again() {
    let mut ensemble = ensemble(1, "resolve");
    let mut client = writer(&ensemble);
    // A commit of somebody else's sends the row on its way.
    let primary = &ensemble.hosts[0];
    primary.psql("SET synchronous_commit = local; SELECT pg_logical_emit_message(true, 'test', '')").unwrap();
    let written = primary.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    for host in [1, 2] {
        let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", written.trim());
        wait_until("the row is there", || ensemble.hosts[host].psql(&caught_up).unwrap().trim() == "t");
        cut_off(&ensemble, host);
    }
    client.send(&query("COMMIT"));
    wait_for_commit(&ensemble);
    crash(&mut ensemble, 1);
    let said = client.read_until_ready();
    assert_eq!((tags(&said).as_str(), sqlstates(&said)), ("EZ", vec!["40001".to_owned()]));
    assert_eq!(said[1].body, b"I");
    assert_eq!(count(&mut client), "0");
}

#[test]
fn a_number_that_another_transaction_has_by_now_is_not_taken_for_ours() {
    let mut ensemble = ensemble(1, "resolve");
    for host in [1, 2] {
        cut_off(&ensemble, host);
    }
    // The next primary has never heard of it, and gives its number to somebody else.
    let mut client = writer(&ensemble);
    client.send(&query("COMMIT"));
    wait_for_commit(&ensemble);
    let next = &ensemble.hosts[1];
    next.psql("ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
    next.psql("SELECT pg_reload_conf()").unwrap();
    crash(&mut ensemble, 1);
    ensemble.hawser.wait_for_log("takes no writes yet");
    let next = &ensemble.hosts[1];
    let database = &ensemble.account.database;
    for _ in 0..20 {
        next.psql_in(
            database,
            "BEGIN READ WRITE; SELECT pg_current_xact_id(); INSERT INTO t VALUES (2); COMMIT",
        )
        .unwrap();
    }
    next.psql("ALTER SYSTEM RESET default_transaction_read_only").unwrap();
    next.psql("SELECT pg_reload_conf()").unwrap();
    let said = client.read_until_ready();
    assert_eq!((tags(&said).as_str(), sqlstates(&said)), ("EZ", vec!["40001".to_owned()]));
    assert_eq!(count(&mut client), "20");
}

#[test]
fn a_commit_that_was_sent_to_a_frozen_primary_is_undone() {
    let ensemble = ensemble(1, "resolve");
    let mut client = writer(&ensemble);
    let mut reader = ensemble.client();
    reader.set_patience(Duration::from_secs(60));
    reader.execute("BEGIN");
    assert_eq!(reader.value("SELECT 1"), "1");
    ensemble.hosts[0].sigstop();
    client.send(&query("COMMIT"));
    // This one must be asked first, and never answers: the COMMIT is not sent.
    reader.send(&query("COMMIT"));
    ensemble.wait_for(0, "host is down: it does not answer in time");
    let next = &ensemble.hosts[1];
    next.psql("ALTER SYSTEM SET synchronous_standby_names = ''").unwrap();
    next.psql("SELECT pg_reload_conf()").unwrap();
    next.promote().unwrap();
    for client in [&mut client, &mut reader] {
        let said = client.read_until_ready();
        assert_eq!((tags(&said).as_str(), sqlstates(&said)), ("EZ", vec!["40001".to_owned()]));
        assert_eq!(count(client), "0");
    }
    ensemble.hosts[0].sigcont();
}

#[test]
fn a_commit_on_a_server_that_is_only_restarted_is_found_there() {
    let mut ensemble = ensemble(1, "resolve");
    for host in [1, 2] {
        cut_off(&ensemble, host);
    }
    let mut client = writer(&ensemble);
    client.send(&query("COMMIT"));
    wait_for_commit(&ensemble);
    // Read when it starts.
    ensemble.hosts[0].psql("ALTER SYSTEM SET synchronous_standby_names = ''").unwrap();
    ensemble.hosts[0].kill9().unwrap();
    ensemble.hosts[0].start_again().unwrap();
    let said = client.read_until_ready();
    assert_eq!(tags(&said), "CZ", "{said:?}");
    assert_eq!(count(&mut client), "1");
}

#[test]
fn a_transaction_that_changed_nothing_succeeds() {
    let mut ensemble = ensemble(1, "resolve");
    let mut client = ensemble.client();
    client.execute("BEGIN");
    assert_eq!(count(&mut client), "0");
    client.send(&[parse("", "COMMIT"), sync()].concat());
    client.read_until_ready();
    client.execute("COMMIT");
    crash(&mut ensemble, 1);
    assert_eq!(count(&mut client), "0");
}

#[test]
fn a_single_statement_is_looked_into_where_that_is_wanted() {
    for simple in [true, false] {
        let mut ensemble = ensemble(2, "resolve-all");
        let mut client = ensemble.client();
        client.set_patience(Duration::from_secs(60));
        let insert = "INSERT INTO t VALUES (1) RETURNING i";
        let send = |client: &mut Client| {
            if simple {
                client.send(&query(insert));
            } else {
                client.send(&[extended(insert, &[]), sync()].concat());
            }
        };
        send(&mut client);
        assert_eq!(tags(&client.read_until_ready()), if simple { "TDCZ" } else { "12TDCZ" });
        assert_eq!(client.error("INSERT INTO t VALUES (1 / 0)").sqlstate(), "22012");
        ensemble.hosts[2].sigstop();
        send(&mut client);
        wait_for_commit(&ensemble);
        crash(&mut ensemble, 1);
        let said = client.read_until_ready();
        assert_eq!(tags(&said), if simple { "TDCZ" } else { "12TDCZ" }, "{said:?}");
        assert_eq!(count(&mut client), "2");
        ensemble.hosts[2].sigcont();
    }
}

#[test]
fn a_single_statement_that_did_not_reach_the_next_primary_can_be_tried_again() {
    let mut ensemble = ensemble(1, "resolve-all");
    for host in [1, 2] {
        cut_off(&ensemble, host);
    }
    let mut client = ensemble.client();
    client.set_patience(Duration::from_secs(60));
    client.send(&query("INSERT INTO t VALUES (1)"));
    wait_for_commit(&ensemble);
    crash(&mut ensemble, 1);
    let said = client.read_until_ready();
    assert_eq!((tags(&said).as_str(), sqlstates(&said)), ("EZ", vec!["40001".to_owned()]));
    assert_eq!(count(&mut client), "0");
}

#[test]
fn a_commit_outside_a_transaction_is_answered() {
    for outcome in ["resolve", "resolve-all"] {
        let site = Site::with(|config| config.set("commit_outcome", format!("{outcome:?}")));
        let mut client = site.client();
        client
            .send(&[query("COMMIT"), query("SELECT 1"), query("COMMIT"), query("SELECT 2; COMMIT")].concat());
        let answers = ["NCZ", "TDCZ", "NCZ", "TDCNCZ"];
        assert_eq!(answers.map(|_| tags(&client.read_until_ready())), answers);
        client.send(&[extended("COMMIT", &[]), sync()].concat());
        assert_eq!(tags(&client.read_until_ready()), "12nNCZ");
    }
}

#[test]
fn a_long_statement_in_a_transaction_stays_in_one_piece() {
    for outcome in ["resolve", "resolve-all"] {
        let site = Site::with(|config| config.set("commit_outcome", format!("{outcome:?}")));
        let mut client = site.client();
        client.execute("CREATE TABLE t (filler text)");
        let insert = format!("INSERT INTO t VALUES ('{}')", "x".repeat(200_000));
        client.execute("BEGIN");
        client.execute(&insert);
        client.execute("COMMIT");
        client.execute(&insert);
        assert_eq!(client.value("SELECT sum(length(filler)) FROM t"), "400000");
    }
}

#[test]
fn a_transaction_that_has_failed_is_told_so_once() {
    for outcome in ["resolve", "resolve-all"] {
        let site = Site::with(|config| config.set("commit_outcome", format!("{outcome:?}")));
        let mut client = site.client();
        client.execute("CREATE TABLE t (i int)");
        let insert = "INSERT INTO t SELECT 1 / 0";
        client.execute("BEGIN");
        for _ in 0..2 {
            assert_eq!(tags(&client.query(insert)), "EZ");
        }
        assert_eq!(tags(&client.query("COMMIT")), "CZ");
        client.send(
            &[query("BEGIN"), query("SELECT 1 / 0"), query(insert), query("COMMIT"), query("SELECT 5")]
                .concat(),
        );
        let answers = ["CZ", "EZ", "EZ", "CZ", "TDCZ"];
        assert_eq!(answers.map(|_| tags(&client.read_until_ready())), answers);
        let commit = [extended("COMMIT", &[]), sync()].concat();
        // Its number is known when the COMMIT comes, and a batch before that is not answered.
        client.execute("BEGIN");
        client.execute("INSERT INTO t VALUES (1)");
        client.send(&[query("SELECT 5"), commit.clone()].concat());
        assert_eq!([(); 2].map(|()| tags(&client.read_until_ready())), ["TDCZ", "12nCZ"]);
        client.send(&[query("BEGIN"), query("SELECT 1 / 0"), commit, query("SELECT 5")].concat());
        let answers = ["CZ", "EZ", "12nCZ", "TDCZ"];
        assert_eq!(answers.map(|_| tags(&client.read_until_ready())), answers);
    }
}

#[test]
fn without_the_setting_the_outcome_is_unknown() {
    let mut ensemble = ensemble(2, "unknown");
    let mut client = writer(&ensemble);
    ensemble.hosts[2].sigstop();
    client.send(&query("COMMIT"));
    wait_for_commit(&ensemble);
    crash(&mut ensemble, 1);
    let said = client.read_until_ready();
    assert_eq!((tags(&said).as_str(), sqlstates(&said)), ("EZ", vec!["08007".to_owned()]));
    ensemble.hosts[2].sigcont();
}
