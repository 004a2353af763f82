//! The usual scene: one account, one Hawser in front of the shared cluster.

use crate::raw::messages::{extended, sync};
use crate::raw::{Client, TlsOptions};
use crate::{Account, Config, Hawser, cluster, is_direct};

/// An account and a Hawser of its own, or PostgreSQL itself when the tests are tried on that.
#[derive(Debug)]
pub struct Site {
    /// Who connects.
    pub account: Account,
    /// Where to connect.
    pub port: u16,
    hawser: Option<Hawser>,
}

impl Site {
    /// Hawser with a pool of one server connection: whatever one client leaves behind, the next one stumbles over.
    #[track_caller]
    pub fn new() -> Self {
        Self::with(|config| config.set("pool.size", 1))
    }

    /// Hawser with what `change` makes of the usual configuration.
    #[track_caller]
    pub fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let account = Account::new(cluster());
        let config = change(Config::new(cluster(), &account));
        Self::of(account, &config)
    }

    /// Hawser with this configuration.
    #[track_caller]
    pub fn of(account: Account, config: &Config) -> Self {
        let hawser = (!is_direct()).then(|| Hawser::start(config));
        let port = hawser.as_ref().map_or(cluster().port(), Hawser::port);
        Self { account, port, hawser }
    }

    /// Hawser, in tests that are about it alone.
    #[track_caller]
    pub fn hawser(&self) -> &Hawser {
        self.hawser.as_ref().expect("this test needs Hawser")
    }

    /// As [`Self::hawser`], to wait for its end.
    #[track_caller]
    pub fn hawser_mut(&mut self) -> &mut Hawser {
        self.hawser.as_mut().expect("this test needs Hawser")
    }

    /// A client that is logged in, in the clear.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::login(self.port, &self.account)
    }

    /// A client that is logged in, under TLS.
    #[track_caller]
    pub fn client_tls(&self) -> Client {
        Client::login_tls(self.port, &self.account, &TlsOptions::of(cluster()))
    }

    /// Whoever comes next finds a server connection in order.
    #[track_caller]
    pub fn others_are_well(&self) {
        let mut other = self.client();
        assert_eq!(other.value("SELECT 'well'"), "well");
        other.send(&[extended("SELECT $1::int", &[Some("7")]), sync()].concat());
        assert_eq!(other.expect("12TDCZ")[3].first(), "7");
    }

    /// What the server has of connections of our account: number, and how many of them are in a transaction.
    #[track_caller]
    pub fn server_connections(&self) -> (usize, usize) {
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE state <> 'idle' AND query NOT LIKE '/* hawser%') \
             FROM pg_stat_activity WHERE usename = '{}'",
            self.account.user
        );
        let answer = cluster().psql(&sql).expect("the server answers");
        let (all, busy) = answer.trim().split_once('|').expect("two columns");
        (all.parse().expect("a number"), busy.parse().expect("a number"))
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// Another client uses the one server connection in between, and leaves everything else.
pub fn disturb(other: &mut Client) {
    if !is_direct() {
        other.execute("SET DateStyle TO German");
        other.execute("BEGIN");
        other.execute("SET LOCAL search_path TO pg_catalog");
        other.execute("COMMIT");
        other.execute("PREPARE p AS SELECT 'wrong'");
        other.execute("EXECUTE p");
        other.execute("DEALLOCATE p");
    }
}
