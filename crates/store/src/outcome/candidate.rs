//! Events that are to be appended to a decision, whichever engine keeps it: what makes each one the same as another, when
//! it can have happened, and what a request implies.
//!
//! Events come by two ways, from the outcomes API and from the facts of requests that name a decision. Both are kept,
//! each with its way; the same fact by both counts once.

use jiff::{SignedDuration, Timestamp};
use nudge_engine::{RequestStatus, TransactionType};
use serde::{Deserialize, Serialize};

use super::{Event, Source};
use crate::fact::DateChangeRequestRow;
use crate::format::{time_text, to_microsecond};
use crate::record::{EventKind, OutcomeEvent};

/// How far ahead of the store's clock an event may lie.
const LEEWAY: SignedDuration = SignedDuration::from_mins(5);

/// Most events of a decision: one call must not keep the writer from everybody else. What requests tell may be as many
/// again, so that nobody can keep the truth out with events of their own.
pub(crate) const MAX_EVENTS: usize = 200;
pub(crate) const MAX_EVENTS_WITH_TOLD: usize = 2 * MAX_EVENTS;

/// What an event carries beside its columns; the JSON of the column `payload`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payload {
    /// By which way it came.
    pub(crate) source: Source,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_to_decision_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nps_score: Option<u8>,
    /// The request that told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// An event that is to be appended, unless it was before or cannot have happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) event: Event,
    /// With the decision and the kind its identity.
    pub(crate) occurrence: String,
    pub(crate) payload: Payload,
}

impl Candidate {
    fn new(event: Event, occurrence: &str, payload: Payload) -> Self {
        let type_word = event.transaction_type.map_or("", TransactionType::as_str);
        Self { event, occurrence: format!("{type_word}@{occurrence}"), payload }
    }
}

/// Makes what the outcomes API reports an event.
pub(crate) fn new_from_api(given: &OutcomeEvent, decided_at: Timestamp, now: Timestamp) -> Candidate {
    let occurred_at = given.occurred_at.map(to_microsecond);
    let event = Event {
        source: Source::Api,
        kind: given.kind,
        transaction_type: given.transaction_type,
        time_to_decision_seconds: given.time_to_decision_seconds,
        nps_score: given.nps_score,
        occurred_at: occurred_at.unwrap_or(now.max(decided_at)),
    };
    let payload = Payload {
        source: Source::Api,
        time_to_decision_seconds: given.time_to_decision_seconds,
        nps_score: given.nps_score,
        request_id: None,
    };
    Candidate::new(event, &occurred_at.map(time_text).unwrap_or_default(), payload)
}

/// Says why the given time of an event cannot be. Apps know the decision's time to the millisecond, so an event of the
/// same millisecond is not before it.
pub(crate) fn mistimed(given: &OutcomeEvent, decided_at: Timestamp, now: Timestamp) -> Option<&'static str> {
    let at = to_microsecond(given.occurred_at?);
    if at.as_millisecond() < decided_at.as_millisecond() {
        Some("it is dated before the decision")
    } else if at.duration_since(now) > LEEWAY {
        Some("it is dated more than five minutes ahead")
    } else {
        None
    }
}

/// What a request told of the decision that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It names none.
    Nothing,
    /// It names one that does not exist or is not the requester's.
    Unknown,
    /// So many new facts, so many that contradict what is known.
    Events { recorded: usize, conflicts: usize },
}

/// Lists the events that the state of a request implies, none of them before the decision. A request tells each kind
/// once, whatever time it gives for it later.
pub(crate) fn implied(
    request: &DateChangeRequestRow,
    decided_at: Timestamp,
    now: Timestamp,
) -> Vec<Candidate> {
    let submitted_at = to_microsecond(request.created_at).max(decided_at);
    let answered_at = request.responded_at.map_or(now, to_microsecond).max(submitted_at);
    let end = match request.status {
        RequestStatus::Pending => None,
        RequestStatus::Accepted => Some(EventKind::Accepted),
        RequestStatus::Rejected => Some(EventKind::Declined),
        RequestStatus::Expired => Some(EventKind::Expired),
        RequestStatus::Cancelled => Some(EventKind::Cancelled),
    };
    let new = |kind: EventKind, occurred_at| {
        let event = Event {
            source: Source::Facts,
            kind,
            transaction_type: (kind != EventKind::Cancelled).then_some(request.transaction_type),
            time_to_decision_seconds: None,
            nps_score: None,
            occurred_at,
        };
        let request_id = request.id.as_str();
        let payload =
            Payload { source: Source::Facts, request_id: Some(request_id.to_owned()), ..Payload::default() };
        Candidate::new(event, &format!("request:{request_id}"), payload)
    };
    let submitted = new(EventKind::Submitted, submitted_at);
    std::iter::once(submitted).chain(end.map(|kind| new(kind, answered_at))).collect()
}

/// Reads the stored word of an event.
pub(crate) fn kind(word: &str) -> Result<EventKind, std::io::Error> {
    let found = EventKind::ALL.iter().copied().find(|kind| kind.as_str() == word);
    found.ok_or_else(|| std::io::Error::other("an unknown event"))
}
