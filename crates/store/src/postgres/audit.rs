//! The audit log: appended to by audited changes, read by the check of its chain.

use jiff::Timestamp;
use nudge_engine::UserId;
use serde_json::Value;
use tokio_postgres::Row;

use super::convert::{At, get, parsed, statements, time};
use super::lanes::Lanes;
use super::pool::Transaction;
use crate::audit::{Chain, Entry, canonical_json};
use crate::error::StoreError;
use crate::format::{time_text, to_microsecond};
use crate::record::{Actor, AuditReport};

statements! {
    HEAD [] = "SELECT hash FROM public.admin_audit_log ORDER BY id DESC LIMIT 1";
    /// Locks the tail to the end of the transaction: the last lock that a transaction takes.
    TAIL [] = "SELECT id, hash FROM nudge.audit_tail()";
    INSERT [INT8, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TIMESTAMPTZ, TEXT, TEXT] =
      "INSERT INTO public.admin_audit_log (id, admin_id, actor_role, action, target_user_id, metadata, ip_address,
        user_agent, created_at, prev_hash, hash)
      VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, $11)";
    PAGE [INT8, INT8] = "SELECT id, prev_hash, admin_id, actor_role, action, target_user_id, metadata::text,
        ip_address, user_agent, created_at, hash
      FROM public.admin_audit_log WHERE id > $1 ORDER BY id LIMIT $2";
}

const TABLE: &str = "admin_audit_log";
/// Entries that are read at once.
const PAGE_ROWS: i64 = 1_000;

/// Reads the hash of the newest entry.
pub(super) async fn head(lanes: &Lanes) -> Result<Option<String>, StoreError> {
    let rows = lanes.query(TABLE, &HEAD, &[]).await?;
    rows.first().map(|row| get(row, 0, TABLE)).transpose()
}

/// Appends an entry and gives its hash.
pub(super) async fn append(
    transaction: &Transaction<'_>,
    actor: &Actor,
    action: &str,
    target: Option<&UserId>,
    metadata: &Value,
    now: Timestamp,
) -> Result<String, StoreError> {
    let now = to_microsecond(now);
    let tail = transaction.query(TABLE, &TAIL, &[]).await?;
    let missing = || StoreError::Inconsistent { table: TABLE, detail: "it has no tail".to_owned() };
    let tail = tail.first().ok_or_else(missing)?;
    let (last, prev_hash) = (get::<i64>(tail, 0, TABLE)?, get::<String>(tail, 1, TABLE)?);
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
    transaction
        .execute(
            TABLE,
            &INSERT,
            &[
                &entry.id,
                &entry.admin_id,
                &entry.actor_role,
                &entry.action,
                &entry.target_user_id,
                &entry.metadata,
                &entry.ip_address,
                &entry.user_agent,
                &At(now),
                &entry.prev_hash,
                &hash,
            ],
        )
        .await?;
    Ok(hash)
}

/// Reads the whole log, page by page, and reports the first entry that is not what the chain says.
pub(super) async fn verify(
    transaction: &Transaction<'_>,
    expect_head: Option<&str>,
) -> Result<AuditReport, StoreError> {
    let mut chain = Chain::expecting(expect_head);
    loop {
        // The numbers are read and not believed: a gap or a lower bound below 1 shows in the chain.
        let after = chain.last_id().unwrap_or(i64::MIN);
        let rows = transaction.query(TABLE, &PAGE, &[&after, &PAGE_ROWS]).await?;
        for row in &rows {
            check(&mut chain, row)?;
        }
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE_ROWS {
            return Ok(chain.report());
        }
    }
}

fn check(chain: &mut Chain, row: &Row) -> Result<(), StoreError> {
    let metadata: Value = parsed(row, 6, TABLE, |text| serde_json::from_str(text))?;
    let entry = Entry {
        id: get(row, 0, TABLE)?,
        prev_hash: get(row, 1, TABLE)?,
        admin_id: get(row, 2, TABLE)?,
        actor_role: get(row, 3, TABLE)?,
        action: get(row, 4, TABLE)?,
        target_user_id: get(row, 5, TABLE)?,
        metadata: &canonical_json(&metadata),
        ip_address: get(row, 7, TABLE)?,
        user_agent: get(row, 8, TABLE)?,
        created_at: &time_text(time(row, 9, TABLE)?),
    };
    chain.add(&entry, get(row, 10, TABLE)?);
    Ok(())
}
