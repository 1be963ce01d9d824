//! Commits: who shares one, who fails alone, and what closing does.

use crate::support::*;
use nudge_engine::TransactionType::Crash;
use nudge_store::*;

async fn a_job_that_fails_leaves_its_neighbours_of_the_commit_alone(engine: Engine) {
    let f = Fixture::new(engine).await;
    let bad = DecisionRow { urgency_level: "SOON".into(), ..decision(1, Some("ann"), Crash) };
    let worse = f.store.apply_facts(
        vec![
            FactChange::Upsert(member("home", "bob")),
            FactChange::Upsert(FactRow::DateChangeRequest(DateChangeRequestRow {
                receiver_id: user("ann"),
                ..request(1, "ann", "bob")
            })),
        ],
        at("2026-03-01T12:00:00Z"),
    );
    let good = f.store.record_decision(decision(2, Some("ann"), Crash));
    let (bad, worse, good) = tokio::join!(f.store.record_decision(bad), worse, good);
    assert!(
        matches!(bad, Err(StoreError::Refused { .. })) && matches!(worse, Err(StoreError::Refused { .. }))
    );
    good.unwrap();
    assert!(f.store.decision(id(2)).await.unwrap().is_some());
    assert_eq!(f.store.people_after(None, 9).await.unwrap(), [], "nothing of the call stays");
}

async fn many_decisions_share_few_commits(engine: Engine) {
    let f = Fixture::new(engine).await;
    let tasks = (0..400).map(|n| {
        let store = f.store.clone();
        tokio::spawn(async move { store.record_decision(decision(n, Some("ann"), Crash)).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    let stats = f.store.writer_stats();
    assert_eq!(stats.rows, 400);
    assert!(stats.commits < 200, "{stats:?}");
    assert!(f.store.decision(id(399)).await.unwrap().is_some());
    assert_eq!(f.store.queue_depth(), 0);
}

async fn closing_commits_what_is_queued_and_refuses_what_comes_later(engine: Engine) {
    let f = Fixture::new(engine).await;
    let queued: Vec<_> =
        (0..300).map(|n| f.store.try_enqueue_decision(decision(n, Some("ann"), Crash)).unwrap()).collect();
    f.store.close().await;
    for answer in queued {
        answer.await.unwrap().unwrap();
    }
    assert!(f.store.record_decision(decision(301, Some("ann"), Crash)).await.unwrap_err().is_unavailable());
    assert!(f.store.decision(id(1)).await.unwrap_err().is_unavailable());
    assert!(f.store.try_enqueue_decision(decision(302, Some("ann"), Crash)).is_err());
    f.store.close().await;
    let reopened = f.reopen().await;
    assert!(reopened.decision(id(299)).await.unwrap().is_some());
}

on_both!(
    a_job_that_fails_leaves_its_neighbours_of_the_commit_alone,
    many_decisions_share_few_commits,
    closing_commits_what_is_queued_and_refuses_what_comes_later,
);
