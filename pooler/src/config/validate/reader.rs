//! Pure. Takes settings out of a section one by one, in the type that is wanted, and collects what does not fit.

use std::path::PathBuf;
use std::time::Duration;

use super::super::finding::{Finding, Source};
use super::super::raw::Section;
use super::super::reference::{Setting, find};
use super::super::value::{Parsed, parse, preset};
use super::Effective;

/// Takes settings out of one section.
pub(super) struct Reader<'a> {
    /// The settings that may be in it.
    table: &'static [Setting],
    section: &'a Section,
    /// What stands before a name in messages: `databases.app.`, or nothing.
    prefix: String,
    /// What did not fit.
    pub(super) problems: Vec<Finding>,
    /// What was taken, and where it came from.
    pub(super) effective: Vec<Effective>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(table: &'static [Setting], section: &'a Section, prefix: String) -> Self {
        Self { table, section, prefix, problems: Vec::new(), effective: Vec::new() }
    }

    /// Where a setting was written, or that it is a default.
    pub(super) fn source(&self, name: &str) -> Source {
        self.section.get(name).map_or(Source::Default, |written| written.source.clone())
    }

    /// Whether somebody wrote it.
    pub(super) fn is_written(&self, name: &str) -> bool {
        self.section.contains_key(name)
    }

    /// Notes a mistake at the place of a setting.
    pub(super) fn problem(&mut self, name: &str, what: &str, suggestion: &str) {
        let finding = Finding::new(&self.source(name), format!("{}{name} {what}", self.prefix));
        self.problems.push(if suggestion.is_empty() { finding } else { finding.suggest(suggestion) });
    }

    fn take(&mut self, name: &str) -> Option<Parsed> {
        let setting = find(self.table, name)?;
        let written = self.section.get(name).and_then(|written| {
            match parse(setting, &written.value, &written.source) {
                Ok(parsed) => Some(parsed),
                Err(misfit) => {
                    let what = format!("{}{name}: {}", self.prefix, misfit.what);
                    let finding =
                        Finding { suggestion: misfit.suggestion, ..Finding::new(&written.source, what) };
                    self.problems.push(finding);
                    None
                }
            }
        });
        let parsed = written.or_else(|| preset(setting));
        let value = parsed.as_ref().map_or_else(String::new, |parsed| parsed.text(setting));
        self.effective.push(Effective { setting, value, source: self.source(name) });
        parsed
    }

    pub(super) fn switch(&mut self, name: &str) -> bool {
        matches!(self.take(name), Some(Parsed::Switch(true)))
    }

    pub(super) fn optional_count(&mut self, name: &str) -> Option<usize> {
        match self.take(name) {
            Some(Parsed::Count(count)) => usize::try_from(count).ok(),
            _ => None,
        }
    }

    pub(super) fn count(&mut self, name: &str) -> usize {
        self.optional_count(name).unwrap_or(0)
    }

    /// A count of which 0 means "no limit".
    pub(super) fn limit(&mut self, name: &str) -> Option<usize> {
        self.optional_count(name).filter(|count| *count > 0)
    }

    /// A limit that stands in for `general` where it is written; 0 lifts the general one.
    pub(super) fn limit_or(&mut self, name: &str, general: Option<usize>) -> Option<usize> {
        match self.optional_count(name) {
            Some(count) => Some(count).filter(|count| *count > 0),
            None => general,
        }
    }

    pub(super) fn small(&mut self, name: &str) -> u32 {
        self.optional_count(name).and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    pub(super) fn fraction(&mut self, name: &str) -> f64 {
        match self.take(name) {
            Some(Parsed::Fraction(fraction)) => fraction,
            _ => 0.0,
        }
    }

    /// An override: `None` when it is not written, `Some(None)` when it is off.
    pub(super) fn optional_duration(&mut self, name: &str) -> Option<Option<Duration>> {
        match self.take(name) {
            Some(Parsed::Duration(duration)) => Some(Some(duration).filter(|duration| !duration.is_zero())),
            _ => None,
        }
    }

    pub(super) fn duration_or_off(&mut self, name: &str) -> Option<Duration> {
        self.optional_duration(name).flatten()
    }

    pub(super) fn duration(&mut self, name: &str) -> Duration {
        self.duration_or_off(name).unwrap_or_default()
    }

    pub(super) fn size(&mut self, name: &str) -> usize {
        match self.take(name) {
            Some(Parsed::Size(bytes)) => bytes,
            _ => 0,
        }
    }

    pub(super) fn optional_text(&mut self, name: &str) -> Option<String> {
        match self.take(name) {
            Some(Parsed::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn text(&mut self, name: &str) -> String {
        self.optional_text(name).unwrap_or_default()
    }

    /// A file name, found from the folder of the file that it stands in.
    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        let text = self.optional_text(name).filter(|text| !text.is_empty())?;
        Some(resolve(&text, &self.source(name)))
    }

    pub(super) fn permissions(&mut self, name: &str) -> u32 {
        match self.take(name) {
            Some(Parsed::Permissions(bits)) => bits,
            _ => 0,
        }
    }

    pub(super) fn word(&mut self, name: &str) -> Option<&'static str> {
        match self.take(name) {
            Some(Parsed::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(super) fn list(&mut self, name: &str) -> Vec<(String, Source)> {
        match self.take(name) {
            Some(Parsed::List(items)) => items,
            _ => Vec::new(),
        }
    }

    pub(super) fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        match self.take(name) {
            Some(Parsed::Pairs(pairs)) => pairs,
            _ => Vec::new(),
        }
    }
}

/// A file name, found from the folder of the file that it stands in.
pub(in super::super) fn resolve(text: &str, source: &Source) -> PathBuf {
    match source {
        Source::File { file, .. } => file.parent().map_or_else(|| PathBuf::from(text), |dir| dir.join(text)),
        _ => PathBuf::from(text),
    }
}
