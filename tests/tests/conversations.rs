//! What a client says at random is answered as PostgreSQL itself answers it, wherever Hawser has it run.
//!
//! Two clients say the same: one to the primary, one through Hawser, which has two standbys. Batches come alone and several
//! at once, cut anywhere, short and long, in transactions that read only and others, with what fails among them. Several
//! such pairs speak at the same time, so that what one leaves behind is there for the others to find.
//!
//! `HAWSER_TALK_STEPS` says how much is said in each of the conversations, `HAWSER_TALK_SEED` what.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use hawser_tests::raw::messages::{
    bind, close, copy_data, copy_done, copy_fail, describe, execute, extended, flush, function_call, parse,
    query, sync,
};
use hawser_tests::raw::{Backend, Client};
use hawser_tests::{Ensemble, wait_until};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};

/// So many at a time, so often.
const PAIRS: u64 = 3;
const ROUNDS: u64 = 2;

const TRANSACTIONS: [&str; 14] = [
    "BEGIN",
    "BEGIN READ ONLY",
    "START TRANSACTION READ ONLY",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "COMMIT",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
];

const SETTINGS: [&str; 29] = [
    "SET work_mem = '1234kB'",
    "SET LOCAL work_mem = '777kB'",
    "SHOW work_mem",
    "RESET work_mem",
    "SELECT current_setting('work_mem')",
    "SELECT set_config('work_mem', '4321kB', false)",
    "SELECT sets(5432)",
    "SET LOCAL search_path = pg_catalog",
    "SET search_path = pg_catalog",
    "RESET ALL",
    "SET app.x = '2'",
    "SET LOCAL app.x = '3'",
    // It stays known, and empty, where others have set it.
    "SELECT coalesce(nullif(current_setting('app.x', true), ''), 'none')",
    "SELECT set_config('app.x', '1', false)",
    "SELECT set_config('app.x', 'a' || 'b', false), 1",
    "SELECT coalesce(nullif(current_setting('app.y', true), ''), 'none')",
    "SELECT convert_to(coalesce(current_setting('app.x', true), ''), 'UTF8')",
    "SET app.x = 'été'",
    "SET app.x = E'\\x41b'",
    "SET app.x = U&'\\00e9'",
    "SELECT sets(\x0b 5431)",
    "RESET app.x",
    "SET TIME ZONE 'UTC+3'",
    "SHOW timezone",
    "SET DateStyle = 'German'",
    "SELECT '2020-01-02'::date",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SHOW transaction_isolation",
    "SET client_encoding = 'LATIN1'",
];

/// Several statements at once, one of which is any.
const SEVERAL: [&str; 7] = [
    "BEGIN; ?; COMMIT",
    "BEGIN READ ONLY; ?; COMMIT",
    "COMMIT; BEGIN; ?",
    "?; ROLLBACK",
    "BEGIN; SET LOCAL work_mem = '999kB'; ?; SHOW work_mem; COMMIT; SHOW work_mem",
    "SAVEPOINT s; ?; ROLLBACK TO s",
    "SET work_mem = '1111kB'; ?; SHOW work_mem",
];

const CURSORS: [&str; 6] = [
    "DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 100) AS i",
    "FETCH 3 FROM c",
    "FETCH 3 FROM c",
    "MOVE 2 IN c",
    "CLOSE c",
    "CLOSE ALL",
];

/// Stands for the schema and the channel of a client.
const NOBODYS: &str = "ours_00000000";

/// What a transaction that only reads may do on a primary and not on a standby.
const NOTIFICATIONS: [&str; 5] = [
    "LISTEN ours_00000000",
    "NOTIFY ours_00000000, 'one'",
    "SELECT pg_notify('ours_00000000', 'two'), 3",
    "UNLISTEN ours_00000000",
    "UNLISTEN *",
];

/// What may keep a session where it is. What it does depends on where it runs, so it comes alone.
const KEEPSAKES: [&str; 25] = [
    "DECLARE h CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 100) AS i",
    "FETCH 2 FROM h",
    "CLOSE h",
    "SELECT makes()",
    "SELECT name, from_sql FROM pg_prepared_statements ORDER BY name",
    "SELECT nextval('q'); SELECT currval('q'), lastval()",
    "DISCARD TEMP",
    "DISCARD ALL",
    "SELECT pg_advisory_lock_shared(1)",
    "SELECT pg_advisory_unlock_shared(1)",
    "PREPARE measure (text) AS SELECT length($1)",
    "PREPARE mine AS SELECT count(*) FROM ours_00000000.t",
    "EXECUTE mine",
    "DEALLOCATE mine",
    "CREATE TEMP TABLE IF NOT EXISTS own (n int)",
    "DROP TABLE IF EXISTS own",
    "INSERT INTO own VALUES (1)",
    "SELECT count(*) FROM own",
    "DO $$ BEGIN EXECUTE 'PREPARE made AS SELECT 5'; EXCEPTION WHEN OTHERS THEN NULL; END $$",
    "EXECUTE made",
    "DEALLOCATE made",
    "DEALLOCATE ALL",
    "PREPARE one AS SELECT 'in SQL', $1::int",
    "EXECUTE one(3)",
    "DO $$ BEGIN PERFORM set_config('work_mem', '2222kB', false); END $$",
];

/// What is said at once: its bytes, and how often the server gets ready after it.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: usize,
}

impl Batch {
    fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, ends: 1 }
    }

    fn extended(messages: &[Vec<u8>]) -> Self {
        Self::of([messages.concat(), sync()].concat())
    }
}

struct Speaker {
    random: StdRng,
    names: Vec<&'static str>,
    /// There may be a transaction that only reads.
    reads: bool,
}

impl Speaker {
    fn filler(&mut self) -> String {
        "x".repeat(*[3, 3, 3, 200, 9_000, 17_000, 40_000, 200_000, 300_000].choose(&mut self.random).unwrap())
    }

    fn text(&mut self) -> String {
        match self.random.random_range(0..12) {
            0..3 => format!("SELECT length('{}')", self.filler()),
            10 => {
                format!("SELECT length('{}'), sets({})", self.filler(), self.random.random_range(1000..9000))
            }
            11 => format!("EXECUTE measure('{}')", self.filler()),
            3..5 => "SELECT count(*), max(i) FROM t".to_owned(),
            5 => format!(
                "SELECT i, repeat('z', i * 100) FROM generate_series(1, {}) AS i",
                self.random.random_range(1..40)
            ),
            6 => "SELECT 1 / 0".to_owned(),
            7 => "SELECT missing FROM t".to_owned(),
            8 => format!("INSERT INTO t SELECT coalesce(max(i), 0) + 1, '{}' FROM t", self.filler()),
            _ => "UPDATE t SET filler = 'new' WHERE i % 7 = 0".to_owned(),
        }
    }

    /// A batch that may stand among others. A name is defined only by one that begins, when it is clear whether the
    /// transaction has failed: Hawser answers the Parse of what a server has before that.
    fn batch(&mut self, begins: bool) -> Batch {
        match self.random.random_range(0..25) {
            0..4 => Batch::of(query(&self.text())),
            4..7 => Batch::of([extended(&self.text(), &[]), sync()].concat()),
            7 if self.random.random() => {
                let value = self.random.random_range(0..9).to_string();
                let name = *["app.x", "App.Y"].choose(&mut self.random).unwrap();
                Batch::extended(&[extended("SELECT set_config($1, $2, false)", &[Some(name), Some(&value)])])
            }
            7 => Batch::extended(&[extended("SELECT length($1)", &[Some(&self.filler())])]),
            8..11 => self.named(begins),
            11 => Batch::extended(&[
                parse("", "SELECT generate_series(1, 20)"),
                bind("portal", "", &[]),
                execute("portal", self.random.random_range(1..30)),
                if self.random.random() { flush() } else { Vec::new() },
                execute("portal", 0),
            ]),
            12..15 => Batch::of(query(self.transaction())),
            15 => Batch::extended(&[extended(self.transaction(), &[])]),
            16 => {
                let rows = self.random.random_range(1..300);
                let text =
                    format!("COPY (SELECT repeat('c', 300) FROM generate_series(1, {rows})) TO STDOUT");
                Batch::of(query(&text))
            }
            17 => Batch::of(query(SETTINGS.choose(&mut self.random).unwrap())),
            18 if self.random.random() => Batch::of(query(&format!("{}; {}", self.text(), self.text()))),
            18 => Batch::of(query(&self.several())),
            19 => self.kept_portal(),
            20 => Batch::of(query(CURSORS.choose(&mut self.random).unwrap())),
            21 if !self.reads => Batch::of(query(NOTIFICATIONS.choose(&mut self.random).unwrap())),
            // int4pl
            22 => Batch::of(function_call(177, &["2", "3"])),
            23 => match self.random.random_range(0..3) {
                0 => Batch::extended(&[parse("bad", "SELEC 1")]),
                1 => Batch::extended(&[bind("", "bad", &[]), execute("", 0)]),
                _ => Batch::extended(&[describe(b'S', "two")]),
            },
            _ => Batch::of(query("")),
        }
    }

    fn transaction(&mut self) -> &'static str {
        // In PostgreSQL 15, what is chained to a READ ONLY transaction that has failed may write.
        let reads = self.reads;
        let fitting = TRANSACTIONS.iter().filter(|text| !(reads && text.contains("CHAIN")));
        let text = fitting.choose(&mut self.random).unwrap();
        self.reads |= text.contains("READ ONLY");
        text
    }

    fn several(&mut self) -> String {
        let reads = self.reads;
        // It cannot be elsewhere when it begins the other transaction.
        let fitting = SEVERAL.iter().filter(|text| !(reads && text.starts_with("COMMIT")));
        let text = fitting.choose(&mut self.random).unwrap();
        self.reads |= text.contains("READ ONLY");
        text.replace('?', &self.text())
    }

    /// A portal that lasts until its transaction ends.
    fn kept_portal(&mut self) -> Batch {
        match self.random.random_range(0..4) {
            0 => Batch::extended(&[parse("", "SELECT generate_series(1, 30)"), bind("kept", "", &[])]),
            1 | 2 => Batch::extended(&[execute("kept", self.random.random_range(1..9))]),
            _ => Batch::extended(&[close(b'P', "kept")]),
        }
    }

    fn named(&mut self, begins: bool) -> Batch {
        let name = *["one", "two", "three"].choose(&mut self.random).unwrap();
        if let Some(at) = self.names.iter().position(|known| *known == name) {
            if self.random.random_range(0..3) == 0 {
                self.names.swap_remove(at);
                return Batch::extended(&[close(b'S', name)]);
            }
        } else if begins {
            self.names.push(name);
            let defined =
                [parse(name, "SELECT $1::text, count(*) FROM ours_00000000.t"), describe(b'S', name)];
            return Batch::extended(&[defined.concat(), bind("", name, &[Some("1")]), execute("", 0)]);
        }
        Batch::extended(&[bind("", name, &[Some("7")]), execute("", 0)])
    }

    /// What is said next, to be answered before anything else is said.
    fn step(&mut self, in_transaction: bool) -> Batch {
        if !in_transaction && self.random.random_range(0..12) == 0 {
            return Batch::of(query(KEEPSAKES.choose(&mut self.random).unwrap()));
        }
        let mut step = Batch::default();
        for number in 0..*[1, 1, 1, 2, 3, 6].choose(&mut self.random).unwrap() {
            let batch = self.batch(number == 0);
            step.bytes.extend(batch.bytes);
            step.ends += batch.ends;
        }
        step
    }

    /// Rows for a COPY that has begun, and its end.
    fn rows(&mut self) -> Vec<u8> {
        let rows = "1\tcopied\n".repeat(self.random.random_range(0..500));
        let end = if self.random.random_range(0..5) == 0 { copy_fail("no") } else { copy_done() };
        [copy_data(rows.as_bytes()), end].concat()
    }
}

/// What was answered, without what says where that was.
fn heard(client: &mut Client, ends: usize) -> Vec<(u8, Vec<u8>)> {
    let all = (0..ends).flat_map(|_| client.read_until_ready()).collect::<Vec<_>>();
    all.iter().filter(|message| !b"NS".contains(&message.tag)).map(essence).collect()
}

fn essence(message: &Backend) -> (u8, Vec<u8>) {
    let words = match message.tag {
        b'E' => message.sqlstate().into_bytes(),
        // Whose process it was, and that it is another's channel.
        b'A' => message.body[4..].iter().skip_while(|byte| **byte != b'_').copied().collect(),
        _ => message.body.clone(),
    };
    (message.tag, words)
}

fn short(messages: &[(u8, Vec<u8>)]) -> String {
    let mut lines = Vec::new();
    for run in messages.chunk_by(|one, next| one.0 == next.0 && b"Dd".contains(&one.0)) {
        let (tag, body) = &run[0];
        let start = body.get(..60).unwrap_or(body).escape_ascii();
        lines.push(format!("{} of {} {start}", run.len(), char::from(*tag)));
    }
    lines.join("\n")
}

fn take_notes(answer: &mut Vec<(u8, Vec<u8>)>) -> Vec<(u8, Vec<u8>)> {
    answer.extract_if(.., |(tag, _)| *tag == b'A').collect()
}

/// One says it to each. Nothing follows from the pause but how the bytes are likely to arrive.
fn say(client: &mut Client, bytes: &[u8], cut: Option<usize>) {
    let (start, rest) = bytes.split_at(cut.unwrap_or(0));
    client.send(start);
    if cut.is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
    client.send(rest);
}

/// The same, with the client's own schema and channel.
fn as_said_by(name: &str, said: &[u8]) -> Vec<u8> {
    let mut said = said.to_vec();
    let places = said.windows(name.len()).enumerate().filter(|(_, word)| *word == NOBODYS.as_bytes());
    for at in places.map(|(at, _)| at).collect::<Vec<_>>() {
        said[at..at + name.len()].copy_from_slice(name.as_bytes());
    }
    said
}

fn converse(ensemble: &Ensemble, seed: u64, steps: u64) {
    println!("seed {seed}");
    let mut speaker = Speaker { random: StdRng::seed_from_u64(seed), names: Vec::new(), reads: false };
    let names = ["ours", "hers"].map(|whose| format!("{whose}_{:08x}", seed % (1 << 32)));
    let login = |port, schema: &str| {
        let options = format!("-c search_path={schema}");
        let mut client = Client::login_with(port, &ensemble.account, &[("options", &options)]);
        client.execute(&format!("CREATE SCHEMA {schema}"));
        client.execute("CREATE TABLE t (i int, filler text)");
        client.execute("CREATE SEQUENCE q");
        client.execute(
            "CREATE FUNCTION sets(n int) RETURNS text LANGUAGE plpgsql AS
             'begin return set_config(''work_mem'', n || ''kB'', false); end'",
        );
        client.execute(
            "CREATE FUNCTION makes() RETURNS bigint LANGUAGE plpgsql AS
             'begin
                create temp table if not exists made (i int);
                insert into made values (1);
                return (select count(*) from made);
              end'",
        );
        client
    };
    let mut ours = login(ensemble.hawser.port(), &names[0]);
    let mut direct = login(ensemble.hosts[0].port(), &names[1]);
    let mut status = b'I';
    for step in 0..steps {
        // A standby does not look for the table first.
        let copies = speaker.random.random_range(0..25) == 0 && !speaker.reads;
        let said = if copies {
            Batch { bytes: query("COPY t FROM STDIN"), ends: 0 }
        } else {
            speaker.step(status != b'I')
        };
        let [our_words, other_words] = names.each_ref().map(|name| as_said_by(name, &said.bytes));
        let cut = speaker.random.random_range(0..3) == 0;
        let cut = cut.then(|| speaker.random.random_range(0..said.bytes.len()));
        let what = said.bytes.get(..500).unwrap_or(&said.bytes).escape_ascii();
        println!("{seed}, {step}: {what}");
        say(&mut ours, &our_words, cut);
        say(&mut direct, &other_words, None);
        let (mut answer, mut wanted) = (Vec::new(), Vec::new());
        let mut ends = said.ends;
        if copies {
            // It may be refused.
            let first = [ours.read(), direct.read()];
            answer.push(essence(&first[0]));
            wanted.push(essence(&first[1]));
            ends = 1;
            if first.iter().all(|message| message.tag == b'G') {
                let rows = speaker.rows();
                say(&mut ours, &rows, None);
                say(&mut direct, &rows, None);
            }
        }
        answer.extend(heard(&mut ours, ends));
        wanted.extend(heard(&mut direct, ends));
        // A notification is told as soon as it is there.
        let [notes, wanted_notes] = [&mut answer, &mut wanted].map(take_notes);
        assert!(
            (&answer, notes) == (&wanted, wanted_notes),
            "seed {seed}, step {step}, cut {cut:?}\n== through Hawser\n{}\n== directly\n{}",
            short(&answer),
            short(&wanted)
        );
        status = wanted.last().map_or(b'I', |(_, body)| body[0]);
        speaker.reads &= status != b'I';
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|value| value.parse().ok())
}

fn converse_all(balance: &str) {
    let ensemble = Ensemble::with_conf(2, &["synchronous_commit = on"], |config| {
        config.set("workers", 2).set("pool.size", 4).set("balance", format!("{balance:?}"))
    });
    let mut client = ensemble.client();
    wait_until("reads go to a standby", || {
        client.value("/* hawser: standby */ SELECT pg_is_in_recovery()") == "t"
    });
    let first = number("HAWSER_TALK_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    for round in 0..ROUNDS {
        std::thread::scope(|scope| {
            for pair in 0..PAIRS {
                let (seed, ensemble) = (first + round * PAIRS + pair, &ensemble);
                scope.spawn(move || converse(ensemble, seed, number("HAWSER_TALK_STEPS").unwrap_or(150)));
            }
        });
    }
}

#[test]
fn what_is_said_at_random_is_answered_as_by_postgresql_itself() {
    converse_all("auto");
}

#[test]
fn nor_does_it_matter_which_worker_the_session_is_on() {
    converse_all("roam");
}
