//! Runs of the recalculation job: started, watched, cancelled. The route, the command line, the pages and the schedule all
//! come here; `crate::jobs` does the work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nudge_store::job::{NewRun, Run, RunCancelled, RunCause, RunLease, RunStarted, RunStatus};
use nudge_store::{Actor, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::clock::{Clock, new_id};

/// How often the end of a run is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// The settings of a run, as in job.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobConfig {
    /// Users in one batch, 1 to 1000.
    pub batch_size: u32,
    /// Only users that are marked as stale or whose archetype is old; else everybody.
    pub only_stale_users: bool,
    /// Hours after which an archetype is old, 0 to 8760; an hour less counts, so that a daily run with 24 takes everybody.
    pub stale_threshold_hours: u32,
    /// Greatest number of threads that classify, 1 to 64.
    pub max_concurrent: u32,
}

impl Default for JobConfig {
    fn default() -> Self {
        Self { batch_size: 100, only_stale_users: true, stale_threshold_hours: 24, max_concurrent: 10 }
    }
}

/// A setting that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct BadJobConfig {
    /// The setting.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl JobConfig {
    /// Reads settings; those that are absent have their default.
    ///
    /// # Errors
    /// [`BadJobConfig`] names the first that is unknown, of another type or out of bounds.
    pub fn from_json(settings: &Map<String, Value>) -> Result<Self, BadJobConfig> {
        let mut config = Self::default();
        for (name, value) in settings {
            let number = |low: u32, high: u32| {
                let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
                number.filter(|n| (low..=high).contains(n)).ok_or_else(|| BadJobConfig {
                    field: name.clone(),
                    problem: format!("must be a whole number from {low} to {high}"),
                })
            };
            match name.as_str() {
                "batchSize" => config.batch_size = number(1, 1_000)?,
                "staleThresholdHours" => config.stale_threshold_hours = number(0, 8_760)?,
                "maxConcurrent" => config.max_concurrent = number(1, 64)?,
                "onlyStaleUsers" => {
                    config.only_stale_users = value.as_bool().ok_or_else(|| BadJobConfig {
                        field: name.clone(),
                        problem: "must be true or false".to_owned(),
                    })?;
                }
                _ => {
                    return Err(BadJobConfig {
                        field: name.clone(),
                        problem:
                            "is no setting; there are batchSize (1 to 1000), onlyStaleUsers (true or false), \
                                  staleThresholdHours (0 to 8760) and maxConcurrent (1 to 64)"
                                .to_owned(),
                    });
                }
            }
        }
        Ok(config)
    }

    /// Reads settings as they are kept, in a run's metadata or a row of `job_requests`.
    ///
    /// # Errors
    /// As [`JobConfig::from_json`].
    pub fn from_value(settings: &Value) -> Result<Self, BadJobConfig> {
        match settings {
            Value::Object(settings) => Self::from_json(settings),
            Value::Null => Ok(Self::default()),
            _ => Err(BadJobConfig { field: "config".to_owned(), problem: "must be an object".to_owned() }),
        }
    }

    fn to_value(self) -> Value {
        serde_json::json!({
            "batchSize": self.batch_size,
            "onlyStaleUsers": self.only_stale_users,
            "staleThresholdHours": self.stale_threshold_hours,
            "maxConcurrent": self.max_concurrent,
        })
    }
}

/// Who or what starts a run.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// Somebody.
    Person(&'a Actor),
    /// Something of this name.
    Machine(&'static str),
}

/// What became of the wish for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Triggered {
    /// A run has begun.
    Started(Uuid),
    /// Another is not finished: this one.
    Running(Uuid),
    /// What asked has been seen to before.
    SeenTo,
}

/// A run that this process has the lease of, to be worked on.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// The lease.
    pub lease: RunLease,
    /// The settings.
    pub config: JobConfig,
    /// When it began.
    pub started_at: Timestamp,
}

/// Starts, watches and cancels runs.
#[derive(Debug)]
pub struct Jobs {
    store: Store,
    clock: Clock,
    holder: String,
    begun: mpsc::UnboundedSender<Begun>,
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Begun>>>,
}

impl Jobs {
    /// Makes it. `holder` names this process among those that share the database.
    pub fn new(store: Store, clock: Clock, holder: String) -> Arc<Self> {
        let (begun, waiting) = mpsc::unbounded_channel();
        Arc::new(Self { store, clock, holder, begun, waiting: Mutex::new(Some(waiting)) })
    }

    /// The name of this process.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Gives the runs that begin here to whoever works on them, once.
    pub fn take_begun(&self) -> Option<mpsc::UnboundedReceiver<Begun>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Starts a run, unless one is not finished. A person's start is audited.
    ///
    /// # Errors
    /// When the database cannot be written; nothing has begun.
    pub async fn trigger(
        &self,
        config: JobConfig,
        cause: RunCause,
        by: By<'_>,
    ) -> Result<Triggered, StoreError> {
        let (by, actor) = match by {
            By::Person(actor) => (actor.id.as_str(), Some(actor.clone())),
            By::Machine(name) => (name, None),
        };
        let now = self.clock.now();
        let new = NewRun {
            id: new_id(now),
            holder: self.holder.clone(),
            cause,
            config: config.to_value(),
            trigger: by.to_owned(),
            actor,
            now,
        };
        Ok(match self.store.start_run(new).await? {
            RunStarted::Started(lease) => {
                tracing::info!(job.id = %lease.run_id, job.trigger = by, job.term = lease.term, "job.started");
                if self.begun.send(Begun { lease, config, started_at: now }).is_err() {
                    // The server is stopping: whoever comes next goes on with it.
                    tracing::warn!(job.id = %lease.run_id, "job.nobody_works");
                }
                Triggered::Started(lease.run_id)
            }
            RunStarted::Running(id) => Triggered::Running(id),
            RunStarted::SeenTo => Triggered::SeenTo,
        })
    }

    /// Waits for the end of a run, not longer than so long, and reads how it stands.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn wait(&self, id: Uuid, longest: Duration) -> Result<Option<Run>, StoreError> {
        let begun = Instant::now();
        let mut pause = LOOK;
        loop {
            let run = self.store.run(id).await?;
            let left = longest.saturating_sub(begun.elapsed());
            if run.as_ref().is_none_or(|run| run.status.is_final()) || left.is_zero() {
                return Ok(run);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Reads a run.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn run(&self, id: Uuid) -> Result<Option<Run>, StoreError> {
        self.store.run(id).await
    }

    /// Lists the newest runs, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn runs(&self, limit: u32) -> Result<Vec<Run>, StoreError> {
        self.store.runs(limit).await
    }

    /// Gives the run that is not finished, if there is one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn current(&self) -> Result<Option<Run>, StoreError> {
        match self.store.job_state().await?.run_id {
            Some(id) => self.store.run(id).await,
            None => Ok(None),
        }
    }

    /// Cancels a run, whoever works on it; audited. Nothing more is written for it; what has been stays.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn cancel(&self, id: Uuid, actor: &Actor) -> Result<RunCancelled, StoreError> {
        let cancelled = self.store.cancel_run(id, actor.clone(), self.clock.now()).await?;
        if cancelled == RunCancelled::Cancelled {
            tracing::info!(job.id = %id, "job.cancelled");
            metrics::counter!("nudge_job_runs_total", "status" => RunStatus::Cancelled.as_str()).increment(1);
        }
        Ok(cancelled)
    }
}

/// Says how long something took, as the job's answers do: `812ms`.
pub fn duration_text(run: &Run, now: Timestamp) -> String {
    let ms = run.duration_ms.unwrap_or_else(|| {
        i64::try_from(now.duration_since(run.started_at).as_millis().max(0)).unwrap_or(i64::MAX)
    });
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<JobConfig, String> {
        JobConfig::from_value(&value).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_within_their_bounds_are_taken_and_absent_ones_have_their_default() {
        assert_eq!(parse(json!({})), Ok(JobConfig::default()));
        let all = json!({"batchSize": 1000, "onlyStaleUsers": false, "staleThresholdHours": 0, "maxConcurrent": 64});
        let config = JobConfig {
            batch_size: 1_000,
            only_stale_users: false,
            stale_threshold_hours: 0,
            max_concurrent: 64,
        };
        assert_eq!(parse(all), Ok(config));
        assert_eq!(parse(config.to_value()), Ok(config), "as it is kept");
    }

    #[test]
    fn a_setting_that_does_not_fit_is_named_with_its_bounds() {
        for (settings, wanted) in [
            (json!({"batchSize": 0}), "`batchSize` must be a whole number from 1 to 1000"),
            (json!({"batchSize": 1001}), "`batchSize` must be a whole number from 1 to 1000"),
            (json!({"batchSize": "10"}), "`batchSize` must be a whole number from 1 to 1000"),
            (json!({"batchSize": 1.5}), "`batchSize` must be a whole number from 1 to 1000"),
            (json!({"batchSize": null}), "`batchSize` must be a whole number from 1 to 1000"),
            (
                json!({"staleThresholdHours": -1}),
                "`staleThresholdHours` must be a whole number from 0 to 8760",
            ),
            (json!({"maxConcurrent": 65}), "`maxConcurrent` must be a whole number from 1 to 64"),
            (json!({"onlyStaleUsers": 1}), "`onlyStaleUsers` must be true or false"),
            (json!([]), "`config` must be an object"),
        ] {
            assert_eq!(parse(settings.clone()), Err(wanted.to_owned()), "{settings}");
        }
        assert!(parse(json!({"batchsize": 10})).unwrap_err().starts_with("`batchsize` is no setting"));
    }
}
