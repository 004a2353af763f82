//! `SHOW` of what only we know, turned into a query that a server answers. Pure.
//!
//! The settings `hawser.…` are on the server like any other, since PostgreSQL takes every name with a dot; so they are
//! right in transactions and behind a `SET LOCAL`. But it refuses to show one that the session has never set, and knows
//! no default of ours.

use hawser_wire::encode;
use hawser_wire::frame;
use hawser_wire::tag::frontend;

/// What holds for a session that has set nothing.
#[derive(Debug, Clone, Copy)]
pub struct OwnDefaults {
    /// Of `hawser.route`.
    pub route: &'static str,
    /// Of `hawser.consistency`.
    pub consistency: &'static str,
}

/// Words that each setting takes; what is none of them counts for nothing.
const ROUTES: &str = "'auto', 'primary', 'standby'";
const CONSISTENCIES: &str = "'session', 'cluster', 'eventual'";

/// Longest text that is looked at.
const LONGEST: usize = 60;

/// The message to send in the place of this one; `None`: it is not about us.
#[inline]
pub(super) fn instead(tag: u8, body: &[u8], defaults: OwnDefaults) -> Option<Vec<u8>> {
    let (name, text, types) = match tag {
        frontend::QUERY => (None, body.strip_suffix(b"\0")?, [].as_slice()),
        frontend::PARSE => {
            let (name, rest) = frame::c_string(body)?;
            let (text, types) = frame::c_string(rest)?;
            (Some(name), text, types)
        }
        _ => return None,
    };
    if text.len() > LONGEST || !is_show(text) {
        return None;
    }
    let query = query(std::str::from_utf8(text).ok()?, defaults)?;
    let mut message = Vec::new();
    match name {
        None => encode::query(&mut message, &query),
        Some(name) => encode::parse(&mut message, name, query.as_bytes(), types),
    }
    Some(message)
}

fn is_show(text: &[u8]) -> bool {
    text.trim_ascii_start().get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"show"))
}

/// What to ask instead of `text`.
fn query(text: &str, defaults: OwnDefaults) -> Option<String> {
    let text = text.trim();
    let mut words = text.strip_suffix(';').unwrap_or(text).split_ascii_whitespace();
    let (show, name) = (words.next()?, words.next()?.to_ascii_lowercase());
    if !show.eq_ignore_ascii_case("show") || words.next().is_some() {
        return None;
    }
    let set = format!("pg_catalog.lower(pg_catalog.current_setting('{name}', true))");
    let one_of = |words: &str, default: &str| {
        format!(
            "CASE WHEN {set} OPERATOR(pg_catalog.=) ANY (ARRAY[{words}]) THEN {set} ELSE '{default}'::pg_catalog.text END"
        )
    };
    let value = match name.as_str() {
        "hawser.route" => one_of(ROUTES, defaults.route),
        "hawser.consistency" => one_of(CONSISTENCIES, defaults.consistency),
        "hawser.min_lsn" => format!("COALESCE(pg_catalog.upper({set}), '')"),
        // Whatever was written before now is before this position.
        "hawser.write_lsn" => "pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text".to_owned(),
        _ => return None,
    };
    Some(format!("SELECT {value} AS \"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: OwnDefaults = OwnDefaults { route: "auto", consistency: "session" };

    fn of_query(text: &str) -> Option<String> {
        let message = instead(frontend::QUERY, format!("{text}\0").as_bytes(), DEFAULTS)?;
        Some(String::from_utf8(message.get(5..message.len() - 1)?.to_vec()).unwrap())
    }

    #[test]
    fn only_a_show_of_ours_and_nothing_else_is_answered_by_us() {
        let asked = of_query("SHOW hawser.write_lsn;").unwrap();
        assert!(asked.starts_with("SELECT pg_catalog.pg_current_wal_insert_lsn()"), "{asked}");
        assert!(asked.ends_with("AS \"hawser.write_lsn\""), "{asked}");
        assert!(of_query(" show HAWSER.route ").unwrap().contains("ELSE 'auto'"));
        for text in ["SHOW search_path", "SHOW hawser.route; SELECT 1", "SELECT 1", "", "SHOW hawser.routes"]
        {
            assert_eq!(of_query(text), None, "{text}");
        }
    }

    #[test]
    fn a_statement_keeps_its_name_and_its_types() {
        let mut parse = Vec::new();
        encode::parse(&mut parse, b"s", b"SHOW hawser.consistency", &[0, 0]);
        let message = instead(frontend::PARSE, &parse[5..], DEFAULTS).unwrap();
        let found = hawser_wire::frontend::parse(&message[5..]).unwrap();
        assert_eq!((found.name, found.types), (b"s".as_slice(), [0, 0].as_slice()));
        assert!(found.text.starts_with(b"SELECT CASE"));
        assert_eq!(instead(frontend::BIND, b"SHOW hawser.route\0", DEFAULTS), None);
    }
}
