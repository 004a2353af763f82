//! What `hawser check` and `hawser convert` say.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::settings::{PoolMode, Settings};
use crate::config::{Arguments, Conversion, Environment, Finding, Loaded, Problems, Source, convert, load};
use crate::topology::checkup::{CheckupError, Visit, Wanted};

/// Where the TOML file looks for passwords when no folder was named.
const SECRETS_DIR: &str = "secrets";

/// What a command prints: its result, and remarks that are not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// For standard output.
    pub result: String,
    /// For standard error.
    pub remarks: String,
}

/// Checks a configuration as the server would read it here.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(source: &str, environment: &Environment) -> Result<Printed, Problems> {
    let arguments = Arguments { source: Some(source.to_owned()), ..Arguments::default() };
    let Loaded { settings, warnings, .. } = load(&arguments, environment)?;
    let mut remarks = String::new();
    for warning in &warnings {
        let _ = writeln!(remarks, "warning: {warning}");
    }
    let named = if source.contains("://") { "URL" } else { source };
    Ok(Printed { result: format!("{named}: ok\n{}", summary(&settings)), remarks })
}

/// What settings come to, in a few lines.
pub fn summary(settings: &Settings) -> String {
    let mut text = String::new();
    let mut listen: Vec<String> = settings.listen.tcp.iter().map(ToString::to_string).collect();
    let socket = format!(".s.PGSQL.{}", settings.listen.unix_port);
    listen.extend(settings.listen.unix_dir.iter().map(|dir| dir.join(&socket).display().to_string()));
    let databases: Vec<&str> = settings
        .databases
        .keys()
        .map(String::as_str)
        .chain(settings.wildcard_database.as_ref().map(|_| "*"))
        .collect();
    let mode = match settings.pool.mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    };
    let _ = writeln!(text, "listen:    {}", listen.join(", "));
    let _ = writeln!(text, "databases: {}", shortened(&databases));
    let _ = writeln!(
        text,
        "users:     {}",
        shortened(&settings.users.keys().map(String::as_str).collect::<Vec<_>>())
    );
    let _ = writeln!(
        text,
        "pools:     {mode} mode, {} server connections each, {} clients at most, {} workers",
        settings.pool.size, settings.limits.max_client_connections, settings.workers
    );
    text
}

/// Names, but not all of very many.
fn shortened(names: &[&str]) -> String {
    const MANY: usize = 10;
    match names {
        [] => "none".to_owned(),
        names if names.len() > MANY => {
            let first: Vec<&str> = names.iter().take(MANY).copied().collect();
            format!("{} and {} more", first.join(", "), names.len() - MANY)
        }
        names => names.join(", "),
    }
}

/// Converts a pgbouncer.ini; with `secrets` the files for passwords are made in that folder.
///
/// # Errors
/// Everything that is wrong with the file, or a file that could not be made.
pub fn convert_file(file: &Path, secrets: Option<&Path>) -> Result<Printed, Problems> {
    let folder = match secrets {
        Some(folder) => std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
        None => PathBuf::from(SECRETS_DIR),
    };
    let Conversion { toml, secrets: files } = convert(file, &folder)?;
    let mut remarks = String::new();
    for (path, secret) in &files {
        if secrets.is_some() {
            write_secret(&folder, path, secret).map_err(|error| {
                let source = Source::WholeFile(path.clone());
                Problems::one(Finding::new(&source, format!("cannot be made: {error}")))
            })?;
            let _ = writeln!(remarks, "made {}", path.display());
        } else {
            let _ = writeln!(remarks, "put the password that is left out into {}", path.display());
        }
    }
    if secrets.is_none() && !files.is_empty() {
        remarks.push_str("or let `--secrets FOLDER` make these files\n");
    }
    Ok(Printed { result: toml, remarks })
}

/// Makes a file that only its owner can read; one that is there is not touched.
fn write_secret(folder: &Path, path: &Path, secret: &str) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())
}

/// Checks a Hawser as a client would; `url` says where it is, or else it is where one usually is.
///
/// # Errors
/// There is no thread to do it on. What is wrong with the Hawser, or the URL, is inside.
pub fn health(
    url: Option<&str>,
    wanted: Wanted,
    timeout: Duration,
    environment: &Environment,
) -> std::io::Result<Result<String, CheckupError>> {
    let visit = match Visit::plan(url, environment, timeout) {
        Ok(visit) => visit,
        Err(error) => return Ok(Err(error)),
    };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    Ok(tokio.block_on(visit.check(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_what_the_settings_come_to() {
        let printed = check("postgres://app:topsecret@db/shop", &Environment::of([])).unwrap();
        assert_eq!(
            printed.result,
            "URL: ok\nlisten:    127.0.0.1:6432\ndatabases: shop, *\nusers:     app\n\
             pools:     transaction mode, 20 server connections each, 10000 clients at most, 1 workers\n"
        );
        assert_eq!(printed.remarks, "");
    }

    #[test]
    fn a_conversion_makes_the_files_that_it_names() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("hawser-commands-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let ini = folder.join("pgbouncer.ini");
        std::fs::write(
            &ini,
            "[databases]\napp = host=db user=u password=topsecret\n[pgbouncer]\nlisten_addr = localhost\n",
        )
        .unwrap();
        let secrets = folder.join("secrets");
        let printed = convert_file(&ini, Some(&secrets)).unwrap();
        let toml = folder.join("hawser.toml");
        std::fs::write(&toml, &printed.result).unwrap();
        let file = secrets.join("app.password");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        let checked = check(toml.to_str().unwrap(), &Environment::of([]));
        let left_out = convert_file(&ini, None).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(mode, 0o600);
        assert!(checked.is_ok(), "{checked:?}");
        assert!(!printed.result.contains("topsecret"));
        assert!(left_out.remarks.contains("secrets/app.password"), "{}", left_out.remarks);
    }
}
