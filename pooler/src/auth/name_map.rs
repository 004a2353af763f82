//! Name maps: which outside name (of a certificate, of a process) may log in as which user, as in pg_ident.conf.
//! Pure. Regular expressions are the `regex` crate's: PostgreSQL's back-references inside a pattern are
//! refused when the file is read.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use super::tokens::{self, Word};

/// Bounds what a pattern may cost.
const PATTERN_SIZE: usize = 1 << 20;

/// One line of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The outside name.
    pub system: SystemName,
    /// The user that it may be.
    pub user: MappedUser,
}

/// The outside name of a [`Mapping`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemName {
    /// Exactly this one.
    Literal(String),
    /// Written with a leading slash: any name that fits the regular expression.
    Pattern(Pattern),
}

/// The user of a [`Mapping`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappedUser {
    /// `all`: any user.
    All,
    /// Exactly this one.
    Literal(String),
    /// With `\1`, for which the first group of the system name's pattern is put.
    Template(String),
    /// Written with a leading slash: any user that fits.
    Pattern(Pattern),
}

/// A regular expression; equal when written alike.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Compiles a regular expression, without the leading slash.
    pub fn new(text: &str) -> Result<Self, Problem> {
        RegexBuilder::new(text)
            .size_limit(PATTERN_SIZE)
            .build()
            .map(Self)
            .map_err(|error| Problem::Pattern(text.to_owned(), error.to_string()))
    }
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct MapError {
    /// Line in the file, from 1.
    pub line: u32,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// Not three fields of one word each.
    #[error("expected a map name, a system user name and a database user name")]
    Shape,
    /// A quote is not closed.
    #[error("a double quote is not closed")]
    OpenQuote,
    /// `+role`, which would need the server's role tree.
    #[error("\"{0}\": group names are not supported, name the users")]
    Group(String),
    /// `include` and its kin, or `@file`.
    #[error("\"{0}\": included files are not supported, write the lines here")]
    Include(String),
    /// A regular expression that does not compile.
    #[error("invalid regular expression \"{0}\": {1}")]
    Pattern(String, String),
    /// `\1` without a group to take it from.
    #[error("\"{0}\": \\1 needs a system user name that is a regular expression with a group in parentheses")]
    NoGroup(String),
}

/// Reads the whole of a pg_ident.conf into its maps, or names every line that is wrong.
pub fn parse(text: &str) -> Result<BTreeMap<String, Vec<Mapping>>, Vec<MapError>> {
    let mut maps: BTreeMap<String, Vec<Mapping>> = BTreeMap::new();
    let mut errors = Vec::new();
    for line in tokens::lines(text) {
        match parse_line(line.fields) {
            Ok((name, mapping)) => maps.entry(name).or_default().push(mapping),
            Err(problem) => errors.push(MapError { line: line.number, problem }),
        }
    }
    if errors.is_empty() { Ok(maps) } else { Err(errors) }
}

fn parse_line(fields: Option<Vec<tokens::Field>>) -> Result<(String, Mapping), Problem> {
    let fields = fields.ok_or(Problem::OpenQuote)?;
    if let Some([first, ..]) = fields.first().map(Vec::as_slice)
        && ["include", "include_if_exists", "include_dir"].iter().any(|word| first.is(word))
    {
        return Err(Problem::Include(first.text.clone()));
    }
    let mut words = fields.into_iter().map(|field| match <[Word; 1]>::try_from(field) {
        Ok([word]) if word.begins('@') => Err(Problem::Include(word.text)),
        Ok([word]) => Ok(word),
        Err(_) => Err(Problem::Shape),
    });
    let (Some(name), Some(system), Some(user), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Problem::Shape);
    };
    Ok((name?.text, Mapping::from_words(system?, user?)?))
}

impl Mapping {
    /// A mapping from its two columns as written without quotes, as settings files have them.
    pub fn parse(system: &str, user: &str) -> Result<Self, Problem> {
        let word = |text: &str| Word { text: text.to_owned(), quoted: false };
        Self::from_words(word(system), word(user))
    }

    fn from_words(system: Word, user: Word) -> Result<Self, Problem> {
        let system = match system.text.strip_prefix('/') {
            Some(pattern) => SystemName::Pattern(Pattern::new(pattern)?),
            None => SystemName::Literal(system.text),
        };
        let user = if user.is("all") {
            MappedUser::All
        } else if user.begins('+') {
            return Err(Problem::Group(user.text));
        } else if let Some(pattern) = user.text.strip_prefix('/') {
            MappedUser::Pattern(Pattern::new(pattern)?)
        } else if !user.quoted && user.text.contains(r"\1") {
            match &system {
                // The whole match counts as a group too.
                SystemName::Pattern(pattern) if pattern.0.captures_len() > 1 => {}
                _ => return Err(Problem::NoGroup(user.text)),
            }
            MappedUser::Template(user.text)
        } else {
            MappedUser::Literal(user.text)
        };
        Ok(Self { system, user })
    }

    fn permits(&self, system: &str, user: &str) -> bool {
        let first_group = match &self.system {
            SystemName::Literal(name) if name == system => None,
            SystemName::Literal(_) => return false,
            SystemName::Pattern(pattern) => match pattern.0.captures(system) {
                Some(found) => found.get(1).map(|group| group.as_str()),
                None => return false,
            },
        };
        match &self.user {
            MappedUser::All => true,
            MappedUser::Literal(name) => name == user,
            MappedUser::Pattern(pattern) => pattern.0.is_match(user),
            MappedUser::Template(template) => {
                first_group.is_some_and(|group| template.replacen(r"\1", group, 1) == user)
            }
        }
    }
}

/// Whether whoever is called `system` outside may log in as `user`. Without a map the names must be equal.
#[must_use]
pub fn permits(map: Option<&[Mapping]>, system: &str, user: &str) -> bool {
    match map {
        None => system == user,
        Some(map) => map.iter().any(|mapping| mapping.permits(system, user)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(text: &str) -> Vec<Mapping> {
        parse(text).unwrap().remove("m").unwrap()
    }

    #[test]
    fn names_are_mapped_as_postgresql_maps_them() {
        let table = [
            ("m anna app", "anna", "app", true),
            ("m anna app", "anna", "anna", false),
            ("m anna app", "bob", "app", false),
            ("m anna all", "anna", "whoever", true),
            (r#"m anna "all""#, "anna", "whoever", false),
            (r#"m anna "all""#, "anna", "all", true),
            (r"m /^(.*)@example\.com$ \1", "anna@example.com", "anna", true),
            (r"m /^(.*)@example\.com$ \1", "anna@example.org", "anna", false),
            (r"m /^(.*)@example\.com$ \1_ro", "anna@example.com", "anna_ro", true),
            (r#"m /^(.*)@x$ "\1""#, "anna@x", "anna", false),
            (r"m /^a app", "anna", "app", true),
            (r"m /^(x)?anna$ \1", "anna", "", false),
            (r"m anna /^app_", "anna", "app_one", true),
            (r"m anna /^app_", "anna", "one_app", false),
        ];
        for (line, system, user, expected) in table {
            assert_eq!(permits(Some(&map(line)), system, user), expected, "{line}: {system} as {user}");
        }
        assert!(permits(None, "anna", "anna"));
        assert!(!permits(None, "anna", "bob"));
        assert!(!permits(Some(&[]), "anna", "anna"));
    }

    #[test]
    fn a_group_that_holds_regex_signs_is_put_in_as_it_is() {
        assert!(permits(Some(&map(r"m /^(.*)@x$ \1")), "$1@x", "$1"));
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text = "# c\nm a\nm a b c\nm a,b c\nm a +g\nm a \"b\ninclude x\nm /( b\nm a \\1\nm /a \\1\nm a b\nm @f b\n";
        let errors = parse(text).unwrap_err();
        let lines: Vec<u32> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]);
        assert_eq!(errors[3].problem, Problem::Group("+g".into()));
        assert_eq!(errors[4].problem, Problem::OpenQuote);
        assert!(errors[7].to_string().starts_with("line 9: \"\\1\""), "{}", errors[7]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(m |all|[ -~]|\n|/|\\\\1|é)*", system in ".*") {
            if let Ok(maps) = parse(&text) {
                for map in maps.values() {
                    let _ = permits(Some(map), &system, "x");
                }
            }
        }
    }
}
