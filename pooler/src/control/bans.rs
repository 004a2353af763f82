//! BAN, UNBAN and DRAIN: hosts that an operator wants nothing read from.
//!
//! The watch of the cluster knows a ban and tells the workers; what is kept here is what the operator has said of hosts
//! that are down or primary just now, where a ban changes nothing yet.

use super::Desk;
use super::orders::LOOK_AGAIN;
use crate::ids::{ClusterId, HostId, PoolHost};
use crate::pool::PoolReport;
use crate::report::{Wanted, WorkerReport};
use crate::topology::{HostState, Role};
use hawser_admin::door::Refused;
use hawser_admin::door::facts::Ban;
use std::collections::BTreeSet;
use std::time::Instant;

impl Desk {
    /// Bans a standby, or lifts its ban. Every worker knows when this is done.
    pub(super) async fn ban(&self, address: &str, ban: Ban) -> Result<(ClusterId, HostId), Refused> {
        let (cluster, host, is_primary) =
            self.find_host(address).ok_or_else(|| Refused::NoHost(address.to_owned()))?;
        let banned = ban != Ban::None;
        if is_primary && banned {
            return Err(Refused::IsPrimary(address.to_owned()));
        }
        if banned {
            self.bans.borrow_mut().insert((cluster, host), ban);
        } else {
            self.bans.borrow_mut().remove(&(cluster, host));
        }
        self.topology.borrow().ban(cluster, host, banned);
        while !self.has_effect(cluster, host, banned) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        // What the watch has told the workers is in their mailboxes before this question.
        self.survey(Wanted::default()).await;
        Ok((cluster, host))
    }

    /// Whether the watch has done what was ordered, as far as there is anything to do.
    fn has_effect(&self, cluster: ClusterId, host: HostId, banned: bool) -> bool {
        let snapshots = self.topology.borrow().snapshots();
        let snapshot = snapshots.iter().find(|snapshot| snapshot.cluster == cluster);
        let Some(view) = snapshot.and_then(|snapshot| snapshot.host(host)) else { return true };
        let readable = view.role == Role::Standby && view.state.is_usable();
        if banned { !readable } else { view.state != HostState::Banned }
    }

    /// Bans a standby and waits until no server connection leads there.
    pub(super) async fn drain_host(&self, address: &str) -> Result<(), Refused> {
        let began = Instant::now();
        let (cluster, host) = self.ban(address, Ban::Drained).await?;
        loop {
            let servers = self.count_servers(&self.survey(Wanted::default()).await, cluster, host);
            if servers == 0 {
                return Ok(());
            }
            if began.elapsed() >= self.runtime().settings.timeouts.shutdown {
                return Err(Refused::StillUsed { host: address.to_owned(), servers });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Server connections that lead to a host.
    pub(super) fn count_servers(&self, reports: &[WorkerReport], cluster: ClusterId, host: HostId) -> usize {
        let runtime = self.runtime();
        let snapshots = self.topology.borrow().snapshots();
        let is_primary =
            snapshots.iter().any(|snapshot| snapshot.cluster == cluster && snapshot.writable() == Some(host));
        let leads_there = |pool: &&PoolReport| {
            let of_cluster = runtime
                .database(&pool.key.database)
                .is_some_and(|database| runtime.facilities.clusters.id(&database.hosts) == cluster);
            of_cluster
                && match pool.key.host {
                    PoolHost::Primary => is_primary,
                    PoolHost::Standby(id) => id == host,
                }
        };
        let pools = reports.iter().flat_map(|report| &report.pools).filter(leads_there);
        pools.map(|pool| pool.counts).map(|at| at.idle + at.leased + at.opening + at.resetting).sum()
    }

    /// Bans in clusters that are no longer watched are forgotten, as the watch has forgotten them.
    pub(super) fn forget_bans(&self) {
        let snapshots = self.topology.borrow().snapshots();
        let known: BTreeSet<ClusterId> = snapshots.iter().map(|snapshot| snapshot.cluster).collect();
        self.bans.borrow_mut().retain(|(cluster, _), _| known.contains(cluster));
    }
}
