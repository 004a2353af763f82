//! What a worker lends to its sessions.

use super::handle::{Handle, Signal};
use crate::balance::Departures;
use crate::ids::{SessionId, WorkerId};
use crate::mailbox::{Drain, Mailboxes, Order};
use crate::pool::halt::Scope;
use crate::pool::pools::Pools;
use crate::relay::Shared;
use crate::route::Router;
use crate::runtime::Runtime;
use crate::server::connection::CancelKey;
use crate::stream::SocketAddress;
use crate::topology::Snapshot;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How long a worker remembers who has left: much longer than anybody is under way.
const REMEMBERED: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Services {
    /// Which worker this is.
    pub worker: WorkerId,
    /// The others.
    pub mailboxes: Mailboxes,
    /// Server connections.
    pub pools: Pools,
    /// Which host a statement goes to.
    pub router: Rc<Router>,
    /// Blocks, tracked parameters, statements.
    pub shared: Rc<Shared>,
    /// Who should go on on another worker.
    pub departures: Rc<Departures>,
    /// Sessions whose numbers name this worker and that live on others.
    away: RefCell<HashMap<SessionId, WorkerId>>,
    /// Sessions that have moved a short time ago.
    departed: RefCell<HashMap<SessionId, Departed>>,
    /// Clients that are logging in, in the order in which they came.
    logins: RefCell<BTreeMap<u64, AbortHandle>>,
    next_login: Cell<u64>,
    sessions: RefCell<HashMap<SessionId, Rc<Handle>>>,
    next: Cell<u32>,
    drain: Cell<Option<Drain>>,
}

impl Services {
    /// For a worker that begins.
    #[must_use]
    pub fn new(
        worker: WorkerId,
        mailboxes: Mailboxes,
        pools: Pools,
        shared: Rc<Shared>,
        runtime: &Runtime,
    ) -> Self {
        Self {
            worker,
            mailboxes,
            pools,
            router: Rc::new(Router::new(worker, runtime.facilities.routing.clone())),
            shared,
            departures: Rc::new(Departures::new(worker.0, runtime.facilities.loads.clone())),
            away: RefCell::default(),
            departed: RefCell::default(),
            logins: RefCell::default(),
            next_login: Cell::new(0),
            sessions: RefCell::default(),
            next: Cell::new(rand::random()),
            drain: Cell::new(None),
        }
    }

    /// The settings as they are now.
    #[must_use]
    pub fn runtime(&self) -> Arc<Runtime> {
        self.pools.runtime().borrow().clone()
    }

    /// Whether these are the settings as they are now.
    #[must_use]
    pub fn is_current(&self, runtime: &Arc<Runtime>) -> bool {
        Arc::ptr_eq(&self.pools.runtime().borrow(), runtime)
    }

    /// New settings.
    pub fn apply(&self, runtime: &Arc<Runtime>) {
        self.pools.apply(runtime);
        self.shared.shapes.set_limit(runtime.settings.stats.fingerprints);
        self.shared.harmless.clear();
        self.shared.desk.wake();
    }

    /// Something changed in a cluster: pools lead elsewhere, and statements under way on hosts that are lost are cut.
    pub fn follow(&self, snapshot: Arc<Snapshot>) {
        let (kept, _) = self.pools.surroundings().topology.keep(snapshot.clone());
        if kept {
            self.pools.follow(&snapshot);
            self.each_session(|session| session.follow(&snapshot));
        }
    }

    /// Begins a login. Where too many are under way (`limits.max_logins`), the oldest gives way: whoever opens
    /// connections and says nothing keeps nobody out.
    pub fn begin_login(self: &Rc<Self>, begin: impl FnOnce(LoginUnderway) -> AbortHandle) {
        let number = self.next_login.get();
        self.next_login.set(number + 1);
        let task = begin(LoginUnderway { services: self.clone(), number });
        let limit = self
            .pools
            .runtime()
            .borrow()
            .settings
            .limits
            .max_logins
            .div_ceil(self.mailboxes.workers().max(1));
        let oldest = {
            let mut logins = self.logins.borrow_mut();
            logins.insert(number, task);
            if logins.len() > limit { logins.pop_first() } else { None }
        };
        if let Some((_, oldest)) = oldest {
            oldest.abort();
        }
    }

    /// Clients that are logging in.
    #[must_use]
    pub fn login_count(&self) -> usize {
        self.logins.borrow().len()
    }

    /// Registers a session whose client will know `key`.
    #[must_use]
    pub fn register(self: &Rc<Self>, key: Box<[u8]>) -> Registration {
        let workers = u32::try_from(self.mailboxes.workers()).unwrap_or(1).max(1);
        let worker = u32::try_from(self.worker.0).unwrap_or(0);
        let sessions = self.sessions.borrow();
        let away = self.away.borrow();
        let (first, turns) =
            (SessionId::LEAST.div_ceil(workers), (u32::MAX / 2 - SessionId::LEAST) / workers - 1);
        let id = loop {
            let turn = self.next.get().wrapping_add(1) % turns;
            self.next.set(turn);
            let id = SessionId((first + turn) * workers + worker);
            if !sessions.contains_key(&id) && !away.contains_key(&id) {
                break id;
            }
        };
        drop((sessions, away));
        self.enlist(id, key)
    }

    /// Puts a session with this number on the list.
    #[must_use]
    pub fn enlist(self: &Rc<Self>, id: SessionId, key: Box<[u8]>) -> Registration {
        self.departed.borrow_mut().remove(&id);
        let handle = Handle::new(id, key);
        if let Some(drain) = self.drain.get() {
            handle.raise(Signal::Drain(drain));
        }
        self.sessions.borrow_mut().insert(id, handle.clone());
        Registration { services: self.clone(), handle, moves: false }
    }

    /// A session whose number names this worker lives on that one from now on.
    pub fn note_residence(&self, id: SessionId, at: WorkerId) {
        if at == self.worker {
            self.forget_residence(id);
        } else {
            self.away.borrow_mut().insert(id, at);
        }
    }

    /// It lives here or nowhere.
    pub fn forget_residence(&self, id: SessionId) {
        self.away.borrow_mut().remove(&id);
    }

    /// Who is to be asked for a session which this worker is asked for and does not have.
    #[must_use]
    pub fn residence(&self, id: SessionId) -> Option<WorkerId> {
        if self.sessions.borrow().contains_key(&id) {
            return None;
        }
        let home = self.mailboxes.worker_of(id);
        if home == self.worker {
            return self.away.borrow().get(&id).copied();
        }
        self.departed.borrow().contains_key(&id).then_some(home)
    }

    /// Sessions of these databases that have left a short time ago: what is said to all sessions may have missed them
    /// on their way.
    #[must_use]
    pub fn departed(&self, scope: &Scope) -> Vec<SessionId> {
        let departed = self.departed.borrow();
        departed.iter().filter(|(_, departed)| scope.has(&departed.database)).map(|(id, _)| *id).collect()
    }

    /// Forgets who has left long ago.
    pub fn forget_departed(&self, now: Instant) {
        self.departed.borrow_mut().retain(|_, departed| now.duration_since(departed.at) < REMEMBERED);
    }

    /// A session that is on its way, or was to come, is no more.
    pub fn note_gone(&self, id: SessionId) {
        match self.mailboxes.worker_of(id) {
            home if home == self.worker => self.forget_residence(id),
            home => self.mailboxes.send(home, Order::Gone(id)),
        }
    }

    /// The session with this number.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<Rc<Handle>> {
        self.sessions.borrow().get(&id).cloned()
    }

    /// Those that were told that this server process is their own.
    #[must_use]
    pub fn sessions_of(&self, address: &SocketAddress, number: NonZeroU32) -> Vec<Rc<Handle>> {
        let is_it = |process: &CancelKey| process.address == *address && process.pid == number.get();
        let sessions = self.sessions.borrow();
        let own = |session: &Rc<Handle>| session.process.borrow().as_deref().is_some_and(is_it);
        sessions.values().filter(|session| own(session)).cloned().collect()
    }

    /// Ends every session, and those whose clients are still logging in as soon as they are there.
    pub fn drain(&self, drain: Drain) {
        self.drain.set(Some(drain));
        self.each_session(|session| session.raise(Signal::Drain(drain)));
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// The sessions that there are now.
    #[must_use]
    pub fn session_ids(&self) -> Vec<SessionId> {
        self.sessions.borrow().keys().copied().collect()
    }

    /// Visits each session; it must not end one.
    pub fn each_session(&self, mut visit: impl FnMut(&Handle)) {
        for handle in self.sessions.borrow().values() {
            visit(handle);
        }
    }
}

/// A login's place among those under way.
#[derive(Debug)]
pub struct LoginUnderway {
    services: Rc<Services>,
    number: u64,
}

impl Drop for LoginUnderway {
    fn drop(&mut self) {
        self.services.logins.borrow_mut().remove(&self.number);
    }
}

/// A session's place in the list of its worker.
#[derive(Debug)]
pub struct Registration {
    services: Rc<Services>,
    /// The session, seen from outside.
    pub handle: Rc<Handle>,
    moves: bool,
}

impl Registration {
    /// The session leaves for another worker.
    pub fn depart(mut self) {
        self.moves = true;
        let database = self.handle.about().map(|about| about.database.clone()).unwrap_or_default();
        let departed = Departed { at: Instant::now(), database };
        self.services.departed.borrow_mut().insert(self.handle.id, departed);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.services.sessions.borrow_mut().remove(&self.handle.id);
        if !self.moves {
            self.services.note_gone(self.handle.id);
        }
    }
}

/// A session that has left for another worker.
#[derive(Debug)]
struct Departed {
    at: Instant,
    database: Box<str>,
}
