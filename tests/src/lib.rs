//! The harness of the scenario tests: real clusters, the real binary, real drivers, a scripted client.
//!
//! Each file in `tests/` is about one promise. Its tests share one scratch cluster ([`cluster`]); each of them makes
//! its own database and user ([`Account::new`]) and starts its own Hawser ([`Hawser::start`]) on a free port, so that
//! they run side by side. Nothing waits by sleeping: [`wait_until`] asks until it is so, or fails with what it waited for.
//!
//! With `HAWSER_TEST_DIRECT=1` in the environment the tests of `drivers.rs` and `protocol.rs` talk to PostgreSQL itself: that shows
//! that a test is right about PostgreSQL.

// Tests end by panicking.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc
)]

mod account;
mod auto_failover;
mod config;
pub mod crowd;
mod doors;
mod ensemble;
mod hawser;
mod http;
mod patroni;
mod program;
mod programs;
pub mod raw;
mod repmgr;
pub mod script;
mod site;
mod usage;
mod wait;

use std::sync::OnceLock;

use ::hawser::scratch::{Cluster, Options};

pub use account::Account;
pub use auto_failover::AutoFailover;
pub use config::Config;
pub use doors::Doors;
pub use ensemble::Ensemble;
pub use hawser::{Hawser, binary, is_direct};
pub use http::http_get;
pub use patroni::Patroni;
pub use program::{Finished, Program, repository};
pub use programs::Programs;
pub use repmgr::Repmgr;
pub use site::{Site, disturb};
pub use usage::{Usage, raise_file_limit};
pub use wait::{wait_for, wait_long_until, wait_until};

/// Users that have a client certificate.
pub const CERTIFICATE_USERS: [&str; 2] = ["bob", "certified"];

/// The cluster that the tests of one process share. It is removed when the process ends.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| own_cluster(&[]))
}

/// A cluster for one test that does harm to it, with lines for its `postgresql.conf`.
pub fn own_cluster(conf: &[&str]) -> Cluster {
    let options = Options {
        conf: conf.iter().map(|line| (*line).to_owned()).collect(),
        // The names tell how Hawser has to log in as these users.
        hba: vec![
            "host all md5_server 127.0.0.1/32 md5".to_owned(),
            "host all password_server 127.0.0.1/32 password".to_owned(),
            "hostssl all certified 127.0.0.1/32 cert".to_owned(),
            "hostnossl all certified 127.0.0.1/32 reject".to_owned(),
        ],
        certificate_users: CERTIFICATE_USERS.iter().map(|user| (*user).to_owned()).collect(),
        packages: None,
    };
    Cluster::start(&options).unwrap_or_else(|error| panic!("no scratch cluster: {error}"))
}
