//! Outcome events: appended, then added up into the columns of their decision, in one transaction.
//!
//! The decisions of a call are locked in the order of their ids, then everything known of them is read at once, and what
//! is new is written at once. Where next: [`crate::outcome`] says what events add up to and which cannot have happened.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nudge_engine::TransactionType;
use tokio_postgres::Row;
use uuid::Uuid;

use super::convert::{At, get, parsed, parsed_opt, statements, time};
use super::lanes::Lanes;
use super::pool::Transaction;
use crate::error::StoreError;
use crate::fact::DateChangeRequestRow;
use crate::format::to_microsecond;
use crate::outcome::candidate::{
    Candidate, MAX_EVENTS, MAX_EVENTS_WITH_TOLD, Payload, Told, implied, kind, mistimed, new_from_api,
};
use crate::outcome::{Decided, Event, Outcome, Standing, fold};
use crate::record::{EventKind, OutcomeError, OutcomeEvent, OutcomeReporter, OutcomesRecorded, StoredEvent};
use crate::report::Change;

statements! {
    LOCK_DECIDED [UUID_ARRAY] = "SELECT id, user_id, created_at, primary_recommendation FROM public.recommendation_logs
      WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
    SELECT_KNOWN [UUID_ARRAY] = "SELECT recommendation_id, event, transaction_type, payload::text, occurred_at, occurrence
      FROM public.recommendation_events WHERE recommendation_id = ANY ($1)";
    SELECT_EVENTS [UUID] = "SELECT event, transaction_type, payload::text, occurred_at, recorded_at
      FROM public.recommendation_events WHERE recommendation_id = $1
      ORDER BY occurred_at, event, occurrence";
    INSERT_EVENTS [TEXT_ARRAY, UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TIMESTAMPTZ_ARRAY, TIMESTAMPTZ] =
      "INSERT INTO public.recommendation_events (user_id, recommendation_id, event, occurrence, transaction_type, payload,
        occurred_at, recorded_at)
      SELECT v.user_id, v.recommendation_id, v.event, v.occurrence, v.transaction_type, v.payload::jsonb, v.occurred_at, $8
      FROM unnest($1, $2, $3, $4, $5, $6, $7)
        AS v (user_id, recommendation_id, event, occurrence, transaction_type, payload, occurred_at)";
    /// The columns, and a note of what reports have to add up again.
    UPDATE_COLUMNS [TEXT_ARRAY, UUID_ARRAY, TEXT_ARRAY, BOOL_ARRAY, FLOAT8_ARRAY, BOOL_ARRAY, BOOL_ARRAY, TEXT_ARRAY,
      INT4_ARRAY, TEXT_ARRAY, TEXT_ARRAY] = "WITH noted AS (
        INSERT INTO nudge.report_changes (recommendation_id, before, after)
        SELECT v.id, v.before::jsonb, v.after::jsonb FROM unnest($2, $10, $11) AS v (id, before, after)
      )
      UPDATE public.recommendation_logs AS l SET user_selected = v.user_selected,
        followed_recommendation = v.followed_recommendation, time_to_decision_seconds = v.time_to_decision_seconds,
        request_submitted = v.request_submitted, request_accepted = v.request_accepted,
        final_transaction_type = v.final_transaction_type, nps_score = v.nps_score
      FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
        AS v (user_id, id, user_selected, followed_recommendation, time_to_decision_seconds, request_submitted,
          request_accepted, final_transaction_type, nps_score)
      WHERE l.user_id = v.user_id AND l.id = v.id";
}

const LOGS: &str = "recommendation_logs";
const EVENTS: &str = "recommendation_events";
const CHANGES: &str = "report_changes";

/// A decision and everything known of what came of it.
struct Funnel {
    user: String,
    decided: Decided,
    events: Vec<Event>,
    /// What makes each event the one that it is.
    known: BTreeSet<(EventKind, String)>,
    standing: Standing,
    new: Vec<Candidate>,
    /// What the events that are known already add up to.
    before: Outcome,
}

impl Funnel {
    fn add(&mut self, event: Event, occurrence: String) -> bool {
        self.known.insert((event.kind, occurrence));
        self.events.push(event);
        self.standing.add(&event)
    }

    fn has(&self, new: &Candidate) -> bool {
        self.known.contains(&(new.event.kind, new.occurrence.clone()))
    }

    /// Appends an event; says whether it is a fact that was not known by the other way.
    fn append(&mut self, new: Candidate) -> bool {
        let is_fact = self.add(new.event, new.occurrence.clone());
        self.new.push(new);
        is_fact
    }
}

/// The decisions of a call, locked, by id.
pub(super) struct Funnels(BTreeMap<Uuid, Funnel>);

impl Funnels {
    /// Locks decisions and reads what is known of them; one that is not there is left out.
    pub(super) async fn lock(
        transaction: &Transaction<'_>,
        ids: impl IntoIterator<Item = Uuid>,
    ) -> Result<Self, StoreError> {
        let ids: Vec<Uuid> = ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        if ids.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let mut funnels = BTreeMap::new();
        for row in transaction.query(LOGS, &LOCK_DECIDED, &[&ids]).await? {
            let decided = Decided { at: time(&row, 2, LOGS)?, primary: parsed(&row, 3, LOGS, str::parse)? };
            let funnel = Funnel {
                user: get(&row, 1, LOGS)?,
                decided,
                events: Vec::new(),
                known: BTreeSet::new(),
                standing: Standing::default(),
                new: Vec::new(),
                before: Outcome::default(),
            };
            funnels.insert(get::<Uuid>(&row, 0, LOGS)?, funnel);
        }
        let found: Vec<Uuid> = funnels.keys().copied().collect();
        for row in transaction.query(EVENTS, &SELECT_KNOWN, &[&found]).await? {
            let event = known_event(&row)?;
            if let Some(funnel) = funnels.get_mut(&get::<Uuid>(&row, 0, EVENTS)?) {
                funnel.add(event, get(&row, 5, EVENTS)?);
            }
        }
        for funnel in funnels.values_mut() {
            funnel.before = fold(funnel.decided, &funnel.events);
        }
        Ok(Self(funnels))
    }

    /// Adds what the state of a request implies and it has not told yet.
    pub(super) fn tell(&mut self, request: &DateChangeRequestRow, now: Timestamp) -> Told {
        let Some(id) = request.recommendation_id else { return Told::Nothing };
        let now = to_microsecond(now);
        let funnel = self.0.get_mut(&id).filter(|funnel| funnel.user == request.requester_id.as_str());
        let Some(funnel) = funnel else { return Told::Unknown };
        let (mut recorded, mut conflicts) = (0, 0);
        for new in implied(request, funnel.decided.at, now) {
            if funnel.has(&new) {
                continue;
            }
            let full = funnel.standing.events() >= MAX_EVENTS_WITH_TOLD;
            if full || funnel.standing.impossible(&new.event, None).is_some() {
                conflicts += 1;
            } else if funnel.append(new) {
                recorded += 1;
            }
        }
        Told::Events { recorded, conflicts }
    }

    /// Writes what is new, and the columns that it changes.
    pub(super) async fn write(
        &self,
        transaction: &Transaction<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut rows = EventColumns::default();
        let mut sums = SumColumns::default();
        for (id, funnel) in self.0.iter().filter(|(_, funnel)| !funnel.new.is_empty()) {
            for new in &funnel.new {
                rows.push(funnel, *id, new)?;
            }
            sums.push(funnel, *id)?;
        }
        if rows.user.is_empty() {
            return Ok(());
        }
        transaction
            .execute(
                EVENTS,
                &INSERT_EVENTS,
                &[
                    &rows.user,
                    &rows.id,
                    &rows.event,
                    &rows.occurrence,
                    &rows.transaction_type,
                    &rows.payload,
                    &rows.occurred_at,
                    &At(now),
                ],
            )
            .await?;
        if sums.user.is_empty() {
            return Ok(());
        }
        transaction
            .execute(
                LOGS,
                &UPDATE_COLUMNS,
                &[
                    &sums.user,
                    &sums.id,
                    &sums.selected,
                    &sums.followed,
                    &sums.seconds,
                    &sums.submitted,
                    &sums.accepted,
                    &sums.finally,
                    &sums.score,
                    &sums.before,
                    &sums.after,
                ],
            )
            .await
            .map(drop)
    }
}

#[derive(Default)]
struct EventColumns<'a> {
    user: Vec<&'a str>,
    id: Vec<Uuid>,
    event: Vec<&'static str>,
    occurrence: Vec<&'a str>,
    transaction_type: Vec<Option<&'static str>>,
    payload: Vec<String>,
    occurred_at: Vec<At>,
}

impl<'a> EventColumns<'a> {
    fn push(&mut self, funnel: &'a Funnel, id: Uuid, new: &'a Candidate) -> Result<(), StoreError> {
        let payload = serde_json::to_string(&new.payload)
            .map_err(|error| StoreError::Refused { table: EVENTS, detail: error.to_string() })?;
        self.user.push(&funnel.user);
        self.id.push(id);
        self.event.push(new.event.kind.as_str());
        self.occurrence.push(&new.occurrence);
        self.transaction_type.push(new.event.transaction_type.map(TransactionType::as_str));
        self.payload.push(payload);
        self.occurred_at.push(At(new.event.occurred_at));
        Ok(())
    }
}

#[derive(Default)]
struct SumColumns<'a> {
    user: Vec<&'a str>,
    id: Vec<Uuid>,
    selected: Vec<Option<&'static str>>,
    followed: Vec<Option<bool>>,
    seconds: Vec<Option<f64>>,
    submitted: Vec<bool>,
    accepted: Vec<Option<bool>>,
    finally: Vec<Option<&'static str>>,
    score: Vec<Option<i32>>,
    before: Vec<Option<String>>,
    after: Vec<String>,
}

impl<'a> SumColumns<'a> {
    /// Adds a decision whose columns change.
    fn push(&mut self, funnel: &'a Funnel, id: Uuid) -> Result<(), StoreError> {
        let outcome = fold(funnel.decided, &funnel.events);
        let Some((before, after)) = Change::noted(&funnel.before, &outcome, CHANGES)? else { return Ok(()) };
        self.before.push(before);
        self.after.push(after);
        let Outcome {
            user_selected,
            followed_recommendation,
            time_to_decision_seconds,
            request_submitted,
            request_accepted,
            final_transaction_type,
            nps_score,
        } = outcome;
        self.user.push(&funnel.user);
        self.id.push(id);
        self.selected.push(user_selected.map(TransactionType::as_str));
        self.followed.push(followed_recommendation);
        self.seconds.push(time_to_decision_seconds);
        self.submitted.push(request_submitted);
        self.accepted.push(request_accepted);
        self.finally.push(final_transaction_type.map(TransactionType::as_str));
        self.score.push(nps_score.map(i32::from));
        Ok(())
    }
}

fn known_event(row: &Row) -> Result<Event, StoreError> {
    let payload: Payload = parsed(row, 3, EVENTS, |text| serde_json::from_str(text))?;
    Ok(Event {
        source: payload.source,
        kind: parsed(row, 1, EVENTS, kind)?,
        transaction_type: parsed_opt(row, 2, EVENTS, str::parse)?,
        time_to_decision_seconds: payload.time_to_decision_seconds,
        nps_score: payload.nps_score,
        occurred_at: time(row, 4, EVENTS)?,
    })
}

/// Reads the events of a decision, by time.
pub(super) async fn stored_events(lanes: &Lanes, id: Uuid) -> Result<Vec<StoredEvent>, StoreError> {
    let rows = lanes.query(EVENTS, &SELECT_EVENTS, &[&id]).await?;
    rows.iter()
        .map(|row| {
            Ok(StoredEvent {
                kind: parsed(row, 0, EVENTS, kind)?,
                transaction_type: parsed_opt(row, 1, EVENTS, str::parse)?,
                payload: parsed(row, 2, EVENTS, |text| serde_json::from_str(text))?,
                occurred_at: time(row, 3, EVENTS)?,
                recorded_at: time(row, 4, EVENTS)?,
            })
        })
        .collect()
}

/// Appends a call's events, all of them or none, and rolls them up.
pub(super) async fn record(
    transaction: &Transaction<'_>,
    reporter: &OutcomeReporter,
    events: &[OutcomeEvent],
    now: Timestamp,
) -> Result<OutcomesRecorded, OutcomeError> {
    let now = to_microsecond(now);
    let mut funnels = Funnels::lock(transaction, events.iter().map(|event| event.recommendation_id)).await?;
    let coming = checked(&funnels, reporter, events)?;
    let mut recorded = OutcomesRecorded::default();
    for (index, given) in events.iter().enumerate() {
        let id = given.recommendation_id;
        let Some(funnel) = funnels.0.get_mut(&id) else { return Err(OutcomeError::NotYours { index }) };
        let new = new_from_api(given, funnel.decided.at, now);
        if funnel.has(&new) {
            recorded.duplicates += 1;
            continue;
        }
        let why = mistimed(given, funnel.decided.at, now)
            .or_else(|| funnel.standing.impossible(&new.event, coming.get(&id).copied()))
            .or_else(|| {
                (funnel.standing.events() >= MAX_EVENTS).then_some("the decision has 200 events already")
            });
        if let Some(why) = why {
            return Err(OutcomeError::Impossible { index, why });
        }
        let event = new.event;
        if funnel.append(new) {
            recorded.note(&event, &funnel.decided);
        } else {
            recorded.duplicates += 1;
        }
    }
    funnels.write(transaction, now).await?;
    Ok(recorded)
}

/// Checks whose the decisions are, before anything else is said of them; gives the type of each one's first submission.
fn checked(
    funnels: &Funnels,
    reporter: &OutcomeReporter,
    events: &[OutcomeEvent],
) -> Result<BTreeMap<Uuid, TransactionType>, OutcomeError> {
    let mut coming = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        let yours = funnels.0.get(&event.recommendation_id).is_some_and(|funnel| match reporter {
            OutcomeReporter::User(user) => funnel.user == user.as_str(),
            OutcomeReporter::Service => true,
        });
        if !yours {
            return Err(OutcomeError::NotYours { index });
        }
        if let (EventKind::Submitted, Some(submitted)) = (event.kind, event.transaction_type) {
            coming.entry(event.recommendation_id).or_insert(submitted);
        }
    }
    Ok(coming)
}
