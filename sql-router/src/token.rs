//! Tokens of a SQL text, cut as PostgreSQL's lexer (`scan.l`) cuts them, without a copy. Pure.
//!
//! [`crate::scan`] yields words as they are meant; this yields where they are, and tells when the text alone does not
//! say where they end: what is not closed, and strings whose end hangs on `standard_conforming_strings` or on the
//! client's encoding. A text of that kind is [`Tokens::ambiguous`], and nobody should trust its tokens.

use crate::scan::{is_blank, may_be_half};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A key word or an identifier without quotes.
    Word,
    /// An identifier in double quotes, with them.
    Quoted,
    /// `U&"..."`: its letters may be written as numbers.
    UnicodeQuoted,
    /// A string of any kind, with its quotes and prefix.
    Text,
    /// The digits of a number, and what belongs to them.
    Number,
    /// `$1`
    Parameter,
    /// A run of operator characters.
    Operator,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `,`
    Comma,
    /// `.`
    Dot,
    /// `::`
    Cast,
    /// `;`
    End,
    /// Any other character.
    Other,
    /// A name that WITH defines. Nothing is cut as this: who looks at queries marks it.
    Label,
}

/// One token: bytes `start..end` of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: u32,
    /// Behind its last byte.
    pub end: u32,
    /// For parentheses: the number of the token that closes or opens. Else its own number.
    pub mate: u32,
}

impl Token {
    /// Its bytes in `text`, from which it was cut.
    #[must_use]
    pub fn bytes<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A comment: bytes `start..end`, with what opens and closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comment {
    /// Its first byte.
    pub start: u32,
    /// Behind its last byte.
    pub end: u32,
}

/// A text, cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All tokens in order.
    pub all: Vec<Token>,
    /// Comments that speak to Hawser, in order.
    pub hints: Vec<Comment>,
    /// Why the tokens may be wrong.
    pub ambiguous: Option<Ambiguity>,
    /// A plain string has a backslash before a quote (`ESCAPE '\\'`): with `standard_conforming_strings` off it would end
    /// elsewhere. [`cut_unconforming`] tells where.
    pub backslash: bool,
}

/// Why a text can be read in more than one way, or in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ambiguity {
    /// A string, identifier, comment or parenthesis has no end, or an end no beginning.
    Unclosed,
    /// Where a string ends hangs on the client's encoding or on the string before; or it hangs on
    /// `standard_conforming_strings`, and what the text does with it.
    StringEnd,
    /// What looks like an operator or a bracket may be half of a letter: the text is not UTF-8, and in some encodings
    /// of clients (SJIS, BIG5, GBK ...) the second half of a letter can be one of these.
    Letters,
    /// A zero byte.
    ZeroByte,
    /// The text is 4 GiB long or longer.
    Length,
}

/// Cuts `text`. Takes time and memory linear to its length.
#[must_use]
pub fn cut(text: &[u8]) -> Tokens {
    cut_with(text, Cutter::new(text))
}

/// As [`cut`], for a session that has switched `standard_conforming_strings` off.
#[must_use]
pub fn cut_unconforming(text: &[u8]) -> Tokens {
    cut_with(text, Cutter { conforming: false, ..Cutter::new(text) })
}

fn cut_with<'a>(text: &'a [u8], mut cutter: Cutter<'a>) -> Tokens {
    let mut tokens = Tokens::default();
    if u32::try_from(text.len()).is_err() {
        tokens.ambiguous = Some(Ambiguity::Length);
        return tokens;
    }
    tokens.all.reserve(text.len() / 5 + 8);
    let mut open: Vec<u32> = Vec::new();
    while let Some((kind, start)) = cutter.next(Some(&mut tokens.hints)) {
        let number = index(tokens.all.len());
        let mut mate = number;
        if kind == Kind::Open {
            open.push(number);
        } else if kind == Kind::Close {
            match open.pop() {
                Some(opened) => {
                    mate = opened;
                    if let Some(token) = tokens.all.get_mut(opened as usize) {
                        token.mate = number;
                    }
                }
                None => cutter.doubt(Ambiguity::Unclosed),
            }
        }
        tokens.all.push(Token { kind, start: index(start), end: index(cutter.at), mate });
    }
    if !open.is_empty() {
        cutter.doubt(Ambiguity::Unclosed);
    }
    if cutter.halves && std::str::from_utf8(text).is_err() {
        cutter.doubt(Ambiguity::Letters);
    }
    tokens.ambiguous = cutter.ambiguous;
    tokens.backslash = cutter.backslash;
    tokens
}

/// A position; texts of 4 GiB are turned away at the door.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Cuts one token after the other, for who needs no list of them.
pub(crate) struct Cutter<'a> {
    text: &'a [u8],
    at: usize,
    ambiguous: Option<Ambiguity>,
    /// The last token is an `E'...'`. A string after it goes on with its escapes.
    escaped_string_before: bool,
    /// A character that can be half of a letter stands behind a byte above 127.
    halves: bool,
    /// A backslash is an ordinary character in plain strings.
    conforming: bool,
    /// See [`Tokens::backslash`].
    backslash: bool,
}

impl<'a> Cutter<'a> {
    pub(crate) const fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            ambiguous: None,
            escaped_string_before: false,
            halves: false,
            conforming: true,
            backslash: false,
        }
    }

    /// The next token's kind and bytes.
    pub(crate) fn next_token(&mut self) -> Option<(Kind, &'a [u8])> {
        let (kind, start) = self.next(None)?;
        Some((kind, self.text.get(start..self.at).unwrap_or_default()))
    }

    fn doubt(&mut self, why: Ambiguity) {
        self.ambiguous.get_or_insert(why);
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// Advances over bytes that are `wanted`.
    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
    }

    fn skip_blank(&mut self, mut hints: Option<&mut Vec<Comment>>) {
        loop {
            self.skip(is_blank);
            let start = self.at;
            match (self.peek(0), self.peek(1)) {
                (Some(b'-'), Some(b'-')) => self.skip(|byte| !matches!(byte, b'\n' | b'\r')),
                (Some(b'/'), Some(b'*')) => self.block_comment(),
                _ => return,
            }
            if let Some(hints) = hints.as_mut()
                && crate::hints::is_meant(self.text.get(start..self.at).unwrap_or_default())
            {
                hints.push(Comment { start: index(start), end: index(self.at) });
            }
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth = depth.saturating_sub(1);
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return self.doubt(Ambiguity::Unclosed),
            }
        }
    }

    /// Cuts the next token and returns its kind and start; `self.at` is its end.
    fn next(&mut self, hints: Option<&mut Vec<Comment>>) -> Option<(Kind, usize)> {
        self.skip_blank(hints);
        let start = self.at;
        let first = self.peek(0)?;
        let behind_letter =
            start.checked_sub(1).and_then(|at| self.text.get(at)).is_some_and(|byte| !byte.is_ascii());
        self.halves |= behind_letter && may_be_half(first);
        let after_escaped = std::mem::take(&mut self.escaped_string_before);
        let kind = match first {
            b'\'' => {
                if after_escaped && self.conforming {
                    self.doubt(Ambiguity::StringEnd);
                }
                self.plain_string();
                Kind::Text
            }
            b'"' => {
                self.identifier_in_quotes();
                Kind::Quoted
            }
            b'$' => self.dollar(),
            b'0'..=b'9' => {
                self.number();
                Kind::Number
            }
            b'.' if self.peek(1).is_some_and(|byte| byte.is_ascii_digit()) => {
                self.number();
                Kind::Number
            }
            b':' if self.peek(1) == Some(b':') => {
                self.at += 2;
                Kind::Cast
            }
            _ if is_identifier_start(first) => self.word(first),
            _ if is_operator(first) => {
                self.operator();
                Kind::Operator
            }
            _ => {
                self.at += 1;
                self.single(first)
            }
        };
        Some((kind, start))
    }

    fn single(&mut self, byte: u8) -> Kind {
        match byte {
            b'(' => Kind::Open,
            b')' => Kind::Close,
            b'[' => Kind::OpenBracket,
            b']' => Kind::CloseBracket,
            b',' => Kind::Comma,
            b'.' => Kind::Dot,
            b';' => Kind::End,
            0 => {
                self.doubt(Ambiguity::ZeroByte);
                Kind::Other
            }
            _ => Kind::Other,
        }
    }

    /// A word, or one of the strings that begin with a letter.
    fn word(&mut self, first: u8) -> Kind {
        match (first, self.peek(1), self.peek(2)) {
            (b'e' | b'E', Some(b'\''), _) => {
                self.at += 1;
                self.escaped_string();
                Kind::Text
            }
            (b'n' | b'N', Some(b'\''), _) => {
                self.at += 1;
                self.plain_string();
                Kind::Text
            }
            (b'b' | b'B' | b'x' | b'X', Some(b'\''), _) => {
                self.at += 1;
                self.quoted(b'\'');
                Kind::Text
            }
            (b'u' | b'U', Some(b'&'), Some(b'\'')) => {
                self.at += 2;
                self.quoted(b'\'');
                Kind::Text
            }
            (b'u' | b'U', Some(b'&'), Some(b'"')) => {
                self.at += 2;
                self.identifier_in_quotes();
                Kind::UnicodeQuoted
            }
            _ => {
                self.skip(is_identifier_part);
                Kind::Word
            }
        }
    }

    /// From the opening quote to behind the closing one; a doubled quote does not close.
    fn quoted(&mut self, quote: u8) {
        self.at += 1;
        loop {
            self.skip(|byte| byte != quote);
            match (self.peek(0), self.peek(1)) {
                (Some(_), Some(next)) if next == quote => self.at += 2,
                (Some(_), _) => {
                    self.at += 1;
                    return;
                }
                (None, _) => return self.doubt(Ambiguity::Unclosed),
            }
        }
    }

    fn identifier_in_quotes(&mut self) {
        self.quoted(b'"');
    }

    /// With `standard_conforming_strings` off a backslash takes the quote behind it into the string.
    fn plain_string(&mut self) {
        if !self.conforming {
            return self.escaped_string();
        }
        let start = self.at;
        self.quoted(b'\'');
        let body = self.text.get(start..self.at).unwrap_or_default();
        self.backslash |= body.windows(2).any(|two| two == b"\\'");
    }

    /// A string in which a backslash takes the next character. In some encodings of clients (SJIS, BIG5, GBK ...) a
    /// backslash behind a byte above 127 is half of a letter.
    fn escaped_string(&mut self) {
        self.escaped_string_before = true;
        self.at += 1;
        loop {
            self.skip(|byte| byte != b'\'' && byte != b'\\');
            match (self.peek(0), self.peek(1)) {
                (Some(b'\\'), Some(_)) => {
                    if self.text.get(self.at.wrapping_sub(1)).is_some_and(|before| !before.is_ascii()) {
                        self.doubt(Ambiguity::StringEnd);
                    }
                    self.at += 2;
                }
                (Some(b'\''), Some(b'\'')) => self.at += 2,
                (Some(b'\''), _) => {
                    self.at += 1;
                    return;
                }
                _ => {
                    self.at = self.text.len();
                    return self.doubt(Ambiguity::Unclosed);
                }
            }
        }
    }

    /// A parameter, a dollar quote, or neither.
    fn dollar(&mut self) -> Kind {
        self.at += 1;
        let start = self.at;
        if self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.skip(|byte| byte.is_ascii_digit());
            return Kind::Parameter;
        }
        if self.peek(0).is_some_and(is_identifier_start) {
            self.skip(|byte| is_identifier_part(byte) && byte != b'$');
        }
        if self.peek(0) != Some(b'$') {
            self.at = start;
            return Kind::Other;
        }
        self.at += 1;
        let delimiter = self.text.get(start - 1..self.at).unwrap_or_default();
        match find(self.text.get(self.at..).unwrap_or_default(), delimiter) {
            Some(length) => self.at += length + delimiter.len(),
            None => {
                self.at = self.text.len();
                self.doubt(Ambiguity::Unclosed);
            }
        }
        Kind::Text
    }

    /// Digits, a fraction and an exponent. Letters behind them are a word of their own, as they were up to
    /// PostgreSQL 14 (`SELECT 1into t`); later versions refuse them.
    fn number(&mut self) {
        let digits = |byte: u8| byte.is_ascii_digit() || byte == b'_';
        self.skip(digits);
        // `1..10` is a number, two dots and a number.
        if self.peek(0) == Some(b'.') && self.peek(1) != Some(b'.') {
            self.at += 1;
            self.skip(digits);
        }
        let signed = matches!(self.peek(1), Some(b'+' | b'-'));
        let power = self.peek(if signed { 2 } else { 1 }).is_some_and(|byte| byte.is_ascii_digit());
        if matches!(self.peek(0), Some(b'e' | b'E')) && power {
            self.at += if signed { 2 } else { 1 };
            self.skip(digits);
        }
    }

    /// A run of operator characters up to a comment. One of several characters does not end in `+` or `-`, unless
    /// it has one of those that no standard operator has.
    fn operator(&mut self) {
        let start = self.at;
        while let Some(byte) = self.peek(0) {
            let comment = matches!((byte, self.peek(1)), (b'-', Some(b'-')) | (b'/', Some(b'*')));
            if comment || !is_operator(byte) {
                break;
            }
            self.at += 1;
        }
        let run = self.text.get(start..self.at).unwrap_or_default();
        if !run.iter().any(|byte| b"~!@#^&|`?%".contains(byte)) {
            let kept = run.iter().rposition(|byte| !matches!(byte, b'+' | b'-')).map_or(1, |last| last + 1);
            self.at = start + kept;
        }
    }
}

const fn is_identifier_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

const fn is_identifier_part(byte: u8) -> bool {
    is_identifier_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

const fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}

/// Where `needle`, which begins and ends with a dollar, is in `text`.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    // Steps from dollar to dollar; a tag may be long, so each place is compared once and no further than it fits.
    let mut from = 0;
    while let Some(step) = text.get(from..)?.iter().position(|byte| *byte == b'$') {
        let at = from + step;
        if text.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// Longest identifier that PostgreSQL keeps; the rest is cut off.
const LONGEST_NAME: usize = 63;

/// An identifier as PostgreSQL stores it: folded unless quoted, and not longer than 63 bytes.
#[derive(Clone, Copy)]
pub struct Name {
    bytes: [u8; LONGEST_NAME + 1],
    length: usize,
}

impl Name {
    /// The name that a word or a quoted identifier means.
    #[must_use]
    pub fn of(kind: Kind, written: &[u8]) -> Self {
        let mut name = Self { bytes: [0; LONGEST_NAME + 1], length: 0 };
        if kind == Kind::Quoted {
            let inner = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
            let mut quotes = 0usize;
            for byte in inner {
                quotes = if *byte == b'"' { quotes + 1 } else { 0 };
                if quotes != 2 {
                    name.push(*byte);
                } else {
                    quotes = 0;
                }
            }
        } else {
            for byte in written.iter().take(LONGEST_NAME + 1) {
                name.push(byte.to_ascii_lowercase());
            }
        }
        name.clip();
        name
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    /// Takes what is too long away, and not half a character of UTF-8.
    fn clip(&mut self) {
        if self.length > LONGEST_NAME {
            let mut length = LONGEST_NAME;
            while length > 0 && self.bytes.get(length).is_some_and(|byte| byte & 0xc0 == 0x80) {
                length -= 1;
            }
            self.length = length;
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}

#[cfg(test)]
mod tests;
