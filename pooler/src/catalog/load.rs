//! Asks a server for its catalogue.

use super::model::{Catalog, FunctionRow, Hidden, Mark};
use super::queries;
use crate::server::connection::ServerConnection;
use crate::server::exchange::{Answer, ExchangeError, simple_query};
use thiserror::Error;

/// Why there is no catalogue.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The server refused, or the connection failed. The connection may be in a failed transaction.
    #[error("the catalogue could not be read")]
    Exchange(#[from] ExchangeError),
    /// The server answered what was not asked.
    #[error("the catalogue has a row of another shape")]
    Shape,
}

type Row = Vec<Option<String>>;

/// The state that the database's catalogue is in. It costs the server a scan of a few catalogue tables: milliseconds
/// for some ten thousand objects.
///
/// # Errors
/// The server refused, or the connection failed.
pub async fn mark(server: &mut ServerConnection) -> Result<Mark, LoadError> {
    ask(server, queries::BEGIN).await?;
    let mark = mark_inside(server).await;
    ask(server, queries::END).await?;
    mark
}

/// Reads the catalogue of the database that `server` is connected to. `server` is idle and outside a transaction,
/// and is so afterwards, unless the connection fails. It must be to the primary, or a standby that is close behind.
///
/// # Errors
/// The server refused, or the connection failed.
pub async fn load(server: &mut ServerConnection) -> Result<Catalog, LoadError> {
    ask(server, queries::BEGIN).await?;
    let loaded = load_inside(server).await;
    ask(server, queries::END).await?;
    loaded
}

/// Asks so that who looks into `pg_stat_activity` knows whose question it is.
async fn ask(server: &mut ServerConnection, question: &str) -> Result<Answer, ExchangeError> {
    simple_query(server, &format!("/* hawser: catalogue */ {question}")).await
}

async fn mark_inside(server: &mut ServerConnection) -> Result<Mark, LoadError> {
    let answer = ask(server, queries::MARK).await?;
    match answer.rows.as_slice() {
        [row] => Ok(Mark(text(row, 0)?.to_owned())),
        _ => Err(LoadError::Shape),
    }
}

async fn load_inside(server: &mut ServerConnection) -> Result<Catalog, LoadError> {
    let mut catalog = Catalog::new(&mark_inside(server).await?);
    let mut primary = Vec::new();
    for row in ask(server, queries::BUILT_IN).await?.rows {
        let oid = text(&row, 0)?.parse().map_err(|_| LoadError::Shape)?;
        if catalog.add_built_in(text(&row, 1)?, flag(&row, 2)?) {
            primary.push(oid);
        }
    }
    let functions = ask(server, &queries::functions(&primary)).await?.rows;
    for row in functions.iter().take(queries::MOST_FUNCTIONS) {
        catalog.add_function(FunctionRow {
            schema: text(row, 0)?,
            name: text(row, 1)?,
            volatile: flag(row, 2)?,
            of_one_argument: flag(row, 3)?,
            hidden: flag(row, 4)?,
        });
    }
    let hazards = ask(server, &queries::hazards(&primary)).await?.rows;
    catalog.hidden = hidden(server).await?;
    // A volatile function that is left out could be one that is called like an attribute.
    if hazards.len() > queries::MOST_HAZARDS || functions.len() > queries::MOST_FUNCTIONS {
        catalog.give_up();
        return Ok(catalog);
    }
    for row in &hazards {
        catalog.add_hazard(text(row, 0)?, text(row, 1)?);
    }
    Ok(catalog)
}

async fn hidden(server: &mut ServerConnection) -> Result<Hidden, LoadError> {
    let answer = ask(server, &queries::hidden()).await?;
    let [row] = answer.rows.as_slice() else { return Err(LoadError::Shape) };
    match text(row, 0)? {
        "n" => Ok(Hidden::Nothing),
        "w" => Ok(Hidden::Writes),
        "a" => Ok(Hidden::Anything),
        _ => Err(LoadError::Shape),
    }
}

fn text(row: &Row, column: usize) -> Result<&str, LoadError> {
    row.get(column).and_then(Option::as_deref).ok_or(LoadError::Shape)
}

fn flag(row: &Row, column: usize) -> Result<bool, LoadError> {
    Ok(text(row, column)? == "t")
}
