//! What an `auth_query` answered, and for how long it is believed.
//! Pure. Time is an argument, memory is bounded.
//!
//! The columns are told by their place: name, secret, and optionally valid-until and can-login. Whatever cannot be
//! understood lets nobody in.

use std::time::{Duration, Instant, SystemTime};

use hawser_wire::scram::VerifierError;
use thiserror::Error;

use super::bounded::Bounded;
use super::secret;
use crate::config::settings::{AuthQuery, Secret};

/// A failed login asks the server again at most so often for one user.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is no such user.
    Unknown,
    /// There is, and it may not log in.
    CannotLogIn,
    /// It has no secret.
    NoSecret,
    /// It has one.
    Secret {
        /// The secret.
        secret: Secret,
        /// The secret holds no longer than this; `None`: for ever.
        valid_until: Option<SystemTime>,
    },
}

impl Found {
    /// The secrets that hold now: one or none.
    #[must_use]
    pub fn secrets(&self, now: SystemTime) -> &[Secret] {
        match self {
            Self::Secret { secret, valid_until } if valid_until.is_none_or(|end| now <= end) => {
                std::slice::from_ref(secret)
            }
            Self::Secret { .. } | Self::Unknown | Self::CannotLogIn | Self::NoSecret => &[],
        }
    }

    /// For the log: why there is no secret now.
    #[must_use]
    pub fn why_not(&self, now: SystemTime) -> Option<&'static str> {
        match self {
            Self::Unknown => Some("auth_query knows no such user"),
            Self::CannotLogIn => Some("the role may not log in"),
            Self::NoSecret => Some("the role has no password"),
            Self::Secret { .. } if self.secrets(now).is_empty() => Some("the role's password has expired"),
            Self::Secret { .. } => None,
        }
    }
}

/// An answer that cannot be understood. Never shows the secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LookupError {
    /// Other than 2 to 4 columns.
    #[error("auth_query must return 2 to 4 columns (name, secret, valid-until, can-login), not {0}")]
    Columns(usize),
    /// More than one row.
    #[error("auth_query must return at most one row")]
    Rows,
    /// The row is about someone else.
    #[error("auth_query was asked for user \"{asked}\" and answered for \"{answered}\"")]
    OtherUser {
        /// Whom we asked for.
        asked: String,
        /// Whose row it is.
        answered: String,
    },
    /// The secret looks like a verifier and is none.
    #[error("secret from auth_query: {0}")]
    Secret(#[from] VerifierError),
    /// No point in time.
    #[error(
        "valid-until from auth_query is neither a timestamp with time zone (ISO) nor seconds since 1970: \"{0}\""
    )]
    ValidUntil(String),
    /// No boolean.
    #[error("can-login from auth_query is no boolean: \"{0}\"")]
    CanLogIn(String),
}

/// Reads the rows of an answer, in text format.
pub fn interpret(asked: &str, rows: &[Vec<Option<String>>]) -> Result<Found, LookupError> {
    let row = match rows {
        [] => return Ok(Found::Unknown),
        [row] => row,
        _ => return Err(LookupError::Rows),
    };
    let text = |column: &Option<String>| column.as_deref().map(str::to_owned);
    let (name, secret, valid_until, can_log_in) = match row.as_slice() {
        [name, secret] => (name, secret, None, None),
        [name, secret, until] => (name, secret, text(until), None),
        [name, secret, until, can] => (name, secret, text(until), Some(text(can))),
        other => return Err(LookupError::Columns(other.len())),
    };
    // A query without a row may also answer with nulls.
    let Some(name) = name else { return Ok(Found::Unknown) };
    if name != asked {
        return Err(LookupError::OtherUser { asked: asked.to_owned(), answered: name.clone() });
    }
    match can_log_in.as_ref().map(|value| value.as_deref()) {
        None | Some(Some("t" | "true")) => {}
        Some(None | Some("f" | "false")) => return Ok(Found::CannotLogIn),
        Some(Some(other)) => return Err(LookupError::CanLogIn(other.to_owned())),
    }
    let valid_until = match valid_until {
        None => None,
        Some(text) => parse_time(&text).ok_or(LookupError::ValidUntil(text))?,
    };
    match secret.as_deref() {
        None | Some("") => Ok(Found::NoSecret),
        Some(secret) => Ok(Found::Secret { secret: secret::parse(secret)?, valid_until }),
    }
}

/// A moment; the inner `None` is infinity.
fn parse_time(text: &str) -> Option<Option<SystemTime>> {
    match text {
        "infinity" | "Infinity" => Some(None),
        "-infinity" | "-Infinity" => Some(Some(SystemTime::UNIX_EPOCH)),
        _ => {
            // Parts of a second are dropped: the secret ends up to a second early.
            let seconds = parse_seconds(text).or_else(|| parse_iso(text))?;
            // What lies before 1970 is over, and so is 1970.
            let seconds = u64::try_from(seconds).unwrap_or(0);
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).map(Some)
        }
    }
}

fn parse_seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    fraction.bytes().all(|b| b.is_ascii_digit()).then(|| whole.parse().ok()).flatten()
}

/// Seconds since 1970 of `2026-01-31 12:00:00.5+05:30`, as PostgreSQL writes a timestamp with time zone (DateStyle ISO).
pub(crate) fn parse_iso(text: &str) -> Option<i64> {
    // Everything before Christ is over; the exact day does not matter.
    if text.ends_with(" BC") {
        return Some(0);
    }
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, offset) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let at = time.find(['+', '-'])?;
            let (time, zone) = time.split_at_checked(at)?;
            (time, parse_offset(zone)?)
        }
    };
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut time = time.splitn(3, ':').map(digits);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let sane = (1..=294_276).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..=24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    sane.then(|| days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

/// Seconds east of Greenwich: `+05`, `-03:30`, `+00:19:32`.
fn parse_offset(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let mut parts = rest.splitn(3, ':');
    let hours = digits(parts.next()?)?;
    let minutes = parts.next().map_or(Some(0), digits)?;
    let seconds = parts.next().map_or(Some(0), digits)?;
    (hours <= 16 && minutes < 60 && seconds < 60).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

fn digits(text: &str) -> Option<i64> {
    let plain = (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Days from 1 January 1970 in the Gregorian calendar. Years begin in March here, so that the leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_month = (153 * month + 2) / 5;
    let before_year = 365 * year + year / 4 - year / 100 + year / 400;
    before_year + before_month + day - 1 - 719_468
}

/// Whose secret: the database that was asked, and the user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretKey {
    /// The client's database.
    pub database: String,
    /// The user.
    pub user: String,
}

/// Answers of `auth_query`, believed for a while by all workers.
#[derive(Debug)]
pub struct SecretCache {
    entries: Bounded<SecretKey, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    found: Found,
    asked: Instant,
    until: Instant,
}

impl SecretCache {
    /// Holds at most so many answers, or an eighth more; the oldest makes room.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { entries: Bounded::new(capacity) }
    }

    /// The answer, if it is still believed.
    #[must_use]
    pub fn get(&self, key: &SecretKey, now: Instant) -> Option<Found> {
        self.entries.get(key).filter(|entry| now < entry.until).map(|entry| entry.found)
    }

    /// Keeps an answer: `cache_ttl` long if there is a secret in it, else `negative_ttl`.
    pub fn put(&self, key: SecretKey, found: Found, query: &AuthQuery, now: Instant) {
        let ttl = match found {
            Found::Secret { .. } => query.cache_ttl,
            Found::Unknown | Found::CannotLogIn | Found::NoSecret => query.negative_ttl,
        };
        // A span that no clock reaches counts as a day.
        let until = now.checked_add(ttl).unwrap_or(now + Duration::from_secs(86_400));
        self.entries.put(key, Entry { found, asked: now, until });
    }

    /// A login failed with this answer: forgets it, so that the server is asked again. `false` if there is none, or it is
    /// so fresh that asking again would only let an attacker load the server.
    pub fn forget_after_failure(&self, key: &SecretKey, now: Instant) -> bool {
        self.entries.remove_if(key, |entry| now.saturating_duration_since(entry.asked) >= REFRESH_PAUSE)
    }

    /// How many answers are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
