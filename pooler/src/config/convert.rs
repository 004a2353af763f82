//! Writes the TOML file that means the same as a pgbouncer.ini.
//!
//! Secrets are not written into it: userlist.txt stays where it is, and the password of a database goes into a file of
//! its own, which the caller makes or tells the operator to make.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::finding::{Finding, Problems, Source};
use super::load::Gathered;
use super::raw::{Section, Value, Written};
use super::reference::{DATABASE, GLOBAL, Kind, Setting, USER};
use super::settings::TlsMode;
use super::validate::resolve;
use super::value::{Parsed, parse};
use super::{Environment, Loaded};

/// A converted file. Not `Debug`: it holds secrets.
pub struct Conversion {
    /// The TOML text, with what was ignored as comments at the top.
    pub toml: String,
    /// Files that the TOML text names and that must be made: each holds one password.
    pub secrets: Vec<(PathBuf, Zeroizing<String>)>,
}

/// Converts `file`; the files for passwords are named in `secrets_dir`. Whatever is wrong with the file is told as in a check.
pub fn convert(file: &Path, secrets_dir: &Path) -> Result<Conversion, Problems> {
    if file.extension().is_none_or(|extension| extension != "ini") {
        let finding = Finding::new(&Source::WholeFile(file.to_owned()), "is not a .ini file");
        return Err(Problems::one(finding.suggest("name a pgbouncer.ini")));
    }
    let Gathered { raw, .. } = Gathered::of_file(file);
    let Loaded { settings, warnings, .. } = Gathered::of_file(file).check(&Environment::default())?;
    let mut writer = Writer { text: String::new(), secrets: Vec::new(), secrets_dir };
    let _ = writeln!(
        writer.text,
        "# Made from {} by `hawser convert`. `hawser check` says whether it is right.",
        file.display()
    );
    for warning in &warnings {
        let _ = writeln!(writer.text, "# {}", one_line(&warning.to_string()));
    }
    let mut global = raw.settings.clone();
    let public = settings.listen.tcp.iter().any(|address| !address.ip().is_loopback());
    if public && settings.client_tls.mode < TlsMode::Require {
        let value = Value::Switch(true);
        let written = Written { value, source: Source::PgbouncerDefault };
        global.insert("listen.allow_plaintext", written);
    }
    writer.section("", &global, GLOBAL, "");
    for (name, section) in &raw.databases {
        writer.section(&format!("databases.{}", key(name)), &section.settings, DATABASE, name);
    }
    for (name, section) in &raw.users {
        writer.section(&format!("users.{}", key(name)), &section.settings, USER, name);
    }
    Ok(Conversion { toml: writer.text, secrets: writer.secrets })
}

struct Writer<'a> {
    text: String,
    secrets: Vec<(PathBuf, Zeroizing<String>)>,
    secrets_dir: &'a Path,
}

impl Writer<'_> {
    /// One section, with its settings in the order of the reference and a header for each table.
    fn section(&mut self, header: &str, section: &Section, table: &'static [Setting], name: &str) {
        let mut current = None;
        // TOML wants the keys of a table before its sub-tables.
        let (plain, nested): (Vec<_>, Vec<_>) = table
            .iter()
            .filter_map(|setting| Some((setting, section.get(setting.name)?)))
            .partition(|(setting, _)| !setting.name.contains('.'));
        if !header.is_empty() {
            let _ = writeln!(self.text, "\n[{header}]");
            current = Some(header.to_owned());
        }
        for (setting, written) in plain.into_iter().chain(nested) {
            let (below, last) = setting.name.rsplit_once('.').unwrap_or(("", setting.name));
            let place =
                [header, below].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            if current.as_deref() != Some(&place) && !place.is_empty() {
                let _ = writeln!(self.text, "\n[{place}]");
                current = Some(place);
            }
            self.setting(last, setting, written, name);
        }
    }

    fn setting(&mut self, last: &str, setting: &Setting, written: &Written, name: &str) {
        let Ok(parsed) = parse(setting, &written.value, &written.source) else { return };
        let mut comment = String::new();
        if written.source == Source::PgbouncerDefault {
            comment = " # PgBouncer's default".to_owned();
        }
        let (last, value) = match (setting.kind, parsed) {
            (Kind::Secret, Parsed::Text(secret)) => {
                let mut path = self.secrets_dir.join(format!("{}.password", file_name(name)));
                if self.secrets.iter().any(|(taken, _)| *taken == path) {
                    let number = self.secrets.len();
                    path = self.secrets_dir.join(format!("{}-{number}.password", file_name(name)));
                }
                let _ = writeln!(self.text, "# from {}; see `hawser convert --help`", written.source);
                let value = quoted(&path.to_string_lossy());
                self.secrets.push((path, Zeroizing::new(secret)));
                (format!("{last}_file"), value)
            }
            (Kind::Path, Parsed::Text(text)) if text.is_empty() => return,
            (Kind::Path, Parsed::Text(text)) => {
                (last.to_owned(), quoted(&resolve(&text, &written.source).to_string_lossy()))
            }
            (_, parsed) => (last.to_owned(), toml_value(setting, &parsed)),
        };
        let _ = writeln!(self.text, "{last} = {value}{comment}");
    }
}

/// A value as TOML.
fn toml_value(setting: &Setting, parsed: &Parsed) -> String {
    match parsed {
        Parsed::Switch(_) | Parsed::Count(_) => parsed.text(setting),
        Parsed::Fraction(number) => format!("{number:?}"),
        Parsed::List(items) => {
            let items: Vec<String> = items.iter().map(|(item, _)| quoted(item)).collect();
            format!("[{}]", items.join(", "))
        }
        Parsed::Pairs(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        _ => quoted(&parsed.text(setting)),
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// A TOML key, quoted where it must be.
fn key(name: &str) -> String {
    toml_edit::Key::new(name).to_string()
}

/// A name that is safe as part of a file name.
fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    name.chars().map(safe).collect()
}

/// A text that cannot break out of its comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
