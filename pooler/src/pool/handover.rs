//! Connections that move from one worker to another.

use super::budget::Permit;
use super::lead::Origin;
use super::{Member, Pool};
use crate::ids::WorkerId;
use crate::mailbox::Order;
use crate::server::connection::ParkedServer;
use std::num::NonZeroU32;
use std::rc::Rc;

impl Pool {
    /// Asks the other workers for the connection to this server process.
    pub fn call_for(&self, process: NonZeroU32) {
        let super::Surroundings { worker: me, mailboxes, .. } = &*self.surroundings;
        for other in mailboxes.each().filter(|other| other != me) {
            mailboxes.send(other, Order::Lend(self.key.clone(), *me, Some(process)));
        }
    }

    /// Another worker lacks a connection, or the one to this server process: sends it an idle one.
    pub fn lend_to(self: &Rc<Self>, worker: WorkerId, process: Option<NonZeroU32>) {
        // One that has something to say is closed, or about to be.
        let fits = |member: &mut Box<Member>| {
            process.is_none_or(|process| member.server.cancel_key.pid == process.get())
                && !member.server.stream.has_arrivals()
        };
        let taken = self.ledger.borrow_mut().take_idle(1, fits);
        for member in taken {
            self.hand_over(member, worker);
        }
        self.note_idle();
    }

    pub(super) fn hand_over(&self, member: Box<Member>, worker: WorkerId) {
        let Member { server, mut permit, origin, .. } = *member;
        match server.park() {
            Ok(parked) => {
                permit.move_to(worker.0);
                self.surroundings
                    .mailboxes
                    .send(worker, Order::Adopt(self.key.clone(), Box::new(parked), origin, permit));
            }
            Err(error) => tracing::debug!(pool = %self.key, %error, "server connection lost between workers"),
        }
    }

    /// A connection comes from another worker.
    pub fn adopt(self: &Rc<Self>, parked: ParkedServer, origin: Option<Origin>, permit: Permit) {
        match parked.unpark(self.surroundings.interner()) {
            Ok(server) => {
                self.ledger.borrow_mut().begin_opening();
                let member = self.enlist(server, origin, permit);
                self.admit(member);
            }
            Err(error) => tracing::debug!(pool = %self.key, %error, "server connection lost between workers"),
        }
    }
}
