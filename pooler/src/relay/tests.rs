//! The relay between two scripted peers on socket pairs: what arrives on each side, byte for byte.

use super::*;
use crate::parameters::ParameterSet;
use crate::pins::PinReason;
use crate::server::connection::{CancelKey, Cancels};
use crate::server::identity::Identity;
use crate::statements::{ClientStatements, Form, Presence, ServerStatements, Statement, StatementKey};
use crate::stream::buffer::BLOCK;
use crate::stream::{Socket, SocketAddress, Stream};
use hawser_wire::encode::{self, ServerName, Severity};
use hawser_wire::frame::{self, HEADER_LENGTH};
use hawser_wire::reply_queue::ReplyQueue;
use hawser_wire::tag::{backend, frontend};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A relay and the far ends of its two connections.
struct Scene {
    relay: Relay,
    client: ClientSide,
    server: ServerConnection,
    shared: Shared,
    far_client: UnixStream,
    far_server: UnixStream,
    /// The server is a standby.
    confined: bool,
    /// It may turn out that it cannot serve the batch.
    guess: bool,
    /// The server connection could be given back.
    at_rest: bool,
    /// Why the relay cannot go on.
    stopped: Option<Stop>,
}

const LIMITS: RelayLimits = RelayLimits {
    max_message: 1 << 20,
    max_client_statements: 100,
    max_server_statements: 2,
    notify_queue: 1 << 16,
};

impl Scene {
    fn new() -> Self {
        let (near_client, far_client) = UnixStream::pair().unwrap();
        let (near_server, far_server) = UnixStream::pair().unwrap();
        let shared = Shared {
            buffers: Buffers::default(),
            local: Local::default(),
            registry: Arc::default(),
            endings: Arc::default(),
            proven: Proven::default(),
            desk: Desk::new(crate::ids::WorkerId(0), crate::mailbox::Mailboxes::new(vec![])),
            shapes: crate::shapes::Shapes::new(10),
            harmless: super::Harmless::default(),
        };
        let settings = shared.local.interner.intern(ParameterSet::default());
        let client = ClientSide {
            session: SessionId(7),
            stream: Stream::plain(Socket::Unix(near_client)),
            input: None,
            statements: ClientStatements::default(),
            unnamed: Unnamed::default(),
            state: SessionState::new(settings.clone()),
            listener: None,
        };
        let now = Instant::now();
        let server = ServerConnection {
            stream: Stream::plain(Socket::Unix(near_server)),
            queue: ReplyQueue::default(),
            status: TransactionStatus::Idle,
            settings,
            doubt: Doubt::None,
            base: Arc::default(),
            sequences: None,
            statements: ServerStatements::default(),
            unnamed: None,
            listens: false,
            cancel_key: Rc::new(CancelKey {
                address: SocketAddress::Unix("/".into()),
                pid: 1,
                secret: Arc::new([0; 4]),
            }),
            welcome: Rc::default(),
            cancels: Rc::<Cancels>::default(),
            opened: now,
            expires: None,
            released: now,
            generation: 0,
            tainted: false,
            identity: Identity::Unknown,
        };
        Self {
            relay: Relay::new(LIMITS, false),
            client,
            server,
            shared,
            far_client,
            far_server,
            confined: false,
            guess: false,
            at_rest: true,
            stopped: None,
        }
    }

    /// Runs relays beside `task` until that is done: one after the other, each from when the client says something
    /// to when everything is answered, as a session does. One that stops for another reason is the last.
    async fn beside<T>(&mut self, task: impl Future<Output = T>) -> T {
        let mut task = pin!(task);
        poll_fn(|cx| {
            if let Poll::Ready(done) = task.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            let _ = self.step(cx);
            task.as_mut().poll(cx)
        })
        .await
    }

    /// Goes on as far as possible. Ready when the relay has stopped for good.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.stopped.is_none() {
            if self.at_rest {
                if self.client.input.is_none() {
                    std::task::ready!(self.client.stream.poll_readable(cx)).unwrap();
                    let input = self.client.input.insert(self.shared.buffers.take());
                    std::task::ready!(self.client.stream.poll_read(cx, input)).unwrap();
                }
                (self.relay, self.at_rest) = (Relay::new(LIMITS, false), false);
                (self.relay.confined, self.relay.guess) = (self.confined, self.guess);
            }
            match std::task::ready!(self.relay.poll(cx, &mut self.client, &mut self.server, &self.shared)) {
                Ok(()) => self.at_rest = true,
                Err(stop) => self.stopped = Some(stop),
            }
        }
        Poll::Ready(())
    }

    /// Runs the relay until it stops for good.
    async fn stop(&mut self) -> Stop {
        poll_fn(|cx| self.step(cx)).await;
        self.stopped.take().unwrap()
    }

    /// The client sends `bytes`, and exactly `expected` reaches the server.
    async fn client_says(&mut self, bytes: &[u8], expected: &[u8]) {
        let (mut client, mut server) = self.take_far();
        let seen = self.beside(async {
            client.write_all(bytes).await.unwrap();
            read(&mut server, expected.len()).await
        });
        let seen = seen.await;
        (self.far_client, self.far_server) = (client, server);
        assert_eq!(text(&seen), text(expected), "what the server sees");
    }

    /// The server sends `bytes`, and exactly `expected` reaches the client.
    async fn server_says(&mut self, bytes: &[u8], expected: &[u8]) {
        let (mut client, mut server) = self.take_far();
        let seen = self.beside(async {
            server.write_all(bytes).await.unwrap();
            read(&mut client, expected.len()).await
        });
        let seen = seen.await;
        (self.far_client, self.far_server) = (client, server);
        assert_eq!(text(&seen), text(expected), "what the client sees");
    }

    /// The server sends `bytes`, on which exactly `expected` reaches it.
    async fn server_hears(&mut self, bytes: &[u8], expected: &[u8]) {
        let (client, mut server) = self.take_far();
        let seen = self.beside(async {
            server.write_all(bytes).await.unwrap();
            read(&mut server, expected.len()).await
        });
        let seen = seen.await;
        (self.far_client, self.far_server) = (client, server);
        assert_eq!(text(&seen), text(expected), "what the server sees");
    }

    /// The client sends `bytes`, which are answered without the server: `expected` reaches the client.
    async fn client_is_told(&mut self, bytes: &[u8], expected: &[u8]) {
        let (mut client, server) = self.take_far();
        let seen = self.beside(async {
            client.write_all(bytes).await.unwrap();
            read(&mut client, expected.len()).await
        });
        let seen = seen.await;
        (self.far_client, self.far_server) = (client, server);
        assert_eq!(text(&seen), text(expected), "what the client sees");
    }

    fn take_far(&mut self) -> (UnixStream, UnixStream) {
        let (spare_client, spare_server) = UnixStream::pair().unwrap();
        (
            std::mem::replace(&mut self.far_client, spare_client),
            std::mem::replace(&mut self.far_server, spare_server),
        )
    }

    /// The statement of a Parse without types.
    fn statement(&self, sql: &str) -> Arc<Statement> {
        let meaning = Arc::from("");
        let key = StatementKey { form: Form::Parse, text: sql.as_bytes(), types: &[0, 0], meaning: &meaning };
        self.shared.registry.statement(key)
    }

    /// The statement is known to the server connection, from earlier times.
    fn server_has(&mut self, sql: &str) -> Arc<Statement> {
        let statement = self.statement(sql);
        self.server.statements.prepare(statement.clone(), 0, LIMITS.max_server_statements);
        self.server.statements.settle(statement.id);
        statement
    }

    fn has(&mut self, statement: &Statement) -> bool {
        self.server.statements.touch(statement.id) != Presence::Missing
    }
}

async fn read(from: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// One message.
async fn one(from: &mut UnixStream) -> Vec<u8> {
    let mut message = read(from, HEADER_LENGTH).await;
    let rest = frame::header(&message).unwrap().unwrap().total() - HEADER_LENGTH;
    message.extend(read(from, rest).await);
    message
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn scene(script: impl AsyncFnOnce(Scene)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { script(Scene::new()).await });
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::message(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

fn query(sql: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode::query(&mut out, sql);
    out
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode::parse(&mut out, name.as_bytes(), sql.as_bytes(), &[0, 0]);
    out
}

fn close(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode::statement_target(&mut out, frontend::CLOSE, name.as_bytes());
    out
}

fn bind(name: &str) -> Vec<u8> {
    message(frontend::BIND, &[b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat())
}

fn execute() -> Vec<u8> {
    message(frontend::EXECUTE, b"\0\0\0\0\0")
}

fn ours(statement: &Statement) -> String {
    String::from_utf8(ServerName::new(statement.id.0).as_bytes().to_vec()).unwrap()
}

fn error() -> Vec<u8> {
    let mut out = Vec::new();
    encode::error(&mut out, Severity::Error, "22012", "division by zero", None);
    out
}

fn complete(tag: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode::command_complete(&mut out, tag);
    out
}

const BOUND: &[u8] = &[backend::BIND_COMPLETE, 0, 0, 0, 4];
const COPY_IN: &[u8] = &[backend::COPY_IN_RESPONSE, 0, 0, 0, 7, 0, 0, 0];
const IDLE: &[u8] = encode::ready_for_query(TransactionStatus::Idle);
const INSIDE: &[u8] = encode::ready_for_query(TransactionStatus::InTransaction);

#[test]
fn a_close_that_arrives_alone_is_answered_once_and_taken_out_of_the_input() {
    scene(async |mut scene| {
        scene.client_is_told(&close("s"), encode::CLOSE_COMPLETE).await;
        assert!(scene.at_rest);
        assert!(scene.client.input.is_none(), "the next relay would answer it again");
    });
}

#[test]
fn a_parse_of_a_known_statement_may_arrive_alone_in_a_transaction() {
    scene(async |mut scene| {
        let known = scene.server_has("SELECT 1");
        scene.client_says(&query("BEGIN"), &query("BEGIN")).await;
        scene
            .server_says(
                &[complete("BEGIN"), INSIDE.to_vec()].concat(),
                &[complete("BEGIN"), INSIDE.to_vec()].concat(),
            )
            .await;
        scene.client_is_told(&parse("s", "SELECT 1"), encode::PARSE_COMPLETE).await;
        scene
            .client_says(
                &[bind("s"), encode::SYNC.to_vec()].concat(),
                &[bind(&ours(&known)), encode::SYNC.to_vec()].concat(),
            )
            .await;
    });
}

#[test]
fn a_flush_or_sync_with_a_body_never_reaches_a_server() {
    // The server would answer with an error and skip everything up to a Sync, which nobody would know of.
    for tag in [frontend::FLUSH, frontend::SYNC] {
        scene(async |mut scene| {
            let bad = [query("SELECT 1"), message(tag, b"x")].concat();
            let (mut client, server) = scene.take_far();
            client.write_all(&bad).await.unwrap();
            let end = scene.stop().await;
            assert!(matches!(end, Stop::Violation(Violation::Malformed(_))), "{end:?}");
            drop((client, server));
        });
    }
}

#[test]
fn a_simple_copy_leaves_nothing_owed() {
    scene(async |mut scene| {
        scene.client_says(&query("COPY t FROM STDIN"), &query("COPY t FROM STDIN")).await;
        scene.server_says(COPY_IN, COPY_IN).await;
        let data = [message(frontend::COPY_DATA, b"1\n"), message(frontend::COPY_DONE, b"")].concat();
        scene.client_says(&data, &data).await;
        let done = [complete("COPY 1"), IDLE.to_vec()].concat();
        scene.server_says(&done, &done).await;
        assert!(scene.server.queue.is_settled());
        assert!(scene.at_rest);
    });
}

#[test]
fn a_simple_copy_sent_in_one_go_that_fails_at_once_leaves_nothing_owed() {
    scene(async |mut scene| {
        let all = [
            query("COPY t FROM STDIN"),
            message(frontend::COPY_DATA, b"1\n"),
            message(frontend::COPY_DONE, b""),
        ]
        .concat();
        scene.client_says(&all, &all).await;
        let failed = [error(), IDLE.to_vec()].concat();
        scene.server_says(&failed, &failed).await;
        assert!(scene.server.queue.is_settled());
        assert!(scene.at_rest);
    });
}

#[test]
fn a_statement_whose_eviction_was_skipped_is_still_known_to_be_there() {
    scene(async |mut scene| {
        let (first, second) = (scene.server_has("SELECT 1"), scene.server_has("SELECT 2"));
        let all = [execute(), parse("s", "SELECT 3"), encode::SYNC.to_vec()].concat();
        let third = scene.statement("SELECT 3");
        let sent = [execute(), close(&ours(&first)), parse(&ours(&third), "SELECT 3"), encode::SYNC.to_vec()]
            .concat();
        scene.client_says(&all, &sent).await;
        let failed = [error(), IDLE.to_vec()].concat();
        scene.server_says(&failed, &failed).await;
        assert!(scene.at_rest);
        assert!(scene.has(&first) && scene.has(&second), "the server skipped the Close");
        assert!(!scene.has(&third));
    });
}

#[test]
fn a_known_statement_that_is_parsed_while_the_server_skips_is_still_known_to_be_there() {
    scene(async |mut scene| {
        let known = scene.server_has("SELECT 1");
        scene.client_says(&execute(), &execute()).await;
        scene.server_says(&error(), &error()).await;
        let late = [parse("s", "SELECT 1"), encode::SYNC.to_vec()].concat();
        scene.client_says(&late, encode::SYNC).await;
        scene.server_says(IDLE, IDLE).await;
        assert!(scene.at_rest);
        assert!(scene.has(&known), "the server has done nothing to it");
        assert!(scene.client.statements.named(b"s").is_none());
    });
}

/// A notification before a reply that is ours; `passes` if it reaches the client.
async fn notification_before_a_reply(scene: &mut Scene, passes: bool) {
    let statement = scene.statement("SELECT 1");
    scene.client.statements.define(b"s", statement.clone());
    let batch = [bind("s"), encode::SYNC.to_vec()].concat();
    let sent =
        [parse(&ours(&statement), "SELECT 1"), bind(&ours(&statement)), encode::SYNC.to_vec()].concat();
    scene.client_says(&batch, &sent).await;
    let notification = message(backend::NOTIFICATION_RESPONSE, b"\0\0\0\x01channel\0hello\0");
    let replies = [&notification, encode::PARSE_COMPLETE, BOUND, IDLE].concat();
    let heard: &[u8] = if passes { &notification } else { b"" };
    scene.server_says(&replies, &[heard, BOUND, IDLE].concat()).await;
}

#[test]
fn a_notification_is_not_lost_before_a_reply_that_is_ours() {
    scene(async |mut scene| {
        scene.client.state.pins.add(PinReason::Listen);
        notification_before_a_reply(&mut scene, true).await;
        assert!(!scene.at_rest);
    });
}

#[test]
fn a_notification_from_a_server_connection_that_others_used_is_not_the_clients() {
    scene(async |mut scene| {
        notification_before_a_reply(&mut scene, false).await;
        assert!(scene.at_rest);
    });
}

#[test]
fn a_server_connection_forgets_its_channels_before_it_is_given_back() {
    scene(async |mut scene| {
        scene.server.listens = true;
        let asked = message(frontend::QUERY, b"SELECT 1\0");
        scene.client_says(&asked, &asked).await;
        let done = [message(backend::COMMAND_COMPLETE, b"SELECT 1\0"), IDLE.to_vec()].concat();
        scene.server_says(&done, &done).await;
        assert!(!scene.at_rest && !scene.server.listens);
        // What the client says meanwhile waits.
        scene.client_says(&asked, &message(frontend::QUERY, b"UNLISTEN *\0")).await;
        let forgotten = [message(backend::COMMAND_COMPLETE, b"UNLISTEN\0"), IDLE.to_vec()].concat();
        scene.server_says(&forgotten, b"").await;
        scene.client_says(b"", &asked).await;
    });
}

#[test]
fn a_question_that_a_late_cancel_has_hit_is_asked_again_at_once() {
    scene(async |mut scene| {
        let (mut client, mut server) = scene.take_far();
        scene
            .beside(async {
                client.write_all(&query("SELECT pg_advisory_lock(1)")).await.unwrap();
                one(&mut server).await;
                server.write_all(&[complete("SELECT 1"), IDLE.to_vec()].concat()).await.unwrap();
                let question = one(&mut server).await;
                server.write_all(&[error(), IDLE.to_vec()].concat()).await.unwrap();
                assert_eq!(one(&mut server).await, question);
                server.write_all(&[complete("SELECT 0"), IDLE.to_vec()].concat()).await.unwrap();
                client.write_all(&query("SELECT 2")).await.unwrap();
                assert_eq!(one(&mut server).await, query("SELECT 2"));
            })
            .await;
        assert!(scene.client.state.pins.is_empty());
    });
}

#[test]
fn a_statement_gets_no_name_of_the_clients_while_the_server_tells_whether_any_is_left_there() {
    scene(async |mut scene| {
        scene.client.state.literal = true;
        scene.client.state.pins.add(PinReason::OwnNames);
        let statement = scene.server_has("SELECT 1");
        let (mut client, mut server) = scene.take_far();
        let told = [complete("SELECT 1"), IDLE.to_vec()].concat();
        let heard = scene
            .beside(async {
                client.write_all(&query("SELECT pg_advisory_unlock(1)")).await.unwrap();
                one(&mut server).await;
                server.write_all(&told).await.unwrap();
                read(&mut client, told.len()).await;
                one(&mut server).await;
                let batch = [parse("s", "SELECT 1"), bind("s"), encode::SYNC.to_vec()].concat();
                client.write_all(&batch).await.unwrap();
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                server.write_all(&[complete("SELECT 0"), IDLE.to_vec()].concat()).await.unwrap();
                one(&mut server).await
            })
            .await;
        assert_eq!(heard, bind(&ours(&statement)));
        assert!(scene.client.state.pins.is_empty() && !scene.client.state.literal);
    });
}

#[test]
fn what_is_set_is_asked_of_a_server_that_has_the_clients_settings() {
    scene(async |mut scene| {
        let mut wanted = ParameterSet::default();
        wanted.put("work_mem", "1MB");
        scene.client.state = SessionState::new(scene.shared.local.interner.intern(wanted));
        let (mut client, mut server) = scene.take_far();
        let set = scene
            .beside(async {
                client.write_all(&query("RESET ALL; SELECT pg_advisory_lock(1)")).await.unwrap();
                let done = [complete("SET"), IDLE.to_vec()].concat();
                one(&mut server).await;
                server.write_all(&done).await.unwrap();
                one(&mut server).await;
                server
                    .write_all(&[complete("RESET"), complete("SELECT 1"), IDLE.to_vec()].concat())
                    .await
                    .unwrap();
                one(&mut server).await
            })
            .await;
        assert_eq!(set, query("SET \"work_mem\" TO '1MB';"));
    });
}

#[test]
fn who_was_shown_its_statements_on_a_standby_is_free_again() {
    scene(async |mut scene| {
        scene.confined = true;
        let statement = scene.statement("SELECT 1");
        scene.client.statements.define(b"s", statement);
        let looks = query("SELECT name FROM pg_prepared_statements");
        let away = query("DEALLOCATE ALL");
        let gone = [complete("DEALLOCATE ALL"), IDLE.to_vec()].concat();
        let laid_open = [
            gone.clone(),
            encode::PARSE_COMPLETE.to_vec(),
            IDLE.to_vec(),
            complete("SELECT 1"),
            IDLE.to_vec(),
        ];
        let (mut client, mut server) = scene.take_far();
        let heard = scene
            .beside(async {
                client.write_all(&looks).await.unwrap();
                let mut heard = vec![];
                for _ in 0..4 {
                    heard.push(one(&mut server).await);
                }
                server.write_all(&laid_open.concat()).await.unwrap();
                heard.push(one(&mut server).await);
                server.write_all(&gone).await.unwrap();
                client.write_all(&query("SELECT 2")).await.unwrap();
                heard.push(one(&mut server).await);
                heard
            })
            .await;
        let parsed = parse("s", "SELECT 1");
        assert_eq!(heard, [away.clone(), parsed, encode::SYNC.to_vec(), looks, away, query("SELECT 2")]);
        assert!(scene.client.state.pins.is_empty());
    });
}

#[test]
fn nobody_stays_on_a_standby_for_the_values_of_sequences() {
    scene(async |mut scene| {
        scene.confined = true;
        scene.server.sequences = Some(scene.client.session);
        for (text, tag) in [("SELECT lastval()", "SELECT 1"), ("COPY t TO STDOUT", "COPY 1")] {
            let asked = query(text);
            scene.client_says(&asked, &asked).await;
            let told = [complete(tag), IDLE.to_vec()].concat();
            scene.server_says(&told, &told).await;
        }
        assert!(scene.client.state.pins.is_empty());
    });
}

#[test]
fn who_left_nobody_knows_what_on_a_standby_goes_on_there() {
    scene(async |mut scene| {
        scene.confined = true;
        let (mut client, mut server) = scene.take_far();
        let told = [complete("SELECT 1"), IDLE.to_vec()].concat();
        let heard = scene
            .beside(async {
                client.write_all(&query("SELECT pg_advisory_lock(1)")).await.unwrap();
                one(&mut server).await;
                server.write_all(&told).await.unwrap();
                read(&mut client, told.len()).await;
                for _ in 0..2 {
                    one(&mut server).await;
                    server.write_all(&[error(), IDLE.to_vec()].concat()).await.unwrap();
                }
                client.write_all(&query("SELECT 2")).await.unwrap();
                one(&mut server).await
            })
            .await;
        assert_eq!(heard, query("SELECT 2"));
        assert!(scene.client.state.pins.has(PinReason::Unverified));
    });
}

#[test]
fn what_a_standby_refuses_behind_a_batch_that_we_answered_is_told() {
    scene(async |mut scene| {
        (scene.confined, scene.guess) = (true, true);
        scene.server.status = TransactionStatus::InTransaction;
        let batch = [close("s"), encode::SYNC.to_vec()].concat();
        scene.client_says(&batch, encode::SYNC).await;
        let closed = [encode::CLOSE_COMPLETE, INSIDE].concat();
        scene.server_says(INSIDE, &closed).await;
        let update = query("UPDATE t SET i = 1");
        scene.client_says(&update, &update).await;
        let refused = fault("25006", "cannot execute UPDATE in a read-only transaction", "Prevent");
        let refused = [refused, encode::ready_for_query(TransactionStatus::Failed).to_vec()].concat();
        scene.server_says(&refused, &refused).await;
    });
}

#[test]
fn a_reply_that_fills_a_read_to_the_last_byte_leaves_nothing_behind() {
    scene(async |mut scene| {
        scene.confined = true;
        let asked = query("SELECT 1");
        let done = [complete("SELECT 1"), IDLE.to_vec()].concat();
        let row = message(backend::DATA_ROW, &vec![0; BLOCK - HEADER_LENGTH - done.len()]);
        let reply = [row, done].concat();
        assert_eq!(reply.len(), BLOCK);
        scene.client_says(&asked.repeat(2), &asked).await;
        scene.server_says(&reply, &reply).await;
        scene.client_says(b"", &asked).await;
    });
}

#[test]
fn a_long_text_in_a_transaction_on_a_standby_is_waited_for() {
    scene(async |mut scene| {
        scene.confined = true;
        let begin = query("BEGIN READ ONLY");
        scene.client_says(&begin, &begin).await;
        let begun = [complete("BEGIN"), INSIDE.to_vec()].concat();
        scene.server_says(&begun, &begun).await;
        let long = parse("", &format!("SELECT '{}'", "x".repeat(5 * BLOCK)));
        let (start, rest) = long.split_at(2 * BLOCK);
        scene.client_says(start, b"").await;
        scene.client_says(rest, &long).await;
    });
}

#[test]
fn an_unnamed_statement_that_we_sent_again_in_vain_is_still_the_clients() {
    scene(async |mut scene| {
        scene.client.unnamed = Unnamed {
            generation: 1,
            statement: Some(Box::new(UnnamedStatement {
                rest: b"SELECT 1\0\0\0".to_vec(),
                deed: None,
                ending: None,
                shape: None,
            })),
        };
        let batch = [execute(), bind(""), encode::SYNC.to_vec()].concat();
        let sent = [execute(), parse("", "SELECT 1"), bind(""), encode::SYNC.to_vec()].concat();
        scene.client_says(&batch, &sent).await;
        let failed = [error(), IDLE.to_vec()].concat();
        scene.server_says(&failed, &failed).await;
        assert!(scene.at_rest);
        assert!(scene.client.unnamed.statement.is_some() && scene.server.unnamed.is_none());
    });
}

#[test]
fn an_unnamed_statement_that_failed_takes_none_with_it_that_was_parsed_behind_it() {
    scene(async |mut scene| {
        let batch = [parse("", "SELECT nosuch"), encode::SYNC.to_vec(), parse("", "SELECT 1")].concat();
        scene.client_says(&batch, &batch).await;
        let failed = [error(), IDLE.to_vec()].concat();
        scene.server_says(&failed, &failed).await;
        let rest = [bind(""), encode::SYNC.to_vec()].concat();
        scene.client_says(&rest, &rest).await;
    });
}

#[test]
fn nothing_of_ours_goes_into_a_transaction_that_fails_meanwhile() {
    for next in [query("SELECT lastval()"), parse("", "SELECT lastval()")] {
        scene(async |mut scene| {
            let begin = query("BEGIN");
            scene.client_says(&begin, &begin).await;
            let begun = [complete("BEGIN"), INSIDE.to_vec()].concat();
            scene.server_says(&begun, &begun).await;
            let fails = query("SELECT 1 / 0");
            scene.client_says(&[fails.clone(), next.clone()].concat(), &fails).await;
            let failed = [error(), encode::ready_for_query(TransactionStatus::Failed).to_vec()].concat();
            scene.server_says(&failed, &failed).await;
            scene.client_says(b"", &next).await;
        });
    }
}

#[test]
fn more_closes_than_may_be_owed_do_not_keep_the_sync_from_the_server() {
    scene(async |mut scene| {
        let closes = close("s").repeat(MOST_OWED + 10);
        let (mut client, mut server) = scene.take_far();
        let told = scene.beside(async {
            client.write_all(&[bind("none"), closes, encode::SYNC.to_vec()].concat()).await.unwrap();
            // A server holds its replies back until it is asked for them.
            let sent = [bind("none"), encode::FLUSH.to_vec()].concat();
            assert_eq!(text(&read(&mut server, sent.len()).await), text(&sent));
            server.write_all(BOUND).await.unwrap();
            assert_eq!(text(&read(&mut server, encode::SYNC.len()).await), text(encode::SYNC));
            server.write_all(IDLE).await.unwrap();
            let length = BOUND.len() + encode::CLOSE_COMPLETE.len() * (MOST_OWED + 10) + IDLE.len();
            read(&mut client, length).await
        });
        assert!(told.await.ends_with(IDLE));
        assert!(scene.at_rest);
    });
}

#[test]
fn long_messages_pass_in_pieces_both_ways() {
    scene(async |mut scene| {
        let long = query(&"x".repeat(3 * BLOCK));
        scene.client_says(&long, &long).await;
        let row = message(backend::DATA_ROW, &vec![0; 5 * crate::stream::buffer::BLOCK]);
        let replies = [row, complete("SELECT 1"), IDLE.to_vec()].concat();
        scene.server_says(&replies, &replies).await;
        assert!(scene.at_rest);
        assert!(scene.client.input.is_none());
    });
}

#[test]
fn a_message_that_is_only_announced_takes_no_memory() {
    scene(async |mut scene| {
        scene.client_says(&query("BEGIN"), &query("BEGIN")).await;
        let mut announced = vec![frontend::QUERY];
        announced.extend_from_slice(&60_000_000u32.to_be_bytes());
        let notice = message(backend::NOTICE_RESPONSE, b"\0");
        scene.far_client.write_all(&announced).await.unwrap();
        scene.server_says(&notice, &notice).await;
        assert!(scene.client.input.as_ref().is_some_and(|input| input.capacity() <= BLOCK));
    });
}

fn fault(sqlstate: &str, words: &str, routine: &str) -> Vec<u8> {
    message(
        backend::ERROR_RESPONSE,
        format!("SERROR\0VERROR\0C{sqlstate}\0M{words}\0R{routine}\0\0").as_bytes(),
    )
}

#[test]
fn a_statement_that_somebody_made_behind_our_back_is_closed_and_parsed_again_unseen() {
    scene(async |mut scene| {
        let statement = scene.statement("SELECT 1");
        let ours = ours(&statement);
        let batch = [parse("s", "SELECT 1"), encode::SYNC.to_vec()].concat();
        let sent = [parse(&ours, "SELECT 1"), encode::SYNC.to_vec()].concat();
        scene.client_says(&batch, &sent).await;
        let words = format!("prepared statement \"{ours}\" already exists");
        let fault = [fault("42P05", &words, "StorePreparedStatement"), IDLE.to_vec()].concat();
        scene.server_hears(&fault, &[close(&ours), sent].concat()).await;
        let done = [encode::PARSE_COMPLETE, IDLE].concat();
        scene.server_says(&[encode::CLOSE_COMPLETE, &done].concat(), &done).await;
        assert!(scene.at_rest && !scene.server.tainted);
    });
}

#[test]
fn a_stale_plan_is_healed_unseen_outside_a_transaction() {
    scene(async |mut scene| {
        let known = scene.server_has("SELECT 1");
        scene.client.statements.define(b"s", known.clone());
        let ours = ours(&known);
        let describe = message(frontend::DESCRIBE, b"P\0");
        let batch = [bind("s"), describe.clone(), execute(), encode::SYNC.to_vec()].concat();
        let sent = [bind(&ours), describe, execute(), encode::SYNC.to_vec()].concat();
        scene.client_says(&batch, &sent).await;
        let words = "cached plan must not change result type";
        let fault = [fault("0A000", words, "RevalidateCachedQuery"), IDLE.to_vec()].concat();
        scene.server_hears(&fault, &[close(&ours), parse(&ours, "SELECT 1"), sent].concat()).await;
        let done = [BOUND, encode::NO_DATA, &complete("SELECT 1"), IDLE].concat();
        let made = [encode::CLOSE_COMPLETE, encode::PARSE_COMPLETE].concat();
        scene.server_says(&[&made[..], &done].concat(), &done).await;
        assert!(scene.at_rest && scene.has(&known));
    });
}

#[test]
fn a_stale_plan_in_a_transaction_is_the_clients_to_see_and_is_parsed_again_the_next_time() {
    scene(async |mut scene| {
        let known = scene.server_has("SELECT 1");
        scene.client.statements.define(b"s", known.clone());
        let ours = ours(&known);
        scene.client_says(&query("BEGIN"), &query("BEGIN")).await;
        let begun = [complete("BEGIN"), INSIDE.to_vec()].concat();
        scene.server_says(&begun, &begun).await;
        let batch = [bind("s"), execute(), encode::SYNC.to_vec()].concat();
        let sent = [bind(&ours), execute(), encode::SYNC.to_vec()].concat();
        scene.client_says(&batch, &sent).await;
        let failed = encode::ready_for_query(TransactionStatus::Failed);
        let words = "cached plan must not change result type";
        let fault = [&fault("0A000", words, "RevalidateCachedQuery"), failed].concat();
        scene.server_says(&fault, &fault).await;
        scene.client_says(&query("ROLLBACK"), &query("ROLLBACK")).await;
        let ended = [complete("ROLLBACK"), IDLE.to_vec()].concat();
        scene.server_says(&ended, &ended).await;
        scene.client_says(&batch, &[close(&ours), parse(&ours, "SELECT 1"), sent].concat()).await;
    });
}

#[test]
fn a_failed_parse_is_told_with_the_clients_own_name() {
    scene(async |mut scene| {
        let statement = scene.statement("SELECT 1");
        let ours = ours(&statement);
        let batch = [parse("mine", "SELECT 1"), encode::SYNC.to_vec()].concat();
        scene.client_says(&batch, &[parse(&ours, "SELECT 1"), encode::SYNC.to_vec()].concat()).await;
        let words = |name: &str| [fault("XX000", &format!("bad \"{name}\""), "x"), IDLE.to_vec()].concat();
        scene.server_says(&words(&ours), &words("mine")).await;
        assert!(scene.at_rest && scene.client.statements.named(b"mine").is_none());
    });
}

#[test]
fn what_an_earlier_batch_parses_is_not_relied_on_before_that_has_succeeded() {
    scene(async |mut scene| {
        let statement = scene.statement("SELECT 1");
        let ours = ours(&statement);
        let first = [execute(), parse("a", "SELECT 1"), encode::SYNC.to_vec()].concat();
        let second = [parse("b", "SELECT 1"), bind("b"), encode::SYNC.to_vec()].concat();
        let one = [execute(), parse(&ours, "SELECT 1"), encode::SYNC.to_vec()].concat();
        let other = [close(&ours), parse(&ours, "SELECT 1"), bind(&ours), encode::SYNC.to_vec()].concat();
        scene.client_says(&[first, second].concat(), &[one, other].concat()).await;
        let failed = [error(), IDLE.to_vec()].concat();
        let rest = [encode::PARSE_COMPLETE, BOUND, IDLE].concat();
        let replies = [&failed[..], encode::CLOSE_COMPLETE, &rest].concat();
        scene.server_says(&replies, &[failed, rest].concat()).await;
        assert!(scene.at_rest && scene.has(&statement));
        assert!(scene.client.statements.named(b"a").is_none());
        assert!(scene.client.statements.named(b"b").is_some());
    });
}

#[test]
fn a_bind_waits_for_the_parse_of_an_earlier_batch() {
    scene(async |mut scene| {
        let statement = scene.statement("SELECT 1");
        let ours = ours(&statement);
        let first = [parse("a", "SELECT 1"), encode::SYNC.to_vec()].concat();
        let second = [bind("a"), encode::SYNC.to_vec()].concat();
        let sent = [parse(&ours, "SELECT 1"), encode::SYNC.to_vec()].concat();
        scene.client_says(&[first, second].concat(), &sent).await;
        scene
            .server_hears(
                &[encode::PARSE_COMPLETE, IDLE].concat(),
                &[bind(&ours), encode::SYNC.to_vec()].concat(),
            )
            .await;
        let told = [encode::PARSE_COMPLETE, IDLE, BOUND, IDLE].concat();
        scene.server_says(&[BOUND, IDLE].concat(), &told).await;
        assert!(scene.at_rest);
    });
}

#[test]
fn a_statement_that_is_parsed_behind_deallocate_all_in_one_go_is_kept() {
    scene(async |mut scene| {
        let known = scene.server_has("SELECT 1");
        let ours = ours(&known);
        let all = [query("DEALLOCATE ALL"), parse("s", "SELECT 1"), encode::SYNC.to_vec()].concat();
        scene.client_says(&all, &query("DEALLOCATE ALL")).await;
        let gone = [complete("DEALLOCATE ALL"), IDLE.to_vec()].concat();
        let sent = [parse(&ours, "SELECT 1"), encode::SYNC.to_vec()].concat();
        scene.server_hears(&gone, &sent).await;
        let done = [encode::PARSE_COMPLETE, IDLE].concat();
        scene.server_says(&done, &[gone, done.clone()].concat()).await;
        assert!(scene.at_rest && scene.client.statements.named(b"s").is_some());
    });
}

#[test]
fn a_client_that_calls_for_long_texts_again_and_again_makes_us_hold_few_of_them() {
    scene(async |mut scene| {
        let long = "x".repeat(100_000);
        for name in [b"a", b"b", b"c"] {
            let statement = scene.statement(&format!("{}{long}", name[0]));
            scene.client.statements.define(name, statement);
        }
        // One more than the server connection may have, so that each is sent anew each time.
        let describe = |name: &str| message(frontend::DESCRIBE, format!("S{name}\0").as_bytes());
        let round = [describe("a"), describe("b"), describe("c")].concat();
        let (mut client, server) = scene.take_far();
        client.write_all(&round.repeat(100)).await.unwrap();
        scene
            .beside(async {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        assert!((1..=20).contains(&scene.server.queue.len()), "{} are owed", scene.server.queue.len());
        drop((client, server));
    });
}
