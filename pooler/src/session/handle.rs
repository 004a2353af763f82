//! What a worker knows of a session from outside: who may cancel it, when its time is out, and how to wake it.

use super::about::Trace;
use crate::ids::{ClusterId, PoolHost, SessionId};
use crate::mailbox::Drain;
use crate::pool::card::Card;
use crate::pool::lead::Origin;
use crate::pool::{Pool, PoolPlan};
use crate::report::{About, Doing};
use crate::server::cancel;
use crate::server::connection::{CancelKey, Cancels};
use crate::server::dial::DialPlan;
use crate::topology::{HostView, PrimaryView, Snapshot};
use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;
use subtle::ConstantTimeEq;

/// Which limit in time a session is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Nothing was said for too long outside a transaction.
    ClientIdle,
    /// The notice that the client is in the queue.
    QueueNotice,
    /// Waiting for a server connection.
    QueryWait,
    /// A query.
    Query,
    /// Nothing was said for too long inside a transaction.
    IdleTransaction,
    /// A transaction.
    Transaction,
    /// The session keeps its server connection for something that can be given up.
    Pin,
}

/// What wakes a session other than bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Its time is out.
    TimeOut(Timer),
    /// Its client wants to cancel what is being waited for.
    Cancelled,
    /// The host of its server connection is lost, and nothing may be said to it any more.
    Cut,
    /// Something changed in a cluster: one that waits may be served elsewhere.
    News,
    /// The process ends.
    Drain(Drain),
    /// An operator wants it gone.
    Kill,
}

/// The server connection that a session has now, as far as a cancel request needs it.
#[derive(Debug, Clone)]
pub struct CancelTarget {
    /// Which server process.
    pub key: Rc<CancelKey>,
    /// Requests under way to it.
    pub cancels: Rc<Cancels>,
    /// How to get there.
    pub plan: Rc<PoolPlan>,
    /// The connection, as an operator sees it.
    pub card: Rc<Card>,
    /// The pool that it comes from.
    pub pool: Rc<Pool>,
    /// The cluster and where in it, if the topology said where.
    pub origin: Option<(ClusterId, Origin)>,
}

/// Where a session is, for statistics and cancel requests.
#[derive(Debug, Default)]
pub enum Place {
    /// No server connection, and none is wanted.
    #[default]
    Detached,
    /// In the queue.
    Waiting,
    /// With a server connection.
    Linked(CancelTarget),
    /// Joined to a replication connection for good.
    Replicating(Rc<CancelKey>, Rc<DialPlan>),
}

/// See the module.
#[derive(Debug)]
pub struct Handle {
    /// The session's number.
    pub id: SessionId,
    /// What it does, for whoever asks.
    pub trace: Trace,
    /// The server process that it was told is its own.
    pub process: RefCell<Option<Rc<CancelKey>>>,
    about: OnceCell<Box<About>>,
    /// When the session came to its worker.
    pub came: Instant,
    key: Box<[u8]>,
    place: RefCell<Place>,
    deadline: Cell<Option<(Instant, Timer)>>,
    signal: Cell<Option<Signal>>,
    postponed: Cell<Option<Drain>>,
    waker: RefCell<Option<Waker>>,
}

impl Handle {
    /// A handle for a session whose client was told `key`.
    #[must_use]
    pub fn new(id: SessionId, key: Box<[u8]>) -> Rc<Self> {
        Rc::new(Self {
            id,
            trace: Trace::default(),
            process: RefCell::new(None),
            about: OnceCell::new(),
            came: Instant::now(),
            key,
            place: RefCell::default(),
            deadline: Cell::new(None),
            signal: Cell::new(None),
            postponed: Cell::new(None),
            waker: RefCell::new(None),
        })
    }

    /// Says who it is, once.
    pub fn introduce(&self, about: About) {
        let _ = self.about.set(Box::new(about));
    }

    /// Who it is.
    #[must_use]
    pub fn about(&self) -> Option<&About> {
        self.about.get().map(|about| &**about)
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Ref<'_, Place> {
        self.place.borrow()
    }

    /// What the client was told.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether `key` is what the client was told.
    #[must_use]
    pub fn fits(&self, key: &[u8]) -> bool {
        self.key.ct_eq(key).into()
    }

    /// The session has moved.
    pub fn set_place(&self, place: Place) {
        *self.place.borrow_mut() = place;
    }

    /// The session's time is out at `deadline`. If the former one has fired and nobody has looked since, it is
    /// forgotten: what it was about is over.
    pub fn set_deadline(&self, deadline: Option<(Instant, Timer)>) {
        self.deadline.set(deadline);
        if let Some(Signal::TimeOut(_)) = self.signal.get() {
            self.signal.set(None);
        }
    }

    /// Fires the deadline if it has passed.
    pub fn check_deadline(&self, now: Instant) {
        if let Some((at, timer)) = self.deadline.get()
            && at <= now
        {
            self.deadline.set(None);
            self.raise(Signal::TimeOut(timer));
        }
    }

    /// Wakes the session with a signal. One that ends the session is not replaced by a lesser one.
    pub fn raise(&self, signal: Signal) {
        let ends = |signal: Signal| matches!(signal, Signal::Drain(_) | Signal::Kill);
        if !self.signal.get().is_some_and(ends) || ends(signal) {
            self.signal.set(Some(signal));
        }
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Something changed in a cluster. Cuts the session's server connection if its host is lost: frozen, fenced, or no
    /// longer the primary that it was. One that waits looks again where it can be served.
    pub fn follow(&self, snapshot: &Snapshot) {
        let signal = match &*self.place.borrow() {
            Place::Linked(CancelTarget { origin: Some((cluster, origin)), .. }) => {
                let lost = *cluster == snapshot.cluster && is_lost(snapshot, *origin);
                lost.then_some(Signal::Cut)
            }
            // Whatever else it was told counts more.
            Place::Waiting => self.signal.get().is_none().then_some(Signal::News),
            _ => None,
        };
        if let Some(signal) = signal {
            self.raise(signal);
        }
    }

    /// Whether it has something under way on the primary of a cluster.
    #[must_use]
    pub fn works_on_primary(&self, cluster: ClusterId) -> bool {
        let is_there = match &*self.place.borrow() {
            Place::Linked(target) => {
                target.pool.key.host == PoolHost::Primary && target.pool.cluster() == Some(cluster)
            }
            _ => false,
        };
        is_there && self.trace.doing.get() != Doing::Pinned
    }

    /// The session is in a transaction: it ends when that is over. Other signals reach it until then.
    pub fn postpone(&self, drain: Drain) {
        self.postponed.set(Some(drain));
    }

    /// The drain that waits for the end of the transaction.
    #[must_use]
    #[inline]
    pub const fn postponed(&self) -> Option<Drain> {
        self.postponed.get()
    }

    /// The signal that was raised, if any; it is gone afterwards.
    #[inline]
    pub fn take_signal(&self, waker: &Waker) -> Option<Signal> {
        let signal = self.signal.take();
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        signal
    }

    /// Whether nobody wants anything of it.
    #[must_use]
    pub const fn is_left_alone(&self) -> bool {
        self.signal.get().is_none() && self.postponed.get().is_none()
    }

    /// Whether its client wanted to cancel what is being waited for; that is known then.
    pub fn take_cancel(&self) -> bool {
        let cancelled = self.signal.get() == Some(Signal::Cancelled);
        if cancelled {
            self.signal.set(None);
        }
        cancelled
    }

    /// Carries out a cancel request that has proved itself. It reaches the query that runs now, and no later one:
    /// the server connection is not lent on before the request has arrived.
    pub async fn cancel(&self) {
        let (key, plan, underway) = match &*self.place.borrow() {
            Place::Detached => return,
            Place::Waiting => {
                self.raise(Signal::Cancelled);
                return;
            }
            Place::Linked(target) => {
                let underway = (target.cancels.clone(), target.cancels.begin());
                (target.key.clone(), Rc::new(target.plan.dial.clone()), Some(underway))
            }
            Place::Replicating(key, plan) => (key.clone(), plan.clone(), None),
        };
        if let Some((cancels, _)) = &underway {
            let _ = tokio::time::timeout(plan.timeout, cancels.aim()).await;
        }
        let outcome = tokio::time::timeout(plan.timeout, cancel::cancel(&key, &plan)).await;
        if !matches!(outcome, Ok(Ok(())))
            && let Some((cancels, _)) = &underway
        {
            cancels.doubt();
        }
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(session = %self.id, %error, "cancel request lost"),
            Err(_) => tracing::debug!(session = %self.id, "cancel request took too long"),
        }
        drop(underway);
    }
}

/// Whether nothing may be said any more on a connection that was opened there.
fn is_lost(snapshot: &Snapshot, origin: Origin) -> bool {
    let elsewhere = |host: &HostView| host.state.is_cut_off() || host.moves != origin.moves;
    if snapshot.host(origin.host).is_none_or(elsewhere) {
        return true;
    }
    let PrimaryView::Known { host, timeline, .. } = snapshot.primary else { return false };
    origin.timeline > 0 && (host, timeline) != (origin.host, origin.timeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> (Rc<Handle>, &'static Waker) {
        (Handle::new(SessionId(1), Box::new([0; 4])), Waker::noop())
    }

    #[test]
    fn a_time_out_of_what_is_over_is_forgotten() {
        let (handle, waker) = handle();
        let now = Instant::now();
        handle.set_deadline(Some((now, Timer::QueueNotice)));
        handle.check_deadline(now);
        handle.set_deadline(None);
        assert_eq!(handle.take_signal(waker), None);
        handle.raise(Signal::Drain(Drain::Immediately));
        handle.set_deadline(None);
        assert_eq!(handle.take_signal(waker), Some(Signal::Drain(Drain::Immediately)));
    }

    #[test]
    fn a_session_whose_drain_is_postponed_still_runs_out_of_time() {
        let (handle, waker) = handle();
        let now = Instant::now();
        handle.raise(Signal::Drain(Drain::WaitForTransactions));
        assert_eq!(handle.take_signal(waker), Some(Signal::Drain(Drain::WaitForTransactions)));
        handle.postpone(Drain::WaitForTransactions);
        handle.set_deadline(Some((now, Timer::IdleTransaction)));
        handle.check_deadline(now);
        assert_eq!(handle.take_signal(waker), Some(Signal::TimeOut(Timer::IdleTransaction)));
        assert_eq!(handle.postponed(), Some(Drain::WaitForTransactions));
    }
}
