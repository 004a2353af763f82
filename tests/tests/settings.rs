//! Clients with different settings over one server connection, against a model of what each must see.
//!
//! `HAWSER_MODEL_STATEMENTS` says how many statements are run, `HAWSER_MODEL_SEED` which.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;

use hawser_tests::raw::messages::{extended, sync};
use hawser_tests::raw::{Backend, Client};
use hawser_tests::{Site, cluster};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const SETTINGS: [(&str, &[&str]); 6] = [
    ("search_path", &["a", "b", "pg_catalog"]),
    ("TimeZone", &["UTC", "Asia/Tokyo", "Europe/Paris"]),
    ("role", &["one", "two"]),
    ("statement_timeout", &["10s", "20s", "1min"]),
    ("DateStyle", &["ISO, DMY", "ISO, MDY", "German, DMY"]),
    ("app.tenant", &["blue", "green"]),
];

/// What one client must see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    session: BTreeMap<&'static str, String>,
    local: BTreeMap<&'static str, String>,
}

impl Seen {
    fn set(&mut self, name: &'static str, value: &str) {
        self.session.insert(name, value.to_owned());
        self.local.remove(name);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    Failed,
}

struct Actor {
    client: Client,
    defaults: BTreeMap<&'static str, String>,
    committed: Seen,
    now: Seen,
    savepoints: Vec<(u8, Seen)>,
    transaction: Transaction,
    history: Vec<String>,
}

fn shown() -> String {
    let all = SETTINGS.iter().map(|(name, _)| format!("coalesce(current_setting('{name}', true), '')"));
    format!("SELECT pg_catalog.concat_ws('|', {})", all.collect::<Vec<_>>().join(", "))
}

impl Actor {
    fn new(mut client: Client) -> Self {
        let values = client.value(&shown());
        let values = values.split('|').map(ToOwned::to_owned);
        let defaults: BTreeMap<_, _> = SETTINGS.iter().map(|(name, _)| *name).zip(values).collect();
        let seen = Seen { session: defaults.clone(), local: BTreeMap::new() };
        Self {
            client,
            defaults,
            committed: seen.clone(),
            now: seen,
            savepoints: Vec::new(),
            transaction: Transaction::None,
            history: Vec::new(),
        }
    }

    /// Runs a statement in one of the two protocols, and tells whether it went well.
    fn run(&mut self, sql: &str, random: &mut StdRng) -> Vec<Backend> {
        self.history.push(sql.to_owned());
        if random.random_bool(0.3) {
            self.client.send(&[extended(sql, &[]), sync()].concat());
            self.client.read_until_ready()
        } else {
            self.client.query(sql)
        }
    }

    fn succeed(&mut self, sql: &str, random: &mut StdRng) {
        let answer = self.run(sql, random);
        assert!(answer.iter().all(|message| message.tag != b'E'), "{sql}: {answer:?}\n{}", self.past());
    }

    fn past(&self) -> String {
        let from = self.history.len().saturating_sub(40);
        self.history[from..].join(";\n")
    }

    fn check(&mut self, who: usize, random: &mut StdRng) {
        let answer = self.run(&shown(), random);
        let row = answer.iter().find(|message| message.tag == b'D');
        let seen = row.map(Backend::first).unwrap_or_else(|| panic!("{answer:?}\n{}", self.past()));
        let must: Vec<&str> = SETTINGS
            .iter()
            .map(|(name, _)| self.now.local.get(name).unwrap_or(&self.now.session[name]).as_str())
            .collect();
        assert_eq!(seen, must.join("|"), "client {who} after\n{}", self.past());
    }

    /// One random step.
    fn step(&mut self, who: usize, random: &mut StdRng) {
        if self.transaction == Transaction::Failed {
            return self.end_failure(random);
        }
        match random.random_range(0..22) {
            0..8 => self.change(random),
            8..10 => {
                let (name, _) = SETTINGS.choose(random).unwrap();
                self.succeed(&format!("RESET {name}"), random);
                let default = self.defaults[name].clone();
                self.now.set(name, &default);
                self.settle();
            }
            10 if random.random_bool(0.3) => {
                self.succeed("RESET ALL", random);
                for (name, default) in self.defaults.clone() {
                    if name != "role" {
                        self.now.set(name, &default);
                    }
                }
                self.settle();
            }
            11..13 => self.control(random),
            13..15 if self.transaction == Transaction::Open => self.savepoint(random),
            15 => {
                let answer = self.run("SELECT 1 / (random() * 0)::int", random);
                assert!(answer.iter().any(|message| message.tag == b'E'));
                if self.transaction == Transaction::Open {
                    self.transaction = Transaction::Failed;
                }
            }
            _ => self.check(who, random),
        }
    }

    /// Outside a transaction every change is committed at once.
    fn settle(&mut self) {
        if self.transaction == Transaction::None {
            self.now.local.clear();
            self.committed = self.now.clone();
        }
    }

    fn change(&mut self, random: &mut StdRng) {
        let (name, values) = *SETTINGS.choose(random).unwrap();
        let value = *values.choose(random).unwrap();
        match random.random_range(0..6) {
            0 => {
                self.succeed(&format!("SET LOCAL {name} TO '{value}'"), random);
                if self.transaction == Transaction::Open {
                    self.now.local.insert(name, value.to_owned());
                }
                return;
            }
            1 => self.succeed(&format!("SELECT set_config('{name}', '{value}', false)"), random),
            2 => self.succeed(&format!("SELECT public.change('{name}', '{value}')"), random),
            _ => self.succeed(&format!("SET {name} TO '{value}'"), random),
        }
        self.now.set(name, value);
        self.settle();
    }

    fn control(&mut self, random: &mut StdRng) {
        if self.transaction == Transaction::None {
            self.succeed("BEGIN", random);
            self.transaction = Transaction::Open;
            return;
        }
        if random.random_bool(0.6) {
            self.succeed("COMMIT", random);
            self.now.local.clear();
            self.committed = self.now.clone();
        } else {
            self.succeed("ROLLBACK", random);
            self.now = self.committed.clone();
        }
        self.end();
    }

    fn end(&mut self) {
        self.savepoints.clear();
        self.transaction = Transaction::None;
    }

    fn savepoint(&mut self, random: &mut StdRng) {
        let number: u8 = random.random_range(0..3);
        let known = self.savepoints.iter().rposition(|(other, _)| *other == number);
        match (random.random_range(0..3), known) {
            (0, Some(at)) => {
                self.succeed(&format!("RELEASE SAVEPOINT s{number}"), random);
                self.savepoints.truncate(at);
            }
            (1, Some(at)) => self.roll_back_to(at, random),
            _ => {
                self.succeed(&format!("SAVEPOINT s{number}"), random);
                self.savepoints.push((number, self.now.clone()));
            }
        }
    }

    fn roll_back_to(&mut self, at: usize, random: &mut StdRng) {
        self.succeed(&format!("ROLLBACK TO SAVEPOINT s{}", self.savepoints[at].0), random);
        self.savepoints.truncate(at + 1);
        self.now = self.savepoints[at].1.clone();
        self.transaction = Transaction::Open;
    }

    fn end_failure(&mut self, random: &mut StdRng) {
        if !self.savepoints.is_empty() && random.random_bool(0.6) {
            let number = self.savepoints.choose(random).unwrap().0;
            let at = self.savepoints.iter().rposition(|(other, _)| *other == number).unwrap();
            return self.roll_back_to(at, random);
        }
        self.succeed(if random.random_bool(0.5) { "ROLLBACK" } else { "COMMIT" }, random);
        self.now = self.committed.clone();
        self.end();
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn each_client_sees_its_own_settings_and_nobody_elses() {
    let statements = number("HAWSER_MODEL_STATEMENTS", 5_000);
    let seed = number("HAWSER_MODEL_SEED", rand::random::<u32>().into());
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let site = Site::new();
    let user = &site.account.user;
    for role in ["one", "two"] {
        // The role may be there from another test run on this cluster.
        let _ = cluster().psql(&format!("CREATE ROLE {role}"));
        cluster().psql(&format!("GRANT {role} TO {user}")).unwrap();
    }
    let mut maker = site.client();
    maker.execute(
        "CREATE FUNCTION public.change(name text, value text) RETURNS void LANGUAGE plpgsql AS \
         'begin perform pg_catalog.set_config(name, value, false); end'",
    );
    drop(maker);
    let parameters =
        [("TimeZone", "America/New_York"), ("options", "-c statement_timeout=30s -c app.tenant=red")];
    let mut actors = [
        Actor::new(site.client()),
        Actor::new(Client::login_with(site.port, &site.account, &parameters)),
        Actor::new(Client::login_with(site.port, &site.account, &[("DateStyle", "German, DMY")])),
    ];
    let mut active: Option<usize> = None;
    for _ in 0..statements {
        // A client in a transaction has the one server connection.
        let who = active.unwrap_or_else(|| random.random_range(0..actors.len()));
        let actor = &mut actors[who];
        actor.step(who, &mut random);
        active = (actor.transaction != Transaction::None).then_some(who);
    }
}
