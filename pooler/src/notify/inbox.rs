//! Notifications that wait for one client, bounded in bytes. Pure.
//!
//! What does not fit is not dropped in silence: the inbox is *overrun*, holds nothing any more, and its client is
//! closed.

use super::news::Notification;
use super::subscriptions::Delivery;
use hawser_wire::encode::{self, Severity};
use hawser_wire::sqlstate;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a queued entry costs beside its message, so that empty payloads are bounded too.
const OVERHEAD: usize = 64;

/// Bytes that are written at a time.
const PORTION: usize = 64 * 1024;

/// What the client reads when messages may be missing.
const GAP: &str =
    "the listening connection was lost and is restored; notifications may have been lost in the meantime";

#[derive(Debug)]
enum Entry {
    /// A notification.
    Message(Message),
    /// Messages may be missing here.
    Gap,
}

#[derive(Debug)]
struct Message {
    notification: Arc<Notification>,
    /// The client gets it, whatever it stops to listen on.
    settled: bool,
}

impl Message {
    fn cost(&self) -> usize {
        self.notification.len() + OVERHEAD
    }

    fn delivery(&self, delivery: impl Fn(&str) -> Delivery) -> Delivery {
        if self.settled { Delivery::Due } else { delivery(&self.notification.channel) }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
    overrun: bool,
}

impl Inbox {
    /// An empty one that holds `limit` bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit, overrun: false }
    }

    /// A notification arrived. False when it is one too many.
    pub(super) fn push(&mut self, notification: Arc<Notification>) -> bool {
        if self.overrun {
            return true;
        }
        let message = Message { notification, settled: false };
        self.bytes += message.cost();
        if self.bytes > self.limit {
            self.overrun = true;
            self.bytes = 0;
            self.entries = VecDeque::new();
            return false;
        }
        self.entries.push_back(Entry::Message(message));
        true
    }

    /// Messages may be missing from here on.
    pub(super) fn push_gap(&mut self) {
        if !self.overrun && !matches!(self.entries.back(), Some(Entry::Gap)) {
            self.entries.push_back(Entry::Gap);
        }
    }

    /// More arrived than fits.
    pub(super) const fn is_overrun(&self) -> bool {
        self.overrun
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops what is not due by now.
    pub(super) fn keep_due(&mut self, delivery: impl Fn(&str) -> Delivery) {
        let bytes = &mut self.bytes;
        self.entries.retain(|entry| match entry {
            Entry::Message(message) if message.delivery(&delivery) != Delivery::Due => {
                *bytes -= message.cost();
                false
            }
            _ => true,
        });
    }

    /// What is due by now stays so.
    pub(super) fn settle_due(&mut self, delivery: impl Fn(&str) -> Delivery) {
        for entry in &mut self.entries {
            if let Entry::Message(message) = entry {
                message.settled = message.delivery(&delivery) == Delivery::Due;
            }
        }
    }

    /// Appends what is due, up to a portion; what is early stays, and what is unwanted goes. True when more may be due.
    pub(super) fn take(&mut self, out: &mut Vec<u8>, delivery: impl Fn(&str) -> Delivery) -> bool {
        let mut early = Vec::new();
        let start = out.len();
        while out.len() - start < PORTION
            && let Some(entry) = self.entries.pop_front()
        {
            let Entry::Message(message) = &entry else {
                encode::error(out, Severity::Notice, sqlstate::NOTIFICATIONS_MAY_BE_LOST, GAP, None);
                continue;
            };
            match message.delivery(&delivery) {
                Delivery::Due => message.notification.write(out),
                Delivery::Early => {
                    early.push(entry);
                    continue;
                }
                Delivery::Unwanted => {}
            }
            self.bytes -= message.cost();
        }
        let more = !self.entries.is_empty();
        for entry in early.into_iter().rev() {
            self.entries.push_front(entry);
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(channel: &str, payload: &str) -> Arc<Notification> {
        let mut bytes = Vec::new();
        encode::message(&mut bytes, b'A', |out| {
            out.extend_from_slice(&5u32.to_be_bytes());
            encode::c_string(out, channel.as_bytes());
            encode::c_string(out, payload.as_bytes());
        });
        Arc::new(Notification::read(&bytes).unwrap())
    }

    fn by_name(channel: &str) -> Delivery {
        match channel {
            "due" => Delivery::Due,
            "early" => Delivery::Early,
            _ => Delivery::Unwanted,
        }
    }

    fn written(messages: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (channel, payload) in messages {
            notification(channel, payload).write(&mut out);
        }
        out
    }

    #[test]
    fn what_is_due_leaves_in_order_and_what_is_early_stays() {
        let mut inbox = Inbox::new(10_000);
        for (channel, payload) in [("early", "0"), ("due", "1"), ("gone", "2"), ("early", "3"), ("due", "4")]
        {
            inbox.push(notification(channel, payload));
        }
        let mut out = Vec::new();
        assert!(!inbox.take(&mut out, by_name));
        assert_eq!(out, written(&[("due", "1"), ("due", "4")]));
        out.clear();
        inbox.take(&mut out, |_| Delivery::Due);
        assert_eq!(out, written(&[("early", "0"), ("early", "3")]));
        assert!(inbox.is_empty());
        assert_eq!(inbox.bytes, 0);
    }

    #[test]
    fn what_was_early_at_the_commit_is_dropped() {
        let mut inbox = Inbox::new(10_000);
        inbox.push(notification("early", "0"));
        inbox.push(notification("due", "1"));
        inbox.keep_due(by_name);
        let mut out = Vec::new();
        inbox.take(&mut out, |_| Delivery::Due);
        assert_eq!(out, written(&[("due", "1")]));
        assert_eq!(inbox.bytes, 0);
    }

    #[test]
    fn what_was_due_before_an_unlisten_is_delivered_after_it() {
        let mut inbox = Inbox::new(10_000);
        inbox.push(notification("due", "1"));
        inbox.settle_due(by_name);
        inbox.push(notification("due", "2"));
        let mut out = Vec::new();
        inbox.take(&mut out, |_| Delivery::Unwanted);
        assert_eq!(out, written(&[("due", "1")]));
        assert!(inbox.is_empty() && inbox.bytes == 0);
    }

    #[test]
    fn more_than_fits_is_said_not_lost_in_silence() {
        let mut inbox = Inbox::new(200);
        inbox.push(notification("due", "1"));
        assert!(!inbox.is_overrun());
        assert!(!inbox.push(notification("due", &"x".repeat(100))));
        assert!(inbox.is_overrun() && inbox.is_empty());
        inbox.push(notification("due", "2"));
        assert!(inbox.is_empty());
    }

    #[test]
    fn many_notifications_leave_in_portions() {
        let mut inbox = Inbox::new(usize::MAX);
        for _ in 0..100 {
            inbox.push(notification("due", &"x".repeat(1000)));
        }
        let mut out = Vec::new();
        assert!(inbox.take(&mut out, by_name));
        assert!(out.len() < 70_000);
        assert!(!inbox.take(&mut out, by_name));
        assert!(out.len() > 100_000);
    }
}
