//! A worker: one thread, one runtime, its sessions and pools.
//!
//! Everything here is `Rc` and `RefCell`; other threads speak to a worker through its mailbox only.

mod census;
mod scale;

use crate::config::settings::{Balance, PoolMode};
use crate::ids::{SessionId, WorkerId};
use crate::listener::Door;
use crate::mailbox::{Arrival, ClientPlace, Drain, Mailboxes, Move, Order};
use crate::notify::Desk;
use crate::pool::Surroundings;
use crate::pool::halt::Scope;
use crate::pool::pools::Pools;
use crate::relay::{Proven, Shared};
use crate::runtime::Runtime;
use crate::server::dial::Local;
use crate::session::end::End;
use crate::session::greeting::{self, Greeting};
use crate::session::handle::Signal;
use crate::session::login::{Admitted, Candidate, Outcome};
use crate::session::moving::Homeless;
use crate::session::refusal::Refusal;
use crate::session::services::{LoginUnderway, Services};
use crate::session::{Leave, Session};
use crate::shapes::Shapes;
use crate::stream::{Buffers, Peer, Socket, StdSocket, Stream};
use crate::topology::Newest;
use hawser_wire::startup::StartupMessage;
use scale::Scale;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};

/// How often deadlines are looked at and pools are kept up.
const TICK: Duration = Duration::from_millis(100);

/// Rounds of ticks between two sweeps of what is shared.
const SWEEP: u32 = 300;

/// Runs a worker until its mailbox closes or it has drained.
///
/// # Errors
/// The runtime could not be started.
pub fn run(
    worker: WorkerId,
    mailboxes: Mailboxes,
    mailbox: mpsc::UnboundedReceiver<Order>,
    runtime: Arc<Runtime>,
    listeners: Vec<std::net::TcpListener>,
) -> std::io::Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    tokio.block_on(async move {
        let shared = Rc::new(Shared {
            buffers: Buffers::default(),
            local: Local::default(),
            registry: runtime.facilities.registry.clone(),
            endings: runtime.facilities.endings.clone(),
            proven: Proven::default(),
            desk: Desk::new(worker, mailboxes.clone()),
            shapes: Shapes::new(runtime.settings.stats.fingerprints),
            harmless: crate::relay::Harmless::default(),
        });
        let surroundings = Rc::new(Surroundings {
            worker,
            mailboxes: mailboxes.clone(),
            shared: shared.clone(),
            topology: Newest::default(),
        });
        let pools = Pools::new(surroundings, runtime.clone());
        let services = Rc::new(Services::new(worker, mailboxes, pools, shared, &runtime));
        spawn_local(tick(services.clone()));
        let doors = listeners.into_iter().map(|listener| {
            let door = Door::tcp(listener)?;
            let services = services.clone();
            Ok(spawn_local(async move {
                door.each_visitor(|socket, peer| begin_greeting(&services, socket, peer)).await;
            }))
        });
        let doors = doors.collect::<std::io::Result<Vec<_>>>()?;
        obey(&services, mailbox, doors).await;
        Ok(())
    })
}

/// Greets a client in a task of its own, which ends when there are too many of them.
fn begin_greeting(services: &Rc<Services>, socket: StdSocket, peer: Option<Peer>) {
    services.begin_login(|login| spawn_local(greet(services.clone(), socket, peer, login)).abort_handle());
}

/// Carries out orders until the last one.
async fn obey(
    services: &Rc<Services>,
    mut mailbox: mpsc::UnboundedReceiver<Order>,
    mut doors: Vec<JoinHandle<()>>,
) {
    while let Some(order) = mailbox.recv().await {
        if let Some(at) = order.session().and_then(|session| services.residence(session)) {
            services.mailboxes.send(at, order);
            continue;
        }
        match order {
            Order::Greet(socket, peer) => begin_greeting(services, socket, peer),
            Order::Place(arrival) => {
                services
                    .begin_login(|login| spawn_local(place(services.clone(), arrival, login)).abort_handle());
            }
            Order::Settle(moved) => send_on(services, moved),
            Order::Gone(session) => services.forget_residence(session),
            Order::Cancel { session, key, done } => cancel(services, session, &key, done),
            Order::Adopt(key, parked, origin, permit) => {
                if let Some(pool) = services.pools.find(&key) {
                    pool.adopt(*parked, origin, permit);
                }
            }
            Order::Lend(key, to, process) => {
                if let Some(pool) = services.pools.find(&key) {
                    pool.lend_to(to, process);
                }
            }
            Order::Evict(database) => services.pools.evict(&database),
            Order::Notify(news) => services.shared.desk.deliver(*news),
            Order::Topology(snapshot) => services.follow(snapshot),
            Order::Suspect { cluster, host, since } => services.pools.suspect(cluster, host, since),
            Order::Proven(_) => services.router.proven.notify_waiters(),
            Order::Apply(runtime) => services.apply(&runtime),
            Order::Report(wanted, reply) => {
                drop(spawn_local(census::report(services.clone(), wanted, reply)))
            }
            Order::Halt(scope, stance) => services.pools.halt(&scope, stance),
            Order::IsAtRest(scope, reply) => drop(reply.send(services.pools.are_at_rest(&scope))),
            Order::IsBusy(cluster, reply) => {
                let mut busy = false;
                services.each_session(|session| busy |= session.works_on_primary(cluster));
                let _ = reply.send(busy);
            }
            Order::Kill(scope) => kill(services, &scope),
            Order::Vacate(location) => services.pools.vacate(&location),
            Order::Disturb(disturbance) => services.disturb(&disturbance),
            Order::KillSession(id, reply) => {
                let session = services.session(id);
                let found = session.inspect(|session| session.raise(Signal::Kill)).is_some();
                let _ = reply.send(found);
            }
            Order::Drain(drain) => {
                services.runtime().facilities.loads.close();
                doors.drain(..).for_each(|door| door.abort());
                if drain != Drain::WaitForClients {
                    services.drain(drain);
                }
            }
            Order::Leave(left) => drop(spawn_local(leave(services.clone(), left))),
        }
    }
}

/// Ends the sessions of these databases.
fn kill(services: &Services, scope: &Scope) {
    services.each_session(|session| {
        if session.about().is_some_and(|about| scope.has(&about.database)) {
            session.raise(Signal::Kill);
        }
    });
    for session in services.departed(scope) {
        let (reply, _) = oneshot::channel();
        let home = services.mailboxes.worker_of(session);
        services.mailboxes.send(home, Order::KillSession(session, reply));
    }
}

/// Waits for the last session to end, closes the server connections, and says so.
async fn leave(services: Rc<Services>, left: oneshot::Sender<()>) {
    let loads = services.runtime().facilities.loads.clone();
    loads.close();
    while loads.is_anybody_underway()
        || services.session_count() > 0
        || services.pools.all().iter().any(|pool| pool.counts().resetting > 0)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    services.pools.close();
    drop(left);
}

/// Upkeep, by the clock.
async fn tick(services: Rc<Services>) {
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0u32;
    let mut scale = Scale::new();
    loop {
        clock.tick().await;
        let now = Instant::now();
        services.each_session(|session| session.check_deadline(now));
        services.pools.upkeep(now);
        scale.weigh(&services, now);
        round = round.wrapping_add(1);
        if round.is_multiple_of(SWEEP) && services.worker.0 == 0 {
            services.runtime().facilities.sweep();
        }
    }
}

/// Hands a cancel request that has proved itself to the session.
fn cancel(services: &Rc<Services>, id: crate::ids::SessionId, key: &[u8], done: oneshot::Sender<()>) {
    let Some(session) = services.session(id).filter(|session| session.fits(key)) else { return };
    spawn_local(async move {
        session.cancel().await;
        drop(done);
    });
}

/// A client that has just connected: reads its first words, and finds out where it should live.
async fn greet(services: Rc<Services>, socket: StdSocket, peer: Option<Peer>, login: LoginUnderway) {
    let since = Instant::now();
    let runtime = services.runtime();
    let Ok(socket) = Socket::from_std(socket) else { return };
    let Some(peer) = peer.or_else(|| socket.peer().ok()) else { return };
    let Some(place) = ClientPlace::take(&runtime.facilities.clients) else {
        return refuse_one_too_many(socket, "max_client_connections").await;
    };
    let limit = runtime.settings.timeouts.login;
    match tokio::time::timeout(limit, Box::pin(greeting::greet(socket, &runtime))).await {
        Ok(Ok(Greeting::Startup(startup))) => {
            let (stream, input, startup) = *startup;
            let home = home(&services, &runtime, &startup);
            if home == services.worker {
                let candidate = Candidate { stream, input, peer, startup, since };
                return serve(services, candidate, place, login).await;
            }
            if let Ok(stream) = stream.park() {
                let arrival = Arrival { stream, input, peer, startup, since, place };
                services.mailboxes.send(home, Order::Place(Box::new(arrival)));
            }
        }
        Ok(Ok(Greeting::Cancel(cancel))) => {
            let (stream, request) = *cancel;
            let id = SessionId(request.pid);
            let (done, finished) = oneshot::channel();
            let order = Order::Cancel { session: id, key: request.key, done };
            services.mailboxes.send(services.mailboxes.worker_of(id), order);
            let patience = runtime.settings.timeouts.cancel_wait;
            let _ = tokio::time::timeout(patience, finished).await;
            stream.close();
        }
        Ok(Err(end)) => note_end(&services, peer, None, &end),
        Err(_) => note_end(&services, peer, None, &End::LoginTimeOut),
    }
}

/// The worker on which this client should live.
fn home(services: &Services, runtime: &Runtime, startup: &StartupMessage) -> WorkerId {
    let me = services.worker;
    let Some(database) = runtime.database(startup.database()) else { return me };
    let key = Runtime::pool_key(startup.database(), database, startup.user());
    let Some(budget) = runtime.facilities.budget(&key) else { return me };
    let first = {
        let mut hasher = std::hash::DefaultHasher::new();
        key.hash(&mut hasher);
        usize::try_from(hasher.finish() % 64).unwrap_or(0)
    };
    let pool = &runtime.settings.pool;
    let size = database.pool.size.unwrap_or(pool.size);
    let mode = database.pool.mode.unwrap_or(pool.mode);
    // Whoever can move later need not be carried about now.
    let moves = mode != PoolMode::Session && runtime.settings.balance == Balance::Auto;
    let has_room = moves && runtime.facilities.loads.has_room(me.0);
    WorkerId(budget.home(me.0, first, Runtime::spread(size, mode), has_room))
}

/// A client that another worker has greeted.
async fn place(services: Rc<Services>, arrival: Box<Arrival>, login: LoginUnderway) {
    let Arrival { stream, input, peer, startup, since, place } = *arrival;
    let Ok(stream) = stream.unpark() else { return };
    serve(services, Candidate { stream, input, peer, startup, since }, place, login).await;
}

/// Logs a client in and serves it to its end.
async fn serve(services: Rc<Services>, candidate: Candidate, place: ClientPlace, login: LoginUnderway) {
    let peer = candidate.peer;
    let who = format!("{}/{}", candidate.startup.database(), candidate.startup.user());
    let runtime = services.runtime();
    // Who replicates stays in its login as long as it lives, and need not give way to those who come.
    let login = (!candidate.is_replication()).then_some(login);
    let outcome = Box::pin(candidate.log_in(&services)).await;
    drop(login);
    match outcome {
        Ok(Outcome::Session(session, admitted)) => {
            if runtime.settings.log.connections {
                tracing::info!(%peer, who, "client logged in");
            }
            drop(runtime);
            spawn_local(attend(services, *session, peer, who.into(), (admitted, place)));
        }
        Ok(Outcome::Replicated) => {}
        Ok(Outcome::Operator(operator)) => {
            tracing::info!(%peer, who, admin = operator.is_admin, "operator logged in");
            services.mailboxes.send_operator(operator);
        }
        Err(end) => note_end(&services, peer, Some(&who), &end),
    }
}

/// The task that an idle client costs: the session, and who it is for the log.
async fn attend(
    services: Rc<Services>,
    session: Session,
    peer: Peer,
    who: Box<str>,
    places: (Box<Admitted>, ClientPlace),
) {
    match session.run().await {
        Leave::Over(end) => note_end(&services, peer, Some(&who), &end),
        Leave::Moves(to, guest, passage) => {
            let (admitted, place) = places;
            let Admitted { admission, registration } = *admitted;
            tracing::debug!(%peer, who, worker = to.0, "session goes on on another worker");
            registration.depart();
            let moved = Move { guest: *guest, to, peer, who, admission, place, passage };
            send_on(&services, Box::new(moved));
        }
    }
}

/// A session is under way: to here, or by way of the worker that its number names. Whatever is said to it goes that way,
/// too, and so comes after it.
fn send_on(services: &Rc<Services>, moved: Box<Move>) {
    let (id, to) = (moved.guest.id, moved.to);
    let home = services.mailboxes.worker_of(id);
    if home == services.worker {
        services.note_residence(id, to);
    }
    match services.worker {
        me if me == to => settle(services, *moved),
        me if me == home => services.mailboxes.send(to, Order::Settle(moved)),
        _ => services.mailboxes.send(home, Order::Settle(moved)),
    }
}

/// A session comes from another worker.
fn settle(services: &Rc<Services>, moved: Move) {
    let Move { guest, peer, who, admission, place, passage, .. } = moved;
    let id = guest.id;
    match Session::settle(guest, services) {
        Ok((session, registration)) => {
            let places = (Box::new(Admitted { admission, registration }), place);
            spawn_local(attend(services.clone(), session, peer, who, places));
        }
        Err(Homeless::Lost(error)) => {
            services.note_gone(id);
            note_end(services, peer, Some(&who), &End::ClientLost(error.kind()));
        }
        Err(Homeless::NoDatabase(stream, refusal)) => {
            services.note_gone(id);
            note_end(services, peer, Some(&who), &End::Refused(refusal.sqlstate(), refusal.words()));
            let Ok(stream) = stream.unpark() else { return };
            drop(spawn_local(say_and_close(stream, refusal)));
        }
    }
    drop(passage);
}

async fn refuse_one_too_many(socket: Socket, limit: &'static str) {
    say_and_close(Stream::plain(socket), Refusal::TooManyClients(limit)).await;
}

/// The last words to a client.
async fn say_and_close(mut stream: Stream, refusal: Refusal) {
    let mut out = Vec::new();
    refusal.write(&mut out, hawser_wire::encode::Severity::Fatal);
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&out)).await;
}

fn note_end(services: &Services, peer: Peer, who: Option<&str>, end: &End) {
    let log = &services.runtime().settings.log;
    let who = who.unwrap_or("-");
    let usual = matches!(end, End::ClientLeft | End::ClientLost(_) | End::CancelDone | End::Drained(_));
    if usual && log.disconnections {
        tracing::info!(%peer, who, reason = %end, "client gone");
    } else if !usual && log.pooler_errors {
        tracing::warn!(%peer, who, reason = %end, "client closed");
    }
}
