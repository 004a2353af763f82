//! Pure. Reads a TOML file into [`Raw`], and names every key that is not in the list of settings.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, Source, closest};
use super::raw::{NamedSection, Raw, Section, Value, Written};
use super::reference::{self, Setting};

/// Tables with a table for each database or user.
const NAMED: [&str; 2] = ["databases", "users"];

/// Reads `text`, the content of `file`. What is wrong goes to `problems`; the rest is read all the same.
pub fn read(text: &str, file: &Path, problems: &mut Vec<Finding>) -> Raw {
    let lines = Lines::new(text, file);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        problems.push(Finding::new(
            &lines.source(offset),
            error.message().lines().collect::<Vec<_>>().join(", "),
        ));
    }
    let mut reader = Reader { lines, problems };
    reader.document(document.get_ref())
}

/// Where lines begin.
struct Lines<'a> {
    file: &'a Path,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &str, file: &'a Path) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { file, starts: breaks.collect() }
    }

    fn source(&self, offset: usize) -> Source {
        Source::line(self.file, self.starts.partition_point(|start| *start <= offset) + 1)
    }
}

struct Reader<'a, 'p> {
    lines: Lines<'a>,
    problems: &'p mut Vec<Finding>,
}

impl Reader<'_, '_> {
    fn document(&mut self, document: &DeTable<'_>) -> Raw {
        let mut raw = Raw { file: Some(self.lines.file.to_owned()), ..Raw::default() };
        for (key, value) in document {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("databases", _) => raw.databases = self.named("databases", value, reference::DATABASE),
                ("users", _) => raw.users = self.named("users", value, reference::USER),
                ("listen", DeValue::String(_) | DeValue::Array(_)) => {
                    self.put(&mut raw.settings, "listen.address", value);
                }
                ("http", DeValue::String(_)) => self.put(&mut raw.settings, "http.address", value),
                _ => self.entry(&mut raw.settings, "", key, value, reference::GLOBAL),
            }
        }
        raw
    }

    /// `[databases.NAME]` or `[users.NAME]`.
    fn named(
        &mut self,
        what: &str,
        value: &Spanned<DeValue<'_>>,
        table: &'static [Setting],
    ) -> std::collections::BTreeMap<String, NamedSection> {
        let mut sections = std::collections::BTreeMap::new();
        let DeValue::Table(names) = value.get_ref() else {
            let source = self.lines.source(value.span().start);
            let finding = Finding::new(&source, format!("\"{what}\" is not a table"));
            self.problems.push(finding.suggest(format!("write [{what}.NAME]")));
            return sections;
        };
        for (name, value) in names {
            let source = self.lines.source(name.span().start);
            let mut section = NamedSection::new(source.clone());
            match value.get_ref() {
                DeValue::Table(entries) => {
                    for (key, value) in entries {
                        self.entry(&mut section.settings, "", key, value, table);
                    }
                }
                _ => {
                    let name = name.get_ref();
                    let finding = Finding::new(&source, format!("\"{what}.{name}\" is not a table"));
                    self.problems
                        .push(finding.suggest(format!("write [{what}.NAME] with its settings below")));
                }
            }
            sections.insert(name.get_ref().to_string(), section);
        }
        sections
    }

    /// One key, which is a setting, a table of settings, or a mistake.
    fn entry(
        &mut self,
        section: &mut Section,
        prefix: &str,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        table: &'static [Setting],
    ) {
        let name = format!("{prefix}{}", key.get_ref());
        if let Some(setting) = reference::find(table, &name) {
            return self.put(section, setting.name, value);
        }
        let below = format!("{name}.");
        let source = self.lines.source(key.span().start);
        if !table.iter().any(|setting| setting.name.starts_with(&below)) {
            self.problems.push(unknown(&source, prefix, key.get_ref(), table));
            return;
        }
        match value.get_ref() {
            DeValue::Table(entries) => {
                for (key, value) in entries {
                    self.entry(section, &below, key, value, table);
                }
            }
            _ => {
                let finding = Finding::new(&source, format!("\"{name}\" is a table, not a value"));
                self.problems.push(finding.suggest(format!("write [{name}] with its settings below")));
            }
        }
    }

    /// Takes the value of a setting over.
    fn put(&mut self, section: &mut Section, name: &'static str, value: &Spanned<DeValue<'_>>) {
        let source = self.lines.source(value.span().start);
        match self.value(value) {
            Ok(value) => {
                section.insert(name, Written { value, source });
            }
            Err(what) => self.problems.push(Finding::new(&source, format!("\"{name}\" {what}"))),
        }
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Result<Value, &'static str> {
        match value.get_ref() {
            DeValue::String(text) => Ok(Value::Text(text.to_string())),
            DeValue::Boolean(switch) => Ok(Value::Switch(*switch)),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Value::Integer)
                .map_err(|_| "is a number that is too large"),
            DeValue::Float(number) => {
                number.as_str().parse().map(Value::Fraction).map_err(|_| "is not a number")
            }
            DeValue::Array(items) => {
                let item = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                    DeValue::String(text) => Ok((text.to_string(), self.lines.source(item.span().start))),
                    _ => Err("is a list with something other than texts in it"),
                };
                items.iter().map(item).collect::<Result<_, _>>().map(Value::List)
            }
            DeValue::Table(entries) => {
                let pair = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                    let key: &std::borrow::Cow<'_, str> = key.get_ref();
                    match value.get_ref() {
                        DeValue::String(text) => Ok((key.to_string(), text.to_string())),
                        _ => Err("is a table with something other than texts in it"),
                    }
                };
                entries.iter().map(pair).collect::<Result<_, _>>().map(Value::Pairs)
            }
            DeValue::Datetime(_) => Err("is a date, which no setting is"),
        }
    }
}

/// A key that is no setting: what was probably meant, next to it or elsewhere in the file.
fn unknown(source: &Source, prefix: &str, key: &str, table: &'static [Setting]) -> Finding {
    let place =
        if prefix.is_empty() { String::new() } else { format!(" in [{}]", prefix.trim_end_matches('.')) };
    let finding = Finding::new(source, format!("unknown key \"{key}\"{place}"));
    let mut siblings: Vec<&str> = table
        .iter()
        .filter_map(|setting| setting.name.strip_prefix(prefix))
        .filter_map(|rest| rest.split('.').next())
        .collect();
    if prefix.is_empty() && std::ptr::eq(table, reference::GLOBAL) {
        siblings.extend(NAMED);
    }
    if let Some(meant) = closest(key, siblings) {
        return finding.suggest(format!("did you mean \"{meant}\"?"));
    }
    let elsewhere = table
        .iter()
        .find(|setting| setting.name.rsplit('.').next() == Some(key) || setting.pgbouncer == key)
        .or_else(|| table.iter().find(|setting| setting.name.replace('.', "_") == key));
    match elsewhere {
        Some(setting) => finding.suggest(format!("did you mean \"{}\"?", setting.name)),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        read(text, Path::new("h.toml"), &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_come_with_their_lines() {
        let text = "listen = [\"127.0.0.1:1\",\n \"127.0.0.1:2\"]\n[pool]\nsize = 0x10\n\n[databases.app]\nhosts = \"db\"\nserver_tls.mode = \"require\"\n";
        let mut found = Vec::new();
        let file = Path::new("h.toml");
        let raw = read(text, file, &mut found);
        assert_eq!(found, []);
        let listen = raw.settings["listen.address"].value.clone();
        let items = [("127.0.0.1:1", 1), ("127.0.0.1:2", 2)];
        assert_eq!(listen, Value::List(items.map(|(a, l)| (a.to_owned(), Source::line(file, l))).to_vec()));
        let size = Written { value: Value::Integer(16), source: Source::line(file, 4) };
        assert_eq!(raw.settings["pool.size"], size);
        assert_eq!(raw.databases["app"].source, Source::line(file, 6));
        assert_eq!(raw.databases["app"].settings["server_tls.mode"].source, Source::line(file, 8));
    }

    #[test]
    fn every_unknown_key_is_named_with_what_was_meant() {
        let text = "worker = 2\ndefault_pool_size = 3\n[pol]\nsize = 1\n[pool]\nsise = 1\n[databases.app]\nhots = \"db\"\n[users.app]\ncolour = \"red\"\n";
        let mut found = problems(text);
        found.sort();
        assert_eq!(
            found,
            [
                "h.toml:10: unknown key \"colour\"",
                "h.toml:1: unknown key \"worker\"; did you mean \"workers\"?",
                "h.toml:2: unknown key \"default_pool_size\"; did you mean \"pool.size\"?",
                "h.toml:3: unknown key \"pol\"; did you mean \"pool\"?",
                "h.toml:6: unknown key \"sise\" in [pool]; did you mean \"size\"?",
                "h.toml:8: unknown key \"hots\"; did you mean \"hosts\"?",
            ]
        );
    }

    #[test]
    fn values_of_the_wrong_shape_are_named() {
        let text = "pool = 3\nworkers = 99999999999999999999\ndatabases = 1\n[users]\napp = \"x\"\n[log]\nfile = 1979-05-27\n[auth]\nrules = [1]\n";
        let found = problems(text);
        for expected in [
            "h.toml:1: \"pool\" is a table, not a value; write [pool] with its settings below",
            "h.toml:2: \"workers\" is a number that is too large",
            "h.toml:3: \"databases\" is not a table; write [databases.NAME]",
            "h.toml:5: \"users.app\" is not a table; write [users.NAME] with its settings below",
            "h.toml:7: \"log.file\" is a date, which no setting is",
            "h.toml:9: \"auth.rules\" is a list with something other than texts in it",
        ] {
            assert!(found.iter().any(|found| found == expected), "{expected}\n{found:#?}");
        }
        assert_eq!(found.len(), 6);
    }

    #[test]
    fn several_syntax_errors_are_told_at_once_and_do_not_hide_the_rest() {
        let found = problems("workers = \n[pool]\nsize = 1 2\nsise = 3\n");
        assert!(found.iter().any(|found| found.starts_with("h.toml:1: ")), "{found:#?}");
        assert!(found.iter().any(|found| found.starts_with("h.toml:3: ")), "{found:#?}");
        assert!(found.iter().any(|found| found.starts_with("h.toml:4: unknown key")), "{found:#?}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", toml in "([a-z.\\[\\]\"= \\n0-9{}]|listen|pool|databases|users){0,60}") {
            problems(&text);
            problems(&toml);
        }
    }
}
