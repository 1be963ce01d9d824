//! The HTTP API: one file a route, one place each for errors, bodies, queries and what all responses share.

pub mod app;
pub mod archetype;
pub mod body;
pub mod error;
pub mod health;
pub mod ingest;
pub mod job;
pub mod metrics;
pub mod middleware;
pub mod openapi;
pub mod outcomes;
pub mod query;
pub mod recommendations;
pub mod respond;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{MethodRouter, any, get, post};

pub use app::App;
use error::ApiError;

/// Where the routes live.
pub mod path {
    /// Recommendations.
    pub const RECOMMENDATIONS: &str = "/functions/v1/transaction-recommendations";
    /// Archetypes.
    pub const ARCHETYPE: &str = "/functions/v1/user-archetype";
    /// Outcomes.
    pub const OUTCOMES: &str = "/functions/v1/recommendation-outcomes";
    /// Facts.
    pub const INGEST: &str = "/functions/v1/ingest";
    /// The recalculation job.
    pub const JOB: &str = "/functions/v1/archetype-recalculation-job";
    /// Liveness.
    pub const LIVE: &str = "/health/live";
    /// Readiness.
    pub const READY: &str = "/health/ready";
    /// Prometheus.
    pub const METRICS: &str = "/metrics";
    /// OpenAPI.
    pub const OPENAPI: &str = "/openapi.json";
    /// The start page.
    pub const START: &str = "/";
    /// Tables, by PostgREST's contract.
    pub const REST: &str = crate::rest::ROOT;
    /// Pages for admins.
    pub const DASHBOARD: &str = crate::web::dashboard::path::HOME;
    /// Says whether a route is one of the functions, which are what alerts are about, and whether it waits on purpose.
    pub fn function(route: &str) -> Option<bool> {
        route.starts_with("/functions/v1/").then_some(route == JOB)
    }

    /// All of them, for metric labels.
    pub const ALL: [&str; 12] = [
        RECOMMENDATIONS,
        ARCHETYPE,
        OUTCOMES,
        INGEST,
        JOB,
        LIVE,
        READY,
        METRICS,
        OPENAPI,
        START,
        REST,
        DASHBOARD,
    ];
}

/// Builds the router with everything that all responses share.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(
            path::RECOMMENDATIONS,
            only(
                "GET, OPTIONS",
                // Every answer is recorded as shown to somebody; an answer without a body shows nothing.
                get(recommendations::get_recommendations)
                    .head(async || ApiError::WrongMethod { allow: "GET, OPTIONS" }),
            ),
        )
        .route(
            path::ARCHETYPE,
            only(
                "GET, HEAD, POST, PUT, DELETE, OPTIONS",
                get(archetype::get_archetype)
                    .post(archetype::recalculate_archetype)
                    .put(archetype::override_archetype)
                    .delete(archetype::reset_archetype),
            ),
        )
        .route(path::OUTCOMES, only("POST, OPTIONS", post(outcomes::record_outcomes)))
        .route(path::INGEST, only("POST, OPTIONS", post(ingest::ingest_facts)))
        .route(
            path::JOB,
            only(
                "GET, HEAD, POST, DELETE, OPTIONS",
                get(job::get_job).post(job::start_job).delete(job::cancel_job),
            ),
        )
        .route(path::LIVE, only("GET, HEAD, OPTIONS", get(health::get_live)))
        .route(path::READY, only("GET, HEAD, OPTIONS", get(health::get_ready)))
        .route(path::METRICS, only("GET, HEAD, OPTIONS", get(metrics::get_metrics)))
        .route(path::OPENAPI, only("GET, HEAD, OPTIONS", get(openapi::get_openapi)))
        .route(path::START, only("GET, HEAD, OPTIONS", get(crate::web::start::get_start)))
        .route(path::REST, any(crate::rest::answer))
        .route("/rest/v1/", any(crate::rest::answer))
        .route("/rest/v1/{*path}", any(crate::rest::answer))
        .merge(crate::web::dashboard::router())
        .fallback(async || ApiError::NoSuchRoute)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), middleware::around))
        .with_state(app)
}

/// Answers every other method with 405 and the allowed ones.
fn only(allow: &'static str, routes: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    routes.fallback(async move |_request: Request| ApiError::WrongMethod { allow })
}
