//! Pure. libpq's password file: `host:port:database:user:password` a line, `*` for any, `\` before `:` and `\`.

use zeroize::Zeroizing;

/// What a password is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Host as named; a Unix socket is `localhost`.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Database.
    pub dbname: &'a str,
    /// User.
    pub user: &'a str,
}

/// The password of the first line that fits.
pub fn find(text: &str, wanted: Wanted<'_>) -> Option<Zeroizing<String>> {
    let port = wanted.port.to_string();
    let keys = [wanted.host, &port, wanted.dbname, wanted.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = Fields(line.chars());
        keys.iter().all(|key| fields.next().is_some_and(|field| field.fits(key))).then_some(())?;
        fields.next().map(|field| Zeroizing::new(field.text)).filter(|password| !password.is_empty())
    })
}

/// A field without its backslashes.
struct Field {
    text: String,
    is_any: bool,
}

impl Field {
    fn fits(&self, key: &str) -> bool {
        self.is_any || self.text == key
    }
}

/// The fields of a line.
struct Fields<'a>(std::str::Chars<'a>);

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        let rest = self.0.as_str();
        if rest.is_empty() {
            return None;
        }
        let mut text = String::new();
        while let Some(c) = self.0.next() {
            match c {
                ':' => break,
                '\\' => text.extend(self.0.next()),
                c => text.push(c),
            }
        }
        Some(Field { is_any: rest == "*" || rest.starts_with("*:"), text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "# comment\ndb:5432:app:app:one\n*:*:*:a\\:b:t\\\\wo\n*:5433:*:*:three\n";

    #[test]
    fn the_first_line_that_fits_counts() {
        let cases = [
            ("db", 5432, "app", "app", Some("one")),
            ("db", 5432, "other", "app", None),
            ("x", 1, "y", "a:b", Some("t\\wo")),
            ("db", 5433, "app", "app", Some("three")),
            ("db", 1, "app", "app", None),
        ];
        for (host, port, dbname, user, expected) in cases {
            let found = find(FILE, Wanted { host, port, dbname, user });
            assert_eq!(found.as_ref().map(|found| found.as_str()), expected, "{host} {port} {user}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z:*\\\\\n#]{0,100}") {
            let _ = find(&text, Wanted { host: "a", port: 1, dbname: "b", user: "c" });
        }
    }
}
