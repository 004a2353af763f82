//! What the operator wants, from the URL, the file, the environment and the flags.
//!
//! `raw` is a file as written; `validate` finds every mistake at once, with file and line; [`settings`] is what
//! was meant. The rest of the house gets [`settings::Settings`] as a value and never looks anything up.

pub mod settings;
