//! Whether new work is held because a connection broke as they do when a server stops. Pure.
//!
//! A server that stops ends its processes one after the other. Until a new connection to it is answered nobody knows
//! whether the next one still lives, so nothing is begun on any of them. One connection may also have ended alone, and
//! whoever can end connections must not be able to stop the others: what is held for nothing is held for a tenth of the
//! time at most.

use crate::topology::Moment;
use std::time::Duration;

/// The probes have answered by then, whatever the answer is.
const LONGEST: Duration = Duration::from_secs(5);

/// After a suspicion that came to nothing there is none for so many times as long as it lasted.
const REST: u32 = 9;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Suspicion {
    /// There never was one.
    #[default]
    None,
    /// Work is held since then.
    Held(Moment),
    /// Work goes on, and is not held again before then.
    Over(Moment),
}

impl Suspicion {
    /// A connection broke. Tells whether work is held for that from now on.
    pub(super) fn raise(&mut self, now: Moment) -> bool {
        let may = match *self {
            Self::None => true,
            Self::Held(_) => false,
            Self::Over(until) => now >= until,
        };
        if may {
            *self = Self::Held(now);
        }
        may
    }

    /// A connection that was begun at `assured` was answered. Tells whether work goes on for that.
    pub(super) fn settle(&mut self, assured: Moment, now: Moment) -> bool {
        let Self::Held(since) = *self else { return false };
        let settled = assured > since || now.since(since) >= LONGEST;
        if settled {
            *self = Self::Over(now.plus(now.since(since) * REST));
        }
        settled
    }

    /// Work is held.
    pub(super) const fn holds(self) -> bool {
        matches!(self, Self::Held(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment(milliseconds * 1_000_000)
    }

    #[test]
    fn work_is_held_until_a_connection_that_was_begun_later_is_answered() {
        let mut suspicion = Suspicion::default();
        assert!(suspicion.raise(at(100)) && suspicion.holds());
        assert!(!suspicion.raise(at(101)));
        assert!(!suspicion.settle(at(99), at(103)) && suspicion.holds());
        assert!(suspicion.settle(at(102), at(105)) && !suspicion.holds());
        assert!(!suspicion.settle(at(104), at(106)));
    }

    #[test]
    fn whoever_ends_connections_all_the_time_holds_work_for_a_tenth_of_it() {
        let mut suspicion = Suspicion::default();
        let mut held = 0;
        for now in 1..10_000 {
            suspicion.raise(at(now));
            // Each probe takes five milliseconds.
            suspicion.settle(at(now.saturating_sub(4)), at(now));
            held += u32::from(suspicion.holds());
        }
        assert!((900..=1100).contains(&held), "{held}");
    }

    #[test]
    fn nobody_waits_for_ever_for_an_answer() {
        let mut suspicion = Suspicion::default();
        suspicion.raise(at(0));
        assert!(!suspicion.settle(Moment::NEVER, at(4_999)));
        assert!(suspicion.settle(Moment::NEVER, at(5_000)));
    }
}
