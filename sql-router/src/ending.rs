//! Whether a text may end the transaction that it runs in. Pure.
//!
//! Asked when a server connection is lost with the text under way: after a COMMIT the outcome is in doubt, after
//! anything else the transaction is surely gone. When in doubt, it is a commit.

use crate::scan::{Word, words};

/// How a transaction may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is a COMMIT and nothing else: what was done before it stays, if it succeeds.
    Commit,
    /// Something in it may commit, and the text does something besides.
    MayCommit,
    /// What was done is undone.
    Rollback,
}

impl Ending {
    /// Whether what was done may stay.
    #[must_use]
    pub const fn may_commit(self) -> bool {
        matches!(self, Self::Commit | Self::MayCommit)
    }
}

/// Longest text that is looked at; longer ones may commit if they have several statements.
const LONGEST: usize = 64 * 1024;

/// How `text` may end a transaction; `None` if it surely does not.
#[must_use]
pub fn of_text(text: &[u8]) -> Option<Ending> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace())?;
    let suspicious = matches!(
        first.to_ascii_lowercase(),
        b'c' | b'e' | b'p' | b'd' | b'r' | b'a' | b'-' | b'/' | b';' | b'\x0b'
    );
    let several = || {
        let end = text.iter().rposition(|byte| !byte.is_ascii_whitespace() && *byte != b';' && *byte != 0);
        text.get(..end.unwrap_or(0)).unwrap_or_default().contains(&b';')
    };
    if !suspicious && !several() {
        return None;
    }
    let Some(text) = std::str::from_utf8(text).ok().filter(|text| text.len() <= LONGEST) else {
        return Some(Ending::MayCommit);
    };
    if is_commit(text) {
        return Some(Ending::Commit);
    }
    let mut found = None;
    let mut words = words(text);
    loop {
        let Some(first) = words.next() else { return found };
        if first == Word::End {
            continue;
        }
        let second = words.next();
        match of_statement(&first, second.as_ref()) {
            Some(Ending::Rollback) => found = Some(Ending::Rollback),
            Some(commit) => return Some(commit),
            None => {}
        }
        if second.is_none_or(|second| second != Word::End) && !words.any(|word| word == Word::End) {
            return found;
        }
    }
}

/// Whether the text is one COMMIT that begins no other transaction.
fn is_commit(text: &str) -> bool {
    let mut words = words(text).filter(|word| *word != Word::End).peekable();
    let mut next_is =
        |keywords: &[&str]| words.next_if(|word| keywords.iter().any(|keyword| word.is(keyword))).is_some();
    if !next_is(&["commit", "end"]) {
        return false;
    }
    next_is(&["work", "transaction"]);
    if next_is(&["and"]) && !(next_is(&["no"]) && next_is(&["chain"])) {
        return false;
    }
    words.next().is_none()
}

/// Whether the text is one statement that changes rows and may run in a transaction with others.
#[must_use]
pub fn changes_rows(text: &[u8]) -> bool {
    let Some(text) = std::str::from_utf8(text).ok().filter(|text| text.len() <= LONGEST) else {
        return false;
    };
    let mut words = words(text);
    let Some(first) = words.next() else { return false };
    let changes = ["insert", "update", "delete", "merge", "with", "select"];
    changes.iter().any(|keyword| first.is(keyword))
        && words.skip_while(|word| *word != Word::End).all(|word| word == Word::End)
}

fn of_statement(first: &Word<'_>, second: Option<&Word<'_>>) -> Option<Ending> {
    let follows = |keyword| second.is_some_and(|second| second.is(keyword));
    if ["commit", "end", "call", "do"].iter().any(|keyword| first.is(keyword))
        || (first.is("prepare") && follows("transaction"))
    {
        return Some(Ending::MayCommit);
    }
    ((first.is("rollback") && !follows("to")) || first.is("abort")).then_some(Ending::Rollback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_found_wherever_they_are() {
        for text in [
            "commit; select 1",
            "-- x\nCOMMIT AND CHAIN",
            "commit prepared 'a'",
            "insert into t values (1); commit",
            "rollback; commit",
            "prepare transaction 'a'",
            "call p()",
            "do $$begin commit; end$$",
        ] {
            assert_eq!(of_text(text.as_bytes()), Some(Ending::MayCommit), "{text}");
        }
    }

    #[test]
    fn a_commit_and_nothing_else_is_known() {
        for text in
            ["COMMIT", " end ;", "/* x */ commit", "commit work", ";;commit", "END TRANSACTION AND NO CHAIN;"]
        {
            assert_eq!(of_text(text.as_bytes()), Some(Ending::Commit), "{text}");
        }
    }

    #[test]
    fn one_statement_that_changes_rows_is_known() {
        for text in [
            "INSERT INTO t VALUES (';')",
            "with a as (select 1) delete from t;",
            "/* x */ update t set i = 1",
        ] {
            assert!(changes_rows(text.as_bytes()), "{text}");
        }
        for text in
            ["", "vacuum", "insert into t values (1); select 1", "call p()", "begin", "copy t from stdin"]
        {
            assert!(!changes_rows(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_only_undoes_is_a_rollback() {
        for text in ["rollback", "ABORT", "select 1; rollback;"] {
            assert_eq!(of_text(text.as_bytes()), Some(Ending::Rollback), "{text}");
        }
    }

    #[test]
    fn the_rest_ends_nothing() {
        for text in [
            "",
            "select 1",
            "select ';commit'; select 2",
            "prepare a as select 1",
            "rollback to savepoint a",
            "create table commit_log()",
            "select 1;",
        ] {
            assert_eq!(of_text(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_may_be_a_commit() {
        assert_eq!(of_text(b"select '\xff'; select 2"), Some(Ending::MayCommit));
        assert_eq!(of_text(b"select '\xff'"), None);
    }
}
