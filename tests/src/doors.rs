//! Looks which hosts let somebody in, by logging in at each of them all the time: what nobody could have been served is
//! not the doing of what stands before the hosts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::raw::Client;
use crate::raw::messages::{query, startup};

/// Between two tries at one host.
const PAUSE: Duration = Duration::from_millis(3);

/// Protocol 3.0.
const VERSION: u32 = 3 << 16;

/// See the module.
#[derive(Debug)]
pub struct Doors {
    over: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<Vec<Instant>>>,
}

impl Doors {
    /// Watches the hosts at these ports, where `postgres` needs no password.
    pub fn watch(ports: &[u16]) -> Self {
        let over = Arc::<AtomicBool>::default();
        let watch = |port: u16| {
            let over = over.clone();
            std::thread::spawn(move || {
                let mut served = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    if read(port).is_ok() {
                        served.push(Instant::now());
                    }
                    std::thread::sleep(PAUSE);
                }
                served
            })
        };
        let watchers = ports.iter().copied().map(watch).collect();
        Self { over, watchers }
    }

    /// The longest time in which none of the hosts served anybody who came.
    #[track_caller]
    pub fn longest_closed(self) -> Duration {
        self.over.store(true, Ordering::Relaxed);
        let mut served: Vec<Instant> =
            self.watchers.into_iter().flat_map(|watcher| watcher.join().expect("a watcher")).collect();
        served.sort_unstable();
        let gaps = served.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        gaps.max().unwrap_or_default()
    }
}

/// Logs in at a host, and reads something.
fn read(port: u16) -> io::Result<()> {
    let mut client = Client::try_connect(port)?;
    client.set_patience(Duration::from_secs(1));
    client.try_send(&startup(VERSION, &[("user", "postgres"), ("database", "postgres")]))?;
    until_ready(&mut client)?;
    client.try_send(&query("SELECT 1"))?;
    until_ready(&mut client)
}

fn until_ready(client: &mut Client) -> io::Result<()> {
    loop {
        match client.try_read()?.tag {
            b'Z' => return Ok(()),
            b'E' => return Err(io::ErrorKind::ConnectionRefused.into()),
            _ => {}
        }
    }
}
