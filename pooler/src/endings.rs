//! When clients have called for the end of a server process. Pure.
//!
//! A server process that is ended by number says the same words as one whose server stops. Where a client of ours has
//! just called `pg_terminate_backend`, it was the former.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A process acts on the order within this time, unless it is in the middle of something.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last time. All workers share one.
#[derive(Debug, Default)]
pub struct Endings {
    began: OnceLock<Instant>,
    /// Milliseconds since it began, plus one; zero for never.
    last: AtomicU64,
}

impl Endings {
    /// A client calls for an end now.
    pub fn note(&self, now: Instant) {
        let since = now.saturating_duration_since(*self.began.get_or_init(|| now));
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(millis.saturating_add(1), Ordering::AcqRel);
    }

    /// Whether one has just done so.
    #[must_use]
    pub fn is_recent(&self, now: Instant) -> bool {
        let Some(last) = self.last.load(Ordering::Acquire).checked_sub(1) else { return false };
        let Some(began) = self.began.get() else { return false };
        now.saturating_duration_since(*began) < Duration::from_millis(last) + PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_recent_for_a_while() {
        let endings = Endings::default();
        let began = Instant::now();
        assert!(!endings.is_recent(began));
        endings.note(began);
        assert!(endings.is_recent(began));
        endings.note(began + Duration::from_secs(1));
        assert!(endings.is_recent(began + PATIENCE));
        assert!(!endings.is_recent(began + PATIENCE + Duration::from_millis(1001)));
    }
}
