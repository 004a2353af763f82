//! Pure. What the clients of one run do, and what we ask of Hawser there.

use clap::ValueEnum;
use serde::Serialize;

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Workload {
    /// `pgbench -S`, simple protocol.
    Simple,
    /// `pgbench -S`, extended protocol, unnamed statements.
    Extended,
    /// `pgbench -S`, extended protocol, named prepared statements.
    Prepared,
    /// pgbench's own transaction of seven statements, simple protocol.
    TpcB,
    /// 1,000 rows of 1,000 bytes.
    LargeRows,
    /// Ten selects in a libpq pipeline, unnamed statements.
    Pipeline,
    /// Ten selects in a libpq pipeline, named prepared statements.
    PipelinePrepared,
    /// `pgbench -S -C`: every transaction logs in first.
    Connect,
    /// `pgbench -S` with `sslmode=require`.
    Tls,
    /// `pgbench -S` at 3,000 transactions a second.
    Paced,
    /// Resident memory per client that ran a query and is idle.
    Idle,
    /// The same with TLS.
    IdleTls,
}

/// What the clients of a pooler are charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs of pgbench, repeated in rounds.
    Load,
    /// Idle clients, once.
    Memory,
}

/// What we want of Hawser in a workload; `None` where nothing is promised.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Goal {
    /// CPU time per transaction as a part of PgBouncer's.
    pub cpu_ratio: Option<f64>,
    /// System calls per transaction.
    pub syscalls: Option<f64>,
    /// KiB of resident memory per idle client.
    pub kib_per_client: Option<f64>,
}

/// A file that pgbench reads, and how it is told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Options of pgbench besides clients, threads, time and file.
    pub options: &'static [&'static str],
    /// Text for `-f`; `None`: one of pgbench's own scripts, named in `options`.
    pub text: Option<String>,
}

/// Statements in one pipeline.
const PIPELINE_LENGTH: usize = 10;

/// How long an idle client stays. Longer than any measurement of memory.
const IDLE_SECONDS: u32 = 3600;

impl Workload {
    /// All, in the order of the report.
    pub const ALL: [Self; 12] = [
        Self::Simple,
        Self::Extended,
        Self::Prepared,
        Self::TpcB,
        Self::LargeRows,
        Self::Pipeline,
        Self::PipelinePrepared,
        Self::Connect,
        Self::Tls,
        Self::Paced,
        Self::Idle,
        Self::IdleTls,
    ];

    /// The word for it on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
            Self::TpcB => "tpc-b",
            Self::LargeRows => "large-rows",
            Self::Pipeline => "pipeline",
            Self::PipelinePrepared => "pipeline-prepared",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Paced => "paced",
            Self::Idle => "idle",
            Self::IdleTls => "idle-tls",
        }
    }

    /// How it is measured.
    pub fn kind(self) -> Kind {
        match self {
            Self::Idle | Self::IdleTls => Kind::Memory,
            _ => Kind::Load,
        }
    }

    /// Whether the clients speak TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::IdleTls)
    }

    /// Whether it needs named prepared statements in transaction mode.
    pub fn needs_prepared_statements(self) -> bool {
        matches!(self, Self::Prepared | Self::PipelinePrepared)
    }

    /// What we want of Hawser here.
    pub fn goal(self) -> Goal {
        let (cpu_ratio, syscalls, kib_per_client) = match self {
            Self::Simple => (Some(1.0), Some(4.5), None),
            Self::Extended => (Some(0.8), None, None),
            Self::Prepared => (Some(0.95), Some(4.4), None),
            Self::TpcB => (Some(0.9), Some(30.0), None),
            Self::LargeRows => (Some(0.55), Some(240.0), None),
            // PgBouncer passes unnamed statements through whole, so here the kernel's part is all there is to win.
            Self::Pipeline => (None, Some(4.5), None),
            Self::PipelinePrepared => (Some(0.35), Some(4.5), None),
            Self::Connect | Self::Tls | Self::Paced => (Some(1.0), None, None),
            Self::Idle => (None, None, Some(4.0)),
            Self::IdleTls => (None, None, Some(16.0)),
        };
        Goal { cpu_ratio, syscalls, kib_per_client }
    }

    /// What pgbench is told. `rows` is the highest `aid` in `pgbench_accounts`.
    pub fn script(self, rows: u64) -> Script {
        let own = |options| Script { options, text: None };
        match self {
            Self::Simple | Self::Tls => own(&["-S", "-M", "simple"]),
            Self::Extended => own(&["-S", "-M", "extended"]),
            Self::Prepared => own(&["-S", "-M", "prepared"]),
            Self::TpcB => own(&["-b", "tpcb-like", "-M", "simple"]),
            Self::LargeRows => {
                Script { options: &["-M", "simple"], text: Some("SELECT v FROM large_rows;\n".to_owned()) }
            }
            Self::Pipeline => Script { options: &["-M", "extended"], text: Some(pipeline(rows)) },
            Self::PipelinePrepared => Script { options: &["-M", "prepared"], text: Some(pipeline(rows)) },
            Self::Connect => own(&["-S", "-C", "-M", "simple"]),
            Self::Paced => own(&["-S", "-M", "simple", "-R", "3000"]),
            Self::Idle | Self::IdleTls => Script {
                options: &["-M", "simple"],
                text: Some(format!("SELECT nextval('idle_clients');\n\\sleep {IDLE_SECONDS} s\n")),
            },
        }
    }
}

fn pipeline(rows: u64) -> String {
    let mut text = String::from("\\startpipeline\n");
    for i in 0..PIPELINE_LENGTH {
        text.push_str(&format!(
            "\\set aid{i} random(1, {rows})\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid{i};\n"
        ));
    }
    text.push_str("\\endpipeline\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_answers_to_its_name_on_the_command_line() {
        for workload in Workload::ALL {
            assert_eq!(Workload::from_str(workload.name(), false), Ok(workload));
        }
        assert_eq!(Workload::value_variants(), Workload::ALL);
    }

    #[test]
    fn a_pipeline_holds_ten_selects_between_its_brackets() {
        let text = Workload::Pipeline.script(5).text.unwrap();
        assert!(text.starts_with("\\startpipeline\n") && text.ends_with("\\endpipeline\n"));
        assert_eq!(text.matches("SELECT ").count(), 10);
    }
}
