//! What a command that succeeded does to its session.

use super::Savepoint;
use super::book;
use super::settings::{reset, reset_all, set};
use super::transaction::{commit, roll_back, roll_back_to};
use crate::notify::subscriptions::Subscriptions;
use crate::parameters::ParameterSet;
use crate::pins::{OwnValues, PinReason};
use crate::relay::{ClientSide, Shared};
use crate::server::connection::{Doubt, ServerConnection};
use crate::statements::About;
use hawser_sql_router::effects::Effect;
use std::num::NonZeroU32;

/// A command succeeded: `tag` is what the server called it, `effect` what the text said that it does.
pub(in crate::relay) fn command(
    tag: &[u8],
    effect: Option<(&Effect, &About)>,
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) {
    let said = effect.map(|(effect, _)| effect);
    match (tag, said) {
        (b"ROLLBACK", Some(Effect::RollbackTo(name))) => roll_back_to(name, client, server),
        (b"ROLLBACK", _) => roll_back(client, server),
        (b"COMMIT" | b"PREPARE TRANSACTION", _) => commit(client),
        (b"DISCARD ALL", _) => discard_all(client, server, shared),
        (b"DEALLOCATE ALL", _) => {
            client.state.pins.remove(PinReason::SqlPrepared);
            client.state.end_literal();
            client.statements.clear();
            server.statements.clear();
        }
        (b"DISCARD SEQUENCES", _) => {
            client.state.give_up_values();
            client.state.values.home = None;
            server.sequences = None;
        }
        (b"LISTEN", Some(Effect::Listen(channel))) if listens(client, channel) => {}
        (b"LISTEN", _) => client.state.pins.add(PinReason::Listen),
        (b"UNLISTEN", Some(Effect::Unlisten(channel))) => book(client, |book| book.unlisten(channel)),
        (b"UNLISTEN", Some(Effect::UnlistenAll)) => {
            client.state.pins.remove(PinReason::Listen);
            book(client, Subscriptions::unlisten_all);
        }
        (b"PREPARE", None | Some(Effect::None)) => client.state.ask(),
        (b"LOAD", _) => client.state.pins.add(PinReason::LibraryLoad),
        (b"SET" | b"RESET", None | Some(Effect::None)) => client.state.ask(),
        (_, None | Some(Effect::None)) => {}
        (_, Some(_)) => apply(effect, client, server, shared),
    }
    if !client.state.pins.is_empty() && may_unpin(tag) {
        client.state.ask();
    }
    if tag.starts_with(b"CREATE") && client.state.settings.value("search_path").is_some_and(is_temporary) {
        client.state.ask();
    }
}

pub(super) fn is_temporary(search_path: &str) -> bool {
    search_path.contains("pg_temp")
}

/// Commands after which the reason for a pin may be gone.
pub(super) fn may_unpin(tag: &[u8]) -> bool {
    let ends: [&[u8]; 7] =
        [b"DROP", b"CLOSE", b"DISCARD", b"DEALLOCATE", b"COMMIT", b"ROLLBACK", b"UNLISTEN"];
    ends.iter().any(|word| tag.starts_with(word))
}

/// LISTEN has succeeded. Whether the hub serves the session.
pub(super) fn listens(client: &ClientSide, channel: &str) -> bool {
    client.listener.as_ref().is_some_and(|listener| listener.book(|book| book.listen(channel)))
}

/// Notes whose sequence values a server that is no standby would tell. A client that reads them stays where they are.
pub(in crate::relay) fn note_sequences(tag: &[u8], client: &mut ClientSide, server: &mut ServerConnection) {
    let advances = [&b"INSERT"[..], b"COPY", b"MERGE"].iter().any(|word| tag.starts_with(word));
    if advances {
        server.sequences = Some(client.session);
        client.state.values.home = NonZeroU32::new(server.cancel_key.pid);
        if client.state.values.asked {
            client.state.pins.add(PinReason::SequenceValue);
        }
    }
}

pub(super) fn apply(
    effect: Option<(&Effect, &About)>,
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) {
    let Some((effect, about)) = effect else { return };
    match effect {
        Effect::Savepoint(name) => book(client, |book| book.savepoint(name)),
        Effect::Release(name) => book(client, |book| book.release(name)),
        _ => {}
    }
    let state = &mut client.state;
    match effect {
        Effect::Set(name, value) => set(name, value, client, server, shared),
        Effect::Characteristics(settings) => {
            for (name, value) in settings {
                set(name, value, client, server, shared);
            }
        }
        Effect::SetLocal(Some((name, value))) => state.set_local(name.clone(), value.clone()),
        Effect::Reset(name) => reset(name, client, server, shared),
        Effect::ResetAll => reset_all(client, server, shared),
        Effect::Unknown => state.ask(),
        Effect::LoadLibrary => state.pins.add(PinReason::LibraryLoad),
        Effect::Savepoint(name) => {
            let (settings, local) = (state.settings.clone(), state.local().to_vec());
            let savepoint = Savepoint { name: name.clone(), settings, local };
            state.passing.get_or_insert_default().savepoints.push(savepoint);
        }
        Effect::Release(name) => {
            if let Some(passing) = &mut state.passing
                && let Some(at) = passing.savepoints.iter().rposition(|known| known.name == *name)
            {
                passing.savepoints.truncate(at);
            }
        }
        Effect::Prepare { name, .. } => {
            if let About::Makes(statement) | About::Defines(statement) = about {
                client.statements.define(name.0.as_bytes(), statement.clone());
                server.statements.settle(statement.id);
            }
        }
        Effect::Deallocate(name) => {
            if let Some(gone) = client.statements.forget(name.0.as_bytes()) {
                server.statements.forget(gone.id);
            }
        }
        Effect::None
        | Effect::SetLocal(None)
        | Effect::RollbackTo(_)
        | Effect::Execute(_)
        | Effect::DeallocateAll
        | Effect::DiscardAll
        | Effect::Listen(_)
        | Effect::Unlisten(_)
        | Effect::UnlistenAll
        | Effect::Notify
        | Effect::NeedsAlone(_)
        | Effect::Renames(_) => {}
    }
}

pub(super) fn discard_all(client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    book(client, Subscriptions::clear);
    client.statements.clear();
    client.unnamed.statement = None;
    server.statements.clear();
    server.unnamed = None;
    server.doubt = Doubt::None;
    server.sequences = None;
    let state = &mut client.state;
    state.pins = state.pins.after_discard();
    if let Some(questions) = &mut state.questions {
        questions.next = None;
    }
    state.tidy_questions();
    state.literal = false;
    state.values = OwnValues::default();
    state.passing = None;
    state.resetting = true;
    state.set(state.defaults.clone());
    server.settings = shared.local.interner.intern(ParameterSet::default());
    if !server.base.query.is_empty() {
        server.doubt = Doubt::Any;
    }
}
