//! Where a listening connection must lead, by the newest snapshot of its cluster. Pure.

use super::news::Station;
use crate::config::settings::HostAddress;
use crate::topology::{PrimaryView, Snapshot};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lead {
    /// To whichever of the hosts says that it is the primary: nothing better is known.
    Settings,
    /// To this host, which is the primary on this timeline.
    Host(HostAddress, u32),
    /// Nowhere for now: no host takes writes, so nobody notifies.
    Nowhere,
}

impl Lead {
    /// Where the snapshot leads.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        match snapshot.primary {
            PrimaryView::NeverSeen => Self::Settings,
            PrimaryView::Lost { .. } => Self::Nowhere,
            PrimaryView::Known { host, timeline, .. } | PrimaryView::Leaving { host, timeline, .. } => {
                match snapshot.host(host) {
                    Some(view) => Self::Host(view.address.clone(), timeline),
                    None => Self::Nowhere,
                }
            }
        }
    }

    /// Whether a connection that was opened by this lead is of no use under `new`. One that was opened before
    /// anything was known leads to `known`.
    pub(super) fn is_outdated(&self, known: Option<&HostAddress>, new: &Self) -> bool {
        match (self, new) {
            (_, Self::Nowhere | Self::Settings) => false,
            (Self::Host(..), Self::Host(..)) => self != new,
            (Self::Settings | Self::Nowhere, Self::Host(address, _)) => known != Some(address),
        }
    }
}

/// Whether a snapshot is of the cluster of a station.
pub(super) fn is_of(snapshot: &Snapshot, station: &Station) -> bool {
    let known = |address: &HostAddress| snapshot.hosts.iter().any(|host| host.address == *address);
    station.hosts.iter().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostAddress {
        HostAddress::Tcp(name.into(), 5432)
    }

    #[test]
    fn a_connection_is_outdated_once_another_primary_is_known() {
        let (a, b) = (Lead::Host(host("a"), 1), Lead::Host(host("b"), 2));
        assert!(a.is_outdated(None, &b));
        assert!(a.is_outdated(None, &Lead::Host(host("a"), 2)));
        assert!(!a.is_outdated(None, &a));
        // While nobody is primary, the old one may still be it.
        assert!(!a.is_outdated(None, &Lead::Nowhere));
        assert!(!a.is_outdated(None, &Lead::Settings));
        assert!(!Lead::Settings.is_outdated(Some(&host("a")), &a));
        assert!(Lead::Settings.is_outdated(Some(&host("a")), &b));
    }
}
