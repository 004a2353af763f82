//! One listening connection: statements go out, answers and notifications come in, neither waits for the other.

use super::news::Notification;
use crate::parameters::IN_HOT_STANDBY;
use crate::server::connection::ServerConnection;
use crate::server::exchange;
use crate::stream::Buffer;
use hawser_wire::backend as message;
use hawser_wire::encode;
use hawser_wire::frame::{self, FrameError, HEADER_LENGTH};
use hawser_wire::tag::backend;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use thiserror::Error;

/// Longest message that a listening connection is sent: a payload has at most 8000 bytes.
const LONGEST: usize = 1024 * 1024;

/// Why a listening connection is of no use any more.
#[derive(Debug, Error)]
pub(super) enum Lost {
    /// It closed or failed.
    #[error("connection lost")]
    Connection(#[from] io::Error),
    /// The server broke the framing.
    #[error("impossible message")]
    Framing(#[from] FrameError),
    /// The server sent something else than it may.
    #[error("message {:?} out of turn", char::from(*.0))]
    Unexpected(u8),
    /// The server ended it, or cannot restore what was listened on.
    #[error("{}", exchange::describe(.0))]
    Refused(Vec<u8>),
    /// It did not answer in time.
    #[error("no answer in time")]
    Silent,
    /// The server is not the primary any more.
    #[error("the server is a standby now")]
    Standby,
    /// Another host is the primary now.
    #[error("another host is the primary now")]
    Moved,
}

/// What a listening connection says.
#[derive(Debug)]
pub(super) enum Heard {
    /// A notification.
    Notified(Notification),
    /// The oldest statement is done.
    Done,
    /// The oldest statement failed; `Done` follows.
    Failed(Vec<u8>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    server: ServerConnection,
    input: Buffer,
    out: Vec<u8>,
    written: usize,
}

impl Line {
    pub(super) fn new(server: ServerConnection) -> Self {
        Self { server, input: Buffer::default(), out: Vec::new(), written: 0 }
    }

    /// Process number of the server's end, for the log.
    pub(super) fn pid(&self) -> u32 {
        self.server.cancel_key.pid
    }

    /// Queues a statement.
    pub(super) fn say(&mut self, statement: &str) {
        encode::query(&mut self.out, statement);
    }

    /// Queues a Sync: the shortest question.
    pub(super) fn sync(&mut self) {
        self.out.extend_from_slice(encode::SYNC);
    }

    /// Writes what is queued and reads what has come. Ready when something has.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while self.written < self.out.len() {
            let rest = self.out.get(self.written..).unwrap_or_default();
            match self.server.stream.poll_write(cx, &[IoSlice::new(rest)]) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(Lost::Connection(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(count) => self.written += count?,
                Poll::Pending => break,
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            if let Poll::Ready(flushed) = self.server.stream.poll_flush(cx) {
                flushed?;
            }
        }
        self.input.grow();
        match ready!(self.server.stream.poll_read(cx, &mut self.input))? {
            0 => Poll::Ready(Err(Lost::Connection(io::ErrorKind::UnexpectedEof.into()))),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The next thing that was heard, if it is there whole.
    pub(super) fn heard(&mut self) -> Result<Option<Heard>, Lost> {
        while let Some(header) = frame::header(self.input.data())? {
            if header.total() > LONGEST {
                return Err(Lost::Unexpected(header.tag));
            }
            if self.input.len() < header.total() {
                return Ok(None);
            }
            let whole = self.input.data().get(..header.total()).unwrap_or_default();
            let body = whole.get(HEADER_LENGTH..).unwrap_or_default();
            let heard = match header.tag {
                backend::NOTIFICATION_RESPONSE => Notification::read(whole).map(Heard::Notified),
                backend::READY_FOR_QUERY => Some(Heard::Done),
                backend::ERROR_RESPONSE if is_fatal(body) => return Err(Lost::Refused(body.to_vec())),
                backend::ERROR_RESPONSE => Some(Heard::Failed(body.to_vec())),
                backend::PARAMETER_STATUS
                    if message::parameter_status(body) == Some((IN_HOT_STANDBY, "on")) =>
                {
                    return Err(Lost::Standby);
                }
                backend::COMMAND_COMPLETE | backend::NOTICE_RESPONSE | backend::PARAMETER_STATUS => None,
                unexpected => return Err(Lost::Unexpected(unexpected)),
            };
            self.input.consume(header.total());
            if heard.is_some() {
                return Ok(heard);
            }
        }
        Ok(None)
    }

    /// Leaves politely.
    pub(super) fn close(self) {
        self.server.close();
    }
}

fn is_fatal(body: &[u8]) -> bool {
    matches!(message::error_fields(body).severity, b"FATAL" | b"PANIC")
}
