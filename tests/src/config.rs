//! Configuration files for tests: the usual one, and what a test changes in it.

use ::hawser::scratch::Cluster;

use crate::Account;

/// A configuration file in the making.
#[derive(Debug, Clone)]
pub struct Config {
    globals: Vec<(String, String)>,
    database: Vec<String>,
    users: Vec<(String, Vec<String>)>,
    tables: Vec<String>,
}

impl Config {
    /// Any database name leads to `cluster`; `account` logs in with SCRAM, in the clear or under TLS.
    pub fn new(cluster: &Cluster, account: &Account) -> Self {
        let certificates = cluster.certificates();
        let file = |path: std::path::PathBuf| format!("{:?}", path.display().to_string());
        let config = Self {
            globals: Vec::new(),
            database: vec![format!("hosts = [\"127.0.0.1:{}\"]", cluster.port())],
            users: Vec::new(),
            tables: Vec::new(),
        };
        config
            .set("workers", 2)
            .set("http.address", "\"off\"")
            .set("client_tls.mode", "\"allow\"")
            .set("client_tls.cert_file", file(certificates.server_cert()))
            .set("client_tls.key_file", file(certificates.server_key()))
            .set("client_tls.ca_file", file(certificates.ca()))
            .set("server_tls.mode", "\"disable\"")
            .set("auth.rules", "[\"host all,replication all all scram-sha-256\"]")
            .user(account)
    }

    /// Any database name leads to these hosts, and anybody is let in, in the clear.
    pub fn open(hosts: &[String]) -> Self {
        let database = vec![format!("hosts = {hosts:?}")];
        Self { globals: Vec::new(), database, users: Vec::new(), tables: Vec::new() }
            .set("workers", 2)
            .set("server_tls.mode", "\"disable\"")
            .set("auth.rules", "[\"host all,replication all all trust\"]")
    }

    /// Sets `name` to `value`, which is written as TOML wants it; the last word counts.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.globals.retain(|(other, _)| other != name);
        self.globals.push((name.to_owned(), value.to_string()));
        self
    }

    /// Leaves `name` at its default.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.globals.retain(|(other, _)| other != name);
        self
    }

    /// The hosts of the database `*`, instead of the cluster's.
    #[must_use]
    pub fn hosts(mut self, hosts: &[String]) -> Self {
        self.database.retain(|line| !line.starts_with("hosts"));
        self.database.push(format!("hosts = {hosts:?}"));
        self
    }

    /// A line for the database `*`.
    #[must_use]
    pub fn database(mut self, line: &str) -> Self {
        self.database.push(line.to_owned());
        self
    }

    /// One more user, with its password.
    #[must_use]
    pub fn user(self, account: &Account) -> Self {
        self.user_with(&account.user, &format!("password = \"{}\"", account.password))
    }

    /// The lines for this user, instead of what was said of it before.
    #[must_use]
    pub fn user_with(mut self, user: &str, lines: &str) -> Self {
        self.users.retain(|(other, _)| other != user);
        self.users.push((user.to_owned(), vec![lines.to_owned()]));
        self
    }

    /// Nothing about this user.
    #[must_use]
    pub fn without_user(mut self, user: &str) -> Self {
        self.users.retain(|(other, _)| other != user);
        self
    }

    /// A whole table, with its heading.
    #[must_use]
    pub fn table(mut self, text: &str) -> Self {
        self.tables.push(text.to_owned());
        self
    }

    /// The file.
    pub fn text(&self, port: u16) -> String {
        let mut text = format!("listen.address = \"127.0.0.1:{port}\"\n");
        for (name, value) in &self.globals {
            text.push_str(&format!("{name} = {value}\n"));
        }
        text.push_str(&format!("\n[databases.\"*\"]\n{}\n", self.database.join("\n")));
        for (user, lines) in &self.users {
            text.push_str(&format!("\n[users.\"{user}\"]\n{}\n", lines.join("\n")));
        }
        for table in &self.tables {
            text.push_str(&format!("\n{table}\n"));
        }
        text
    }
}
