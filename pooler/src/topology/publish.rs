//! The part of a watch that tells: the log, the history, and the snapshots for the workers.

use super::history::Phase;
use super::judge::{self, Change};
use super::moment::Moment;
use super::snapshot::{HostState, HostView, PrimaryView, Role, Snapshot};
use super::watch::{Host, PATIENCE, Watch};
use crate::ids::HostId;
use crate::mailbox::Order;
use crate::notify::HubOrder;
use std::sync::Arc;
use std::time::SystemTime;

impl Watch {
    /// Says what changed, keeps the history, and publishes what matters. `before` is the primary before it.
    pub(super) fn act_on(&mut self, changes: &[Change], before: PrimaryView) {
        if changes.is_empty() {
            return;
        }
        let now = Moment::now();
        for change in changes {
            self.log_change(change);
            if let Change::Primary(PrimaryView::Known { host, timeline, .. }) = *change {
                self.look_back(host, timeline);
                self.start_survey(host);
                // How far the standbys are is known once both they and the primary have been asked.
                self.hosts.iter().for_each(|host| host.rein.ask());
            }
            let Some(phase) = judge::phase(change, before, &self.judge) else { continue };
            // Who finds its first primary has seen no failover.
            let first = matches!(before, PrimaryView::Lost { .. }) && !self.history.is_open();
            if !(first && matches!(phase, Phase::Promoted(..))) {
                self.note(now, phase);
            }
        }
        if matches!(self.judge.primary(), PrimaryView::Known { .. }) && self.judge.is_calm(now, PATIENCE) {
            self.history.all_is_well();
        }
        self.publish();
    }

    /// Notes a phase of a failover, and tells the story when it is over and when the first write was acknowledged.
    pub(super) fn note(&mut self, now: Moment, phase: Phase) {
        if matches!(phase, Phase::Promoted(..)) {
            self.bell.await_write();
        }
        if let Some(over) = self.history.note(now, phase, SystemTime::now()) {
            let words = over.in_words();
            match phase {
                Phase::FirstWrite => tracing::info!(cluster = %self.cluster, "writes go on: {words}"),
                _ => tracing::warn!(cluster = %self.cluster, "failover: {words}"),
            }
        }
        self.told = self.history.failovers().into();
    }

    fn log_change(&self, change: &Change) {
        let cluster = self.cluster;
        let address = |host: HostId| {
            self.hosts.get(usize::from(host.0)).map_or_else(String::new, |host| host.address.to_string())
        };
        match *change {
            Change::State(host, HostState::Up) => {
                tracing::info!(%cluster, host = address(host), "host is up")
            }
            Change::State(host, state @ (HostState::Fenced(_) | HostState::Foreign)) => {
                tracing::error!(%cluster, host = address(host), "host is {state}");
            }
            Change::State(host, state) => tracing::warn!(%cluster, host = address(host), "host is {state}"),
            Change::Role(host, Role::Primary) => {
                tracing::info!(%cluster, host = address(host), "host says that it is a primary");
            }
            Change::Role(host, _) => tracing::info!(%cluster, host = address(host), "host is a standby"),
            Change::Follows(host, timeline) => {
                tracing::info!(%cluster, host = address(host), timeline, "standby follows");
            }
            Change::Primary(PrimaryView::Known { host, timeline, .. }) => {
                tracing::info!(%cluster, host = address(host), timeline, "primary");
            }
            Change::Primary(PrimaryView::Leaving { host, sign, .. }) => {
                tracing::warn!(%cluster, host = address(host), ?sign, "primary is about to hand over");
            }
            Change::Primary(PrimaryView::Lost { why, .. }) => tracing::error!(%cluster, "no primary: {why}"),
            Change::Primary(PrimaryView::NeverSeen) => tracing::warn!(%cluster, "no primary seen yet"),
            Change::Identified(system_id) => tracing::info!(%cluster, system_id, "cluster identified"),
        }
    }

    /// Gives the workers a new snapshot.
    pub(super) fn publish(&mut self) {
        self.round += 1;
        let views = (0..).map(HostId).zip(&self.hosts);
        let hosts: Vec<HostView> = views.map(|(id, host)| self.view(id, host)).collect();
        let snapshot = Arc::new(Snapshot {
            cluster: self.cluster,
            round: self.round,
            made: Moment::now(),
            hosts,
            primary: self.judge.primary(),
            bell: self.bell.clone(),
            history: self.told.clone(),
            ancestry: self.ancestry.clone(),
        });
        self.latest.replace(Some(snapshot.clone()));
        self.mailboxes.send_all(|| Order::Topology(snapshot.clone()));
        self.mailboxes.send_hub(HubOrder::Follow(snapshot));
    }

    fn view(&self, id: HostId, host: &Host) -> HostView {
        let answer = self.judge.answer(id);
        let (mut state, since) = self.judge.state(id);
        if self.banned.contains(&id) && state.is_usable() && self.judge.role(id) == Role::Standby {
            state = HostState::Banned;
        }
        HostView {
            id,
            address: host.address.clone(),
            role: self.judge.role(id),
            state,
            timeline: answer.map_or(0, |answer| answer.timeline),
            system_id: answer.map_or(0, |answer| answer.system_id),
            version: answer.map_or(0, |answer| answer.version),
            same_as: self.judge.same_as(id),
            moves: host.moves,
            since,
            assured: host.assured,
            gauge: host.gauge.clone(),
        }
    }
}
