//! What the rows of a statement look like, for those who were told and read rows by it. Pure.

use hawser_wire::frame::c_string;
use hawser_wire::tag::backend;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Names, types and type modifiers of the columns, as a server compares them: a plan whose result has others "must not
/// change result type". Formats do not count, since they are chosen at each Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns(u64);

/// What follows a column's name: table (4 bytes), its column (2), type (4), length (2), modifier (4), format (2).
const FIELD: usize = 18;

impl Columns {
    /// Reads the body of a RowDescription or of NoData; `None` where it is neither, or malformed.
    #[must_use]
    pub fn read(tag: u8, body: &[u8]) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        let mut rest = match tag {
            backend::NO_DATA => &[],
            backend::ROW_DESCRIPTION => body.get(2..)?,
            _ => return None,
        };
        tag.hash(&mut hasher);
        while !rest.is_empty() {
            let (name, after) = c_string(rest)?;
            let (field, after) = after.split_at_checked(FIELD)?;
            (name, field.get(6..10), field.get(12..16)).hash(&mut hasher);
            rest = after;
        }
        Some(Self(hasher.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(columns: &[(&str, u32)], format: u8) -> Option<Columns> {
        let mut body = vec![0, u8::try_from(columns.len()).unwrap()];
        for (name, kind) in columns {
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&[0; 7]);
            body.extend_from_slice(&kind.to_be_bytes());
            body.extend_from_slice(&[0, 4, 255, 255, 255, 255, 0, format]);
        }
        Columns::read(backend::ROW_DESCRIPTION, &body)
    }

    #[test]
    fn columns_differ_by_name_type_and_order_and_not_by_format() {
        let plain = described(&[("a", 23), ("b", 25)], 0);
        assert!(plain.is_some());
        assert_eq!(plain, described(&[("a", 23), ("b", 25)], 1));
        let others: [&[(&str, u32)]; 4] =
            [&[("a", 23)], &[("a", 23), ("b", 23)], &[("b", 25), ("a", 23)], &[("a", 23), ("c", 25)]];
        for other in others {
            assert_ne!(plain, described(other, 0), "{other:?}");
        }
        let none = Columns::read(backend::NO_DATA, b"");
        assert!(none.is_some());
        assert_ne!(none, described(&[], 0));
    }

    #[test]
    fn what_is_malformed_says_nothing() {
        assert_eq!(Columns::read(backend::ROW_DESCRIPTION, b"\0"), None);
        assert_eq!(Columns::read(backend::ROW_DESCRIPTION, b"\0\x01a\0\0"), None);
        assert_eq!(Columns::read(backend::DATA_ROW, b""), None);
    }
}
