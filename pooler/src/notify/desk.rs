//! A worker's end of the hub: who of its sessions listens on what, and what is passed on to whom.

use super::listener::{Listener, Post};
use super::news::{Ask, HubOrder, Item, News, Question, Station};
use crate::config::settings::Target;
use crate::ids::{SessionId, WorkerId};
use crate::mailbox::Mailboxes;
use crate::server::dial::DialPlan;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// Sessions of this worker that listen on one channel.
type Readers = BTreeMap<SessionId, Rc<Post>>;

/// What this worker has of one listening connection.
#[derive(Debug)]
struct Local {
    plan: Box<DialPlan>,
    channels: HashMap<Arc<str>, Readers>,
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    worker: WorkerId,
    mailboxes: Mailboxes,
    stations: RefCell<HashMap<Arc<Station>, Local>>,
    posts: RefCell<HashMap<SessionId, Rc<Post>>>,
}

impl Desk {
    /// For a worker that begins.
    #[must_use]
    pub fn new(worker: WorkerId, mailboxes: Mailboxes) -> Rc<Self> {
        Rc::new(Self { worker, mailboxes, stations: RefCell::default(), posts: RefCell::default() })
    }

    /// A session begins to listen. `plan` is how its pool opens connections, `limit` how many bytes may wait for
    /// its client.
    #[must_use]
    pub fn enlist(self: &Rc<Self>, session: SessionId, plan: &DialPlan, limit: usize) -> Listener {
        let post = Post::new(session, limit);
        self.posts.borrow_mut().insert(session, post.clone());
        Listener::new(self.clone(), self.station(plan), post)
    }

    /// The station to which `plan` leads.
    pub(super) fn station(&self, plan: &DialPlan) -> Arc<Station> {
        let station = Station { hosts: plan.hosts.clone(), dbname: plan.dbname.clone() };
        let mut stations = self.stations.borrow_mut();
        let known = stations.get_key_value(&station).map(|(known, _)| known.clone());
        let station = known.unwrap_or_else(|| Arc::new(station));
        let plan = Box::new(listening(plan));
        match stations.get_mut(&station) {
            // The newest credential is the one that most likely works.
            Some(local) => local.plan = plan,
            None => {
                stations.insert(station.clone(), Local { plan, channels: HashMap::new() });
            }
        }
        station
    }

    /// The settings have changed: each session that listens looks whether it still hears from the right place.
    pub fn wake(&self) {
        for post in self.posts.borrow().values() {
            post.wake();
        }
    }

    pub(super) fn dismiss(&self, session: SessionId) {
        self.posts.borrow_mut().remove(&session);
    }

    pub(super) fn join(&self, station: &Arc<Station>, channel: &Arc<str>, post: &Rc<Post>) {
        if let Some(local) = self.stations.borrow_mut().get_mut(station) {
            local.channels.entry(channel.clone()).or_default().insert(post.session, post.clone());
        }
    }

    /// A session has no use for a channel any more; if it was the last one here, the hub is told.
    pub(super) fn leave(&self, station: &Arc<Station>, channel: &Arc<str>, session: SessionId) {
        let last = {
            let mut stations = self.stations.borrow_mut();
            let Some(local) = stations.get_mut(station) else { return };
            let Some(readers) = local.channels.get_mut(channel) else { return };
            readers.remove(&session);
            let last = readers.is_empty();
            if last {
                local.channels.remove(channel);
            }
            last
        };
        if last {
            self.ask(station, Ask::Forget(channel.clone()));
        }
    }

    /// Whether anybody in this process listens there.
    pub(super) fn is_heard(&self, station: &Arc<Station>) -> bool {
        self.mailboxes.audience().listens(station)
    }

    pub(super) fn ask(&self, station: &Arc<Station>, ask: Ask) {
        let plan = match ask {
            Ask::Listen(..) => self.stations.borrow().get(station).map(|local| local.plan.clone()),
            Ask::Forget(_) | Ask::Mark(..) | Ask::Release(..) => None,
        };
        let question = Question { worker: self.worker, station: station.clone(), plan, ask };
        self.mailboxes.send_hub(HubOrder::Question(question));
    }

    /// Passes on what the hub tells.
    pub fn deliver(&self, news: News) {
        let News { station, items } = news;
        for item in items {
            match item {
                Item::Message(notification) => {
                    let stations = self.stations.borrow();
                    let local = stations.get(&station);
                    let readers = local.and_then(|local| local.channels.get(&*notification.channel));
                    for post in readers.into_iter().flat_map(BTreeMap::values) {
                        post.push(&notification);
                    }
                }
                Item::Gap => self.tell_gap(&station),
                Item::Reached(token) => _ = self.answer(token.session, token.number, true),
                Item::Refused(token) => {
                    if let Some(channel) = self.answer(token.session, token.number, false) {
                        self.leave(&station, &channel, token.session);
                    }
                }
            }
        }
    }

    fn answer(&self, session: SessionId, number: u32, reached: bool) -> Option<Arc<str>> {
        let post = self.posts.borrow().get(&session).cloned()?;
        post.answer(number, reached)
    }

    fn tell_gap(&self, station: &Arc<Station>) {
        let stations = self.stations.borrow();
        let Some(local) = stations.get(station) else { return };
        let all: BTreeMap<SessionId, &Rc<Post>> =
            local.channels.values().flatten().map(|(session, post)| (*session, post)).collect();
        for post in all.into_values() {
            post.push_gap();
        }
    }
}

/// How the listening connection is opened: as the pool's, to the primary, for as long as it is needed, and in the
/// encoding that the hub reads.
fn listening(plan: &DialPlan) -> DialPlan {
    let mut plan = plan.clone();
    if plan.target == Target::Any {
        // Whose turn it is must not be taken for where the primary is.
        plan.preferred = Arc::default();
    }
    plan.target = Target::Primary;
    plan.lifetime = None;
    let replaced = ["application_name", "client_encoding"];
    plan.parameters.retain(|(name, _)| !replaced.iter().any(|known| name.eq_ignore_ascii_case(known)));
    plan.parameters.push(("application_name".into(), "hawser_listen".into()));
    plan.parameters.push(("client_encoding".into(), "UTF8".into()));
    plan
}
