//! Dates and times as PostgreSQL reads them from clients, in the ISO forms only: no words such as `now`, no `infinity`, no
//! other order of the parts. Years 1 to 9999.
//!
//! A date is kept as `YYYY-MM-DD`, a time as UTC with six decimals, 27 characters, so that the order of the text is the order
//! of time.

use jiff::civil::{Date, Time};
use jiff::tz::Offset;

/// Reads a date; of a timestamp the date as written counts.
pub(crate) fn date(text: &str) -> Option<String> {
    let text = text.trim_matches(' ');
    let (date, rest) = civil_date(text)?;
    if !rest.is_empty() {
        clock(rest)?;
    }
    Some(date.to_string())
}

/// Reads a timestamp; without a zone it is UTC, without a time midnight.
pub(crate) fn timestamp(text: &str) -> Option<String> {
    let text = text.trim_matches(' ');
    let (date, rest) = civil_date(text)?;
    let (time, offset) = if rest.is_empty() { (Clock::default(), Offset::UTC) } else { clock(rest)? };
    let at = offset.to_timestamp(date.to_datetime(time.time)).ok()?;
    let at = at.checked_add(jiff::SignedDuration::from_micros(time.micros)).ok()?;
    let text = format!("{at:.6}");
    // Years outside 1 to 9999 have another form.
    (text.len() == 27 && !text.starts_with('-') && !text.starts_with("0000")).then_some(text)
}

/// Prints a kept time as JSON has it.
pub(crate) fn json_timestamp(kept: &str) -> String {
    format!("{}+00:00", trimmed(kept))
}

/// Prints a kept time as text.
pub(crate) fn text_timestamp(kept: &str) -> String {
    format!("{}+00", trimmed(kept).replacen('T', " ", 1))
}

/// Takes the `Z` away, and a fraction's zeros at the end.
fn trimmed(kept: &str) -> &str {
    let kept = kept.trim_end_matches('Z');
    if kept.contains('.') { kept.trim_end_matches('0').trim_end_matches('.') } else { kept }
}

/// A time of day, whole seconds and the microseconds to add.
#[derive(Default)]
struct Clock {
    time: Time,
    micros: i64,
}

/// Takes `digits` digits, from `least` to `most` of them.
fn number(text: &str, least: usize, most: usize) -> Option<(i16, &str)> {
    let length = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(length)?;
    if length < least || rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

fn civil_date(text: &str) -> Option<(Date, &str)> {
    let (year, rest) = number(text, 4, 4)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 1, 2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 1, 2)?;
    if year < 1 {
        return None;
    }
    Some((Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()?, rest))
}

/// Reads what follows a date: a separator, a time, a zone or none.
fn clock(text: &str) -> Option<(Clock, Offset)> {
    let text = text.strip_prefix(['T', 't', ' '])?.trim_start_matches(' ');
    let (hour, rest) = number(text, 1, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2, 2)?;
    let (second, rest) = match rest.strip_prefix(':') {
        Some(rest) => number(rest, 2, 2)?,
        None => (0, rest),
    };
    let (micros, rest) = match rest.strip_prefix('.') {
        Some(rest) => fraction(rest)?,
        None => (0, rest),
    };
    let time = Time::new(hour.try_into().ok()?, minute.try_into().ok()?, second.try_into().ok()?, 0).ok()?;
    Some((Clock { time, micros }, zone(rest.trim_start_matches(' '))?))
}

/// Reads a fraction of a second as microseconds, rounded.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(length)?;
    let mut micros = 0;
    for place in 0..6 {
        micros = micros * 10 + i64::from(digits.as_bytes().get(place).map_or(0, |digit| digit - b'0'));
    }
    if digits.as_bytes().get(6).is_some_and(|digit| *digit >= b'5') {
        micros += 1;
    }
    (length > 0).then_some((micros, rest))
}

/// Reads a zone: nothing, `Z`, `+HH`, `+HHMM`, `+HH:MM`, at most 15:59 away.
fn zone(text: &str) -> Option<Offset> {
    if text.is_empty() || text.eq_ignore_ascii_case("z") {
        return Some(Offset::UTC);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits, "0"),
        4 => digits.split_at_checked(2)?,
        5 => digits.split_once(':')?,
        _ => return None,
    };
    let ((hours, ""), (minutes, "")) = (number(hours, 1, 2)?, number(minutes, 1, 2)?) else { return None };
    if hours > 15 || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (i32::from(hours) * 3_600 + i32::from(minutes) * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_forms_are_read() {
        for (text, kept) in [
            ("2026-01-02", "2026-01-02T00:00:00.000000Z"),
            (" 2026-1-2 ", "2026-01-02T00:00:00.000000Z"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
            ("2026-01-02 03:04", "2026-01-02T03:04:00.000000Z"),
            ("2026-01-02t03:04:05.678901+00:00", "2026-01-02T03:04:05.678901Z"),
            ("2026-01-02 03:04:05.5+02", "2026-01-02T01:04:05.500000Z"),
            ("2026-01-02 03:04:05 -0330", "2026-01-02T06:34:05.000000Z"),
            ("2026-12-31T23:59:59.9999999Z", "2027-01-01T00:00:00.000000Z"),
            ("0001-01-01", "0001-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(text).as_deref(), Some(kept), "{text}");
        }
        assert_eq!(date("2026-01-02T23:00:00-05:00").as_deref(), Some("2026-01-02"));
        assert_eq!(date("2026-1-2").as_deref(), Some("2026-01-02"));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "now",
            "today",
            "yesterday",
            "infinity",
            "-infinity",
            "epoch",
            "allballs",
            "2026-02-30",
            "2026-13-01",
            "20260101",
            "02026-01-01",
            "0000-01-01",
            "99999-01-01",
            "2026-01-02T",
            "2026-01-02T3",
            "2026-01-02T24:00:00",
            "2026-01-02T03:04:60",
            "2026-01-02T03:04:05 UTC",
            "2026-01-02T03:04:05+16",
            "2026-01-02T03:04:05+0é",
            "2026-01-02T03:04:05.",
            "2026-01-02T03:04:05 00:00",
            "2026-01-02 BC",
            "Jan 2 2026",
            "١٢٣٤-٠١-٠١",
            "0001-01-01T00:00:00+15",
            "9999-12-31T23:00:00-15",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
            if !text.starts_with("0001") && !text.starts_with("9999") {
                assert_eq!(date(text), None, "{text}");
            }
        }
    }

    #[test]
    fn times_are_printed_as_postgresql_prints_them() {
        for (kept, json, text) in [
            (
                "2026-01-02T01:04:05.678901Z",
                "2026-01-02T01:04:05.678901+00:00",
                "2026-01-02 01:04:05.678901+00",
            ),
            ("2026-01-02T01:04:05.500000Z", "2026-01-02T01:04:05.5+00:00", "2026-01-02 01:04:05.5+00"),
            ("2026-01-02T01:04:00.000000Z", "2026-01-02T01:04:00+00:00", "2026-01-02 01:04:00+00"),
        ] {
            assert_eq!(json_timestamp(kept), json);
            assert_eq!(text_timestamp(kept), text);
        }
    }
}
