//! The account that PostgreSQL runs as: our own, or when we are root, `postgres` or `nobody`.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::ScratchError;

/// Who runs the server's programs and owns its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// We are not root: ourselves.
    Own,
    /// We are root: this user and group.
    Other {
        /// User number.
        uid: u32,
        /// Group number.
        gid: u32,
    },
}

impl Account {
    pub(super) fn choose() -> Result<Self, ScratchError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let passwd = std::fs::read_to_string("/etc/passwd")
            .map_err(|source| ScratchError::File { path: "/etc/passwd".into(), source })?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| find(&passwd, name))
            .map(|(uid, gid)| Self::Other { uid, gid })
            .ok_or(ScratchError::NoAccount)
    }

    /// Makes `command` run as this account.
    pub(super) fn apply(self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.gid(gid).uid(uid);
        }
    }

    /// Gives a file or folder to this account.
    pub(super) fn own(self, path: &Path) -> Result<(), ScratchError> {
        let Self::Other { uid, gid } = self else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .map_err(|source| ScratchError::File { path: path.to_owned(), source })
    }
}

/// User and group number of `name` in the text of /etc/passwd.
fn find(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn an_account_is_found_by_its_whole_name_only() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7::/:/bin/sh\npostgres:x:101:104:,:/:/bin/sh\n";
        assert_eq!(find(passwd, "postgres"), Some((101, 104)));
        assert_eq!(find(passwd, "nobody"), None);
    }
}
