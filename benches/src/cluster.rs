//! The PostgreSQL that all peers share: started for one series, filled, and removed at its end.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use hawser::scratch::{self, Keeper, Options};

use crate::pgbench::{NAME, Target};

/// Scale of `pgbench -i`: 20 branches, so that 20 connections do not all wait for one row.
const SCALE: u32 = 20;

/// Settings beyond those of every scratch cluster: its tables fit into memory.
const SETTINGS: [&str; 3] = ["shared_buffers = '512MB'", "max_wal_size = '4GB'", "jit = off"];

/// 1,000 rows of 1,000 bytes, not compressed, and the counter of idle clients.
const TABLES: [&str; 6] = [
    "CREATE TABLE large_rows (v text)",
    "ALTER TABLE large_rows ALTER v SET STORAGE PLAIN",
    "INSERT INTO large_rows SELECT substr(repeat(md5(i::text), 32), 1, 1000) FROM generate_series(1, 1000) i",
    "CREATE SEQUENCE idle_clients",
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO bench; GRANT ALL ON SEQUENCE idle_clients TO bench",
    "VACUUM ANALYZE",
];

/// The account that PostgreSQL runs as, and PgBouncer too: both refuse to run as root.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// A command under this account.
    pub fn command(self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        if rustix::process::geteuid().is_root() {
            command.uid(self.user).gid(self.group);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Makes a folder that belongs to this account and that others may enter.
    pub fn create_folder(self, path: &Path) -> Result<()> {
        let made = fs::DirBuilder::new().mode(0o755).create(path);
        made.and_then(|()| chown(path, Some(self.user), Some(self.group)))
            .with_context(|| format!("cannot make {}", path.display()))
    }
}

/// A folder that goes when we go, however we go.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
    _keeper: Keeper,
}

impl ScratchFolder {
    /// A new one, which every account may enter.
    pub fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("hawser-bench-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let keeper = Keeper::start("rm -rf \"$1\"", &[&path.display().to_string()])?;
        Ok(Self { path, _keeper: keeper })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// How clients reach a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP on the loopback.
    Tcp,
    /// A Unix socket.
    Unix,
}

/// A running PostgreSQL with the benchmark's tables.
#[derive(Debug)]
pub struct Cluster {
    server: scratch::Cluster,
    account: Account,
    password: String,
}

impl Cluster {
    /// Makes, starts and fills it.
    pub fn start() -> Result<Self> {
        let options = Options {
            conf: SETTINGS.map(str::to_owned).to_vec(),
            // Clients that come past the poolers log in as the others do.
            hba: vec![format!("local {NAME} {NAME} scram-sha-256")],
            ..Options::default()
        };
        let server = scratch::Cluster::start(&options)?;
        let owner = fs::metadata(server.socket_folder())?;
        let account = Account { user: owner.uid(), group: owner.gid() };
        let cluster = Self { server, account, password: scratch::password() };
        cluster.fill()?;
        Ok(cluster)
    }

    fn fill(&self) -> Result<()> {
        self.server.psql(&format!("CREATE ROLE {NAME} LOGIN PASSWORD '{}'", self.password))?;
        self.server.psql(&format!("CREATE DATABASE {NAME} OWNER {NAME}"))?;
        let target = self.target(Transport::Unix);
        let output = Command::new(self.pgbench())
            .args(["-i", "-q", "-s", &SCALE.to_string(), NAME])
            .env("PGHOST", &target.host)
            .env("PGPORT", target.port.to_string())
            .env("PGUSER", NAME)
            .env("PGPASSWORD", &target.password)
            .output()
            .context("cannot start pgbench")?;
        if !output.status.success() {
            bail!("pgbench -i failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        for statement in TABLES {
            self.server.psql_in(NAME, statement)?;
        }
        Ok(())
    }

    /// Runs SQL as superuser in the benchmark's database and gives what it says.
    pub fn sql(&self, sql: &str) -> Result<String> {
        Ok(self.server.psql_in(NAME, sql)?.trim().to_owned())
    }

    /// The SCRAM verifier of the benchmark's user.
    pub fn verifier(&self) -> Result<String> {
        self.sql(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{NAME}'"))
    }

    /// As pgbench sees it, past every pooler.
    pub fn target(&self, transport: Transport) -> Target {
        let host = match transport {
            Transport::Tcp => "127.0.0.1".to_owned(),
            Transport::Unix => self.server.socket_folder(),
        };
        Target { host, port: self.server.port(), password: self.password.clone() }
    }

    /// Whoever it runs as.
    pub fn account(&self) -> Account {
        self.account
    }

    /// Certificate and key for the poolers: its own.
    pub fn certificate(&self) -> (PathBuf, PathBuf) {
        (self.server.certificates().server_cert(), self.server.certificates().server_key())
    }

    /// Highest `aid` of `pgbench_accounts`.
    pub fn rows(&self) -> u64 {
        u64::from(SCALE) * 100_000
    }

    /// pgbench of the same version.
    pub fn pgbench(&self) -> PathBuf {
        self.server.packages().program("pgbench")
    }

    /// What PostgreSQL calls itself.
    pub fn version(&self) -> Result<String> {
        Ok(format!("PostgreSQL {}", self.server.psql("SHOW server_version")?.trim()))
    }
}
