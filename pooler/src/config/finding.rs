//! Pure. What is wrong or odd in what the operator wrote: where it is, what it is, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The command line as a whole.
    CommandLine,
    /// A flag of the command line, such as `--listen`.
    Flag(&'static str),
    /// The URL on the command line.
    ArgumentUrl,
    /// An environment variable.
    Environment(String),
    /// A line of a file, counted from 1.
    File {
        /// The file as it was named.
        file: PathBuf,
        /// The line.
        line: usize,
    },
    /// A whole file.
    WholeFile(PathBuf),
    /// SET on the console.
    Console,
    /// What PgBouncer does when its file is silent.
    PgbouncerDefault,
    /// What Hawser does when nobody says anything.
    Default,
}

impl Source {
    /// A line of a file.
    pub fn line(file: &Path, line: usize) -> Self {
        Self::File { file: file.to_owned(), line }
    }

    /// Whether somebody wrote the value down, as against a default.
    pub fn is_written(&self) -> bool {
        !matches!(self, Self::Default | Self::PgbouncerDefault)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::PgbouncerDefault => f.write_str("PgBouncer's default"),
            Self::Console => f.write_str("SET on the console"),
            Self::CommandLine => f.write_str("command line"),
            Self::ArgumentUrl => f.write_str("URL on the command line"),
            Self::Flag(name) => f.write_str(name),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::WholeFile(file) => write!(f, "{}", file.display()),
        }
    }
}

/// One thing that is wrong or odd. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub source: Source,
    /// What is wrong, in words.
    pub what: String,
    /// What would be right, in words.
    pub suggestion: Option<String>,
}

impl Finding {
    /// A finding without a suggestion.
    pub fn new(source: &Source, what: impl Into<String>) -> Self {
        Self { source: source.clone(), what: what.into(), suggestion: None }
    }

    /// The same finding, with what would be right.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// The same finding, with "did you mean" where one of `candidates` is close to `word`.
    #[must_use]
    pub fn did_you_mean<'a>(mut self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        self.suggestion = closest(word, candidates).map(|name| format!("did you mean \"{name}\"?"));
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.what)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// Every mistake at once, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Finding>);

impl Problems {
    /// One mistake alone.
    pub fn one(finding: Finding) -> Self {
        Self(vec![finding])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, finding) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The candidate that is so close to `word` that it was probably meant.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let names = ["pool_size", "pool_mode", "password"];
        assert_eq!(closest("pol_size", names), Some("pool_size"));
        assert_eq!(closest("pool_mdoe", names), Some("pool_mode"));
        assert_eq!(closest("PASSWORD", names), Some("password"));
        assert_eq!(closest("colour", names), None);
    }

    #[test]
    fn a_finding_reads_as_place_then_mistake_then_remedy() {
        let finding = Finding::new(&Source::line(Path::new("hawser.toml"), 3), "unknown key \"sise\"")
            .did_you_mean("sise", ["size", "mode"]);
        assert_eq!(finding.to_string(), "hawser.toml:3: unknown key \"sise\"; did you mean \"size\"?");
    }
}
