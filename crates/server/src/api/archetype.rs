//! `/functions/v1/user-archetype`: shown with GET, recomputed with POST, overridden with PUT, reset with DELETE.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use jiff::Timestamp;
use nudge_engine::{Archetype, Signals, UserId};
use nudge_store::StoredArchetype;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::App;
use super::app::Origin;
use super::body;
use super::error::ApiError;
use super::query::{Query, timestamp};
use super::respond;
use crate::usecases::admin::{message, parse_reason};
use crate::usecases::archetype::{Done, Shown, Verb};
use crate::usecases::people::nobody;
use crate::wire::Num;

const REQUIRED: &[&str] = &["userId"];

/// An archetype as shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchetypeBody {
    #[schema(value_type = String)]
    user_id: UserId,
    /// `big_spender`, `high_flexibility` or `average_user`.
    archetype_type: &'static str,
    /// 0.4 to 0.95; 1 for an override.
    #[schema(value_type = f64)]
    confidence: Num,
    /// The twelve signals.
    #[schema(value_type = Object)]
    signals: Map<String, Value>,
    /// The texts of the first rows that fired, at most five.
    reasoning: Vec<String>,
    /// Points by archetype, and every row that fired.
    #[schema(value_type = Object)]
    scores: Value,
    /// What people see.
    label: &'static str,
    description: &'static str,
    /// RFC 3339, UTC; absent when nothing was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    computed_at: Option<String>,
    /// Hours until it is computed again, such as `23.4h`; of an override until it expires, or null.
    next_update_in: Option<String>,
    /// Whether it was stored before this request.
    cached: bool,
    is_manual_override: bool,
    /// When the override ends; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// True when the user refuses personalization; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    opted_out: bool,
}

/// What an admin's call did.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ChangedBody {
    success: bool,
    archetype: ArchetypeBody,
    /// What was done, for people.
    message: String,
}

/// The body of POST.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecalculateBody {
    user_id: String,
}

/// The body of PUT.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OverrideBody {
    user_id: String,
    /// `big_spender`, `high_flexibility` or `average_user`.
    #[schema(value_type = String)]
    archetype_type: Value,
    /// Why: 1 to 2000 characters.
    reason: String,
    /// When it ends, RFC 3339; without it the override stays until it is reset.
    #[serde(default)]
    expires_at: Option<String>,
}

/// Shows a user's archetype.
#[utoipa::path(
    get, path = super::path::ARCHETYPE, tag = "functions", operation_id = "getArchetype",
    params(("userId" = String, Query, description = "The user; the caller's own id, for users")),
    responses(
        (status = 200, body = ArchetypeBody),
        (status = 400, body = super::error::ErrorBody), (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn get_archetype(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    if caller == crate::auth::Caller::Anonymous {
        return Err(ApiError::SignInRequired);
    }
    let user = Query::parse(parts.uri.query(), ["userId"])?.user(0, REQUIRED)?;
    app.may_see(&caller, &user).await?;
    let now = app.clock.now();
    let shown = app.archetypes.show(&user, now).await?;
    Ok(respond::json(StatusCode::OK, &shown_body(&app, user, &shown, now)))
}

/// Recomputes a user's archetype now. A live override is kept.
#[utoipa::path(
    post, path = super::path::ARCHETYPE, tag = "functions", operation_id = "recalculateArchetype",
    request_body = RecalculateBody,
    responses(
        (status = 200, body = ChangedBody),
        (status = 400, body = super::error::ErrorBody), (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 408, body = super::error::ErrorBody),
        (status = 409, body = super::error::ErrorBody), (status = 413, body = super::error::ErrorBody),
        (status = 415, body = super::error::ErrorBody),
        (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn recalculate_archetype(
    State(app): State<Arc<App>>,
    parts: Parts,
    sent: Body,
) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    let actor = app.admin(&caller, &Origin::of(&parts)).await?;
    let body: RecalculateBody = body::parse(&body::read(&app, &caller, &parts, sent, body::MAX_JSON).await?)?;
    change(&app, &parse_user(&body.user_id)?, Verb::Recalculate, &actor).await
}

/// Overrides a user's archetype, until it expires or is reset.
#[utoipa::path(
    put, path = super::path::ARCHETYPE, tag = "functions", operation_id = "overrideArchetype",
    request_body = OverrideBody,
    responses(
        (status = 200, body = ChangedBody),
        (status = 400, body = super::error::ErrorBody), (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 408, body = super::error::ErrorBody),
        (status = 409, body = super::error::ErrorBody), (status = 413, body = super::error::ErrorBody),
        (status = 415, body = super::error::ErrorBody),
        (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn override_archetype(
    State(app): State<Arc<App>>,
    parts: Parts,
    sent: Body,
) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    let actor = app.admin(&caller, &Origin::of(&parts)).await?;
    let body: OverrideBody = body::parse(&body::read(&app, &caller, &parts, sent, body::MAX_JSON).await?)?;
    let user = parse_user(&body.user_id)?;
    let verb = parse_override(&body, app.clock.now())?;
    change(&app, &user, verb, &actor).await
}

/// Ends an override.
#[utoipa::path(
    delete, path = super::path::ARCHETYPE, tag = "functions", operation_id = "resetArchetype",
    params(("userId" = String, Query, description = "The user")),
    responses(
        (status = 200, body = ChangedBody),
        (status = 400, body = super::error::ErrorBody), (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 409, body = super::error::ErrorBody),
        (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn reset_archetype(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    let actor = app.admin(&caller, &Origin::of(&parts)).await?;
    let user = Query::parse(parts.uri.query(), ["userId"])?.user(0, REQUIRED)?;
    change(&app, &user, Verb::Reset, &actor).await
}

fn parse_user(text: &str) -> Result<UserId, ApiError> {
    UserId::parse(text).map_err(|error| ApiError::field("userId", format!("is not a user id: {error}")))
}

fn parse_override(body: &OverrideBody, now: Timestamp) -> Result<Verb, ApiError> {
    let archetype = body.archetype_type.as_str().and_then(|word| word.parse::<Archetype>().ok());
    let archetype = archetype.ok_or(ApiError::InvalidArchetype)?;
    let reason = parse_reason(&body.reason).map_err(|problem| ApiError::field("reason", problem))?;
    let expires_at = body.expires_at.as_deref().map(|text| parse_expiry(text, now)).transpose();
    let expires_at = expires_at.map_err(|problem| ApiError::field("expiresAt", problem))?;
    Ok(Verb::Override { archetype, reason, expires_at })
}

/// Parses an override's end: RFC 3339, in the future.
///
/// # Errors
/// What is wrong with it.
pub fn parse_expiry(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    match timestamp(text) {
        Some(at) if at > now => Ok(at),
        Some(_) => Err("must be in the future".to_owned()),
        None => Err("must be an RFC 3339 time, such as 2026-12-31T23:59:59Z".to_owned()),
    }
}

async fn change(
    app: &App,
    user: &UserId,
    verb: Verb,
    actor: &nudge_store::Actor,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let done = app.archetypes.change(user, &verb, actor, now).await?;
    let message = message(&verb, &done);
    let shown = match done {
        Done::Changed(shown) | Done::OverrideKept(shown) | Done::NothingToReset(shown) => shown,
        Done::OptedOut => return Err(ApiError::OptedOut),
    };
    let archetype = shown_body(app, user.clone(), &shown, now);
    Ok(respond::json(StatusCode::OK, &ChangedBody { success: true, archetype, message }))
}

/// Makes the wire form of what is shown.
pub fn shown_body(app: &App, user_id: UserId, shown: &Shown, now: Timestamp) -> ArchetypeBody {
    let ttl_hours = app.people.ttl_hours();
    match shown {
        Shown::Stored { row, cached } => stored_body(user_id, row, *cached, now, ttl_hours),
        Shown::NoHistory(computed) => ArchetypeBody {
            user_id,
            archetype_type: computed.archetype.as_str(),
            confidence: Num(computed.confidence),
            signals: signals_body(&computed.signals),
            reasoning: computed.reasoning.clone(),
            scores: computed.scores.clone(),
            label: computed.archetype.label(),
            description: computed.archetype.description(),
            computed_at: Some(respond::time(computed.computed_at)),
            next_update_in: None,
            cached: false,
            is_manual_override: false,
            expires_at: None,
            opted_out: false,
        },
        Shown::OptedOut => {
            let person = nobody(&app.policy);
            ArchetypeBody {
                user_id,
                archetype_type: person.archetype.as_str(),
                confidence: Num(person.confidence),
                signals: signals_body(&person.signals),
                reasoning: vec![],
                scores: Value::Object(Map::new()),
                label: person.archetype.label(),
                description: person.archetype.description(),
                computed_at: None,
                next_update_in: None,
                cached: false,
                is_manual_override: false,
                expires_at: None,
                opted_out: true,
            }
        }
    }
}

fn stored_body(
    user_id: UserId,
    row: &StoredArchetype,
    cached: bool,
    now: Timestamp,
    ttl_hours: f64,
) -> ArchetypeBody {
    let live = row.has_live_override(now);
    let expires_at = row.manual.as_ref().filter(|_| live).and_then(|m| m.expires_at);
    let hours_to = |at: Timestamp| at.duration_since(now).as_secs_f64() / 3_600.0;
    let next_hours =
        if live { expires_at.map(hours_to) } else { Some(ttl_hours + hours_to(row.computed_at)) };
    ArchetypeBody {
        user_id,
        archetype_type: row.archetype.as_str(),
        confidence: Num(row.confidence),
        signals: signals_body(&row.signals),
        reasoning: row.reasoning.clone(),
        scores: row.scores.clone(),
        label: row.archetype.label(),
        description: row.archetype.description(),
        computed_at: Some(respond::time(row.computed_at)),
        next_update_in: next_hours.map(|hours| format!("{:.1}h", hours.max(0.0))),
        cached,
        is_manual_override: live,
        expires_at: expires_at.map(respond::time),
        opted_out: false,
    }
}

/// Gives the signals by wire name.
pub fn signals_body(signals: &Signals) -> Map<String, Value> {
    signals.named().into_iter().map(|(name, value)| (name.to_owned(), Num(value).value())).collect()
}
