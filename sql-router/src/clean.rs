//! Which functions leave nothing behind in a session, by their names. Pure.
//!
//! The list holds names of `pg_catalog` that people call, without those that change the session, run SQL that they
//! are given, or make something that lasts. A name that is not on it may do anything: the server is asked
//! afterwards.

use std::collections::HashSet;
use std::sync::LazyLock;

static CLEAN: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("clean_functions.txt").split_ascii_whitespace().collect());

/// Key words before which, or in whose place, a parenthesis is no call.
static KEYWORDS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    "all analyze and any array as between bit by case cast char character check coalesce collate concurrently \
     conflict cross cube current_time current_timestamp dec decimal default delete desc distinct do else end \
     except exists explain extract fetch filter float for from full greatest group grouping having ilike in inner \
     insert int integer intersect interval into is isnull join key lateral least left like limit localtime \
     localtimestamp match materialized national natural nchar not notnull nullif numeric of offset on only or \
     order outer over overlay partition position precision precedes primary range real recursive references \
     returning right rollup row rows select set sets similar smallint some substring symmetric table tablesample \
     bernoulli system then time timestamp to treat trim unique union update using values varchar varying verbose \
     when where window with within without xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlparse xmlpi \
     xmlroot xmlserialize xmltable zone"
        .split_ascii_whitespace()
        .collect()
});

/// Whether a call of `name` (in lower case) leaves nothing behind.
#[must_use]
pub fn is_clean(name: &str) -> bool {
    CLEAN.contains(name)
}

/// Whether `word` (in lower case) before a parenthesis is part of the grammar and no function.
#[must_use]
pub fn is_grammar(word: &str) -> bool {
    KEYWORDS.contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_a_session_is_not_clean() {
        for name in
            ["set_config", "setseed", "pg_advisory_lock", "nextval", "currval", "query_to_xml", "mine"]
        {
            assert!(!is_clean(name), "{name}");
        }
        for name in ["count", "now", "generate_series", "jsonb_set", "pg_advisory_xact_lock"] {
            assert_eq!(is_clean(name), name != "pg_advisory_xact_lock", "{name}");
        }
    }
}
