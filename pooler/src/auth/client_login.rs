//! The exchange in which a client proves who it is, once the rule and the secrets are known.
//! Pure. The caller sends the bytes of each [`Step`] and brings back the body of each `p` message.
//!
//! A user who does not exist, or has no secret that the rule can use, goes through the same exchange with a secret
//! that nothing fits, and fails at its end with the same words. Only [`LoginError::cause`], for the log, tells them apart.
//!
//! Several secrets of a user all hold. SCRAM can tell a client only one salt: that of the user's first verifier.
//! Passwords are hashed with that salt, so all of them hold beside it; a second verifier holds only if it has
//! the same salt and iterations.

use hawser_wire::md5;
use hawser_wire::scram::{
    DEFAULT_ITERATIONS, Mechanism, NONCE_LEN, ScramError, ScramFinal, ScramKeys, ScramServer, Verifier,
    mock_salt, parse_initial_response,
};
use hawser_wire::sqlstate;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use thiserror::Error;
use zeroize::Zeroizing;

use super::hba::{ClientCertificate, Method, Rule};
use super::key_cache::KeyCache;
use super::messages::{self, Request as Ask};
use super::name_map::{self, Mapping};
use crate::config::settings::Secret;

/// Longest `p` message that is worth reading before a client is logged in.
pub const MAX_LOGIN_MESSAGE: usize = 8 * 1024;

/// All that a login depends on.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The user that the client wants to be.
    pub user: &'a str,
    /// The rule that fitted.
    pub rule: &'a Rule,
    /// The map that the rule names; `None` when it names none.
    pub map: Option<&'a [Mapping]>,
    /// The user's secrets; empty when there is no such user, or it may not log in.
    pub secrets: &'a [Secret],
    /// What lies under the connection.
    pub transport: Transport<'a>,
    /// Allow `password` in the clear over TCP without TLS.
    pub password_without_tls: bool,
    /// How users without a secret are asked.
    pub mock: Mock<'a>,
    /// Fresh random bytes.
    pub nonce: [u8; NONCE_LEN],
    /// Fresh random bytes.
    pub md5_salt: [u8; 4],
}

/// What lies under a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport<'a> {
    /// TCP in the clear.
    Tcp,
    /// A Unix socket.
    Unix {
        /// Name of the user that the process at the other end runs as.
        peer_user: Option<&'a str>,
    },
    /// TLS.
    Tls {
        /// Hash of our certificate ([`super::channel_binding`]), if it has one: then PLUS is offered.
        end_point: Option<&'a [u8]>,
        /// What the client showed.
        certificate: Certificate<'a>,
    },
}

/// A client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate<'a> {
    /// None was shown.
    None,
    /// One that a known authority signed.
    Verified {
        /// The common name of its subject.
        common_name: Option<&'a str>,
    },
}

/// How users without a secret are asked.
#[derive(Clone, Copy)]
pub struct Mock<'a> {
    /// Drawn once for the process (better: kept beyond it), so that a name always gets the same salt.
    pub secret: &'a [u8],
    /// What an `md5` rule asks of unknown users: what most of the known ones are asked.
    pub md5_rule_asks: Md5RuleAsks,
}

/// What an `md5` rule asks of a user who has no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Md5RuleAsks {
    /// SCRAM, as of users with a verifier.
    #[default]
    Scram,
    /// md5, as of users with a password or an md5 hash.
    Md5,
}

/// What a client has proven, and with it what can log in to a server as the same user. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum Proven {
    /// The password.
    Password(Zeroizing<String>),
    /// ClientKey and ServerKey of its verifier.
    ScramKeys(ScramKeys),
    /// The md5 hash as stored.
    Md5Hash(Zeroizing<String>),
    /// Nothing of use at a server: trust, a certificate, peer.
    Nothing,
}

impl std::fmt::Debug for Proven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(hidden)",
            Self::ScramKeys(_) => "ScramKeys(hidden)",
            Self::Md5Hash(_) => "Md5Hash(hidden)",
            Self::Nothing => "Nothing",
        })
    }
}

/// Why a client is not let in. `Display` is fit for the client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// Wrong secret, no such user, no usable secret: one sentence for all.
    #[error("password authentication failed for user \"{user}\"")]
    Failed {
        /// As the client said.
        user: String,
        /// For the log only.
        cause: Cause,
    },
    /// The rule is `reject`.
    #[error("connection is rejected by the authentication rules")]
    Rejected,
    /// The password is empty.
    #[error("empty password returned by client")]
    EmptyPassword,
    /// A password in the clear would go over TCP without TLS.
    #[error("password authentication needs TLS here")]
    NeedsTls,
    /// Channel binding is asked for, and there is no TLS or no certificate that it could use.
    #[error("SCRAM-SHA-256-PLUS needs TLS with a certificate that has a hash")]
    NeedsChannelBinding,
    /// The rule asks for a certificate.
    #[error("connection requires a valid client certificate")]
    NoCertificate,
    /// The certificate does not name the user.
    #[error("certificate authentication failed for user \"{0}\"")]
    CertificateName(String),
    /// The process at the other end does not run as the user.
    #[error("Peer authentication failed for user \"{0}\"")]
    PeerName(String),
    /// A message that is not what the exchange expects.
    #[error("invalid password packet")]
    Malformed,
    /// A message that SCRAM does not allow.
    #[error(transparent)]
    Scram(ScramError),
}

/// Why the secret was refused, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Cause {
    /// The user has a secret, and this is not it.
    #[error("the secret does not match")]
    Mismatch,
    /// There is no such user, or no secret that the method can use.
    #[error("no such user, or no secret that the method can use")]
    NoSecret,
}

impl LoginError {
    /// For the log: what the client is not told.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Failed { cause, .. } => Some(*cause),
            _ => None,
        }
    }

    /// The SQLSTATE for the client.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Failed { .. } | Self::EmptyPassword => sqlstate::INVALID_PASSWORD,
            Self::Malformed | Self::Scram(_) => sqlstate::PROTOCOL_VIOLATION,
            Self::Rejected
            | Self::NeedsTls
            | Self::NeedsChannelBinding
            | Self::NoCertificate
            | Self::CertificateName(_)
            | Self::PeerName(_) => sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
        }
    }

    /// Whether a fresh look at the secret could change the answer.
    #[must_use]
    pub fn may_be_stale_secret(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// What to do next.
pub enum Step {
    /// Send the bytes and bring the body of the next `p` message to `login`.
    Ask {
        /// Waits for that message.
        login: ClientLogin,
        /// Whole messages.
        bytes: Vec<u8>,
    },
    /// The client is in.
    Done {
        /// Whole messages; the last is AuthenticationOk.
        bytes: Vec<u8>,
        /// What it has proven.
        proven: Proven,
    },
    /// The client is not let in.
    Refused(LoginError),
}

/// Waits for a client's answer.
pub struct ClientLogin {
    user: String,
    state: State,
}

enum State {
    Scram { server: ScramServer, offer: Offer, candidates: Candidates },
    ScramFinal { next: ScramFinal, candidates: Candidates },
    Md5 { salt: [u8; 4], hashes: Vec<(Zeroizing<String>, Proven)>, mock: Zeroizing<String> },
    Password { secrets: Vec<Secret>, mock: Verifier },
}

/// Mechanisms that were offered.
#[derive(Clone, Copy)]
struct Offer {
    plus: bool,
    plain: bool,
}

/// The secrets behind the verifiers of an exchange, in their order: the password, where it is known.
type Candidates = Vec<Option<Zeroizing<String>>>;

impl ClientLogin {
    /// Begins. Trust, certificates, peer and refusals end here already.
    ///
    /// `cache` spares PBKDF2 for users whose secret is a password; keep it from login to login.
    #[must_use]
    pub fn start(request: &Request<'_>, cache: &KeyCache) -> Step {
        let begun = check_certificate(request).and_then(|()| begin(request, cache));
        begun.unwrap_or_else(Step::Refused)
    }

    /// The client's next `p` message, without tag and length.
    #[must_use]
    pub fn on_message(self, body: &[u8]) -> Step {
        let Self { user, state } = self;
        if body.len() > MAX_LOGIN_MESSAGE {
            return Step::Refused(LoginError::Malformed);
        }
        let answered = match state {
            State::Scram { server, offer, candidates } => scram_first(&user, server, offer, candidates, body),
            State::ScramFinal { next, candidates } => scram_final(&user, next, candidates, body),
            State::Md5 { salt, hashes, mock } => md5_answer(&user, salt, hashes, &mock, body),
            State::Password { secrets, mock } => password_answer(&user, secrets, &mock, body),
        };
        answered.unwrap_or_else(Step::Refused)
    }
}

fn check_certificate(request: &Request<'_>) -> Result<(), LoginError> {
    let names_user = match (request.rule.client_certificate, request.rule.method) {
        (ClientCertificate::VerifyFull, _) | (_, Method::Cert) => true,
        (ClientCertificate::VerifyCa, _) => false,
        (ClientCertificate::NotAsked, _) => return Ok(()),
    };
    let Transport::Tls { certificate: Certificate::Verified { common_name }, .. } = request.transport else {
        return Err(LoginError::NoCertificate);
    };
    let permitted = common_name.is_some_and(|name| name_map::permits(request.map, name, request.user));
    if names_user && !permitted {
        return Err(LoginError::CertificateName(request.user.to_owned()));
    }
    Ok(())
}

fn begin(request: &Request<'_>, cache: &KeyCache) -> Result<Step, LoginError> {
    match request.rule.method {
        Method::Trust | Method::Cert => Ok(done(Vec::new(), Proven::Nothing)),
        Method::Reject => Err(LoginError::Rejected),
        Method::Peer => match request.transport {
            Transport::Unix { peer_user: Some(peer) }
                if name_map::permits(request.map, peer, request.user) =>
            {
                Ok(done(Vec::new(), Proven::Nothing))
            }
            _ => Err(LoginError::PeerName(request.user.to_owned())),
        },
        Method::ScramSha256 => scram(request, true, cache),
        Method::ScramSha256Plus => scram(request, false, cache),
        Method::Md5 => {
            let usable = |secret: &Secret| !matches!(secret, Secret::Scram(_)) && !is_empty(secret);
            let verifier = request.secrets.iter().any(|secret| matches!(secret, Secret::Scram(_)));
            let known = request.secrets.iter().any(usable);
            match request.mock.md5_rule_asks {
                _ if verifier => scram(request, true, cache),
                Md5RuleAsks::Scram if !known => scram(request, true, cache),
                Md5RuleAsks::Scram | Md5RuleAsks::Md5 => Ok(begin_md5(request)),
            }
        }
        Method::Password => {
            if request.transport == Transport::Tcp && !request.password_without_tls {
                return Err(LoginError::NeedsTls);
            }
            let secrets = request.secrets.iter().filter(|secret| !is_empty(secret)).cloned().collect();
            let mock = Verifier::mock(request.mock.secret, request.user, DEFAULT_ITERATIONS);
            Ok(ask(
                request.user,
                State::Password { secrets, mock },
                messages::request(Ask::CleartextPassword),
            ))
        }
    }
}

/// PostgreSQL takes an empty password for none.
fn is_empty(secret: &Secret) -> bool {
    matches!(secret, Secret::Password(password) if password.is_empty())
}

fn done(mut bytes: Vec<u8>, proven: Proven) -> Step {
    bytes.extend(messages::request(Ask::Ok));
    Step::Done { bytes, proven }
}

fn ask(user: &str, state: State, bytes: Vec<u8>) -> Step {
    Step::Ask { login: ClientLogin { user: user.to_owned(), state }, bytes }
}

fn failed(user: &str, cause: Cause) -> LoginError {
    LoginError::Failed { user: user.to_owned(), cause }
}

fn scram(request: &Request<'_>, plain: bool, cache: &KeyCache) -> Result<Step, LoginError> {
    let end_point = match request.transport {
        Transport::Tls { end_point, .. } => end_point.map(<[u8]>::to_vec),
        Transport::Tcp | Transport::Unix { .. } => None,
    };
    let offer = Offer { plus: end_point.is_some(), plain };
    if !offer.plus && !offer.plain {
        return Err(LoginError::NeedsChannelBinding);
    }
    let (verifiers, candidates): (Vec<Verifier>, Candidates) = candidates(request, cache).into_iter().unzip();
    let mut verifiers = verifiers.into_iter();
    let server = match verifiers.next() {
        Some(first) => ScramServer::new(first, verifiers.collect(), end_point, request.nonce),
        None => {
            let mock = Verifier::mock(request.mock.secret, request.user, DEFAULT_ITERATIONS);
            ScramServer::mock(mock, end_point, request.nonce)
        }
    };
    let bytes = messages::request(Ask::Sasl { plus: offer.plus, plain: offer.plain });
    Ok(ask(request.user, State::Scram { server, offer, candidates }, bytes))
}

/// The verifiers that a proof is held against, and the password behind each where it is known.
fn candidates(request: &Request<'_>, cache: &KeyCache) -> Vec<(Verifier, Option<Zeroizing<String>>)> {
    let first = request.secrets.iter().find_map(|secret| match secret {
        Secret::Scram(verifier) => Some(verifier),
        Secret::Password(_) | Secret::Md5(_) => None,
    });
    // Without a verifier the salt is that of the mock, so that users with and without a secret look alike.
    let (salt, iterations) = match first {
        Some(verifier) => (verifier.salt.clone(), verifier.iterations),
        None => (mock_salt(request.mock.secret, request.user), DEFAULT_ITERATIONS),
    };
    let candidate = |secret: &Secret| match secret {
        Secret::Password(password) if !password.is_empty() => {
            let keys = cache.keys(password.as_bytes(), &salt, iterations).ok()?;
            Some((keys.verifier(&salt, iterations), Some(password.clone())))
        }
        Secret::Scram(verifier) if verifier.salt == salt && verifier.iterations == iterations => {
            Some((verifier.clone(), None))
        }
        Secret::Password(_) | Secret::Scram(_) | Secret::Md5(_) => None,
    };
    request.secrets.iter().filter_map(candidate).collect()
}

fn scram_first(
    user: &str,
    server: ScramServer,
    offer: Offer,
    candidates: Candidates,
    body: &[u8],
) -> Result<Step, LoginError> {
    let (name, data) = parse_initial_response(body).map_err(LoginError::Scram)?;
    let mechanism = Mechanism::from_name(name)
        .filter(|mechanism| match mechanism {
            Mechanism::Scram => offer.plain,
            Mechanism::ScramPlus => offer.plus,
        })
        .ok_or(LoginError::Scram(ScramError::Mechanism))?;
    let (server_first, next) = server.challenge(mechanism, data).map_err(LoginError::Scram)?;
    let bytes = messages::authentication(messages::SASL_CONTINUE, &server_first);
    Ok(ask(user, State::ScramFinal { next, candidates }, bytes))
}

fn scram_final(
    user: &str,
    next: ScramFinal,
    candidates: Candidates,
    body: &[u8],
) -> Result<Step, LoginError> {
    match next.verify(body) {
        Ok(proof) => {
            let password = candidates.into_iter().nth(proof.verifier).flatten();
            let proven = password.map_or(Proven::ScramKeys(proof.keys), Proven::Password);
            Ok(done(messages::authentication(messages::SASL_FINAL, &proof.server_final), proven))
        }
        Err(ScramError::WrongProof) if candidates.is_empty() => Err(failed(user, Cause::NoSecret)),
        Err(ScramError::WrongProof) => Err(failed(user, Cause::Mismatch)),
        Err(other) => Err(LoginError::Scram(other)),
    }
}

fn begin_md5(request: &Request<'_>) -> Step {
    let hashes = request
        .secrets
        .iter()
        .filter_map(|secret| match secret {
            Secret::Password(password) if !password.is_empty() => {
                let hash = md5::stored_hash(password.as_bytes(), request.user);
                Some((hash, Proven::Password(password.clone())))
            }
            Secret::Md5(hash) => {
                let hash = Zeroizing::new(hash.clone());
                Some((hash.clone(), Proven::Md5Hash(hash)))
            }
            Secret::Password(_) | Secret::Scram(_) => None,
        })
        .collect();
    let mock = md5::stored_hash(request.mock.secret, request.user);
    let bytes = messages::request(Ask::Md5Password(request.md5_salt));
    ask(request.user, State::Md5 { salt: request.md5_salt, hashes, mock }, bytes)
}

/// A password message: one string that ends where the message does.
fn password_text(body: &[u8]) -> Result<&[u8], LoginError> {
    match body.split_last() {
        Some((0, text)) if text.contains(&0) => Err(LoginError::Malformed),
        Some((0, [])) => Err(LoginError::EmptyPassword),
        Some((0, text)) => Ok(text),
        _ => Err(LoginError::Malformed),
    }
}

fn md5_answer(
    user: &str,
    salt: [u8; 4],
    hashes: Vec<(Zeroizing<String>, Proven)>,
    mock: &str,
    body: &[u8],
) -> Result<Step, LoginError> {
    let answer = password_text(body)?;
    let cause = if hashes.is_empty() { Cause::NoSecret } else { Cause::Mismatch };
    // Costs what a known user's check costs; nothing is let in by it.
    let _ = md5::verify(mock, salt, answer);
    let mut found = None;
    for (hash, proven) in hashes {
        if md5::verify(&hash, salt, answer) && found.is_none() {
            found = Some(proven);
        }
    }
    found.map(|proven| done(Vec::new(), proven)).ok_or_else(|| failed(user, cause))
}

fn password_answer(
    user: &str,
    secrets: Vec<Secret>,
    mock: &Verifier,
    body: &[u8],
) -> Result<Step, LoginError> {
    let answer = password_text(body)?;
    let cause = if secrets.is_empty() { Cause::NoSecret } else { Cause::Mismatch };
    let mut fits = Choice::from(0);
    let mut slow = false;
    for secret in &secrets {
        fits |= match secret {
            // Hashes have one length, so that comparing them does not tell the password's.
            Secret::Password(password) => Sha256::digest(password.as_bytes()).ct_eq(&Sha256::digest(answer)),
            Secret::Md5(hash) => md5::stored_hash(answer, user).as_bytes().ct_eq(hash.as_bytes()),
            Secret::Scram(verifier) => {
                slow = true;
                Choice::from(u8::from(verifier.fits(answer)))
            }
        };
    }
    if bool::from(fits) {
        let text = std::str::from_utf8(answer).map_err(|_| LoginError::Malformed)?;
        return Ok(done(Vec::new(), Proven::Password(Zeroizing::new(text.to_owned()))));
    }
    // Every failure costs one PBKDF2, whatever secret the user has, or none.
    if !slow {
        let _ = mock.fits(answer);
    }
    Err(failed(user, cause))
}

#[cfg(test)]
#[path = "client_login_tests.rs"]
mod tests;
