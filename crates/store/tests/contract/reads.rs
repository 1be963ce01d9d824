//! What a caller's read may take: time, places, and nothing from anybody else.

use std::time::{Duration, Instant};

use crate::support::*;
use nudge_store::query::*;
use nudge_store::*;

/// A store with rows that take a while to be looked at, and limits.
async fn with_much_to_read(limits: ReadLimits) -> Fixture {
    let f = Fixture::with(|options| options.reads = limits);
    let lease =
        |n| LeaseRow { id: entity(&format!("lease-{n:05}")), name: Some("a".repeat(500)), created_at: None };
    f.facts((0..4_000).map(lease).map(FactRow::Lease)).await;
    f.facts([profile("ann", None, None)]).await;
    f
}

/// A read that looks at every row for a long time and finds none.
fn long_read() -> ReadQuery {
    let pattern = format!("{}b", "%a".repeat(40));
    let never = Filter::Test {
        field: Field { column: "name".into(), path: vec![] },
        negated: false,
        test: Test::Compare(Comparison::Like, None, pattern),
    };
    let filters = vec![Filter::Tree { negated: false, all: false, filters: vec![never; 60] }];
    ReadQuery { table: "leases".into(), filters, count: Some(Count::Exact), ..ReadQuery::default() }
}

fn short_read() -> ReadQuery {
    ReadQuery { table: "profiles".into(), ..ReadQuery::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_takes_too_long_is_stopped_and_its_connection_goes_on() {
    let f = with_much_to_read(ReadLimits { places: 1, service_ms: 50, ..ReadLimits::default() }).await;
    let begun = Instant::now();
    let stopped = f.store.read_as(&Caller::Service, &long_read()).await;
    assert!(matches!(stopped, Err(ReadError::Timeout)), "{stopped:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(f.store.read_as(&Caller::Service, &short_read()).await.unwrap().rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_that_takes_too_long_is_stopped_too() {
    let f = Fixture::with(|options| options.reads.service_ms = 20);
    let scores = serde_json::json!({ "deep": vec![vec![vec!["x"; 20]; 5]; 10] });
    for n in 0..40 {
        let computed =
            ComputedArchetype { scores: scores.clone(), ..computed(nudge_engine::Archetype::AverageUser) };
        f.store.save_archetype(user(&format!("user-{n}")), computed, FactsVersion::default()).await.unwrap();
    }
    let scores = || Field { column: "scores".into(), path: vec![] };
    let order = vec![OrderTerm { field: scores(), descending: true, nulls_first: None }; 30];
    let query = ReadQuery { table: "user_archetypes".into(), order, ..ReadQuery::default() };
    let stopped = f.store.read_as(&Caller::Service, &query).await;
    assert!(matches!(stopped, Err(ReadError::Timeout)), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_leave_room_for_plain_reads_and_for_recommendations() {
    let limits =
        ReadLimits { places: 2, counting: 1, wait_ms: 60_000, service_ms: 60_000, ..ReadLimits::default() };
    let f = with_much_to_read(limits).await;
    let counts: Vec<_> = (0..3)
        .map(|_| {
            let store = f.store.clone();
            tokio::spawn(async move { store.read_as(&Caller::Service, &long_read()).await })
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(f.store.read_as(&Caller::User(user("ann")), &short_read()).await.unwrap().rows, 1);
        f.person("ann").await;
    }
    assert!(counts.iter().any(|count| !count.is_finished()), "the counts were too short to show anything");
    counts.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_in_time_is_told_so() {
    let limits =
        ReadLimits { places: 1, counting: 1, wait_ms: 30, service_ms: 60_000, ..ReadLimits::default() };
    let f = with_much_to_read(limits).await;
    let store = f.store.clone();
    let long = tokio::spawn(async move { store.read_as(&Caller::Service, &long_read()).await });
    let refused = loop {
        // Until the long one has its place.
        match f.store.read_as(&Caller::Service, &short_read()).await {
            Ok(_) => assert!(!long.is_finished()),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, ReadError::Busy), "{refused:?}");
    long.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_nobody_waits_for_gives_its_place_back() {
    let limits = ReadLimits { places: 1, wait_ms: 3_000, service_ms: 600_000, ..ReadLimits::default() };
    let f = with_much_to_read(limits).await;
    let gone =
        tokio::time::timeout(Duration::from_millis(50), f.store.read_as(&Caller::Service, &long_read()))
            .await;
    assert!(gone.is_err(), "{gone:?}");
    assert_eq!(f.store.read_as(&Caller::Service, &short_read()).await.unwrap().rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_reads_nothing() {
    let f = Fixture::new();
    f.store.close().await;
    let refused = f.store.read_as(&Caller::Service, &short_read()).await;
    assert!(matches!(refused, Err(ReadError::Store(StoreError::Unavailable { .. }))), "{refused:?}");
}
