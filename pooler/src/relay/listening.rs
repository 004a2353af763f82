//! What the relay does for a session that listens in transaction mode.
//!
//! The hub is the only source of notifications: it has a channel before LISTEN is sent, what the client's own
//! server connection tells is dropped, and that connection forgets its channels before it is given back. A session
//! that the hub cannot serve keeps its server connection, and hears from that.

use super::upstream::{Upstream, Wait};
use super::{ClientSide, Relay, Stop};
use crate::notify::{Gate, Listener};
use crate::pins::PinReason;
use crate::server::connection::{Effect as Owed, ServerConnection};
use crate::statements::Deed;
use hawser_sql_router::effects::Effect;
use hawser_wire::backend::{self as message, TransactionStatus};
use hawser_wire::reply_queue::Fate;

/// Lets go of every channel on a server connection.
const UNLISTEN: &str = "UNLISTEN *";

impl Relay {
    /// Whether the session needs a listener before the next message can be sent.
    #[must_use]
    pub fn needs_listener(&self) -> bool {
        self.up.wait == Some(Wait::Listener)
    }

    /// Whether a message that does this may be sent now. If not, it is clear what is waited for.
    pub(super) fn is_open(
        &mut self,
        deed: Option<&Deed>,
        client: &ClientSide,
        server: &mut ServerConnection,
    ) -> bool {
        let Some(deed) = deed else { return true };
        let effects = &deed.effects.statements;
        let channels = || {
            effects.iter().filter_map(|effect| match effect {
                Effect::Listen(channel) => Some(channel.as_str()),
                _ => None,
            })
        };
        let listens = channels().next().is_some();
        let notifies = effects.contains(&Effect::Notify);
        let unlistens = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Unlisten(_) | Effect::UnlistenAll | Effect::DiscardAll));
        if self.keep || !(listens || notifies || unlistens) {
            return true;
        }
        let by_hub = listens && is_utf8(client, server);
        if by_hub && server.queue.owed_ready() > 0 {
            // What the client notifies before it listens, it does not hear.
            self.up.barrier = true;
            return false;
        }
        let gate = match &client.listener {
            // Those who listen are told who notifies.
            None if by_hub || notifies => {
                self.up.wait = Some(Wait::Listener);
                return false;
            }
            None => Gate::Open,
            Some(listener) => {
                let mut gate = if by_hub { listener.begin_listen(channels()) } else { Gate::Open };
                if gate == Gate::Open && unlistens {
                    gate = listener.begin_unlisten();
                }
                if gate == Gate::Open && notifies {
                    gate = listener.begin_notify(server.cancel_key.pid);
                }
                gate
            }
        };
        self.up.wait = Wait::at(gate);
        server.listens |= listens && gate == Gate::Open;
        gate == Gate::Open
    }

    /// Whether anything of the client's may be sent now.
    pub(super) fn is_open_at_all(&mut self, client: &ClientSide, server: &ServerConnection) -> bool {
        if self.up.wait == Some(Wait::Unlisten) {
            return false;
        }
        let speaks = client.input.as_ref().is_some_and(|input| !input.is_empty());
        self.up.wait = match &client.listener {
            Some(listener) if speaks && server.queue.is_settled() => Wait::at(listener.begin_message()),
            _ => None,
        };
        self.up.wait.is_none()
    }

    /// Whether the client must not yet hear that the server is ready.
    pub(super) fn holds_ready(
        &mut self,
        body: &[u8],
        client: &ClientSide,
        server: &ServerConnection,
    ) -> bool {
        let Some(listener) = &client.listener else { return false };
        let ends =
            body.first() == Some(&TransactionStatus::Idle.byte()) && server.queue.fate() != Fate::Swallow;
        self.down.held = ends && listener.end_notify() != Gate::Open;
        self.down.held
    }

    /// The client hears that the server is ready outside a transaction; first come notifications.
    pub(super) fn pass_ready(&mut self, listener: &Listener, server: &ServerConnection) {
        listener.pass_ready(server.queue.is_settled());
        self.down.out.ours(|out| while listener.take(out) {});
    }

    /// Delivers notifications to a client that keeps its server connection between transactions. True when there
    /// was something.
    pub(super) fn deliver_notifications(
        &mut self,
        client: &ClientSide,
        server: &ServerConnection,
    ) -> Result<bool, Stop> {
        let Some(listener) = &client.listener else { return Ok(false) };
        if !server.queue.is_settled() || server.status != TransactionStatus::Idle {
            return Ok(false);
        }
        if listener.is_overrun() {
            return Err(Stop::NotifyQueueFull);
        }
        if self.down.piece > 0 || !self.is_drained() {
            return Ok(false);
        }
        self.down.out.ours(|out| _ = listener.take(out));
        Ok(!self.down.out.is_empty())
    }

    /// Makes the server connection forget what it listens on. True when there is something to forget.
    pub(super) fn unlisten(&mut self, server: &mut ServerConnection) -> bool {
        let listens = std::mem::take(&mut server.listens);
        if listens {
            self.prepend(server, UNLISTEN, Owed::Ours);
            // What the client says meanwhile may need no server connection.
            self.up.wait = Some(Wait::Unlisten);
        }
        listens
    }

    /// Whether a notification that the server connection tells is the client's.
    pub(super) fn is_for_client(&self, body: &[u8], client: &ClientSide) -> bool {
        if self.keep {
            return true;
        }
        let by_hub = || {
            let channel =
                message::notification(body).and_then(|(_, channel)| std::str::from_utf8(channel).ok());
            let listener = client.listener.as_ref();
            channel.zip(listener).is_some_and(|(channel, listener)| listener.has(channel))
        };
        client.state.pins.has(PinReason::Listen) && !by_hub()
    }
}

impl Upstream {
    /// What is waited for needs this very server connection.
    pub(super) const fn needs_server(&self) -> bool {
        matches!(self.wait, Some(Wait::Listener | Wait::Mark))
    }
}

/// The hub hears payloads in UTF-8, and they are passed on as they are.
fn is_utf8(client: &ClientSide, server: &ServerConnection) -> bool {
    const NAME: &str = "client_encoding";
    let default = || server.welcome.iter().find(|(name, _)| name == NAME).map(|(_, value)| value.as_str());
    client.state.settings.value(NAME).or_else(default).is_some_and(means_utf8)
}

/// Whether a server takes this for UTF-8: of the name of an encoding only letters and digits count.
fn means_utf8(encoding: &str) -> bool {
    let known = |name: &str| {
        let letters = encoding.bytes().filter(u8::is_ascii_alphanumeric);
        letters.map(|letter| letter.to_ascii_lowercase()).eq(name.bytes())
    };
    known("utf8") || known("unicode")
}

#[cfg(test)]
mod tests {
    use super::means_utf8;

    #[test]
    fn names_of_encodings_are_read_as_the_server_reads_them() {
        for name in ["UTF8", "utf-8", "'utf-8'", "Unicode"] {
            assert!(means_utf8(name), "{name}");
        }
        for name in ["", "LATIN1", "SQL_ASCII", "utf16"] {
            assert!(!means_utf8(name), "{name}");
        }
    }
}
