//! Everything that a route can refuse or fail with, and the one place that makes HTTP answers of it.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nudge_engine::Archetype;
use nudge_store::{OutcomeError, StoreError};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::auth::AuthError;
use crate::recorder::RecordError;
use crate::usecases::recommend::Refusal;

/// Why a request gets no answer of the kind it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 405.
    #[error("This method is not allowed here; use one of {allow}.")]
    WrongMethod {
        /// The allowed ones.
        allow: &'static str,
    },
    /// 404 of a path.
    #[error("There is nothing at this address; / lists what there is.")]
    NoSuchRoute,
    /// 404 of a run.
    #[error("There is no job with this id.")]
    NoSuchJob,
    /// 409 of a run that has ended.
    #[error("This job has ended: it is {status}.")]
    JobEnded {
        /// How.
        status: &'static str,
    },
    /// 401.
    #[error(transparent)]
    Unauthorized(#[from] AuthError),
    /// 401 of an anonymous caller where one must be signed in.
    #[error("Sign in: the anonymous key gets recommendations only.")]
    SignInRequired,
    /// 403 of a role.
    #[error("This needs {needed}.")]
    RoleRequired {
        /// What is needed.
        needed: &'static str,
    },
    /// 413.
    #[error("The body may have at most {limit}.")]
    TooLarge {
        /// The limit, with its unit.
        limit: String,
    },
    /// 415.
    #[error("Send the body as `Content-Type: application/json`.")]
    WrongMediaType,
    /// 408.
    #[error("The body did not arrive in time.")]
    TooSlow,
    /// 400 of missing parameters.
    #[error("Give all of: {}.", required.join(", "))]
    Missing {
        /// All that are required.
        required: &'static [&'static str],
    },
    /// 400 of one parameter or field.
    #[error("`{field}` {problem}.")]
    BadField {
        /// The parameter or field.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// 400 of a body that is not what the route takes.
    #[error("The body is not valid: {problem}.")]
    BadBody {
        /// What is wrong.
        problem: String,
    },
    /// 400 of an archetype that does not exist.
    #[error("`archetypeType` must be one of {}.", Archetype::WORDS.join(", "))]
    InvalidArchetype,
    /// 403 of somebody else's data: one answer whether or not it exists.
    #[error("You may ask for yourself only.")]
    NotYourself,
    /// 403 of strangers.
    #[error("You and this roommate share no lease.")]
    NoSharedLease,
    /// 403 of an outcome of somebody else's recommendation: one answer whether or not it exists.
    #[error("Outcomes are reported by the one who got the recommendation.")]
    NotYourRecommendation,
    /// 409 of somebody who opted out.
    #[error("This user has opted out of personalization and has no archetype.")]
    OptedOut,
    /// 409 of an outcome that cannot have happened.
    #[error("Event {index}: {why}")]
    Impossible {
        /// Index in the call.
        index: usize,
        /// Why.
        why: &'static str,
    },
    /// 429.
    #[error("Too many requests; try again in {retry_after_secs} s.")]
    TooMany {
        /// When.
        retry_after_secs: u64,
    },
    /// 503 of a full server.
    #[error("The server has all it can take; try again in a second.")]
    Full,
    /// 503 of the database.
    #[error("The database cannot be reached now; nothing was changed. Try again.")]
    Unavailable {
        /// For the log.
        detail: String,
    },
    /// 503 where neither database nor spool can record.
    #[error("The recommendation could not be recorded, so none is given. Try again.")]
    NotRecorded {
        /// For the log.
        detail: String,
    },
    /// 500; the detail goes to the log only.
    #[error("Something went wrong here. Say this request id when you ask about it.")]
    Internal {
        /// For the log.
        detail: String,
    },
}

impl ApiError {
    /// Makes the error for one field.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::BadField { field: field.into(), problem: problem.into() }
    }

    /// Gives status, code and short sentence: the one table of answers.
    pub fn answer(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::WrongMethod { .. } => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed"),
            Self::NoSuchRoute => (S::NOT_FOUND, "not_found", "Not found"),
            Self::NoSuchJob => (S::NOT_FOUND, "job_not_found", "Job not found"),
            Self::JobEnded { .. } => (S::CONFLICT, "job_ended", "Job has ended"),
            Self::Unauthorized(AuthError::Missing) | Self::SignInRequired => {
                (S::UNAUTHORIZED, "unauthorized", "Authentication required")
            }
            Self::Unauthorized(_) => (S::UNAUTHORIZED, "invalid_credentials", "Invalid credentials"),
            Self::RoleRequired { .. } => (S::FORBIDDEN, "role_required", "Not allowed for this role"),
            Self::TooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "too_large", "Body too large"),
            Self::WrongMediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type")
            }
            Self::TooSlow => (S::REQUEST_TIMEOUT, "timeout", "Request timeout"),
            Self::Missing { .. } => (S::BAD_REQUEST, "missing_parameter", "Missing required parameters"),
            Self::BadField { .. } => (S::BAD_REQUEST, "invalid_parameter", "Invalid parameter"),
            Self::BadBody { .. } => (S::BAD_REQUEST, "invalid_body", "Invalid body"),
            Self::InvalidArchetype => (S::BAD_REQUEST, "invalid_archetype_type", "Invalid archetypeType"),
            Self::NotYourself => (S::FORBIDDEN, "forbidden", "Forbidden"),
            Self::NoSharedLease => (S::FORBIDDEN, "no_shared_lease", "No shared lease"),
            Self::NotYourRecommendation => (S::FORBIDDEN, "not_your_recommendation", "Forbidden"),
            Self::OptedOut => (S::CONFLICT, "opted_out", "User opted out"),
            Self::Impossible { .. } => (S::CONFLICT, "impossible_event", "Impossible event"),
            Self::TooMany { .. } => (S::TOO_MANY_REQUESTS, "rate_limited", "Too many requests"),
            Self::Full => (S::SERVICE_UNAVAILABLE, "overloaded", "Server busy"),
            Self::Unavailable { .. } => (S::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable"),
            Self::NotRecorded { .. } => (S::SERVICE_UNAVAILABLE, "not_recorded", "Temporarily unavailable"),
            Self::Internal { .. } => (S::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    /// Gives the extra fields of the body.
    fn extra(&self) -> Map<String, Value> {
        let value = match self {
            Self::Missing { required } => json!({ "required": required }),
            Self::BadField { field, .. } => json!({ "field": field }),
            Self::InvalidArchetype => json!({ "validTypes": Archetype::WORDS, "field": "archetypeType" }),
            Self::Impossible { index, .. } => json!({ "index": index }),
            _ => Value::Null,
        };
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// Gives the headers of the answer.
    fn headers(&self) -> Vec<(HeaderName, String)> {
        match self {
            Self::WrongMethod { allow } => vec![(header::ALLOW, (*allow).to_owned())],
            Self::Unauthorized(_) | Self::SignInRequired => {
                vec![(header::WWW_AUTHENTICATE, "Bearer".to_owned())]
            }
            Self::TooMany { retry_after_secs } => vec![(header::RETRY_AFTER, retry_after_secs.to_string())],
            Self::Full | Self::Unavailable { .. } | Self::NotRecorded { .. } => {
                vec![(header::RETRY_AFTER, "1".to_owned())]
            }
            Self::TooSlow => vec![(header::CONNECTION, "close".to_owned())],
            _ => vec![],
        }
    }
}

/// The body of every error.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// Stable, for programs.
    code: &'static str,
    /// Short stable sentence.
    error: &'static str,
    /// What to do.
    message: String,
    /// Names the request in the server's log.
    request_id: String,
    /// `required`, `validTypes`, `field` or `index`, where they help.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    extra: Map<String, Value>,
}

/// An error that becomes a response once the request's id is known.
pub trait Render: Send + Sync {
    /// Makes the response, and logs what only the log may know.
    fn render(&self, request_id: &str) -> Response;

    /// Gives the code, for the log of requests. Never anything that a client has sent.
    fn code(&self) -> Option<Cow<'static, str>>;
}

/// An error on its way out: the request id is filled in by what surrounds all routes.
#[derive(Clone)]
pub struct Pending(std::sync::Arc<dyn Render>);

impl Pending {
    /// Takes an error.
    pub fn of(error: impl Render + 'static) -> Self {
        Self(std::sync::Arc::new(error))
    }

    /// Makes the response.
    pub fn render(&self, request_id: &str) -> Response {
        self.0.render(request_id)
    }

    /// Gives the code of the error.
    pub fn code(&self) -> Option<Cow<'static, str>> {
        self.0.code()
    }
}

impl Render for ApiError {
    fn code(&self) -> Option<Cow<'static, str>> {
        Some(self.answer().1.into())
    }

    fn render(&self, request_id: &str) -> Response {
        let error = self;
        let (status, code, sentence) = error.answer();
        let message = error.to_string();
        match error {
            ApiError::Internal { detail } | ApiError::NotRecorded { detail } => {
                tracing::error!(request.id = %request_id, status = status.as_u16(), detail, "request.failed");
            }
            ApiError::Unavailable { detail } => {
                tracing::warn!(request.id = %request_id, status = status.as_u16(), detail, "request.refused");
            }
            _ => {}
        }
        let body = ErrorBody {
            code,
            error: sentence,
            message,
            request_id: request_id.to_owned(),
            extra: error.extra(),
        };
        let mut response = super::respond::json(status, &body);
        for (name, value) in error.headers() {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.answer().0;
        response.extensions_mut().insert(Pending::of(self));
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_unavailable() {
            Self::Unavailable { detail: error.to_string() }
        } else {
            Self::Internal { detail: error.to_string() }
        }
    }
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::NoRoom(error) => Self::NotRecorded { detail: error.to_string() },
            RecordError::Refused(error) => Self::Internal { detail: error.to_string() },
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotYourself => Self::NotYourself,
            Refusal::NoSharedLease => Self::NoSharedLease,
            Refusal::OwnNight => Self::field("targetDate", "is a night that the requester already holds"),
            Refusal::ThirdTenant => {
                Self::field("roommateId", "does not hold this night; another tenant does")
            }
            Refusal::Store(error) => error.into(),
        }
    }
}

impl From<OutcomeError> for ApiError {
    fn from(error: OutcomeError) -> Self {
        match error {
            OutcomeError::NotYours { .. } => Self::NotYourRecommendation,
            OutcomeError::Impossible { index, why } => Self::Impossible { index, why },
            OutcomeError::Store(error) => error.into(),
        }
    }
}
