//! Reads what a process costs: CPU time, resident memory, system calls, instructions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Ticks of `/proc/PID/stat` in a second; the same on every Linux that we run on.
const TICKS_PER_SECOND: u64 = 100;

/// A process with its children, seen from outside.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

/// CPU time so far, in a form that two readings can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuReading {
    threads: Vec<u32>,
    exact: Duration,
    ticks: Duration,
}

impl CpuReading {
    /// CPU time since `earlier`. Exact to the nanosecond as long as no thread came or went; else the kernel's sums,
    /// which still hold the threads that have ended, in steps of 10 ms.
    pub fn since(&self, earlier: &Self) -> Duration {
        if self.threads == earlier.threads {
            self.exact.saturating_sub(earlier.exact)
        } else {
            self.ticks.saturating_sub(earlier.ticks)
        }
    }
}

impl Process {
    /// CPU time of all threads, user and system.
    pub fn cpu(self) -> Result<CpuReading> {
        let mut reading = CpuReading { threads: Vec::new(), exact: Duration::ZERO, ticks: Duration::ZERO };
        for process in self.family() {
            for thread in numbers_in(&PathBuf::from(format!("/proc/{process}/task"))) {
                if let Ok(text) = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")) {
                    reading.threads.push(thread);
                    reading.exact += parse_schedstat(&text).unwrap_or_default();
                }
            }
            let text = fs::read_to_string(format!("/proc/{process}/stat"))
                .with_context(|| format!("process {process} is gone"))?;
            reading.ticks += parse_stat(&text).context("/proc/PID/stat is not as we know it")?;
        }
        Ok(reading)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(self) -> Result<u64> {
        let mut sum = 0;
        for process in self.family() {
            let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
                .with_context(|| format!("cannot read the memory of process {process}"))?;
            sum += parse_rss(&text).context("smaps_rollup has no line Rss")?;
        }
        Ok(sum)
    }

    /// The process and its descendants.
    fn family(self) -> Vec<u32> {
        let mut all = vec![self.0];
        let mut next = 0;
        while let Some(&process) = all.get(next) {
            next += 1;
            for thread in numbers_in(&PathBuf::from(format!("/proc/{process}/task"))) {
                let children = fs::read_to_string(format!("/proc/{process}/task/{thread}/children"));
                all.extend(
                    children.unwrap_or_default().split_whitespace().filter_map(|n| n.parse::<u32>().ok()),
                );
            }
        }
        all
    }
}

/// What perf counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// System calls.
    pub syscalls: Option<u64>,
    /// Instructions in user space and kernel.
    pub instructions: Option<u64>,
}

/// perf, counting beside a run.
#[derive(Debug)]
pub struct Counter {
    perf: Child,
    file: PathBuf,
}

impl Counter {
    /// Whether perf is there and may count system calls.
    pub fn is_available() -> bool {
        let status = Command::new("perf")
            .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }

    /// Begins to count.
    pub fn start(process: Process, folder: &Path) -> Result<Self> {
        let file = folder.join("perf.csv");
        let ids: Vec<String> = process.family().iter().map(u32::to_string).collect();
        let perf = Command::new("perf")
            .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter,instructions", "-p", &ids.join(",")])
            .arg("-o")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start perf")?;
        // perf does not say when its counters are open. It needs some milliseconds; the run that follows takes seconds.
        std::thread::sleep(Duration::from_millis(300));
        Ok(Self { perf, file })
    }

    /// Ends the count.
    pub fn stop(mut self) -> Result<Counts> {
        if let Some(pid) = i32::try_from(self.perf.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT)?;
        }
        self.perf.wait()?;
        Ok(parse_perf(&fs::read_to_string(&self.file).unwrap_or_default()))
    }
}

fn numbers_in(folder: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut numbers: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

fn parse_schedstat(text: &str) -> Option<Duration> {
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// utime and stime: fields 14 and 15, counted from behind the name, which may hold blanks and brackets.
fn parse_stat(text: &str) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

fn parse_rss(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("Rss:"))?.split_whitespace().next()?.parse().ok()
}

fn parse_perf(text: &str) -> Counts {
    let count = |event: &str| {
        let line =
            text.lines().find(|line| line.split(',').nth(2).is_some_and(|name| name.starts_with(event)))?;
        line.split(',').next()?.parse().ok()
    };
    Counts { syscalls: count("raw_syscalls:sys_enter"), instructions: count("instructions") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_name_with_brackets() {
        let text = "42 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0";
        assert_eq!(parse_stat(text), Some(Duration::from_secs(3)));
    }

    #[test]
    fn perf_without_hardware_counters_still_counts_system_calls() {
        let text = "# started\n\n1234,,raw_syscalls:sys_enter,99,100.00,,\n<not supported>,,instructions,0,100.00,,\n";
        assert_eq!(parse_perf(text), Counts { syscalls: Some(1234), instructions: None });
    }

    #[test]
    fn own_cpu_time_grows_with_work() {
        let own = Process(std::process::id());
        let before = own.cpu().unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(0);
        }
        let now = own.cpu().unwrap();
        // Other tests may start and end threads meanwhile; either way some of the 60 ms must show.
        assert!(now.since(&before) >= Duration::from_millis(10), "{before:?} {now:?}");
    }

    #[test]
    fn threads_that_ended_are_counted_in_ticks() {
        let reading = |threads: &[u32], exact, ticks| CpuReading {
            threads: threads.to_vec(),
            exact: Duration::from_millis(exact),
            ticks: Duration::from_millis(ticks),
        };
        let before = reading(&[1, 2], 100, 90);
        assert_eq!(reading(&[1, 2], 155, 140).since(&before), Duration::from_millis(55));
        assert_eq!(reading(&[1], 80, 140).since(&before), Duration::from_millis(50));
    }

    #[test]
    fn resident_memory_is_the_line_rss() {
        assert_eq!(parse_rss("55d-7ff ---p 0 0 [rollup]\nRss:  4812 kB\nPss: 900 kB\n"), Some(4812));
    }
}
