//! The reads on behalf of a caller: one transaction that takes the caller's role and claims on, so that the grants and the
//! policies of the database decide.
//!
//! For a user who is no admin the condition of own rows is added to the statement, beside the policy that stays in force:
//! a policy that lets admins see everything cannot use an index.

use nudge_engine::UserId;
use serde_json::{Map, Value, json};
use tokio_postgres::error::SqlState;

use super::convert::{Doing, get, statements, store_error};
use super::lanes::Lanes;
use super::person;
use super::pool::{Pool, Transaction};
use super::source::Sources;
use crate::error::StoreError;
use crate::fact::FactTable;
use crate::record::ProfileRole;
use crate::rights::{Caller, Grade, RightsError, Scope, Verb, exposed, scope};

statements! {
    /// Takes a caller on for the transaction: role, claims, longest time of a statement.
    TAKE_ON [TEXT, TEXT, TEXT] = "SELECT pg_catalog.set_config('role', $1, true),
      pg_catalog.set_config('request.jwt.claims', $2, true), pg_catalog.set_config('statement_timeout', $3, true)";
}

/// Longest time of a statement, in milliseconds, by role: callers must not starve the service.
const ANONYMOUS_MILLIS: &str = "3000";
const USER_MILLIS: &str = "8000";

/// A table's statements: they take a limit ($1) and an offset ($2), that of own rows also the caller ($3).
struct Exposed {
    name: &'static str,
    all: super::convert::Statement,
    own: Option<super::convert::Statement>,
}

/// Builds the statements of a table from its columns, its order and the condition of own rows. Times and days are
/// written as the other engine keeps them.
macro_rules! table {
    ($name:literal, $columns:literal, $order:literal $(, own: $own:literal)?) => {
        Exposed {
            name: $name,
            all: super::convert::Statement {
                name: $name,
                sql: concat!("SELECT to_json(t)::text FROM (SELECT ", $columns, " FROM public.", $name, " ORDER BY ",
                    $order, " LIMIT $1 OFFSET $2) AS t"),
                types: &[tokio_postgres::types::Type::INT8, tokio_postgres::types::Type::INT8],
            },
            own: table!(@own $name, $columns, $order $(, $own)?),
        }
    };
    (@own $name:literal, $columns:literal, $order:literal) => { None };
    (@own $name:literal, $columns:literal, $order:literal, $own:literal) => {
        Some(super::convert::Statement {
            name: $name,
            sql: concat!("SELECT to_json(t)::text FROM (SELECT ", $columns, " FROM public.", $name, " WHERE ", $own,
                " ORDER BY ", $order, " LIMIT $1 OFFSET $2) AS t"),
            types: &[tokio_postgres::types::Type::INT8, tokio_postgres::types::Type::INT8,
                tokio_postgres::types::Type::TEXT],
        })
    };
}

static EXPOSED: &[Exposed] = &[
    table!(
        "user_archetypes",
        "user_id, archetype_type, confidence, signals, reasoning, scores, is_manual_override, override_reason,
         override_by, override_expires_at, policy, computed_at, created_at, updated_at",
        "user_id",
        own: "user_id = $3"
    ),
    table!(
        "recommendation_logs",
        "id, user_id, roommate_id, lease_id, target_date, primary_recommendation, archetype_type,
         archetype_confidence, days_until_checkin, urgency_level, options, context, rule, policy, personalized,
         propensity, confidence, user_selected, time_to_decision_seconds, followed_recommendation,
         request_submitted, request_accepted, final_transaction_type, nps_score, session_id, user_agent,
         response_time_ms, experiment_id, experiment_variant, created_at",
        "id",
        own: "user_id = $3"
    ),
    table!(
        "recommendation_events",
        "user_id, recommendation_id, event, occurrence, transaction_type, payload, occurred_at, recorded_at",
        "user_id, recommendation_id, event, occurrence",
        own: "user_id = $3"
    ),
    table!(
        "admin_audit_log",
        "id, admin_id, actor_role, action, target_user_id, metadata, ip_address, user_agent, created_at, prev_hash,
         hash",
        "id"
    ),
    table!(
        "archetype_job_logs",
        "id, job_type, status, processed_count, updated_count, failed_count, cursor, heartbeat_at, duration_ms,
         error_message, metadata, started_at, completed_at",
        "id"
    ),
    table!(
        "edge_function_logs",
        "id, function_name, method, status, response_time_ms, user_id, request_id, error_code, created_at",
        "id"
    ),
    table!("profiles", "id, role, personalization_opt_out, created_at", "id", own: "id = $3"),
    table!("leases", "id, name, created_at", "id", own: "id = ANY ((SELECT private.my_leases())::text[])
      AND $3 IS NOT NULL"),
    table!("lease_members", "lease_id, user_id", "lease_id, user_id",
        own: "lease_id = ANY ((SELECT private.my_leases())::text[]) AND $3 IS NOT NULL"),
    table!("lease_nights", "lease_id, night, held_by, base_price, market_demand", "lease_id, night",
        own: "lease_id = ANY ((SELECT private.my_leases())::text[]) AND $3 IS NOT NULL"),
    table!(
        "date_change_requests",
        "id, lease_id, requester_id, receiver_id, transaction_type, target_night, offered_night, proposed_price,
         base_price, status, recommendation_id, created_at, responded_at",
        "id",
        own: "(requester_id = $3 OR receiver_id = $3)"
    ),
];

/// Every statement of the tables.
#[cfg(test)]
pub(super) fn statements() -> impl Iterator<Item = &'static super::convert::Statement> {
    EXPOSED.iter().flat_map(|table| std::iter::once(&table.all).chain(&table.own))
}

/// Ranks a caller by the role that their profile gives them now.
pub(super) async fn grade(lanes: &Lanes, caller: &Caller) -> Result<Grade, StoreError> {
    Ok(match caller {
        Caller::Anonymous => Grade::Anonymous,
        Caller::Service => Grade::Service,
        Caller::User(user) => match person::profile(lanes, user).await?.role {
            ProfileRole::Admin => Grade::Admin,
            ProfileRole::Member => Grade::Member,
        },
    })
}

/// Takes a caller on for the rest of a transaction. The roles are these three and no other.
pub(super) async fn take_on(transaction: &Transaction<'_>, caller: &Caller) -> Result<(), StoreError> {
    let (role, claims, millis) = match caller {
        Caller::Anonymous => ("anon", json!({ "role": "anon" }), ANONYMOUS_MILLIS),
        Caller::User(user) => {
            ("authenticated", json!({ "role": "authenticated", "sub": user.as_str() }), USER_MILLIS)
        }
        Caller::Service => ("service_role", json!({ "role": "service_role" }), USER_MILLIS),
    };
    transaction.query("pg_roles", &TAKE_ON, &[&role, &claims.to_string(), &millis]).await.map(drop)
}

/// Reads the rows of a table that a caller may see, in the order of its key.
pub(super) async fn rows(
    lanes: &Lanes,
    pool: &Pool,
    sources: Sources,
    caller: &Caller,
    table: &str,
    (limit, offset): (usize, usize),
) -> Result<Vec<Map<String, Value>>, RightsError> {
    let name = exposed(table)?;
    let Some(table) = EXPOSED.iter().find(|exposed| exposed.name == name) else {
        return Err(RightsError::UnknownTable { table: name.to_owned() });
    };
    if let Ok(fact) = name.parse::<FactTable>()
        && !sources.is_own(fact)
    {
        // The app's own table is not ours to show.
        return Err(RightsError::UnknownTable { table: name.to_owned() });
    }
    let own = matches!(scope(grade(lanes, caller).await?, name, Verb::Select), Scope::Own);
    let me = match caller {
        Caller::User(user) if own => Some(UserId::as_str(user)),
        Caller::User(_) | Caller::Anonymous | Caller::Service => None,
    };
    let transaction = pool.begin_reading().await?;
    take_on(&transaction, caller).await?;
    let page = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let (limit, offset) = (page(limit), page(offset));
    let result = match (&table.own, &me) {
        (Some(own), Some(me)) => transaction.attempt(own, &[&limit, &offset, me]).await?,
        _ => transaction.attempt(&table.all, &[&limit, &offset]).await?,
    };
    transaction.rollback().await;
    let rows = match result {
        Ok(rows) => rows,
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Err(RightsError::Denied { table: name });
        }
        Err(error) => return Err(store_error(&error, name, Doing::Reading).into()),
    };
    rows.iter()
        .map(|row| {
            let text: &str = get(row, 0, name)?;
            let unreadable = |error: serde_json::Error| StoreError::Inconsistent {
                table: name,
                detail: error.to_string(),
            };
            Ok(serde_json::from_str(text).map_err(unreadable)?)
        })
        .collect()
}
