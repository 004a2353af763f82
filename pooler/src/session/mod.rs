//! One client, from its first byte to its end.
//!
//! `greeting` reads the startup packet, `login` proves who it is, and then a [`Session`] goes through its `cycle`:
//! idle -> link -> relay -> release. One task per session; it borrows, decides, drops the borrow, and only then
//! waits. `refusal` is the only place that turns an internal error into words for the client.

pub mod about;
mod batch;
mod cycle;
pub mod deferral;
mod doubt;
pub mod end;
pub mod greeting;
pub mod handle;
mod homing;
mod idle;
pub mod login;
mod loss;
pub mod moving;
mod notes;
mod outcome;
mod outward;
mod queue;
pub mod refusal;
mod replication;
mod rerun;
mod routing;
pub mod services;
mod words;

use crate::balance::{Departures, Passage};
use crate::config::settings::Timeouts;
use crate::ids::WorkerId;
use crate::mailbox::Guest;
use crate::pins::PinReasons;
use crate::pool::Pool;
use crate::relay::{ClientSide, Shared};
use crate::route::Known;
use cycle::Cycle;
use end::End;
use handle::Handle;
use rerun::Rerun;
use routing::Routing;
use std::rc::Rc;

/// A client that is logged in.
#[derive(Debug)]
pub struct Session {
    client: ClientSide,
    pool: Rc<Pool>,
    shared: Rc<Shared>,
    departures: Rc<Departures>,
    handle: Rc<Handle>,
    timeouts: Rc<Timeouts>,
    /// A transaction that the client was told has begun, and that no server has seen.
    deferred: Option<Deferred>,
    skip: Option<Skip>,
    /// A transaction that is in the input to run again.
    rerun: Option<Box<Rerun>>,
    /// Where statements go, if there is a choice.
    routing: Option<Box<Routing>>,
    /// What is known of the database, if there is none.
    known: Option<Box<Known>>,
    /// What was lost with a server connection, and the client does not know yet.
    gone: PinReasons,
    _presence: Presence,
}

/// A transaction without a server. The text is the client's BEGIN.
#[derive(Debug)]
enum Deferred {
    /// Nothing has happened in it.
    Begun(Box<str>),
    /// Its first statement was refused, so it has failed, as it would have on a server.
    Failed(Box<str>),
    /// Its server connection is lost. The client does not know yet.
    Lost,
}

/// What is left out of the client's stream: after a refusal, or because it means nothing.
#[derive(Debug, Clone, Copy)]
struct Skip {
    /// Bytes of the message that is being left out.
    bytes: usize,
    /// What comes after them.
    then: SkipEnd,
}

/// What comes after a message that is left out.
#[derive(Debug, Clone, Copy)]
enum SkipEnd {
    /// More is left out, up to the next Sync.
    Sync,
    /// The client is told that it may go on.
    Ready,
    /// The next message.
    Nothing,
}

/// Counts the client in its pool while it is here.
#[derive(Debug)]
struct Presence(Rc<Pool>);

impl Presence {
    fn new(pool: Rc<Pool>) -> Self {
        pool.count_client(true);
        Self(pool)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.count_client(false);
    }
}

/// Why a session is no longer served here.
#[derive(Debug)]
pub enum Leave {
    /// It has ended.
    Over(End),
    /// It goes on on another worker.
    Moves(WorkerId, Box<Guest>, Passage),
}

impl Session {
    /// One that is at rest.
    fn new(
        client: ClientSide,
        pool: Rc<Pool>,
        (shared, departures): (Rc<Shared>, Rc<Departures>),
        handle: Rc<Handle>,
        timeouts: Timeouts,
        (routing, known): (Option<Box<Routing>>, Option<Box<Known>>),
    ) -> Self {
        Self {
            client,
            _presence: Presence::new(pool.clone()),
            pool,
            shared,
            departures,
            handle,
            timeouts: Rc::new(timeouts),
            deferred: None,
            skip: None,
            rerun: None,
            routing,
            known,
            gone: PinReasons::default(),
        }
    }

    /// Serves the client until it ends, or goes on elsewhere.
    pub async fn run(mut self) -> Leave {
        let end = match self.cycle().await {
            Cycle::Moves(to, passage) => match self.park() {
                Ok(guest) => return Leave::Moves(to, Box::new(guest), passage),
                Err(error) => return Leave::Over(End::ClientLost(error.kind())),
            },
            Cycle::Over(end) => end,
        };
        self.client.stream.close();
        if let Some(block) = self.client.input.take() {
            self.shared.buffers.give(block);
        }
        Leave::Over(end)
    }
}

#[cfg(test)]
mod scripted;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the future of a session costs, beyond the session itself.
    fn size_of_run<F: std::future::Future>(_: impl Fn(Session) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of_run(Session::run) <= 1280, "{} bytes", size_of_run(Session::run));
    }
}
