//! Where the machine's PostgreSQL is.

use std::path::{Path, PathBuf};

use super::ScratchError;

/// The programs of one installed PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// Folder of `postgres`, `initdb`, `pgbench`, ...
    pub bin: PathBuf,
    /// Its major version; 0 when the folder does not tell.
    pub major: u32,
}

impl Packages {
    /// The newest PostgreSQL server of the machine.
    ///
    /// # Errors
    /// When none is installed.
    pub fn find() -> Result<Self, ScratchError> {
        let mut found: Vec<Self> = ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt"]
            .iter()
            .filter_map(|parent| std::fs::read_dir(parent).ok())
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| Self::in_folder(&entry.path()))
            .collect();
        if found.is_empty()
            && let Some(path) = std::env::var_os("PATH")
        {
            found.extend(
                std::env::split_paths(&path).filter(|bin| is_server(bin)).map(|bin| Self { bin, major: 0 }),
            );
        }
        found.into_iter().max_by_key(|packages| packages.major).ok_or(ScratchError::NoPostgres)
    }

    /// One program of this installation.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        let major = major_of(folder.file_name()?.to_str()?)?;
        let bin = folder.join("bin");
        is_server(&bin).then_some(Self { bin, major })
    }
}

/// `15`, `pgsql-15` and `postgresql@15` are version 15; other names are no installation.
fn major_of(name: &str) -> Option<u32> {
    ["pgsql-", "postgresql@", ""].iter().find_map(|prefix| name.strip_prefix(prefix)?.parse().ok())
}

fn is_server(bin: &Path) -> bool {
    bin.join("postgres").is_file() && bin.join("initdb").is_file()
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn the_version_is_read_from_the_name_of_the_folder() {
        assert_eq!(major_of("15"), Some(15));
        assert_eq!(major_of("pgsql-17"), Some(17));
        assert_eq!(major_of("postgresql@18"), Some(18));
        assert_eq!(major_of("lib"), None);
        assert_eq!(major_of("9.6"), None);
    }
}
