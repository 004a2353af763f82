//! Which transaction a server connection is in: asked before its COMMIT leaves, so that the outcome can be found out
//! elsewhere if the answer never comes. Pure.

/// One row, for any user of PostgreSQL 13 or later that is the primary: the transaction's number (NULL while it has
/// changed nothing), where the log ends (so a COMMIT that follows is behind that), the timeline, where the last
/// checkpoint is, the system identifier, and the isolation level.
pub const QUESTION: &str = "\
SELECT pg_catalog.pg_current_xact_id_if_assigned()::text, \
pg_catalog.pg_current_wal_insert_lsn()::text, \
pg_catalog.\"left\"(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8), \
(SELECT c.checkpoint_lsn FROM pg_catalog.pg_control_checkpoint() c)::text, \
(SELECT c.system_identifier FROM pg_catalog.pg_control_system() c)::text, \
pg_catalog.current_setting('transaction_isolation')";

/// Columns of the answer, in text form.
pub type Row = Vec<Option<String>>;

/// What is known of the transaction that is open on a server connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Identity {
    /// Nobody has asked, or it is another one since.
    #[default]
    Unknown,
    /// The server was asked.
    Asked,
    /// It has said.
    Known(Row),
}

impl Identity {
    /// It has a number, which it keeps until it ends.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        matches!(self, Self::Known(row) if matches!(row.first(), Some(Some(_))))
    }
}
