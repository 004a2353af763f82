//! Where clients come in: TCP addresses, the Unix socket, and sockets that systemd opened for us.

use crate::config::settings::Listen;
use crate::mailbox::Listener as Kind;
use crate::stream::StdSocket;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

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

/// One place where clients come in.
#[derive(Debug)]
pub enum Door {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket; the file goes when the door does.
    Unix(UnixListener, Option<SocketFile>),
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
    /// Waits for the next client.
    ///
    /// # Errors
    /// The process has no file descriptor left, or the client is already gone.
    pub async fn accept(&self) -> io::Result<(StdSocket, Kind)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Ok((StdSocket::Tcp(socket.into_std()?), Kind::Tcp))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept().await?;
                Ok((StdSocket::Unix(socket.into_std()?), Kind::Unix))
            }
        }
    }

    /// As the log says it.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| "tcp".into(), |address| address.to_string()),
            Self::Unix(_, Some(file)) => file.0.display().to_string(),
            Self::Unix(_, None) => "unix socket".into(),
        }
    }
}

/// Opens every door that the settings name, or takes those that systemd has opened.
///
/// # Errors
/// One of them cannot be opened.
pub fn open(listen: &Listen) -> Result<Vec<Door>, ListenError> {
    let inherited = inherit();
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    let mut doors = Vec::new();
    for address in &listen.tcp {
        let failed = |source| ListenError::Tcp { address: address.to_string(), source };
        let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
        socket.set_reuse_address(true).map_err(failed)?;
        if address.is_ipv6() {
            socket.set_only_v6(true).map_err(failed)?;
        }
        socket.bind(&SockAddr::from(*address)).map_err(failed)?;
        socket.listen(i32::try_from(listen.backlog).unwrap_or(i32::MAX)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        doors.push(Door::Tcp(TcpListener::from_std(socket.into()).map_err(failed)?));
    }
    if let Some(folder) = &listen.unix_dir {
        doors.push(open_unix(folder, listen)?);
    }
    Ok(doors)
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
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(listen.unix_mode)).map_err(failed)?;
    if let Some(name) = &listen.unix_group {
        let group = nix::unistd::Group::from_name(name).ok().flatten().ok_or(ListenError::Group(name.clone()))?;
        std::os::unix::fs::chown(&path, None, Some(group.gid.as_raw())).map_err(failed)?;
    }
    Ok(Door::Unix(listener, Some(SocketFile(path))))
}

/// Sockets that systemd opened for us.
fn inherit() -> Vec<Door> {
    let mut passed = listenfd::ListenFd::from_env();
    let mut doors = Vec::new();
    for number in 0..passed.len() {
        if let Ok(Some(listener)) = passed.take_tcp_listener(number) {
            if listener.set_nonblocking(true).is_ok()
                && let Ok(listener) = TcpListener::from_std(listener)
            {
                doors.push(Door::Tcp(listener));
            }
        } else if let Ok(Some(listener)) = passed.take_unix_listener(number)
            && listener.set_nonblocking(true).is_ok()
            && let Ok(listener) = UnixListener::from_std(listener)
        {
            doors.push(Door::Unix(listener, None));
        }
    }
    doors
}
