//! What each statement of a text does, told from its tokens. Pure.
//!
//! There is no tree. A statement is taken for a read only if its first word says that it may be one, no word in it can
//! begin a part that writes or locks, and every name in front of a parenthesis is a function that is known to read. So
//! what is not understood is a write, and a grammar that grows does not make a write a read. The price is a read that
//! is taken for a write where a column has a name like `update`.
//!
//! Time and memory are linear to the text's length, and a text longer than [`LONGEST`] is not looked at.

use crate::effects::{self, Effect};
use crate::hints::{self, Hint};
use crate::knowledge::{Knowledge, SearchPath};
use crate::query::{Depth, mark_labels};
use crate::statement::{Access, Host, Prepared, Reason, Verdict, Verdicts};
use crate::token::{Ambiguity, Comment, Kind, Name, Token, Tokens, cut, cut_unconforming};
use crate::transaction;

/// Longest text that is looked at, in bytes; a longer one is a write.
pub const LONGEST: usize = 256 * 1024;

/// Tells what each statement of `text` does. `text` is as the client sent it, without the closing zero byte; it need
/// not be UTF-8. `path` is the session's `search_path`, and unknown inside a transaction that changed it.
#[must_use]
pub fn classify(text: &[u8], knowledge: &dyn Knowledge, path: &SearchPath) -> Verdicts {
    if text.len() > LONGEST {
        return Verdicts::new(vec![refusal(Reason::TooLong, None)]);
    }
    let tokens = cut(text);
    let hint = hint_of(text, &tokens.hints).filter(|hint| *hint == Hint::Primary);
    if let Some(why) = tokens.ambiguous {
        return Verdicts::new(vec![refusal(Reason::Ambiguous(why), hint)]);
    }
    let backslash = tokens.backslash;
    let verdicts = judge_all(text, tokens, knowledge, path);
    if backslash && verdicts.host() != Host::Primary && may_write_unconforming(text, knowledge) {
        return Verdicts::new(vec![refusal(Reason::Ambiguous(Ambiguity::StringEnd), hint)]);
    }
    verdicts
}

/// Whether `text` could need the primary in a session that has switched `standard_conforming_strings` off. What is not
/// closed there is a syntax error there, and does nothing.
fn may_write_unconforming(text: &[u8], knowledge: &dyn Knowledge) -> bool {
    let tokens = cut_unconforming(text);
    match tokens.ambiguous {
        Some(Ambiguity::Unclosed) => false,
        Some(_) => true,
        None => judge_all(text, tokens, knowledge, &SearchPath::unknown()).host() == Host::Primary,
    }
}

/// The verdicts about a text that was cut with certainty.
fn judge_all(text: &[u8], mut tokens: Tokens, knowledge: &dyn Knowledge, path: &SearchPath) -> Verdicts {
    mark_labels(text, &mut tokens.all);
    let unknown = SearchPath::unknown();
    let mut judge = Judge { text, tokens: &tokens.all, knowledge, path };
    let mut verdicts = Vec::with_capacity(1);
    let mut hints = tokens.hints.as_slice();
    let mut spans = spans(text, &tokens.all).into_iter().peekable();
    while let Some((from, to)) = spans.next() {
        let mine = match spans.peek().and_then(|(next, _)| judge.tokens.get(next.wrapping_sub(1))) {
            // A comment behind the semicolon belongs to what follows.
            Some(semicolon) => {
                let end = hints.partition_point(|comment| comment.start < semicolon.start);
                let (mine, rest) = hints.split_at_checked(end).unwrap_or((hints, &[]));
                hints = rest;
                mine
            }
            None => hints,
        };
        let verdict = judge.verdict(from, to, hint_of(text, mine));
        if verdict.changes_names() {
            judge.path = &unknown;
        }
        verdicts.push(verdict);
    }
    Verdicts::new(verdicts)
}

/// A text that nobody looks into is one write.
fn refusal(reason: Reason, hint: Option<Hint>) -> Verdict {
    Verdict {
        access: Access::Write,
        reason,
        effect: Effect::None,
        hint,
        prepared: None,
        changes_catalog: true,
    }
}

/// What the comments say; the primary wins.
fn hint_of(text: &[u8], comments: &[Comment]) -> Option<Hint> {
    let mut all = comments
        .iter()
        .filter_map(|at| hints::of_comment(text.get(at.start as usize..at.end as usize).unwrap_or_default()));
    let first = all.next()?;
    if all.any(|hint| hint == Hint::Primary) { Some(Hint::Primary) } else { Some(first) }
}

/// The statements as ranges of tokens, without semicolons and without empty ones. A semicolon inside parentheses
/// (CREATE RULE) or inside the body of a function (BEGIN ATOMIC ... END) does not end a statement.
fn spans(text: &[u8], tokens: &[Token]) -> Vec<(usize, usize)> {
    let is = |at: usize, word: &[u8]| {
        tokens
            .get(at)
            .is_some_and(|token| token.kind == Kind::Word && token.bytes(text).eq_ignore_ascii_case(word))
    };
    let mut spans = Vec::with_capacity(1);
    let (mut from, mut at, mut bodies) = (0, 0, 0u32);
    while let Some(token) = tokens.get(at) {
        match token.kind {
            Kind::Open => at = token.mate as usize,
            Kind::Word if is(from, b"create") => {
                if is(at, b"begin") && is(at + 1, b"atomic") || bodies > 0 && is(at, b"case") {
                    bodies += 1;
                } else if bodies > 0 && is(at, b"end") {
                    bodies -= 1;
                }
            }
            Kind::End if bodies == 0 => {
                if at > from {
                    spans.push((from, at));
                }
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if from < tokens.len() {
        spans.push((from, tokens.len()));
    }
    spans
}

/// Looks at the statements of one text.
pub(crate) struct Judge<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) tokens: &'a [Token],
    pub(crate) knowledge: &'a dyn Knowledge,
    pub(crate) path: &'a SearchPath,
}

/// What was found about a statement.
pub(crate) struct Finding {
    access: Access,
    reason: Reason,
    prepared: Option<Prepared>,
    changes_catalog: bool,
}

impl Finding {
    const fn new(access: Access, reason: Reason) -> Self {
        Self { access, reason, prepared: None, changes_catalog: false }
    }

    const fn write(reason: Reason) -> Self {
        Self::new(Access::Write, reason)
    }

    /// A read for `reads`, unless something speaks against it.
    fn read_unless(against: Option<Reason>, reads: Reason) -> Self {
        match against {
            None => Self::new(Access::Read, reads),
            // SELECT INTO can make an unlogged table.
            Some(Reason::SelectInto) => Self { changes_catalog: true, ..Self::write(Reason::SelectInto) },
            Some(reason) => Self::write(reason),
        }
    }
}

impl<'a> Judge<'a> {
    /// The bytes of token `at`.
    pub(crate) fn bytes(&self, at: usize) -> &'a [u8] {
        self.tokens.get(at).map(|token| token.bytes(self.text)).unwrap_or_default()
    }

    /// The kind of token `at`.
    pub(crate) fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// Whether token `at` is the key word `word` (in lower case).
    pub(crate) fn is(&self, at: usize, word: &str) -> bool {
        self.kind(at) == Some(Kind::Word) && self.bytes(at).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether token `at` is one of `words` (in lower case).
    pub(crate) fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    /// The parenthesis that belongs to the one at `at`.
    pub(crate) fn mate(&self, at: usize) -> usize {
        self.tokens.get(at).map_or(at, |token| token.mate as usize)
    }

    /// The name that token `at` means.
    pub(crate) fn name(&self, at: usize) -> Name {
        Name::of(self.kind(at).unwrap_or(Kind::Other), self.bytes(at))
    }

    fn verdict(&self, from: usize, to: usize, hint: Option<Hint>) -> Verdict {
        let effect = self.effect(from, to);
        let mut finding = match &effect {
            Effect::Set(..) | Effect::SetLocal(_) if self.is(from, "select") => self.set_config(from, to),
            _ => self.statement(from, to),
        };
        if hint == Some(Hint::Standby) && finding.access == Access::Write && finding.reason.is_suspicion() {
            finding = Finding::new(Access::Read, Reason::HintStandby);
        }
        let Finding { access, reason, prepared, changes_catalog } = finding;
        Verdict { access, reason, effect, hint, prepared, changes_catalog }
    }

    /// What the statement leaves behind in its session.
    fn effect(&self, from: usize, to: usize) -> Effect {
        let edge = |at: usize| self.tokens.get(at);
        let (Some(first), Some(last)) = (edge(from), edge(to.wrapping_sub(1))) else { return Effect::None };
        let span = self.text.get(first.start as usize..last.end as usize).unwrap_or_default();
        effects::of_text(span)
            .and_then(|all| all.statements.into_iter().find(|effect| *effect != Effect::None))
            .unwrap_or(Effect::None)
    }

    /// `SELECT set_config('name', 'value', ...)` and nothing else.
    fn set_config(&self, from: usize, to: usize) -> Finding {
        let named = (from..to).find(|at| self.kind(*at) == Some(Kind::Text)).map(|at| self.bytes(at));
        let of_transaction =
            named.is_some_and(|text| crate::scan::contains(text, b"transaction_") || text.contains(&b'\\'));
        if of_transaction {
            Finding::write(Reason::HiddenSetting)
        } else {
            Finding::new(Access::Session, Reason::Session("set_config"))
        }
    }

    /// Looks at the statement of tokens `from..to`.
    fn statement(&self, from: usize, to: usize) -> Finding {
        let Some(first) = self.tokens.get(from) else {
            return Finding::new(Access::Session, Reason::Empty);
        };
        if first.kind == Kind::Open {
            return self.query(from, to);
        }
        if first.kind != Kind::Word {
            return Finding::write(Reason::NotUnderstood);
        }
        let word = self.name(from);
        if let Some(access) = transaction::control(self, from, to) {
            return match access {
                Access::Write => self.plain_write(from),
                access => Finding::new(access, Reason::Transaction),
            };
        }
        match word.bytes() {
            b"select" | b"with" | b"values" | b"table" => self.query(from, to),
            b"explain" => self.explain(from, to),
            b"show" => self.show(from, to),
            b"set" => Finding::new(Access::Session, Reason::Session("SET")),
            b"reset" => Finding::new(Access::Session, Reason::Session("RESET")),
            b"discard" => Finding::new(Access::Session, Reason::Session("DISCARD")),
            b"unlisten" => Finding::new(Access::Session, Reason::Session("UNLISTEN")),
            b"listen" | b"notify" => Finding::write(Reason::Notification),
            b"fetch" | b"move" | b"close" => Finding::new(Access::Session, Reason::Cursor),
            b"declare" => self.declare(from, to),
            b"prepare" => self.prepare(from, to),
            b"execute" => self.execute(from, to),
            b"deallocate" => self.deallocate(from),
            b"copy" => self.copy(from, to),
            _ => self.plain_write(from),
        }
    }

    /// A statement that is a write by its first word.
    fn plain_write(&self, from: usize) -> Finding {
        let name = self.name(from);
        let known = std::str::from_utf8(name.bytes()).ok().filter(|word| is_command(word));
        let Some(word) = known else {
            return Finding { changes_catalog: true, ..Finding::write(Reason::NotUnderstood) };
        };
        let changes_catalog = matches!(
            word,
            "create" | "alter" | "drop" | "import" | "do" | "call" | "reassign" | "rollback" | "commit"
        );
        Finding { changes_catalog, ..Finding::write(Reason::Statement(word.to_uppercase().into())) }
    }

    fn query(&self, from: usize, to: usize) -> Finding {
        Finding::read_unless(self.objection(from, to, Depth::Run), Reason::Reads)
    }

    /// Whether token `at` begins a query.
    fn begins_query(&self, at: usize) -> bool {
        self.kind(at) == Some(Kind::Open) || self.is_any(at, &["select", "with", "values", "table"])
    }

    fn explain(&self, from: usize, to: usize) -> Finding {
        let mut at = from + 1;
        let mut depth = Depth::Plan;
        if self.kind(at) == Some(Kind::Open) && !self.begins_query(at + 1) {
            let close = self.mate(at);
            let analyze = |at: usize| matches!(self.name(at).bytes(), b"analyze" | b"analyse");
            if (at..close).any(analyze) {
                depth = Depth::Run;
            }
            at = close + 1;
        } else {
            while at < to && self.is_any(at, &["analyze", "analyse", "verbose"]) {
                if !self.is(at, "verbose") {
                    depth = Depth::Run;
                }
                at += 1;
            }
        }
        // Nothing is run, so a plan of a write only takes locks that a standby gives.
        let only_planned = depth == Depth::Plan && self.is_any(at, &["insert", "update", "delete", "merge"]);
        if at >= to || !(self.begins_query(at) || only_planned) {
            let Finding { reason, .. } = self.plain_write(at);
            return Finding::write(Reason::Inner(reason.into()));
        }
        let reads = if depth == Depth::Run { Reason::Reads } else { Reason::PlanOnly };
        Finding::read_unless(self.objection(at, to, depth), reads)
    }

    fn show(&self, from: usize, to: usize) -> Finding {
        let name = self.name(from + 1);
        if to == from + 4 && self.is(from + 1, "hawser") && self.is(from + 3, "write_lsn") {
            return Finding::write(Reason::AsksHost("hawser.write_lsn".into()));
        }
        // A name with a prefix is a setting of an extension.
        if to == from + 2 && crate::functions::is_setting_of_host(name.bytes()) {
            Finding::write(Reason::AsksHost(shown(name.bytes())))
        } else {
            Finding::new(Access::Read, Reason::Show)
        }
    }

    /// `DECLARE name ... CURSOR ... FOR query`
    fn declare(&self, from: usize, to: usize) -> Finding {
        let query = (from + 1..to).find(|at| self.is(*at, "for")).map(|at| at + 1);
        match query {
            // It lasts as long as its session, which has to be free to write.
            Some(at) if (from..at).any(|word| self.is(word, "with") && self.is(word + 1, "hold")) => {
                Finding::write(Reason::HeldCursor)
            }
            Some(at) if at < to && self.begins_query(at) => {
                Finding::read_unless(self.objection(at, to, Depth::Run), Reason::Cursor)
            }
            _ => Finding::write(Reason::NotUnderstood),
        }
    }

    /// `PREPARE name [(types)] AS statement`
    fn prepare(&self, from: usize, to: usize) -> Finding {
        let name = self.name(from + 1);
        let mut at = from + 2;
        if self.kind(at) == Some(Kind::Open) {
            at = self.mate(at) + 1;
        }
        if !self.is(at, "as") || at + 1 >= to || !self.begins_query(at + 1) {
            let Finding { reason, .. } = self.plain_write(at + 1);
            return Finding::write(Reason::Inner(reason.into()));
        }
        match self.objection(at + 1, to, Depth::Run) {
            Some(reason) => Finding::write(Reason::Inner(reason.into())),
            None => Finding {
                prepared: Some(Prepared::Makes(shown(name.bytes()))),
                ..Finding::new(Access::Session, Reason::Session("PREPARE"))
            },
        }
    }

    /// `EXECUTE name [(values)]`
    fn execute(&self, from: usize, to: usize) -> Finding {
        let name = shown(self.name(from + 1).bytes());
        match self.objection(from + 2, to, Depth::Run) {
            Some(reason) => Finding::write(reason),
            None => Finding {
                prepared: Some(Prepared::Runs(name.clone())),
                ..Finding::write(Reason::Executes(name))
            },
        }
    }

    /// `DEALLOCATE [PREPARE] { name | ALL }`
    fn deallocate(&self, from: usize) -> Finding {
        let skip = usize::from(self.is(from + 1, "prepare") && self.tokens.get(from + 2).is_some());
        let at = from + 1 + skip;
        let name = if self.is(at, "all") { None } else { Some(shown(self.name(at).bytes())) };
        Finding {
            prepared: Some(Prepared::Drops(name)),
            ..Finding::new(Access::Session, Reason::Session("DEALLOCATE"))
        }
    }

    /// `COPY { table [(columns)] | (query) } { FROM | TO } ...`
    fn copy(&self, from: usize, to: usize) -> Finding {
        let mut at = from + 1;
        let against;
        if self.kind(at) == Some(Kind::Open) {
            let close = self.mate(at);
            if !self.begins_query(at + 1) {
                return Finding::write(Reason::ModifyingPart);
            }
            against = self.objection(at + 1, close, Depth::Run);
            at = close + 1;
        } else {
            let start = at;
            while at < to && !self.is_any(at, &["from", "to"]) && self.kind(at) != Some(Kind::Open) {
                at += 1;
            }
            against = self.objection(start, at, Depth::Run);
            if self.kind(at) == Some(Kind::Open) {
                at = self.mate(at) + 1;
            }
        }
        if self.is(at, "from") {
            return Finding::write(Reason::CopyIn);
        }
        if !(self.is(at, "to") && self.is(at + 1, "stdout")) {
            return Finding::write(Reason::CopyToHost);
        }
        Finding::read_unless(against, Reason::CopyOut)
    }
}

/// A name for people.
pub(crate) fn shown(name: &[u8]) -> Box<str> {
    String::from_utf8_lossy(name).into()
}

/// Whether `word` begins a statement that is not a read, or not by itself.
fn is_command(word: &str) -> bool {
    const COMMANDS: &[&str] = &[
        "alter",
        "analyse",
        "analyze",
        "call",
        "checkpoint",
        "cluster",
        "comment",
        "commit",
        "copy",
        "create",
        "declare",
        "delete",
        "do",
        "drop",
        "execute",
        "grant",
        "import",
        "insert",
        "load",
        "lock",
        "merge",
        "prepare",
        "reassign",
        "refresh",
        "reindex",
        "revoke",
        "rollback",
        "security",
        "set",
        "truncate",
        "update",
        "vacuum",
    ];
    COMMANDS.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests;
