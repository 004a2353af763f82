//! Where one message ends and the next begins. Pure.
//!
//! A message is a tag byte, a length of four bytes that counts itself, and a body. Lengths are hostile: below
//! four or above [`LARGEST_BODY`] is a [`FrameError`], and nobody reserves memory for a length that was only
//! announced.

use thiserror::Error;

/// Bytes before the body: the tag and the length.
pub const HEADER_LENGTH: usize = 5;

/// The largest body that PostgreSQL itself would send or accept (`MaxAllocSize`, 1 GiB), with room for the
/// fixed fields around a value of that size.
pub const LARGEST_BODY: usize = 0x4000_0000 + 0x1_0000;

/// A header that cannot be a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length does not even count itself.
    #[error("message length {0} is shorter than the length field")]
    TooShort(u32),
    /// The length is beyond what PostgreSQL accepts.
    #[error("message length {0} is too large")]
    TooLong(u32),
}

/// Tag and body length of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The message's kind, see [`crate::tag`].
    pub tag: u8,
    /// Bytes of the body.
    pub body: usize,
}

impl Header {
    /// Bytes of the whole message.
    #[must_use]
    pub const fn total(self) -> usize {
        HEADER_LENGTH + self.body
    }
}

/// Reads the header at the start of `bytes`; `None` while there are fewer than [`HEADER_LENGTH`].
///
/// # Errors
/// The length is impossible.
#[inline]
pub fn header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length < 4 {
        return Err(FrameError::TooShort(length));
    }
    let body = length as usize - 4;
    if body > LARGEST_BODY {
        return Err(FrameError::TooLong(length));
    }
    Ok(Some(Header { tag, body }))
}

/// Reads a zero-terminated string at the start of `bytes`: the string without its zero, and what follows.
#[inline]
#[must_use]
pub fn c_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    Some((text, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0u32, 1, 3, 0x7fff_ffff, 0xffff_ffff] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert!(header(&bytes).is_err(), "{length}");
        }
    }

    #[test]
    fn a_short_header_asks_for_more() {
        assert_eq!(header(b"Q\0\0\0"), Ok(None));
        assert_eq!(header(b"Q\0\0\0\x04"), Ok(Some(Header { tag: b'Q', body: 0 })));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_header_or_an_error(bytes: Vec<u8>) {
            if let Ok(Some(found)) = header(&bytes) {
                prop_assert!(found.body <= LARGEST_BODY);
            }
            if let Some((text, rest)) = c_string(&bytes) {
                prop_assert_eq!(text.len() + 1 + rest.len(), bytes.len());
            }
        }
    }
}
