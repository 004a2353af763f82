//! The hash of a certificate that SCRAM-SHA-256-PLUS is bound to: `tls-server-end-point` (RFC 5929, section 4.1).
//! Pure.

use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// The hash that the certificate's signature uses, with SHA-256 in place of MD5 and SHA-1, over the whole
/// certificate. `None` if it is no certificate or its signature uses no single hash (Ed25519): then there is no
/// such binding, and PLUS must not be offered.
#[must_use]
pub fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let hash = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // RSASSA-PSS names its hash in its parameters.
        "1.2.840.113549.1.1.10" => match SignatureAlgorithm::try_from(&parsed.signature_algorithm).ok()? {
            SignatureAlgorithm::RSASSA_PSS(parameters) => {
                Hash::of_digest(&parameters.hash_algorithm_oid().to_id_string())?
            }
            _ => return None,
        },
        other => Hash::of_signature(other)?,
    };
    Some(match hash {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of_signature(oid: &str) -> Option<Self> {
        match oid {
            // RSA with MD5, SHA-1, SHA-256; DSA with SHA-1, SHA-256; ECDSA with SHA-1, SHA-256.
            "1.2.840.113549.1.1.4"
            | "1.2.840.113549.1.1.5"
            | "1.2.840.113549.1.1.11"
            | "1.2.840.10040.4.3"
            | "2.16.840.1.101.3.4.3.2"
            | "1.2.840.10045.4.1"
            | "1.2.840.10045.4.3.2" => Some(Self::Sha256),
            "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.3.1" => Some(Self::Sha224),
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.3.3" => Some(Self::Sha384),
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.3.4" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn of_digest(oid: &str) -> Option<Self> {
        match oid {
            // MD5, SHA-1, SHA-256.
            "1.2.840.113549.2.5" | "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(Self::Sha256),
            "2.16.840.1.101.3.4.2.4" => Some(Self::Sha224),
            "2.16.840.1.101.3.4.2.2" => Some(Self::Sha384),
            "2.16.840.1.101.3.4.2.3" => Some(Self::Sha512),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    // Self-signed throw-away certificates, named by key and hash.
    const EC_SHA1: &str = concat!(
        "MIIBbjCCARSgAwIBAgIUWfI+EQGhkwV+HFtbSLuitgriQzkwCQYHKoZIzj0EATAMMQowCAYDVQQDDAF0MCAXDTI2MTEyMTA2",
        "MjU0OFoYDzIxMjYxMDI4MDYyNTQ4WjAMMQowCAYDVQQDDAF0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEg+zSLmsxDMnT",
        "SGe6Kg3dZHI0rSBJQTIatCmKafDbjllwc19/rCpJrjDJeH19LnBtbgNuASLWjVkfevK7HDGkLqNTMFEwHQYDVR0OBBYEFIg1",
        "oZHzHfP4DeoivFTYoBqgEpFSMB8GA1UdIwQYMBaAFIg1oZHzHfP4DeoivFTYoBqgEpFSMA8GA1UdEwEB/wQFMAMBAf8wCQYH",
        "KoZIzj0EAQNJADBGAiEAyStPL/o5j4v7jT5gbPkG2QV4YZLoZkTEkDyom8nV8eMCIQCNHgmNbcVVZUW/Bj3Mr0f61GC0JNFR",
        "dakJ0Enr4FXSbQ==",
    );
    const EC_SHA256: &str = concat!(
        "MIIBcDCCARWgAwIBAgIUH434I30We/WJoqx/CO2VmyBteyYwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBdDAgFw0yNjExMjEw",
        "NjI1NDhaGA8yMTI2MTAyODA2MjU0OFowDDEKMAgGA1UEAwwBdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBUlT6hz3zJz",
        "CMnwpHAB+EzUdhOnmpUjoMzNS1R34BbRK5v96aEDKX2v8LB5dbgsMFpnBG9BO39hDmJEhXzd8BajUzBRMB0GA1UdDgQWBBTA",
        "/sQTCn3qTXWr8qd/6L21CbILjjAfBgNVHSMEGDAWgBTA/sQTCn3qTXWr8qd/6L21CbILjjAPBgNVHRMBAf8EBTADAQH/MAoG",
        "CCqGSM49BAMCA0kAMEYCIQCW7IkYheK9lQiTKaHBcO4G+XEoo+b/Zn0JrAGs6KH0QgIhAPeYlDIbuoFjLSM3oL1NzmjdrX/i",
        "MXDDDEWEhcF9JoJh",
    );
    const EC_SHA384: &str = concat!(
        "MIIBbzCCARWgAwIBAgIUWKa1ln9609lvw/H8NAzAl6bZweUwCgYIKoZIzj0EAwMwDDEKMAgGA1UEAwwBdDAgFw0yNjExMjEw",
        "NjI1NDhaGA8yMTI2MTAyODA2MjU0OFowDDEKMAgGA1UEAwwBdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIGIBmv99dEd",
        "UUHss+1ZTMtFqeydXmaH/UbE3Bebub8I8rbY1M2NoIkASOLAo/NlmtMcKsDZE6rgb7XxVJuKzoCjUzBRMB0GA1UdDgQWBBTj",
        "P/UM7YWo6bs1j+Njbi7Ly4ZcTzAfBgNVHSMEGDAWgBTjP/UM7YWo6bs1j+Njbi7Ly4ZcTzAPBgNVHRMBAf8EBTADAQH/MAoG",
        "CCqGSM49BAMDA0gAMEUCIFPZYRS98DPeBSAEHyQTphWiNsELRO+QgGHzw4+1PK84AiEA8qgyaUBg2KXTIT6/SCQbX2z2KSXP",
        "y6l7uO4d1FAcJN8=",
    );
    const EC_SHA512: &str = concat!(
        "MIIBcDCCARWgAwIBAgIUJ/Z/mIFDhS605JWkFeLRsTUWtb8wCgYIKoZIzj0EAwQwDDEKMAgGA1UEAwwBdDAgFw0yNjExMjEw",
        "NjI1NDhaGA8yMTI2MTAyODA2MjU0OFowDDEKMAgGA1UEAwwBdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNqPfDOWtu/c",
        "KAfP2JAc2b8N2lCL8esLRTvt4W77SXrtfmHTSy3itRLegB6eXxcxrqrLRLGF9QA5QT6krNUINVajUzBRMB0GA1UdDgQWBBSJ",
        "PCQ9I2sdIWVptrEEBQhjwfoqsDAfBgNVHSMEGDAWgBSJPCQ9I2sdIWVptrEEBQhjwfoqsDAPBgNVHRMBAf8EBTADAQH/MAoG",
        "CCqGSM49BAMEA0kAMEYCIQD/4uVYuxU0eb0WN6vr2L1yxqkVOLzI1PPvwYDDw4p2xQIhAN6cpDiiLvOuYPHhu+RWFXFbZIfH",
        "c3SUw3A2FXBmL5eO",
    );
    const RSA_SHA256: &str = concat!(
        "MIIB9jCCAV+gAwIBAgIUEScw62MGjAEy1VeRvzoiQ+pjlgwwDQYJKoZIhvcNAQELBQAwDDEKMAgGA1UEAwwBdDAgFw0yNjEx",
        "MjEwNjI1NDhaGA8yMTI2MTAyODA2MjU0OFowDDEKMAgGA1UEAwwBdDCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkCgYEAyA15",
        "T1Py+k3GEdFodp5N+jvOcHrE4Ote+ZVktWwI8j33OiYM5ZgLQYwxIjrkcIwHSLXdRrTJXg/w03it2kz4v58JhFy1HAjmrllQ",
        "5yvDPNEuvGtCn7WfRZmE3CVCI+AdIDfyuiRvL4pk8EN5tQib4iGfjjqneCi95kulhOuZ4v8CAwEAAaNTMFEwHQYDVR0OBBYE",
        "FLw/5bsAGwvYm6GMTD8X/q8MkAYpMB8GA1UdIwQYMBaAFLw/5bsAGwvYm6GMTD8X/q8MkAYpMA8GA1UdEwEB/wQFMAMBAf8w",
        "DQYJKoZIhvcNAQELBQADgYEAWmRwzRZ2oIDM/9MKM9hKVFFERGkqZBANUv/JddN9H5jzTprL8IuJR90DFLTyPtLMNVfMOCN3",
        "QIsgEOMqIcrlv7d6moexTDhNvnzqwpez0E7TSV+Ah6rmOjjDNzHzxlYTolu6zl8EmqW2wxnmQacrOMVXwrDqc7EWXNFJVk1o",
        "Nzg=",
    );
    const PSS_SHA384: &str = concat!(
        "MIICXjCCAZOgAwIBAgIUUHq8sLaIlK3ox4GVZd/0Syb9GzIwQQYJKoZIhvcNAQEKMDSgDzANBglghkgBZQMEAgIFAKEcMBoG",
        "CSqGSIb3DQEBCDANBglghkgBZQMEAgIFAKIDAgEwMAwxCjAIBgNVBAMMAXQwIBcNMjYxMTIxMDYyNTQ4WhgPMjEyNjEwMjgw",
        "NjI1NDhaMAwxCjAIBgNVBAMMAXQwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJAoGBALxcT3D8KPj8z2FzcZzy69FZRby7paOy",
        "qEbhQEjL4NC939vXvt9LoibSK8eU/WEVLQ6SdnYxBghI5jnA3Pg9qJ5n/MFDvX5bJYnPUurykHPXsw0ULmX4fnh6a8NHMlrI",
        "EXI1fRfQJiwQsBixbQ+0NVa8xE83HsXXSwuBj7qSfwyfAgMBAAGjUzBRMB0GA1UdDgQWBBTToj0xR00OHMtpI5oRy0mLdLro",
        "lTAfBgNVHSMEGDAWgBTToj0xR00OHMtpI5oRy0mLdLrolTAPBgNVHRMBAf8EBTADAQH/MEEGCSqGSIb3DQEBCjA0oA8wDQYJ",
        "YIZIAWUDBAICBQChHDAaBgkqhkiG9w0BAQgwDQYJYIZIAWUDBAICBQCiAwIBMAOBgQBanqCHafZwdd6iHAWWdC43alljuJY6",
        "MCdqodBW94byvNLSp8IlLrF1DABQmtQGAy43ihbne+POZYu/srBxv6W1u7AnfhmAolVZKtW8dM45kv0kAuCP74ta9jHJZz1J",
        "PJQ7okFLTn2rkx2H3Qs5x7nfv1uVuUrg85ocjVvnheAitA==",
    );
    const ED25519: &str = concat!(
        "MIIBLjCB4aADAgECAhQjK9zuPTiDNtEcv3uXA0knfOKCoDAFBgMrZXAwDDEKMAgGA1UEAwwBdDAgFw0yNjExMjEwNjI1NDha",
        "GA8yMTI2MTAyODA2MjU0OFowDDEKMAgGA1UEAwwBdDAqMAUGAytlcAMhAISh1Wl/m+zVCo0tlreJvzUT1xiQ/Y6doyJu+G+D",
        "u/78o1MwUTAdBgNVHQ4EFgQUj4fW2IrqR2LHpDJ00j5r4ckkIYkwHwYDVR0jBBgwFoAUj4fW2IrqR2LHpDJ00j5r4ckkIYkw",
        "DwYDVR0TAQH/BAUwAwEB/zAFBgMrZXADQQBg5e9F7jQ95Q9oBvRW1+uIR6jqMVz5tBiGI+PISKXsNItQXbHTf8DzYyyoDIWA",
        "THhV4QJYquZGN0EWAN/M9rID",
    );

    type HashOf = fn(&[u8]) -> Vec<u8>;

    fn der(text: &str) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    }

    #[test]
    fn the_hash_is_that_of_the_signature_and_at_least_sha_256() {
        let sha256 = |der: &[u8]| Sha256::digest(der).to_vec();
        let sha384 = |der: &[u8]| Sha384::digest(der).to_vec();
        let sha512 = |der: &[u8]| Sha512::digest(der).to_vec();
        let table: [(&str, HashOf); 6] = [
            (EC_SHA1, sha256),
            (EC_SHA256, sha256),
            (EC_SHA384, sha384),
            (EC_SHA512, sha512),
            (RSA_SHA256, sha256),
            (PSS_SHA384, sha384),
        ];
        for (text, expected) in table {
            let der = der(text);
            assert_eq!(tls_server_end_point(&der), Some(expected(&der)), "{text}");
        }
    }

    #[test]
    fn a_signature_without_a_hash_gives_no_binding() {
        assert_eq!(tls_server_end_point(&der(ED25519)), None);
        assert_eq!(tls_server_end_point(b""), None);
        let mut longer = der(EC_SHA256);
        longer.push(0);
        assert_eq!(tls_server_end_point(&longer), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index, to: u8) {
            let _ = tls_server_end_point(&bytes);
            let mut changed = der(PSS_SHA384);
            let at = at.index(changed.len());
            changed[at] = to;
            let _ = tls_server_end_point(&changed);
        }
    }
}
