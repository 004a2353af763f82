//! Reads the files that the configuration is in and names, and has everything checked.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::arguments::{Arguments, LogFormat};
use super::environment::{self, Environment};
use super::expand::{self, Beside};
use super::finding::{Finding, Problems, Source, closest};
use super::raw::{Raw, Section, Value};
use super::validate::{self, Files, Loaded};
use super::{pgbouncer, service, toml_file, url};

/// Longest file that is read; a larger one is surely not meant.
const MAX_FILE: u64 = 64 << 20;

/// Certificate files: they are only looked at here, and read by those who need them.
const CERTIFICATES: [&str; 6] = [
    "client_tls.cert_file",
    "client_tls.key_file",
    "client_tls.ca_file",
    "server_tls.cert_file",
    "server_tls.key_file",
    "server_tls.ca_file",
];

/// What was written, before it is checked.
pub(super) struct Gathered {
    pub(super) raw: Raw,
    pub(super) problems: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

/// The settings that the arguments and the environment lead to, or every mistake on the way.
pub fn load(arguments: &Arguments, environment: &Environment) -> Result<Loaded, Problems> {
    let mut gathered = Gathered { raw: Raw::default(), problems: Vec::new(), warnings: Vec::new() };
    gathered.source(arguments, environment);
    gathered.check(environment)
}

impl Gathered {
    /// A file as written.
    pub(super) fn of_file(path: &Path) -> Self {
        let mut gathered = Self { raw: Raw::default(), problems: Vec::new(), warnings: Vec::new() };
        gathered.file(path);
        gathered
    }

    /// Brings together what the arguments, the environment and the file say, the weightier last.
    fn source(&mut self, arguments: &Arguments, environment: &Environment) {
        let named = arguments.source.as_deref();
        if let Some(file) = named.filter(|source| !source.contains("://")) {
            self.file(Path::new(file));
        }
        environment::apply(environment, &mut self.raw, &mut self.warnings);
        self.url_file(environment, "HAWSER_CLUSTER_URL");
        match named {
            Some(text) if url::is_url(text) => {
                self.raw.set("cluster.url", Value::Text(text.to_owned()), Source::ArgumentUrl);
            }
            Some(text) if text.contains("://") => {
                let finding =
                    Finding::new(&Source::ArgumentUrl, "begins with neither postgres:// nor postgresql://");
                self.problems.push(finding);
            }
            Some(_) => {}
            None if self.raw.settings.contains_key("cluster.url") => {}
            None => self.url_of_environment(environment),
        }
        self.flags(arguments);
    }

    /// `DATABASE_URL`, or what `PGHOST` and its kin come to.
    fn url_of_environment(&mut self, environment: &Environment) {
        if let Some(text) = environment.get("DATABASE_URL") {
            let source = Source::Environment("DATABASE_URL".to_owned());
            return self.raw.set("cluster.url", Value::Text(text.to_owned()), source);
        }
        self.url_file(environment, "DATABASE_URL");
        if self.raw.settings.contains_key("cluster.url") {
            return;
        }
        if let Some(name) = ["PGHOST", "PGSERVICE"].into_iter().find(|name| environment.get(name).is_some()) {
            let source = Source::Environment(name.to_owned());
            return self.raw.set("cluster.url", Value::Text("postgres://".to_owned()), source);
        }
        let finding = Finding::new(&Source::CommandLine, "nothing says which databases to serve");
        self.problems.push(finding.suggest(
            "name a postgres:// URL, a .toml file or a pgbouncer.ini on the command line, or set DATABASE_URL",
        ));
    }

    /// A URL that lies in the file that `<variable>_FILE` names.
    fn url_file(&mut self, environment: &Environment, variable: &str) {
        let name = format!("{variable}_FILE");
        let Some(path) = environment.get(&name) else { return };
        let source = Source::Environment(name);
        match read(Path::new(path)) {
            Ok(text) => self.raw.set("cluster.url", Value::Text(text.trim().to_owned()), source),
            Err(why) => self.problems.push(Finding::new(&source, format!("{path} cannot be read: {why}"))),
        }
    }

    fn file(&mut self, path: &Path) {
        let source = Source::WholeFile(path.to_owned());
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let text = match read(path) {
            Ok(text) => text,
            Err(why) => {
                let finding = Finding::new(&source, format!("cannot be read: {why}"));
                let commands = ["check", "convert", "demo", "reference", "help"];
                let meant =
                    path.to_str().filter(|_| extension.is_empty()).and_then(|word| closest(word, commands));
                let suggestion = meant.map(|meant| format!("did you mean \"hawser {meant}\"?"));
                return self.problems.push(Finding { suggestion, ..finding });
            }
        };
        match extension {
            "toml" => self.raw = toml_file::read(&text, path, &mut self.problems),
            "ini" => {
                let mut include = |path: &Path| read(path).map(|text| text.to_string());
                self.raw = pgbouncer::read(&text, path, &mut include, &mut self.problems, &mut self.warnings);
            }
            _ => {
                let finding = Finding::new(&source, "is neither a .toml file nor a .ini file");
                self.problems.push(finding.suggest("name it so that its kind can be told"));
            }
        }
    }

    fn flags(&mut self, arguments: &Arguments) {
        let mut set = |name, flag, value| self.raw.set(name, value, Source::Flag(flag));
        if !arguments.listen.is_empty() {
            let items = arguments.listen.iter().map(|item| (item.clone(), Source::Flag("--listen")));
            set("listen.address", "--listen", Value::List(items.collect()));
        }
        if let Some(address) = &arguments.http {
            set("http.address", "--http", Value::Text(address.clone()));
        }
        if let Some(workers) = &arguments.workers {
            set("workers", "--workers", Value::Text(workers.clone()));
        }
        if let Some(size) = &arguments.pool_size {
            set("pool.size", "--pool-size", Value::Text(size.clone()));
        }
        if let Some(format) = arguments.log {
            let word = if format == LogFormat::Json { "json" } else { "text" };
            set("log.format", "--log", Value::Text(word.to_owned()));
        }
        for (name, value) in &arguments.set {
            self.raw.set(name, Value::Text(value.clone()), Source::Console);
        }
        if arguments.allow_plaintext {
            self.raw.set("listen.allow_plaintext", Value::Switch(true), Source::Flag("--allow-plaintext"));
        }
    }

    /// Expands URLs, reads the files that are named, and checks everything.
    pub(super) fn check(mut self, environment: &Environment) -> Result<Loaded, Problems> {
        let beside = self.beside(environment);
        expand::expand(&mut self.raw, environment, &beside, &mut self.problems, &mut self.warnings);
        self.look_at_certificates();
        let files: Files =
            validate::named_files(&self.raw).into_iter().map(|path| (path.clone(), read(&path))).collect();
        validate::validate(&self.raw, &files, environment.cores, self.problems, self.warnings)
    }

    fn beside(&mut self, environment: &Environment) -> Beside {
        let mut beside = Beside::default();
        let Some(url) = self.raw.settings.get("cluster.url").cloned() else { return beside };
        if let Value::Text(text) = &url.value {
            beside.service = self.service(text, url.source, environment);
        }
        if let Some(path) = environment.get("PGPASSWORD_FILE") {
            match read(Path::new(path)) {
                Ok(text) => beside.password_file = Some(text),
                Err(why) => {
                    let source = Source::Environment("PGPASSWORD_FILE".to_owned());
                    self.problems.push(Finding::new(&source, format!("{path} cannot be read: {why}")));
                }
            }
        }
        if let Some(path) =
            expand::passfile(&self.raw, environment, &beside.service).filter(|path| path.is_file())
        {
            if is_open_to_others(&path) {
                let finding = Finding::new(&Source::WholeFile(path), "is ignored: others may read it");
                self.warnings.push(finding.suggest("chmod 0600"));
            } else {
                beside.pgpass = read(&path).ok();
            }
        }
        beside
    }

    /// What libpq's service file says of the service that a URL or `PGSERVICE` names.
    fn service(&mut self, url: &str, source: Source, environment: &Environment) -> service::Pairs {
        let of_url = url::parse(url).ok().and_then(|url| url.service).map(|name| (name, source));
        let variable = "PGSERVICE";
        let named = of_url.or_else(|| {
            environment.get(variable).map(|name| (name.to_owned(), Source::Environment(variable.to_owned())))
        });
        let Some((name, source)) = named else { return service::Pairs::new() };
        for path in service::files(environment) {
            let Ok(text) = read(&path) else { continue };
            match service_in(&path, &text, &name) {
                Ok(None) => {}
                Ok(Some(pairs)) => return pairs,
                Err(problems) => {
                    self.problems.extend(problems);
                    return service::Pairs::new();
                }
            }
        }
        let finding = Finding::new(&source, format!("there is no service {name:?}"));
        self.problems.push(finding.suggest("describe it in ~/.pg_service.conf, or set PGSERVICEFILE"));
        service::Pairs::new()
    }

    /// A certificate that cannot be read is a mistake now, not when the first client comes.
    fn look_at_certificates(&mut self) {
        let sections = self.raw.databases.values().map(|section| &section.settings);
        let sections: Vec<&Section> = std::iter::once(&self.raw.settings).chain(sections).collect();
        for section in sections {
            for name in CERTIFICATES {
                let Some(written) = section.get(name) else { continue };
                let Value::Text(text) = &written.value else { continue };
                if text.is_empty() {
                    continue;
                }
                let path = validate::resolve(text, &written.source);
                if let Err(error) = std::fs::File::open(&path) {
                    let what = format!("{name}: {} cannot be read: {error}", path.display());
                    self.problems.push(Finding::new(&written.source, what));
                }
            }
        }
    }
}

/// What a service file says of a service, or every mistake in that.
fn service_in(path: &Path, text: &str, name: &str) -> Result<Option<service::Pairs>, Vec<Finding>> {
    let found = service::find(text, name)
        .map_err(|line| vec![Finding::new(&Source::line(path, line), "is not key=value")])?;
    let Some(pairs) = found else { return Ok(None) };
    match url::parse_over("postgres://", &pairs) {
        Ok(_) => Ok(Some(pairs)),
        Err(errors) => {
            let source = Source::WholeFile(path.to_owned());
            let finding = |error| Finding::new(&source, format!("service {name:?}: {error}"));
            Err(errors.iter().map(finding).collect())
        }
    }
}

/// Whether group or world may read a file.
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// The text of a file, or why it cannot be had.
fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let path: PathBuf = path.into();
    let metadata = std::fs::metadata(&path).map_err(|error| error.to_string())?;
    if metadata.len() > MAX_FILE {
        return Err("it is larger than 64MB".to_owned());
    }
    let bytes = Zeroizing::new(std::fs::read(&path).map_err(|error| error.to_string())?);
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err("it is not UTF-8".to_owned()),
    }
}
