//! Pools: the server connections of one database and user on one worker.
//!
//! `ledger` decides who gets what, `budget` how many there may be across workers; this file does what they say:
//! dials, resets, hands over, closes. A pool promises that a connection is lent only when `server::checkin` has
//! found it fit, and that clients are served in order.

pub mod budget;
mod following;
mod handover;
pub mod lead;
pub mod lease;
pub mod ledger;
mod opening;
pub mod pools;
mod repair;
mod ticket;
pub mod upkeep;
mod welcome;

pub use ticket::Ticket;
pub use welcome::{Told, Welcome, Welcoming};

use crate::config::settings::PoolMode;
use crate::ids::{ClusterId, PoolKey, WorkerId};
use crate::mailbox::Mailboxes;
use crate::parameters::Interner;
use crate::pins::{PinReason, REASONS};
use crate::relay::{RelayLimits, Traffic};
use crate::server::checkin::{self, Circumstances, Verdict};
use crate::server::connection::ServerConnection;
use crate::server::dial::{self, DialError, DialPlan};
use crate::topology::{Newest, Snapshot};
use budget::{Budget, Permit};
use lead::{Lead, Origin};
use ledger::{Counts, Ledger};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Dials of one pool and worker at the same time: a server forks for each.
const MOST_DIALS: usize = 8;

/// A server connection and its place in the budget.
#[derive(Debug)]
pub struct Member {
    /// The connection.
    pub server: ServerConnection,
    /// Where it was opened, if the topology said where.
    pub origin: Option<Origin>,
    permit: Permit,
}

/// Why a client gets no server connection.
#[derive(Debug, Error)]
pub enum PoolError {
    /// The server cannot be reached, or refuses us.
    #[error("{}", dial::explain(.0))]
    Dial(DialError),
    /// There is no primary, and too many wait for one already.
    #[error("there is no primary, and too many clients wait for one")]
    TooManyHeld,
    /// The pool's host is no standby any more: another host will do.
    #[error("the host cannot be read from any more")]
    Nowhere,
}

/// What the settings say about one pool.
#[derive(Debug, Clone)]
pub struct PoolPlan {
    /// How to open a connection.
    pub dial: DialPlan,
    /// When a connection goes back.
    pub mode: PoolMode,
    /// Connections at most.
    pub size: usize,
    /// Connections kept open.
    pub min_size: usize,
    /// More connections for those who waited long.
    pub reserve_size: usize,
    /// How long is long.
    pub reserve_timeout: Duration,
    /// Which idle connection is lent first.
    pub order: ledger::Order,
    /// Idle connections are closed after this.
    pub idle_timeout: Option<Duration>,
    /// Part of the lifetime by which it varies.
    pub lifetime_jitter: f64,
    /// Checks a connection that was idle for `check_delay`; empty for none.
    pub check_query: String,
    /// See `check_query`.
    pub check_delay: Duration,
    /// Cleans up after a session.
    pub reset_query: String,
    /// After each transaction too.
    pub reset_always: bool,
    /// Pause after a failed dial.
    pub login_retry: Duration,
    /// Clients of this worker that may wait while there is no primary.
    pub max_held: usize,
    /// What clients may ask of a relay.
    pub limits: RelayLimits,
}

impl PoolPlan {
    /// Whether the reset query is to be run. Where there is none, state that a transaction must not leave behind
    /// is the end of the connection; in session mode it is what was asked for.
    fn wants_reset(&self, server: &mut ServerConnection, needs_reset: bool) -> bool {
        let nothing = self.reset_query.is_empty();
        server.tainted |= nothing && needs_reset && self.mode != PoolMode::Session;
        !nothing && (needs_reset || self.reset_always)
    }
}

/// Counters of one pool on one worker; they only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections lent.
    pub assignments: Cell<u64>,
    /// Transactions ended.
    pub transactions: Cell<u64>,
    /// Batches answered.
    pub queries: Cell<u64>,
    /// Bytes from clients.
    pub received: Cell<u64>,
    /// Bytes to clients.
    pub sent: Cell<u64>,
    /// Microseconds in which a connection was lent.
    pub transaction_time: Cell<u64>,
    /// Microseconds that clients waited for one.
    pub wait_time: Cell<u64>,
    /// Parses by clients.
    pub client_parses: Cell<u64>,
    /// Parses sent to servers.
    pub server_parses: Cell<u64>,
    /// Binds.
    pub binds: Cell<u64>,
    /// Logins of clients.
    pub logins: Cell<u64>,
    /// Server connections opened.
    pub opened: Cell<u64>,
    /// Server connections closed.
    pub closed: Cell<u64>,
    /// Microseconds for which sessions were pinned, by reason, in the order of [`PinReason::ALL`]; each pin counts
    /// when it ends.
    pub pinned: [Cell<u64>; REASONS],
}

impl Counters {
    /// A pin has ended.
    pub fn count_pin(&self, reason: PinReason, time: Duration) {
        if let Some(counter) = self.pinned.get(reason as usize) {
            count(counter, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// Adds to a counter.
pub fn count(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get().wrapping_add(more));
}

/// A pool as a report has it.
#[derive(Debug, Clone)]
pub struct PoolReport {
    /// Which pool.
    pub key: PoolKey,
    /// Where its connections are.
    pub counts: Counts,
    /// Clients that are logged in.
    pub clients: usize,
    /// Transactions ended.
    pub transactions: u64,
    /// Batches answered.
    pub queries: u64,
}

impl PoolReport {
    /// Adds what another worker has of the same pool.
    pub fn add(&mut self, other: &Self) {
        let (mine, theirs) = (&mut self.counts, other.counts);
        mine.idle += theirs.idle;
        mine.leased += theirs.leased;
        mine.opening += theirs.opening;
        mine.resetting += theirs.resetting;
        mine.waiting += theirs.waiting;
        self.clients += other.clients;
        self.transactions += other.transactions;
        self.queries += other.queries;
    }
}

#[derive(Debug)]
struct Failure {
    error: Rc<PoolError>,
    retry_at: Instant,
    count: u32,
    /// Another host may take over: clients wait for that.
    may_move: bool,
}

/// The connections of one database and user on one worker.
#[derive(Debug)]
pub struct Pool {
    /// Which pool.
    pub key: PoolKey,
    /// Counters.
    pub counters: Counters,
    plan: RefCell<Rc<PoolPlan>>,
    ledger: RefCell<Ledger<Box<Member>, Rc<Ticket>>>,
    budget: Arc<Budget>,
    surroundings: Rc<Surroundings>,
    failure: RefCell<Option<Failure>>,
    starving: Cell<bool>,
    clients: Cell<usize>,
    welcomes: RefCell<HashMap<Welcoming, Rc<Welcome>>>,
    told: Arc<Told>,
    last_used: Cell<Instant>,
    cluster: Cell<Option<ClusterId>>,
    snapshot: RefCell<Option<Arc<Snapshot>>>,
    lead: RefCell<Lead>,
    /// Nothing is lent or opened: the lead says why.
    shut: Cell<bool>,
}

/// What the pools of one worker have in common.
#[derive(Debug)]
pub struct Surroundings {
    /// Which worker this is.
    pub worker: WorkerId,
    /// The others.
    pub mailboxes: Mailboxes,
    /// Tracked parameters and blocks of the worker.
    pub shared: Rc<crate::relay::Shared>,
    /// The newest snapshots of all clusters.
    pub topology: Newest,
}

impl Surroundings {
    fn interner(&self) -> &Interner {
        &self.shared.local.interner
    }
}

/// How a request for a connection begins.
#[derive(Debug)]
pub enum Request {
    /// Here it is.
    Now(Box<Member>),
    /// Wait with this ticket.
    Wait(Rc<Ticket>),
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(
        key: PoolKey,
        plan: PoolPlan,
        budget: Arc<Budget>,
        told: Arc<Told>,
        surroundings: Rc<Surroundings>,
    ) -> Rc<Self> {
        Rc::new(Self {
            key,
            counters: Counters::default(),
            plan: RefCell::new(Rc::new(plan)),
            ledger: RefCell::default(),
            budget,
            surroundings,
            failure: RefCell::default(),
            starving: Cell::new(false),
            clients: Cell::new(0),
            welcomes: RefCell::default(),
            told,
            last_used: Cell::new(Instant::now()),
            cluster: Cell::new(None),
            snapshot: RefCell::default(),
            lead: RefCell::new(Lead::Settings),
            shut: Cell::new(false),
        })
    }

    /// What the settings say.
    #[must_use]
    pub fn plan(&self) -> Rc<PoolPlan> {
        self.plan.borrow().clone()
    }

    /// New settings. Connections that were made by other ones are closed as they come back.
    pub fn apply(&self, plan: PoolPlan, outdated: bool) {
        self.budget.resize(plan.size);
        *self.plan.borrow_mut() = Rc::new(plan);
        self.welcomes.borrow_mut().clear();
        self.told.clear();
        if outdated {
            *self.failure.borrow_mut() = None;
        }
    }

    /// The proof that the newest client gave: connections are opened with it from now on.
    pub fn renew_credential(&self, credential: crate::auth::server_login::Credential) {
        let mut plan = self.plan.borrow_mut();
        if plan.dial.credential != credential {
            Rc::make_mut(&mut plan).dial.credential = credential;
            *self.failure.borrow_mut() = None;
        }
    }

    /// Where everything is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.ledger.borrow().counts()
    }

    /// The pool's budget.
    #[must_use]
    pub const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A client came, or left.
    pub fn count_client(&self, came: bool) {
        self.clients.set(if came { self.clients.get() + 1 } else { self.clients.get().saturating_sub(1) });
        self.budget.count_client(self.surroundings.worker.0, came);
        self.last_used.set(Instant::now());
    }

    /// A connection now, or a place in the queue.
    ///
    /// # Errors
    /// There is no connection, and the server was found to be out of reach a moment ago.
    #[inline]
    pub fn request(self: &Rc<Self>, now: Instant) -> Result<Request, Rc<PoolError>> {
        let order = self.plan.borrow().order;
        while !self.shut.get() {
            let Some(mut member) = self.ledger.borrow_mut().lend(order) else { break };
            if member.server.stream.has_arrivals() {
                self.discard(member, checkin::Discard::Unasked);
                continue;
            }
            if self.needs_check(&member.server, now) {
                self.check(member);
                continue;
            }
            self.note_idle();
            count(&self.counters.assignments, 1);
            return Ok(Request::Now(member));
        }
        self.queue(now).map(Request::Wait)
    }

    /// The idle connection to this server process, if it is there and fit.
    pub fn request_that(&self, process: u32, now: Instant) -> Option<Box<Member>> {
        let fits = |member: &mut Box<Member>| {
            member.server.cancel_key.pid == process
                && !member.server.stream.has_arrivals()
                && !self.needs_check(&member.server, now)
        };
        if self.shut.get() || self.counts().waiting > 0 {
            return None;
        }
        let member = self.ledger.borrow_mut().lend_that(fits)?;
        self.note_idle();
        count(&self.counters.assignments, 1);
        Some(member)
    }

    #[cold]
    fn queue(self: &Rc<Self>, now: Instant) -> Result<Rc<Ticket>, Rc<PoolError>> {
        if *self.lead.borrow() == Lead::Nowhere {
            return Err(Rc::new(PoolError::Nowhere));
        }
        if let Some(failure) = &*self.failure.borrow()
            && failure.retry_at > now
            && !failure.may_move
            && self.open_here() == 0
        {
            return Err(failure.error.clone());
        }
        if self.is_held() && self.counts().waiting >= self.plan.borrow().max_held {
            return Err(Rc::new(PoolError::TooManyHeld));
        }
        let ticket = Ticket::new(now);
        self.ledger.borrow_mut().wait(ticket.clone());
        self.open_more();
        Ok(ticket)
    }

    /// A client gives up waiting.
    pub fn leave(self: &Rc<Self>, ticket: &Rc<Ticket>) {
        self.ledger.borrow_mut().leave(|waiter| Rc::ptr_eq(waiter, ticket));
        if let Some(member) = ticket.leave() {
            self.check_in(member, false);
        }
        self.note_waiting();
    }

    /// A client is done with its connection. `used` is what was left behind: true when the session's state must
    /// go, because it was pinned or in session mode.
    #[inline]
    pub fn check_in(self: &Rc<Self>, mut member: Box<Member>, needs_reset: bool) {
        let now = Instant::now();
        let plan = self.plan.borrow().clone();
        // One that a client listened on would tell the next one.
        let needs_reset = needs_reset || member.server.listens;
        let needs_reset = plan.wants_reset(&mut member.server, needs_reset);
        let circumstances = Circumstances { now, generation: self.budget.generation(), needs_reset };
        match checkin::verdict(&member.server, circumstances) {
            Verdict::Reuse if member.server.cancels.is_quiet() => {}
            Verdict::Reuse => return self.await_cancels(member),
            Verdict::Reset => return self.reset(member, plan),
            Verdict::Discard(reason) => return self.discard(member, reason),
        }
        if !self.fits(&member) {
            return self.discard(member, checkin::Discard::Moved);
        }
        member.server.released = now;
        let waiting = self.counts().waiting > 0;
        if let Some(needier) = self.budget.needier(self.surroundings.worker.0, waiting, now) {
            self.ledger.borrow_mut().closed();
            return self.hand_over(member, WorkerId(needier));
        }
        let granted = self.ledger.borrow_mut().give_back(member);
        self.deliver(granted);
    }

    /// A connection that was lent is of no further use.
    pub fn discard(self: &Rc<Self>, member: Box<Member>, reason: checkin::Discard) {
        tracing::debug!(pool = %self.key, ?reason, "server connection closed");
        self.ledger.borrow_mut().closed();
        self.close(member);
        self.open_more();
    }

    fn needs_check(&self, server: &ServerConnection, now: Instant) -> bool {
        let plan = self.plan.borrow();
        !plan.check_query.is_empty() && now.duration_since(server.released) >= plan.check_delay
    }

    fn close(&self, member: Box<Member>) {
        count(&self.counters.closed, 1);
        let Member { server, permit, .. } = *member;
        server.close();
        drop(permit);
        self.note_idle();
    }

    fn open_here(&self) -> usize {
        let counts = self.counts();
        counts.idle + counts.leased + counts.opening + counts.resetting
    }

    /// Hands a connection to the client it was granted to; if that has left, to the next.
    fn deliver(self: &Rc<Self>, mut granted: Option<(Rc<Ticket>, Box<Member>)>) {
        while let Some((ticket, member)) = granted {
            match ticket.grant(member) {
                Ok(()) => {
                    count(&self.counters.assignments, 1);
                    break;
                }
                Err(member) => granted = self.ledger.borrow_mut().give_back(member),
            }
        }
        self.note_idle();
        self.note_waiting();
    }

    /// Closes idle connections of this pool, oldest first.
    pub fn evict(&self, limit: usize) -> usize {
        let taken = self.ledger.borrow_mut().take_idle(limit, |_| true);
        let closed = taken.len();
        for member in taken {
            self.close(member);
        }
        closed
    }

    #[inline]
    fn note_idle(&self) {
        self.budget.note_idle(self.surroundings.worker.0, self.ledger.borrow().counts().idle);
    }

    fn note_waiting(&self) {
        if self.starving.get() {
            let ledger = self.ledger.borrow();
            let waiting = ledger.counts().waiting;
            let since = ledger.waiters().next().map(|ticket| ticket.since);
            self.budget.starve(self.surroundings.worker.0, waiting, since);
            self.starving.set(waiting > 0);
        }
    }

    /// Adds what passed through a relay to the counters.
    pub fn count_traffic(&self, traffic: Traffic) {
        count(&self.counters.received, traffic.received);
        count(&self.counters.sent, traffic.sent);
        count(&self.counters.queries, traffic.queries);
        count(&self.counters.client_parses, traffic.client_parses);
        count(&self.counters.server_parses, traffic.server_parses);
        count(&self.counters.binds, traffic.binds);
    }

    /// For the log.
    #[must_use]
    pub fn report(&self) -> PoolReport {
        PoolReport {
            key: self.key.clone(),
            counts: self.counts(),
            clients: self.clients.get(),
            transactions: self.counters.transactions.get(),
            queries: self.counters.queries.get(),
        }
    }
}
