//! What `/rest/v1` refuses or fails with, in PostgREST's form: `{"code","details","hint","message"}`, always with that body.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nudge_store::{ReadError, StoreError};
use serde::Serialize;

use super::ALLOW;
use super::header::SCHEMA;
use super::parse::ParseError;
use crate::api::error::{ApiError, Pending, Render};
use crate::api::respond;
use crate::auth::AuthError;
use crate::auth::jwt::JwtError;

/// Why a request gets no rows.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// What the routes of every kind share: credentials, rates, room.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The query string.
    #[error("{error}")]
    Parse {
        /// Why.
        error: ParseError,
        /// The table.
        table: String,
    },
    /// The store.
    #[error("{error}")]
    Read {
        /// Why.
        error: ReadError,
        /// Whether nobody is signed in.
        anonymous: bool,
    },
    /// A range that ends before it begins, or begins after the end.
    #[error("Requested range not satisfiable")]
    Range {
        /// Why.
        details: String,
        /// All rows, where they were counted.
        total: Option<u64>,
    },
    /// One row was asked for, and there are none or several.
    #[error("Cannot coerce the result to a single JSON object")]
    NotSingle {
        /// How many there are.
        rows: u64,
    },
    /// None of the media types asked for.
    #[error("None of these media types are available: {asked}")]
    MediaType {
        /// Those asked for.
        asked: String,
    },
    /// Another schema.
    #[error("Invalid schema: {schema}")]
    Schema {
        /// As asked for.
        schema: String,
    },
    /// Preferences that are not understood, with `handling=strict`.
    #[error("Invalid preferences given with handling=strict")]
    Preferences {
        /// Those.
        unknown: String,
    },
    /// A function.
    #[error("Could not find the function public.{name} in the schema cache")]
    Function {
        /// Its name.
        name: String,
    },
    /// A path of another form.
    #[error("Invalid path specified in request URL")]
    Path,
    /// A verb that nobody has here.
    #[error("Unsupported HTTP method: {method}")]
    Method {
        /// The verb.
        method: String,
    },
    /// The description of the API is for the service.
    #[error("permission denied for the description of the API")]
    Description,
    /// A URL that is too long.
    #[error("The URL is longer than {} KiB", super::MAX_URL_BYTES / 1024)]
    LongUrl,
}

/// The body of an error.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    code: Option<Cow<'a, str>>,
    details: Option<Cow<'a, str>>,
    hint: Option<Cow<'a, str>>,
    message: Cow<'a, str>,
    #[serde(skip)]
    status: StatusCode,
    #[serde(skip)]
    headers: Vec<(HeaderName, String)>,
}

impl<'a> Answer<'a> {
    fn new(status: StatusCode, code: &'a str, message: impl Into<Cow<'a, str>>) -> Self {
        let message = message.into();
        let (code, headers) = (Some(Cow::from(code)), Vec::new());
        Self { code, details: None, hint: None, message, status, headers }
    }

    fn details(self, details: impl Into<Cow<'a, str>>) -> Self {
        Self { details: Some(details.into()), ..self }
    }

    fn hint(self, hint: impl Into<Cow<'a, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn retry(self) -> Self {
        self.header(header::RETRY_AFTER, "1")
    }
}

impl RestError {
    /// Makes the answer: the one table of codes.
    fn answer(&self) -> Answer<'_> {
        use StatusCode as S;
        let plain = |status, code| Answer::new(status, code, self.to_string());
        match self {
            Self::Api(error) => of_api(error),
            Self::Parse { error, table } => of_parse(error, table),
            Self::Read { error, anonymous } => of_read(error, *anonymous),
            Self::Range { details, total } => {
                let total = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
                plain(S::RANGE_NOT_SATISFIABLE, "PGRST103")
                    .details(details)
                    .header(header::CONTENT_RANGE, format!("*/{total}"))
            }
            Self::NotSingle { rows } => {
                plain(S::NOT_ACCEPTABLE, "PGRST116").details(format!("The result contains {rows} rows"))
            }
            Self::MediaType { .. } => plain(S::NOT_ACCEPTABLE, "PGRST107"),
            Self::Schema { .. } => plain(S::NOT_ACCEPTABLE, "PGRST106")
                .hint(format!("Only the following schemas are exposed: {SCHEMA}")),
            Self::Preferences { unknown } => {
                plain(S::BAD_REQUEST, "PGRST122").details(format!("Invalid preferences: {unknown}"))
            }
            Self::Function { .. } => {
                plain(S::NOT_FOUND, "PGRST202").details("No functions are exposed here.")
            }
            Self::Path => plain(S::NOT_FOUND, "PGRST125"),
            Self::Method { .. } => plain(S::METHOD_NOT_ALLOWED, "PGRST117").header(header::ALLOW, ALLOW),
            Self::Description => {
                plain(S::FORBIDDEN, "42501").hint("The description of the API is for the service_role only.")
            }
            Self::LongUrl => plain(S::URI_TOO_LONG, "uri_too_long"),
        }
    }

    /// Gives what only the log may know.
    fn internal(&self) -> Option<String> {
        match self {
            Self::Api(ApiError::Internal { detail } | ApiError::Unavailable { detail }) => {
                Some(detail.clone())
            }
            Self::Read { error: ReadError::Store(error), .. } => Some(error.to_string()),
            Self::Read { error: error @ ReadError::Data { .. }, .. } if is_defect(error) => {
                Some(format!("{}: {error}", error.sqlstate().unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// Gives the status.
    pub fn status(&self) -> StatusCode {
        self.answer().status
    }
}

impl Render for RestError {
    fn code(&self) -> Option<Cow<'static, str>> {
        self.answer().code.map(|code| Cow::Owned(code.into_owned()))
    }

    fn render(&self, request_id: &str) -> Response {
        let answer = self.answer();
        let status = answer.status.as_u16();
        match (self.internal(), answer.status) {
            (Some(detail), StatusCode::INTERNAL_SERVER_ERROR) => {
                tracing::error!(request.id = %request_id, status, detail, "request.failed");
            }
            (Some(detail), _) => tracing::warn!(request.id = %request_id, status, detail, "request.refused"),
            _ => {}
        }
        let mut response = respond::json(answer.status, &answer);
        for (name, value) in &answer.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(Pending::of(self));
        response
    }
}

const CHALLENGE: &str = "Bearer error=\"invalid_token\"";

fn of_api(error: &ApiError) -> Answer<'_> {
    use StatusCode as S;
    match error {
        ApiError::Unauthorized(error) => of_auth(error),
        ApiError::TooMany { retry_after_secs } => {
            Answer::new(S::TOO_MANY_REQUESTS, "rate_limited", error.to_string())
                .header(header::RETRY_AFTER, retry_after_secs.to_string())
        }
        ApiError::Full => no_room(),
        ApiError::Unavailable { .. } => away(),
        // The routes of the functions know the others; here they would be a defect.
        _ => defect(),
    }
}

fn of_auth(error: &AuthError) -> Answer<'_> {
    let denied = |code, message: String| Answer::new(StatusCode::UNAUTHORIZED, code, message);
    let without_code = |message: &'static str, hint: &'static str| {
        let answer = denied("", message.to_owned()).hint(hint).header(header::WWW_AUTHENTICATE, "Bearer");
        Answer { code: None, ..answer }
    };
    match error {
        AuthError::Missing => without_code(
            "No API key found in request",
            "No `apikey` request header or `Authorization: Bearer` token was found.",
        ),
        AuthError::UnknownKey => {
            without_code("Invalid API key", "Double check the anon, service_role, publishable or secret key.")
        }
        AuthError::SecretKeyInBrowser => without_code(
            "Forbidden use of secret API key in browser",
            "Secret API keys belong on a server; use a publishable key and the user's token.",
        ),
        AuthError::Jwt(JwtError::Expired) => {
            denied("PGRST303", "JWT expired".to_owned()).header(header::WWW_AUTHENTICATE, CHALLENGE)
        }
        AuthError::Jwt(JwtError::NotYet) => {
            denied("PGRST303", "JWT not yet valid".to_owned()).header(header::WWW_AUTHENTICATE, CHALLENGE)
        }
        AuthError::Jwt(JwtError::Claim(_) | JwtError::Role) => {
            denied("PGRST303", error.to_string()).header(header::WWW_AUTHENTICATE, CHALLENGE)
        }
        AuthError::Header(_) | AuthError::Scheme | AuthError::Jwt(_) => {
            denied("PGRST301", error.to_string()).header(header::WWW_AUTHENTICATE, CHALLENGE)
        }
    }
}

fn of_parse<'a>(error: &'a ParseError, table: &str) -> Answer<'a> {
    let bad = |code| Answer::new(StatusCode::BAD_REQUEST, code, error.to_string());
    match error {
        ParseError::Syntax { problem, .. } => bad("PGRST100").details(problem),
        ParseError::Embedding { name } => {
            let message =
                format!("Could not find a relationship between '{table}' and '{name}' in the schema cache");
            Answer::new(StatusCode::BAD_REQUEST, "PGRST200", message).details(format!(
                "Searched for a foreign key relationship between '{table}' and '{name}' in the schema '{SCHEMA}', but no \
                 matches were found."
            ))
        }
        ParseError::NotEmbedded { name } => {
            bad("PGRST108").hint(format!("Verify that '{name}' is included in the 'select' query parameter."))
        }
        ParseError::Aggregate => bad("PGRST123"),
        ParseError::Negative { what } => {
            Answer::new(StatusCode::RANGE_NOT_SATISFIABLE, "PGRST103", error.to_string())
                .details(format!("{what} should be greater than or equal to zero."))
        }
    }
}

fn of_read(error: &ReadError, anonymous: bool) -> Answer<'_> {
    use StatusCode as S;
    let code = error.sqlstate().unwrap_or_default();
    let plain = |status| Answer::new(status, code, error.to_string());
    match error {
        ReadError::UnknownTable { table } => Answer::new(
            S::NOT_FOUND,
            "PGRST205",
            format!("Could not find the table '{SCHEMA}.{table}' in the schema cache"),
        ),
        ReadError::Denied { .. } if anonymous => {
            plain(S::UNAUTHORIZED).header(header::WWW_AUTHENTICATE, "Bearer")
        }
        ReadError::Denied { .. } => plain(S::FORBIDDEN),
        ReadError::NoOperator { .. } => plain(S::NOT_FOUND).hint(
            "No operator matches the given name and argument types. You might need to add explicit type casts.",
        ),
        ReadError::Timeout => plain(S::INTERNAL_SERVER_ERROR),
        ReadError::Busy => no_room(),
        ReadError::Store(StoreError::Unavailable { .. }) => away(),
        ReadError::Store(_) => defect(),
        error if is_defect(error) => defect(),
        _ => plain(S::BAD_REQUEST),
    }
}

/// Says whether the database said something that is not about what the caller sent.
fn is_defect(error: &ReadError) -> bool {
    // Data exceptions, and limits of the program.
    let about_the_request = ["22", "54"];
    let state = error.sqlstate().unwrap_or_default();
    matches!(error, ReadError::Data { .. }) && !about_the_request.iter().any(|class| state.starts_with(class))
}

fn no_room() -> Answer<'static> {
    let message = "Timed out acquiring connection from connection pool.";
    Answer::new(StatusCode::GATEWAY_TIMEOUT, "PGRST003", message).retry()
}

fn away() -> Answer<'static> {
    let message = "Database connection error. Retrying the connection.";
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, "PGRST000", message).retry()
}

fn defect() -> Answer<'static> {
    Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "XX000", "Something went wrong here.")
        .hint("Say the request id in the header x-request-id when you ask about it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_in_trouble_is_said_in_postgrests_words() {
        let data =
            |sqlstate: &str| ReadError::Data { sqlstate: sqlstate.into(), message: "secret words".into() };
        let unavailable = StoreError::Unavailable { detail: "secret words".into() };
        let defect = StoreError::Statement { detail: "secret words".into() };
        for (error, status, code, retry, internal) in [
            (ReadError::Busy, 504, "PGRST003", true, false),
            (ReadError::Timeout, 500, "57014", false, false),
            (ReadError::Store(unavailable), 503, "PGRST000", true, true),
            (ReadError::Store(defect), 500, "XX000", false, true),
            (data("XX001"), 500, "XX000", false, true),
            (data("42P01"), 500, "XX000", false, true),
            (data("22012"), 400, "22012", false, false),
            (data("54000"), 400, "54000", false, false),
        ] {
            let error = RestError::Read { error, anonymous: false };
            let answer = error.answer();
            assert_eq!((answer.status.as_u16(), answer.code.as_deref()), (status, Some(code)), "{error:?}");
            assert_eq!(
                answer.headers.iter().any(|(name, _)| name == header::RETRY_AFTER),
                retry,
                "{error:?}"
            );
            assert_eq!(error.internal().is_some(), internal, "{error:?}");
            assert_eq!(answer.message.contains("secret"), !internal && error.to_string().contains("secret"));
        }
    }

    #[test]
    fn what_every_route_may_be_refused_for_has_postgrests_form_too() {
        let internal = ApiError::Internal { detail: "secret".into() };
        let unavailable = ApiError::Unavailable { detail: "secret".into() };
        for (error, status, code) in [
            (ApiError::Full, 504, "PGRST003"),
            (ApiError::TooMany { retry_after_secs: 7 }, 429, "rate_limited"),
            (unavailable, 503, "PGRST000"),
            (internal, 500, "XX000"),
        ] {
            let error = RestError::Api(error);
            let response = error.render("an id");
            assert_eq!((response.status().as_u16(), error.answer().code.as_deref()), (status, Some(code)));
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status != 500, "{error:?}");
            assert!(!error.answer().message.contains("secret"));
        }
    }
}
