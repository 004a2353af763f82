//! Signals: a reload drops nobody and a wrong one changes nothing; the three ways to end.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::Duration;

use hawser_tests::raw::messages::{V3_0, query, startup};
use hawser_tests::raw::{Backend, Client, TlsOptions};
use hawser_tests::{Account, Config, Hawser, Site, cluster, wait_until};
use rustix::process::Signal;

fn site_and_config(change: impl FnOnce(Config) -> Config) -> (Site, Config) {
    let account = Account::new(cluster());
    let config = change(Config::new(cluster(), &account));
    (Site::of(account, &config), config)
}

#[test]
fn a_reload_changes_what_it_says_and_drops_nobody() {
    let (site, config) = site_and_config(|config| config.set("pool.size", 1));
    let mut idle = site.client();
    let mut busy = site.client();
    busy.execute("BEGIN; SELECT 1");
    let newcomer = site.account.second_user(cluster());
    site.hawser()
        .reload(&config.user(&newcomer).set("pool.size", 2).set("timeouts.idle_transaction", "\"0\""));
    // The second connection of the pool and the second user are there now.
    wait_until("the new user may log in", || Client::connect(site.port).try_login(&newcomer, &[]).is_ok());
    assert_eq!(idle.value("SELECT 'idle'"), "idle");
    assert_eq!(busy.value("SELECT 'busy'"), "busy");
    busy.execute("COMMIT");
}

#[test]
fn a_reload_says_what_it_did() {
    let (site, config) = site_and_config(|config| config.set("pool.size", 1));
    site.hawser().reload(&config.set("pool.size", 7));
    site.hawser().wait_for_log("[pool]");
}

#[test]
fn a_wrong_file_names_every_mistake_and_the_running_settings_stay() {
    let (site, config) = site_and_config(|config| config.set("pool.size", 1));
    let wrong = config.clone().set("pool.sise", 3).set("timeouts.query", "\"fast\"").text(site.port);
    site.hawser().reload_text(&wrong);
    site.hawser().wait_for_log("did you mean \"size\"?");
    site.hawser().wait_for_log("timeouts.query");
    site.others_are_well();
}

#[test]
fn a_wrong_file_does_not_start_and_every_mistake_is_named_with_its_line() {
    let text = "listen.address = \"127.0.0.1:1\"\npool.sise = 3\ntimeouts.query = \"fast\"\n\
                [databases.x]\nhosts = []\nhots = [\"a\"]\n";
    let (status, log) = Hawser::start_wrong(text);
    assert!(!status.success());
    for wanted in [
        "hawser.toml:2",
        "did you mean \"size\"?",
        "hawser.toml:3",
        "timeouts.query",
        "hawser.toml:6",
        "\"hosts\"?",
    ] {
        assert!(log.contains(wanted), "no {wanted:?} in\n{log}");
    }
}

#[test]
fn certificates_are_read_again_and_nobody_is_dropped() {
    let account = Account::new(cluster());
    let folder = std::env::temp_dir().join(format!("hawser-reload-{}", account.user));
    let mine = hawser::scratch::Certificates::make(&folder, &["app"]).unwrap();
    let own = |name: &str| folder.join(name);
    let (cert, key) = (own("live.crt"), own("live.key"));
    let install = |from: &hawser::scratch::Certificates| {
        std::fs::copy(from.server_cert(), &cert).unwrap();
        std::fs::copy(from.server_key(), &key).unwrap();
    };
    install(cluster().certificates());
    let quoted = |path: &std::path::Path| format!("{:?}", path.display().to_string());
    let config = Config::new(cluster(), &account)
        .set("client_tls.cert_file", quoted(&cert))
        .set("client_tls.key_file", quoted(&key));
    let site = Site::of(account, &config);
    let mut old = site.client_tls();
    install(&mine);
    site.hawser().signal(Signal::HUP);
    let options = TlsOptions { ca: mine.ca(), client: None, alpn: None };
    wait_until("the new certificate is shown", || {
        let mut client = Client::connect(site.port);
        client.ask(hawser_tests::raw::messages::SSL_REQUEST) == b'S' && client.begin_tls(&options).is_ok()
    });
    assert_eq!(old.value("SELECT 'still here'"), "still here");
    drop(site);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn another_server_counts_for_new_connections() {
    let (site, config) = site_and_config(|config| config.set("pool.size", 1));
    let other = hawser_tests::own_cluster(&[]);
    other
        .psql(&format!("CREATE ROLE \"{}\" LOGIN PASSWORD '{}'", site.account.user, site.account.password))
        .unwrap();
    other.psql(&format!("CREATE DATABASE \"{}\"", site.account.database)).unwrap();
    let mut client = site.client();
    let port = |client: &mut Client| client.value("SELECT inet_server_port()");
    assert_eq!(port(&mut client), cluster().port().to_string());
    site.hawser().reload(&config.hosts(&[format!("127.0.0.1:{}", other.port())]));
    wait_until("a new client gets the other server", || port(&mut site.client()) == other.port().to_string());
    wait_until("a client that was there gets the other server", || {
        port(&mut client) == other.port().to_string()
    });
}

fn ends_for(client: &mut Client) -> Option<Backend> {
    client.expect_closed().into_iter().find(|message| message.tag == b'E')
}

/// Whether a newcomer is turned away, wherever: who is quicker than the listener's end is told why.
fn is_refused(port: u16) -> bool {
    let Ok(mut late) = Client::try_connect(port) else { return true };
    late.set_patience(Duration::from_secs(5));
    let hello = startup(V3_0, &[("user", "x")]);
    late.try_send(&hello).is_err() || late.try_read().map_or(true, |message| message.tag == b'E')
}

#[test]
fn sigterm_drains_clients_are_served_until_they_leave_and_nobody_new_gets_in() {
    let (mut site, _) = site_and_config(|config| config.set("pool.size", 2));
    let mut idle = site.client();
    let mut busy = site.client();
    busy.execute("BEGIN; CREATE TABLE drained (id int)");
    site.hawser().signal(Signal::TERM);
    wait_until("nobody new gets in", || is_refused(site.port));
    busy.execute("INSERT INTO drained VALUES (1)");
    busy.execute("COMMIT");
    // Clients are served until they leave of their own accord.
    assert_eq!(idle.value("SELECT 'served'"), "served");
    assert!(!site.hawser_mut().has_ended());
    idle.terminate();
    busy.terminate();
    assert!(site.hawser_mut().wait().success());
    let count = cluster().psql_in(&site.account.database, "SELECT count(*) FROM drained").unwrap();
    assert_eq!(count.trim(), "1");
}

#[test]
fn sigint_waits_for_transactions_and_closes_the_others_at_once() {
    let (mut site, _) = site_and_config(|config| config.set("pool.size", 2));
    let mut idle = site.client();
    let mut busy = site.client();
    busy.execute("BEGIN; SELECT 1");
    site.hawser().signal(Signal::INT);
    assert_eq!(ends_for(&mut idle).map(|error| error.sqlstate()).as_deref(), Some("57P01"));
    assert!(!site.hawser_mut().has_ended());
    assert_eq!(busy.value("SELECT 'still'"), "still");
    busy.execute("COMMIT");
    ends_for(&mut busy);
    assert!(site.hawser_mut().wait().success());
}

#[test]
fn sigquit_ends_at_once() {
    let (mut site, _) = site_and_config(|config| config.set("pool.size", 2));
    let mut busy = site.client();
    busy.send(&query("SELECT pg_sleep(60)"));
    wait_until("it sleeps", || site.server_connections().1 == 1);
    site.hawser().signal(Signal::QUIT);
    site.hawser_mut().wait();
    ends_for(&mut busy);
    wait_until("the server is at rest", || site.server_connections().1 == 0);
}

#[test]
fn a_drain_does_not_wait_for_ever() {
    let (mut site, _) =
        site_and_config(|config| config.set("pool.size", 1).set("timeouts.shutdown", "\"500ms\""));
    let mut stubborn = site.client();
    stubborn.execute("BEGIN; SELECT 1");
    site.hawser().signal(Signal::TERM);
    site.hawser_mut().wait();
    ends_for(&mut stubborn);
}

#[test]
fn the_pid_file_is_there_while_it_runs() {
    let account = Account::new(cluster());
    let file = std::env::temp_dir().join(format!("hawser-pid-{}", account.user));
    let config =
        Config::new(cluster(), &account).set("pid_file", format!("{:?}", file.display().to_string()));
    let mut site = Site::of(account, &config);
    let pid = std::fs::read_to_string(&file).unwrap();
    assert_eq!(pid.trim(), site.hawser().pid().to_string());
    site.hawser().signal(Signal::TERM);
    site.hawser_mut().wait();
    assert!(!file.exists());
}
