//! Verdicts by text, so that a text is looked at once. Pure.
//!
//! One thread owns one; there is no lock. It is a table of small sets: a text belongs to one set, and when the set is
//! full the entry goes that was asked for least. Entries begin with no credit and earn one with each hit, up to three,
//! and a newcomer takes one from each of the others before it replaces one: a thousand texts that come once do not
//! push out what comes every second. What an entry cost is bounded by the length of the texts that are taken.

use crate::classify::classify;
use crate::knowledge::{Knowledge, SearchPath};
use crate::statement::Verdicts;
use std::sync::Arc;

/// Entries in a set.
const WAYS: usize = 8;

/// Most credit that an entry can have.
const MOST_CREDIT: u8 = 3;

/// Longest text that is remembered, in bytes. A longer one comes once, most likely, and to look at it is cheap beside
/// running it.
pub const LONGEST_REMEMBERED: usize = 4 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Cache {
    sets: Box<[Vec<Entry>]>,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    generation: u64,
    credit: u8,
    text: Box<[u8]>,
    path: SearchPath,
    verdicts: Arc<Verdicts>,
}

impl Cache {
    /// Remembers up to about `entries` texts.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        let sets = entries.div_ceil(WAYS).next_power_of_two().max(1);
        Self { sets: (0..sets).map(|_| Vec::new()).collect(), hits: 0, misses: 0 }
    }

    /// What [`classify`] says about `text`. What was said about an older generation of `knowledge`, or along another
    /// path, does not count.
    pub fn classify(&mut self, text: &[u8], knowledge: &dyn Knowledge, path: &SearchPath) -> Arc<Verdicts> {
        if text.len() > LONGEST_REMEMBERED {
            self.misses += 1;
            return Arc::new(classify(text, knowledge, path));
        }
        let hash = hash(text);
        let generation = knowledge.generation();
        let place = usize::try_from(hash).unwrap_or_default() & (self.sets.len() - 1);
        let Some(set) = self.sets.get_mut(place) else {
            return Arc::new(classify(text, knowledge, path));
        };
        let known = set.iter_mut().find(|entry| {
            entry.hash == hash
                && entry.generation == generation
                && *entry.text == *text
                && entry.path == *path
        });
        if let Some(entry) = known {
            self.hits += 1;
            entry.credit = (entry.credit + 1).min(MOST_CREDIT);
            return Arc::clone(&entry.verdicts);
        }
        self.misses += 1;
        let verdicts = Arc::new(classify(text, knowledge, path));
        let entry = Entry {
            hash,
            generation,
            credit: 0,
            text: text.into(),
            path: path.clone(),
            verdicts: Arc::clone(&verdicts),
        };
        admit(set, entry);
        verdicts
    }

    /// How often an answer was remembered, and how often not.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }

    /// Texts that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.iter().map(Vec::len).sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Puts `entry` into its set, in the place of one without credit where the set is full.
fn admit(set: &mut Vec<Entry>, entry: Entry) {
    if set.len() < WAYS {
        set.push(entry);
        return;
    }
    // Everybody pays until somebody has nothing left: at most three rounds.
    loop {
        if let Some(poorest) = set.iter_mut().find(|entry| entry.credit == 0) {
            *poorest = entry;
            return;
        }
        for entry in &mut *set {
            entry.credit = entry.credit.saturating_sub(1);
        }
    }
}

/// A hash for finding texts, eight bytes at a time. Texts that collide only push each other out.
pub(crate) fn hash(text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut hash = text.len() as u64;
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    for byte in rest {
        hash = mix(hash, u64::from(*byte));
    }
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::Nothing;
    use crate::statement::Access;

    struct Generation(u64);

    impl Knowledge for Generation {
        fn generation(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn a_text_is_looked_at_once_for_each_generation_and_path() {
        let mut cache = Cache::new(64);
        let path = SearchPath::unknown();
        for _ in 0..3 {
            assert_eq!(cache.classify(b"SELECT 1", &Nothing, &path).access(), Access::Read);
        }
        assert_eq!(cache.counts(), (2, 1));
        let _ = cache.classify(b"SELECT 1", &Generation(1), &path);
        let _ = cache.classify(b"SELECT 1", &Generation(1), &SearchPath::parse("a", "u"));
        assert_eq!(cache.counts(), (2, 3));
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn texts_that_come_once_do_not_push_out_what_comes_often() {
        let mut cache = Cache::new(8);
        let path = SearchPath::unknown();
        for round in 0..1000 {
            let _ = cache.classify(b"SELECT 1", &Nothing, &path);
            let _ = cache.classify(format!("SELECT {round}.5").as_bytes(), &Nothing, &path);
        }
        let (hits, misses) = cache.counts();
        assert_eq!((hits, misses), (999, 1001));
        assert!(cache.len() <= 8);
    }

    #[test]
    fn long_texts_are_not_remembered() {
        let mut cache = Cache::new(8);
        let text = format!("SELECT '{}'", "x".repeat(LONGEST_REMEMBERED));
        let _ = cache.classify(text.as_bytes(), &Nothing, &SearchPath::unknown());
        assert!(cache.is_empty());
    }
}
