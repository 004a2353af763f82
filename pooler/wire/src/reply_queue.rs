//! What a server connection still owes, in order. Pure.
//!
//! Each request that was sent is an [`Entry`] with a [`Fate`] for its replies and, where it matters, an effect
//! that holds only if the request succeeds. The queue promises: every reply finds the request that caused it,
//! effects of a failed batch are undone newest first, and [`ReplyQueue::is_settled`] is true only when the server
//! owes nothing and no batch is open. A reply that nobody asked for is [`Unexpected`]: close the connection.
//!
//! Source: PostgreSQL manual, "Message Flow"; what the server skips after an error, and that it ignores a Sync
//! during COPY IN, is in "Extended Query" and "COPY Operations".

use crate::tag::backend;
use std::collections::VecDeque;
use thiserror::Error;

/// What was asked, as far as it decides which reply ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Ends with ParseComplete.
    Parse,
    /// Ends with BindComplete.
    Bind,
    /// Ends with RowDescription or NoData.
    Describe,
    /// Ends with CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// Ends with CloseComplete.
    Close,
    /// Ends with ReadyForQuery.
    Sync,
    /// Ends with ReadyForQuery.
    Query,
    /// Ends with ReadyForQuery.
    FunctionCall,
    /// CopyDone or CopyFail: never answered itself, but it ends the time in which a Sync is ignored.
    CopyEnd,
}

/// What happens to the replies of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They are the client's.
    Forward,
    /// We asked; the client must not see them.
    Swallow,
    /// The server was not asked; the client gets these bytes when it is their turn.
    Synthesise(&'static [u8]),
}

/// One request that was sent, or that is answered by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<E> {
    /// What was asked.
    pub request: Request,
    /// Whose the replies are.
    pub fate: Fate,
    /// What is true if it succeeds.
    pub effect: Option<E>,
}

/// How a request with an effect ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled<E> {
    /// The effect holds.
    Succeeded(E),
    /// The effect must be undone.
    Failed(E),
}

/// A reply that fits no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("unexpected message {:?} from the server", char::from(*.0))]
pub struct Unexpected(pub u8);

/// Where the server stands between batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// The last thing sent ended a batch.
    Closed,
    /// Extended messages were sent, and no Sync since.
    Open,
    /// As `Open`, and the server skips everything until a Sync.
    Skipping,
}

/// The queue. `E` is the effect of a request.
#[derive(Debug)]
pub struct ReplyQueue<E> {
    entries: VecDeque<Entry<E>>,
    batch: Batch,
    copy_in: bool,
    syncs: u64,
}

impl<E> Default for ReplyQueue<E> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), batch: Batch::Closed, copy_in: false, syncs: 0 }
    }
}

impl<E> ReplyQueue<E> {
    /// Notes a request that is being sent (or, with [`Fate::Synthesise`], answered by us).
    ///
    /// Returns the effect when the server will skip the request: it must be undone at once.
    pub fn push(&mut self, request: Request, fate: Fate, effect: Option<E>) -> Option<E> {
        match request {
            Request::Sync if self.copy_in => return None,
            Request::Sync => {
                self.batch = Batch::Closed;
                self.syncs += 1;
            }
            Request::CopyEnd => {
                // It is kept only where the COPY that it ends may still begin.
                if std::mem::take(&mut self.copy_in) || self.entries.is_empty() {
                    return None;
                }
            }
            _ if self.batch == Batch::Skipping => return effect,
            Request::Query | Request::FunctionCall => self.batch = Batch::Closed,
            _ if matches!(fate, Fate::Synthesise(_)) => {}
            _ => self.batch = Batch::Open,
        }
        self.entries.push_back(Entry { request, fate, effect });
        None
    }

    /// The bytes that are due to the client before anything more from the server, if any, and the effect that holds
    /// by that.
    pub fn due(&mut self) -> Option<(&'static [u8], Option<E>)> {
        loop {
            let head = self.entries.front()?;
            match (head.request, head.fate) {
                (Request::CopyEnd, _) => {
                    self.entries.pop_front();
                }
                (_, Fate::Synthesise(bytes)) => {
                    let effect = self.entries.pop_front().and_then(|entry| entry.effect);
                    return Some((bytes, effect));
                }
                _ => return None,
            }
        }
    }

    /// Whose the next reply is. Without a request it is the client's: something the server says by itself.
    #[must_use]
    #[inline]
    pub fn fate(&self) -> Fate {
        self.entries.front().map_or(Fate::Forward, |entry| entry.fate)
    }

    /// The request that the server is answering.
    #[must_use]
    #[inline]
    pub fn head(&self) -> Option<&Entry<E>> {
        self.entries.front()
    }

    /// The effect of the request that the server is answering.
    pub fn head_effect(&mut self) -> Option<&mut E> {
        self.entries.front_mut()?.effect.as_mut()
    }

    /// Takes note of one message from the server and tells whose it is. Call [`Self::due`] first.
    ///
    /// # Errors
    /// No request could have caused the message.
    pub fn observe(&mut self, tag: u8, settle: &mut impl FnMut(Settled<E>)) -> Result<Fate, Unexpected> {
        let fate = self.fate();
        match tag {
            backend::PARSE_COMPLETE => self.pop(tag, Request::Parse, settle)?,
            backend::BIND_COMPLETE => self.pop(tag, Request::Bind, settle)?,
            backend::CLOSE_COMPLETE => self.pop(tag, Request::Close, settle)?,
            backend::ROW_DESCRIPTION => match self.head_request() {
                Some(Request::Describe) => self.pop(tag, Request::Describe, settle)?,
                Some(Request::Query | Request::Execute) => {}
                _ => return Err(Unexpected(tag)),
            },
            backend::NO_DATA => self.pop(tag, Request::Describe, settle)?,
            backend::COMMAND_COMPLETE | backend::EMPTY_QUERY_RESPONSE => {
                self.copy_in = false;
                match self.head_request() {
                    Some(Request::Execute) => self.pop(tag, Request::Execute, settle)?,
                    Some(Request::Query) => {}
                    _ => return Err(Unexpected(tag)),
                }
            }
            backend::PORTAL_SUSPENDED => self.pop(tag, Request::Execute, settle)?,
            backend::READY_FOR_QUERY => self.ready(settle)?,
            backend::ERROR_RESPONSE => self.fail(settle),
            backend::COPY_IN_RESPONSE => self.begin_copy_in()?,
            backend::DATA_ROW | backend::COPY_OUT_RESPONSE | backend::COPY_DATA | backend::COPY_DONE => {
                self.expect(tag, &[Request::Execute, Request::Query])?;
            }
            backend::PARAMETER_DESCRIPTION => self.expect(tag, &[Request::Describe])?,
            backend::FUNCTION_CALL_RESPONSE => self.expect(tag, &[Request::FunctionCall])?,
            // A notification is never an answer; notices and settings are ours only while a statement of ours runs.
            backend::NOTIFICATION_RESPONSE => return Ok(Fate::Forward),
            backend::NOTICE_RESPONSE | backend::PARAMETER_STATUS => {
                let ours = matches!(self.entries.front(), Some(head) if head.request == Request::Query);
                return Ok(if ours { fate } else { Fate::Forward });
            }
            _ => return Err(Unexpected(tag)),
        }
        while self.head_request() == Some(Request::CopyEnd) {
            self.entries.pop_front();
        }
        Ok(fate)
    }

    /// The server owes nothing and no batch is open: it could serve somebody else.
    #[must_use]
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.entries.is_empty() && self.batch == Batch::Closed && !self.copy_in
    }

    /// Which batch the next request belongs to. Requests of one number succeed or are skipped together.
    #[must_use]
    #[inline]
    pub const fn batch(&self) -> u64 {
        self.syncs
    }

    /// The request that the server will answer next: what we answer ourselves is left out.
    #[must_use]
    pub fn next_of_server(&self) -> Option<&Entry<E>> {
        self.entries.iter().find(|entry| !matches!(entry.fate, Fate::Synthesise(_)))
    }

    /// What comes back until the server is ready is ours after all. False when nothing is owed.
    pub fn swallow_batch(&mut self) -> bool {
        for entry in &mut self.entries {
            entry.fate = Fate::Swallow;
            if matches!(entry.request, Request::Sync | Request::Query | Request::FunctionCall) {
                return true;
            }
        }
        false
    }

    /// The server owes no reply (a batch may still be open).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The requests that wait for replies, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<E>> {
        self.entries.iter()
    }

    /// Requests that wait for replies.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The server waits for COPY data.
    #[must_use]
    pub const fn is_copy_in(&self) -> bool {
        self.copy_in
    }

    /// Extended messages were sent, and no Sync since.
    #[must_use]
    pub fn is_batch_open(&self) -> bool {
        self.batch != Batch::Closed
    }

    /// The server skips whatever is sent until a Sync.
    #[must_use]
    pub fn is_skipping(&self) -> bool {
        self.batch == Batch::Skipping
    }

    /// Some reply will still come from the server itself.
    #[must_use]
    pub fn awaits_server(&self) -> bool {
        let by_server = |entry: &Entry<E>| {
            !matches!(entry.fate, Fate::Synthesise(_)) && entry.request != Request::CopyEnd
        };
        self.entries.iter().any(by_server)
    }

    /// How many times the client is still to be told that it may go on.
    #[must_use]
    pub fn owed_ready(&self) -> usize {
        let ends = |entry: &&Entry<E>| {
            entry.fate == Fate::Forward
                && matches!(entry.request, Request::Query | Request::Sync | Request::FunctionCall)
        };
        self.entries.iter().filter(ends).count()
    }

    /// The server is lost: nothing that is owed will come. The effects are handed out newest first.
    pub fn abandon(&mut self, undo: &mut impl FnMut(E)) {
        self.entries.drain(..).rev().filter_map(|entry| entry.effect).for_each(undo);
        self.batch = Batch::Closed;
        self.copy_in = false;
    }

    fn head_request(&self) -> Option<Request> {
        self.entries.front().map(|entry| entry.request)
    }

    fn expect(&self, tag: u8, allowed: &[Request]) -> Result<(), Unexpected> {
        match self.head_request() {
            Some(request) if allowed.contains(&request) => Ok(()),
            _ => Err(Unexpected(tag)),
        }
    }

    fn pop(
        &mut self,
        tag: u8,
        request: Request,
        settle: &mut impl FnMut(Settled<E>),
    ) -> Result<(), Unexpected> {
        self.expect(tag, &[request])?;
        if let Some(Entry { effect: Some(effect), .. }) = self.entries.pop_front() {
            settle(Settled::Succeeded(effect));
        }
        Ok(())
    }

    fn ready(&mut self, settle: &mut impl FnMut(Settled<E>)) -> Result<(), Unexpected> {
        self.expect(backend::READY_FOR_QUERY, &[Request::Sync, Request::Query, Request::FunctionCall])?;
        self.copy_in = false;
        if let Some(Entry { effect: Some(effect), .. }) = self.entries.pop_front() {
            settle(Settled::Succeeded(effect));
        }
        Ok(())
    }

    /// A simple request fails alone and still gets its ReadyForQuery. An extended one takes everything with it up
    /// to the next Sync, simple queries included, because the server skips them.
    fn fail(&mut self, settle: &mut impl FnMut(Settled<E>)) {
        self.copy_in = false;
        match self.head_request() {
            Some(Request::Query | Request::FunctionCall | Request::Sync) => {
                if let Some(effect) = self.entries.front_mut().and_then(|entry| entry.effect.take()) {
                    settle(Settled::Failed(effect));
                }
            }
            Some(_) => {
                let sync = self.entries.iter().position(|entry| entry.request == Request::Sync);
                let skipped = sync.unwrap_or(self.entries.len());
                for entry in self.entries.drain(..skipped).rev() {
                    if let Some(effect) = entry.effect {
                        settle(Settled::Failed(effect));
                    }
                }
                if sync.is_none() {
                    self.batch = Batch::Skipping;
                }
            }
            None => {
                if self.batch == Batch::Open {
                    self.batch = Batch::Skipping;
                }
            }
        }
    }

    /// From here to the end of the copy the server ignores Syncs, also those that were sent before it said so.
    fn begin_copy_in(&mut self) -> Result<(), Unexpected> {
        self.expect(backend::COPY_IN_RESPONSE, &[Request::Execute, Request::Query])?;
        let extended = self.head_request() == Some(Request::Execute);
        self.copy_in = true;
        while let Some(next) = self.entries.get(1) {
            match next.request {
                Request::Sync => {
                    self.entries.remove(1);
                    if !self.entries.iter().skip(1).any(|entry| entry.request == Request::Sync) {
                        self.batch = if extended { Batch::Open } else { Batch::Closed };
                    }
                }
                Request::CopyEnd => {
                    self.entries.remove(1);
                    self.copy_in = false;
                    break;
                }
                _ => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
