//! A session that goes on on another worker (`design/balance.md`).
//!
//! It leaves between two transactions, when it has nothing that belongs to its thread: no block of bytes, no server
//! connection, nothing that pins it, no LISTEN. Its number stays, and with it the worker that others look for it at:
//! that knows where it is ([`Services::residence`]).

use super::Session;
use super::handle::Handle;
use super::refusal::Refusal;
use super::routing::{self, Routing};
use super::services::{Registration, Services};
use crate::balance::Passage;
use crate::config::settings::PoolMode;
use crate::ids::WorkerId;
use crate::mailbox::{Guest, UnnamedText};
use crate::pool::Pool;
use crate::relay::{ClientSide, Gist, SessionState, Unnamed, UnnamedStatement};
use crate::runtime::Runtime;
use crate::stream::ParkedStream;
use std::rc::Rc;

/// Why a session could not go on where it came to.
#[derive(Debug)]
pub enum Homeless {
    /// The connection to its client is lost.
    Lost(std::io::Error),
    /// Its database is gone. The client is to be told on this stream.
    NoDatabase(ParkedStream, Refusal),
}

impl Session {
    /// Where it should go on, if somebody wants that and it can.
    #[inline]
    pub(super) fn departs(&self) -> Option<(WorkerId, Passage)> {
        if self.departures.are_wanted() { self.look_for_destination() } else { None }
    }

    #[cold]
    fn look_for_destination(&self) -> Option<(WorkerId, Passage)> {
        let plan = self.pool.plan();
        let feeds = Runtime::spread(plan.size, plan.mode);
        let to = self.departures.destination(self.handle.came.elapsed(), feeds)?;
        if !self.may_move() {
            return None;
        }
        Some((WorkerId(to), self.departures.depart()?))
    }

    /// Whether everything that it has can go with it.
    fn may_move(&self) -> bool {
        let ClientSide { stream, input, state, listener, .. } = &self.client;
        input.is_none()
            && listener.is_none()
            && stream.is_flushed()
            && state.is_at_rest()
            && self.deferred.is_none()
            && self.skip.is_none()
            && self.rerun.is_none()
            && self.gone.is_empty()
            && self.handle.is_left_alone()
            && self.handle.process.borrow().is_none()
            && self.pool.plan().mode != PoolMode::Session
    }

    /// Takes it off this thread.
    ///
    /// # Errors
    /// The runtime could not let go of the socket.
    pub(super) fn park(self) -> std::io::Result<Guest> {
        let Self { client, pool, handle, timeouts, routing, .. } = self;
        let ClientSide { session, stream, statements, unnamed, state, .. } = client;
        Ok(Guest {
            id: session,
            key: handle.key().into(),
            about: handle.about().cloned(),
            requested: handle.trace.requested.get(),
            stream: stream.park()?,
            pool: pool.key.clone(),
            credential: pool.plan().dial.credential.clone(),
            timeouts: (*timeouts).clone(),
            statements,
            generation: unnamed.generation,
            unnamed: unnamed.statement.map(|kept| UnnamedText { rest: kept.rest, deed: kept.deed }),
            settings: (*state.settings).clone(),
            defaults: (**state.defaults()).clone(),
            values: state.values,
            choice: routing.map(|routing| routing.memory()),
        })
    }

    /// A session that another worker has sent, at rest as it was there.
    ///
    /// # Errors
    /// Why it cannot go on here.
    pub fn settle(guest: Guest, services: &Rc<Services>) -> Result<(Self, Registration), Homeless> {
        let Some(pool) = pool_of(&guest, services) else {
            let database = guest.pool.database;
            return Err(Homeless::NoDatabase(guest.stream, Refusal::UnknownDatabase(database)));
        };
        let stream = guest.stream.unpark().map_err(Homeless::Lost)?;
        let registration = services.enlist(guest.id, guest.key);
        let handle = registration.handle.clone();
        let interner = &services.shared.local.interner;
        let settings = interner.intern(guest.settings);
        let defaults = interner.intern(guest.defaults);
        let state = SessionState::resumed(settings.clone(), defaults, guest.values);
        tell_handle(&handle, guest.about, guest.requested, guest.statements.len());
        *handle.trace.settings.borrow_mut() = Some(settings);
        let statement = guest.unnamed.map(|text| Box::new(unnamed(text, &pool, services)));
        let client = ClientSide {
            session: guest.id,
            stream,
            input: None,
            statements: guest.statements,
            unnamed: Unnamed { generation: guest.generation, statement },
            state,
            listener: None,
        };
        let routing = guest.choice.and_then(|choice| Routing::remembered(services, &pool, choice));
        let known = routing::known(services, &pool);
        let lent = (services.shared.clone(), services.departures.clone());
        let session = Self::new(client, pool, lent, handle, guest.timeouts, (routing, known));
        Ok((session, registration))
    }
}

/// The pool on this worker that a session uses.
fn pool_of(guest: &Guest, services: &Services) -> Option<Rc<Pool>> {
    services.pools.find(&guest.pool).or_else(|| {
        let runtime = services.runtime();
        let database = runtime.database(&guest.pool.database)?;
        services.pools.pool(&guest.pool, database, guest.credential.clone())
    })
}

fn tell_handle(
    handle: &Handle,
    about: Option<crate::report::About>,
    requested: Option<std::time::Instant>,
    statements: usize,
) {
    if let Some(about) = about {
        handle.introduce(about);
    }
    handle.trace.requested.set(requested);
    handle.trace.statements.set(u32::try_from(statements).unwrap_or(u32::MAX));
}

/// The unnamed statement, with what this worker counts of it.
fn unnamed(text: UnnamedText, pool: &Pool, services: &Services) -> UnnamedStatement {
    let UnnamedText { rest, deed } = text;
    let end = memchr::memchr(0, &rest).unwrap_or(rest.len());
    let Gist { ending, shape } =
        Gist::of(pool.number, rest.get(..end).unwrap_or_default(), &services.shared.shapes);
    UnnamedStatement { rest, deed, ending, shape }
}
