//! The control thread's end: one watch for each cluster that the settings name.

use super::snapshot::Snapshot;
use super::watch::{Command, Watch};
use crate::config::settings::{DatabaseSettings, HostAddress, Settings, Target};
use crate::ids::{ClusterId, HostId};
use crate::mailbox::Mailboxes;
use crate::runtime::Runtime;
use dashmap::DashMap;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};

/// Which cluster a list of hosts is. Shared by all threads; outlives a reload.
#[derive(Debug, Default)]
pub struct Clusters {
    known: DashMap<Vec<HostAddress>, ClusterId>,
    next: AtomicU16,
}

impl Clusters {
    /// The number of the cluster with these hosts. The same list has the same number while the process lives.
    #[must_use]
    pub fn id(&self, hosts: &[HostAddress]) -> ClusterId {
        if let Some(known) = self.known.get(hosts) {
            return *known;
        }
        *self
            .known
            .entry(hosts.to_vec())
            .or_insert_with(|| ClusterId(self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Whether the hosts of a database are watched: if it matters which of them is the primary.
#[must_use]
pub fn is_watched(database: &DatabaseSettings) -> bool {
    database.target == Target::Primary
}

/// All watches.
#[derive(Debug)]
pub struct Topology {
    mailboxes: Mailboxes,
    watches: BTreeMap<ClusterId, Handle>,
}

#[derive(Debug)]
struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    latest: Rc<RefCell<Option<Arc<Snapshot>>>>,
    task: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Topology {
    /// Watches every cluster of the settings, on this thread.
    #[must_use]
    pub fn start(runtime: &Arc<Runtime>, mailboxes: Mailboxes) -> Self {
        let mut topology = Self { mailboxes, watches: BTreeMap::new() };
        topology.apply(runtime);
        topology
    }

    /// The settings changed: clusters that are new are watched, and those that are gone no longer.
    pub fn apply(&mut self, runtime: &Arc<Runtime>) {
        let wanted: BTreeMap<ClusterId, Vec<HostAddress>> = watched(&runtime.settings)
            .map(|hosts| (runtime.facilities.clusters.id(hosts), hosts.clone()))
            .collect();
        self.watches.retain(|id, _| wanted.contains_key(id));
        for (id, hosts) in wanted {
            match self.watches.get(&id) {
                Some(watch) => drop(watch.commands.send(Command::Apply(runtime.clone()))),
                None => drop(self.watches.insert(id, self.watch(id, hosts, runtime))),
            }
        }
    }

    fn watch(&self, id: ClusterId, hosts: Vec<HostAddress>, runtime: &Arc<Runtime>) -> Handle {
        let (commands, received) = mpsc::unbounded_channel();
        let latest = Rc::new(RefCell::new(None));
        let (watch, ears) =
            Watch::new(id, hosts, runtime.clone(), self.mailboxes.clone(), latest.clone(), received);
        let task = spawn_local(watch.run(ears)).abort_handle();
        Handle { commands, latest, task }
    }

    /// Nothing is read from this host from now on, or it may be again. The primary is not affected.
    pub fn ban(&self, cluster: ClusterId, host: HostId, banned: bool) {
        self.command(cluster, Command::Ban(host, banned));
    }

    /// The operator is about to move the primary of a cluster, with whatever tool: nothing new is begun on it until
    /// there is another one, or [`Self::release`] is called.
    pub fn hold(&self, cluster: ClusterId) {
        self.command(cluster, Command::Hold(true));
    }

    /// What was held by [`Self::hold`] goes on.
    pub fn release(&self, cluster: ClusterId) {
        self.command(cluster, Command::Hold(false));
    }

    fn command(&self, cluster: ClusterId, command: Command) {
        if let Some(watch) = self.watches.get(&cluster) {
            let _ = watch.commands.send(command);
        }
    }

    /// The newest snapshot of each cluster.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.watches.values().filter_map(|watch| watch.latest.borrow().clone()).collect()
    }
}

fn watched(settings: &Settings) -> impl Iterator<Item = &Vec<HostAddress>> {
    let databases = settings.databases.values().chain(&settings.wildcard_database);
    databases.filter(|database| is_watched(database)).map(|database| &database.hosts)
}
