//! `/rest/v1`: PostgREST's read contract, for the official clients.
//!
//! One request: credentials → path → verb → headers and query string, by the readers of [`header`] and [`parse`] → one read by
//! the store under the caller's rights → status, `Content-Range` and body. Where next: `nudge_store::query` for what a read is,
//! [`error`] for every refusal.

pub mod error;
pub mod header;
pub mod parse;
mod swagger;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header as http_header};
use axum::response::Response;
use nudge_store::catalog::Table;
use nudge_store::query::{ReadAnswer, ReadQuery, Shape};
use nudge_store::{Caller, ReadError};

use crate::api::App;
use crate::api::respond;
use error::RestError;
use header::{Media, Preferences, RowRange};
use parse::{Asked, ParseError};

/// Where the API is.
pub const ROOT: &str = "/rest/v1";
/// Longest URL.
pub const MAX_URL_BYTES: usize = 16 * 1024;
/// The verbs that are answered.
pub const ALLOW: &str = "OPTIONS,GET,HEAD";

/// Says whether a path belongs here.
pub fn is_below(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Resource {
    /// The root.
    Root,
    /// A table.
    Table(String),
    /// A function.
    Function(String),
}

/// Answers every request below the root.
pub async fn answer(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, RestError> {
    if parts.uri.path_and_query().is_some_and(|url| url.as_str().len() > MAX_URL_BYTES) {
        return Err(RestError::LongUrl);
    }
    let caller: Caller = app.caller(&parts).await?.into();
    let resource = resource(parts.uri.path())?;
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let profile = if reads { "accept-profile" } else { "content-profile" };
    if let Some(schema) = header::foreign_schema(&parts.headers, profile) {
        return Err(RestError::Schema { schema });
    }
    match resource {
        Resource::Function(name) => Err(RestError::Function { name }),
        Resource::Table(table) if reads => read_table(&app, &parts, caller, table).await,
        Resource::Table(table) => Err(refuse_write(&app, &parts.method, &caller, &table).await),
        Resource::Root if reads => describe(&app, &parts.headers, &caller).await,
        Resource::Root => Err(RestError::Method { method: parts.method.to_string() }),
    }
}

/// Reads a path: nothing, a table, or `rpc` and a function.
fn resource(path: &str) -> Result<Resource, RestError> {
    let below = path.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    let segments: Vec<String> = below.split('/').map(decoded).collect();
    match segments.as_slice() {
        [table] if table.is_empty() => Ok(Resource::Root),
        [table] => Ok(Resource::Table(table.clone())),
        [rpc, function] if rpc == "rpc" && !function.is_empty() => {
            Ok(Resource::Function(function.chars().take(64).collect()))
        }
        _ => Err(RestError::Path),
    }
}

/// Decodes what is percent-encoded in a segment of a path.
fn decoded(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%').then(|| segment.get(at + 1..at + 3)).flatten();
        let code = code.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Refuses a write as somebody without the privilege; the service is told that there are none.
async fn refuse_write(app: &App, method: &Method, caller: &Caller, table: &str) -> RestError {
    let error = match (exposed(app, table).await, caller) {
        (Err(error), _) => error,
        (Ok(table), Caller::Anonymous | Caller::User(_)) => ReadError::Denied { table: table.name },
        (Ok(_), Caller::Service) => return RestError::Method { method: method.to_string() },
    };
    RestError::Read { error, anonymous: *caller == Caller::Anonymous }
}

/// Finds a table among those that are exposed.
async fn exposed(app: &App, name: &str) -> Result<&'static Table, ReadError> {
    let tables = app.store.exposed_tables().await?;
    let unknown = || ReadError::UnknownTable { table: name.chars().take(64).collect() };
    tables.into_iter().find(|table| table.name == name).ok_or_else(unknown)
}

/// Describes the tables to the service.
async fn describe(app: &App, headers: &HeaderMap, caller: &Caller) -> Result<Response, RestError> {
    if *caller != Caller::Service {
        return Err(RestError::Description);
    }
    let media = header::accept(headers, true).map_err(|asked| RestError::MediaType { asked })?;
    let tables = app.store.exposed_tables().await;
    let tables = tables.map_err(|error| RestError::Read { error, anonymous: false })?;
    let mut response = respond::json(StatusCode::OK, &swagger::document(&tables, &app.url));
    set(response.headers_mut(), http_header::CONTENT_TYPE, media.content_type());
    Ok(response)
}

async fn read_table(app: &App, parts: &Parts, caller: Caller, table: String) -> Result<Response, RestError> {
    let media = header::accept(&parts.headers, false).map_err(|asked| RestError::MediaType { asked })?;
    let preferences =
        Preferences::read(&parts.headers).map_err(|unknown| RestError::Preferences { unknown })?;
    let anonymous = caller == Caller::Anonymous;
    let read = |error| RestError::Read { error, anonymous };
    let asked = match parse::parse(parts.uri.query().unwrap_or_default()) {
        Ok(asked) => asked,
        // There are relationships of a table that is there only.
        Err(error @ ParseError::Embedding { .. }) => {
            exposed(app, &table).await.map_err(read)?;
            return Err(RestError::Parse { error, table });
        }
        Err(error) => return Err(RestError::Parse { error, table }),
    };
    let Page { offset, limit } = page(&asked, header::row_range(&parts.headers))?;
    let Asked { select, filters, order, .. } = asked;
    let head = parts.method == Method::HEAD;
    let shape = if head { Shape::Nothing } else { media.shape() };
    let query = ReadQuery { table, select, filters, order, limit, offset, count: preferences.count, shape };
    let answer = app.store.read_as(&caller, &query).await.map_err(read)?;
    respond_with(answer, offset, media, preferences)
}

/// The rows that are asked for.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    offset: u64,
    limit: Option<u64>,
}

/// Puts `limit`, `offset` and the header `Range` together: the rows that are in both.
fn page(asked: &Asked, range: Option<RowRange>) -> Result<Page, RestError> {
    let Some(range) = range.filter(|_| asked.limit != Some(0)) else {
        return Ok(Page { offset: asked.offset, limit: asked.limit });
    };
    let backwards = || RestError::Range {
        details: "The lower boundary must be lower than or equal to the upper boundary in the Range header."
            .to_owned(),
        total: None,
    };
    let end = range.last.map(|last| last.saturating_add(1));
    let asked_end = asked.limit.map(|limit| asked.offset.saturating_add(limit));
    let end = match (end, asked_end) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let offset = asked.offset.max(range.first);
    match end {
        Some(end) if end <= offset => Err(backwards()),
        end => Ok(Page { offset, limit: end.map(|end| end - offset) }),
    }
}

fn respond_with(
    answer: ReadAnswer,
    offset: u64,
    media: Media,
    preferences: Preferences,
) -> Result<Response, RestError> {
    let ReadAnswer { body, rows, total } = answer;
    if let Some(total) = total.filter(|total| offset > *total) {
        let details = format!("An offset of {offset} was requested, but there are only {total} rows.");
        return Err(RestError::Range { details, total: Some(total) });
    }
    if media.is_single() && rows != 1 {
        return Err(RestError::NotSingle { rows });
    }
    let status = match total {
        Some(total) if rows < total => StatusCode::PARTIAL_CONTENT,
        _ => StatusCode::OK,
    };
    let shown = if rows == 0 { "*".to_owned() } else { format!("{offset}-{}", offset + rows - 1) };
    let of = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    set(headers, http_header::CONTENT_TYPE, media.content_type());
    set(headers, http_header::CONTENT_RANGE, &format!("{shown}/{of}"));
    set(headers, http_header::VARY, "Accept, Prefer, Range");
    set(headers, http_header::CACHE_CONTROL, "no-store");
    if let Some(applied) = preferences.applied() {
        set(headers, HeaderName::from_static("preference-applied"), &applied);
    }
    Ok(response)
}

/// Sets a header whose value is made of plain characters here.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_tables_and_functions() {
        for (path, named) in [
            ("/rest/v1", Some(Resource::Root)),
            ("/rest/v1/", Some(Resource::Root)),
            ("/rest/v1/profiles", Some(Resource::Table("profiles".into()))),
            ("/rest/v1/pro%66iles", Some(Resource::Table("profiles".into()))),
            ("/rest/v1/a%2Fb", Some(Resource::Table("a/b".into()))),
            ("/rest/v1/100%", Some(Resource::Table("100%".into()))),
            ("/rest/v1/%ff", Some(Resource::Table("\u{fffd}".into()))),
            ("/rest/v1/rpc", Some(Resource::Table("rpc".into()))),
            ("/rest/v1/rpc/sum", Some(Resource::Function("sum".into()))),
            ("/rest/v1/rpc/", None),
            ("/rest/v1/rpc/a/b", None),
            ("/rest/v1/profiles/", None),
            ("/rest/v1//profiles", None),
        ] {
            assert_eq!(resource(path).ok(), named, "{path}");
        }
        assert!(
            is_below("/rest/v1/x") && is_below("/rest/v1") && !is_below("/rest/v12") && !is_below("/rest")
        );
    }

    #[test]
    fn limit_offset_and_range_are_taken_together() {
        let rows = |limit, offset, range: Option<(u64, Option<u64>)>| {
            let asked = Asked { limit, offset, ..Asked::default() };
            let page = page(&asked, range.map(|(first, last)| RowRange { first, last }));
            page.ok().map(|page| (page.offset, page.limit))
        };
        assert_eq!(rows(None, 0, None), Some((0, None)));
        assert_eq!(rows(Some(10), 5, None), Some((5, Some(10))));
        assert_eq!(rows(None, 0, Some((0, Some(9)))), Some((0, Some(10))));
        assert_eq!(rows(None, 0, Some((5, None))), Some((5, None)));
        assert_eq!(rows(Some(10), 5, Some((0, Some(9)))), Some((5, Some(5))));
        assert_eq!(rows(Some(10), 5, Some((8, None))), Some((8, Some(7))));
        assert_eq!(rows(Some(0), 0, Some((5, Some(9)))), Some((0, Some(0))));
        assert_eq!(rows(None, 0, Some((5, Some(1)))), None);
        assert_eq!(rows(Some(2), 0, Some((5, Some(9)))), None);
        assert_eq!(rows(Some(u64::MAX), u64::MAX, Some((0, Some(u64::MAX)))), None);
    }
}
