//! Slows down an address from which too many logins fail, whichever worker they reach.
//! Pure. Time is an argument, memory is bounded.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::bounded::Bounded;

/// The first pause; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Counts failed logins by IPv4 address or IPv6 /64 (which one customer has whole).
#[derive(Debug)]
pub struct Throttle {
    failures: u32,
    window: Duration,
    seen: Bounded<IpAddr, Failures>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    since: Instant,
    last: Instant,
    count: u32,
}

impl Throttle {
    /// After `failures` failures (0: never) within `window` an address has to pause. At most `capacity` addresses are
    /// remembered, or an eighth more; the one that failed longest ago makes room.
    #[must_use]
    pub fn new(failures: u32, window: Duration, capacity: usize) -> Self {
        let failures = if failures == 0 { u32::MAX } else { failures };
        Self { failures, window, seen: Bounded::new(capacity) }
    }

    /// A login from this address has failed.
    pub fn failure(&self, address: IpAddr, now: Instant) {
        self.seen.change(network(address), |seen| match seen {
            Some(seen) if now.saturating_duration_since(seen.since) < self.window => {
                Failures { last: now, count: seen.count.saturating_add(1), ..*seen }
            }
            _ => Failures { since: now, last: now, count: 1 },
        });
    }

    /// How long the address has to wait before its next attempt is looked at; `None`: not at all. Never longer
    /// than the window lasts.
    #[must_use]
    pub fn delay(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let seen = self.seen.get(&network(address))?;
        let window_left = self.window.checked_sub(now.saturating_duration_since(seen.since))?;
        let excess = seen.count.checked_sub(self.failures)?;
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(excess));
        let pause_left = pause.checked_sub(now.saturating_duration_since(seen.last))?;
        Some(pause_left.min(window_left)).filter(|left| !left.is_zero())
    }

    /// How many addresses are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.seen.len()
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn pauses_begin_with_the_last_failure_allowed_and_double() {
        let start = Instant::now();
        let a = address("10.0.0.1");
        let throttle = Throttle::new(3, WINDOW, 10);
        for expected in [None, None, Some(seconds(1)), Some(seconds(2)), Some(seconds(4))] {
            throttle.failure(a, start);
            assert_eq!(throttle.delay(a, start), expected);
        }
        assert_eq!(throttle.delay(a, start + seconds(3)), Some(seconds(1)));
        assert_eq!(throttle.delay(a, start + seconds(4)), None);
        assert_eq!(throttle.delay(address("10.0.0.2"), start), None);
    }

    #[test]
    fn a_pause_ends_with_the_window_and_counting_begins_anew() {
        let start = Instant::now();
        let a = address("10.0.0.1");
        let throttle = Throttle::new(1, WINDOW, 10);
        for _ in 0..100 {
            throttle.failure(a, start);
        }
        assert_eq!(throttle.delay(a, start + seconds(50)), Some(seconds(10)));
        assert_eq!(throttle.delay(a, start + seconds(60)), None);
        throttle.failure(a, start + seconds(60));
        assert_eq!(throttle.delay(a, start + seconds(60)), Some(seconds(1)));
    }

    #[test]
    fn neighbours_in_a_v6_network_count_together_and_mapped_addresses_as_v4() {
        let start = Instant::now();
        let throttle = Throttle::new(2, WINDOW, 10);
        throttle.failure(address("2001:db8::1"), start);
        throttle.failure(address("2001:db8::ffff:1"), start);
        assert!(throttle.delay(address("2001:db8::abcd"), start).is_some());
        assert!(throttle.delay(address("2001:db8:0:1::1"), start).is_none());
        throttle.failure(address("::ffff:10.0.0.1"), start);
        throttle.failure(address("10.0.0.1"), start);
        assert!(throttle.delay(address("10.0.0.1"), start).is_some());
        assert!(throttle.delay(address("::ffff:10.0.0.2"), start).is_none());
    }

    #[test]
    fn no_more_addresses_are_remembered_than_allowed() {
        let start = Instant::now();
        let throttle = Throttle::new(1, WINDOW, 100);
        for n in 0..10_000_u32 {
            throttle.failure(IpAddr::from(n.to_be_bytes()), start);
        }
        assert!(throttle.remembered() <= 112, "{}", throttle.remembered());
    }
}
