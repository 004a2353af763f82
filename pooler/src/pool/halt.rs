//! Whether pools lend their connections: PAUSE, SUSPEND and KILL. Pure.

use std::collections::BTreeMap;

/// What a pool does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stance {
    /// Lends them.
    #[default]
    Open,
    /// Keeps them: nothing is lent, nothing is opened, clients wait.
    Suspended,
    /// Closes them as they come back; nothing is lent, nothing is opened, clients wait.
    Paused,
}

/// What an order to halt is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every pool.
    All,
    /// The pools of one database, as clients name it.
    Database(String),
}

impl Scope {
    /// Whether pools of this database are meant.
    #[must_use]
    pub fn has(&self, database: &str) -> bool {
        match self {
            Self::All => true,
            Self::Database(name) => name == database,
        }
    }
}

/// Which databases are halted. The control thread decides, and every worker has a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Halts {
    all: Stance,
    databases: BTreeMap<String, Stance>,
}

impl Halts {
    /// Halts, or opens again. What was said of single databases is forgotten when all are meant.
    pub fn set(&mut self, scope: &Scope, stance: Stance) {
        match scope {
            Scope::All => {
                self.databases.clear();
                self.all = stance;
            }
            Scope::Database(name) if stance == Stance::Open => _ = self.databases.remove(name),
            Scope::Database(name) => _ = self.databases.insert(name.clone(), stance),
        }
    }

    /// The stance of a database: its own, or that of all, whichever is stricter.
    #[must_use]
    pub fn of(&self, database: &str) -> Stance {
        match (self.all, self.databases.get(database)) {
            (Stance::Paused, _) | (_, Some(Stance::Paused)) => Stance::Paused,
            (Stance::Suspended, _) | (_, Some(Stance::Suspended)) => Stance::Suspended,
            _ => Stance::Open,
        }
    }

    /// The stance of all databases together.
    #[must_use]
    pub const fn of_all(&self) -> Stance {
        self.all
    }

    /// Whether this database was halted by its own name.
    #[must_use]
    pub fn names(&self, database: &str) -> bool {
        self.databases.contains_key(database)
    }

    /// Whether anything is halted.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.all != Stance::Open || !self.databases.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_opens_by_itself_or_with_all() {
        let mut halts = Halts::default();
        let app = Scope::Database("app".into());
        halts.set(&app, Stance::Paused);
        assert_eq!((halts.of("app"), halts.of("web")), (Stance::Paused, Stance::Open));
        halts.set(&Scope::All, Stance::Suspended);
        assert_eq!(halts.of("app"), Stance::Suspended);
        halts.set(&app, Stance::Paused);
        assert_eq!((halts.of("app"), halts.of("web")), (Stance::Paused, Stance::Suspended));
        halts.set(&app, Stance::Open);
        assert!(halts.is_any());
        halts.set(&Scope::All, Stance::Open);
        assert!(!halts.is_any());
    }
}
