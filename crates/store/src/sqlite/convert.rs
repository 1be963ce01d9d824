//! Converts between Rust values and what SQLite holds, and SQLite's errors into the store's.

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{Cents, UserId};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{ErrorCode, Row};

use crate::error::StoreError;
pub(super) use crate::format::{time_text, to_microsecond, two_decimals};

/// Adds to an error of the driver the table that the statement was about.
pub(super) trait Within<T> {
    fn within(self, table: &'static str) -> Result<T, StoreError>;
}

impl<T> Within<T> for rusqlite::Result<T> {
    fn within(self, table: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| store_error(&error, table))
    }
}

/// Sorts an error of the driver by what the caller can do about it.
fn store_error(error: &rusqlite::Error, table: &'static str) -> StoreError {
    use rusqlite::Error as E;
    let detail = error.to_string();
    match error {
        E::SqliteFailure(failure, _) | E::SqlInputError { error: failure, .. } => match failure.code {
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::OperationAborted
            | ErrorCode::PermissionDenied
            | ErrorCode::SchemaChanged
            | ErrorCode::FileLockingProtocolFailed => StoreError::Unavailable { detail },
            ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch => {
                StoreError::Refused { table, detail }
            }
            _ => StoreError::Statement { detail },
        },
        E::FromSqlConversionFailure(..)
        | E::InvalidColumnType(..)
        | E::IntegralValueOutOfRange(..)
        | E::Utf8Error(..) => StoreError::Inconsistent { table, detail },
        _ => StoreError::Statement { detail },
    }
}

/// Gives dollars as stored.
pub(super) fn dollars(cents: i64) -> f64 {
    Cents(cents).dollars()
}

/// Gives demand as stored.
pub(super) fn factor(ten_thousandths: i64) -> f64 {
    ten_thousandths as f64 / 10_000.0
}

fn unreadable(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

/// Reads a text column through a parser.
pub(super) fn parsed<T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> rusqlite::Result<T> {
    let value = row.get_ref(column)?;
    let text = value.as_str().map_err(|error| bad_type(row, column, error))?;
    parse(text).map_err(|error| unreadable(column, error))
}

/// Reads a text column through a parser, where NULL is `None`.
pub(super) fn parsed_opt<T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => parsed(row, column, parse).map(Some),
    }
}

fn bad_type(row: &Row<'_>, column: usize, error: FromSqlError) -> rusqlite::Error {
    let data_type = row.get_ref(column).map_or(Type::Null, |value| value.data_type());
    rusqlite::Error::FromSqlConversionFailure(column, data_type, Box::new(error))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    parsed(row, column, str::parse)
}

pub(super) fn time_opt(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    parsed_opt(row, column, str::parse)
}

pub(super) fn date(row: &Row<'_>, column: usize) -> rusqlite::Result<Date> {
    parsed(row, column, str::parse)
}

pub(super) fn user(row: &Row<'_>, column: usize) -> rusqlite::Result<UserId> {
    parsed(row, column, UserId::parse)
}

/// Reads dollars as whole cents.
pub(super) fn cents(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    scaled(row.get(column)?, 100.0, column)
}

/// Reads dollars as whole cents, where NULL is `None`.
pub(super) fn cents_opt(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    row.get::<_, Option<f64>>(column)?.map(|value| scaled(value, 100.0, column)).transpose()
}

/// Reads a demand factor as ten-thousandths.
pub(super) fn demand(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    scaled(row.get(column)?, 10_000.0, column)
}

/// Multiplies and rounds a stored number that is a whole one in the smaller unit. Numbers up to 2^53 are exact.
fn scaled(value: f64, unit: f64, column: usize) -> rusqlite::Result<i64> {
    let scaled = (value * unit).round();
    if scaled.is_finite() && scaled.abs() < 9e15 {
        Ok(scaled as i64)
    } else {
        Err(unreadable(column, format!("{value} is out of range")))
    }
}

/// Names statements and lists them, so that a test can prepare each one against the migrated schema.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* const $name: &str = $sql;)+
        /// Every statement of the module, by name.
        #[cfg(test)]
        pub(in crate::sqlite) const STATEMENTS: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}
pub(super) use statements;
