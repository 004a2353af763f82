//! What a client's statements do to its session: tracked settings and pins, with their transaction rules.
//!
//! A change is assumed when the server says that the statement succeeded, and holds when the transaction commits.
//! While client and server are joined both have the same settings, so each change is made to both.

mod answer;
mod command;
mod settings;
mod transaction;

pub(super) use answer::{answered, unanswered};
pub(super) use command::{command, note_sequences};
pub(super) use settings::reported;
pub(super) use transaction::{commit, ready};

use super::question::{self, Question};
use super::{ClientSide, Shared};
use crate::notify::subscriptions::Subscriptions;
use crate::parameters::{self, ParameterSet};
use crate::pins::{OwnValues, PinReason, PinReasons};
use crate::server::connection::{CancelKey, Doing, Doubt, Effect as Owed, ServerConnection};
use crate::statements::{About, Deed};
use hawser_sql_router::calls::{Ask, Process, Sequences};
use hawser_sql_router::effects::Effect;
use hawser_wire::frontend as message;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

/// What a client wants set, and what keeps it on its server.
#[derive(Debug)]
pub struct SessionState {
    /// What is set now, as the client sees it.
    pub settings: Rc<ParameterSet>,
    /// Why it must keep its server connection.
    pub pins: PinReasons,
    /// As of the last commit.
    committed: Rc<ParameterSet>,
    committed_pins: PinReasons,
    /// What the client asked for at login: the values that RESET goes back to.
    defaults: Rc<ParameterSet>,
    /// What ends with the transaction; none for most.
    passing: Option<Box<Passing>>,
    /// All settings on which the meaning of statements depends.
    meaning: Arc<str>,
    /// What the server is to tell.
    questions: Option<Box<Questions>>,
    /// Its statements of SQL have their own names on its server, because it may look for them there.
    pub(super) literal: bool,
    /// What sequences have yielded to it.
    pub values: OwnValues,
    /// It has just called `nextval` outside a transaction: most likely it asks for the value next.
    lingers: bool,
    /// It has changed the catalog in this transaction.
    changes_catalog: bool,
    /// The server process whose number `pg_backend_pid()` last told it.
    pub process: Option<Rc<CancelKey>>,
    /// Something failed since the last ReadyForQuery.
    failed: bool,
    /// A RESET went by since the last ReadyForQuery: what the server reports are its defaults, not the client's.
    resetting: bool,
}

/// What the server is to tell of what was left behind.
#[derive(Debug, Default)]
struct Questions {
    /// To be asked once the transaction is over.
    next: Option<Question>,
    /// Asked, and not answered yet.
    asked: Option<Question>,
}

/// What ends with a transaction.
#[derive(Debug, Default)]
struct Passing {
    savepoints: Vec<Savepoint>,
    /// What SET LOCAL has made of settings on which the meaning of statements depends.
    local: Vec<(String, String)>,
    /// Portals whose statements have effects.
    portals: Vec<Portal>,
}

/// What ROLLBACK TO goes back to.
#[derive(Debug)]
struct Savepoint {
    name: String,
    settings: Rc<ParameterSet>,
    local: Vec<(String, String)>,
}

/// A portal whose statement does something.
#[derive(Debug)]
struct Portal {
    name: Box<[u8]>,
    deed: Arc<Deed>,
    /// Settings of applications that its parameters name.
    custom: Vec<String>,
    /// The server process that its parameters name, which it ends.
    ends: Option<NonZeroU32>,
}

impl SessionState {
    /// A session that wants `settings` from the start.
    #[must_use]
    pub fn new(settings: Rc<ParameterSet>) -> Self {
        Self {
            committed: settings.clone(),
            defaults: settings.clone(),
            meaning: settings.meaning().clone(),
            settings,
            pins: PinReasons::default(),
            committed_pins: PinReasons::default(),
            passing: None,
            questions: None,
            literal: false,
            values: OwnValues::default(),
            lingers: false,
            changes_catalog: false,
            process: None,
            failed: false,
            resetting: false,
        }
    }

    /// One that has moved here from another worker, where it was at rest ([`Self::is_at_rest`]).
    #[must_use]
    pub fn resumed(settings: Rc<ParameterSet>, defaults: Rc<ParameterSet>, values: OwnValues) -> Self {
        Self { defaults, values, ..Self::new(settings) }
    }

    /// Whether what [`Self::resumed`] takes is all there is: nothing ties it to a transaction or keeps it on its server.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.pins.is_empty()
            && self.committed_pins.is_empty()
            && Rc::ptr_eq(&self.settings, &self.committed)
            && self.passing.is_none()
            && self.questions.is_none()
            && self.process.is_none()
            && !(self.literal || self.lingers || self.changes_catalog || self.failed || self.resetting)
    }

    /// What the client asked for at login.
    #[must_use]
    pub const fn defaults(&self) -> &Rc<ParameterSet> {
        &self.defaults
    }

    /// Settings on which the meaning of the client's statements depends.
    pub(super) const fn meaning(&self) -> &Arc<str> {
        &self.meaning
    }

    /// Whether something must be found out from the server before anybody else gets it.
    #[must_use]
    pub const fn has_question(&self) -> bool {
        self.questions.is_some()
    }

    /// Whether the server is asked after what has begun by now.
    fn will_ask(&self) -> bool {
        self.questions.as_ref().is_some_and(|questions| questions.next.is_some())
    }

    /// A command has succeeded. Whether texts may mean something else from now on.
    pub(super) fn note_change(&mut self, tag: &[u8], deed: Option<&Deed>) -> bool {
        let changes = [&b"CREATE"[..], b"ALTER", b"DROP", b"IMPORT"].iter().any(|word| tag.starts_with(word));
        let own =
            || deed.is_some_and(|deed| deed.effects.temporary) || self.pins.has(PinReason::TemporaryObject);
        let changes = changes && !own();
        self.changes_catalog |= changes;
        changes
    }

    /// The transaction is over. Whether what it did to the catalog has come to pass, or is undone, by that.
    pub(super) const fn end_change(&mut self) -> bool {
        std::mem::replace(&mut self.changes_catalog, false)
    }

    /// The session has just called `nextval`.
    pub(super) const fn linger(&mut self) {
        self.lingers = true;
        self.values.keep();
    }

    /// Whether the session should keep its server connection for a moment, since what it says next most likely needs
    /// this one.
    #[must_use]
    pub const fn lingers(&self) -> bool {
        self.lingers
    }

    /// Between two transactions, or forgotten with DISCARD SEQUENCES: the session is not kept for its values any more.
    pub const fn give_up_values(&mut self) {
        self.pins.remove(PinReason::SequenceValue);
        self.committed_pins.remove(PinReason::SequenceValue);
    }

    /// The session has let go of its server connection.
    pub const fn leave(&mut self) {
        self.lingers = false;
    }

    /// What is to be asked now, as SQL.
    pub(super) fn put_question(&mut self, shared: &Shared) -> Option<String> {
        let questions = self.questions.as_mut()?;
        questions.asked = questions.next.take();
        let text = questions.asked.as_ref().map(|question| question.text(&self.settings, &shared.proven));
        self.tidy_questions();
        text
    }

    /// A portal was bound to a statement that does this, by a Bind of which so much is there.
    pub(super) fn bind(&mut self, portal: &[u8], deed: Option<&Arc<Deed>>, body: &[u8]) {
        if let Some(passing) = &mut self.passing {
            passing.portals.retain(|known| *known.name != *portal);
        }
        if let Some(deed) = deed {
            let custom = if deed.effects.ask == Ask::No { Vec::new() } else { question::named_in(body) };
            let ends = match deed.effects.ends {
                Some(Process::Parameter(number)) => process_in(body, number),
                Some(Process::Number(_)) | None => None,
            };
            let portal = Portal { name: portal.into(), deed: deed.clone(), custom, ends };
            self.passing.get_or_insert_default().portals.push(portal);
        }
    }

    /// What running a portal does, if it does anything.
    pub(super) fn of_portal(&self, portal: &[u8]) -> Option<&Arc<Deed>> {
        Some(&self.portal(portal)?.deed)
    }

    fn portal(&self, name: &[u8]) -> Option<&Portal> {
        self.passing.as_ref()?.portals.iter().find(|known| *known.name == *name)
    }

    /// The server process that running a portal ends, by the value of a parameter.
    pub(super) fn ended_by(&self, portal: &[u8]) -> Option<NonZeroU32> {
        self.portal(portal)?.ends
    }

    /// A portal is run, of which the server may be asked: what its parameters name may be set.
    pub(super) fn name_settings_of(&mut self, portal: &[u8]) {
        let named = self.portal(portal).map(|portal| portal.custom.clone()).unwrap_or_default();
        self.name_settings(&named);
    }

    /// A text is about to be run: whatever becomes of it, it may leave something behind. No sequence is advanced on a
    /// standby.
    pub(super) fn begin(&mut self, deed: &Arc<Deed>, on_standby: bool, shared: &Shared) -> Owed {
        let effects = &deed.effects;
        self.ask_after(deed.fingerprint, effects.ask, shared);
        let executed = effects.statements.iter().zip(&deed.about);
        for (effect, about) in executed {
            if let (Effect::Execute(_), About::Uses(statement)) = (effect, about)
                && let Some(deed) = &statement.deed
            {
                let _ = self.begin(deed, on_standby, shared);
            }
        }
        if !effects.custom.is_empty() {
            self.name_settings(&effects.custom);
        }
        if effects.seeds {
            self.pins.add(PinReason::RandomSeed);
        }
        if effects.is_indelible {
            self.pins.add(PinReason::Indelible);
        }
        self.values.asked |= effects.sequences == Sequences::Read;
        if self.values.asked && effects.sequences != Sequences::Untouched && !on_standby {
            self.pins.add(PinReason::SequenceValue);
        }
        let ends = match effects.ends {
            Some(Process::Number(number)) => Some(number),
            Some(Process::Parameter(_)) | None => None,
        };
        Owed::Does(Doing { deed: deed.clone(), done: 0, ends })
    }

    /// What is asked about may set these.
    fn name_settings(&mut self, names: &[String]) {
        if let Some(question) = self.questions.as_mut().and_then(|questions| questions.next.as_mut()) {
            question.name(names);
        }
    }

    /// Something is run that may leave something behind. `text` stands for it when it is judged.
    pub(super) fn ask_after(&mut self, text: u64, ask: Ask, shared: &Shared) {
        match ask {
            Ask::Always => self.next_question().insist(),
            Ask::Sampled if shared.proven.is_due(text) => self.next_question().note(text),
            Ask::Sampled | Ask::No => {}
        }
    }

    fn next_question(&mut self) -> &mut Question {
        self.questions.get_or_insert_default().next.get_or_insert_default()
    }

    fn take_asked(&mut self) -> Option<Question> {
        let asked = self.questions.as_mut()?.asked.take();
        self.tidy_questions();
        asked
    }

    fn tidy_questions(&mut self) {
        if self.questions.as_ref().is_some_and(|all| all.next.is_none() && all.asked.is_none()) {
            self.questions = None;
        }
    }

    /// The server must be asked, whatever it was.
    pub(super) fn ask(&mut self) {
        self.next_question().insist();
    }

    /// What is sent now may mean something else once the replies that are owed have come.
    pub(super) fn is_meaning_unsettled(&self) -> bool {
        !self.local().is_empty() || *self.meaning != **self.committed.meaning()
    }

    /// The server connection is lost, and with it everything that was not committed and all that pinned the session:
    /// what the client relies on of that is returned.
    pub(super) fn lose(&mut self) -> PinReasons {
        self.passing = None;
        self.questions = None;
        self.set(self.committed.clone());
        self.pins = PinReasons::default();
        (self.literal, self.values.home, self.process) = (false, None, None);
        (self.failed, self.resetting) = (false, false);
        self.committed_pins.remove(PinReason::OwnNames);
        std::mem::take(&mut self.committed_pins)
    }

    /// The server has none of its statements under their own names any more.
    pub(super) const fn end_literal(&mut self) {
        self.literal = false;
        self.pins.remove(PinReason::OwnNames);
        self.committed_pins.remove(PinReason::OwnNames);
    }

    /// Something failed.
    pub(super) const fn fail(&mut self) {
        self.failed = true;
    }

    /// Settings have changed.
    fn set(&mut self, settings: Rc<ParameterSet>) {
        self.settings = settings;
        self.renew_meaning();
    }

    fn set_local(&mut self, name: String, value: String) {
        if parameters::is_meaningless(&name) {
            return;
        }
        let local = &mut self.passing.get_or_insert_default().local;
        local.retain(|(known, _)| *known != name);
        local.push((name, value));
        self.renew_meaning();
    }

    fn local(&self) -> &[(String, String)] {
        self.passing.as_ref().map_or(&[], |passing| &passing.local)
    }

    fn renew_meaning(&mut self) {
        if self.local().is_empty() {
            self.meaning = self.settings.meaning().clone();
            return;
        }
        let mut all = ParameterSet::clone(&self.settings);
        for (name, value) in self.local() {
            all.put(name, value);
        }
        self.meaning = all.meaning().clone();
    }

    /// The transaction is over; its portals may be closed later, with the batch.
    fn forget_local(&mut self) {
        let Some(passing) = &mut self.passing else { return };
        passing.savepoints.clear();
        let had_local = !std::mem::take(&mut passing.local).is_empty();
        if passing.portals.is_empty() {
            self.passing = None;
        }
        if had_local {
            self.renew_meaning();
        }
    }

    fn forget_portals(&mut self) {
        if let Some(passing) = &mut self.passing {
            passing.portals.clear();
        }
    }
}

/// The number of a server process that a Bind gives to a parameter, the first of which is 1: as digits or in four bytes, the
/// first of which is no digit, since no number of a process is that high.
fn process_in(bind: &[u8], parameter: u16) -> Option<NonZeroU32> {
    let value = message::bind_values(bind).nth(usize::from(parameter).checked_sub(1)?)??;
    let digits = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    digits.or_else(|| NonZeroU32::new(u32::from_be_bytes(value.try_into().ok()?)))
}

/// Something is run that may leave something behind.
pub(super) fn cast_doubt(client: &ClientSide, server: &mut ServerConnection) {
    let doubt = if client.state.will_ask() { Doubt::Of } else { Doubt::OfAll };
    server.doubt = doubt(client.session);
}

/// Tells the book of what the session listens on, if it has one.
fn book(client: &ClientSide, tell: impl FnOnce(&mut Subscriptions)) {
    if let Some(listener) = &client.listener {
        listener.book(tell);
    }
}
