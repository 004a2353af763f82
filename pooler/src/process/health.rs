//! `hawser health`: asks a running Hawser by HTTP, for container engines, systemd and keepalived.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;
use thiserror::Error;

use crate::config::Environment;

/// Where a Hawser is asked if nobody says where.
const PRESET: &str = "127.0.0.1:6433";

/// What is asked if nobody says what.
const PATH: &str = "/readyz";

/// Whoever asks for health has no time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why it is not known to be well.
#[derive(Debug, Error)]
pub enum HealthError {
    /// The URL is of no use.
    #[error(
        "{0}: write http://HOST:PORT, with /healthz, /readyz, /primary or /standby behind it if you like"
    )]
    Url(String),
    /// Nobody answers.
    #[error("{0} does not answer")]
    Silent(String, #[source] io::Error),
    /// It says that it is not well: status and words.
    #[error("{0} {1}")]
    Unwell(String, String),
}

/// What a running Hawser says of itself, if it is well.
///
/// # Errors
/// It does not answer, or it is not well.
pub fn ask(url: Option<&str>, environment: &Environment) -> Result<String, HealthError> {
    let (address, path) = match url {
        Some(url) => parts(url).ok_or_else(|| HealthError::Url(url.to_owned()))?,
        None => (environment.get("HAWSER_HTTP").unwrap_or(PRESET), PATH),
    };
    // It listens on every address, and so on ours.
    let address = address.strip_prefix('*').map_or(address.to_owned(), |port| format!("127.0.0.1{port}"));
    let answer = get(&address, path).map_err(|error| HealthError::Silent(address.clone(), error))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status == "200" {
        Ok(body.to_owned())
    } else {
        Err(HealthError::Unwell(status.to_owned(), body.trim().to_owned()))
    }
}

/// Address and path of a URL.
fn parts(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (address, path) = match rest.find('/') {
        Some(at) if at + 1 < rest.len() => rest.split_at(at),
        Some(at) => (rest.get(..at)?, PATH),
        None => (rest, PATH),
    };
    address.rsplit_once(':').map(|_| (address, path))
}

fn get(address: &str, path: &str) -> io::Result<String> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return talk(stream, &address.to_string(), path),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn talk(mut stream: TcpStream, host: &str, path: &str) -> io::Result<String> {
    /// Nothing that is said about health is longer.
    const LONGEST: u64 = 64 * 1024;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_asks_whether_it_is_ready() {
        assert_eq!(parts("http://db:6433"), Some(("db:6433", "/readyz")));
        assert_eq!(parts("http://[::1]:6433/"), Some(("[::1]:6433", "/readyz")));
        assert_eq!(parts("http://db:6433/primary"), Some(("db:6433", "/primary")));
        assert_eq!(parts("http://db"), None);
        assert_eq!(parts("postgres://db:6432"), None);
    }
}
