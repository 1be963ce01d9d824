//! Decisions: one insert, and the read of one with everything that came of it.

use nudge_engine::{EntityId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::convert::{Within, date, parsed, parsed_opt, statements, time, time_text};
use super::outcome;
use crate::error::StoreError;
use crate::outcome::Outcome;
use crate::record::{DecisionRow, StoredDecision};

statements! {
    /// The hot statement.
    INSERT = "INSERT INTO recommendation_logs (
        id, user_id, roommate_id, lease_id, target_date, primary_recommendation, archetype_type,
        archetype_confidence, days_until_checkin, urgency_level, rule, policy, personalized, propensity,
        confidence, session_id, user_agent, response_time_ms, created_at, options, context)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)
      ON CONFLICT (id) DO NOTHING";
    SELECT = "SELECT
        id, user_id, roommate_id, lease_id, target_date, primary_recommendation, archetype_type,
        archetype_confidence, days_until_checkin, urgency_level, rule, policy, personalized, propensity,
        confidence, session_id, user_agent, response_time_ms, created_at, options, context,
        user_selected, followed_recommendation, time_to_decision_seconds, request_submitted, request_accepted,
        final_transaction_type, nps_score
      FROM recommendation_logs WHERE id = ?1";
}

const TABLE: &str = "recommendation_logs";
/// The user of a decision that was made for nobody in particular.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Inserts a decision; says whether it was not there yet.
pub(super) fn insert(conn: &Connection, row: &DecisionRow) -> Result<bool, StoreError> {
    let mut id = Uuid::encode_buffer();
    let mut statement = conn.prepare_cached(INSERT).within(TABLE)?;
    let changed = statement.execute(params![
        &*row.id.hyphenated().encode_lower(&mut id),
        row.user_id.as_ref().map_or(ANONYMOUS, UserId::as_str),
        row.roommate_id.as_ref().map(UserId::as_str),
        row.lease_id.as_ref().map(EntityId::as_str),
        row.target_date.to_string(),
        row.primary.as_str(),
        row.archetype.as_str(),
        row.archetype_confidence,
        row.days_until_checkin,
        row.urgency_level,
        row.rule,
        row.policy,
        row.personalized,
        row.propensity,
        row.confidence,
        row.session_id,
        row.user_agent,
        row.response_time_ms,
        time_text(row.created_at),
        row.options,
        row.context,
    ]);
    changed.within(TABLE).map(|changed| changed > 0)
}

/// Reads a decision with its events.
pub(super) fn read(conn: &Connection, id: Uuid) -> Result<Option<StoredDecision>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT).within(TABLE)?;
    let found = statement
        .query_row([id.hyphenated().to_string()], |row| Ok((decision_row(row)?, outcome_columns(row)?)))
        .optional()
        .within(TABLE)?;
    let Some((row, outcome)) = found else { return Ok(None) };
    let user = row.user_id.as_ref().map_or(ANONYMOUS, UserId::as_str);
    let events = outcome::stored_events(conn, user, id)?;
    Ok(Some(StoredDecision { row, outcome, events }))
}

fn decision_row(row: &Row<'_>) -> rusqlite::Result<DecisionRow> {
    let user_id = parsed(row, 1, |text| match text {
        ANONYMOUS => Ok(None),
        user => UserId::parse(user).map(Some),
    })?;
    Ok(DecisionRow {
        id: parsed(row, 0, Uuid::try_parse)?,
        user_id,
        roommate_id: parsed_opt(row, 2, UserId::parse)?,
        lease_id: parsed_opt(row, 3, EntityId::parse)?,
        target_date: date(row, 4)?,
        primary: parsed(row, 5, str::parse)?,
        archetype: parsed(row, 6, str::parse)?,
        archetype_confidence: row.get(7)?,
        days_until_checkin: row.get(8)?,
        urgency_level: row.get(9)?,
        rule: row.get(10)?,
        policy: row.get(11)?,
        personalized: row.get(12)?,
        propensity: row.get(13)?,
        confidence: row.get(14)?,
        session_id: row.get(15)?,
        user_agent: row.get(16)?,
        response_time_ms: row.get(17)?,
        created_at: time(row, 18)?,
        options: row.get(19)?,
        context: row.get(20)?,
    })
}

fn outcome_columns(row: &Row<'_>) -> rusqlite::Result<Outcome> {
    Ok(Outcome {
        user_selected: parsed_opt(row, 21, str::parse)?,
        followed_recommendation: row.get(22)?,
        time_to_decision_seconds: row.get(23)?,
        request_submitted: row.get(24)?,
        request_accepted: row.get(25)?,
        final_transaction_type: parsed_opt(row, 26, str::parse)?,
        nps_score: row.get(27)?,
    })
}
