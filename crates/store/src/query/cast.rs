//! Values of rows, how they are printed, and the casts that `select=column::type` may ask for.
//!
//! PostgreSQL does this itself; on SQLite it is done here, with the same results and the same refusals.

use std::fmt::Write;

use super::array::{self, TextArray};
use super::decimal::{Decimal, double_text};
use super::json::{Json, write_string};
use super::{ReadError, operand, time};
use crate::catalog::ColumnType;

/// A type that a field may be cast to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CastType {
    Text,
    Integer,
    BigInt,
    Numeric,
    Double,
    Boolean,
    Date,
    Timestamp,
    Json,
    Jsonb,
}

impl CastType {
    /// Finds a type by its name or one of its usual aliases.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = name.split_ascii_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        Some(match name.as_str() {
            "text" => Self::Text,
            "integer" | "int" | "int4" => Self::Integer,
            "bigint" | "int8" => Self::BigInt,
            "numeric" | "decimal" => Self::Numeric,
            "double precision" | "float8" | "float" => Self::Double,
            "boolean" | "bool" => Self::Boolean,
            "date" => Self::Date,
            "timestamptz" | "timestamp with time zone" => Self::Timestamp,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            _ => return None,
        })
    }

    /// Gives PostgreSQL's name of the type.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Numeric => "numeric",
            Self::Double => "double precision",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Timestamp => "timestamp with time zone",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
        }
    }

    /// Checks that PostgreSQL has a cast from a type.
    ///
    /// # Errors
    /// [`ReadError::CannotCast`] when it has none.
    pub(crate) fn from(self, from: ColumnType) -> Result<(), ReadError> {
        use ColumnType as C;
        let exists = match (from, self) {
            (C::Text, _) | (_, Self::Text) => true,
            (C::Integer, Self::Boolean) | (C::Boolean, Self::Integer | Self::Boolean) => true,
            (
                C::Integer | C::BigInt | C::Numeric { .. } | C::Double,
                Self::Integer | Self::BigInt | Self::Numeric | Self::Double,
            ) => true,
            (C::Date | C::Timestamp, Self::Date | Self::Timestamp) => true,
            (C::Json, to) => !matches!(to, Self::Date | Self::Timestamp),
            _ => false,
        };
        if exists { Ok(()) } else { Err(ReadError::CannotCast { from: from.name(), to: self.name() }) }
    }
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Integer(i64),
    Numeric(Decimal),
    Double(f64),
    Boolean(bool),
    /// `YYYY-MM-DD`.
    Date(String),
    /// UTC, six decimals.
    Timestamp(String),
    Jsonb(Json),
    /// JSON as it was written.
    Json(String),
    TextArray(TextArray),
}

impl Cell {
    /// Gives the value as text; `None` when it is empty.
    pub(crate) fn to_text(&self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Text(text) | Self::Date(text) | Self::Json(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Numeric(number) => number.to_string(),
            Self::Double(number) => double_text(*number),
            Self::Boolean(value) => value.to_string(),
            Self::Timestamp(kept) => time::text_timestamp(kept),
            Self::Jsonb(value) => value.to_string(),
            Self::TextArray(elements) => array::text(elements),
        })
    }

    /// Writes the value as JSON; with `strip` without members that are null.
    pub(crate) fn write_json(self, strip: bool, out: &mut String) -> std::fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Text(text) | Self::Date(text) => write_string(out, &text),
            Self::Integer(number) => write!(out, "{number}"),
            Self::Numeric(number) => write!(out, "{number}"),
            Self::Double(number) => out.write_str(&double_text(number)),
            Self::Boolean(value) => write!(out, "{value}"),
            Self::Timestamp(kept) => write_string(out, &time::json_timestamp(&kept)),
            Self::Jsonb(value) if strip => write!(out, "{}", value.strip_nulls()),
            Self::Jsonb(value) => write!(out, "{value}"),
            Self::Json(text) => match Json::parse(&text) {
                Some(value) if strip => write!(out, "{}", value.strip_nulls()),
                _ => out.write_str(&text),
            },
            Self::TextArray(elements) => {
                out.write_char('[')?;
                for (i, element) in elements.iter().enumerate() {
                    out.write_str(if i > 0 { "," } else { "" })?;
                    match element {
                        Some(text) => write_string(out, text)?,
                        None => out.write_str("null")?,
                    }
                }
                out.write_char(']')
            }
        }
    }

    /// Casts the value; [`CastType::from`] has found that there is such a cast.
    ///
    /// # Errors
    /// What PostgreSQL says of a value that cannot be cast.
    pub(crate) fn cast(self, to: CastType) -> Result<Self, ReadError> {
        if to == CastType::Text {
            return Ok(self.to_text().map_or(Self::Null, Self::Text));
        }
        match self {
            Self::Null => Ok(Self::Null),
            Self::Text(text) => from_text(text, to),
            Self::Integer(number) => from_decimal(Decimal::from(number), to),
            Self::Numeric(number) => from_decimal(number, to),
            Self::Double(number) => from_double(number, to),
            Self::Boolean(value) if to == CastType::Integer => Ok(Self::Integer(value.into())),
            Self::Date(date) if to == CastType::Timestamp => {
                Ok(Self::Timestamp(format!("{date}T00:00:00.000000Z")))
            }
            Self::Timestamp(kept) if to == CastType::Date => {
                Ok(Self::Date(kept.get(..10).unwrap_or_default().to_owned()))
            }
            Self::Jsonb(value) => from_json(value, to),
            same => Ok(same),
        }
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        // Digits with or without a sign always parse.
        Self::parse(&number.to_string()).unwrap_or_default()
    }
}

fn from_text(text: String, to: CastType) -> Result<Cell, ReadError> {
    let operand = |column_type| operand::Operand::parse(&text, column_type);
    Ok(match to {
        CastType::Text => Cell::Text(text),
        CastType::Json => {
            operand(ColumnType::Json)?;
            Cell::Json(text)
        }
        CastType::Integer => operand(ColumnType::Integer)?.into(),
        CastType::BigInt => operand(ColumnType::BigInt)?.into(),
        CastType::Numeric => operand(ColumnType::Numeric { scale: 0 })?.into(),
        CastType::Double => operand(ColumnType::Double)?.into(),
        CastType::Boolean => operand(ColumnType::Boolean)?.into(),
        CastType::Date => operand(ColumnType::Date)?.into(),
        CastType::Timestamp => operand(ColumnType::Timestamp)?.into(),
        CastType::Jsonb => operand(ColumnType::Json)?.into(),
    })
}

impl From<operand::Operand> for Cell {
    fn from(operand: operand::Operand) -> Self {
        use operand::Operand as O;
        match operand {
            O::Text(text) => Self::Text(text),
            O::Integer(number) => Self::Integer(number),
            O::Numeric(number) => Self::Numeric(number),
            O::Double(number) => Self::Double(number),
            O::Boolean(value) => Self::Boolean(value),
            O::Date(date) => Self::Date(date),
            O::Timestamp(kept) => Self::Timestamp(kept),
            O::Json(value) => Self::Jsonb(value),
            O::TextArray(elements) => Self::TextArray(elements),
        }
    }
}

fn from_decimal(number: Decimal, to: CastType) -> Result<Cell, ReadError> {
    Ok(match to {
        CastType::Integer => Cell::Integer(whole(&number, to, i32::MIN.into(), i32::MAX.into())?),
        CastType::BigInt => Cell::Integer(whole(&number, to, i64::MIN, i64::MAX)?),
        CastType::Double => Cell::Double(number.to_f64()),
        CastType::Boolean => Cell::Boolean(number != Decimal::default()),
        _ => Cell::Numeric(number),
    })
}

fn whole(number: &Decimal, to: CastType, least: i64, greatest: i64) -> Result<i64, ReadError> {
    let number: Option<i64> = number.round(0).to_string().parse().ok();
    number.filter(|number| (least..=greatest).contains(number)).ok_or_else(|| ReadError::Data {
        sqlstate: "22003".to_owned(),
        message: format!("{} out of range", to.name()),
    })
}

fn from_double(number: f64, to: CastType) -> Result<Cell, ReadError> {
    if to == CastType::Double {
        return Ok(Cell::Double(number));
    }
    // To whole numbers halves go to the even one, to `numeric` fifteen digits are kept.
    let text = match to {
        CastType::Integer | CastType::BigInt => format!("{}", number.round_ties_even()),
        _ => {
            let digits = format!("{number:.14e}");
            let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
            format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
        }
    };
    from_decimal(Decimal::parse(&text).unwrap_or_default(), to)
}

fn from_json(value: Json, to: CastType) -> Result<Cell, ReadError> {
    match (value, to) {
        (value, CastType::Jsonb) => Ok(Cell::Jsonb(value)),
        (value, CastType::Json) => Ok(Cell::Json(value.to_string())),
        (Json::Bool(value), CastType::Boolean) => Ok(Cell::Boolean(value)),
        (
            Json::Number(number),
            CastType::Integer | CastType::BigInt | CastType::Numeric | CastType::Double,
        ) => from_decimal(number, to),
        (value, to) => Err(ReadError::CannotCastJson { kind: value.kind(), to: to.name() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(cell: Cell, to: CastType) -> String {
        let printed = cell.cast(to).map(|cell| {
            let mut out = String::new();
            cell.write_json(false, &mut out).unwrap();
            out
        });
        printed.unwrap_or_else(|error| format!("{} {error}", error.sqlstate().unwrap()))
    }

    #[test]
    fn casts_do_what_postgresql_does() {
        let numeric = |text| Cell::Numeric(Decimal::parse(text).unwrap());
        let json = |text| Cell::Jsonb(Json::parse(text).unwrap());
        let text = |text: &str| Cell::Text(text.into());
        for (cell, to, printed) in [
            (numeric("2.50"), CastType::Text, "\"2.50\""),
            (numeric("2.50"), CastType::Integer, "3"),
            (numeric("-2.50"), CastType::BigInt, "-3"),
            (numeric("3000000000"), CastType::Integer, "22003 integer out of range"),
            (numeric("2.50"), CastType::Double, "2.5"),
            (Cell::Double(2.5), CastType::Integer, "2"),
            (Cell::Double(3.5), CastType::Integer, "4"),
            (Cell::Double(0.1 + 0.2), CastType::Numeric, "0.3"),
            (Cell::Double(1e20), CastType::BigInt, "22003 bigint out of range"),
            (Cell::Double(1e20), CastType::Numeric, "100000000000000000000"),
            (Cell::Integer(2), CastType::Boolean, "true"),
            (Cell::Boolean(true), CastType::Integer, "1"),
            (Cell::Boolean(true), CastType::Text, "\"true\""),
            (Cell::Date("2026-01-02".into()), CastType::Timestamp, "\"2026-01-02T00:00:00+00:00\""),
            (Cell::Timestamp("2026-01-02T03:04:05.600000Z".into()), CastType::Date, "\"2026-01-02\""),
            (
                Cell::Timestamp("2026-01-02T03:04:05.600000Z".into()),
                CastType::Text,
                "\"2026-01-02 03:04:05.6+00\"",
            ),
            (text("12"), CastType::Integer, "12"),
            (text("ann"), CastType::Integer, "22P02 invalid input syntax for type integer: \"ann\""),
            (text("[1,  2]"), CastType::Json, "[1,  2]"),
            (text("[1,  2]"), CastType::Jsonb, "[1, 2]"),
            (text("[1"), CastType::Json, "22P02 invalid input syntax for type json"),
            (json("12.7"), CastType::Integer, "13"),
            (json("\"12\""), CastType::Integer, "22023 cannot cast jsonb string to type integer"),
            (json("null"), CastType::Boolean, "22023 cannot cast jsonb null to type boolean"),
            (json("true"), CastType::Boolean, "true"),
            (json("{\"a\":1}"), CastType::Text, r#""{\"a\": 1}""#),
            (Cell::Null, CastType::Integer, "null"),
            (Cell::TextArray(vec![Some("a b".into()), None]), CastType::Text, r#""{\"a b\",NULL}""#),
        ] {
            assert_eq!(cast(cell.clone(), to), printed, "{cell:?} {to:?}");
        }
    }

    #[test]
    fn types_have_their_aliases_and_no_others() {
        assert_eq!(CastType::named(" Double  PRECISION "), Some(CastType::Double));
        assert_eq!(CastType::named("int4"), Some(CastType::Integer));
        for name in ["", "varchar", "uuid", "regclass", "text[]", "timestamp", "money", "real", "smallint"] {
            assert_eq!(CastType::named(name), None, "{name}");
        }
    }

    #[test]
    fn missing_casts_are_named() {
        let missing = |from: ColumnType, to: CastType| to.from(from).unwrap_err().to_string();
        assert_eq!(missing(ColumnType::Boolean, CastType::BigInt), "cannot cast type boolean to bigint");
        assert_eq!(missing(ColumnType::Date, CastType::Json), "cannot cast type date to json");
        assert_eq!(missing(ColumnType::TextArray, CastType::Jsonb), "cannot cast type text[] to jsonb");
        assert_eq!(missing(ColumnType::Json, CastType::Date), "cannot cast type jsonb to date");
    }
}
