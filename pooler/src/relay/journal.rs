//! What a client has said and heard in its transaction, so that the transaction can run again, unseen, where its server
//! connection is lost (`lost_transactions = "replay"`). Pure.
//!
//! A transaction that did not commit has happened for nobody. If it runs again and every answer is, byte for byte, what
//! the client has heard, then whatever the client concluded from the answers still holds. So the journal keeps both
//! ([`Tape`]), and in the second run ([`Retelling`]) answers are compared instead of told, one batch after the other,
//! until the client hears something new. What begins with an answer that differs is given up: the transaction has failed.
//!
//! Not kept is what is long, and what leaves something behind that the end of a transaction does not undo: COPY, a
//! statement that was prepared by SQL, LISTEN, the end of other sessions. Neither is what goes on behind something that
//! may have ended the transaction.

use hawser_sql_router::calls::Disturbs;
use hawser_sql_router::effects::{Effect, Effects};
use hawser_wire::frontend::{self as message, Target};
use hawser_wire::tag::frontend;

/// Longest tape, in what was said and in what was heard.
const LONGEST: usize = 64 * 1024;

/// Names that a transaction prepares, at most.
const MOST_NAMES: usize = 64;

/// One transaction: what was said, and what was heard.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tape {
    /// The client's BEGIN, if it was answered before there was a server.
    pub begin: Option<Box<str>>,
    /// The client's messages.
    pub said: Vec<u8>,
    /// What the client was told to them.
    pub heard: Vec<u8>,
    /// Names that the client has prepared in it.
    pub names: Vec<Box<[u8]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Nothing has begun.
    #[default]
    Blank,
    /// All that was said and heard is kept.
    Recording,
    /// It cannot run again.
    Lost,
}

/// Where a message of the client's stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// Nothing of the client's is under way before it, and no transaction is open.
    pub is_start: bool,
    /// A transaction is open.
    pub in_transaction: bool,
    /// With it, what is under way may end the transaction.
    pub may_end: bool,
    /// It prepares a name that was free.
    pub is_new_name: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Journal {
    stage: Stage,
    tape: Tape,
    /// The last message ended a batch.
    is_between: bool,
    /// Something said may end the transaction.
    ends: bool,
    /// What was heard up to the last time that the client could go on.
    heard_whole: usize,
    /// The unnamed statement was prepared in it.
    has_unnamed: bool,
    /// The message that is planned cannot run again.
    is_barred: bool,
}

impl Journal {
    /// For a relay that begins with this BEGIN of the client's.
    pub(super) fn new(begin: Option<Box<str>>) -> Self {
        let stage = if begin.is_some() { Stage::Recording } else { Stage::Blank };
        Self { stage, tape: Tape { begin, ..Tape::default() }, ..Self::default() }
    }

    /// The message that is planned leaves something behind.
    pub(super) const fn bar(&mut self) {
        self.is_barred = true;
    }

    /// A message was planned; `None` if it was not there as a whole.
    pub(super) fn note(&mut self, tag: u8, message: Option<&[u8]>, position: Position) {
        let begun = self.stage == Stage::Recording && self.tape.said.is_empty();
        if position.is_start && !begun {
            *self = Self { stage: Stage::Recording, is_barred: self.is_barred, ..Self::default() };
        }
        if self.stage != Stage::Recording {
            return;
        }
        // The next batch of something that is not sure to be one transaction.
        let strays = self.is_between && (self.ends || !position.in_transaction);
        self.ends |= position.may_end;
        self.is_between = matches!(tag, frontend::QUERY | frontend::SYNC);
        let kept = !std::mem::take(&mut self.is_barred)
            && !strays
            && message.is_some_and(|message| self.keep(tag, message, position.is_new_name));
        if !kept {
            self.give_up();
        }
    }

    fn keep(&mut self, tag: u8, message: &[u8], is_new_name: bool) -> bool {
        let fits = self.tape.said.len() + message.len() <= LONGEST;
        let body = message.get(hawser_wire::frame::HEADER_LENGTH..).unwrap_or_default();
        let repeats = fits && self.can_repeat(tag, body, is_new_name).unwrap_or(false);
        if repeats {
            self.tape.said.extend_from_slice(message);
        }
        repeats
    }

    /// Whether the message means the same at the beginning of a second run. `None`: it is malformed.
    fn can_repeat(&mut self, tag: u8, body: &[u8], is_new_name: bool) -> Option<bool> {
        Some(match tag {
            frontend::QUERY => {
                self.has_unnamed = false;
                true
            }
            frontend::EXECUTE | frontend::SYNC => true,
            frontend::PARSE => {
                let name = message::parse(body).ok()?.name;
                self.has_unnamed |= name.is_empty();
                if is_new_name {
                    self.tape.names.push(name.into());
                }
                self.tape.names.len() <= MOST_NAMES
            }
            frontend::BIND => self.knows(message::bind_names(body).ok()??.1),
            frontend::DESCRIBE => match message::target(body, "Describe").ok()? {
                Target::Statement(name) => self.knows(name),
                Target::Portal(_) => true,
            },
            frontend::CLOSE => match message::target(body, "Close").ok()? {
                Target::Statement(name) => {
                    name.is_empty() || self.tape.names.iter().any(|new| **new == *name)
                }
                Target::Portal(_) => true,
            },
            _ => false,
        })
    }

    /// Whether a name means the same in a second run: an unnamed statement of before the transaction may be gone by then.
    const fn knows(&self, statement: &[u8]) -> bool {
        self.has_unnamed || !statement.is_empty()
    }

    /// The client is told this.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        if self.stage != Stage::Recording {
            return;
        }
        if self.tape.heard.len() + bytes.len() > LONGEST {
            self.give_up();
        } else {
            self.tape.heard.extend_from_slice(bytes);
        }
    }

    /// The client was told that it may go on. `is_over`: with nothing open or under way.
    pub(super) fn note_ready(&mut self, is_over: bool) {
        if is_over {
            *self = Self::default();
        } else {
            self.heard_whole = self.tape.heard.len();
        }
    }

    /// What has happened cannot happen again.
    pub(super) fn give_up(&mut self) {
        *self = Self { stage: Stage::Lost, ..Self::default() };
    }

    /// What was said and heard, if it can run again. What may end the transaction must not have been answered in part: it
    /// is sent again before it is known that all of its answer is the same.
    pub(super) fn take(&mut self) -> Option<Tape> {
        let repeats = self.stage == Stage::Recording
            && !self.tape.said.is_empty()
            && (!self.ends || self.tape.heard.len() == self.heard_whole);
        repeats.then(|| std::mem::take(&mut self.tape))
    }
}

/// Whether what a text does can be done again after its transaction was undone.
pub(super) fn can_repeat(effects: &Effects) -> bool {
    let undone = |effect: &Effect| {
        matches!(
            effect,
            Effect::None
                | Effect::Set(..)
                | Effect::SetLocal(_)
                | Effect::Reset(_)
                | Effect::Savepoint(_)
                | Effect::RollbackTo(_)
                | Effect::Release(_)
                | Effect::Execute(_)
                | Effect::Notify
        )
    };
    let is_plain =
        effects.disturbs == Disturbs::Nobody && !effects.seeds && !effects.is_indelible && !effects.unseen;
    is_plain && effects.statements.iter().all(undone)
}

/// The answer differs from what the client has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Differs;

/// A second run, as long as the client has heard its answers.
#[derive(Debug)]
pub(super) struct Retelling {
    tape: Tape,
    /// Bytes that were said again.
    said: usize,
    /// Bytes that were heard again.
    heard: usize,
}

impl Retelling {
    pub(super) const fn new(tape: Tape) -> Self {
        Self { tape, said: 0, heard: 0 }
    }

    /// A message of so many bytes is said again.
    pub(super) const fn say(&mut self, length: usize) {
        self.said += length;
    }

    /// How many of the bytes that come next the client has heard.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<usize, Differs> {
        let heard = self.tape.heard.get(self.heard..).unwrap_or_default();
        let count = heard.len().min(bytes.len());
        if heard.get(..count) != bytes.get(..count) {
            return Err(Differs);
        }
        self.heard += count;
        Ok(count)
    }

    /// Everything was said, so no answer is to come any more where the server owes none.
    pub(super) const fn is_said(&self) -> bool {
        self.left() == 0
    }

    /// What comes next is new to the client.
    pub(super) const fn is_over(&self) -> bool {
        self.heard == self.tape.heard.len()
    }

    /// Bytes that were not said again.
    pub(super) const fn left(&self) -> usize {
        self.tape.said.len().saturating_sub(self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_wire::encode;
    use proptest::prelude::*;

    const AT_START: Position =
        Position { is_start: true, in_transaction: false, may_end: false, is_new_name: false };
    const INSIDE: Position = Position { is_start: false, in_transaction: true, ..AT_START };

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode::message(&mut out, tag, |out| out.extend_from_slice(body));
        out
    }

    /// A journal of a transaction that has begun with a query.
    fn begun() -> Journal {
        let mut journal = Journal::default();
        say(&mut journal, frontend::QUERY, b"BEGIN\0", AT_START);
        journal.hear(b"begun");
        journal.note_ready(false);
        journal
    }

    fn say(journal: &mut Journal, tag: u8, body: &[u8], position: Position) {
        journal.note(tag, Some(&message(tag, body)), position);
    }

    #[test]
    fn what_was_said_and_heard_is_kept_until_it_is_over() {
        let mut journal = begun();
        say(&mut journal, frontend::QUERY, b"SELECT 1\0", INSIDE);
        journal.hear(b"half");
        let said = [message(frontend::QUERY, b"BEGIN\0"), message(frontend::QUERY, b"SELECT 1\0")].concat();
        let tape = Tape { begin: None, said, heard: b"begunhalf".to_vec(), names: Vec::new() };
        assert_eq!(journal.take(), Some(tape));
        let mut journal = begun();
        journal.note_ready(true);
        assert_eq!(journal.take(), None);
        let mut journal = Journal::new(Some("BEGIN".into()));
        say(&mut journal, frontend::QUERY, b"SELECT 1\0", INSIDE);
        assert_eq!(journal.take().and_then(|tape| tape.begin), Some("BEGIN".into()));
    }

    #[test]
    fn what_may_end_the_transaction_runs_again_only_unanswered_and_with_nothing_behind_it() {
        let ending = Position { may_end: true, ..INSIDE };
        let mut journal = begun();
        say(&mut journal, frontend::QUERY, b"COMMIT\0", ending);
        assert!(journal.take().is_some());
        let mut journal = begun();
        say(&mut journal, frontend::QUERY, b"COMMIT\0", ending);
        journal.hear(b"C");
        assert_eq!(journal.take(), None);
        let mut journal = begun();
        say(&mut journal, frontend::QUERY, b"COMMIT AND CHAIN\0", ending);
        say(&mut journal, frontend::QUERY, b"SELECT 1\0", INSIDE);
        assert_eq!(journal.take(), None);
    }

    #[test]
    fn single_statements_that_follow_each_other_are_no_transaction() {
        let mut journal = Journal::default();
        say(&mut journal, frontend::QUERY, b"SELECT 1\0", AT_START);
        assert!(journal.tape.said.len() > 5);
        say(&mut journal, frontend::QUERY, b"SELECT 2\0", Position { is_start: false, ..AT_START });
        assert_eq!(journal.take(), None);
        say(&mut journal, frontend::QUERY, b"SELECT 3\0", AT_START);
        assert_eq!(journal.take().map(|tape| tape.said), Some(message(frontend::QUERY, b"SELECT 3\0")));
    }

    #[test]
    fn names_must_mean_the_same_in_the_second_run() {
        let new = Position { is_new_name: true, ..INSIDE };
        let (named, unnamed) = (b"s\0SELECT 1\0\0\0", b"\0SELECT 1\0\0\0");
        let kept = |steps: &[(u8, &[u8], Position)]| {
            let mut journal = begun();
            for (tag, body, position) in steps {
                say(&mut journal, *tag, body, *position);
            }
            journal.take()
        };
        let bind_unnamed: (u8, &[u8], Position) = (frontend::BIND, b"\0\0\0\0\0\0\0\0", INSIDE);
        assert_eq!(kept(&[bind_unnamed]), None);
        assert!(kept(&[(frontend::PARSE, unnamed, INSIDE), bind_unnamed]).is_some());
        let of_simple = (frontend::QUERY, &b"SELECT 1\0"[..], INSIDE);
        assert_eq!(kept(&[(frontend::PARSE, unnamed, INSIDE), of_simple, bind_unnamed]), None);
        let tape = kept(&[(frontend::PARSE, named, new), (frontend::CLOSE, b"Ss\0", INSIDE)]).unwrap();
        assert_eq!(tape.names, [b"s"[..].into()]);
        assert_eq!(kept(&[(frontend::CLOSE, b"Sother\0", INSIDE)]), None);
        assert!(kept(&[(frontend::CLOSE, b"Pportal\0", INSIDE)]).is_some());
    }

    #[test]
    fn what_is_long_or_leaves_something_behind_is_not_kept() {
        let mut journal = begun();
        journal.hear(&vec![0; LONGEST]);
        assert_eq!(journal.take(), None);
        let mut journal = begun();
        journal.note(frontend::QUERY, None, INSIDE);
        assert_eq!(journal.take(), None);
        let mut journal = begun();
        journal.bar();
        say(&mut journal, frontend::QUERY, b"LISTEN a\0", INSIDE);
        assert_eq!(journal.take(), None);
        let mut journal = begun();
        say(&mut journal, frontend::COPY_DATA, b"1\n", INSIDE);
        assert_eq!(journal.take(), None);
    }

    #[test]
    fn answers_are_compared_however_they_are_cut() {
        let tape = Tape { said: b"12345".to_vec(), heard: b"abcdef".to_vec(), ..Tape::default() };
        let mut retelling = Retelling::new(tape.clone());
        retelling.say(3);
        assert_eq!((retelling.left(), retelling.is_said()), (2, false));
        assert_eq!(retelling.hear(b"abcd"), Ok(4));
        assert!(!retelling.is_over());
        assert_eq!(retelling.hear(b"efgh"), Ok(2));
        assert!(retelling.is_over());
        assert_eq!(Retelling::new(tape).hear(b"abx"), Err(Differs));
    }

    proptest! {
        #[test]
        fn any_message_is_kept_or_not(
            messages in proptest::collection::vec((any::<u8>(), any::<Vec<u8>>(), any::<[bool; 4]>()), 0..20),
        ) {
            let mut journal = Journal::default();
            for (tag, body, [is_start, in_transaction, may_end, is_new_name]) in messages {
                let position = Position { is_start, in_transaction, may_end, is_new_name };
                say(&mut journal, tag, &body, position);
                journal.hear(&body);
            }
            let _ = journal.take();
        }

        #[test]
        fn a_second_run_hears_all_of_it_or_differs(heard: Vec<u8>, cuts in proptest::collection::vec(1_usize..9, 1..20)) {
            let mut retelling = Retelling::new(Tape { heard: heard.clone(), ..Tape::default() });
            let mut rest = heard.as_slice();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                prop_assert_eq!(retelling.hear(now), Ok(now.len()));
                rest = later;
            }
            prop_assert!(retelling.is_over());
            prop_assert_eq!(retelling.hear(b"new"), Ok(0));
        }
    }
}
