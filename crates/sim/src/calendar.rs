//! Days, dates and times; everything is in UTC.

use jiff::civil::{Date, Weekday, date};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use nudge_engine::days_between;

/// The first day that is counted from.
const EPOCH: Date = date(1970, 1, 1);

/// Milliseconds in a day.
pub(crate) const DAY_MILLIS: f64 = 86_400_000.0;

/// Gives the date of a moment.
pub(crate) fn date_of(at: Timestamp) -> Date {
    Offset::UTC.to_datetime(at).date()
}

/// Numbers a date.
pub(crate) fn day_number(date: Date) -> i64 {
    days_between(EPOCH, date)
}

/// Moves a date by days, staying within the dates that exist.
pub(crate) fn add_days(date: Date, days: i64) -> Date {
    date.saturating_add(SignedDuration::from_secs(days.clamp(-4_000_000, 4_000_000) * 86_400))
}

/// Moves a moment by milliseconds, staying within the times that exist.
pub(crate) fn add_millis(at: Timestamp, millis: f64) -> Timestamp {
    // Saturating at the bounds of `i64` and of the time line is meant.
    at.saturating_add(SignedDuration::from_millis(millis.round() as i64)).unwrap_or(at)
}

/// Says whether a date is one of Friday to Sunday.
pub(crate) fn is_weekend(date: Date) -> bool {
    matches!(date.weekday(), Weekday::Friday | Weekday::Saturday | Weekday::Sunday)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_move_and_stay_within_what_exists() {
        assert_eq!(add_days(date(2026, 2, 28), 1), date(2026, 3, 1));
        assert_eq!(add_days(date(2026, 3, 1), -1), date(2026, 2, 28));
        assert_eq!(add_days(date(9999, 12, 31), 1), date(9999, 12, 31));
        assert_eq!(add_millis(Timestamp::UNIX_EPOCH, DAY_MILLIS), Timestamp::from_second(86_400).unwrap());
        assert_eq!(add_millis(Timestamp::MAX, 5.0), Timestamp::MAX);
    }

    #[test]
    fn the_weekend_is_friday_to_sunday() {
        let days: Vec<bool> = (2..9).map(|d| is_weekend(date(2026, 3, d))).collect();
        assert_eq!(days, [false, false, false, false, true, true, true]);
    }
}
