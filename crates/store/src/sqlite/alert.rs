//! Alerts: where they stand, how they came there, and silences.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::audit;
use super::convert::{Within, parsed, statements, time, time_opt, time_text};
use crate::alert::{AlertRow, AlertSave, AlertSilence, AlertTransition, RecentRuns, audited};
use crate::error::StoreError;
use crate::record::Actor;

statements! {
    STATES = "SELECT rule, instance, state, since, value, threshold, window_secs, sample_size, memory, created_at,
        evaluated_at, revision
      FROM nudge_alert_states ORDER BY rule, instance";
    SAVE = "INSERT INTO nudge_alert_states (rule, instance, state, since, value, threshold, window_secs, sample_size,
        memory, created_at, evaluated_at, revision)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 + 1)
      ON CONFLICT (rule, instance) DO UPDATE SET state = excluded.state, since = excluded.since,
        value = excluded.value, threshold = excluded.threshold, window_secs = excluded.window_secs,
        sample_size = excluded.sample_size, memory = excluded.memory, evaluated_at = excluded.evaluated_at,
        revision = excluded.revision
      WHERE nudge_alert_states.revision = ?12";
    TRANSITION = "INSERT INTO nudge_alert_transitions (id, rule, instance, from_state, to_state, value, threshold,
        window_secs, sample_size, at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    HISTORY = "SELECT id, rule, instance, from_state, to_state, value, threshold, window_secs, sample_size, at
      FROM nudge_alert_transitions WHERE ?1 IS NULL OR rule = ?1 ORDER BY id DESC LIMIT ?2";
    SILENCES = "SELECT id, rule, instance, reason, created_by, created_at, ends_at, lifted_at, lifted_by
      FROM nudge_alert_silences ORDER BY id DESC LIMIT 1000";
    SILENCE = "INSERT INTO nudge_alert_silences (id, rule, instance, reason, created_by, created_at, ends_at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    LIFT = "UPDATE nudge_alert_silences SET lifted_at = ?2, lifted_by = ?3
      WHERE id = ?1 AND lifted_at IS NULL AND ends_at > ?2
      RETURNING id, rule, instance, reason, created_by, created_at, ends_at, lifted_at, lifted_by";
    TIDY_STATES = "DELETE FROM nudge_alert_states WHERE instance <> '' AND evaluated_at < ?1";
    TIDY_TRANSITIONS = "DELETE FROM nudge_alert_transitions WHERE at < ?1";
    TIDY_SILENCES = "DELETE FROM nudge_alert_silences WHERE ends_at < ?1";
    JOBS = "SELECT count(*) FILTER (WHERE status = 'failed' AND completed_at >= ?1),
        count(*) FILTER (WHERE completed_at >= ?1),
        max(completed_at) FILTER (WHERE status = 'completed')
      FROM archetype_job_logs";
}

const STATE_TABLE: &str = "nudge_alert_states";
const HISTORY_TABLE: &str = "nudge_alert_transitions";
const SILENCE_TABLE: &str = "nudge_alert_silences";

/// Reads where every alert stands, by rule and instance.
pub(super) fn states(conn: &Connection) -> Result<Vec<AlertRow>, StoreError> {
    let mut statement = conn.prepare_cached(STATES).within(STATE_TABLE)?;
    statement.query_map([], state).and_then(Iterator::collect).within(STATE_TABLE)
}

fn state(row: &Row<'_>) -> rusqlite::Result<AlertRow> {
    Ok(AlertRow {
        rule: row.get(0)?,
        instance: row.get(1)?,
        state: parsed(row, 2, str::parse)?,
        since: time(row, 3)?,
        value: row.get(4)?,
        threshold: row.get(5)?,
        window_secs: row.get(6)?,
        sample_size: row.get(7)?,
        memory: parsed(row, 8, |text| serde_json::from_str(text))?,
        created_at: time(row, 9)?,
        evaluated_at: time(row, 10)?,
        revision: row.get(11)?,
    })
}

/// Writes those rows whose stored revision is theirs, and says which these were.
pub(super) fn save(conn: &Connection, saves: &[AlertSave]) -> Result<Vec<bool>, StoreError> {
    saves.iter().map(|save| save_one(conn, save)).collect()
}

fn save_one(conn: &Connection, save: &AlertSave) -> Result<bool, StoreError> {
    let row = &save.row;
    let mut statement = conn.prepare_cached(SAVE).within(STATE_TABLE)?;
    let written = statement.execute(params![
        row.rule,
        row.instance,
        row.state.as_str(),
        time_text(row.since),
        row.value,
        row.threshold,
        row.window_secs,
        row.sample_size,
        row.memory.to_string(),
        time_text(row.created_at),
        time_text(row.evaluated_at),
        row.revision,
    ]);
    if written.within(STATE_TABLE)? == 0 {
        return Ok(false);
    }
    for transition in &save.transitions {
        let mut statement = conn.prepare_cached(TRANSITION).within(HISTORY_TABLE)?;
        let inserted = statement.execute(params![
            transition.id.hyphenated().to_string(),
            transition.rule,
            transition.instance,
            transition.from.as_str(),
            transition.to.as_str(),
            transition.value,
            transition.threshold,
            transition.window_secs,
            transition.sample_size,
            time_text(transition.at),
        ]);
        inserted.within(HISTORY_TABLE)?;
    }
    Ok(true)
}

/// Reads the newest changes of state, of one alert or of all.
pub(super) fn history(
    conn: &Connection,
    rule: Option<&str>,
    limit: u32,
) -> Result<Vec<AlertTransition>, StoreError> {
    let mut statement = conn.prepare_cached(HISTORY).within(HISTORY_TABLE)?;
    let rows = statement.query_map(params![rule, limit], |row| {
        Ok(AlertTransition {
            id: parsed(row, 0, Uuid::parse_str)?,
            rule: row.get(1)?,
            instance: row.get(2)?,
            from: parsed(row, 3, str::parse)?,
            to: parsed(row, 4, str::parse)?,
            value: row.get(5)?,
            threshold: row.get(6)?,
            window_secs: row.get(7)?,
            sample_size: row.get(8)?,
            at: time(row, 9)?,
        })
    });
    rows.and_then(Iterator::collect).within(HISTORY_TABLE)
}

/// Reads the silences, the newest first.
pub(super) fn silences(conn: &Connection) -> Result<Vec<AlertSilence>, StoreError> {
    let mut statement = conn.prepare_cached(SILENCES).within(SILENCE_TABLE)?;
    statement.query_map([], silence_of).and_then(Iterator::collect).within(SILENCE_TABLE)
}

fn silence_of(row: &Row<'_>) -> rusqlite::Result<AlertSilence> {
    Ok(AlertSilence {
        id: parsed(row, 0, Uuid::parse_str)?,
        rule: row.get(1)?,
        instance: row.get(2)?,
        reason: row.get(3)?,
        created_by: row.get(4)?,
        created_at: time(row, 5)?,
        ends_at: time(row, 6)?,
        lifted_at: time_opt(row, 7)?,
        lifted_by: row.get(8)?,
    })
}

/// Begins a silence, audited.
pub(super) fn silence(
    conn: &Connection,
    silence: &AlertSilence,
    actor: &Actor,
) -> Result<String, StoreError> {
    let mut statement = conn.prepare_cached(SILENCE).within(SILENCE_TABLE)?;
    let inserted = statement.execute(params![
        silence.id.hyphenated().to_string(),
        silence.rule,
        silence.instance,
        silence.reason,
        silence.created_by,
        time_text(silence.created_at),
        time_text(silence.ends_at),
    ]);
    inserted.within(SILENCE_TABLE)?;
    audit::append(conn, actor, "silence_alert", None, &audited(silence), silence.created_at)
}

/// Ends a silence that is in force, audited.
pub(super) fn lift(
    conn: &Connection,
    id: Uuid,
    actor: &Actor,
    now: Timestamp,
) -> Result<Option<AlertSilence>, StoreError> {
    let mut statement = conn.prepare_cached(LIFT).within(SILENCE_TABLE)?;
    let values = params![id.hyphenated().to_string(), time_text(now), actor.id];
    let lifted = statement.query_row(values, silence_of).optional().within(SILENCE_TABLE)?;
    if let Some(silence) = &lifted {
        audit::append(conn, actor, "unsilence_alert", None, &audited(silence), now)?;
    }
    Ok(lifted)
}

/// Deletes rows of servers that have gone, and what is older than is kept.
pub(super) fn tidy(conn: &Connection, servers: Timestamp, history: Timestamp) -> Result<(), StoreError> {
    for (sql, before, table) in [
        (TIDY_STATES, servers, STATE_TABLE),
        (TIDY_TRANSITIONS, history, HISTORY_TABLE),
        (TIDY_SILENCES, history, SILENCE_TABLE),
    ] {
        let mut statement = conn.prepare_cached(sql).within(table)?;
        statement.execute([time_text(before)]).within(table)?;
    }
    Ok(())
}

/// Reads what the log of runs says since a time.
pub(super) fn jobs(conn: &Connection, since: Timestamp) -> Result<RecentRuns, StoreError> {
    let mut statement = conn.prepare_cached(JOBS).within("archetype_job_logs")?;
    let figures = statement.query_row([time_text(since)], |row| {
        Ok(RecentRuns { failed: row.get(0)?, finished: row.get(1)?, last_completed: time_opt(row, 2)? })
    });
    figures.within("archetype_job_logs")
}
