//! Parse, and what the server must have before a message can be sent.

use super::name::OnServer;
use super::{Planned, is_there, is_undecided, owe};
use crate::relay::gist::Gist;
use crate::relay::naming::{self, Renamed};
use crate::relay::{ClientSide, Relay, Shared, Stop, Violation};
use crate::server::connection::{Effect, ServerConnection, UnnamedOwner};
use crate::statements::{About, Deed, Form, Presence, Statement, StatementKey};
use hawser_sql_router::effects::{self, Effects};
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode::{self, ServerName};
use hawser_wire::frame::Header;
use hawser_wire::frontend as message;
use hawser_wire::reply_queue::{Fate, Request};
use hawser_wire::tag::frontend;
use std::sync::Arc;

impl Relay {
    pub(super) fn plan_parse(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<Planned, Stop> {
        let parse = message::parse(body).map_err(Violation::Malformed)?;
        if self.is_name_undecided(parse.name, client, server) {
            return Ok(Planned::NotYet);
        }
        let renamed = self.rename_parse(parse.text, client, server, shared);
        let text = renamed.as_ref().map_or(parse.text, |renamed| &renamed.text);
        let plain = parse.name.is_empty() && renamed.is_none();
        let plain = plain.then(|| shared.harmless.look(self.pool, text, &shared.shapes));
        if let Some((_, effects)) = &plain
            && self.waits_for_ours(effects.as_ref(), client, server)
        {
            return Ok(Planned::NotYet);
        }
        self.traffic.client_parses += 1;
        if let Some((gist, effects)) = plain {
            let deed = effects.map(|effects| Deed::new(text, effects));
            let effect = self.remember_unnamed(text, parse.types, deed, gist, client, server);
            self.forward(header, body, Some(Request::Parse), Some(effect), client, server);
            return Ok(Planned::Yes);
        }
        if parse.name.is_empty() {
            let gist = Gist::of(self.pool, parse.text, &shared.shapes);
            let deed = renamed.as_ref().map(|renamed| renamed.deed.clone());
            let effect = self.remember_unnamed(text, parse.types, deed, gist, client, server);
            self.up.out.skip(header.total());
            self.up.out.ours(|out| encode::parse(out, b"", text, parse.types));
            owe(Request::Parse, Fate::Forward, Some(effect), client, server);
            return Ok(Planned::Yes);
        }
        self.up.out.skip(header.total());
        if server.queue.is_skipping() {
            // The server would leave it out, so it is left out here, and nothing is true of the name.
            return Ok(Planned::Yes);
        }
        if let Some(known) = naming::current(parse.name, client, shared) {
            // The server must say that the name is taken.
            if !client.state.literal {
                self.occupy(&known, false, server);
            }
            let name = OnServer::of(&known, parse.name, client);
            self.up.out.ours(|out| encode::parse(out, name.as_bytes(), text, parse.types));
            owe(Request::Parse, Fate::Forward, None, client, server);
            return Ok(Planned::Yes);
        }
        if client.statements.len() >= self.limits.max_client_statements {
            return Err(Violation::TooManyStatements(self.limits.max_client_statements).into());
        }
        let key =
            StatementKey { form: Form::Parse, text, types: parse.types, meaning: client.state.meaning() };
        let statement = match &renamed {
            None => shared.registry.statement(key),
            Some(renamed) => shared.registry.statement_that_does(key, || Some(renamed.deed.clone())),
        };
        client.statements.expect(parse.name, statement.clone(), server.queue.batch());
        self.prepare_named(parse.name, &statement, client, server);
        Ok(Planned::Yes)
    }

    /// The text of a Parse with our names in it, if it names prepared statements; these are put on the server, because
    /// it looks at them when it is told what the text is.
    pub(super) fn rename_parse(
        &mut self,
        text: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Option<Renamed> {
        if !naming::may_name_statements(text) {
            return None;
        }
        let effects = effects::of_text(text).filter(Effects::names_statements)?;
        let renamed = naming::rename(text, effects, client, shared);
        for needed in renamed.deed.needs() {
            self.ensure(needed, server);
        }
        Some(renamed)
    }

    /// The client's Parse of a named statement: answered by us if the server has the statement and would surely
    /// say yes, else by the server.
    pub(super) fn prepare_named(
        &mut self,
        name: &[u8],
        statement: &Arc<Statement>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
    ) {
        if client.state.literal {
            self.up.out.ours(|out| encode::parse(out, name, &statement.text, &statement.types));
            let effect = Some(Effect::NamedKnown(name.into()));
            return owe(Request::Parse, Fate::Forward, effect, client, server);
        }
        let known = is_there(statement, server) && !is_undecided(statement, server);
        if known && server.status != TransactionStatus::Failed {
            let fate = Fate::Synthesise(encode::PARSE_COMPLETE);
            owe(Request::Parse, fate, Some(Effect::NamedKnown(name.into())), client, server);
            return;
        }
        self.traffic.server_parses += 1;
        let limit = self.limits.max_server_statements;
        let mut made = None;
        self.up.out.ours(|out| made = Some(server.make_room(out, statement, limit)));
        let ours = ServerName::new(statement.id.0);
        self.up.out.ours(|out| encode::parse(out, ours.as_bytes(), &statement.text, &statement.types));
        let effect = made.map(|made| Effect::Named(name.into(), made));
        owe(Request::Parse, Fate::Forward, effect, client, server);
    }

    /// Gives the server a statement that it lacks, unseen by the client.
    pub(in crate::relay) fn ensure(&mut self, statement: &Arc<Statement>, server: &mut ServerConnection) {
        if is_there(statement, server) {
            return;
        }
        if let Some(deed) = &statement.deed {
            for needed in deed.needs() {
                self.ensure(needed, server);
            }
        }
        self.traffic.server_parses += 1;
        let limit = self.limits.max_server_statements;
        self.up.out.ours(|out| server.prepare(out, statement, limit));
    }

    /// Makes sure that the server has something under the name of this statement. What the client prepared may have become
    /// impossible meanwhile, which is no reason why it could not be deallocated.
    fn occupy(&mut self, statement: &Arc<Statement>, ahead: bool, server: &mut ServerConnection) {
        if server.statements.touch(statement.id) != Presence::Missing {
            return;
        }
        self.traffic.server_parses += 1;
        let limit = self.limits.max_server_statements;
        self.up.out.ours(|out| server.occupy(out, statement, limit, ahead));
    }

    pub(super) fn remember_unnamed(
        &mut self,
        text: &[u8],
        types: &[u8],
        deed: Option<Arc<Deed>>,
        gist: Gist,
        client: &mut ClientSide,
        server: &mut ServerConnection,
    ) -> Effect {
        if let Some(deed) = &deed {
            self.guard_sequences(&deed.effects, client, server);
            self.lay_open(&deed.effects, client, server);
        }
        client.unnamed.define(text, types, deed, gist);
        let generation = client.unnamed.generation;
        server.unnamed = Some(UnnamedOwner { session: client.session, generation });
        Effect::Unnamed(generation)
    }

    /// Makes sure that the unnamed statement on the server is this client's, or that there is none.
    pub(super) fn ensure_unnamed(&mut self, client: &mut ClientSide, server: &mut ServerConnection) {
        let mine = UnnamedOwner { session: client.session, generation: client.unnamed.generation };
        let Some(kept) = &client.unnamed.statement else {
            self.up.out.fixed(encode::CLOSE_UNNAMED);
            server.unnamed = None;
            return owe(Request::Close, Fate::Swallow, None, client, server);
        };
        if server.unnamed == Some(mine) {
            return;
        }
        if let Some(deed) = &kept.deed {
            for needed in deed.needs() {
                self.ensure(needed, server);
            }
        }
        self.traffic.server_parses += 1;
        self.up.out.ours(|out| {
            encode::message(out, frontend::PARSE, |out| {
                out.push(0);
                out.extend_from_slice(&kept.rest);
            });
        });
        server.unnamed = Some(mine);
        owe(Request::Parse, Fate::Swallow, Some(Effect::UnnamedAgain), client, server);
    }

    /// Whether an earlier batch decides what a name means, or whether the name is free.
    pub(super) fn is_name_undecided(
        &self,
        name: &[u8],
        client: &ClientSide,
        server: &ServerConnection,
    ) -> bool {
        let pending = || client.statements.named(name).and_then(|named| named.pending);
        !server.queue.is_empty() && pending().is_some_and(|batch| batch != server.queue.batch())
    }

    /// What must be on the server, or must not, before a text is run that names prepared statements. `ahead`: the
    /// text is a simple query.
    pub(super) fn make_way(&mut self, deed: &Deed, ahead: bool, server: &mut ServerConnection) {
        let limit = self.limits.max_server_statements;
        for (at, about) in deed.about.iter().enumerate() {
            match about {
                About::Nothing | About::Defines(_) => {}
                About::Makes(made) => {
                    let before = deed.about.get(..at).unwrap_or_default();
                    // The text itself removes it first.
                    let used =
                        before.iter().any(|about| matches!(about, About::Names(used) if used.id == made.id));
                    if !used {
                        self.up.out.ours(|out| _ = server.make_room(out, made, limit));
                    }
                }
                About::Uses(needed) if ahead => {
                    if !is_there(needed, server) {
                        self.traffic.server_parses += 1;
                        self.up.out.ours(|out| server.prepare_ahead(out, needed, limit));
                    }
                }
                About::Uses(needed) => self.ensure(needed, server),
                About::Names(needed) => self.occupy(needed, ahead, server),
            }
        }
    }
}
