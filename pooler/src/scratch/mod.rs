//! Scratch PostgreSQL clusters from the machine's own packages, for `hawser demo` and the tests.
//!
//! A [`Cluster`] is a real server with SCRAM and TLS on a free port of 127.0.0.1, its files in a fresh folder under
//! the temporary folder. It promises to leave nothing behind: the server is ended and its folder removed when the value is
//! dropped, and also when our process ends in any other way (Ctrl-C, a panic, `kill -9`), by a small shell of its own that
//! waits for the end of our process (see [`Keeper`]).
//!
//! Speed comes before safety here (`fsync` is off): never keep anything in such a cluster.

mod account;
mod certificates;
mod cluster;
mod error;
mod keeper;
mod packages;
mod port;

pub use certificates::{Certificates, MAKE_CERTS};
pub use cluster::{Cluster, Options, StopMode};
pub use error::ScratchError;
pub use keeper::Keeper;
pub use packages::Packages;
pub use port::{free_port, is_free};

/// A random password: letters and digits only, so that it needs no quoting in a URL, a shell or SQL.
#[must_use]
pub fn password() -> String {
    use rand::Rng;
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(24).map(char::from).collect()
}
