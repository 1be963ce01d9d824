//! Query strings: unknown keys are ignored, a known key given twice is refused, values are parsed and never trimmed.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::UserId;

use super::error::ApiError;

/// The known keys of a query, in the order they were asked for.
#[derive(Debug)]
pub struct Query<'a, const N: usize> {
    values: [Option<Cow<'a, str>>; N],
    keys: [&'static str; N],
}

impl<'a, const N: usize> Query<'a, N> {
    /// Parses a query string for the given keys.
    ///
    /// # Errors
    /// 400 naming the key that is given twice.
    pub fn parse(query: Option<&'a str>, keys: [&'static str; N]) -> Result<Self, ApiError> {
        let mut values = [const { None }; N];
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let Some(i) = keys.iter().position(|known| *known == key) else { continue };
            if values[i].replace(value).is_some() {
                return Err(ApiError::field(keys[i], "must be given once"));
            }
        }
        Ok(Self { values, keys })
    }

    /// Gives the value of the `i`th key; an empty one counts as absent.
    pub fn get(&self, i: usize) -> Option<&str> {
        self.values[i].as_deref().filter(|value| !value.is_empty())
    }

    /// Gives the value of the `i`th key.
    ///
    /// # Errors
    /// 400 with the list of what is required.
    pub fn required(&self, i: usize, required: &'static [&'static str]) -> Result<&str, ApiError> {
        self.get(i).ok_or(ApiError::Missing { required })
    }

    /// Parses the `i`th key as a user id.
    ///
    /// # Errors
    /// 400 when it is missing or no id.
    pub fn user(&self, i: usize, required: &'static [&'static str]) -> Result<UserId, ApiError> {
        UserId::parse(self.required(i, required)?)
            .map_err(|error| ApiError::field(self.keys[i], format!("is not a user id: {error}")))
    }
}

/// Parses a target date: exactly `YYYY-MM-DD`, or a complete RFC 3339 timestamp whose date as written counts. Years 1970–9999.
pub fn target_date(text: &str) -> Option<Date> {
    if !text.is_ascii() {
        return None;
    }
    let (date, time) = text.split_at_checked(10)?;
    if !time.is_empty() && !is_time(time.as_bytes()) {
        return None;
    }
    let shape = date
        .bytes()
        .enumerate()
        .all(|(i, b)| if matches!(i, 4 | 7) { b == b'-' } else { b.is_ascii_digit() });
    if !shape {
        return None;
    }
    let (year, month, day) = (date[..4].parse().ok()?, date[5..7].parse().ok()?, date[8..].parse().ok()?);
    let date = Date::new(year, month, day).ok()?;
    (date.year() >= 1970).then_some(date)
}

/// Parses a complete RFC 3339 timestamp, years 1970–9999, and nothing that only resembles one.
pub fn timestamp(text: &str) -> Option<Timestamp> {
    let shaped = text.len() > 10 && target_date(text).is_some();
    text.parse().ok().filter(|_| shaped)
}

/// Says whether the rest of a timestamp is `THH:MM:SS[.fraction](Z|±HH:MM)`, `T` and `Z` in either case.
fn is_time(rest: &[u8]) -> bool {
    let two = |at: usize, greatest: u8| match rest.get(at..at + 2) {
        Some([a, b]) if a.is_ascii_digit() && b.is_ascii_digit() => (a - b'0') * 10 + (b - b'0') <= greatest,
        _ => false,
    };
    let is = |at: usize, wanted: u8| rest.get(at).is_some_and(|b| b.eq_ignore_ascii_case(&wanted));
    if !(is(0, b'T') && two(1, 23) && is(3, b':') && two(4, 59) && is(6, b':') && two(7, 60)) {
        return false;
    }
    let mut at = 9;
    if is(at, b'.') {
        let digits = rest[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        at += 1 + digits;
    }
    if is(at, b'Z') {
        return rest.len() == at + 1;
    }
    (is(at, b'+') || is(at, b'-'))
        && two(at + 1, 23)
        && is(at + 3, b':')
        && two(at + 4, 59)
        && rest.len() == at + 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_exact() {
        for good in [
            "2026-03-15",
            "2026-03-15T23:59:59Z",
            "2026-03-15t00:00:00z",
            "2026-03-15T10:00:00.123456789-11:00",
            "2026-03-15T23:59:60+14:00",
        ] {
            assert_eq!(target_date(good), Date::new(2026, 3, 15).ok(), "{good}");
        }
        for bad in [
            "2026-02-30",
            "infinity",
            "today",
            "20260315",
            "99999-01-01",
            "1969-12-31",
            " 2026-03-15",
            "2026-03-15 ",
            "2026-3-15",
            "2026-03-15T",
            "2026-03-15T10:00",
            "2026-03-15T10:00:00",
            "2026-03-15T24:00:00Z",
            "2026-03-15T10:00:00.Z",
            "2026-03-15T10:00:00+0100",
            "2026-03-15 10:00:00Z",
            "+026-03-15",
            "2026-03-1é",
        ] {
            assert_eq!(target_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn timestamps_are_complete() {
        assert_eq!(timestamp("2026-03-15T12:00:00+02:00"), "2026-03-15T10:00:00Z".parse().ok());
        for bad in
            ["2026-03-15", "2026-03-15T12:00:00", "2026-03-15T12:00:00Z[UTC]", "2026-03-15 12:00Z", "now"]
        {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
    }
}
