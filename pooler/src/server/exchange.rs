//! Statements of our own on a server connection that nobody else uses at the moment.

use super::connection::ServerConnection;
use crate::stream::Buffer;
use hawser_wire::backend::{self as message, TransactionStatus};
use hawser_wire::encode;
use hawser_wire::frame::{self, FrameError, HEADER_LENGTH};
use hawser_wire::tag::backend;
use std::io;
use thiserror::Error;

/// Longest message that the answer to a statement of ours may have.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// Longest message that is read only to be dropped. What is longer is cheaper to close than to read.
pub(super) const LONGEST_IDLE_REPLY: usize = 16 * 1024 * 1024;

/// Why a statement of ours failed.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// The connection failed.
    #[error("lost the connection to the server")]
    Lost(#[from] io::Error),
    /// The server broke the framing.
    #[error("the server sent an impossible message")]
    Framing(#[from] FrameError),
    /// The server answered with more than anybody asked for.
    #[error("the server sent a message of {0} bytes")]
    TooLong(usize),
    /// The server answered with an error: the body of its ErrorResponse.
    #[error("{}", describe(.0))]
    Refused(Vec<u8>),
    /// The server ended the connection without having been asked anything: the body of its ErrorResponse.
    #[error("{}", describe(.0))]
    Ended(Vec<u8>),
    /// The server broke the protocol.
    #[error("the server sent {:?} out of turn", char::from(*.0))]
    Unexpected(u8),
}

/// SQLSTATE and message of an ErrorResponse body, for a log.
#[must_use]
pub fn describe(body: &[u8]) -> String {
    let fields = message::error_fields(body);
    format!("{} ({})", String::from_utf8_lossy(fields.message), String::from_utf8_lossy(fields.sqlstate))
}

/// What came back.
#[derive(Debug, Default)]
pub struct Answer {
    /// Rows in text form.
    pub rows: Vec<Vec<Option<String>>>,
    /// Settings that changed by the way.
    pub reported: Vec<(String, String)>,
}

/// One message from the server, taken out of `input`.
///
/// # Errors
/// The connection failed, or the message is longer than `limit`.
pub async fn next_message(
    stream: &mut crate::stream::Stream,
    input: &mut Buffer,
    limit: usize,
) -> Result<(u8, Vec<u8>), ExchangeError> {
    loop {
        if let Some(header) = frame::header(input.data())? {
            if header.body > limit {
                return Err(ExchangeError::TooLong(header.body));
            }
            if input.len() >= header.total() {
                let body = input.data().get(HEADER_LENGTH..header.total()).unwrap_or_default().to_vec();
                input.consume(header.total());
                return Ok((header.tag, body));
            }
            input.make_room(header.total());
        }
        if input.free().is_empty() {
            let more = input.len() + 4096;
            input.make_room(more);
        }
        stream.read_more(input).await?;
    }
}

/// Runs `text` as a simple query and takes the answer.
///
/// # Errors
/// The server refused it (the connection can still be used, once the transaction status is looked at), or the
/// connection is of no use any more.
pub async fn simple_query(server: &mut ServerConnection, text: &str) -> Result<Answer, ExchangeError> {
    let mut out = Vec::new();
    encode::query(&mut out, text);
    server.unnamed = None;
    run(server, &out).await
}

/// Runs `text` with parameters in text form, through the unnamed statement.
///
/// # Errors
/// As [`simple_query`].
pub async fn query_with(
    server: &mut ServerConnection,
    text: &str,
    parameters: &[&str],
) -> Result<Answer, ExchangeError> {
    use hawser_wire::tag::frontend;
    let mut out = Vec::new();
    server.unnamed = None;
    encode::parse(&mut out, b"", text.as_bytes(), &[0, 0]);
    encode::message(&mut out, frontend::BIND, |out| {
        out.extend_from_slice(&[0, 0, 0, 0]);
        out.extend_from_slice(&u16::try_from(parameters.len()).unwrap_or(u16::MAX).to_be_bytes());
        for parameter in parameters {
            out.extend_from_slice(&u32::try_from(parameter.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(parameter.as_bytes());
        }
        out.extend_from_slice(&[0, 0]);
    });
    encode::message(&mut out, frontend::EXECUTE, |out| out.extend_from_slice(&[0, 0, 0, 0, 0]));
    out.extend_from_slice(encode::CLOSE_UNNAMED);
    out.extend_from_slice(encode::SYNC);
    run(server, &out).await
}

async fn run(server: &mut ServerConnection, request: &[u8]) -> Result<Answer, ExchangeError> {
    server.stream.write_all(request).await?;
    let mut input = Buffer::default();
    let mut answer = Answer::default();
    let mut refused = None;
    loop {
        let (tag, body) = next_message(&mut server.stream, &mut input, LONGEST_ANSWER).await?;
        match tag {
            backend::DATA_ROW => answer.rows.push(row(&body).ok_or(ExchangeError::Unexpected(tag))?),
            backend::PARAMETER_STATUS => answer.reported.extend(setting(&body)),
            backend::ERROR_RESPONSE => refused = Some(body),
            backend::READY_FOR_QUERY => {
                let status = body.first().copied().and_then(TransactionStatus::from_byte);
                server.status = status.ok_or(ExchangeError::Unexpected(tag))?;
                answer.reported.extend(take_unasked(&mut server.stream, &mut input).await?);
                return refused.map_or(Ok(answer), |body| Err(ExchangeError::Refused(body)));
            }
            backend::COPY_IN_RESPONSE | backend::COPY_OUT_RESPONSE | backend::COPY_BOTH_RESPONSE => {
                return Err(ExchangeError::Unexpected(tag));
            }
            _ => {}
        }
    }
}

/// Takes what a server that is ready has said since, of what `input` has the beginning of: a server that is told to stop
/// says so at once. Returns the settings that it reported.
///
/// # Errors
/// The server ended the connection, or said what nobody asked for.
pub(super) async fn take_unasked(
    stream: &mut crate::stream::Stream,
    input: &mut Buffer,
) -> Result<Vec<(String, String)>, ExchangeError> {
    let mut reported = Vec::new();
    while !input.is_empty() {
        let (tag, body) = next_message(stream, input, LONGEST_ANSWER).await?;
        match tag {
            backend::PARAMETER_STATUS => reported.extend(setting(&body)),
            backend::NOTICE_RESPONSE => {}
            backend::ERROR_RESPONSE => return Err(ExchangeError::Ended(body)),
            _ => return Err(ExchangeError::Unexpected(tag)),
        }
    }
    Ok(reported)
}

/// Name and value that a ParameterStatus reports.
pub(super) fn setting(body: &[u8]) -> Option<(String, String)> {
    message::parameter_status(body).map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// The columns of a DataRow in text form.
#[must_use]
pub fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (&count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(count) {
        let (&length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(length);
        if length < 0 {
            columns.push(None);
            rest = after;
            continue;
        }
        let (value, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        columns.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(columns)
}
