//! HOLD and RELEASE: the primary is about to hand over, says an operator or a script.
//!
//! A hold is an announcement to the watch of the cluster, like that of a tool which tells of its switchovers. So it ends
//! when what was announced has happened, and a script that dies holds nobody up for long.

use super::Desk;
use super::orders::LOOK_AGAIN;
use crate::ids::ClusterId;
use crate::mailbox::Order;
use crate::pool::halt::Scope;
use crate::topology::{PrimaryView, is_watched};
use hawser_admin::door::{self, Refused};

impl Desk {
    /// Begins nothing on the primary of these databases; done when nothing is under way there.
    pub(super) async fn hold(&self, of: &door::Scope) -> Result<(), Refused> {
        let scope = self.scope(of, "hold")?;
        let clusters = self.clusters_of(&scope);
        if let (Scope::Database(name), true) = (&scope, clusters.is_empty()) {
            return Err(Refused::NoPrimary(name.clone()));
        }
        for (cluster, _) in &clusters {
            self.topology.borrow().hold(*cluster);
        }
        for (cluster, name) in clusters {
            self.quiet(cluster, name).await?;
        }
        Ok(())
    }

    /// Goes on where a hold has not ended by itself.
    pub(super) fn release(&self, of: &door::Scope) -> Result<(), Refused> {
        for (cluster, _) in self.clusters_of(&self.scope(of, "release")?) {
            self.topology.borrow().release(cluster);
        }
        Ok(())
    }

    /// Waits until nothing is under way on the primary of a cluster that is held.
    async fn quiet(&self, cluster: ClusterId, name: String) -> Result<(), Refused> {
        while !self.is_leaving(cluster) {
            if self.primary_of(cluster).is_none_or(|primary| !matches!(primary, PrimaryView::Known { .. })) {
                return Err(Refused::NoPrimary(name));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        loop {
            // What the watch has told the workers is in their mailboxes before this question.
            let mut busy = false;
            for answer in self.mailboxes.ask_all(|reply| Order::IsBusy(cluster, reply)) {
                busy |= answer.await.unwrap_or(false);
            }
            if !busy {
                return Ok(());
            }
            if !self.is_leaving(cluster) {
                return Err(Refused::HoldOver);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether the primary of a cluster is about to hand over.
    fn is_leaving(&self, cluster: ClusterId) -> bool {
        matches!(self.primary_of(cluster), Some(PrimaryView::Leaving { .. }))
    }

    /// Whether the primary of a database is about to hand over.
    pub(super) fn is_held(&self, database: &str) -> bool {
        let clusters = self.clusters_of(&Scope::Database(database.to_owned()));
        clusters.iter().any(|(cluster, _)| self.is_leaving(*cluster))
    }

    fn primary_of(&self, cluster: ClusterId) -> Option<PrimaryView> {
        let snapshots = self.topology.borrow().snapshots();
        snapshots.iter().find(|snapshot| snapshot.cluster == cluster).map(|snapshot| snapshot.primary)
    }

    /// Clusters that are watched, each with the name of a database that is there.
    fn clusters_of(&self, scope: &Scope) -> Vec<(ClusterId, String)> {
        let runtime = self.runtime();
        let clusters = &runtime.facilities.clusters;
        match scope {
            Scope::All => {
                let snapshots = self.topology.borrow().snapshots();
                snapshots.iter().map(|snapshot| (snapshot.cluster, self.name_of(snapshot.cluster))).collect()
            }
            Scope::Database(name) => {
                let database = runtime.database(name).filter(|database| is_watched(database));
                database.map(|database| (clusters.id(&database.hosts), name.clone())).into_iter().collect()
            }
        }
    }
}
