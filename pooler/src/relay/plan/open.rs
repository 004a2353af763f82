//! A session that may look for its prepared statements gets them under its own names.

use super::is_begun;
use crate::pins::PinReason;
use crate::relay::naming;
use crate::relay::{ClientSide, Relay};
use crate::server::connection::{Effect, ServerConnection};
use crate::statements::{Form, Statement};
use hawser_sql_router::calls::Ask;
use hawser_sql_router::effects::Effects;
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode;
use hawser_wire::reply_queue::{Fate, Request};

/// Leaves what a function of the client's has prepared.
const DEALLOCATE_OURS: &str = "DO $hawser$ DECLARE n pg_catalog.text; BEGIN \
     FOR n IN SELECT name FROM pg_catalog.pg_prepared_statements \
     WHERE pg_catalog.left(name, 8) OPERATOR(pg_catalog.=) 'hawser_p' \
     LOOP EXECUTE 'DEALLOCATE ' OPERATOR(pg_catalog.||) n; END LOOP; END $hawser$";

impl Relay {
    /// A text that may look for the session's prepared statements by their names finds them: from here on they have
    /// the client's names, on this server only, which the session keeps.
    pub(super) fn lay_open(
        &mut self,
        effects: &Effects,
        client: &mut ClientSide,
        server: &mut ServerConnection,
    ) {
        if !self.opens(effects, client, server) {
            return;
        }
        let begun = is_begun(server);
        let has_others = client.state.pins.has(PinReason::SqlPrepared) || client.state.has_question();
        self.prepend(server, if has_others { DEALLOCATE_OURS } else { "DEALLOCATE ALL" }, Effect::Ours);
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
        client.state.pins.add(PinReason::OwnNames);
        if client.statements.is_empty() {
            client.state.ask();
        }
    }

    /// What a transaction on a standby was shown is over with it: the session has to be free to write elsewhere. True when
    /// something is said to the server.
    pub(in crate::relay) fn cover(&mut self, client: &mut ClientSide, server: &mut ServerConnection) -> bool {
        let has_others = client.state.pins.has(PinReason::SqlPrepared);
        let covers = self.confined && client.state.literal && !has_others;
        if covers {
            self.prepend(server, "DEALLOCATE ALL", Effect::Ours);
            server.statements.clear();
            client.state.end_literal();
        }
        covers
    }

    /// Whether a text may look for the session's statements, and they can be laid open for it.
    pub(super) fn opens(&self, effects: &Effects, client: &ClientSide, server: &ServerConnection) -> bool {
        let calls_unknown = effects.ask == Ask::Sampled || effects.unseen;
        let may_look = effects.looks_at_prepared || calls_unknown && client.statements.any_of_sql();
        let possible = !server.queue.is_batch_open() && server.status != TransactionStatus::Failed;
        may_look && possible && !client.state.literal && !self.keep
    }

    /// Gives the server a statement under the client's name, before anything that the client sends. If it cannot be made
    /// any more, an open transaction goes on.
    pub(super) fn parse_ahead(
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
}
