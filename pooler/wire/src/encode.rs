//! Whole messages, written. Pure.
//!
//! Functions append to a buffer that the caller owns; fixed messages are constants.

use crate::backend::TransactionStatus;
use crate::tag::{backend, frontend};

/// ParseComplete.
pub const PARSE_COMPLETE: &[u8] = &[backend::PARSE_COMPLETE, 0, 0, 0, 4];
/// BindComplete.
pub const BIND_COMPLETE: &[u8] = &[backend::BIND_COMPLETE, 0, 0, 0, 4];
/// CloseComplete.
pub const CLOSE_COMPLETE: &[u8] = &[backend::CLOSE_COMPLETE, 0, 0, 0, 4];
/// NoData.
pub const NO_DATA: &[u8] = &[backend::NO_DATA, 0, 0, 0, 4];
/// Sync.
pub const SYNC: &[u8] = &[frontend::SYNC, 0, 0, 0, 4];
/// Flush.
pub const FLUSH: &[u8] = &[frontend::FLUSH, 0, 0, 0, 4];
/// CopyFail with the reason "client left".
pub const COPY_FAIL: &[u8] = b"f\0\0\0\x10client left\0";
/// Terminate.
pub const TERMINATE: &[u8] = &[frontend::TERMINATE, 0, 0, 0, 4];
/// Close of the unnamed statement.
pub const CLOSE_UNNAMED: &[u8] = &[frontend::CLOSE, 0, 0, 0, 6, b'S', 0];
/// Longest ASCII digits of a `u64`.
const LONGEST_NUMBER: usize = 20;

/// ReadyForQuery.
#[must_use]
pub const fn ready_for_query(status: TransactionStatus) -> &'static [u8] {
    match status {
        TransactionStatus::Idle => &[backend::READY_FOR_QUERY, 0, 0, 0, 5, b'I'],
        TransactionStatus::InTransaction => &[backend::READY_FOR_QUERY, 0, 0, 0, 5, b'T'],
        TransactionStatus::Failed => &[backend::READY_FOR_QUERY, 0, 0, 0, 5, b'E'],
    }
}

/// Appends a message whose body `body` writes; the length is filled in afterwards.
pub fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends `text` and its zero. A zero inside would end the string early, so it is left out.
pub fn c_string(out: &mut Vec<u8>, text: &[u8]) {
    if text.contains(&0) {
        out.extend(text.iter().copied().filter(|&byte| byte != 0));
    } else {
        out.extend_from_slice(text);
    }
    out.push(0);
}

/// Query.
pub fn query(out: &mut Vec<u8>, text: &str) {
    message(out, frontend::QUERY, |out| c_string(out, text.as_bytes()));
}

/// CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, backend::COMMAND_COMPLETE, |out| c_string(out, tag.as_bytes()));
}

/// ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, backend::PARAMETER_STATUS, |out| {
        c_string(out, name.as_bytes());
        c_string(out, value.as_bytes());
    });
}

/// BackendKeyData.
pub fn backend_key_data(out: &mut Vec<u8>, pid: u32, key: &[u8]) {
    message(out, backend::BACKEND_KEY_DATA, |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(key);
    });
}

/// An Authentication request with its code and data.
pub fn authentication(out: &mut Vec<u8>, code: u32, data: &[u8]) {
    message(out, backend::AUTHENTICATION, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// PasswordMessage, SASLInitialResponse or SASLResponse, all of which have the same tag.
pub fn password(out: &mut Vec<u8>, body: &[u8]) {
    message(out, frontend::PASSWORD, |out| out.extend_from_slice(body));
}

/// How bad an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed, the session goes on.
    Error,
    /// The session ends.
    Fatal,
    /// Nothing failed; this is sent as NoticeResponse.
    Notice,
    /// As `Notice`, but louder.
    Warning,
}

impl Severity {
    const fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
        }
    }
}

/// ErrorResponse or, for the mild severities, NoticeResponse.
pub fn error(out: &mut Vec<u8>, severity: Severity, sqlstate: &str, words: &str, hint: Option<&str>) {
    let tag = match severity {
        Severity::Error | Severity::Fatal => backend::ERROR_RESPONSE,
        Severity::Notice | Severity::Warning => backend::NOTICE_RESPONSE,
    };
    message(out, tag, |out| {
        for (kind, text) in [
            (b'S', severity.word()),
            (b'V', severity.word()),
            (b'C', sqlstate),
            (b'M', words),
            (b'H', hint.unwrap_or_default()),
        ] {
            if !text.is_empty() {
                out.push(kind);
                c_string(out, text.as_bytes());
            }
        }
        out.push(0);
    });
}

/// Parse under one of our own names.
pub fn parse(out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u8]) {
    message(out, frontend::PARSE, |out| {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(text);
        out.push(0);
        out.extend_from_slice(types);
    });
}

/// Close or Describe (`tag`) of a statement.
pub fn statement_target(out: &mut Vec<u8>, tag: u8, name: &[u8]) {
    message(out, tag, |out| {
        out.push(b'S');
        out.extend_from_slice(name);
        out.push(0);
    });
}

/// The name that a statement has on servers: a letter and its number, without an allocation.
#[derive(Debug, Clone, Copy)]
pub struct ServerName {
    bytes: [u8; SERVER_NAME_PREFIX.len() + LONGEST_NUMBER],
    length: usize,
}

/// What our own statement names begin with. A client's name that begins so too is never sent as it is.
pub const SERVER_NAME_PREFIX: &[u8] = b"hawser_p";

impl ServerName {
    /// The name of statement `number`.
    #[must_use]
    pub fn new(mut number: u64) -> Self {
        let mut digits = [0u8; LONGEST_NUMBER];
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            count += 1;
            if number == 0 {
                break;
            }
        }
        let mut bytes = [0; SERVER_NAME_PREFIX.len() + LONGEST_NUMBER];
        let all = SERVER_NAME_PREFIX.iter().chain(digits.iter().skip(LONGEST_NUMBER - count));
        for (place, byte) in bytes.iter_mut().zip(all) {
            *place = *byte;
        }
        Self { bytes, length: SERVER_NAME_PREFIX.len() + count }
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The head of a Bind whose statement name is replaced: everything up to and with the new name's zero. What
/// follows the old name in the client's message is sent after it, untouched.
///
/// `body` is the length of the client's Bind body, `portal` and `old` its names.
pub fn bind_head(out: &mut Vec<u8>, body: usize, portal: &[u8], old: &[u8], new: &[u8]) {
    let length = 4 + body + new.len() - old.len();
    out.push(frontend::BIND);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(portal);
    out.push(0);
    out.extend_from_slice(new);
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    #[test]
    fn server_names_are_prefix_and_number() {
        assert_eq!(ServerName::new(0).as_bytes(), b"hawser_p0");
        assert_eq!(ServerName::new(42).as_bytes(), b"hawser_p42");
        assert_eq!(ServerName::new(u64::MAX).as_bytes(), b"hawser_p18446744073709551615");
    }

    #[test]
    fn messages_have_the_length_of_what_was_written() {
        let mut out = Vec::new();
        error(&mut out, Severity::Fatal, "28P01", "no", None);
        let header = frame::header(&out).unwrap().unwrap();
        assert_eq!(header.total(), out.len());
        assert_eq!(frame::header(COPY_FAIL).unwrap().unwrap().total(), COPY_FAIL.len());
    }

    #[test]
    fn a_renamed_bind_is_as_long_as_it_says() {
        let body = b"p\0old\0\0\0\0\0\0\0";
        let mut out = Vec::new();
        bind_head(&mut out, body.len(), b"p", b"old", b"longer_name");
        out.extend_from_slice(&body[6..]);
        assert_eq!(frame::header(&out).unwrap().unwrap().total(), out.len());
    }
}
