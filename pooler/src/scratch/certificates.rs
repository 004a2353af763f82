//! The test CA and its certificates, made by `certs/make-certs.sh`: one script for people, tests and demo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ScratchError;

/// The text of `certs/make-certs.sh`.
pub const MAKE_CERTS: &str = include_str!("../../../certs/make-certs.sh");

/// A folder with a CA, a server certificate for localhost, and client certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them in `folder`, with a client certificate for each of `users`. What is there already is kept.
    ///
    /// # Errors
    /// When there is no `openssl`, or it fails.
    pub fn make(folder: &Path, users: &[&str]) -> Result<Self, ScratchError> {
        let output = Command::new("sh")
            .args(["-c", MAKE_CERTS, "make-certs.sh"])
            .arg(folder)
            .args(users)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ScratchError::Run { program: "sh".to_owned(), source })?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ScratchError::Failed { program: "make-certs.sh".to_owned(), message });
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The certificate of an authority that signed none of the others.
    #[must_use]
    pub fn other_ca(&self) -> PathBuf {
        self.folder.join("other-ca.crt")
    }

    /// The server's certificate.
    #[must_use]
    pub fn server_cert(&self) -> PathBuf {
        self.folder.join("server.crt")
    }

    /// The server's key.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// The certificate of the client `user`.
    #[must_use]
    pub fn client_cert(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.crt"))
    }

    /// The key of the client `user`.
    #[must_use]
    pub fn client_key(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.key"))
    }
}
