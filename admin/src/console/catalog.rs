//! What psql and drivers ask of a server that we are not. Pure.
//!
//! A query of a system catalog is answered with the columns that it names and no row, so that `\d` and tab completion
//! find nothing instead of failing. A SELECT without FROM is answered if it is made of constants and of functions that
//! drivers use to look whom they talk to.

use super::tokens::Token;
use crate::tables::{Kind, Value};

/// An answer that is known without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// No row, under these names.
    Nothing(Vec<String>),
    /// One row.
    Row(Vec<(String, Known)>),
}

/// A value that is known, or that the session knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// A constant.
    Constant(Kind, Value),
    /// The user.
    User,
    /// The database.
    Database,
    /// The version.
    Version,
}

impl Known {
    /// Its type.
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Constant(kind, _) => *kind,
            Self::User | Self::Database | Self::Version => Kind::Text,
        }
    }
}

/// Answers what stands behind SELECT; `None` when this is not for us.
pub(super) fn answer(rest: &[Token]) -> Option<Answer> {
    let items = items(rest);
    if !rest.iter().any(|token| token.is("from")) {
        let row: Option<Vec<_>> = items.iter().map(|item| constant(item)).collect();
        return row.filter(|row| !row.is_empty()).map(Answer::Row);
    }
    let of_catalog = rest.iter().any(|token| {
        token.name().is_some_and(|name| {
            name == "information_schema" || (name.starts_with("pg_") && crate::tables::find(&name).is_none())
        })
    });
    of_catalog.then(|| Answer::Nothing(items.iter().map(|item| label(item)).collect()))
}

/// The select list: what stands between commas, outside of parentheses, before FROM.
fn items(rest: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0usize;
    let mut items = Vec::new();
    let mut start = 0;
    let mut end = rest.len();
    for (at, token) in rest.iter().enumerate() {
        match token {
            token if token.is("(") || token.is("[") => depth += 1,
            token if token.is(")") || token.is("]") => depth = depth.saturating_sub(1),
            token if depth == 0 && token.is(",") => {
                items.extend(rest.get(start..at));
                start = at + 1;
            }
            token if depth == 0 && (token.is("from") || token.is("union")) => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    items.extend(rest.get(start..end));
    items.retain(|item| !item.is_empty());
    items
}

/// The name of an item: behind AS, else its last name.
fn label(item: &[Token]) -> String {
    let behind_as = item.iter().rposition(|token| token.is("as")).and_then(|at| item.get(at + 1)?.name());
    let last = || item.last().and_then(Token::name);
    let function = || {
        let open = item.iter().position(|token| token.is("("))?;
        item.get(open.checked_sub(1)?)?.name()
    };
    behind_as.or_else(last).or_else(function).unwrap_or_else(|| "?column?".to_owned())
}

/// An item that is a constant or a known function.
fn constant(item: &[Token]) -> Option<(String, Known)> {
    let (body, name) = match item {
        [body @ .., word, name] if word.is("as") => (body, name.name()),
        body => (body, None),
    };
    let body = match body {
        [schema, dot, body @ ..] if schema.is("pg_catalog") && dot.is(".") => body,
        body => body,
    };
    let (preset, known) = match body {
        [Token::Number(number)] => {
            let value = number.parse().map(|number: i32| Known::Constant(Kind::Int4, Value::Int4(number)));
            ("?column?", value.ok()?)
        }
        [Token::Text(text)] => ("?column?", Known::Constant(Kind::Text, Value::text(text))),
        [word] | [word, _, _] if is_call(body) => match word.name()?.as_str() {
            "version" => ("version", Known::Version),
            "current_database" | "current_catalog" => ("current_database", Known::Database),
            "current_user" => ("current_user", Known::User),
            "session_user" => ("session_user", Known::User),
            "user" => ("user", Known::User),
            "current_schema" => ("current_schema", Known::Constant(Kind::Text, Value::Null)),
            "pg_is_in_recovery" => ("pg_is_in_recovery", Known::Constant(Kind::Text, Value::text("f"))),
            _ => return None,
        },
        _ => return None,
    };
    Some((name.unwrap_or_else(|| preset.to_owned()), known))
}

/// A word alone, or with empty parentheses.
fn is_call(body: &[Token]) -> bool {
    match body {
        [_] => true,
        [_, open, close] => open.is("(") && close.is(")"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;

    fn told(text: &str) -> Option<Answer> {
        answer(&tokens(text).unwrap())
    }

    #[test]
    fn a_catalog_is_empty_and_has_the_columns_that_were_asked_for() {
        let names =
            |names: &[&str]| Some(Answer::Nothing(names.iter().map(|&name| name.to_owned()).collect()));
        let list = "n.nspname as \"Schema\", c.relname AS \"Name\", \
                    CASE c.relkind WHEN 'r' THEN 'table' END as \"Type\", pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\" \
                    FROM pg_catalog.pg_class c WHERE c.relkind IN ('r','')";
        assert_eq!(told(list), names(&["Schema", "Name", "Type", "Owner"]));
        assert_eq!(
            told("quote_ident(c.relname), 1 FROM pg_catalog.pg_class c"),
            names(&["quote_ident", "?column?"])
        );
        assert_eq!(told("oid, typname FROM pg_type"), names(&["oid", "typname"]));
        assert_eq!(told("* FROM pools"), None);
    }

    #[test]
    fn constants_and_a_few_functions_are_answered() {
        assert_eq!(
            told("1 AS one, version()"),
            Some(Answer::Row(vec![
                ("one".to_owned(), Known::Constant(Kind::Int4, Value::Int4(1))),
                ("version".to_owned(), Known::Version),
            ]))
        );
        assert_eq!(
            told("pg_catalog.current_database()"),
            Some(Answer::Row(vec![("current_database".to_owned(), Known::Database)]))
        );
        assert_eq!(told("now()"), None);
        assert_eq!(told(""), None);
    }
}
