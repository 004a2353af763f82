//! The protocol, message by message: what a client says reaches the server, and what comes back is what is owed, in order.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hawser_tests::raw::messages::{
    self, GSSENC_REQUEST, SSL_REQUEST, V3_0, V3_2, bind, close, copy_data, copy_done, copy_fail, describe,
    execute, extended, flush, function_call, parse, query, startup, sync,
};
use hawser_tests::raw::{Backend, Client, TlsOptions, rows, sqlstate_of, status, tags};
use hawser_tests::{Account, Site, cluster, is_direct};

/// Fails when it is run, not already when it is planned.
const DIVIDE: &str = "SELECT 1 / (random() * 0)::int";

// ---------------------------------------------------------------------------------------------------------- startup

#[test]
fn gssenc_is_declined_and_tls_may_still_be_asked_for_on_the_same_connection() {
    let site = Site::new();
    if is_direct() {
        // A PostgreSQL that was built with GSSAPI says yes.
        return;
    }
    let mut client = Client::connect(site.port);
    assert_eq!(client.ask(GSSENC_REQUEST), b'N');
    assert_eq!(client.ask(SSL_REQUEST), b'S');
    let mut client = client.begin_tls(&TlsOptions::of(cluster())).unwrap();
    client.try_login(&site.account, &[]).unwrap();
    assert!(client.mechanisms.contains(&"SCRAM-SHA-256-PLUS".to_owned()), "{:?}", client.mechanisms);
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn a_client_may_stay_in_the_clear_after_gssenc_was_declined() {
    let site = Site::new();
    if is_direct() {
        // A PostgreSQL that was built with GSSAPI says yes.
        return;
    }
    let mut client = Client::connect(site.port);
    assert_eq!(client.ask(GSSENC_REQUEST), b'N');
    client.try_login(&site.account, &[]).unwrap();
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn tls_is_declined_when_there_is_none() {
    if is_direct() {
        return;
    }
    let site = Site::with(|config| config.set("client_tls.mode", "\"disable\""));
    let mut client = Client::connect(site.port);
    assert_eq!(client.ask(SSL_REQUEST), b'N');
    client.try_login(&site.account, &[]).unwrap();
}

#[test]
fn a_client_in_the_clear_is_refused_when_tls_is_required() {
    if is_direct() {
        return;
    }
    let site = Site::with(|config| config.set("client_tls.mode", "\"require\""));
    let mut client = Client::connect(site.port);
    let error = client.try_login(&site.account, &[]).unwrap_err();
    assert_eq!(error.field(b'S'), "FATAL");
    client.expect_closed();
    let mut client = Client::login_tls(site.port, &site.account, &TlsOptions::of(cluster()));
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn direct_tls_with_alpn_postgresql_is_accepted() {
    if is_direct() && cluster().packages().major < 17 {
        return;
    }
    let site = Site::new();
    let options = TlsOptions::of(cluster()).with_alpn("postgresql");
    let mut client = Client::connect_tls_direct(site.port, &options).unwrap();
    assert_eq!(client.alpn(), Some(b"postgresql".as_slice()));
    client.try_login(&site.account, &[]).unwrap();
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn direct_tls_without_the_right_alpn_is_refused() {
    let site = Site::new();
    for options in [TlsOptions::of(cluster()), TlsOptions::of(cluster()).with_alpn("http/1.1")] {
        let refused = match Client::connect_tls_direct(site.port, &options) {
            Err(_) => true,
            Ok(mut client) => {
                client.try_send(&startup(V3_0, &[("user", "x")])).is_err() || client.try_read().is_err()
            }
        };
        assert!(refused, "{options:?}");
    }
}

#[test]
fn bytes_sent_in_the_clear_right_after_sslrequest_are_refused() {
    // They would be taken for something that came under TLS (CVE-2021-23214).
    let site = Site::new();
    let mut client = Client::connect(site.port);
    // PostgreSQL waits for a TLS handshake that does not come, or closes.
    client.set_patience(Duration::from_secs(1));
    let mut bytes = messages::packet(SSL_REQUEST, &[]);
    bytes.extend(startup(V3_0, &[("user", &site.account.user)]));
    client.send(&bytes);
    let mut answers = Vec::new();
    while let Ok(message) = client.try_read() {
        answers.push(message);
    }
    assert!(!tags(&answers).contains('R'), "{answers:?}");
}

#[test]
fn protocol_3_2_is_spoken_or_negotiated_down_and_the_cancel_key_works() {
    let site = Site::new();
    let mut client = Client::connect(site.port);
    client.try_login_as(V3_2, &site.account, &[("_pq_.hawser_unknown", "1")]).unwrap();
    let (_, unknown) = client.negotiated.clone().expect("NegotiateProtocolVersion names the unknown option");
    assert_eq!(unknown, ["_pq_.hawser_unknown"]);
    let key = client.key.clone().unwrap();
    if is_direct() {
        return;
    }
    assert!(key.secret.len() > 4 && key.secret.len() <= 256, "a 3.2 key of {} bytes", key.secret.len());
    client.send(&query("SELECT pg_sleep(30)"));
    let error = cancel_until_it_works(&site, &mut client);
    assert_eq!(error.sqlstate(), "57014");
}

/// A cancel may come before the query and then does nothing: repeats it until there is an answer.
fn cancel_until_it_works(site: &Site, client: &mut Client) -> Backend {
    let key = client.key.clone().unwrap();
    client.set_patience(Duration::from_millis(300));
    for _ in 0..50 {
        let mut other = Client::connect(site.port);
        other.send(&messages::cancel(key.process, &key.secret));
        assert!(other.expect_closed().is_empty(), "a cancel request is never answered");
        if let Ok(first) = client.try_read() {
            client.set_patience(Duration::from_secs(20));
            // One that comes early ends the query before it has described its rows.
            if first.tag == b'T' {
                return client.expect("EZ").remove(0);
            }
            client.expect("Z");
            return first;
        }
    }
    panic!("the query goes on");
}

#[test]
fn protocol_3_0_keys_have_four_bytes() {
    let site = Site::new();
    let client = site.client();
    assert_eq!(client.key.unwrap().secret.len(), 4);
    assert_eq!(client.negotiated, None);
}

#[test]
fn a_newer_minor_version_is_negotiated_and_another_major_version_refused() {
    let site = Site::new();
    let mut client = Client::connect(site.port);
    client.try_login_as((3 << 16) | 9999, &site.account, &[]).unwrap();
    assert!(client.negotiated.is_some());
    assert_eq!(client.value("SELECT 1"), "1");

    let mut client = Client::connect(site.port);
    client.send(&startup(4 << 16, &[("user", "x")]));
    assert_eq!(tags(&client.expect_closed()), "E");
    for version in [2 << 16, 0] {
        let mut client = Client::connect(site.port);
        client.send(&startup(version, &[("user", "x")]));
        // Clients that old expect another form of error; what counts is that it ends.
        while let Ok(message) = client.try_read() {
            assert_eq!(message.tag, b'E', "version {version:#x}");
        }
    }
}

#[test]
fn the_usual_parameters_are_reported_at_login() {
    let site = Site::new();
    let client = site.client();
    for name in [
        "server_version",
        "server_encoding",
        "client_encoding",
        "application_name",
        "DateStyle",
        "IntervalStyle",
        "TimeZone",
        "integer_datetimes",
        "standard_conforming_strings",
        "is_superuser",
        "session_authorization",
    ] {
        assert!(client.parameter(name).is_some(), "{name} is missing in {:?}", client.parameters);
    }
    assert_eq!(client.parameter("session_authorization"), Some(site.account.user.as_str()));
}

#[test]
fn startup_parameters_of_the_usual_drivers_are_accepted_and_take_effect() {
    let site = Site::new();
    let parameters = [
        ("application_name", "a driver"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "Europe/Vienna"),
        ("extra_float_digits", "2"),
        ("options", "-c statement_timeout=54321 -c extra_float_digits=1"),
    ];
    let mut client = Client::login_with(site.port, &site.account, &parameters);
    assert_eq!(client.value("SHOW application_name"), "a driver");
    assert_eq!(client.value("SHOW timezone"), "Europe/Vienna");
    assert_eq!(client.value("SHOW extra_float_digits"), "2", "what is named by itself holds");
    assert_eq!(client.value("SHOW statement_timeout"), "54321ms");
    drop(client);
    let mut other = site.client();
    assert_ne!(other.value("SHOW timezone"), "Europe/Vienna", "a client's settings are not the next one's");
    assert_eq!(other.value("SHOW statement_timeout"), "0");
}

#[test]
fn an_unknown_startup_parameter_is_refused_as_the_server_would_and_harms_nobody() {
    let site = Site::new();
    let mut client = Client::connect(site.port);
    match client.try_login(&site.account, &[("no_such_parameter", "1")]) {
        Err(error) => assert_eq!(error.field(b'S'), "FATAL"),
        // Hawser may accept it and pass on what the server says of it with the first query.
        Ok(()) => assert_ne!(sqlstate_of(&client.query("SELECT 1")), ""),
    }
    site.others_are_well();
}

#[test]
fn a_database_that_does_not_exist_is_refused_with_3d000() {
    let site = Site::new();
    let missing = Account { database: "no_such_database".to_owned(), ..site.account.clone() };
    let mut client = Client::connect(site.port);
    let error = match client.try_login(&missing, &[]) {
        Err(error) => error,
        Ok(()) => client.error("SELECT 1"),
    };
    assert_eq!(error.sqlstate(), "3D000", "{error:?}");
}

// -------------------------------------------------------------------------------------------------------- simple

#[test]
fn simple_queries_answer_as_the_server_does() {
    let site = Site::new();
    let mut client = site.client();
    assert_eq!(tags(&client.query("SELECT 1, NULL")), "TDCZ");
    assert_eq!(tags(&client.query("")), "IZ");
    assert_eq!(tags(&client.query(" -- nothing\n")), "IZ");
    assert_eq!(tags(&client.query(";;")), "IZ");
    assert_eq!(tags(&client.query("SELECT 1; SELECT 2; SELECT 3")), "TDCTDCTDCZ");
    assert_eq!(tags(&client.query("SELECT 1; SELECT 1/0; SELECT 3")), "TDCEZ");
    assert_eq!(tags(&client.query("SELEC")), "EZ");
    let row = &client.query("SELECT 1, NULL, 'ä'")[1];
    assert_eq!(row.columns(), [Some("1".to_owned()), None, Some("ä".to_owned())]);
}

#[test]
fn the_status_follows_the_transaction() {
    let site = Site::new();
    let mut client = site.client();
    assert_eq!(status(&client.query("BEGIN")), 'T');
    assert_eq!(status(&client.query("SELECT 1")), 'T');
    assert_eq!(status(&client.query("SELECT 1/0")), 'E');
    let failed = client.query("SELECT 1");
    assert_eq!((sqlstate_of(&failed).as_str(), status(&failed)), ("25P02", 'E'));
    assert_eq!(status(&client.query("ROLLBACK")), 'I');
    // Nothing but the BEGIN itself.
    assert_eq!(status(&client.query("BEGIN")), 'T');
    let commit = client.query("COMMIT");
    assert_eq!((tags(&commit).as_str(), status(&commit)), ("CZ", 'I'));
    assert_eq!(commit[0].strings(), ["COMMIT"]);
    site.others_are_well();
}

#[test]
fn a_begin_with_options_keeps_them() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY");
    assert_eq!(client.value("SHOW transaction_isolation"), "serializable");
    assert_eq!(client.value("SHOW transaction_read_only"), "on");
    client.execute("COMMIT");
    client.execute("START TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(client.value("SHOW transaction_isolation"), "repeatable read");
    client.execute("ROLLBACK");
    assert_eq!(client.value("SHOW transaction_isolation"), "read committed");
}

#[test]
fn a_wrong_begin_is_an_error_and_begin_twice_a_warning() {
    let site = Site::new();
    let mut client = site.client();
    let wrong = client.query("BEGIN ISOLATION LEVEL NONSENSE");
    assert_eq!((sqlstate_of(&wrong).as_str(), status(&wrong)), ("42601", 'I'));
    client.execute("BEGIN");
    let twice = client.query("BEGIN");
    assert_eq!(tags(&twice), "NCZ");
    assert_eq!(twice[0].sqlstate(), "25001");
    assert_eq!(status(&client.query("COMMIT")), 'I');
    let alone = client.query("COMMIT");
    assert_eq!((tags(&alone).as_str(), alone[0].sqlstate().as_str()), ("NCZ", "25P01"));
}

#[test]
fn now_is_the_time_of_the_begin_or_later_and_fixed_within_the_transaction() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("BEGIN");
    let first = client.value("SELECT now()");
    assert_eq!(client.value("SELECT now()"), first);
    client.execute("COMMIT AND CHAIN");
    assert_ne!(client.value("SELECT now()"), first);
    assert_eq!(status(&client.query("ROLLBACK")), 'I');
}

#[test]
fn notices_pass_through_and_so_do_parameter_changes() {
    let site = Site::new();
    let mut client = site.client();
    let notice = client.query("DO $$ BEGIN RAISE NOTICE 'hello %', 7; END $$");
    assert_eq!(tags(&notice), "NCZ");
    assert_eq!(notice[0].text(), "hello 7");
    client.execute("BEGIN");
    let set = client.query("SET LOCAL application_name = 'changed'");
    let status = set.iter().find(|message| message.tag == b'S').expect("ParameterStatus");
    assert_eq!(status.strings(), ["application_name", "changed"]);
    client.execute("ROLLBACK");
}

#[test]
fn function_call_works() {
    let site = Site::new();
    let mut client = site.client();
    let oid: u32 = client.value("SELECT 'pg_catalog.int8mi(int8,int8)'::regprocedure::oid").parse().unwrap();
    client.send(&function_call(oid, &["50", "8"]));
    let messages = client.expect("VZ");
    assert_eq!(messages[0].body, [&[0, 0, 0, 2], b"42".as_slice()].concat());
    client.send(&function_call(1, &[]));
    client.expect("EZ");
    site.others_are_well();
}

// ------------------------------------------------------------------------------------------------------ extended

#[test]
fn extended_queries_answer_as_the_server_does() {
    let site = Site::new();
    let mut client = site.client();
    client.send(&[extended("SELECT $1::text", &[Some("x")]), sync()].concat());
    assert_eq!(client.expect("12TDCZ")[3].first(), "x");
    client.send(&[extended("", &[]), sync()].concat());
    client.expect("12nIZ");
    client.send(&[parse("", "SELECT $1::int"), describe(b'S', ""), sync()].concat());
    client.expect("1tTZ");
    client.send(&[parse("", "SELECT FROM WHERE"), bind("", "", &[]), execute("", 0), sync()].concat());
    client.expect("EZ");
    client.send(&sync());
    client.expect("Z");
}

#[test]
fn a_named_statement_is_there_on_whatever_server_connection() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let mut first = site.client();
    let mut second = site.client();
    // The same name, another meaning.
    first.send(&[parse("s", "SELECT 'first ' || $1"), sync()].concat());
    first.expect("1Z");
    second.send(&[parse("s", "SELECT 'second ' || $1"), sync()].concat());
    second.expect("1Z");
    let mut holder = site.client();
    for round in 0..6 {
        // Occupies a server connection every other time, so that the others get another one.
        holder.execute(if round % 2 == 0 { "BEGIN; SELECT 1" } else { "COMMIT" });
        let value = round.to_string();
        first.send(&[bind("", "s", &[Some(&value)]), execute("", 0), sync()].concat());
        assert_eq!(first.expect("2DCZ")[1].first(), format!("first {round}"));
        second.send(&[bind("", "s", &[Some(&value)]), describe(b'P', ""), execute("", 0), sync()].concat());
        assert_eq!(second.expect("2TDCZ")[2].first(), format!("second {round}"));
    }
    holder.query("ROLLBACK");
}

#[test]
fn a_parse_of_what_the_server_has_may_come_alone() {
    let site = Site::new();
    let mut first = site.client();
    first.send(&[parse("s", "SELECT 'known'"), sync()].concat());
    first.expect("1Z");
    let mut second = site.client();
    second.send(&parse("t", "SELECT 'known'"));
    // Nothing is to be sent to the server; the message has been dealt with when Hawser rests.
    if !is_direct() {
        let cpu = || site.hawser().usage().cpu;
        let before = cpu();
        // Not a wait but what is measured.
        std::thread::sleep(Duration::from_millis(400));
        assert!(cpu() - before < Duration::from_millis(200), "Hawser is busy with nothing");
    }
    second.send(&[bind("", "t", &[]), execute("", 0), sync()].concat());
    assert_eq!(second.expect("12DCZ")[2].first(), "known");
}

#[test]
fn a_closed_statement_is_gone_and_closing_nothing_is_no_error() {
    let site = Site::new();
    let mut client = site.client();
    client.send(
        &[parse("s", "SELECT 1"), close(b'S', "s"), close(b'S', "never"), close(b'P', "never"), sync()]
            .concat(),
    );
    client.expect("1333Z");
    client.send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.expect("EZ")[0].sqlstate(), "26000");
    client.send(&[describe(b'S', "s"), sync()].concat());
    assert_eq!(client.expect("EZ")[0].sqlstate(), "26000");
    client.send(&[parse("s", "SELECT 2"), bind("", "s", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.expect("12DCZ")[2].first(), "2");
}

#[test]
fn a_name_that_is_taken_is_an_error() {
    let site = Site::new();
    let mut client = site.client();
    client.send(
        &[parse("s", "SELECT 1"), parse("s", "SELECT 2"), bind("", "s", &[]), execute("", 0), sync()]
            .concat(),
    );
    assert_eq!(client.expect("1EZ")[1].sqlstate(), "42P05");
    client.send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.expect("2DCZ")[1].first(), "1");
}

#[test]
fn a_parse_that_failed_leaves_no_statement() {
    let site = Site::new();
    let mut client = site.client();
    client.send(&[parse("s", "SELECT * FROM no_such_table"), sync()].concat());
    assert_eq!(client.expect("EZ")[0].sqlstate(), "42P01");
    client.send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.expect("EZ")[0].sqlstate(), "26000");
    client.send(&[parse("s", "SELECT 3"), bind("", "s", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.expect("12DCZ")[2].first(), "3");
}

#[test]
fn a_parse_after_an_error_in_the_same_batch_leaves_no_statement() {
    let site = Site::new();
    let mut client = site.client();
    client.send(&[extended(DIVIDE, &[]), parse("late", "SELECT 1"), sync()].concat());
    let messages = client.read_until_ready();
    assert_eq!(tags(&messages), "12TEZ");
    client.send(&[bind("", "late", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.expect("EZ")[0].sqlstate(), "26000");
}

#[test]
fn the_unnamed_statement_lasts_until_the_next_one() {
    let site = Site::new();
    let mut client = site.client();
    client.send(&[parse("", "SELECT $1::int"), sync()].concat());
    client.expect("1Z");
    // Other clients use the same server connection in between.
    site.others_are_well();
    client.send(&[bind("", "", &[Some("5")]), execute("", 0), sync()].concat());
    assert_eq!(client.expect("2DCZ")[1].first(), "5");
}

#[test]
fn an_error_in_the_middle_spoils_its_batch_only() {
    let site = Site::new();
    let mut client = site.client();
    client.send(
        &[
            extended("SELECT 1", &[]),
            extended(DIVIDE, &[]),
            extended("SELECT 2", &[]),
            sync(),
            extended("SELECT 3", &[]),
            sync(),
        ]
        .concat(),
    );
    let messages = client.expect("12TDC12TEZ12TDCZ");
    assert_eq!(rows(&messages), ["1", "3"]);
    site.others_are_well();
}

#[test]
fn several_syncs_at_once_are_answered_one_by_one() {
    let site = Site::new();
    let mut client = site.client();
    let mut batch = Vec::new();
    for number in 0..100 {
        batch.extend(extended("SELECT $1::int", &[Some(&number.to_string())]));
        batch.extend(sync());
    }
    client.send(&batch);
    for number in 0..100 {
        assert_eq!(client.expect("12TDCZ")[3].first(), number.to_string());
    }
    client.send(&[sync(), sync(), sync()].concat());
    client.expect("ZZZ");
}

#[test]
fn simple_and_extended_queries_mix_in_one_write() {
    let site = Site::new();
    let mut client = site.client();
    client
        .send(&[query("SELECT 1"), extended("SELECT 2", &[]), sync(), query("SELECT 3"), query("")].concat());
    let messages = client.expect("TDCZ12TDCZTDCZIZ");
    assert_eq!(rows(&messages), ["1", "2", "3"]);
}

#[test]
fn a_query_ends_a_batch_that_had_no_sync() {
    let site = Site::new();
    let mut client = site.client();
    client.send(&[parse("s", "SELECT 1"), query("SELECT 2")].concat());
    client.expect("1TDCZ");
    client.send(&[bind("", "s", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.expect("2DCZ")[1].first(), "1");
}

#[test]
fn flush_brings_the_answers_without_ending_the_batch() {
    let site = Site::new();
    let mut client = site.client();
    client.send(&[extended("SELECT 1", &[]), flush()].concat());
    client.expect("12TDC");
    client.expect_silence(Duration::from_millis(150));
    client.send(&[extended("SELECT 2", &[]), flush()].concat());
    client.expect("12TDC");
    client.send(&sync());
    client.expect("Z");
    site.others_are_well();
}

#[test]
fn what_is_flushed_is_one_transaction_until_its_sync() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let mut client = site.client();
    client.execute("CREATE TABLE flushed (id int)");
    client.send(&[extended("INSERT INTO flushed VALUES (1)", &[]), flush()].concat());
    client.expect("12nC");
    let mut other = site.client();
    assert_eq!(other.value("SELECT count(*) FROM flushed"), "0");
    client.send(&sync());
    client.expect("Z");
    assert_eq!(other.value("SELECT count(*) FROM flushed"), "1");
}

#[test]
fn portals_with_row_limits_are_suspended_and_continued() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("BEGIN");
    client.send(
        &[parse("", "SELECT generate_series(1, 5)"), bind("p", "", &[]), execute("p", 2), flush()].concat(),
    );
    assert_eq!(rows(&client.expect("12DDs")), ["1", "2"]);
    client.send(&[execute("p", 2), sync()].concat());
    let messages = client.expect("DDsZ");
    assert_eq!((rows(&messages), status(&messages)), (vec!["3".to_owned(), "4".to_owned()], 'T'));
    // The portal lives on after the Sync, within the transaction.
    client.send(&[execute("p", 2), close(b'P', "p"), sync()].concat());
    assert_eq!(rows(&client.expect("DC3Z")), ["5"]);
    client.execute("COMMIT");
    site.others_are_well();
}

#[test]
fn a_pipeline_in_a_transaction_keeps_its_server_connection() {
    let site = Site::with(|config| config.set("pool.size", 4));
    let mut client = site.client();
    let mut batch = [extended("BEGIN", &[]), sync()].concat();
    for _ in 0..20 {
        batch.extend([extended("SELECT pg_backend_pid()", &[]), sync()].concat());
    }
    batch.extend([extended("COMMIT", &[]), sync()].concat());
    client.send(&batch);
    assert_eq!(status(&client.expect("12nCZ")), 'T');
    let pids: Vec<String> = (0..20).map(|_| client.expect("12TDCZ")[3].first()).collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    assert_eq!(status(&client.expect("12nCZ")), 'I');
}

#[test]
fn an_error_in_a_transaction_pipeline_fails_the_transaction_until_rollback() {
    let site = Site::new();
    let mut client = site.client();
    client.send(
        &[
            extended("BEGIN", &[]),
            extended(DIVIDE, &[]),
            sync(),
            extended("SELECT 1", &[]),
            sync(),
            parse("in_failed", "SELECT 1"),
            sync(),
            query("ROLLBACK"),
        ]
        .concat(),
    );
    assert_eq!(status(&client.expect("12nC12TEZ")), 'E');
    assert_eq!(client.expect("EZ")[0].sqlstate(), "25P02");
    assert_eq!(client.expect("EZ")[0].sqlstate(), "25P02");
    assert_eq!(status(&client.expect("CZ")), 'I');
    client.send(&[bind("", "in_failed", &[]), execute("", 0), sync()].concat());
    assert_eq!(client.expect("EZ")[0].sqlstate(), "26000");
}

#[test]
fn messages_that_come_byte_by_byte_are_messages() {
    let site = Site::new();
    let mut client = site.client();
    let bytes = [extended("SELECT $1::text", &[Some("slow")]), sync()].concat();
    for byte in bytes {
        client.send(&[byte]);
    }
    assert_eq!(client.expect("12TDCZ")[3].first(), "slow");
}

#[test]
fn messages_cut_at_any_byte_are_messages() {
    let site = Site::new();
    let mut client = site.client();
    let bytes =
        [query("SELECT 1"), parse("", "SELECT 2"), bind("", "", &[]), execute("", 0), sync()].concat();
    for cut in 1..bytes.len() {
        client.send(&bytes[..cut]);
        // Gives the first part a chance to arrive alone; if it does not, nothing is lost.
        std::thread::yield_now();
        client.send(&bytes[cut..]);
        assert_eq!(rows(&client.expect("TDCZ12DCZ")), ["1", "2"], "cut at {cut}");
    }
}

// ---------------------------------------------------------------------------------------------------------- copy

#[test]
fn copy_in_and_out_work() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE copied (id int, body text)");
    client.send(&query("COPY copied FROM STDIN"));
    client.expect("G");
    let mut data = Vec::new();
    for number in 0..10_000 {
        data.extend(copy_data(format!("{number}\tline {number}\n").as_bytes()));
    }
    client.send(&[data, copy_done()].concat());
    assert_eq!(client.expect("CZ")[0].strings(), ["COPY 10000"]);
    let out = client.query("COPY copied TO STDOUT");
    assert_eq!(out.iter().filter(|message| message.tag == b'd').count(), 10_000);
    assert_eq!(tags(&out[out.len() - 3..]), "cCZ");
    site.others_are_well();
}

#[test]
fn copy_data_without_waiting_for_the_servers_word_works() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE eager (id int)");
    client.send(
        &[
            query("COPY eager FROM STDIN"),
            copy_data(b"1\n2\n"),
            copy_done(),
            query("SELECT count(*) FROM eager"),
        ]
        .concat(),
    );
    assert_eq!(rows(&client.expect("GCZTDCZ")), ["2"]);
}

#[test]
fn a_copy_that_the_client_gives_up_is_an_error_and_nothing_more() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE given_up (id int)");
    client.send(&query("COPY given_up FROM STDIN"));
    client.expect("G");
    client.send(&[copy_data(b"1\n"), copy_fail("changed my mind")].concat());
    let messages = client.expect("EZ");
    assert_eq!(messages[0].sqlstate(), "57014");
    assert!(messages[0].text().contains("changed my mind"));
    assert_eq!(client.value("SELECT count(*) FROM given_up"), "0");
    site.others_are_well();
}

#[test]
fn a_copy_that_the_server_refuses_half_way_swallows_the_rest_of_the_data() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE refused (id int)");
    client.send(&query("COPY refused FROM STDIN"));
    client.expect("G");
    let mut data = copy_data(b"not a number\n");
    for _ in 0..5000 {
        data.extend(copy_data(b"1\n"));
    }
    data.extend(copy_done());
    data.extend(query("SELECT 'after'"));
    client.send(&data);
    let messages = client.expect("EZTDCZ");
    assert_eq!((messages[0].sqlstate().as_str(), rows(&messages)), ("22P02", vec!["after".to_owned()]));
    site.others_are_well();
}

#[test]
fn copy_inside_a_pipeline_works() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE piped (id int)");
    client.send(
        &[
            extended("SELECT 'before'", &[]),
            parse("", "COPY piped FROM STDIN"),
            bind("", "", &[]),
            execute("", 0),
            copy_data(b"1\n2\n3\n"),
            copy_done(),
            sync(),
            extended("SELECT count(*) FROM piped", &[]),
            sync(),
        ]
        .concat(),
    );
    let messages = client.expect("12TDC12GCZ12TDCZ");
    assert_eq!(rows(&messages), ["before", "3"]);
    site.others_are_well();
}

#[test]
fn a_sync_during_copy_in_is_ignored() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE synced (id int)");
    client.send(
        &[
            parse("", "COPY synced FROM STDIN"),
            bind("", "", &[]),
            execute("", 0),
            // As libpq does when it sends Execute and Sync in one go.
            sync(),
            copy_data(b"1\n"),
            flush(),
            copy_data(b"2\n"),
            copy_done(),
            sync(),
        ]
        .concat(),
    );
    client.expect("12GCZ");
    client.expect_silence(Duration::from_millis(150));
    assert_eq!(client.value("SELECT count(*) FROM synced"), "2");
    site.others_are_well();
}

#[test]
fn a_copy_that_fails_inside_a_pipeline_spoils_its_batch_only() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE spoiled (id int)");
    client.send(
        &[
            parse("", "COPY spoiled FROM STDIN"),
            bind("", "", &[]),
            execute("", 0),
            copy_data(b"x\n"),
            copy_data(b"1\n"),
            copy_done(),
            extended("SELECT 'never'", &[]),
            sync(),
            extended("SELECT 'next'", &[]),
            sync(),
        ]
        .concat(),
    );
    let messages = client.expect("12GEZ12TDCZ");
    assert_eq!(rows(&messages), ["next"]);
    site.others_are_well();
}

#[test]
fn copy_out_inside_a_pipeline_works() {
    let site = Site::new();
    let mut client = site.client();
    client.send(
        &[
            parse("", "COPY (SELECT generate_series(1, 3)) TO STDOUT"),
            bind("", "", &[]),
            execute("", 0),
            extended("SELECT 'after'", &[]),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(rows(&client.expect("12HdddcC12TDCZ")), ["after"]);
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_a_copy_leaves_nothing() {
    let site = Site::new();
    let mut client = site.client();
    client.execute("CREATE TABLE left_behind (id int)");
    for way in ["copy", "transaction", "pipeline"] {
        let mut leaver = site.client();
        match way {
            "copy" => {
                leaver.send(&query("COPY left_behind FROM STDIN"));
                leaver.expect("G");
                leaver.send(&copy_data(b"1\n"));
            }
            "transaction" => leaver.execute("BEGIN; INSERT INTO left_behind VALUES (1)"),
            _ => {
                leaver.send(&[extended("INSERT INTO left_behind VALUES (1)", &[]), flush()].concat());
                leaver.expect("12nC");
            }
        }
        drop(leaver);
        assert_eq!(client.value("SELECT count(*) FROM left_behind"), "0", "{way}");
    }
    site.others_are_well();
}

// --------------------------------------------------------------------------------------------- the end of things

#[test]
fn terminate_closes_the_connection() {
    let site = Site::new();
    let mut client = site.client();
    client.send(&messages::terminate());
    assert!(client.expect_closed().is_empty());
    site.others_are_well();
}

#[test]
fn an_unknown_message_ends_the_connection_with_a_protocol_violation() {
    let site = Site::new();
    let mut client = site.client();
    client.send(&messages::message(b'y', b"what"));
    let said = client.expect_closed();
    assert_eq!(sqlstate_of(&said), "08P01", "{said:?}");
    site.others_are_well();
}

#[test]
fn an_idle_client_does_not_notice_that_a_server_connection_is_terminated() {
    if is_direct() {
        return;
    }
    let site = Site::new();
    let mut client = site.client();
    let pid = client.value("SELECT pg_backend_pid()");
    cluster().psql(&format!("SELECT pg_terminate_backend({pid}, 5000)")).unwrap();
    assert_ne!(client.value("SELECT pg_backend_pid()"), pid);
}

#[test]
fn many_clients_share_few_server_connections() {
    if is_direct() {
        return;
    }
    let site = Site::with(|config| config.set("pool.size", 3));
    let pids = std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for _ in 0..30 {
            clients.push(scope.spawn(|| {
                let mut client = site.client();
                (0..20).map(|_| client.value("SELECT pg_backend_pid()")).collect::<Vec<_>>()
            }));
        }
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect::<std::collections::BTreeSet<_>>()
    });
    assert!(pids.len() <= 3, "{pids:?}");
}

#[test]
fn every_client_gets_its_own_answers() {
    let site = Site::with(|config| config.set("pool.size", 4));
    let asked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for who in 0..16 {
            let (site, asked) = (&site, &asked);
            scope.spawn(move || {
                let mut client = site.client();
                for round in 0..100 {
                    let marker = format!("{who}/{round}");
                    match round % 3 {
                        0 => assert_eq!(client.value(&format!("SELECT '{marker}'")), marker),
                        1 => {
                            client.send(&[extended("SELECT $1::text", &[Some(&marker)]), sync()].concat());
                            assert_eq!(client.expect("12TDCZ")[3].first(), marker);
                        }
                        _ => {
                            client.execute("BEGIN");
                            assert_eq!(client.value(&format!("SELECT '{marker}'")), marker);
                            client.execute("COMMIT");
                        }
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(asked.into_inner(), 1600);
}
