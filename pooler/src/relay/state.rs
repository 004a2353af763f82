//! What a client's statements do to its session: tracked settings and pins, with their transaction rules.
//!
//! A change is assumed when the server says that the statement succeeded, and holds when the transaction commits.
//! While client and server are joined both have the same settings, so each change is made to both.

use super::{ClientSide, Shared};
use crate::notify::subscriptions::Subscriptions;
use crate::parameters::ParameterSet;
use crate::pins::{PinReason, PinReasons};
use crate::server::connection::{Effect as Owed, ServerConnection};
use hawser_sql_router::effects::{Effect, Thing};
use std::rc::Rc;
use std::sync::Arc;

/// What a client wants set, and what keeps it on its server.
#[derive(Debug)]
pub struct SessionState {
    /// What is set now, as the client sees it.
    pub settings: Rc<ParameterSet>,
    /// Why it must keep its server connection.
    pub pins: PinReasons,
    /// As of the last commit.
    committed: Rc<ParameterSet>,
    committed_pins: PinReasons,
    /// What the client asked for at login: the values that RESET goes back to.
    defaults: Rc<ParameterSet>,
    savepoints: Vec<(String, Rc<ParameterSet>)>,
    /// Portals whose statements have effects.
    portals: Vec<Portal>,
    /// Something failed since the last ReadyForQuery.
    failed: bool,
    /// A RESET went by since the last ReadyForQuery: what the server reports are its defaults, not the client's.
    resetting: bool,
}

/// A portal's name, and what its statement does.
type Portal = (Box<[u8]>, Arc<[Effect]>);

impl SessionState {
    /// A session that wants `settings` from the start.
    #[must_use]
    pub fn new(settings: Rc<ParameterSet>) -> Self {
        Self {
            committed: settings.clone(),
            defaults: settings.clone(),
            settings,
            pins: PinReasons::default(),
            committed_pins: PinReasons::default(),
            savepoints: Vec::new(),
            portals: Vec::new(),
            failed: false,
            resetting: false,
        }
    }

    /// A portal was bound to a statement with these effects.
    pub(super) fn bind(&mut self, portal: &[u8], effects: Option<&Arc<[Effect]>>) {
        if !self.portals.is_empty() {
            self.portals.retain(|(name, _)| **name != *portal);
        }
        if let Some(effects) = effects {
            self.portals.push((portal.into(), effects.clone()));
        }
    }

    /// What is owed for running a portal: its effects, if it has any.
    pub(super) fn of_portal(&self, portal: &[u8]) -> Option<Owed> {
        if self.portals.is_empty() {
            return None;
        }
        let (_, effects) = self.portals.iter().find(|(name, _)| **name == *portal)?;
        Some(Owed::Statements(effects.iter().cloned().collect()))
    }

    /// The server connection is lost, and with it everything that was not committed and all that pinned the session:
    /// what the client relies on of that is returned.
    pub(super) fn lose(&mut self) -> PinReasons {
        self.settings = self.committed.clone();
        self.pins = PinReasons::default();
        self.savepoints.clear();
        self.portals.clear();
        (self.failed, self.resetting) = (false, false);
        std::mem::take(&mut self.committed_pins)
    }

    /// Something failed.
    pub(super) const fn fail(&mut self) {
        self.failed = true;
    }
}

/// A command succeeded: `tag` is what the server called it, `effect` what the text said that it does.
pub(super) fn command(
    tag: &[u8],
    effect: Option<Effect>,
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) {
    match (tag, effect) {
        (b"ROLLBACK", Some(Effect::RollbackTo(name))) => roll_back_to(&name, client, server),
        (b"ROLLBACK", _) => roll_back(client, server),
        (b"COMMIT" | b"PREPARE TRANSACTION", _) => commit(client),
        (b"DISCARD ALL", _) => discard_all(client, server, shared),
        (b"DEALLOCATE ALL", _) => {
            client.state.pins.remove(PinReason::SqlPrepared);
            client.statements.clear();
            server.statements.clear();
        }
        (b"LISTEN", Some(Effect::Listen(channel))) if listens(client, &channel) => {}
        (b"LISTEN", _) => client.state.pins.add(PinReason::Listen),
        (b"UNLISTEN", Some(Effect::Unlisten(channel))) => book(client, |book| book.unlisten(&channel)),
        (b"UNLISTEN", Some(Effect::UnlistenAll)) => {
            client.state.pins.remove(PinReason::Listen);
            book(client, Subscriptions::unlisten_all);
        }
        (b"PREPARE", _) => client.state.pins.add(PinReason::SqlPrepared),
        (b"LOAD", _) => client.state.pins.add(PinReason::LibraryLoad),
        (b"SET" | b"RESET", None | Some(Effect::None)) => client.state.pins.add(PinReason::Setting),
        (_, None | Some(Effect::None)) => {}
        (_, Some(effect)) => apply(effect, client, server, shared),
    }
}

/// LISTEN has succeeded. Whether the hub serves the session.
fn listens(client: &ClientSide, channel: &str) -> bool {
    client.listener.as_ref().is_some_and(|listener| listener.book(|book| book.listen(channel)))
}

/// Tells the book of what the session listens on, if it has one.
fn book(client: &ClientSide, tell: impl FnOnce(&mut Subscriptions)) {
    if let Some(listener) = &client.listener {
        listener.book(tell);
    }
}

fn apply(effect: Effect, client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    match &effect {
        Effect::Savepoint(name) => book(client, |book| book.savepoint(name)),
        Effect::Release(name) => book(client, |book| book.release(name)),
        _ => {}
    }
    let state = &mut client.state;
    match effect {
        Effect::Set(name, value) => {
            state.settings = shared.local.interner.with(&state.settings, &name, &value);
            server.settings = state.settings.clone();
        }
        Effect::Reset(name) => {
            state.resetting = true;
            let default = state.defaults.value(&name).map(ToOwned::to_owned);
            state.settings = shared.local.interner.set(&state.settings, &name, default.as_deref());
            server.settings = shared.local.interner.set(&server.settings, &name, None);
        }
        Effect::ResetAll => {
            state.resetting = true;
            state.settings = state.defaults.clone();
            server.settings = shared.local.interner.intern(ParameterSet::default());
            state.pins.remove(PinReason::Setting);
        }
        Effect::Unknown => state.pins.add(PinReason::Setting),
        Effect::Savepoint(name) => state.savepoints.push((name, state.settings.clone())),
        Effect::Release(name) => {
            if let Some(at) = state.savepoints.iter().rposition(|(known, _)| *known == name) {
                state.savepoints.truncate(at);
            }
        }
        Effect::Makes(thing) => state.pins.add(reason(thing)),
        Effect::Drops(thing) => state.pins.remove(reason(thing)),
        Effect::None
        | Effect::SetLocal
        | Effect::RollbackTo(_)
        | Effect::Listen(_)
        | Effect::Unlisten(_)
        | Effect::UnlistenAll
        | Effect::Notify => {}
    }
}

const fn reason(thing: Thing) -> PinReason {
    match thing {
        Thing::Temporary => PinReason::TemporaryObject,
        Thing::HoldableCursor => PinReason::HoldableCursor,
        Thing::AdvisoryLock => PinReason::AdvisoryLock,
    }
}

fn commit(client: &mut ClientSide) {
    book(client, Subscriptions::commit);
    let state = &mut client.state;
    state.committed = state.settings.clone();
    state.committed_pins = state.pins;
    state.savepoints.clear();
}

/// What was set since the transaction began is gone; a session-level lock that was taken stays.
fn roll_back(client: &mut ClientSide, server: &mut ServerConnection) {
    book(client, Subscriptions::roll_back);
    let state = &mut client.state;
    let locked = state.pins.has(PinReason::AdvisoryLock);
    state.pins = state.committed_pins;
    if locked {
        state.pins.add(PinReason::AdvisoryLock);
        state.committed_pins.add(PinReason::AdvisoryLock);
    }
    state.settings = state.committed.clone();
    server.settings = state.committed.clone();
    state.savepoints.clear();
}

fn roll_back_to(name: &str, client: &mut ClientSide, server: &mut ServerConnection) {
    book(client, |book| book.roll_back_to(name));
    let state = &mut client.state;
    let Some(at) = state.savepoints.iter().rposition(|(known, _)| known == name) else { return };
    state.savepoints.truncate(at + 1);
    if let Some((_, settings)) = state.savepoints.last() {
        state.settings = settings.clone();
        server.settings = settings.clone();
    }
}

fn discard_all(client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    book(client, Subscriptions::clear);
    client.statements.clear();
    client.unnamed.statement = None;
    server.statements.clear();
    server.unnamed = None;
    let state = &mut client.state;
    state.pins = PinReasons::default();
    state.portals.clear();
    state.resetting = true;
    state.settings = state.defaults.clone();
    server.settings = shared.local.interner.intern(ParameterSet::default());
}

/// The server is ready for the next batch; outside a transaction everything that was done is committed, or, when
/// something failed, undone.
pub(super) fn ready(idle: bool, client: &mut ClientSide, server: &mut ServerConnection) {
    let failed = std::mem::take(&mut client.state.failed);
    client.state.resetting = false;
    if !idle {
        return;
    }
    // A portal of the next batch may be bound already.
    if !client.state.portals.is_empty() && server.queue.is_settled() {
        client.state.portals.clear();
    }
    book(client, if failed { Subscriptions::roll_back } else { Subscriptions::commit });
    let state = &client.state;
    if Rc::ptr_eq(&state.settings, &state.committed) && state.pins == state.committed_pins {
        return;
    }
    if failed { roll_back(client, server) } else { commit(client) }
}

/// A setting that the server reports has this value now. True when the client must not be told: it went back to
/// the server's default, but the client's own is another.
pub(super) fn reported(
    name: &str,
    value: &str,
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) -> bool {
    let interner = &shared.local.interner;
    let is_default =
        server.welcome.iter().any(|(known, default)| known.eq_ignore_ascii_case(name) && default == value);
    let tracked = (!is_default).then_some(value);
    if client.state.resetting {
        server.settings = interner.set(&server.settings, name, tracked);
        return client.state.defaults.value(name).is_some();
    }
    if server.settings.value(name) == tracked {
        return false;
    }
    let same = Rc::ptr_eq(&client.state.settings, &server.settings);
    server.settings = interner.set(&server.settings, name, tracked);
    client.state.settings =
        if same { server.settings.clone() } else { interner.set(&client.state.settings, name, tracked) };
    false
}
