//! All that an operator can ask or do. Whoever serves the operator holds a [`Door`]; the pooler answers what comes
//! out of the other end, on its control thread.
//!
//! A [`Question`] changes nothing, and one call may ask several, so that the answers belong together. An [`Order`]
//! changes something, and is answered when that is done.

pub mod facts;
#[cfg(test)]
pub(crate) mod samples;

pub use facts::Facts;

use std::fmt;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// A kind of fact; each fills one field of [`Facts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The process as a whole.
    Process,
    /// The worker threads.
    Workers,
    /// Settings in force, and where they came from.
    Settings,
    /// Databases, with their limits and what is used of them.
    Databases,
    /// Users, with their limits and what is used of them.
    Users,
    /// Pools: connections by state, counters, histograms, pins, errors.
    Pools,
    /// Counters by database, in total and on average.
    Stats,
    /// Every client.
    Clients,
    /// Every server connection.
    Servers,
    /// Prepared statements that somebody has.
    Statements,
    /// Sockets that listen.
    Listeners,
    /// Hosts of clusters that are watched, and the last failovers.
    Hosts,
    /// Where batches went, and why.
    Routes,
    /// Queries by their shape.
    Fingerprints,
    /// The same, but only the hundred on which servers worked longest.
    BusiestFingerprints,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Lend no server connection; done when all are closed.
    Pause(Scope),
    /// Lend no server connection, keep them open; done when none is in use.
    Suspend,
    /// The primary of these databases is about to hand over: begin nothing on it; done when nothing is under way there.
    Hold(Scope),
    /// End a hold, if there is one.
    Release(Scope),
    /// End a pause, a suspension or a kill.
    Resume(Scope),
    /// Read nothing from this standby from now on; done when every worker knows.
    Ban(String),
    /// Let this standby be read from again.
    Unban(String),
    /// As a ban; done when no server connection leads there any more, or `timeouts.shutdown` is over.
    Drain(String),
    /// Refuse new clients.
    Disable(String),
    /// Let new clients in again.
    Enable(String),
    /// Replace every server connection as soon as it is free.
    Reconnect(Scope),
    /// Done when no server connection is left that is to be replaced.
    WaitClose(Scope),
    /// Drop clients and server connections at once, and pause.
    Kill(Scope),
    /// Drop one client.
    KillClient(u32),
    /// Read the settings again; what was set by hand is forgotten.
    Reload,
    /// Change one setting, by PgBouncer's name or ours, until the next reload.
    Set(String, String),
    /// End the process.
    Shutdown(Shutdown),
}

/// What an order is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Every database.
    All,
    /// One database, as clients name it.
    Database(String),
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// At once.
    Immediate,
    /// Each client goes when its transaction is over.
    WaitForServers,
    /// No new clients; those that are here stay until they leave.
    WaitForClients,
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The database does not exist.
    #[error("no such database: {0}")]
    NoDatabase(String),
    /// No cluster that is watched has this host.
    #[error("no such host: {0}")]
    NoHost(String),
    /// The host takes writes, and there is nowhere else to go with them.
    #[error("{0} is the primary")]
    IsPrimary(String),
    /// Transactions on the host did not end in time.
    #[error("{host} still has {servers} server connections; it stays banned")]
    StillUsed {
        /// Which.
        host: String,
        /// How many.
        servers: usize,
    },
    /// The console is not a database of which that can be asked.
    #[error("cannot {order} admin db: {database}")]
    IsConsole {
        /// What was asked.
        order: &'static str,
        /// By which name.
        database: String,
    },
    /// No client has this number.
    #[error("client not found")]
    NoClient(u32),
    /// It is paused or suspended already.
    #[error("already suspended/paused")]
    AlreadyPaused,
    /// Some databases are paused or held, so that not all can be suspended.
    #[error("cannot suspend with paused databases")]
    DatabasesPaused,
    /// Nothing is paused.
    #[error("pooler is not paused/suspended")]
    NotPaused,
    /// This database is not paused.
    #[error("database {0} is not paused")]
    DatabaseNotPaused(String),
    /// No host of the database is known to be the primary.
    #[error("database {0} has no primary")]
    NoPrimary(String),
    /// The hold was over before what was under way.
    #[error("the hold has ended before what was under way on the primary")]
    HoldOver,
    /// A RESUME came while the order waited.
    #[error("ended by RESUME")]
    Resumed,
    /// The settings are wrong: every mistake, one a line.
    #[error("{}", .0.join("\n"))]
    WrongSettings(Vec<String>),
    /// There is no such setting.
    #[error("unknown setting: {0}")]
    NoSetting(String),
    /// The setting holds until the process ends.
    #[error("cannot change {0} while running")]
    NeedsRestart(String),
    /// The process is ending.
    #[error("pooler is shutting down")]
    Leaving,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Ask, but not about file descriptors.
    Reader,
    /// Everything.
    Admin,
}

/// One question or order on its way, with where the answer goes.
#[derive(Debug)]
pub enum Call {
    /// Questions.
    Ask(Vec<Question>, oneshot::Sender<Facts>),
    /// An order.
    Obey(Order, oneshot::Sender<Result<(), Refused>>),
    /// Where statements would go: a database, if it matters which, and the text.
    Explain(Option<String>, String, oneshot::Sender<Result<Vec<Explained>, Refused>>),
}

/// Where one statement would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// `primary`, `standby` or `any`.
    pub host: String,
    /// `read`, `write`, `transaction` or `session`.
    pub access: String,
    /// Why.
    pub reason: String,
    /// What it leaves behind in its session.
    pub effects: Vec<String>,
    /// Hosts that would have it now, from a session that has set and written nothing; empty where that is not known.
    pub hosts: Vec<String>,
    /// Why not a standby, if one would do and none is chosen.
    pub instead: Option<&'static str>,
}

/// Where questions and orders go in. Clones lead to the same pooler.
#[derive(Debug, Clone)]
pub struct Door {
    calls: mpsc::UnboundedSender<Call>,
}

impl Door {
    /// A door, and what comes out behind it.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Call>) {
        let (calls, received) = mpsc::unbounded_channel();
        (Self { calls }, received)
    }

    /// The facts that were asked for; the rest is empty.
    ///
    /// # Errors
    /// The process is ending.
    pub async fn ask(&self, questions: &[Question]) -> Result<Facts, Refused> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Ask(questions.to_vec(), reply)).map_err(|_| Refused::Leaving)?;
        answer.await.map_err(|_| Refused::Leaving)
    }

    /// Where each statement of a text would go, and why, as far as that is up to the text.
    ///
    /// # Errors
    /// The database does not exist, or the process is ending.
    pub async fn explain(&self, database: Option<String>, text: String) -> Result<Vec<Explained>, Refused> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Explain(database, text, reply)).map_err(|_| Refused::Leaving)?;
        answer.await.map_err(|_| Refused::Leaving)?
    }

    /// Returns when the order is carried out.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn order(&self, order: Order) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Obey(order, reply)).map_err(|_| Refused::Leaving)?;
        answer.await.map_err(|_| Refused::Leaving)?
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all databases"),
            Self::Database(name) => f.write_str(name),
        }
    }
}

/// Microseconds of a duration; what is longer than 500,000 years counts as that.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
