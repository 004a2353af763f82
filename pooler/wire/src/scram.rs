//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), both sides, as PostgreSQL speaks them.
//! Pure. Nonces and salts are arguments; nothing here draws randomness or looks at a clock.
//!
//! [`ScramServer`] proves a client from a [`Verifier`] and yields the ClientKey of its proof, with which
//! [`ScramClient`] can log in to a server that holds the same verifier: no stored password is needed.
//! Every size that the other side chooses is bounded, malformed messages are errors and never panics,
//! and no secret shows in `Debug` or in an error.
//!
//! The steps of an exchange are types that consume each other, so that none can be left out or repeated.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

mod client;
mod server;

pub use client::{Challenge, ClientBinding, ScramClient, ServerSignature};
pub use server::{Proof, ScramFinal, ScramServer};

/// Length of a SHA-256 hash, and so of every key here.
pub const KEY_LEN: usize = 32;
/// Random bytes in a nonce of ours, as many as PostgreSQL draws.
pub const NONCE_LEN: usize = 18;
/// Bytes of salt in a verifier of ours, as many as PostgreSQL draws.
pub const SALT_LEN: usize = 16;
/// Rounds of PBKDF2 in a verifier of ours, as many as PostgreSQL's default.
pub const DEFAULT_ITERATIONS: u32 = 4096;
/// More rounds than this are never computed (a third of a second): who may choose them could stop a thread.
pub const MAX_ITERATIONS: u32 = 1_000_000;
/// Longest message of an exchange, either way.
pub const MAX_MESSAGE: usize = 8 * 1024;

const MAX_SALT: usize = 1024;
const MAX_NONCE: usize = 1024;
const PREFIX: &str = "SCRAM-SHA-256$";
const HMAC_BLOCK: usize = 64;

type HmacSha256 = Hmac<Sha256>;

/// What went wrong in an exchange. Says nothing of any secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ScramError {
    /// The proof does not fit the verifier: wrong password, or no such user.
    #[error("SCRAM proof does not match")]
    WrongProof,
    /// A message that does not follow the grammar.
    #[error("malformed SCRAM message ({0})")]
    Malformed(&'static str),
    /// A message that is too long.
    #[error("SCRAM message is too long")]
    TooLong,
    /// The client selected a mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// The client wants to act as someone else.
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    /// The client demands an extension (`m=`).
    #[error("client requires an unsupported SCRAM extension")]
    Extension,
    /// A channel binding other than `tls-server-end-point`.
    #[error("unsupported SCRAM channel-binding type")]
    BindingType,
    /// The binding flag does not fit the mechanism.
    #[error("SCRAM channel binding does not fit the selected mechanism")]
    BindingFlag,
    /// The client believes that we offered no channel binding, but we did: somebody changed the offer.
    #[error("SCRAM channel binding negotiation error: the offer was changed on its way to the client")]
    Downgrade,
    /// The client is bound to another TLS connection than ours.
    #[error("SCRAM channel binding check failed")]
    BindingMismatch,
    /// A nonce does not continue the one that was sent.
    #[error("SCRAM nonce does not match")]
    Nonce,
    /// The server asks for more rounds than we compute, or for none.
    #[error("SCRAM iteration count {0} is out of bounds (1 to {MAX_ITERATIONS})")]
    Iterations(u32),
    /// The server refused the exchange.
    #[error("server refused the SCRAM exchange")]
    ServerError,
    /// The server does not know the verifier: it is not the one that we wanted.
    #[error("SCRAM server signature does not match")]
    ServerSignature,
}

/// SASL mechanisms that Hawser knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// `SCRAM-SHA-256`.
    Scram,
    /// `SCRAM-SHA-256-PLUS`: with channel binding.
    ScramPlus,
}

impl Mechanism {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scram => "SCRAM-SHA-256",
            Self::ScramPlus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// The mechanism of a name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Scram, Self::ScramPlus].into_iter().find(|mechanism| mechanism.name().as_bytes() == name)
    }
}

/// ClientKey and ServerKey: what a client needs to log in where the same verifier is known. `Debug` hides them.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ScramKeys {
    /// ClientKey.
    pub client_key: [u8; KEY_LEN],
    /// ServerKey.
    pub server_key: [u8; KEY_LEN],
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(hidden)")
    }
}

impl ScramKeys {
    /// Derives the keys: `iterations` rounds of PBKDF2, which takes time on purpose (about a millisecond for
    /// 4096). A password that SASLprep refuses is taken as its bytes, as PostgreSQL does.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Result<Self, ScramError> {
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        let salted = pbkdf2(&prepared(password), salt, iterations);
        Ok(Self {
            client_key: hmac(&*salted, &[b"Client Key"]),
            server_key: hmac(&*salted, &[b"Server Key"]),
        })
    }

    /// The verifier of these keys.
    #[must_use]
    pub fn verifier(&self, salt: &[u8], iterations: u32) -> Verifier {
        let stored_key = Sha256::digest(self.client_key).into();
        Verifier { iterations, salt: salt.to_vec(), stored_key, server_key: self.server_key }
    }
}

/// What a server keeps to check a password by SCRAM, in PostgreSQL's form
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`. `Display` writes that form, `Debug` hides it.
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

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key[..], &self.server_key[..]].map(|raw| BASE64.encode(raw));
        write!(f, "{PREFIX}{}:{salt}${stored}:{server}", self.iterations)
    }
}

/// A text that is no SCRAM verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a SCRAM verifier: expected SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")]
pub struct VerifierError;

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let rest = text.strip_prefix(PREFIX).ok_or(VerifierError)?;
        let (head, keys) = rest.split_once('$').ok_or(VerifierError)?;
        let (iterations, salt) = head.split_once(':').ok_or(VerifierError)?;
        let (stored, server) = keys.split_once(':').ok_or(VerifierError)?;
        let iterations = decimal(iterations.as_bytes()).filter(|n| *n > 0).ok_or(VerifierError)?;
        let salt = BASE64.decode(salt).map_err(|_| VerifierError)?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(VerifierError);
        }
        let key = |text: &str| -> Result<[u8; KEY_LEN], VerifierError> {
            let raw = Zeroizing::new(BASE64.decode(text).map_err(|_| VerifierError)?);
            raw.as_slice().try_into().map_err(|_| VerifierError)
        };
        Ok(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }
}

impl Verifier {
    /// Whether a text claims to be a verifier (and may yet be malformed).
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The verifier of a password; see [`ScramKeys::from_password`].
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Result<Self, ScramError> {
        Ok(ScramKeys::from_password(password, salt, iterations)?.verifier(salt, iterations))
    }

    /// The verifier that stands in for a user who has none: always the same for a name, so that asking twice
    /// tells nothing, and known to nobody who does not know `secret`. No password fits it.
    #[must_use]
    pub fn mock(secret: &[u8], user: &str, iterations: u32) -> Self {
        let derive = |what: &[u8]| hmac(secret, &[what, b"\0", user.as_bytes()]);
        Self {
            iterations,
            salt: mock_salt(secret, user),
            stored_key: derive(b"stored key"),
            server_key: derive(b"server key"),
        }
    }

    /// Whether this is the password. Runs PBKDF2; `false` if the verifier has more than [`MAX_ITERATIONS`].
    #[must_use]
    pub fn fits(&self, password: &[u8]) -> bool {
        Self::from_password(password, &self.salt, self.iterations)
            .is_ok_and(|other| bool::from(other.stored_key.ct_eq(&self.stored_key)))
    }
}

/// The salt of [`Verifier::mock`], also fit for verifiers that are made from a stored password: it stays the
/// same for a user, and users with and without a secret look alike.
#[must_use]
pub fn mock_salt(secret: &[u8], user: &str) -> Vec<u8> {
    let [salt @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
        hmac(secret, &[b"salt", b"\0", user.as_bytes()]);
    let salt: [u8; SALT_LEN] = salt;
    salt.to_vec()
}

/// The body of SASLInitialResponse: the mechanism's name as written, and the client's first message.
pub fn parse_initial_response(body: &[u8]) -> Result<(&[u8], &[u8]), ScramError> {
    let cut_short = ScramError::Malformed("initial response is cut short");
    let end = memchr::memchr(0, body).ok_or(cut_short)?;
    let (name, rest) = body.split_at_checked(end).ok_or(cut_short)?;
    let (length, data) = rest.get(1..).and_then(|rest| rest.split_first_chunk::<4>()).ok_or(cut_short)?;
    // A length of -1 stands for "no data", which SCRAM cannot begin with.
    let length = usize::try_from(i32::from_be_bytes(*length))
        .map_err(|_| ScramError::Malformed("initial response is empty"))?;
    if length == data.len() {
        Ok((name, data))
    } else {
        Err(ScramError::Malformed("length of the initial response is wrong"))
    }
}

/// HMAC-SHA-256 of the parts, one after the other.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; KEY_LEN] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The padding is done here because the constructor that takes a whole block cannot fail.
fn keyed(key: &[u8]) -> HmacSha256 {
    let mut block = Zeroizing::new([0_u8; HMAC_BLOCK]);
    if key.len() > HMAC_BLOCK {
        for (to, from) in block.iter_mut().zip(Sha256::digest(key)) {
            *to = from;
        }
    } else {
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
    }
    <HmacSha256 as KeyInit>::new((&*block).into())
}

fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<[u8; KEY_LEN]> {
    let keyed = keyed(password);
    let round = |parts: &[&[u8]]| -> [u8; KEY_LEN] {
        let mut mac = keyed.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    };
    let mut last = Zeroizing::new(round(&[salt, &[0, 0, 0, 1]]));
    let mut sum = last.clone();
    for _ in 1..iterations {
        *last = round(&[&*last]);
        *sum = xor(&sum, &last);
    }
    sum
}

fn xor(left: &[u8; KEY_LEN], right: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
    let mut result = *left;
    for (to, from) in result.iter_mut().zip(right) {
        *to ^= from;
    }
    result
}

/// The password as it is hashed. ASCII is never changed; what SASLprep refuses, or makes nothing of, is taken
/// as it stands.
fn prepared(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password)
        .ok()
        .filter(|text| !text.is_ascii())
        .and_then(|text| stringprep::saslprep(text).ok())
        .filter(|text| !text.is_empty())
        .map(|text| text.into_owned().into_bytes());
    Zeroizing::new(prepared.unwrap_or_else(|| password.to_vec()))
}

/// A decimal number without sign or blanks, as far as a PostgreSQL `int` goes.
fn decimal(digits: &[u8]) -> Option<u32> {
    let plain = (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number: u32 = std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()?;
    i32::try_from(number).is_ok().then_some(number)
}

/// The next attribute `<name>=<value>` of a message, and what follows its comma. `name` must be the first.
fn attribute<'a>(
    name: u8,
    message: &'a [u8],
    otherwise: &'static str,
) -> Result<(&'a [u8], Option<&'a [u8]>), ScramError> {
    let malformed = ScramError::Malformed(otherwise);
    let (head, rest) = message.split_first_chunk::<2>().ok_or(malformed)?;
    if *head != [name, b'='] {
        return Err(malformed);
    }
    match memchr::memchr(b',', rest) {
        None => Ok((rest, None)),
        Some(comma) => {
            let (value, after) = rest.split_at_checked(comma).ok_or(malformed)?;
            Ok((value, after.get(1..)))
        }
    }
}

/// A nonce is printable ASCII without a comma, of bounded length.
fn check_nonce(nonce: &[u8]) -> Result<(), ScramError> {
    let printable = nonce.iter().all(|b| matches!(b, 0x21..=0x2b | 0x2d..=0x7e));
    if nonce.is_empty() || !printable {
        Err(ScramError::Malformed("non-printable characters in nonce"))
    } else if nonce.len() > MAX_NONCE {
        Err(ScramError::TooLong)
    } else {
        Ok(())
    }
}

fn decode_key(text: &[u8], otherwise: &'static str) -> Result<[u8; KEY_LEN], ScramError> {
    let raw = BASE64.decode(text).map_err(|_| ScramError::Malformed(otherwise))?;
    raw.try_into().map_err(|_| ScramError::Malformed(otherwise))
}

/// The value of `c=`: the client's GS2 header and the data that it is bound to.
fn channel_binding(gs2_header: &[u8], data: &[u8]) -> String {
    BASE64.encode([gs2_header, data].concat())
}

#[cfg(test)]
mod tests;
