//! Sessions and their pool against a scripted server on a Unix socket: what each side sees, and where the server
//! connection is afterwards.

use super::end::End;
use super::handle::{Handle, Signal, Timer};
use super::{Leave, Session};
use crate::auth::server_login::Credential;
use crate::balance::{Departures, Loads};
use crate::config::settings::{
    CommitOutcome, HostAddress, HostOrder, Keepalive, LostTransactions, PoolMode, ServerTls, Timeouts,
    TlsMode, TlsVersion,
};
use crate::ids::{PoolKey, SessionId, WorkerId};
use crate::mailbox::{Drain, Mailboxes};
use crate::pool::budget::{Budget, Cap};
use crate::pool::lease::{self, Lease, Unanswered};
use crate::pool::{Pool, PoolError, PoolPlan, Surroundings, ledger};
use crate::relay::{ClientSide, RelayLimits, Shared, Unnamed};
use crate::server::dial::{DialPlan, Local};
use crate::server::exchange::simple_query;
use crate::stream::tls::Connectors;
use crate::stream::{Buffers, Socket, Stream};
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode::{self, Severity};
use hawser_wire::tag::{backend, frontend};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, spawn_local, yield_now};

const LONG: Duration = Duration::from_secs(3600);
const IDLE: &[u8] = encode::ready_for_query(TransactionStatus::Idle);
const INSIDE: &[u8] = encode::ready_for_query(TransactionStatus::InTransaction);
const COPY_IN: &[u8] = &[backend::COPY_IN_RESPONSE, 0, 0, 0, 7, 0, 0, 0];

/// A pool of one connection, and the socket where its server listens.
struct Scene {
    pool: Rc<Pool>,
    shared: Rc<Shared>,
    departures: Rc<Departures>,
    listener: UnixListener,
    folder: std::path::PathBuf,
}

impl Scene {
    fn new(mode: PoolMode, reset_query: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("hawser-scripted-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join(".s.PGSQL.1")).unwrap();
        let tls = ServerTls {
            mode: TlsMode::Disable,
            ca_file: None,
            cert_file: None,
            key_file: None,
            min_version: TlsVersion::Tls12,
            direct: false,
        };
        let plan = PoolPlan {
            dial: DialPlan {
                hosts: vec![HostAddress::Unix(folder.clone(), 1)],
                order: HostOrder::InOrder,
                target: crate::config::settings::Target::Any,
                preferred: Arc::default(),
                tls: Connectors::default().connector(&tls).unwrap(),
                user: "u".into(),
                dbname: "d".into(),
                credential: Credential::None,
                parameters: vec![],
                connect_query: None,
                keepalive: Keepalive::default(),
                timeout: LONG,
                lifetime: None,
            },
            mode,
            commit_outcome: CommitOutcome::Unknown,
            lost_transactions: LostTransactions::Fail,
            size: 1,
            min_size: 0,
            reserve_size: 0,
            reserve_timeout: LONG,
            order: ledger::Order::Freshest,
            idle_timeout: None,
            lifetime_jitter: 0.0,
            check_query: String::new(),
            check_delay: LONG,
            reset_query: reset_query.into(),
            reset_always: false,
            login_retry: LONG,
            max_held: 100,
            limits: RelayLimits {
                max_message: 1 << 20,
                max_client_statements: 10,
                max_server_statements: 10,
                notify_queue: 1 << 16,
            },
        };
        let shared = Rc::new(Shared {
            buffers: Buffers::default(),
            local: Local::default(),
            registry: Arc::default(),
            endings: Arc::default(),
            proven: Default::default(),
            desk: crate::notify::Desk::new(WorkerId(0), Mailboxes::new(vec![])),
            shapes: crate::shapes::Shapes::new(10),
            harmless: crate::relay::Harmless::default(),
        });
        let surroundings = Surroundings {
            worker: WorkerId(0),
            mailboxes: Mailboxes::new(vec![]),
            shared: shared.clone(),
            topology: Default::default(),
        };
        let budget = Budget::new(1, Cap::new(usize::MAX), Cap::new(usize::MAX), 1);
        let key = PoolKey { database: "d".into(), user: "u".into(), host: Default::default() };
        Self {
            pool: Pool::new(key, plan, budget, Default::default(), Rc::new(surroundings)),
            shared,
            departures: Rc::new(Departures::new(0, Loads::new(2))),
            listener,
            folder,
        }
    }

    /// A client that is logged in: its end of the connection, and its session.
    fn client(&self) -> (UnixStream, Rc<Handle>, Session) {
        let (near, far) = UnixStream::pair().unwrap();
        let handle = Handle::new(SessionId(1), Box::new([0; 4]));
        let client = ClientSide {
            session: handle.id,
            stream: Stream::plain(Socket::Unix(near)),
            input: None,
            statements: Default::default(),
            unnamed: Unnamed::default(),
            state: crate::relay::SessionState::new(self.shared.local.interner.intern(Default::default())),
            listener: None,
        };
        let timeouts = Timeouts {
            login: LONG,
            query_wait: Some(LONG),
            query_wait_notify: None,
            hold: None,
            query: None,
            transaction: None,
            idle_transaction: None,
            client_idle: None,
            cancel_wait: LONG,
            shutdown: LONG,
        };
        let lent = (self.shared.clone(), self.departures.clone());
        let session = Session::new(client, self.pool.clone(), lent, handle.clone(), timeouts, (None, None));
        (far, handle, session)
    }

    fn serve(&self) -> (UnixStream, Rc<Handle>, JoinHandle<End>) {
        let (far, handle, session) = self.client();
        let end = async {
            match session.run().await {
                Leave::Over(end) => end,
                Leave::Moves(to, ..) => panic!("goes on on worker {}", to.0),
            }
        };
        (far, handle, spawn_local(end))
    }

    /// Somebody of ours asks for a connection.
    fn borrow(&self) -> JoinHandle<Result<Lease, Rc<PoolError>>> {
        let pool = self.pool.clone();
        spawn_local(async move { lease::borrow(&pool).await })
    }

    /// The server takes a connection and lets it log in.
    async fn accept(&self) -> UnixStream {
        self.accept_and_say(&[]).await
    }

    /// The same, with this right behind its first ReadyForQuery.
    async fn accept_and_say(&self, unasked: &[u8]) -> UnixStream {
        let (mut server, _) = self.listener.accept().await.unwrap();
        let length = server.read_u32().await.unwrap();
        read(&mut server, length as usize - 4).await;
        let mut welcome = Vec::new();
        encode::authentication(&mut welcome, 0, &[]);
        encode::backend_key_data(&mut welcome, 5, &[1, 2, 3, 4]);
        welcome.extend_from_slice(IDLE);
        welcome.extend_from_slice(unasked);
        server.write_all(&welcome).await.unwrap();
        server
    }

    /// Lets every task go as far as it can.
    async fn settle(&self) {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    /// Waits until the connection is idle in the pool.
    async fn at_rest(&self) {
        while self.pool.counts().idle == 0 {
            yield_now().await;
        }
        let counts = self.pool.counts();
        assert_eq!((counts.idle, counts.leased, counts.opening, counts.resetting), (1, 0, 0, 0));
        assert_eq!(self.pool.budget().open(), 1);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn scene(mode: PoolMode, reset_query: &str, script: impl AsyncFnOnce(Scene)) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async { script(Scene::new(mode, reset_query)).await });
}

async fn read(from: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn sees(who: &mut UnixStream, expected: &[u8]) {
    let seen = read(who, expected.len()).await;
    assert_eq!(seen.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

fn query(sql: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode::query(&mut out, sql);
    out
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::message(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

fn answer(tag: &str, ready: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::command_complete(&mut out, tag);
    out.extend_from_slice(ready);
    out
}

#[test]
fn a_refused_client_that_does_not_read_is_granted_no_connection() {
    scene(PoolMode::Transaction, "DISCARD ALL", async |scene| {
        let borrowed = scene.borrow();
        let _server = scene.accept().await;
        let lease = borrowed.await.unwrap().unwrap();
        let (mut far, handle, session) = scene.client();
        let Socket::Unix(near) = session.client.stream.socket() else { unreachable!("made above") };
        near.writable().await.unwrap();
        while near.try_write(&[0; 4096]).is_ok() {}
        far.write_all(&query("SELECT 1")).await.unwrap();
        let _session = spawn_local(session.run());
        while scene.pool.counts().waiting == 0 {
            yield_now().await;
        }
        handle.raise(Signal::TimeOut(Timer::QueryWait));
        scene.settle().await;
        lease.check_in();
        scene.at_rest().await;
    });
}

#[test]
fn a_session_that_keeps_its_connection_goes_when_its_query_is_over_and_leaves_it_clean() {
    for (mode, sql, tag) in
        [(PoolMode::Transaction, "LISTEN a", "LISTEN"), (PoolMode::Session, "SELECT 1", "SELECT 1")]
    {
        scene(mode, "DISCARD ALL", async |scene| {
            let (mut client, handle, session) = scene.serve();
            client.write_all(&query(sql)).await.unwrap();
            let mut server = scene.accept().await;
            sees(&mut server, &query(sql)).await;
            handle.raise(Signal::Drain(Drain::WaitForTransactions));
            scene.settle().await;
            server.write_all(&answer(tag, IDLE)).await.unwrap();
            sees(&mut client, &answer(tag, IDLE)).await;
            assert_eq!(session.await.unwrap(), End::Drained(Drain::WaitForTransactions));
            sees(&mut server, &query("DISCARD ALL")).await;
            server.write_all(&answer("DISCARD ALL", IDLE)).await.unwrap();
            scene.at_rest().await;
        });
    }
}

#[test]
fn a_reset_query_that_leaves_something_is_followed_by_what_removes_it() {
    scene(PoolMode::Session, "DISCARD TEMP", async |scene| {
        let (mut client, _, session) = scene.serve();
        client.write_all(&query("SELECT 1")).await.unwrap();
        let mut server = scene.accept().await;
        sees(&mut server, &query("SELECT 1")).await;
        server.write_all(&answer("SELECT 1", IDLE)).await.unwrap();
        sees(&mut client, &answer("SELECT 1", IDLE)).await;
        drop(client);
        assert_eq!(session.await.unwrap(), End::ClientLeft);
        sees(&mut server, &query("DISCARD TEMP")).await;
        server.write_all(&answer("DISCARD TEMP", IDLE)).await.unwrap();
        sees(&mut server, &query("SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL")).await;
        server.write_all(&answer("DEALLOCATE ALL", IDLE)).await.unwrap();
        scene.at_rest().await;
    });
}

#[test]
fn a_pinned_session_without_a_reset_query_takes_its_connection_along() {
    scene(PoolMode::Transaction, "", async |scene| {
        let (mut client, _, session) = scene.serve();
        client.write_all(&query("LISTEN a")).await.unwrap();
        let mut server = scene.accept().await;
        sees(&mut server, &query("LISTEN a")).await;
        server.write_all(&answer("LISTEN", IDLE)).await.unwrap();
        sees(&mut client, &answer("LISTEN", IDLE)).await;
        drop(client);
        assert_eq!(session.await.unwrap(), End::ClientLeft);
        sees(&mut server, encode::TERMINATE).await;
        assert_eq!(scene.pool.budget().open(), 0);
    });
}

#[test]
fn a_client_that_vanishes_in_a_copy_leaves_a_connection_that_can_be_used() {
    scene(PoolMode::Transaction, "DISCARD ALL", async |scene| {
        let (mut client, _, session) = scene.serve();
        client.write_all(&query("COPY t FROM STDIN")).await.unwrap();
        let mut server = scene.accept().await;
        sees(&mut server, &query("COPY t FROM STDIN")).await;
        server.write_all(COPY_IN).await.unwrap();
        sees(&mut client, COPY_IN).await;
        drop(client);
        assert_eq!(session.await.unwrap(), End::ClientLeft);
        let (mut cancel, _) = scene.listener.accept().await.unwrap();
        sees(&mut cancel, &[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 5, 1, 2, 3, 4]).await;
        drop(cancel);
        sees(&mut server, encode::COPY_FAIL).await;
        let mut failed = Vec::new();
        encode::error(&mut failed, Severity::Error, "57014", "COPY from stdin failed", None);
        server.write_all(&[&failed, IDLE].concat()).await.unwrap();
        scene.at_rest().await;
    });
}

#[test]
fn data_of_a_copy_that_is_over_needs_no_server() {
    scene(PoolMode::Transaction, "DISCARD ALL", async |scene| {
        let (mut client, _, _session) = scene.serve();
        let late =
            [message(frontend::COPY_DATA, &[b'1'; 100_000]), message(frontend::COPY_DONE, b"")].concat();
        client.write_all(&[late, query("SELECT 1")].concat()).await.unwrap();
        let mut server = scene.accept().await;
        sees(&mut server, &query("SELECT 1")).await;
        server.write_all(&answer("SELECT 1", IDLE)).await.unwrap();
        sees(&mut client, &answer("SELECT 1", IDLE)).await;
        scene.at_rest().await;
    });
}

#[test]
fn a_begin_that_waited_goes_before_an_extended_batch_and_is_answered_once() {
    scene(PoolMode::Transaction, "DISCARD ALL", async |scene| {
        let (mut client, _, _session) = scene.serve();
        client.write_all(&query("BEGIN")).await.unwrap();
        sees(&mut client, &answer("BEGIN", INSIDE)).await;
        let batch = [message(frontend::DESCRIBE, b"P\0"), encode::SYNC.to_vec()].concat();
        client.write_all(&batch).await.unwrap();
        let mut server = scene.accept().await;
        sees(&mut server, &[query("BEGIN"), batch].concat()).await;
        let replies = [encode::NO_DATA, INSIDE].concat();
        server.write_all(&[answer("BEGIN", INSIDE), replies.clone()].concat()).await.unwrap();
        sees(&mut client, &replies).await;
        client.write_all(&query("COMMIT")).await.unwrap();
        sees(&mut server, &query("COMMIT")).await;
        server.write_all(&answer("COMMIT", IDLE)).await.unwrap();
        sees(&mut client, &answer("COMMIT", IDLE)).await;
        scene.at_rest().await;
    });
}

#[test]
fn a_client_that_leaves_after_a_begin_that_waited_has_used_no_connection() {
    scene(PoolMode::Transaction, "DISCARD ALL", async |scene| {
        let (mut client, _, session) = scene.serve();
        client.write_all(&query("BEGIN")).await.unwrap();
        sees(&mut client, &answer("BEGIN", INSIDE)).await;
        client.write_all(encode::TERMINATE).await.unwrap();
        assert_eq!(session.await.unwrap(), End::ClientLeft);
        assert_eq!(scene.pool.budget().open(), 0);
    });
}

#[test]
fn a_time_out_of_the_queue_does_not_reach_a_client_that_was_granted_a_connection_first() {
    scene(PoolMode::Transaction, "DISCARD ALL", async |scene| {
        let borrowed = scene.borrow();
        let mut server = scene.accept().await;
        let lease = borrowed.await.unwrap().unwrap();
        let (mut client, handle, _session) = scene.serve();
        client.write_all(&query("SELECT 1")).await.unwrap();
        while scene.pool.counts().waiting == 0 {
            yield_now().await;
        }
        // Both before the session looks again.
        lease.check_in();
        handle.check_deadline(Instant::now() + 2 * LONG);
        sees(&mut server, &query("SELECT 1")).await;
        server.write_all(&answer("SELECT 1", IDLE)).await.unwrap();
        sees(&mut client, &answer("SELECT 1", IDLE)).await;
        scene.at_rest().await;
    });
}

#[test]
fn a_server_that_lets_one_in_and_stops_at_once_is_quoted() {
    scene(PoolMode::Transaction, "DISCARD ALL", async |scene| {
        let borrowed = scene.borrow();
        let mut fatal = Vec::new();
        encode::error(&mut fatal, Severity::Fatal, "57P01", "terminating connection", None);
        let _server = scene.accept_and_say(&fatal).await;
        let Err(error) = borrowed.await.unwrap() else { panic!("a connection that has ended") };
        assert_eq!(error.to_string(), "terminating connection (57P01)");
    });
}

#[test]
fn what_a_server_reports_behind_its_welcome_is_heard() {
    scene(PoolMode::Transaction, "DISCARD ALL", async |scene| {
        let borrowed = scene.borrow();
        let mut unasked = Vec::new();
        encode::parameter_status(&mut unasked, "in_hot_standby", "on");
        encode::error(&mut unasked, Severity::Notice, "00000", "about to be promoted", None);
        encode::parameter_status(&mut unasked, "in_hot_standby", "off");
        let _server = scene.accept_and_say(&unasked).await;
        let mut lease = borrowed.await.unwrap().unwrap();
        let welcome = lease.member().unwrap().server.welcome.clone();
        assert_eq!(*welcome, [("in_hot_standby".to_owned(), "off".to_owned())]);
        lease.check_in();
        scene.at_rest().await;
    });
}

#[test]
fn a_question_over_which_the_server_is_lost_is_asked_again_and_no_more_than_twice() {
    for losses in [1, 2, 3] {
        scene(PoolMode::Transaction, "DISCARD ALL", async |scene| {
            let pool = scene.pool.clone();
            let asked = spawn_local(async move {
                lease::ask(&pool, async |member| simple_query(&mut member.server, "SELECT 1").await).await
            });
            for _ in 0..losses {
                let mut server = scene.accept().await;
                sees(&mut server, &query("SELECT 1")).await;
            }
            if losses < 3 {
                let mut server = scene.accept().await;
                sees(&mut server, &query("SELECT 1")).await;
                server.write_all(&answer("SELECT 1", IDLE)).await.unwrap();
                asked.await.unwrap().unwrap();
                scene.at_rest().await;
            } else {
                let Err(Unanswered::NoServer(error)) = asked.await.unwrap() else {
                    panic!("nobody answered")
                };
                assert!(error.to_string().starts_with("lost the connection to the server"), "{error}");
                assert_eq!(scene.pool.budget().open(), 0);
            }
        });
    }
}
