//! Reads a secret as it is stored: a SCRAM verifier, an md5 hash or a password.
//! Pure.

use hawser_wire::md5;
use hawser_wire::scram::{Verifier, VerifierError};
use zeroize::Zeroizing;

use crate::config::settings::Secret;

/// Tells the kinds apart as PostgreSQL does by their beginnings.
///
/// A text that begins as a verifier and is none is an error: it is a copying mistake, not a password.
pub fn parse(text: &str) -> Result<Secret, VerifierError> {
    if Verifier::is_meant(text) {
        return text.parse().map(Secret::Scram);
    }
    if md5::is_stored_hash(text) {
        return Ok(Secret::Md5(text.to_owned()));
    }
    Ok(Secret::Password(Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_are_told_apart() {
        let verifier = Verifier::from_password(b"x", b"salt", 1).unwrap();
        assert_eq!(parse(&verifier.to_string()), Ok(Secret::Scram(verifier)));
        let hash = md5::stored_hash(b"x", "anna").to_string();
        assert_eq!(parse(&hash), Ok(Secret::Md5(hash)));
        for password in ["x", "md5", "md5sum", "", "SCRAM-SHA-1$x"] {
            assert_eq!(parse(password), Ok(Secret::Password(Zeroizing::new(password.to_owned()))));
        }
        assert_eq!(parse("SCRAM-SHA-256$4096:x"), Err(VerifierError));
    }
}
