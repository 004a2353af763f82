//! One operator: simple and extended protocol over a stream whose client is logged in.
//!
//! The crate pgwire reads and writes the messages. Its codec trusts lengths inside of a message, so a message that
//! makes it panic counts as a violation of the protocol. What to do with a message is decided here, because a SHOW has
//! a tag without a count, and a PAUSE may take long while the operator leaves.

use super::grammar::{self, COMMANDS, Statement};
use super::tokens::{self, Token};
use super::{Failure, Field, Outcome, catalog};
use crate::door::{Door, Facts, Refused, Role};
use crate::tables::{self, Kind, PGBOUNCER_VERSION, Row, Table, Value, version_text};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use pgwire::api::{ClientInfo, DefaultClient, PgWireConnectionState};
use pgwire::error::ErrorInfo;
use pgwire::messages::data::{DataRow, FieldDescription, NoData, ParameterDescription, RowDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, CloseComplete, Describe, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{BackendKeyData, ParameterStatus, SecretKey};
use pgwire::messages::{PgWireBackendMessage as Reply, PgWireFrontendMessage as Message};
use pgwire::tokio::server::PgWireMessageServerCodec;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Decoder, Encoder, Framed, FramedParts};

/// Messages that are read ahead while an order is being carried out.
const READ_AHEAD: usize = 64;

/// Prepared statements and portals of one operator, at most.
const MOST_PREPARED: usize = 1000;

/// Who is there, proven by the pooler.
#[derive(Debug, Clone)]
pub struct Guest {
    /// As whom.
    pub user: String,
    /// On which database: `hawser` or `pgbouncer`.
    pub database: String,
    /// What it may do.
    pub role: Role,
    /// The version of this program.
    pub version: String,
    /// What is to be said first: the end of the exchange in which it logged in.
    pub greeting: Vec<u8>,
    /// What it has said after that already.
    pub input: Vec<u8>,
    /// What it is told for cancelling: a number and a key.
    pub cancel_key: (u32, Vec<u8>),
}

/// Parameters that a client is told at login. Source: PgBouncer's `admin_setup` in `src/admin.c`.
#[must_use]
pub fn welcome() -> [(&'static str, String); 7] {
    [
        ("server_version", format!("{PGBOUNCER_VERSION}/bouncer")),
        ("client_encoding", "UTF8".to_owned()),
        ("server_encoding", "UTF8".to_owned()),
        ("DateStyle", "ISO".to_owned()),
        ("TimeZone", "GMT".to_owned()),
        ("standard_conforming_strings", "on".to_owned()),
        ("is_superuser", "on".to_owned()),
    ]
}

/// Serves an operator until it leaves.
///
/// # Errors
/// The connection failed, or the protocol was broken.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    guest: Guest,
    door: Door,
) -> io::Result<()> {
    tokio::io::AsyncWriteExt::write_all(&mut stream, &guest.greeting).await?;
    let mut client = DefaultClient::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), false);
    client.set_state(PgWireConnectionState::ReadyForQuery);
    let mut parts = FramedParts::new::<Reply>(stream, Codec(PgWireMessageServerCodec::new(client)));
    parts.read_buf = BytesMut::from(guest.input.as_slice());
    let mut session = Session {
        line: Framed::from_parts(parts),
        door,
        guest,
        ahead: VecDeque::new(),
        statements: HashMap::new(),
        portals: HashMap::new(),
        skipping: false,
    };
    session.greet().await?;
    session.run().await
}

/// pgwire's codec, held to the length of what is there.
struct Codec(PgWireMessageServerCodec<()>);

impl Decoder for Codec {
    type Item = Message;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<Message>> {
        match catch_unwind(AssertUnwindSafe(|| self.0.decode(source))) {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "malformed message")),
        }
    }
}

impl Encoder<Reply> for Codec {
    type Error = io::Error;

    fn encode(&mut self, item: Reply, target: &mut BytesMut) -> io::Result<()> {
        self.0.encode(item, target)
    }
}

/// A statement as Parse left it.
#[derive(Clone)]
struct Prepared {
    /// `None`: there is nothing in the text.
    statement: Option<Statement>,
    /// Types of its parameters, as numbers.
    types: Vec<u32>,
}

/// A statement with its parameters.
struct Portal {
    prepared: Prepared,
    parameters: Vec<Value>,
    formats: Vec<i16>,
    /// Rows that were not fetched yet, and the tag at the end.
    rest: Option<(VecDeque<Row>, String)>,
}

struct Session<S> {
    line: Framed<S, Codec>,
    door: Door,
    guest: Guest,
    ahead: VecDeque<Message>,
    statements: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    /// Something failed: everything up to the next Sync is left out.
    skipping: bool,
}

/// Why a message was not carried out.
enum Trouble {
    /// The operator is told, and goes on.
    Failed(Failure),
    /// There is nobody to tell.
    Lost(io::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn greet(&mut self) -> io::Result<()> {
        for (name, value) in welcome() {
            let status = ParameterStatus::new(name.to_owned(), value);
            self.line.feed(Reply::ParameterStatus(status)).await?;
        }
        let (number, key) = self.guest.cancel_key.clone();
        let number = i32::try_from(number).unwrap_or(0);
        let key = BackendKeyData::new(number, SecretKey::Bytes(Bytes::from(key)));
        self.line.feed(Reply::BackendKeyData(key)).await?;
        self.ready().await
    }

    async fn ready(&mut self) -> io::Result<()> {
        self.line.send(Reply::ReadyForQuery(ReadyForQuery::new(TransactionStatus::Idle))).await
    }

    async fn run(&mut self) -> io::Result<()> {
        loop {
            let message = match self.ahead.pop_front() {
                Some(message) => message,
                None => match self.line.next().await {
                    None => return Ok(()),
                    Some(message) => message?,
                },
            };
            if matches!(message, Message::Terminate(_)) {
                return Ok(());
            }
            match self.obey(message).await {
                Ok(()) => {}
                Err(Trouble::Lost(error)) => return Err(error),
                Err(Trouble::Failed(failure)) => self.fail(&failure).await?,
            }
        }
    }

    async fn obey(&mut self, message: Message) -> Result<(), Trouble> {
        if self.skipping && !matches!(message, Message::Sync(_)) {
            return Ok(());
        }
        match message {
            Message::Query(query) => self.query(&query.query).await?,
            Message::Sync(_) => {
                self.skipping = false;
                self.portals.remove("");
                self.ready().await?;
            }
            Message::Flush(_) => self.line.flush().await?,
            extended => {
                // Whatever fails from here on, the rest of the batch is left out.
                self.skipping = true;
                self.extended(extended).await?;
                self.skipping = false;
            }
        }
        Ok(())
    }

    async fn extended(&mut self, message: Message) -> Result<(), Trouble> {
        match message {
            Message::Parse(parse) => self.parse(parse).await,
            Message::Bind(bind) => self.bind(bind).await,
            Message::Describe(describe) => self.describe(describe).await,
            Message::Execute(execute) => self.execute(execute).await,
            Message::Close(close) => {
                let name = close.name.unwrap_or_default();
                if close.target_type == TARGET_TYPE_BYTE_STATEMENT {
                    self.statements.remove(&name);
                } else {
                    self.portals.remove(&name);
                }
                Ok(self.line.feed(Reply::CloseComplete(CloseComplete::new())).await?)
            }
            _ => Err(Failure::new("08P01", "the console does not know this message").into()),
        }
    }

    async fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        let told = ErrorInfo::new("ERROR".to_owned(), failure.sqlstate.to_owned(), failure.words.clone());
        self.line.send(Reply::ErrorResponse(told.into())).await
    }

    /// The simple protocol: statement by statement, to the first that fails.
    async fn query(&mut self, text: &str) -> Result<(), Trouble> {
        let statements = match tokens::statements(text) {
            Ok(statements) => statements,
            Err(failure) => {
                self.fail(&failure).await?;
                return Ok(self.ready().await?);
            }
        };
        if statements.is_empty() {
            self.line.feed(Reply::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
        }
        for tokens in statements {
            match self.one(&tokens, text).await {
                Ok(()) => {}
                Err(Trouble::Failed(failure)) => {
                    self.fail(&failure).await?;
                    break;
                }
                Err(lost) => return Err(lost),
            }
        }
        Ok(self.ready().await?)
    }

    async fn one(&mut self, tokens: &[Token], text: &str) -> Result<(), Trouble> {
        let statement = grammar::read(tokens, text)?;
        if !parameters_of(&statement).is_empty() {
            return Err(Failure::new("42P02", "there is no parameter $1").into());
        }
        let outcome = self.carry_out(&statement, &[]).await?;
        if let Some((fields, _)) = &outcome.result {
            self.line.feed(description(fields, &[])).await?;
        }
        let (rows, tag) = self.begin_result(outcome).await?;
        for row in &rows {
            self.line.feed(data_row(row, &[])).await?;
        }
        Ok(self.line.feed(Reply::CommandComplete(CommandComplete::new(tag))).await?)
    }

    /// Says what stands beside the result, and hands out rows and tag.
    async fn begin_result(&mut self, outcome: Outcome) -> io::Result<(VecDeque<Row>, String)> {
        if let Some((words, detail)) = outcome.notice {
            let mut notice = ErrorInfo::new("NOTICE".to_owned(), "00000".to_owned(), words);
            notice.detail = Some(detail).filter(|detail| !detail.is_empty());
            self.line.feed(Reply::NoticeResponse(notice.into())).await?;
        }
        let rows = outcome.result.map(|(_, rows)| rows).unwrap_or_default();
        Ok((rows.into(), outcome.tag))
    }

    async fn parse(&mut self, parse: Parse) -> Result<(), Trouble> {
        let name = parse.name.unwrap_or_default();
        let statements = tokens::statements(&parse.query)?;
        let statement = match statements.as_slice() {
            [] => None,
            [one] => Some(grammar::read(one, &parse.query)?),
            _ => {
                return Err(
                    Failure::syntax("cannot insert multiple commands into a prepared statement").into()
                );
            }
        };
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(Failure::new("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        if self.statements.len() >= MOST_PREPARED {
            return Err(Failure::new("54000", "too many prepared statements").into());
        }
        let inferred = statement.as_ref().map(parameters_of).unwrap_or_default();
        let mut types: Vec<u32> = inferred.iter().map(|kind| kind.oid()).collect();
        for (place, given) in types.iter_mut().zip(&parse.type_oids) {
            if *given != 0 {
                *place = *given;
            }
        }
        self.statements.insert(name, Prepared { statement, types });
        Ok(self.line.feed(Reply::ParseComplete(ParseComplete::new())).await?)
    }

    async fn bind(&mut self, bind: Bind) -> Result<(), Trouble> {
        let name = bind.statement_name.unwrap_or_default();
        let unknown = || Failure::new("26000", format!("prepared statement \"{name}\" does not exist"));
        let prepared = self.statements.get(&name).cloned().ok_or_else(unknown)?;
        if bind.parameters.len() != prepared.types.len() {
            let words = format!(
                "bind message supplies {} parameters, but prepared statement \"{name}\" requires {}",
                bind.parameters.len(),
                prepared.types.len()
            );
            return Err(Failure::new("08P01", words).into());
        }
        let mut parameters = Vec::new();
        for (place, (bytes, oid)) in bind.parameters.iter().zip(&prepared.types).enumerate() {
            let format = format_of(&bind.parameter_format_codes, place);
            parameters.push(parameter(bytes.as_ref(), *oid, format)?);
        }
        let columns = prepared.statement.as_ref().and_then(fields_of).map_or(0, |fields| fields.len());
        let formats = bind.result_column_format_codes;
        if formats.len() > 1 && formats.len() != columns {
            let words =
                format!("bind message has {} result formats but query has {columns} columns", formats.len());
            return Err(Failure::new("08P01", words).into());
        }
        if self.portals.len() >= MOST_PREPARED {
            return Err(Failure::new("54000", "too many portals").into());
        }
        let portal = Portal { prepared, parameters, formats, rest: None };
        self.portals.insert(bind.portal_name.unwrap_or_default(), portal);
        Ok(self.line.feed(Reply::BindComplete(BindComplete::new())).await?)
    }

    async fn describe(&mut self, describe: Describe) -> Result<(), Trouble> {
        let name = describe.name.unwrap_or_default();
        let (prepared, formats) = if describe.target_type == TARGET_TYPE_BYTE_STATEMENT {
            let unknown = || Failure::new("26000", format!("prepared statement \"{name}\" does not exist"));
            let prepared = self.statements.get(&name).ok_or_else(unknown)?.clone();
            let types = ParameterDescription::new(prepared.types.clone());
            self.line.feed(Reply::ParameterDescription(types)).await?;
            (prepared, Vec::new())
        } else {
            let unknown = || Failure::new("34000", format!("portal \"{name}\" does not exist"));
            let portal = self.portals.get(&name).ok_or_else(unknown)?;
            (portal.prepared.clone(), portal.formats.clone())
        };
        let reply = match prepared.statement.as_ref().and_then(fields_of) {
            Some(fields) => description(&fields, &formats),
            None => Reply::NoData(NoData::new()),
        };
        Ok(self.line.feed(reply).await?)
    }

    async fn execute(&mut self, execute: Execute) -> Result<(), Trouble> {
        let name = execute.name.unwrap_or_default();
        let unknown = || Failure::new("34000", format!("portal \"{name}\" does not exist"));
        let mut portal = self.portals.remove(&name).ok_or_else(unknown)?;
        let outcome = self.fetch(&mut portal, usize::try_from(execute.max_rows).unwrap_or(0)).await;
        self.portals.insert(name, portal);
        outcome
    }

    /// Sends so many rows of a portal; 0 is all.
    async fn fetch(&mut self, portal: &mut Portal, limit: usize) -> Result<(), Trouble> {
        let (mut rows, tag) = match (portal.rest.take(), &portal.prepared.statement) {
            (Some(rest), _) => rest,
            (None, None) => {
                return Ok(self.line.feed(Reply::EmptyQueryResponse(EmptyQueryResponse::new())).await?);
            }
            (None, Some(statement)) => {
                let outcome = self.carry_out(statement, &portal.parameters).await?;
                self.begin_result(outcome).await?
            }
        };
        let mut sent = 0;
        while limit == 0 || sent < limit {
            let Some(row) = rows.pop_front() else {
                portal.rest = Some((rows, tag.clone()));
                return Ok(self.line.feed(Reply::CommandComplete(CommandComplete::new(tag))).await?);
            };
            self.line.feed(data_row(&row, &portal.formats)).await?;
            sent += 1;
        }
        portal.rest = Some((rows, tag));
        Ok(self.line.feed(Reply::PortalSuspended(PortalSuspended::new())).await?)
    }

    async fn carry_out(&mut self, statement: &Statement, parameters: &[Value]) -> Result<Outcome, Trouble> {
        let result = fields_of(statement);
        Ok(match statement {
            Statement::Show(table) => {
                let rows = self.rows(table).await?;
                Outcome { result: result.map(|fields| (fields, rows)), ..Outcome::done("SHOW") }
            }
            Statement::Query(query) => {
                let rows = self.rows(query.table).await?;
                let rows = query.run(rows, parameters)?;
                let tag = format!("SELECT {}", rows.len());
                Outcome { result: result.map(|fields| (fields, rows)), ..Outcome::done(tag) }
            }
            Statement::Help => Outcome { notice: Some(help()), ..Outcome::done("SHOW") },
            Statement::Faked(_, value) => {
                let rows = vec![vec![Value::text(*value)]];
                Outcome { result: result.map(|fields| (fields, rows)), ..Outcome::done("SHOW") }
            }
            Statement::Ignored => {
                let notice = ("SET ignored".to_owned(), String::new());
                Outcome { notice: Some(notice), ..Outcome::done("SET") }
            }
            Statement::Nothing(tag) => Outcome::done(*tag),
            Statement::Catalog(answer) => {
                let rows = match answer {
                    catalog::Answer::Nothing(_) => Vec::new(),
                    catalog::Answer::Row(row) => {
                        vec![row.iter().map(|(_, known)| self.known(known)).collect()]
                    }
                };
                let tag = format!("SELECT {}", rows.len());
                Outcome { result: result.map(|fields| (fields, rows)), ..Outcome::done(tag) }
            }
            Statement::Explain(database, text) => {
                let explained =
                    self.door.explain(database.clone(), text.clone()).await.map_err(Failure::from)?;
                let row = |one: crate::door::Explained| {
                    vec![
                        Value::Text(one.host),
                        Value::Text(one.access),
                        Value::Text(one.reason),
                        Value::Text(one.effects.join("; ")),
                        Value::Text(one.hosts.join(",")),
                        Value::optional(one.instead),
                    ]
                };
                let rows = explained.into_iter().map(row).collect();
                Outcome { result: result.map(|fields| (fields, rows)), ..Outcome::done("EXPLAIN") }
            }
            Statement::Order(order, tag) => {
                if self.guest.role < Role::Admin {
                    return Err(needs_admin().into());
                }
                tracing::info!(user = self.guest.user, command = tag.split('=').next(), "console");
                let door = self.door.clone();
                let order = order.clone();
                self.meanwhile(async move { door.order(order).await }).await??;
                Outcome::done(tag)
            }
        })
    }

    /// All rows of a table, if this operator may see it.
    async fn rows(&self, table: &Table) -> Result<Vec<Row>, Failure> {
        if self.guest.role < table.role {
            return Err(needs_admin());
        }
        let facts = if table.questions.is_empty() {
            Facts::default()
        } else {
            self.door.ask(table.questions).await?
        };
        Ok((table.rows)(&facts))
    }

    fn known(&self, known: &catalog::Known) -> Value {
        match known {
            catalog::Known::Constant(_, value) => value.clone(),
            catalog::Known::User => Value::text(&self.guest.user),
            catalog::Known::Database => Value::text(&self.guest.database),
            catalog::Known::Version => Value::text(version_text(&self.guest.version)),
        }
    }

    /// Waits for something while the operator may leave.
    async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = Result<T, Refused>>,
    ) -> io::Result<Result<T, Failure>> {
        tokio::pin!(work);
        loop {
            let room = self.ahead.len() < READ_AHEAD;
            tokio::select! {
                outcome = &mut work => return Ok(outcome.map_err(Failure::from)),
                message = self.line.next(), if room => match message {
                    None | Some(Ok(Message::Terminate(_))) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(message) => self.ahead.push_back(message?),
                },
            }
        }
    }
}

fn needs_admin() -> Failure {
    Failure::new("42501", "admin access needed")
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let sqlstate = match &refused {
            Refused::NoDatabase(_) => "3D000",
            Refused::NoClient(_) | Refused::NoSetting(_) | Refused::NoHost(_) => "42704",
            Refused::IsPrimary(_)
            | Refused::StillUsed { .. }
            | Refused::AlreadyPaused
            | Refused::DatabasesPaused
            | Refused::IsConsole { .. }
            | Refused::NotPaused
            | Refused::DatabaseNotPaused(_)
            | Refused::NoPrimary(_) => "55000",
            Refused::Resumed | Refused::HoldOver => "57014",
            Refused::WrongSettings(_) => "F0000",
            Refused::NeedsRestart(_) => "55P02",
            Refused::Leaving => "57P01",
        };
        Self::new(sqlstate, refused.to_string())
    }
}

/// What SHOW HELP says: words and detail, as in PgBouncer's `admin_show_help`.
fn help() -> (String, String) {
    let tables: Vec<String> = tables::all().map(|table| table.name.to_uppercase()).collect();
    let mut detail = format!("\n\tSHOW HELP|{}\n", tables.join("|"));
    for (usage, _) in COMMANDS.iter().skip(1) {
        detail.push_str(&format!("\t{usage}\n"));
    }
    ("Console usage".to_owned(), detail)
}

/// Columns of what a statement answers; `None` when it answers no rows.
fn fields_of(statement: &Statement) -> Option<Vec<Field>> {
    Some(match statement {
        Statement::Show(table) => {
            let field = |column: &tables::Column| Field { name: column.name.to_owned(), kind: column.kind };
            table.columns.iter().map(field).collect()
        }
        Statement::Query(query) => query.fields(),
        Statement::Faked(name, _) => vec![Field { name: (*name).to_owned(), kind: Kind::Text }],
        Statement::Catalog(catalog::Answer::Nothing(names)) => {
            names.iter().map(|name| Field { name: name.clone(), kind: Kind::Text }).collect()
        }
        Statement::Catalog(catalog::Answer::Row(row)) => {
            row.iter().map(|(name, known)| Field { name: name.clone(), kind: known.kind() }).collect()
        }
        Statement::Explain(..) => ["host", "access", "reason", "effects", "now", "instead"]
            .map(|name| Field { name: name.to_owned(), kind: Kind::Text })
            .to_vec(),
        Statement::Help | Statement::Order(..) | Statement::Ignored | Statement::Nothing(_) => return None,
    })
}

fn parameters_of(statement: &Statement) -> Vec<Kind> {
    match statement {
        Statement::Query(query) => query.parameters.clone(),
        _ => Vec::new(),
    }
}

/// The format of one of several values: none given is text, one given is for all.
fn format_of(formats: &[i16], place: usize) -> i16 {
    match formats {
        [one] => *one,
        several => several.get(place).copied().unwrap_or(0),
    }
}

/// A parameter as the client wrote it.
fn parameter(bytes: Option<&Bytes>, oid: u32, format: i16) -> Result<Value, Failure> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    let integer = matches!(oid, 20 | 21 | 23);
    if format == 1 && integer {
        let number = match **bytes {
            [a, b] => i64::from(i16::from_be_bytes([a, b])),
            [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => return Err(Failure::new("22P03", "incorrect binary data format in a parameter")),
        };
        return Ok(Value::Int8(number));
    }
    let text = std::str::from_utf8(bytes);
    text.map(Value::text).map_err(|_| Failure::new("22021", "invalid byte sequence for encoding \"UTF8\""))
}

fn description(fields: &[Field], formats: &[i16]) -> Reply {
    let field = |(place, field): (usize, &Field)| {
        let kind = field.kind;
        FieldDescription::new(
            field.name.clone(),
            0,
            0,
            kind.oid(),
            kind.size(),
            -1,
            format_of(formats, place),
        )
    };
    Reply::RowDescription(RowDescription::new(fields.iter().enumerate().map(field).collect()))
}

fn data_row(row: &Row, formats: &[i16]) -> Reply {
    let mut data = BytesMut::new();
    for (place, value) in row.iter().enumerate() {
        let bytes: Option<Vec<u8>> = if format_of(formats, place) == 1 {
            value.to_binary().map(|bytes| bytes.into_owned())
        } else {
            value.to_text().map(|text| text.into_owned().into_bytes())
        };
        match bytes {
            None => data.put_i32(-1),
            Some(bytes) => {
                data.put_i32(i32::try_from(bytes.len()).unwrap_or(0));
                data.put_slice(&bytes);
            }
        }
    }
    Reply::DataRow(DataRow::new(data, i16::try_from(row.len()).unwrap_or(0)))
}
