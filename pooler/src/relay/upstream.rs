//! Client to server: takes whole messages, or pieces of long ones, and sends what `plan` makes of them.

use super::journal::Position;
use super::naming;
use super::outbox::Outbox;
use super::own;
use super::plan::Planned;
use super::{ClientSide, Commit, MOST_OWED, Relay, Shared, Stop, Violation};
use crate::notify::Gate;
use crate::server::connection::{Effect, ServerConnection};
use crate::stream::Buffer;
use crate::stream::buffer::BLOCK;
use hawser_sql_router::ending;
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode;
use hawser_wire::frame::{self, HEADER_LENGTH, Header};
use hawser_wire::frontend::Malformed;
use hawser_wire::tag::frontend;
use std::task::{Context, Poll, ready};

/// The pump's place in the client's stream.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) out: Outbox,
    /// Bytes of a message that are still to come and to be passed on.
    pub(super) piece: usize,
    /// Bytes of messages that were planned.
    pub(super) said: usize,
    /// Batches whose end was sent.
    pub(super) ended: u32,
    /// Something was sent behind the first of them.
    pub(super) beyond: bool,
    /// There is something behind it, and whoever drives the relay decides where that goes.
    pub(super) parted: bool,
    /// So much is owed that the server was asked for the replies that it holds back.
    pub(super) asked: bool,
    /// Nothing more of the client's is planned before the server has answered: what was planned decides what the rest
    /// means.
    pub(super) barrier: bool,
    /// More of the client's has been asked for: the task is woken when it is there.
    pub(super) awaited: bool,
    /// The next message has to wait for the server.
    held: bool,
    /// What is in the input is behind the batch, and stays there for now.
    behind: bool,
    /// A Describe follows the message that is planned.
    pub(super) describes_next: bool,
    /// The batch that is open has more than prepared.
    runs: bool,
    /// What the client's next message waits for.
    pub(super) wait: Option<Wait>,
}

/// What a message waits for before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The session must have a listener.
    Listener,
    /// The hub must have the channels.
    Channels,
    /// The hub must have delivered what was committed before.
    Mark,
    /// The server connection must have forgotten its channels, and is given back then.
    Unlisten,
}

impl Wait {
    /// What is waited for at this gate.
    pub(super) const fn at(gate: Gate) -> Option<Self> {
        match gate {
            Gate::Open => None,
            Gate::Channels => Some(Self::Channels),
            Gate::Mark => Some(Self::Mark),
        }
    }
}

/// How much of a message must be there before it can be planned.
enum Extent {
    /// All of it: it is read, or it is short.
    Whole,
    /// As [`Self::Whole`]; of a long one the beginning is enough, if it names no prepared statements.
    Text,
    /// So many bytes of the body; the rest may follow in pieces.
    Head(usize),
}

/// Simple queries up to this length are looked at as a whole. Of a longer one nobody knows what its end may do, and the
/// server is asked afterwards.
const LONGEST_TEXT: usize = 256 * 1024;

/// So much of a longer one is looked at.
const BEGINNING: usize = BLOCK / 2;

impl Relay {
    /// Sends what can be sent. Ready when something was done, pending when there is nothing to do.
    pub(super) fn poll_upstream(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Poll<Result<(), Stop>> {
        if self.replay.is_due() && server.queue.is_settled() {
            self.send_again(client, shared);
        }
        self.close_statement(client, server);
        // What is ours and what the client sent leave in one write.
        let planned = !self.up.out.is_under_way() && self.plan_input(client, server, shared)?;
        if !self.up.out.is_empty() {
            ready!(self.up.out.poll_drain(cx, &mut server.stream, client.input.as_mut()))
                .map_err(Stop::ServerLost)?;
            return Poll::Ready(Ok(()));
        }
        self.up.asked &= server.queue.len() >= MOST_OWED || self.up.barrier;
        if planned {
            return Poll::Ready(Ok(()));
        }
        if self.up.held || self.up.wait.is_some() {
            return Poll::Pending;
        }
        if server.queue.len() >= MOST_OWED && self.up.piece == 0 {
            if self.up.asked || !server.queue.is_batch_open() || !server.queue.awaits_server() {
                return Poll::Pending;
            }
            // Without this the replies would come only after the Sync, and that only after the replies.
            self.up.asked = true;
            self.up.out.fixed(encode::FLUSH);
            return Poll::Ready(Ok(()));
        }
        // No more of it than a block.
        if self.up.behind && client.input.as_ref().is_some_and(|input| input.len() >= BLOCK) {
            return Poll::Pending;
        }
        if std::mem::replace(&mut self.up.awaited, true) {
            return Poll::Pending;
        }
        if client.input.is_none() {
            ready!(client.stream.poll_readable(cx)).map_err(Stop::ClientLost)?;
        }
        let input = client.input.get_or_insert_with(|| shared.buffers.take());
        input.grow();
        match ready!(client.stream.poll_read(cx, input)).map_err(Stop::ClientLost)? {
            0 => Poll::Ready(Err(Stop::ClientLeft)),
            count => {
                self.up.awaited = false;
                self.traffic.received += count as u64;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Plans the messages that are there. True when there is something to send or the input got shorter.
    fn plan_input(
        &mut self,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<bool, Stop> {
        if !self.is_open_at_all(client, server) {
            return Ok(false);
        }
        let Some(mut input) = client.input.take() else { return Ok(false) };
        // In a transaction they differ when a RESET went back to the server's own default.
        if server.queue.is_settled() && server.status != TransactionStatus::Failed && self.up.piece == 0 {
            self.prepend_settings(client, server);
        }
        (self.up.held, self.up.behind) = (false, false);
        let outcome = self.plan_messages(&mut input, client, server, shared);
        let planned = self.up.out.planned();
        if outcome.is_ok() && self.up.out.is_empty() && planned > 0 {
            // Nothing of it goes to the server, so no write will take it out.
            input.consume(planned);
            self.up.out = Outbox::default();
        }
        client.input = Some(input);
        if let Some(listener) = &client.listener
            && planned > 0
        {
            listener.end_message();
        }
        outcome?;
        Ok(planned > 0 || !self.up.out.is_empty())
    }

    fn plan_messages(
        &mut self,
        input: &mut Buffer,
        client: &mut ClientSide,
        server: &mut ServerConnection,
        shared: &Shared,
    ) -> Result<(), Stop> {
        while !self.up.out.is_full() && (self.up.piece > 0 || server.queue.len() < MOST_OWED) {
            let at = self.up.out.planned();
            let rest = input.data().get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if self.up.piece > 0 {
                let count = self.up.piece.min(rest.len());
                self.up.piece -= count;
                self.up.out.pass(count);
                continue;
            }
            if self.commit == Commit::Open {
                break;
            }
            let is_next_batch = self.up.ended > 0 && !server.queue.is_batch_open();
            self.up.behind = is_next_batch && self.stops_behind_batch(rest, client, server);
            if self.up.behind {
                break;
            }
            let names = client.statements.any_of_sql();
            let Some(header) = first_message(rest, self.limits.max_message, names)? else { break };
            self.up.beyond |= self.up.ended > 0;
            let body = rest.get(HEADER_LENGTH..header.total().min(rest.len())).unwrap_or_default();
            if let Some(message) = own::instead(header.tag, body, self.own) {
                // What is counted when the other message is planned is to be the client's own.
                self.up.said = self.up.said.wrapping_add(header.total()).wrapping_sub(message.len());
                let put = exchanged(input, at, header.total(), &message);
                shared.buffers.give(std::mem::replace(input, put));
                continue;
            }
            if self.is_barred(header.tag, server) {
                break;
            }
            let is_start = server.status == TransactionStatus::Idle
                && (!server.queue.is_batch_open() || server.queue.is_empty() && !self.up.runs)
                && server.queue.head().is_none_or(|head| matches!(head.effect, Some(Effect::Settings)))
                && server.queue.len() <= 1;
            self.up.describes_next = rest.get(header.total()) == Some(&frontend::DESCRIBE);
            let is_new_name = self.journal.is_some() && is_new_name(header.tag, body, client);
            match self.plan_message(header, body, client, server, shared)? {
                Planned::Yes => {
                    self.up.said = self.up.said.wrapping_add(header.total());
                    let message = rest.get(..header.total());
                    self.replay.note(header.tag, message, is_start);
                    if self.journal.is_some() {
                        let in_transaction = super::plan::is_begun(server);
                        let may_end = self.ending.is_some();
                        let position = Position { is_start, in_transaction, may_end, is_new_name };
                        self.note_said(header, message, position);
                    }
                }
                Planned::NotYet => {
                    self.up.held = true;
                    break;
                }
            }
            match header.tag {
                frontend::QUERY | frontend::SYNC | frontend::FUNCTION_CALL => {
                    self.up.ended += 1;
                    self.up.runs = false;
                }
                frontend::BIND | frontend::EXECUTE => self.up.runs = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the next batch is not sent, or not yet: what the one before is answered decides where it goes, or whether it
    /// is sent at all.
    fn stops_behind_batch(&mut self, next: &[u8], client: &ClientSide, server: &ServerConnection) -> bool {
        if self.retelling.is_some() && !server.queue.is_settled() {
            return true;
        }
        if !self.confined {
            return false;
        }
        // Who has nothing here is served wherever that is best.
        let is_free = server.status == TransactionStatus::Idle && client.state.pins.is_empty();
        if !server.queue.is_settled() || is_free {
            return true;
        }
        let wants = match server.status {
            TransactionStatus::Idle => false,
            TransactionStatus::InTransaction => self.parts,
            TransactionStatus::Failed => {
                self.leaves_failed
                    && client.first_text(next).is_some_and(|text| ending::of_text(text).is_some())
            }
        };
        let parts = wants && client.state.pins.is_empty() && next.first() != Some(&frontend::TERMINATE);
        // If it does not part, the transaction goes on where it is.
        self.up.parted |= parts;
        self.up.beyond |= !parts;
        parts
    }

    /// Keeps what was said, and counts it where it is said again.
    #[cold]
    fn note_said(&mut self, header: Header, message: Option<&[u8]>, position: Position) {
        if let Some(journal) = &mut self.journal {
            journal.note(header.tag, message, position);
        }
        if let Some(retelling) = &mut self.retelling {
            retelling.say(header.total());
        }
    }

    /// Whether a message has to wait for the replies that are owed. Within a batch the server is asked for them, since
    /// it holds them back until the Sync.
    fn is_barred(&mut self, tag: u8, server: &mut ServerConnection) -> bool {
        if !self.up.barrier {
            return false;
        }
        if server.queue.is_empty() {
            (self.up.barrier, self.up.asked) = (false, false);
            return false;
        }
        if !matches!(
            tag,
            frontend::PARSE
                | frontend::BIND
                | frontend::DESCRIBE
                | frontend::EXECUTE
                | frontend::CLOSE
                | frontend::QUERY
                | frontend::FUNCTION_CALL
        ) {
            return false;
        }
        if server.queue.is_batch_open() && server.queue.awaits_server() && !self.up.asked {
            self.up.asked = true;
            self.up.out.fixed(encode::FLUSH);
        }
        self.up.held = true;
        true
    }

    /// Puts a batch before what the client has sent since.
    fn send_again(&mut self, client: &mut ClientSide, shared: &Shared) {
        let mut again = Buffer::holding(&self.replay.take());
        if let Some(rest) = client.input.take() {
            again.append(rest.data());
            shared.buffers.give(rest);
        }
        client.input = Some(again);
    }
}

/// Whether a message prepares a name that the client has not given to anything.
#[cold]
fn is_new_name(tag: u8, body: &[u8], client: &ClientSide) -> bool {
    tag == frontend::PARSE
        && hawser_wire::frontend::parse(body)
            .is_ok_and(|parse| !parse.name.is_empty() && client.statements.named(parse.name).is_none())
}

/// `input` with `message` in the place of the `length` bytes at `at`.
#[cold]
fn exchanged(input: &Buffer, at: usize, length: usize, message: &[u8]) -> Buffer {
    let mut put = Buffer::holding(input.data().get(..at).unwrap_or_default());
    put.append(message);
    put.append(input.data().get(at + length..).unwrap_or_default());
    put
}

/// The first message in `data`, once enough of it is there to be planned. `names`: the client has prepared statements by
/// SQL, which a simple query may name anywhere.
pub(crate) fn first_message(
    data: &[u8],
    max_message: usize,
    names: bool,
) -> Result<Option<Header>, Violation> {
    let Some(header) = frame::header(data)? else { return Ok(None) };
    let body = data.get(HEADER_LENGTH..).unwrap_or_default();
    let needed = match extent(header)? {
        Extent::Whole => header.total(),
        Extent::Text if header.total() <= LONGEST_TEXT.min(max_message).max(BLOCK) => header.total(),
        Extent::Text if body.len() < BEGINNING => HEADER_LENGTH + BEGINNING,
        Extent::Text if header.total() > max_message => HEADER_LENGTH + BEGINNING,
        Extent::Text if names || naming::may_name_statements(body) => header.total(),
        Extent::Text => HEADER_LENGTH + BEGINNING,
        Extent::Head(body) => HEADER_LENGTH + body.min(header.body),
    };
    if data.len() >= needed {
        return Ok(Some(header));
    }
    if needed > max_message.max(BLOCK) {
        return Err(Violation::TooLong { length: needed, limit: max_message });
    }
    Ok(None)
}

/// What must be there of a message before it is planned.
fn extent(header: Header) -> Result<Extent, Violation> {
    Ok(match header.tag {
        // A server finds fault with these and, after a Flush, skips everything up to a Sync, with nothing owed.
        frontend::FLUSH if header.body > 0 => return Err(Malformed("Flush").into()),
        frontend::SYNC if header.body > 0 => return Err(Malformed("Sync").into()),
        frontend::PARSE | frontend::DESCRIBE | frontend::CLOSE | frontend::EXECUTE => Extent::Whole,
        frontend::BIND => Extent::Head(2 * (hawser_wire::frontend::LONGEST_NAME + 1)),
        frontend::QUERY => Extent::Text,
        frontend::FUNCTION_CALL => Extent::Head(size_of::<u32>()),
        frontend::SYNC
        | frontend::FLUSH
        | frontend::COPY_DATA
        | frontend::COPY_DONE
        | frontend::COPY_FAIL
        | frontend::TERMINATE => Extent::Head(0),
        unknown => return Err(Violation::UnknownTag(unknown)),
    })
}
