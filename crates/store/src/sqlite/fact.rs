//! Writes of facts: upserts and deletes that change nothing when they say nothing new, in one transaction with the marks
//! of the users concerned and with what a request tells of a decision.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{EntityId, UserId};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use uuid::Uuid;

use super::convert::{
    Within, cents, cents_opt, date, demand, dollars, factor, parsed, parsed_opt, statements, time, time_opt,
    time_text, to_microsecond, user,
};
use super::outcome;
use super::{archetype, change, decision, night, person};
use crate::error::StoreError;
use crate::fact::{
    DateChangeRequestRow, FactChange, FactKey, FactRow, FactsApplied, LeaseMemberRow, LeaseNightRow,
    LeaseRow, ProfileRow,
};
use crate::outcome::candidate::Told;
use crate::record::{DecisionRow, ProfileRole};

statements! {
    SELECT_NOW = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";
    SELECT_PROFILE = "SELECT id, role, personalization_opt_out, created_at FROM profiles WHERE id = ?1";
    UPSERT_PROFILE = "INSERT INTO profiles (id, role, personalization_opt_out, created_at) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT (id) DO UPDATE SET role = excluded.role,
        personalization_opt_out = excluded.personalization_opt_out, created_at = excluded.created_at";
    DELETE_PROFILE = "DELETE FROM profiles WHERE id = ?1";
    SELECT_LEASE = "SELECT id, name, created_at FROM leases WHERE id = ?1";
    UPSERT_LEASE = "INSERT INTO leases (id, name, created_at) VALUES (?1, ?2, ?3)
      ON CONFLICT (id) DO UPDATE SET name = excluded.name, created_at = excluded.created_at";
    DELETE_LEASE = "DELETE FROM leases WHERE id = ?1";
    INSERT_MEMBER = "INSERT INTO lease_members (lease_id, user_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    DELETE_MEMBER = "DELETE FROM lease_members WHERE lease_id = ?1 AND user_id = ?2";
    SELECT_NIGHT = "SELECT lease_id, night, held_by, base_price, market_demand FROM lease_nights
      WHERE lease_id = ?1 AND night = ?2";
    UPSERT_NIGHT = "INSERT INTO lease_nights (lease_id, night, held_by, base_price, market_demand)
      VALUES (?1, ?2, ?3, ?4, ?5)
      ON CONFLICT (lease_id, night) DO UPDATE SET held_by = excluded.held_by, base_price = excluded.base_price,
        market_demand = excluded.market_demand";
    DELETE_NIGHT = "DELETE FROM lease_nights WHERE lease_id = ?1 AND night = ?2";
    SELECT_REQUEST = "SELECT id, lease_id, requester_id, receiver_id, transaction_type, target_night,
        offered_night, proposed_price, base_price, status, recommendation_id, created_at, responded_at
      FROM date_change_requests WHERE id = ?1";
    SELECT_REQUESTS_OF_DECISION = "SELECT id, lease_id, requester_id, receiver_id, transaction_type, target_night,
        offered_night, proposed_price, base_price, status, recommendation_id, created_at, responded_at
      FROM date_change_requests WHERE recommendation_id = ?1 ORDER BY created_at, id";
    UPSERT_REQUEST = "INSERT INTO date_change_requests (id, lease_id, requester_id, receiver_id, transaction_type,
        target_night, offered_night, proposed_price, base_price, status, recommendation_id, created_at,
        responded_at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
      ON CONFLICT (id) DO UPDATE SET lease_id = excluded.lease_id, requester_id = excluded.requester_id,
        receiver_id = excluded.receiver_id, transaction_type = excluded.transaction_type,
        target_night = excluded.target_night, offered_night = excluded.offered_night,
        proposed_price = excluded.proposed_price, base_price = excluded.base_price, status = excluded.status,
        recommendation_id = excluded.recommendation_id, created_at = excluded.created_at,
        responded_at = excluded.responded_at";
    DELETE_REQUEST = "DELETE FROM date_change_requests WHERE id = ?1";
}

const PROFILES: &str = "profiles";
const LEASES: &str = "leases";
const MEMBERS: &str = "lease_members";
const NIGHTS: &str = "lease_nights";
const REQUESTS: &str = "date_change_requests";

/// The writes of one call so far.
struct Applying<'a> {
    conn: &'a Connection,
    now: Timestamp,
    applied: FactsApplied,
    /// Users whose cached facts are out of date.
    concerned: BTreeSet<UserId>,
    /// Those of them whose archetype is to be computed again.
    stale: BTreeSet<UserId>,
    /// Leases with other nights than before: what is cached of their tenants is out of date.
    leases: BTreeSet<EntityId>,
}

/// Applies changes in their order.
pub(super) fn apply(
    conn: &Connection,
    changes: &[FactChange],
    now: Timestamp,
) -> Result<FactsApplied, StoreError> {
    let (applied, concerned, stale, leases) = Default::default();
    let mut applying = Applying { conn, now: to_microsecond(now), applied, concerned, stale, leases };
    for change in changes {
        applying.apply(change)?;
    }
    applying.finish()
}

/// Reads the database's clock, to the millisecond.
pub(super) fn clock(conn: &Connection) -> Result<Timestamp, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_NOW).within("sqlite_schema")?;
    statement.query_row([], |row| time(row, 0)).within("sqlite_schema")
}

/// Inserts a decision that could not be written in its time, and appends what requests have told of it meanwhile.
///
/// # Errors
/// What the insert fails with. A request that cannot be read does not keep the decision out.
pub(super) fn insert_late_decision(
    conn: &Connection,
    row: &DecisionRow,
    now: Timestamp,
) -> Result<(), StoreError> {
    if decision::insert(conn, row)? {
        match tell_of_decision(conn, row.id, now) {
            Err(error) if error.is_unavailable() => return Err(error),
            Err(error) => tracing::error!(%error, "store.late_outcome_lost"),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn tell_of_decision(conn: &Connection, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
    let requests = {
        let mut statement = conn.prepare_cached(SELECT_REQUESTS_OF_DECISION).within(REQUESTS)?;
        let rows = statement.query_map([id.hyphenated().to_string()], request_row);
        rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).within(REQUESTS)?
    };
    requests.iter().try_for_each(|request| outcome::tell(conn, request, now).map(drop))
}

impl Applying<'_> {
    fn apply(&mut self, change: &FactChange) -> Result<(), StoreError> {
        let changed = match change {
            FactChange::Upsert(row) => self.upsert(row)?,
            FactChange::Delete(key) => self.delete(key)?,
        };
        match (changed, change) {
            (false, _) => self.applied.unchanged += 1,
            (true, FactChange::Upsert(_)) => self.applied.upserted += 1,
            (true, FactChange::Delete(_)) => self.applied.deleted += 1,
        }
        Ok(())
    }

    /// Marks the users concerned. One who opted out has no archetype to compute.
    fn finish(mut self) -> Result<FactsApplied, StoreError> {
        let mut stale = BTreeSet::new();
        for user in std::mem::take(&mut self.stale) {
            if !person::profile(self.conn, &user)?.opted_out {
                stale.insert(user);
            }
        }
        for lease in &self.leases {
            self.concerned.extend(night::members_of(self.conn, lease)?);
        }
        change::announce_all(self.conn, &self.concerned, &stale)?;
        self.applied.stale_users = stale.len();
        Ok(self.applied)
    }

    fn recompute(&mut self, user: &UserId) {
        self.concerned.insert(user.clone());
        self.stale.insert(user.clone());
    }

    fn upsert(&mut self, row: &FactRow) -> Result<bool, StoreError> {
        match row {
            FactRow::Profile(row) => self.upsert_profile(row),
            FactRow::Lease(row) => self.upsert_lease(row),
            FactRow::LeaseMember(row) => self.upsert_member(row),
            FactRow::LeaseNight(row) => self.upsert_night(row),
            FactRow::DateChangeRequest(row) => self.upsert_request(row),
        }
    }

    fn upsert_profile(&mut self, row: &ProfileRow) -> Result<bool, StoreError> {
        let old = self.one(PROFILES, SELECT_PROFILE, [row.id.as_str()], profile_row)?;
        let new = row.merged(old.as_ref());
        let opted_out = new.personalization_opt_out == Some(true);
        let was_out = old.as_ref().is_some_and(|old| old.personalization_opt_out == Some(true));
        if old.as_ref() == Some(&new) {
            return Ok(false);
        }
        let role = if new.role == Some(ProfileRole::Admin) { "admin" } else { "member" };
        let created_at = time_text(new.created_at.unwrap_or(self.now));
        self.run(PROFILES, UPSERT_PROFILE, params![new.id.as_str(), role, opted_out, created_at])?;
        self.concerned.insert(new.id.clone());
        if opted_out {
            archetype::remove(self.conn, &new.id)?;
            change::unmark(self.conn, &new.id)?;
        } else if was_out {
            self.recompute(&new.id);
        }
        Ok(true)
    }

    fn upsert_lease(&mut self, row: &LeaseRow) -> Result<bool, StoreError> {
        let old = self.one(LEASES, SELECT_LEASE, [row.id.as_str()], lease_row)?;
        let new = row.merged(old.as_ref());
        if old.as_ref() == Some(&new) {
            return Ok(false);
        }
        let created_at = time_text(new.created_at.unwrap_or(self.now));
        self.run(LEASES, UPSERT_LEASE, params![new.id.as_str(), new.name, created_at])?;
        Ok(true)
    }

    fn upsert_member(&mut self, row: &LeaseMemberRow) -> Result<bool, StoreError> {
        let inserted = self.run(MEMBERS, INSERT_MEMBER, [row.lease_id.as_str(), row.user_id.as_str()])?;
        if inserted {
            self.concerned.insert(row.user_id.clone());
        }
        Ok(inserted)
    }

    fn upsert_night(&mut self, row: &LeaseNightRow) -> Result<bool, StoreError> {
        let key = [row.lease_id.as_str(), &row.night.to_string()];
        let old = self.one(NIGHTS, SELECT_NIGHT, key, night_row)?;
        let new = row.merged(old.as_ref());
        if old.as_ref() == Some(&new) {
            return Ok(false);
        }
        let values = params![
            key[0],
            key[1],
            new.held_by.as_ref().map(UserId::as_str),
            dollars(new.base_price_cents),
            factor(new.demand_ten_thousandths.unwrap_or(LeaseNightRow::DEFAULT_DEMAND)),
        ];
        self.run(NIGHTS, UPSERT_NIGHT, values)?;
        self.leases.insert(row.lease_id.clone());
        Ok(true)
    }

    fn upsert_request(&mut self, row: &DateChangeRequestRow) -> Result<bool, StoreError> {
        let old = self.one(REQUESTS, SELECT_REQUEST, [row.id.as_str()], request_row)?;
        let new = row.as_stored();
        let changed = old.as_ref() != Some(&new);
        if changed {
            self.put_request(&new)?;
            for row in old.iter().chain([&new]) {
                self.recompute(&row.requester_id);
                self.recompute(&row.receiver_id);
            }
        }
        match outcome::tell(self.conn, &new, self.now)? {
            Told::Nothing => {}
            Told::Unknown => self.applied.unknown_recommendations += 1,
            Told::Events { recorded, conflicts } => {
                self.applied.events_recorded += recorded;
                self.applied.event_conflicts += conflicts;
            }
        }
        Ok(changed)
    }

    fn put_request(&self, row: &DateChangeRequestRow) -> Result<(), StoreError> {
        let values = params![
            row.id.as_str(),
            row.lease_id.as_ref().map(EntityId::as_str),
            row.requester_id.as_str(),
            row.receiver_id.as_str(),
            row.transaction_type.as_str(),
            row.target_night.to_string(),
            row.offered_night.map(|night| night.to_string()),
            row.proposed_price_cents.map(dollars),
            row.base_price_cents.map(dollars),
            row.status.as_str(),
            row.recommendation_id.map(|id| id.hyphenated().to_string()),
            time_text(row.created_at),
            row.responded_at.map(time_text),
        ];
        self.run(REQUESTS, UPSERT_REQUEST, values).map(drop)
    }

    fn delete(&mut self, key: &FactKey) -> Result<bool, StoreError> {
        match key {
            FactKey::Profile(id) => {
                let old = self.one(PROFILES, SELECT_PROFILE, [id.as_str()], profile_row)?;
                if let Some(old) = &old {
                    self.concerned.insert(id.clone());
                    if old.personalization_opt_out == Some(true) {
                        self.recompute(id);
                    }
                }
                self.run(PROFILES, DELETE_PROFILE, [id.as_str()])
            }
            FactKey::Lease(id) => self.run(LEASES, DELETE_LEASE, [id.as_str()]),
            FactKey::LeaseMember(lease, user) => {
                let deleted = self.run(MEMBERS, DELETE_MEMBER, [lease.as_str(), user.as_str()])?;
                if deleted {
                    self.concerned.insert(user.clone());
                }
                Ok(deleted)
            }
            FactKey::LeaseNight(lease, night) => self.delete_night(lease, *night),
            FactKey::DateChangeRequest(id) => {
                let old = self.one(REQUESTS, SELECT_REQUEST, [id.as_str()], request_row)?;
                if let Some(old) = &old {
                    self.recompute(&old.requester_id);
                    self.recompute(&old.receiver_id);
                }
                self.run(REQUESTS, DELETE_REQUEST, [id.as_str()])
            }
        }
    }

    fn delete_night(&mut self, lease: &EntityId, night: Date) -> Result<bool, StoreError> {
        let deleted = self.run(NIGHTS, DELETE_NIGHT, [lease.as_str(), &night.to_string()])?;
        if deleted {
            self.leases.insert(lease.clone());
        }
        Ok(deleted)
    }

    fn one<T>(
        &self,
        table: &'static str,
        sql: &'static str,
        key: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.conn.prepare_cached(sql).within(table)?;
        statement.query_row(key, read).optional().within(table)
    }

    /// Runs a statement; says whether it changed a row.
    fn run(&self, table: &'static str, sql: &'static str, values: impl Params) -> Result<bool, StoreError> {
        let mut statement = self.conn.prepare_cached(sql).within(table)?;
        statement.execute(values).within(table).map(|changed| changed > 0)
    }
}

fn profile_row(row: &Row<'_>) -> rusqlite::Result<ProfileRow> {
    let role = if row.get_ref(1)?.as_str() == Ok("admin") { ProfileRole::Admin } else { ProfileRole::Member };
    Ok(ProfileRow {
        id: user(row, 0)?,
        role: Some(role),
        personalization_opt_out: Some(row.get(2)?),
        created_at: Some(time(row, 3)?),
    })
}

fn lease_row(row: &Row<'_>) -> rusqlite::Result<LeaseRow> {
    Ok(LeaseRow { id: parsed(row, 0, EntityId::parse)?, name: row.get(1)?, created_at: Some(time(row, 2)?) })
}

fn night_row(row: &Row<'_>) -> rusqlite::Result<LeaseNightRow> {
    Ok(LeaseNightRow {
        lease_id: parsed(row, 0, EntityId::parse)?,
        night: date(row, 1)?,
        held_by: parsed_opt(row, 2, UserId::parse)?,
        base_price_cents: cents(row, 3)?,
        demand_ten_thousandths: Some(demand(row, 4)?),
    })
}

fn request_row(row: &Row<'_>) -> rusqlite::Result<DateChangeRequestRow> {
    Ok(DateChangeRequestRow {
        id: parsed(row, 0, EntityId::parse)?,
        lease_id: parsed_opt(row, 1, EntityId::parse)?,
        requester_id: user(row, 2)?,
        receiver_id: user(row, 3)?,
        transaction_type: parsed(row, 4, str::parse)?,
        target_night: date(row, 5)?,
        offered_night: parsed_opt(row, 6, str::parse)?,
        proposed_price_cents: cents_opt(row, 7)?,
        base_price_cents: cents_opt(row, 8)?,
        status: parsed(row, 9, str::parse)?,
        recommendation_id: parsed_opt(row, 10, Uuid::try_parse)?,
        created_at: time(row, 11)?,
        responded_at: time_opt(row, 12)?,
    })
}
