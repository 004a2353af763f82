//! Follows the name of a host to where it leads: a name may be moved to another server while the old one still runs.

use crate::config::settings::HostAddress;
use crate::ids::HostId;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often a name is looked up.
const PACE: Duration = Duration::from_secs(5);

/// Whether an address has a name that can be moved.
pub(super) fn is_name(address: &HostAddress) -> bool {
    matches!(address, HostAddress::Tcp(name, _) if name.parse::<IpAddr>().is_err())
}

/// Tells whenever the name leads elsewhere, until it is aborted. A name that leads to several addresses in turn has not
/// moved for as long as one of them stays.
pub(super) async fn follow(host: HostId, address: HostAddress, moved: mpsc::UnboundedSender<HostId>) {
    let HostAddress::Tcp(name, port) = address else { return };
    let mut known: BTreeSet<SocketAddr> = BTreeSet::new();
    loop {
        // A name that is not found now may be so for a moment only.
        if let Ok(found) = tokio::net::lookup_host((name.as_str(), port)).await {
            let found: BTreeSet<SocketAddr> = found.collect();
            if has_moved(&known, &found) && moved.send(host).is_err() {
                return;
            }
            if !found.is_empty() {
                known = found;
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

fn has_moved(known: &BTreeSet<SocketAddr>, found: &BTreeSet<SocketAddr>) -> bool {
    !known.is_empty() && !found.is_empty() && known.is_disjoint(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_moved_when_nothing_is_left_of_where_it_led() {
        let set =
            |ports: &[u16]| ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
        for (known, found, moved) in [
            (&[][..], &[1][..], false),
            (&[1], &[], false),
            (&[1], &[1], false),
            (&[1, 2], &[2, 3], false),
            (&[1, 2], &[3], true),
        ] {
            assert_eq!(has_moved(&set(known), &set(found)), moved, "{known:?} {found:?}");
        }
    }

    #[test]
    fn an_address_is_no_name() {
        let tcp = |name: &str| HostAddress::Tcp(name.to_owned(), 5432);
        assert!(is_name(&tcp("db1")) && is_name(&tcp("localhost")));
        assert!(!is_name(&tcp("10.0.0.1")) && !is_name(&tcp("::1")));
        assert!(!is_name(&HostAddress::Unix("/run".into(), 5432)));
    }
}
