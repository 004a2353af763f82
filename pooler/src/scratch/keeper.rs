//! Ends what we started when we end, however that happens.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use super::ScratchError;

/// A shell that waits for the end of our process, then cleans up.
///
/// It holds the reading end of a pipe of which only we hold the writing end. When this value is dropped, or our process
/// ends in any way, the pipe closes and the shell runs its script. It has a process group of its own, so that a
/// Ctrl-C in the terminal does not reach it.
#[derive(Debug)]
pub struct Keeper {
    shell: Option<Child>,
}

impl Keeper {
    /// Runs `script` (a line of `sh`, with `$1`, `$2`, ... from `arguments`) when the value is dropped or our process ends.
    ///
    /// # Errors
    /// When there is no `sh`.
    pub fn start(script: &str, arguments: &[&str]) -> Result<Self, ScratchError> {
        let shell = Command::new("sh")
            .arg("-c")
            // A signal meant for us must not end the one that cleans up after us.
            .arg(format!("trap '' INT TERM HUP; cat >/dev/null; {script}"))
            .arg("keeper")
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| ScratchError::Run { program: "sh".to_owned(), source })?;
        Ok(Self { shell: Some(shell) })
    }

    /// Ends the process `pid` (SIGTERM, and after three seconds SIGKILL) when the value is dropped or our process ends,
    /// provided that its command line then still contains `mark`.
    ///
    /// # Errors
    /// When there is no `sh`.
    pub fn of_process(pid: u32, mark: &str) -> Result<Self, ScratchError> {
        const SCRIPT: &str = r#"
            there() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -- "$2"; }
            there "$1" "$2" || exit 0
            kill -TERM "$1"; kill -CONT "$1"
            n=0; while there "$1" "$2" && [ $n -lt 60 ]; do sleep 0.05; n=$((n+1)); done
            there "$1" "$2" && kill -KILL "$1""#;
        Self::start(SCRIPT, &[&pid.to_string(), mark])
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            drop(shell.stdin.take());
            // Nothing can be done about a shell that is gone already.
            let _ = shell.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Keeper;

    #[test]
    fn the_script_runs_when_the_keeper_is_dropped_and_not_before() {
        let file = std::env::temp_dir().join(format!("hawser-keeper-{}", std::process::id()));
        std::fs::write(&file, "here").unwrap();
        let keeper = Keeper::start("rm -f \"$1\"", &[file.to_str().unwrap()]).unwrap();
        assert!(file.exists());
        drop(keeper);
        assert!(!file.exists());
    }
}
