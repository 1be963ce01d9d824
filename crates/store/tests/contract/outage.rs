//! What only a server has: connections that break, statements that are cancelled, a database that takes no writes, months
//! without a partition, a schema of another version.

use std::time::{Duration, Instant};

use crate::postgres::{OWNER, TestDatabase};
use crate::support::*;
use nudge_engine::TransactionType::Crash;
use nudge_store::*;

/// Kills every connection to the database but the one that does it.
const KILL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// Tries until it goes well. Ten seconds are far more than the longest pause before a new connection.
async fn in_time<T, E: std::fmt::Debug>(mut work: impl AsyncFnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match work().await {
            Ok(done) => return done,
            Err(error) if begun.elapsed() > Duration::from_secs(10) => panic!("{error:?}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn options(database: &TestDatabase) -> PostgresOptions {
    PostgresOptions::new(database.url().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_are_opened_again() {
    let f = Fixture::postgres(|_| {}).await;
    f.facts([member("home", "ann")]).await;
    let killer = f.database().superuser().await;
    for n in 0..5 {
        killer.batch_execute(KILL).await.unwrap();
        let leases = in_time(async || f.store.leases_of(&user("ann")).await).await;
        assert_eq!(leases, [entity("home")]);
        in_time(async || f.store.record_decision(decision(n, Some("ann"), Crash)).await).await;
        let applied = in_time(async || {
            let night = night("home", &format!("2026-03-1{n}"), "ann");
            f.store.apply_facts(vec![FactChange::Upsert(night)], at("2026-03-01T12:00:00Z")).await
        })
        .await;
        assert_eq!(applied.upserted, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_killed_under_load_lose_no_decision_that_was_promised() {
    let f = Fixture::postgres(|_| {}).await;
    let killer = f.database().superuser().await;
    let writers: Vec<_> = (0..8_u64)
        .map(|task| {
            let store = f.store.clone();
            tokio::spawn(async move {
                let mut promised = Vec::new();
                for n in task * 100..(task + 1) * 100 {
                    // Who is refused comes again, as the spool does.
                    let row = decision(n, Some("ann"), Crash);
                    while let Err(error) = store.record_decision(row.clone()).await {
                        assert!(error.is_unavailable(), "{error}");
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    promised.push(n);
                }
                promised
            })
        })
        .collect();
    for kills in 1..=20 {
        while f.store.writer_stats().rows < 10 * kills && !writers.iter().all(|writer| writer.is_finished()) {
            tokio::task::yield_now().await;
        }
        killer.batch_execute(KILL).await.unwrap();
    }
    let mut promised = 0;
    for writer in writers {
        for n in writer.await.unwrap() {
            promised += 1;
            assert!(in_time(async || f.store.decision(id(n)).await).await.is_some(), "{n}");
        }
    }
    assert_eq!(promised, 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_cancelled_and_nothing_stays() {
    let f = Fixture::postgres(|options| options.statement_timeout_ms = 200).await;
    let row = decision(1, Some("ann"), Crash);
    let lock = f.lock().await;
    let (decided, replayed) =
        tokio::join!(f.store.record_decision(row.clone()), f.store.replay_decisions(vec![row.clone()]));
    for error in [decided.unwrap_err(), replayed.unwrap_err()] {
        assert!(error.is_unavailable() && error.to_string().contains("57014"), "{error}");
    }
    assert!(f.store.decision(row.id).await.unwrap().is_none());
    assert!(f.store.writer_stats().failures >= 2);
    lock.release().await;
    f.store.record_decision(row.clone()).await.unwrap();
    assert!(f.store.decision(row.id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_is_read_and_recovers() {
    let f = Fixture::postgres(|_| {}).await;
    f.facts([member("home", "ann")]).await;
    let administrator = f.database().superuser().await;
    let set = async |read_only: &str| {
        let name = &f.database().name;
        let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = {read_only}");
        administrator.batch_execute(&set).await.unwrap();
        administrator.batch_execute(KILL).await.unwrap();
    };
    set("on").await;
    let decided = f.store.record_decision(decision(1, Some("ann"), Crash)).await.unwrap_err();
    assert!(decided.is_unavailable(), "{decided}");
    let change = vec![FactChange::Upsert(member("home", "bob"))];
    let applied = f.store.apply_facts(change, at("2026-03-01T12:00:00Z")).await.unwrap_err();
    assert!(applied.is_unavailable(), "{applied}");
    assert_eq!(in_time(async || f.store.leases_of(&user("ann")).await).await, [entity("home")]);
    administrator.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    set("off").await;
    in_time(async || f.store.record_decision(decision(1, Some("ann"), Crash)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_month_stops_no_other_and_its_return_makes_the_month() {
    let f = Fixture::postgres(|_| {}).await;
    let january_2020 = "016f5e66-e800-7000-8000-000000000001".parse().unwrap();
    let homeless = DecisionRow { id: january_2020, ..decision(1, Some("ann"), Crash) };
    let rows: Vec<_> = (2..10).map(|n| decision(n, Some("ann"), Crash)).chain([homeless.clone()]).collect();
    let answers: Vec<_> = rows.iter().map(|row| f.store.try_enqueue_decision(row.clone()).unwrap()).collect();
    for (row, answer) in rows.iter().zip(answers) {
        let answer = answer.await.unwrap();
        match row.id == homeless.id {
            true => assert!(
                matches!(&answer, Err(error @ StoreError::NoPartition { .. }) if error.is_unavailable())
            ),
            false => answer.unwrap(),
        }
    }
    // No month can be made for the end of UUID time.
    let impossible = DecisionRow {
        id: "ffffffff-ffff-7000-8000-000000000001".parse().unwrap(),
        ..decision(1, Some("ann"), Crash)
    };
    let replayed = f.store.replay_decisions(vec![impossible, homeless.clone()]).await.unwrap();
    assert!(matches!(&replayed[..], [Err(StoreError::NoPartition { .. }), Ok(())]), "{replayed:?}");
    assert!(f.store.decision(homeless.id).await.unwrap().is_some());
    let february_2020 = "016ffe86-f400-7000-8000-000000000001".parse().unwrap();
    f.store.record_decision(DecisionRow { id: february_2020, ..homeless }).await.unwrap();
    assert_eq!(f.store.prepare_months().await.unwrap(), 0, "the months ahead are there");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_months_go_as_a_whole_and_younger_rows_stay() {
    let f = Fixture::postgres(|_| {}).await;
    let young = decision(1, Some("ann"), Crash);
    let january_2020 = "016f5e66-e800-7000-8000-000000000001".parse().unwrap();
    let old = DecisionRow { id: january_2020, ..young.clone() };
    for row in [&young, &old] {
        f.store.record_decision(row.clone()).await.unwrap();
    }
    let keep = Retention { decisions_months: 24, events_months: 0, requests_days: 30 };
    assert_eq!(
        f.store.drop_months(&keep, day("2026-11-30")).await.unwrap(),
        2,
        "that one, and July's requests"
    );
    assert!(f.store.decision(old.id).await.unwrap().is_none());
    assert!(f.store.decision(young.id).await.unwrap().is_some());
    assert_eq!(f.store.drop_months(&keep, day("2026-11-30")).await.unwrap(), 0);
    let keep = Retention { requests_days: 0, ..keep };
    assert_eq!(f.store.drop_months(&keep, day("2027-07-31")).await.unwrap(), 0);
    assert_eq!(f.store.drop_months(&keep, day("2027-08-01")).await.unwrap(), 1, "July 2025");
    assert!(f.store.decision(young.id).await.unwrap().is_none());
    assert_eq!(Fixture::sqlite(|_| {}).store.drop_months(&keep, day("2099-01-01")).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_has_gone_comes_to_its_end() {
    let f = Fixture::postgres(|options| options.calls = 1).await;
    let lock = f.lock().await;
    let store = f.store.clone();
    let replay =
        tokio::spawn(async move { store.replay_decisions(vec![decision(1, Some("ann"), Crash)]).await });
    // It waits for the lock now, within its transaction.
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database =
      (SELECT oid FROM pg_database WHERE datname = current_database())";
    let watcher = f.database().superuser().await;
    while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    replay.abort();
    assert!(replay.await.unwrap_err().is_cancelled());
    lock.release().await;
    // The only connection is free again once the call is done.
    assert_eq!(f.facts([member("home", "ann")]).await.upserted, 1);
    assert!(f.store.decision(id(1)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_used_is_named_without_the_password() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let mut cases = vec![
        (url.replace(OWNER, "nobody_knows:hunter2"), "nobody_knows"),
        (url.replace(OWNER, &format!("{OWNER}:hunter2")).replace(&database.name, "nowhere"), "nowhere"),
        ("postgres://u:hunter2@127.0.0.1:1/d".to_owned(), "127.0.0.1:1"),
        ("postgres://u:hunter2@does-not-exist.invalid/d".to_owned(), "does-not-exist.invalid"),
        (format!("{url}?sslmode=require").replace(OWNER, &format!("{OWNER}:hunter2")), "TLS"),
    ];
    cases.push((format!("{url}?sslrootcert=/does/not/exist&sslmode=verify-ca"), "/does/not/exist"));
    for (url, says) in cases {
        let error = Store::connect(PostgresOptions::new(url.parse().unwrap())).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(matches!(error, StoreError::Connect { .. }), "{shown}");
        assert!(shown.contains(says) && !shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_version_is_refused_and_left_alone() {
    let empty = TestDatabase::empty().await;
    let error = Store::connect(options(&empty)).await.unwrap_err();
    assert!(matches!(error, StoreError::OlderSchema { found: 0, .. }), "{error}");
    assert!(error.to_string().contains("nudge db push"), "{error}");

    let f = Fixture::postgres(|_| {}).await;
    let known = f.store.schema_version().await.unwrap();
    let owner = f.database().owner().await;
    owner
        .batch_execute("INSERT INTO nudge.migrations (version, name) VALUES (20991231000000, 'later')")
        .await
        .unwrap();
    let error = Store::connect(options(f.database())).await.unwrap_err();
    assert!(
        matches!(error, StoreError::NewerSchema { found: 20_991_231_000_000, known: k, .. } if k == known),
        "{error}"
    );
    let delete = "DELETE FROM nudge.migrations WHERE version IN (20991231000000, $1)";
    owner.execute(delete, &[&known]).await.unwrap();
    let error = Store::connect(options(f.database())).await.unwrap_err();
    assert!(matches!(error, StoreError::OlderSchema { found, .. } if found > 0 && found < known), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_knows_who_it_is() {
    let f = Fixture::postgres(|_| {}).await;
    let role = f.store.role().await.unwrap().unwrap();
    assert_eq!(role, Role { name: OWNER.into(), superuser: false });
    let mut superuser = options(f.database());
    superuser.dsn.user = Some("postgres".into());
    assert!(Store::connect(superuser).await.unwrap().role().await.unwrap().unwrap().superuser);
    assert_eq!(Fixture::sqlite(|_| {}).store.role().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_on_few_connections_never_see_rows_of_another() {
    let f = Fixture::postgres(|options| options.reads.places = 1).await;
    let id = query::Field { column: "id".into(), path: vec![] };
    let select = vec![query::SelectItem::Field { field: id, alias: None, cast: None }];
    let query = ReadQuery { table: "profiles".into(), select, ..ReadQuery::default() };
    let people = ["ann", "bob", "eve"];
    f.facts(people.map(|id| profile(id, None, None))).await;
    f.facts([profile("root", Some(ProfileRole::Admin), None)]).await;
    let read = async |n: usize| {
        let caller = match n % 6 {
            3 => Caller::Anonymous,
            4 => Caller::Service,
            5 => Caller::User(user("root")),
            who => Caller::User(user(people[who])),
        };
        let answer = f.store.read_as(&caller, &query).await;
        match caller {
            Caller::Anonymous => assert!(matches!(answer, Err(ReadError::Denied { .. }))),
            Caller::Service => assert_eq!(answer.unwrap().rows, 4),
            Caller::User(me) if me.as_str() == "root" => assert_eq!(answer.unwrap().rows, 4),
            Caller::User(me) => {
                let answer = answer.unwrap();
                assert_eq!(String::from_utf8(answer.body).unwrap(), format!(r#"[{{"id":"{me}"}}]"#));
            }
        }
    };
    for n in 0..10_000 {
        if n % 70 == 0 {
            // One that goes away in the middle.
            let gone = tokio::time::timeout(Duration::from_micros(n as u64 % 2_000), read(n));
            let _ = gone.await;
        }
        read(n).await;
    }
    // What was prepared for an admin is not for whoever has been one.
    let root = Caller::User(user("root"));
    f.facts([profile("root", Some(ProfileRole::Member), None)]).await;
    assert_eq!(f.store.read_as(&root, &query).await.unwrap().rows, 1);
    f.facts([profile("root", Some(ProfileRole::Admin), None)]).await;
    assert_eq!(f.store.read_as(&root, &query).await.unwrap().rows, 4);
    // More texts than a connection keeps.
    for limit in 0..300 {
        let of_tests = |n: u32| query::Filter::Test {
            field: query::Field { column: "id".into(), path: vec![] },
            negated: n % 2 == 1,
            test: query::Test::In(vec![format!("nobody-{n}")]),
        };
        let filters = (0..limit % 150).map(|n| query::Filter::Tree {
            negated: false,
            all: false,
            filters: vec![of_tests(2 * n + 1)],
        });
        let query = ReadQuery { filters: filters.collect(), ..query.clone() };
        assert_eq!(f.store.read_as(&root, &query).await.unwrap().rows, 4, "{limit}");
    }
}
