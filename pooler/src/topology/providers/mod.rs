//! Who else knows a cluster: Patroni, and the monitor of pg_auto_failover.
//!
//! They tell which hosts there are, so that new ones are taken up without a restart, and when a switchover is about to
//! begin. Who is the primary the hosts say themselves: where a tool says otherwise, the server's own word wins.

mod ask;
pub mod monitor;
pub mod patroni;

use super::snapshot::Sign;
use crate::config::settings::{HostAddress, HostSource};
use crate::runtime::Runtime;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};

/// What a tool says of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which tool.
    pub by: Sign,
    /// All hosts that it knows.
    pub hosts: Vec<HostAddress>,
    /// The host that it takes for the primary.
    pub primary: Option<HostAddress>,
    /// The primary, if it is about to hand over.
    pub leaving: Option<HostAddress>,
}

/// News of one of a cluster's sources.
#[derive(Debug)]
pub(super) struct News {
    /// Place in the list of sources.
    pub(super) source: usize,
    /// What it says, or why it says nothing. Then what it said last holds: a cluster does not end with its monitor.
    pub(super) told: Result<Told, String>,
}

/// Asks a source until it is aborted.
pub(super) fn listen(
    place: usize,
    source: &HostSource,
    known: &[HostAddress],
    runtime: &Arc<Runtime>,
    news: mpsc::UnboundedSender<News>,
) -> AbortHandle {
    let known = known.to_vec();
    match source.clone() {
        HostSource::Patroni(addresses) => spawn_local(ask::patroni(place, addresses, news)).abort_handle(),
        HostSource::Monitor(monitor) => {
            let plan = super::credentials::monitor_plan(runtime, &monitor);
            spawn_local(ask::monitor(place, plan, known, news)).abort_handle()
        }
    }
}
