//! How long things take, counted by powers of two in cells that one worker alone touches. Pure: durations come from
//! outside.

use std::cell::Cell;
use std::time::Duration;

/// The first bucket's bound is two to this, in microseconds.
pub const FIRST_BOUND: u32 = 5;

/// Buckets with a bound, each twice that of the one before.
pub const BOUNDED: usize = 21;

/// Adds to a counter.
#[inline]
pub fn count(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get().wrapping_add(more));
}

/// Counts durations by powers of two: one increment and one addition each.
#[derive(Debug, Default)]
pub struct Stopwatch {
    buckets: [Cell<u64>; BOUNDED + 1],
    micros: Cell<u64>,
}

impl Stopwatch {
    /// Something took so long.
    #[inline]
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let above = micros.saturating_sub(1) >> FIRST_BOUND;
        let bucket = ((u64::BITS - above.leading_zeros()) as usize).min(BOUNDED);
        if let Some(bucket) = self.buckets.get(bucket) {
            count(bucket, 1);
        }
        count(&self.micros, micros);
    }

    /// Microseconds of all.
    #[must_use]
    pub const fn micros(&self) -> u64 {
        self.micros.get()
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Times {
        let count = |place: usize| self.buckets.get(place).map_or(0, Cell::get);
        Times { buckets: std::array::from_fn(count), micros: self.micros.get() }
    }
}

/// A [`Stopwatch`] as it was at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// How many fell into each bucket; the last has no bound.
    pub buckets: [u64; BOUNDED + 1],
    /// Microseconds of all.
    pub micros: u64,
}

impl Times {
    /// Adds what another one has counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.micros += other.micros;
    }

    /// How many were measured.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let watch = Stopwatch::default();
        for micros in [0, 32, 33, 64, 65, 40_000_000] {
            watch.record(Duration::from_micros(micros));
        }
        let times = watch.read();
        assert_eq!(
            (times.buckets[0], times.buckets[1], times.buckets[2], times.buckets[BOUNDED]),
            (2, 2, 1, 1)
        );
        assert_eq!((times.count(), times.micros), (6, 40_000_194));
    }
}
