//! What can go wrong with a scratch cluster.

use std::path::PathBuf;

/// Why a scratch cluster could not be had, or did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// No PostgreSQL server is installed where the packages put it.
    #[error(
        "no PostgreSQL server found in /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin or on the PATH; install the package postgresql"
    )]
    NoPostgres,
    /// We are root, PostgreSQL refuses to run as root, and there is no other account to use.
    #[error("PostgreSQL does not run as root, and there is neither an account postgres nor nobody")]
    NoAccount,
    /// A program could not be run at all.
    #[error("cannot run {program}")]
    Run {
        /// Which program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed: {message}")]
    Failed {
        /// Which program.
        program: String,
        /// What it wrote to standard error.
        message: String,
    },
    /// A file or folder could not be made, read or changed.
    #[error("{}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server ended, or was not ready in time; the end of its log.
    #[error("PostgreSQL did not start; its log ends:\n{log}")]
    NotStarted {
        /// The last lines of the server's log.
        log: String,
    },
    /// The server was still there when the time to stop was over.
    #[error("PostgreSQL did not stop in {0:?}")]
    NotStopped(std::time::Duration),
    /// No port of 127.0.0.1 could be bound.
    #[error("no free port")]
    NoPort(#[source] std::io::Error),
}
