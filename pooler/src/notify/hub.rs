//! The hub: keeps one listening connection per station on the control thread, and tells workers what it hears.
//!
//! A connection is opened when the first channel is asked for, restored when it is lost, and closed when no channel
//! has been wanted for a while.

use super::line::{Heard, Line, Lost};
use super::news::{Ask, HubOrder, Item, News, Station, Token, statement};
use super::roster::Roster;
use crate::ids::WorkerId;
use crate::mailbox::{Mailboxes, Order};
use crate::server::connection::ServerConnection;
use crate::server::dial::{self, DialError, DialPlan, Local};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

/// Pause after the first failed attempt to restore a connection; it doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// See `FIRST_PAUSE`.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(1);
/// A connection that has said nothing for so long is asked whether it lives.
const QUIET: Duration = Duration::from_secs(5);
/// An answer that takes longer than this (or the time to connect, if that is shorter) does not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection without channels is closed after this.
const LINGER: Duration = Duration::from_secs(30);

/// Starts the hub on this thread; `orders` come from the workers' desks.
pub fn start(mailboxes: Mailboxes, orders: UnboundedReceiver<HubOrder>) {
    tokio::task::spawn_local(sort(mailboxes, orders));
}

/// Hands each order to the task of its station.
async fn sort(mailboxes: Mailboxes, mut orders: UnboundedReceiver<HubOrder>) {
    let local = Rc::new(Local::default());
    let mut stations: HashMap<Arc<Station>, UnboundedSender<HubOrder>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        let station = stations.entry(order.station.clone()).or_insert_with(|| {
            let (sender, receiver) = unbounded_channel();
            let keeper = Keeper {
                station: order.station.clone(),
                mailboxes: mailboxes.clone(),
                local: local.clone(),
                plan: None,
                roster: Roster::default(),
                waiting: Vec::new(),
                outgoing: BTreeMap::new(),
            };
            tokio::task::spawn_local(keeper.run(receiver));
            sender
        });
        // The task lives as long as its sender does.
        let _ = station.send(order);
    }
}

/// What a statement on a listening connection was for.
#[derive(Debug)]
enum Purpose {
    /// Nobody waits for it.
    Nothing,
    /// A channel of a connection that was lost; it must not fail.
    Restore,
    /// Somebody waits for it.
    Answer(WorkerId, Token),
}

/// How a connection ends.
enum Ending {
    /// It was not needed any more.
    Unused,
    /// It broke.
    Lost(Lost),
    /// The workers are gone.
    Over,
}

/// Looks after the listening connection of one station.
struct Keeper {
    station: Arc<Station>,
    mailboxes: Mailboxes,
    local: Rc<Local>,
    plan: Option<Box<DialPlan>>,
    roster: Roster,
    /// Who waits for a channel while there is no connection.
    waiting: Vec<(WorkerId, Token)>,
    outgoing: BTreeMap<WorkerId, Vec<Item>>,
}

/// A connection that is up.
struct Session {
    line: Line,
    purposes: VecDeque<Purpose>,
    /// The statement that is being answered has failed.
    failure: Option<Vec<u8>>,
    heard: Instant,
    unused: Option<Instant>,
    /// Which of the hosts the pools found to be the primary last, and which it was when the connection was opened.
    primary: Option<(Arc<AtomicUsize>, usize)>,
}

impl Keeper {
    async fn run(mut self, mut orders: UnboundedReceiver<HubOrder>) {
        while let Some(order) = orders.recv().await {
            self.note(order);
            if !self.keep(&mut orders).await {
                return;
            }
        }
    }

    /// Keeps a connection for as long as a channel is wanted. False when the workers are gone.
    async fn keep(&mut self, orders: &mut UnboundedReceiver<HubOrder>) -> bool {
        let mut pause = FIRST_PAUSE;
        let mut gap = false;
        while !self.roster.is_empty() {
            match self.dial(orders).await {
                Ok(Some(server)) => {
                    pause = FIRST_PAUSE;
                    match self.attend(server, gap, orders).await {
                        Ending::Unused => {}
                        Ending::Over => return false,
                        Ending::Lost(lost) => {
                            let (dbname, channels) = (&self.station.dbname, self.roster.len());
                            tracing::warn!(dbname, channels, reason = %lost, "listening connection lost");
                            gap = true;
                        }
                    }
                }
                Ok(None) => return false,
                Err(error) => {
                    let error = dial::explain(&error);
                    tracing::warn!(
                        dbname = self.station.dbname,
                        error,
                        "cannot open the listening connection"
                    );
                    for (worker, token) in std::mem::take(&mut self.waiting) {
                        self.tell(worker, Item::Refused(token));
                    }
                    self.flush();
                    if !self.rest(pause, orders).await {
                        return false;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        self.waiting.clear();
        true
    }

    /// Opens a connection while orders go on coming in. `None` when the workers are gone.
    async fn dial(
        &mut self,
        orders: &mut UnboundedReceiver<HubOrder>,
    ) -> Result<Option<ServerConnection>, DialError> {
        let Some(plan) = self.plan.clone() else { return Err(DialError::NoPrimary) };
        let local = self.local.clone();
        let mut dialing = std::pin::pin!(dial::dial(&plan, &local, 0));
        loop {
            tokio::select! {
                server = &mut dialing => return server.map(Some),
                order = orders.recv() => match order {
                    Some(order) => self.note(order),
                    None => return Ok(None),
                },
            }
        }
    }

    /// Waits before the next attempt. False when the workers are gone.
    async fn rest(&mut self, pause: Duration, orders: &mut UnboundedReceiver<HubOrder>) -> bool {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return true,
                order = orders.recv() => match order {
                    Some(order) => self.note(order),
                    None => return false,
                },
            }
        }
    }

    /// An order while there is no connection.
    fn note(&mut self, order: HubOrder) {
        let HubOrder { worker, plan, ask, .. } = order;
        if plan.is_some() {
            self.plan = plan;
        }
        match ask {
            Ask::Listen(channel, token) => {
                self.roster.add(&channel, worker);
                self.waiting.push((worker, token));
            }
            Ask::Forget(channel) => _ = self.roster.remove(&channel, worker),
            Ask::Mark(token) => {
                self.tell(worker, Item::Refused(token));
                self.flush();
            }
        }
    }

    /// Listens until the connection ends.
    async fn attend(
        &mut self,
        server: ServerConnection,
        gap: bool,
        orders: &mut UnboundedReceiver<HubOrder>,
    ) -> Ending {
        let mut session = Session::new(server, self.plan.as_deref());
        let mut restored = Some((session.restore(&self.roster), gap));
        if self.roster.is_empty() {
            self.finish_restoring(&session, &mut restored);
        }
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ending = loop {
            let outcome = tokio::select! {
                order = orders.recv() => {
                    let Some(order) = order else { break Ending::Over };
                    self.carry_out(order, &mut session);
                    while let Ok(order) = orders.try_recv() {
                        self.carry_out(order, &mut session);
                    }
                    Ok(())
                }
                read = std::future::poll_fn(|cx| session.line.poll(cx)) => {
                    session.heard = Instant::now();
                    read.and_then(|()| self.hear(&mut session, &mut restored))
                }
                _ = clock.tick() => {
                    if session.is_unused(&self.roster) {
                        break Ending::Unused;
                    }
                    session.check(self.plan.as_deref())
                }
            };
            self.flush();
            if let Err(lost) = outcome {
                break Ending::Lost(lost);
            }
        };
        self.part(session, ending)
    }

    /// The connection is at its end: nobody may wait for it any more. Who waits for a channel waits for the next one.
    fn part(&mut self, session: Session, ending: Ending) -> Ending {
        for purpose in session.purposes {
            if let Purpose::Answer(worker, token) = purpose {
                self.waiting.push((worker, token));
            }
        }
        session.line.close();
        ending
    }

    fn carry_out(&mut self, order: HubOrder, session: &mut Session) {
        let HubOrder { worker, plan, ask, .. } = order;
        if plan.is_some() {
            self.plan = plan;
        }
        match ask {
            Ask::Listen(channel, token) => {
                self.roster.add(&channel, worker);
                session.ask(&statement("LISTEN", &channel), Purpose::Answer(worker, token));
            }
            Ask::Forget(channel) => {
                if self.roster.remove(&channel, worker) {
                    session.ask(&statement("UNLISTEN", &channel), Purpose::Nothing);
                }
            }
            Ask::Mark(token) => session.mark(Purpose::Answer(worker, token)),
        }
    }

    /// Deals with what has arrived.
    fn hear(&mut self, session: &mut Session, restored: &mut Option<(usize, bool)>) -> Result<(), Lost> {
        while let Some(heard) = session.line.heard()? {
            match heard {
                Heard::Notified(notification) => {
                    let notification = Arc::new(notification);
                    for worker in self.roster.workers(&notification.channel) {
                        let items = self.outgoing.entry(worker).or_default();
                        items.push(Item::Message(notification.clone()));
                    }
                }
                Heard::Failed(body) => session.failure = Some(body),
                Heard::Done => {
                    let failure = session.failure.take();
                    match (session.purposes.pop_front(), failure) {
                        (Some(Purpose::Answer(worker, token)), None) => {
                            self.tell(worker, Item::Reached(token));
                        }
                        (Some(Purpose::Answer(worker, token)), Some(_)) => {
                            self.tell(worker, Item::Refused(token));
                        }
                        (Some(Purpose::Restore), Some(body)) => return Err(Lost::Refused(body)),
                        (Some(Purpose::Restore), None) => self.count_restored(session, restored),
                        (Some(Purpose::Nothing), _) => {}
                        (None, _) => return Err(Lost::Unexpected(b'Z')),
                    }
                }
            }
        }
        Ok(())
    }

    /// One channel more is confirmed; after the last one everybody hears of it.
    fn count_restored(&mut self, session: &Session, restored: &mut Option<(usize, bool)>) {
        if let Some((missing, _)) = restored {
            *missing = missing.saturating_sub(1);
            if *missing == 0 {
                self.finish_restoring(session, restored);
            }
        }
    }

    fn finish_restoring(&mut self, session: &Session, restored: &mut Option<(usize, bool)>) {
        let Some((_, gap)) = restored.take() else { return };
        let (dbname, channels, pid) = (&self.station.dbname, self.roster.len(), session.line.pid());
        tracing::info!(dbname, channels, pid, restored = gap, "listening");
        if gap {
            for worker in self.roster.everybody() {
                self.tell(worker, Item::Gap);
            }
        }
        for (worker, token) in std::mem::take(&mut self.waiting) {
            self.tell(worker, Item::Reached(token));
        }
    }

    fn tell(&mut self, worker: WorkerId, item: Item) {
        self.outgoing.entry(worker).or_default().push(item);
    }

    /// Sends the workers what was gathered for them.
    fn flush(&mut self) {
        while let Some((worker, items)) = self.outgoing.pop_first() {
            let news = News { station: self.station.clone(), items };
            self.mailboxes.send(worker, Order::Notify(Box::new(news)));
        }
    }
}

impl Session {
    fn new(server: ServerConnection, plan: Option<&DialPlan>) -> Self {
        Self {
            line: Line::new(server),
            purposes: VecDeque::new(),
            failure: None,
            heard: Instant::now(),
            unused: None,
            primary: plan.map(|plan| (plan.preferred.clone(), plan.preferred.load(Ordering::Relaxed))),
        }
    }

    /// Listens on everything that is wanted; how many statements that takes.
    fn restore(&mut self, roster: &Roster) -> usize {
        for channel in roster.channels() {
            self.ask(&statement("LISTEN", channel), Purpose::Restore);
        }
        roster.len()
    }

    fn ask(&mut self, statement: &str, purpose: Purpose) {
        self.line.say(statement);
        self.purposes.push_back(purpose);
    }

    fn mark(&mut self, purpose: Purpose) {
        self.line.sync();
        self.purposes.push_back(purpose);
    }

    /// Whether no channel has been wanted for a while.
    fn is_unused(&mut self, roster: &Roster) -> bool {
        if !roster.is_empty() {
            self.unused = None;
            return false;
        }
        self.unused.get_or_insert_with(Instant::now).elapsed() >= LINGER
    }

    /// Finds out whether the server lives, and is still the one to listen to.
    fn check(&mut self, plan: Option<&DialPlan>) -> Result<(), Lost> {
        if self.primary.as_ref().is_some_and(|(now, then)| now.load(Ordering::Relaxed) != *then) {
            return Err(Lost::Moved);
        }
        let patience = plan.map_or(PATIENCE, |plan| plan.timeout.min(PATIENCE));
        let quiet = self.heard.elapsed();
        if !self.purposes.is_empty() {
            return if quiet > QUIET + patience { Err(Lost::Silent) } else { Ok(()) };
        }
        if quiet > QUIET {
            self.mark(Purpose::Nothing);
        }
        Ok(())
    }
}
