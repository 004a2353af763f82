//! What a session writes down as it goes, for whoever asks: counters of its pool, traces of itself, shapes of its queries.
//!
//! Times are those that the session has anyway: a transaction of one query looks at no clock for it.

use super::Session;
use super::handle::Timer;
use crate::pins::PinReasons;
use crate::pool::{Member, Pool, count};
use crate::relay::Relay;
use crate::report::Doing;
use crate::route::decide::Why;
use crate::shapes::{OfBatch, Outcome};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Times of a linked session.
pub(super) struct Watch {
    /// When it wanted its server connection.
    pub since: Instant,
    /// Whether it waited for the server, and whether it was between transactions, when the deadline was set.
    pub state: Option<(bool, bool)>,
    /// The first of its timeouts, and when that is.
    pub limit: Option<(Instant, Timer)>,
    /// When it got its server connection.
    lent: Instant,
    /// When the query began that the server works on.
    query: Option<Instant>,
    /// Since when the client does not read.
    unread: Option<Instant>,
    /// How long it did not before, during this query.
    dawdled: Duration,
}

/// Where the time of a query went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    /// The server worked.
    server: Duration,
    /// The client did not read.
    network: Duration,
}

impl Watch {
    /// Whether it was between two transactions when the deadline was set.
    pub(super) fn is_idle(&self) -> bool {
        self.state == Some((false, true))
    }

    /// Where the time of a query went, if one is over.
    pub(super) fn time_query(&mut self, busy: bool, now: Instant) -> Option<Spent> {
        if busy {
            self.query.get_or_insert(now);
            return None;
        }
        let whole = now.duration_since(self.query.take()?);
        let unread = self.unread.take().map_or(Duration::ZERO, |since| now.duration_since(since));
        let network = (std::mem::take(&mut self.dawdled) + unread).min(whole);
        Some(Spent { server: whole.saturating_sub(network), network })
    }

    /// The client reads what is there for it, or does not. A client that does is timed by no clock.
    #[inline]
    pub(super) fn note_client(&mut self, waits_for_reader: bool) {
        if waits_for_reader != self.unread.is_some() {
            self.turn();
        }
    }

    #[cold]
    fn turn(&mut self) {
        let now = Instant::now();
        match self.unread.take() {
            Some(since) => self.dawdled += now.duration_since(since),
            None => self.unread = Some(now),
        }
    }
}

impl Session {
    /// The batch waited for a standby that has seen enough, from `began` to `ended` after it came.
    pub(super) fn note_choice(&self, pool: &Pool, began: Duration, ended: Duration) {
        pool.counters.route_time.record(ended.saturating_sub(began));
        self.handle.trace.delayed.set(ended);
    }

    /// The session waited for a server connection, `ended` after the batch came.
    pub(super) fn note_wait(&self, pool: &Pool, ended: Duration) {
        let trace = &self.handle.trace;
        let waited = ended.saturating_sub(trace.delayed.replace(ended));
        pool.counters.wait_time.record(waited);
        trace.waited.set(waited);
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
        (relay.pool, relay.mark) = (pool.number, pool.mark);
        let lent = since + self.handle.trace.delayed.take();
        Watch {
            since,
            state: None,
            limit: None,
            lent,
            query: Some(lent),
            unread: None,
            dawdled: Duration::ZERO,
        }
    }

    /// The session has let go of its server connection.
    pub(super) fn note_end(
        &self,
        pool: &Pool,
        relay: &mut Relay,
        member: &Member,
        watch: &mut Watch,
        now: Instant,
    ) {
        count(&pool.counters.transactions, 1);
        pool.counters.transaction_time.record(now.duration_since(watch.lent));
        let pinned = self.note_pins(pool);
        match watch.time_query(false, now) {
            Some(spent) => self.note_query(pool, relay, spent, pinned),
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
    pub(super) fn note_query(&self, pool: &Pool, relay: &mut Relay, spent: Spent, pinned: bool) {
        self.note_traffic(pool, relay);
        pool.counters.query_time.record(spent.server);
        if !spent.network.is_zero() {
            pool.counters.network_time.record(spent.network);
        }
        let waited = self.handle.trace.waited.take();
        let reason = self.handle.trace.reason.take().map(Why::word);
        let (shape, outcome) = relay.take_batch();
        if let OfBatch::One(shape) = shape {
            shape.record(Outcome { took: spent.server, waited, pinned, reason, ..outcome });
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
        self.handle.process.borrow_mut().clone_from(&self.client.state.process);
        self.handle.trace.note_pins(self.client.state.pins, &pool.counters)
    }

    /// The session has lost what it was pinned to, or ends.
    pub(super) fn note_unpinned(&self, pool: &Pool) {
        self.handle.trace.note_pins(PinReasons::default(), &pool.counters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_which_the_client_does_not_read_is_not_the_servers() {
        let lent = Instant::now();
        let at = |millis| lent + Duration::from_millis(millis);
        let mut watch = Watch {
            since: lent,
            state: None,
            limit: None,
            lent,
            query: Some(lent),
            unread: Some(at(6)),
            dawdled: Duration::from_millis(1),
        };
        assert!(watch.time_query(true, at(8)).is_none(), "it is not over");
        let spent = watch.time_query(false, at(10)).unwrap();
        assert_eq!((spent.server, spent.network), (Duration::from_millis(5), Duration::from_millis(5)));
        assert!(watch.time_query(false, at(11)).is_none(), "it is told once");
        watch.time_query(true, at(20));
        let spent = watch.time_query(false, at(21)).unwrap();
        assert_eq!((spent.server, spent.network), (Duration::from_millis(1), Duration::ZERO));
    }
}
