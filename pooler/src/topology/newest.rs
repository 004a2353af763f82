//! A worker's own copy of what is published: the newest snapshot of each cluster.

use super::snapshot::Snapshot;
use crate::ids::ClusterId;
use std::cell::RefCell;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub struct Newest {
    clusters: RefCell<Vec<Option<Arc<Snapshot>>>>,
}

impl Newest {
    /// Keeps a snapshot unless a newer one is known. Tells whether it was kept, and what it replaces.
    pub fn keep(&self, snapshot: Arc<Snapshot>) -> (bool, Option<Arc<Snapshot>>) {
        let mut clusters = self.clusters.borrow_mut();
        let place = usize::from(snapshot.cluster.0);
        if clusters.len() <= place {
            clusters.resize(place + 1, None);
        }
        let Some(slot) = clusters.get_mut(place) else { return (false, None) };
        if slot.as_ref().is_some_and(|known| known.round >= snapshot.round) {
            return (false, None);
        }
        (true, slot.replace(snapshot))
    }

    /// The newest snapshot of a cluster; `None` before the first one, or if the cluster is not watched.
    #[must_use]
    pub fn of(&self, cluster: ClusterId) -> Option<Arc<Snapshot>> {
        self.clusters.borrow().get(usize::from(cluster.0)).cloned().flatten()
    }
}
