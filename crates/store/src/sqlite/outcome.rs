//! Outcome events: appended, then added up into the columns of their decision, in one transaction.
//!
//! Events come by two ways, from the outcomes API and from the facts of requests that name a decision; the same one by
//! both counts once. Where next: [`crate::outcome`] says what events add up to and which cannot have happened.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use nudge_engine::{RequestStatus, TransactionType};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::convert::{Within, parsed, parsed_opt, statements, time, time_text, to_microsecond};
use crate::error::StoreError;
use crate::fact::DateChangeRequestRow;
use crate::outcome::{Decided, Event, Outcome, fold, impossible};
use crate::record::{EventKind, OutcomeError, OutcomeEvent, OutcomeReporter, OutcomesRecorded, StoredEvent};

statements! {
    SELECT_DECIDED = "SELECT user_id, created_at, primary_recommendation FROM recommendation_logs WHERE id = ?1";
    SELECT_EVENTS = "SELECT event, occurrence, transaction_type, payload, occurred_at, recorded_at
      FROM recommendation_events WHERE user_id = ?1 AND recommendation_id = ?2
      ORDER BY occurred_at, event, occurrence";
    INSERT_EVENT = "INSERT INTO recommendation_events (user_id, recommendation_id, event, occurrence,
        transaction_type, payload, occurred_at, recorded_at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    UPDATE_COLUMNS = "UPDATE recommendation_logs SET user_selected = ?2, followed_recommendation = ?3,
        time_to_decision_seconds = ?4, request_submitted = ?5, request_accepted = ?6,
        final_transaction_type = ?7, nps_score = ?8
      WHERE id = ?1";
}

const LOGS: &str = "recommendation_logs";
const EVENTS: &str = "recommendation_events";

/// How far ahead of the store's clock an event may lie.
const LEEWAY: SignedDuration = SignedDuration::from_mins(5);

/// What an event carries beside its columns; the JSON of the column `payload`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    /// By which way it came.
    source: Source,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_to_decision_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nps_score: Option<u8>,
    /// The request that told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// The outcomes API.
    #[default]
    Api,
    /// A row of `date_change_requests`.
    Facts,
}

/// An event with its identity.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    event: Event,
    occurrence: String,
    payload: Payload,
}

impl Known {
    fn new(event: Event, given: Option<Timestamp>, payload: Payload) -> Self {
        let type_word = event.transaction_type.map_or("", TransactionType::as_str);
        let time = given.map(time_text).unwrap_or_default();
        Self { event, occurrence: format!("{type_word}@{time}"), payload }
    }

    /// Says whether the two are the same event by their identity.
    fn is(&self, other: &Self) -> bool {
        self.event.kind == other.event.kind && self.occurrence == other.occurrence
    }

    /// Says whether the two tell the same, one by each way.
    fn is_by_the_other_way(&self, other: &Self) -> bool {
        let same_type = self.event.kind != EventKind::Submitted
            || self.event.transaction_type == other.event.transaction_type;
        self.payload.source != other.payload.source && self.event.kind == other.event.kind && same_type
    }
}

/// A decision and everything known of what came of it.
struct Funnel {
    id: Uuid,
    user: String,
    decided: Decided,
    known: Vec<Known>,
    changed: bool,
}

impl Funnel {
    fn load(conn: &Connection, id: Uuid) -> Result<Option<Self>, StoreError> {
        let mut statement = conn.prepare_cached(SELECT_DECIDED).within(LOGS)?;
        let found = statement
            .query_row([id.hyphenated().to_string()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    Decided { at: time(row, 1)?, primary: parsed(row, 2, str::parse)? },
                ))
            })
            .optional()
            .within(LOGS)?;
        let Some((user, decided)) = found else { return Ok(None) };
        let known = each_event(conn, &user, id, known_event)?;
        Ok(Some(Self { id, user, decided, known, changed: false }))
    }

    fn append(&mut self, conn: &Connection, event: Known, now: Timestamp) -> Result<(), StoreError> {
        let payload = serde_json::to_string(&event.payload)
            .map_err(|error| StoreError::Refused { table: EVENTS, detail: error.to_string() })?;
        let mut statement = conn.prepare_cached(INSERT_EVENT).within(EVENTS)?;
        let inserted = statement.execute(params![
            self.user,
            self.id.hyphenated().to_string(),
            event.event.kind.as_str(),
            event.occurrence,
            event.event.transaction_type.map(TransactionType::as_str),
            payload,
            time_text(event.event.occurred_at),
            time_text(now),
        ]);
        inserted.within(EVENTS)?;
        self.known.push(event);
        self.changed = true;
        Ok(())
    }

    /// Adds the events up into the decision's columns, if there are new ones.
    fn roll_up(&self, conn: &Connection) -> Result<(), StoreError> {
        if !self.changed {
            return Ok(());
        }
        let events: Vec<Event> = self.known.iter().map(|known| known.event).collect();
        let Outcome {
            user_selected,
            followed_recommendation,
            time_to_decision_seconds,
            request_submitted,
            request_accepted,
            final_transaction_type,
            nps_score,
        } = fold(self.decided, &events);
        let mut statement = conn.prepare_cached(UPDATE_COLUMNS).within(LOGS)?;
        let updated = statement.execute(params![
            self.id.hyphenated().to_string(),
            user_selected.map(TransactionType::as_str),
            followed_recommendation,
            time_to_decision_seconds,
            request_submitted,
            request_accepted,
            final_transaction_type.map(TransactionType::as_str),
            nps_score,
        ]);
        updated.within(LOGS).map(drop)
    }

    fn events(&self) -> impl Iterator<Item = Event> {
        self.known.iter().map(|known| known.event)
    }
}

/// Reads the events of a decision, by time.
pub(super) fn stored_events(conn: &Connection, user: &str, id: Uuid) -> Result<Vec<StoredEvent>, StoreError> {
    each_event(conn, user, id, |row| {
        Ok(StoredEvent {
            kind: parsed(row, 0, kind)?,
            transaction_type: parsed_opt(row, 2, str::parse)?,
            payload: parsed(row, 3, |text| serde_json::from_str(text))?,
            occurred_at: time(row, 4)?,
            recorded_at: time(row, 5)?,
        })
    })
}

fn each_event<T>(
    conn: &Connection,
    user: &str,
    id: Uuid,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = conn.prepare_cached(SELECT_EVENTS).within(EVENTS)?;
    let rows = statement.query_map((user, id.hyphenated().to_string()), read);
    rows.and_then(Iterator::collect).within(EVENTS)
}

fn kind(word: &str) -> Result<EventKind, std::io::Error> {
    let found = EventKind::ALL.iter().copied().find(|kind| kind.as_str() == word);
    found.ok_or_else(|| std::io::Error::other("an unknown event"))
}

fn known_event(row: &Row<'_>) -> rusqlite::Result<Known> {
    let payload: Payload = parsed(row, 3, |text| serde_json::from_str(text))?;
    let event = Event {
        kind: parsed(row, 0, kind)?,
        transaction_type: parsed_opt(row, 2, str::parse)?,
        time_to_decision_seconds: payload.time_to_decision_seconds,
        nps_score: payload.nps_score,
        occurred_at: time(row, 4)?,
    };
    Ok(Known { event, occurrence: row.get(1)?, payload })
}

/// Appends a call's events, all of them or none, and rolls them up.
pub(super) fn record(
    conn: &Connection,
    reporter: &OutcomeReporter,
    events: &[OutcomeEvent],
    now: Timestamp,
) -> Result<OutcomesRecorded, OutcomeError> {
    let now = to_microsecond(now);
    let mut funnels = funnels(conn, reporter, events)?;
    let mut recorded = OutcomesRecorded::default();
    for (index, given) in events.iter().enumerate() {
        let Some(funnel) = funnels.get_mut(&given.recommendation_id) else {
            return Err(OutcomeError::NotYours { index });
        };
        let new = known_from_api(given, funnel.decided.at, now);
        if funnel.known.iter().any(|known| known.is(&new)) {
            recorded.duplicates += 1;
            continue;
        }
        let later = events.get(index + 1..).unwrap_or_default().iter();
        let submitted_later = later
            .filter(|e| e.recommendation_id == funnel.id && e.kind == EventKind::Submitted)
            .map(|e| known_from_api(e, funnel.decided.at, now).event)
            .filter(|_| given.kind.is_answer());
        let held_against: Vec<Event> = funnel.events().chain(submitted_later).collect();
        let why = mistimed(given, funnel.decided.at, now).or_else(|| impossible(&new.event, &held_against));
        if let Some(why) = why {
            return Err(OutcomeError::Impossible { index, why });
        }
        if funnel.known.iter().any(|known| known.is_by_the_other_way(&new)) {
            recorded.duplicates += 1;
        } else {
            funnel.append(conn, new, now)?;
            recorded.recorded += 1;
        }
    }
    for funnel in funnels.values() {
        funnel.roll_up(conn)?;
    }
    Ok(recorded)
}

/// Loads the decisions of a call; the first that does not exist or is another's ends it.
fn funnels(
    conn: &Connection,
    reporter: &OutcomeReporter,
    events: &[OutcomeEvent],
) -> Result<BTreeMap<Uuid, Funnel>, OutcomeError> {
    let mut funnels = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        let id = event.recommendation_id;
        if funnels.contains_key(&id) {
            continue;
        }
        let found = Funnel::load(conn, id)?.filter(|funnel| match reporter {
            OutcomeReporter::User(user) => funnel.user == user.as_str(),
            OutcomeReporter::Service => true,
        });
        funnels.insert(id, found.ok_or(OutcomeError::NotYours { index })?);
    }
    Ok(funnels)
}

fn known_from_api(given: &OutcomeEvent, decided_at: Timestamp, now: Timestamp) -> Known {
    let occurred_at = given.occurred_at.map(to_microsecond);
    let event = Event {
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
    Known::new(event, occurred_at, payload)
}

/// Says why the given time of an event cannot be.
fn mistimed(given: &OutcomeEvent, decided_at: Timestamp, now: Timestamp) -> Option<&'static str> {
    let at = to_microsecond(given.occurred_at?);
    if at < decided_at {
        Some("it is dated before the decision")
    } else if at.duration_since(now) > LEEWAY {
        Some("it is dated more than five minutes ahead")
    } else {
        None
    }
}

/// What a request told of the decision that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It names none.
    Nothing,
    /// It names one that does not exist or is not the requester's.
    Unknown,
    /// So many new events, so many that contradict what is known.
    Events { recorded: usize, conflicts: usize },
}

/// Appends what the state of a request implies and is not known yet.
pub(super) fn tell(
    conn: &Connection,
    request: &DateChangeRequestRow,
    now: Timestamp,
) -> Result<Told, StoreError> {
    let Some(id) = request.recommendation_id else { return Ok(Told::Nothing) };
    let now = to_microsecond(now);
    let funnel = Funnel::load(conn, id)?.filter(|f| f.user == request.requester_id.as_str());
    let Some(mut funnel) = funnel else { return Ok(Told::Unknown) };
    let (mut recorded, mut conflicts) = (0, 0);
    for new in implied(request, funnel.decided.at, now) {
        let by_this_request = |known: &Known| {
            known.event.kind == new.event.kind && known.payload.request_id == new.payload.request_id
        };
        if funnel
            .known
            .iter()
            .any(|known| known.is(&new) || by_this_request(known) || known.is_by_the_other_way(&new))
        {
            continue;
        }
        let known: Vec<Event> = funnel.events().collect();
        if impossible(&new.event, &known).is_some() {
            conflicts += 1;
        } else {
            funnel.append(conn, new, now)?;
            recorded += 1;
        }
    }
    funnel.roll_up(conn)?;
    Ok(Told::Events { recorded, conflicts })
}

/// Lists the events that the state of a request implies, none of them before the decision.
fn implied(request: &DateChangeRequestRow, decided_at: Timestamp, now: Timestamp) -> Vec<Known> {
    let submitted_at = to_microsecond(request.created_at).max(decided_at);
    let answered_at = request.responded_at.map_or(now, to_microsecond).max(submitted_at);
    let end = match request.status {
        RequestStatus::Pending => None,
        RequestStatus::Accepted => Some(EventKind::Accepted),
        RequestStatus::Rejected => Some(EventKind::Declined),
        RequestStatus::Expired => Some(EventKind::Expired),
        RequestStatus::Cancelled => Some(EventKind::Cancelled),
    };
    let known = |kind: EventKind, occurred_at| {
        let event = Event {
            kind,
            transaction_type: (kind != EventKind::Cancelled).then_some(request.transaction_type),
            time_to_decision_seconds: None,
            nps_score: None,
            occurred_at,
        };
        let request_id = Some(request.id.as_str().to_owned());
        Known::new(
            event,
            Some(occurred_at),
            Payload { source: Source::Facts, request_id, ..Payload::default() },
        )
    };
    let submitted = known(EventKind::Submitted, submitted_at);
    std::iter::once(submitted).chain(end.map(|kind| known(kind, answered_at))).collect()
}
