//! Name maps: which outside name (of a certificate, of a process) may log in as which user, as in pg_ident.conf.
//! Pure.

use regex::Regex;

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
    /// Exactly this one; a `\1` in it stands for the first group of the system name's pattern.
    Literal(String),
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
