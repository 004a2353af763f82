//! A cluster under pg_auto_failover: a monitor and its nodes.

use std::process::Command;

use ::hawser::scratch::{Packages, free_port};
use rustix::process::Signal;

use crate::{Config, Programs, wait_for, wait_until};

/// Debian's name of its program.
const PG_AUTOCTL: &str = "/usr/bin/pg_autoctl";

/// See the module. Node `n` is called `n0`, `n1` and so on.
#[derive(Debug)]
pub struct AutoFailover {
    programs: Programs,
    packages: Packages,
    monitor: u16,
    nodes: Vec<u16>,
}

impl AutoFailover {
    /// Whether pg_auto_failover is installed here.
    pub fn is_there() -> bool {
        std::path::Path::new(PG_AUTOCTL).exists()
    }

    /// A monitor and so many nodes, the first of which is the primary.
    #[track_caller]
    pub fn start(nodes: usize) -> Self {
        let packages = Packages::find().expect("PostgreSQL");
        let monitor = free_port().expect("a free port");
        let mut tool = Self { programs: Programs::new(), packages, monitor, nodes: Vec::new() };
        let mut create = tool.autoctl();
        create.args(["create", "monitor", "--pgdata", "monitor", "--pgport", &monitor.to_string()]);
        create.args(["--hostname", "127.0.0.1", "--auth", "trust", "--no-ssl"]);
        tool.programs.run(&mut create);
        tool.run("monitor");
        wait_until("the monitor answers", || tool.ask("SELECT 1").is_some());
        tool.hurry();
        for _ in 0..nodes {
            tool.add_node();
        }
        wait_until("the first node is the primary of all", || {
            let wanted = if nodes > 1 { "primary" } else { "single" };
            tool.states().first().is_some_and(|state| state == wanted)
                && tool.states().iter().skip(1).all(|state| state == "secondary")
        });
        tool
    }

    /// A monitor takes half a minute to give a node up, unless it is told otherwise.
    #[track_caller]
    fn hurry(&self) {
        let url = format!("postgres://postgres@127.0.0.1:{}/pg_auto_failover", self.monitor);
        let spans = [
            ("health_check_period", 1000),
            ("health_check_timeout", 1000),
            ("health_check_retry_delay", 500),
            ("node_considered_unhealthy_timeout", 3000),
            ("primary_demote_timeout", 3000),
            ("startup_grace_period", 1000),
        ];
        let mut psql = Command::new("psql");
        psql.args([&url, "-AtXq", "-v", "ON_ERROR_STOP=1"]);
        for (name, milliseconds) in spans {
            psql.args(["-c", &format!("ALTER SYSTEM SET pgautofailover.{name} = {milliseconds}")]);
        }
        self.programs.run(psql.args(["-c", "SELECT pg_reload_conf()"]));
    }

    /// One more node.
    #[track_caller]
    pub fn add_node(&mut self) {
        let (name, port) = (format!("n{}", self.nodes.len()), free_port().expect("a free port"));
        let mut create = self.autoctl();
        create.args(["create", "postgres", "--pgdata", &name, "--name", &name, "--hostname", "127.0.0.1"]);
        create.args(["--pgport", &port.to_string(), "--auth", "trust", "--no-ssl", "--monitor", &self.url()]);
        self.programs.run(&mut create);
        self.nodes.push(port);
        self.run(&name);
        wait_until("the new node is well", || {
            let states = self.states();
            states.len() == self.nodes.len()
                && states.last().is_some_and(|state| state == "secondary" || state == "single")
        });
    }

    fn run(&mut self, name: &str) {
        let mut command = self.autoctl();
        command.args(["run", "--pgdata", name]);
        self.programs.start(name, &mut command);
    }

    fn autoctl(&self) -> Command {
        let folder = self.programs.folder();
        let mut command = self.programs.command(PG_AUTOCTL);
        let bin = self.packages.program("postgres");
        let bin = bin.parent().expect("the folder of postgres").display();
        command.env("PATH", format!("{bin}:/usr/bin:/bin"));
        command.env("XDG_RUNTIME_DIR", folder).env("XDG_CONFIG_HOME", folder).env("XDG_DATA_HOME", folder);
        command
    }

    /// URL of the monitor.
    pub fn url(&self) -> String {
        format!("postgres://autoctl_node@127.0.0.1:{}/pg_auto_failover?sslmode=disable", self.monitor)
    }

    /// Ports of the nodes.
    pub fn nodes(&self) -> &[u16] {
        &self.nodes
    }

    /// Asks the monitor; `None` if it does not answer.
    pub fn ask(&self, sql: &str) -> Option<String> {
        let output = Command::new("psql").args([&self.url(), "-AtXqc", sql]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs SQL on a node as the superuser.
    #[track_caller]
    pub fn psql(&self, node: usize, sql: &str) -> String {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.nodes[node]);
        self.programs.run(Command::new("psql").args([&url, "-AtXqc", sql])).trim().to_owned()
    }

    /// The node that takes writes.
    #[track_caller]
    pub fn primary(&self) -> usize {
        let is_primary = |node: &usize| {
            let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.nodes[*node]);
            let asked = Command::new("psql").args([&url, "-AtXqc", "SELECT pg_is_in_recovery()"]).output();
            asked.is_ok_and(|output| output.stdout == b"f\n")
        };
        wait_for("a node is the primary", || (0..self.nodes.len()).find(is_primary))
    }

    /// What each node has reported to be, where that is also its goal; else both.
    pub fn states(&self) -> Vec<String> {
        let sql = "SELECT CASE WHEN reportedstate = goalstate THEN reportedstate::text \
                   ELSE reportedstate || '>' || goalstate END FROM pgautofailover.node ORDER BY nodeid";
        self.ask(sql).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Lets another node take over, and waits until that is done.
    #[track_caller]
    pub fn switch_over(&self) {
        let mut command = self.autoctl();
        command.args([
            "perform",
            "switchover",
            "--pgdata",
            "monitor",
            "--formation",
            "default",
            "--group",
            "0",
        ]);
        self.programs.run(&mut command);
    }

    /// Kills a node: its keeper, its server, everything.
    pub fn kill9(&mut self, node: usize) {
        self.programs.kill9(&format!("n{node}"));
    }

    /// Kills the monitor.
    pub fn kill_monitor(&mut self) {
        self.programs.kill9("monitor");
    }

    /// Freezes a node.
    pub fn sigstop(&self, node: usize) {
        self.programs.signal(&format!("n{node}"), Signal::STOP);
    }

    /// Lets it go on.
    pub fn sigcont(&self, node: usize) {
        self.programs.signal(&format!("n{node}"), Signal::CONT);
    }

    /// Starts a node again that was killed.
    pub fn start_again(&mut self, node: usize) {
        self.run(&format!("n{node}"));
    }

    /// A configuration that names one node and the monitor; anybody is let in.
    #[track_caller]
    pub fn config(&self) -> Config {
        Config::open(&[format!("127.0.0.1:{}", self.nodes[0])])
            .database(&format!("monitor = \"{}\"", self.url()))
            .set("health.user", "\"postgres\"")
    }
}
