//! Bind, Describe and Close: what a client's name of a statement means, and what the server calls it.

use super::{Planned, is_undecided, owe};
use crate::relay::naming;
use crate::relay::{ClientSide, Relay, Resolve, Shared, Stop, Violation};
use crate::server::connection::{Effect, ServerConnection, Told};
use crate::statements::{Looks, Statement};
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode::{self, SERVER_NAME_PREFIX, ServerName};
use hawser_wire::frame::{HEADER_LENGTH, Header};
use hawser_wire::frontend::{self as message, Target};
use hawser_wire::reply_queue::{Fate, Request};
use hawser_wire::tag::frontend;
use std::sync::Arc;

/// What a client's name means for a message that uses it.
enum Meant {
    Statement(Arc<Statement>),
    Nothing,
    /// An earlier batch decides that, and nobody knows yet whether it succeeds.
    Undecided,
}

/// Whether rows of the server's copy of a statement look as the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// They do, or the client does not rely on it.
    Yes,
    /// They do not.
    No,
    /// The server is being asked.
    Asked,
}

/// A name that no server knows.
const OUTDATED: &[u8] = b"?outdated";

/// What the server calls a statement.
pub(super) enum OnServer<'a> {
    /// As we do.
    Ours(ServerName),
    /// As the client does, on the server connection that it keeps.
    Clients(&'a [u8]),
}

impl<'a> OnServer<'a> {
    pub(super) fn of(statement: &Statement, name: &'a [u8], client: &ClientSide) -> Self {
        if client.state.literal { Self::Clients(name) } else { Self::Ours(ServerName::new(statement.id.0)) }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
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
    pub(super) fn plan_bind(
        &mut self,
        header: Header,
        body: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<Planned, Stop> {
        let malformed = Violation::Malformed(message::Malformed("Bind"));
        let (portal, name) = message::bind_names(body).map_err(Violation::Malformed)?.ok_or(malformed)?;
        if portal.is_empty() {
            self.untold = None;
        }
        if name.is_empty() {
            self.traffic.binds += 1;
            self.ensure_unnamed(client, server);
            let kept = client.unnamed.statement.as_ref();
            client.state.bind(portal, kept.and_then(|kept| kept.deed.as_ref()), body);
            self.note_ending(kept.and_then(|kept| kept.ending));
            if let Some(kept) = kept
                && self.resolve != Resolve::Nothing
            {
                self.note_bound(kept.ending, client.text_of(b"").unwrap_or_default());
            }
            self.batch.bound = kept.and_then(|kept| kept.shape.clone());
            if client.text_of(b"").is_some_and(|text| self.hidden.0.is_reached_by(text)) {
                self.suspect(self.batch.bound.as_deref(), client, server, shared);
            }
            self.forward(header, body, Some(Request::Bind), None, client, server);
            return Ok(Planned::Yes);
        }
        let head = portal.len() + name.len() + 2;
        let rest = body.len() - head;
        let effect = match self.meant(name, client, server, shared) {
            Meant::Undecided => return Ok(Planned::NotYet),
            Meant::Statement(statement) => match self.fits(&statement, name, portal, client, server) {
                Fit::Asked => return Ok(Planned::NotYet),
                Fit::No => {
                    self.up.out.ours(|out| encode::bind_head(out, header.body, portal, name, OUTDATED));
                    Some(Effect::Outdated)
                }
                Fit::Yes => {
                    client.state.bind(portal, statement.deed.as_ref(), body);
                    self.note_ending(statement.ending);
                    if self.resolve != Resolve::Nothing {
                        self.note_bound(statement.ending, &statement.text);
                    }
                    self.batch.bound = shared.shapes.of_statement(self.pool, &statement);
                    if self.hidden.0.is_reached_by(&statement.text) {
                        self.suspect(self.batch.bound.as_deref(), client, server, shared);
                    }
                    let there = OnServer::of(&statement, name, client);
                    self.up
                        .out
                        .ours(|out| encode::bind_head(out, header.body, portal, name, there.as_bytes()));
                    there.bound(&statement)
                }
            },
            Meant::Nothing => {
                let unknown = unknown_to_servers(name);
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

    pub(super) fn plan_describe(
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
                let untold = self.untold.take_if(|_| target == Target::Portal(b""));
                let effect = untold.map(|(statement, name)| {
                    Effect::Told(Told { statement, name: Some(name), columns: None })
                });
                self.forward(header, body, Some(Request::Describe), effect, client, server);
                return Ok(Planned::Yes);
            }
        };
        let effect = match self.meant(name, client, server, shared) {
            Meant::Undecided => return Ok(Planned::NotYet),
            Meant::Statement(statement) => {
                let there = OnServer::of(&statement, name, client);
                self.up.out.ours(|out| encode::statement_target(out, frontend::DESCRIBE, there.as_bytes()));
                let told = Told { statement: statement.id, name: Some(name.into()), columns: None };
                matches!(there, OnServer::Ours(_)).then_some(Effect::Told(told))
            }
            Meant::Nothing => {
                let unknown = unknown_to_servers(name);
                self.up.out.ours(|out| encode::statement_target(out, frontend::DESCRIBE, &unknown));
                None
            }
        };
        self.up.out.skip(header.total());
        owe(Request::Describe, Fate::Forward, effect, client, server);
        Ok(Planned::Yes)
    }

    pub(super) fn plan_close(
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
            if self.waits_for_ours(Some(&deed.effects), client, server) {
                return Meant::Undecided;
            }
            self.guard_sequences(&deed.effects, client, server);
            self.lay_open(&deed.effects, client, server);
        }
        if !client.state.literal {
            self.ensure(&statement, server);
        }
        Meant::Statement(statement)
    }

    /// Whether the client may be given rows of the server's copy of a statement. Who was told what they look like, and does
    /// not ask again, reads them by that; if nobody knows what this server's look like, it is asked.
    fn fits(
        &mut self,
        statement: &Statement,
        name: &[u8],
        portal: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
    ) -> Fit {
        if client.state.literal || server.queue.is_skipping() || server.status == TransactionStatus::Failed {
            return Fit::Yes;
        }
        let told = client.statements.named(name).and_then(|named| named.told);
        let looks = server.statements.looks(statement.id);
        let fits = told.is_some_and(|told| looks == Looks::Like(told));
        if portal.is_empty() && !fits {
            self.untold = Some((statement.id, name.into()));
        }
        match (told, looks) {
            _ if fits || self.up.describes_next => Fit::Yes,
            (None, _) | (_, Looks::Unread) => Fit::Yes,
            (Some(_), Looks::Like(_)) => Fit::No,
            (Some(_), Looks::Unasked) => {
                let there = ServerName::new(statement.id.0);
                self.up.out.ours(|out| {
                    encode::statement_target(out, frontend::DESCRIBE, there.as_bytes());
                    out.extend_from_slice(encode::FLUSH);
                });
                let told = Told { statement: statement.id, name: None, columns: None };
                owe(Request::Describe, Fate::Swallow, Some(Effect::Told(told)), client, server);
                (self.up.barrier, self.up.asked) = (true, true);
                Fit::Asked
            }
        }
    }
}

/// A client's name that it never defined, in a form that no server of ours can know.
fn unknown_to_servers(name: &[u8]) -> Vec<u8> {
    let mut safe = name.to_vec();
    if name.starts_with(SERVER_NAME_PREFIX) {
        safe.insert(0, b'?');
    }
    safe
}
