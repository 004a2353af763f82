//! Reads a PgBouncer installation as it stands: pgbouncer.ini and what it names.
//!
//! Pure. The result is [`Raw`], under the same names as a TOML file, so what follows need not know where it came from.
//! Where PgBouncer would do otherwise when its file is silent, its default is written down; each key that means nothing
//! here is named once, with the reason.

mod ini;
mod keys;
#[cfg(test)]
mod tests;
mod translate;

pub use ini::{Entry, Include, StringError, connection_string};

use std::path::Path;

use super::finding::Finding;
use super::raw::Raw;

/// Reads `text`, the content of `file`; `include` reads what `%include` names.
pub fn read(
    text: &str,
    file: &Path,
    include: &mut Include<'_>,
    problems: &mut Vec<Finding>,
    warnings: &mut Vec<Finding>,
) -> Raw {
    let entries = ini::read(text, file, include, problems);
    translate::translate(&entries, file, problems, warnings)
}

/// What `SET key = value` with one of PgBouncer's keys means: settings by our names, with values in our words. Empty:
/// it cannot be set alone, or means nothing here. `None`: PgBouncer has no such key.
pub fn assign(key: &str, value: &str) -> Option<Result<Vec<(&'static str, String)>, String>> {
    translate::assign(key, value)
}
