//! Weighs a worker: what it has done since the last tick, and what follows for its sessions (`crate::balance`).

use crate::balance::{Advice, PAUSE, Who};
use crate::config::settings::Balance;
use crate::session::services::Services;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// A session that has asked for something within this time is active.
const ACTIVE: Duration = Duration::from_secs(1);

/// One worker's.
#[derive(Debug)]
pub(super) struct Scale {
    cpu: Duration,
    at: Instant,
    advised: Option<Instant>,
}

impl Scale {
    /// On the worker's thread, before it does anything.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { cpu: cpu(), at: now, advised: None }
    }

    /// Takes note of what the worker has done until now. Now and then sessions are asked to leave by that.
    pub(super) fn weigh(&mut self, services: &Services, now: Instant) {
        let runtime = services.runtime();
        let loads = &runtime.facilities.loads;
        let me = services.worker.0;
        let cpu = cpu();
        loads.note(me, cpu.saturating_sub(self.cpu), now.duration_since(self.at));
        (self.cpu, self.at) = (cpu, now);
        if self.advised.is_some_and(|advised| now.duration_since(advised) < PAUSE) {
            return;
        }
        self.advised = Some(now);
        services.forget_departed(now);
        let workers = services.mailboxes.workers();
        match runtime.settings.balance {
            Balance::Off => services.departures.want(None, Who::Settled),
            Balance::Auto if workers < 2 => {}
            Balance::Auto => {
                let advice = loads.advice(me, active(services, now));
                if let Some(Advice { to, sessions }) = advice {
                    tracing::debug!(worker = me, to, sessions, "sessions should go on on another worker");
                }
                services.departures.want(advice, Who::Settled);
            }
            Balance::Roam => {
                let next = Advice { to: (me + 1) % workers.max(1), sessions: u32::MAX };
                services.departures.want((workers > 1).then_some(next), Who::Anybody);
            }
        }
    }
}

/// Sessions that do something.
fn active(services: &Services, now: Instant) -> u32 {
    let mut active = 0;
    services.each_session(|session| {
        let asked = session.trace.requested.get();
        active += u32::from(asked.is_some_and(|asked| now.saturating_duration_since(asked) < ACTIVE));
    });
    active
}

/// CPU time that this thread has used.
fn cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}
