//! Pure. From samples to figures: medians over rounds, and each round's ratio to PgBouncer in the same round.

use std::fmt;

use serde::Serialize;

use crate::workload::{Goal, Kind, Workload};

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Counted from 1.
    pub round: u32,
    /// What clients did.
    pub workload: Workload,
    /// With whom.
    pub peer: String,
    /// Transactions a second.
    pub tps: f64,
    /// Mean latency in milliseconds.
    pub latency_ms: f64,
    /// CPU time of the pooler per transaction, in microseconds; none without a pooler.
    pub cpu_us: Option<f64>,
    /// Its system calls per transaction; none if not counted.
    pub syscalls: Option<f64>,
    /// Its instructions per transaction; none if not counted.
    pub instructions: Option<f64>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {} {} {}: {:.0} tps", self.round, self.workload.name(), self.peer, self.tps)?;
        if let Some(cpu) = self.cpu_us {
            write!(f, ", {cpu:.2} us of CPU")?;
        }
        if let Some(syscalls) = self.syscalls {
            write!(f, ", {syscalls:.2} system calls")?;
        }
        Ok(())
    }
}

/// Idle clients of one pooler.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemorySample {
    /// In the clear or TLS.
    pub workload: Workload,
    /// With whom.
    pub peer: String,
    /// How many.
    pub clients: usize,
    /// Resident before they came, pool open.
    pub before_kib: u64,
    /// Resident when all had run a query.
    pub after_kib: u64,
    /// The difference, each.
    pub kib_per_client: f64,
}

/// One peer in one workload, all rounds together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What clients did.
    pub workload: Workload,
    /// With whom.
    pub peer: String,
    /// Medians of [`Sample`]'s fields.
    pub tps: f64,
    /// See [`Sample::latency_ms`].
    pub latency_ms: f64,
    /// See [`Sample::cpu_us`].
    pub cpu_us: Option<f64>,
    /// Median over rounds of CPU per transaction as a part of PgBouncer's in the same round.
    pub cpu_ratio: Option<f64>,
    /// See [`Sample::syscalls`].
    pub syscalls: Option<f64>,
    /// See [`Sample::instructions`].
    pub instructions: Option<f64>,
    /// What we want of Hawser; empty for others.
    pub goal: Goal,
}

/// The middle one; of two in the middle, their mean.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some((upper + lower) / 2.0)
}

/// One row for each workload and peer, in the order of their first sample. `references` are the PgBouncers, the
/// preferred one first: each workload is held against the first that ran it. `ours` is the peer with goals.
pub fn rows(samples: &[Sample], references: &[String], ours: &str) -> Vec<Row> {
    let mut keys: Vec<(Workload, &str)> = Vec::new();
    for sample in samples {
        if !keys.contains(&(sample.workload, &sample.peer)) {
            keys.push((sample.workload, &sample.peer));
        }
    }
    keys.sort_by_key(|(workload, _)| *workload);
    keys.into_iter().filter_map(|(workload, peer)| row(samples, references, ours, workload, peer)).collect()
}

fn row(samples: &[Sample], references: &[String], ours: &str, workload: Workload, peer: &str) -> Option<Row> {
    let of = |name: &str| {
        let name = name.to_owned();
        samples.iter().filter(move |sample| sample.workload == workload && sample.peer == name)
    };
    let reference = references.iter().find(|reference| of(reference).next().is_some());
    let ratios = of(peer).filter_map(|sample| {
        let other = of(reference?).find(|other| other.round == sample.round)?;
        Some(sample.cpu_us? / other.cpu_us.filter(|cpu| *cpu > 0.0)?)
    });
    Some(Row {
        workload,
        peer: peer.to_owned(),
        tps: median(of(peer).map(|sample| sample.tps))?,
        latency_ms: median(of(peer).map(|sample| sample.latency_ms))?,
        cpu_us: median(of(peer).filter_map(|sample| sample.cpu_us)),
        cpu_ratio: median(ratios),
        syscalls: median(of(peer).filter_map(|sample| sample.syscalls)),
        instructions: median(of(peer).filter_map(|sample| sample.instructions)),
        goal: if peer == ours { workload.goal() } else { Goal::default() },
    })
}

/// A figure beside its bound.
fn beside(value: Option<f64>, bound: Option<f64>, missing: &str) -> String {
    match (value, bound) {
        (None, _) => missing.to_owned(),
        (Some(value), None) => format!("{value:.2}"),
        (Some(value), Some(bound)) => {
            format!("{value:.2} {} {bound}", if value <= bound { "<=" } else { "**>**" })
        }
    }
}

/// The tables for a terminal or a page.
pub fn markdown(rows: &[Row], memory: &[MemorySample], ours: &str) -> String {
    let mut text = String::new();
    // Virtual machines seldom have the counter: no column for nothing.
    let instructions = rows.iter().any(|row| row.instructions.is_some());
    if !rows.is_empty() {
        let (title, line) = if instructions { (" instructions/tx |", "---:|") } else { ("", "") };
        text.push_str(&format!(
            "| workload | peer | TPS | latency ms | CPU us/tx | CPU / PgBouncer's | system calls/tx |{title}\n\
             |---|---|---:|---:|---:|---:|---:|{line}\n"
        ));
    }
    for row in rows {
        let cpu = row.cpu_us.map_or("-".to_owned(), |cpu| format!("{cpu:.2}"));
        let missing = if row.cpu_us.is_none() { "-" } else { "not measured" };
        text.push_str(&format!(
            "| {} | {} | {:.0} | {:.3} | {cpu} | {} | {} |",
            row.workload.name(),
            row.peer,
            row.tps,
            row.latency_ms,
            beside(row.cpu_ratio, row.goal.cpu_ratio, "-"),
            beside(row.syscalls, row.goal.syscalls, missing),
        ));
        if instructions {
            text.push_str(
                &row.instructions.map_or(format!(" {missing} |"), |count| format!(" {count:.0} |")),
            );
        }
        text.push('\n');
    }
    if !memory.is_empty() {
        text.push_str("\n| workload | peer | clients | KiB before | KiB after | KiB per client |\n|---|---|---:|---:|---:|---:|\n");
    }
    for sample in memory {
        let goal = sample.workload.goal().kib_per_client.filter(|_| sample.peer == ours);
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            sample.workload.name(),
            sample.peer,
            sample.clients,
            sample.before_kib,
            sample.after_kib,
            beside(Some(sample.kib_per_client), goal, "-"),
        ));
    }
    text
}

/// Whether a list of workloads asks for idle clients.
pub fn wants_memory(workloads: &[Workload]) -> bool {
    workloads.iter().any(|workload| workload.kind() == Kind::Memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: u32, peer: &str, cpu: f64) -> Sample {
        Sample {
            round,
            workload: Workload::Simple,
            peer: peer.to_owned(),
            tps: 1000.0,
            latency_ms: 1.0,
            cpu_us: Some(cpu),
            syscalls: Some(4.0),
            instructions: None,
        }
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_round_is_held_against_the_same_round_of_pgbouncer() {
        // A slow second round slows both: the ratio is 0.5 in each round, though not between medians of rounds.
        let samples = [
            sample(1, "Hawser", 5.0),
            sample(1, "PgBouncer", 10.0),
            sample(2, "Hawser", 50.0),
            sample(2, "PgBouncer", 100.0),
            sample(3, "Hawser", 4.0),
            sample(3, "PgBouncer", 8.0),
        ];
        let rows = rows(&samples, &["PgBouncer".to_owned()], "Hawser");
        assert_eq!(rows[0].cpu_ratio, Some(0.5));
        assert_eq!(rows[1].cpu_ratio, Some(1.0));
        assert_eq!(rows[0].cpu_us, Some(5.0));
    }

    #[test]
    fn the_first_reference_that_ran_the_workload_counts() {
        let samples = [sample(1, "Hawser", 5.0), sample(1, "old", 20.0)];
        let rows = rows(&samples, &["new".to_owned(), "old".to_owned()], "Hawser");
        assert_eq!(rows[0].cpu_ratio, Some(0.25));
    }

    #[test]
    fn a_goal_that_is_missed_stands_out() {
        let samples = [sample(1, "Hawser", 12.0), sample(1, "PgBouncer", 10.0)];
        let rows = rows(&samples, &["PgBouncer".to_owned()], "Hawser");
        let text = markdown(&rows, &[], "Hawser");
        assert!(text.contains("| 1.20 **>** 1 | 4.00 <= 4.5 |\n"), "{text}");
        assert!(text.contains("| 1.00 | 4.00 |\n"), "{text}");
    }

    #[test]
    fn instructions_have_a_column_when_somebody_counted_them() {
        let counted = Sample { instructions: Some(5000.4), ..sample(1, "Hawser", 1.0) };
        let rows = rows(&[counted, sample(1, "other", 1.0)], &[], "Hawser");
        let text = markdown(&rows, &[], "Hawser");
        assert!(text.contains(" 5000 |\n") && text.contains(" not measured |\n"), "{text}");
    }
}
