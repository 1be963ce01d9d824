//! The log of runs.

use super::convert::{At, statements};
use super::pool::Transaction;
use crate::error::StoreError;
use crate::record::RunRow;

statements! {
    INSERT [UUID, TEXT, TEXT, INT8, INT8, INT8, INT8, TEXT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ] =
      "INSERT INTO public.archetype_job_logs (id, job_type, status, processed_count, updated_count, failed_count,
        duration_ms, error_message, metadata, started_at, completed_at)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10, $11)";
}

const TABLE: &str = "archetype_job_logs";

/// Inserts a finished run.
pub(super) async fn insert(transaction: &Transaction<'_>, run: &RunRow) -> Result<(), StoreError> {
    let duration_ms = run.completed_at.duration_since(run.started_at).as_millis();
    let inserted = transaction
        .execute(
            TABLE,
            &INSERT,
            &[
                &run.id,
                &run.job_type,
                &run.status,
                &run.processed_count,
                &run.updated_count,
                &run.failed_count,
                &i64::try_from(duration_ms).unwrap_or(i64::MAX),
                &run.error_message,
                &run.metadata.to_string(),
                &At(run.started_at),
                &At(run.completed_at),
            ],
        )
        .await;
    inserted.map(drop)
}
