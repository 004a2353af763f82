//! Transaction control: which transaction a statement begins, shapes or ends. Pure.

use crate::classify::Judge;
use crate::statement::{Access, Isolation, Modes, TransactionControl};
use crate::token::Kind;

/// What the statement of tokens `from..to` does to a transaction; `None` when it is another kind of statement.
/// [`Access::Write`] stands for what needs the primary and is no part of this session's transaction.
pub(crate) fn control(judge: &Judge<'_>, from: usize, to: usize) -> Option<Access> {
    let control = match judge.name(from).bytes() {
        b"begin" => TransactionControl::Begin(modes(judge, from + 1, to)),
        b"start" if judge.is(from + 1, "transaction") => {
            TransactionControl::Begin(modes(judge, from + 2, to))
        }
        b"commit" | b"end" | b"rollback" | b"abort" => return Some(end(judge, from)),
        b"savepoint" | b"release" => TransactionControl::Savepoint,
        b"prepare" if judge.is(from + 1, "transaction") && judge.kind(from + 2) == Some(Kind::Text) => {
            TransactionControl::Prepare
        }
        b"set" => return set(judge, from, to),
        _ => return None,
    };
    Some(Access::Transaction(control))
}

/// COMMIT, ROLLBACK and their other names.
fn end(judge: &Judge<'_>, from: usize) -> Access {
    if judge.is(from + 1, "prepared") {
        return Access::Write;
    }
    let at = if judge.is_any(from + 1, &["work", "transaction"]) { from + 2 } else { from + 1 };
    let chain = judge.is(at, "and") && judge.is(at + 1, "chain");
    let back = judge.is_any(from, &["rollback", "abort"]);
    Access::Transaction(match back {
        true if judge.is(at, "to") => TransactionControl::Savepoint,
        true => TransactionControl::Rollback { chain },
        false => TransactionControl::Commit { chain },
    })
}

/// SET TRANSACTION, and SET of the parameters that mean the same.
fn set(judge: &Judge<'_>, from: usize, to: usize) -> Option<Access> {
    let mut at = from + 1;
    if judge.is_any(at, &["local", "session"]) {
        at += 1;
    }
    if judge.is(at, "transaction") {
        if judge.is(at + 1, "snapshot") {
            return Some(Access::Write);
        }
        return Some(Access::Transaction(TransactionControl::SetModes(modes(judge, at + 1, to))));
    }
    let value = judge.name(at + 2);
    let value = value.bytes();
    let text = value.strip_prefix(b"'").and_then(|value| value.strip_suffix(b"'")).unwrap_or(value);
    let mut modes = Modes::default();
    match judge.name(at).bytes().to_ascii_lowercase().as_slice() {
        b"transaction_read_only" => {
            let on = [&b"on"[..], b"true", b"yes", b"1", b"t", b"y"].contains(&text);
            modes.read_only = Some(on);
        }
        b"transaction_isolation" => {
            modes.isolation = Some(match text {
                b"read committed" | b"read uncommitted" => Isolation::ReadCommitted,
                b"repeatable read" => Isolation::RepeatableRead,
                _ => Isolation::Serializable,
            });
        }
        _ => return None,
    }
    Some(Access::Transaction(TransactionControl::SetModes(modes)))
}

/// The modes in tokens `at..to`. The last word on each counts, as in PostgreSQL.
fn modes(judge: &Judge<'_>, at: usize, to: usize) -> Modes {
    let mut modes = Modes::default();
    for at in at..to {
        if judge.is(at, "read") {
            match () {
                () if judge.is(at + 1, "only") => modes.read_only = Some(true),
                () if judge.is(at + 1, "write") => modes.read_only = Some(false),
                () if judge.is_any(at + 1, &["committed", "uncommitted"]) => {
                    modes.isolation = Some(Isolation::ReadCommitted);
                }
                () => {}
            }
        } else if judge.is(at, "repeatable") {
            modes.isolation = Some(Isolation::RepeatableRead);
        } else if judge.is(at, "serializable") {
            modes.isolation = Some(Isolation::Serializable);
        }
    }
    modes
}
