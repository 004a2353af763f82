//! `hawser demo`: a scratch primary with two streaming standbys, Hawser in front, and the lines to try.
//!
//! Everything is removed on Ctrl-C, and also when the process is killed. With `--check` it tries the lines itself and ends.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::scratch::{Cluster, Keeper, Options, Packages, ScratchError, free_port, is_free, password};

/// Where people expect a pooler.
const USUAL_PORT: u16 = 6432;
const START_TIMEOUT: Duration = Duration::from_secs(20);
const STREAM_TIMEOUT: Duration = Duration::from_secs(20);
/// Name of the user and of the database.
const APP: &str = "app";

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No scratch cluster could be had.
    #[error("the scratch cluster")]
    Scratch(#[from] ScratchError),
    /// A file of the demo could not be written.
    #[error("{}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Which one.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Hawser ended before it was told to, or does not listen.
    #[error("Hawser does not serve; its messages are above")]
    NotServing,
    /// Waiting for Ctrl-C is not possible.
    #[error("signals")]
    Signals(#[source] std::io::Error),
}

/// Runs the demo until Ctrl-C, or with `check` through its self-test.
///
/// # Errors
/// When the scratch cluster or Hawser cannot be started.
pub fn run(check: bool) -> Result<ExitCode, DemoError> {
    let port = if check { free_port()? } else { choose_port()? };
    println!("Starting a scratch primary and two standbys ...");
    let mut demo = Demo::start(port)?;
    if check {
        return demo.check();
    }
    demo.print_lines();
    demo.wait()?;
    println!("\nRemoving everything ...");
    Ok(ExitCode::SUCCESS)
}

fn choose_port() -> Result<u16, DemoError> {
    if is_free(USUAL_PORT) {
        return Ok(USUAL_PORT);
    }
    let port = free_port()?;
    println!("Port {USUAL_PORT} is taken; Hawser listens on {port} instead.");
    Ok(port)
}

/// How a program connects to Hawser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Clear,
    Tls,
}

/// All that runs. Hawser goes first, then the standbys, then the primary.
struct Demo {
    hawser: Running,
    standbys: Vec<Cluster>,
    primary: Cluster,
    password: String,
    port: u16,
    http: u16,
}

impl Demo {
    fn start(port: u16) -> Result<Self, DemoError> {
        let primary = Cluster::start(&Options::default())?;
        let password = password();
        primary.psql(&format!("CREATE ROLE {APP} LOGIN PASSWORD '{password}'"))?;
        primary.psql(&format!("CREATE DATABASE {APP} OWNER {APP}"))?;
        let standbys = vec![primary.standby()?, primary.standby()?];
        let config = primary.certificates().folder().join("hawser.toml");
        let http = free_port()?;
        write_private(&config, &configuration(port, http, &password, &primary, &standbys))?;
        let hawser = Running::start(&config, port)?;
        Ok(Self { hawser, standbys, primary, password, port, http })
    }

    fn print_lines(&self) {
        let Self { password, port, http, .. } = self;
        let ca = self.primary.certificates().ca();
        let ports: Vec<String> = self.standbys.iter().map(|standby| standby.port().to_string()).collect();
        println!(
            "\nHawser listens on 127.0.0.1:{port}; behind it a primary on port {} and standbys on ports {}.\n\n\
             Try, in another terminal:\n\n\
             \x20 export PGPASSWORD={password}\n\
             \x20 psql -h localhost -p {port} -U {APP} {APP}\n\
             \x20 psql \"host=localhost port={port} user={APP} dbname={APP} sslmode=verify-full sslrootcert={}\"\n\
             \x20 pgbench -h localhost -p {port} -U {APP} -i -s 10 {APP}\n\
             \x20 pgbench -h localhost -p {port} -U {APP} -S -M prepared -c 32 -j 2 -T 10 {APP}\n\
             \x20 psql -h localhost -p {port} -U {APP} hawser -c 'SHOW HOSTS'\n\
             \x20 curl http://127.0.0.1:{http}/metrics\n\n\
             Ctrl-C ends Hawser and removes the clusters.",
            self.primary.port(),
            ports.join(" and "),
            ca.display(),
        );
    }

    /// Returns when the person has seen enough.
    fn wait(&mut self) -> Result<(), DemoError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Signals)?;
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut interrupt = signal(SignalKind::interrupt()).map_err(DemoError::Signals)?;
            let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::Signals)?;
            let mut look = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    _ = interrupt.recv() => return Ok(()),
                    _ = terminate.recv() => return Ok(()),
                    _ = look.tick() => if self.hawser.has_ended() {
                        return Err(DemoError::NotServing);
                    },
                }
            }
        })
    }

    /// Does what the printed lines do, and says of each whether it works.
    fn check(mut self) -> Result<ExitCode, DemoError> {
        let mut failures = 0;
        let mut report = |what: &str, outcome: Result<(), String>| match outcome {
            Ok(()) => println!("ok      {what}"),
            Err(reason) => {
                failures += 1;
                println!("FAILED  {what}\n{reason}");
            }
        };
        report("psql, SCRAM in the clear", self.psql(Leg::Clear, "SELECT 6 * 7", "42"));
        report("psql, SCRAM under TLS (verify-full)", self.psql(Leg::Tls, "SELECT 6 * 7", "42"));
        let insert = "CREATE TABLE demo (id int); INSERT INTO demo SELECT generate_series(1, 100)";
        report("psql writes", self.psql(Leg::Clear, insert, ""));
        report("psql reads", self.psql(Leg::Tls, "SELECT count(*) FROM demo", "100"));
        report("a wrong password is refused", self.wrong_password());
        report("pgbench -i", self.program("pgbench", Leg::Clear, &["-i", "-q"]).map(drop));
        for mode in ["simple", "extended", "prepared"] {
            for (leg, words) in [(Leg::Clear, "in the clear"), (Leg::Tls, "under TLS")] {
                let rounds: [&[&str]; 2] = [&["-S"], &["-N"]];
                for round in rounds {
                    let arguments = [&["-n", "-M", mode, "-c", "8", "-j", "2", "-T", "1"], round].concat();
                    let outcome = self.program("pgbench", leg, &arguments).map(drop);
                    report(&format!("pgbench {} -M {mode}, {words}", round.concat()), outcome);
                }
            }
        }
        report("both standbys stream", self.standbys_stream());
        report("the console knows three hosts", self.console());
        report("it says by HTTP that it is ready", self.readiness());
        report("Hawser still runs", if self.hawser.has_ended() { Err(String::new()) } else { Ok(()) });
        println!("{}", if failures == 0 { "The demo works." } else { "The demo does not work." });
        Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Runs SQL through Hawser and compares what comes back.
    fn psql(&self, leg: Leg, sql: &str, wanted: &str) -> Result<(), String> {
        let got = self.program("psql", leg, &["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])?;
        if got.trim() == wanted { Ok(()) } else { Err(format!("{sql} gave {got:?}, not {wanted:?}")) }
    }

    fn console(&self) -> Result<(), String> {
        let sql = "SELECT count(*) FROM hawser.hosts WHERE usable = 'yes'";
        match self.program("psql", Leg::Clear, &["-XAtqc", sql, "hawser"])?.trim() {
            "3" => Ok(()),
            other => Err(format!("{other} usable hosts")),
        }
    }

    fn readiness(&self) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}/readyz", self.http);
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let output = Command::new(program).args(["health", &url]).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn wrong_password(&self) -> Result<(), String> {
        let mut command = self.command("psql", Leg::Clear);
        let output = command
            .env("PGPASSWORD", "wrong")
            .args(["-XAtqc", "SELECT 1"])
            .output()
            .map_err(|error| error.to_string())?;
        let message = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && message.contains("password authentication failed") {
            Ok(())
        } else {
            Err(format!("status {}, message {message:?}", output.status))
        }
    }

    /// A program of PostgreSQL that connects to Hawser; what it printed, or why it failed.
    fn program(&self, name: &str, leg: Leg, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(name, leg).args(arguments).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
        }
    }

    fn command(&self, name: &str, leg: Leg) -> Command {
        let packages: &Packages = self.primary.packages();
        let mut command = Command::new(packages.program(name));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        command
            .env("PGHOST", "localhost")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", APP)
            .env("PGDATABASE", APP)
            .env("PGPASSWORD", &self.password)
            .env("PGSSLMODE", if leg == Leg::Tls { "verify-full" } else { "disable" })
            .env("PGSSLROOTCERT", self.primary.certificates().ca())
            .stdin(Stdio::null());
        command
    }

    /// Both standbys are attached, and what was written through Hawser arrives there.
    fn standbys_stream(&self) -> Result<(), String> {
        let end = Instant::now() + STREAM_TIMEOUT;
        let ask = |cluster: &Cluster, database: &str, sql: &str| {
            cluster.psql_in(database, sql).map(|answer| answer.trim().to_owned()).unwrap_or_default()
        };
        let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        while Instant::now() < end {
            if ask(&self.primary, "postgres", streaming) == self.standbys.len().to_string()
                && self.standbys.iter().all(|standby| ask(standby, APP, "SELECT count(*) FROM demo") == "100")
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err("not in time".to_owned())
    }
}

/// Hawser as a process of its own, with the configuration that the demo wrote.
struct Running {
    child: Child,
    _keeper: Keeper,
}

impl Running {
    fn start(config: &Path, port: u16) -> Result<Self, DemoError> {
        let run_error = |source| DemoError::Run { program: "hawser".to_owned(), source };
        let program = std::env::current_exe().map_err(run_error)?;
        // In a group of its own, so that a Ctrl-C in the terminal is for the demo, which ends it in its turn.
        let child = Command::new(program)
            .arg(config)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(run_error)?;
        let keeper = Keeper::of_process(child.id(), &config.display().to_string())?;
        let mut running = Self { child, _keeper: keeper };
        let end = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if running.has_ended() || Instant::now() > end {
                return Err(DemoError::NotServing);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It holds nothing that has to be kept: there is no reason to wait for its clients.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(port: u16, http: u16, password: &str, primary: &Cluster, standbys: &[Cluster]) -> String {
    let hosts: Vec<String> = std::iter::once(primary)
        .chain(standbys)
        .map(|cluster| format!("\"127.0.0.1:{}\"", cluster.port()))
        .collect();
    let certificates = primary.certificates();
    format!(
        "listen.address = \"127.0.0.1:{port}\"\nhttp.address = \"127.0.0.1:{http}\"\nadmin.users = [\"{APP}\"]\n\n\
         [client_tls]\nmode = \"allow\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n\n\
         [server_tls]\nmode = \"verify-full\"\nca_file = \"{}\"\n\n\
         [log]\nlevel = \"warn\"\n\n\
         [databases.{APP}]\nhosts = [{}]\n\n\
         [users.{APP}]\npassword = \"{password}\"\n",
        certificates.server_cert().display(),
        certificates.server_key().display(),
        certificates.ca().display(),
        hosts.join(", "),
    )
}

/// Writes a file that only we can read: it holds a password.
fn write_private(path: &Path, text: &str) -> Result<(), DemoError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| DemoError::File { path: path.to_owned(), source })
}
