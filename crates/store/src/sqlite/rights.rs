//! The reads on behalf of a caller: one statement for each table and scope, named columns, own rows by a condition in the
//! statement itself.

use nudge_engine::UserId;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde_json::{Map, Value};

use super::convert::Within;
use super::person;
use crate::error::StoreError;
use crate::record::ProfileRole;
use crate::rights::{Caller, Grade, RightsError, Scope, Verb, exposed, scope};

/// An exposed table: its statements take the caller (`?1`), a limit and an offset.
struct Exposed {
    name: &'static str,
    /// Columns that hold booleans.
    booleans: &'static [&'static str],
    /// Columns that hold JSON.
    json: &'static [&'static str],
    /// Every row.
    all: &'static str,
    /// The caller's own; `None` where no row belongs to anybody.
    own: Option<&'static str>,
}

/// Builds the statements of a table from its columns, its order and the condition of own rows.
macro_rules! table {
    ($name:literal, $columns:literal, $order:literal, own: $own:literal, $booleans:expr, $json:expr) => {
        Exposed {
            name: $name,
            booleans: &$booleans,
            json: &$json,
            all: concat!("SELECT ", $columns, " FROM ", $name, " ORDER BY ", $order, " LIMIT ?2 OFFSET ?3"),
            own: Some(concat!(
                "SELECT ",
                $columns,
                " FROM ",
                $name,
                " WHERE ",
                $own,
                " ORDER BY ",
                $order,
                " LIMIT ?2 OFFSET ?3"
            )),
        }
    };
    ($name:literal, $columns:literal, $order:literal, $json:expr) => {
        Exposed {
            name: $name,
            booleans: &[],
            json: &$json,
            all: concat!("SELECT ", $columns, " FROM ", $name, " ORDER BY ", $order, " LIMIT ?2 OFFSET ?3"),
            own: None,
        }
    };
}

const EXPOSED: &[Exposed] = &[
    table!(
        "user_archetypes",
        "user_id, archetype_type, confidence, signals, reasoning, scores, is_manual_override, override_reason,
         override_by, override_expires_at, policy, computed_at, created_at, updated_at",
        "user_id",
        own: "user_id = ?1",
        ["is_manual_override"],
        ["signals", "reasoning", "scores"]
    ),
    table!(
        "recommendation_logs",
        "id, user_id, roommate_id, lease_id, target_date, primary_recommendation, archetype_type,
         archetype_confidence, days_until_checkin, urgency_level, options, context, rule, policy, personalized,
         propensity, confidence, user_selected, time_to_decision_seconds, followed_recommendation,
         request_submitted, request_accepted, final_transaction_type, nps_score, session_id, user_agent,
         response_time_ms, experiment_id, experiment_variant, created_at",
        "id",
        own: "user_id = ?1 AND id IN (SELECT mine.id FROM nudge_decisions_of_users AS mine WHERE mine.user_id = ?1)",
        ["personalized", "followed_recommendation", "request_submitted", "request_accepted"],
        ["options", "context"]
    ),
    table!(
        "recommendation_events",
        "user_id, recommendation_id, event, occurrence, transaction_type, payload, occurred_at, recorded_at",
        "user_id, recommendation_id, event, occurrence",
        own: "user_id = ?1",
        [],
        ["payload"]
    ),
    table!(
        "admin_audit_log",
        "id, admin_id, actor_role, action, target_user_id, metadata, ip_address, user_agent, created_at, prev_hash,
         hash",
        "id",
        ["metadata"]
    ),
    table!(
        "archetype_job_logs",
        "id, job_type, status, processed_count, updated_count, failed_count, cursor, heartbeat_at, duration_ms,
         error_message, metadata, started_at, completed_at",
        "id",
        ["metadata"]
    ),
    table!(
        "edge_function_logs",
        "id, function_name, method, status, response_time_ms, user_id, request_id, error_code, created_at",
        "id",
        []
    ),
    table!(
        "profiles",
        "id, role, personalization_opt_out, created_at",
        "id",
        own: "id = ?1",
        ["personalization_opt_out"],
        []
    ),
    table!(
        "leases",
        "id, name, created_at",
        "id",
        own: "id IN (SELECT mine.lease_id FROM lease_members AS mine WHERE mine.user_id = ?1)",
        [],
        []
    ),
    table!(
        "lease_members",
        "lease_id, user_id",
        "lease_id, user_id",
        own: "lease_id IN (SELECT mine.lease_id FROM lease_members AS mine WHERE mine.user_id = ?1)",
        [],
        []
    ),
    table!(
        "lease_nights",
        "lease_id, night, held_by, base_price, market_demand",
        "lease_id, night",
        own: "lease_id IN (SELECT mine.lease_id FROM lease_members AS mine WHERE mine.user_id = ?1)",
        [],
        []
    ),
    table!(
        "date_change_requests",
        "id, lease_id, requester_id, receiver_id, transaction_type, target_night, offered_night, proposed_price,
         base_price, status, recommendation_id, created_at, responded_at",
        "id",
        own: "(requester_id = ?1 OR receiver_id = ?1)",
        [],
        []
    ),
];

/// Every statement of the module, by the name of its table.
#[cfg(test)]
pub(super) fn statements() -> impl Iterator<Item = (&'static str, &'static str)> {
    EXPOSED.iter().flat_map(|table| {
        std::iter::once((table.name, table.all)).chain(table.own.map(|own| (table.name, own)))
    })
}

/// Ranks a caller by the role that their profile gives them now.
pub(super) fn grade(conn: &Connection, caller: &Caller) -> Result<Grade, StoreError> {
    Ok(match caller {
        Caller::Anonymous => Grade::Anonymous,
        Caller::Service => Grade::Service,
        Caller::User(user) => match person::profile(conn, user)?.role {
            ProfileRole::Admin => Grade::Admin,
            ProfileRole::Member => Grade::Member,
        },
    })
}

/// Reads the rows of a table that a caller may see, in the order of its key.
pub(super) fn rows(
    conn: &Connection,
    caller: &Caller,
    table: &str,
    limit: usize,
    offset: usize,
) -> Result<Vec<Map<String, Value>>, RightsError> {
    let name = exposed(table)?;
    let Some(table) = EXPOSED.iter().find(|exposed| exposed.name == name) else {
        return Err(RightsError::UnknownTable { table: name.to_owned() });
    };
    let sql = match scope(grade(conn, caller)?, name, Verb::Select) {
        Scope::NoPrivilege => return Err(RightsError::Denied { table: name }),
        Scope::Nobody => return Ok(Vec::new()),
        Scope::Own => table.own.ok_or(RightsError::Denied { table: name })?,
        Scope::All => table.all,
    };
    let me = match caller {
        Caller::User(user) => Some(UserId::as_str(user)),
        Caller::Anonymous | Caller::Service => None,
    };
    let page = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let read = || {
        let mut statement = conn.prepare_cached(sql)?;
        let rows = statement.query_map((me, page(limit), page(offset)), |row| json_row(table, row))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    Ok(read().within(name)?)
}

fn json_row(table: &Exposed, row: &Row<'_>) -> rusqlite::Result<Map<String, Value>> {
    let names = row.as_ref().column_names();
    let mut object = Map::with_capacity(names.len());
    for (column, name) in names.into_iter().enumerate() {
        let value = match row.get_ref(column)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(flag) if table.booleans.contains(&name) => Value::Bool(flag != 0),
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => json_number(number),
            ValueRef::Text(text) if table.json.contains(&name) => {
                serde_json::from_slice(text).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(
                        column,
                        rusqlite::types::Type::Text,
                        error.into(),
                    )
                })?
            }
            ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
            ValueRef::Blob(_) => {
                return Err(rusqlite::Error::InvalidColumnType(
                    column,
                    name.to_owned(),
                    rusqlite::types::Type::Blob,
                ));
            }
        };
        object.insert(name.to_owned(), value);
    }
    Ok(object)
}

/// Writes a whole number without a fraction, as PostgreSQL's `numeric` prints it.
fn json_number(number: f64) -> Value {
    if number.fract().abs() < f64::MIN_POSITIVE && number.abs() < 9e15 {
        (number as i64).into()
    } else {
        number.into()
    }
}
