//! The server's side of an exchange: we prove a client. Pure.

use subtle::Choice;

use super::*;

/// GS2 header of a client's first message, `gs2-cbind-flag "," [authzid] ","`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BindingFlag {
    /// `n`: the client cannot bind.
    Cannot,
    /// `y`: it could, but believes that we cannot.
    ThinksWeCannot,
    /// `p=tls-server-end-point`: it does.
    Bound,
}

impl BindingFlag {
    fn gs2_header(self) -> &'static [u8] {
        match self {
            Self::Cannot => b"n,,",
            Self::ThinksWeCannot => b"y,,",
            Self::Bound => b"p=tls-server-end-point,,",
        }
    }
}

/// Waits for the client's first message.
pub struct ScramServer {
    salt: Vec<u8>,
    iterations: u32,
    verifiers: Vec<Verifier>,
    known: bool,
    end_point: Option<Vec<u8>>,
    server_nonce: [u8; NONCE_LEN],
}

/// Waits for the client's last message.
pub struct ScramFinal {
    verifiers: Vec<Verifier>,
    known: bool,
    flag: BindingFlag,
    end_point: Option<Vec<u8>>,
    nonce: Vec<u8>,
    client_first_bare: Vec<u8>,
    server_first: Vec<u8>,
}

/// A client that has proven itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The server's last message, for AuthenticationSASLFinal.
    pub server_final: Vec<u8>,
    /// What logs in as this user to any server that holds the same verifier.
    pub keys: ScramKeys,
    /// Which of the verifiers given to [`ScramServer::new`] was proven.
    pub verifier: usize,
}

impl ScramServer {
    /// For a known user. Any of the verifiers will do; as the client is told one salt, those that do not share
    /// salt and iterations with the first can never be proven.
    ///
    /// `end_point` is the hash of our certificate when the client came by TLS: then PLUS was offered.
    #[must_use]
    pub fn new(
        first: Verifier,
        others: Vec<Verifier>,
        end_point: Option<Vec<u8>>,
        server_nonce: [u8; NONCE_LEN],
    ) -> Self {
        let (salt, iterations) = (first.salt.clone(), first.iterations);
        let verifiers = std::iter::once(first).chain(others).collect();
        Self { salt, iterations, verifiers, known: true, end_point, server_nonce }
    }

    /// For a user who cannot log in: the same exchange with [`Verifier::mock`], which fails at its end.
    #[must_use]
    pub fn mock(verifier: Verifier, end_point: Option<Vec<u8>>, server_nonce: [u8; NONCE_LEN]) -> Self {
        Self { known: false, ..Self::new(verifier, Vec::new(), end_point, server_nonce) }
    }

    /// Reads the client's first message and answers it.
    pub fn challenge(
        self,
        mechanism: Mechanism,
        client_first: &[u8],
    ) -> Result<(Vec<u8>, ScramFinal), ScramError> {
        if client_first.len() > MAX_MESSAGE {
            return Err(ScramError::TooLong);
        }
        if mechanism == Mechanism::ScramPlus && self.end_point.is_none() {
            return Err(ScramError::Mechanism);
        }
        let (flag, bare) = read_gs2_header(client_first)?;
        match (flag, mechanism) {
            (BindingFlag::Bound, Mechanism::ScramPlus) | (BindingFlag::Cannot, Mechanism::Scram) => {}
            (BindingFlag::ThinksWeCannot, Mechanism::Scram) if self.end_point.is_none() => {}
            (BindingFlag::ThinksWeCannot, Mechanism::Scram) => return Err(ScramError::Downgrade),
            _ => return Err(ScramError::BindingFlag),
        }
        let client_nonce = read_client_first_bare(bare)?;
        let mut nonce = client_nonce.to_vec();
        nonce.extend_from_slice(BASE64.encode(self.server_nonce).as_bytes());
        let mut server_first = b"r=".to_vec();
        server_first.extend_from_slice(&nonce);
        let tail = format!(",s={},i={}", BASE64.encode(&self.salt), self.iterations);
        server_first.extend_from_slice(tail.as_bytes());
        let next = ScramFinal {
            verifiers: self.verifiers,
            known: self.known,
            flag,
            end_point: self.end_point,
            nonce,
            client_first_bare: bare.to_vec(),
            server_first: server_first.clone(),
        };
        Ok((server_first, next))
    }
}

fn read_gs2_header(message: &[u8]) -> Result<(BindingFlag, &[u8]), ScramError> {
    let malformed = ScramError::Malformed("GS2 header");
    let comma = memchr::memchr(b',', message).ok_or(malformed)?;
    let (flag, rest) = message.split_at_checked(comma).ok_or(malformed)?;
    let flag = match flag {
        b"n" => BindingFlag::Cannot,
        b"y" => BindingFlag::ThinksWeCannot,
        b"p=tls-server-end-point" => BindingFlag::Bound,
        [b'p', b'=', ..] => return Err(ScramError::BindingType),
        _ => return Err(malformed),
    };
    match rest {
        [b',', b',', bare @ ..] => Ok((flag, bare)),
        [b',', b'a', ..] => Err(ScramError::AuthorizationIdentity),
        _ => Err(malformed),
    }
}

/// The name in it means nothing: the user is that of the startup packet. Extensions are ignored.
fn read_client_first_bare(bare: &[u8]) -> Result<&[u8], ScramError> {
    if bare.starts_with(b"m=") {
        return Err(ScramError::Extension);
    }
    let (_user, rest) = attribute(b'n', bare, "no user name")?;
    let (nonce, _) = attribute(b'r', rest.unwrap_or_default(), "no client nonce")?;
    check_nonce(nonce)?;
    Ok(nonce)
}

impl ScramFinal {
    /// The same exchange as if `server_first` had been sent: recorded exchanges can be checked so.
    #[cfg(test)]
    pub(super) fn replayed(self, server_first: &str) -> Self {
        let nonce = server_first.split([',']).next().and_then(|r| r.strip_prefix("r="));
        let nonce = nonce.unwrap_or_default().as_bytes().to_vec();
        Self { nonce, server_first: server_first.as_bytes().to_vec(), ..self }
    }

    /// The same exchange with another verifier.
    #[cfg(test)]
    pub(super) fn with_verifier(self, verifier: Verifier) -> Self {
        Self { verifiers: vec![verifier], ..self }
    }

    /// Checks the client's last message.
    ///
    /// The proof is held against every verifier in constant time, whether or not one has fitted already.
    pub fn verify(self, client_final: &[u8]) -> Result<Proof, ScramError> {
        if client_final.len() > MAX_MESSAGE {
            return Err(ScramError::TooLong);
        }
        let no_proof = ScramError::Malformed("no proof");
        // The proof comes last, and base64 has no comma.
        let split = memchr::memrchr(b',', client_final).ok_or(no_proof)?;
        let (without_proof, tail) = client_final.split_at_checked(split).ok_or(no_proof)?;
        let (proof, _) = attribute(b'p', tail.get(1..).unwrap_or_default(), "no proof")?;
        let (binding, rest) = attribute(b'c', without_proof, "no channel binding")?;
        let (nonce, _extensions) = attribute(b'r', rest.unwrap_or_default(), "no nonce")?;

        let data = match (self.flag, &self.end_point) {
            (BindingFlag::Bound, Some(data)) => data.as_slice(),
            _ => &[],
        };
        let expected = channel_binding(self.flag.gs2_header(), data);
        if !bool::from(expected.as_bytes().ct_eq(binding)) {
            return Err(ScramError::BindingMismatch);
        }
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }
        let proof = Zeroizing::new(decode_key(proof, "proof")?);

        let comma: &[u8] = b",";
        let message = [&self.client_first_bare, comma, &self.server_first, comma, without_proof].concat();
        let mut found: Option<(usize, ScramKeys)> = None;
        for (index, verifier) in self.verifiers.iter().enumerate() {
            let signature = hmac(&verifier.stored_key, &[&message]);
            let client_key = xor(&proof, &signature);
            let stored: [u8; KEY_LEN] = Sha256::digest(client_key).into();
            let fits: Choice = stored.ct_eq(&verifier.stored_key);
            if bool::from(fits) && found.is_none() {
                found = Some((index, ScramKeys { client_key, server_key: verifier.server_key }));
            }
        }
        match found {
            Some((verifier, keys)) if self.known => {
                let signature = BASE64.encode(hmac(&keys.server_key, &[&message]));
                Ok(Proof { server_final: format!("v={signature}").into_bytes(), keys, verifier })
            }
            _ => Err(ScramError::WrongProof),
        }
    }
}
