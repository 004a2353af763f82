//! What threads say to each other. A worker has one mailbox; nothing is shared but what is sent.

use crate::auth::server_login::Credential;
use crate::balance::Passage;
use crate::config::settings::{HostAddress, Timeouts};
use crate::ids::{ClusterId, HostId, PoolKey, SessionId, WorkerId};
use crate::notify::{Audience, HubOrder, News};
use crate::parameters::ParameterSet;
use crate::pins::OwnValues;
use crate::pool::budget::{Cap, Permit};
use crate::pool::halt::{Scope, Stance};
use crate::pool::lead::Origin;
use crate::report::{About, Wanted, WorkerReport};
use crate::runtime::{Admission, Runtime};
use crate::server::connection::ParkedServer;
use crate::statements::{ClientStatements, Deed};
use crate::stream::{ParkedStream, Peer, SocketAddress, StdSocket};
use crate::topology::{Moment, Snapshot};
use hawser_sql_router::calls::Disturbs;
use hawser_wire::startup::StartupMessage;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// An order to a worker.
#[derive(Debug)]
pub enum Order {
    /// A client has connected.
    Greet(StdSocket, Option<Peer>),
    /// A client whose startup packet was read by another worker.
    Place(Box<Arrival>),
    /// A session of another worker. It comes by way of the one that its number names, which knows where it is by that.
    Settle(Box<Move>),
    /// A session whose number names this worker, and that lived on another one, has ended.
    Gone(SessionId),
    /// Somebody wants this session's query cancelled. Dropping the sender means: done, or nothing to do.
    Cancel {
        /// Whose query.
        session: SessionId,
        /// What proves that they may.
        key: Vec<u8>,
        /// Told when it has reached the server.
        done: oneshot::Sender<()>,
    },
    /// A server connection that this worker needs more than its sender.
    Adopt(PoolKey, Box<ParkedServer>, Option<Origin>, Permit),
    /// A worker lacks connections of a pool, or a session there the one to this server process: send it one that is idle.
    Lend(PoolKey, WorkerId, Option<NonZeroU32>),
    /// Somebody needs a place under a limit that several pools share: close an idle connection of this database.
    Evict(String),
    /// What the LISTEN hub tells.
    Notify(Box<News>),
    /// Something changed in a cluster that matters for where statements go.
    Topology(Arc<Snapshot>),
    /// A connection to a host of this cluster broke: begin nothing there before it is known whether it stops.
    Suspect {
        /// The cluster.
        cluster: ClusterId,
        /// Which of its hosts.
        host: HostId,
        /// When that was.
        since: Moment,
    },
    /// A standby of this cluster has proven more, and sessions of this worker wait for that (see
    /// [`Bell::want_proof`](crate::topology::Bell::want_proof)).
    Proven(ClusterId),
    /// The settings changed.
    Apply(Arc<Runtime>),
    /// Tell what is so.
    Report(Wanted, oneshot::Sender<WorkerReport>),
    /// Lend connections of these databases from now on, or do not.
    Halt(Scope, Stance),
    /// Say whether the pools of these databases are at rest.
    IsAtRest(Scope, oneshot::Sender<bool>),
    /// Say whether a session has something under way on the primary of this cluster.
    IsBusy(ClusterId, oneshot::Sender<bool>),
    /// Drop the clients of these databases.
    Kill(Scope),
    /// A statement needs a database for itself, or makes a role somebody else: leave these connections.
    Vacate(Arc<Location>),
    /// A session disturbs another.
    Disturb(Box<Disturbance>),
    /// Drop this client. The answer: whether it was there.
    KillSession(SessionId, oneshot::Sender<bool>),
    /// End sessions.
    Drain(Drain),
    /// End, once no session is left; dropping the sender means: done.
    Leave(oneshot::Sender<()>),
}

impl Order {
    /// The session that is meant, where it is one by its number.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Cancel { session, .. } | Self::KillSession(session, _) => Some(*session),
            Self::Disturb(disturbance) => match disturbance.whom {
                Whom::Session(session) => Some(session),
                Whom::Process(..) => None,
            },
            _ => None,
        }
    }
}

/// Connections to be left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Where they lead.
    pub hosts: Vec<HostAddress>,
    /// Which of those.
    pub of: Inhabitant,
}

/// Whose connections are left, by its name on the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inhabitant {
    /// Those to a database that are idle.
    Database(String),
    /// All of a user; those that are lent, when they come back.
    User(String),
}

/// What one session wants done to another, and who it is.
#[derive(Debug, Clone)]
pub struct Disturbance {
    /// To whom.
    pub whom: Whom,
    /// What.
    pub how: Disturbs,
    /// The user who wants it.
    pub user: Box<str>,
    /// Its database, as it named it.
    pub database: Box<str>,
    /// Whether the server says that it is a superuser.
    pub is_superuser: bool,
}

/// Another session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// By its number.
    Session(SessionId),
    /// The one that was told that this server process is its own: where the server is, and the number there.
    Process(SocketAddress, NonZeroU32),
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// No new clients; each client goes when its transaction is over and it asks for something new.
    WaitForClients,
    /// Each client is closed as soon as it is outside a transaction.
    WaitForTransactions,
    /// At once.
    Immediately,
}

/// A client between two workers: greeted, not logged in.
#[derive(Debug)]
pub struct Arrival {
    /// Its stream, with TLS if it asked for it.
    pub stream: ParkedStream,
    /// Bytes that were read behind the startup packet.
    pub input: crate::stream::Buffer,
    /// Who it is.
    pub peer: Peer,
    /// What it asked for.
    pub startup: StartupMessage,
    /// When it connected.
    pub since: Instant,
    /// Its place among all clients.
    pub place: ClientPlace,
}

/// A session between two workers, with all that it has with it.
#[derive(Debug)]
pub struct Move {
    /// The session.
    pub guest: Guest,
    /// Where it goes.
    pub to: WorkerId,
    /// Who its client is.
    pub peer: Peer,
    /// The same for the log: database and user.
    pub who: Box<str>,
    /// Its place under the limits of its database and user.
    pub admission: Admission,
    /// Its place among all clients.
    pub place: ClientPlace,
    /// For as long as it is under way.
    pub passage: Passage,
}

/// A session at rest, without anything that belongs to its thread.
#[derive(Debug)]
pub struct Guest {
    /// Its number, which stays.
    pub id: SessionId,
    /// What its client proves with that a cancel request is its own.
    pub key: Box<[u8]>,
    /// Who it is, for whoever asks.
    pub about: Option<About>,
    /// When it last asked for something.
    pub requested: Option<Instant>,
    /// Bytes to and from its client.
    pub stream: ParkedStream,
    /// The pool of the primary.
    pub pool: PoolKey,
    /// How that logs in.
    pub credential: Credential,
    /// Its limits in time.
    pub timeouts: Timeouts,
    /// Its named statements.
    pub statements: ClientStatements,
    /// Its unnamed statement.
    pub unnamed: Option<UnnamedText>,
    /// How many unnamed statements it has had: server connections know by that which one they have.
    pub generation: u64,
    /// What it has set.
    pub settings: ParameterSet,
    /// What it asked for at login.
    pub defaults: ParameterSet,
    /// What sequences have yielded to it.
    pub values: OwnValues,
    /// What it knows for choosing a host, if there is a choice.
    pub choice: Option<Choice>,
}

/// What a session remembers for choosing a host.
#[derive(Debug)]
pub struct Choice {
    /// As whom it logged in.
    pub user: Box<str>,
    /// Its last write.
    pub last_write: Moment,
    /// When it may have changed the catalogue last.
    pub catalog_change: Moment,
    /// Its transactions that may write begin on the primary after all.
    pub no_early: bool,
}

/// The unnamed statement of a session.
#[derive(Debug)]
pub struct UnnamedText {
    /// As its Parse had it after the empty name: text, zero, types.
    pub rest: Vec<u8>,
    /// What it does to the session.
    pub deed: Option<Arc<Deed>>,
}

/// A place under `max_client_connections`, given back when dropped.
#[derive(Debug)]
pub struct ClientPlace(Arc<Cap>);

impl ClientPlace {
    /// A place, if one is left.
    #[must_use]
    pub fn take(clients: &Arc<Cap>) -> Option<Self> {
        clients.take(0).then(|| Self(clients.clone()))
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// An operator who has logged in, on the way from a worker to the control thread.
#[derive(Debug)]
pub struct Operator {
    /// Its stream.
    pub stream: ParkedStream,
    /// What it is to be told first: the end of its login.
    pub greeting: Vec<u8>,
    /// What it has said after that already.
    pub input: Vec<u8>,
    /// As whom, on which of our databases, and from where.
    pub about: About,
    /// Its name for itself.
    pub application_name: String,
    /// Whether it may change anything.
    pub is_admin: bool,
}

/// The mailboxes of all workers, of the LISTEN hub, and of who serves operators.
#[derive(Debug, Clone)]
pub struct Mailboxes {
    senders: Arc<[mpsc::UnboundedSender<Order>]>,
    hub: Option<mpsc::UnboundedSender<HubOrder>>,
    audience: Audience,
    operators: Option<mpsc::UnboundedSender<Box<Operator>>>,
}

impl Mailboxes {
    /// One sender for each worker, in order.
    #[must_use]
    pub fn new(senders: Vec<mpsc::UnboundedSender<Order>>) -> Self {
        Self { senders: senders.into(), hub: None, audience: Audience::default(), operators: None }
    }

    /// The same, with a hub.
    #[must_use]
    pub fn with_hub(self, hub: mpsc::UnboundedSender<HubOrder>) -> Self {
        Self { hub: Some(hub), ..self }
    }

    /// The worker that the session with this number has logged in on. If it has gone on elsewhere, that one knows where.
    #[must_use]
    pub fn worker_of(&self, session: SessionId) -> WorkerId {
        WorkerId(session.0 as usize % self.workers().max(1))
    }

    /// Where anybody listens, as the hub knows it.
    #[must_use]
    pub const fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Sends an order to the hub, if there is one.
    pub fn send_hub(&self, order: HubOrder) {
        if let Some(hub) = &self.hub {
            let _ = hub.send(order);
        }
    }

    /// With somebody who serves operators.
    #[must_use]
    pub fn with_operators(self, operators: mpsc::UnboundedSender<Box<Operator>>) -> Self {
        Self { operators: Some(operators), ..self }
    }

    /// Hands an operator over to the control thread.
    pub fn send_operator(&self, operator: Box<Operator>) {
        if let Some(operators) = &self.operators {
            let _ = operators.send(operator);
        }
    }

    /// Sends an order; a worker that has gone does not mind.
    pub fn send(&self, worker: WorkerId, order: Order) {
        if let Some(sender) = self.senders.get(worker.0) {
            let _ = sender.send(order);
        }
    }

    /// Sends an order to every worker.
    pub fn send_all(&self, order: impl Fn() -> Order) {
        self.each().for_each(|worker| self.send(worker, order()));
    }

    /// Sends an order with a place for an answer to every worker; the answers come in their order.
    #[must_use]
    pub fn ask_all<T>(&self, order: impl Fn(oneshot::Sender<T>) -> Order) -> Vec<oneshot::Receiver<T>> {
        let ask = |worker| {
            let (reply, answer) = oneshot::channel();
            self.send(worker, order(reply));
            answer
        };
        self.each().map(ask).collect()
    }

    /// Every worker, in order.
    pub fn each(&self) -> impl Iterator<Item = WorkerId> {
        (0..self.workers()).map(WorkerId)
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.senders.len()
    }
}
