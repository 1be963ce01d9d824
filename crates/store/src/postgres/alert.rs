//! Alerts: where they stand, how they came there, and silences.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::audit;
use super::convert::{At, get, parsed, statements, time, time_opt};
use super::lanes::Lanes;
use super::pool::Transaction;
use crate::alert::{AlertRow, AlertSave, AlertSilence, AlertTransition, RecentRuns, audited};
use crate::error::StoreError;
use crate::record::Actor;

statements! {
    STATES [] = "SELECT rule, instance, state, since, value, threshold, window_secs, sample_size, memory::text,
        created_at, evaluated_at, revision
      FROM nudge.alert_states ORDER BY rule, instance";
    SAVE [TEXT, TEXT, TEXT, TIMESTAMPTZ, FLOAT8, FLOAT8, INT8, INT8, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, INT8] =
      "INSERT INTO nudge.alert_states AS s (rule, instance, state, since, value, threshold, window_secs, sample_size,
        memory, created_at, evaluated_at, revision)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10, $11, $12 + 1)
      ON CONFLICT (rule, instance) DO UPDATE SET state = excluded.state, since = excluded.since,
        value = excluded.value, threshold = excluded.threshold, window_secs = excluded.window_secs,
        sample_size = excluded.sample_size, memory = excluded.memory, evaluated_at = excluded.evaluated_at,
        revision = excluded.revision
      WHERE s.revision = $12";
    TRANSITION [UUID, TEXT, TEXT, TEXT, TEXT, FLOAT8, FLOAT8, INT8, INT8, TIMESTAMPTZ] =
      "INSERT INTO nudge.alert_transitions (id, rule, instance, from_state, to_state, value, threshold, window_secs,
        sample_size, at)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    HISTORY [TEXT, INT8] = "SELECT id, rule, instance, from_state, to_state, value, threshold, window_secs,
        sample_size, at
      FROM nudge.alert_transitions WHERE $1::text IS NULL OR rule = $1 ORDER BY id DESC LIMIT $2";
    SILENCES [] = "SELECT id, rule, instance, reason, created_by, created_at, ends_at, lifted_at, lifted_by
      FROM nudge.alert_silences ORDER BY id DESC LIMIT 1000";
    SILENCE [UUID, TEXT, TEXT, TEXT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ] =
      "INSERT INTO nudge.alert_silences (id, rule, instance, reason, created_by, created_at, ends_at)
      VALUES ($1, $2, $3, $4, $5, $6, $7)";
    LIFT [UUID, TIMESTAMPTZ, TEXT] = "UPDATE nudge.alert_silences SET lifted_at = $2, lifted_by = $3
      WHERE id = $1 AND lifted_at IS NULL AND ends_at > $2
      RETURNING id, rule, instance, reason, created_by, created_at, ends_at, lifted_at, lifted_by";
    TIDY_STATES [TIMESTAMPTZ] = "DELETE FROM nudge.alert_states WHERE instance <> '' AND evaluated_at < $1";
    TIDY_TRANSITIONS [TIMESTAMPTZ] = "DELETE FROM nudge.alert_transitions WHERE at < $1";
    TIDY_SILENCES [TIMESTAMPTZ] = "DELETE FROM nudge.alert_silences WHERE ends_at < $1";
    JOBS [TIMESTAMPTZ] = "SELECT count(*) FILTER (WHERE j.status = 'failed'), count(*),
        (SELECT max(c.completed_at) FROM public.archetype_job_logs AS c WHERE c.status = 'completed')
      FROM public.archetype_job_logs AS j WHERE j.completed_at >= $1";
}

const STATE_TABLE: &str = "alert_states";
const HISTORY_TABLE: &str = "alert_transitions";
const SILENCE_TABLE: &str = "alert_silences";
const JOB_TABLE: &str = "archetype_job_logs";

/// Reads where every alert stands, by rule and instance.
pub(super) async fn states(lanes: &Lanes) -> Result<Vec<AlertRow>, StoreError> {
    let rows = lanes.query(STATE_TABLE, &STATES, &[]).await?;
    rows.iter().map(state).collect()
}

fn state(row: &Row) -> Result<AlertRow, StoreError> {
    const T: &str = STATE_TABLE;
    Ok(AlertRow {
        rule: get(row, 0, T)?,
        instance: get(row, 1, T)?,
        state: parsed(row, 2, T, str::parse)?,
        since: time(row, 3, T)?,
        value: get(row, 4, T)?,
        threshold: get(row, 5, T)?,
        window_secs: get(row, 6, T)?,
        sample_size: get(row, 7, T)?,
        memory: parsed(row, 8, T, |text| serde_json::from_str(text))?,
        created_at: time(row, 9, T)?,
        evaluated_at: time(row, 10, T)?,
        revision: get(row, 11, T)?,
    })
}

/// Writes those rows whose stored revision is theirs, and says which these were.
pub(super) async fn save(
    transaction: &Transaction<'_>,
    saves: &[AlertSave],
) -> Result<Vec<bool>, StoreError> {
    let mut written = Vec::with_capacity(saves.len());
    for save in saves {
        written.push(save_one(transaction, save).await?);
    }
    Ok(written)
}

async fn save_one(transaction: &Transaction<'_>, save: &AlertSave) -> Result<bool, StoreError> {
    let row = &save.row;
    let changed = transaction
        .execute(
            STATE_TABLE,
            &SAVE,
            &[
                &row.rule,
                &row.instance,
                &row.state.as_str(),
                &At(row.since),
                &row.value,
                &row.threshold,
                &row.window_secs,
                &row.sample_size,
                &row.memory.to_string(),
                &At(row.created_at),
                &At(row.evaluated_at),
                &row.revision,
            ],
        )
        .await?;
    if changed == 0 {
        return Ok(false);
    }
    for transition in &save.transitions {
        transaction
            .execute(
                HISTORY_TABLE,
                &TRANSITION,
                &[
                    &transition.id,
                    &transition.rule,
                    &transition.instance,
                    &transition.from.as_str(),
                    &transition.to.as_str(),
                    &transition.value,
                    &transition.threshold,
                    &transition.window_secs,
                    &transition.sample_size,
                    &At(transition.at),
                ],
            )
            .await?;
    }
    Ok(true)
}

/// Reads the newest changes of state, of one alert or of all.
pub(super) async fn history(
    lanes: &Lanes,
    rule: Option<&str>,
    limit: u32,
) -> Result<Vec<AlertTransition>, StoreError> {
    const T: &str = HISTORY_TABLE;
    let rows = lanes.query(T, &HISTORY, &[&rule, &i64::from(limit)]).await?;
    let transition = |row: &Row| {
        Ok(AlertTransition {
            id: get(row, 0, T)?,
            rule: get(row, 1, T)?,
            instance: get(row, 2, T)?,
            from: parsed(row, 3, T, str::parse)?,
            to: parsed(row, 4, T, str::parse)?,
            value: get(row, 5, T)?,
            threshold: get(row, 6, T)?,
            window_secs: get(row, 7, T)?,
            sample_size: get(row, 8, T)?,
            at: time(row, 9, T)?,
        })
    };
    rows.iter().map(transition).collect()
}

/// Reads the silences, the newest first.
pub(super) async fn silences(lanes: &Lanes) -> Result<Vec<AlertSilence>, StoreError> {
    let rows = lanes.query(SILENCE_TABLE, &SILENCES, &[]).await?;
    rows.iter().map(silence_of).collect()
}

fn silence_of(row: &Row) -> Result<AlertSilence, StoreError> {
    const T: &str = SILENCE_TABLE;
    Ok(AlertSilence {
        id: get(row, 0, T)?,
        rule: get(row, 1, T)?,
        instance: get(row, 2, T)?,
        reason: get(row, 3, T)?,
        created_by: get(row, 4, T)?,
        created_at: time(row, 5, T)?,
        ends_at: time(row, 6, T)?,
        lifted_at: time_opt(row, 7, T)?,
        lifted_by: get(row, 8, T)?,
    })
}

/// Begins a silence, audited.
pub(super) async fn silence(
    transaction: &Transaction<'_>,
    silence: &AlertSilence,
    actor: &Actor,
) -> Result<String, StoreError> {
    transaction
        .execute(
            SILENCE_TABLE,
            &SILENCE,
            &[
                &silence.id,
                &silence.rule,
                &silence.instance,
                &silence.reason,
                &silence.created_by,
                &At(silence.created_at),
                &At(silence.ends_at),
            ],
        )
        .await?;
    audit::append(transaction, actor, "silence_alert", None, &audited(silence), silence.created_at).await
}

/// Ends a silence that is in force, audited.
pub(super) async fn lift(
    transaction: &Transaction<'_>,
    id: Uuid,
    actor: &Actor,
    now: Timestamp,
) -> Result<Option<AlertSilence>, StoreError> {
    let rows = transaction.query(SILENCE_TABLE, &LIFT, &[&id, &At(now), &actor.id]).await?;
    let Some(lifted) = rows.first().map(silence_of).transpose()? else { return Ok(None) };
    audit::append(transaction, actor, "unsilence_alert", None, &audited(&lifted), now).await?;
    Ok(Some(lifted))
}

/// Deletes rows of servers that have gone, and what is older than is kept.
pub(super) async fn tidy(
    transaction: &Transaction<'_>,
    servers: Timestamp,
    history: Timestamp,
) -> Result<(), StoreError> {
    transaction.execute(STATE_TABLE, &TIDY_STATES, &[&At(servers)]).await?;
    transaction.execute(HISTORY_TABLE, &TIDY_TRANSITIONS, &[&At(history)]).await?;
    transaction.execute(SILENCE_TABLE, &TIDY_SILENCES, &[&At(history)]).await?;
    Ok(())
}

/// Reads what the log of runs says since a time.
pub(super) async fn jobs(lanes: &Lanes, since: Timestamp) -> Result<RecentRuns, StoreError> {
    let rows = lanes.query(JOB_TABLE, &JOBS, &[&At(since)]).await?;
    let missing = || StoreError::Inconsistent { table: JOB_TABLE, detail: "no counts".to_owned() };
    let row = rows.first().ok_or_else(missing)?;
    Ok(RecentRuns {
        failed: get(row, 0, JOB_TABLE)?,
        finished: get(row, 1, JOB_TABLE)?,
        last_completed: time_opt(row, 2, JOB_TABLE)?,
    })
}
