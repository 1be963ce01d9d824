//! Figures over a sliding window, from counts that were noted every few seconds. Pure.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::figures::Totals;
use super::machine::Reading;
use crate::telemetry::LATENCY_BUCKETS;

/// What was noted at one time.
#[derive(Debug, Clone, Copy)]
struct Noted {
    at: Timestamp,
    totals: Totals,
    spool_depth: u64,
}

/// What has been noted, the oldest first.
#[derive(Debug, Clone)]
pub struct Window {
    longest: SignedDuration,
    noted: VecDeque<Noted>,
}

impl Window {
    /// Makes a window from which figures over at most `longest` can be read.
    pub fn new(longest: SignedDuration) -> Self {
        Self { longest, noted: VecDeque::new() }
    }

    /// Notes the counts of a time. A clock that was set back begins anew.
    pub fn note(&mut self, at: Timestamp, totals: Totals, spool_depth: u64) {
        if self.noted.back().is_some_and(|newest| at < newest.at) {
            self.noted.clear();
        }
        self.noted.push_back(Noted { at, totals, spool_depth });
        // One is kept that is older than the longest window, for that one to begin with.
        while self.noted.get(1).is_some_and(|second| at.duration_since(second.at) >= self.longest) {
            self.noted.pop_front();
        }
    }

    /// Gives what is counted between the beginning of a window and the newest note; of a younger server since its start.
    fn between(&self, window: SignedDuration) -> Option<(Totals, Totals)> {
        let newest = self.noted.back()?;
        let old_enough = |noted: &&Noted| newest.at.duration_since(noted.at) >= window;
        let first = self.noted.iter().rev().find(old_enough).or(self.noted.front())?;
        Some((first.totals, newest.totals))
    }

    /// Gives the share of answers that are 5xx, in percent.
    pub fn error_percent(&self, window: SignedDuration) -> Reading {
        let Some((first, last)) = self.between(window) else { return Reading::Nothing };
        let requests = last.requests.saturating_sub(first.requests);
        let errors = last.errors.saturating_sub(first.errors);
        match requests {
            0 => Reading::Nothing,
            sample => Reading::Figure { value: 100.0 * errors as f64 / requests as f64, sample },
        }
    }

    /// Gives the time within which 95 of 100 answers came, in milliseconds: interpolated within its bucket, as
    /// Prometheus does. Beyond the last bound it is that bound.
    pub fn p95_millis(&self, window: SignedDuration) -> Reading {
        let Some((first, last)) = self.between(window) else { return Reading::Nothing };
        let counts = last.buckets.iter().zip(first.buckets).map(|(last, first)| last.saturating_sub(first));
        let counts: Vec<u64> = counts.collect();
        let sample: u64 = counts.iter().sum();
        if sample == 0 {
            return Reading::Nothing;
        }
        let rank = 0.95 * sample as f64;
        let mut below = 0.0;
        let mut lower = 0.0;
        for (count, upper) in counts.iter().zip(LATENCY_BUCKETS) {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                let value = 1_000.0 * (lower + (upper - lower) * (rank - below) / count);
                return Reading::Figure { value, sample };
            }
            below += count;
            lower = upper;
        }
        Reading::Figure { value: 1_000.0 * lower, sample }
    }

    /// Gives the least number of decisions that waited in the spool throughout a window; 0 when it was empty once.
    pub fn least_spool_depth(&self, window: SignedDuration) -> Reading {
        let Some(newest) = self.noted.back() else { return Reading::Nothing };
        let within = self.noted.iter().rev().take_while(|noted| newest.at.duration_since(noted.at) <= window);
        let (mut least, mut sample) = (u64::MAX, 0);
        for noted in within {
            least = least.min(noted.spool_depth);
            sample += 1;
        }
        let covered = self.noted.front().is_some_and(|oldest| newest.at.duration_since(oldest.at) >= window);
        match (least, covered) {
            (0, _) => Reading::Figure { value: 0.0, sample },
            (least, true) => Reading::Figure { value: least as f64, sample },
            (_, false) => Reading::Nothing,
        }
    }
}
