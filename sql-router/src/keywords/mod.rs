//! Key words of PostgreSQL's grammar: which word can be a name, and which is syntax. Pure.

use std::collections::HashSet;
use std::sync::LazyLock;

/// How the grammar takes a word without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Never a name.
    Reserved,
    /// Syntax in some places, a name in others.
    Keyword,
    /// A name.
    Name,
}

fn words(text: &'static str) -> HashSet<&'static [u8]> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_ascii_whitespace)
        .map(str::as_bytes)
        .collect()
}

static RESERVED: LazyLock<HashSet<&'static [u8]>> = LazyLock::new(|| words(include_str!("reserved.txt")));
static OTHERS: LazyLock<HashSet<&'static [u8]>> = LazyLock::new(|| words(include_str!("others.txt")));

/// How the grammar takes `word`, folded.
#[must_use]
pub fn standing(word: &[u8]) -> Standing {
    if RESERVED.contains(word) {
        Standing::Reserved
    } else if OTHERS.contains(word) {
        Standing::Keyword
    } else {
        Standing::Name
    }
}

/// Key words, not reserved, behind which a parenthesis belongs to the syntax and not to a function. All but the last
/// lines could be names of functions too: who has such a function must be asked first.
const BEFORE_PARENTHESES: &[&str] = &[
    "between",
    "bigint",
    "bit",
    "by",
    "char",
    "character",
    "coalesce",
    "collation",
    "columns",
    "cube",
    "cycle",
    "dec",
    "decimal",
    "exists",
    "extract",
    "filter",
    "float",
    "greatest",
    "grouping",
    "ilike",
    "int",
    "integer",
    "interval",
    "is",
    "join",
    "least",
    "like",
    "materialized",
    "national",
    "nchar",
    "next",
    "first",
    "normalize",
    "nullif",
    "numeric",
    "operator",
    "over",
    "overlaps",
    "overlay",
    "partition",
    "passing",
    "position",
    "precision",
    "range",
    "rollup",
    "row",
    "rows",
    "second",
    "sets",
    "similar",
    "smallint",
    "substring",
    "time",
    "timestamp",
    "trim",
    "values",
    "varchar",
    "varying",
    "verbose",
    "within",
    "without",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
    "zone",
    "escape",
    "repeatable",
    "json",
    "ordinality",
    "value",
    "groups",
];

static SYNTAX: LazyLock<HashSet<&'static [u8]>> =
    LazyLock::new(|| BEFORE_PARENTHESES.iter().map(|word| word.as_bytes()).collect());

/// Whether a parenthesis behind `word`, folded and without quotes, can be mere syntax.
#[must_use]
pub fn is_syntax(word: &[u8]) -> bool {
    SYNTAX.contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_where_the_grammar_has_them() {
        assert_eq!(standing(b"select"), Standing::Reserved);
        assert_eq!(standing(b"treat"), Standing::Keyword);
        assert_eq!(standing(b"json_table"), Standing::Keyword);
        assert_eq!(standing(b"nextval"), Standing::Name);
        assert!(is_syntax(b"over") && !is_syntax(b"treat"));
    }
}
