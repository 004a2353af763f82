//! The catalogues of all databases, for all threads.

use super::model::Catalog;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabaseKey {
    /// The cluster, by what the settings or the topology call it.
    pub cluster: Arc<str>,
    /// The database's name on the server.
    pub database: Arc<str>,
}

/// All catalogues that were loaded. A clone is the same shelf.
#[derive(Debug, Clone, Default)]
pub struct Catalogs {
    all: Arc<DashMap<DatabaseKey, Arc<Catalog>>>,
    epoch: Arc<AtomicU64>,
}

impl Catalogs {
    /// Grows whenever any catalogue is replaced or forgotten: who keeps what [`Self::get`] gave asks again when this
    /// is another number. One atomic load.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The catalogue of a database, if one was loaded.
    #[must_use]
    pub fn get(&self, key: &DatabaseKey) -> Option<Arc<Catalog>> {
        self.all.get(key).map(|catalog| Arc::clone(&catalog))
    }

    /// Puts a catalogue in its place.
    pub fn publish(&self, key: DatabaseKey, catalog: Catalog) -> Arc<Catalog> {
        let catalog = Arc::new(catalog);
        self.all.insert(key, Arc::clone(&catalog));
        self.epoch.fetch_add(1, Ordering::Release);
        catalog
    }

    /// Takes a catalogue away: until the next is loaded, what it knew is unknown.
    pub fn forget(&self, key: &DatabaseKey) {
        if self.all.remove(key).is_some() {
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_sql_router::knowledge::Knowledge;

    #[test]
    fn who_looks_at_the_epoch_misses_no_change() {
        let shelf = Catalogs::default();
        let key = DatabaseKey { cluster: "main".into(), database: "app".into() };
        assert!(shelf.get(&key).is_none());
        let before = shelf.epoch();
        shelf.publish(key.clone(), Catalog::default());
        assert_ne!(shelf.epoch(), before);
        assert_eq!(shelf.get(&key).map(|catalog| catalog.generation()), Some(0));
        shelf.forget(&key);
        assert!(shelf.get(&key).is_none());
    }
}
