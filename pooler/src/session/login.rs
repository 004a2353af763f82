//! From a startup packet to a session: rule, secret, exchange, limits, and what the client is told.

use super::Session;
use super::end::End;
use super::refusal::Refusal;
use super::replication;
use super::routing::{self, Routing};
use super::services::{Registration, Services};
use super::words::say;
use crate::auth::client_login::{
    Certificate, ClientLogin, LoginError, MAX_LOGIN_MESSAGE, Mock, Proven, Step, Transport,
};
use crate::auth::client_login::{Md5RuleAsks, Request};
use crate::auth::hba::{self, Facts};
use crate::auth::lookup::{self, Found, SecretKey};
use crate::auth::server_login::Credential;
use crate::config::settings::{AuthQuery, DatabaseSettings, Secret, TlsMode};
use crate::ids::{PoolHost, PoolKey};
use crate::mailbox::Operator;
use crate::parameters::{IN_HOT_STANDBY, Interner};
use crate::pool::lease::{self, Unanswered};
use crate::pool::{Pool, Welcome};
use crate::relay::{ClientSide, SessionState, Unnamed};
use crate::report::About;
use crate::runtime::{Admission, Runtime};
use crate::server::connection::ServerConnection;
use crate::server::exchange::{ExchangeError, next_message, query_with, simple_query};
use crate::stream::{Buffer, Peer, Stream};
use hawser_wire::backend::TransactionStatus;
use hawser_wire::encode::{self, Severity};
use hawser_wire::sqlstate;
use hawser_wire::startup::{ProtocolVersion, Replication, StartupMessage, parse_options};
use hawser_wire::tag::frontend;
use rustls::pki_types::CertificateDer;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::time::timeout_at;
use x509_parser::prelude::FromDer;

/// About as long is what a client is told when it is in.
const GREETING: usize = 1024;

/// A client that has said who it wants to be.
#[derive(Debug)]
pub struct Candidate {
    /// Its stream.
    pub stream: Stream,
    /// Bytes behind the startup packet.
    pub input: Buffer,
    /// Where it is.
    pub peer: Peer,
    /// What it asked for.
    pub startup: StartupMessage,
    /// When it connected.
    pub since: Instant,
}

/// How a login ends well.
pub enum Outcome {
    /// A session, ready to run.
    Session(Box<Session>, Box<Admitted>),
    /// It was a replication connection, and it is over.
    Replicated,
    /// It came to our console.
    Operator(Box<Operator>),
}

/// What is given back when the session ends.
#[derive(Debug)]
pub struct Admitted {
    /// Its place under the limits of its database and user.
    pub admission: Admission,
    /// Its place in the list of its worker.
    pub registration: Registration,
}

impl Candidate {
    /// Whether it wants to replicate; then it stays in [`Self::log_in`] until it ends.
    #[must_use]
    pub fn is_replication(&self) -> bool {
        self.startup.replication().is_ok_and(|kind| kind != Replication::No)
    }

    /// What an operator sees of it.
    #[must_use]
    pub fn about(&self) -> About {
        About {
            user: self.startup.user().into(),
            database: self.startup.database().into(),
            replication: self.startup.replication().unwrap_or(Replication::No),
            ends: self.stream.ends(),
            connected: self.since,
        }
    }

    /// Logs the client in.
    ///
    /// # Errors
    /// It was refused, and told why; or it left.
    pub async fn log_in(mut self, services: &Rc<Services>) -> Result<Outcome, End> {
        let runtime = services.runtime();
        let end = self.end(&runtime);
        let tried = timeout_at(end, self.try_log_in(services, &runtime)).await;
        match tried.unwrap_or(Err(Refusal::LoginTimeOut.into())) {
            Ok(Entrance::Console { greeting, is_admin }) => self.hand_over(greeting, is_admin),
            Ok(Entrance::Database(Welcomed { database, key, pool, admission, greeting })) => {
                if self.is_replication() {
                    let plan = pool.plan();
                    return replication::serve(self, services, &plan.dial, &database, greeting).await.map(
                        |()| {
                            drop((admission, key));
                            Outcome::Replicated
                        },
                    );
                }
                self.begin(services, &runtime, &database, pool, admission, greeting).await
            }
            Err(Failure::Refused(refusal)) => Err(self.refuse(&refusal).await),
            Err(Failure::Left(end)) => Err(end),
        }
    }

    /// When its patience is over: it is told so, unless it is still busy with TLS or its startup packet.
    fn end(&self, runtime: &Runtime) -> tokio::time::Instant {
        (self.since + runtime.settings.timeouts.login).into()
    }

    /// Leaves this worker for the control thread.
    fn hand_over(self, greeting: Vec<u8>, is_admin: bool) -> Result<Outcome, End> {
        let about = self.about();
        let application_name = self.startup.get("application_name").unwrap_or_default().to_owned();
        Ok(Outcome::Operator(Box::new(Operator {
            stream: self.stream.park().map_err(|error| End::ClientLost(error.kind()))?,
            greeting,
            input: self.input.data().to_vec(),
            about,
            application_name,
            is_admin,
        })))
    }

    /// Whether it is the operating system's user that we run as, on the Unix socket, under its own name or the one
    /// that PgBouncer has for this.
    fn is_owner(&self) -> bool {
        let Peer::Unix { uid: Some(uid) } = self.peer else { return false };
        let user = self.startup.user();
        uid == rustix::process::geteuid().as_raw()
            && (user == "pgbouncer" || user_name(uid).as_deref() == Some(user))
    }

    async fn refuse(&mut self, refusal: &Refusal) -> End {
        let mut out = Vec::new();
        refusal.write(&mut out, Severity::Fatal);
        say(&mut self.stream, &out).await;
        End::Refused(refusal.sqlstate(), refusal.words())
    }

    async fn try_log_in(&mut self, services: &Rc<Services>, runtime: &Runtime) -> Result<Entrance, Failure> {
        if let Some(negotiation) = self.startup.negotiation() {
            let mut out = bytes::BytesMut::new();
            negotiation.encode(&mut out);
            self.stream.write_all(&out).await.map_err(lost)?;
        }
        let replication = self.startup.replication();
        let replication =
            replication.map_err(|error| Refusal::BadStartup(error.sqlstate(), error.to_string()))?;
        let by_unix = matches!(self.peer, Peer::Unix { .. });
        if runtime.acceptor.mode >= TlsMode::Require && self.stream.tls_session().is_none() && !by_unix {
            return Err(Refusal::NeedsTls.into());
        }
        let user = self.startup.user().to_owned();
        let name = self.startup.database().to_owned();
        let is_console = runtime.is_console(&name) && replication == Replication::No;
        if is_console && self.is_owner() {
            let mut greeting = Vec::new();
            encode::authentication(&mut greeting, 0, &[]);
            return Ok(Entrance::Console { greeting, is_admin: true });
        }
        let physical = replication == Replication::Physical;
        let facts = Facts {
            address: self.peer.ip(),
            tls: self.stream.tls_session().is_some(),
            database: &name,
            user: &user,
            physical_replication: physical,
        };
        let Some(rule) = hba::decide(&runtime.settings.auth.rules, &facts) else {
            let words = format!("no rule lets user \"{user}\" in to database \"{name}\" from {}", self.peer);
            return Err(Refusal::NoRule(words).into());
        };
        if let Some(address) = self.peer.ip()
            && runtime.throttle.delay(address, Instant::now()).is_some()
        {
            return Err(Refusal::Throttled.into());
        }
        let database = if is_console { None } else { runtime.database(&name).cloned() };
        let database = database.or_else(|| if physical { any_database(runtime) } else { None });
        let exchange =
            Exchange { services, runtime, database: database.as_deref(), name: &name, user: &user, rule };
        let (proven, greeting) = self.prove(exchange).await?;
        if is_console {
            return match runtime.settings.admin.role(&user) {
                Some(is_admin) => Ok(Entrance::Console { greeting, is_admin }),
                None => Err(Refusal::NoRule(format!("user \"{user}\" may not use the console")).into()),
            };
        }
        let Some(database) = database else { return Err(Refusal::UnknownDatabase(name).into()) };
        if runtime.is_disabled(&name, &database) {
            return Err(Refusal::Disabled(name).into());
        }
        let admission = runtime.admit(&name, &database, &user).map_err(Refusal::TooManyClients)?;
        let key = Runtime::pool_key(&name, &database, &user);
        let credential = match Credential::from(proven) {
            Credential::None => runtime.own_credential(&user),
            credential => credential,
        };
        let pool = services.pools.pool(&key, &database, credential).ok_or(Refusal::Misconfigured)?;
        Ok(Entrance::Database(Welcomed { database, key, pool, admission, greeting }))
    }

    /// The exchange in which the client proves who it is. What it is to be told last is returned, not sent.
    async fn prove(&mut self, exchange: Exchange<'_>) -> Result<(Proven, Vec<u8>), Failure> {
        let Exchange { services, runtime, database, name, user, rule } = exchange;
        let mut asked = None;
        let secrets: Vec<Secret> = match runtime.user(user).map(|user| &user.secrets) {
            Some(known) if !known.is_empty() => known.clone(),
            _ => match database.and_then(|database| Some((database, runtime.auth_query(database)?))) {
                Some((database, query)) => {
                    let key = SecretKey { database: name.to_owned(), user: user.to_owned() };
                    asked = Some(key.clone());
                    look_up(services, runtime, database, key, &query)
                        .await?
                        .secrets(SystemTime::now())
                        .to_vec()
                }
                None => Vec::new(),
            },
        };
        let peer_user = match self.peer {
            Peer::Unix { uid: Some(uid) } => user_name(uid),
            _ => None,
        };
        let map =
            rule.map.as_ref().and_then(|map| runtime.settings.auth.name_maps.get(map)).map(Vec::as_slice);
        let common_name = self.common_name();
        let step = {
            let transport = self.transport(runtime, peer_user.as_deref(), common_name.as_deref());
            let request = Request {
                user,
                rule,
                map,
                secrets: &secrets,
                transport,
                password_without_tls: runtime.settings.auth.password_without_tls,
                mock: Mock { secret: &runtime.facilities.mock_secret, md5_rule_asks: Md5RuleAsks::default() },
                nonce: rand::random(),
                md5_salt: rand::random(),
            };
            ClientLogin::start(&request, &services.shared.local.keys)
        };
        let mut step = step;
        loop {
            step = match step {
                Step::Done { bytes, proven } => return Ok((proven, bytes)),
                Step::Refused(error) => {
                    return Err(self.note_failure(runtime, asked.as_ref(), &error).into());
                }
                Step::Ask { login, bytes } => {
                    self.stream.write_all(&bytes).await.map_err(lost)?;
                    login.on_message(&self.password_message().await?)
                }
            };
        }
    }

    /// A login failed: counts it against the address, and looks at the secret anew next time.
    fn note_failure(&self, runtime: &Runtime, asked: Option<&SecretKey>, error: &LoginError) -> Refusal {
        let now = Instant::now();
        if let Some(cause) = error.cause() {
            tracing::info!(user = self.startup.user(), peer = %self.peer, %cause, "login failed");
        }
        if let Some(address) = self.peer.ip() {
            runtime.throttle.failure(address, now);
        }
        if let Some(key) = asked
            && error.may_be_stale_secret()
        {
            runtime.secrets.forget_after_failure(key, now);
        }
        Refusal::BadStartup(error.sqlstate(), error.to_string())
    }

    async fn password_message(&mut self) -> Result<Vec<u8>, Failure> {
        let (tag, body) = match next_message(&mut self.stream, &mut self.input, MAX_LOGIN_MESSAGE).await {
            Ok(message) => message,
            Err(ExchangeError::Lost(error)) => return Err(lost(error)),
            Err(_) => return Err(Refusal::Violation("invalid password packet size".into()).into()),
        };
        match tag {
            frontend::PASSWORD => Ok(body),
            frontend::TERMINATE => Err(Failure::Left(End::ClientLeft)),
            _ => {
                Err(Refusal::Violation(format!("expected password response, got message type {tag}")).into())
            }
        }
    }

    fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.stream.tls_session()?.peer_certificates()?.first()
    }

    fn common_name(&self) -> Option<String> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(self.certificate()?).ok()?;
        let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        Some(name)
    }

    fn transport<'a>(
        &self,
        runtime: &'a Runtime,
        peer_user: Option<&'a str>,
        common_name: Option<&'a str>,
    ) -> Transport<'a> {
        match (self.peer, self.stream.tls_session()) {
            (Peer::Unix { .. }, _) => Transport::Unix { peer_user },
            (Peer::Tcp(_), None) => Transport::Tcp,
            (Peer::Tcp(_), Some(_)) => Transport::Tls {
                end_point: runtime.acceptor.end_point.as_deref(),
                certificate: match self.certificate() {
                    None => Certificate::None,
                    Some(_) => Certificate::Verified { common_name },
                },
            },
        }
    }

    /// Tells the client what it must know, and makes it a session.
    async fn begin(
        mut self,
        services: &Rc<Services>,
        runtime: &Arc<Runtime>,
        database: &DatabaseSettings,
        pool: Rc<Pool>,
        admission: Admission,
        mut greeting: Vec<u8>,
    ) -> Result<Outcome, End> {
        let (wanted, name) = match self.wanted(runtime) {
            Ok(wanted) => wanted,
            Err(refusal) => return Err(self.refuse(&refusal).await),
        };
        let welcome = timeout_at(self.end(runtime), welcome(&pool, wanted)).await;
        let welcome = match welcome.unwrap_or(Err(Refusal::LoginTimeOut)) {
            Ok(welcome) => welcome,
            Err(refusal) => return Err(self.refuse(&refusal).await),
        };
        let key: Box<[u8]> = if self.startup.version.agreed() == ProtocolVersion::V3_2 {
            Box::new(rand::random::<[u8; 32]>())
        } else {
            Box::new(rand::random::<[u8; 4]>())
        };
        let registration = services.register(key.clone());
        let handle = registration.handle.clone();
        handle.introduce(self.about());
        let mut settings = welcome.settings.clone();
        let mut routing = Routing::new(services, &pool, self.startup.user());
        let only_reads = routing.as_mut().is_some_and(|routing| routing.only_reads(&settings, &pool.key));
        greeting.reserve(GREETING);
        for (reported, value) in &welcome.reported {
            let value = match reported.as_str() {
                "application_name" => name.as_deref().unwrap_or(value),
                IN_HOT_STANDBY if only_reads => "on",
                _ => value,
            };
            encode::parameter_status(&mut greeting, reported, value);
        }
        if let Some(name) = &name {
            settings = services.shared.local.interner.with(&settings, "application_name", name);
        }
        encode::backend_key_data(&mut greeting, handle.id.0, &key);
        greeting.extend_from_slice(encode::ready_for_query(TransactionStatus::Idle));
        self.stream.write_all(&greeting).await.map_err(|error| End::ClientLost(error.kind()))?;
        pool.counters.login_time.record(self.since.elapsed());
        *handle.trace.settings.borrow_mut() = Some(settings.clone());
        let client = ClientSide {
            session: handle.id,
            stream: self.stream,
            input: (!self.input.is_empty()).then_some(self.input),
            statements: Default::default(),
            unnamed: Unnamed::default(),
            state: SessionState::new(settings),
            listener: None,
        };
        let timeouts = runtime.timeouts(database, self.startup.user());
        let known = routing::known(services, &pool);
        let lent = (services.shared.clone(), services.departures.clone());
        let session = Session::new(client, pool, lent, handle, timeouts, (routing, known));
        let admitted = Admitted { admission, registration };
        Ok(Outcome::Session(Box::new(session), Box::new(admitted)))
    }

    /// The settings that the client asks for, and its application name.
    fn wanted(&self, runtime: &Runtime) -> Result<Wanted, Refusal> {
        let ignored = &runtime.settings.ignore_startup_parameters;
        let mut wanted = Vec::new();
        // A setting that is named by itself holds rather than one in the options, as in PostgreSQL.
        if let Some(options) = self.startup.get("options")
            && !ignored.iter().any(|name| name == "options")
        {
            let parsed = parse_options(options);
            wanted = parsed.map_err(|error| Refusal::BadStartup(error.sqlstate(), error.to_string()))?;
        }
        let settings = self.startup.settings();
        wanted.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
        wanted.retain(|(name, _)| !ignored.iter().any(|ignored| ignored.eq_ignore_ascii_case(name)));
        let is_name = |name: &str| name.eq_ignore_ascii_case("application_name");
        let mut name = wanted.iter().rev().find(|(key, _)| is_name(key)).map(|(_, value)| value.clone());
        wanted.retain(|(key, _)| !is_name(key));
        if runtime.settings.pool.application_name_add_host {
            let given = name.unwrap_or_else(|| "app".into());
            name = Some(format!("{given} - {}", self.peer));
        }
        Ok((wanted, name))
    }
}

/// Settings by name, and the application name.
type Wanted = (Vec<(String, String)>, Option<String>);

/// Where a client that proved itself goes.
enum Entrance {
    /// To a database.
    Database(Welcomed),
    /// To our console; what it is to be told first.
    Console { greeting: Vec<u8>, is_admin: bool },
}

/// What a client that proved itself goes on with.
struct Welcomed {
    database: Arc<DatabaseSettings>,
    key: PoolKey,
    pool: Rc<Pool>,
    admission: Admission,
    greeting: Vec<u8>,
}

/// What an exchange depends on.
#[derive(Clone, Copy)]
struct Exchange<'a> {
    services: &'a Rc<Services>,
    runtime: &'a Runtime,
    database: Option<&'a DatabaseSettings>,
    name: &'a str,
    user: &'a str,
    rule: &'a hba::Rule,
}

/// Why there is no session.
enum Failure {
    Refused(Refusal),
    Left(End),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::Left(match error.kind() {
        std::io::ErrorKind::UnexpectedEof => End::ClientLeft,
        kind => End::ClientLost(kind),
    })
}

/// Physical replication names no database: that of the wildcard will do, or any.
fn any_database(runtime: &Runtime) -> Option<Arc<DatabaseSettings>> {
    let settings = &runtime.settings;
    settings.wildcard_database.clone().or_else(|| settings.databases.values().next().cloned())
}

/// Asks a server for a user's secret, unless the answer is known.
async fn look_up(
    services: &Rc<Services>,
    runtime: &Runtime,
    database: &DatabaseSettings,
    key: SecretKey,
    query: &AuthQuery,
) -> Result<Found, Refusal> {
    if let Some(found) = runtime.secrets.get(&key, Instant::now()) {
        return Ok(found);
    }
    let name = query.dbname.as_ref().unwrap_or(&key.database);
    let asked_of = runtime.database(name).cloned();
    let asked_of = asked_of.as_deref().unwrap_or(database);
    let pool_key = PoolKey { database: name.clone(), user: query.user.clone(), host: PoolHost::Primary };
    let credential = runtime.own_credential(&query.user);
    let pool = services.pools.pool(&pool_key, asked_of, credential).ok_or(Refusal::Misconfigured)?;
    let interner = &services.shared.local.interner;
    let asked = lease::ask(&pool, async |member| {
        restore_defaults(&mut member.server, interner).await?;
        query_with(&mut member.server, &query.query, &[&key.user]).await
    });
    let found = match asked.await {
        Ok(answer) => lookup::interpret(&key.user, &answer.rows).map_err(|error| error.to_string()),
        Err(Unanswered::NoServer(error)) => return Err(Refusal::from(&*error)),
        Err(Unanswered::Failed(error)) => Err(error.to_string()),
    };
    match found {
        Ok(found) => {
            runtime.secrets.put(key, found.clone(), query, Instant::now());
            Ok(found)
        }
        Err(error) => {
            tracing::error!(pool = %pool.key, error, "auth_query failed");
            Err(Refusal::Misconfigured)
        }
    }
}

/// A look-up must never run under settings that some client made.
async fn restore_defaults(server: &mut ServerConnection, interner: &Interner) -> Result<(), ExchangeError> {
    let statements = server.change_settings(None, &interner.intern(Default::default()));
    if !statements.is_empty() {
        simple_query(server, &statements).await?;
    }
    Ok(())
}

/// What a client with these settings is told; a server is asked the first time.
async fn welcome(pool: &Rc<Pool>, wanted: Vec<(String, String)>) -> Result<Rc<Welcome>, Refusal> {
    if let Some(known) = pool.welcome(&wanted) {
        return Ok(known);
    }
    let asked = lease::ask(pool, async |member| pool.learn_welcome(member, wanted.clone()).await);
    asked.await.map_err(|unanswered| match unanswered {
        Unanswered::NoServer(error) => Refusal::from(&*error),
        Unanswered::Failed(ExchangeError::Refused(body)) => {
            let fields = hawser_wire::backend::error_fields(&body);
            let words = String::from_utf8_lossy(fields.message).into_owned();
            Refusal::BadStartup(known_sqlstate(fields.sqlstate), words)
        }
        Unanswered::Failed(_) => Refusal::ServerLost,
    })
}

/// The SQLSTATEs with which a server refuses a setting.
fn known_sqlstate(sqlstate: &[u8]) -> &'static str {
    let known = [
        sqlstate::INVALID_PARAMETER_VALUE,
        sqlstate::UNDEFINED_OBJECT,
        sqlstate::CANT_CHANGE_RUNTIME_PARAM,
        sqlstate::INSUFFICIENT_PRIVILEGE,
        sqlstate::FEATURE_NOT_SUPPORTED,
    ];
    known.into_iter().find(|known| known.as_bytes() == sqlstate).unwrap_or(sqlstate::INVALID_PARAMETER_VALUE)
}

fn user_name(uid: u32) -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}
