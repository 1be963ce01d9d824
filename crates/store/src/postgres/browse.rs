//! Lists for people, page by page.

use nudge_engine::UserId;
use tokio_postgres::Row;
use uuid::Uuid;

use super::convert::{day, get, parsed, parsed_opt, statements, time, time_opt};
use super::decision::ANONYMOUS;
use super::pool::Transaction;
use crate::browse::{
    ArchetypeFilter, ArchetypeListed, AuditEntry, ConfidenceStep, DecisionListed, DecisionPage,
    DecisionSearch, SEARCH_WINDOW,
};
use crate::error::StoreError;
use crate::outcome::Outcome;

statements! {
    WINDOW_END [UUID, UUID, INT8] = "SELECT id FROM public.recommendation_logs WHERE id >= $1 AND id < $2
      ORDER BY id DESC LIMIT 1 OFFSET $3";
    FIND [UUID, UUID, TEXT, INT8] = "SELECT id, user_id, target_date, days_until_checkin, primary_recommendation,
        archetype_type, rule, personalized, created_at, user_selected, followed_recommendation,
        time_to_decision_seconds, request_submitted, request_accepted, final_transaction_type, nps_score
      FROM public.recommendation_logs WHERE id >= $1 AND id < $2 AND ($3 IS NULL OR rule = $3)
      ORDER BY id DESC LIMIT $4";
    FIND_OF_USER [UUID, UUID, TEXT, INT8, TEXT] = "SELECT id, user_id, target_date, days_until_checkin,
        primary_recommendation, archetype_type, rule, personalized, created_at, user_selected, followed_recommendation,
        time_to_decision_seconds, request_submitted, request_accepted, final_transaction_type, nps_score
      FROM public.recommendation_logs WHERE user_id = $5 AND id >= $1 AND id < $2 AND ($3 IS NULL OR rule = $3)
      ORDER BY id DESC LIMIT $4";
    LIST [TEXT, TEXT, INT8] = "SELECT user_id, archetype_type, confidence::double precision, is_manual_override,
        override_expires_at, computed_at
      FROM public.user_archetypes WHERE user_id > $1 AND ($2 IS NULL OR archetype_type = $2) ORDER BY user_id LIMIT $3";
    LIST_OVERRIDDEN [TEXT, INT8] = "SELECT user_id, archetype_type, confidence::double precision, is_manual_override,
        override_expires_at, computed_at
      FROM public.user_archetypes WHERE is_manual_override AND user_id > $1 ORDER BY user_id LIMIT $2";
    COUNT_OVERRIDDEN [] = "SELECT count(*) FROM public.user_archetypes WHERE is_manual_override";
    CONFIDENCES [] = "SELECT archetype_type, round(confidence * 100)::int4 / 5, count(*),
        sum(confidence)::double precision
      FROM public.user_archetypes GROUP BY 1, 2 ORDER BY 1, 2";
    AUDIT [INT8, INT8] = "SELECT id, admin_id, actor_role, action, target_user_id, metadata::text, ip_address,
        user_agent, created_at, hash
      FROM public.admin_audit_log WHERE id < $1 ORDER BY id DESC LIMIT $2";
    AUDIT_OF [INT8, INT8, TEXT] = "SELECT id, admin_id, actor_role, action, target_user_id, metadata::text, ip_address,
        user_agent, created_at, hash
      FROM public.admin_audit_log WHERE id < $1 AND target_user_id = $3 ORDER BY id DESC LIMIT $2";
}

const DECISIONS: &str = "recommendation_logs";
const ARCHETYPES: &str = "user_archetypes";
const AUDIT_LOG: &str = "admin_audit_log";

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Finds decisions, newest first.
pub(super) async fn decisions(
    transaction: &Transaction<'_>,
    search: &DecisionSearch,
) -> Result<DecisionPage, StoreError> {
    let (mut low, high) = search.bounds();
    let mut window_ended = false;
    if search.user.is_none() && search.rule.is_some() {
        let offset = limited(SEARCH_WINDOW - 1);
        let end = transaction.query(DECISIONS, &WINDOW_END, &[&low, &high, &offset]).await?;
        if let Some(end) = end.first() {
            let end: Uuid = get(end, 0, DECISIONS)?;
            window_ended = end > low;
            low = end;
        }
    }
    // One more than wanted shows whether there is a next page.
    let limit = limited(search.limit.saturating_add(1));
    let rule = search.rule.as_deref();
    let rows = match &search.user {
        None => transaction.query(DECISIONS, &FIND, &[&low, &high, &rule, &limit]).await?,
        Some(user) => {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&low, &high, &rule, &limit, &user.as_str()];
            transaction.query(DECISIONS, &FIND_OF_USER, &values).await?
        }
    };
    let mut rows = rows.iter().map(decision).collect::<Result<Vec<_>, _>>()?;
    if rows.len() > search.limit {
        rows.truncate(search.limit);
        let next = rows.last().map(|row| row.id);
        return Ok(DecisionPage { rows, next, window_ended: false });
    }
    Ok(DecisionPage { rows, next: window_ended.then_some(low), window_ended })
}

fn decision(row: &Row) -> Result<DecisionListed, StoreError> {
    let table = DECISIONS;
    let user_id = parsed(row, 1, table, |text| match text {
        ANONYMOUS => Ok(None),
        user => UserId::parse(user).map(Some),
    })?;
    let nps = get::<Option<i32>>(row, 15, table)?.map(u8::try_from).transpose();
    Ok(DecisionListed {
        id: get(row, 0, table)?,
        user_id,
        target_date: day(row, 2, table)?,
        days_until_checkin: get::<i32>(row, 3, table)?.into(),
        primary: parsed(row, 4, table, str::parse)?,
        archetype: parsed(row, 5, table, str::parse)?,
        rule: get(row, 6, table)?,
        personalized: get(row, 7, table)?,
        created_at: time(row, 8, table)?,
        outcome: Outcome {
            user_selected: parsed_opt(row, 9, table, str::parse)?,
            followed_recommendation: get(row, 10, table)?,
            time_to_decision_seconds: get(row, 11, table)?,
            request_submitted: get(row, 12, table)?,
            request_accepted: get(row, 13, table)?,
            final_transaction_type: parsed_opt(row, 14, table, str::parse)?,
            nps_score: nps.map_err(|error| StoreError::Inconsistent { table, detail: error.to_string() })?,
        },
    })
}

/// Lists archetypes after a user, by id.
pub(super) async fn archetypes(
    transaction: &Transaction<'_>,
    filter: ArchetypeFilter,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Vec<ArchetypeListed>, StoreError> {
    let (after, limit) = (after.map_or("", UserId::as_str), limited(limit));
    let rows = match filter {
        ArchetypeFilter::Overridden => {
            transaction.query(ARCHETYPES, &LIST_OVERRIDDEN, &[&after, &limit]).await?
        }
        ArchetypeFilter::All => {
            transaction.query(ARCHETYPES, &LIST, &[&after, &None::<&str>, &limit]).await?
        }
        ArchetypeFilter::Of(archetype) => {
            transaction.query(ARCHETYPES, &LIST, &[&after, &Some(archetype.as_str()), &limit]).await?
        }
    };
    rows.iter().map(archetype).collect()
}

fn archetype(row: &Row) -> Result<ArchetypeListed, StoreError> {
    let table = ARCHETYPES;
    Ok(ArchetypeListed {
        user_id: parsed(row, 0, table, UserId::parse)?,
        archetype: parsed(row, 1, table, str::parse)?,
        confidence: get(row, 2, table)?,
        overridden: get(row, 3, table)?,
        override_expires_at: time_opt(row, 4, table)?,
        computed_at: time(row, 5, table)?,
    })
}

/// Counts the archetypes that an admin set.
pub(super) async fn overridden(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    let rows = transaction.query(ARCHETYPES, &COUNT_OVERRIDDEN, &[]).await?;
    let count = rows.first().map(|row| get::<i64>(row, 0, ARCHETYPES)).transpose()?;
    Ok(count.unwrap_or(0).unsigned_abs())
}

/// Counts archetypes by type and confidence. Reads the whole table.
pub(super) async fn confidences(transaction: &Transaction<'_>) -> Result<Vec<ConfidenceStep>, StoreError> {
    let table = ARCHETYPES;
    let rows = transaction.query(table, &CONFIDENCES, &[]).await?;
    rows.iter()
        .map(|row| {
            let step = u8::try_from(get::<i32>(row, 1, table)?);
            Ok(ConfidenceStep {
                archetype: parsed(row, 0, table, str::parse)?,
                step: step.map_err(|error| StoreError::Inconsistent { table, detail: error.to_string() })?,
                count: get::<i64>(row, 2, table)?.unsigned_abs(),
                sum: get(row, 3, table)?,
            })
        })
        .collect()
}

/// Lists audit entries before a number, newest first.
pub(super) async fn audit(
    transaction: &Transaction<'_>,
    target: Option<&UserId>,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<AuditEntry>, StoreError> {
    let (before, limit) = (before.unwrap_or(i64::MAX), limited(limit));
    let rows = match target {
        None => transaction.query(AUDIT_LOG, &AUDIT, &[&before, &limit]).await?,
        Some(target) => transaction.query(AUDIT_LOG, &AUDIT_OF, &[&before, &limit, &target.as_str()]).await?,
    };
    rows.iter().map(entry).collect()
}

fn entry(row: &Row) -> Result<AuditEntry, StoreError> {
    let table = AUDIT_LOG;
    Ok(AuditEntry {
        id: get(row, 0, table)?,
        admin_id: get(row, 1, table)?,
        actor_role: get(row, 2, table)?,
        action: get(row, 3, table)?,
        target_user_id: get(row, 4, table)?,
        metadata: parsed(row, 5, table, |text| serde_json::from_str(text))?,
        ip_address: get(row, 6, table)?,
        user_agent: get(row, 7, table)?,
        created_at: time(row, 8, table)?,
        hash: get(row, 9, table)?,
    })
}
