//! Comments by which a client says where a statement is to run. Pure.
//!
//! A hint is a whole comment, `/* hawser: primary */` or `-- hawser: standby`, in any case and with any blanks. It may
//! stand anywhere in a statement or before it, since many libraries append their comments. A comment that has other
//! words beside is no hint, so that text which users put into comments cannot become one by chance.

/// Where a client wants its statement to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// On the primary.
    Primary,
    /// On a standby: the client vouches for the functions that it calls.
    Standby,
}

/// Whether a comment, with its marks, begins as a hint does.
pub(crate) fn is_meant(comment: &[u8]) -> bool {
    of_comment(comment).is_some()
}

/// The hint that a comment, with its marks, is.
#[must_use]
pub fn of_comment(comment: &[u8]) -> Option<Hint> {
    let body = comment
        .strip_prefix(b"--")
        .or_else(|| comment.strip_prefix(b"/*").and_then(|rest| rest.strip_suffix(b"*/")))?;
    let body = body.trim_ascii();
    let (name, rest) = body.split_at_checked(b"hawser".len())?;
    if !name.eq_ignore_ascii_case(b"hawser") {
        return None;
    }
    let host = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii();
    if host.eq_ignore_ascii_case(b"primary") {
        Some(Hint::Primary)
    } else if host.eq_ignore_ascii_case(b"standby") {
        Some(Hint::Standby)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_a_comment_of_its_own() {
        for (comment, hint) in [
            ("/* hawser: primary */", Some(Hint::Primary)),
            ("/*HAWSER:Standby*/", Some(Hint::Standby)),
            ("-- hawser : primary", Some(Hint::Primary)),
            ("/* hawser: primary, please */", None),
            ("/* x hawser: primary */", None),
            ("/* hawser: */", None),
            ("/* hawser */", None),
            ("/**/", None),
            ("/*/", None),
            ("--", None),
        ] {
            assert_eq!(of_comment(comment.as_bytes()), hint, "{comment}");
        }
    }
}
