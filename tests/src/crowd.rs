//! Clients of every kind that live through a mishap together, and what became of each of their statements.
//!
//! What is written carries the number of who wrote it and of the attempt, and no attempt is made twice: so what a client
//! was told can be held against what is there.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::raw::messages::{bind, execute, parse, query, sync};
use crate::raw::{Backend, Client};
use crate::{Account, wait_long_until, wait_until};

/// Longer than any mishap takes, tools that decide slowly included.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two statements of one client: a crowd, not a flood.
const THOUGHT: Duration = Duration::from_millis(3);

/// Channels that the idle ones listen on.
const CHANNELS: usize = 10;

/// The table that the crowd writes in: who, the how many-th attempt, and which row of it.
pub const TABLE: &str = "CREATE TABLE written (who int, attempt int, part int)";

/// What a busy client does all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trade {
    /// One row in a statement of its own.
    Writes,
    /// Two rows in a transaction of several statements.
    Transacts,
    /// Reads.
    Reads,
    /// Logs in with a setting that nobody has asked for yet, reads, and leaves.
    Visits,
}

impl Trade {
    const fn writes(self) -> bool {
        matches!(self, Self::Writes | Self::Transacts)
    }
}

/// One attempt, and what the client was told.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its first statement was sent then.
    pub sent: Instant,
    /// The last answer came so much later.
    pub took: Duration,
    /// SQLSTATE of the first error; `lost` if the connection ended.
    pub told: Result<(), String>,
    /// The words of the error.
    pub words: String,
}

/// All attempts of one client.
#[derive(Debug)]
pub struct Diary {
    /// Its number.
    pub who: usize,
    /// What it did.
    pub trade: Trade,
    /// In order, from 0.
    pub attempts: Vec<Attempt>,
}

/// See the module.
#[derive(Debug)]
pub struct Crowd {
    port: u16,
    account: Account,
    idle: Vec<Client>,
    busy: Vec<JoinHandle<Diary>>,
    over: Arc<AtomicBool>,
    /// Attempts that succeeded, of all that write.
    written: Arc<AtomicU32>,
    /// Nobody listens at the port.
    away: Arc<AtomicBool>,
}

/// How many idle clients there are: 20, or as `HAWSER_CROWD` says.
pub fn idle_clients() -> usize {
    std::env::var("HAWSER_CROWD").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

impl Crowd {
    /// Logs in at this port; the table is there.
    #[track_caller]
    pub fn start(port: u16, account: &Account) -> Self {
        let idle = (0..idle_clients()).map(|number| idle_client(port, account, number)).collect();
        let mut crowd = Self {
            port,
            account: account.clone(),
            idle,
            busy: Vec::new(),
            over: Arc::default(),
            written: Arc::default(),
            away: Arc::default(),
        };
        let trades = [(Trade::Writes, 4), (Trade::Transacts, 4), (Trade::Reads, 4), (Trade::Visits, 1)];
        let all = trades.iter().flat_map(|(trade, count)| std::iter::repeat_n(*trade, *count));
        for (who, trade) in all.enumerate() {
            let mut busy = Busy {
                port,
                account: account.clone(),
                client: Client::login(port, account),
                who,
                trade,
                over: crowd.over.clone(),
                written: crowd.written.clone(),
                away: crowd.away.clone(),
            };
            busy.client.set_patience(PATIENCE);
            crowd.busy.push(std::thread::spawn(move || busy.live()));
        }
        crowd.wait_for_writes();
        crowd
    }

    /// Waits until many more attempts to write have succeeded.
    #[track_caller]
    pub fn wait_for_writes(&self) {
        let enough = self.written.load(Ordering::Relaxed) + 100;
        wait_long_until("the crowd writes", || {
            assert!(self.busy.iter().all(|busy| !busy.is_finished()), "a client gave up");
            self.written.load(Ordering::Relaxed) >= enough
        });
    }

    /// Every idle session is alive, with its settings, its statement and its LISTEN.
    #[track_caller]
    pub fn check_idle(&mut self) {
        let mut notifier = Client::login(self.port, &self.account);
        let mut heard = vec![false; self.idle.len()];
        for (number, client) in self.idle.iter_mut().enumerate() {
            client.send(&[bind("", "kept", &[]), execute("", 0), sync()].concat());
            let said = client.read_until_ready();
            let row = said.iter().find(|message| message.tag == b'D').map(Backend::first);
            assert_eq!(row, Some(kept(number)), "idle client {number}: {said:?}");
        }
        wait_until("every idle client hears a notification", || {
            for channel in 0..CHANNELS.min(heard.len()) {
                notifier.execute(&format!("NOTIFY idle_{channel}"));
            }
            for (client, heard) in self.idle.iter_mut().zip(&mut heard) {
                *heard = *heard || client.query("SELECT 1").iter().any(|message| message.tag == b'A');
            }
            heard.iter().all(|heard| *heard)
        });
    }

    /// Sends everybody home, and returns what they did.
    #[track_caller]
    pub fn finish(self) -> Vec<Diary> {
        self.over.store(true, Ordering::Relaxed);
        self.busy.into_iter().map(|busy| busy.join().expect("a client of the crowd")).collect()
    }

    /// Nobody will listen at the port: the idle leave, and the busy come back after [`Self::welcome`].
    pub fn see_off(&mut self) {
        self.away.store(true, Ordering::Relaxed);
        self.idle.clear();
    }

    /// Somebody listens at the port again.
    pub fn welcome(&self) {
        self.away.store(false, Ordering::Relaxed);
    }
}

/// A session with a setting, a prepared statement that shows it, and a LISTEN.
#[track_caller]
fn idle_client(port: u16, account: &Account, number: usize) -> Client {
    let mut client = Client::login(port, account);
    client.set_patience(PATIENCE);
    client.execute(&format!("SET search_path = mine_{number}, public"));
    client.execute(&format!("SET work_mem = '{}'", memory(number)));
    let shows = "SELECT current_setting('search_path') || ' ' || current_setting('work_mem')";
    client.send(&[parse("kept", shows), sync()].concat());
    client.read_until_ready();
    client.execute(&format!("LISTEN idle_{}", number % CHANNELS));
    client
}

/// What the prepared statement of an idle session shows.
fn kept(number: usize) -> String {
    format!("mine_{number}, public {}", memory(number))
}

/// A size of its own; one that is odd is shown as it is written.
fn memory(number: usize) -> String {
    format!("{}kB", 1001 + 2 * number)
}

/// A busy client.
struct Busy {
    port: u16,
    account: Account,
    client: Client,
    who: usize,
    trade: Trade,
    over: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    away: Arc<AtomicBool>,
}

impl Busy {
    fn live(&mut self) -> Diary {
        let mut attempts = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let sent = Instant::now();
            let told = self.attempt(attempts.len());
            let (told, words) = match told {
                Ok(()) => (Ok(()), String::new()),
                Err(Failure::Told(error)) => (Err(error.sqlstate()), error.text()),
                Err(Failure::Lost(error)) => {
                    self.come_back();
                    (Err("lost".to_owned()), error.to_string())
                }
            };
            if told.is_ok() && self.trade.writes() {
                self.written.fetch_add(1, Ordering::Relaxed);
            }
            attempts.push(Attempt { sent, took: sent.elapsed(), told, words });
            std::thread::sleep(THOUGHT);
        }
        Diary { who: self.who, trade: self.trade, attempts }
    }

    fn attempt(&mut self, number: usize) -> Result<(), Failure> {
        let insert = |who: usize, part: u32| format!("INSERT INTO written VALUES ({who}, {number}, {part})");
        match self.trade {
            Trade::Writes => self.ask(&insert(self.who, 0)).map(drop),
            Trade::Reads => self.read(number),
            Trade::Visits => {
                self.client = Client::try_connect(self.port).map_err(Failure::Lost)?;
                self.client.set_patience(PATIENCE);
                let memory = memory(10_000 + number);
                let admitted = self.client.login_or_lose(&self.account, &[("work_mem", &memory)]);
                admitted.map_err(Failure::Lost)?.map_err(Failure::Told)?;
                self.read(number)
            }
            Trade::Transacts => {
                let steps = ["BEGIN", &insert(self.who, 0), &insert(self.who, 1), "COMMIT"];
                for step in steps {
                    if let Err(failure) = self.ask(step) {
                        if matches!(failure, Failure::Told(_)) {
                            self.ask("ROLLBACK")?;
                        }
                        return Err(failure);
                    }
                }
                Ok(())
            }
        }
    }

    fn read(&mut self, number: usize) -> Result<(), Failure> {
        let said = self.ask(&format!("SELECT {number} FROM pg_database LIMIT 1"))?;
        let row = said.iter().find(|message| message.tag == b'D').map(Backend::first);
        assert_eq!(row, Some(number.to_string()), "reader {}: {said:?}", self.who);
        Ok(())
    }

    fn ask(&mut self, sql: &str) -> Result<Vec<Backend>, Failure> {
        self.client.try_send(&query(sql)).map_err(Failure::Lost)?;
        let mut said = Vec::new();
        loop {
            let message = self.client.try_read().map_err(Failure::Lost)?;
            let ready = message.tag == b'Z';
            said.push(message);
            if ready {
                break;
            }
        }
        match said.iter().position(|message| message.tag == b'E') {
            Some(place) => Err(Failure::Told(said.swap_remove(place))),
            None => Ok(said),
        }
    }

    /// Logs in again, as soon as somebody is there.
    fn come_back(&mut self) {
        wait_long_until("Hawser is there again", || !self.away.load(Ordering::Relaxed));
        self.client = Client::login(self.port, &self.account);
        self.client.set_patience(PATIENCE);
    }
}

/// Why an attempt failed.
enum Failure {
    /// An error.
    Told(Backend),
    /// The connection ended.
    Lost(io::Error),
}

/// What is there of each attempt: how often each of its rows.
pub type Found = BTreeMap<(usize, usize), Vec<u32>>;

/// Reads what [`FIND`] has found.
#[track_caller]
pub fn found(text: &str) -> Found {
    let mut found = Found::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut columns = line.split('|').map(|column| column.parse::<usize>().expect("a number"));
        let (who, attempt) = (columns.next().expect("who"), columns.next().expect("an attempt"));
        let part = columns.next().expect("a part");
        let times = columns.next().expect("how often");
        let parts = found.entry((who, attempt)).or_insert_with(|| vec![0; 2]);
        parts[part] = u32::try_from(times).expect("a small number");
    }
    found
}

/// Finds what is there.
pub const FIND: &str = "SELECT who, attempt, part, count(*) FROM written GROUP BY 1, 2, 3";

/// What may go wrong for the clients of a crowd in a mishap.
#[derive(Debug, Clone, Copy)]
pub struct Allowed<'a> {
    /// SQLSTATEs that those who write may be told.
    pub sqlstates: &'a [&'a str],
    /// How often each of them may be told one.
    pub times: usize,
    /// How often the connection of each client may end.
    pub losses: usize,
}

/// Nothing may go wrong for anybody.
pub const NOTHING: Allowed<'_> = Allowed { sqlstates: &[], times: 0, losses: 0 };

/// What was under way at a crash is undone, which is known, and can be tried again.
pub const UNDER_WAY: Allowed<'_> = Allowed { sqlstates: &["40001"], times: 1, losses: 0 };

/// Errors after which a write has surely not happened.
const UNDONE: [&str; 2] = ["40001", "57P03"];

/// Holds what every client was told against what is there: nothing that was acknowledged is lost, nothing is there twice
/// or in half, nothing is there of what was said to be undone, and nobody was told an error that is not allowed.
#[track_caller]
pub fn check(diaries: &[Diary], found: &Found, allowed: Allowed<'_>) {
    for Diary { who, trade, attempts } in diaries {
        check_errors(*who, *trade, attempts, allowed);
        if !trade.writes() {
            continue;
        }
        let whole = if *trade == Trade::Writes { [1, 0] } else { [1, 1] };
        for (number, attempt) in attempts.iter().enumerate() {
            let there = found.get(&(*who, number)).map_or([0, 0], |parts| [parts[0], parts[1]]);
            let may_be: &[[u32; 2]] = match &attempt.told {
                Ok(()) => &[whole],
                Err(sqlstate) if UNDONE.contains(&sqlstate.as_str()) => &[[0, 0]],
                Err(_) => &[[0, 0], whole],
            };
            assert!(
                may_be.contains(&there),
                "{who} ({trade:?}), {number}: {:?}, and there is {there:?}",
                attempt.told
            );
        }
    }
}

/// Who only reads is told no error, and who writes no others and none more often than is allowed.
#[track_caller]
fn check_errors(who: usize, trade: Trade, attempts: &[Attempt], allowed: Allowed<'_>) {
    let failed = attempts.iter().filter_map(|attempt| Some((attempt.told.as_ref().err()?, &attempt.words)));
    let (lost, told): (Vec<_>, Vec<_>) = failed.partition(|(sqlstate, _)| *sqlstate == "lost");
    let times = if trade.writes() { allowed.times } else { 0 };
    assert!(lost.len() <= allowed.losses, "client {who} ({trade:?}) lost its connection: {lost:?}");
    assert!(told.len() <= times, "client {who} ({trade:?}) was told {told:?}");
    for (sqlstate, words) in told {
        assert!(allowed.sqlstates.contains(&sqlstate.as_str()), "{who} ({trade:?}): {sqlstate} {words}");
    }
}

/// Nothing that was sent after `moment` is among what was `found` at a host that was the primary before it.
#[track_caller]
pub fn check_fenced(diaries: &[Diary], found: &Found, moment: Instant) {
    for (who, number) in found.keys() {
        let attempt = &diaries[*who].attempts[*number];
        assert!(attempt.sent < moment, "attempt {number} of {who} was taken by a host that was fenced");
    }
}

/// One line of figures: attempts, errors, and the longest that a statement of each trade took.
pub fn figures(diaries: &[Diary]) -> String {
    let line = |trade: Trade| {
        let of: Vec<&Attempt> =
            diaries.iter().filter(|diary| diary.trade == trade).flat_map(|diary| &diary.attempts).collect();
        let errors = of.iter().filter(|attempt| attempt.told.is_err()).count();
        let longest = of.iter().map(|attempt| attempt.took).max().unwrap_or_default();
        format!("{trade:?}: {} attempts, {errors} errors, longest {} ms", of.len(), longest.as_millis())
    };
    [Trade::Writes, Trade::Transacts, Trade::Reads, Trade::Visits].map(line).join("; ")
}
