//! The PostgreSQL that all peers share: started for one series, filled, and removed at its end.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rand::distr::{Alphanumeric, SampleString};

use crate::pgbench::{NAME, Target};

/// Scale of `pgbench -i`: 20 branches, so that 20 connections do not all wait for one row.
const SCALE: u32 = 20;

/// Settings that keep the disk out of the figures.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = '512MB'
fsync = off
synchronous_commit = off
full_page_writes = off
max_wal_size = '4GB'
autovacuum = off
jit = off
password_encryption = 'scram-sha-256'
ssl = on
";

/// 1,000 rows of 1,000 bytes, not compressed, and the counter of idle clients.
const TABLES: &str = "
CREATE TABLE large_rows (v text);
ALTER TABLE large_rows ALTER v SET STORAGE PLAIN;
INSERT INTO large_rows SELECT substr(repeat(md5(i::text), 32), 1, 1000) FROM generate_series(1, 1000) i;
CREATE SEQUENCE idle_clients;
VACUUM ANALYZE;
";

/// The account that PostgreSQL and the poolers run as: both refuse to run as root.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// `postgres` if we are root, else nobody but ourselves.
    pub fn find() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let text = fs::read_to_string("/etc/passwd")?;
        let mut fields =
            text.lines().find(|line| line.starts_with("postgres:")).into_iter().flat_map(|l| l.split(':'));
        let user = fields.nth(2).and_then(|n| n.parse().ok());
        let group = fields.next().and_then(|n| n.parse().ok());
        let (Some(user), Some(group)) = (user, group) else { bail!("there is no user postgres") };
        Ok(Some(Self { user, group }))
    }

    /// A command under this account.
    pub fn command(account: Option<Self>, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        if let Some(account) = account {
            command.uid(account.user).gid(account.group);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Makes a folder or file theirs.
    pub fn own(account: Option<Self>, path: &Path) -> Result<()> {
        if let Some(account) = account {
            chown(path, Some(account.user), Some(account.group))
                .with_context(|| format!("cannot give {} to postgres", path.display()))?;
        }
        Ok(())
    }
}

/// A folder that goes when we go. Readable by all, so that every account can work in it.
#[derive(Debug)]
pub struct ScratchFolder(PathBuf);

impl ScratchFolder {
    /// In memory where the system has `/dev/shm`, so that the disk stays out of the figures.
    pub fn create() -> Result<Self> {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let path = base.join(format!("hawser-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        // Nothing can be done about a folder that stays; the next series uses another name.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running PostgreSQL with the benchmark's tables.
#[derive(Debug)]
pub struct Cluster {
    tools: PathBuf,
    account: Option<Account>,
    data: PathBuf,
    socket_folder: PathBuf,
    port: u16,
    password: String,
    version: String,
}

impl Cluster {
    /// Makes, starts and fills it inside `folder`.
    pub fn start(folder: &Path, account: Option<Account>) -> Result<Self> {
        let tools = find_tools()?;
        let home = folder.join("postgresql");
        fs::create_dir(&home)?;
        Account::own(account, &home)?;
        let password = Alphanumeric.sample_string(&mut rand::rng(), 24);
        let cluster = Self {
            version: output(Command::new(tools.join("postgres")).arg("--version"))?,
            tools,
            account,
            data: home.join("data"),
            socket_folder: home,
            port: free_port()?,
            password,
        };
        cluster.initialise(folder)?;
        run(cluster
            .tool("pg_ctl")
            .args(["start", "-w", "-D"])
            .arg(&cluster.data)
            .arg("-l")
            .arg(cluster.log()))
        .with_context(|| tail(&cluster.log()))?;
        cluster.fill()?;
        Ok(cluster)
    }

    fn initialise(&self, folder: &Path) -> Result<()> {
        run(self.tool("initdb").arg("-D").arg(&self.data).args(["-U", "postgres", "--no-sync"]))?;
        let file = self.data.join("postgresql.conf");
        let mut text = fs::read_to_string(&file)?;
        text.push_str(SETTINGS);
        text.push_str(&format!(
            "port = {}\nunix_socket_directories = '{}'\n",
            self.port,
            self.socket_folder.display()
        ));
        let (certificate, key) = certificate(folder, self.account)?;
        text.push_str(&format!(
            "ssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            certificate.display(),
            key.display()
        ));
        fs::write(&file, text)?;
        fs::write(
            self.data.join("pg_hba.conf"),
            "local all postgres trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n",
        )?;
        Ok(())
    }

    fn fill(&self) -> Result<()> {
        self.sql("postgres", &format!("CREATE ROLE {NAME} LOGIN PASSWORD '{}'", self.password))?;
        self.sql("postgres", &format!("CREATE DATABASE {NAME} OWNER {NAME}"))?;
        run(self
            .tool("pgbench")
            .args(["-i", "-q", "-s", &SCALE.to_string(), NAME])
            .env("PGHOST", &self.socket_folder)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", NAME)
            .env("PGPASSWORD", &self.password))?;
        for statement in TABLES.split_inclusive(";\n").filter(|statement| !statement.trim().is_empty()) {
            self.sql(NAME, statement)?;
        }
        self.sql(NAME, &format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {NAME}"))?;
        self.sql(NAME, &format!("GRANT ALL ON SEQUENCE idle_clients TO {NAME}"))?;
        Ok(())
    }

    /// Runs SQL as superuser and gives what it says.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = self.tool("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]);
        output(command.env("PGHOST", &self.socket_folder).env("PGPORT", self.port.to_string()))
    }

    /// The SCRAM verifier of the benchmark's user.
    pub fn verifier(&self) -> Result<String> {
        self.sql("postgres", &format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{NAME}'"))
    }

    /// As pgbench sees it, past every pooler.
    pub fn target(&self, transport: Transport) -> Target {
        let host = match transport {
            Transport::Tcp => "127.0.0.1".to_owned(),
            Transport::Unix => self.socket_folder.display().to_string(),
        };
        Target { host, port: self.port, password: self.password.clone() }
    }

    /// Highest `aid` of `pgbench_accounts`.
    pub fn rows(&self) -> u64 {
        u64::from(SCALE) * 100_000
    }

    /// pgbench of the same version.
    pub fn pgbench(&self) -> PathBuf {
        self.tools.join("pgbench")
    }

    /// What PostgreSQL calls itself.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn log(&self) -> PathBuf {
        self.socket_folder.join("log")
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Account::command(self.account, &self.tools.join(name));
        command.env("LC_ALL", "C");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut command = self.tool("pg_ctl");
        command.args(["stop", "-m", "immediate", "-D"]).arg(&self.data);
        // A server that is gone already needs no stopping.
        let _ = run(&mut command);
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

/// A port that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The last lines of a log, for an error.
pub fn tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default();
    format!("{}: {}", file.display(), last.join(" | "))
}

/// A self-signed certificate for PostgreSQL and the poolers.
pub fn certificate(folder: &Path, account: Option<Account>) -> Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    if !key.exists() {
        run(Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&certificate))?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        Account::own(account, &key)?;
        Account::own(account, &certificate)?;
    }
    Ok((certificate, key))
}

/// The newest installed PostgreSQL, as Debian keeps it, else the one in the path.
fn find_tools() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, tools)| tools.join("initdb").exists() && tools.join("pgbench").exists())
        .collect();
    found.sort();
    if let Some((_, tools)) = found.pop() {
        return Ok(tools);
    }
    let folder = output(Command::new("pg_config").arg("--bindir"));
    folder.map(PathBuf::from).context("PostgreSQL is not installed (Debian: apt install postgresql)")
}

fn run(command: &mut Command) -> Result<()> {
    // pg_ctl leaves a server behind that would keep a pipe open, so errors go to a file-less place: the status tells.
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let name = command.get_program().to_string_lossy().into_owned();
    let status = status.with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
