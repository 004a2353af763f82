//! Texts that name prepared statements (PREPARE, EXECUTE, DEALLOCATE): the client's names in them are replaced by
//! ours. Pure.

use super::{ClientSide, Shared};
use crate::parameters::{quote_identifier, quote_literal};
use crate::statements::{About, Deed, Form, Statement, StatementKey};
use hawser_sql_router::effects::{Effect, Effects};
use hawser_sql_router::keywords::{Standing, standing};
use hawser_sql_router::scan::{Place, begins_with};
use hawser_wire::encode::{SERVER_NAME_PREFIX, ServerName};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A text with our names in it, and what it does.
pub(super) struct Renamed {
    pub(super) text: Vec<u8>,
    pub(super) deed: Arc<Deed>,
}

/// The current statement of a client's name. One that was parsed under settings that are other ones now is replaced
/// by the same text's statement for these.
pub(super) fn current(name: &[u8], client: &mut ClientSide, shared: &Shared) -> Option<Arc<Statement>> {
    let known = &client.statements.named(name)?.statement;
    let meaning = client.state.meaning();
    if Arc::ptr_eq(&known.meaning, meaning) || known.meaning == *meaning {
        return Some(known.clone());
    }
    let key = StatementKey { form: known.form, text: &known.text, types: &known.types, meaning };
    let renewed = shared.registry.statement_that_does(key, || known.deed.clone());
    client.statements.replace(name, renewed.clone());
    Some(renewed)
}

/// Replaces the names in `text`. Names that the client has not are left, for the server to complain about.
pub(super) fn rename(text: &[u8], effects: Effects, client: &mut ClientSide, shared: &Shared) -> Renamed {
    let mut renaming =
        Renaming { text, out: Vec::with_capacity(text.len() + 16), copied: 0, shifts: SmallVec::new() };
    let mut names: SmallVec<[(String, Option<Arc<Statement>>); 2]> = SmallVec::new();
    let mut about: SmallVec<[About; 1]> = SmallVec::new();
    let mut changed = false;
    // The server has everything under the client's own names.
    let literal = client.state.literal;
    for effect in &effects.statements {
        about.push(match effect {
            Effect::Prepare { name: (name, place), rest } => {
                let known = look_up(name, &names, client, shared);
                if let Some(known) = known {
                    if literal {
                        About::Nothing
                    } else {
                        renaming.replace(place, &known);
                        About::Names(known)
                    }
                } else {
                    let meaning = if changed { unique() } else { client.state.meaning().clone() };
                    let body = text.get(rest.clone()).unwrap_or_default();
                    let key = StatementKey { form: Form::Prepare, text: body, types: &[], meaning: &meaning };
                    let made = shared.registry.statement(key);
                    names.push((name.clone(), Some(made.clone())));
                    if literal {
                        About::Defines(made)
                    } else {
                        renaming.replace(place, &made);
                        About::Makes(made)
                    }
                }
            }
            Effect::Execute((name, place)) | Effect::Deallocate((name, place)) => {
                let known = look_up(name, &names, client, shared);
                let executes = matches!(effect, Effect::Execute(_));
                if !executes {
                    names.push((name.clone(), None));
                }
                match known {
                    Some(_) if literal => About::Nothing,
                    Some(known) => {
                        renaming.replace(place, &known);
                        if executes { About::Uses(known) } else { About::Names(known) }
                    }
                    None => {
                        renaming.defuse(place, name);
                        About::Nothing
                    }
                }
            }
            effect => {
                changed |= !matches!(effect, Effect::None);
                About::Nothing
            }
        });
    }
    let fingerprint = crate::statements::fingerprint(text, &effects);
    let (text, shifts) = renaming.finish();
    Renamed { text, deed: Arc::new(Deed { effects, about, shifts, fingerprint }) }
}

fn look_up(
    name: &str,
    names: &[(String, Option<Arc<Statement>>)],
    client: &mut ClientSide,
    shared: &Shared,
) -> Option<Arc<Statement>> {
    match names.iter().rev().find(|(known, _)| known == name) {
        Some((_, here)) => here.clone(),
        None => current(name.as_bytes(), client, shared),
    }
}

/// A meaning that nobody shares: settings change in the same text, and nobody can tell what they will be.
fn unique() -> Arc<str> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("once {}", NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

struct Renaming<'a> {
    text: &'a [u8],
    out: Vec<u8>,
    copied: usize,
    shifts: SmallVec<[(usize, isize); 1]>,
}

impl Renaming<'_> {
    fn replace(&mut self, place: &Place, statement: &Statement) {
        self.put(place, ServerName::new(statement.id.0).as_bytes());
    }

    /// A name of the client's that looks like one of ours must not hit a statement of ours.
    fn defuse(&mut self, place: &Place, name: &str) {
        if name.as_bytes().starts_with(SERVER_NAME_PREFIX) {
            self.put(place, format!("\"?{}\"", name.replace('"', "\"\"")).as_bytes());
        }
    }

    fn put(&mut self, place: &Place, name: &[u8]) {
        self.out.extend_from_slice(self.text.get(self.copied..place.start).unwrap_or_default());
        let before = String::from_utf8_lossy(&self.out).chars().count();
        self.out.extend_from_slice(name);
        self.copied = place.end;
        let old = self.text.get(place.clone()).unwrap_or_default();
        let count =
            |bytes: &[u8]| isize::try_from(String::from_utf8_lossy(bytes).chars().count()).unwrap_or(0);
        self.shifts.push((before + 1, count(name) - count(old)));
    }

    fn finish(mut self) -> (Vec<u8>, SmallVec<[(usize, isize); 1]>) {
        self.out.extend_from_slice(self.text.get(self.copied..).unwrap_or_default());
        (self.out, self.shifts)
    }
}

/// The PREPARE of a statement under the client's name for it, as the client most likely wrote it.
pub(super) fn under_its_own_name(name: &[u8], statement: &Statement) -> String {
    let name = String::from_utf8_lossy(name);
    let mut text = String::from("PREPARE ");
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && standing(name.as_bytes()) == Standing::Name {
        text.push_str(&name);
    } else {
        quote_identifier(&mut text, &name);
    }
    text.push_str(&String::from_utf8_lossy(&statement.text));
    text
}

/// A text whose failure changes nothing.
pub(super) fn shielded(text: &str) -> String {
    let mut literal = String::new();
    quote_literal(&mut literal, text);
    let body = format!("BEGIN EXECUTE {literal}; EXCEPTION WHEN OTHERS THEN NULL; END");
    let mut shielded = String::from("DO ");
    quote_literal(&mut shielded, &body);
    shielded
}

/// Whether a text may name prepared statements; the quick answer.
pub(super) fn may_name_statements(text: &[u8]) -> bool {
    // What does not begin with a word begins with a comment.
    let words = ["prepare", "execute", "deallocate", "explain", "create", ""];
    begins_with(text.trim_ascii_start(), &words)
}
