//! A scrape of a large site is quick, and whoever works meanwhile does not notice it.
//!
//! Left out of the usual run, because it measures: `make scrape` runs it with a release build, on a machine that does
//! nothing else.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hawser::scratch::Cluster;
use hawser_tests::raw::Client;
use hawser_tests::{Account, Config, Hawser, Program, http_get, own_cluster, raise_file_limit};

const CLIENTS: usize = 10_000;
const POOLS: usize = 200;
const SHAPES: usize = 5_000;

/// Stretches of time with and without scrapes, in turn: short, so that the machine's moods meet both alike.
const WINDOW: Duration = Duration::from_secs(2);

/// How long pgbench runs; the scrapes are one in each second window.
fn seconds() -> u64 {
    std::env::var("HAWSER_SCRAPE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Two hundred databases on one server, and one for pgbench.
fn settings(cluster: &Cluster, account: &Account, http: u16) -> Config {
    let mut config = Config::new(cluster, account)
        .set("http.address", format!("\"127.0.0.1:{http}\""))
        .set("limits.max_client_connections", CLIENTS + 100)
        .set("log.connections", false)
        .set("log.disconnections", false)
        .set("pool.size", 1)
        // The scripted clients would be busy with SCRAM for minutes.
        .set("auth.rules", "[\"host all all all trust\"]");
    for number in 0..POOLS {
        config = config.table(&format!(
            "[databases.d{number}]\nhosts = [\"127.0.0.1:{}\"]\ndbname = \"{}\"",
            cluster.port(),
            account.database
        ));
    }
    config.table(&format!(
        "[databases.bench]\nhosts = [\"127.0.0.1:{}\"]\ndbname = \"{}\"\npool_size = 20",
        cluster.port(),
        account.database
    ))
}

/// One scrape: how long it took to the last byte, and the text.
fn scrape(port: u16) -> (Duration, String) {
    let begin = Instant::now();
    let (status, text) = http_get(port, "/metrics", &[]);
    assert_eq!(status, 200, "{text}");
    (begin.elapsed(), text)
}

/// The CPU time of one scrape while nobody works.
fn at_rest(port: u16) -> Duration {
    const REPEATS: u32 = 20;
    let spent = |text: &str| -> f64 {
        let name = "process_cpu_seconds_total ";
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
    };
    let before = spent(&scrape(port).1);
    let texts: Vec<String> = (0..REPEATS).map(|_| scrape(port).1).collect();
    Duration::from_secs_f64(spent(texts.last().unwrap()) - before) / REPEATS
}

/// Connected and idle, each after one query of its own shape.
fn crowd(hawser: &Hawser, account: &Account) -> Vec<Client> {
    let connect = |number: usize| {
        let database = format!("d{}", number % POOLS);
        let mut client = Client::login(hawser.port(), &Account { database, ..account.clone() });
        client.execute(&format!("SELECT 1 AS shape_{}", number % SHAPES));
        client
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..4)
            .map(|part| {
                let own = (0..CLIENTS).skip(part).step_by(4);
                scope.spawn(move || own.map(connect).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

/// Times of pgbench's transactions in microseconds, by the window in which they ended.
fn latencies(folder: &Path, window: impl Fn(f64) -> usize) -> BTreeMap<usize, Vec<u64>> {
    let mut times = BTreeMap::<usize, Vec<u64>>::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let ended = fields[4].parse::<f64>().unwrap() + fields[5].parse::<f64>().unwrap() / 1e6;
            times.entry(window(ended)).or_default().push(fields[2].parse().unwrap());
        }
    }
    times
}

fn percentile(values: &mut [u64], part: f64) -> u64 {
    values.sort_unstable();
    let place = (values.len() as f64 * part) as usize;
    values[place.min(values.len() - 1)]
}

/// What a number of windows has in common: their p99, from the lower to the upper quartile.
struct Spread {
    lower: u64,
    median: u64,
    upper: u64,
}

impl Spread {
    fn of(windows: impl Iterator<Item = u64>) -> Self {
        let mut values: Vec<u64> = windows.collect();
        let mut at = |part| percentile(&mut values, part);
        Self { lower: at(0.25), median: at(0.5), upper: at(0.75) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p99 {} us at the median of windows, {} to {} between quartiles",
            self.median, self.lower, self.upper
        )
    }
}

/// The p99 of windows with scrapes beside that of windows without. The first and the last window are not whole.
fn compare(mut times: BTreeMap<usize, Vec<u64>>) -> (Spread, Spread) {
    times.pop_first();
    times.pop_last();
    let p99: Vec<(bool, u64)> =
        times.iter_mut().map(|(window, times)| (is_scraped(*window), percentile(times, 0.99))).collect();
    let of =
        |wanted| Spread::of(p99.iter().filter(move |(scraped, _)| *scraped == wanted).map(|(_, p99)| *p99));
    let (with, without) = (of(true), of(false));
    println!("{} windows of {WINDOW:?}", p99.len());
    println!("with a scrape:    {with}");
    println!("without a scrape: {without}");
    (with, without)
}

fn is_scraped(window: usize) -> bool {
    window % 2 == 1
}

#[test]
#[ignore = "measures: run it by `make scrape`"]
fn a_scrape_of_a_large_site_is_quick_and_nobody_notices() {
    let limit = raise_file_limit();
    assert!(limit > CLIENTS as u64 + 1000, "the system allows only {limit} open files");
    let cluster = own_cluster(&["max_connections = 400"]);
    let account = Account::new(&cluster);
    let http = hawser::scratch::free_port().unwrap();
    let config = settings(&cluster, &account, http);
    let hawser = Hawser::start(&config);
    let folder = hawser.folder().join("bench");
    std::fs::create_dir(&folder).unwrap();
    let bench = |arguments: &[&str]| {
        Program::new(cluster.packages().program("pgbench"))
            .args(["-h", "127.0.0.1", "-p", &hawser.port().to_string(), "-U", &account.user, "-n"])
            .args(arguments)
            .args(["bench"])
            .folder(&folder)
            .run()
    };
    assert!(bench(&["-i", "-q"]).success);
    let clients = crowd(&hawser, &account);
    let (_, text) = scrape(http);
    let lines = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert!(lines("hawser_pool_size{") > POOLS);
    println!("a scrape has {} lines and {} bytes", text.lines().count(), text.len());
    println!("at rest it takes Hawser {:?} of CPU time", at_rest(http));
    let length = seconds();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let window = |at: f64| ((at - began) / WINDOW.as_secs_f64()) as usize;
    let mut took = Vec::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let ran = bench(&["-S", "-c", "8", "-j", "2", "-T", &length.to_string(), "-l"]);
            assert!(ran.success, "{ran:?}");
            ran.stdout
        });
        let start = Instant::now();
        for number in (0..).take_while(|_| !running.is_finished()) {
            // In the middle, so that all of it falls into its window.
            let middle = start + WINDOW * number + WINDOW / 2;
            std::thread::sleep(middle.saturating_duration_since(Instant::now()));
            if is_scraped(number as usize) {
                took.push(scrape(http).0);
            }
        }
        println!("{}", running.join().unwrap());
    });
    drop(clients);
    took.sort_unstable();
    let (middle, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{} scrapes: {middle:?} at the median, {most:?} at most", took.len());
    let (with, without) = compare(latencies(&folder, window));
    assert!(most < Duration::from_millis(200), "{most:?}");
    assert!((with.median as f64) < without.median as f64 * 1.05, "see above");
}
