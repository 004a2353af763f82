//! What a server's messages say, as far as a pooler must know. Pure.

use crate::frame::c_string;
use crate::sqlstate;
use crate::tag::backend;

/// The transaction status in ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransactionStatus {
    /// Outside a transaction block.
    #[default]
    Idle,
    /// In a transaction block.
    InTransaction,
    /// In a transaction block that failed.
    Failed,
}

impl TransactionStatus {
    /// From the byte in ReadyForQuery.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    /// As the byte in ReadyForQuery.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Name and value of a ParameterStatus body.
#[must_use]
pub fn parameter_status(body: &[u8]) -> Option<(&str, &str)> {
    let (name, rest) = c_string(body)?;
    let (value, after) = c_string(rest)?;
    if !after.is_empty() {
        return None;
    }
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

/// Process number and cancel key (4 to 256 bytes) of a BackendKeyData body.
#[must_use]
pub fn backend_key_data(body: &[u8]) -> Option<(u32, &[u8])> {
    let (&pid, key) = body.split_first_chunk::<4>()?;
    (4..=256).contains(&key.len()).then_some((u32::from_be_bytes(pid), key))
}

/// Process number of the sender and channel of a NotificationResponse body.
#[must_use]
pub fn notification(body: &[u8]) -> Option<(u32, &[u8])> {
    let (&pid, rest) = body.split_first_chunk::<4>()?;
    let (channel, rest) = c_string(rest)?;
    let (_, after) = c_string(rest)?;
    after.is_empty().then_some((u32::from_be_bytes(pid), channel))
}

/// The tag text of a CommandComplete body.
#[must_use]
pub fn command_tag(body: &[u8]) -> Option<&[u8]> {
    c_string(body).map(|(tag, _)| tag)
}

/// The fields of an ErrorResponse or NoticeResponse that we look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErrorFields<'a> {
    /// `V`, or `S` from servers before 9.6.
    pub severity: &'a [u8],
    /// `C`.
    pub sqlstate: &'a [u8],
    /// `M`.
    pub message: &'a [u8],
    /// `R`: the function of the server's that failed, whatever language the message is in.
    pub routine: &'a [u8],
}

/// Reads the fields of an ErrorResponse or NoticeResponse body, as far as they are well formed.
#[must_use]
pub fn error_fields(mut body: &[u8]) -> ErrorFields<'_> {
    let mut fields = ErrorFields::default();
    while let Some((&kind, rest)) = body.split_first() {
        let Some((text, after)) = c_string(rest) else { break };
        match kind {
            0 => break,
            b'V' => fields.severity = text,
            b'S' if fields.severity.is_empty() => fields.severity = text,
            b'C' => fields.sqlstate = text,
            b'M' => fields.message = text,
            b'R' => fields.routine = text,
            _ => {}
        }
        body = after;
    }
    fields
}

/// Whether a message says that the server stops or has crashed: it is about the server connection, of which a pooler's
/// client knows nothing.
#[must_use]
pub fn is_farewell(tag: u8, body: &[u8]) -> bool {
    let fields = match tag {
        backend::ERROR_RESPONSE | backend::NOTICE_RESPONSE => error_fields(body),
        _ => return false,
    };
    // Of a crash a warning tells.
    let is_last = matches!(fields.severity, b"FATAL" | b"PANIC")
        || fields.sqlstate == sqlstate::CRASH_SHUTDOWN.as_bytes();
    is_last && sqlstate::is_of_stopping_server(fields.sqlstate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn error_fields_are_found_in_any_order() {
        let fields = error_fields(b"MBad\0C42601\0SFEHLER\0VERROR\0\0");
        assert_eq!(
            (fields.severity, fields.sqlstate, fields.message),
            (&b"ERROR"[..], &b"42601"[..], &b"Bad"[..])
        );
    }

    proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let _ = parameter_status(&body);
            let _ = backend_key_data(&body);
            let _ = command_tag(&body);
            let _ = notification(&body);
            let _ = error_fields(&body);
        }
    }
}
