//! A TCP or Unix socket on this thread's runtime.

use crate::config::settings::Keepalive;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use std::io::{self, IoSlice, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

/// A socket of either family.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// A socket that belongs to no runtime.
#[derive(Debug)]
pub enum StdSocket {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

/// Who is on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An address and port.
    Tcp(SocketAddr),
    /// A process on this machine, by its user.
    Unix {
        /// Its user id, where the kernel tells.
        uid: Option<u32>,
    },
}

impl Peer {
    /// The address, if it came by TCP.
    #[must_use]
    pub const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { .. } => f.write_str("unix"),
        }
    }
}

/// Both ends of a connection, as an operator wants to see them. No address: a Unix socket, or the connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// The other side.
    pub remote: Option<SocketAddr>,
    /// Ours.
    pub local: Option<SocketAddr>,
    /// TLS version and cipher.
    pub tls: Option<(rustls::ProtocolVersion, rustls::CipherSuite)>,
    /// The file descriptor.
    pub descriptor: i32,
}

/// Where a server is, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SocketAddress {
    /// An address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(std::path::PathBuf),
}

impl Socket {
    /// Connects; TCP sockets send without delay.
    ///
    /// # Errors
    /// The other side does not answer.
    pub async fn connect(address: &SocketAddress) -> io::Result<Self> {
        match address {
            SocketAddress::Tcp(address) => {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                Ok(Self::Tcp(socket))
            }
            SocketAddress::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Puts a socket that does not block on this thread's runtime.
    ///
    /// # Errors
    /// The runtime could not take it.
    pub fn from_std(socket: StdSocket) -> io::Result<Self> {
        match socket {
            StdSocket::Tcp(socket) => TcpStream::from_std(socket).map(Self::Tcp),
            StdSocket::Unix(socket) => UnixStream::from_std(socket).map(Self::Unix),
        }
    }

    /// Takes the socket off the runtime.
    ///
    /// # Errors
    /// The runtime could not let go of it.
    pub fn into_std(self) -> io::Result<StdSocket> {
        match self {
            Self::Tcp(socket) => socket.into_std().map(StdSocket::Tcp),
            Self::Unix(socket) => socket.into_std().map(StdSocket::Unix),
        }
    }

    /// The other side.
    ///
    /// # Errors
    /// The connection is already gone.
    pub fn peer(&self) -> io::Result<Peer> {
        match self {
            Self::Tcp(socket) => socket.peer_addr().map(Peer::Tcp),
            Self::Unix(socket) => {
                Ok(Peer::Unix { uid: socket.peer_cred().ok().map(|credentials| credentials.uid()) })
            }
        }
    }

    /// Addresses and descriptor.
    #[must_use]
    pub fn ends(&self) -> Ends {
        use std::os::fd::AsRawFd as _;
        match self {
            Self::Tcp(socket) => Ends {
                remote: socket.peer_addr().ok(),
                local: socket.local_addr().ok(),
                tls: None,
                descriptor: socket.as_raw_fd(),
            },
            Self::Unix(socket) => Ends { descriptor: socket.as_raw_fd(), ..Ends::default() },
        }
    }

    /// Ready when a read would return something.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_read_ready(cx),
            Self::Unix(socket) => socket.poll_read_ready(cx),
        }
    }

    /// Whether a read would return something, as far as is known without a system call.
    pub fn is_readable(&self) -> bool {
        let known = || Ok(());
        match self {
            Self::Tcp(socket) => socket.try_io(Interest::READABLE, known),
            Self::Unix(socket) => socket.try_io(Interest::READABLE, known),
        }
        .is_ok()
    }

    /// Reads, if something has arrived as far as is known. `None`: ask with a waker.
    fn read_now(&self, room: &mut [u8]) -> Option<io::Result<usize>> {
        self.attempt(Interest::READABLE, room.len(), |socket| {
            net::recv(socket, &mut *room, RecvFlags::empty()).map(|(count, _)| count)
        })
    }

    /// Writes, if there is room as far as is known. `None`: ask with a waker.
    fn write_now(&self, slices: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.attempt(Interest::WRITABLE, length, |socket| match slices {
            [one] => net::send(socket, one, SendFlags::NOSIGNAL),
            _ => rustix::io::writev(socket, slices),
        })
    }

    /// A system call for `wanted` bytes that does not wait, if the socket is ready for it as far as is known. One that moves
    /// less leaves nothing to be had: the kernel tells of more, as tokio's own reads and writes rely on, which ask for
    /// readiness twice as often and note who waits.
    fn attempt(
        &self,
        interest: Interest,
        wanted: usize,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let mut done = None;
        let mut attempt = |socket: BorrowedFd<'_>| {
            let outcome = rustix::io::retry_on_intr(|| call(socket));
            let is_over = match outcome {
                Ok(count) => 0 < count && count < wanted,
                Err(error) => error == Errno::AGAIN,
            };
            if outcome != Err(Errno::AGAIN) {
                done = Some(outcome.map_err(io::Error::from));
            }
            if is_over { Err(io::Error::from(io::ErrorKind::WouldBlock)) } else { Ok(()) }
        };
        // That it would block is what tokio is told; what was done is with us.
        let _ = match self {
            Self::Tcp(socket) => socket.try_io(interest, || attempt(socket.as_fd())),
            Self::Unix(socket) => socket.try_io(interest, || attempt(socket.as_fd())),
        };
        done
    }

    /// The socket, for options of the kernel.
    #[must_use]
    pub fn options(&self) -> socket2::SockRef<'_> {
        match self {
            Self::Tcp(socket) => socket2::SockRef::from(socket),
            Self::Unix(socket) => socket2::SockRef::from(socket),
        }
    }
}

/// Sets TCP keep-alive; a kernel that does not know an option goes without it.
pub fn apply_keepalive(options: &socket2::SockRef<'_>, keepalive: Keepalive) {
    if keepalive.enabled {
        let mut probes = socket2::TcpKeepalive::new();
        if let Some(idle) = keepalive.idle {
            probes = probes.with_time(idle);
        }
        if let Some(interval) = keepalive.interval {
            probes = probes.with_interval(interval);
        }
        if let Some(count) = keepalive.count {
            probes = probes.with_retries(count);
        }
        let _ = options.set_tcp_keepalive(&probes);
    }
    if keepalive.user_timeout.is_some() {
        let _ = options.set_tcp_user_timeout(keepalive.user_timeout);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        // Who finds something each time must let others have their turn.
        let turn = ready!(coop::poll_proceed(cx));
        if let Some(outcome) = socket.read_now(buf.initialize_unfilled()) {
            turn.made_progress();
            return Poll::Ready(outcome.map(|count| buf.advance(count)));
        }
        match socket {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        if let Some(outcome) = socket.write_now(&[IoSlice::new(bytes)]) {
            return Poll::Ready(outcome);
        }
        match socket {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        if let Some(outcome) = socket.write_now(slices) {
            return Poll::Ready(outcome);
        }
        match socket {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

/// Lets rustls write to a socket that is polled: Pending is told as `WouldBlock`, with the waker registered.
pub(super) struct Adapter<'a, 'cx> {
    pub(super) socket: &'a mut Socket,
    pub(super) cx: &'a mut Context<'cx>,
}

impl Write for Adapter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write(self.cx, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write_vectored(self.cx, slices) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
