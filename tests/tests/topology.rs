//! What Hawser knows of a cluster: who is the primary, who is down, who is fenced, and when.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::{Account, Config, Ensemble, Hawser, own_cluster, wait_until};

#[test]
fn the_end_of_a_primary_and_the_promotion_of_a_standby_are_seen() {
    let mut ensemble = Ensemble::new(2, |config| config);
    ensemble.hosts[0].kill9().expect("it is killed");
    ensemble.hawser.wait_for_log("no primary: host 0 is down");
    ensemble.hosts[2].promote().expect("it is promoted");
    ensemble.wait_for_primary(2, 2);
    ensemble.hawser.wait_for_log("failover: suspect 0 ms, down");
}

#[test]
fn a_primary_that_wakes_up_after_a_promotion_is_fenced() {
    let ensemble = Ensemble::new(1, |config| config);
    ensemble.hosts[0].sigstop();
    ensemble.wait_for(0, "host is down: it does not answer in time");
    ensemble.hosts[1].promote().expect("it is promoted");
    ensemble.wait_for_primary(1, 2);
    ensemble.hosts[0].sigcont();
    ensemble.wait_for(0, "host is fenced: it is a primary on timeline 1, and the cluster is on 2");
}

#[test]
fn a_standby_that_nobody_has_named_is_suggested_and_not_used() {
    let primary = own_cluster(&[]);
    let account = Account::new(&primary);
    let (named, other) = (primary.standby().expect("a standby"), primary.standby().expect("another one"));
    let hosts = [&primary, &named].map(|host| format!("127.0.0.1:{}", host.port()));
    let hawser = Hawser::start(&Config::new(&primary, &account).hosts(&hosts));
    hawser.wait_for_log("streams to 2 standbys, of which 1 are known here");
    assert!(!hawser.log().contains(&other.port().to_string()));
}

#[test]
fn a_promoted_host_is_no_primary_before_it_takes_writes() {
    let mut ensemble = Ensemble::new(1, |config| config);
    // As pg_auto_failover does it.
    let promoted = &ensemble.hosts[1];
    promoted.psql("ALTER SYSTEM SET default_transaction_read_only = on").expect("a setting");
    promoted.psql("SELECT pg_reload_conf()").expect("it is read");
    ensemble.hosts[0].kill9().expect("it is killed");
    ensemble.hosts[1].promote().expect("it is promoted");
    ensemble.hawser.wait_for_log("no primary: host 1 takes no writes yet");
    let opened = &ensemble.hosts[1];
    opened.psql("ALTER SYSTEM RESET default_transaction_read_only").expect("a setting");
    opened.psql("SELECT pg_reload_conf()").expect("it is read");
    ensemble.wait_for_primary(1, 2);
    ensemble.hawser.wait_for_log("candidate");
}

#[test]
fn a_hawser_that_starts_beside_a_primary_that_was_left_behind_does_not_believe_it() {
    let ensemble = Ensemble::new(1, |config| config);
    ensemble.hosts[1].promote().expect("it is promoted");
    ensemble.wait_for_primary(1, 2);
    let names: Vec<String> = ensemble.hosts.iter().map(|host| format!("127.0.0.1:{}", host.port())).collect();
    let late = Hawser::start(&Config::new(&ensemble.hosts[0], &ensemble.account).hosts(&names));
    late.wait_for_log("host is fenced: it is a primary on timeline 1, and the cluster is on 2");
    late.wait_for_log(&format!("host=\"{}\" timeline=2", names[1]));
    assert!(!late.log().contains(&format!("host=\"{}\" timeline=1", names[0])), "{}", late.log());
}

/// Nobody can drop, rename or copy a database while somebody else is in it.
#[test]
fn hosts_are_asked_in_a_database_that_nobody_drops_if_their_user_is_let_in_there() {
    let primary = own_cluster(&[]);
    let standby = primary.standby().expect("a standby");
    let account = Account::new(&primary);
    let hosts = [&primary, &standby].map(|host| format!("127.0.0.1:{}", host.port()));
    let name = &account.database;
    let config = Config::new(&primary, &account).hosts(&hosts).database(&format!("dbname = \"{name}\""));
    let place = || {
        let sql = "SELECT datname FROM pg_stat_activity WHERE application_name = 'hawser health'";
        primary.psql(sql).expect("an answer").trim().to_owned()
    };
    let hawser = Hawser::start(&config);
    wait_until("the primary is asked", || place() == "postgres");
    primary.psql(&format!("ALTER DATABASE \"{name}\" RENAME TO other")).expect("nobody is there");
    primary.psql(&format!("ALTER DATABASE other RENAME TO \"{name}\"")).expect("nobody is there");
    drop(hawser);
    primary.psql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC").expect("it is revoked");
    let _hawser = Hawser::start(&config);
    wait_until("the primary is asked", || place() == *name);
}
