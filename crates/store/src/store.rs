//! The store's contract: one type, whatever engine keeps the rows.
//!
//! Every method does the same on each; the suite in `tests/contract` runs on both. Where next: `sqlite` and `postgres`
//! are the engines.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{Archetype, EntityId, UserId};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::browse::{
    ArchetypeFilter, ArchetypeListed, AuditEntry, ConfidenceStep, DecisionPage, DecisionSearch,
};
use crate::catalog::{TABLES, Table};
use crate::error::StoreError;
use crate::fact::{FactChange, FactsApplied};
use crate::job::{
    BatchSaved, JobState, NewRun, PeoplePage, PersonState, Run, RunBatch, RunCancelled, RunEnd, RunFailure,
    RunLease, RunSelection, RunStarted, Scheduler, TakenRun,
};
use crate::options::{PoolStats, PostgresOptions, Retention, StoreOptions, WriterStats};
use crate::postgres::{PostgresStore, Role};
use crate::query::plan::Plan;
use crate::query::{ReadAnswer, ReadError, ReadQuery};
use crate::record::{
    Actor, Announced, ArchetypeChange, ArchetypeChanged, ArchetypeSaved, AuditReport, Changed,
    ComputedArchetype, DatedNight, DecisionRow, FactsVersion, NightFacts, NightQuery, OutcomeError,
    OutcomeEvent, OutcomeReporter, OutcomesRecorded, PersonFacts, Profile, RunRow, StoredDecision,
    WithRequests,
};
use crate::report::{CellKey, Folded, JobFigures, RequestFigures, Tally};
use crate::rights::{Caller, Grade, Scope, Verb, exposed, scope};
use crate::sqlite::SqliteStore;

/// The store. Clones share one writer and the connections.
///
/// Every method that touches the database fails with [`StoreError::Unavailable`] when the database cannot take or give
/// anything now; nothing is changed then, and the same call succeeds once the fault is gone.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
}

/// The engine that keeps the rows.
#[derive(Clone)]
enum Backend {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Calls the same method of whichever engine it is.
macro_rules! on_backend {
    ($self:ident, $store:ident => $call:expr) => {
        match &$self.backend {
            Backend::Sqlite($store) => $call,
            Backend::Postgres($store) => $call,
        }
    };
}

mod alert;
mod log;

/// Opening, closing, and figures.
impl Store {
    fn on_sqlite(store: SqliteStore) -> Self {
        Self { backend: Backend::Sqlite(store) }
    }

    /// Opens the database, makes it if there is none, and brings it to the newest schema.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the file cannot be opened, [`StoreError::NewerSchema`] when a newer program made it.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        SqliteStore::open(options).map(Self::on_sqlite)
    }

    /// Opens a database that exists, and brings it to the newest schema.
    ///
    /// # Errors
    /// [`StoreError::Open`] when there is no such file, and as [`Store::open`].
    pub fn open_existing(options: StoreOptions) -> Result<Self, StoreError> {
        SqliteStore::open_existing(options).map(Self::on_sqlite)
    }

    /// Connects to a PostgreSQL database whose schema is that of this program.
    ///
    /// # Errors
    /// [`StoreError::Connect`] when the server cannot be used, [`StoreError::NewerSchema`] when a newer program made the
    /// schema, [`StoreError::OlderSchema`] when `nudge db push` has not run yet.
    pub async fn connect(options: PostgresOptions) -> Result<Self, StoreError> {
        Ok(Self { backend: Backend::Postgres(PostgresStore::connect(options).await?) })
    }

    /// Says where the rows are: the file, or the connection string without its password.
    pub fn database(&self) -> String {
        match &self.backend {
            Backend::Sqlite(store) => store.path().display().to_string(),
            Backend::Postgres(store) => store.database().to_owned(),
        }
    }

    /// Reads which role the store is logged in as; `None` where there are no roles.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn role(&self) -> Result<Option<Role>, StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(None),
            Backend::Postgres(store) => store.role().await.map(Some),
        }
    }

    /// Makes room for the months ahead, where rows are kept by month; gives the number of partitions made. To be called
    /// at start and daily.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn prepare_months(&self) -> Result<usize, StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(0),
            Backend::Postgres(store) => store.prepare_months().await,
        }
    }

    /// Drops the months that are older than what is to be kept, where rows are kept by month; gives the number of
    /// partitions dropped. To be called daily.
    ///
    /// # Errors
    /// As described at [`Store`]; what has been dropped before stays so.
    pub async fn drop_months(&self, keep: &Retention, today: Date) -> Result<usize, StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(0),
            Backend::Postgres(store) => store.drop_months(keep, today).await,
        }
    }

    /// Reads the schema's version: shows that the database answers.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        on_backend!(self, store => store.schema_version().await)
    }

    /// Gives the number of jobs that wait for the writer.
    pub fn queue_depth(&self) -> usize {
        on_backend!(self, store => store.queue_depth())
    }

    /// Gives the writer's figures.
    pub fn writer_stats(&self) -> WriterStats {
        on_backend!(self, store => store.writer_stats())
    }

    /// Gives the figures of the connections.
    pub fn pools(&self) -> Vec<PoolStats> {
        on_backend!(self, store => store.pools())
    }

    /// Names the engine: `sqlite` or `postgres`.
    pub fn engine(&self) -> &'static str {
        match &self.backend {
            Backend::Sqlite(_) => "sqlite",
            Backend::Postgres(_) => "postgres",
        }
    }

    /// Commits what is queued, copies the log back and ends the writer. Every later call is unavailable.
    pub async fn close(&self) {
        on_backend!(self, store => store.close().await)
    }
}

/// What a recommendation needs.
impl Store {
    /// Reads all that is known of a person.
    ///
    /// # Errors
    /// [`StoreError::Inconsistent`] when a row cannot be read, and as described at [`Store`].
    pub async fn load_person(
        &self,
        user: &UserId,
        with: WithRequests<'_>,
        signal_requests: usize,
        history_requests: u32,
    ) -> Result<PersonFacts, StoreError> {
        on_backend!(self, store => store.load_person(user, with, signal_requests, history_requests).await)
    }

    /// Lists the leases of a user, in ascending order.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn leases_of(&self, user: &UserId) -> Result<Vec<EntityId>, StoreError> {
        on_backend!(self, store => store.leases_of(user).await)
    }

    /// Reads what two people share on a night.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn load_night(&self, query: &NightQuery<'_>) -> Result<NightFacts, StoreError> {
        on_backend!(self, store => store.load_night(query).await)
    }

    /// Reads the nights of a lease from a date to another, both included, by date.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn nights_between(
        &self,
        lease: &EntityId,
        first: Date,
        last: Date,
    ) -> Result<Vec<DatedNight>, StoreError> {
        on_backend!(self, store => store.nights_between(lease, first, last).await)
    }

    /// Says which changes of facts the feed tells of.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn announced(&self) -> Result<Announced, StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(Announced { people: true, homes: true }),
            Backend::Postgres(store) => store.announced().await,
        }
    }

    /// Reads a user's profile; a user without one is a member who has not opted out.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn profile(&self, user: &UserId) -> Result<Profile, StoreError> {
        on_backend!(self, store => store.profile(user).await)
    }

    /// Writes a decision and returns after its commit. One that is there already stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the row breaks a constraint, and as described at [`Store`].
    pub async fn record_decision(&self, row: impl Into<Arc<DecisionRow>>) -> Result<(), StoreError> {
        on_backend!(self, store => store.record_decision(row.into()).await)
    }

    /// Queues a decision; the receiver gets the answer after its commit.
    ///
    /// # Errors
    /// Gives the row back when the queue is full or the store closed.
    pub fn try_enqueue_decision(
        &self,
        row: impl Into<Arc<DecisionRow>>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, Arc<DecisionRow>> {
        on_backend!(self, store => store.try_enqueue_decision(row.into()))
    }

    /// Writes decisions that could not be written in their time, in one transaction, each at most once; the answers are
    /// in their order. What requests have told of such a decision meanwhile is added to it, at the database's time.
    ///
    /// # Errors
    /// As described at [`Store`]: nothing was written. A row that breaks a constraint fails alone.
    pub async fn replay_decisions(
        &self,
        rows: Vec<DecisionRow>,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        on_backend!(self, store => store.replay_decisions(rows).await)
    }

    /// Reads a decision with everything that came of it.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn decision(&self, id: Uuid) -> Result<Option<StoredDecision>, StoreError> {
        on_backend!(self, store => store.decision(id).await)
    }
}

/// What people look through, and their sessions.
impl Store {
    /// Finds decisions, newest first, page by page. Without a user, a search by rule looks at
    /// [`SEARCH_WINDOW`](crate::browse::SEARCH_WINDOW) decisions at most and says where it stopped.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn find_decisions(&self, search: DecisionSearch) -> Result<DecisionPage, StoreError> {
        on_backend!(self, store => store.find_decisions(search).await)
    }

    /// Lists at most `limit` stored archetypes after a user, by id.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn list_archetypes(
        &self,
        filter: ArchetypeFilter,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<ArchetypeListed>, StoreError> {
        on_backend!(self, store => store.list_archetypes(filter, after, limit).await)
    }

    /// Counts the archetypes that an admin set, those whose override has expired included.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn count_overridden(&self) -> Result<u64, StoreError> {
        on_backend!(self, store => store.count_overridden().await)
    }

    /// Counts the stored archetypes by type and twentieth of confidence, by both. Reads the whole table: not for often.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn archetype_confidences(&self) -> Result<Vec<ConfidenceStep>, StoreError> {
        on_backend!(self, store => store.archetype_confidences().await)
    }

    /// Lists at most `limit` audit entries with a number below `before`, newest first: all, or those about one user.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn audit_entries(
        &self,
        target: Option<&UserId>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        on_backend!(self, store => store.audit_entries(target, before, limit).await)
    }

    /// Ends a session of the dashboard before its cookie expires, on every server of the database.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn end_session(
        &self,
        id: Uuid,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        on_backend!(self, store => store.end_session(id, expires_at, now).await)
    }

    /// Says whether a session was ended before its time.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn session_has_ended(&self, id: Uuid) -> Result<bool, StoreError> {
        on_backend!(self, store => store.session_has_ended(id).await)
    }
}

/// Archetypes and the audit log.
impl Store {
    /// Stores a computed archetype, if nothing has changed since the facts were read.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn save_archetype(
        &self,
        user: UserId,
        computed: ComputedArchetype,
        version: FactsVersion,
    ) -> Result<ArchetypeSaved, StoreError> {
        on_backend!(self, store => store.save_archetype(user, computed, version).await)
    }

    /// Stores computed archetypes in one transaction; the answers are in the order given.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn save_archetypes(
        &self,
        many: Vec<(UserId, ComputedArchetype, FactsVersion)>,
    ) -> Result<Vec<ArchetypeSaved>, StoreError> {
        on_backend!(self, store => store.save_archetypes(many).await)
    }

    /// Makes an admin's change and its audit entry, both or neither.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the audit log takes no entry, and as described at [`Store`].
    pub async fn change_archetype(
        &self,
        user: UserId,
        change: ArchetypeChange,
        actor: Actor,
        now: Timestamp,
    ) -> Result<ArchetypeChanged, StoreError> {
        on_backend!(self, store => store.change_archetype(user, change, actor, now).await)
    }

    /// Counts the stored archetypes by type.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn archetype_counts(&self) -> Result<Vec<(Archetype, u64)>, StoreError> {
        on_backend!(self, store => store.archetype_counts().await)
    }

    /// Lists at most `limit` people after a user, by id: everybody with a request, a membership or a profile who has not
    /// opted out.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn people_after(
        &self,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        on_backend!(self, store => store.people_after(after, limit).await)
    }

    /// Inserts a finished run into `archetype_job_logs`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an id that is there already, and as described at [`Store`].
    pub async fn insert_run(&self, run: RunRow) -> Result<(), StoreError> {
        on_backend!(self, store => store.insert_run(run).await)
    }

    /// Reads the whole audit log and reports the first entry that breaks its chain; with `expect_head` also a log whose
    /// newest entry is another.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn verify_audit(&self, expect_head: Option<&str>) -> Result<AuditReport, StoreError> {
        on_backend!(self, store => store.verify_audit(expect_head).await)
    }

    /// Reads the hash of the newest audit entry.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn audit_head(&self) -> Result<Option<String>, StoreError> {
        on_backend!(self, store => store.audit_head().await)
    }
}

/// The recalculation job; see [`crate::job`].
impl Store {
    /// Reads the lease as it stands, and what waits for somebody.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn job_state(&self) -> Result<JobState, StoreError> {
        on_backend!(self, store => store.job_state().await)
    }

    /// Starts a run, unless one is not finished or its cause has been seen to before.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn start_run(&self, new: NewRun) -> Result<RunStarted, StoreError> {
        on_backend!(self, store => store.start_run(new).await)
    }

    /// Goes on with the run that is not finished, if its lease is over. A backend of a server that keeps the lease's row
    /// locked five seconds after that is ended.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn take_over_run(&self, holder: &str) -> Result<Option<TakenRun>, StoreError> {
        on_backend!(self, store => store.take_over_run(holder).await)
    }

    /// Renews a lease between two batches; says whether it was still held.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn renew_run(&self, lease: RunLease) -> Result<bool, StoreError> {
        on_backend!(self, store => store.renew_run(lease).await)
    }

    /// Marks who has asked or been asked since the last completed run began, less a margin, where the app keeps its
    /// requests itself; gives their number. Requests of our own mark users as they come.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn mark_recent(&self, margin: jiff::SignedDuration) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(0),
            Backend::Postgres(store) => store.mark_recent(margin).await,
        }
    }

    /// Lists the next users of a run, in order of their ids.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn run_people(
        &self,
        selection: RunSelection,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<PeoplePage, StoreError> {
        on_backend!(self, store => store.run_people(selection, after, limit).await)
    }

    /// Reads what is known of users, with their `newest` requests, of one moment. The answers are in the order given; a
    /// user whose rows cannot be read comes with the reason.
    ///
    /// # Errors
    /// [`StoreError::Inconsistent`] when the database cannot give a row of one of them: ask for fewer to find out which.
    /// Else as described at [`Store`].
    pub async fn run_facts(
        &self,
        users: Vec<UserId>,
        newest: usize,
        now: Timestamp,
    ) -> Result<Vec<Result<PersonState, String>>, StoreError> {
        on_backend!(self, store => store.run_facts(users, newest, now).await)
    }

    /// Stores a batch and the run's cursor, or as much of it as there is time for, unless the lease is lost.
    ///
    /// # Errors
    /// As described at [`Store`]: nothing was stored.
    pub async fn save_run_batch(
        &self,
        lease: RunLease,
        batch: Arc<RunBatch>,
    ) -> Result<BatchSaved, StoreError> {
        on_backend!(self, store => store.save_run_batch(lease, batch).await)
    }

    /// Ends a run, or pauses it, and gives the lease back; says whether the lease was still held.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn end_run(&self, lease: RunLease, end: RunEnd) -> Result<bool, StoreError> {
        on_backend!(self, store => store.end_run(lease, end).await)
    }

    /// Cancels a run: its term ends, so that nothing more is written for it, whoever works on it.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn cancel_run(
        &self,
        id: Uuid,
        actor: Actor,
        now: Timestamp,
    ) -> Result<RunCancelled, StoreError> {
        on_backend!(self, store => store.cancel_run(id, actor, now).await)
    }

    /// Notes a time of the schedule as seen to, without a run.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn see_to_schedule(&self, at: Timestamp) -> Result<(), StoreError> {
        on_backend!(self, store => store.see_to_schedule(at).await)
    }

    /// Notes an earlier time of the schedule as the newest that has been seen to: the one that is noted lies in the future.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn set_schedule_back(&self, at: Timestamp) -> Result<(), StoreError> {
        on_backend!(self, store => store.set_schedule_back(at).await)
    }

    /// Says who starts the nightly run. The embedded database has no scheduler of its own.
    ///
    /// # Errors
    /// [`StoreError::Refused`] on the embedded database, and as described at [`Store`].
    pub async fn set_scheduler(&self, scheduler: Scheduler) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Err(StoreError::Refused {
                table: "nudge_job_leases",
                detail: "an embedded database has no scheduler of its own".to_owned(),
            }),
            Backend::Postgres(store) => store.set_scheduler(scheduler).await,
        }
    }

    /// Takes a row of `job_requests` without a run: its settings cannot be used.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn refuse_job_request(&self, id: i64) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(()),
            Backend::Postgres(store) => store.refuse_job_request(id).await,
        }
    }

    /// Lists at most `limit` users of a run that failed fewer times than `attempts`, by id.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn run_failures(
        &self,
        id: Uuid,
        attempts: u32,
        limit: u32,
    ) -> Result<Vec<RunFailure>, StoreError> {
        on_backend!(self, store => store.run_failures(id, attempts, limit).await)
    }

    /// Reads a run.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn run(&self, id: Uuid) -> Result<Option<Run>, StoreError> {
        on_backend!(self, store => store.run(id).await)
    }

    /// Lists the newest runs, newest first.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn runs(&self, limit: u32) -> Result<Vec<Run>, StoreError> {
        on_backend!(self, store => store.runs(limit).await)
    }
}

/// What reports are made of.
impl Store {
    /// Reads what decisions add up to, for those made from a day to another (UTC, both included), by key. What has not
    /// been folded yet is added up on the way, so the sums are those of the rows at one moment; the more of it there is,
    /// the longer that takes.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn report_cells(&self, first: Date, last: Date) -> Result<Vec<(CellKey, Tally)>, StoreError> {
        on_backend!(self, store => store.report_cells(first, last).await)
    }

    /// Moves at most so many new decisions, and as many changes, into the stored sums. One process at a time does so; the
    /// others are told that there is more.
    ///
    /// # Errors
    /// As [`Store::load_person`]; nothing has been moved then.
    pub async fn fold_report(&self, at_most: usize) -> Result<Folded, StoreError> {
        on_backend!(self, store => store.fold_report(at_most).await)
    }

    /// Adds up the log of requests from a day to another (UTC, both included).
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn request_figures(&self, first: Date, last: Date) -> Result<RequestFigures, StoreError> {
        on_backend!(self, store => store.request_figures(first, last).await)
    }

    /// Adds up the log of runs that began from a day to another (UTC, both included).
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn job_figures(&self, first: Date, last: Date) -> Result<JobFigures, StoreError> {
        on_backend!(self, store => store.job_figures(first, last).await)
    }
}

/// Outcomes, facts, and who has to forget what.
impl Store {
    /// Appends outcomes and adds them up into their decisions, all of a call or nothing.
    ///
    /// # Errors
    /// [`OutcomeError::NotYours`] before [`OutcomeError::Impossible`], each naming the first such event; else as described
    /// at [`Store`].
    pub async fn record_outcomes(
        &self,
        reporter: OutcomeReporter,
        events: Vec<OutcomeEvent>,
        now: Timestamp,
    ) -> Result<OutcomesRecorded, OutcomeError> {
        on_backend!(self, store => store.record_outcomes(reporter, events, now).await)
    }

    /// Applies changes of facts in their order, all of a call or nothing.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when a row breaks a constraint, and as described at [`Store`].
    pub async fn apply_facts(
        &self,
        changes: Vec<FactChange>,
        now: Timestamp,
    ) -> Result<FactsApplied, StoreError> {
        on_backend!(self, store => store.apply_facts(changes, now).await)
    }

    /// Reads whose cached facts have gone out of date since a number of the feed, and the feed's newest number.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn changes_since(&self, revision: i64) -> Result<(i64, Option<Changed>), StoreError> {
        on_backend!(self, store => store.changes_since(revision).await)
    }

    /// Reads the feed's newest number.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn changes_head(&self) -> Result<i64, StoreError> {
        on_backend!(self, store => store.changes_head().await)
    }

    /// Reads rows of an exposed table that a caller may see.
    ///
    /// # Errors
    /// [`ReadError`]: a table that is not exposed before a privilege that is missing, before what is wrong with a name, an
    /// operator or a value; [`ReadError::Busy`] and [`ReadError::Timeout`] when the database has too much to do.
    pub async fn read_as(&self, caller: &Caller, query: &ReadQuery) -> Result<ReadAnswer, ReadError> {
        let table = exposed(&query.table)?;
        if *caller == Caller::Anonymous && scope(Grade::Anonymous, table, Verb::Select) == Scope::NoPrivilege
        {
            return Err(ReadError::Denied { table });
        }
        let plan = Plan::of(query)?;
        on_backend!(self, store => store.read_as(caller.clone(), plan).await)
    }

    /// Lists the tables that are exposed to callers.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn exposed_tables(&self) -> Result<Vec<&'static Table>, ReadError> {
        let Backend::Postgres(store) = &self.backend else { return Ok(TABLES.iter().collect()) };
        let mut exposed = Vec::with_capacity(TABLES.len());
        for table in TABLES {
            if store.shows(table.name).await? {
                exposed.push(table);
            }
        }
        Ok(exposed)
    }

    /// Ranks a caller by the role that their profile gives them now.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn grade(&self, caller: &Caller) -> Result<Grade, StoreError> {
        on_backend!(self, store => store.grade(caller).await)
    }
}
