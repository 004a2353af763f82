//! A cluster under repmgr, whose daemons promote a standby when the primary is gone.

use std::path::PathBuf;
use std::process::Command;

use ::hawser::scratch::{Packages, free_port};

use crate::{Config, Programs, wait_for, wait_until};

/// See the module. Node `n` is called `n0`, `n1` and so on; `n0` is the first primary.
#[derive(Debug)]
pub struct Repmgr {
    programs: Programs,
    packages: Packages,
    nodes: Vec<u16>,
}

impl Repmgr {
    /// Whether repmgr is installed here, for the PostgreSQL that the tests use.
    pub fn is_there() -> bool {
        Packages::find().is_ok_and(|packages| packages.program("repmgrd").exists())
    }

    /// So many nodes, all streaming, with their daemons.
    #[track_caller]
    pub fn start(count: usize) -> Self {
        let packages = Packages::find().expect("PostgreSQL");
        let nodes = (0..count).map(|_| free_port().expect("a free port")).collect();
        let mut tool = Self { programs: Programs::new(), packages, nodes };
        for node in 0..count {
            std::fs::write(tool.file(node), tool.settings(node)).expect("the settings are written");
        }
        tool.start_primary();
        for node in 1..count {
            let source = format!("host=127.0.0.1 port={} user=repmgr dbname=repmgr", tool.nodes[0]);
            tool.repmgr(node, &["-d", &source, "standby", "clone", "--fast-checkpoint"]);
            tool.start_server(node);
            // A daemon ends if its server does not know its node: the record comes by replication.
            tool.repmgr(node, &["standby", "register", "--wait-sync=60"]);
        }
        for node in 0..count {
            let mut daemon = tool.programs.command(tool.packages.program("repmgrd"));
            daemon.arg("-f").arg(tool.file(node)).args(["--daemonize=false", "--no-pid-file"]);
            tool.programs.start(&format!("daemon{node}"), &mut daemon);
        }
        wait_until("every standby streams and every daemon runs", || {
            tool.psql(0, "SELECT count(*) FROM pg_stat_replication") == (count - 1).to_string()
                && (0..count).all(|node| tool.log(node).contains("starting monitoring of node"))
        });
        tool
    }

    /// What the crowd writes waits for a standby; what repmgr writes about a failover cannot.
    #[track_caller]
    fn start_primary(&mut self) {
        let data = self.data(0);
        let mut init = self.programs.command(self.packages.program("initdb"));
        self.programs
            .run(init.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"]).arg(&data));
        let conf = format!(
            "\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\nwal_keep_size = 128MB\n\
             shared_preload_libraries = 'repmgr'\nwal_log_hints = on\nmax_connections = 300\n\
             synchronous_standby_names = 'ANY 1 (*)'\nsynchronous_commit = local\n",
            self.programs.folder().display()
        );
        let file = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&file).expect("the file that initdb has made") + &conf;
        std::fs::write(file, text).expect("the file is written");
        self.start_server(0);
        for sql in [
            "CREATE ROLE repmgr SUPERUSER LOGIN REPLICATION",
            "CREATE DATABASE repmgr OWNER repmgr",
            "ALTER ROLE postgres SET synchronous_commit = on",
        ] {
            self.psql(0, &format!("SET synchronous_commit = local; {sql}"));
        }
        self.repmgr(0, &["primary", "register"]);
    }

    #[track_caller]
    fn start_server(&mut self, node: usize) {
        let mut server = self.programs.command(self.packages.program("postgres"));
        server.arg("-D").arg(self.data(node)).args(["-p", &self.nodes[node].to_string()]);
        self.programs.start(&format!("n{node}"), &mut server);
        wait_until("the server answers", || self.is_standby(node).is_some());
    }

    fn settings(&self, node: usize) -> String {
        let (file, bin) = (self.file(node), self.packages.program("repmgr"));
        let (file, repmgr) = (file.display(), bin.display());
        format!(
            "node_id={}\nnode_name='n{node}'\n\
             conninfo='host=127.0.0.1 port={} user=repmgr dbname=repmgr connect_timeout=2'\n\
             data_directory='{}'\npg_bindir='{}'\nfailover=automatic\nmonitor_interval_secs=1\n\
             reconnect_attempts=2\nreconnect_interval=1\nprimary_notification_timeout=30\n\
             promote_command='{repmgr} standby promote -f {file}'\n\
             follow_command='{repmgr} standby follow -f {file} --upstream-node-id=%n'\n",
            node + 1,
            self.nodes[node],
            self.data(node).display(),
            bin.parent().expect("the folder of repmgr").display(),
        )
    }

    fn file(&self, node: usize) -> PathBuf {
        self.programs.folder().join(format!("repmgr{node}.conf"))
    }

    fn data(&self, node: usize) -> PathBuf {
        self.programs.folder().join(format!("data{node}"))
    }

    #[track_caller]
    fn repmgr(&self, node: usize, arguments: &[&str]) {
        let mut command = self.programs.command(self.packages.program("repmgr"));
        self.programs.run(command.arg("-f").arg(self.file(node)).args(arguments));
    }

    /// Ports of the nodes.
    pub fn nodes(&self) -> &[u16] {
        &self.nodes
    }

    /// Whether a node is a standby; `None` if it does not answer.
    pub fn is_standby(&self, node: usize) -> Option<bool> {
        let asked = self.ask(node, "SELECT pg_is_in_recovery()").output().ok()?;
        asked.status.success().then_some(asked.stdout == b"t\n")
    }

    /// The node that was promoted last.
    #[track_caller]
    pub fn wait_for_successor(&self) -> usize {
        wait_for("a standby is promoted", || {
            (1..self.nodes.len()).find(|node| self.is_standby(*node) == Some(false))
        })
    }

    /// Runs SQL on a node as the superuser.
    #[track_caller]
    pub fn psql(&self, node: usize, sql: &str) -> String {
        self.programs.run(&mut self.ask(node, sql)).trim().to_owned()
    }

    fn ask(&self, node: usize, sql: &str) -> Command {
        let mut command = Command::new("psql");
        command.args([&format!("postgres://postgres@127.0.0.1:{}/postgres", self.nodes[node]), "-AtXq"]);
        for statement in sql.split("; ") {
            command.args(["-c", statement]);
        }
        command
    }

    /// Kills a node: its server and its daemon.
    pub fn kill9(&mut self, node: usize) {
        self.programs.kill9(&format!("n{node}"));
        self.programs.kill9(&format!("daemon{node}"));
    }

    /// Starts the server of a node again that was killed, as it was.
    #[track_caller]
    pub fn start_again(&mut self, node: usize) {
        self.start_server(node);
    }

    /// What the daemon of a node has logged.
    pub fn log(&self, node: usize) -> String {
        self.programs.log(&format!("daemon{node}"))
    }

    /// A configuration that names all nodes; anybody is let in.
    pub fn config(&self) -> Config {
        let hosts: Vec<String> = self.nodes.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Config::open(&hosts).set("health.user", "\"postgres\"")
    }
}
