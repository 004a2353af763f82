//! Pure. From a value as written to a value of the setting's kind, and back to text.

use std::fmt::Write;
use std::time::Duration;

use super::finding::{Source, closest};
use super::raw::Value;
use super::reference::{Kind, Preset, Setting};
use super::units::{UnitError, format_duration, format_size, parse_duration, parse_size};

/// A value of the right kind.
#[derive(Clone, PartialEq)]
pub enum Parsed {
    /// [`Kind::Switch`].
    Switch(bool),
    /// [`Kind::Count`].
    Count(u64),
    /// [`Kind::Fraction`].
    Fraction(f64),
    /// [`Kind::Duration`] and [`Kind::DurationOrOff`], zero for off.
    Duration(Duration),
    /// [`Kind::Size`].
    Size(usize),
    /// [`Kind::Text`], [`Kind::Path`] and [`Kind::Secret`].
    Text(String),
    /// [`Kind::Permissions`].
    Permissions(u32),
    /// [`Kind::Word`].
    Word(&'static str),
    /// [`Kind::List`] and [`Kind::Secrets`].
    List(Vec<(String, Source)>),
    /// [`Kind::Pairs`].
    Pairs(Vec<(String, String)>),
}

/// Why a value does not fit its setting. Never repeats a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub suggestion: Option<String>,
}

/// Reads a value as the kind of its setting says. `source` is given to the items of a list that was one text.
pub fn parse(setting: &Setting, value: &Value, source: &Source) -> Result<Parsed, Misfit> {
    let misfit = || Misfit {
        what: format!("{} is not {}", shown(setting, value), expected(setting.kind)),
        suggestion: None,
    };
    match (setting.kind, value) {
        (Kind::Switch, Value::Switch(switch)) => Ok(Parsed::Switch(*switch)),
        (Kind::Switch, Value::Text(text)) => parse_switch(text).map(Parsed::Switch).ok_or_else(misfit),
        (Kind::Count { least, most }, Value::Integer(_) | Value::Text(_)) => {
            let number = match value {
                Value::Integer(number) => u64::try_from(*number).ok(),
                Value::Text(text) => text.trim().parse().ok(),
                _ => None,
            };
            number.filter(|number| (least..=most).contains(number)).map(Parsed::Count).ok_or_else(misfit)
        }
        (Kind::Fraction { most }, _) => {
            let number = match value {
                Value::Integer(number) => Some(*number as f64),
                Value::Fraction(number) => Some(*number),
                Value::Text(text) => text.trim().parse().ok(),
                _ => None,
            };
            let fits = |number: &f64| (0.0..=most).contains(number);
            number.filter(fits).map(Parsed::Fraction).ok_or_else(misfit)
        }
        (Kind::Duration | Kind::DurationOrOff, _) => duration(setting, value),
        (Kind::Size { least }, _) => {
            let size = match value {
                Value::Integer(bytes) => usize::try_from(*bytes).map_err(|_| UnitError::TooLarge),
                Value::Text(text) => parse_size(text),
                _ => return Err(misfit()),
            };
            match size {
                Ok(size) if size >= least => Ok(Parsed::Size(size)),
                Ok(_) => Err(misfit()),
                Err(error) => Err(with_unit(setting, value, error, "MB")),
            }
        }
        (Kind::Text | Kind::Path | Kind::Secret, Value::Text(text)) => Ok(Parsed::Text(text.clone())),
        (Kind::Permissions, Value::Text(text)) => {
            let digits = text.trim().trim_start_matches("0o");
            let bits = u32::from_str_radix(digits, 8).ok().filter(|bits| *bits <= 0o777);
            bits.map(Parsed::Permissions).ok_or_else(misfit)
        }
        (Kind::Word(words), Value::Text(text)) => {
            let found = words.iter().find(|word| word.eq_ignore_ascii_case(text.trim()));
            found.map(|word| Parsed::Word(word)).ok_or_else(|| {
                let meant = closest(text, words.iter().copied());
                Misfit { suggestion: meant.map(|meant| format!("did you mean \"{meant}\"?")), ..misfit() }
            })
        }
        (Kind::List | Kind::Secrets, Value::List(items)) => Ok(Parsed::List(items.clone())),
        (Kind::List, Value::Text(text)) => Ok(Parsed::List(split_list(setting.name, text, source))),
        (Kind::Secrets, Value::Text(text)) => Ok(Parsed::List(vec![(text.clone(), source.clone())])),
        (Kind::Pairs, Value::Pairs(pairs)) => Ok(Parsed::Pairs(pairs.clone())),
        _ => Err(misfit()),
    }
}

/// The default of a setting as a value, if it has one.
pub fn preset(setting: &Setting) -> Option<Parsed> {
    let Preset::Value(text) = setting.preset else { return None };
    parse(setting, &Value::Text(text.to_owned()), &Source::Default).ok()
}

/// A list in one text, as the environment and PgBouncer have it. Rules and maps hold commas, so they part at line ends.
fn split_list(name: &str, text: &str, source: &Source) -> Vec<(String, Source)> {
    let is_lines = matches!(name, "auth.rules" | "auth.name_maps");
    let parts: Vec<&str> = if is_lines { text.lines().collect() } else { text.split(',').collect() };
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| (part.to_owned(), source.clone())).collect()
}

/// Reads a switch as PostgreSQL and PgBouncer write it.
pub fn parse_switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn duration(setting: &Setting, value: &Value) -> Result<Parsed, Misfit> {
    let parsed = match value {
        Value::Integer(0) => Ok(Duration::ZERO),
        Value::Integer(_) | Value::Fraction(_) => Err(UnitError::NoUnit),
        Value::Text(text) if text.trim().eq_ignore_ascii_case("off") => Ok(Duration::ZERO),
        Value::Text(text) => parse_duration(text),
        _ => Err(UnitError::NoNumber),
    };
    match parsed {
        Ok(Duration::ZERO) if setting.kind == Kind::Duration => {
            Err(Misfit { what: "cannot be 0".to_owned(), suggestion: None })
        }
        Ok(duration) => Ok(Parsed::Duration(duration)),
        Err(error) => Err(with_unit(setting, value, error, "s")),
    }
}

/// What is wrong with a duration or size, with the likely unit where only that is missing.
fn with_unit(setting: &Setting, value: &Value, error: UnitError, unit: &str) -> Misfit {
    let suggestion = match (error, value) {
        (UnitError::NoUnit, Value::Integer(number)) => format!("write \"{number}{unit}\""),
        (UnitError::NoUnit, Value::Text(text)) => format!("write \"{}{unit}\"", text.trim()),
        (_, _) if unit == "s" => "write it as \"500ms\", \"30s\", \"10min\", \"1h\" or \"1d\"".to_owned(),
        _ => "write it as \"64kB\", \"256MB\" or \"1GB\"".to_owned(),
    };
    Misfit { what: format!("{} {error}", shown(setting, value)), suggestion: Some(suggestion) }
}

/// The kind in a sentence: "is not …".
fn expected(kind: Kind) -> String {
    match kind {
        Kind::Word(words) => format!("one of {}", words.join(", ")),
        Kind::Count { .. } | Kind::Fraction { .. } => {
            let words = kind.in_words();
            let bounds = words.trim_start_matches("number, ");
            if bounds.starts_with("at least") {
                format!("a number of {bounds}")
            } else {
                format!("a number from {bounds}")
            }
        }
        Kind::Switch => kind.in_words(),
        Kind::Size { .. } | Kind::Text | Kind::Path | Kind::Secret => format!("a {}", kind.in_words()),
        Kind::Permissions => "permission bits in octal, such as \"0770\"".to_owned(),
        Kind::Duration | Kind::DurationOrOff => "a duration".to_owned(),
        Kind::List | Kind::Pairs | Kind::Secrets => format!("a {}", kind.in_words()),
    }
}

/// A value for a message; secrets are not shown.
fn shown(setting: &Setting, value: &Value) -> String {
    match value {
        _ if setting.kind.is_secret() => "the value".to_owned(),
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Fraction(number) => number.to_string(),
        Value::Switch(switch) => switch.to_string(),
        Value::List(_) => "a list".to_owned(),
        Value::Pairs(_) => "a table".to_owned(),
    }
}

impl Parsed {
    /// The value as text, for SHOW CONFIG; a secret is `hidden`.
    pub fn text(&self, setting: &Setting) -> String {
        if setting.kind.is_secret() {
            return "hidden".to_owned();
        }
        match self {
            Self::Switch(switch) => switch.to_string(),
            Self::Count(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Duration(duration) => format_duration(*duration),
            Self::Size(bytes) => format_size(*bytes),
            Self::Text(text) => text.clone(),
            Self::Permissions(bits) => format!("{bits:04o}"),
            Self::Word(word) => (*word).to_owned(),
            Self::List(items) => {
                let separator = if setting.name.starts_with("auth.") { "; " } else { ", " };
                items.iter().map(|(item, _)| item.as_str()).collect::<Vec<_>>().join(separator)
            }
            Self::Pairs(pairs) => pairs.iter().fold(String::new(), |mut text, (name, value)| {
                let _ = write!(text, "{}{name}={value}", if text.is_empty() { "" } else { ", " });
                text
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{DATABASE, GLOBAL, USER, find};
    use super::*;

    fn told(name: &str, value: Value) -> String {
        match parse(find(GLOBAL, name).unwrap(), &value, &Source::Default) {
            Ok(parsed) => format!("= {}", parsed.text(find(GLOBAL, name).unwrap())),
            Err(Misfit { what, suggestion: Some(suggestion) }) => format!("{what}; {suggestion}"),
            Err(Misfit { what, suggestion: None }) => what,
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn every_default_fits_its_setting() {
        for setting in [GLOBAL, DATABASE, USER].concat() {
            if let Preset::Value(text) = setting.preset {
                let value = Value::Text(text.to_owned());
                assert!(parse(&setting, &value, &Source::Default).is_ok(), "{}", setting.name);
            }
        }
    }

    #[test]
    fn values_fit_or_it_is_said_why_not() {
        let cases = [
            ("pool.size", Value::Integer(5), "= 5"),
            ("pool.size", text(" 5"), "= 5"),
            ("pool.size", Value::Integer(0), "0 is not a number of at least 1"),
            ("pool.size", Value::Integer(-1), "-1 is not a number of at least 1"),
            ("pool.size", text("many"), "\"many\" is not a number of at least 1"),
            (
                "pool.mode",
                text("transction"),
                "\"transction\" is not one of session, transaction, statement; did you mean \"transaction\"?",
            ),
            ("pool.mode", Value::Switch(true), "true is not one of session, transaction, statement"),
            ("pool.lifetime_jitter", Value::Fraction(0.2), "= 0.2"),
            ("pool.lifetime_jitter", Value::Fraction(0.6), "0.6 is not a number from 0.0 to 0.5"),
            ("pool.server_lifetime", text("90s"), "= 90s"),
            ("pool.server_lifetime", Value::Integer(0), "= 0"),
            ("pool.server_lifetime", text("off"), "= 0"),
            ("pool.server_lifetime", Value::Integer(90), "90 has no unit; write \"90s\""),
            (
                "pool.server_lifetime",
                text("soon"),
                "\"soon\" does not start with a number; write it as \"500ms\", \"30s\", \"10min\", \"1h\" or \"1d\"",
            ),
            ("timeouts.login", text("0"), "cannot be 0"),
            ("limits.max_message", text("1GB"), "= 1GB"),
            ("limits.max_message", text("1"), "\"1\" is not a size, at least 64kB"),
            (
                "limits.max_message",
                text("1 bushel"),
                "\"1 bushel\" has a unit that is not known; write it as \"64kB\", \"256MB\" or \"1GB\"",
            ),
            ("listen.unix_mode", text("0770"), "= 0770"),
            ("listen.unix_mode", text("9"), "\"9\" is not permission bits in octal, such as \"0770\""),
            ("listen.keepalive", text("on"), "= true"),
            ("listen.keepalive", text("perhaps"), "\"perhaps\" is not true or false"),
            ("listen.address", text("a:1, b:2,"), "= a:1, b:2"),
            (
                "auth.rules",
                text("local a,b all trust\nhost all all all reject"),
                "= local a,b all trust; host all all all reject",
            ),
            ("cluster.url", Value::Integer(12345), "the value is not a secret"),
            ("cluster.url", text("postgres://app:topsecret@db/app"), "= hidden"),
        ];
        for (name, value, expected) in cases {
            assert_eq!(told(name, value), expected, "{name}");
        }
    }
}
