//! Sessions of the dashboard that were signed out of.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::convert::{Within, statements, time_text};
use crate::error::StoreError;

statements! {
    INSERT = "INSERT INTO nudge_ended_sessions (id, expires_at) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING";
    DELETE_OLD = "DELETE FROM nudge_ended_sessions WHERE expires_at < ?1";
    EXISTS = "SELECT EXISTS (SELECT 1 FROM nudge_ended_sessions WHERE id = ?1)";
}

const TABLE: &str = "nudge_ended_sessions";

/// Ends a session, and forgets those whose cookie has expired.
pub(super) fn end(
    conn: &Connection,
    id: Uuid,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    conn.prepare_cached(DELETE_OLD).and_then(|mut s| s.execute([time_text(now)])).within(TABLE)?;
    let mut statement = conn.prepare_cached(INSERT).within(TABLE)?;
    statement.execute(params![id.hyphenated().to_string(), time_text(expires_at)]).within(TABLE).map(drop)
}

/// Says whether a session was ended.
pub(super) fn has_ended(conn: &Connection, id: Uuid) -> Result<bool, StoreError> {
    let mut statement = conn.prepare_cached(EXISTS).within(TABLE)?;
    statement.query_row([id.hyphenated().to_string()], |row| row.get(0)).within(TABLE)
}
