//! Outcomes: what is recorded, what is a duplicate, what cannot have happened.

use crate::support::*;
use nudge_engine::TransactionType::{self, Buyout, Crash, Swap};
use nudge_store::EventKind::*;
use nudge_store::*;
use proptest::prelude::*;

const NOW: &str = "2026-03-01T13:00:00Z";

fn event(
    kind: EventKind,
    transaction_type: Option<TransactionType>,
    occurred_at: Option<&str>,
) -> OutcomeEvent {
    OutcomeEvent {
        recommendation_id: id(1),
        kind,
        transaction_type,
        time_to_decision_seconds: None,
        nps_score: None,
        occurred_at: occurred_at.map(at),
    }
}

fn nps(score: u8, occurred_at: &str) -> OutcomeEvent {
    OutcomeEvent { nps_score: Some(score), ..event(Nps, None, Some(occurred_at)) }
}

async fn with_decision(engine: Engine) -> Fixture {
    let f = Fixture::new(engine).await;
    f.store.record_decision(decision(1, Some("ann"), Crash)).await.unwrap();
    f
}

async fn report(f: &Fixture, events: &[OutcomeEvent]) -> Result<(usize, usize), OutcomeError> {
    let recorded =
        f.store.record_outcomes(OutcomeReporter::User(user("ann")), events.to_vec(), at(NOW)).await?;
    Ok((recorded.recorded, recorded.duplicates))
}

async fn outcome(f: &Fixture) -> Outcome {
    f.store.decision(id(1)).await.unwrap().unwrap().outcome
}

async fn a_whole_funnel_fills_the_columns(engine: Engine) {
    let f = with_decision(engine).await;
    let selected =
        OutcomeEvent { time_to_decision_seconds: Some(12.5), ..event(Selected, Some(Crash), None) };
    assert_eq!(report(&f, &[event(Viewed, None, None), selected]).await.unwrap(), (2, 0));
    let chosen = outcome(&f).await;
    assert_eq!((chosen.user_selected, chosen.followed_recommendation), (Some(Crash), Some(true)));
    assert_eq!(chosen.time_to_decision_seconds, Some(12.5));
    assert_eq!((chosen.request_submitted, chosen.request_accepted), (false, None));

    let rest =
        [event(Accepted, None, None), event(Submitted, Some(Crash), None), nps(9, "2026-03-01T12:59:00Z")];
    assert_eq!(report(&f, &rest).await.unwrap(), (3, 0), "a submission later in the same call counts");
    let done = outcome(&f).await;
    assert_eq!((done.request_submitted, done.request_accepted), (true, Some(true)));
    assert_eq!((done.final_transaction_type, done.nps_score), (Some(Crash), Some(9)));
    assert_eq!(report(&f, &rest).await.unwrap(), (0, 3), "the same again changes nothing");
    assert_eq!(outcome(&f).await, done);
    assert_eq!(f.store.decision(id(1)).await.unwrap().unwrap().events.len(), 5);
}

async fn nobody_reports_on_the_decision_of_another(engine: Engine) {
    let f = with_decision(engine).await;
    let mut unknown = event(Viewed, None, None);
    unknown.recommendation_id = id(2);
    let bob = OutcomeReporter::User(user("bob"));
    let impossible = event(Accepted, None, None);
    for (reporter, events, first) in [
        (bob, vec![event(Viewed, None, None)], 0),
        (OutcomeReporter::User(user("ann")), vec![impossible.clone(), unknown.clone()], 1),
        (OutcomeReporter::Service, vec![unknown], 0),
    ] {
        let error = f.store.record_outcomes(reporter, events, at(NOW)).await.unwrap_err();
        assert!(matches!(error, OutcomeError::NotYours { index } if index == first), "{error}");
    }
    let by_service =
        f.store.record_outcomes(OutcomeReporter::Service, vec![event(Viewed, None, None)], at(NOW)).await;
    assert_eq!(by_service.unwrap().recorded, 1);
}

async fn what_cannot_have_happened_is_refused_and_nothing_of_the_call_stays(engine: Engine) {
    let cases: &[(&[OutcomeEvent], OutcomeEvent)] = &[
        (&[], event(Accepted, None, None)),
        (&[], event(Viewed, None, Some("2026-03-01T12:00:00Z"))),
        (&[], event(Viewed, None, Some("2026-03-01T13:05:00.000001Z"))),
        (&[event(Submitted, Some(Crash), None)], event(Submitted, Some(Swap), None)),
        (&[event(Submitted, Some(Crash), None)], event(Accepted, Some(Swap), None)),
        (&[event(Submitted, Some(Crash), None), event(Declined, None, None)], event(Accepted, None, None)),
        (&[event(Submitted, Some(Crash), None), event(Accepted, None, None)], event(Expired, None, None)),
    ];
    for (before, impossible) in cases {
        let f = with_decision(engine).await;
        report(&f, before).await.unwrap();
        let known = f.store.decision(id(1)).await.unwrap();
        let call = [nps(3, "2026-03-01T12:30:00Z"), impossible.clone()];
        let error = report(&f, &call).await.unwrap_err();
        assert!(matches!(error, OutcomeError::Impossible { index: 1, .. }), "{impossible:?}: {error}");
        assert_eq!(f.store.decision(id(1)).await.unwrap(), known);
        // The same in one call.
        let f = with_decision(engine).await;
        let call: Vec<_> = before.iter().cloned().chain([impossible.clone()]).collect();
        assert!(matches!(report(&f, &call).await, Err(OutcomeError::Impossible { .. })));
        assert_eq!(f.store.decision(id(1)).await.unwrap().unwrap().events, []);
    }
}

async fn five_minutes_ahead_and_a_cancellation_at_any_time_are_possible(engine: Engine) {
    let f = with_decision(engine).await;
    assert_eq!(report(&f, &[event(Viewed, None, Some("2026-03-01T13:05:00Z"))]).await.unwrap(), (1, 0));
    assert_eq!(report(&f, &[event(Cancelled, None, None)]).await.unwrap(), (1, 0));
    let rest = [
        event(Submitted, Some(Swap), Some("2026-03-01T12:10:00Z")),
        event(Accepted, None, Some("2026-03-01T12:20:00Z")),
    ];
    assert_eq!(report(&f, &rest).await.unwrap(), (2, 0));
    let done = outcome(&f).await;
    assert_eq!((done.user_selected, done.followed_recommendation), (Some(Swap), Some(false)));
    assert_eq!(
        (done.request_accepted, done.final_transaction_type),
        (Some(true), None),
        "taken back afterwards"
    );
}

/// A history without contradictions: one submitted type, one kind of answer, any times.
fn history() -> impl Strategy<Value = Vec<OutcomeEvent>> {
    let types = prop_oneof![Just(Buyout), Just(Crash), Just(Swap)];
    let answers = prop_oneof![Just(Accepted), Just(Declined), Just(Expired)];
    let raw = prop::collection::vec((0..6_u8, types.clone(), 0..40_i64, prop::option::of(0..100_u32)), 1..9);
    (types, answers, raw).prop_map(|(submitted, answer, raw)| {
        let start = at("2026-03-01T12:01:00Z");
        let mut events: Vec<_> = raw
            .into_iter()
            .map(|(kind, selected, minute, seconds)| {
                let (kind, transaction_type) = match kind {
                    0 => (Viewed, None),
                    1 => (Selected, Some(selected)),
                    2 => (Submitted, Some(submitted)),
                    3 => (answer, None),
                    4 => (Cancelled, None),
                    _ => (Nps, None),
                };
                OutcomeEvent {
                    time_to_decision_seconds: seconds.filter(|_| kind == Selected).map(f64::from),
                    nps_score: (kind == Nps).then_some(u8::try_from(minute % 11).unwrap()),
                    occurred_at: Some(start + jiff::SignedDuration::from_mins(minute)),
                    ..event(kind, transaction_type, None)
                }
            })
            .collect();
        if !events.iter().any(|e| e.kind == Submitted) {
            events.retain(|e| !e.kind.is_answer());
        }
        // The same event with another load is the same event: which one comes first then decides, so leave one.
        // So it does of several scores.
        let mut seen = std::collections::BTreeSet::new();
        events.retain(|e| seen.insert((e.kind, e.transaction_type, e.occurred_at)));
        let mut scored = false;
        events.retain(|e| e.kind != Nps || !std::mem::replace(&mut scored, true));
        events
    })
}

async fn a_decision_has_one_score(engine: Engine) {
    let f = with_decision(engine).await;
    let error =
        report(&f, &[nps(9, "2026-03-01T12:30:00Z"), nps(9, "2026-03-01T12:31:00Z")]).await.unwrap_err();
    assert!(matches!(error, OutcomeError::Impossible { index: 1, why } if why.contains("score")), "{error}");
    assert_eq!(outcome(&f).await.nps_score, None, "nothing of the call stays");
    let first = nps(4, "2026-03-01T12:30:00Z");
    assert_eq!(report(&f, std::slice::from_ref(&first)).await.unwrap(), (1, 0));
    assert_eq!(report(&f, std::slice::from_ref(&first)).await.unwrap(), (0, 1), "told again");
    for later in [nps(10, "2026-03-01T12:31:00Z"), nps(10, "2026-03-01T12:29:00Z")] {
        let error = report(&f, &[event(Viewed, None, None), later]).await.unwrap_err();
        assert!(matches!(error, OutcomeError::Impossible { index: 1, .. }), "{error}");
    }
    assert_eq!(outcome(&f).await.nps_score, Some(4));
}

async fn a_decision_keeps_two_hundred_events_and_what_requests_tell(engine: Engine) {
    let f = with_decision(engine).await;
    let viewed = |second: i64| OutcomeEvent {
        occurred_at: Some(at("2026-03-01T12:01:00Z") + jiff::SignedDuration::from_secs(second)),
        ..event(Viewed, None, None)
    };
    let full: Vec<_> = (0..200).map(viewed).collect();
    assert_eq!(report(&f, &full).await.unwrap(), (200, 0));
    let error = report(&f, &[viewed(7), viewed(200)]).await.unwrap_err();
    assert!(matches!(error, OutcomeError::Impossible { index: 1, why } if why.contains("200")), "{error}");
    assert_eq!(report(&f, &full).await.unwrap(), (0, 200), "the same again is none too many");
    let row = DateChangeRequestRow {
        recommendation_id: Some(id(1)),
        created_at: at("2026-03-01T12:30:00Z"),
        ..request(1, "ann", "bob")
    };
    assert_eq!(f.facts([FactRow::DateChangeRequest(row)]).await.events_recorded, 1);
    assert!(outcome(&f).await.request_submitted);
}

async fn an_event_of_the_decisions_own_millisecond_is_not_before_it(engine: Engine) {
    let f = with_decision(engine).await;
    let early = event(Selected, Some(Crash), Some("2026-03-01T12:00:00.122999Z"));
    assert!(matches!(report(&f, &[early]).await, Err(OutcomeError::Impossible { index: 0, .. })));
    let same = event(Selected, Some(Crash), Some("2026-03-01T12:00:00.123Z"));
    assert_eq!(report(&f, &[same]).await.unwrap(), (1, 0));
    assert_eq!(outcome(&f).await.time_to_decision_seconds, Some(0.0));
}

async fn a_selection_after_the_submission_is_the_one_selected(engine: Engine) {
    let f = with_decision(engine).await;
    let events = [
        event(Submitted, Some(Swap), Some("2026-03-01T12:10:00Z")),
        event(Selected, Some(Crash), Some("2026-03-01T12:20:00Z")),
        event(Accepted, None, Some("2026-03-01T12:30:00Z")),
    ];
    assert_eq!(report(&f, &events).await.unwrap(), (3, 0));
    let done = outcome(&f).await;
    assert_eq!((done.user_selected, done.followed_recommendation), (Some(Crash), Some(true)));
    assert_eq!(done.time_to_decision_seconds.map(f64::round), Some(1_200.0));
    assert_eq!((done.request_accepted, done.final_transaction_type), (Some(true), Some(Swap)));
}

/// What comes by one of the ways at a time.
#[derive(Debug, Clone)]
enum Arrival {
    Api(OutcomeEvent),
    Facts(DateChangeRequestRow),
}

impl Arrival {
    fn submits(&self) -> bool {
        matches!(self, Self::Facts(_) | Self::Api(OutcomeEvent { kind: Submitted, .. }))
    }

    fn answers(&self) -> bool {
        matches!(self, Self::Api(event) if event.kind.is_answer())
    }
}

/// A history by both ways: the requests that tell of it are of the submitted type, and do not contradict the answer.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let requests = prop::collection::vec((0..3_u8, 0..40_i64, 0..40_i64), 0..4);
    (history(), requests).prop_map(|(events, requests)| {
        let submitted = events.iter().find(|e| e.kind == Submitted).and_then(|e| e.transaction_type);
        let answer = events.iter().find(|e| e.kind.is_answer()).map_or(Accepted, |e| e.kind);
        let start = at("2026-03-01T12:01:00Z");
        let told = (1_u32..).zip(requests).map(|(n, (status, created, responded))| {
            let created_at = start + jiff::SignedDuration::from_mins(created);
            let status = match (status, answer) {
                (0, _) => nudge_engine::RequestStatus::Pending,
                (1, _) => nudge_engine::RequestStatus::Cancelled,
                (_, Declined) => nudge_engine::RequestStatus::Rejected,
                (_, Expired) => nudge_engine::RequestStatus::Expired,
                _ => nudge_engine::RequestStatus::Accepted,
            };
            Arrival::Facts(DateChangeRequestRow {
                recommendation_id: Some(id(1)),
                transaction_type: submitted.unwrap_or(Buyout),
                proposed_price_cents: None,
                status,
                created_at,
                responded_at: Some(created_at + jiff::SignedDuration::from_mins(responded)),
                ..request(n, "ann", "bob")
            })
        });
        let told: Vec<_> = told.collect();
        events.into_iter().map(Arrival::Api).chain(told).collect()
    })
}

/// Lets a history arrive, API events in calls of at most `size`; answers wait for the first submission, as callers' do.
/// Gives the columns and the number of facts counted.
async fn columns(engine: Engine, mut arrivals: Vec<Arrival>, size: usize) -> (Outcome, usize) {
    let f = with_decision(engine).await;
    let first = |of: fn(&Arrival) -> bool| arrivals.iter().position(of);
    if let (Some(submitted), Some(answer)) = (first(Arrival::submits), first(Arrival::answers))
        && answer < submitted
    {
        let submitted = arrivals.remove(submitted);
        arrivals.insert(answer, submitted);
    }
    let mut facts = 0;
    let mut call = Vec::new();
    for arrival in arrivals {
        match arrival {
            Arrival::Api(event) => call.push(event),
            Arrival::Facts(row) => {
                facts += report(&f, &std::mem::take(&mut call)).await.unwrap().0;
                let told = f.facts([FactRow::DateChangeRequest(row)]).await;
                assert_eq!(told.event_conflicts, 0);
                facts += told.events_recorded;
            }
        }
        if call.len() >= size {
            facts += report(&f, &std::mem::take(&mut call)).await.unwrap().0;
        }
    }
    facts += report(&f, &call).await.unwrap().0;
    (outcome(&f).await, facts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn columns_do_not_depend_on_the_order_of_arrival(
        (events, shuffled) in arrivals().prop_flat_map(|e| (Just(e.clone()), Just(e).prop_shuffle())),
        size in 1..4_usize,
    ) {
        let one = run(columns(Engine::Sqlite, events, 500));
        let other = run(columns(Engine::Sqlite, shuffled, size));
        prop_assert_eq!(one, other);
    }
}

proptest! {
    // Each case makes a database.
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn both_engines_add_up_alike(events in arrivals(), size in 1..4_usize) {
        let one = run(columns(Engine::Sqlite, events.clone(), size));
        let other = run(columns(Engine::Postgres, events, size));
        prop_assert_eq!(one, other);
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

on_both!(
    a_whole_funnel_fills_the_columns,
    nobody_reports_on_the_decision_of_another,
    what_cannot_have_happened_is_refused_and_nothing_of_the_call_stays,
    five_minutes_ahead_and_a_cancellation_at_any_time_are_possible,
    a_decision_has_one_score,
    a_decision_keeps_two_hundred_events_and_what_requests_tell,
    an_event_of_the_decisions_own_millisecond_is_not_before_it,
    a_selection_after_the_submission_is_the_one_selected,
);
