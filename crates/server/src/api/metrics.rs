//! `GET /metrics`: Prometheus. Open to anybody when bound to loopback, to the service elsewhere.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use metrics::{counter, gauge};

use super::App;
use super::error::ApiError;
use crate::auth::Caller;
use crate::telemetry::process;

/// Shows the metrics in Prometheus' text format.
#[utoipa::path(get, path = super::path::METRICS, tag = "operations", operation_id = "getMetrics",
    responses((status = 200, description = "Prometheus text format", content_type = "text/plain", body = String),
        (status = 401, body = super::error::ErrorBody), (status = 403, body = super::error::ErrorBody)))]
pub async fn get_metrics(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, ApiError> {
    if !app.loopback {
        match app.caller(&parts).await? {
            Caller::Service => {}
            Caller::Anonymous => return Err(ApiError::SignInRequired),
            Caller::User(_) => return Err(ApiError::RoleRequired { needed: "the service key" }),
        }
    }
    publish(&app);
    let mut response = Response::new(Body::from(app.metrics.render()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}

/// Sets the gauges that nobody sets as things happen. To be called before metrics are read, and every few seconds.
pub fn publish(app: &App) {
    let recorder = app.recorder.stats();
    let writer = app.store.writer_stats();
    gauge!("nudge_recorder_queue_depth").set(app.store.queue_depth() as f64);
    gauge!("nudge_recorder_away").set(f64::from(u8::from(recorder.away)));
    gauge!("nudge_spool_depth").set(recorder.spool_depth as f64);
    gauge!("nudge_http_in_flight").set(app.in_flight() as f64);
    gauge!("nudge_last_commit_seconds").set(writer.last_commit_micros as f64 / 1e6);
    counter!("nudge_commits_total").absolute(writer.commits);
    counter!("nudge_commit_rows_total").absolute(writer.rows);
    counter!("nudge_commit_failures_total").absolute(writer.failures);
    gauge!("nudge_spool_used_ratio").set(app.recorder.spool_used());
    gauge!("nudge_archetype_cache_people").set(app.people.known() as f64);
    for pool in app.store.pools() {
        gauge!("nudge_database_connections", "pool" => pool.name).set(pool.size as f64);
        gauge!("nudge_database_connections_busy", "pool" => pool.name).set(pool.busy as f64);
    }
    gauge!("nudge_build_info", "version" => env!("CARGO_PKG_VERSION"), "engine" => app.store.engine())
        .set(1.0);
    gauge!("nudge_refresh_waiting").set(app.refresher.waiting() as f64);
    process::publish();
}
