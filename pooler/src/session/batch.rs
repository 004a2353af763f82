//! What the first batch in a client's input does, as far as it can be told before it is sent. Pure.

use crate::relay::ClientSide;
use crate::route::decide::Nature;
use crate::statements::Form;
use hawser_sql_router::statement::{
    Access, Host, Modes, Prepared, Reason, TransactionControl, Verdict, Verdicts,
};
use hawser_wire::frame::{self, HEADER_LENGTH};
use hawser_wire::frontend::{self as message, Target};
use hawser_wire::tag::frontend;
use smallvec::SmallVec;
use std::sync::Arc;

/// A batch that is there as a whole: messages up to a Sync, or one simple query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    /// Its bytes, from the beginning of the input.
    pub length: usize,
    /// What it does.
    pub nature: Nature,
    /// What it has to do with the transaction that it runs in.
    pub tie: Tie,
    /// It may change functions, views, operators, types or casts.
    pub changes_catalog: bool,
}

/// What a batch has to do with the transaction that it runs in, if it runs in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// It only reads, leaves nothing there, and needs nothing that was left there: no cursor, no setting, no savepoint.
    Loose,
    /// It ends it, and does nothing else.
    Ends,
    /// Anything else.
    Firm,
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
///
/// `classify` is told whether names mean what they meant before the batch: nothing in it has changed the search path.
pub(super) fn first_batch(
    client: &ClientSide,
    defaults: Defaults,
    classify: impl FnMut(&[u8], bool) -> Arc<Verdicts>,
) -> Option<Batch> {
    let input = client.input.as_ref()?.data();
    let mut sum = Sum::new(client, defaults, classify);
    let mut at = 0;
    loop {
        let rest = input.get(at..)?;
        let header = frame::header(rest).ok()??;
        let body = rest.get(HEADER_LENGTH..header.total())?;
        at += header.total();
        match header.tag {
            frontend::QUERY if sum.is_empty => {
                sum.add(body.strip_suffix(b"\0")?, true);
                return Some(sum.batch(at));
            }
            frontend::PARSE => {
                let parse = message::parse(body).ok()?;
                sum.parsed.push(parse.name);
                sum.add(parse.text, false);
            }
            frontend::BIND => {
                let (portal, name) = message::bind_names(body).ok()??;
                if !sum.parsed.contains(&name) {
                    sum.add(client.text_of(name)?, false);
                }
                sum.is_empty = false;
                sum.is_bound = true;
                // A portal with a name lives until the transaction ends.
                sum.is_firm |= !portal.is_empty();
            }
            frontend::DESCRIBE => match message::target(body, "Describe").ok()? {
                Target::Statement(name) if !sum.parsed.contains(&name) => {
                    sum.add(client.text_of(name)?, false);
                }
                target => {
                    sum.is_empty = false;
                    sum.is_firm |= matches!(target, Target::Portal(_)) && !sum.is_bound;
                }
            },
            frontend::EXECUTE => {
                sum.is_empty = false;
                sum.is_firm |= !sum.is_bound || !runs_to_its_end(body);
            }
            frontend::CLOSE => sum.is_empty = false,
            frontend::SYNC => return Some(sum.batch(at)),
            // A Flush asks for replies before the batch is over.
            _ => return None,
        }
    }
}

/// Whether an Execute leaves nothing of its portal for the next one.
fn runs_to_its_end(body: &[u8]) -> bool {
    matches!(frame::c_string(body), Some((_, most)) if most == [0; 4])
}

/// What is known of the batch so far.
struct Sum<'a, F> {
    client: &'a ClientSide,
    defaults: Defaults,
    classify: F,
    is_empty: bool,
    writes: bool,
    reads: bool,
    /// It began with a transaction that a standby can run as a whole.
    read_only: bool,
    /// Something in it has to do with its transaction, and is not the end of that.
    is_firm: bool,
    /// Statements that end a transaction, and others.
    ends: u32,
    others: u32,
    is_bound: bool,
    changes_names: bool,
    changes_catalog: bool,
    /// Names that it defines.
    parsed: SmallVec<[&'a [u8]; 4]>,
}

impl<'a, F: FnMut(&[u8], bool) -> Arc<Verdicts>> Sum<'a, F> {
    fn new(client: &'a ClientSide, defaults: Defaults, classify: F) -> Self {
        Self {
            client,
            defaults,
            classify,
            is_empty: true,
            writes: false,
            reads: false,
            read_only: false,
            is_firm: false,
            ends: 0,
            others: 0,
            is_bound: false,
            changes_names: false,
            changes_catalog: false,
            parsed: SmallVec::new(),
        }
    }

    fn add(&mut self, text: &[u8], simple: bool) {
        let verdicts = (self.classify)(text, !self.changes_names);
        let whole = simple && is_read_transaction(&verdicts);
        for verdict in verdicts.statements() {
            self.add_statement(verdict, whole);
            self.is_empty = false;
        }
        self.is_empty = false;
    }

    fn add_statement(&mut self, verdict: &Verdict, whole: bool) {
        self.changes_catalog |= verdict.changes_catalog;
        self.changes_names |= verdict.changes_names();
        match verdict.access {
            Access::Transaction(TransactionControl::Begin(modes)) => {
                let fits = self.defaults.fit_standby(modes);
                self.read_only |= fits && self.is_empty;
                self.writes |= !fits && !whole;
                self.is_firm = true;
            }
            Access::Transaction(control) => {
                self.writes |= !(self.read_only || whole);
                let ends = matches!(
                    control,
                    TransactionControl::Commit { chain: false }
                        | TransactionControl::Rollback { chain: false }
                );
                self.ends += u32::from(ends);
                self.is_firm |= !ends;
            }
            Access::Write if self.runs_read(verdict) => {
                self.reads = true;
                self.others += 1;
            }
            access => {
                self.writes |= verdict.host() == Host::Primary;
                self.reads |= verdict.host() == Host::Standby;
                self.is_firm |= access != Access::Read || verdict.reason == Reason::Cursor;
                self.others += 1;
            }
        }
    }

    /// Whether it is an EXECUTE of what only reads.
    fn runs_read(&mut self, verdict: &Verdict) -> bool {
        let Some(Prepared::Runs(name)) = &verdict.prepared else { return false };
        let known = self.client.statements.named(name.as_bytes()).map(|named| &named.statement);
        let Some(known) = known.filter(|known| known.form == Form::Prepare) else { return false };
        let text = [b"PREPARE s", &*known.text].concat();
        let verdicts = (self.classify)(&text, !self.changes_names);
        verdict.hint.is_none()
            && matches!(verdicts.statements(), [made] if matches!(made.prepared, Some(Prepared::Makes(_))))
    }

    fn batch(self, length: usize) -> Batch {
        let nature = match (self.writes, self.read_only, self.reads) {
            (true, _, _) => Nature::Write,
            (_, true, _) => Nature::ReadOnlyTransaction,
            (_, _, true) => Nature::Read,
            _ => Nature::Session,
        };
        let tie = match (self.is_firm, self.ends, self.others) {
            (false, 1, 0) => Tie::Ends,
            (false, 0, 1..) if nature == Nature::Read => Tie::Loose,
            _ => Tie::Firm,
        };
        Batch { length, nature, tie, changes_catalog: self.changes_catalog }
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
