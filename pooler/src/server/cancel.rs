//! Cancels what a server connection is doing, over a connection of its own.
//!
//! PostgreSQL closes that connection after it has sent the signal, so waiting for the end of the stream means
//! that the cancel has been delivered: whatever is sent on the server connection afterwards is safe from it.

use super::connection::CancelKey;
use super::dial::{self, DialPlan};
use super::exchange::ExchangeError;
use crate::stream::Buffer;
use hawser_wire::startup::{CancelRequest, encode_cancel};
use std::io;

/// Delivers a cancel request, by TLS if the server connection has it.
///
/// # Errors
/// It could not be delivered.
pub async fn cancel(key: &CancelKey, plan: &DialPlan) -> Result<(), ExchangeError> {
    let mut stream = dial::open_stream(&key.address, plan).await.map_err(io::Error::other)?;
    let mut out = bytes::BytesMut::new();
    let request = CancelRequest { pid: key.pid, key: key.secret.to_vec() };
    encode_cancel(&request, &mut out).map_err(io::Error::other)?;
    stream.write_all(&out).await?;
    let mut rest = Buffer::holding(&[0; 64]);
    rest.consume(64);
    while stream.read_more(&mut rest).await.is_ok() {
        rest.consume(rest.len());
    }
    Ok(())
}
