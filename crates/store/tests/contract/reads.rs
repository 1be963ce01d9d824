//! What a caller's read may take: time, places, and nothing from anybody else.

use std::time::{Duration, Instant};

use crate::support::*;
use nudge_store::query::*;
use nudge_store::*;

async fn with_limits(engine: Engine, limits: ReadLimits) -> Fixture {
    match engine {
        Engine::Sqlite => Fixture::sqlite(|options| options.reads = limits),
        Engine::Postgres => Fixture::postgres(|options| options.reads = limits).await,
    }
}

/// A store with rows that take a while to be looked at, and limits.
async fn with_much_to_read(engine: Engine, limits: ReadLimits) -> Fixture {
    let f = with_limits(engine, limits).await;
    let lease =
        |n| LeaseRow { id: entity(&format!("lease-{n:05}")), name: Some("a".repeat(499)), created_at: None };
    f.facts((0..4_000).map(lease).map(FactRow::Lease)).await;
    f.facts([profile("ann", None, None)]).await;
    f
}

/// A read that looks at every row for a long time and finds none.
fn long_read(engine: Engine) -> ReadQuery {
    let test = match engine {
        Engine::Sqlite => Test::Compare(Comparison::Like, None, format!("{}b", "%a".repeat(40))),
        // No three lengths make an odd one twice, and it takes PostgreSQL long to find out.
        Engine::Postgres => Test::Compare(Comparison::Match, None, r"^(a+)(a+)(a+)\1\2\3$".into()),
    };
    let field = Field { column: "name".into(), path: vec![] };
    let never = Filter::Test { field, negated: false, test };
    let filters = vec![Filter::Tree { negated: false, all: false, filters: vec![never; 60] }];
    ReadQuery { table: "leases".into(), filters, count: Some(Count::Exact), ..ReadQuery::default() }
}

fn short_read() -> ReadQuery {
    ReadQuery { table: "profiles".into(), ..ReadQuery::default() }
}

async fn a_read_that_takes_too_long_is_stopped_and_its_connection_goes_on(engine: Engine) {
    let f =
        with_much_to_read(engine, ReadLimits { places: 1, service_ms: 50, ..ReadLimits::default() }).await;
    let begun = Instant::now();
    let stopped = f.store.read_as(&Caller::Service, &long_read(engine)).await;
    assert!(matches!(stopped, Err(ReadError::Timeout)), "{stopped:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(f.store.read_as(&Caller::Service, &short_read()).await.unwrap().rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_that_takes_too_long_is_stopped_too() {
    // Of SQLite's own, which looks at no clock while it sorts.
    let engine = Engine::Sqlite;
    let f = with_limits(engine, ReadLimits { service_ms: 20, ..ReadLimits::default() }).await;
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

async fn counts_leave_room_for_plain_reads_and_for_recommendations(engine: Engine) {
    let limits =
        ReadLimits { places: 2, counting: 1, wait_ms: 60_000, service_ms: 60_000, ..ReadLimits::default() };
    let f = with_much_to_read(engine, limits).await;
    let counts: Vec<_> = (0..3)
        .map(|_| {
            let store = f.store.clone();
            tokio::spawn(async move { store.read_as(&Caller::Service, &long_read(engine)).await })
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(f.store.read_as(&Caller::User(user("ann")), &short_read()).await.unwrap().rows, 1);
        f.person("ann").await;
    }
    assert!(counts.iter().any(|count| !count.is_finished()), "the counts were too short to show anything");
    counts.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn who_finds_no_place_in_time_is_told_so(engine: Engine) {
    let limits =
        ReadLimits { places: 1, counting: 1, wait_ms: 30, service_ms: 60_000, ..ReadLimits::default() };
    let f = with_much_to_read(engine, limits).await;
    let begin = || {
        let store = f.store.clone();
        tokio::spawn(async move { store.read_as(&Caller::Service, &long_read(engine)).await })
    };
    let mut long = begin();
    let refused = loop {
        // Until the long one has its place; it may be the one that finds none.
        match f.store.read_as(&Caller::Service, &short_read()).await {
            Ok(_) if long.is_finished() => {
                let ended = long.await.unwrap();
                assert!(matches!(ended, Err(ReadError::Busy)), "{ended:?}");
                long = begin();
            }
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, ReadError::Busy), "{refused:?}");
    long.abort();
}

async fn a_read_that_nobody_waits_for_gives_its_place_back(engine: Engine) {
    let limits = ReadLimits { places: 1, wait_ms: 3_000, service_ms: 600_000, ..ReadLimits::default() };
    let f = with_much_to_read(engine, limits).await;
    let gone = tokio::time::timeout(
        Duration::from_millis(50),
        f.store.read_as(&Caller::Service, &long_read(engine)),
    )
    .await;
    assert!(gone.is_err(), "{gone:?}");
    assert_eq!(f.store.read_as(&Caller::Service, &short_read()).await.unwrap().rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_stops_working_for_somebody_who_has_gone_away() {
    let limits = ReadLimits { service_ms: 600_000, ..ReadLimits::default() };
    let f = with_much_to_read(Engine::Postgres, limits).await;
    let observer = f.database().owner().await;
    let at_work = async || -> i64 {
        let active =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
          AND query LIKE '%public.leases%' AND pid <> pg_backend_pid()";
        observer.query_one(active, &[]).await.unwrap().get(0)
    };
    let store = f.store.clone();
    let long =
        tokio::spawn(async move { store.read_as(&Caller::Service, &long_read(Engine::Postgres)).await });
    while at_work().await == 0 {
        assert!(!long.is_finished());
    }
    long.abort();
    let gone = Instant::now();
    while at_work().await > 0 {
        assert!(gone.elapsed() < Duration::from_secs(10), "it goes on for nobody");
    }
}

async fn a_closed_store_reads_nothing(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.store.close().await;
    let refused = f.store.read_as(&Caller::Service, &short_read()).await;
    assert!(matches!(refused, Err(ReadError::Store(StoreError::Unavailable { .. }))), "{refused:?}");
}

on_both!(
    a_read_that_takes_too_long_is_stopped_and_its_connection_goes_on,
    counts_leave_room_for_plain_reads_and_for_recommendations,
    who_finds_no_place_in_time_is_told_so,
    a_read_that_nobody_waits_for_gives_its_place_back,
    a_closed_store_reads_nothing,
);
