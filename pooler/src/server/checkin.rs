//! What becomes of a server connection that a client gives back. Pure.
//!
//! When in doubt, it is closed: the worst thing a pooler can do is to hand one client's state to another.

use super::connection::ServerConnection;
use hawser_wire::backend::TransactionStatus;
use std::time::Instant;

/// Why a server connection is closed instead of being lent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Discard {
    /// It still owes replies, or a message was sent in part.
    Unfinished,
    /// It is in a transaction.
    InTransaction,
    /// Something was done on it that cannot be undone.
    Tainted,
    /// It has lived long enough.
    Expired,
    /// RECONNECT, or its settings changed.
    Outdated,
    /// The pool leads to another host now.
    Moved,
    /// The server closed it.
    Lost,
    /// It said something while nobody asked.
    Unasked,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Lend it again.
    Reuse,
    /// Run the reset query first.
    Reset,
    /// Close it.
    Discard(Discard),
}

/// What the pool knows.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The time.
    pub now: Instant,
    /// Connections of another generation are outdated.
    pub generation: u64,
    /// The client was pinned, or in session mode: the session's state must go.
    pub needs_reset: bool,
}

/// Judges a connection whose client is done with it.
#[must_use]
#[inline]
pub fn verdict(server: &ServerConnection, circumstances: Circumstances) -> Verdict {
    if !server.queue.is_settled() {
        return Verdict::Discard(Discard::Unfinished);
    }
    if server.status != TransactionStatus::Idle {
        return Verdict::Discard(Discard::InTransaction);
    }
    if server.tainted || server.cancels.is_doubtful() {
        return Verdict::Discard(Discard::Tainted);
    }
    if server.generation != circumstances.generation {
        return Verdict::Discard(Discard::Outdated);
    }
    if server.expires.is_some_and(|at| at <= circumstances.now) {
        return Verdict::Discard(Discard::Expired);
    }
    if circumstances.needs_reset { Verdict::Reset } else { Verdict::Reuse }
}
