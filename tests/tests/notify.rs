//! LISTEN and NOTIFY work in transaction mode as on a connection of one's own.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use hawser_tests::raw::messages::{bind, describe, execute, extended, parse, query, sync};
use hawser_tests::raw::{Backend, Client};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use hawser_tests::{Account, Config, Ensemble, Site, cluster, raise_file_limit, wait_until};

/// How long nothing must come.
const SILENCE: Duration = Duration::from_millis(200);

/// Sender, channel and payload of a NotificationResponse.
#[track_caller]
fn parts(message: &Backend) -> (u32, String, String) {
    assert_eq!(message.tag, b'A', "{message:?}");
    let (pid, rest) = message.body.split_first_chunk::<4>().unwrap();
    let mut texts = rest.split(|byte| *byte == 0).map(|text| String::from_utf8(text.to_vec()).unwrap());
    (u32::from_be_bytes(*pid), texts.next().unwrap(), texts.next().unwrap())
}

/// The next message, which is a notification: channel and payload with a space between.
#[track_caller]
fn next(client: &mut Client) -> String {
    let (_, channel, payload) = parts(&client.read());
    format!("{channel} {payload}")
}

/// The notifications among `messages`.
fn notified(messages: &[Backend]) -> Vec<String> {
    let heard = messages.iter().filter(|message| message.tag == b'A').map(parts);
    heard.map(|(_, channel, payload)| format!("{channel} {payload}")).collect()
}

fn notify(client: &mut Client, channel: &str, payload: &str) {
    client.execute(&format!("NOTIFY {channel}, '{payload}'"));
}

/// Ends the listening connection of this account, and waits until that has happened.
fn cut_listening_connection(account: &Account) {
    let name = "application_name = 'hawser_listen'";
    let whose = format!("FROM pg_stat_activity WHERE datname = '{}' AND {name}", account.database);
    let pids = cluster().psql(&format!("SELECT pid {whose}")).unwrap();
    assert_eq!(pids.lines().count(), 1, "one listening connection");
    cluster().psql(&format!("SELECT pg_terminate_backend(pid) {whose}")).unwrap();
    wait_until("the listening connection is gone", || {
        cluster().psql(&format!("SELECT pid {whose}")).unwrap() != pids
    });
}

#[test]
fn clients_over_one_server_connection_hear_each_other() {
    let site = Site::new();
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("LISTEN jobs");
    notify(&mut writer, "jobs", "one");
    writer.execute("SELECT pg_notify('jobs', 'two')");
    assert_eq!(next(&mut reader), "jobs one");
    assert_eq!(next(&mut reader), "jobs two");
    reader.execute("UNLISTEN jobs");
    notify(&mut writer, "jobs", "three");
    reader.expect_silence(SILENCE);
    site.others_are_well();
}

#[test]
fn nothing_of_a_listener_is_left_on_its_server_connection() {
    let site = Site::new();
    let mut reader = site.client();
    reader.execute("LISTEN jobs");
    let mut other = site.client();
    assert_eq!(other.value("SELECT count(*) FROM pg_listening_channels()"), "0");
    notify(&mut other, "jobs", "one");
    other.expect_silence(SILENCE);
    assert_eq!(next(&mut reader), "jobs one");
}

#[test]
fn listen_takes_effect_when_its_transaction_commits() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("BEGIN; LISTEN jobs");
    for number in 0..20 {
        notify(&mut writer, "jobs", &format!("early {number}"));
    }
    reader.execute("COMMIT");
    notify(&mut writer, "jobs", "late");
    assert_eq!(next(&mut reader), "jobs late");
}

#[test]
fn what_is_rolled_back_is_not_listened_on() {
    let site = Site::new();
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("BEGIN");
    reader.execute("LISTEN a");
    reader.execute("ROLLBACK");
    reader.execute("BEGIN");
    reader.execute("LISTEN b");
    reader.error("SELECT 1 / 0");
    reader.execute("COMMIT");
    reader.query("LISTEN c; SELECT 1 / 0");
    reader.execute("LISTEN d");
    reader.execute("BEGIN; UNLISTEN *; ROLLBACK");
    for channel in ["a", "b", "c", "d"] {
        notify(&mut writer, channel, "1");
    }
    assert_eq!(next(&mut reader), "d 1");
    reader.expect_silence(SILENCE);
}

#[test]
fn savepoints_take_back_what_came_after_them() {
    let site = Site::new();
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("BEGIN");
    reader.execute("SAVEPOINT before");
    reader.execute("LISTEN a");
    reader.execute("ROLLBACK TO before");
    reader.execute("LISTEN b");
    reader.execute("SAVEPOINT kept");
    reader.execute("LISTEN c");
    reader.execute("RELEASE kept");
    reader.execute("SAVEPOINT gone");
    reader.execute("UNLISTEN b");
    reader.execute("LISTEN d");
    reader.execute("ROLLBACK TO SAVEPOINT gone");
    reader.execute("COMMIT");
    for channel in ["a", "b", "c", "d"] {
        notify(&mut writer, channel, "1");
    }
    assert_eq!(next(&mut reader), "b 1");
    assert_eq!(next(&mut reader), "c 1");
    reader.expect_silence(SILENCE);
}

#[test]
fn a_client_hears_itself_before_it_is_told_that_the_server_is_ready() {
    let site = Site::new();
    let mut client = site.client();
    let own = u32::try_from(client.key.as_ref().unwrap().process).unwrap();
    client.execute("LISTEN jobs");
    for sql in ["NOTIFY jobs, 'x'", "SELECT pg_notify('jobs', 'x')", "BEGIN; NOTIFY jobs, 'x'; COMMIT"] {
        let messages = client.query(sql);
        let heard: Vec<_> = messages.iter().filter(|message| message.tag == b'A').map(parts).collect();
        assert_eq!(heard, [(own, "jobs".into(), "x".into())], "{sql}: {messages:?}");
    }
    // In one transaction with the LISTEN.
    for (channel, end) in [("a", ""), ("b", "; COMMIT")] {
        let begin = if end.is_empty() { "" } else { "BEGIN; " };
        let messages = client.query(&format!("{begin}LISTEN {channel}; NOTIFY {channel}, 'y'{end}"));
        assert_eq!(notified(&messages), [format!("{channel} y")]);
    }
    client.execute("BEGIN");
    client.execute("LISTEN c");
    client.execute("NOTIFY c, 'z'");
    assert_eq!(notified(&client.query("COMMIT")), ["c z"]);
    // By the extended protocol, and two in one pipeline.
    client.send(&[extended("SELECT pg_notify('jobs', $1)", &[Some("p")]), sync()].concat());
    assert_eq!(notified(&client.read_until_ready()), ["jobs p"]);
    let one = [extended("NOTIFY jobs, '1'", &[]), sync()].concat();
    let two = [extended("NOTIFY jobs, '2'", &[]), sync()].concat();
    client.send(&[one, two].concat());
    let mut heard = notified(&client.read_until_ready());
    heard.extend(notified(&client.read_until_ready()));
    assert_eq!(heard, ["jobs 1", "jobs 2"]);
    client.expect_silence(SILENCE);
}

#[test]
fn in_a_pipeline_a_client_hears_what_it_notifies_while_it_listens() {
    let site = Site::new();
    // The hub has the channel all the time.
    let mut other = site.client();
    other.execute("LISTEN jobs");
    let mut client = site.client();
    let said = [
        "NOTIFY jobs, 'before'",
        "LISTEN jobs",
        "NOTIFY jobs, 'during'",
        "UNLISTEN *",
        "NOTIFY jobs, 'after'",
    ];
    for _ in 0..20 {
        client.send(&said.map(query).concat());
        let heard = said.iter().flat_map(|_| client.read_until_ready()).collect::<Vec<_>>();
        assert_eq!(notified(&heard), ["jobs during"]);
    }
    client.expect_silence(SILENCE);
}

#[test]
fn others_are_told_the_number_that_the_sender_was_told_at_login() {
    let site = Site::new();
    let (mut reader, mut writer) = (site.client(), site.client());
    let number = |client: &Client| u32::try_from(client.key.as_ref().unwrap().process).unwrap();
    let (reads, writes) = (number(&reader), number(&writer));
    reader.execute("LISTEN jobs");
    for (sql, payload) in [
        ("NOTIFY jobs, 'simple'", "simple"),
        ("SELECT pg_notify('jobs', 'function')", "function"),
        ("BEGIN; NOTIFY jobs, 'transaction'; COMMIT", "transaction"),
    ] {
        writer.execute(sql);
        assert_eq!(parts(&reader.read()), (writes, "jobs".into(), payload.into()));
    }
    writer.send(&[extended("SELECT pg_notify('jobs', $1)", &[Some("extended")]), sync()].concat());
    writer.read_until_ready();
    assert_eq!(parts(&reader.read()), (writes, "jobs".into(), "extended".into()));
    // Over the same server connection, one after the other.
    let own = reader.query("NOTIFY jobs, 'own'");
    assert_eq!(parts(own.iter().find(|message| message.tag == b'A').unwrap()).0, reads);
    notify(&mut writer, "jobs", "again");
    assert_eq!(parts(&reader.read()).0, writes);
}

#[test]
fn a_sender_that_no_text_shows_has_the_number_of_its_server_process() {
    let site = Site::new();
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("LISTEN jobs");
    writer.execute("CREATE FUNCTION tell() RETURNS int LANGUAGE sql AS 'SELECT pg_backend_pid() FROM pg_notify(''jobs'', ''f'')'");
    notify(&mut writer, "jobs", "seen");
    next(&mut reader);
    let pid = site.client().value("SELECT tell()");
    assert_eq!(parts(&reader.read()), (pid.parse().unwrap(), "jobs".into(), "f".into()));
}

#[test]
fn notifications_come_between_transactions_in_order() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("LISTEN jobs");
    reader.execute("BEGIN");
    assert_eq!(reader.value("SELECT 1"), "1");
    for number in 0..100 {
        notify(&mut writer, "jobs", &number.to_string());
    }
    assert!(notified(&reader.query("SELECT 2")).is_empty());
    reader.expect_silence(SILENCE);
    let mut heard = notified(&reader.query("COMMIT"));
    while heard.len() < 100 {
        heard.push(next(&mut reader));
    }
    let wanted: Vec<String> = (0..100).map(|number| format!("jobs {number}")).collect();
    assert_eq!(heard, wanted);
    reader.expect_silence(SILENCE);
}

#[test]
fn a_transaction_that_no_server_has_seen_is_a_transaction() {
    let site = Site::new();
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("LISTEN jobs");
    reader.execute("BEGIN");
    notify(&mut writer, "jobs", "1");
    reader.expect_silence(SILENCE);
    let mut heard = notified(&reader.query("COMMIT"));
    if heard.is_empty() {
        heard.push(next(&mut reader));
    }
    assert_eq!(heard, ["jobs 1"]);
}

#[test]
fn listen_works_in_every_form() {
    let site = Site::new();
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("SELECT 1; LISTEN one; SELECT 2");
    reader.send(&[extended("LISTEN two", &[]), sync()].concat());
    reader.expect("12nCZ");
    // A named statement, used again later on.
    reader.send(&[parse("listen", "LISTEN three"), describe(b'S', "listen"), sync()].concat());
    reader.expect("1tnZ");
    reader.send(&[bind("", "listen", &[]), execute("", 0), sync()].concat());
    reader.expect("2CZ");
    // A pipeline, with an error in one of its batches.
    let batch = |sql: &str| [extended(sql, &[]), sync()].concat();
    let failing = [extended("LISTEN lost", &[]), extended("SELECT 1 / 0", &[]), sync()].concat();
    reader.send(
        &[batch("SELECT 1"), batch("LISTEN four"), failing, batch("LISTEN \"Five \"\"5\"\"\"")].concat(),
    );
    for _ in 0..4 {
        reader.read_until_ready();
    }
    reader.send(&[query("BEGIN"), query("LISTEN six"), query("COMMIT"), query("SELECT 1")].concat());
    for _ in 0..4 {
        reader.read_until_ready();
    }
    for channel in ["one", "two", "three", "four", "lost", "\"Five \"\"5\"\"\"", "SIX"] {
        notify(&mut writer, channel, "x");
    }
    for channel in ["one", "two", "three", "four", "Five \"5\"", "six"] {
        assert_eq!(next(&mut reader), format!("{channel} x"));
    }
    reader.execute("UNLISTEN *");
    notify(&mut writer, "one", "y");
    reader.send(&[bind("", "listen", &[]), execute("", 0), sync()].concat());
    reader.expect("2CZ");
    notify(&mut writer, "three", "y");
    assert_eq!(next(&mut reader), "three y");
    reader.execute("DISCARD ALL");
    notify(&mut writer, "three", "z");
    reader.expect_silence(SILENCE);
}

#[test]
fn errors_of_listen_are_the_servers() {
    let site = Site::new();
    let mut client = site.client();
    assert_eq!(client.error("LISTEN").sqlstate(), "42601");
    assert_eq!(client.error("LISTEN a b").sqlstate(), "42601");
    client.execute("BEGIN");
    assert_eq!(client.error("LISTEN").sqlstate(), "42601");
    assert_eq!(client.error("LISTEN a").sqlstate(), "25P02");
    client.execute("ROLLBACK");
    site.others_are_well();
}

#[test]
fn many_clients_listen_over_few_server_connections() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let mut readers: Vec<Client> = (0..40).map(|_| site.client()).collect();
    for (number, reader) in readers.iter_mut().enumerate() {
        reader.execute(&format!("LISTEN everybody; LISTEN group_{}", number % 4));
    }
    let mut writer = site.client();
    notify(&mut writer, "everybody", "1");
    notify(&mut writer, "group_3", "2");
    notify(&mut writer, "everybody", "3");
    for (number, reader) in readers.iter_mut().enumerate() {
        assert_eq!(next(reader), "everybody 1");
        if number % 4 == 3 {
            assert_eq!(next(reader), "group_3 2");
        }
        assert_eq!(next(reader), "everybody 3");
    }
    let (connections, busy) = site.server_connections();
    assert!(connections <= 3 && busy == 0, "{connections} server connections, {busy} busy");
}

#[test]
fn a_client_that_keeps_its_server_connection_hears_once() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("CREATE TEMP TABLE kept (id int)");
    reader.execute("LISTEN jobs");
    notify(&mut writer, "jobs", "1");
    assert_eq!(next(&mut reader), "jobs 1");
    assert_eq!(notified(&reader.query("NOTIFY jobs, '2'")), ["jobs 2"]);
    reader.expect_silence(SILENCE);
}

#[test]
fn a_client_in_another_encoding_keeps_its_server_connection() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("SET client_encoding TO 'LATIN1'");
    reader.execute("LISTEN jobs");
    let pid = reader.value("SELECT pg_backend_pid()");
    notify(&mut writer, "jobs", "\u{e9}");
    let message = reader.read();
    assert_eq!(message.body[4..], *b"jobs\0\xe9\0");
    assert_eq!(reader.value("SELECT pg_backend_pid()"), pid);
    reader.execute("UNLISTEN *");
    notify(&mut writer, "jobs", "2");
    reader.expect_silence(SILENCE);
}

#[test]
fn only_a_listen_that_nobody_sees_pins() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let (mut reader, mut hidden, mut writer) = (site.client(), site.client(), site.client());
    reader.execute("CREATE FUNCTION quiet() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'");
    reader.execute("BEGIN; LISTEN jobs; SELECT quiet(); COMMIT");
    hidden.execute("DO $$ BEGIN EXECUTE 'LISTEN jobs'; END $$");
    // By now the server was asked what the block left behind.
    assert_eq!(hidden.value("SELECT pg_listening_channels()"), "jobs");
    // On the only server connection that is left.
    notify(&mut writer, "jobs", "1");
    assert_eq!(next(&mut reader), "jobs 1");
    assert_eq!(next(&mut hidden), "jobs 1");
    hidden.execute("UNLISTEN *");
    notify(&mut writer, "jobs", "2");
    assert_eq!(next(&mut reader), "jobs 2");
    hidden.expect_silence(SILENCE);
}

#[test]
fn where_the_hub_cannot_connect_a_listener_keeps_its_server_connection() {
    let account = Account::new(cluster());
    cluster().psql(&format!("ALTER ROLE \"{}\" CONNECTION LIMIT 2", account.user)).unwrap();
    let config = Config::new(cluster(), &account).set("pool.size", 2);
    let site = Site::of(account, &config);
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("BEGIN; SELECT 1");
    writer.execute("BEGIN; SELECT 1");
    reader.execute("COMMIT");
    writer.execute("COMMIT");
    reader.execute("LISTEN jobs");
    notify(&mut writer, "jobs", "1");
    assert_eq!(next(&mut reader), "jobs 1");
    notify(&mut writer, "jobs", "2");
    assert_eq!(next(&mut reader), "jobs 2");
    reader.execute("UNLISTEN *");
    notify(&mut writer, "jobs", "3");
    reader.expect_silence(SILENCE);
    site.others_are_well();
}

#[test]
fn after_a_lost_listening_connection_clients_learn_of_the_gap_and_hear_again() {
    let site = Site::new();
    let (mut reader, mut idle, mut writer) = (site.client(), site.client(), site.client());
    reader.execute("LISTEN a; LISTEN b");
    notify(&mut writer, "a", "1");
    assert_eq!(next(&mut reader), "a 1");
    cut_listening_connection(&site.account);
    let notice = reader.read();
    assert_eq!((notice.tag, notice.sqlstate().as_str()), (b'N', "01H01"), "{notice:?}");
    notify(&mut writer, "a", "2");
    notify(&mut writer, "b", "3");
    assert_eq!(next(&mut reader), "a 2");
    assert_eq!(next(&mut reader), "b 3");
    idle.expect_silence(SILENCE);
    site.hawser().wait_for_log("listening connection lost");
}

#[test]
fn listeners_move_when_the_settings_lead_elsewhere() {
    let account = Account::new(cluster());
    let config = Config::new(cluster(), &account);
    let site = Site::of(account.clone(), &config);
    let (mut idle, mut reader) = (site.client(), site.client());
    idle.execute("LISTEN jobs");
    reader.execute("BEGIN; LISTEN jobs");
    // The same server by another name, so that it can be seen from one that was not moved.
    site.hawser().reload(&config.hosts(&[format!("localhost:{}", cluster().port())]));
    let notice = idle.read();
    assert_eq!((notice.tag, notice.sqlstate().as_str()), (b'N', "01H01"), "{notice:?}");
    reader.execute("COMMIT");
    let mut writer = site.client();
    notify(&mut writer, "jobs", "1");
    assert_eq!(next(&mut idle), "jobs 1");
    let mut said = reader.read();
    if said.tag == b'N' {
        said = reader.read();
    }
    assert_eq!(parts(&said).2, "1");
    idle.expect_silence(SILENCE);
}

#[test]
fn a_client_that_does_not_read_is_closed_with_an_error_and_holds_nobody_up() {
    let site = Site::with(|config| config.set("limits.notify_queue", "\"256kB\""));
    let (mut slow, mut reader, mut writer) = (site.client(), site.client(), site.client());
    slow.execute("LISTEN jobs");
    reader.execute("LISTEN jobs");
    let payload = "x".repeat(7900);
    let mut sent = 0;
    // More than the sockets between hold, whatever their size.
    while !site.hawser().log().contains("too many notifications wait") {
        writer.execute(&format!("SELECT pg_notify('jobs', '{sent} {payload}')"));
        assert_eq!(next(&mut reader), format!("jobs {sent} {payload}"));
        sent += 1;
        assert!(sent < 20_000, "the slow client is still there");
    }
    let said = slow.expect_closed();
    let (last, before) = said.split_last().unwrap();
    assert_eq!((last.tag, last.sqlstate().as_str()), (b'E', "53400"), "{last:?}");
    for (number, message) in before.iter().enumerate() {
        assert!(parts(message).2.starts_with(&format!("{number} ")));
    }
    assert!(before.len() < sent);
    site.others_are_well();
}

#[test]
fn in_session_mode_listen_is_the_servers() {
    let site = Site::with(|config| config.set("pool.mode", "\"session\"").set("pool.size", 2));
    let (mut reader, mut writer) = (site.client(), site.client());
    reader.execute("LISTEN jobs");
    assert_eq!(reader.value("SELECT pg_listening_channels()"), "jobs");
    notify(&mut writer, "jobs", "1");
    assert_eq!(next(&mut reader), "jobs 1");
    assert_eq!(notified(&reader.query("NOTIFY jobs, '2'")), ["jobs 2"]);
    reader.terminate();
    writer.terminate();
    let mut next_one = site.client();
    assert_eq!(next_one.value("SELECT count(*) FROM pg_listening_channels()"), "0");
}

/// A crowd of listeners, and how much it is sent: a tenth of the whole unless `HAWSER_STORM` is set.
struct Storm {
    listeners: usize,
    channels: usize,
    notifications: usize,
}

impl Storm {
    fn new() -> Self {
        let scale = if std::env::var_os("HAWSER_STORM").is_some() { 1 } else { 10 };
        Self { listeners: 1000 / scale, channels: 200 / scale, notifications: 10_000 / scale }
    }

    /// Sends the notifications with these numbers, five in a transaction, to the channels in turn.
    fn send(&self, writer: &mut Client, numbers: std::ops::Range<usize>) {
        let call = |number| format!("pg_notify('storm_{}', '{number}')", number % self.channels);
        for number in numbers.step_by(5) {
            let calls: Vec<String> = (number..number + 5).map(call).collect();
            writer.execute(&format!("SELECT {}", calls.join(", ")));
        }
    }

    /// What one listener reads up to the last notification: numbers, and how many of them came before the notice
    /// of the gap.
    fn read(&self, listener: &mut Client) -> (Vec<usize>, Option<usize>) {
        let (mut numbers, mut gap) = (Vec::new(), None);
        loop {
            let message = listener.read();
            if message.tag == b'N' {
                assert_eq!(message.sqlstate(), "01H01", "{message:?}");
                assert_eq!(gap.replace(numbers.len()), None, "one gap is told once");
                continue;
            }
            let (_, _, payload) = parts(&message);
            if payload == "end" {
                return (numbers, gap);
            }
            numbers.push(payload.parse().unwrap());
        }
    }
}

#[test]
fn a_storm_loses_and_doubles_nothing_outside_the_gap_that_is_told() {
    let storm = Storm::new();
    raise_file_limit();
    let site = Site::with(|config| config.set("pool.size", 4));
    let mut listeners: Vec<Client> = (0..storm.listeners).map(|_| site.client()).collect();
    for (number, listener) in listeners.iter_mut().enumerate() {
        listener.execute(&format!("LISTEN storm_{}", number % storm.channels));
    }
    let mut writer = site.client();
    let half = storm.notifications / 2;
    storm.send(&mut writer, 0..half);
    std::thread::scope(|scope| {
        scope.spawn(|| cut_listening_connection(&site.account));
        storm.send(&mut writer, half..half + half / 2);
    });
    site.hawser().wait_for_log("restored=true");
    let certain = half + half / 2;
    storm.send(&mut writer, certain..storm.notifications);
    for channel in 0..storm.channels {
        notify(&mut writer, &format!("storm_{channel}"), "end");
    }
    let mut lost = 0;
    for (number, listener) in listeners.iter_mut().enumerate() {
        let (heard, gap) = storm.read(listener);
        let sent: Vec<usize> = (0..storm.notifications)
            .filter(|other| other % storm.channels == number % storm.channels)
            .collect();
        assert!(heard.windows(2).all(|two| two[0] < two[1]), "doubled or out of order: {heard:?}");
        let missing: Vec<usize> = sent.iter().copied().filter(|one| !heard.contains(one)).collect();
        let gap = gap.expect("everybody who listens is told of the gap");
        // One hole, which the notice does not come before.
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            assert_eq!(missing.len(), (last - first) / storm.channels + 1, "more than one hole: {missing:?}");
            assert!((half..certain).contains(last), "lost what was sent after the gap: {missing:?}");
            assert!(
                heard.iter().take(gap).filter(|one| *one < first).count()
                    == sent.iter().filter(|one| *one < first).count()
            );
        }
        lost += missing.len();
        listener.expect_silence(Duration::from_millis(1));
    }
    println!("{} listeners, {lost} deliveries lost in the gap that was told", storm.listeners);
    site.others_are_well();
}

/// A listener over a cluster whose primary `fails`; it hears again from the standby that is promoted.
fn failover(fails: impl Fn(&mut Ensemble)) {
    let mut ensemble = Ensemble::new(1, |config| config);
    let mut reader = ensemble.client();
    reader.execute("LISTEN jobs");
    fails(&mut ensemble);
    ensemble.hawser.wait_for_log("no primary");
    ensemble.hosts[1].promote().unwrap();
    let notice = reader.read();
    assert_eq!((notice.tag, notice.sqlstate().as_str()), (b'N', "01H01"), "{notice:?}");
    let mut writer = ensemble.client();
    notify(&mut writer, "jobs", "new");
    assert_eq!(next(&mut reader), "jobs new");
    reader.execute("LISTEN more");
    notify(&mut writer, "more", "newer");
    assert_eq!(next(&mut reader), "more newer");
}

#[test]
fn listeners_follow_the_primary_when_it_crashes() {
    failover(|ensemble| ensemble.hosts[0].kill9().unwrap());
}

#[test]
fn listeners_follow_the_primary_when_it_freezes() {
    failover(|ensemble| ensemble.hosts[0].sigstop());
}

/// Statements of several clients, one after the other: who says what, and whether by the extended protocol.
fn random_history(rng: &mut StdRng, clients: usize, length: usize) -> Vec<(usize, String, bool)> {
    let mut history = Vec::new();
    // Who may be in a transaction, and whether others have said something since it began.
    let mut open: Vec<Option<bool>> = vec![None; clients];
    for step in 0..length {
        let (channel, savepoint) = (rng.random_range(0..4), rng.random_range(0..3));
        let who = rng.random_range(0..clients);
        // To a session that listens already, PostgreSQL also tells what was committed after the beginning of its
        // transaction and before its LISTEN. That is no promise of LISTEN, and we do not keep it.
        let listens = open[who] != Some(true);
        let sql = match rng.random_range(0..20) {
            8..=12 | 19.. if !listens => "SELECT 1".to_owned(),
            0 | 1 => "BEGIN".to_owned(),
            2 | 3 => "COMMIT".to_owned(),
            4 => "ROLLBACK".to_owned(),
            5 => format!("SAVEPOINT s{savepoint}"),
            6 => format!("ROLLBACK TO s{savepoint}"),
            7 => format!("RELEASE s{savepoint}"),
            8..=10 => format!("LISTEN c{channel}"),
            11 => format!("UNLISTEN c{channel}"),
            12 => "UNLISTEN *".to_owned(),
            13..=15 => format!("NOTIFY c{channel}, '{step}'"),
            16 => format!("SELECT pg_notify('c{channel}', '{step}')"),
            17 => "SELECT 1 / 0".to_owned(),
            18 => "DISCARD ALL".to_owned(),
            _ => format!("LISTEN c{channel}; NOTIFY c{channel}, '{step}'"),
        };
        let extended = !sql.contains(';') && rng.random_bool(0.3);
        match sql.as_str() {
            "BEGIN" => _ = open[who].get_or_insert(false),
            "COMMIT" | "ROLLBACK" => open[who] = None,
            _ => {}
        }
        for (_, other) in open.iter_mut().enumerate().filter(|(other, _)| *other != who) {
            *other = other.map(|_| true);
        }
        history.push((who, sql, extended));
    }
    history
}

/// What each client has heard at the end.
fn play(port: u16, account: &Account, clients: usize, history: &[(usize, String, bool)]) -> Vec<Vec<String>> {
    let mut clients: Vec<Client> = (0..clients).map(|_| Client::login(port, account)).collect();
    let mut heard = vec![Vec::new(); clients.len()];
    for (who, sql, by_extended) in history {
        let client = &mut clients[*who];
        if *by_extended {
            client.send(&[extended(sql, &[]), sync()].concat());
        } else {
            client.send(&query(sql));
        }
        heard[*who].extend(notified(&client.read_until_ready()));
    }
    for (client, heard) in clients.iter_mut().zip(&mut heard) {
        for sql in ["ROLLBACK", "LISTEN the_end"] {
            heard.extend(notified(&client.query(sql)));
        }
    }
    notify(&mut Client::login(port, account), "the_end", "");
    for (client, heard) in clients.iter_mut().zip(&mut heard) {
        while heard.last().is_none_or(|last| last != "the_end ") {
            heard.push(next(client));
        }
    }
    heard
}

#[test]
fn a_random_history_is_heard_as_on_connections_of_ones_own() {
    const CLIENTS: usize = 4;
    let site = Site::with(|config| config.set("pool.size", CLIENTS));
    for round in 0..12 {
        let seed = rand::random();
        let history = random_history(&mut StdRng::seed_from_u64(seed), CLIENTS, 150);
        let direct = play(cluster().port(), &site.account, CLIENTS, &history);
        let pooled = play(site.port, &site.account, CLIENTS, &history);
        for (who, (wanted, heard)) in direct.iter().zip(&pooled).enumerate() {
            assert_eq!(heard, wanted, "client {who}, seed {seed}, round {round}: {history:#?}");
        }
    }
}

/// The listening connection stays for a while when nobody needs it any more.
#[test]
fn a_database_in_which_nobody_listens_any_more_can_be_dropped() {
    let site = Site::new();
    let doomed = Account { database: format!("{}_doomed", site.account.database), ..site.account.clone() };
    cluster().psql(&format!("ALTER ROLE \"{}\" CREATEDB", doomed.user)).unwrap();
    let mut owner = site.client();
    for _ in 0..2 {
        owner.execute(&format!("CREATE DATABASE \"{}\"", doomed.database));
        let mut reader = Client::login(site.port, &doomed);
        reader.execute("LISTEN a");
        notify(&mut Client::login(site.port, &doomed), "a", "1");
        assert_eq!(next(&mut reader), "a 1");
        reader.terminate();
        owner.execute(&format!("DROP DATABASE \"{}\"", doomed.database));
    }
}
