//! Watches one cluster: runs its probes, asks the judge, and tells the workers what changed.

use super::bell::{Bell, Offer, bit};
use super::credentials;
use super::freshness::Freshness;
use super::history::{Failover, History, Phase};
use super::judge::{self, Change, Judge, Outcome, Rules};
use super::moment::Moment;
use super::probe::{Common, Probe, Rein, Report};
use super::snapshot::{Gauge, HostState, HostView, PrimaryView, Role, Snapshot};
use crate::config::settings::{HealthSettings, HostAddress};
use crate::ids::{ClusterId, HostId, WorkerId};
use crate::mailbox::{Mailboxes, Order};
use crate::runtime::Runtime;
use crate::server::dial::Local;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};

/// A host that has been down for so long is asked no more often than the others.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host that lets no probe in is asked at most this often, for it writes every refusal to its log.
const MUTE_PACE: Duration = Duration::from_secs(5);

/// Somebody who waits for a proof has the hosts asked for so long. Who still waits then asks again.
const LONGEST_PURSUIT: Duration = Duration::from_millis(500);

/// A standby that lags is asked at least this often while somebody waits for it.
const LONGEST_GAP: Duration = Duration::from_millis(25);

/// Credentials of clients that are kept for the probes.
const KEPT_OFFERS: usize = 4;

/// What the control thread tells a watch.
#[derive(Debug)]
pub(super) enum Command {
    /// The settings changed.
    Apply(Arc<Runtime>),
    /// The operator wants nothing read from this host, or lets it be read from again.
    Ban(HostId, bool),
}

/// One host, from here.
struct Host {
    address: HostAddress,
    gauge: Arc<Gauge>,
    rein: Rc<Rein>,
    task: AbortHandle,
    /// Said in the log last, so that it is said once.
    words: Option<String>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// See the module.
pub(super) struct Watch {
    cluster: ClusterId,
    addresses: Vec<HostAddress>,
    runtime: Arc<Runtime>,
    mailboxes: Mailboxes,
    common: Rc<Common>,
    bell: Arc<Bell>,
    judge: Judge,
    freshness: Freshness,
    history: History,
    told: Arc<[Failover]>,
    hosts: Vec<Host>,
    offers: Vec<Offer>,
    /// Hosts that the operator wants nothing read from.
    banned: BTreeSet<HostId>,
    round: u64,
    latest: Rc<RefCell<Option<Arc<Snapshot>>>>,
    pursuit: Option<Pursuit>,
}

/// Somebody waits for a proof.
#[derive(Debug, Clone, Copy)]
struct Pursuit {
    /// Of this moment.
    wanted: Moment,
    /// Since then.
    since: Moment,
    /// Somebody said last then that it still waits.
    renewed: Moment,
}

/// What a watch listens to.
pub(super) struct Ears {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    pub(super) offers: mpsc::UnboundedReceiver<Offer>,
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
            hosts: Vec::new(),
            offers: Vec::new(),
            banned: BTreeSet::new(),
            round: 0,
            latest,
            pursuit: None,
        };
        (watch, Ears { commands, reports, offers })
    }

    /// Watches until it is aborted.
    pub(super) async fn run(mut self, mut ears: Ears) {
        self.renew_plans();
        for address in self.addresses.clone() {
            self.add(address);
        }
        self.publish();
        let bell = self.bell.clone();
        loop {
            tokio::select! {
                Some(report) = ears.reports.recv() => self.take(&report),
                () = bell.rung() => self.answer_bell(),
                Some(offer) = ears.offers.recv() => self.take_offer(offer),
                command = ears.commands.recv() => match command {
                    Some(Command::Apply(runtime)) => self.apply(runtime),
                    Some(Command::Ban(host, banned)) => self.ban(host, banned),
                    None => return,
                },
            }
        }
    }

    /// Takes up a host.
    fn add(&mut self, address: HostAddress) {
        let id = self.judge.add(Moment::now());
        let rein = Rc::new(Rein::default());
        rein.set_pace(self.common.health.borrow().fast_interval);
        let probe =
            Probe { host: id, address: address.clone(), rein: rein.clone(), common: self.common.clone() };
        let task = spawn_local(probe.run()).abort_handle();
        self.hosts.push(Host { address, gauge: Arc::default(), rein, task, words: None });
    }

    fn apply(&mut self, runtime: Arc<Runtime>) {
        self.runtime = runtime;
        let health = self.runtime.settings.health.clone();
        self.judge.set_rules(rules(&health));
        self.common.health.replace(health);
        let before = self.common.plans.borrow().clone();
        self.renew_plans();
        let plans = self.common.plans.borrow();
        let is_known = |new: &crate::server::dial::DialPlan| {
            before.iter().any(|old| !new.differs(old) && new.credential == old.credential)
        };
        if before.len() != plans.len() || !plans.iter().all(is_known) {
            self.hosts.iter().for_each(|host| host.rein.reconnect());
        }
        drop(plans);
        if matches!(self.judge.primary(), PrimaryView::Lost { .. }) {
            // Who reloads while there is no primary knows of a change that we may have refused to believe.
            let changes = self.judge.forget(Moment::now());
            self.act_on(&changes, None);
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
        let plans = credentials::plans(&self.runtime, &self.addresses, &self.offers);
        self.bell.set_lacks_credential(plans.is_empty());
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
        self.act_on(&changes, Some(before));
        self.set_paces();
        self.pursue(host, proven);
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
                self.freshness.read(primary, timeline, seen.asked, answer.position);
                host.gauge.set_proven(Moment(u64::MAX), answer.position);
                host.gauge.set_lag(0);
                return;
            }
        }
        if answer.standby {
            let proof = self.freshness.replay(seen.host, answer.instance, answer.timeline, answer.position);
            host.gauge.set_proven(proof.proven, proof.replayed);
            host.gauge.set_lag(self.freshness.lag(answer.position));
        } else {
            host.gauge.set_proven(Moment::NEVER, super::Lsn(0));
        }
    }

    /// Says what changed, keeps the history, and publishes what matters.
    fn act_on(&mut self, changes: &[Change], before: Option<PrimaryView>) {
        if changes.is_empty() {
            return;
        }
        let now = Moment::now();
        let before = before.unwrap_or_else(|| self.judge.primary());
        for change in changes {
            self.log_change(change);
            let Some(phase) = judge::phase(change, before, &self.judge) else { continue };
            self.note(now, phase);
        }
        if matches!(self.judge.primary(), PrimaryView::Known { .. }) && self.judge.is_calm(now, PATIENCE) {
            self.history.all_is_well();
        }
        self.publish();
    }

    fn note(&mut self, now: Moment, phase: Phase) {
        if let Some(over) = self.history.note(now, phase, SystemTime::now()) {
            tracing::warn!(cluster = %self.cluster, "failover: {}", over.in_words());
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
    fn publish(&mut self) {
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
        });
        self.latest.replace(Some(snapshot.clone()));
        for worker in 0..self.mailboxes.workers() {
            self.mailboxes.send(WorkerId(worker), Order::Topology(snapshot.clone()));
        }
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
            since,
            gauge: host.gauge.clone(),
        }
    }

    /// While anything is wrong all hosts are asked often: one of them may be promoted at any moment.
    fn set_paces(&self) {
        let now = Moment::now();
        let health = self.common.health.borrow();
        let calm = self.judge.is_calm(now, PATIENCE);
        for (id, host) in (0..).map(HostId).zip(&self.hosts) {
            let (state, _) = self.judge.state(id);
            let pace = match state {
                HostState::Unknown if self.judge.answer(id).is_none() => health.interval.max(MUTE_PACE),
                _ if calm || self.judge.is_long_down(id, now, PATIENCE) => health.interval,
                _ => health.fast_interval,
            };
            host.rein.set_pace(pace);
        }
    }

    /// Another thread wants something.
    fn answer_bell(&mut self) {
        let trouble = self.bell.take_trouble();
        for (place, host) in self.hosts.iter().enumerate() {
            if trouble & bit(place) != 0 {
                host.rein.ask();
            }
        }
        let Some(wanted) = self.bell.wanted() else { return };
        let now = Moment::now();
        let before = self.pursuit.filter(|pursuit| pursuit.wanted == wanted);
        let since = before.map_or(now, |pursuit| pursuit.since);
        let pursuit = Pursuit { wanted, since, renewed: now };
        if self.any_standby_proves(wanted) {
            self.pursuit = None;
            self.wake_waiters();
        } else {
            self.pursuit = Some(pursuit);
            self.chase(pursuit, now);
        }
    }

    /// Goes on asking while somebody waits for a proof. `host` has just reported; `before` that,
    /// it had proven less or as much.
    fn pursue(&mut self, host: HostId, before: Moment) {
        let Some(pursuit) = self.pursuit else { return };
        let now = Moment::now();
        let proven = self.freshness.proof(host).proven;
        if proven > before {
            // Some wait for less than the others.
            self.wake_waiters();
        }
        if proven >= pursuit.wanted || now.since(pursuit.renewed) > LONGEST_PURSUIT {
            self.pursuit = None;
        } else {
            self.chase(pursuit, now);
        }
    }

    /// The primary says where its log ends, and the standbys are asked until one is there. While many wait, both go on
    /// at the same time. The longer it takes, the less it matters to know to the millisecond.
    fn chase(&self, pursuit: Pursuit, now: Moment) {
        let newest = self.freshness.newest();
        if newest < pursuit.wanted {
            self.ask_primary();
        }
        let gap = (now.since(pursuit.since) / 8).min(LONGEST_GAP);
        self.ask_standbys(newest.min(pursuit.wanted), gap);
    }

    fn ask_primary(&self) {
        if let PrimaryView::Known { host, .. } | PrimaryView::Leaving { host, .. } = self.judge.primary()
            && let Some(host) = self.hosts.get(usize::from(host.0))
        {
            host.rein.ask();
        }
    }

    fn ask_standbys(&self, wanted: Moment, gap: Duration) {
        for (id, host) in (0..).map(HostId).zip(&self.hosts) {
            let answers = self.judge.state(id).0 == HostState::Up && self.judge.role(id) == Role::Standby;
            if answers && self.freshness.proof(id).proven < wanted {
                host.rein.ask_after(gap);
            }
        }
    }

    fn any_standby_proves(&self, wanted: Moment) -> bool {
        (0..).map(HostId).take(self.hosts.len()).any(|id| self.freshness.proof(id).proven >= wanted)
    }

    fn wake_waiters(&self) {
        for worker in self.bell.take_wanting(self.mailboxes.workers()) {
            self.mailboxes.send(worker, Order::Proven(self.cluster));
        }
    }
}

fn rules(health: &HealthSettings) -> Rules {
    Rules { failures: health.failures, successes: health.successes }
}
