//! PostgreSQL's own regression tests, judged by what a real standby does.
//!
//! Each statement outside a transaction is judged first, then run on a standby that has replayed everything, then on
//! the primary. Whatever the standby refuses has to have been judged as going to the primary; and of what the standby
//! can run, at least nine tenths have to have been judged as reads.
//!
//! Each read is tried a second time with a call of `nextval` in the place of one of its tokens, or beside it: wherever a
//! standby says that it cannot run that, the call has to have been seen.
//!
//! `HAWSER_CORPUS=all` runs every file (ten minutes); `HAWSER_CORPUS=name,name` only these; with `HAWSER_CORPUS_SAY` it
//! prints what could have been a read. The figures are always printed.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hawser::catalog::{Catalog, Live, changed_by};
use hawser::config::{Arguments, Environment, load};
use hawser_sql_router::effects::Effect;
use hawser_sql_router::knowledge::SearchPath;
use hawser_sql_router::statement::{Access, Host, Prepared, Reason, TransactionControl, Verdict, Verdicts};
use hawser_sql_router::token::{self, Kind, Token};
use hawser_sql_router::{cache::Cache, fingerprint};
use hawser_tests::raw::Client;
use hawser_tests::raw::messages::{copy_data, copy_done, copy_fail, query};
use hawser_tests::script::{Step, steps};
use hawser_tests::{Account, own_cluster, repository};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Files that are run without more ado: what they need of each other comes first.
const USUAL_FILES: &[&str] = &[
    "test_setup",
    "boolean",
    "char",
    "name",
    "varchar",
    "text",
    "int2",
    "int4",
    "int8",
    "oid",
    "float4",
    "float8",
    "bit",
    "txid",
    "uuid",
    "enum",
    "money",
    "rangetypes",
    "pg_lsn",
    "regproc",
    "strings",
    "numerology",
    "point",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "inet",
    "macaddr",
    "regex",
    "expressions",
    "unicode",
    "xid",
    "copy",
    "copyselect",
    "insert",
    "create_misc",
    "create_operator",
    "create_procedure",
    "create_type",
    "create_schema",
    "create_view",
    "create_aggregate",
    "create_function_sql",
    "create_cast",
    "select",
    "errors",
    "select_into",
    "select_distinct",
    "select_having",
    "subselect",
    "union",
    "case",
    "join",
    "arrays",
    "namespace",
    "matview",
    "lock",
    "tablesample",
    "async",
    "misc_functions",
    "sysviews",
    "tsrf",
    "tid",
    "guc",
    "tsearch",
    "window",
    "advisory_lock",
    "json",
    "jsonpath",
    "limit",
    "prepare",
    "sequence",
    "returning",
    "xml",
];

/// Files that do what would harm the run: tablespaces, roles that are the server's, crashes.
const LEFT_OUT: &[&str] = &["tablespace", "largeobject_1", "psql", "psql_crosstab"];

/// Fewest statements that have to be tried.
const FEWEST: usize = 3000;

/// What came of a statement.
struct Outcome {
    /// SQLSTATE and words, if it failed.
    error: Option<(String, String)>,
    /// Whether the session is outside a transaction now.
    idle: bool,
}

/// A session on one server.
struct Session {
    client: Client,
    port: u16,
    account: Account,
}

impl Session {
    fn new(port: u16, account: &Account) -> Self {
        let mut client = Client::login(port, account);
        client.set_patience(Duration::from_secs(60));
        client.execute("SET statement_timeout = '10s'");
        Self { client, port, account: account.clone() }
    }

    fn again(&mut self) {
        *self = Self::new(self.port, &self.account);
    }

    /// Runs a text; a COPY that asks gets `data`.
    fn run(&mut self, text: &str, data: Option<&[u8]>) -> Outcome {
        let mut outcome = Outcome { error: None, idle: true };
        if self.client.try_send(&query(text)).is_err() {
            self.again();
            return outcome;
        }
        loop {
            let Ok(message) = self.client.try_read() else {
                // The statement ended its own session.
                self.again();
                return outcome;
            };
            match message.tag {
                b'E' => outcome.error = Some((message.sqlstate(), message.text())),
                b'G' => {
                    let answer = match data {
                        Some(data) => [copy_data(data), copy_done()].concat(),
                        None => copy_fail("there is none"),
                    };
                    let _ = self.client.try_send(&answer);
                }
                b'Z' => {
                    outcome.idle = message.body == b"I";
                    return outcome;
                }
                _ => {}
            }
        }
    }
}

/// What the router knows of the database and the session, as a worker would.
struct Router {
    runtime: tokio::runtime::Runtime,
    live: Live,
    catalog: Catalog,
    stale: bool,
    loads: usize,
    cache: Cache,
    path: SearchPath,
    /// Statements that were prepared in SQL and only read.
    prepared: HashSet<Box<str>>,
}

impl Router {
    fn new(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let arguments = Arguments { source: Some(url.to_owned()), ..Arguments::default() };
        let settings = load(&arguments, &Environment::of([])).unwrap().settings;
        let mut live = runtime.block_on(Live::connect(&settings)).unwrap();
        let catalog = runtime.block_on(live.catalog()).unwrap();
        Self {
            runtime,
            live,
            catalog,
            stale: false,
            loads: 0,
            cache: Cache::new(1024),
            path: SearchPath::unknown(),
            prepared: HashSet::new(),
        }
    }

    fn judge(&mut self, text: &str) -> std::sync::Arc<Verdicts> {
        // Only what may be a read is worth asking the database about.
        let first = self.cache.classify(text.as_bytes(), &self.catalog, &self.path);
        let by_name = |reason: &Reason| reason.is_suspicion() || matches!(reason, Reason::Unlogged(_));
        let hangs = first.host() == Host::Standby || first.decisive().is_some_and(|one| by_name(&one.reason));
        if !self.stale || !hangs {
            return first;
        }
        self.catalog = self.runtime.block_on(self.live.catalog()).unwrap();
        self.loads += 1;
        self.stale = false;
        self.cache.classify(text.as_bytes(), &self.catalog, &self.path)
    }

    /// Where a text goes, with what the session remembers of its prepared statements.
    fn host(&self, verdicts: &Verdicts) -> Host {
        match verdicts.statements() {
            [one] => match &one.prepared {
                Some(Prepared::Runs(name)) if self.prepared.contains(name) => Host::Standby,
                _ => one.host(),
            },
            _ => verdicts.host(),
        }
    }
}

/// Whether each statement that could have been a read is to be printed.
fn says_all() -> bool {
    std::env::var_os("HAWSER_CORPUS_SAY").is_some()
}

#[derive(Default)]
struct Figures {
    tried: usize,
    shapes: HashSet<u64>,
    refused: usize,
    runnable: usize,
    reads: usize,
    /// Calls that a standby refused in what was a read without them.
    calls: usize,
    misses: Vec<String>,
    to_primary: BTreeMap<String, usize>,
    examples: BTreeMap<String, String>,
}

/// Whether an error is about a name or a type: in a session that made temporary objects they are on its own server
/// only, and another server may have others of that name.
fn is_of_name(sqlstate: &str) -> bool {
    ["42", "26", "34", "3F"].iter().any(|class| sqlstate.starts_with(class))
}

/// Ways to call what only the primary can do.
const CALLS: &[&str] = &[
    "nextval('public.corpus_sequence')",
    "pg_catalog.nextval('public.corpus_sequence')::text",
    "\"nextval\" /* x */ ('public.corpus_sequence')::int",
    "('public.corpus_sequence'::regclass).nextval",
    "TREAT('public.corpus_sequence'::regclass AS nextval)",
    "(SELECT nextval('public.corpus_sequence')) IS NOT NULL",
];

/// The text with a call in the place of one token, or in front of or behind it.
fn with_a_call(text: &str, random: &mut StdRng) -> Option<String> {
    let tokens = token::cut(text.as_bytes()).all;
    let operands = [Kind::Number, Kind::Text, Kind::Word, Kind::Quoted, Kind::Parameter];
    let places: Vec<&Token> =
        tokens.iter().filter(|token| random.random_ratio(1, 20) || operands.contains(&token.kind)).collect();
    let place = places.get(random.random_range(0..places.len().max(1)))?;
    let (before, after) = (text.get(..place.start as usize)?, text.get(place.end as usize..)?);
    let there = text.get(place.start as usize..place.end as usize)?;
    let call = CALLS[random.random_range(0..CALLS.len())];
    Some(match random.random_range(0..6) {
        0 => format!("{before}{there}, {call}{after}"),
        1 => format!("{before}{call}, {there}{after}"),
        2 => format!("{before}{there} {call}{after}"),
        _ => format!("{before}{call}{after}"),
    })
}

struct Run {
    random: StdRng,
    primary: Session,
    standby: Session,
    primary_admin: Client,
    standby_admin: Client,
    router: Router,
    figures: Figures,
    in_transaction: bool,
    /// The primary may have written what the standby has not replayed.
    behind: bool,
    tied: bool,
    serializable: bool,
}

impl Run {
    /// Waits until the standby has replayed all that the primary has written.
    fn catch_up(&mut self) {
        let written = self.primary_admin.value("SELECT pg_current_wal_flush_lsn()");
        let question = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
        let end = Instant::now() + Duration::from_secs(60);
        while self.standby_admin.value(&question) != "t" {
            assert!(Instant::now() < end, "the standby does not catch up with {written}");
        }
    }

    fn file(&mut self, name: &str, script: &str, folder: &std::path::Path) {
        self.reconnect();
        let (begin, before) = (Instant::now(), self.figures.tried);
        for step in steps(script, folder) {
            match step {
                Step::Reconnect => self.reconnect(),
                Step::Send(text, data) => self.statement(name, &text, data.as_deref()),
            }
        }
        if says_all() {
            println!("FILE {name}: {} in {:.1?}", self.figures.tried - before, begin.elapsed());
        }
    }

    fn reconnect(&mut self) {
        self.primary.again();
        self.standby.again();
        self.router.prepared.clear();
        self.in_transaction = false;
        self.tied = false;
        self.serializable = false;
        self.note_path();
    }

    fn note_path(&mut self) {
        let setting = self.primary.client.query("SELECT current_setting('search_path'), current_user");
        if let Some(row) = setting.iter().find(|message| message.tag == b'D') {
            let columns = row.columns();
            let column = |at: usize| columns[at].clone().unwrap_or_default();
            self.router.path = SearchPath::parse(&column(0), &column(1));
        }
    }

    fn statement(&mut self, file: &str, text: &str, data: Option<&[u8]>) {
        let verdicts = self.router.judge(text);
        let host = match self.router.host(&verdicts) {
            Host::Standby if self.serializable => Host::Primary,
            host => host,
        };
        let control = matches!(verdicts.access(), Access::Transaction(_));
        let for_host =
            text.contains("pg_promote") || text.contains("pg_terminate_backend") || text.contains("PROGRAM");
        let mut on_standby = None;
        if !self.in_transaction && !control && !for_host {
            if std::mem::take(&mut self.behind) {
                self.catch_up();
            }
            on_standby = Some(self.standby.run(text, data));
        }
        let on_primary = self.primary.run(text, data);
        self.behind |= host == Host::Primary || control || self.in_transaction;
        if let Some(on_standby) = on_standby {
            self.count(file, text, &verdicts, host, (&on_standby, &on_primary));
            if !on_standby.idle {
                let _ = self.standby.run("ROLLBACK", None);
            }
        }
        self.in_transaction = !on_primary.idle;
        self.note(text, &verdicts, on_primary.error.is_none());
    }

    /// Keeps what a session would keep of a statement.
    fn note(&mut self, text: &str, verdicts: &Verdicts, succeeded: bool) {
        self.router.stale |= changed_by(verdicts) || self.in_transaction;
        let calls =
            |reason: &Reason| matches!(reason, Reason::Volatile(_) | Reason::Unknown(_) | Reason::View(_));
        self.router.stale |= verdicts.statements().iter().any(|one| calls(&one.reason));
        let lower = text.to_lowercase();
        if lower.contains("temp") {
            self.tied = true;
        }
        if !succeeded {
            return;
        }
        let mut settings = false;
        for one in verdicts.statements() {
            settings |= one.effect != Effect::None || matches!(one.access, Access::Transaction(_));
            match &one.prepared {
                Some(Prepared::Makes(name)) => drop(self.router.prepared.insert(name.clone())),
                Some(Prepared::Drops(Some(name))) => drop(self.router.prepared.remove(name)),
                Some(Prepared::Drops(None)) => self.router.prepared.clear(),
                _ => {}
            }
            if let Access::Transaction(TransactionControl::Commit { chain: true }) = one.access {
                self.in_transaction = true;
            }
        }
        settings |= verdicts.access() == Access::Session;
        if settings && !self.in_transaction {
            self.note_path();
            let level = self.primary.client.query("SHOW default_transaction_isolation");
            self.serializable =
                level.iter().any(|message| message.tag == b'D' && message.first() == "serializable");
        }
    }

    fn count(
        &mut self,
        file: &str,
        text: &str,
        verdicts: &Verdicts,
        host: Host,
        (on_standby, on_primary): (&Outcome, &Outcome),
    ) {
        // FETCH goes where its cursor is, and a session that has one is tied to that server.
        let cursor = |one: &Verdict| one.access == Access::Session && one.reason == Reason::Cursor;
        if verdicts.statements().iter().any(cursor) {
            return;
        }
        let figures = &mut self.figures;
        figures.tried += 1;
        figures.shapes.insert(fingerprint::of(text.as_bytes()).hash);
        let reason = verdicts.decisive().map_or(Reason::Empty, |one| one.reason.clone());
        match (&on_standby.error, &on_primary.error) {
            (Some((state, words)), on_primary) => {
                let same = on_primary.as_ref().is_some_and(|(other, _)| other == state);
                let elsewhere = self.tied && is_of_name(state);
                if same || elsewhere {
                    return;
                }
                figures.refused += 1;
                if host != Host::Primary {
                    figures.misses.push(format!("{file}: {state} {words}: {reason}: {}", text.trim()));
                }
            }
            (None, _) if host == Host::Any => {}
            (None, _) => {
                figures.runnable += 1;
                if host == Host::Standby {
                    figures.reads += 1;
                    self.try_with_a_call(file, text);
                } else {
                    *figures.to_primary.entry(reason.code().to_owned()).or_default() += 1;
                    let example = format!("{reason}: {}", text.trim().replace('\n', " "));
                    figures.examples.entry(reason.code().to_owned()).or_insert(example);
                    if says_all() {
                        println!("PRIMARY {file}: {reason}: {}", text.trim().replace('\n', " "));
                    }
                }
            }
        }
    }
}

impl Run {
    /// Tries a read with a call in it that only the primary can run.
    fn try_with_a_call(&mut self, file: &str, text: &str) {
        let Some(text) = with_a_call(text, &mut self.random) else { return };
        let verdicts = self.router.judge(&text);
        let outcome = self.standby.run(&text, None);
        if !outcome.idle {
            let _ = self.standby.run("ROLLBACK", None);
        }
        let Some((state, words)) = outcome.error else { return };
        if says_all() {
            println!("CALL {state} {words}: {}", text.trim().replace('\n', " "));
        }
        if state == "25006" {
            self.figures.calls += 1;
            if verdicts.host() == Host::Standby {
                let reason = verdicts.decisive().map(|one| one.reason.to_string()).unwrap_or_default();
                self.figures.misses.push(format!("{file}: {state} {words}: {reason}: {}", text.trim()));
            }
        }
    }
}

/// The files to run, in order, with their texts.
fn scripts(folder: &std::path::Path) -> Vec<(String, String)> {
    let all = || {
        let schedule = std::fs::read_to_string(folder.join("parallel_schedule")).unwrap();
        let tests = schedule.lines().filter_map(|line| line.strip_prefix("test:")).map(str::to_owned);
        let names: Vec<String> =
            tests.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
        names
    };
    let names = match std::env::var("HAWSER_CORPUS").ok().as_deref() {
        None => USUAL_FILES.iter().map(|name| (*name).to_owned()).collect(),
        Some("all") => all(),
        Some(names) => names.split(',').map(str::to_owned).collect(),
    };
    names
        .into_iter()
        .filter(|name| !LEFT_OUT.contains(&name.as_str()))
        .filter_map(|name| {
            // A file that this version does not have is not missed.
            let script = std::fs::read(folder.join("sql").join(format!("{name}.sql"))).ok()?;
            Some((name, String::from_utf8_lossy(&script).into_owned()))
        })
        .collect()
}

#[test]
fn what_a_standby_refuses_goes_to_the_primary_and_what_it_can_run_to_standbys() {
    let folder: PathBuf = repository().join("target/regress");
    assert!(
        folder.join(".done").exists(),
        "there are no regression tests in {}: make deps",
        folder.display()
    );
    let primary = own_cluster(&[
        "autovacuum = off",
        "synchronous_commit = local",
        "max_prepared_transactions = 4",
        "wal_level = logical",
    ]);
    let standby = primary.standby().expect("a standby");
    let account = Account {
        user: primary.superuser().to_owned(),
        database: "regression".to_owned(),
        password: primary.password().to_owned(),
    };
    primary.psql("CREATE DATABASE regression TEMPLATE template0 ENCODING 'UTF8'").expect("a database");
    let sequence = "CREATE SEQUENCE corpus_sequence; GRANT ALL ON SEQUENCE corpus_sequence TO public";
    primary.psql_in("regression", sequence).expect("a sequence");
    let url =
        format!("postgres://{}:{}@127.0.0.1:{}/regression", account.user, account.password, primary.port());
    let postgres = Account { database: "postgres".to_owned(), ..account.clone() };
    let mut admins = (Client::login(primary.port(), &postgres), Client::login(standby.port(), &postgres));
    let written = admins.0.value("SELECT pg_current_wal_flush_lsn()");
    hawser_tests::wait_until("the standby has the database", || {
        admins.1.value(&format!("SELECT pg_last_wal_replay_lsn() >= '{written}'")) == "t"
    });
    let seed = std::env::var("HAWSER_CORPUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("HAWSER_CORPUS_SEED={seed}");
    let mut run = Run {
        random: StdRng::seed_from_u64(seed),
        primary: Session::new(primary.port(), &account),
        standby: Session::new(standby.port(), &account),
        primary_admin: admins.0,
        standby_admin: admins.1,
        router: Router::new(&url),
        figures: Figures::default(),
        in_transaction: false,
        behind: true,
        tied: false,
        serializable: false,
    };
    let begin = Instant::now();
    for (name, script) in scripts(&folder) {
        run.file(&name, &script, &folder);
    }
    report(&run, begin.elapsed());
    let figures = &run.figures;
    assert!(figures.misses.is_empty(), "{} reads were refused", figures.misses.len());
    if std::env::var_os("HAWSER_CORPUS").is_none() {
        assert!(figures.tried >= FEWEST, "only {} statements were tried", figures.tried);
    }
    assert!(figures.reads * 10 >= figures.runnable * 9, "{} of {}", figures.reads, figures.runnable);
}

fn report(run: &Run, time: Duration) {
    let figures = &run.figures;
    println!(
        "{} statements of {} shapes outside transactions in {time:.0?}; the catalogue was read {} times",
        figures.tried,
        figures.shapes.len(),
        run.router.loads
    );
    println!(
        "the standby refused {}, of which {} were taken for reads",
        figures.refused,
        figures.misses.len()
    );
    println!("it refused {} of them with a call that writes", figures.calls);
    let percent = 100 * figures.reads / figures.runnable.max(1);
    println!(
        "the standby ran {}, of which {} ({percent} %) were taken for reads",
        figures.runnable, figures.reads
    );
    for (code, count) in &figures.to_primary {
        let example: String =
            figures.examples.get(code).map(String::as_str).unwrap_or_default().chars().take(110).collect();
        println!("  {count:>5} to the primary: {code}, such as {example}");
    }
    for miss in &figures.misses {
        println!("  MISS {miss}");
    }
}
