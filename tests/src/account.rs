//! A database and a user of its own for each test.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::hawser::scratch::{Cluster, password};

/// A user with a password and a database of the same name that it owns.
#[derive(Debug, Clone)]
pub struct Account {
    /// Name of the user.
    pub user: String,
    /// Name of the database.
    pub database: String,
    /// The user's password.
    pub password: String,
}

impl Account {
    /// Makes a new one; it may replicate.
    pub fn new(cluster: &Cluster) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("app_{}_{number}", std::process::id());
        Self::named(cluster, &name)
    }

    /// Makes one with this name.
    pub fn named(cluster: &Cluster, name: &str) -> Self {
        let password = password();
        cluster
            .psql(&format!("CREATE ROLE \"{name}\" LOGIN REPLICATION PASSWORD '{password}'"))
            .expect("a new role");
        cluster.psql(&format!("CREATE DATABASE \"{name}\" OWNER \"{name}\"")).expect("a new database");
        Self { user: name.to_owned(), database: name.to_owned(), password }
    }

    /// The superuser of a cluster that lets anybody in.
    pub fn postgres() -> Self {
        let name = || "postgres".to_owned();
        Self { user: name(), database: name(), password: String::new() }
    }

    /// A second user, who may use the database too.
    pub fn second_user(&self, cluster: &Cluster) -> Self {
        let other = Self { user: format!("{}_b", self.user), password: password(), ..self.clone() };
        cluster
            .psql(&format!("CREATE ROLE \"{}\" LOGIN PASSWORD '{}'", other.user, other.password))
            .expect("a second role");
        other
    }

    /// A superuser, in the same database.
    pub fn superuser(&self, cluster: &Cluster) -> Self {
        let other = Self { user: format!("{}_super", self.user), password: password(), ..self.clone() };
        cluster
            .psql(&format!("CREATE ROLE \"{}\" SUPERUSER LOGIN PASSWORD '{}'", other.user, other.password))
            .expect("a superuser");
        other
    }

    /// What the server keeps of the password: a SCRAM verifier or an md5 hash.
    pub fn verifier(&self, cluster: &Cluster) -> String {
        let sql = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{}'", self.user);
        cluster.psql(&sql).expect("the verifier").trim().to_owned()
    }
}
