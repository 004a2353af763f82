//! The md5 exchange: `md5(md5(password + user) + salt)`. Old and weak, but servers and clients still ask for it.
//! Pure.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const PREFIX: &str = "md5";
const HEX_LEN: usize = 32;

/// The hash of a password as PostgreSQL stores it: `md5` and 32 hexadecimal digits.
#[must_use]
pub fn stored_hash(password: &[u8], user: &str) -> Zeroizing<String> {
    tagged(&[password, user.as_bytes()])
}

/// The client's answer to AuthenticationMD5Password, from the stored hash. `None` if it is none.
#[must_use]
pub fn response(stored: &str, salt: [u8; 4]) -> Option<Zeroizing<String>> {
    let digits = digits(stored)?;
    Some(tagged(&[digits.as_bytes(), &salt]))
}

/// Whether a client's answer (without its closing zero byte) proves the stored hash. In constant time.
#[must_use]
pub fn verify(stored: &str, salt: [u8; 4], answer: &[u8]) -> bool {
    response(stored, salt).is_some_and(|expected| bool::from(expected.as_bytes().ct_eq(answer)))
}

/// Whether a text is a stored md5 hash. PostgreSQL takes lower-case digits only.
#[must_use]
pub fn is_stored_hash(text: &str) -> bool {
    digits(text).is_some()
}

fn digits(stored: &str) -> Option<&str> {
    let digits = stored.strip_prefix(PREFIX)?;
    let hexadecimal = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (digits.len() == HEX_LEN && hexadecimal).then_some(digits)
}

fn tagged(parts: &[&[u8]]) -> Zeroizing<String> {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + HEX_LEN));
    text.push_str(PREFIX);
    for byte in hash.finalize() {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_stored_hash_is_postgresqls() {
        // select 'md5' || md5('secret' || 'anna')
        assert_eq!(*stored_hash(b"secret", "anna"), "md53671d1c06464e8ec9d68bf36dd1d5f7e");
    }

    #[test]
    fn the_response_is_the_hash_of_the_hash_and_the_salt() {
        let stored = stored_hash(b"secret", "anna");
        let answer = response(&stored, [1, 2, 3, 4]).unwrap();
        assert_eq!(*answer, "md57a40e687695f2126a3421c7f4bc9861e");
        assert!(verify(&stored, [1, 2, 3, 4], answer.as_bytes()));
        assert!(!verify(&stored, [1, 2, 3, 5], answer.as_bytes()));
        assert!(!verify(&stored, [1, 2, 3, 4], &answer.as_bytes()[..34]));
        assert!(!verify(&stored, [1, 2, 3, 4], b""));
    }

    #[test]
    fn only_md5_and_32_lower_case_digits_are_a_hash() {
        assert!(is_stored_hash("md5900150983cd24fb0d6963f7d28e17f72"));
        for other in [
            "",
            "md5",
            "md5900150983cd24fb0d6963f7d28e17f7",
            "md5900150983cd24fb0d6963f7d28e17f722",
            "MD5900150983cd24fb0d6963f7d28e17f72",
            "md5900150983CD24FB0D6963F7D28E17F72",
            "md5900150983cd24fb0d6963f7d28e17fxx",
        ] {
            assert!(!is_stored_hash(other), "{other}");
            assert!(response(other, [0; 4]).is_none(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(stored in ".*", answer in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!verify(&stored, [0; 4], &answer));
        }
    }
}
