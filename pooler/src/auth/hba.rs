//! Rules that say which client may log in how, in the manner of pg_hba.conf.
//! Pure. The first rule that fits decides; when none fits the client is refused.

use std::net::IpAddr;

use ipnet::IpNet;

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
