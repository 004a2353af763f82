//! The control thread: opens the doors, starts the workers, hands clients out, and obeys signals to the end.

use crate::config::Effective;
use crate::config::settings::Settings;
use crate::control::{Desk, Furniture, Reload};
use crate::ids::WorkerId;
use crate::listener::{self, Door, Doors, ListenError};
use crate::mailbox::{Drain, Mailboxes, Operator, Order};
use crate::notify;
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

/// Averages are taken this often when nothing is written to the log.
const PERIOD: Duration = Duration::from_secs(60);

/// Runs until a signal or an operator ends it.
///
/// # Errors
/// It could not be started.
pub fn run(settings: Settings, sources: Vec<Effective>, reload: Reload) -> Result<(), RunError> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    tokio.block_on(async move {
        // Before anybody can know that we are here: a signal that comes early must not kill us.
        let signals = Signals::new()?;
        let doors = listener::open(&settings.listen, settings.workers)?;
        let listening = doors.listening();
        let Doors { shared, of_workers, addresses } = doors;
        let http = listener::open_http(&settings.http)?;
        let facilities = Facilities::new(settings.workers);
        let runtime = Arc::new(Runtime::load(settings, facilities)?);
        let (operators, arriving) = mpsc::unbounded_channel();
        let (mailboxes, threads) = start_workers(of_workers, operators, &runtime)?;
        for address in addresses {
            tracing::info!(address, "listening");
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let topology = Topology::start(&runtime, mailboxes.clone());
        let (endings, told) = mpsc::unbounded_channel();
        let of_desk = mailboxes.clone();
        let furniture =
            Furniture { mailboxes: of_desk, runtime, sources, reload, listening, topology, endings };
        let desk = Desk::open(furniture, arriving);
        if let Some(listener) = http {
            tracing::info!(address = %listener.local_addr()?, "listening for HTTP");
            desk.serve_http(listener);
        }
        let control = Control { mailboxes, desk, signals, told };
        control.run(shared).await;
        // The workers have nothing left to do, and end with the process.
        drop(threads);
        Ok(())
    })
}

/// One worker for each set of listening sockets.
fn start_workers(
    listeners: Vec<Vec<TcpListener>>,
    operators: mpsc::UnboundedSender<Box<Operator>>,
    runtime: &Arc<Runtime>,
) -> io::Result<(Mailboxes, Vec<JoinHandle<()>>)> {
    let (senders, receivers): (Vec<_>, Vec<_>) = listeners.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let (hub, orders) = mpsc::unbounded_channel();
    let mailboxes = Mailboxes::new(senders).with_hub(hub).with_operators(operators);
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
    desk: Rc<Desk>,
    signals: Signals,
    /// Operators that want the process to end.
    told: mpsc::UnboundedReceiver<Drain>,
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
        self.desk.begin_draining();
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        for task in accepting {
            task.abort();
            let _ = task.await;
        }
        self.drain(drain).await;
    }

    /// Obeys signals until one of them, or an operator, says to end, and how.
    async fn obey_signals(&mut self) -> Drain {
        let mut watchdog = watchdog();
        let period = self.desk.runtime().settings.log.stats_period;
        let mut clock = period_clock(period.unwrap_or(PERIOD));
        loop {
            tokio::select! {
                _ = self.signals.hangup.recv() => self.desk.reload(),
                _ = self.signals.terminate.recv() => return Drain::WaitForClients,
                _ = self.signals.interrupt.recv() => return Drain::WaitForTransactions,
                _ = self.signals.quit.recv() => return Drain::Immediately,
                Some(drain) = self.told.recv() => return drain,
                () = tick(&mut watchdog) => drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog])),
                _ = clock.tick() => {
                    self.desk.end_period().await;
                    if period.is_some() {
                        self.desk.log_pools().await;
                    }
                }
            }
        }
    }

    /// Ends the sessions as told, and then the workers. A second signal ends them at once.
    async fn drain(mut self, drain: Drain) {
        tracing::info!(?drain, clients = self.desk.runtime().facilities.clients.used(), "shutting down");
        self.mailboxes.send_all(|| Order::Drain(drain));
        let mut left = self.mailboxes.ask_all(Order::Leave);
        let patience = self.desk.runtime().settings.timeouts.shutdown;
        if drain != Drain::Immediately {
            tokio::select! {
                () = all(&mut left) => return,
                () = tokio::time::sleep(patience) => tracing::warn!("clients are still here, closing them"),
                _ = self.signals.terminate.recv() => {}
                _ = self.signals.interrupt.recv() => {}
                _ = self.signals.quit.recv() => {}
                Some(_) = self.told.recv() => {}
            }
            self.mailboxes.send_all(|| Order::Drain(Drain::Immediately));
        }
        let _ = tokio::time::timeout(LAST_WORDS, all(&mut left)).await;
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

fn period_clock(period: Duration) -> tokio::time::Interval {
    tokio::time::interval_at(tokio::time::Instant::now() + period, period)
}

/// The next tick of a clock; never, without one.
async fn tick(clock: &mut Option<tokio::time::Interval>) {
    match clock {
        Some(clock) => _ = clock.tick().await,
        None => std::future::pending().await,
    }
}
