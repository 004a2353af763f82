//! Server connections are lent fairly, never more of them than allowed, and given back in order.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hawser_tests::raw::messages::{bind, execute, extended, parse, query, sync};
use hawser_tests::raw::{Backend, Client, sqlstate_of};
use hawser_tests::{Account, Config, Site, cluster, is_direct, own_cluster, wait_until};

fn pid(client: &mut Client) -> String {
    client.value("SELECT pg_backend_pid()")
}

#[test]
fn a_pool_never_has_more_connections_than_its_size_whatever_the_workers() {
    let site = Site::with(|config| config.set("pool.size", 3).set("workers", 4));
    let most = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..24)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = site.client();
                    for _ in 0..30 {
                        client.value("SELECT 1 FROM pg_sleep(0.002)");
                    }
                })
            })
            .collect();
        let mut most = 0;
        while clients.iter().any(|client| !client.is_finished()) {
            most = most.max(site.server_connections().0);
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
        most
    });
    assert!((1..=3).contains(&most), "{most} server connections");
}

#[test]
fn clients_are_served_in_the_order_in_which_they_came() {
    let site = Site::with(|config| config.set("pool.size", 1).set("workers", 1));
    let mut holder = site.client();
    holder.execute("CREATE TABLE served (place serial, who int)");
    let mut waiters: Vec<Client> = (0..6).map(|_| site.client()).collect();
    holder.execute("BEGIN; SELECT 1");
    for (number, waiter) in waiters.iter_mut().enumerate() {
        waiter.send(&query(&format!("INSERT INTO served (who) VALUES ({number})")));
        // The next one asks when this one is surely in the queue.
        waiter.expect_silence(Duration::from_millis(100));
    }
    holder.execute("COMMIT");
    for waiter in &mut waiters {
        waiter.read_until_ready();
    }
    assert_eq!(holder.value("SELECT string_agg(who::text, ' ' ORDER BY place) FROM served"), "0 1 2 3 4 5");
}

#[test]
fn the_freshest_server_connection_is_lent_first_unless_round_robin_is_on() {
    for (round_robin, wanted) in [(false, 1), (true, 3)] {
        let site = Site::with(|config| {
            config.set("pool.size", 3).set("workers", 1).set("pool.round_robin", round_robin)
        });
        let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
        // Opens three.
        clients.iter_mut().for_each(|client| client.execute("BEGIN; SELECT 1"));
        clients.iter_mut().for_each(|client| client.execute("COMMIT"));
        // Hawser looks at the catalogue over one of them first.
        wait_until("they are lent as wanted", || {
            let used: BTreeSet<String> = (0..9).map(|_| pid(&mut clients[0])).collect();
            used.len() == wanted
        });
    }
}

#[test]
fn in_session_mode_a_client_keeps_its_connection_and_leaves_no_state() {
    let site = Site::with(|config| config.set("pool.size", 1).set("pool.mode", "\"session\""));
    let mut client = site.client();
    client.execute("SET statement_timeout = '77s'");
    client.execute("CREATE TEMP TABLE kept (id int)");
    client.execute("PREPARE mine AS SELECT 5");
    client.execute("SELECT pg_advisory_lock(4711)");
    assert_eq!(client.value("EXECUTE mine"), "5");
    let first = pid(&mut client);
    client.terminate();
    let mut next = site.client();
    assert_eq!(pid(&mut next), first);
    assert_eq!(next.value("SHOW statement_timeout"), "0");
    assert_eq!(next.value("SELECT count(*) FROM pg_class WHERE relname = 'kept'"), "0");
    assert_eq!(
        next.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
        "0"
    );
}

#[test]
fn in_statement_mode_transactions_are_refused() {
    let site = Site::with(|config| config.set("pool.size", 1).set("pool.mode", "\"statement\""));
    assert_eq!(site.client().value("SELECT 1"), "1");
    let mut client = site.client();
    client.send(&query("BEGIN"));
    let mut said = Vec::new();
    if let Ok(message) = client.try_read() {
        said.push(message);
    }
    if said.iter().all(|message| message.tag != b'E') {
        client.send(&query("SELECT 1"));
        said.extend(client.expect_closed());
    }
    assert!(said.iter().any(|message| message.tag == b'E'), "{said:?}");
    site.others_are_well();
}

#[test]
fn a_client_that_only_said_begin_holds_no_server_connection() {
    let site = Site::new();
    let mut thinker = site.client();
    thinker.execute("BEGIN");
    let mut worker = site.client();
    assert_eq!(worker.value("SELECT 1"), "1");
    assert_eq!(thinker.value("SELECT 2"), "2");
    thinker.execute("COMMIT");
}

#[test]
fn a_client_that_only_said_begin_in_the_extended_protocol_holds_no_server_connection() {
    let site = Site::new();
    let mut worker = site.client();
    let mut thinker = site.client();
    let parsed = [extended("BEGIN ISOLATION LEVEL SERIALIZABLE", &[]), sync()].concat();
    let bound = [bind("", "", &[]), execute("", 0), sync()].concat();
    let mut begins = |thinker: &mut Client, begin: &[u8], answer: &str| {
        thinker.send(begin);
        let said = thinker.expect(answer);
        let [.., tag, ready] = &*said else { panic!("{said:?}") };
        assert_eq!((tag.strings(), &*ready.body), (vec!["BEGIN".to_owned()], &b"T"[..]));
        assert_eq!(worker.value("SELECT 1"), "1");
    };
    begins(&mut thinker, &parsed, "12nCZ");
    assert_eq!(thinker.value("SHOW transaction_isolation"), "serializable");
    thinker.execute("COMMIT");
    // One that no server has seen ends, and what was parsed last is the unnamed statement.
    begins(&mut thinker, &parsed, "12nCZ");
    thinker.send(&[parse("c", "COMMIT"), sync()].concat());
    thinker.expect("1Z");
    thinker.send(&[bind("", "c", &[]), execute("", 0), sync()].concat());
    thinker.expect("2CZ");
    begins(&mut thinker, &bound, "2CZ");
    thinker.send(&[extended("ROLLBACK", &[]), sync()].concat());
    let said = thinker.expect("12nCZ");
    assert_eq!((said[3].strings(), &*said[4].body), (vec!["ROLLBACK".to_owned()], &b"I"[..]));
    thinker.send(&bound);
    let said = thinker.expect("2NCZ");
    assert_eq!(said[1].sqlstate(), "25P01");
    site.others_are_well();
}

#[test]
fn a_client_can_log_in_while_every_server_connection_is_busy() {
    let site = Site::with(|config| config.set("pool.size", 1).set("workers", 2));
    let mut holder = site.client();
    holder.execute("BEGIN; SELECT 1");
    // Whichever workers they come to.
    let clients: Vec<Client> = (0..8).map(|_| site.client()).collect();
    holder.execute("COMMIT");
    for mut client in clients {
        assert_eq!(client.value("SELECT 1"), "1");
    }
}

#[test]
fn limits_on_clients_are_kept_and_told() {
    let account = Account::new(cluster());
    let other = account.second_user(cluster());
    let config = Config::new(cluster(), &account)
        .set("limits.max_client_connections", 5)
        .user_with(&account.user, &format!("password = \"{}\"\nmax_client_connections = 2", account.password))
        .user(&other);
    let site = Site::of(account, &config);
    let full = |account: &Account| {
        let mut client = Client::connect(site.port);
        client.try_login(account, &[]).expect_err("too many").sqlstate()
    };
    let mut mine: Vec<Client> = (0..2).map(|_| site.client()).collect();
    assert_eq!(full(&site.account), "53300");
    let theirs: Vec<Client> = (0..3).map(|_| Client::login(site.port, &other)).collect();
    assert_eq!(full(&other), "53300");
    // Whoever leaves makes room.
    mine.pop().unwrap().terminate();
    drop(theirs);
    wait_until("there is room again", || Client::connect(site.port).try_login(&site.account, &[]).is_ok());
}

#[test]
fn limits_on_server_connections_of_a_database_and_a_user_are_kept() {
    let account = Account::new(cluster());
    let other = account.second_user(cluster());
    cluster().psql_in(&account.database, "GRANT ALL ON SCHEMA public TO public").unwrap();
    for limit in ["limits.max_db_connections", "limits.max_user_connections"] {
        let config =
            Config::new(cluster(), &account).set("pool.size", 5).set(limit, 2).user(&other).set("workers", 2);
        let site = Site::of(account.clone(), &config);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|number| {
                    let who = if number % 2 == 0 || limit.contains("user") { &account } else { &other };
                    let port = site.port;
                    scope.spawn(move || {
                        let mut client = Client::login(port, who);
                        for _ in 0..20 {
                            client.value("SELECT 1 FROM pg_sleep(0.01)");
                        }
                    })
                })
                .collect();
            let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", account.database);
            let mut most = 0;
            while clients.iter().any(|client| !client.is_finished()) {
                most = most.max(cluster().psql(&sql).unwrap().trim().parse::<usize>().unwrap());
            }
            assert!((1..=2).contains(&most), "{limit}: {most}");
        });
    }
}

#[test]
fn the_reserve_is_for_clients_that_waited_long() {
    let site = Site::with(|config| {
        config
            .set("pool.size", 1)
            .set("pool.reserve_size", 1)
            .set("pool.reserve_timeout", "\"300ms\"")
            .set("workers", 1)
    });
    let mut holder = site.client();
    holder.execute("BEGIN; SELECT 1");
    let mut waiter = site.client();
    let begin = Instant::now();
    assert_eq!(waiter.value("SELECT 1"), "1");
    assert!(begin.elapsed() >= Duration::from_millis(250), "{:?}", begin.elapsed());
    holder.execute("COMMIT");
}

#[test]
fn idle_and_old_server_connections_are_closed_and_the_minimum_is_kept() {
    let site = Site::with(|config| {
        config
            .set("pool.size", 4)
            .set("pool.min_size", 2)
            .set("pool.server_idle_timeout", "\"500ms\"")
            .set("workers", 1)
    });
    let mut clients: Vec<Client> = (0..4).map(|_| site.client()).collect();
    clients.iter_mut().for_each(|client| client.execute("BEGIN; SELECT 1"));
    clients.iter_mut().for_each(|client| client.execute("COMMIT"));
    assert_eq!(site.server_connections().0, 4);
    wait_until("idle connections are closed", || site.server_connections().0 <= 2);
    assert_eq!(site.server_connections().0, 2);

    let site = Site::with(|config| config.set("pool.size", 1).set("pool.server_lifetime", "\"300ms\""));
    let mut client = site.client();
    let first = pid(&mut client);
    wait_until("an old connection is replaced", || pid(&mut client) != first);
}

#[test]
fn the_minimum_is_opened_once_the_pool_is_in_use() {
    let site = Site::with(|config| config.set("pool.size", 5).set("pool.min_size", 3));
    assert_eq!(site.server_connections().0, 0);
    let mut client = site.client();
    assert_eq!(client.value("SELECT 1"), "1");
    wait_until("the minimum is there", || site.server_connections().0 == 3);
}

#[test]
fn a_check_query_finds_dead_connections_before_a_client_does() {
    let site = Site::with(|config| {
        config
            .set("pool.size", 1)
            .set("pool.server_check_query", "\"SELECT 1\"")
            .set("pool.server_check_delay", "\"0\"")
    });
    let mut client = site.client();
    for _ in 0..5 {
        let pid = pid(&mut client);
        cluster().psql(&format!("SELECT pg_terminate_backend({pid}, 5000)")).unwrap();
        assert_eq!(client.value("SELECT 1"), "1");
    }
}

#[test]
fn a_server_that_is_away_is_an_error_soon_and_comes_back() {
    let mut cluster = own_cluster(&[]);
    let account = Account::new(&cluster);
    // Whoever asks after the watch has missed the primary waits for one so long.
    let config = Config::new(&cluster, &account)
        .set("pool.server_login_retry", "\"200ms\"")
        .set("timeouts.hold", "\"1s\"");
    let site = Site::of(account, &config);
    let mut client = site.client();
    assert_eq!(client.value("SELECT 1"), "1");
    cluster.stop(hawser::scratch::StopMode::Fast).unwrap();
    // Long before anybody's patience ends: that of the client here, and timeouts.query_wait.
    let mut other = Client::connect(site.port);
    if other.try_login(&site.account, &[]).is_ok() {
        assert!(other.query("SELECT 1").iter().any(|message| message.tag == b'E'));
    }
    cluster.start_again().unwrap();
    wait_until("the server is used again", || {
        let mut client = Client::connect(site.port);
        client.try_login(&site.account, &[]).is_ok()
            && client.query("SELECT 1").iter().all(|message: &Backend| message.tag != b'E')
    });
}

#[test]
fn a_client_that_vanishes_gives_its_server_connection_back() {
    let site = Site::with(|config| config.set("pool.size", 1));
    for sql in ["BEGIN; SELECT 1", "SELECT pg_sleep(60)", "SELECT generate_series(1, 3000000)"] {
        let mut leaver = site.client();
        leaver.send(&query(sql));
        if sql.starts_with("BEGIN") {
            leaver.read_until_ready();
        } else if sql.contains("generate_series") {
            leaver.expect("T");
        } else {
            wait_until("it sleeps", || site.server_connections().1 == 1);
        }
        drop(leaver);
        assert_eq!(site.client().value("SELECT 'next'"), "next", "{sql}");
    }
}

#[test]
fn a_database_to_which_only_the_pool_is_connected_can_be_dropped_renamed_and_copied() {
    let site = Site::with(|config| config.set("pool.size", 2));
    let name = &site.account.database;
    cluster().psql(&format!("ALTER ROLE \"{}\" CREATEDB", site.account.user)).unwrap();
    let into = |database: &str| Account { database: database.to_owned(), ..site.account.clone() };
    let (first, second) = (format!("{name}_first"), format!("{name}_second"));
    let mut owner = site.client();
    owner.execute(&format!("CREATE DATABASE \"{first}\""));
    let mut clients: Vec<Client> = (0..2).map(|_| Client::login(site.port, &into(&first))).collect();
    clients.iter_mut().for_each(|client| client.execute("SELECT 1"));
    if is_direct() {
        clients.clear();
    }
    owner.execute(&format!("CREATE DATABASE \"{second}\" TEMPLATE \"{first}\""));
    clients.iter_mut().for_each(|client| client.execute("SELECT 1"));
    // One that is in use is left when it is free; the server waits for some seconds.
    clients.iter_mut().for_each(|client| client.send(&query("SELECT pg_sleep(1)")));
    let busy =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{first}' AND state = 'active'");
    wait_until("both are in use", || cluster().psql(&busy).unwrap().trim() == clients.len().to_string());
    owner.send(&[extended(&format!("DROP DATABASE \"{first}\""), &[]), sync()].concat());
    let answer = owner.read_until_ready();
    assert!(answer.iter().all(|message| message.tag != b'E'), "{answer:?}");
    Client::login(site.port, &into(&second)).execute("SELECT 1");
    owner.execute(&format!("ALTER DATABASE \"{second}\" RENAME TO \"{first}\""));
    Client::login(site.port, &into(&first)).execute("SELECT 1");
    owner.execute(&format!("DROP DATABASE \"{first}\""));
}

#[test]
fn a_database_that_was_not_there_is_asked_for_anew() {
    if is_direct() {
        return;
    }
    let site = Site::new();
    let database = format!("{}_later", site.account.database);
    let account = Account { database: database.clone(), ..site.account.clone() };
    let create = || cluster().psql(&format!("CREATE DATABASE \"{database}\"")).unwrap();
    let drop_it = || cluster().psql(&format!("DROP DATABASE \"{database}\" WITH (FORCE)")).unwrap();
    create();
    let mut stays = Client::login(site.port, &account);
    stays.execute("SELECT 1");
    drop_it();
    // The first answer may be that the connection was lost.
    wait_until("it is not there", || sqlstate_of(&stays.query("SELECT 1")) == "3D000");
    create();
    assert_eq!(stays.value("SELECT current_database()"), database);
    drop(site);
    drop_it();
}

#[test]
fn who_logs_in_as_a_role_that_was_dropped_and_made_anew_is_the_new_one() {
    let account = Account::new(cluster());
    let (worker, superuser) = (account.second_user(cluster()), account.superuser(cluster()));
    let config = Config::new(cluster(), &account).user(&worker).user(&superuser).set("pool.size", 2);
    let site = Site::of(account, &config);
    let (user, password) = (&worker.user, &worker.password);
    let mut boss = Client::login(site.port, &superuser);
    for _ in 0..2 {
        Client::login(site.port, &worker).execute("SELECT 1");
        boss.execute(&format!("DROP ROLE \"{user}\""));
        boss.execute(&format!("CREATE ROLE \"{user}\" LOGIN PASSWORD '{password}'"));
        assert_eq!(Client::login(site.port, &worker).value("SELECT current_user"), *user);
    }
}
