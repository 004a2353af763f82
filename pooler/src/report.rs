//! What a worker tells the control thread when it asks, made of cells and maps that the worker has anyway.

use crate::ids::{PoolKey, SessionId};
use crate::pins::PinReason;
use crate::pool::PoolReport;
use crate::pool::card::ServerReport;
use crate::shapes::Told;
use crate::stream::Ends;
use hawser_wire::startup::Replication;
use std::time::Instant;

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Pins of the pools and clients with TLS, for which every session is looked at.
    pub sessions: bool,
    /// Each client.
    pub clients: bool,
    /// Each server connection.
    pub servers: bool,
    /// So many shapes of queries, those on which servers worked longest.
    pub shapes: usize,
}

/// Where batches went (`standby` or `primary`), why, and how many.
pub type Routed = (&'static str, &'static str, u64);

/// What is told.
#[derive(Debug, Default)]
pub struct WorkerReport {
    /// Its pools.
    pub pools: Vec<PoolReport>,
    /// Its clients that are logged in, if wanted.
    pub clients: Vec<ClientReport>,
    /// Its server connections, if wanted.
    pub servers: Vec<(PoolKey, ServerReport)>,
    /// Where batches went, and why.
    pub routes: Vec<Routed>,
    /// Shapes of queries, as many as are wanted.
    pub shapes: Vec<Told>,
    /// Clients that are logged in.
    pub sessions: usize,
    /// Clients that are logging in.
    pub logins: usize,
    /// Clients, and server connections, that use TLS.
    pub tls: (usize, usize),
    /// Blocks in reserve.
    pub free_blocks: usize,
}

/// What is true of a client from its login on.
#[derive(Debug, Clone)]
pub struct About {
    /// As whom it logged in.
    pub user: Box<str>,
    /// Database as it named it.
    pub database: Box<str>,
    /// Whether it replicates.
    pub replication: Replication,
    /// Both ends of its connection.
    pub ends: Ends,
    /// When it connected.
    pub connected: Instant,
}

/// What a session that has a server connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doing {
    /// The server works for it.
    #[default]
    Busy,
    /// Its client thinks, inside a transaction.
    Thinking,
    /// It is outside a transaction, and keeps the connection.
    Pinned,
}

/// A client as a report has it.
#[derive(Debug, Clone)]
pub struct ClientReport {
    /// Its number.
    pub id: SessionId,
    /// Who it is.
    pub about: About,
    /// Where it is.
    pub spot: Spot,
    /// When it last asked for something.
    pub requested: Instant,
    /// Why it keeps its server connection, and since when.
    pub pins: Vec<(PinReason, Instant)>,
    /// Named statements that it has.
    pub statements: usize,
    /// Its name for itself.
    pub application_name: String,
}

/// Where a session is, as a report has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// No server connection, and none is wanted.
    Detached,
    /// In the queue.
    Waiting,
    /// With a server connection.
    Linked {
        /// Number of the connection; none for replication.
        server: Option<u64>,
        /// Its process number on the server.
        pid: u32,
        /// What it does there.
        doing: Doing,
    },
}
