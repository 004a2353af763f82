//! What a session writes down as it goes, for whoever asks: counters of its pool, traces of itself, shapes of its queries.
//!
//! Times are those that the session has anyway: a transaction of one query looks at no clock for it.

use super::Session;
use crate::pins::PinReasons;
use crate::pool::{Member, Pool, count};
use crate::relay::Relay;
use crate::report::Doing;
use crate::shapes::{OfBatch, Outcome};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Times of a linked session.
pub(super) struct Watch {
    /// When it wanted its server connection.
    pub since: Instant,
    /// Whether it waited for the server, and whether it was between transactions, when the deadline was set.
    pub state: Option<(bool, bool)>,
    /// When the query began that the server works on.
    query: Option<Instant>,
}

impl Watch {
    /// How long a query took, if one is over.
    pub(super) fn time_query(&mut self, busy: bool, now: Instant) -> Option<Duration> {
        if busy {
            self.query.get_or_insert(now);
            return None;
        }
        self.query.take().map(|began| now.duration_since(began))
    }
}

impl Session {
    /// The session waited for a server connection.
    pub(super) fn note_wait(&self, pool: &Pool, waited: Duration) {
        pool.counters.wait_time.record(waited);
        self.handle.trace.waited.set(waited);
    }

    /// The session has a server connection.
    pub(super) fn note_begin(
        &self,
        pool: &Pool,
        relay: &mut Relay,
        member: &Member,
        since: Instant,
    ) -> Watch {
        member.card.client.set(Some(self.handle.id));
        member.card.lent.set(since);
        // What was read before there was a connection.
        relay.traffic.received = self.client.input.as_ref().map_or(0, |input| input.len() as u64);
        relay.pool = pool.number;
        Watch { since, state: None, query: Some(since) }
    }

    /// The session has let go of its server connection.
    pub(super) fn note_end(&self, pool: &Pool, relay: &mut Relay, member: &Member, watch: &Watch) {
        let now = Instant::now();
        count(&pool.counters.transactions, 1);
        pool.counters.transaction_time.record(now.duration_since(watch.since));
        let pinned = self.note_pins(pool);
        match watch.query {
            Some(query) => self.note_query(pool, relay, now.duration_since(query), pinned),
            None => self.note_traffic(pool, relay),
        }
        let (trace, client) = (&self.handle.trace, &self.client);
        trace.statements.set(u32::try_from(client.statements.len()).unwrap_or(u32::MAX));
        trace.doing.set(Doing::default());
        member.card.statements.set(member.server.statements.len());
        let mut settings = trace.settings.borrow_mut();
        if !settings.as_ref().is_some_and(|known| Rc::ptr_eq(known, &client.state.settings)) {
            *settings = Some(client.state.settings.clone());
        }
    }

    /// Counts a query, and what it came to for its shape.
    pub(super) fn note_query(&self, pool: &Pool, relay: &mut Relay, took: Duration, pinned: bool) {
        self.note_traffic(pool, relay);
        pool.counters.query_time.record(took);
        let waited = self.handle.trace.waited.take();
        let (shape, outcome) = relay.take_batch();
        if let OfBatch::One(shape) = shape {
            shape.record(Outcome { took, waited, pinned, ..outcome });
        }
    }

    /// Counts what has passed since the last time.
    fn note_traffic(&self, pool: &Pool, relay: &mut Relay) {
        pool.count_traffic(relay.take_traffic());
        for sqlstate in relay.errors.drain(..) {
            pool.counters.count_error(sqlstate);
        }
    }

    /// Counts reasons for a pin that came. True when one did.
    #[inline]
    pub(super) fn note_pins(&self, pool: &Pool) -> bool {
        self.handle.trace.note_pins(self.client.state.pins, &pool.counters)
    }

    /// The session has lost what it was pinned to, or ends.
    pub(super) fn note_unpinned(&self, pool: &Pool) {
        self.handle.trace.note_pins(PinReasons::default(), &pool.counters);
    }
}
