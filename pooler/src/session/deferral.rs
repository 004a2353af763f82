//! A BEGIN that has not been sent: while the client thinks, it holds no server connection. Pure.
//!
//! Only a text that surely begins a transaction and does nothing else is deferred: the words of BEGIN and START
//! TRANSACTION with their modes, in any case, without comments. Anything else goes to the server as it is.

/// What a simple query says about transactions, if that is all it says.
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

/// Whether the first word of `text`, in any case, is one of `words`. Blanks before it do not count.
fn begins_with(text: &[u8], words: &[&str]) -> bool {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    let first = text.get(..end).unwrap_or_default();
    words.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(first))
}

/// Reads `text`; `None` when it is anything else.
#[must_use]
pub fn control(text: &[u8]) -> Option<Control> {
    if text.len() > LONGEST || !begins_with(text, &FIRST_WORDS) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        }
    }
}
