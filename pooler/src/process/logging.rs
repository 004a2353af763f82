//! The log: text for people or one JSON object a line, to standard error or a file that can be rotated.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use thiserror::Error;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::settings::LogSettings;

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("log file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The level is none.
    #[error("log level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// There is a log already.
    #[error("the log was started already")]
    Twice,
}

/// The running log.
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    file: Option<LogFile>,
}

impl Log {
    /// Starts the log of this process.
    ///
    /// # Errors
    /// The file cannot be opened, the level is none, or there is a log already.
    pub fn start(settings: &LogSettings) -> Result<Self, LogError> {
        let file = settings.file.clone().map(LogFile::open).transpose()?;
        let (filter, handle) = reload::Layer::new(settings.level.parse::<Targets>()?);
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match &file {
            Some(file) => layer(settings.json, false, file.clone()),
            None => layer(settings.json, is_for_eyes(), io::stderr),
        };
        tracing_subscriber::registry()
            .with(layer.with_filter(filter))
            .try_init()
            .map_err(|_| LogError::Twice)?;
        Ok(Self { filter: handle, file })
    }

    /// Takes the level over and opens the file again, as after a rotation.
    ///
    /// # Errors
    /// The file cannot be opened, so the old one goes on; or the level is none.
    pub fn reload(&self, settings: &LogSettings) -> Result<(), LogError> {
        let level = settings.level.parse::<Targets>()?;
        // The handle is gone only when the process ends.
        let _ = self.filter.reload(level);
        match &self.file {
            Some(file) => file.reopen(),
            None => Ok(()),
        }
    }
}

/// Whether colours help: a terminal, and nobody said otherwise.
fn is_for_eyes() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A layer that writes to `writer`. The journal of systemd adds the time itself.
fn layer<W>(json: bool, ansi: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    if json {
        layer.json().flatten_event(true).with_current_span(false).boxed()
    } else if std::env::var_os("JOURNAL_STREAM").is_some() {
        layer.without_time().boxed()
    } else {
        layer.boxed()
    }
}

/// A file that is written line by line and can be opened again under its name.
#[derive(Debug, Clone)]
struct LogFile {
    path: PathBuf,
    file: Arc<RwLock<Arc<File>>>,
}

impl LogFile {
    fn open(path: PathBuf) -> Result<Self, LogError> {
        match append(&path) {
            Ok(file) => Ok(Self { path, file: Arc::new(RwLock::new(Arc::new(file))) }),
            Err(source) => Err(LogError::File { path, source }),
        }
    }

    fn reopen(&self) -> Result<(), LogError> {
        let file = append(&self.path).map_err(|source| LogError::File { path: self.path.clone(), source })?;
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(file);
        Ok(())
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

impl<'w> MakeWriter<'w> for LogFile {
    type Writer = LineWriter;

    fn make_writer(&'w self) -> LineWriter {
        LineWriter(self.file.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The file as it was when the line began.
struct LineWriter(Arc<File>);

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &LogFile, json: bool) {
        let subscriber = tracing_subscriber::registry().with(layer(json, false, file.clone()));
        tracing::subscriber::with_default(subscriber, || tracing::info!(client = 7, "hello"));
    }

    #[test]
    fn a_rotated_file_is_begun_anew_and_lines_are_text_or_json() {
        let path = std::env::temp_dir().join(format!("hawser-log-{}", std::process::id()));
        let moved = path.with_extension("1");
        let file = LogFile::open(path.clone()).unwrap();
        write(&file, false);
        std::fs::rename(&path, &moved).unwrap();
        write(&file, false);
        file.reopen().unwrap();
        write(&file, true);
        let (old, new) = (std::fs::read_to_string(&moved).unwrap(), std::fs::read_to_string(&path).unwrap());
        std::fs::remove_file(&moved).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(old.lines().filter(|line| line.contains("hello client=7")).count(), 2, "{old}");
        let line: serde_json::Value = serde_json::from_str(&new).unwrap();
        assert_eq!((line["message"].as_str(), line["client"].as_i64()), (Some("hello"), Some(7)));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = LogFile::open("/nowhere/at/all.log".into()).unwrap_err();
        assert!(error.to_string().starts_with("log file /nowhere/at/all.log: "), "{error}");
    }
}
