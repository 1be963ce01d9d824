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
/// Wait between two tries to set a damaged spool aside.
const STUCK: Duration = Duration::from_secs(5);

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
        if !self.away.load(Ordering::Acquire) {
            match self.store.try_enqueue_decision(Arc::clone(&row)) {
                Ok(receipt) => match tokio::time::timeout(self.commit_timeout, receipt).await {
                    Ok(Ok(Ok(()))) => {
                        self.recorded.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                    Ok(Ok(Err(error))) if !error.is_unavailable() => return Err(error.into()),
                    // Late, failed or without an answer: it may still be committed, which the replay finds out.
                    late => self.note_away(&late),
                },
                Err(_full) => counter!("nudge_recorder_queue_full_total").increment(1),
            }
        }
        self.spool.append(row).await?;
        self.spooled.fetch_add(1, Ordering::Relaxed);
        counter!("nudge_decisions_spooled_total").increment(1);
        Ok(())
    }

    fn note_away(&self, cause: &dyn std::fmt::Debug) {
        if !self.away.swap(true, Ordering::AcqRel) {
            tracing::warn!(?cause, "recorder.database_away: decisions go to the spool");
        }
    }

    /// Says whether a decision waits in the spool, so that the database does not know it yet.
    pub fn is_spooled(&self, id: &Uuid) -> bool {
        self.spool.contains(id)
    }

    /// Gives the counts.
    pub fn stats(&self) -> RecorderStats {
        RecorderStats {
            recorded: self.recorded.load(Ordering::Relaxed),
            spooled: self.spooled.load(Ordering::Relaxed),
            set_aside: self.set_aside.load(Ordering::Relaxed),
            spool_depth: self.spool.depth(),
        }
    }

    /// Brings spooled decisions back into the database for as long as the future is polled.
    pub async fn replay(&self) {
        loop {
            match self.replay_some().await {
                Ok(0) => self.spool.wait_for_rows().await,
                Ok(_) => {}
                Err(RecordError::NoRoom(SpoolError::Damaged { .. })) => match self.spool.skip_damaged() {
                    Ok(kept) => {
                        counter!("nudge_spool_damaged_total").increment(1);
                        tracing::error!(kept = %kept.display(), "spool.damaged: what could not be read is in that file");
                    }
                    Err(error) => {
                        tracing::error!(%error, "spool.damaged_and_stuck");
                        tokio::time::sleep(STUCK).await;
                    }
                },
                Err(error) => {
                    tracing::debug!(%error, "recorder.replay_waits");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Brings back the oldest rows in one transaction; rows that are in the database already count as brought back.
    ///
    /// # Errors
    /// When the database or the spool cannot be used; nothing is lost then.
    pub async fn replay_some(&self) -> Result<usize, RecordError> {
        let batch = self.spool.oldest(REPLAY_ROWS)?;
        if batch.rows.is_empty() {
            return Ok(0);
        }
        let outcomes = self.store.replay_decisions(batch.rows.clone()).await?;
        let mut refused = Vec::new();
        for (row, outcome) in batch.rows.iter().zip(outcomes) {
            if let Err(error) = outcome {
                tracing::error!(decision.id = %row.id, %error, "recorder.row_set_aside");
                counter!("nudge_decisions_set_aside_total").increment(1);
                refused.push(row.clone());
            }
        }
        self.spool.set_aside(&refused)?;
        self.set_aside.fetch_add(refused.len() as u64, Ordering::Relaxed);
        self.spool.drop_oldest(&batch)?;
        if self.away.swap(false, Ordering::AcqRel) {
            tracing::info!("recorder.database_back");
        }
        counter!("nudge_decisions_replayed_total").increment(batch.rows.len() as u64);
        Ok(batch.rows.len())
    }
}
