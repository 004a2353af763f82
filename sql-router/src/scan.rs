//! Words of a SQL text: comments, quotes and dollar quotes as PostgreSQL's lexer has them. Pure.
//!
//! Source: PostgreSQL manual, "Lexical Structure". Plain strings are read with `standard_conforming_strings` on.

use std::borrow::Cow;

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word<'a> {
    /// A key word or an identifier without quotes, as written.
    Bare(&'a str),
    /// An identifier in double quotes, without them.
    Quoted(String),
    /// A string, as it is meant.
    Text(String),
    /// A number, without a sign.
    Number(&'a str),
    /// Any other character.
    Symbol(char),
    /// `;`
    End,
}

impl Word<'_> {
    /// Whether this is the key word `keyword` (in lower case).
    #[must_use]
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Bare(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// The words of a text, one after the other.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    text: &'a str,
    at: usize,
}

/// Cuts `text` into words. Whatever is not closed extends to the end.
#[must_use]
pub const fn words(text: &str) -> Words<'_> {
    Words { text, at: 0 }
}

/// Stands in a word for what is not known: a byte of another encoding than UTF-8 ([`decoded`]), or a character that an escape
/// makes. It is part of a name.
pub const UNKNOWN: char = '\x7f';

/// `text` as far as it can be read; each byte of another encoding is [`UNKNOWN`], so that every word keeps its place.
#[must_use]
pub fn decoded(text: &[u8]) -> Cow<'_, str> {
    let known = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { UNKNOWN };
    std::str::from_utf8(text).map_or_else(|_| text.iter().map(known).collect(), Cow::Borrowed)
}

/// Whether a sign of ASCII may be half of a character behind a byte that is none: in SJIS, BIG5, GBK and others that only
/// clients have.
pub(crate) fn may_be_half(byte: u8) -> bool {
    b"@[\\]^`{|}~".contains(&byte)
}

/// Whether `text` may be in an encoding in which signs of ASCII are halves of characters. A name may end with one, and what
/// looks like a backslash be none.
#[must_use]
pub fn is_ambiguous(text: &[u8]) -> bool {
    let is_pair = |pair: &[u8]| matches!(pair, [first, second] if !first.is_ascii() && may_be_half(*second));
    std::str::from_utf8(text).is_err() && text.windows(2).any(is_pair)
}

/// White space, as PostgreSQL has it.
#[must_use]
pub const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

/// `text` without the white space around it.
#[must_use]
pub fn trimmed(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len());
    trimmed_end(text.get(start..).unwrap_or_default())
}

/// `text` without the white space at its end.
#[must_use]
pub fn trimmed_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default()
}

/// Whether the letters at the start of `text` are one of `words`, in any case. An empty word stands for no letters.
#[must_use]
pub fn begins_with(text: &[u8], words: &[&str]) -> bool {
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    let first = text.get(..end).unwrap_or_default();
    words.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(first))
}

/// `text` with `''` for each of its strings and a blank for each comment, so that every byte of it is meant. `None` where
/// it takes more to tell: a backslash in a string, a dollar quote, something that is not closed, half characters.
#[must_use]
pub fn bare(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if is_ambiguous(text) {
        return None;
    }
    let opens = |byte: u8| {
        (byte == b'\'') | (byte == b'"') | (byte == b'-') | (byte == b'/') | (byte == b'$') | (byte == b'\\')
    };
    let mut bare = Vec::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(next) = text.get(at..).and_then(|rest| position(rest, opens)) {
        let start = at + next;
        let rest = text.get(start..)?;
        let (length, stands_for): (usize, &[u8]) = match rest {
            [b'\'', ..] => (quoted_length(rest)?, b"''"),
            [b'-', b'-', ..] => (line_length(rest), b" "),
            [b'/', b'*', ..] => (comment_length(rest), b" "),
            [b'"', ..] => {
                at = start + quoted_length(rest)?;
                continue;
            }
            [b'\\', ..] => return None,
            [b'$', behind @ ..] if !behind.first().is_some_and(u8::is_ascii_digit) => return None,
            // An operator, a parameter, or part of a name.
            _ => {
                at = start + 1;
                continue;
            }
        };
        bare.extend_from_slice(text.get(copied..start)?);
        bare.extend_from_slice(stands_for);
        at = start + length;
        copied = at;
    }
    if copied == 0 {
        return Some(Cow::Borrowed(text));
    }
    bare.extend_from_slice(text.get(copied..)?);
    Some(Cow::Owned(bare))
}

fn line_length(rest: &[u8]) -> usize {
    position(rest, |byte| (byte == b'\n') | (byte == b'\r')).unwrap_or(rest.len())
}

/// Length of the string or identifier in quotes that opens here, if it is closed and has no backslash. Of two quotes in a row
/// in it each is taken for one of its own: nothing stands between them.
fn quoted_length(rest: &[u8]) -> Option<usize> {
    let (quote, inner) = rest.split_first()?;
    let end = position(inner, |byte| (byte == *quote) | (byte == b'\\'))?;
    (inner.get(end) == Some(quote)).then_some(end + 2)
}

/// Where a word stands in its text, in bytes.
pub type Place = std::ops::Range<usize>;

impl<'a> Words<'a> {
    /// The next word, and where it stands.
    pub fn next_with_place(&mut self) -> Option<(Word<'a>, Place)> {
        self.skip_blank();
        let start = self.at;
        let word = self.next_word()?;
        Some((word, start..self.at))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Leaves white space and comments out.
    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.bytes().take_while(|byte| is_blank(*byte)).count();
            self.at += blank;
            let rest = self.rest();
            if rest.starts_with("--") {
                self.at += line_length(rest.as_bytes());
            } else if rest.starts_with("/*") {
                self.at += comment_length(rest.as_bytes());
            } else if blank == 0 {
                return;
            }
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let rest = self.rest();
        let length = if rest.is_char_boundary(length) { length } else { rest.len() };
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// The string or identifier that opens here with `quote`; with `escapes` a backslash takes the next character.
    fn quoted(&mut self, quote: char, escapes: bool) -> String {
        let mut meant = String::new();
        let mut rest = self.rest().get(1..).unwrap_or_default();
        let is_special = |c: char| c == quote || c == '\\' && escapes;
        while let Some(at) = rest.find(is_special) {
            let (run, from) = rest.split_at(at);
            meant.push_str(run);
            let mut behind = from.chars();
            let special = behind.next();
            rest = behind.as_str();
            if special == Some(quote) {
                let Some(again) = rest.strip_prefix(quote) else {
                    self.at = self.text.len() - rest.len();
                    return meant;
                };
                meant.push(quote);
                rest = again;
            } else {
                let Some(escaped) = behind.next() else { break };
                meant.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\x08',
                    'f' => '\x0c',
                    // The digits of a character follow.
                    'x' | 'u' | 'U' | '0'..='7' => UNKNOWN,
                    other => other,
                });
                rest = behind.as_str();
            }
        }
        meant.push_str(rest);
        self.at = self.text.len();
        meant
    }

    /// The string or identifier behind `U&`. Its escapes are not read.
    fn unicode(&mut self, quote: char) -> String {
        self.take(2);
        let meant = self.quoted(quote, false);
        let has_escape = self.clone().next().is_some_and(|behind| behind.is("uescape"));
        if has_escape || meant.contains('\\') { UNKNOWN.into() } else { meant }
    }

    fn dollar_quoted(&mut self) -> Option<String> {
        let rest = self.rest();
        let inner = rest.get(1..)?;
        let tag_length = inner.find('$')?;
        let tag = inner.get(..tag_length)?;
        let named = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !tag.starts_with(|c: char| c.is_ascii_digit());
        if !named {
            return None;
        }
        let delimiter = rest.get(..tag_length + 2)?;
        let body = rest.get(delimiter.len()..)?;
        let length = body.find(delimiter).unwrap_or(body.len());
        let meant = body.get(..length)?.to_owned();
        self.at = (self.at + delimiter.len() * 2 + length).min(self.text.len());
        Some(meant)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        self.next_with_place().map(|(word, _)| word)
    }
}

impl<'a> Words<'a> {
    /// The word that begins here.
    fn next_word(&mut self) -> Option<Word<'a>> {
        let rest = self.rest();
        let first = rest.chars().next()?;
        let second = rest.chars().nth(1);
        Some(match first {
            ';' => {
                self.take(1);
                Word::End
            }
            '\'' => Word::Text(self.quoted('\'', false)),
            '"' => Word::Quoted(self.quoted('"', false)),
            'e' | 'E' if second == Some('\'') => {
                self.take(1);
                Word::Text(self.quoted('\'', true))
            }
            'u' | 'U' if rest.get(1..).is_some_and(|rest| rest.starts_with("&'")) => {
                Word::Text(self.unicode('\''))
            }
            'u' | 'U' if rest.get(1..).is_some_and(|rest| rest.starts_with("&\"")) => {
                Word::Quoted(self.unicode('"'))
            }
            '$' => match self.dollar_quoted() {
                Some(text) => Word::Text(text),
                None => Word::Symbol(self.take(1).chars().next()?),
            },
            _ if first.is_ascii_digit() => {
                let length =
                    rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(rest.len());
                Word::Number(self.take(length))
            }
            _ if is_identifier_start(first) => {
                let length = rest.find(|c: char| !is_identifier_part(c)).unwrap_or(rest.len());
                Word::Bare(self.take(length))
            }
            _ => {
                self.take(first.len_utf8());
                Word::Symbol(first)
            }
        })
    }
}

const fn is_identifier_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == UNKNOWN || !c.is_ascii()
}

const fn is_identifier_part(c: char) -> bool {
    is_identifier_start(c) || c.is_ascii_digit() || c == '$'
}

/// Length of the comment that opens here; comments nest.
fn comment_length(bytes: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where the first byte is that is meant. With a test that does not branch, the compiler makes a few vector instructions
/// of each block.
pub(crate) fn position(text: &[u8], is_meant: impl Fn(u8) -> bool) -> Option<usize> {
    const BLOCK: usize = 16;
    let (blocks, _) = text.as_chunks::<BLOCK>();
    let is_without = |block: &&[u8; BLOCK]| block.map(&is_meant) == [false; BLOCK];
    let without = blocks.iter().take_while(is_without).count() * BLOCK;
    let behind = text.get(without..)?.iter().position(|byte| is_meant(*byte))?;
    Some(without + behind)
}

/// Whether `text` contains `needle` (in lower case) in any case.
#[must_use]
pub fn contains(text: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else { return true };
    // Other bytes than letters may pass here, and fail below.
    let begins = |byte: u8| byte | 0x20 == first | 0x20;
    let mut rest = text;
    while let Some(at) = position(rest, begins) {
        let Some(from) = rest.get(at..) else { return false };
        if from.get(..needle.len()).is_some_and(|found| found.eq_ignore_ascii_case(needle)) {
            return true;
        }
        rest = from.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Vec<Word<'_>> {
        words(text).collect()
    }

    #[test]
    fn quotes_comments_and_dollars_hide_what_is_in_them() {
        assert_eq!(
            all("a /* b; /* c */ ; */ 'd;''e' -- f;\n \"g\"\"h\"; $x$i;$y$;$x$"),
            [
                Word::Bare("a"),
                Word::Text("d;'e".into()),
                Word::Quoted("g\"h".into()),
                Word::End,
                Word::Text("i;$y$;".into())
            ]
        );
        assert_eq!(
            all(r"E'a\'b' 'c\' d"),
            [Word::Text("a'b".into()), Word::Text("c\\".into()), Word::Bare("d")]
        );
        assert_eq!(
            all("$1::int"),
            [Word::Symbol('$'), Word::Number("1"), Word::Symbol(':'), Word::Symbol(':'), Word::Bare("int")]
        );
    }

    #[test]
    fn a_bare_text_has_neither_what_is_in_strings_nor_comments() {
        for (text, expected) in [
            ("SELECT 1", Some("SELECT 1")),
            ("a 'b;c' -- d;\n, \"e'\" '' /* f; /* g */ ' */h", Some("a ''  \n, \"e'\" ''  h")),
            ("'it''s' $1 - 2 / 3 -- end", Some("'''' $1 - 2 / 3  ")),
            (r"'a\b'", None),
            (r"a \ b", None),
            ("$$a$$", None),
            ("'a", None),
            ("\"a", None),
        ] {
            let bare = bare(text.as_bytes());
            assert_eq!(bare.as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_known_to_be_unknown() {
        assert_eq!(all(r"E'a\x41\b'"), [Word::Text("a\x7f41\x08".into())]);
        assert_eq!(all(r#"U&'\0041' u&"b""#), [Word::Text("\x7f".into()), Word::Quoted("b".into())]);
        assert_eq!(
            all("U&'a!0041' \n UEscape '!'"),
            [Word::Text("\x7f".into()), Word::Bare("UEscape"), Word::Text("!".into())]
        );
        assert_eq!(all("u & 'a'"), [Word::Bare("u"), Word::Symbol('&'), Word::Text("a".into())]);
        let text = decoded(b"caf\xe9('\xe9')");
        assert_eq!(
            all(&text),
            [Word::Bare("caf\x7f"), Word::Symbol('('), Word::Text("\x7f".into()), Word::Symbol(')')]
        );
        assert_eq!(decoded("é".as_bytes()), "é");
    }

    #[test]
    fn what_is_not_closed_extends_to_the_end() {
        assert_eq!(all("'a;b"), [Word::Text("a;b".into())]);
        assert_eq!(all("/* a"), []);
        assert_eq!(all("$$a;"), [Word::Text("a;".into())]);
    }

    proptest! {
        #[test]
        fn any_text_is_cut_to_an_end(text: String) {
            prop_assert!(words(&text).count() <= text.len());
        }

        #[test]
        fn sql_like_text_is_cut_to_an_end(text in "[a-z'\"$/*;\\- \\\\\n0-9]{0,60}") {
            prop_assert!(words(&text).count() <= text.len());
        }

        #[test]
        fn a_bare_text_has_the_words_of_the_text(text in "([a-z]|1|[ ;(),.'\"/*$\n-]){0,60}") {
            let Some(bare) = bare(text.as_bytes()) else { return Ok(()) };
            let bare = std::str::from_utf8(&bare).unwrap();
            let is_string = |word: &Word<'_>| matches!(word, Word::Text(_));
            let all = |text| {
                let words = words(text).filter(|word| !is_string(word));
                words.map(|word| format!("{word:?}")).collect::<Vec<_>>()
            };
            prop_assert_eq!(all(bare), all(&text));
        }

        #[test]
        fn what_is_looked_for_in_blocks_is_found_where_it_is(text in "[a-c]{0,70}", needle in "[a-c]{1,3}") {
            let first = needle.as_bytes()[0];
            let found = position(text.as_bytes(), |byte| byte == first);
            prop_assert_eq!(found, text.find(char::from(first)));
            let is_there = text.contains(&needle);
            prop_assert_eq!(contains(text.as_bytes(), needle.as_bytes()), is_there);
            prop_assert_eq!(contains(text.to_uppercase().as_bytes(), needle.as_bytes()), is_there);
        }
    }
}
