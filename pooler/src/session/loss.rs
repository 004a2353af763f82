//! What becomes of a session whose server connection is lost. Pure.
//!
//! The session stays. Who was idle is told nothing before it speaks again, and then only if something is gone that
//! cannot be restored. Who was waiting is told the truth: a transaction that was cut off is surely gone, a commit
//! under way may have happened, and so may a statement outside a transaction.

use super::refusal::Refusal;
use crate::pins::PinReasons;
use crate::relay::Loss;
use hawser_sql_router::ending::Ending;

/// What the session was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// What the client was waiting for.
    pub loss: Loss,
    /// A transaction was open, as the client sees it.
    pub in_transaction: bool,
}

/// How the session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aftermath {
    /// What the client is told at once, as the answer to what it waits for.
    pub answer: Option<Refusal>,
    /// Where the client then is.
    pub then: Then,
    /// What is gone that the client relies on, and that it is told of when it next speaks.
    pub gone: PinReasons,
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
    let Circumstances { loss, in_transaction } = circumstances;
    let (answer, then) = match (loss.is_noticed(), in_transaction, loss.ending) {
        (false, false, _) => (None, Then::Idle),
        (false, true, _) => (None, Then::Lost),
        (true, true, Some(Ending::Commit)) => (Some(Refusal::CommitUnknown), Then::Idle),
        (true, true, Some(Ending::Rollback)) => (Some(Refusal::TransactionLost), Then::Idle),
        (true, true, None) => (Some(Refusal::TransactionLost), Then::Failed),
        (true, false, _) => (Some(Refusal::ServerLost), Then::Idle),
    };
    Aftermath { answer, then, gone: loss.gone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::PinReason;

    fn quiet() -> Loss {
        Loss { owed: 0, open: false, unsent: 0, ending: None, gone: PinReasons::default() }
    }

    fn waiting() -> Loss {
        Loss { owed: 1, ..quiet() }
    }

    fn after(loss: Loss, in_transaction: bool) -> Aftermath {
        aftermath(Circumstances { loss, in_transaction })
    }

    #[test]
    fn an_idle_client_is_told_nothing_until_it_speaks() {
        assert_eq!(after(quiet(), false).answer, None);
        assert_eq!(
            after(quiet(), true),
            Aftermath { answer: None, then: Then::Lost, gone: PinReasons::default() }
        );
    }

    #[test]
    fn what_pinned_an_idle_client_is_gone() {
        let mut gone = PinReasons::default();
        gone.add(PinReason::TemporaryObject);
        let aftermath = after(Loss { gone, ..quiet() }, false);
        assert!(aftermath.gone.has(PinReason::TemporaryObject) && aftermath.answer.is_none());
    }

    #[test]
    fn a_transaction_that_was_cut_off_can_be_tried_again_and_a_commit_is_in_doubt() {
        let cut = after(waiting(), true);
        assert_eq!((cut.answer, cut.then), (Some(Refusal::TransactionLost), Then::Failed));
        let commit = after(Loss { ending: Some(Ending::Commit), ..waiting() }, true);
        assert_eq!((commit.answer, commit.then), (Some(Refusal::CommitUnknown), Then::Idle));
        let rollback = after(Loss { ending: Some(Ending::Rollback), ..waiting() }, true);
        assert_eq!((rollback.answer, rollback.then), (Some(Refusal::TransactionLost), Then::Idle));
    }

    #[test]
    fn a_statement_outside_a_transaction_is_lost() {
        assert_eq!(after(waiting(), false).answer, Some(Refusal::ServerLost));
        assert_eq!(after(Loss { open: true, ..quiet() }, false).answer, Some(Refusal::ServerLost));
    }
}
