//! JSON responses.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

/// Makes a JSON response.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // Room for a recommendation, the largest of the frequent answers.
    let mut bytes = Vec::with_capacity(4_096);
    match serde_json::to_writer(&mut bytes, body) {
        Ok(()) => json_bytes(status, bytes),
        Err(error) => {
            tracing::error!(%error, "response.not_serializable");
            json_bytes(
                StatusCode::INTERNAL_SERVER_ERROR,
                br#"{"code":"internal","error":"Internal error"}"#.to_vec(),
            )
        }
    }
}

/// Makes a JSON response from bytes.
pub fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Formats a time for the wire: RFC 3339, UTC, `Z`.
pub fn time(at: jiff::Timestamp) -> String {
    at.to_string()
}
