//! Looks after the listening connection of one station.
//!
//! It is opened when the first channel is asked for, restored when it is lost, follows the primary, and is closed
//! when no channel has been wanted for a while.

use super::connection::{Connection, PATIENCE, Purpose};
use super::lead::Lead;
use super::line::{Heard, Lost};
use super::news::{Ask, HubOrder, Item, News, Question, Station, Token, statement};
use super::roster::Roster;
use crate::ids::{SessionId, WorkerId};
use crate::mailbox::{Mailboxes, Order};
use crate::server::dial::{self, DialError, DialPlan, Local};
use crate::topology::Snapshot;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

/// Pause after the first failed attempt to restore a connection; it doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// See `FIRST_PAUSE`.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(1);
/// A connection that held for so long, or an attempt that took so long, is followed by the next one at once.
const SETTLED: Duration = Duration::from_secs(1);

/// So long a server waits for others to leave a database that a statement needs for itself.
const WANTED_ALONE: Duration = Duration::from_secs(5);

/// How an attempt to open a connection ends.
enum Attempt {
    /// It is open.
    Up(Box<Connection>),
    /// It cannot be opened.
    Failed(DialError),
    /// It is wanted elsewhere by now.
    Moved,
    /// The workers are gone.
    Over,
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

/// See the module.
pub(super) struct Keeper {
    station: Arc<Station>,
    mailboxes: Mailboxes,
    local: Rc<Local>,
    /// Where the primary is.
    lead: Lead,
    plan: Option<Box<DialPlan>>,
    roster: Roster,
    /// Who waits for a channel while there is no connection.
    waiting: Vec<(WorkerId, Token)>,
    outgoing: BTreeMap<WorkerId, Vec<Item>>,
    /// Who notifies on which server process.
    senders: HashMap<u32, SessionId>,
    /// Somebody waits until then for the database to be left.
    vacate: Option<Instant>,
}

impl Keeper {
    /// Nobody wants anything of it yet.
    pub(super) fn new(
        station: Arc<Station>,
        mailboxes: Mailboxes,
        local: Rc<Local>,
        snapshot: Option<&Arc<Snapshot>>,
    ) -> Self {
        Self {
            station,
            mailboxes,
            local,
            lead: snapshot.map_or(Lead::Settings, |snapshot| Lead::of(snapshot)),
            plan: None,
            roster: Roster::default(),
            waiting: Vec::new(),
            outgoing: BTreeMap::new(),
            senders: HashMap::new(),
            vacate: None,
        }
    }

    /// Carries out orders until there are no more.
    pub(super) async fn run(mut self, mut orders: UnboundedReceiver<HubOrder>) {
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
            if !self.await_lead(orders).await {
                return false;
            }
            let began = Instant::now();
            let station = self.station.clone();
            let dbname = &station.dbname;
            match self.dial(orders).await {
                Attempt::Over => return false,
                Attempt::Moved => continue,
                Attempt::Up(connection) => match self.attend(*connection, gap, orders).await {
                    Ending::Over => return false,
                    Ending::Unused => continue,
                    Ending::Lost(lost) => {
                        let channels = self.roster.len();
                        tracing::warn!(dbname, channels, reason = %lost, "listening connection lost");
                        gap = true;
                    }
                },
                Attempt::Failed(error) => {
                    let error = dial::explain(&error);
                    tracing::warn!(dbname, error, "cannot open the listening connection");
                    self.refuse_waiting();
                    // Who is still here listens already.
                    gap = true;
                }
            }
            if began.elapsed() >= SETTLED {
                // Whatever happened to it, it is not what happened to the last one.
                pause = FIRST_PAUSE;
                continue;
            }
            if !self.rest(pause, orders).await {
                return false;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.refuse_waiting();
        true
    }

    /// Waits while there is no primary. Who waits for a channel is refused when that takes long. False when the
    /// workers are gone.
    async fn await_lead(&mut self, orders: &mut UnboundedReceiver<HubOrder>) -> bool {
        while self.lead == Lead::Nowhere && !self.roster.is_empty() {
            let order = tokio::time::timeout(PATIENCE, orders.recv()).await;
            match order {
                Ok(Some(order)) => self.note(order),
                Ok(None) => return false,
                Err(_) => self.refuse_waiting(),
            }
        }
        true
    }

    fn refuse_waiting(&mut self) {
        for (worker, token) in std::mem::take(&mut self.waiting) {
            self.tell(worker, Item::Refused(token));
        }
        self.flush();
    }

    /// Opens a connection while orders go on coming in.
    async fn dial(&mut self, orders: &mut UnboundedReceiver<HubOrder>) -> Attempt {
        let Some(mut plan) = self.plan.clone() else { return Attempt::Failed(DialError::NoPrimary) };
        let lead = self.lead.clone();
        if let Lead::Host(address, _) = &lead {
            plan.hosts = vec![address.clone()];
            plan.preferred = Arc::default();
        }
        let local = self.local.clone();
        let mut dialing = std::pin::pin!(dial::dial(&plan, &local, 0));
        loop {
            tokio::select! {
                server = &mut dialing => return match server {
                    Ok(server) => {
                        let known = plan.hosts.get(plan.preferred.load(Ordering::Relaxed)).cloned();
                        Attempt::Up(Box::new(Connection::new(server, lead, known)))
                    }
                    Err(error) => Attempt::Failed(error),
                },
                order = orders.recv() => match order {
                    Some(order) => self.note(order),
                    None => return Attempt::Over,
                },
            }
            if self.lead != lead {
                return Attempt::Moved;
            }
        }
    }

    /// Waits before the next attempt, unless the primary is another one. False when the workers are gone.
    async fn rest(&mut self, pause: Duration, orders: &mut UnboundedReceiver<HubOrder>) -> bool {
        let end = Instant::now() + pause;
        let lead = self.lead.clone();
        while self.lead == lead {
            tokio::select! {
                () = tokio::time::sleep_until(end) => break,
                order = orders.recv() => match order {
                    Some(order) => self.note(order),
                    None => return false,
                },
            }
        }
        true
    }

    /// What an order asks for, and for which worker, once what it says about the station is noted.
    fn take(&mut self, order: HubOrder) -> Option<(WorkerId, Ask)> {
        match order {
            HubOrder::Question(Question { worker, plan, ask, .. }) => {
                if plan.is_some() {
                    self.plan = plan;
                }
                Some((worker, ask))
            }
            HubOrder::Follow(snapshot) => {
                self.lead = Lead::of(&snapshot);
                None
            }
            HubOrder::Vacate(_) => {
                self.vacate = Some(Instant::now() + WANTED_ALONE);
                None
            }
        }
    }

    /// An order while there is no connection.
    fn note(&mut self, order: HubOrder) {
        match self.take(order) {
            None => {}
            Some((worker, Ask::Listen(channel, token))) => {
                self.add(&channel, worker);
                self.waiting.push((worker, token));
            }
            Some((worker, Ask::Forget(channel))) => _ = self.remove(&channel, worker),
            Some((worker, Ask::Mark(token, _))) => {
                self.tell(worker, Item::Refused(token));
                self.flush();
            }
            Some((_, Ask::Release(process, session))) => self.release(process, session),
        }
    }

    /// Listens until the connection ends.
    async fn attend(
        &mut self,
        mut connection: Connection,
        gap: bool,
        orders: &mut UnboundedReceiver<HubOrder>,
    ) -> Ending {
        let mut restored = Some((connection.restore(&self.roster), gap));
        if self.roster.is_empty() {
            self.finish_restoring(&connection, &mut restored);
        }
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ending = loop {
            let outcome = tokio::select! {
                order = orders.recv() => {
                    let Some(order) = order else { break Ending::Over };
                    self.carry_out(order, &mut connection);
                    while let Ok(order) = orders.try_recv() {
                        self.carry_out(order, &mut connection);
                    }
                    if self.roster.is_empty() && self.vacate.is_some_and(|until| Instant::now() < until) {
                        break Ending::Unused;
                    }
                    connection.follow(&self.lead)
                }
                read = std::future::poll_fn(|cx| connection.line.poll(cx)) => {
                    connection.heard = Instant::now();
                    read.and_then(|()| self.hear(&mut connection, &mut restored))
                }
                _ = clock.tick() => {
                    if connection.is_unused(&self.roster) {
                        break Ending::Unused;
                    }
                    connection.check(self.plan.as_deref())
                }
            };
            self.flush();
            if let Err(lost) = outcome {
                break Ending::Lost(lost);
            }
        };
        self.part(connection, ending)
    }

    /// The connection is at its end: nobody waits for its marks any more, and who waits for a channel
    /// waits for the next one.
    fn part(&mut self, connection: Connection, ending: Ending) -> Ending {
        for purpose in connection.purposes {
            match purpose {
                Purpose::Channel(worker, token) => self.waiting.push((worker, token)),
                Purpose::Mark(worker, token, _) => self.tell(worker, Item::Refused(token)),
                Purpose::Nothing | Purpose::Restore => {}
            }
        }
        self.flush();
        connection.line.close();
        ending
    }

    fn carry_out(&mut self, order: HubOrder, connection: &mut Connection) {
        match self.take(order) {
            None => {}
            Some((worker, Ask::Listen(channel, token))) => {
                self.add(&channel, worker);
                connection.ask(&statement("LISTEN", &channel), Purpose::Channel(worker, token));
            }
            Some((worker, Ask::Forget(channel))) => {
                let unwanted = self.remove(&channel, worker);
                if unwanted {
                    connection.ask(&statement("UNLISTEN", &channel), Purpose::Nothing);
                }
            }
            Some((worker, Ask::Mark(token, process))) => {
                connection.mark(Purpose::Mark(worker, token, process));
            }
            Some((_, Ask::Release(process, session))) => {
                connection.forget_sender(process, session);
                self.release(process, session);
            }
        }
    }

    /// A session does not notify any more on a server process.
    fn release(&mut self, process: u32, session: SessionId) {
        if self.senders.get(&process) == Some(&session) {
            self.senders.remove(&process);
        }
    }

    fn add(&mut self, channel: &Arc<str>, worker: WorkerId) {
        self.roster.add(channel, worker);
        self.mailboxes.audience().note(&self.station, true);
    }

    /// A worker does not want a channel any more. True when nobody does.
    fn remove(&mut self, channel: &str, worker: WorkerId) -> bool {
        let unwanted = self.roster.remove(channel, worker);
        self.mailboxes.audience().note(&self.station, !self.roster.is_empty());
        unwanted
    }

    /// Deals with what has arrived.
    fn hear(
        &mut self,
        connection: &mut Connection,
        restored: &mut Option<(usize, bool)>,
    ) -> Result<(), Lost> {
        while let Some(heard) = connection.line.heard()? {
            match heard {
                Heard::Notified(mut notification) => {
                    notification.sender = self.senders.get(&notification.pid).copied();
                    let notification = Arc::new(notification);
                    for worker in self.roster.workers(&notification.channel) {
                        let items = self.outgoing.entry(worker).or_default();
                        items.push(Item::Message(notification.clone()));
                    }
                }
                Heard::Failed(body) => connection.failure = Some(body),
                Heard::Done => {
                    let failure = connection.failure.take();
                    match (connection.purposes.pop_front(), failure) {
                        (Some(Purpose::Channel(worker, token)), None) => {
                            self.tell(worker, Item::Reached(token));
                        }
                        (Some(Purpose::Mark(worker, token, process)), None) => {
                            self.senders.extend(process.map(|process| (process, token.session)));
                            self.tell(worker, Item::Reached(token));
                        }
                        (
                            Some(Purpose::Channel(worker, token) | Purpose::Mark(worker, token, _)),
                            Some(_),
                        ) => {
                            self.tell(worker, Item::Refused(token));
                        }
                        (Some(Purpose::Restore), Some(body)) => return Err(Lost::Refused(body)),
                        (Some(Purpose::Restore), None) => self.count_restored(connection, restored),
                        (Some(Purpose::Nothing), _) => {}
                        (None, _) => return Err(Lost::Unexpected(b'Z')),
                    }
                }
            }
        }
        Ok(())
    }

    /// One channel more is confirmed; after the last one everybody hears of it.
    fn count_restored(&mut self, connection: &Connection, restored: &mut Option<(usize, bool)>) {
        if let Some((missing, _)) = restored {
            *missing = missing.saturating_sub(1);
            if *missing == 0 {
                self.finish_restoring(connection, restored);
            }
        }
    }

    fn finish_restoring(&mut self, connection: &Connection, restored: &mut Option<(usize, bool)>) {
        let Some((_, gap)) = restored.take() else { return };
        let (dbname, channels, pid) = (&self.station.dbname, self.roster.len(), connection.line.pid());
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
