//! A server connection for something of our own: it goes back, or is closed, whatever happens to the task.

use super::{Member, Pool, PoolError, Request, Ticket};
use crate::server::checkin::Discard;
use crate::server::exchange::ExchangeError;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// How often an idle connection is looked for, and the time in between.
const MOST_LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// How many servers may be lost over one question before that is said.
const MOST_LOSSES: u32 = 3;

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

    /// The server is lost: its host is looked at.
    fn lose(mut self) {
        if let Some(member) = self.member.take() {
            self.pool.lose(member);
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

/// Borrows a connection that nobody else needs, if there is one soon. None is opened for this. Where clients wait in line no
/// connection is ever idle: there it waits as they do.
pub async fn borrow_idle(pool: &Rc<Pool>) -> Option<Lease> {
    for _ in 0..MOST_LOOKS {
        if let Some(member) = pool.request_idle(|_| true, Instant::now()) {
            return Some(Lease { pool: pool.clone(), member: Some(member) });
        }
        sleep(BETWEEN_LOOKS).await;
    }
    if pool.counts().waiting > 0 { borrow(pool).await.ok() } else { None }
}

/// Why a question of ours has no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// There is no server to ask, or none that survives it.
    NoServer(Rc<PoolError>),
    /// The server refused it, or broke the protocol.
    Failed(ExchangeError),
}

/// Borrows a connection and asks something that may be asked twice: where the server is lost before it has answered, another
/// one is asked, as soon as there is one. One that takes longer to answer than to connect to is lost, too.
///
/// # Errors
/// There is no server, or none that answers. A connection over which a question failed is closed.
pub async fn ask<T>(
    pool: &Rc<Pool>,
    question: impl AsyncFn(&mut Member) -> Result<T, ExchangeError>,
) -> Result<T, Unanswered> {
    let mut losses = 0;
    loop {
        let mut lease = borrow(pool).await.map_err(Unanswered::NoServer)?;
        let Some(member) = &mut lease.member else { continue };
        let patience = pool.plan().dial.timeout;
        let answer = timeout(patience, question(member)).await;
        match answer.unwrap_or_else(|_| Err(ExchangeError::Lost(io::ErrorKind::TimedOut.into()))) {
            Ok(answer) => {
                lease.check_in();
                return Ok(answer);
            }
            Err(error @ (ExchangeError::Lost(_) | ExchangeError::Ended(_))) => {
                losses += 1;
                lease.lose();
                if losses == MOST_LOSSES {
                    return Err(Unanswered::NoServer(Rc::new(PoolError::Dial(error.into()))));
                }
            }
            Err(error) => return Err(Unanswered::Failed(error)),
        }
    }
}
