//! A batch that can be sent again, unseen by the client, when the server's copy of a prepared statement turns out to be
//! stale, or when it has ended the server process that ran it. Pure.
//!
//! Only a batch that is alone under way, that began outside a transaction and is short is kept: one that uses a named
//! statement, what is left of one that has only prepared so far and was answered that far, or a simple query that ends
//! server processes. It is sent again only while nothing of its answer has been passed on, and after a stale statement
//! only if it asks what the rows look like: a client that relies on what it was told earlier must hear that this is so
//! no more.

use hawser_wire::tag::frontend;

/// Longest batch that is kept.
const LONGEST: usize = 16 * 1024;

/// Room for a usual batch: a Bind, a Describe, an Execute and a Sync.
const USUAL: usize = 256;

/// So often is one batch sent again: each time another of its statements may be stale.
const MOST_TIMES: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// There is no batch, or it cannot be sent again.
    #[default]
    Off,
    /// It is being sent.
    Recording,
    /// All of it has been sent.
    Whole,
    /// So it has, and something of the answer is on its way to the client.
    Answered,
    /// It has failed, and is to be sent again once the server is ready.
    Due,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Replay {
    bytes: Vec<u8>,
    stage: Stage,
    times: u8,
    again: bool,
    /// The batch holds a Describe.
    describes: bool,
    /// The simple query that is planned is to be kept.
    keeps_query: bool,
}

impl Replay {
    /// A message is being planned; `is_start`: with nothing of the client's before it that is not answered.
    pub(super) fn note(&mut self, tag: u8, message: Option<&[u8]>, is_start: bool) {
        if is_start {
            self.bytes.clear();
            self.times = if self.again { self.times } else { 0 };
            self.again = false;
            self.describes = false;
            self.stage = match tag {
                frontend::PARSE | frontend::BIND | frontend::DESCRIBE | frontend::CLOSE => Stage::Recording,
                frontend::QUERY if self.keeps_query => Stage::Recording,
                _ => Stage::Off,
            };
            if self.stage == Stage::Recording {
                self.bytes.reserve(USUAL);
            }
        }
        self.keeps_query = false;
        self.describes |= tag == frontend::DESCRIBE;
        match (self.stage, message) {
            (Stage::Recording, Some(message)) if self.bytes.len() + message.len() <= LONGEST => {
                self.bytes.extend_from_slice(message);
                if matches!(tag, frontend::SYNC | frontend::QUERY) {
                    self.stage = Stage::Whole;
                }
            }
            (Stage::Off | Stage::Due, _) => {}
            _ => self.stage = Stage::Off,
        }
    }

    /// If it is a simple query that is planned, it is kept too.
    pub(super) const fn keep_query(&mut self) {
        self.keeps_query = true;
    }

    /// Something of the answer is passed on.
    pub(super) const fn give_up(&mut self) {
        self.stage =
            if matches!(self.stage, Stage::Whole | Stage::Answered) { Stage::Answered } else { Stage::Off };
    }

    /// What was passed on has left.
    pub(super) const fn tell(&mut self) {
        if matches!(self.stage, Stage::Answered) {
            self.stage = Stage::Off;
        }
    }

    /// Whether the whole batch is here, and nothing of its answer has left.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Whole | Stage::Answered) && self.times < MOST_TIMES
    }

    /// Whether the batch could be sent again.
    pub(super) const fn is_possible(&self) -> bool {
        matches!(self.stage, Stage::Whole) && self.times < MOST_TIMES
    }

    /// Whether the client asks what the rows look like.
    pub(super) const fn describes(&self) -> bool {
        self.describes
    }

    /// It will be sent again.
    pub(super) const fn order(&mut self) {
        self.stage = Stage::Due;
        self.times += 1;
    }

    /// It is to be sent again.
    pub(super) const fn is_due(&self) -> bool {
        matches!(self.stage, Stage::Due)
    }

    /// What is to be sent again.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.stage = Stage::Off;
        self.again = true;
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_batch_that_is_alone_can_be_sent_again_a_few_times() {
        let mut replay = Replay::default();
        for _ in 0..MOST_TIMES {
            replay.note(frontend::BIND, Some(b"bind"), true);
            assert!(!replay.is_possible());
            replay.note(frontend::SYNC, Some(b"sync"), false);
            assert!(replay.is_possible());
            replay.order();
            assert!(replay.is_due());
            assert_eq!(replay.take(), b"bindsync");
        }
        replay.note(frontend::BIND, Some(b"bind"), true);
        replay.note(frontend::SYNC, Some(b"sync"), false);
        assert!(!replay.is_possible());
    }

    #[test]
    fn what_follows_what_is_long_or_what_was_answered_is_not() {
        let bind = |message| {
            let mut replay = Replay::default();
            replay.note(frontend::BIND, message, true);
            replay.note(frontend::SYNC, Some(b"sync"), false);
            replay
        };
        assert!(bind(Some(b"bind")).is_possible());
        assert!(!bind(None).is_possible());
        assert!(!bind(Some(&[0; LONGEST])).is_possible());
        let mut followed = bind(Some(b"bind"));
        followed.note(frontend::QUERY, Some(b"query"), false);
        assert!(!followed.is_possible());
        let mut answered = bind(Some(b"bind"));
        answered.give_up();
        assert!(!answered.is_possible());
    }

    #[test]
    fn of_simple_queries_only_one_that_is_asked_for_is_kept() {
        let mut replay = Replay::default();
        replay.keep_query();
        replay.note(frontend::QUERY, Some(b"one"), true);
        assert!(replay.is_possible());
        assert_eq!(replay.take(), b"one");
        replay.note(frontend::QUERY, Some(b"two"), true);
        assert!(!replay.is_possible());
    }
}
