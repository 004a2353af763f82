//! A client's place in the queue for a server connection.

use super::{Member, PoolError};
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Granted(Box<Member>),
    Refused(Rc<PoolError>),
    Left,
}

/// One client waiting. It is granted a connection, refused, or leaves.
#[derive(Debug)]
pub struct Ticket {
    state: RefCell<State>,
    /// When the client joined the queue.
    pub since: Instant,
}

impl Ticket {
    pub(super) fn new(since: Instant) -> Rc<Self> {
        Rc::new(Self { state: RefCell::new(State::Waiting(None)), since })
    }

    /// Gives the connection to the client, or back if the client has left.
    pub(super) fn grant(&self, member: Box<Member>) -> Result<(), Box<Member>> {
        match &mut *self.state.borrow_mut() {
            State::Waiting(waker) => {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
            _ => return Err(member),
        }
        *self.state.borrow_mut() = State::Granted(member);
        Ok(())
    }

    pub(super) fn refuse(&self, error: Rc<PoolError>) {
        let mut state = self.state.borrow_mut();
        if let State::Waiting(waker) = &mut *state {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
            *state = State::Refused(error);
        }
    }

    /// Ready with the connection, or with why there is none.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Box<Member>, Rc<PoolError>>> {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Waiting(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            State::Left => return Poll::Pending,
            State::Granted(_) | State::Refused(_) => {}
        }
        match std::mem::replace(&mut *state, State::Left) {
            State::Granted(member) => Poll::Ready(Ok(member)),
            State::Refused(error) => Poll::Ready(Err(error)),
            State::Waiting(_) | State::Left => Poll::Pending,
        }
    }

    /// The client gives up; a connection that came too late is returned.
    pub(super) fn leave(&self) -> Option<Box<Member>> {
        match std::mem::replace(&mut *self.state.borrow_mut(), State::Left) {
            State::Granted(member) => Some(member),
            _ => None,
        }
    }
}
