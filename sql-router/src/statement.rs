//! What a statement is to somebody who has to choose a host for it: verdicts and their reasons. Pure.

use crate::effects::Effect;
use crate::hints::Hint;
use crate::token::Ambiguity;
use std::fmt;

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads: a standby with fresh enough rows can serve it.
    Read,
    /// Writes, locks, asks what only the primary should answer, or is not understood.
    Write,
    /// Begins, shapes or ends a transaction.
    Transaction(TransactionControl),
    /// Concerns the session, on whatever host that is: SET, DEALLOCATE, FETCH, or nothing at all.
    Session,
}

impl Access {
    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Transaction(_) => "transaction",
            Self::Session => "session",
        }
    }
}

/// What a statement does to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionControl {
    /// BEGIN or START TRANSACTION.
    Begin(Modes),
    /// SET TRANSACTION, or SET of a parameter that means the same.
    SetModes(Modes),
    /// COMMIT or END.
    Commit {
        /// AND CHAIN: the next transaction has begun.
        chain: bool,
    },
    /// ROLLBACK or ABORT.
    Rollback {
        /// AND CHAIN: the next transaction has begun.
        chain: bool,
    },
    /// SAVEPOINT, RELEASE or ROLLBACK TO.
    Savepoint,
    /// PREPARE TRANSACTION.
    Prepare,
}

/// What is said about a transaction. What is not said is as the session's defaults have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Modes {
    /// READ ONLY (true) or READ WRITE (false).
    pub read_only: Option<bool>,
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
}

impl Modes {
    /// Whether a standby can run such a transaction from its beginning to its end. None can be serializable there.
    #[must_use]
    pub const fn fit_standby(self) -> bool {
        matches!(self.read_only, Some(true)) && !matches!(self.isolation, Some(Isolation::Serializable))
    }

    /// Whether a standby would refuse these modes.
    #[must_use]
    pub const fn need_primary(self) -> bool {
        matches!(self.read_only, Some(false)) || matches!(self.isolation, Some(Isolation::Serializable))
    }
}

/// ISOLATION LEVEL. READ UNCOMMITTED is READ COMMITTED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// READ COMMITTED.
    ReadCommitted,
    /// REPEATABLE READ.
    RepeatableRead,
    /// SERIALIZABLE: a standby refuses it with 0A000.
    Serializable,
}

/// Where a statement goes when its session is in no transaction and tied to no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Host {
    /// To the primary.
    Primary,
    /// To a standby, or to the primary where none is fit.
    Standby,
    /// Wherever the session is: it needs no host of its own.
    Any,
}

impl Host {
    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Any => "any",
        }
    }
}

/// What a statement has to do with statements prepared in SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Prepared {
    /// PREPARE of a statement that reads. (One of a statement that writes is a write.)
    Makes(Box<str>),
    /// EXECUTE of a statement whose text is elsewhere, with arguments that only read. It is taken for a write; who
    /// remembers that the PREPARE was of a read may run it as a read.
    Runs(Box<str>),
    /// DEALLOCATE; `None` is ALL.
    Drops(Option<Box<str>>),
}

/// What is known of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it does.
    pub access: Access,
    /// Why that is said.
    pub reason: Reason,
    /// What it leaves behind in its session.
    pub effect: Effect,
    /// What its comments say.
    pub hint: Option<Hint>,
    /// What it has to do with prepared statements in SQL.
    pub prepared: Option<Prepared>,
    /// It may change functions, views, operators, types or casts.
    pub changes_catalog: bool,
}

impl Verdict {
    /// Whether its success may have changed what others read. What only asks the primary changes nothing.
    #[must_use]
    pub const fn may_write(&self) -> bool {
        matches!(self.access, Access::Write) && !matches!(self.reason, Reason::AsksHost(_))
    }

    /// Whether names in what follows may mean something else: it may change the search path, or who looks along it.
    #[must_use]
    pub const fn changes_names(&self) -> bool {
        matches!(
            self.effect,
            Effect::Set(..)
                | Effect::SetLocal(_)
                | Effect::Reset(_)
                | Effect::ResetAll
                | Effect::DiscardAll
                | Effect::RollbackTo(_)
                | Effect::Unknown
        )
    }

    /// Where it goes.
    #[must_use]
    pub const fn host(&self) -> Host {
        if matches!(self.hint, Some(Hint::Primary)) && !matches!(self.access, Access::Session) {
            return Host::Primary;
        }
        match self.access {
            Access::Read => Host::Standby,
            Access::Write => Host::Primary,
            Access::Session => Host::Any,
            Access::Transaction(TransactionControl::Begin(modes)) => {
                if modes.fit_standby() {
                    Host::Standby
                } else {
                    Host::Primary
                }
            }
            Access::Transaction(TransactionControl::SetModes(modes)) => {
                if modes.need_primary() {
                    Host::Primary
                } else {
                    Host::Any
                }
            }
            Access::Transaction(TransactionControl::Prepare) => Host::Primary,
            Access::Transaction(_) => Host::Any,
        }
    }
}

/// What is known of all statements of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdicts {
    statements: Box<[Verdict]>,
}

impl Verdicts {
    pub(crate) fn new(statements: Vec<Verdict>) -> Self {
        Self { statements: statements.into() }
    }

    /// One verdict for each statement, in order. A text without a statement has none.
    #[must_use]
    pub fn statements(&self) -> &[Verdict] {
        &self.statements
    }

    /// Where the whole text goes: it runs on one host, so one statement that needs the primary takes all with it.
    #[must_use]
    pub fn host(&self) -> Host {
        self.decisive().map_or(Host::Any, Verdict::host)
    }

    /// What the whole text does: a write if any statement writes, else transaction control if there is any, else a
    /// read, else a matter of the session.
    #[must_use]
    pub fn access(&self) -> Access {
        let rank = |access: Access| match access {
            Access::Write => 0,
            Access::Transaction(_) => 1,
            Access::Read => 2,
            Access::Session => 3,
        };
        self.statements
            .iter()
            .map(|verdict| verdict.access)
            .min_by_key(|access| rank(*access))
            .unwrap_or(Access::Session)
    }

    /// The statement that decides where the text goes: the first that needs the primary, else the first that a standby
    /// can run, else the first.
    #[must_use]
    pub fn decisive(&self) -> Option<&Verdict> {
        let first = |host| self.statements.iter().find(|verdict| verdict.host() == host);
        // Transactions that a text opens itself: what is read in a transaction for writes goes where that is.
        first(Host::Primary).or_else(|| first(Host::Standby)).or_else(|| self.statements.first())
    }

    /// Whether any statement may change functions, views, operators, types or casts.
    #[must_use]
    pub fn change_catalog(&self) -> bool {
        self.statements.iter().any(|verdict| verdict.changes_catalog)
    }

    /// Bytes of memory, about.
    #[must_use]
    pub fn size(&self) -> usize {
        self.statements.len() * size_of::<Verdict>()
    }
}

/// Why a verdict is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Reads, and calls nothing that may write.
    Reads,
    /// EXPLAIN without ANALYZE: nothing is run.
    PlanOnly,
    /// COPY ... TO STDOUT of something that reads.
    CopyOut,
    /// SHOW.
    Show,
    /// There is no statement.
    Empty,
    /// Concerns the session: the statement's first words.
    Session(&'static str),
    /// Opens, uses or closes a cursor.
    Cursor,
    /// Declares a cursor WITH HOLD.
    HeldCursor,
    /// Begins, shapes or ends a transaction.
    Transaction,
    /// A comment of the client says standby, and the statement only may write.
    HintStandby,
    /// Writes or needs locks that only the primary gives: the statement's first word.
    Statement(Box<str>),
    /// A part of the query writes: INSERT, UPDATE, DELETE or MERGE in WITH.
    ModifyingPart,
    /// SELECT INTO.
    SelectInto,
    /// FOR UPDATE, FOR SHARE and their like.
    RowLock,
    /// EXPLAIN ANALYZE or PREPARE of something that writes or is not known.
    Inner(Box<Reason>),
    /// COPY FROM.
    CopyIn,
    /// COPY to a file or a program of the host.
    CopyToHost,
    /// Calls a function of PostgreSQL that needs the primary.
    BuiltIn(Box<str>),
    /// Calls a function that is volatile.
    Volatile(Box<str>),
    /// Calls a function that is not known.
    Unknown(Box<str>),
    /// Mentions a view or a table with row security that reaches a volatile function.
    View(Box<str>),
    /// Mentions a relation that only the primary can read.
    Unlogged(Box<str>),
    /// Mentions a type that reaches a volatile function.
    Type(Box<str>),
    /// Uses an operator that reaches a volatile function.
    Operator(Box<str>),
    /// Nothing in the database is certain to read.
    Doubtful,
    /// Asks about the host or its processes: a relation, function or setting.
    AsksHost(Box<str>),
    /// Mentions an object of the session's own schema.
    Temporary,
    /// EXECUTE: the statement that runs was prepared elsewhere.
    Executes(Box<str>),
    /// A function changes a setting in a way that the text does not show.
    HiddenSetting,
    /// LISTEN or NOTIFY.
    Notification,
    /// TREAT, or letters of an identifier written as numbers: nobody means that in a read.
    Obscure,
    /// Where its strings end is not certain, or they do not end.
    Ambiguous(Ambiguity),
    /// The text is too long to be looked at.
    TooLong,
    /// It begins with no word that is known.
    NotUnderstood,
}

impl Reason {
    /// A name for programs, in snake case.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::PlanOnly => "plan_only",
            Self::CopyOut => "copy_out",
            Self::Show => "show",
            Self::Empty => "empty",
            Self::Session(_) => "session",
            Self::Cursor => "cursor",
            Self::HeldCursor => "held_cursor",
            Self::Transaction => "transaction",
            Self::HintStandby => "hint_standby",
            Self::Statement(_) => "statement",
            Self::ModifyingPart => "modifying_part",
            Self::SelectInto => "select_into",
            Self::RowLock => "row_lock",
            Self::Inner(_) => "inner",
            Self::CopyIn => "copy_in",
            Self::CopyToHost => "copy_to_host",
            Self::BuiltIn(_) => "built_in_function",
            Self::Volatile(_) => "volatile_function",
            Self::Unknown(_) => "unknown_function",
            Self::View(_) => "view",
            Self::Unlogged(_) => "unlogged",
            Self::Type(_) => "type",
            Self::Operator(_) => "operator",
            Self::Doubtful => "doubtful",
            Self::AsksHost(_) => "asks_host",
            Self::Temporary => "temporary",
            Self::Executes(_) => "executes",
            Self::HiddenSetting => "hidden_setting",
            Self::Notification => "notification",
            Self::Obscure => "obscure",
            Self::Ambiguous(_) => "ambiguous",
            Self::TooLong => "too_long",
            Self::NotUnderstood => "not_understood",
        }
    }

    /// Whether a client's word that the statement only reads is to be believed: nothing in its grammar says that it
    /// writes.
    #[must_use]
    pub const fn is_suspicion(&self) -> bool {
        matches!(
            self,
            Self::BuiltIn(_)
                | Self::Volatile(_)
                | Self::Unknown(_)
                | Self::View(_)
                | Self::Type(_)
                | Self::Operator(_)
                | Self::Doubtful
                | Self::AsksHost(_)
                | Self::Obscure
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reads => f.write_str("reads, and calls nothing that may write"),
            Self::PlanOnly => f.write_str("EXPLAIN without ANALYZE runs nothing"),
            Self::CopyOut => f.write_str("COPY to the client of what only reads"),
            Self::Show => f.write_str("shows a setting"),
            Self::Empty => f.write_str("there is no statement"),
            Self::Session(word) => write!(f, "{word} concerns the session"),
            Self::Cursor => f.write_str("a cursor is where its transaction is"),
            Self::HeldCursor => f.write_str("a cursor WITH HOLD keeps its session where it is"),
            Self::Transaction => f.write_str("transaction control"),
            Self::HintStandby => f.write_str("a comment of the client says standby"),
            Self::Statement(word) => write!(f, "{word} is not a read"),
            Self::ModifyingPart => f.write_str("a part of the query writes"),
            Self::SelectInto => f.write_str("SELECT INTO makes a table"),
            Self::RowLock => f.write_str("locks rows"),
            Self::Inner(reason) => write!(f, "the statement inside: {reason}"),
            Self::CopyIn => f.write_str("COPY FROM writes"),
            Self::CopyToHost => f.write_str("COPY to a file or program of the server"),
            Self::BuiltIn(name) => write!(f, "{name}() needs the primary"),
            Self::Volatile(name) => write!(f, "{name}() is volatile"),
            Self::Unknown(name) => write!(f, "{name}() is not known"),
            Self::View(name) => write!(f, "{name} reaches a volatile function"),
            Self::Unlogged(name) => write!(f, "{name} can be read on the primary only"),
            Self::Type(name) => write!(f, "type {name} reaches a volatile function"),
            Self::Operator(name) => write!(f, "operator {name} reaches a volatile function"),
            Self::Doubtful => f.write_str("too little is known of the database"),
            Self::AsksHost(name) => write!(f, "{name} tells about the host"),
            Self::Temporary => f.write_str("temporary objects are on the primary"),
            Self::Executes(name) => write!(f, "what {name} runs is not in the text"),
            Self::HiddenSetting => f.write_str("set_config() in a query that does more"),
            Self::Notification => f.write_str("standbys have no notifications"),
            Self::Obscure => f.write_str("a form that may hide a call"),
            Self::Ambiguous(_) => f.write_str("where the text's strings end is not certain"),
            Self::TooLong => f.write_str("too long to be looked at"),
            Self::NotUnderstood => f.write_str("not understood"),
        }
    }
}
