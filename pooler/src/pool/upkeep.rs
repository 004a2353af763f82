//! What a pool does by the clock, a few times a second: closes what is old or long idle, keeps the minimum open,
//! opens the reserve for those who wait long, and tries again after a failure.

use super::{Member, Pool};
use crate::topology::Moment;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Pools that nobody has used for so long, and that have no connection, are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

impl Pool {
    /// One round of upkeep.
    pub fn upkeep(self: &Rc<Self>, now: Instant) {
        if self.settle_suspicion(Moment::NEVER) {
            self.reopen();
        }
        self.close_old(now);
        self.close_idle(now);
        self.retry(now);
        self.keep_minimum(now);
        self.open_reserve(now);
        self.note_idle();
    }

    /// Nobody uses this pool any more.
    #[must_use]
    pub fn is_forgotten(&self, now: Instant) -> bool {
        self.clients.get() == 0
            && self.open_here() == 0
            && self.counts().waiting == 0
            && now.duration_since(self.last_used.get()) > FORGOTTEN_AFTER
    }

    /// Closes idle connections that are expired, outdated, or closed by the server.
    fn close_old(&self, now: Instant) {
        let old = self.ledger.borrow_mut().take_idle(usize::MAX, |member: &mut Box<Member>| {
            let server = &mut member.server;
            self.is_outdated(server)
                || server.expires.is_some_and(|at| at <= now)
                || server.stream.has_arrivals()
        });
        for mut member in old {
            self.hear_out(&mut member);
            self.close(member);
        }
    }

    fn close_idle(&self, now: Instant) {
        let (limit, keep) = {
            let plan = self.plan.borrow();
            let Some(limit) = plan.idle_timeout else { return };
            (limit, plan.min_size)
        };
        let spare = self.budget.open().saturating_sub(keep);
        let idle = self
            .ledger
            .borrow_mut()
            .take_idle(spare, |member| now.duration_since(member.server.released) >= limit);
        for member in idle {
            self.close(member);
        }
    }

    fn retry(self: &Rc<Self>, now: Instant) {
        let due = self.failure.borrow().as_ref().is_none_or(|failure| failure.retry_at <= now);
        if due && self.counts().waiting > 0 {
            self.open_up_to(0, true);
        }
    }

    fn keep_minimum(self: &Rc<Self>, now: Instant) {
        let min_size =
            if self.stance.get() == super::halt::Stance::Open { self.plan.borrow().min_size } else { 0 };
        let used = self.clients.get() > 0 || self.open_here() > 0;
        let failing = self.failure.borrow().as_ref().is_some_and(|failure| failure.retry_at > now);
        if used
            && !self.shut.get()
            && !failing
            && self.budget.open() < min_size
            && self.counts().opening == 0
            && let Ok(permit) = self.budget.permit(self.surroundings.worker.0, 0)
        {
            self.open(permit);
        }
    }

    fn open_reserve(self: &Rc<Self>, now: Instant) {
        let (reserve, timeout) = {
            let plan = self.plan.borrow();
            (plan.reserve_size, plan.reserve_timeout)
        };
        let oldest = self.ledger.borrow().waiters().next().map(|ticket| ticket.since);
        if reserve > 0 && oldest.is_some_and(|since| now.duration_since(since) >= timeout) {
            self.open_up_to(reserve, true);
        }
    }
}
