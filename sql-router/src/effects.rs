//! What a statement leaves behind in its session: settings, savepoints, and things that only its server connection
//! has. Pure.
//!
//! The answer is for the connection pooler: [`of_text`] is asked about each simple query and each prepared
//! statement, and most have no effect, which is found without an allocation. Effects hold only once the server has
//! said that the statement succeeded. What a function or a DO block does inside is not seen here.

use crate::scan::{Word, contains, words};

/// What one statement does to its session if it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that outlives the transaction.
    None,
    /// SET or `set_config`: the parameter (in lower case) has this value from now on.
    Set(String, String),
    /// SET LOCAL or SET TRANSACTION: gone with the transaction.
    SetLocal,
    /// RESET or SET TO DEFAULT.
    Reset(String),
    /// RESET ALL.
    ResetAll,
    /// A SET that is not understood.
    Unknown,
    /// SAVEPOINT.
    Savepoint(String),
    /// ROLLBACK TO.
    RollbackTo(String),
    /// RELEASE.
    Release(String),
    /// Makes something that only this server connection has.
    Makes(Thing),
    /// That is gone, all of it.
    Drops(Thing),
    /// LISTEN on this channel, as PostgreSQL folds and cuts its name.
    Listen(String),
    /// UNLISTEN of this channel.
    Unlisten(String),
    /// `UNLISTEN *`, or DISCARD ALL, which does that too.
    UnlistenAll,
    /// NOTIFY, or a call of `pg_notify`.
    Notify,
}

/// What only one server connection can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// A temporary table, view or sequence.
    Temporary,
    /// A cursor WITH HOLD.
    HoldableCursor,
    /// A session-level advisory lock.
    AdvisoryLock,
}

/// Longest text that is looked at word by word; a longer one is a bulk load, not a SET. What it does is still seen
/// by its command tags.
const LONGEST: usize = 64 * 1024;

/// The effects of each statement of `text`, in order; `None` when no statement has any.
#[must_use]
pub fn of_text(text: &[u8]) -> Option<Vec<Effect>> {
    if text.len() > LONGEST || !may_have_effects(text) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let mut effects = Vec::new();
    let mut statement = Vec::new();
    for word in words(text) {
        if word == Word::End {
            finish(&mut statement, &mut effects);
        } else {
            statement.push(word);
        }
    }
    finish(&mut statement, &mut effects);
    effects.iter().any(|effect| *effect != Effect::None).then_some(effects)
}

fn finish(statement: &mut Vec<Word<'_>>, effects: &mut Vec<Effect>) {
    if !statement.is_empty() {
        effects.push(of_statement(statement));
        statement.clear();
    }
}

/// The quick answer: false for what begins with a harmless word, is one statement, and calls nothing that matters.
fn may_have_effects(text: &[u8]) -> bool {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(text.len());
    let first = text.get(start..).unwrap_or_default();
    let end = first.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(first.len());
    let word = first.get(..end).unwrap_or_default();
    let harmless =
        [&b"insert"[..], b"update", b"delete", b"begin", b"commit", b"end", b"copy", b"show", b"with"];
    let known = harmless.iter().any(|known| word.eq_ignore_ascii_case(known));
    let select = word.eq_ignore_ascii_case(b"select");
    let body = text.trim_ascii_end();
    let body = body.strip_suffix(b";").unwrap_or(body);
    let single = !body.contains(&b';');
    let calls = contains(text, b"set_config") || contains(text, b"advisory") || contains(text, b"pg_notify");
    !(single && !calls && (known || (select && !contains(text, b"into"))))
}

fn of_statement(words: &[Word<'_>]) -> Effect {
    match words {
        [first, rest @ ..] if first.is("set") => of_set(rest),
        [first, rest @ ..] if first.is("reset") => of_reset(rest),
        [first, rest @ ..] if first.is("savepoint") => name(rest).map_or(Effect::None, Effect::Savepoint),
        [first, rest @ ..] if first.is("release") => {
            name(without(rest, &["savepoint"])).map_or(Effect::None, Effect::Release)
        }
        [first, rest @ ..] if first.is("rollback") => of_rollback(rest),
        [first, second, ..] if first.is("discard") && (second.is("temp") || second.is("temporary")) => {
            Effect::Drops(Thing::Temporary)
        }
        [first, rest @ ..] if first.is("create") => of_create(rest),
        [first, only] if first.is("listen") => channel(only).map_or(Effect::None, Effect::Listen),
        [first, Word::Symbol('*')] if first.is("unlisten") => Effect::UnlistenAll,
        [first, second] if first.is("discard") && second.is("all") => Effect::UnlistenAll,
        [first, only] if first.is("unlisten") => channel(only).map_or(Effect::None, Effect::Unlisten),
        [first, _, ..] if first.is("notify") => Effect::Notify,
        [first, rest @ ..] if first.is("declare") => of_declare(rest),
        [first, second, ..] if first.is("close") && second.is("all") => Effect::Drops(Thing::HoldableCursor),
        [first, rest @ ..] if first.is("select") => of_select(rest),
        _ => of_calls(words),
    }
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

fn of_set(words: &[Word<'_>]) -> Effect {
    let local = matches!(words, [first, second, ..] if first.is("local") && !is_assignment(second));
    if local {
        return Effect::SetLocal;
    }
    let session = matches!(words, [first, second, ..] if first.is("session") && !is_assignment(second));
    let words = if session { words.get(1..).unwrap_or_default() } else { words };
    match words {
        [first, ..] if first.is("transaction") || first.is("constraints") => Effect::SetLocal,
        [first, ..] if first.is("characteristics") => Effect::Unknown,
        [first, second, value] if first.is("time") && second.is("zone") => special("timezone", value),
        [first, value] if first.is("authorization") => special("session_authorization", value),
        [first, value] if first.is("role") => special("role", value),
        [first, value] if first.is("names") => special("client_encoding", value),
        [first, Word::Text(schema)] if first.is("schema") => {
            Effect::Set("search_path".into(), quoted(schema))
        }
        _ => of_assignment(words),
    }
}

fn is_assignment(word: &Word<'_>) -> bool {
    word.is("to") || *word == Word::Symbol('=') || *word == Word::Symbol('.')
}

/// The value of a form that takes one word: `SET ROLE x`.
fn special(parameter: &str, value: &Word<'_>) -> Effect {
    match value {
        word if word.is("default") || word.is("local") => Effect::Reset(parameter.into()),
        Word::Bare(word) => Effect::Set(parameter.into(), word.to_lowercase()),
        Word::Quoted(text) | Word::Text(text) => Effect::Set(parameter.into(), text.clone()),
        Word::Number(number) => Effect::Set(parameter.into(), (*number).to_owned()),
        Word::Symbol(_) | Word::End => Effect::Unknown,
    }
}

/// `name[.name] { TO | = } value [, ...]`
fn of_assignment(words: &[Word<'_>]) -> Effect {
    let Some((parameter, rest)) = parameter(words) else { return Effect::Unknown };
    let [assignment, values @ ..] = rest else { return Effect::Unknown };
    if !(assignment.is("to") || *assignment == Word::Symbol('=')) {
        return Effect::Unknown;
    }
    if let [only] = values
        && only.is("default")
    {
        return Effect::Reset(parameter);
    }
    let elements: Option<Vec<String>> = values
        .split(|word| *word == Word::Symbol(','))
        .map(|element| of_value(element, &parameter))
        .collect();
    match elements {
        Some(elements) => Effect::Set(parameter, elements.join(", ")),
        None => Effect::Unknown,
    }
}

/// A parameter's name, with a prefix where it has one.
fn parameter<'a, 'b>(words: &'b [Word<'a>]) -> Option<(String, &'b [Word<'a>])> {
    let first = name(words)?.to_lowercase();
    match words.get(1..)? {
        [Word::Symbol('.'), rest @ ..] => {
            Some((format!("{first}.{}", name(rest)?.to_lowercase()), rest.get(1..)?))
        }
        rest => Some((first, rest)),
    }
}

/// One element of a SET. In a list of identifiers each is written so that it is read as it was meant.
fn of_value(words: &[Word<'_>], parameter: &str) -> Option<String> {
    let list = is_list(parameter);
    match words {
        [Word::Bare(word)] if list => Some(quoted(&word.to_lowercase())),
        [Word::Quoted(text) | Word::Text(text)] if list => Some(quoted(text)),
        [Word::Bare(word)] => Some((*word).to_owned()),
        [Word::Quoted(text) | Word::Text(text)] => Some(text.clone()),
        [Word::Number(number)] => Some((*number).to_owned()),
        [Word::Symbol(sign @ ('-' | '+')), Word::Number(number)] => Some(format!("{sign}{number}")),
        _ => None,
    }
}

/// Parameters that hold a list of identifiers.
#[must_use]
pub fn is_list(parameter: &str) -> bool {
    matches!(
        parameter,
        "search_path" | "temp_tablespaces" | "local_preload_libraries" | "session_preload_libraries"
    )
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn of_reset(words: &[Word<'_>]) -> Effect {
    match words {
        [only] if only.is("all") => Effect::ResetAll,
        [first, second] if first.is("time") && second.is("zone") => Effect::Reset("timezone".into()),
        [first, second] if first.is("session") && second.is("authorization") => {
            Effect::Reset("session_authorization".into())
        }
        [first, ..] if first.is("transaction") => Effect::SetLocal,
        _ => match parameter(words) {
            Some((parameter, [])) => Effect::Reset(parameter),
            _ => Effect::Unknown,
        },
    }
}

fn of_rollback(words: &[Word<'_>]) -> Effect {
    match without(words, &["work", "transaction"]) {
        [first, rest @ ..] if first.is("to") => {
            name(without(rest, &["savepoint"])).map_or(Effect::None, Effect::RollbackTo)
        }
        _ => Effect::None,
    }
}

fn of_create(words: &[Word<'_>]) -> Effect {
    let words = match words {
        [first, second, rest @ ..] if first.is("or") && second.is("replace") => rest,
        _ => words,
    };
    let words = without(words, &["local", "global"]);
    let temporary = matches!(words, [first, ..] if first.is("temp") || first.is("temporary"));
    let dropped = words
        .windows(3)
        .any(|three| matches!(three, [a, b, c] if a.is("on") && b.is("commit") && c.is("drop")));
    if temporary && !dropped { Effect::Makes(Thing::Temporary) } else { Effect::None }
}

fn of_declare(words: &[Word<'_>]) -> Effect {
    let head = words.split(|word| word.is("for")).next().unwrap_or_default();
    let hold = head.windows(2).any(|two| matches!(two, [a, b] if a.is("with") && b.is("hold")));
    if hold { Effect::Makes(Thing::HoldableCursor) } else { Effect::None }
}

/// `SELECT [pg_catalog.]set_config('name', 'value', false)` and nothing else is a SET; other calls of it, and
/// session-level advisory locks, are seen as such.
fn of_select(words: &[Word<'_>]) -> Effect {
    let call = match words {
        [schema, Word::Symbol('.'), rest @ ..] if schema.is("pg_catalog") => rest,
        _ => words,
    };
    if let [
        function,
        Word::Symbol('('),
        Word::Text(name),
        Word::Symbol(','),
        value,
        Word::Symbol(','),
        local,
        Word::Symbol(')'),
    ] = call
        && function.is("set_config")
    {
        return match (value, local) {
            (_, local) if local.is("true") => Effect::SetLocal,
            (Word::Text(value), local) if local.is("false") => {
                Effect::Set(name.to_lowercase(), value.clone())
            }
            _ => Effect::Unknown,
        };
    }
    let into_temporary =
        |two: &[Word<'_>]| matches!(two, [a, b] if a.is("into") && (b.is("temp") || b.is("temporary")));
    if words.windows(2).any(into_temporary) { Effect::Makes(Thing::Temporary) } else { of_calls(words) }
}

/// What functions called anywhere in a statement leave behind.
fn of_calls(words: &[Word<'_>]) -> Effect {
    let calls = |function: &str| words.iter().any(|word| word.is(function));
    if calls("set_config") {
        Effect::Unknown
    } else if calls("pg_advisory_unlock_all") {
        Effect::Drops(Thing::AdvisoryLock)
    } else if [
        "pg_advisory_lock",
        "pg_try_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_try_advisory_lock_shared",
    ]
    .into_iter()
    .any(calls)
    {
        Effect::Makes(Thing::AdvisoryLock)
    } else if calls("pg_notify") {
        Effect::Notify
    } else {
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Effect {
        let mut effects = of_text(text.as_bytes()).unwrap_or_else(|| vec![Effect::None]);
        assert_eq!(effects.len(), 1, "{text}");
        effects.remove(0)
    }

    fn set(name: &str, value: &str) -> Effect {
        Effect::Set(name.into(), value.into())
    }

    #[test]
    fn settings_are_read_as_they_are_meant() {
        assert_eq!(one("SET search_path TO a, \"B c\", 'd'"), set("search_path", "\"a\", \"B c\", \"d\""));
        assert_eq!(one("set session Work_Mem = '4MB';"), set("work_mem", "4MB"));
        assert_eq!(one("SET statement_timeout = 100"), set("statement_timeout", "100"));
        assert_eq!(one("SET seed TO -0.5"), set("seed", "-0.5"));
        assert_eq!(one("SET MyApp.User TO 'O''Clock'"), set("myapp.user", "O'Clock"));
        assert_eq!(one("SET TIME ZONE 'Europe/Paris'"), set("timezone", "Europe/Paris"));
        assert_eq!(one("SET ROLE \"Bob\""), set("role", "Bob"));
        assert_eq!(one("SET SESSION AUTHORIZATION alice"), set("session_authorization", "alice"));
        assert_eq!(one("SET NAMES 'UTF8'"), set("client_encoding", "UTF8"));
        assert_eq!(one("SET datestyle TO ISO, DMY"), set("datestyle", "ISO, DMY"));
        assert_eq!(one("SELECT pg_catalog.set_config('search_path', '', false)"), set("search_path", ""));
        assert_eq!(one("SET work_mem TO DEFAULT"), Effect::Reset("work_mem".into()));
        assert_eq!(one("RESET ALL"), Effect::ResetAll);
        assert_eq!(one("RESET myapp.user"), Effect::Reset("myapp.user".into()));
    }

    #[test]
    fn what_ends_with_the_transaction_is_told_apart() {
        for text in [
            "SET LOCAL work_mem = 1",
            "SET TRANSACTION READ ONLY",
            "SET SESSION TRANSACTION READ ONLY",
            "SELECT set_config('a', 'b', true)",
        ] {
            assert_eq!(one(text), Effect::SetLocal, "{text}");
        }
        assert_eq!(one("ROLLBACK TO SAVEPOINT A"), Effect::RollbackTo("a".into()));
        assert_eq!(one("release \"B\""), Effect::Release("B".into()));
        assert_eq!(one("ROLLBACK"), Effect::None);
    }

    #[test]
    fn what_is_not_understood_says_so() {
        for text in [
            "SET x TO (1)",
            "SELECT set_config(a, b, false) FROM t",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        ] {
            assert_eq!(one(text), Effect::Unknown, "{text}");
        }
    }

    #[test]
    fn what_only_one_connection_has_is_seen() {
        assert_eq!(one("CREATE TEMP TABLE t (a int)"), Effect::Makes(Thing::Temporary));
        assert_eq!(one("create local temporary view v as select 1"), Effect::Makes(Thing::Temporary));
        assert_eq!(one("CREATE TEMP TABLE t (a int) ON COMMIT DROP"), Effect::None);
        assert_eq!(one("select 1 into temp t"), Effect::Makes(Thing::Temporary));
        assert_eq!(one("DECLARE c CURSOR WITH HOLD FOR SELECT 1"), Effect::Makes(Thing::HoldableCursor));
        assert_eq!(one("DECLARE c CURSOR FOR SELECT 'with hold'"), Effect::None);
        assert_eq!(one("SELECT pg_advisory_lock(1)"), Effect::Makes(Thing::AdvisoryLock));
        assert_eq!(
            one("WITH a AS (SELECT pg_advisory_lock(1)) SELECT 1"),
            Effect::Makes(Thing::AdvisoryLock)
        );
        assert_eq!(one("INSERT INTO t SELECT set_config('a', 'b', false)"), Effect::Unknown);
        assert_eq!(one("SELECT pg_advisory_xact_lock(1)"), Effect::None);
        assert_eq!(one("SELECT pg_advisory_unlock_all()"), Effect::Drops(Thing::AdvisoryLock));
    }

    #[test]
    fn channels_are_named_as_the_server_names_them() {
        assert_eq!(one("LISTEN Jobs"), Effect::Listen("jobs".into()));
        assert_eq!(one("listen /* all */ \"Big \"\"Jobs\" ;"), Effect::Listen("Big \"Jobs".into()));
        assert_eq!(one("LISTEN ÄRGER"), Effect::Listen("Ärger".into()));
        assert_eq!(one("UNLISTEN Jobs"), Effect::Unlisten("jobs".into()));
        assert_eq!(one("unlisten *"), Effect::UnlistenAll);
        assert_eq!(one("discard all"), Effect::UnlistenAll);
        let long = "x".repeat(62) + "ä" + "y";
        assert_eq!(one(&format!("LISTEN {long}")), Effect::Listen("x".repeat(62)));
        assert_eq!(one(&format!("LISTEN {}", "x".repeat(64))), Effect::Listen("x".repeat(63)));
        for text in ["LISTEN", "LISTEN U&\"d\\0061t\"", "LISTEN 'a'", "LISTEN a b", "LISTEN \"\""] {
            assert_eq!(one(text), Effect::None, "{text}");
        }
    }

    #[test]
    fn who_notifies_is_seen() {
        assert_eq!(one("NOTIFY jobs"), Effect::Notify);
        assert_eq!(one("notify jobs, 'one; two'"), Effect::Notify);
        assert_eq!(one("SELECT pg_notify('jobs', $1)"), Effect::Notify);
        assert_eq!(one("WITH a AS (SELECT 1) SELECT PG_NOTIFY('a', 'b') FROM a"), Effect::Notify);
        assert_eq!(one("SELECT 'pg_notify'"), Effect::None);
    }

    #[test]
    fn most_texts_have_no_effect() {
        for text in [
            "SELECT 1",
            "select abalance from t where aid = 1;",
            "UPDATE t SET a = 1",
            "BEGIN",
            "",
            ";;",
            "insert into t values (';')",
        ] {
            assert_eq!(of_text(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn each_statement_of_a_text_has_its_place() {
        assert_eq!(
            of_text(b"SELECT 1; SET a TO 1;; SELECT ';SET b TO 2'"),
            Some(vec![Effect::None, set("a", "1"), Effect::None])
        );
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text: Vec<u8>) {
            let _ = of_text(&text);
        }

        #[test]
        fn any_set_is_judged(text in "(SET|RESET|SELECT|CREATE|ROLLBACK|DECLARE)( |LOCAL|TO|=|,|'|\"|;|[a-z.]|\\(|\\)){0,20}") {
            let _ = of_text(text.as_bytes());
        }
    }
}
