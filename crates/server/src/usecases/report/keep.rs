//! Keeps the sums of reports close to the rows, beside the requests: what is not in the sums yet is added up by every
//! report anew. Folding takes at most a twentieth of the time, so that under load it falls behind rather than in the way.

use std::time::{Duration, Instant};

use nudge_store::Store;

/// Decisions, and changes, that are folded in one transaction. Most of its time is the cells', of which a few decisions
/// need as many as thousands do.
pub const AT_ONCE: usize = 5_000;
/// Pause when nothing is left.
const IDLE: Duration = Duration::from_secs(2);
/// Pause after a fold that left something, as a multiple of the time that it took.
const SHARE: u32 = 19;
/// Pause after an error.
const AFTER_ERROR: Duration = Duration::from_secs(10);

/// Folds for as long as it is polled.
pub async fn keep(store: Store) {
    loop {
        tokio::time::sleep(fold(&store).await).await;
    }
}

/// Folds once; gives the time until the next.
async fn fold(store: &Store) -> Duration {
    let begun = Instant::now();
    match store.fold_report(AT_ONCE).await {
        // Nothing moved and more to do: another process folds.
        Ok(folded) if folded.more && folded.decisions + folded.changes > 0 => begun.elapsed() * SHARE,
        Ok(_) => IDLE,
        Err(error) => {
            tracing::warn!(%error, "report.not_folded");
            AFTER_ERROR
        }
    }
}
