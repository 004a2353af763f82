//! Chooses a host for a batch. Pure.
//!
//! A batch goes to one host as a whole, because what it does between two Syncs is one transaction. What is not known to
//! be a read goes to the primary.

use super::wishes::Wishes;
use crate::config::settings::{Consistency, Route, RoutingSettings};
use crate::ids::HostId;
use crate::topology::{HostState, HostView, Moment, Snapshot};
use smallvec::SmallVec;
use std::time::Duration;

/// What a batch is, before anybody has chosen a host for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Every statement reads.
    Read,
    /// It begins a transaction that is READ ONLY from its beginning to its end.
    ReadOnlyTransaction,
    /// Something in it writes, or nobody knows.
    Write,
    /// It concerns the session, on whatever host that is.
    Session,
}

impl Nature {
    /// Whether a standby can serve it.
    #[must_use]
    pub const fn fits_standby(self) -> bool {
        matches!(self, Self::Read | Self::ReadOnlyTransaction)
    }
}

/// What the session has done, as far as it matters for what it must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When its last write was acknowledged.
    pub own_write: Moment,
    /// When the last write of any session was acknowledged, as of the time when the batch came.
    pub any_write: Moment,
}

/// Where the batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// To the primary.
    Primary(Why),
    /// To this standby.
    Standby(HostId),
    /// No standby has seen enough: one may have as soon as this moment is proven. If that takes too long, to the
    /// primary.
    Wait(Moment),
}

/// Why a batch goes to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is not known to be a read.
    Write,
    /// Session or settings say so.
    Asked,
    /// A standby would refuse SERIALIZABLE.
    Serializable,
    /// No standby can be read from.
    NoStandby,
    /// Every standby is too far behind.
    Lag,
    /// No standby had seen the session's writes in time.
    NotFresh,
}

impl Why {
    /// In words.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Asked => "asked",
            Self::Serializable => "serializable",
            Self::NoStandby => "no standby",
            Self::Lag => "lag",
            Self::NotFresh => "not fresh",
        }
    }
}

/// Everything that the choice depends on.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// The batch.
    pub nature: Nature,
    /// What the session asks for.
    pub wishes: &'a Wishes,
    /// What it must see.
    pub seen: Seen,
    /// The cluster.
    pub snapshot: &'a Snapshot,
    /// Limits.
    pub settings: &'a RoutingSettings,
    /// A host that has just failed to serve this batch.
    pub avoid: Option<HostId>,
    /// The time.
    pub now: Moment,
}

/// Chooses; `prefer` picks one of the standbys that will do.
#[must_use]
pub fn decide(
    circumstances: &Circumstances<'_>,
    prefer: impl FnOnce(&[HostId]) -> Option<HostId>,
) -> Decision {
    let Circumstances { nature, wishes, snapshot, .. } = circumstances;
    let wanted = match wishes.route {
        Route::Primary => return Decision::Primary(Why::Asked),
        Route::Standby => *nature != Nature::Session,
        Route::Auto => nature.fits_standby(),
    };
    if !wanted {
        return Decision::Primary(Why::Write);
    }
    if wishes.serializable {
        return Decision::Primary(Why::Serializable);
    }
    let (mut instead, mut fresh) = (Why::NoStandby, SmallVec::<[HostId; 8]>::new());
    let can_read =
        |host: &&HostView| host.state != HostState::Unknown && Some(host.id) != circumstances.avoid;
    for host in snapshot.standbys().filter(can_read) {
        if is_near(host, circumstances) {
            instead = Why::NotFresh;
            fresh.extend(is_fresh(host, circumstances).then_some(host.id));
        } else if instead == Why::NoStandby {
            instead = Why::Lag;
        }
    }
    if instead != Why::NotFresh {
        return Decision::Primary(instead);
    }
    match prefer(&fresh) {
        Some(host) => Decision::Standby(host),
        None => {
            // What is proven for the present has replayed whatever position is asked for.
            let position = wishes.min_lsn.map_or(Moment::NEVER, |_| circumstances.now);
            Decision::Wait(needed(circumstances).max(position))
        }
    }
}

/// The moment that a standby must have proven.
fn needed(circumstances: &Circumstances<'_>) -> Moment {
    match circumstances.wishes.consistency {
        Consistency::Eventual => Moment::NEVER,
        Consistency::Session => circumstances.seen.own_write,
        Consistency::Cluster => circumstances.seen.any_write.max(circumstances.seen.own_write),
    }
}

fn is_fresh(host: &HostView, circumstances: &Circumstances<'_>) -> bool {
    let needed = needed(circumstances);
    let seen = needed == Moment::NEVER || host.gauge.proven() > needed;
    seen && circumstances.wishes.min_lsn.is_none_or(|lsn| host.gauge.replayed() >= lsn)
}

/// Whether the standby is close enough behind, whatever the session has written.
fn is_near(host: &HostView, circumstances: &Circumstances<'_>) -> bool {
    let settings = circumstances.settings;
    let bytes = settings.max_lag_bytes.is_none_or(|limit| host.gauge.lag_bytes() <= limit as u64);
    let now = circumstances.snapshot.latest_write(circumstances.now);
    let behind = host.gauge.lag_time(now).unwrap_or(Duration::MAX);
    bytes && settings.max_lag.is_none_or(|limit| behind <= limit)
}
