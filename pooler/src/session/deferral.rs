//! A BEGIN that has not been sent: while the client thinks, it holds no server connection. Pure.
//!
//! Only a text that surely begins a transaction and does nothing else is deferred: the words of BEGIN and START
//! TRANSACTION with their modes, in any case, without comments. Anything else goes to the server as it is.

use hawser_sql_router::scan::begins_with;
use hawser_wire::encode;
use hawser_wire::frame::{self, HEADER_LENGTH};
use hawser_wire::frontend::{self as message, Target};
use hawser_wire::tag::frontend;

/// What a statement says about transactions, if that is all it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// BEGIN or START TRANSACTION, with the command tag that PostgreSQL answers.
    Begin(&'static str),
    /// COMMIT or END.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
}

/// Longest text that is looked at.
const LONGEST: usize = 200;

/// What a text can begin with that is read further.
const FIRST_WORDS: [&str; 6] = ["begin", "start", "commit", "end", "rollback", "abort"];

fn may_control(text: &[u8]) -> bool {
    begins_with(text.trim_ascii_start(), &FIRST_WORDS)
}

/// Reads `text`; `None` when it is anything else.
#[must_use]
pub fn control(text: &[u8]) -> Option<Control> {
    if text.len() > LONGEST || !may_control(text) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?.trim();
    let text = text.strip_suffix(';').unwrap_or(text);
    if !text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte.is_ascii_whitespace() || byte == b',') {
        return None;
    }
    let lower = text.to_ascii_lowercase().replace(',', " , ");
    let words: Vec<&str> = lower.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["begin", "work" | "transaction", modes @ ..] | ["begin", modes @ ..] => {
            are_modes(modes).then_some(Control::Begin("BEGIN"))
        }
        ["start", "transaction", modes @ ..] => {
            are_modes(modes).then_some(Control::Begin("START TRANSACTION"))
        }
        ["commit" | "end"] | ["commit" | "end", "work" | "transaction"] => Some(Control::Commit),
        ["rollback" | "abort"] | ["rollback" | "abort", "work" | "transaction"] => Some(Control::Rollback),
        _ => None,
    }
}

/// Zero or more transaction modes, with or without commas between them.
fn are_modes(mut words: &[&str]) -> bool {
    let mut first = true;
    loop {
        if words.is_empty() {
            return true;
        }
        if let [",", rest @ ..] = words {
            if first || rest.is_empty() {
                return false;
            }
            words = rest;
        }
        words = match words {
            ["isolation", "level", "serializable", rest @ ..]
            | ["isolation", "level", "repeatable", "read", rest @ ..]
            | ["isolation", "level", "read", "committed" | "uncommitted", rest @ ..]
            | ["read", "only" | "write", rest @ ..]
            | ["not", "deferrable", rest @ ..]
            | ["deferrable", rest @ ..] => rest,
            _ => return false,
        };
        first = false;
    }
}

/// A batch of the extended protocol that runs the unnamed statement without parameters, through the unnamed portal, and
/// does nothing else. If it parses it, the text begins as one that [`control`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lone<'a> {
    /// The text, if it is parsed in the batch, without parameter types.
    pub parsed: Option<&'a [u8]>,
    /// The portal is described.
    pub is_described: bool,
    /// The bytes of the batch, its Sync included.
    pub length: usize,
}

/// Reads the batch at the beginning of `data`; `None` when it is not there as a whole, or anything else.
#[must_use]
pub fn lone(data: &[u8]) -> Option<Lone<'_>> {
    let mut rest = data;
    let mut next = || {
        let header = frame::header(rest).ok()??;
        let (message, behind) = rest.split_at_checked(header.total())?;
        rest = behind;
        Some((header.tag, message.get(HEADER_LENGTH..)?))
    };
    let (mut tag, mut body) = next()?;
    let mut parsed = None;
    if tag == frontend::PARSE {
        // Most texts end here.
        if !may_control(body.strip_prefix(b"\0")?) {
            return None;
        }
        let parse = message::parse(body).ok()?;
        if parse.types != [0; 2] {
            return None;
        }
        parsed = Some(parse.text);
        (tag, body) = next()?;
    }
    if tag != frontend::BIND || !binds_without_parameters(body) {
        return None;
    }
    (tag, body) = next()?;
    let is_described = tag == frontend::DESCRIBE;
    if is_described {
        if message::target(body, "Describe").ok()? != Target::Portal(b"") {
            return None;
        }
        (tag, body) = next()?;
    }
    let runs_it = tag == frontend::EXECUTE && matches!(body, [0, _, _, _, _]);
    let length = data.len() - rest.len() + encode::SYNC.len();
    (runs_it && rest.starts_with(encode::SYNC)).then_some(Lone { parsed, is_described, length })
}

/// Whether a Bind without parameters binds the unnamed statement to the unnamed portal.
fn binds_without_parameters(body: &[u8]) -> bool {
    let counts = body.strip_prefix(b"\0\0").and_then(|rest| {
        let (formats, rest) = counted(rest)?;
        let (parameters, rest) = counted(rest)?;
        let (_, rest) = counted(rest)?;
        rest.is_empty().then_some((formats.len(), parameters.len()))
    });
    // More formats than parameters are an error, but one may stand for all.
    matches!(counts, Some((0 | 2, 0)))
}

/// So many values of two bytes, and what is behind them.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*count)) * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARSE: &[u8] = b"P\0\0\0\x0d\0BEGIN\0\0\0";
    const BIND: &[u8] = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0";
    const BIND_FORMATS: &[u8] = b"B\0\0\0\x10\0\0\0\x01\0\x01\0\0\0\x01\0\x01";
    const DESCRIBE: &[u8] = b"D\0\0\0\x06P\0";
    const EXECUTE: &[u8] = b"E\0\0\0\x09\0\0\0\0\0";

    #[test]
    fn a_batch_of_one_statement_is_read() {
        let whole = [PARSE, BIND, DESCRIBE, EXECUTE, encode::SYNC, b"next"].concat();
        let length = whole.len() - 4;
        let read = Lone { parsed: Some(b"BEGIN"), is_described: true, length };
        assert_eq!(lone(&whole), Some(read));
        let bound = [BIND_FORMATS, EXECUTE, encode::SYNC].concat();
        let read = Lone { parsed: None, is_described: false, length: bound.len() };
        assert_eq!(lone(&bound), Some(read));
        for count in 0..length {
            assert_eq!(lone(&whole[..count]), None, "{count}");
        }
    }

    #[test]
    fn other_batches_are_not() {
        for messages in [
            &[PARSE, encode::SYNC][..],
            &[b"P\0\0\0\x0d\0TABLE\0\0\0", BIND, EXECUTE, encode::SYNC],
            &[PARSE, BIND, encode::SYNC],
            &[PARSE, b"B\0\0\0\x0d\0b\0\0\0\0\0\0\0", EXECUTE, encode::SYNC],
            &[BIND, EXECUTE, EXECUTE, encode::SYNC],
            &[BIND, DESCRIBE, DESCRIBE, EXECUTE, encode::SYNC],
            &[BIND, b"D\0\0\0\x06S\0", EXECUTE, encode::SYNC],
            &[BIND, EXECUTE, b"H\0\0\0\x04", encode::SYNC],
            &[b"P\0\0\0\x0en\0BEGIN\0\0\0", BIND, EXECUTE, encode::SYNC],
            &[b"P\0\0\0\x11\0BEGIN\0\0\x01\0\0\0\x17", BIND, EXECUTE, encode::SYNC],
            // A parameter, a portal with a name, and more formats than parameters.
            &[b"B\0\0\0\x10\0\0\0\0\0\x01\xff\xff\xff\xff\0\0", EXECUTE, encode::SYNC],
            &[b"B\0\0\0\x0dp\0\0\0\0\0\0\0\0", EXECUTE, encode::SYNC],
            &[b"B\0\0\0\x10\0\0\0\x02\0\0\0\0\0\0\0\0", EXECUTE, encode::SYNC],
        ] {
            assert_eq!(lone(&messages.concat()), None, "{messages:?}");
        }
    }

    #[test]
    fn what_begins_a_transaction_and_nothing_else_is_deferred() {
        for text in [
            "BEGIN",
            "begin;",
            " Begin Work ",
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            "begin isolation level serializable read only, deferrable",
            "BEGIN READ WRITE",
        ] {
            assert_eq!(control(text.as_bytes()), Some(Control::Begin("BEGIN")), "{text}");
        }
        assert_eq!(control(b"START TRANSACTION"), Some(Control::Begin("START TRANSACTION")));
    }

    #[test]
    fn anything_else_goes_to_the_server() {
        for text in [
            "",
            "START",
            "BEGIN; SELECT 1",
            "BEGIN -- comment",
            "BEGIN ISOLATION LEVEL",
            "BEGIN , READ ONLY",
            "BEGIN READ ONLY,",
            "COMMIT AND CHAIN",
            "ROLLBACK TO a",
            "COMMIT PREPARED 'a'",
            "beginning",
        ] {
            assert_eq!(control(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ends_are_recognised() {
        assert_eq!(control(b"END;"), Some(Control::Commit));
        assert_eq!(control(b"abort work"), Some(Control::Rollback));
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_an_end(text: Vec<u8>) {
            let _ = control(&text);
            let _ = lone(&text);
        }
    }
}
