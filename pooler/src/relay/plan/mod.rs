//! One client message: what is sent for it, and what is owed for it.
//!
//! Names of statements are replaced here; nothing else of a message is copied. Where a server cannot have what
//! the message needs, it is made to answer with its own error rather than with another client's statement.

mod name;
mod open;
mod prepare;

use super::gist::Gist;
use super::journal;
use super::naming::{self, Renamed};
use super::{ClientSide, Outward, Relay, Resolve, Shared, Stop, Violation, state, undo};
use crate::catalog::Hidden;
use crate::server::connection::{Effect, ServerConnection};
use crate::shapes::Shape;
use crate::statements::{Deed, Presence, Statement};
use hawser_sql_router::calls::{Ask, Disturbs, Sequences};
use hawser_sql_router::clean;
use hawser_sql_router::effects::{self, Effect as SqlEffect, Effects};
use hawser_sql_router::ending::Ending;
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode;
use hawser_wire::frame::{HEADER_LENGTH, Header, c_string};
use hawser_wire::reply_queue::{Fate, Request};
use hawser_wire::tag::frontend;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planned {
    /// It is in the outbox.
    Yes,
    /// It has to wait until the server has answered what came before.
    NotYet,
}

impl Relay {
    /// Plans one message. `body` is what has arrived of it: all of it where [`super::upstream`] says so.
    pub(super) fn plan_message(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<Planned, Stop> {
        match header.tag {
            frontend::QUERY => return Ok(self.plan_query(header, body, client, server, shared)),
            frontend::PARSE => return self.plan_parse(header, body, client, server, shared),
            frontend::BIND => return self.plan_bind(header, body, client, server, shared),
            frontend::DESCRIBE => return self.plan_describe(header, body, client, server, shared),
            frontend::CLOSE => self.plan_close(header, body, client, server)?,
            frontend::EXECUTE => return Ok(self.plan_execute(header, body, client, server, shared)),
            frontend::SYNC => return Ok(self.plan_sync(header, body, client, server, shared)),
            frontend::FUNCTION_CALL => {
                return Ok(self.plan_function_call(header, body, client, server, shared));
            }
            frontend::COPY_DONE | frontend::COPY_FAIL => {
                self.forward(header, body, Some(Request::CopyEnd), None, client, server);
            }
            frontend::COPY_DATA | frontend::FLUSH => self.forward(header, body, None, None, client, server),
            frontend::TERMINATE => return Err(Stop::ClientLeft),
            unknown => return Err(Violation::UnknownTag(unknown).into()),
        }
        Ok(Planned::Yes)
    }

    /// Passes the message on as it is; what has not arrived yet follows in pieces.
    fn forward(
        &mut self,
        header: Header,
        body: &[u8],
        request: Option<Request>,
        effect: Option<Effect>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
    ) {
        self.up.out.pass(HEADER_LENGTH + body.len());
        self.up.piece = header.body - body.len();
        if let Some(request) = request {
            owe(request, Fate::Forward, effect, client, server);
        }
    }

    /// Something that may end the transaction is sent. A commit is not forgotten for a later rollback.
    fn note_ending(&mut self, ending: Option<Ending>) {
        if !self.ending.is_some_and(Ending::may_commit) && ending.is_some() {
            self.ending = ending;
        }
    }

    fn plan_query(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Planned {
        let text = body.strip_suffix(b"\0").unwrap_or(body);
        let whole = body.len() == header.body;
        let (gist, effects) = if whole {
            shared.harmless.look(self.pool, text, &shared.shapes)
        } else {
            (Gist::of_beginning(self.pool, text, &shared.shapes), Some(effects::of_beginning(text)))
        };
        if self.resolve != Resolve::Nothing
            && gist.ending == Some(Ending::Commit)
            && self.holds_commit(true, client, server, shared)
        {
            return Planned::NotYet;
        }
        if self.waits_for_ours(effects.as_ref(), client, server) {
            return Planned::NotYet;
        }
        if let Some(effects) = &effects {
            self.lay_open(effects, client, server);
        }
        match effects {
            Some(effects) if whole && effects.names_statements() => {
                let renamed = naming::rename(text, effects, client, shared);
                if renamed.deed.mentions().any(|named| is_undecided(named, server))
                    || !self.is_open(Some(&renamed.deed), client, server)
                {
                    return Planned::NotYet;
                }
                self.plan_renamed_query(header, &renamed, client, server, shared);
            }
            effects => {
                let deed = effects.map(|effects| Deed::new(text, effects));
                if !self.is_open(deed.as_deref(), client, server) {
                    return Planned::NotYet;
                }
                let effect = deed.map(|deed| self.begin(&deed, client, server, shared));
                if whole && self.opens_statement(text, server) {
                    self.up.out.skip(header.total());
                    self.open_statement(text, effect, client, server, shared);
                } else {
                    self.forward(header, body, Some(Request::Query), effect, client, server);
                    if whole {
                        self.ask_early(text, client, server, shared);
                    }
                }
            }
        }
        self.note_ending(gist.ending);
        if let Some(shape) = &gist.shape {
            self.batch.shape.call(shape);
        }
        if self.hidden.0.is_reached_by(text) {
            self.suspect(gist.shape.as_deref(), client, server, shared);
        }
        client.unnamed.statement = None;
        server.unnamed = None;
        self.untold = None;
        self.up.barrier |= client.state.is_meaning_unsettled();
        Planned::Yes
    }

    fn plan_renamed_query(
        &mut self,
        header: Header,
        renamed: &Renamed,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) {
        self.up.out.skip(header.total());
        self.make_way(&renamed.deed, true, server);
        let effect = self.begin(&renamed.deed, client, server, shared);
        self.up.out.ours(|out| {
            encode::message(out, frontend::QUERY, |out| encode::c_string(out, &renamed.text));
        });
        owe(Request::Query, Fate::Forward, Some(effect), client, server);
    }

    /// A text is about to be run that does something to the session.
    fn begin(
        &mut self,
        deed: &Arc<Deed>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Effect {
        self.guard_sequences(&deed.effects, client, server);
        if deed.effects.tells_process {
            client.state.process = Some(server.cancel_key.clone());
        }
        if deed.effects.disturbs >= Disturbs::Ends {
            shared.endings.note(Instant::now());
            self.replay.keep_query();
        }
        if let Some(journal) = &mut self.journal
            && !journal::can_repeat(&deed.effects)
        {
            journal.bar();
        }
        server.tainted |= deed.all_effects().any(|effects| effects.is_indelible);
        if deed.effects.sequences == Sequences::Advanced && !is_begun(server) {
            client.state.linger();
        }
        let may_advance = deed.effects.sequences == Sequences::Advanced
            || deed.effects.ask == Ask::Sampled
            || deed.effects.unseen;
        if may_advance && !self.confined {
            server.sequences = Some(client.session);
            client.state.values.home = NonZeroU32::new(server.cancel_key.pid);
        }
        for effect in &deed.effects.statements {
            self.up.barrier |= decides_what_follows(effect);
            match effect {
                SqlEffect::NeedsAlone(database) => self.outward.push(Outward::NeedsAlone(database.clone())),
                SqlEffect::Renames(roles) => self.outward.extend(roles.iter().cloned().map(Outward::Renames)),
                _ => {}
            }
        }
        let effect = client.state.begin(deed, self.confined, shared);
        if deed.all_effects().any(|effects| effects.ask != Ask::No) {
            state::cast_doubt(client, server);
        }
        effect
    }

    /// A text of this shape is run, or will be, that may run what it does not name. Where that is not known, for the moment,
    /// nobody is asked: an answer that is lost with its server costs the session.
    fn suspect(
        &self,
        shape: Option<&Shape>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) {
        let (hidden, catalog) = self.hidden;
        if hidden != Hidden::Unknown {
            client.state.ask_after(catalog ^ shape.map_or(0, Shape::hash), Ask::Sampled, shared);
        }
        state::cast_doubt(client, server);
    }

    /// Whether something of ours goes ahead of what does this, and what is owed has to come before: it would fail in a
    /// transaction that has failed.
    fn waits_for_ours(
        &self,
        effects: Option<&Effects>,
        client: &ClientSide,
        server: &ServerConnection,
    ) -> bool {
        let ours = |effects| self.opens(effects, client, server) || is_guarded(effects, client, server);
        let comes = !server.queue.is_settled() && !server.queue.is_copy_in();
        comes && effects.is_some_and(ours)
    }

    /// Nobody is told what another session's `nextval` yielded.
    fn guard_sequences(&mut self, effects: &Effects, client: &ClientSide, server: &mut ServerConnection) {
        if is_guarded(effects, client, server) {
            self.prepend(server, "DISCARD SEQUENCES", Effect::Ours);
            server.sequences = Some(client.session);
        }
    }

    /// A function is called by its number. What it leaves behind is asked about unless it is one of those for large objects,
    /// which drivers call so.
    fn plan_function_call(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Planned {
        let oid = body.first_chunk().copied().map(u32::from_be_bytes);
        let deed = (!oid.is_some_and(clean::is_clean_number)).then(|| Deed::new(b"", effects::of_unseen()));
        if let Some(deed) = &deed {
            if self.waits_for_ours(Some(&deed.effects), client, server) {
                return Planned::NotYet;
            }
            self.lay_open(&deed.effects, client, server);
        }
        let effect = deed.map(|deed| self.begin(&deed, client, server, shared));
        self.forward(header, body, Some(Request::FunctionCall), effect, client, server);
        Planned::Yes
    }

    fn plan_sync(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Planned {
        if self.resolve != Resolve::Nothing && self.holds_sync(client, server, shared) {
            return Planned::NotYet;
        }
        self.forward(header, body, Some(Request::Sync), None, client, server);
        Planned::Yes
    }

    fn plan_execute(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Planned {
        if self.commits
            && self.resolve != Resolve::Nothing
            && self.holds_commit(false, client, server, shared)
        {
            return Planned::NotYet;
        }
        let portal = c_string(body).map(|(portal, _)| portal).unwrap_or_default();
        let deed = client.state.of_portal(portal).cloned();
        if let Some(deed) = &deed {
            if deed.mentions().any(|named| is_undecided(named, server))
                || !self.is_open(Some(deed), client, server)
            {
                return Planned::NotYet;
            }
            self.make_way(deed, false, server);
        }
        let mut effect = deed.map(|deed| self.begin(&deed, client, server, shared));
        if effect.is_some() {
            client.state.name_settings_of(portal);
        }
        if let Some(Effect::Does(doing)) = &mut effect {
            doing.ends = doing.ends.or_else(|| client.state.ended_by(portal));
        }
        if let Some(shape) = &self.batch.bound {
            self.batch.shape.call(shape);
        }
        self.forward(header, body, Some(Request::Execute), effect, client, server);
        self.up.barrier |= client.state.is_meaning_unsettled();
        Planned::Yes
    }
}

/// Notes what is owed; if the server will skip the request, its effect is undone at once.
pub(super) fn owe(
    request: Request,
    fate: Fate,
    effect: Option<Effect>,
    client: &mut ClientSide,
    server: &mut ServerConnection,
) {
    if let Some(skipped) = server.queue.push(request, fate, effect) {
        undo(skipped, client, server);
    }
}

/// Whether the server has a statement, or will have it when it comes to what is sent next.
fn is_there(statement: &Statement, server: &mut ServerConnection) -> bool {
    matches!(server.statements.touch(statement.id), Presence::Here | Presence::Sent(_))
}

/// Whether a transaction has begun, or will have when the server comes to what is sent next.
pub(super) fn is_begun(server: &ServerConnection) -> bool {
    server.status != TransactionStatus::Idle
        || server.queue.iter().any(|entry| matches!(entry.effect, Some(Effect::Ours)))
}

/// Whether what another session's `nextval` yielded must be forgotten first.
fn is_guarded(effects: &Effects, client: &ClientSide, server: &ServerConnection) -> bool {
    (effects.sequences == Sequences::Read || effects.unseen)
        && server.sequences != Some(client.session)
        && !server.queue.is_batch_open()
        && server.status != TransactionStatus::Failed
}

/// Whether the Parse of a statement was sent in an earlier batch, and nobody knows yet whether it succeeds.
fn is_undecided(statement: &Statement, server: &mut ServerConnection) -> bool {
    let batch = server.queue.batch();
    matches!(server.statements.touch(statement.id), Presence::Sent(other) if other != batch)
        && !server.queue.is_empty()
}

/// Whether what is planned next depends on how a statement ends.
fn decides_what_follows(effect: &SqlEffect) -> bool {
    match effect {
        SqlEffect::Prepare { .. }
        | SqlEffect::Deallocate(_)
        | SqlEffect::DeallocateAll
        | SqlEffect::DiscardAll
        | SqlEffect::Unlisten(_)
        | SqlEffect::UnlistenAll
        | SqlEffect::Reset(_)
        | SqlEffect::ResetAll => true,
        SqlEffect::Set(name, _) | SqlEffect::SetLocal(Some((name, _))) => {
            !crate::parameters::is_meaningless(name)
        }
        _ => false,
    }
}
