//! The hot path: one client and one server connection, joined until the server has answered everything.
//!
//! One task drives both directions: no channel, no lock, no copy of a row. `plan` decides per message what is
//! sent and what is owed; `upstream` and `downstream` are the two pumps; back-pressure holds because each pump
//! reads only when it has nothing left to write, and neither waits for the other.

mod client;
mod commit;
mod downstream;
mod gate;
mod gist;
mod journal;
mod listening;
mod loss;
mod naming;
mod outbox;
mod own;
mod plan;
mod question;
mod replay;
mod state;
mod upstream;
mod wording;

use crate::catalog::Hidden;
use crate::endings::Endings;
use crate::ids::{SessionId, StatementId};
use crate::notify::Desk;
use crate::server::connection::{Doubt, Effect, ServerConnection, Told};
use crate::server::dial::Local;
use crate::shapes::{OfBatch, Outcome, PoolNumber, Shape, Shapes};
use crate::statements::Registry;
use crate::stream::{Buffer, Buffers};
use hawser_sql_router::calls::Disturbs;
use hawser_sql_router::ending::Ending;
use hawser_wire::backend::TransactionStatus;
use hawser_wire::frame::FrameError;
use hawser_wire::frontend::Malformed;
use hawser_wire::reply_queue::{Fate, Request, Unexpected};
use journal::{Journal, Retelling};
use std::io;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use thiserror::Error;

pub use client::{ClientSide, Unnamed, UnnamedStatement};
pub use commit::{Commit, Resolve};
pub(crate) use gate::is_lasting;
pub use gist::{Gist, Harmless};
pub use journal::Tape;
pub use loss::Loss;
pub use own::OwnDefaults;
pub use question::Proven;
pub use state::SessionState;
pub(crate) use upstream::first_message;

/// What the rooms above hand in, the same for all sessions of a worker.
#[derive(Debug)]
pub struct Shared {
    /// Blocks for bytes in flight.
    pub buffers: Buffers,
    /// Tracked parameters, and what dials have in common.
    pub local: Local,
    /// Statements of the whole process.
    pub registry: Arc<Registry>,
    /// When clients called for the end of a server process.
    pub endings: Arc<Endings>,
    /// Texts whose calls leave nothing behind, as far as this worker has seen.
    pub proven: Proven,
    /// Where sessions listen.
    pub desk: Rc<Desk>,
    /// What queries of one shape come to.
    pub shapes: Shapes,
    /// Texts that do nothing to their session.
    pub harmless: Harmless,
}

/// Limits that the relay holds clients to.
#[derive(Debug, Clone, Copy)]
pub struct RelayLimits {
    /// Longest message that is held whole.
    pub max_message: usize,
    /// Named statements of one client.
    pub max_client_statements: usize,
    /// Statements on one server connection.
    pub max_server_statements: usize,
    /// Bytes of notifications that may wait for a client.
    pub notify_queue: usize,
}

/// Requests that may be owed at a time; a client that pipelines more waits.
const MOST_OWED: usize = 4096;

/// Why a relay stopped.
#[derive(Debug, Error)]
pub enum Stop {
    /// The client closed its connection or sent Terminate.
    #[error("the client left")]
    ClientLeft,
    /// Reading from or writing to the client failed.
    #[error("lost the connection to the client")]
    ClientLost(#[source] io::Error),
    /// The client broke the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The server closed its connection.
    #[error("the server closed the connection")]
    ServerLeft,
    /// The server says that it ends the connection, because it stops or crashed. The body of its ErrorResponse.
    #[error("the server shuts down")]
    ServerEnds(Vec<u8>),
    /// A transaction that runs again has another answer than the client has heard.
    #[error("the transaction that runs again is another one")]
    Differs,
    /// The client has ended its own session: its server process, whose ErrorResponse has this body, or the session by
    /// its number.
    #[error("the client has ended its session")]
    EndedItself(Option<Vec<u8>>),
    /// The server's host is lost, and nothing may be said to it any more.
    #[error("the host of the server connection is lost")]
    ServerCut,
    /// Reading from or writing to the server failed.
    #[error("lost the connection to the server")]
    ServerLost(#[source] io::Error),
    /// The server broke the protocol.
    #[error("the server sent something that was not asked for")]
    ServerViolation(#[from] Unexpected),
    /// A standby cannot serve the batch. The body of its ErrorResponse.
    #[error("the standby cannot serve this")]
    Misrouted(Vec<u8>),
    /// The server's framing is broken.
    #[error("the server sent an impossible message")]
    ServerFraming(#[source] FrameError),
    /// More notifications arrived for the client than may wait for it.
    #[error("too many notifications wait for the client")]
    NotifyQueueFull,
    /// A statement of ours failed on the server. The body of its ErrorResponse.
    #[error("the server refused what the session needs")]
    OursFailed(Vec<u8>),
}

/// How a client broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// A length is impossible.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A body is not what it should be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// There is no such message.
    #[error("invalid frontend message type {0}")]
    UnknownTag(u8),
    /// The message is too long to be held whole.
    #[error("message of {length} bytes is longer than max_message ({limit} bytes)")]
    TooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many named statements.
    #[error("more than {0} prepared statements (max_client_prepared_statements)")]
    TooManyStatements(usize),
}

/// A client and a server connection, joined.
#[derive(Debug)]
pub struct Relay {
    /// Keep the server connection when it is settled (session mode).
    pub keep: bool,
    /// It leads to a standby: what comes behind the batch may have to go elsewhere, so it is not sent.
    pub confined: bool,
    /// Which statements may leave something behind that their texts do not show, and what stands for these when they are
    /// judged.
    pub hidden: (Hidden, u64),
    /// It stops where the client goes on with the transaction, which may be elsewhere.
    pub parts: bool,
    /// It stops where the client goes on with a transaction that has failed: what ends it may begin one that writes.
    pub leaves_failed: bool,
    /// Nothing is told to the client before it is clear that the standby can serve the batch.
    pub guess: bool,
    /// Told when the server is ready after something that may have written, before the client is; and the clock.
    pub clock: Option<WriteClock>,
    /// When that was last.
    pub acknowledged: u64,
    /// A transaction is over that changed the catalogue, temporary objects aside.
    pub changed_catalog: bool,
    /// The first batch surely writes nothing.
    pub reads: bool,
    /// What a `SHOW` of our own settings says to a session that has set nothing.
    pub own: OwnDefaults,
    /// Which commits must be known if they fail to be answered.
    pub resolve: Resolve,
    up: upstream::Upstream,
    down: downstream::Downstream,
    replay: replay::Replay,
    /// What the client says and hears in its transaction, where that can run again.
    journal: Option<Box<Journal>>,
    /// The transaction that runs again, while the client has heard its answers.
    retelling: Option<Box<Retelling>>,
    limits: RelayLimits,
    /// Counts for statistics.
    pub traffic: Traffic,
    /// What has been counted of that.
    counted: Traffic,
    /// Which pool the server connection is of.
    pub pool: PoolNumber,
    /// For whom statements are parsed ([`Statement::note_parsed`](crate::statements::Statement::note_parsed)).
    pub mark: u64,
    batch: Batch,
    /// SQLSTATEs of errors that the client was sent; whoever counts them takes them out.
    pub errors: Vec<[u8; 5]>,
    /// What the client's statements mean for others; whoever sees to that takes it out.
    pub outward: Vec<Outward>,
    /// What was sent and is not answered may end the transaction.
    ending: Option<Ending>,
    /// How far the commit is that is under way.
    commit: Commit,
    /// What was bound last commits.
    commits: bool,
    /// Something bound in this batch may change rows.
    changes_rows: bool,
    /// What the unnamed portal was bound to, and the client's name for it, if its description is news.
    untold: Option<(StatementId, Box<[u8]>)>,
}

/// What a statement means for others than the session that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outward {
    /// It ends or cancels a session.
    Disturb(SessionId, Disturbs),
    /// It ends the server process with this number, and so the session that was told that it is its own.
    EndProcess(NonZeroU32),
    /// It needs this database for itself.
    NeedsAlone(String),
    /// It makes this role somebody else.
    Renames(String),
}

/// Where the moment is kept at which the last write of any session was acknowledged.
#[derive(Debug)]
pub struct WriteClock {
    /// That moment.
    pub newest: Arc<AtomicU64>,
    /// The present.
    pub now: fn() -> u64,
}

/// What passed through a relay.
#[derive(Debug, Default, Clone, Copy)]
pub struct Traffic {
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// Batches that the server said it was ready after.
    pub queries: u64,
    /// Parses from the client.
    pub client_parses: u64,
    /// Parses that we sent.
    pub server_parses: u64,
    /// Binds.
    pub binds: u64,
}

/// The batch that is under way, for statistics.
#[derive(Debug, Default)]
struct Batch {
    shape: OfBatch,
    /// Of the statement that was bound last.
    bound: Option<Rc<Shape>>,
    rows: u64,
    errors: u64,
    /// Bytes that had been sent to the client when it began.
    sent: u64,
}

impl Traffic {
    const fn since(self, before: Self) -> Self {
        Self {
            received: self.received - before.received,
            sent: self.sent - before.sent,
            queries: self.queries - before.queries,
            client_parses: self.client_parses - before.client_parses,
            server_parses: self.server_parses - before.server_parses,
            binds: self.binds - before.binds,
        }
    }
}

impl Relay {
    /// A relay that has seen nothing yet.
    #[must_use]
    pub fn new(limits: RelayLimits, keep: bool) -> Self {
        Self {
            keep,
            confined: false,
            hidden: (Hidden::Nothing, 0),
            parts: false,
            leaves_failed: false,
            guess: false,
            clock: None,
            acknowledged: 0,
            changed_catalog: false,
            reads: false,
            own: OwnDefaults { route: "auto", consistency: "session" },
            resolve: Resolve::default(),
            up: upstream::Upstream::default(),
            down: downstream::Downstream::default(),
            replay: replay::Replay::default(),
            journal: None,
            retelling: None,
            limits,
            traffic: Traffic::default(),
            counted: Traffic::default(),
            pool: 0,
            mark: 0,
            batch: Batch::default(),
            errors: Vec::new(),
            outward: Vec::new(),
            ending: None,
            commit: Commit::default(),
            commits: false,
            changes_rows: false,
            untold: None,
        }
    }

    /// Puts what must be set before anything that the client sends, if client and server differ.
    pub fn prepend_settings(&mut self, client: &ClientSide, server: &mut ServerConnection) {
        if server.doubt == Doubt::None && Rc::ptr_eq(&server.settings, &client.state.settings) {
            return;
        }
        let statements = server.change_settings(Some(client.session), &client.state.settings);
        if !statements.is_ascii() {
            // A server reads a message in the encoding that holds when it comes.
            let first = crate::parameters::encoding(&client.state.settings);
            self.prepend(server, &first, Effect::Settings);
        }
        if !statements.is_empty() {
            self.prepend(server, &statements, Effect::Settings);
        }
    }

    /// Puts statements of ours before anything that the client sends: `text` as a simple query whose replies are
    /// swallowed.
    pub fn prepend(&mut self, server: &mut ServerConnection, text: &str, effect: Effect) {
        self.up.out.ours(|out| hawser_wire::encode::query(out, text));
        server.queue.push(Request::Query, Fate::Swallow, Some(effect));
        server.unnamed = None;
    }

    /// Moves bytes both ways as far as they go.
    ///
    /// Ready when the server has answered everything and could serve somebody else (`Ok`), or when it cannot go
    /// on. Pending otherwise, with wakers registered on both sides.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Poll<Result<(), Stop>> {
        if let Some(listener) = &client.listener {
            listener.register(cx);
        }
        (self.up.awaited, self.down.awaited) = (false, false);
        loop {
            let sent = self.poll_upstream(cx, client, server, shared)?;
            let received = self.poll_downstream(cx, client, server, shared)?;
            if self.deliver_notifications(client, server)? {
                continue;
            }
            if self.up.parted && self.is_drained() {
                self.rest(client, server, shared);
                return Poll::Ready(Ok(()));
            }
            if self.is_at_rest(server) {
                if client.state.has_question() && !self.keep && self.ask(client, server, shared) {
                    continue;
                }
                if self.cover(client, server) {
                    continue;
                }
                if client.state.pins.is_empty() && !self.keep && !self.up.needs_server() {
                    if self.unlisten(server) {
                        continue;
                    }
                    self.rest(client, server, shared);
                    return Poll::Ready(Ok(()));
                }
            }
            if sent.is_pending() && received.is_pending() {
                self.rest(client, server, shared);
                return Poll::Pending;
            }
        }
    }

    /// Whether the client waits for the server, rather than the server for the client.
    #[must_use]
    pub fn is_busy(&self, server: &ServerConnection) -> bool {
        !server.queue.is_empty()
            || !self.up.out.is_empty()
            || !self.down.out.is_empty()
            || self.up.wait.is_some()
    }

    /// Whether there is something for the client that it does not read.
    #[must_use]
    pub fn waits_for_reader(&self) -> bool {
        !self.down.out.is_empty()
    }

    /// The batch is over: its shape and what it came to, but for what the relay does not know.
    pub fn take_batch(&mut self) -> (OfBatch, Outcome) {
        let batch = &mut self.batch;
        let outcome = Outcome {
            rows: std::mem::take(&mut batch.rows),
            errors: std::mem::take(&mut batch.errors),
            bytes: self.traffic.sent - std::mem::replace(&mut batch.sent, self.traffic.sent),
            ..Outcome::default()
        };
        (std::mem::take(&mut batch.shape), outcome)
    }

    /// What has passed since the last time.
    pub fn take_traffic(&mut self) -> Traffic {
        let passed = self.traffic.since(self.counted);
        self.counted = self.traffic;
        passed
    }

    /// Whether every byte of the server's has reached the client.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.down.out.is_empty() && self.down.input.is_none()
    }

    /// Whether a message to the server has been sent in part, so that nothing else can be said to it.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        self.up.piece > 0 || !self.up.out.is_empty() || self.down.piece > 0
    }

    /// Whether part of a message has been sent to the client, so that nothing of ours can be said to it.
    #[must_use]
    pub fn is_mid_reply(&self) -> bool {
        self.down.piece > 0 || !self.down.out.is_empty()
    }

    /// Delivers the whole messages that came before the loss of the server connection.
    pub fn poll_deliver(&mut self, cx: &mut Context<'_>, client: &mut ClientSide) -> Poll<io::Result<()>> {
        self.down.out.poll_drain(cx, &mut client.stream, self.down.input.as_mut())
    }

    /// Whether the client has been told anything.
    #[must_use]
    pub const fn has_told(&self) -> bool {
        self.down.told
    }

    /// Whether something was sent behind the first batch.
    #[must_use]
    pub const fn is_beyond(&self) -> bool {
        self.up.beyond
    }

    /// Whether it has stopped before a batch of the transaction that the first one began or belongs to.
    #[must_use]
    pub const fn has_parted(&self) -> bool {
        self.up.parted
    }

    /// Whether the server owes nothing, nothing is on its way, and nothing was sent that ties the transaction to it.
    #[must_use]
    pub fn may_part(&self, client: &ClientSide, server: &ServerConnection) -> bool {
        self.parts
            && server.status == TransactionStatus::InTransaction
            && server.queue.is_settled()
            && client.state.pins.is_empty()
            && !self.up.beyond
            && !self.is_mid_message()
            && self.down.out.is_empty()
    }

    /// The server has answered everything, outside a transaction, and everything has left.
    fn is_at_rest(&self, server: &ServerConnection) -> bool {
        server.queue.is_settled()
            && server.status == TransactionStatus::Idle
            && self.up.out.is_empty()
            && self.up.piece == 0
            && self.down.piece == 0
            && self.is_drained()
            && !self.replay.is_due()
    }

    /// Asks the server what the client left behind. The client has its answer already. False when there is nothing to
    /// ask.
    fn ask(&mut self, client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) -> bool {
        let Some(question) = client.state.put_question(shared) else { return false };
        // After a RESET the server has its own defaults, and what it says of those is not what the client has set.
        self.prepend_settings(client, server);
        self.prepend(server, &question, Effect::Asked(Vec::new()));
        // A setting of an application's that no function names is not in any view.
        server.doubt = Doubt::Of(client.session);
        // The answer may end the time in which the client's own names are the server's, too.
        self.up.barrier |= client.state.literal;
        true
    }

    /// Nothing more can be done until something arrives: gives blocks back that hold nothing, and says whether a cancel that
    /// comes meanwhile would hit settings of ours.
    fn rest(&mut self, client: &mut ClientSide, server: &ServerConnection, shared: &Shared) {
        let effect = server.queue.head().and_then(|head| head.effect.as_ref());
        server.cancels.set_misses(matches!(effect, Some(Effect::Settings)));
        give_empty(&mut client.input, shared);
        if self.up.out.is_empty()
            && let Some(input) = &mut client.input
        {
            input.shrink(&shared.buffers);
        }
        if self.down.out.is_empty() {
            give_empty(&mut self.down.input, shared);
        }
    }
}

/// Undoes what was assumed of a request that failed.
fn undo(effect: Effect, client: &mut ClientSide, server: &mut ServerConnection) {
    server.undo(&effect);
    match effect {
        Effect::Named(name, _) | Effect::NamedKnown(name) => _ = client.statements.forget(&name),
        Effect::Closed(name, statement) => client.statements.define(&name, statement),
        Effect::Unnamed(generation) => client.unnamed.forget(generation),
        Effect::Asked(_) => state::unanswered(client),
        _ => {}
    }
}

/// A request has succeeded.
fn confirm(effect: Effect, client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    server.confirm(&effect);
    match effect {
        Effect::Named(name, _) | Effect::NamedKnown(name) => client.statements.confirm(&name),
        Effect::Asked(rows) => state::answered(&rows, client, server, shared),
        Effect::Told(Told { statement, name: Some(name), columns }) => {
            client.statements.tell(&name, statement, columns);
        }
        _ => {}
    }
}

/// Gives an empty block back to the worker.
pub(crate) fn give_empty(slot: &mut Option<Buffer>, shared: &Shared) {
    if slot.as_ref().is_some_and(Buffer::is_empty)
        && let Some(buffer) = slot.take()
    {
        shared.buffers.give(buffer);
    }
}

#[cfg(test)]
mod tests;
