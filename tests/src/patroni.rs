//! A cluster under Patroni, whose nodes agree among themselves by Raft: no other store is needed.

use std::process::Command;

use ::hawser::scratch::{Packages, free_port};
use rustix::process::Signal;

use crate::{Config, Programs, wait_long_until};

/// Debian's names of its programs.
const PATRONI: &str = "/usr/bin/patroni";
const PATRONICTL: &str = "/usr/bin/patronictl";

/// One node: where PostgreSQL, the REST API and Raft listen.
#[derive(Debug, Clone, Copy)]
struct Node {
    postgres: u16,
    api: u16,
    raft: u16,
}

/// See the module. Node `n` is called `n0`, `n1` and so on.
#[derive(Debug)]
pub struct Patroni {
    programs: Programs,
    nodes: Vec<Node>,
}

impl Patroni {
    /// Whether Patroni is installed here, with what it needs for Raft.
    pub fn is_there() -> bool {
        std::path::Path::new(PATRONI).exists()
            && std::path::Path::new("/usr/lib/python3/dist-packages/pysyncobj").exists()
    }

    /// So many nodes.
    #[track_caller]
    pub fn start(count: usize) -> Self {
        let packages = Packages::find().expect("PostgreSQL");
        let port = || free_port().expect("a free port");
        let nodes: Vec<Node> =
            (0..count).map(|_| Node { postgres: port(), api: port(), raft: port() }).collect();
        let mut tool = Self { programs: Programs::new(), nodes };
        for node in 0..count {
            let path = tool.programs.folder().join(format!("n{node}.yml"));
            std::fs::write(path, tool.settings(node, &packages)).expect("the settings are written");
        }
        (0..count).for_each(|node| tool.start_again(node));
        wait_long_until("all nodes answer, and one takes writes", || {
            let roles: Vec<_> = (0..count).map(|node| tool.is_standby(node)).collect();
            roles.iter().all(Option::is_some)
                && roles.iter().filter(|standby| **standby == Some(false)).count() == 1
        });
        tool
    }

    fn settings(&self, node: usize, packages: &Packages) -> String {
        let Node { postgres, api, raft } = self.nodes[node];
        let partners: Vec<String> = self
            .nodes
            .iter()
            .filter(|other| other.raft != raft)
            .map(|other| format!("'127.0.0.1:{}'", other.raft))
            .collect();
        let folder = self.programs.folder().display();
        let bin = packages.program("postgres");
        let bin = bin.parent().expect("the folder of postgres").display();
        format!(
            "scope: scratch\nname: n{node}\n\
             restapi: {{listen: '127.0.0.1:{api}', connect_address: '127.0.0.1:{api}'}}\n\
             raft: {{data_dir: '{folder}/raft{node}', self_addr: '127.0.0.1:{raft}', partner_addrs: [{}]}}\n\
             bootstrap:\n  dcs: {{ttl: 20, loop_wait: 1, retry_timeout: 3, synchronous_mode: true, postgresql: {{use_pg_rewind: true}}}}\n\
             \x20 initdb: [{{auth: trust}}, {{encoding: UTF8}}]\n\
             postgresql:\n  listen: '127.0.0.1:{postgres}'\n  connect_address: '127.0.0.1:{postgres}'\n\
             \x20 data_dir: '{folder}/data{node}'\n  bin_dir: '{bin}'\n  pgpass: '{folder}/pgpass{node}'\n\
             \x20 authentication:\n    superuser: {{username: postgres, password: scratch}}\n\
             \x20   replication: {{username: replicator, password: scratch}}\n\
             \x20   rewind: {{username: rewinder, password: scratch}}\n\
             \x20 parameters: {{unix_socket_directories: '{folder}', fsync: 'off'}}\n\
             \x20 pg_hba: ['local all all trust', 'host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust']\n",
            partners.join(", "),
        )
    }

    /// Starts a node that is not running.
    #[track_caller]
    pub fn start_again(&mut self, node: usize) {
        let mut command = self.programs.command(PATRONI);
        command.arg(format!("n{node}.yml"));
        self.programs.start(&format!("n{node}"), &mut command);
    }

    /// Ports of PostgreSQL.
    pub fn nodes(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.postgres).collect()
    }

    fn ctl(&self, arguments: &[&str]) -> Command {
        let mut command = self.programs.command(PATRONICTL);
        command.args(["-c", "n0.yml"]).args(arguments);
        command
    }

    /// Whether a node is a standby; `None` if it does not answer.
    pub fn is_standby(&self, node: usize) -> Option<bool> {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.nodes[node].postgres);
        let output =
            Command::new("psql").args([&url, "-AtXqc", "SELECT pg_is_in_recovery()"]).output().ok()?;
        output.status.success().then_some(output.stdout == b"t\n")
    }

    /// The node that takes writes, if there is one.
    pub fn leader(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.is_standby(*node) == Some(false))
    }

    /// Runs SQL on a node as the superuser.
    #[track_caller]
    pub fn psql(&self, node: usize, sql: &str) -> String {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.nodes[node].postgres);
        self.programs.run(Command::new("psql").args([&url, "-AtXqc", sql])).trim().to_owned()
    }

    /// Waits until commits wait for a standby, which nodes have agreed on: only that one may take over.
    #[track_caller]
    pub fn wait_until_settled(&self) {
        wait_long_until("a standby is synchronous", || {
            let output = self.ctl(&["list"]).output().expect("patronictl");
            let list = String::from_utf8_lossy(&output.stdout);
            let running = list.matches("running").count() + list.matches("streaming").count();
            list.contains("Sync Standby") && running == self.nodes.len()
        });
    }

    /// Lets another node take over, and waits until that is done.
    #[track_caller]
    pub fn switch_over(&self) {
        self.programs.run(&mut self.ctl(&["switchover", "--force"]));
    }

    /// Lets another node take over at a time, `2026-01-31T12:00:00+00:00`.
    #[track_caller]
    pub fn schedule_switchover(&self, at: &str) {
        self.programs.run(&mut self.ctl(&["switchover", "--force", "--scheduled", at]));
    }

    /// Kills a node: Patroni, and the server, which is no child of Patroni's.
    #[track_caller]
    pub fn kill9(&mut self, node: usize) {
        let file = self.programs.folder().join(format!("data{node}/postmaster.pid"));
        let text = std::fs::read_to_string(file).expect("the server runs");
        let server = text.lines().next().and_then(|line| line.trim().parse().ok()).expect("its number");
        self.kill_daemon(node);
        crate::programs::signal_tree(server, Signal::KILL);
    }

    /// Kills Patroni only. Its server goes on, and knows of no other primary.
    #[track_caller]
    pub fn kill_daemon(&mut self, node: usize) {
        self.programs.kill9(&format!("n{node}"));
    }

    /// What a node's Patroni has logged.
    pub fn log(&self, node: usize) -> String {
        self.programs.log(&format!("n{node}"))
    }

    /// A configuration that names one node and all REST APIs; anybody is let in.
    pub fn config(&self) -> Config {
        let apis: Vec<String> =
            self.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.api)).collect();
        Config::open(&[format!("127.0.0.1:{}", self.nodes[0].postgres)])
            .database(&format!("patroni = {apis:?}"))
            .set("health.user", "\"postgres\"")
    }
}
