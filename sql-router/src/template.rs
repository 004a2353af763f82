//! The template of a text: what texts have in common that a program makes by filling in numbers and strings. Pure.
//!
//! It is not a shape ([`crate::fingerprint`]): blanks, case and signs stay as they are, so that it takes one look at
//! each byte and no knowledge of words. What holds for a text whatever its numbers and strings are holds for all texts
//! of its template.
//!
//! A text with anything that takes more to read has no template: comments, quoted identifiers, dollar quotes,
//! backslashes, bytes outside of ASCII.

use crate::cache::hash;
use crate::scan::position;

/// Longest text that is looked at, in bytes.
pub const LONGEST: usize = 2048;

/// What a byte does to the word or number that it stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself, and ends what was before it.
    Plain,
    /// Part of a word.
    Letter,
    /// Part of a word if one has begun, else of a number.
    Digit,
    /// Opens and closes a string.
    Quote,
    /// `-` and `/`: may begin a comment.
    Comment,
    /// `$`: part of a word, or begins a parameter or a string.
    Dollar,
    /// Cannot be told.
    Strange,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Strange; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Class::Letter,
            b'0'..=b'9' => Class::Digit,
            b'\'' => Class::Quote,
            b'-' | b'/' => Class::Comment,
            b'$' => Class::Dollar,
            0 | b'"' | b'\\' => Class::Strange,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Strange)
}

/// Whether a byte is more than plain or a letter: [`class`], without a branch.
const fn is_special(byte: u8) -> bool {
    let is_quote = (byte == b'\'') | (byte == b'"');
    let is_sign = (byte == b'$') | (byte == b'-') | (byte == b'/') | (byte == b'\\');
    byte.is_ascii_digit() | is_quote | is_sign | (byte == 0) | !byte.is_ascii()
}

/// Writes the template of `text` into `template`, which is emptied first. False when it has none.
///
/// A number is written as `0` and a string as `''`; a number behind a letter, as in `log10` or `$1a`, belongs to the
/// word.
pub fn write(text: &[u8], template: &mut Vec<u8>) -> bool {
    template.clear();
    if text.len() > LONGEST {
        return false;
    }
    let mut rest = text;
    let mut before = Class::Plain;
    loop {
        // Most of a text stands for itself.
        let (run, special) = rest.split_at(position(rest, is_special).unwrap_or(rest.len()));
        template.extend_from_slice(run);
        before = run.last().map_or(before, |byte| class(*byte));
        let Some((&byte, behind)) = special.split_first() else { return true };
        rest = behind;
        before = match class(byte) {
            Class::Digit if before == Class::Letter => {
                template.push(byte);
                Class::Letter
            }
            Class::Digit => {
                template.push(b'0');
                let end = behind.iter().position(|byte| !byte.is_ascii_digit());
                rest = behind.get(end.unwrap_or(behind.len())..).unwrap_or_default();
                Class::Digit
            }
            Class::Quote => {
                let Some(behind) = behind_string(behind) else { return false };
                rest = behind;
                template.extend_from_slice(b"''");
                Class::Quote
            }
            Class::Dollar if before == Class::Letter => {
                template.push(byte);
                Class::Letter
            }
            // `$$` or `$a$` opens a string; `$1` is a parameter.
            Class::Dollar if behind.first().is_some_and(u8::is_ascii_digit) => {
                template.push(byte);
                Class::Plain
            }
            Class::Comment if !matches!(behind.first(), Some(b'-' | b'*')) => {
                template.push(byte);
                Class::Plain
            }
            _ => return false,
        };
    }
}

/// What is known of texts by their templates: a table of fixed size, in which a newcomer takes the place of whoever
/// has it. Groups of texts, as those of one database, are told apart by a number.
#[derive(Debug)]
pub struct Table<T> {
    places: Box<[Option<Entry<T>>]>,
    /// For writing templates.
    room: Vec<u8>,
}

#[derive(Debug)]
struct Entry<T> {
    group: u32,
    template: Box<[u8]>,
    known: T,
}

impl<T> Table<T> {
    /// A table with so many places, rounded up to a power of two.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let places = (0..places.next_power_of_two()).map(|_| None).collect();
        Self { places, room: Vec::with_capacity(LONGEST + 1) }
    }

    /// What is known of all texts of this one's template.
    pub fn find(&mut self, group: u32, text: &[u8]) -> Option<&T> {
        let place = self.place(group, text)?;
        let entry = self.places.get(place)?.as_ref()?;
        (entry.group == group && *entry.template == *self.room).then_some(&entry.known)
    }

    /// Something that holds for all texts of this one's template. Nothing is remembered where it has none.
    pub fn insert(&mut self, group: u32, text: &[u8], known: T) {
        if let Some(place) = self.place(group, text)
            && let Some(place) = self.places.get_mut(place)
        {
            *place = Some(Entry { group, template: self.room.as_slice().into(), known });
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.places.fill_with(|| None);
    }

    /// Where the template of `text` belongs, which is left in the room.
    fn place(&mut self, group: u32, text: &[u8]) -> Option<usize> {
        let hash = write(text, &mut self.room).then(|| hash(&self.room))? ^ u64::from(group);
        Some(usize::try_from(hash).unwrap_or_default() & (self.places.len() - 1))
    }
}

/// What follows the quote that closes; a doubled one does not.
fn behind_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let end = rest.iter().position(|byte| matches!(class(*byte), Class::Quote | Class::Strange))?;
        let (closing, behind) = rest.get(end..)?.split_first()?;
        match closing {
            b'\'' if behind.first() == Some(&b'\'') => rest = behind.get(1..)?,
            b'\'' => return Some(behind),
            // A quote of the other kind is nothing special here.
            b'"' => rest = behind,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::cut;
    use proptest::prelude::*;

    fn template(text: &str) -> Option<String> {
        let mut template = Vec::new();
        write(text.as_bytes(), &mut template).then(|| String::from_utf8(template).unwrap())
    }

    #[test]
    fn numbers_and_strings_are_taken_out() {
        for (text, wanted) in [
            ("SELECT abalance FROM a WHERE aid = 123;", "SELECT abalance FROM a WHERE aid = 0;"),
            ("select 1.5e10, -42, log10(7), x$1", "select 0.0e10, -0, log10(0), x$1"),
            ("select 'it''s \"x\" 5', $12, ''", "select '', $0, ''"),
            ("select 'a''b' 'c'", "select '' ''"),
            ("select a - 1 / 2", "select a - 0 / 0"),
        ] {
            assert_eq!(template(text).as_deref(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_special_is_neither_plain_nor_a_letter() {
        for byte in 0..=u8::MAX {
            assert_eq!(is_special(byte), !matches!(class(byte), Class::Plain | Class::Letter), "{byte:#x}");
        }
    }

    #[test]
    fn what_takes_more_to_read_has_no_template() {
        for text in [
            "select 1 -- x",
            "select /* x */ 1",
            "select \"A\"",
            "select $$a$$",
            "select $a$1$a$",
            "select 'a\\'",
            "select 'ä'",
            "select 'a",
            "select ä",
            "select 1\0",
            "select $",
        ] {
            assert_eq!(template(text), None, "{text}");
        }
        assert_eq!(template(&"a".repeat(LONGEST + 1)), None);
    }

    #[test]
    fn what_is_known_of_a_template_holds_in_its_group_until_it_is_pushed_out() {
        let mut table = Table::new(1);
        table.insert(1, b"select 1", "one");
        assert_eq!(table.find(1, b"select 22"), Some(&"one"));
        assert_eq!(table.find(2, b"select 1"), None);
        assert_eq!(table.find(1, b"select a"), None);
        table.insert(2, b"select 'b'", "two");
        assert_eq!(table.find(1, b"select 1"), None);
        assert_eq!(table.find(2, b"select ''"), Some(&"two"));
        table.insert(2, b"select \"c\"", "three");
        assert_eq!(table.find(2, b"select \"c\""), None);
        table.clear();
        assert_eq!(table.find(2, b"select 'b'"), None);
    }

    proptest! {
        #[test]
        fn texts_of_one_template_have_the_same_tokens(
            pieces in prop::collection::vec("[a-c_$.=+/;,() \\-]{1,4}|[0-9]{1,3}|'[a-z;(\\-]{0,3}'", 1..12),
            numbers in prop::collection::vec(0u32..10_000, 12),
        ) {
            let text = pieces.concat();
            // Another text: other digits where digits begin, other letters in strings.
            let mut other = String::new();
            for (piece, number) in pieces.iter().zip(&numbers) {
                if piece.starts_with(|c: char| c.is_ascii_digit()) {
                    other.push_str(&number.to_string());
                } else if piece.starts_with('\'') {
                    other.push_str(&format!("'{number}'"));
                } else {
                    other.push_str(piece);
                }
            }
            if let (Some(one), Some(another)) = (template(&text), template(&other))
                && one == another
            {
                let kinds = |text: &str| cut(text.as_bytes()).all.iter().map(|token| token.kind).collect::<Vec<_>>();
                prop_assert_eq!(kinds(&text), kinds(&other), "{} and {}", text, other);
            }
        }

        #[test]
        fn any_bytes_are_read_to_an_end(text: Vec<u8>) {
            let mut template = Vec::new();
            write(&text, &mut template);
            prop_assert!(template.len() <= text.len() + 1);
        }
    }
}
