//! Reads single values of a record: from JSON as a webhook sends it, and from the strings of a CSV line.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use nudge_engine::{EntityId, TransactionType, UnknownWord, UserId};
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{DateChangeRequestRow, FieldError, LeaseMemberRow, LeaseNightRow, LeaseRow, ProfileRow};
use crate::record::ProfileRole;

/// Greatest base price of a night, and of a request, in cents.
const MAX_BASE_PRICE_CENTS: i64 = 100_000 * 100;
/// Greatest proposed price, in cents.
const MAX_PROPOSED_PRICE_CENTS: i64 = 1_000_000 * 100;
/// Greatest market demand, in ten-thousandths.
const MAX_DEMAND_TEN_THOUSANDTHS: i64 = 100 * 10_000;
/// Greatest length of a lease's name, in characters.
const MAX_NAME_CHARACTERS: usize = 500;

/// A record of a table of facts, not looked at yet.
pub(super) struct Record<'a>(pub(super) &'a Map<String, Value>);

impl Record<'_> {
    pub(super) fn profile(&self) -> Result<ProfileRow, FieldError> {
        Ok(ProfileRow {
            id: self.user("id")?,
            role: self.optional("role", |text| match text {
                "member" => Ok(ProfileRole::Member),
                "admin" => Ok(ProfileRole::Admin),
                _ => Err("is not one of member, admin".into()),
            })?,
            personalization_opt_out: self.boolean("personalization_opt_out")?,
            created_at: self.optional("created_at", timestamp)?,
        })
    }

    pub(super) fn lease(&self) -> Result<LeaseRow, FieldError> {
        Ok(LeaseRow {
            id: self.entity("id")?,
            name: self.optional("name", |text| {
                if text.chars().count() > MAX_NAME_CHARACTERS {
                    return Err(format!("is longer than {MAX_NAME_CHARACTERS} characters"));
                }
                if text.contains('\0') {
                    return Err("holds a NUL".into());
                }
                Ok(text.to_owned())
            })?,
            created_at: self.optional("created_at", timestamp)?,
        })
    }

    pub(super) fn lease_member(&self) -> Result<LeaseMemberRow, FieldError> {
        Ok(LeaseMemberRow { lease_id: self.entity("lease_id")?, user_id: self.user("user_id")? })
    }

    pub(super) fn lease_night(&self) -> Result<LeaseNightRow, FieldError> {
        Ok(LeaseNightRow {
            lease_id: self.entity("lease_id")?,
            night: self.date("night")?,
            held_by: self.optional("held_by", |text| UserId::parse(text).map_err(is_not))?,
            base_price_cents: self.required("base_price", |text| {
                match cents(text, MAX_BASE_PRICE_CENTS)? {
                    0 => Err("is not above 0".into()),
                    cents => Ok(cents),
                }
            })?,
            demand_ten_thousandths: self.optional("market_demand", demand)?,
        })
    }

    pub(super) fn date_change_request(&self) -> Result<DateChangeRequestRow, FieldError> {
        let row = DateChangeRequestRow {
            id: self.entity("id")?,
            lease_id: self.optional("lease_id", |text| EntityId::parse(text).map_err(is_not))?,
            requester_id: self.user("requester_id")?,
            receiver_id: self.user("receiver_id")?,
            transaction_type: self.word("transaction_type")?,
            target_night: self.date("target_night")?,
            offered_night: self.optional("offered_night", date)?,
            proposed_price_cents: self
                .optional("proposed_price", |text| cents(text, MAX_PROPOSED_PRICE_CENTS))?,
            base_price_cents: self.optional("base_price", |text| cents(text, MAX_BASE_PRICE_CENTS))?,
            status: self.word("status")?,
            recommendation_id: self.optional("recommendation_id", |text| {
                Uuid::try_parse(text).map_err(|_| "is not a UUID".into())
            })?,
            created_at: self.required("created_at", timestamp)?,
            responded_at: self.optional("responded_at", timestamp)?,
        };
        let swap = row.transaction_type == TransactionType::Swap;
        if row.receiver_id == row.requester_id {
            return Err(FieldError::new("receiver_id", "is the requester"));
        }
        if !swap && row.offered_night.is_some() {
            return Err(FieldError::new("offered_night", "is given, but only a swap offers a night"));
        }
        if swap && row.proposed_price_cents.is_some() {
            return Err(FieldError::new("proposed_price", "is given, but a swap has no price"));
        }
        if row.responded_at.is_some_and(|at| at < row.created_at) {
            return Err(FieldError::new("responded_at", "is before created_at"));
        }
        Ok(row)
    }

    pub(super) fn user(&self, field: &str) -> Result<UserId, FieldError> {
        self.required(field, |text| UserId::parse(text).map_err(is_not))
    }

    pub(super) fn entity(&self, field: &str) -> Result<EntityId, FieldError> {
        self.required(field, |text| EntityId::parse(text).map_err(is_not))
    }

    pub(super) fn date(&self, field: &str) -> Result<Date, FieldError> {
        self.required(field, date)
    }

    fn word<T: FromStr<Err = UnknownWord>>(&self, field: &str) -> Result<T, FieldError> {
        self.required(field, |text| {
            T::from_str(text).map_err(|error| format!("is not one of {}", error.valid.join(", ")))
        })
    }

    fn boolean(&self, field: &str) -> Result<Option<bool>, FieldError> {
        if let Some(Value::Bool(flag)) = self.0.get(field) {
            return Ok(Some(*flag));
        }
        self.optional(field, |text| match text {
            "true" | "t" | "1" => Ok(true),
            "false" | "f" | "0" => Ok(false),
            _ => Err("is not true or false".into()),
        })
    }

    fn required<T>(
        &self,
        field: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, FieldError> {
        self.optional(field, read)?.ok_or_else(|| FieldError::new(field, "is missing"))
    }

    /// Reads a value from its text: a string as it is, a number or a boolean as JSON writes it.
    fn optional<T>(
        &self,
        field: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, FieldError> {
        let result = match self.0.get(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => read(text),
            Some(Value::Number(number)) => read(&number.to_string()),
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                Err("is of another JSON type".into())
            }
        };
        result.map(Some).map_err(|problem| FieldError::new(field, problem))
    }
}

fn is_not(error: impl std::fmt::Display) -> String {
    format!("is not valid: {error}")
}

/// Reads exactly `YYYY-MM-DD`, years 1970 to 9999.
fn date(text: &str) -> Result<Date, String> {
    let shaped = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if matches!(i, 4 | 7) { b == b'-' } else { b.is_ascii_digit() });
    text.parse::<Date>()
        .ok()
        .filter(|date| shaped && (1970..=9999).contains(&date.year()))
        .ok_or_else(|| "is not a date YYYY-MM-DD of the years 1970 to 9999".into())
}

/// Reads an RFC 3339 time, with `T` or a space, whose offset may be short (`+00`); kept to the microsecond.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    let problem = || "is not a time like 2026-01-02T03:04:05.678Z of the years 1970 to 9999".to_owned();
    if !text.is_ascii() || text.len() < 20 || text.len() > 40 {
        return Err(problem());
    }
    let separator = text.as_bytes()[10];
    if !matches!(separator, b'T' | b't' | b' ') || text.contains('[') {
        return Err(problem());
    }
    let (local, offset) = split_offset(text).ok_or_else(problem)?;
    let local: jiff::civil::DateTime = local.replacen(' ', "T", 1).parse().map_err(|_| problem())?;
    let at = offset.to_timestamp(local).map_err(|_| problem())?;
    let zulu = Offset::UTC.to_datetime(at);
    if !(1970..=9999).contains(&zulu.year()) {
        return Err(problem());
    }
    Timestamp::from_microsecond(at.as_microsecond()).map_err(|_| problem())
}

/// Splits a time from its offset: `Z`, `+hh`, `+hhmm` or `+hh:mm`.
fn split_offset(text: &str) -> Option<(&str, Offset)> {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return Some((local, Offset::UTC));
    }
    let at = 19 + text.get(19..)?.rfind(['+', '-'])?;
    let (local, offset) = text.split_at(at);
    let digits: String = offset[1..].replacen(':', "", 1);
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let hours: i32 = digits[..2].parse().ok()?;
    let minutes: i32 = digits.get(2..).filter(|m| !m.is_empty()).map_or(Some(0), |m| m.parse().ok())?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 60 + minutes) * 60;
    Offset::from_seconds(if offset.starts_with('-') { -seconds } else { seconds }).ok().map(|o| (local, o))
}

/// Reads a decimal number exactly, without floating point.
fn decimal(text: &str) -> Result<Decimal, String> {
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E');
    let number = match text {
        _ if text.len() > 40 || !text.bytes().all(plain) => None,
        _ if text.contains(['e', 'E']) => Decimal::from_scientific(text).ok(),
        _ => Decimal::from_str_exact(text).ok(),
    };
    let number = number.ok_or("is not a number")?;
    if number.is_sign_negative() && !number.is_zero() {
        return Err("is negative".into());
    }
    Ok(number)
}

/// Reads dollars with at most two decimals as cents.
fn cents(text: &str, max: i64) -> Result<i64, String> {
    let number = decimal(text)?.normalize();
    if number.scale() > 2 {
        return Err("has more than two decimals".into());
    }
    let too_great = || format!("is above {}", max / 100);
    let cents = number.checked_mul(Decimal::ONE_HUNDRED).ok_or_else(too_great)?;
    i64::try_from(cents).ok().filter(|cents| *cents <= max).ok_or_else(too_great)
}

/// Reads a demand factor as ten-thousandths, rounded.
fn demand(text: &str) -> Result<i64, String> {
    let number = decimal(text)?;
    let too_great = || format!("is above {}", MAX_DEMAND_TEN_THOUSANDTHS / 10_000);
    let scaled = number.checked_mul(Decimal::from(10_000)).ok_or_else(too_great)?.round();
    match i64::try_from(scaled).map_err(|_| too_great())? {
        0 => Err("is not above 0".into()),
        factor if factor > MAX_DEMAND_TEN_THOUSANDTHS => Err(too_great()),
        factor => Ok(factor),
    }
}
