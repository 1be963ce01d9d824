//! Decisions by user, indexed in runs: a sorted, sequential write for a thousand decisions instead of a random page for
//! each. The schema's file of that name says why.
//!
//! Level 0 holds runs as they were written, level 1 what they were merged into. A search looks at every run, so that
//! ten million decisions are some six hundred searches of a few microseconds.

use rusqlite::{Connection, params};

use super::convert::{Within, statements};
use crate::error::StoreError;

statements! {
    COUNT_WAITING = "SELECT coalesce((SELECT max(seq) FROM recommendation_logs), 0),
      coalesce((SELECT max(last_seq) FROM nudge_decision_runs), 0)";
    COUNT_SMALL = "SELECT count(*) FROM nudge_decision_runs WHERE level = 0";
    INSERT_RUN = "INSERT INTO nudge_decision_runs (level, last_seq) VALUES (?1, ?2)";
    INDEX_NEWEST = "INSERT INTO nudge_decisions_by_user (run, user_id, id)
      SELECT ?1, user_id, id FROM recommendation_logs WHERE seq > ?2 AND seq <= ?3 ORDER BY user_id, id";
    MERGE_SMALL = "INSERT INTO nudge_decisions_by_user (run, user_id, id)
      SELECT ?1, user_id, id FROM nudge_decisions_by_user
      WHERE run IN (SELECT run FROM nudge_decision_runs WHERE level = 0) ORDER BY user_id, id";
    DELETE_SMALL_ENTRIES = "DELETE FROM nudge_decisions_by_user
      WHERE run IN (SELECT run FROM nudge_decision_runs WHERE level = 0)";
    DELETE_SMALL_RUNS = "DELETE FROM nudge_decision_runs WHERE level = 0";
}

const RUNS: &str = "nudge_decision_runs";
const ENTRIES: &str = "nudge_decisions_by_user";

/// Decisions that wait for a run: a search reads as many rows at most.
const RUN: i64 = 1_024;
/// Runs of level 0 that are merged into one.
const MERGED: i64 = 16;

/// Indexes the newest decisions when enough of them wait, and merges the runs of which there are many.
pub(super) fn keep_up(conn: &Connection) -> Result<(), StoreError> {
    let waiting = conn
        .prepare_cached(COUNT_WAITING)
        .and_then(|mut s| s.query_row([], |row| Ok((row.get(0)?, row.get(1)?))));
    let (newest, indexed): (i64, i64) = waiting.within(RUNS)?;
    if newest - indexed < RUN {
        return Ok(());
    }
    let run = insert_run(conn, 0, newest)?;
    run_on(conn, INDEX_NEWEST, params![run, indexed, newest])?;
    let small: i64 =
        conn.prepare_cached(COUNT_SMALL).and_then(|mut s| s.query_row([], |row| row.get(0))).within(RUNS)?;
    if small >= MERGED {
        let merged = insert_run(conn, 1, newest)?;
        run_on(conn, MERGE_SMALL, [merged])?;
        run_on(conn, DELETE_SMALL_ENTRIES, [])?;
        run_on(conn, DELETE_SMALL_RUNS, [])?;
    }
    Ok(())
}

fn insert_run(conn: &Connection, level: i64, last_seq: i64) -> Result<i64, StoreError> {
    conn.prepare_cached(INSERT_RUN).and_then(|mut s| s.insert([level, last_seq])).within(RUNS)
}

fn run_on(conn: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
    conn.prepare_cached(sql).and_then(|mut s| s.execute(values)).within(ENTRIES).map(drop)
}
