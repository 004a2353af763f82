//! The client as the relay sees it.

use super::{Gist, SessionState, Shared};
use crate::ids::SessionId;
use crate::notify::Listener;
use crate::shapes::Shape;
use crate::statements::{ClientStatements, Deed, Form, StatementKey};
use crate::stream::{Buffer, Stream};
use hawser_sql_router::ending::Ending;
use hawser_wire::frame::{self, HEADER_LENGTH, c_string};
use hawser_wire::frontend::{bind_names, parse};
use hawser_wire::tag::frontend;
use std::rc::Rc;
use std::sync::Arc;

/// The client as the relay sees it. The session owns it; it outlives every relay.
#[derive(Debug)]
pub struct ClientSide {
    /// Which session it is.
    pub session: SessionId,
    /// Bytes to and from the client.
    pub stream: Stream,
    /// Bytes from the client that nobody has dealt with yet. None while there are none.
    pub input: Option<Buffer>,
    /// Its named statements.
    pub statements: ClientStatements,
    /// Its unnamed statement.
    pub unnamed: Unnamed,
    /// What it wants set, and what keeps it on its server.
    pub state: SessionState,
    /// What it listens on, once it has said LISTEN in transaction mode.
    pub listener: Option<Box<Listener>>,
}

impl ClientSide {
    /// The text of a statement that the client prepared earlier.
    #[must_use]
    pub fn text_of(&self, name: &[u8]) -> Option<&[u8]> {
        if name.is_empty() {
            let kept = self.unnamed.statement.as_ref()?;
            return c_string(&kept.rest).map(|(text, _)| text);
        }
        Some(&self.statements.named(name)?.statement.text)
    }

    /// The text that the first message of `input` is about, as far as it has arrived.
    #[must_use]
    pub fn first_text<'a>(&'a self, input: &'a [u8]) -> Option<&'a [u8]> {
        let header = frame::header(input).ok()??;
        let body = input.get(HEADER_LENGTH..header.total().min(input.len()))?;
        match header.tag {
            frontend::QUERY => Some(body.strip_suffix(b"\0").unwrap_or(body)),
            frontend::PARSE => Some(parse(body).ok()?.text),
            frontend::BIND => self.text_of(bind_names(body).ok()??.1),
            _ => None,
        }
    }
}

/// A client's unnamed statement, kept so that a Bind in a later batch finds it on whatever server that gets.
#[derive(Debug, Default)]
pub struct Unnamed {
    /// Counts the unnamed statements of the session.
    pub generation: u64,
    /// The current one, if there is one.
    pub statement: Option<Box<UnnamedStatement>>,
}

/// Text and types of an unnamed Parse.
#[derive(Debug, Default)]
pub struct UnnamedStatement {
    /// The body after the empty name: text, zero, types.
    pub rest: Vec<u8>,
    /// What it does to the session.
    pub deed: Option<Arc<Deed>>,
    /// Whether it may end a transaction.
    pub ending: Option<Ending>,
    /// Its shape, for statistics.
    pub shape: Option<Rc<Shape>>,
}

impl Unnamed {
    /// The client has parsed a text with these parameter types (a count of two bytes and so many oids).
    pub fn define(&mut self, text: &[u8], types: &[u8], deed: Option<Arc<Deed>>, gist: Gist) {
        self.generation += 1;
        let kept = self.statement.get_or_insert_default();
        kept.rest.clear();
        kept.rest.extend_from_slice(text);
        kept.rest.push(0);
        kept.rest.extend_from_slice(types);
        kept.deed = deed;
        kept.ending = gist.ending;
        kept.shape = gist.shape;
    }

    /// The statement of this generation was not parsed after all. There may be another one by now.
    pub fn forget(&mut self, generation: u64) {
        if self.generation == generation {
            self.statement = None;
        }
    }
}

impl ClientSide {
    /// Defines the name of a Parse whose text servers have parsed for this database and user (`mark`) before. False where a
    /// server must be asked.
    pub fn define_known(&mut self, body: &[u8], mark: u64, limit: usize, shared: &Shared) -> bool {
        let Ok(parse) = parse(body) else { return false };
        let meaning = self.state.meaning();
        let key = StatementKey { form: Form::Parse, text: parse.text, types: parse.types, meaning };
        let is_free = !parse.name.is_empty() && self.statements.named(parse.name).is_none();
        if !is_free || self.state.literal || self.statements.len() >= limit {
            return false;
        }
        let known = shared.registry.known(key).filter(|known| known.was_parsed(mark));
        if let Some(known) = &known {
            self.statements.define(parse.name, known.clone());
        }
        known.is_some()
    }
}
