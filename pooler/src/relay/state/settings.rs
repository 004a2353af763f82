//! SET and RESET that succeeded, and what the server reports of settings.

use crate::parameters::{self, ParameterSet};
use crate::pins::PinReason;
use crate::relay::{ClientSide, Shared};
use crate::server::connection::ServerConnection;
use std::rc::Rc;

pub(super) fn set(
    name: &str,
    value: &str,
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) {
    let state = &mut client.state;
    if name.contains('.') {
        shared.proven.learn(name);
    }
    match name {
        "seed" => return state.pins.add(PinReason::RandomSeed),
        "hawser.pin" if is_true(value) => state.pins.add(PinReason::Requested),
        "hawser.pin" => state.pins.remove(PinReason::Requested),
        _ => {}
    }
    if let Some(passing) = &mut state.passing {
        passing.local.retain(|(known, _)| known != name);
    }
    let interner = &shared.local.interner;
    let mut settings = interner.with(&state.settings, name, value);
    if name == "session_authorization" {
        settings = interner.set(&settings, "role", None);
    }
    state.set(settings);
    server.settings = state.settings.clone();
}

pub(super) fn reset(name: &str, client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    let (state, interner) = (&mut client.state, &shared.local.interner);
    state.resetting = true;
    if name == "hawser.pin" {
        state.pins.remove(PinReason::Requested);
    }
    // A setting that only applications know is empty from now on, not unknown.
    let nothing = name.contains('.').then_some("");
    let default = state.defaults.value(name).map(ToOwned::to_owned);
    state.set(interner.set(&state.settings, name, default.as_deref().or(nothing)));
    server.settings = interner.set(&server.settings, name, nothing);
    if name == "session_authorization" {
        state.set(interner.set(&state.settings, "role", None));
        server.settings = interner.set(&server.settings, "role", None);
    }
}

pub(super) fn reset_all(client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    let (state, interner) = (&mut client.state, &shared.local.interner);
    state.resetting = true;
    state.pins.remove(PinReason::Requested);
    // RESET ALL leaves the roles as they are.
    let roles = server.settings.iter().filter(|(name, _)| parameters::is_role(name));
    server.settings = interner.intern(ParameterSet::from_pairs(roles));
    let mut settings = ParameterSet::clone(&state.defaults);
    for name in ["session_authorization", "role"] {
        match state.settings.value(name) {
            Some(value) => settings.put(name, value),
            None => settings.remove(name),
        }
    }
    state.set(interner.intern(settings));
}

/// As the server reads a boolean.
pub(super) fn is_true(value: &str) -> bool {
    ["on", "true", "yes", "1", "t", "y"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// A setting that the server reports has this value now. True when the client must not be told: it went back to
/// the server's default, but the client's own is another.
pub(in crate::relay) fn reported(
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
    let settings =
        if same { server.settings.clone() } else { interner.set(&client.state.settings, name, tracked) };
    client.state.set(settings);
    false
}
