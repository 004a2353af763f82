//! What the command line says about the server: where the configuration is, and flags that come before it.

use std::fmt;

use clap::ValueEnum;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The arguments of the server. `Debug` hides a URL, which may hold a password.
#[derive(Clone, PartialEq, Eq, Default, clap::Args)]
pub struct Arguments {
    /// postgres://… URL, hawser.toml or pgbouncer.ini; without it DATABASE_URL, or PGHOST and its kin
    #[arg(value_name = "URL|FILE")]
    pub source: Option<String>,
    /// Address to listen on [default: 127.0.0.1:6432]; several are parted by commas
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// Address for metrics and health by HTTP, or off [default: 127.0.0.1:6433]
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<String>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,
    /// Server connections of one pool at most [default: 20]
    #[arg(long, value_name = "N")]
    pub pool_size: Option<String>,
    /// How the log is written [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log: Option<LogFormat>,
    /// Allow clients on a public address to talk without TLS
    #[arg(long)]
    pub allow_plaintext: bool,
    /// What an operator has set on the console, by our names.
    #[arg(skip)]
    pub set: Vec<(&'static str, String)>,
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source.as_deref().map(|source| if source.contains("://") { "URL" } else { source });
        f.debug_struct("Arguments")
            .field("source", &source)
            .field("listen", &self.listen)
            .field("http", &self.http)
            .field("workers", &self.workers)
            .field("pool_size", &self.pool_size)
            .field("log", &self.log)
            .field("allow_plaintext", &self.allow_plaintext)
            .finish()
    }
}
