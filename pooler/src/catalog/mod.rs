//! What a database knows of its functions, views, operators, types and casts, so that a statement which calls or
//! mentions them can be told to be a read. [`load()`] asks a server ([`Live`] connects to one), [`Catalog`] answers
//! the classifier, [`Catalogs`] keeps one for each database.

mod live;
mod load;
mod model;
mod queries;
mod shelf;

pub use live::{Live, LiveError};
pub use load::{LoadError, load, mark};
pub use model::{Catalog, Hidden, Mark};
pub use shelf::{Catalogs, DatabaseKey};

/// Whether a text whose statements succeeded may have changed what a catalogue knows, so that it should be loaded
/// again. What functions do inside is not seen here; [`mark`] finds it.
#[must_use]
pub fn changed_by(verdicts: &hawser_sql_router::statement::Verdicts) -> bool {
    verdicts.change_catalog()
}
