//! Pure. The text form of pgbouncer.ini: sections, `key = value`, comments, `%include`, and connection strings.

use std::path::{Path, PathBuf};

use super::super::finding::{Finding, Source};

/// How deep files may include one another, as in PgBouncer.
const MAX_DEPTH: usize = 10;

/// One `key = value`.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub source: Source,
    /// The section, such as `databases`.
    pub section: String,
    /// The key, without quotes.
    pub key: String,
    /// The value, which may hold a secret.
    pub value: String,
}

/// Reads a file for `%include`.
pub type Include<'a> = dyn FnMut(&Path) -> Result<String, String> + 'a;

/// Reads `text`, the content of `file`, and what it includes.
pub(super) fn read(text: &str, file: &Path, include: &mut Include<'_>, problems: &mut Vec<Finding>) -> Vec<Entry> {
    let mut reader = Reader { include, problems, entries: Vec::new(), section: String::new() };
    reader.file(text, file, 0);
    reader.entries
}

struct Reader<'a, 'i> {
    include: &'a mut Include<'i>,
    problems: &'a mut Vec<Finding>,
    entries: Vec<Entry>,
    /// The section goes on over the border of an included file, as in PgBouncer.
    section: String,
}

impl Reader<'_, '_> {
    fn file(&mut self, text: &str, file: &Path, depth: usize) {
        for (number, line) in text.lines().enumerate() {
            let source = Source::line(file, number + 1);
            let line = line.trim_start_matches('\u{feff}').trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            if let Some(name) = line.strip_prefix("%include") {
                self.included(name.trim(), file, &source, depth);
            } else if let Some(rest) = line.strip_prefix('[') {
                match rest.split_once(']') {
                    Some((name, _)) => self.section = name.trim().to_lowercase(),
                    None => self.problem(&source, "a section is not closed by ]"),
                }
            } else {
                self.entry(line, source);
            }
        }
    }

    fn problem(&mut self, source: &Source, what: &str) {
        self.problems.push(Finding::new(source, what));
    }

    fn included(&mut self, name: &str, file: &Path, source: &Source, depth: usize) {
        if depth >= MAX_DEPTH {
            return self.problem(source, "files include one another too deeply");
        }
        let path: PathBuf = file.parent().map_or_else(|| PathBuf::from(name), |dir| dir.join(name));
        match (self.include)(&path) {
            Ok(text) => self.file(&text, &path, depth + 1),
            Err(why) => self.problem(source, &format!("{} cannot be read: {why}", path.display())),
        }
    }

    fn entry(&mut self, line: &str, source: Source) {
        let (key, rest) = match line.strip_prefix('"') {
            Some(rest) => match unquote(rest, '"') {
                Some((key, rest)) => (key, rest.trim_start()),
                None => return self.problem(&source, "a double quote is not closed"),
            },
            None => {
                let end = line.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(line.len());
                let (key, rest) = line.split_at(end);
                (key.to_owned(), rest.trim_start())
            }
        };
        let Some(value) = rest.strip_prefix('=') else {
            let finding = Finding::new(&source, "this is not a key and a value");
            return self.problems.push(finding.suggest("write key = value"));
        };
        if self.section.is_empty() {
            return self.problem(&source, &format!("\"{key}\" stands before the first section"));
        }
        let value = value.trim().to_owned();
        self.entries.push(Entry { source, section: self.section.clone(), key, value });
    }
}

/// The text up to the closing quote, which is doubled where it is meant, and what follows.
fn unquote(text: &str, quote: char) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once(quote)?;
        content.push_str(before);
        match after.strip_prefix(quote) {
            Some(after) => {
                content.push(quote);
                rest = after;
            }
            None => return Some((content, after)),
        }
    }
}

/// Why a connection string was not understood. Never repeats it, for it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StringError {
    /// A key without a value.
    #[error("is not a list of key=value")]
    NoValue,
    /// A quote is not closed.
    #[error("has a single quote that is not closed")]
    OpenQuote,
    /// Text after a closing quote.
    #[error("has text right after a closing quote; inside quotes a quote is doubled")]
    AfterQuote,
}

/// Reads `host=a dbname='it''s'` as PgBouncer does.
pub fn connection_string(text: &str) -> Result<Vec<(String, String)>, StringError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or(StringError::NoValue)?;
        let key = key.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(StringError::NoValue);
        }
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('\'') {
            Some(quoted) => {
                let (value, after) = unquote(quoted, '\'').ok_or(StringError::OpenQuote)?;
                if !after.is_empty() && !after.starts_with(char::is_whitespace) {
                    return Err(StringError::AfterQuote);
                }
                (value, after)
            }
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                (value.to_owned(), after)
            }
        };
        pairs.push((key.to_lowercase(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}
