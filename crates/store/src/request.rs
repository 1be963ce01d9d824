//! The log of requests, and who else gets it: a row a request, and the drains that an operator has set up.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

/// A row of `edge_function_logs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// UUIDv7 of the request's arrival; as text it is the request's id too.
    pub id: Uuid,
    /// The function, of a fixed set.
    pub function_name: &'static str,
    /// The HTTP method, of a fixed set.
    pub method: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Time from the request's head to its answer, in whole milliseconds.
    pub response_time_ms: u32,
    /// The caller, if a user, as it is to be kept.
    pub user_id: Option<String>,
    /// The code of an error.
    pub error_code: Option<Cow<'static, str>>,
    /// When the request came.
    pub created_at: Timestamp,
}

/// A place that the log of requests is sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct LogDrain {
    /// UUIDv7.
    pub id: Uuid,
    /// The operator's name for it, one of a kind.
    pub name: String,
    /// The URL. Part of it may be a secret.
    pub destination: String,
    /// Which events it gets, in the form that the server understands; empty for all.
    pub filters: String,
    /// Headers that are sent with every batch. Their values may be secrets.
    pub headers: BTreeMap<String, String>,
    /// What batches are signed with.
    pub secret: Option<String>,
    /// When it was set up.
    pub created_at: Timestamp,
}

/// Without what may be a secret.
impl fmt::Debug for LogDrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDrain")
            .field("name", &self.name)
            .field("filters", &self.filters)
            .finish_non_exhaustive()
    }
}

/// What became of a drain that was to be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainCreated {
    /// It is there.
    Created,
    /// Another one has its name; nothing was changed.
    NameTaken,
}

/// Gives the smallest UUIDv7 of a time, as text: rows of before have smaller ids.
pub(crate) fn first_id(at: Timestamp) -> String {
    let millis = u128::try_from(at.as_millisecond()).unwrap_or(0);
    Uuid::from_u128(millis << 80).hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_before_a_time_are_smaller_than_its_first_one() {
        let first = first_id("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(first, "019b76da-a800-0000-0000-000000000000");
        assert!("019b76da-a7ff-7fff-bfff-ffffffffffff" < first.as_str());
        assert!(first.as_str() < "019b76da-a800-7000-8000-000000000000");
    }

    #[test]
    fn a_drain_shows_itself_without_secrets() {
        let drain = LogDrain {
            id: Uuid::nil(),
            name: "logs".into(),
            destination: "https://logs.example.com/secret".into(),
            filters: "level=error".into(),
            headers: BTreeMap::from([("authorization".into(), "Bearer secret".into())]),
            secret: Some("secret".into()),
            created_at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(format!("{drain:?}"), r#"LogDrain { name: "logs", filters: "level=error", .. }"#);
    }
}
