//! What the server has told of what a client left behind.

use crate::pins::PinReason;
use crate::relay::question;
use crate::relay::{ClientSide, Shared};
use crate::server::connection::ServerConnection;
use std::rc::Rc;

/// The server has said what the client left behind: what can be carried becomes the session's, what cannot pins it.
pub(in crate::relay) fn answered(
    rows: &[Vec<Option<String>>],
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) {
    let Some(question) = client.state.take_asked() else { return };
    let before = client.state.settings.clone();
    let mut findings = question::read(rows);
    let by_hub = |channel: &String| client.listener.as_ref().is_some_and(|listener| listener.has(channel));
    if !findings.channels.iter().all(by_hub) {
        findings.things.add(PinReason::Listen);
    }
    for name in &findings.prepared {
        let is_known = client.state.literal && client.statements.named(name.as_bytes()).is_some();
        findings.things.add(if is_known { PinReason::OwnNames } else { PinReason::SqlPrepared });
    }
    let settings = findings.settings(&before, &server.base.settings);
    let state = &mut client.state;
    state.set(if settings == *before { before.clone() } else { shared.local.interner.intern(settings) });
    state.committed = state.settings.clone();
    server.settings = state.settings.clone();
    let clean = Rc::ptr_eq(&before, &state.settings) && findings.things == state.pins.that_can_be_asked();
    state.pins = state.pins.with_answer(findings.things);
    state.committed_pins = state.pins;
    state.literal &= state.pins.has(PinReason::OwnNames);
    question.judge(clean, &shared.proven);
    if question.may_advance_sequences() {
        server.sequences = Some(client.session);
    }
}

/// The server could not be asked: the client stays where it is. It may have been a late cancel of the client's, so the
/// server is asked once more.
pub(in crate::relay) fn unanswered(client: &mut ClientSide) {
    let state = &mut client.state;
    let _ = state.take_asked();
    if !state.pins.has(PinReason::Unverified) {
        state.ask();
    }
    state.pins.add(PinReason::Unverified);
    state.committed_pins = state.pins;
}
