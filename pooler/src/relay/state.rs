//! What a client's statements do to its session: tracked settings and pins, with their transaction rules.
//!
//! A change is assumed when the server says that the statement succeeded, and holds when the transaction commits.
//! While client and server are joined both have the same settings, so each change is made to both.

use super::question::Question;
use super::{ClientSide, Shared};
use crate::notify::subscriptions::Subscriptions;
use crate::parameters::{self, ParameterSet};
use crate::pins::{PinReason, PinReasons};
use crate::server::connection::{Doing, Doubt, Effect as Owed, ServerConnection};
use crate::statements::{About, Deed};
use hawser_sql_router::calls::{Ask, Sequences};
use hawser_sql_router::effects::Effect;
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
    /// It has read what its own `nextval` yielded.
    reads_sequences: bool,
    /// It has just called `nextval` outside a transaction: most likely it asks for the value next.
    lingers: bool,
    /// It has changed the catalog in this transaction.
    changes_catalog: bool,
    /// Where it last advanced a sequence: the process number of the server.
    pub home: Option<NonZeroU32>,
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

/// A portal's name, and what its statement does.
type Portal = (Box<[u8]>, Arc<Deed>);

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
            reads_sequences: false,
            home: None,
            lingers: false,
            changes_catalog: false,
            failed: false,
            resetting: false,
        }
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
    }

    /// Whether the session should keep its server connection for a moment, since what it says next most likely needs
    /// this one.
    #[must_use]
    pub const fn lingers(&self) -> bool {
        self.lingers
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

    /// A portal was bound to a statement that does this.
    pub(super) fn bind(&mut self, portal: &[u8], deed: Option<&Arc<Deed>>) {
        if let Some(passing) = &mut self.passing {
            passing.portals.retain(|(name, _)| **name != *portal);
        }
        if let Some(deed) = deed {
            self.passing.get_or_insert_default().portals.push((portal.into(), deed.clone()));
        }
    }

    /// What running a portal does, if it does anything.
    pub(super) fn of_portal(&self, portal: &[u8]) -> Option<&Arc<Deed>> {
        let (_, deed) = self.passing.as_ref()?.portals.iter().find(|(name, _)| **name == *portal)?;
        Some(deed)
    }

    /// A text is about to be run: whatever becomes of it, it may leave something behind.
    pub(super) fn begin(&mut self, deed: &Arc<Deed>, shared: &Shared) -> Owed {
        let effects = &deed.effects;
        if effects.ask != Ask::No {
            let questions = self.questions.get_or_insert_default();
            let question = questions.next.get_or_insert_default();
            question.note(deed.fingerprint, effects, &shared.proven);
            if question.is_idle() {
                questions.next = None;
            }
            self.tidy_questions();
        }
        let executed = effects.statements.iter().zip(&deed.about);
        for (effect, about) in executed {
            if let (Effect::Execute(_), About::Uses(statement)) = (effect, about)
                && let Some(deed) = &statement.deed
            {
                let _ = self.begin(deed, shared);
            }
        }
        if effects.seeds {
            self.pins.add(PinReason::RandomSeed);
        }
        self.reads_sequences |= effects.sequences == Sequences::Read;
        if self.reads_sequences && effects.sequences != Sequences::Untouched {
            self.pins.add(PinReason::SequenceValue);
        }
        Owed::Does(Doing { deed: deed.clone(), done: 0 })
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
    fn ask(&mut self) {
        self.questions.get_or_insert_default().next.get_or_insert_default().insist();
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
        (self.literal, self.home) = (false, None);
        (self.failed, self.resetting) = (false, false);
        std::mem::take(&mut self.committed_pins)
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

/// A command succeeded: `tag` is what the server called it, `effect` what the text said that it does.
pub(super) fn command(
    tag: &[u8],
    effect: Option<(&Effect, &About)>,
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) {
    let said = effect.map(|(effect, _)| effect);
    match (tag, said) {
        (b"ROLLBACK", Some(Effect::RollbackTo(name))) => roll_back_to(name, client, server),
        (b"ROLLBACK", _) => roll_back(client, server),
        (b"COMMIT" | b"PREPARE TRANSACTION", _) => commit(client),
        (b"DISCARD ALL", _) => discard_all(client, server, shared),
        (b"DEALLOCATE ALL", _) => {
            client.state.pins.remove(PinReason::SqlPrepared);
            client.state.literal = false;
            client.statements.clear();
            server.statements.clear();
        }
        (b"DISCARD SEQUENCES", _) => {
            client.state.pins.remove(PinReason::SequenceValue);
            client.state.home = None;
            server.sequences = None;
        }
        (b"LISTEN", Some(Effect::Listen(channel))) if listens(client, channel) => {}
        (b"LISTEN", _) => client.state.pins.add(PinReason::Listen),
        (b"UNLISTEN", Some(Effect::Unlisten(channel))) => book(client, |book| book.unlisten(channel)),
        (b"UNLISTEN", Some(Effect::UnlistenAll)) => {
            client.state.pins.remove(PinReason::Listen);
            book(client, Subscriptions::unlisten_all);
        }
        (b"PREPARE", None | Some(Effect::None)) => client.state.ask(),
        (b"LOAD", _) => client.state.pins.add(PinReason::LibraryLoad),
        (b"SET" | b"RESET", None | Some(Effect::None)) => client.state.ask(),
        (_, None | Some(Effect::None)) => {}
        (_, Some(_)) => apply(effect, client, server, shared),
    }
    note_sequences(tag, client, server);
    if !client.state.pins.is_empty() && may_unpin(tag) {
        client.state.ask();
    }
    if tag.starts_with(b"CREATE") && client.state.settings.value("search_path").is_some_and(is_temporary) {
        client.state.ask();
    }
}

fn is_temporary(search_path: &str) -> bool {
    search_path.contains("pg_temp")
}

/// Commands after which the reason for a pin may be gone.
fn may_unpin(tag: &[u8]) -> bool {
    let ends: [&[u8]; 7] =
        [b"DROP", b"CLOSE", b"DISCARD", b"DEALLOCATE", b"COMMIT", b"ROLLBACK", b"UNLISTEN"];
    ends.iter().any(|word| tag.starts_with(word))
}

/// LISTEN has succeeded. Whether the hub serves the session.
fn listens(client: &ClientSide, channel: &str) -> bool {
    client.listener.as_ref().is_some_and(|listener| listener.book(|book| book.listen(channel)))
}

/// Tells the book of what the session listens on, if it has one.
fn book(client: &ClientSide, tell: impl FnOnce(&mut Subscriptions)) {
    if let Some(listener) = &client.listener {
        listener.book(tell);
    }
}

/// Notes whose sequence values the server would tell. A client that reads them stays where they are.
fn note_sequences(tag: &[u8], client: &mut ClientSide, server: &mut ServerConnection) {
    let advances = [&b"INSERT"[..], b"COPY", b"MERGE"].iter().any(|word| tag.starts_with(word));
    if advances {
        server.sequences = Some(client.session);
        client.state.home = NonZeroU32::new(server.cancel_key.pid);
        if client.state.reads_sequences {
            client.state.pins.add(PinReason::SequenceValue);
        }
    }
}

fn apply(
    effect: Option<(&Effect, &About)>,
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) {
    let Some((effect, about)) = effect else { return };
    match effect {
        Effect::Savepoint(name) => book(client, |book| book.savepoint(name)),
        Effect::Release(name) => book(client, |book| book.release(name)),
        _ => {}
    }
    let state = &mut client.state;
    match effect {
        Effect::Set(name, value) => set(name, value, client, server, shared),
        Effect::Characteristics(settings) => {
            for (name, value) in settings {
                set(name, value, client, server, shared);
            }
        }
        Effect::SetLocal(Some((name, value))) => state.set_local(name.clone(), value.clone()),
        Effect::Reset(name) => reset(name, client, server, shared),
        Effect::ResetAll => reset_all(client, server, shared),
        Effect::Unknown => state.ask(),
        Effect::LoadLibrary => state.pins.add(PinReason::LibraryLoad),
        Effect::Savepoint(name) => {
            let (settings, local) = (state.settings.clone(), state.local().to_vec());
            let savepoint = Savepoint { name: name.clone(), settings, local };
            state.passing.get_or_insert_default().savepoints.push(savepoint);
        }
        Effect::Release(name) => {
            if let Some(passing) = &mut state.passing
                && let Some(at) = passing.savepoints.iter().rposition(|known| known.name == *name)
            {
                passing.savepoints.truncate(at);
            }
        }
        Effect::Prepare { name, .. } => {
            if let About::Makes(statement) | About::Defines(statement) = about {
                client.statements.define(name.0.as_bytes(), statement.clone());
                server.statements.settle(statement.id);
            }
        }
        Effect::Deallocate(name) => {
            if let Some(gone) = client.statements.forget(name.0.as_bytes()) {
                server.statements.forget(gone.id);
            }
        }
        Effect::None
        | Effect::SetLocal(None)
        | Effect::RollbackTo(_)
        | Effect::Execute(_)
        | Effect::DeallocateAll
        | Effect::DiscardAll
        | Effect::Listen(_)
        | Effect::Unlisten(_)
        | Effect::UnlistenAll
        | Effect::Notify
        | Effect::NeedsAlone(_) => {}
    }
}

fn set(name: &str, value: &str, client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    let state = &mut client.state;
    if name.contains('.') {
        shared.proven.learn(name);
    }
    match name {
        "seed" => return state.pins.add(PinReason::RandomSeed),
        "hawser.pin" if is_true(value) => state.pins.add(PinReason::Requested),
        "hawser.pin" => state.pins.remove(PinReason::Requested),
        _ => {}
    }
    if let Some(passing) = &mut state.passing {
        passing.local.retain(|(known, _)| known != name);
    }
    let interner = &shared.local.interner;
    let mut settings = interner.with(&state.settings, name, value);
    if name == "session_authorization" {
        settings = interner.set(&settings, "role", None);
    }
    state.set(settings);
    server.settings = state.settings.clone();
}

fn reset(name: &str, client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    let (state, interner) = (&mut client.state, &shared.local.interner);
    state.resetting = true;
    if name == "hawser.pin" {
        state.pins.remove(PinReason::Requested);
    }
    // A setting that only applications know is empty from now on, not unknown.
    let nothing = name.contains('.').then_some("");
    let default = state.defaults.value(name).map(ToOwned::to_owned);
    state.set(interner.set(&state.settings, name, default.as_deref().or(nothing)));
    server.settings = interner.set(&server.settings, name, nothing);
    if name == "session_authorization" {
        state.set(interner.set(&state.settings, "role", None));
        server.settings = interner.set(&server.settings, "role", None);
    }
}

fn reset_all(client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    let (state, interner) = (&mut client.state, &shared.local.interner);
    state.resetting = true;
    state.pins.remove(PinReason::Requested);
    // RESET ALL leaves the roles as they are.
    let roles = server.settings.iter().filter(|(name, _)| parameters::is_role(name));
    server.settings = interner.intern(ParameterSet::from_pairs(roles));
    let mut settings = ParameterSet::clone(&state.defaults);
    for name in ["session_authorization", "role"] {
        match state.settings.value(name) {
            Some(value) => settings.put(name, value),
            None => settings.remove(name),
        }
    }
    state.set(interner.intern(settings));
}

/// As the server reads a boolean.
fn is_true(value: &str) -> bool {
    ["on", "true", "yes", "1", "t", "y"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

pub(super) fn commit(client: &mut ClientSide) {
    book(client, Subscriptions::commit);
    let state = &mut client.state;
    state.committed = state.settings.clone();
    state.committed_pins = state.pins;
    state.forget_local();
}

/// What was set since the transaction began is gone. What does not belong to a transaction stays.
fn roll_back(client: &mut ClientSide, server: &mut ServerConnection) {
    book(client, Subscriptions::roll_back);
    let state = &mut client.state;
    state.pins = state.pins.after_rollback(state.committed_pins);
    state.committed_pins = state.pins;
    state.set(state.committed.clone());
    server.settings = state.committed.clone();
    state.forget_local();
}

fn roll_back_to(name: &str, client: &mut ClientSide, server: &mut ServerConnection) {
    book(client, |book| book.roll_back_to(name));
    let state = &mut client.state;
    let Some(passing) = &mut state.passing else { return };
    let Some(at) = passing.savepoints.iter().rposition(|known| known.name == name) else { return };
    passing.savepoints.truncate(at + 1);
    if let Some(savepoint) = passing.savepoints.last() {
        let settings = savepoint.settings.clone();
        passing.local.clone_from(&savepoint.local);
        server.settings = settings.clone();
        state.set(settings);
    }
}

fn discard_all(client: &mut ClientSide, server: &mut ServerConnection, shared: &Shared) {
    book(client, Subscriptions::clear);
    client.statements.clear();
    client.unnamed.statement = None;
    server.statements.clear();
    server.unnamed = None;
    server.doubt = Doubt::None;
    server.sequences = None;
    let state = &mut client.state;
    state.pins = PinReasons::default();
    if let Some(questions) = &mut state.questions {
        questions.next = None;
    }
    state.tidy_questions();
    state.literal = false;
    state.home = None;
    state.passing = None;
    state.resetting = true;
    state.set(state.defaults.clone());
    server.settings = shared.local.interner.intern(ParameterSet::default());
    if !server.base.query.is_empty() {
        server.doubt = Doubt::Any;
    }
}

/// The server is ready for the next batch; outside a transaction everything that was done is committed, or, when
/// something failed, undone.
pub(super) fn ready(idle: bool, client: &mut ClientSide, server: &mut ServerConnection) {
    let failed = std::mem::take(&mut client.state.failed);
    client.state.resetting = false;
    if !idle {
        return;
    }
    // A portal of the next batch may be bound already.
    if server.queue.is_settled() {
        client.state.forget_portals();
    }
    book(client, if failed { Subscriptions::roll_back } else { Subscriptions::commit });
    let state = &mut client.state;
    if state.pins.has(PinReason::Unverified) {
        state.ask();
    }
    if Rc::ptr_eq(&state.settings, &state.committed) && state.pins == state.committed_pins {
        state.forget_local();
        return;
    }
    if failed { roll_back(client, server) } else { commit(client) }
}

/// A setting that the server reports has this value now. True when the client must not be told: it went back to
/// the server's default, but the client's own is another.
pub(super) fn reported(
    name: &str,
    value: &str,
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) -> bool {
    let interner = &shared.local.interner;
    let is_default =
        server.welcome.iter().any(|(known, default)| known.eq_ignore_ascii_case(name) && default == value);
    let tracked = (!is_default).then_some(value);
    if client.state.resetting {
        server.settings = interner.set(&server.settings, name, tracked);
        return client.state.defaults.value(name).is_some();
    }
    if server.settings.value(name) == tracked {
        return false;
    }
    let same = Rc::ptr_eq(&client.state.settings, &server.settings);
    server.settings = interner.set(&server.settings, name, tracked);
    let settings =
        if same { server.settings.clone() } else { interner.set(&client.state.settings, name, tracked) };
    client.state.set(settings);
    false
}

/// The server has said what the client left behind: what can be carried becomes the session's, what cannot pins it.
pub(super) fn answered(
    rows: &[Vec<Option<String>>],
    client: &mut ClientSide,
    server: &mut ServerConnection,
    shared: &Shared,
) {
    let Some(question) = client.state.take_asked() else { return };
    let before = client.state.settings.clone();
    let mut findings = super::question::read(rows);
    let by_hub = |channel: &String| client.listener.as_ref().is_some_and(|listener| listener.has(channel));
    if !findings.channels.iter().all(by_hub) {
        findings.things.add(PinReason::Listen);
    }
    let settings = findings.settings(&before, &server.base.settings);
    let state = &mut client.state;
    state.set(if settings == *before { before.clone() } else { shared.local.interner.intern(settings) });
    state.committed = state.settings.clone();
    server.settings = state.settings.clone();
    let clean = Rc::ptr_eq(&before, &state.settings) && findings.things == state.pins.that_can_be_asked();
    state.pins = state.pins.with_answer(findings.things);
    state.committed_pins = state.pins;
    state.literal &= state.pins.has(PinReason::SqlPrepared);
    question.judge(clean, &shared.proven);
    // A setting of an application's that no function names is not in any view.
    server.doubt = Doubt::Of(client.session);
    if question.may_advance_sequences() {
        server.sequences = Some(client.session);
    }
}

/// The server could not be asked: the client stays where it is.
pub(super) fn unanswered(client: &mut ClientSide) {
    let _ = client.state.take_asked();
    client.state.pins.add(PinReason::Unverified);
    client.state.committed_pins = client.state.pins;
}
