//! Asks the tools: Patroni over HTTP, the monitor of pg_auto_failover in SQL.

use super::{News, Told, monitor, patroni};
use crate::config::settings::HostAddress;
use crate::server::connection::ServerConnection;
use crate::server::dial::{self, DialPlan, Local};
use crate::server::exchange::{next_message, simple_query};
use crate::stream::Buffer;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

/// How often Patroni is asked. It asks its store each time.
const PATRONI_PACE: Duration = Duration::from_secs(1);

/// The monitor tells of changes by itself; this is for changes that it told while nobody listened.
const MONITOR_PACE: Duration = Duration::from_secs(5);

/// A tool that has not answered within this long does not answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest answer of Patroni.
const LONGEST_ANSWER: usize = 1 << 20;

/// Longest notification of a monitor.
const LONGEST_NOTICE: usize = 1 << 16;

/// Asks whichever of Patroni's addresses answers.
pub(super) async fn patroni(place: usize, addresses: Vec<(String, u16)>, news: mpsc::UnboundedSender<News>) {
    let mut turn = 0;
    loop {
        let mut told = Err("there is no address".to_owned());
        for _ in 0..addresses.len() {
            let Some((host, port)) = addresses.get(turn % addresses.len()) else { break };
            let asked = tokio::time::timeout(PATIENCE, get(host, *port));
            let answer = asked.await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            told = answer
                .and_then(|body| {
                    patroni::read(&body, now).ok_or("the answer is not what Patroni says".to_owned())
                })
                .map_err(|why| format!("Patroni at {host}:{port}: {why}"));
            if told.is_ok() {
                break;
            }
            turn += 1;
        }
        if news.send(News { source: place, told }).is_err() {
            return;
        }
        tokio::time::sleep(PATRONI_PACE).await;
    }
}

/// `GET /cluster`.
async fn get(host: &str, port: u16) -> Result<Bytes, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect((host, port)).await.map_err(|error| words(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
    let connection = spawn_local(connection);
    let request = hyper::Request::get("/cluster")
        .header(hyper::header::HOST, format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| words(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| words(&error))?;
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()));
        }
        let body = Limited::new(response.into_body(), LONGEST_ANSWER);
        Ok(body.collect().await.map_err(|error| words(&error))?.to_bytes())
    };
    let answer = answer.await;
    connection.abort();
    answer
}

/// Asks the monitor whenever it says that something changed.
pub(super) async fn monitor(
    place: usize,
    plan: Option<DialPlan>,
    known: Vec<HostAddress>,
    news: mpsc::UnboundedSender<News>,
) {
    let Some(plan) = plan else { return };
    let local = Local::default();
    loop {
        let why = watch(place, &plan, &local, &known, &news).await;
        let told = Err(format!("monitor: {why}"));
        if news.send(News { source: place, told }).is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One connection listens and another one asks, so that no notification gets between a question and its answer. Returns
/// why that ended.
async fn watch(
    place: usize,
    plan: &DialPlan,
    local: &Local,
    known: &[HostAddress],
    news: &mpsc::UnboundedSender<News>,
) -> String {
    let connections = async {
        let mut ear = dial::dial(plan, local, 0).await.map_err(|error| dial::explain(&error))?;
        simple_query(&mut ear, monitor::LISTEN).await.map_err(|error| error.to_string())?;
        let mouth = dial::dial(plan, local, 0).await.map_err(|error| dial::explain(&error))?;
        Ok::<_, String>((ear, mouth))
    };
    let (mut ear, mut mouth) = match tokio::time::timeout(PATIENCE, connections).await {
        Ok(Ok(connections)) => connections,
        Ok(Err(why)) => return why,
        Err(_) => return format!("no answer within {PATIENCE:?}"),
    };
    let mut input = Buffer::default();
    loop {
        let told = match tokio::time::timeout(PATIENCE, nodes(&mut mouth, known)).await {
            Ok(Ok(told)) => told,
            Ok(Err(why)) => return why,
            Err(_) => return format!("no answer within {PATIENCE:?}"),
        };
        if news.send(News { source: place, told: Ok(told) }).is_err() {
            return "nobody listens".to_owned();
        }
        let next = next_message(&mut ear.stream, &mut input, LONGEST_NOTICE);
        if let Ok(Err(error)) = tokio::time::timeout(MONITOR_PACE, next).await {
            return error.to_string();
        }
    }
}

async fn nodes(mouth: &mut ServerConnection, known: &[HostAddress]) -> Result<Told, String> {
    let answer = simple_query(mouth, monitor::NODES).await.map_err(|error| error.to_string())?;
    monitor::read(&answer.rows, known).ok_or("it knows no group of nodes with a host of ours".to_owned())
}
