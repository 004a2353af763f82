//! Positions in the write-ahead log. Pure.

use std::fmt;

/// Bytes from the beginning of the log, as in `pg_lsn`. Zero is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// Header at the beginning of a page of the log (PostgreSQL's `SizeOfXLogShortPHD`).
const PAGE_HEADER: u64 = 24;

/// Header at the beginning of a segment (`SizeOfXLogLongPHD`).
const SEGMENT_HEADER: u64 = 40;

impl Lsn {
    /// Reads `16/B374D848`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |digits: &str| {
            let plain =
                (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        Some(Self(part(high)? << 32 | part(low)?))
    }

    /// Where the last record ends, given where the next one would begin.
    ///
    /// A primary whose last record ends with a page says that the next one begins behind the header of the page that
    /// follows. Its standbys stay at the end of the record until there is another one, so they would never catch up
    /// with a primary that is idle. No record ends exactly behind a header, so this never goes back too far.
    #[must_use]
    pub const fn end_of_last_record(self, page: u64, segment: u64) -> Self {
        if page == 0 || segment == 0 {
            return self;
        }
        let header = if self.0 % segment < page { SEGMENT_HEADER } else { PAGE_HEADER };
        if self.0 % page == header { Self(self.0 - header) } else { self }
    }

    /// Bytes from `other` to here; zero if it is further.
    #[must_use]
    pub const fn ahead_of(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_postgresql_writes_them() {
        for text in ["0/0", "0/4000028", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(Lsn::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", "/", "0", "0/", "/0", "g/0", "0/123456789", "-1/0", "+1/0", "0/0/0"] {
            assert_eq!(Lsn::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_position_behind_a_header_is_the_end_of_the_page_before() {
        let (page, segment) = (8192, 16 << 20);
        let cases = [
            ("0/4000028", "0/4000000"),
            ("0/4002018", "0/4002000"),
            // A record that goes on from the page before may end here.
            ("0/4002028", "0/4002028"),
            // Inside the header of a segment nothing ends.
            ("0/4000018", "0/4000018"),
            ("0/4000000", "0/4000000"),
            ("0/4002040", "0/4002040"),
        ];
        for (next, end) in cases {
            let found = Lsn::parse(next).unwrap().end_of_last_record(page, segment);
            assert_eq!(found.to_string(), end, "{next}");
        }
    }
}
