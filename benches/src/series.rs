//! Takes the turns: every round runs each workload once with each peer, one after the other, so that whatever else
//! the machine does falls on all of them alike.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cluster::{Cluster, Transport};
use crate::meter::{Counter, Counts};
use crate::peer::{Peer, Running, Terms};
use crate::pgbench::{Load, Outcome, Pgbench, Target};
use crate::report::{MemorySample, Sample};
use crate::workload::{Kind, Workload};

/// Length of the extra run that perf watches: apart, since watching costs CPU time.
const COUNTED_SECONDS: u32 = 2;

/// Bound on 5,000 logins and one query each.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Threads of pgbench.
const CLIENT_THREADS: usize = 2;

/// What a series is made of.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Repetitions.
    pub rounds: u32,
    /// Length of each run.
    pub seconds: u32,
    /// What clients do.
    pub workloads: Vec<Workload>,
    /// Clients at work.
    pub clients: usize,
    /// Clients that idle.
    pub idle_clients: usize,
    /// Server connections of each pooler.
    pub pool_size: usize,
    /// Way of the clients to the peers.
    pub transport: Transport,
}

/// What a series brought.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Samples {
    /// One for each run.
    pub load: Vec<Sample>,
    /// One for each peer and memory workload.
    pub memory: Vec<MemorySample>,
}

/// A series at work.
pub struct Series<'a> {
    plan: &'a Plan,
    cluster: &'a Cluster,
    folder: &'a Path,
    pgbench: Pgbench,
    counting: bool,
}

impl<'a> Series<'a> {
    /// `folder` is for scripts and the poolers' files.
    pub fn new(plan: &'a Plan, cluster: &'a Cluster, folder: &'a Path) -> Self {
        let pgbench = Pgbench::new(cluster.pgbench(), folder, cluster.rows());
        Self { plan, cluster, folder, pgbench, counting: Counter::is_available() }
    }

    /// Whether system calls are counted.
    pub fn counts_syscalls(&self) -> bool {
        self.counting
    }

    /// Everything.
    pub fn run(&self, peers: &[Peer], log: &mut dyn Write) -> Result<Samples> {
        let mut samples = Samples { load: self.load(peers, log)?, memory: Vec::new() };
        for &workload in self.plan.workloads.iter().filter(|workload| workload.kind() == Kind::Memory) {
            for peer in peers.iter().filter(|peer| peer.can_run(workload)) {
                let sample =
                    self.idle(peer, workload).with_context(|| format!("{peer}, {}", workload.name()))?;
                writeln!(log, "{} {peer}: {:.2} KiB per client", workload.name(), sample.kib_per_client)?;
                samples.memory.push(sample);
            }
        }
        Ok(samples)
    }

    fn load(&self, peers: &[Peer], log: &mut dyn Write) -> Result<Vec<Sample>> {
        let workloads: Vec<Workload> =
            self.plan.workloads.iter().copied().filter(|workload| workload.kind() == Kind::Load).collect();
        let mut samples = Vec::new();
        if workloads.is_empty() {
            return Ok(samples);
        }
        let terms = self.terms(self.plan.clients);
        let running: Vec<(&Peer, Running)> = peers
            .iter()
            .map(|peer| Ok((peer, Running::start(peer, self.cluster, self.folder, terms)?)))
            .collect::<Result<_>>()?;
        for (peer, running) in &running {
            self.warm_up(running).with_context(|| format!("{peer}: {}", running.last_words()))?;
        }
        for round in 1..=self.plan.rounds {
            for &workload in &workloads {
                for (peer, running) in running.iter().filter(|(peer, _)| peer.can_run(workload)) {
                    let place =
                        || format!("round {round}, {}, {peer}: {}", workload.name(), running.last_words());
                    let sample = self.sample(round, peer, running, workload).with_context(place)?;
                    writeln!(log, "{sample}")?;
                    samples.push(sample);
                }
            }
        }
        Ok(samples)
    }

    fn terms(&self, clients: usize) -> Terms {
        // Room beside the clients: with -C a login can overlap the end of the connection before it.
        Terms { pool_size: self.plan.pool_size, max_clients: clients * 2 + 100 }
    }

    fn work(&self, seconds: u32) -> Load {
        Load { clients: self.plan.clients, threads: CLIENT_THREADS.min(self.plan.clients), seconds }
    }

    /// Opens the pool and fills the caches.
    fn warm_up(&self, running: &Running) -> Result<Outcome> {
        let target = running.target(self.plan.transport, Workload::Simple);
        self.pgbench.run(&target, Workload::Simple, self.work(1))
    }

    fn sample(&self, round: u32, peer: &Peer, running: &Running, workload: Workload) -> Result<Sample> {
        let target = running.target(self.plan.transport, workload);
        let before = running.process().map(|process| process.cpu()).transpose()?;
        let outcome = self.pgbench.run(&target, workload, self.work(self.plan.seconds))?;
        let after = running.process().map(|process| process.cpu()).transpose()?;
        let counted = self.counted(running, &target, workload)?;
        let per_transaction = |count: Option<u64>| {
            let (_, outcome) = counted?;
            Some(count? as f64 / outcome.transactions.max(1) as f64)
        };
        Ok(Sample {
            round,
            workload,
            peer: peer.to_string(),
            tps: outcome.tps,
            latency_ms: outcome.latency_ms,
            cpu_us: after.zip(before).map(|(after, before)| {
                after.since(&before).as_secs_f64() * 1e6 / outcome.transactions.max(1) as f64
            }),
            syscalls: per_transaction(counted.and_then(|(counts, _)| counts.syscalls)),
            instructions: per_transaction(counted.and_then(|(counts, _)| counts.instructions)),
        })
    }

    fn counted(
        &self,
        running: &Running,
        target: &Target,
        workload: Workload,
    ) -> Result<Option<(Counts, Outcome)>> {
        let Some(process) = running.process().filter(|_| self.counting) else { return Ok(None) };
        let counter = Counter::start(process, self.folder)?;
        let outcome = self.pgbench.run(target, workload, self.work(COUNTED_SECONDS));
        // perf is ended also when the run failed.
        let counts = counter.stop()?;
        Ok(Some((counts, outcome?)))
    }

    /// Memory of a fresh pooler before and after clients came, ran one query and stayed.
    fn idle(&self, peer: &Peer, workload: Workload) -> Result<MemorySample> {
        let clients = self.plan.idle_clients;
        let running = Running::start(peer, self.cluster, self.folder, self.terms(clients))?;
        let process = running.process().context("no pooler, no memory")?;
        self.warm_up(&running).with_context(|| running.last_words())?;
        let before = process.resident_kib()?;
        self.cluster.sql("SELECT setval('idle_clients', 1, false)")?;
        let target = running.target(self.plan.transport, workload);
        let load = Load { clients, threads: CLIENT_THREADS, seconds: 3600 };
        let mut idle = Idle(self.pgbench.start(&target, workload, load)?);
        self.wait_for_idle_clients(&mut idle, clients).with_context(|| running.last_words())?;
        let after = process.resident_kib()?;
        Ok(MemorySample {
            workload,
            peer: peer.to_string(),
            clients,
            before_kib: before,
            after_kib: after,
            kib_per_client: after.saturating_sub(before) as f64 / clients.max(1) as f64,
        })
    }

    fn wait_for_idle_clients(&self, idle: &mut Idle, clients: usize) -> Result<()> {
        let start = Instant::now();
        loop {
            let reached = self.cluster.sql("SELECT last_value FROM idle_clients")?;
            if reached.parse::<usize>().is_ok_and(|reached| reached >= clients) {
                // The last replies are on their way to the clients.
                std::thread::sleep(Duration::from_secs(1));
                return Ok(());
            }
            if let Some((status, words)) = idle.ended()? {
                bail!("the idle clients left ({status}): {words}");
            }
            if start.elapsed() > IDLE_TIMEOUT {
                bail!("only {reached} of {clients} clients ran their query");
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

/// The idle clients: a pgbench that sleeps. It ends when this is dropped.
struct Idle(Child);

impl Idle {
    fn ended(&mut self) -> Result<Option<(ExitStatus, String)>> {
        let Some(status) = self.0.try_wait()? else { return Ok(None) };
        let mut words = String::new();
        if let Some(errors) = &mut self.0.stderr {
            std::io::Read::read_to_string(errors, &mut words)?;
        }
        Ok(Some((status, words.lines().take(3).collect::<Vec<_>>().join(" | "))))
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
