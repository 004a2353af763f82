//! What a process uses of the machine, from /proc.

use std::time::Duration;

/// Clock ticks a second, as /proc counts CPU time; the same on every Linux that we meet.
const TICKS: u64 = 100;

/// Memory, CPU time and open files of one process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident: u64,
    /// The most resident memory it ever had, in bytes.
    pub peak_resident: u64,
    /// CPU time in user and system mode.
    pub cpu: Duration,
    /// Open file descriptors.
    pub files: usize,
}

impl Usage {
    /// Of this process.
    pub fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
        let kilobytes = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or("x 0");
            line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
        let after_name = stat.rsplit_once(')').expect("its name").1;
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
        Self {
            resident: kilobytes("VmRSS:") * 1024,
            peak_resident: kilobytes("VmHWM:") * 1024,
            cpu: Duration::from_millis(ticks * 1000 / TICKS),
            files: std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
        }
    }

    /// Forgets the peak of this process, so that the next one is about what happens from now on.
    pub fn reset_peak(pid: u32) {
        // Where the kernel does not allow it, the peak is merely too high.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// Allows our own process (and those that it starts) as many files as the system lets it.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
