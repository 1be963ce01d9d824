//! The feed of users whose cached facts are out of date, and the marks of those to recompute.
//!
//! Both take their numbers from one sequence. Writers append one after the other, so that numbers rise in the order of
//! commits: whoever has read a number never misses a lower one. Pollers read what came after the number that they know.

use std::collections::BTreeSet;

use nudge_engine::UserId;

use super::convert::{get, parsed_opt, statements};
use super::lanes::Lanes;
use super::pool::Transaction;
use crate::error::StoreError;
use crate::record::Changed;

statements! {
    HEAD [] = "SELECT coalesce(max(revision), 0) FROM nudge.user_changes";
    /// One row more than is taken one by one, each with the oldest and the newest number.
    SINCE [INT8, INT8] = "SELECT ends.oldest, ends.newest, c.revision, c.user_id
      FROM (SELECT min(revision) AS oldest, coalesce(max(revision), 0) AS newest FROM nudge.user_changes) AS ends
      LEFT JOIN (
        SELECT revision, user_id FROM nudge.user_changes WHERE revision > $1 ORDER BY revision LIMIT $2
      ) AS c ON true";
    APPEND [TEXT_ARRAY] = "INSERT INTO nudge.user_changes (user_id)
      SELECT v.user_id FROM unnest($1) WITH ORDINALITY AS v (user_id, n) ORDER BY v.n
      RETURNING user_id, revision";
    PRUNE [INT8, INT8] = "DELETE FROM nudge.user_changes WHERE revision <= $1 - $2
      AND (SELECT min(revision) FROM nudge.user_changes) + $2 + $2 / 100 <= $1";
    /// Locks the marks of users, in the order in which every writer does.
    LOCK_MARKS [TEXT_ARRAY] = "SELECT user_id, revision FROM nudge.stale_users WHERE user_id = ANY ($1)
      ORDER BY user_id FOR UPDATE";
    MARK [TEXT_ARRAY, INT8_ARRAY] = "INSERT INTO nudge.stale_users AS s (user_id, revision)
      SELECT v.user_id, v.revision FROM unnest($1, $2) AS v (user_id, revision) ORDER BY v.user_id COLLATE \"C\"
      ON CONFLICT (user_id) DO UPDATE SET revision = excluded.revision";
    UNMARK [TEXT_ARRAY] = "DELETE FROM nudge.stale_users WHERE user_id = ANY ($1)";
}

const FEED: &str = "user_changes";
const MARKS: &str = "stale_users";

/// A write that concerns more users than this says *everybody* in the feed.
const MANY_USERS: usize = 5_000;
/// Entries that the feed keeps; who is behind them is told *everybody*.
const KEPT_ENTRIES: i64 = 100_000;
/// Entries that a poller takes one by one; more are *everybody*.
const POLLED_ENTRIES: usize = 10_000;

/// Reads the newest number.
pub(super) async fn head(lanes: &Lanes) -> Result<i64, StoreError> {
    let rows = lanes.query(FEED, &HEAD, &[]).await?;
    rows.first().map_or(Ok(0), |row| get(row, 0, FEED))
}

/// Reads what came after a number, and the newest number. A number from the future is that of another database:
/// everybody.
pub(super) async fn since(lanes: &Lanes, revision: i64) -> Result<(i64, Option<Changed>), StoreError> {
    let limit = i64::try_from(POLLED_ENTRIES + 1).unwrap_or(i64::MAX);
    let rows = lanes.query(FEED, &SINCE, &[&revision, &limit]).await?;
    let Some(first) = rows.first() else { return Ok((0, Some(Changed::Everybody))) };
    let (oldest, newest) = (get::<Option<i64>>(first, 0, FEED)?, get::<i64>(first, 1, FEED)?);
    if revision == newest {
        return Ok((newest, None));
    }
    let pruned = oldest.is_none_or(|oldest| revision < oldest - 1);
    if revision > newest || pruned || rows.len() > POLLED_ENTRIES {
        return Ok((newest, Some(Changed::Everybody)));
    }
    let users = rows.iter().map(|row| parsed_opt(row, 3, FEED, UserId::parse));
    let users: Option<BTreeSet<UserId>> = users.collect::<Result<_, _>>()?;
    let changed = users.map_or(Changed::Everybody, |users| Changed::Users(users.into_iter().collect()));
    Ok((newest, Some(changed)))
}

/// Tells the feed of users; gives the number of each. Nothing but the audit log is written after it in a transaction.
async fn append(
    transaction: &Transaction<'_>,
    users: &[Option<&str>],
) -> Result<Vec<(Option<String>, i64)>, StoreError> {
    let rows = transaction.query(FEED, &APPEND, &[&users]).await?;
    let appended = rows.iter().map(|row| Ok((get(row, 0, FEED)?, get(row, 1, FEED)?)));
    let appended: Vec<_> = appended.collect::<Result<_, StoreError>>()?;
    if let Some(newest) = appended.iter().map(|(_, revision)| *revision).max()
        // In steps, so that not every write deletes rows.
        && newest % (KEPT_ENTRIES / 100) < i64::try_from(users.len()).unwrap_or(i64::MAX)
    {
        transaction.execute(FEED, &PRUNE, &[&newest, &KEPT_ENTRIES]).await?;
    }
    Ok(appended)
}

/// Tells the feed of users.
pub(super) async fn announce(transaction: &Transaction<'_>, users: &[&UserId]) -> Result<(), StoreError> {
    if users.is_empty() {
        return Ok(());
    }
    let users: Vec<_> = if users.len() > MANY_USERS {
        vec![None]
    } else {
        users.iter().map(|user| Some(user.as_str())).collect()
    };
    append(transaction, &users).await.map(drop)
}

/// Tells the feed of users, in order of their ids, and marks some of them for recomputation.
pub(super) async fn announce_all(
    transaction: &Transaction<'_>,
    users: &BTreeSet<UserId>,
    stale: &BTreeSet<UserId>,
) -> Result<(), StoreError> {
    if users.is_empty() {
        return Ok(());
    }
    let marked: Vec<&str> = stale.iter().map(UserId::as_str).collect();
    transaction.query(MARKS, &LOCK_MARKS, &[&marked]).await?;
    let revisions: Vec<i64> = if users.len() > MANY_USERS {
        let everybody = append(transaction, &[None]).await?;
        let revision = everybody.first().map_or(0, |(_, revision)| *revision);
        marked.iter().map(|_| revision).collect()
    } else {
        let appended: Vec<_> = users.iter().map(|user| Some(user.as_str())).collect();
        let mut appended = append(transaction, &appended).await?;
        appended.retain(|(user, _)| user.as_deref().is_some_and(|user| marked.binary_search(&user).is_ok()));
        appended.sort();
        appended.into_iter().map(|(_, revision)| revision).collect()
    };
    if !marked.is_empty() {
        transaction.execute(MARKS, &MARK, &[&marked, &revisions]).await?;
    }
    Ok(())
}

/// Reads and locks the marks of users, given in order.
pub(super) async fn lock_marks(
    transaction: &Transaction<'_>,
    users: &[&str],
) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = transaction.query(MARKS, &LOCK_MARKS, &[&users]).await?;
    rows.iter().map(|row| Ok((get(row, 0, MARKS)?, get(row, 1, MARKS)?))).collect()
}

/// Takes marks away that are locked.
pub(super) async fn unmark(transaction: &Transaction<'_>, users: &[&str]) -> Result<(), StoreError> {
    if users.is_empty() {
        return Ok(());
    }
    transaction.execute(MARKS, &UNMARK, &[&users]).await.map(drop)
}
