//! The read of a night: what two people share on a date.

use jiff::ToSpan;
use jiff::civil::Date;
use nudge_engine::{EntityId, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use super::convert::{Within, cents, demand, parsed, parsed_opt, statements};
use crate::error::StoreError;
use crate::record::{NightFacts, NightQuery, NightRow};

statements! {
    /// Of the leases that both share, the lowest with a night on the date, else the lowest.
    SELECT_NIGHT = "SELECT mine.lease_id, night.held_by, night.base_price, night.market_demand
      FROM lease_members AS mine
      JOIN lease_members AS theirs ON theirs.lease_id = mine.lease_id AND theirs.user_id = ?2
      LEFT JOIN lease_nights AS night ON night.lease_id = mine.lease_id AND night.night = ?3
      WHERE mine.user_id = ?1
      ORDER BY night.lease_id IS NULL, mine.lease_id
      LIMIT 1";
    COUNT_OFFERABLE = "SELECT count(*) FROM lease_nights
      WHERE lease_id = ?1 AND held_by = ?2 AND night BETWEEN ?3 AND ?4 AND night > ?5 AND night <> ?6";
}

const TABLE: &str = "lease_nights";

/// Reads what the two share on the night.
pub(super) fn load(conn: &Connection, query: &NightQuery<'_>) -> Result<NightFacts, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_NIGHT).within(TABLE)?;
    let key = (query.requester.as_str(), query.roommate.as_str(), query.target_date.to_string());
    let found = statement
        .query_row(key, |row| {
            let lease_id = parsed(row, 0, EntityId::parse)?;
            let night = match row.get::<_, Option<f64>>(2)? {
                None => None,
                Some(_) => Some(NightRow {
                    held_by: parsed_opt(row, 1, UserId::parse)?,
                    base_price_cents: cents(row, 2)?,
                    demand_ten_thousandths: demand(row, 3)?,
                }),
            };
            Ok((lease_id, night))
        })
        .optional()
        .within(TABLE)?;
    let Some((lease_id, night)) = found else { return Ok(NightFacts::default()) };
    let offerable = offerable_nights(conn, query, &lease_id)?;
    Ok(NightFacts { lease_id: Some(lease_id), night, offerable_nights: Some(offerable) })
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
