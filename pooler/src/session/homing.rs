//! A session that asks for what its own `nextval` yielded goes back to the server connection that knows.

use super::Session;
use super::notes::Watch;
use crate::pins::PinReason;
use crate::pool::{Member, Pool};
use crate::server::connection::ServerConnection;
use hawser_sql_router::calls::Sequences;
use hawser_sql_router::scan::contains;
use hawser_wire::frame::{self, HEADER_LENGTH};
use hawser_wire::frontend;
use hawser_wire::tag;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// So much of a text is looked at.
const LOOKED_AT: usize = 1024;

/// How long the session waits for the one connection while another client has it.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a session keeps its connection after `nextval` outside a transaction, for the `currval` that follows.
const LINGER: Duration = Duration::from_millis(50);

/// How often a session that most likely does not ask ([`OwnValues::may_ask`]) looks meanwhile whether others wait.
///
/// [`OwnValues::may_ask`]: crate::pins::OwnValues::may_ask
const GLANCE: Duration = Duration::from_millis(5);

/// How long it can go on like that. Others wait meanwhile.
const LONGEST: Duration = Duration::from_secs(1);

/// How often other workers are asked for it: it may be there, since connections move as sessions do.
const CALL: Duration = Duration::from_millis(30);

/// How often a session on its way home looks whether the connection is free. It goes there for its first such question;
/// from then on it keeps its connection.
const PAUSE: Duration = Duration::from_millis(1);

/// How long it then keeps it while it says nothing and others wait for one. Who asks does so right behind what yields the
/// value; and sessions that keep connections for ever, more of them than there are, would stop everybody else.
const KEEPS: Duration = Duration::from_secs(1);

impl Session {
    /// The server process where the session last advanced a sequence, if what it says next asks for that.
    pub(super) fn home(&self) -> Option<NonZeroU32> {
        self.client.state.values.home.filter(|_| self.reads_sequences())
    }

    /// The connection to that process, if it can be had soon.
    pub(super) async fn go_home(&self, home: NonZeroU32) -> Option<Box<Member>> {
        let began = Instant::now();
        let (end, mut call) = (began + PATIENCE, began);
        loop {
            let now = Instant::now();
            let is_home = |server: &ServerConnection| server.cancel_key.pid == home.get();
            let member = self.pool.request_idle(is_home, now);
            if member.is_some() || now >= end {
                return member;
            }
            if now >= call {
                self.pool.call_for(home);
                call = now + CALL;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether a client that has called `nextval` says something more at once, and may keep its connection for it.
    pub(super) async fn speaks_soon(&mut self, pool: &Pool, linked: Instant) -> bool {
        if linked.elapsed() >= LONGEST {
            return false;
        }
        let may_ask = self.client.state.values.may_ask();
        let end = Instant::now() + LINGER;
        loop {
            if !may_ask && pool.is_short() {
                return false;
            }
            if self.client.input.is_some() {
                return true;
            }
            let pause = if may_ask { LINGER } else { GLANCE };
            let stream = &mut self.client.stream;
            let readable = poll_fn(|cx| stream.poll_readable(cx));
            if tokio::time::timeout(pause, readable).await.is_ok() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
        }
    }

    /// When a session that falls idle at `now` with its connection looks whether others want it.
    pub(super) fn gives_up_at(&self, now: Instant) -> Option<Instant> {
        self.client.state.pins.is_only(PinReason::SequenceValue).then(|| now + KEEPS)
    }

    /// Has said nothing for a while: lets go of its connection if others wait. It finds back there for its values, unless
    /// somebody else has advanced a sequence there meanwhile.
    pub(super) fn give_up_values(&mut self, pool: &Pool, watch: &Watch) {
        if !watch.is_idle() {
            return;
        }
        if pool.is_short() {
            self.client.state.give_up_values();
        } else {
            self.set_deadline(watch, Instant::now());
        }
    }

    /// Whether the first message asks for the session's own values.
    fn reads_sequences(&self) -> bool {
        let data = self.client.input.as_ref().map_or(&[][..], |input| input.data());
        let Ok(Some(header)) = frame::header(data) else { return false };
        let body = data.get(HEADER_LENGTH..header.total().min(data.len())).unwrap_or_default();
        match header.tag {
            tag::frontend::QUERY | tag::frontend::PARSE => {
                let text = body.get(..LOOKED_AT).unwrap_or(body);
                // Few texts have that in them at all.
                contains(text, b"val") && (contains(text, b"currval") || contains(text, b"lastval"))
            }
            tag::frontend::BIND => {
                let named = match frontend::bind_names(body) {
                    Ok(Some((_, name))) => self.client.statements.named(name),
                    _ => None,
                };
                let deed = named.and_then(|named| named.statement.deed.as_ref());
                deed.is_some_and(|deed| deed.effects.sequences == Sequences::Read)
            }
            _ => false,
        }
    }
}
