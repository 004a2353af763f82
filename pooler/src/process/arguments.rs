//! Pure. The command line: the server's own arguments, or one of a few commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::route::Question;
use crate::config::Arguments;

/// A PostgreSQL connection pooler and router that applications need not know about.
///
///   hawser postgres://app:secret@db1,db2/app     no file needed
///   hawser hawser.toml                           a file; `hawser reference` lists its settings
///   hawser pgbouncer.ini                         a PgBouncer installation as it stands
#[derive(Debug, Parser)]
#[command(name = "hawser", version, verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    /// One of the commands; without it the server runs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The server's arguments.
    #[command(flatten)]
    pub server: Arguments,
}

/// What can be done besides running the server.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Start a scratch primary with two standbys, and Hawser in front of them
    Demo {
        /// Test it and end
        #[arg(long)]
        check: bool,
    },
    /// Say whether a configuration is right, and everything that is wrong with it
    Check {
        /// hawser.toml, pgbouncer.ini, or a URL
        #[arg(value_name = "FILE")]
        file: String,
    },
    /// Print the TOML file that means the same as a pgbouncer.ini
    ///
    /// Passwords of databases are not printed: each belongs into a file that the TOML file names. With --secrets these
    /// files are made. The auth_file stays where it is.
    Convert {
        /// pgbouncer.ini
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Make the files with the passwords in this folder
        #[arg(long, value_name = "FOLDER")]
        secrets: Option<PathBuf>,
    },
    /// Say where each statement would go, and why
    ///
    /// Functions beyond PostgreSQL's own are not known without --url, and calls of them are taken for writes.
    Route(Question),
    /// Say by the exit status whether a Hawser serves, for keepalived, Docker and systemd
    ///
    /// Without a user in the URL it is enough that a client is greeted. With one it logs in, and runs a statement.
    Health {
        /// Where it listens, postgres://USER:PASSWORD@HOST:PORT/DATABASE or less of it (PGPASSWORD works too); or
        /// where it answers by HTTP, http://HOST:PORT with /healthz, /readyz, /primary or /standby behind it
        #[arg(value_name = "URL")]
        url: Option<String>,
        /// Only if there is a primary that takes writes (needs a user)
        #[arg(long, conflicts_with = "standby")]
        primary: bool,
        /// Only if reads reach a standby (needs a user)
        #[arg(long)]
        standby: bool,
        /// How long it may take
        #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = crate::config::units::parse_duration)]
        timeout: std::time::Duration,
    },
    /// Print the manual page, or completions for a shell
    Manual {
        /// What
        #[arg(value_name = "KIND", value_enum, default_value_t = Manual::Man)]
        kind: Manual,
        /// Write everything into this folder instead: a page for each command, completions for each shell
        #[arg(long, value_name = "FOLDER", conflicts_with = "kind")]
        into: Option<PathBuf>,
    },
    /// Print every setting, as Markdown; or all of the console, or every metric
    Reference {
        /// What about
        #[arg(value_name = "PAGE", value_enum, default_value_t = Page::Settings)]
        page: Page,
    },
}

/// What the command line has to say of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Manual {
    /// The manual page, for man(1).
    Man,
    /// Completions for bash.
    Bash,
    /// Completions for zsh.
    Zsh,
    /// Completions for fish.
    Fish,
}

/// A page of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// Settings.
    Settings,
    /// The console.
    Console,
    /// Metrics.
    Metrics,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::arguments::LogFormat;

    fn parse(words: &[&str]) -> CommandLine {
        CommandLine::try_parse_from([&["hawser"], words].concat()).unwrap()
    }

    #[test]
    fn a_word_that_is_no_command_is_where_the_configuration_is() {
        let line = parse(&[
            "postgres://db/app",
            "--listen",
            "127.0.0.1:1,127.0.0.1:2",
            "--log",
            "json",
            "--workers=2",
        ]);
        assert_eq!(line.command, None);
        assert_eq!(line.server.source.as_deref(), Some("postgres://db/app"));
        assert_eq!(line.server.listen, ["127.0.0.1:1", "127.0.0.1:2"]);
        assert_eq!((line.server.log, line.server.workers.as_deref()), (Some(LogFormat::Json), Some("2")));
        assert_eq!(parse(&[]).server, Arguments::default());
    }

    #[test]
    fn commands_are_told_from_files() {
        assert_eq!(parse(&["check", "x.toml"]).command, Some(Command::Check { file: "x.toml".to_owned() }));
        assert_eq!(parse(&["demo", "--check"]).command, Some(Command::Demo { check: true }));
        assert_eq!(parse(&["reference"]).command, Some(Command::Reference { page: Page::Settings }));
        assert_eq!(
            parse(&["reference", "console"]).command,
            Some(Command::Reference { page: Page::Console })
        );
        assert!(CommandLine::try_parse_from(["hawser", "--workers", "2", "check", "x"]).is_err());
    }
}
