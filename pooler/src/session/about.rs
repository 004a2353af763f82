//! What an operator can see of a session: who it is is said once, what it does is written down as it goes.

use super::handle::{Handle, Place};
use crate::parameters::ParameterSet;
use crate::pins::{PinReason, PinReasons, Pinned};
use crate::pool::Pool;
use crate::pool::tally::Counters;
use crate::report::{ClientReport, Doing, Spot};
use crate::route::decide::Why;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What changes with every request: written by the session, read by whoever asks.
#[derive(Debug)]
pub struct Trace {
    /// When it last asked for something.
    pub requested: Cell<Option<Instant>>,
    /// What it does with its server connection.
    pub doing: Cell<Doing>,
    /// Why it keeps that.
    pins: Cell<PinReasons>,
    /// Since when each reason holds. None for most.
    pinned: RefCell<Option<Box<Pinned>>>,
    /// Named statements that it has.
    pub statements: Cell<u32>,
    /// How long it waited for its server connection; zero once that is counted.
    pub waited: Cell<Duration>,
    /// How long it took until its batch was with a server: it waited for a host to be fresh, and for a connection.
    pub delayed: Cell<Duration>,
    /// Why its batch went to the primary, if there was a choice.
    pub reason: Cell<Option<Why>>,
    /// What it has set.
    pub settings: RefCell<Option<Rc<ParameterSet>>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            requested: Cell::new(None),
            doing: Cell::default(),
            pins: Cell::default(),
            pinned: RefCell::default(),
            statements: Cell::new(0),
            waited: Cell::default(),
            delayed: Cell::default(),
            reason: Cell::new(None),
            settings: RefCell::new(None),
        }
    }
}

impl Trace {
    /// Takes note of why the session keeps its server connection from now on, and counts what has come and what is
    /// over. True when a reason came.
    #[inline]
    pub fn note_pins(&self, pins: PinReasons, counters: &Counters) -> bool {
        let before = self.pins.replace(pins);
        before != pins && self.change_pins(before, pins, counters)
    }

    #[cold]
    fn change_pins(&self, before: PinReasons, pins: PinReasons, counters: &Counters) -> bool {
        let mut pinned = self.pinned.borrow_mut();
        let over = |reason, time| counters.count_pin_time(reason, time);
        pinned.get_or_insert_default().update(pins, Instant::now(), over);
        if pins.is_empty() {
            *pinned = None;
        }
        counters.count_pins(before, pins)
    }

    /// Why the session keeps its server connection, and since when each reason holds.
    #[must_use]
    pub fn pins(&self) -> Vec<(PinReason, Instant)> {
        self.pinned.borrow().as_ref().map_or_else(Vec::new, |pinned| pinned.iter().collect())
    }
}

impl Handle {
    /// Why it keeps its server connection, if it does; and the pool that it has it from.
    #[must_use]
    pub fn pinned(&self) -> Option<(Rc<Pool>, PinReasons)> {
        let pins = self.trace.pins.get();
        let Place::Linked(target) = &*self.place() else { return None };
        (!pins.is_empty()).then(|| (target.pool.clone(), pins))
    }

    /// As it is now; nothing before its login is over.
    #[must_use]
    pub fn report(&self) -> Option<ClientReport> {
        let about = self.about()?.clone();
        let trace = &self.trace;
        let spot = match &*self.place() {
            Place::Detached => Spot::Detached,
            Place::Waiting => Spot::Waiting,
            Place::Linked(target) => Spot::Linked {
                server: Some(target.card.id),
                pid: target.card.pid(),
                doing: trace.doing.get(),
            },
            Place::Replicating(key, _) => Spot::Linked { server: None, pid: key.pid, doing: Doing::Busy },
        };
        let settings = trace.settings.borrow();
        let name = settings.as_ref().and_then(|settings| settings.value("application_name"));
        Some(ClientReport {
            id: self.id,
            requested: trace.requested.get().unwrap_or(about.connected),
            about,
            spot,
            pins: trace.pins(),
            statements: usize::try_from(trace.statements.get()).unwrap_or(0),
            application_name: name.unwrap_or_default().to_owned(),
        })
    }
}
