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
}

impl PinReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Setting, Self::Listen, Self::SqlPrepared, Self::LibraryLoad];

    /// As operators read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Listen => "listen",
            Self::SqlPrepared => "prepared_sql",
            Self::LibraryLoad => "library_load",
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

/// What a command did to the session, told by its CommandComplete tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandEffect {
    /// Nothing that outlives its transaction, as far as the tag tells.
    None,
    /// The session must keep its server connection.
    Pins(PinReason),
    /// DISCARD ALL.
    DiscardsAll,
    /// DEALLOCATE ALL.
    DeallocatesAll,
}

impl CommandEffect {
    /// The effect of the command with this tag.
    #[must_use]
    #[inline]
    pub fn of(tag: &[u8]) -> Self {
        match tag {
            b"SET" => Self::Pins(PinReason::Setting),
            b"LISTEN" => Self::Pins(PinReason::Listen),
            b"PREPARE" => Self::Pins(PinReason::SqlPrepared),
            b"LOAD" => Self::Pins(PinReason::LibraryLoad),
            b"DISCARD ALL" => Self::DiscardsAll,
            b"DEALLOCATE ALL" => Self::DeallocatesAll,
            _ => Self::None,
        }
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
