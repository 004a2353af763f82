//! The server's words about our names, turned back into the client's. Pure.

use super::gate::REVALIDATE;
use crate::ids::StatementId;
use hawser_wire::encode::{self, SERVER_NAME_PREFIX};
use hawser_wire::sqlstate;

/// An ErrorResponse body in the client's words; `None` when it is so already.
///
/// `name_of` is the client's name of a statement; `shifts` is where names were replaced in the text that the error's
/// position is about (see [`crate::statements::Deed::shifts`]).
pub(super) fn in_clients_words<'a>(
    body: &[u8],
    name_of: impl Fn(StatementId) -> Option<&'a [u8]>,
    shifts: &[(usize, isize)],
) -> Option<Vec<u8>> {
    let finder = memchr::memmem::Finder::new(SERVER_NAME_PREFIX);
    if finder.find(body).is_none() && shifts.is_empty() {
        return None;
    }
    let mut words = Vec::with_capacity(body.len());
    for field in body.split_inclusive(|byte| *byte == 0) {
        match field {
            [b'P', position @ .., 0] if !shifts.is_empty() => {
                words.push(b'P');
                words.extend_from_slice(shifted(position, shifts).as_bytes());
                words.push(0);
            }
            _ => rename(&mut words, field, &finder, &name_of),
        }
    }
    Some(words)
}

/// The body of the ErrorResponse by which a server says that rows do not look any more as the client was told. Drivers
/// know it by its routine.
pub(super) fn result_type_changed() -> Vec<u8> {
    let fields: [(u8, &[u8]); 5] = [
        (b'S', b"ERROR"),
        (b'V', b"ERROR"),
        (b'C', sqlstate::FEATURE_NOT_SUPPORTED.as_bytes()),
        (b'M', b"cached plan must not change result type"),
        (b'R', REVALIDATE),
    ];
    let mut body = Vec::new();
    for (tag, words) in fields {
        body.push(tag);
        encode::c_string(&mut body, words);
    }
    body.push(0);
    body
}

/// An ErrorResponse body without the place in a text that the client has not sent.
pub(super) fn without_position(body: &[u8]) -> Vec<u8> {
    let fields = body.split_inclusive(|byte| *byte == 0);
    fields.filter(|field| !matches!(field, [b'P', _, ..])).flatten().copied().collect()
}

fn shifted(position: &[u8], shifts: &[(usize, isize)]) -> String {
    let text = String::from_utf8_lossy(position);
    let Ok(mut place) = text.parse::<usize>() else { return text.into_owned() };
    for (after, longer) in shifts.iter().rev() {
        if place > *after {
            place = place.saturating_add_signed(-*longer).max(*after + 1);
        }
    }
    place.to_string()
}

fn rename<'a>(
    out: &mut Vec<u8>,
    mut rest: &[u8],
    finder: &memchr::memmem::Finder<'_>,
    name_of: &impl Fn(StatementId) -> Option<&'a [u8]>,
) {
    while let Some(found) = finder.find(rest) {
        let (before, after) = rest.split_at(found);
        out.extend_from_slice(before);
        let digits = after.get(SERVER_NAME_PREFIX.len()..).unwrap_or_default();
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(digits.get(..count).unwrap_or_default()).unwrap_or_default();
        let name = number.parse().ok().and_then(|number| name_of(StatementId(number)));
        let ours = after.get(..SERVER_NAME_PREFIX.len() + count).unwrap_or_default();
        out.extend_from_slice(name.unwrap_or(ours));
        rest = after.get(ours.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: StatementId) -> Option<&'static [u8]> {
        (id.0 == 42).then_some(b"mine")
    }

    #[test]
    fn our_names_become_the_clients_and_positions_its_own() {
        let body = b"SERROR\0Mno \"hawser_p42\" or hawser_p7\0P30\0\0";
        assert_eq!(
            in_clients_words(body, name, &[(8, 6)]).unwrap(),
            b"SERROR\0Mno \"mine\" or hawser_p7\0P24\0\0"
        );
        assert_eq!(in_clients_words(b"SERROR\0Mno\0\0", name, &[]), None);
    }

    #[test]
    fn a_position_before_a_name_is_left_alone() {
        assert_eq!(in_clients_words(b"P3\0\0", name, &[(8, 6)]).unwrap(), b"P3\0\0");
        assert_eq!(in_clients_words(b"P9\0\0", name, &[(8, 6)]).unwrap(), b"P9\0\0");
        assert_eq!(without_position(b"Mx\0P9\0\0"), b"Mx\0\0");
    }
}
