//! What a text comes to, beside what it does to its session; and which texts do nothing to it.
//!
//! Most texts come again and again with other numbers and strings in them. What is known of one that does nothing to
//! its session holds for all of its template, so that the next one is neither cut into words nor searched.

use crate::shapes::{PoolNumber, Shape, Shapes};
use hawser_sql_router::effects::{self, Effects};
use hawser_sql_router::ending::{self, Ending};
use hawser_sql_router::template::Table;
use std::cell::RefCell;
use std::rc::Rc;

/// Templates that a worker remembers.
const TEMPLATES: usize = 1024;

/// See the module.
#[derive(Debug, Clone)]
pub struct Gist {
    /// How it may end the transaction.
    pub ending: Option<Ending>,
    /// Its shape; `None`: nobody wants to know.
    pub shape: Option<Rc<Shape>>,
}

impl Gist {
    /// The gist of any text.
    #[must_use]
    pub fn of(pool: PoolNumber, text: &[u8], shapes: &Shapes) -> Self {
        Self { ending: ending::of_text(text), shape: shapes.of(pool, text) }
    }

    /// The gist of a text that begins like this.
    #[must_use]
    pub fn of_beginning(pool: PoolNumber, text: &[u8], shapes: &Shapes) -> Self {
        Self { ending: Some(Ending::MayCommit), shape: shapes.of(pool, text) }
    }
}

/// Templates of texts that do nothing to their session.
#[derive(Debug)]
pub struct Harmless(RefCell<Table<Gist>>);

impl Default for Harmless {
    fn default() -> Self {
        Self(RefCell::new(Table::new(TEMPLATES)))
    }
}

impl Harmless {
    /// The gist of a whole text, and what it does to its session.
    #[must_use]
    pub fn look(&self, pool: PoolNumber, text: &[u8], shapes: &Shapes) -> (Gist, Option<Effects>) {
        let mut known = self.0.borrow_mut();
        if let Some(gist) = known.find(pool, text) {
            return (gist.clone(), None);
        }
        let gist = Gist::of(pool, text, shapes);
        if !effects::are_surely_none(text) {
            return (gist, effects::of_words(text));
        }
        known.insert(pool, text, gist.clone());
        (gist, None)
    }

    /// Forgets all: shapes are counted from the start.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
