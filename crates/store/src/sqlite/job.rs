//! The recalculation job: its lease, and its runs.
//!
//! Every write of a run begins with [`RENEW`], which matches no row once the term is over. Where next: `job/batch.rs` reads
//! and stores users.

pub(super) mod batch;

use jiff::{SignedDuration, Timestamp};
use nudge_engine::UserId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::convert::{Within, parsed, parsed_opt, statements, time, time_opt, time_text};
use super::{audit, fact};
use crate::error::StoreError;
use crate::job::{
    ARCHETYPE_RECALCULATION, FURTHEST_LEASE, JobState, LEASE, NewRun, Run, RunCancelled, RunCause, RunEnd,
    RunFailure, RunLease, RunStarted, RunStatus, TakenRun, audited_cancel,
};
use crate::record::Actor;

statements! {
    SELECT_STATE = "SELECT term, run_id, expires_at, scheduled_at, scheduler, computed_floor FROM nudge_job_leases
      WHERE job_type = ?1";
    /// A new holder. The lease is free, or it is over.
    TAKE_LEASE = "UPDATE nudge_job_leases SET term = term + 1, holder = ?2, run_id = ?3, expires_at = ?4
      WHERE job_type = ?1 RETURNING term";
    /// Begins every write of a run.
    RENEW = "UPDATE nudge_job_leases SET expires_at = ?4
      WHERE job_type = ?1 AND term = ?2 AND run_id = ?3 AND expires_at > ?5";
    /// Ends the term. A run that is only interrupted keeps its place. A floor of the future is of a clock that was wrong.
    RELEASE = "UPDATE nudge_job_leases SET term = term + 1, holder = NULL,
        run_id = CASE WHEN ?2 THEN NULL ELSE run_id END, expires_at = ?4,
        computed_floor = CASE WHEN computed_floor > ?5 THEN ?3
          WHEN ?3 IS NULL OR computed_floor >= ?3 THEN computed_floor ELSE ?3 END
      WHERE job_type = ?1";
    SEE_TO_SCHEDULE = "UPDATE nudge_job_leases SET scheduled_at = ?2
      WHERE job_type = ?1 AND (scheduled_at IS NULL OR scheduled_at < ?2)";
    SET_SCHEDULE_BACK = "UPDATE nudge_job_leases SET scheduled_at = ?2 WHERE job_type = ?1 AND scheduled_at > ?2";
    INSERT_RUN = "INSERT INTO archetype_job_logs (id, job_type, status, metadata, started_at, heartbeat_at)
      VALUES (?1, ?2, 'running', ?3, ?4, ?5)";
    RESUME_RUN = "UPDATE archetype_job_logs SET status = 'running', error_message = NULL, heartbeat_at = ?2,
        metadata = json_set(metadata, '$.totals.resumed', coalesce(metadata ->> '$.totals.resumed', 0) + 1)
      WHERE id = ?1
      RETURNING cursor, metadata -> '$.totals', metadata -> '$.config', started_at";
    BEAT = "UPDATE archetype_job_logs SET heartbeat_at = ?2 WHERE id = ?1";
    END_RUN = "UPDATE archetype_job_logs SET status = ?2, error_message = ?3, heartbeat_at = ?4,
        metadata = CASE WHEN ?5 IS NULL THEN metadata ELSE json_set(metadata, '$.result', json(?5)) END,
        completed_at = CASE WHEN ?6 IS NULL THEN NULL ELSE max(?6, started_at) END, duration_ms = ?7
      WHERE id = ?1";
    SELECT_STARTED = "SELECT started_at FROM archetype_job_logs WHERE id = ?1";
    /// What a run's failures are kept for ends with the next run.
    FORGET_FAILURES = "DELETE FROM nudge_job_failures WHERE (run_id, user_id) IN (
        SELECT run_id, user_id FROM nudge_job_failures WHERE run_id <> ?1 LIMIT 500)";
    SELECT_FAILURES = "SELECT user_id, attempts, reason FROM nudge_job_failures WHERE run_id = ?1 AND attempts < ?2
      ORDER BY user_id LIMIT ?3";
    SELECT_STATUS = "SELECT status FROM archetype_job_logs WHERE id = ?1";
    SELECT_RUN = "SELECT j.id, j.job_type, CASE WHEN j.status = 'running'
          AND NOT coalesce(l.run_id = j.id AND l.expires_at > ?2, 0)
        THEN 'interrupted' ELSE j.status END,
        j.processed_count, j.updated_count, j.failed_count, j.cursor, j.heartbeat_at, j.duration_ms, j.error_message,
        j.metadata, j.started_at, j.completed_at
      FROM archetype_job_logs AS j LEFT JOIN nudge_job_leases AS l ON l.job_type = j.job_type
      WHERE j.id = ?1";
    SELECT_RUNS = "SELECT j.id, j.job_type, CASE WHEN j.status = 'running'
          AND NOT coalesce(l.run_id = j.id AND l.expires_at > ?2, 0)
        THEN 'interrupted' ELSE j.status END,
        j.processed_count, j.updated_count, j.failed_count, j.cursor, j.heartbeat_at, j.duration_ms, j.error_message,
        j.metadata, j.started_at, j.completed_at
      FROM archetype_job_logs AS j LEFT JOIN nudge_job_leases AS l ON l.job_type = j.job_type
      ORDER BY j.started_at DESC, j.id DESC LIMIT ?1";
}

const LEASES: &str = "nudge_job_leases";
const RUNS: &str = "archetype_job_logs";
const FAILURES: &str = "nudge_job_failures";
const JOB: &str = ARCHETYPE_RECALCULATION;

/// Gives the end of a lease that is renewed now.
fn lease_end(now: Timestamp) -> String {
    let lease = SignedDuration::try_from(LEASE).unwrap_or(SignedDuration::ZERO);
    time_text(now.checked_add(lease).unwrap_or(now))
}

/// Says whether a lease is over. Nobody's ends later than one that is renewed now: then the clock was set back since.
fn is_over(expires_at: Timestamp, now: Timestamp) -> bool {
    expires_at <= now || expires_at.duration_since(now) > FURTHEST_LEASE
}

/// Renews a lease; says whether it was still held.
pub(super) fn renew(conn: &Connection, lease: RunLease) -> Result<bool, StoreError> {
    let now = fact::clock(conn)?;
    let mut statement = conn.prepare_cached(RENEW).within(LEASES)?;
    let renewed = statement
        .execute(params![JOB, lease.term, lease.run_id.to_string(), lease_end(now), time_text(now)])
        .within(LEASES)?;
    Ok(renewed == 1)
}

/// Renews a lease between two batches, and says in the run's row that it lives.
pub(super) fn beat(conn: &Connection, lease: RunLease) -> Result<bool, StoreError> {
    if !renew(conn, lease)? {
        return Ok(false);
    }
    let now = time_text(fact::clock(conn)?);
    execute(conn, BEAT, RUNS, params![lease.run_id.to_string(), now])?;
    Ok(true)
}

fn execute(
    conn: &Connection,
    sql: &str,
    table: &'static str,
    params: impl rusqlite::Params,
) -> Result<usize, StoreError> {
    conn.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).within(table)
}

/// Reads the lease as it stands. Nothing but the schedule and people ask for runs here.
pub(super) fn state(conn: &Connection) -> Result<JobState, StoreError> {
    let now = fact::clock(conn)?;
    let mut statement = conn.prepare_cached(SELECT_STATE).within(LEASES)?;
    let state = statement.query_row([JOB], |row| {
        Ok(JobState {
            term: row.get(0)?,
            run_id: parsed_opt(row, 1, Uuid::parse_str)?,
            expired: is_over(time(row, 2)?, now),
            request: None,
            scheduled_at: time_opt(row, 3)?,
            scheduler: parsed(row, 4, str::parse)?,
            computed_floor: time_opt(row, 5)?,
        })
    });
    state.within(LEASES)
}

/// Starts a run, unless one is not finished or somebody has seen to it before.
pub(super) fn start(conn: &Connection, new: &NewRun) -> Result<RunStarted, StoreError> {
    // A time that comes while a run is under way is seen to once that has ended.
    if let Some(running) = state(conn)?.run_id {
        return Ok(RunStarted::Running(running));
    }
    if let RunCause::Due(at) = new.cause
        && execute(conn, SEE_TO_SCHEDULE, LEASES, params![JOB, time_text(at)])? == 0
    {
        return Ok(RunStarted::SeenTo);
    }
    let now = fact::clock(conn)?;
    let term = take(conn, &new.holder, new.id, now)?;
    let metadata = serde_json::json!({ "trigger": new.trigger, "config": new.config, "totals": {} });
    let id = new.id.to_string();
    let row = params![id, JOB, metadata.to_string(), time_text(new.now), time_text(now)];
    execute(conn, INSERT_RUN, RUNS, row)?;
    execute(conn, FORGET_FAILURES, FAILURES, [&id])?;
    if let Some(actor) = &new.actor {
        audit::append(conn, actor, "start_job", None, &new.audited(), new.now)?;
    }
    Ok(RunStarted::Started(RunLease { run_id: new.id, term }))
}

fn take(conn: &Connection, holder: &str, run_id: Uuid, now: Timestamp) -> Result<i64, StoreError> {
    let mut statement = conn.prepare_cached(TAKE_LEASE).within(LEASES)?;
    let term = statement
        .query_row(params![JOB, holder, run_id.to_string(), lease_end(now)], |row| row.get(0))
        .within(LEASES)?;
    Ok(term)
}

/// Goes on with the run that is not finished, if its lease is over.
pub(super) fn take_over(conn: &Connection, holder: &str) -> Result<Option<TakenRun>, StoreError> {
    let state = state(conn)?;
    let (Some(run_id), true) = (state.run_id, state.expired) else { return Ok(None) };
    let now = fact::clock(conn)?;
    let term = take(conn, holder, run_id, now)?;
    let mut statement = conn.prepare_cached(RESUME_RUN).within(RUNS)?;
    let taken = statement
        .query_row(params![run_id.to_string(), time_text(now)], |row| {
            Ok(TakenRun {
                lease: RunLease { run_id, term },
                cursor: parsed_opt(row, 0, UserId::parse)?,
                totals: parsed_opt(row, 1, |text| serde_json::from_str(text))?.unwrap_or_default(),
                config: parsed_opt(row, 2, |text| serde_json::from_str(text))?.unwrap_or_default(),
                started_at: time(row, 3)?,
            })
        })
        .optional()
        .within(RUNS)?;
    if taken.is_none() {
        // Somebody has deleted the run's row: there is nothing to go on with.
        release(conn, true, None, now)?;
    }
    Ok(taken)
}

/// `at`: the time by the service's clock, whose times the floors are.
fn release(
    conn: &Connection,
    finished: bool,
    floor: Option<Timestamp>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let now = time_text(fact::clock(conn)?);
    let values = params![JOB, finished, floor.map(time_text), now, time_text(at)];
    execute(conn, RELEASE, LEASES, values).map(drop)
}

/// Ends a run, or pauses it; says whether the lease was still held.
pub(super) fn end(conn: &Connection, lease: RunLease, end: &RunEnd) -> Result<bool, StoreError> {
    if !renew(conn, lease)? {
        return Ok(false);
    }
    write_end(conn, lease.run_id, end)?;
    Ok(true)
}

fn write_end(conn: &Connection, run_id: Uuid, end: &RunEnd) -> Result<(), StoreError> {
    let id = run_id.to_string();
    let mut statement = conn.prepare_cached(SELECT_STARTED).within(RUNS)?;
    let started = statement.query_row([&id], |row| time(row, 0)).optional().within(RUNS)?;
    let finished = end.status.is_final();
    let duration_ms = started.filter(|_| finished).map(|at| end.now.duration_since(at).as_millis().max(0));
    let row = params![
        id,
        end.status.as_str(),
        end.error,
        time_text(fact::clock(conn)?),
        end.result.as_ref().map(ToString::to_string),
        finished.then(|| time_text(end.now)),
        duration_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
    ];
    execute(conn, END_RUN, RUNS, row)?;
    release(conn, finished, end.computed_floor, end.now)
}

/// Ends the term of a run that is not finished, whoever holds it; audited.
pub(super) fn cancel(
    conn: &Connection,
    run_id: Uuid,
    actor: &Actor,
    now: Timestamp,
) -> Result<RunCancelled, StoreError> {
    if state(conn)?.run_id != Some(run_id) {
        let mut statement = conn.prepare_cached(SELECT_STATUS).within(RUNS)?;
        let status = statement
            .query_row([run_id.to_string()], |row| parsed::<RunStatus, _>(row, 0, str::parse))
            .optional()
            .within(RUNS)?;
        return Ok(status.map_or(RunCancelled::Unknown, RunCancelled::Ended));
    }
    let end = RunEnd { status: RunStatus::Cancelled, error: None, result: None, computed_floor: None, now };
    write_end(conn, run_id, &end)?;
    audit::append(conn, actor, "cancel_job", None, &audited_cancel(run_id), now)?;
    Ok(RunCancelled::Cancelled)
}

/// Notes a time of the schedule as seen to.
pub(super) fn see_to_schedule(conn: &Connection, at: Timestamp) -> Result<(), StoreError> {
    execute(conn, SEE_TO_SCHEDULE, LEASES, params![JOB, time_text(at)]).map(drop)
}

/// Notes an earlier time of the schedule as the newest that has been seen to.
pub(super) fn set_schedule_back(conn: &Connection, at: Timestamp) -> Result<(), StoreError> {
    execute(conn, SET_SCHEDULE_BACK, LEASES, params![JOB, time_text(at)]).map(drop)
}

/// Lists users of a run that failed fewer times than so many.
pub(super) fn failures(
    conn: &Connection,
    run_id: Uuid,
    attempts: u32,
    limit: u32,
) -> Result<Vec<RunFailure>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_FAILURES).within(FAILURES)?;
    let rows = statement.query_map(params![run_id.to_string(), attempts, limit], |row| {
        Ok(RunFailure { user_id: parsed(row, 0, UserId::parse)?, attempts: row.get(1)?, reason: row.get(2)? })
    });
    rows.and_then(Iterator::collect).within(FAILURES)
}

/// Reads a run.
pub(super) fn run(conn: &Connection, id: Uuid) -> Result<Option<Run>, StoreError> {
    let now = time_text(fact::clock(conn)?);
    let mut statement = conn.prepare_cached(SELECT_RUN).within(RUNS)?;
    statement.query_row(params![id.to_string(), now], run_of).optional().within(RUNS)
}

/// Lists the newest runs, newest first.
pub(super) fn runs(conn: &Connection, limit: u32) -> Result<Vec<Run>, StoreError> {
    let now = time_text(fact::clock(conn)?);
    let mut statement = conn.prepare_cached(SELECT_RUNS).within(RUNS)?;
    let rows = statement.query_map(params![limit, now], run_of);
    rows.and_then(Iterator::collect).within(RUNS)
}

fn run_of(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: parsed(row, 0, Uuid::parse_str)?,
        job_type: row.get(1)?,
        status: parsed(row, 2, str::parse)?,
        processed: row.get(3)?,
        updated: row.get(4)?,
        failed: row.get(5)?,
        cursor: row.get(6)?,
        heartbeat_at: time_opt(row, 7)?,
        duration_ms: row.get(8)?,
        error_message: row.get(9)?,
        metadata: parsed(row, 10, |text| serde_json::from_str(text))?,
        started_at: time(row, 11)?,
        completed_at: time_opt(row, 12)?,
    })
}
