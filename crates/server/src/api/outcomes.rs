//! `POST /functions/v1/recommendation-outcomes`

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use nudge_engine::TransactionType;
use nudge_store::{EventKind, OutcomeEvent, OutcomeReporter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::App;
use super::body;
use super::error::ApiError;
use super::query::timestamp;
use super::respond;
use crate::auth::Caller;

/// Most events in one call.
pub const MAX_EVENTS: usize = 500;
/// Longest time to a decision: a week.
const MAX_SECONDS: f64 = 604_800.0;

/// One outcome.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutcomeBody {
    /// The id that the recommendation came with.
    recommendation_id: String,
    /// `viewed`, `selected`, `submitted`, `accepted`, `declined`, `expired`, `cancelled` or `nps`.
    event: String,
    /// Required for selected and submitted, optional for the answers.
    #[serde(default)]
    transaction_type: Option<String>,
    /// 0 to 604800, with selected only.
    #[serde(default)]
    time_to_decision_seconds: Option<f64>,
    /// 0 to 10, required for and only with nps.
    #[serde(default)]
    nps_score: Option<i64>,
    /// RFC 3339; absent: the time of receipt.
    #[serde(default)]
    occurred_at: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct OutcomesBody {
    success: bool,
    /// Events appended.
    recorded: usize,
    /// Events that were known already.
    duplicates: usize,
}

/// Records what came of recommendations, all or nothing.
#[utoipa::path(
    post, path = super::path::OUTCOMES, tag = "functions", operation_id = "recordOutcomes",
    request_body(content = OutcomeBody, description = "One outcome, or an array of at most 500: all or nothing"),
    responses(
        (status = 200, body = OutcomesBody),
        (status = 400, body = super::error::ErrorBody), (status = 408, body = super::error::ErrorBody),
        (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 409, body = super::error::ErrorBody),
        (status = 413, body = super::error::ErrorBody), (status = 415, body = super::error::ErrorBody),
        (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn record_outcomes(
    State(app): State<Arc<App>>,
    parts: Parts,
    sent: Body,
) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    let reporter = match &caller {
        Caller::Anonymous => return Err(ApiError::SignInRequired),
        Caller::User(id) => OutcomeReporter::User(id.clone()),
        Caller::Service => OutcomeReporter::Service,
    };
    let bytes = body::read(&app, &caller, &parts, sent, body::MAX_JSON).await?;
    let events = parse_events(&bytes)?;
    // A decision that is still in the spool is known, but not to the database.
    if events.iter().any(|event| app.recorder.is_spooled(&event.recommendation_id)) {
        return Err(ApiError::Unavailable { detail: "the decision is still in the spool".to_owned() });
    }
    let done = app.store.record_outcomes(reporter, events, app.clock.now()).await?;
    for (kind, followed) in &done.appended {
        metrics::counter!("nudge_outcomes_total", "event" => kind.as_str()).increment(1);
        if let Some(followed) = followed {
            let followed = if *followed { "true" } else { "false" };
            metrics::counter!("nudge_choices_total", "followed" => followed).increment(1);
        }
    }
    let answer = OutcomesBody { success: true, recorded: done.recorded, duplicates: done.duplicates };
    Ok(respond::json(StatusCode::OK, &answer))
}

/// Parses the body into validated events.
pub fn parse_events(bytes: &[u8]) -> Result<Vec<OutcomeEvent>, ApiError> {
    let bodies: Vec<OutcomeBody> = body::parse_one_or_many(bytes, MAX_EVENTS)?;
    bodies.iter().enumerate().map(|(i, body)| parse_event(i, body)).collect()
}

fn parse_event(index: usize, body: &OutcomeBody) -> Result<OutcomeEvent, ApiError> {
    let bad = |field: &str, problem: &str| ApiError::field(format!("[{index}].{field}"), problem);
    let recommendation_id =
        Uuid::parse_str(&body.recommendation_id).map_err(|_| bad("recommendationId", "must be a UUID"))?;
    let kind = parse_kind(&body.event).ok_or_else(|| {
        bad("event", "must be viewed, selected, submitted, accepted, declined, expired, cancelled or nps")
    })?;
    let transaction_type = body
        .transaction_type
        .as_deref()
        .map(str::parse::<TransactionType>)
        .transpose()
        .map_err(|_| bad("transactionType", "must be buyout, crash or swap"))?;
    match (kind, transaction_type) {
        (EventKind::Selected | EventKind::Submitted, None) => {
            return Err(bad("transactionType", "is required for selected and submitted"));
        }
        (EventKind::Viewed | EventKind::Nps | EventKind::Cancelled, Some(_)) => {
            return Err(bad(
                "transactionType",
                "goes with selected, submitted and the roommate's answers only",
            ));
        }
        _ => {}
    }
    let seconds = body.time_to_decision_seconds;
    if seconds.is_some_and(|s| kind != EventKind::Selected || !(0.0..=MAX_SECONDS).contains(&s)) {
        return Err(bad("timeToDecisionSeconds", "goes with selected only, from 0 to 604800"));
    }
    let nps_score = match (kind, body.nps_score) {
        (EventKind::Nps, Some(score)) => u8::try_from(score).ok().filter(|score| *score <= 10),
        (EventKind::Nps, None) | (_, Some(_)) => None,
        (_, None) => Some(0),
    };
    let nps_score =
        nps_score.ok_or_else(|| bad("npsScore", "is required for and goes with nps only: 0 to 10"))?;
    let occurred_at = body
        .occurred_at
        .as_deref()
        .map(|text| timestamp(text).ok_or_else(|| bad("occurredAt", "must be an RFC 3339 time")))
        .transpose()?;
    Ok(OutcomeEvent {
        recommendation_id,
        kind,
        transaction_type,
        time_to_decision_seconds: seconds,
        nps_score: (kind == EventKind::Nps).then_some(nps_score),
        occurred_at,
    })
}

fn parse_kind(word: &str) -> Option<EventKind> {
    Some(match word {
        "viewed" => EventKind::Viewed,
        "selected" => EventKind::Selected,
        "submitted" => EventKind::Submitted,
        "accepted" => EventKind::Accepted,
        "declined" => EventKind::Declined,
        "expired" => EventKind::Expired,
        "cancelled" => EventKind::Cancelled,
        "nps" => EventKind::Nps,
        _ => return None,
    })
}
