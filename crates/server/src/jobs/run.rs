//! One run: users by id, batch after batch, until there is nobody left, the lease is lost, or somebody stops it.
//!
//! While one batch is computed and stored the next one is read. A batch is read outside any transaction that locks; its
//! short write begins by renewing the lease. Nothing is written when a read fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nudge_engine::{Policy, UserId};
use nudge_store::job::{
    BatchSaved, LEASE, PeoplePage, PersonState, RunBatch, RunEnd, RunLease, RunSelection, RunStatus,
    RunTotals, Worked,
};
use nudge_store::{Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::usecases::compute;
use crate::usecases::job::JobConfig;
use crate::usecases::job_result::{self, JobResult};

/// How often a call is tried that the database cannot take now, and the pause after the first time; it doubles.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);
/// How often a user is tried whose rows cannot be used, and the pause before the second time; it doubles.
const ATTEMPTS: u32 = 3;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);
/// Interval at which the lease is renewed beside the batches; a run that has stored nothing for so long is not alive.
const BEAT: Duration = Duration::from_secs(3);
const LONGEST_SILENCE: Duration = Duration::from_secs(120);
/// An app's own requests count from so long before the last run: its clock is not ours.
const APP_MARGIN: SignedDuration = SignedDuration::from_mins(10);

/// Makes a call, again where the database cannot take it now.
macro_rules! retried {
    ($call:expr) => {{
        let mut tries = 0;
        loop {
            match $call.await {
                Err(error) if error.is_unavailable() && tries + 1 < TRIES => {
                    tracing::debug!(%error, tries, "job.tried_again");
                    tokio::time::sleep(PAUSE * 2_u32.pow(tries)).await;
                    tries += 1;
                }
                result => break result,
            }
        }
    }};
}

/// Why a run pauses or ends early.
#[derive(Debug)]
pub enum Stop {
    /// The process is asked to stop.
    Asked,
    /// Another has the lease, or the run was cancelled.
    LeaseLost,
    /// The database cannot be used now.
    Unavailable(StoreError),
    /// Something that trying again does not mend.
    Broken(String),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error.is_unavailable() {
            true => Self::Unavailable(error),
            false => Self::Broken(error.to_string()),
        }
    }
}

/// How a run left this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It ended like this, or pauses.
    As(RunStatus),
    /// Another has it, or it was cancelled.
    LeaseLost,
}

/// What a run needs.
#[derive(Debug, Clone)]
pub struct Means {
    /// The database.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// The policy.
    pub policy: Arc<Policy>,
    /// Points by which an archetype's share may move before it is warned of.
    pub drift_points: f64,
}

/// A run as this process knows it.
pub struct Work {
    means: Means,
    lease: RunLease,
    config: JobConfig,
    started_at: Timestamp,
    cursor: Option<UserId>,
    totals: RunTotals,
    stop: watch::Receiver<bool>,
    on_progress: Box<dyn Fn(&RunTotals) + Send + Sync>,
    /// Rises as long as there is progress.
    alive: Arc<AtomicU64>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// The users of a batch with what is known of them.
struct Batch {
    users: Vec<UserId>,
    facts: Vec<Result<PersonState, String>>,
    upto: Option<UserId>,
}

impl Work {
    /// Makes the work on a run that has just begun, or that is gone on with.
    pub fn new(
        means: Means,
        lease: RunLease,
        config: JobConfig,
        started_at: Timestamp,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            means,
            lease,
            config,
            started_at,
            cursor: None,
            totals: RunTotals::default(),
            stop,
            on_progress: Box::new(|_| {}),
            alive: Arc::default(),
        }
    }

    /// Goes on from here.
    #[must_use]
    pub fn from(mut self, cursor: Option<UserId>, totals: RunTotals) -> Self {
        (self.cursor, self.totals) = (cursor, totals);
        self
    }

    /// Tells of every batch that is stored.
    #[must_use]
    pub fn on_progress(mut self, tell: impl Fn(&RunTotals) + Send + Sync + 'static) -> Self {
        self.on_progress = Box::new(tell);
        self
    }

    /// Works until the end, and says how the run stands then.
    pub async fn run(mut self) -> Left {
        let (working, over) = watch::channel(());
        let beat = tokio::spawn(beat(self.means.store.clone(), self.lease, Arc::clone(&self.alive), over));
        let worked = self.work().await;
        drop(working);
        // In the middle of a renewal it would keep the lease's row locked while the end is written.
        if let Err(error) = beat.await {
            tracing::error!(%error, "job.beat_died");
        }
        self.end(worked).await
    }

    async fn work(&mut self) -> Result<(), Stop> {
        let selection = self.selection().await?;
        if self.config.only_stale_users && self.cursor.is_none() {
            let marked = retried!(self.means.store.mark_recent(APP_MARGIN))?;
            if marked > 0 {
                tracing::info!(marked, "job.recent_marked");
            }
        }
        self.everybody(selection).await?;
        self.failed_ones().await
    }

    /// Says whom the run is for; the same every time that it is gone on with.
    async fn selection(&self) -> Result<RunSelection, Stop> {
        if !self.config.only_stale_users {
            return Ok(RunSelection::Everybody);
        }
        // A floor of the future is of a clock that was wrong.
        let floor = retried!(self.means.store.job_state())?.computed_floor;
        let floor = floor.filter(|floor| *floor <= self.started_at);
        let old = self.old();
        // Nothing is older than the floor, so there is nothing to look for below it.
        let computed_before = Some(old).filter(|old| floor.is_none_or(|floor| floor <= *old));
        Ok(RunSelection::Stale { computed_before, now: self.started_at })
    }

    /// Archetypes computed then or before are old.
    fn old(&self) -> Timestamp {
        old(self.started_at, self.config)
    }

    /// The time of computations: never before the run began, also where the clock was set back.
    fn now(&self) -> Timestamp {
        self.means.clock.now().max(self.started_at)
    }

    async fn everybody(&mut self, selection: RunSelection) -> Result<(), Stop> {
        let mut next = self.read(selection, self.cursor.clone());
        loop {
            let batch = joined(next).await?;
            self.alive.fetch_add(1, Ordering::Relaxed);
            if *self.stop.borrow() {
                return Err(Stop::Asked);
            }
            let upto = batch.upto.clone();
            let following = upto.is_some().then(|| self.read(selection, upto));
            let last = batch.users.last().cloned();
            let items = self.computed(batch.users, batch.facts).await?;
            self.save(items, last, false).await?;
            match following {
                Some(following) => next = following,
                None => return Ok(()),
            }
        }
    }

    /// Reads the next batch, beside whatever else is done.
    fn read(&self, selection: RunSelection, after: Option<UserId>) -> JoinHandle<Result<Batch, StoreError>> {
        let (store, limit) = (self.means.store.clone(), self.config.batch_size);
        let (newest, now) = (self.means.policy.signal_requests, self.now());
        tokio::spawn(async move {
            let page: PeoplePage = retried!(store.run_people(selection, after.clone(), limit))?;
            let facts = facts(&store, &page.users, newest, now).await?;
            Ok(Batch { users: page.users, facts, upto: page.upto })
        })
    }

    /// Computes archetypes on several threads.
    async fn computed(
        &self,
        users: Vec<UserId>,
        facts: Vec<Result<PersonState, String>>,
    ) -> Result<Vec<(UserId, Worked)>, Stop> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(self.config.max_concurrent as usize).max(1);
        let share = users.len().div_ceil(threads).max(1);
        let mut rest = users.into_iter().zip(facts);
        let now = self.now();
        let mut parts = Vec::with_capacity(threads);
        loop {
            let part: Vec<_> = rest.by_ref().take(share).collect();
            if part.is_empty() {
                break;
            }
            let policy = Arc::clone(&self.means.policy);
            parts.push(tokio::task::spawn_blocking(move || {
                part.into_iter().map(|(user, facts)| (user, worked(facts, now, &policy))).collect::<Vec<_>>()
            }));
        }
        let mut items = Vec::new();
        for part in parts {
            items.extend(part.await.map_err(|error| Stop::Broken(error.to_string()))?);
        }
        Ok(items)
    }

    /// Stores items, in as many writes as the database wants.
    async fn save(
        &mut self,
        mut items: Vec<(UserId, Worked)>,
        upto: Option<UserId>,
        again: bool,
    ) -> Result<(), Stop> {
        while !items.is_empty() {
            let batch = Arc::new(RunBatch {
                items,
                upto: upto.clone().filter(|_| !again),
                again,
                totals: self.totals.clone(),
            });
            let (done, totals) = self.save_one(&batch).await?;
            items = match Arc::try_unwrap(batch) {
                Ok(batch) => batch.items,
                // A write that was given up may still hold it.
                Err(shared) => shared.items.clone(),
            };
            self.cursor =
                items.get(done.wrapping_sub(1)).map(|(user, _)| user.clone()).or(self.cursor.take());
            items.drain(..done.min(items.len()));
            self.count(totals);
            if *self.stop.borrow() {
                return Err(Stop::Asked);
            }
        }
        Ok(())
    }

    async fn save_one(&self, batch: &Arc<RunBatch>) -> Result<(usize, RunTotals), Stop> {
        let mut tries = 0;
        loop {
            let error = match self.means.store.save_run_batch(self.lease, Arc::clone(batch)).await {
                Ok(BatchSaved::Saved { items, totals }) => return Ok((items, totals)),
                Ok(BatchSaved::LeaseLost) => return Err(Stop::LeaseLost),
                Err(error) => error,
            };
            tries += 1;
            if !error.is_unavailable() || tries >= TRIES {
                return Err(error.into());
            }
            tracing::warn!(%error, tries, "job.batch_not_stored");
            tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
            // The answer may have been lost after the commit: then the run says so.
            if let Ok(Some(run)) = self.means.store.run(self.lease.run_id).await
                && let Some(totals) = job_result::totals(&run)
                && totals != batch.totals
                && let Some(cursor) = run.cursor.as_deref()
            {
                let done = match batch.again {
                    true => batch.items.len(),
                    false => batch.items.iter().take_while(|(user, _)| user.as_str() <= cursor).count(),
                };
                return Ok((done, totals));
            }
        }
    }

    fn count(&mut self, totals: RunTotals) {
        let more = |name: &'static str, now: u64, before: u64| {
            metrics::counter!(name).increment(now.saturating_sub(before));
        };
        more("nudge_job_processed_total", totals.processed, self.totals.processed);
        more("nudge_job_updated_total", totals.updated, self.totals.updated);
        more("nudge_job_failed_users_total", totals.failed, self.totals.failed);
        more("nudge_job_override_skipped_total", totals.override_skipped, self.totals.override_skipped);
        more("nudge_job_superseded_total", totals.superseded, self.totals.superseded);
        self.totals = totals;
        self.alive.fetch_add(1, Ordering::Relaxed);
        (self.on_progress)(&self.totals);
    }

    /// Tries those again that failed.
    async fn failed_ones(&mut self) -> Result<(), Stop> {
        for attempt in 2..=ATTEMPTS {
            let mut paused = false;
            loop {
                let store = self.means.store.clone();
                let (id, limit) = (self.lease.run_id, self.config.batch_size);
                let failed = retried!(store.run_failures(id, attempt, limit))?;
                if failed.is_empty() {
                    break;
                }
                if !paused {
                    paused = true;
                    self.pause(ATTEMPT_PAUSE * 2_u32.pow(attempt - 2)).await?;
                }
                let users: Vec<UserId> = failed.into_iter().map(|failure| failure.user_id).collect();
                let (newest, now) = (self.means.policy.signal_requests, self.now());
                let facts = facts(&store, &users, newest, now).await?;
                let items = self.computed(users, facts).await?;
                self.save(items, None, true).await?;
            }
        }
        Ok(())
    }

    async fn pause(&mut self, time: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            _ = self.stop.wait_for(|stop| *stop) => Err(Stop::Asked),
        }
    }

    /// Writes the run's end, or its pause.
    async fn end(&self, worked: Result<(), Stop>) -> Left {
        let id = self.lease.run_id;
        let (status, error) = match worked {
            Ok(()) => (RunStatus::Completed, None),
            Err(Stop::LeaseLost) => {
                metrics::counter!("nudge_job_lease_lost_total").increment(1);
                tracing::warn!(job.id = %id, job.term = self.lease.term, "job.lease_lost");
                return Left::LeaseLost;
            }
            Err(Stop::Asked) => (RunStatus::Interrupted, Some("the process was asked to stop".to_owned())),
            Err(Stop::Unavailable(error)) => (RunStatus::Interrupted, Some(error.to_string())),
            Err(Stop::Broken(why)) => (RunStatus::Failed, Some(why)),
        };
        let ended = match self.write_end(status, error.clone()).await {
            Ok(ended) => ended,
            Err(unwritten) => {
                // It reads as interrupted as soon as its lease is over, and is gone on with then.
                tracing::warn!(job.id = %id, error, %unwritten, "job.interrupted");
                return Left::As(RunStatus::Interrupted);
            }
        };
        if !ended {
            metrics::counter!("nudge_job_lease_lost_total").increment(1);
            tracing::warn!(job.id = %id, job.term = self.lease.term, "job.lease_lost");
            return Left::LeaseLost;
        }
        metrics::counter!("nudge_job_runs_total", "status" => status.as_str()).increment(1);
        let totals = &self.totals;
        match status {
            RunStatus::Completed => tracing::info!(
                job.id = %id, totals.processed, totals.updated, totals.failed, totals.override_skipped,
                "job.completed"
            ),
            RunStatus::Failed => tracing::error!(job.id = %id, error, "job.failed"),
            _ => tracing::warn!(job.id = %id, error, totals.processed, "job.interrupted"),
        }
        Left::As(status)
    }

    async fn write_end(&self, status: RunStatus, error: Option<String>) -> Result<bool, StoreError> {
        let completed = status == RunStatus::Completed;
        let mut end = RunEnd { status, error, result: None, computed_floor: None, now: self.now() };
        if completed {
            let (store, id, points) = (&self.means.store, self.lease.run_id, self.means.drift_points);
            match retried!(JobResult::of(store, id, points)) {
                Ok(result) => {
                    result.warn(id);
                    end.result = Some(result.to_value());
                }
                Err(error) if error.is_unavailable() => return Err(error),
                // The users are done all the same.
                Err(error) => tracing::error!(job.id = %id, %error, "job.result_unknown"),
            }
            // Those who failed keep what they had, however old it is.
            if self.totals.failed == 0 {
                let floor = if self.config.only_stale_users { self.old() } else { self.started_at };
                end.computed_floor = Some(floor);
            }
        }
        let ended = retried!(self.means.store.end_run(self.lease, end.clone()))?;
        match self.means.store.run(self.lease.run_id).await {
            // Where the answer to the first try was lost, the next one finds the term over, and the run as it was to be.
            Ok(Some(run)) if run.status == status => {
                job_result::publish(&run);
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(job.id = %self.lease.run_id, %error, "job.end_not_read"),
        }
        Ok(ended)
    }
}

/// Reads and computes as a run does, writes nothing, and counts what would change.
///
/// # Errors
/// When the database cannot be read.
pub async fn rehearse(
    means: &Means,
    config: JobConfig,
    tell: impl Fn(&RunTotals),
) -> Result<RunTotals, StoreError> {
    let now = means.clock.now();
    let selection = match config.only_stale_users {
        false => RunSelection::Everybody,
        true => RunSelection::Stale { computed_before: Some(old(now, config)), now },
    };
    let (mut totals, mut after) = (RunTotals::default(), None);
    loop {
        let page = retried!(means.store.run_people(selection, after.clone(), config.batch_size))?;
        let facts = facts(&means.store, &page.users, means.policy.signal_requests, now).await?;
        for facts in facts {
            let before = facts.as_ref().ok().and_then(|facts| facts.stored);
            totals.rehearse(&worked(facts, now, &means.policy), before);
        }
        tell(&totals);
        after = page.upto;
        if after.is_none() {
            return Ok(totals);
        }
    }
}

/// Archetypes computed then or before are old for a run that begins at `now`.
fn old(now: Timestamp, config: JobConfig) -> Timestamp {
    let hours = i64::from(config.stale_threshold_hours.saturating_sub(1));
    now.checked_sub(SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MIN)
}

fn worked(facts: Result<PersonState, String>, now: Timestamp, policy: &Policy) -> Worked {
    match facts {
        Err(reason) => Worked::Failed(reason),
        Ok(facts) if facts.opted_out => Worked::OptedOut,
        Ok(facts) if facts.overridden => Worked::Overridden,
        Ok(facts) => {
            let computed = compute(&facts.requests, now, policy);
            match computed.confidence.is_finite() {
                true => Worked::Computed(Box::new(computed), facts.version),
                false => Worked::Failed("the confidence is no number".to_owned()),
            }
        }
    }
}

/// Reads what is known of users; where the database cannot give a row of one of them, finds out which.
async fn facts(
    store: &Store,
    users: &[UserId],
    newest: usize,
    now: Timestamp,
) -> Result<Vec<Result<PersonState, String>>, StoreError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    match retried!(store.run_facts(users.to_vec(), newest, now)) {
        Err(StoreError::Inconsistent { table, detail }) => match users {
            [_] => Ok(vec![Err(format!("{table}: {detail}"))]),
            _ => {
                let (one, other) = users.split_at(users.len() / 2);
                let mut read = Box::pin(facts(store, one, newest, now)).await?;
                read.extend(Box::pin(facts(store, other, newest, now)).await?);
                Ok(read)
            }
        },
        read => read,
    }
}

async fn joined<T>(task: JoinHandle<Result<T, StoreError>>) -> Result<T, Stop> {
    match task.await {
        Ok(result) => result.map_err(Stop::from),
        Err(error) => Err(Stop::Broken(error.to_string())),
    }
}

/// Renews the lease where the batches do not, as long as they come, until the work is over.
async fn beat(store: Store, lease: RunLease, alive: Arc<AtomicU64>, mut over: watch::Receiver<()>) {
    let (mut known, mut silent) = (0, Duration::ZERO);
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            _ = over.changed() => return,
        }
        let now = alive.load(Ordering::Relaxed);
        silent = if now == known { silent + BEAT } else { Duration::ZERO };
        known = now;
        if silent > LONGEST_SILENCE {
            continue;
        }
        match tokio::time::timeout(LEASE, store.renew_run(lease)).await {
            Ok(Ok(true)) => {}
            // The next batch finds out by itself.
            Ok(Ok(false)) => return,
            Ok(Err(error)) => tracing::warn!(%error, "job.not_renewed"),
            Err(_) => tracing::warn!("job.not_renewed"),
        }
    }
}
