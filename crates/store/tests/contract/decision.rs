//! Decisions, and the facts that they are made from.

use crate::support::*;
use nudge_engine::{Archetype, Cents, TransactionType};
use nudge_store::*;

async fn a_decision_comes_back_as_it_went_in(engine: Engine) {
    let f = Fixture::new(engine).await;
    for row in [decision(1, Some("ann"), TransactionType::Crash), decision(2, None, TransactionType::Swap)] {
        f.store.record_decision(row.clone()).await.unwrap();
        let stored = f.store.decision(row.id).await.unwrap().unwrap();
        assert_eq!(normal(&stored.row), normal(&row));
        assert_eq!(stored.outcome, Outcome::default());
        assert_eq!(stored.events, []);
    }
    assert!(f.store.decision(id(3)).await.unwrap().is_none());
}

async fn a_decision_is_written_once_and_the_first_one_stays(engine: Engine) {
    let f = Fixture::new(engine).await;
    let row = decision(1, Some("ann"), TransactionType::Crash);
    f.store.record_decision(row.clone()).await.unwrap();
    let other = DecisionRow { rule: "another".into(), ..row.clone() };
    f.store.record_decision(other.clone()).await.unwrap();
    let replayed = f.store.replay_decisions(vec![other]).await.unwrap();
    assert!(matches!(replayed[..], [Ok(())]));
    assert_eq!(normal(&f.store.decision(row.id).await.unwrap().unwrap().row), normal(&row));
}

async fn a_refused_row_does_not_stop_the_others_of_a_replay(engine: Engine) {
    let f = Fixture::new(engine).await;
    let good = decision(1, Some("ann"), TransactionType::Crash);
    let bad =
        DecisionRow { urgency_level: "SOON".into(), ..decision(2, Some("ann"), TransactionType::Crash) };
    let last = decision(3, Some("ann"), TransactionType::Crash);
    let results = f.store.replay_decisions(vec![good, bad.clone(), last]).await.unwrap();
    assert!(matches!(
        &results[..],
        [Ok(()), Err(StoreError::Refused { table: "recommendation_logs", .. }), Ok(())]
    ));
    assert!(matches!(f.store.record_decision(bad).await, Err(StoreError::Refused { .. })));
    assert!(f.store.decision(id(3)).await.unwrap().is_some());
}

async fn a_full_queue_gives_the_row_back(engine: Engine) {
    let f = match engine {
        Engine::Sqlite => Fixture::sqlite(|options| options.queue = 1),
        Engine::Postgres => Fixture::postgres(|options| options.queue = 1).await,
    };
    let row = std::sync::Arc::new(decision(1, Some("ann"), TransactionType::Crash));
    f.store.record_decision(decision(2, Some("ann"), TransactionType::Crash)).await.unwrap();
    let lock = f.lock().await;
    // One is with the writer, which waits for the lock; one waits in the queue; then there is no room.
    let mut waiting = Vec::new();
    let back = loop {
        match f.store.try_enqueue_decision(row.clone()) {
            Ok(answer) => waiting.push(answer),
            Err(back) => break back,
        }
    };
    assert_eq!(back, row);
    lock.release().await;
    for answer in waiting {
        // Either it got the lock in time or it was told that it did not.
        assert!(answer.await.unwrap().map_or_else(|e| e.is_unavailable(), |()| true));
    }
}

async fn a_person_is_read_with_the_newest_requests_of_both_roles(engine: Engine) {
    let f = Fixture::new(engine).await;
    let rows = (0..60).map(|n| if n % 2 == 0 { request(n, "ann", "bob") } else { request(n, "bob", "ann") });
    f.facts(rows.map(FactRow::DateChangeRequest)).await;
    let ann = f.person("ann").await;
    let requests = ann.requests.unwrap();
    let ids: Vec<_> = requests.iter().map(|r| r.id.to_string()).collect();
    let expected: Vec<_> = (10..60).rev().map(|n| format!("request-{n:04}")).collect();
    assert_eq!(ids, expected);
    assert_eq!(requests[0].role, nudge_engine::Role::Receiver);
    assert_eq!(requests[0].proposed_price, Some(Cents(12_345)));
    assert_eq!(requests[0].base_price, Some(Cents(10_001)));
    assert_eq!(ann.history.prior_requests, 10);
    assert_eq!(ann.history.last.unwrap().transaction_type, TransactionType::Buyout);
    assert_eq!(f.person("nobody").await.history.prior_requests, 0);
}

async fn requests_come_only_when_the_archetype_cannot_be_used(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([FactRow::DateChangeRequest(request(1, "ann", "bob"))]).await;
    let now = at("2026-03-02T00:00:00Z");
    let load_under = |fresh_after, policy| {
        let with = WithRequests::IfNotFresh { fresh_after: at(fresh_after), now, policy };
        let store = f.store.clone();

        async move { store.load_person(&user("ann"), with, 50, 10).await.unwrap() }
    };
    let load = |fresh_after| load_under(fresh_after, "rules-v1");
    let early = "2026-03-01T00:00:00Z";
    assert!(load(early).await.requests.is_some(), "none is stored");
    assert_eq!(f.compute("ann", Archetype::BigSpender).await, ArchetypeSaved::Saved);
    let fresh = load(early).await;
    assert!(fresh.requests.is_none());
    assert_eq!(fresh.history.prior_requests, 1, "the history always comes");
    assert!(load("2026-03-01T12:00:01Z").await.requests.is_some(), "too old");
    assert!(load_under(early, "rules-v2").await.requests.is_some(), "computed with another policy");
    f.facts([FactRow::DateChangeRequest(request(2, "ann", "bob"))]).await;
    assert!(load(early).await.requests.is_some(), "stale");
}

async fn a_row_that_cannot_be_read_is_an_error_and_never_no_data(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.facts([FactRow::DateChangeRequest(request(1, "ann", "bob"))]).await;
    f.sql(
        "UPDATE date_change_requests SET created_at = 'aaaaaaaaaaaaaaaaaaaaaaaaaaa'",
        "UPDATE date_change_requests SET created_at = 'infinity'",
    )
    .await
    .unwrap();
    let result = f.store.load_person(&user("ann"), WithRequests::Always, 50, 10).await;
    assert!(
        matches!(result, Err(StoreError::Inconsistent { table: "date_change_requests", .. })),
        "{result:?}"
    );
}

async fn the_night_is_that_of_the_lowest_shared_lease_that_has_it(engine: Engine) {
    let f = Fixture::new(engine).await;
    let members =
        ["b-home", "a-home", "c-home"].into_iter().flat_map(|l| [member(l, "ann"), member(l, "bob")]);
    f.facts(members.chain([member("0-other", "ann")])).await;
    let load = |requester: &'static str, roommate: &'static str| {
        let store = f.store.clone();
        async move {
            let (requester, roommate) = (user(requester), user(roommate));
            let theirs = store.leases_of(&roommate).await.unwrap();
            let mut shared = store.leases_of(&requester).await.unwrap();
            shared.retain(|lease| theirs.contains(lease));
            let query = NightQuery {
                requester: &requester,
                shared_leases: &shared,
                target_date: day("2026-03-15"),
                today: day("2026-03-12"),
                swap_window_days: 4,
            };
            store.load_night(&query).await.unwrap()
        }
    };
    let bare = load("ann", "bob").await;
    assert_eq!((bare.lease_id, bare.night, bare.offerable_nights), (Some(entity("a-home")), None, Some(0)));

    let dates = ["03-10", "03-11", "03-12", "03-13", "03-15", "03-19", "03-20"];
    let own = dates.into_iter().map(|d| night("c-home", &format!("2026-{d}"), "ann"));
    f.facts(own.chain([night("b-home", "2026-03-15", "bob")])).await;
    let found = load("ann", "bob").await;
    assert_eq!(found.lease_id, Some(entity("b-home")));
    let row = found.night.unwrap();
    assert_eq!(
        (row.held_by, row.base_price_cents, row.demand_ten_thousandths),
        (Some(user("bob")), 14_999, 12_345)
    );
    assert_eq!(found.offerable_nights, Some(0), "on that lease only");

    f.store
        .apply_facts(
            vec![FactChange::Delete(FactKey::LeaseNight(entity("b-home"), day("2026-03-15")))],
            at("2026-03-01T12:00:00Z"),
        )
        .await
        .unwrap();
    // After today, at most four days around the date, the date itself left out: the 13th and the 19th.
    assert_eq!(load("ann", "bob").await.offerable_nights, Some(2));
    assert_eq!(load("ann", "eve").await, NightFacts::default());
}

on_both!(
    a_decision_comes_back_as_it_went_in,
    a_decision_is_written_once_and_the_first_one_stays,
    a_refused_row_does_not_stop_the_others_of_a_replay,
    a_full_queue_gives_the_row_back,
    a_person_is_read_with_the_newest_requests_of_both_roles,
    requests_come_only_when_the_archetype_cannot_be_used,
    a_row_that_cannot_be_read_is_an_error_and_never_no_data,
    the_night_is_that_of_the_lowest_shared_lease_that_has_it,
);
