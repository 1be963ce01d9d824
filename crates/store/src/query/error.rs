//! Why a read gives no rows, in PostgreSQL's words and with its codes, whatever the engine.

use crate::error::StoreError;
use crate::rights::RightsError;

/// Why a read was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such table is exposed.
    #[error("no table `{table}` is exposed")]
    UnknownTable {
        /// The name as given, at most 64 characters of it.
        table: String,
    },
    /// The caller has no privilege for the table.
    #[error("permission denied for table {table}")]
    Denied {
        /// The table.
        table: &'static str,
    },
    /// No such column.
    #[error("column {table}.{column} does not exist")]
    UnknownColumn {
        /// The table.
        table: &'static str,
        /// The name as given.
        column: String,
    },
    /// A value that is none of its type.
    #[error("invalid input syntax for type {type_name}: {shown:?}", shown = Shown(.text))]
    InvalidText {
        /// The type.
        type_name: &'static str,
        /// The value.
        text: String,
    },
    /// A text that is no JSON.
    #[error("invalid input syntax for type json")]
    InvalidJson,
    /// An array that is not written as one.
    #[error("malformed array literal: {shown:?}", shown = Shown(.text))]
    MalformedArray {
        /// The value.
        text: String,
    },
    /// A date or time that is none.
    #[error("invalid input syntax for type {type_name}: {shown:?}", shown = Shown(.text))]
    InvalidTime {
        /// The type.
        type_name: &'static str,
        /// The value.
        text: String,
    },
    /// A number that its type cannot hold.
    #[error("value {shown:?} is out of range for type {type_name}", shown = Shown(.text))]
    OutOfRange {
        /// The type.
        type_name: &'static str,
        /// The value.
        text: String,
    },
    /// A NUL character, which no text of the database can hold.
    #[error("invalid byte sequence for encoding \"UTF8\": 0x00")]
    NulCharacter,
    /// A cast to a type that is not offered.
    #[error("type {shown:?} does not exist", shown = Shown(.name))]
    UnknownType {
        /// The name as given.
        name: String,
    },
    /// A cast that does not exist.
    #[error("cannot cast type {from} to {to}")]
    CannotCast {
        /// The type of the field.
        from: &'static str,
        /// The type asked for.
        to: &'static str,
    },
    /// A cast of a JSON value of another kind.
    #[error("cannot cast jsonb {kind} to type {to}")]
    CannotCastJson {
        /// The kind of the value.
        kind: &'static str,
        /// The type asked for.
        to: &'static str,
    },
    /// An operator that the type does not have.
    #[error("operator does not exist: {left} {operator} {right}")]
    NoOperator {
        /// The type of the field.
        left: &'static str,
        /// The operator.
        operator: &'static str,
        /// The other side.
        right: &'static str,
    },
    /// A test for true or false of something else.
    #[error("argument of IS {word} must be type boolean, not type {type_name}")]
    NotBoolean {
        /// `TRUE`, `FALSE` or `UNKNOWN`.
        word: &'static str,
        /// The type of the field.
        type_name: &'static str,
    },
    /// A pattern that ends in the middle of an escape.
    #[error("LIKE pattern must not end with escape character")]
    UnfinishedEscape,
    /// A regular expression that is none, or that would take too much.
    #[error("invalid regular expression: {detail}")]
    InvalidRegex {
        /// What is wrong.
        detail: String,
    },
    /// Anything else that the database says of the data.
    #[error("{message}")]
    Data {
        /// Five letters of the SQL standard.
        sqlstate: String,
        /// The database's own words.
        message: String,
    },
    /// The read took longer than its role may.
    #[error("canceling statement due to statement timeout")]
    Timeout,
    /// No connection became free in time.
    #[error("no connection became free in time")]
    Busy,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A caller's text in a message: between plain quotes, cut off where it is long.
struct Shown<'a>(&'a str);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const LONGEST: usize = 200;
        match self.0.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "\"{}…\"", self.0.get(..end).unwrap_or_default()),
            None => write!(f, "\"{}\"", self.0),
        }
    }
}

impl ReadError {
    /// Gives the five letters of the SQL standard; `None` for what is no matter of the statement.
    pub fn sqlstate(&self) -> Option<&str> {
        Some(match self {
            Self::UnknownTable { .. } | Self::Busy | Self::Store(_) => return None,
            Self::Denied { .. } => "42501",
            Self::UnknownColumn { .. } => "42703",
            Self::InvalidText { .. } | Self::InvalidJson | Self::MalformedArray { .. } => "22P02",
            Self::InvalidTime { .. } => "22007",
            Self::OutOfRange { .. } => "22003",
            Self::NulCharacter => "22021",
            Self::UnknownType { .. } => "42704",
            Self::CannotCast { .. } => "42846",
            Self::CannotCastJson { .. } => "22023",
            Self::NoOperator { .. } => "42883",
            Self::NotBoolean { .. } => "42804",
            Self::UnfinishedEscape => "22025",
            Self::InvalidRegex { .. } => "2201B",
            Self::Timeout => "57014",
            Self::Data { sqlstate, .. } => sqlstate,
        })
    }

    /// Makes the error of a table that is not exposed.
    pub(crate) fn unknown_table(name: &str) -> Self {
        Self::UnknownTable { table: name.chars().take(64).collect() }
    }
}

impl From<RightsError> for ReadError {
    fn from(error: RightsError) -> Self {
        match error {
            RightsError::Denied { table } => Self::Denied { table },
            RightsError::UnknownTable { table } => Self::UnknownTable { table },
            RightsError::Store(error) => Self::Store(error),
        }
    }
}
