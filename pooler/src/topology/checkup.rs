//! Visits a Hawser as a client does, and says whether it serves: `hawser health`.

use crate::auth::server_login::Credential;
use crate::config::settings::{HostAddress, HostOrder, Keepalive, ServerTls, Target, TlsMode};
use crate::config::{Environment, url};
use crate::server::dial::{self, DialError, DialPlan, Local};
use crate::server::exchange::simple_query;
use crate::stream::tls::{Connectors, TlsError};
use crate::stream::{Socket, SocketAddress};
use hawser_wire::startup::ssl_request;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Port of a Hawser, where a URL leaves it out.
const USUAL_PORT: u16 = 6432;

/// Goes to the primary, and is true there.
const WRITES: &str = "BEGIN READ WRITE; SELECT (NOT pg_catalog.pg_is_in_recovery() AND \
pg_catalog.current_setting('transaction_read_only') = 'off')::text; COMMIT";

/// May go to a standby, and is true there.
const READS_FROM_STANDBY: &str = "BEGIN READ ONLY; SELECT pg_catalog.pg_is_in_recovery()::text; COMMIT";

/// True wherever it runs.
const SERVES: &str = "SELECT 'true'";

/// What is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It serves clients.
    Service,
    /// It leads to a primary that takes writes.
    Primary,
    /// It leads reads to a standby.
    Standby,
}

/// What is wrong.
#[derive(Debug, Error)]
pub enum CheckupError {
    /// The URL cannot be understood.
    #[error("URL: {0}")]
    Url(String),
    /// Primary or standby was asked for, and there is nobody to log in as.
    #[error("the URL names no user, and without one nobody can tell where statements go")]
    NoUser,
    /// The TLS files of the URL.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No greeting.
    #[error("nobody greets clients at {0}")]
    NoGreeting(HostAddress, #[source] io::Error),
    /// No login, or no answer.
    #[error("{0}: {1}")]
    NoService(HostAddress, String),
    /// Another answer than was wanted.
    #[error("{0} serves, but statements do not reach {1}")]
    Elsewhere(HostAddress, &'static str),
    /// It took too long.
    #[error("{0}: no answer within {1:?}")]
    TimedOut(HostAddress, Duration),
}

/// A visit that is planned.
#[derive(Debug)]
pub struct Visit {
    address: HostAddress,
    /// `None`: nobody to log in as.
    login: Option<DialPlan>,
    timeout: Duration,
}

impl Visit {
    /// Reads the URL; what it leaves out is as usual. The password may be in `PGPASSWORD`.
    ///
    /// # Errors
    /// The URL or its TLS files are wrong.
    pub fn plan(
        url: Option<&str>,
        environment: &Environment,
        timeout: Duration,
    ) -> Result<Self, CheckupError> {
        let place = url.map_or_else(|| usual_place(environment.get("HAWSER_LISTEN")), str::to_owned);
        let url = url::parse(&place).map_err(|errors| {
            CheckupError::Url(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        let host = url.hosts.first().cloned().unwrap_or_default();
        let address = host.address("127.0.0.1", USUAL_PORT);
        let Some(user) = url.user.clone() else { return Ok(Self { address, login: None, timeout }) };
        let password = url.password.clone();
        let password = password.or_else(|| environment.get("PGPASSWORD").map(|text| text.to_owned().into()));
        let login = DialPlan {
            hosts: vec![address.clone()],
            order: HostOrder::InOrder,
            target: Target::Any,
            preferred: Arc::default(),
            tls: Connectors::default().connector(&tls(&url))?,
            dbname: url.dbname.unwrap_or_else(|| user.clone()),
            user,
            credential: password.map_or(Credential::None, Credential::Password),
            parameters: vec![("application_name".to_owned(), "hawser health".to_owned())],
            connect_query: None,
            keepalive: Keepalive::default(),
            timeout,
            lifetime: None,
        };
        Ok(Self { address, login: Some(login), timeout })
    }

    /// Goes there, and tells in words what it found.
    ///
    /// # Errors
    /// It does not serve, or not as wanted.
    pub async fn check(self, wanted: Wanted) -> Result<String, CheckupError> {
        let (address, timeout) = (self.address.clone(), self.timeout);
        let checked = tokio::time::timeout(timeout, async {
            match (&self.login, wanted) {
                (Some(plan), _) => self.ask(plan, wanted).await,
                (None, Wanted::Service) => self.knock().await,
                (None, _) => Err(CheckupError::NoUser),
            }
        });
        checked.await.unwrap_or(Err(CheckupError::TimedOut(address, timeout)))
    }

    /// Asks whether TLS can be had, as any client does first.
    async fn knock(&self) -> Result<String, CheckupError> {
        let no_greeting = |error| CheckupError::NoGreeting(self.address.clone(), error);
        let mut found = Err(no_greeting(io::ErrorKind::AddrNotAvailable.into()));
        for address in resolve(&self.address).await.map_err(no_greeting)? {
            found = greet(&address).await.map_err(no_greeting);
            if found.is_ok() {
                break;
            }
        }
        found.map(|()| format!("{} greets clients", self.address))
    }

    async fn ask(&self, plan: &DialPlan, wanted: Wanted) -> Result<String, CheckupError> {
        let (text, whom) = match wanted {
            Wanted::Service => (SERVES, "a server"),
            Wanted::Primary => (WRITES, "a primary that takes writes"),
            Wanted::Standby => (READS_FROM_STANDBY, "a standby"),
        };
        let no_service =
            |error: DialError| CheckupError::NoService(self.address.clone(), dial::explain(&error));
        let mut server = dial::dial(plan, &Local::default(), 0).await.map_err(no_service)?;
        let answer = simple_query(&mut server, text).await;
        server.close();
        match answer {
            Ok(answer) if answer.rows.iter().flatten().any(|value| value.as_deref() == Some("true")) => {
                Ok(format!("{} serves, and statements reach {whom}", self.address))
            }
            Ok(_) => Err(CheckupError::Elsewhere(self.address.clone(), whom)),
            Err(error) => Err(no_service(DialError::Exchange(error))),
        }
    }
}

/// Where the Hawser of this machine listens, by what it is told: the first address, or the loopback if that is all.
fn usual_place(listen: Option<&str>) -> String {
    let first = listen.and_then(|listen| listen.split(',').next()).unwrap_or_default();
    let (host, port) = first.trim().rsplit_once(':').unwrap_or_default();
    let port: u16 = port.parse().unwrap_or(USUAL_PORT);
    match host {
        "" | "*" | "0.0.0.0" | "localhost" => format!("postgres://127.0.0.1:{port}"),
        "[::]" => format!("postgres://[::1]:{port}"),
        host => format!("postgres://{host}:{port}"),
    }
}

async fn greet(address: &SocketAddress) -> io::Result<()> {
    let mut socket = Socket::connect(address).await?;
    socket.write_all(&ssl_request()).await?;
    match socket.read_u8().await? {
        b'S' | b'N' => Ok(()),
        _ => Err(io::Error::other("it does not speak PostgreSQL's protocol")),
    }
}

async fn resolve(address: &HostAddress) -> io::Result<Vec<SocketAddress>> {
    match address {
        HostAddress::Unix(folder, port) => {
            Ok(vec![SocketAddress::Unix(folder.join(format!(".s.PGSQL.{port}")))])
        }
        HostAddress::Tcp(name, port) => {
            let found = tokio::net::lookup_host((name.as_str(), *port)).await?;
            Ok(found.map(SocketAddress::Tcp).collect())
        }
    }
}

/// TLS as the URL says, which is checked as little or as much as libpq would.
fn tls(url: &url::Url) -> ServerTls {
    let mut tls = ServerTls::default();
    for (name, text) in &url.tls {
        match *name {
            "server_tls.mode" => {
                tls.mode = match text.as_str() {
                    "disable" => TlsMode::Disable,
                    "allow" => TlsMode::Allow,
                    "require" => TlsMode::Require,
                    "verify-ca" => TlsMode::VerifyCa,
                    "verify-full" => TlsMode::VerifyFull,
                    _ => TlsMode::Prefer,
                };
            }
            "server_tls.ca_file" => tls.ca_file = Some(text.into()),
            "server_tls.cert_file" => tls.cert_file = Some(text.into()),
            "server_tls.key_file" => tls.key_file = Some(text.into()),
            "server_tls.negotiation" => tls.direct = text == "direct",
            _ => {}
        }
    }
    tls
}

#[cfg(test)]
mod tests {
    use super::usual_place;

    #[test]
    fn a_hawser_is_looked_for_where_it_was_told_to_listen() {
        let cases = [
            (None, "postgres://127.0.0.1:6432"),
            (Some("*:7000"), "postgres://127.0.0.1:7000"),
            (Some("0.0.0.0:7000,[::1]:7001"), "postgres://127.0.0.1:7000"),
            (Some("[::]:7000"), "postgres://[::1]:7000"),
            (Some("10.0.0.1:7000"), "postgres://10.0.0.1:7000"),
            (Some("nonsense"), "postgres://127.0.0.1:6432"),
        ];
        for (listen, place) in cases {
            assert_eq!(usual_place(listen), place, "{listen:?}");
        }
    }
}
