//! The reads of leases and nights: what two people share on a date.

use jiff::ToSpan;
use jiff::civil::Date;
use nudge_engine::{EntityId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::convert::{Within, cents, date, demand, parsed, parsed_opt, statements, user};
use crate::error::StoreError;
use crate::record::{DatedNight, NightFacts, NightQuery, NightRow};

statements! {
    SELECT_MEMBERS = "SELECT user_id FROM lease_members WHERE lease_id = ?1 ORDER BY user_id";
    SELECT_LEASES = "SELECT lease_id FROM lease_members WHERE user_id = ?1 ORDER BY lease_id";
    SELECT_NIGHT = "SELECT held_by, base_price, market_demand FROM lease_nights WHERE lease_id = ?1 AND night = ?2";
    SELECT_NIGHTS = "SELECT held_by, base_price, market_demand, night FROM lease_nights
      WHERE lease_id = ?1 AND night BETWEEN ?2 AND ?3 ORDER BY night";
    COUNT_OFFERABLE = "SELECT count(*) FROM lease_nights
      WHERE lease_id = ?1 AND held_by = ?2 AND night BETWEEN ?3 AND ?4 AND night > ?5 AND night <> ?6";
}

const TABLE: &str = "lease_nights";
const MEMBERS: &str = "lease_members";

/// Lists the leases of a user, in ascending order.
pub(super) fn leases_of(conn: &Connection, user: &UserId) -> Result<Vec<EntityId>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_LEASES).within(MEMBERS)?;
    let leases =
        statement.query_map([user.as_str()], |row| parsed(row, 0, EntityId::parse)).within(MEMBERS)?;
    leases.collect::<Result<_, _>>().within(MEMBERS)
}

/// Lists the tenants of a lease, in ascending order.
pub(super) fn members_of(conn: &Connection, lease: &EntityId) -> Result<Vec<UserId>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_MEMBERS).within(MEMBERS)?;
    let members = statement.query_map([lease.as_str()], |row| user(row, 0)).within(MEMBERS)?;
    members.collect::<Result<_, _>>().within(MEMBERS)
}

/// Reads the night: of the shared leases the first that has it, else the first.
pub(super) fn load(conn: &Connection, query: &NightQuery<'_>) -> Result<NightFacts, StoreError> {
    let Some(first) = query.shared_leases.first() else { return Ok(NightFacts::default()) };
    let mut found = (first, None);
    for lease in query.shared_leases {
        if let Some(night) = night(conn, lease, query.target_date)? {
            found = (lease, Some(night));
            break;
        }
    }
    let (lease, night) = found;
    let offerable = offerable_nights(conn, query, lease)?;
    Ok(NightFacts { lease_id: Some(lease.clone()), night, offerable_nights: Some(offerable) })
}

fn night(conn: &Connection, lease: &EntityId, date: Date) -> Result<Option<NightRow>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_NIGHT).within(TABLE)?;
    statement.query_row((lease.as_str(), date.to_string()), night_row).optional().within(TABLE)
}

/// Reads the nights of a lease from a date to another, both included, by date.
pub(super) fn between(
    conn: &Connection,
    lease: &EntityId,
    first: Date,
    last: Date,
) -> Result<Vec<DatedNight>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_NIGHTS).within(TABLE)?;
    let rows = statement.query_map((lease.as_str(), first.to_string(), last.to_string()), |row| {
        Ok(DatedNight { night: date(row, 3)?, row: night_row(row)? })
    });
    rows.and_then(Iterator::collect).within(TABLE)
}

fn night_row(row: &Row<'_>) -> rusqlite::Result<NightRow> {
    Ok(NightRow {
        held_by: parsed_opt(row, 0, UserId::parse)?,
        base_price_cents: cents(row, 1)?,
        demand_ten_thousandths: demand(row, 2)?,
    })
}

fn offerable_nights(conn: &Connection, query: &NightQuery<'_>, lease: &EntityId) -> Result<u32, StoreError> {
    let target = query.target_date;
    let window = query.swap_window_days.clamp(0, 3_660).days();
    let first = target.checked_sub(window).unwrap_or(Date::MIN);
    let last = target.checked_add(window).unwrap_or(Date::MAX);
    let mut statement = conn.prepare_cached(COUNT_OFFERABLE).within(TABLE)?;
    let count = statement.query_row(
        params![
            lease.as_str(),
            query.requester.as_str(),
            first.to_string(),
            last.to_string(),
            query.today.to_string(),
            target.to_string()
        ],
        |row| row.get(0),
    );
    count.within(TABLE)
}
