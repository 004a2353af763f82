//! A client's first words: SSLRequest, GSSENCRequest, direct TLS, a cancel request, or a startup packet.
//!
//! Bytes in the clear behind an SSLRequest end the connection: what an attacker puts in front of the handshake is
//! never taken for the client's.

use super::end::End;
use super::refusal::Refusal;
use crate::config::settings::TlsMode;
use crate::runtime::Runtime;
use crate::stream::{Buffer, Socket, Stream};
use hawser_wire::encode::{Severity, TERMINATE};
use hawser_wire::startup::{
    CancelRequest, FirstPacket, HEAD_LEN, Head, Kind, StartupMessage, opens_with_tls,
};
use std::io;

/// What the client came for.
#[derive(Debug)]
pub enum Greeting {
    /// To log in.
    Startup(Box<(Stream, Buffer, StartupMessage)>),
    /// To cancel somebody's query. The client takes the end of the stream for the news that this is done.
    Cancel(Box<(Stream, CancelRequest)>),
}

/// Requests for encryption that a client may make before its startup packet: one of each kind.
const MOST_REQUESTS: usize = 2;

/// Reads until the client has said what it came for.
///
/// # Errors
/// It broke off, or said something that is not PostgreSQL.
pub async fn greet(socket: Socket, runtime: &Runtime) -> Result<Greeting, End> {
    let limit = runtime.settings.limits.max_startup_packet;
    let mut line = Line::new(Stream::plain(socket));
    for _ in 0..=MOST_REQUESTS {
        line.read(1).await?;
        if line.is_clear() && line.input.data().first().copied().is_some_and(opens_with_tls) {
            line = line.secure(runtime, true).await?;
            continue;
        }
        line.read(HEAD_LEN).await?;
        if line.input.data().starts_with(TERMINATE) {
            // A client that thinks better of it before it has logged in.
            return Err(End::ClientLeft);
        }
        let head = line.input.data().first_chunk::<HEAD_LEN>().copied().unwrap_or_default();
        let head = match Head::read(head, limit) {
            Ok(head) => head,
            Err(error) => {
                return Err(refuse(line, &Refusal::BadStartup(error.sqlstate(), error.to_string())).await);
            }
        };
        match head.kind {
            Kind::Ssl => line = line.answer_ssl(runtime).await?,
            Kind::GssEnc => line = line.answer_gss().await?,
            Kind::Cancel | Kind::Startup(_) => return finish(line, head.length).await,
        }
    }
    Err(refuse(line, &Refusal::Violation("too many requests for encryption".into())).await)
}

async fn finish(mut line: Line, length: usize) -> Result<Greeting, End> {
    line.read(length).await?;
    let packet = FirstPacket::parse(line.input.data().get(4..length).unwrap_or_default());
    line.input.consume(length);
    match packet {
        Ok(FirstPacket::Cancel(request)) => Ok(Greeting::Cancel(Box::new((line.stream, request)))),
        Ok(FirstPacket::Startup(startup)) => {
            Ok(Greeting::Startup(Box::new((line.stream, line.input, startup))))
        }
        Ok(FirstPacket::Ssl | FirstPacket::GssEnc) => {
            Err(End::Violation("request for encryption out of turn".into()))
        }
        Err(error) => Err(refuse(line, &Refusal::BadStartup(error.sqlstate(), error.to_string())).await),
    }
}

async fn refuse(mut line: Line, refusal: &Refusal) -> End {
    let mut out = Vec::new();
    refusal.write(&mut out, Severity::Fatal);
    super::words::say(&mut line.stream, &out).await;
    line.stream.close();
    End::Refused(refusal.sqlstate(), refusal.words())
}

fn lost(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => End::ClientLeft,
        kind => End::ClientLost(kind),
    }
}

/// Room for what a client says at first.
const FIRST_WORDS: usize = 1024;

/// The connection before and after TLS, and what was read of it.
struct Line {
    stream: Stream,
    input: Buffer,
}

impl Line {
    fn new(stream: Stream) -> Self {
        let mut input = Buffer::default();
        input.make_room(FIRST_WORDS);
        Self { stream, input }
    }

    fn is_clear(&self) -> bool {
        self.stream.tls_session().is_none()
    }

    /// Reads until `count` bytes are there. A length that is only announced costs nothing.
    async fn read(&mut self, count: usize) -> Result<(), End> {
        while self.input.len() < count {
            self.input.grow();
            self.stream.read_more(&mut self.input).await.map_err(|error| lost(&error))?;
        }
        Ok(())
    }

    async fn answer_gss(mut self) -> Result<Self, End> {
        self.input.consume(HEAD_LEN);
        self.stream.write_all(b"N").await.map_err(|error| lost(&error))?;
        Ok(self)
    }

    async fn answer_ssl(mut self, runtime: &Runtime) -> Result<Self, End> {
        self.input.consume(HEAD_LEN);
        if !self.is_clear() || !self.input.is_empty() {
            let words = "received unencrypted data after SSL request";
            return Err(refuse(self, &Refusal::Violation(words.into())).await);
        }
        let by_unix = matches!(self.stream.socket(), Socket::Unix(_));
        if runtime.acceptor.mode == TlsMode::Disable || by_unix {
            self.stream.write_all(b"N").await.map_err(|error| lost(&error))?;
            return Ok(self);
        }
        self.stream.write_all(b"S").await.map_err(|error| lost(&error))?;
        self.secure(runtime, false).await
    }

    async fn secure(self, runtime: &Runtime, direct: bool) -> Result<Self, End> {
        if runtime.acceptor.mode == TlsMode::Disable {
            return Err(End::Violation("direct TLS, but TLS is off".into()));
        }
        let socket = self.stream.into_socket();
        let accepted = Box::pin(runtime.acceptor.accept(socket, self.input.data())).await;
        let stream = accepted.map_err(|error| End::Violation(format!("TLS handshake failed: {error}")))?;
        let protocol = stream.tls_session().and_then(|tls| tls.alpn_protocol());
        if direct && protocol != Some(crate::stream::tls::ALPN) {
            return Err(End::Violation("direct TLS without ALPN \"postgresql\"".into()));
        }
        Ok(Self::new(stream))
    }
}
