//! What one worker needs to choose hosts.

use super::balance::Balance;
use super::decide::{Circumstances, Decision, Nature, Seen, Why, decide};
use super::knowledge::{Known, Looks};
use super::wishes::Wishes;
use crate::catalog::{Catalogs, DatabaseKey};
use crate::config::settings::RoutingSettings;
use crate::ids::{ClusterId, HostId, WorkerId};
use crate::topology::{Moment, Snapshot};
use dashmap::DashMap;
use hawser_sql_router::cache::Cache;
use hawser_sql_router::knowledge::SearchPath;
use hawser_sql_router::statement::Verdicts;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Texts whose verdicts a worker remembers.
const TEXTS: usize = 8192;

/// Texts that a standby refused, by their hashes.
const MOST_LEARNED: usize = 10_000;

/// After a wait that was in vain nobody waits for so long, unless a standby is seen to have caught up.
const HOPELESS: Duration = Duration::from_millis(500);

/// What the workers share.
#[derive(Debug, Default)]
pub struct Common {
    /// What databases know.
    pub catalogs: Catalogs,
    looks: DashMap<DatabaseKey, Arc<Looks>>,
    writes: DashMap<ClusterId, Arc<AtomicU64>>,
}

impl Common {
    /// What a session will know of this database on these hosts.
    #[must_use]
    pub fn known(&self, cluster: ClusterId, database: &str) -> Known {
        let key = DatabaseKey { cluster: cluster.to_string().into(), database: database.into() };
        let looks = self.looks.entry(key.clone());
        let looks = looks.or_insert_with(|| Arc::new(Looks::new(key, self.catalogs.clone())));
        Known::new(looks.clone())
    }
}

/// Decisions that were made, by where they led.
#[derive(Debug, Default)]
pub struct Counts {
    /// To a standby.
    pub standby: Cell<u64>,
    /// To the primary because it is no read.
    pub write: Cell<u64>,
    /// To the primary because session or settings ask for it.
    pub asked: Cell<u64>,
    /// To the primary because of SERIALIZABLE.
    pub serializable: Cell<u64>,
    /// To the primary for want of a standby.
    pub no_standby: Cell<u64>,
    /// To the primary because standbys are behind.
    pub lag: Cell<u64>,
    /// To the primary because no standby had seen enough.
    pub not_fresh: Cell<u64>,
    /// Sent to a standby, refused there, and run again.
    pub rerun: Cell<u64>,
}

impl Counts {
    /// Each with where it led and the reason in words.
    #[must_use]
    pub fn told(&self) -> Vec<(&'static str, &'static str, u64)> {
        [
            ("standby", "read", &self.standby),
            ("primary", Why::Write.word(), &self.write),
            ("primary", Why::Asked.word(), &self.asked),
            ("primary", Why::Serializable.word(), &self.serializable),
            ("primary", Why::NoStandby.word(), &self.no_standby),
            ("primary", Why::Lag.word(), &self.lag),
            ("primary", Why::NotFresh.word(), &self.not_fresh),
            ("primary", "refused", &self.rerun),
        ]
        .map(|(to, why, count)| (to, why, count.get()))
        .to_vec()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Router {
    worker: WorkerId,
    common: Arc<Common>,
    cache: RefCell<Cache>,
    /// How busy the standbys of each cluster are.
    balances: RefCell<HashMap<ClusterId, Rc<RefCell<Balance>>>>,
    learned: RefCell<HashSet<u64>>,
    hopeless: Cell<Moment>,
    /// Told whenever a standby of some cluster has proven more.
    pub proven: tokio::sync::Notify,
    /// What was decided.
    pub counts: Counts,
}

/// What a session has to know for its choices, made once and kept.
#[derive(Debug)]
pub struct Scope {
    /// The cluster.
    pub cluster: ClusterId,
    /// What is known of the database on it.
    pub known: Known,
    /// When any session of the process was last told of a write; see [`Router::scope`].
    writes: Arc<AtomicU64>,
    /// How busy its standbys are.
    balance: Rc<RefCell<Balance>>,
    /// What the settings say for this session.
    pub settings: RoutingSettings,
}

impl Scope {
    /// When the last write of any session was acknowledged.
    #[must_use]
    pub fn last_write(&self) -> Moment {
        Moment(self.writes.load(Ordering::Acquire))
    }

    /// Where that moment is kept, for who sees writes acknowledged.
    #[must_use]
    pub const fn writes(&self) -> &Arc<AtomicU64> {
        &self.writes
    }

    /// Something is sent to a standby.
    pub fn begin(&self, host: HostId, now: Instant) {
        self.balance.borrow_mut().begin(host, now);
    }

    /// It was answered. `took`: how long that took, if nobody but the host had to be waited for.
    pub fn end(&self, host: HostId, took: Option<Duration>, now: Instant) {
        self.balance.borrow_mut().end(host, took, now);
    }

    /// Those of `hosts` that are in the zone that is preferred, if one is.
    fn in_zone(&self, snapshot: &Snapshot, hosts: &[HostId]) -> SmallVec<[HostId; 4]> {
        let Some(zone) = &self.settings.prefer_zone else { return SmallVec::new() };
        let is_near = |host: &HostId| {
            let address = snapshot.host(*host).map(|host| &host.address);
            self.settings.zones.iter().any(|(known, of)| Some(known) == address && of == zone)
        };
        hosts.iter().copied().filter(is_near).collect()
    }

    fn weight(&self, snapshot: &Snapshot, host: HostId) -> f64 {
        if self.settings.weights.is_empty() {
            return 1.0;
        }
        let address = snapshot.host(host).map(|host| &host.address);
        let named = self.settings.weights.iter().find(|(known, _)| Some(known) == address);
        named.map_or(1.0, |(_, weight)| *weight)
    }
}

impl Router {
    /// For one worker.
    #[must_use]
    pub fn new(worker: WorkerId, common: Arc<Common>) -> Self {
        Self {
            worker,
            common,
            cache: RefCell::new(Cache::new(TEXTS)),
            balances: RefCell::default(),
            learned: RefCell::default(),
            hopeless: Cell::new(Moment::NEVER),
            proven: tokio::sync::Notify::new(),
            counts: Counts::default(),
        }
    }

    /// What a session of this cluster and database needs.
    #[must_use]
    pub fn scope(&self, cluster: ClusterId, database: &str, settings: RoutingSettings) -> Scope {
        let known = self.common.known(cluster, database);
        let writes = self.common.writes.entry(cluster).or_default().clone();
        let balance = self.balances.borrow_mut().entry(cluster).or_default().clone();
        Scope { cluster, known, writes, balance, settings }
    }

    /// What each statement of `text` does.
    #[must_use]
    pub fn classify(&self, text: &[u8], scope: &Scope, path: &SearchPath) -> Arc<Verdicts> {
        scope.known.ask(|knowledge| self.cache.borrow_mut().classify(text, knowledge, path))
    }

    /// Chooses a host. `Wait` is only said where waiting is worth it.
    #[must_use]
    pub fn decide(
        &self,
        nature: Nature,
        wishes: &Wishes,
        scope: &Scope,
        snapshot: &Snapshot,
        attempt: Attempt,
    ) -> Decision {
        let now = Moment::at(attempt.now);
        let settings = &scope.settings;
        let circumstances = Circumstances {
            nature,
            wishes,
            seen: attempt.seen,
            snapshot,
            settings,
            avoid: attempt.avoid,
            now,
        };
        let decision = decide(&circumstances, |hosts| {
            let weight = |host| scope.weight(snapshot, host);
            let near = scope.in_zone(snapshot, hosts);
            let hosts = if near.is_empty() { hosts } else { &near };
            scope.balance.borrow_mut().choose(hosts, weight, attempt.now)
        });
        let Decision::Wait(moment) = decision else { return decision };
        let is_withheld = snapshot.is_withheld(moment);
        let has_hope = self.hopeless.get() <= now || is_close(snapshot, settings.wait, now);
        if has_hope && !attempt.is_late && !is_withheld {
            return decision;
        }
        // What the primary withholds is no fault of the standbys.
        if attempt.is_late && !is_withheld {
            self.hopeless.set(now.plus(HOPELESS));
        }
        // Those who come later profit from it.
        snapshot.bell.want_proof(self.worker, moment);
        Decision::Primary(Why::NotFresh)
    }

    /// Waits until a standby has proven more, and `moment` may be proven.
    pub async fn wait(&self, snapshot: &Snapshot, moment: Moment, until: Instant) {
        let proven = self.proven.notified();
        snapshot.bell.want_proof(self.worker, moment);
        let _ = tokio::time::timeout_at(until.into(), proven).await;
    }

    /// A standby refused this batch: the next time it goes to the primary at once.
    pub fn learn(&self, shape: u64) {
        let mut learned = self.learned.borrow_mut();
        if learned.len() >= MOST_LEARNED {
            learned.clear();
        }
        learned.insert(shape);
    }

    /// Whether a standby has refused such a text.
    #[must_use]
    pub fn has_learned(&self, shape: impl FnOnce() -> u64) -> bool {
        let learned = self.learned.borrow();
        !learned.is_empty() && learned.contains(&shape())
    }

    /// Counts a decision.
    pub fn count(&self, decision: Decision) {
        let counter = match decision {
            Decision::Standby(_) => &self.counts.standby,
            Decision::Primary(Why::Write) => &self.counts.write,
            Decision::Primary(Why::Asked) => &self.counts.asked,
            Decision::Primary(Why::Serializable) => &self.counts.serializable,
            Decision::Primary(Why::NoStandby) => &self.counts.no_standby,
            Decision::Primary(Why::Lag) => &self.counts.lag,
            Decision::Primary(Why::NotFresh) => &self.counts.not_fresh,
            Decision::Wait(_) => return,
        };
        counter.set(counter.get() + 1);
    }
}

/// Whether some standby has proven what was only so long ago: who waits for so long has good prospects.
fn is_close(snapshot: &Snapshot, wait: Duration, now: Moment) -> bool {
    snapshot.standbys().any(|host| now.since(host.gauge.proven()) < wait)
}

/// What has happened to a batch before.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// What it must see.
    pub seen: Seen,
    /// A host that has just failed to serve it.
    pub avoid: Option<HostId>,
    /// The time.
    pub now: Instant,
    /// It has waited for a standby long enough.
    pub is_late: bool,
}
