//! Facts about hosts and failovers, of what topology has published.

use super::Desk;
use crate::config::settings::{DatabaseSettings, HostAddress};
use crate::ids::{ClusterId, HostId, PoolHost, PoolKey};
use crate::report::WorkerReport;
use crate::topology::history;
use crate::topology::{HostView, Moment, PrimaryView, Role, Snapshot, is_watched};
use hawser_admin::door::facts::{Ban, Failover, Host};
use std::sync::Arc;

/// Databases that a cluster is named by, at most.
const MOST_NAMED: usize = 4;

impl Desk {
    /// Every host of every cluster that is watched, and the last failovers, newest first.
    /// Server connections are counted where workers have reported.
    pub(super) fn hosts(&self, reports: Option<&[WorkerReport]>) -> (Vec<Host>, Vec<Failover>) {
        let snapshots = self.topology.borrow().snapshots();
        let (mut hosts, mut failovers) = (Vec::new(), Vec::new());
        let now = Moment::now();
        for snapshot in &snapshots {
            let cluster = self.name_of(snapshot.cluster);
            hosts.extend(snapshot.hosts.iter().map(|view| Host {
                ban: self.bans.borrow().get(&(snapshot.cluster, view.id)).copied().unwrap_or_default(),
                servers: reports.map(|reports| self.count_servers(reports, snapshot.cluster, view.id)),
                ..host(&cluster, snapshot, view, now)
            }));
            let of_cluster = snapshot.history.iter().map(|failover| told(&cluster, snapshot, failover, now));
            failovers.extend(of_cluster);
        }
        failovers.sort_by_key(|failover| std::cmp::Reverse(failover.began));
        (hosts, failovers)
    }

    /// A host by its address, and whether it takes writes.
    pub(super) fn find_host(&self, wanted: &str) -> Option<(ClusterId, HostId, bool)> {
        let snapshots = self.topology.borrow().snapshots();
        snapshots.iter().find_map(|snapshot| {
            let view = snapshot.hosts.iter().find(|view| address(&view.address) == wanted)?;
            Some((snapshot.cluster, view.id, snapshot.writable() == Some(view.id)))
        })
    }

    /// What operators call a cluster: its databases, or the first of many. No database is in two clusters, so that names
    /// differ.
    pub(super) fn name_of(&self, cluster: ClusterId) -> String {
        let runtime = self.runtime();
        let settings = &runtime.settings;
        let clusters = &runtime.facilities.clusters;
        let is_of =
            |database: &DatabaseSettings| is_watched(database) && clusters.id(&database.hosts) == cluster;
        let named =
            settings.databases.iter().filter(|(_, database)| is_of(database)).map(|(name, _)| name.as_str());
        let wildcard = settings.wildcard_database.iter().filter(|database| is_of(database)).map(|_| "*");
        shortened(&named.chain(wildcard).collect::<Vec<_>>())
    }

    /// The host that a pool leads to, as operators call it.
    pub(super) fn host_of(&self, key: &PoolKey) -> String {
        let PoolHost::Standby(id) = key.host else { return "primary".to_owned() };
        let runtime = self.runtime();
        let cluster =
            runtime.database(&key.database).map(|database| runtime.facilities.clusters.id(&database.hosts));
        let snapshots = self.topology.borrow().snapshots();
        let snapshot = snapshots.iter().find(|snapshot| Some(snapshot.cluster) == cluster);
        snapshot.map_or_else(|| id.to_string(), |snapshot| address_of(snapshot, id))
    }
}

/// The name is a label of metrics.
fn shortened(names: &[&str]) -> String {
    match names.get(MOST_NAMED..) {
        Some(rest @ [_, ..]) => {
            format!("{} and {} more", names.get(..MOST_NAMED).unwrap_or_default().join(","), rest.len())
        }
        _ => names.join(","),
    }
}

/// The address of a host.
fn address_of(snapshot: &Arc<Snapshot>, id: HostId) -> String {
    snapshot.host(id).map_or_else(|| id.to_string(), |view| address(&view.address))
}

/// A host as operators name it.
pub(super) fn address(address: &HostAddress) -> String {
    match address {
        HostAddress::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        HostAddress::Tcp(host, port) => format!("{host}:{port}"),
        HostAddress::Unix(folder, port) => format!("{}:{port}", folder.display()),
    }
}

fn host(cluster: &str, snapshot: &Snapshot, view: &HostView, now: Moment) -> Host {
    let primary = match snapshot.primary {
        PrimaryView::Known { host, .. } | PrimaryView::Leaving { host, .. } => Some(host),
        PrimaryView::Lost { .. } | PrimaryView::NeverSeen => None,
    };
    let is_primary = primary == Some(view.id);
    Host {
        cluster: cluster.to_owned(),
        id: view.id.0,
        address: address(&view.address),
        role: match view.role {
            Role::Primary => "primary",
            Role::Standby => "standby",
            Role::Unknown => "unknown",
        },
        is_primary,
        is_usable: view.state.is_usable(),
        state: view.state.to_string(),
        age: now.since(view.since),
        ban: Ban::None,
        servers: None,
        timeline: view.timeline,
        position: view.gauge.replayed().to_string(),
        lag_bytes: view.gauge.lag_bytes(),
        lag: if is_primary { None } else { view.gauge.lag_time(now) },
        round_trip: view.gauge.round_trip(),
        version: view.version,
    }
}

fn told(cluster: &str, snapshot: &Arc<Snapshot>, failover: &history::Failover, now: Moment) -> Failover {
    let began = failover.phases.first().map(|(at, _)| *at);
    let lost = failover.reached("primary lost");
    let over =
        if failover.is_over() { failover.reached("promoted") } else { began.map(|began| now.since(began)) };
    Failover {
        cluster: cluster.to_owned(),
        began: failover.began,
        from: failover.from.map(|id| address_of(snapshot, id)),
        to: failover.to.map(|id| address_of(snapshot, id)),
        lost_for: lost.zip(over).map(|(lost, over)| over.saturating_sub(lost)),
        phases: failover.in_words(),
    }
}
