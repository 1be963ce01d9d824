//! Which run this server works on: one that it was asked for, one that the schedule or the database asks for, or one that
//! nobody works on any more.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nudge_store::StoreError;
use nudge_store::job::{JobState, RunCause, RunEnd, RunLease, RunStatus, Scheduler, TakenRun};
use tokio::sync::watch;

use super::run::{Left, Means, Work};
use super::schedule::Schedule;
use crate::usecases::job::{Begun, By, JobConfig, Jobs};
use crate::usecases::job_result;

/// Interval at which the lease and what waits is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A time of the schedule that lies further in the future is of a clock that was wrong.
const FURTHEST: SignedDuration = SignedDuration::from_hours(24);
/// Users in a batch of a run that nobody gave settings for.
const SCHEDULED_BATCH: u32 = 500;

/// Works on runs for as long as the server lives.
pub struct Worker {
    /// What runs need.
    pub means: Means,
    /// Starts runs.
    pub jobs: Arc<Jobs>,
    /// When one is due.
    pub schedule: Schedule,
    /// Where the schedule's clock hangs.
    pub zone: TimeZone,
    /// Says when to stop.
    pub stop: watch::Receiver<bool>,
    /// The time for which the schedule was set back; none at first.
    pub set_back_for: Option<Timestamp>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("schedule", &self.schedule).finish_non_exhaustive()
    }
}

impl Worker {
    /// Works until it is told to stop; then a run under way is paused, and the next server goes on with it.
    pub async fn work(mut self) {
        let Some(mut begun) = self.jobs.take_begun() else {
            tracing::error!("job.two_workers");
            return;
        };
        self.show_newest().await;
        let mut reachable = true;
        loop {
            match self.look().await {
                Ok(()) => reachable = true,
                Err(error) if reachable => {
                    reachable = false;
                    tracing::warn!(%error, "job.not_looked");
                }
                Err(error) => tracing::debug!(%error, "job.not_looked"),
            }
            // What has been started is worked on before anything else, also where the server is stopping: it pauses at once.
            while let Ok(begun) = begun.try_recv() {
                self.begin(begun).await;
            }
            if *self.stop.borrow() {
                return;
            }
            let next = tokio::select! {
                begun = begun.recv() => begun,
                () = tokio::time::sleep(LOOK) => None,
                _ = self.stop.wait_for(|stop| *stop) => None,
            };
            if let Some(begun) = next {
                self.begin(begun).await;
            }
        }
    }

    /// Shows the newest completed run as metrics, whoever worked on it.
    async fn show_newest(&self) {
        match self.jobs.runs(50).await {
            Ok(runs) => {
                if let Some(run) = runs.iter().find(|run| run.status == RunStatus::Completed) {
                    job_result::publish(run);
                }
            }
            Err(error) => tracing::debug!(%error, "job.newest_unknown"),
        }
    }

    /// Looks for what is to be done, and does it.
    async fn look(&mut self) -> Result<(), StoreError> {
        let state = self.means.store.job_state().await?;
        if let Some((id, config)) = &state.request {
            self.requested(*id, config).await?;
        }
        self.scheduled(&state).await?;
        if state.run_id.is_some()
            && state.expired
            && !*self.stop.borrow()
            && let Some(taken) = self.means.store.take_over_run(self.jobs.holder()).await?
        {
            self.go_on(taken).await;
        }
        Ok(())
    }

    async fn requested(&self, id: i64, config: &serde_json::Value) -> Result<(), StoreError> {
        match JobConfig::from_value(config) {
            Ok(config) => self
                .jobs
                .trigger(config, RunCause::Requested(id), By::Machine("job_requests"))
                .await
                .map(drop),
            Err(error) => {
                tracing::error!(job.request = id, %error, "job.request_refused");
                self.means.store.refuse_job_request(id).await
            }
        }
    }

    /// Starts the run that is due, also when nobody was there at its time; once for all servers.
    async fn scheduled(&mut self, state: &JobState) -> Result<(), StoreError> {
        let now = self.means.clock.now();
        let Some(due) = self.schedule.newest_due(now, &self.zone) else { return Ok(()) };
        match state.scheduled_at {
            // A new database has missed nothing.
            None => self.means.store.see_to_schedule(due).await,
            // Seen to by a clock that was wrong; this one is not left to wait for it. Once for each time, lest two servers
            // whose clocks differ start one run after the other.
            Some(seen_to) if seen_to.duration_since(now) > FURTHEST && self.set_back_for != Some(due) => {
                tracing::warn!(schedule.seen_to = %seen_to, schedule.due = %due, "job.schedule_set_back");
                self.set_back_for = Some(due);
                self.means.store.set_schedule_back(due).await
            }
            Some(seen_to) if seen_to >= due => Ok(()),
            Some(_) if state.scheduler == Scheduler::PgCron => self.means.store.see_to_schedule(due).await,
            Some(_) => {
                let config = JobConfig { batch_size: SCHEDULED_BATCH, ..JobConfig::default() };
                self.jobs.trigger(config, RunCause::Due(due), By::Machine("schedule")).await.map(drop)
            }
        }
    }

    async fn begin(&self, begun: Begun) {
        let Begun { lease, config, started_at } = begun;
        self.until_it_leaves(Work::new(self.means.clone(), lease, config, started_at, self.stop.clone()))
            .await;
    }

    async fn go_on(&self, taken: TakenRun) {
        let TakenRun { lease, cursor, totals, config, started_at } = taken;
        tracing::info!(job.id = %lease.run_id, job.term = lease.term, totals.processed, "job.resumed");
        let config = match JobConfig::from_value(&config) {
            Ok(config) => config,
            Err(error) => return self.give_up(lease, format!("its settings cannot be used: {error}")).await,
        };
        let work = Work::new(self.means.clone(), lease, config, started_at, self.stop.clone());
        self.until_it_leaves(work.from(cursor, totals)).await;
    }

    async fn until_it_leaves(&self, work: Work) {
        // A panic of one run must not keep the server from the next.
        match tokio::spawn(work.run()).await {
            Ok(Left::As(_) | Left::LeaseLost) => {}
            Err(error) => tracing::error!(%error, "job.died"),
        }
    }

    async fn give_up(&self, lease: RunLease, why: String) {
        tracing::error!(job.id = %lease.run_id, why, "job.failed");
        let end = RunEnd {
            status: RunStatus::Failed,
            error: Some(why),
            result: None,
            computed_floor: None,
            now: self.means.clock.now(),
        };
        if let Err(error) = self.means.store.end_run(lease, end).await {
            tracing::warn!(job.id = %lease.run_id, %error, "job.end_not_written");
        }
    }
}
