//! The operator's desk on the control thread: turns questions and orders of `hawser-admin` into the pooler's own.
//!
//! Workers are asked through their mailboxes, and answer from cells that they have anyway, so that no question delays a
//! query. `answers` makes facts of what they say, `orders` carries orders out, `periods` keeps averages.

mod answers;
mod bans;
mod consoles;
mod explain;
mod holds;
mod hosts;
mod machine;
mod orders;
mod periods;

use crate::config::Effective;
use crate::config::settings::Settings;
use crate::ids::{ClusterId, HostId};
use crate::listener::Listening;
use crate::mailbox::{Drain, Mailboxes, Operator, Order};
use crate::pool::PoolReport;
use crate::pool::halt::Halts;
use crate::report::{Wanted, WorkerReport};
use crate::runtime::{Facilities, Runtime};
use crate::stream::Adapted;
use crate::topology::Topology;
use consoles::Consoles;
use hawser_admin::console::{self, Guest};
use hawser_admin::door::facts::Ban;
use hawser_admin::door::{Call, Door, Question, Role};
use hawser_admin::http;
use periods::Periods;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::mpsc;

/// A setting that an operator has changed by hand: our name, and the value in our words.
pub type Override = (&'static str, String);

/// Settings that were read again.
#[derive(Debug)]
pub struct Reloaded {
    /// As meant.
    pub settings: Settings,
    /// Where each came from.
    pub sources: Vec<Effective>,
    /// What differs from those before, in words.
    pub changes: Vec<String>,
}

/// Reads the settings again, with what an operator has changed by hand; or says what is wrong, one mistake a line.
pub type Reload = Box<dyn FnMut(&Settings, &[Override]) -> Result<Reloaded, Vec<String>>>;

/// See the module.
pub struct Desk {
    mailboxes: Mailboxes,
    door: Door,
    runtime: RefCell<Arc<Runtime>>,
    sources: RefCell<Vec<Effective>>,
    reload: RefCell<Reload>,
    overrides: RefCell<Vec<Override>>,
    halts: RefCell<Halts>,
    bans: RefCell<BTreeMap<(ClusterId, HostId), Ban>>,
    periods: RefCell<Periods>,
    listening: Vec<Listening>,
    topology: RefCell<Topology>,
    consoles: Consoles,
    /// Whether it was SUSPEND that suspended everything: that ends with the last console.
    suspended: Cell<bool>,
    draining: Cell<bool>,
    endings: mpsc::UnboundedSender<Drain>,
    started: SystemTime,
    settings_read: Cell<SystemTime>,
    settings_wrong: Cell<bool>,
}

/// What a desk is made of.
pub struct Furniture {
    /// To the workers.
    pub mailboxes: Mailboxes,
    /// The settings in force.
    pub runtime: Arc<Runtime>,
    /// Where they came from.
    pub sources: Vec<Effective>,
    /// Reads them again.
    pub reload: Reload,
    /// Sockets that listen.
    pub listening: Vec<Listening>,
    /// Who watches clusters.
    pub topology: Topology,
    /// Who is told that an operator wants the process to end.
    pub endings: mpsc::UnboundedSender<Drain>,
}

impl Desk {
    /// A desk that serves whatever comes through its door, and operators that workers hand over.
    #[must_use]
    pub fn open(furniture: Furniture, operators: mpsc::UnboundedReceiver<Box<Operator>>) -> Rc<Self> {
        let (door, calls) = Door::new();
        let Furniture { mailboxes, runtime, sources, reload, listening, topology, endings } = furniture;
        let desk = Rc::new(Self {
            mailboxes,
            door,
            runtime: RefCell::new(runtime),
            sources: RefCell::new(sources),
            reload: RefCell::new(reload),
            overrides: RefCell::default(),
            halts: RefCell::default(),
            bans: RefCell::default(),
            periods: RefCell::new(Periods::new(Instant::now())),
            listening,
            topology: RefCell::new(topology),
            consoles: Consoles::default(),
            suspended: Cell::new(false),
            draining: Cell::new(false),
            endings,
            started: SystemTime::now(),
            settings_read: Cell::new(SystemTime::now()),
            settings_wrong: Cell::new(false),
        });
        tokio::task::spawn_local(desk.clone().answer(calls));
        tokio::task::spawn_local(desk.clone().receive(operators));
        desk
    }

    /// The settings in force.
    #[must_use]
    pub fn runtime(&self) -> Arc<Runtime> {
        self.runtime.borrow().clone()
    }

    /// Serves HTTP on a socket that listens.
    pub fn serve_http(&self, listener: std::net::TcpListener) {
        let token =
            self.runtime.borrow().settings.http.token.as_ref().map(|token| http::Token::new(&token.0));
        let door = self.door.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = http::serve(listener, door, token).await {
                tracing::error!(%error, "HTTP ended");
            }
        });
    }

    /// The process is ending.
    pub fn begin_draining(&self) {
        self.draining.set(true);
    }

    fn facilities(&self) -> Arc<Facilities> {
        self.runtime.borrow().facilities.clone()
    }

    async fn answer(self: Rc<Self>, mut calls: mpsc::UnboundedReceiver<Call>) {
        while let Some(call) = calls.recv().await {
            let desk = self.clone();
            tokio::task::spawn_local(async move {
                match call {
                    Call::Ask(questions, reply) => drop(reply.send(desk.facts(&questions).await)),
                    Call::Explain(database, text, reply) => drop(reply.send(desk.explain(database, &text))),
                    Call::Obey(order, reply) => drop(reply.send(desk.obey(order).await)),
                }
            });
        }
    }

    async fn receive(self: Rc<Self>, mut operators: mpsc::UnboundedReceiver<Box<Operator>>) {
        while let Some(operator) = operators.recv().await {
            tokio::task::spawn_local(self.clone().serve(*operator));
        }
    }

    async fn serve(self: Rc<Self>, operator: Operator) {
        let Operator { stream, greeting, input, about, application_name, is_admin } = operator;
        let Ok(stream) = stream.unpark() else { return };
        let guest = Guest {
            user: about.user.to_string(),
            database: about.database.to_string(),
            role: if is_admin { Role::Admin } else { Role::Reader },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            greeting,
            input,
            // Nothing that is asked on the console can be cancelled, so the number names nobody.
            cancel_key: (0, rand::random::<[u8; 4]>().to_vec()),
        };
        let console = self.consoles.enter(about, application_name);
        tokio::select! {
            outcome = console::serve(Adapted::new(stream), guest, self.door.clone()) => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "console closed");
                }
            }
            () = console.killed() => tracing::info!(id = console.id, "console killed"),
        }
        self.consoles.leave(console.id);
        self.end_lonely_suspension();
    }

    /// What every worker says.
    async fn survey(&self, wanted: Wanted) -> Vec<WorkerReport> {
        let asked: Vec<_> = self.mailboxes.ask_all(|reply| Order::Report(wanted, reply));
        let mut reports = Vec::with_capacity(asked.len());
        for answer in asked {
            reports.push(answer.await.unwrap_or_default());
        }
        reports
    }

    /// Ends a period of averages.
    pub async fn end_period(&self) {
        let reports = self.survey(Wanted::default()).await;
        self.periods.borrow_mut().end(answers::totals(&merged(&reports)), Instant::now());
    }

    /// Writes the counters of each pool to the log.
    pub async fn log_pools(&self) {
        for pool in merged(&self.survey(Wanted::default()).await) {
            let counts = pool.counts;
            tracing::info!(
                pool = %pool.key,
                clients = pool.clients,
                waiting = counts.waiting,
                leased = counts.leased,
                idle = counts.idle,
                opening = counts.opening,
                resetting = counts.resetting,
                transactions = pool.tally.transactions,
                queries = pool.tally.queries,
                "stats"
            );
        }
    }
}

/// Pools of several workers, by their keys.
fn merged(reports: &[WorkerReport]) -> Vec<PoolReport> {
    let mut pools: BTreeMap<_, PoolReport> = BTreeMap::new();
    for pool in reports.iter().flat_map(|report| &report.pools) {
        pools.entry(&pool.key).and_modify(|known| known.add(pool)).or_insert_with(|| pool.clone());
    }
    pools.into_values().collect()
}

/// Shapes of queries that a scrape tells.
const BUSIEST: usize = 100;

/// What workers have to be asked for the questions.
fn wanted(questions: &[Question]) -> Wanted {
    let asks = |question| questions.contains(&question);
    let shapes = match (asks(Question::Fingerprints), asks(Question::BusiestFingerprints)) {
        (true, _) => usize::MAX,
        (false, true) => BUSIEST,
        (false, false) => 0,
    };
    Wanted {
        sessions: asks(Question::Pools) || asks(Question::Process),
        clients: asks(Question::Clients),
        servers: asks(Question::Servers),
        shapes,
    }
}
