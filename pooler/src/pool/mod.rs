//! Pools: the server connections of one database and user on one worker.
//!
//! `ledger` decides who gets what, `budget` how many there may be across workers; this file does what they say:
//! dials, resets, hands over, closes. A pool promises that a connection is lent only when `server::checkin` has
//! found it fit, and that clients are served in order.

pub mod budget;
pub mod card;
mod following;
pub mod halt;
mod handover;
pub mod lead;
pub mod lease;
pub mod ledger;
mod opening;
mod pausing;
pub mod pools;
mod repair;
mod suspecting;
mod suspicion;
pub mod tally;
mod ticket;
pub mod upkeep;
mod welcome;

pub use crate::stopwatch::count;
pub use ticket::Ticket;
pub use welcome::{Told, Welcome, Welcoming};

use crate::config::settings::{CommitOutcome, LostTransactions, PoolMode};
use crate::ids::{ClusterId, PoolKey, WorkerId};
use crate::mailbox::Mailboxes;
use crate::parameters::Interner;
use crate::pins::PinReason;
use crate::relay::{RelayLimits, Traffic};
use crate::server::checkin::{self, Circumstances, Verdict};
use crate::server::connection::ServerConnection;
use crate::server::dial::{self, DialError, DialPlan};
use crate::shapes::PoolNumber;
use crate::topology::{Newest, Snapshot};
use budget::{Budget, Permit};
use card::{Card, ServerReport, Stage};
use halt::Stance;
use lead::{Lead, Origin};
use ledger::{Counts, Ledger};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use suspicion::Suspicion;
use tally::{Counters, Tally};
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
    /// What an operator sees of it.
    pub card: Rc<Card>,
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
    /// What is told of a commit that was not answered.
    pub commit_outcome: CommitOutcome,
    /// What becomes of a transaction whose connection is lost.
    pub lost_transactions: LostTransactions,
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

/// A pool as a report has it.
#[derive(Debug, Clone)]
pub struct PoolReport {
    /// Which pool.
    pub key: PoolKey,
    /// Its number on this worker.
    pub number: PoolNumber,
    /// Sessions that keep their connection, by reason.
    pub pinned: [u64; PinReason::ALL.len()],
    /// When its connections go back.
    pub mode: PoolMode,
    /// Connections at most.
    pub size: usize,
    /// Where its connections are.
    pub counts: Counts,
    /// Clients that are logged in.
    pub clients: usize,
    /// When the client came that waits longest.
    pub waits_since: Option<Instant>,
    /// What it has counted.
    pub tally: Tally,
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
        for (mine, theirs) in self.pinned.iter_mut().zip(other.pinned) {
            *mine += theirs;
        }
        self.waits_since = self.waits_since.into_iter().chain(other.waits_since).min();
        self.tally.add(&other.tally);
    }
}

#[derive(Debug)]
struct Failure {
    error: Rc<PoolError>,
    retry_at: Instant,
    count: u32,
    /// Another host may take over: clients wait for that.
    may_move: bool,
    /// The server is well, and the database is not there. It may be any moment, so that who asks again is told anew.
    is_absent: bool,
}

/// The connections of one database and user on one worker.
#[derive(Debug)]
pub struct Pool {
    /// Which pool.
    pub key: PoolKey,
    /// Equal for all pools of one database and user, on whatever worker and host.
    pub mark: u64,
    /// A number that no other pool of the process has.
    pub number: PoolNumber,
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
    /// What the operator wants.
    stance: Cell<Stance>,
    /// A connection broke as they do when the server stops.
    suspicion: Cell<Suspicion>,
    /// Nothing is lent or opened: the lead, the stance or the suspicion says why.
    shut: Cell<bool>,
    /// Of connections that are open, and of some that were.
    cards: RefCell<Vec<Weak<Card>>>,
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

/// See [`Pool::mark`].
fn mark(key: &PoolKey) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one((&key.database, &key.user))
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
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Rc::new(Self {
            mark: mark(&key),
            key,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
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
            stance: Cell::default(),
            suspicion: Cell::default(),
            shut: Cell::new(false),
            cards: RefCell::default(),
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

    /// How to reach the other threads.
    #[must_use]
    pub fn mailboxes(&self) -> &Mailboxes {
        &self.surroundings.mailboxes
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
            if self.is_outdated(&member.server) {
                self.discard(member, checkin::Discard::Outdated);
                continue;
            }
            if member.server.stream.has_arrivals() {
                self.hear_out(&mut member);
                self.discard(member, checkin::Discard::Unasked);
                continue;
            }
            if self.needs_check(&member.server, now) {
                self.check(member);
                continue;
            }
            self.note_lent(&member);
            return Ok(Request::Now(member));
        }
        self.queue(now).map(Request::Wait)
    }

    /// RECONNECT, or other settings, have come since it was opened.
    fn is_outdated(&self, server: &ServerConnection) -> bool {
        server.generation != self.budget.generation()
    }

    /// An idle connection that is wanted, if one is there and fit.
    pub fn request_idle(
        &self,
        is_wanted: impl Fn(&ServerConnection) -> bool,
        now: Instant,
    ) -> Option<Box<Member>> {
        let fits = |member: &mut Box<Member>| {
            is_wanted(&member.server)
                && !self.is_outdated(&member.server)
                && !member.server.stream.has_arrivals()
                && !self.needs_check(&member.server, now)
        };
        if self.shut.get() || self.counts().waiting > 0 {
            return None;
        }
        let member = self.ledger.borrow_mut().lend_that(fits)?;
        self.note_lent(&member);
        Some(member)
    }

    fn note_lent(&self, member: &Member) {
        self.note_idle();
        count(&self.counters.assignments, 1);
        member.card.stage.set(Stage::Lent);
    }

    #[cold]
    fn queue(self: &Rc<Self>, now: Instant) -> Result<Rc<Ticket>, Rc<PoolError>> {
        if *self.lead.borrow() == Lead::Nowhere {
            return Err(Rc::new(PoolError::Nowhere));
        }
        if let Some(failure) = &*self.failure.borrow()
            && failure.retry_at > now
            && !failure.may_move
            && !failure.is_absent
            && self.open_here() == 0
        {
            return Err(failure.error.clone());
        }
        // Who waits for an answer of the probes does not wait for a primary yet.
        let is_held = self.is_held() && !self.suspicion.get().holds();
        if is_held && self.counts().waiting >= self.plan.borrow().max_held {
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
        member.card.client.set(None);
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
        member.card.stage.set(Stage::Idle);
        if self.keeps_aside() {
            return self.keep_aside(member, ledger::From::Lease);
        }
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
            member.card.stage.set(Stage::Lent);
            match ticket.grant(member) {
                Ok(()) => {
                    count(&self.counters.assignments, 1);
                    break;
                }
                Err(member) => {
                    member.card.stage.set(Stage::Idle);
                    granted = self.ledger.borrow_mut().give_back(member);
                }
            }
        }
        self.note_idle();
        self.note_waiting();
    }

    /// Whether clients wait, of any worker, and no connection can be opened for them.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.budget.is_short()
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

    /// Where everything is, and what was counted.
    #[must_use]
    pub fn report(&self) -> PoolReport {
        let plan = self.plan.borrow();
        let ledger = self.ledger.borrow();
        PoolReport {
            key: self.key.clone(),
            number: self.number,
            pinned: Default::default(),
            mode: plan.mode,
            size: plan.size,
            counts: ledger.counts(),
            clients: self.clients.get(),
            waits_since: ledger.waiters().next().map(|ticket| ticket.since),
            tally: self.counters.read(),
        }
    }

    /// Every server connection, whoever has it.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerReport> {
        let generation = self.budget.generation();
        self.cards.borrow().iter().filter_map(Weak::upgrade).map(|card| card.report(generation)).collect()
    }

    /// How many server connections use TLS.
    #[must_use]
    pub fn count_tls(&self) -> usize {
        let cards = self.cards.borrow();
        cards.iter().filter_map(Weak::upgrade).filter(|card| card.ends.tls.is_some()).count()
    }

    /// A connection that is new here, with its card.
    fn enlist(&self, server: ServerConnection, origin: Option<Origin>, permit: Permit) -> Box<Member> {
        let card = Card::new(&server);
        let mut cards = self.cards.borrow_mut();
        cards.retain(|card| card.strong_count() > 0);
        cards.push(Rc::downgrade(&card));
        Box::new(Member { server, origin, card, permit })
    }
}
