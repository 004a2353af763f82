//! A primary with streaming standbys, and one Hawser in front of all of them.

use ::hawser::scratch::Cluster;

use crate::raw::Client;
use crate::{Account, Config, Hawser, own_cluster, wait_until};

/// See the module. `hosts[0]` is the primary at first.
#[derive(Debug)]
pub struct Ensemble {
    /// Hawser.
    pub hawser: Hawser,
    /// The hosts, in the order of Hawser's settings.
    pub hosts: Vec<Cluster>,
    /// Who connects.
    pub account: Account,
    config: Config,
}

impl Ensemble {
    /// So many standbys, and what `change` makes of the usual configuration.
    #[track_caller]
    pub fn new(standbys: usize, change: impl FnOnce(Config) -> Config) -> Self {
        Self::with_conf(standbys, &[], change)
    }

    /// As [`Self::new`], with lines for the `postgresql.conf` of all hosts.
    #[track_caller]
    pub fn with_conf(standbys: usize, conf: &[&str], change: impl FnOnce(Config) -> Config) -> Self {
        let primary = own_cluster(conf);
        let account = Account::new(&primary);
        let mut hosts = vec![primary];
        for _ in 0..standbys {
            let standby = hosts[0].standby().expect("a standby");
            hosts.push(standby);
        }
        let names: Vec<String> = hosts.iter().map(|host| format!("127.0.0.1:{}", host.port())).collect();
        let config = change(Config::new(&hosts[0], &account).hosts(&names));
        let hawser = Hawser::start(&config);
        let ensemble = Self { hawser, hosts, account, config };
        ensemble.wait_for_primary(0, 1);
        ensemble
    }

    /// Commits wait for as many of the standbys from now on.
    #[track_caller]
    pub fn make_synchronous(&self, quorum: usize) {
        for host in &self.hosts {
            let names = format!("ALTER SYSTEM SET synchronous_standby_names = 'ANY {quorum} (*)'");
            host.psql(&names).expect("a setting");
            host.psql("ALTER SYSTEM SET synchronous_commit = on").expect("a setting");
            host.psql("SELECT pg_reload_conf()").expect("a reload");
        }
        let standbys = (self.hosts.len() - 1).to_string();
        wait_until("commits wait for standbys", || {
            let quorum = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
            self.hosts[0].psql(quorum).is_ok_and(|count| count.trim() == standbys)
        });
    }

    /// Promotes the standby that has received the most, as tools do, and has the others follow it. Its number.
    #[track_caller]
    pub fn take_over(&self) -> usize {
        let received = |host: &Cluster| {
            let sql = "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')";
            host.psql(sql).expect("a position").trim().parse::<u64>().expect("a number")
        };
        let next = (1..self.hosts.len()).max_by_key(|host| received(&self.hosts[*host])).expect("a standby");
        self.hosts[next].promote().expect("it is promoted");
        for (number, host) in self.hosts.iter().enumerate().skip(1) {
            if number != next {
                host.follow(&self.hosts[next]).expect("it follows");
            }
        }
        next
    }

    /// Starts Hawser anew, at the same port, as if the old one had never been.
    #[track_caller]
    pub fn restart_hawser(&mut self) {
        self.hawser.restart(&self.config);
    }

    /// Waits until Hawser knows this primary.
    #[track_caller]
    pub fn wait_for_primary(&self, host: usize, timeline: u32) {
        self.hawser.wait_for_log(&format!("{} timeline={timeline}", self.in_log(host)));
    }

    /// How the log names a host.
    fn in_log(&self, host: usize) -> String {
        format!("host=\"127.0.0.1:{}\"", self.hosts[host].port())
    }

    /// Waits until the log says this of a host.
    #[track_caller]
    pub fn wait_for(&self, host: usize, words: &str) {
        let address = self.in_log(host);
        wait_until(&format!("the log says {words:?} of {address}"), || {
            self.hawser.log().lines().any(|line| line.contains(words) && line.contains(&address))
        });
    }

    /// Waits until a host that was down is up, by the last that the log says of it.
    #[track_caller]
    pub fn wait_until_up(&self, host: usize) {
        let address = self.in_log(host);
        wait_until(&format!("{address} is up"), || {
            let log = self.hawser.log();
            let states = ["host is up", "host is down"];
            let tells =
                |line: &&str| line.contains(&address) && states.iter().any(|state| line.contains(state));
            log.lines().rfind(tells).is_some_and(|line| line.contains("host is up"))
        });
    }

    /// Waits until every standby has replayed what the first host has written.
    #[track_caller]
    pub fn wait_for_replay(&self) {
        let written = self.hosts[0].psql("SELECT pg_current_wal_insert_lsn()").expect("a position");
        let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", written.trim());
        for standby in &self.hosts[1..] {
            wait_until("a standby has replayed everything", || {
                standby.psql(&caught_up).is_ok_and(|answer| answer.trim() == "t")
            });
        }
    }

    /// Waits until the first host does nothing for our account: Hawser looks at the catalogue now and then.
    #[track_caller]
    pub fn wait_for_rest(&self) {
        let busy = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND state <> 'idle'",
            self.account.user
        );
        wait_until("the first host is at rest", || {
            self.hosts[0].psql(&busy).is_ok_and(|answer| answer.trim() == "0")
        });
    }

    /// A standby stays as it is, until it is told otherwise. Tells who reads on it.
    #[track_caller]
    pub fn pause_replay(&self, host: usize) {
        let standby = &self.hosts[host];
        standby.psql("SELECT pg_wal_replay_pause()").expect("it obeys");
        // It pauses at the next record.
        self.hosts[0].psql("SELECT pg_logical_emit_message(true, '', '')").expect("a record");
        wait_until("replay is paused", || {
            let state = standby.psql("SELECT pg_get_wal_replay_pause_state()").expect("a state");
            state.trim() == "paused"
        });
    }

    /// A client that is logged in.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::login(self.hawser.port(), &self.account)
    }
}
