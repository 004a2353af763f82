//! From what hosts say of themselves to who is the primary and who is fenced. Pure.
//!
//! A host is the primary if its data belong to the cluster, it is not in recovery, it is on the highest timeline that
//! was ever seen, and it takes writes. A host on a lower timeline that says that it is the primary is fenced. Of two on
//! one timeline the one stays that was the primary before; if none was, none is believed.

use super::history::Phase;
use super::moment::Moment;
use super::question::Answer;
use super::snapshot::{DownReason, FenceReason, HostState, LostReason, PrimaryView, Role, Sign};
use crate::ids::HostId;
use std::time::Duration;

/// What one probe of one host came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Which host.
    pub host: HostId,
    /// When it was asked.
    pub asked: Moment,
    /// When that ended.
    pub heard: Moment,
    /// What came back.
    pub outcome: Outcome,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host said what it is.
    Answered(Answer),
    /// It lives, and does not let the probe in.
    Mute,
    /// No answer.
    Failed(DownReason),
}

/// How much is needed to change our mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Failed probes in a row after which a host is down; at least 1.
    pub failures: u32,
    /// Answers in a row after which a host that was down is up; at least 1.
    pub successes: u32,
}

/// What has changed, for the log and the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A host is in another state.
    State(HostId, HostState),
    /// A host has another role.
    Role(HostId, Role),
    /// A standby follows another timeline.
    Follows(HostId, u32),
    /// Who takes writes has changed.
    Primary(PrimaryView),
    /// The cluster has this system identifier.
    Identified(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Unasked,
    Mute,
    Up,
    Suspect(DownReason),
    Down(DownReason),
}

#[derive(Debug, Clone, Copy)]
struct Record {
    life: Life,
    /// Its last observation was asked for then.
    asked: Option<Moment>,
    failures: u32,
    mutes: u32,
    successes: u32,
    /// Its last answer, however old.
    answer: Option<Answer>,
    state: HostState,
    since: Moment,
    same_as: Option<HostId>,
}

impl Record {
    const fn new(now: Moment) -> Self {
        Self {
            life: Life::Unasked,
            asked: None,
            failures: 0,
            mutes: 0,
            successes: 0,
            answer: None,
            state: HostState::Unknown,
            since: now,
            same_as: None,
        }
    }

    const fn is_removed(&self) -> bool {
        matches!(self.life, Life::Down(DownReason::Removed))
    }

    /// Its last answer, unless it is down.
    const fn word(&self) -> Option<Answer> {
        match self.life {
            Life::Up | Life::Suspect(_) | Life::Mute => self.answer,
            Life::Unasked | Life::Down(_) => None,
        }
    }
}

/// Who is or was the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Incumbent {
    host: HostId,
    timeline: u32,
}

/// Somebody says that a host is about to hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announcement {
    host: HostId,
    sign: Sign,
    since: Moment,
    /// If it has not handed over by then, it does not.
    until: Moment,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Judge {
    rules: Rules,
    system_id: Option<u64>,
    /// Highest timeline that was ever seen in the cluster.
    highest: u32,
    incumbent: Option<Incumbent>,
    primary: PrimaryView,
    leaving: Option<Announcement>,
    hosts: Vec<Record>,
}

impl Judge {
    /// Knows nothing yet of so many hosts.
    #[must_use]
    pub fn new(rules: Rules, hosts: usize, now: Moment) -> Self {
        Self {
            rules,
            system_id: None,
            highest: 0,
            incumbent: None,
            primary: PrimaryView::NeverSeen,
            leaving: None,
            hosts: vec![Record::new(now); hosts],
        }
    }

    /// Other rules from now on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// One more host.
    pub fn add(&mut self, now: Moment) -> HostId {
        let id = HostId(u16::try_from(self.hosts.len()).unwrap_or(u16::MAX));
        self.hosts.push(Record::new(now));
        id
    }

    /// The host is no longer part of the cluster.
    pub fn remove(&mut self, host: HostId, now: Moment) -> Vec<Change> {
        if let Some(record) = self.hosts.get_mut(usize::from(host.0)) {
            record.life = Life::Down(DownReason::Removed);
            record.answer = None;
        }
        self.conclude(now)
    }

    /// The host is part of the cluster again.
    pub fn restore(&mut self, host: HostId, now: Moment) -> Vec<Change> {
        if let Some(record) = self.hosts.get_mut(usize::from(host.0)).filter(|record| record.is_removed()) {
            *record = Record { asked: record.asked, state: record.state, ..Record::new(now) };
        }
        self.conclude(now)
    }

    /// Forgets which cluster it is and how high its timelines went: the operator knows better.
    pub fn forget(&mut self, now: Moment) -> Vec<Change> {
        self.system_id = None;
        self.highest = 0;
        self.incumbent = None;
        self.conclude(now)
    }

    /// This host is about to hand over, says the sign. It counts until the host has done so, is no longer the primary
    /// for another reason, or this time is out.
    pub fn announce(&mut self, host: HostId, sign: Sign, now: Moment, longest: Duration) -> Vec<Change> {
        if self.leaving.is_none_or(|known| known.host != host) {
            self.leaving = Some(Announcement { host, sign, since: now, until: now.plus(longest) });
        }
        self.conclude(now)
    }

    /// Who has announced that takes it back.
    pub fn take_back(&mut self, sign: Sign, now: Moment) -> Vec<Change> {
        self.leaving = self.leaving.filter(|known| known.sign != sign);
        self.conclude(now)
    }

    /// Takes one observation in. One that is older than what is known of its host is ignored.
    pub fn observe(&mut self, seen: &Observation) -> Vec<Change> {
        let (rules, is_deserted) = (self.rules, self.is_deserted());
        let Some(record) = self.hosts.get_mut(usize::from(seen.host.0)) else { return Vec::new() };
        if record.is_removed() || record.asked.is_some_and(|last| last >= seen.asked) {
            return Vec::new();
        }
        record.asked = Some(seen.asked);
        let mut changes = Vec::new();
        match seen.outcome {
            Outcome::Answered(answer) => {
                record.failures = 0;
                record.mutes = 0;
                record.successes = record.successes.saturating_add(1);
                let before = record.answer.map(|answer| role(&answer));
                if before != Some(role(&answer)) {
                    changes.push(Change::Role(seen.host, role(&answer)));
                }
                if answer.standby && record.answer.is_some_and(|before| before.timeline != answer.timeline) {
                    changes.push(Change::Follows(seen.host, answer.timeline));
                }
                record.answer = Some(answer);
                let is_trusted = record.successes >= rules.successes || is_deserted;
                if !matches!(record.life, Life::Down(_)) || is_trusted {
                    record.life = Life::Up;
                }
            }
            Outcome::Mute => {
                // It lives, and what it said before may still be so; but not for ever.
                record.mutes = record.mutes.saturating_add(1);
                if record.life != Life::Up || record.mutes >= rules.failures {
                    record.life = Life::Mute;
                }
            }
            Outcome::Failed(reason) => {
                record.successes = 0;
                record.failures = record.failures.saturating_add(1);
                let already = matches!(record.life, Life::Down(_));
                record.life = if already || record.failures >= rules.failures {
                    Life::Down(reason)
                } else {
                    Life::Suspect(reason)
                };
            }
        }
        changes.append(&mut self.conclude(seen.heard));
        changes
    }

    /// The primary.
    #[must_use]
    pub const fn primary(&self) -> PrimaryView {
        self.primary
    }

    /// The host that holds the highest timeline, whether it takes writes yet or not.
    #[must_use]
    pub fn incumbent(&self) -> Option<HostId> {
        self.incumbent.map(|incumbent| incumbent.host)
    }

    /// State of a host, and since when.
    #[must_use]
    pub fn state(&self, host: HostId) -> (HostState, Moment) {
        self.record(host).map_or((HostState::Unknown, Moment::NEVER), |record| (record.state, record.since))
    }

    /// What a host last said of itself.
    #[must_use]
    pub fn answer(&self, host: HostId) -> Option<Answer> {
        self.record(host).and_then(|record| record.answer)
    }

    /// The host that stands for this one, if both lead to the same server.
    #[must_use]
    pub fn same_as(&self, host: HostId) -> Option<HostId> {
        self.record(host).and_then(|record| record.same_as)
    }

    /// What a host is by its own word.
    #[must_use]
    pub fn role(&self, host: HostId) -> Role {
        self.answer(host).as_ref().map_or(Role::Unknown, role)
    }

    /// How many hosts there are and were.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Highest timeline that was ever seen in the cluster; 0: none yet.
    #[must_use]
    pub const fn highest(&self) -> u32 {
        self.highest
    }

    /// Nothing is wrong and nothing is going on, so that there is no hurry to ask again. A host that has been down for
    /// longer than `patience` is an old story.
    #[must_use]
    pub fn is_calm(&self, now: Moment, patience: Duration) -> bool {
        let settled = |record: &Record| match record.life {
            Life::Unasked | Life::Suspect(_) => false,
            Life::Up | Life::Mute => true,
            Life::Down(_) => record.is_removed() || now.since(record.since) > patience,
        };
        matches!(self.primary, PrimaryView::Known { .. }) && self.hosts.iter().all(settled)
    }

    /// Every host is down: the first one that answers is better than none, however short its answer.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        self.hosts.iter().all(|record| record.is_removed() || matches!(record.life, Life::Down(_)))
    }

    /// A host that has been down for so long that there is no hurry to ask it again.
    #[must_use]
    pub fn is_long_down(&self, host: HostId, now: Moment, patience: Duration) -> bool {
        self.record(host).is_some_and(|record| {
            matches!(record.life, Life::Down(_) | Life::Mute) && now.since(record.since) > patience
        })
    }

    fn record(&self, host: HostId) -> Option<&Record> {
        self.hosts.get(usize::from(host.0))
    }

    /// All hosts with their numbers.
    fn numbered(&self) -> impl Iterator<Item = (HostId, &Record)> {
        (0..).map(HostId).zip(&self.hosts)
    }

    /// Draws the conclusions from everything that is known.
    fn conclude(&mut self, now: Moment) -> Vec<Change> {
        let mut changes = Vec::new();
        self.identify(&mut changes);
        self.raise_timeline();
        let winner = self.winner();
        if let Some((host, answer)) = winner {
            let incumbent = Incumbent { host, timeline: answer.timeline };
            if self.incumbent != Some(incumbent) {
                self.leaving = None;
            }
            self.incumbent = Some(incumbent);
        }
        self.settle_states(winner.map(|(host, _)| host), now, &mut changes);
        let primary = self.judge_primary(winner, now);
        if primary != self.primary {
            self.primary = primary;
            changes.push(Change::Primary(primary));
        }
        changes
    }

    /// The first primary that is believed says which cluster this is. Without one, or if several disagree, nobody knows.
    fn identify(&mut self, changes: &mut Vec<Change>) {
        if self.system_id.is_some() || !self.everybody_was_asked() {
            return;
        }
        let words = self.hosts.iter().filter_map(Record::word).filter(|word| !word.standby);
        let mut claimed = words.map(|word| word.system_id);
        let agreed = claimed.next().filter(|first| claimed.all(|other| other == *first));
        if let Some(system_id) = agreed {
            self.system_id = Some(system_id);
            changes.push(Change::Identified(system_id));
        }
    }

    /// Before the first primary is believed every host has had its chance: the one that answers first may be one that
    /// was left behind.
    fn everybody_was_asked(&self) -> bool {
        self.hosts.iter().all(|record| record.life != Life::Unasked)
    }

    fn is_ours(&self, answer: &Answer) -> bool {
        self.system_id == Some(answer.system_id)
    }

    /// A timeline counts whoever shows it: a host that is not up yet, and a standby that follows it, too.
    fn raise_timeline(&mut self) {
        let seen = self.hosts.iter().filter_map(|record| record.answer).filter(|answer| self.is_ours(answer));
        self.highest = seen.map(|answer| answer.timeline).fold(self.highest, u32::max);
    }

    /// Hosts that say that they are the primary on the highest timeline.
    fn claimants(&self) -> impl Iterator<Item = (HostId, Life, Answer)> {
        self.numbered().filter_map(|(host, record)| {
            let word = record.word()?;
            let claims = !word.standby && self.is_ours(&word) && word.timeline == self.highest;
            claims.then_some((host, record.life, word))
        })
    }

    /// The one that is believed.
    fn winner(&self) -> Option<(HostId, Answer)> {
        if let Some(incumbent) = self.incumbent
            && let Some((host, _, word)) = self.claimants().find(|(host, ..)| *host == incumbent.host)
            && incumbent.timeline == word.timeline
        {
            return Some((host, word));
        }
        let mut claimants = self.claimants();
        let (first, life, word) = claimants.next()?;
        let alone = claimants.all(|(_, _, other)| other.instance == word.instance);
        (alone && life == Life::Up && self.everybody_was_asked()).then_some((first, word))
    }

    fn settle_states(&mut self, winner: Option<HostId>, now: Moment, changes: &mut Vec<Change>) {
        let winner_instance = winner.and_then(|winner| self.answer(winner)).map(|answer| answer.instance);
        let settled: Vec<(HostState, Option<HostId>)> = self
            .numbered()
            .map(|(host, record)| {
                let twin = self.twin(host, record);
                (self.state_of(host, record, winner, winner_instance), twin)
            })
            .collect();
        for ((host, (state, twin)), record) in (0..).map(HostId).zip(settled).zip(&mut self.hosts) {
            record.same_as = twin;
            if record.state != state {
                record.state = state;
                record.since = now;
                changes.push(Change::State(host, state));
            }
        }
    }

    fn state_of(
        &self,
        host: HostId,
        record: &Record,
        winner: Option<HostId>,
        winner_instance: Option<u64>,
    ) -> HostState {
        if let Life::Down(reason) = record.life {
            return HostState::Down(reason);
        }
        if let Some(word) = record.word() {
            if self.system_id.is_some() && !self.is_ours(&word) {
                return HostState::Foreign;
            }
            if let Some(reason) = self.fence(host, &word, winner, winner_instance) {
                return HostState::Fenced(reason);
            }
        }
        match record.life {
            Life::Up => HostState::Up,
            Life::Suspect(_) => HostState::Suspect,
            Life::Unasked | Life::Mute | Life::Down(_) => HostState::Unknown,
        }
    }

    fn fence(
        &self,
        host: HostId,
        word: &Answer,
        winner: Option<HostId>,
        winner_instance: Option<u64>,
    ) -> Option<FenceReason> {
        if word.standby || winner == Some(host) || winner_instance == Some(word.instance) {
            return None;
        }
        if word.timeline < self.highest {
            return Some(FenceReason::LowerTimeline { has: word.timeline, highest: self.highest });
        }
        match winner {
            Some(primary) => Some(FenceReason::Rival { primary }),
            None => {
                let mut others = self.claimants().filter(|(other, ..)| *other != host);
                let rivalled = others.any(|(_, _, other)| other.instance != word.instance)
                    || (self.system_id.is_none() && self.everybody_was_asked());
                rivalled.then_some(FenceReason::Rivals)
            }
        }
    }

    /// The host with the lowest number that leads to the same server, other than this one.
    fn twin(&self, host: HostId, record: &Record) -> Option<HostId> {
        let word = record.word()?;
        let same = |other: &Answer| (other.system_id, other.instance) == (word.system_id, word.instance);
        let mut twins = self.numbered().filter(|(_, record)| record.word().as_ref().is_some_and(same));
        let (first, _) = twins.next()?;
        (first != host).then_some(first)
    }

    fn judge_primary(&mut self, winner: Option<(HostId, Answer)>, now: Moment) -> PrimaryView {
        self.leaving = self.leaving.filter(|known| now <= known.until);
        let Some((host, answer)) = winner else {
            self.leaving = None;
            return match self.why_lost() {
                Some(why) => self.lost(why, now),
                None => PrimaryView::NeverSeen,
            };
        };
        if answer.read_only {
            return self.lost(LostReason::ReadOnly(host), now);
        }
        let timeline = answer.timeline;
        match (self.leaving, self.primary) {
            (Some(Announcement { host: leaver, sign, since, .. }), _) if leaver == host => {
                PrimaryView::Leaving { host, timeline, since, sign }
            }
            (_, PrimaryView::Known { host: known, timeline: on, since })
                if (known, on) == (host, timeline) =>
            {
                PrimaryView::Known { host, timeline, since }
            }
            _ => PrimaryView::Known { host, timeline, since: now },
        }
    }

    /// It stays lost since when it was lost, whatever reasons follow.
    const fn lost(&self, why: LostReason, now: Moment) -> PrimaryView {
        match self.primary {
            PrimaryView::Lost { since, .. } => PrimaryView::Lost { since, why },
            _ => PrimaryView::Lost { since: now, why },
        }
    }

    fn why_lost(&self) -> Option<LostReason> {
        let claims = |(_, record): &(HostId, &Record)| record.word().is_some_and(|word| !word.standby);
        let rivals = self.hosts.iter().any(|record| record.state == HostState::Fenced(FenceReason::Rivals));
        if rivals {
            return Some(LostReason::Rivals);
        }
        if let Some(incumbent) = self.incumbent
            && let Some(record) = self.record(incumbent.host)
        {
            let host = incumbent.host;
            return Some(match (record.life, record.answer) {
                (Life::Down(reason), _) => LostReason::Down(host, reason),
                (_, Some(answer)) if !self.is_ours(&answer) => LostReason::Foreign(host),
                (_, Some(answer)) if answer.standby => LostReason::Demoted(host),
                _ => LostReason::Superseded { timeline: self.highest },
            });
        }
        let settled = self.hosts.iter().all(|record| matches!(record.life, Life::Up | Life::Down(_)));
        let answered = self.hosts.iter().any(|record| record.life == Life::Up);
        if self.numbered().any(|known| claims(&known)) && self.highest > 0 {
            return self
                .hosts
                .iter()
                .any(|record| matches!(record.state, HostState::Fenced(_)))
                .then_some(LostReason::Superseded { timeline: self.highest });
        }
        (settled && answered).then_some(LostReason::NobodyClaims)
    }
}

const fn role(answer: &Answer) -> Role {
    if answer.standby { Role::Standby } else { Role::Primary }
}

/// The phase of a failover that a change is, if it is one. `before` is the primary before it.
#[must_use]
pub fn phase(change: &Change, before: PrimaryView, judge: &Judge) -> Option<Phase> {
    let was_primary = |host: HostId| match before {
        PrimaryView::Known { host: known, .. } | PrimaryView::Leaving { host: known, .. } => known == host,
        PrimaryView::Lost { .. } | PrimaryView::NeverSeen => judge.incumbent() == Some(host),
    };
    match *change {
        Change::State(host, HostState::Suspect) if was_primary(host) => Some(Phase::Suspect(host)),
        Change::State(host, HostState::Down(reason)) if was_primary(host) => Some(Phase::Down(host, reason)),
        Change::Primary(PrimaryView::Leaving { host, .. }) => Some(Phase::Announced(host)),
        Change::Primary(PrimaryView::Lost { why: LostReason::ReadOnly(host), .. })
            if matches!(before, PrimaryView::Lost { .. }) =>
        {
            Some(Phase::Candidate(host, judge.highest()))
        }
        // Who has had no primary yet has lost none.
        Change::Primary(PrimaryView::Lost { why, .. })
            if matches!(before, PrimaryView::Known { .. } | PrimaryView::Leaving { .. }) =>
        {
            Some(Phase::PrimaryLost(why))
        }
        Change::Primary(PrimaryView::Known { host, timeline, .. }) => match before {
            PrimaryView::NeverSeen => None,
            PrimaryView::Known { host: same, timeline: on, .. }
            | PrimaryView::Leaving { host: same, timeline: on, .. }
                if (same, on) == (host, timeline) =>
            {
                None
            }
            _ => Some(Phase::Promoted(host, timeline)),
        },
        _ => None,
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "simulation_tests.rs"]
mod simulation;
