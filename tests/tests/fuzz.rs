//! Every parser against mutations of its corpus: none panics, none hangs.
//!
//! Run by `make fuzz` for `FUZZ_SECONDS` (3) each; a seed is printed, and `FUZZ_SEED` repeats a run.

use hawser::auth::{hba, lookup, name_map, secret, userlist};
use hawser::config::{pgbouncer, toml_file, url};
use hawser_wire::{backend, frame, frontend, reply_queue, scram, startup};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest input that is made.
const LONGEST: usize = 4096;

/// Feeds mutations of `corpus` to `target` until the time is up.
fn fuzz(corpus: &[&[u8]], target: impl Fn(&[u8])) {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = variable("FUZZ_SEED").unwrap_or_else(rand::random);
    let time = Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(3));
    eprintln!("FUZZ_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut pool: Vec<Vec<u8>> = corpus.iter().map(|input| input.to_vec()).collect();
    pool.push(Vec::new());
    let begin = Instant::now();
    let mut runs = 0u64;
    while begin.elapsed() < time {
        for _ in 0..200 {
            let mut input = pool[random.random_range(0..pool.len())].clone();
            for _ in 0..random.random_range(1..8) {
                mutate(&mut input, &pool, &mut random);
            }
            input.truncate(LONGEST);
            target(&input);
            runs += 1;
            // What was reached once is a base for what lies beyond it.
            if random.random_ratio(1, 50) {
                if pool.len() < 500 {
                    pool.push(input);
                } else {
                    let at = random.random_range(corpus.len()..pool.len());
                    pool[at] = input;
                }
            }
        }
    }
    eprintln!("{runs} runs");
    assert!(runs > 0);
}

fn mutate(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut StdRng) {
    const TOKENS: [&[u8]; 14] = [
        b"\0",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\x04",
        b"'",
        b"\"",
        b"$$",
        b"/*",
        b"--",
        b";",
        b"\\",
        b"=",
        b"[[",
        b"\n",
    ];
    let at = random.random_range(0..=input.len());
    match random.random_range(0..6) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random(),
        2 => drop(input.splice(at..at, TOKENS[random.random_range(0..TOKENS.len())].iter().copied())),
        3 if at < input.len() => {
            let end = random.random_range(at..=input.len());
            drop(input.drain(at..end));
        }
        4 => {
            let other = &pool[random.random_range(0..pool.len())];
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.insert(at, random.random()),
    }
}

/// As text, where a parser takes only that.
fn text(input: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(input)
}

#[test]
#[ignore = "run by make fuzz"]
fn messages_of_clients_and_servers() {
    let corpus: [&[u8]; 7] = [
        b"P\0\0\0\x0d\0BEGIN\0\0\0B\0\0\0\x0c\0\0\0\0\0\0\0\0D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04",
        b"Q\0\0\0\x0dSELECT 1\0",
        b"P\0\0\0\x16s1\0SELECT $1\0\0\x01\0\0\0\x17",
        b"B\0\0\0\x14p\0s1\0\0\0\0\x01\0\0\0\x011\0\0",
        b"Z\0\0\0\x05I",
        b"E\0\0\0\x1fSERROR\0C42601\0Msyntax error\0\0",
        b"S\0\0\0\x16TimeZone\0Etc/UTC\0\0",
    ];
    fuzz(&corpus, |input| {
        if let Some(lone) = hawser::session::deferral::lone(input) {
            assert!(lone.length <= input.len());
        }
        let mut rest = input;
        while let Ok(Some(header)) = frame::header(rest) {
            let body = rest.get(frame::HEADER_LENGTH..header.total().min(rest.len())).unwrap_or_default();
            let _ = (frontend::parse(body), frontend::bind_names(body), frontend::query(body));
            let _ = (
                frontend::target(body, "Close"),
                backend::parameter_status(body),
                backend::backend_key_data(body),
            );
            let _ = (backend::command_tag(body), backend::error_fields(body));
            rest = rest.get(header.total()..).unwrap_or_default();
        }
    });
}

#[test]
#[ignore = "run by make fuzz"]
fn the_first_packets() {
    let corpus: [&[u8]; 3] = [
        b"\0\x03\0\0user\0me\0database\0db\0options\0-c a=b\0\0",
        b"\x04\xd2\x16\x2f",
        b"\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
    ];
    fuzz(&corpus, |input| {
        if let Some(head) = input.first_chunk::<8>() {
            let _ = startup::Head::read(*head, 10_000);
        }
        if let Ok(startup::FirstPacket::Startup(message)) = startup::FirstPacket::parse(input) {
            let _ = (message.user(), message.database(), message.replication(), message.negotiation());
        }
        let _ = startup::Negotiation::parse(input);
        let _ = startup::parse_options(&text(input));
        let _ = scram::parse_initial_response(input);
        let _ = secret::parse(&text(input));
    });
}

#[test]
#[ignore = "run by make fuzz"]
fn the_reply_queue() {
    fuzz(&[b"PBDES12TDCZ", b"PBES12GcSCZ", b"QTDCZ", b"PSE1EZ"], |input| {
        use reply_queue::{Fate, ReplyQueue, Request};
        let mut queue = ReplyQueue::<usize>::default();
        for (number, byte) in input.iter().enumerate() {
            let request = match byte {
                b'P' => Request::Parse,
                b'B' => Request::Bind,
                b'D' if number % 2 == 0 => Request::Describe,
                b'E' if number % 2 == 0 => Request::Execute,
                b'S' => Request::Sync,
                b'Q' => Request::Query,
                b'c' => Request::CopyEnd,
                tag => {
                    while queue.due().is_some() {}
                    if queue.observe(*tag, &mut |_| {}).is_err() {
                        return;
                    }
                    continue;
                }
            };
            queue.push(request, Fate::Forward, Some(number));
            assert!(queue.len() <= number + 1);
        }
    });
}

#[test]
#[ignore = "run by make fuzz"]
fn sql() {
    let corpus: [&[u8]; 5] = [
        b"SET search_path TO a, \"B\", 'c'; SELECT $x$;$x$ /* /* ; */ */ -- x\n",
        b"SELECT pg_catalog.set_config('a', 'b', false)",
        b"BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        b"CREATE TEMP TABLE t (a int) ON COMMIT DROP",
        b"ROLLBACK TO SAVEPOINT \"x\"",
    ];
    fuzz(&corpus, |input| {
        let _ = hawser_sql_router::effects::of_text(input);
        let _ = hawser::session::deferral::control(input);
        assert!(hawser_sql_router::scan::words(&text(input)).count() <= text(input).len());
    });
}

#[test]
#[ignore = "run by make fuzz"]
fn verdicts() {
    use hawser_sql_router::cache::Cache;
    use hawser_sql_router::classify::classify;
    use hawser_sql_router::knowledge::{Nothing, SearchPath};
    use hawser_sql_router::statement::{Host, Reason, Verdict};
    let corpus: [&[u8]; 13] = [
        b"SELECT lower(a), count(*) FROM t AS x(a) WHERE b IN (1, 2) /* hawser: standby */ FOR UPDATE",
        b"WITH RECURSIVE a(n) AS (SELECT 1), b AS NOT MATERIALIZED (DELETE FROM t RETURNING 1) TABLE b",
        b"EXPLAIN (ANALYZE, COSTS OFF) SELECT DISTINCT ON (a) nextval('s') INTO t",
        b"COPY (SELECT U&\"d\\0061t\" FROM t) TO STDOUT; COPY t(a) FROM STDIN",
        b"BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY; SET transaction_read_only = off; COMMIT AND CHAIN",
        b"PREPARE p (int) AS SELECT $1; EXECUTE p(1); DEALLOCATE ALL",
        b"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3",
        b"CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
        b"SELECT E'a\\'b' 'c', $x$ ; $x$, 'd\\', B'1', \"e\"\"f\", (g).h[1]::numeric(1, 2) OPERATOR(s.+) 1.5e-3",
        b"DECLARE c CURSOR WITH HOLD FOR SELECT 1; FETCH ALL FROM c; CLOSE c",
        b"INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y') ON CONFLICT DO NOTHING",
        b"SELECT a FROM t WHERE a LIKE $1 ESCAPE '\\' OR b LIKE 'x\\'' ESCAPE '\\'",
        b"SELECT pg_catalog.set_config('transaction_read_only', 'off', false), current_setting('in_hot_standby')",
    ];
    let path = SearchPath::parse("a, pg_catalog", "u");
    let cache = RefCell::new(Cache::new(1024));
    fuzz(&corpus, |input| {
        let verdicts = classify(input, &Nothing, &path);
        // What holds for the template of a text holds for the text.
        assert_eq!(*cache.borrow_mut().classify(input, &Nothing, &path), verdicts, "{}", text(input));
        let _ = (verdicts.host(), verdicts.access(), verdicts.decisive().map(|one| one.reason.to_string()));
        let _ = hawser::route::verdicts::as_json(&verdicts);
        assert!(
            hawser_sql_router::fingerprint::of(input).text.len()
                <= 3 * hawser_sql_router::fingerprint::LONGEST
        );
        let old = hawser_sql_router::token::cut_unconforming(input);
        assert!(old.all.len() <= input.len());
        // A write behind whatever comes first is seen, and so is one in front of it.
        let behind = [input, b"\n; INSERT INTO t VALUES (1)"].concat();
        assert_eq!(classify(&behind, &Nothing, &path).host(), Host::Primary);
        let before = [b"INSERT INTO t VALUES (1);\n", input].concat();
        assert_eq!(classify(&before, &Nothing, &path).host(), Host::Primary);
        // A call that writes is seen behind whatever reads.
        let reads = |verdict: &Verdict| verdict.reason == Reason::Reads && verdict.hint.is_none();
        if verdicts.statements().last().is_some_and(reads) {
            let called = [input, b"\nUNION ALL SELECT nextval('s')"].concat();
            assert_eq!(classify(&called, &Nothing, &path).host(), Host::Primary, "{}", text(&called));
        }
    });
}

#[test]
#[ignore = "run by make fuzz"]
fn configuration() {
    let corpus: [&[u8]; 6] = [
        b"[listen]\naddress = \"127.0.0.1:6432\"\n[databases.app]\nhosts = [\"a:1\"]\n",
        b"[databases]\n* = host=a,b port=5432 pool_size=20\n[pgbouncer]\nlisten_port = 6432\n",
        b"postgres://u:p%40@h1:5432,[::1]:5433/db?sslmode=verify-full&options=-c%20a%3Db",
        b"host all \"a b\" 10.0.0.0/8 scram-sha-256 map=m\nlocal all all peer\n",
        b"\"user\" \"SCRAM-SHA-256$4096:c2FsdA==$AAAA:BBBB\"\n",
        b"m /^(.*)@x$ \\1\n",
    ];
    fuzz(&corpus, |input| {
        let input = text(input);
        let file = Path::new("fuzz");
        let mut problems = Vec::new();
        let _ = toml_file::read(&input, file, &mut problems);
        let mut include = |_: &Path| Err("there is none".to_owned());
        let mut warnings = Vec::new();
        let _ = pgbouncer::read(&input, file, &mut include, &mut problems, &mut warnings);
        let _ = (url::parse(&input).is_ok(), pgbouncer::connection_string(&input).is_ok());
        let _ =
            (hba::parse(&input).is_ok(), name_map::parse(&input).is_ok(), userlist::parse(&input).is_ok());
        let rows = vec![vec![Some("u".to_owned()), Some(input.to_string()), Some(input.to_string())]];
        let _ = lookup::interpret("u", &rows).is_ok();
    });
}
