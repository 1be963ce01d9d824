//! Sessions of the dashboard that were signed out of.

use jiff::Timestamp;
use uuid::Uuid;

use super::convert::{At, get, statements};
use super::lanes::Lanes;
use super::pool::Transaction;
use crate::error::StoreError;

statements! {
    INSERT [UUID, TIMESTAMPTZ] = "INSERT INTO nudge.ended_sessions (id, expires_at) VALUES ($1, $2)
      ON CONFLICT (id) DO NOTHING";
    DELETE_OLD [TIMESTAMPTZ] = "DELETE FROM nudge.ended_sessions WHERE expires_at < $1";
    EXISTS [UUID] = "SELECT EXISTS (SELECT FROM nudge.ended_sessions WHERE id = $1)";
}

const TABLE: &str = "ended_sessions";

/// Ends a session, and forgets those whose cookie has expired.
pub(super) async fn end(
    transaction: &Transaction<'_>,
    id: Uuid,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    transaction.execute(TABLE, &DELETE_OLD, &[&At(now)]).await?;
    transaction.execute(TABLE, &INSERT, &[&id, &At(expires_at)]).await.map(drop)
}

/// Says whether a session was ended.
pub(super) async fn has_ended(lanes: &Lanes, id: Uuid) -> Result<bool, StoreError> {
    let rows = lanes.query(TABLE, &EXISTS, &[&id]).await?;
    rows.first().map_or(Ok(false), |row| get(row, 0, TABLE))
}
