//! Where anybody listens: who notifies elsewhere waits for nothing.

use super::news::Station;
use dashmap::DashSet;
use std::sync::Arc;

/// Stations with a channel that somebody of this process wants. The hub keeps it; desks look.
#[derive(Debug, Default, Clone)]
pub struct Audience(Arc<DashSet<Arc<Station>>>);

impl Audience {
    /// Notes whether anybody listens at a station.
    pub(super) fn note(&self, station: &Arc<Station>, listens: bool) {
        if listens {
            self.0.insert(station.clone());
        } else {
            self.0.remove(station);
        }
    }

    /// Whether anybody does.
    pub(super) fn listens(&self, station: &Arc<Station>) -> bool {
        self.0.contains(station)
    }
}
