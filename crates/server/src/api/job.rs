//! `/functions/v1/archetype-recalculation-job`: starts a run, shows it, cancels it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use nudge_store::job::{Run, RunCancelled, RunCause, RunStatus};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::App;
use super::app::Origin;
use super::body;
use super::error::ApiError;
use super::query::Query;
use super::respond;
use crate::usecases::job::{BadJobConfig, By, JobConfig, Triggered, duration_text};

/// How long an answer waits for the run's end: without `wait` (callers in a database give up after two seconds), and with it.
const WAIT: Duration = Duration::from_millis(1_500);
const LONG_WAIT: Duration = Duration::from_secs(25);

const REQUIRED: &[&str] = &["jobId"];

/// The body of POST; all of it is optional.
#[derive(Debug, Default, PartialEq, Eq, utoipa::ToSchema)]
#[schema(as = JobBody)]
pub struct JobBody {
    /// The run's settings.
    #[schema(value_type = Option<JobConfigBody>)]
    config: JobConfig,
    /// Whether to wait for the end: up to 25 s (true), not at all (false), or 1.5 s (absent).
    wait: Option<bool>,
}

/// The settings of a run.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobConfigBody {
    /// Users in a batch; default 100.
    #[schema(minimum = 1, maximum = 1000)]
    batch_size: Option<u32>,
    /// Only users that are marked as stale or whose archetype is old; default true. Else everybody.
    only_stale_users: Option<bool>,
    /// Hours after which an archetype is old; default 24. One hour less counts.
    #[schema(minimum = 0, maximum = 8760)]
    stale_threshold_hours: Option<u32>,
    /// Greatest number of threads that classify; default 10.
    #[schema(minimum = 1, maximum = 64)]
    max_concurrent: Option<u32>,
}

/// A run that has not ended.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStartedBody {
    success: bool,
    /// The run, for GET and DELETE.
    #[schema(value_type = String)]
    job_id: Uuid,
    /// `running`, or `interrupted` while nobody works on it.
    #[schema(value_type = String)]
    status: RunStatus,
}

/// A run.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRunBody {
    /// False for a run that failed.
    success: bool,
    #[schema(value_type = String)]
    job_id: Uuid,
    /// `running`, `completed`, `interrupted`, `failed` or `cancelled`.
    #[schema(value_type = String)]
    status: RunStatus,
    /// Users looked at.
    processed: i64,
    /// Users whose type changed, or whose confidence moved by more than 0.1.
    updated: i64,
    /// Users whose rows could not be used.
    failed: i64,
    /// How long it took, or has taken, such as `812ms`.
    duration: String,
    /// When it ended; now, while it has not.
    timestamp: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

/// Starts a run, or gives the one that is not finished.
#[utoipa::path(
    post, path = super::path::JOB, tag = "functions", operation_id = "startJob",
    request_body(content = Option<JobBody>, description = "Settings and waiting; may be left out"),
    responses(
        (status = 200, description = "The run has ended", body = JobRunBody),
        (status = 202, description = "The run goes on", body = JobStartedBody),
        (status = 400, body = super::error::ErrorBody), (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 408, body = super::error::ErrorBody),
        (status = 413, body = super::error::ErrorBody), (status = 415, body = super::error::ErrorBody),
        (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn start_job(State(app): State<Arc<App>>, parts: Parts, sent: Body) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    let actor = app.admin(&caller, &Origin::of(&parts)).await?;
    let bytes = body::read_optional(&app, &caller, &parts, sent, body::MAX_JSON).await?;
    let JobBody { config, wait } = parse_job(&bytes)?;
    let id = match app.jobs.trigger(config, RunCause::Asked, By::Person(&actor)).await? {
        Triggered::Started(id) | Triggered::Running(id) => id,
        Triggered::SeenTo => return Err(ApiError::Internal { detail: "a wish was seen to".to_owned() }),
    };
    let longest = match wait {
        None => WAIT,
        Some(true) => LONG_WAIT,
        Some(false) => Duration::ZERO,
    };
    let run = app.jobs.wait(id, longest).await?.ok_or(ApiError::NoSuchJob)?;
    if run.status.is_final() {
        return Ok(respond::json(StatusCode::OK, &run_body(&app, &run)));
    }
    let answer = JobStartedBody { success: true, job_id: id, status: run.status };
    Ok(respond::json(StatusCode::ACCEPTED, &answer))
}

/// Shows a run, with what has been done so far.
#[utoipa::path(
    get, path = super::path::JOB, tag = "functions", operation_id = "getJob",
    params(("jobId" = String, Query, description = "The run")),
    responses(
        (status = 200, body = JobRunBody),
        (status = 400, body = super::error::ErrorBody), (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 404, body = super::error::ErrorBody),
        (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn get_job(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    app.admin(&caller, &Origin::of(&parts)).await?;
    let run = app.jobs.run(parse_id(&parts)?).await?.ok_or(ApiError::NoSuchJob)?;
    Ok(respond::json(StatusCode::OK, &run_body(&app, &run)))
}

/// Cancels a run: nothing more is written for it. What has been stays.
#[utoipa::path(
    delete, path = super::path::JOB, tag = "functions", operation_id = "cancelJob",
    params(("jobId" = String, Query, description = "The run")),
    responses(
        (status = 200, body = JobRunBody),
        (status = 400, body = super::error::ErrorBody), (status = 401, body = super::error::ErrorBody),
        (status = 403, body = super::error::ErrorBody), (status = 404, body = super::error::ErrorBody),
        (status = 409, body = super::error::ErrorBody), (status = 503, body = super::error::ErrorBody),
    ),
    security(("bearer" = []), ("apikey" = [])),
)]
pub async fn cancel_job(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, ApiError> {
    let caller = app.caller(&parts).await?;
    let actor = app.admin(&caller, &Origin::of(&parts)).await?;
    let id = parse_id(&parts)?;
    match app.jobs.cancel(id, &actor).await? {
        RunCancelled::Cancelled => {}
        RunCancelled::Ended(status) => return Err(ApiError::JobEnded { status: status.as_str() }),
        RunCancelled::Unknown => return Err(ApiError::NoSuchJob),
    }
    let run = app.jobs.run(id).await?.ok_or(ApiError::NoSuchJob)?;
    Ok(respond::json(StatusCode::OK, &run_body(&app, &run)))
}

fn run_body(app: &App, run: &Run) -> JobRunBody {
    let now = app.clock.now();
    JobRunBody {
        success: run.status != RunStatus::Failed,
        job_id: run.id,
        status: run.status,
        processed: run.processed,
        updated: run.updated,
        failed: run.failed,
        duration: duration_text(run, now),
        timestamp: respond::time(run.completed_at.unwrap_or(now)),
        error_message: run.error_message.clone(),
    }
}

fn parse_id(parts: &Parts) -> Result<Uuid, ApiError> {
    let query = Query::parse(parts.uri.query(), ["jobId"])?;
    Uuid::parse_str(query.required(0, REQUIRED)?).map_err(|_| ApiError::field("jobId", "must be a UUID"))
}

/// The members of an object, in their order, not read yet.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

impl Members {
    /// Reads each member once.
    fn values(self, prefix: &str) -> Result<Map<String, Value>, ApiError> {
        let mut values = Map::new();
        for (name, raw) in self.0 {
            let value = serde_json::from_str(raw.get())
                .map_err(|_| bad_field(prefix, &name, "is not valid JSON".to_owned()))?;
            if values.insert(name.clone(), value).is_some() {
                return Err(bad_field(prefix, &name, "must be given once".to_owned()));
            }
        }
        Ok(values)
    }
}

/// Names a field, unless it is something that may have come to the wrong place.
fn bad_field(prefix: &str, name: &str, problem: String) -> ApiError {
    let plain = name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let name = if plain { name } else { "…" };
    ApiError::field(format!("{prefix}{name}"), problem)
}

/// Parses the body; an empty one has nothing but defaults.
///
/// # Errors
/// 400 that names the field and its bounds.
pub fn parse_job(bytes: &[u8]) -> Result<JobBody, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(JobBody::default());
    }
    let members: Members = body::parse(bytes)?;
    let (mut config, mut others) = (None, Vec::new());
    for (name, raw) in members.0 {
        if name == "config" {
            if config.replace(raw).is_some() {
                return Err(ApiError::field("config", "must be given once"));
            }
        } else {
            others.push((name, raw));
        }
    }
    let mut parsed = JobBody::default();
    for (name, value) in Members(others).values("")? {
        match (name.as_str(), value.as_bool()) {
            ("wait", Some(wait)) => parsed.wait = Some(wait),
            ("wait", None) => return Err(ApiError::field("wait", "must be true or false")),
            _ => {
                let problem = "is not known here; there are config (an object) and wait (true or false)";
                return Err(bad_field("", &name, problem.to_owned()));
            }
        }
    }
    if let Some(raw) = config {
        let settings: Members = serde_json::from_str(raw.get())
            .map_err(|_| ApiError::field("config", "must be an object of settings"))?;
        parsed.config = JobConfig::from_json(&settings.values("config.")?)
            .map_err(|BadJobConfig { field, problem }| bad_field("config.", &field, problem))?;
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<JobBody, String> {
        parse_job(body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_guide_s_bodies_are_taken() {
        let body = r#"{"config": {"batchSize": 10, "onlyStaleUsers": false}}"#;
        let config = JobConfig { batch_size: 10, only_stale_users: false, ..JobConfig::default() };
        assert_eq!(parse(body), Ok(JobBody { config, wait: None }));
        assert_eq!(parse(" \n"), Ok(JobBody::default()));
        assert_eq!(parse("{}"), Ok(JobBody::default()));
        assert_eq!(parse(r#"{"wait": false}"#).map(|body| body.wait), Ok(Some(false)));
    }

    #[test]
    fn whatever_does_not_fit_is_named() {
        for (body, wanted) in [
            (r#"{"config": {"batchSize": 0}}"#, "`config.batchSize` must be a whole number from 1 to 1000."),
            (r#"{"config": {"batchSize": 5, "batchSize": 6}}"#, "`config.batchSize` must be given once."),
            (r#"{"config": {}, "config": {}}"#, "`config` must be given once."),
            (r#"{"config": null}"#, "`config` must be an object of settings."),
            (r#"{"config": []}"#, "`config` must be an object of settings."),
            (r#"{"wait": "true"}"#, "`wait` must be true or false."),
            (r#"{"wait": null}"#, "`wait` must be true or false."),
            (r#"{"wait": true, "wait": true}"#, "`wait` must be given once."),
            (
                r#"{"batchSize": 5}"#,
                "`batchSize` is not known here; there are config (an object) and wait (true or false).",
            ),
        ] {
            assert_eq!(parse(body), Err(wanted.to_owned()), "{body}");
        }
        let unknown = parse(r#"{"config": {"eyJhbGciOi.secret": 1}}"#).unwrap_err();
        assert!(
            unknown.starts_with("`config.…` is no setting; there are batchSize (1 to 1000)"),
            "{unknown}"
        );
        for body in ["[]", "1", "{", "null", r#""text""#] {
            assert!(parse(body).is_err(), "{body}");
        }
    }
}
