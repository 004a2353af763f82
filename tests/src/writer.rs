//! Writes row after row, in `psql`.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::Hawser;

/// A client that writes row after row until it is told to stop, and says how it fared.
#[derive(Debug)]
pub struct Writer {
    psql: Child,
    feeder: JoinHandle<u32>,
    enough: Arc<AtomicBool>,
}

impl Writer {
    /// Starts it, as the user `postgres` in a table `written (n int)` that is there already.
    #[track_caller]
    pub fn start(hawser: &Hawser) -> Self {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", hawser.port());
        let mut psql = Command::new("psql")
            .args([&url, "-AtXq"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql");
        let mut stdin = psql.stdin.take().expect("its input");
        let enough = Arc::new(AtomicBool::new(false));
        let told = enough.clone();
        // The pipe holds few rows: what is written here waits for what is executed there.
        let feeder = std::thread::spawn(move || {
            let mut rows = 0;
            while !told.load(Ordering::Relaxed)
                && writeln!(stdin, "INSERT INTO written VALUES ({rows});").is_ok()
            {
                rows += 1;
            }
            rows
        });
        Self { psql, feeder, enough }
    }

    /// Waits for its end, and returns how many rows it wrote and its errors.
    #[track_caller]
    pub fn finish(self) -> (u32, String) {
        self.enough.store(true, Ordering::Relaxed);
        let rows = self.feeder.join().expect("the feeder ends");
        let output = self.psql.wait_with_output().expect("psql ends");
        (rows, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
