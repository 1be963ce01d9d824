//! Partitions, one a month: made ahead, and where a row needs one.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use uuid::Uuid;

use super::convert::{Day, Statement, day, get, statements};
use super::pool::Pool;
use crate::error::StoreError;
use crate::options::Retention;

statements! {
    SELECT_MISSING [] = "SELECT parent, month FROM nudge.missing_partitions()";
    SELECT_PARTITIONS [] = "SELECT parent, month FROM nudge.partitions ORDER BY month, parent";
    DROP [TEXT, DATE] = "SELECT nudge.drop_partition($1, $2)";
    MAKE [TEXT, DATE] = "SELECT nudge.make_partition($1, $2)";
}

/// The table that errors name.
const TABLE: &str = "partitions";
/// The tables that hold what belongs to a decision.
pub(super) const OF_DECISIONS: [&str; 2] = ["recommendation_logs", "recommendation_events"];
/// A try waits 100 ms for its locks, so that commits do not wait longer behind it; so often, with this pause.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Makes the partitions of this month and of the months ahead; gives the number of those made.
pub(super) async fn make_ahead(pool: &Pool) -> Result<usize, StoreError> {
    let mut made = 0;
    for (parent, month) in listed(pool, &SELECT_MISSING).await? {
        made += usize::from(alter(pool, &MAKE, &parent, month).await?);
    }
    Ok(made)
}

/// Drops the partitions of which nothing is to be kept; gives the number of those dropped.
pub(super) async fn drop_old(pool: &Pool, keep: &Retention, today: Date) -> Result<usize, StoreError> {
    let mut dropped = 0;
    for (parent, month) in listed(pool, &SELECT_PARTITIONS).await? {
        if is_old(&parent, month, keep, today) && alter(pool, &DROP, &parent, month).await? {
            tracing::info!(table = parent, %month, "store.partition_dropped");
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// Says whether every day of a month is older than what is to be kept of a table.
fn is_old(parent: &str, month: Date, keep: &Retention, today: Date) -> bool {
    let (months, days) = match parent {
        "recommendation_logs" => (keep.decisions_months, 0),
        "recommendation_events" => (keep.events_months, 0),
        "edge_function_logs" => (0, keep.requests_days),
        _ => return false,
    };
    if months == 0 && days == 0 {
        return false;
    }
    let kept = Span::new().try_months(i64::from(months)).and_then(|span| span.try_days(i64::from(days)));
    // Where the calendar does not reach so far back, nothing is that old.
    let first_kept = kept.and_then(|kept| today.checked_sub(kept)).unwrap_or(Date::MIN);
    month.checked_add(1.month()).is_ok_and(|end| end <= first_kept)
}

async fn listed(pool: &Pool, statement: &'static Statement) -> Result<Vec<(String, Date)>, StoreError> {
    let transaction = pool.begin_reading().await?;
    let rows = transaction.query(TABLE, statement, &[]).await?;
    transaction.rollback().await;
    rows.iter().map(|row| Ok((get(row, 0, TABLE)?, day(row, 1, TABLE)?))).collect()
}

/// Makes the partitions that rows of some tables need, all that can be made.
///
/// # Errors
/// The last error, once every month has been tried.
pub(super) async fn make_for(
    pool: &Pool,
    tables: &[&str],
    ids: impl Iterator<Item = Uuid>,
) -> Result<(), StoreError> {
    let months: BTreeSet<Date> = ids.map(month_of).collect();
    let mut result = Ok(());
    for month in months {
        for parent in tables {
            match alter(pool, &MAKE, parent, month).await {
                Ok(true) => tracing::info!(table = parent, %month, "store.partition_made"),
                Ok(false) => {}
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => result = Err(error),
            }
        }
    }
    result
}

/// Gives the first day of the month that a UUIDv7 falls into (UTC).
fn month_of(id: Uuid) -> Date {
    let millis = i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
    TimeZone::UTC.to_datetime(at).date().first_of_month()
}

/// Makes or drops a partition, each try in a transaction of its own; says whether there was anything to do.
async fn alter(
    pool: &Pool,
    statement: &'static Statement,
    parent: &str,
    month: Date,
) -> Result<bool, StoreError> {
    let mut tries = 0;
    loop {
        let transaction = pool.begin().await?;
        match transaction.query(TABLE, statement, &[&parent, &Day(month)]).await {
            Ok(rows) => {
                let done = rows.first().map_or(Ok(false), |row| get(row, 0, TABLE));
                let mut never_again = u32::MAX - 1;
                match pool.end(transaction, done, &mut never_again).await {
                    super::pool::Ended::Done(done) => return done,
                    super::pool::Ended::Again => {}
                }
            }
            Err(error) => {
                transaction.rollback().await;
                tries += 1;
                if tries >= TRIES || !error.is_unavailable() {
                    return Err(error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_old_once_its_last_day_is() {
        let keep = Retention { decisions_months: 2, events_months: 0, requests_days: 30 };
        let day = |text: &str| text.parse::<Date>().unwrap();
        for (parent, month, today, old) in [
            ("recommendation_logs", "2026-01-01", "2026-03-31", false),
            ("recommendation_logs", "2026-01-01", "2026-04-01", true),
            ("recommendation_events", "2020-01-01", "2026-04-01", false),
            ("edge_function_logs", "2026-02-01", "2026-03-30", false),
            ("edge_function_logs", "2026-02-01", "2026-03-31", true),
            ("edge_function_logs", "2026-12-01", "2026-03-31", false),
            ("another", "2020-01-01", "2026-03-31", false),
        ] {
            assert_eq!(is_old(parent, day(month), &keep, day(today)), old, "{parent} {month} {today}");
        }
        let ever = Retention { decisions_months: u32::MAX, ..keep };
        assert!(!is_old("recommendation_logs", day("2020-01-01"), &ever, day("2026-04-01")));
    }

    #[test]
    fn the_month_is_that_of_the_ids_time() {
        for (id, month) in [
            ("019b76da-a800-7000-8000-000000000000", "2026-01-01"),
            ("019b76da-a7ff-7fff-bfff-ffffffffffff", "2025-12-01"),
            ("ffffffff-ffff-7fff-bfff-ffffffffffff", "9999-12-01"),
        ] {
            assert_eq!(month_of(id.parse().unwrap()).to_string(), month, "{id}");
        }
    }
}
