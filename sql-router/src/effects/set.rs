//! SET and RESET: which parameters have which values from then on. Pure.
//!
//! Source: PostgreSQL manual, "SET", "RESET" and "SET TRANSACTION".

use super::{Effect, name};
use crate::scan::Word;

/// What follows SET.
pub(super) fn of_set(words: &[Word<'_>]) -> Effect {
    let local = matches!(words, [first, second, ..] if first.is("local") && !is_assignment(second));
    if local {
        return match of_set(words.get(1..).unwrap_or_default()) {
            Effect::Set(name, value) => Effect::SetLocal(Some((name, value))),
            _ => Effect::SetLocal(None),
        };
    }
    let session = matches!(words, [first, second, ..] if first.is("session") && !is_assignment(second));
    let words = if session { words.get(1..).unwrap_or_default() } else { words };
    match words {
        [first, ..] if first.is("transaction") || first.is("constraints") => Effect::SetLocal(None),
        [first, second, third, modes @ ..]
            if first.is("characteristics") && second.is("as") && third.is("transaction") =>
        {
            characteristics(modes).map_or(Effect::Unknown, Effect::Characteristics)
        }
        [first, second, value] if first.is("xml") && second.is("option") => special("xmloption", value),
        [first, second, value] if first.is("time") && second.is("zone") => special("timezone", value),
        [first, value] if first.is("authorization") => special("session_authorization", value),
        [first, value] if first.is("role") => special("role", value),
        [first, value] if first.is("names") => special("client_encoding", value),
        [first, Word::Text(schema)] if first.is("schema") => {
            Effect::Set("search_path".into(), quoted(schema))
        }
        _ => of_assignment(words),
    }
}

fn is_assignment(word: &Word<'_>) -> bool {
    word.is("to") || *word == Word::Symbol('=') || *word == Word::Symbol('.')
}

/// The value of a form that takes one word: `SET ROLE x`.
fn special(parameter: &str, value: &Word<'_>) -> Effect {
    match value {
        word if word.is("default") || word.is("local") => Effect::Reset(parameter.into()),
        Word::Bare(word) => Effect::Set(parameter.into(), word.to_lowercase()),
        Word::Quoted(text) | Word::Text(text) => Effect::Set(parameter.into(), text.clone()),
        Word::Number(number) => Effect::Set(parameter.into(), (*number).to_owned()),
        Word::Symbol(_) | Word::End => Effect::Unknown,
    }
}

/// `name[.name] { TO | = } value [, ...]`
fn of_assignment(words: &[Word<'_>]) -> Effect {
    let Some((parameter, rest)) = parameter(words) else { return Effect::Unknown };
    let [assignment, values @ ..] = rest else { return Effect::Unknown };
    if !(assignment.is("to") || *assignment == Word::Symbol('=')) {
        return Effect::Unknown;
    }
    if let [only] = values
        && only.is("default")
    {
        return Effect::Reset(parameter);
    }
    let elements: Option<Vec<String>> = values
        .split(|word| *word == Word::Symbol(','))
        .map(|element| of_value(element, &parameter))
        .collect();
    match elements {
        Some(elements) => Effect::Set(parameter, elements.join(", ")),
        None => Effect::Unknown,
    }
}

/// A parameter's name, with a prefix where it has one.
pub(super) fn parameter<'a, 'b>(words: &'b [Word<'a>]) -> Option<(String, &'b [Word<'a>])> {
    let first = name(words)?.to_lowercase();
    match words.get(1..)? {
        [Word::Symbol('.'), rest @ ..] => {
            Some((format!("{first}.{}", name(rest)?.to_lowercase()), rest.get(1..)?))
        }
        rest => Some((first, rest)),
    }
}

/// One element of a SET. In a list of identifiers each is written so that it is read as it was meant.
fn of_value(words: &[Word<'_>], parameter: &str) -> Option<String> {
    let list = is_list(parameter);
    match words {
        [Word::Bare(word)] if list => Some(quoted(&word.to_lowercase())),
        [Word::Quoted(text) | Word::Text(text)] if list => Some(quoted(text)),
        [Word::Bare(word)] => Some((*word).to_owned()),
        [Word::Quoted(text) | Word::Text(text)] => Some(text.clone()),
        [Word::Number(number)] => Some((*number).to_owned()),
        [Word::Symbol(sign @ ('-' | '+')), Word::Number(number)] => Some(format!("{sign}{number}")),
        _ => None,
    }
}

/// Parameters that hold a list of identifiers.
#[must_use]
pub fn is_list(parameter: &str) -> bool {
    matches!(
        parameter,
        "search_path" | "temp_tablespaces" | "local_preload_libraries" | "session_preload_libraries"
    )
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// What follows RESET.
pub(super) fn of_reset(words: &[Word<'_>]) -> Effect {
    match words {
        [only] if only.is("all") => Effect::ResetAll,
        [first, second] if first.is("time") && second.is("zone") => Effect::Reset("timezone".into()),
        [first, second] if first.is("session") && second.is("authorization") => {
            Effect::Reset("session_authorization".into())
        }
        [first, ..] if first.is("transaction") => Effect::SetLocal(None),
        _ => match parameter(words) {
            Some((parameter, [])) => Effect::Reset(parameter),
            _ => Effect::Unknown,
        },
    }
}

/// The modes of SET SESSION CHARACTERISTICS AS TRANSACTION, as the settings that they are.
fn characteristics(modes: &[Word<'_>]) -> Option<Vec<(&'static str, String)>> {
    let is = |words: &[Word<'_>], text: &str| {
        words.len() == text.split(' ').count()
            && words.iter().zip(text.split(' ')).all(|(word, text)| word.is(text))
    };
    let mut settings = Vec::new();
    let mut rest = modes;
    while !rest.is_empty() {
        let forms = [
            ("isolation level serializable", "default_transaction_isolation", "serializable"),
            ("isolation level repeatable read", "default_transaction_isolation", "repeatable read"),
            ("isolation level read committed", "default_transaction_isolation", "read committed"),
            ("isolation level read uncommitted", "default_transaction_isolation", "read uncommitted"),
            ("read only", "default_transaction_read_only", "on"),
            ("read write", "default_transaction_read_only", "off"),
            ("deferrable", "default_transaction_deferrable", "on"),
            ("not deferrable", "default_transaction_deferrable", "off"),
        ];
        let found = forms.into_iter().find_map(|(text, name, value)| {
            let length = text.split(' ').count();
            is(rest.get(..length)?, text).then_some((length, name, value))
        });
        let (length, name, value) = found?;
        settings.push((name, value.to_owned()));
        rest = rest.get(length..)?;
        rest = rest.strip_prefix(&[Word::Symbol(',')]).unwrap_or(rest);
    }
    Some(settings)
}
