//! What one pool on one worker has counted: cells that its worker alone touches, read when somebody asks. Pure.

use crate::pins::{PinReason, PinReasons};
use crate::stopwatch::{Stopwatch, Times, count};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

/// Counters of one pool on one worker; they only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections lent.
    pub assignments: Cell<u64>,
    /// Transactions ended.
    pub transactions: Cell<u64>,
    /// Batches answered.
    pub queries: Cell<u64>,
    /// Bytes from clients.
    pub received: Cell<u64>,
    /// Bytes to clients.
    pub sent: Cell<u64>,
    /// Parses by clients.
    pub client_parses: Cell<u64>,
    /// Parses sent to servers.
    pub server_parses: Cell<u64>,
    /// Binds.
    pub binds: Cell<u64>,
    /// Server connections opened.
    pub opened: Cell<u64>,
    /// Server connections closed.
    pub closed: Cell<u64>,
    /// Lost transactions and statements that were put back to run again.
    pub reruns: Cell<u64>,
    /// Those that could not go on from there.
    pub failed_reruns: Cell<u64>,
    /// How long connections were lent, as one session had them.
    pub transaction_time: Stopwatch,
    /// How long servers worked on a batch, without what is in `network_time`.
    pub query_time: Stopwatch,
    /// How long clients waited for a connection; those that did not wait are not in it.
    pub wait_time: Stopwatch,
    /// How long batches waited for a standby that has seen enough; those that did not wait are not in it.
    pub route_time: Stopwatch,
    /// How long clients did not read what was there for them; those that did not dawdle are not in it.
    pub network_time: Stopwatch,
    /// How long logins took, from accept on.
    pub login_time: Stopwatch,
    /// Times that a session was pinned, by reason.
    pub pins: [Cell<u64>; PinReason::ALL.len()],
    /// Microseconds for which sessions were pinned, by reason; each pin counts when it ends.
    pub pin_time: [Cell<u64>; PinReason::ALL.len()],
    errors: RefCell<BTreeMap<Sqlstate, u64>>,
}

/// A SQLSTATE.
pub type Sqlstate = [u8; 5];

/// Kinds of errors that are told apart; the rest is one kind.
const MOST_SQLSTATES: usize = 200;

/// What all other errors are counted as.
const OTHERS: Sqlstate = *b"other";

impl Counters {
    /// A client was sent an error.
    #[cold]
    pub fn count_error(&self, sqlstate: Sqlstate) {
        let mut errors = self.errors.borrow_mut();
        let known = errors.len() < MOST_SQLSTATES || errors.contains_key(&sqlstate);
        *errors.entry(if known { sqlstate } else { OTHERS }).or_default() += 1;
    }

    /// A session is pinned for `now`, and was for `before`. True when a reason came.
    #[cold]
    pub fn count_pins(&self, before: PinReasons, now: PinReasons) -> bool {
        let mut came = false;
        for (reason, counter) in PinReason::ALL.into_iter().zip(&self.pins) {
            if now.has(reason) && !before.has(reason) {
                count(counter, 1);
                came = true;
            }
        }
        came
    }

    /// A pin has ended that held for so long.
    #[cold]
    pub fn count_pin_time(&self, reason: PinReason, time: Duration) {
        if let Some(counter) = self.pin_time.get(reason as usize) {
            count(counter, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Tally {
        Tally {
            assignments: self.assignments.get(),
            transactions: self.transactions.get(),
            queries: self.queries.get(),
            received: self.received.get(),
            sent: self.sent.get(),
            client_parses: self.client_parses.get(),
            server_parses: self.server_parses.get(),
            binds: self.binds.get(),
            opened: self.opened.get(),
            closed: self.closed.get(),
            reruns: self.reruns.get(),
            failed_reruns: self.failed_reruns.get(),
            transaction_time: self.transaction_time.read(),
            query_time: self.query_time.read(),
            wait_time: self.wait_time.read(),
            route_time: self.route_time.read(),
            network_time: self.network_time.read(),
            login_time: self.login_time.read(),
            pins: std::array::from_fn(|place| self.pins.get(place).map_or(0, Cell::get)),
            pin_time: std::array::from_fn(|place| self.pin_time.get(place).map_or(0, Cell::get)),
            errors: self.errors.borrow().clone(),
        }
    }
}

/// [`Counters`] as they were at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Counters")]
pub struct Tally {
    pub assignments: u64,
    pub transactions: u64,
    pub queries: u64,
    pub received: u64,
    pub sent: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
    pub opened: u64,
    pub closed: u64,
    pub reruns: u64,
    pub failed_reruns: u64,
    pub transaction_time: Times,
    pub query_time: Times,
    pub wait_time: Times,
    pub route_time: Times,
    pub network_time: Times,
    pub login_time: Times,
    pub pins: [u64; PinReason::ALL.len()],
    pub pin_time: [u64; PinReason::ALL.len()],
    pub errors: BTreeMap<Sqlstate, u64>,
}

impl Tally {
    /// Adds what another worker has counted.
    pub fn add(&mut self, other: &Self) {
        self.assignments += other.assignments;
        self.transactions += other.transactions;
        self.queries += other.queries;
        self.received += other.received;
        self.sent += other.sent;
        self.client_parses += other.client_parses;
        self.server_parses += other.server_parses;
        self.binds += other.binds;
        self.opened += other.opened;
        self.closed += other.closed;
        self.reruns += other.reruns;
        self.failed_reruns += other.failed_reruns;
        self.transaction_time.add(&other.transaction_time);
        self.query_time.add(&other.query_time);
        self.wait_time.add(&other.wait_time);
        self.route_time.add(&other.route_time);
        self.network_time.add(&other.network_time);
        self.login_time.add(&other.login_time);
        for (mine, theirs) in self.pins.iter_mut().zip(other.pins) {
            *mine += theirs;
        }
        for (mine, theirs) in self.pin_time.iter_mut().zip(other.pin_time) {
            *mine += theirs;
        }
        for (sqlstate, more) in &other.errors {
            *self.errors.entry(*sqlstate).or_default() += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_invents_errors_fills_no_memory() {
        let counters = Counters::default();
        for number in 0..10_000u32 {
            let digits = format!("{number:05}");
            counters.count_error(digits.as_bytes().try_into().unwrap());
        }
        let errors = counters.read().errors;
        assert_eq!(errors.len(), MOST_SQLSTATES + 1);
        assert_eq!(errors[&OTHERS], 10_000 - MOST_SQLSTATES as u64);
    }

    #[test]
    fn a_pin_counts_once_until_it_is_gone() {
        let counters = Counters::default();
        let mut pinned = PinReasons::default();
        pinned.add(PinReason::Listen);
        counters.count_pins(PinReasons::default(), pinned);
        counters.count_pins(pinned, pinned);
        assert_eq!(counters.read().pins.iter().sum::<u64>(), 1);
    }
}
