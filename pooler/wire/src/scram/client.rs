//! The client's side of an exchange: we log in to a server, and the server proves itself to us. Pure.

use super::*;

/// How the exchange is tied to the TLS connection under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientBinding {
    /// We cannot bind (no TLS, or a certificate without a usable hash).
    Cannot,
    /// We could, but the server does not offer it.
    NotOffered,
    /// Bound to the server's certificate, given by its hash.
    EndPoint(Vec<u8>),
}

impl ClientBinding {
    fn gs2_header(&self) -> &'static [u8] {
        match self {
            Self::Cannot => b"n,,",
            Self::NotOffered => b"y,,",
            Self::EndPoint(_) => b"p=tls-server-end-point,,",
        }
    }
}

/// Waits for the server's first message.
pub struct ScramClient {
    binding: ClientBinding,
    nonce: String,
}

/// The server's first message, read: what the keys have to be derived with.
pub struct Challenge {
    binding: ClientBinding,
    client_first_bare: String,
    server_first: Vec<u8>,
    nonce: Vec<u8>,
    salt: Vec<u8>,
    iterations: u32,
}

/// Waits for the server's last message, which proves the server.
pub struct ServerSignature {
    expected: Zeroizing<[u8; KEY_LEN]>,
}

impl ScramClient {
    /// Begins an exchange.
    #[must_use]
    pub fn new(binding: ClientBinding, nonce: [u8; NONCE_LEN]) -> Self {
        Self { binding, nonce: BASE64.encode(nonce) }
    }

    /// The mechanism to name in SASLInitialResponse.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        match self.binding {
            ClientBinding::EndPoint(_) => Mechanism::ScramPlus,
            ClientBinding::Cannot | ClientBinding::NotOffered => Mechanism::Scram,
        }
    }

    /// Our first message. The name in it is empty, as libpq's is: the server takes the startup packet's.
    #[must_use]
    pub fn first_message(&self) -> Vec<u8> {
        [self.binding.gs2_header(), self.bare().as_bytes()].concat()
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Reads the server's first message.
    pub fn challenge(self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        if server_first.len() > MAX_MESSAGE {
            return Err(ScramError::TooLong);
        }
        if server_first.starts_with(b"m=") {
            return Err(ScramError::Extension);
        }
        let (nonce, rest) = attribute(b'r', server_first, "no server nonce")?;
        let (salt, rest) = attribute(b's', rest.unwrap_or_default(), "no salt")?;
        let (iterations, _extensions) = attribute(b'i', rest.unwrap_or_default(), "no iteration count")?;
        check_nonce(nonce)?;
        match nonce.strip_prefix(self.nonce.as_bytes()) {
            Some(theirs) if !theirs.is_empty() => {}
            _ => return Err(ScramError::Nonce),
        }
        let salt = BASE64.decode(salt).map_err(|_| ScramError::Malformed("salt"))?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(ScramError::Malformed("salt"));
        }
        let iterations = decimal(iterations).ok_or(ScramError::Malformed("iteration count"))?;
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        Ok(Challenge {
            client_first_bare: self.bare(),
            binding: self.binding,
            server_first: server_first.to_vec(),
            nonce: nonce.to_vec(),
            salt,
            iterations,
        })
    }
}

impl Challenge {
    /// Salt that a password has to be hashed with.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Rounds that a password has to be hashed with.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Our last message, from keys that fit salt and iterations.
    #[must_use]
    pub fn answer(self, keys: &ScramKeys) -> (Vec<u8>, ServerSignature) {
        let data: &[u8] = match &self.binding {
            ClientBinding::EndPoint(hash) => hash,
            ClientBinding::Cannot | ClientBinding::NotOffered => &[],
        };
        let binding = channel_binding(self.binding.gs2_header(), data);
        let without_proof = [b"c=", binding.as_bytes(), b",r=", &self.nonce].concat();
        let comma: &[u8] = b",";
        let message =
            [self.client_first_bare.as_bytes(), comma, &self.server_first, comma, &without_proof].concat();
        let stored_key: [u8; KEY_LEN] = Sha256::digest(keys.client_key).into();
        let proof = xor(&keys.client_key, &hmac(&stored_key, &[&message]));
        let last = [&without_proof, b",p=".as_slice(), BASE64.encode(proof).as_bytes()].concat();
        (last, ServerSignature { expected: Zeroizing::new(hmac(&keys.server_key, &[&message])) })
    }
}

impl ServerSignature {
    /// Checks the server's last message.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ScramError> {
        if server_final.len() > MAX_MESSAGE {
            return Err(ScramError::TooLong);
        }
        if server_final.starts_with(b"e=") {
            return Err(ScramError::ServerError);
        }
        let (signature, _) = attribute(b'v', server_final, "no server signature")?;
        let signature = decode_key(signature, "server signature")?;
        if bool::from(signature.ct_eq(&*self.expected)) { Ok(()) } else { Err(ScramError::ServerSignature) }
    }
}
