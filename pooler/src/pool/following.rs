//! A pool follows the topology: it leads to the primary, wherever that is, or to one standby.
//!
//! A connection is lent only while the pool leads to where it was opened, so that nothing is ever sent to a host that
//! was the primary once. While there is no primary, clients wait in the pool's queue, and are served in its order when
//! there is one again.

use super::halt::Stance;
use super::lead::{Lead, Origin};
use super::{Member, Pool, PoolError};
use crate::config::settings::Target;
use crate::ids::{ClusterId, PoolHost};
use crate::server::dial::{DialError, DialPlan};
use crate::server::exchange::ExchangeError;
use crate::topology::{Moment, Offer, Snapshot};
use hawser_wire::sqlstate;
use std::rc::Rc;
use std::sync::Arc;

impl Pool {
    /// The pool's database is of this cluster, or of none that is watched.
    pub fn join(self: &Rc<Self>, cluster: Option<ClusterId>) {
        self.cluster.set(cluster);
        let newest = cluster.and_then(|cluster| self.surroundings.topology.of(cluster));
        match newest {
            Some(snapshot) => self.follow(&snapshot),
            None => {
                *self.snapshot.borrow_mut() = None;
                self.take_lead(Lead::Settings);
            }
        }
    }

    /// The cluster, if it is watched.
    #[must_use]
    pub const fn cluster(&self) -> Option<ClusterId> {
        self.cluster.get()
    }

    /// What is known of the cluster.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.borrow().clone()
    }

    /// Something changed in the pool's cluster.
    pub fn follow(self: &Rc<Self>, snapshot: &Arc<Snapshot>) {
        *self.snapshot.borrow_mut() = Some(snapshot.clone());
        self.take_lead(Lead::of(self.key.host, snapshot));
        let host = self.lead.borrow().origin().and_then(|origin| snapshot.host(origin.host));
        if let Some(host) = host
            && self.settle_suspicion(host.assured)
        {
            self.reopen();
        }
        self.offer_credential();
    }

    fn take_lead(self: &Rc<Self>, lead: Lead) {
        let moved = *self.lead.borrow() != lead;
        if !moved {
            return;
        }
        if let Lead::Hold(reason) = &lead {
            tracing::info!(pool = %self.key, ?reason, "work is held");
        } else if matches!(&*self.lead.borrow(), Lead::Hold(_)) {
            tracing::info!(pool = %self.key, waiting = self.counts().waiting, "work goes on");
        }
        *self.lead.borrow_mut() = lead;
        // What was suspected of the host before is known by now.
        self.settle_suspicion(Moment(u64::MAX));
        *self.failure.borrow_mut() = None;
        self.close_moved();
        if *self.lead.borrow() == Lead::Nowhere {
            self.dismiss(&Rc::new(PoolError::Nowhere));
        }
        self.reopen();
    }

    /// Closes idle connections that lead elsewhere.
    fn close_moved(&self) {
        let moved = self.ledger.borrow_mut().take_idle(usize::MAX, |member| !self.fits(member));
        for member in moved {
            self.close(member);
        }
    }

    /// Whether a connection leads where the pool does.
    #[inline]
    pub(super) fn fits(&self, member: &Member) -> bool {
        let lead = self.lead.borrow();
        lead.is_open() && self.stance.get() != Stance::Paused && member.origin == lead.origin()
    }

    /// Everybody who waits is told.
    pub(super) fn dismiss(&self, error: &Rc<PoolError>) {
        for ticket in self.ledger.borrow_mut().dismiss() {
            ticket.refuse(error.clone());
        }
        self.note_waiting();
    }

    /// Work waits, or soon may, because there is no primary, or may be none: not because the pool is in use.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(&*self.lead.borrow(), Lead::Hold(_))
            || self.suspicion.get().holds()
            || self.failure.borrow().as_ref().is_some_and(|failure| failure.may_move)
    }

    /// Points a dial at the pool's host.
    pub(super) fn aim(&self, plan: &mut DialPlan) -> Option<Origin> {
        match &*self.lead.borrow() {
            Lead::Host(origin, address) => {
                plan.hosts = vec![address.clone()];
                plan.preferred = Arc::default();
                if self.key.host != PoolHost::Primary {
                    plan.target = Target::Any;
                }
                Some(*origin)
            }
            Lead::Settings | Lead::Hold(_) | Lead::Nowhere => None,
        }
    }

    /// A dial failed. Whether that may pass: the primary is another host soon, for which the probes look at once, or the
    /// server comes back.
    pub(super) fn report_trouble(&self, error: &PoolError) -> bool {
        let PoolError::Dial(error) = error else { return false };
        if !is_trouble(error) {
            return false;
        }
        // A server alone that was there before is being restarted, most likely.
        let Some(snapshot) = self.snapshot() else { return self.counters.opened.get() > 0 };
        match self.lead.borrow().origin() {
            Some(origin) => {
                snapshot.bell.trouble(origin.host);
                true
            }
            // Whoever is found first is not known yet.
            None => snapshot.hosts.len() > 1,
        }
    }

    /// A write was acknowledged on a connection of this pool.
    #[inline]
    pub fn note_write(&self) {
        if let Some(snapshot) = &*self.snapshot.borrow() {
            snapshot.bell.wrote();
        }
    }

    /// Gives the probes what this pool logs in with, if they have nothing.
    pub fn offer_credential(&self) {
        let snapshot = self.snapshot.borrow();
        let Some(bell) = snapshot.as_ref().map(|snapshot| &snapshot.bell) else { return };
        if bell.lacks_credential() {
            let dial = &self.plan.borrow().dial;
            bell.offer_credential(Offer {
                user: dial.user.clone(),
                dbname: dial.dbname.clone(),
                credential: dial.credential.clone(),
            });
        }
    }
}

/// Whether a dial failed because of the host, and not because of who dialled.
fn is_trouble(error: &DialError) -> bool {
    match error {
        DialError::Timeout(_)
        | DialError::Connect { .. }
        | DialError::NoPrimary
        | DialError::Tls(_)
        | DialError::Exchange(ExchangeError::Lost(_) | ExchangeError::Ended(_)) => true,
        DialError::Exchange(ExchangeError::Refused(body)) => {
            sqlstate::is_of_stopping_server(hawser_wire::backend::error_fields(body).sqlstate)
        }
        _ => false,
    }
}
