//! `GET /`: says what runs here, with links and a working example.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::api::{App, path};

const PAGE: &str = include_str!("start.html");
const STYLE: &str = include_str!("start.css");
const SCRIPT: &str = include_str!("start.js");

/// Nothing but this page's own style and script, by their hashes, and calls to this server.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// Shows the start page.
#[utoipa::path(get, path = path::START, tag = "operations", operation_id = "getStart",
    responses((status = 200, description = "A page for people", content_type = "text/html", body = String)))]
pub async fn get_start(State(app): State<Arc<App>>) -> Response {
    let today = app.clock.today(&app.zone);
    let day = today.saturating_add(jiff::Span::new().days(7));
    let page = PAGE
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{url}}", &escape(&app.url))
        .replace("{{anon_key}}", &escape(&app.anon_key))
        .replace("{{date}}", &day.to_string())
        .replace("{{policy}}", &escape(&app.policy.name))
        .replace("{{version}}", env!("CARGO_PKG_VERSION"));
    let mut response = Response::new(Body::from(page));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Escapes text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
