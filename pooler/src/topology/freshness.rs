//! Which writes a standby is proven to have, without a statement per write. Pure.
//!
//! A reading is a position in the log of the primary and a moment before it was asked for. Every write that was
//! acknowledged before that moment lies before that position. So a standby that has replayed up to the position shows
//! all of them: the moment is proven for it.

use super::lsn::Lsn;
use super::moment::Moment;
use crate::ids::HostId;
use std::collections::VecDeque;
use std::time::Duration;

/// Newest readings, all of them. While somebody waits they come every few milliseconds.
const KEPT: usize = 128;

/// Older readings, for standbys that lag: some minutes.
const KEPT_OLD: usize = 1024;

/// What lags by minutes need not be proven to the millisecond.
const APART: Duration = Duration::from_millis(100);

/// What the primary has not written out after so long it will not send to standbys soon: nobody waits for the commit that it
/// belongs to (`synchronous_commit = off`, or nothing but a NOTIFY). Who did would have to wait for `wal_writer_delay`.
const PATIENCE: Duration = Duration::from_millis(10);

/// What the primary has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    moment: Moment,
    position: Lsn,
}

/// What a standby has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    /// Every write that was acknowledged before this moment can be seen there.
    pub proven: Moment,
    /// It has replayed the primary's log up to here.
    pub replayed: Lsn,
    /// That was on this timeline.
    pub timeline: u32,
    /// The start of its server that this is about.
    instance: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Freshness {
    /// Who the readings are from.
    source: Option<(HostId, u32)>,
    readings: VecDeque<Reading>,
    older: VecDeque<Reading>,
    /// The primary's log is written out up to here.
    flushed: Lsn,
    proofs: Vec<Proof>,
}

impl Freshness {
    /// This host is the primary, on this timeline. Readings of another one do not fit the log of this one.
    pub fn follow(&mut self, primary: HostId, timeline: u32) {
        if self.source != Some((primary, timeline)) {
            self.source = Some((primary, timeline));
            self.start_over();
        }
    }

    fn start_over(&mut self) {
        self.readings.clear();
        self.older.clear();
    }

    /// The primary was asked at `asked`; its last record ended at `position`, and it was written out up to `flushed`.
    pub fn read(&mut self, primary: HostId, timeline: u32, asked: Moment, position: Lsn, flushed: Lsn) {
        if self.source != Some((primary, timeline)) {
            return;
        }
        if let Some(last) = self.readings.back() {
            if asked <= last.moment {
                return;
            }
            // Positions never go back while one primary lives. If one does all the same, its word is worth nothing.
            if position < last.position {
                self.start_over();
            }
        }
        let len = self.readings.len();
        if len >= 2 && self.readings.range(len - 2..).all(|reading| reading.position == position) {
            // Who has this position proves the later moment just as well.
            self.readings.pop_back();
        }
        if self.readings.len() >= KEPT
            && let Some(reading) = self.readings.pop_front()
        {
            self.grow_old(reading);
        }
        self.readings.push_back(Reading { moment: asked, position });
        self.flushed = flushed;
    }

    /// Whether what stands for writes after `moment` lies behind what the primary has written out.
    #[must_use]
    pub fn is_unsent(&self, moment: Moment) -> bool {
        let later = self.readings.iter().find(|reading| reading.moment > moment);
        later.is_some_and(|reading| reading.position > self.flushed)
    }

    /// The moment from which on writes cannot be proven on any standby until the primary writes out what they are known by.
    /// `None` where it keeps nothing back, or has not for long.
    #[must_use]
    pub fn withheld(&self) -> Option<Moment> {
        let sent = self.readings.iter().rposition(|reading| reading.position <= self.flushed);
        let unsent = self.readings.get(sent.map_or(0, |at| at + 1))?;
        let is_stuck = self.newest().since(unsent.moment) >= PATIENCE;
        is_stuck.then(|| sent.and_then(|at| self.readings.get(at)).map_or(Moment::NEVER, |last| last.moment))
    }

    fn grow_old(&mut self, reading: Reading) {
        if self.older.back().is_some_and(|last| reading.moment.since(last.moment) < APART) {
            return;
        }
        if self.older.len() >= KEPT_OLD {
            self.older.pop_front();
        }
        self.older.push_back(reading);
    }

    /// A standby on `timeline` has replayed up to `replayed`. Tells what is proven for it now.
    ///
    /// One that is not known to be on the primary's timeline proves nothing new: it may have replayed what only the
    /// old primary had. What was proven before holds, for as long as its server runs.
    pub fn replay(&mut self, host: HostId, instance: u64, timeline: u32, replayed: Lsn) -> Proof {
        let follows = self.source.is_some_and(|(_, on)| on == timeline);
        let mut newest_first = self.readings.iter().rev().chain(self.older.iter().rev());
        let reached = newest_first.find(|reading| reading.position <= replayed);
        let moment = reached.filter(|_| follows).map_or(Moment::NEVER, |reading| reading.moment);
        let proof = self.proof_mut(host);
        if proof.instance != instance {
            *proof = Proof { instance, ..Proof::default() };
        }
        proof.proven = proof.proven.max(moment);
        if follows {
            // A standby that was set back shows less than before.
            if replayed < proof.replayed {
                proof.proven = moment;
            }
            (proof.replayed, proof.timeline) = (replayed, timeline);
        }
        *proof
    }

    /// Nothing is proven for this host any more: it was away, and may come back as it was long ago.
    pub fn forget(&mut self, host: HostId) {
        *self.proof_mut(host) = Proof::default();
    }

    /// What is proven for a host.
    #[must_use]
    pub fn proof(&self, host: HostId) -> Proof {
        self.proofs.get(usize::from(host.0)).copied().unwrap_or_default()
    }

    /// Moment of the newest reading.
    #[must_use]
    pub fn newest(&self) -> Moment {
        self.readings.back().map_or(Moment::NEVER, |reading| reading.moment)
    }

    /// Bytes that a standby lacks of the newest reading.
    #[must_use]
    pub fn lag(&self, replayed: Lsn) -> u64 {
        self.readings.back().map_or(0, |reading| reading.position.ahead_of(replayed))
    }

    fn proof_mut(&mut self, host: HostId) -> &mut Proof {
        let place = usize::from(host.0);
        if self.proofs.len() <= place {
            self.proofs.resize(place + 1, Proof::default());
        }
        &mut self.proofs[place]
    }
}

#[cfg(test)]
#[path = "freshness_tests.rs"]
mod tests;
