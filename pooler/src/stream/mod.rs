//! Plain or TLS bytes over TCP or a Unix socket.
//!
//! A [`Stream`] is driven by polls with buffers that the caller owns, so that a connection at rest has none. One
//! read or write is one system call; rustls does the cryptography in memory, between our buffers.

mod adapter;
pub mod buffer;
mod socket;
pub mod tls;

pub use adapter::Adapted;
pub use buffer::{Buffer, Buffers};
pub use socket::{Ends, Peer, Socket, SocketAddress, StdSocket, apply_keepalive};

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Plaintext that is encrypted before the ciphertext must have left: bounds what a slow reader makes us hold.
const TLS_WRITE_BOUND: usize = 64 * 1024;

thread_local! {
    /// Ciphertext between the socket and rustls, never kept from one poll to the next.
    static CIPHERTEXT: RefCell<Vec<u8>> = RefCell::new(vec![0; 32 * 1024]);
}

/// One connection, to a client or to a server.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    tls: Option<Box<rustls::Connection>>,
}

impl Stream {
    /// A connection without TLS.
    #[must_use]
    pub const fn plain(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    /// A connection whose TLS handshake is over.
    #[must_use]
    pub fn tls(socket: Socket, connection: rustls::Connection) -> Self {
        Self { socket, tls: Some(Box::new(connection)) }
    }

    /// The TLS session, if there is one.
    #[must_use]
    pub fn tls_session(&self) -> Option<&rustls::Connection> {
        self.tls.as_deref()
    }

    /// Both ends of the connection, as an operator wants to see them.
    #[must_use]
    pub fn ends(&self) -> Ends {
        let tls = self
            .tls_session()
            .and_then(|tls| Some((tls.protocol_version()?, tls.negotiated_cipher_suite()?)));
        Ends { tls: tls.map(|(version, suite)| (version, suite.suite())), ..self.socket.ends() }
    }

    /// The socket alone; a TLS session is dropped.
    #[must_use]
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// The socket below.
    #[must_use]
    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Ready when a read would return bytes or the end. No system call while nothing has arrived.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx)
    }

    /// Whether bytes, the end or an error have arrived, as far as is known without a system call.
    #[must_use]
    pub fn has_arrivals(&self) -> bool {
        self.socket.is_readable()
    }

    /// Reads once into the free part of `buffer`. Zero bytes is the end of the stream.
    ///
    /// # Errors
    /// The socket failed, or the peer broke TLS.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        let Some(tls) = self.tls.as_deref_mut() else {
            let mut window = ReadBuf::new(buffer.free());
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut window))?;
            let count = window.filled().len();
            buffer.filled(count);
            return Poll::Ready(Ok(count));
        };
        let socket = &mut self.socket;
        let before = buffer.len();
        loop {
            let closed = take_plaintext(tls, buffer)?;
            if closed || buffer.len() > before {
                return Poll::Ready(Ok(buffer.len() - before));
            }
            let ended = CIPHERTEXT.with_borrow_mut(|scratch| -> Poll<io::Result<bool>> {
                let mut window = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *socket).poll_read(cx, &mut window))?;
                let ended = window.filled().is_empty();
                let mut rest = window.filled();
                while !rest.is_empty() {
                    // Behind its goodbye a peer has nothing more to say, and rustls takes nothing more.
                    if tls.read_tls(&mut rest)? == 0 {
                        break;
                    }
                    tls.process_new_packets().map_err(io::Error::other)?;
                    take_plaintext(tls, buffer)?;
                }
                Poll::Ready(Ok(ended))
            });
            if ready!(ended)? {
                return Poll::Ready(Ok(0));
            }
            if tls.wants_write() {
                let _ = write_tls(tls, socket, cx)?;
            }
        }
    }

    /// Writes from `slices`, in order, and tells how many bytes were taken. With TLS some of them may still be
    /// with us: see [`Self::poll_flush`].
    ///
    /// # Errors
    /// The socket failed.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(tls) = self.tls.as_deref_mut() else {
            return if let [one] = slices {
                Pin::new(&mut self.socket).poll_write(cx, one)
            } else {
                Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
            };
        };
        if tls.wants_write() {
            ready!(write_tls(tls, &mut self.socket, cx)?);
        }
        let mut taken = 0;
        for slice in slices {
            let part = slice.get(..slice.len().min(TLS_WRITE_BOUND - taken)).unwrap_or_default();
            taken += tls.writer().write(part)?;
            if taken >= TLS_WRITE_BOUND {
                break;
            }
        }
        let _ = write_tls(tls, &mut self.socket, cx)?;
        Poll::Ready(Ok(taken))
    }

    /// Ready when everything that was taken has left the process.
    ///
    /// # Errors
    /// The socket failed.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.tls.as_deref_mut() {
            Some(tls) if tls.wants_write() => write_tls(tls, &mut self.socket, cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Writes all of `bytes` and flushes.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = std::future::poll_fn(|cx| self.poll_write(cx, &[IoSlice::new(bytes)])).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(count..).unwrap_or_default();
        }
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Reads once into `buffer`; an end of the stream is an error.
    ///
    /// # Errors
    /// The socket failed or ended.
    pub async fn read_more(&mut self, buffer: &mut Buffer) -> io::Result<()> {
        match std::future::poll_fn(|cx| self.poll_read(cx, buffer)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Says goodbye as far as it goes without waiting: the TLS close alert, then the end of our bytes.
    pub fn close(mut self) {
        if let Some(tls) = self.tls.as_deref_mut() {
            tls.send_close_notify();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let _ = write_tls(tls, &mut self.socket, &mut cx);
        }
    }

    /// Whether everything that was taken has left the process.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        !self.tls.as_deref().is_some_and(|tls| tls.wants_write())
    }

    /// Takes the stream off this thread's runtime, to go on on another.
    ///
    /// # Errors
    /// The runtime could not let go of the socket.
    pub fn park(self) -> io::Result<ParkedStream> {
        Ok(ParkedStream { socket: self.socket.into_std()?, tls: self.tls })
    }
}

/// A stream between two runtimes.
#[derive(Debug)]
pub struct ParkedStream {
    socket: StdSocket,
    tls: Option<Box<rustls::Connection>>,
}

impl ParkedStream {
    /// Goes on on this thread's runtime.
    ///
    /// # Errors
    /// The runtime could not take the socket.
    pub fn unpark(self) -> io::Result<Stream> {
        Ok(Stream { socket: Socket::from_std(self.socket)?, tls: self.tls })
    }
}

/// Moves decrypted bytes into `buffer`, which grows if it must: rustls holds at most one record for us. True when
/// the peer has said that nothing more will come.
fn take_plaintext(tls: &mut rustls::Connection, buffer: &mut Buffer) -> io::Result<bool> {
    loop {
        if buffer.free().is_empty() {
            let more = buffer.len() + 4096;
            buffer.make_room(more);
        }
        match tls.reader().read(buffer.free()) {
            Ok(0) => return Ok(true),
            Ok(count) => buffer.filled(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

fn write_tls(
    tls: &mut rustls::Connection,
    socket: &mut Socket,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while tls.wants_write() {
        match tls.write_tls(&mut socket::Adapter { socket, cx }) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{ClientTls, ServerTls, TlsMode};
    use crate::scratch::Certificates;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn what_follows_a_tls_goodbye_is_not_waited_for() {
        let folder = std::env::temp_dir().join(format!("hawser-stream-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let certificates = Certificates::make(&folder, &[]).unwrap();
        let acceptor = tls::Acceptor::load(&ClientTls {
            mode: TlsMode::Require,
            cert_file: Some(certificates.server_cert()),
            key_file: Some(certificates.server_key()),
            ..ClientTls::default()
        });
        let connector = tls::Connectors::default()
            .connector(&ServerTls { mode: TlsMode::Require, ..ServerTls::default() });
        std::fs::remove_dir_all(&folder).unwrap();
        let (acceptor, connector) = (acceptor.unwrap(), connector.unwrap());
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .unwrap();
        tokio.block_on(async {
            let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
            let (server, client) = tokio::join!(
                acceptor.accept(Socket::Unix(ours), &[]),
                connector.connect(Socket::Unix(theirs), "localhost")
            );
            let (mut server, mut client) = (server.unwrap(), client.unwrap());
            let tls = client.tls.as_deref_mut().unwrap();
            tls.writer().write_all(b"last words").unwrap();
            tls.send_close_notify();
            let mut bytes = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut bytes).unwrap();
            }
            bytes.extend_from_slice(b"and something that is no TLS");
            client.socket.write_all(&bytes).await.unwrap();
            let mut buffer = Buffers::default().take();
            let count = std::future::poll_fn(|cx| server.poll_read(cx, &mut buffer)).await.unwrap();
            assert_eq!((count, buffer.data()), (10, &b"last words"[..]));
            assert_eq!(std::future::poll_fn(|cx| server.poll_read(cx, &mut buffer)).await.unwrap(), 0);
        });
    }
}
