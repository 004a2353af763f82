//! One live connection to a PostgreSQL server, and all we know about its state there.

use crate::ids::{SessionId, StatementId};
use crate::parameters::ParameterSet;
use crate::statements::{ServerStatements, Statement};
use crate::stream::{ParkedStream, SocketAddress, Stream};
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode;
use hawser_wire::reply_queue::ReplyQueue;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What holds once a request has succeeded; undone when it fails.
#[derive(Debug)]
pub enum Effect {
    /// The server has this statement.
    Prepared(StatementId),
    /// The client's Parse defined this name, and the server has the statement.
    Named(Box<[u8]>, StatementId),
    /// The client's Parse defined this name for a statement that the server had already.
    NamedKnown(Box<[u8]>),
    /// The client closed this name, which meant the statement.
    Closed(Box<[u8]>, Arc<Statement>),
    /// We closed this statement on the server.
    Dropped(Arc<Statement>),
    /// The client's unnamed statement was parsed.
    Unnamed,
    /// What the statements of the request do to the session, in order.
    Statements(std::collections::VecDeque<hawser_sql_router::effects::Effect>),
    /// The client's unnamed statement, parsed before, was sent again by us.
    UnnamedAgain,
    /// Tracked parameters were set by us. If that fails the connection is of no use.
    Settings,
    /// A statement of ours that is meant to fail.
    MustFail,
    /// A deferred BEGIN, a ROLLBACK or another statement of ours that must not fail.
    Ours,
}

/// Whose unnamed statement a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnnamedOwner {
    /// The session that parsed it.
    pub session: SessionId,
    /// Which of the session's unnamed statements it is.
    pub generation: u64,
}

/// Cancel requests that are under way to one server connection. It is not lent again before they have arrived.
#[derive(Debug, Default)]
pub struct Cancels {
    count: Cell<u32>,
    doubtful: Cell<bool>,
    arrived: tokio::sync::Notify,
}

impl Cancels {
    /// None is under way.
    #[must_use]
    #[inline]
    pub const fn is_quiet(&self) -> bool {
        self.count.get() == 0
    }

    /// One more is on its way until the guard is dropped.
    #[must_use]
    pub fn begin(self: &Rc<Self>) -> CancelUnderway {
        self.count.set(self.count.get() + 1);
        CancelUnderway(self.clone())
    }

    /// A request was given up that may still arrive, whoever has the connection then.
    pub fn doubt(&self) {
        self.doubtful.set(true);
    }

    /// See [`Self::doubt`].
    #[must_use]
    #[inline]
    pub const fn is_doubtful(&self) -> bool {
        self.doubtful.get()
    }

    /// Waits until none is under way.
    pub async fn quiet(&self) {
        while !self.is_quiet() {
            self.arrived.notified().await;
        }
    }
}

/// See [`Cancels::begin`].
#[derive(Debug)]
pub struct CancelUnderway(Rc<Cancels>);

impl Drop for CancelUnderway {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.arrived.notify_waiters();
    }
}

/// What it takes to cancel the query of a server connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// Where the server is.
    pub address: SocketAddress,
    /// Its process number there.
    pub pid: u32,
    /// The secret that goes with it (4 bytes, or up to 256 from protocol 3.2 on).
    pub secret: Arc<[u8]>,
}

/// A live connection: `dial` yields one that is logged in, or none.
#[derive(Debug)]
pub struct ServerConnection {
    /// Bytes to and from the server.
    pub stream: Stream,
    /// What the server owes.
    pub queue: ReplyQueue<Effect>,
    /// As of the last ReadyForQuery.
    pub status: TransactionStatus,
    /// What we set on it beyond its defaults.
    pub settings: Rc<ParameterSet>,
    /// What it has prepared.
    pub statements: ServerStatements,
    /// Whose unnamed statement it has.
    pub unnamed: Option<UnnamedOwner>,
    /// How its queries are cancelled.
    pub cancel_key: Rc<CancelKey>,
    /// Parameters that it reported at login, in order.
    pub welcome: Rc<Vec<(String, String)>>,
    /// Cancel requests to it that are under way.
    pub cancels: Rc<Cancels>,
    /// When it was logged in.
    pub opened: Instant,
    /// When it has lived long enough.
    pub expires: Option<Instant>,
    /// When it was last given back.
    pub released: Instant,
    /// Which order to reconnect it has seen (see `pool`).
    pub generation: u64,
    /// A LISTEN was sent on it, and no `UNLISTEN *` of ours since.
    pub listens: bool,
    /// Something was done on it that only its own client may see, and that no setting undoes.
    pub tainted: bool,
}

impl ServerConnection {
    /// Appends what gives the server a statement, with the reply owed to us; closes another one if there are
    /// `limit` already.
    pub fn prepare(&mut self, out: &mut Vec<u8>, statement: &Arc<Statement>, limit: usize) {
        use hawser_wire::reply_queue::{Fate, Request};
        if let Some(evicted) = self.statements.prepare(statement.clone(), limit) {
            self.close_statement(out, evicted);
        }
        let name = encode::ServerName::new(statement.id.0);
        encode::parse(out, name.as_bytes(), &statement.text, &statement.types);
        if self.queue.push(Request::Parse, Fate::Swallow, Some(Effect::Prepared(statement.id))).is_some() {
            self.statements.forget(statement.id);
        }
    }

    /// Appends a Close of one of our statements, with the reply owed to us. If the server skips it, the statement
    /// is still there.
    pub fn close_statement(&mut self, out: &mut Vec<u8>, statement: Arc<Statement>) {
        use hawser_wire::reply_queue::{Fate, Request};
        let name = encode::ServerName::new(statement.id.0);
        encode::statement_target(out, hawser_wire::tag::frontend::CLOSE, name.as_bytes());
        self.statements.forget(statement.id);
        let skipped = self.queue.push(Request::Close, Fate::Swallow, Some(Effect::Dropped(statement)));
        if let Some(Effect::Dropped(statement)) = skipped {
            self.statements.restore(statement);
        }
    }

    /// Leaves politely and at once.
    pub fn close(self) {
        let mut stream = self.stream;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = stream.poll_write(&mut cx, &[std::io::IoSlice::new(encode::TERMINATE)]);
        stream.close();
    }

    /// Takes the connection off this thread, to serve another worker. Only one that is idle and settled moves.
    ///
    /// # Errors
    /// The runtime could not let go of the socket; the connection is gone.
    pub fn park(self) -> std::io::Result<ParkedServer> {
        Ok(ParkedServer {
            stream: self.stream.park()?,
            settings: ParameterSet::clone(&self.settings),
            statements: self.statements,
            cancel_key: Rc::unwrap_or_clone(self.cancel_key),
            welcome: Vec::clone(&self.welcome),
            opened: self.opened,
            expires: self.expires,
            released: self.released,
            generation: self.generation,
        })
    }
}

/// A server connection between two workers.
#[derive(Debug)]
pub struct ParkedServer {
    stream: ParkedStream,
    settings: ParameterSet,
    statements: ServerStatements,
    cancel_key: CancelKey,
    welcome: Vec<(String, String)>,
    opened: Instant,
    expires: Option<Instant>,
    released: Instant,
    generation: u64,
}

impl ParkedServer {
    /// Goes on on this thread.
    ///
    /// # Errors
    /// The runtime could not take the socket.
    pub fn unpark(self, interner: &crate::parameters::Interner) -> std::io::Result<ServerConnection> {
        Ok(ServerConnection {
            stream: self.stream.unpark()?,
            queue: ReplyQueue::default(),
            status: TransactionStatus::Idle,
            settings: interner.intern(self.settings),
            statements: self.statements,
            unnamed: None,
            cancel_key: Rc::new(self.cancel_key),
            welcome: Rc::new(self.welcome),
            cancels: Rc::default(),
            opened: self.opened,
            expires: self.expires,
            released: self.released,
            generation: self.generation,
            listens: false,
            tainted: false,
        })
    }
}
