//! The packets before the first tagged message: what a client may open with, and what we open with at a server.
//! Pure.
//!
//! A client's first bytes go through [`opens_with_tls`] and [`Head::read`], its whole packet through
//! [`FirstPacket::parse`]. Every function is total: hostile bytes yield a [`StartupError`].

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::sqlstate;

/// Bytes of length and code, which every first packet has.
pub const HEAD_LEN: usize = 8;
/// Longest cancel key (protocol 3.2); 3.0 has exactly [`CANCEL_KEY_MIN`] bytes.
pub const CANCEL_KEY_MAX: usize = 256;
/// Shortest cancel key.
pub const CANCEL_KEY_MIN: usize = 4;
/// What an option of the protocol itself (not a setting) begins with.
pub const PROTOCOL_OPTION_PREFIX: &str = "_pq_.";

const SPECIAL_MAJOR: u16 = 1234;
const CANCEL_MINOR: u16 = 5678;
const SSL_MINOR: u16 = 5679;
const GSSENC_MINOR: u16 = 5680;
const TLS_HANDSHAKE: u8 = 0x16;

/// What is wrong with a startup packet, or with the words that should go into one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartupError {
    /// The length is below 8 or above what is allowed.
    #[error("invalid length of startup packet: {length} (allowed: 8 to {max})")]
    Length {
        /// As the client wrote it.
        length: u32,
        /// Longest that is allowed.
        max: usize,
    },
    /// Shorter than its kind of packet must be.
    #[error("startup packet is cut short")]
    Short,
    /// SSLRequest and GSSENCRequest have no body.
    #[error("unexpected bytes after an encryption request")]
    EncryptionRequestBody,
    /// A cancel key must have 4 to 256 bytes.
    #[error("invalid length of cancel key: {0} (allowed: 4 to 256)")]
    CancelKeyLength(usize),
    /// Another major version than 3.
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")]
    Version {
        /// Major.
        major: u16,
        /// Minor.
        minor: u16,
    },
    /// The list of parameters does not end where the packet does.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Terminator,
    /// A parameter has no value.
    #[error("invalid startup packet layout: parameter \"{0}\" has no value")]
    NoValue(String),
    /// A parameter has no name.
    #[error("invalid startup packet layout: empty parameter name")]
    EmptyName,
    /// A name or value is not UTF-8.
    #[error("startup parameters must be valid UTF-8")]
    Encoding,
    /// A parameter comes twice.
    #[error("startup parameter \"{0}\" is given twice")]
    Duplicate(String),
    /// There is no user.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// `replication` is neither a boolean nor `database`.
    #[error("invalid value for parameter \"replication\": \"{0}\"")]
    Replication(String),
    /// A switch in `options` that is neither `-c name=value` nor `--name=value`.
    #[error("invalid command-line argument for server process: {0}")]
    Switch(String),
    /// A switch in `options` without a value.
    #[error("-c {0} requires a value")]
    SwitchValue(String),
    /// A NUL inside a word that is to be sent.
    #[error("startup parameter \"{0}\" contains a zero byte")]
    Nul(String),
    /// NegotiateProtocolVersion that says what we did not ask for, or that is malformed.
    #[error("invalid NegotiateProtocolVersion message: {0}")]
    Negotiation(&'static str),
}

impl StartupError {
    /// The SQLSTATE that PostgreSQL uses for it.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Version { .. } => sqlstate::FEATURE_NOT_SUPPORTED,
            Self::NoUser => sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
            Self::Encoding => sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
            Self::Replication(_) => sqlstate::INVALID_PARAMETER_VALUE,
            Self::Switch(_) | Self::SwitchValue(_) => sqlstate::SYNTAX_ERROR,
            _ => sqlstate::PROTOCOL_VIOLATION,
        }
    }
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion {
    /// Always 3 in what we speak.
    pub major: u16,
    /// 0 or 2 in what we speak.
    pub minor: u16,
}

impl ProtocolVersion {
    /// What every client and server knows.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// Since PostgreSQL 18: cancel keys of variable length.
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    fn from_code(code: u32) -> Self {
        let [a, b, c, d] = code.to_be_bytes();
        Self { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
    }

    /// As it stands in packets.
    #[must_use]
    pub fn code(self) -> u32 {
        (u32::from(self.major) << 16) | u32::from(self.minor)
    }

    /// The version that is spoken with a client that asks for this one: 3.1 was never used, so it
    /// comes down to 3.0, and anything newer than we know comes down to 3.2.
    #[must_use]
    pub fn agreed(self) -> Self {
        if self.minor >= Self::V3_2.minor { Self::V3_2 } else { Self::V3_0 }
    }
}

/// Whether a client's first byte begins a TLS handshake (`sslnegotiation=direct`).
#[must_use]
pub fn opens_with_tls(first: u8) -> bool {
    first == TLS_HANDSHAKE
}

/// The first eight bytes of a packet, judged before the rest is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Length of the whole packet, these eight bytes included.
    pub length: usize,
    /// What kind of packet it is.
    pub kind: Kind,
}

/// Kinds of first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SSLRequest.
    Ssl,
    /// GSSENCRequest.
    GssEnc,
    /// CancelRequest.
    Cancel,
    /// StartupMessage.
    Startup(ProtocolVersion),
}

impl Kind {
    fn from_code(code: u32) -> Result<Self, StartupError> {
        let version = ProtocolVersion::from_code(code);
        match (version.major, version.minor) {
            (SPECIAL_MAJOR, CANCEL_MINOR) => Ok(Self::Cancel),
            (SPECIAL_MAJOR, SSL_MINOR) => Ok(Self::Ssl),
            (SPECIAL_MAJOR, GSSENC_MINOR) => Ok(Self::GssEnc),
            (3, _) => Ok(Self::Startup(version)),
            (major, minor) => Err(StartupError::Version { major, minor }),
        }
    }
}

impl Head {
    /// Judges length and code. `max` bounds the whole packet.
    ///
    /// The bound of the packet's own kind holds too, so that nobody waits for 10 kB of SSLRequest.
    pub fn read(bytes: [u8; HEAD_LEN], max: usize) -> Result<Self, StartupError> {
        let [l0, l1, l2, l3, c0, c1, c2, c3] = bytes;
        let written = u32::from_be_bytes([l0, l1, l2, l3]);
        let length = match usize::try_from(written) {
            Ok(length) if (HEAD_LEN..=max).contains(&length) => length,
            _ => return Err(StartupError::Length { length: written, max }),
        };
        let kind = Kind::from_code(u32::from_be_bytes([c0, c1, c2, c3]))?;
        match kind {
            Kind::Ssl | Kind::GssEnc if length != HEAD_LEN => Err(StartupError::EncryptionRequestBody),
            Kind::Cancel => {
                let key = length.checked_sub(HEAD_LEN + 4).ok_or(StartupError::Short)?;
                check_key_len(key)?;
                Ok(Self { length, kind })
            }
            _ => Ok(Self { length, kind }),
        }
    }
}

fn check_key_len(length: usize) -> Result<(), StartupError> {
    if (CANCEL_KEY_MIN..=CANCEL_KEY_MAX).contains(&length) {
        Ok(())
    } else {
        Err(StartupError::CancelKeyLength(length))
    }
}

/// A client's first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// It asks for TLS.
    Ssl,
    /// It asks for GSSAPI encryption.
    GssEnc,
    /// It asks to cancel what another connection does.
    Cancel(CancelRequest),
    /// It wants to log in.
    Startup(StartupMessage),
}

/// Names a connection whose query should end. `Debug` hides the key.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// Process number, as given in BackendKeyData.
    pub pid: u32,
    /// Key, as given in BackendKeyData: 4 to 256 bytes.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// A StartupMessage whose layout is right, whose names are unique and whose user is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupMessage {
    /// As asked for; the major is 3.
    pub version: ProtocolVersion,
    /// In the order written, user and database among them.
    pub parameters: Vec<(String, String)>,
}

/// What `replication` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Nothing: an ordinary connection.
    No,
    /// Physical replication, without a database.
    Physical,
    /// Logical replication, in a database.
    Logical,
}

impl FirstPacket {
    /// Parses a packet without its length: the code comes first.
    pub fn parse(body: &[u8]) -> Result<Self, StartupError> {
        let (code, rest) = body.split_first_chunk::<4>().ok_or(StartupError::Short)?;
        match Kind::from_code(u32::from_be_bytes(*code))? {
            Kind::Ssl | Kind::GssEnc if !rest.is_empty() => Err(StartupError::EncryptionRequestBody),
            Kind::Ssl => Ok(Self::Ssl),
            Kind::GssEnc => Ok(Self::GssEnc),
            Kind::Cancel => {
                let (pid, key) = rest.split_first_chunk::<4>().ok_or(StartupError::Short)?;
                check_key_len(key.len())?;
                Ok(Self::Cancel(CancelRequest { pid: u32::from_be_bytes(*pid), key: key.to_vec() }))
            }
            Kind::Startup(version) => {
                let message = StartupMessage { version, parameters: parse_parameters(rest)? };
                if message.user().is_empty() {
                    return Err(StartupError::NoUser);
                }
                Ok(Self::Startup(message))
            }
        }
    }
}

fn parse_parameters(bytes: &[u8]) -> Result<Vec<(String, String)>, StartupError> {
    let Some((0, mut rest)) = bytes.split_last() else { return Err(StartupError::Terminator) };
    let mut parameters: Vec<(String, String)> = Vec::new();
    // A set beside the list, so that a packet full of one-letter names costs no quadratic search.
    let mut seen = std::collections::HashSet::new();
    while !rest.is_empty() {
        let (name, after) = take_string(rest)?;
        if name.is_empty() {
            return Err(StartupError::EmptyName);
        }
        if after.is_empty() {
            return Err(StartupError::NoValue(name.to_owned()));
        }
        let (value, after) = take_string(after)?;
        if !seen.insert(name) {
            return Err(StartupError::Duplicate(name.to_owned()));
        }
        parameters.push((name.to_owned(), value.to_owned()));
        rest = after;
    }
    Ok(parameters)
}

fn take_string(bytes: &[u8]) -> Result<(&str, &[u8]), StartupError> {
    let end = memchr::memchr(0, bytes).ok_or(StartupError::Terminator)?;
    let (text, rest) = bytes.split_at_checked(end).ok_or(StartupError::Terminator)?;
    let text = std::str::from_utf8(text).map_err(|_| StartupError::Encoding)?;
    Ok((text, rest.get(1..).unwrap_or_default()))
}

impl StartupMessage {
    /// Value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The user; never empty in what [`FirstPacket::parse`] returns.
    #[must_use]
    pub fn user(&self) -> &str {
        self.get("user").unwrap_or_default()
    }

    /// The database; the user's name when none is given, as PostgreSQL does.
    #[must_use]
    pub fn database(&self) -> &str {
        self.get("database").filter(|name| !name.is_empty()).unwrap_or_else(|| self.user())
    }

    /// What `replication` asks for.
    pub fn replication(&self) -> Result<Replication, StartupError> {
        let Some(value) = self.get("replication") else { return Ok(Replication::No) };
        if value == "database" {
            return Ok(Replication::Logical);
        }
        match parse_bool(value) {
            Some(true) => Ok(Replication::Physical),
            Some(false) => Ok(Replication::No),
            None => Err(StartupError::Replication(value.to_owned())),
        }
    }

    /// The settings asked for: every parameter that is not `user`, `database`, `replication`, `options` or
    /// a protocol option, in order.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|(name, _)| {
            !matches!(*name, "user" | "database" | "replication" | "options")
                && !name.starts_with(PROTOCOL_OPTION_PREFIX)
        })
    }

    /// What has to be said before authentication, if the client asked for more than we know.
    ///
    /// `None` means that the client gets exactly [`ProtocolVersion::agreed`] without a word.
    #[must_use]
    pub fn negotiation(&self) -> Option<Negotiation> {
        let unknown_options: Vec<String> = self
            .parameters
            .iter()
            .filter(|(name, _)| name.starts_with(PROTOCOL_OPTION_PREFIX))
            .map(|(name, _)| name.clone())
            .collect();
        let version = self.version.agreed();
        (version != self.version || !unknown_options.is_empty())
            .then_some(Negotiation { version, unknown_options })
    }
}

/// A boolean as PostgreSQL reads it: any unique beginning of the words, in any case.
fn parse_bool(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || text == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

/// NegotiateProtocolVersion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiation {
    /// The version that is spoken from now on.
    pub version: ProtocolVersion,
    /// Protocol options that were asked for and are not known.
    pub unknown_options: Vec<String>,
}

impl Negotiation {
    /// Writes the whole message, tag and length included.
    pub fn encode(&self, out: &mut BytesMut) {
        let names: usize = self.unknown_options.iter().map(|name| name.len() + 1).sum();
        out.put_u8(b'v');
        put_len(out, 4 + 4 + 4 + names);
        out.put_u32(self.version.code());
        put_len(out, self.unknown_options.len());
        for name in &self.unknown_options {
            out.put_slice(name.as_bytes());
            out.put_u8(0);
        }
    }

    /// Parses the body of a server's message.
    pub fn parse(body: &[u8]) -> Result<Self, StartupError> {
        let short = StartupError::Negotiation("cut short");
        let (version, rest) = body.split_first_chunk::<4>().ok_or(short.clone())?;
        let (count, mut rest) = rest.split_first_chunk::<4>().ok_or(short.clone())?;
        let mut unknown_options = Vec::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let (name, after) = take_string(rest).map_err(|_| short.clone())?;
            unknown_options.push(name.to_owned());
            rest = after;
        }
        if !rest.is_empty() {
            return Err(StartupError::Negotiation("too long"));
        }
        Ok(Self { version: ProtocolVersion::from_code(u32::from_be_bytes(*version)), unknown_options })
    }

    /// Holds a server's answer against what we asked for (without any protocol option), and says which
    /// version is spoken.
    pub fn accept(&self, asked: ProtocolVersion) -> Result<ProtocolVersion, StartupError> {
        if !self.unknown_options.is_empty() {
            return Err(StartupError::Negotiation("names an option that was not asked for"));
        }
        if self.version.major != asked.major || self.version > asked {
            return Err(StartupError::Negotiation("names a version that was not asked for"));
        }
        match self.version {
            ProtocolVersion::V3_0 | ProtocolVersion::V3_2 => Ok(self.version),
            _ => Err(StartupError::Negotiation("names a version that was never used")),
        }
    }
}

/// A length field. What we write is bounded far below 2^32; a longer one saturates and the peer refuses it.
fn put_len(out: &mut BytesMut, length: usize) {
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// SSLRequest, whole.
#[must_use]
pub fn ssl_request() -> [u8; HEAD_LEN] {
    let mut packet = [0, 0, 0, 8, 0, 0, 0, 0];
    let code = ProtocolVersion { major: SPECIAL_MAJOR, minor: SSL_MINOR }.code().to_be_bytes();
    packet[4..].copy_from_slice(&code);
    packet
}

/// Writes a whole CancelRequest.
pub fn encode_cancel(request: &CancelRequest, out: &mut BytesMut) -> Result<(), StartupError> {
    check_key_len(request.key.len())?;
    put_len(out, HEAD_LEN + 4 + request.key.len());
    out.put_u32(ProtocolVersion { major: SPECIAL_MAJOR, minor: CANCEL_MINOR }.code());
    out.put_u32(request.pid);
    out.put_slice(&request.key);
    Ok(())
}

/// Writes a whole StartupMessage. Nothing is written when a word cannot be sent.
pub fn encode_startup<'a>(
    version: ProtocolVersion,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    out: &mut BytesMut,
) -> Result<(), StartupError> {
    let mut body = BytesMut::new();
    for (name, value) in parameters {
        if name.is_empty() {
            return Err(StartupError::EmptyName);
        }
        if name.contains('\0') || value.contains('\0') {
            return Err(StartupError::Nul(name.replace('\0', "\\0")));
        }
        for word in [name, value] {
            body.put_slice(word.as_bytes());
            body.put_u8(0);
        }
    }
    body.put_u8(0);
    put_len(out, HEAD_LEN + body.len());
    out.put_u32(version.code());
    out.put_slice(&body);
    Ok(())
}

/// Splits the startup parameter `options` into settings, in order; a later one wins.
///
/// Words are separated by white space, a backslash takes the next character as it is. Only `-c name=value`
/// (also `-cname=value`) and `--name=value` can be passed on by a pooler; other switches are refused. A
/// dash in a name stands for an underscore, as in PostgreSQL.
pub fn parse_options(options: &str) -> Result<Vec<(String, String)>, StartupError> {
    let mut settings = Vec::new();
    let mut words = split_options(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().ok_or_else(|| StartupError::Switch("-c".to_owned()))?
        } else if let Some(rest) = word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            rest.to_owned()
        } else {
            return Err(StartupError::Switch(word));
        };
        match assignment.split_once('=') {
            Some(("", _)) | None if assignment.is_empty() || assignment.starts_with('=') => {
                return Err(StartupError::Switch(word));
            }
            Some((name, value)) => settings.push((name.replace('-', "_"), value.to_owned())),
            None => return Err(StartupError::SwitchValue(assignment)),
        }
    }
    Ok(settings)
}

fn split_options(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            // A backslash at the very end stands for nothing.
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
#[path = "startup_tests.rs"]
mod tests;
