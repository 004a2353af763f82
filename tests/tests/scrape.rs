//! A scrape of a large site is quick, and whoever works meanwhile does not notice it.
//!
//! Left out of the usual run, because it measures: `make scrape` runs it with a release build, on a machine that does
//! nothing else.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hawser::scratch::Cluster;
use hawser_tests::raw::Client;
use hawser_tests::{Account, Config, Hawser, Program, http_get, own_cluster, raise_file_limit};

const CLIENTS: usize = 10_000;
const POOLS: usize = 200;
const SHAPES: usize = 5_000;

/// Stretches of time with and without scrapes, in turn.
const WINDOW: Duration = Duration::from_secs(1);

/// Scrapes in such a stretch. Prometheus makes one in 15 seconds.
const SCRAPES: u32 = 2;

fn seconds() -> u64 {
    std::env::var("HAWSER_SCRAPE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
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

/// Times of pgbench's transactions in microseconds, by the stretch of four in which they ended.
fn latencies(folder: &Path, stretch: impl Fn(f64) -> u64) -> [Vec<u64>; 4] {
    let mut times = <[Vec<u64>; 4]>::default();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let ended = fields[4].parse::<f64>().unwrap() + fields[5].parse::<f64>().unwrap() / 1e6;
            times[(stretch(ended) % 4) as usize].push(fields[2].parse().unwrap());
        }
    }
    times
}

fn percentile(times: &mut [u64], part: f64) -> u64 {
    times.sort_unstable();
    let place = (times.len() as f64 * part) as usize;
    times[place.min(times.len() - 1)]
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
    let length = seconds();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let window = |at: f64| ((at - began) / WINDOW.as_secs_f64()) as u64;
    let mut took = Vec::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let ran = bench(&["-S", "-c", "8", "-j", "2", "-T", &length.to_string(), "-l"]);
            assert!(ran.success, "{ran:?}");
            ran.stdout
        });
        let mut next = Instant::now();
        while !running.is_finished() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            if window(now) % 2 == 1 {
                took.push(scrape(http).0);
            }
            next += WINDOW / SCRAPES;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        println!("{}", running.join().unwrap());
    });
    drop(clients);
    let [mut first, scraped, mut second, more] = latencies(&folder, window);
    // What differs between stretches that are alike is the machine's noise.
    let noise = (percentile(&mut first, 0.99), percentile(&mut second, 0.99));
    let (mut scraped, mut alone) = ([scraped, more].concat(), [first, second].concat());
    took.sort_unstable();
    let (middle, most) = (took[took.len() / 2], took[took.len() - 1]);
    let (with, without) = (percentile(&mut scraped, 0.99), percentile(&mut alone, 0.99));
    println!("{} scrapes: {middle:?} at the median, {most:?} at most", took.len());
    println!(
        "transactions with scrapes: {}, p50 {} us, p99 {with} us",
        scraped.len(),
        percentile(&mut scraped, 0.5)
    );
    println!(
        "transactions without: {}, p50 {} us, p99 {without} us; noise {noise:?}",
        alone.len(),
        percentile(&mut alone, 0.5)
    );
    assert!(most < Duration::from_millis(200), "{most:?}");
    assert!((with as f64) < without as f64 * 1.05, "{with} us against {without} us");
}
