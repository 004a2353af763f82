//! What a statement leaves behind in its session: settings, savepoints, prepared statements, and whether the server
//! must be asked for the rest. Pure.
//!
//! The answer is for the connection pooler: [`of_text`] is asked about each simple query and each prepared
//! statement, and most have no effect, which is found without an allocation. Effects hold only once the server has
//! said that the statement succeeded. What a function or a DO block does inside is not seen here; [`Effects::ask`]
//! says when that could matter.

mod set;

pub use set::is_list;

use crate::calls::{self, Ask, Disturbs, Process, Sequences};
use crate::scan::{Place, UNKNOWN, Word, bare, begins_with, contains, decoded, is_ambiguous, trimmed, words};
use set::{of_reset, of_set, parameter};

/// What the statements of a text do to the session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// Of each statement, in order.
    pub statements: Vec<Effect>,
    /// Whether the server must be asked what is left behind.
    pub ask: Ask,
    /// What it does with sequences.
    pub sequences: Sequences,
    /// It seeds the session's random numbers.
    pub seeds: bool,
    /// It makes something that no reset of the session removes.
    pub is_indelible: bool,
    /// It makes a temporary object, which nobody else can see.
    pub temporary: bool,
    /// It reads the list of the session's prepared statements.
    pub looks_at_prepared: bool,
    /// Whom it disturbs by the number of a server process.
    pub disturbs: Disturbs,
    /// The server process that it ends, where the text says by itself how its number is known.
    pub ends: Option<Process>,
    /// It tells the number of the server process that runs it.
    pub tells_process: bool,
    /// Settings of extensions and applications (`app.user`) that it may set, as far as it names them.
    pub custom: Vec<String>,
    /// Not all of it was looked at, and what was not may do anything.
    pub unseen: bool,
}

/// What one statement does to its session if it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that outlives the transaction.
    None,
    /// SET or `set_config`: the parameter (in lower case) has this value from now on.
    Set(String, String),
    /// SET SESSION CHARACTERISTICS: so many parameters have these values.
    Characteristics(Vec<(&'static str, String)>),
    /// SET LOCAL or SET TRANSACTION: gone with the transaction. Where it is one parameter, which and what.
    SetLocal(Option<(String, String)>),
    /// RESET or SET TO DEFAULT.
    Reset(String),
    /// RESET ALL.
    ResetAll,
    /// DISCARD ALL.
    DiscardAll,
    /// A SET that is not understood.
    Unknown,
    /// SAVEPOINT.
    Savepoint(String),
    /// ROLLBACK TO.
    RollbackTo(String),
    /// RELEASE.
    Release(String),
    /// PREPARE.
    Prepare {
        /// Under which name, and where that stands in the text.
        name: (String, Place),
        /// What follows the name, up to the end of the statement.
        rest: Place,
    },
    /// EXECUTE of a statement with this name, perhaps inside of EXPLAIN or CREATE TABLE AS.
    Execute((String, Place)),
    /// DEALLOCATE of one.
    Deallocate((String, Place)),
    /// DEALLOCATE ALL.
    DeallocateAll,
    /// LISTEN on this channel, as PostgreSQL folds and cuts its name.
    Listen(String),
    /// UNLISTEN of this channel.
    Unlisten(String),
    /// `UNLISTEN *`.
    UnlistenAll,
    /// NOTIFY, or a call of `pg_notify`.
    Notify,
    /// CREATE FUNCTION in C, which loads its library into the server process as LOAD does.
    LoadLibrary,
    /// Nobody else may be connected to this database: DROP DATABASE, ALTER DATABASE that renames or moves it, and CREATE
    /// DATABASE of which it is the template.
    NeedsAlone(String),
    /// DROP ROLE, or ALTER ROLE that renames: who logged in under these names is somebody else from now on.
    Renames(Vec<String>),
}

impl Effects {
    fn is_nothing(&self) -> bool {
        self.statements.iter().all(|effect| *effect == Effect::None)
            && self.ask == Ask::No
            && self.sequences == Sequences::Untouched
            && !self.seeds
            && !self.is_indelible
            && !self.temporary
            && !self.looks_at_prepared
            && self.disturbs == Disturbs::Nobody
            && !self.tells_process
            && !self.unseen
    }

    /// Whether a prepared statement's name stands in the text.
    #[must_use]
    pub fn names_statements(&self) -> bool {
        self.statements.iter().any(|effect| {
            matches!(effect, Effect::Prepare { .. } | Effect::Execute(_) | Effect::Deallocate(_))
        })
    }
}

/// So many words of a text are looked at.
const MOST_WORDS: usize = 16 * 1024;

/// What `text` does, statement by statement; `None` when it leaves nothing behind.
#[must_use]
pub fn of_text(text: &[u8]) -> Option<Effects> {
    if are_surely_none(text) { None } else { of_words(text) }
}

/// As [`of_text`], where the quick answer ([`are_surely_none`]) was no.
#[must_use]
pub fn of_words(text: &[u8]) -> Option<Effects> {
    let effects = look(text, true);
    (!effects.is_nothing()).then_some(effects)
}

/// What a text does that begins like this.
#[must_use]
pub fn of_beginning(text: &[u8]) -> Effects {
    look(text, false)
}

/// What is called by its number, without a text.
#[must_use]
pub fn of_unseen() -> Effects {
    Effects { ask: Ask::Always, unseen: true, ..Effects::default() }
}

fn look(text: &[u8], is_whole: bool) -> Effects {
    let length = text.len();
    let mut is_whole = is_whole && !is_ambiguous(text);
    let text = decoded(text);
    let mut effects = Effects::default();
    let mut statement = Statement::default();
    let mut words = words(&text);
    let mut count = 0usize;
    while let Some((word, place)) = words.next_with_place() {
        count += 1;
        if count > MOST_WORDS {
            is_whole = false;
            break;
        }
        if word == Word::End {
            statement.finish(&mut effects);
        } else {
            statement.words.push(word);
            statement.places.push(place);
        }
    }
    if is_whole {
        statement.finish(&mut effects);
    } else {
        statement.break_off(&mut effects);
        effects = Effects { ask: Ask::Always, unseen: true, ..effects };
    }
    // What the server shows of a PREPARE is the text as it was sent.
    if let Some(Effect::Prepare { rest, .. }) = effects.statements.last_mut() {
        rest.end = length;
    }
    effects
}

/// What a prepared statement does when it is executed, from what follows its name in PREPARE.
#[must_use]
pub fn of_prepared(rest: &[u8]) -> Option<Effects> {
    let text = decoded(rest);
    let mut depth = 0usize;
    let mut words = words(&text);
    while let Some((word, place)) = words.next_with_place() {
        match word {
            Word::Symbol('(') => depth += 1,
            Word::Symbol(')') => depth = depth.saturating_sub(1),
            word if depth == 0 && word.is("as") => return of_text(rest.get(place.end..)?),
            _ => {}
        }
    }
    None
}

/// The words of one statement, and where they stand.
#[derive(Default)]
struct Statement<'a> {
    words: Vec<Word<'a>>,
    places: Vec<Place>,
}

impl Statement<'_> {
    fn finish(&mut self, effects: &mut Effects) {
        if self.words.is_empty() {
            return;
        }
        let mut effect = of_statement(&self.words, &self.places);
        if is_uncertain(&effect) {
            effect = unclear(effect);
            effects.ask = Ask::Always;
        }
        let calls = calls::of_statement(&self.words);
        let understood = matches!(effect, Effect::Set(..) | Effect::SetLocal(Some(_)));
        let ask = if understood { Ask::No } else { calls.ask.max(asks(&effect, &self.words)) };
        effects.ask = effects.ask.max(ask);
        effects.sequences = effects.sequences.max(calls.sequences);
        effects.seeds |= calls.seeds;
        effects.is_indelible |= calls.is_indelible;
        effects.temporary |= is_create_temporary(&self.words);
        effects.looks_at_prepared |= self.words.iter().any(|word| word.is("pg_prepared_statements"));
        effects.ends = effects.ends.or(calls.ends);
        effects.tells_process |= calls.tells_process;
        let itself = || self.words.iter().any(|word| word.is("pg_backend_pid"));
        effects.disturbs = effects.disturbs.max(match calls.disturbs {
            Disturbs::Ends if itself() => Disturbs::EndsItself,
            disturbs => disturbs,
        });
        if effects.ask != Ask::No || matches!(effect, Effect::Execute(_)) {
            self.note_settings(&mut effects.custom);
        }
        effects.statements.push(effect);
        self.words.clear();
        self.places.clear();
    }

    /// Nobody has seen how it goes on.
    fn break_off(&self, effects: &mut Effects) {
        self.note_settings(&mut effects.custom);
        effects.statements.push(match of_statement(&self.words, &self.places) {
            executed @ Effect::Execute(_) if !is_uncertain(&executed) => executed,
            other => unclear(other),
        });
    }

    /// Names of applications' settings that the statement may set.
    fn note_settings(&self, custom: &mut Vec<String>) {
        let block = self.words.first().is_some_and(|first| first.is("do"));
        if let Some(name) = self.words.split_first().and_then(|(first, rest)| assigned(first, rest)) {
            note_name(&name, custom);
        }
        for word in &self.words {
            match word {
                Word::Text(body) if block => note_custom(body, custom),
                Word::Text(name) => note_name(name, custom),
                _ => {}
            }
        }
    }
}

/// Whether a name or a value in what a statement does cannot be read from its text.
fn is_uncertain(effect: &Effect) -> bool {
    let is = |text: &String| text.contains(UNKNOWN);
    match effect {
        Effect::Set(name, value) | Effect::SetLocal(Some((name, value))) => is(name) || is(value),
        Effect::Reset(name)
        | Effect::Savepoint(name)
        | Effect::RollbackTo(name)
        | Effect::Release(name)
        | Effect::Prepare { name: (name, _), .. }
        | Effect::Execute((name, _))
        | Effect::Deallocate((name, _))
        | Effect::Listen(name)
        | Effect::Unlisten(name)
        | Effect::NeedsAlone(name) => is(name),
        Effect::Renames(names) => names.iter().any(is),
        _ => false,
    }
}

/// What is sure of an effect whose names and values are not.
fn unclear(effect: Effect) -> Effect {
    match effect {
        Effect::Set(..)
        | Effect::Characteristics(_)
        | Effect::Reset(_)
        | Effect::ResetAll
        | Effect::Unknown => Effect::Unknown,
        Effect::SetLocal(_) => Effect::SetLocal(None),
        _ => Effect::None,
    }
}

/// Longest name of a custom setting that is taken for one.
const LONGEST_CUSTOM: usize = 100;

/// Whether a text could be the name of a setting of an application.
#[must_use]
pub fn is_custom(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
    };
    text.len() <= LONGEST_CUSTOM && text.contains('.') && text.split('.').all(part)
}

/// Notes what could be such a name.
fn note_name(name: &str, custom: &mut Vec<String>) {
    if custom.len() < MOST_CUSTOM && is_custom(name) {
        let name = name.to_lowercase();
        if !custom.contains(&name) {
            custom.push(name);
        }
    }
}

/// So many names are taken from one text.
const MOST_CUSTOM: usize = 16;

/// Names of custom settings that a DO block sets.
fn note_custom(body: &str, custom: &mut Vec<String>) {
    let body: Vec<Word<'_>> = words(body).collect();
    for (at, word) in body.iter().enumerate() {
        let after = body.get(at + 1..).unwrap_or_default();
        match after {
            [Word::Symbol('('), Word::Text(name), ..] if word.is("set_config") => note_name(name, custom),
            _ => {
                if let Some(name) = assigned(word, after) {
                    note_name(&name, custom);
                }
            }
        }
    }
}

/// What SET sets, if `first` is that.
fn assigned(first: &Word<'_>, rest: &[Word<'_>]) -> Option<String> {
    let (name, _) = parameter(without(rest, &["session", "local"]))?;
    first.is("set").then_some(name)
}

/// Whether the server must be asked after a statement, whatever functions it calls.
fn asks(effect: &Effect, words: &[Word<'_>]) -> Ask {
    let temporary = match words {
        [first, rest @ ..] if first.is("create") => creates_temporary(rest),
        [first, rest @ ..] if first.is("declare") => declares_holdable(rest),
        // With ANALYZE it does what it explains.
        [first, rest @ ..] if first.is("explain") => {
            selects_into_temporary(rest)
                || rest
                    .iter()
                    .position(|word| word.is("create"))
                    .is_some_and(|at| creates_temporary(rest.get(at + 1..).unwrap_or_default()))
        }
        _ => selects_into_temporary(words),
    };
    let in_schema = words.iter().any(|word| word.is("pg_temp") || *word == Word::Quoted("pg_temp".into()));
    if temporary || in_schema || *effect == Effect::Unknown { Ask::Always } else { Ask::No }
}

/// The quick answer: true for what begins with a harmless word, is one statement, and calls nothing that matters.
///
/// It does not hang on what is in a string or a number: if it is true of one text, then all of its template
/// ([`crate::template`]) have no effects.
#[must_use]
pub fn are_surely_none(text: &[u8]) -> bool {
    bare(text).is_some_and(|bare| is_harmless(trimmed(&bare)))
}

fn is_harmless(text: &[u8]) -> bool {
    let known = begins_with(text, &["insert", "update", "delete", "begin", "commit", "end", "copy", "show"]);
    // It makes a table if it has an INTO.
    let select = begins_with(text, &["select", "with"]);
    let body = text.strip_suffix(b";").unwrap_or(text);
    let single = !body.contains(&b';');
    single
        && (known || (select && !contains(text, b"into")))
        && calls::are_clean(body)
        && !contains(body, b"pg_prepared_statements")
}

fn of_statement(words: &[Word<'_>], places: &[Place]) -> Effect {
    match words {
        [first, second, rest @ ..] if first.is("prepare") => {
            if second.is("transaction") && matches!(rest, [Word::Text(_)]) {
                return Effect::None;
            }
            let rest = places.get(1).zip(places.last()).map(|(name, last)| name.end..last.end);
            named(words, places, 1)
                .zip(rest)
                .map_or(Effect::None, |(name, rest)| Effect::Prepare { name, rest })
        }
        [verb, kind, rest @ ..]
            if kind.is("database") && ["drop", "alter", "create"].iter().any(|known| verb.is(known)) =>
        {
            alone(verb, rest).map_or(Effect::None, Effect::NeedsAlone)
        }
        [verb, kind, rest @ ..]
            if ["role", "user", "group"].iter().any(|known| kind.is(known)) && verb.is("drop") =>
        {
            Effect::Renames(names(without(without(rest, &["if"]), &["exists"])))
        }
        [verb, kind, user, rename, ..]
            if ["role", "user", "group"].iter().any(|known| kind.is(known))
                && verb.is("alter")
                && rename.is("rename") =>
        {
            Effect::Renames(names(std::slice::from_ref(user)))
        }
        [first, ..] if first.is("execute") => named(words, places, 1).map_or(Effect::None, Effect::Execute),
        [first, ..] if first.is("explain") || first.is("create") && is_as_execute(words).is_some() => {
            executed(words, places)
        }
        [first, rest @ ..] if first.is("create") && is_in_c(rest) => Effect::LoadLibrary,
        [first, rest @ ..] if first.is("deallocate") => {
            let skipped = usize::from(matches!(rest, [prepare, _, ..] if prepare.is("prepare")));
            if rest.get(skipped).is_some_and(|word| word.is("all")) {
                return Effect::DeallocateAll;
            }
            named(words, places, 1 + skipped).map_or(Effect::None, Effect::Deallocate)
        }
        [first, second, ..] if first.is("discard") && second.is("all") => Effect::DiscardAll,
        [first, rest @ ..] if first.is("set") => of_set(rest),
        [first, rest @ ..] if first.is("reset") => of_reset(rest),
        [first, rest @ ..] if first.is("savepoint") => name(rest).map_or(Effect::None, Effect::Savepoint),
        [first, rest @ ..] if first.is("release") => {
            name(without(rest, &["savepoint"])).map_or(Effect::None, Effect::Release)
        }
        [first, rest @ ..] if first.is("rollback") => of_rollback(rest),
        [first, only] if first.is("listen") => channel(only).map_or(Effect::None, Effect::Listen),
        [first, Word::Symbol('*')] if first.is("unlisten") => Effect::UnlistenAll,
        [first, only] if first.is("unlisten") => channel(only).map_or(Effect::None, Effect::Unlisten),
        [first, _, ..] if first.is("notify") => Effect::Notify,
        _ if words.iter().any(|word| word.is("pg_notify")) => Effect::Notify,
        [first, rest @ ..] if first.is("select") => of_select(rest),
        _ => Effect::None,
    }
}

/// The names in a list.
fn names(words: &[Word<'_>]) -> Vec<String> {
    words.iter().filter_map(|word| name(std::slice::from_ref(word))).collect()
}

/// The database to which nobody else may be connected, from what follows the word DATABASE.
fn alone(verb: &Word<'_>, words: &[Word<'_>]) -> Option<String> {
    let moves = |rest: &[Word<'_>]| rest.iter().any(|word| word.is("rename") || word.is("tablespace"));
    if verb.is("drop") {
        return name(without(without(words, &["if"]), &["exists"]));
    }
    if verb.is("alter") {
        return moves(words).then(|| name(words)).flatten();
    }
    let template = words.iter().position(|word| word.is("template")).and_then(|at| words.get(at + 1..));
    let Some(template) = template else { return Some("template1".to_owned()) };
    match template {
        [Word::Symbol('='), template @ ..] | template => match template.first()? {
            Word::Text(template) => Some(template.clone()),
            word => name(std::slice::from_ref(word)),
        },
    }
}

/// Whether CREATE makes a function whose code is in a library.
fn is_in_c(words: &[Word<'_>]) -> bool {
    let kind = without(without(words, &["or"]), &["replace"]).first();
    let in_c = |language: &Word<'_>| {
        language.is("c") || matches!(language, Word::Text(name) if name.eq_ignore_ascii_case("c"))
    };
    kind.is_some_and(|kind| kind.is("function") || kind.is("procedure"))
        && words.windows(2).any(|two| matches!(two, [a, b] if a.is("language") && in_c(b)))
}

/// The name at `at`, and where it stands.
fn named(words: &[Word<'_>], places: &[Place], at: usize) -> Option<(String, Place)> {
    Some((name(words.get(at..)?)?, places.get(at)?.clone()))
}

/// Where EXECUTE stands in `CREATE TABLE … AS EXECUTE`.
fn is_as_execute(words: &[Word<'_>]) -> Option<usize> {
    let at = words.windows(2).position(|two| matches!(two, [a, b] if a.is("as") && b.is("execute")))?;
    Some(at + 1)
}

/// The EXECUTE inside of EXPLAIN or CREATE TABLE AS.
fn executed(words: &[Word<'_>], places: &[Place]) -> Effect {
    let at = is_as_execute(words).or_else(|| {
        let mut depth = 0usize;
        let verb = |word: &Word<'_>| match word {
            Word::Symbol('(') => {
                depth += 1;
                false
            }
            Word::Symbol(')') => {
                depth = depth.saturating_sub(1);
                false
            }
            word => {
                depth == 0
                    && !["explain", "analyze", "analyse", "verbose"].iter().any(|option| word.is(option))
            }
        };
        let at = words.iter().position(verb)?;
        words.get(at).filter(|word| word.is("execute")).map(|_| at)
    });
    at.and_then(|at| named(words, places, at + 1)).map_or(Effect::None, Effect::Execute)
}

/// `words` without the first of `optional` that it begins with.
fn without<'a, 'b>(words: &'b [Word<'a>], optional: &[&str]) -> &'b [Word<'a>] {
    match words {
        [first, rest @ ..] if optional.iter().any(|word| first.is(word)) => rest,
        _ => words,
    }
}

/// The identifier at the start, as PostgreSQL folds it.
fn name(words: &[Word<'_>]) -> Option<String> {
    match words.first()? {
        Word::Bare(name) => Some(name.to_lowercase()),
        Word::Quoted(name) => Some(name.clone()),
        _ => None,
    }
}

/// Bytes of an identifier, without its end (NAMEDATALEN is 64); PostgreSQL cuts longer ones between characters.
const LONGEST_NAME: usize = 63;

/// The name of a channel. Only letters of ASCII are folded, as in a server whose encoding is UTF-8.
fn channel(word: &Word<'_>) -> Option<String> {
    let mut name = match word {
        Word::Bare(name) => name.to_ascii_lowercase(),
        Word::Quoted(name) if !name.is_empty() => name.clone(),
        _ => return None,
    };
    let cut = (0..=LONGEST_NAME).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    name.truncate(cut);
    Some(name)
}

fn of_rollback(words: &[Word<'_>]) -> Effect {
    match without(words, &["work", "transaction"]) {
        [first, rest @ ..] if first.is("to") => {
            name(without(rest, &["savepoint"])).map_or(Effect::None, Effect::RollbackTo)
        }
        _ => Effect::None,
    }
}

/// CREATE TEMP…
fn is_create_temporary(words: &[Word<'_>]) -> bool {
    matches!(words, [first, rest @ ..] if first.is("create")
        && rest.iter().take(4).any(|word| word.is("temp") || word.is("temporary")))
}

/// SELECT INTO TEMP, in parentheses or behind WITH too.
fn selects_into_temporary(words: &[Word<'_>]) -> bool {
    let mut into = words.split(|word| word.is("into")).skip(1);
    into.any(|target| {
        let target = target
            .iter()
            .position(|word| !(word.is("local") || word.is("global")))
            .and_then(|at| target.get(at));
        target.is_some_and(|word| word.is("temp") || word.is("temporary"))
    })
}

/// CREATE TEMP…, unless it is gone with the transaction.
fn creates_temporary(words: &[Word<'_>]) -> bool {
    let words = match words {
        [first, second, rest @ ..] if first.is("or") && second.is("replace") => rest,
        _ => words,
    };
    let words = without(words, &["local", "global"]);
    let temporary = matches!(words, [first, ..] if first.is("temp") || first.is("temporary"));
    let dropped = words
        .windows(3)
        .any(|three| matches!(three, [a, b, c] if a.is("on") && b.is("commit") && c.is("drop")));
    temporary && !dropped
}

fn declares_holdable(words: &[Word<'_>]) -> bool {
    let head = words.split(|word| word.is("for")).next().unwrap_or_default();
    head.windows(2).any(|two| matches!(two, [a, b] if a.is("with") && b.is("hold")))
}

/// `SELECT [pg_catalog.]set_config('name', 'value', false)` and nothing else is a SET.
fn of_select(words: &[Word<'_>]) -> Effect {
    let call = match words {
        [schema, Word::Symbol('.'), rest @ ..] if schema.is("pg_catalog") => rest,
        _ => words,
    };
    match call {
        [
            function,
            Word::Symbol('('),
            Word::Text(name),
            Word::Symbol(','),
            Word::Text(value),
            Word::Symbol(','),
            local,
            Word::Symbol(')'),
        ] if function.is("set_config") => match local {
            local if local.is("true") => Effect::SetLocal(Some((name.to_lowercase(), value.clone()))),
            local if local.is("false") => Effect::Set(name.to_lowercase(), value.clone()),
            _ => Effect::None,
        },
        _ => Effect::None,
    }
}

#[cfg(test)]
mod tests;
