//! Who a caller is to the database: one of three roles, with claims; and which rows are their own.

use serde_json::json;

use super::lanes::Lanes;
use super::person;
use crate::error::StoreError;
use crate::record::ProfileRole;
use crate::rights::{Caller, Grade};

/// The condition of own rows, by table; `$1` is the caller. It stands beside the policy, which no index helps with because
/// it lets admins see everything.
const OWN: &[(&str, &str)] = &[
    ("user_archetypes", "user_id = $1"),
    ("recommendation_logs", "user_id = $1"),
    ("recommendation_events", "user_id = $1"),
    ("profiles", "id = $1"),
    ("leases", "id = ANY ((SELECT private.my_leases())::pg_catalog.text[])"),
    ("lease_members", "lease_id = ANY ((SELECT private.my_leases())::pg_catalog.text[])"),
    ("lease_nights", "lease_id = ANY ((SELECT private.my_leases())::pg_catalog.text[])"),
    ("date_change_requests", "(requester_id = $1 OR receiver_id = $1)"),
];

/// Gives the condition of own rows of a table, if rows of it belong to people.
pub(super) fn own(table: &str) -> Option<&'static str> {
    OWN.iter().find(|(name, _)| *name == table).map(|(_, condition)| *condition)
}

/// Gives the role that a caller has in the database. There are these three and no other.
pub(super) const fn role(caller: &Caller) -> &'static str {
    match caller {
        Caller::Anonymous => "anon",
        Caller::User(_) => "authenticated",
        Caller::Service => "service_role",
    }
}

/// Gives the claims that policies look at.
pub(super) fn claims(caller: &Caller) -> String {
    let role = role(caller);
    match caller {
        Caller::User(user) => json!({ "role": role, "sub": user.as_str() }),
        Caller::Anonymous | Caller::Service => json!({ "role": role }),
    }
    .to_string()
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
