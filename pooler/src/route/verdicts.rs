//! Pure. Verdicts of the classifier, for people and for programs.

use std::fmt::Write as _;

use hawser_sql_router::effects::Effect;
use hawser_sql_router::hints::Hint;
use hawser_sql_router::statement::{Access, Modes, Prepared, Reason, TransactionControl, Verdict, Verdicts};
use serde_json::{Value, json};

/// Longest piece of a text that a table shows, in characters.
const LONGEST_PIECE: usize = 50;

/// One object for a whole text: where it goes as it runs on one host, with one object for each statement in
/// `statements` if there are several.
#[must_use]
pub fn as_json(verdicts: &Verdicts) -> Value {
    let statements = verdicts.statements();
    let effects: Vec<String> = statements.iter().flat_map(effects).collect();
    let mut object = json!({
        "access": verdicts.access().word(),
        "host": verdicts.host().word(),
        "reason": verdicts.decisive().map_or_else(|| Reason::Empty.to_string(), reason),
        "code": verdicts.decisive().map_or(Reason::Empty.code(), code),
        "effects": effects,
    });
    if statements.len() > 1
        && let Some(members) = object.as_object_mut()
    {
        members.insert("statements".to_owned(), statements.iter().map(statement).collect());
    }
    object
}

fn statement(verdict: &Verdict) -> Value {
    json!({
        "access": verdict.access.word(),
        "host": verdict.host().word(),
        "reason": reason(verdict),
        "code": code(verdict),
        "effects": effects(verdict),
    })
}

/// Lines for people: one for each statement.
#[must_use]
pub fn as_table(text: &str, verdicts: &Verdicts) -> String {
    let mut table = String::new();
    let _ = writeln!(table, "{}", shortened(text));
    let rows: Vec<(&str, &str, String)> = match verdicts.statements() {
        [] => vec![("any", "session", Reason::Empty.to_string())],
        all => all
            .iter()
            .map(|verdict| {
                let mut words = reason(verdict);
                for effect in effects(verdict) {
                    let _ = write!(words, "; {effect}");
                }
                (verdict.host().word(), verdict.access.word(), words)
            })
            .collect(),
    };
    for (host, access, words) in &rows {
        let _ = writeln!(table, "  {host:<8} {access:<12} {words}");
    }
    if rows.len() > 1 {
        let _ = writeln!(table, "  {:<8} as one text, on one host", verdicts.host().word());
    }
    table
}

/// Why a statement goes where it goes.
fn reason(verdict: &Verdict) -> String {
    if verdict.hint == Some(Hint::Primary) && verdict.access != Access::Session {
        return "a comment of the client says primary".to_owned();
    }
    match verdict.access {
        Access::Transaction(control) => of_control(control),
        _ => verdict.reason.to_string(),
    }
}

fn code(verdict: &Verdict) -> &'static str {
    if verdict.hint == Some(Hint::Primary) && verdict.access != Access::Session {
        "hint_primary"
    } else {
        verdict.reason.code()
    }
}

fn of_control(control: TransactionControl) -> String {
    let words = match control {
        TransactionControl::Begin(modes) if modes.fit_standby() => "begins a transaction that only reads",
        TransactionControl::Begin(Modes { read_only: Some(true), .. }) => {
            "begins a serializable transaction, which standbys refuse"
        }
        TransactionControl::Begin(_) => "begins a transaction that may write",
        TransactionControl::SetModes(modes) if modes.need_primary() => "standbys refuse these modes",
        TransactionControl::SetModes(_) => "shapes the transaction, where that is",
        TransactionControl::Commit { .. } | TransactionControl::Rollback { .. } => {
            "ends the transaction, where that is"
        }
        TransactionControl::Savepoint => "a savepoint of the transaction, where that is",
        TransactionControl::Prepare => "prepares the transaction for two-phase commit",
    };
    words.to_owned()
}

/// What a statement leaves behind; values are left out, since they may be secrets.
fn effects(verdict: &Verdict) -> Vec<String> {
    let mut all = Vec::new();
    match &verdict.effect {
        Effect::None => {}
        Effect::Set(name, _) => all.push(format!("set {name}")),
        Effect::SetLocal(_) => all.push("set until the transaction ends".to_owned()),
        Effect::Reset(name) => all.push(format!("reset {name}")),
        Effect::ResetAll => all.push("reset all".to_owned()),
        Effect::Unknown => all.push("sets what cannot be told".to_owned()),
        Effect::Characteristics(parameters) => {
            all.extend(parameters.iter().map(|(name, _)| format!("set {name}")));
        }
        Effect::DiscardAll => all.push("discard all".to_owned()),
        Effect::Savepoint(name) => all.push(format!("savepoint {name}")),
        Effect::RollbackTo(name) => all.push(format!("rollback to {name}")),
        Effect::Release(name) => all.push(format!("release {name}")),
        Effect::Listen(channel) => all.push(format!("listen {channel}")),
        Effect::Unlisten(channel) => all.push(format!("unlisten {channel}")),
        Effect::UnlistenAll => all.push("unlisten all".to_owned()),
        Effect::Notify => all.push("notifies".to_owned()),
        Effect::LoadLibrary => all.push("loads a library".to_owned()),
        Effect::Renames(roles) => all.push(format!("makes {} somebody else", roles.join(", "))),
        Effect::NeedsAlone(database) => all.push(format!("needs {database} for itself")),
        // Told by what the statement has to do with prepared statements, below.
        Effect::Prepare { .. } | Effect::Execute(_) | Effect::Deallocate(_) | Effect::DeallocateAll => {}
    }
    match &verdict.prepared {
        None => {}
        Some(Prepared::Makes(name)) => all.push(format!("prepares {name}")),
        Some(Prepared::Runs(name)) => all.push(format!("executes {name}")),
        Some(Prepared::Drops(Some(name))) => all.push(format!("deallocates {name}")),
        Some(Prepared::Drops(None)) => all.push("deallocates all".to_owned()),
    }
    if verdict.changes_catalog {
        all.push("may change the catalogue".to_owned());
    }
    all
}

/// A text on one line, and not all of a long one.
fn shortened(text: &str) -> String {
    let mut words = text.split_whitespace();
    let mut line = String::new();
    let mut count = 0;
    while let Some(word) = words.next() {
        let blank = usize::from(count > 0);
        let room = LONGEST_PIECE.saturating_sub(count + blank);
        let length = word.chars().take(room + 1).count();
        if blank > 0 {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !c.is_control()).take(room));
        if length > room || (count + blank + length == LONGEST_PIECE && words.clone().next().is_some()) {
            return line + "...";
        }
        count += blank + length;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_sql_router::classify::classify;
    use hawser_sql_router::knowledge::{Nothing, SearchPath};

    fn verdicts(text: &str) -> Verdicts {
        classify(text.as_bytes(), &Nothing, &SearchPath::unknown())
    }

    #[test]
    fn a_table_has_a_line_for_each_statement() {
        let text = "SELECT 1;\nINSERT INTO a_table_with_a_very_long_name_indeed VALUES (1)";
        assert_eq!(
            as_table(text, &verdicts(text)),
            "SELECT 1; INSERT INTO a_table_with_a_very_long_nam...\n  \
             standby  read         reads, and calls nothing that may write\n  \
             primary  write        INSERT is not a read\n  \
             primary  as one text, on one host\n"
        );
        assert_eq!(as_table("", &verdicts("")), "\n  any      session      there is no statement\n");
    }

    #[test]
    fn values_that_are_set_are_not_shown() {
        let object = as_json(&verdicts("SET a.b = 'secret'")).to_string();
        assert!(object.contains("set a.b") && !object.contains("secret"), "{object}");
    }

    #[test]
    fn a_hint_is_given_as_the_reason() {
        let object = as_json(&verdicts("/* hawser: primary */ SELECT 1"));
        assert_eq!(
            (object["code"].as_str(), object["host"].as_str()),
            (Some("hint_primary"), Some("primary"))
        );
    }
}
