//! A connection of the primary broke: nothing new is begun on that host before it is known whether it stops.

use super::lead::Origin;
use super::{Member, Pool};
use crate::ids::{HostId, PoolHost};
use crate::mailbox::Order;
use crate::server::checkin::Discard;
use crate::topology::Moment;
use std::rc::Rc;

impl Pool {
    /// A connection that was lent broke: the probes look at its host at once. If it is the primary, no worker begins
    /// anything there before they have; a standby's reads go elsewhere by themselves.
    fn report_loss(&self, origin: Option<Origin>) {
        let (Some(Origin { host, .. }), Some(snapshot)) = (origin, self.snapshot()) else { return };
        let since = Moment::now();
        if !self.suspect(host, since) {
            return snapshot.bell.trouble(host);
        }
        tracing::info!(pool = %self.key, %host, "a connection broke: nothing is begun before the host has answered");
        snapshot.bell.suspect(host);
        let cluster = snapshot.cluster;
        self.mailboxes().send_all(|| Order::Suspect { cluster, host, since });
    }

    /// A connection that was lent is lost.
    pub fn lose(self: &Rc<Self>, member: Box<Member>) {
        self.report_loss(member.origin);
        self.discard(member, Discard::Lost);
    }

    /// A connection that nobody used is closed: what it may have said last tells of its host.
    #[cold]
    pub(super) fn hear_out(&self, member: &mut Member) {
        if member.server.stream.has_arrivals() && member.server.says_farewell() {
            self.report_loss(member.origin);
        }
    }

    /// Begins nothing on this host from now on. Tells whether that is new.
    pub(super) fn suspect(&self, host: HostId, since: Moment) -> bool {
        let leads_there = self.lead.borrow().origin().is_some_and(|origin| origin.host == host);
        if self.key.host != PoolHost::Primary || !leads_there {
            return false;
        }
        let mut suspicion = self.suspicion.get();
        let raised = suspicion.raise(since);
        self.suspicion.set(suspicion);
        self.set_shut();
        raised
    }

    /// The pool's host has answered on a connection that was begun at `assured`. Tells whether work goes on for that.
    pub(super) fn settle_suspicion(&self, assured: Moment) -> bool {
        let mut suspicion = self.suspicion.get();
        let settled = suspicion.settle(assured, Moment::now());
        self.suspicion.set(suspicion);
        self.set_shut();
        settled
    }
}
