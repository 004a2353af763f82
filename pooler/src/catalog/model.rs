//! Pure. What one database knows of its functions, views, types and operators, as far as it decides whether a
//! statement reads.

use hawser_sql_router::functions::{self, BuiltIn};
use hawser_sql_router::knowledge::{Hazard, Knowledge, SearchPath, Volatility};
use hawser_sql_router::reach::{self, Reach};
use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

/// A state of a database's catalogue: equal marks, equal catalogues.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mark(pub(super) String);

/// One function, or several of one name in one schema.
#[derive(Debug, Clone, Copy)]
struct Overloads {
    /// Number of the schema in [`Catalog::schemas`].
    schema: u32,
    /// The worst of those that PostgreSQL's own do not hide.
    own: Option<Volatility>,
    /// The worst of those that are hidden by a function of PostgreSQL with the same arguments, unless their schema
    /// comes before `pg_catalog`.
    hidden: Option<Volatility>,
}

/// Which statements may run a function that leaves something behind in its session, without naming it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hidden {
    /// None.
    #[default]
    Nothing,
    /// Those that write, by a trigger, a default or a check.
    Writes,
    /// Any, by a view, a policy, a type, an operator or a cast.
    Anything,
    /// Nobody knows.
    Unknown,
}

impl Hidden {
    /// Whether a text may run such a function.
    #[must_use]
    pub fn is_reached_by(self, text: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Writes => reach::of(text) == Reach::Writes,
            Self::Anything | Self::Unknown => reach::of(text) != Reach::Nothing,
        }
    }
}

/// What one database knows. It does not change; a new one is loaded when the database has changed.
#[derive(Debug, Default)]
pub struct Catalog {
    schemas: Vec<Box<[u8]>>,
    functions: HashMap<Box<[u8]>, Vec<Overloads>>,
    /// PostgreSQL's own functions that the classifier's table does not have, since the server is younger.
    built_in: HashMap<Box<[u8]>, Volatility>,
    attributes: HashSet<Box<[u8]>>,
    hazards: HashMap<Box<[u8]>, Hazard>,
    operators: HashSet<Box<[u8]>>,
    everything_is_doubtful: bool,
    /// A name of `hazards` or `attributes` is not in ASCII. A client may send it in another encoding.
    foreign_letters: bool,
    generation: u64,
    pub(super) hidden: Hidden,
}

/// A row of [`super::queries::functions`].
#[derive(Debug, Clone, Copy)]
pub(super) struct FunctionRow<'a> {
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
    pub(super) volatile: bool,
    pub(super) of_one_argument: bool,
    pub(super) hidden: bool,
}

impl Catalog {
    /// An empty catalogue of the database that has `mark`.
    pub(super) fn new(mark: &Mark) -> Self {
        let mut hasher = DefaultHasher::new();
        mark.hash(&mut hasher);
        // Zero is who knows nothing.
        Self { generation: hasher.finish().max(1), ..Self::default() }
    }

    /// Adds a function of PostgreSQL; returns whether it needs the primary.
    pub(super) fn add_built_in(&mut self, name: &str, volatile: bool) -> bool {
        match functions::of_name(name.as_bytes()) {
            BuiltIn::Primary => return true,
            BuiltIn::Standby => return name == "set_config",
            BuiltIn::None => {}
        }
        let known = self.built_in.entry(name.as_bytes().into()).or_insert(Volatility::Reads);
        if volatile {
            *known = Volatility::Writes;
        }
        volatile
    }

    /// Adds a function of a user.
    pub(super) fn add_function(&mut self, row: FunctionRow<'_>) {
        let schema = self.schema_number(row.schema);
        let volatility = if row.volatile { Volatility::Writes } else { Volatility::Reads };
        if row.volatile && row.of_one_argument {
            self.foreign_letters |= !row.name.is_ascii();
            self.attributes.insert(row.name.as_bytes().into());
        }
        let all = self.functions.entry(row.name.as_bytes().into()).or_default();
        let at = all.iter().position(|overloads| overloads.schema == schema).unwrap_or_else(|| {
            all.push(Overloads { schema, own: None, hidden: None });
            all.len() - 1
        });
        let Some(overloads) = all.get_mut(at) else { return };
        let place = if row.hidden { &mut overloads.hidden } else { &mut overloads.own };
        *place = worse(*place, volatility);
    }

    fn schema_number(&mut self, name: &str) -> u32 {
        let at = self.schemas.iter().position(|schema| **schema == *name.as_bytes()).unwrap_or_else(|| {
            self.schemas.push(name.as_bytes().into());
            self.schemas.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// Adds a row of [`super::queries::hazards`].
    pub(super) fn add_hazard(&mut self, kind: &str, name: &str) {
        let hazard = match kind {
            "u" => Hazard::Unlogged,
            "v" => Hazard::View,
            "t" => Hazard::Type,
            "o" => {
                self.operators.insert(name.as_bytes().into());
                return;
            }
            "s" => {
                self.operators.extend([
                    b"=".as_slice().into(),
                    b"<".as_slice().into(),
                    b">".as_slice().into(),
                ]);
                return;
            }
            _ => return self.give_up(),
        };
        self.foreign_letters |= !name.is_ascii();
        match self.hazards.entry(name.as_bytes().into()) {
            Entry::Vacant(place) => drop(place.insert(hazard)),
            // A view can be believed in by who vouches for it; an unlogged table cannot.
            Entry::Occupied(mut known) if hazard == Hazard::Unlogged => drop(known.insert(hazard)),
            Entry::Occupied(_) => {}
        }
    }

    /// There is more than what is remembered: nothing is safe.
    pub(super) fn give_up(&mut self) {
        self.everything_is_doubtful = true;
    }

    /// See [`Hidden`].
    #[must_use]
    pub const fn hidden(&self) -> Hidden {
        self.hidden
    }

    /// Whether this is what the database's catalogue says in that state.
    #[must_use]
    pub fn is_of(&self, mark: &Mark) -> bool {
        self.generation == Self::new(mark).generation
    }

    /// Names of functions, and names that are dangerous to mention.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.functions.len(), self.hazards.len() + self.operators.len())
    }
}

fn worse(known: Option<Volatility>, other: Volatility) -> Option<Volatility> {
    Some(if known == Some(Volatility::Writes) { Volatility::Writes } else { other })
}

impl Knowledge for Catalog {
    fn function(&self, schema: Option<&[u8]>, name: &[u8], path: &SearchPath) -> Volatility {
        let mut found = None;
        for overloads in self.functions.get(name).map(Vec::as_slice).unwrap_or_default() {
            let Some(home) = self.schemas.get(overloads.schema as usize) else { continue };
            let (reachable, shows_hidden) = match schema {
                Some(schema) => (**home == *schema, true),
                None => (path.has(home), path.has_before_catalog(home)),
            };
            if reachable {
                let hidden = overloads.hidden.filter(|_| shows_hidden);
                for volatility in [overloads.own, hidden].into_iter().flatten() {
                    found = worse(found, volatility);
                }
            }
        }
        if matches!(schema, None | Some(b"pg_catalog"))
            && let Some(volatility) = self.built_in.get(name)
        {
            found = worse(found, *volatility);
        }
        found.unwrap_or(Volatility::Unknown)
    }

    fn is_volatile_attribute(&self, name: &[u8]) -> bool {
        self.attributes.contains(name) || (self.foreign_letters && !name.is_ascii())
    }

    fn hazard(&self, name: &[u8]) -> Option<Hazard> {
        if self.foreign_letters && !name.is_ascii() {
            return Some(Hazard::View);
        }
        self.hazards.get(name).copied()
    }

    fn is_volatile_operator(&self, operator: &[u8]) -> bool {
        self.operators.contains(operator)
    }

    fn has_volatile_operators(&self) -> bool {
        !self.operators.is_empty()
    }

    fn is_doubtful(&self) -> bool {
        self.everything_is_doubtful
    }

    fn generation(&self) -> u64 {
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(rows: &[(&str, &str, bool, bool)]) -> Catalog {
        let mut catalog = Catalog::new(&Mark("1:2".into()));
        for (schema, name, volatile, hidden) in rows {
            catalog.add_function(FunctionRow {
                schema,
                name,
                volatile: *volatile,
                of_one_argument: true,
                hidden: *hidden,
            });
        }
        catalog
    }

    #[test]
    fn a_name_is_looked_for_along_the_path() {
        let catalog = catalog(&[("a", "f", false, false), ("b", "f", true, false), ("b", "g", false, false)]);
        let find = |setting: &str, name: &str| {
            catalog.function(None, name.as_bytes(), &SearchPath::parse(setting, "u"))
        };
        assert_eq!(find("a", "f"), Volatility::Reads);
        assert_eq!(find("a, b", "f"), Volatility::Writes);
        assert_eq!(find("a", "g"), Volatility::Unknown);
        assert_eq!(catalog.function(None, b"f", &SearchPath::unknown()), Volatility::Writes);
        assert_eq!(catalog.function(Some(b"b"), b"g", &SearchPath::parse("", "u")), Volatility::Reads);
    }

    #[test]
    fn a_function_like_one_of_postgresql_counts_only_before_it() {
        let catalog = catalog(&[("a", "lower", true, true)]);
        let find = |setting: &str| catalog.function(None, b"lower", &SearchPath::parse(setting, "u"));
        assert_eq!(find("a"), Volatility::Unknown);
        assert_eq!(find("a, pg_catalog"), Volatility::Writes);
        assert_eq!(find("pg_catalog, a"), Volatility::Unknown);
        assert_eq!(catalog.function(Some(b"a"), b"lower", &SearchPath::parse("", "u")), Volatility::Writes);
    }

    #[test]
    fn what_a_younger_server_has_counts_by_its_volatility() {
        let mut catalog = catalog(&[]);
        assert!(!catalog.add_built_in("brand_new", false));
        assert!(catalog.add_built_in("brand_new_writer", true));
        assert!(catalog.add_built_in("nextval", true) && !catalog.add_built_in("random", true));
        let path = SearchPath::parse("a", "u");
        assert_eq!(catalog.function(None, b"brand_new", &path), Volatility::Reads);
        assert_eq!(catalog.function(Some(b"pg_catalog"), b"brand_new_writer", &path), Volatility::Writes);
        assert_eq!(catalog.function(Some(b"a"), b"brand_new", &path), Volatility::Unknown);
    }

    #[test]
    fn what_is_hidden_is_reached_by_some_texts() {
        for (hidden, reached) in [
            (Hidden::Nothing, [false, false, false]),
            (Hidden::Writes, [false, false, true]),
            (Hidden::Anything, [false, true, true]),
            (Hidden::Unknown, [false, true, true]),
        ] {
            let texts = ["COMMIT", "SELECT 1", "INSERT INTO t VALUES (1)"];
            assert_eq!(texts.map(|text| hidden.is_reached_by(text.as_bytes())), reached, "{hidden:?}");
        }
    }

    #[test]
    fn letters_in_another_encoding_are_not_trusted() {
        let mut catalog = catalog(&[]);
        catalog.add_hazard("v", "sicht");
        assert_eq!((catalog.hazard(b"sicht"), catalog.hazard(b"\xe9")), (Some(Hazard::View), None));
        catalog.add_hazard("u", "r\u{e9}serve");
        assert_eq!(catalog.hazard(b"r\xe9serve"), Some(Hazard::View));
    }
}
