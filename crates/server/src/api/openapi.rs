//! `GET /openapi.json`: generated from the routes, kept as a snapshot test.

use axum::http::StatusCode;
use axum::response::Response;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::respond;
use crate::wire;

/// The document.
#[derive(Debug, OpenApi)]
#[openapi(
    info(title = "Nudge", description = "Personalized defaults for a shared-lease marketplace.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")),
    paths(
        super::recommendations::get_recommendations,
        super::archetype::get_archetype,
        super::archetype::recalculate_archetype,
        super::archetype::override_archetype,
        super::archetype::reset_archetype,
        super::outcomes::record_outcomes,
        super::ingest::ingest_facts,
        super::job::start_job,
        super::job::get_job,
        super::job::cancel_job,
        super::health::get_live,
        super::health::get_ready,
        super::metrics::get_metrics,
        get_openapi,
        crate::web::start::get_start,
    ),
    components(schemas(wire::OptionBody, wire::ReasonBody)),
    modifiers(&Credentials),
    tags((name = "functions", description = "What apps call"), (name = "operations", description = "What operators call")),
)]
pub struct Document;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            "bearer",
            SecurityScheme::Http(
                HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build(),
            ),
        );
        components.add_security_scheme(
            "apikey",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("apikey"))),
        );
    }
}

/// Gives this document.
#[utoipa::path(get, path = super::path::OPENAPI, tag = "operations", operation_id = "getOpenapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)))]
pub async fn get_openapi() -> Response {
    respond::json(StatusCode::OK, &Document::openapi())
}
