//! The reads of leases and nights: what two people share on a date.

use std::collections::BTreeSet;

use jiff::ToSpan;
use jiff::civil::Date;
use nudge_engine::{EntityId, UserId};

use super::convert::{Day, day, get, parsed, parsed_opt, statements, unavailable};
use super::lanes::Lanes;
use super::pool::Transaction;
use crate::error::StoreError;
use crate::record::{DatedNight, NightFacts, NightQuery, NightRow};

statements! {
    SELECT_LEASES [TEXT] = "SELECT DISTINCT lease_id FROM nudge.lease_members WHERE user_id = $1 ORDER BY lease_id";
    /// Of the shared leases ($1, ascending) the first that has the night ($2), else the first ($3). $4: the requester.
    /// $5 and $6: the days around. $7: today.
    SELECT_NIGHT [TEXT_ARRAY, DATE, TEXT, TEXT, DATE, DATE, DATE] = "SELECT n.lease_id, n.held_by,
        round(n.base_price * 100)::bigint, round(n.market_demand * 10000)::bigint,
        (SELECT count(*) FROM nudge.lease_nights AS o
          WHERE o.lease_id = coalesce(n.lease_id, $3) AND o.held_by = $4 AND o.night BETWEEN $5 AND $6
            AND o.night > $7 AND o.night <> $2)
      FROM (VALUES (true)) AS always (one)
      LEFT JOIN (
        SELECT f.lease_id, f.held_by, f.base_price, f.market_demand FROM nudge.lease_nights AS f
        WHERE f.lease_id = ANY ($1) AND f.night = $2 ORDER BY f.lease_id LIMIT 1
      ) AS n ON true";
    SELECT_NIGHTS [TEXT, DATE, DATE] = "SELECT night, held_by, round(base_price * 100)::bigint,
        round(market_demand * 10000)::bigint
      FROM nudge.lease_nights WHERE lease_id = $1 AND night BETWEEN $2 AND $3 ORDER BY night";
    SELECT_MEMBERS [TEXT_ARRAY] = "SELECT DISTINCT user_id FROM nudge.lease_members
      WHERE lease_id = ANY ($1) ORDER BY user_id";
}

const TABLE: &str = "lease_nights";
const MEMBERS: &str = "lease_members";

/// Lists the leases of a user, in ascending order.
pub(super) async fn leases_of(lanes: &Lanes, user: &UserId) -> Result<Vec<EntityId>, StoreError> {
    let rows = lanes.query(MEMBERS, &SELECT_LEASES, &[&user.as_str()]).await?;
    rows.iter().map(|row| parsed(row, 0, MEMBERS, EntityId::parse)).collect()
}

/// Lists the tenants of leases, in ascending order.
pub(super) async fn members_of(
    transaction: &Transaction<'_>,
    leases: &BTreeSet<EntityId>,
) -> Result<Vec<UserId>, StoreError> {
    let leases: Vec<&str> = leases.iter().map(EntityId::as_str).collect();
    let rows = transaction.query(MEMBERS, &SELECT_MEMBERS, &[&leases]).await?;
    rows.iter().map(|row| parsed(row, 0, MEMBERS, UserId::parse)).collect()
}

/// Reads the nights of a lease from a date to another, both included, by date.
pub(super) async fn between(
    lanes: &Lanes,
    lease: &EntityId,
    first: Date,
    last: Date,
) -> Result<Vec<DatedNight>, StoreError> {
    let rows = lanes.query(TABLE, &SELECT_NIGHTS, &[&lease.as_str(), &Day(first), &Day(last)]).await?;
    let dated = |row| {
        Ok(DatedNight {
            night: day(row, 0, TABLE)?,
            row: NightRow {
                held_by: parsed_opt(row, 1, TABLE, UserId::parse)?,
                base_price_cents: get(row, 2, TABLE)?,
                demand_ten_thousandths: get(row, 3, TABLE)?,
            },
        })
    };
    rows.iter().map(dated).collect()
}

/// Reads the night, in one statement.
pub(super) async fn load(lanes: &Lanes, query: &NightQuery<'_>) -> Result<NightFacts, StoreError> {
    let Some(first) = query.shared_leases.first() else { return Ok(NightFacts::default()) };
    let shared: Vec<&str> = query.shared_leases.iter().map(EntityId::as_str).collect();
    let target = query.target_date;
    let window = query.swap_window_days.clamp(0, 3_660).days();
    let around =
        (target.checked_sub(window).unwrap_or(Date::MIN), target.checked_add(window).unwrap_or(Date::MAX));
    let rows = lanes
        .query(
            TABLE,
            &SELECT_NIGHT,
            &[
                &shared,
                &Day(target),
                &first.as_str(),
                &query.requester.as_str(),
                &Day(around.0),
                &Day(around.1),
                &Day(query.today),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(|| unavailable("the read of a night gave no row"))?;
    let found = parsed_opt(row, 0, TABLE, EntityId::parse)?;
    let night = match &found {
        Some(_) => Some(NightRow {
            held_by: parsed_opt(row, 1, TABLE, UserId::parse)?,
            base_price_cents: get(row, 2, TABLE)?,
            demand_ten_thousandths: get(row, 3, TABLE)?,
        }),
        None => None,
    };
    let offerable = u32::try_from(get::<i64>(row, 4, TABLE)?).unwrap_or(u32::MAX);
    Ok(NightFacts {
        lease_id: Some(found.unwrap_or_else(|| first.clone())),
        night,
        offerable_nights: Some(offerable),
    })
}
