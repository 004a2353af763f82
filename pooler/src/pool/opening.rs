//! Opening connections: as many as clients wait for, as far as the budget goes, and what happens when it fails.

use super::budget::{Denied, Permit};
use super::ledger;
use super::{Failure, MOST_DIALS, Member, Pool, PoolError, count};
use crate::ids::{PoolHost, WorkerId};
use crate::mailbox::Order;
use crate::server::dial::{self, DialError};
use hawser_wire::{backend, sqlstate};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Pause after a failed dial where another host may take over.
const MOVE_PAUSE: Duration = Duration::from_millis(100);

impl Pool {
    /// Opens what is missing, as far as the budget goes.
    pub(super) fn open_more(self: &Rc<Self>) {
        self.open_up_to(0, false);
    }

    pub(super) fn open_up_to(self: &Rc<Self>, reserve: usize, patient: bool) {
        loop {
            if self.shut.get() {
                break;
            }
            let (shortage, opening) = {
                let ledger = self.ledger.borrow();
                (ledger.shortage(), ledger.counts().opening)
            };
            if shortage == 0 || opening >= MOST_DIALS {
                break;
            }
            match self.budget.permit(self.surroundings.worker.0, reserve) {
                Ok(permit) => self.open(permit),
                Err(denied) => {
                    self.ask_for_help(denied, patient);
                    break;
                }
            }
        }
        self.note_waiting();
    }

    pub(super) fn ask_for_help(&self, denied: Denied, patient: bool) {
        let worker = self.surroundings.worker;
        self.starving.set(true);
        self.note_waiting();
        if let Some(richest) = self.budget.richest(worker.0, patient) {
            self.surroundings.mailboxes.send(WorkerId(richest), Order::Lend(self.key.clone(), worker, None));
        } else if denied == Denied::Database {
            self.surroundings.mailboxes.send_all(|| Order::Evict(self.key.database.clone()));
        }
    }

    pub(super) fn open(self: &Rc<Self>, permit: Permit) {
        self.ledger.borrow_mut().begin_opening();
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let mut plan = pool.plan().dial.clone();
            plan.lifetime = pool.lifetime(plan.lifetime);
            let origin = pool.aim(&mut plan);
            let generation = pool.budget.generation();
            match dial::dial(&plan, &pool.surroundings.shared.local, generation).await {
                Ok(server) => {
                    *pool.failure.borrow_mut() = None;
                    count(&pool.counters.opened, 1);
                    let member = pool.enlist(server, origin, permit);
                    pool.admit(member);
                }
                Err(error) => {
                    drop(permit);
                    pool.ledger.borrow_mut().failed_to_open();
                    if origin == pool.lead.borrow().origin() {
                        pool.fail(error);
                    } else {
                        // Where it failed is not where we want to be any more.
                        pool.open_more();
                    }
                }
            }
        });
    }

    /// A connection that is new here goes to who waits, unless the pool leads elsewhere by now.
    pub(super) fn admit(self: &Rc<Self>, member: Box<Member>) {
        if self.fits(&member) && self.keeps_aside() {
            return self.keep_aside(member, ledger::From::Opening);
        }
        if self.fits(&member) {
            let granted = self.ledger.borrow_mut().opened(member);
            return self.deliver(granted);
        }
        self.ledger.borrow_mut().failed_to_open();
        self.close(member);
        self.open_more();
    }

    pub(super) fn lifetime(&self, lifetime: Option<Duration>) -> Option<Duration> {
        let jitter = self.plan.borrow().lifetime_jitter;
        lifetime.map(|lifetime| lifetime.mul_f64(1.0 + jitter * (2.0 * rand::random::<f64>() - 1.0)))
    }

    /// A dial failed: while no connection is open, everybody who waits learns why at once.
    pub(super) fn fail(self: &Rc<Self>, error: DialError) {
        tracing::warn!(pool = %self.key, error = %dial::explain(&error), "cannot open a server connection");
        let is_absent = error.refusal().is_some_and(|body| {
            backend::error_fields(body).sqlstate == sqlstate::INVALID_CATALOG_NAME.as_bytes()
        });
        let error = Rc::new(PoolError::Dial(error));
        let before = self.failure.borrow().as_ref().map_or(0, |failure| failure.count);
        let may_move = self.report_trouble(&error);
        let pause = self.plan.borrow().login_retry * 2u32.pow(before.min(4));
        let retry_at = Instant::now() + if may_move { MOVE_PAUSE } else { pause };
        *self.failure.borrow_mut() =
            Some(Failure { error: error.clone(), retry_at, count: before + 1, may_move, is_absent });
        if self.key.host != PoolHost::Primary {
            self.dismiss(&Rc::new(PoolError::Nowhere));
        } else if self.open_here() == 0 && !may_move {
            self.dismiss(&error);
        }
        self.note_waiting();
    }
}
