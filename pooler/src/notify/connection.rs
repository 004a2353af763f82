//! A listening connection that is up: what it was asked and has not answered, and whether it lives.

use super::lead::Lead;
use super::line::{Line, Lost};
use super::news::{Token, statement};
use super::roster::Roster;
use crate::config::settings::HostAddress;
use crate::ids::{SessionId, WorkerId};
use crate::server::connection::ServerConnection;
use crate::server::dial::DialPlan;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// A connection that has said nothing for so long is asked whether it lives.
const QUIET: Duration = Duration::from_secs(5);
/// An answer that takes longer than this (or the time to connect, if that is shorter) does not come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A connection without channels is closed after this.
const LINGER: Duration = Duration::from_secs(30);

/// What a statement on a listening connection was for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Nobody waits for it.
    Nothing,
    /// A channel of a connection that was lost; it must not fail.
    Restore,
    /// Somebody waits for a channel.
    Channel(WorkerId, Token),
    /// Somebody waits for what was committed before, and is who sends on a server process from then on.
    Mark(WorkerId, Token, Option<u32>),
}

/// See the module.
pub(super) struct Connection {
    pub(super) line: Line,
    pub(super) purposes: VecDeque<Purpose>,
    /// The statement that is being answered has failed.
    pub(super) failure: Option<Vec<u8>>,
    pub(super) heard: Instant,
    unused: Option<Instant>,
    /// Where it was led, and the host where it was led nowhere in particular.
    lead: (Lead, Option<HostAddress>),
}

impl Connection {
    pub(super) fn new(server: ServerConnection, lead: Lead, known: Option<HostAddress>) -> Self {
        Self {
            line: Line::new(server),
            purposes: VecDeque::new(),
            failure: None,
            heard: Instant::now(),
            unused: None,
            lead: (lead, known),
        }
    }

    /// Listens on everything that is wanted; how many statements that takes.
    pub(super) fn restore(&mut self, roster: &Roster) -> usize {
        for channel in roster.channels() {
            self.ask(&statement("LISTEN", channel), Purpose::Restore);
        }
        roster.len()
    }

    pub(super) fn ask(&mut self, statement: &str, purpose: Purpose) {
        self.line.say(statement);
        self.purposes.push_back(purpose);
    }

    pub(super) fn mark(&mut self, purpose: Purpose) {
        self.line.sync();
        self.purposes.push_back(purpose);
    }

    /// A mark that is under way does not make the session the sender on a server process any more.
    pub(super) fn forget_sender(&mut self, process: u32, session: SessionId) {
        for purpose in &mut self.purposes {
            if let Purpose::Mark(_, token, sends) = purpose
                && token.session == session
            {
                sends.take_if(|sends| *sends == process);
            }
        }
    }

    /// Whether no channel has been wanted for a while.
    pub(super) fn is_unused(&mut self, roster: &Roster) -> bool {
        if !roster.is_empty() {
            self.unused = None;
            return false;
        }
        self.unused.get_or_insert_with(Instant::now).elapsed() >= LINGER
    }

    /// Whether this is still the server to listen to.
    pub(super) fn follow(&self, new: &Lead) -> Result<(), Lost> {
        let (lead, known) = &self.lead;
        if lead.is_outdated(known.as_ref(), new) { Err(Lost::Moved) } else { Ok(()) }
    }

    /// Finds out whether the server lives.
    pub(super) fn check(&mut self, plan: Option<&DialPlan>) -> Result<(), Lost> {
        let patience = plan.map_or(PATIENCE, |plan| plan.timeout.min(PATIENCE));
        let quiet = self.heard.elapsed();
        if !self.purposes.is_empty() {
            return if quiet > QUIET + patience { Err(Lost::Silent) } else { Ok(()) };
        }
        if quiet > QUIET {
            self.mark(Purpose::Nothing);
        }
        Ok(())
    }
}
