//! How many server connections may be open, across all workers. Pure: counters that threads share.
//!
//! A [`Permit`] is the right to one open server connection. It is held from before the dial until after the close,
//! so the limits of pool, database and user are never exceeded, whichever workers the connections are on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A limit that several pools may share.
#[derive(Debug)]
pub struct Cap {
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl Cap {
    /// At most `limit` at a time; `usize::MAX` is none.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: AtomicUsize::new(limit), used: AtomicUsize::new(0) })
    }

    /// Changes the limit; what is above it stays until it is given back.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// In use now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Takes one, unless all are taken. Give it back with [`Self::release`].
    #[must_use]
    pub fn take(&self, beyond: usize) -> bool {
        let limit = self.limit.load(Relaxed).saturating_add(beyond);
        self.used.fetch_update(Relaxed, Relaxed, |used| (used < limit).then_some(used + 1)).is_ok()
    }

    /// Gives one back.
    pub fn release(&self) {
        self.used.fetch_sub(1, Relaxed);
    }
}

/// What one worker holds and lacks of a pool; read by the others.
#[derive(Debug, Default)]
struct Seat {
    held: AtomicUsize,
    idle: AtomicUsize,
    starving: AtomicUsize,
    /// When the client that waits longest came, in microseconds after the budget's birth.
    waits_since: AtomicU64,
    clients: AtomicUsize,
}

/// A client of another worker must have waited so long before a connection goes there from a worker that could
/// use it itself: moving one costs four system calls, and under a full load everybody waits a little.
const WORTH_MOVING: Duration = Duration::from_millis(5);

/// After such a wait it goes there even from a worker that holds no more than its share.
const LONG_WAIT: Duration = Duration::from_millis(50);

/// Why no connection may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The pool is full.
    Pool,
    /// All pools of the database together are full.
    Database,
    /// All pools of the user together are full.
    User,
}

/// The budget of one pool.
#[derive(Debug)]
pub struct Budget {
    pool: Arc<Cap>,
    database: Arc<Cap>,
    user: Arc<Cap>,
    seats: Box<[Seat]>,
    hungry: AtomicUsize,
    generation: AtomicU64,
    born: Instant,
}

impl Budget {
    /// A budget of `size` connections for `workers`, within the caps of its database and user.
    #[must_use]
    pub fn new(size: usize, database: Arc<Cap>, user: Arc<Cap>, workers: usize) -> Arc<Self> {
        let seats = (0..workers).map(|_| Seat::default()).collect();
        Arc::new(Self {
            pool: Cap::new(size),
            database,
            user,
            seats,
            hungry: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            born: Instant::now(),
        })
    }

    /// Changes the size of the pool.
    pub fn resize(&self, size: usize) {
        self.pool.set_limit(size);
    }

    /// Connections open now, on all workers.
    #[must_use]
    pub fn open(&self) -> usize {
        self.pool.used()
    }

    /// The right to open one more connection on `worker`; `reserve` more than the size are allowed.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn permit(self: &Arc<Self>, worker: usize, reserve: usize) -> Result<Permit, Denied> {
        if !self.pool.take(reserve) {
            return Err(Denied::Pool);
        }
        if !self.database.take(0) {
            self.pool.release();
            return Err(Denied::Database);
        }
        if !self.user.take(0) {
            self.pool.release();
            self.database.release();
            return Err(Denied::User);
        }
        self.seat(worker).held.fetch_add(1, Relaxed);
        Ok(Permit { budget: self.clone(), worker })
    }

    /// Says how many clients of `worker` wait that it cannot open a connection for, and since when the first.
    pub fn starve(&self, worker: usize, clients: usize, since: Option<Instant>) {
        if let Some(since) = since {
            self.seat(worker).waits_since.store(self.age(since), Relaxed);
        }
        let before = self.seat(worker).starving.swap(clients, Relaxed);
        match (before, clients) {
            (0, 1..) => _ = self.hungry.fetch_add(1, Relaxed),
            (1.., 0) => _ = self.hungry.fetch_sub(1, Relaxed),
            _ => {}
        }
    }

    /// Whether clients wait for a connection that nobody can open.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.hungry.load(Relaxed) > 0
    }

    /// Says how many idle connections `worker` has.
    pub fn note_idle(&self, worker: usize, idle: usize) {
        self.seat(worker).idle.store(idle, Relaxed);
    }

    /// The worker, other than `me`, that has the most idle connections and no use for them: more than half of its
    /// own. Once a client has waited long (`patient`), any idle connection will do.
    #[must_use]
    pub fn richest(&self, me: usize, patient: bool) -> Option<usize> {
        let others = self.seats.iter().enumerate().filter(|(worker, _)| *worker != me);
        let (idle, worker) = others.map(|(worker, seat)| (seat.idle.load(Relaxed), worker)).max()?;
        let spare = patient || idle * 2 > self.seat(worker).held.load(Relaxed);
        (idle > 0 && spare).then_some(worker)
    }

    /// The worker that should get a connection that `me` has just got back; `None`: keep it.
    ///
    /// It goes to a worker whose clients have waited a while, from one that holds more than its share, so that
    /// connections do not go to and fro; and after a long wait from any that has no waiters of its own.
    #[must_use]
    #[inline]
    pub fn needier(&self, me: usize, waiting_here: bool, now: Instant) -> Option<usize> {
        if !self.is_short() {
            return None;
        }
        let now = self.age(now);
        let waited = |seat: &Seat| match seat.starving.load(Relaxed) {
            0 => Duration::ZERO,
            _ => Duration::from_micros(now.saturating_sub(seat.waits_since.load(Relaxed))),
        };
        let others = self.seats.iter().enumerate().filter(|(worker, _)| *worker != me);
        let needy = others.filter(|(_, seat)| waited(seat) >= WORTH_MOVING);
        let (held, worker) = needy.map(|(worker, seat)| (seat.held.load(Relaxed), worker)).min()?;
        let mine = self.seat(me).held.load(Relaxed);
        let gives = if waiting_here {
            mine > held + 1
        } else {
            mine > held || waited(self.seat(worker)) >= LONG_WAIT
        };
        gives.then_some(worker)
    }

    /// Microseconds from the budget's birth to `at`.
    fn age(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_micros()).unwrap_or(u64::MAX)
    }

    /// Connections of an older generation are closed when they come back.
    #[must_use]
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Outdates every connection that is open now.
    pub fn reconnect(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    /// The worker on which a client that `me` has greeted should live: where the fewest of the pool's clients are,
    /// among as many workers as the pool has connections for (`spread`); `me` if that is as good, or if it has room and
    /// the client can move later.
    #[must_use]
    pub fn home(&self, me: usize, first: usize, spread: usize, has_room: bool) -> usize {
        let count = self.seats.len().max(1);
        let candidates = (0..spread.clamp(1, count)).map(|step| (first + step) % count);
        let clients = |worker: usize| self.seat(worker).clients.load(Relaxed);
        let Some(best) = candidates.clone().min_by_key(|worker| clients(*worker)) else { return me };
        // Clients that come and go are not carried about for a small difference.
        let tolerated = clients(best) + 2 + clients(best) / 4;
        let fits = candidates.clone().any(|worker| worker == me) && (has_room || clients(me) <= tolerated);
        if fits { me } else { best }
    }

    /// A client came to `worker` (or left it).
    pub fn count_client(&self, worker: usize, came: bool) {
        let clients = &self.seat(worker).clients;
        if came {
            clients.fetch_add(1, Relaxed)
        } else {
            clients.fetch_sub(1, Relaxed)
        };
    }

    fn seat(&self, worker: usize) -> &Seat {
        static NOBODY: Seat = Seat {
            held: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            starving: AtomicUsize::new(0),
            waits_since: AtomicU64::new(0),
            clients: AtomicUsize::new(0),
        };
        self.seats.get(worker).unwrap_or(&NOBODY)
    }
}

/// The right to one open server connection.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    worker: usize,
}

impl Permit {
    /// The connection goes to another worker.
    pub fn move_to(&mut self, worker: usize) {
        self.budget.seat(self.worker).held.fetch_sub(1, Relaxed);
        self.budget.seat(worker).held.fetch_add(1, Relaxed);
        self.worker = worker;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.seat(self.worker).held.fetch_sub(1, Relaxed);
        self.budget.pool.release();
        self.budget.database.release();
        self.budget.user.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_given_up_to_the_size_and_come_back() {
        let budget = Budget::new(2, Cap::new(usize::MAX), Cap::new(usize::MAX), 2);
        let first = budget.permit(0, 0).unwrap();
        let _second = budget.permit(1, 0).unwrap();
        assert_eq!(budget.permit(0, 0).unwrap_err(), Denied::Pool);
        let reserve = budget.permit(0, 1).unwrap();
        drop(reserve);
        drop(first);
        assert!(budget.permit(1, 0).is_ok());
    }

    #[test]
    fn a_denied_permit_takes_nothing() {
        let database = Cap::new(1);
        let user = Cap::new(0);
        let budget = Budget::new(5, database.clone(), user, 1);
        assert_eq!(budget.permit(0, 0).unwrap_err(), Denied::User);
        assert_eq!((budget.open(), database.used()), (0, 0));
    }

    #[test]
    fn a_starving_worker_gets_what_others_have_beyond_their_share() {
        let budget = Budget::new(4, Cap::new(9), Cap::new(9), 2);
        let permits: Vec<_> = (0..4).map(|_| budget.permit(0, 0).unwrap()).collect();
        let came = Instant::now();
        let later = came + WORTH_MOVING;
        assert_eq!(budget.needier(0, false, later), None);
        budget.starve(1, 3, Some(came));
        assert_eq!(budget.needier(0, false, came), None, "a short wait is not worth a move");
        assert_eq!(budget.needier(0, true, later), Some(1));
        for mut permit in permits.into_iter().take(2) {
            permit.move_to(1);
            std::mem::forget(permit);
        }
        assert_eq!(budget.needier(0, true, later), None);
        assert_eq!(budget.needier(0, false, later), None, "half of them is a fair share");
        assert_eq!(budget.needier(0, false, came + LONG_WAIT), Some(1));
        budget.starve(1, 0, None);
        assert_eq!(budget.needier(0, false, later), None);
    }

    #[test]
    fn idle_connections_are_asked_for_where_they_are_spare() {
        let budget = Budget::new(4, Cap::new(9), Cap::new(9), 2);
        let _permits: Vec<_> = (0..4).map(|_| budget.permit(0, 0).unwrap()).collect();
        budget.note_idle(0, 2);
        assert_eq!(budget.richest(1, false), None);
        assert_eq!(budget.richest(1, true), Some(0));
        budget.note_idle(0, 3);
        assert_eq!(budget.richest(1, false), Some(0));
    }

    #[test]
    fn a_client_stays_where_it_was_greeted_if_there_is_room_or_not_much_to_be_won() {
        let budget = Budget::new(20, Cap::new(usize::MAX), Cap::new(usize::MAX), 2);
        for _ in 0..10 {
            budget.count_client(0, true);
        }
        assert_eq!(budget.home(0, 0, 10, true), 0);
        assert_eq!(budget.home(0, 0, 10, false), 1);
        assert_eq!(budget.home(1, 0, 10, true), 1);
        // A pool that feeds one worker only has its clients there.
        assert_eq!(budget.home(1, 0, 1, true), 0);
        for _ in 0..8 {
            budget.count_client(1, true);
        }
        assert_eq!(budget.home(0, 0, 10, false), 0);
    }
}
