//! PAUSE, SUSPEND and what ends them: the pool lends nothing, because an operator wants it so.

use super::halt::Stance;
use super::ledger;
use super::{Member, Pool};
use std::rc::Rc;

impl Pool {
    /// Lends connections from now on, or does not.
    pub fn halt(self: &Rc<Self>, stance: Stance) {
        self.stance.set(stance);
        self.set_shut();
        match stance {
            Stance::Paused => _ = self.evict(usize::MAX),
            Stance::Suspended => {}
            Stance::Open => self.reopen(),
        }
    }

    /// Lends again what was kept aside, if nothing else keeps the pool shut.
    pub(super) fn reopen(self: &Rc<Self>) {
        if self.shut.get() {
            return;
        }
        // What has ended meanwhile is granted to nobody.
        let ended =
            self.ledger.borrow_mut().take_idle(usize::MAX, |member| member.server.stream.has_arrivals());
        for mut member in ended {
            self.hear_out(&mut member);
            self.close(member);
        }
        let granted = self.ledger.borrow_mut().serve();
        for grant in granted {
            self.deliver(Some(grant));
        }
        self.open_more();
    }

    /// Lends and opens only while lead, stance and suspicion all allow it.
    pub(super) fn set_shut(&self) {
        let may_lend = self.stance.get() == Stance::Open && !self.suspicion.get().holds();
        self.shut.set(!self.lead.borrow().is_open() || !may_lend);
    }

    /// Whether what comes back is lent to nobody for now, and stays open.
    pub(super) fn keeps_aside(&self) -> bool {
        self.stance.get() == Stance::Suspended || self.suspicion.get().holds()
    }

    /// A connection that nobody may have just now goes to rest.
    pub(super) fn keep_aside(&self, member: Box<Member>, from: ledger::From) {
        self.ledger.borrow_mut().keep_aside(member, from);
        self.note_idle();
    }

    /// Whether the halt has taken effect: nothing is lent, and if paused nothing is open.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let counts = self.counts();
        let busy = counts.leased + counts.opening + counts.resetting;
        busy == 0 && (self.stance.get() != Stance::Paused || counts.idle == 0)
    }
}
