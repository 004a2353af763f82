//! A session without a server connection: waits for bytes, and answers by itself what needs no server.

use super::deferral::{self, Control};
use super::end::End;
use super::handle::{Signal, Timer};
use super::refusal::Refusal;
use super::{Deferred, Session, Skip, SkipEnd};
use crate::relay::{Gist, Violation, first_message, give_empty};
use crate::stopwatch::count;
use hawser_sql_router::ending::{self, Ending};
use hawser_sql_router::scan::trimmed;
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode;
use hawser_wire::frame::{HEADER_LENGTH, Header};
use hawser_wire::tag::frontend;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// How idling ends.
pub(super) enum Idle {
    /// There is something for a server.
    Work,
    /// Say this, and go on idling.
    Answer(Vec<u8>),
    /// Leave this batch out, say why, and go on idling.
    Refuse(Refusal),
    /// The client left.
    Left(End),
    /// The client broke the protocol.
    Violation(Violation),
    /// More notifications arrived than may wait for the client.
    NotifyQueueFull,
    /// Something other than bytes.
    Signal(Signal),
}

impl Session {
    pub(super) fn begin_idle(&self) {
        let timer = if self.deferred.is_some() { Timer::IdleTransaction } else { Timer::ClientIdle };
        let limit = match timer {
            Timer::IdleTransaction => self.timeouts.idle_transaction,
            _ => self.timeouts.client_idle,
        };
        self.handle.set_deadline(limit.map(|limit| (Instant::now() + limit, timer)));
    }

    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Idle> {
        let postponed = self.handle.postponed().map(Signal::Drain);
        if let Some(signal) = self.handle.take_signal(cx.waker()).or(postponed) {
            return Poll::Ready(Idle::Signal(signal));
        }
        if let Some(idle) = self.preview_notifications(cx) {
            return Poll::Ready(idle);
        }
        loop {
            match self.preview() {
                // A LISTEN needs no server connection before the hub has the channel.
                Ok(Some(Idle::Work)) if self.is_asking_hub() => return Poll::Pending,
                Ok(Some(idle)) => return Poll::Ready(idle),
                Ok(None) => {}
                Err(violation) => return Poll::Ready(Idle::Violation(violation)),
            }
            if let Err(end) = ready!(self.poll_more(cx)) {
                return Poll::Ready(Idle::Left(end));
            }
        }
    }

    /// What has arrived for a client that listens and is outside a transaction.
    fn preview_notifications(&mut self, cx: &Context<'_>) -> Option<Idle> {
        let listener = self.client.listener.as_mut()?;
        listener.register(cx);
        let plan = self.pool.plan();
        if !listener.is_at(&plan.dial) {
            listener.move_to(&plan.dial);
        }
        if listener.is_overrun() {
            return Some(Idle::NotifyQueueFull);
        }
        let mut out = Vec::new();
        if self.deferred.is_none() {
            listener.take(&mut out);
        }
        (!out.is_empty()).then_some(Idle::Answer(out))
    }

    fn is_asking_hub(&self) -> bool {
        self.client.listener.as_ref().is_some_and(|listener| listener.is_asking())
    }

    /// Reads once. While nothing has arrived the session holds no block.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        give_empty(&mut self.client.input, &self.shared);
        if let Some(input) = &mut self.client.input {
            input.shrink(&self.shared.buffers);
        }
        let lost = |error: std::io::Error| End::ClientLost(error.kind());
        ready!(self.client.stream.poll_readable(cx)).map_err(lost)?;
        let input = self.client.input.get_or_insert_with(|| self.shared.buffers.take());
        input.grow();
        match ready!(self.client.stream.poll_read(cx, input)).map_err(lost)? {
            0 => Poll::Ready(Err(End::ClientLeft)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Looks at what has arrived. `None`: not enough yet.
    fn preview(&mut self) -> Result<Option<Idle>, Violation> {
        loop {
            if self.skip.is_some() {
                match self.skip_some()? {
                    Some(answer) => return Ok(Some(Idle::Answer(answer))),
                    None if self.skip.is_some() => return Ok(None),
                    None => {}
                }
            }
            let Some(input) = &mut self.client.input else { return Ok(None) };
            let max_message = self.pool.plan().limits.max_message;
            let names = self.client.statements.any_of_sql();
            let Some(header) = first_message(input.data(), max_message, names)? else { return Ok(None) };
            match header.tag {
                frontend::TERMINATE => return Ok(Some(Idle::Left(End::ClientLeft))),
                frontend::FLUSH => input.consume(header.total()),
                frontend::SYNC => {
                    input.consume(header.total());
                    return Ok(Some(Idle::Answer(encode::ready_for_query(self.status()).to_vec())));
                }
                frontend::QUERY => {
                    let answer = self.defer_query(header);
                    return Ok(Some(answer.map_or_else(|| self.work(), Idle::Answer)));
                }
                // Data of a COPY that has failed meanwhile: a server would ignore it.
                frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => {
                    self.skip = Some(Skip { bytes: header.total(), then: SkipEnd::Nothing });
                }
                frontend::PARSE if self.defines_known(header) => {
                    let mut answer = encode::PARSE_COMPLETE.to_vec();
                    answer.extend_from_slice(encode::ready_for_query(self.status()));
                    return Ok(Some(Idle::Answer(answer)));
                }
                frontend::PARSE | frontend::BIND => {
                    let answer = self.defer_batch();
                    return Ok(Some(answer.map_or_else(|| self.work(), Idle::Answer)));
                }
                _ => return Ok(Some(self.work())),
            }
        }
    }

    /// Whether the first batch does nothing but prepare a text of which it is known that servers take it. It is left out.
    ///
    /// A program that prepares one statement after the other, and waits for each in a thread that serves others of its
    /// connections, would wait for these for ever where they have all server connections.
    fn defines_known(&mut self, header: Header) -> bool {
        if !self.gone.is_empty() || !matches!(self.deferred, None | Some(Deferred::Begun(_))) {
            return false;
        }
        let Some(mut input) = self.client.input.take() else { return false };
        let (parse, rest) = input.data().split_at(header.total().min(input.len()));
        let body = parse.get(HEADER_LENGTH..).unwrap_or_default();
        let is_alone = rest.starts_with(encode::SYNC);
        let limit = self.pool.plan().limits.max_client_statements;
        let defines = is_alone && self.client.define_known(body, self.pool.mark, limit, &self.shared);
        if defines {
            input.consume(header.total() + encode::SYNC.len());
            count(&self.pool.counters.client_parses, 1);
        }
        self.client.input = Some(input);
        defines
    }

    /// Something for a server, unless the client must be told first that what it builds on is gone.
    fn work(&mut self) -> Idle {
        if !self.gone.is_empty() {
            return Idle::Refuse(Refusal::StateLost(std::mem::take(&mut self.gone)));
        }
        match &self.deferred {
            None | Some(Deferred::Begun(_)) => Idle::Work,
            Some(Deferred::Failed(_)) if self.runs_something_else() => {
                Idle::Refuse(Refusal::TransactionFailed)
            }
            Some(Deferred::Failed(_)) => Idle::Work,
            Some(Deferred::Lost) => {
                let over = self.ending().is_some();
                self.deferred = (!over).then(|| Deferred::Failed("BEGIN".into()));
                Idle::Refuse(Refusal::TransactionLost)
            }
        }
    }

    /// Whether the first statement that has arrived may end a transaction.
    fn ending(&self) -> Option<Ending> {
        ending::of_text(self.first_text()?)
    }

    /// Whether the first message is for a statement that does not end its transaction. A failed one refuses no other.
    fn runs_something_else(&self) -> bool {
        let text = self.first_text();
        text.is_some_and(|text| !trimmed(text).is_empty() && ending::of_text(text).is_none())
    }

    fn first_text(&self) -> Option<&[u8]> {
        self.client.first_text(self.client.input.as_ref()?.data())
    }

    pub(super) const fn status(&self) -> TransactionStatus {
        match self.deferred {
            None => TransactionStatus::Idle,
            Some(Deferred::Begun(_) | Deferred::Lost) => TransactionStatus::InTransaction,
            Some(Deferred::Failed(_)) => TransactionStatus::Failed,
        }
    }

    /// What a text comes to that begins a transaction, which can wait, or ends one that no server has seen: the command tag
    /// of its answer, and what is deferred from then on.
    fn control(&self, text: &[u8]) -> Option<(&'static str, Option<Deferred>)> {
        use crate::config::settings::PoolMode;
        match (deferral::control(text)?, &self.deferred) {
            (Control::Begin(tag), None) if self.pool.plan().mode == PoolMode::Transaction => {
                Some((tag, Some(Deferred::Begun(std::str::from_utf8(text).ok()?.into()))))
            }
            (Control::Begin(_), _) | (Control::Commit | Control::Rollback, None) => None,
            // The client must not take it for a success.
            (Control::Commit, Some(Deferred::Lost)) => None,
            (Control::Commit, Some(Deferred::Begun(_))) => Some(("COMMIT", None)),
            (Control::Commit | Control::Rollback, Some(_)) => Some(("ROLLBACK", None)),
        }
    }

    /// Answers a simple query that needs no server.
    fn defer_query(&mut self, header: Header) -> Option<Vec<u8>> {
        let body = self.client.input.as_ref()?.data().get(HEADER_LENGTH..header.total())?;
        let control = self.control(body.strip_suffix(b"\0")?)?;
        self.client.unnamed.statement = None;
        Some(self.answer_control(control, Vec::with_capacity(32), header.total()))
    }

    /// Answers a batch of the extended protocol that needs no server.
    fn defer_batch(&mut self) -> Option<Vec<u8>> {
        let batch = deferral::lone(self.client.input.as_ref()?.data())?;
        let control = self.control(batch.parsed.or_else(|| self.client.text_of(b""))?)?;
        let (is_described, length) = (batch.is_described, batch.length);
        let mut answer = Vec::with_capacity(64);
        if let Some(text) = batch.parsed {
            count(&self.pool.counters.client_parses, 1);
            let gist = Gist { ending: ending::of_text(text), shape: None };
            self.client.unnamed.define(text, &[0; 2], None, gist);
            answer.extend_from_slice(encode::PARSE_COMPLETE);
        }
        answer.extend_from_slice(encode::BIND_COMPLETE);
        if is_described {
            answer.extend_from_slice(encode::NO_DATA);
        }
        Some(self.answer_control(control, answer, length))
    }

    /// Completes the answer to the first `length` bytes of the input, which only control a transaction.
    fn answer_control(
        &mut self,
        (tag, deferred): (&str, Option<Deferred>),
        mut answer: Vec<u8>,
        length: usize,
    ) -> Vec<u8> {
        self.deferred = deferred;
        if let Some(input) = &mut self.client.input {
            input.consume(length);
        }
        encode::command_complete(&mut answer, tag);
        answer.extend_from_slice(encode::ready_for_query(self.status()));
        answer
    }

    /// Leaves the first message (and with an extended one, everything up to the Sync) out, after a refusal.
    pub(super) fn skip_batch(&mut self) {
        let data = self.client.input.as_ref().map_or(&[][..], |input| input.data());
        let Ok(Some(header)) = hawser_wire::frame::header(data) else { return };
        let simple = matches!(header.tag, frontend::QUERY | frontend::FUNCTION_CALL);
        let then = if simple { SkipEnd::Ready } else { SkipEnd::Sync };
        self.skip = Some(Skip { bytes: header.total(), then });
    }

    /// Leaves out what has arrived. The ReadyForQuery, when everything has been left out.
    fn skip_some(&mut self) -> Result<Option<Vec<u8>>, Violation> {
        let status = self.status();
        let ready = || Ok(Some(encode::ready_for_query(status).to_vec()));
        while let Some(skip) = &mut self.skip {
            let Some(input) = &mut self.client.input else { return Ok(None) };
            if input.is_empty() {
                return Ok(None);
            }
            let count = skip.bytes.min(input.len());
            input.consume(count);
            skip.bytes -= count;
            if skip.bytes > 0 {
                return Ok(None);
            }
            match skip.then {
                SkipEnd::Sync => {}
                SkipEnd::Ready => {
                    self.skip = None;
                    return ready();
                }
                SkipEnd::Nothing => {
                    self.skip = None;
                    return Ok(None);
                }
            }
            let Some(header) = hawser_wire::frame::header(input.data())? else { return Ok(None) };
            skip.bytes = header.total();
            if header.tag == frontend::SYNC {
                skip.then = SkipEnd::Ready;
            }
        }
        Ok(None)
    }
}
