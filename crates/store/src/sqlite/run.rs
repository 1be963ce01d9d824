//! The log of runs.

use rusqlite::{Connection, params};

use super::convert::{Within, statements, time_text};
use crate::error::StoreError;
use crate::record::RunRow;

statements! {
    INSERT = "INSERT INTO archetype_job_logs (id, job_type, status, processed_count, updated_count, failed_count,
        duration_ms, error_message, metadata, started_at, completed_at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
}

const TABLE: &str = "archetype_job_logs";

/// Inserts a finished run.
pub(super) fn insert(conn: &Connection, run: &RunRow) -> Result<(), StoreError> {
    let duration_ms = run.completed_at.duration_since(run.started_at).as_millis();
    let mut statement = conn.prepare_cached(INSERT).within(TABLE)?;
    let inserted = statement.execute(params![
        run.id.hyphenated().to_string(),
        run.job_type,
        run.status,
        run.processed_count,
        run.updated_count,
        run.failed_count,
        i64::try_from(duration_ms).unwrap_or(i64::MAX),
        run.error_message,
        run.metadata.to_string(),
        time_text(run.started_at),
        time_text(run.completed_at),
    ]);
    inserted.within(TABLE).map(drop)
}
