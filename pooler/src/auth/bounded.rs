//! A map between threads that stays about as large as it may: what was put in first makes room.
//! Pure, apart from being shared.

use dashmap::DashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Bounded<K: Hash + Eq, V> {
    /// Values with the number of their putting in.
    entries: DashMap<K, (u64, V)>,
    next: AtomicU64,
    capacity: usize,
}

impl<K: Hash + Eq, V: Clone> Bounded<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: DashMap::new(), next: AtomicU64::new(0), capacity: capacity.max(1) }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).map(|entry| entry.1.clone())
    }

    /// Puts in a value as the youngest.
    pub(super) fn put(&self, key: K, value: V) {
        self.change(key, |_| value);
    }

    /// Puts in as the youngest what `make` makes of the value that was there. No other thread comes between.
    pub(super) fn change(&self, key: K, make: impl FnOnce(Option<&V>) -> V) {
        let entry = self.entries.entry(key);
        // Not before the entry is ours: a thread that was held up there would make it older than it is.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match entry {
            dashmap::Entry::Occupied(mut entry) => {
                let value = make(Some(&entry.get().1));
                entry.insert((number, value));
            }
            dashmap::Entry::Vacant(entry) => drop(entry.insert((number, make(None)))),
        }
        self.make_room();
    }

    /// Removes the value if `wish` says so. `false`: it stays.
    pub(super) fn remove_if(&self, key: &K, wish: impl FnOnce(&V) -> bool) -> bool {
        self.entries.remove_if(key, |_, entry| wish(&entry.1)).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Looking for the oldest costs a walk over all: an eighth too many may gather before.
    fn make_room(&self) {
        let excess = self.entries.len().saturating_sub(self.capacity);
        if excess <= self.capacity / 8 {
            return;
        }
        let mut numbers: Vec<u64> = self.entries.iter().map(|entry| entry.0).collect();
        if let Some(last) = excess.checked_sub(1).filter(|last| *last < numbers.len()) {
            let (_, last, _) = numbers.select_nth_unstable(last);
            self.entries.retain(|_, entry| entry.0 > *last);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_entry_put_in_first_makes_room() {
        let map = Bounded::new(2);
        map.put("a", 1);
        map.put("b", 2);
        map.put("a", 3);
        map.put("c", 4);
        assert_eq!((map.get(&"a"), map.get(&"b"), map.get(&"c")), (Some(3), None, Some(4)));
    }

    #[test]
    fn threads_that_put_in_together_keep_the_bound_and_each_change_counts() {
        let map = Bounded::new(80);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let map = &map;
                scope.spawn(move || {
                    for n in 0..2_000_u32 {
                        map.put(1_000 + thread * 10_000 + n, 0);
                        map.change(0, |count| count.copied().unwrap_or(0) + 1);
                    }
                });
            }
        });
        assert_eq!(map.get(&0), Some(8_000));
        assert!(map.len() <= 90, "{}", map.len());
    }

    proptest! {
        #[test]
        fn it_never_grows_beyond_an_eighth_too_many(
            capacity in 1usize..20,
            steps in prop::collection::vec((0u8..40, any::<bool>()), 0..200),
        ) {
            let map = Bounded::new(capacity);
            for (key, put) in steps {
                if put {
                    map.put(key, key);
                    prop_assert_eq!(map.get(&key), Some(key));
                } else {
                    map.remove_if(&key, |_| true);
                    prop_assert_eq!(map.get(&key), None);
                }
                prop_assert!(map.len() <= capacity + capacity / 8);
            }
        }
    }
}
