//! Messages that came back.

use std::fmt;

/// One backend message.
#[derive(Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its first byte.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

impl Backend {
    /// A field of an ErrorResponse or NoticeResponse, such as `C`; empty when it has none.
    pub fn field(&self, code: u8) -> String {
        self.body
            .split(|byte| *byte == 0)
            .find_map(|field| field.strip_prefix(&[code]))
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default()
    }

    /// SQLSTATE of an ErrorResponse or NoticeResponse.
    pub fn sqlstate(&self) -> String {
        self.field(b'C')
    }

    /// Text of an ErrorResponse or NoticeResponse.
    pub fn text(&self) -> String {
        self.field(b'M')
    }

    /// The columns of a DataRow; `None` is NULL.
    pub fn columns(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "{self:?} is no DataRow");
        let mut columns = Vec::new();
        let mut rest = &self.body[2..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            let Ok(length) = usize::try_from(length) else {
                columns.push(None);
                rest = after;
                continue;
            };
            columns.push(Some(String::from_utf8_lossy(&after[..length]).into_owned()));
            rest = &after[length..];
        }
        columns
    }

    /// The first column of a DataRow.
    pub fn first(&self) -> String {
        self.columns().first().cloned().flatten().unwrap_or_default()
    }

    /// Strings that end with a zero, as in ParameterStatus and CommandComplete.
    pub fn strings(&self) -> Vec<String> {
        let mut strings: Vec<String> = self
            .body
            .split(|byte| *byte == 0)
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect();
        strings.pop();
        strings
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = char::from(self.tag);
        match self.tag {
            b'E' | b'N' => write!(f, "{tag} {} {} {}", self.field(b'S'), self.sqlstate(), self.text()),
            b'D' => write!(f, "D {:?}", self.columns()),
            b'C' | b'S' => write!(f, "{tag} {:?}", self.strings()),
            b'Z' => write!(f, "Z {}", self.body.first().map_or('?', |status| char::from(*status))),
            _ => write!(f, "{tag} ({} bytes)", self.body.len()),
        }
    }
}

/// The first bytes of messages, as one word.
pub fn tags(messages: &[Backend]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// SQLSTATEs of all errors.
pub fn sqlstates(messages: &[Backend]) -> Vec<String> {
    messages.iter().filter(|message| message.tag == b'E').map(Backend::sqlstate).collect()
}

/// SQLSTATE of the first error; empty when there is none.
pub fn sqlstate_of(messages: &[Backend]) -> String {
    sqlstates(messages).into_iter().next().unwrap_or_default()
}

/// The first column of each row.
pub fn rows(messages: &[Backend]) -> Vec<String> {
    messages.iter().filter(|message| message.tag == b'D').map(Backend::first).collect()
}

/// The first column of the first row; empty when there is none.
pub fn row(messages: &[Backend]) -> String {
    rows(messages).into_iter().next().unwrap_or_default()
}

/// What the last message, a ReadyForQuery, says of the transaction.
pub fn status(messages: &[Backend]) -> char {
    messages.last().map_or('?', |message| char::from(message.body[0]))
}
