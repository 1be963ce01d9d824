//! What surrounds every route: request id, CORS, limits, metrics, the rendering of errors, and panics turned into 500.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::{counter, histogram};

use super::App;
use super::app::Place;
use super::error::{ApiError, Pending};
use super::path;
use crate::clock::new_id;
use crate::request_log::{Entry, Seen};
use crate::rest::{self, error::RestError};
use crate::web::dashboard;

const ALLOW_HEADERS: &str =
    "authorization, x-client-info, apikey, content-type, x-retry-count, traceparent, tracestate, baggage";
const ALLOW_METHODS: &str = "GET, POST, PUT, PATCH, DELETE, OPTIONS";
const EXPOSE_HEADERS: &str = "x-request-id, retry-after, allow";
/// What a browser may send below `/rest/v1` besides.
const ALLOW_REST_HEADERS: &str = "authorization, x-client-info, apikey, content-type, x-retry-count, traceparent, tracestate, \
     baggage, accept, accept-profile, content-profile, prefer, range, range-unit";
/// What a browser may see below `/rest/v1`, as PostgREST says it.
const EXPOSE_REST_HEADERS: &str = "Content-Range, Range-Unit, Content-Location, Content-Type, Content-Encoding, Date, Location, \
     Server, Transfer-Encoding";

/// The name of the header that carries the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// When a request came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrived(pub Instant);

/// Runs a request with everything that all routes share.
pub async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    let at = app.clock.now();
    let id = new_id(at);
    let request_id = id.to_string();
    let route = route_label(request.uri().path());
    let function = app.request_log.function(route);
    let seen = function.map(|_| Seen::default());
    let below_rest = route == path::REST;
    let refusal = move |error: ApiError| match route {
        path::REST => RestError::Api(error).into_response(),
        path::DASHBOARD => dashboard::refusal(&error),
        _ => error.into_response(),
    };
    let method = request.method().clone();
    let is_head = method == Method::HEAD;
    request.extensions_mut().insert(Arrived(arrived));
    if let Some(seen) = &seen {
        request.extensions_mut().insert(seen.clone());
    }
    let span = app.otlp.as_ref().and_then(|otlp| otlp.begin(route, &method, request.headers(), &request_id));

    let mut response = if method == Method::OPTIONS {
        let mut response = StatusCode::OK.into_response();
        if below_rest {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(rest::ALLOW));
        }
        response
    } else {
        match app.admit(route) {
            Ok(permit) => {
                // Held until the answer is there, or given back and taken again by a route that reads a body.
                let place = Place::of(permit);
                request.extensions_mut().insert(place.clone());
                let response = caught(next.run(request), refusal).await;
                drop(place);
                response
            }
            Err(error) => refusal(error),
        }
    };
    let mut error_code = None;
    if let Some(error) = response.extensions_mut().remove::<Pending>() {
        error_code = error.code();
        response = error.render(&request_id);
        if is_head {
            *response.body_mut() = axum::body::Body::empty();
        }
    }
    add_headers(response.headers_mut(), &request_id, route);
    let status = response.status();
    let took = arrived.elapsed();
    note(route, &method, status, took);
    // A preflight is answered at once whatever the state of the service: it would hide what is slow and what fails.
    if method != axum::http::Method::OPTIONS
        && let Some(waits) = path::function(route)
    {
        app.alerts.figures.count(status.is_server_error(), (!waits).then_some(took));
    }
    if let Some(function) = function {
        let user = seen.as_ref().and_then(Seen::get).cloned();
        let (method, status) = (method_label(&method), status.as_u16());
        app.request_log.note(Entry { id, at, function, method, status, took, user, error_code });
    }
    if let Some(otlp) = &app.otlp {
        otlp.end(span, (route, &method), status, took);
    }
    tracing::debug!(request.id = %request_id, http.route = route, http.method = %method, http.status = status.as_u16(),
        duration_us = arrived.elapsed().as_micros() as u64, "request.done");
    response
}

/// Turns a panic of a route into an error.
async fn caught(run: impl Future<Output = Response>, refusal: impl FnOnce(ApiError) -> Response) -> Response {
    use std::panic::AssertUnwindSafe;
    let mut run = Box::pin(run);
    let polled = std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        }
    });
    polled.await.unwrap_or_else(|_panic| refusal(ApiError::Internal { detail: "a route panicked".into() }))
}

fn add_headers(headers: &mut HeaderMap, request_id: &str, route: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    let (allow, expose) = match route {
        path::REST => (ALLOW_REST_HEADERS, EXPOSE_REST_HEADERS),
        // No other site has any business with the pages of admins.
        path::DASHBOARD => return,
        _ => (ALLOW_HEADERS, EXPOSE_HEADERS),
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allow));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(ALLOW_METHODS));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(expose));
}

/// Names the route for metrics: one of a fixed set, whatever was asked for.
fn route_label(requested: &str) -> &'static str {
    if rest::is_below(requested) {
        return path::REST;
    }
    if dashboard::is_below(requested) {
        return path::DASHBOARD;
    }
    path::ALL.into_iter().find(|route| *route == requested).unwrap_or("other")
}

fn note(route: &'static str, method: &Method, status: StatusCode, took: Duration) {
    let (method, status) = (method_label(method), status_label(status));
    counter!("nudge_http_requests_total", "route" => route, "method" => method, "status" => status)
        .increment(1);
    histogram!("nudge_http_request_duration_seconds", "route" => route, "status" => status)
        .record(took.as_secs_f64());
}

/// Gives the method as one of a fixed set of words.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Gives the status as a label without allocating.
fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        206 => "206",
        303 => "303",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        406 => "406",
        408 => "408",
        409 => "409",
        413 => "413",
        415 => "415",
        416 => "416",
        429 => "429",
        500 => "500",
        503 => "503",
        504 => "504",
        _ => "other",
    }
}
