//! How far a text reaches: whether it may run what it does not name, such as triggers and views. By its first word. Pure.

use crate::scan::{begins_with, trimmed};

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

/// First words of what only reads.
const READS: [&str; 5] = ["select", "values", "table", "fetch", "move"];

/// First words of what runs nothing. What a COMMIT runs was put off by a statement before it.
const CONTROL: [&str; 18] = [
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
];

/// The reach of a text. In doubt it writes.
#[must_use]
pub fn of(text: &[u8]) -> Reach {
    let text = trimmed(text);
    let text = text.strip_suffix(b";").unwrap_or(text);
    let has_several = text.contains(&b';');
    if !has_several && begins_with(text, &READS) {
        Reach::Reads
    } else if !has_several && begins_with(text, &CONTROL) {
        Reach::Nothing
    } else {
        Reach::Writes
    }
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
