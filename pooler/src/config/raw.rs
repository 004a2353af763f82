//! Pure. The configuration as written, whoever wrote it: TOML, pgbouncer.ini, a URL, the environment or a flag.
//!
//! Every source is brought into this one form, under the names of [`reference`](super::reference), and only then
//! checked. So a `pgbouncer.ini` and the TOML that means the same cannot come out differently.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::finding::Source;

/// A value as written. `Debug` hides it, for it may be a secret.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Fraction(f64),
    /// True or false.
    Switch(bool),
    /// Several strings, each with its own place.
    List(Vec<(String, Source)>),
    /// Names and strings.
    Pairs(Vec<(String, String)>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(hidden)",
            Self::Integer(_) => "Integer(hidden)",
            Self::Fraction(_) => "Fraction(hidden)",
            Self::Switch(_) => "Switch(hidden)",
            Self::List(_) => "List(hidden)",
            Self::Pairs(_) => "Pairs(hidden)",
        })
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The value.
    pub value: Value,
    /// The place.
    pub source: Source,
}

/// Settings by their names in [`reference`](super::reference).
pub type Section = BTreeMap<&'static str, Written>;

/// The settings of one database or user.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedSection {
    /// Where it begins.
    pub source: Source,
    /// Its settings.
    pub settings: Section,
}

impl NamedSection {
    /// A section that begins at `source` and says nothing yet.
    pub fn new(source: Source) -> Self {
        Self { source, settings: Section::new() }
    }
}

/// Whose ways are followed where Hawser and PgBouncer differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manners {
    /// A public address without TLS is refused.
    #[default]
    Hawser,
    /// A public address without TLS is warned of.
    Pgbouncer,
}

/// Everything that was written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Raw {
    /// Settings of the whole process.
    pub settings: Section,
    /// Databases; `*` is any other.
    pub databases: BTreeMap<String, NamedSection>,
    /// Users.
    pub users: BTreeMap<String, NamedSection>,
    /// Whose ways are followed.
    pub manners: Manners,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

impl Raw {
    /// Writes a setting of the whole process down, over what was there.
    pub fn set(&mut self, name: &'static str, value: Value, source: Source) {
        self.settings.insert(name, Written { value, source });
    }

    /// Writes a setting of the whole process down unless it is there already.
    pub fn set_if_absent(&mut self, name: &'static str, value: Value, source: Source) {
        self.settings.entry(name).or_insert(Written { value, source });
    }
}

/// Writes a setting into a section unless it is there already.
pub fn set_if_absent(section: &mut Section, name: &'static str, value: Value, source: &Source) {
    section.entry(name).or_insert_with(|| Written { value, source: source.clone() });
}
