//! Tracked parameters: what a session wants set, what a server connection has set, and the SET between. Pure.
//!
//! Sets are interned per worker, so that the usual question ("does this server have what this client wants?") is
//! one comparison of pointers. [`difference`] promises: after the statements that it writes, a server that had
//! `present` has exactly `wanted`, and everything else at its default.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// What a server reports about itself: whether it is a standby. Drivers choose hosts by it (`target_session_attrs`).
pub const IN_HOT_STANDBY: &str = "in_hot_standby";

/// Parameters that a server reports by ParameterStatus and that a client may set. The rest of what it reports
/// (`server_version`, `is_superuser`, ...) cannot be set.
pub const REPORTED: [&str; 9] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "IntervalStyle",
    "scram_iterations",
    "search_path",
    "standard_conforming_strings",
    "TimeZone",
];

/// The canonical name of a reported parameter that may be set, whatever its case was.
#[must_use]
pub fn reported(name: &str) -> Option<&'static str> {
    REPORTED.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}

/// Parameters that cannot change what a prepared statement means or how it is planned, however they are set.
/// Whatever is not here may: names are looked up along the search path, and literals are read when a statement is
/// parsed, by DateStyle and TimeZone among others.
const MEANINGLESS: [&str; 17] = [
    "application_name",
    "bytea_output",
    "client_min_messages",
    "deadlock_timeout",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "log_min_duration_statement",
    "log_min_messages",
    "log_statement",
    "statement_timeout",
    "synchronous_commit",
    "transaction_timeout",
];

/// Settings of extensions and applications (`app.tenant`) are read when a statement runs.
#[must_use]
pub fn is_meaningless(name: &str) -> bool {
    name.contains('.') || MEANINGLESS.contains(&name)
}

/// What each transaction begins with anew. After a SET TRANSACTION `pg_settings` says for ever that the session has set it;
/// a standby would refuse to have it set.
const OF_TRANSACTION: [&str; 3] =
    ["transaction_deferrable", "transaction_isolation", "transaction_read_only"];

/// Names (in lower case) and values, sorted by name.
#[derive(Debug, PartialEq, Eq, Hash, Clone)]
pub struct ParameterSet {
    entries: Vec<(Box<str>, Box<str>)>,
    meaning: Arc<str>,
}

impl Default for ParameterSet {
    fn default() -> Self {
        Self { entries: Vec::new(), meaning: Arc::from("") }
    }
}

impl ParameterSet {
    /// From pairs in any order and case; the last word on a name holds.
    #[must_use]
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut set = Self::default();
        for (name, value) in pairs {
            set.put(name.as_ref(), value.as_ref());
        }
        set
    }

    /// Sets one value. What is a transaction's own is not kept.
    pub fn put(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        if OF_TRANSACTION.contains(&name.as_str()) {
            return;
        }
        match self.find(&name) {
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.1 = value.into();
                }
            }
            Err(at) => self.entries.insert(at, (name.as_str().into(), value.into())),
        }
        self.renew_meaning(&name);
    }

    /// Forgets one value.
    pub fn remove(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        if let Ok(at) = self.find(&name) {
            self.entries.remove(at);
            self.renew_meaning(&name);
        }
    }

    /// All that can change what a statement means: two sessions for which this is equal may share prepared
    /// statements. Empty for most.
    #[must_use]
    pub const fn meaning(&self) -> &Arc<str> {
        &self.meaning
    }

    fn renew_meaning(&mut self, changed: &str) {
        if is_meaningless(changed) {
            return;
        }
        let mut meaning = String::new();
        for (name, value) in self.iter().filter(|(name, _)| !is_meaningless(name)) {
            meaning.push_str(name);
            meaning.push('=');
            quote_literal(&mut meaning, value);
            meaning.push(';');
        }
        self.meaning = meaning.into();
    }

    /// The value of a parameter.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let at = self.find(&name.to_ascii_lowercase()).ok()?;
        self.entries.get(at).map(|(_, value)| &**value)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

/// One worker's sets, each kept once while anybody uses it.
#[derive(Debug, Default)]
pub struct Interner {
    sets: RefCell<HashSet<Interned>>,
}

#[derive(Debug)]
struct Interned(u64, Weak<ParameterSet>);

impl PartialEq for Interned {
    fn eq(&self, other: &Self) -> bool {
        match (self.1.upgrade(), other.1.upgrade()) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.1.ptr_eq(&other.1),
        }
    }
}

impl Eq for Interned {}

impl Hash for Interned {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl Interner {
    /// The one shared copy of `set`.
    #[must_use]
    pub fn intern(&self, set: ParameterSet) -> Rc<ParameterSet> {
        let mut hasher = std::hash::DefaultHasher::new();
        set.hash(&mut hasher);
        let hash = hasher.finish();
        let fresh = Rc::new(set);
        let key = Interned(hash, Rc::downgrade(&fresh));
        let mut sets = self.sets.borrow_mut();
        if let Some(known) = sets.get(&key).and_then(|found| found.1.upgrade()) {
            return known;
        }
        if sets.len() > 64 && sets.len().is_power_of_two() {
            sets.retain(|entry| entry.1.strong_count() > 0);
        }
        sets.insert(key);
        fresh
    }

    /// The shared copy of `set` with one value changed, or gone.
    #[must_use]
    pub fn set(&self, set: &Rc<ParameterSet>, name: &str, value: Option<&str>) -> Rc<ParameterSet> {
        if set.value(name) == value {
            return set.clone();
        }
        let mut changed = ParameterSet::clone(set);
        match value {
            Some(value) => changed.put(name, value),
            None => changed.remove(name),
        }
        self.intern(changed)
    }

    /// The shared copy of `set` with one value changed.
    #[must_use]
    pub fn with(&self, set: &ParameterSet, name: &str, value: &str) -> Rc<ParameterSet> {
        let mut changed = set.clone();
        changed.put(name, value);
        self.intern(changed)
    }
}

/// Appends the statements that turn `present` into `wanted`; empty when they are equal.
///
/// Where a role is or was set, it is left first and taken again last: other settings are made as the user who
/// logged in, as they were when the session made them before it changed its role.
pub fn difference(out: &mut String, present: &ParameterSet, wanted: &ParameterSet) {
    let changed = |name: &str| present.value(name) != wanted.value(name);
    let mut names: Vec<&str> = present.iter().chain(wanted.iter()).map(|(name, _)| name).collect();
    names.retain(|name| changed(name));
    names.sort_unstable();
    names.dedup();
    let others = names.iter().any(|name| !is_role(name));
    let user = changed(USER);
    let role = changed(ROLE) || user || others && present.value(ROLE).is_some();
    let user = user || others && present.value(USER).is_some();
    // The first resets the second.
    if user && present.value(USER).is_some() {
        out.push_str("RESET SESSION AUTHORIZATION;");
    }
    if role && present.value(ROLE).is_some() {
        out.push_str("RESET ROLE;");
    }
    for name in names.into_iter().filter(|name| !is_role(name)) {
        step(out, name, wanted.value(name));
    }
    set_roles(out, wanted, user, role);
}

/// As [`difference`], inside of a transaction: who the session acts as is left alone where that is not what differs,
/// since a function may have changed it.
pub fn difference_within(out: &mut String, present: &ParameterSet, wanted: &ParameterSet) {
    let changed = |name: &str| present.value(name) != wanted.value(name);
    let gone = present.iter().filter(|(name, _)| wanted.value(name).is_none()).map(|(name, _)| name);
    for name in gone.chain(wanted.iter().map(|(name, _)| name)).filter(|name| changed(name)) {
        step(out, name, wanted.value(name));
    }
}

/// Appends the statements after which a server has exactly `wanted`, whatever was set on it before, beside what
/// `base` sets.
pub fn everything(out: &mut String, base: &str, wanted: &ParameterSet) {
    out.push_str("RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL;");
    if !base.is_empty() {
        out.push_str(base);
        out.push(';');
    }
    for (name, value) in wanted.iter().filter(|(name, _)| !is_role(name)) {
        step(out, name, Some(value));
    }
    set_roles(out, wanted, true, true);
}

/// The statement after which a server reads texts as a session with these settings wrote them.
#[must_use]
pub fn encoding(wanted: &ParameterSet) -> String {
    const NAME: &str = "client_encoding";
    let mut statement = String::new();
    step(&mut statement, NAME, wanted.value(NAME));
    statement
}

const USER: &str = "session_authorization";
const ROLE: &str = "role";
const ROLES: [&str; 2] = [USER, ROLE];

/// Whether a parameter (in lower case) says as whom the session acts.
#[must_use]
pub fn is_role(name: &str) -> bool {
    ROLES.contains(&name)
}

fn set_roles(out: &mut String, wanted: &ParameterSet, user: bool, role: bool) {
    for (name, due) in [(USER, user), (ROLE, role)] {
        if let Some(value) = wanted.value(name).filter(|_| due) {
            set_statement(out, name, value);
        }
    }
}

fn step(out: &mut String, name: &str, value: Option<&str>) {
    match value {
        Some(value) => set_statement(out, name, value),
        None => {
            out.push_str("RESET ");
            quote_identifier(out, name);
            out.push(';');
        }
    }
}

/// One SET. Through `set_config`'s cousin `SET name TO 'value'`, which takes lists as one string only for some
/// parameters; so list parameters are written element by element, as they were given.
fn set_statement(out: &mut String, name: &str, value: &str) {
    out.push_str("SET ");
    quote_identifier(out, name);
    out.push_str(" TO ");
    if hawser_sql_router::effects::is_list(name) {
        let mut elements = split_list(value).into_iter();
        match elements.next() {
            None => out.push_str("''"),
            Some(first) => {
                quote_literal(out, &first);
                for element in elements {
                    out.push(',');
                    quote_literal(out, &element);
                }
            }
        }
    } else {
        quote_literal(out, value);
    }
    out.push(';');
}

/// Whether two values of a parameter are the same setting, as far as that can be told from the text.
#[must_use]
pub fn is_same_value(name: &str, one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || hawser_sql_router::effects::is_list(name) && split_list(one) == split_list(other)
}

/// Splits a list of identifiers as PostgreSQL's `SplitIdentifierString` does.
fn split_list(value: &str) -> Vec<String> {
    let mut elements = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        let mut element = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut chars = quoted.char_indices().peekable();
            let mut end = quoted.len();
            while let Some((at, c)) = chars.next() {
                if c == '"' {
                    if chars.peek().is_some_and(|(_, next)| *next == '"') {
                        chars.next();
                    } else {
                        end = at + 1;
                        break;
                    }
                }
                element.push(c);
            }
            rest = quoted.get(end..).unwrap_or_default();
            rest = rest.trim_start().strip_prefix(',').unwrap_or_default().trim_start();
        } else {
            let (first, after) = rest.split_once(',').unwrap_or((rest, ""));
            element.push_str(&first.trim().to_lowercase());
            rest = after.trim_start();
        }
        elements.push(element);
    }
    elements
}

/// Appends `text` as an SQL literal that means the same whatever `standard_conforming_strings` says.
pub fn quote_literal(out: &mut String, text: &str) {
    if text.contains('\\') {
        out.push_str(" E");
    }
    out.push('\'');
    for c in text.chars().filter(|c| *c != '\0') {
        if matches!(c, '\'' | '\\') {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
}

/// Appends `name` as a quoted identifier; a dotted name (`myapp.user`) part by part.
pub fn quote_identifier(out: &mut String, name: &str) {
    for (number, part) in name.split('.').enumerate() {
        if number > 0 {
            out.push('.');
        }
        out.push('"');
        for c in part.chars().filter(|c| *c != '\0') {
            if c == '"' {
                out.push(c);
            }
            out.push(c);
        }
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(pairs: &[(&str, &str)]) -> ParameterSet {
        ParameterSet::from_pairs(pairs.iter().copied())
    }

    fn statements(present: &[(&str, &str)], wanted: &[(&str, &str)]) -> String {
        let mut out = String::new();
        difference(&mut out, &set(present), &set(wanted));
        out
    }

    #[test]
    fn equal_sets_need_no_statement() {
        assert_eq!(statements(&[("TimeZone", "UTC")], &[("timezone", "UTC")]), "");
    }

    #[test]
    fn what_is_not_wanted_is_reset_and_what_is_missing_is_set() {
        assert_eq!(
            statements(
                &[("datestyle", "ISO"), ("work_mem", "1MB")],
                &[("work_mem", "2MB"), ("timezone", "O'Clock")]
            ),
            "RESET \"datestyle\";SET \"timezone\" TO 'O''Clock';SET \"work_mem\" TO '2MB';"
        );
    }

    #[test]
    fn the_session_user_comes_before_the_role_and_takes_it_along() {
        assert_eq!(
            statements(&[("role", "r")], &[("role", "r"), ("session_authorization", "u")]),
            "RESET ROLE;SET \"session_authorization\" TO 'u';SET \"role\" TO 'r';"
        );
    }

    #[test]
    fn other_settings_are_made_as_the_user_who_logged_in() {
        assert_eq!(
            statements(&[("role", "r"), ("a", "1")], &[("role", "r"), ("a", "2")]),
            "RESET ROLE;SET \"a\" TO '2';SET \"role\" TO 'r';"
        );
        assert_eq!(statements(&[("role", "r")], &[("role", "s")]), "RESET ROLE;SET \"role\" TO 's';");
        assert_eq!(statements(&[("role", "r")], &[]), "RESET ROLE;");
        let mut within = String::new();
        difference_within(
            &mut within,
            &set(&[("role", "r"), ("a", "1")]),
            &set(&[("role", "r"), ("b", "2")]),
        );
        assert_eq!(within, "RESET \"a\";SET \"b\" TO '2';");
        let mut out = String::new();
        everything(&mut out, "", &set(&[("role", "r"), ("a", "1")]));
        assert_eq!(
            out,
            "RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL;SET \"a\" TO '1';SET \"role\" TO 'r';"
        );
    }

    #[test]
    fn what_a_statement_means_depends_on_most_settings() {
        let set = set(&[("application_name", "x"), ("statement_timeout", "1"), ("search_path", "a")]);
        assert_eq!(&**set.meaning(), "search_path='a';");
        let mut plain = set;
        plain.remove("Search_path");
        assert_eq!(&**plain.meaning(), "");
    }

    #[test]
    fn a_list_is_set_element_by_element() {
        assert_eq!(
            statements(&[], &[("search_path", "\"$user\", Public")]),
            "SET \"search_path\" TO '$user','public';"
        );
        assert_eq!(statements(&[], &[("search_path", "")]), "SET \"search_path\" TO '';");
        assert_eq!(
            statements(&[], &[("search_path", "\"a,\"\"b\",c")]),
            "SET \"search_path\" TO 'a,\"b','c';"
        );
    }

    #[test]
    fn backslashes_survive_either_kind_of_string() {
        let mut out = String::new();
        quote_literal(&mut out, "a\\'b");
        assert_eq!(out, " E'a\\\\''b'");
    }

    #[test]
    fn equal_sets_are_one_set() {
        let interner = Interner::default();
        let one = interner.intern(set(&[("a", "1")]));
        assert!(Rc::ptr_eq(&one, &interner.intern(set(&[("A", "1")]))));
        assert!(!Rc::ptr_eq(&one, &interner.with(&one, "a", "2")));
    }

    proptest! {
        #[test]
        fn any_list_is_split_to_an_end(value: String) {
            let _ = split_list(&value);
        }

        #[test]
        fn the_last_word_on_a_name_holds(pairs: Vec<(String, String)>) {
            let set = ParameterSet::from_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            for (name, _) in &pairs {
                let lower = name.to_ascii_lowercase();
                let last = pairs.iter().rev().find(|(other, _)| other.to_ascii_lowercase() == lower);
                prop_assert_eq!(set.value(name), last.map(|(_, value)| value.as_str()));
            }
        }
    }
}
