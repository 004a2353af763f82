//! One scratch server: a primary, or a standby of one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;
use super::{Certificates, Keeper, Packages, ScratchError, free_port, password};

/// The account that `initdb` makes.
const SUPERUSER: &str = "postgres";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Several processes may pick the same free port; the loser tries another one.
const START_ATTEMPTS: usize = 4;

/// Ends the server if it is still there, whatever state it is in, and removes its folder.
const CLEAN_UP: &str = r#"
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
    there() { tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$1/data"; }
    if [ -n "$pid" ] && there "$1"; then
        for p in $(ps -o pid= --ppid "$pid") $pid; do kill -CONT "$p"; done
        kill -QUIT "$pid"
        n=0; while there "$1" && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done
        there "$1" && kill -KILL $(ps -o pid= --ppid "$pid") "$pid"
    fi
    rm -rf "$1""#;

/// What a new cluster is to be, beyond the usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Lines for `postgresql.conf`, after ours.
    pub conf: Vec<String>,
    /// Lines for `pg_hba.conf`, before ours.
    pub hba: Vec<String>,
    /// Users that get a client certificate, besides `app`.
    pub certificate_users: Vec<String>,
    /// Which PostgreSQL it runs; the newest of the machine otherwise.
    pub packages: Option<Packages>,
}

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Ends the sessions (57P01), then stops cleanly.
    Fast,
    /// Stops at once, as in a crash.
    Immediate,
}

/// A running server that is ended and removed when this value is dropped, or when our process ends.
#[derive(Debug)]
pub struct Cluster {
    packages: Packages,
    account: Account,
    folder: PathBuf,
    port: u16,
    password: String,
    certificates: Certificates,
    server: Option<Child>,
    // Last: it removes the folder.
    _keeper: Keeper,
}

impl Cluster {
    /// Makes and starts a primary.
    ///
    /// # Errors
    /// When there is no PostgreSQL, or it does not start.
    pub fn start(options: &Options) -> Result<Self, ScratchError> {
        let packages = options.packages.clone().map_or_else(Packages::find, Ok)?;
        let account = Account::choose()?;
        let (folder, keeper) = new_folder(account)?;
        let mut users = vec!["app"];
        users.extend(options.certificate_users.iter().map(String::as_str));
        let certificates = Certificates::make(&folder.join("certs"), &users)?;
        let mut cluster = Self {
            packages,
            account,
            folder,
            port: 0,
            password: password(),
            certificates,
            server: None,
            _keeper: keeper,
        };
        cluster.own_server_key()?;
        cluster.init(options)?;
        cluster.start_on_free_port()?;
        Ok(cluster)
    }

    /// Makes and starts a streaming standby of this server.
    ///
    /// # Errors
    /// When pg_basebackup fails, or the standby does not start.
    pub fn standby(&self) -> Result<Self, ScratchError> {
        let (folder, keeper) = new_folder(self.account)?;
        let name = folder.file_name().and_then(OsStr::to_str).unwrap_or("standby");
        let source = self.source(name);
        let mut command = Command::new(self.packages.program("pg_basebackup"));
        command.args(["-X", "stream", "-R", "-c", "fast", "--no-sync", "-d"]).arg(&source);
        command.arg("-D").arg(folder.join("data"));
        run(self.account, &mut command)?;
        let mut standby = Self {
            packages: self.packages.clone(),
            account: self.account,
            folder,
            port: 0,
            password: self.password.clone(),
            certificates: self.certificates.clone(),
            server: None,
            _keeper: keeper,
        };
        standby.start_on_free_port()?;
        Ok(standby)
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Folder of its Unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> String {
        self.folder.display().to_string()
    }

    /// Name of its superuser.
    #[must_use]
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// Password of its superuser.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The certificates that it and its clients use.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The programs that it runs from.
    #[must_use]
    pub fn packages(&self) -> &Packages {
        &self.packages
    }

    /// Process number of the running server.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Runs SQL as superuser in the database `postgres`, over the Unix socket; columns are separated by `|`.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn psql(&self, sql: &str) -> Result<String, ScratchError> {
        self.psql_in("postgres", sql)
    }

    /// As [`Self::psql`], in another database.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String, ScratchError> {
        let mut command = Command::new(self.packages.program("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h"]).arg(&self.folder);
        command.args(["-p", &self.port.to_string(), "-U", SUPERUSER, "-d", database, "-c", sql]);
        run(self.account, &mut command)
    }

    /// Makes a standby a primary, and waits until it is one.
    ///
    /// # Errors
    /// When it is not a standby, or takes longer than a minute.
    pub fn promote(&self) -> Result<(), ScratchError> {
        match self.psql("SELECT pg_promote(true, 60)")?.trim() {
            "t" => Ok(()),
            answer => {
                Err(ScratchError::Failed { program: "pg_promote".to_owned(), message: answer.to_owned() })
            }
        }
    }

    /// Has a running standby stream from another primary.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn follow(&self, primary: &Self) -> Result<(), ScratchError> {
        let name = self.folder.file_name().and_then(OsStr::to_str).unwrap_or("standby");
        let source = primary.source(name);
        self.psql(&format!("ALTER SYSTEM SET primary_conninfo = '{source}'"))?;
        self.psql("SELECT pg_reload_conf()").map(drop)
    }

    /// How a standby with this name connects.
    fn source(&self, name: &str) -> String {
        format!("host={} port={} user={SUPERUSER} application_name={name}", self.socket_folder(), self.port)
    }

    /// Stops the server and waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, mode: StopMode) -> Result<(), ScratchError> {
        let signal = match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        self.end_with(signal)
    }

    /// Kills the server as a crash of its machine's memory would: no farewell to anybody.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn kill9(&mut self) -> Result<(), ScratchError> {
        for pid in self.processes() {
            // One that has ended meanwhile is what we want.
            let _ = kill_process(pid, Signal::KILL);
        }
        self.end_with(Signal::KILL)
    }

    /// Freezes the server: it neither answers nor ends, and the system goes on acknowledging what is sent to it.
    pub fn sigstop(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Wakes a frozen server.
    pub fn sigcont(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Freezes the process that lets connections in: those that are there are served, and nobody else is.
    pub fn close_door(&self) {
        self.signal_door(Signal::STOP);
    }

    /// See [`Self::close_door`].
    pub fn open_door(&self) {
        self.signal_door(Signal::CONT);
    }

    fn signal_door(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Starts a stopped server again, on the same port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<(), ScratchError> {
        self.launch()
    }

    /// The last lines of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.folder.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The server wants its key to be its own; the certificates were made by us.
    fn own_server_key(&self) -> Result<(), ScratchError> {
        self.account.own(self.certificates.folder())?;
        for file in [self.certificates.server_key(), self.certificates.server_cert(), self.certificates.ca()]
        {
            self.account.own(&file)?;
        }
        Ok(())
    }

    fn init(&self, options: &Options) -> Result<(), ScratchError> {
        let password_file = self.folder.join("superuser-password");
        write(&password_file, &self.password)?;
        self.account.own(&password_file)?;
        let mut command = Command::new(self.packages.program("initdb"));
        command.arg("-D").arg(self.data()).arg("--pwfile").arg(&password_file);
        command.args(["-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        run(self.account, &mut command)?;
        // Nobody needs it any more.
        let _ = std::fs::remove_file(&password_file);

        let conf = self.data().join("postgresql.conf");
        append(&conf, &self.conf(options))?;
        let mut hba = options.hba.join("\n");
        // The socket is in a folder that only its owner may enter.
        hba.push_str(
            "\nlocal all,replication all trust\nhost all,replication all 127.0.0.1/32 scram-sha-256\n\
             host all,replication all ::1/128 scram-sha-256\n",
        );
        let hba_file = self.data().join("pg_hba.conf");
        write(&hba_file, &hba)?;
        self.account.own(&hba_file)
    }

    fn conf(&self, options: &Options) -> String {
        let certificates = &self.certificates;
        let mut conf = format!(
            "\nlisten_addresses = '127.0.0.1'\nmax_connections = 200\nshared_buffers = 16MB\n\
             dynamic_shared_memory_type = mmap\npassword_encryption = 'scram-sha-256'\n\
             fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nautovacuum = off\n\
             wal_level = logical\nmax_wal_senders = 20\nmax_replication_slots = 20\nwal_keep_size = 128MB\n\
             hot_standby = on\nwal_receiver_status_interval = 1s\nhot_standby_feedback = on\n\
             ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'\n",
            certificates.server_cert().display(),
            certificates.server_key().display(),
            certificates.ca().display(),
        );
        for line in &options.conf {
            conf.push_str(line);
            conf.push('\n');
        }
        conf
    }

    fn start_on_free_port(&mut self) -> Result<(), ScratchError> {
        let mut attempt = 1;
        loop {
            self.port = free_port()?;
            append(
                &self.data().join("postgresql.conf"),
                &format!("\nport = {}\nunix_socket_directories = '{}'\n", self.port, self.folder.display()),
            )?;
            match self.launch() {
                Ok(()) => return Ok(()),
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    fn launch(&mut self) -> Result<(), ScratchError> {
        use std::os::unix::process::CommandExt as _;
        let log_path = self.folder.join("log");
        let file_error = |source| ScratchError::File { path: log_path.clone(), source };
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(&log_path).map_err(file_error)?;
        let log_too = log.try_clone().map_err(file_error)?;
        let program = self.packages.program("postgres");
        let mut command = Command::new(&program);
        command.arg("-D").arg(self.data()).current_dir("/");
        // In a group of its own, so that a Ctrl-C in the terminal is for us alone.
        command.stdin(Stdio::null()).stdout(log).stderr(log_too).process_group(0);
        self.account.apply(&mut command);
        let server = command
            .spawn()
            .map_err(|source| ScratchError::Run { program: program.display().to_string(), source })?;
        self.server = Some(server);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<(), ScratchError> {
        let end = Instant::now() + START_TIMEOUT;
        let data = self.data();
        while Instant::now() < end {
            let Some(server) = &mut self.server else { break };
            if !matches!(server.try_wait(), Ok(None)) {
                self.server = None;
                break;
            }
            if is_ready(&data, server.id()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(ScratchError::NotStarted { log: self.log_tail() })
    }

    fn end_with(&mut self, signal: Signal) -> Result<(), ScratchError> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        if let Some(pid) = pid_of(server.id()) {
            // One that has ended meanwhile is what we want.
            let _ = kill_process(pid, signal);
        }
        let end = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < end {
            if !matches!(server.try_wait(), Ok(None)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.server = Some(server);
        Err(ScratchError::NotStopped(STOP_TIMEOUT))
    }

    fn signal_all(&self, signal: Signal) {
        for pid in self.processes() {
            // A backend may have ended since we listed it.
            let _ = kill_process(pid, signal);
        }
    }

    /// The server and its children.
    fn processes(&self) -> Vec<Pid> {
        let Some(server) = self.pid() else { return Vec::new() };
        let children = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| parent_of(*pid) == Some(server));
        std::iter::once(server).chain(children).filter_map(pid_of).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.sigcont();
        if self.end_with(Signal::QUIT).is_err() {
            // The keeper tries harder.
            self.server = None;
        }
    }
}

fn new_folder(account: Account) -> Result<(PathBuf, Keeper), ScratchError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = std::env::temp_dir().join(format!("hawser-{}", password().get(..10).unwrap_or_default()));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|source| ScratchError::File { path: folder.clone(), source })?;
    let keeper = Keeper::start(CLEAN_UP, &[&folder.display().to_string()])?;
    account.own(&folder)?;
    Ok((folder, keeper))
}

fn pid_of(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the state and the parent follow it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The server writes its number in the first and its state in the eighth line of this file.
fn is_ready(data: &Path, pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else { return false };
    let mut lines = text.lines();
    lines.next().is_some_and(|first| first.trim() == pid.to_string())
        && lines.nth(6).is_some_and(|state| matches!(state.trim(), "ready" | "standby"))
}

fn write(path: &Path, text: &str) -> Result<(), ScratchError> {
    std::fs::write(path, text).map_err(|source| ScratchError::File { path: path.to_owned(), source })
}

fn append(path: &Path, text: &str) -> Result<(), ScratchError> {
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| ScratchError::File { path: path.to_owned(), source })
}

/// Runs a program of PostgreSQL to its end and returns what it wrote.
fn run(account: Account, command: &mut Command) -> Result<String, ScratchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    account.apply(command);
    // What the caller's environment says about servers is not meant for these.
    for name in
        ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSSLMODE", "PGOPTIONS", "PGSERVICE"]
    {
        command.env_remove(name);
    }
    let output = command
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ScratchError::Run { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ScratchError::Failed { program, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_streams_to_a_standby_that_can_be_promoted_and_nothing_is_left_behind() {
        let mut primary = Cluster::start(&Options::default()).unwrap();
        primary.psql("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").unwrap();
        let standby = primary.standby().unwrap();
        assert_eq!(standby.psql("SELECT pg_is_in_recovery()").unwrap().trim(), "t");
        primary.kill9().unwrap();
        assert!(primary.psql("SELECT 1").is_err());
        standby.promote().unwrap();
        assert_eq!(standby.psql("SELECT a FROM t").unwrap().trim(), "7");
        primary.start_again().unwrap();
        assert_eq!(primary.psql("SELECT a FROM t").unwrap().trim(), "7");

        let folders = [primary.folder.clone(), standby.folder.clone()];
        let pids = [primary.pid().unwrap(), standby.pid().unwrap()];
        drop(primary);
        drop(standby);
        assert!(folders.iter().all(|folder| !folder.exists()));
        assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    }

    #[test]
    fn a_frozen_server_does_not_answer_until_it_is_woken() {
        let cluster = Cluster::start(&Options::default()).unwrap();
        cluster.sigstop();
        let mut asked = Command::new(cluster.packages.program("psql"))
            .args(["-XAtq", "-h", &cluster.socket_folder(), "-p", &cluster.port.to_string()])
            .args(["-U", SUPERUSER, "-d", "postgres", "-c", "SELECT 1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(asked.try_wait().unwrap().is_none());
        cluster.sigcont();
        assert!(asked.wait().unwrap().success());
    }
}
