//! What becomes of a session whose server connection is lost. Pure.
//!
//! The session stays. Who was idle is told nothing before it speaks again, and then only if something is gone that
//! cannot be restored. Who was waiting is told the truth: a transaction that was cut off is surely gone, a commit
//! under way may have happened, and so may a statement outside a transaction.

use super::outcome::Outcome;
use super::refusal::Refusal;
use crate::pins::PinReasons;
use crate::relay::{Commit, Loss};
use hawser_sql_router::ending::Ending;

/// What the session was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// What the client was waiting for.
    pub loss: Loss,
    /// A transaction was open, as the client sees it.
    pub in_transaction: bool,
    /// How the commit went that the client waited for, if anybody looked into it.
    pub outcome: Option<Outcome>,
    /// What is gone that cannot be restored.
    pub gone: PinReasons,
}

impl Circumstances {
    /// Whether it is sure that nothing has happened of what the session was doing, so that it may run again from its
    /// beginning. `unheard`: the client has heard no answer.
    pub(super) fn may_run_again(&self, unheard: bool) -> bool {
        let is_undone = match (self.outcome, self.loss.commit) {
            (Some(outcome), _) => outcome == Outcome::Aborted,
            // What was not sent has not happened.
            (None, Commit::Asking | Commit::Open) => true,
            (None, Commit::None) => self.in_transaction && !self.loss.ending.is_some_and(Ending::may_commit),
            (None, Commit::Sent | Commit::Answered) => false,
        };
        // What a single statement is answered is not compared before it commits.
        is_undone && self.gone.is_empty() && (self.in_transaction || unheard)
    }
}

/// How the session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aftermath {
    /// What the client is told at once.
    pub answer: Answer,
    /// Where the client then is.
    pub then: Then,
    /// What is gone that the client relies on, and that it is told of when it next speaks.
    pub gone: PinReasons,
}

/// What a client is told at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing.
    Nothing,
    /// What it was waiting for: its commit has succeeded.
    Success,
    /// An error, as the answer to what it waits for.
    Error(Refusal),
}

/// Where a client is after a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Outside a transaction.
    Idle,
    /// In a transaction that it knows to have failed.
    Failed,
    /// In a transaction that is gone, which it does not know yet.
    Lost,
}

/// Decides.
#[must_use]
pub(super) fn aftermath(circumstances: Circumstances) -> Aftermath {
    let Circumstances { loss, in_transaction, outcome, gone } = circumstances;
    let undone = if in_transaction { Refusal::TransactionLost } else { Refusal::StatementUndone };
    let (answer, then) = if !loss.is_noticed() {
        (Answer::Nothing, if in_transaction { Then::Lost } else { Then::Idle })
    } else {
        match (outcome, loss.commit) {
            (Some(Outcome::Committed), _) => (Answer::Success, Then::Idle),
            (Some(Outcome::Unknown), _) => (Answer::Error(Refusal::CommitUnknown), Then::Idle),
            // What was not sent has not happened.
            (Some(Outcome::Aborted), _) | (None, Commit::Asking | Commit::Open) => {
                (Answer::Error(undone), Then::Idle)
            }
            (None, Commit::None | Commit::Sent | Commit::Answered) => {
                let (refusal, then) = unresolved(loss.ending, in_transaction);
                (Answer::Error(refusal), then)
            }
        }
    };
    Aftermath { answer, then, gone }
}

/// What is told where nobody looked into it.
const fn unresolved(ending: Option<Ending>, in_transaction: bool) -> (Refusal, Then) {
    match (in_transaction, ending) {
        (true, Some(Ending::Commit | Ending::MayCommit)) => (Refusal::CommitUnknown, Then::Idle),
        (true, Some(Ending::Rollback)) => (Refusal::TransactionLost, Then::Idle),
        (true, None) => (Refusal::TransactionLost, Then::Failed),
        (false, _) => (Refusal::ServerLost, Then::Idle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::PinReason;

    fn quiet() -> Loss {
        Loss { owed: 0, open: false, unsent: 0, ending: None, commit: Commit::None }
    }

    fn waiting() -> Loss {
        Loss { owed: 1, ..quiet() }
    }

    fn after(loss: Loss, in_transaction: bool) -> Aftermath {
        aftermath(Circumstances { loss, in_transaction, outcome: None, gone: PinReasons::default() })
    }

    fn known(outcome: Outcome, in_transaction: bool) -> (Answer, Then) {
        let loss = Loss { ending: Some(Ending::Commit), commit: Commit::Sent, ..waiting() };
        let circumstances =
            Circumstances { loss, in_transaction, outcome: Some(outcome), gone: PinReasons::default() };
        let Aftermath { answer, then, .. } = aftermath(circumstances);
        (answer, then)
    }

    #[test]
    fn an_idle_client_is_told_nothing_until_it_speaks() {
        assert_eq!(after(quiet(), false).answer, Answer::Nothing);
        assert_eq!(
            after(quiet(), true),
            Aftermath { answer: Answer::Nothing, then: Then::Lost, gone: PinReasons::default() }
        );
    }

    #[test]
    fn what_pinned_an_idle_client_is_gone() {
        let mut gone = PinReasons::default();
        gone.add(PinReason::TemporaryObject);
        let aftermath =
            aftermath(Circumstances { loss: quiet(), in_transaction: false, outcome: None, gone });
        assert!(aftermath.gone.has(PinReason::TemporaryObject) && aftermath.answer == Answer::Nothing);
    }

    #[test]
    fn a_transaction_that_was_cut_off_can_be_tried_again_and_a_commit_is_in_doubt() {
        let cut = after(waiting(), true);
        assert_eq!((cut.answer, cut.then), (Answer::Error(Refusal::TransactionLost), Then::Failed));
        let commit = after(Loss { ending: Some(Ending::Commit), ..waiting() }, true);
        assert_eq!((commit.answer, commit.then), (Answer::Error(Refusal::CommitUnknown), Then::Idle));
        let rollback = after(Loss { ending: Some(Ending::Rollback), ..waiting() }, true);
        assert_eq!((rollback.answer, rollback.then), (Answer::Error(Refusal::TransactionLost), Then::Idle));
    }

    #[test]
    fn a_statement_outside_a_transaction_is_lost() {
        let lost = Answer::Error(Refusal::ServerLost);
        assert_eq!(after(waiting(), false).answer, lost);
        assert_eq!(after(Loss { open: true, ..quiet() }, false).answer, lost);
    }

    #[test]
    fn only_what_has_surely_not_happened_may_run_again() {
        let may = |loss, in_transaction, outcome, unheard| {
            let gone = PinReasons::default();
            Circumstances { loss, in_transaction, outcome, gone }.may_run_again(unheard)
        };
        assert!(may(waiting(), true, None, false));
        assert!(may(quiet(), true, None, false));
        let commit = Loss { ending: Some(Ending::Commit), ..waiting() };
        assert!(!may(commit, true, None, true));
        let sent = Loss { commit: Commit::Sent, ..commit };
        for (outcome, again) in
            [(Outcome::Aborted, true), (Outcome::Committed, false), (Outcome::Unknown, false)]
        {
            assert_eq!(may(sent, true, Some(outcome), true), again);
            assert_eq!(may(sent, false, Some(outcome), true), again);
        }
        // A single statement, of which nobody knows whether it has committed, or of which something was heard.
        assert!(!may(waiting(), false, None, true));
        assert!(!may(sent, false, Some(Outcome::Aborted), false));
        assert!(may(Loss { commit: Commit::Open, ..waiting() }, false, None, true));
        let mut gone = PinReasons::default();
        gone.add(PinReason::TemporaryObject);
        let pinned = Circumstances { loss: waiting(), in_transaction: true, outcome: None, gone };
        assert!(!pinned.may_run_again(true));
    }

    #[test]
    fn an_outcome_that_was_found_out_is_told() {
        for in_transaction in [true, false] {
            assert_eq!(known(Outcome::Committed, in_transaction), (Answer::Success, Then::Idle));
            let unknown = Answer::Error(Refusal::CommitUnknown);
            assert_eq!(known(Outcome::Unknown, in_transaction), (unknown, Then::Idle));
        }
        assert_eq!(known(Outcome::Aborted, true), (Answer::Error(Refusal::TransactionLost), Then::Idle));
        assert_eq!(known(Outcome::Aborted, false), (Answer::Error(Refusal::StatementUndone), Then::Idle));
    }

    #[test]
    fn a_commit_that_was_never_sent_has_not_happened() {
        let loss = Loss { ending: Some(Ending::Commit), commit: Commit::Asking, ..waiting() };
        let told = after(loss, true);
        assert_eq!((told.answer, told.then), (Answer::Error(Refusal::TransactionLost), Then::Idle));
        let told = after(Loss { commit: Commit::Open, ..waiting() }, false);
        assert_eq!((told.answer, told.then), (Answer::Error(Refusal::StatementUndone), Then::Idle));
    }
}
