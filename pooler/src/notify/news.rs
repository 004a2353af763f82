//! What workers and the hub say to each other, and what a notification is. Pure.

use crate::config::settings::HostAddress;
use crate::ids::{SessionId, WorkerId};
use crate::server::dial::DialPlan;
use crate::topology::Snapshot;
use hawser_wire::backend as message;
use hawser_wire::frame::HEADER_LENGTH;
use std::sync::Arc;

/// What a listening connection is for: the hosts of a cluster, and a database there. Every user of the database
/// may listen on every channel, so one connection serves them all.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Station {
    /// Where the cluster is.
    pub hosts: Vec<HostAddress>,
    /// Database on the server.
    pub dbname: String,
}

/// Names a question of a session; the answer has the same token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Who asked.
    pub session: SessionId,
    /// Which of its questions.
    pub number: u32,
}

/// What a worker asks of the hub.
#[derive(Debug)]
pub enum Ask {
    /// Listen on this channel for the worker. Answered once the server has confirmed it, even where it was
    /// confirmed for somebody else before: what comes after the answer was committed after the question.
    Listen(Arc<str>, Token),
    /// Nobody on the worker listens on this channel any more.
    Forget(Arc<str>),
    /// Answer once everything that was committed before the question has been delivered. What this server process
    /// sends from then on, if one is named, is the session's.
    Mark(Token, Option<u32>),
    /// This server process does not send for the session any more.
    Release(u32, SessionId),
}

/// What the hub is told.
#[derive(Debug)]
pub enum HubOrder {
    /// By a worker.
    Question(Question),
    /// By whoever watches the cluster: where its primary is.
    Follow(Arc<Snapshot>),
    /// By a worker: a statement needs this database for itself. Where nobody listens, the connection is closed.
    Vacate(Arc<Station>),
}

/// A question to the hub, with what it takes to open the listening connection if there is none.
#[derive(Debug)]
pub struct Question {
    /// Who asks.
    pub worker: WorkerId,
    /// Of which listening connection.
    pub station: Arc<Station>,
    /// How to get there, from the pool that asks.
    pub plan: Option<Box<DialPlan>>,
    /// What.
    pub ask: Ask,
}

/// What the hub tells a worker, in the order in which it happened.
#[derive(Debug)]
pub struct News {
    /// By which listening connection.
    pub station: Arc<Station>,
    /// What.
    pub items: Vec<Item>,
}

/// One thing that the hub tells.
#[derive(Debug)]
pub enum Item {
    /// A notification arrived.
    Message(Arc<Notification>),
    /// What was asked for has happened.
    Reached(Token),
    /// It cannot be done now.
    Refused(Token),
    /// The listening connection was lost and is restored: notifications of the time between are lost.
    Gap,
}

/// A notification as the server sent it.
#[derive(Debug, PartialEq, Eq)]
pub struct Notification {
    /// Process number of the server connection that notified.
    pub pid: u32,
    /// Whose it is, if it is a session's of this process that was seen to notify.
    pub sender: Option<SessionId>,
    /// The channel.
    pub channel: Box<str>,
    /// The whole message: tag, length, process number, channel and payload.
    bytes: Box<[u8]>,
}

impl Notification {
    /// Reads a whole NotificationResponse, header included.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (pid, channel) = message::notification(bytes.get(HEADER_LENGTH..)?)?;
        let channel = std::str::from_utf8(channel).ok()?.into();
        Some(Self { pid, sender: None, channel, bytes: bytes.into() })
    }

    /// Bytes of the message.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A message is never empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends the message, with the number that its sender's client was told at login, if the sender is known.
    pub fn write(&self, out: &mut Vec<u8>) {
        let at = out.len() + HEADER_LENGTH;
        out.extend_from_slice(&self.bytes);
        if let Some(SessionId(number)) = self.sender
            && let Some(field) = out.get_mut(at..at + 4)
        {
            field.copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// `LISTEN "channel"`, or UNLISTEN.
#[must_use]
pub(super) fn statement(verb: &str, channel: &str) -> String {
    format!("{verb} \"{}\"", channel.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_wire::encode;

    fn message(pid: u32, channel: &str, payload: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode::message(&mut out, b'A', |out| {
            out.extend_from_slice(&pid.to_be_bytes());
            encode::c_string(out, channel.as_bytes());
            encode::c_string(out, payload.as_bytes());
        });
        out
    }

    #[test]
    fn a_notification_is_told_as_it_came_or_with_the_senders_other_number() {
        let bytes = message(77, "jobs", "one");
        let mut read = Notification::read(&bytes).unwrap();
        assert_eq!((read.pid, &*read.channel), (77, "jobs"));
        let mut out = b"before".to_vec();
        read.write(&mut out);
        assert_eq!(out[6..], bytes);
        out.clear();
        read.sender = Some(SessionId(9));
        read.write(&mut out);
        assert_eq!(out, message(9, "jobs", "one"));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(statement("LISTEN", "a\"b"), "LISTEN \"a\"\"b\"");
    }
}
