//! Where the next batch goes, and what is kept so that it can run again elsewhere.

use super::Session;
use super::batch::{Batch, Defaults, Tie, first_batch};
use super::services::Services;
use crate::config::settings::{Consistency, PoolMode, Route, RoutingSettings};
use crate::ids::{HostId, PoolHost, PoolKey};
use crate::mailbox::Choice;
use crate::parameters::ParameterSet;
use crate::pool::Pool;
use crate::relay::{self, OwnDefaults, Relay, WriteClock};
use crate::route::decide::{Decision, Nature, Seen, Why};
use crate::route::wishes::Wishes;
use crate::route::{Attempt, Known, Router, Scope};
use crate::runtime::Runtime;
use crate::stream::Buffer;
use crate::topology::{Moment, Snapshot};
use hawser_sql_router::calls::Ask;
use hawser_sql_router::effects;
use hawser_sql_router::fingerprint;
use hawser_sql_router::knowledge::SearchPath;
use hawser_sql_router::statement::{Access, Isolation, Modes, TransactionControl};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Longest batch that is kept so that it can run again.
const LONGEST_KEPT: usize = 16 * 1024;

/// Hosts that are tried for one batch before it goes to the primary for good.
const MOST_ATTEMPTS: u32 = 3;

/// Servers that may be lost over one batch before that is said: it may be what brings them down. As many as are tried for it
/// and the primary may be lost for other reasons, at once.
const MOST_LOSSES: u32 = MOST_ATTEMPTS + 2;

/// A transaction runs again so often in vain.
const MOST_RERUNS: u32 = 1;

/// What a session needs to choose among several hosts.
#[derive(Debug)]
pub(super) struct Routing {
    services: Rc<Services>,
    runtime: Arc<Runtime>,
    scope: Scope,
    user: Box<str>,
    wishes: Option<(Rc<ParameterSet>, Wishes)>,
    last_write: Moment,
    standbys: Vec<(HostId, Rc<Pool>)>,
    /// Transactions that may write begin on the primary after all.
    no_early: bool,
}

/// One batch on its way.
#[derive(Debug)]
pub(super) struct Errand {
    /// Where it goes.
    pub pool: Rc<Pool>,
    /// The standby, if it goes to one.
    pub standby: Option<HostId>,
    /// What it does, if anybody looked.
    pub nature: Option<Nature>,
    /// Why it goes to the primary, if there was a choice.
    pub reason: Option<Why>,
    /// Its bytes, if it can run again.
    pub kept: Option<Vec<u8>>,
    /// It belongs to a transaction that may write, and that is on a standby until it does.
    pub early: Option<Early>,
    changes_catalog: bool,
    attempts: u32,
    /// Servers that were lost over it.
    losses: u32,
    /// Times that it ran again since the client has heard something new.
    reruns: u32,
    avoid: Option<HostId>,
    /// When the last write of any session was acknowledged before it came.
    any_write: Option<Moment>,
}

/// A transaction that has done nothing but read so far, each time what was there at that moment (READ COMMITTED): so it
/// can go on elsewhere at any time (`transaction_reads`).
#[derive(Debug, Clone)]
pub(super) struct Early {
    /// The client's BEGIN.
    pub begin: Box<str>,
    /// When its first read was wanted.
    pub since: Instant,
}

/// How such a transaction begins on a standby. It fails, and the transaction begins on the primary, where the database
/// has another isolation level for those that name none.
pub(super) const BEGIN_EARLY: &str = "BEGIN READ ONLY;SELECT 1 / (pg_catalog.current_setting('transaction_isolation') \
     OPERATOR(pg_catalog.=) 'read committed')::pg_catalog.int4";

/// What a read waits for.
#[derive(Debug)]
pub(super) struct Proof {
    router: Rc<Router>,
    snapshot: Arc<Snapshot>,
    moment: Moment,
    until: Instant,
}

impl Proof {
    /// Waits until a standby may have it, or it has taken too long.
    pub(super) async fn wait(self) {
        self.router.wait(&self.snapshot, self.moment, self.until).await;
    }
}

impl Routing {
    /// For a session of this user in this pool; `None` where there is nothing to choose.
    pub(super) fn new(services: &Rc<Services>, pool: &Pool, user: &str) -> Option<Box<Self>> {
        if pool.plan().mode == PoolMode::Session {
            return None;
        }
        let cluster = pool.cluster()?;
        let runtime = services.runtime();
        let settings = settings(&runtime, &pool.key, user);
        let scope = services.router.scope(cluster, &pool.plan().dial.dbname, settings);
        // Who connects anew sees what was written before, by whomever: it may be the same program.
        let last_write = scope.last_write();
        Some(Box::new(Self {
            services: services.clone(),
            runtime,
            scope,
            user: user.into(),
            wishes: None,
            last_write,
            standbys: Vec::new(),
            no_early: false,
        }))
    }

    /// For a session that has moved here with what it remembers; `None` where there is nothing to choose.
    pub(super) fn remembered(services: &Rc<Services>, pool: &Pool, memory: Choice) -> Option<Box<Self>> {
        let mut routing = Self::new(services, pool, &memory.user)?;
        (routing.last_write, routing.no_early) = (memory.last_write, memory.no_early);
        routing.scope.known.changed.set(memory.catalog_change);
        Some(routing)
    }

    /// What the session takes along where it moves to another worker.
    pub(super) fn memory(self) -> Choice {
        Choice {
            user: self.user,
            last_write: self.last_write,
            catalog_change: self.scope.known.changed.get(),
            no_early: self.no_early,
        }
    }

    /// Keeps up with the settings of the process and of the session.
    fn renew(&mut self, parameters: &Rc<ParameterSet>, key: &PoolKey) {
        if !self.services.is_current(&self.runtime) {
            self.runtime = self.services.runtime();
            self.scope.settings = settings(&self.runtime, key, &self.user);
            self.wishes = None;
        }
        if !self.wishes.as_ref().is_some_and(|(known, _)| Rc::ptr_eq(known, parameters)) {
            let wishes = Wishes::of(parameters, &self.scope.settings, &self.user);
            self.wishes = Some((parameters.clone(), wishes));
        }
    }

    /// Whether everything that the session does goes to standbys, as it began.
    pub(super) fn only_reads(&mut self, parameters: &Rc<ParameterSet>, key: &PoolKey) -> bool {
        self.renew(parameters, key);
        self.wishes.as_ref().is_some_and(|(_, wishes)| wishes.route == Route::Standby)
    }

    /// The pool of a standby.
    fn standby(&mut self, host: HostId, primary: &Pool) -> Option<Rc<Pool>> {
        if let Some((_, pool)) = self.standbys.iter().find(|(known, _)| *known == host) {
            return Some(pool.clone());
        }
        let key = PoolKey { host: PoolHost::Standby(host), ..primary.key.clone() };
        let database = self.runtime.database(&key.database)?;
        let credential = primary.plan().dial.credential.clone();
        let pool = self.services.pools.pool(&key, database, credential)?;
        self.standbys.push((host, pool.clone()));
        Some(pool)
    }

    /// Whether transactions that may write begin on a standby.
    fn begins_early(&self, wishes: &Wishes) -> bool {
        self.scope.settings.transaction_reads == Route::Standby
            && wishes.route == Route::Auto
            // What others write meanwhile would have to be seen too.
            && wishes.consistency != Consistency::Cluster
            && wishes.is_read_committed
            && !self.no_early
    }

    /// A standby would not have such a transaction; the next ones begin on the primary.
    pub(super) fn give_up_early(&mut self) {
        if !std::mem::replace(&mut self.no_early, true) {
            tracing::warn!(
                database = self.scope.known.database(),
                "transaction_reads = \"standby\" is for READ COMMITTED, which is not the default here"
            );
        }
    }

    /// What holds for a session that has set nothing.
    pub(super) const fn own_defaults(&self) -> OwnDefaults {
        let settings = &self.scope.settings;
        OwnDefaults { route: settings.route.word(), consistency: settings.consistency.word() }
    }

    /// What stamps the moment at which writes are acknowledged.
    pub(super) fn write_clock(&self) -> WriteClock {
        WriteClock { newest: self.scope.writes().clone(), now: || Moment::now().0 }
    }
}

/// What a session of this pool knows of its database where there is no host to choose; nothing where it has a server
/// connection of its own.
pub(super) fn known(services: &Services, pool: &Pool) -> Option<Box<Known>> {
    if pool.plan().mode == PoolMode::Session || pool.cluster().is_some() {
        return None;
    }
    let runtime = services.runtime();
    let cluster = runtime.facilities.clusters.id(&runtime.database(&pool.key.database)?.hosts);
    Some(Box::new(runtime.facilities.routing.known(cluster, &pool.plan().dial.dbname)))
}

/// What the settings say for a user of a database.
fn settings(runtime: &Runtime, key: &PoolKey, user: &str) -> RoutingSettings {
    let mut settings = runtime.settings.routing.clone();
    let database = runtime.database(&key.database).map(|database| database.routing);
    let user = runtime.user(user).map(|user| user.routing);
    for over in [database, user].into_iter().flatten() {
        settings.route = over.route.unwrap_or(settings.route);
        settings.consistency = over.consistency.unwrap_or(settings.consistency);
        settings.transaction_reads = over.transaction_reads.unwrap_or(settings.transaction_reads);
    }
    settings
}

/// Whether what a transaction with these modes reads before it writes may come from elsewhere.
const fn may_begin_early(modes: Modes) -> bool {
    matches!(modes.isolation, None | Some(Isolation::ReadCommitted))
}

/// Whether a text may look for the session's prepared statements by their names, in a function that nobody knows.
fn may_look(text: &[u8]) -> bool {
    let is_asked_about = || effects::of_words(text).is_some_and(|effects| effects.ask != Ask::No);
    !effects::are_surely_none(text) && is_asked_about()
}

impl Errand {
    /// A batch that nobody has looked at goes to the pool of the session.
    pub(super) fn new(pool: Rc<Pool>) -> Self {
        Self {
            pool,
            standby: None,
            nature: None,
            reason: None,
            kept: None,
            early: None,
            changes_catalog: false,
            attempts: 0,
            losses: 0,
            reruns: 0,
            avoid: None,
            any_write: None,
        }
    }

    /// The host that it went to cannot serve it.
    pub(super) fn fail(&mut self) {
        self.attempts += 1;
        self.avoid = self.standby.or(self.avoid);
    }

    /// The client has heard something new of it.
    pub(super) const fn get_on(&mut self) {
        self.reruns = 0;
    }

    /// Whether a transaction that is lost may run again. It may be what brings servers down, so not for ever.
    pub(super) const fn may_rerun(&mut self) -> bool {
        self.reruns += 1;
        self.reruns <= MOST_RERUNS
    }

    /// Whether another host may be tried.
    const fn may_try_again(&self) -> bool {
        self.attempts <= MOST_ATTEMPTS
    }

    /// A server was lost over it, and it runs again.
    pub(super) const fn note_loss(&mut self) {
        self.losses += 1;
    }

    /// Whether it may run again if a server is lost over it.
    pub(super) const fn may_lose_another(&self) -> bool {
        self.losses < MOST_LOSSES
    }

    /// Whether it was taken for a read that another host can run if this one refuses it.
    pub(super) const fn is_guess(&self) -> bool {
        self.kept.is_some() && self.standby.is_some() && self.only_reads()
    }

    /// Whether its transaction is on a standby and may have to leave it.
    pub(super) const fn is_early(&self) -> bool {
        self.early.is_some() && self.standby.is_some()
    }

    /// Whether it goes to the primary only because no standby could serve it.
    pub(super) const fn misses_standby(&self) -> bool {
        matches!(self.reason, Some(Why::NoStandby | Why::Lag | Why::NotFresh))
    }

    /// Whether it is sure that nothing was written.
    pub(super) const fn only_reads(&self) -> bool {
        matches!(self.nature, Some(Nature::Read | Nature::ReadOnlyTransaction | Nature::Session))
    }
}

impl Session {
    /// What is known of the database.
    pub(super) fn known(&self) -> Option<&Known> {
        self.routing.as_ref().map(|routing| &routing.scope.known).or(self.known.as_deref())
    }

    /// Finds out where the first batch in the input goes, or what has to be waited for first.
    pub(super) fn route(&mut self, errand: &mut Errand, since: Instant) -> Option<Proof> {
        // It has just come; or it has waited, or been somewhere in vain.
        let now = if errand.any_write.is_none() { since } else { Instant::now() };
        if let Some(known) = self.known() {
            known.look(&self.pool, Moment::at(now));
        }
        errand.pool = self.pool.clone();
        errand.standby = None;
        (errand.nature, errand.reason, errand.kept, errand.early) = (None, None, None, None);
        if matches!(self.deferred, Some(super::Deferred::Failed(_))) || self.rerun.is_some() {
            return None;
        }
        let Some(mut routing) = self.routing.take() else {
            if self.has_begun() {
                errand.kept = self.keep_simple_query();
            }
            return None;
        };
        if let Some(batch) = self.look(&mut routing, errand) {
            errand.nature = Some(self.in_transaction(batch, &routing, errand, since));
            if errand.only_reads() || self.has_begun() {
                errand.kept = self.keep(batch.length);
            }
        }
        let mut proof = None;
        let decision = self.choose(&routing, errand, since, now);
        if let Some(decision) = decision {
            routing.services.router.count(decision);
        }
        match decision {
            Some(Decision::Standby(host)) => {
                if let Some(pool) = routing.standby(host, &self.pool) {
                    errand.pool = pool;
                    errand.standby = Some(host);
                }
            }
            Some(Decision::Wait(moment)) => {
                let until = since + routing.scope.settings.wait;
                let router = routing.services.router.clone();
                proof = self.pool.snapshot().map(|snapshot| Proof { router, snapshot, moment, until });
            }
            Some(Decision::Primary(why)) => errand.reason = Some(why),
            None => {}
        }
        self.routing = Some(routing);
        proof
    }

    /// Looks at the batch.
    fn look(&self, routing: &mut Routing, errand: &mut Errand) -> Option<Batch> {
        routing.renew(&self.client.state.settings, &self.pool.key);
        let (_, wishes) = routing.wishes.as_ref()?;
        let router = &routing.services.router;
        // Who may look for such statements by their names finds them where they are laid open, and the session stays there.
        let looked_for = self.client.statements.any_of_sql();
        let refused = Cell::new(false);
        let defaults = Defaults { read_only: wishes.read_only };
        let mut batch = first_batch(&self.client, defaults, |text, knows_names| {
            let is_primarys =
                looked_for && may_look(text) || router.has_learned(|| fingerprint::of(text).hash);
            refused.set(refused.get() || is_primarys);
            if knows_names {
                router.classify(text, &routing.scope, &wishes.path)
            } else {
                router.classify(text, &routing.scope, &SearchPath::unknown())
            }
        })?;
        let may_look_later = looked_for && batch.nature == Nature::ReadOnlyTransaction;
        if refused.get() || may_look_later || routing.scope.known.is_in_doubt() {
            (batch.nature, batch.tie) = (Nature::Write, Tie::Firm);
        }
        errand.changes_catalog = batch.changes_catalog;
        Some(batch)
    }

    /// What becomes of a batch's nature by the transaction that has begun, and that no server has seen.
    fn in_transaction(&self, batch: Batch, routing: &Routing, errand: &mut Errand, since: Instant) -> Nature {
        let Some(super::Deferred::Begun(begin)) = &self.deferred else { return batch.nature };
        let Some((_, wishes)) = &routing.wishes else { return Nature::Write };
        let verdicts = routing.services.router.classify(begin.as_bytes(), &routing.scope, &wishes.path);
        let begins = |fits: &dyn Fn(Modes) -> bool| {
            verdicts.statements().iter().all(|verdict| match verdict.access {
                Access::Transaction(TransactionControl::Begin(modes)) => fits(modes),
                _ => false,
            })
        };
        let defaults = Defaults { read_only: wishes.read_only };
        let stays = batch.nature != Nature::Write && !self.client.statements.any_of_sql();
        if stays && begins(&|modes| defaults.fit_standby(modes)) {
            return Nature::ReadOnlyTransaction;
        }
        if batch.tie == Tie::Loose && routing.begins_early(wishes) && begins(&may_begin_early) {
            errand.early = Some(Early { begin: begin.clone(), since });
            return Nature::Read;
        }
        Nature::Write
    }

    /// Whether a transaction that is on a standby goes on there with the next batch. If so, what that is.
    pub(super) fn goes_on(&mut self, before: &Errand) -> Option<Errand> {
        let mut routing = self.routing.take()?;
        let mut errand = Errand::new(before.pool.clone());
        let batch = self.look(&mut routing, &mut errand);
        self.routing = Some(routing);
        let batch = batch.filter(|batch| batch.tie != Tie::Firm)?;
        errand.nature = Some(Nature::Read);
        (errand.standby, errand.early) = (before.standby, before.early.clone());
        errand.kept = self.keep(batch.length);
        Some(errand)
    }

    fn has_begun(&self) -> bool {
        matches!(self.deferred, Some(super::Deferred::Begun(_)))
    }

    /// A copy of the batch.
    fn keep(&self, length: usize) -> Option<Vec<u8>> {
        let input = self.client.input.as_ref()?.data();
        (length <= LONGEST_KEPT).then(|| input.get(..length).map(<[u8]>::to_vec)).flatten()
    }

    fn keep_simple_query(&self) -> Option<Vec<u8>> {
        self.keep(simple_query_length(self.client.input.as_ref()?.data())?)
    }

    /// Where the batch goes, if there is a choice.
    fn choose(
        &self,
        routing: &Routing,
        errand: &mut Errand,
        since: Instant,
        now: Instant,
    ) -> Option<Decision> {
        let nature = errand.nature?;
        let (_, wishes) = routing.wishes.as_ref()?;
        let router = &routing.services.router;
        let snapshot = self.pool.snapshot()?;
        if snapshot.hosts.len() < 2 {
            return None;
        }
        if !errand.may_try_again() {
            return nature.fits_standby().then_some(Decision::Primary(Why::NoStandby));
        }
        let scope = &routing.scope;
        // What is written from now on need not be seen: else a read might wait for ever while others write.
        let any_write = *errand.any_write.get_or_insert_with(|| scope.last_write());
        let attempt = Attempt {
            seen: Seen { own_write: routing.last_write, any_write },
            avoid: errand.avoid,
            now,
            is_late: now.duration_since(since) >= scope.settings.wait,
        };
        Some(router.decide(nature, wishes, scope, &snapshot, attempt))
    }

    /// Whether a batch that waits for a primary can be read from a standby by now, one that failed before included.
    pub(super) fn finds_standby(&self, errand: &mut Errand, since: Instant) -> bool {
        if !errand.misses_standby() {
            return false;
        }
        (errand.attempts, errand.avoid) = (0, None);
        let decision =
            self.routing.as_ref().and_then(|routing| self.choose(routing, errand, since, Instant::now()));
        matches!(decision, Some(Decision::Standby(_)))
    }

    /// Puts the batch back where it came from: it runs again.
    pub(super) fn put_back(&mut self, kept: &[u8]) {
        let mut input = Buffer::holding(kept);
        if let Some(rest) = &self.client.input {
            input.append(rest.data());
        }
        self.client.input = Some(input);
    }

    /// A standby refused what was taken for a read: it is remembered, if the next one would refuse it too.
    pub(super) fn learn(&self, errand: &Errand, refusal: &[u8]) {
        let Some(routing) = &self.routing else { return };
        let router = &routing.services.router;
        router.counts.rerun.set(router.counts.rerun.get() + 1);
        if !relay::is_lasting(refusal) {
            return;
        }
        let _ = first_batch(&self.client, Defaults { read_only: false }, |text, _| {
            router.learn(fingerprint::of(text).hash);
            router.classify(text, &routing.scope, &SearchPath::unknown())
        });
        tracing::debug!(pool = %errand.pool.key, "a standby refused a statement");
    }

    /// Something was sent for an errand.
    pub(super) fn begin_errand(&self, errand: &Errand, now: Instant) {
        if let (Some(routing), Some(host)) = (&self.routing, errand.standby) {
            routing.scope.begin(host, now);
        }
    }

    /// It was answered, or will not be.
    pub(super) fn end_errand(&mut self, errand: &Errand, since: Instant, now: Instant, relay: &Relay) {
        if let Some(known) = self.known()
            && (errand.changes_catalog || relay.changed_catalog)
        {
            known.note_change(&self.pool, Moment::now());
        }
        let Some(routing) = &mut self.routing else { return };
        match errand.standby {
            Some(host) => {
                // Between two batches the client thinks.
                let alone = !relay.is_beyond() && !relay.has_parted();
                routing.scope.end(host, alone.then(|| now.duration_since(since)), now);
            }
            None => routing.last_write = routing.last_write.max(Moment(relay.acknowledged)),
        }
    }
}

/// The length of a simple query that is there as a whole.
fn simple_query_length(input: &[u8]) -> Option<usize> {
    let header = hawser_wire::frame::header(input).ok()??;
    let whole = header.tag == hawser_wire::tag::frontend::QUERY && input.len() >= header.total();
    whole.then(|| header.total())
}
