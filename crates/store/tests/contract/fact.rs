//! Facts: what changes nothing, what is marked, and what a request tells of a decision.

use crate::support::*;
use nudge_engine::{Archetype, RequestStatus, TransactionType};
use nudge_store::*;

const NOW: &str = "2026-03-01T14:00:00Z";

fn of_decision(status: RequestStatus) -> DateChangeRequestRow {
    let answered = !matches!(status, RequestStatus::Pending);
    DateChangeRequestRow {
        recommendation_id: Some(id(1)),
        status,
        created_at: at("2026-03-01T12:30:00Z"),
        responded_at: answered.then(|| at("2026-03-01T13:30:00Z")),
        ..request(1, "ann", "bob")
    }
}

async fn apply(f: &Fixture, row: DateChangeRequestRow) -> FactsApplied {
    let change = FactChange::Upsert(FactRow::DateChangeRequest(row));
    f.store.apply_facts(vec![change], at(NOW)).await.unwrap()
}

async fn with_decision(engine: Engine) -> Fixture {
    let f = Fixture::new(engine).await;
    f.store.record_decision(decision(1, Some("ann"), TransactionType::Crash)).await.unwrap();
    f
}

fn reported(kind: EventKind, transaction_type: Option<TransactionType>) -> OutcomeEvent {
    OutcomeEvent {
        recommendation_id: id(1),
        kind,
        transaction_type,
        time_to_decision_seconds: None,
        nps_score: None,
        occurred_at: None,
    }
}

async fn the_same_payload_twice_changes_nothing(engine: Engine) {
    let f = with_decision(engine).await;
    let rows = || {
        [
            profile("ann", Some(ProfileRole::Admin), None),
            FactRow::Lease(LeaseRow { id: entity("home"), name: Some("Home".into()), created_at: None }),
            member("home", "ann"),
            night("home", "2026-03-15", "ann"),
            FactRow::DateChangeRequest(of_decision(RequestStatus::Accepted)),
        ]
    };
    let first = f.facts(rows()).await;
    assert_eq!((first.upserted, first.unchanged, first.stale_users, first.events_recorded), (5, 0, 2, 2));
    let head = f.store.changes_head().await.unwrap();
    let decided = f.store.decision(id(1)).await.unwrap();
    let again = f.facts(rows()).await;
    assert_eq!(again, FactsApplied { unchanged: 5, ..FactsApplied::default() });
    assert_eq!(f.store.changes_head().await.unwrap(), head);
    assert_eq!(f.store.decision(id(1)).await.unwrap(), decided);

    let keys = || rows().iter().map(|row| FactChange::Delete(row.key())).collect::<Vec<_>>();
    let deleted = f.store.apply_facts(keys(), at(NOW)).await.unwrap();
    assert_eq!((deleted.deleted, deleted.stale_users), (5, 2));
    let again = f.store.apply_facts(keys(), at(NOW)).await.unwrap();
    assert_eq!(again, FactsApplied { unchanged: 5, ..FactsApplied::default() });
    assert_eq!(f.person("ann").await.history.prior_requests, 0);
}

async fn a_bad_row_takes_the_whole_call_back_and_nothing_of_another_call(engine: Engine) {
    let f = Fixture::new(engine).await;
    let bad = DateChangeRequestRow { proposed_price_cents: Some(-1), ..request(2, "ann", "bob") };
    let rows = [request(1, "ann", "bob"), bad].map(|row| FactChange::Upsert(FactRow::DateChangeRequest(row)));
    let (bad, good) =
        tokio::join!(f.store.apply_facts(rows.to_vec(), at(NOW)), apply(&f, request(3, "ann", "bob")));
    assert!(matches!(bad, Err(StoreError::Refused { table: "date_change_requests", .. })), "{bad:?}");
    assert_eq!(good.upserted, 1);
    assert_eq!(f.person("ann").await.history.prior_requests, 1);
}

async fn a_profile_without_the_columns_keeps_what_is_stored(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([profile("ann", Some(ProfileRole::Admin), Some(true))]).await;
    assert_eq!(f.facts([profile("ann", None, None)]).await.unchanged, 1);
    let ann = f.store.profile(&user("ann")).await.unwrap();
    assert_eq!(ann, Profile { role: ProfileRole::Admin, opted_out: true });
    assert_eq!(f.store.profile(&user("bob")).await.unwrap(), Profile::default());
}

async fn old_and_new_parties_of_a_request_are_marked(engine: Engine) {
    let f = Fixture::new(engine).await;
    apply(&f, request(1, "ann", "bob")).await;
    for id in ["ann", "bob"] {
        assert_eq!(f.compute(id, Archetype::AverageUser).await, ArchetypeSaved::Saved);
    }
    let moved = apply(&f, request(1, "ann", "eve")).await;
    assert_eq!(moved.stale_users, 3);
    assert!(f.person("bob").await.version.stale_revision.is_some());
}

async fn a_request_that_names_its_decision_tells_the_whole_funnel(engine: Engine) {
    let f = with_decision(engine).await;
    let pending = apply(&f, of_decision(RequestStatus::Pending)).await;
    assert_eq!((pending.events_recorded, pending.event_conflicts), (1, 0));
    let accepted = apply(&f, of_decision(RequestStatus::Accepted)).await;
    assert_eq!(accepted.events_recorded, 1);
    let stored = f.store.decision(id(1)).await.unwrap().unwrap();
    let outcome = stored.outcome;
    assert_eq!(outcome.user_selected, Some(TransactionType::Buyout));
    assert_eq!(outcome.followed_recommendation, Some(false));
    assert_eq!(outcome.time_to_decision_seconds.map(f64::round), Some(1_800.0));
    assert_eq!((outcome.request_submitted, outcome.request_accepted), (true, Some(true)));
    assert_eq!(outcome.final_transaction_type, Some(TransactionType::Buyout));
    assert_eq!(stored.events[1].occurred_at, at("2026-03-01T13:30:00Z"));

    let conflict = apply(&f, of_decision(RequestStatus::Rejected)).await;
    assert_eq!((conflict.upserted, conflict.events_recorded, conflict.event_conflicts), (1, 0, 1));
    assert_eq!(f.store.decision(id(1)).await.unwrap().unwrap(), stored);
}

async fn the_same_fact_by_both_ways_counts_once(engine: Engine) {
    for api_first in [true, false] {
        let f = with_decision(engine).await;
        let events = vec![
            reported(EventKind::Submitted, Some(TransactionType::Buyout)),
            reported(EventKind::Accepted, None),
        ];
        let by_api = || f.store.record_outcomes(OutcomeReporter::Service, events.clone(), at(NOW));
        if api_first {
            assert_eq!(counted(by_api().await.unwrap()), (2, 0));
            assert_eq!(apply(&f, of_decision(RequestStatus::Accepted)).await.events_recorded, 0);
        } else {
            assert_eq!(apply(&f, of_decision(RequestStatus::Accepted)).await.events_recorded, 2);
            assert_eq!(counted(by_api().await.unwrap()), (0, 2));
        }
        let stored = f.store.decision(id(1)).await.unwrap().unwrap();
        assert_eq!(stored.events.len(), 4, "each way is kept");
        assert_eq!(
            stored.outcome.time_to_decision_seconds.map(f64::round),
            Some(1_800.0),
            "the earlier time"
        );
        assert_eq!(counted(by_api().await.unwrap()), (0, 2));
        assert_eq!(apply(&f, of_decision(RequestStatus::Accepted)).await.events_recorded, 0);
        assert_eq!(f.store.decision(id(1)).await.unwrap().unwrap(), stored);
    }
}

async fn columns_do_not_depend_on_which_way_comes_first(engine: Engine) {
    let on = |kind, transaction_type, time: &str| OutcomeEvent {
        occurred_at: Some(at(time)),
        ..reported(kind, transaction_type)
    };
    let api = vec![
        on(EventKind::Submitted, Some(TransactionType::Buyout), "2026-03-01T12:20:00Z"),
        on(EventKind::Accepted, None, "2026-03-01T13:45:00Z"),
        on(EventKind::Cancelled, None, "2026-03-01T13:50:00Z"),
    ];
    let mut columns = Vec::new();
    for api_first in [true, false] {
        let f = with_decision(engine).await;
        let told = || apply(&f, of_decision(RequestStatus::Cancelled));
        let by_api = f.store.record_outcomes(OutcomeReporter::Service, api.clone(), at(NOW));
        let (api, told) = if api_first {
            let api = by_api.await.unwrap().recorded;
            (api, told().await.events_recorded)
        } else {
            let told = told().await.events_recorded;
            (by_api.await.unwrap().recorded, told)
        };
        assert_eq!((api, told), if api_first { (3, 0) } else { (1, 2) });
        columns.push(f.store.decision(id(1)).await.unwrap().unwrap().outcome);
    }
    assert_eq!(columns[0], columns[1]);
    assert_eq!(columns[0].time_to_decision_seconds.map(f64::round), Some(1_200.0));
    assert_eq!(
        columns[0].final_transaction_type,
        Some(TransactionType::Buyout),
        "cancelled before, at 13:30"
    );
}

async fn events_of_a_late_decision_bear_the_time_of_its_return(engine: Engine) {
    let f = Fixture::new(engine).await;
    let row = DateChangeRequestRow { responded_at: None, ..of_decision(RequestStatus::Accepted) };
    assert_eq!(apply(&f, row).await.unknown_recommendations, 1);
    let before = f.now().await;
    f.store.replay_decisions(vec![decision(1, Some("ann"), TransactionType::Buyout)]).await.unwrap();
    let events = f.store.decision(id(1)).await.unwrap().unwrap().events;
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.recorded_at >= before), "{events:?}");
    assert_eq!(events.iter().filter(|event| event.occurred_at >= before).count(), 1, "the answer");
}

async fn a_decision_of_another_is_not_told_of_and_one_that_comes_late_is(engine: Engine) {
    let f = with_decision(engine).await;
    let stranger = DateChangeRequestRow { requester_id: user("eve"), ..of_decision(RequestStatus::Accepted) };
    assert_eq!(apply(&f, stranger).await.unknown_recommendations, 1);
    let early = DateChangeRequestRow {
        recommendation_id: Some(id(2)),
        id: entity("early"),
        ..of_decision(RequestStatus::Accepted)
    };
    assert_eq!(apply(&f, early).await.unknown_recommendations, 1);
    f.store.replay_decisions(vec![decision(2, Some("ann"), TransactionType::Buyout)]).await.unwrap();
    let late = f.store.decision(id(2)).await.unwrap().unwrap();
    assert_eq!(late.outcome.request_accepted, Some(true));
    assert_eq!(f.store.decision(id(1)).await.unwrap().unwrap().events, []);
}

fn counted(done: OutcomesRecorded) -> (usize, usize) {
    assert_eq!(done.appended.len(), done.recorded);
    (done.recorded, done.duplicates)
}

on_both!(
    the_same_payload_twice_changes_nothing,
    a_bad_row_takes_the_whole_call_back_and_nothing_of_another_call,
    a_profile_without_the_columns_keeps_what_is_stored,
    old_and_new_parties_of_a_request_are_marked,
    a_request_that_names_its_decision_tells_the_whole_funnel,
    the_same_fact_by_both_ways_counts_once,
    columns_do_not_depend_on_which_way_comes_first,
    events_of_a_late_decision_bear_the_time_of_its_return,
    a_decision_of_another_is_not_told_of_and_one_that_comes_late_is,
);
