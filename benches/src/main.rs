//! `make bench`: pgbench against PostgreSQL directly, Hawser, PgBouncer and whoever else is named.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use hawser_benches::bare::Relay;
use hawser_benches::cluster::{Cluster, ScratchFolder, Transport};
use hawser_benches::peer::Peer;
use hawser_benches::series::{Plan, Samples, Series};
use hawser_benches::workload::Workload;
use hawser_benches::{plot, report};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;

/// Measures Hawser beside its peers on a scratch PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Repetitions of everything; medians are reported
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Length of each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// What clients do; all unless told
    #[arg(long, value_enum, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Who is measured, besides those named with --pgbouncer and --peer
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["direct", "bare", "hawser", "pgbouncer"])]
    peers: Vec<KnownPeer>,
    /// Another PgBouncer; ratios refer to the newest one that can run the workload
    #[arg(long, value_name = "PATH")]
    pgbouncer: Vec<PathBuf>,
    /// Another pooler: a command for sh that reads BENCH_PORT, BENCH_PG_PORT, BENCH_DATABASE, BENCH_USER,
    /// BENCH_PASSWORD, BENCH_POOL_SIZE, BENCH_CERTIFICATE, BENCH_KEY, BENCH_FOLDER and BENCH_INI
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<String>,
    /// Hawser's program; the last one that is named
    #[arg(long, value_name = "PATH", default_value = "target/optimized/hawser", overrides_with = "hawser")]
    hawser: PathBuf,
    /// Hawser's worker threads
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Clients at work
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Clients that idle, for memory
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    idle_clients: u32,
    /// Server connections of each pooler
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pool_size: u32,
    /// How clients reach the peers
    #[arg(long, value_enum, default_value = "tcp")]
    transport: Transport,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Where bench.json, bench.md and cpu.svg go
    #[arg(long, value_name = "FOLDER", default_value = "benches/out")]
    out: PathBuf,
}

/// What the program is where it starts itself.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Role {
    /// Pass bytes on, and nothing else
    #[command(hide = true)]
    BareRelay {
        /// Listen on 127.0.0.1
        port: u16,
        /// Where PostgreSQL listens there
        server_port: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KnownPeer {
    Direct,
    Bare,
    Hawser,
    Pgbouncer,
}

/// What `bench.json` holds.
#[derive(Serialize)]
struct Record<'a> {
    machine: Machine,
    plan: &'a Plan,
    peers: Vec<String>,
    reference: Option<&'a String>,
    syscalls_measured: bool,
    rows: Vec<report::Row>,
    samples: &'a Samples,
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    kernel: String,
    postgresql: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Role::BareRelay { port, server_port }) = arguments.role {
        match Relay::bind(port, server_port)?.run()? {}
    }
    let peers = find_peers(&arguments)?;
    let plan = plan(&arguments);
    if report::wants_memory(&plan.workloads) {
        allow_open_files(plan.idle_clients)?;
    }

    let mut log = std::io::stderr();
    let folder = ScratchFolder::create()?;
    writeln!(log, "starting a scratch PostgreSQL")?;
    let cluster = Cluster::start()?;
    let series = Series::new(&plan, &cluster, folder.path());
    if !series.counts_syscalls() {
        writeln!(log, "perf is missing or may not count: system calls and instructions are not measured")?;
    }
    let samples = series.run(&peers, &mut log)?;

    let references = references(&peers);
    let rows = report::rows(&samples.load, &references, &hawser_name(&arguments));
    let record = Record {
        machine: machine(&cluster)?,
        plan: &plan,
        peers: peers.iter().map(Peer::to_string).collect(),
        reference: references.first(),
        syscalls_measured: series.counts_syscalls(),
        rows,
        samples: &samples,
    };
    publish(&arguments, &record)
}

fn plan(arguments: &Arguments) -> Plan {
    let workloads =
        if arguments.workloads.is_empty() { Workload::ALL.to_vec() } else { arguments.workloads.clone() };
    Plan {
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        workloads,
        clients: arguments.clients as usize,
        idle_clients: arguments.idle_clients as usize,
        pool_size: arguments.pool_size as usize,
        transport: arguments.transport,
    }
}

fn hawser(arguments: &Arguments) -> Peer {
    Peer::Hawser { binary: arguments.hawser.clone(), workers: arguments.workers }
}

fn hawser_name(arguments: &Arguments) -> String {
    hawser(arguments).to_string()
}

fn find_peers(arguments: &Arguments) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for known in &arguments.peers {
        match known {
            KnownPeer::Direct => peers.push(Peer::Direct),
            // It listens on TCP alone.
            KnownPeer::Bare if arguments.transport == Transport::Unix => {}
            KnownPeer::Bare => peers.push(Peer::Bare),
            KnownPeer::Hawser if arguments.hawser.is_file() => peers.push(hawser(arguments)),
            KnownPeer::Hawser => {
                bail!("{} is not there: make optimized", arguments.hawser.display());
            }
            KnownPeer::Pgbouncer => {
                let debian = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(Path::new);
                match debian.into_iter().find(|path| path.exists()) {
                    Some(path) => peers.push(Peer::pgbouncer(path)?),
                    None if arguments.pgbouncer.is_empty() => {
                        bail!(
                            "PgBouncer is not installed (Debian: apt install pgbouncer), and none is named"
                        );
                    }
                    None => {}
                }
            }
        }
    }
    for path in &arguments.pgbouncer {
        peers.push(Peer::pgbouncer(
            &fs::canonicalize(path).with_context(|| format!("no {}", path.display()))?,
        )?);
    }
    for text in &arguments.peer {
        peers.push(Peer::command(text)?);
    }
    let mut names: Vec<String> = peers.iter().map(Peer::to_string).collect();
    names.sort();
    if names.windows(2).any(|pair| pair.first() == pair.last()) {
        bail!("two peers have one name: {}", names.join(", "));
    }
    Ok(peers)
}

/// PgBouncers, the newest first.
fn references(peers: &[Peer]) -> Vec<String> {
    let mut found: Vec<((u32, u32), String)> = peers
        .iter()
        .filter_map(|peer| match peer {
            Peer::PgBouncer { version, .. } => Some((*version, peer.to_string())),
            _ => None,
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, name)| name).collect()
}

/// Idle clients need a descriptor each, in pgbench and in the pooler.
fn allow_open_files(clients: usize) -> Result<()> {
    let needed = clients as u64 + 500;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!("{clients} idle clients need {needed} open files; the limit is {:?}", limit.maximum);
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

fn machine(cluster: &Cluster) -> Result<Machine> {
    Ok(Machine {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        postgresql: cluster.version()?,
    })
}

fn publish(arguments: &Arguments, record: &Record<'_>) -> Result<()> {
    let tables = report::markdown(&record.rows, &record.samples.memory, &hawser_name(arguments));
    let json = serde_json::to_string_pretty(record)?;
    let title = format!(
        "CPU time of the pooler per transaction, {} = 1",
        record.reference.map_or("PgBouncer", String::as_str)
    );
    fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    for (name, text) in
        [("bench.md", &tables), ("bench.json", &json), ("cpu.svg", &plot::cpu_ratios(&record.rows, &title))]
    {
        let file = arguments.out.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "{}", if arguments.json { &json } else { &tables })?;
    writeln!(std::io::stderr(), "written to {}", arguments.out.display())?;
    Ok(())
}
