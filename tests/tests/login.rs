//! Who may log in, how it is proven, and how Hawser proves itself to the servers.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use hawser_tests::raw::messages::{V3_0, message, sasl_initial, startup};
use hawser_tests::raw::{Backend, Client, TlsOptions, tags};
use hawser_tests::{Account, Config, Hawser, Program, cluster, wait_until};

/// Hawser with these rules.
fn with_rules(account: &Account, rules: &[&str]) -> Config {
    let rules: Vec<String> = rules.iter().map(|rule| format!("{rule:?}")).collect();
    Config::new(cluster(), account).set("auth.rules", format!("[{}]", rules.join(", ")))
}

fn tls() -> TlsOptions {
    TlsOptions::of(cluster())
}

/// A login that has to be refused; the error.
#[track_caller]
fn refused(mut client: Client, account: &Account) -> Backend {
    let error = client.try_login(account, &[]).expect_err("the login must be refused");
    assert_eq!(error.field(b'S'), "FATAL", "{error:?}");
    assert!(client.expect_closed().is_empty());
    error
}

fn wrong_password(account: &Account) -> Account {
    Account { password: "wrong".to_owned(), ..account.clone() }
}

fn who_am_i(client: &mut Client) -> String {
    client.value("SELECT current_user")
}

// --------------------------------------------------------------------------------------------- methods of clients

#[test]
fn scram_works_with_a_password_in_the_file_and_refuses_a_wrong_one() {
    let account = Account::new(cluster());
    let hawser = Hawser::start(&Config::new(cluster(), &account));
    let mut client = Client::login(hawser.port(), &account);
    assert_eq!(client.mechanisms, ["SCRAM-SHA-256"]);
    assert_eq!(who_am_i(&mut client), account.user);
    let error = refused(Client::connect(hawser.port()), &wrong_password(&account));
    assert_eq!(error.sqlstate(), "28P01");
    let text = format!("password authentication failed for user \"{}\"", account.user);
    assert_eq!(error.text(), text);
}

#[test]
fn under_tls_scram_is_bound_to_the_channel() {
    let account = Account::new(cluster());
    let hawser = Hawser::start(&Config::new(cluster(), &account));
    let mut client = Client::login_tls(hawser.port(), &account, &tls());
    assert_eq!(client.mechanisms, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    assert_eq!(who_am_i(&mut client), account.user);
    let out = Program::postgres("psql")
        .args(["-XAtqc", "SELECT 'bound'"])
        .env("PGHOST", "localhost")
        .env("PGPORT", hawser.port().to_string())
        .env("PGUSER", &account.user)
        .env("PGDATABASE", &account.database)
        .env("PGPASSWORD", &account.password)
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", cluster().certificates().ca())
        .env("PGCHANNELBINDING", "require")
        .succeed();
    assert_eq!(out.trim(), "bound");
}

#[test]
fn a_client_that_believes_there_is_no_channel_binding_although_there_is_is_refused() {
    // Somebody in between took the offer away.
    let account = Account::new(cluster());
    let hawser = Hawser::start(&Config::new(cluster(), &account));
    let mut client = Client::connect_tls(hawser.port(), &tls());
    client.send(&startup(V3_0, &[("user", &account.user), ("database", &account.database)]));
    client.expect("R");
    client.send(&sasl_initial("SCRAM-SHA-256", b"y,,n=,r=rOprNGfwEbeRWgbNEkqO"));
    assert_eq!(tags(&client.expect_closed()), "E");
}

#[test]
fn scram_plus_asks_for_channel_binding_and_nothing_less() {
    let account = Account::new(cluster());
    let hawser = Hawser::start(&with_rules(&account, &["host all all all scram-sha-256-plus"]));
    let mut client = Client::connect_tls(hawser.port(), &tls());
    client.try_login(&account, &[]).unwrap();
    assert_eq!(client.mechanisms, ["SCRAM-SHA-256-PLUS"]);
    refused(Client::connect(hawser.port()), &account);
}

#[test]
fn md5_works_with_a_hash_and_with_a_password() {
    let account = Account::new(cluster());
    let by_hash = Account { user: format!("{}_hash", account.user), ..account.clone() };
    cluster()
        .psql(&format!(
            "SET password_encryption = 'md5'; CREATE ROLE \"{}\" LOGIN PASSWORD '{}'",
            by_hash.user, by_hash.password
        ))
        .unwrap();
    let config = with_rules(&account, &["host all all all md5"])
        .user_with(&by_hash.user, &format!("password = \"{}\"", by_hash.verifier(cluster())))
        // The server wants SCRAM from everybody, which an md5 hash cannot give.
        .database(&format!("user = \"{}\"\npassword = \"{}\"", account.user, account.password));
    let hawser = Hawser::start(&config);
    for account in [&account, &by_hash] {
        let mut client = Client::login(hawser.port(), account);
        assert!(client.mechanisms.is_empty());
        assert_eq!(client.value("SELECT 1"), "1");
        assert_eq!(refused(Client::connect(hawser.port()), &wrong_password(account)).sqlstate(), "28P01");
    }
}

#[test]
fn md5_becomes_scram_when_the_secret_is_a_verifier() {
    let account = Account::new(cluster());
    let config = with_rules(&account, &["host all all all md5"])
        .user_with(&account.user, &format!("password = \"{}\"", account.verifier(cluster())));
    let hawser = Hawser::start(&config);
    let mut client = Client::login(hawser.port(), &account);
    assert_eq!(client.mechanisms, ["SCRAM-SHA-256"]);
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn a_password_in_the_clear_is_taken_under_tls_only_unless_the_file_allows_it() {
    let account = Account::new(cluster());
    let config = with_rules(&account, &["host all all all password"]);
    let hawser = Hawser::start(&config);
    assert_eq!(Client::login_tls(hawser.port(), &account, &tls()).value("SELECT 1"), "1");
    refused(Client::connect(hawser.port()), &account);
    let mut silent = Client::connect(hawser.port());
    silent.send(&startup(V3_0, &[("user", &account.user), ("database", &account.database)]));
    assert_eq!(tags(&silent.expect_closed()), "E", "it does not even ask");

    let hawser = Hawser::start(&config.set("auth.password_without_tls", true));
    assert_eq!(Client::login(hawser.port(), &account).value("SELECT 1"), "1");
    assert_eq!(refused(Client::connect(hawser.port()), &wrong_password(&account)).sqlstate(), "28P01");
}

#[test]
fn trust_asks_nothing_and_reject_refuses() {
    let account = Account::new(cluster());
    let other = account.second_user(cluster());
    let trust = format!("host all {} 127.0.0.1/32 trust", account.user);
    let config = with_rules(&account, &[&trust, "host all all all reject"]).user(&other);
    let hawser = Hawser::start(&config);
    let mut client = Client::connect(hawser.port());
    client.try_login(&wrong_password(&account), &[]).unwrap();
    assert_eq!(who_am_i(&mut client), account.user);
    assert_eq!(refused(Client::connect(hawser.port()), &other).sqlstate(), "28000");
}

#[test]
fn without_a_rule_that_fits_nobody_gets_in() {
    let account = Account::new(cluster());
    let rules =
        ["host no_such_database all all trust", "host all nobody all trust", "host all all 10.0.0.0/8 trust"];
    let hawser = Hawser::start(&with_rules(&account, &rules));
    assert_eq!(refused(Client::connect(hawser.port()), &account).sqlstate(), "28000");
}

#[test]
fn the_first_rule_that_fits_decides() {
    let account = Account::new(cluster());
    let rules =
        ["hostssl all all all reject", "hostnossl all all all scram-sha-256", "host all all all trust"];
    let hawser = Hawser::start(&with_rules(&account, &rules));
    assert_eq!(Client::login(hawser.port(), &account).value("SELECT 1"), "1");
    refused(Client::connect(hawser.port()), &wrong_password(&account));
    refused(Client::connect_tls(hawser.port(), &tls()), &account);
}

#[test]
fn rules_may_come_from_a_pg_hba_file_and_users_from_a_userlist() {
    let account = Account::new(cluster());
    let folder = std::env::temp_dir().join(format!("hawser-login-{}", account.user));
    std::fs::create_dir(&folder).unwrap();
    let (hba, users) = (folder.join("pg_hba.conf"), folder.join("userlist.txt"));
    let rule =
        format!("# who\nhost  \"{}\"  all  127.0.0.1  255.255.255.255  scram-sha-256\n", account.database);
    std::fs::write(&hba, rule).unwrap();
    std::fs::write(&users, format!("\"{}\" \"{}\"\n", account.user, account.verifier(cluster()))).unwrap();
    let text = Config::new(cluster(), &account)
        .without_user(&account.user)
        .set("auth.hba_file", format!("{:?}", hba.display().to_string()))
        .set("auth.user_file", format!("{:?}", users.display().to_string()))
        .without("auth.rules");
    let hawser = Hawser::start(&text);
    assert_eq!(who_am_i(&mut Client::login(hawser.port(), &account)), account.user);
    refused(Client::connect(hawser.port()), &wrong_password(&account));
    drop(hawser);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_certificate_proves_its_common_name() {
    let account = Account::named(cluster(), "bob");
    let hawser = Hawser::start(&with_rules(&account, &["hostssl all all all cert"]));
    let options = tls().with_certificate_of(cluster(), "bob");
    assert_eq!(who_am_i(&mut Client::login_tls(hawser.port(), &account, &options)), "bob");
    // Without a certificate, and with somebody else's.
    refused(Client::connect_tls(hawser.port(), &tls()), &account);
    let other = tls().with_certificate_of(cluster(), "app");
    refused(Client::connect_tls(hawser.port(), &other), &account);
    // In the clear no rule fits.
    refused(Client::connect(hawser.port()), &account);
}

#[test]
fn a_name_map_says_whose_certificate_may_be_whom() {
    let account = Account::new(cluster());
    let config = with_rules(&account, &["hostssl all all all cert map=people"])
        .set("auth.name_maps", format!("[\"people /^ap(.)$ {}\", \"people nobody all\"]", account.user));
    let hawser = Hawser::start(&config);
    let app = tls().with_certificate_of(cluster(), "app");
    assert_eq!(who_am_i(&mut Client::login_tls(hawser.port(), &account, &app)), account.user);
    let bob = tls().with_certificate_of(cluster(), "certified");
    refused(Client::connect_tls(hawser.port(), &bob), &account);
}

#[test]
fn a_certificate_may_be_asked_for_besides_the_password() {
    let account = Account::new(cluster());
    let hawser =
        Hawser::start(&with_rules(&account, &["hostssl all all all scram-sha-256 clientcert=verify-ca"]));
    let app = tls().with_certificate_of(cluster(), "app");
    assert_eq!(Client::login_tls(hawser.port(), &account, &app).value("SELECT 1"), "1");
    refused(Client::connect_tls(hawser.port(), &app), &wrong_password(&account));
    refused(Client::connect_tls(hawser.port(), &tls()), &account);
}

#[test]
fn peer_believes_the_system_about_who_is_at_the_other_end_of_the_unix_socket() {
    let account = Account::new(cluster());
    let me = Program::new("id").args(["-un"]).succeed();
    let folder = std::env::temp_dir().join(format!("hawser-peer-{}", account.user));
    std::fs::create_dir(&folder).unwrap();
    let other = account.second_user(cluster());
    let config = with_rules(&account, &["local all all peer map=system"])
        .set("auth.name_maps", format!("[\"system {} {}\"]", me.trim(), account.user))
        .set("listen.unix_dir", format!("{:?}", folder.display().to_string()))
        .set("listen.unix_port", 7777)
        .user(&other);
    let hawser = Hawser::start(&config);
    let mut client = Client::connect_unix(&folder, 7777);
    client.try_login(&account, &[]).unwrap();
    assert_eq!(who_am_i(&mut client), account.user);
    refused(Client::connect_unix(&folder, 7777), &other);
    drop(hawser);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn any_of_several_secrets_will_do() {
    let account = Account::new(cluster());
    let lines = format!("passwords = [\"not yet\", \"{}\"]", account.password);
    let hawser = Hawser::start(
        &with_rules(&account, &["hostssl all all all password", "host all all all scram-sha-256"])
            .user_with(&account.user, &lines)
            .database(&format!("user = \"{}\"\npassword = \"{}\"", account.user, account.password)),
    );
    let next = Account { password: "not yet".to_owned(), ..account.clone() };
    for account in [&account, &next] {
        assert_eq!(Client::login_tls(hawser.port(), account, &tls()).value("SELECT 1"), "1");
    }
}

// ------------------------------------------------------------------------------------------------- where secrets are

#[test]
fn with_a_verifier_alone_hawser_logs_in_as_the_client_by_the_clients_own_proof() {
    let account = Account::new(cluster());
    let config = Config::new(cluster(), &account)
        .user_with(&account.user, &format!("password = \"{}\"", account.verifier(cluster())));
    let hawser = Hawser::start(&config);
    assert_eq!(who_am_i(&mut Client::login(hawser.port(), &account)), account.user);
    assert_eq!(who_am_i(&mut Client::login_tls(hawser.port(), &account, &tls())), account.user);
    refused(Client::connect(hawser.port()), &wrong_password(&account));
}

/// A config whose users come from the server.
fn with_auth_query(account: &Account) -> Config {
    let lookup = Account { user: format!("{}_lookup", account.user), ..account.clone() };
    cluster()
        .psql(&format!("CREATE ROLE \"{}\" SUPERUSER LOGIN PASSWORD '{}'", lookup.user, lookup.password))
        .unwrap();
    Config::new(cluster(), account)
        .without_user(&account.user)
        .user(&lookup)
        .set("auth.query.user", format!("{:?}", lookup.user))
}

#[test]
fn auth_query_finds_users_on_the_server_and_passes_their_proof_through() {
    let account = Account::new(cluster());
    let hawser = Hawser::start(&with_auth_query(&account));
    let mut client = Client::login(hawser.port(), &account);
    assert_eq!(who_am_i(&mut client), account.user);
    assert_eq!(refused(Client::connect(hawser.port()), &wrong_password(&account)).sqlstate(), "28P01");
    let nobody = Account { user: "no_such_user".to_owned(), ..account.clone() };
    assert_eq!(refused(Client::connect(hawser.port()), &nobody).sqlstate(), "28P01");
}

#[test]
fn a_password_changed_on_the_server_counts_after_a_failed_login_however_long_secrets_are_kept() {
    let account = Account::new(cluster());
    let config =
        with_auth_query(&account).set("auth.query.cache_ttl", "\"1h\"").set("auth.throttle_failures", 0);
    let hawser = Hawser::start(&config);
    drop(Client::login(hawser.port(), &account));
    let changed = Account { password: "somethingelse".to_owned(), ..account.clone() };
    cluster().psql(&format!("ALTER ROLE \"{}\" PASSWORD '{}'", changed.user, changed.password)).unwrap();
    // A failure has the secret looked up anew, unless that was done a moment ago.
    wait_until("the new password counts", || Client::connect(hawser.port()).try_login(&changed, &[]).is_ok());
    refused(Client::connect(hawser.port()), &account);
}

#[test]
fn roles_that_expired_or_may_not_log_in_are_refused() {
    let account = Account::new(cluster());
    let hawser = Hawser::start(&with_auth_query(&account));
    for change in ["VALID UNTIL '2001-01-01'", "NOLOGIN"] {
        let account = Account::new(cluster());
        cluster().psql(&format!("ALTER ROLE \"{}\" {change}", account.user)).unwrap();
        let error = refused(Client::connect(hawser.port()), &account);
        assert!(["28P01", "28000"].contains(&error.sqlstate().as_str()), "{change}: {error:?}");
    }
}

#[test]
fn auth_query_never_sees_the_startup_parameters_of_a_client() {
    // A search_path of the client's choice would let it answer the look-up itself.
    let account = Account::new(cluster());
    let config = with_auth_query(&account)
        .set("auth.query.query", "\"SELECT rolname, rolpassword, NULL, current_setting('search_path') NOT LIKE '%evil%' FROM pg_authid WHERE rolname = $1\"");
    let hawser = Hawser::start(&config);
    let mut client = Client::connect(hawser.port());
    client.try_login(&account, &[("options", "-c search_path=evil"), ("search_path", "evil")]).unwrap();
}

#[test]
fn unknown_users_get_the_same_exchange_as_known_ones() {
    let account = Account::new(cluster());
    let hawser = Hawser::start(&Config::new(cluster(), &account));
    let first_message = |user: &str| {
        let mut client = Client::connect(hawser.port());
        client.send(&startup(V3_0, &[("user", user), ("database", &account.database)]));
        let offered = client.expect("R").remove(0);
        client.send(&sasl_initial("SCRAM-SHA-256", b"n,,n=,r=rOprNGfwEbeRWgbNEkqO"));
        let server_first = client.expect("R").remove(0);
        let text = String::from_utf8_lossy(&server_first.body[4..]).into_owned();
        let fields: Vec<String> = text.split(',').map(str::to_owned).collect();
        (offered.body, fields)
    };
    let (known_offer, known) = first_message(&account.user);
    let (unknown_offer, unknown) = first_message("no_such_user");
    assert_eq!(known_offer, unknown_offer);
    assert_eq!(known.len(), unknown.len());
    assert_eq!(known[0].len(), unknown[0].len(), "nonces");
    assert_eq!(known[1].len(), unknown[1].len(), "salts");
    assert_eq!(known[2], unknown[2], "iterations");
    // A salt that changes from one try to the next would give it away.
    assert_eq!(first_message("no_such_user").1[1], unknown[1]);
    assert_eq!(first_message(&account.user).1[1], known[1]);
    assert_ne!(first_message("another_user").1[1], unknown[1]);

    let nobody = Account { user: "no_such_user".to_owned(), ..account.clone() };
    let unknown = refused(Client::connect(hawser.port()), &nobody);
    let known = refused(Client::connect(hawser.port()), &wrong_password(&account));
    assert_eq!(unknown.sqlstate(), known.sqlstate());
    assert_eq!(unknown.text().replace("no_such_user", &account.user), known.text());
}

#[test]
fn broken_sasl_messages_are_refused() {
    let account = Account::new(cluster());
    let hawser = Hawser::start(&Config::new(cluster(), &account).set("auth.throttle_failures", 0));
    let begin = || {
        let mut client = Client::connect(hawser.port());
        client.send(&startup(V3_0, &[("user", &account.user), ("database", &account.database)]));
        client.expect("R");
        client
    };
    for (mechanism, data) in [
        ("SCRAM-SHA-1", "n,,n=,r=abc"),
        ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abc"),
        ("SCRAM-SHA-256", ""),
        ("SCRAM-SHA-256", "n,,"),
        ("SCRAM-SHA-256", "n,,n=,r="),
        ("SCRAM-SHA-256", "q,,n=,r=abc"),
        ("SCRAM-SHA-256", "n,,m=ext,n=,r=abc"),
        ("SCRAM-SHA-256", "n,a=somebody,n=,r=abc"),
        ("SCRAM-SHA-256", "\u{0}\u{1}\u{2}"),
    ] {
        let mut client = begin();
        client.send(&sasl_initial(mechanism, data.as_bytes()));
        let said = client.expect_closed();
        assert_eq!(said.last().map(|message| message.tag), Some(b'E'), "{mechanism} {data:?}: {said:?}");
    }
    for last in ["", "c=biws", "c=biws,r=other,p=AAAA", "c=biws,r=,p=!!!!"] {
        let mut client = begin();
        client.send(&sasl_initial("SCRAM-SHA-256", b"n,,n=,r=rOprNGfwEbeRWgbNEkqO"));
        client.expect("R");
        client.send(&message(b'p', last.as_bytes()));
        assert_eq!(tags(&client.expect_closed()), "E", "{last:?}");
    }
    // Something else than a password.
    let mut client = begin();
    client.send(&message(b'Q', b"SELECT 1\0"));
    assert_eq!(tags(&client.expect_closed()), "E");
}

#[test]
fn failed_logins_from_one_address_are_held_up_after_a_while() {
    let account = Account::new(cluster());
    let config = Config::new(cluster(), &account)
        .set("auth.throttle_failures", 3)
        .set("auth.throttle_window", "\"1min\"");
    let hawser = Hawser::start(&config);
    let text = || refused(Client::connect(hawser.port()), &wrong_password(&account)).text();
    for _ in 0..3 {
        assert!(text().starts_with("password authentication failed"));
    }
    // Pauses double, so that even a machine which is slower than the first meets one of the next.
    wait_until("an attempt is not even looked at", || text().starts_with("too many failed logins"));
}

#[test]
fn holding_up_can_be_turned_off() {
    let account = Account::new(cluster());
    let hawser = Hawser::start(&Config::new(cluster(), &account).set("auth.throttle_failures", 0));
    for _ in 0..20 {
        let error = refused(Client::connect(hawser.port()), &wrong_password(&account));
        assert!(error.text().starts_with("password authentication failed"), "{error:?}");
    }
    assert_eq!(Client::login(hawser.port(), &account).value("SELECT 1"), "1");
}

#[test]
fn secrets_are_never_logged() {
    let account = Account::new(cluster());
    let other = account.second_user(cluster());
    let verifier = other.verifier(cluster());
    let config = Config::new(cluster(), &account)
        .user_with(&other.user, &format!("password = \"{verifier}\""))
        .set("log.level", "\"trace\"");
    let hawser = Hawser::start(&config);
    Client::login(hawser.port(), &account).value("SELECT 1");
    Client::login_tls(hawser.port(), &other, &tls()).value("SELECT 1");
    refused(
        Client::connect(hawser.port()),
        &Account { password: "mistyped-secret".to_owned(), ..account.clone() },
    );
    let log = hawser.log();
    let keys = verifier.split('$').nth(2).unwrap();
    for secret in [account.password.as_str(), &other.password, "mistyped-secret", keys] {
        assert!(!log.contains(secret), "a secret is in the log:\n{log}");
    }
}

// ----------------------------------------------------------------------------------------------- Hawser and servers

#[test]
fn hawser_logs_in_to_servers_by_md5_and_by_password() {
    for name in ["md5_server", "password_server"] {
        let setting = if name == "md5_server" { "md5" } else { "scram-sha-256" };
        let account = Account {
            user: name.to_owned(),
            database: "postgres".to_owned(),
            password: "secret1".to_owned(),
        };
        cluster()
            .psql(&format!(
                "SET password_encryption = '{setting}'; CREATE ROLE {name} LOGIN PASSWORD 'secret1'"
            ))
            .unwrap();
        let hawser = Hawser::start(&Config::new(cluster(), &account).set("server_tls.mode", "\"require\""));
        assert_eq!(who_am_i(&mut Client::login(hawser.port(), &account)), name);
    }
}

#[test]
fn hawser_logs_in_to_servers_by_certificate() {
    cluster().psql("CREATE ROLE certified LOGIN").unwrap();
    let account = Account {
        user: "certified".to_owned(),
        database: "postgres".to_owned(),
        password: "only here".to_owned(),
    };
    let certificates = cluster().certificates();
    let path = |path: std::path::PathBuf| format!("{:?}", path.display().to_string());
    let hawser = Hawser::start(
        &Config::new(cluster(), &account)
            .set("server_tls.mode", "\"verify-full\"")
            .set("server_tls.ca_file", path(certificates.ca()))
            .set("server_tls.cert_file", path(certificates.client_cert("certified")))
            .set("server_tls.key_file", path(certificates.client_key("certified"))),
    );
    assert_eq!(who_am_i(&mut Client::login(hawser.port(), &account)), "certified");
}

#[test]
fn hawser_speaks_tls_to_servers_as_it_was_told() {
    let account = Account::new(cluster());
    let certificates = cluster().certificates();
    let path = |path: std::path::PathBuf| format!("{:?}", path.display().to_string());
    let in_tls = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let config = Config::new(cluster(), &account);
    for (mode, ca, wanted) in [
        ("disable", certificates.ca(), Some("f")),
        ("allow", certificates.ca(), Some("f")),
        ("prefer", certificates.ca(), Some("t")),
        ("require", certificates.ca(), Some("t")),
        ("verify-ca", certificates.ca(), Some("t")),
        ("verify-full", certificates.ca(), Some("t")),
        ("verify-ca", certificates.other_ca(), None),
        ("verify-full", certificates.other_ca(), None),
    ] {
        let hawser = Hawser::start(
            &config.clone().set("server_tls.mode", format!("{mode:?}")).set("server_tls.ca_file", path(ca)),
        );
        let mut client = Client::connect(hawser.port());
        let outcome = client.try_login(&account, &[]).and_then(|()| {
            let messages = client.query(in_tls);
            match messages.iter().find(|message| message.tag == b'E') {
                Some(error) => Err(error.clone()),
                None => Ok(messages[1].first()),
            }
        });
        assert_eq!(outcome.as_deref().ok(), wanted, "{mode}: {outcome:?}");
    }
}

#[test]
fn a_name_that_the_servers_certificate_does_not_have_is_refused_by_verify_full_alone() {
    let account = Account::new(cluster());
    let ca = format!("{:?}", cluster().certificates().ca().display().to_string());
    // 127.0.0.2 is loopback too, and not in the certificate; the server listens on 127.0.0.1 only, so through a relay.
    let relay = Relay::start(cluster().port());
    for (mode, works) in [("verify-ca", true), ("verify-full", false)] {
        let config = Config::new(cluster(), &account)
            .hosts(&[format!("127.0.0.2:{}", relay.port)])
            .set("server_tls.mode", format!("{mode:?}"))
            .set("server_tls.ca_file", &ca);
        let hawser = Hawser::start(&config);
        let mut client = Client::connect(hawser.port());
        let outcome =
            client.try_login(&account, &[]).is_ok() && !tags(&client.query("SELECT 1")).contains('E');
        assert_eq!(outcome, works, "{mode}");
    }
}

/// Passes connections to 127.0.0.2 on to a port of 127.0.0.1.
struct Relay {
    port: u16,
}

impl Relay {
    fn start(to: u16) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = std::net::TcpStream::connect(("127.0.0.1", to)) else { return };
                for (mut from, mut into) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut into);
                        let _ = into.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { port }
    }
}

#[test]
fn database_and_user_may_be_others_on_the_server() {
    let account = Account::new(cluster());
    let other = account.second_user(cluster());
    let config = Config::new(cluster(), &account).table(&format!(
        "[databases.alias]\nhosts = [\"127.0.0.1:{}\"]\ndbname = \"{}\"\nuser = \"{}\"\npassword = \"{}\"\n\
         connect_query = \"SELECT set_config('hawser.greeted', 'yes', false)\"\n\
         startup_parameters = {{ work_mem = \"5MB\" }}",
        cluster().port(),
        account.database,
        other.user,
        other.password
    ));
    let hawser = Hawser::start(&config.set("pool.application_name_add_host", true));
    let alias = Account { database: "alias".to_owned(), ..account.clone() };
    let mut client = Client::login_with(hawser.port(), &alias, &[("application_name", "mine")]);
    assert_eq!(client.value("SELECT current_database()"), account.database);
    assert_eq!(who_am_i(&mut client), other.user);
    assert_eq!(client.value("SELECT current_setting('hawser.greeted')"), "yes");
    assert_eq!(client.value("SHOW work_mem"), "5MB");
    let name = client.value("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()");
    assert!(name.starts_with("mine") && name.contains("127.0.0.1"), "{name}");
}

#[test]
fn the_servers_own_error_is_passed_on_when_it_refuses_hawser() {
    let account = Account::new(cluster());
    let hawser = Hawser::start(&Config::new(cluster(), &account));
    cluster().psql(&format!("ALTER ROLE \"{}\" PASSWORD 'changed'", account.user)).unwrap();
    let mut client = Client::connect(hawser.port());
    let error = match client.try_login(&account, &[]) {
        Err(error) => error,
        Ok(()) => client.error("SELECT 1"),
    };
    assert_eq!(error.sqlstate(), "28P01", "{error:?}");
}
