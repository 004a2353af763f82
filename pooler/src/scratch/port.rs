//! Free ports on loopback.

use std::net::{Ipv4Addr, TcpListener};

use super::ScratchError;

/// A port of 127.0.0.1 that nobody listens on at this moment.
///
/// # Errors
/// When the system gives none.
pub fn free_port() -> Result<u16, ScratchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(ScratchError::NoPort)?;
    Ok(listener.local_addr().map_err(ScratchError::NoPort)?.port())
}

/// Whether nobody listens on this port of 127.0.0.1.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
