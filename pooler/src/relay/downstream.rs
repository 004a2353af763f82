//! Server to client: walks the headers, drops what is ours, passes the rest on untouched.

use super::gate::{self, Look, REVALIDATE, SET_FORMATS};
use super::journal::{Differs, Retelling};
use super::outbox::Outbox;
use super::{ClientSide, Commit, Outward, Relay, Shared, Stop, confirm, state, undo, wording};
use crate::ids::{SessionId, StatementId};
use crate::parameters::{self, IN_HOT_STANDBY};
use crate::server::connection::{Done, Effect, ServerConnection, Told};
use crate::server::exchange;
use crate::server::identity::Identity;
use crate::statements::{Columns, Looks, Statement};
use crate::stream::Buffer;
use crate::stream::buffer::BLOCK;
use hawser_sql_router::calls::Disturbs;
use hawser_wire::backend::{self as message, TransactionStatus};
use hawser_wire::encode::{self, SERVER_NAME_PREFIX};
use hawser_wire::frame::{self, HEADER_LENGTH, Header};
use hawser_wire::reply_queue::{Fate, Settled, Unexpected};
use hawser_wire::sqlstate;
use hawser_wire::tag::backend;
use smallvec::SmallVec;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// The pump's place in the server's stream.
#[derive(Debug, Default)]
pub(super) struct Downstream {
    pub(super) out: Outbox,
    /// Bytes from the server that were not passed on yet.
    pub(super) input: Option<Buffer>,
    /// Bytes of a long message that are still to come.
    pub(super) piece: usize,
    /// What happens to them.
    piece_dropped: bool,
    /// More of the server's has been asked for: the task is woken when it is there.
    pub(super) awaited: bool,
    /// The client has been told something.
    pub(super) told: bool,
    /// It is clear that a standby serves the batch.
    served: bool,
    /// A ReadyForQuery waits until the client's own notifications are there.
    pub(super) held: bool,
    /// The error of a statement of ours that went ahead of the client's query, which will fail by it.
    ahead: Option<Vec<u8>>,
    /// The body of a CommandComplete that is true once its commit is.
    complete: Option<Vec<u8>>,
}

impl Downstream {
    /// The message that the client is told once the commit has succeeded.
    pub(super) fn completion(&self) -> Option<Vec<u8>> {
        let body = self.complete.as_ref()?;
        let mut message = Vec::new();
        encode::message(&mut message, backend::COMMAND_COMPLETE, |out| out.extend_from_slice(body));
        Some(message)
    }
}

impl Relay {
    /// Delivers what can be delivered. Ready when something was done, pending when there is nothing to do.
    pub(super) fn poll_downstream(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Poll<Result<(), Stop>> {
        loop {
            if !self.down.out.is_empty() {
                self.down.told = true;
                self.replay.tell();
                let drained = self.down.out.poll_drain(cx, &mut client.stream, self.down.input.as_mut());
                ready!(drained).map_err(Stop::ClientLost)?;
                return Poll::Ready(Ok(()));
            }
            if self.walk_input(client, server, shared)? || self.answer_alone(client, server, shared)? {
                if self.down.out.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if self.down.held {
                return Poll::Pending;
            }
            ready!(self.poll_more(cx, server, shared))?;
        }
    }

    /// Reads from the server. Pending when nothing is there, and for the rest of this poll: the task is woken.
    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Poll<Result<(), Stop>> {
        if std::mem::replace(&mut self.down.awaited, true) {
            return Poll::Pending;
        }
        if self.down.input.is_none() {
            ready!(server.stream.poll_readable(cx)).map_err(Stop::ServerLost)?;
        }
        let input = self.down.input.get_or_insert_with(|| shared.buffers.take());
        input.grow();
        let read = server.stream.poll_read(cx, input);
        // It may have been a false alarm: a read that just filled its room leaves one. Nothing is held for that.
        super::give_empty(&mut self.down.input, shared);
        match ready!(read).map_err(Stop::ServerLost)? {
            0 => Poll::Ready(Err(Stop::ServerLeft)),
            _ => {
                self.down.awaited = false;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Replies that no message of the server's will come before: sent by themselves.
    fn answer_alone(
        &mut self,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<bool, Stop> {
        let before = self.down.out.is_empty();
        let alone = matches!(server.queue.head(), Some(head) if matches!(head.fate, Fate::Synthesise(_)))
            && !server.queue.awaits_server();
        if alone {
            self.answer_due(client, server, shared)?;
        }
        Ok(before && !self.down.out.is_empty())
    }

    /// Replies of ours whose turn it is.
    fn answer_due(
        &mut self,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<(), Stop> {
        while let Some((bytes, effect)) = server.queue.due() {
            if self.journal.is_some() {
                self.tell(bytes)?;
            } else {
                self.replay.give_up();
                self.down.out.fixed(bytes);
            }
            if let Some(effect) = effect {
                confirm(effect, client, server, shared);
            }
        }
        Ok(())
    }

    /// Walks what has arrived. True when there is something to write or the input got shorter.
    fn walk_input(
        &mut self,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<bool, Stop> {
        let Some(mut input) = self.down.input.take() else { return Ok(false) };
        let walked = self.walk(&mut input, client, server, shared);
        let planned = self.down.out.planned();
        if walked.is_ok() && self.down.out.is_empty() && planned > 0 {
            input.consume(planned);
            self.down.out = Outbox::default();
        }
        self.down.input = Some(input);
        super::give_empty(&mut self.down.input, shared);
        walked?;
        Ok(planned > 0 || !self.down.out.is_empty())
    }

    fn walk(
        &mut self,
        input: &mut Buffer,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<(), Stop> {
        while !self.down.out.is_full() {
            let at = self.down.out.planned();
            let rest = input.data().get(at..).unwrap_or_default();
            if self.down.piece > 0 && !rest.is_empty() {
                let piece = rest.get(..self.down.piece).unwrap_or(rest);
                self.down.piece -= piece.len();
                self.pass_or_drop(piece, self.down.piece_dropped)?;
                continue;
            }
            if self.guess && !self.down.served && !self.is_served(rest, server)? {
                break;
            }
            let Some(header) = frame::header(rest).map_err(Stop::ServerFraming)? else { break };
            let present = rest.len().min(header.total());
            if present < header.total() && (is_read(header) || is_read_for_effect(header, server)) {
                break;
            }
            let body = rest.get(HEADER_LENGTH..present).unwrap_or_default();
            let whole = present == header.total();
            if header.tag == backend::READY_FOR_QUERY && self.holds_ready(body, client, server) {
                break;
            }
            let dropped = self.take_reply(header, body, whole, client, server, shared)?;
            self.pass_or_drop(rest.get(..present).unwrap_or(rest), dropped)?;
            self.down.piece = header.total() - present;
            self.down.piece_dropped = dropped;
            if self.journal.is_some() && !dropped {
                self.note_told(header.tag, server)?;
            }
        }
        Ok(())
    }

    /// Whether the client may be told what a standby says next. Not before it is clear that it can serve the batch.
    fn is_served(&mut self, replies: &[u8], server: &ServerConnection) -> Result<bool, Stop> {
        if server.queue.is_empty() || server.queue.fate() != Fate::Forward {
            return Ok(true);
        }
        self.down.served = match gate::look(replies).map_err(Stop::ServerFraming)? {
            Look::More => replies.len() >= BLOCK,
            Look::Served => true,
            Look::Refused(body) if message::is_farewell(backend::ERROR_RESPONSE, body) => {
                return Err(Stop::ServerEnds(body.to_vec()));
            }
            Look::Refused(body) => return Err(Stop::Misrouted(body.to_vec())),
        };
        Ok(self.down.served)
    }

    fn pass_or_drop(&mut self, bytes: &[u8], dropped: bool) -> Result<(), Stop> {
        if dropped {
            self.down.out.skip(bytes.len());
            return Ok(());
        }
        let known = if self.journal.is_some() { self.hear(bytes)? } else { 0 };
        self.replay.give_up();
        self.down.out.skip(known);
        self.down.out.pass(bytes.len() - known);
        self.traffic.sent += (bytes.len() - known) as u64;
        Ok(())
    }

    /// The client is told this next, unless it has heard it already: how much of it that is.
    #[cold]
    fn hear(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let Some(journal) = &mut self.journal else { return Ok(0) };
        journal.hear(bytes);
        let Some(retelling) = &mut self.retelling else { return Ok(0) };
        let known = retelling.hear(bytes).map_err(|Differs| Stop::Differs)?;
        if retelling.is_over() {
            self.retelling = None;
        }
        Ok(known)
    }

    /// Bytes of ours for the client.
    fn tell(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let known = self.hear(bytes)?;
        self.replay.give_up();
        self.down.out.ours(|out| out.extend_from_slice(bytes.get(known..).unwrap_or_default()));
        Ok(())
    }

    /// The client was told something, for the journal.
    #[cold]
    fn note_told(&mut self, tag: u8, server: &ServerConnection) -> Result<(), Stop> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        match tag {
            backend::READY_FOR_QUERY => {
                journal.note_ready(server.status == TransactionStatus::Idle && server.queue.is_settled());
                // What the client has heard went on, and this did not.
                if self.retelling.as_deref().is_some_and(Retelling::is_said) && server.queue.is_settled() {
                    return Err(Stop::Differs);
                }
            }
            backend::PARAMETER_STATUS | backend::NOTIFICATION_RESPONSE => journal.give_up(),
            _ => {}
        }
        Ok(())
    }

    /// The batch, if the server was lost because it has ended, by its number, the very process that ran it: on a
    /// connection of the client's own that would have been another's.
    pub fn take_batch_that_ended_its_server(&mut self, server: &ServerConnection) -> Option<Vec<u8>> {
        let ends =
            disturbs(server) == Disturbs::Ends && self.replay.is_whole() && self.is_alone_and_uncommitted();
        ends.then(|| self.replay.take())
    }

    /// Accounts for one reply. True when the client must not see it as it is.
    fn take_reply(
        &mut self,
        header: Header,
        body: &[u8],
        whole: bool,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<bool, Stop> {
        if whole && message::is_farewell(header.tag, body) {
            return Err(if disturbs(server) == Disturbs::EndsItself || was_meant(client, server, shared) {
                Stop::EndedItself(Some(body.to_vec()))
            } else {
                Stop::ServerEnds(body.to_vec())
            });
        }
        if header.tag == backend::ERROR_RESPONSE {
            return self.take_error(header, body, whole, client, server, shared);
        }
        self.answer_due(client, server, shared)?;
        let mut of_query = false;
        match (header.tag, server.queue.head_effect()) {
            (backend::DATA_ROW, Some(Effect::Asked(rows))) => rows.extend(exchange::row(body)),
            (backend::DATA_ROW, Some(Effect::Identity(row))) => *row = exchange::row(body),
            (backend::NO_DATA, Some(Effect::OfQuery)) => of_query = true,
            (backend::ROW_DESCRIPTION | backend::NO_DATA, Some(Effect::Told(told))) if whole => {
                told.columns = Columns::read(header.tag, body);
            }
            _ => {}
        }
        let done = match server.queue.head_effect() {
            Some(Effect::Does(doing)) if header.tag == backend::COMMAND_COMPLETE => Some(doing.advance()),
            _ => None,
        };
        let fate = self.observe(header.tag, client, server, shared)?;
        match header.tag {
            backend::READY_FOR_QUERY => self.take_ready(body, fate, client, server, shared)?,
            backend::PARAMETER_STATUS if fate == Fate::Forward => {
                match message::parameter_status(body) {
                    // A host is promoted; what the client is connected to is the cluster.
                    Some((IN_HOT_STANDBY, _)) if self.confined => return Ok(true),
                    Some((name, value)) if parameters::reported(name).is_some() => {
                        return Ok(state::reported(name, value, client, server, shared));
                    }
                    _ => {}
                }
            }
            backend::COMMAND_COMPLETE if fate == Fate::Forward => {
                return Ok(self.take_complete(body, done, client, server, shared));
            }
            backend::NOTICE_RESPONSE => self.note_disturbed(body, client, server)?,
            _ => {}
        }
        if header.tag == backend::NOTIFICATION_RESPONSE {
            return Ok(!self.is_for_client(body, client));
        }
        Ok(fate == Fate::Swallow || of_query)
    }

    /// A statement of the client's is done, and what its text says of it is `done`. True when the client must not hear
    /// that now.
    fn take_complete(
        &mut self,
        body: &[u8],
        done: Option<Done>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> bool {
        let tag = message::command_tag(body);
        if let Some(tag) = tag {
            self.batch.rows += crate::shapes::rows_of(tag);
            if client.state.note_change(tag, done.as_ref().map(|done| &*done.deed)) {
                shared.registry.note_change();
            }
            if let Some(number) = done.as_ref().and_then(|done| done.ends) {
                self.outward.push(Outward::EndProcess(number));
            }
            let step = done.as_ref().and_then(|done| done.deed.step(done.at));
            state::command(tag, step, client, server, shared);
            if !self.confined {
                state::note_sequences(tag, client, server);
            }
        }
        if self.commit == Commit::Open {
            self.down.complete = Some(body.to_vec());
            return true;
        }
        self.note_commit_answered();
        if matches!(tag, Some(b"COMMIT" | b"ROLLBACK")) {
            // With AND CHAIN another transaction has begun.
            server.identity = Identity::Unknown;
        }
        false
    }

    /// The server is ready for the next batch.
    fn take_ready(
        &mut self,
        body: &[u8],
        fate: Fate,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<(), Stop> {
        let status = body.first().copied().and_then(TransactionStatus::from_byte);
        server.status = status.ok_or(Stop::ServerViolation(Unexpected(backend::READY_FOR_QUERY)))?;
        if server.queue.is_empty() {
            self.ending = None;
            self.end_commit(server);
        }
        if fate != Fate::Forward {
            return Ok(());
        }
        // Also a batch of which everything else was answered by us.
        self.down.served = true;
        if let Some(complete) = self.down.completion() {
            self.down.complete = None;
            self.tell(&complete)?;
        }
        self.note_acknowledged();
        self.traffic.queries += 1;
        self.down.ahead = None;
        let idle = server.status == TransactionStatus::Idle;
        state::ready(idle, client, server);
        if idle && client.state.end_change() {
            // What is run in the same transaction may be what it has made.
            state::cast_doubt(client, server);
            self.changed_catalog = true;
            shared.registry.note_change();
        }
        if let Some(listener) = client.listener.as_deref().filter(|_| idle) {
            self.pass_ready(listener, server);
        }
        Ok(())
    }

    const fn may_have_written(&self) -> bool {
        !self.reads || self.up.beyond
    }

    /// A notice may say that the client has called for the end of a session, which is no process.
    fn note_disturbed(
        &mut self,
        body: &[u8],
        client: &ClientSide,
        server: &ServerConnection,
    ) -> Result<(), Stop> {
        let how = disturbs(server);
        if how == Disturbs::Nobody {
            return Ok(());
        }
        match session_meant(body) {
            Some(session) if session == client.session && how != Disturbs::Cancels => {
                return Err(Stop::EndedItself(None));
            }
            Some(session) => self.outward.push(Outward::Disturb(session, how)),
            None => {}
        }
        Ok(())
    }

    /// Keeps the SQLSTATE of an error for whoever counts.
    #[cold]
    fn note_error(&mut self, body: &[u8]) {
        /// A pipeline may fail more often than this before anybody counts.
        const MOST: usize = 256;
        self.batch.errors += 1;
        if let Ok(sqlstate) = message::error_fields(body).sqlstate.try_into()
            && self.errors.len() < MOST
        {
            self.errors.push(sqlstate);
        }
    }

    /// The server is ready after something that may have written.
    fn note_acknowledged(&mut self) {
        if !self.may_have_written() {
            return;
        }
        if let Some(clock) = &self.clock {
            self.acknowledged = (clock.now)();
            clock.newest.fetch_max(self.acknowledged, std::sync::atomic::Ordering::AcqRel);
        }
    }

    /// Accounts for one message in the queue, with what that settles.
    fn observe(
        &mut self,
        tag: u8,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<Fate, Stop> {
        let mut settled: SmallVec<[Settled<Effect>; 2]> = SmallVec::new();
        let fate = server.queue.observe(tag, &mut |outcome| settled.push(outcome))?;
        // Most replies settle nothing, and to walk over nothing costs more than to see that.
        if settled.is_empty() {
            return Ok(fate);
        }
        for outcome in settled {
            match outcome {
                Settled::Succeeded(effect) => {
                    // What a transaction or a temporary table makes of a text is nobody else's affair.
                    if let Effect::Named(_, made) | Effect::Prepared(made) = &effect
                        && server.status == TransactionStatus::Idle
                        && client.state.pins.is_empty()
                    {
                        made.statement.note_parsed(self.mark);
                    }
                    confirm(effect, client, server, shared);
                }
                Settled::Failed(effect) => undo(effect, client, server),
            }
        }
        Ok(fate)
    }

    /// Accounts for an error. True when the client must not see it as it is.
    fn take_error(
        &mut self,
        header: Header,
        body: &[u8],
        whole: bool,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<bool, Stop> {
        let stale = whole.then(|| stale(server, body)).flatten();
        if let Some(stale) = &stale
            && self.replay.is_possible()
            && (self.replay.describes() || matches!(stale, Stale::Stranger(_)))
            && self.down.out.is_empty()
        {
            self.observe(header.tag, client, server, shared)?;
            stale.forget(server);
            server.queue.swallow_batch();
            self.replay.order();
            return Ok(true);
        }
        self.answer_due(client, server, shared)?;
        let head = server.queue.head();
        let fate = head.map_or(Fate::Forward, |head| head.fate);
        let effect = head.and_then(|head| head.effect.as_ref());
        if matches!(effect, Some(Effect::Settings | Effect::Ours)) {
            return Err(Stop::OursFailed(body.to_vec()));
        }
        // The statement of a question goes before it.
        let asks = matches!(effect, Some(Effect::Prepared(_)))
            && server.queue.iter().nth(1).is_some_and(|next| matches!(next.effect, Some(Effect::Question)));
        let is_ours = asks || matches!(effect, Some(Effect::MustFail | Effect::Question | Effect::Asked(_)));
        let is_outdated = match effect {
            Some(Effect::Outdated) => true,
            Some(Effect::Bound(id)) => whole && chooses_former_columns(*id, body, client, server),
            _ => false,
        };
        let is_ahead = matches!(effect, Some(Effect::PreparedAhead(_) | Effect::Ahead));
        let shifts = match effect {
            Some(Effect::Does(doing)) => Some(doing.deed.clone()),
            _ => None,
        };
        let words = match self.down.ahead.take_if(|_| fate == Fate::Forward) {
            Some(held) => Some(held),
            None if is_outdated => Some(wording::result_type_changed()),
            None if whole => {
                let shifts = shifts.as_ref().map_or(&[][..], |deed| &deed.shifts);
                wording::in_clients_words(body, |id| client.statements.name_of(id), shifts)
            }
            None => None,
        };
        self.observe(header.tag, client, server, shared)?;
        if let Some(stale) = stale {
            stale.forget(server);
        }
        if is_ours {
            return Ok(true);
        }
        if is_ahead {
            let words = words.unwrap_or_else(|| body.to_vec());
            self.down.ahead = Some(wording::without_position(&words));
            return Ok(true);
        }
        self.note_error(body);
        self.down.complete = None;
        self.note_commit_answered();
        client.state.fail();
        let Some(words) = words else { return Ok(false) };
        let mut error = Vec::new();
        encode::message(&mut error, backend::ERROR_RESPONSE, |out| out.extend_from_slice(&words));
        self.tell(&error)?;
        Ok(true)
    }
}

/// What an error tells about the server's copy of a statement of ours.
enum Stale {
    /// It has one that does not fit any more.
    Outlived(StatementId),
    /// It has none: somebody has dropped it behind our back.
    Gone(StatementId),
    /// It has one that we do not know of.
    Stranger(Arc<Statement>),
}

impl Stale {
    fn forget(&self, server: &mut ServerConnection) {
        match self {
            Self::Outlived(id) => server.statements.spoil(*id),
            Self::Gone(id) => server.statements.forget(*id),
            Self::Stranger(statement) => server.statements.restore(statement.clone()),
        }
    }
}

/// Whether an error says that what we believe of a prepared statement on the server is not so.
fn stale(server: &ServerConnection, body: &[u8]) -> Option<Stale> {
    let effect = server.queue.next_of_server()?.effect.as_ref()?;
    let fields = message::error_fields(body);
    let is = |sqlstate: &str| fields.sqlstate == sqlstate.as_bytes();
    let ours = || memchr::memmem::find(fields.message, SERVER_NAME_PREFIX).is_some();
    match effect {
        Effect::Bound(id) | Effect::Told(Told { statement: id, .. })
            if is(sqlstate::FEATURE_NOT_SUPPORTED) && fields.routine == REVALIDATE =>
        {
            Some(Stale::Outlived(*id))
        }
        Effect::Bound(id) | Effect::Told(Told { statement: id, .. })
            if is(sqlstate::INVALID_SQL_STATEMENT_NAME) && ours() =>
        {
            Some(Stale::Gone(*id))
        }
        Effect::Prepared(made) | Effect::PreparedAhead(made) | Effect::Named(_, made)
            if is(sqlstate::DUPLICATE_PREPARED_STATEMENT) && ours() =>
        {
            Some(Stale::Stranger(made.statement.clone()))
        }
        _ => None,
    }
}

/// Whether a Bind has failed because it chooses a format for each column that the client was told of, and there are others by
/// now. On the client's own connection, the plan would have been found stale first.
#[cold]
fn chooses_former_columns(
    id: StatementId,
    body: &[u8],
    client: &ClientSide,
    server: &ServerConnection,
) -> bool {
    let fields = message::error_fields(body);
    let told = || client.statements.named(client.statements.name_of(id)?)?.told;
    fields.sqlstate == sqlstate::PROTOCOL_VIOLATION.as_bytes()
        && fields.routine == SET_FORMATS
        && told().is_some_and(|told| server.statements.looks(id) != Looks::Like(told))
}

/// Messages that are read must be there whole; the others may pass in pieces. An error that does not fit into a
/// block passes unread.
const fn is_read(header: Header) -> bool {
    match header.tag {
        backend::READY_FOR_QUERY | backend::PARAMETER_STATUS | backend::COMMAND_COMPLETE => true,
        backend::ERROR_RESPONSE | backend::NOTICE_RESPONSE | backend::NOTIFICATION_RESPONSE => {
            header.total() <= BLOCK
        }
        _ => false,
    }
}

/// Whether the request to which the message is an answer wants to read it.
fn is_read_for_effect(header: Header, server: &ServerConnection) -> bool {
    match server.queue.head().and_then(|head| head.effect.as_ref()) {
        Some(Effect::Asked(_) | Effect::Identity(_)) => header.tag == backend::DATA_ROW,
        Some(Effect::Told(_)) => header.tag == backend::ROW_DESCRIPTION && header.total() <= BLOCK,
        _ => false,
    }
}

/// Whether a client has most likely called for the end of this server process, and by that for the end of the session,
/// which was told that the process is its own, or whose statement the process runs: who looks into `pg_stat_activity`
/// finds it by that. A statement that ends processes itself meant another's.
fn was_meant(client: &ClientSide, server: &ServerConnection, shared: &Shared) -> bool {
    let is_its_own = client.state.process.as_ref() == Some(&server.cancel_key);
    let runs =
        || disturbs(server) == Disturbs::Nobody && server.queue.iter().any(|owed| owed.fate == Fate::Forward);
    (is_its_own || runs()) && shared.endings.is_recent(Instant::now())
}

/// Whom the statement that runs disturbs.
fn disturbs(server: &ServerConnection) -> Disturbs {
    match server.queue.head().and_then(|head| head.effect.as_ref()) {
        Some(Effect::Does(doing)) => doing.deed.effects.disturbs,
        _ => Disturbs::Nobody,
    }
}

/// The session whose number the server knows no process by, if its warning says so.
fn session_meant(body: &[u8]) -> Option<SessionId> {
    let fields = message::error_fields(body);
    if fields.sqlstate != sqlstate::WARNING.as_bytes() {
        return None;
    }
    let number = fields.message.split(|byte| !byte.is_ascii_digit()).find(|digits| !digits.is_empty())?;
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    (number >= SessionId::LEAST).then_some(SessionId(number))
}
