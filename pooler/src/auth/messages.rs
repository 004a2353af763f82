//! The few bytes that a login writes.
//! Pure.

use hawser_wire::encode;
use hawser_wire::frame::HEADER_LENGTH;
use hawser_wire::scram::Mechanism;

/// What an Authentication message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Ok,
    CleartextPassword,
    Md5Password([u8; 4]),
    Sasl { plus: bool, plain: bool },
}

pub(super) const OK: u32 = 0;
pub(super) const CLEARTEXT_PASSWORD: u32 = 3;
pub(super) const MD5_PASSWORD: u32 = 5;
pub(super) const SASL: u32 = 10;
pub(super) const SASL_CONTINUE: u32 = 11;
pub(super) const SASL_FINAL: u32 = 12;

pub(super) fn request(request: Request) -> Vec<u8> {
    match request {
        Request::Ok => authentication(OK, &[]),
        Request::CleartextPassword => authentication(CLEARTEXT_PASSWORD, &[]),
        Request::Md5Password(salt) => authentication(MD5_PASSWORD, &salt),
        Request::Sasl { plus, plain } => {
            let mut names = Vec::new();
            for (offered, mechanism) in [(plus, Mechanism::ScramPlus), (plain, Mechanism::Scram)] {
                if offered {
                    names.extend_from_slice(mechanism.name().as_bytes());
                    names.push(0);
                }
            }
            names.push(0);
            authentication(SASL, &names)
        }
    }
}

/// A whole Authentication message.
pub(super) fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LENGTH + 4 + data.len());
    encode::authentication(&mut message, code, data);
    message
}
