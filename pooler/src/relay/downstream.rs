//! Server to client: walks the headers, drops what is ours, passes the rest on untouched.

use super::gate::{self, Look};
use super::outbox::Outbox;
use super::{ClientSide, Relay, Shared, Stop, state, undo};
use crate::parameters;
use crate::server::connection::{Effect, ServerConnection};
use crate::stream::Buffer;
use crate::stream::buffer::BLOCK;
use hawser_wire::backend::{self as message, TransactionStatus};
use hawser_wire::encode::SERVER_NAME_PREFIX;
use hawser_wire::frame::{self, HEADER_LENGTH, Header};
use hawser_wire::reply_queue::{Fate, Request, Settled, Unexpected};
use hawser_wire::sqlstate;
use hawser_wire::tag::backend;
use smallvec::SmallVec;
use std::task::{Context, Poll, ready};

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
    /// The client has been told something.
    pub(super) told: bool,
    /// It is clear that a standby serves the batch.
    served: bool,
    /// A ReadyForQuery waits until the client's own notifications are there.
    pub(super) held: bool,
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
        if !self.down.out.is_empty() {
            self.down.told = true;
            let drained = self.down.out.poll_drain(cx, &mut client.stream, self.down.input.as_mut());
            ready!(drained).map_err(Stop::ClientLost)?;
            return Poll::Ready(Ok(()));
        }
        if self.walk_input(client, server, shared)? || self.answer_alone(server) {
            return Poll::Ready(Ok(()));
        }
        if self.down.held {
            return Poll::Pending;
        }
        if self.down.input.is_none() {
            ready!(server.stream.poll_readable(cx)).map_err(Stop::ServerLost)?;
        }
        let input = self.down.input.get_or_insert_with(|| shared.buffers.take());
        input.grow();
        match ready!(server.stream.poll_read(cx, input)).map_err(Stop::ServerLost)? {
            0 => Poll::Ready(Err(Stop::ServerLeft)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Replies that no message of the server's will come before: sent by themselves.
    fn answer_alone(&mut self, server: &mut ServerConnection) -> bool {
        let before = self.down.out.is_empty();
        let alone = matches!(server.queue.head(), Some(head) if matches!(head.fate, Fate::Synthesise(_)))
            && !server.queue.awaits_server();
        while alone && let Some(bytes) = server.queue.due() {
            self.down.out.fixed(bytes);
        }
        before && !self.down.out.is_empty()
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
                let count = self.down.piece.min(rest.len());
                self.down.piece -= count;
                self.pass_or_drop(count, self.down.piece_dropped);
                continue;
            }
            if self.guess && !self.down.served && !self.is_served(rest, server)? {
                break;
            }
            let Some(header) = frame::header(rest).map_err(Stop::ServerFraming)? else { break };
            let present = rest.len().min(header.total());
            if present < header.total() && is_read(header) {
                break;
            }
            let body = rest.get(HEADER_LENGTH..present).unwrap_or_default();
            let whole = present == header.total();
            if header.tag == backend::READY_FOR_QUERY && self.holds_ready(body, client, server) {
                break;
            }
            let dropped = self.take_reply(header, body, whole, client, server, shared)?;
            self.pass_or_drop(present, dropped);
            self.down.piece = header.total() - present;
            self.down.piece_dropped = dropped;
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
            Look::Refused(body) if is_farewell(backend::ERROR_RESPONSE, body) => {
                return Err(Stop::ServerEnds(body.to_vec()));
            }
            Look::Refused(body) => return Err(Stop::Misrouted(body.to_vec())),
        };
        Ok(self.down.served)
    }

    fn pass_or_drop(&mut self, count: usize, dropped: bool) {
        if dropped {
            self.down.out.skip(count);
        } else {
            self.down.out.pass(count);
            self.traffic.sent += count as u64;
        }
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
        while let Some(bytes) = server.queue.due() {
            self.down.out.fixed(bytes);
        }
        if whole && is_farewell(header.tag, body) {
            return Err(Stop::ServerEnds(body.to_vec()));
        }
        if header.tag == backend::ERROR_RESPONSE
            && let Some(head) = server.queue.head()
            && matches!(head.effect, Some(Effect::Settings | Effect::Ours))
        {
            return Err(Stop::OursFailed(body.to_vec()));
        }
        let expected = matches!(server.queue.head_effect(), Some(Effect::MustFail));
        let said = (header.tag == backend::COMMAND_COMPLETE).then(|| match server.queue.head_effect() {
            Some(Effect::Statements(effects)) => effects.pop_front(),
            _ => None,
        });
        server.tainted |= header.tag == backend::ERROR_RESPONSE && whole && contradicts(server, body);
        let mut failed: SmallVec<[Effect; 2]> = SmallVec::new();
        let fate = server.queue.observe(header.tag, &mut |outcome| {
            if let Settled::Failed(effect) = outcome {
                failed.push(effect);
            }
        })?;
        for effect in failed {
            undo(effect, client, server);
        }
        match header.tag {
            backend::READY_FOR_QUERY => {
                let status = body.first().copied().and_then(TransactionStatus::from_byte);
                server.status = status.ok_or(Stop::ServerViolation(Unexpected(header.tag)))?;
                if server.queue.is_empty() {
                    self.ending = None;
                }
                if fate == Fate::Forward {
                    self.note_acknowledged();
                    self.traffic.queries += 1;
                    let idle = server.status == TransactionStatus::Idle;
                    state::ready(idle, client, server);
                    if let Some(listener) = client.listener.as_deref().filter(|_| idle) {
                        self.pass_ready(listener, server);
                    }
                }
            }
            backend::PARAMETER_STATUS if fate == Fate::Forward => {
                if let Some((name, value)) = message::parameter_status(body)
                    && parameters::reported(name).is_some()
                {
                    return Ok(state::reported(name, value, client, server, shared));
                }
            }
            backend::ERROR_RESPONSE if expected => return Ok(true),
            backend::ERROR_RESPONSE => {
                client.state.fail();
                return Ok(whole && self.rewrite_error(body, client));
            }
            backend::COMMAND_COMPLETE if fate == Fate::Forward => {
                if let Some(tag) = message::command_tag(body) {
                    state::command(tag, said.flatten(), client, server, shared);
                }
            }
            _ => {}
        }
        if header.tag == backend::NOTIFICATION_RESPONSE {
            return Ok(!self.is_for_client(body, client));
        }
        Ok(fate == Fate::Swallow)
    }

    /// The server is ready after something that may have written.
    fn note_acknowledged(&mut self) {
        if self.reads && !self.up.beyond {
            return;
        }
        if let Some(clock) = &self.clock {
            self.acknowledged = (clock.now)();
            clock.newest.fetch_max(self.acknowledged, std::sync::atomic::Ordering::AcqRel);
        }
    }

    /// Gives the client back its own names in an error. True when our version was put in the outbox.
    fn rewrite_error(&mut self, body: &[u8], client: &ClientSide) -> bool {
        let finder = memchr::memmem::Finder::new(SERVER_NAME_PREFIX);
        if finder.find(body).is_none() {
            return false;
        }
        let mut renamed = Vec::with_capacity(body.len());
        let mut rest = body;
        while let Some(found) = finder.find(rest) {
            let (before, after) = rest.split_at(found);
            renamed.extend_from_slice(before);
            let digits = after.get(SERVER_NAME_PREFIX.len()..).unwrap_or_default();
            let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = std::str::from_utf8(digits.get(..count).unwrap_or_default()).unwrap_or_default();
            let name = number
                .parse()
                .ok()
                .and_then(|number| client.statements.name_of(crate::ids::StatementId(number)));
            let ours = after.get(..SERVER_NAME_PREFIX.len() + count).unwrap_or_default();
            renamed.extend_from_slice(name.unwrap_or(ours));
            rest = after.get(ours.len()..).unwrap_or_default();
        }
        renamed.extend_from_slice(rest);
        self.down.out.ours(|out| {
            hawser_wire::encode::message(out, backend::ERROR_RESPONSE, |out| out.extend_from_slice(&renamed));
        });
        true
    }
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

/// Whether a message says that the server stops or has crashed: it is about the server connection, of which the client
/// knows nothing.
fn is_farewell(tag: u8, body: &[u8]) -> bool {
    let fields = match tag {
        backend::ERROR_RESPONSE | backend::NOTICE_RESPONSE => message::error_fields(body),
        _ => return false,
    };
    if fields.sqlstate == sqlstate::CRASH_SHUTDOWN.as_bytes() {
        return true;
    }
    let stops = [sqlstate::ADMIN_SHUTDOWN, sqlstate::CANNOT_CONNECT_NOW].map(str::as_bytes);
    matches!(fields.severity, b"FATAL" | b"PANIC") && stops.contains(&fields.sqlstate)
}

/// Whether an error says that the server has a statement of ours that we thought it lacks, or lacks one that we
/// thought it has: a client has meddled with them in SQL. Closing the connection is what ends that.
fn contradicts(server: &ServerConnection, body: &[u8]) -> bool {
    let Some(head) = server.queue.head() else { return false };
    let sqlstate = match (head.request, &head.effect) {
        (Request::Parse, Some(Effect::Prepared(_) | Effect::Named(..))) => {
            sqlstate::DUPLICATE_PREPARED_STATEMENT
        }
        (Request::Bind | Request::Describe, None) => sqlstate::INVALID_SQL_STATEMENT_NAME,
        _ => return false,
    };
    message::error_fields(body).sqlstate == sqlstate.as_bytes()
        && memchr::memmem::find(body, SERVER_NAME_PREFIX).is_some()
}
