//! What databases know of their functions, loaded from the primary in the background. Until it is there, and where it
//! cannot be had, functions beyond PostgreSQL's own are writes.

use crate::catalog::{self, Catalog, Catalogs, DatabaseKey};
use crate::pool::Pool;
use crate::pool::lease;
use crate::topology::Moment;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a database is asked whether its catalogue has changed behind our back.
const PERIOD: Duration = Duration::from_secs(30);

/// How soon it is asked again after a statement that may have changed it.
const SOON: Duration = Duration::from_millis(20);

/// The looks at the catalogue of one database; shared by all workers, so that one of them does it, and asked for each
/// batch, so that it is one load.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// When the next one is due.
    due: AtomicU64,
    /// When the last one began of those that are over.
    begun: AtomicU64,
}

impl Looks {
    /// Whether it is time, and nobody else has taken it.
    pub(super) fn take(&self, now: Moment) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        let next = now.plus(PERIOD).0;
        due <= now.0 && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Something may have changed. A look that is due is not put off: changes may go on for ever.
    pub(super) fn hurry(&self, now: Moment) {
        self.due.fetch_min(now.plus(SOON).0, Ordering::Relaxed);
    }

    /// What a look found that began then can be had.
    fn end(&self, began: Moment) {
        self.begun.fetch_max(began.0, Ordering::Release);
    }

    /// Whether what was so at this moment is known.
    pub(super) fn have_seen(&self, moment: Moment) -> bool {
        self.begun.load(Ordering::Acquire) > moment.0
    }
}

/// What a session knows of its database, without a look-up while nothing changes anywhere.
#[derive(Debug, Default)]
pub(super) struct Known {
    epoch: u64,
    catalog: Option<Arc<Catalog>>,
}

impl Known {
    /// The catalogue of this database as it is now.
    pub(super) fn renew(&mut self, catalogs: &Catalogs, key: &DatabaseKey) -> Option<&Catalog> {
        let epoch = catalogs.epoch();
        if self.epoch != epoch {
            *self = Self { epoch, catalog: catalogs.get(key) };
        }
        self.catalog.as_deref()
    }
}

/// Looks whether the catalogue has changed, and loads it if so.
pub(super) async fn refresh(pool: Rc<Pool>, key: DatabaseKey, catalogs: Catalogs, looks: Arc<Looks>) {
    let began = Moment::now();
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
            looks.end(began);
        }
        Err(error) => {
            tracing::warn!(database = %key.database, %error, "functions of the database are unknown")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_taken_once_and_comes_again_sooner_after_a_change() {
        let looks = Looks::default();
        let now = Moment(1);
        assert!(looks.take(now) && !looks.take(now));
        assert!(looks.take(now.plus(PERIOD)));
        looks.hurry(now.plus(PERIOD));
        looks.hurry(now.plus(PERIOD).plus(SOON));
        assert!(!looks.take(now.plus(PERIOD)) && looks.take(now.plus(PERIOD).plus(SOON)));
    }

    #[test]
    fn a_change_is_known_once_a_look_is_over_that_began_after_it() {
        let looks = Looks::default();
        let change = Moment(5);
        assert!(!looks.have_seen(change));
        looks.end(change);
        assert!(!looks.have_seen(change));
        looks.end(Moment(6));
        looks.end(change);
        assert!(looks.have_seen(change));
    }

    #[test]
    fn what_is_known_is_renewed_when_any_catalogue_changes() {
        let (catalogs, mut known) = (Catalogs::default(), Known::default());
        let key = DatabaseKey { cluster: "1".into(), database: "app".into() };
        assert!(known.renew(&catalogs, &key).is_none());
        let loaded = catalogs.publish(key.clone(), Catalog::default());
        assert!(std::ptr::eq(known.renew(&catalogs, &key).unwrap(), &*loaded));
        catalogs.forget(&key);
        assert!(known.renew(&catalogs, &key).is_none());
    }
}
