//! Where the connections of a pool may lead, by the newest snapshot of its cluster. Pure.

use crate::config::settings::HostAddress;
use crate::ids::{HostId, PoolHost};
use crate::topology::{HostState, PrimaryView, Snapshot};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// To the hosts of the settings, in turn: nothing better is known.
    Settings,
    /// To this host.
    Host(Origin, HostAddress),
    /// Nowhere for now: whoever needs one waits.
    Hold(Held),
    /// Nowhere: whoever needs one must look elsewhere.
    Nowhere,
}

/// Where a connection was opened. One whose pool leads elsewhere by now is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The host.
    pub host: HostId,
    /// The timeline on which it was the primary; 0 for a standby, which may follow any.
    pub timeline: u32,
    /// How often its name had been moved to another address.
    pub moves: u32,
}

/// Why work is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// No host takes writes.
    NoPrimary,
    /// The primary is about to hand over.
    Switchover,
}

impl Lead {
    /// Where a pool leads.
    #[must_use]
    pub fn of(host: PoolHost, snapshot: &Snapshot) -> Self {
        match host {
            PoolHost::Primary => Self::to_primary(snapshot),
            PoolHost::Standby(id) => match snapshot.host(id) {
                Some(view)
                    if snapshot.only_reads(view)
                        && matches!(view.state, HostState::Up | HostState::Suspect) =>
                {
                    Self::Host(Origin { host: id, timeline: 0, moves: view.moves }, view.address.clone())
                }
                _ => Self::Nowhere,
            },
        }
    }

    fn to_primary(snapshot: &Snapshot) -> Self {
        match snapshot.primary {
            PrimaryView::NeverSeen => Self::Settings,
            PrimaryView::Lost { .. } => Self::Hold(Held::NoPrimary),
            PrimaryView::Leaving { .. } => Self::Hold(Held::Switchover),
            PrimaryView::Known { host, timeline, .. } => match snapshot.host(host) {
                Some(view) => Self::Host(Origin { host, timeline, moves: view.moves }, view.address.clone()),
                None => Self::Hold(Held::NoPrimary),
            },
        }
    }

    /// Where connections must have been opened to be lent.
    #[must_use]
    pub const fn origin(&self) -> Option<Origin> {
        match self {
            Self::Host(origin, _) => Some(*origin),
            Self::Settings | Self::Hold(_) | Self::Nowhere => None,
        }
    }

    /// Whether connections may be lent and opened.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Settings | Self::Host(..))
    }
}
