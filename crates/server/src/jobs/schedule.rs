//! When a run is due, by a cron expression in the service's time zone.

use std::cmp::Ordering;
use std::fmt::Display;
use std::str::FromStr;

use croner::Cron;
use croner::errors::CronError;
use croner::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use nudge_store::{Store, StoreError};

/// A schedule: five fields of cron, or never.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule(Option<Box<Cron>>);

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be `off` or five fields of cron, such as `0 2 * * *` for 2 o'clock at night: {0}")]
pub struct BadSchedule(String);

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        if !text.starts_with('@') && text.split_whitespace().count() != 5 {
            return Err(BadSchedule(format!("`{text}` has {} fields", text.split_whitespace().count())));
        }
        match Cron::from_str(text) {
            Ok(cron) => Ok(Self(Some(Box::new(cron)))),
            Err(error) => Err(BadSchedule(error.to_string())),
        }
    }
}

impl Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(cron) => f.write_str(cron.as_str()),
            None => f.write_str("off"),
        }
    }
}

impl Schedule {
    /// Gives the newest time at which a run was due, at `now` or before. `None`: there was none.
    pub fn newest_due(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let cron = self.0.as_ref()?;
        cron.find_previous_occurrence(&Wall::of(now, zone), true).ok().map(|wall| wall.at)
    }

    /// Gives the next time at which a run is due, after `now`.
    pub fn next_due(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let cron = self.0.as_ref()?;
        cron.find_next_occurrence(&Wall::of(now, zone), false).ok().map(|wall| wall.at)
    }
}

/// Notes in a new database that nothing of the schedule has been missed before now.
///
/// # Errors
/// When the database cannot be read or written.
pub async fn begin(
    store: &Store,
    schedule: &Schedule,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<(), StoreError> {
    match schedule.newest_due(now, zone) {
        Some(due) if store.job_state().await?.scheduled_at.is_none() => store.see_to_schedule(due).await,
        _ => Ok(()),
    }
}

/// An instant and what the clock on the wall says then.
#[derive(Debug, Clone)]
struct Wall {
    at: Timestamp,
    zone: TimeZone,
}

impl Wall {
    fn of(at: Timestamp, zone: &TimeZone) -> Self {
        Self { at, zone: zone.clone() }
    }

    fn datetime(&self) -> DateTime {
        self.zone.to_datetime(self.at)
    }
}

impl CronDateTime for Wall {
    fn to_civil(&self) -> CivilDateTime {
        let wall = self.datetime();
        let number = |n: i8| u32::from(n.unsigned_abs());
        let date = CivilDate::from_ymd_opt(i32::from(wall.year()), number(wall.month()), number(wall.day()));
        let time = CivilTime::from_hms_opt(number(wall.hour()), number(wall.minute()), number(wall.second()));
        // A date and time of jiff's are always ones of croner's.
        CivilDateTime::new(
            date.unwrap_or_else(|| CivilDate::from_parts_unchecked(1970, 1, 1)),
            time.unwrap_or_else(|| CivilTime::from_parts_unchecked(0, 0, 0)),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let weekday = self.datetime().weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(weekday.unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |n: u32| i8::try_from(n).map_err(|_| CronError::InvalidDate);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day) = (part(civil.month())?, part(civil.day())?);
        let (hour, minute, second) = (part(civil.hour())?, part(civil.minute())?, part(civil.second())?);
        let wall = DateTime::new(year, month, day, hour, minute, second, 0);
        let wall = wall.map_err(|_| CronError::InvalidDate)?;
        let ambiguous = self.zone.to_ambiguous_timestamp(wall);
        let found = |at: Result<Timestamp, jiff::Error>| {
            at.map(|at| Self::of(at, &self.zone)).map_err(|_| CronError::InvalidTime)
        };
        Ok(match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(found(ambiguous.unambiguous())?),
            AmbiguousOffset::Fold { .. } => {
                Resolution::Ambiguous(found(ambiguous.earlier())?, found(ambiguous.later())?)
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let at = self.at.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(Self::of(at, &self.zone))
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(schedule: &str, now: &str, zone: &str) -> (Option<String>, Option<String>) {
        let schedule: Schedule = schedule.parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let now: Timestamp = now.parse().unwrap();
        (text(schedule.newest_due(now, &zone)), text(schedule.next_due(now, &zone)))
    }

    #[test]
    fn a_run_is_due_by_the_clock_on_the_wall() {
        let some = |a: &str, b: &str| (Some(a.to_owned()), Some(b.to_owned()));
        let nightly = "0 2 * * *";
        assert_eq!(
            due(nightly, "2026-11-24T01:59:59Z", "UTC"),
            some("2026-11-23T02:00:00Z", "2026-11-24T02:00:00Z")
        );
        assert_eq!(
            due(nightly, "2026-11-24T02:00:00Z", "UTC"),
            some("2026-11-24T02:00:00Z", "2026-11-25T02:00:00Z")
        );
        assert_eq!(
            due(nightly, "2026-11-24T02:00:00Z", "Europe/Berlin"),
            some("2026-11-24T01:00:00Z", "2026-11-25T01:00:00Z")
        );
        assert_eq!(due("off", "2026-11-24T02:00:00Z", "UTC"), (None, None));
    }

    #[test]
    fn every_night_has_one_run_also_when_the_clock_is_put_forward_or_back() {
        let schedule: Schedule = "30 2 * * *".parse().unwrap();
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        // Half past two is left out on 2026-03-29 and comes twice on 2026-10-25.
        for (from, nights) in [("2026-03-27T12:00:00Z", 4), ("2026-10-23T12:00:00Z", 4)] {
            let mut at: Timestamp = from.parse().unwrap();
            let mut days = std::collections::BTreeSet::new();
            for _ in 0..nights {
                at = schedule.next_due(at, &zone).unwrap();
                days.insert(at.to_zoned_datetime(zone.clone()).date());
                assert_eq!(schedule.newest_due(at, &zone), Some(at), "it is due at that time");
            }
            assert_eq!(days.len(), nights, "{days:?}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_an_example() {
        for text in ["", "0 2 * *", "0 0 2 * * *", "60 2 * * *", "nightly", "0 25 * * *"] {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains("`0 2 * * *`"), "{text}: {error}");
        }
        assert_eq!("0 2 * * *".parse::<Schedule>().unwrap().to_string(), "0 2 * * *");
        assert_eq!("OFF".parse::<Schedule>().unwrap().to_string(), "off");
    }
}
