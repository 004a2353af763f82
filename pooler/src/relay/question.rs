//! What a server is asked when a client's statements may have left something behind that their texts do not show.
//! Pure.
//!
//! A text whose calls have proved clean often enough is asked about only now and then.

use crate::parameters::{self, ParameterSet, quote_literal};
use crate::pins::{PinReason, PinReasons};
use hawser_sql_router::effects;
use hawser_wire::frontend as message;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

/// So often must a text have proved clean, and never anything else, before it is asked about only now and then.
const PROOFS: u32 = 16;

/// What stands for the proofs of a text that has left something behind. It may have nothing to change for a while,
/// because it has been changed already.
const NEVER: u32 = u32::MAX;

/// One in so many executions of a proven text is asked about.
const SAMPLE: u32 = 64;

/// Texts whose proofs are kept per worker.
const MOST_TEXTS: usize = 10_000;

/// How often each text has proved clean. One worker's.
#[derive(Debug, Default)]
pub struct Proven {
    /// By fingerprint of the text.
    texts: RefCell<HashMap<u64, u32>>,
    /// Settings of applications that some client has set by their names. No view shows them.
    custom: RefCell<BTreeSet<String>>,
}

impl Proven {
    /// Takes note of one execution. Whether it is to be asked about.
    pub(super) fn is_due(&self, text: u64) -> bool {
        let mut texts = self.texts.borrow_mut();
        match texts.get_mut(&text) {
            Some(proofs) if (PROOFS..NEVER).contains(proofs) => {
                *proofs = (*proofs + 1).min(NEVER - 1);
                (*proofs - PROOFS).is_multiple_of(SAMPLE)
            }
            _ => true,
        }
    }

    /// Whether the text has left something behind before.
    fn is_found_out(&self, text: u64) -> bool {
        self.texts.borrow().get(&text) == Some(&NEVER)
    }

    /// A client has set this.
    pub(super) fn learn(&self, name: &str) {
        let mut custom = self.custom.borrow_mut();
        if custom.len() < MOST_CUSTOM && !custom.contains(name) {
            custom.insert(name.to_owned());
        }
    }

    fn judge(&self, text: u64, clean: bool) {
        let mut texts = self.texts.borrow_mut();
        if texts.len() >= MOST_TEXTS {
            texts.clear();
        }
        let proofs = texts.entry(text).or_default();
        *proofs = if clean { *proofs + u32::from(*proofs < PROOFS) } else { NEVER };
    }
}

/// Names of applications' settings that are kept per worker.
const MOST_CUSTOM: usize = 100;

/// Names of such settings in one question, beside those.
const MOST_NAMED: usize = 64;

/// What is to be asked, and why.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// Something was run of which it is known that it may leave something behind.
    is_suspected: bool,
    /// Texts on which the answer sheds light.
    texts: SmallVec<[u64; 2]>,
    /// Names of settings that no view shows.
    custom: Vec<String>,
}

impl Question {
    /// A text is run that may leave something behind, and is to be asked about.
    pub(super) fn note(&mut self, text: u64) {
        if self.texts.len() < 16 {
            self.texts.push(text);
        }
    }

    /// What is run may set these.
    pub(super) fn name(&mut self, settings: &[String]) {
        for name in settings {
            if self.custom.len() < MOST_NAMED && !self.custom.contains(name) {
                self.custom.push(name.clone());
            }
        }
    }

    /// It must be asked, whatever the texts are.
    pub(super) const fn insist(&mut self) {
        self.is_suspected = true;
    }

    /// Whether an unknown function was called, which may have advanced a sequence.
    pub(super) fn may_advance_sequences(&self) -> bool {
        !self.texts.is_empty()
    }

    /// The answer was that nothing was left behind, or that something was, which speaks against a text only where nothing
    /// else is suspected, nor another text that was found out before.
    pub(super) fn judge(&self, clean: bool, proven: &Proven) {
        if !clean && (self.is_suspected || self.texts.iter().any(|text| proven.is_found_out(*text))) {
            return;
        }
        for text in &self.texts {
            proven.judge(*text, clean);
        }
    }

    /// The statement that asks. `expected` is what we believe to be set.
    #[must_use]
    pub(super) fn text(&self, expected: &ParameterSet, proven: &Proven) -> String {
        let mut text = String::with_capacity(2048);
        text.push_str(SETTINGS);
        array(&mut text, expected.iter().map(|(name, _)| name));
        text.push_str(")))");
        text.push_str(THINGS);
        let known = proven.custom.borrow();
        let mut custom: BTreeSet<&str> = known.iter().map(String::as_str).collect();
        custom.extend(self.custom.iter().map(String::as_str));
        custom.extend(expected.iter().map(|(name, _)| name).filter(|name| name.contains('.')));
        if !custom.is_empty() {
            text.push_str(
                " UNION ALL SELECT 'custom', n, pg_catalog.current_setting(n, true), NULL FROM pg_catalog.unnest(",
            );
            array(&mut text, custom.into_iter());
            text.push_str(") AS n");
        }
        text
    }
}

/// Names that a Bind's parameters may give to settings of applications.
#[must_use]
pub(super) fn named_in(bind: &[u8]) -> Vec<String> {
    let texts = message::bind_values(bind).flatten().filter_map(|value| std::str::from_utf8(value).ok());
    texts.filter(|text| effects::is_custom(text)).take(MOST_NAMED).map(str::to_lowercase).collect()
}

fn array<'a>(out: &mut String, names: impl Iterator<Item = &'a str>) {
    out.push_str("ARRAY[");
    for (number, name) in names.enumerate() {
        if number > 0 {
            out.push(',');
        }
        quote_literal(out, name);
    }
    out.push_str("]::pg_catalog.text[]");
}

/// Settings of this session, and those that we believe it has and that are at their defaults. Every name and operator
/// is written out, because the client's search path is in force.
const SETTINGS: &str = "SELECT CASE WHEN s.source OPERATOR(pg_catalog.=) 'session' THEN 'setting' ELSE 'default' END, \
     pg_catalog.lower(s.name), s.setting, \
     CASE WHEN s.source OPERATOR(pg_catalog.=) 'session' THEN pg_catalog.current_setting(s.name) END \
     FROM pg_catalog.pg_settings s WHERE s.source OPERATOR(pg_catalog.=) 'session' \
     OR (s.source OPERATOR(pg_catalog.<>) 'session' \
     AND pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) ANY ((";

/// What only this connection can have, the roles, and settings of applications that its functions name.
const THINGS: &str = " UNION ALL SELECT 'role', pg_catalog.current_setting('role'), session_user::pg_catalog.text, \
     pg_catalog.current_setting('session_authorization', true) \
     UNION ALL SELECT 'temporary', NULL, NULL, NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_depend \
     WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
     AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
     UNION ALL SELECT 'cursor', NULL, NULL, NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) \
     UNION ALL SELECT 'lock', NULL, NULL, NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_locks \
     WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) \
     UNION ALL SELECT 'prepared', name, NULL, NULL FROM pg_catalog.pg_prepared_statements \
     WHERE pg_catalog.left(name, 8) OPERATOR(pg_catalog.<>) 'hawser_p' \
     UNION ALL SELECT 'listen', c, NULL, NULL FROM pg_catalog.pg_listening_channels() AS c \
     UNION ALL SELECT 'custom', n, pg_catalog.current_setting(n, true), NULL FROM (SELECT DISTINCT \
     pg_catalog.lower(m[1]) AS n FROM pg_catalog.pg_proc p, pg_catalog.regexp_matches(p.prosrc, \
     $hawser$(?:set_config\\s*\\(\\s*'|\\mset\\s+(?:session\\s+)?)([a-z_][\\w$]*\\.[\\w$.]+)$hawser$, 'gi') AS m \
     WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid) AS f";

/// What a server answered.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What only this connection has.
    pub(super) things: PinReasons,
    /// Channels that it listens on, the hub's included.
    pub(super) channels: Vec<String>,
    /// Prepared statements that are not ours by their names.
    pub(super) prepared: Vec<String>,
    /// Name, value as `pg_settings` has it, value as SHOW has it.
    set: Vec<(String, String, String)>,
    defaults: Vec<String>,
    custom: Vec<(String, String)>,
    role: Option<String>,
}

/// Reads the rows of an answer. What is no such row is left out; what cannot be read keeps the session where it is.
#[must_use]
pub(super) fn read(rows: &[Vec<Option<String>>]) -> Findings {
    let mut findings = Findings::default();
    for row in rows {
        let [Some(kind), first, second, third] = row.as_slice() else { continue };
        // In the client's encoding, which is another.
        if row.iter().flatten().any(|field| field.contains(char::REPLACEMENT_CHARACTER)) {
            findings.things.add(PinReason::Unverified);
            continue;
        }
        let owned = |field: &Option<String>| field.clone().unwrap_or_default();
        match kind.as_str() {
            "setting" => findings.set.push((owned(first), owned(second), owned(third))),
            "default" => findings.defaults.push(owned(first)),
            "role" => findings.role = first.clone(),
            "custom" => {
                if let (Some(name), Some(value)) = (first, second) {
                    findings.custom.push((name.clone(), value.clone()));
                }
            }
            "temporary" => findings.things.add(PinReason::TemporaryObject),
            "cursor" => findings.things.add(PinReason::HoldableCursor),
            "lock" => findings.things.add(PinReason::AdvisoryLock),
            "prepared" => findings.prepared.push(owned(first)),
            "listen" => findings.channels.push(owned(first)),
            _ => {}
        }
    }
    findings
}

impl Findings {
    /// What the session has set, as far as the server shows it; `before` is what we believed. What `base` names was
    /// set by us for every client.
    #[must_use]
    pub(super) fn settings(&self, before: &ParameterSet, base: &[String]) -> ParameterSet {
        let mut settings = before.clone();
        for name in &self.defaults {
            settings.remove(name);
        }
        for (name, raw, shown) in &self.set {
            match before.value(name) {
                None if base.contains(name) => {}
                Some(known)
                    if parameters::is_same_value(name, known, raw)
                        || parameters::is_same_value(name, known, shown) => {}
                _ => settings.put(name, shown),
            }
        }
        for (name, value) in &self.custom {
            let known = before.value(name).unwrap_or_default();
            if known != value {
                settings.put(name, value);
            }
        }
        match self.role.as_deref() {
            Some("none") => settings.remove("role"),
            Some(role) if before.value("role") != Some(role) => settings.put("role", role),
            _ => {}
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[&str]) -> Vec<Option<String>> {
        (0..4).map(|at| fields.get(at).map(|field| (*field).to_owned())).collect()
    }

    #[test]
    fn what_the_server_shows_becomes_the_sessions() {
        let before = ParameterSet::from_pairs([
            ("work_mem", "4MB"),
            ("search_path", "\"a\", \"b\""),
            ("app.x", "1"),
            ("role", "r"),
        ]);
        let rows = [
            row(&["setting", "work_mem", "4096", "4MB"]),
            row(&["setting", "search_path", "a, b", "a, b"]),
            row(&["setting", "timezone", "UTC", "UTC"]),
            row(&["custom", "app.x", "2"]),
            row(&["custom", "app.y", ""]),
            row(&["role", "none", "u"]),
            row(&["lock"]),
        ];
        let findings = read(&rows);
        let after = findings.settings(&before, &[]);
        assert_eq!(
            after.iter().collect::<Vec<_>>(),
            [("app.x", "2"), ("search_path", "\"a\", \"b\""), ("timezone", "UTC"), ("work_mem", "4MB")]
        );
        assert!(findings.things.has(PinReason::AdvisoryLock));
        let gone = read(&[row(&["default", "work_mem"])]).settings(&before, &[]);
        assert_eq!(gone.value("work_mem"), None);
    }

    #[test]
    fn what_was_set_for_every_client_is_not_one_clients() {
        let rows = [row(&["setting", "timezone", "UTC", "UTC"])];
        let after = read(&rows).settings(&ParameterSet::default(), &["timezone".to_owned()]);
        assert!(after.is_empty());
    }

    #[test]
    fn a_text_that_has_proved_clean_is_asked_about_now_and_then() {
        let proven = Proven::default();
        let mut asked = 0;
        let judge = |texts: &[u64], clean| {
            let mut question = Question::default();
            texts.iter().for_each(|text| question.note(*text));
            question.judge(clean, &proven);
        };
        for _ in 0..PROOFS + 10 * SAMPLE {
            if proven.is_due(1) {
                asked += 1;
                judge(&[1], true);
            }
        }
        assert_eq!(asked, PROOFS + 10);
        judge(&[2], false);
        for _ in 0..2 * PROOFS {
            assert!(proven.is_due(2));
            judge(&[2], true);
        }
    }

    #[test]
    fn a_text_is_not_to_blame_for_what_another_has_left() {
        let proven = Proven::default();
        let mut question = Question::default();
        question.note(1);
        question.insist();
        question.judge(false, &proven);
        // Nor for what comes from one that was found out.
        proven.judge(2, false);
        let mut question = Question::default();
        question.note(2);
        question.note(1);
        question.judge(false, &proven);
        for _ in 0..PROOFS {
            assert!(proven.is_due(1));
            proven.judge(1, true);
        }
        assert!(!proven.is_due(1));
    }
}
