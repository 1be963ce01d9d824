//! The SQLite backend: one file in WAL mode, a pool of readers, one writer.
//!
//! Where next: `writer.rs` for how writes become durable, `pool.rs` for reads, `reads.rs` for those on behalf of
//! callers, `person.rs` and `night.rs` for what one
//! recommendation needs, `migration.rs` for the schema.

mod alert;
mod archetype;
mod audit;
mod browse;
mod change;
mod checkpoint;
mod connection;
mod convert;
mod decision;
mod decision_index;
mod ended_session;
mod fact;
mod function;
mod job;
pub(crate) mod migration;
mod night;
mod outcome;
mod person;
mod pool;
mod query;
mod reads;
mod report;
mod request;
mod rights;
mod run;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{Archetype, EntityId, UserId};
use rusqlite::Connection;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::alert::{AlertRow, AlertSave, AlertSilence, AlertTransition, RecentRuns};
use crate::browse::{
    ArchetypeFilter, ArchetypeListed, AuditEntry, ConfidenceStep, DecisionPage, DecisionSearch,
};
use crate::error::StoreError;
use crate::fact::{FactChange, FactsApplied};
use crate::job::{
    BatchSaved, JobState, NewRun, PeoplePage, PersonState, Run, RunBatch, RunCancelled, RunEnd, RunFailure,
    RunLease, RunSelection, RunStarted, TakenRun,
};
use crate::options::{PoolStats, StoreOptions, WriterStats};
use crate::query::plan::Plan;
use crate::query::{ReadAnswer, ReadError};
use crate::record::{
    Actor, ArchetypeChange, ArchetypeChanged, ArchetypeSaved, AuditReport, Changed, ComputedArchetype,
    DatedNight, DecisionRow, FactsVersion, NightFacts, NightQuery, OutcomeError, OutcomeEvent,
    OutcomeReporter, OutcomesRecorded, PersonFacts, Profile, RunRow, StoredDecision, WithRequests,
};
use crate::report::{CellKey, Folded, JobFigures, RequestFigures, Tally};
use crate::rights::{Caller, Grade};
use pool::Pool;
use reads::Reads;
use writer::Writer;

/// The store on SQLite; its methods are those of [`crate::Store`]. Clones share one writer and one pool of readers.
#[derive(Clone)]
pub(crate) struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    reads: Arc<Reads>,
    writer: Writer,
}

/// Opening, closing, and figures.
impl SqliteStore {
    pub(crate) fn open(options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(options, true)
    }

    pub(crate) fn open_existing(options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(options, false)
    }

    fn open_with(options: StoreOptions, create: bool) -> Result<Self, StoreError> {
        let conn = connection::set_up(&options, create)?;
        let writer = Writer::start(conn, options.clone())?;
        let reads = Arc::new(Reads::new(options.clone()));
        Ok(Self { inner: Arc::new(Inner { pool: Pool::new(options), reads, writer }) })
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.inner.pool.path()
    }

    pub(crate) async fn schema_version(&self) -> Result<i64, StoreError> {
        self.inner.pool.read(migration::version)
    }

    pub(crate) fn queue_depth(&self) -> usize {
        self.inner.writer.queue_depth()
    }

    pub(crate) fn writer_stats(&self) -> WriterStats {
        self.inner.writer.stats()
    }

    pub(crate) fn pools(&self) -> Vec<PoolStats> {
        vec![self.inner.pool.stats()]
    }

    pub(crate) async fn close(&self) {
        let thread = self.inner.writer.close().await;
        self.inner.pool.close();
        self.inner.reads.close();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("store.writer_died");
            }
        }
    }
}

/// What a recommendation needs.
impl SqliteStore {
    pub(crate) async fn load_person(
        &self,
        user: &UserId,
        with: WithRequests<'_>,
        signal_requests: usize,
        history_requests: u32,
    ) -> Result<PersonFacts, StoreError> {
        self.inner.pool.read(|conn| person::load(conn, user, with, signal_requests, history_requests))
    }

    pub(crate) async fn leases_of(&self, user: &UserId) -> Result<Vec<EntityId>, StoreError> {
        self.inner.pool.read(|conn| night::leases_of(conn, user))
    }

    pub(crate) async fn load_night(&self, query: &NightQuery<'_>) -> Result<NightFacts, StoreError> {
        self.inner.pool.read(|conn| night::load(conn, query))
    }

    pub(crate) async fn nights_between(
        &self,
        lease: &EntityId,
        first: Date,
        last: Date,
    ) -> Result<Vec<DatedNight>, StoreError> {
        self.inner.pool.read(|conn| night::between(conn, lease, first, last))
    }

    pub(crate) async fn profile(&self, user: &UserId) -> Result<Profile, StoreError> {
        self.inner.pool.read(|conn| person::profile(conn, user))
    }

    pub(crate) async fn record_decision(&self, row: Arc<DecisionRow>) -> Result<(), StoreError> {
        self.inner.writer.decision(row).await
    }

    pub(crate) fn try_enqueue_decision(
        &self,
        row: Arc<DecisionRow>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, Arc<DecisionRow>> {
        self.inner.writer.try_decision(row)
    }

    pub(crate) async fn replay_decisions(
        &self,
        rows: Vec<DecisionRow>,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let replay = move |conn: &Connection| {
            let now = fact::clock(conn)?;
            rows.iter()
                .map(|row| match fact::insert_late_decision(conn, row, now) {
                    Err(error) if error.is_unavailable() => Err(error),
                    result => Ok(result),
                })
                .collect()
        };
        self.inner.writer.call(replay).await
    }

    pub(crate) async fn decision(&self, id: Uuid) -> Result<Option<StoredDecision>, StoreError> {
        self.inner.pool.read(|conn| decision::read(conn, id))
    }
}

/// What people look through, and their sessions.
impl SqliteStore {
    pub(crate) async fn find_decisions(&self, search: DecisionSearch) -> Result<DecisionPage, StoreError> {
        self.read_at_length(move |conn| browse::decisions(conn, &search)).await
    }

    pub(crate) async fn list_archetypes(
        &self,
        filter: ArchetypeFilter,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<ArchetypeListed>, StoreError> {
        let after = after.cloned();
        self.read_at_length(move |conn| browse::archetypes(conn, filter, after.as_ref(), limit)).await
    }

    pub(crate) async fn count_overridden(&self) -> Result<u64, StoreError> {
        self.read_at_length(browse::overridden).await
    }

    pub(crate) async fn archetype_confidences(&self) -> Result<Vec<ConfidenceStep>, StoreError> {
        self.read_at_length(browse::confidences).await
    }

    pub(crate) async fn audit_entries(
        &self,
        target: Option<&UserId>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let target = target.cloned();
        self.read_at_length(move |conn| browse::audit(conn, target.as_ref(), before, limit)).await
    }

    pub(crate) async fn end_session(
        &self,
        id: Uuid,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.inner.writer.call(move |conn| ended_session::end(conn, id, expires_at, now)).await
    }

    pub(crate) async fn session_has_ended(&self, id: Uuid) -> Result<bool, StoreError> {
        self.inner.pool.read(|conn| ended_session::has_ended(conn, id))
    }
}

/// Archetypes and the audit log.
impl SqliteStore {
    pub(crate) async fn save_archetype(
        &self,
        user: UserId,
        computed: ComputedArchetype,
        version: FactsVersion,
    ) -> Result<ArchetypeSaved, StoreError> {
        let save = move |conn: &Connection| {
            archetype::save(conn, &user, &computed, &version).map(ArchetypeSaved::from)
        };
        self.inner.writer.call(save).await
    }

    pub(crate) async fn save_archetypes(
        &self,
        many: Vec<(UserId, ComputedArchetype, FactsVersion)>,
    ) -> Result<Vec<ArchetypeSaved>, StoreError> {
        let save = move |conn: &Connection| {
            many.iter()
                .map(|(user, computed, version)| {
                    archetype::save(conn, user, computed, version).map(ArchetypeSaved::from)
                })
                .collect()
        };
        self.inner.writer.call(save).await
    }

    pub(crate) async fn change_archetype(
        &self,
        user: UserId,
        change: ArchetypeChange,
        actor: Actor,
        now: Timestamp,
    ) -> Result<ArchetypeChanged, StoreError> {
        self.inner.writer.call(move |conn| archetype::change(conn, &user, &change, &actor, now)).await
    }

    pub(crate) async fn archetype_counts(&self) -> Result<Vec<(Archetype, u64)>, StoreError> {
        self.inner.pool.read(person::archetype_counts)
    }

    pub(crate) async fn people_after(
        &self,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        self.inner.pool.read(|conn| person::people_after(conn, after, limit))
    }

    pub(crate) async fn insert_run(&self, run: RunRow) -> Result<(), StoreError> {
        self.inner.writer.call(move |conn| run::insert(conn, &run)).await
    }

    pub(crate) async fn verify_audit(&self, expect_head: Option<&str>) -> Result<AuditReport, StoreError> {
        let expect_head = expect_head.map(str::to_owned);
        self.read_at_length(move |conn| audit::verify(conn, expect_head.as_deref())).await
    }

    pub(crate) async fn audit_head(&self) -> Result<Option<String>, StoreError> {
        self.inner.pool.read(audit::head)
    }
}

/// The recalculation job.
impl SqliteStore {
    pub(crate) async fn job_state(&self) -> Result<JobState, StoreError> {
        self.inner.pool.read(job::state)
    }

    pub(crate) async fn start_run(&self, new: NewRun) -> Result<RunStarted, StoreError> {
        self.inner.writer.call(move |conn| job::start(conn, &new)).await
    }

    pub(crate) async fn take_over_run(&self, holder: &str) -> Result<Option<TakenRun>, StoreError> {
        let holder = holder.to_owned();
        self.inner.writer.call(move |conn| job::take_over(conn, &holder)).await
    }

    pub(crate) async fn renew_run(&self, lease: RunLease) -> Result<bool, StoreError> {
        self.inner.writer.call(move |conn| job::beat(conn, lease)).await
    }

    pub(crate) async fn run_people(
        &self,
        selection: RunSelection,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<PeoplePage, StoreError> {
        self.at_length(move |inner| {
            // No task of the run reads now.
            checkpoint::shorten(inner.pool.options(), checkpoint::LONG);
            inner.pool.read(|conn| job::batch::people(conn, selection, after.as_ref(), limit))
        })
        .await
    }

    pub(crate) async fn run_facts(
        &self,
        users: Vec<UserId>,
        newest: usize,
        now: Timestamp,
    ) -> Result<Vec<Result<PersonState, String>>, StoreError> {
        self.read_at_length(move |conn| job::batch::facts(conn, &users, newest, now)).await
    }

    pub(crate) async fn save_run_batch(
        &self,
        lease: RunLease,
        batch: Arc<RunBatch>,
    ) -> Result<BatchSaved, StoreError> {
        self.inner.writer.call(move |conn| job::batch::save(conn, lease, &batch)).await
    }

    pub(crate) async fn end_run(&self, lease: RunLease, end: RunEnd) -> Result<bool, StoreError> {
        self.inner.writer.call(move |conn| job::end(conn, lease, &end)).await
    }

    pub(crate) async fn cancel_run(
        &self,
        id: Uuid,
        actor: Actor,
        now: Timestamp,
    ) -> Result<RunCancelled, StoreError> {
        self.inner.writer.call(move |conn| job::cancel(conn, id, &actor, now)).await
    }

    pub(crate) async fn see_to_schedule(&self, at: Timestamp) -> Result<(), StoreError> {
        self.inner.writer.call(move |conn| job::see_to_schedule(conn, at)).await
    }

    pub(crate) async fn set_schedule_back(&self, at: Timestamp) -> Result<(), StoreError> {
        self.inner.writer.call(move |conn| job::set_schedule_back(conn, at)).await
    }

    pub(crate) async fn run_failures(
        &self,
        id: Uuid,
        attempts: u32,
        limit: u32,
    ) -> Result<Vec<RunFailure>, StoreError> {
        self.inner.pool.read(|conn| job::failures(conn, id, attempts, limit))
    }

    pub(crate) async fn run(&self, id: Uuid) -> Result<Option<Run>, StoreError> {
        self.inner.pool.read(|conn| job::run(conn, id))
    }

    pub(crate) async fn runs(&self, limit: u32) -> Result<Vec<Run>, StoreError> {
        self.inner.pool.read(|conn| job::runs(conn, limit))
    }
}

/// What reports are made of.
impl SqliteStore {
    pub(crate) async fn report_cells(
        &self,
        first: Date,
        last: Date,
    ) -> Result<Vec<(CellKey, Tally)>, StoreError> {
        self.read_at_length(move |conn| report::cells(conn, first, last)).await
    }

    pub(crate) async fn fold_report(&self, at_most: usize) -> Result<Folded, StoreError> {
        let ready = self.read_at_length(move |conn| report::prepare(conn, at_most)).await?;
        let Some(ready) = ready else { return Ok(Folded::default()) };
        self.inner.writer.call(move |conn| report::store(conn, &ready)).await
    }

    pub(crate) async fn request_figures(
        &self,
        first: Date,
        last: Date,
    ) -> Result<RequestFigures, StoreError> {
        self.read_at_length(move |conn| report::requests(conn, first, last)).await
    }

    pub(crate) async fn job_figures(&self, first: Date, last: Date) -> Result<JobFigures, StoreError> {
        self.read_at_length(move |conn| report::runs(conn, first, last)).await
    }
}

/// Outcomes, facts, and who has to forget what.
impl SqliteStore {
    pub(crate) async fn record_outcomes(
        &self,
        reporter: OutcomeReporter,
        events: Vec<OutcomeEvent>,
        now: Timestamp,
    ) -> Result<OutcomesRecorded, OutcomeError> {
        self.inner.writer.call(move |conn| outcome::record(conn, &reporter, &events, now)).await
    }

    pub(crate) async fn apply_facts(
        &self,
        changes: Vec<FactChange>,
        now: Timestamp,
    ) -> Result<FactsApplied, StoreError> {
        self.inner.writer.call(move |conn| fact::apply(conn, &changes, now)).await
    }

    pub(crate) async fn changes_since(&self, revision: i64) -> Result<(i64, Option<Changed>), StoreError> {
        self.inner.pool.read(|conn| change::since(conn, revision))
    }

    pub(crate) async fn changes_head(&self) -> Result<i64, StoreError> {
        self.inner.pool.read(change::head)
    }

    pub(crate) async fn read_as(&self, caller: Caller, plan: Plan) -> Result<ReadAnswer, ReadError> {
        Arc::clone(&self.inner.reads).read(caller, plan).await
    }

    pub(crate) async fn grade(&self, caller: &Caller) -> Result<Grade, StoreError> {
        self.inner.pool.read(|conn| rights::grade(conn, caller))
    }

    pub(crate) async fn alerts(&self) -> Result<Vec<AlertRow>, StoreError> {
        self.inner.pool.read(alert::states)
    }

    pub(crate) async fn save_alerts(&self, saves: Vec<AlertSave>) -> Result<Vec<bool>, StoreError> {
        self.inner.writer.call(move |conn| alert::save(conn, &saves)).await
    }

    pub(crate) async fn alert_history(
        &self,
        rule: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AlertTransition>, StoreError> {
        self.inner.pool.read(|conn| alert::history(conn, rule, limit))
    }

    pub(crate) async fn alert_silences(&self) -> Result<Vec<AlertSilence>, StoreError> {
        self.inner.pool.read(alert::silences)
    }

    pub(crate) async fn silence_alert(
        &self,
        silence: AlertSilence,
        actor: Actor,
    ) -> Result<String, StoreError> {
        self.inner.writer.call(move |conn| alert::silence(conn, &silence, &actor)).await
    }

    pub(crate) async fn lift_silence(
        &self,
        id: Uuid,
        actor: Actor,
        now: Timestamp,
    ) -> Result<Option<AlertSilence>, StoreError> {
        self.inner.writer.call(move |conn| alert::lift(conn, id, &actor, now)).await
    }

    pub(crate) async fn tidy_alerts(&self, servers: Timestamp, history: Timestamp) -> Result<(), StoreError> {
        self.inner.writer.call(move |conn| alert::tidy(conn, servers, history)).await
    }

    pub(crate) async fn recent_runs(&self, since: Timestamp) -> Result<RecentRuns, StoreError> {
        self.inner.pool.read(|conn| alert::jobs(conn, since))
    }

    /// Runs a read that may take long on a thread of its own.
    async fn read_at_length<T, E>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.at_length(move |inner| inner.pool.read(read)).await
    }

    /// Does something that may take a while on a thread for such things.
    async fn at_length<T, E>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let joined = tokio::task::spawn_blocking(move || work(&inner)).await;
        joined.unwrap_or_else(|error| Err(StoreError::Statement { detail: error.to_string() }.into()))
    }
}
