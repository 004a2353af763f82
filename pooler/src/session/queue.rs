//! Getting a server connection: at once, or after waiting in the pool's queue.

use super::Session;
use super::end::End;
use super::handle::{Place, Signal, Timer};
use super::refusal::Refusal;
use super::routing::Errand;
use crate::pool::{Member, Pool, PoolError, Request, Ticket};
use crate::stream::buffer::SMALL;
use hawser_wire::encode::{self, Severity};
use hawser_wire::sqlstate;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A read that waits for a primary looks this often whether a standby can serve it by now.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How asking for a server connection ends.
pub(super) enum Linked {
    Here(Box<Member>),
    /// The client was told why there is none, and goes on.
    Refused,
    /// The host cannot be read from any more.
    Elsewhere,
}

/// How waiting in the queue ends.
pub(super) enum Waited {
    Granted(Box<Member>),
    Elsewhere,
    Refused(Refusal),
    Left(End),
    Signal(Signal),
}

impl Session {
    /// Gets a server connection.
    pub(super) async fn link(&mut self, errand: &mut Errand, since: Instant) -> Result<Linked, End> {
        let pool = &errand.pool.clone();
        if let Some(home) = self.home()
            && Rc::ptr_eq(pool, &self.pool)
            && let Some(member) = Box::pin(self.go_home(home)).await
        {
            return Ok(Linked::Here(member));
        }
        let ticket = match pool.request(since) {
            Ok(Request::Now(member)) => return Ok(Linked::Here(member)),
            Ok(Request::Wait(ticket)) => ticket,
            Err(error) if matches!(*error, PoolError::Nowhere) => return Ok(Linked::Elsewhere),
            Err(error) => {
                let refusal = Refusal::from(&*error);
                return Box::pin(self.refuse(&refusal)).await.map(|()| Linked::Refused);
            }
        };
        self.handle.set_place(Place::Waiting);
        let outcome = self.wait(errand, &ticket, since).await;
        self.handle.set_place(Place::Detached);
        self.handle.set_deadline(None);
        self.note_wait(pool, since.elapsed());
        if !matches!(outcome, Ok(Linked::Here(_))) {
            pool.leave(&ticket);
        }
        outcome
    }

    async fn wait(
        &mut self,
        errand: &mut Errand,
        ticket: &Rc<Ticket>,
        since: Instant,
    ) -> Result<Linked, End> {
        let pool = &errand.pool.clone();
        let mut notified = false;
        self.set_queue_deadline(errand, since, notified);
        loop {
            let refusal = match poll_fn(|cx| self.poll_wait(ticket, cx)).await {
                Waited::Granted(member) => return Ok(Linked::Here(member)),
                Waited::Elsewhere => return Ok(Linked::Elsewhere),
                Waited::Refused(refusal) => refusal,
                Waited::Left(end) => return Err(end),
                Waited::Signal(Signal::TimeOut(Timer::QueueNotice)) => {
                    notified = true;
                    self.set_queue_deadline(errand, since, notified);
                    let mut notice = Vec::new();
                    let words = if pool.is_held() {
                        "no server connection available, still waiting (there is no primary)"
                    } else {
                        "no server connection available, still waiting (the pool is in use)"
                    };
                    encode::error(
                        &mut notice,
                        Severity::Notice,
                        sqlstate::SUCCESSFUL_COMPLETION,
                        words,
                        None,
                    );
                    self.tell(&notice).await?;
                    continue;
                }
                Waited::Signal(Signal::Cut) => continue,
                Waited::Signal(Signal::News) => {
                    if pool.is_held() && self.finds_standby(errand, since) {
                        return Ok(Linked::Elsewhere);
                    }
                    continue;
                }
                Waited::Signal(Signal::TimeOut(_)) => {
                    if pool.is_held() && self.finds_standby(errand, since) {
                        return Ok(Linked::Elsewhere);
                    }
                    // It may have been set for work that was held, or to look again.
                    let looks = pool.is_held() || errand.misses_standby();
                    if looks && self.queue_limit(pool).is_none_or(|limit| since.elapsed() < limit) {
                        self.set_queue_deadline(errand, since, notified);
                        continue;
                    }
                    if pool.is_held() { Refusal::NoPrimary } else { Refusal::WaitedTooLong }
                }
                Waited::Signal(Signal::Cancelled) => Refusal::CancelledInQueue,
                Waited::Signal(Signal::Drain(drain)) => {
                    pool.leave(ticket);
                    return Err(Box::pin(self.drain(drain)).await);
                }
                Waited::Signal(Signal::Kill) => {
                    pool.leave(ticket);
                    return Err(Box::pin(self.killed()).await);
                }
            };
            // Before the client is told: one that does not read would be granted a connection meanwhile.
            pool.leave(ticket);
            return Box::pin(self.refuse(&refusal)).await.map(|()| Linked::Refused);
        }
    }

    /// How long a client waits for a connection.
    fn queue_limit(&self, pool: &Pool) -> Option<Duration> {
        if pool.is_held() { self.timeouts.hold } else { self.timeouts.query_wait }
    }

    fn set_queue_deadline(&self, errand: &Errand, since: Instant, notified: bool) {
        let limit = self.queue_limit(&errand.pool).map(|limit| (since + limit, Timer::QueryWait));
        let notice = self.timeouts.query_wait_notify.filter(|_| !notified);
        let notice = notice.map(|after| (since + after, Timer::QueueNotice));
        let look = (errand.pool.is_held() && errand.misses_standby())
            .then(|| (Instant::now() + LOOK_AGAIN, Timer::QueryWait));
        let deadlines = notice.into_iter().chain(limit).chain(look);
        self.handle.set_deadline(deadlines.min_by_key(|(at, _)| *at));
    }

    pub(super) fn poll_wait(&mut self, ticket: &Rc<Ticket>, cx: &mut Context<'_>) -> Poll<Waited> {
        // One that is cancelled and granted a connection in the same moment has been told that the cancel is done.
        if self.handle.take_cancel() {
            return Poll::Ready(Waited::Signal(Signal::Cancelled));
        }
        if let Poll::Ready(outcome) = ticket.poll(cx) {
            return Poll::Ready(match outcome {
                Ok(member) => Waited::Granted(member),
                Err(error) if matches!(*error, PoolError::Nowhere) => Waited::Elsewhere,
                Err(error) => Waited::Refused(Refusal::from(&*error)),
            });
        }
        if let Some(signal) = self.handle.take_signal(cx.waker()) {
            return Poll::Ready(Waited::Signal(signal));
        }
        self.poll_waiting_client(cx)
    }

    /// A client that leaves the queue by closing its connection is noticed, as long as it has not sent much more.
    /// A crowd that waits holds no blocks.
    fn poll_waiting_client(&mut self, cx: &mut Context<'_>) -> Poll<Waited> {
        let lost = |error: std::io::Error| Waited::Left(End::ClientLost(error.kind()));
        loop {
            let Some(input) = self.client.input.as_mut() else { return Poll::Pending };
            input.shrink(&self.shared.buffers);
            if input.len() > SMALL {
                return Poll::Pending;
            }
            match self.client.stream.poll_readable(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(lost(error)),
                Poll::Ready(Ok(())) => {}
            }
            input.grow();
            match self.client.stream.poll_read(cx, input) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => return Poll::Ready(Waited::Left(End::ClientLeft)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(lost(error)),
            }
        }
    }
}
