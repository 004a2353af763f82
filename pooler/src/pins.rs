//! Why a session keeps its server connection beyond the transaction, and since when. Pure.

use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// One reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PinReason {
    /// The server could not be asked what a statement left behind.
    Unverified,
    /// LISTEN.
    Listen,
    /// PREPARE in SQL that was not seen in a text.
    SqlPrepared,
    /// The session may have looked for its statements, and they have its own names there. All can be made elsewhere.
    OwnNames,
    /// LOAD.
    LibraryLoad,
    /// A temporary table, view, sequence, type or function.
    TemporaryObject,
    /// A cursor WITH HOLD.
    HoldableCursor,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// The session reads what its own `nextval` yielded.
    SequenceValue,
    /// `setseed`.
    RandomSeed,
    /// Something that no reset removes: a connection of dblink, a replication origin, a backup, a temporary replication slot.
    Indelible,
    /// `SET hawser.pin = on`.
    Requested,
}

/// How many reasons there are.
pub const REASONS: usize = PinReason::ALL.len();

impl PinReason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Unverified,
        Self::Listen,
        Self::SqlPrepared,
        Self::OwnNames,
        Self::LibraryLoad,
        Self::TemporaryObject,
        Self::HoldableCursor,
        Self::AdvisoryLock,
        Self::SequenceValue,
        Self::RandomSeed,
        Self::Indelible,
        Self::Requested,
    ];

    /// As operators read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Listen => "listen",
            Self::SqlPrepared => "prepared_sql",
            Self::OwnNames => "own_names",
            Self::LibraryLoad => "library_load",
            Self::TemporaryObject => "temporary_object",
            Self::HoldableCursor => "holdable_cursor",
            Self::AdvisoryLock => "advisory_lock",
            Self::SequenceValue => "sequence_value",
            Self::RandomSeed => "random_seed",
            Self::Indelible => "indelible",
            Self::Requested => "requested",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Reasons of which the server knows whether they hold.
const ASKED: u32 = PinReason::Unverified.bit()
    | PinReason::SqlPrepared.bit()
    | PinReason::OwnNames.bit()
    | PinReason::TemporaryObject.bit()
    | PinReason::HoldableCursor.bit()
    | PinReason::AdvisoryLock.bit();

/// Reasons that a ROLLBACK does not undo.
const LASTING: u32 = PinReason::Unverified.bit()
    | PinReason::SqlPrepared.bit()
    | PinReason::OwnNames.bit()
    | PinReason::LibraryLoad.bit()
    | PinReason::AdvisoryLock.bit()
    | PinReason::SequenceValue.bit()
    | PinReason::RandomSeed.bit()
    | PinReason::Indelible.bit();

/// A set of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PinReasons(u32);

impl PinReasons {
    /// No reason.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One reason more.
    pub const fn add(&mut self, reason: PinReason) {
        self.0 |= reason.bit();
    }

    /// One reason less.
    pub const fn remove(&mut self, reason: PinReason) {
        self.0 &= !reason.bit();
    }

    /// Whether this is one of the reasons.
    #[must_use]
    pub const fn has(self, reason: PinReason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// Whether this is the one reason.
    #[must_use]
    pub const fn is_only(self, reason: PinReason) -> bool {
        self.0 == reason.bit()
    }

    /// Each reason.
    pub fn iter(self) -> impl Iterator<Item = PinReason> {
        PinReason::ALL.into_iter().filter(move |reason| self.has(*reason))
    }

    /// Those of which the server knows whether they hold.
    #[must_use]
    pub const fn that_can_be_asked(self) -> Self {
        Self(self.0 & ASKED)
    }

    /// What is left after the server has said that of those it knows `found` hold.
    #[must_use]
    pub const fn with_answer(self, found: Self) -> Self {
        Self(self.0 & !ASKED | found.0)
    }

    /// What is left after DISCARD ALL.
    #[must_use]
    pub const fn after_discard(self) -> Self {
        Self(self.0 & PinReason::Indelible.bit())
    }

    /// What is left after a rollback to `committed`.
    #[must_use]
    pub const fn after_rollback(self, committed: Self) -> Self {
        Self(committed.0 | self.0 & LASTING)
    }
}

impl fmt::Debug for PinReasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(PinReason::word)).finish()
    }
}

/// Since when each reason holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pinned {
    since: [Option<Instant>; REASONS],
}

impl Pinned {
    /// Takes note of the reasons that hold at `now`. `over` is told each that has ended, and how long it held.
    pub fn update(&mut self, reasons: PinReasons, now: Instant, mut over: impl FnMut(PinReason, Duration)) {
        for (reason, since) in PinReason::ALL.into_iter().zip(&mut self.since) {
            match (reasons.has(reason), *since) {
                (true, None) => *since = Some(now),
                (false, Some(began)) => {
                    *since = None;
                    over(reason, now.duration_since(began));
                }
                _ => {}
            }
        }
    }

    /// Each reason that holds, and since when.
    pub fn iter(&self) -> impl Iterator<Item = (PinReason, Instant)> {
        PinReason::ALL.into_iter().zip(self.since).filter_map(|(reason, since)| Some((reason, since?)))
    }
}

/// So often it keeps its server connection behind a `nextval` whoever waits, for the question that may follow. It is
/// told "not yet defined" where it asks for the first time later than that, others waited, and one of them has advanced a
/// sequence on that connection meanwhile.
const TRUSTED: u8 = 20;

/// What a session has to do with the values that sequences yield to it, as far as that goes along when it moves to another
/// worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnValues {
    /// Where it last advanced a sequence: the process number of the server.
    pub home: Option<NonZeroU32>,
    /// It has asked what its own `nextval` yielded.
    pub asked: bool,
    /// How often it has kept its server connection lest it should ask.
    kept: u8,
}

impl OwnValues {
    /// It has called `nextval` outside a transaction, and keeps its server connection for a moment.
    pub const fn keep(&mut self) {
        self.kept = self.kept.saturating_add(1);
    }

    /// Whether it most likely asks for what it has just got: it has asked before, or had few occasions so far.
    #[must_use]
    pub const fn may_ask(&self) -> bool {
        self.asked || self.kept <= TRUSTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_come_and_go() {
        let mut reasons = PinReasons::default();
        reasons.add(PinReason::Listen);
        reasons.add(PinReason::SqlPrepared);
        reasons.remove(PinReason::Listen);
        assert_eq!(reasons.iter().collect::<Vec<_>>(), [PinReason::SqlPrepared]);
        reasons.remove(PinReason::SqlPrepared);
        assert!(reasons.is_empty());
    }

    #[test]
    fn the_servers_answer_ends_what_it_knows_of_and_nothing_else() {
        let mut reasons = PinReasons::default();
        reasons.add(PinReason::TemporaryObject);
        reasons.add(PinReason::LibraryLoad);
        let mut found = PinReasons::default();
        found.add(PinReason::AdvisoryLock);
        let left = reasons.with_answer(found);
        assert_eq!(left.iter().collect::<Vec<_>>(), [PinReason::LibraryLoad, PinReason::AdvisoryLock]);
        assert_eq!(
            reasons.after_rollback(PinReasons::default()).iter().collect::<Vec<_>>(),
            [PinReason::LibraryLoad]
        );
    }

    #[test]
    fn each_reason_is_counted_from_its_own_beginning() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut pinned, mut reasons, mut ended) = (Pinned::default(), PinReasons::default(), Vec::new());
        reasons.add(PinReason::Listen);
        pinned.update(reasons, at(1), |_, _| {});
        reasons.add(PinReason::RandomSeed);
        pinned.update(reasons, at(3), |_, _| {});
        assert_eq!(
            pinned.iter().collect::<Vec<_>>(),
            [(PinReason::Listen, at(1)), (PinReason::RandomSeed, at(3))]
        );
        reasons.remove(PinReason::Listen);
        pinned.update(reasons, at(6), |reason, time| ended.push((reason, time)));
        assert_eq!(ended, [(PinReason::Listen, Duration::from_secs(5))]);
    }

    #[test]
    fn who_never_asks_is_not_waited_for() {
        let mut values = OwnValues::default();
        for _ in 0..TRUSTED {
            values.keep();
            assert!(values.may_ask());
        }
        for _ in 0..300 {
            values.keep();
            assert!(!values.may_ask());
        }
        values.asked = true;
        assert!(values.may_ask());
    }
}
