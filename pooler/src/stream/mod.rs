//! Plain or TLS bytes over TCP or a Unix socket.
//!
//! A [`Stream`] is driven by polls with buffers that the caller owns, so that a connection at rest has none. One
//! read or write is one system call; rustls does the cryptography in memory, between our buffers.

pub mod buffer;
mod socket;
pub mod tls;

pub use buffer::{Buffer, Buffers};
pub use socket::{Peer, Socket, SocketAddress, StdSocket, apply_keepalive};

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
    pub fn has_arrivals(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.socket.poll_read_ready(&mut cx).is_ready()
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
            let count = take_plaintext(tls, buffer)?;
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            let ended = CIPHERTEXT.with_borrow_mut(|scratch| -> Poll<io::Result<bool>> {
                let mut window = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *socket).poll_read(cx, &mut window))?;
                let ended = window.filled().is_empty();
                let mut rest = window.filled();
                while !rest.is_empty() {
                    tls.read_tls(&mut rest)?;
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
            if buffer.len() > before {
                return Poll::Ready(Ok(buffer.len() - before));
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

/// Moves decrypted bytes into `buffer`, which grows if it must: rustls holds at most one record for us.
fn take_plaintext(tls: &mut rustls::Connection, buffer: &mut Buffer) -> io::Result<usize> {
    let mut total = 0;
    loop {
        if buffer.free().is_empty() {
            let more = buffer.len() + 4096;
            buffer.make_room(more);
        }
        match tls.reader().read(buffer.free()) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                buffer.filled(count);
                total += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(total),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(total),
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
