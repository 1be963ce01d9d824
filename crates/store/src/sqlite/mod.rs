//! The SQLite backend: one file in WAL mode, a pool of readers, one writer.
//!
//! Where next: `writer.rs` for how writes become durable, `pool.rs` for reads, `person.rs` and `night.rs` for what one
//! recommendation needs, `migration.rs` for the schema.

mod archetype;
mod audit;
mod change;
mod checkpoint;
mod connection;
mod convert;
mod decision;
mod fact;
mod migration;
mod night;
mod outcome;
mod person;
mod pool;
mod rights;
mod run;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use jiff::Timestamp;
use nudge_engine::{Archetype, EntityId, UserId};
use rusqlite::Connection;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::error::StoreError;
use crate::fact::{FactChange, FactsApplied};
use crate::options::{StoreOptions, WriterStats};
use crate::record::{
    Actor, ArchetypeChange, ArchetypeChanged, ArchetypeSaved, AuditReport, Changed, ComputedArchetype,
    DecisionRow, FactsVersion, NightFacts, NightQuery, OutcomeError, OutcomeEvent, OutcomeReporter,
    OutcomesRecorded, PersonFacts, Profile, RunRow, StoredDecision, WithRequests,
};
use crate::rights::{Caller, Grade, RightsError};
use pool::Pool;
use writer::Writer;

/// The store. Clones share one writer and one pool of readers.
///
/// Every method that touches the database fails with [`StoreError::Unavailable`] when the database cannot take or give
/// anything now; nothing is changed then, and the same call succeeds once the fault is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    writer: Writer,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Opening, closing, and figures.
impl Store {
    /// Opens the database, makes it if there is none, and brings it to the newest schema.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the file cannot be opened, [`StoreError::NewerSchema`] when a newer program made it.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(options, true)
    }

    /// Opens a database that exists, and brings it to the newest schema.
    ///
    /// # Errors
    /// [`StoreError::Open`] when there is no such file, and as [`Store::open`].
    pub fn open_existing(options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(options, false)
    }

    fn open_with(options: StoreOptions, create: bool) -> Result<Self, StoreError> {
        let conn = connection::set_up(&options, create)?;
        let writer = Writer::start(conn, options.clone())?;
        Ok(Self { inner: Arc::new(Inner { pool: Pool::new(options), writer }) })
    }

    /// Reads the schema's version: shows that the database answers.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        self.inner.pool.read(migration::version)
    }

    /// Gives the number of jobs that wait for the writer.
    pub fn queue_depth(&self) -> usize {
        self.inner.writer.queue_depth()
    }

    /// Gives the writer's figures.
    pub fn writer_stats(&self) -> WriterStats {
        self.inner.writer.stats()
    }

    /// Commits what is queued, copies the log back and ends the writer. Every later call is unavailable.
    pub async fn close(&self) {
        let thread = self.inner.writer.close().await;
        self.inner.pool.close();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("store.writer_died");
            }
        }
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
        self.inner.pool.read(|conn| person::load(conn, user, with, signal_requests, history_requests))
    }

    /// Lists the leases of a user, in ascending order.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn leases_of(&self, user: &UserId) -> Result<Vec<EntityId>, StoreError> {
        self.inner.pool.read(|conn| night::leases_of(conn, user))
    }

    /// Reads what two people share on a night.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn load_night(&self, query: &NightQuery<'_>) -> Result<NightFacts, StoreError> {
        self.inner.pool.read(|conn| night::load(conn, query))
    }

    /// Reads a user's profile; a user without one is a member who has not opted out.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn profile(&self, user: &UserId) -> Result<Profile, StoreError> {
        self.inner.pool.read(|conn| person::profile(conn, user))
    }

    /// Writes a decision and returns after its commit. One that is there already stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the row breaks a constraint, and as described at [`Store`].
    pub async fn record_decision(&self, row: impl Into<Arc<DecisionRow>>) -> Result<(), StoreError> {
        self.inner.writer.decision(row.into()).await
    }

    /// Queues a decision; the receiver gets the answer after its commit.
    ///
    /// # Errors
    /// Gives the row back when the queue is full or the store closed.
    pub fn try_enqueue_decision(
        &self,
        row: impl Into<Arc<DecisionRow>>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, Arc<DecisionRow>> {
        self.inner.writer.try_decision(row.into())
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

    /// Reads a decision with everything that came of it.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn decision(&self, id: Uuid) -> Result<Option<StoredDecision>, StoreError> {
        self.inner.pool.read(|conn| decision::read(conn, id))
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
        self.inner.writer.call(move |conn| archetype::save(conn, &user, &computed, &version)).await
    }

    /// Stores computed archetypes in one transaction; the answers are in the order given.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn save_archetypes(
        &self,
        many: Vec<(UserId, ComputedArchetype, FactsVersion)>,
    ) -> Result<Vec<ArchetypeSaved>, StoreError> {
        let save = move |conn: &Connection| {
            many.iter()
                .map(|(user, computed, version)| archetype::save(conn, user, computed, version))
                .collect()
        };
        self.inner.writer.call(save).await
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
        self.inner.writer.call(move |conn| archetype::change(conn, &user, &change, &actor, now)).await
    }

    /// Counts the stored archetypes by type.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn archetype_counts(&self) -> Result<Vec<(Archetype, u64)>, StoreError> {
        self.inner.pool.read(person::archetype_counts)
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
        self.inner.pool.read(|conn| person::people_after(conn, after, limit))
    }

    /// Inserts a finished run into `archetype_job_logs`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an id that is there already, and as described at [`Store`].
    pub async fn insert_run(&self, run: RunRow) -> Result<(), StoreError> {
        self.inner.writer.call(move |conn| run::insert(conn, &run)).await
    }

    /// Reads the whole audit log and reports the first entry that breaks its chain; with `expect_head` also a log whose
    /// newest entry is another.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn verify_audit(&self, expect_head: Option<&str>) -> Result<AuditReport, StoreError> {
        let expect_head = expect_head.map(str::to_owned);
        self.read_at_length(move |conn| audit::verify(conn, expect_head.as_deref())).await
    }

    /// Reads the hash of the newest audit entry.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn audit_head(&self) -> Result<Option<String>, StoreError> {
        self.inner.pool.read(audit::head)
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
        self.inner.writer.call(move |conn| outcome::record(conn, &reporter, &events, now)).await
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
        self.inner.writer.call(move |conn| fact::apply(conn, &changes, now)).await
    }

    /// Reads whose cached facts have gone out of date since a number of the feed, and the feed's newest number.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn changes_since(&self, revision: i64) -> Result<(i64, Option<Changed>), StoreError> {
        self.inner.pool.read(|conn| change::since(conn, revision))
    }

    /// Reads the feed's newest number.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn changes_head(&self) -> Result<i64, StoreError> {
        self.inner.pool.read(change::head)
    }

    /// Reads the rows of an exposed table that a caller may see, in the order of its key.
    ///
    /// # Errors
    /// [`RightsError::Denied`] without the privilege, [`RightsError::UnknownTable`] for a table that is not exposed.
    pub async fn rows_as(
        &self,
        caller: &Caller,
        table: &str,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<Map<String, Value>>, RightsError> {
        let (caller, table) = (caller.clone(), table.to_owned());
        self.read_at_length(move |conn| rights::rows(conn, &caller, &table, limit, offset)).await
    }

    /// Ranks a caller by the role that their profile gives them now.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn grade(&self, caller: &Caller) -> Result<Grade, StoreError> {
        self.inner.pool.read(|conn| rights::grade(conn, caller))
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
        let inner = Arc::clone(&self.inner);
        let joined = tokio::task::spawn_blocking(move || inner.pool.read(read)).await;
        joined.unwrap_or_else(|error| Err(StoreError::Statement { detail: error.to_string() }.into()))
    }
}
