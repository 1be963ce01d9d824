//! A decision is on disk before its answer leaves: in the database, or in the spool when the database cannot take it.
//!
//! Where next: [`spool`] is the file, [`Recorder::replay`] the way back into the database.

pub mod spool;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metrics::counter;
use nudge_store::{DecisionRow, Store, StoreError};
use uuid::Uuid;

use spool::{Spool, SpoolError};

/// Rows that are brought back in one transaction.
const REPLAY_ROWS: usize = 256;
/// Wait between two tries while the database is away.
const RETRY: Duration = Duration::from_millis(100);
/// Longest time for which decisions keep away from the database while nothing waits in the spool.
const PROBE: Duration = Duration::from_secs(1);

/// Why a decision is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Neither the database nor the spool can take it.
    #[error("neither the database nor the spool can take the decision: {0}")]
    NoRoom(#[from] SpoolError),
    /// The database refuses the row as such.
    #[error(transparent)]
    Refused(#[from] StoreError),
}

/// Records decisions.
#[derive(Debug)]
pub struct Recorder {
    store: Store,
    spool: Spool,
    commit_timeout: Duration,
    /// Set while the database cannot take decisions.
    away: AtomicBool,
    recorded: AtomicU64,
    spooled: AtomicU64,
    set_aside: AtomicU64,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecorderStats {
    /// Decisions committed to the database straight away.
    pub recorded: u64,
    /// Decisions that went to the spool.
    pub spooled: u64,
    /// Spooled decisions that the database refused for good, kept in a file of their own.
    pub set_aside: u64,
    /// Decisions in the spool now.
    pub spool_depth: usize,
    /// Whether decisions go to the spool first, because the database did not take the last ones.
    pub away: bool,
}

impl Recorder {
    /// Makes a recorder over an opened spool.
    pub fn new(store: Store, spool: Spool, commit_timeout: Duration) -> Self {
        Self {
            store,
            spool,
            commit_timeout,
            away: AtomicBool::new(false),
            recorded: AtomicU64::new(0),
            spooled: AtomicU64::new(0),
            set_aside: AtomicU64::new(0),
        }
    }

    /// Puts a decision on disk and comes back when it is there.
    ///
    /// # Errors
    /// [`RecordError`] when it is nowhere; the answer must not leave then.
    pub async fn record(&self, row: DecisionRow) -> Result<(), RecordError> {
        let row = Arc::new(row);
        if !self.away.load(Ordering::Acquire) && self.commit(&row).await? {
            return Ok(());
        }
        let Err(error) = self.spool.append(Arc::clone(&row)).await else {
            self.spooled.fetch_add(1, Ordering::Relaxed);
            counter!("nudge_decisions_spooled_total").increment(1);
            return Ok(());
        };
        // The spool's trouble may be its own: the database is the last resort, whatever was known of it.
        if self.commit(&row).await? {
            tracing::warn!(%error, "recorder.spool_unusable: the database took the decision");
            return Ok(());
        }
        Err(error.into())
    }

    /// Says whether the database has taken a decision in time. One that it has not may still come in late, which
    /// changes nothing: a row is there once, however often it is written.
    async fn commit(&self, row: &Arc<DecisionRow>) -> Result<bool, StoreError> {
        let Ok(receipt) = self.store.try_enqueue_decision(Arc::clone(row)) else {
            counter!("nudge_recorder_queue_full_total").increment(1);
            return Ok(false);
        };
        match tokio::time::timeout(self.commit_timeout, receipt).await {
            Ok(Ok(Ok(()))) => {
                self.recorded.fetch_add(1, Ordering::Relaxed);
                self.note_back();
                Ok(true)
            }
            Ok(Ok(Err(error))) if !error.is_unavailable() => Err(error),
            late => {
                self.note_away(&late);
                Ok(false)
            }
        }
    }

    fn note_away(&self, cause: &dyn std::fmt::Debug) {
        if !self.away.swap(true, Ordering::AcqRel) {
            tracing::warn!(?cause, "recorder.database_away: decisions go to the spool");
        }
    }

    fn note_back(&self) {
        // Mostly it was never away: a read leaves the flag in every core's cache.
        if self.away.load(Ordering::Acquire) && self.away.swap(false, Ordering::AcqRel) {
            tracing::info!("recorder.database_back");
        }
    }

    /// Says whether a decision waits in the spool, so that the database does not know it yet.
    pub fn is_spooled(&self, id: &Uuid) -> bool {
        self.spool.contains(id)
    }

    /// Gives the share of the spool that is taken, 0 to 1.
    pub fn spool_used(&self) -> f64 {
        self.spool.used()
    }

    /// Gives the counts.
    pub fn stats(&self) -> RecorderStats {
        RecorderStats {
            recorded: self.recorded.load(Ordering::Relaxed),
            spooled: self.spooled.load(Ordering::Relaxed),
            set_aside: self.set_aside.load(Ordering::Relaxed),
            spool_depth: self.spool.depth(),
            away: self.away.load(Ordering::Acquire),
        }
    }

    /// Brings spooled decisions back into the database for as long as the future is polled.
    pub async fn replay(&self) {
        loop {
            match self.replay_some().await {
                Ok(0) => self.idle().await,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "recorder.replay_waits");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Waits for rows. As nothing will say that the database is back when none come, the next decision finds it out.
    async fn idle(&self) {
        if self.away.swap(false, Ordering::AcqRel) {
            tracing::debug!("recorder.database_tried_again");
        }
        let _ = tokio::time::timeout(PROBE, self.spool.wait_for_rows()).await;
    }

    /// Brings back rows until none are left.
    ///
    /// # Errors
    /// As [`Recorder::replay_some`].
    pub async fn drain(&self) -> Result<(), RecordError> {
        while self.replay_some().await? > 0 {}
        Ok(())
    }

    /// Brings back the oldest rows in one transaction, and gives the number of records that wait no longer. Rows that
    /// are in the database already count as brought back; what cannot be brought back is set aside.
    ///
    /// # Errors
    /// When the database or the spool cannot be used; nothing is lost then.
    pub async fn replay_some(&self) -> Result<usize, RecordError> {
        let batch = self.spool.oldest(REPLAY_ROWS)?;
        if batch.records() == 0 {
            return Ok(0);
        }
        let mut refused = Vec::new();
        if !batch.rows.is_empty() {
            let outcomes = self.store.replay_decisions(batch.rows.clone()).await?;
            self.note_back();
            for (n, (row, outcome)) in batch.rows.iter().zip(outcomes).enumerate() {
                if let Err(error) = outcome {
                    tracing::error!(decision.id = %row.id, %error, "recorder.row_set_aside");
                    refused.push(n);
                }
            }
        }
        let aside = self.spool.set_aside(&batch, &refused);
        self.set_aside.fetch_add(aside.rows, Ordering::Relaxed);
        counter!("nudge_decisions_set_aside_total").increment(aside.rows);
        counter!("nudge_spool_damaged_total").increment(aside.damaged);
        self.spool.drop_oldest(&batch)?;
        counter!("nudge_decisions_replayed_total").increment(batch.rows.len() as u64);
        Ok(batch.records())
    }
}

#[cfg(test)]
mod tests;
