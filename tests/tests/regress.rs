//! PostgreSQL's own regression suite through Hawser in transaction mode, over a pool of 4 that others use too: what
//! passes on a direct connection passes.
//!
//! `make deps` fetches the suite (`tests/regress/fetch.sh`). A part of it is run; `HAWSER_REGRESS=full` runs it all.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ::hawser::scratch::{Cluster, Keeper, Options, Packages, password};
use hawser_tests::{Account, Config, Hawser, is_direct, repository, wait_until};

/// Tests that pass on a direct connection and not through Hawser, and why.
const EXPLAINED: [(&str, &str); 3] = [
    ("guc", "expects that plpgsql is not loaded yet; the server connection has served others who used it"),
    ("stats", "expects to see its own counts at once, which each server process hands in on its own"),
    ("temp", "expects that its server process has never had a temporary schema"),
];

/// What is run when not everything is: session state, and what it hangs on.
const PART: &str = "test_setup copy insert create_misc create_operator create_table create_index create_aggregate
create_function_sql select constraints triggers errors select_into transactions portals namespace prepared_xacts
privileges password matview rowsecurity generated async misc_functions rangefuncs domain advisory_lock guc plancache
limit plpgsql temp prepare truncate sequence polymorphism returning largeobject with xml";

/// What the others do meanwhile: settings and prepared statements of their own.
const LOAD: &str = "\\set n random(1, 1000)
BEGIN;
SET LOCAL search_path TO pg_catalog;
SET LOCAL DateStyle TO 'German';
SELECT count(*) FROM pg_class WHERE oid > :n;
COMMIT;
SET work_mem TO '5MB';
SELECT :n + 1;
RESET work_mem;
";

/// A folder that every user may read and write, and that is removed with this value.
struct Place {
    path: PathBuf,
    _keeper: Keeper,
}

impl Place {
    fn new(suite: &Path) -> Self {
        let path = std::env::temp_dir().join(format!("hawser-regress-{}", &password()[..10]));
        std::fs::create_dir(&path).unwrap();
        let keeper = Keeper::start("rm -rf \"$1\"", &[&path.display().to_string()]).unwrap();
        let copied = Command::new("cp").arg("-r").arg(suite).arg(path.join("regress")).status();
        assert!(copied.unwrap().success());
        let opened = Command::new("chmod").args(["-R", "a+rwX"]).arg(&path).status();
        assert!(opened.unwrap().success());
        Self { path, _keeper: keeper }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path.join(name);
        for inner in [folder.clone(), folder.join("results"), folder.join("testtablespace")] {
            std::fs::create_dir_all(&inner).unwrap();
            std::fs::set_permissions(&inner, Permissions::from_mode(0o777)).unwrap();
        }
        folder
    }

    /// The PostgreSQL whose tests these are, if it is not the machine's own.
    fn packages(&self) -> Option<Packages> {
        let versions = std::fs::read_dir(self.path.join("regress/postgresql/usr/lib/postgresql")).ok()?;
        let folder = versions.filter_map(Result::ok).next()?.path();
        let major = folder.file_name()?.to_str()?.parse().ok()?;
        Some(Packages { bin: folder.join("bin"), major })
    }
}

/// A load that ends with this value.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The tests expect to be the one to whom the catalog belongs.
fn superuser(cluster: &Cluster) -> Account {
    let (user, password) = (cluster.superuser().to_owned(), cluster.password().to_owned());
    Account { database: user.clone(), user, password }
}

fn cluster(place: &Place) -> Cluster {
    let conf = ["max_prepared_transactions = 2", "compute_query_id = regress", "max_connections = 100"];
    let packages = place.packages();
    Cluster::start(&Options { conf: conf.map(Into::into).into(), packages, ..Options::default() }).unwrap()
}

/// What makes the tables, and is run first.
const SETUP: &str = "test_setup";

/// What is run behind it, in the order of the suite and side by side as there: some of its tests use the same names of tables.
fn schedule(place: &Place) -> PathBuf {
    let whole = std::fs::read_to_string(place.path.join("regress/parallel_schedule")).unwrap();
    let all = std::env::var("HAWSER_REGRESS").is_ok_and(|value| value == "full");
    let wanted: BTreeSet<&str> = PART.split_whitespace().collect();
    let mut part = String::new();
    for line in whole.lines() {
        let Some(names) = line.strip_prefix("test: ") else { continue };
        let names = names.split_whitespace().filter(|name| *name != SETUP && (all || wanted.contains(name)));
        let names: Vec<&str> = names.collect();
        if !names.is_empty() {
            part.push_str(&format!("test: {}\n", names.join(" ")));
        }
    }
    let path = place.path.join("schedule");
    std::fs::write(&path, part).unwrap();
    path
}

/// The suite on a port of a cluster.
struct Suite<'a> {
    place: &'a Place,
    name: &'a str,
    cluster: &'a Cluster,
    account: Account,
    port: u16,
}

impl Suite<'_> {
    /// Makes the tables. Plans hang on what is known of them: nobody's snapshot may be older when they are vacuumed.
    fn set_up(&self) {
        let failed = self.run(&[SETUP]);
        assert!(failed.is_empty(), "{}", self.differences());
        wait_until("nobody else has a snapshot", || {
            let others = "SELECT count(backend_xmin) FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
            self.cluster.psql(others).is_ok_and(|count| count.trim() == "0")
        });
        let setup = std::fs::read_to_string(self.place.path.join("regress/sql/test_setup.sql")).unwrap();
        for statement in setup.lines().filter(|line| line.starts_with("VACUUM")) {
            self.cluster.psql_in("regression", statement).unwrap();
        }
    }

    /// Runs everything else. The names of what failed.
    fn run_rest(&self) -> BTreeSet<String> {
        let schedule = format!("--schedule={}", schedule(self.place).display());
        self.run(&["--use-existing", &schedule])
    }

    fn load(&self) -> Load {
        let script = self.place.path.join("load.sql");
        std::fs::write(&script, LOAD).unwrap();
        let mut command = Command::new(self.cluster.packages().program("pgbench"));
        command.env("PGPASSWORD", &self.account.password).stdout(Stdio::null()).stderr(Stdio::null());
        command
            .args(["-n", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", &self.account.user, "-f"])
            .arg(script);
        command.args(["-c", "2", "-R", "100", "-T", "600", "-M", "prepared", "regression"]);
        Load(command.spawn().unwrap())
    }

    fn differences(&self) -> String {
        let path = self.place.path.join(self.name).join("regression.diffs");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn run(&self, what: &[&str]) -> BTreeSet<String> {
        let (out, suite) = (self.place.folder(self.name), self.place.path.join("regress"));
        let bin = &self.cluster.packages().bin;
        let program = bin.join("../lib/pgxs/src/test/regress/pg_regress");
        let mut command = Command::new(program);
        command.current_dir(&out).env("PGPASSWORD", &self.account.password).stdin(Stdio::null());
        command.arg(format!("--inputdir={}", suite.display())).arg(format!("--outputdir={}", out.display()));
        command.arg(format!("--bindir={}", bin.display()));
        command.arg(format!("--dlpath={}", suite.join("lib").display()));
        command.args(["--host=127.0.0.1", "--max-concurrent-tests=20"]);
        command.arg(format!("--port={}", self.port)).arg(format!("--user={}", self.account.user));
        let said = command.args(what).output().unwrap();
        let words = String::from_utf8_lossy(&said.stdout);
        let failed = words.lines().filter(|line| line.contains("FAILED"));
        let names = failed.filter_map(|line| line.trim_start_matches("test ").split_whitespace().next());
        let failed: BTreeSet<String> = names.map(ToOwned::to_owned).collect();
        assert!(
            words.lines().any(|line| line.contains("... ok")),
            "{words}\n{}",
            String::from_utf8_lossy(&said.stderr)
        );
        println!("{}: {} passed, failed {failed:?}", self.name, words.matches("... ok").count());
        failed
    }
}

#[test]
fn what_passes_on_a_direct_connection_passes_through_hawser() {
    let suite = repository().join("target/regress");
    if is_direct() || !suite.join(".done").is_file() {
        println!("PostgreSQL's regression suite is not here; `make deps` fetches it");
        return;
    }
    let place = Place::new(&suite);
    let direct = {
        let cluster = cluster(&place);
        let (account, port) = (superuser(&cluster), cluster.port());
        let suite = Suite { place: &place, name: "direct", cluster: &cluster, account, port };
        suite.set_up();
        suite.run_rest()
    };
    let cluster = cluster(&place);
    let account = superuser(&cluster);
    let config = Config::new(&cluster, &account).set("pool.size", 4);
    let hawser = Hawser::start(&config);
    let suite = Suite { place: &place, name: "through", cluster: &cluster, account, port: hawser.port() };
    suite.set_up();
    let busy = suite.load();
    let through = suite.run_rest();
    drop(busy);
    let explained: BTreeSet<String> = EXPLAINED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let new: Vec<&String> =
        through.iter().filter(|name| !direct.contains(*name) && !explained.contains(*name)).collect();
    assert!(new.is_empty(), "{new:?} pass on a direct connection only:\n{}", suite.differences());
}
