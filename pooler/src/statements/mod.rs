//! Prepared statements: the texts that all clients share, each client's names for them, and what one server
//! connection has prepared. Pure.
//!
//! A client's name never reaches a server. Two clients that prepare the same text with the same parameter types
//! share a [`StatementId`], and so the statement on each server.

use crate::ids::StatementId;
use dashmap::DashMap;
use hawser_sql_router::effects::{self, Effect};
use hawser_sql_router::ending::{self, Ending};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// A statement: its text and parameter types, as in the client's Parse.
#[derive(Debug)]
pub struct Statement {
    /// Its number in this process.
    pub id: StatementId,
    /// The SQL text.
    pub text: Box<[u8]>,
    /// A count of two bytes and so many oids.
    pub types: Box<[u8]>,
    /// What it does to a session, if it does anything.
    pub effects: Option<Arc<[Effect]>>,
    /// Whether it may end a transaction.
    pub ending: Option<Ending>,
}

impl Statement {
    /// Bytes that it costs to keep.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len() + self.types.len() + size_of::<Self>()
    }
}

/// All statements of the process that some client or server connection still has. Asked only when a client
/// prepares something.
#[derive(Debug)]
pub struct Registry {
    by_text: DashMap<u64, Vec<Weak<Statement>>>,
    hasher: RandomState,
    next: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self { by_text: DashMap::new(), hasher: RandomState::new(), next: AtomicU64::new(1) }
    }
}

impl Registry {
    /// The one statement with this text and these types.
    #[must_use]
    pub fn statement(&self, text: &[u8], types: &[u8]) -> Arc<Statement> {
        let hash = self.hasher.hash_one((text, types));
        let mut found = self.by_text.entry(hash).or_default();
        let known = found
            .iter()
            .filter_map(Weak::upgrade)
            .find(|known| *known.text == *text && *known.types == *types);
        if let Some(known) = known {
            return known;
        }
        let effects = effects::of_text(text).map(Into::into);
        let id = StatementId(self.next.fetch_add(1, Ordering::Relaxed));
        let ending = ending::of_text(text);
        let fresh = Arc::new(Statement { id, text: text.into(), types: types.into(), effects, ending });
        found.retain(|entry| entry.strong_count() > 0);
        found.push(Arc::downgrade(&fresh));
        fresh
    }

    /// Forgets statements that nobody has any more. Called now and then.
    pub fn sweep(&self) {
        self.by_text.retain(|_, found| {
            found.retain(|entry| entry.strong_count() > 0);
            !found.is_empty()
        });
    }

    /// Every statement that somebody has, and how many clients and server connections have it.
    #[must_use]
    pub fn list(&self) -> Vec<(Arc<Statement>, usize)> {
        let alive = |entry: &Weak<Statement>| {
            let users = entry.strong_count();
            entry.upgrade().map(|statement| (statement, users))
        };
        self.by_text.iter().flat_map(|found| found.iter().filter_map(alive).collect::<Vec<_>>()).collect()
    }

    /// Texts that somebody has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_text.len()
    }

    /// Nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }
}

/// Statements by a client's names.
type Names = HashMap<Box<[u8]>, Arc<Statement>>;

/// One client's named statements. Empty until the first, and then it costs a map.
#[derive(Debug, Default)]
pub struct ClientStatements {
    names: Option<Box<Names>>,
}

impl ClientStatements {
    /// The statement that the client calls `name`.
    #[must_use]
    pub fn named(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.names.as_ref()?.get(name)
    }

    /// The client prepared `name`.
    pub fn define(&mut self, name: &[u8], statement: Arc<Statement>) {
        self.names.get_or_insert_default().insert(name.into(), statement);
    }

    /// The client closed `name`, or its Parse failed.
    pub fn forget(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        let names = self.names.as_mut()?;
        let gone = names.remove(name);
        if names.is_empty() {
            self.names = None;
        }
        gone
    }

    /// The client has none any more.
    pub fn clear(&mut self) {
        self.names = None;
    }

    /// How many the client has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.as_ref().map_or(0, |names| names.len())
    }

    /// The client has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_none()
    }

    /// The client's name for a statement, for words that the client will read.
    #[must_use]
    pub fn name_of(&self, id: StatementId) -> Option<&[u8]> {
        let names = self.names.as_ref()?;
        names.iter().find(|(_, statement)| statement.id == id).map(|(name, _)| &**name)
    }
}

/// What one server connection has prepared, least recently used first out.
///
/// A statement counts from the moment when its Parse is sent; [`Self::forget`] when that fails.
#[derive(Debug, Default)]
pub struct ServerStatements {
    prepared: HashMap<StatementId, Prepared>,
    clock: u64,
}

#[derive(Debug)]
struct Prepared {
    statement: Arc<Statement>,
    used: u64,
}

impl ServerStatements {
    /// Whether the server has it; marks it as used.
    pub fn touch(&mut self, id: StatementId) -> bool {
        self.clock += 1;
        match self.prepared.get_mut(&id) {
            Some(prepared) => {
                prepared.used = self.clock;
                true
            }
            None => false,
        }
    }

    /// A Parse is being sent. Returns what must be closed for it so that at most `limit` remain.
    pub fn prepare(&mut self, statement: Arc<Statement>, limit: usize) -> Option<Arc<Statement>> {
        self.clock += 1;
        let id = statement.id;
        self.prepared.insert(id, Prepared { statement, used: self.clock });
        if self.prepared.len() <= limit.max(1) {
            return None;
        }
        let oldest = self.prepared.iter().min_by_key(|(_, prepared)| prepared.used).map(|(id, _)| *id)?;
        self.prepared.remove(&oldest).map(|gone| gone.statement)
    }

    /// A Close that was sent has not happened: the server still has it, whatever the limit.
    pub fn restore(&mut self, statement: Arc<Statement>) {
        self.prepared.insert(statement.id, Prepared { statement, used: self.clock });
    }

    /// The server does not have it (any more).
    pub fn forget(&mut self, id: StatementId) {
        self.prepared.remove(&id);
    }

    /// The server has none any more (DISCARD ALL, DEALLOCATE ALL).
    pub fn clear(&mut self) {
        self.prepared.clear();
    }

    /// How many the server has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prepared.len()
    }

    /// The server has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prepared.is_empty()
    }

    /// Bytes that the texts cost.
    #[must_use]
    pub fn size(&self) -> usize {
        self.prepared.values().map(|prepared| prepared.statement.size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_statement_and_other_types_another() {
        let registry = Registry::default();
        let one = registry.statement(b"select $1", &[0, 0]);
        assert_eq!(one.id, registry.statement(b"select $1", &[0, 0]).id);
        assert_ne!(one.id, registry.statement(b"select $1", &[0, 1, 0, 0, 0, 23]).id);
    }

    #[test]
    fn a_statement_that_nobody_has_is_forgotten_and_its_number_not_used_again() {
        let registry = Registry::default();
        let first = registry.statement(b"a", &[0, 0]).id;
        registry.sweep();
        assert!(registry.is_empty());
        assert_ne!(registry.statement(b"a", &[0, 0]).id, first);
    }

    #[test]
    fn the_least_recently_used_statement_goes_first() {
        let registry = Registry::default();
        let all: Vec<_> = (0..3u8).map(|n| registry.statement(&[n], &[0, 0])).collect();
        let mut server = ServerStatements::default();
        assert!(server.prepare(all[0].clone(), 2).is_none());
        assert!(server.prepare(all[1].clone(), 2).is_none());
        assert!(server.touch(all[0].id));
        assert_eq!(server.prepare(all[2].clone(), 2).map(|gone| gone.id), Some(all[1].id));
        assert!(!server.touch(all[1].id));
    }
}
