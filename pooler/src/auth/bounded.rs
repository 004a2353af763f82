//! A map that never holds more than its capacity: the entry put in first makes room.
//! Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

#[derive(Debug, Clone)]
pub(super) struct Bounded<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// Keys by age with the stamp of their entry; a stamp that is not the entry's own is left over.
    order: VecDeque<(u64, K)>,
    next_stamp: u64,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), next_stamp: 0, capacity: capacity.max(1) }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Puts in an entry as the youngest.
    pub(super) fn put(&mut self, key: K, value: V) {
        self.next_stamp = self.next_stamp.wrapping_add(1);
        self.order.push_back((self.next_stamp, key.clone()));
        self.entries.insert(key, (self.next_stamp, value));
        while self.entries.len() > self.capacity {
            let Some((stamp, oldest)) = self.order.pop_front() else { break };
            if self.is_current(stamp, &oldest) {
                self.entries.remove(&oldest);
            }
        }
        if self.order.len() > self.capacity.saturating_mul(2) {
            let entries = &self.entries;
            self.order.retain(|(stamp, key)| entries.get(key).is_some_and(|(own, _)| own == stamp));
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn is_current(&self, stamp: u64, key: &K) -> bool {
        self.entries.get(key).is_some_and(|(own, _)| *own == stamp)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_entry_put_in_first_makes_room() {
        let mut map = Bounded::new(2);
        map.put("a", 1);
        map.put("b", 2);
        map.put("a", 3);
        map.put("c", 4);
        assert_eq!((map.get(&"a"), map.get(&"b"), map.get(&"c")), (Some(&3), None, Some(&4)));
    }

    proptest! {
        #[test]
        fn neither_entries_nor_their_order_grow_beyond_the_bound(steps in prop::collection::vec((0u8..9, any::<bool>()), 0..200)) {
            let mut map = Bounded::new(3);
            for (key, put) in steps {
                if put {
                    map.put(key, key);
                    prop_assert_eq!(map.get(&key), Some(&key));
                } else {
                    map.remove(&key);
                    prop_assert_eq!(map.get(&key), None);
                }
                prop_assert!(map.len() <= 3 && map.order.len() <= 6);
                let findable = map.order.iter().filter(|(stamp, key)| map.is_current(*stamp, key)).count();
                prop_assert_eq!(findable, map.len());
            }
        }
    }
}
