//! Drives pgbench and understands its report.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workload::Workload;

/// What one run came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Transactions that ended well.
    pub transactions: u64,
    /// A second.
    pub tps: f64,
    /// Mean, in milliseconds; in a paced run the wait for the schedule is included.
    pub latency_ms: f64,
}

/// Whom the clients connect to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Address, or folder of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Password of the benchmark's user.
    pub password: String,
}

/// How many clients, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections.
    pub clients: usize,
    /// Threads of pgbench.
    pub threads: usize,
    /// Length of the run.
    pub seconds: u32,
}

/// User and database of the benchmark, on every peer.
pub const NAME: &str = "bench";

/// pgbench, and a folder for its scripts.
#[derive(Debug, Clone)]
pub struct Pgbench {
    binary: PathBuf,
    folder: PathBuf,
    rows: u64,
}

impl Pgbench {
    /// `rows` is the highest `aid` of `pgbench_accounts`.
    pub fn new(binary: PathBuf, folder: &Path, rows: u64) -> Self {
        Self { binary, folder: folder.to_owned(), rows }
    }

    /// Starts a run and leaves it running.
    pub fn start(&self, target: &Target, workload: Workload, load: Load) -> Result<Child> {
        let script = workload.script(self.rows);
        let mut command = Command::new(&self.binary);
        command.args(["-n", "-c", &load.clients.to_string(), "-j", &load.threads.to_string()]);
        command.args(["-T", &load.seconds.to_string()]).args(script.options);
        if let Some(text) = script.text {
            let file = self.folder.join(format!("{}.sql", workload.name()));
            std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            command.arg("-f").arg(file);
        }
        command
            // Certificates and settings of whoever runs this are not meant for these.
            .env("HOME", &self.folder)
            .env("PGHOST", &target.host)
            .env("PGPORT", target.port.to_string())
            .env("PGUSER", NAME)
            .env("PGDATABASE", NAME)
            .env("PGPASSWORD", &target.password)
            .env("PGSSLMODE", if workload.is_tls() { "require" } else { "disable" })
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))
    }

    /// A whole run. A client that was aborted or a transaction that failed is an error: its figures would flatter.
    pub fn run(&self, target: &Target, workload: Workload, load: Load) -> Result<Outcome> {
        let output = self.start(target, workload, load)?.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("pgbench failed ({}): {}", output.status, first_lines(&errors));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        parse(&text).with_context(|| format!("pgbench said something else: {}", first_lines(&text)))
    }
}

fn first_lines(text: &str) -> String {
    text.lines().filter(|line| !line.trim().is_empty()).take(4).collect::<Vec<_>>().join(" | ")
}

/// Reads the report of a run; `None` if it is not one, or if transactions failed.
pub fn parse(report: &str) -> Option<Outcome> {
    let value = |label: &str| {
        let rest = report.lines().find_map(|line| line.strip_prefix(label))?;
        rest.trim_start_matches([':', '=', ' ']).split([' ', '/']).next().map(str::to_owned)
    };
    if value("number of failed transactions").is_some_and(|failed| failed != "0") {
        return None;
    }
    Some(Outcome {
        transactions: value("number of transactions actually processed")?.parse().ok()?,
        tps: value("tps")?.parse().ok()?,
        latency_ms: value("latency average")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "transaction type: <builtin: select only>\nscaling factor: 20\nnumber of transactions actually \
         processed: 97321\nnumber of failed transactions: 0 (0.000%)\nlatency average = 0.983 ms\ninitial connection time \
         = 71.2 ms\ntps = 32541.7 (without initial connection time)\n";

    #[test]
    fn the_report_of_a_run_is_understood() {
        let outcome = parse(REPORT).unwrap();
        assert_eq!(outcome, Outcome { transactions: 97321, tps: 32541.7, latency_ms: 0.983 });
    }

    #[test]
    fn a_run_with_failed_transactions_has_no_outcome() {
        assert_eq!(parse(&REPORT.replace("transactions: 0 (", "transactions: 3 (")), None);
    }

    #[test]
    fn other_text_is_no_report() {
        assert_eq!(parse("pgbench: error: connection refused"), None);
    }
}
