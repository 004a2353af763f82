//! The one table from what went wrong inside to what the client reads: severity, SQLSTATE and words. Pure.
//!
//! ERROR keeps the session and is followed by ReadyForQuery; FATAL ends it. What a server says is passed on in its
//! own words.

use super::handle::Timer;
use crate::pins::{PinReason, PinReasons};
use crate::pool::PoolError;
use crate::relay::{Stop, Violation};
use crate::server::dial::DialError;
use hawser_wire::encode::{self, Severity};
use hawser_wire::sqlstate;

/// Something that a client must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No server connection came free in time.
    WaitedTooLong,
    /// There was no primary for too long.
    NoPrimary,
    /// The client cancelled while it waited.
    CancelledInQueue,
    /// The pool cannot reach its server; the server's own ErrorResponse body where there is one.
    NoServer(Option<Vec<u8>>, String),
    /// The connection to the server was lost with replies owed.
    ServerLost,
    /// It was lost, and with it an open transaction.
    TransactionLost,
    /// It was lost, and what the statement did is surely undone.
    StatementUndone,
    /// It was lost with a COMMIT under way.
    CommitUnknown,
    /// The transaction has failed, and this is not its end.
    TransactionFailed,
    /// It was lost while the client was idle, and with it what kept the session there.
    StateLost(PinReasons),
    /// The client broke the protocol.
    Violation(String),
    /// The message is beyond a limit of ours.
    TooLarge(String),
    /// A transaction in statement mode.
    NoTransactions,
    /// More notifications than may wait for the client.
    NotifyQueueFull,
    /// Time is out.
    TimeOut(Timer),
    /// The process ends.
    ShuttingDown,
    /// TLS is demanded.
    NeedsTls,
    /// No rule lets this client in.
    NoRule(String),
    /// Too many failed logins.
    Throttled,
    /// The login took too long, on the client's side or on the server's.
    LoginTimeOut,
    /// There is no such database.
    UnknownDatabase(String),
    /// The database is disabled.
    Disabled(String),
    /// A limit on clients is reached.
    TooManyClients(&'static str),
    /// A startup packet or parameter is wrong.
    BadStartup(&'static str, String),
    /// Something of the operator's is wrong; the log says what.
    Misconfigured,
    /// The server's own ErrorResponse body.
    Server(Vec<u8>),
}

impl Refusal {
    /// SQLSTATE of our own refusals.
    #[must_use]
    pub const fn sqlstate(&self) -> &'static str {
        match self {
            Self::WaitedTooLong | Self::TooManyClients(_) => sqlstate::TOO_MANY_CONNECTIONS,
            Self::CancelledInQueue | Self::LoginTimeOut => sqlstate::QUERY_CANCELED,
            Self::NoServer(..) => sqlstate::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
            Self::ServerLost | Self::StateLost(_) | Self::Server(_) => sqlstate::CONNECTION_FAILURE,
            Self::TransactionLost | Self::StatementUndone => sqlstate::SERIALIZATION_FAILURE,
            Self::TransactionFailed => sqlstate::IN_FAILED_SQL_TRANSACTION,
            Self::CommitUnknown => sqlstate::TRANSACTION_RESOLUTION_UNKNOWN,
            Self::Violation(_) => sqlstate::PROTOCOL_VIOLATION,
            Self::NotifyQueueFull => sqlstate::CONFIGURATION_LIMIT_EXCEEDED,
            Self::TooLarge(_) => sqlstate::PROGRAM_LIMIT_EXCEEDED,
            Self::NoTransactions => sqlstate::FEATURE_NOT_SUPPORTED,
            Self::TimeOut(Timer::IdleTransaction) => sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            Self::TimeOut(Timer::ClientIdle) => sqlstate::IDLE_SESSION_TIMEOUT,
            Self::TimeOut(Timer::Transaction) => sqlstate::TRANSACTION_TIMEOUT,
            Self::TimeOut(_) => sqlstate::QUERY_CANCELED,
            Self::ShuttingDown => sqlstate::ADMIN_SHUTDOWN,
            Self::NeedsTls | Self::NoRule(_) => sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
            Self::Throttled => sqlstate::INVALID_PASSWORD,
            Self::UnknownDatabase(_) => sqlstate::INVALID_CATALOG_NAME,
            Self::Disabled(_) | Self::NoPrimary => sqlstate::CANNOT_CONNECT_NOW,
            Self::BadStartup(sqlstate, _) => sqlstate,
            Self::Misconfigured => sqlstate::CONFIG_FILE_ERROR,
        }
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::WaitedTooLong => "no server connection became free in time (query_wait_timeout)".into(),
            Self::NoPrimary => {
                "there is no primary that could be waited for any longer (timeouts.hold, limits.max_held)"
                    .into()
            }
            Self::CancelledInQueue => "canceling statement due to user request".into(),
            Self::NoServer(_, words) => format!("cannot reach the database server: {words}"),
            Self::ServerLost => "server connection lost; whether the statement took effect is unknown".into(),
            Self::TransactionLost => {
                "server connection lost; the transaction was rolled back and can be tried again".into()
            }
            Self::StatementUndone => {
                "server connection lost; the statement was undone and can be tried again".into()
            }
            Self::TransactionFailed => {
                "current transaction is aborted, commands ignored until end of transaction block".into()
            }
            Self::CommitUnknown => "server connection lost during COMMIT; its outcome is unknown".into(),
            Self::StateLost(gone) => {
                let gone: Vec<_> = gone.iter().map(PinReason::word).collect();
                format!(
                    "the session has a new server connection, and lost with the old one: {}",
                    gone.join(", ")
                )
            }
            Self::Violation(words) | Self::TooLarge(words) | Self::BadStartup(_, words) => words.clone(),
            Self::NoTransactions => "transaction blocks not allowed in statement pooling mode".into(),
            Self::NotifyQueueFull => {
                "terminating connection because too many notifications were not read (limits.notify_queue)"
                    .into()
            }
            Self::TimeOut(timer) => timed_out(*timer).into(),
            Self::ShuttingDown => "terminating connection due to administrator command".into(),
            Self::NeedsTls => "TLS is required".into(),
            Self::NoRule(words) => words.clone(),
            Self::Throttled => "too many failed logins, try again later".into(),
            Self::LoginTimeOut => "canceling authentication due to timeout (timeouts.login)".into(),
            Self::UnknownDatabase(name) => format!("database \"{name}\" does not exist"),
            Self::Disabled(name) => format!("database \"{name}\" is disabled"),
            Self::TooManyClients(limit) => format!("no more connections allowed ({limit})"),
            Self::Misconfigured => "the pooler is not configured for this; its log says why".into(),
            Self::Server(_) => "the server refused".into(),
        }
    }

    /// Appends the message for the client.
    pub fn write(&self, out: &mut Vec<u8>, severity: Severity) {
        if let Self::Server(body) | Self::NoServer(Some(body), _) = self {
            if severity == Severity::Error {
                let fields = hawser_wire::backend::error_fields(body);
                let sqlstate = String::from_utf8_lossy(fields.sqlstate);
                let words = String::from_utf8_lossy(fields.message);
                return encode::error(out, severity, &sqlstate, &words, None);
            }
            encode::message(out, hawser_wire::tag::backend::ERROR_RESPONSE, |out| {
                out.extend_from_slice(body)
            });
            return;
        }
        encode::error(out, severity, self.sqlstate(), &self.words(), None);
    }
}

const fn timed_out(timer: Timer) -> &'static str {
    match timer {
        Timer::ClientIdle => "terminating connection due to client_idle_timeout",
        Timer::Query => "canceling statement due to query_timeout",
        Timer::IdleTransaction => "terminating connection due to idle_transaction_timeout",
        Timer::Transaction => "terminating connection due to transaction_timeout",
        Timer::QueryWait | Timer::QueueNotice | Timer::Pin => "waiting for a server connection",
    }
}

impl From<&PoolError> for Refusal {
    fn from(error: &PoolError) -> Self {
        match error {
            PoolError::Dial(dial) => Self::from(dial),
            PoolError::Nowhere | PoolError::TooManyHeld => Self::NoPrimary,
        }
    }
}

impl From<&DialError> for Refusal {
    fn from(error: &DialError) -> Self {
        Self::NoServer(error.refusal().map(<[u8]>::to_vec), error.to_string())
    }
}

/// What a client is told when a relay stops, if it can be told anything.
#[must_use]
pub fn of_stop(stop: &Stop) -> Option<Refusal> {
    Some(match stop {
        Stop::ClientLeft | Stop::ClientLost(_) => return None,
        Stop::Violation(violation @ (Violation::TooLong { .. } | Violation::TooManyStatements(_))) => {
            Refusal::TooLarge(violation.to_string())
        }
        Stop::Violation(violation) => Refusal::Violation(violation.to_string()),
        Stop::NotifyQueueFull => Refusal::NotifyQueueFull,
        Stop::ServerLeft
        | Stop::ServerLost(_)
        | Stop::ServerEnds(_)
        | Stop::ServerCut
        | Stop::ServerViolation(_)
        | Stop::ServerFraming(_)
        | Stop::Differs => Refusal::ServerLost,
        Stop::EndedItself(None) => Refusal::ShuttingDown,
        Stop::OursFailed(body) | Stop::Misrouted(body) | Stop::EndedItself(Some(body)) => {
            Refusal::Server(body.clone())
        }
    })
}
