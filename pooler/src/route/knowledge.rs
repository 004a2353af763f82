//! What databases know of their functions, loaded from the primary in the background. Until it is there, and where it
//! cannot be had, functions beyond PostgreSQL's own are writes.

use crate::catalog::{self, Catalog, Catalogs, DatabaseKey, Hidden};
use crate::pool::Pool;
use crate::pool::lease;
use crate::topology::Moment;
use hawser_sql_router::knowledge::{Knowledge, Nothing};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// How often a database is asked whether its catalogue has changed behind our back.
const PERIOD: Duration = Duration::from_secs(30);

/// How soon it is asked again when it could not answer.
const RETRY: Duration = Duration::from_secs(2);

/// How soon it is asked again after a statement that may have changed it.
const SOON: Duration = Duration::from_millis(20);

/// For so many times as long as a look has taken there is none: a migration is not to be slowed down by them.
const REST: u32 = 9;

/// The looks at the catalogue of one database; shared by all workers, so that one of them does it, and asked for each
/// batch, so that it is one load.
#[derive(Debug)]
pub(super) struct Looks {
    database: DatabaseKey,
    catalogs: Catalogs,
    /// When the next one is due.
    due: AtomicU64,
    /// It is not due sooner than that.
    rested: AtomicU64,
    /// When the last one began of those that are over.
    begun: AtomicU64,
    /// When any session may have changed the catalogue last.
    changed: AtomicU64,
}

impl Looks {
    pub(super) fn new(database: DatabaseKey, catalogs: Catalogs) -> Self {
        let (due, rested, begun, changed) = Default::default();
        Self { database, catalogs, due, rested, begun, changed }
    }

    /// Whether it is time, and nobody else has taken it.
    fn take(&self, now: Moment) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        let next = now.plus(PERIOD).0;
        due <= now.0 && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Something may have changed. A look that is due is not put off: changes may go on for ever. Tells whether the next look
    /// is sooner than it was.
    fn hurry(&self, now: Moment) -> bool {
        self.changed.fetch_max(now.0, Ordering::Release);
        let due = now.plus(SOON).0.max(self.rested.load(Ordering::Relaxed));
        self.due.fetch_min(due, Ordering::Relaxed) > due
    }

    /// How long it is until the next look that is there for the sake of a change, if there is one.
    fn wait(&self, now: Moment) -> Option<Duration> {
        let wait = Moment(self.due.load(Ordering::Relaxed)).since(now);
        (wait < PERIOD / 2).then_some(wait)
    }

    /// A look has failed.
    fn retry(&self, now: Moment) {
        self.due.fetch_min(now.plus(RETRY).0, Ordering::Relaxed);
    }

    /// What a look found that began then can be had.
    fn end(&self, began: Moment) {
        self.begun.fetch_max(began.0, Ordering::Release);
    }

    /// A look has kept the server busy for so long.
    fn rest(&self, took: Duration, now: Moment) {
        let rested = now.plus(took * REST).0;
        self.rested.fetch_max(rested, Ordering::Relaxed);
        self.due.fetch_max(rested, Ordering::Relaxed);
    }

    /// Whether what was so at this moment is known.
    fn have_seen(&self, moment: Moment) -> bool {
        self.begun.load(Ordering::Acquire) > moment.0
    }

    /// Whether everything is known that the process has changed.
    fn are_up_to_date(&self) -> bool {
        self.have_seen(Moment(self.changed.load(Ordering::Acquire)))
    }
}

/// What a session knows of its database.
#[derive(Debug)]
pub struct Known {
    looks: Arc<Looks>,
    /// When the session itself may have changed the catalogue last.
    pub changed: Cell<Moment>,
    latest: RefCell<Latest>,
}

/// The catalogue, as of the last time that the session asked. No look-up while nothing changes anywhere.
#[derive(Debug, Default)]
struct Latest {
    epoch: u64,
    catalog: Option<Arc<Catalog>>,
}

impl Latest {
    fn renew(&mut self, looks: &Looks) -> Option<&Catalog> {
        let epoch = looks.catalogs.epoch();
        if self.epoch != epoch {
            *self = Self { epoch, catalog: looks.catalogs.get(&looks.database) };
        }
        self.catalog.as_deref()
    }
}

impl Known {
    pub(super) fn new(looks: Arc<Looks>) -> Self {
        Self { looks, changed: Cell::new(Moment::NEVER), latest: RefCell::default() }
    }

    /// The database's name on the server.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.looks.database.database
    }

    /// Has the catalogue looked at if it is time.
    pub fn look(&self, pool: &Rc<Pool>, now: Moment) {
        if self.looks.take(now) {
            tokio::task::spawn_local(refresh(pool.clone(), self.looks.clone()));
        }
    }

    /// The session has run a statement that may have changed the catalogue. A look is taken without waiting for the next
    /// statement: before it is over, nobody knows what that one leaves behind.
    pub fn note_change(&self, pool: &Rc<Pool>, now: Moment) {
        if self.mark_change(now) {
            tokio::task::spawn_local(refresh_soon(pool.clone(), self.looks.clone()));
        }
    }

    /// Tells whether a look has to be seen to.
    fn mark_change(&self, now: Moment) -> bool {
        self.changed.set(now);
        self.looks.hurry(now)
    }

    /// Whether the session may have given names a meaning that nobody knows yet.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        let changed = self.changed.get();
        changed != Moment::NEVER && !self.looks.have_seen(changed)
    }

    /// Which statements may leave something behind that their texts do not show, and a number that stands for this state of
    /// the catalogue. Before it was loaded, and after a change that was not looked at, nobody knows.
    #[must_use]
    pub fn hidden(&self) -> (Hidden, u64) {
        match self.latest.borrow_mut().renew(&self.looks) {
            Some(catalog) if self.looks.are_up_to_date() => (catalog.hidden(), catalog.generation()),
            _ => (Hidden::Unknown, 0),
        }
    }

    /// Asks the catalogue, or who knows nothing.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&dyn Knowledge) -> T) -> T {
        match self.latest.borrow_mut().renew(&self.looks) {
            Some(catalog) => question(catalog),
            None => question(&Nothing),
        }
    }
}

/// Looks once it is time, unless somebody else does.
async fn refresh_soon(pool: Rc<Pool>, looks: Arc<Looks>) {
    while let Some(wait) = looks.wait(Moment::now()) {
        sleep(wait).await;
        if looks.take(Moment::now()) {
            return refresh(pool, looks).await;
        }
    }
}

/// Looks whether the catalogue has changed, and loads it if so.
async fn refresh(pool: Rc<Pool>, looks: Arc<Looks>) {
    let Some(mut lease) = lease::borrow_idle(&pool).await else { return looks.retry(Moment::now()) };
    let Some(member) = lease.member() else { return };
    let began = Moment::now();
    let database = &looks.database;
    let outcome = async {
        let known = looks.catalogs.get(database);
        let mark = catalog::mark(&mut member.server).await?;
        if known.is_some_and(|known| known.is_of(&mark)) {
            return Ok(None);
        }
        catalog::load(&mut member.server).await.map(Some)
    };
    let outcome = outcome.await;
    let now = Moment::now();
    looks.rest(now.since(began), now);
    match outcome {
        Ok(loaded) => {
            lease.check_in();
            if let Some(catalog) = loaded {
                tracing::debug!(database = %database.database, "catalogue loaded");
                let _: Arc<_> = looks.catalogs.publish(database.clone(), catalog);
            }
            looks.end(began);
        }
        Err(error) => {
            tracing::warn!(database = %database.database, %error, "functions of the database are unknown");
            looks.retry(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks() -> Looks {
        let database = DatabaseKey { cluster: "1".into(), database: "app".into() };
        Looks::new(database, Catalogs::default())
    }

    #[test]
    fn a_look_is_taken_once_and_comes_again_sooner_after_a_change() {
        let looks = looks();
        let now = Moment(1);
        assert!(looks.take(now) && !looks.take(now));
        assert!(looks.take(now.plus(PERIOD)));
        assert!(looks.hurry(now.plus(PERIOD)) && !looks.hurry(now.plus(PERIOD).plus(SOON)));
        assert!(!looks.take(now.plus(PERIOD)) && looks.take(now.plus(PERIOD).plus(SOON)));
        let failed = now.plus(PERIOD).plus(SOON);
        looks.retry(failed);
        assert!(!looks.take(failed) && looks.take(failed.plus(RETRY)));
    }

    #[test]
    fn looks_take_no_more_than_a_tenth_of_the_time() {
        let looks = looks();
        let now = Moment(1);
        assert!(looks.take(now) && looks.wait(now).is_none());
        // A change while it goes on, and one after it.
        assert!(looks.hurry(now));
        let (took, end) = (Duration::from_millis(100), now.plus(Duration::from_millis(100)));
        looks.rest(took, end);
        assert_eq!((looks.hurry(end), looks.wait(end)), (false, Some(took * REST)));
        assert!(!looks.take(now.plus(took * REST)) && looks.take(end.plus(took * REST)));
        let later = end.plus(took * 20);
        assert!(looks.hurry(later));
        assert_eq!(looks.wait(later), Some(SOON));
    }

    #[test]
    fn a_change_is_known_once_a_look_is_over_that_began_after_it() {
        let looks = looks();
        let change = Moment(5);
        assert!(!looks.have_seen(change));
        looks.end(change);
        assert!(!looks.have_seen(change));
        looks.end(Moment(6));
        looks.end(change);
        assert!(looks.have_seen(change));
    }

    #[test]
    fn what_is_known_is_renewed_when_any_catalogue_changes() {
        let looks = Arc::new(looks());
        let (catalogs, database) = (looks.catalogs.clone(), looks.database.clone());
        let known = Known::new(looks);
        let generation = || known.latest.borrow_mut().renew(&known.looks).map(Knowledge::generation);
        assert_eq!(generation(), None);
        catalogs.publish(database.clone(), Catalog::default());
        assert_eq!(generation(), Some(0));
        catalogs.forget(&database);
        assert_eq!(generation(), None);
    }

    #[test]
    fn nobody_knows_what_is_hidden_before_the_catalogue_is_loaded_and_after_it_may_have_changed() {
        let looks = Arc::new(looks());
        let (mine, other) = (Known::new(looks.clone()), Known::new(looks.clone()));
        assert_eq!(mine.hidden().0, Hidden::Unknown);
        looks.catalogs.publish(looks.database.clone(), Catalog::default());
        looks.end(Moment(5));
        assert_eq!(mine.hidden().0, Hidden::Nothing);
        other.mark_change(Moment(6));
        assert_eq!((mine.hidden().0, mine.is_in_doubt()), (Hidden::Unknown, false));
        looks.end(Moment(7));
        assert_eq!(mine.hidden().0, Hidden::Nothing);
    }
}
