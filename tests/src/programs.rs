//! Programs that run beside a test for as long as it does, each in a process group of its own: daemons of tools that
//! manage PostgreSQL.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ::hawser::scratch::{Keeper, password};
use rustix::process::{Pid, Signal, kill_process};

/// Kills every group that is noted in the folder, what is stopped and PostgreSQL's own children included, and removes
/// the folder.
const CLEAN_UP: &str = r#"
    tree() { for c in $(ps -o pid= --ppid "$1"); do tree "$c"; done; echo "$1"; }
    for g in $(cat "$1/groups" 2>/dev/null); do
        for p in $(tree "$g"); do kill -KILL "$p"; done
        kill -KILL -- "-$g"
    done
    rm -rf "$1""#;

/// See the module. They run as the account `postgres` if the test runs as root.
#[derive(Debug)]
pub struct Programs {
    folder: PathBuf,
    account: Option<(u32, u32)>,
    running: Vec<(String, Child)>,
    _keeper: Keeper,
}

impl Programs {
    /// None yet, and a folder for them.
    pub fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("hawser-tool-{}", &password()[..10]));
        fs::create_dir(&folder).expect("a new folder");
        let keeper = Keeper::start(CLEAN_UP, &[&folder.display().to_string()]).expect("a keeper");
        let account = rustix::process::geteuid().is_root().then(postgres_account);
        if let Some((uid, gid)) = account {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).expect("the folder has another owner");
        }
        Self { folder, account, running: Vec::new(), _keeper: keeper }
    }

    /// Their folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command that runs as they do.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(&self.folder).stdin(Stdio::null()).env("HOME", &self.folder);
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, command: &mut Command) -> String {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{command:?}: {}\n{words}", output.status);
        words
    }

    /// Starts a program that goes on running, under a name.
    #[track_caller]
    pub fn start(&mut self, name: &str, command: &mut Command) {
        let log =
            fs::OpenOptions::new().append(true).create(true).open(self.folder.join(format!("{name}.log")));
        let log = log.expect("a log file");
        command.stdout(log.try_clone().expect("the log file again")).stderr(log).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut groups = fs::read_to_string(self.folder.join("groups")).unwrap_or_default();
        groups.push_str(&format!("{}\n", child.id()));
        fs::write(self.folder.join("groups"), groups).expect("its group is noted");
        self.running.retain(|(other, _)| other != name);
        self.running.push((name.to_owned(), child));
    }

    /// What a program has logged.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Sends a signal to a program and everything that it has started.
    #[track_caller]
    pub fn signal(&self, name: &str, signal: Signal) {
        let (_, child) = self.running.iter().find(|(other, _)| other == name).expect("it was started");
        signal_tree(child.id(), signal);
    }

    /// Kills a program and everything that it has started.
    #[track_caller]
    pub fn kill9(&mut self, name: &str) {
        self.signal(name, Signal::KILL);
        for (_, child) in self.running.iter_mut().filter(|(other, _)| other == name) {
            let _ = child.wait();
        }
    }
}

impl Default for Programs {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends a signal to a process and everything that it has started.
pub(crate) fn signal_tree(root: u32, signal: Signal) {
    // The parent first, so that it starts nothing anew.
    for pid in tree(root) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// A process and its descendants, parents first.
fn tree(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name of the program may hold anything; what follows its bracket is plain.
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

fn postgres_account() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).expect("an account postgres");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().expect("a number"));
    (fields.next().expect("a user"), fields.next().expect("a group"))
}
