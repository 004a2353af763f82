//! Nobody reads what is stale while one standby is paused, another restarted, and replay is held back; and most reads
//! are served by standbys all the same.
//!
//! Each kind of harm once by default; `HAWSER_CONSISTENCY_SECONDS=60` goes on for so long, and then counts too where the
//! reads went.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hawser::scratch::{Cluster, StopMode};
use hawser_tests::raw::messages::{bind, execute, extended, parse, query, sync};
use hawser_tests::raw::{Backend, Client};
use hawser_tests::{Account, Ensemble, wait_until};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Sessions that write one time in ten, as most applications do; those that write before every read; and those that
/// read what others wrote. Each writes a row of its own.
const MODERATE: usize = 4;
const EAGER: usize = 2;
const READERS: usize = 2;
const WRITERS: usize = MODERATE + EAGER;

/// The hint vouches for `pg_is_in_recovery()`, which tells where the read ran; the primary alone would answer it else.
const READ: &str = "/* hawser: standby */ SELECT v, pg_is_in_recovery() FROM t WHERE id = ";

/// How long to go on; `None`: each kind of harm once.
fn duration() -> Option<Duration> {
    let seconds = std::env::var("HAWSER_CONSISTENCY_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map(Duration::from_secs)
}

/// Where reads of one kind of session ran.
#[derive(Debug, Default)]
struct Tally {
    reads: AtomicU64,
    on_standbys: AtomicU64,
}

impl Tally {
    fn share(&self) -> f64 {
        self.on_standbys.load(Ordering::Relaxed) as f64 / self.reads.load(Ordering::Relaxed).max(1) as f64
    }
}

/// What all threads know.
#[derive(Debug, Default)]
struct Board {
    /// What each writer was told that it wrote.
    acknowledged: [AtomicU64; WRITERS],
    /// Reads and writes of all: the clock of the harm that is done.
    steps: AtomicU64,
    over: AtomicBool,
    moderate: Tally,
    eager: Tally,
    readers: Tally,
}

impl Board {
    #[track_caller]
    fn let_pass(&self, steps: u64) {
        let begin = self.steps.load(Ordering::Relaxed);
        wait_until("the sessions have gone on", || self.steps.load(Ordering::Relaxed) >= begin + steps);
    }

    fn goes_on(&self) -> bool {
        self.steps.fetch_add(1, Ordering::Relaxed);
        !self.over.load(Ordering::Relaxed)
    }
}

/// One session.
struct Session<'a> {
    board: &'a Board,
    port: u16,
    account: &'a Account,
    client: Client,
    random: StdRng,
}

impl<'a> Session<'a> {
    fn new(board: &'a Board, port: u16, account: &'a Account, number: usize) -> Self {
        let client = prepared(port, account);
        Self { board, port, account, client, random: StdRng::seed_from_u64(number as u64) }
    }

    /// Writes its own row and reads it, `share` times as often as it only reads.
    fn write_and_read(mut self, row: usize, share: f64, tally: &Tally) {
        let mut written = 0;
        while self.board.goes_on() {
            if self.random.random_bool(0.005) {
                self.client = prepared(self.port, self.account);
            }
            if self.random.random_bool(share) {
                written += 1;
                self.write(row, written);
                self.board.acknowledged[row].store(written, Ordering::SeqCst);
            }
            if let Some(found) = self.read(row, tally) {
                assert_eq!(found, written, "a stale read of its own row {row}");
            }
        }
    }

    /// Reads what others wrote.
    fn read_others(mut self, tally: &Tally) {
        self.client.execute("SET hawser.consistency = 'cluster'");
        while self.board.goes_on() {
            let row = self.random.random_range(0..WRITERS);
            let acknowledged = self.board.acknowledged[row].load(Ordering::SeqCst);
            if let Some(found) = self.read(row, tally) {
                assert!(found >= acknowledged, "a stale read of row {row}: {found} after {acknowledged}");
            }
        }
    }

    fn write(&mut self, row: usize, value: u64) {
        let update = format!("UPDATE t SET v = {value} WHERE id = {row}");
        match self.random.random_range(0..3) {
            0 => self.client.execute(&update),
            1 => {
                self.client.send(&[extended(&update, &[]), sync()].concat());
                assert!(!failed(&self.client.read_until_ready()));
            }
            _ => {
                self.client.execute("BEGIN");
                self.client.execute(&update);
                self.client.execute("COMMIT");
            }
        }
    }

    /// The row's value; `None` if a transaction failed because its standby went away in the middle of it.
    fn read(&mut self, row: usize, tally: &Tally) -> Option<u64> {
        let text = format!("{READ}{row}");
        let answer = match self.random.random_range(0..4) {
            0 => self.client.query(&text),
            1 => self.in_transaction(&text)?,
            2 => {
                self.client.send(&[extended(&text, &[]), sync()].concat());
                self.client.read_until_ready()
            }
            _ => {
                let number = row.to_string();
                self.client.send(&[bind("", "read", &[Some(&number)]), execute("", 0), sync()].concat());
                self.client.read_until_ready()
            }
        };
        let found = answer.iter().find(|message| message.tag == b'D');
        let found = found.unwrap_or_else(|| panic!("no row: {answer:?}")).columns();
        tally.reads.fetch_add(1, Ordering::Relaxed);
        if found[1].as_deref() == Some("t") {
            tally.on_standbys.fetch_add(1, Ordering::Relaxed);
        }
        found[0].as_deref()?.parse().ok()
    }

    /// Reads twice; both times what was written must be there.
    fn in_transaction(&mut self, text: &str) -> Option<Vec<Backend>> {
        self.client.execute("BEGIN READ ONLY");
        let answer = self.client.query(text);
        assert!(!failed(&answer), "{answer:?}");
        let again = self.client.query(text);
        let committed = self.client.query("COMMIT");
        if failed(&again) || failed(&committed) {
            self.client.send(&query("ROLLBACK"));
            self.client.read_until_ready();
            return None;
        }
        Some(again)
    }
}

fn failed(messages: &[Backend]) -> bool {
    messages.iter().any(|message| message.tag == b'E')
}

/// A client with the statement that it reads by.
fn prepared(port: u16, account: &Account) -> Client {
    let mut client = Client::login(port, account);
    client.send(&[parse("read", &format!("{READ}$1::int")), sync()].concat());
    assert!(!failed(&client.read_until_ready()));
    client
}

fn set_delay(standby: &Cluster, delay: &str) {
    standby.psql(&format!("ALTER SYSTEM SET recovery_min_apply_delay = '{delay}'")).expect("a setting");
    standby.psql("SELECT pg_reload_conf()").expect("it is read");
}

fn pause(standby: &Cluster, paused: bool) {
    let verb = if paused { "pause" } else { "resume" };
    standby.psql(&format!("SELECT pg_wal_replay_{verb}()")).expect("it obeys");
}

/// Every kind of harm, while sessions take so many steps each time.
fn do_harm(hosts: &mut [Cluster], board: &Board, steps: u64) {
    pause(&hosts[1], true);
    board.let_pass(steps);
    pause(&hosts[1], false);
    board.let_pass(steps);
    set_delay(&hosts[2], "150ms");
    board.let_pass(steps);
    set_delay(&hosts[2], "0");
    hosts[2].stop(StopMode::Fast).expect("it stops");
    board.let_pass(steps);
    hosts[2].start_again().expect("it starts");
    board.let_pass(steps);
    // No standby is left that is good for everything.
    pause(&hosts[1], true);
    hosts[2].stop(StopMode::Immediate).expect("it stops");
    board.let_pass(steps / 4);
    hosts[2].start_again().expect("it starts");
    pause(&hosts[1], false);
}

#[test]
fn nobody_reads_what_is_stale_and_standbys_serve_most_reads() {
    // The scratch clusters' own setting would keep every write from the standbys for a fifth of a second.
    let mut ensemble = Ensemble::with_conf(2, &["synchronous_commit = on"], |config| config);
    let mut client = ensemble.client();
    client.execute("CREATE TABLE t(id int PRIMARY KEY, v bigint NOT NULL) WITH (fillfactor = 10)");
    client.execute(&format!("INSERT INTO t SELECT i, 0 FROM generate_series(0, {}) i", WRITERS - 1));
    ensemble.wait_for_replay();
    let board = Board::default();
    let (port, account) = (ensemble.hawser.port(), ensemble.account.clone());
    std::thread::scope(|scope| {
        let (board, account) = (&board, &account);
        let over = Over(board);
        for number in 0..WRITERS + READERS {
            scope.spawn(move || {
                let session = Session::new(board, port, account, number);
                match number {
                    0..MODERATE => session.write_and_read(number, 0.1, &board.moderate),
                    MODERATE..WRITERS => session.write_and_read(number, 1.0, &board.eager),
                    _ => session.read_others(&board.readers),
                }
            });
        }
        let begin = Instant::now();
        let steps = if duration().is_some() { 3000 } else { 300 };
        do_harm(&mut ensemble.hosts, board, steps);
        while duration().is_some_and(|whole| begin.elapsed() < whole) {
            do_harm(&mut ensemble.hosts, board, steps);
        }
        drop(over);
    });
    for (kind, tally) in [("moderate", &board.moderate), ("eager", &board.eager), ("cluster", &board.readers)]
    {
        println!(
            "{kind}: {} reads, {:.1} % on standbys",
            tally.reads.load(Ordering::Relaxed),
            100.0 * tally.share()
        );
        assert!(tally.on_standbys.load(Ordering::Relaxed) > 0, "no standby has served anything");
    }
    if duration().is_some() {
        assert!(board.moderate.share() >= 0.8, "standbys serve too little");
    }
}

/// Lets the sessions end, also when the test fails.
struct Over<'a>(&'a Board);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}
