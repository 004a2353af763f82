//! TLS for the scripted client.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How the scripted client does TLS.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// Authorities that it believes.
    pub ca: PathBuf,
    /// Its certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// What it says in ALPN.
    pub alpn: Option<&'static str>,
}

impl TlsOptions {
    /// TLS as the certificates of this cluster want it.
    pub fn of(cluster: &::hawser::scratch::Cluster) -> Self {
        Self { ca: cluster.certificates().ca(), client: None, alpn: None }
    }

    /// With the client certificate of this user.
    #[must_use]
    pub fn with_certificate_of(mut self, cluster: &::hawser::scratch::Cluster, user: &str) -> Self {
        let certificates = cluster.certificates();
        self.client = Some((certificates.client_cert(user), certificates.client_key(user)));
        self
    }

    /// With a word in ALPN.
    #[must_use]
    pub fn with_alpn(mut self, alpn: &'static str) -> Self {
        self.alpn = Some(alpn);
        self
    }
}

pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Speaks TLS on `tcp`; the handshake is done when this returns.
pub(super) fn begin(mut tcp: TcpStream, options: &TlsOptions) -> std::io::Result<TlsStream> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&options.ca) {
        roots.add(certificate).expect("a CA certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots);
    let mut config = match &options.client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).expect("a key");
            builder.with_client_auth_cert(certificates(cert), key).expect("a client certificate")
        }
    };
    config.alpn_protocols = options.alpn.iter().map(|word| word.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a TLS connection");
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(connection, tcp))
}

/// `tls-server-end-point` channel binding: SHA-256 of the server's certificate (its signature uses SHA-256).
pub(super) fn end_point(stream: &TlsStream) -> Vec<u8> {
    let certificate = stream.conn.peer_certificates().and_then(<[_]>::first).expect("a server certificate");
    // The hash comes from the provider that we have anyhow.
    let provider = rustls::crypto::ring::default_provider();
    let suite = provider
        .cipher_suites
        .iter()
        .find_map(|suite| suite.tls13().filter(|suite| suite.common.hash_provider.output_len() == 32))
        .expect("a suite with SHA-256");
    suite.common.hash_provider.hash(certificate.as_ref()).as_ref().to_vec()
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file)
        .expect("a PEM file")
        .map(|certificate| certificate.expect("a certificate"))
        .collect()
}
