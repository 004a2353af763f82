//! What commits and rollbacks keep and undo.

use super::book;
use crate::notify::subscriptions::Subscriptions;
use crate::pins::PinReason;
use crate::relay::ClientSide;
use crate::server::connection::ServerConnection;
use std::rc::Rc;

pub(in crate::relay) fn commit(client: &mut ClientSide) {
    book(client, Subscriptions::commit);
    let state = &mut client.state;
    state.committed = state.settings.clone();
    state.committed_pins = state.pins;
    state.forget_local();
}

/// What was set since the transaction began is gone. What does not belong to a transaction stays.
pub(super) fn roll_back(client: &mut ClientSide, server: &mut ServerConnection) {
    book(client, Subscriptions::roll_back);
    let state = &mut client.state;
    state.pins = state.pins.after_rollback(state.committed_pins);
    state.committed_pins = state.pins;
    state.set(state.committed.clone());
    server.settings = state.committed.clone();
    state.forget_local();
}

pub(super) fn roll_back_to(name: &str, client: &mut ClientSide, server: &mut ServerConnection) {
    book(client, |book| book.roll_back_to(name));
    let state = &mut client.state;
    let Some(passing) = &mut state.passing else { return };
    let Some(at) = passing.savepoints.iter().rposition(|known| known.name == name) else { return };
    passing.savepoints.truncate(at + 1);
    if let Some(savepoint) = passing.savepoints.last() {
        let settings = savepoint.settings.clone();
        passing.local.clone_from(&savepoint.local);
        server.settings = settings.clone();
        state.set(settings);
    }
}

/// The server is ready for the next batch; outside a transaction everything that was done is committed, or, when
/// something failed, undone.
pub(in crate::relay) fn ready(idle: bool, client: &mut ClientSide, server: &mut ServerConnection) {
    let failed = std::mem::take(&mut client.state.failed);
    client.state.resetting = false;
    if !idle {
        return;
    }
    // A portal of the next batch may be bound already.
    if server.queue.is_settled() {
        client.state.forget_portals();
    }
    book(client, if failed { Subscriptions::roll_back } else { Subscriptions::commit });
    let state = &mut client.state;
    if state.pins.has(PinReason::Unverified) {
        state.ask();
    }
    if Rc::ptr_eq(&state.settings, &state.committed) && state.pins == state.committed_pins {
        state.forget_local();
        return;
    }
    if failed { roll_back(client, server) } else { commit(client) }
}
