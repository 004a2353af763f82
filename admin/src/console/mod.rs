//! The console: a PostgreSQL server of our own on the databases `hawser` and `pgbouncer`, for psql and every driver.
//!
//! The client is logged in already. `grammar` reads what it says, `select` answers queries over tables, `catalog` what
//! psql and drivers ask of a server's catalog, `session` speaks the protocol by the crate pgwire. Nothing that is said
//! here reaches a database.

mod catalog;
mod grammar;
mod select;
mod session;
mod tokens;

pub use grammar::COMMANDS;
pub use session::{Guest, serve, welcome};

use crate::tables::{Kind, Row};

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What a statement came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// Columns and rows, for statements that have them.
    pub(crate) result: Option<(Vec<Field>, Vec<Row>)>,
    /// What was done, as in CommandComplete.
    pub(crate) tag: String,
    /// Words beside the result: message and detail.
    pub(crate) notice: Option<(String, String)>,
}

impl Outcome {
    fn done(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), ..Self::default() }
    }
}

/// Why a statement failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) sqlstate: &'static str,
    pub(crate) words: String,
}

impl Failure {
    fn new(sqlstate: &'static str, words: impl Into<String>) -> Self {
        Self { sqlstate, words: words.into() }
    }

    fn syntax(words: impl Into<String>) -> Self {
        Self::new("42601", words)
    }
}
