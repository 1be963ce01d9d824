//! `POST /functions/v1/ingest`: the app's facts, as Supabase Database Webhooks send them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use nudge_engine::UserId;
use nudge_store::{FactChange, FactKey, FactRow, FactTable, FieldError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::App;
use super::body;
use super::error::ApiError;
use super::respond;
use crate::auth::Caller;

/// Most changes in one call; the size limit of the body comes first for wide rows.
const MAX_CHANGES: usize = 10_000;

/// One change of a row.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeBody {
    /// `INSERT`, `UPDATE` or `DELETE`.
    r#type: String,
    /// `date_change_requests`, `lease_nights`, `lease_members`, `leases` or `profiles`.
    table: String,
    /// `public`.
    schema: String,
    /// The row, for INSERT and UPDATE. Columns that are not known here are ignored.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    record: Option<Map<String, Value>>,
    /// The row before, for UPDATE and DELETE.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    old_record: Option<Map<String, Value>>,
}

/// The answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestedBody {
    success: bool,
    /// Rows inserted or changed.
    upserted: usize,
    /// Rows deleted.
    deleted: usize,
    /// Rows that were as given already, and deletes of rows that were not there.
    unchanged: usize,
    /// Outcomes that the rows told of.
    outcomes_recorded: usize,
    /// Outcomes that contradict what is known; the rows are stored all the same.
    outcomes_refused: usize,
    /// Requests that name a recommendation which does not exist or is not the requester's.
    unknown_recommendations: usize,
}

/// Takes changes of the app's facts, all or nothing.
#[utoipa::path(
    post, path = super::path::INGEST, tag = "functions", operation_id = "ingestFacts",
    request_body(content = ChangeBody, description = "One change, or an array: all or nothing"),
    responses(
        (status = 200, body = IngestedBody),
        (status = 400, body = super::error::ErrorBody), (status = 408, body = super::error::ErrorBody),
        (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 413, body = super::error::ErrorBody),
        (status = 415, body = super::error::ErrorBody), (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn ingest_facts(
    State(app): State<Arc<App>>,
    parts: Parts,
    sent: Body,
) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    match &caller {
        Caller::Anonymous => return Err(ApiError::SignInRequired),
        Caller::User(_) => return Err(ApiError::RoleRequired { needed: "the service key" }),
        Caller::Service => {}
    }
    let bytes = body::read(&app, &caller, &parts, sent, body::MAX_INGEST).await?;
    let (changes, asked) = parse_bodies(&bytes)?;
    let waits = |change: &FactChange| match change {
        FactChange::Upsert(FactRow::DateChangeRequest(row)) => {
            row.recommendation_id.is_some_and(|id| app.recorder.is_spooled(&id))
        }
        _ => false,
    };
    if changes.iter().any(waits) {
        return Err(ApiError::Unavailable { detail: "the decision is still in the spool".to_owned() });
    }
    let before = app.store.changes_head().await?;
    let applied = app.store.apply_facts(changes, app.clock.now()).await?;
    // The feed knows the users of the rows as they were, too.
    if app.people.forget_since(before).await.is_err() {
        app.people.forget_all();
    }
    app.refresher.count(asked);
    let answer = IngestedBody {
        success: true,
        upserted: applied.upserted,
        deleted: applied.deleted,
        unchanged: applied.unchanged,
        outcomes_recorded: applied.events_recorded,
        outcomes_refused: applied.event_conflicts,
        unknown_recommendations: applied.unknown_recommendations,
    };
    Ok(respond::json(StatusCode::OK, &answer))
}

/// Parses the body into validated changes.
pub fn parse_changes(bytes: &[u8]) -> Result<Vec<FactChange>, ApiError> {
    parse_bodies(bytes).map(|(changes, _)| changes)
}

/// Parses the body into validated changes, and both parties of each new request.
fn parse_bodies(bytes: &[u8]) -> Result<(Vec<FactChange>, Vec<UserId>), ApiError> {
    let bodies: Vec<ChangeBody> = body::parse_one_or_many(bytes, MAX_CHANGES)?;
    let mut changes = Vec::with_capacity(bodies.len());
    let mut asked = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        parse_change(body, &mut changes).map_err(|FieldError { field, problem }| ApiError::BadField {
            field: format!("[{index}].{field}"),
            problem,
        })?;
        if body.r#type == "INSERT"
            && let Some(FactChange::Upsert(FactRow::DateChangeRequest(row))) = changes.last()
        {
            asked.extend([row.requester_id.clone(), row.receiver_id.clone()]);
        }
    }
    Ok((changes, asked))
}

fn parse_change(body: &ChangeBody, changes: &mut Vec<FactChange>) -> Result<(), FieldError> {
    let bad =
        |field: &str, problem: &str| FieldError { field: field.to_owned(), problem: problem.to_owned() };
    if body.schema != "public" {
        return Err(bad("schema", "must be `public`"));
    }
    let table: FactTable = body.table.parse().map_err(|_| {
        bad("table", "must be date_change_requests, lease_nights, lease_members, leases or profiles")
    })?;
    let under = |name: &'static str| {
        move |error: FieldError| FieldError { field: format!("{name}.{}", error.field), ..error }
    };
    let record = || body.record.as_ref().ok_or_else(|| bad("record", "is missing"));
    let old_record = || body.old_record.as_ref().ok_or_else(|| bad("old_record", "is missing"));
    match body.r#type.as_str() {
        "INSERT" | "UPDATE" => {
            let row = FactRow::from_json(table, record()?).map_err(under("record"))?;
            // An update may change the key; old_record may be partial, so a key that cannot be read says nothing.
            if body.r#type == "UPDATE"
                && let Some(Ok(old)) = body.old_record.as_ref().map(|old| FactKey::from_json(table, old))
                && old != row.key()
            {
                changes.push(FactChange::Delete(old));
            }
            changes.push(FactChange::Upsert(row));
        }
        "DELETE" => {
            changes.push(FactChange::Delete(
                FactKey::from_json(table, old_record()?).map_err(under("old_record"))?,
            ));
        }
        _ => return Err(bad("type", "must be INSERT, UPDATE or DELETE")),
    }
    Ok(())
}
