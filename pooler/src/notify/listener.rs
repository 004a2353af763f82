//! A session that listens: what it wants, what waits for it, and what it waits for.
//!
//! The session owns a [`Listener`] and asks it before it sends something that matters; the worker's desk puts into
//! the same [`Post`] what the hub tells.

use super::desk::Desk;
use super::inbox::Inbox;
use super::news::{Ask, Notification, Station, Token};
use super::subscriptions::{Delivery, Readiness, Subscriptions};
use crate::ids::SessionId;
use crate::server::dial::DialPlan;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

/// Whether a message may pass now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Not before the hub has the channels; no server connection is needed meanwhile.
    Channels,
    /// Not before the hub has delivered everything that was committed before; the server connection is kept.
    Mark,
}

/// What a mark is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// What arrived before it was committed before the client's message.
    Sort,
    /// What this server process sent until then is not the client's; what it sends from then on is.
    Begin(u32),
    /// What the client has sent has arrived.
    End,
}

/// What the client sends itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// Nothing that was seen.
    Nothing,
    /// It has said NOTIFY. What this server process sends is its own, if the hub knows that.
    Notifying(Option<u32>),
    /// As before, and it has arrived.
    Arrived(Option<u32>),
}

/// Whether all that was committed before the client's next message has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    Unknown,
    Known,
}

#[derive(Debug)]
struct State {
    subscriptions: Subscriptions,
    inbox: Inbox,
    next: u32,
    mark: Option<(u32, Purpose)>,
    sending: Sending,
    past: Past,
    /// The last question after which the client hears from another listening connection.
    moving: Option<u32>,
}

/// What the desk and the session share.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) session: SessionId,
    state: RefCell<State>,
    waker: RefCell<Option<Waker>>,
}

impl Post {
    pub(super) fn new(session: SessionId, limit: usize) -> Rc<Self> {
        let state = State {
            subscriptions: Subscriptions::default(),
            inbox: Inbox::new(limit),
            next: 0,
            mark: None,
            sending: Sending::Nothing,
            past: Past::Unknown,
            moving: None,
        };
        Rc::new(Self { session, state: RefCell::new(state), waker: RefCell::default() })
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// A notification on a channel that somebody on this worker listens on.
    pub(super) fn push(&self, notification: &Arc<Notification>) {
        let State { subscriptions, inbox, .. } = &mut *self.state.borrow_mut();
        if subscriptions.delivery(&notification.channel) == Delivery::Unwanted {
            return;
        }
        if !inbox.push(notification.clone()) {
            tracing::warn!(session = %self.session, "too many notifications wait for a client, closing it");
        }
        self.wake();
    }

    /// Notifications may have been lost.
    pub(super) fn push_gap(&self) {
        let mut state = self.state.borrow_mut();
        if !state.subscriptions.is_empty() {
            state.inbox.push_gap();
            self.wake();
        }
    }

    /// The hub has answered. Returns a channel that it cannot have.
    pub(super) fn answer(&self, number: u32, reached: bool) -> Option<Arc<str>> {
        let mut state = self.state.borrow_mut();
        self.wake();
        let Some((_, purpose)) = state.mark.take_if(|(waiting, _)| *waiting == number) else {
            if state.moving.take_if(|last| *last == number).is_some() {
                state.inbox.push_gap();
            }
            return state.subscriptions.answer(number, reached);
        };
        match purpose {
            Purpose::Sort => {
                let State { subscriptions, inbox, past, .. } = &mut *state;
                if subscriptions.is_beginning() {
                    inbox.keep_due(|channel| subscriptions.delivery(channel));
                } else {
                    inbox.settle_due(|channel| subscriptions.delivery(channel));
                }
                *past = Past::Known;
            }
            Purpose::Begin(pid) => state.sending = Sending::Notifying(reached.then_some(pid)),
            Purpose::End => {
                if let Sending::Notifying(pid) = state.sending {
                    state.sending = Sending::Arrived(pid);
                }
            }
        }
        None
    }
}

/// See the module. Dropped when the session ends; then nothing is listened on for it any more.
#[derive(Debug)]
pub struct Listener {
    desk: Rc<Desk>,
    station: Arc<Station>,
    post: Rc<Post>,
}

impl Listener {
    pub(super) const fn new(desk: Rc<Desk>, station: Arc<Station>, post: Rc<Post>) -> Self {
        Self { desk, station, post }
    }

    /// Which listening connection it hears from.
    #[cfg(test)]
    pub(super) const fn station(&self) -> &Arc<Station> {
        &self.station
    }

    /// Whether it hears from where the pool's connections lead.
    #[must_use]
    pub fn is_at(&self, plan: &DialPlan) -> bool {
        self.station.hosts == plan.hosts && self.station.dbname == plan.dbname
    }

    /// The pool's connections lead elsewhere by new settings: hears from there. The client is told of the gap.
    pub fn move_to(&mut self, plan: &DialPlan) {
        self.leave_all();
        self.station = self.desk.station(plan);
        let questions = {
            let State { subscriptions, next, moving, .. } = &mut *self.post.state.borrow_mut();
            let questions = subscriptions.renew(|| {
                *next = next.wrapping_add(1);
                *next
            });
            *moving = questions.last().map(|(_, number)| *number);
            questions
        };
        for (channel, number) in questions {
            self.desk.join(&self.station, &channel, &self.post);
            self.ask(Ask::Listen(channel, self.token(number)));
        }
    }

    fn leave_all(&self) {
        let held: Vec<_> = self.post.state.borrow().subscriptions.held().cloned().collect();
        for channel in held {
            self.desk.leave(&self.station, &channel, self.post.session);
        }
    }

    /// Has `cx` woken when the hub tells something.
    pub fn register(&self, cx: &Context<'_>) {
        let mut known = self.post.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *known = Some(cx.waker().clone());
        }
    }

    /// The client is about to LISTEN on these channels.
    #[must_use]
    pub fn begin_listen<'a>(&self, channels: impl Iterator<Item = &'a str>) -> Gate {
        let mut gate = Gate::Open;
        for channel in channels {
            let (readiness, number) = {
                let mut state = self.post.state.borrow_mut();
                state.next = state.next.wrapping_add(1);
                let number = state.next;
                (state.subscriptions.want(channel, number), number)
            };
            match readiness {
                Readiness::Ready => continue,
                Readiness::Waiting => {}
                Readiness::Ask(channel) => {
                    self.desk.join(&self.station, &channel, &self.post);
                    self.ask(Ask::Listen(channel, self.token(number)));
                }
            }
            gate = Gate::Channels;
        }
        gate
    }

    /// The client is about to NOTIFY, on the server process `pid`.
    #[must_use]
    pub fn begin_notify(&self, pid: u32) -> Gate {
        {
            let state = self.post.state.borrow();
            let heard = !state.subscriptions.is_empty() || self.desk.is_heard(&self.station);
            if !heard || state.sending != Sending::Nothing {
                return Gate::Open;
            }
        }
        self.mark(Purpose::Begin(pid))
    }

    /// The client has said something, and nothing else is under way. In a transaction in which it has said its first
    /// LISTEN, what arrives before its next word was committed before the transaction, and is dropped.
    #[must_use]
    pub fn begin_message(&self) -> Gate {
        {
            let state = self.post.state.borrow();
            if !state.subscriptions.is_beginning() || state.past == Past::Known {
                return Gate::Open;
            }
        }
        self.mark(Purpose::Sort)
    }

    /// The client is about to UNLISTEN: what was committed before is still for it.
    #[must_use]
    pub fn begin_unlisten(&self) -> Gate {
        {
            let state = self.post.state.borrow();
            if !state.subscriptions.is_listening() || state.past == Past::Known {
                return Gate::Open;
            }
        }
        self.mark(Purpose::Sort)
    }

    /// The client's message is on its way.
    pub fn end_message(&self) {
        self.post.state.borrow_mut().past = Past::Unknown;
    }

    /// The server is ready, outside a transaction: the client hears of that when its own notifications are there.
    #[must_use]
    pub fn end_notify(&self) -> Gate {
        if !matches!(self.post.state.borrow().sending, Sending::Notifying(_)) {
            return Gate::Open;
        }
        self.mark(Purpose::End)
    }

    /// The client hears that the server is ready. If nothing else is under way, nothing that comes later on this
    /// server connection is its own, and channels that it does not need are let go.
    pub fn pass_ready(&self, settled: bool) {
        if settled {
            self.end_sending();
        }
        let left = {
            let mut state = self.post.state.borrow_mut();
            if let Sending::Arrived(pid) = state.sending {
                state.sending = Sending::Notifying(pid);
            }
            if settled { state.subscriptions.tidy() } else { Vec::new() }
        };
        for channel in left {
            self.desk.leave(&self.station, &channel, self.post.session);
        }
    }

    /// Others may have the server process from now on on which the client has notified.
    fn end_sending(&self) {
        let process = {
            let mut state = self.post.state.borrow_mut();
            let begun = state.mark.take_if(|(_, purpose)| matches!(purpose, Purpose::Begin(_)));
            match (std::mem::replace(&mut state.sending, Sending::Nothing), begun) {
                (_, Some((_, Purpose::Begin(process)))) => Some(process),
                (Sending::Notifying(process) | Sending::Arrived(process), _) => process,
                (Sending::Nothing, _) => None,
            }
        };
        if let Some(process) = process {
            self.ask(Ask::Release(process, self.post.session));
        }
    }

    /// The server connection is lost, and with it the transaction that was under way.
    pub fn lose_server(&self) {
        self.book(Subscriptions::roll_back);
        self.pass_ready(true);
    }

    /// The hub was asked for channels and has not answered.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.post.state.borrow().subscriptions.is_asking()
    }

    /// More arrived for the client than its inbox holds.
    #[must_use]
    pub fn is_overrun(&self) -> bool {
        self.post.state.borrow().inbox.is_overrun()
    }

    /// Appends a portion of what is due to the client, which is between two messages and outside a transaction.
    /// True when more may be due.
    pub fn take(&self, out: &mut Vec<u8>) -> bool {
        let State { subscriptions, inbox, .. } = &mut *self.post.state.borrow_mut();
        !inbox.is_empty() && inbox.take(out, |channel| subscriptions.delivery(channel))
    }

    /// Whether a notification from the client's own server connection is left to the hub.
    #[must_use]
    pub fn has(&self, channel: &str) -> bool {
        self.post.state.borrow().subscriptions.delivery(channel) != Delivery::Unwanted
    }

    /// Tells the book of what the client listens on.
    pub fn book<T>(&self, tell: impl FnOnce(&mut Subscriptions) -> T) -> T {
        tell(&mut self.post.state.borrow_mut().subscriptions)
    }

    fn mark(&self, purpose: Purpose) -> Gate {
        let number = {
            let mut state = self.post.state.borrow_mut();
            if state.mark.is_some() {
                return Gate::Mark;
            }
            state.next = state.next.wrapping_add(1);
            state.mark = Some((state.next, purpose));
            state.next
        };
        let process = match purpose {
            Purpose::Begin(process) => Some(process),
            Purpose::Sort | Purpose::End => None,
        };
        self.ask(Ask::Mark(self.token(number), process));
        Gate::Mark
    }

    fn token(&self, number: u32) -> Token {
        Token { session: self.post.session, number }
    }

    fn ask(&self, ask: Ask) {
        self.desk.ask(&self.station, ask);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.end_sending();
        self.leave_all();
        self.desk.dismiss(self.post.session);
    }
}
