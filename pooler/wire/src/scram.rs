//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), both sides, as PostgreSQL speaks them.
//! Pure. Nonces and salts are arguments; nothing here draws randomness or looks at a clock.
//!
//! [`ScramServer`] proves a client from a [`Verifier`] and yields the ClientKey of its proof, with which
//! [`ScramClient`] can log in to a server that holds the same verifier: no stored password is needed.
//! Every size that the other side chooses is bounded, malformed messages are errors and never panics,
//! and no secret shows in `Debug` or in an error.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Length of a SHA-256 hash, and so of every key here.
pub const KEY_LEN: usize = 32;

/// What a server keeps to check a password by SCRAM, in PostgreSQL's form
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Verifier {
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// Salt, raw.
    pub salt: Vec<u8>,
    /// SHA-256 of the ClientKey.
    pub stored_key: [u8; KEY_LEN],
    /// Signs the server's last message.
    pub server_key: [u8; KEY_LEN],
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(hidden)")
    }
}
