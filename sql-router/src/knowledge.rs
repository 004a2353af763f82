//! What a database knows of the names in a statement, as the classifier asks for it. Pure.
//!
//! Names are bytes as PostgreSQL stores them: folded unless they were quoted, and cut to 63 bytes.

/// What is known of the functions that a call may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Volatility {
    /// All of them are immutable or stable: they do not write.
    Reads,
    /// At least one of them is volatile, or is an aggregate or a procedure that reaches such a function.
    Writes,
    /// There is none.
    Unknown,
}

/// Why a name makes a statement that merely mentions it need the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hazard {
    /// A view, or a table with row security, reaches a volatile function.
    View,
    /// A relation that only the primary can read: unlogged or temporary.
    Unlogged,
    /// A type whose input, output, cast or constraint reaches a volatile function.
    Type,
}

/// What a database knows. All methods have an answer for who knows nothing: relations are tables, operators, types and
/// casts are PostgreSQL's own, and functions beyond PostgreSQL's own are unknown.
pub trait Knowledge {
    /// The functions that `schema.name(...)` may mean; without a schema all of that name along `path`. PostgreSQL's own
    /// functions may be left out.
    fn function(&self, schema: Option<&[u8]>, name: &[u8], path: &SearchPath) -> Volatility {
        let _ = (schema, name, path);
        Volatility::Unknown
    }

    /// Whether `value.name`, where no column has that name, may call a volatile function: a function of one argument
    /// can be called like that.
    fn is_volatile_attribute(&self, name: &[u8]) -> bool {
        let _ = name;
        false
    }

    /// What is dangerous about a relation or type that is called `name` in any schema.
    fn hazard(&self, name: &[u8]) -> Option<Hazard> {
        let _ = name;
        None
    }

    /// Whether an operator that is written `operator`, in any schema, reaches a volatile function. Operators that the
    /// grammar uses by itself are asked for as `=`, `<`, `~~` and so on.
    fn is_volatile_operator(&self, operator: &[u8]) -> bool {
        let _ = operator;
        false
    }

    /// Whether any operator is volatile, so that it is worth asking for each.
    fn has_volatile_operators(&self) -> bool {
        false
    }

    /// Whether nothing is certain: there is more that is dangerous than could be remembered.
    fn is_doubtful(&self) -> bool {
        false
    }

    /// Changes whenever an answer may have changed.
    fn generation(&self) -> u64 {
        0
    }
}

/// Knows nothing of the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nothing;

impl Knowledge for Nothing {}

/// Where PostgreSQL looks for names without a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SearchPath {
    /// Schemas in order; `None` when nobody knows.
    schemas: Option<Box<[Box<[u8]>]>>,
}

impl SearchPath {
    /// Nobody knows the path: a name counts wherever it is.
    #[must_use]
    pub const fn unknown() -> Self {
        Self { schemas: None }
    }

    /// The path that the setting `search_path` means for `user`, as PostgreSQL writes and reads it:
    /// `"$user", public`. A setting that cannot be read gives an unknown path.
    #[must_use]
    pub fn parse(setting: &str, user: &str) -> Self {
        let mut schemas: Vec<Box<[u8]>> = Vec::new();
        let mut rest = setting.trim();
        while !rest.is_empty() {
            let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
                let Some((name, after)) = until_quote(quoted) else { return Self::unknown() };
                (name, after)
            } else {
                let end = rest.find([',', '"']).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                (name.trim_end().to_ascii_lowercase(), after)
            };
            schemas.push(if name == "$user" { user.as_bytes().into() } else { name.into_bytes().into() });
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => return Self::unknown(),
            };
        }
        Self { schemas: Some(schemas.into()) }
    }

    /// The schemas that the setting names, in order; `None` when nobody knows.
    #[must_use]
    pub fn schemas(&self) -> Option<&[Box<[u8]>]> {
        self.schemas.as_deref()
    }

    /// Whether functions of `schema` can be called without naming it. `pg_catalog` always can.
    #[must_use]
    pub fn has(&self, schema: &[u8]) -> bool {
        self.place(schema).is_some() || schema == b"pg_catalog"
    }

    /// Whether `schema` comes before `pg_catalog`, which it only does where the setting names both so.
    #[must_use]
    pub fn has_before_catalog(&self, schema: &[u8]) -> bool {
        match (&self.schemas, self.place(schema), self.place(b"pg_catalog")) {
            (None, ..) => true,
            (_, Some(place), Some(catalog)) => place < catalog,
            _ => false,
        }
    }

    fn place(&self, schema: &[u8]) -> Option<usize> {
        match &self.schemas {
            None => Some(0),
            Some(schemas) => schemas.iter().position(|known| **known == *schema),
        }
    }
}

/// The identifier up to the quote that closes it, and what is behind.
fn until_quote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '"' {
            name.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == '"') {
            chars.next();
            name.push('"');
        } else {
            return Some((name, text.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas(setting: &str) -> Option<Vec<String>> {
        let path = SearchPath::parse(setting, "Bob");
        path.schemas().map(|all| all.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    #[test]
    fn a_path_is_read_as_postgresql_writes_it() {
        assert_eq!(schemas("\"$user\", public"), Some(vec!["Bob".into(), "public".into()]));
        assert_eq!(schemas("A,\"B \"\" c\" , d"), Some(vec!["a".into(), "B \" c".into(), "d".into()]));
        assert_eq!(schemas(""), Some(vec![]));
        assert_eq!(schemas("\"\""), Some(vec![String::new()]));
        assert_eq!(schemas("\"a"), None);
        assert_eq!(schemas("\"a\" b"), None);
    }

    #[test]
    fn the_catalogue_comes_first_unless_it_is_named() {
        let path = SearchPath::parse("a, pg_catalog, b", "u");
        assert!(path.has_before_catalog(b"a") && !path.has_before_catalog(b"b"));
        assert!(path.has(b"b") && !path.has(b"c"));
        let path = SearchPath::parse("a", "u");
        assert!(!path.has_before_catalog(b"a") && path.has(b"pg_catalog"));
        assert!(SearchPath::unknown().has_before_catalog(b"x"));
    }
}
