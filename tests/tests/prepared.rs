//! Many clients share few statements over few server connections: each server parses each of them once.
//!
//! `HAWSER_PREPARED=full` runs it with 10,000 clients, 500 statements and 20 server connections.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::collections::HashMap;

use ::hawser::scratch::{Cluster, Options};
use hawser_tests::raw::messages::{bind, execute, parse, sync};
use hawser_tests::raw::{Backend, Client};
use hawser_tests::{Account, Config, Hawser, is_direct, raise_file_limit};
use rand::Rng;

struct Scale {
    clients: usize,
    statements: usize,
    servers: usize,
    rounds: usize,
}

fn scale() -> Scale {
    if std::env::var("HAWSER_PREPARED").is_ok_and(|value| value == "full") {
        Scale { clients: 10_000, statements: 500, servers: 20, rounds: 10 }
    } else {
        Scale { clients: 400, statements: 50, servers: 4, rounds: 10 }
    }
}

/// Prepares all statements under names of its own.
fn prepare(client: &mut Client, who: usize, statements: usize) {
    let batch: Vec<u8> =
        (0..statements).flat_map(|number| parse(&format!("c{who}_{number}"), &text(number))).collect();
    client.send(&[batch, sync()].concat());
    client.expect(&("1".repeat(statements) + "Z"));
}

fn text(number: usize) -> String {
    format!("SELECT {number} + $1::int")
}

/// Runs one of them, and looks whose result comes back.
fn run(client: &mut Client, who: usize, number: usize) {
    let value = rand::rng().random_range(0..1000usize);
    let parameters = [Some(&*value.to_string())].map(|value| value.map(ToOwned::to_owned));
    let parameters: Vec<Option<&str>> = parameters.iter().map(Option::as_deref).collect();
    client.send(&[bind("", &format!("c{who}_{number}"), &parameters), execute("", 0), sync()].concat());
    let answer = client.expect("2DCZ");
    let row = answer.iter().find(|message| message.tag == b'D').map(Backend::first);
    assert_eq!(row, Some((number + value).to_string()));
}

#[test]
fn each_server_parses_each_statement_once() {
    if is_direct() {
        return;
    }
    raise_file_limit();
    let Scale { clients, statements, servers, rounds } = scale();
    let conf = ["log_min_duration_statement = 0", "log_line_prefix = '%p '", "max_connections = 100"];
    let cluster =
        Cluster::start(&Options { conf: conf.map(Into::into).into(), ..Options::default() }).unwrap();
    let account = Account::named(&cluster, "many");
    let config = Config::new(&cluster, &account)
        .set("pool.size", servers)
        .set("pool.max_prepared_statements", statements)
        .set("limits.max_client_prepared_statements", statements);
    let hawser = Hawser::start(&config);
    let threads = 8;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (hawser, account) = (&hawser, &account);
            scope.spawn(move || {
                let mine: Vec<usize> = (thread..clients).step_by(threads).collect();
                let mut all: Vec<Client> =
                    mine.iter().map(|_| Client::login(hawser.port(), account)).collect();
                for (client, who) in all.iter_mut().zip(&mine) {
                    prepare(client, *who, statements);
                }
                for _ in 0..rounds {
                    for (client, who) in all.iter_mut().zip(&mine) {
                        run(client, *who, rand::rng().random_range(0..statements));
                    }
                }
            });
        }
    });
    let log = std::fs::read_to_string(format!("{}/log", cluster.socket_folder())).unwrap();
    let mut parses: HashMap<(String, String), usize> = HashMap::new();
    for line in log.lines().filter(|line| line.contains("parse hawser_p")) {
        let (process, rest) = line.split_once(' ').unwrap();
        let name = rest.split("parse ").nth(1).and_then(|rest| rest.split(':').next()).unwrap();
        *parses.entry((process.to_owned(), name.to_owned())).or_default() += 1;
    }
    let servers_seen: std::collections::HashSet<&String> =
        parses.keys().map(|(process, _)| process).collect();
    println!(
        "{} parses on {} servers by {clients} clients",
        parses.values().sum::<usize>(),
        servers_seen.len()
    );
    assert!(parses.values().all(|count| *count == 1), "{parses:?}");
    assert!(parses.len() <= servers * statements && parses.len() >= statements);
}
