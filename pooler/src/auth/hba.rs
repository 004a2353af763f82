//! Rules that say which client may log in how, in the manner of pg_hba.conf.
//! Pure. The first rule that fits decides; when none fits the client is refused.
//!
//! What PostgreSQL knows and a pooler cannot do (groups, host names, included files, LDAP and so on) is refused by
//! name when the file is read: a rule that silently never fits would open or close the wrong door.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::tokens::{self, Field, Word, quote};

const DATABASE_KEYWORDS: &[&str] = &["all", "sameuser", "samerole", "samegroup", "replication"];
const USER_KEYWORDS: &[&str] = &["all"];

/// One line of pg_hba.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Line of the file that it was read from, 1 for the first; 0 when there was no file.
    pub line: u32,
    /// Kinds of connection that it is about.
    pub connection: Connection,
    /// Databases that it is about; any of them.
    pub databases: Vec<DatabaseName>,
    /// Users that it is about; any of them.
    pub users: Vec<UserName>,
    /// Addresses that it is about; always [`Address::All`] for [`Connection::Local`].
    pub address: Address,
    /// How the client proves who it is.
    pub method: Method,
    /// Name map (`map=`), for certificates and peer.
    pub map: Option<String>,
    /// Certificate that is asked for besides the method (`clientcert=`).
    pub client_certificate: ClientCertificate,
}

/// Kinds of connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// Unix socket.
    Local,
    /// TCP, with or without TLS.
    Host,
    /// TCP with TLS.
    HostSsl,
    /// TCP without TLS.
    HostNoSsl,
}

/// A word in the database column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseName {
    /// `all`: every database (but not physical replication).
    All,
    /// `sameuser`: the database named as the user.
    SameUser,
    /// `replication`: physical replication.
    Replication,
    /// Exactly this one.
    Literal(String),
}

/// A word in the user column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserName {
    /// `all`.
    All,
    /// Exactly this one.
    Literal(String),
}

/// The address column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Any.
    All,
    /// A network in CIDR notation or with a mask.
    Network(IpNet),
}

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Trust,
    /// It cannot.
    Reject,
    /// SCRAM, with channel binding when the client can.
    ScramSha256,
    /// SCRAM with channel binding, nothing less.
    ScramSha256Plus,
    /// md5, or SCRAM when the secret is a SCRAM verifier.
    Md5,
    /// The password in the clear.
    Password,
    /// A TLS certificate.
    Cert,
    /// The user of the process at the other end of the Unix socket.
    Peer,
}

/// `clientcert=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificate {
    /// Not asked for.
    #[default]
    NotAsked,
    /// `verify-ca`: one that a known authority signed.
    VerifyCa,
    /// `verify-full`: that, and it names the user (by the map, if any).
    VerifyFull,
}

/// What a rule is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Address of the client; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether the connection is under TLS.
    pub tls: bool,
    /// Database that the client asks for.
    pub database: &'a str,
    /// User that the client wants to be.
    pub user: &'a str,
    /// Physical replication (`replication=true`); logical replication names its database as usual.
    pub physical_replication: bool,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct HbaError {
    /// Line in the file, from 1.
    pub line: u32,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// A quote is not closed.
    #[error("a double quote is not closed")]
    OpenQuote,
    /// The line ends too early.
    #[error("end of line before {0}")]
    Missing(&'static str),
    /// Several words where one belongs.
    #[error("more than one value for {0}")]
    Several(&'static str),
    /// More than one rule where one belongs.
    #[error("expected exactly one rule")]
    NotOneRule,
    /// The first word.
    #[error("invalid connection type \"{0}\" (known: local, host, hostssl, hostnossl)")]
    Connection(String),
    /// PostgreSQL knows it, we do not.
    #[error("\"{word}\": {why}")]
    Unsupported {
        /// As written.
        word: String,
        /// What to do instead.
        why: &'static str,
    },
    /// No address.
    #[error("invalid address \"{0}\": expected all, an IP address with /length, or an address and a mask")]
    Address(String),
    /// A mask that is none, or of the other family.
    #[error("invalid mask \"{mask}\" for address \"{address}\"")]
    Mask {
        /// The address before it.
        address: String,
        /// As written.
        mask: String,
    },
    /// No method.
    #[error(
        "invalid authentication method \"{0}\" (known: trust, reject, scram-sha-256, scram-sha-256-plus, md5, \
         password, cert, peer)"
    )]
    Method(String),
    /// A method on a kind of connection where it cannot work.
    #[error("method \"{method}\" works on {on} connections only")]
    MethodPlace {
        /// Method.
        method: Method,
        /// Where it works.
        on: &'static str,
    },
    /// An option that is not `name=value`.
    #[error("authentication option not in name=value format: \"{0}\"")]
    OptionShape(String),
    /// An option that is not known.
    #[error("unrecognized authentication option name: \"{0}\" (known: map, clientcert, clientname)")]
    Option(String),
    /// An option's value.
    #[error("invalid value for {name}: \"{value}\" ({known})")]
    OptionValue {
        /// Option.
        name: &'static str,
        /// As written.
        value: String,
        /// What it may be.
        known: &'static str,
    },
    /// An option where it has no meaning.
    #[error("option {name} means nothing here: {why}")]
    OptionPlace {
        /// Option.
        name: &'static str,
        /// Where it has one.
        why: &'static str,
    },
}

/// Reads the whole of a pg_hba.conf, or names every line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Rule>, Vec<HbaError>> {
    let mut rules = Vec::new();
    let mut errors = Vec::new();
    for line in tokens::lines(text) {
        match line.fields.ok_or(Problem::OpenQuote).and_then(|fields| parse_fields(line.number, fields)) {
            Ok(rule) => rules.push(rule),
            Err(problem) => errors.push(HbaError { line: line.number, problem }),
        }
    }
    if errors.is_empty() { Ok(rules) } else { Err(errors) }
}

/// Reads one rule that stands alone, as in a settings file.
pub fn parse_rule(text: &str) -> Result<Rule, Problem> {
    let mut lines = tokens::lines(text).into_iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => parse_fields(0, line.fields.ok_or(Problem::OpenQuote)?),
        _ => Err(Problem::NotOneRule),
    }
}

/// The rule that decides, if any.
#[must_use]
pub fn decide<'a>(rules: &'a [Rule], facts: &Facts<'_>) -> Option<&'a Rule> {
    rules.iter().find(|rule| rule.fits(facts))
}

fn unsupported(word: &Word, why: &'static str) -> Problem {
    Problem::Unsupported { word: word.text.clone(), why }
}

fn single(field: Option<Field>, what: &'static str) -> Result<Word, Problem> {
    let field = field.ok_or(Problem::Missing(what))?;
    match <[Word; 1]>::try_from(field) {
        Ok([word]) if word.begins('@') => Err(unsupported(&word, "included files are not supported")),
        Ok([word]) => Ok(word),
        Err(_) => Err(Problem::Several(what)),
    }
}

fn parse_fields(line: u32, fields: Vec<Field>) -> Result<Rule, Problem> {
    let mut fields = fields.into_iter();
    let connection = parse_connection(&single(fields.next(), "connection type")?)?;
    let databases = fields.next().ok_or(Problem::Missing("database"))?;
    let databases = databases.into_iter().map(parse_database).collect::<Result<Vec<_>, _>>()?;
    let users = fields.next().ok_or(Problem::Missing("user"))?;
    let users = users.into_iter().map(parse_user).collect::<Result<Vec<_>, _>>()?;
    let address = match connection {
        Connection::Local => Address::All,
        Connection::Host | Connection::HostSsl | Connection::HostNoSsl => parse_address(&mut fields)?,
    };
    let method = parse_method(&single(fields.next(), "authentication method")?, connection)?;
    let client_certificate = ClientCertificate::NotAsked;
    let mut rule =
        Rule { line, connection, databases, users, address, method, map: None, client_certificate };
    for field in fields {
        for word in field {
            rule.apply_option(&word.text)?;
        }
    }
    rule.check_options()?;
    Ok(rule)
}

fn parse_connection(word: &Word) -> Result<Connection, Problem> {
    match word.text.as_str() {
        "local" => Ok(Connection::Local),
        // Nothing here is ever under GSSAPI encryption.
        "host" | "hostnogssenc" => Ok(Connection::Host),
        "hostssl" => Ok(Connection::HostSsl),
        "hostnossl" => Ok(Connection::HostNoSsl),
        "hostgssenc" => Err(unsupported(word, "GSSAPI encryption is not supported, remove the line")),
        "include" | "include_if_exists" | "include_dir" => {
            Err(unsupported(word, "included files are not supported, write the lines here"))
        }
        other => Err(Problem::Connection(other.to_owned())),
    }
}

fn parse_database(word: Word) -> Result<DatabaseName, Problem> {
    if word.is("all") {
        Ok(DatabaseName::All)
    } else if word.is("sameuser") {
        Ok(DatabaseName::SameUser)
    } else if word.is("replication") {
        Ok(DatabaseName::Replication)
    } else if word.is("samerole") || word.is("samegroup") {
        Err(unsupported(&word, "group membership is known to the server only, name the databases"))
    } else {
        literal(word, "database").map(DatabaseName::Literal)
    }
}

fn parse_user(word: Word) -> Result<UserName, Problem> {
    if word.is("all") {
        Ok(UserName::All)
    } else if word.begins('+') {
        Err(unsupported(&word, "group membership is known to the server only, name the users"))
    } else {
        literal(word, "user").map(UserName::Literal)
    }
}

fn literal(word: Word, what: &'static str) -> Result<String, Problem> {
    if word.begins('@') {
        Err(unsupported(&word, "included files are not supported, write the names here"))
    } else if word.text.starts_with('/') {
        Err(unsupported(&word, "regular expressions are not supported here, write the names"))
    } else if word.text.is_empty() {
        Err(Problem::Missing(what))
    } else {
        Ok(word.text)
    }
}

fn parse_address(fields: &mut impl Iterator<Item = Field>) -> Result<Address, Problem> {
    let word = single(fields.next(), "address")?;
    if word.is("all") {
        return Ok(Address::All);
    }
    if word.is("samehost") || word.is("samenet") {
        return Err(unsupported(&word, "write the addresses in CIDR notation"));
    }
    if let Ok(network) = word.text.parse::<IpNet>() {
        return Ok(Address::Network(network.trunc()));
    }
    match word.text.parse::<IpAddr>() {
        Ok(address) => {
            let mask = single(fields.next(), "mask")?.text;
            let wrong = || Problem::Mask { address: word.text.clone(), mask: mask.clone() };
            let parsed: IpAddr = mask.parse().map_err(|_| wrong())?;
            // The crate would take the length of the other family's mask.
            if parsed.is_ipv4() != address.is_ipv4() {
                return Err(wrong());
            }
            let network = IpNet::with_netmask(address, parsed).map_err(|_| wrong())?;
            Ok(Address::Network(network.trunc()))
        }
        Err(_) if word.text.starts_with(|c: char| c.is_ascii_digit()) || word.text.contains([':', '/']) => {
            Err(Problem::Address(word.text))
        }
        Err(_) => Err(unsupported(&word, "host names are not supported, write the address")),
    }
}

fn parse_method(word: &Word, connection: Connection) -> Result<Method, Problem> {
    let method = match word.text.as_str() {
        "trust" => Method::Trust,
        "reject" => Method::Reject,
        "scram-sha-256" => Method::ScramSha256,
        "scram-sha-256-plus" => Method::ScramSha256Plus,
        "md5" => Method::Md5,
        "password" => Method::Password,
        "cert" => Method::Cert,
        "peer" => Method::Peer,
        // PostgreSQL takes it for peer on a Unix socket.
        "ident" if connection == Connection::Local => Method::Peer,
        "ident" | "gss" | "sspi" | "ldap" | "radius" | "pam" | "bsd" | "oauth" => {
            return Err(unsupported(word, "this authentication method is not supported"));
        }
        other => return Err(Problem::Method(other.to_owned())),
    };
    match (method, connection) {
        (Method::Cert, Connection::HostSsl) | (Method::Peer, Connection::Local) => Ok(method),
        (Method::Cert, _) => Err(Problem::MethodPlace { method, on: "hostssl" }),
        (Method::Peer, _) => Err(Problem::MethodPlace { method, on: "local" }),
        (Method::ScramSha256Plus, Connection::Local | Connection::HostNoSsl) => {
            Err(Problem::MethodPlace { method, on: "hostssl" })
        }
        _ => Ok(method),
    }
}

impl Rule {
    fn apply_option(&mut self, text: &str) -> Result<(), Problem> {
        let (name, value) = text.split_once('=').ok_or_else(|| Problem::OptionShape(text.to_owned()))?;
        match name {
            "map" => self.map = Some(value.to_owned()),
            "clientcert" => {
                self.client_certificate = match value {
                    "verify-ca" => ClientCertificate::VerifyCa,
                    "verify-full" => ClientCertificate::VerifyFull,
                    other => {
                        let known = "known: verify-ca, verify-full";
                        return Err(Problem::OptionValue {
                            name: "clientcert",
                            value: other.to_owned(),
                            known,
                        });
                    }
                }
            }
            "clientname" if value == "CN" => {}
            "clientname" => {
                let known = "known: CN; DN is not supported";
                return Err(Problem::OptionValue { name: "clientname", value: value.to_owned(), known });
            }
            other => return Err(Problem::Option(other.to_owned())),
        }
        Ok(())
    }

    fn check_options(&self) -> Result<(), Problem> {
        let certificate = self.client_certificate;
        if certificate != ClientCertificate::NotAsked && self.connection != Connection::HostSsl {
            let why = "it works on hostssl lines only";
            return Err(Problem::OptionPlace { name: "clientcert", why });
        }
        if certificate == ClientCertificate::VerifyCa && self.method == Method::Cert {
            let why = "method cert always verifies the name, as verify-full does";
            return Err(Problem::OptionPlace { name: "clientcert", why });
        }
        let maps = matches!(self.method, Method::Cert | Method::Peer);
        if self.map.is_some() && !maps && certificate != ClientCertificate::VerifyFull {
            let why = "it works with methods cert and peer and with clientcert=verify-full";
            return Err(Problem::OptionPlace { name: "map", why });
        }
        Ok(())
    }

    /// Whether the rule is about this client.
    #[must_use]
    pub fn fits(&self, facts: &Facts<'_>) -> bool {
        let connection = match (self.connection, facts.address) {
            (Connection::Local, None) | (Connection::Host, Some(_)) => true,
            (Connection::HostSsl, Some(_)) => facts.tls,
            (Connection::HostNoSsl, Some(_)) => !facts.tls,
            (Connection::Local, Some(_)) | (_, None) => false,
        };
        let address = match (&self.address, facts.address) {
            (Address::All, _) => true,
            // A listener for both families sees IPv4 clients as ::ffff:a.b.c.d.
            (Address::Network(network), Some(address)) => network.contains(&address.to_canonical()),
            (Address::Network(_), None) => false,
        };
        let database = self.databases.iter().any(|name| match name {
            DatabaseName::Replication => facts.physical_replication,
            _ if facts.physical_replication => false,
            DatabaseName::All => true,
            DatabaseName::SameUser => facts.database == facts.user,
            DatabaseName::Literal(name) => name == facts.database,
        });
        let user = self.users.iter().any(|name| match name {
            UserName::All => true,
            UserName::Literal(name) => name == facts.user,
        });
        connection && address && database && user
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Host => "host",
            Self::HostSsl => "hostssl",
            Self::HostNoSsl => "hostnossl",
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trust => "trust",
            Self::Reject => "reject",
            Self::ScramSha256 => "scram-sha-256",
            Self::ScramSha256Plus => "scram-sha-256-plus",
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::Cert => "cert",
            Self::Peer => "peer",
        })
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::SameUser => f.write_str("sameuser"),
            Self::Replication => f.write_str("replication"),
            Self::Literal(name) => f.write_str(&quote(name, DATABASE_KEYWORDS)),
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Literal(name) => f.write_str(&quote(name, USER_KEYWORDS)),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, names: &[impl fmt::Display]) -> fmt::Result {
    for (index, name) in names.iter().enumerate() {
        write!(f, "{}{name}", if index == 0 { " " } else { "," })?;
    }
    Ok(())
}

/// As a line of pg_hba.conf that is read back as the same rule.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.connection)?;
        list(f, &self.databases)?;
        list(f, &self.users)?;
        match (&self.address, self.connection) {
            (_, Connection::Local) => {}
            (Address::All, _) => f.write_str(" all")?,
            (Address::Network(network), _) => write!(f, " {network}")?,
        }
        write!(f, " {}", self.method)?;
        if let Some(map) = &self.map {
            write!(f, " map={}", quote(map, &[]))?;
        }
        match self.client_certificate {
            ClientCertificate::NotAsked => Ok(()),
            ClientCertificate::VerifyCa => f.write_str(" clientcert=verify-ca"),
            ClientCertificate::VerifyFull => f.write_str(" clientcert=verify-full"),
        }
    }
}

#[cfg(test)]
#[path = "hba_tests.rs"]
mod tests;
