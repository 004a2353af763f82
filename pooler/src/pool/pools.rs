//! All pools of one worker.

use super::halt::{Halts, Scope, Stance};
use super::{Pool, Surroundings};
use crate::auth::server_login::Credential;
use crate::config::settings::DatabaseSettings;
use crate::ids::{ClusterId, HostId, PoolKey};
use crate::mailbox::{Inhabitant, Location};
use crate::runtime::Runtime;
use crate::topology::{Moment, Snapshot, is_watched};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The cluster of a database, if it is watched.
fn cluster(runtime: &Runtime, database: &DatabaseSettings) -> Option<ClusterId> {
    is_watched(database).then(|| runtime.facilities.clusters.id(&database.hosts))
}

/// The pools of a worker by their keys, made when they are first needed.
#[derive(Debug)]
pub struct Pools {
    runtime: RefCell<Arc<Runtime>>,
    pools: RefCell<HashMap<PoolKey, Rc<Pool>>>,
    surroundings: Rc<Surroundings>,
    rounds: Cell<u32>,
    halts: RefCell<Halts>,
}

impl Pools {
    /// None yet.
    #[must_use]
    pub fn new(surroundings: Rc<Surroundings>, runtime: Arc<Runtime>) -> Self {
        Self {
            runtime: RefCell::new(runtime),
            pools: RefCell::default(),
            surroundings,
            rounds: Cell::new(0),
            halts: RefCell::default(),
        }
    }

    /// The settings as they are now.
    #[must_use]
    pub const fn runtime(&self) -> &RefCell<Arc<Runtime>> {
        &self.runtime
    }

    /// What the pools have in common.
    #[must_use]
    pub const fn surroundings(&self) -> &Rc<Surroundings> {
        &self.surroundings
    }

    /// A pool that exists.
    #[must_use]
    pub fn find(&self, key: &PoolKey) -> Option<Rc<Pool>> {
        self.pools.borrow().get(key).cloned()
    }

    /// The pool with this key, which logs in with `credential` from now on if the settings give it none. It is made of
    /// the settings as they are now, whatever the caller has read before it waited; `database` counts where they do
    /// not name the pool's.
    #[must_use]
    pub fn pool(
        &self,
        key: &PoolKey,
        database: &DatabaseSettings,
        credential: Credential,
    ) -> Option<Rc<Pool>> {
        if let Some(pool) = self.find(key) {
            // Not forgotten while its next client logs in.
            pool.last_used.set(Instant::now());
            if database.user.is_none() && credential != Credential::None {
                pool.renew_credential(credential);
            }
            pool.offer_credential();
            return Some(pool);
        }
        let runtime = self.runtime.borrow().clone();
        let database = runtime.database(&key.database).map_or(database, |known| known);
        let plan = runtime.pool_plan(key, database, credential)?;
        let budget = runtime.budget(key, database, plan.size);
        let pool =
            Pool::new(key.clone(), plan, budget, runtime.facilities.told(key), self.surroundings.clone());
        pool.halt(self.halts.borrow().of(&key.database));
        self.pools.borrow_mut().insert(key.clone(), pool.clone());
        pool.join(cluster(&runtime, database));
        Some(pool)
    }

    /// Something changed in a cluster.
    pub fn follow(&self, snapshot: &Arc<Snapshot>) {
        for pool in self.all() {
            if pool.cluster() == Some(snapshot.cluster) {
                pool.follow(snapshot);
            }
        }
    }

    /// A connection to a host of a cluster broke, and nothing new is begun there for now.
    pub fn suspect(&self, cluster: ClusterId, host: HostId, since: Moment) {
        for pool in self.all() {
            if pool.cluster() == Some(cluster) {
                pool.suspect(host, since);
            }
        }
    }

    /// New settings for every pool. A pool whose server is another one now, or whose database is gone, gives up
    /// its connections as they come back.
    pub fn apply(&self, runtime: &Arc<Runtime>) {
        self.runtime.borrow_mut().clone_from(runtime);
        for pool in self.all() {
            let Some(database) = runtime.database(&pool.key.database) else {
                pool.budget().reconnect();
                continue;
            };
            let before = pool.plan();
            let Some(plan) = runtime.pool_plan(&pool.key, database, before.dial.credential.clone()) else {
                continue;
            };
            let outdated = plan.dial.differs(&before.dial);
            // Also sets the limits that the pool shares with others.
            let _ = runtime.budget(&pool.key, database, plan.size);
            // Each worker says so: the pool may be on one of them only.
            if outdated {
                pool.budget().reconnect();
            }
            pool.apply(plan, outdated);
            pool.join(cluster(runtime, database));
        }
    }

    /// One round of upkeep for all.
    pub fn upkeep(&self, now: Instant) {
        for pool in self.all() {
            pool.upkeep(now);
        }
        self.rounds.set(self.rounds.get().wrapping_add(1));
        if self.rounds.get().is_multiple_of(64) {
            self.pools.borrow_mut().retain(|_, pool| !pool.is_forgotten(now));
        }
    }

    /// Closes an idle connection of some pool of this database, to make room for another pool.
    pub fn evict(&self, database: &str) {
        for pool in self.all() {
            if pool.key.database == database && pool.counts().waiting == 0 && pool.evict(1) > 0 {
                return;
            }
        }
    }

    /// Leaves connections as a statement of a client's demands.
    pub fn vacate(&self, location: &Location) {
        for pool in self.all() {
            let plan = pool.plan();
            if plan.dial.hosts != location.hosts {
                continue;
            }
            let is_there = match &location.of {
                Inhabitant::Database(name) => *name == plan.dial.dbname,
                Inhabitant::User(name) => *name == plan.dial.user,
            };
            if is_there {
                // What is lent, or is being opened or reset, is left as soon as it is free.
                pool.budget().reconnect();
                pool.evict(usize::MAX);
            }
        }
    }

    /// All pools.
    #[must_use]
    pub fn all(&self) -> Vec<Rc<Pool>> {
        self.pools.borrow().values().cloned().collect()
    }

    /// Lends connections of these databases from now on, or does not.
    pub fn halt(&self, scope: &Scope, stance: Stance) {
        self.halts.borrow_mut().set(scope, stance);
        for pool in self.all() {
            if scope.has(&pool.key.database) {
                let stance = self.halts.borrow().of(&pool.key.database);
                pool.halt(stance);
            }
        }
    }

    /// Whether the pools of these databases are at rest ([`Pool::is_at_rest`]).
    #[must_use]
    pub fn are_at_rest(&self, scope: &Scope) -> bool {
        self.all().iter().all(|pool| !scope.has(&pool.key.database) || pool.is_at_rest())
    }

    /// Closes every idle connection: the process ends.
    pub fn close(&self) {
        for pool in self.all() {
            pool.evict(usize::MAX);
        }
    }
}
