//! The exchange in which we prove to a server who we are.
//! Pure. The caller brings the body of each `R` message and sends what [`ServerLogin::on_authentication`] answers.
//!
//! A server must prove itself too when SCRAM is spoken: AuthenticationOk before its signature is refused. Channel
//! binding is used whenever the server offers it and the certificate has a hash.

use hawser_wire::md5;
use hawser_wire::scram::{
    ClientBinding, Mechanism, NONCE_LEN, ScramClient, ScramError, ScramKeys, ServerSignature,
};
use thiserror::Error;
use zeroize::Zeroizing;

use super::client_login::Proven;
use super::key_cache::KeyCache;
use super::messages;
use crate::config::settings::Secret;

/// What we can prove ourselves with. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// The password.
    Password(Zeroizing<String>),
    /// ClientKey and ServerKey: they fit one verifier.
    ScramKeys(ScramKeys),
    /// The md5 hash as stored.
    Md5Hash(Zeroizing<String>),
    /// Nothing; a server that trusts us, or takes our certificate, asks for nothing.
    None,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({self})")
    }
}

/// Which kind it is; never the secret.
impl std::fmt::Display for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "a password",
            Self::ScramKeys(_) => "SCRAM keys",
            Self::Md5Hash(_) => "an md5 hash",
            Self::None => "no secret",
        })
    }
}

impl From<Proven> for Credential {
    fn from(proven: Proven) -> Self {
        match proven {
            Proven::Password(password) => Self::Password(password),
            Proven::ScramKeys(keys) => Self::ScramKeys(keys),
            Proven::Md5Hash(hash) => Self::Md5Hash(hash),
            Proven::Nothing => Self::None,
        }
    }
}

/// A verifier alone logs in nowhere: the keys come from the proof of a client.
impl From<&Secret> for Credential {
    fn from(secret: &Secret) -> Self {
        match secret {
            Secret::Password(password) => Self::Password(password.clone()),
            Secret::Md5(hash) => Self::Md5Hash(Zeroizing::new(hash.clone())),
            Secret::Scram(_) => Self::None,
        }
    }
}

/// What lies under a connection to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerTransport {
    /// TCP in the clear.
    Tcp,
    /// A Unix socket.
    Unix,
    /// TLS.
    Tls {
        /// Hash of the server's certificate ([`super::channel_binding`]), if it has one.
        end_point: Option<Vec<u8>>,
    },
}

/// Why we do not get in. (What the server itself says comes as its ErrorResponse.)
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServerLoginError {
    /// The server asks for something that our secret cannot answer.
    #[error("server asks for {asked} from user \"{user}\", but there is only {have}")]
    CannotAnswer {
        /// Our user.
        user: String,
        /// What it asks for.
        asked: &'static str,
        /// What we have, as [`Credential`] shows itself.
        have: String,
    },
    /// The server wants the password in the clear, and the line is in the clear.
    #[error("server asks for a password in the clear without TLS")]
    ClearText,
    /// A method that we do not know.
    #[error("server asks for an unsupported authentication method ({0})")]
    Method(&'static str),
    /// SASL without a mechanism that we know.
    #[error("server offers no SASL mechanism that is known here")]
    Mechanism,
    /// A message that does not fit its place.
    #[error("unexpected authentication message from server")]
    Unexpected,
    /// A message that is cut short.
    #[error("malformed authentication message from server")]
    Malformed,
    /// The server lets us in without having proven itself.
    #[error("server skipped its part of the SCRAM exchange")]
    Unproven,
    /// The exchange failed.
    #[error(transparent)]
    Scram(#[from] ScramError),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerStep {
    /// Send a `p` message with this body, and read on.
    Reply(Vec<u8>),
    /// Read on.
    Wait,
    /// We are in.
    Done,
}

/// Our side of a login to a server.
pub struct ServerLogin {
    user: String,
    credential: Credential,
    transport: ServerTransport,
    clear_text_without_tls: bool,
    nonce: [u8; NONCE_LEN],
    state: State,
}

enum State {
    /// Nothing was asked yet.
    Begun,
    /// A password or its hash was sent.
    Answered,
    ScramFirst(ScramClient),
    ScramLast(ServerSignature),
    /// The server has proven itself.
    ServerProven,
    /// We are in.
    Done,
    /// It went wrong.
    Failed,
}

impl ServerLogin {
    /// Begins. `clear_text_without_tls` lets the password go over TCP as it is; `nonce` is fresh random bytes.
    #[must_use]
    pub fn new(
        user: &str,
        credential: &Credential,
        transport: ServerTransport,
        clear_text_without_tls: bool,
        nonce: [u8; NONCE_LEN],
    ) -> Self {
        let user = user.to_owned();
        let credential = credential.clone();
        Self { user, credential, transport, clear_text_without_tls, nonce, state: State::Begun }
    }

    /// Whether the server has let us in.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The server's next `R` message, without tag and length.
    pub fn on_authentication(
        &mut self,
        body: &[u8],
        cache: &KeyCache,
    ) -> Result<ServerStep, ServerLoginError> {
        let (code, data) = body.split_first_chunk::<4>().ok_or(ServerLoginError::Malformed)?;
        let state = std::mem::replace(&mut self.state, State::Failed);
        match (u32::from_be_bytes(*code), state) {
            (messages::OK, State::Begun | State::Answered | State::ServerProven) => {
                self.state = State::Done;
                Ok(ServerStep::Done)
            }
            (messages::OK, State::ScramFirst(_) | State::ScramLast(_)) => Err(ServerLoginError::Unproven),
            (messages::CLEARTEXT_PASSWORD, State::Begun) => self.clear_text(),
            (messages::MD5_PASSWORD, State::Begun) => self.md5(data),
            (messages::SASL, State::Begun) => self.sasl(data),
            (messages::SASL_CONTINUE, State::ScramFirst(client)) => self.scram_answer(client, data, cache),
            (messages::SASL_FINAL, State::ScramLast(signature)) => {
                signature.verify(data)?;
                self.state = State::ServerProven;
                Ok(ServerStep::Wait)
            }
            (2, _) => Err(ServerLoginError::Method("Kerberos V5")),
            (6, _) => Err(ServerLoginError::Method("SCM credentials")),
            (7 | 8, _) => Err(ServerLoginError::Method("GSSAPI")),
            (9, _) => Err(ServerLoginError::Method("SSPI")),
            _ => Err(ServerLoginError::Unexpected),
        }
    }

    fn cannot_answer(&self, asked: &'static str) -> ServerLoginError {
        let have = self.credential.to_string();
        ServerLoginError::CannotAnswer { user: self.user.clone(), asked, have }
    }

    fn clear_text(&mut self) -> Result<ServerStep, ServerLoginError> {
        if self.transport == ServerTransport::Tcp && !self.clear_text_without_tls {
            return Err(ServerLoginError::ClearText);
        }
        let Credential::Password(password) = &self.credential else {
            return Err(self.cannot_answer("a password"));
        };
        let body = [password.as_bytes(), b"\0"].concat();
        self.state = State::Answered;
        Ok(ServerStep::Reply(body))
    }

    fn md5(&mut self, salt: &[u8]) -> Result<ServerStep, ServerLoginError> {
        let salt: [u8; 4] = salt.try_into().map_err(|_| ServerLoginError::Malformed)?;
        let stored = match &self.credential {
            Credential::Password(password) => md5::stored_hash(password.as_bytes(), &self.user),
            Credential::Md5Hash(hash) => hash.clone(),
            Credential::ScramKeys(_) | Credential::None => return Err(self.cannot_answer("an md5 password")),
        };
        let answer = md5::response(&stored, salt).ok_or_else(|| self.cannot_answer("an md5 password"))?;
        self.state = State::Answered;
        Ok(ServerStep::Reply([answer.as_bytes(), b"\0"].concat()))
    }

    fn sasl(&mut self, names: &[u8]) -> Result<ServerStep, ServerLoginError> {
        if !matches!(self.credential, Credential::Password(_) | Credential::ScramKeys(_)) {
            return Err(self.cannot_answer("SCRAM"));
        }
        let (mut plain, mut plus) = (false, false);
        for name in names.split(|byte| *byte == 0) {
            match Mechanism::from_name(name) {
                Some(Mechanism::Scram) => plain = true,
                Some(Mechanism::ScramPlus) => plus = true,
                None => {}
            }
        }
        let binding = match &self.transport {
            ServerTransport::Tls { end_point: Some(hash) } if plus => ClientBinding::EndPoint(hash.clone()),
            ServerTransport::Tls { end_point: Some(_) } => ClientBinding::NotOffered,
            _ => ClientBinding::Cannot,
        };
        if !plain && !matches!(binding, ClientBinding::EndPoint(_)) {
            return Err(ServerLoginError::Mechanism);
        }
        let client = ScramClient::new(binding, self.nonce);
        let first = client.first_message();
        let length = u32::try_from(first.len()).map_err(|_| ServerLoginError::Malformed)?.to_be_bytes();
        let name = client.mechanism().name().as_bytes();
        self.state = State::ScramFirst(client);
        Ok(ServerStep::Reply([name, b"\0", length.as_slice(), &first].concat()))
    }

    fn scram_answer(
        &mut self,
        client: ScramClient,
        server_first: &[u8],
        cache: &KeyCache,
    ) -> Result<ServerStep, ServerLoginError> {
        let challenge = client.challenge(server_first)?;
        let keys = match &self.credential {
            Credential::ScramKeys(keys) => keys.clone(),
            Credential::Password(password) => {
                cache.keys(password.as_bytes(), challenge.salt(), challenge.iterations())?
            }
            Credential::Md5Hash(_) | Credential::None => return Err(self.cannot_answer("SCRAM")),
        };
        let (last, signature) = challenge.answer(&keys);
        self.state = State::ScramLast(signature);
        Ok(ServerStep::Reply(last))
    }
}

#[cfg(test)]
#[path = "server_login_tests.rs"]
mod tests;
