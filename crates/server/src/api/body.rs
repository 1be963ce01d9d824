//! Bodies: bounded in size and time, JSON only, one error for whatever is wrong with them.

use std::marker::PhantomData;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::App;
use super::app::Place;
use super::error::ApiError;
use crate::auth::Caller;

/// Largest JSON body.
pub const MAX_JSON: usize = 256 * 1024;
/// Largest body of ingested facts.
pub const MAX_INGEST: usize = 4 * 1024 * 1024;

/// Reads a JSON body's bytes: within the limit (413), in time (408), of the right type (415), in that order.
///
/// # Errors
/// [`ApiError`] with those answers.
pub async fn read(
    app: &App,
    caller: &Caller,
    parts: &Parts,
    body: Body,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let bytes = read_bytes(app, caller, parts, body, limit).await?;
    if has_json_type(&parts.headers) { Ok(bytes) } else { Err(ApiError::WrongMediaType) }
}

/// Reads a JSON body's bytes as [`read`] does; one that is empty needs no type.
///
/// # Errors
/// As [`read`].
pub async fn read_optional(
    app: &App,
    caller: &Caller,
    parts: &Parts,
    body: Body,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let bytes = read_bytes(app, caller, parts, body, limit).await?;
    if bytes.is_empty() || has_json_type(&parts.headers) { Ok(bytes) } else { Err(ApiError::WrongMediaType) }
}

async fn read_bytes(
    app: &App,
    caller: &Caller,
    parts: &Parts,
    body: Body,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::TooLarge { limit: format!("{} KiB", limit / 1024) };
    let declared =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let place = parts.extensions.get::<Place>();
    let reading = app.admit_body(caller)?;
    if let Some(place) = place {
        place.hold(None);
    }
    let collected = tokio::time::timeout(app.limits.body_timeout, Limited::new(body, limit).collect()).await;
    drop(reading);
    let bytes = match collected {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => return Err(too_large()),
        Ok(Err(_)) => return Err(ApiError::BadBody { problem: "it ended too early".into() }),
        Err(_) => return Err(ApiError::TooSlow),
    };
    if let Some(place) = place {
        place.hold(app.admit(parts.uri.path())?);
    }
    Ok(bytes)
}

fn has_json_type(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return false };
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json") || media_type.eq_ignore_ascii_case("text/plain")
}

/// An object. Serde takes an array of a struct's fields in their order for the struct, too; this does not.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, members: M) -> Result<T, M::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// Parses a JSON object of our own fields: unknown fields and duplicate keys are refused by the type.
///
/// # Errors
/// 400 that says what does not fit.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    json::<Object<T>>(bytes).map(|object| object.0)
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::BadBody { problem: without_content(&error.to_string()) })
}

/// Takes what the client sent out of a message of Serde's, as it may be a secret in the wrong place.
fn without_content(message: &str) -> String {
    let kinds = ["unknown field", "unknown variant", "invalid type", "invalid value"];
    let kind = kinds.into_iter().find(|kind| message.starts_with(kind));
    // What follows the last of these words is ours.
    match (kind, message.rfind(", expected ")) {
        (Some(kind), Some(ours)) => format!("{kind}{}", &message[ours..]),
        (Some(kind), None) => kind.to_owned(),
        (None, _) => message.to_owned(),
    }
}

/// Parses one object or an array of at most `most`.
///
/// # Errors
/// 400 that says what does not fit, 413 for more.
pub fn parse_one_or_many<T: DeserializeOwned>(bytes: &[u8], most: usize) -> Result<Vec<T>, ApiError> {
    let is_array = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    let count = if is_array { json::<Vec<IgnoredAny>>(bytes)?.len() } else { 1 };
    if count > most {
        return Err(ApiError::TooLarge { limit: format!("{most} elements") });
    }
    let values: Vec<Object<T>> = if is_array { json(bytes)? } else { vec![json(bytes)?] };
    if values.is_empty() {
        return Err(ApiError::BadBody { problem: "the array is empty".into() });
    }
    Ok(values.into_iter().map(|object| object.0).collect())
}
