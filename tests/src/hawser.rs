//! The program under test.

use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ::hawser::scratch::{Keeper, free_port, password};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Config, Usage, wait_until};

/// Whether the tests talk to PostgreSQL itself.
pub fn is_direct() -> bool {
    std::env::var_os("HAWSER_TEST_DIRECT").is_some_and(|value| value != "0")
}

/// The program `hawser` of the build that this test belongs to.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("HAWSER_TEST_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the name of the running test");
    let path = test.parent().and_then(Path::parent).expect("target/<profile>/deps").join("hawser");
    assert!(path.is_file(), "{} is missing: run `cargo build -p hawser` first", path.display());
    path
}

/// A running Hawser; it is killed when this value is dropped.
#[derive(Debug)]
pub struct Hawser {
    child: Child,
    port: u16,
    folder: PathBuf,
    _keeper: Keeper,
}

impl Hawser {
    /// Starts it on a free port and waits until it accepts clients.
    #[track_caller]
    pub fn start(config: &Config) -> Self {
        Self::start_by(config, free_port().expect("a free port"), quiet)
    }

    /// As [`Self::start`], on this port and by what `command` makes of the program's file; the name of the
    /// configuration is its last argument.
    #[track_caller]
    pub fn start_by(config: &Config, port: u16, command: impl FnOnce(&Path) -> Command) -> Self {
        let mut hawser = Self::launch(&config.text(port), port, command);
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Ok(Some(status)) = hawser.child.try_wait() {
                panic!("Hawser ended at once ({status}); its log:\n{}", hawser.log());
            }
            assert!(Instant::now() < end, "Hawser does not listen; its log:\n{}", hawser.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        wait_until("Hawser obeys signals", || hawser.catches(Signal::HUP) && hawser.catches(Signal::TERM));
        hawser
    }

    /// Whether a signal is handled, rather than ending the process.
    fn catches(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap_or(0);
        mask >> (signal.as_raw() - 1) & 1 == 1
    }

    /// Starts it with a file that may be wrong, and waits for its end.
    pub fn start_wrong(text: &str) -> (ExitStatus, String) {
        let mut hawser = Self::launch(text, 0, quiet);
        let status = hawser.wait();
        (status, hawser.log())
    }

    fn launch(text: &str, port: u16, command: impl FnOnce(&Path) -> Command) -> Self {
        let folder = std::env::temp_dir().join(format!("hawser-test-{}", &password()[..10]));
        std::fs::create_dir(&folder).expect("a new folder");
        // Before anything can fail: it removes the folder.
        let script = "kill -KILL $(cat \"$1/pid\") 2>/dev/null; rm -rf \"$1\"";
        let keeper = Keeper::start(script, &[&folder.display().to_string()]).expect("a keeper");
        let file = folder.join("hawser.toml");
        std::fs::write(&file, text).expect("the configuration is written");
        let log = std::fs::File::create(folder.join("log")).expect("a log file");
        let mut command = command(&binary());
        let child = command
            .arg(&file)
            .current_dir(&folder)
            .env_remove("DATABASE_URL")
            .stdout(log.try_clone().expect("the log file again"))
            .stderr(log)
            .spawn()
            .expect("Hawser can be started");
        std::fs::write(folder.join("pid"), child.id().to_string()).expect("its number is written");
        Self { child, port, folder, _keeper: keeper }
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it, and starts another one at its port.
    #[track_caller]
    pub fn restart(&mut self, config: &Config) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        *self = Self::start_by(config, self.port, quiet);
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A folder that is removed with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All that it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// Waits until the log holds `text`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the log says {text:?}; it is at {}", self.folder.display()), || {
            self.log().contains(text)
        });
    }

    /// What it uses of the machine.
    pub fn usage(&self) -> Usage {
        Usage::of(self.pid())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process number")).expect("not zero");
        kill_process(pid, signal).expect("Hawser is there");
    }

    /// Writes another configuration and sends SIGHUP; the listening address stays.
    pub fn reload(&self, config: &Config) {
        self.reload_text(&config.text(self.port));
    }

    /// As [`Self::reload`], with a file that may be wrong.
    pub fn reload_text(&self, text: &str) {
        std::fs::write(self.folder.join("hawser.toml"), text).expect("the configuration is written");
        self.signal(Signal::HUP);
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    /// Waits for its end; 30 seconds at most.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(Instant::now() < end, "Hawser does not end; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The program with nothing to read.
fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

impl Drop for Hawser {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait()
            && matches!(status.signal(), Some(libc_signal::ABRT | libc_signal::SEGV | libc_signal::BUS))
        {
            eprintln!("Hawser crashed ({status}); its log:\n{}", self.log());
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("Hawser's log ends:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Signals that only a bug sends.
mod libc_signal {
    pub(super) const ABRT: i32 = 6;
    pub(super) const BUS: i32 = 7;
    pub(super) const SEGV: i32 = 11;
}
