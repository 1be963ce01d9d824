//! How close check-in is.

use jiff::civil::Date;

use crate::policy::Policy;
use crate::vocabulary::vocabulary;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::vocabulary::UnknownWord;

vocabulary! {
    /// A band of days until check-in.
    UrgencyLevel {
        /// 0–3 days, and past dates.
        Critical = "CRITICAL",
        /// 4–7 days.
        High = "HIGH",
        /// 8–14 days.
        Medium = "MEDIUM",
        /// 15 days and more.
        Low = "LOW",
    }
}

/// The urgency of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Urgency {
    /// Calendar days until check-in, 0 when overdue.
    pub days: i64,
    /// Whether the date has passed.
    pub overdue: bool,
    /// The band.
    pub level: UrgencyLevel,
    /// The price multiplier in hundredths.
    pub multiplier_hundredths: i64,
}

impl Urgency {
    /// Places a number of days (negative: the date has passed) in its band.
    pub fn of(days: i64, policy: &Policy) -> Self {
        let level = if days <= policy.critical_max_days {
            UrgencyLevel::Critical
        } else if days <= policy.high_max_days {
            UrgencyLevel::High
        } else if days <= policy.medium_max_days {
            UrgencyLevel::Medium
        } else {
            UrgencyLevel::Low
        };
        let multiplier_hundredths = match level {
            UrgencyLevel::Critical => policy.critical_multiplier_hundredths,
            UrgencyLevel::High => policy.high_multiplier_hundredths,
            UrgencyLevel::Medium => policy.medium_multiplier_hundredths,
            UrgencyLevel::Low => policy.low_multiplier_hundredths,
        };
        Self { days: days.max(0), overdue: days < 0, level, multiplier_hundredths }
    }

    /// Gives the price multiplier as a number, for the wire.
    pub fn multiplier(self) -> f64 {
        self.multiplier_hundredths as f64 / 100.0
    }
}

/// Counts the calendar days from `today` to `target`; negative when the target has passed.
pub fn days_between(today: Date, target: Date) -> i64 {
    target.duration_since(today).as_hours() / 24
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn days_are_calendar_days() {
        assert_eq!(days_between(date(2026, 2, 28), date(2026, 3, 1)), 1);
        assert_eq!(days_between(date(2026, 3, 1), date(2026, 2, 28)), -1);
        assert_eq!(days_between(date(1970, 1, 1), date(9999, 12, 31)), 2_932_896);
    }

    #[test]
    fn bands_end_where_the_specification_says() {
        let policy = Policy::default();
        let bands: Vec<_> =
            [-1, 0, 3, 4, 7, 8, 14, 15].iter().map(|d| Urgency::of(*d, &policy).multiplier()).collect();
        assert_eq!(bands, [1.5, 1.5, 1.5, 1.25, 1.25, 1.1, 1.1, 1.0]);
        assert!(Urgency::of(-1, &policy).overdue && !Urgency::of(0, &policy).overdue);
    }
}
