//! Lists for people, page by page.

use nudge_engine::UserId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::convert::{Within, date, parsed, parsed_opt, statements, time, time_opt, user};
use super::decision::ANONYMOUS;
use crate::browse::{
    ArchetypeFilter, ArchetypeListed, AuditEntry, ConfidenceStep, DecisionListed, DecisionPage,
    DecisionSearch, SEARCH_WINDOW,
};
use crate::error::StoreError;
use crate::outcome::Outcome;

statements! {
    /// Answered from the index of ids alone.
    WINDOW_END = "SELECT id FROM recommendation_logs WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3";
    FIND = "SELECT id, user_id, target_date, days_until_checkin, primary_recommendation, archetype_type, rule,
        personalized, created_at, user_selected, followed_recommendation, time_to_decision_seconds, request_submitted,
        request_accepted, final_transaction_type, nps_score
      FROM recommendation_logs WHERE id >= ?1 AND id < ?2 AND (?3 IS NULL OR rule = ?3) ORDER BY id DESC LIMIT ?4";
    FIND_OF_USER = "SELECT id, user_id, target_date, days_until_checkin, primary_recommendation, archetype_type, rule,
        personalized, created_at, user_selected, followed_recommendation, time_to_decision_seconds, request_submitted,
        request_accepted, final_transaction_type, nps_score
      FROM recommendation_logs
      WHERE id IN (SELECT entry.id FROM nudge_decisions_of_users AS entry
          WHERE entry.user_id = ?5 AND entry.id >= ?1 AND entry.id < ?2)
        AND (?3 IS NULL OR rule = ?3)
      ORDER BY id DESC LIMIT ?4";
    LIST = "SELECT user_id, archetype_type, confidence, is_manual_override, override_expires_at, computed_at
      FROM user_archetypes WHERE user_id > ?1 AND (?2 IS NULL OR archetype_type = ?2) ORDER BY user_id LIMIT ?3";
    LIST_OVERRIDDEN = "SELECT user_id, archetype_type, confidence, is_manual_override, override_expires_at, computed_at
      FROM user_archetypes WHERE is_manual_override = 1 AND user_id > ?1 ORDER BY user_id LIMIT ?2";
    COUNT_OVERRIDDEN = "SELECT count(*) FROM user_archetypes WHERE is_manual_override = 1";
    CONFIDENCES = "SELECT archetype_type, CAST(round(confidence * 100) AS INTEGER) / 5, count(*), sum(confidence)
      FROM user_archetypes GROUP BY 1, 2 ORDER BY 1, 2";
    AUDIT = "SELECT id, admin_id, actor_role, action, target_user_id, metadata, ip_address, user_agent, created_at, hash
      FROM admin_audit_log WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
    AUDIT_OF = "SELECT id, admin_id, actor_role, action, target_user_id, metadata, ip_address, user_agent, created_at, hash
      FROM admin_audit_log WHERE id < ?1 AND target_user_id = ?3 ORDER BY id DESC LIMIT ?2";
}

const DECISIONS: &str = "recommendation_logs";
const ARCHETYPES: &str = "user_archetypes";
const AUDIT_LOG: &str = "admin_audit_log";

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Finds decisions, newest first.
pub(super) fn decisions(conn: &Connection, search: &DecisionSearch) -> Result<DecisionPage, StoreError> {
    let (low, high) = search.bounds();
    let high = high.hyphenated().to_string();
    let (mut low, mut window_ended) = (low.hyphenated().to_string(), false);
    if search.user.is_none() && search.rule.is_some() {
        let mut statement = conn.prepare_cached(WINDOW_END).within(DECISIONS)?;
        let end: Option<String> = statement
            .query_row(params![low, high, limited(SEARCH_WINDOW - 1)], |row| row.get(0))
            .optional()
            .within(DECISIONS)?;
        if let Some(end) = end {
            window_ended = end > low;
            low = end;
        }
    }
    // One more than wanted shows whether there is a next page.
    let limit = limited(search.limit.saturating_add(1));
    let mut rows: Vec<DecisionListed> = match &search.user {
        None => {
            let mut statement = conn.prepare_cached(FIND).within(DECISIONS)?;
            let rows = statement.query_map(params![low, high, search.rule, limit], decision);
            rows.and_then(Iterator::collect).within(DECISIONS)?
        }
        Some(user) => {
            let mut statement = conn.prepare_cached(FIND_OF_USER).within(DECISIONS)?;
            let rows = statement.query_map(params![low, high, search.rule, limit, user.as_str()], decision);
            rows.and_then(Iterator::collect).within(DECISIONS)?
        }
    };
    if rows.len() > search.limit {
        rows.truncate(search.limit);
        let next = rows.last().map(|row| row.id);
        return Ok(DecisionPage { rows, next, window_ended: false });
    }
    let next = match window_ended {
        true => Some(
            Uuid::try_parse(&low)
                .map_err(|error| StoreError::Inconsistent { table: DECISIONS, detail: error.to_string() })?,
        ),
        false => None,
    };
    Ok(DecisionPage { rows, next, window_ended })
}

fn decision(row: &Row<'_>) -> rusqlite::Result<DecisionListed> {
    let user_id = parsed(row, 1, |text| match text {
        ANONYMOUS => Ok(None),
        user => UserId::parse(user).map(Some),
    })?;
    Ok(DecisionListed {
        id: parsed(row, 0, Uuid::try_parse)?,
        user_id,
        target_date: date(row, 2)?,
        days_until_checkin: row.get(3)?,
        primary: parsed(row, 4, str::parse)?,
        archetype: parsed(row, 5, str::parse)?,
        rule: row.get(6)?,
        personalized: row.get(7)?,
        created_at: time(row, 8)?,
        outcome: Outcome {
            user_selected: parsed_opt(row, 9, str::parse)?,
            followed_recommendation: row.get(10)?,
            time_to_decision_seconds: row.get(11)?,
            request_submitted: row.get(12)?,
            request_accepted: row.get(13)?,
            final_transaction_type: parsed_opt(row, 14, str::parse)?,
            nps_score: row.get(15)?,
        },
    })
}

/// Lists archetypes after a user, by id.
pub(super) fn archetypes(
    conn: &Connection,
    filter: ArchetypeFilter,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Vec<ArchetypeListed>, StoreError> {
    let (after, limit) = (after.map_or("", UserId::as_str), limited(limit));
    let wanted = match filter {
        ArchetypeFilter::Overridden => {
            let mut statement = conn.prepare_cached(LIST_OVERRIDDEN).within(ARCHETYPES)?;
            let rows = statement.query_map(params![after, limit], archetype);
            return rows.and_then(Iterator::collect).within(ARCHETYPES);
        }
        ArchetypeFilter::All => None,
        ArchetypeFilter::Of(archetype) => Some(archetype.as_str()),
    };
    let mut statement = conn.prepare_cached(LIST).within(ARCHETYPES)?;
    let rows = statement.query_map(params![after, wanted, limit], archetype);
    rows.and_then(Iterator::collect).within(ARCHETYPES)
}

fn archetype(row: &Row<'_>) -> rusqlite::Result<ArchetypeListed> {
    Ok(ArchetypeListed {
        user_id: user(row, 0)?,
        archetype: parsed(row, 1, str::parse)?,
        confidence: row.get(2)?,
        overridden: row.get(3)?,
        override_expires_at: time_opt(row, 4)?,
        computed_at: time(row, 5)?,
    })
}

/// Counts the archetypes that an admin set.
pub(super) fn overridden(conn: &Connection) -> Result<u64, StoreError> {
    let mut statement = conn.prepare_cached(COUNT_OVERRIDDEN).within(ARCHETYPES)?;
    let count: i64 = statement.query_row([], |row| row.get(0)).within(ARCHETYPES)?;
    Ok(count.unsigned_abs())
}

/// Counts archetypes by type and confidence. Reads the whole table.
pub(super) fn confidences(conn: &Connection) -> Result<Vec<ConfidenceStep>, StoreError> {
    let mut statement = conn.prepare_cached(CONFIDENCES).within(ARCHETYPES)?;
    let rows = statement.query_map([], |row| {
        Ok(ConfidenceStep {
            archetype: parsed(row, 0, str::parse)?,
            step: row.get(1)?,
            count: row.get::<_, i64>(2)?.unsigned_abs(),
            sum: row.get(3)?,
        })
    });
    rows.and_then(Iterator::collect).within(ARCHETYPES)
}

/// Lists audit entries before a number, newest first.
pub(super) fn audit(
    conn: &Connection,
    target: Option<&UserId>,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<AuditEntry>, StoreError> {
    let (before, limit) = (before.unwrap_or(i64::MAX), limited(limit));
    match target {
        None => {
            let mut statement = conn.prepare_cached(AUDIT).within(AUDIT_LOG)?;
            let rows = statement.query_map(params![before, limit], entry);
            rows.and_then(Iterator::collect).within(AUDIT_LOG)
        }
        Some(target) => {
            let mut statement = conn.prepare_cached(AUDIT_OF).within(AUDIT_LOG)?;
            let rows = statement.query_map(params![before, limit, target.as_str()], entry);
            rows.and_then(Iterator::collect).within(AUDIT_LOG)
        }
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        id: row.get(0)?,
        admin_id: row.get(1)?,
        actor_role: row.get(2)?,
        action: row.get(3)?,
        target_user_id: row.get(4)?,
        metadata: parsed(row, 5, |text| serde_json::from_str(text))?,
        ip_address: row.get(6)?,
        user_agent: row.get(7)?,
        created_at: time(row, 8)?,
        hash: row.get(9)?,
    })
}
