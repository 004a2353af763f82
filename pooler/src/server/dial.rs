//! Opens a server connection and logs in: address, TLS, startup packet, proof, parameters, and whether the host
//! is the primary.

use super::connection::{Base, CancelKey, Doubt, ServerConnection};
use super::exchange::{self, ExchangeError, next_message, simple_query};
use super::identity::Identity;
use crate::auth::key_cache::KeyCache;
use crate::auth::server_login::{Credential, ServerLogin, ServerLoginError, ServerStep, ServerTransport};
use crate::config::settings::{HostAddress, HostOrder, Keepalive, Target, TlsMode};
use crate::parameters::{IN_HOT_STANDBY, Interner};
use crate::statements::ServerStatements;
use crate::stream::tls::Connector;
use crate::stream::{Buffer, Socket, SocketAddress, Stream, apply_keepalive};
use bytes::BytesMut;
use hawser_wire::backend::{self as message, TransactionStatus};
use hawser_wire::encode;
use hawser_wire::reply_queue::ReplyQueue;
use hawser_wire::startup::{Negotiation, ProtocolVersion, encode_startup, ssl_request};
use hawser_wire::tag::backend;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Longest message that a server may send before it is ready.
const LONGEST_LOGIN_MESSAGE: usize = 64 * 1024;

/// What the dials of one worker have in common.
#[derive(Debug)]
pub struct Local {
    /// Tracked parameters.
    pub interner: Interner,
    /// SCRAM keys of passwords, for both legs.
    pub keys: KeyCache,
}

impl Default for Local {
    fn default() -> Self {
        Self { interner: Interner::default(), keys: KeyCache::new(KEYS) }
    }
}

/// Passwords whose SCRAM keys a worker remembers.
const KEYS: usize = 1024;

/// Everything that it takes to open a connection of one pool.
#[derive(Debug, Clone)]
pub struct DialPlan {
    /// Where the cluster is; never empty.
    pub hosts: Vec<HostAddress>,
    /// Which host comes first, when any will do.
    pub order: HostOrder,
    /// Whether any will do, or only the primary.
    pub target: Target,
    /// The host that was the primary last time, or whose turn it is.
    pub preferred: Arc<AtomicUsize>,
    /// TLS.
    pub tls: Connector,
    /// User on the server.
    pub user: String,
    /// Database on the server.
    pub dbname: String,
    /// What proves the user.
    pub credential: Credential,
    /// Startup parameters.
    pub parameters: Vec<(String, String)>,
    /// Run once, before anything else.
    pub connect_query: Option<String>,
    /// TCP keep-alive.
    pub keepalive: Keepalive,
    /// Bound on all of it.
    pub timeout: Duration,
    /// Age at which the connection is closed.
    pub lifetime: Option<Duration>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// It took too long.
    #[error("connecting to the server took longer than {0:?}")]
    Timeout(Duration),
    /// Nobody answers there.
    #[error("cannot connect to {host}")]
    Connect {
        /// Which host.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS is demanded and the server has none.
    #[error("server does not support TLS, but the settings require it")]
    NoTls,
    /// The handshake failed.
    #[error("TLS handshake with the server failed")]
    Tls(#[source] io::Error),
    /// The proof could not be given.
    #[error(transparent)]
    Login(#[from] ServerLoginError),
    /// The server said no (its own error is inside), or the connection failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The server broke the protocol.
    #[error("the server broke the startup protocol: {0}")]
    Protocol(&'static str),
    /// None of the hosts is a primary.
    #[error("none of the hosts is a primary")]
    NoPrimary,
}

impl DialError {
    /// The server's own words, where it refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&[u8]> {
        match self {
            Self::Exchange(ExchangeError::Refused(body)) => Some(body),
            _ => None,
        }
    }
}

/// Opens a connection to the primary and makes it ready.
///
/// # Errors
/// No host would do; the error is the last host's.
pub async fn dial(plan: &DialPlan, local: &Local, generation: u64) -> Result<ServerConnection, DialError> {
    let count = plan.hosts.len();
    let start = plan.first_host();
    let mut last = DialError::NoPrimary;
    for number in 0..count {
        let at = (start + number) % count;
        let Some(host) = plan.hosts.get(at) else { break };
        let attempt = tokio::time::timeout(plan.timeout, dial_host(plan, host, local, generation));
        match attempt.await {
            Ok(Ok(mut server)) => {
                let any = plan.target == Target::Any;
                let asked = async { if any { Ok(true) } else { is_primary(&mut server).await } };
                match tokio::time::timeout(plan.timeout, asked).await {
                    Ok(Ok(true)) => {
                        if !any {
                            plan.preferred.store(at, Ordering::Relaxed);
                        }
                        return Ok(server);
                    }
                    Ok(Ok(false)) => {
                        server.close();
                        last = DialError::NoPrimary;
                    }
                    Ok(Err(error)) => last = error,
                    Err(_) => last = DialError::Timeout(plan.timeout),
                }
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = DialError::Timeout(plan.timeout),
        }
    }
    Err(last)
}

/// A stream to `address` as the plan wants it, TLS included, with nothing said yet.
///
/// # Errors
/// Nobody answers, or TLS cannot be had as demanded.
pub async fn open_stream(address: &SocketAddress, plan: &DialPlan) -> Result<Stream, DialError> {
    let name = plan.hosts.iter().find_map(|host| match (host, address) {
        (HostAddress::Tcp(name, port), SocketAddress::Tcp(at)) if *port == at.port() => Some(name.as_str()),
        _ => None,
    });
    open(address, name.unwrap_or_default(), plan).await
}

async fn open(address: &SocketAddress, host: &str, plan: &DialPlan) -> Result<Stream, DialError> {
    let unreachable = |source| DialError::Connect { host: describe(address), source };
    let mut socket = Socket::connect(address).await.map_err(unreachable)?;
    if matches!(socket, Socket::Tcp(_)) {
        apply_keepalive(&socket.options(), plan.keepalive);
    }
    if matches!(address, SocketAddress::Unix(_)) || matches!(plan.tls.mode, TlsMode::Disable) {
        return Ok(Stream::plain(socket));
    }
    if plan.tls.direct {
        return plan.tls.connect(socket, host).await.map_err(DialError::Tls);
    }
    if plan.tls.mode == TlsMode::Allow {
        return Ok(Stream::plain(socket));
    }
    match ask_for_tls(&mut socket).await.map_err(unreachable)? {
        b'S' => plan.tls.connect(socket, host).await.map_err(DialError::Tls),
        b'N' if plan.tls.mode <= TlsMode::Prefer => Ok(Stream::plain(socket)),
        b'N' => Err(DialError::NoTls),
        _ => Err(DialError::Protocol("neither S nor N to an SSLRequest")),
    }
}

async fn ask_for_tls(socket: &mut Socket) -> io::Result<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    socket.write_all(&ssl_request()).await?;
    socket.read_u8().await
}

async fn dial_host(
    plan: &DialPlan,
    host: &HostAddress,
    local: &Local,
    generation: u64,
) -> Result<ServerConnection, DialError> {
    let (addresses, name) = resolve(host).await?;
    let mut last = DialError::Connect { host: name.clone(), source: io::ErrorKind::AddrNotAvailable.into() };
    for address in addresses {
        match open(&address, &name, plan).await {
            Ok(stream) => return log_in(stream, address, plan, local, generation).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn resolve(host: &HostAddress) -> Result<(Vec<SocketAddress>, String), DialError> {
    match host {
        HostAddress::Unix(folder, port) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            let name = path.display().to_string();
            Ok((vec![SocketAddress::Unix(path)], name))
        }
        HostAddress::Tcp(name, port) => {
            if let Ok(ip) = name.parse() {
                return Ok((vec![SocketAddress::Tcp(SocketAddr::new(ip, *port))], name.clone()));
            }
            let unknown = |source| DialError::Connect { host: name.clone(), source };
            let found = tokio::net::lookup_host((name.as_str(), *port)).await.map_err(unknown)?;
            Ok((found.map(SocketAddress::Tcp).collect(), name.clone()))
        }
    }
}

/// What the server said on the way to its first ReadyForQuery.
struct Greeting {
    welcome: Vec<(String, String)>,
    key: Option<(u32, Arc<[u8]>)>,
}

impl Greeting {
    /// Settings as the server reports them; of each, the last value holds.
    fn note(&mut self, settings: impl IntoIterator<Item = (String, String)>) {
        for setting in settings {
            self.welcome.retain(|(name, _)| *name != setting.0);
            self.welcome.push(setting);
        }
    }
}

async fn log_in(
    mut stream: Stream,
    address: SocketAddress,
    plan: &DialPlan,
    local: &Local,
    generation: u64,
) -> Result<ServerConnection, DialError> {
    let greeting = start_session(&mut stream, plan, &plan.parameters, local).await?;
    let (pid, secret) = greeting.key.unwrap_or((0, Arc::new([0; 4])));
    let now = Instant::now();
    let mut server = ServerConnection {
        stream,
        queue: ReplyQueue::default(),
        status: TransactionStatus::Idle,
        settings: local.interner.intern(crate::parameters::ParameterSet::default()),
        doubt: Doubt::None,
        base: Arc::default(),
        sequences: None,
        statements: ServerStatements::default(),
        unnamed: None,
        cancel_key: Rc::new(CancelKey { address, pid, secret }),
        welcome: Rc::new(greeting.welcome),
        cancels: Rc::default(),
        opened: now,
        expires: plan.lifetime.map(|lifetime| now + lifetime),
        released: now,
        generation,
        listens: false,
        tainted: false,
        identity: Identity::Unknown,
    };
    if let Some(text) = &plan.connect_query {
        simple_query(&mut server, text).await?;
        let set = simple_query(&mut server, SET_BY_SESSION).await?;
        let names = set.rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
        server.base = Arc::new(Base { query: text.clone(), settings: names.collect() });
    }
    Ok(server)
}

/// What the connect query has set.
const SET_BY_SESSION: &str =
    "SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'";

/// Sends the startup packet and answers what the server asks, until it is ready for queries.
async fn start_session(
    stream: &mut Stream,
    plan: &DialPlan,
    parameters: &[(String, String)],
    local: &Local,
) -> Result<Greeting, DialError> {
    let asked = ProtocolVersion::V3_2;
    let mut out = BytesMut::new();
    let names = [("user", plan.user.as_str()), ("database", plan.dbname.as_str())];
    let rest = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    encode_startup(asked, names.into_iter().chain(rest), &mut out)
        .map_err(|_| DialError::Protocol("a startup parameter cannot be sent"))?;
    stream.write_all(&out).await.map_err(ExchangeError::Lost)?;
    let nonce = rand::random();
    let mut login = ServerLogin::new(&plan.user, &plan.credential, transport(stream), false, nonce);
    let mut greeting = Greeting { welcome: Vec::new(), key: None };
    let mut input = Buffer::default();
    loop {
        let (tag, body) = next_message(stream, &mut input, LONGEST_LOGIN_MESSAGE).await?;
        match tag {
            backend::AUTHENTICATION => {
                let step = login.on_authentication(&body, &local.keys)?;
                if let ServerStep::Reply(reply) = step {
                    let mut out = Vec::new();
                    encode::password(&mut out, &reply);
                    stream.write_all(&out).await.map_err(ExchangeError::Lost)?;
                }
            }
            backend::NEGOTIATE_PROTOCOL_VERSION => {
                let negotiation =
                    Negotiation::parse(&body).map_err(|_| DialError::Protocol("bad negotiation"))?;
                negotiation.accept(asked).map_err(|_| DialError::Protocol("bad negotiation"))?;
            }
            backend::PARAMETER_STATUS => greeting.note(exchange::setting(&body)),
            backend::BACKEND_KEY_DATA => {
                let (pid, key) =
                    message::backend_key_data(&body).ok_or(DialError::Protocol("bad cancel key"))?;
                greeting.key = Some((pid, key.into()));
            }
            backend::ERROR_RESPONSE => return Err(ExchangeError::Refused(body).into()),
            backend::NOTICE_RESPONSE => {}
            backend::READY_FOR_QUERY if login.is_done() => {
                greeting.note(exchange::take_unasked(stream, &mut input).await?);
                return Ok(greeting);
            }
            _ => return Err(DialError::Protocol("a message out of turn")),
        }
    }
}

fn transport(stream: &Stream) -> ServerTransport {
    let Some(tls) = stream.tls_session() else {
        return match stream.socket() {
            Socket::Tcp(_) => ServerTransport::Tcp,
            Socket::Unix(_) => ServerTransport::Unix,
        };
    };
    let certificate = tls.peer_certificates().and_then(|chain| chain.first());
    let end_point =
        certificate.and_then(|certificate| crate::auth::channel_binding::tls_server_end_point(certificate));
    ServerTransport::Tls { end_point }
}

/// Opens a connection for replication and leaves it where the server is ready: the stream, and what is to be told
/// to the client.
///
/// # Errors
/// As [`dial`].
pub async fn dial_replication(
    plan: &DialPlan,
    parameters: &[(String, String)],
    local: &Local,
) -> Result<(Stream, Vec<(String, String)>, CancelKey), DialError> {
    let mut last = DialError::NoPrimary;
    let start = plan.first_host();
    for number in 0..plan.hosts.len() {
        let Some(host) = plan.hosts.get((start + number) % plan.hosts.len()) else { break };
        match tokio::time::timeout(plan.timeout, dial_replication_host(plan, host, parameters, local)).await {
            Ok(Ok((_, greeting, _)))
                if plan.target == Target::Primary && reports_standby(&greeting.welcome) == Some(true) => {}
            Ok(Ok((stream, greeting, address))) => {
                let (pid, secret) = greeting.key.unwrap_or((0, Arc::new([0; 4])));
                return Ok((stream, greeting.welcome, CancelKey { address, pid, secret }));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = DialError::Timeout(plan.timeout),
        }
    }
    Err(last)
}

async fn dial_replication_host(
    plan: &DialPlan,
    host: &HostAddress,
    parameters: &[(String, String)],
    local: &Local,
) -> Result<(Stream, Greeting, SocketAddress), DialError> {
    let (addresses, name) = resolve(host).await?;
    let address =
        addresses.into_iter().next().ok_or(DialError::Protocol("a host name without an address"))?;
    let mut stream = open(&address, &name, plan).await?;
    let greeting = start_session(&mut stream, plan, parameters, local).await?;
    Ok((stream, greeting, address))
}

fn reports_standby(welcome: &[(String, String)]) -> Option<bool> {
    welcome.iter().find(|(name, _)| name == IN_HOT_STANDBY).map(|(_, value)| value == "on")
}

/// Whether the server takes writes: servers from version 14 on say so at login, older ones are asked.
async fn is_primary(server: &mut ServerConnection) -> Result<bool, DialError> {
    if let Some(standby) = reports_standby(&server.welcome) {
        return Ok(!standby);
    }
    let answer = simple_query(server, "SELECT pg_catalog.pg_is_in_recovery()").await?;
    Ok(answer.rows.first().and_then(|row| row.first()?.as_deref()) == Some("f"))
}

fn describe(address: &SocketAddress) -> String {
    match address {
        SocketAddress::Tcp(address) => address.to_string(),
        SocketAddress::Unix(path) => path.display().to_string(),
    }
}

/// For a log: SQLSTATE and message of the server's refusal, or what went wrong.
#[must_use]
pub fn explain(error: &DialError) -> String {
    use std::error::Error as _;
    if let Some(body) = error.refusal() {
        return exchange::describe(body);
    }
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        words.push_str(": ");
        words.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    words
}

impl DialPlan {
    /// Which host is tried first: the last primary, or by the order of the settings.
    fn first_host(&self) -> usize {
        match (self.target, self.order) {
            (Target::Primary, _) => self.preferred.load(Ordering::Relaxed),
            (Target::Any, HostOrder::InOrder) => 0,
            (Target::Any, HostOrder::RoundRobin) => self.preferred.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Whether connections made by `other` do not do for this plan.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        self.hosts != other.hosts
            || self.user != other.user
            || self.dbname != other.dbname
            || self.parameters != other.parameters
            || self.connect_query != other.connect_query
            || self.target != other.target
            || !self.tls.is_same(&other.tls)
    }
}
