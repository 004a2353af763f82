//! A client's first words: SSLRequest, GSSENCRequest, direct TLS, a cancel request, or a startup packet.
//!
//! Nothing is read beyond a packet before TLS begins: bytes that an attacker put in front of the handshake are
//! never taken for the client's.

use super::end::End;
use super::refusal::Refusal;
use crate::config::settings::TlsMode;
use crate::runtime::Runtime;
use crate::stream::{Socket, Stream};
use hawser_wire::encode::Severity;
use hawser_wire::startup::{CancelRequest, FirstPacket, HEAD_LEN, Head, Kind, StartupMessage, opens_with_tls};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the client came for.
#[derive(Debug)]
pub enum Greeting {
    /// To log in.
    Startup(Box<(Stream, StartupMessage)>),
    /// To cancel somebody's query.
    Cancel(CancelRequest),
}

/// Requests for encryption that a client may make before its startup packet: one of each kind.
const MOST_REQUESTS: usize = 2;

/// Reads until the client has said what it came for.
///
/// # Errors
/// It broke off, or said something that is not PostgreSQL.
pub async fn greet(socket: Socket, runtime: &Runtime) -> Result<Greeting, End> {
    let limit = runtime.settings.limits.max_startup_packet;
    let mut line = Line::Clear(socket);
    for _ in 0..=MOST_REQUESTS {
        let head = match line.read_head().await.map_err(lost)? {
            Opening::Head(head) => head,
            Opening::DirectTls(early) => {
                line = line.secure(runtime, &early, true).await?;
                continue;
            }
        };
        let head = match Head::read(head, limit) {
            Ok(head) => head,
            Err(error) => return Err(refuse(line, &Refusal::BadStartup(error.sqlstate(), error.to_string())).await),
        };
        match head.kind {
            Kind::Ssl => line = line.answer_ssl(runtime).await?,
            Kind::GssEnc => line.write(b"N").await.map_err(lost)?,
            Kind::Cancel | Kind::Startup(_) => return finish(line, head).await,
        }
    }
    Err(refuse(line, &Refusal::Violation("too many requests for encryption".into())).await)
}

async fn finish(mut line: Line, head: Head) -> Result<Greeting, End> {
    let mut body = head.code().to_be_bytes().to_vec();
    line.read_exact(&mut body, head.rest).await.map_err(lost)?;
    match FirstPacket::parse(&body) {
        Ok(FirstPacket::Cancel(request)) => Ok(Greeting::Cancel(request)),
        Ok(FirstPacket::Startup(startup)) => Ok(Greeting::Startup(Box::new((line.into_stream(), startup)))),
        Ok(FirstPacket::Ssl | FirstPacket::GssEnc) => Err(End::Violation("request for encryption out of turn".into())),
        Err(error) => Err(refuse(line, &Refusal::BadStartup(error.sqlstate(), error.to_string())).await),
    }
}

async fn refuse(line: Line, refusal: &Refusal) -> End {
    let mut out = Vec::new();
    refusal.write(&mut out, Severity::Fatal);
    super::say(&mut line.into_stream(), &out).await;
    End::Refused(refusal.sqlstate(), refusal.words())
}

fn lost(error: io::Error) -> End {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => End::ClientLeft,
        kind => End::ClientLost(kind),
    }
}

/// The connection before and after TLS.
enum Line {
    Clear(Socket),
    Secure(Stream, crate::stream::Buffer),
}

/// The first bytes of a packet.
enum Opening {
    Head([u8; HEAD_LEN]),
    /// A TLS hello, of which so much was read.
    DirectTls(Vec<u8>),
}

impl Line {
    async fn read_head(&mut self) -> io::Result<Opening> {
        match self {
            Self::Clear(socket) => {
                let mut head = [0; HEAD_LEN];
                let first = socket.read_u8().await?;
                if opens_with_tls(first) {
                    return Ok(Opening::DirectTls(vec![first]));
                }
                let [place, rest @ ..] = &mut head;
                *place = first;
                socket.read_exact(rest).await?;
                Ok(Opening::Head(head))
            }
            Self::Secure(..) => {
                let mut head = Vec::new();
                self.read_exact(&mut head, HEAD_LEN).await?;
                head.try_into().map(Opening::Head).map_err(|_| io::ErrorKind::UnexpectedEof.into())
            }
        }
    }

    /// Appends `count` bytes to `body`, as they arrive: a length that is only announced costs nothing.
    async fn read_exact(&mut self, body: &mut Vec<u8>, count: usize) -> io::Result<()> {
        match self {
            Self::Clear(socket) => {
                let wanted = body.len() + count;
                let mut limited = socket.take(count as u64);
                limited.read_to_end(body).await?;
                if body.len() < wanted {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Self::Secure(stream, input) => {
                while input.len() < count {
                    input.grow();
                    stream.read_more(input).await?;
                }
                body.extend_from_slice(input.data().get(..count).unwrap_or_default());
                input.consume(count);
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.write_all(bytes).await,
            Self::Secure(stream, _) => stream.write_all(bytes).await,
        }
    }

    async fn answer_ssl(mut self, runtime: &Runtime) -> Result<Self, End> {
        let by_unix = matches!(self, Self::Clear(Socket::Unix(_)));
        if matches!(self, Self::Secure(..)) {
            return Err(refuse(self, &Refusal::Violation("TLS inside TLS".into())).await);
        }
        if runtime.acceptor.mode == TlsMode::Disable || by_unix {
            self.write(b"N").await.map_err(lost)?;
            return Ok(self);
        }
        self.write(b"S").await.map_err(lost)?;
        self.secure(runtime, &[], false).await
    }

    async fn secure(self, runtime: &Runtime, early: &[u8], direct: bool) -> Result<Self, End> {
        let Self::Clear(socket) = self else { return Err(End::Violation("TLS inside TLS".into())) };
        if runtime.acceptor.mode == TlsMode::Disable {
            return Err(End::Violation("direct TLS, but TLS is off".into()));
        }
        let accepted = Box::pin(runtime.acceptor.accept(socket, early)).await;
        let stream = accepted.map_err(|error| End::Violation(format!("TLS handshake failed: {error}")))?;
        let protocol = stream.tls_session().and_then(|tls| tls.alpn_protocol());
        if direct && protocol != Some(crate::stream::tls::ALPN) {
            return Err(End::Violation("direct TLS without ALPN \"postgresql\"".into()));
        }
        Ok(Self::Secure(stream, crate::stream::Buffer::default()))
    }

    fn into_stream(self) -> Stream {
        match self {
            Self::Clear(socket) => Stream::plain(socket),
            Self::Secure(stream, _) => stream,
        }
    }
}
