//! What an operator can see of a server connection while whoever has it works with it.

use crate::ids::SessionId;
use crate::server::connection::{CancelKey, ServerConnection};
use crate::stream::Ends;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Where a server connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Free.
    Idle,
    /// Lent.
    Lent,
    /// Between two clients.
    Resetting,
}

/// One server connection, seen from outside. The pool keeps a list of them; they go with the connections.
#[derive(Debug)]
pub struct Card {
    /// Its number in this process.
    pub id: u64,
    /// Where it is.
    pub stage: Cell<Stage>,
    /// Who has it.
    pub client: Cell<Option<SessionId>>,
    /// When it was last lent to a client.
    pub lent: Cell<Instant>,
    /// Statements that it has prepared.
    pub statements: Cell<usize>,
    /// When it was opened.
    pub opened: Instant,
    /// See [`ServerConnection::generation`].
    pub generation: u64,
    /// Both ends.
    pub ends: Ends,
    key: Rc<CancelKey>,
}

impl Card {
    /// A card for a connection that is new on this worker.
    #[must_use]
    pub fn new(server: &ServerConnection) -> Rc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Rc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            stage: Cell::new(Stage::Idle),
            client: Cell::new(None),
            lent: Cell::new(server.released),
            statements: Cell::new(server.statements.len()),
            opened: server.opened,
            generation: server.generation,
            ends: server.stream.ends(),
            key: server.cancel_key.clone(),
        })
    }

    /// Its process number on the server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.key.pid
    }
}

/// A server connection as a report has it.
#[derive(Debug, Clone)]
pub struct ServerReport {
    /// See [`Card::id`].
    pub id: u64,
    /// Where it is.
    pub stage: Stage,
    /// Who has it.
    pub client: Option<SessionId>,
    /// When it was last lent.
    pub lent: Instant,
    /// When it was opened.
    pub opened: Instant,
    /// It is closed as soon as it is free.
    pub outdated: bool,
    /// Statements that it has prepared.
    pub statements: usize,
    /// Both ends.
    pub ends: Ends,
    /// Its process number on the server.
    pub pid: u32,
}

impl Card {
    /// As it is now. Connections of another generation than `generation` are outdated.
    #[must_use]
    pub fn report(&self, generation: u64) -> ServerReport {
        ServerReport {
            id: self.id,
            stage: self.stage.get(),
            client: self.client.get(),
            lent: self.lent.get(),
            opened: self.opened,
            outdated: self.generation != generation,
            statements: self.statements.get(),
            ends: self.ends,
            pid: self.pid(),
        }
    }
}
