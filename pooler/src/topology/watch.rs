//! Watches one cluster: runs its probes, asks the judge, and tells the workers what changed.

use super::ancestry::{self, Ancestry};
use super::bell::{Bell, Offer};
use super::credentials;
use super::freshness::Freshness;
use super::history::{Failover, History};
use super::judge::{Judge, Outcome, Rules};
use super::moment::Moment;
use super::names;
use super::probe::{Common, Probe, Rein, Report};
use super::providers::News;
use super::pursuit::Pursuit;
use super::snapshot::{Gauge, HostState, LostReason, PrimaryView, Role, Sign, Snapshot};
use super::sources::Source;
use super::survey::{self, Past};
use crate::config::settings::{HealthSettings, HostAddress};
use crate::ids::{ClusterId, HostId};
use crate::mailbox::Mailboxes;
use crate::runtime::Runtime;
use crate::server::dial::{DialPlan, Local};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};

/// A host that has been down for so long is asked no more often than the others.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// While every host is down they are asked this often.
const DESERTED_PACE: Duration = Duration::from_millis(10);

/// A host that lets no probe in is asked at most this often, for it writes every refusal to its log.
const MUTE_PACE: Duration = Duration::from_secs(5);

/// An operator holds work for so long at most, where it may wait without a limit.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// Credentials of clients that are kept for the probes.
const KEPT_OFFERS: usize = 4;

/// What the control thread tells a watch.
#[derive(Debug)]
pub(super) enum Command {
    /// The settings changed.
    Apply(Arc<Runtime>),
    /// The operator wants nothing read from this host, or lets it be read from again.
    Ban(HostId, bool),
    /// The operator holds new work, or lets it go.
    Hold(bool),
}

/// One host, from here.
pub(super) struct Host {
    pub(super) address: HostAddress,
    pub(super) gauge: Arc<Gauge>,
    pub(super) rein: Rc<Rein>,
    pub(super) task: AbortHandle,
    /// Said in the log last, so that it is said once.
    words: Option<String>,
    /// A tool named it, and not the settings.
    pub(super) found: bool,
    /// How often its name has been moved.
    pub(super) moves: u32,
    /// Workers suspect since then that it stops.
    pub(super) suspected: Option<Moment>,
    /// What they were told last: a connection that was begun then was answered.
    pub(super) assured: Moment,
    /// Looks its name up.
    pub(super) resolver: Option<AbortHandle>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Host {
    /// Asks and looks up no longer.
    pub(super) fn stop(&self) {
        self.task.abort();
        if let Some(resolver) = &self.resolver {
            resolver.abort();
        }
    }
}

/// See the module.
pub(super) struct Watch {
    pub(super) cluster: ClusterId,
    pub(super) addresses: Vec<HostAddress>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) mailboxes: Mailboxes,
    pub(super) common: Rc<Common>,
    pub(super) bell: Arc<Bell>,
    pub(super) judge: Judge,
    pub(super) freshness: Freshness,
    pub(super) history: History,
    pub(super) told: Arc<[Failover]>,
    pub(super) ancestry: Arc<Ancestry>,
    pub(super) pasts: mpsc::UnboundedSender<Past>,
    pub(super) hosts: Vec<Host>,
    pub(super) offers: Vec<Offer>,
    pub(super) sources: Vec<Source>,
    pub(super) news: mpsc::UnboundedSender<News>,
    pub(super) moved: mpsc::UnboundedSender<HostId>,
    pub(super) standbys: mpsc::UnboundedSender<Vec<String>>,
    /// Hosts that the operator wants nothing read from.
    pub(super) banned: BTreeSet<HostId>,
    pub(super) round: u64,
    pub(super) latest: Rc<RefCell<Option<Arc<Snapshot>>>>,
    pub(super) pursuit: Option<Pursuit>,
}

/// What a watch listens to.
pub(super) struct Ears {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    pub(super) offers: mpsc::UnboundedReceiver<Offer>,
    pub(super) news: mpsc::UnboundedReceiver<News>,
    pub(super) moved: mpsc::UnboundedReceiver<HostId>,
    pub(super) standbys: mpsc::UnboundedReceiver<Vec<String>>,
    pub(super) pasts: mpsc::UnboundedReceiver<Past>,
}

impl Watch {
    pub(super) fn new(
        cluster: ClusterId,
        addresses: Vec<HostAddress>,
        runtime: Arc<Runtime>,
        mailboxes: Mailboxes,
        latest: Rc<RefCell<Option<Arc<Snapshot>>>>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> (Self, Ears) {
        let (reports_to, reports) = mpsc::unbounded_channel();
        let (offers_to, offers) = mpsc::unbounded_channel();
        let (news_to, news) = mpsc::unbounded_channel();
        let (moved_to, moved) = mpsc::unbounded_channel();
        let (standbys_to, standbys) = mpsc::unbounded_channel();
        let (pasts_to, pasts) = mpsc::unbounded_channel();
        let health = runtime.settings.health.clone();
        let judge = Judge::new(rules(&health), 0, Moment::now());
        let common = Rc::new(Common {
            health: RefCell::new(health),
            plans: RefCell::default(),
            local: Rc::new(Local::default()),
            reports: reports_to,
        });
        let watch = Self {
            cluster,
            addresses,
            runtime,
            mailboxes,
            common,
            bell: Arc::new(Bell::new(offers_to)),
            judge,
            freshness: Freshness::default(),
            history: History::default(),
            told: Arc::from([]),
            ancestry: Arc::default(),
            pasts: pasts_to,
            hosts: Vec::new(),
            offers: Vec::new(),
            sources: Vec::new(),
            news: news_to,
            moved: moved_to,
            standbys: standbys_to,
            banned: BTreeSet::new(),
            round: 0,
            latest,
            pursuit: None,
        };
        (watch, Ears { commands, reports, offers, news, moved, standbys, pasts })
    }

    /// Watches until it is aborted.
    pub(super) async fn run(mut self, mut ears: Ears) {
        self.renew_plans();
        for address in self.addresses.clone() {
            self.add(address, false);
        }
        self.listen();
        self.publish();
        let bell = self.bell.clone();
        loop {
            tokio::select! {
                Some(report) = ears.reports.recv() => self.take(&report),
                () = bell.rung() => self.answer_bell(),
                Some(offer) = ears.offers.recv() => self.take_offer(offer),
                Some(news) = ears.news.recv() => self.take_news(news),
                Some(host) = ears.moved.recv() => self.follow_name(host),
                Some(standbys) = ears.standbys.recv() => self.suggest(&standbys),
                Some(past) = ears.pasts.recv() => self.take_past(past),
                command = ears.commands.recv() => match command {
                    Some(Command::Apply(runtime)) => self.apply(runtime),
                    Some(Command::Ban(host, banned)) => self.ban(host, banned),
                    Some(Command::Hold(hold)) => self.hold(hold),
                    None => return,
                },
            }
        }
    }

    /// Takes up a host.
    pub(super) fn add(&mut self, address: HostAddress, found: bool) {
        let id = self.judge.add(Moment::now());
        let rein = Rc::new(Rein::default());
        rein.set_pace(self.common.health.borrow().fast_interval);
        let task = self.start_probe(id, &address, &rein);
        let resolver = self.start_resolver(id, &address);
        self.hosts.push(Host {
            address,
            gauge: Arc::default(),
            rein,
            task,
            words: None,
            found,
            moves: 0,
            suspected: None,
            assured: Moment::NEVER,
            resolver,
        });
    }

    pub(super) fn start_resolver(&self, host: HostId, address: &HostAddress) -> Option<AbortHandle> {
        let follow = || spawn_local(names::follow(host, address.clone(), self.moved.clone())).abort_handle();
        names::is_name(address).then(follow)
    }

    /// A name leads elsewhere: the probe follows it, and so must all connections.
    fn follow_name(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(usize::from(id.0)) else { return };
        tracing::warn!(cluster = %self.cluster, host = %host.address, "the name of the host leads elsewhere");
        host.moves += 1;
        host.gauge.set_proven(Moment::NEVER, super::Lsn(0));
        host.rein.reconnect();
        self.freshness.forget(id);
        self.publish();
    }

    /// There is a primary on this timeline: what it had replayed before is known, and it is asked for the rest.
    pub(super) fn look_back(&mut self, primary: HostId, timeline: u32) {
        if self.ancestry.timeline == timeline {
            return;
        }
        let proof = self.freshness.proof(primary);
        let replayed = (proof.timeline > 0).then_some((proof.timeline, proof.replayed));
        let mut ancestry = Ancestry { timeline, replayed, history: ancestry::History::Asked };
        let plan = self.common.plans.borrow().first().cloned();
        match (self.hosts.get(usize::from(primary.0)), plan) {
            (Some(host), Some(plan)) if timeline > 1 => {
                let (address, local) = (host.address.clone(), self.common.local.clone());
                spawn_local(survey::history(address, plan, local, timeline, self.pasts.clone()));
            }
            _ => ancestry.history = ancestry::History::Hidden,
        }
        self.ancestry = Arc::new(ancestry);
    }

    fn take_past(&mut self, past: Past) {
        if self.ancestry.timeline != past.timeline {
            return;
        }
        let history = past.history.map_or(ancestry::History::Hidden, ancestry::History::Known);
        self.ancestry = Arc::new(Ancestry { history, ..Ancestry::clone(&self.ancestry) });
        self.publish();
    }

    /// Looks for standbys of a new primary that nobody has named.
    pub(super) fn start_survey(&self, primary: HostId) {
        let plan = self.common.plans.borrow().first().cloned();
        if let (Some(host), Some(plan)) = (self.hosts.get(usize::from(primary.0)), plan) {
            let (address, local) = (host.address.clone(), self.common.local.clone());
            spawn_local(survey::survey(address, plan, local, self.standbys.clone()));
        }
    }

    fn suggest(&self, standbys: &[String]) {
        let ids = (0..).map(HostId).take(self.hosts.len());
        let known = ids.filter(|id| self.judge.role(*id) == Role::Standby).count();
        if standbys.len() > known {
            tracing::info!(
                cluster = %self.cluster,
                "the primary streams to {} standbys, of which {known} are known here; add the others to the hosts if \
                 they should serve reads: {}",
                standbys.len(),
                standbys.join(", ")
            );
        }
    }

    pub(super) fn start_probe(&self, host: HostId, address: &HostAddress, rein: &Rc<Rein>) -> AbortHandle {
        let (address, rein, common) = (address.clone(), rein.clone(), self.common.clone());
        spawn_local(Probe { host, address, rein, common }.run()).abort_handle()
    }

    /// The primary is about to hand over, says the operator, or it stays after all.
    fn hold(&mut self, hold: bool) {
        let (before, now) = (self.judge.primary(), Moment::now());
        let changes = match self.judge.incumbent() {
            // Who waits meanwhile is let go before being told that there is no primary.
            Some(primary) if hold => {
                let longest = self.runtime.settings.timeouts.hold.map_or(LONGEST_HOLD, |limit| limit * 2 / 3);
                self.judge.announce(primary, Sign::Operator, now, longest)
            }
            _ => self.judge.take_back(Sign::Operator, now),
        };
        self.act_on(&changes, before);
        self.set_paces();
    }

    fn apply(&mut self, runtime: Arc<Runtime>) {
        self.runtime = runtime;
        let health = self.runtime.settings.health.clone();
        self.judge.set_rules(rules(&health));
        self.common.health.replace(health);
        self.listen();
        let before = self.common.plans.borrow().clone();
        self.renew_plans();
        let plans = self.common.plans.borrow();
        let is_known = |new: &DialPlan| before.iter().any(|old| is_same(old, new));
        if before.len() != plans.len() || !plans.iter().all(is_known) {
            self.hosts.iter().for_each(|host| host.rein.reconnect());
        }
        drop(plans);
        if matches!(self.judge.primary(), PrimaryView::Lost { .. }) {
            // Who reloads while there is no primary knows of a change that we may have refused to believe.
            let before = self.judge.primary();
            let changes = self.judge.forget(Moment::now());
            self.act_on(&changes, before);
        }
        self.set_paces();
    }

    fn ban(&mut self, host: HostId, banned: bool) {
        let changed = if banned { self.banned.insert(host) } else { self.banned.remove(&host) };
        if changed {
            self.publish();
        }
    }

    fn renew_plans(&self) {
        let mut plans = credentials::plans(&self.runtime, &self.addresses, &self.offers);
        self.bell.set_lacks_credential(plans.is_empty());
        // What has opened the door before stays in front.
        let front = self.common.plans.borrow().first().cloned();
        if let Some(at) = front.and_then(|front| plans.iter().position(|plan| is_same(plan, &front)))
            && let Some(part) = plans.get_mut(..=at)
        {
            part.rotate_right(1);
        }
        self.common.plans.replace(plans);
    }

    /// A client's credential: for probes that have nothing, or nothing that opens the door.
    fn take_offer(&mut self, offer: Offer) {
        if self.offers.contains(&offer) {
            return;
        }
        if self.offers.len() >= KEPT_OFFERS {
            self.offers.remove(0);
        }
        self.offers.push(offer);
        self.renew_plans();
        self.hosts.iter().for_each(|host| host.rein.ask());
    }

    /// One observation: judged, measured, told.
    fn take(&mut self, report: &Report) {
        let host = report.seen.host;
        self.log_words(report);
        let (before, proven) = (self.judge.primary(), self.freshness.proof(host).proven);
        let changes = self.judge.observe(&report.seen);
        self.measure(report);
        self.act_on(&changes, before);
        self.assure(host, report.begun);
        self.set_paces();
        self.pursue(host, proven);
    }

    /// Tells the workers that a host answers which they suspect to stop.
    fn assure(&mut self, host: HostId, begun: Option<Moment>) {
        let Some(host) = self.hosts.get_mut(usize::from(host.0)) else { return };
        if let (Some(suspected), Some(begun)) = (host.suspected, begun)
            && begun > suspected
        {
            (host.suspected, host.assured) = (None, begun);
            self.publish();
        }
    }

    /// Why a probe failed, once for each reason.
    fn log_words(&mut self, report: &Report) {
        let Some(host) = self.hosts.get_mut(usize::from(report.seen.host.0)) else { return };
        if report.words == host.words {
            return;
        }
        if let Some(words) = &report.words {
            tracing::warn!(cluster = %self.cluster, host = %host.address, "probe failed: {words}");
        }
        host.words.clone_from(&report.words);
    }

    /// Brings the gauges up to date.
    fn measure(&mut self, report: &Report) {
        let seen = &report.seen;
        let Some(host) = self.hosts.get(usize::from(seen.host.0)) else { return };
        if matches!(
            self.judge.state(seen.host).0,
            HostState::Down(_) | HostState::Fenced(_) | HostState::Foreign
        ) {
            self.freshness.forget(seen.host);
            host.gauge.set_proven(Moment::NEVER, super::Lsn(0));
            return;
        }
        let Outcome::Answered(answer) = seen.outcome else { return };
        host.gauge.set_answered(seen.heard, seen.heard.since(seen.asked));
        if let PrimaryView::Known { host: primary, timeline, .. }
        | PrimaryView::Leaving { host: primary, timeline, .. } = self.judge.primary()
        {
            self.freshness.follow(primary, timeline);
            if primary == seen.host {
                self.freshness.read(primary, timeline, seen.asked, answer.position, answer.flushed);
                host.gauge.set_withheld(self.freshness.withheld());
                host.gauge.set_proven(Moment(u64::MAX), answer.position);
                host.gauge.set_lag(0);
                return;
            }
        }
        let promoted = matches!(
            self.judge.primary(),
            PrimaryView::Lost { why: LostReason::ReadOnly(promoted), .. } if promoted == seen.host
        );
        if promoted {
            // Nobody has anything that it lacks.
            host.gauge.set_proven(Moment(u64::MAX), answer.position);
            host.gauge.set_lag(0);
        } else if answer.standby {
            let proof = self.freshness.replay(seen.host, answer.instance, answer.timeline, answer.position);
            host.gauge.set_proven(proof.proven, proof.replayed);
            host.gauge.set_lag(self.freshness.lag(answer.position));
        } else {
            host.gauge.set_proven(Moment::NEVER, super::Lsn(0));
        }
    }

    /// While anything is wrong all hosts are asked often: one of them may be promoted at any moment.
    pub(super) fn set_paces(&self) {
        let now = Moment::now();
        let health = self.common.health.borrow();
        let calm = self.judge.is_calm(now, PATIENCE);
        for (id, host) in (0..).map(HostId).zip(&self.hosts) {
            let (state, _) = self.judge.state(id);
            let pace = match state {
                HostState::Unknown if self.judge.answer(id).is_none() => health.interval.max(MUTE_PACE),
                _ if calm || self.judge.is_long_down(id, now, PATIENCE) => health.interval,
                _ if self.judge.is_deserted() => health.fast_interval.min(DESERTED_PACE),
                _ => health.fast_interval,
            };
            host.rein.set_pace(pace);
        }
    }
}

/// Whether two plans come to the same connection.
fn is_same(one: &DialPlan, other: &DialPlan) -> bool {
    !one.differs(other) && one.credential == other.credential
}

fn rules(health: &HealthSettings) -> Rules {
    Rules { failures: health.failures, successes: health.successes }
}
