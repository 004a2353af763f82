//! What the operator wants, from the URL, the file, the environment and the flags.
//!
//! Every source is brought into one form, [`raw`], under the names of [`mod@reference`]; [`validate`] finds every mistake at
//! once, with its place; [`settings`] is what was meant. The rest of the house gets [`settings::Settings`] as a value and
//! never looks anything up. Only `load` reads files.

pub mod arguments;
mod convert;
pub mod diff;
pub mod environment;
pub mod expand;
pub mod finding;
mod load;
pub mod pgbouncer;
pub mod pgpass;
pub mod raw;
pub mod reference;
pub mod service;
pub mod settings;
pub mod toml_file;
pub mod units;
pub mod url;
pub mod validate;
pub mod value;

pub use arguments::Arguments;
pub use convert::{Conversion, convert};
pub use environment::Environment;
pub use finding::{Finding, Problems, Source};
pub use load::load;
pub use validate::{Effective, Loaded};
