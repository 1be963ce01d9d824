//! The row that a decision leaves behind.

use jiff::Timestamp;
use nudge_engine::Snapshot;
use nudge_store::DecisionRow;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::recommend::{Decided, Question};
use crate::wire;

/// What a decision used, recorded with it: enough to compute it again.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordedContext {
    /// The facts.
    pub snapshot: Snapshot,
    /// The policy's name.
    pub policy: String,
    /// Whether personal data could not be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
    /// `simulated` for the demo's made-up history; absent for live decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Who asked, for the record.
#[derive(Debug, Default)]
pub struct Asker {
    /// The session, if the client names one.
    pub session_id: Option<String>,
    /// The user agent.
    pub user_agent: Option<String>,
    /// Milliseconds from the request's arrival to the decision.
    pub response_time_ms: i64,
    /// `simulated`, or nothing.
    pub source: Option<String>,
}

/// Makes the row to record, and the options' JSON that it shares with the answer.
///
/// `subject` is `None` for an anonymous caller: then nothing of the question but the date is kept.
pub fn record_of(
    id: Uuid,
    subject: Option<&Question>,
    question: &Question,
    decided: &Decided,
    asker: Asker,
    policy: &str,
    now: Timestamp,
) -> serde_json::Result<(DecisionRow, Box<RawValue>)> {
    let decision = &decided.decision;
    let options = serde_json::value::to_raw_value(&wire::options(decision))?;
    let context = RecordedContext {
        snapshot: decided.snapshot.clone(),
        policy: policy.to_owned(),
        degraded: decided.degraded,
        source: asker.source,
    };
    let row = DecisionRow {
        id,
        user_id: subject.map(|q| q.user.clone()),
        roommate_id: subject.map(|q| q.roommate.clone()),
        lease_id: decided.lease.clone().filter(|_| subject.is_some()),
        target_date: question.target_date,
        primary: decision.primary(),
        archetype: decision.archetype,
        archetype_confidence: decision.archetype_confidence,
        days_until_checkin: decision.urgency.days,
        urgency_level: decision.urgency.level.as_str().to_owned(),
        options: options.get().to_owned(),
        context: serde_json::to_string(&context)?,
        rule: decision.rule.as_str().to_owned(),
        policy: policy.to_owned(),
        personalized: decision.personalized,
        propensity: 1.0,
        confidence: decision.confidence,
        session_id: asker.session_id.filter(|_| subject.is_some()),
        user_agent: asker.user_agent.filter(|_| subject.is_some()),
        response_time_ms: asker.response_time_ms,
        created_at: now,
    };
    Ok((row, options))
}
