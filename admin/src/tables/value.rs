//! Values of the five types that the console speaks, in text and in PostgreSQL's binary formats. Pure.

use std::borrow::Cow;

/// A type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// text, oid 25.
    Text,
    /// int4, oid 23.
    Int4,
    /// int8, oid 20.
    Int8,
    /// numeric, oid 1700; ours are whole numbers.
    Numeric,
    /// bytea, oid 17.
    Bytea,
}

impl Kind {
    /// PostgreSQL's number for it. Source: `pg_type.dat`.
    #[must_use]
    pub const fn oid(self) -> u32 {
        match self {
            Self::Text => 25,
            Self::Int4 => 23,
            Self::Int8 => 20,
            Self::Numeric => 1700,
            Self::Bytea => 17,
        }
    }

    /// Bytes of a value; -1: they vary.
    #[must_use]
    pub const fn size(self) -> i16 {
        match self {
            Self::Int4 => 4,
            Self::Int8 => 8,
            Self::Text | Self::Numeric | Self::Bytea => -1,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Numeric => "numeric",
            Self::Bytea => "bytea",
        }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// See [`Kind::Text`].
    Text(String),
    /// See [`Kind::Int4`].
    Int4(i32),
    /// See [`Kind::Int8`].
    Int8(i64),
    /// See [`Kind::Numeric`].
    Numeric(u64),
    /// See [`Kind::Bytea`].
    Bytea(Vec<u8>),
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A text, or nothing.
    #[must_use]
    pub fn optional(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }

    /// An int4; what does not fit is the largest.
    #[must_use]
    pub fn int4(number: impl TryInto<i32>) -> Self {
        Self::Int4(number.try_into().unwrap_or(i32::MAX))
    }

    /// An int8; what does not fit is the largest.
    #[must_use]
    pub fn int8(number: impl TryInto<i64>) -> Self {
        Self::Int8(number.try_into().unwrap_or(i64::MAX))
    }

    /// Whether a column of this type may hold it.
    #[must_use]
    pub const fn fits(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Null, _)
                | (Self::Text(_), Kind::Text)
                | (Self::Int4(_), Kind::Int4)
                | (Self::Int8(_), Kind::Int8)
                | (Self::Numeric(_), Kind::Numeric)
                | (Self::Bytea(_), Kind::Bytea)
        )
    }

    /// As a number, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<i128> {
        match self {
            Self::Int4(number) => Some(i128::from(*number)),
            Self::Int8(number) => Some(i128::from(*number)),
            Self::Numeric(number) => Some(i128::from(*number)),
            Self::Null | Self::Text(_) | Self::Bytea(_) => None,
        }
    }

    /// In text format; `None` for nothing.
    #[must_use]
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Null => return None,
            Self::Text(text) => Cow::Borrowed(text),
            Self::Int4(number) => Cow::Owned(number.to_string()),
            Self::Int8(number) => Cow::Owned(number.to_string()),
            Self::Numeric(number) => Cow::Owned(number.to_string()),
            Self::Bytea(bytes) => {
                let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
                Cow::Owned(format!("\\x{}", hex.collect::<String>()))
            }
        })
    }

    /// In binary format; `None` for nothing.
    #[must_use]
    pub fn to_binary(&self) -> Option<Cow<'_, [u8]>> {
        Some(match self {
            Self::Null => return None,
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
            Self::Int4(number) => Cow::Owned(number.to_be_bytes().to_vec()),
            Self::Int8(number) => Cow::Owned(number.to_be_bytes().to_vec()),
            Self::Numeric(number) => Cow::Owned(numeric(*number)),
            Self::Bytea(bytes) => Cow::Borrowed(bytes),
        })
    }
}

/// A whole number as `numeric_send` writes it: count of digits, weight of the first, sign, scale, and the digits to the
/// base of 10,000. Source: `src/backend/utils/adt/numeric.c`.
fn numeric(mut number: u64) -> Vec<u8> {
    let mut digits: Vec<u16> = Vec::new();
    while number > 0 {
        digits.push(u16::try_from(number % 10_000).unwrap_or(0));
        number /= 10_000;
    }
    let weight = i16::try_from(digits.len()).unwrap_or(0) - 1;
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let digits: Vec<u16> = digits.into_iter().skip(zeros).rev().collect();
    let count = i16::try_from(digits.len()).unwrap_or(0);
    let mut out = Vec::with_capacity(8 + 2 * digits.len());
    for field in [count, weight.max(0), 0, 0] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    for digit in digits {
        out.extend_from_slice(&digit.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_to_the_base_of_ten_thousand() {
        assert_eq!(numeric(0), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(numeric(7), [0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
        // 1 2345 6789
        assert_eq!(numeric(123_456_789), [0, 3, 0, 2, 0, 0, 0, 0, 0, 1, 9, 41, 26, 133]);
        // Zeros at the end are not written.
        assert_eq!(numeric(10_000), [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn values_are_written_as_postgresql_does() {
        assert_eq!(Value::Bytea(vec![1, 255]).to_text().as_deref(), Some("\\x01ff"));
        assert_eq!(Value::Int4(-1).to_binary().as_deref(), Some(&[255; 4][..]));
        assert_eq!(Value::Null.to_text(), None);
        assert_eq!(Value::int4(usize::MAX), Value::Int4(i32::MAX));
    }
}
