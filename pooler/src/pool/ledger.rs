//! Who has which server connection, who waits, and what should be opened. Pure.
//!
//! One ledger per pool and worker. It promises: a connection is in one place at a time, clients are served in the
//! order in which they came, and it never asks for more connections than there are clients waiting. How many may
//! be open at all is the business of `budget`.

use std::collections::VecDeque;

/// Which idle connection is lent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one given back last: keeps few of them busy, so that the rest can be closed.
    Freshest,
    /// The one given back first: keeps all of them in use.
    RoundRobin,
}

/// Connections by place, and clients waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Ready to be lent.
    pub idle: usize,
    /// Lent.
    pub leased: usize,
    /// Being dialled.
    pub opening: usize,
    /// Between two clients: reset, check, rollback, or a cancel request under way.
    pub resetting: usize,
    /// Clients that wait.
    pub waiting: usize,
}

/// Where a connection was that is put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Lent.
    Lease,
    /// Being made fit.
    Reset,
    /// Being dialled.
    Opening,
}

/// The books of one pool on one worker. `C` is a connection, `W` a waiting client.
#[derive(Debug)]
pub struct Ledger<C, W> {
    idle: VecDeque<C>,
    waiters: VecDeque<W>,
    leased: usize,
    opening: usize,
    resetting: usize,
}

impl<C, W> Default for Ledger<C, W> {
    fn default() -> Self {
        Self { idle: VecDeque::new(), waiters: VecDeque::new(), leased: 0, opening: 0, resetting: 0 }
    }
}

impl<C, W> Ledger<C, W> {
    /// An idle connection for a client that just came, if one is idle and nobody came before.
    #[inline]
    pub fn lend(&mut self, order: Order) -> Option<C> {
        if !self.waiters.is_empty() {
            return None;
        }
        let lent = match order {
            Order::Freshest => self.idle.pop_back(),
            Order::RoundRobin => self.idle.pop_front(),
        };
        self.leased += usize::from(lent.is_some());
        lent
    }

    /// Lends an idle connection that fits.
    pub fn lend_that(&mut self, fits: impl FnMut(&mut C) -> bool) -> Option<C> {
        let lent = self.take_idle(1, fits).pop();
        self.leased += usize::from(lent.is_some());
        lent
    }

    /// The client joins the queue.
    pub fn wait(&mut self, waiter: W) {
        self.waiters.push_back(waiter);
    }

    /// Takes waiters out of the queue that fit.
    pub fn leave(&mut self, gone: impl Fn(&W) -> bool) {
        self.waiters.retain(|waiter| !gone(waiter));
    }

    /// A leased connection is free again: for the oldest waiter, or idle.
    #[inline]
    pub fn give_back(&mut self, connection: C) -> Option<(W, C)> {
        if let Some(waiter) = self.waiters.pop_front() {
            return Some((waiter, connection));
        }
        self.leased -= 1;
        self.idle.push_back(connection);
        None
    }

    /// A connection goes to rest although clients wait: nothing is lent just now.
    pub fn keep_aside(&mut self, connection: C, from: From) {
        match from {
            From::Lease => self.leased -= 1,
            From::Reset => self.resetting -= 1,
            From::Opening => self.opening -= 1,
        }
        self.idle.push_back(connection);
    }

    /// Connections are lent again: those that are idle to the oldest waiters.
    pub fn serve(&mut self) -> Vec<(W, C)> {
        let count = self.idle.len().min(self.waiters.len());
        self.leased += count;
        self.waiters.drain(..count).zip(self.idle.drain(..count)).collect()
    }

    /// How many connections should be dialled now, were there no limits.
    #[must_use]
    pub fn shortage(&self) -> usize {
        self.waiters.len().saturating_sub(self.opening + self.resetting + self.idle.len())
    }

    /// A dial begins.
    pub fn begin_opening(&mut self) {
        self.opening += 1;
    }

    /// A dial ended well, or a connection came from another worker after [`Self::begin_opening`].
    pub fn opened(&mut self, connection: C) -> Option<(W, C)> {
        self.opening -= 1;
        self.leased += 1;
        self.give_back(connection)
    }

    /// A dial ended badly.
    pub fn failed_to_open(&mut self) {
        self.opening -= 1;
    }

    /// A leased connection is being made fit for the next client.
    pub fn begin_reset(&mut self) {
        self.leased -= 1;
        self.resetting += 1;
    }

    /// It is fit.
    pub fn reset(&mut self, connection: C) -> Option<(W, C)> {
        self.resetting -= 1;
        self.leased += 1;
        self.give_back(connection)
    }

    /// It was closed instead.
    pub fn failed_to_reset(&mut self) {
        self.resetting -= 1;
    }

    /// A leased connection was closed.
    pub fn closed(&mut self) {
        self.leased -= 1;
    }

    /// Takes idle connections away that fit, oldest first, at most `limit`.
    pub fn take_idle(&mut self, limit: usize, mut fits: impl FnMut(&mut C) -> bool) -> Vec<C> {
        let mut taken = Vec::new();
        let mut at = 0;
        while taken.len() < limit
            && let Some(connection) = self.idle.get_mut(at)
        {
            if fits(connection) {
                taken.extend(self.idle.remove(at));
            } else {
                at += 1;
            }
        }
        taken
    }

    /// All that wait, oldest first; the queue is empty afterwards.
    pub fn dismiss(&mut self) -> impl Iterator<Item = W> + '_ {
        self.waiters.drain(..)
    }

    /// The clients that wait, oldest first.
    pub fn waiters(&self) -> impl Iterator<Item = &W> {
        self.waiters.iter()
    }

    /// Where everything is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            idle: self.idle.len(),
            leased: self.leased,
            opening: self.opening,
            resetting: self.resetting,
            waiting: self.waiters.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Request,
        GiveBack,
        Open,
        FailToOpen,
        Reset,
        Reuse,
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Request),
            3 => Just(Step::GiveBack),
            3 => Just(Step::Open),
            1 => Just(Step::FailToOpen),
            1 => Just(Step::Reset),
            1 => Just(Step::Reuse),
            1 => Just(Step::Close),
        ]
    }

    /// Plays the shell around a ledger, with a limit on open connections.
    #[derive(Default)]
    struct Shell {
        ledger: Ledger<u32, u32>,
        leased: Vec<u32>,
        resetting: Vec<u32>,
        dials: usize,
        next_connection: u32,
        next_client: u32,
        served: Vec<u32>,
        queued: Vec<u32>,
    }

    impl Shell {
        fn open_now(&self) -> usize {
            let counts = self.ledger.counts();
            counts.idle + counts.leased + counts.opening + counts.resetting
        }

        fn grant(&mut self, granted: Option<(u32, u32)>) {
            if let Some((client, connection)) = granted {
                self.served.push(client);
                self.leased.push(connection);
            }
        }

        fn step(&mut self, step: Step, limit: usize, order: Order) {
            match step {
                Step::Request => {
                    self.next_client += 1;
                    if let Some(connection) = self.ledger.lend(order) {
                        self.leased.push(connection);
                    } else {
                        self.queued.push(self.next_client);
                        self.ledger.wait(self.next_client);
                    }
                    while self.ledger.shortage() > 0 && self.open_now() < limit {
                        self.ledger.begin_opening();
                        self.dials += 1;
                    }
                }
                Step::GiveBack => {
                    if let Some(connection) = self.leased.pop() {
                        let granted = self.ledger.give_back(connection);
                        self.grant(granted);
                    }
                }
                Step::Open if self.dials > 0 => {
                    self.dials -= 1;
                    self.next_connection += 1;
                    let granted = self.ledger.opened(self.next_connection);
                    self.grant(granted);
                }
                Step::FailToOpen if self.dials > 0 => {
                    self.dials -= 1;
                    self.ledger.failed_to_open();
                }
                Step::Reset => {
                    if let Some(connection) = self.leased.pop() {
                        self.ledger.begin_reset();
                        self.resetting.push(connection);
                    }
                }
                Step::Reuse => {
                    if let Some(connection) = self.resetting.pop() {
                        let granted = self.ledger.reset(connection);
                        self.grant(granted);
                    }
                }
                Step::Close => {
                    if self.leased.pop().is_some() {
                        self.ledger.closed();
                    }
                }
                Step::Open | Step::FailToOpen => {}
            }
        }
    }

    proptest! {
        #[test]
        fn never_above_the_limit_never_lent_twice_and_first_come_first_served(
            steps in prop::collection::vec(step(), 1..200),
            limit in 1usize..6,
            round_robin: bool,
        ) {
            let order = if round_robin { Order::RoundRobin } else { Order::Freshest };
            let mut shell = Shell::default();
            for step in steps {
                shell.step(step, limit, order);
                let counts = shell.ledger.counts();
                prop_assert!(shell.open_now() <= limit);
                prop_assert_eq!(counts.leased, shell.leased.len());
                prop_assert_eq!(counts.resetting, shell.resetting.len());
                prop_assert_eq!(counts.opening, shell.dials);
                prop_assert!(counts.waiting == 0 || counts.idle == 0);
                let distinct: HashSet<_> = shell.leased.iter().chain(&shell.resetting).collect();
                prop_assert_eq!(distinct.len(), shell.leased.len() + shell.resetting.len());
                prop_assert!(shell.queued.starts_with(&shell.served));
            }
        }
    }
}
