//! What the events of a decision add up to: a pure function of the set of events and their times.
//!
//! The order in which events arrive never matters, so a late event lands as if it had come in time. The choices that
//! the specification leaves open are made here:
//!
//! - The same fact by both ways counts once, at the earlier of its two times: the first of its kind by the one way is the
//!   first by the other, the second the second.
//! - A submission is a selection at its own time. Of the type that was selected already it only confirms that choice,
//!   whose time stays.
//! - An answer is accepted, declined or expired; the request was accepted in the first case only, and at the first time
//!   of it. A request taken back before any answer has none: `request_accepted` stays empty, as the roommate said nothing.
//! - The final transaction is the submitted type once accepted, unless it was taken back at or after that.
//! - A decision has one score, the first that came. Rows from before that was so may have several: the one given last.
//!
//! Equal times are put in order by kind, type and value, so that ties fall the same way everywhere.

pub(crate) mod candidate;

use jiff::Timestamp;
use nudge_engine::TransactionType;
use serde::{Deserialize, Serialize};

use crate::record::EventKind;

/// The columns of `recommendation_logs` that outcomes fill.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The type selected last; a submission is a selection.
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

/// The way by which an event came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The outcomes API.
    #[default]
    Api,
    /// A row of `date_change_requests`.
    Facts,
}

/// One event, as far as it counts here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// By which way it came.
    pub source: Source,
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
    let events = merged(events);
    let first = |kind| events.iter().find(|event| event.kind == kind);
    let last = |kind| events.iter().rfind(|event| event.kind == kind);
    let submitted = first(EventKind::Submitted);
    let answer = events.iter().find(|event| event.kind.is_answer());
    let accepted = answer.is_some_and(|event| event.kind == EventKind::Accepted);
    let taken_back = last(EventKind::Cancelled)
        .zip(answer)
        .is_some_and(|(cancelled, answer)| cancelled.occurred_at >= answer.occurred_at);
    let choice = choice(&events);
    Outcome {
        user_selected: choice.and_then(|event| event.transaction_type),
        followed_recommendation: choice.map(|event| event.transaction_type == Some(decided.primary)),
        time_to_decision_seconds: choice.map(|event| {
            // An event of the decision's own millisecond may be dated before it.
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

/// Makes facts of events, by time: those of a kind that came by the two ways are paired in the order of their times, and
/// the earlier of each pair is the fact.
fn merged(events: &[Event]) -> Vec<Event> {
    let mut facts = Vec::with_capacity(events.len());
    for kind in EventKind::ALL {
        let of = |source| {
            let mut of: Vec<Event> =
                events.iter().filter(|e| e.kind == *kind && e.source == source).copied().collect();
            of.sort_by(Event::chronological);
            of
        };
        let (api, told) = (of(Source::Api), of(Source::Facts));
        let paired = api.len().min(told.len());
        let pairs = api.iter().zip(&told);
        facts.extend(pairs.map(|(a, b)| if Event::chronological(a, b).is_le() { *a } else { *b }));
        facts.extend(api.into_iter().skip(paired).chain(told.into_iter().skip(paired)));
    }
    facts.sort_by(Event::chronological);
    facts
}

/// Finds the event by which the user chose: the last selection or submission, but not a submission of the type that was
/// chosen already.
fn choice(chronological: &[Event]) -> Option<&Event> {
    chronological.iter().fold(None, |chosen: Option<&Event>, event| match (event.kind, chosen) {
        (EventKind::Submitted, Some(chosen)) if chosen.transaction_type == event.transaction_type => {
            Some(chosen)
        }
        (EventKind::Selected | EventKind::Submitted, _) => Some(event),
        _ => chosen,
    })
}

/// What is known of a decision, as far as it decides whether another event can have happened: kept up event by event.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    submitted: Option<Option<TransactionType>>,
    answer: Option<EventKind>,
    /// Number of events by kind, and by the API or by facts.
    counts: [[usize; 2]; EventKind::ALL.len()],
}

impl Standing {
    /// Takes an event in; says whether it is a fact that was not known, and not the same one by the other way.
    pub fn add(&mut self, event: &Event) -> bool {
        if event.kind == EventKind::Submitted {
            self.submitted.get_or_insert(event.transaction_type);
        } else if event.kind.is_answer() {
            self.answer.get_or_insert(event.kind);
        }
        let Some([api, facts]) = self.counts.get_mut(event.kind as usize) else { return true };
        let (own, other) = match event.source {
            Source::Api => (api, &*facts),
            Source::Facts => (facts, &*api),
        };
        *own += 1;
        *own > *other
    }

    fn known(&self, kind: EventKind) -> bool {
        self.counts.get(kind as usize).is_some_and(|counts| counts.iter().any(|count| *count > 0))
    }

    /// Gives the number of events taken in.
    pub fn events(&self) -> usize {
        self.counts.iter().flatten().sum()
    }

    /// Says why an event cannot have happened; `None` if it can have. An answer may stand before the first
    /// submission of the same call, whose type is `coming`.
    pub fn impossible(&self, event: &Event, coming: Option<TransactionType>) -> Option<&'static str> {
        let submitted = self.submitted.or(coming.map(Some));
        match event.kind {
            EventKind::Nps if self.known(EventKind::Nps) => Some("a score was given already"),
            EventKind::Submitted if self.submitted.is_some_and(|t| t != event.transaction_type) => {
                Some("a request of another type was submitted")
            }
            kind if kind.is_answer() => match submitted {
                None => Some("an answer needs a submitted request, and none is known"),
                Some(submitted)
                    if event.transaction_type.is_some() && event.transaction_type != submitted =>
                {
                    Some("the request that was submitted is of another type")
                }
                Some(_) if self.answer.is_some_and(|answer| answer != kind) => {
                    Some("another answer is known already")
                }
                Some(_) => None,
            },
            _ => None,
        }
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
        Event {
            source: Source::Api,
            kind,
            transaction_type,
            time_to_decision_seconds: None,
            nps_score: None,
            occurred_at,
        }
    }

    fn chosen(events: &[Event]) -> (Option<TransactionType>, Option<bool>, Option<f64>) {
        let chosen = fold(DECIDED, events);
        (chosen.user_selected, chosen.followed_recommendation, chosen.time_to_decision_seconds)
    }

    #[test]
    fn the_type_selected_last_counts_and_a_submission_selects_its_type() {
        let mut events = vec![event(Selected, Some(Crash), 9), event(Selected, Some(Swap), 20)];
        assert_eq!(chosen(&events), (Some(Swap), Some(false), Some(20.0)));
        events.push(event(Submitted, Some(Buyout), 15));
        assert_eq!(chosen(&events), (Some(Swap), Some(false), Some(20.0)), "selected after the submission");
        events.push(event(Accepted, None, 30));
        assert_eq!(fold(DECIDED, &events).final_transaction_type, Some(Buyout));
        let changed = [event(Selected, Some(Swap), 9), event(Submitted, Some(Crash), 15)];
        assert_eq!(chosen(&changed), (Some(Crash), Some(true), Some(15.0)));
        let confirmed = [event(Selected, Some(Crash), 9), event(Submitted, Some(Crash), 15)];
        assert_eq!(chosen(&confirmed), (Some(Crash), Some(true), Some(9.0)), "when it was chosen");
        assert_eq!(chosen(&[event(Submitted, Some(Buyout), 30)]), (Some(Buyout), Some(false), Some(30.0)));
        assert_eq!(chosen(&[event(Selected, Some(Crash), -1)]), (Some(Crash), Some(true), Some(0.0)));
    }

    #[test]
    fn the_same_fact_by_both_ways_counts_at_its_earlier_time() {
        let told = |event| Event { source: Source::Facts, ..event };
        let submitted = [event(Submitted, Some(Crash), 100), told(event(Submitted, Some(Crash), 10))];
        assert_eq!(chosen(&submitted).2, Some(10.0));
        let accepted =
            [submitted[0], submitted[1], event(Accepted, None, 50), told(event(Accepted, None, 40))];
        for (cancelled, finally) in [((100, 10), Some(Crash)), ((45, 100), None), ((100, 41), None)] {
            let cancelled = [event(Cancelled, None, cancelled.0), told(event(Cancelled, None, cancelled.1))];
            let events: Vec<_> = accepted.into_iter().chain(cancelled).collect();
            assert_eq!(fold(DECIDED, &events).final_transaction_type, finally, "{cancelled:?}");
        }
        let mut standing = Standing::default();
        let new: Vec<_> = accepted.iter().map(|event| standing.add(event)).collect();
        assert_eq!(new, [true, false, true, false]);
        assert_eq!(standing.events(), 4);
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
        let sources = prop::sample::select(vec![Source::Api, Source::Facts]);
        (sources, kinds, types, 0..6_i64, prop::option::of(0..4_u8)).prop_map(
            |(source, kind, transaction_type, second, n)| Event {
                source,
                time_to_decision_seconds: n.map(f64::from),
                nps_score: n,
                ..event(kind, transaction_type, second)
            },
        )
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
