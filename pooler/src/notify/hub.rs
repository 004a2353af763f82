//! The hub: keeps one listening connection per station on the control thread, and tells workers what it hears.

use super::keeper::Keeper;
use super::lead;
use super::news::{HubOrder, Station};
use crate::ids::ClusterId;
use crate::mailbox::Mailboxes;
use crate::server::dial::Local;
use crate::topology::Snapshot;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Starts the hub on this thread; `orders` come from the workers' desks.
pub fn start(mailboxes: Mailboxes, orders: UnboundedReceiver<HubOrder>) {
    tokio::task::spawn_local(sort(mailboxes, orders));
}

/// Hands each order to the task of its station.
async fn sort(mailboxes: Mailboxes, mut orders: UnboundedReceiver<HubOrder>) {
    let local = Rc::new(Local::default());
    let mut stations: HashMap<Arc<Station>, UnboundedSender<HubOrder>> = HashMap::new();
    let mut snapshots: HashMap<ClusterId, Arc<Snapshot>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        let question = match order {
            HubOrder::Question(question) => question,
            HubOrder::Follow(snapshot) => {
                for (station, sender) in &stations {
                    if lead::is_of(&snapshot, station) {
                        let _ = sender.send(HubOrder::Follow(snapshot.clone()));
                    }
                }
                snapshots.insert(snapshot.cluster, snapshot);
                continue;
            }
            HubOrder::Vacate(station) => {
                if let Some(sender) = stations.get(&station) {
                    let _ = sender.send(HubOrder::Vacate(station));
                }
                continue;
            }
        };
        let station = stations.entry(question.station.clone()).or_insert_with(|| {
            let (sender, receiver) = unbounded_channel();
            let snapshot = snapshots.values().find(|snapshot| lead::is_of(snapshot, &question.station));
            let keeper = Keeper::new(question.station.clone(), mailboxes.clone(), local.clone(), snapshot);
            tokio::task::spawn_local(keeper.run(receiver));
            sender
        });
        // The task lives as long as its sender does.
        let _ = station.send(HubOrder::Question(question));
    }
}
