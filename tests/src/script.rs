//! Scripts for psql, cut into what psql would send.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What a script does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sends this text; the bytes are what a `COPY ... FROM STDIN` in it reads.
    Send(String, Option<Vec<u8>>),
    /// Goes on in a new session.
    Reconnect,
}

/// Cuts a script of PostgreSQL's regression tests. `folder` has the data files that it copies from.
///
/// Meta commands that only print or measure are left out, and so is whatever hangs on a variable that only psql
/// would know.
pub fn steps(script: &str, folder: &Path) -> Vec<Step> {
    let mut reader = Reader {
        rest: script,
        folder,
        variables: HashMap::from([("abs_srcdir".to_owned(), folder.display().to_string())]),
        steps: Vec::new(),
    };
    while !reader.rest.is_empty() {
        reader.step();
    }
    reader.steps
}

struct Reader<'a> {
    rest: &'a str,
    folder: &'a Path,
    variables: HashMap<String, String>,
    steps: Vec<Step>,
}

impl Reader<'_> {
    /// Reads up to the end of a statement or a meta command.
    fn step(&mut self) {
        let mut text = String::new();
        let (mut depth, mut bodies) = (0usize, 0usize);
        let mut word = String::new();
        while let Some(c) = self.rest.chars().next() {
            let length = opaque_length(self.rest, &word);
            if length > 0 {
                text.push_str(self.take(length));
                word.clear();
                continue;
            }
            if c.is_alphanumeric() || c == '_' {
                word.push(c.to_ascii_lowercase());
            } else if !word.is_empty() {
                bodies = bodies_after(&word, bodies, &text);
                word.clear();
            }
            match c {
                '\\' if self.rest.starts_with("\\;") => {
                    self.take(2);
                    text.push(';');
                    continue;
                }
                '\\' => {
                    let line = self.rest.lines().next().unwrap_or_default().to_owned();
                    self.take(line.len());
                    if self.meta(&line) {
                        return self.send(text);
                    }
                    continue;
                }
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                ';' if depth == 0 && bodies == 0 => {
                    self.take(1);
                    return self.send(text);
                }
                ':' if self.variable(&mut text) => continue,
                _ => {}
            }
            text.push_str(self.take(c.len_utf8()));
        }
        self.send(text);
    }

    fn take(&mut self, length: usize) -> &str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// `:name` and `:'name'` of variables that are known.
    fn variable(&mut self, text: &mut String) -> bool {
        if text.ends_with(':') {
            return false;
        }
        let quoted = self.rest.starts_with(":'");
        let start = if quoted { 2 } else { 1 };
        let name: String =
            self.rest[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let Some(value) = self.variables.get(&name) else { return false };
        text.push_str(&if quoted { format!("'{value}'") } else { value.clone() });
        self.take(start + name.len() + usize::from(quoted));
        true
    }

    /// Obeys a meta command; true if it sends what was read so far.
    fn meta(&mut self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("\\set") => {
                let Some(name) = words.next() else { return false };
                let value: String = words
                    .map(|word| match word.strip_prefix(':') {
                        Some(name) => self.variables.get(name).cloned().unwrap_or_default(),
                        None => word.trim_matches('\'').to_owned(),
                    })
                    .collect();
                self.variables.insert(name.to_owned(), value);
                false
            }
            Some("\\c" | "\\connect") => {
                self.steps.push(Step::Reconnect);
                false
            }
            Some("\\g" | "\\gset" | "\\gexec" | "\\gx" | "\\gdesc" | "\\crosstabview") => true,
            _ => false,
        }
    }

    fn send(&mut self, text: String) {
        if text.trim().is_empty() {
            return;
        }
        let lower = text.to_lowercase();
        let copies = lower.split_whitespace().any(|word| word == "copy");
        if copies && lower.contains("from stdin") {
            let end = self.rest.find("\n\\.").map_or(self.rest.len(), |end| end + 1);
            let data = self.take(end).trim_start_matches('\n').as_bytes().to_vec();
            self.take(self.rest.find('\n').map_or(self.rest.len(), |end| end + 1));
            return self.steps.push(Step::Send(text, Some(data)));
        }
        let file = copies.then(|| self.file(&text)).flatten();
        match file.and_then(|(quoted, path)| Some((quoted, std::fs::read(path).ok()?))) {
            Some((quoted, data)) => self.steps.push(Step::Send(text.replace(&quoted, "STDIN"), Some(data))),
            None => self.steps.push(Step::Send(text, None)),
        }
    }

    /// The file below our folder that a COPY names, as it is written there.
    fn file(&self, text: &str) -> Option<(String, PathBuf)> {
        let quoted = text.split('\'').nth(1)?;
        quoted.starts_with(self.folder.to_str()?).then(|| (format!("'{quoted}'"), PathBuf::from(quoted)))
    }
}

/// Length of the comment, string or quoted identifier at the beginning of `rest`; `before` is the word in front of it.
fn opaque_length(rest: &str, before: &str) -> usize {
    let until = |end: &str, from: usize| {
        rest.get(from..).and_then(|inner| inner.find(end)).map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("--") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    if rest.starts_with('"') {
        return until("\"", 1);
    }
    if rest.starts_with('\'') {
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' if before == "e" => escaped = true,
                '\'' => return at + 1,
                _ => {}
            }
        }
        return rest.len();
    }
    if rest.starts_with('$') && before.is_empty() {
        let tag = rest.get(1..).and_then(|inner| inner.find('$')).map_or(0, |at| at + 2);
        let named = rest.get(1..tag.saturating_sub(1)).is_some_and(|tag| {
            tag.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !tag.starts_with(|c: char| c.is_ascii_digit())
        });
        if tag > 0 && named {
            let delimiter = &rest[..tag];
            return until(delimiter, tag);
        }
    }
    0
}

/// Bodies of functions (BEGIN ATOMIC) and CASEs in them that are open after `word`.
fn bodies_after(word: &str, bodies: usize, text: &str) -> usize {
    match word {
        "atomic" if text.to_lowercase().trim_end().ends_with("begin atomic") => bodies + 1,
        "case" if bodies > 0 => bodies + 1,
        "end" => bodies.saturating_sub(1),
        _ => bodies,
    }
}
