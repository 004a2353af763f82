//! Whether a standby serves a batch, from the first replies. Pure.
//!
//! A standby that cannot serve a statement says so before it sends a row. Until then nothing is told to the client, so
//! that the batch can run again elsewhere and nobody notices.

use hawser_wire::backend as message;
use hawser_wire::frame::{self, FrameError, HEADER_LENGTH};
use hawser_wire::sqlstate;
use hawser_wire::tag::backend;

/// What the replies say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look<'a> {
    /// Nothing yet.
    More,
    /// It serves the batch, or fails as the primary would.
    Served,
    /// It cannot, because it is a standby. The body of its ErrorResponse.
    Refused(&'a [u8]),
}

/// Errors that a primary might not give: it is read-only, in recovery, or replay was in the way.
const STANDBY: [&str; 4] = [
    sqlstate::READ_ONLY_SQL_TRANSACTION,
    sqlstate::FEATURE_NOT_SUPPORTED,
    sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
    sqlstate::SERIALIZATION_FAILURE,
];

/// Those of them that every standby gives every time; the others pass.
const LASTING: [&str; 3] = [
    sqlstate::READ_ONLY_SQL_TRANSACTION,
    sqlstate::FEATURE_NOT_SUPPORTED,
    sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
];

/// Whether a standby would refuse the statement again. `refusal` is the body of its ErrorResponse.
pub(crate) fn is_lasting(refusal: &[u8]) -> bool {
    let sqlstate = message::error_fields(refusal).sqlstate;
    LASTING.iter().any(|known| known.as_bytes() == sqlstate)
}

/// The function that finds a plan stale, on whatever host: that is healed where it happens.
pub(super) const REVALIDATE: &[u8] = b"RevalidateCachedQuery";

/// The function that counts the formats of a Bind.
pub(super) const SET_FORMATS: &[u8] = b"PortalSetResultFormat";

/// Looks at replies from the beginning.
pub(super) fn look(replies: &[u8]) -> Result<Look<'_>, FrameError> {
    let mut at = 0;
    loop {
        let rest = replies.get(at..).unwrap_or_default();
        let Some(header) = frame::header(rest)? else { return Ok(Look::More) };
        match header.tag {
            backend::PARSE_COMPLETE
            | backend::BIND_COMPLETE
            | backend::CLOSE_COMPLETE
            | backend::NO_DATA
            | backend::PARAMETER_DESCRIPTION
            | backend::ROW_DESCRIPTION
            | backend::NOTICE_RESPONSE
            | backend::PARAMETER_STATUS => {}
            backend::ERROR_RESPONSE => {
                let Some(body) = rest.get(HEADER_LENGTH..header.total()) else { return Ok(Look::More) };
                let fields = message::error_fields(body);
                let known = STANDBY.iter().any(|known| known.as_bytes() == fields.sqlstate);
                let refused = (known || sqlstate::is_of_stopping_server(fields.sqlstate))
                    && fields.routine != REVALIDATE;
                return Ok(if refused { Look::Refused(body) } else { Look::Served });
            }
            _ => return Ok(Look::Served),
        }
        if rest.len() < header.total() {
            return Ok(Look::More);
        }
        at += header.total();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_wire::encode::{self, Severity};

    fn error(sqlstate: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode::error(&mut out, Severity::Error, sqlstate, "no", None);
        out
    }

    #[test]
    fn nothing_is_clear_before_a_row_or_an_end() {
        assert_eq!(look(b""), Ok(Look::More));
        assert_eq!(look(encode::PARSE_COMPLETE), Ok(Look::More));
        let served = [encode::PARSE_COMPLETE, b"D\0\0\0\x06\0\0"].concat();
        assert_eq!(look(&served), Ok(Look::Served));
        assert_eq!(look(b"D\0\0"), Ok(Look::More));
    }

    #[test]
    fn what_only_a_standby_says_is_a_refusal() {
        let refused = [encode::PARSE_COMPLETE, &error("25006")].concat();
        assert!(matches!(look(&refused), Ok(Look::Refused(_))));
        assert_eq!(look(&error("42601")), Ok(Look::Served));
        assert_eq!(look(&refused[..refused.len() - 1]), Ok(Look::More));
    }

    #[test]
    fn a_conflict_with_replay_passes_and_a_write_stays_a_write() {
        let body = |sqlstate| error(sqlstate).split_off(HEADER_LENGTH);
        assert!(LASTING.iter().all(|sqlstate| STANDBY.contains(sqlstate) && is_lasting(&body(sqlstate))));
        assert!(!is_lasting(&body("40001")) && !is_lasting(&body("57P01")) && !is_lasting(b""));
    }
}
