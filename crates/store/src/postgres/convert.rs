//! Converts between Rust values and what PostgreSQL sends, and PostgreSQL's errors into the store's.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use tokio_postgres::{Error, Row};

use crate::error::StoreError;

/// A statement with the types of its parameters, so that it can be sent without asking the server first.
pub(super) struct Statement {
    /// Its name in the program.
    pub(super) name: &'static str,
    /// The text.
    pub(super) sql: &'static str,
    /// The parameters' types.
    pub(super) types: &'static [Type],
}

/// Names statements and lists them, so that a test can prepare each one against the migrated schema.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident [$($kind:ident),*] = $sql:expr;)+) => {
        $($(#[$doc])* static $name: $crate::postgres::convert::Statement =
            $crate::postgres::convert::Statement {
                name: stringify!($name),
                sql: $sql,
                types: &[$(tokio_postgres::types::Type::$kind),*],
            };)+
        /// Every statement of the module.
        #[cfg(test)]
        pub(in crate::postgres) static STATEMENTS: &[&$crate::postgres::convert::Statement] = &[$(&$name),+];
    };
}
pub(super) use statements;

/// Days and times are counted from here.
const EPOCH: Date = jiff::civil::date(2000, 1, 1);
const EPOCH_MICROS: i64 = 946_684_800_000_000;

type Failure = Box<dyn std::error::Error + Sync + Send>;

/// A time as `timestamptz`, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At(pub(super) Timestamp);

impl ToSql for At {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let micros = self.0.as_microsecond() - EPOCH_MICROS;
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }
    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for At {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        // The extremes are PostgreSQL's `infinity` and `-infinity`.
        let since_1970 = micros.checked_add(EPOCH_MICROS).ok_or("an infinite time")?;
        Ok(Self(Timestamp::from_microsecond(since_1970)?))
    }
    accepts!(TIMESTAMPTZ);
}

/// A day as `date`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day(pub(super) Date);

impl ToSql for Day {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let days = EPOCH.until(self.0)?.get_days();
        out.extend_from_slice(&days.to_be_bytes());
        Ok(IsNull::No)
    }
    accepts!(DATE);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Day {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let days = i32::from_be_bytes(raw.try_into()?);
        Ok(Self(EPOCH.checked_add(i64::from(days).days())?))
    }
    accepts!(DATE);
}

/// Reads a column; the error names the table that promised another value.
pub(super) fn get<'a, T: FromSql<'a>>(
    row: &'a Row,
    column: usize,
    table: &'static str,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| StoreError::Inconsistent { table, detail: describe(&error) })
}

/// Reads a text column through a parser.
pub(super) fn parsed<T, E: std::fmt::Display>(
    row: &Row,
    column: usize,
    table: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, StoreError> {
    parse(get(row, column, table)?)
        .map_err(|error| StoreError::Inconsistent { table, detail: format!("column {column}: {error}") })
}

/// Reads a text column through a parser, where NULL is `None`.
pub(super) fn parsed_opt<T, E: std::fmt::Display>(
    row: &Row,
    column: usize,
    table: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = get(row, column, table)?;
    let parsed = text.map(parse).transpose();
    parsed.map_err(|error| StoreError::Inconsistent { table, detail: format!("column {column}: {error}") })
}

pub(super) fn time(row: &Row, column: usize, table: &'static str) -> Result<Timestamp, StoreError> {
    get::<At>(row, column, table).map(|at| at.0)
}

pub(super) fn time_opt(
    row: &Row,
    column: usize,
    table: &'static str,
) -> Result<Option<Timestamp>, StoreError> {
    get::<Option<At>>(row, column, table).map(|at| at.map(|at| at.0))
}

pub(super) fn day(row: &Row, column: usize, table: &'static str) -> Result<Date, StoreError> {
    get::<Day>(row, column, table).map(|day| day.0)
}

/// Whether a statement only reads: then a value that does not fit is what is stored, else what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Reading,
    Writing,
}

/// Sorts an error of the server or the connection by what the caller can do about it.
pub(super) fn store_error(error: &Error, table: &'static str, doing: Doing) -> StoreError {
    let detail = describe(error);
    let Some(db) = error.as_db_error() else {
        return match error.is_closed() || is_io(error) {
            true => StoreError::Unavailable { detail },
            false => StoreError::Statement { detail },
        };
    };
    match db.code().code().get(..2).unwrap_or_default() {
        // Data that does not fit; an integrity constraint; what a trigger raises.
        "22" | "23" | "P0" if doing == Doing::Writing => StoreError::Refused { table, detail },
        "22" => StoreError::Inconsistent { table, detail },
        // Connections, transaction states (a read-only database among them), credentials, conflicts, resources, limits,
        // an operator's doing, the system, the server itself. A missing privilege or database can be given back.
        "08" | "25" | "28" | "3D" | "40" | "53" | "55" | "57" | "58" | "F0" | "XX" => {
            StoreError::Unavailable { detail }
        }
        _ if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => StoreError::Unavailable { detail },
        _ => StoreError::Statement { detail },
    }
}

fn is_io(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Writes an error down: of the server's its message and code, never the detail, which quotes rows.
pub(super) fn describe(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        let constraint = db.constraint().map(|name| format!(", {name}")).unwrap_or_default();
        return format!("{} ({}{constraint})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// Says whether the whole transaction may succeed when it is tried again.
pub(super) fn is_conflict(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        matches!(*code, SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED)
    })
}

/// Says whether a prepared statement is out of date: what it reads was made anew, or the connection is not the one that
/// prepared it.
pub(super) fn is_stale_statement(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        db.routine() == Some("RevalidateCachedQuery") || *db.code() == SqlState::INVALID_SQL_STATEMENT_NAME
    })
}

/// Says whether no partition takes the row.
pub(super) fn is_missing_partition(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db: &DbError| {
        *db.code() == SqlState::CHECK_VIOLATION && db.constraint().is_none() && db.column().is_none()
    })
}

pub(super) fn unavailable(detail: impl Into<String>) -> StoreError {
    StoreError::Unavailable { detail: detail.into() }
}
