//! Prepared statements: the texts that all clients share, each client's names for them, and what one server
//! connection has prepared. Pure.
//!
//! A client's name never reaches a server. Two clients that prepare the same text with the same parameter types
//! share a [`StatementId`], and so the statement on each server.

mod columns;

pub use columns::Columns;

use crate::ids::{ByStatement, StatementId};
use dashmap::DashMap;
use hawser_sql_router::calls::Ask;
use hawser_sql_router::effects::{self, Effect, Effects};
use hawser_sql_router::ending::{self, Ending};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};

/// How a statement came to be, and so how it is made on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// By a Parse message.
    Parse,
    /// By PREPARE in SQL. The text is what follows the name: `(int) AS SELECT $1`.
    Prepare,
}

/// What makes two statements one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatementKey<'a> {
    /// How it came to be.
    pub form: Form,
    /// The SQL text.
    pub text: &'a [u8],
    /// A count of two bytes and so many oids. Empty for [`Form::Prepare`], whose text has the types.
    pub types: &'a [u8],
    /// Settings that change what the text means (see [`crate::parameters::ParameterSet::meaning`]).
    pub meaning: &'a Arc<str>,
}

/// A statement: its text and parameter types, as in the client's Parse.
#[derive(Debug)]
pub struct Statement {
    /// Its number in this process.
    pub id: StatementId,
    /// How it came to be.
    pub form: Form,
    /// The SQL text.
    pub text: Box<[u8]>,
    /// A count of two bytes and so many oids.
    pub types: Box<[u8]>,
    /// Settings that change what the text means, as they were at its Parse.
    pub meaning: Arc<str>,
    /// What it does to a session when it is executed, if it does anything.
    pub deed: Option<Arc<Deed>>,
    /// Whether it may end a transaction.
    pub ending: Option<Ending>,
    /// Changes of the catalog before it was parsed first.
    changes: u64,
    /// For whom a server has parsed it last ([`Self::note_parsed`]).
    parsed: AtomicU64,
}

impl Statement {
    /// Bytes that it costs to keep.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len() + self.types.len() + size_of::<Self>()
    }

    /// A server has parsed it for the database and user with this mark.
    pub fn note_parsed(&self, mark: u64) {
        self.parsed.store(mark, Ordering::Relaxed);
    }

    /// Whether a server has parsed it for the database and user with this mark, and for nobody else since.
    #[must_use]
    pub fn was_parsed(&self, mark: u64) -> bool {
        self.parsed.load(Ordering::Relaxed) == mark
    }

    fn is(&self, key: StatementKey<'_>, changes: u64) -> bool {
        self.changes == changes
            && self.form == key.form
            && *self.text == *key.text
            && *self.types == *key.types
            && *self.meaning == **key.meaning
    }
}

/// What a text does to its session, with the prepared statements that it names.
#[derive(Debug, Default)]
pub struct Deed {
    /// What the text says.
    pub effects: Effects,
    /// Which prepared statement each of the text's statements is about. Empty when none is.
    pub about: SmallVec<[About; 1]>,
    /// Stands for the text when its calls are judged. Equal for equal texts of one process.
    pub fingerprint: u64,
    /// Where names were replaced: the character after which, and how much longer the new one is.
    pub shifts: SmallVec<[(usize, isize); 1]>,
}

/// Which prepared statement a statement is about.
#[derive(Debug, Clone, Default)]
pub enum About {
    /// None.
    #[default]
    Nothing,
    /// It makes this one.
    Makes(Arc<Statement>),
    /// It makes this one under the client's own name.
    Defines(Arc<Statement>),
    /// It needs this one.
    Uses(Arc<Statement>),
    /// It needs that this one's name is taken, and nothing of what is behind it.
    Names(Arc<Statement>),
}

impl Deed {
    /// Prepared statements that must be there before the text is run.
    pub fn needs(&self) -> impl Iterator<Item = &Arc<Statement>> {
        self.about.iter().filter_map(|about| match about {
            About::Uses(statement) => Some(statement),
            _ => None,
        })
    }

    /// Prepared statements of which must be clear whether they are there.
    pub fn mentions(&self) -> impl Iterator<Item = &Arc<Statement>> {
        self.about.iter().filter_map(|about| match about {
            About::Uses(statement) | About::Names(statement) => Some(statement),
            _ => None,
        })
    }

    /// What the text does, and what each prepared statement does that it needs.
    pub fn all_effects(&self) -> impl Iterator<Item = &Effects> {
        let needed = self.needs().filter_map(|statement| statement.deed.as_ref());
        std::iter::once(&self.effects).chain(needed.map(|deed| &deed.effects))
    }

    /// What the statement at `at` of the text does.
    #[must_use]
    pub fn step(&self, at: usize) -> Option<(&Effect, &About)> {
        Some((self.effects.statements.get(at)?, self.about.get(at).unwrap_or(&About::Nothing)))
    }

    /// What `text` does; nothing for most.
    #[must_use]
    pub fn of_text(text: &[u8]) -> Option<Arc<Self>> {
        effects::of_text(text).map(|effects| Self::new(text, effects))
    }

    /// A text that does this.
    #[must_use]
    pub fn new(text: &[u8], effects: Effects) -> Arc<Self> {
        Arc::new(Self { fingerprint: fingerprint(text, &effects), effects, ..Self::default() })
    }
}

/// See [`Deed::fingerprint`]. Only asked for where it matters.
pub(crate) fn fingerprint(text: &[u8], effects: &Effects) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    if effects.ask == Ask::Sampled { HASHER.hash_one(text) } else { 0 }
}

/// All statements of the process that some client or server connection still has. Asked only when a client
/// prepares something.
#[derive(Debug)]
pub struct Registry {
    by_text: DashMap<u64, Vec<Weak<Statement>>>,
    /// How often somebody has changed the catalog: what is parsed afterwards may mean something else.
    changes: AtomicU64,
    hasher: RandomState,
    next: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            by_text: DashMap::new(),
            changes: AtomicU64::new(0),
            hasher: RandomState::new(),
            next: AtomicU64::new(1),
        }
    }
}

impl Registry {
    /// The one statement with this key. What it does is read from its text if it is new.
    #[must_use]
    pub fn statement(&self, key: StatementKey<'_>) -> Arc<Statement> {
        self.statement_that_does(key, || match key.form {
            Form::Parse => Deed::of_text(key.text),
            Form::Prepare => effects::of_prepared(key.text).map(|effects| Deed::new(key.text, effects)),
        })
    }

    /// As [`Self::statement`]; what it does is known to the caller.
    #[must_use]
    pub fn statement_that_does(
        &self,
        key: StatementKey<'_>,
        deed: impl FnOnce() -> Option<Arc<Deed>>,
    ) -> Arc<Statement> {
        let changes = self.changes.load(Ordering::Relaxed);
        let hash = self.hasher.hash_one(key);
        let mut found = self.by_text.entry(hash).or_default();
        if let Some(known) = find(&found, key, changes) {
            return known;
        }
        let id = StatementId(self.next.fetch_add(1, Ordering::Relaxed));
        let fresh = Arc::new(Statement {
            id,
            form: key.form,
            text: key.text.into(),
            types: key.types.into(),
            meaning: key.meaning.clone(),
            deed: deed(),
            ending: ending::of_text(key.text),
            changes,
            parsed: AtomicU64::new(0),
        });
        found.retain(|entry| entry.strong_count() > 0);
        found.push(Arc::downgrade(&fresh));
        fresh
    }

    /// The statement with this key, if somebody has it.
    #[must_use]
    pub fn known(&self, key: StatementKey<'_>) -> Option<Arc<Statement>> {
        let changes = self.changes.load(Ordering::Relaxed);
        find(self.by_text.get(&self.hasher.hash_one(key))?.value(), key, changes)
    }

    /// A client has changed the catalog. Who has parsed a text before keeps what it was told; who parses it from now on
    /// is told anew.
    pub fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
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

/// The statement with this key among those whose hash is the same.
fn find(found: &[Weak<Statement>], key: StatementKey<'_>, changes: u64) -> Option<Arc<Statement>> {
    found.iter().filter_map(Weak::upgrade).find(|known| known.is(key, changes))
}

/// What a client's name means.
#[derive(Debug, Clone)]
pub struct Named {
    /// The statement.
    pub statement: Arc<Statement>,
    /// The batch whose Parse defines the name, while nobody knows whether it succeeds.
    pub pending: Option<u64>,
    /// What the client was told that its rows look like.
    pub told: Option<Columns>,
    /// How many names the client had defined before.
    order: u32,
}

/// Statements by a client's names.
type Names = HashMap<Box<[u8]>, Named>;

/// One client's named statements. Empty until the first, and then it costs a map.
#[derive(Debug, Default)]
pub struct ClientStatements {
    names: Option<Box<Names>>,
    /// Names defined so far.
    defined: u32,
    /// PREPARE has made some of them, since there last was none.
    of_sql: bool,
}

impl ClientStatements {
    /// The statement that the client calls `name`.
    #[must_use]
    pub fn named(&self, name: &[u8]) -> Option<&Named> {
        self.names.as_ref()?.get(name)
    }

    /// The client has prepared `name`.
    pub fn define(&mut self, name: &[u8], statement: Arc<Statement>) {
        self.insert(name, statement, None);
    }

    fn insert(&mut self, name: &[u8], statement: Arc<Statement>, pending: Option<u64>) {
        let order = self.defined;
        self.defined = self.defined.wrapping_add(1);
        self.of_sql |= statement.form == Form::Prepare;
        self.names
            .get_or_insert_default()
            .insert(name.into(), Named { statement, pending, told: None, order });
    }

    /// The client's Parse of `name`, in this batch, is being sent.
    pub fn expect(&mut self, name: &[u8], statement: Arc<Statement>, batch: u64) {
        self.insert(name, statement, Some(batch));
    }

    /// The Parse of `name` has succeeded, or the name is the client's by other means.
    pub fn confirm(&mut self, name: &[u8]) {
        if let Some(named) = self.names.as_mut().and_then(|names| names.get_mut(name)) {
            named.pending = None;
        }
    }

    /// `name` means another statement with the same text from now on.
    pub fn replace(&mut self, name: &[u8], statement: Arc<Statement>) {
        if let Some(named) = self.names.as_mut().and_then(|names| names.get_mut(name)) {
            named.statement = statement;
        }
    }

    /// The client is told what rows of this statement look like, which it calls `name`.
    pub fn tell(&mut self, name: &[u8], id: StatementId, columns: Option<Columns>) {
        if let Some(named) = self.names.as_mut().and_then(|names| names.get_mut(name))
            && named.statement.id == id
        {
            named.told = columns;
        }
    }

    /// The client closed `name`, or its Parse failed.
    pub fn forget(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        let names = self.names.as_mut()?;
        let gone = names.remove(name);
        if names.is_empty() {
            self.clear();
        }
        gone.map(|gone| gone.statement)
    }

    /// The client has none any more.
    pub fn clear(&mut self) {
        (self.names, self.of_sql) = (None, false);
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

    /// Names and statements, in the order in which they were defined.
    #[must_use]
    pub fn list(&self) -> Vec<(&[u8], &Arc<Statement>)> {
        let mut all: Vec<_> = self.names.iter().flat_map(|names| names.iter()).collect();
        all.sort_unstable_by_key(|(_, named)| named.order);
        all.into_iter().map(|(name, named)| (&**name, &named.statement)).collect()
    }

    /// Whether PREPARE has made any.
    #[must_use]
    pub fn any_of_sql(&self) -> bool {
        let mut all = self.names.iter().flat_map(|names| names.values());
        self.of_sql && all.any(|named| named.statement.form == Form::Prepare)
    }

    /// The client's name for a statement, for words that the client will read.
    #[must_use]
    pub fn name_of(&self, id: StatementId) -> Option<&[u8]> {
        let names = self.names.as_ref()?;
        names.iter().find(|(_, named)| named.statement.id == id).map(|(name, _)| &**name)
    }
}

/// Whether a server connection has a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It does not.
    Missing,
    /// It has been sent in this batch, and nobody knows yet whether it succeeds.
    Sent(u64),
    /// It does.
    Here,
    /// It does, but what it has is of no use: it is to be closed before it is sent again.
    Spoiled,
}

/// What one server connection has prepared, least recently used first out.
///
/// A statement counts from the moment when its Parse is sent; [`Self::forget`] when that fails.
#[derive(Debug, Default)]
pub struct ServerStatements {
    prepared: ByStatement<Prepared>,
    clock: u64,
}

#[derive(Debug)]
struct Prepared {
    statement: Arc<Statement>,
    used: u64,
    presence: Presence,
    looks: Looks,
}

/// What rows of a server's own copy of a statement look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Looks {
    /// It was not asked.
    #[default]
    Unasked,
    /// Like this.
    Like(Columns),
    /// It has said more than we read.
    Unread,
}

impl Prepared {
    fn new(statement: Arc<Statement>, used: u64, presence: Presence) -> Self {
        Self { statement, used, presence, looks: Looks::Unasked }
    }
}

impl ServerStatements {
    /// Whether the server has it; marks it as used.
    pub fn touch(&mut self, id: StatementId) -> Presence {
        self.clock += 1;
        match self.prepared.get_mut(&id) {
            Some(prepared) => {
                prepared.used = self.clock;
                prepared.presence
            }
            None => Presence::Missing,
        }
    }

    /// A Parse is being sent in this batch. Returns what must be closed for it so that at most `limit` remain.
    pub fn prepare(&mut self, statement: Arc<Statement>, batch: u64, limit: usize) -> Option<Arc<Statement>> {
        self.clock += 1;
        let id = statement.id;
        self.prepared.insert(id, Prepared::new(statement, self.clock, Presence::Sent(batch)));
        if self.prepared.len() <= limit.max(1) {
            return None;
        }
        let oldest = self.prepared.iter().min_by_key(|(_, prepared)| prepared.used).map(|(id, _)| *id)?;
        self.prepared.remove(&oldest).map(|gone| gone.statement)
    }

    /// The Parse in this batch has succeeded.
    pub fn confirm(&mut self, id: StatementId, batch: u64) {
        if let Some(prepared) = self.prepared.get_mut(&id)
            && prepared.presence == Presence::Sent(batch)
        {
            prepared.presence = Presence::Here;
        }
    }

    /// The Parse in this batch has failed, or was skipped.
    pub fn fail(&mut self, id: StatementId, batch: u64) {
        if self.prepared.get(&id).is_some_and(|prepared| prepared.presence == Presence::Sent(batch)) {
            self.prepared.remove(&id);
        }
    }

    /// The server has it.
    pub fn settle(&mut self, id: StatementId) {
        if let Some(prepared) = self.prepared.get_mut(&id) {
            prepared.presence = Presence::Here;
        }
    }

    /// What the server said that rows of it look like; `None`: more than we read.
    pub fn describe(&mut self, id: StatementId, columns: Option<Columns>) {
        if let Some(prepared) = self.prepared.get_mut(&id) {
            prepared.looks = columns.map_or(Looks::Unread, Looks::Like);
        }
    }

    /// What rows of it look like. They do not change: the server refuses a plan that has come to have others.
    #[must_use]
    pub fn looks(&self, id: StatementId) -> Looks {
        self.prepared.get(&id).map_or(Looks::Unasked, |prepared| prepared.looks)
    }

    /// What the server has under this number is of no use.
    pub fn spoil(&mut self, id: StatementId) {
        if let Some(prepared) = self.prepared.get_mut(&id) {
            prepared.presence = Presence::Spoiled;
        }
    }

    /// A Close that was sent has not happened: the server still has it, whatever the limit.
    pub fn restore(&mut self, statement: Arc<Statement>) {
        self.prepared.insert(statement.id, Prepared::new(statement, self.clock, Presence::Spoiled));
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

    fn key<'a>(text: &'a [u8], types: &'a [u8], meaning: &'a Arc<str>) -> StatementKey<'a> {
        StatementKey { form: Form::Parse, text, types, meaning }
    }

    #[test]
    fn equal_texts_are_one_statement_and_other_types_or_another_meaning_another() {
        let registry = Registry::default();
        let (plain, other) = (Arc::from(""), Arc::from("search_path=a"));
        let one = registry.statement(key(b"select $1", &[0, 0], &plain));
        assert_eq!(one.id, registry.statement(key(b"select $1", &[0, 0], &plain)).id);
        assert_ne!(one.id, registry.statement(key(b"select $1", &[0, 1, 0, 0, 0, 23], &plain)).id);
        assert_ne!(one.id, registry.statement(key(b"select $1", &[0, 0], &other)).id);
        let sql = StatementKey { form: Form::Prepare, ..key(b"select $1", &[0, 0], &plain) };
        assert_ne!(one.id, registry.statement(sql).id);
        registry.note_change();
        assert_ne!(one.id, registry.statement(key(b"select $1", &[0, 0], &plain)).id);
    }

    #[test]
    fn a_statement_that_nobody_has_is_forgotten_and_its_number_not_used_again() {
        let registry = Registry::default();
        let plain = Arc::from("");
        let first = registry.statement(key(b"a", &[0, 0], &plain)).id;
        registry.sweep();
        assert!(registry.is_empty());
        assert_ne!(registry.statement(key(b"a", &[0, 0], &plain)).id, first);
    }

    #[test]
    fn the_least_recently_used_statement_goes_first() {
        let registry = Registry::default();
        let plain = Arc::from("");
        let all: Vec<_> = (0..3u8).map(|n| registry.statement(key(&[n], &[0, 0], &plain))).collect();
        let mut server = ServerStatements::default();
        assert!(server.prepare(all[0].clone(), 1, 2).is_none());
        assert!(server.prepare(all[1].clone(), 1, 2).is_none());
        assert_eq!(server.touch(all[0].id), Presence::Sent(1));
        server.confirm(all[0].id, 1);
        assert_eq!(server.touch(all[0].id), Presence::Here);
        assert_eq!(server.prepare(all[2].clone(), 1, 2).map(|gone| gone.id), Some(all[1].id));
        assert_eq!(server.touch(all[1].id), Presence::Missing);
    }
}
