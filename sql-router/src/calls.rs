//! What the functions that a statement calls may leave behind in its session. Pure.

use crate::clean::is_clean;
use crate::scan::{Word, contains, trimmed_end};
use crate::syntax::{Before, is_syntax};
use std::num::NonZeroU32;

/// Whether the server must be asked what is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Ask {
    /// The text says it all.
    #[default]
    No,
    /// Something was called that may do anything. Once it has proved clean, asking now and then is enough.
    Sampled,
    /// It makes or drops something that only the server can tell.
    Always,
}

/// What a statement does with sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Sequences {
    /// Nothing that the text shows.
    #[default]
    Untouched,
    /// It calls `nextval` or `setval`.
    Advanced,
    /// It reads what the session has got before: `currval` or `lastval`.
    Read,
}

/// Whom a statement disturbs by the number of a server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Disturbs {
    /// Nobody.
    #[default]
    Nobody,
    /// It cancels what somebody runs.
    Cancels,
    /// It ends somebody.
    Ends,
    /// It ends the server process that runs it.
    EndsItself,
}

/// A server process that a statement names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// By its number.
    Number(NonZeroU32),
    /// By the value of this parameter; the first one is 1.
    Parameter(u16),
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// Whether to ask.
    pub ask: Ask,
    /// Sequences.
    pub sequences: Sequences,
    /// It seeds the session's random numbers.
    pub seeds: bool,
    /// It makes something that no reset of the session removes.
    pub is_indelible: bool,
    /// Whom it disturbs.
    pub disturbs: Disturbs,
    /// The server process that it ends, where the text says by itself how its number is known.
    pub ends: Option<Process>,
    /// It tells the number of the server process that runs it.
    pub tells_process: bool,
}

/// The calls in one statement.
#[must_use]
pub fn of_statement(words: &[Word<'_>]) -> Calls {
    let mut calls = Calls::default();
    let Some(first) = words.first() else { return calls };
    if first.is("do") || first.is("call") {
        calls.ask = Ask::Sampled;
    }
    if !runs_functions(words) {
        return calls;
    }
    let mut parentheses = Parentheses::default();
    for (at, pair) in words.windows(2).enumerate() {
        if let [word, _] = pair {
            parentheses.take(word, before(words, at));
        }
        let [word, Word::Symbol('(')] = pair else { continue };
        match word {
            Word::Bare(name) => {
                let before = before(words, at);
                let name = name.to_lowercase();
                if (is_dot(before) || !is_syntax(&name, kind(before))) && is_call(before, &parentheses) {
                    calls.note(&name, qualified(words, at, &parentheses));
                    if name == "pg_terminate_backend" {
                        calls.ends = calls.ends.or_else(|| process(words.get(at + 2..).unwrap_or_default()));
                    }
                }
            }
            Word::Quoted(name) if is_call(before(words, at), &parentheses) => {
                calls.note(name, qualified(words, at, &parentheses));
            }
            _ => {}
        }
    }
    calls
}

/// Statements that call functions of their own accord; what a definition names is called later.
fn runs_functions(words: &[Word<'_>]) -> bool {
    let Some(Word::Bare(first)) = words.first() else { return true };
    let first = first.to_lowercase();
    match first.as_str() {
        "create" => words.windows(2).any(|two| {
            matches!(two, [a, b] if a.is("as") && ["select", "with", "values", "table", "execute"].iter().any(|word| b.is(word)))
        }),
        "alter" | "drop" | "grant" | "revoke" | "comment" | "vacuum" | "analyze" | "cluster" | "reindex"
        | "truncate" | "lock" | "set" | "reset" | "show" | "begin" | "start" | "commit" | "end" | "rollback"
        | "abort" | "savepoint" | "release" | "listen" | "notify" | "unlisten" | "discard" | "deallocate"
        | "checkpoint" | "load" | "close" | "prepare" | "security" | "import" | "reassign" => false,
        _ => true,
    }
}

/// The process that a first argument names, if it is nothing but a number or a parameter.
fn process(words: &[Word<'_>]) -> Option<Process> {
    match words {
        [Word::Number(digits), Word::Symbol(')' | ','), ..] => digits.parse().ok().map(Process::Number),
        [Word::Symbol('$'), Word::Number(digits), Word::Symbol(')' | ',' | ':'), ..] => {
            digits.parse().ok().map(Process::Parameter)
        }
        _ => None,
    }
}

fn before<'a, 'b>(words: &'b [Word<'a>], at: usize) -> Option<&'b Word<'a>> {
    words.get(at.checked_sub(1)?)
}

/// What a word is to the one behind it.
fn kind<'a>(word: Option<&Word<'a>>) -> Before<'a> {
    match word {
        None | Some(Word::End) => Before::Nothing,
        Some(Word::Bare(word)) => Before::Word(word),
        Some(Word::Quoted(_) | Word::Text(_) | Word::Number(_) | Word::Symbol(')' | ']')) => Before::Operand,
        Some(Word::Symbol(_)) => Before::Symbol,
    }
}

/// What the last bytes are to a word behind them. There is no white space at their end.
fn kind_of_last(bytes: &[u8]) -> Before<'_> {
    let start = bytes.iter().rposition(|byte| !is_name(*byte)).map_or(0, |at| at + 1);
    match (bytes.get(start..), bytes.last()) {
        (_, None) => Before::Nothing,
        (Some([first, ..]), _) if first.is_ascii_digit() => Before::Operand,
        (Some(word @ [_, ..]), _) => std::str::from_utf8(word).map_or(Before::Operand, Before::Word),
        (_, Some(b'"' | b'\'' | b')' | b']')) => Before::Operand,
        _ => Before::Symbol,
    }
}

fn is_dot(word: Option<&Word<'_>>) -> bool {
    word == Some(&Word::Symbol('.'))
}

/// Names before a parenthesis that are no calls: a list of columns follows.
fn is_call(before: Option<&Word<'_>>, parentheses: &Parentheses) -> bool {
    match before {
        Some(Word::Symbol(')')) => parentheses.may_precede_call,
        Some(word) => ![
            "into",
            "as",
            "with",
            "recursive",
            "copy",
            "table",
            "references",
            "prepare",
            "execute",
            "update",
        ]
        .iter()
        .any(|keyword| word.is(keyword)),
        None => true,
    }
}

/// The parentheses of a statement, from its beginning on.
#[derive(Default)]
struct Parentheses {
    /// Of each that is open: whether a call may follow it.
    open: Vec<bool>,
    /// Of the last that was closed.
    may_precede_call: bool,
}

impl Parentheses {
    /// The next word, and the one before it.
    fn take(&mut self, word: &Word<'_>, before: Option<&Word<'_>>) {
        match word {
            // SELECT DISTINCT ON (...) f(x), 1 OPERATOR(+) f(x)
            Word::Symbol('(') => {
                self.open.push(before.is_some_and(|word| word.is("on") || word.is("operator")));
            }
            Word::Symbol(')') => self.may_precede_call = self.open.pop().unwrap_or_default(),
            _ => {}
        }
    }
}

/// Whether the name at `at` has a schema, and which.
enum Schema {
    None,
    Catalog,
    Other,
    /// It is a table that is inserted into or copied.
    Table,
}

fn qualified(words: &[Word<'_>], at: usize, parentheses: &Parentheses) -> Schema {
    if !is_dot(before(words, at)) {
        return Schema::None;
    }
    let Some(schema) = at.checked_sub(2).and_then(|at| words.get(at)) else { return Schema::Other };
    if !is_call(before(words, at.saturating_sub(2)), parentheses) {
        return Schema::Table;
    }
    let catalog = schema.is("pg_catalog") || *schema == Word::Quoted("pg_catalog".into());
    if catalog { Schema::Catalog } else { Schema::Other }
}

/// Whether what this function makes stays with the server process until that ends, or until a function is called that a
/// user may not be allowed to call: a connection of its own, a replication origin, a backup, a temporary replication slot.
fn is_indelible(name: &str) -> bool {
    matches!(
        name,
        "dblink_connect"
            | "dblink_connect_u"
            | "pg_replication_origin_session_setup"
            | "pg_backup_start"
            | "pg_start_backup"
            | "pg_create_logical_replication_slot"
            | "pg_create_physical_replication_slot"
            | "pg_copy_logical_replication_slot"
            | "pg_copy_physical_replication_slot"
    )
}

impl Calls {
    fn note(&mut self, name: &str, schema: Schema) {
        self.is_indelible |= is_indelible(name);
        let ask = match schema {
            Schema::Table => return,
            Schema::Other => Ask::Sampled,
            Schema::None | Schema::Catalog => match name {
                "nextval" | "setval" => {
                    self.sequences = self.sequences.max(Sequences::Advanced);
                    Ask::No
                }
                "currval" | "lastval" => {
                    self.sequences = Sequences::Read;
                    Ask::No
                }
                "setseed" => {
                    self.seeds = true;
                    Ask::No
                }
                "pg_notify" => Ask::No,
                "pg_cancel_backend" => {
                    self.disturbs = self.disturbs.max(Disturbs::Cancels);
                    Ask::No
                }
                "pg_backend_pid" => {
                    self.tells_process = true;
                    Ask::No
                }
                "pg_terminate_backend" => {
                    self.disturbs = self.disturbs.max(Disturbs::Ends);
                    Ask::No
                }
                "set_config" => Ask::Always,
                _ if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") => {
                    if name.contains("_xact_") { Ask::No } else { Ask::Always }
                }
                _ if is_clean(name) => Ask::No,
                _ => Ask::Sampled,
            },
        };
        self.ask = self.ask.max(ask);
    }
}

/// The quick answer, from the bytes of a bare text ([`crate::scan::bare`]): true when every call is surely clean.
#[must_use]
pub fn are_clean(text: &[u8]) -> bool {
    // Behind DISTINCT ON (...) and OPERATOR(...) a name is one of a function.
    let is_plain = !contains(text, b"distinct") && !contains(text, b"operator");
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == b'(')) {
        let at = from + found;
        from = at + 1;
        let head = trimmed_end(text.get(..at).unwrap_or_default());
        let start = head.iter().rposition(|byte| !is_name(*byte)).map_or(0, |at| at + 1);
        let word = head.get(start..).unwrap_or_default();
        let ahead = trimmed_end(head.get(..start).unwrap_or_default());
        if word.is_empty() {
            if ahead.last() == Some(&b'"') {
                return false;
            }
            continue;
        }
        if ahead.last() == Some(&b'.') {
            return false;
        }
        let lower = word.to_ascii_lowercase();
        let Ok(lower) = std::str::from_utf8(&lower) else { return false };
        if is_clean(lower) || is_syntax(lower, kind_of_last(ahead)) {
            continue;
        }
        let is_list = match kind_of_last(ahead) {
            Before::Word(word) => word.eq_ignore_ascii_case("into") || word.eq_ignore_ascii_case("copy"),
            // FILTER and OVER, and a table's list of columns.
            Before::Operand => ahead.ends_with(b")") && is_plain,
            Before::Nothing | Before::Symbol => false,
        };
        if !is_list {
            return false;
        }
    }
    true
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{bare, words};

    fn calls(text: &str) -> Calls {
        of_statement(&words(text).collect::<Vec<_>>())
    }

    #[test]
    fn an_unknown_function_is_asked_about() {
        for text in [
            "SELECT f(1)",
            "SELECT app.count(1)",
            "SELECT \"Count\"(1)",
            "INSERT INTO t (a) VALUES (g())",
            "WITH a (b) AS (SELECT f()) SELECT 1",
            "DO $$ begin end $$",
            "CALL p()",
            "CREATE TABLE t AS SELECT f()",
            "SELECT sets(1)",
            "SELECT a, isnull(a) FROM t GROUP BY GROUPING SETS (a)",
            "SELECT DISTINCT ON (lower(a), b) f(a) FROM t",
            "SELECT 1 OPERATOR(pg_catalog.+) f(1)",
            "SELECT 1, -- (note)\n f(1)",
            "SELECT 1 /* into */ f(1)",
            "SELECT f\x0b(1)",
            "SELECT s\x0b.\x0bcount(1)",
        ] {
            assert_eq!(calls(text).ask, Ask::Sampled, "{text}");
            assert!(!bare(text.as_bytes()).is_some_and(|bare| are_clean(&bare)), "{text}");
        }
    }

    #[test]
    fn grammar_tables_and_built_in_functions_are_not() {
        for text in [
            "SELECT count(*), pg_catalog.now(), (a + b) FROM t WHERE a IN (1) AND EXISTS (SELECT 1)",
            "INSERT INTO t (a, b) VALUES (1, 'f(x)')",
            "INSERT INTO s.t (a, b) VALUES (1, 2)",
            "COPY t (a, b) FROM STDIN",
            "COPY (SELECT a FROM t) TO STDOUT",
            "EXPLAIN (ANALYZE) SELECT 1",
            "WITH x (a) AS (SELECT 1) SELECT a::numeric(10,2) FROM x",
            "SELECT a FROM generate_series(1, 2) t(a)",
            "SELECT sum(a) FILTER (WHERE a > 1), rank() OVER (PARTITION BY (a) ORDER BY (b)) FROM t",
            "SELECT a FROM t LEFT JOIN (SELECT 1) u ON a LIKE ('x') GROUP BY GROUPING SETS ((a), ()), a",
            "UPDATE t SET (a, b) = (1, 2)",
            "CREATE TABLE t (a int DEFAULT f())",
            "SELECT pg_advisory_xact_lock(1)",
        ] {
            assert_eq!(calls(text).ask, Ask::No, "{text}");
        }
        assert!(are_clean(b"INSERT INTO t (a, b) VALUES (1, lower('x'))"));
    }

    proptest::proptest! {
        #[test]
        fn the_quick_answer_never_misses_what_the_words_tell(
            text in "SELECT ((DISTINCT ON|OPERATOR|FILTER|OVER|SETS|GROUPING|BY|LIKE|INTO|f|count|as|1|'x'|\"q\"|\x0b|--c\n|/\\*into\\*/|[(),. ]) ?){1,24}"
        ) {
            if bare(text.as_bytes()).is_some_and(|bare| are_clean(&bare)) {
                proptest::prop_assert_eq!(calls(&text).ask, Ask::No);
            }
        }
    }

    #[test]
    fn what_only_the_server_can_tell_is_always_asked() {
        assert_eq!(calls("SELECT pg_advisory_lock(1)").ask, Ask::Always);
        assert_eq!(calls("SELECT pg_try_advisory_lock_shared(1)").ask, Ask::Always);
        assert_eq!(calls("INSERT INTO t SELECT set_config('a', 'b', false)").ask, Ask::Always);
        assert_eq!(calls("SELECT nextval('s')").sequences, Sequences::Advanced);
        assert_eq!(calls("SELECT nextval('s'), lastval()").sequences, Sequences::Read);
        assert!(calls("SELECT setseed(0.5)").seeds);
        assert!(calls("SELECT tools.dblink_connect('a', 'host=b')").is_indelible);
        assert!(calls("SELECT pg_create_physical_replication_slot('a', true, true)").is_indelible);
        assert!(!calls("SELECT dblink_disconnect('a')").is_indelible);
    }
}
