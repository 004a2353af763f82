//! Which worker does the work. Pure: figures that the workers share, and what follows from them.
//!
//! A worker with little to do wakes up for few events at a time, and waking up is most of what these cost. So little work
//! gathers on one worker, and a worker that is nearly full gives some of its own away. What moves is sessions, each
//! between two of its transactions (`design/balance.md`). Workers are counted from 0.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A worker that needs so much of a core gives work away. All in thousandths.
const FULL: u32 = 750;

/// What is given away at least: less is not worth it.
const WORTH_GIVING: u32 = 200;

/// What two workers do together is done by one of them, up to this. Well below [`FULL`], so that nothing goes to and fro.
const LITTLE: u32 = 550;

/// Who needs less has nothing to do.
const NOTHING: u32 = 10;

/// A new figure counts for so much of the mean.
const FRESH: u32 = 4;

/// How often at most a worker looks whether sessions should leave.
pub const PAUSE: Duration = Duration::from_millis(500);

/// How long a session stays at least where it has come to. Most that live no longer never move.
pub const STAY: Duration = Duration::from_millis(500);

/// What each worker does.
#[derive(Debug)]
pub struct Loads {
    workers: Box<[Worker]>,
    /// Sessions between two workers.
    underway: AtomicUsize,
    /// No more sessions set out: the process ends.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Worker {
    /// How much of a core it needs, in thousandths.
    load: AtomicU32,
    /// CPU time that it has used, in microseconds.
    cpu: AtomicU64,
    /// Sessions that have left it.
    departures: AtomicU64,
}

impl Worker {
    fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }
}

/// What a worker does, as an operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// How much of a core it needs, in thousandths.
    pub load: u32,
    /// CPU time that it has used, up to its last tick.
    pub cpu: Duration,
    /// Sessions that have left it.
    pub departures: u64,
}

/// What a worker should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// Give sessions to this worker,
    pub to: usize,
    /// so many.
    pub sessions: u32,
}

impl Loads {
    /// Of so many workers, none of which does anything.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: (0..workers).map(|_| Worker::default()).collect(),
            underway: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// A worker has used `cpu` of the last `time`.
    pub fn note(&self, worker: usize, cpu: Duration, time: Duration) {
        let Some(worker) = self.workers.get(worker) else { return };
        let used = cpu.as_micros();
        let now = u32::try_from(used * 1000 / time.as_micros().max(1)).unwrap_or(u32::MAX).min(1000);
        worker.load.store((worker.load() * (FRESH - 1) + now).div_ceil(FRESH), Ordering::Relaxed);
        worker.cpu.fetch_add(u64::try_from(used).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What every worker does, in their order.
    #[must_use]
    pub fn told(&self) -> Vec<Work> {
        let told = |worker: &Worker| Work {
            load: worker.load(),
            cpu: Duration::from_micros(worker.cpu.load(Ordering::Relaxed)),
            departures: worker.departures.load(Ordering::Relaxed),
        };
        self.workers.iter().map(told).collect()
    }

    /// What worker `me` should do, `active` of whose sessions do something.
    #[must_use]
    pub fn advice(&self, me: usize, active: u32) -> Option<Advice> {
        let mine = self.workers.get(me)?.load();
        let others = || self.workers.iter().map(Worker::load).enumerate().filter(|(worker, _)| *worker != me);
        if mine >= FULL {
            let (to, least) = others().min_by_key(|(_, load)| *load)?;
            let excess = (mine - least.min(mine)) / 2;
            let sessions = u64::from(active) * u64::from(excess) / u64::from(mine);
            return (excess >= WORTH_GIVING && sessions > 0)
                .then(|| Advice { to, sessions: u32::try_from(sessions).unwrap_or(active) });
        }
        // The first of two takes from the second, never the other way round: so they do not change places.
        let takes = |(worker, load): &(usize, u32)| *worker < me && *load >= NOTHING && load + mine <= LITTLE;
        let (to, _) = others().filter(takes).max_by_key(|(_, load)| *load)?;
        (mine >= NOTHING && active > 0).then_some(Advice { to, sessions: active })
    }

    /// Whether a worker could do more without another's help.
    #[must_use]
    pub fn has_room(&self, worker: usize) -> bool {
        self.workers.get(worker).is_none_or(|worker| worker.load() <= LITTLE)
    }

    /// A session sets out from this worker for another; `None`: too late, the process ends.
    #[must_use]
    pub fn set_out(self: &Arc<Self>, from: usize) -> Option<Passage> {
        // Counted first and asked then: whoever has closed and finds nobody under way knows that nobody comes.
        let passage = Passage(self.clone());
        self.underway.fetch_add(1, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        if let Some(worker) = self.workers.get(from) {
            worker.departures.fetch_add(1, Ordering::Relaxed);
        }
        Some(passage)
    }

    /// No session sets out from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether sessions are between two workers.
    #[must_use]
    pub fn is_anybody_underway(&self) -> bool {
        self.underway.load(Ordering::SeqCst) > 0
    }
}

/// A session is between two workers while this lives.
#[derive(Debug)]
pub struct Passage(Arc<Loads>);

impl Drop for Passage {
    fn drop(&mut self) {
        self.0.underway.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Which sessions should leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Who {
    /// Those that have been here for [`STAY`], of pools that can feed every worker.
    #[default]
    Settled,
    /// All.
    Anybody,
}

/// Who should leave a worker: sessions, as they come to the end of a transaction.
#[derive(Debug)]
pub struct Departures {
    from: usize,
    loads: Arc<Loads>,
    to: Cell<usize>,
    left: Cell<u32>,
    who: Cell<Who>,
}

impl Departures {
    /// Nobody so far leaves this worker.
    #[must_use]
    pub fn new(from: usize, loads: Arc<Loads>) -> Self {
        Self { from, loads, to: Cell::default(), left: Cell::default(), who: Cell::default() }
    }

    /// These should leave. What was wanted before is forgotten.
    pub fn want(&self, advice: Option<Advice>, who: Who) {
        let Advice { to, sessions } = advice.unwrap_or(Advice { to: 0, sessions: 0 });
        self.to.set(to);
        self.left.set(sessions);
        self.who.set(who);
    }

    /// Whether anybody should leave.
    #[must_use]
    #[inline]
    pub const fn are_wanted(&self) -> bool {
        self.left.get() > 0
    }

    /// Where a session should go, if it should, which has been here for `stay`, and whose pool can feed so many workers.
    #[must_use]
    pub fn destination(&self, stay: Duration, feeds: usize) -> Option<usize> {
        let may = match self.who.get() {
            Who::Settled => stay >= STAY && feeds >= self.loads.workers.len(),
            Who::Anybody => true,
        };
        (self.are_wanted() && may).then_some(self.to.get())
    }

    /// One leaves, unless it is too late for that.
    #[must_use]
    pub fn depart(&self) -> Option<Passage> {
        let passage = self.loads.set_out(self.from)?;
        self.left.set(self.left.get().saturating_sub(1));
        Some(passage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(permille: &[u32]) -> Arc<Loads> {
        let loads = Loads::new(permille.len());
        for (worker, load) in permille.iter().enumerate() {
            for _ in 0..40 {
                loads.note(worker, Duration::from_micros(u64::from(*load) * 100), Duration::from_millis(100));
            }
        }
        loads
    }

    fn advice(permille: &[u32], me: usize, active: u32) -> Option<(usize, u32)> {
        loads(permille).advice(me, active).map(|Advice { to, sessions }| (to, sessions))
    }

    #[test]
    fn little_work_gathers_on_the_first_of_two_workers() {
        assert_eq!(advice(&[200, 200], 1, 16), Some((0, 16)));
        assert_eq!(advice(&[200, 200], 0, 16), None);
        assert_eq!(advice(&[300, 300], 1, 16), None);
        // Nothing is won by a mere change of places, nor by moving who does nothing.
        assert_eq!(advice(&[0, 200], 1, 16), None);
        assert_eq!(advice(&[200, 0], 1, 16), None);
        assert_eq!(advice(&[200, 200], 1, 0), None);
    }

    #[test]
    fn it_gathers_where_most_of_it_is_already() {
        assert_eq!(advice(&[50, 300, 100], 2, 8), Some((1, 8)));
        assert_eq!(advice(&[50, 500, 100], 2, 8), Some((0, 8)));
    }

    #[test]
    fn a_full_worker_gives_to_the_one_that_does_least() {
        assert_eq!(advice(&[900, 300, 100], 0, 90), Some((2, 40)));
        assert_eq!(advice(&[900, 800, 700], 0, 90), None);
        assert_eq!(advice(&[900, 0], 0, 1), None);
        assert_eq!(advice(&[900], 0, 100), None);
    }

    #[test]
    fn what_was_gathered_or_given_away_stays() {
        let whole: u32 = 1000;
        for first in (0..=whole).step_by(25) {
            for second in (0..=whole).step_by(25) {
                let mut at = [first, second];
                for me in [1, 0, 1, 0] {
                    let given = loads(&at).advice(me, 100);
                    let Some(Advice { to, sessions }) = given else { continue };
                    let moved = at[me] * sessions / 100;
                    at =
                        if me == 0 { [at[0] - moved, at[1] + moved] } else { [at[0] + moved, at[1] - moved] };
                    assert!(
                        loads(&at).advice(to, 100).is_none_or(|back| back.to != me),
                        "{first} {second}: {at:?} goes back"
                    );
                }
            }
        }
    }

    #[test]
    fn one_sudden_figure_moves_nobody() {
        let loads = loads(&[600, 0]);
        loads.note(0, Duration::from_millis(100), Duration::from_millis(100));
        assert_eq!(loads.advice(0, 100), None);
    }

    #[test]
    fn nobody_sets_out_once_the_process_ends() {
        let loads = Loads::new(2);
        let passage = loads.set_out(0);
        loads.close();
        assert!(passage.is_some() && loads.set_out(0).is_none());
        assert!(loads.is_anybody_underway());
        drop(passage);
        assert!(!loads.is_anybody_underway());
    }

    #[test]
    fn so_many_leave_as_are_wanted_and_have_stayed() {
        let loads = Loads::new(2);
        let departures = Departures::new(0, loads.clone());
        assert_eq!(departures.destination(STAY, 2), None);
        departures.want(Some(Advice { to: 1, sessions: 2 }), Who::Settled);
        assert_eq!(departures.destination(STAY / 2, 2), None);
        assert_eq!(departures.destination(STAY, 1), None);
        assert_eq!(departures.destination(STAY, 2), Some(1));
        assert!(departures.depart().is_some());
        assert_eq!(departures.destination(STAY, 2), Some(1));
        assert!(departures.depart().is_some());
        assert_eq!(departures.destination(STAY, 2), None);
        departures.want(Some(Advice { to: 1, sessions: 2 }), Who::Anybody);
        assert_eq!(departures.destination(Duration::ZERO, 1), Some(1));
        assert_eq!(loads.told().iter().map(|worker| worker.departures).collect::<Vec<_>>(), [2, 0]);
    }
}
