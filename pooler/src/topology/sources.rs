//! The part of a watch that listens to tools which know the cluster, and takes hosts up and lets them go.

use super::Lsn;
use super::moment::Moment;
use super::providers::{self, News, Told};
use super::snapshot::{DownReason, HostState};
use super::watch::Watch;
use crate::config::settings::{HostAddress, HostSource};
use crate::ids::HostId;
use std::time::Duration;
use tokio::task::AbortHandle;

/// A switchover that a tool has announced and that does not come is forgotten after this long.
const LONGEST_ANNOUNCEMENT: Duration = Duration::from_secs(60);

/// A tool that knows the cluster.
pub(super) struct Source {
    settings: HostSource,
    task: AbortHandle,
    /// What it said last.
    told: Option<Told>,
    /// Why it says nothing.
    words: Option<String>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Listens to the tools that the settings name, and to no others.
    pub(super) fn listen(&mut self) {
        let wanted = self.runtime.sources(&self.addresses);
        let same = self.sources.iter().map(|source| &source.settings).eq(&wanted);
        if same {
            return;
        }
        self.sources.clear();
        for (place, settings) in wanted.into_iter().enumerate() {
            let task = providers::listen(place, &settings, &self.addresses, &self.runtime, self.news.clone());
            self.sources.push(Source { settings, task, told: None, words: None });
        }
    }

    /// A tool has said something, or nothing.
    pub(super) fn take_news(&mut self, news: News) {
        let Some(source) = self.sources.get_mut(news.source) else { return };
        let told = match news.told {
            Ok(told) => told,
            Err(words) => {
                if source.words.as_ref() != Some(&words) {
                    tracing::warn!(cluster = %self.cluster, "no news, what was said last holds: {words}");
                    source.words = Some(words);
                }
                return;
            }
        };
        source.words = None;
        if source.told.as_ref() == Some(&told) {
            return;
        }
        tracing::info!(cluster = %self.cluster, by = ?told.by, hosts = told.hosts.len(), "news of the cluster");
        source.told = Some(told.clone());
        self.take_up(&told.hosts);
        self.let_go();
        let before = self.judge.primary();
        let leaving = told.leaving.as_ref().and_then(|address| self.find(address));
        let now = Moment::now();
        let changes = match leaving {
            Some(host) => self.judge.announce(host, told.by, now, LONGEST_ANNOUNCEMENT),
            None => self.judge.take_back(told.by, now),
        };
        self.act_on(&changes, before);
        // Whatever changed, the hosts know more about it.
        self.hosts.iter().for_each(|host| host.rein.ask());
        self.set_paces();
    }

    fn find(&self, address: &HostAddress) -> Option<HostId> {
        (0..).map(HostId).zip(&self.hosts).find(|(_, host)| host.address == *address).map(|(id, _)| id)
    }

    /// Takes up hosts that are new, or back.
    fn take_up(&mut self, named: &[HostAddress]) {
        for address in named {
            let Some(id) = self.find(address) else {
                tracing::info!(cluster = %self.cluster, host = %address, "host found");
                self.add(address.clone(), true);
                self.publish();
                continue;
            };
            if self.judge.state(id).0 == HostState::Down(DownReason::Removed)
                && let Some(rein) = self.hosts.get(usize::from(id.0)).map(|host| host.rein.clone())
            {
                let before = self.judge.primary();
                let changes = self.judge.restore(id, Moment::now());
                let (task, resolver) =
                    (self.start_probe(id, address, &rein), self.start_resolver(id, address));
                if let Some(host) = self.hosts.get_mut(usize::from(id.0)) {
                    (host.task, host.resolver) = (task, resolver);
                }
                self.act_on(&changes, before);
            }
        }
    }

    /// Lets go of hosts that a tool had named and none names any more. Those of the settings stay.
    fn let_go(&mut self) {
        let is_named = |address: &HostAddress| {
            self.sources
                .iter()
                .filter_map(|source| source.told.as_ref())
                .any(|told| told.hosts.contains(address))
        };
        let gone: Vec<HostId> = (0..)
            .map(HostId)
            .zip(&self.hosts)
            .filter(|(_, host)| host.found && !is_named(&host.address))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            let Some(host) = self.hosts.get(usize::from(id.0)) else { continue };
            host.stop();
            host.gauge.set_proven(Moment::NEVER, Lsn(0));
            self.freshness.forget(id);
            let before = self.judge.primary();
            let changes = self.judge.remove(id, Moment::now());
            self.act_on(&changes, before);
        }
    }
}
