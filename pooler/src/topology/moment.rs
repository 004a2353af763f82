//! Moments on one clock that all threads share, small enough for an atomic.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Nanoseconds since this process first asked for the time; on the clock that never goes back.
///
/// Zero is before everything: nothing is ever proven for it, and every standby has proven it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Before everything.
    pub const NEVER: Self = Self(0);

    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self::at(Instant::now())
    }

    /// The moment at which a clock was read.
    #[must_use]
    pub fn at(time: Instant) -> Self {
        static EPOCH: OnceLock<Instant> = OnceLock::new();
        let epoch = *EPOCH.get_or_init(|| time);
        // The first moment is later than `NEVER`.
        Self(nanoseconds(time.saturating_duration_since(epoch)).saturating_add(1))
    }

    /// How long after `earlier` it is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(span)))
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
