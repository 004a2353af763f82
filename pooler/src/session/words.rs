//! What a session says to its client by itself: errors, and what the server said last.

use super::cycle::end_of;
use super::end::End;
use super::handle::{Signal, Timer};
use super::refusal::{self, Refusal};
use super::{Deferred, Session, Skip, SkipEnd};
use crate::mailbox::Drain;
use crate::relay::{Loss, Relay, Stop};
use crate::stream::Stream;
use hawser_wire::encode::{self, Severity};
use std::future::poll_fn;
use std::io::IoSlice;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a client that read its notifications too slowly may take to read why it is closed.
const SLOW_READER: Duration = Duration::from_secs(30);

impl Session {
    /// Counts an error of ours that the client is sent.
    pub(super) fn count_refusal(&self, refusal: &Refusal) {
        if let Ok(sqlstate) = refusal.sqlstate().as_bytes().try_into() {
            self.pool.counters.count_error(sqlstate);
        }
    }

    /// The last words to a client, as far as it takes them without delay.
    pub(super) async fn say_last(&mut self, refusal: &Refusal) {
        self.count_refusal(refusal);
        let mut out = Vec::new();
        refusal.write(&mut out, Severity::Fatal);
        say(&mut self.client.stream, &out).await;
    }

    /// Tells the client, as the answer to each batch that it waits for, why there is none.
    pub(super) async fn tell_loss(&mut self, loss: Loss, refusal: &Refusal) -> Result<(), End> {
        self.count_refusal(refusal);
        let mut out = Vec::new();
        for _ in 0..loss.owed {
            refusal.write(&mut out, Severity::Error);
            out.extend_from_slice(encode::ready_for_query(self.status()));
        }
        if loss.open {
            refusal.write(&mut out, Severity::Error);
            self.skip = Some(Skip { bytes: loss.unsent, then: SkipEnd::Sync });
        } else if loss.unsent > 0 {
            self.skip = Some(Skip { bytes: loss.unsent, then: SkipEnd::Nothing });
        }
        self.tell(&out).await
    }

    /// Tells the client why its batch is not served; it may go on with the next one. A transaction that it was told
    /// has begun has failed by that.
    pub(super) async fn refuse(&mut self, refusal: &Refusal) -> Result<(), End> {
        if let Some(rerun) = self.rerun.take() {
            let left = rerun.tape.said.len();
            return self.give_up_rerun(*rerun, left).await;
        }
        if let Some(Deferred::Begun(begin) | Deferred::Failed(begin)) = self.deferred.take() {
            self.deferred = Some(Deferred::Failed(begin));
        }
        self.skip_batch();
        let mut out = Vec::new();
        refusal.write(&mut out, Severity::Error);
        self.count_refusal(refusal);
        self.tell(&out).await
    }

    /// Gives the client what the server said last. As with [`Self::tell`], a signal ends the session.
    pub(super) async fn deliver(&mut self, relay: &mut Relay) -> Result<(), End> {
        let (client, handle) = (&mut self.client, &self.handle);
        poll_fn(|cx| match relay.poll_deliver(cx, client) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map_err(|error| End::ClientLost(error.kind()))),
            Poll::Pending => ended_by(handle.take_signal(cx.waker())),
        })
        .await
    }

    /// Says something to a client that may not be reading. If a signal comes first, the session ends without a
    /// word, because half of one may be on its way.
    pub(super) async fn tell(&mut self, mut words: &[u8]) -> Result<(), End> {
        let told = poll_fn(|cx| {
            let told = self.poll_tell(cx, &mut words);
            let overrun = || self.client.listener.as_ref().is_some_and(|listener| listener.is_overrun());
            if told.is_pending() && overrun() { Poll::Ready(Err(End::NotifyQueueFull)) } else { told }
        })
        .await;
        if told == Err(End::NotifyQueueFull) {
            Box::pin(self.tell_overrun(words)).await;
        }
        told
    }

    /// Tells a client that reads too slowly, behind what has begun to leave, why nothing more comes.
    async fn tell_overrun(&mut self, words: &[u8]) {
        let mut last = words.to_vec();
        Refusal::NotifyQueueFull.write(&mut last, Severity::Fatal);
        let mut last = last.as_slice();
        let _ = tokio::time::timeout(SLOW_READER, poll_fn(|cx| self.poll_tell(cx, &mut last))).await;
    }

    fn poll_tell(&mut self, cx: &mut Context<'_>, words: &mut &[u8]) -> Poll<Result<(), End>> {
        let stream = &mut self.client.stream;
        let written = loop {
            if words.is_empty() {
                break stream.poll_flush(cx);
            }
            match stream.poll_write(cx, &[IoSlice::new(words)]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => *words = words.get(count..).unwrap_or_default(),
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if let Poll::Ready(outcome) = written {
            return Poll::Ready(outcome.map_err(|error| End::ClientLost(error.kind())));
        }
        ended_by(self.handle.take_signal(cx.waker()))
    }

    pub(super) async fn fail(&mut self, violation: &Stop) -> End {
        if let Some(refusal) = refusal::of_stop(violation) {
            self.say_last(&refusal).await;
        }
        end_of(violation)
    }

    pub(super) async fn time_out(&mut self, timer: Timer) -> End {
        self.say_last(&Refusal::TimeOut(timer)).await;
        End::TimeOut(timer)
    }

    pub(super) async fn killed(&mut self) -> End {
        self.say_last(&Refusal::ShuttingDown).await;
        End::Killed
    }

    pub(super) async fn drain(&mut self, drain: Drain) -> End {
        self.say_last(&Refusal::ShuttingDown).await;
        End::Drained(drain)
    }
}

/// What a signal does to a session that is in the middle of saying something.
const fn ended_by(signal: Option<Signal>) -> Poll<Result<(), End>> {
    match signal {
        Some(Signal::TimeOut(timer)) => Poll::Ready(Err(End::TimeOut(timer))),
        Some(Signal::Drain(drain)) => Poll::Ready(Err(End::Drained(drain))),
        Some(Signal::Kill) => Poll::Ready(Err(End::Killed)),
        Some(Signal::Cancelled | Signal::Cut | Signal::News) | None => Poll::Pending,
    }
}

/// Writes last words; a client that does not read them does not hold us up.
pub(super) async fn say(stream: &mut Stream, words: &[u8]) {
    let patience = Duration::from_secs(2);
    let _ = tokio::time::timeout(patience, stream.write_all(words)).await;
}
