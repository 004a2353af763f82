//! Lines, fields and words of pg_hba.conf and pg_ident.conf.
//! Pure. Blanks part fields, commas part the words of a field, `"` takes away a word's special meaning,
//! `#` begins a comment and a backslash at its end continues a line.

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Without quotes.
    pub(super) text: String,
    /// It began with a quote, so it is never a keyword.
    pub(super) quoted: bool,
}

impl Word {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }

    /// Whether it begins with this sign and means it.
    pub(super) fn begins(&self, sign: char) -> bool {
        !self.quoted && self.text.starts_with(sign)
    }
}

/// The words of one field, never empty.
pub(super) type Field = Vec<Word>;

/// A line that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number, from 1; the first one of a continued line.
    pub(super) number: u32,
    /// Its fields, or nothing when a quote is not closed.
    pub(super) fields: Option<Vec<Field>>,
}

/// All lines that say something.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut number = 0_u32;
    let mut rows = text.lines();
    while let Some(row) = rows.next() {
        number = number.saturating_add(1);
        let first = number;
        let mut whole = row.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            let Some(next) = rows.next() else { break };
            number = number.saturating_add(1);
            whole.push_str(next);
        }
        let fields = fields(&whole);
        if fields.as_ref().is_none_or(|fields| !fields.is_empty()) {
            found.push(Line { number: first, fields });
        }
    }
    found
}

/// The fields of one line; nothing when a quote is not closed.
fn fields(line: &str) -> Option<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::new();
    let mut joined = false;
    let mut rest = line.chars().peekable();
    loop {
        while rest.next_if(|c| is_blank(*c) || *c == ',').is_some() {}
        let (word, comma) = next_word(&mut rest)?;
        let Some(word) = word else { return Some(fields) };
        match fields.last_mut() {
            Some(field) if joined => field.push(word),
            _ => fields.push(vec![word]),
        }
        joined = comma;
    }
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\u{feff}')
}

/// The next word, and whether a comma ended it.
fn next_word(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<(Option<Word>, bool)> {
    let mut text = String::new();
    let (mut quoted, mut any, mut inside) = (false, false, false);
    let mut comma = false;
    while let Some(character) = rest.next_if(|c| inside || !is_blank(*c)) {
        match character {
            '"' if inside && rest.next_if_eq(&'"').is_some() => text.push('"'),
            '"' => {
                quoted |= !any;
                inside = !inside;
            }
            '#' if !inside => {
                rest.by_ref().for_each(drop);
                break;
            }
            ',' if !inside => {
                comma = true;
                break;
            }
            other => text.push(other),
        }
        any = true;
    }
    if inside { None } else { Some((any.then_some(Word { text, quoted }), comma)) }
}

/// A literal name as it has to be written so that it is read back as one.
pub(super) fn quote(name: &str, keywords: &[&str]) -> String {
    let special = |c: char| is_blank(c) || matches!(c, ',' | '"' | '#' | '\\' | '=');
    let plain = !name.is_empty()
        && !name.contains(special)
        && !name.starts_with(['/', '+', '@'])
        && !keywords.contains(&name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Option<Vec<Vec<String>>> {
        let mark = |word: &Word| format!("{}{}", if word.quoted { "q:" } else { "" }, word.text);
        Some(fields(line)?.iter().map(|field| field.iter().map(mark).collect()).collect())
    }

    #[test]
    fn words_are_cut_as_postgresql_cuts_them() {
        let table: &[(&str, &[&[&str]])] = &[
            ("", &[]),
            ("  # all", &[]),
            ("a b", &[&["a"], &["b"]]),
            ("a,b c", &[&["a", "b"], &["c"]]),
            ("a, b c", &[&["a", "b"], &["c"]]),
            ("a ,b", &[&["a"], &["b"]]),
            (r#""a b",c"#, &[&["q:a b", "c"]]),
            (r#""a""b""#, &[&[r#"q:a"b"#]]),
            (r#""" x"#, &[&["q:"], &["x"]]),
            (r#"map="my map""#, &[&["map=my map"]]),
            ("a#b", &[&["a"]]),
            (r##""a#b""##, &[&["q:a#b"]]),
            ("a\tb\r", &[&["a"], &["b"]]),
        ];
        for (line, expected) in table {
            let expected: Vec<Vec<String>> =
                expected.iter().map(|f| f.iter().map(|w| (*w).to_owned()).collect()).collect();
            assert_eq!(shown(line), Some(expected), "{line}");
        }
        assert_eq!(shown(r#"a "b"#), None);
    }

    #[test]
    fn a_continued_line_has_the_number_of_its_beginning() {
        let text = "# one\na \\\nb\n\nc\\";
        let found: Vec<_> = lines(text).into_iter().map(|l| (l.number, l.fields.unwrap().len())).collect();
        assert_eq!(found, [(2, 2), (5, 1)]);
    }
}
