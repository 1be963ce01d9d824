//! What the events of a decision add up to: a pure function of the set of events and their times.
//!
//! The order in which events arrive never matters, so a late event lands as if it had come in time. The choices that
//! the specification leaves open are made here:
//!
//! - Once a request is submitted, its type is the one selected, whatever was looked at afterwards.
//! - An answer is accepted, declined or expired; the request was accepted in the first case only. A request taken back
//!   before any answer has none: `request_accepted` stays empty, as the roommate said nothing.
//! - The final transaction is the submitted type once accepted, unless it was taken back at or after that.
//! - The score is the one given last.
//!
//! Equal times are put in order by kind, type and value, so that ties fall the same way everywhere.

use jiff::Timestamp;
use nudge_engine::TransactionType;

use crate::record::EventKind;

/// The columns of `recommendation_logs` that outcomes fill.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The type selected last, or the one submitted.
    pub user_selected: Option<TransactionType>,
    /// Whether that was the default; `None` until the user has chosen.
    pub followed_recommendation: Option<bool>,
    /// Seconds from the decision to that choice.
    pub time_to_decision_seconds: Option<f64>,
    /// Whether a request was sent.
    pub request_submitted: bool,
    /// Whether the roommate accepted; `None` until they have answered.
    pub request_accepted: Option<bool>,
    /// The type that came about.
    pub final_transaction_type: Option<TransactionType>,
    /// The score given last.
    pub nps_score: Option<u8>,
}

/// The decision that events belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// When it was made.
    pub at: Timestamp,
    /// Its default.
    pub primary: TransactionType,
}

/// One event, as far as it counts here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The type, if it has one.
    pub transaction_type: Option<TransactionType>,
    /// Seconds from decision to selection, if the caller said so.
    pub time_to_decision_seconds: Option<f64>,
    /// The score.
    pub nps_score: Option<u8>,
    /// When it happened.
    pub occurred_at: Timestamp,
}

impl Event {
    /// Orders by time, and equal times by everything else.
    fn chronological(a: &Self, b: &Self) -> std::cmp::Ordering {
        let seconds = |event: &Self| event.time_to_decision_seconds.unwrap_or(-1.0);
        let rest = |event: &Self| (event.occurred_at, event.kind, event.transaction_type, event.nps_score);
        rest(a).cmp(&rest(b)).then_with(|| seconds(a).total_cmp(&seconds(b)))
    }
}

/// Adds the events of a decision up, in whatever order they are given.
pub fn fold(decided: Decided, events: &[Event]) -> Outcome {
    let mut events = events.to_vec();
    events.sort_by(Event::chronological);
    let first = |kind| events.iter().find(|event| event.kind == kind);
    let last = |kind| events.iter().rfind(|event| event.kind == kind);
    let submitted = first(EventKind::Submitted);
    let answer = events.iter().rfind(|event| event.kind.is_answer());
    let accepted = answer.is_some_and(|event| event.kind == EventKind::Accepted);
    let taken_back = last(EventKind::Cancelled)
        .zip(answer)
        .is_some_and(|(cancelled, answer)| cancelled.occurred_at >= answer.occurred_at);
    let choice = choice(submitted, &events);
    Outcome {
        user_selected: choice.and_then(|event| event.transaction_type),
        followed_recommendation: choice.map(|event| event.transaction_type == Some(decided.primary)),
        time_to_decision_seconds: choice.map(|event| {
            event
                .time_to_decision_seconds
                .unwrap_or_else(|| event.occurred_at.duration_since(decided.at).as_secs_f64().max(0.0))
        }),
        request_submitted: submitted.is_some(),
        request_accepted: answer.map(|_| accepted),
        final_transaction_type: submitted
            .filter(|_| accepted && !taken_back)
            .and_then(|event| event.transaction_type),
        nps_score: last(EventKind::Nps).and_then(|event| event.nps_score),
    }
}

/// Finds the event by which the user chose: the last selection, of the submitted type once there is one; a submission
/// without a selection is one itself.
fn choice<'a>(submitted: Option<&'a Event>, chronological: &'a [Event]) -> Option<&'a Event> {
    let fits = |event: &&Event| {
        event.kind == EventKind::Selected
            && submitted.is_none_or(|submitted| submitted.transaction_type == event.transaction_type)
    };
    chronological.iter().rfind(fits).or(submitted)
}

/// Says why an event cannot have happened to a decision that `known` events have happened to; `None` if it can have.
///
/// `known` holds every other event of the decision, those of the same call included, except that an event of the call
/// is held against the submissions and answers before it only.
pub fn impossible(event: &Event, known: &[Event]) -> Option<&'static str> {
    let submitted = known.iter().find(|other| other.kind == EventKind::Submitted);
    match event.kind {
        EventKind::Submitted if submitted.is_some_and(|s| s.transaction_type != event.transaction_type) => {
            Some("a request of another type was submitted")
        }
        kind if kind.is_answer() => match submitted {
            None => Some("an answer needs a submitted request, and none is known"),
            Some(submitted)
                if event.transaction_type.is_some()
                    && event.transaction_type != submitted.transaction_type =>
            {
                Some("the request that was submitted is of another type")
            }
            Some(_) if known.iter().any(|other| other.kind.is_answer() && other.kind != kind) => {
                Some("another answer is known already")
            }
            Some(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventKind::{Accepted, Cancelled, Declined, Expired, Nps, Selected, Submitted, Viewed};
    use TransactionType::{Buyout, Crash, Swap};
    use proptest::prelude::*;

    const DECIDED: Decided = Decided { at: Timestamp::UNIX_EPOCH, primary: Crash };

    fn event(kind: EventKind, transaction_type: Option<TransactionType>, second: i64) -> Event {
        let occurred_at = Timestamp::from_second(second).unwrap();
        Event { kind, transaction_type, time_to_decision_seconds: None, nps_score: None, occurred_at }
    }

    #[test]
    fn the_type_selected_last_counts_until_one_is_submitted() {
        let mut events = vec![event(Selected, Some(Crash), 9), event(Selected, Some(Swap), 20)];
        let chosen = fold(DECIDED, &events);
        assert_eq!((chosen.user_selected, chosen.followed_recommendation), (Some(Swap), Some(false)));
        assert_eq!(chosen.time_to_decision_seconds, Some(20.0));
        events.push(event(Submitted, Some(Crash), 15));
        let chosen = fold(DECIDED, &events);
        assert_eq!((chosen.user_selected, chosen.followed_recommendation), (Some(Crash), Some(true)));
        assert_eq!(chosen.time_to_decision_seconds, Some(9.0), "when that type was selected");
        let unselected = fold(DECIDED, &[event(Submitted, Some(Buyout), 30)]);
        assert_eq!(
            (unselected.user_selected, unselected.time_to_decision_seconds),
            (Some(Buyout), Some(30.0))
        );
    }

    #[test]
    fn answers_fill_the_columns_as_documented() {
        let submitted = event(Submitted, Some(Swap), 1);
        for (rest, accepted, finally) in [
            (vec![], None, None),
            (vec![event(Viewed, None, 5)], None, None),
            (vec![event(Accepted, None, 5)], Some(true), Some(Swap)),
            (vec![event(Declined, None, 5)], Some(false), None),
            (vec![event(Expired, None, 5)], Some(false), None),
            (vec![event(Cancelled, None, 5)], None, None),
            (vec![event(Accepted, None, 5), event(Cancelled, None, 5)], Some(true), None),
            (vec![event(Cancelled, None, 4), event(Accepted, None, 5)], Some(true), Some(Swap)),
        ] {
            let events: Vec<_> = rest.iter().copied().chain([submitted]).collect();
            let outcome = fold(DECIDED, &events);
            assert_eq!(
                (outcome.request_accepted, outcome.final_transaction_type),
                (accepted, finally),
                "{rest:?}"
            );
        }
        let score = |score, second| Event { nps_score: Some(score), ..event(Nps, None, second) };
        assert_eq!(fold(DECIDED, &[score(9, 20), score(3, 10)]).nps_score, Some(9));
        assert_eq!(fold(DECIDED, &[]), Outcome::default());
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let types = prop::option::of(prop::sample::select(TransactionType::ALL));
        let kinds = prop::sample::select(EventKind::ALL);
        (kinds, types, 0..6_i64, prop::option::of(0..4_u8)).prop_map(|(kind, transaction_type, second, n)| {
            Event {
                time_to_decision_seconds: n.map(f64::from),
                nps_score: n,
                ..event(kind, transaction_type, second)
            }
        })
    }

    proptest! {
        #[test]
        fn the_sum_does_not_depend_on_the_order(
            (events, shuffled) in prop::collection::vec(any_event(), 0..12)
                .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
        ) {
            prop_assert_eq!(fold(DECIDED, &events), fold(DECIDED, &shuffled));
        }
    }
}
