//! Outcome events: appended, then added up into the columns of their decision, in one transaction.
//!
//! Where next: [`crate::outcome`] says what events add up to and which cannot have happened.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use jiff::Timestamp;
use nudge_engine::TransactionType;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::convert::{Within, parsed, parsed_opt, statements, time, time_text, to_microsecond};
use crate::error::StoreError;
use crate::fact::DateChangeRequestRow;
use crate::outcome::candidate::{
    Candidate, MAX_EVENTS, MAX_EVENTS_WITH_TOLD, Payload, Told, implied, kind, mistimed, new_from_api,
};
use crate::outcome::{Decided, Event, Outcome, Standing, fold};
use crate::record::{EventKind, OutcomeError, OutcomeEvent, OutcomeReporter, OutcomesRecorded, StoredEvent};
use crate::report::Change;

statements! {
    SELECT_DECIDED = "SELECT user_id, created_at, primary_recommendation FROM recommendation_logs WHERE id = ?1";
    EVENT_EXISTS = "SELECT 1 FROM recommendation_events
      WHERE user_id = ?1 AND recommendation_id = ?2 AND event = ?3 AND occurrence = ?4";
    SELECT_EVENTS = "SELECT event, transaction_type, payload, occurred_at, recorded_at
      FROM recommendation_events WHERE user_id = ?1 AND recommendation_id = ?2
      ORDER BY occurred_at, event, occurrence";
    INSERT_EVENT = "INSERT INTO recommendation_events (user_id, recommendation_id, event, occurrence,
        transaction_type, payload, occurred_at, recorded_at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    /// What reports have to add up again.
    NOTE_CHANGE = "INSERT INTO nudge_report_changes (recommendation_id, before, after) VALUES (?1, ?2, ?3)";
    UPDATE_COLUMNS = "UPDATE recommendation_logs SET user_selected = ?2, followed_recommendation = ?3,
        time_to_decision_seconds = ?4, request_submitted = ?5, request_accepted = ?6,
        final_transaction_type = ?7, nps_score = ?8
      WHERE id = ?1";
}

const LOGS: &str = "recommendation_logs";
const EVENTS: &str = "recommendation_events";
const CHANGES: &str = "nudge_report_changes";

/// A decision and everything known of what came of it.
struct Funnel {
    id: Uuid,
    user: String,
    decided: Decided,
    events: Vec<Event>,
    /// What the events that are known already add up to.
    before: Outcome,
    standing: Standing,
    /// The two say what is known already. They do so only once it is needed: a call of duplicates never needs it.
    read: bool,
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
        Ok(found.map(|(user, decided)| Self {
            id,
            user,
            decided,
            events: Vec::new(),
            before: Outcome::default(),
            standing: Standing::default(),
            read: false,
            changed: false,
        }))
    }

    /// Reads what is known already, once.
    fn read_events(&mut self, conn: &Connection) -> Result<(), StoreError> {
        if self.read {
            return Ok(());
        }
        self.events = each_event(conn, &self.user, self.id, known_event)?;
        for event in &self.events {
            self.standing.add(event);
        }
        self.before = fold(self.decided, &self.events);
        self.read = true;
        Ok(())
    }

    /// Says whether the event was appended before.
    fn has(&self, conn: &Connection, new: &Candidate) -> Result<bool, StoreError> {
        let mut statement = conn.prepare_cached(EVENT_EXISTS).within(EVENTS)?;
        let id = self.id.hyphenated().to_string();
        statement.exists(params![self.user, id, new.event.kind.as_str(), new.occurrence]).within(EVENTS)
    }

    /// Appends an event; says whether it is a fact that was not known by the other way.
    fn append(&mut self, conn: &Connection, new: &Candidate, now: Timestamp) -> Result<bool, StoreError> {
        let payload = serde_json::to_string(&new.payload)
            .map_err(|error| StoreError::Refused { table: EVENTS, detail: error.to_string() })?;
        let mut statement = conn.prepare_cached(INSERT_EVENT).within(EVENTS)?;
        let inserted = statement.execute(params![
            self.user,
            self.id.hyphenated().to_string(),
            new.event.kind.as_str(),
            new.occurrence,
            new.event.transaction_type.map(TransactionType::as_str),
            payload,
            time_text(new.event.occurred_at),
            time_text(now),
        ]);
        inserted.within(EVENTS)?;
        self.events.push(new.event);
        self.changed = true;
        Ok(self.standing.add(&new.event))
    }

    /// Adds the events up into the decision's columns, if there are new ones.
    fn roll_up(&self, conn: &Connection) -> Result<(), StoreError> {
        if !self.changed {
            return Ok(());
        }
        let after = fold(self.decided, &self.events);
        let Some((before_text, after_text)) = Change::noted(&self.before, &after, CHANGES)? else {
            return Ok(());
        };
        let id = self.id.hyphenated().to_string();
        let mut note = conn.prepare_cached(NOTE_CHANGE).within(CHANGES)?;
        note.execute(params![id, before_text, after_text]).within(CHANGES)?;
        let Outcome {
            user_selected,
            followed_recommendation,
            time_to_decision_seconds,
            request_submitted,
            request_accepted,
            final_transaction_type,
            nps_score,
        } = after;
        let mut statement = conn.prepare_cached(UPDATE_COLUMNS).within(LOGS)?;
        let updated = statement.execute(params![
            id,
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
}

/// Reads the events of a decision, by time.
pub(super) fn stored_events(conn: &Connection, user: &str, id: Uuid) -> Result<Vec<StoredEvent>, StoreError> {
    each_event(conn, user, id, |row| {
        Ok(StoredEvent {
            kind: parsed(row, 0, kind)?,
            transaction_type: parsed_opt(row, 1, str::parse)?,
            payload: parsed(row, 2, |text| serde_json::from_str(text))?,
            occurred_at: time(row, 3)?,
            recorded_at: time(row, 4)?,
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

fn known_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let payload: Payload = parsed(row, 2, |text| serde_json::from_str(text))?;
    Ok(Event {
        source: payload.source,
        kind: parsed(row, 0, kind)?,
        transaction_type: parsed_opt(row, 1, str::parse)?,
        time_to_decision_seconds: payload.time_to_decision_seconds,
        nps_score: payload.nps_score,
        occurred_at: time(row, 3)?,
    })
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
        let Some(Reported { funnel, coming }) = funnels.get_mut(&given.recommendation_id) else {
            return Err(OutcomeError::NotYours { index });
        };
        let new = new_from_api(given, funnel.decided.at, now);
        if funnel.has(conn, &new)? {
            recorded.duplicates += 1;
            continue;
        }
        funnel.read_events(conn)?;
        let why = mistimed(given, funnel.decided.at, now)
            .or_else(|| funnel.standing.impossible(&new.event, *coming))
            .or_else(|| {
                (funnel.standing.events() >= MAX_EVENTS).then_some("the decision has 200 events already")
            });
        if let Some(why) = why {
            return Err(OutcomeError::Impossible { index, why });
        }
        if funnel.append(conn, &new, now)? {
            recorded.note(&new.event, &funnel.decided);
        } else {
            recorded.duplicates += 1;
        }
    }
    for reported in funnels.values() {
        reported.funnel.roll_up(conn)?;
    }
    Ok(recorded)
}

/// A decision of a call.
struct Reported {
    funnel: Funnel,
    /// The type that the call's first submission is of.
    coming: Option<TransactionType>,
}

/// Finds the decisions of a call, each once; the first that does not exist or is another's ends it.
fn funnels(
    conn: &Connection,
    reporter: &OutcomeReporter,
    events: &[OutcomeEvent],
) -> Result<BTreeMap<Uuid, Reported>, OutcomeError> {
    let mut funnels = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        let reported = match funnels.entry(event.recommendation_id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let found = Funnel::load(conn, event.recommendation_id)?.filter(|funnel| match reporter {
                    OutcomeReporter::User(user) => funnel.user == user.as_str(),
                    OutcomeReporter::Service => true,
                });
                let funnel = found.ok_or(OutcomeError::NotYours { index })?;
                entry.insert(Reported { funnel, coming: None })
            }
        };
        if event.kind == EventKind::Submitted {
            reported.coming = reported.coming.or(event.transaction_type);
        }
    }
    Ok(funnels)
}

/// Appends what the state of a request implies and it has not told yet.
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
        if funnel.has(conn, &new)? {
            continue;
        }
        funnel.read_events(conn)?;
        let full = funnel.standing.events() >= MAX_EVENTS_WITH_TOLD;
        if full || funnel.standing.impossible(&new.event, None).is_some() {
            conflicts += 1;
        } else if funnel.append(conn, &new, now)? {
            recorded += 1;
        }
    }
    funnel.roll_up(conn)?;
    Ok(Told::Events { recorded, conflicts })
}
