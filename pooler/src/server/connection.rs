//! One live connection to a PostgreSQL server, and all we know about its state there.

use super::identity::{Identity, Row};
use crate::ids::{SessionId, StatementId};
use crate::parameters::ParameterSet;
use crate::statements::{About, Columns, Deed, Form, Presence, ServerStatements, Statement};
use crate::stream::buffer::SMALL;
use crate::stream::{Buffer, ParkedStream, SocketAddress, Stream};
use hawser_wire::backend::{self, TransactionStatus};
use hawser_wire::encode;
use hawser_wire::frame::{self, HEADER_LENGTH};
use hawser_wire::reply_queue::{Fate, ReplyQueue, Request};
use hawser_wire::tag::frontend;
use std::cell::Cell;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What holds once a request has succeeded; undone when it fails.
#[derive(Debug)]
pub enum Effect {
    /// The server has this statement.
    Prepared(Made),
    /// The server has this statement, which was sent before a simple query that needs it: if it fails, its error is
    /// that query's.
    PreparedAhead(Made),
    /// The client's Parse defined this name, and the server has the statement.
    Named(Box<[u8]>, Made),
    /// The client's Parse defined this name for a statement that the server had already, or has under this very name.
    NamedKnown(Box<[u8]>),
    /// The client closed this name, which meant the statement.
    Closed(Box<[u8]>, Arc<Statement>),
    /// We closed this statement on the server.
    Dropped(Arc<Statement>),
    /// A portal was bound to this statement.
    Bound(StatementId),
    /// A statement, or the portal bound to it, is described.
    Told(Told),
    /// A statement was bound whose rows look otherwise than the client was told.
    Outdated,
    /// The client's unnamed statement of this generation was parsed.
    Unnamed(u64),
    /// What the statements of the request do to the session.
    Does(Doing),
    /// The client's unnamed statement, parsed before, was sent again by us.
    UnnamedAgain,
    /// Tracked parameters were set by us. If that fails the connection is of no use.
    Settings,
    /// A statement of ours that is meant to fail.
    MustFail,
    /// A question of ours, in a batch of its own. In a transaction that has failed it fails, which is nobody's affair.
    Question,
    /// A statement of ours that may fail; what fails by it is told by the client's own.
    Ahead,
    /// A deferred BEGIN, a ROLLBACK or another statement of ours that must not fail.
    Ours,
    /// The server was asked what the client left behind; the rows of its answer so far.
    Asked(Vec<Vec<Option<String>>>),
    /// A simple query is described: what has no rows is not told.
    OfQuery,
    /// The server was asked which transaction this is; its answer so far.
    Identity(Option<Row>),
}

/// A statement that was sent to the server, in this batch.
#[derive(Debug, Clone)]
pub struct Made {
    /// Which.
    pub statement: Arc<Statement>,
    /// See [`ReplyQueue::batch`].
    pub batch: u64,
}

/// A statement that is being described.
#[derive(Debug)]
pub struct Told {
    /// Which.
    pub statement: StatementId,
    /// The client's name for it; `None` where it is us who ask.
    pub name: Option<Box<[u8]>>,
    /// What the server has said.
    pub columns: Option<Columns>,
}

/// A text that is being executed.
#[derive(Debug)]
pub struct Doing {
    /// What it does.
    pub deed: Arc<Deed>,
    /// How many of its statements are done.
    pub done: usize,
    /// The server process that it ends.
    pub ends: Option<NonZeroU32>,
}

impl Doing {
    /// One statement more is done.
    pub fn advance(&mut self) -> Done {
        self.done += 1;
        Done { deed: self.deed.clone(), at: self.done - 1, ends: self.ends }
    }
}

/// A statement of a text that is done.
#[derive(Debug)]
pub struct Done {
    /// What the text does.
    pub deed: Arc<Deed>,
    /// Which of its statements, from 0.
    pub at: usize,
    /// The server process that the text ends.
    pub ends: Option<NonZeroU32>,
}

/// What was done on a connection when it was new, and holds for every client.
#[derive(Debug, Default)]
pub struct Base {
    /// The connect query; empty for none.
    pub query: String,
    /// Names (in lower case) of what it set.
    pub settings: Vec<String>,
}

/// Removes what a session may have left beside settings and prepared statements.
const CLEAR: &str = "CLOSE ALL;UNLISTEN *;SELECT pg_catalog.pg_advisory_unlock_all();DISCARD TEMP;";

/// What we do not know about the settings of a server connection, and about what else was left there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doubt {
    /// We know them all.
    #[default]
    None,
    /// This session may have made some that no view shows. It finds them again here; nobody else may.
    Of(SessionId),
    /// Besides, it may have left anything else (a temporary table, a lock): the server was not asked.
    OfAll(SessionId),
    /// Nobody knows.
    Any,
}

/// Whose unnamed statement a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnnamedOwner {
    /// The session that parsed it.
    pub session: SessionId,
    /// Which of the session's unnamed statements it is.
    pub generation: u64,
}

/// How often it is looked whether settings are made, before a cancel request is sent.
const BETWEEN_AIMS: Duration = Duration::from_millis(1);

/// Cancel requests that are under way to one server connection. It is not lent again before they have arrived.
#[derive(Debug, Default)]
pub struct Cancels {
    count: Cell<u32>,
    doubtful: Cell<bool>,
    misses: Cell<bool>,
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

    /// Whether one would hit settings that go ahead of the client's statement: if those fail, nothing can go on there.
    pub fn set_misses(&self, misses: bool) {
        self.misses.set(misses);
    }

    /// Waits until one hits the client's statement, if any.
    pub async fn aim(&self) {
        while self.misses.get() {
            tokio::time::sleep(BETWEEN_AIMS).await;
        }
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

/// The portal in which we run a PREPARE inside of a client's batch, with its zero. Clients' portals are their own
/// affair, so one of this name is a client's own fault.
const MAKER: &[u8] = b"hawser_maker\0";

/// The PREPARE of a statement under our name.
fn prepare_text(statement: &Statement) -> Vec<u8> {
    let name = encode::ServerName::new(statement.id.0);
    [b"PREPARE ", name.as_bytes(), &statement.text].concat()
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
    /// Whether there may be more than that.
    pub doubt: Doubt,
    /// What the settings said that it should begin with.
    pub base: Arc<Base>,
    /// Whose sequence values it would tell: the session that last advanced sequences on it.
    pub sequences: Option<SessionId>,
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
    /// Which transaction is open on it, if anybody has asked.
    pub identity: Identity,
}

impl ServerConnection {
    /// Whether what has arrived while nobody asked is that the server stops, or the end of the connection.
    pub fn says_farewell(&mut self) -> bool {
        let mut said = Buffer::default();
        said.make_room(SMALL);
        let mut cx = Context::from_waker(Waker::noop());
        match self.stream.poll_read(&mut cx, &mut said) {
            Poll::Ready(Ok(0) | Err(_)) => return true,
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => return false,
        }
        let Ok(Some(header)) = frame::header(said.data()) else { return false };
        let body = said.data().get(HEADER_LENGTH..header.total().min(said.len())).unwrap_or_default();
        backend::is_farewell(header.tag, body)
    }

    /// The statements that make its settings `wanted`, for this session or for ourselves; empty when they are. They
    /// are taken for granted from now on.
    pub fn change_settings(&mut self, session: Option<SessionId>, wanted: &Rc<ParameterSet>) -> String {
        let mut statements = String::new();
        let known = match self.doubt {
            Doubt::None => true,
            Doubt::Of(other) | Doubt::OfAll(other) => session == Some(other),
            Doubt::Any => false,
        };
        if !known {
            crate::parameters::everything(&mut statements, &self.base.query, wanted);
            if !matches!(self.doubt, Doubt::Of(_)) {
                statements.push_str(CLEAR);
            }
            self.doubt = Doubt::None;
        } else if self.status != TransactionStatus::Idle {
            crate::parameters::difference_within(&mut statements, &self.settings, wanted);
        } else if !Rc::ptr_eq(&self.settings, wanted) {
            crate::parameters::difference(&mut statements, &self.settings, wanted);
        }
        self.settings = wanted.clone();
        statements
    }

    /// Appends what gives the server a statement that it lacks, with the replies owed to us; closes another one if
    /// there are `limit` already. It becomes part of the batch that is open.
    pub fn prepare(&mut self, out: &mut Vec<u8>, statement: &Arc<Statement>, limit: usize) {
        let made = self.make_room(out, statement, limit);
        let name = encode::ServerName::new(statement.id.0);
        let effect = Some(Effect::Prepared(made));
        match statement.form {
            Form::Parse => {
                encode::parse(out, name.as_bytes(), &statement.text, &statement.types);
                self.owe(Request::Parse, effect);
            }
            Form::Prepare => {
                self.unnamed = None;
                encode::parse(out, b"", &prepare_text(statement), &[0, 0]);
                encode::message(out, frontend::BIND, |out| {
                    out.extend_from_slice(MAKER);
                    out.extend_from_slice(&[0; 7]);
                });
                encode::message(out, frontend::EXECUTE, |out| {
                    out.extend_from_slice(MAKER);
                    out.extend_from_slice(&[0; 4]);
                });
                encode::message(out, frontend::CLOSE, |out| {
                    out.push(b'P');
                    out.extend_from_slice(MAKER);
                });
                self.owe(Request::Parse, None);
                self.owe(Request::Bind, None);
                self.owe(Request::Execute, effect);
                self.owe(Request::Close, None);
            }
        }
    }

    /// As [`Self::prepare`], before a simple query: whatever becomes of it, the query is run.
    pub fn prepare_ahead(&mut self, out: &mut Vec<u8>, statement: &Arc<Statement>, limit: usize) {
        let made = self.make_room(out, statement, limit);
        let name = encode::ServerName::new(statement.id.0);
        let effect = Some(Effect::PreparedAhead(made));
        match statement.form {
            Form::Parse => {
                encode::parse(out, name.as_bytes(), &statement.text, &statement.types);
                out.extend_from_slice(encode::SYNC);
                self.owe(Request::Parse, effect);
                self.owe(Request::Sync, None);
            }
            Form::Prepare => {
                encode::message(out, frontend::QUERY, |out| {
                    encode::c_string(out, &prepare_text(statement));
                });
                self.unnamed = None;
                self.owe(Request::Query, effect);
            }
        }
    }

    /// Appends what takes the name of a statement that the server lacks, and is nothing but a name: an empty text. It
    /// becomes part of the batch that is open, or comes before a simple query (`ahead`).
    pub fn occupy(&mut self, out: &mut Vec<u8>, statement: &Arc<Statement>, limit: usize, ahead: bool) {
        self.make_room(out, statement, limit);
        self.statements.spoil(statement.id);
        let name = encode::ServerName::new(statement.id.0);
        encode::parse(out, name.as_bytes(), b"", &[0, 0]);
        self.owe(Request::Parse, None);
        if ahead {
            out.extend_from_slice(encode::SYNC);
            self.owe(Request::Sync, None);
        }
    }

    /// The books and the Closes for one statement more.
    pub fn make_room(&mut self, out: &mut Vec<u8>, statement: &Arc<Statement>, limit: usize) -> Made {
        if self.statements.touch(statement.id) != Presence::Missing {
            self.close_statement(out, statement.clone());
        }
        let batch = self.queue.batch();
        if let Some(evicted) = self.statements.prepare(statement.clone(), batch, limit) {
            self.close_statement(out, evicted);
        }
        Made { statement: statement.clone(), batch }
    }

    /// Notes a request of ours; if the server will skip it, its effect is undone at once.
    fn owe(&mut self, request: Request, effect: Option<Effect>) {
        if let Some(skipped) = self.queue.push(request, Fate::Swallow, effect) {
            self.undo(&skipped);
        }
    }

    /// Appends a Close of one of our statements, with the reply owed to us. If the server skips it, the statement
    /// is still there.
    pub fn close_statement(&mut self, out: &mut Vec<u8>, statement: Arc<Statement>) {
        let name = encode::ServerName::new(statement.id.0);
        encode::statement_target(out, frontend::CLOSE, name.as_bytes());
        self.statements.forget(statement.id);
        self.owe(Request::Close, Some(Effect::Dropped(statement)));
    }

    /// A request has succeeded.
    pub fn confirm(&mut self, effect: &Effect) {
        match effect {
            Effect::Prepared(made) | Effect::PreparedAhead(made) | Effect::Named(_, made) => {
                self.statements.confirm(made.statement.id, made.batch);
            }
            Effect::Told(told) => self.statements.describe(told.statement, told.columns),
            Effect::Identity(Some(row)) => self.identity = Identity::Known(row.clone()),
            _ => {}
        }
    }

    /// Takes back what was assumed of a request that failed.
    pub fn undo(&mut self, effect: &Effect) {
        match effect {
            Effect::Prepared(made) | Effect::PreparedAhead(made) | Effect::Named(_, made) => {
                self.statements.fail(made.statement.id, made.batch);
            }
            Effect::Dropped(statement) => self.statements.restore(statement.clone()),
            Effect::UnnamedAgain => self.unnamed = None,
            // The client may have parsed another one since.
            Effect::Unnamed(generation) => {
                self.unnamed = self.unnamed.filter(|owner| owner.generation != *generation);
            }
            Effect::Does(doing) => {
                for about in doing.deed.about.iter().skip(doing.done) {
                    if let About::Makes(statement) = about {
                        self.statements.spoil(statement.id);
                    }
                }
            }
            Effect::Settings | Effect::Ours => self.tainted = true,
            Effect::Identity(_) => self.identity = Identity::Unknown,
            Effect::NamedKnown(_)
            | Effect::Closed(..)
            | Effect::Bound(_)
            | Effect::Told(_)
            | Effect::Outdated
            | Effect::MustFail
            | Effect::Question
            | Effect::Ahead
            | Effect::OfQuery
            | Effect::Asked(_) => {}
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
            doubt: self.doubt,
            base: self.base,
            sequences: self.sequences,
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
    doubt: Doubt,
    base: Arc<Base>,
    sequences: Option<SessionId>,
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
            doubt: self.doubt,
            base: self.base,
            sequences: self.sequences,
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
            identity: Identity::Unknown,
        })
    }
}
