//! Why a session ended. Pure.

use super::handle::Timer;
use crate::mailbox::Drain;
use std::fmt;

/// The reason, for the log and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client said goodbye or closed the connection.
    ClientLeft,
    /// The connection to the client failed.
    ClientLost(std::io::ErrorKind),
    /// The client broke the protocol.
    Violation(String),
    /// The login failed: SQLSTATE and words for the log.
    Refused(&'static str, String),
    /// The server connection was lost with replies owed.
    ServerLost,
    /// A setting that the session needs was refused by the server.
    SettingsRefused,
    /// Some time was out.
    TimeOut(Timer),
    /// It did not read its notifications.
    NotifyQueueFull,
    /// The process ends.
    Drained(Drain),
    /// An operator wanted it gone.
    Killed,
    /// The login took too long.
    LoginTimeOut,
    /// It was a cancel request, and that is done.
    CancelDone,
    /// The server ended the session.
    ServerEnded,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientLeft => f.write_str("client left"),
            Self::ClientLost(kind) => write!(f, "client connection lost: {kind}"),
            Self::Violation(words) => write!(f, "protocol violation: {words}"),
            Self::Refused(sqlstate, words) => write!(f, "{words} ({sqlstate})"),
            Self::ServerLost => f.write_str("server connection lost"),
            Self::SettingsRefused => f.write_str("the server refused the session's settings"),
            Self::TimeOut(timer) => write!(f, "time out: {timer:?}"),
            Self::NotifyQueueFull => f.write_str("too many notifications were not read"),
            Self::Drained(_) => f.write_str("shutting down"),
            Self::Killed => f.write_str("ended by an operator"),
            Self::LoginTimeOut => f.write_str("login took too long"),
            Self::CancelDone => f.write_str("cancel request done"),
            Self::ServerEnded => f.write_str("ended by the server"),
        }
    }
}
