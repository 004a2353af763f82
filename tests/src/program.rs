//! Running the programs that people use, with an end to our patience.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// The folder of the workspace.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// A program to run.
#[derive(Debug)]
pub struct Program {
    command: Command,
    input: Vec<u8>,
    name: String,
}

/// What a program did.
#[derive(Debug)]
pub struct Finished {
    /// Whether it ended with 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Program {
    /// A program on the PATH, or a file; nothing of our environment about servers reaches it.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let name = program.as_ref().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        Self { command, input: Vec::new(), name }
    }

    /// A program of the newest PostgreSQL on this machine.
    pub fn postgres(program: &str) -> Self {
        Self::new(crate::cluster().packages().program(program))
    }

    /// Arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The folder that it runs in.
    #[must_use]
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// What it reads from standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it to its end, whatever that is; fails when it takes longer than two minutes.
    #[track_caller]
    pub fn run(mut self) -> Finished {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", self.name));
        let mut stdin = child.stdin.take().expect("its input");
        let input = std::mem::take(&mut self.input);
        // It may end without reading all of it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = collect(child.stdout.take().expect("its output"));
        let stderr = collect(child.stderr.take().expect("its errors"));
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("its state") {
                break status;
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
                panic!("{} takes longer than {PATIENCE:?}\n{stdout}\n{stderr}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        writer.join().expect("the input is written");
        Finished {
            success: status.success(),
            stdout: stdout.join().expect("its output"),
            stderr: stderr.join().expect("its errors"),
        }
    }

    /// Runs it and fails unless it ends with 0; returns its standard output.
    #[track_caller]
    pub fn succeed(self) -> String {
        let name = self.name.clone();
        let finished = self.run();
        assert!(finished.success, "{name} failed\n{}\n{}", finished.stdout, finished.stderr);
        finished.stdout
    }

    /// Starts it and leaves it running.
    #[track_caller]
    pub fn spawn(mut self) -> std::process::Child {
        self.command.stdin(Stdio::null());
        self.command.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", self.name))
    }

    /// A file of `tests/drivers`.
    pub fn driver_file(path: &str) -> PathBuf {
        repository().join("tests/drivers").join(path)
    }
}

fn collect(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
