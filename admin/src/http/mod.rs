//! HTTP for machines: metrics, health, and every table as JSON. It changes nothing.
//!
//! Health needs no token, so that load balancers and container engines need none; everything else does once one is set.

use crate::door::{Door, Facts, Question, Role};
use crate::metrics;
use crate::tables::{self, Table, Value};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, json};
use std::io;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;

/// Serves for as long as it is polled.
///
/// # Errors
/// The runtime cannot watch the socket.
pub async fn serve(listener: std::net::TcpListener, door: Door, token: Option<Token>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    axum::serve(listener, router(door, token)).await
}

/// What a caller has to bring, as `Authorization: Bearer <token>`. `Debug` hides it.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// This token.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(token.into())
    }

    fn fits(&self, request: &Request) -> bool {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        given.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case("bearer") && given.trim().as_bytes().ct_eq(self.0.as_bytes()).into()
        })
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

fn router(door: Door, token: Option<Token>) -> Router {
    let open = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/primary", get(primary))
        .route("/standby", get(standby));
    let guarded = Router::new()
        .route("/", get(index))
        .route("/metrics", get(scrape))
        .route("/api/v1", get(index))
        .route("/api/v1/{table}", get(table))
        .layer(middleware::from_fn_with_state(token, guard));
    open.merge(guarded).with_state(door)
}

async fn guard(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    match token {
        Some(token) if !token.fits(&request) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"hawser\"")];
            (StatusCode::UNAUTHORIZED, challenge, "a token is needed\n").into_response()
        }
        _ => next.run(request).await,
    }
}

/// The facts, or why there are none.
async fn ask(door: &Door, questions: &[Question]) -> Result<Facts, Response> {
    let unavailable =
        |error: crate::door::Refused| (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
    door.ask(questions).await.map_err(unavailable)
}

/// The process lives, and its control thread answers.
async fn healthz(State(door): State<Door>) -> Response {
    match ask(&door, &[]).await {
        Ok(_) => "ok\n".into_response(),
        Err(response) => response,
    }
}

/// New clients are welcome, and what they ask is carried out.
async fn readyz(State(door): State<Door>) -> Response {
    use crate::door::facts::Lending;
    let process = match ask(&door, &[Question::Process]).await {
        Ok(facts) => facts.process,
        Err(response) => return response,
    };
    let not_ready = |words: &'static str| (StatusCode::SERVICE_UNAVAILABLE, words).into_response();
    match process {
        None => not_ready("starting\n"),
        Some(process) if process.draining => not_ready("draining\n"),
        Some(process) if process.lending != Lending::Active => not_ready("paused\n"),
        Some(_) => "ready\n".into_response(),
    }
}

/// 200 if every cluster that is watched has a host that takes writes.
async fn primary(State(door): State<Door>) -> Response {
    by_host(&door, |host| host.is_primary).await
}

/// 200 if every cluster that is watched has a standby that can be read from.
async fn standby(State(door): State<Door>) -> Response {
    by_host(&door, |host| host.is_usable && !host.is_primary && host.role == "standby").await
}

async fn by_host(door: &Door, fits: impl Fn(&crate::door::facts::Host) -> bool) -> Response {
    let hosts = match ask(door, &[Question::Hosts]).await {
        Ok(facts) => facts.hosts,
        Err(response) => return response,
    };
    let mut found: Map<String, serde_json::Value> = Map::new();
    for host in &hosts {
        let known = found.entry(host.cluster.clone()).or_insert_with(|| json!([]));
        if fits(host)
            && let Some(known) = known.as_array_mut()
        {
            known.push(json!(host.address));
        }
    }
    let all = found.values().all(|hosts| hosts.as_array().is_some_and(|hosts| !hosts.is_empty()));
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(found)).into_response()
}

async fn scrape(State(door): State<Door>) -> Response {
    match ask(&door, metrics::QUESTIONS).await {
        Ok(facts) => {
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&facts)).into_response()
        }
        Err(response) => response,
    }
}

/// What there is.
async fn index() -> Response {
    let tables =
        shown().map(|table| json!({ "path": format!("/api/v1/{}", table.name), "help": table.help }));
    Json(json!({
        "health": ["/healthz", "/readyz", "/primary", "/standby"],
        "metrics": "/metrics",
        "tables": tables.collect::<Vec<_>>(),
    }))
    .into_response()
}

/// Tables that whoever may read metrics may read.
fn shown() -> impl Iterator<Item = &'static Table> {
    tables::all().filter(|table| table.role == Role::Reader)
}

/// A table: its columns, and its rows as objects.
async fn table(State(door): State<Door>, Path(name): Path<String>) -> Response {
    let Some(table) = shown().find(|table| table.name == name) else {
        return (StatusCode::NOT_FOUND, format!("there is no table {name:?}\n")).into_response();
    };
    let facts = match ask(&door, table.questions).await {
        Ok(facts) => facts,
        Err(response) => return response,
    };
    let columns = table
        .columns
        .iter()
        .map(|column| json!({ "name": column.name, "type": column.kind.word(), "help": column.help }));
    let object = |row: tables::Row| {
        let named =
            table.columns.iter().zip(row).map(|(column, value)| (column.name.to_owned(), value_of(&value)));
        serde_json::Value::Object(named.collect())
    };
    let rows = (table.rows)(&facts).into_iter().map(object);
    Json(json!({
        "table": table.name,
        "columns": columns.collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
    }))
    .into_response()
}

fn value_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Text(text) => json!(text),
        Value::Int4(number) => json!(number),
        Value::Int8(number) => json!(number),
        Value::Numeric(number) => json!(number),
        Value::Bytea(_) => json!(value.to_text()),
    }
}
