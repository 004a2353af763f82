//! Verdicts by text, so that a text is looked at once. Pure.
//!
//! Where numbers and strings cannot change a verdict, it is remembered for all texts of one template
//! ([`crate::template`]).
//!
//! One thread owns one; there is no lock. It is a table of small sets: a text belongs to one set, and when the set is
//! full the entry goes that was asked for least. Entries begin with no credit and earn one with each hit, up to three,
//! and a newcomer takes one from each of the others before it replaces one: a thousand texts that come once do not
//! push out what comes every second. What an entry cost is bounded by the length of the texts that are taken.

use crate::classify::classify;
use crate::effects;
use crate::knowledge::{Knowledge, SearchPath};
use crate::scan::contains;
use crate::statement::Verdicts;
use crate::template;
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
    /// For writing templates.
    room: Vec<u8>,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    generation: u64,
    credit: u8,
    form: Form,
    text: Box<[u8]>,
    path: SearchPath,
    verdicts: Arc<Verdicts>,
}

/// What an entry is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The text as it is.
    Text,
    /// The template of the text.
    Template,
}

/// What a text is looked up with.
struct Key<'a> {
    form: Form,
    text: &'a [u8],
    hash: u64,
    generation: u64,
    path: &'a SearchPath,
}

impl Cache {
    /// Remembers up to about `entries` texts.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        let sets = entries.div_ceil(WAYS).next_power_of_two().max(1);
        Self { sets: (0..sets).map(|_| Vec::new()).collect(), room: Vec::new(), hits: 0, misses: 0 }
    }

    /// What [`classify`] says about `text`. What was said about an older generation of `knowledge`, or along another
    /// path, does not count.
    pub fn classify(&mut self, text: &[u8], knowledge: &dyn Knowledge, path: &SearchPath) -> Arc<Verdicts> {
        if text.len() > LONGEST_REMEMBERED {
            self.misses += 1;
            return Arc::new(classify(text, knowledge, path));
        }
        let generation = knowledge.generation();
        let key = |form, text| Key { form, text, hash: hash(text), generation, path };
        let template = template::write(text, &mut self.room).then(|| key(Form::Template, &self.room));
        if let Some(known) = template.as_ref().and_then(|key| find(&mut self.sets, key)) {
            self.hits += 1;
            return known;
        }
        let text_itself = key(Form::Text, text);
        if let Some(known) = find(&mut self.sets, &text_itself) {
            self.hits += 1;
            return known;
        }
        self.misses += 1;
        let verdicts = Arc::new(classify(text, knowledge, path));
        let key = template.filter(|_| holds_for_template(text)).unwrap_or(text_itself);
        admit(&mut self.sets, &key, &verdicts);
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

/// Whether what is in the strings and numbers of a text has no say in its verdict.
fn holds_for_template(text: &[u8]) -> bool {
    effects::are_surely_none(text) && !contains(text, b"current_setting")
}

/// The set to which a key belongs.
fn set_of<'a>(sets: &'a mut [Vec<Entry>], key: &Key<'_>) -> Option<&'a mut Vec<Entry>> {
    let place = usize::try_from(key.hash).unwrap_or_default() & (sets.len() - 1);
    sets.get_mut(place)
}

/// What is remembered; it has proven useful.
fn find(sets: &mut [Vec<Entry>], key: &Key<'_>) -> Option<Arc<Verdicts>> {
    let known = set_of(sets, key)?.iter_mut().find(|entry| {
        entry.hash == key.hash
            && entry.generation == key.generation
            && entry.form == key.form
            && *entry.text == *key.text
            && entry.path == *key.path
    })?;
    known.credit = (known.credit + 1).min(MOST_CREDIT);
    Some(Arc::clone(&known.verdicts))
}

/// Remembers, in the place of an entry without credit where the set is full.
fn admit(sets: &mut [Vec<Entry>], key: &Key<'_>, verdicts: &Arc<Verdicts>) {
    let Some(set) = set_of(sets, key) else { return };
    let entry = Entry {
        hash: key.hash,
        generation: key.generation,
        credit: 0,
        form: key.form,
        text: key.text.into(),
        path: key.path.clone(),
        verdicts: Arc::clone(verdicts),
    };
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
    use proptest::prelude::*;

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
            let _ = cache.classify(format!("SELECT column_{round}").as_bytes(), &Nothing, &path);
        }
        let (hits, misses) = cache.counts();
        assert_eq!((hits, misses), (999, 1001));
        assert!(cache.len() <= 8);
    }

    #[test]
    fn texts_of_one_template_are_looked_at_once_unless_their_strings_matter() {
        let mut cache = Cache::new(64);
        let path = SearchPath::unknown();
        let mut access = |text: &str| cache.classify(text.as_bytes(), &Nothing, &path).access();
        assert_eq!(access("SELECT a FROM t WHERE b = 1"), Access::Read);
        assert_eq!(access("SELECT a FROM t WHERE b = 22"), Access::Read);
        assert_eq!(access("SELECT current_setting('work_mem')"), Access::Read);
        assert_eq!(access("SELECT current_setting('transaction_read_only')"), Access::Write);
        assert_eq!(cache.counts(), (1, 3));
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_a_look_would_say(
            texts in prop::collection::vec(
                prop::collection::vec(
                    "SELECT |INSERT INTO t |UPDATE t SET |WITH a AS |FROM t |WHERE b = |current_setting|set_config|now|\
                     nextval|BEGIN|SET x = |FOR UPDATE|INTO |[(),;+-]|[0-9]{1,2} |'[a-z;(]{0,2}' |'work_mem'|\
                     'transaction_isolation'|LANGUAGE |'c'|CREATE FUNCTION f\\(\\) ",
                    1..8,
                ),
                1..40,
            )
        ) {
            let (mut cache, path) = (Cache::new(1024), SearchPath::unknown());
            for text in texts.iter().map(|pieces| pieces.concat()) {
                let remembered = cache.classify(text.as_bytes(), &Nothing, &path);
                prop_assert_eq!(&*remembered, &classify(text.as_bytes(), &Nothing, &path), "{}", text);
            }
        }
    }

    #[test]
    fn long_texts_are_not_remembered() {
        let mut cache = Cache::new(8);
        let text = format!("SELECT '{}'", "x".repeat(LONGEST_REMEMBERED));
        let _ = cache.classify(text.as_bytes(), &Nothing, &SearchPath::unknown());
        assert!(cache.is_empty());
    }
}
