//! Whether a word before a parenthesis is part of the grammar or the name of a function. Pure.
//!
//! Some key words are never names of functions. Others may be, and what is before them decides. When in doubt it is a
//! call: a function that nobody looks for can change a session, and the next client would have what it has set. (Who can
//! ask the database whether there is such a function takes [`crate::keywords::is_syntax`].)
//!
//! Source: PostgreSQL manual, appendix "SQL Key Words": "reserved" and "cannot be function or type".

use crate::keywords::{Standing, standing};
use std::collections::HashSet;
use std::sync::LazyLock;

/// Key words that are not reserved, and never the name of a function either.
static NEVER_CALLED: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    "between bit char character coalesce dec decimal exists extract float greatest grouping int integer interval \
     least national nchar nullif numeric overlay position precision real row smallint substring time timestamp \
     treat trim values varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlparse xmlpi xmlroot \
     xmlserialize xmltable"
        .split_ascii_whitespace()
        .collect()
});

/// Key words that may be names of functions, and the words behind which they are none.
const SYNTAX_BEHIND: [(&str, &[&str]); 13] = [
    ("bernoulli", &["tablesample"]),
    ("by", &["group", "order", "partition"]),
    ("conflict", &["on"]),
    ("cube", &["by"]),
    ("insert", &["then"]),
    ("key", &["foreign", "primary"]),
    ("materialized", &["as", "not"]),
    ("rollup", &["by"]),
    ("sets", &["grouping"]),
    ("system", &["tablesample"]),
    ("varying", &["bit", "char", "character", "nchar"]),
    ("verbose", &["analyze", "explain"]),
    ("zone", &["time"]),
];

/// Key words that may be names of functions, and are none behind what can be an operand.
const SYNTAX_BEHIND_OPERANDS: [&str; 4] = ["ilike", "join", "like", "set"];

/// What is before a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before<'a> {
    /// Nothing: it is the first of its statement. No statement begins with a call.
    Nothing,
    /// A word without quotes, as written.
    Word(&'a str),
    /// A string, a number, a name in quotes, or the end of an expression in parentheses or brackets.
    Operand,
    /// Any other character.
    Symbol,
}

/// Whether `word` (in lower case), which is followed by a parenthesis, is part of the grammar.
#[must_use]
pub fn is_syntax(word: &str, before: Before<'_>) -> bool {
    if before == Before::Nothing
        || standing(word.as_bytes()) == Standing::Reserved
        || NEVER_CALLED.contains(word)
    {
        return true;
    }
    if let Some((_, behind)) = SYNTAX_BEHIND.iter().find(|(known, _)| *known == word) {
        return matches!(before, Before::Word(other) if behind.iter().any(|word| other.eq_ignore_ascii_case(word)));
    }
    SYNTAX_BEHIND_OPERANDS.contains(&word) && may_be_operand(before)
}

fn may_be_operand(before: Before<'_>) -> bool {
    match before {
        Before::Nothing | Before::Symbol => false,
        Before::Operand => true,
        Before::Word(word) => {
            let word = word.to_ascii_lowercase();
            word != "by" && standing(word.as_bytes()) != Standing::Reserved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_before_a_word_decides_whether_it_is_called() {
        let behind = |before| move |word| is_syntax(word, Before::Word(before));
        for (before, word) in [
            ("GROUPING", "sets"),
            ("by", "rollup"),
            ("order", "by"),
            ("as", "materialized"),
            ("Primary", "key"),
            ("t", "set"),
            ("update", "set"),
            ("a", "like"),
            ("left", "join"),
            ("select", "values"),
            ("where", "not"),
        ] {
            assert!(behind(before)(word), "{before} {word}");
        }
        for (before, word) in [
            ("select", "sets"),
            ("select", "by"),
            ("where", "rollup"),
            ("and", "like"),
            ("by", "join"),
            ("select", "isnull"),
            ("select", "over"),
            ("select", "set"),
            ("select", "explain"),
            ("select", "mine"),
        ] {
            assert!(!behind(before)(word), "{before} {word}");
        }
        assert!(is_syntax("explain", Before::Nothing) && is_syntax("like", Before::Operand));
        assert!(!is_syntax("set", Before::Symbol) && !is_syntax("join", Before::Symbol));
    }
}
