//! Pure. libpq's service file: sections of `key=value` lines, each the part of a URL that many programs share.
//!
//! Source: PostgreSQL manual, "The Connection Service File".

use super::environment::Environment;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Keys as in a URL, with their values. A value may be a password.
pub type Pairs = Vec<(String, Zeroizing<String>)>;

/// Where Debian's libpq looks for the file of the whole machine.
const SYSTEM_FOLDER: &str = "/etc/postgresql-common";

/// The files that may describe a service, the weightier first.
pub fn files(environment: &Environment) -> Vec<PathBuf> {
    let own = environment
        .get("PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(|| environment.home().map(|home| home.join(".pg_service.conf")));
    let folder = environment.get("PGSYSCONFDIR").unwrap_or(SYSTEM_FOLDER);
    own.into_iter().chain([PathBuf::from(folder).join("pg_service.conf")]).collect()
}

/// What a file says of a service; `None` if nothing.
///
/// # Errors
/// The number of a line, counted from 1, in that section which has no `=`.
pub fn find(text: &str, name: &str) -> Result<Option<Pairs>, usize> {
    let mut found: Option<Pairs> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if section.strip_suffix(']') == Some(name) {
                found = Some(Pairs::new());
            }
        } else if let Some(pairs) = &mut found {
            let (key, value) = line.split_once('=').ok_or(number + 1)?;
            pairs.push((key.to_owned(), Zeroizing::new(value.to_owned())));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[shop]\nhost=db1,db2\n password=a=b \n\n[shopping]\nport=1\nnonsense\n";

    #[test]
    fn a_section_is_found_by_its_whole_name() {
        let pairs = [("host", "db1,db2"), ("password", "a=b")];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), Zeroizing::new(value.to_owned())));
        assert_eq!(find(FILE, "shop"), Ok(Some(pairs.to_vec())));
        assert_eq!(find(FILE, "shopp"), Ok(None));
        assert_eq!(find(FILE, "shopping"), Err(8));
    }

    #[test]
    fn ones_own_file_comes_first() {
        let of = |variables: &[(&'static str, &'static str)]| files(&Environment::of(variables.to_vec()));
        assert_eq!(of(&[]), [PathBuf::from("/etc/postgresql-common/pg_service.conf")]);
        assert_eq!(
            of(&[("HOME", "/home/a"), ("PGSYSCONFDIR", "/etc/pg")]),
            [PathBuf::from("/home/a/.pg_service.conf"), PathBuf::from("/etc/pg/pg_service.conf")]
        );
        assert_eq!(of(&[("HOME", "/home/a"), ("PGSERVICEFILE", "/s")])[0], PathBuf::from("/s"));
    }
}
