//! What can be shown: one description per table, with the rows made of facts. Pure.
//!
//! Console, API, reference page and tests all read these descriptions. Tables that PgBouncer has too have its columns in
//! its order, with ours behind them, because its tools go by names and some by places.

mod ours;
mod pgbouncer;
mod reference;
pub mod time;
mod value;

pub use pgbouncer::PGBOUNCER_VERSION;
pub(crate) use pgbouncer::version_text;
pub use reference::markdown;
pub use value::{Kind, Value};

use crate::door::{Facts, Question, Role};

/// One row.
pub type Row = Vec<Value>;

/// One column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it means.
    pub help: &'static str,
}

/// Something that can be shown.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name, in lower case: `SHOW <name>`, `SELECT … FROM hawser.<name>`, `/api/v1/<name>`.
    pub name: &'static str,
    /// Whether PgBouncer has it too.
    pub pgbouncer: bool,
    /// Who may see it.
    pub role: Role,
    /// What it tells.
    pub help: &'static str,
    /// What has to be asked for it.
    pub questions: &'static [Question],
    /// Its columns, in order.
    pub columns: &'static [Column],
    /// Its rows.
    pub rows: fn(&Facts) -> Vec<Row>,
}

/// Every table, PgBouncer's first.
pub fn all() -> impl Iterator<Item = &'static Table> {
    pgbouncer::TABLES.iter().chain(ours::TABLES)
}

/// The table of that name, in any case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Table> {
    all().find(|table| table.name.eq_ignore_ascii_case(name))
}

const fn text(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Text, help }
}

const fn int4(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Int4, help }
}

const fn int8(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Int8, help }
}

const fn numeric(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Numeric, help }
}

const fn bytea(name: &'static str, help: &'static str) -> Column {
    Column { name, kind: Kind::Bytea, help }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::samples::facts;
    use std::collections::BTreeSet;

    #[test]
    fn each_row_has_a_value_of_the_right_type_for_each_column() {
        let facts = facts();
        for table in all() {
            for row in (table.rows)(&facts) {
                assert_eq!(row.len(), table.columns.len(), "{}", table.name);
                for (value, column) in row.iter().zip(table.columns) {
                    assert!(value.fits(column.kind), "{}.{}: {value:?}", table.name, column.name);
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_everything_is_explained() {
        let names: BTreeSet<_> = all().map(|table| table.name).collect();
        assert_eq!(names.len(), all().count());
        for table in all() {
            assert!(table.help.ends_with('.'), "{}", table.name);
            let columns: BTreeSet<_> = table.columns.iter().map(|column| column.name).collect();
            assert_eq!(columns.len(), table.columns.len(), "{}", table.name);
            assert!(table.columns.iter().all(|column| column.help.ends_with('.')), "{}", table.name);
            assert_eq!(table.name, table.name.to_lowercase());
        }
    }

    #[test]
    fn the_reference_in_the_repository_is_the_generated_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/CONSOLE.md");
        let stored = std::fs::read_to_string(file).unwrap_or_default();
        assert!(stored == markdown(), "run: cargo run -p hawser -- reference console > admin/CONSOLE.md");
    }
}
