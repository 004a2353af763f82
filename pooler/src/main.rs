//! Arguments -> settings -> run.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use hawser::config::diff::{diff, reloaded};
use hawser::config::settings::Settings;
use hawser::config::{Arguments, Environment, Loaded, Problems, load, reference};
use hawser::control::{Reload, Reloaded};
use hawser::process::arguments::{Command, CommandLine, Page};
use hawser::process::commands::{self, Printed};
use hawser::process::logging::Log;
use hawser::process::pid_file::PidFile;
use hawser::process::route::{self, Question, RouteError};
use hawser::process::run::run;
use hawser::process::{demo, health, limits, manual};
use hawser::topology::checkup::Wanted;

fn main() -> ExitCode {
    let CommandLine { command, server } = CommandLine::parse();
    let environment = Environment::of_this_process();
    let outcome = match command {
        None => serve(server, environment).map(|()| ExitCode::SUCCESS),
        Some(Command::Demo { check }) => demo::run(check).context("demo"),
        Some(Command::Check { file }) => print(commands::check(&file, &environment)),
        Some(Command::Convert { file, secrets }) => print(commands::convert_file(&file, secrets.as_deref())),
        Some(Command::Route(question)) => answer(&question, &environment),
        Some(Command::Health { url: Some(url), .. }) if url.starts_with("http://") => {
            health::ask(Some(&url), &environment)
                .context("not well")
                .and_then(|words| print(Ok(Printed { result: words, remarks: String::new() })))
        }
        Some(Command::Health { url, primary, standby, timeout }) => {
            let wanted = match (primary, standby) {
                (true, _) => Wanted::Primary,
                (_, true) => Wanted::Standby,
                _ => Wanted::Service,
            };
            check_up(url.as_deref(), wanted, timeout, &environment)
        }
        Some(Command::Manual { into: Some(folder), .. }) => {
            manual::write(&folder).context("manual").map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Manual { kind, into: None }) => manual::text(kind)
            .context("manual")
            .and_then(|text| print(Ok(Printed { result: text, remarks: String::new() }))),
        Some(Command::Reference { page }) => {
            let result = match page {
                Page::Settings => reference::markdown(),
                Page::Console => hawser_admin::tables::markdown(),
                Page::Metrics => hawser_admin::metrics::markdown(),
            };
            print(Ok(Printed { result, remarks: String::new() }))
        }
    };
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "hawser: {error:#}");
        ExitCode::FAILURE
    })
}

/// Prints what a command came to; mistakes one a line, without a prefix, as compilers do.
fn print(printed: Result<Printed, Problems>) -> anyhow::Result<ExitCode> {
    match printed {
        Ok(Printed { result, remarks }) => {
            // Who reads may have read enough, as `head` does.
            let _ = std::io::stderr().write_all(remarks.as_bytes());
            let _ = std::io::stdout().write_all(result.as_bytes());
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            let _ = writeln!(std::io::stderr(), "{problems}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Says where statements would go. What is no question makes the command fail in the end.
fn answer(question: &Question, environment: &Environment) -> anyhow::Result<ExitCode> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    match route::route(question, environment, &mut std::io::stdin().lock(), &mut output) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        // Who reads may have read enough, as `head` does.
        Err(RouteError::Stream(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error).context("route"),
    }
}

/// Says whether a Hawser serves.
fn check_up(
    url: Option<&str>,
    wanted: Wanted,
    timeout: Duration,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let outcome = commands::health(url, wanted, timeout, environment)?;
    match outcome {
        Ok(words) => {
            let _ = writeln!(std::io::stdout(), "{words}");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Runs the server until a signal ends it.
fn serve(arguments: Arguments, environment: Environment) -> anyhow::Result<()> {
    let Loaded { settings, warnings, sources } = load(&arguments, &environment)
        .map_err(|problems| anyhow::anyhow!("the settings are wrong\n{problems}"))?;
    let log = Log::start(&settings.log)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Err(shortage) = limits::raise(limits::needed(&settings)) {
        tracing::warn!("{shortage}");
    }
    let _pid_file = settings.pid_file.as_deref().map(PidFile::create).transpose().context("pid file")?;
    let reload = reload(arguments, environment, log);
    run(settings, sources, reload).inspect_err(|error| tracing::error!(%error, "cannot run"))?;
    Ok(())
}

/// Reads everything again as at the start, and says what it changes.
fn reload(arguments: Arguments, environment: Environment, log: Log) -> Reload {
    Box::new(move |running: &Settings, overrides| {
        let lines = |problems: Problems| problems.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        let arguments = Arguments { set: overrides.to_vec(), ..arguments.clone() };
        let Loaded { settings, warnings, sources } = load(&arguments, &environment).map_err(lines)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if let Err(shortage) = limits::raise(limits::needed(&settings)) {
            tracing::warn!("{shortage}");
        }
        let changes = diff(running, &settings);
        let settings = reloaded(running, settings);
        if let Err(error) = log.reload(&settings.log) {
            tracing::warn!("{error}");
        }
        Ok(Reloaded { settings, sources, changes: vec![changes.to_string()] })
    })
}
