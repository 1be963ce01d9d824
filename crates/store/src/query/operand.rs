//! A caller's value, read by the type of the column that it is compared with.
//!
//! What PostgreSQL would refuse is refused here with its words, and a few things more, which both engines then refuse alike:
//! `NaN` and infinities, words for times, numbers of more than a thousand digits.

use super::array::{self, TextArray};
use super::decimal::{Decimal, NotDecimal};
use super::json::Json;
use super::{ReadError, time};
use crate::catalog::ColumnType;

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Text(String),
    Integer(i64),
    Numeric(Decimal),
    Double(f64),
    Boolean(bool),
    /// `YYYY-MM-DD`.
    Date(String),
    /// UTC, six decimals.
    Timestamp(String),
    Json(Json),
    TextArray(TextArray),
}

impl Operand {
    /// Reads a value of a type.
    ///
    /// # Errors
    /// What PostgreSQL says of a text that is none of its type.
    pub(crate) fn parse(text: &str, column_type: ColumnType) -> Result<Self, ReadError> {
        if text.contains('\0') {
            return Err(ReadError::NulCharacter);
        }
        let trimmed = text.trim_matches(array::is_blank);
        let invalid = |type_name| ReadError::InvalidText { type_name, text: text.to_owned() };
        let no_time = |type_name| ReadError::InvalidTime { type_name, text: text.to_owned() };
        let name = column_type.name();
        Ok(match column_type {
            ColumnType::Text => Self::Text(text.to_owned()),
            ColumnType::Uuid => Self::Text(uuid(text).ok_or_else(|| invalid(name))?),
            ColumnType::Integer => Self::Integer(integer(text, name, i32::MIN.into(), i32::MAX.into())?),
            ColumnType::BigInt => Self::Integer(integer(text, name, i64::MIN, i64::MAX)?),
            ColumnType::Numeric { .. } => {
                Self::Numeric(Decimal::parse(trimmed).map_err(|error| match error {
                    NotDecimal::Syntax => invalid(name),
                    NotDecimal::Range => ReadError::OutOfRange { type_name: name, text: text.to_owned() },
                })?)
            }
            ColumnType::Double => Self::Double(double(text)?),
            ColumnType::Boolean => Self::Boolean(boolean(trimmed).ok_or_else(|| invalid(name))?),
            ColumnType::Date => Self::Date(time::date(text).ok_or_else(|| no_time(name))?),
            ColumnType::Timestamp => Self::Timestamp(time::timestamp(text).ok_or_else(|| no_time(name))?),
            ColumnType::Json => Self::Json(Json::parse(text).ok_or(ReadError::InvalidJson)?),
            ColumnType::TextArray => Self::TextArray(
                array::parse(text).ok_or_else(|| ReadError::MalformedArray { text: text.to_owned() })?,
            ),
        })
    }

    /// Writes the value as PostgreSQL reads it.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Text(text) | Self::Date(text) | Self::Timestamp(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Numeric(number) => number.to_string(),
            Self::Double(number) => format!("{number:e}"),
            Self::Boolean(value) => value.to_string(),
            Self::Json(value) => value.to_string(),
            Self::TextArray(array) => array::text(array),
        }
    }
}

/// Reads a whole number between two others.
pub(crate) fn integer(
    text: &str,
    type_name: &'static str,
    least: i64,
    greatest: i64,
) -> Result<i64, ReadError> {
    let trimmed = text.trim_matches(array::is_blank);
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ReadError::InvalidText { type_name, text: text.to_owned() });
    }
    match trimmed.parse() {
        Ok(number) if (least..=greatest).contains(&number) => Ok(number),
        _ => Err(ReadError::OutOfRange { type_name, text: text.to_owned() }),
    }
}

/// Reads a binary number in decimal form.
pub(crate) fn double(text: &str) -> Result<f64, ReadError> {
    let type_name = ColumnType::Double.name();
    let trimmed = text.trim_matches(array::is_blank);
    let range = || ReadError::OutOfRange { type_name, text: text.to_owned() };
    let decimal = Decimal::parse(trimmed).map_err(|error| match error {
        NotDecimal::Syntax => ReadError::InvalidText { type_name, text: text.to_owned() },
        NotDecimal::Range => range(),
    })?;
    let number: f64 = trimmed.parse().map_err(|_| range())?;
    // Neither too great nor, unless it is zero, too small.
    let vanished = number.classify() == std::num::FpCategory::Zero && decimal != Decimal::default();
    if number.is_finite() && !vanished { Ok(number) } else { Err(range()) }
}

/// Reads a UUID as PostgreSQL does: a hyphen may follow every four digits, braces may surround it.
fn uuid(text: &str) -> Option<String> {
    let inside = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut digits = String::with_capacity(36);
    let mut count = 0;
    let mut chars = inside.chars().peekable();
    while let Some(c) = chars.next() {
        if !c.is_ascii_hexdigit() || count == 32 {
            return None;
        }
        digits.push(c.to_ascii_lowercase());
        count += 1;
        if count % 4 == 0 && count < 32 && chars.peek() == Some(&'-') {
            chars.next();
        }
        if matches!(count, 8 | 12 | 16 | 20) {
            digits.push('-');
        }
    }
    (count == 32).then_some(digits)
}

/// Reads a truth value: PostgreSQL takes whole words and their beginnings, as far as they are clear.
pub(crate) fn boolean(trimmed: &str) -> Option<bool> {
    let word = trimmed.to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || word == "on" || word == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str, column_type: ColumnType) -> String {
        match Operand::parse(text, column_type) {
            Ok(operand) => operand.to_text(),
            Err(error) => format!("{} {error}", error.sqlstate().unwrap_or_default()),
        }
    }

    #[test]
    fn values_are_read_by_their_type_or_refused_in_postgresqls_words() {
        use ColumnType as T;
        let numeric = T::Numeric { scale: 2 };
        for (text, column_type, expected) in [
            (" a ", T::Text, " a "),
            ("", T::Text, ""),
            ("a\0b", T::Text, "22021 invalid byte sequence for encoding \"UTF8\": 0x00"),
            (" +7 ", T::Integer, "7"),
            ("-2147483648", T::Integer, "-2147483648"),
            ("2147483648", T::Integer, "22003 value \"2147483648\" is out of range for type integer"),
            ("7.5", T::Integer, "22P02 invalid input syntax for type integer: \"7.5\""),
            ("", T::Integer, "22P02 invalid input syntax for type integer: \"\""),
            ("9223372036854775807", T::BigInt, "9223372036854775807"),
            (
                "9223372036854775808",
                T::BigInt,
                "22003 value \"9223372036854775808\" is out of range for type bigint",
            ),
            ("0.90", numeric, "0.90"),
            ("1e2", numeric, "100"),
            ("NaN", numeric, "22P02 invalid input syntax for type numeric: \"NaN\""),
            ("Infinity", numeric, "22P02 invalid input syntax for type numeric: \"Infinity\""),
            ("1e5000", numeric, "22003 value \"1e5000\" is out of range for type numeric"),
            ("12.5", T::Double, "1.25e1"),
            ("nan", T::Double, "22P02 invalid input syntax for type double precision: \"nan\""),
            ("1e400", T::Double, "22003 value \"1e400\" is out of range for type double precision"),
            ("1e-400", T::Double, "22003 value \"1e-400\" is out of range for type double precision"),
            ("0e-400", T::Double, "0e0"),
            (" T ", T::Boolean, "true"),
            ("of", T::Boolean, "false"),
            ("o", T::Boolean, "22P02 invalid input syntax for type boolean: \"o\""),
            ("", T::Boolean, "22P02 invalid input syntax for type boolean: \"\""),
            ("{A0EEBC999C0B4EF8-bb6d6bb9bd380a11}", T::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("a0eebc99", T::Uuid, "22P02 invalid input syntax for type uuid: \"a0eebc99\""),
            (
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1-1",
                T::Uuid,
                "22P02 invalid input syntax for type uuid: \"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1-1\"",
            ),
            ("2026-03-15", T::Date, "2026-03-15"),
            ("now", T::Date, "22007 invalid input syntax for type date: \"now\""),
            ("2026-02-30", T::Date, "22007 invalid input syntax for type date: \"2026-02-30\""),
            ("2026-03-15T10:00:00+02:00", T::Timestamp, "2026-03-15T08:00:00.000000Z"),
            (
                "infinity",
                T::Timestamp,
                "22007 invalid input syntax for type timestamp with time zone: \"infinity\"",
            ),
            ("{\"a\":1.0}", T::Json, "{\"a\": 1.0}"),
            ("{a}", T::Json, "22P02 invalid input syntax for type json"),
            ("{a,b}", T::TextArray, "{a,b}"),
            ("a", T::TextArray, "22P02 malformed array literal: \"a\""),
        ] {
            assert_eq!(outcome(text, column_type), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_value_is_cut_off_in_its_error() {
        let error = Operand::parse(&"x".repeat(10_000), ColumnType::Integer).unwrap_err().to_string();
        assert!(error.len() < 300 && error.ends_with("…\""), "{error}");
    }
}
