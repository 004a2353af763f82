//! One connection of the scripted client.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};

use super::tls::{self, TlsStream};
use super::{Backend, TlsOptions, messages};
use crate::Account;

/// An answer takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
    Unix(UnixStream),
}

/// What BackendKeyData says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// Process number.
    pub process: i32,
    /// Secret: 4 bytes up to protocol 3.0, up to 256 bytes from 3.2 on.
    pub secret: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    /// ParameterStatus in the order in which they came.
    pub parameters: Vec<(String, String)>,
    /// BackendKeyData.
    pub key: Option<CancelKey>,
    /// SASL mechanisms that were offered.
    pub mechanisms: Vec<String>,
    /// Newest minor version and unknown options of NegotiateProtocolVersion.
    pub negotiated: Option<(u32, Vec<String>)>,
}

impl Client {
    /// TCP, and nothing said yet.
    #[track_caller]
    pub fn connect(port: u16) -> Self {
        Self::try_connect(port).expect("a connection")
    }

    /// As [`Self::connect`], where nobody may be listening.
    pub fn try_connect(port: u16) -> io::Result<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(Stream::Plain(tcp)))
    }

    /// A Unix socket in this folder.
    #[track_caller]
    pub fn connect_unix(folder: &Path, port: u16) -> Self {
        let unix = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).expect("a connection");
        unix.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        Self::over(Stream::Unix(unix))
    }

    /// TLS by SSLRequest.
    #[track_caller]
    pub fn connect_tls(port: u16, options: &TlsOptions) -> Self {
        let mut client = Self::connect(port);
        assert_eq!(client.ask(messages::SSL_REQUEST), b'S', "the server has no TLS");
        client.begin_tls(options).expect("a TLS handshake")
    }

    /// TLS from the first byte, as `sslnegotiation=direct`.
    pub fn connect_tls_direct(port: u16, options: &TlsOptions) -> io::Result<Self> {
        Self::connect(port).begin_tls(options)
    }

    /// Logged in, in the clear.
    #[track_caller]
    pub fn login(port: u16, account: &Account) -> Self {
        Self::login_with(port, account, &[])
    }

    /// Logged in, with more startup parameters.
    #[track_caller]
    pub fn login_with(port: u16, account: &Account, parameters: &[(&str, &str)]) -> Self {
        let mut client = Self::connect(port);
        client.try_login(account, parameters).unwrap_or_else(|error| panic!("login refused: {error:?}"));
        client
    }

    /// Logged in, under TLS.
    #[track_caller]
    pub fn login_tls(port: u16, account: &Account, options: &TlsOptions) -> Self {
        let mut client = Self::connect_tls(port, options);
        client.try_login(account, &[]).unwrap_or_else(|error| panic!("login refused: {error:?}"));
        client
    }

    fn over(stream: Stream) -> Self {
        Self { stream, parameters: Vec::new(), key: None, mechanisms: Vec::new(), negotiated: None }
    }

    /// SSLRequest or GSSENCRequest and its answer of one byte.
    #[track_caller]
    pub fn ask(&mut self, request: u32) -> u8 {
        self.send(&messages::packet(request, &[]));
        let mut answer = [0];
        self.read_exact(&mut answer).expect("an answer");
        answer[0]
    }

    /// Speaks TLS from here on.
    pub fn begin_tls(self, options: &TlsOptions) -> io::Result<Self> {
        let Stream::Plain(tcp) = self.stream else { panic!("TLS needs a TCP connection") };
        Ok(Self::over(Stream::Tls(Box::new(tls::begin(tcp, options)?))))
    }

    /// What the server chose in ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.stream {
            Stream::Tls(stream) => stream.conn.alpn_protocol(),
            _ => None,
        }
    }

    /// How long an answer may take, instead of 20 seconds.
    pub fn set_patience(&self, patience: Duration) {
        let set = match &self.stream {
            Stream::Plain(tcp) => tcp.set_read_timeout(Some(patience)),
            Stream::Tls(tls) => tls.sock.set_read_timeout(Some(patience)),
            Stream::Unix(unix) => unix.set_read_timeout(Some(patience)),
        };
        set.expect("a read timeout");
    }

    /// Logs in with protocol 3.0 and the password of `account`, by whatever method is asked for.
    pub fn try_login(&mut self, account: &Account, parameters: &[(&str, &str)]) -> Result<(), Backend> {
        self.try_login_as(messages::V3_0, account, parameters)
    }

    /// As [`Self::try_login`], with another protocol version.
    pub fn try_login_as(
        &mut self,
        version: u32,
        account: &Account,
        parameters: &[(&str, &str)],
    ) -> Result<(), Backend> {
        self.begin_session(version, account, parameters).expect("answers to a login")
    }

    /// As [`Self::try_login`], where whoever is asked may go away.
    pub fn login_or_lose(
        &mut self,
        account: &Account,
        parameters: &[(&str, &str)],
    ) -> io::Result<Result<(), Backend>> {
        self.begin_session(messages::V3_0, account, parameters)
    }

    fn begin_session(
        &mut self,
        version: u32,
        account: &Account,
        parameters: &[(&str, &str)],
    ) -> io::Result<Result<(), Backend>> {
        let mut all = vec![("user", account.user.as_str()), ("database", account.database.as_str())];
        all.extend_from_slice(parameters);
        self.try_send(&messages::startup(version, &all))?;
        match self.authenticate(account)? {
            Ok(()) => self.until_ready_for_query(),
            refused => Ok(refused),
        }
    }

    /// Answers what the server asks until it is satisfied.
    fn authenticate(&mut self, account: &Account) -> io::Result<Result<(), Backend>> {
        let mut scram: Option<ScramSha256> = None;
        loop {
            let message = self.try_read()?;
            match message.tag {
                b'E' => return Ok(Err(message)),
                b'v' => self.note_negotiation(&message),
                b'N' => {}
                b'R' => {}
                _ => panic!("{message:?} during login"),
            }
            if message.tag != b'R' {
                continue;
            }
            let (kind, data) = message.body.split_first_chunk::<4>().expect("an authentication code");
            match u32::from_be_bytes(*kind) {
                0 => return Ok(Ok(())),
                3 => self.try_send(&messages::password(&account.password))?,
                5 => {
                    let salt = data.try_into().expect("a salt of four bytes");
                    let hash = md5_hash(account.user.as_bytes(), account.password.as_bytes(), salt);
                    self.try_send(&messages::password(&hash))?;
                }
                10 => scram = Some(self.begin_scram(data, account)?),
                11 => {
                    let exchange = scram.as_mut().expect("SASL has begun");
                    exchange.update(data).expect("a server-first-message");
                    let answer = messages::message(b'p', exchange.message());
                    self.try_send(&answer)?;
                }
                12 => scram.as_mut().expect("SASL has begun").finish(data).expect("the server's signature"),
                other => panic!("authentication request {other}"),
            }
        }
    }

    fn begin_scram(&mut self, offered: &[u8], account: &Account) -> io::Result<ScramSha256> {
        self.mechanisms = offered
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        let plus = self.mechanisms.iter().any(|name| name == SCRAM_SHA_256_PLUS);
        let (mechanism, binding) = match &self.stream {
            Stream::Tls(stream) if plus => {
                (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(tls::end_point(stream)))
            }
            Stream::Tls(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            _ => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        let exchange = ScramSha256::new(account.password.as_bytes(), binding);
        let first = messages::sasl_initial(mechanism, exchange.message());
        self.try_send(&first)?;
        Ok(exchange)
    }

    fn until_ready_for_query(&mut self) -> io::Result<Result<(), Backend>> {
        loop {
            let message = self.try_read()?;
            match message.tag {
                b'E' => return Ok(Err(message)),
                b'S' => {
                    let mut pair = message.strings().into_iter();
                    self.parameters.push((pair.next().unwrap_or_default(), pair.next().unwrap_or_default()));
                }
                b'K' => {
                    let (process, secret) = message.body.split_first_chunk::<4>().expect("a process number");
                    self.key =
                        Some(CancelKey { process: i32::from_be_bytes(*process), secret: secret.to_vec() });
                }
                b'v' => self.note_negotiation(&message),
                b'N' => {}
                b'Z' => return Ok(Ok(())),
                _ => panic!("{message:?} during login"),
            }
        }
    }

    fn note_negotiation(&mut self, message: &Backend) {
        let version = u32::from_be_bytes(message.body[..4].try_into().expect("four bytes"));
        let names = message.body[8..]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        self.negotiated = Some((version, names));
    }

    /// What the server said about this parameter last.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the bytes are taken");
    }

    /// Sends bytes to somebody who may have gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.read_exact(into),
            Stream::Tls(stream) => stream.read_exact(into),
            Stream::Unix(stream) => stream.read_exact(into),
        }
    }

    /// The next message.
    #[track_caller]
    pub fn read(&mut self) -> Backend {
        match self.try_read() {
            Ok(message) => message,
            Err(error) => panic!("no message: {error}"),
        }
    }

    /// The next message, or why there is none: `UnexpectedEof` and `ConnectionReset` are a closed connection, `WouldBlock` is none yet.
    pub fn try_read(&mut self) -> io::Result<Backend> {
        let mut header = [0; 5];
        self.read_exact(&mut header)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let length = length.checked_sub(4).ok_or_else(|| io::Error::other("a length below 4"))?;
        let mut body = vec![0; length as usize];
        self.read_exact(&mut body)?;
        Ok(Backend { tag: header[0], body })
    }

    /// Reads the next message up to its body, then its body in pieces, and keeps nothing; returns tag and length of the body.
    pub fn skim(&mut self) -> io::Result<(u8, u64)> {
        let mut header = [0; 5];
        self.read_exact(&mut header)?;
        let length = u64::from(u32::from_be_bytes([header[1], header[2], header[3], header[4]])) - 4;
        let mut buffer = vec![0; 1 << 18];
        let mut left = length;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.read_exact(&mut buffer[..piece])?;
            left -= piece as u64;
        }
        Ok((header[0], length))
    }

    /// Messages up to and including ReadyForQuery.
    #[track_caller]
    pub fn read_until_ready(&mut self) -> Vec<Backend> {
        let mut messages = Vec::new();
        loop {
            match self.try_read() {
                Ok(message) => messages.push(message),
                Err(error) => panic!("no ReadyForQuery ({error}) after {messages:?}"),
            }
            if messages.last().is_some_and(|message| message.tag == b'Z') {
                return messages;
            }
        }
    }

    /// The next messages, which have to have these tags.
    #[track_caller]
    pub fn expect(&mut self, tags: &str) -> Vec<Backend> {
        let mut messages: Vec<Backend> = Vec::new();
        for tag in tags.bytes() {
            match self.try_read() {
                Ok(message) if message.tag == tag => messages.push(message),
                Ok(message) => {
                    panic!("{message:?} instead of {}, wanted {tags} after {messages:?}", char::from(tag))
                }
                Err(error) => {
                    panic!("{error} instead of {}, wanted {tags} after {messages:?}", char::from(tag))
                }
            }
        }
        messages
    }

    /// A simple query; its messages up to ReadyForQuery.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Vec<Backend> {
        self.send(&messages::query(sql));
        self.read_until_ready()
    }

    /// A simple query that has to answer with one row; its first column.
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        let messages = self.query(sql);
        let rows: Vec<&Backend> = messages.iter().filter(|message| message.tag == b'D').collect();
        assert_eq!(rows.len(), 1, "{sql} gave {messages:?}");
        rows[0].first()
    }

    /// A simple query that must not fail.
    #[track_caller]
    pub fn execute(&mut self, sql: &str) {
        let messages = self.query(sql);
        assert!(messages.iter().all(|message| message.tag != b'E'), "{sql} gave {messages:?}");
    }

    /// A simple query that has to fail; the error.
    #[track_caller]
    pub fn error(&mut self, sql: &str) -> Backend {
        let messages = self.query(sql);
        match messages.iter().find(|message| message.tag == b'E') {
            Some(error) => error.clone(),
            None => panic!("{sql} gave {messages:?}"),
        }
    }

    /// Fails unless the other side closes the connection; returns what it says before.
    #[track_caller]
    pub fn expect_closed(&mut self) -> Vec<Backend> {
        let mut messages = Vec::new();
        loop {
            match self.try_read() {
                Ok(message) => messages.push(message),
                Err(error) if is_closed(&error) => return messages,
                Err(error) => panic!("not closed ({error}) after {messages:?}"),
            }
        }
    }

    /// Fails if anything comes within this time.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) {
        self.set_patience(time);
        match self.try_read() {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => panic!("closed instead of silent: {error}"),
            Ok(message) => panic!("{message:?} instead of silence"),
        }
        self.set_patience(PATIENCE);
    }

    /// Says goodbye and waits for the other side to close.
    pub fn terminate(mut self) {
        if self.try_send(&messages::terminate()).is_ok() {
            while self.try_read().is_ok() {}
        }
    }

    /// Ends our half of the connection.
    pub fn shut_write(&self) {
        // It may have ended already.
        let _ = match &self.stream {
            Stream::Plain(tcp) => tcp.shutdown(Shutdown::Write),
            Stream::Tls(tls) => tls.sock.shutdown(Shutdown::Write),
            Stream::Unix(unix) => unix.shutdown(Shutdown::Write),
        };
    }

    /// Says farewell in TLS, and goes on talking in the same breath; the connection stays open.
    pub fn talk_after_tls_farewell(&mut self, bytes: &[u8]) {
        let Stream::Tls(tls) = &mut self.stream else { panic!("there is no TLS") };
        tls.conn.send_close_notify();
        let mut all = Vec::new();
        while tls.conn.wants_write() {
            tls.conn.write_tls(&mut all).expect("memory takes it");
        }
        all.extend_from_slice(bytes);
        tls.sock.write_all(&all).expect("the bytes are taken");
    }

    /// A second handle on the same plain TCP connection, so that one thread writes and another reads.
    pub fn second_handle(&self) -> Self {
        let Stream::Plain(tcp) = &self.stream else { panic!("only plain connections have two handles") };
        Self::over(Stream::Plain(tcp.try_clone().expect("a second handle")))
    }
}

/// Whether this means that the other side closed the connection.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
