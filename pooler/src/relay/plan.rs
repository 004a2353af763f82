//! One client message: what is sent for it, and what is owed for it.
//!
//! Names of statements are replaced here; nothing else of a message is copied. Where a server cannot have what
//! the message needs, it is made to answer with its own error rather than with another client's statement.

use super::{ClientSide, Relay, Shared, Stop, Violation, named, undo};
use crate::server::connection::{Effect, ServerConnection, UnnamedOwner};
use crate::shapes::Shape;
use crate::statements::Statement;
use hawser_sql_router::effects;
use hawser_sql_router::ending::{self, Ending};
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode::{self, SERVER_NAME_PREFIX, ServerName};
use hawser_wire::frame::{HEADER_LENGTH, Header};
use hawser_wire::frontend::{self as message, Target};
use hawser_wire::reply_queue::{Fate, Request};
use hawser_wire::tag::frontend;
use std::rc::Rc;
use std::sync::Arc;

impl Relay {
    /// Plans one message. `body` is what has arrived of it: all of it where [`super::upstream`] says so. False when
    /// it must wait.
    pub(super) fn plan_message(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<bool, Stop> {
        match header.tag {
            frontend::QUERY => {
                let text = body.strip_suffix(b"\0").unwrap_or(body);
                let effects = effects::of_text(text).map(|effects| Effect::Statements(effects.into()));
                if !self.is_open(effects.as_ref(), client, server) {
                    return Ok(false);
                }
                client.unnamed.statement = None;
                server.unnamed = None;
                self.note_ending(ending::of_text(text));
                if let Some(shape) = shared.shapes.of(self.pool, text) {
                    self.batch.shape.call(&shape);
                }
                self.forward(header, body, Some(Request::Query), effects, client, server);
            }
            frontend::PARSE => self.plan_parse(header, body, client, server, shared)?,
            frontend::BIND => self.plan_bind(header, body, client, server, shared)?,
            frontend::DESCRIBE => self.plan_describe(header, body, client, server)?,
            frontend::CLOSE => self.plan_close(header, body, client, server)?,
            frontend::EXECUTE => {
                let portal = hawser_wire::frame::c_string(body).map(|(portal, _)| portal).unwrap_or_default();
                let effects = client.state.of_portal(portal);
                if !self.is_open(effects.as_ref(), client, server) {
                    return Ok(false);
                }
                if let Some(shape) = &self.batch.bound {
                    self.batch.shape.call(shape);
                }
                self.forward(header, body, Some(Request::Execute), effects, client, server);
            }
            frontend::SYNC => self.forward(header, body, Some(Request::Sync), None, client, server),
            frontend::FUNCTION_CALL => {
                self.forward(header, body, Some(Request::FunctionCall), None, client, server)
            }
            frontend::COPY_DONE | frontend::COPY_FAIL => {
                self.forward(header, body, Some(Request::CopyEnd), None, client, server);
            }
            frontend::COPY_DATA | frontend::FLUSH => self.forward(header, body, None, None, client, server),
            frontend::TERMINATE => return Err(Stop::ClientLeft),
            unknown => return Err(Violation::UnknownTag(unknown).into()),
        }
        Ok(true)
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
        if self.ending != Some(Ending::Commit) && ending.is_some() {
            self.ending = ending;
        }
    }

    fn plan_parse(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<(), Stop> {
        let parse = message::parse(body).map_err(Violation::Malformed)?;
        self.traffic.client_parses += 1;
        if parse.name.is_empty() {
            let shape = shared.shapes.of(self.pool, parse.text);
            self.remember_unnamed(body, parse.text, shape, client, server);
            self.forward(header, body, Some(Request::Parse), Some(Effect::Unnamed), client, server);
            return Ok(());
        }
        self.up.out.skip(header.total());
        if server.queue.is_skipping() {
            // The server would leave it out, so it is left out here, and nothing is true of the name.
            return Ok(());
        }
        if let Some(known) = named(client, parse.name).cloned() {
            // The server must say that the name is taken, and it is: by the statement that we put there.
            self.ensure(&known, server);
            let name = ServerName::new(known.id.0);
            self.up.out.ours(|out| encode::parse(out, name.as_bytes(), parse.text, parse.types));
            owe(Request::Parse, Fate::Forward, None, client, server);
            return Ok(());
        }
        if client.statements.len() >= self.limits.max_client_statements {
            return Err(Violation::TooManyStatements(self.limits.max_client_statements).into());
        }
        let statement = shared.registry.statement(parse.text, parse.types);
        client.statements.define(parse.name, statement.clone());
        self.prepare_named(parse.name, &statement, client, server);
        Ok(())
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
        let known = server.statements.touch(statement.id);
        let certain = server.status != TransactionStatus::Failed;
        if known && certain {
            let fate = Fate::Synthesise(encode::PARSE_COMPLETE);
            owe(Request::Parse, fate, Some(Effect::NamedKnown(name.into())), client, server);
            return;
        }
        if known {
            self.up.out.ours(|out| server.close_statement(out, statement.clone()));
        }
        self.traffic.server_parses += 1;
        if let Some(evicted) = server.statements.prepare(statement.clone(), self.limits.max_server_statements)
        {
            self.up.out.ours(|out| server.close_statement(out, evicted));
        }
        let ours = ServerName::new(statement.id.0);
        self.up.out.ours(|out| encode::parse(out, ours.as_bytes(), &statement.text, &statement.types));
        owe(Request::Parse, Fate::Forward, Some(Effect::Named(name.into(), statement.id)), client, server);
    }

    /// Gives the server a statement that it lacks, unseen by the client.
    fn ensure(&mut self, statement: &Arc<Statement>, server: &mut ServerConnection) {
        if !server.statements.touch(statement.id) {
            self.traffic.server_parses += 1;
            let limit = self.limits.max_server_statements;
            self.up.out.ours(|out| server.prepare(out, statement, limit));
        }
    }

    fn remember_unnamed(
        &mut self,
        body: &[u8],
        text: &[u8],
        shape: Option<Rc<Shape>>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
    ) {
        client.unnamed.generation += 1;
        let kept = client.unnamed.statement.get_or_insert_default();
        kept.rest.clear();
        kept.rest.extend_from_slice(body.get(1..).unwrap_or_default());
        kept.effects = effects::of_text(text).map(Into::into);
        kept.ending = ending::of_text(text);
        kept.shape = shape;
        server.unnamed =
            Some(UnnamedOwner { session: client.session, generation: client.unnamed.generation });
    }

    /// Makes sure that the unnamed statement on the server is this client's, or that there is none.
    fn ensure_unnamed(&mut self, client: &mut ClientSide, server: &mut ServerConnection) {
        let mine = UnnamedOwner { session: client.session, generation: client.unnamed.generation };
        if let Some(kept) = &client.unnamed.statement {
            if server.unnamed == Some(mine) {
                return;
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
        } else {
            self.up.out.fixed(encode::CLOSE_UNNAMED);
            server.unnamed = None;
            owe(Request::Close, Fate::Swallow, None, client, server);
        }
    }

    fn plan_bind(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<(), Stop> {
        let malformed = Violation::Malformed(message::Malformed("Bind"));
        let (portal, name) = message::bind_names(body).map_err(Violation::Malformed)?.ok_or(malformed)?;
        self.traffic.binds += 1;
        if name.is_empty() {
            self.ensure_unnamed(client, server);
            let kept = client.unnamed.statement.as_ref();
            client.state.bind(portal, kept.and_then(|kept| kept.effects.as_ref()));
            self.note_ending(kept.and_then(|kept| kept.ending));
            self.batch.bound = kept.and_then(|kept| kept.shape.clone());
            self.forward(header, body, Some(Request::Bind), None, client, server);
            return Ok(());
        }
        let head = portal.len() + name.len() + 2;
        let rest = body.len() - head;
        if let Some(statement) = named(client, name).cloned() {
            self.ensure(&statement, server);
            client.state.bind(portal, statement.effects.as_ref());
            self.note_ending(statement.ending);
            self.batch.bound = shared.shapes.of_statement(self.pool, &statement);
            let ours = ServerName::new(statement.id.0);
            self.up.out.ours(|out| encode::bind_head(out, header.body, portal, name, ours.as_bytes()));
        } else {
            let unknown = harmless(name);
            self.up.out.ours(|out| encode::bind_head(out, header.body, portal, name, &unknown));
        }
        self.up.out.skip(HEADER_LENGTH + head);
        self.up.out.pass(rest);
        self.up.piece = header.body - body.len();
        owe(Request::Bind, Fate::Forward, None, client, server);
        Ok(())
    }

    fn plan_describe(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
    ) -> Result<(), Stop> {
        match message::target(body, "Describe").map_err(Violation::Malformed)? {
            Target::Portal(_) => self.forward(header, body, Some(Request::Describe), None, client, server),
            Target::Statement([]) => {
                self.ensure_unnamed(client, server);
                self.forward(header, body, Some(Request::Describe), None, client, server);
            }
            Target::Statement(name) => {
                self.up.out.skip(header.total());
                if let Some(statement) = named(client, name).cloned() {
                    self.ensure(&statement, server);
                    let ours = ServerName::new(statement.id.0);
                    self.up
                        .out
                        .ours(|out| encode::statement_target(out, frontend::DESCRIBE, ours.as_bytes()));
                } else {
                    let unknown = harmless(name);
                    self.up.out.ours(|out| encode::statement_target(out, frontend::DESCRIBE, &unknown));
                }
                owe(Request::Describe, Fate::Forward, None, client, server);
            }
        }
        Ok(())
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
fn owe(
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
