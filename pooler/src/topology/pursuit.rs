//! The part of a watch that answers its bell, and proves what standbys have while somebody waits for it.

use super::bell::bit;
use super::history::Phase;
use super::moment::Moment;
use super::snapshot::{HostState, PrimaryView, Role};
use super::watch::Watch;
use crate::ids::HostId;
use crate::mailbox::Order;
use std::time::Duration;

/// Somebody who waits for a proof has the hosts asked for so long. Who still waits then asks again.
const LONGEST_PURSUIT: Duration = Duration::from_millis(500);

/// A standby that lags is asked at least this often while somebody waits for it.
const LONGEST_GAP: Duration = Duration::from_millis(25);

/// So often the primary is asked whether it has written out by now what somebody waits for.
const UNSENT_GAP: Duration = Duration::from_millis(5);

/// Somebody waits for a proof.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pursuit {
    /// Of this moment.
    wanted: Moment,
    /// Since then.
    since: Moment,
    /// Somebody said last then that it still waits.
    renewed: Moment,
}

impl Watch {
    /// Another thread wants something.
    pub(super) fn answer_bell(&mut self) {
        if let Some(moment) = self.bell.take_first_write() {
            self.note(moment, Phase::FirstWrite);
            self.publish();
        }
        let trouble = self.bell.take_trouble();
        let suspects = self.bell.take_suspects();
        for (place, host) in self.hosts.iter_mut().enumerate() {
            if suspects & bit(place) != 0 {
                host.suspected = Some(Moment::now());
                host.rein.reconnect();
            } else if trouble & bit(place) != 0 {
                host.rein.ask();
            }
        }
        let Some(wanted) = self.bell.wanted() else { return };
        let now = Moment::now();
        let before = self.pursuit.filter(|pursuit| pursuit.wanted == wanted);
        let since = before.map_or(now, |pursuit| pursuit.since);
        let pursuit = Pursuit { wanted, since, renewed: now };
        if self.any_standby_proves(wanted) {
            self.pursuit = None;
            self.wake_waiters();
        } else {
            self.pursuit = Some(pursuit);
            self.chase(pursuit, now);
        }
    }

    /// Goes on asking while somebody waits for a proof. `host` has just reported; `before` that,
    /// it had proven less or as much.
    pub(super) fn pursue(&mut self, host: HostId, before: Moment) {
        let Some(pursuit) = self.pursuit else { return };
        let now = Moment::now();
        let proven = self.freshness.proof(host).proven;
        if proven > before || self.freshness.withheld().is_some_and(|from| from <= pursuit.wanted) {
            // Some wait for less than the others, or in vain.
            self.wake_waiters();
        }
        if proven > pursuit.wanted || now.since(pursuit.renewed) > LONGEST_PURSUIT {
            self.pursuit = None;
        } else {
            self.chase(pursuit, now);
        }
    }

    /// The primary says where its log ends, and the standbys are asked until one is there. While many wait, both go on
    /// at the same time. The longer it takes, the less it matters to know to the millisecond.
    fn chase(&self, pursuit: Pursuit, now: Moment) {
        let newest = self.freshness.newest();
        if newest <= pursuit.wanted {
            self.ask_primary(Duration::ZERO);
        } else if self.freshness.is_unsent(pursuit.wanted) {
            self.ask_primary(UNSENT_GAP);
        }
        let gap = (now.since(pursuit.since) / 8).min(LONGEST_GAP);
        self.ask_standbys(newest, gap);
    }

    fn ask_primary(&self, gap: Duration) {
        if let PrimaryView::Known { host, .. } | PrimaryView::Leaving { host, .. } = self.judge.primary()
            && let Some(host) = self.hosts.get(usize::from(host.0))
        {
            host.rein.ask_position(gap);
        }
    }

    fn ask_standbys(&self, newest: Moment, gap: Duration) {
        for (id, host) in (0..).map(HostId).zip(&self.hosts) {
            let answers = self.judge.state(id).0 == HostState::Up && self.judge.role(id) == Role::Standby;
            if answers && self.freshness.proof(id).proven < newest {
                host.rein.ask_position(gap);
            }
        }
    }

    fn any_standby_proves(&self, wanted: Moment) -> bool {
        (0..).map(HostId).take(self.hosts.len()).any(|id| self.freshness.proof(id).proven > wanted)
    }

    fn wake_waiters(&self) {
        for worker in self.bell.take_wanting(self.mailboxes.workers()) {
            self.mailboxes.send(worker, Order::Proven(self.cluster));
        }
    }
}
