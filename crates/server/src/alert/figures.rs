//! Counts of the functions' requests, for the alerts of this server: three additions a request.
//!
//! The same could be read from the histogram behind `/metrics`; but that one belongs to the process, and comes as text only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::LATENCY_BUCKETS;

/// One bucket for each bound, and one for what is beyond them.
const BUCKETS: usize = LATENCY_BUCKETS.len() + 1;

/// The counts, from the start of the server.
#[derive(Debug, Default)]
pub struct RequestFigures {
    requests: AtomicU64,
    errors: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// The counts at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests answered.
    pub requests: u64,
    /// Those answered with 5xx.
    pub errors: u64,
    /// Requests by time, those of a route that waits on purpose left out: not above the bound, but above the one before.
    pub buckets: [u64; BUCKETS],
}

impl RequestFigures {
    /// Counts an answer; without a time where the route waits on purpose.
    pub fn count(&self, is_error: bool, took: Option<Duration>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if is_error {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(took) = took {
            let seconds = took.as_secs_f64();
            let bucket = LATENCY_BUCKETS.iter().position(|bound| seconds <= *bound);
            if let Some(bucket) = self.buckets.get(bucket.unwrap_or(BUCKETS - 1)) {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Gives the counts.
    pub fn totals(&self) -> Totals {
        Totals {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            buckets: std::array::from_fn(|n| {
                self.buckets.get(n).map_or(0, |count| count.load(Ordering::Relaxed))
            }),
        }
    }
}
