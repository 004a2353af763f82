//! Free ports on loopback.

use super::ScratchError;
use dashmap::DashSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;

/// Below the ports that systems give to outgoing connections: what is free now stays free until it is used.
const PORTS: std::ops::Range<u16> = 10_240..32_000;

/// Ports that this process has given out.
static GIVEN: LazyLock<DashSet<u16>> = LazyLock::new(DashSet::new);

/// A port that nobody listens on at this moment, and that no other call has yielded.
///
/// # Errors
/// When none of a thousand that were picked blindly is free.
pub fn free_port() -> Result<u16, ScratchError> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..1000 {
        let port = rand::random_range(PORTS);
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
            Ok(_) if GIVEN.insert(port) => return Ok(port),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(ScratchError::NoPort(last))
}

/// Whether nobody listens on this port of 127.0.0.1.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
