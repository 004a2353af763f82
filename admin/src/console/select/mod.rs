//! `SELECT columns FROM hawser.table WHERE … ORDER BY … LIMIT …` over one table: [`read()`] makes a [`Query`] of a text,
//! which then runs over rows. Pure.
//!
//! Comparisons are as in SQL, with NULL as the unknown: numbers by value, everything else by its text.

mod read;
mod run;

pub(super) use read::read;

use crate::tables::{Kind, Table, Value};

/// A query that was understood.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// The table that it is about.
    pub(super) table: &'static Table,
    /// Types of its parameters, `$1` first.
    pub(super) parameters: Vec<Kind>,
    items: Items,
    filter: Option<Test>,
    order: Vec<Sort>,
    limit: Option<Operand>,
    offset: Option<Operand>,
}

#[derive(Debug, Clone)]
enum Items {
    /// `count(*)`, and its name.
    Count(String),
    /// Places of columns, and their names.
    Columns(Vec<(usize, String)>),
}

#[derive(Debug, Clone)]
struct Sort {
    column: usize,
    descending: bool,
    nulls_first: bool,
}

/// What may stand beside a sign.
#[derive(Debug, Clone)]
enum Operand {
    Column(usize),
    Constant(Value),
    /// Counted from 0.
    Parameter(usize),
}

#[derive(Debug, Clone)]
enum Test {
    Compare(Operand, Comparison, Operand),
    IsNull(Operand),
    Like { of: Operand, pattern: Operand, any_case: bool },
    In(Operand, Vec<Operand>),
    Not(Box<Test>),
    And(Vec<Test>),
    Or(Vec<Test>),
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    Greater,
    AtMost,
    AtLeast,
}
#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;
    use crate::tables::{self, Row};
    use proptest::prelude::*;

    fn rows() -> Vec<Row> {
        [("app", 3, Some("x")), ("app", 10, None), ("web", 7, Some("y"))]
            .into_iter()
            .map(|(database, waiting, user)| {
                let mut row = vec![Value::Int4(0); tables::find("pools").unwrap().columns.len()];
                row[0] = Value::text(database);
                row[1] = Value::optional(user);
                row[3] = Value::Int4(waiting);
                row
            })
            .collect()
    }

    fn run(text: &str, parameters: &[Value]) -> Result<Vec<String>, String> {
        let query = read(&tokens(text).unwrap()).map_err(|failure| failure.words)?;
        let rows = query.run(rows(), parameters).map_err(|failure| failure.words)?;
        let text = |value: &Value| value.to_text().map_or("-".to_owned(), |text| text.into_owned());
        Ok(rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join(" ")).collect())
    }

    #[test]
    fn columns_are_chosen_filtered_sorted_and_cut() {
        let all = "SELECT database, cl_waiting AS w FROM hawser.pools p";
        assert_eq!(
            run(&format!("{all} WHERE cl_waiting > 3 ORDER BY w DESC"), &[]).unwrap(),
            ["app 10", "web 7"]
        );
        assert_eq!(run(&format!("{all} ORDER BY 2 LIMIT 1 OFFSET 1"), &[]).unwrap(), ["web 7"]);
        assert_eq!(
            run(&format!("{all} WHERE p.database LIKE 'a%' AND NOT (cl_waiting = 3 OR false_ IS NULL)"), &[]),
            Err("column \"false_\" does not exist".to_owned())
        );
        assert_eq!(run("SELECT count(*) FROM pools WHERE \"user\" IS NULL", &[]).unwrap(), ["1"]);
        assert_eq!(run("SELECT count(*) FROM pools WHERE \"user\" <> 'x'", &[]).unwrap(), ["1"]);
        assert_eq!(run("SELECT database FROM pools WHERE cl_waiting IN (7, 8)", &[]).unwrap(), ["web"]);
        assert_eq!(
            run("SELECT database FROM pools WHERE cl_waiting = (('7'::int8)::int4)", &[]).unwrap(),
            ["web"]
        );
        assert_eq!(
            run("SELECT cl_waiting FROM pools ORDER BY \"user\" NULLS FIRST, 1 DESC", &[]).unwrap(),
            ["10", "3", "7"]
        );
    }

    #[test]
    fn parameters_have_the_type_of_their_column() {
        let text = "SELECT cl_waiting FROM pools WHERE database = $2 AND cl_waiting >= $1 LIMIT $3";
        let query = read(&tokens(text).unwrap()).unwrap();
        assert_eq!(query.parameters, [Kind::Int4, Kind::Text, Kind::Int8]);
        let given = [Value::text("4"), Value::text("app"), Value::Null];
        assert_eq!(run(text, &given).unwrap(), ["10"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(run("SELECT a FROM pools", &[]).unwrap_err(), "column \"a\" does not exist");
        assert_eq!(run("SELECT * FROM app.pools", &[]).unwrap_err(), "schema \"app\" does not exist");
        assert_eq!(run("SELECT * FROM nothing", &[]).unwrap_err(), "relation \"nothing\" does not exist");
        assert_eq!(
            run("SELECT * FROM pools WHERE cl_waiting > 'many'", &[]).unwrap_err(),
            "invalid input syntax for a number: \"many\""
        );
        assert_eq!(
            run("SELECT * FROM pools GROUP BY 1", &[]).unwrap_err(),
            "the console does not understand \"BY\""
        );
        let deep = format!("SELECT * FROM pools WHERE {}1=1{}", "(".repeat(60), ")".repeat(60));
        assert_eq!(run(&deep, &[]).unwrap_err(), "too many parentheses");
        assert!(run(&format!("SELECT * FROM pools WHERE {} 1=1", "NOT ".repeat(9000)), &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_query_is_read_to_an_end(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "database", "pools", "WHERE", "(", ")", ",", "=", "AND", "OR", "'x'", "1", "$1", "$70000", "ORDER",
                    "BY", "LIMIT", "LIKE", "IN", "NOT", "IS", "NULL", "*", "::", "-", "OFFSET", "p", ".", "<=",
                ]),
                0..24,
            )
        ) {
            let text = format!("SELECT * FROM pools {}", words.join(" "));
            if let Ok(query) = read(&tokens(&text).unwrap()) {
                let _ = query.run(rows(), &[Value::text("1")]);
            }
        }
    }
}
