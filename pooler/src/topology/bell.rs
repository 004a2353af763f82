//! How other threads ask the probes of one cluster for something, without a lock and without a queue.

use super::moment::Moment;
use crate::auth::server_login::Credential;
use crate::ids::{HostId, WorkerId};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Notify, mpsc};

/// Numbers from here on share a bit. To ask one host or wake one worker too many does no harm.
const BITS: usize = 64;

/// Where to ring. Every snapshot of a cluster carries the same one.
#[derive(Debug)]
pub struct Bell {
    /// Hosts with trouble, one bit each.
    trouble: AtomicU64,
    /// Hosts on which nothing is begun before they have answered on a new connection, one bit each.
    suspects: AtomicU64,
    /// Newest moment that somebody wants proven.
    wanted: AtomicU64,
    /// Workers that want one.
    wanting: AtomicU64,
    lacks_credential: AtomicBool,
    /// There is a new primary, and no write to it has been acknowledged yet.
    awaits_write: AtomicBool,
    /// When the first one was; 0: that has been told.
    first_write: AtomicU64,
    offers: mpsc::UnboundedSender<Offer>,
    wake: Notify,
}

/// A credential that a client has just proved itself with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its user on the server.
    pub user: String,
    /// Its database on the server.
    pub dbname: String,
    /// What opens the door.
    pub credential: Credential,
}

impl Bell {
    pub(super) fn new(offers: mpsc::UnboundedSender<Offer>) -> Self {
        Self {
            trouble: AtomicU64::new(0),
            suspects: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            wanting: AtomicU64::new(0),
            lacks_credential: AtomicBool::new(false),
            awaits_write: AtomicBool::new(false),
            first_write: AtomicU64::new(0),
            offers,
            wake: Notify::new(),
        }
    }

    /// A connection to this host has trouble (it broke, it does not answer, or a primary refused a write): the host is
    /// asked at once.
    pub fn trouble(&self, host: HostId) {
        self.trouble.fetch_or(bit(host.0.into()), Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// As [`Self::trouble`], and workers begin nothing on the host before it has answered on a connection that is begun
    /// from now on ([`HostView::assured`](super::HostView::assured)): one that is there already can outlive the moment
    /// at which the server began to stop.
    pub fn suspect(&self, host: HostId) {
        self.suspects.fetch_or(bit(host.0.into()), Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// A session of this worker waits until a standby has proven `moment`. The hosts are asked at once; whenever a
    /// standby has proven more, the worker gets one [`Order::Proven`](crate::mailbox::Order::Proven), and who still
    /// waits then has to ask again.
    pub fn want_proof(&self, worker: WorkerId, moment: Moment) {
        self.wanted.fetch_max(moment.0, Ordering::AcqRel);
        self.wanting.fetch_or(bit(worker.0), Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// A write was acknowledged. Costs next to nothing, except for the first one after a failover, which is noted.
    #[inline]
    pub fn wrote(&self) {
        if self.awaits_write.load(Ordering::Relaxed) {
            self.note_first_write();
        }
    }

    #[cold]
    fn note_first_write(&self) {
        if self.awaits_write.swap(false, Ordering::AcqRel) {
            self.first_write.store(Moment::now().0, Ordering::Release);
            self.wake.notify_one();
        }
    }

    /// The probes have nothing to log in with, so that an offer would help.
    #[must_use]
    pub fn lacks_credential(&self) -> bool {
        self.lacks_credential.load(Ordering::Relaxed)
    }

    /// A client logs in with this; the probes may do so too.
    pub fn offer_credential(&self, offer: Offer) {
        let _ = self.offers.send(offer);
    }

    pub(super) fn set_lacks_credential(&self, lacks: bool) {
        self.lacks_credential.store(lacks, Ordering::Relaxed);
    }

    pub(super) fn await_write(&self) {
        self.awaits_write.store(true, Ordering::Release);
    }

    /// When the first write after a failover was acknowledged, once.
    pub(super) fn take_first_write(&self) -> Option<Moment> {
        Some(Moment(self.first_write.swap(0, Ordering::AcqRel))).filter(|moment| *moment != Moment::NEVER)
    }

    /// Waits until somebody has rung.
    pub(super) async fn rung(&self) {
        self.wake.notified().await;
    }

    /// Hosts with trouble since the last time, as bits of [`bit`].
    pub(super) fn take_trouble(&self) -> u64 {
        self.trouble.swap(0, Ordering::AcqRel)
    }

    /// Hosts that are suspected to stop since the last time.
    pub(super) fn take_suspects(&self) -> u64 {
        self.suspects.swap(0, Ordering::AcqRel)
    }

    /// The newest moment that somebody waits for, if anybody does.
    pub(super) fn wanted(&self) -> Option<Moment> {
        let anybody = self.wanting.load(Ordering::Acquire) != 0;
        anybody.then(|| Moment(self.wanted.load(Ordering::Acquire)))
    }

    /// The workers of `workers` that wait, who wait no longer from now on.
    pub(super) fn take_wanting(&self, workers: usize) -> impl Iterator<Item = WorkerId> + use<> {
        let bits = self.wanting.swap(0, Ordering::AcqRel);
        (0..workers).map(WorkerId).filter(move |worker| bits & bit(worker.0) != 0)
    }
}

/// The bit of a host or worker.
pub(super) const fn bit(number: usize) -> u64 {
    1 << (number % BITS)
}
