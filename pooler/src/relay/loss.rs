//! What a relay leaves behind when its server connection is lost, or when what it did is done again on another one.

use super::journal::{Journal, Retelling, Tape};
use super::{ClientSide, Commit, Relay, commit, state, undo};
use crate::pins::PinReasons;
use crate::server::connection::ServerConnection;
use crate::stream::Buffer;
use hawser_sql_router::ending::Ending;

/// What a client was waiting for when its server connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// How many times it is to be told that it may go on.
    pub owed: usize,
    /// It has begun a batch and not ended it.
    pub open: bool,
    /// Bytes of a message that it has not sent yet.
    pub unsent: usize,
    /// Whether the transaction may have ended.
    pub ending: Option<Ending>,
    /// How far a commit was that must be known.
    pub commit: Commit,
}

impl Loss {
    /// Whether the client waits for anything.
    #[must_use]
    pub const fn is_noticed(&self) -> bool {
        self.owed > 0 || self.open || self.unsent > 0
    }
}

impl Relay {
    /// Keeps what is said and heard in a transaction, so that it can run again. `begin`: the BEGIN that was told to have
    /// succeeded, and that goes ahead of what comes.
    pub fn keep_journal(&mut self, begin: Option<Box<str>>) {
        self.journal = Some(Box::new(Journal::new(begin)));
    }

    /// What comes first in the input is a transaction that runs again. What the client has heard of it is not told again.
    pub fn retell(&mut self, tape: Tape) {
        let retelling = Retelling::new(tape);
        self.retelling = (!retelling.is_over()).then(|| Box::new(retelling));
    }

    /// If a transaction runs again and is not through with what the client has heard: how many bytes of it will be in the
    /// input once the relay is abandoned.
    pub fn stop_retelling(&mut self) -> Option<usize> {
        self.retelling.take().map(|retelling| retelling.left())
    }

    /// The transaction, if it can run again from its beginning.
    pub fn take_tape(&mut self) -> Option<Tape> {
        self.journal.as_mut()?.take()
    }

    /// What was read from the server and not passed on.
    pub fn take_input(&mut self) -> Option<Buffer> {
        let mut input = self.down.input.take()?;
        input.consume(self.down.out.planned());
        Some(input)
    }

    /// Whether the first batch can run again: nothing was sent behind it, it has committed nothing, and the client has heard
    /// nothing of it.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.is_alone_and_uncommitted() && !self.down.told && self.down.out.is_empty()
    }

    /// How much of the first batch, which has so many bytes, will be in the input once the relay is abandoned: the server
    /// may have been asked something in the middle of it.
    #[must_use]
    pub const fn unsent(&self, batch: usize) -> usize {
        if self.up.ended == 0 { batch.saturating_sub(self.up.said) } else { 0 }
    }

    /// Whether nothing was sent behind the first batch, and it has committed nothing.
    pub(super) fn is_alone_and_uncommitted(&self) -> bool {
        let kept = self.reads || !self.ending.is_some_and(Ending::may_commit);
        kept && self.up.ended <= 1 && !self.up.beyond
    }

    /// Whether the client has part of a message whose rest will not come.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.down.piece > 0
    }

    /// The server connection is lost: takes back what was assumed of it, and tells what the client has been waiting
    /// for. What the client sent of it is gone from its input.
    pub fn abandon(&mut self, client: &mut ClientSide, server: &mut ServerConnection) -> Loss {
        // The client has ended a query that we have not.
        let open = self.commit == Commit::Open;
        let loss = Loss {
            owed: server.queue.owed_ready() + usize::from(open),
            open: server.queue.is_batch_open() && !open,
            unsent: self.up.piece,
            ending: self.ending.take(),
            commit: self.commit,
        };
        if let Some(input) = &mut client.input {
            input.consume(self.up.out.planned());
        }
        let mut effects = Vec::new();
        server.queue.abandon(&mut |effect| effects.push(effect));
        for effect in effects {
            undo(effect, client, server);
        }
        loss
    }

    /// What the client is still owed if the commit that it waits for has succeeded; `None` if that cannot be told.
    #[must_use]
    pub fn completion(&self, server: &ServerConnection) -> Option<Vec<u8>> {
        let mut completion = self.down.completion().unwrap_or_default();
        completion.extend(commit::completion(server.queue.iter(), self.commit == Commit::Answered)?);
        Some(completion)
    }
}

impl ClientSide {
    /// The server connection is lost, and with it all that the session had there. What it did in a transaction holds if
    /// that was committed. What the client relies on that cannot be restored is returned.
    pub fn lose_server(&mut self, committed: bool) -> PinReasons {
        if committed {
            state::commit(self);
        }
        if let Some(listener) = &self.listener {
            listener.lose_server();
        }
        self.state.lose()
    }
}
