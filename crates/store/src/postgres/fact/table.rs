//! The statements of each table of facts: lock and read rows by their keys, insert, update, delete, all by the thousand.
//! They are of our own tables only.

use std::collections::BTreeSet;

use nudge_engine::{EntityId, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::error::StoreError;
use crate::fact::{
    DateChangeRequestRow, FactKey, FactRow, FactTable, LeaseMemberRow, LeaseNightRow, LeaseRow, ProfileRow,
};
use crate::postgres::convert::{
    At, Day, Statement, day, get, parsed, parsed_opt, statements, time, time_opt,
};
use crate::postgres::pool::Transaction;
use crate::record::ProfileRole;

statements! {
    LOCK_PROFILES [TEXT_ARRAY] = "SELECT id, role, personalization_opt_out, created_at FROM public.profiles
      WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
    INSERT_PROFILES [TEXT_ARRAY, TEXT_ARRAY, BOOL_ARRAY, TIMESTAMPTZ_ARRAY] =
      "INSERT INTO public.profiles (id, role, personalization_opt_out, created_at)
      SELECT v.id, v.role, v.out, v.created_at FROM unnest($1, $2, $3, $4) AS v (id, role, out, created_at)
      ON CONFLICT (id) DO NOTHING";
    UPDATE_PROFILES [TEXT_ARRAY, TEXT_ARRAY, BOOL_ARRAY, TIMESTAMPTZ_ARRAY] =
      "UPDATE public.profiles AS p SET role = v.role, personalization_opt_out = v.out, created_at = v.created_at
      FROM unnest($1, $2, $3, $4) AS v (id, role, out, created_at) WHERE p.id = v.id";
    DELETE_PROFILES [TEXT_ARRAY] = "DELETE FROM public.profiles WHERE id = ANY ($1)";

    LOCK_LEASES [TEXT_ARRAY] = "SELECT id, name, created_at FROM public.leases
      WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
    INSERT_LEASES [TEXT_ARRAY, TEXT_ARRAY, TIMESTAMPTZ_ARRAY] = "INSERT INTO public.leases (id, name, created_at)
      SELECT v.id, v.name, v.created_at FROM unnest($1, $2, $3) AS v (id, name, created_at)
      ON CONFLICT (id) DO NOTHING";
    UPDATE_LEASES [TEXT_ARRAY, TEXT_ARRAY, TIMESTAMPTZ_ARRAY] =
      "UPDATE public.leases AS l SET name = v.name, created_at = v.created_at
      FROM unnest($1, $2, $3) AS v (id, name, created_at) WHERE l.id = v.id";
    DELETE_LEASES [TEXT_ARRAY] = "DELETE FROM public.leases WHERE id = ANY ($1)";

    LOCK_MEMBERS [TEXT_ARRAY, TEXT_ARRAY] = "SELECT m.lease_id, m.user_id FROM public.lease_members AS m
      JOIN unnest($1, $2) AS v (lease_id, user_id) ON m.lease_id = v.lease_id AND m.user_id = v.user_id
      ORDER BY m.lease_id, m.user_id FOR UPDATE OF m";
    INSERT_MEMBERS [TEXT_ARRAY, TEXT_ARRAY] = "INSERT INTO public.lease_members (lease_id, user_id)
      SELECT v.lease_id, v.user_id FROM unnest($1, $2) AS v (lease_id, user_id)
      ON CONFLICT (lease_id, user_id) DO NOTHING";
    DELETE_MEMBERS [TEXT_ARRAY, TEXT_ARRAY] = "DELETE FROM public.lease_members AS m
      USING unnest($1, $2) AS v (lease_id, user_id) WHERE m.lease_id = v.lease_id AND m.user_id = v.user_id";

    LOCK_NIGHTS [TEXT_ARRAY, DATE_ARRAY] = "SELECT n.lease_id, n.night, n.held_by, round(n.base_price * 100)::bigint,
        round(n.market_demand * 10000)::bigint
      FROM public.lease_nights AS n
      JOIN unnest($1, $2) AS v (lease_id, night) ON n.lease_id = v.lease_id AND n.night = v.night
      ORDER BY n.lease_id, n.night FOR UPDATE OF n";
    INSERT_NIGHTS [TEXT_ARRAY, DATE_ARRAY, TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY] =
      "INSERT INTO public.lease_nights (lease_id, night, held_by, base_price, market_demand)
      SELECT v.lease_id, v.night, v.held_by, v.cents::numeric / 100, v.demand::numeric / 10000
      FROM unnest($1, $2, $3, $4, $5) AS v (lease_id, night, held_by, cents, demand)
      ON CONFLICT (lease_id, night) DO NOTHING";
    UPDATE_NIGHTS [TEXT_ARRAY, DATE_ARRAY, TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY] =
      "UPDATE public.lease_nights AS n SET held_by = v.held_by, base_price = v.cents::numeric / 100,
        market_demand = v.demand::numeric / 10000
      FROM unnest($1, $2, $3, $4, $5) AS v (lease_id, night, held_by, cents, demand)
      WHERE n.lease_id = v.lease_id AND n.night = v.night";
    DELETE_NIGHTS [TEXT_ARRAY, DATE_ARRAY] = "DELETE FROM public.lease_nights AS n
      USING unnest($1, $2) AS v (lease_id, night) WHERE n.lease_id = v.lease_id AND n.night = v.night";

    LOCK_REQUESTS [TEXT_ARRAY] = "SELECT id, lease_id, requester_id, receiver_id, transaction_type, target_night,
        offered_night, round(proposed_price * 100)::bigint, round(base_price * 100)::bigint, status, recommendation_id,
        created_at, responded_at
      FROM public.date_change_requests WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
    INSERT_REQUESTS [TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, DATE_ARRAY, DATE_ARRAY, INT8_ARRAY,
      INT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TIMESTAMPTZ_ARRAY, TIMESTAMPTZ_ARRAY] =
      "INSERT INTO public.date_change_requests (id, lease_id, requester_id, receiver_id, transaction_type, target_night,
        offered_night, proposed_price, base_price, status, recommendation_id, created_at, responded_at)
      SELECT v.id, v.lease_id, v.requester_id, v.receiver_id, v.transaction_type, v.target_night, v.offered_night,
        v.proposed::numeric / 100, v.base::numeric / 100, v.status, v.recommendation_id, v.created_at, v.responded_at
      FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        AS v (id, lease_id, requester_id, receiver_id, transaction_type, target_night, offered_night, proposed, base,
          status, recommendation_id, created_at, responded_at)
      ON CONFLICT (id) DO NOTHING";
    UPDATE_REQUESTS [TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, DATE_ARRAY, DATE_ARRAY, INT8_ARRAY,
      INT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TIMESTAMPTZ_ARRAY, TIMESTAMPTZ_ARRAY] =
      "UPDATE public.date_change_requests AS r SET lease_id = v.lease_id, requester_id = v.requester_id,
        receiver_id = v.receiver_id, transaction_type = v.transaction_type, target_night = v.target_night,
        offered_night = v.offered_night, proposed_price = v.proposed::numeric / 100, base_price = v.base::numeric / 100,
        status = v.status, recommendation_id = v.recommendation_id, created_at = v.created_at,
        responded_at = v.responded_at
      FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        AS v (id, lease_id, requester_id, receiver_id, transaction_type, target_night, offered_night, proposed, base,
          status, recommendation_id, created_at, responded_at)
      WHERE r.id = v.id";
    DELETE_REQUESTS [TEXT_ARRAY] = "DELETE FROM public.date_change_requests WHERE id = ANY ($1)";
}

/// Columns of a statement, one list each.
struct Lists(Vec<Box<dyn ToSql + Sync + Send>>);

impl Lists {
    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|list| -> &(dyn ToSql + Sync) { &**list }).collect()
    }
}

/// Makes a list of every row's value.
macro_rules! lists {
    ($rows:expr, $($row:ident => $value:expr),+ $(,)?) => {
        Lists(vec![$(Box::new($rows.iter().map(|$row| $value).collect::<Vec<_>>())),+])
    };
}

/// Reads a row of a table.
type Read = fn(&Row) -> Result<FactRow, StoreError>;

/// Reads and locks the rows that are there.
pub(super) async fn lock(
    transaction: &Transaction<'_>,
    table: FactTable,
    keys: &BTreeSet<FactKey>,
) -> Result<Vec<FactRow>, StoreError> {
    let (statement, read): (&'static Statement, Read) = match table {
        FactTable::Profiles => (&LOCK_PROFILES, profile),
        FactTable::Leases => (&LOCK_LEASES, lease),
        FactTable::LeaseMembers => (&LOCK_MEMBERS, member),
        FactTable::LeaseNights => (&LOCK_NIGHTS, night),
        FactTable::DateChangeRequests => (&LOCK_REQUESTS, request),
    };
    let keys: Vec<&FactKey> = keys.iter().collect();
    let rows = transaction.query(table.as_str(), statement, &key_lists(&keys).values()).await?;
    rows.iter().map(read).collect()
}

/// Deletes rows that are locked.
pub(super) async fn delete(
    transaction: &Transaction<'_>,
    table: FactTable,
    keys: &[&FactKey],
) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let statement = match table {
        FactTable::Profiles => &DELETE_PROFILES,
        FactTable::Leases => &DELETE_LEASES,
        FactTable::LeaseMembers => &DELETE_MEMBERS,
        FactTable::LeaseNights => &DELETE_NIGHTS,
        FactTable::DateChangeRequests => &DELETE_REQUESTS,
    };
    transaction.execute(table.as_str(), statement, &key_lists(keys).values()).await.map(drop)
}

/// Inserts rows that were not there when they were locked; fewer than given means that others were faster.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    table: FactTable,
    rows: &[&FactRow],
) -> Result<u64, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let statement = match table {
        FactTable::Profiles => &INSERT_PROFILES,
        FactTable::Leases => &INSERT_LEASES,
        FactTable::LeaseMembers => &INSERT_MEMBERS,
        FactTable::LeaseNights => &INSERT_NIGHTS,
        FactTable::DateChangeRequests => &INSERT_REQUESTS,
    };
    transaction.execute(table.as_str(), statement, &row_lists(table, rows).values()).await
}

/// Updates rows that are locked. A membership is nothing but its key.
pub(super) async fn update(
    transaction: &Transaction<'_>,
    table: FactTable,
    rows: &[&FactRow],
) -> Result<(), StoreError> {
    let statement = match table {
        _ if rows.is_empty() => return Ok(()),
        FactTable::LeaseMembers => return Ok(()),
        FactTable::Profiles => &UPDATE_PROFILES,
        FactTable::Leases => &UPDATE_LEASES,
        FactTable::LeaseNights => &UPDATE_NIGHTS,
        FactTable::DateChangeRequests => &UPDATE_REQUESTS,
    };
    transaction.execute(table.as_str(), statement, &row_lists(table, rows).values()).await.map(drop)
}

/// Takes keys, all of one table, apart into columns.
fn key_lists(keys: &[&FactKey]) -> Lists {
    let (mut first, mut users, mut nights) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        match key {
            FactKey::Profile(id) => first.push(id.as_str().to_owned()),
            FactKey::Lease(id) | FactKey::DateChangeRequest(id) => first.push(id.as_str().to_owned()),
            FactKey::LeaseMember(lease, user) => {
                first.push(lease.as_str().to_owned());
                users.push(user.as_str().to_owned());
            }
            FactKey::LeaseNight(lease, night) => {
                first.push(lease.as_str().to_owned());
                nights.push(Day(*night));
            }
        }
    }
    let mut lists: Vec<Box<dyn ToSql + Sync + Send>> = vec![Box::new(first)];
    if !users.is_empty() {
        lists.push(Box::new(users));
    }
    if !nights.is_empty() {
        lists.push(Box::new(nights));
    }
    Lists(lists)
}

/// Takes rows, all of one table, apart into columns.
fn row_lists(table: FactTable, rows: &[&FactRow]) -> Lists {
    match table {
        FactTable::Profiles => profile_lists(&of(rows, FactRow::as_profile)),
        FactTable::Leases => {
            let rows = of(rows, FactRow::as_lease);
            lists!(
                rows,
                row => row.id.as_str().to_owned(),
                row => row.name.clone(),
                row => row.created_at.map(At),
            )
        }
        FactTable::LeaseMembers => {
            let rows = of(rows, |row| if let FactRow::LeaseMember(row) = row { Some(row) } else { None });
            lists!(rows, row => row.lease_id.as_str().to_owned(), row => row.user_id.as_str().to_owned())
        }
        FactTable::LeaseNights => {
            let rows = of(rows, FactRow::as_lease_night);
            lists!(
                rows,
                row => row.lease_id.as_str().to_owned(),
                row => Day(row.night),
                row => row.held_by.as_ref().map(|user| user.as_str().to_owned()),
                row => row.base_price_cents,
                row => row.demand_ten_thousandths,
            )
        }
        FactTable::DateChangeRequests => {
            request_lists(&of(
                rows,
                |row| {
                    if let FactRow::DateChangeRequest(row) = row { Some(row) } else { None }
                },
            ))
        }
    }
}

fn of<'a, T>(rows: &[&'a FactRow], pick: impl Fn(&'a FactRow) -> Option<&'a T>) -> Vec<&'a T> {
    rows.iter().filter_map(|row| pick(row)).collect()
}

fn profile_lists(rows: &[&ProfileRow]) -> Lists {
    lists!(
        rows,
        row => row.id.as_str().to_owned(),
        row => if row.role == Some(ProfileRole::Admin) { "admin" } else { "member" },
        row => row.personalization_opt_out == Some(true),
        row => row.created_at.map(At),
    )
}

fn request_lists(rows: &[&DateChangeRequestRow]) -> Lists {
    lists!(
        rows,
        row => row.id.as_str().to_owned(),
        row => row.lease_id.as_ref().map(|id| id.as_str().to_owned()),
        row => row.requester_id.as_str().to_owned(),
        row => row.receiver_id.as_str().to_owned(),
        row => row.transaction_type.as_str(),
        row => Day(row.target_night),
        row => row.offered_night.map(Day),
        row => row.proposed_price_cents,
        row => row.base_price_cents,
        row => row.status.as_str(),
        row => row.recommendation_id.map(|id| id.hyphenated().to_string()),
        row => At(row.created_at),
        row => row.responded_at.map(At),
    )
}

fn profile(row: &Row) -> Result<FactRow, StoreError> {
    let table = "profiles";
    let role = if get::<&str>(row, 1, table)? == "admin" { ProfileRole::Admin } else { ProfileRole::Member };
    Ok(FactRow::Profile(ProfileRow {
        id: parsed(row, 0, table, UserId::parse)?,
        role: Some(role),
        personalization_opt_out: get(row, 2, table)?,
        created_at: time_opt(row, 3, table)?,
    }))
}

fn lease(row: &Row) -> Result<FactRow, StoreError> {
    let table = "leases";
    Ok(FactRow::Lease(LeaseRow {
        id: parsed(row, 0, table, EntityId::parse)?,
        name: get(row, 1, table)?,
        created_at: time_opt(row, 2, table)?,
    }))
}

fn member(row: &Row) -> Result<FactRow, StoreError> {
    let table = "lease_members";
    Ok(FactRow::LeaseMember(LeaseMemberRow {
        lease_id: parsed(row, 0, table, EntityId::parse)?,
        user_id: parsed(row, 1, table, UserId::parse)?,
    }))
}

fn night(row: &Row) -> Result<FactRow, StoreError> {
    let table = "lease_nights";
    Ok(FactRow::LeaseNight(LeaseNightRow {
        lease_id: parsed(row, 0, table, EntityId::parse)?,
        night: day(row, 1, table)?,
        held_by: parsed_opt(row, 2, table, UserId::parse)?,
        base_price_cents: get(row, 3, table)?,
        demand_ten_thousandths: get(row, 4, table)?,
    }))
}

fn request(row: &Row) -> Result<FactRow, StoreError> {
    let table = "date_change_requests";
    Ok(FactRow::DateChangeRequest(DateChangeRequestRow {
        id: parsed(row, 0, table, EntityId::parse)?,
        lease_id: parsed_opt(row, 1, table, EntityId::parse)?,
        requester_id: parsed(row, 2, table, UserId::parse)?,
        receiver_id: parsed(row, 3, table, UserId::parse)?,
        transaction_type: parsed(row, 4, table, str::parse)?,
        target_night: day(row, 5, table)?,
        offered_night: get::<Option<Day>>(row, 6, table)?.map(|day| day.0),
        proposed_price_cents: get(row, 7, table)?,
        base_price_cents: get(row, 8, table)?,
        status: parsed(row, 9, table, str::parse)?,
        recommendation_id: parsed_opt(row, 10, table, Uuid::try_parse)?,
        created_at: time(row, 11, table)?,
        responded_at: time_opt(row, 12, table)?,
    }))
}
