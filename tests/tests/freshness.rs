//! What a standby is proven to have: never too much, and known as soon as somebody waits for it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser::config::{Arguments, Environment, load};
use hawser::ids::{ClusterId, WorkerId};
use hawser::mailbox::{Mailboxes, Order};
use hawser::runtime::{Facilities, Runtime};
use hawser::scratch::{Cluster, Options};
use hawser::topology::{HostId, Lsn, Moment, Newest, Snapshot, Topology};
use tokio::sync::{Notify, mpsc};

/// Everything is bounded by this, as with `wait_until`.
const PATIENCE: Duration = Duration::from_secs(20);

/// The control thread and one worker, without the worker.
struct Watched {
    topology: Topology,
    newest: Rc<Newest>,
    changed: Rc<Notify>,
    proven: Rc<Notify>,
    cluster: ClusterId,
}

impl Watched {
    /// Watches these hosts as the user `app`, and waits for the first primary.
    async fn start(hosts: &[&Cluster]) -> Self {
        let names: Vec<String> = hosts.iter().map(|host| format!("127.0.0.1:{}", host.port())).collect();
        let url = format!("postgres://app:secret@{}/postgres", names.join(","));
        let arguments = Arguments { source: Some(url), ..Arguments::default() };
        let settings = load(&arguments, &Environment::of([])).expect("settings").settings;
        let runtime = Arc::new(Runtime::load(settings, Facilities::new(1)).expect("a runtime"));
        let database = runtime.database("postgres").expect("the database").clone();
        let cluster = runtime.facilities.clusters.id(&database.hosts);
        let (sender, mut mailbox) = mpsc::unbounded_channel();
        let topology = Topology::start(&runtime, Mailboxes::new(vec![sender]));
        let (newest, changed, proven) =
            (Rc::<Newest>::default(), Rc::new(Notify::new()), Rc::new(Notify::new()));
        let watched = Self {
            topology,
            newest: newest.clone(),
            changed: changed.clone(),
            proven: proven.clone(),
            cluster,
        };
        tokio::task::spawn_local(async move {
            while let Some(order) = mailbox.recv().await {
                match order {
                    Order::Topology(snapshot) => {
                        newest.keep(snapshot);
                        changed.notify_one();
                    }
                    Order::Proven(_) => proven.notify_one(),
                    _ => {}
                }
            }
        });
        watched.until(|snapshot| snapshot.writable() == Some(HostId(0))).await;
        let standbys = hosts.len() - 1;
        watched.until(|snapshot| snapshot.standbys().count() == standbys).await;
        watched
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.newest.of(self.cluster).expect("a snapshot")
    }

    async fn until(&self, is_so: impl Fn(&Snapshot) -> bool) {
        let wait = async {
            while !self.newest.of(self.cluster).is_some_and(|snapshot| is_so(&snapshot)) {
                self.changed.notified().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "waited in vain: {:?}", self.topology.snapshots());
    }

    /// Waits as a session does until `host` shows every write that was acknowledged before `moment`.
    async fn until_proven(&self, host: HostId, moment: Moment) {
        let wait = async {
            loop {
                let snapshot = self.snapshot();
                if snapshot.host(host).expect("the host").gauge.proven() >= moment {
                    return;
                }
                snapshot.bell.want_proof(WorkerId(0), moment);
                let _ = tokio::time::timeout(Duration::from_millis(200), self.proven.notified()).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "waited in vain: {:?}", self.topology.snapshots());
    }
}

fn clusters() -> (Cluster, Cluster) {
    // As on a real server: what is committed is on its way to the standby at once.
    let conf = vec!["synchronous_commit = on".to_owned()];
    let primary = Cluster::start(&Options { conf, ..Options::default() }).expect("a primary");
    primary.psql("CREATE ROLE app LOGIN PASSWORD 'secret'").expect("a role");
    let standby = primary.standby().expect("a standby");
    (primary, standby)
}

fn on_this_thread(work: impl Future<Output = ()> + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.expect("a runtime").block_on(work);
}

async fn client(host: &Cluster) -> tokio_postgres::Client {
    let text = format!(
        "host=127.0.0.1 port={} user=postgres password={} dbname=postgres",
        host.port(),
        host.password()
    );
    let (client, connection) =
        tokio_postgres::connect(&text, tokio_postgres::NoTls).await.expect("a connection");
    tokio::task::spawn_local(connection);
    client
}

#[test]
fn who_waits_for_a_standby_sees_its_own_write_there() {
    let (primary, standby) = clusters();
    on_this_thread(async move {
        let watched = Watched::start(&[&primary, &standby]).await;
        let (writer, reader) = (client(&primary).await, client(&standby).await);
        writer.batch_execute("CREATE TABLE t (n int)").await.expect("a table");
        let mut waits = Vec::new();
        for number in 0..200_i32 {
            writer.execute("INSERT INTO t VALUES ($1)", &[&number]).await.expect("a row");
            let written = Instant::now();
            watched.until_proven(HostId(1), Moment::now()).await;
            waits.push(written.elapsed());
            let found = reader.query_one("SELECT max(n) FROM t", &[]).await.expect("an answer");
            assert_eq!(found.get::<_, Option<i32>>(0), Some(number), "a stale read");
        }
        waits.sort();
        println!("from the write to the proof: median {:?}, worst {:?}", waits[100], waits[199]);
    });
}

#[test]
fn a_standby_that_is_held_back_proves_nothing_new_and_then_everything() {
    let (primary, standby) = clusters();
    on_this_thread(async move {
        let watched = Watched::start(&[&primary, &standby]).await;
        let (writer, reader) = (client(&primary).await, client(&standby).await);
        watched.until_proven(HostId(1), Moment::now()).await;
        reader.batch_execute("SELECT pg_wal_replay_pause()").await.expect("it is paused");
        let paused = async || {
            let state =
                reader.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await.expect("a state");
            state.get::<_, String>(0) == "paused"
        };
        // It pauses at the next record.
        writer.batch_execute("CREATE TABLE t (n int)").await.expect("a table");
        while !paused().await {}
        writer.batch_execute("INSERT INTO t VALUES (1)").await.expect("a row");
        let moment = Moment::now();
        let gauge = watched.snapshot().host(HostId(1)).expect("the standby").gauge.clone();
        watched.snapshot().bell.want_proof(WorkerId(0), moment);
        let answered = gauge.answered();
        let asked_again = async {
            while gauge.lag_bytes() == 0 || gauge.answered() == answered {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asked_again).await.expect("its lag is seen");
        assert!(gauge.proven() < moment);
        reader.batch_execute("SELECT pg_wal_replay_resume()").await.expect("it goes on");
        watched.until_proven(HostId(1), moment).await;
        assert_eq!(reader.query("SELECT 1 FROM t", &[]).await.expect("rows").len(), 1);
    });
}

#[test]
fn an_idle_primary_at_the_end_of_a_page_does_not_look_ahead_of_its_standby() {
    let (primary, standby) = clusters();
    on_this_thread(async move {
        let watched = Watched::start(&[&primary, &standby]).await;
        let writer = client(&primary).await;
        let position = async || {
            let row =
                writer.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.expect("a position");
            Lsn::parse(&row.get::<_, String>(0)).expect("a position")
        };
        // Until nothing else writes just behind the switch.
        loop {
            writer.batch_execute("SELECT pg_switch_wal()").await.expect("a new segment");
            let moment = Moment::now();
            watched.until_proven(HostId(1), moment).await;
            if position().await.0 % (16 << 20) == 40 {
                break;
            }
        }
        let replayed = watched.snapshot().host(HostId(1)).expect("the standby").gauge.replayed();
        assert_eq!(replayed.0 % (16 << 20), 0, "the standby stays before the header");
    });
}

#[test]
fn a_standby_proves_nothing_new_until_it_is_known_to_follow_the_new_primary() {
    let (mut primary, first) = clusters();
    let second = primary.standby().expect("a standby");
    on_this_thread(async move {
        let watched = Watched::start(&[&primary, &first, &second]).await;
        watched.until_proven(HostId(2), Moment::now()).await;
        primary.kill9().expect("it is killed");
        first.promote().expect("it is promoted");
        watched.until(|snapshot| snapshot.writable() == Some(HostId(1))).await;
        let promoted = Moment::now();
        let (writer, reader) = (client(&first).await, client(&second).await);
        writer.batch_execute("CREATE TABLE t (n int)").await.expect("a table");
        // It still waits for the old primary, and what it has is what it had.
        let gauge = watched.snapshot().host(HostId(2)).expect("the standby").gauge.clone();
        assert!(gauge.proven() < promoted && gauge.proven() > Moment::NEVER);
        let conninfo = format!(
            "host={} port={} user=postgres password={}",
            first.socket_folder(),
            first.port(),
            first.password()
        );
        let follow = format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'");
        reader.batch_execute(&follow).await.expect("a setting");
        reader.batch_execute("SELECT pg_reload_conf()").await.expect("it is read");
        // The probing user may not see the receiver, but everybody sees a restart point.
        while reader.query("SELECT FROM pg_class WHERE relname = 't'", &[]).await.expect("rows").is_empty() {}
        writer.batch_execute("CHECKPOINT").await.expect("a checkpoint");
        let moment = Moment::now();
        let restart_points = async {
            loop {
                reader.batch_execute("CHECKPOINT").await.expect("a restart point");
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = watched.until_proven(HostId(2), moment) => {}
            () = restart_points => {}
        }
    });
}
