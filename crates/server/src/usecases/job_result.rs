//! What came of a run: the distribution of archetypes beside the guide's bands and the run before, who failed, and whether
//! anything moved by more than it should. Kept in the run's metadata under `result`.

use nudge_engine::Archetype;
use nudge_store::job::{ARCHETYPE_RECALCULATION, Run, RunFailure, RunStatus, RunTotals};
use nudge_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Failures that are told in a run's metadata; the table of failures has them all.
const TOLD_FAILURES: u32 = 20;
/// Runs that are searched for the one before.
const SEARCHED: u32 = 50;

/// The share of an archetype after a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The archetype.
    pub archetype: Archetype,
    /// Users that have it, overrides included.
    pub count: u64,
    /// Their share of all users with an archetype, 0 to 1.
    pub share: f64,
    /// The guide's band (step 7.2): least and greatest share.
    pub band: (f64, f64),
    /// Whether the share is within the band.
    pub within: bool,
    /// The share after the completed run before, if there was one.
    pub previous: Option<f64>,
    /// Whether the share moved by more points than are allowed.
    pub moved: bool,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobResult {
    /// One entry an archetype.
    pub distribution: Vec<Share>,
    /// The first users that failed, by id.
    pub failures: Vec<RunFailure>,
    /// Points by which a share may move without a warning.
    pub drift_points: f64,
}

/// Gives the guide's band of an archetype (step 7.2).
pub const fn band(archetype: Archetype) -> (f64, f64) {
    match archetype {
        Archetype::BigSpender => (0.15, 0.20),
        Archetype::HighFlexibility => (0.20, 0.25),
        Archetype::AverageUser => (0.55, 0.65),
    }
}

impl JobResult {
    /// Looks at the archetypes as they are after a run.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn of(store: &Store, run: Uuid, drift_points: f64) -> Result<Self, StoreError> {
        let counts = store.archetype_counts().await?;
        let before = store.runs(SEARCHED).await?.iter().find_map(|before| {
            let counts = before.job_type == ARCHETYPE_RECALCULATION
                && before.status == RunStatus::Completed
                && before.id != run;
            counts.then(|| Self::in_run(before)).flatten()
        });
        let failures = store.run_failures(run, u32::MAX, TOLD_FAILURES).await?;
        Ok(Self { distribution: shares(&counts, before.as_ref(), drift_points), failures, drift_points })
    }

    /// Reads what came of a run, if it has come that far.
    pub fn in_run(run: &Run) -> Option<Self> {
        serde_json::from_value(run.metadata.get("result")?.clone()).ok()
    }

    /// Writes it as it is kept.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_else(|error| {
            tracing::error!(%error, "job.result_not_serializable");
            Value::Null
        })
    }

    /// Warns of shares that moved by more than they may.
    pub fn warn(&self, run: Uuid) {
        for share in self.distribution.iter().filter(|share| share.moved) {
            tracing::warn!(
                job.id = %run, archetype = share.archetype.as_str(), share.from = share.previous, share.to = share.share,
                points.allowed = self.drift_points, "job.distribution_moved"
            );
        }
    }
}

fn shares(counts: &[(Archetype, u64)], before: Option<&JobResult>, drift_points: f64) -> Vec<Share> {
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let share_of = |archetype| {
        let count = counts.iter().find(|(of, _)| *of == archetype).map_or(0, |(_, count)| *count);
        let share = if total == 0 { 0.0 } else { count as f64 / total as f64 };
        let previous = before.and_then(|before| {
            before.distribution.iter().find(|share| share.archetype == archetype).map(|share| share.share)
        });
        let (least, greatest) = band(archetype);
        Share {
            archetype,
            count,
            share,
            band: (least, greatest),
            within: (least..=greatest).contains(&share),
            previous,
            moved: previous.is_some_and(|previous| (share - previous).abs() * 100.0 > drift_points),
        }
    };
    [Archetype::BigSpender, Archetype::HighFlexibility, Archetype::AverageUser].map(share_of).to_vec()
}

/// Reads what a run has done so far.
pub fn totals(run: &Run) -> Option<RunTotals> {
    serde_json::from_value(run.metadata.get("totals")?.clone()).ok()
}

/// Shows a run that has ended as metrics.
pub fn publish(run: &Run) {
    use metrics::gauge;
    if run.status != RunStatus::Completed {
        return;
    }
    if let Some(at) = run.completed_at {
        gauge!("nudge_job_last_success_timestamp_seconds").set(at.as_second() as f64);
    }
    if let Some(ms) = run.duration_ms {
        gauge!("nudge_job_last_duration_seconds").set(ms as f64 / 1_000.0);
    }
    for share in JobResult::in_run(run).map(|result| result.distribution).unwrap_or_default() {
        gauge!("nudge_archetype_share_ratio", "archetype" => share.archetype.as_str()).set(share.share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stand_beside_the_bands_and_the_run_before() {
        let counts = |big, flexible, average| {
            [
                (Archetype::BigSpender, big),
                (Archetype::HighFlexibility, flexible),
                (Archetype::AverageUser, average),
            ]
        };
        let first = JobResult {
            distribution: shares(&counts(18, 22, 60), None, 5.0),
            failures: vec![],
            drift_points: 5.0,
        };
        assert!(
            first.distribution.iter().all(|share| share.within && !share.moved && share.previous.is_none())
        );
        let second = shares(&counts(24, 22, 54), Some(&first), 5.0);
        let told: Vec<_> =
            second.iter().map(|share| (share.count, share.within, share.previous, share.moved)).collect();
        assert_eq!(
            told,
            [(24, false, Some(0.18), true), (22, true, Some(0.22), false), (54, false, Some(0.6), true)]
        );
        assert!(shares(&counts(24, 22, 54), Some(&first), 6.1).iter().all(|share| !share.moved));
        assert!(shares(&[], None, 5.0).iter().all(|share| share.count == 0 && share.share == 0.0));
        let kept: JobResult = serde_json::from_value(first.to_value()).unwrap();
        assert_eq!(kept, first);
    }
}
