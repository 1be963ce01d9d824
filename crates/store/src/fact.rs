//! The app's facts: the five tables that import, ingest and the mapping views take and give.
//!
//! A row is built from a JSON record, as a Supabase webhook sends it or as a CSV line becomes one, and is typed from
//! then on. Where next: `fact/parse.rs` reads single values.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use nudge_engine::{EntityId, RequestStatus, TransactionType, UserId};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::format::to_microsecond;
use crate::record::ProfileRole;
use parse::Record;

/// A table of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactTable {
    /// `profiles`: roles and opt-outs.
    Profiles,
    /// `leases`: shared homes.
    Leases,
    /// `lease_members`: who lives where.
    LeaseMembers,
    /// `lease_nights`: who holds which night, at what price.
    LeaseNights,
    /// `date_change_requests`: who asked whom for which night.
    DateChangeRequests,
}

/// A word that names no table of facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not one of {}", FactTable::NAMES.join(", "))]
pub struct UnknownFactTable {
    /// The word as given.
    pub name: String,
}

impl FactTable {
    /// Every table, parents before children.
    pub const ALL: &'static [Self] =
        &[Self::Profiles, Self::Leases, Self::LeaseMembers, Self::LeaseNights, Self::DateChangeRequests];
    /// Their names, in the same order.
    pub const NAMES: &'static [&'static str] =
        &["profiles", "leases", "lease_members", "lease_nights", "date_change_requests"];

    /// Gives the table's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Profiles => "profiles",
            Self::Leases => "leases",
            Self::LeaseMembers => "lease_members",
            Self::LeaseNights => "lease_nights",
            Self::DateChangeRequests => "date_change_requests",
        }
    }

    /// Lists the columns and whether each is required.
    pub const fn columns(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Profiles => {
                &[("id", true), ("role", false), ("personalization_opt_out", false), ("created_at", false)]
            }
            Self::Leases => &[("id", true), ("name", false), ("created_at", false)],
            Self::LeaseMembers => &[("lease_id", true), ("user_id", true)],
            Self::LeaseNights => &[
                ("lease_id", true),
                ("night", true),
                ("held_by", false),
                ("base_price", true),
                ("market_demand", false),
            ],
            Self::DateChangeRequests => &[
                ("id", true),
                ("lease_id", false),
                ("requester_id", true),
                ("receiver_id", true),
                ("transaction_type", true),
                ("target_night", true),
                ("offered_night", false),
                ("proposed_price", false),
                ("base_price", false),
                ("status", true),
                ("recommendation_id", false),
                ("created_at", true),
                ("responded_at", false),
            ],
        }
    }
}

impl fmt::Display for FactTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FactTable {
    type Err = UnknownFactTable;
    fn from_str(name: &str) -> Result<Self, UnknownFactTable> {
        Self::ALL
            .iter()
            .copied()
            .find(|table| table.as_str() == name)
            .ok_or_else(|| UnknownFactTable { name: name.chars().take(64).collect() })
    }
}

/// A row of `profiles`. What is `None` keeps its stored value, and gets the default in a new row: a file or a webhook
/// without the column `role` demotes nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRow {
    /// The user.
    pub id: UserId,
    /// The role; `member` by default.
    pub role: Option<ProfileRole>,
    /// Whether the user refuses personalization; no by default.
    pub personalization_opt_out: Option<bool>,
    /// When the profile was made; the time of receipt by default.
    pub created_at: Option<Timestamp>,
}

/// A row of `leases`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// The lease.
    pub id: EntityId,
    /// Its name.
    pub name: Option<String>,
    /// When it was made; `None` keeps the stored value, the time of receipt in a new row.
    pub created_at: Option<Timestamp>,
}

/// A row of `lease_members`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseMemberRow {
    /// The lease.
    pub lease_id: EntityId,
    /// The tenant.
    pub user_id: UserId,
}

/// A row of `lease_nights`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseNightRow {
    /// The lease.
    pub lease_id: EntityId,
    /// The night.
    pub night: Date,
    /// Who holds it.
    pub held_by: Option<UserId>,
    /// Base price in cents.
    pub base_price_cents: i64,
    /// Market demand in ten-thousandths; `None` keeps the stored value, 1.0 in a new row.
    pub demand_ten_thousandths: Option<i64>,
}

/// A row of `date_change_requests`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateChangeRequestRow {
    /// The request.
    pub id: EntityId,
    /// The lease.
    pub lease_id: Option<EntityId>,
    /// Who asks.
    pub requester_id: UserId,
    /// Who is asked.
    pub receiver_id: UserId,
    /// What is proposed.
    pub transaction_type: TransactionType,
    /// The night asked for.
    pub target_night: Date,
    /// The night offered in a swap.
    pub offered_night: Option<Date>,
    /// The price offered, in cents; none for a swap.
    pub proposed_price_cents: Option<i64>,
    /// The night's base price then, in cents.
    pub base_price_cents: Option<i64>,
    /// Where it stands.
    pub status: RequestStatus,
    /// The decision that led to it.
    pub recommendation_id: Option<Uuid>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was answered.
    pub responded_at: Option<Timestamp>,
}

/// What a row becomes over the one that it replaces: what it does not say keeps its stored value, or gets the default.
impl ProfileRow {
    pub(crate) fn merged(&self, old: Option<&Self>) -> Self {
        Self {
            id: self.id.clone(),
            role: self.role.or(old.and_then(|old| old.role)).or(Some(ProfileRole::Member)),
            personalization_opt_out: self
                .personalization_opt_out
                .or(old.and_then(|old| old.personalization_opt_out))
                .or(Some(false)),
            created_at: self.created_at.or(old.and_then(|old| old.created_at)).map(to_microsecond),
        }
    }
}

impl LeaseRow {
    pub(crate) fn merged(&self, old: Option<&Self>) -> Self {
        let created_at = self.created_at.or(old.and_then(|old| old.created_at)).map(to_microsecond);
        Self { created_at, ..self.clone() }
    }
}

impl LeaseNightRow {
    /// Demand of a night that does not say: 1.0.
    pub(crate) const DEFAULT_DEMAND: i64 = 10_000;

    pub(crate) fn merged(&self, old: Option<&Self>) -> Self {
        let stored = old.and_then(|old| old.demand_ten_thousandths);
        let demand = self.demand_ten_thousandths.or(stored).unwrap_or(Self::DEFAULT_DEMAND);
        Self { demand_ten_thousandths: Some(demand), ..self.clone() }
    }
}

impl DateChangeRequestRow {
    /// Gives the row with its times as they are stored.
    pub(crate) fn as_stored(&self) -> Self {
        Self {
            created_at: to_microsecond(self.created_at),
            responded_at: self.responded_at.map(to_microsecond),
            ..self.clone()
        }
    }
}

/// One row of a table of facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactRow {
    /// Of `profiles`.
    Profile(ProfileRow),
    /// Of `leases`.
    Lease(LeaseRow),
    /// Of `lease_members`.
    LeaseMember(LeaseMemberRow),
    /// Of `lease_nights`.
    LeaseNight(LeaseNightRow),
    /// Of `date_change_requests`.
    DateChangeRequest(DateChangeRequestRow),
}

/// What identifies a row of a table of facts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKey {
    /// Of `profiles`.
    Profile(UserId),
    /// Of `leases`.
    Lease(EntityId),
    /// Of `lease_members`.
    LeaseMember(EntityId, UserId),
    /// Of `lease_nights`.
    LeaseNight(EntityId, Date),
    /// Of `date_change_requests`.
    DateChangeRequest(EntityId),
}

/// A change of the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactChange {
    /// Inserts the row, or replaces the one of the same key.
    Upsert(FactRow),
    /// Deletes the row, if there is one.
    Delete(FactKey),
}

/// What became of a call with facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FactsApplied {
    /// Rows inserted or changed.
    pub upserted: usize,
    /// Rows deleted.
    pub deleted: usize,
    /// Changes that changed nothing.
    pub unchanged: usize,
    /// Outcome events that the requests told and that were not known yet.
    pub events_recorded: usize,
    /// Outcome events that contradict what is known, and were left out.
    pub event_conflicts: usize,
    /// Requests that name a decision which does not exist or is not the requester's.
    pub unknown_recommendations: usize,
    /// Users marked for recomputation.
    pub stale_users: usize,
}

/// Why a record is not a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct FieldError {
    /// The column.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FieldError {
    pub(crate) fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl FactRow {
    /// Reads a row from a record. Columns that are not known are ignored; JSON null and the empty string are absent.
    ///
    /// # Errors
    /// [`FieldError`] names the first column that is missing or bad, in the order of [`FactTable::columns`].
    pub fn from_json(table: FactTable, record: &Map<String, Value>) -> Result<Self, FieldError> {
        let record = Record(record);
        match table {
            FactTable::Profiles => record.profile().map(Self::Profile),
            FactTable::Leases => record.lease().map(Self::Lease),
            FactTable::LeaseMembers => record.lease_member().map(Self::LeaseMember),
            FactTable::LeaseNights => record.lease_night().map(Self::LeaseNight),
            FactTable::DateChangeRequests => record.date_change_request().map(Self::DateChangeRequest),
        }
    }

    pub(crate) fn as_profile(&self) -> Option<&ProfileRow> {
        if let Self::Profile(row) = self { Some(row) } else { None }
    }

    pub(crate) fn as_lease(&self) -> Option<&LeaseRow> {
        if let Self::Lease(row) = self { Some(row) } else { None }
    }

    pub(crate) fn as_lease_night(&self) -> Option<&LeaseNightRow> {
        if let Self::LeaseNight(row) = self { Some(row) } else { None }
    }

    /// Gives the table.
    pub fn table(&self) -> FactTable {
        match self {
            Self::Profile(_) => FactTable::Profiles,
            Self::Lease(_) => FactTable::Leases,
            Self::LeaseMember(_) => FactTable::LeaseMembers,
            Self::LeaseNight(_) => FactTable::LeaseNights,
            Self::DateChangeRequest(_) => FactTable::DateChangeRequests,
        }
    }

    /// Gives what identifies the row.
    pub fn key(&self) -> FactKey {
        match self {
            Self::Profile(row) => FactKey::Profile(row.id.clone()),
            Self::Lease(row) => FactKey::Lease(row.id.clone()),
            Self::LeaseMember(row) => FactKey::LeaseMember(row.lease_id.clone(), row.user_id.clone()),
            Self::LeaseNight(row) => FactKey::LeaseNight(row.lease_id.clone(), row.night),
            Self::DateChangeRequest(row) => FactKey::DateChangeRequest(row.id.clone()),
        }
    }
}

impl FactKey {
    /// Reads what identifies a row from a record; every other column is ignored.
    ///
    /// # Errors
    /// [`FieldError`] names the first column of the key that is missing or bad.
    pub fn from_json(table: FactTable, record: &Map<String, Value>) -> Result<Self, FieldError> {
        let record = Record(record);
        Ok(match table {
            FactTable::Profiles => Self::Profile(record.user("id")?),
            FactTable::Leases => Self::Lease(record.entity("id")?),
            FactTable::LeaseMembers => Self::LeaseMember(record.entity("lease_id")?, record.user("user_id")?),
            FactTable::LeaseNights => Self::LeaseNight(record.entity("lease_id")?, record.date("night")?),
            FactTable::DateChangeRequests => Self::DateChangeRequest(record.entity("id")?),
        })
    }

    /// Gives the table.
    pub fn table(&self) -> FactTable {
        match self {
            Self::Profile(_) => FactTable::Profiles,
            Self::Lease(_) => FactTable::Leases,
            Self::LeaseMember(..) => FactTable::LeaseMembers,
            Self::LeaseNight(..) => FactTable::LeaseNights,
            Self::DateChangeRequest(_) => FactTable::DateChangeRequests,
        }
    }
}
