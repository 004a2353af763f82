//! What a client's messages say, as far as a pooler must know. Pure.
//!
//! Only names and texts are read; parameter values pass untouched and unread.

use crate::frame::c_string;
use thiserror::Error;

/// A message whose body does not hold what its kind promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid {0} message")]
pub struct Malformed(pub &'static str);

/// The longest statement or portal name that we read: PostgreSQL cuts none, but nobody needs more.
pub const LONGEST_NAME: usize = 1024;

/// A Parse message's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The client's name of the statement, empty for the unnamed one.
    pub name: &'a [u8],
    /// The SQL text.
    pub text: &'a [u8],
    /// The parameter types: a count of two bytes and so many oids, checked.
    pub types: &'a [u8],
}

/// Reads a whole Parse body.
///
/// # Errors
/// A string is not terminated, or the number of types does not fit what is there.
pub fn parse(body: &[u8]) -> Result<Parse<'_>, Malformed> {
    const BAD: Malformed = Malformed("Parse");
    let (name, rest) = c_string(body).ok_or(BAD)?;
    let (text, types) = c_string(rest).ok_or(BAD)?;
    let (&count, oids) = types.split_first_chunk::<2>().ok_or(BAD)?;
    if oids.len() != usize::from(u16::from_be_bytes(count)) * 4 || name.len() > LONGEST_NAME {
        return Err(BAD);
    }
    Ok(Parse { name, text, types })
}

/// Names of the portal and of the statement.
pub type BindNames<'a> = (&'a [u8], &'a [u8]);

/// The two names at the start of a Bind body. `None`: more bytes are needed.
///
/// # Errors
/// A name is too long to be one.
pub fn bind_names(body: &[u8]) -> Result<Option<BindNames<'_>>, Malformed> {
    const BAD: Malformed = Malformed("Bind");
    let found = c_string(body).and_then(|(portal, rest)| Some((portal, c_string(rest)?.0)));
    match found {
        Some((portal, name)) if portal.len() <= LONGEST_NAME && name.len() <= LONGEST_NAME => {
            Ok(Some((portal, name)))
        }
        None if body.len() <= 2 * (LONGEST_NAME + 1) => Ok(None),
        _ => Err(BAD),
    }
}

/// The values of the parameters in a Bind body, of which the end may be missing; `None` is NULL.
pub fn bind_values(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let values = c_string(body).and_then(|(_, rest)| c_string(rest)).and_then(|(_, rest)| {
        let (formats, rest) = rest.split_first_chunk::<2>()?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*formats)) * 2..)?;
        let (count, values) = rest.split_first_chunk::<2>()?;
        Some((u16::from_be_bytes(*count), values))
    });
    let (mut left, mut rest) = values.unwrap_or_default();
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, behind) = behind.split_at_checked(length.unwrap_or(0))?;
        rest = behind;
        Some(length.map(|_| value))
    })
}

/// What Describe and Close are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

/// Reads a whole Describe or Close body.
///
/// # Errors
/// The kind is neither `S` nor `P`, or the name does not end with the body.
pub fn target<'a>(body: &'a [u8], message: &'static str) -> Result<Target<'a>, Malformed> {
    let bad = Malformed(message);
    let (&kind, rest) = body.split_first().ok_or(bad)?;
    let (name, after) = c_string(rest).ok_or(bad)?;
    if !after.is_empty() || name.len() > LONGEST_NAME {
        return Err(bad);
    }
    match kind {
        b'S' => Ok(Target::Statement(name)),
        b'P' => Ok(Target::Portal(name)),
        _ => Err(bad),
    }
}

/// The SQL text of a whole Query body.
///
/// # Errors
/// The text is not terminated, or something follows it.
pub fn query(body: &[u8]) -> Result<&[u8], Malformed> {
    match c_string(body) {
        Some((text, [])) => Ok(text),
        _ => Err(Malformed("Query")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_parse_with_lying_counts_is_malformed() {
        assert!(parse(b"s\0select 1\0\0\x01").is_err());
        assert!(parse(b"s\0select 1\0\0\x01\0\0\0").is_err());
        let whole = parse(b"s\0select 1\0\0\x01\0\0\0\x17").unwrap();
        assert_eq!((whole.name, whole.text), (&b"s"[..], &b"select 1"[..]));
    }

    #[test]
    fn bind_names_wait_for_bytes_but_not_for_ever() {
        assert_eq!(bind_names(b"po"), Ok(None));
        assert_eq!(bind_names(b"po\0st\0rest"), Ok(Some((&b"po"[..], &b"st"[..]))));
        assert!(bind_names(&[b'x'; 4096]).is_err());
    }

    #[test]
    fn values_of_parameters_are_read_as_far_as_they_are_there() {
        let mut body = b"portal\0statement\0\0\x01\0\x01\0\x03".to_vec();
        body.extend_from_slice(b"\0\0\0\x01a\xff\xff\xff\xff\0\0\0\x02bc\0\0");
        let values = |body| bind_values(body).collect::<Vec<_>>();
        assert_eq!(values(&body), [Some(&b"a"[..]), None, Some(b"bc")]);
        assert_eq!(values(&body[..body.len() - 3]), [Some(&b"a"[..]), None]);
        assert!(values(&body[..20]).is_empty());
    }

    proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let _ = parse(&body);
            let _ = bind_values(&body).count();
            let _ = bind_names(&body);
            let _ = target(&body, "Close");
            let _ = query(&body);
        }
    }
}
