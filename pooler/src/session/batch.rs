//! What the first batch in a client's input does, as far as it can be told before it is sent. Pure.

use crate::relay::ClientSide;
use crate::route::decide::Nature;
use hawser_sql_router::statement::{Access, Host, Modes, TransactionControl, Verdicts};
use hawser_wire::frame::{self, HEADER_LENGTH};
use hawser_wire::frontend::{self as message, Target};
use hawser_wire::tag::frontend;
use std::sync::Arc;

/// A batch that is there as a whole: messages up to a Sync, or one simple query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    /// Its bytes, from the beginning of the input.
    pub length: usize,
    /// What it does.
    pub nature: Nature,
    /// It may change functions, views, operators, types or casts.
    pub changes_catalog: bool,
}

/// What the session's defaults make of a BEGIN that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Defaults {
    /// Transactions are READ ONLY.
    pub read_only: bool,
}

impl Defaults {
    /// Whether a standby can run a transaction that begins with these modes, whatever is said in it.
    pub(super) const fn fit_standby(self, modes: Modes) -> bool {
        modes.fit_standby() || (self.read_only && modes.read_only.is_none() && !modes.need_primary())
    }
}

/// Looks at the first batch of the client's input. `None`: it is not there as a whole, or nobody should look into it.
pub(super) fn first_batch(
    client: &ClientSide,
    defaults: Defaults,
    mut classify: impl FnMut(&[u8]) -> Arc<Verdicts>,
) -> Option<Batch> {
    let input = client.input.as_ref()?.data();
    let mut sum = Sum::default();
    let mut at = 0;
    loop {
        let rest = input.get(at..)?;
        let header = frame::header(rest).ok()??;
        let body = rest.get(HEADER_LENGTH..header.total())?;
        at += header.total();
        match header.tag {
            frontend::QUERY if sum.is_empty => {
                let text = body.strip_suffix(b"\0")?;
                sum.add(&classify(text), defaults, true);
                return Some(sum.batch(at));
            }
            frontend::PARSE => {
                let parse = message::parse(body).ok()?;
                sum.parsed.push(parse.name);
                sum.add(&classify(parse.text), defaults, false);
            }
            frontend::BIND => {
                let (_, name) = message::bind_names(body).ok()??;
                if !sum.parsed.contains(&name) {
                    sum.add(&classify(text_of(client, name)?), defaults, false);
                }
                sum.is_empty = false;
            }
            frontend::DESCRIBE => match message::target(body, "Describe").ok()? {
                Target::Statement(name) if !sum.parsed.contains(&name) => {
                    sum.add(&classify(text_of(client, name)?), defaults, false);
                }
                _ => sum.is_empty = false,
            },
            frontend::EXECUTE | frontend::CLOSE => sum.is_empty = false,
            frontend::SYNC => return Some(sum.batch(at)),
            // A Flush asks for replies before the batch is over.
            _ => return None,
        }
    }
}

/// The text of a statement that the client prepared earlier.
fn text_of<'a>(client: &'a ClientSide, name: &[u8]) -> Option<&'a [u8]> {
    if name.is_empty() {
        let kept = client.unnamed.statement.as_ref()?;
        return hawser_wire::frame::c_string(&kept.rest).map(|(text, _)| text);
    }
    Some(&client.statements.named(name)?.statement.text)
}

/// What is known of the batch so far.
struct Sum<'a> {
    is_empty: bool,
    writes: bool,
    reads: bool,
    /// It began with a transaction that a standby can run as a whole.
    read_only: bool,
    changes_catalog: bool,
    /// Names that it defines.
    parsed: smallvec::SmallVec<[&'a [u8]; 4]>,
}

impl Default for Sum<'_> {
    fn default() -> Self {
        Self {
            is_empty: true,
            writes: false,
            reads: false,
            read_only: false,
            changes_catalog: false,
            parsed: smallvec::SmallVec::new(),
        }
    }
}

impl Sum<'_> {
    fn add(&mut self, verdicts: &Verdicts, defaults: Defaults, simple: bool) {
        let whole = simple && is_read_transaction(verdicts);
        for verdict in verdicts.statements() {
            self.changes_catalog |= verdict.changes_catalog;
            match verdict.access {
                Access::Transaction(TransactionControl::Begin(modes)) => {
                    let fits = defaults.fit_standby(modes);
                    self.read_only |= fits && self.is_empty;
                    self.writes |= !fits && !whole;
                }
                Access::Transaction(_) => self.writes |= !(self.read_only || whole),
                _ => {
                    self.writes |= verdict.host() == Host::Primary;
                    self.reads |= verdict.host() == Host::Standby;
                }
            }
            self.is_empty = false;
        }
        self.is_empty = false;
    }

    fn batch(self, length: usize) -> Batch {
        let nature = match (self.writes, self.read_only, self.reads) {
            (true, _, _) => Nature::Write,
            (_, true, _) => Nature::ReadOnlyTransaction,
            (_, _, true) => Nature::Read,
            _ => Nature::Session,
        };
        Batch { length, nature, changes_catalog: self.changes_catalog }
    }
}

/// A text that opens a transaction, only reads in it, and ends it.
fn is_read_transaction(verdicts: &Verdicts) -> bool {
    let [first, inner @ .., last] = verdicts.statements() else { return false };
    matches!(first.access, Access::Transaction(TransactionControl::Begin(modes)) if !modes.need_primary())
        && matches!(
            last.access,
            Access::Transaction(
                TransactionControl::Commit { chain: false } | TransactionControl::Rollback { chain: false }
            )
        )
        && inner.iter().all(|verdict| verdict.access == Access::Read && verdict.host() == Host::Standby)
}
