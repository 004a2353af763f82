//! A transaction that runs again because its server connection was lost, and what becomes of it if that does not work out.

use super::cycle::Served;
use super::end::End;
use super::loss::{Aftermath, Answer, Circumstances, Then, aftermath};
use super::{Deferred, Session};
use crate::relay::Tape;
use crate::statements::Statement;
use crate::stopwatch::count;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct Rerun {
    /// What the client has said and heard.
    pub tape: Tape,
    /// Where the client was when the server connection was lost.
    circumstances: Circumstances,
    /// What the names mean that it has prepared in the transaction.
    names: Vec<(Box<[u8]>, Arc<Statement>)>,
}

impl Session {
    /// Puts the transaction back where it came from.
    pub(super) fn rerun(&mut self, tape: Tape, circumstances: Circumstances) -> Served {
        let statements = &mut self.client.statements;
        let forget = |name: Box<[u8]>| statements.forget(&name).map(|statement| (name, statement));
        let names = tape.names.iter().cloned().filter_map(forget).collect();
        count(&self.pool.counters.reruns, 1);
        self.put_back(&tape.said);
        self.deferred = tape.begin.clone().map(Deferred::Begun);
        self.rerun = Some(Box::new(Rerun { tape, circumstances, names }));
        Served::Again
    }

    /// The second run was cut off, too. `left`: so many bytes of it are in the input.
    pub(super) fn rerun_once_more(&mut self, rerun: Rerun, left: usize) -> Served {
        let (tape, circumstances) = self.take_out(rerun, left);
        self.rerun(tape, circumstances)
    }

    /// The transaction does not run again, or is another one. `left`: so many bytes of it are in the input.
    pub(super) async fn give_up_rerun(&mut self, rerun: Rerun, left: usize) -> Result<(), End> {
        let (_, circumstances) = self.take_out(rerun, left);
        count(&self.pool.counters.failed_reruns, 1);
        self.conclude(circumstances, Vec::new()).await
    }

    /// Takes so many bytes out of the input, which are put back, or given up.
    pub(super) fn leave_out(&mut self, count: usize) {
        if let Some(input) = &mut self.client.input {
            input.consume(count.min(input.len()));
        }
    }

    /// Takes what is left of a second run out of the input, and gives the client the names back that it lacks by it.
    fn take_out(&mut self, rerun: Rerun, left: usize) -> (Tape, Circumstances) {
        self.leave_out(left);
        for (name, statement) in rerun.names {
            if self.client.statements.named(&name).is_none() {
                self.client.statements.define(&name, statement);
            }
        }
        (rerun.tape, rerun.circumstances)
    }

    /// Tells the client what has become of what it was doing, and goes on from there. `completion`: what it is still owed
    /// if its commit has succeeded.
    pub(super) async fn conclude(
        &mut self,
        circumstances: Circumstances,
        completion: Vec<u8>,
    ) -> Result<(), End> {
        let Aftermath { answer, then, gone } = aftermath(circumstances);
        self.gone = gone;
        self.deferred = match then {
            Then::Idle => None,
            Then::Failed => Some(Deferred::Failed("BEGIN".into())),
            Then::Lost => Some(Deferred::Lost),
        };
        match answer {
            Answer::Nothing => Ok(()),
            Answer::Success => self.tell(&completion).await,
            Answer::Error(refusal) => self.tell_loss(circumstances.loss, &refusal).await,
        }
    }
}
