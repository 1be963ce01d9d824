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

async fn with_decision() -> Fixture {
    let f = Fixture::new();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_funnel_fills_the_columns() {
    let f = with_decision().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reports_on_the_decision_of_another() {
    let f = with_decision().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_have_happened_is_refused_and_nothing_of_the_call_stays() {
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
        let f = with_decision().await;
        report(&f, before).await.unwrap();
        let known = f.store.decision(id(1)).await.unwrap();
        let call = [nps(3, "2026-03-01T12:30:00Z"), impossible.clone()];
        let error = report(&f, &call).await.unwrap_err();
        assert!(matches!(error, OutcomeError::Impossible { index: 1, .. }), "{impossible:?}: {error}");
        assert_eq!(f.store.decision(id(1)).await.unwrap(), known);
        // The same in one call.
        let f = with_decision().await;
        let call: Vec<_> = before.iter().cloned().chain([impossible.clone()]).collect();
        assert!(matches!(report(&f, &call).await, Err(OutcomeError::Impossible { .. })));
        assert_eq!(f.store.decision(id(1)).await.unwrap().unwrap().events, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_minutes_ahead_and_a_cancellation_at_any_time_are_possible() {
    let f = with_decision().await;
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
        let mut seen = std::collections::BTreeSet::new();
        events.retain(|e| seen.insert((e.kind, e.transaction_type, e.occurred_at)));
        events
    })
}

/// Reports a history in calls of at most `size`; answers wait for the first submission, as callers' do.
async fn columns(mut events: Vec<OutcomeEvent>, size: usize) -> Outcome {
    let f = with_decision().await;
    if let Some(first) = events.iter().position(|e| e.kind == Submitted) {
        let submitted = events.remove(first);
        let answer = events.iter().position(|e| e.kind.is_answer()).unwrap_or(events.len());
        events.insert(answer, submitted);
    }
    for call in events.chunks(size) {
        report(&f, call).await.unwrap();
    }
    outcome(&f).await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn columns_do_not_depend_on_the_order_of_arrival(
        (events, shuffled) in history().prop_flat_map(|e| (Just(e.clone()), Just(e).prop_shuffle())),
        size in 1..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (one, other) = runtime.block_on(async { (columns(events.clone(), 500).await, columns(shuffled, size).await) });
        prop_assert_eq!(one, other);
    }
}
