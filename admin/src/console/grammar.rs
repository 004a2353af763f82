//! What an operator says, and what it means. Pure.
//!
//! PgBouncer's commands in any case, with its faked settings; `SELECT x` is `SHOW x` as there. Statements with which
//! drivers begin and end transactions are accepted and do nothing.

use super::Failure;
use super::catalog::{self, Answer};
use super::select::{self, Query};
use super::tokens::Token;
use crate::door::{Order, Scope, Shutdown};
use crate::tables::{self, Table};

/// Every command with what it does, for SHOW HELP and the reference.
pub const COMMANDS: &[(&str, &str)] = &[
    ("SHOW <table>", "The table; their names are below."),
    ("SELECT … FROM hawser.<table>", "Part of a table."),
    ("SET key = value", "Change a setting, by PgBouncer's name or ours, until the next RELOAD."),
    (
        "RELOAD",
        "Read the settings again. If they are wrong, the running ones stay, and every mistake is named.",
    ),
    (
        "PAUSE [database]",
        "Let transactions end, close their server connections, and lend none; clients wait. Answered when that is done.",
    ),
    (
        "HOLD [database]",
        "Before a switchover: let transactions on the primary end and begin none; reads on standbys go on. Answered when nothing is under way on the primary. Ends by itself when there is a new primary, or after two thirds of `timeouts.hold`.",
    ),
    ("RELEASE [database]", "End HOLD, if it has not ended by itself."),
    (
        "EXPLAIN ROUTE [database] 'sql'",
        "Where each statement would go, and why, as far as that is up to its text. With a database of several hosts: which of them would have it `now`, from a session that has set and written nothing; and why the primary stands in (`instead`) where a standby would do.",
    ),
    ("SUSPEND", "Let transactions end and lend no server connection; those that are open stay open."),
    ("RESUME [database]", "End PAUSE, SUSPEND or KILL."),
    ("BAN host", "Read nothing from this standby from now on; what is under way there ends in peace."),
    ("UNBAN host", "Let this standby be read from again."),
    (
        "DRAIN host",
        "As BAN, and its free server connections are closed; answered when none leads there any more, or with an error after `timeouts.shutdown`.",
    ),
    ("DISABLE database", "Refuse new clients."),
    ("ENABLE database", "Let new clients in again."),
    ("RECONNECT [database]", "Replace every server connection as soon as it is free."),
    ("WAIT_CLOSE [database]", "Answered when all that RECONNECT or RELOAD has outdated are closed."),
    ("KILL [database]", "Drop clients and server connections at once, and pause."),
    ("KILL_CLIENT id", "Drop one client."),
    (
        "SHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]",
        "End: at once; when transactions are over; when clients have left.",
    ),
];

/// What was said.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    /// A whole table.
    Show(&'static Table),
    /// Part of a table.
    Query(Query),
    /// The list of commands.
    Help,
    /// A setting of a server that is not there: its name and value.
    Faked(&'static str, &'static str),
    /// Something to be done, and the tag that says so.
    Order(Order, String),
    /// SET of a faked setting.
    Ignored,
    /// BEGIN, COMMIT and the like, with their tags.
    Nothing(&'static str),
    /// A catalog that is not there, or a constant.
    Catalog(Answer),
    /// Where a text would go: a database, if it was named, and the text.
    Explain(Option<String>, String),
}

/// Settings that drivers ask for and set. Source: `fake_show` in PgBouncer's `src/admin.c`; the last two are what
/// SQLAlchemy and pgjdbc ask.
const FAKED: &[(&str, &str)] = &[
    ("client_encoding", "UTF-8"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("datestyle", "ISO"),
    ("timezone", "GMT"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
];

/// Settings that drivers set, and that nobody asks for.
const SETTABLE: &[&str] = &[
    "extra_float_digits",
    "application_name",
    "search_path",
    "statement_timeout",
    "intervalstyle",
    "bytea_output",
    "client_min_messages",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "session",
    "time",
    "transaction",
];

/// The meaning of one statement. `text` is what was written, for errors.
pub(super) fn read(tokens: &[Token], text: &str) -> Result<Statement, Failure> {
    let [first, rest @ ..] = tokens else { return Err(invalid(text)) };
    let word = match first {
        Token::Word(word) => word.to_lowercase(),
        _ => return Err(invalid(text)),
    };
    match word.as_str() {
        "show" => show(rest, text),
        "select" => choose(tokens, rest, text),
        "explain" => explain(rest, text),
        "with" | "values" => {
            Err(Failure::new("0A000", format!("the console does not know {}", word.to_uppercase())))
        }
        "set" => set(rest, text),
        "begin" | "start" => {
            Ok(Statement::Nothing(if word == "begin" { "BEGIN" } else { "START TRANSACTION" }))
        }
        "commit" | "end" => Ok(Statement::Nothing("COMMIT")),
        "rollback" | "abort" => Ok(Statement::Nothing("ROLLBACK")),
        "reset" => Ok(Statement::Nothing("RESET")),
        "discard" => Ok(Statement::Nothing("DISCARD ALL")),
        "deallocate" => Ok(Statement::Nothing("DEALLOCATE ALL")),
        "close" => Ok(Statement::Nothing("CLOSE CURSOR ALL")),
        "unlisten" => Ok(Statement::Nothing("UNLISTEN")),
        _ => command(&word, rest, text),
    }
}

fn invalid(text: &str) -> Failure {
    let shown: String = text.trim().chars().take(80).collect();
    Failure::syntax(format!("invalid command '{shown}', use SHOW HELP;"))
}

fn command(word: &str, rest: &[Token], text: &str) -> Result<Statement, Failure> {
    if let Some(order) = of_host(word, rest) {
        return Ok(Statement::Order(order, word.to_uppercase()));
    }
    let argument = match rest {
        [] => None,
        [one] => Some(one),
        _ => return Err(invalid(text)),
    };
    let name = || argument.map(|token| argument_text(token).ok_or_else(|| invalid(text))).transpose();
    let scope = || Ok::<_, Failure>(name()?.map_or(Scope::All, Scope::Database));
    let needed = || name()?.ok_or_else(|| Failure::syntax("a database is required"));
    let alone = |order: Order| if argument.is_none() { Ok(order) } else { Err(invalid(text)) };
    let order = match word {
        "pause" => Order::Pause(scope()?),
        "suspend" => alone(Order::Suspend)?,
        "hold" => Order::Hold(scope()?),
        "release" => Order::Release(scope()?),
        "resume" => Order::Resume(scope()?),
        "disable" => Order::Disable(needed()?),
        "enable" => Order::Enable(needed()?),
        "reconnect" => Order::Reconnect(scope()?),
        "wait_close" => Order::WaitClose(scope()?),
        "kill" => Order::Kill(scope()?),
        "kill_client" => {
            let number = name()?.and_then(|text| text.parse().ok());
            Order::KillClient(number.ok_or_else(|| Failure::syntax("invalid client pointer supplied"))?)
        }
        "reload" => alone(Order::Reload)?,
        "shutdown" => Order::Shutdown(match name()?.map(|name| name.to_lowercase()).as_deref() {
            None => Shutdown::Immediate,
            Some("wait_for_servers") => Shutdown::WaitForServers,
            Some("wait_for_clients") => Shutdown::WaitForClients,
            Some(_) => return Err(invalid(text)),
        }),
        _ => return Err(invalid(text)),
    };
    Ok(Statement::Order(order, word.to_uppercase()))
}

/// Orders about a host: `db1:5432`, with or without quotes.
fn of_host(word: &str, rest: &[Token]) -> Option<Order> {
    let order = match word {
        "ban" => Order::Ban,
        "unban" => Order::Unban,
        "drain" => Order::Drain,
        _ => return None,
    };
    let part = |token: &Token| match token {
        Token::Sign(sign) => Some(sign.clone()),
        token => argument_text(token),
    };
    let host: Option<String> = rest.iter().map(part).collect();
    host.filter(|host| !host.is_empty()).map(order)
}

/// The argument of a command: case is kept, as in PgBouncer.
fn argument_text(token: &Token) -> Option<String> {
    match token {
        Token::Word(text) | Token::Quoted(text) | Token::Text(text) | Token::Number(text) => {
            Some(text.clone())
        }
        Token::Parameter(_) | Token::Sign(_) => None,
    }
}

/// `EXPLAIN ROUTE [database] 'sql'`.
fn explain(rest: &[Token], text: &str) -> Result<Statement, Failure> {
    match rest {
        [route, Token::Text(sql)] if route.is("route") => Ok(Statement::Explain(None, sql.clone())),
        [route, database, Token::Text(sql)] if route.is("route") => {
            let database = argument_text(database).ok_or_else(|| invalid(text))?;
            Ok(Statement::Explain(Some(database), sql.clone()))
        }
        _ => Err(invalid(text)),
    }
}

fn show(rest: &[Token], text: &str) -> Result<Statement, Failure> {
    let words: Vec<String> = rest.iter().filter_map(Token::name).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.len() != rest.len() {
        return Err(invalid(text));
    }
    match words.as_slice() {
        ["help"] => Ok(Statement::Help),
        ["time", "zone"] => Ok(Statement::Faked("timezone", "GMT")),
        ["transaction", "isolation", "level"] => {
            Ok(Statement::Faked("transaction_isolation", "read committed"))
        }
        [name] => named(name).ok_or_else(|| invalid(text)),
        _ => Err(invalid(text)),
    }
}

fn named(name: &str) -> Option<Statement> {
    let faked = || FAKED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    tables::find(name)
        .map(Statement::Show)
        .or_else(|| faked().map(|(name, value)| Statement::Faked(name, value)))
}

/// `SELECT`: a table by its name, part of a table, a constant, or a question to a catalog that is not there.
fn choose(tokens: &[Token], rest: &[Token], text: &str) -> Result<Statement, Failure> {
    if let [one] = rest
        && let Some(statement) = one.name().as_deref().and_then(named)
    {
        return Ok(statement);
    }
    if let Some(answer) = catalog::answer(rest) {
        return Ok(Statement::Catalog(answer));
    }
    if rest.iter().any(|token| token.is("from")) {
        return select::read(tokens).map(Statement::Query);
    }
    Err(invalid(text))
}

fn set(rest: &[Token], text: &str) -> Result<Statement, Failure> {
    let rest = match rest {
        [scope, name, ..] if (scope.is("session") || scope.is("local")) && !name.is("characteristics") => {
            rest.get(1..).unwrap_or_default()
        }
        rest => rest,
    };
    let [first, after @ ..] = rest else { return Err(invalid(text)) };
    let mut key = first.name().ok_or_else(|| invalid(text))?;
    let mut after = after;
    // Our names have dots.
    while let [dot, part, more @ ..] = after
        && dot.is(".")
    {
        key = format!("{key}.{}", part.name().ok_or_else(|| invalid(text))?);
        after = more;
    }
    let faked = FAKED.iter().any(|(known, _)| known.eq_ignore_ascii_case(&key));
    if faked || SETTABLE.contains(&key.as_str()) {
        return Ok(Statement::Ignored);
    }
    let [sign, value @ ..] = after else { return Err(invalid(text)) };
    if !(sign.is("=") || sign.is("to")) {
        return Err(invalid(text));
    }
    let value = match value {
        [one] => argument_text(one),
        // A duration or a size without quotes: 30 s, 5min.
        [Token::Number(number), Token::Word(unit)] => Some(format!("{number}{unit}")),
        [minus, Token::Number(number)] if minus.is("-") => Some(format!("-{number}")),
        _ => None,
    };
    let value = value.ok_or_else(|| invalid(text))?;
    let tag = format!("SET {key}={value}");
    Ok(Statement::Order(Order::Set(key, value), tag))
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;
    use proptest::prelude::*;

    fn said(text: &str) -> String {
        match read(&tokens(text).unwrap(), text) {
            Ok(Statement::Show(table)) => format!("show {}", table.name),
            Ok(Statement::Query(_)) => "query".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(failure) => failure.words,
        }
    }

    #[test]
    fn commands_are_read_in_any_case_with_and_without_a_database() {
        assert_eq!(said("pause"), "Order(Pause(All), \"PAUSE\")");
        assert_eq!(said("PAUSE \"My App\""), "Order(Pause(Database(\"My App\")), \"PAUSE\")");
        assert_eq!(said("Kill app"), "Order(Kill(Database(\"app\")), \"KILL\")");
        assert_eq!(said("kill_client 7"), "Order(KillClient(7), \"KILL_CLIENT\")");
        assert_eq!(said("SHUTDOWN wait_for_servers"), "Order(Shutdown(WaitForServers), \"SHUTDOWN\")");
        assert_eq!(said("BAN db-1.example:5432"), "Order(Ban(\"db-1.example:5432\"), \"BAN\")");
        assert_eq!(said("drain '/run/postgresql:5432'"), "Order(Drain(\"/run/postgresql:5432\"), \"DRAIN\")");
        assert_eq!(said("DISABLE"), "a database is required");
        assert_eq!(said("suspend app"), "invalid command 'suspend app', use SHOW HELP;");
        assert_eq!(said("DROP TABLE x"), "invalid command 'DROP TABLE x', use SHOW HELP;");
    }

    #[test]
    fn settings_are_set_by_either_name_and_those_of_drivers_are_ignored() {
        assert_eq!(
            said("SET default_pool_size=7"),
            "Order(Set(\"default_pool_size\", \"7\"), \"SET default_pool_size=7\")"
        );
        assert_eq!(said("set pool.size to '8'"), "Order(Set(\"pool.size\", \"8\"), \"SET pool.size=8\")");
        assert_eq!(
            said("set timeouts.query_wait = 5min"),
            "Order(Set(\"timeouts.query_wait\", \"5min\"), \"SET timeouts.query_wait=5min\")"
        );
        assert_eq!(said("SET client_encoding TO 'UTF8'"), "Ignored");
        assert_eq!(said("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"), "Ignored");
        assert_eq!(said("SET extra_float_digits = 3"), "Ignored");
    }

    #[test]
    fn select_of_a_name_is_show() {
        assert_eq!(said("SELECT pools"), "show pools");
        assert_eq!(said("SHOW Stats_Totals"), "show stats_totals");
        assert_eq!(said("show datestyle"), "Faked(\"datestyle\", \"ISO\")");
        assert_eq!(said("SELECT * FROM hawser.pools WHERE cl_waiting > 0"), "query");
        assert_eq!(said("SHOW nothing"), "invalid command 'SHOW nothing', use SHOW HELP;");
    }

    proptest! {
        #[test]
        fn any_statement_is_read_to_an_end(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "SELECT", "SHOW", "SET", "FROM", "pools", "WHERE", "(", ")", ",", "=", "AND", "'x'", "1", "$1",
                    "ORDER", "BY", "LIMIT", "LIKE", "IN", "NOT", "IS", "NULL", "*", "count", ".", "\"a\"", "AS", ";",
                    "hawser", "pg_catalog", "version", "::", "PAUSE", "kill_client", "-", "OFFSET", "DESC",
                ]),
                0..20,
            )
        ) {
            let text = words.join(" ");
            let _ = read(&tokens(&text).unwrap(), &text);
        }
    }
}
