//! `GET /health/live`, `GET /health/ready`: no credentials needed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::App;
use super::respond;

/// Whether the process runs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LiveBody {
    /// `ok`.
    status: &'static str,
    version: &'static str,
}

/// Whether the service can do its work.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadyBody {
    /// `ready` or `degraded`.
    status: &'static str,
    /// `ok` or `unavailable`.
    database: &'static str,
    /// Version of the newest migration; absent while the database cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_version: Option<i64>,
    /// Decisions that wait in the spool.
    spool_depth: usize,
    version: &'static str,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Says that the process runs.
#[utoipa::path(get, path = super::path::LIVE, tag = "operations", operation_id = "getLive",
    responses((status = 200, body = LiveBody)))]
pub async fn get_live() -> Response {
    respond::json(StatusCode::OK, &LiveBody { status: "ok", version: VERSION })
}

/// Says whether the database can be read and what waits in the spool. 503 while the database cannot be read.
#[utoipa::path(get, path = super::path::READY, tag = "operations", operation_id = "getReady",
    responses((status = 200, body = ReadyBody), (status = 503, body = ReadyBody)))]
pub async fn get_ready(State(app): State<Arc<App>>) -> Response {
    let version = app.store.schema_version().await;
    if let Err(error) = &version {
        tracing::warn!(%error, "health.database_unavailable");
    }
    let ok = version.is_ok();
    let body = ReadyBody {
        status: if ok { "ready" } else { "degraded" },
        database: if ok { "ok" } else { "unavailable" },
        schema_version: version.ok(),
        spool_depth: app.recorder.stats().spool_depth,
        version: VERSION,
    };
    respond::json(if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}
