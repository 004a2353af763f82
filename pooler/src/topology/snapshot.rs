//! What is known of a cluster at one moment: published whole, never changed. Pure.
//!
//! A new snapshot is made when something changes that matters for where statements go. What changes with every round
//! is in the [`Gauge`] of each host, which all snapshots share.

use super::ancestry::Ancestry;
use super::bell::Bell;
use super::history::Failover;
use super::lsn::Lsn;
use super::moment::Moment;
use crate::config::settings::HostAddress;
use crate::ids::{ClusterId, HostId};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// See the module.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Counts the snapshots of this cluster: the higher number is the newer one.
    pub round: u64,
    /// When it was made.
    pub made: Moment,
    /// Its hosts; `hosts[id.0]` is the host `id`. Hosts that were removed stay, as [`HostState::Down`].
    pub hosts: Vec<HostView>,
    /// Who takes writes.
    pub primary: PrimaryView,
    /// Where to ring when something is needed of the probes.
    pub bell: Arc<Bell>,
    /// The last failovers, oldest first.
    pub history: Arc<[Failover]>,
    /// What is known of the primary's past.
    pub ancestry: Arc<Ancestry>,
}

impl Snapshot {
    /// A host.
    #[must_use]
    pub fn host(&self, id: HostId) -> Option<&HostView> {
        self.hosts.get(usize::from(id.0))
    }

    /// The host that takes writes now, if one does.
    #[must_use]
    pub const fn writable(&self) -> Option<HostId> {
        match self.primary {
            PrimaryView::Known { host, .. } | PrimaryView::Leaving { host, .. } => Some(host),
            PrimaryView::Lost { .. } | PrimaryView::NeverSeen => None,
        }
    }

    /// Whether the primary keeps what was written after this moment from all standbys.
    #[must_use]
    pub fn is_withheld(&self, moment: Moment) -> bool {
        self.writable().and_then(|id| self.host(id)).is_some_and(|primary| primary.gauge.withholds(moment))
    }

    /// Hosts beside the primary that can be read from, whatever they have replayed; one with two addresses counts once.
    pub fn standbys(&self) -> impl Iterator<Item = &HostView> {
        let serves = |host: &&HostView| self.only_reads(host) && host.state.is_usable();
        self.hosts.iter().filter(serves).filter(|host| host.same_as.is_none())
    }

    /// A standby, or a host that was promoted and takes no writes yet.
    #[must_use]
    pub fn only_reads(&self, host: &HostView) -> bool {
        let promoted =
            matches!(self.primary, PrimaryView::Lost { why: LostReason::ReadOnly(id), .. } if id == host.id);
        host.role == Role::Standby || promoted
    }

    /// The time to hold against what standbys have proven: while there is no primary nothing is written that they could
    /// fall behind.
    #[must_use]
    pub fn latest_write(&self, now: Moment) -> Moment {
        match self.primary {
            PrimaryView::Lost { since, .. } => since.min(now),
            PrimaryView::Known { .. } | PrimaryView::Leaving { .. } | PrimaryView::NeverSeen => now,
        }
    }
}

/// One host.
#[derive(Debug, Clone)]
pub struct HostView {
    /// Its number.
    pub id: HostId,
    /// Its address.
    pub address: HostAddress,
    /// What it last said it was.
    pub role: Role,
    /// Whether it can be used, and why not.
    pub state: HostState,
    /// Its timeline, as [`Answer::timeline`](super::question::Answer::timeline); 0 before it has answered.
    pub timeline: u32,
    /// Its system identifier; 0 before it has answered.
    pub system_id: u64,
    /// `server_version_num`; 0 before it has answered.
    pub version: u32,
    /// It leads to the same server as this other host, which stands for both.
    pub same_as: Option<HostId>,
    /// How often its name has been moved to another address. Connections made before the last time lead elsewhere.
    pub moves: u32,
    /// In this state since.
    pub since: Moment,
    /// A connection that was begun at this moment has been answered: the server did not stop before it. Told to who has
    /// asked by [`Bell::suspect`].
    pub assured: Moment,
    /// What changes with every round.
    pub gauge: Arc<Gauge>,
}

/// What a host is, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// Not in recovery.
    Primary,
    /// In recovery.
    Standby,
    /// It has not said.
    #[default]
    Unknown,
}

/// Whether a host can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HostState {
    /// Nobody knows: it was not asked yet, or it lives and lets no probe in.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It failed to answer, not yet often enough.
    Suspect,
    /// It does not answer.
    Down(DownReason),
    /// It believes that it is the primary, and is not. Nothing is ever sent to it.
    Fenced(FenceReason),
    /// Its data belong to another cluster. Nothing is ever sent to it.
    Foreign,
    /// A standby that the operator wants nothing read from. What is under way there ends in peace.
    Banned,
}

impl HostState {
    /// Statements may be sent to it.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Up | Self::Suspect | Self::Unknown)
    }

    /// Connections to it must be closed at once, whatever is under way on them.
    #[must_use]
    pub const fn is_cut_off(self) -> bool {
        matches!(self, Self::Down(_) | Self::Fenced(_) | Self::Foreign)
    }
}

/// Why a host is down, or suspected to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DownReason {
    /// Nobody accepts connections there.
    Unreachable,
    /// It accepts connections and does not answer in time: it is frozen, or cut off.
    Silent,
    /// The connection broke, and no new one was made.
    Lost,
    /// It starts up and lets nobody in yet.
    StartingUp,
    /// It shuts down.
    ShuttingDown,
    /// It answers, but not as PostgreSQL does.
    Garbled,
    /// It is no longer part of the cluster.
    Removed,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "nobody accepts connections there",
            Self::Silent => "it does not answer in time",
            Self::Lost => "the connection broke",
            Self::StartingUp => "it starts up",
            Self::ShuttingDown => "it shuts down",
            Self::Garbled => "its answer makes no sense",
            Self::Removed => "it was removed from the cluster",
        })
    }
}

/// Why a host is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FenceReason {
    /// Another host was promoted since.
    LowerTimeline {
        /// Where it is.
        has: u32,
        /// Highest timeline that was seen in the cluster.
        highest: u32,
    },
    /// Another host is the primary on the same timeline, and was so before.
    Rival {
        /// The primary.
        primary: HostId,
    },
    /// Several hosts say that they are the primary on the same timeline, and none was so before. None is believed.
    Rivals,
}

impl fmt::Display for FenceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LowerTimeline { has, highest } => {
                write!(f, "it is a primary on timeline {has}, and the cluster is on {highest}")
            }
            Self::Rival { primary } => write!(f, "host {primary} is the primary on the same timeline"),
            Self::Rivals => f.write_str("several hosts say that they are the primary on the same timeline"),
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Up => f.write_str("up"),
            Self::Suspect => f.write_str("suspect"),
            Self::Down(reason) => write!(f, "down: {reason}"),
            Self::Fenced(reason) => write!(f, "fenced: {reason}"),
            Self::Foreign => f.write_str("of another cluster"),
            Self::Banned => f.write_str("banned by an operator"),
        }
    }
}

/// Who takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimaryView {
    /// This host.
    Known {
        /// Which.
        host: HostId,
        /// Its timeline.
        timeline: u32,
        /// Since when it is believed.
        since: Moment,
    },
    /// This host, still; but it is about to hand over, so nothing new should be begun on it.
    Leaving {
        /// Which.
        host: HostId,
        /// Its timeline.
        timeline: u32,
        /// When the first sign was seen.
        since: Moment,
        /// Who said so.
        sign: Sign,
    },
    /// Nobody, for now: new work that needs a primary is held.
    Lost {
        /// Since when.
        since: Moment,
        /// Why.
        why: LostReason,
    },
    /// Nothing is known yet: not every host has been asked, or none lets a probe in.
    NeverSeen,
}

/// What tells of a planned switchover before it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sign {
    /// The monitor of pg_auto_failover has given the primary another goal.
    Monitor,
    /// Patroni shows a switchover.
    Patroni,
    /// The operator said so.
    Operator,
    /// The primary shuts down.
    ShuttingDown,
}

/// Why there is no primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LostReason {
    /// It is down.
    Down(HostId, DownReason),
    /// It became a standby, and no other host has been promoted yet.
    Demoted(HostId),
    /// This host was promoted, and takes no writes yet.
    ReadOnly(HostId),
    /// The cluster is on a higher timeline, and the host that was promoted to it is not there.
    Superseded {
        /// The timeline.
        timeline: u32,
    },
    /// Several hosts say that they are.
    Rivals,
    /// Every host was asked, and none says that it is the primary.
    NobodyClaims,
    /// Its data are of another cluster now.
    Foreign(HostId),
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(host, reason) => write!(f, "host {host} is down: {reason}"),
            Self::Demoted(host) => write!(f, "host {host} became a standby"),
            Self::ReadOnly(host) => write!(f, "host {host} takes no writes yet"),
            Self::Superseded { timeline } => {
                write!(f, "the host that was promoted to timeline {timeline} is not there")
            }
            Self::Rivals => f.write_str("several hosts say that they are the primary on the same timeline"),
            Self::NobodyClaims => f.write_str("no host says that it is the primary"),
            Self::Foreign(host) => write!(f, "the data of host {host} are of another cluster"),
        }
    }
}

/// What changes with every round: plain numbers, readable from any thread at any time.
#[derive(Debug, Default)]
pub struct Gauge {
    proven: AtomicU64,
    replayed: AtomicU64,
    lag_bytes: AtomicU64,
    round_trip: AtomicU64,
    answered: AtomicU64,
    /// 0: nothing.
    withheld: AtomicU64,
}

impl Gauge {
    /// Every write that was acknowledged before this moment can be seen on the host. Of the primary: for ever.
    #[must_use]
    pub fn proven(&self) -> Moment {
        Moment(self.proven.load(Ordering::Acquire))
    }

    /// Position up to which the host has replayed the log of the primary (the primary itself: inserted). Zero if
    /// nothing is known, or the host is not known to follow the primary's timeline.
    #[must_use]
    pub fn replayed(&self) -> Lsn {
        Lsn(self.replayed.load(Ordering::Acquire))
    }

    /// Bytes of log that the primary was ahead at the last round.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        self.lag_bytes.load(Ordering::Relaxed)
    }

    /// How old the host's data may be at most at `now`; `None`: nothing is proven.
    ///
    /// It grows up to the interval of the probes while a standby keeps up.
    #[must_use]
    pub fn lag_time(&self, now: Moment) -> Option<Duration> {
        let proven = self.proven();
        (proven != Moment::NEVER).then(|| now.since(proven))
    }

    /// Time from a question to its answer at the last round; zero before the first.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        Duration::from_nanos(self.round_trip.load(Ordering::Relaxed))
    }

    /// When the host last answered.
    #[must_use]
    pub fn answered(&self) -> Moment {
        Moment(self.answered.load(Ordering::Relaxed))
    }

    /// Whether this is the primary, and it has kept what was written after this moment from all standbys for so long that
    /// nobody should wait for them.
    #[must_use]
    pub fn withholds(&self, moment: Moment) -> bool {
        let withheld = self.withheld.load(Ordering::Relaxed);
        withheld != 0 && moment.0 >= withheld
    }

    pub(super) fn set_withheld(&self, from: Option<Moment>) {
        self.withheld.store(from.map_or(0, |moment| moment.0.max(1)), Ordering::Relaxed);
    }

    pub(super) fn set_proven(&self, moment: Moment, replayed: Lsn) {
        self.proven.store(moment.0, Ordering::Release);
        self.replayed.store(replayed.0, Ordering::Release);
    }

    pub(super) fn set_lag(&self, bytes: u64) {
        self.lag_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_answered(&self, at: Moment, round_trip: Duration) {
        self.answered.store(at.0, Ordering::Relaxed);
        let nanoseconds = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        self.round_trip.store(nanoseconds, Ordering::Relaxed);
    }
}
