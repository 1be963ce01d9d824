//! The PostgreSQL backend: a few connections that reads share, and others that a write has for itself.
//!
//! - Reads are one statement each and are pipelined: `lanes.rs`. What takes long gets a connection of its own.
//! - Decisions are committed in groups: `writer.rs`. Every other write is a transaction of its own, tried again when it
//!   meets another one: `pool.rs`. It goes on when its caller goes away, so that a client cannot break connections.
//! - Facts are read through the views of schema `nudge`; what is ours to write is told by `source.rs`.
//!
//! Where next: `dsn.rs` and `connect.rs` for how a connection comes about, `person.rs` and `night.rs` for what one
//! recommendation needs, `supabase/migrations` for the schema.

mod alert;
mod archetype;
mod audit;
mod browse;
mod change;
mod connect;
mod convert;
mod decision;
pub(crate) mod dsn;
mod ended_session;
mod fact;
mod job;
mod lanes;
mod libpq;
mod month;
mod night;
mod outcome;
mod person;
#[cfg(test)]
mod plans;
mod pool;
mod query;
mod reads;
mod report;
mod request;
mod rights;
mod run;
mod schema;
mod session;
mod source;
#[cfg(test)]
mod tests;
mod tls;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{Archetype, EntityId, UserId};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::alert::{AlertRow, AlertSave, AlertSilence, AlertTransition, RecentRuns};
use crate::browse::{
    ArchetypeFilter, ArchetypeListed, AuditEntry, ConfidenceStep, DecisionPage, DecisionSearch,
};
use crate::error::StoreError;
use crate::fact::{FactChange, FactTable, FactsApplied};
use crate::job::{
    BatchSaved, JobState, NewRun, PeoplePage, PersonState, Run, RunBatch, RunCancelled, RunEnd, RunFailure,
    RunLease, RunSelection, RunStarted, Scheduler, TakenRun,
};
use crate::options::{PoolStats, PostgresOptions, Retention, WriterStats};
use crate::query::plan::Plan;
use crate::query::{ReadAnswer, ReadError};
use crate::record::{
    Actor, Announced, ArchetypeChange, ArchetypeChanged, ArchetypeSaved, AuditReport, Changed,
    ComputedArchetype, DatedNight, DecisionRow, FactsVersion, NightFacts, NightQuery, OutcomeError,
    OutcomeEvent, OutcomeReporter, OutcomesRecorded, PersonFacts, Profile, RunRow, StoredDecision,
    WithRequests,
};
use crate::report::{CellKey, Folded, JobFigures, RequestFigures, Tally};
use crate::rights::{Caller, Grade};
use connect::Connector;
use convert::unavailable;
use dsn::Dsn;
use lanes::Lanes;
use pool::{Pool, in_transaction};
use reads::Reads;
pub use schema::Role;
use source::KnownSources;
use writer::Writer;

/// Opens one connection as it comes; see [`crate::admin`].
pub(crate) async fn connect_alone(dsn: Dsn) -> Result<tokio_postgres::Client, StoreError> {
    Connector::alone(dsn).await
}

/// How much longer than the server's own timeout an answer is waited for, before the connection counts as dead.
const GRACE: Duration = Duration::from_secs(2);

/// The store on PostgreSQL; its methods are those of [`crate::Store`]. Clones share the connections.
#[derive(Clone)]
pub(crate) struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    database: String,
    lanes: Lanes,
    pool: Pool,
    reads: Reads,
    writer: Writer,
    sources: KnownSources,
}

/// Opening, closing, and figures.
impl PostgresStore {
    pub(crate) async fn connect(options: PostgresOptions) -> Result<Self, StoreError> {
        let database = options.dsn.to_string();
        let statement_timeout = Duration::from_millis(options.statement_timeout_ms);
        let deadline = statement_timeout + GRACE;
        let wait = Duration::from_millis(options.call_deadline_ms);
        let at_start = |error: StoreError| StoreError::Connect {
            database: options.dsn.to_string(),
            detail: error.into_detail(),
        };
        let connector = Connector::start(options.dsn.clone(), statement_timeout).await?;
        let pool = |size| Pool::new(Arc::clone(&connector), size, wait, statement_timeout, deadline);
        let lanes = Lanes::open(&connector, options.readers, deadline).await.map_err(at_start)?;
        let calls = pool(options.calls);
        let found = schema::version(&calls).await.map_err(at_start)?;
        let known = schema::KNOWN;
        if found > known {
            return Err(StoreError::NewerSchema { database, found, known });
        }
        if found < known {
            return Err(StoreError::OlderSchema { database, found, known });
        }
        let writer =
            Writer::start(pool(options.writers), options.writers, options.queue, options.commit_max_rows);
        let reads = Reads::new(&connector, options.reads);
        let inner = Inner { database, lanes, pool: calls, reads, writer, sources: KnownSources::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn database(&self) -> &str {
        &self.inner.database
    }

    pub(crate) async fn role(&self) -> Result<Role, StoreError> {
        schema::role(&self.inner.pool).await
    }

    pub(crate) async fn prepare_months(&self) -> Result<usize, StoreError> {
        month::make_ahead(&self.inner.pool).await
    }

    pub(crate) async fn drop_months(&self, keep: &Retention, today: Date) -> Result<usize, StoreError> {
        month::drop_old(&self.inner.pool, keep, today).await
    }

    pub(crate) async fn schema_version(&self) -> Result<i64, StoreError> {
        schema::version(&self.inner.pool).await
    }

    pub(crate) fn queue_depth(&self) -> usize {
        self.inner.writer.queue_depth()
    }

    pub(crate) fn writer_stats(&self) -> WriterStats {
        self.inner.writer.stats()
    }

    pub(crate) fn pools(&self) -> Vec<PoolStats> {
        let inner = &self.inner;
        vec![inner.pool.stats("calls"), inner.reads.stats(), inner.writer.pool_stats()]
    }

    pub(crate) async fn close(&self) {
        self.inner.writer.close().await;
        self.inner.pool.close();
        self.inner.reads.close();
        self.inner.lanes.close();
    }

    /// Does something to its end, whether its caller waits for it or not.
    async fn to_its_end<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let begun = Instant::now();
        let task = tokio::spawn(async move {
            let result = work.await;
            inner.writer.count(result.is_ok(), begun);
            result
        });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "store.job_panicked");
            Err(StoreError::Statement { detail: "the job panicked".into() }.into())
        })
    }
}

/// What a recommendation needs.
impl PostgresStore {
    pub(crate) async fn load_person(
        &self,
        user: &UserId,
        with: WithRequests<'_>,
        signal_requests: usize,
        history_requests: u32,
    ) -> Result<PersonFacts, StoreError> {
        person::load(&self.inner.lanes, user, with, signal_requests, history_requests).await
    }

    pub(crate) async fn leases_of(&self, user: &UserId) -> Result<Vec<EntityId>, StoreError> {
        night::leases_of(&self.inner.lanes, user).await
    }

    pub(crate) async fn load_night(&self, query: &NightQuery<'_>) -> Result<NightFacts, StoreError> {
        night::load(&self.inner.lanes, query).await
    }

    pub(crate) async fn nights_between(
        &self,
        lease: &EntityId,
        first: Date,
        last: Date,
    ) -> Result<Vec<DatedNight>, StoreError> {
        night::between(&self.inner.lanes, lease, first, last).await
    }

    pub(crate) async fn announced(&self) -> Result<Announced, StoreError> {
        let sources = self.inner.sources.get(&self.inner.lanes).await?;
        let own = |tables: [FactTable; 2]| tables.into_iter().all(|table| sources.is_own(table));
        Ok(Announced {
            people: own([FactTable::Profiles, FactTable::DateChangeRequests]),
            homes: own([FactTable::LeaseMembers, FactTable::LeaseNights]),
        })
    }

    pub(crate) async fn profile(&self, user: &UserId) -> Result<Profile, StoreError> {
        person::profile(&self.inner.lanes, user).await
    }

    pub(crate) async fn record_decision(&self, row: Arc<DecisionRow>) -> Result<(), StoreError> {
        match self.inner.writer.decision(Arc::clone(&row)).await {
            Err(StoreError::NoPartition { .. }) => {
                month::make_for(&self.inner.pool, &month::OF_DECISIONS, std::iter::once(row.id)).await?;
                self.inner.writer.decision(row).await
            }
            other => other,
        }
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
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            let missing = |answers: &[Result<(), StoreError>]| {
                answers.iter().any(|answer| matches!(answer, Err(StoreError::NoPartition { .. })))
            };
            let rows: Vec<&DecisionRow> = rows.iter().collect();
            let answers = in_transaction!(inner.pool, transaction =>
                fact::insert_late_decisions(&transaction, &rows).await);
            match answers {
                Ok(answers) if missing(&answers) => {}
                other => return other,
            }
            match month::make_for(&inner.pool, &month::OF_DECISIONS, rows.iter().map(|row| row.id)).await {
                Err(error) if error.is_unavailable() => return Err(error),
                // The rows of that month are refused, so that nothing waits behind them.
                Err(error) => tracing::error!(%error, "store.month_impossible"),
                Ok(()) => {}
            }
            in_transaction!(inner.pool, transaction => fact::insert_late_decisions(&transaction, &rows).await)
        })
        .await
    }

    pub(crate) async fn decision(&self, id: Uuid) -> Result<Option<StoredDecision>, StoreError> {
        decision::read(&self.inner.lanes, id).await
    }
}

/// Reads in a transaction of their own, which is never committed.
macro_rules! reading {
    ($inner:expr, $transaction:ident => $read:expr) => {{
        let $transaction = $inner.pool.begin_reading().await?;
        let result = $read;
        $transaction.rollback().await;
        result
    }};
}

/// What people look through, and their sessions.
impl PostgresStore {
    pub(crate) async fn find_decisions(&self, search: DecisionSearch) -> Result<DecisionPage, StoreError> {
        reading!(self.inner, transaction => browse::decisions(&transaction, &search).await)
    }

    pub(crate) async fn list_archetypes(
        &self,
        filter: ArchetypeFilter,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<ArchetypeListed>, StoreError> {
        reading!(self.inner, transaction => browse::archetypes(&transaction, filter, after, limit).await)
    }

    pub(crate) async fn count_overridden(&self) -> Result<u64, StoreError> {
        reading!(self.inner, transaction => browse::overridden(&transaction).await)
    }

    pub(crate) async fn archetype_confidences(&self) -> Result<Vec<ConfidenceStep>, StoreError> {
        reading!(self.inner, transaction => browse::confidences(&transaction).await)
    }

    pub(crate) async fn audit_entries(
        &self,
        target: Option<&UserId>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        reading!(self.inner, transaction => browse::audit(&transaction, target, before, limit).await)
    }

    pub(crate) async fn end_session(
        &self,
        id: Uuid,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction =>
                ended_session::end(&transaction, id, expires_at, now).await)
        })
        .await
    }

    pub(crate) async fn session_has_ended(&self, id: Uuid) -> Result<bool, StoreError> {
        ended_session::has_ended(&self.inner.lanes, id).await
    }
}

/// Archetypes and the audit log.
impl PostgresStore {
    pub(crate) async fn save_archetype(
        &self,
        user: UserId,
        computed: ComputedArchetype,
        version: FactsVersion,
    ) -> Result<ArchetypeSaved, StoreError> {
        let saved = self.save_archetypes(vec![(user, computed, version)]).await?;
        saved.first().copied().ok_or_else(|| unavailable("the write of an archetype gave no answer"))
    }

    pub(crate) async fn save_archetypes(
        &self,
        many: Vec<(UserId, ComputedArchetype, FactsVersion)>,
    ) -> Result<Vec<ArchetypeSaved>, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            let sources = inner.sources.get(&inner.lanes).await?;
            in_transaction!(inner.pool, transaction =>
                archetype::save_all(&transaction, sources, &many).await)
        })
        .await
    }

    pub(crate) async fn change_archetype(
        &self,
        user: UserId,
        change: ArchetypeChange,
        actor: Actor,
        now: Timestamp,
    ) -> Result<ArchetypeChanged, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            let sources = inner.sources.get(&inner.lanes).await?;
            in_transaction!(inner.pool, transaction =>
                archetype::change(&transaction, sources, &user, &change, &actor, now).await)
        })
        .await
    }

    pub(crate) async fn archetype_counts(&self) -> Result<Vec<(Archetype, u64)>, StoreError> {
        person::archetype_counts(&self.inner.lanes).await
    }

    pub(crate) async fn people_after(
        &self,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let transaction = self.inner.pool.begin_reading().await?;
        let people = person::people_after(&transaction, after, limit).await;
        transaction.rollback().await;
        people
    }

    pub(crate) async fn insert_run(&self, run: RunRow) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => run::insert(&transaction, &run).await)
        })
        .await
    }

    pub(crate) async fn verify_audit(&self, expect_head: Option<&str>) -> Result<AuditReport, StoreError> {
        let transaction = self.inner.pool.begin_reading().await?;
        let report = audit::verify(&transaction, expect_head).await;
        transaction.rollback().await;
        report
    }

    pub(crate) async fn audit_head(&self) -> Result<Option<String>, StoreError> {
        audit::head(&self.inner.lanes).await
    }
}

/// The recalculation job.
impl PostgresStore {
    pub(crate) async fn job_state(&self) -> Result<JobState, StoreError> {
        job::state(&self.inner.lanes).await
    }

    pub(crate) async fn start_run(&self, new: NewRun) -> Result<RunStarted, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => job::start(&transaction, &new).await)
        })
        .await
    }

    pub(crate) async fn take_over_run(&self, holder: &str) -> Result<Option<TakenRun>, StoreError> {
        let inner = Arc::clone(&self.inner);
        let holder = holder.to_owned();
        self.to_its_end(async move {
            let taken = in_transaction!(inner.pool, transaction =>
                job::take_over(&transaction, &holder).await);
            let Err(error) = taken else { return taken };
            let ended = in_transaction!(inner.pool, transaction =>
                job::end_frozen_holders(&transaction).await);
            if let Ok(ended @ 1..) = ended {
                tracing::warn!(ended, %error, "job.frozen_holder_ended");
                return Ok(None);
            }
            Err(error)
        })
        .await
    }

    pub(crate) async fn renew_run(&self, lease: RunLease) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => job::beat(&transaction, lease).await)
        })
        .await
    }

    pub(crate) async fn mark_recent(&self, margin: jiff::SignedDuration) -> Result<u64, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            let sources = inner.sources.get(&inner.lanes).await?;
            in_transaction!(inner.pool, transaction =>
                job::batch::mark_recent(&transaction, sources, margin).await)
        })
        .await
    }

    pub(crate) async fn run_people(
        &self,
        selection: RunSelection,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<PeoplePage, StoreError> {
        job::batch::people(&self.inner.pool, selection, after.as_ref(), limit).await
    }

    pub(crate) async fn run_facts(
        &self,
        users: Vec<UserId>,
        newest: usize,
        now: Timestamp,
    ) -> Result<Vec<Result<PersonState, String>>, StoreError> {
        job::batch::facts(&self.inner.pool, &users, newest, now).await
    }

    pub(crate) async fn save_run_batch(
        &self,
        lease: RunLease,
        batch: Arc<RunBatch>,
    ) -> Result<BatchSaved, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            let sources = inner.sources.get(&inner.lanes).await?;
            in_transaction!(inner.pool, transaction =>
                job::batch::save(&transaction, sources, lease, &batch).await)
        })
        .await
    }

    pub(crate) async fn end_run(&self, lease: RunLease, end: RunEnd) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => job::end(&transaction, lease, &end).await)
        })
        .await
    }

    pub(crate) async fn cancel_run(
        &self,
        id: Uuid,
        actor: Actor,
        now: Timestamp,
    ) -> Result<RunCancelled, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => job::cancel(&transaction, id, &actor, now).await)
        })
        .await
    }

    pub(crate) async fn see_to_schedule(&self, at: Timestamp) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => job::see_to_schedule(&transaction, at).await)
        })
        .await
    }

    pub(crate) async fn set_schedule_back(&self, at: Timestamp) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => job::set_schedule_back(&transaction, at).await)
        })
        .await
    }

    pub(crate) async fn set_scheduler(&self, scheduler: Scheduler) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => job::set_scheduler(&transaction, scheduler).await)
        })
        .await
    }

    pub(crate) async fn refuse_job_request(&self, id: i64) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => job::refuse_request(&transaction, id).await)
        })
        .await
    }

    pub(crate) async fn run_failures(
        &self,
        id: Uuid,
        attempts: u32,
        limit: u32,
    ) -> Result<Vec<RunFailure>, StoreError> {
        job::failures(&self.inner.lanes, id, attempts, limit).await
    }

    pub(crate) async fn run(&self, id: Uuid) -> Result<Option<Run>, StoreError> {
        job::run(&self.inner.lanes, id).await
    }

    pub(crate) async fn runs(&self, limit: u32) -> Result<Vec<Run>, StoreError> {
        job::runs(&self.inner.lanes, limit).await
    }
}

/// What reports are made of.
impl PostgresStore {
    pub(crate) async fn report_cells(
        &self,
        first: Date,
        last: Date,
    ) -> Result<Vec<(CellKey, Tally)>, StoreError> {
        let transaction = self.inner.pool.begin_reading().await?;
        let cells = report::cells(&transaction, first, last).await;
        transaction.rollback().await;
        cells
    }

    pub(crate) async fn fold_report(&self, at_most: usize) -> Result<Folded, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => report::fold(&transaction, at_most).await)
        })
        .await
    }

    pub(crate) async fn request_figures(
        &self,
        first: Date,
        last: Date,
    ) -> Result<RequestFigures, StoreError> {
        let transaction = self.inner.pool.begin_reading().await?;
        let figures = report::requests(&transaction, first, last).await;
        transaction.rollback().await;
        figures
    }

    pub(crate) async fn job_figures(&self, first: Date, last: Date) -> Result<JobFigures, StoreError> {
        let transaction = self.inner.pool.begin_reading().await?;
        let figures = report::runs(&transaction, first, last).await;
        transaction.rollback().await;
        figures
    }
}

/// Outcomes, facts, and who has to forget what.
impl PostgresStore {
    pub(crate) async fn record_outcomes(
        &self,
        reporter: OutcomeReporter,
        events: Vec<OutcomeEvent>,
        now: Timestamp,
    ) -> Result<OutcomesRecorded, OutcomeError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction =>
                outcome::record(&transaction, &reporter, &events, now).await)
        })
        .await
    }

    pub(crate) async fn apply_facts(
        &self,
        changes: Vec<FactChange>,
        now: Timestamp,
    ) -> Result<FactsApplied, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            let sources = inner.sources.get(&inner.lanes).await?;
            in_transaction!(inner.pool, transaction =>
                fact::apply(&transaction, sources, &changes, now).await)
        })
        .await
    }

    pub(crate) async fn changes_since(&self, revision: i64) -> Result<(i64, Option<Changed>), StoreError> {
        change::since(&self.inner.lanes, revision).await
    }

    pub(crate) async fn changes_head(&self) -> Result<i64, StoreError> {
        change::head(&self.inner.lanes).await
    }

    pub(crate) async fn read_as(&self, caller: Caller, plan: Plan) -> Result<ReadAnswer, ReadError> {
        let inner = &self.inner;
        if !self.shows(plan.table.name).await? {
            return Err(ReadError::unknown_table(plan.table.name));
        }
        reads::read(inner, caller, plan).await
    }

    /// Says whether a table is ours to show: the app's own tables are not.
    pub(crate) async fn shows(&self, table: &str) -> Result<bool, StoreError> {
        let Ok(fact) = table.parse::<FactTable>() else { return Ok(true) };
        Ok(self.inner.sources.get(&self.inner.lanes).await?.is_own(fact))
    }

    pub(crate) async fn grade(&self, caller: &Caller) -> Result<Grade, StoreError> {
        rights::grade(&self.inner.lanes, caller).await
    }
}

/// Alerts.
impl PostgresStore {
    pub(crate) async fn alerts(&self) -> Result<Vec<AlertRow>, StoreError> {
        alert::states(&self.inner.lanes).await
    }

    pub(crate) async fn save_alerts(&self, saves: Vec<AlertSave>) -> Result<Vec<bool>, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => alert::save(&transaction, &saves).await)
        })
        .await
    }

    pub(crate) async fn alert_history(
        &self,
        rule: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AlertTransition>, StoreError> {
        alert::history(&self.inner.lanes, rule, limit).await
    }

    pub(crate) async fn alert_silences(&self) -> Result<Vec<AlertSilence>, StoreError> {
        alert::silences(&self.inner.lanes).await
    }

    pub(crate) async fn silence_alert(
        &self,
        silence: AlertSilence,
        actor: Actor,
    ) -> Result<String, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => alert::silence(&transaction, &silence, &actor).await)
        })
        .await
    }

    pub(crate) async fn lift_silence(
        &self,
        id: Uuid,
        actor: Actor,
        now: Timestamp,
    ) -> Result<Option<AlertSilence>, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => alert::lift(&transaction, id, &actor, now).await)
        })
        .await
    }

    pub(crate) async fn tidy_alerts(&self, servers: Timestamp, history: Timestamp) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.to_its_end(async move {
            in_transaction!(inner.pool, transaction => alert::tidy(&transaction, servers, history).await)
        })
        .await
    }

    pub(crate) async fn recent_runs(&self, since: Timestamp) -> Result<RecentRuns, StoreError> {
        alert::jobs(&self.inner.lanes, since).await
    }
}
