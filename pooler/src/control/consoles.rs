//! Operators who are on the console: they are clients too, and SHOW CLIENTS shows them, as PgBouncer does.

use crate::report::About;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::sync::Notify;

/// The number of the first. Workers count sessions from below, and int4 holds no more.
const FIRST: u32 = i32::MAX.unsigned_abs();

/// One operator.
#[derive(Debug, Clone)]
pub(super) struct Console {
    /// Its number: KILL_CLIENT takes it.
    pub(super) id: u32,
    /// Who and from where.
    pub(super) about: About,
    /// Its name for itself.
    pub(super) application_name: String,
    leave: Rc<Notify>,
}

impl Console {
    /// Returns when it was told to leave.
    pub(super) async fn killed(&self) {
        self.leave.notified().await;
    }
}

/// All of them, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Consoles {
    entered: Cell<u32>,
    present: RefCell<BTreeMap<u32, Console>>,
}

impl Consoles {
    /// An operator comes in.
    pub(super) fn enter(&self, about: About, application_name: String) -> Console {
        let entered = self.entered.get();
        self.entered.set(entered.wrapping_add(1));
        // After so many operators, the first have left long ago.
        let id = FIRST - entered % (FIRST / 2);
        let console = Console { id, about, application_name, leave: Rc::default() };
        self.present.borrow_mut().insert(id, console.clone());
        console
    }

    /// An operator has left.
    pub(super) fn leave(&self, id: u32) {
        self.present.borrow_mut().remove(&id);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.present.borrow().len()
    }

    /// Those who are there.
    pub(super) fn all(&self) -> Vec<Console> {
        self.present.borrow().values().cloned().collect()
    }

    /// Tells one to leave; whether it is there.
    pub(super) fn kill(&self, id: u32) -> bool {
        self.present.borrow().get(&id).map(|console| console.leave.notify_one()).is_some()
    }
}
