//! What databases know of their functions, loaded from the primary in the background. Until it is there, and where it
//! cannot be had, functions beyond PostgreSQL's own are writes.

use crate::catalog::{self, Catalogs, DatabaseKey};
use crate::pool::Pool;
use crate::pool::lease;
use crate::topology::Moment;
use dashmap::DashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How often a database is asked whether its catalogue has changed behind our back.
const PERIOD: Duration = Duration::from_secs(30);

/// How soon it is asked again after a statement that may have changed it.
const SOON: Duration = Duration::from_millis(20);

/// When each catalogue is to be looked at next; shared by all workers, so that one of them does it.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    due: DashMap<DatabaseKey, Moment>,
}

impl Rounds {
    /// Whether it is time, and nobody else has taken it.
    pub(super) fn take(&self, key: &DatabaseKey, now: Moment) -> bool {
        if self.due.get(key).is_some_and(|due| *due > now) {
            return false;
        }
        let mut due = self.due.entry(key.clone()).or_default();
        let mine = *due <= now;
        if mine {
            *due = now.plus(PERIOD);
        }
        mine
    }

    /// Something may have changed.
    pub(super) fn hurry(&self, key: &DatabaseKey, now: Moment) {
        self.due.insert(key.clone(), now.plus(SOON));
    }
}

/// Looks whether the catalogue has changed, and loads it if so.
pub(super) async fn refresh(pool: Rc<Pool>, key: DatabaseKey, catalogs: Catalogs) {
    let Ok(mut lease) = lease::borrow(&pool).await else { return };
    let Some(member) = lease.member() else { return };
    let outcome = async {
        let known = catalogs.get(&key);
        let mark = catalog::mark(&mut member.server).await?;
        if known.is_some_and(|known| known.is_of(&mark)) {
            return Ok(None);
        }
        catalog::load(&mut member.server).await.map(Some)
    };
    match outcome.await {
        Ok(loaded) => {
            lease.check_in();
            if let Some(catalog) = loaded {
                tracing::debug!(database = %key.database, "catalogue loaded");
                let _: Arc<_> = catalogs.publish(key, catalog);
            }
        }
        Err(error) => {
            tracing::warn!(database = %key.database, %error, "functions of the database are unknown")
        }
    }
}
