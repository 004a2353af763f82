//! A COMMIT leaves only when it is known which transaction it commits, so that its outcome can be found out on the next
//! primary if the server is lost before it answers. Only where the settings say so.
//!
//! The server is asked behind the statement that changes something, in the same write, so that the answer is there
//! long before the COMMIT; if nobody asked, or the transaction had no number then, it is asked when the COMMIT comes.
//! Nothing else is under way while a COMMIT is, so that it is clear what the client waits for.

use super::{ClientSide, Relay, Shared};
use crate::server::connection::{Effect, ServerConnection};
use crate::server::identity::{self, Identity};
use crate::statements::{Form, StatementKey};
use hawser_sql_router::ending::{self, Ending};
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode::{self, ServerName};
use hawser_wire::reply_queue::{Entry, Fate, Request};
use hawser_wire::tag::frontend;

/// The portal in which the question runs, with its zero.
const PORTAL: &[u8] = b"hawser_identity\0";

/// Which commits must be known if they fail to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolve {
    /// None.
    #[default]
    Nothing,
    /// Those of transactions.
    Transactions,
    /// Those of single statements too.
    Everything,
}

/// How far a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Commit {
    /// None is under way.
    #[default]
    None,
    /// It waits for the answer to which transaction this is.
    Asking,
    /// A simple query was sent, but not what ends its transaction.
    Open,
    /// It was sent, and is not answered.
    Sent,
    /// The server has said how it went, but not yet that it is ready.
    Answered,
}

impl Relay {
    /// Whether a message that commits has to wait. `simple`: it is a simple query.
    pub(super) fn holds_commit(
        &mut self,
        simple: bool,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> bool {
        // Outside a transaction it commits nothing.
        let nothing_begun = server.status == TransactionStatus::Idle && server.queue.is_settled();
        if nothing_begun || server.status == TransactionStatus::Failed || server.queue.is_skipping() {
            self.commit = Commit::None;
            return false;
        }
        // A question in a batch fails with it, if one before has failed: the server would leave the COMMIT out.
        if !simple && server.queue.owed_ready() > 0 {
            self.up.barrier = true;
            return true;
        }
        let known = server.identity.is_numbered() || self.commit == Commit::Asking;
        if known && server.queue.is_empty() {
            self.commit = Commit::Sent;
            self.up.barrier = true;
            return false;
        }
        if !known && server.identity != Identity::Asked {
            self.ask_identity(Asked::at_commit(simple), client, server, shared);
            self.commit = Commit::Asking;
        }
        // Until everything is answered nothing else is planned, and the replies are asked for.
        self.up.barrier = true;
        true
    }

    /// Asks behind a simple query that may have given its transaction a number.
    pub(super) fn ask_early(
        &mut self,
        text: &[u8],
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) {
        if self.resolve != Resolve::Nothing
            && server.identity == Identity::Unknown
            && server.status != TransactionStatus::Failed
            && super::plan::is_begun(server)
            && ending::changes_rows(text)
        {
            self.ask_identity(Asked::BySync, client, server, shared);
        }
    }

    /// Whether the end of an extended batch commits what it did, which must be known first.
    pub(super) fn holds_sync(
        &mut self,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> bool {
        let changes = std::mem::take(&mut self.changes_rows);
        let under_way = matches!(self.commit, Commit::Sent | Commit::Answered);
        if !changes || under_way || !server.queue.is_batch_open() || server.queue.is_copy_in() {
            return false;
        }
        if super::plan::is_begun(server) {
            if server.identity == Identity::Unknown && server.status != TransactionStatus::Failed {
                self.ask_identity(Asked::Quietly, client, server, shared);
            }
            return false;
        }
        if self.resolve != Resolve::Everything {
            return false;
        }
        let held = self.holds_commit(false, client, server, shared);
        self.changes_rows = held;
        held
    }

    /// Takes note of what is bound: whether running it commits, or changes rows.
    pub(super) fn note_bound(&mut self, ending: Option<Ending>, text: &[u8]) {
        self.commits = ending == Some(Ending::Commit);
        self.changes_rows |= !self.reads && ending::changes_rows(text);
    }

    /// Whether a simple query is one statement whose commit must be known.
    pub(super) fn opens_statement(&self, text: &[u8], server: &ServerConnection) -> bool {
        self.resolve == Resolve::Everything
            && !self.reads
            && server.status == TransactionStatus::Idle
            && server.queue.iter().all(|entry| matches!(entry.effect, Some(Effect::Settings)))
            && !server.queue.is_batch_open()
            && ending::changes_rows(text)
    }

    /// A text that commits what it does by itself, sent so that it does not commit before it is known as what: in the
    /// extended protocol, without the end of the batch. The client sees the same replies.
    pub(super) fn open_statement(
        &mut self,
        text: &[u8],
        effect: Option<Effect>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) {
        self.up.out.ours(|out| {
            encode::parse(out, b"", text, &[0, 0]);
            encode::message(out, frontend::BIND, |out| out.extend_from_slice(&[0; 8]));
            encode::message(out, frontend::DESCRIBE, |out| out.extend_from_slice(b"P\0"));
            encode::message(out, frontend::EXECUTE, |out| out.extend_from_slice(&[0; 5]));
        });
        for (request, fate, effect) in [
            (Request::Parse, Fate::Swallow, None),
            (Request::Bind, Fate::Swallow, None),
            (Request::Describe, Fate::Forward, Some(Effect::OfQuery)),
            (Request::Execute, Fate::Forward, effect),
        ] {
            super::plan::owe(request, fate, effect, client, server);
        }
        self.ask_identity(Asked::ByFlush, client, server, shared);
        self.commit = Commit::Open;
    }

    /// Ends what [`Self::open_statement`] began, once the server has said which transaction it is.
    pub(super) fn close_statement(&mut self, client: &mut ClientSide, server: &mut ServerConnection) {
        if self.commit == Commit::Open && !server.queue.awaits_server() && self.up.out.is_empty() {
            self.commit = if server.queue.is_skipping() { Commit::None } else { Commit::Sent };
            self.up.barrier = true;
            self.up.out.fixed(encode::SYNC);
            super::plan::owe(Request::Sync, Fate::Forward, None, client, server);
        }
    }

    /// The server has answered the client with a message that is not a row.
    pub(super) fn note_commit_answered(&mut self) {
        if self.commit == Commit::Sent {
            self.commit = Commit::Answered;
        }
    }

    /// Everything is answered. What was known of a transaction is forgotten with it.
    pub(super) fn end_commit(&mut self, server: &mut ServerConnection) {
        if server.status == TransactionStatus::Idle {
            (self.commit, server.identity) = (Commit::None, Identity::Unknown);
        }
    }

    /// Asks which transaction this is.
    fn ask_identity(
        &mut self,
        how: Asked,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) {
        let statement = shared.registry.statement(StatementKey {
            form: Form::Parse,
            text: identity::QUESTION.as_bytes(),
            types: &[0, 0],
            meaning: client.state.meaning(),
        });
        self.ensure(&statement, server);
        let name = ServerName::new(statement.id.0);
        self.up.out.ours(|out| {
            encode::message(out, frontend::BIND, |out| {
                out.extend_from_slice(PORTAL);
                encode::c_string(out, name.as_bytes());
                out.extend_from_slice(&[0; 6]);
            });
            encode::message(out, frontend::EXECUTE, |out| {
                out.extend_from_slice(PORTAL);
                out.extend_from_slice(&[0; 4]);
            });
            encode::message(out, frontend::CLOSE, |out| {
                out.push(b'P');
                out.extend_from_slice(PORTAL);
            });
            match how {
                Asked::BySync => out.extend_from_slice(encode::SYNC),
                Asked::ByFlush => out.extend_from_slice(encode::FLUSH),
                Asked::Quietly => {}
            }
        });
        self.up.asked |= how == Asked::ByFlush;
        server.identity = Identity::Asked;
        // In a batch of the client's it is the client's: the server leaves out the rest of that, too.
        let bound = (how == Asked::BySync).then_some(Effect::Question);
        for (request, effect) in
            [(Request::Bind, bound), (Request::Execute, Some(Effect::Identity(None))), (Request::Close, None)]
        {
            super::plan::owe(request, Fate::Swallow, effect, client, server);
        }
        if how == Asked::BySync {
            super::plan::owe(Request::Sync, Fate::Swallow, None, client, server);
        }
    }
}

/// How the question is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// In a batch of its own.
    BySync,
    /// In the client's batch, which waits for the answer.
    ByFlush,
    /// In the client's batch, which goes on.
    Quietly,
}

impl Asked {
    const fn at_commit(simple: bool) -> Self {
        if simple { Self::BySync } else { Self::ByFlush }
    }
}

/// What a client that waits for a commit is still owed if it has succeeded; `None` if that cannot be told. `answered`:
/// it was told so, and not yet that it may go on.
pub(super) fn completion<'a>(
    owed: impl Iterator<Item = &'a Entry<Effect>>,
    answered: bool,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for entry in owed {
        match (entry.fate, entry.request) {
            (Fate::Synthesise(bytes), _) => out.extend_from_slice(bytes),
            (Fate::Swallow, _) => {}
            (Fate::Forward, Request::Execute) => encode::command_complete(&mut out, "COMMIT"),
            (Fate::Forward, Request::Close) => out.extend_from_slice(encode::CLOSE_COMPLETE),
            (Fate::Forward, Request::Query | Request::Sync) => {
                if entry.request == Request::Query && !answered {
                    encode::command_complete(&mut out, "COMMIT");
                }
                out.extend_from_slice(encode::ready_for_query(TransactionStatus::Idle));
            }
            (Fate::Forward, _) => return None,
        }
    }
    Some(out)
}
