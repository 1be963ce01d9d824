//! The audit log: appended to by audited changes, read by the check of its chain.

use jiff::Timestamp;
use nudge_engine::UserId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::convert::{Within, statements, time_text};
use crate::audit::{Chain, Entry, GENESIS, canonical_json};
use crate::error::StoreError;
use crate::record::{Actor, AuditReport};

statements! {
    TAIL = "SELECT id, hash FROM admin_audit_log ORDER BY id DESC LIMIT 1";
    INSERT = "INSERT INTO admin_audit_log (id, admin_id, actor_role, action, target_user_id, metadata, ip_address,
        user_agent, created_at, prev_hash, hash)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    CHAIN = "SELECT id, prev_hash, admin_id, actor_role, action, target_user_id, metadata, ip_address, user_agent,
        created_at, hash
      FROM admin_audit_log ORDER BY id";
}

const TABLE: &str = "admin_audit_log";

fn tail(conn: &Connection) -> Result<Option<(i64, String)>, StoreError> {
    let mut statement = conn.prepare_cached(TAIL).within(TABLE)?;
    statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional().within(TABLE)
}

/// Reads the hash of the newest entry.
pub(super) fn head(conn: &Connection) -> Result<Option<String>, StoreError> {
    Ok(tail(conn)?.map(|(_, hash)| hash))
}

/// Appends an entry and gives its hash.
pub(super) fn append(
    conn: &Connection,
    actor: &Actor,
    action: &str,
    target: Option<&UserId>,
    metadata: &Value,
    now: Timestamp,
) -> Result<String, StoreError> {
    let (last, prev_hash) = tail(conn)?.unwrap_or_else(|| (0, GENESIS.to_owned()));
    let (metadata, created_at) = (canonical_json(metadata), time_text(now));
    let entry = Entry {
        id: last + 1,
        prev_hash: &prev_hash,
        admin_id: &actor.id,
        actor_role: &actor.role,
        action,
        target_user_id: target.map(UserId::as_str),
        metadata: &metadata,
        ip_address: actor.ip_address.as_deref(),
        user_agent: actor.user_agent.as_deref(),
        created_at: &created_at,
    };
    let hash = entry.hash();
    let mut statement = conn.prepare_cached(INSERT).within(TABLE)?;
    let inserted = statement.execute(params![
        entry.id,
        entry.admin_id,
        entry.actor_role,
        entry.action,
        entry.target_user_id,
        entry.metadata,
        entry.ip_address,
        entry.user_agent,
        entry.created_at,
        entry.prev_hash,
        hash,
    ]);
    inserted.within(TABLE)?;
    Ok(hash)
}

/// Reads the whole log, entry by entry, and reports the first one that is not what the chain says.
pub(super) fn verify(conn: &Connection, expect_head: Option<&str>) -> Result<AuditReport, StoreError> {
    let mut statement = conn.prepare_cached(CHAIN).within(TABLE)?;
    let mut rows = statement.query([]).within(TABLE)?;
    let mut chain = Chain::expecting(expect_head);
    while let Some(row) = rows.next().within(TABLE)? {
        check(&mut chain, row).within(TABLE)?;
    }
    Ok(chain.report())
}

fn check(chain: &mut Chain<'_>, row: &Row<'_>) -> rusqlite::Result<()> {
    let text =
        |column| row.get_ref(column)?.as_str().map_err(|_| rusqlite::Error::InvalidColumnIndex(column));
    let text_opt = |column| {
        row.get_ref(column)?.as_str_or_null().map_err(|_| rusqlite::Error::InvalidColumnIndex(column))
    };
    let entry = Entry {
        id: row.get(0)?,
        prev_hash: text(1)?,
        admin_id: text(2)?,
        actor_role: text(3)?,
        action: text(4)?,
        target_user_id: text_opt(5)?,
        metadata: text(6)?,
        ip_address: text_opt(7)?,
        user_agent: text_opt(8)?,
        created_at: text(9)?,
    };
    chain.add(&entry, text(10)?);
    Ok(())
}
