//! The feed of users whose cached facts are out of date, and the marks of those to recompute.
//!
//! Both take their numbers from one sequence, the feed's own, which never gives a number twice. Pollers read what came
//! after the number that they know.

use std::collections::BTreeSet;

use nudge_engine::UserId;
use rusqlite::{Connection, OptionalExtension};

use super::convert::{Within, parsed_opt, statements};
use crate::error::StoreError;
use crate::record::Changed;

statements! {
    HEAD = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'nudge_user_changes'), 0)";
    OLDEST = "SELECT min(revision) FROM nudge_user_changes";
    SINCE = "SELECT user_id FROM nudge_user_changes WHERE revision > ?1 ORDER BY revision LIMIT ?2";
    APPEND = "INSERT INTO nudge_user_changes (user_id) VALUES (?1)";
    PRUNE = "DELETE FROM nudge_user_changes WHERE revision <= ?1";
    MARK = "INSERT INTO nudge_stale_users (user_id, revision) VALUES (?1, ?2)
      ON CONFLICT (user_id) DO UPDATE SET revision = excluded.revision";
    UNMARK = "DELETE FROM nudge_stale_users WHERE user_id = ?1";
}

const FEED: &str = "nudge_user_changes";
const MARKS: &str = "nudge_stale_users";

/// A write that concerns more users than this says *everybody* in the feed.
const MANY_USERS: usize = 5_000;
/// Entries that the feed keeps; who is behind them is told *everybody*.
const KEPT_ENTRIES: i64 = 100_000;
/// Entries that a poller takes one by one; more are *everybody*.
const POLLED_ENTRIES: usize = 10_000;

/// Reads the newest number.
pub(super) fn head(conn: &Connection) -> Result<i64, StoreError> {
    conn.prepare_cached(HEAD).and_then(|mut s| s.query_row([], |row| row.get(0))).within(FEED)
}

/// Reads what came after a number, and the newest number. A number from the future is that of another database:
/// everybody.
pub(super) fn since(conn: &Connection, revision: i64) -> Result<(i64, Option<Changed>), StoreError> {
    let head = head(conn)?;
    if revision == head {
        return Ok((head, None));
    }
    let oldest: Option<i64> =
        conn.prepare_cached(OLDEST).and_then(|mut s| s.query_row([], |row| row.get(0))).within(FEED)?;
    if revision > head || oldest.is_none_or(|oldest| revision < oldest - 1) {
        return Ok((head, Some(Changed::Everybody)));
    }
    let mut statement = conn.prepare_cached(SINCE).within(FEED)?;
    let limit = i64::try_from(POLLED_ENTRIES + 1).unwrap_or(i64::MAX);
    let rows = statement.query_map([revision, limit], |row| parsed_opt(row, 0, UserId::parse));
    let users: Vec<Option<UserId>> = rows.and_then(Iterator::collect).within(FEED)?;
    if users.len() > POLLED_ENTRIES {
        return Ok((head, Some(Changed::Everybody)));
    }
    let users: Option<BTreeSet<UserId>> = users.into_iter().collect();
    let changed = users.map_or(Changed::Everybody, |users| Changed::Users(users.into_iter().collect()));
    Ok((head, Some(changed)))
}

/// Tells the feed of one user.
pub(super) fn announce(conn: &Connection, user: &UserId) -> Result<(), StoreError> {
    append(conn, Some(user))?;
    prune(conn)
}

/// Tells the feed of users, in order of their ids, and marks some of them for recomputation.
pub(super) fn announce_all(
    conn: &Connection,
    users: &BTreeSet<UserId>,
    stale: &BTreeSet<UserId>,
) -> Result<(), StoreError> {
    let everybody = if users.len() > MANY_USERS { Some(append(conn, None)?) } else { None };
    for user in users {
        let revision = match everybody {
            Some(revision) => revision,
            None => append(conn, Some(user))?,
        };
        if stale.contains(user) {
            let marked = conn.prepare_cached(MARK).and_then(|mut s| s.execute((user.as_str(), revision)));
            marked.within(MARKS)?;
        }
    }
    if users.is_empty() { Ok(()) } else { prune(conn) }
}

/// Takes a user's mark away.
pub(super) fn unmark(conn: &Connection, user: &UserId) -> Result<(), StoreError> {
    conn.prepare_cached(UNMARK).and_then(|mut s| s.execute([user.as_str()])).within(MARKS).map(drop)
}

fn append(conn: &Connection, user: Option<&UserId>) -> Result<i64, StoreError> {
    let mut statement = conn.prepare_cached(APPEND).within(FEED)?;
    statement.insert([user.map(UserId::as_str)]).within(FEED)
}

fn prune(conn: &Connection) -> Result<(), StoreError> {
    let oldest: Option<Option<i64>> = conn
        .prepare_cached(OLDEST)
        .and_then(|mut s| s.query_row([], |row| row.get(0)).optional())
        .within(FEED)?;
    let head = head(conn)?;
    // In steps, so that not every write deletes a row.
    if oldest.flatten().is_some_and(|oldest| oldest + KEPT_ENTRIES + KEPT_ENTRIES / 100 <= head) {
        let pruned = conn.prepare_cached(PRUNE).and_then(|mut s| s.execute([head - KEPT_ENTRIES]));
        pruned.within(FEED)?;
    }
    Ok(())
}
