//! `GET /functions/v1/transaction-recommendations`

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::App;
use super::app::user_agent;
use super::error::ApiError;
use super::middleware::Arrived;
use super::query::{Query, target_date};
use super::respond;
use crate::auth::Caller;
use crate::clock::{day_of, new_id};
use crate::usecases::recommend::{Decided, Question};
use crate::usecases::record::{Asker, record_of};
use crate::wire::{Num, OptionBody};

const REQUIRED: &[&str] = &["userId", "targetDate", "roommateId"];

/// The answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecommendationBody {
    /// UUIDv7 of the recorded decision; outcomes name it.
    #[schema(value_type = String)]
    recommendation_id: Uuid,
    /// The pre-selected type.
    primary_recommendation: &'static str,
    /// The three options, the default first.
    #[schema(value_type = Vec<OptionBody>)]
    options: Box<RawValue>,
    user_archetype: UserArchetypeBody,
    context_factors: ContextFactorsBody,
    /// False for neutral defaults only.
    personalized: bool,
    metadata: MetadataBody,
}

/// The requester's archetype.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UserArchetypeBody {
    /// `big_spender`, `high_flexibility` or `average_user`.
    r#type: &'static str,
    /// 0.4 to 1.
    #[schema(value_type = f64)]
    confidence: Num,
    /// What people see.
    label: &'static str,
}

/// What else the decision looked at.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContextFactorsBody {
    /// 0 when overdue.
    days_until_check_in: i64,
    is_weekday: bool,
    /// 0.7 to 1.4.
    #[schema(value_type = f64)]
    market_demand: Num,
    /// Absent in a neutral default.
    #[serde(skip_serializing_if = "Option::is_none")]
    roommate_archetype: Option<&'static str>,
    /// `CRITICAL`, `HIGH`, `MEDIUM` or `LOW`.
    urgency_level: &'static str,
    overdue: bool,
    /// `lease_night` or `default`.
    pricing_source: &'static str,
}

/// About the decision.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetadataBody {
    /// RFC 3339, UTC.
    computed_at: String,
    /// Of the rule.
    #[schema(value_type = f64)]
    confidence: Num,
    /// The rule that chose the order.
    rule: &'static str,
    /// The policy.
    policy: String,
    /// The binary's version.
    version: &'static str,
    /// True when personal data could not be read; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    degraded: bool,
}

/// Recommends a transaction type for a night.
///
/// Every 200 is recorded before it leaves.
#[utoipa::path(
    get, path = super::path::RECOMMENDATIONS, tag = "functions", operation_id = "getRecommendations",
    params(
        ("userId" = String, Query, description = "Who wants the night; the caller's own id, for users"),
        ("targetDate" = String, Query, description = "YYYY-MM-DD, or an RFC 3339 timestamp whose date as written counts"),
        ("roommateId" = String, Query, description = "Who may give it"),
        ("sessionId" = Option<String>, Query, description = "1–128 printable ASCII characters"),
    ),
    responses(
        (status = 200, body = RecommendationBody),
        (status = 400, body = super::error::ErrorBody), (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 429, body = super::error::ErrorBody),
        (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn get_recommendations(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    let (question, session_id) = question(parts.uri.query())?;
    let now = app.clock.now();
    let decided = app.recommender.recommend(&caller, &question, now, day_of(now, &app.zone)).await?;
    let asker = Asker {
        session_id,
        user_agent: user_agent(&parts.headers),
        response_time_ms: parts
            .extensions
            .get::<Arrived>()
            .map_or(0, |arrived| i64::try_from(arrived.0.elapsed().as_millis()).unwrap_or(i64::MAX)),
        source: None,
    };
    let id = new_id(now);
    let subject = (caller != Caller::Anonymous).then_some(&question);
    let (row, options) = record_of(id, subject, &question, &decided, asker, &app.policy.name, now)
        .map_err(|error| ApiError::Internal { detail: error.to_string() })?;
    app.recorder.record(row).await?;
    metrics::counter!("nudge_decisions_total", "rule" => decided.decision.rule.as_str(),
        "type" => decided.decision.primary().as_str(), "archetype" => decided.decision.archetype.as_str(),
        "personalized" => if decided.decision.personalized { "true" } else { "false" })
    .increment(1);
    Ok(respond::json(StatusCode::OK, &body(id, &decided, options, &app.policy.name, now)))
}

/// Parses the query.
pub fn question(query: Option<&str>) -> Result<(Question, Option<String>), ApiError> {
    let query = Query::parse(query, ["userId", "targetDate", "roommateId", "sessionId"])?;
    for i in 0..REQUIRED.len() {
        query.required(i, REQUIRED)?;
    }
    let user = query.user(0, REQUIRED)?;
    let date = target_date(query.required(1, REQUIRED)?).ok_or_else(|| {
        ApiError::field(
            "targetDate",
            "must be YYYY-MM-DD or a complete RFC 3339 timestamp, years 1970 to 9999",
        )
    })?;
    let roommate = query.user(2, REQUIRED)?;
    if user == roommate {
        return Err(ApiError::field("roommateId", "must be another user than userId"));
    }
    let session_id = query.get(3).map(|session| {
        let fits = session.len() <= 128 && session.bytes().all(|b| (b' '..=b'~').contains(&b));
        if fits {
            Ok(session.to_owned())
        } else {
            Err(ApiError::field("sessionId", "must be 1 to 128 printable ASCII characters"))
        }
    });
    Ok((Question { user, roommate, target_date: date }, session_id.transpose()?))
}

fn body(
    id: Uuid,
    decided: &Decided,
    options: Box<RawValue>,
    policy: &str,
    now: Timestamp,
) -> RecommendationBody {
    let decision = &decided.decision;
    RecommendationBody {
        recommendation_id: id,
        primary_recommendation: decision.primary().as_str(),
        options,
        user_archetype: UserArchetypeBody {
            r#type: decision.archetype.as_str(),
            confidence: Num(decision.archetype_confidence),
            label: decision.archetype.label(),
        },
        context_factors: ContextFactorsBody {
            days_until_check_in: decision.urgency.days,
            is_weekday: decision.is_weekday,
            market_demand: Num(decision.night.demand.factor()),
            roommate_archetype: decision.roommate_archetype.map(nudge_engine::Archetype::as_str),
            urgency_level: decision.urgency.level.as_str(),
            overdue: decision.urgency.overdue,
            pricing_source: decision.night.source.as_str(),
        },
        personalized: decision.personalized,
        metadata: MetadataBody {
            computed_at: respond::time(now),
            confidence: Num(decision.confidence),
            rule: decision.rule.as_str(),
            policy: policy.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            degraded: decided.degraded,
        },
    }
}
