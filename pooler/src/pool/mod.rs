//! Pools: the server connections of one database and user on one worker.
//!
//! `ledger` decides who gets what, `budget` how many there may be across workers; this file does what they say:
//! dials, resets, hands over, closes. A pool promises that a connection is lent only when `server::checkin` has
//! found it fit, and that clients are served in order.

pub mod budget;
pub mod card;
pub mod halt;
pub mod lease;
pub mod ledger;
pub mod pools;
pub mod tally;
mod ticket;
pub mod upkeep;

pub use tally::count;
pub use ticket::Ticket;

use crate::config::settings::PoolMode;
use crate::ids::{PoolKey, WorkerId};
use crate::mailbox::{Mailboxes, Order};
use crate::parameters::{Interner, ParameterSet};
use crate::relay::{RelayLimits, Traffic};
use crate::server::checkin::{self, Circumstances, Verdict};
use crate::server::connection::{ParkedServer, ServerConnection};
use crate::server::dial::{self, DialError, DialPlan};
use crate::server::exchange::{self, simple_query};
use budget::{Budget, Denied, Permit};
use card::{Card, ServerReport, Stage};
use dashmap::DashMap;
use halt::Stance;
use ledger::{Counts, Ledger};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::{Counters, Tally};
use thiserror::Error;

/// Dials of one pool and worker at the same time: a server forks for each.
const MOST_DIALS: usize = 8;

/// A server connection and its place in the budget.
#[derive(Debug)]
pub struct Member {
    /// The connection.
    pub server: ServerConnection,
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

/// Cleans up after a session. A reset query that leaves settings or statements is followed by what removes them,
/// so that what we believe of the connection afterwards is true.
async fn clean_up(server: &mut ServerConnection, reset_query: &str) -> Result<(), exchange::ExchangeError> {
    simple_query(server, reset_query).await?;
    let words = reset_query.trim().trim_end_matches(';').split_ascii_whitespace();
    if !words.map(str::to_ascii_lowercase).eq(["discard", "all"]) {
        simple_query(server, "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL").await?;
    }
    Ok(())
}

/// A pool as a report has it.
#[derive(Debug, Clone)]
pub struct PoolReport {
    /// Which pool.
    pub key: PoolKey,
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
        self.waits_since = self.waits_since.into_iter().chain(other.waits_since).min();
        self.tally.add(&other.tally);
    }
}

#[derive(Debug)]
struct Failure {
    error: Rc<PoolError>,
    retry_at: Instant,
    count: u32,
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
    stance: Cell<Stance>,
    cards: RefCell<Vec<Weak<Card>>>,
}

/// Startup parameters, as the key of what a client is told for them.
pub type Welcoming = Vec<(String, String)>;

/// What clients of a pool were told at login, by what they asked for: a worker need not ask a server again for what
/// another knows.
pub type Told = DashMap<Welcoming, Arc<ToldOnce>>;

/// A [`Welcome`] between workers.
#[derive(Debug)]
pub struct ToldOnce {
    reported: Vec<(String, String)>,
    settings: ParameterSet,
}

/// What a client is told at login, and what it wants set from then on.
#[derive(Debug)]
pub struct Welcome {
    /// ParameterStatus, in order.
    pub reported: Vec<(String, String)>,
    /// What must be set on a server for this client.
    pub settings: Rc<ParameterSet>,
}

/// Welcomes that are kept per pool.
const MOST_WELCOMES: usize = 256;

/// What the pools of one worker have in common.
#[derive(Debug)]
pub struct Surroundings {
    /// Which worker this is.
    pub worker: WorkerId,
    /// The others.
    pub mailboxes: Mailboxes,
    /// Tracked parameters and blocks of the worker.
    pub shared: Rc<crate::relay::Shared>,
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
            stance: Cell::default(),
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
        while self.stance.get() == Stance::Open {
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
            member.card.stage.set(Stage::Lent);
            return Ok(Request::Now(member));
        }
        self.queue(now).map(Request::Wait)
    }

    #[cold]
    fn queue(self: &Rc<Self>, now: Instant) -> Result<Rc<Ticket>, Rc<PoolError>> {
        if let Some(failure) = &*self.failure.borrow()
            && failure.retry_at > now
            && self.open_here() == 0
        {
            return Err(failure.error.clone());
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
        let needs_reset = plan.wants_reset(&mut member.server, needs_reset);
        let circumstances = Circumstances { now, generation: self.budget.generation(), needs_reset };
        match checkin::verdict(&member.server, circumstances) {
            Verdict::Reuse if member.server.cancels.is_quiet() => {}
            Verdict::Reuse => return self.await_cancels(member),
            Verdict::Reset => return self.reset(member, plan),
            Verdict::Discard(reason) => return self.discard(member, reason),
        }
        member.server.released = now;
        if self.stance.get() != Stance::Open {
            return self.keep_or_close(member);
        }
        let waiting = self.counts().waiting > 0;
        if let Some(needier) = self.budget.needier(self.surroundings.worker.0, waiting, now) {
            self.ledger.borrow_mut().closed();
            return self.hand_over(member, WorkerId(needier));
        }
        member.card.stage.set(Stage::Idle);
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

    /// The connection's client vanished in the middle of something: ends that, or closes the connection.
    pub fn recover(
        self: &Rc<Self>,
        mut member: Box<Member>,
        input: Option<crate::stream::Buffer>,
        needs_reset: bool,
    ) {
        self.begin_reset(&member);
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let plan = pool.plan();
            let settled = crate::server::recover::recover(&mut member.server, input, &plan.dial).await;
            let needs_reset = plan.wants_reset(&mut member.server, needs_reset);
            member.server.cancels.quiet().await;
            pool.end_reset(member, settled, needs_reset);
        });
    }

    fn needs_check(&self, server: &ServerConnection, now: Instant) -> bool {
        let plan = self.plan.borrow();
        !plan.check_query.is_empty() && now.duration_since(server.released) >= plan.check_delay
    }

    fn check(self: &Rc<Self>, mut member: Box<Member>) {
        self.begin_reset(&member);
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let plan = pool.plan();
            let query = simple_query(&mut member.server, &plan.check_query);
            let alive =
                tokio::time::timeout(plan.dial.timeout, query).await.is_ok_and(|answer| answer.is_ok());
            member.server.released = Instant::now();
            pool.end_reset(member, alive, false);
        });
    }

    fn await_cancels(self: &Rc<Self>, member: Box<Member>) {
        self.begin_reset(&member);
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            member.server.cancels.quiet().await;
            pool.end_reset(member, true, false);
        });
    }

    fn reset(self: &Rc<Self>, member: Box<Member>, plan: Rc<PoolPlan>) {
        self.begin_reset(&member);
        self.run_reset(member, plan);
    }

    fn run_reset(self: &Rc<Self>, mut member: Box<Member>, plan: Rc<PoolPlan>) {
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            member.server.cancels.quiet().await;
            let queries = clean_up(&mut member.server, &plan.reset_query);
            let clean =
                tokio::time::timeout(plan.dial.timeout, queries).await.is_ok_and(|answer| answer.is_ok());
            if clean {
                // Whatever the reset query leaves, the next client's settings are made anew from here.
                member.server.settings = pool.surroundings.interner().intern(Default::default());
                member.server.statements.clear();
            }
            pool.end_reset(member, clean, false);
        });
    }

    /// The connection is fit again, or it is closed.
    fn end_reset(self: &Rc<Self>, mut member: Box<Member>, fit: bool, needs_reset: bool) {
        let now = Instant::now();
        let circumstances = Circumstances { now, generation: self.budget.generation(), needs_reset };
        let verdict = checkin::verdict(&member.server, circumstances);
        if fit && verdict == Verdict::Reset {
            let plan = self.plan();
            return self.run_reset(member, plan);
        }
        if fit && verdict == Verdict::Reuse && self.stance.get() != Stance::Paused {
            member.server.released = now;
            self.take_back(member);
        } else {
            self.ledger.borrow_mut().failed_to_reset();
            self.close(member);
            self.open_more();
        }
    }

    fn close(&self, member: Box<Member>) {
        count(&self.counters.closed, 1);
        let Member { server, permit, card } = *member;
        drop(card);
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

    /// Opens what is missing, as far as the budget goes.
    fn open_more(self: &Rc<Self>) {
        self.open_up_to(0, false);
    }

    fn open_up_to(self: &Rc<Self>, reserve: usize, patient: bool) {
        while self.stance.get() == Stance::Open {
            let (shortage, opening) = {
                let ledger = self.ledger.borrow();
                (ledger.shortage(), ledger.counts().opening)
            };
            if shortage == 0 || opening >= MOST_DIALS {
                break;
            }
            match self.budget.permit(self.surroundings.worker.0, reserve) {
                Ok(permit) => self.open(permit),
                Err(denied) => {
                    self.ask_for_help(denied, patient);
                    break;
                }
            }
        }
        self.note_waiting();
    }

    fn ask_for_help(&self, denied: Denied, patient: bool) {
        let worker = self.surroundings.worker;
        self.starving.set(true);
        self.note_waiting();
        if let Some(richest) = self.budget.richest(worker.0, patient) {
            self.surroundings.mailboxes.send(WorkerId(richest), Order::Lend(self.key.clone(), worker));
        } else if denied == Denied::Database {
            for other in 0..self.surroundings.mailboxes.workers() {
                self.surroundings.mailboxes.send(WorkerId(other), Order::Evict(self.key.database.clone()));
            }
        }
    }

    fn open(self: &Rc<Self>, permit: Permit) {
        self.ledger.borrow_mut().begin_opening();
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let mut plan = pool.plan().dial.clone();
            plan.lifetime = pool.lifetime(plan.lifetime);
            let generation = pool.budget.generation();
            match dial::dial(&plan, &pool.surroundings.shared.local, generation).await {
                Ok(server) => {
                    *pool.failure.borrow_mut() = None;
                    count(&pool.counters.opened, 1);
                    pool.admit(server, permit);
                }
                Err(error) => {
                    drop(permit);
                    pool.ledger.borrow_mut().failed_to_open();
                    pool.fail(error);
                }
            }
        });
    }

    /// A connection that is new here: gets its card, and goes to who waits, or to rest.
    fn admit(self: &Rc<Self>, server: ServerConnection, permit: Permit) {
        let card = Card::new(&server);
        let mut cards = self.cards.borrow_mut();
        cards.retain(|card| card.strong_count() > 0);
        cards.push(Rc::downgrade(&card));
        drop(cards);
        let member = Box::new(Member { server, card, permit });
        if self.stance.get() == Stance::Open {
            let granted = self.ledger.borrow_mut().opened(member);
            self.deliver(granted);
        } else if self.stance.get() == Stance::Paused {
            self.ledger.borrow_mut().failed_to_open();
            self.close(member);
        } else {
            self.ledger.borrow_mut().kept_aside(member, ledger::From::Opening);
            self.note_idle();
        }
    }

    fn begin_reset(&self, member: &Member) {
        member.card.client.set(None);
        member.card.stage.set(Stage::Resetting);
        self.ledger.borrow_mut().begin_reset();
    }

    /// A connection is fit again.
    fn take_back(self: &Rc<Self>, member: Box<Member>) {
        member.card.stage.set(Stage::Idle);
        if self.stance.get() == Stance::Suspended {
            self.ledger.borrow_mut().kept_aside(member, ledger::From::Reset);
            return self.note_idle();
        }
        let granted = self.ledger.borrow_mut().reset(member);
        self.deliver(granted);
    }

    /// A connection comes back while nothing is lent.
    fn keep_or_close(self: &Rc<Self>, member: Box<Member>) {
        if self.stance.get() == Stance::Paused {
            self.ledger.borrow_mut().closed();
            return self.close(member);
        }
        member.card.stage.set(Stage::Idle);
        self.ledger.borrow_mut().kept_aside(member, ledger::From::Lease);
        self.note_idle();
    }

    /// Lends connections from now on, or does not.
    pub fn halt(self: &Rc<Self>, stance: Stance) {
        self.stance.set(stance);
        match stance {
            Stance::Paused => _ = self.evict(usize::MAX),
            Stance::Suspended => {}
            Stance::Open => {
                let granted = self.ledger.borrow_mut().serve();
                for grant in granted {
                    self.deliver(Some(grant));
                }
                self.open_more();
            }
        }
    }

    /// Whether the halt has taken effect: nothing is lent, and if paused nothing is open.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let counts = self.counts();
        let busy = counts.leased + counts.opening + counts.resetting;
        busy == 0 && (self.stance.get() != Stance::Paused || counts.idle == 0)
    }

    fn lifetime(&self, lifetime: Option<Duration>) -> Option<Duration> {
        let jitter = self.plan.borrow().lifetime_jitter;
        lifetime.map(|lifetime| lifetime.mul_f64(1.0 + jitter * (2.0 * rand::random::<f64>() - 1.0)))
    }

    /// A dial failed: while no connection is open, everybody who waits learns why at once.
    fn fail(self: &Rc<Self>, error: DialError) {
        tracing::warn!(pool = %self.key, error = %dial::explain(&error), "cannot open a server connection");
        let error = Rc::new(PoolError::Dial(error));
        let before = self.failure.borrow().as_ref().map_or(0, |failure| failure.count);
        let pause = self.plan.borrow().login_retry * 2u32.pow(before.min(4));
        let retry_at = Instant::now() + pause;
        *self.failure.borrow_mut() = Some(Failure { error: error.clone(), retry_at, count: before + 1 });
        if self.open_here() == 0 {
            for ticket in self.ledger.borrow_mut().dismiss() {
                ticket.refuse(error.clone());
            }
        }
        self.note_waiting();
    }

    /// Another worker lacks a connection: sends it an idle one.
    pub fn lend_to(self: &Rc<Self>, worker: WorkerId) {
        // One that has something to say is closed, or about to be.
        let taken = self.ledger.borrow_mut().take_idle(1, |member| !member.server.stream.has_arrivals());
        for member in taken {
            self.hand_over(member, worker);
        }
        self.note_idle();
    }

    fn hand_over(&self, member: Box<Member>, worker: WorkerId) {
        let Member { server, mut permit, card } = *member;
        drop(card);
        match server.park() {
            Ok(parked) => {
                permit.move_to(worker.0);
                self.surroundings
                    .mailboxes
                    .send(worker, Order::Adopt(self.key.clone(), Box::new(parked), permit));
            }
            Err(error) => tracing::debug!(pool = %self.key, %error, "server connection lost between workers"),
        }
    }

    /// A connection comes from another worker.
    pub fn adopt(self: &Rc<Self>, parked: ParkedServer, permit: Permit) {
        match parked.unpark(self.surroundings.interner()) {
            Ok(server) => {
                self.ledger.borrow_mut().begin_opening();
                self.admit(server, permit);
            }
            Err(error) => tracing::debug!(pool = %self.key, %error, "server connection lost between workers"),
        }
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

    /// What a client with these startup parameters is told, if that is known.
    #[must_use]
    pub fn welcome(&self, wanted: &Welcoming) -> Option<Rc<Welcome>> {
        if let Some(known) = self.welcomes.borrow().get(wanted) {
            return Some(known.clone());
        }
        let told = self.told.get(wanted)?.clone();
        let settings = self.surroundings.interner().intern(told.settings.clone());
        let welcome = Rc::new(Welcome { reported: told.reported.clone(), settings });
        self.remember(wanted.clone(), welcome.clone());
        Some(welcome)
    }

    fn remember(&self, wanted: Welcoming, welcome: Rc<Welcome>) {
        let mut welcomes = self.welcomes.borrow_mut();
        if welcomes.len() >= MOST_WELCOMES {
            welcomes.clear();
        }
        welcomes.insert(wanted, welcome);
    }

    /// Finds out what a client with these startup parameters is told, by setting them on a connection.
    ///
    /// # Errors
    /// The server refuses a parameter, or is lost.
    pub async fn learn_welcome(
        &self,
        member: &mut Member,
        wanted: Welcoming,
    ) -> Result<Rc<Welcome>, exchange::ExchangeError> {
        let interner = self.surroundings.interner();
        let settings = interner.intern(ParameterSet::from_pairs(wanted.iter().map(|(n, v)| (n, v))));
        let server = &mut member.server;
        let mut statements = String::new();
        crate::parameters::difference(&mut statements, &server.settings, &settings);
        let mut reported: Vec<(String, String)> = Vec::clone(&server.welcome);
        let mut known = ParameterSet::clone(&settings);
        if !statements.is_empty() {
            server.tainted = true;
            let answer = simple_query(server, &statements).await?;
            server.tainted = false;
            for (name, value) in answer.reported {
                if settings.value(&name).is_some() {
                    known.put(&name, &value);
                }
                match reported.iter_mut().find(|(known, _)| *known == name) {
                    Some(entry) => entry.1 = value,
                    None => reported.push((name, value)),
                }
            }
        }
        let settings = interner.intern(known);
        server.settings = settings.clone();
        let welcome = Rc::new(Welcome { reported, settings });
        if self.told.len() >= MOST_WELCOMES {
            self.told.clear();
        }
        let told =
            ToldOnce { reported: welcome.reported.clone(), settings: ParameterSet::clone(&welcome.settings) };
        self.told.insert(wanted.clone(), Arc::new(told));
        self.remember(wanted, welcome.clone());
        Ok(welcome)
    }

    /// Where everything is, and what was counted.
    #[must_use]
    pub fn report(&self) -> PoolReport {
        let plan = self.plan.borrow();
        let ledger = self.ledger.borrow();
        PoolReport {
            key: self.key.clone(),
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
}
