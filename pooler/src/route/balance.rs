//! Which of several standbys: the one that is expected to answer first. Pure.
//!
//! Expected is the latency of late (peaks count at once and fade), times the statements that wait there already, over
//! the host's weight. A host that is not asked fades too, so that it is tried again.

use crate::ids::HostId;
use std::time::{Duration, Instant};

/// Time in which a measured latency counts half.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// No host is taken for quicker than this: below it the difference is noise.
const QUICK: f64 = 0.000_2;

#[derive(Debug, Clone, Copy)]
struct Load {
    outstanding: u32,
    /// Seconds.
    latency: f64,
    at: Instant,
}

impl Load {
    fn latency(&self, now: Instant) -> f64 {
        // What counts as nothing need not fade.
        if self.latency <= QUICK {
            return self.latency;
        }
        let age = now.duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.latency * 0.5f64.powf(age)
    }

    fn cost(&self, now: Instant) -> f64 {
        self.latency(now).max(QUICK) * f64::from(self.outstanding + 1)
    }
}

/// How busy the standbys of one cluster are with what one worker sends them.
#[derive(Debug, Default)]
pub struct Balance {
    /// A handful: looking through them costs less than a hash.
    loads: Vec<(HostId, Load)>,
    turn: usize,
}

impl Balance {
    /// The best of `hosts`; those that are equally good take turns.
    pub fn choose(
        &mut self,
        hosts: &[HostId],
        weight: impl Fn(HostId) -> f64,
        now: Instant,
    ) -> Option<HostId> {
        self.turn = self.turn.wrapping_add(1);
        let cost = |host: HostId| {
            self.load(host).map_or(QUICK, |load| load.cost(now)) / weight(host).max(f64::MIN_POSITIVE)
        };
        let count = hosts.len();
        let turned = (0..count).filter_map(|at| hosts.get((at + self.turn) % count).copied());
        turned.map(|host| (host, cost(host))).min_by(|one, two| one.1.total_cmp(&two.1)).map(|(host, _)| host)
    }

    /// Something was sent to a host.
    pub fn begin(&mut self, host: HostId, now: Instant) {
        match self.loads.iter_mut().find(|(known, _)| *known == host) {
            Some((_, load)) => load.outstanding += 1,
            None => self.loads.push((host, Load { outstanding: 1, latency: 0.0, at: now })),
        }
    }

    /// It was answered, or will not be. `took`: how long the host took, where nothing else is in that time.
    pub fn end(&mut self, host: HostId, took: Option<Duration>, now: Instant) {
        let Some((_, load)) = self.loads.iter_mut().find(|(known, _)| *known == host) else { return };
        load.outstanding = load.outstanding.saturating_sub(1);
        let Some(took) = took else { return };
        let known = load.latency(now);
        let took = took.as_secs_f64();
        load.latency = if took > known { took } else { known * 0.9 + took * 0.1 };
        load.at = now;
    }

    fn load(&self, host: HostId) -> Option<&Load> {
        self.loads.iter().find(|(known, _)| *known == host).map(|(_, load)| load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [HostId; 2] = [HostId(1), HostId(2)];

    fn choose(balance: &mut Balance, now: Instant) -> HostId {
        balance.choose(&BOTH, |_| 1.0, now).unwrap()
    }

    #[test]
    fn hosts_that_are_equally_good_take_turns() {
        let (mut balance, now) = (Balance::default(), Instant::now());
        let first = choose(&mut balance, now);
        assert_ne!(choose(&mut balance, now), first);
    }

    #[test]
    fn the_busier_and_the_slower_host_is_left_alone() {
        let (mut balance, now) = (Balance::default(), Instant::now());
        balance.begin(HostId(1), now);
        assert!((0..4).all(|_| choose(&mut balance, now) == HostId(2)));
        balance.end(HostId(1), Some(Duration::from_millis(50)), now);
        assert!((0..4).all(|_| choose(&mut balance, now) == HostId(2)));
    }

    #[test]
    fn a_slow_host_is_tried_again_later() {
        let (mut balance, now) = (Balance::default(), Instant::now());
        balance.begin(HostId(1), now);
        balance.end(HostId(1), Some(Duration::from_millis(50)), now);
        let later = now + Duration::from_secs(20);
        let chosen: Vec<_> = (0..4).map(|_| choose(&mut balance, later)).collect();
        assert!(chosen.contains(&HostId(1)));
    }

    #[test]
    fn weights_count() {
        let (mut balance, now) = (Balance::default(), Instant::now());
        balance.begin(HostId(1), now);
        let heavy = |host| if host == HostId(1) { 3.0 } else { 1.0 };
        assert!((0..4).all(|_| balance.choose(&BOTH, heavy, now) == Some(HostId(1))));
        assert_eq!(balance.choose(&[], heavy, now), None);
    }
}
