//! Looks through a query for whatever a standby must not run. Pure.

use crate::classify::{Judge, shown};
use crate::functions::{self, BuiltIn};
use crate::keywords::{self, Standing};
use crate::knowledge::{Hazard, Volatility};
use crate::statement::Reason;
use crate::token::{Kind, Token};

/// How far a query goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// It is run.
    Run,
    /// It is only planned: functions are not called, except immutable ones, and nothing is written or locked that a
    /// standby could not lock.
    Plan,
}

/// Longest SEARCH or CYCLE clause, in tokens.
const LONGEST_CLAUSE: usize = 256;

/// Marks the names that WITH defines, so that `WITH a AS (...), b(x) AS (...)` is not taken for a call of `b`.
pub(crate) fn mark_labels(text: &[u8], tokens: &mut [Token]) {
    let withs: Vec<usize> = (0..tokens.len()).filter(|at| is(text, tokens, *at, b"with")).collect();
    for with in withs {
        let mut at = if is(text, tokens, with + 1, b"recursive") { with + 2 } else { with + 1 };
        while let Some(after) = definition(text, tokens, at) {
            if let Some(token) = tokens.get_mut(at) {
                token.kind = Kind::Label;
            }
            match tokens.get(after) {
                Some(token) if token.kind == Kind::Comma => at = after + 1,
                _ => break,
            }
        }
    }
}

fn is(text: &[u8], tokens: &[Token], at: usize, word: &[u8]) -> bool {
    tokens
        .get(at)
        .is_some_and(|token| token.kind == Kind::Word && token.bytes(text).eq_ignore_ascii_case(word))
}

/// The place behind `name [(columns)] AS [[NOT] MATERIALIZED] (query) [SEARCH ...] [CYCLE ...]`, if that is at `at`.
fn definition(text: &[u8], tokens: &[Token], at: usize) -> Option<usize> {
    let named = matches!(tokens.get(at)?.kind, Kind::Word | Kind::Quoted);
    // `FROM f() WITH ORDINALITY AS (...)` defines nothing.
    if !named || is(text, tokens, at, b"ordinality") {
        return None;
    }
    let mut at = at + 1;
    if tokens.get(at)?.kind == Kind::Open {
        at = tokens.get(at)?.mate as usize + 1;
    }
    if !is(text, tokens, at, b"as") {
        return None;
    }
    at += 1;
    for word in [&b"not"[..], b"materialized"] {
        at += usize::from(is(text, tokens, at, word));
    }
    let body = tokens.get(at)?;
    if body.kind != Kind::Open {
        return None;
    }
    at = body.mate as usize + 1;
    for (clause, last) in [(&b"search"[..], &b"set"[..]), (b"cycle", b"using")] {
        if is(text, tokens, at, clause) {
            at = (at..at + LONGEST_CLAUSE).find(|at| is(text, tokens, *at, last))? + 2;
        }
    }
    Some(at)
}

/// Key words that use operators, and which.
const OPERATORS_OF_WORDS: &[(&str, &[&str])] = &[
    ("between", &["<", "<=", ">", ">="]),
    ("case", &["="]),
    ("distinct", &["=", "<"]),
    ("except", &["=", "<"]),
    ("greatest", &["<"]),
    ("group", &["=", "<"]),
    ("ilike", &["~~*", "!~~*"]),
    ("in", &["=", "<>"]),
    ("intersect", &["=", "<"]),
    ("least", &["<"]),
    ("like", &["~~", "!~~"]),
    ("natural", &["=", "<"]),
    ("nullif", &["="]),
    ("order", &["<", ">", "="]),
    ("partition", &["=", "<"]),
    ("range", &["<", "=", "+", "-"]),
    ("similar", &["~", "!~"]),
    ("union", &["=", "<"]),
    ("using", &["=", "<"]),
];

impl Judge<'_> {
    /// Why tokens `from..to` are not a query that a standby may run; `None` if they are.
    pub(crate) fn objection(&self, from: usize, to: usize, depth: Depth) -> Option<Reason> {
        if depth == Depth::Run && self.knowledge.is_doubtful() {
            return Some(Reason::Doubtful);
        }
        let operators = depth == Depth::Run && self.knowledge.has_volatile_operators();
        let mut at = from;
        while at < to {
            let objection = match self.kind(at)? {
                Kind::Word | Kind::Quoted => {
                    let (objection, next) = self.names(at, to, depth, operators);
                    at = next;
                    objection
                }
                Kind::UnicodeQuoted => Some(Reason::Obscure),
                Kind::Dot => {
                    at += 1;
                    self.attribute(at, depth)
                }
                Kind::Operator if operators => {
                    let objection = self.operator(self.bytes(at));
                    at += 1;
                    objection
                }
                _ => {
                    at += 1;
                    None
                }
            };
            if objection.is_some() {
                return objection;
            }
        }
        None
    }

    fn operator(&self, written: &[u8]) -> Option<Reason> {
        let operator = if written == b"!=" { b"<>" } else { written };
        self.knowledge.is_volatile_operator(operator).then(|| Reason::Operator(shown(operator)))
    }

    /// The name behind the dot of `(value).name`, where it is one.
    fn attribute(&self, at: usize, depth: Depth) -> Option<Reason> {
        if depth == Depth::Plan || !matches!(self.kind(at)?, Kind::Word | Kind::Quoted) {
            return None;
        }
        let name = self.name(at);
        let name = name.bytes();
        if functions::of_name(name) == BuiltIn::Primary {
            Some(Reason::BuiltIn(shown(name)))
        } else if self.knowledge.is_volatile_attribute(name) {
            Some(Reason::Volatile(shown(name)))
        } else {
            None
        }
    }

    /// Looks at the word, or the chain of names with dots, at `at`; returns the place behind it too.
    fn names(&self, at: usize, to: usize, depth: Depth, operators: bool) -> (Option<Reason>, usize) {
        let previous = at.wrapping_sub(1);
        let labelled = self.is(previous, "as");
        if self.kind(at) == Some(Kind::Word) {
            let word = self.name(at);
            if !labelled
                && depth == Depth::Run
                && let Some(reason) = self.keyword(at, word.bytes())
            {
                return (Some(reason), at + 1);
            }
            if operators && let Some(reason) = self.operators_of(word.bytes()) {
                return (Some(reason), at + 1);
            }
            if keywords::standing(word.bytes()) == Standing::Reserved {
                return (None, at + 1);
            }
        }
        let mut last = at;
        while last + 2 < to
            && self.kind(last + 1) == Some(Kind::Dot)
            && matches!(self.kind(last + 2), Some(Kind::Word | Kind::Quoted))
        {
            last += 2;
        }
        let next = last + 1;
        if is_temporary(self.name(at).bytes()) && last > at {
            return (Some(Reason::Temporary), next);
        }
        let call = next < to && self.kind(next) == Some(Kind::Open) && !self.is_label(at, last);
        let mut objection = (at..next).step_by(2).find_map(|part| self.hazard(part));
        if objection.is_none() && call && depth == Depth::Run {
            objection = self.call(at, last);
        } else if objection.is_none() && !call {
            objection = (at + 2..next).step_by(2).find_map(|part| self.attribute(part, depth));
            if objection.is_none() && !labelled {
                objection = self.host_relation(at, last);
            }
        }
        (objection, next)
    }

    /// What a key word says by itself.
    fn keyword(&self, at: usize, word: &[u8]) -> Option<Reason> {
        match word {
            b"into" => Some(Reason::SelectInto),
            b"insert" | b"update" | b"delete" | b"merge" => Some(Reason::ModifyingPart),
            b"for" if self.is_any(at + 1, &["update", "share", "no", "key"]) => Some(Reason::RowLock),
            // TREAT (x AS name) calls the function pg_catalog.name.
            b"treat" if self.kind(at + 1) == Some(Kind::Open) => Some(Reason::Obscure),
            _ => None,
        }
    }

    fn operators_of(&self, word: &[u8]) -> Option<Reason> {
        let (_, operators) = OPERATORS_OF_WORDS.iter().find(|(known, _)| known.as_bytes() == word)?;
        operators.iter().find_map(|operator| self.operator(operator.as_bytes()))
    }

    /// Whether the parenthesis behind names `at..=last` holds columns or the length of a type, and calls nothing.
    fn is_label(&self, at: usize, last: usize) -> bool {
        let previous = at.wrapping_sub(1);
        match self.kind(previous) {
            // x::numeric(10, 2)
            Some(Kind::Cast) => true,
            _ if last > at => false,
            // FROM t AS a(x), CAST (x AS numeric(10, 2))
            Some(Kind::Word) if self.is(previous, "as") => true,
            // FROM t a(x)
            Some(Kind::Word) => keywords::standing(self.name(previous).bytes()) == Standing::Name,
            Some(Kind::Quoted | Kind::Label) => true,
            // FROM (...) a(x), but not SELECT DISTINCT ON (...) f(x), nor 1 OPERATOR(+) f(x)
            Some(Kind::Close) => !self.is_any(self.mate(previous).wrapping_sub(1), &["on", "operator"]),
            _ => false,
        }
    }

    fn hazard(&self, at: usize) -> Option<Reason> {
        let name = self.name(at);
        let name = name.bytes();
        Some(match self.knowledge.hazard(name)? {
            Hazard::View => Reason::View(shown(name)),
            Hazard::Unlogged => Reason::Unlogged(shown(name)),
            Hazard::Type => Reason::Type(shown(name)),
        })
    }

    fn host_relation(&self, at: usize, last: usize) -> Option<Reason> {
        let of_catalog = at == last || self.name(last - 2).bytes() == b"pg_catalog";
        let name = self.name(last);
        (of_catalog && functions::is_of_host(name.bytes())).then(|| Reason::AsksHost(shown(name.bytes())))
    }

    /// What is against calling the function that names `at..=last` mean.
    fn call(&self, at: usize, last: usize) -> Option<Reason> {
        let name = self.name(last);
        let name = name.bytes();
        let schema = (last > at).then(|| self.name(last - 2));
        let schema = schema.as_ref().map(|schema| schema.bytes());
        let built_in = match schema {
            None | Some(b"pg_catalog") => functions::of_name(name),
            Some(_) => BuiltIn::None,
        };
        // With three arguments it only computes; with two it runs a query that it is given.
        let computes = name == b"ts_rewrite" && self.arguments(last + 1) == 3;
        if built_in == BuiltIn::Primary && !computes {
            return Some(Reason::BuiltIn(shown(name)));
        }
        match (self.knowledge.function(schema, name, self.path), built_in) {
            (Volatility::Writes, _) => Some(Reason::Volatile(shown(name))),
            (Volatility::Unknown, BuiltIn::None) => {
                let syntax = last == at && self.kind(at) == Some(Kind::Word) && keywords::is_syntax(name);
                (!syntax).then(|| Reason::Unknown(shown(name)))
            }
            _ => self.setting(last, name),
        }
    }

    /// How many arguments are in the parentheses that open at `open`.
    fn arguments(&self, open: usize) -> usize {
        let (mut at, close, mut commas) = (open + 1, self.mate(open), 0);
        while at < close {
            match self.kind(at) {
                Some(Kind::Comma) => commas += 1,
                Some(Kind::Open) => at = self.mate(at),
                // Commas in an array are not counted, and nobody rewrites with one.
                Some(Kind::OpenBracket) => return 0,
                _ => {}
            }
            at += 1;
        }
        commas + 1
    }

    /// What is against a call of a function that reads or writes a setting.
    fn setting(&self, at: usize, name: &[u8]) -> Option<Reason> {
        match name {
            b"set_config" => Some(Reason::HiddenSetting),
            b"current_setting" if self.kind(at + 2) == Some(Kind::Text) => {
                let text = self.bytes(at + 2);
                let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
                functions::is_setting_of_host(inner).then(|| Reason::AsksHost(shown(inner)))
            }
            // Any name may come.
            b"current_setting" => Some(Reason::AsksHost(shown(name))),
            _ => None,
        }
    }
}

/// Whether `name` is the schema of a session's temporary objects.
fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(b"pg_temp") || name.starts_with(b"pg_toast_temp")
}
