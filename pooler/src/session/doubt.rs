//! Finds out how a commit went whose server was lost before it answered: asks whoever is the primary now.

use super::Session;
use super::end::End;
use super::handle::{Place, Signal, Timer};
use super::outcome::{self, Found, Lost, Outcome, Verdict, verdict};
use super::queue::Waited;
use crate::pool::{Member, Pool, Request};
use crate::server::checkin::Discard;
use crate::server::exchange::simple_query;
use crate::server::identity::Identity;
use crate::topology::Fork;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A client waits so long for the outcome where work is held without a limit.
const LONGEST: Duration = Duration::from_secs(60);

/// A primary that does not answer for so long is asked again, on another connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause before a question is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes something and waits until it is as safe as the settings of the server make a commit: what was committed
/// before is then as safe.
const AS_SAFE: &str = "SET LOCAL synchronous_commit = on; \
SELECT pg_catalog.pg_logical_emit_message(true, 'hawser', '')";

impl Session {
    /// How the commit of this transaction went. It may take until there is a primary again.
    pub(super) async fn find_out(&mut self, pool: &Rc<Pool>, identity: &Identity) -> Result<Outcome, End> {
        let Identity::Known(row) = identity else { return Ok(Outcome::Unknown) };
        let Some(lost) = Lost::read(row) else { return Ok(Outcome::Unknown) };
        let (Some(id), None) = (lost.id, outcome::without_asking(&lost)) else {
            return Ok(outcome::without_asking(&lost).unwrap_or(Outcome::Unknown));
        };
        let since = Instant::now();
        let until = since + self.timeouts.hold.unwrap_or(LONGEST);
        let question = outcome::question(id);
        let mut found = Ok(Outcome::Unknown);
        self.handle.set_place(Place::Waiting);
        while Instant::now() < until {
            self.handle.set_deadline(Some((until, Timer::QueryWait)));
            match self.next_primary(pool).await {
                Ok(Some(member)) => {
                    if let Some(outcome) = look_into(pool, member, &lost, &question, until).await {
                        found = Ok(outcome);
                        break;
                    }
                }
                Ok(None) => break,
                Err(end) => {
                    found = Err(end);
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.handle.set_deadline(None);
        self.handle.set_place(Place::Detached);
        let took = since.elapsed();
        tracing::info!(pool = %pool.key, outcome = ?found.as_ref().ok(), ?took, "looked into a commit that was not answered");
        found
    }

    /// A connection to the primary; `None` if the client should wait no longer.
    async fn next_primary(&mut self, pool: &Rc<Pool>) -> Result<Option<Box<Member>>, End> {
        let ticket = loop {
            match pool.request(Instant::now()) {
                Ok(Request::Now(member)) => return Ok(Some(member)),
                Ok(Request::Wait(ticket)) => break ticket,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        let outcome = loop {
            break match poll_fn(|cx| self.poll_wait(&ticket, cx)).await {
                Waited::Granted(member) => return Ok(Some(member)),
                Waited::Elsewhere | Waited::Refused(_) => Ok(None),
                Waited::Left(end) => Err(end),
                Waited::Signal(Signal::Cut | Signal::News) => continue,
                Waited::Signal(Signal::TimeOut(_) | Signal::Cancelled) => Ok(None),
                Waited::Signal(Signal::Drain(drain)) => Err(Box::pin(self.drain(drain)).await),
                Waited::Signal(Signal::Kill) => Err(Box::pin(self.killed()).await),
            };
        };
        pool.leave(&ticket);
        outcome
    }
}

/// Asks once. `None`: ask again.
async fn look_into(
    pool: &Rc<Pool>,
    mut member: Box<Member>,
    lost: &Lost,
    question: &str,
    until: Instant,
) -> Option<Outcome> {
    let found = match tokio::time::timeout(PATIENCE, simple_query(&mut member.server, question)).await {
        Ok(Ok(answer)) => Found::read(&answer.rows),
        Ok(Err(_)) | Err(_) => {
            pool.lose(member);
            return None;
        }
    };
    let Some(found) = found else {
        pool.check_in(member, false);
        return Some(Outcome::Unknown);
    };
    let ancestry = pool.snapshot().map(|snapshot| snapshot.ancestry.clone());
    let fork = ancestry.as_ref().map_or(Fork::Unknown, |known| known.fork(lost.timeline, found.timeline));
    let outcome = match verdict(lost, &found, fork) {
        Verdict::Is(Outcome::Committed) => {
            let left = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, simple_query(&mut member.server, AS_SAFE)).await {
                Ok(Ok(_)) => Some(Outcome::Committed),
                Ok(Err(_)) | Err(_) => {
                    pool.discard(member, Discard::Lost);
                    return None;
                }
            }
        }
        Verdict::Is(outcome) => Some(outcome),
        Verdict::AskAgain => None,
        Verdict::NeedsFork => {
            let may_grow = ancestry.is_some_and(|known| known.may_grow(found.timeline));
            (!may_grow).then_some(Outcome::Unknown)
        }
    };
    pool.check_in(member, false);
    outcome
}
