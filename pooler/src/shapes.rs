//! What queries of one shape come to: calls, time, rows, errors, waiting, pins. Pure.
//!
//! A shape is a text without its literals ([`hawser_sql_router::fingerprint`]). One registry per worker, bounded: where
//! it is full, one of a few that are picked blindly goes, the one with the fewest calls. A text that was seen lately is
//! known by its hash; a prepared statement knows its shape from its Parse on.
//!
//! Time, rows and errors are those of a batch. They count for its shape if all statements of the batch have the same
//! one; of a pipeline of different statements only the calls are counted.

use crate::ids::StatementId;
use crate::statements::Statement;
use crate::stopwatch::{Stopwatch, Times, count};
use hawser_sql_router::fingerprint;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Texts whose shape is remembered by their hash.
const RECENT: usize = 512;

/// Shapes are shown up to this length in bytes.
const SHOWN: usize = 1024;

/// How much of a text makes its shape, in bytes: what comes later is data, most likely.
const LOOKED_AT: usize = 4096;

/// A statement whose shape is remembered, and for which pool.
type OfStatement = (PoolNumber, StatementId, Rc<Shape>);

/// Candidates of which one goes.
const PICKED: u64 = 8;

/// Which pool a shape was seen in: a number that the pool has on its worker.
pub type PoolNumber = u32;

/// One shape in one pool.
#[derive(Debug)]
pub struct Shape {
    pool: PoolNumber,
    hash: u64,
    text: Arc<str>,
    calls: Cell<u64>,
    errors: Cell<u64>,
    rows: Cell<u64>,
    bytes: Cell<u64>,
    pins: Cell<u64>,
    time: Stopwatch,
    waits: Cell<u64>,
    waited: Cell<u64>,
    reasons: RefCell<Reasons>,
}

/// Why batches went to the primary where there was a choice, and how many.
pub type Reasons = Vec<(&'static str, u64)>;

/// What one batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How long the server worked on it.
    pub took: Duration,
    /// How long the client waited for a server connection before.
    pub waited: Duration,
    /// Rows that its statements returned or changed.
    pub rows: u64,
    /// Bytes to the client.
    pub bytes: u64,
    /// Errors.
    pub errors: u64,
    /// It pinned its session.
    pub pinned: bool,
    /// Why it went to the primary, if there was a choice.
    pub reason: Option<&'static str>,
}

impl Shape {
    fn new(pool: PoolNumber, hash: u64, text: &str) -> Rc<Self> {
        let mut end = text.len().min(SHOWN);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Rc::new(Self {
            pool,
            hash,
            text: text.get(..end).unwrap_or_default().into(),
            calls: Cell::new(0),
            errors: Cell::new(0),
            rows: Cell::new(0),
            bytes: Cell::new(0),
            pins: Cell::new(0),
            time: Stopwatch::default(),
            waits: Cell::new(0),
            waited: Cell::new(0),
            reasons: RefCell::default(),
        })
    }

    /// Stands for all texts of this shape.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// A statement of this shape is run.
    #[inline]
    pub fn call(&self) {
        count(&self.calls, 1);
    }

    /// A batch of this shape is over.
    #[inline]
    pub fn record(&self, outcome: Outcome) {
        self.time.record(outcome.took);
        count(&self.rows, outcome.rows);
        count(&self.bytes, outcome.bytes);
        if outcome.errors > 0 {
            count(&self.errors, outcome.errors);
        }
        if !outcome.waited.is_zero() {
            count(&self.waits, 1);
            count(&self.waited, u64::try_from(outcome.waited.as_micros()).unwrap_or(u64::MAX));
        }
        if outcome.pinned {
            count(&self.pins, 1);
        }
        if let Some(reason) = outcome.reason {
            add_reason(&mut self.reasons.borrow_mut(), reason, 1);
        }
    }

    fn read(&self) -> Told {
        Told {
            pool: self.pool,
            hash: self.hash,
            text: self.text.clone(),
            calls: self.calls.get(),
            errors: self.errors.get(),
            rows: self.rows.get(),
            bytes: self.bytes.get(),
            pins: self.pins.get(),
            time: self.time.read(),
            waits: self.waits.get(),
            waited: self.waited.get(),
            reasons: self.reasons.borrow().clone(),
        }
    }
}

/// There are few reasons, so that looking through them is quick.
fn add_reason(reasons: &mut Reasons, reason: &'static str, more: u64) {
    match reasons.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += more,
        None => reasons.push((reason, more)),
    }
}

/// A [`Shape`] as it was at one moment.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of Shape and Outcome")]
pub struct Told {
    pub pool: PoolNumber,
    pub hash: u64,
    pub text: Arc<str>,
    pub calls: u64,
    pub errors: u64,
    pub rows: u64,
    pub bytes: u64,
    pub pins: u64,
    pub time: Times,
    pub waits: u64,
    /// Microseconds.
    pub waited: u64,
    pub reasons: Reasons,
}

impl Told {
    /// Adds what another worker has of the same shape and pool.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.pins += other.pins;
        self.time.add(&other.time);
        self.waits += other.waits;
        self.waited += other.waited;
        for (reason, more) in &other.reasons {
            add_reason(&mut self.reasons, reason, *more);
        }
    }
}

/// The hash under which a shape was looked for, and the shape.
type Recent = (u64, Rc<Shape>);

/// The shapes of one worker.
#[derive(Debug)]
pub struct Shapes {
    limit: Cell<usize>,
    hasher: RandomState,
    kept: RefCell<Kept>,
    recent: RefCell<Box<[Option<Recent>]>>,
    of_statements: RefCell<Box<[Option<OfStatement>]>>,
}

#[derive(Debug, Default)]
struct Kept {
    places: HashMap<(PoolNumber, u64), usize>,
    shapes: Vec<Rc<Shape>>,
    /// For picking blindly.
    dice: u64,
}

impl Shapes {
    /// At most so many; 0: nothing is looked at.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: Cell::new(limit),
            hasher: RandomState::new(),
            kept: RefCell::default(),
            recent: RefCell::new((0..RECENT).map(|_| None).collect()),
            of_statements: RefCell::new((0..RECENT).map(|_| None).collect()),
        }
    }

    /// Another limit.
    pub fn set_limit(&self, limit: usize) {
        if self.limit.replace(limit) > limit {
            *self.kept.borrow_mut() = Kept::default();
            self.recent.borrow_mut().fill_with(|| None);
            self.of_statements.borrow_mut().fill_with(|| None);
        }
    }

    /// The shape of a text; `None`: nobody wants to know.
    #[must_use]
    pub fn of(&self, pool: PoolNumber, text: &[u8]) -> Option<Rc<Shape>> {
        if self.limit.get() == 0 {
            return None;
        }
        let text = text.get(..LOOKED_AT).unwrap_or(text);
        let hash = self.hasher.hash_one((pool, text));
        let place = usize::try_from(hash).unwrap_or_default() % RECENT;
        if let Some(Some((known, shape))) = self.recent.borrow().get(place)
            && *known == hash
        {
            return Some(shape.clone());
        }
        let shape = self.find(pool, text);
        if let Some(place) = self.recent.borrow_mut().get_mut(place) {
            *place = Some((hash, shape.clone()));
        }
        Some(shape)
    }

    /// The shape of a prepared statement, by its number.
    #[must_use]
    pub fn of_statement(&self, pool: PoolNumber, statement: &Statement) -> Option<Rc<Shape>> {
        if self.limit.get() == 0 {
            return None;
        }
        let id = statement.id;
        let place = usize::try_from(id.0).unwrap_or_default() % RECENT;
        if let Some(Some((known_pool, known, shape))) = self.of_statements.borrow().get(place)
            && (*known_pool, *known) == (pool, id)
        {
            return Some(shape.clone());
        }
        let text = statement.text.get(..LOOKED_AT).unwrap_or(&statement.text);
        let shape = self.find(pool, text);
        if let Some(place) = self.of_statements.borrow_mut().get_mut(place) {
            *place = Some((pool, id, shape.clone()));
        }
        Some(shape)
    }

    #[cold]
    fn find(&self, pool: PoolNumber, text: &[u8]) -> Rc<Shape> {
        let fingerprint = fingerprint::of(text);
        let mut kept = self.kept.borrow_mut();
        if let Some(known) =
            kept.places.get(&(pool, fingerprint.hash)).and_then(|place| kept.shapes.get(*place))
        {
            return known.clone();
        }
        let shape = Shape::new(pool, fingerprint.hash, &fingerprint.text);
        kept.add(shape.clone(), self.limit.get());
        shape
    }

    /// Those on which servers worked longest, so many at most.
    #[must_use]
    pub fn busiest(&self, limit: usize) -> Vec<Told> {
        let shapes = &self.kept.borrow().shapes;
        if limit >= shapes.len() {
            return shapes.iter().map(|shape| shape.read()).collect();
        }
        // Each shape is looked at once: they lie far apart in memory, and a worker has better to do.
        let worked = |(place, shape): (usize, &Rc<Shape>)| (std::cmp::Reverse(shape.time.micros()), place);
        let mut places: Vec<_> = shapes.iter().enumerate().map(worked).collect();
        places.select_nth_unstable(limit);
        places.truncate(limit);
        places.iter().filter_map(|(_, place)| shapes.get(*place)).map(|shape| shape.read()).collect()
    }

    /// Shapes that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.borrow().shapes.len()
    }

    /// None is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Kept {
    fn add(&mut self, shape: Rc<Shape>, limit: usize) {
        let key = (shape.pool, shape.hash);
        if self.shapes.len() < limit {
            self.places.insert(key, self.shapes.len());
            self.shapes.push(shape);
            return;
        }
        let Some(place) = self.least() else { return };
        if let Some(gone) = self.shapes.get_mut(place) {
            self.places.remove(&(gone.pool, gone.hash));
            *gone = shape;
            self.places.insert(key, place);
        }
    }

    /// Of a few that are picked blindly, the one with the fewest calls.
    fn least(&mut self) -> Option<usize> {
        let count = self.shapes.len() as u64;
        let mut picked = Vec::new();
        for _ in 0..PICKED {
            // Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
            self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            picked.push(usize::try_from((mixed ^ (mixed >> 31)).checked_rem(count)?).ok()?);
        }
        picked.into_iter().min_by_key(|place| self.shapes.get(*place).map_or(0, |shape| shape.calls.get()))
    }
}

/// The shape of a batch that is under way.
#[derive(Debug, Clone, Default)]
pub enum OfBatch {
    /// Nothing has been run yet.
    #[default]
    None,
    /// All statements have this one.
    One(Rc<Shape>),
    /// They have several.
    Several,
}

impl OfBatch {
    /// A statement is run.
    #[inline]
    pub fn call(&mut self, shape: &Rc<Shape>) {
        shape.call();
        match self {
            Self::None => *self = Self::One(shape.clone()),
            Self::One(known) if Rc::ptr_eq(known, shape) => {}
            Self::One(_) => *self = Self::Several,
            Self::Several => {}
        }
    }
}

/// The number at the end of a command tag: `SELECT 3`, `INSERT 0 3`. Zero without one.
#[must_use]
pub fn rows_of(tag: &[u8]) -> u64 {
    let digits = tag.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let number = tag.get(tag.len() - digits..).unwrap_or_default();
    number.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_shape_are_counted_together_but_not_those_of_two_pools() {
        let shapes = Shapes::new(10);
        for text in ["SELECT 1", "select  2", "SELECT 1"] {
            shapes.of(1, text.as_bytes()).unwrap().call();
        }
        shapes.of(2, b"SELECT 1").unwrap().call();
        let mut told = shapes.busiest(usize::MAX);
        told.sort_by_key(|told| told.pool);
        assert_eq!(told.iter().map(|told| (told.pool, told.calls)).collect::<Vec<_>>(), [(1, 3), (2, 1)]);
    }

    #[test]
    fn a_flood_of_shapes_is_bounded_and_does_not_push_out_what_is_busy() {
        let shapes = Shapes::new(100);
        let busy = shapes.of(1, b"SELECT busy").unwrap();
        for number in 0..2000 {
            busy.call();
            let text = format!("SELECT column_{}", number % 700);
            shapes.of(1, text.as_bytes()).unwrap().call();
        }
        assert_eq!(shapes.len(), 100);
        assert!(
            shapes.busiest(usize::MAX).iter().any(|told| &*told.text == "select busy" || told.calls >= 2000)
        );
    }

    #[test]
    fn nothing_is_looked_at_when_nobody_wants_to_know() {
        let shapes = Shapes::new(0);
        assert!(shapes.of(1, b"SELECT 1").is_none());
    }

    #[test]
    fn a_batch_of_several_shapes_has_none_that_its_time_counts_for() {
        let shapes = Shapes::new(10);
        let (one, other) = (shapes.of(1, b"SELECT 1").unwrap(), shapes.of(1, b"DELETE FROM a").unwrap());
        let mut batch = OfBatch::None;
        batch.call(&one);
        batch.call(&one);
        assert!(matches!(batch, OfBatch::One(_)));
        batch.call(&other);
        assert!(matches!(batch, OfBatch::Several));
        assert_eq!((one.read().calls, other.read().calls), (2, 1));
    }

    #[test]
    fn the_busiest_are_those_that_took_longest() {
        let shapes = Shapes::new(10);
        for (text, took) in [("SELECT a", 1), ("SELECT b", 9), ("SELECT c", 5)] {
            let took = Duration::from_millis(took);
            shapes.of(1, text.as_bytes()).unwrap().record(Outcome { took, ..Outcome::default() });
        }
        let mut micros: Vec<u64> = shapes.busiest(2).iter().map(|told| told.time.micros).collect();
        micros.sort_unstable();
        assert_eq!(micros, [5000, 9000]);
    }

    #[test]
    fn reasons_are_counted_each_and_added_up_over_workers() {
        let (one, other) = (Shapes::new(10), Shapes::new(10));
        for (shapes, reasons) in [(&one, ["write", "lag", "write"]), (&other, ["lag", "lag", "asked"])] {
            for reason in reasons {
                let outcome = Outcome { reason: Some(reason), ..Outcome::default() };
                shapes.of(1, b"SELECT 1").unwrap().record(outcome);
            }
        }
        let mut told = one.busiest(1).remove(0);
        told.add(&other.busiest(1)[0]);
        assert_eq!(told.reasons, [("write", 2), ("lag", 3), ("asked", 1)]);
    }

    #[test]
    fn rows_are_at_the_end_of_a_tag() {
        assert_eq!(rows_of(b"SELECT 12"), 12);
        assert_eq!(rows_of(b"INSERT 0 3"), 3);
        assert_eq!((rows_of(b"BEGIN"), rows_of(b"")), (0, 0));
    }
}
