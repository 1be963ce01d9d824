//! Rows on their way to the database, and out of it again when they are old.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use metrics::counter;
use nudge_store::{RequestRow, Store, StoreError};
use tokio::sync::{Mutex, watch};

use super::buffer::Buffer;
use super::{Surroundings, dropped, wait};

/// Rows that wait for the database.
const WAITING: usize = 32_768;
/// Rows of one write. More would keep a decision waiting behind them on the embedded engine, which has one writer.
const BATCH: usize = 256;
/// How often rows are written.
const EVERY: Duration = Duration::from_millis(200);
/// For how long one batch is tried while the database cannot take it.
const HOLD: Duration = Duration::from_secs(10);
/// Pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// How often old rows are looked for, how many go at once, and the pause between, in which others can write.
const DELETE_EVERY: Duration = Duration::from_secs(600);
const DELETE_BATCH: usize = 500;
const DELETE_PAUSE: Duration = Duration::from_millis(50);

/// The way to the database.
#[derive(Debug)]
pub(super) struct Writer {
    rows: Buffer<Arc<RequestRow>>,
    /// The batch that is being written. It stays here until it is, so that whoever is broken off loses nothing.
    hand: Mutex<Hand>,
    /// Whether the last write failed, so that a fault is logged once.
    failing: AtomicBool,
    /// For how long one batch is tried while the database cannot take it.
    hold: Duration,
}

#[derive(Debug, Default)]
struct Hand {
    rows: Vec<Arc<RequestRow>>,
    /// When the batch was first tried.
    since: Option<Instant>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrote {
    /// It is in the database.
    Some,
    /// There was none.
    Nothing,
    /// It has to wait.
    Later,
    /// It was given up.
    GivenUp,
}

impl Default for Writer {
    fn default() -> Self {
        Self::holding(HOLD)
    }
}

impl Writer {
    /// Makes a writer that tries a batch for some time.
    pub(super) fn holding(hold: Duration) -> Self {
        Self { rows: Buffer::new(WAITING), hand: Mutex::default(), failing: AtomicBool::new(false), hold }
    }

    /// Takes a row, or drops and counts it.
    pub(super) fn offer(&self, row: Arc<RequestRow>) {
        if !self.rows.offer(row) {
            dropped("queue_full", 1);
        }
    }

    /// Counts the rows that wait.
    pub(super) fn waiting(&self) -> usize {
        self.rows.len()
    }

    /// Writes rows until it is told to stop.
    pub(super) async fn run(&self, store: &Store, mut stopped: watch::Receiver<bool>) {
        let mut pause = EVERY;
        while wait(&mut stopped, pause).await {
            pause = EVERY;
            loop {
                match self.write(store).await {
                    Wrote::Some if !*stopped.borrow() => {}
                    Wrote::Later => {
                        pause = PAUSE;
                        break;
                    }
                    Wrote::Some | Wrote::Nothing | Wrote::GivenUp => break,
                }
            }
        }
    }

    /// Writes what is left, for a limited time; gives the number of rows that are left then.
    pub(super) async fn finish(&self, store: &Store, within: Duration) -> usize {
        let rest = async { while self.write(store).await == Wrote::Some {} };
        // What is left is counted either way.
        let _ = tokio::time::timeout(within, rest).await;
        self.rows.len() + self.hand.lock().await.rows.len()
    }

    /// Writes one batch.
    async fn write(&self, store: &Store) -> Wrote {
        let mut hand = self.hand.lock().await;
        if hand.rows.is_empty() {
            self.rows.take(BATCH, &mut hand.rows);
            hand.since = None;
        }
        if hand.rows.is_empty() {
            return Wrote::Nothing;
        }
        let since = *hand.since.get_or_insert_with(Instant::now);
        let error = match store.append_requests(hand.rows.clone()).await {
            Ok(()) => {
                counter!("nudge_request_log_rows_total").increment(hand.rows.len() as u64);
                hand.rows.clear();
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("request_log.writing_again");
                }
                return Wrote::Some;
            }
            Err(error) => error,
        };
        counter!("nudge_request_log_write_failures_total").increment(1);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "request_log.write_failed");
        }
        let reason = match error {
            StoreError::Unavailable { .. } if since.elapsed() < self.hold => return Wrote::Later,
            StoreError::Unavailable { .. } => "database_away",
            _ => "database_refused",
        };
        dropped(reason, hand.rows.len());
        hand.rows.clear();
        Wrote::GivenUp
    }
}

/// Deletes old rows, a few at a time, where they are not dropped by the month.
pub(super) async fn delete_old(around: &Surroundings, mut stopped: watch::Receiver<bool>) {
    let days = i64::from(around.retention.requests_days);
    if days == 0 {
        return;
    }
    loop {
        let before = oldest_kept(around.clock.now(), days);
        loop {
            match around.store.delete_requests(before, DELETE_BATCH).await {
                Ok(deleted) if deleted < DELETE_BATCH => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "request_log.old_rows_not_deleted");
                    break;
                }
            }
            if !wait(&mut stopped, DELETE_PAUSE).await {
                return;
            }
        }
        if !wait(&mut stopped, DELETE_EVERY).await {
            return;
        }
    }
}

fn oldest_kept(now: Timestamp, days: i64) -> Timestamp {
    // Where the calendar does not reach so far back, nothing is that old.
    now.checked_sub(SignedDuration::from_hours(days.saturating_mul(24))).unwrap_or(Timestamp::MIN)
}
