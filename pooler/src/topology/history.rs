//! Failovers, phase by phase, for the operator. Pure.

use super::moment::Moment;
use super::snapshot::{DownReason, LostReason};
use crate::ids::HostId;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

/// Failovers that are remembered.
const REMEMBERED: usize = 32;

/// Phases of one failover that are remembered. A host that comes and goes makes many.
const REMEMBERED_PHASES: usize = 64;

/// One stretch without a primary, from the first sign to the first write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// When it began, by the wall clock.
    pub began: SystemTime,
    /// The primary before.
    pub from: Option<HostId>,
    /// The primary after.
    pub to: Option<HostId>,
    /// What happened, in order; the first one is where it began.
    pub phases: Vec<(Moment, Phase)>,
}

/// What happens in a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The primary failed to answer once, or data connections had trouble.
    Suspect(HostId),
    /// A planned switchover was announced.
    Announced(HostId),
    /// The host is down.
    Down(HostId, DownReason),
    /// There is no primary: new work is held from here on.
    PrimaryLost(LostReason),
    /// This host left recovery, on this timeline.
    Candidate(HostId, u32),
    /// It takes writes: new work is let go from here on.
    Promoted(HostId, u32),
    /// The first write was acknowledged.
    FirstWrite,
}

impl Phase {
    /// The phase in one word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Suspect(_) => "suspect",
            Self::Announced(_) => "announced",
            Self::Down(..) => "down",
            Self::PrimaryLost(_) => "primary lost",
            Self::Candidate(..) => "candidate",
            Self::Promoted(..) => "promoted",
            Self::FirstWrite => "first write",
        }
    }
}

impl Failover {
    /// When a phase was reached, counted from the beginning.
    #[must_use]
    pub fn reached(&self, name: &str) -> Option<Duration> {
        let (start, _) = self.phases.first()?;
        self.phases.iter().find(|(_, phase)| phase.name() == name).map(|(at, _)| at.since(*start))
    }

    /// It is over: there is a primary again.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.to.is_some()
    }

    /// The phases with their times, for a log: `suspect 0 ms, down 51 ms, …`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let start = self.phases.first().map_or(Moment::NEVER, |(at, _)| *at);
        let words = self
            .phases
            .iter()
            .map(|(at, phase)| format!("{} {} ms", phase.name(), at.since(start).as_millis()));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// The last failovers of a cluster.
#[derive(Debug, Clone, Default)]
pub struct History {
    failovers: VecDeque<Failover>,
    /// Signs that have not come to anything yet.
    signs: Vec<(Moment, Phase)>,
}

impl History {
    /// Notes what has happened; tells the failover if this was its end.
    pub fn note(&mut self, at: Moment, phase: Phase, wall: SystemTime) -> Option<&Failover> {
        let open = self.failovers.back_mut().filter(|last| !last.is_over());
        match (phase, open) {
            (Phase::Promoted(host, _), Some(open)) => {
                open.phases.push((at, phase));
                open.to = Some(host);
                self.signs.clear();
                self.failovers.back()
            }
            (_, Some(open)) => {
                if open.phases.len() < REMEMBERED_PHASES {
                    open.phases.push((at, phase));
                }
                None
            }
            (Phase::PrimaryLost(why), None) => {
                let mut phases = std::mem::take(&mut self.signs);
                phases.push((at, phase));
                let since = phases.first().map_or(Duration::ZERO, |(first, _)| at.since(*first));
                let began = wall.checked_sub(since).unwrap_or(wall);
                let from = match why {
                    LostReason::Down(host, _) | LostReason::Demoted(host) | LostReason::Foreign(host) => {
                        Some(host)
                    }
                    LostReason::ReadOnly(_)
                    | LostReason::Superseded { .. }
                    | LostReason::Rivals
                    | LostReason::NobodyClaims => None,
                };
                self.open(Failover { began, from, to: None, phases });
                None
            }
            // A promotion that was seen before the primary was missed.
            (Phase::Promoted(host, _), None) => {
                let mut phases = std::mem::take(&mut self.signs);
                let from = phases.iter().find_map(|(_, sign)| match sign {
                    Phase::Suspect(host) | Phase::Announced(host) | Phase::Down(host, _) => Some(*host),
                    _ => None,
                });
                phases.push((at, phase));
                let since = phases.first().map_or(Duration::ZERO, |(first, _)| at.since(*first));
                let began = wall.checked_sub(since).unwrap_or(wall);
                self.open(Failover { began, from, to: Some(host), phases });
                self.failovers.back()
            }
            (Phase::FirstWrite, None) => {
                let last = self.failovers.back_mut()?;
                let known = last.phases.iter().any(|(_, phase)| *phase == Phase::FirstWrite);
                if known {
                    return None;
                }
                last.phases.push((at, phase));
                self.failovers.back()
            }
            (_, None) => {
                if self.signs.len() < REMEMBERED_PHASES {
                    self.signs.push((at, phase));
                }
                None
            }
        }
    }

    /// A failover is under way.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.failovers.back().is_some_and(|last| !last.is_over())
    }

    /// The primary answers after all: what was noted was no sign of a failover.
    pub fn all_is_well(&mut self) {
        self.signs.clear();
    }

    fn open(&mut self, failover: Failover) {
        if self.failovers.len() >= REMEMBERED {
            self.failovers.pop_front();
        }
        self.failovers.push_back(failover);
    }

    /// The failovers, oldest first.
    #[must_use]
    pub fn failovers(&self) -> Vec<Failover> {
        self.failovers.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(milliseconds: u64) -> Moment {
        Moment(milliseconds * 1_000_000)
    }

    #[test]
    fn a_crash_is_told_phase_by_phase() {
        let mut history = History::default();
        let (old, new) = (HostId(0), HostId(1));
        let phases = [
            (100, Phase::Suspect(old)),
            (150, Phase::Down(old, DownReason::Unreachable)),
            (150, Phase::PrimaryLost(LostReason::Down(old, DownReason::Unreachable))),
            (900, Phase::Candidate(new, 2)),
        ];
        for (time, phase) in phases {
            assert_eq!(history.note(at(time), phase, WALL), None);
        }
        let told = history.note(at(930), Phase::Promoted(new, 2), WALL).unwrap();
        assert_eq!(
            told.in_words(),
            "suspect 0 ms, down 50 ms, primary lost 50 ms, candidate 800 ms, promoted 830 ms"
        );
        assert_eq!((told.from, told.to), (Some(old), Some(new)));
        assert!(history.note(at(940), Phase::FirstWrite, WALL).is_some());
        assert_eq!(history.note(at(950), Phase::FirstWrite, WALL), None);
        assert_eq!(history.failovers()[0].reached("first write"), Some(Duration::from_millis(840)));
    }

    #[test]
    fn a_sign_that_comes_to_nothing_is_forgotten() {
        let mut history = History::default();
        history.note(at(1), Phase::Suspect(HostId(0)), WALL);
        history.all_is_well();
        history.note(at(5000), Phase::Down(HostId(0), DownReason::Lost), WALL);
        history.note(at(5000), Phase::PrimaryLost(LostReason::Down(HostId(0), DownReason::Lost)), WALL);
        assert_eq!(history.failovers()[0].phases.len(), 2);
    }

    #[test]
    fn only_the_last_failovers_are_remembered() {
        let mut history = History::default();
        for round in 0..100 {
            history.note(at(round * 10), Phase::PrimaryLost(LostReason::Rivals), WALL);
            history.note(at(round * 10 + 1), Phase::Promoted(HostId(0), 1), WALL);
        }
        assert_eq!(history.failovers().len(), REMEMBERED);
    }
}
