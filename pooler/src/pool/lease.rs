//! A server connection for something of our own: it goes back, or is closed, whatever happens to the task.

use super::{Member, Pool, PoolError, Request, Ticket};
use crate::server::checkin::Discard;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Instant;

/// A borrowed connection. Dropped in the middle of something, it is closed.
#[derive(Debug)]
pub struct Lease {
    pool: Rc<Pool>,
    member: Option<Box<Member>>,
}

impl Lease {
    /// The connection.
    pub fn member(&mut self) -> Option<&mut Member> {
        self.member.as_deref_mut()
    }

    /// Gives the connection back; `server::checkin` judges it.
    pub fn check_in(mut self) {
        if let Some(member) = self.member.take() {
            self.pool.check_in(member, false);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(member) = self.member.take() {
            self.pool.discard(member, Discard::Unfinished);
        }
    }
}

/// Leaves the queue when the waiting task is given up.
struct Queued<'a> {
    pool: &'a Rc<Pool>,
    ticket: Rc<Ticket>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.pool.leave(&self.ticket);
    }
}

/// Borrows a connection, waiting for it as a client would.
///
/// # Errors
/// The pool cannot reach its server.
pub async fn borrow(pool: &Rc<Pool>) -> Result<Lease, Rc<PoolError>> {
    let member = match pool.request(Instant::now())? {
        Request::Now(member) => member,
        Request::Wait(ticket) => {
            let queued = Queued { pool, ticket };
            poll_fn(|cx| queued.ticket.poll(cx)).await?
        }
    };
    Ok(Lease { pool: pool.clone(), member: Some(member) })
}
