//! Why a session keeps its server connection beyond the transaction. Pure.

use std::fmt;

/// One reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PinReason {
    /// A setting was made that is not tracked.
    Setting,
    /// LISTEN.
    Listen,
    /// PREPARE in SQL.
    SqlPrepared,
    /// LOAD.
    LibraryLoad,
    /// A temporary table, view or sequence.
    TemporaryObject,
    /// A cursor WITH HOLD.
    HoldableCursor,
    /// A session-level advisory lock.
    AdvisoryLock,
}

impl PinReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Setting,
        Self::Listen,
        Self::SqlPrepared,
        Self::LibraryLoad,
        Self::TemporaryObject,
        Self::HoldableCursor,
        Self::AdvisoryLock,
    ];

    /// As operators read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Listen => "listen",
            Self::SqlPrepared => "prepared_sql",
            Self::LibraryLoad => "library_load",
            Self::TemporaryObject => "temporary_object",
            Self::HoldableCursor => "holdable_cursor",
            Self::AdvisoryLock => "advisory_lock",
        }
    }
}

/// A set of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PinReasons(u32);

impl PinReasons {
    /// No reason.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One reason more.
    pub const fn add(&mut self, reason: PinReason) {
        self.0 |= 1 << reason as u32;
    }

    /// One reason less.
    pub const fn remove(&mut self, reason: PinReason) {
        self.0 &= !(1 << reason as u32);
    }

    /// Whether this is one of the reasons.
    #[must_use]
    pub const fn has(self, reason: PinReason) -> bool {
        self.0 & (1 << reason as u32) != 0
    }

    /// Each reason.
    pub fn iter(self) -> impl Iterator<Item = PinReason> {
        PinReason::ALL.into_iter().filter(move |reason| self.0 & (1 << *reason as u32) != 0)
    }
}

impl fmt::Debug for PinReasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(PinReason::word)).finish()
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
}
