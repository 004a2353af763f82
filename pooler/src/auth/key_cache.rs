//! Remembers the SCRAM keys of passwords, so that PBKDF2 is not run again at each login.
//! Pure. Used on both legs: for clients whose secret is a password, and for servers that we log in to with one.

use hawser_wire::scram::{ScramError, ScramKeys};
use sha2::{Digest as _, Sha256};

use super::bounded::Bounded;

/// Keys by (password, salt, iterations). Bounded; `Debug` shows only how many there are.
pub struct KeyCache {
    known: Bounded<[u8; 32], ScramKeys>,
}

impl std::fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCache").field("known", &self.known.len()).finish()
    }
}

impl KeyCache {
    /// Holds the keys of at most so many passwords, or an eighth more.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { known: Bounded::new(capacity) }
    }

    /// The keys, derived now (about a millisecond for 4096 iterations) unless they are known.
    pub fn keys(&self, password: &[u8], salt: &[u8], iterations: u32) -> Result<ScramKeys, ScramError> {
        let mut hash = Sha256::new();
        // Lengths part the words, so that no two triples hash the same bytes.
        for part in [password, salt] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.update(iterations.to_be_bytes());
        let name: [u8; 32] = hash.finalize().into();
        if let Some(keys) = self.known.get(&name) {
            return Ok(keys);
        }
        let keys = ScramKeys::from_password(password, salt, iterations)?;
        self.known.put(name, keys.clone());
        Ok(keys)
    }

    /// How many passwords are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_from_memory_and_differ_in_every_part() {
        let cache = KeyCache::new(8);
        let first = cache.keys(b"pass", b"salt", 2).unwrap();
        assert_eq!(cache.keys(b"pass", b"salt", 2).unwrap(), first);
        assert_eq!(cache.known(), 1);
        for (password, salt, iterations) in
            [(&b"passs"[..], &b"alt"[..], 2), (b"pass", b"salt2", 2), (b"pass", b"salt", 3)]
        {
            let direct = ScramKeys::from_password(password, salt, iterations).unwrap();
            assert_eq!(cache.keys(password, salt, iterations).unwrap(), direct);
            assert_ne!(direct, first);
        }
        assert_eq!(cache.known(), 4);
        assert!(cache.keys(b"pass", b"salt", 0).is_err());
    }
}
