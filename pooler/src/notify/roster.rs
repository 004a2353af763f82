//! Which workers want which channels of one listening connection. Pure.

use crate::ids::WorkerId;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Roster {
    channels: HashMap<Arc<str>, BTreeSet<WorkerId>>,
}

impl Roster {
    /// A worker wants a channel.
    pub(super) fn add(&mut self, channel: &Arc<str>, worker: WorkerId) {
        self.channels.entry(channel.clone()).or_default().insert(worker);
    }

    /// A worker does not want it any more. True when nobody does.
    pub(super) fn remove(&mut self, channel: &str, worker: WorkerId) -> bool {
        let Some(workers) = self.channels.get_mut(channel) else { return false };
        workers.remove(&worker);
        let unused = workers.is_empty();
        if unused {
            self.channels.remove(channel);
        }
        unused
    }

    /// Who wants a channel.
    pub(super) fn workers(&self, channel: &str) -> impl Iterator<Item = WorkerId> {
        self.channels.get(channel).into_iter().flatten().copied()
    }

    /// Who wants anything.
    pub(super) fn everybody(&self) -> BTreeSet<WorkerId> {
        self.channels.values().flatten().copied().collect()
    }

    /// Every channel that somebody wants.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Arc<str>> {
        self.channels.keys()
    }

    /// How many channels.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Nobody wants anything.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_wanted_until_the_last_worker_lets_go() {
        let mut roster = Roster::default();
        let channel: Arc<str> = "a".into();
        roster.add(&channel, WorkerId(0));
        roster.add(&channel, WorkerId(1));
        roster.add(&channel, WorkerId(1));
        assert_eq!(roster.workers("a").collect::<Vec<_>>(), [WorkerId(0), WorkerId(1)]);
        assert!(!roster.remove("a", WorkerId(1)));
        assert!(!roster.remove("b", WorkerId(1)));
        assert!(roster.remove("a", WorkerId(0)));
        assert!(!roster.remove("a", WorkerId(0)));
        assert!(roster.is_empty());
    }
}
