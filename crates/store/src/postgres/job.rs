//! The recalculation job: its lease, its runs, and what asks for them.
//!
//! Every write of a run begins with [`RENEW`], which matches no row once the term is over: a plain read of the term would not
//! keep another holder out. The lease's row is the first that such a transaction locks, so holders come one after the other.
//!
//! Where next: `job/batch.rs` reads and stores users.

pub(super) mod batch;

use jiff::Timestamp;
use nudge_engine::UserId;
use tokio_postgres::Row;
use uuid::Uuid;

use super::audit;
use super::convert::{At, get, parsed, parsed_opt, statements, time, time_opt};
use super::lanes::Lanes;
use super::pool::Transaction;
use crate::error::StoreError;
use crate::job::{
    ARCHETYPE_RECALCULATION, FURTHEST_LEASE, JobState, LEASE, LENIENCE, NewRun, Run, RunCancelled, RunCause,
    RunEnd, RunFailure, RunLease, RunStarted, RunStatus, Scheduler, TakenRun, audited_cancel,
};
use crate::record::Actor;

statements! {
    /// A lease is over as well when it ends later than one that is renewed now: then the clock was set back since.
    SELECT_STATE [TEXT, INT8] = "SELECT l.term, l.run_id,
        l.expires_at <= clock_timestamp() OR l.expires_at > clock_timestamp() + $2 * interval '1 millisecond', l.scheduled_at, l.scheduler,
        l.computed_floor, r.id, r.config::text
      FROM nudge.job_leases AS l
      LEFT JOIN (
        SELECT id, config FROM nudge.job_requests WHERE taken_at IS NULL ORDER BY id LIMIT 1
      ) AS r ON true
      WHERE l.job_type = $1";
    LOCK_LEASE [TEXT, INT8] = "SELECT run_id, scheduled_at,
        expires_at <= clock_timestamp() OR expires_at > clock_timestamp() + $2 * interval '1 millisecond'
      FROM nudge.job_leases
      WHERE job_type = $1 FOR UPDATE";
    /// A new holder. The lease is free, or it is over.
    TAKE_LEASE [TEXT, TEXT, UUID, INT8] = "UPDATE nudge.job_leases SET term = term + 1, holder = $2, run_id = $3,
        expires_at = clock_timestamp() + $4 * interval '1 millisecond'
      WHERE job_type = $1 RETURNING term";
    /// Begins every write of a run.
    RENEW [TEXT, INT8, UUID, INT8] = "UPDATE nudge.job_leases
      SET expires_at = clock_timestamp() + $4 * interval '1 millisecond'
      WHERE job_type = $1 AND term = $2 AND run_id = $3 AND expires_at > clock_timestamp()";
    /// Ends the term. A run that is only interrupted keeps its place. A floor of the future is of a clock that was wrong.
    RELEASE [TEXT, BOOL, TIMESTAMPTZ, TIMESTAMPTZ] = "UPDATE nudge.job_leases SET term = term + 1, holder = NULL,
        run_id = CASE WHEN $2 THEN NULL ELSE run_id END, expires_at = clock_timestamp(),
        computed_floor = CASE WHEN computed_floor > $4 THEN $3 ELSE greatest(computed_floor, $3) END
      WHERE job_type = $1";
    SEE_TO_SCHEDULE [TEXT, TIMESTAMPTZ] = "UPDATE nudge.job_leases SET scheduled_at = $2
      WHERE job_type = $1 AND (scheduled_at IS NULL OR scheduled_at < $2)";
    SET_SCHEDULE_BACK [TEXT, TIMESTAMPTZ] = "UPDATE nudge.job_leases SET scheduled_at = $2
      WHERE job_type = $1 AND scheduled_at > $2";
    SET_SCHEDULER [TEXT, TEXT] = "UPDATE nudge.job_leases SET scheduler = $2 WHERE job_type = $1";
    TAKE_REQUEST [INT8, UUID] = "UPDATE nudge.job_requests SET taken_at = clock_timestamp(), job_id = $2
      WHERE id = $1 AND taken_at IS NULL";
    INSERT_RUN [UUID, TEXT, TEXT, TIMESTAMPTZ] = "INSERT INTO public.archetype_job_logs (id, job_type, status, metadata,
        started_at, heartbeat_at)
      VALUES ($1, $2, 'running', $3::jsonb, $4, clock_timestamp())";
    RESUME_RUN [UUID] = "UPDATE public.archetype_job_logs SET status = 'running', error_message = NULL,
        heartbeat_at = clock_timestamp(), metadata = jsonb_set(metadata, '{totals,resumed}',
          to_jsonb(coalesce((metadata #>> '{totals,resumed}')::bigint, 0) + 1))
      WHERE id = $1
      RETURNING cursor, (metadata -> 'totals')::text, (metadata -> 'config')::text, started_at";
    BEAT [UUID] = "UPDATE public.archetype_job_logs SET heartbeat_at = clock_timestamp() WHERE id = $1";
    END_RUN [UUID, TEXT, TEXT, TEXT, TIMESTAMPTZ, BOOL] = "UPDATE public.archetype_job_logs SET status = $2,
        error_message = $3, heartbeat_at = clock_timestamp(),
        metadata = CASE WHEN $4 IS NULL THEN metadata ELSE jsonb_set(metadata, '{result}', $4::jsonb) END,
        completed_at = CASE WHEN $6 THEN greatest($5, started_at) END,
        duration_ms = CASE WHEN $6 THEN
          round(extract(epoch FROM greatest($5, started_at) - started_at) * 1000)::bigint END
      WHERE id = $1";
    /// What a run's failures are kept for ends with the next run.
    FORGET_FAILURES [UUID] = "DELETE FROM nudge.job_failures WHERE ctid = ANY (ARRAY(
        SELECT f.ctid FROM nudge.job_failures AS f WHERE f.run_id <> $1 LIMIT 5000))";
    SELECT_FAILURES [UUID, INT8, INT8] = "SELECT user_id, attempts::bigint, reason FROM nudge.job_failures
      WHERE run_id = $1 AND attempts < $2 ORDER BY user_id LIMIT $3";
    SELECT_STATUS [UUID] = "SELECT status FROM public.archetype_job_logs WHERE id = $1";
    SELECT_RUN [UUID] = "SELECT j.id, j.job_type, CASE WHEN j.status = 'running'
          AND NOT coalesce(l.run_id = j.id AND l.expires_at > clock_timestamp(), false)
        THEN 'interrupted' ELSE j.status END,
        j.processed_count, j.updated_count, j.failed_count, j.cursor, j.heartbeat_at, j.duration_ms, j.error_message,
        j.metadata::text, j.started_at, j.completed_at
      FROM public.archetype_job_logs AS j LEFT JOIN nudge.job_leases AS l ON l.job_type = j.job_type
      WHERE j.id = $1";
    SELECT_RUNS [INT8] = "SELECT j.id, j.job_type, CASE WHEN j.status = 'running'
          AND NOT coalesce(l.run_id = j.id AND l.expires_at > clock_timestamp(), false)
        THEN 'interrupted' ELSE j.status END,
        j.processed_count, j.updated_count, j.failed_count, j.cursor, j.heartbeat_at, j.duration_ms, j.error_message,
        j.metadata::text, j.started_at, j.completed_at
      FROM (SELECT id, started_at FROM public.archetype_job_logs ORDER BY started_at DESC, id DESC LIMIT $1) AS newest
      JOIN public.archetype_job_logs AS j ON j.id = newest.id
      LEFT JOIN nudge.job_leases AS l ON l.job_type = j.job_type
      ORDER BY j.started_at DESC, j.id DESC";
    /// Ends the backends that keep the lease's row locked although the lease has long been over, and that wait for
    /// nothing themselves: their clients are frozen.
    END_HOLDERS [TEXT, INT8] = "SELECT count(pg_terminate_backend(b.pid)) FROM (
        SELECT DISTINCT k.pid FROM pg_catalog.pg_locks AS k
        WHERE k.locktype = 'relation'
          AND k.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
          AND k.relation = 'nudge.job_leases'::regclass AND k.mode = 'RowExclusiveLock'
          AND k.granted AND k.pid <> pg_backend_pid()
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks AS w WHERE w.pid = k.pid AND NOT w.granted)
      ) AS b
      WHERE EXISTS (SELECT FROM nudge.job_leases AS l WHERE l.job_type = $1
        AND l.expires_at + $2 * interval '1 millisecond' < clock_timestamp())";
}

const LEASES: &str = "job_leases";
const RUNS: &str = "archetype_job_logs";
const FAILURES: &str = "job_failures";
const JOB: &str = ARCHETYPE_RECALCULATION;

/// Limits a transaction of a run, so that a process that is frozen in the middle of it holds nobody up for long.
const LIMITS: &str =
    "SET LOCAL statement_timeout = '3s'; SET LOCAL idle_in_transaction_session_timeout = '3s';
  SET LOCAL lock_timeout = '2s'";

fn lease_ms() -> i64 {
    i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX)
}

fn furthest_ms() -> i64 {
    i64::try_from(FURTHEST_LEASE.as_millis()).unwrap_or(i64::MAX)
}

/// Begins a transaction of a run: limited in time.
pub(super) async fn limit(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.run(LIMITS).await
}

/// Renews a lease; says whether it was still held.
pub(super) async fn renew(transaction: &Transaction<'_>, lease: RunLease) -> Result<bool, StoreError> {
    let renewed =
        transaction.execute(LEASES, &RENEW, &[&JOB, &lease.term, &lease.run_id, &lease_ms()]).await?;
    Ok(renewed == 1)
}

/// Renews a lease between two batches, and says in the run's row that it lives.
pub(super) async fn beat(transaction: &Transaction<'_>, lease: RunLease) -> Result<bool, StoreError> {
    limit(transaction).await?;
    if !renew(transaction, lease).await? {
        return Ok(false);
    }
    transaction.execute(RUNS, &BEAT, &[&lease.run_id]).await?;
    Ok(true)
}

/// Reads the lease as it stands, and what waits.
pub(super) async fn state(lanes: &Lanes) -> Result<JobState, StoreError> {
    let rows = lanes.query(LEASES, &SELECT_STATE, &[&JOB, &furthest_ms()]).await?;
    let row = rows.first().ok_or_else(no_lease)?;
    let request = match get::<Option<i64>>(row, 6, LEASES)? {
        Some(id) => Some((id, parsed(row, 7, "job_requests", |text| serde_json::from_str(text))?)),
        None => None,
    };
    Ok(JobState {
        term: get(row, 0, LEASES)?,
        run_id: get(row, 1, LEASES)?,
        expired: get(row, 2, LEASES)?,
        request,
        scheduled_at: time_opt(row, 3, LEASES)?,
        scheduler: parsed::<Scheduler, _>(row, 4, LEASES, str::parse)?,
        computed_floor: time_opt(row, 5, LEASES)?,
    })
}

/// Starts a run, unless one is not finished or somebody has seen to it before.
pub(super) async fn start(transaction: &Transaction<'_>, new: &NewRun) -> Result<RunStarted, StoreError> {
    limit(transaction).await?;
    let rows = transaction.query(LEASES, &LOCK_LEASE, &[&JOB, &furthest_ms()]).await?;
    let row = rows.first().ok_or_else(no_lease)?;
    let running: Option<Uuid> = get(row, 0, LEASES)?;
    let seen_to = match (new.cause, running) {
        // A time that comes while a run is under way is seen to once that has ended.
        (RunCause::Asked, _) | (RunCause::Due(_), Some(_)) => false,
        (RunCause::Due(at), None) => {
            transaction.execute(LEASES, &SEE_TO_SCHEDULE, &[&JOB, &At(at)]).await? == 0
        }
        (RunCause::Requested(id), _) => {
            let run_id = running.unwrap_or(new.id);
            transaction.execute("job_requests", &TAKE_REQUEST, &[&id, &run_id]).await? == 0
        }
    };
    if seen_to {
        return Ok(RunStarted::SeenTo);
    }
    if let Some(running) = running {
        return Ok(RunStarted::Running(running));
    }
    let term = take(transaction, &new.holder, new.id).await?;
    let metadata = serde_json::json!({ "trigger": new.trigger, "config": new.config, "totals": {} });
    transaction.execute(RUNS, &INSERT_RUN, &[&new.id, &JOB, &metadata.to_string(), &At(new.now)]).await?;
    transaction.execute(FAILURES, &FORGET_FAILURES, &[&new.id]).await?;
    if let Some(actor) = &new.actor {
        audit::append(transaction, actor, "start_job", None, &new.audited(), new.now).await?;
    }
    Ok(RunStarted::Started(RunLease { run_id: new.id, term }))
}

async fn take(transaction: &Transaction<'_>, holder: &str, run_id: Uuid) -> Result<i64, StoreError> {
    let rows = transaction.query(LEASES, &TAKE_LEASE, &[&JOB, &holder, &run_id, &lease_ms()]).await?;
    get(rows.first().ok_or_else(no_lease)?, 0, LEASES)
}

/// Goes on with the run that is not finished, if its lease is over.
pub(super) async fn take_over(
    transaction: &Transaction<'_>,
    holder: &str,
) -> Result<Option<TakenRun>, StoreError> {
    limit(transaction).await?;
    let rows = transaction.query(LEASES, &LOCK_LEASE, &[&JOB, &furthest_ms()]).await?;
    let row = rows.first().ok_or_else(no_lease)?;
    let (Some(run_id), true) = (get::<Option<Uuid>>(row, 0, LEASES)?, get(row, 2, LEASES)?) else {
        return Ok(None);
    };
    let term = take(transaction, holder, run_id).await?;
    let rows = transaction.query(RUNS, &RESUME_RUN, &[&run_id]).await?;
    let Some(row) = rows.first() else {
        // Somebody has deleted the run's row: there is nothing to go on with.
        transaction.execute(LEASES, &RELEASE, &[&JOB, &true, &None::<At>, &None::<At>]).await?;
        return Ok(None);
    };
    Ok(Some(TakenRun {
        lease: RunLease { run_id, term },
        cursor: parsed_opt(row, 0, RUNS, UserId::parse)?,
        totals: parsed_opt(row, 1, RUNS, |text| serde_json::from_str(text))?.unwrap_or_default(),
        config: parsed_opt(row, 2, RUNS, |text| serde_json::from_str(text))?.unwrap_or_default(),
        started_at: time(row, 3, RUNS)?,
    }))
}

/// Ends backends that keep the lease's row locked long after the lease is over; gives their number.
pub(super) async fn end_frozen_holders(transaction: &Transaction<'_>) -> Result<i64, StoreError> {
    let lenience = i64::try_from(LENIENCE.as_millis()).unwrap_or(i64::MAX);
    let rows = transaction.query(LEASES, &END_HOLDERS, &[&JOB, &lenience]).await?;
    rows.first().map_or(Ok(0), |row| get(row, 0, LEASES))
}

/// Ends a run, or pauses it; says whether the lease was still held.
pub(super) async fn end(
    transaction: &Transaction<'_>,
    lease: RunLease,
    end: &RunEnd,
) -> Result<bool, StoreError> {
    limit(transaction).await?;
    if !renew(transaction, lease).await? {
        return Ok(false);
    }
    write_end(transaction, lease.run_id, end).await?;
    Ok(true)
}

async fn write_end(transaction: &Transaction<'_>, run_id: Uuid, end: &RunEnd) -> Result<(), StoreError> {
    let (finished, result) = (end.status.is_final(), end.result.as_ref().map(ToString::to_string));
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&run_id, &end.status.as_str(), &end.error, &result, &At(end.now), &finished];
    transaction.execute(RUNS, &END_RUN, &values).await?;
    let floor = end.computed_floor.map(At);
    transaction.execute(LEASES, &RELEASE, &[&JOB, &finished, &floor, &Some(At(end.now))]).await.map(drop)
}

/// Ends the term of a run that is not finished, whoever holds it; audited.
pub(super) async fn cancel(
    transaction: &Transaction<'_>,
    run_id: Uuid,
    actor: &Actor,
    now: Timestamp,
) -> Result<RunCancelled, StoreError> {
    limit(transaction).await?;
    let rows = transaction.query(LEASES, &LOCK_LEASE, &[&JOB, &furthest_ms()]).await?;
    let row = rows.first().ok_or_else(no_lease)?;
    if get::<Option<Uuid>>(row, 0, LEASES)? != Some(run_id) {
        let rows = transaction.query(RUNS, &SELECT_STATUS, &[&run_id]).await?;
        return match rows.first() {
            Some(row) => Ok(RunCancelled::Ended(parsed(row, 0, RUNS, str::parse::<RunStatus>)?)),
            None => Ok(RunCancelled::Unknown),
        };
    }
    let end = RunEnd { status: RunStatus::Cancelled, error: None, result: None, computed_floor: None, now };
    write_end(transaction, run_id, &end).await?;
    audit::append(transaction, actor, "cancel_job", None, &audited_cancel(run_id), now).await?;
    Ok(RunCancelled::Cancelled)
}

/// Says who starts the nightly run.
pub(super) async fn set_scheduler(
    transaction: &Transaction<'_>,
    scheduler: Scheduler,
) -> Result<(), StoreError> {
    transaction.execute(LEASES, &SET_SCHEDULER, &[&JOB, &scheduler.as_str()]).await.map(drop)
}

/// Notes a time of the schedule as seen to.
pub(super) async fn see_to_schedule(transaction: &Transaction<'_>, at: Timestamp) -> Result<(), StoreError> {
    transaction.execute(LEASES, &SEE_TO_SCHEDULE, &[&JOB, &At(at)]).await.map(drop)
}

/// Notes an earlier time of the schedule as the newest that has been seen to.
pub(super) async fn set_schedule_back(
    transaction: &Transaction<'_>,
    at: Timestamp,
) -> Result<(), StoreError> {
    transaction.execute(LEASES, &SET_SCHEDULE_BACK, &[&JOB, &At(at)]).await.map(drop)
}

/// Takes a request without a run: its settings cannot be used.
pub(super) async fn refuse_request(transaction: &Transaction<'_>, id: i64) -> Result<(), StoreError> {
    transaction.execute("job_requests", &TAKE_REQUEST, &[&id, &None::<Uuid>]).await.map(drop)
}

/// Lists users of a run that failed fewer times than so many.
pub(super) async fn failures(
    lanes: &Lanes,
    run_id: Uuid,
    attempts: u32,
    limit: u32,
) -> Result<Vec<RunFailure>, StoreError> {
    let rows =
        lanes.query(FAILURES, &SELECT_FAILURES, &[&run_id, &i64::from(attempts), &i64::from(limit)]).await?;
    rows.iter()
        .map(|row| {
            Ok(RunFailure {
                user_id: parsed(row, 0, FAILURES, UserId::parse)?,
                attempts: get(row, 1, FAILURES)?,
                reason: get(row, 2, FAILURES)?,
            })
        })
        .collect()
}

/// Reads a run.
pub(super) async fn run(lanes: &Lanes, id: Uuid) -> Result<Option<Run>, StoreError> {
    let rows = lanes.query(RUNS, &SELECT_RUN, &[&id]).await?;
    rows.first().map(run_of).transpose()
}

/// Lists the newest runs, newest first.
pub(super) async fn runs(lanes: &Lanes, limit: u32) -> Result<Vec<Run>, StoreError> {
    let rows = lanes.query(RUNS, &SELECT_RUNS, &[&i64::from(limit)]).await?;
    rows.iter().map(run_of).collect()
}

fn run_of(row: &Row) -> Result<Run, StoreError> {
    Ok(Run {
        id: get(row, 0, RUNS)?,
        job_type: get(row, 1, RUNS)?,
        status: parsed::<RunStatus, _>(row, 2, RUNS, str::parse)?,
        processed: get(row, 3, RUNS)?,
        updated: get(row, 4, RUNS)?,
        failed: get(row, 5, RUNS)?,
        cursor: get(row, 6, RUNS)?,
        heartbeat_at: time_opt(row, 7, RUNS)?,
        duration_ms: get(row, 8, RUNS)?,
        error_message: get(row, 9, RUNS)?,
        metadata: parsed(row, 10, RUNS, |text| serde_json::from_str(text))?,
        started_at: time(row, 11, RUNS)?,
        completed_at: time_opt(row, 12, RUNS)?,
    })
}

fn no_lease() -> StoreError {
    StoreError::Inconsistent { table: LEASES, detail: "the job's row is missing".to_owned() }
}
