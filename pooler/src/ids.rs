//! Numbers that name things across rooms. Pure.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// One worker thread, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub usize);

/// One client session. The number is also the process number that the client was told for cancelling, so it
/// names the worker too: `number % workers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u32);

impl SessionId {
    /// The least number of a session. No process has such a number (Linux counts to 2^22 at most), so that whoever
    /// tells a server to end or cancel one means a session, and never hits a stranger.
    pub const LEAST: u32 = 1 << 22;
}

/// One SQL text with its parameter types, in the whole process. `StatementId(42)` is `hawser_p42` on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatementId(pub u64);

/// Something by statement.
pub type ByStatement<T> = HashMap<StatementId, T, BuildHasherDefault<NumberHasher>>;

/// Hashes a number that we have given out ourselves, so that nobody can choose numbers that collide.
#[derive(Debug, Clone, Copy, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The table looks at the highest bits and at the lowest.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// One cluster: the PostgreSQL hosts that databases of the settings name together. Databases with the same hosts share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u16);

/// One host of a cluster: its place in the cluster's list. It keeps the number while the process lives; a host that is
/// found later gets a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub u16);

/// Which host of a cluster a pool leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum PoolHost {
    /// Whichever takes writes.
    #[default]
    Primary,
    /// This one, while it is a standby.
    Standby(HostId),
}

/// Server connections that are interchangeable: the database as clients name it, the user on the server, and the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// Name of the database in the settings, or the client's word for a wildcard.
    pub database: String,
    /// User on the server.
    pub user: String,
    /// Which host.
    pub host: PoolHost,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.database, self.user)?;
        match self.host {
            PoolHost::Primary => Ok(()),
            PoolHost::Standby(host) => write!(f, "@{host}"),
        }
    }
}
