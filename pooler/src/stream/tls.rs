//! TLS on both legs: certificates and authorities become rustls configurations, once, when the settings are read.
//!
//! The six modes mean what libpq's `sslmode` means. Source: PostgreSQL manual, "Secure TCP/IP Connections with
//! SSL" and "SSL Support" of libpq.

use super::{Socket, Stream};
use crate::config::settings::{ClientTls, ServerTls, TlsMode, TlsVersion};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a direct TLS connection must agree on.
pub const ALPN: &[u8] = b"postgresql";

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file has no certificate in it.
    #[error("{}: no certificate found", .0.display())]
    Empty(PathBuf),
    /// rustls does not accept certificate, key or authorities.
    #[error("TLS settings: {0}")]
    Rejected(String),
    /// A mode that needs a certificate was asked for without one.
    #[error("client TLS mode needs cert_file and key_file")]
    NoCertificate,
}

/// TLS towards clients, ready to use.
#[derive(Debug, Clone)]
pub struct Acceptor {
    /// What is asked of clients.
    pub mode: TlsMode,
    /// None when TLS is off.
    pub config: Option<Arc<ServerConfig>>,
    /// The `tls-server-end-point` of our certificate.
    pub end_point: Option<Arc<[u8]>>,
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// A file is missing or wrong.
    pub fn load(settings: &ClientTls) -> Result<Self, TlsError> {
        let (Some(cert), Some(key)) = (&settings.cert_file, &settings.key_file) else {
            return match settings.mode {
                TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer => {
                    Ok(Self { mode: TlsMode::Disable, config: None, end_point: None })
                }
                _ => Err(TlsError::NoCertificate),
            };
        };
        if settings.mode == TlsMode::Disable {
            return Ok(Self { mode: TlsMode::Disable, config: None, end_point: None });
        }
        let chain = certificates(cert)?;
        let end_point = chain.first().and_then(|own| crate::auth::channel_binding::tls_server_end_point(own));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(settings.min_version))
            .map_err(rejected)?;
        let builder = match &settings.ca_file {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(file)?), provider());
                let verifier = if settings.mode >= TlsMode::VerifyCa {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                builder.with_client_cert_verifier(verifier.build().map_err(rejected)?)
            }
        };
        let mut config = builder.with_single_cert(chain, private_key(key)?).map_err(rejected)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Self { mode: settings.mode, config: Some(Arc::new(config)), end_point: end_point.map(Into::into) })
    }

    /// The server's side of the handshake. `early` is what was read of the client's hello already.
    ///
    /// # Errors
    /// The client broke off, or nothing could be agreed on.
    pub async fn accept(&self, socket: Socket, early: &[u8]) -> io::Result<Stream> {
        let config = self.config.clone().ok_or(io::ErrorKind::Unsupported)?;
        let socket = Early { early: early.to_vec(), taken: 0, socket };
        let stream = Box::pin(tokio_rustls::TlsAcceptor::from(config).accept(socket)).await?;
        let (socket, connection) = stream.into_inner();
        Ok(Stream::tls(socket.socket, rustls::Connection::Server(connection)))
    }
}

/// TLS towards the hosts of one database, ready to use.
#[derive(Debug, Clone)]
pub struct Connector {
    /// As `sslmode`.
    pub mode: TlsMode,
    /// No SSLRequest first.
    pub direct: bool,
    config: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// Whether both were made from the same settings and the same files at the same time.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let config = match (&self.config, &other.config) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            _ => false,
        };
        config && self.mode == other.mode && self.direct == other.direct
    }

    /// The client's side of the handshake with `host`.
    ///
    /// # Errors
    /// The server broke off, its certificate is not good enough, or nothing could be agreed on.
    pub async fn connect(&self, socket: Socket, host: &str) -> io::Result<Stream> {
        let config = self.config.clone().ok_or(io::ErrorKind::Unsupported)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = Box::pin(tokio_rustls::TlsConnector::from(config).connect(name, socket)).await?;
        let (socket, connection) = stream.into_inner();
        if self.direct && connection.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other("the server does not speak PostgreSQL over direct TLS"));
        }
        Ok(Stream::tls(socket, rustls::Connection::Client(connection)))
    }
}

/// The connectors of a configuration: equal settings share one, so that authorities are read once.
#[derive(Debug, Default)]
pub struct Connectors {
    known: HashMap<ServerTls, Connector>,
}

impl Connectors {
    /// The connector for `settings`, if it has been made.
    #[must_use]
    pub fn known(&self, settings: &ServerTls) -> Option<Connector> {
        self.known.get(settings).cloned()
    }

    /// The connector for `settings`.
    ///
    /// # Errors
    /// A file is missing or wrong.
    pub fn connector(&mut self, settings: &ServerTls) -> Result<Connector, TlsError> {
        if let Some(known) = self.known.get(settings) {
            return Ok(known.clone());
        }
        let config = if settings.mode == TlsMode::Disable { None } else { Some(client_config(settings)?) };
        let connector =
            Connector { mode: settings.mode, direct: settings.direct, config: config.map(Arc::new) };
        self.known.insert(settings.clone(), connector.clone());
        Ok(connector)
    }
}

fn client_config(settings: &ServerTls) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(settings.min_version))
        .map_err(rejected)?;
    let verifies = settings.mode >= TlsMode::VerifyCa || settings.ca_file.is_some();
    let builder = if verifies {
        let known = match &settings.ca_file {
            Some(file) => roots(file)?,
            None => system_roots(),
        };
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(known), provider());
        let inner = inner.build().map_err(rejected)?;
        let verifier =
            if settings.mode == TlsMode::VerifyFull { Verifier::Full(inner) } else { Verifier::Ca(inner) };
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::Nothing(provider())))
    };
    let mut config = match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => {
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(rejected)?
        }
        _ => builder.with_no_client_auth(),
    };
    if settings.direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

/// How much of a server's certificate is checked.
#[derive(Debug)]
enum Verifier {
    /// Nothing but that the server has the key: `require`, `prefer`, `allow`.
    Nothing(Arc<CryptoProvider>),
    /// The chain: `verify-ca`.
    Ca(Arc<WebPkiServerVerifier>),
    /// Chain and name: `verify-full`.
    Full(Arc<WebPkiServerVerifier>),
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self {
            Self::Nothing(_) => Ok(ServerCertVerified::assertion()),
            Self::Full(inner) => inner.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            Self::Ca(inner) => match inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                other => other,
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self {
            Self::Nothing(provider) => {
                let algorithms = &provider.signature_verification_algorithms;
                rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
            }
            Self::Ca(inner) | Self::Full(inner) => inner.verify_tls12_signature(message, cert, signature),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self {
            Self::Nothing(provider) => {
                let algorithms = &provider.signature_verification_algorithms;
                rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
            }
            Self::Ca(inner) | Self::Full(inner) => inner.verify_tls13_signature(message, cert, signature),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self {
            Self::Nothing(provider) => provider.signature_verification_algorithms.supported_schemes(),
            Self::Ca(inner) | Self::Full(inner) => inner.supported_verify_schemes(),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

static MODERN: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
static USUAL: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

fn versions(lowest: TlsVersion) -> &'static [&'static rustls::SupportedProtocolVersion] {
    match lowest {
        TlsVersion::Tls12 => USUAL,
        TlsVersion::Tls13 => MODERN,
    }
}

fn rejected(error: impl std::fmt::Display) -> TlsError {
    TlsError::Rejected(error.to_string())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::File { path: path.to_owned(), source };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let chain = chain.map_err(unreadable)?;
    if chain.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut known = RootCertStore::empty();
    for certificate in certificates(path)? {
        known.add(certificate).map_err(rejected)?;
    }
    Ok(known)
}

fn system_roots() -> RootCertStore {
    let mut known = RootCertStore::empty();
    known.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    known
}

/// A socket of which some bytes were read before the handshake.
struct Early {
    early: Vec<u8>,
    taken: usize,
    socket: Socket,
}

impl AsyncRead for Early {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = this.early.get(this.taken..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..count).unwrap_or_default());
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Early {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
