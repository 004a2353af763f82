//! The control thread: opens the doors, starts the workers, hands clients out, and obeys signals to the end.

use crate::config::settings::Settings;
use crate::ids::WorkerId;
use crate::listener::{self, Door, Doors, ListenError};
use crate::mailbox::{Drain, Mailboxes, Order};
use crate::notify;
use crate::pool::PoolReport;
use crate::runtime::{Facilities, Runtime};
use crate::stream::tls::TlsError;
use crate::topology::Topology;
use crate::worker;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// How long sessions may take to say goodbye when they are ended at once.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Why Hawser does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Addresses.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Threads or signals.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Reads the settings anew and says what changed, or why it cannot be done.
pub type Reload = Box<dyn FnMut(&Settings) -> Result<(Settings, Vec<String>), Vec<String>>>;

/// Runs until a signal ends it.
///
/// # Errors
/// It could not be started.
pub fn run(settings: Settings, reload: Reload) -> Result<(), RunError> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    tokio.block_on(async move {
        // Before anybody can know that we are here: a signal that comes early must not kill us.
        let signals = Signals::new()?;
        let Doors { shared, of_workers, addresses } = listener::open(&settings.listen, settings.workers)?;
        let facilities = Facilities::new(settings.workers);
        let runtime = Arc::new(Runtime::load(settings, facilities)?);
        let (mailboxes, threads) = start_workers(of_workers, &runtime)?;
        for address in addresses {
            tracing::info!(address, "listening");
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let topology = Topology::start(&runtime, mailboxes.clone());
        let control = Control { mailboxes, runtime, reload, signals, topology };
        control.run(shared).await;
        // The workers have nothing left to do, and end with the process.
        drop(threads);
        Ok(())
    })
}

/// One worker for each set of listening sockets.
fn start_workers(
    listeners: Vec<Vec<TcpListener>>,
    runtime: &Arc<Runtime>,
) -> io::Result<(Mailboxes, Vec<JoinHandle<()>>)> {
    let (senders, receivers): (Vec<_>, Vec<_>) = listeners.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let (hub, orders) = mpsc::unbounded_channel();
    let mailboxes = Mailboxes::new(senders).with_hub(hub);
    notify::start(mailboxes.clone(), orders);
    let mut threads = Vec::new();
    for (number, (receiver, listeners)) in receivers.into_iter().zip(listeners).enumerate() {
        let (mailboxes, runtime) = (mailboxes.clone(), runtime.clone());
        let thread = std::thread::Builder::new().name(format!("worker-{number}"));
        threads.push(thread.spawn(move || {
            if let Err(error) = worker::run(WorkerId(number), mailboxes, receiver, runtime, listeners) {
                tracing::error!(number, %error, "worker cannot run");
            }
        })?);
    }
    Ok((mailboxes, threads))
}

/// The signals that we obey.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }
}

struct Control {
    mailboxes: Mailboxes,
    runtime: Arc<Runtime>,
    reload: Reload,
    signals: Signals,
    topology: Topology,
}

impl Control {
    async fn run(mut self, doors: Vec<Door>) {
        let doors: Vec<_> = doors.into_iter().map(Rc::new).collect();
        let accepting: Vec<_> = doors
            .iter()
            .map(|door| tokio::task::spawn_local(accept(door.clone(), self.mailboxes.clone())))
            .collect();
        drop(doors);
        let drain = self.obey_signals().await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        for task in accepting {
            task.abort();
            let _ = task.await;
        }
        self.drain(drain).await;
    }

    /// Obeys signals until one of them says to end, and how.
    async fn obey_signals(&mut self) -> Drain {
        let mut watchdog = watchdog();
        let mut report = report_clock(&self.runtime.settings);
        loop {
            tokio::select! {
                _ = self.signals.hangup.recv() => self.reload(),
                _ = self.signals.terminate.recv() => return Drain::WaitForClients,
                _ = self.signals.interrupt.recv() => return Drain::WaitForTransactions,
                _ = self.signals.quit.recv() => return Drain::Immediately,
                () = tick(&mut watchdog) => drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog])),
                () = tick(&mut report) => self.report().await,
            }
        }
    }

    fn reload(&mut self) {
        tracing::info!("reloading the settings");
        let _ = sd_notify::NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[sd_notify::NotifyState::Reloading, now]));
        match (self.reload)(&self.runtime.settings) {
            Ok((settings, changes)) => match Runtime::load(settings, self.runtime.facilities.clone()) {
                Ok(runtime) => {
                    self.runtime = Arc::new(runtime);
                    for worker in 0..self.mailboxes.workers() {
                        self.mailboxes.send(WorkerId(worker), Order::Apply(self.runtime.clone()));
                    }
                    self.topology.apply(&self.runtime);
                    for change in changes {
                        tracing::info!("reload: {change}");
                    }
                    tracing::info!("settings reloaded");
                }
                Err(error) => tracing::error!(%error, "reload failed, the running settings stay"),
            },
            Err(problems) => {
                for problem in problems {
                    tracing::error!("reload: {problem}");
                }
                tracing::error!("reload failed, the running settings stay");
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    /// Ends the sessions as told, and then the workers. A second signal ends them at once.
    async fn drain(mut self, drain: Drain) {
        tracing::info!(?drain, clients = self.runtime.facilities.clients.used(), "shutting down");
        self.send_all(drain);
        let mut left = self.leave();
        let patience = self.runtime.settings.timeouts.shutdown;
        if drain != Drain::Immediately {
            tokio::select! {
                () = all(&mut left) => return,
                () = tokio::time::sleep(patience) => tracing::warn!("clients are still here, closing them"),
                _ = self.signals.terminate.recv() => {}
                _ = self.signals.interrupt.recv() => {}
                _ = self.signals.quit.recv() => {}
            }
            self.send_all(Drain::Immediately);
        }
        let _ = tokio::time::timeout(LAST_WORDS, all(&mut left)).await;
    }

    fn send_all(&self, drain: Drain) {
        for worker in 0..self.mailboxes.workers() {
            self.mailboxes.send(WorkerId(worker), Order::Drain(drain));
        }
    }

    fn leave(&self) -> Vec<oneshot::Receiver<()>> {
        let workers = 0..self.mailboxes.workers();
        workers
            .map(|worker| {
                let (sender, left) = oneshot::channel();
                self.mailboxes.send(WorkerId(worker), Order::Leave(sender));
                left
            })
            .collect()
    }

    /// Writes the counters of each pool to the log.
    async fn report(&self) {
        let mut pools: Vec<PoolReport> = Vec::new();
        for worker in 0..self.mailboxes.workers() {
            let (sender, reply) = oneshot::channel();
            self.mailboxes.send(WorkerId(worker), Order::Report(sender));
            for report in reply.await.unwrap_or_default() {
                match pools.iter_mut().find(|known| known.key == report.key) {
                    Some(known) => known.add(&report),
                    None => pools.push(report),
                }
            }
        }
        for pool in pools {
            let counts = pool.counts;
            tracing::info!(
                pool = %pool.key,
                clients = pool.clients,
                waiting = counts.waiting,
                leased = counts.leased,
                idle = counts.idle,
                opening = counts.opening,
                resetting = counts.resetting,
                transactions = pool.transactions,
                queries = pool.queries,
                "stats"
            );
        }
    }
}

/// Hands clients out to the workers in turn; who lives where is decided when the pool is known.
async fn accept(door: Rc<Door>, mailboxes: Mailboxes) {
    let mut turn = 0;
    door.each_visitor(|socket, peer| {
        mailboxes.send(WorkerId(turn), Order::Greet(socket, peer));
        turn = (turn + 1) % mailboxes.workers().max(1);
    })
    .await;
}

async fn all(left: &mut Vec<oneshot::Receiver<()>>) {
    while let Some(one) = left.last_mut() {
        let _ = one.await;
        left.pop();
    }
}

fn watchdog() -> Option<tokio::time::Interval> {
    sd_notify::watchdog_enabled().map(|limit| tokio::time::interval(limit / 2))
}

fn report_clock(settings: &Settings) -> Option<tokio::time::Interval> {
    let period = settings.log.stats_period?;
    let start = tokio::time::Instant::now() + period;
    Some(tokio::time::interval_at(start, period))
}

/// The next tick of a clock; never, without one.
async fn tick(clock: &mut Option<tokio::time::Interval>) {
    match clock {
        Some(clock) => _ = clock.tick().await,
        None => std::future::pending().await,
    }
}
