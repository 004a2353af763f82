//! The SQLSTATEs that Hawser itself sends or looks for (PostgreSQL manual, appendix "PostgreSQL Error Codes").
//! Pure. Five characters each; the names are PostgreSQL's.

/// `successful_completion`.
pub const SUCCESSFUL_COMPLETION: &str = "00000";
/// `warning`.
pub const WARNING: &str = "01000";
/// Notifications may have been lost: of class 01, warnings, with a subclass of our own.
pub const NOTIFICATIONS_MAY_BE_LOST: &str = "01H01";
/// `connection_exception`.
pub const CONNECTION_EXCEPTION: &str = "08000";
/// `sqlclient_unable_to_establish_sqlconnection`.
pub const SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION: &str = "08001";
/// `connection_does_not_exist`.
pub const CONNECTION_DOES_NOT_EXIST: &str = "08003";
/// `sqlserver_rejected_establishment_of_sqlconnection`.
pub const SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION: &str = "08004";
/// `connection_failure`: the server was lost.
pub const CONNECTION_FAILURE: &str = "08006";
/// `transaction_resolution_unknown`: the outcome of a commit is not known.
pub const TRANSACTION_RESOLUTION_UNKNOWN: &str = "08007";
/// `protocol_violation`.
pub const PROTOCOL_VIOLATION: &str = "08P01";
/// `feature_not_supported`.
pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
/// `invalid_parameter_value`.
pub const INVALID_PARAMETER_VALUE: &str = "22023";
/// `character_not_in_repertoire`: bytes that are no text in the encoding.
pub const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
/// `active_sql_transaction`.
pub const ACTIVE_SQL_TRANSACTION: &str = "25001";
/// `read_only_sql_transaction`.
pub const READ_ONLY_SQL_TRANSACTION: &str = "25006";
/// `no_active_sql_transaction`.
pub const NO_ACTIVE_SQL_TRANSACTION: &str = "25P01";
/// `in_failed_sql_transaction`.
pub const IN_FAILED_SQL_TRANSACTION: &str = "25P02";
/// `idle_in_transaction_session_timeout`.
pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: &str = "25P03";
/// `transaction_timeout`.
pub const TRANSACTION_TIMEOUT: &str = "25P04";
/// `invalid_sql_statement_name`: no such prepared statement.
pub const INVALID_SQL_STATEMENT_NAME: &str = "26000";
/// `invalid_authorization_specification`.
pub const INVALID_AUTHORIZATION_SPECIFICATION: &str = "28000";
/// `invalid_password`.
pub const INVALID_PASSWORD: &str = "28P01";
/// `invalid_cursor_name`: no such portal.
pub const INVALID_CURSOR_NAME: &str = "34000";
/// `invalid_catalog_name`: no such database.
pub const INVALID_CATALOG_NAME: &str = "3D000";
/// `serialization_failure`.
pub const SERIALIZATION_FAILURE: &str = "40001";
/// `syntax_error`.
pub const SYNTAX_ERROR: &str = "42601";
/// `insufficient_privilege`.
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// `undefined_object`: no such setting.
pub const UNDEFINED_OBJECT: &str = "42704";
/// `duplicate_prepared_statement`.
pub const DUPLICATE_PREPARED_STATEMENT: &str = "42P05";
/// `insufficient_resources`.
pub const INSUFFICIENT_RESOURCES: &str = "53000";
/// `out_of_memory`.
pub const OUT_OF_MEMORY: &str = "53200";
/// `too_many_connections`, also: waited too long for one.
pub const TOO_MANY_CONNECTIONS: &str = "53300";
/// `configuration_limit_exceeded`.
pub const CONFIGURATION_LIMIT_EXCEEDED: &str = "53400";
/// `program_limit_exceeded`: a message or a list is too long.
pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
/// `object_not_in_prerequisite_state`.
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
/// `cant_change_runtime_param`.
pub const CANT_CHANGE_RUNTIME_PARAM: &str = "55P02";
/// `query_canceled`.
pub const QUERY_CANCELED: &str = "57014";
/// `admin_shutdown`.
pub const ADMIN_SHUTDOWN: &str = "57P01";
/// `crash_shutdown`.
pub const CRASH_SHUTDOWN: &str = "57P02";
/// `cannot_connect_now`: starting, disabled, or no primary.
pub const CANNOT_CONNECT_NOW: &str = "57P03";
/// `database_dropped`.
pub const DATABASE_DROPPED: &str = "57P04";
/// `idle_session_timeout`.
pub const IDLE_SESSION_TIMEOUT: &str = "57P05";
/// `system_error`.
pub const SYSTEM_ERROR: &str = "58000";
/// `io_error`.
pub const IO_ERROR: &str = "58030";
/// `config_file_error`.
pub const CONFIG_FILE_ERROR: &str = "F0000";
/// `internal_error`.
pub const INTERNAL_ERROR: &str = "XX000";

/// Whether a server that says this stops, has crashed or is not up yet: it is about the server, not about the statement.
#[must_use]
pub fn is_of_stopping_server(sqlstate: &[u8]) -> bool {
    [ADMIN_SHUTDOWN, CRASH_SHUTDOWN, CANNOT_CONNECT_NOW].iter().any(|known| known.as_bytes() == sqlstate)
}
