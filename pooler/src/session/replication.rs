//! Replication connections: each gets a server connection of its own, and everything passes as it is.

use super::end::End;
use super::handle;
use super::login::Candidate;
use super::refusal::Refusal;
use super::services::Services;
use super::words::say;
use crate::config::settings::DatabaseSettings;
use crate::server::dial::{self, DialPlan};
use crate::stream::{Buffer, Stream};
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode::{self, Severity};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Serves a replication client until either side ends.
///
/// # Errors
/// The client was refused, or how it ended.
pub(super) async fn serve(
    mut candidate: Candidate,
    services: &Rc<Services>,
    plan: &DialPlan,
    database: &DatabaseSettings,
    mut greeting: Vec<u8>,
) -> Result<(), End> {
    let mut parameters = database.startup_parameters.clone();
    let given = candidate.startup.parameters.iter().filter(|(name, _)| name != "user" && name != "database");
    parameters.extend(given.cloned());
    let opened = dial::dial_replication(plan, &parameters, &services.shared.local).await;
    let (mut server, welcome, key) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let refusal = Refusal::from(&error);
            let mut out = Vec::new();
            refusal.write(&mut out, Severity::Fatal);
            say(&mut candidate.stream, &out).await;
            return Err(End::Refused(refusal.sqlstate(), refusal.words()));
        }
    };
    let registration = services.register(Box::new(rand::random::<[u8; 4]>()));
    registration.handle.introduce(candidate.about());
    registration.handle.set_place(handle::Place::Replicating(Rc::new(key), Rc::new(plan.clone())));
    for (name, value) in &welcome {
        encode::parameter_status(&mut greeting, name, value);
    }
    encode::backend_key_data(&mut greeting, registration.handle.id.0, registration.handle.key());
    greeting.extend_from_slice(encode::ready_for_query(TransactionStatus::Idle));
    candidate.stream.write_all(&greeting).await.map_err(|error| End::ClientLost(error.kind()))?;
    let mut up = Pipe { buffer: services.shared.buffers.take(), ended: false };
    up.buffer.append(candidate.input.data());
    let mut down = Pipe { buffer: services.shared.buffers.take(), ended: false };
    let client = &mut candidate.stream;
    let outcome = poll_fn(|cx| {
        match registration.handle.take_signal(cx.waker()) {
            Some(handle::Signal::Drain(drain)) => return Poll::Ready(Err(End::Drained(drain))),
            Some(handle::Signal::Kill) => return Poll::Ready(Err(End::Killed)),
            _ => {}
        }
        let from_client = up.poll(cx, client, &mut server).map_err(|error| End::ClientLost(error.kind()))?;
        let from_server = down.poll(cx, &mut server, client).map_err(|_| End::ServerLost)?;
        match (from_client, from_server) {
            (Poll::Ready(()), _) => Poll::Ready(Ok(())),
            (_, Poll::Ready(())) => Poll::Ready(Err(End::ServerEnded)),
            _ => Poll::Pending,
        }
    })
    .await;
    services.shared.buffers.give(up.buffer);
    services.shared.buffers.give(down.buffer);
    server.close();
    candidate.stream.close();
    outcome
}

/// One direction: reads only when everything has been written.
struct Pipe {
    buffer: Buffer,
    ended: bool,
}

impl Pipe {
    /// Ready at the end of the stream, once everything is delivered.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Result<Poll<()>, io::Error> {
        match self.poll_io(cx, from, to) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll_io(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream) -> Poll<io::Result<()>> {
        loop {
            while !self.buffer.is_empty() {
                let count = ready!(to.poll_write(cx, &[IoSlice::new(self.buffer.data())]))?;
                self.buffer.consume(count);
            }
            ready!(to.poll_flush(cx))?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            self.ended = ready!(from.poll_read(cx, &mut self.buffer))? == 0;
        }
    }
}
