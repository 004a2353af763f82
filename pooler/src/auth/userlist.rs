//! PgBouncer's userlist.txt: one `"user" "secret"` a line.
//! Pure. A `"` inside quotes is doubled; `;` and `#` begin comments. What follows the secret is ignored, as
//! PgBouncer does (old files have more columns).

use hawser_wire::scram::VerifierError;
use thiserror::Error;

use super::secret;
use crate::config::settings::Secret;

/// One line. Several lines of one user all hold: any of the secrets will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line in the file, from 1.
    pub line: u32,
    /// The user.
    pub user: String,
    /// Its secret; `None` when it is written as `""`: such a user cannot log in by password.
    pub secret: Option<Secret>,
}

/// A line that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct UserlistError {
    /// Line in the file, from 1.
    pub line: u32,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a line. Never shows the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Problem {
    /// It does not begin with a quoted name.
    #[error("expected \"user\" \"secret\", both in double quotes")]
    Shape,
    /// A quote is not closed.
    #[error("a double quote is not closed")]
    OpenQuote,
    /// The name is empty.
    #[error("the user name is empty")]
    EmptyUser,
    /// The secret looks like a verifier and is none.
    #[error(transparent)]
    Verifier(#[from] VerifierError),
}

/// Reads the whole file, or names every line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Entry>, Vec<UserlistError>> {
    let mut entries = Vec::new();
    let mut errors = Vec::new();
    for (line, row) in (1..).zip(text.lines()) {
        let row = row.trim_start_matches('\u{feff}').trim();
        if row.is_empty() || row.starts_with([';', '#']) {
            continue;
        }
        match parse_row(row) {
            Ok((user, secret)) => entries.push(Entry { line, user, secret }),
            Err(problem) => errors.push(UserlistError { line, problem }),
        }
    }
    if errors.is_empty() { Ok(entries) } else { Err(errors) }
}

fn parse_row(row: &str) -> Result<(String, Option<Secret>), Problem> {
    let (user, rest) = quoted(row)?;
    let (text, _) = quoted(rest.trim_start())?;
    if user.is_empty() {
        return Err(Problem::EmptyUser);
    }
    let text = zeroize::Zeroizing::new(text);
    let secret = if text.is_empty() { None } else { Some(secret::parse(&text)?) };
    Ok((user, secret))
}

fn quoted(text: &str) -> Result<(String, &str), Problem> {
    let mut rest = text.strip_prefix('"').ok_or(Problem::Shape)?;
    let mut found = String::new();
    loop {
        let (before, after) = rest.split_once('"').ok_or(Problem::OpenQuote)?;
        found.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                found.push('"');
                rest = more;
            }
            None => return Ok((found, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn users_secrets_comments_and_doubled_quotes_are_read() {
        let text = "; made by hand\n\"anna\" \"secret\"\n\n# more\n  \"b\"\"ob\"\t\"pass\"\"word\" \"\" 1\n\"carl\" \"\"\n";
        let password = |text: &str| Some(Secret::Password(Zeroizing::new(text.to_owned())));
        let entry = |line, user: &str, secret| Entry { line, user: user.to_owned(), secret };
        let expected = vec![
            entry(2, "anna", password("secret")),
            entry(5, "b\"ob", password("pass\"word")),
            entry(6, "carl", None),
        ];
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text = "anna secret\n\"ok\" \"ok\"\n\"open\n\"x\" \"open\n\"\" \"x\"\n\"y\" \"SCRAM-SHA-256$1\"\n\"z\"\n";
        let errors: Vec<_> = parse(text).unwrap_err().into_iter().map(|e| (e.line, e.problem)).collect();
        let expected = [
            (1, Problem::Shape),
            (3, Problem::OpenQuote),
            (4, Problem::OpenQuote),
            (5, Problem::EmptyUser),
            (6, Problem::Verifier(VerifierError)),
            (7, Problem::Shape),
        ];
        assert_eq!(errors, expected);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\"|[ -~]|\n|é)*") {
            let _ = parse(&text);
        }
    }
}
