//! Who a caller is, and which rows are their own.

use rusqlite::Connection;

use super::person;
use crate::error::StoreError;
use crate::record::ProfileRole;
use crate::rights::{Caller, Grade};

/// The condition of own rows, by table: `?1` is the caller.
const OWN: &[(&str, &str)] = &[
    ("user_archetypes", "user_id = ?1"),
    (
        "recommendation_logs",
        "user_id = ?1 AND id IN (SELECT mine.id FROM nudge_decisions_of_users AS mine WHERE mine.user_id = ?1)",
    ),
    ("recommendation_events", "user_id = ?1"),
    ("profiles", "id = ?1"),
    ("leases", "id IN (SELECT mine.lease_id FROM lease_members AS mine WHERE mine.user_id = ?1)"),
    (
        "lease_members",
        "lease_id IN (SELECT mine.lease_id FROM lease_members AS mine WHERE mine.user_id = ?1)",
    ),
    ("lease_nights", "lease_id IN (SELECT mine.lease_id FROM lease_members AS mine WHERE mine.user_id = ?1)"),
    ("date_change_requests", "(requester_id = ?1 OR receiver_id = ?1)"),
];

/// Gives the condition of own rows of a table, if rows of it belong to people.
pub(super) fn own(table: &str) -> Option<&'static str> {
    OWN.iter().find(|(name, _)| *name == table).map(|(_, condition)| *condition)
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
