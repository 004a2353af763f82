//! How far a text reaches: whether it may run what it does not name, such as triggers and views. By its first word. Pure.

use crate::scan::trimmed;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It runs nothing of the kind.
    Nothing,
    /// It reads: views, policies, operators, casts, checks of domains.
    Reads,
    /// It writes, too: triggers, defaults, checks.
    Writes,
}

/// The reach of a text. In doubt it writes.
#[must_use]
pub fn of(text: &[u8]) -> Reach {
    let text = trimmed(text);
    let text = text.strip_suffix(b";").unwrap_or(text);
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let is_one_of = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
    if rest.contains(&b';') {
        return Reach::Writes;
    }
    if is_one_of(&["select", "values", "table", "fetch", "move"]) {
        return Reach::Reads;
    }
    // What a COMMIT runs was put off by a statement before it.
    let control = is_one_of(&[
        "begin",
        "start",
        "commit",
        "end",
        "rollback",
        "abort",
        "savepoint",
        "release",
        "set",
        "reset",
        "show",
        "discard",
        "deallocate",
        "close",
        "listen",
        "unlisten",
        "notify",
        "prepare",
    ]);
    if control { Reach::Nothing } else { Reach::Writes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_known_by_its_first_word() {
        for (text, reach) in [
            (" SELECT 1;", Reach::Reads),
            ("values (1)", Reach::Reads),
            ("select 1; delete from t", Reach::Writes),
            ("selected", Reach::Writes),
            ("(select 1)", Reach::Writes),
            ("with a as (insert into t values (1)) select 1", Reach::Writes),
            ("/* begin */ copy t from stdin", Reach::Writes),
            ("execute a", Reach::Writes),
            ("Begin", Reach::Nothing),
            ("SET a TO 1", Reach::Nothing),
            ("", Reach::Writes),
        ] {
            assert_eq!(of(text.as_bytes()), reach, "{text}");
        }
    }
}
