//! Writes of facts, in one transaction with the marks of the users concerned and with what requests tell of decisions.
//!
//! A call may be a whole import, so rows are read and written by the thousand. Of each part the rows that are there are
//! locked and read, the changes are applied to them in their order in memory, and what came of it is written. A row that
//! somebody else inserts in between makes the transaction try again. Facts that the app keeps itself are not written; a
//! change of them only says whose cached facts are out of date. Where next: `fact/table.rs` holds the statements of each
//! table.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nudge_engine::{EntityId, UserId};
use uuid::Uuid;

use super::convert::{day, parsed, parsed_opt, statements, time, time_opt};
use super::decision::insert_each;
use super::outcome::Funnels;
use super::pool::Transaction;
use super::source::Sources;
use super::{archetype, change, night};
use crate::error::StoreError;
use crate::fact::{DateChangeRequestRow, FactChange, FactKey, FactRow, FactTable, FactsApplied};
use crate::format::to_microsecond;
use crate::outcome::candidate::Told;
use crate::record::DecisionRow;
#[cfg(test)]
pub(super) use table::STATEMENTS as TABLE_STATEMENTS;

statements! {
    SELECT_NOW [] = "SELECT statement_timestamp()";
    SELECT_REQUESTS_OF_DECISIONS [TEXT_ARRAY] = "SELECT id, requester_id, receiver_id, transaction_type, target_night, status,
        recommendation_id, created_at, responded_at
      FROM nudge.date_change_requests WHERE recommendation_id = ANY ($1) ORDER BY created_at, id";
}

const REQUESTS: &str = "date_change_requests";

/// Changes that are read and written at once.
const PART: usize = 4_000;

/// The writes of one call so far.
struct Applying<'a> {
    transaction: &'a Transaction<'a>,
    sources: Sources,
    now: Timestamp,
    applied: FactsApplied,
    /// Users whose cached facts are out of date.
    concerned: BTreeSet<UserId>,
    /// Those of them whose archetype is to be computed again.
    stale: BTreeSet<UserId>,
    /// Those of them whose profile has changed.
    profiles: BTreeSet<UserId>,
    /// Leases with other nights than before: what is cached of their tenants is out of date.
    leases: BTreeSet<EntityId>,
    /// Requests in the order in which they came, with what they tell.
    telling: Vec<DateChangeRequestRow>,
}

/// A row before and after the changes of a part.
#[derive(Default)]
struct Entry {
    before: Option<FactRow>,
    after: Option<FactRow>,
}

/// Applies changes in their order.
pub(super) async fn apply(
    transaction: &Transaction<'_>,
    sources: Sources,
    changes: &[FactChange],
    now: Timestamp,
) -> Result<FactsApplied, StoreError> {
    let mut applying = Applying {
        transaction,
        sources,
        now: to_microsecond(now),
        applied: FactsApplied::default(),
        concerned: BTreeSet::new(),
        stale: BTreeSet::new(),
        profiles: BTreeSet::new(),
        leases: BTreeSet::new(),
        telling: Vec::new(),
    };
    if changes.iter().any(opts_out) {
        archetype::lock_opt_outs(transaction).await?;
    }
    for part in changes.chunks(PART) {
        applying.apply(part).await?;
    }
    applying.finish().await
}

fn opts_out(change: &FactChange) -> bool {
    matches!(change, FactChange::Upsert(FactRow::Profile(row)) if row.personalization_opt_out == Some(true))
}

fn key_of(change: &FactChange) -> FactKey {
    match change {
        FactChange::Upsert(row) => row.key(),
        FactChange::Delete(key) => key.clone(),
    }
}

impl Applying<'_> {
    async fn apply(&mut self, changes: &[FactChange]) -> Result<(), StoreError> {
        let mut rows: BTreeMap<FactKey, Entry> = BTreeMap::new();
        for table in FactTable::ALL.iter().copied().filter(|table| self.sources.is_own(*table)) {
            let keys: BTreeSet<FactKey> =
                changes.iter().map(key_of).filter(|key| key.table() == table).collect();
            if !keys.is_empty() {
                for row in table::lock(self.transaction, table, &keys).await? {
                    rows.insert(row.key(), Entry { before: Some(row.clone()), after: Some(row) });
                }
            }
        }
        for change in changes {
            let key = key_of(change);
            let changed = if self.sources.is_own(key.table()) {
                self.change(rows.entry(key).or_default(), change)
            } else {
                self.hear_of(change);
                false
            };
            match (changed, change) {
                (false, _) => self.applied.unchanged += 1,
                (true, FactChange::Upsert(_)) => self.applied.upserted += 1,
                (true, FactChange::Delete(_)) => self.applied.deleted += 1,
            }
        }
        self.write(&rows).await
    }

    /// Applies a change to the row as it stands; says whether it changed anything.
    fn change(&mut self, entry: &mut Entry, change: &FactChange) -> bool {
        let old = entry.after.clone();
        let new = match change {
            FactChange::Upsert(row) => Some(self.merged(row, old.as_ref())),
            FactChange::Delete(_) => None,
        };
        if let (FactChange::Upsert(_), Some(FactRow::DateChangeRequest(row))) = (change, &new) {
            self.telling.push(row.clone());
        }
        if old == new {
            return false;
        }
        self.note(old.as_ref(), new.as_ref());
        entry.after = new;
        true
    }

    /// Gives what a row becomes over the one that it replaces.
    fn merged(&self, row: &FactRow, old: Option<&FactRow>) -> FactRow {
        let now = Some(self.now);
        match (row, old) {
            (FactRow::Profile(row), old) => {
                let mut new = row.merged(old.and_then(FactRow::as_profile));
                new.created_at = new.created_at.or(now);
                FactRow::Profile(new)
            }
            (FactRow::Lease(row), old) => {
                let mut new = row.merged(old.and_then(FactRow::as_lease));
                new.created_at = new.created_at.or(now);
                FactRow::Lease(new)
            }
            (FactRow::LeaseMember(row), _) => FactRow::LeaseMember(row.clone()),
            (FactRow::LeaseNight(row), old) => {
                FactRow::LeaseNight(row.merged(old.and_then(FactRow::as_lease_night)))
            }
            (FactRow::DateChangeRequest(row), _) => FactRow::DateChangeRequest(row.as_stored()),
        }
    }

    /// Notes whom a change concerns.
    fn note(&mut self, old: Option<&FactRow>, new: Option<&FactRow>) {
        let was_out =
            old.and_then(FactRow::as_profile).is_some_and(|row| row.personalization_opt_out == Some(true));
        for row in old.into_iter().chain(new) {
            match row {
                FactRow::Profile(row) => {
                    self.concerned.insert(row.id.clone());
                    self.profiles.insert(row.id.clone());
                    if was_out {
                        self.stale.insert(row.id.clone());
                    }
                }
                FactRow::LeaseMember(row) => {
                    self.concerned.insert(row.user_id.clone());
                }
                FactRow::DateChangeRequest(row) => {
                    self.recompute(&row.requester_id);
                    self.recompute(&row.receiver_id);
                }
                FactRow::LeaseNight(row) => {
                    self.leases.insert(row.lease_id.clone());
                }
                FactRow::Lease(_) => {}
            }
        }
    }

    /// Notes whom a change concerns that the app has made itself.
    fn hear_of(&mut self, change: &FactChange) {
        match change {
            FactChange::Upsert(row) => {
                self.note(None, Some(row));
                match row {
                    FactRow::DateChangeRequest(row) => self.telling.push(row.as_stored()),
                    // Whether they were out before is not known.
                    FactRow::Profile(row) => self.recompute(&row.id),
                    FactRow::Lease(_) | FactRow::LeaseMember(_) | FactRow::LeaseNight(_) => {}
                }
            }
            FactChange::Delete(FactKey::Profile(id)) => {
                self.profiles.insert(id.clone());
                self.recompute(id);
            }
            FactChange::Delete(FactKey::LeaseMember(_, user)) => {
                self.concerned.insert(user.clone());
            }
            FactChange::Delete(FactKey::LeaseNight(lease, _)) => {
                self.leases.insert(lease.clone());
            }
            // The key says nothing of the parties; the newest requests are found by their time.
            FactChange::Delete(FactKey::Lease(_) | FactKey::DateChangeRequest(_)) => {}
        }
    }

    fn recompute(&mut self, user: &UserId) {
        self.concerned.insert(user.clone());
        self.stale.insert(user.clone());
    }

    /// Writes what the changes of a part came to.
    async fn write(&self, rows: &BTreeMap<FactKey, Entry>) -> Result<(), StoreError> {
        for table in FactTable::ALL.iter().copied() {
            let of_table = || rows.iter().filter(move |(key, _)| key.table() == table);
            let gone: Vec<&FactKey> = of_table()
                .filter(|(_, entry)| entry.before.is_some() && entry.after.is_none())
                .map(|(key, _)| key)
                .collect();
            let made: Vec<&FactRow> = of_table()
                .filter(|(_, entry)| entry.before.is_none())
                .filter_map(|(_, entry)| entry.after.as_ref())
                .collect();
            let changed: Vec<&FactRow> = of_table()
                .filter(|(_, entry)| entry.before.is_some() && entry.before != entry.after)
                .filter_map(|(_, entry)| entry.after.as_ref())
                .collect();
            table::delete(self.transaction, table, &gone).await?;
            if table::insert(self.transaction, table, &made).await? < made.len() as u64 {
                return Err(self.transaction.came_late());
            }
            table::update(self.transaction, table, &changed).await?;
        }
        Ok(())
    }

    /// Tells decisions, removes the archetypes of those who opted out, and marks the others.
    async fn finish(mut self) -> Result<FactsApplied, StoreError> {
        self.tell().await?;
        if !self.leases.is_empty() {
            self.concerned.extend(night::members_of(self.transaction, &self.leases).await?);
        }
        let asked: BTreeSet<&UserId> = self.stale.iter().chain(&self.profiles).collect();
        let asked: Vec<&str> = asked.into_iter().map(UserId::as_str).collect();
        let out = match asked.is_empty() {
            true => BTreeSet::new(),
            false => archetype::opted_out(self.transaction, &asked).await?,
        };
        let removed: Vec<&str> =
            self.profiles.iter().map(UserId::as_str).filter(|user| out.contains(*user)).collect();
        let stale: BTreeSet<UserId> =
            self.stale.iter().filter(|user| !out.contains(user.as_str())).cloned().collect();
        if !removed.is_empty() {
            change::lock_marks(self.transaction, &asked).await?;
            change::unmark(self.transaction, &removed).await?;
            archetype::remove(self.transaction, &removed).await?;
        }
        change::announce_all(self.transaction, &self.concerned, &stale).await?;
        self.applied.stale_users = stale.len();
        Ok(self.applied)
    }

    async fn tell(&mut self) -> Result<(), StoreError> {
        let ids = self.telling.iter().filter_map(|request| request.recommendation_id);
        let mut funnels = Funnels::lock(self.transaction, ids).await?;
        for request in &self.telling {
            match funnels.tell(request, self.now) {
                Told::Nothing => {}
                Told::Unknown => self.applied.unknown_recommendations += 1,
                Told::Events { recorded, conflicts } => {
                    self.applied.events_recorded += recorded;
                    self.applied.event_conflicts += conflicts;
                }
            }
        }
        funnels.write(self.transaction, self.now).await
    }
}

/// Inserts decisions that could not be written in their time, and appends what requests have told of them meanwhile, at
/// the database's time. A request that cannot be read does not keep a decision out.
pub(super) async fn insert_late_decisions(
    transaction: &Transaction<'_>,
    rows: &[&DecisionRow],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let inserted = insert_each(transaction, rows).await?;
    let new: Vec<Uuid> = rows
        .iter()
        .zip(&inserted)
        .filter(|(_, new)| matches!(new, Ok(true)))
        .map(|(row, _)| row.id)
        .collect();
    if !new.is_empty() {
        tell_of_decisions(transaction, &new).await?;
    }
    Ok(inserted.into_iter().map(|answer| answer.map(drop)).collect())
}

async fn tell_of_decisions(transaction: &Transaction<'_>, new: &[Uuid]) -> Result<(), StoreError> {
    let ids: Vec<String> = new.iter().map(|id| id.hyphenated().to_string()).collect();
    let rows = transaction.query(REQUESTS, &SELECT_REQUESTS_OF_DECISIONS, &[&ids]).await?;
    let mut telling = Vec::with_capacity(rows.len());
    for row in &rows {
        match request_of_decision(row) {
            Ok(request) => telling.push(request),
            Err(error) => tracing::error!(%error, "store.late_outcome_lost"),
        }
    }
    if telling.is_empty() {
        return Ok(());
    }
    let clock = transaction.query("pg_class", &SELECT_NOW, &[]).await?;
    let missing = || StoreError::Statement { detail: "the database has no clock".to_owned() };
    let now = time(clock.first().ok_or_else(missing)?, 0, "pg_class")?;
    let mut funnels =
        Funnels::lock(transaction, telling.iter().filter_map(|request| request.recommendation_id)).await?;
    for request in &telling {
        funnels.tell(request, now);
    }
    funnels.write(transaction, now).await
}

/// Reads of a request what it tells of its decision.
fn request_of_decision(row: &tokio_postgres::Row) -> Result<DateChangeRequestRow, StoreError> {
    Ok(DateChangeRequestRow {
        id: parsed(row, 0, REQUESTS, EntityId::parse)?,
        lease_id: None,
        requester_id: parsed(row, 1, REQUESTS, UserId::parse)?,
        receiver_id: parsed(row, 2, REQUESTS, UserId::parse)?,
        transaction_type: parsed(row, 3, REQUESTS, str::parse)?,
        target_night: day(row, 4, REQUESTS)?,
        offered_night: None,
        proposed_price_cents: None,
        base_price_cents: None,
        status: parsed(row, 5, REQUESTS, str::parse)?,
        recommendation_id: parsed_opt(row, 6, REQUESTS, Uuid::try_parse)?,
        created_at: time(row, 7, REQUESTS)?,
        responded_at: time_opt(row, 8, REQUESTS)?,
    })
}
