//! A session, its worker's desk, and a hub that is played by the test.

use super::news::{HubOrder, Item, News, Notification, Question, Token};
use super::{Ask, Desk, Gate, Listener};
use crate::auth::server_login::Credential;
use crate::config::settings::{HostAddress, HostOrder, Keepalive, ServerTls, Target};
use crate::ids::{SessionId, WorkerId};
use crate::mailbox::Mailboxes;
use crate::server::dial::DialPlan;
use crate::stream::tls::Connectors;
use hawser_wire::encode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The number of the first client.
const ME: u32 = 7;

struct Scene {
    desk: Rc<Desk>,
    orders: UnboundedReceiver<HubOrder>,
    listener: Listener,
    mailboxes: Mailboxes,
}

impl Scene {
    fn new() -> Self {
        let (sender, orders) = unbounded_channel();
        let mailboxes = Mailboxes::new(vec![]).with_hub(sender);
        let desk = Desk::new(WorkerId(0), mailboxes.clone());
        let listener = desk.enlist(SessionId(ME), &plan(), 10_000);
        Self { desk, orders, listener, mailboxes }
    }

    /// What the hub is asked next; nothing if `None`.
    fn asked(&mut self) -> Option<Question> {
        match self.orders.try_recv().ok()? {
            HubOrder::Question(question) => Some(question),
            HubOrder::Follow(_) | HubOrder::Vacate(_) => panic!("desks do not say where to go"),
        }
    }

    fn token(&mut self) -> Token {
        match self.asked().map(|question| question.ask) {
            Some(Ask::Listen(_, token) | Ask::Mark(token, _)) => token,
            other => panic!("{other:?} has no answer"),
        }
    }

    fn tell(&self, item: Item) {
        let station = self.listener.station().clone();
        self.desk.deliver(News { station, items: vec![item] });
    }

    /// The hub answers the only question.
    fn reach(&mut self) {
        let token = self.token();
        self.tell(Item::Reached(token));
    }

    fn notify(&self, pid: u32, channel: &str, payload: &str) {
        let mut bytes = Vec::new();
        encode::message(&mut bytes, b'A', |out| {
            out.extend_from_slice(&pid.to_be_bytes());
            encode::c_string(out, channel.as_bytes());
            encode::c_string(out, payload.as_bytes());
        });
        self.tell(Item::Message(Arc::new(Notification::read(&bytes).unwrap())));
    }

    /// LISTEN in a transaction of its own.
    fn listen(&mut self, channel: &str) {
        assert_eq!(self.listener.begin_listen([channel].into_iter()), Gate::Channels);
        self.reach();
        assert_eq!(self.listener.begin_listen([channel].into_iter()), Gate::Open);
        assert!(self.listener.book(|book| book.listen(channel)));
        self.commit();
    }

    fn commit(&self) {
        self.listener.book(|book| book.commit());
        self.listener.pass_ready(true);
    }

    /// What the client reads: process number and payload, or `None` for a notice.
    fn read(&self) -> Vec<Option<(u32, String)>> {
        let mut out = Vec::new();
        self.listener.take(&mut out);
        let (mut rest, mut read) = (out.as_slice(), Vec::new());
        while let Ok(Some(header)) = hawser_wire::frame::header(rest) {
            let (message, after) = rest.split_at(header.total());
            read.push((header.tag == b'A').then(|| {
                let pid = u32::from_be_bytes(message[5..9].try_into().unwrap());
                let payload = message.split(|byte| *byte == 0).rev().nth(1).unwrap();
                (pid, String::from_utf8(payload.to_vec()).unwrap())
            }));
            rest = after;
        }
        read
    }
}

fn plan() -> DialPlan {
    DialPlan {
        hosts: vec![HostAddress::Tcp("a".into(), 5432)],
        order: HostOrder::InOrder,
        target: Target::Any,
        preferred: Arc::default(),
        tls: Connectors::default().connector(&ServerTls::default()).unwrap(),
        user: "u".into(),
        dbname: "d".into(),
        credential: Credential::None,
        parameters: vec![("application_name".into(), "mine".into()), ("a.b".into(), "c".into())],
        connect_query: None,
        keepalive: Keepalive::default(),
        timeout: Duration::from_secs(1),
        lifetime: Some(Duration::from_secs(1)),
    }
}

fn heard(pid: u32, payload: &str) -> Option<(u32, String)> {
    Some((pid, payload.to_owned()))
}

#[test]
fn a_listening_connection_is_opened_as_the_pool_would_but_to_the_primary_and_for_good() {
    let mut scene = Scene::new();
    assert_eq!(scene.listener.begin_listen(["a"].into_iter()), Gate::Channels);
    let plan = scene.asked().unwrap().plan.unwrap();
    assert_eq!((plan.target, plan.lifetime, plan.user.as_str()), (Target::Primary, None, "u"));
    let names: Vec<_> = plan.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(names, ["a.b=c", "application_name=hawser_listen", "client_encoding=UTF8"]);
}

#[test]
fn a_session_hears_what_comes_after_the_answer_once_it_has_committed() {
    let mut scene = Scene::new();
    assert_eq!(scene.listener.begin_listen(["a"].into_iter()), Gate::Channels);
    scene.notify(1, "a", "before the answer");
    scene.reach();
    assert_eq!(scene.listener.begin_listen(["a"].into_iter()), Gate::Open);
    scene.notify(1, "a", "after it");
    assert!(scene.listener.book(|book| book.listen("a")));
    assert!(scene.read().is_empty());
    scene.commit();
    scene.notify(1, "b", "not its channel");
    assert_eq!(scene.read(), [heard(1, "after it")]);
}

#[test]
fn what_was_committed_before_the_transaction_of_a_first_listen_is_dropped() {
    let mut scene = Scene::new();
    assert_eq!(scene.listener.begin_listen(["a"].into_iter()), Gate::Channels);
    scene.reach();
    assert!(scene.listener.book(|book| book.listen("a")));
    // Its COMMIT waits until what was said before has arrived.
    assert_eq!(scene.listener.begin_message(), Gate::Mark);
    scene.notify(1, "a", "early");
    scene.reach();
    assert_eq!(scene.listener.begin_message(), Gate::Open);
    scene.listener.end_message();
    scene.notify(1, "a", "late");
    scene.commit();
    assert_eq!(scene.read(), [heard(1, "late")]);
}

#[test]
fn the_hub_learns_on_which_server_process_a_client_notifies_and_for_how_long() {
    let mut scene = Scene::new();
    scene.listen("a");
    assert_eq!(scene.listener.begin_notify(42), Gate::Mark);
    let begun = scene.asked().map(|question| question.ask);
    let Some(Ask::Mark(token, Some(42))) = begun else { panic!("{begun:?}") };
    scene.tell(Item::Reached(token));
    assert_eq!(scene.listener.begin_notify(42), Gate::Open);
    assert_eq!(scene.listener.end_notify(), Gate::Mark);
    scene.reach();
    assert_eq!(scene.listener.end_notify(), Gate::Open);
    assert!(scene.asked().is_none());
    scene.commit();
    let ended = scene.asked().map(|question| question.ask);
    assert!(matches!(ended, Some(Ask::Release(42, SessionId(ME)))), "{ended:?}");
}

#[test]
fn a_server_process_that_is_lost_before_the_client_notifies_is_released() {
    let mut scene = Scene::new();
    scene.listen("a");
    assert_eq!(scene.listener.begin_notify(42), Gate::Mark);
    let token = scene.token();
    scene.listener.lose_server();
    assert!(matches!(scene.asked().map(|question| question.ask), Some(Ask::Release(42, _))));
    scene.tell(Item::Reached(token));
    assert_eq!(scene.listener.begin_notify(43), Gate::Mark);
}

#[test]
fn who_notifies_waits_only_where_somebody_listens() {
    let mut scene = Scene::new();
    assert_eq!(scene.listener.begin_notify(42), Gate::Open);
    scene.mailboxes.audience().note(scene.listener.station(), true);
    assert_eq!(scene.listener.begin_notify(42), Gate::Mark);
    scene.reach();
    assert_eq!(scene.listener.begin_notify(42), Gate::Open);
    scene.commit();
    scene.mailboxes.audience().note(scene.listener.station(), false);
    assert_eq!(scene.listener.begin_notify(42), Gate::Open);
}

#[test]
fn where_the_hub_has_no_connection_nobody_waits_for_marks() {
    let mut scene = Scene::new();
    scene.listen("a");
    assert_eq!(scene.listener.begin_notify(42), Gate::Mark);
    let token = scene.token();
    scene.tell(Item::Refused(token));
    assert_eq!(scene.listener.begin_notify(42), Gate::Open);
    assert_eq!(scene.listener.end_notify(), Gate::Mark);
    let token = scene.token();
    scene.tell(Item::Refused(token));
    assert_eq!(scene.listener.end_notify(), Gate::Open);
}

#[test]
fn the_hub_is_told_when_the_last_session_of_a_worker_lets_a_channel_go() {
    let mut scene = Scene::new();
    scene.listen("a");
    let mut other = scene.desk.enlist(SessionId(8), &plan(), 10_000);
    std::mem::swap(&mut scene.listener, &mut other);
    scene.listen("a");
    scene.listener.book(|book| book.unlisten_all());
    scene.commit();
    assert!(scene.asked().is_none());
    drop(other);
    assert!(
        matches!(scene.asked().map(|question| question.ask), Some(Ask::Forget(channel)) if *channel == *"a")
    );
    assert!(scene.asked().is_none());
}

#[test]
fn a_channel_that_the_hub_cannot_have_is_not_kept_in_mind() {
    let mut scene = Scene::new();
    assert_eq!(scene.listener.begin_listen(["a"].into_iter()), Gate::Channels);
    let token = scene.token();
    scene.tell(Item::Refused(token));
    assert!(matches!(scene.asked().map(|question| question.ask), Some(Ask::Forget(_))));
    assert_eq!(scene.listener.begin_listen(["a"].into_iter()), Gate::Open);
    assert!(!scene.listener.book(|book| book.listen("a")));
}

#[test]
fn who_listens_is_told_of_a_gap() {
    let mut scene = Scene::new();
    scene.tell(Item::Gap);
    scene.listen("a");
    scene.notify(1, "a", "before");
    scene.tell(Item::Gap);
    scene.notify(1, "a", "after");
    assert_eq!(scene.read(), [heard(1, "before"), None, heard(1, "after")]);
}

#[test]
fn a_lost_server_connection_takes_an_open_listen_with_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.listener.begin_listen(["a"].into_iter()), Gate::Channels);
    scene.reach();
    assert!(scene.listener.book(|book| book.listen("a")));
    scene.listener.lose_server();
    assert!(matches!(scene.asked().map(|question| question.ask), Some(Ask::Forget(_))));
    scene.notify(1, "a", "nobody listens");
    assert!(scene.read().is_empty());
}
