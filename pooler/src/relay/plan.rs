//! One client message: what is sent for it, and what is owed for it.
//!
//! Names of statements are replaced here; nothing else of a message is copied. Where a server cannot have what
//! the message needs, it is made to answer with its own error rather than with another client's statement.

use super::gist::Gist;
use super::naming::{self, Renamed};
use super::{ClientSide, Outward, Relay, Resolve, Shared, Stop, Violation, undo};
use crate::pins::PinReason;
use crate::server::connection::{Doubt, Effect, ServerConnection, UnnamedOwner};
use crate::statements::{About, Deed, Form, Presence, Statement, StatementKey};
use hawser_sql_router::calls::{Ask, Sequences};
use hawser_sql_router::effects::{self, Effect as SqlEffect, Effects};
use hawser_sql_router::ending::Ending;
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode::{self, SERVER_NAME_PREFIX, ServerName};
use hawser_wire::frame::{HEADER_LENGTH, Header, c_string};
use hawser_wire::frontend::{self as message, Target};
use hawser_wire::reply_queue::{Fate, Request};
use hawser_wire::tag::frontend;
use std::num::NonZeroU32;
use std::sync::Arc;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planned {
    /// It is in the outbox.
    Yes,
    /// It has to wait until the server has answered what came before.
    NotYet,
}

/// What a client's name means for a message that uses it.
enum Meant {
    Statement(Arc<Statement>),
    Nothing,
    /// An earlier batch decides that, and nobody knows yet whether it succeeds.
    Undecided,
}

/// What the server calls a statement.
enum OnServer<'a> {
    /// As we do.
    Ours(ServerName),
    /// As the client does, on the server connection that it keeps.
    Clients(&'a [u8]),
}

impl<'a> OnServer<'a> {
    fn of(statement: &Statement, name: &'a [u8], client: &ClientSide) -> Self {
        if client.state.literal { Self::Clients(name) } else { Self::Ours(ServerName::new(statement.id.0)) }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ours(name) => name.as_bytes(),
            Self::Clients(name) => name,
        }
    }

    /// What a Bind or Describe of it tells by failing. What the client itself has prepared is its own affair.
    fn bound(&self, statement: &Statement) -> Option<Effect> {
        matches!(self, Self::Ours(_)).then_some(Effect::Bound(statement.id))
    }
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
                self.forward(header, body, Some(Request::FunctionCall), None, client, server);
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
        let harmless = if whole { shared.harmless.gist(self.pool, text, &shared.shapes) } else { None };
        let effects = if harmless.is_some() { None } else { effects::of_text(text) };
        let gist = harmless.unwrap_or_else(|| Gist::of(self.pool, text, &shared.shapes));
        if self.resolve != Resolve::Nothing
            && gist.ending == Some(Ending::Commit)
            && self.holds_commit(true, client, server, shared)
        {
            return Planned::NotYet;
        }
        if let Some(effects) = &effects {
            self.lay_open(effects, client, server);
        }
        match effects {
            Some(effects) if whole && effects.names_statements() => {
                let renamed = naming::rename(text, effects, client, shared);
                if renamed.deed.needs().any(|needed| is_undecided(needed, server))
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
                    self.ask_early(text, client, server, shared);
                }
            }
        }
        self.note_ending(gist.ending);
        if let Some(shape) = &gist.shape {
            self.batch.shape.call(shape);
        }
        client.unnamed.statement = None;
        server.unnamed = None;
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
        if deed.effects.ask != Ask::No {
            server.doubt = Doubt::Of(client.session);
        }
        if deed.effects.sequences == Sequences::Advanced && !is_begun(server) {
            client.state.linger();
        }
        if deed.effects.sequences == Sequences::Advanced || deed.effects.ask == Ask::Sampled {
            server.sequences = Some(client.session);
            client.state.home = NonZeroU32::new(server.cancel_key.pid);
        }
        for effect in &deed.effects.statements {
            self.up.barrier |= decides_what_follows(effect);
            if let SqlEffect::NeedsAlone(database) = effect {
                self.outward.push(Outward::NeedsAlone(database.clone()));
            }
        }
        client.state.begin(deed, shared)
    }

    /// Nobody is told what another session's `nextval` yielded.
    fn guard_sequences(&mut self, effects: &Effects, client: &ClientSide, server: &mut ServerConnection) {
        if effects.sequences == Sequences::Read
            && server.sequences != Some(client.session)
            && !server.queue.is_batch_open()
            && server.status != TransactionStatus::Failed
        {
            self.prepend(server, "DISCARD SEQUENCES", Effect::Ours);
            server.sequences = Some(client.session);
        }
    }

    /// A text that may look for the session's prepared statements by their names finds them: from here on they have
    /// the client's names, on this server only, which the session keeps.
    fn lay_open(&mut self, effects: &Effects, client: &mut ClientSide, server: &mut ServerConnection) {
        let may_look =
            effects.looks_at_prepared || effects.ask == Ask::Sampled && client.statements.any_of_sql();
        let possible = !server.queue.is_batch_open() && server.status != TransactionStatus::Failed;
        if !may_look || client.state.literal || self.keep || !possible {
            return;
        }
        let begun = is_begun(server);
        self.prepend(server, "DEALLOCATE ALL", Effect::Ours);
        server.statements.clear();
        for (name, statement) in client.statements.list() {
            match statement.form {
                Form::Parse => self.parse_ahead(name, statement, begun, server),
                Form::Prepare => {
                    let text = naming::under_its_own_name(name, statement);
                    if begun {
                        // What cannot be made any more must not end the client's transaction.
                        self.prepend(server, &naming::shielded(&text), Effect::Ours);
                    } else {
                        self.prepend(server, &text, Effect::Ahead);
                    }
                }
            }
        }
        client.state.literal = true;
        client.state.pins.add(PinReason::SqlPrepared);
    }

    /// Gives the server a statement under the client's name, before anything that the client sends. If it cannot be made
    /// any more, an open transaction goes on.
    fn parse_ahead(
        &mut self,
        name: &[u8],
        statement: &Statement,
        begun: bool,
        server: &mut ServerConnection,
    ) {
        if begun {
            self.prepend(server, "SAVEPOINT hawser_open", Effect::Ours);
        }
        self.up.out.ours(|out| {
            encode::parse(out, name, &statement.text, &statement.types);
            out.extend_from_slice(encode::SYNC);
        });
        server.queue.push(Request::Parse, Fate::Swallow, Some(Effect::Ahead));
        server.queue.push(Request::Sync, Fate::Swallow, None);
        if begun {
            let back = "ROLLBACK TO SAVEPOINT hawser_open;RELEASE SAVEPOINT hawser_open";
            self.prepend(server, back, Effect::Ours);
        }
    }

    /// What must be on the server, or must not, before a text is run that names prepared statements. `ahead`: the
    /// text is a simple query.
    fn make_way(&mut self, deed: &Deed, ahead: bool, server: &mut ServerConnection) {
        let limit = self.limits.max_server_statements;
        for (at, about) in deed.about.iter().enumerate() {
            match about {
                About::Nothing | About::Defines(_) => {}
                About::Makes(made) => {
                    let before = deed.about.get(..at).unwrap_or_default();
                    // The text itself removes it first.
                    let used =
                        before.iter().any(|about| matches!(about, About::Uses(used) if used.id == made.id));
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
            }
        }
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
            if deed.needs().any(|needed| is_undecided(needed, server))
                || !self.is_open(Some(deed), client, server)
            {
                return Planned::NotYet;
            }
            self.make_way(deed, false, server);
        }
        let effect = deed.map(|deed| self.begin(&deed, client, server, shared));
        if let Some(shape) = &self.batch.bound {
            self.batch.shape.call(shape);
        }
        self.forward(header, body, Some(Request::Execute), effect, client, server);
        self.up.barrier |= client.state.is_meaning_unsettled();
        Planned::Yes
    }

    fn plan_parse(
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
        self.traffic.client_parses += 1;
        let renamed = self.rename_parse(parse.text, client, server, shared);
        let text = renamed.as_ref().map_or(parse.text, |renamed| &renamed.text);
        if parse.name.is_empty() {
            let Some(renamed) = &renamed else {
                let harmless = shared.harmless.gist(self.pool, text, &shared.shapes);
                let deed = if harmless.is_some() { None } else { Deed::of_text(text) };
                let gist = harmless.unwrap_or_else(|| Gist::of(self.pool, text, &shared.shapes));
                self.remember_unnamed(text, parse.types, deed, gist, client, server);
                self.forward(header, body, Some(Request::Parse), Some(Effect::Unnamed), client, server);
                return Ok(Planned::Yes);
            };
            let gist = Gist::of(self.pool, parse.text, &shared.shapes);
            let deed = Some(renamed.deed.clone());
            self.remember_unnamed(text, parse.types, deed, gist, client, server);
            self.up.out.skip(header.total());
            self.up.out.ours(|out| encode::parse(out, b"", text, parse.types));
            owe(Request::Parse, Fate::Forward, Some(Effect::Unnamed), client, server);
            return Ok(Planned::Yes);
        }
        self.up.out.skip(header.total());
        if server.queue.is_skipping() {
            // The server would leave it out, so it is left out here, and nothing is true of the name.
            return Ok(Planned::Yes);
        }
        if let Some(known) = naming::current(parse.name, client, shared) {
            // The server must say that the name is taken, and it is: by the statement that we put there.
            if !client.state.literal {
                self.ensure(&known, server);
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
    fn rename_parse(
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
    fn prepare_named(
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
    pub(super) fn ensure(&mut self, statement: &Arc<Statement>, server: &mut ServerConnection) {
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

    fn remember_unnamed(
        &mut self,
        text: &[u8],
        types: &[u8],
        deed: Option<Arc<Deed>>,
        gist: Gist,
        client: &mut ClientSide,
        server: &mut ServerConnection,
    ) {
        if let Some(deed) = &deed {
            self.guard_sequences(&deed.effects, client, server);
            self.lay_open(&deed.effects, client, server);
        }
        client.unnamed.generation += 1;
        let kept = client.unnamed.statement.get_or_insert_default();
        kept.rest.clear();
        kept.rest.extend_from_slice(text);
        kept.rest.push(0);
        kept.rest.extend_from_slice(types);
        kept.deed = deed;
        kept.ending = gist.ending;
        kept.shape = gist.shape;
        server.unnamed =
            Some(UnnamedOwner { session: client.session, generation: client.unnamed.generation });
    }

    /// Makes sure that the unnamed statement on the server is this client's, or that there is none.
    fn ensure_unnamed(&mut self, client: &mut ClientSide, server: &mut ServerConnection) {
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
    fn is_name_undecided(&self, name: &[u8], client: &ClientSide, server: &ServerConnection) -> bool {
        let pending = client.statements.named(name).and_then(|named| named.pending);
        pending.is_some_and(|batch| batch != server.queue.batch()) && !server.queue.is_empty()
    }

    /// What a client's name means. The server has it, or will have been sent it before the message.
    fn meant(
        &mut self,
        name: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Meant {
        if self.is_name_undecided(name, client, server) {
            return Meant::Undecided;
        }
        let Some(statement) = naming::current(name, client, shared) else { return Meant::Nothing };
        if is_undecided(&statement, server) {
            return Meant::Undecided;
        }
        if let Some(deed) = &statement.deed {
            self.guard_sequences(&deed.effects, client, server);
            self.lay_open(&deed.effects, client, server);
        }
        if !client.state.literal {
            self.ensure(&statement, server);
        }
        Meant::Statement(statement)
    }

    fn plan_bind(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<Planned, Stop> {
        let malformed = Violation::Malformed(message::Malformed("Bind"));
        let (portal, name) = message::bind_names(body).map_err(Violation::Malformed)?.ok_or(malformed)?;
        if name.is_empty() {
            self.traffic.binds += 1;
            self.ensure_unnamed(client, server);
            let kept = client.unnamed.statement.as_ref();
            client.state.bind(portal, kept.and_then(|kept| kept.deed.as_ref()));
            self.note_ending(kept.and_then(|kept| kept.ending));
            if let Some(kept) = kept
                && self.resolve != Resolve::Nothing
            {
                self.note_bound(kept.ending, c_string(&kept.rest).map_or(&[], |(text, _)| text));
            }
            self.batch.bound = kept.and_then(|kept| kept.shape.clone());
            self.forward(header, body, Some(Request::Bind), None, client, server);
            return Ok(Planned::Yes);
        }
        let head = portal.len() + name.len() + 2;
        let rest = body.len() - head;
        let effect = match self.meant(name, client, server, shared) {
            Meant::Undecided => return Ok(Planned::NotYet),
            Meant::Statement(statement) => {
                client.state.bind(portal, statement.deed.as_ref());
                self.note_ending(statement.ending);
                if self.resolve != Resolve::Nothing {
                    self.note_bound(statement.ending, &statement.text);
                }
                self.batch.bound = shared.shapes.of_statement(self.pool, &statement);
                let there = OnServer::of(&statement, name, client);
                self.up.out.ours(|out| encode::bind_head(out, header.body, portal, name, there.as_bytes()));
                there.bound(&statement)
            }
            Meant::Nothing => {
                let unknown = harmless(name);
                self.up.out.ours(|out| encode::bind_head(out, header.body, portal, name, &unknown));
                None
            }
        };
        self.traffic.binds += 1;
        self.up.out.skip(HEADER_LENGTH + head);
        self.up.out.pass(rest);
        self.up.piece = header.body - body.len();
        owe(Request::Bind, Fate::Forward, effect, client, server);
        Ok(Planned::Yes)
    }

    fn plan_describe(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<Planned, Stop> {
        let name = match message::target(body, "Describe").map_err(Violation::Malformed)? {
            Target::Statement(name) if !name.is_empty() => name,
            target => {
                if target == Target::Statement(b"") {
                    self.ensure_unnamed(client, server);
                }
                self.forward(header, body, Some(Request::Describe), None, client, server);
                return Ok(Planned::Yes);
            }
        };
        let effect = match self.meant(name, client, server, shared) {
            Meant::Undecided => return Ok(Planned::NotYet),
            Meant::Statement(statement) => {
                let there = OnServer::of(&statement, name, client);
                self.up.out.ours(|out| encode::statement_target(out, frontend::DESCRIBE, there.as_bytes()));
                there.bound(&statement)
            }
            Meant::Nothing => {
                let unknown = harmless(name);
                self.up.out.ours(|out| encode::statement_target(out, frontend::DESCRIBE, &unknown));
                None
            }
        };
        self.up.out.skip(header.total());
        owe(Request::Describe, Fate::Forward, effect, client, server);
        Ok(Planned::Yes)
    }

    fn plan_close(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
    ) -> Result<(), Stop> {
        match message::target(body, "Close").map_err(Violation::Malformed)? {
            Target::Portal(_) => self.forward(header, body, Some(Request::Close), None, client, server),
            Target::Statement([]) => {
                client.unnamed.statement = None;
                server.unnamed = None;
                self.forward(header, body, Some(Request::Close), None, client, server);
            }
            Target::Statement(name) if client.state.literal => {
                let effect = client.statements.forget(name).map(|gone| Effect::Closed(name.into(), gone));
                self.forward(header, body, Some(Request::Close), effect, client, server);
            }
            Target::Statement(name) => {
                // The statement stays on the server for others; closing what does not exist is no error.
                self.up.out.skip(header.total());
                let effect = client.statements.forget(name).map(|gone| Effect::Closed(name.into(), gone));
                owe(Request::Close, Fate::Synthesise(encode::CLOSE_COMPLETE), effect, client, server);
            }
        }
        Ok(())
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

/// A client's name that it never defined, in a form that no server of ours can know.
fn harmless(name: &[u8]) -> Vec<u8> {
    let mut safe = name.to_vec();
    if name.starts_with(SERVER_NAME_PREFIX) {
        safe.insert(0, b'?');
    }
    safe
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
        | SqlEffect::Reset(_)
        | SqlEffect::ResetAll => true,
        SqlEffect::Set(name, _) | SqlEffect::SetLocal(Some((name, _))) => {
            !crate::parameters::is_meaningless(name)
        }
        _ => false,
    }
}
