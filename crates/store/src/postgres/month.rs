//! Partitions, one a month: made ahead, and where a row needs one.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::convert::{Day, day, get, statements};
use super::pool::Pool;
use crate::error::StoreError;

statements! {
    SELECT_MISSING [] = "SELECT parent, month FROM nudge.missing_partitions()";
    MAKE [TEXT, DATE] = "SELECT nudge.make_partition($1, $2)";
}

/// The table that errors name.
const TABLE: &str = "partitions";
/// The tables that hold what belongs to a decision.
const OF_DECISIONS: [&str; 2] = ["recommendation_logs", "recommendation_events"];
/// A try waits 100 ms for its locks, so that commits do not wait longer behind it; so often, with this pause.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Makes the partitions of this month and of the months ahead; gives the number of those made.
pub(super) async fn make_ahead(pool: &Pool) -> Result<usize, StoreError> {
    let transaction = pool.begin_reading().await?;
    let rows = transaction.query(TABLE, &SELECT_MISSING, &[]).await?;
    transaction.rollback().await;
    let missing = rows.iter().map(|row| Ok((get::<String>(row, 0, TABLE)?, day(row, 1, TABLE)?)));
    let missing: Vec<(String, Date)> = missing.collect::<Result<_, StoreError>>()?;
    let mut made = 0;
    for (parent, month) in missing {
        made += usize::from(make(pool, &parent, month).await?);
    }
    Ok(made)
}

/// Makes the partitions that decisions need, all that can be made.
///
/// # Errors
/// The last error, once every month has been tried.
pub(super) async fn make_for(pool: &Pool, ids: impl Iterator<Item = Uuid>) -> Result<(), StoreError> {
    let months: BTreeSet<Date> = ids.map(month_of).collect();
    let mut result = Ok(());
    for month in months {
        for parent in OF_DECISIONS {
            match make(pool, parent, month).await {
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

/// Makes a partition, each try in a transaction of its own; says whether it was not there.
async fn make(pool: &Pool, parent: &str, month: Date) -> Result<bool, StoreError> {
    let mut tries = 0;
    loop {
        let transaction = pool.begin().await?;
        match transaction.query(TABLE, &MAKE, &[&parent, &Day(month)]).await {
            Ok(rows) => {
                let made = rows.first().map_or(Ok(false), |row| get(row, 0, TABLE));
                let mut never_again = u32::MAX - 1;
                match pool.end(transaction, made, &mut never_again).await {
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
