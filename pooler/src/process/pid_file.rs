//! The file that holds the number of the process while it runs. It is removed when the value is dropped.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};
use thiserror::Error;

/// Why the file is not ours.
#[derive(Debug, Error)]
pub enum PidFileError {
    /// Another process runs under this file.
    #[error("{} belongs to process {pid}, which is running", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
        /// The other process.
        pid: i32,
    },
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The file, while it is ours.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    text: String,
}

impl PidFile {
    /// Makes the file. One that a process left behind that no longer runs is taken over.
    ///
    /// # Errors
    /// Another process runs under it, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        let failed = |source| PidFileError::File { path: path.to_owned(), source };
        let text = format!("{}\n", std::process::id());
        // A second round, for a file that was left behind.
        for _ in 0..2 {
            match OpenOptions::new().write(true).create_new(true).open(path) {
                Ok(mut file) => {
                    file.write_all(text.as_bytes()).map_err(failed)?;
                    return Ok(Self { path: path.to_owned(), text });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if let Some(pid) = running(path).map_err(failed)? {
                        return Err(PidFileError::Taken { path: path.to_owned(), pid });
                    }
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(ErrorKind::AlreadyExists.into()))
    }
}

/// The other process that a file names, if it runs.
fn running(path: &Path) -> io::Result<Option<i32>> {
    let text = std::fs::read_to_string(path)?;
    let Ok(number) = text.trim().parse::<i32>() else { return Ok(None) };
    let Some(pid) = Pid::from_raw(number).filter(|_| number > 0) else { return Ok(None) };
    // After a restart in a container the same number is easily ours.
    let is_other = u32::try_from(number) != Ok(std::process::id());
    // A process of another user cannot be signalled, but it is there.
    let runs = !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH));
    Ok((is_other && runs).then_some(number))
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another process may have taken the file over in the meantime.
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("hawser-pid-{}-{name}", std::process::id()))
    }

    #[test]
    fn the_file_holds_our_number_and_goes_with_us() {
        let path = path("own");
        let file = PidFile::create(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_a_running_process_is_left_alone_and_a_stale_one_taken_over() {
        let path = path("other");
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(&path, format!("{}\n", other.id())).unwrap();
        let refused = PidFile::create(&path);
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(matches!(refused, Err(PidFileError::Taken { .. })), "{refused:?}");
        let taken = PidFile::create(&path).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(taken);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
        std::fs::remove_file(&path).unwrap();
    }
}
