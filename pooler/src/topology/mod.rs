//! Which host of a cluster is the primary, which standbys may be read from, and how fresh they are.
//!
//! Hawser watches promotions, it never makes them. On the control thread every host of every cluster is asked what it
//! is (`probe`), and tools that know the cluster are listened to (`providers`); the judge makes one picture of the answers ([`judge`]); the workers get it as an immutable
//! [`Snapshot`] when it changes. What changes with every round is in the [`Gauge`] of each host: plain
//! atomics. Workers ring a cluster's [`Bell`] when a connection has trouble, or a session waits for a standby.

pub mod ancestry;
pub mod bell;
pub mod checkup;
pub mod control;
mod credentials;
pub mod freshness;
pub mod history;
pub mod judge;
pub mod lsn;
pub mod moment;
mod names;
pub mod newest;
mod probe;
pub mod providers;
mod publish;
mod pursuit;
pub mod question;
pub mod snapshot;
mod sources;
mod survey;
mod watch;

pub use crate::ids::{ClusterId, HostId};
pub use ancestry::{Ancestry, Fork};
pub use bell::{Bell, Offer};
pub use control::{Clusters, Topology, is_watched};
pub use lsn::Lsn;
pub use moment::Moment;
pub use newest::Newest;
pub use snapshot::{Gauge, HostState, HostView, PrimaryView, Role, Snapshot};
