//! Words, strings, numbers and signs of a statement. Pure.

use super::Failure;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word, as written.
    Word(String),
    /// A word in double quotes.
    Quoted(String),
    /// A string in single quotes, or E'…'.
    Text(String),
    /// A whole number, as written.
    Number(String),
    /// `$1` and so on.
    Parameter(usize),
    /// Anything else; `<=`, `>=`, `<>`, `!=`, `::`, `~~`, `!~~` are one.
    Sign(String),
}

impl Token {
    /// Whether it is this bare word or sign, in any case.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) | Self::Sign(own) if own.eq_ignore_ascii_case(word))
    }

    /// The name that it is, if it can be one.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Self::Word(word) => Some(word.to_lowercase()),
            Self::Quoted(word) => Some(word.clone()),
            _ => None,
        }
    }
}

/// Longer texts are not read: nothing that the console knows is that long.
const LONGEST: usize = 64 * 1024;

/// All tokens of a text. Comments are left out.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Failure> {
    if text.len() > LONGEST {
        return Err(Failure::syntax("statement too long"));
    }
    let mut rest = text;
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").ok_or_else(|| Failure::syntax("unterminated comment"))?.1;
        } else if first == '\'' {
            let (text, after) = quoted(rest, '\'')?;
            tokens.push(Token::Text(text));
            rest = after;
        } else if first == '"' {
            let (text, after) = quoted(rest, '"')?;
            tokens.push(Token::Quoted(text));
            rest = after;
        } else if matches!(first, 'E' | 'e') && rest.get(1..2) == Some("'") {
            let (text, after) = quoted(rest.get(1..).unwrap_or_default(), '\'')?;
            tokens.push(Token::Text(text));
            rest = after;
        } else {
            let (token, after) = plain(rest, first);
            tokens.push(token);
            rest = after;
        }
    }
}

/// A text in quotes, in which a doubled quote is one; and what comes after it.
fn quoted(text: &str, quote: char) -> Result<(String, &str), Failure> {
    let mut out = String::new();
    let mut rest = text.get(1..).unwrap_or_default();
    loop {
        let (before, after) =
            rest.split_once(quote).ok_or_else(|| Failure::syntax("unterminated quoted text"))?;
        out.push_str(before);
        match after.strip_prefix(quote) {
            Some(more) => {
                out.push(quote);
                rest = more;
            }
            None => return Ok((out, after)),
        }
    }
}

fn plain(text: &str, first: char) -> (Token, &str) {
    let split = |is: fn(char) -> bool| {
        let end = text.find(|c| !is(c)).unwrap_or(text.len());
        text.split_at(end)
    };
    if first.is_alphabetic() || first == '_' {
        let (word, rest) = split(|c| c.is_alphanumeric() || matches!(c, '_' | '$'));
        return (Token::Word(word.to_owned()), rest);
    }
    if first.is_ascii_digit() {
        let (number, rest) = split(|c| c.is_ascii_digit());
        return (Token::Number(number.to_owned()), rest);
    }
    if first == '$' {
        let after = text.get(1..).unwrap_or_default();
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (digits, rest) = after.split_at(end);
        if let Ok(number) = digits.parse() {
            return (Token::Parameter(number), rest);
        }
    }
    for sign in ["!~~", "<=", ">=", "<>", "!=", "::", "~~"] {
        if let Some(rest) = text.strip_prefix(sign) {
            return (Token::Sign(sign.to_owned()), rest);
        }
    }
    let (sign, rest) = text.split_at(first.len_utf8());
    (Token::Sign(sign.to_owned()), rest)
}

/// The statements of a text, parted by semicolons; empty ones are left out.
pub(super) fn statements(text: &str) -> Result<Vec<Vec<Token>>, Failure> {
    let all = tokens(text)?;
    let parts = all.split(|token| token.is(";"));
    Ok(parts.filter(|part| !part.is_empty()).map(<[Token]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_strings_and_signs_are_told_apart() {
        let found =
            tokens("SELECT a, \"B\"\"c\" FROM x -- no\n WHERE d <= 'it''s' /* no */ AND e = $12;").unwrap();
        let shown: Vec<String> = found.iter().map(|token| format!("{token:?}")).collect();
        assert_eq!(
            shown.join(" "),
            "Word(\"SELECT\") Word(\"a\") Sign(\",\") Quoted(\"B\\\"c\") Word(\"FROM\") Word(\"x\") Word(\"WHERE\") \
             Word(\"d\") Sign(\"<=\") Text(\"it's\") Word(\"AND\") Word(\"e\") Sign(\"=\") Parameter(12) Sign(\";\")"
        );
    }

    #[test]
    fn a_semicolon_in_a_string_parts_nothing() {
        assert_eq!(statements("SHOW a; ;SET b = 'c;d'").unwrap().len(), 2);
        assert!(statements(" ; ").unwrap().is_empty());
        assert!(statements("SET a = 'b").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_an_end(text: String) {
            let _ = statements(&text);
        }

        #[test]
        fn any_quoting_is_read_to_an_end(text in "[-$a-c0-9'\"/*; \n\u{e9}<>=!~:E]{0,40}") {
            let _ = statements(&text);
        }
    }
}
