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

/// [`RecordedContext`] as it is written, without copies.
#[derive(Serialize)]
struct Context<'a> {
    snapshot: &'a Snapshot,
    policy: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
}

/// Writes JSON into a text that has room for what is usual, so that it need not grow.
fn json(value: &impl Serialize, usual: usize) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(usual);
    serde_json::to_writer(&mut bytes, value)?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
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
    let options = RawValue::from_string(json(&wire::options(decision), 4_096)?)?;
    let context = Context {
        snapshot: &decided.snapshot,
        policy,
        degraded: decided.degraded,
        source: asker.source.as_deref(),
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
        context: json(&context, 2_048)?,
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
