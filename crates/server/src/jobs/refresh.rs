//! Archetypes recomputed between two nightly runs, in the background, one user at a time.

use std::sync::Arc;

use crate::clock::Clock;
use crate::usecases::archetype::Archetypes;
use crate::usecases::refresh::Refresher;

/// Recomputes whom the refresher hands over, for as long as the server lives. A user who is no longer stale when their turn
/// comes costs one read.
pub async fn work(refresher: Arc<Refresher>, archetypes: Archetypes, clock: Clock) {
    loop {
        let user = refresher.next().await;
        match archetypes.show(&user, clock.now()).await {
            Ok(_) => {
                archetypes.people.forget(&user);
                metrics::counter!("nudge_refreshed_total").increment(1);
            }
            // Still marked as stale: the next request or the nightly run computes it.
            Err(error) => {
                metrics::counter!("nudge_refresh_failures_total").increment(1);
                tracing::warn!(%error, "refresh.failed");
            }
        }
    }
}
