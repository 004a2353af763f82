//! Where clients come in: TCP addresses, the Unix socket, and sockets that systemd opened for us.
//!
//! A TCP address that we open ourselves has one socket per worker: the kernel spreads the clients, and a client is
//! accepted by the thread that greets it. The other doors have one socket each, which the control thread watches.

use crate::config::settings::{HttpSettings, Keepalive, Listen};
use crate::stream::{Peer, StdSocket, apply_keepalive};
use nix::sys::socket::setsockopt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How sockets are accepted: ready for a runtime, in one system call.
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Pause after accept failed: most likely there is no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// nix does not know the option, nor do rustix and socket2; its macro makes the safe call for it.
sockopt_impl!(
    /// For how many seconds the kernel keeps a connection on which nothing has arrived (tcp(7)).
    DeferAccept,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    i32
);

/// A client's socket, and where it is as far as accept tells.
type Visitor = (StdSocket, Option<Peer>);

/// Why nobody can come in.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Tcp {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("cannot listen on {}: {source}", path.display())]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process answers on the Unix socket.
    #[error("another process listens on {}", .0.display())]
    Taken(PathBuf),
    /// There is no such group.
    #[error("no group is called {0}")]
    Group(String),
}

/// Every place where clients come in.
#[derive(Debug)]
pub struct Doors {
    /// Watched by the control thread, which hands clients out.
    pub shared: Vec<Door>,
    /// For each worker its sockets, of every TCP address one.
    pub of_workers: Vec<Vec<std::net::TcpListener>>,
    /// As the log says it.
    pub addresses: Vec<String>,
}

/// A socket that listens, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Address, or the path of a Unix socket.
    pub address: String,
    /// Port; 0 for a Unix socket.
    pub port: u16,
    /// The file descriptor.
    pub descriptor: i32,
}

impl Doors {
    /// Every socket that listens.
    #[must_use]
    pub fn listening(&self) -> Vec<Listening> {
        let tcp = |listener: &std::net::TcpListener| {
            let bound = listener.local_addr().ok();
            Listening {
                address: bound.map_or_else(String::new, |bound| bound.ip().to_string()),
                port: bound.map_or(0, |bound| bound.port()),
                descriptor: listener.as_raw_fd(),
            }
        };
        let shared = self.shared.iter().map(|door| match door {
            Door::Tcp(listener) => tcp(listener.get_ref()),
            Door::Unix(listener, _) => {
                Listening { address: door.describe(), port: 0, descriptor: listener.get_ref().as_raw_fd() }
            }
        });
        shared.chain(self.of_workers.iter().flatten().map(tcp)).collect()
    }
}

/// One place where clients come in.
#[derive(Debug)]
pub enum Door {
    /// TCP.
    Tcp(AsyncFd<std::net::TcpListener>),
    /// A Unix socket; the file goes when the door does.
    Unix(AsyncFd<std::os::unix::net::UnixListener>, Option<SocketFile>),
}

/// Waits for a listener's clients without accepting them on this runtime, whose epoll they would only pass through.
#[expect(
    deprecated,
    reason = "safe for std's listeners, whose descriptor never changes; the successor is `unsafe`"
)]
fn watch<T: std::os::fd::AsRawFd>(listener: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(listener, Interest::READABLE)
}

/// The file of a Unix socket.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Door {
    /// A TCP socket that listens, watched by the runtime of this thread.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self::Tcp(watch(listener)?))
    }

    fn unix(listener: std::os::unix::net::UnixListener, file: Option<SocketFile>) -> io::Result<Self> {
        Ok(Self::Unix(watch(listener)?, file))
    }

    /// Waits for the next client. Its socket belongs to no runtime yet: it goes to a worker as it is.
    async fn accept(&self) -> io::Result<Visitor> {
        match self {
            Self::Tcp(listener) => {
                let take = |listener: &std::net::TcpListener| Ok(acceptfrom_with(listener, FLAGS)?);
                let (socket, address) = listener.async_io(Interest::READABLE, take).await?;
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                Ok((StdSocket::Tcp(socket.into()), address.map(Peer::Tcp)))
            }
            Self::Unix(listener, _) => {
                let take =
                    |listener: &std::os::unix::net::UnixListener| Ok(acceptfrom_with(listener, FLAGS)?);
                let (socket, _) = listener.async_io(Interest::READABLE, take).await?;
                Ok((StdSocket::Unix(socket.into()), None))
            }
        }
    }

    /// Gives each client to `greet`, for as long as it is polled.
    pub async fn each_visitor(&self, mut greet: impl FnMut(StdSocket, Option<Peer>)) {
        loop {
            match self.accept().await {
                Ok((socket, peer)) => greet(socket, peer),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// As the log says it.
    fn describe(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.get_ref().local_addr().map_or_else(|_| "tcp".into(), |address| address.to_string())
            }
            Self::Unix(_, Some(file)) => file.0.display().to_string(),
            Self::Unix(_, None) => "unix socket".into(),
        }
    }
}

/// Opens every door that the settings name, or takes those that systemd has opened.
///
/// # Errors
/// One of them cannot be opened.
pub fn open(listen: &Listen, workers: usize) -> Result<Doors, ListenError> {
    let mut doors = Doors {
        shared: inherit(listen),
        of_workers: (0..workers).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
    };
    if doors.shared.is_empty() {
        if let Some(folder) = &listen.unix_dir {
            doors.shared.push(open_unix(folder, listen)?);
        }
        for address in &listen.tcp {
            let failed = |source| ListenError::Tcp { address: address.to_string(), source };
            let bound = open_tcp(*address, listen, &mut doors.of_workers).map_err(failed)?;
            doors.addresses.push(bound.to_string());
        }
    }
    doors.addresses.extend(doors.shared.iter().map(Door::describe));
    Ok(doors)
}

/// The socket for HTTP, ready for a runtime; `None` where there is to be none, or where the preset address is taken.
///
/// # Errors
/// The address is taken, or not ours.
pub fn open_http(http: &HttpSettings) -> Result<Option<std::net::TcpListener>, ListenError> {
    let Some(address) = http.address else { return Ok(None) };
    let opened = || {
        let socket = tcp_socket(address)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(128)?;
        Ok(socket.into())
    };
    match opened() {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if http.is_preset => {
            tracing::warn!(%address, %error, "no HTTP: the default address cannot be had; set http.address");
            Ok(None)
        }
        Err(source) => Err(ListenError::Tcp { address: address.to_string(), source }),
    }
}

/// A socket for each worker, all on one address.
fn open_tcp(
    mut address: SocketAddr,
    listen: &Listen,
    of_workers: &mut [Vec<std::net::TcpListener>],
) -> io::Result<SocketAddr> {
    // Sockets that share a port would share it with another process of ours too; this one finds that out, and picks
    // the port if none was named.
    let scout = tcp_socket(address)?;
    scout.bind(&SockAddr::from(address))?;
    if let Some(bound) = scout.local_addr()?.as_socket() {
        address = bound;
    }
    drop(scout);
    for sockets in of_workers {
        let socket = tcp_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(i32::try_from(listen.backlog).unwrap_or(i32::MAX))?;
        inherit_options(&socket, listen.keepalive)?;
        defer_accept(&socket, listen.defer_accept);
        sockets.push(socket.into());
    }
    Ok(address)
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open_unix(folder: &Path, listen: &Listen) -> Result<Door, ListenError> {
    let path = folder.join(format!(".s.PGSQL.{}", listen.unix_port));
    let failed = |source| ListenError::Unix { path: path.clone(), source };
    if std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(ListenError::Taken(path));
        }
        std::fs::remove_file(&path).map_err(failed)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(listen.unix_mode)).map_err(failed)?;
    if let Some(name) = &listen.unix_group {
        let group =
            nix::unistd::Group::from_name(name).ok().flatten().ok_or(ListenError::Group(name.clone()))?;
        std::os::unix::fs::chown(&path, None, Some(group.gid.as_raw())).map_err(failed)?;
    }
    Door::unix(listener, Some(SocketFile(path.clone()))).map_err(failed)
}

/// Accepted sockets have the options of the one that listens: set once, they cost nothing per client.
fn inherit_options(socket: &Socket, keepalive: Keepalive) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    apply_keepalive(&socket2::SockRef::from(socket), keepalive);
    Ok(())
}

/// Has the kernel keep a client until it says something, which a client of PostgreSQL does first. Who never does costs
/// neither a descriptor nor a place, and who does wakes us up once: for its connection and its first words together. A
/// kernel that does not know the option goes without it.
fn defer_accept(socket: &Socket, patience: Option<Duration>) {
    let Some(patience) = patience else { return };
    let seconds = i32::try_from(patience.as_secs()).unwrap_or(i32::MAX).max(1);
    if let Err(error) = setsockopt(socket, DeferAccept, &seconds) {
        tracing::debug!(%error, "clients are accepted before they say something");
    }
}

/// Sockets that systemd opened for us.
fn inherit(listen: &Listen) -> Vec<Door> {
    let mut passed = listenfd::ListenFd::from_env();
    let mut doors = Vec::new();
    for number in 0..passed.len() {
        if let Ok(Some(listener)) = passed.take_tcp_listener(number) {
            let _ = listener.set_nonblocking(true);
            let socket = Socket::from(listener);
            let _ = inherit_options(&socket, listen.keepalive);
            doors.extend(Door::tcp(socket.into()).ok());
        } else if let Ok(Some(listener)) = passed.take_unix_listener(number) {
            let _ = listener.set_nonblocking(true);
            doors.extend(Door::unix(listener, None).ok());
        }
    }
    doors
}
