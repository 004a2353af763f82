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

/// What is run, in the order of the suite and side by side as there: some of its tests use the same names of tables.
fn schedule(place: &Place) -> PathBuf {
    let whole = place.path.join("regress/parallel_schedule");
    if std::env::var("HAWSER_REGRESS").is_ok_and(|value| value == "full") {
        return whole;
    }
    let wanted: BTreeSet<&str> = PART.split_whitespace().collect();
    let mut part = String::new();
    for line in std::fs::read_to_string(whole).unwrap().lines() {
        let Some(names) = line.strip_prefix("test: ") else { continue };
        let names: Vec<&str> = names.split_whitespace().filter(|name| wanted.contains(name)).collect();
        if !names.is_empty() {
            part.push_str(&format!("test: {}\n", names.join(" ")));
        }
    }
    let path = place.path.join("schedule");
    std::fs::write(&path, part).unwrap();
    path
}

/// Runs the tests against a port. The names of those that failed.
fn run(place: &Place, name: &str, cluster: &Cluster, account: &Account, port: u16) -> BTreeSet<String> {
    let (out, suite) = (place.folder(name), place.path.join("regress"));
    let schedule = schedule(place);
    let bin = &cluster.packages().bin;
    let program = bin.join("../lib/pgxs/src/test/regress/pg_regress");
    let mut command = Command::new(program);
    command.current_dir(&out).env("PGPASSWORD", &account.password).stdin(Stdio::null());
    command.arg(format!("--inputdir={}", suite.display())).arg(format!("--outputdir={}", out.display()));
    command.arg(format!("--bindir={}", bin.display()));
    command.arg(format!("--dlpath={}", suite.join("lib").display()));
    command.arg(format!("--schedule={}", schedule.display()));
    command.args(["--host=127.0.0.1", "--max-concurrent-tests=20"]);
    command.arg(format!("--port={port}")).arg(format!("--user={}", account.user));
    let said = command.output().unwrap();
    let words = String::from_utf8_lossy(&said.stdout);
    let failed = words.lines().filter(|line| line.contains("FAILED"));
    let names = failed.filter_map(|line| line.trim_start_matches("test ").split_whitespace().next());
    let failed: BTreeSet<String> = names.map(ToOwned::to_owned).collect();
    assert!(
        words.lines().any(|line| line.contains("... ok")),
        "{words}\n{}",
        String::from_utf8_lossy(&said.stderr)
    );
    println!("{name}: {} passed, failed {failed:?}", words.matches("... ok").count());
    failed
}

fn load(place: &Place, cluster: &Cluster, account: &Account, port: u16) -> Load {
    let script = place.path.join("load.sql");
    std::fs::write(&script, LOAD).unwrap();
    let mut command = Command::new(cluster.packages().program("pgbench"));
    command.env("PGPASSWORD", &account.password).stdout(Stdio::null()).stderr(Stdio::null());
    command.args(["-n", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", &account.user, "-f"]).arg(script);
    command.args(["-c", "2", "-R", "100", "-T", "600", "-M", "prepared", "regression"]);
    Load(command.spawn().unwrap())
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
        let account = superuser(&cluster);
        run(&place, "direct", &cluster, &account, cluster.port())
    };
    let cluster = cluster(&place);
    let account = superuser(&cluster);
    let config = Config::new(&cluster, &account).set("pool.size", 4);
    let hawser = Hawser::start(&config);
    let through = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            wait_until("the suite has made its database", || {
                cluster.psql_in("regression", "SELECT 1").is_ok()
            });
            load(&place, &cluster, &account, hawser.port())
        });
        let through = run(&place, "through", &cluster, &account, hawser.port());
        drop(busy.join());
        through
    });
    let explained: BTreeSet<String> = EXPLAINED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let new: Vec<&String> =
        through.iter().filter(|name| !direct.contains(*name) && !explained.contains(*name)).collect();
    let diffs = std::fs::read_to_string(place.path.join("through/regression.diffs")).unwrap_or_default();
    assert!(new.is_empty(), "{new:?} pass on a direct connection only:\n{diffs}");
}
