//! A server connection whose client vanished: end what the client began, so that the connection can be used again.
//!
//! The query in flight is cancelled, a COPY is failed, an open batch is spoiled and gets its Sync, everything still owed is read
//! and dropped, and a transaction is rolled back. Whoever cannot be brought to rest in time is closed.

use super::cancel;
use super::connection::{Doubt, Effect, ServerConnection};
use super::dial::DialPlan;
use super::exchange::{ExchangeError, LONGEST_IDLE_REPLY, next_message};
use crate::stream::Buffer;
use hawser_sql_router::effects::Effect as SqlEffect;
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode;
use hawser_wire::reply_queue::{Fate, Request, Settled};
use hawser_wire::tag::{backend, frontend};
use std::time::Duration;

/// A name that no statement has: ours end with a number, and a client's never reach the server.
const NO_STATEMENT: &[u8] = b"hawser_none";

/// How long a server may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(10);

/// Brings the connection to rest. True when it is idle and settled.
///
/// `input` is what had been read from the server and not passed on; a message must not have been sent in part.
pub async fn recover(server: &mut ServerConnection, input: Option<Buffer>, plan: &DialPlan) -> bool {
    tokio::time::timeout(PATIENCE, settle(server, input, plan)).await.is_ok_and(|settled| settled.is_ok())
}

async fn settle(
    server: &mut ServerConnection,
    input: Option<Buffer>,
    plan: &DialPlan,
) -> Result<(), ExchangeError> {
    // What the client was doing has come to pass or not: nobody has looked.
    server.doubt = Doubt::Any;
    let mut input = input.unwrap_or_default();
    if server.queue.awaits_server() {
        cancel::cancel(&server.cancel_key, plan).await?;
    }
    let mut out = Vec::new();
    if server.queue.is_copy_in() {
        out.extend_from_slice(encode::COPY_FAIL);
        server.queue.push(Request::CopyEnd, Fate::Swallow, None);
    }
    if server.queue.is_batch_open() {
        // A Sync alone would commit what the batch has done so far.
        encode::statement_target(&mut out, frontend::DESCRIBE, NO_STATEMENT);
        server.queue.push(Request::Describe, Fate::Swallow, None);
        out.extend_from_slice(encode::SYNC);
        server.queue.push(Request::Sync, Fate::Swallow, None);
    }
    server.stream.write_all(&out).await?;
    drain(server, &mut input).await?;
    if server.status != TransactionStatus::Idle {
        let mut out = Vec::new();
        encode::query(&mut out, "ROLLBACK");
        server.queue.push(Request::Query, Fate::Swallow, Some(Effect::Ours));
        server.stream.write_all(&out).await?;
        drain(server, &mut input).await?;
    }
    if input.is_empty() && server.queue.is_settled() && server.status == TransactionStatus::Idle {
        Ok(())
    } else {
        Err(ExchangeError::Unexpected(0))
    }
}

/// A request of the client's has succeeded with nobody there to learn of it. One that changes prepared statements by
/// SQL leaves books that are not worth mending.
fn take_note(server: &mut ServerConnection, effect: &Effect) {
    server.confirm(effect);
    if let Effect::Does(doing) = effect {
        let effects = &doing.deed.effects;
        let clears = |effect: &SqlEffect| matches!(effect, SqlEffect::DeallocateAll | SqlEffect::DiscardAll);
        server.tainted |=
            effects.unseen || effects.names_statements() || effects.statements.iter().any(clears);
    }
}

/// Reads and drops until nothing is owed. A COPY that starts on the way is failed at once.
async fn drain(server: &mut ServerConnection, input: &mut Buffer) -> Result<(), ExchangeError> {
    loop {
        while server.queue.due().is_some() {}
        if server.queue.is_settled() {
            return Ok(());
        }
        let (tag, body) = next_message(&mut server.stream, input, LONGEST_IDLE_REPLY).await?;
        let mut settled = Vec::new();
        server
            .queue
            .observe(tag, &mut |outcome| settled.push(outcome))
            .map_err(|unexpected| ExchangeError::Unexpected(unexpected.0))?;
        for outcome in settled {
            match outcome {
                Settled::Succeeded(effect) => take_note(server, &effect),
                Settled::Failed(effect) => server.undo(&effect),
            }
        }
        match tag {
            backend::READY_FOR_QUERY => {
                let status = body.first().copied().and_then(TransactionStatus::from_byte);
                server.status = status.ok_or(ExchangeError::Unexpected(tag))?;
            }
            backend::PARAMETER_STATUS => server.doubt = Doubt::Any,
            backend::COPY_IN_RESPONSE if server.queue.is_copy_in() => {
                server.queue.push(Request::CopyEnd, Fate::Swallow, None);
                let mut out = encode::COPY_FAIL.to_vec();
                if server.queue.is_batch_open() {
                    out.extend_from_slice(encode::SYNC);
                    server.queue.push(Request::Sync, Fate::Swallow, None);
                }
                server.stream.write_all(&out).await?;
            }
            _ => {}
        }
    }
}
