//! Pure. The environment as a value, and what its variables say: `HAWSER_…` for each setting, libpq's `PG…` for a URL.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::finding::{Finding, Source, closest};
use super::raw::{Raw, Value};
use super::reference::{ENVIRONMENT_PREFIX, GLOBAL, Setting};

/// Variables of Hawser that are no settings.
const OTHERS: [&str; 1] = ["HAWSER_CLUSTER_URL_FILE"];

/// What the process was started with, besides its arguments. `Debug` hides the values.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Cores that the process may use.
    pub cores: usize,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("cores", &self.cores).finish_non_exhaustive()
    }
}

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn of_this_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { variables: variables.collect(), cores }
    }

    /// An environment of these variables, on one core.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { variables: variables.collect(), cores: 1 }
    }

    /// A variable; an empty one counts as absent, as in libpq.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The home folder.
    pub fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }
}

/// Writes what `HAWSER_…` variables say over what is in `raw`. Variables that mean nothing are warned of.
pub fn apply(environment: &Environment, raw: &mut Raw, warnings: &mut Vec<Finding>) {
    for setting in GLOBAL {
        let name = setting.environment_name();
        if let Some(value) = environment.get(&name) {
            raw.set(setting.name, Value::Text(value.to_owned()), Source::Environment(name));
        }
    }
    let known: Vec<String> = GLOBAL
        .iter()
        .map(Setting::environment_name)
        .chain(OTHERS.iter().map(|name| (*name).to_owned()))
        .collect();
    for name in environment.variables.keys().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) {
        if !known.contains(name) && !is_of_kubernetes(name) {
            let finding = Finding::new(&Source::Environment(name.clone()), "no setting has this name");
            let meant = closest(name, known.iter().map(String::as_str));
            warnings.push(match meant {
                Some(meant) => finding.suggest(format!("did you mean {meant}?")),
                None => finding,
            });
        }
    }
}

/// Kubernetes describes a service named `hawser` to every pod in variables of this shape.
fn is_of_kubernetes(name: &str) -> bool {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name);
    rest == "PORT"
        || ["SERVICE_HOST", "SERVICE_PORT", "PORT_"].iter().any(|part| rest.starts_with(part))
        || rest.contains("_SERVICE_")
        || rest.contains("_PORT_")
        || rest.ends_with("_PORT") && !rest.starts_with("LISTEN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_comes_before_the_file() {
        let environment =
            Environment::of([("HAWSER_POOL_SIZE", "7"), ("HAWSER_LOG_LEVEL", ""), ("PATH", "/bin")]);
        let mut raw = Raw::default();
        raw.set("pool.size", Value::Integer(3), Source::Default);
        raw.set("log.level", Value::Text("debug".to_owned()), Source::Default);
        let mut warnings = Vec::new();
        apply(&environment, &mut raw, &mut warnings);
        assert_eq!(raw.settings["pool.size"].value, Value::Text("7".to_owned()));
        assert_eq!(raw.settings["pool.size"].source, Source::Environment("HAWSER_POOL_SIZE".to_owned()));
        assert_eq!(raw.settings["log.level"].value, Value::Text("debug".to_owned()));
        assert_eq!(warnings, []);
    }

    #[test]
    fn a_variable_that_means_nothing_is_warned_of_unless_kubernetes_made_it() {
        let environment = Environment::of([
            ("HAWSER_POOLSIZE", "7"),
            ("HAWSER_PORT", "tcp://10.0.0.1:6432"),
            ("HAWSER_PORT_6432_TCP_ADDR", "10.0.0.1"),
            ("HAWSER_SERVICE_HOST", "10.0.0.1"),
            ("HAWSER_SERVICE_PORT_POSTGRES", "6432"),
        ]);
        let mut warnings = Vec::new();
        apply(&environment, &mut Raw::default(), &mut warnings);
        let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        let expected =
            "environment variable HAWSER_POOLSIZE: no setting has this name; did you mean HAWSER_POOL_SIZE?";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn values_are_not_in_debug() {
        let environment = Environment::of([("PGPASSWORD", "topsecret")]);
        assert!(!format!("{environment:?}").contains("topsecret"));
    }
}
