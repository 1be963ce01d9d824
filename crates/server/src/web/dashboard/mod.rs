//! The dashboard: pages for admins, made on the server, whole without a script.
//!
//! Pages ask the same use cases as the API and act through them, so that what is done here is checked and audited as it
//! is there. Who may see and do what is in `guard`; it is asked at every request. What a page is sent with (nothing of
//! another site, nothing inline) is in `page`; `live` keeps the parts of a page that move up to date.

mod alerts;
mod archetypes;
mod asset;
mod audit;
mod decision;
mod error;
mod guard;
mod input;
mod jobs;
mod live;
mod overview;
mod page;
mod plot;
mod recommendations;
mod settings;
mod sign_in;
mod state;
mod ui;
mod user;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, get, post};

pub use state::State;

use crate::api::App;
use crate::api::error::ApiError;
use error::PageError;

/// Where the pages are.
pub mod path {
    /// The overview, and what all of them are below.
    pub const HOME: &str = "/dashboard";
    /// The sign-in.
    pub const SIGN_IN: &str = "/dashboard/sign-in";
    /// Where the sign-out is sent.
    pub const SIGN_OUT: &str = "/dashboard/sign-out";
    /// Archetypes.
    pub const ARCHETYPES: &str = "/dashboard/archetypes";
    /// Recommendations.
    pub const RECOMMENDATIONS: &str = "/dashboard/recommendations";
    /// Users.
    pub const USERS: &str = "/dashboard/users";
    /// One user.
    pub const USER: &str = "/dashboard/user";
    /// Where an override is sent.
    pub const OVERRIDE: &str = "/dashboard/user/override";
    /// Where a reset is sent.
    pub const RESET: &str = "/dashboard/user/reset";
    /// Where a recalculation is sent.
    pub const RECALCULATE: &str = "/dashboard/user/recalculate";
    /// Runs of the job.
    pub const JOBS: &str = "/dashboard/jobs";
    /// Where the start of a run is sent.
    pub const JOB_START: &str = "/dashboard/jobs/start";
    /// Where the cancelling of a run is sent.
    pub const JOB_CANCEL: &str = "/dashboard/jobs/cancel";
    /// Alerts.
    pub const ALERTS: &str = "/dashboard/alerts";
    /// Where a silence is sent.
    pub const SILENCE: &str = "/dashboard/alerts/silence";
    /// Where the end of a silence is sent.
    pub const UNSILENCE: &str = "/dashboard/alerts/unsilence";
    /// The audit log.
    pub const AUDIT: &str = "/dashboard/audit";
    /// The settings.
    pub const SETTINGS: &str = "/dashboard/settings";
}

/// Says whether an address is one of the dashboard's.
pub fn is_below(path: &str) -> bool {
    path.strip_prefix(path::HOME).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The routes.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route(path::HOME, page(get(overview::get_overview)))
        .route(path::SIGN_IN, both(get(sign_in::get_sign_in).post(sign_in::post_sign_in)))
        .route(path::SIGN_OUT, action(post(sign_in::post_sign_out)))
        .route("/dashboard/assets/{name}", page(get(asset::get_asset)))
        .route(path::ARCHETYPES, page(get(archetypes::get_archetypes)))
        .route(path::RECOMMENDATIONS, page(get(recommendations::get_recommendations)))
        .route("/dashboard/recommendations/{id}", page(get(decision::get_decision)))
        .route(path::USERS, page(get(users::get_users)))
        .route(path::USER, page(get(user::get_user)))
        .route(path::OVERRIDE, action(post(user::post_override)))
        .route(path::RESET, action(post(user::post_reset)))
        .route(path::RECALCULATE, action(post(user::post_recalculate)))
        .route(path::JOBS, page(get(jobs::get_jobs)))
        .route(path::JOB_START, action(post(jobs::post_start)))
        .route(path::JOB_CANCEL, action(post(jobs::post_cancel)))
        .route("/dashboard/jobs/{id}", page(get(jobs::get_run)))
        .route(path::ALERTS, page(get(alerts::get_alerts)))
        .route(path::SILENCE, action(post(alerts::post_silence)))
        .route(path::UNSILENCE, action(post(alerts::post_unsilence)))
        .route(path::AUDIT, page(get(audit::get_audit)))
        .route(path::SETTINGS, page(get(settings::get_settings)))
        .route("/dashboard/live/{part}", page(get(live::get_live)))
        .route("/dashboard/{*rest}", any(nothing))
}

/// Says on a page what a request met before it came to one.
pub fn refusal(error: &ApiError) -> Response {
    match error {
        ApiError::Full => PageError::Busy.into_response(),
        other => {
            tracing::error!(error = %other, "dashboard.failed");
            PageError::Inside.into_response()
        }
    }
}

async fn nothing() -> Response {
    PageError::missing("There is no page at this address.").into_response()
}

fn page(routes: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    only("GET, HEAD, OPTIONS", routes)
}

fn action(routes: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    only("POST, OPTIONS", routes)
}

fn both(routes: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    only("GET, HEAD, POST, OPTIONS", routes)
}

/// Answers every other method with 405 and the allowed ones.
fn only(allow: &'static str, routes: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    routes.fallback(async move |_request: Request| PageError::Method(allow))
}
