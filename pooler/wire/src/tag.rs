//! The first byte of each message, by direction. Pure.
//!
//! Two modules because the same letter means different things each way: `C` is Close from a client and
//! CommandComplete from a server. Source: PostgreSQL manual, "Message Formats".

/// Messages that a client sends.
pub mod frontend {
    /// Binds parameters to a statement and makes a portal.
    pub const BIND: u8 = b'B';
    /// Closes a statement or portal.
    pub const CLOSE: u8 = b'C';
    /// A piece of COPY data.
    pub const COPY_DATA: u8 = b'd';
    /// The end of COPY data.
    pub const COPY_DONE: u8 = b'c';
    /// The client gives up a COPY.
    pub const COPY_FAIL: u8 = b'f';
    /// Asks what a statement or portal looks like.
    pub const DESCRIBE: u8 = b'D';
    /// Runs a portal.
    pub const EXECUTE: u8 = b'E';
    /// Asks for the replies so far.
    pub const FLUSH: u8 = b'H';
    /// Calls a function by oid (fast path).
    pub const FUNCTION_CALL: u8 = b'F';
    /// Prepares a statement.
    pub const PARSE: u8 = b'P';
    /// A password or a SASL message.
    pub const PASSWORD: u8 = b'p';
    /// A simple query.
    pub const QUERY: u8 = b'Q';
    /// The end of an extended batch.
    pub const SYNC: u8 = b'S';
    /// The client leaves.
    pub const TERMINATE: u8 = b'X';
}

/// Messages that a server sends.
pub mod backend {
    /// Any of the authentication requests.
    pub const AUTHENTICATION: u8 = b'R';
    /// Process number and cancel key.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// Bind succeeded.
    pub const BIND_COMPLETE: u8 = b'2';
    /// Close succeeded.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// A statement ended.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// COPY in both directions begins (replication).
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    /// A piece of COPY data.
    pub const COPY_DATA: u8 = b'd';
    /// The end of COPY data.
    pub const COPY_DONE: u8 = b'c';
    /// The server waits for COPY data.
    pub const COPY_IN_RESPONSE: u8 = b'G';
    /// The server sends COPY data.
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    /// One row.
    pub const DATA_ROW: u8 = b'D';
    /// An empty statement ended.
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    /// An error.
    pub const ERROR_RESPONSE: u8 = b'E';
    /// The result of a fast-path call.
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    /// The server speaks an older protocol, or knows not all options.
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// There are no rows to describe.
    pub const NO_DATA: u8 = b'n';
    /// A warning or hint.
    pub const NOTICE_RESPONSE: u8 = b'N';
    /// Somebody called NOTIFY.
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    /// The parameter types of a statement.
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// A setting has this value now.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// Parse succeeded.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// The row limit of Execute was reached.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// The server waits for the next batch.
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// The columns of the rows that follow.
    pub const ROW_DESCRIPTION: u8 = b'T';
}
