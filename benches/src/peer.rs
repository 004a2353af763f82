//! Starts whoever stands between the clients and PostgreSQL, all with the same settings.
//!
//! PgBouncer and Hawser read the same `pgbouncer.ini` and `userlist.txt`. Any other pooler is a command that finds
//! its orders in the environment: `BENCH_PORT` (listen on 127.0.0.1), `BENCH_PG_PORT`, `BENCH_DATABASE`, `BENCH_USER`,
//! `BENCH_PASSWORD`, `BENCH_POOL_SIZE`, `BENCH_CERTIFICATE`, `BENCH_KEY`, `BENCH_FOLDER` (to write in), and
//! `BENCH_INI`, the file that the others read. It must stay in the foreground (`exec`).

use std::fmt;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hawser::scratch::{Keeper, free_port};

use crate::cluster::{Cluster, Transport};
use crate::meter::Process;
use crate::pgbench::{NAME, Target};
use crate::workload::{Kind, Workload};

/// Bound on the start of a pooler.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Versions of PgBouncer from here on keep prepared statements in transaction mode.
const PREPARED_SINCE: (u32, u32) = (1, 21);

/// Somebody to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// No pooler.
    Direct,
    /// [`crate::bare`]: what passing bytes on costs by itself.
    Bare,
    /// Ours.
    Hawser {
        /// The program.
        binary: PathBuf,
        /// Worker threads.
        workers: usize,
    },
    /// One of PgBouncer's versions.
    PgBouncer {
        /// The program.
        binary: PathBuf,
        /// Major and minor number.
        version: (u32, u32),
        /// As it says it.
        label: String,
    },
    /// Any other.
    Command {
        /// Its name in the report.
        name: String,
        /// For `sh -c`.
        command: String,
    },
}

impl Peer {
    /// Asks a PgBouncer for its version.
    pub fn pgbouncer(binary: &Path) -> Result<Self> {
        let output = Command::new(binary).arg("--version").output();
        let output = output.with_context(|| format!("cannot start {}", binary.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let label = text.lines().next().unwrap_or_default().trim().to_owned();
        let Some(version) = parse_version(&label) else {
            bail!("{} is no PgBouncer: {label}", binary.display())
        };
        Ok(Self::PgBouncer { binary: binary.to_owned(), version, label })
    }

    /// Reads `name=command`.
    pub fn command(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && !command.is_empty() => {
                Ok(Self::Command { name: name.to_owned(), command: command.to_owned() })
            }
            _ => bail!("a pooler is given as NAME=COMMAND, not {text:?}"),
        }
    }

    /// Whether it can run a workload at all.
    pub fn can_run(&self, workload: Workload) -> bool {
        match self {
            Self::PgBouncer { version, .. } => {
                *version >= PREPARED_SINCE || !workload.needs_prepared_statements()
            }
            Self::Direct => workload.kind() == Kind::Load,
            // TLS it would hand to the server.
            Self::Bare => workload.kind() == Kind::Load && !workload.is_tls(),
            Self::Hawser { .. } | Self::Command { .. } => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Bare => f.write_str("bare relay"),
            Self::Hawser { .. } => f.write_str("Hawser"),
            Self::PgBouncer { label, .. } => f.write_str(label),
            Self::Command { name, .. } => f.write_str(name),
        }
    }
}

fn parse_version(label: &str) -> Option<(u32, u32)> {
    let mut numbers = label.strip_prefix("PgBouncer ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What all poolers are told.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Server connections.
    pub pool_size: usize,
    /// Client connections at most.
    pub max_clients: usize,
}

/// A peer at work. It ends when this is dropped, or when our process ends.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    folder: PathBuf,
    port: u16,
    password: String,
    keeper: Option<Keeper>,
}

impl Running {
    /// Starts a peer in front of `cluster`; `folder` is the scratch folder of the series.
    pub fn start(peer: &Peer, cluster: &Cluster, folder: &Path, terms: Terms) -> Result<Self> {
        let direct = cluster.target(Transport::Tcp);
        let password = direct.password.clone();
        if *peer == Peer::Direct {
            let folder = PathBuf::from(cluster.target(Transport::Unix).host);
            return Ok(Self { child: None, folder, port: direct.port, password, keeper: None });
        }
        let port = free_port()?;
        let home = folder.join(format!("peer-{port}"));
        cluster.account().create_folder(&home)?;
        let ini = Ini {
            home: &home,
            port,
            server_port: direct.port,
            certificate: cluster.certificate(),
            terms,
            peer,
        };
        fs::write(home.join("userlist.txt"), format!("\"{NAME}\" \"{}\"\n", cluster.verifier()?))?;
        fs::write(ini.file(), ini.text())?;
        let mut command = command(peer, cluster, &ini, &password)?;
        let log = fs::File::create(home.join("output"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {peer}"))?;
        // Of a stranger's command line we know nothing by which to recognise it later; others have their folder there.
        let keeper = match peer {
            Peer::Command { .. } | Peer::Direct => None,
            _ => Some(Keeper::of_process(child.id(), &home.display().to_string())?),
        };
        let mut running = Self { child: Some(child), folder: home, port, password, keeper };
        running.wait_until_it_listens(peer)?;
        Ok(running)
    }

    fn wait_until_it_listens(&mut self, peer: &Peer) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                bail!("{peer} ended at once ({status}): {}", tail(&self.folder.join("output")));
            }
            if start.elapsed() > START_TIMEOUT {
                bail!("{peer} does not listen on port {}: {}", self.port, tail(&self.folder.join("output")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where clients find it. TLS is spoken on TCP only.
    pub fn target(&self, transport: Transport, workload: Workload) -> Target {
        let host = match transport {
            Transport::Unix if !workload.is_tls() => self.folder.display().to_string(),
            _ => "127.0.0.1".to_owned(),
        };
        Target { host, port: self.port, password: self.password.clone() }
    }

    /// The process to charge; none if there is no pooler.
    pub fn process(&self) -> Option<Process> {
        self.child.as_ref().map(|child| Process(child.id()))
    }

    /// The end of what it said, for an error.
    pub fn last_words(&self) -> String {
        tail(&self.folder.join("output"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Asked to go first, and given some seconds: an instrumented program writes its profile at its end.
            drop(self.keeper.take());
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The command line of a pooler.
fn command(peer: &Peer, cluster: &Cluster, ini: &Ini<'_>, password: &str) -> Result<Command> {
    let account = cluster.account();
    Ok(match peer {
        Peer::Direct => bail!("nobody to start"),
        Peer::Bare => {
            let mut command = account.command(&ini.copy_of(&std::env::current_exe()?)?);
            command.args(["bare-relay", &ini.port.to_string(), &ini.server_port.to_string()]);
            command
        }
        Peer::Hawser { binary, workers } => {
            let mut command = account.command(&ini.copy_of(binary)?);
            command.arg(ini.file()).args(["--workers", &workers.to_string()]);
            command
        }
        Peer::PgBouncer { binary, .. } => {
            let mut command = account.command(binary);
            command.arg(ini.file());
            command
        }
        Peer::Command { command, .. } => {
            let mut shell = account.command(Path::new("/bin/sh"));
            shell.args(["-c", command]).envs(ini.environment(password));
            shell
        }
    })
}

/// The end of what a pooler said, for an error.
fn tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join(" | ")
}

/// What `pgbouncer.ini` is made of.
struct Ini<'a> {
    home: &'a Path,
    port: u16,
    server_port: u16,
    certificate: (PathBuf, PathBuf),
    terms: Terms,
    peer: &'a Peer,
}

impl Ini<'_> {
    fn file(&self) -> PathBuf {
        self.home.join("pooler.ini")
    }

    /// A copy of a program that the other account can reach, and that a build meanwhile cannot change.
    fn copy_of(&self, program: &Path) -> Result<PathBuf> {
        let copy = self.home.join("program");
        fs::copy(program, &copy).with_context(|| format!("cannot read {}", program.display()))?;
        Ok(copy)
    }

    fn text(&self) -> String {
        let Self { home, port, server_port, certificate: (certificate, key), terms, peer } = self;
        let mut text = format!(
            "[databases]\n{NAME} = host=127.0.0.1 port={server_port} dbname={NAME}\n\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {home}\n\
             auth_type = scram-sha-256\nauth_file = {home}/userlist.txt\n\
             pool_mode = transaction\ndefault_pool_size = {pool}\nmax_client_conn = {clients}\n\
             client_tls_sslmode = allow\nclient_tls_cert_file = {certificate}\nclient_tls_key_file = {key}\n\
             server_tls_sslmode = disable\nlog_connections = 0\nlog_disconnections = 0\n",
            home = home.display(),
            pool = terms.pool_size,
            clients = terms.max_clients,
            certificate = certificate.display(),
            key = key.display(),
        );
        // Unknown words end an older PgBouncer.
        let knows_prepared = match peer {
            Peer::PgBouncer { version, .. } => *version >= PREPARED_SINCE,
            _ => true,
        };
        if knows_prepared {
            text.push_str("max_prepared_statements = 200\n");
        }
        text
    }

    fn environment(&self, password: &str) -> Vec<(&'static str, String)> {
        vec![
            ("BENCH_PORT", self.port.to_string()),
            ("BENCH_PG_PORT", self.server_port.to_string()),
            ("BENCH_DATABASE", NAME.to_owned()),
            ("BENCH_USER", NAME.to_owned()),
            ("BENCH_PASSWORD", password.to_owned()),
            ("BENCH_POOL_SIZE", self.terms.pool_size.to_string()),
            ("BENCH_CERTIFICATE", self.certificate.0.display().to_string()),
            ("BENCH_KEY", self.certificate.1.display().to_string()),
            ("BENCH_FOLDER", self.home.display().to_string()),
            ("BENCH_INI", self.file().display().to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pgbouncer(version: (u32, u32)) -> Peer {
        Peer::PgBouncer { binary: PathBuf::from("/x"), version, label: String::new() }
    }

    fn ini(peer: &Peer) -> String {
        let terms = Terms { pool_size: 20, max_clients: 100 };
        let certificate = (PathBuf::from("/c"), PathBuf::from("/k"));
        Ini { home: Path::new("/h"), port: 1, server_port: 2, certificate, terms, peer }.text()
    }

    #[test]
    fn the_version_is_what_pgbouncer_says() {
        assert_eq!(parse_version("PgBouncer 1.18.0"), Some((1, 18)));
        assert_eq!(parse_version("PostgreSQL 15"), None);
    }

    #[test]
    fn an_old_pgbouncer_is_neither_told_nor_asked_about_prepared_statements() {
        let (old, new) = (pgbouncer((1, 20)), pgbouncer((1, 21)));
        assert!(
            !ini(&old).contains("max_prepared_statements") && ini(&new).contains("max_prepared_statements")
        );
        assert!(!old.can_run(Workload::Prepared) && new.can_run(Workload::Prepared));
        assert!(old.can_run(Workload::Extended));
    }

    #[test]
    fn another_pooler_needs_a_name_and_a_command() {
        assert!(Peer::command("odd").is_err() && Peer::command("=x").is_err());
        let expected =
            Peer::Command { name: "p".to_owned(), command: "exec p --port=$BENCH_PORT".to_owned() };
        assert_eq!(Peer::command("p=exec p --port=$BENCH_PORT").unwrap(), expected);
    }
}
