//! Locked, full, newer, closed: what is answered then, and that nothing is half written.

use crate::support::*;
use nudge_engine::TransactionType::Crash;
use nudge_store::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_refuses_writes_serves_reads_and_recovers() {
    let f = Fixture::with(|options| options.busy_timeout_ms = 20);
    f.facts([member("home", "ann")]).await;
    let lock = f.raw();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let head = f.store.changes_head().await.unwrap();
    let (decided, applied) = tokio::join!(
        f.store.record_decision(decision(1, Some("ann"), Crash)),
        f.store.apply_facts(vec![FactChange::Upsert(member("home", "bob"))], at("2026-03-01T12:00:00Z")),
    );
    assert!(decided.unwrap_err().is_unavailable());
    let applied = applied.unwrap_err();
    assert!(applied.is_unavailable());
    assert_eq!(applied.to_string().matches("unavailable").count(), 1, "{applied}");
    let replayed = f.store.replay_decisions(vec![decision(1, Some("ann"), Crash)]).await;
    assert!(replayed.unwrap_err().is_unavailable());
    assert_eq!(f.store.changes_head().await.unwrap(), head);
    assert_eq!(f.person("ann").await.requests, Some(vec![]));
    assert!(f.store.writer_stats().failures >= 2);

    lock.execute_batch("ROLLBACK").unwrap();
    assert!(f.store.decision(id(1)).await.unwrap().is_none());
    f.store.record_decision(decision(1, Some("ann"), Crash)).await.unwrap();
    assert!(f.store.decision(id(1)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_leaves_its_neighbours_of_the_commit_alone() {
    let f = Fixture::new();
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

#[tokio::test(flavor = "multi_thread")]
async fn many_decisions_share_few_commits() {
    let f = Fixture::new();
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

#[tokio::test(flavor = "multi_thread")]
async fn closing_commits_what_is_queued_and_refuses_what_comes_later() {
    let f = Fixture::new();
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
    let log = f.options.path.with_extension("db-wal");
    assert_eq!(log.metadata().map_or(0, |log| log.len()), 0, "the log is copied back");
    let reopened = Store::open_existing(f.options.clone()).unwrap();
    assert!(reopened.decision(id(299)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_beside_a_server_waits_for_its_turn() {
    let f = Fixture::new();
    let command = Store::open_existing(StoreOptions::beside_server(f.options.path.clone())).unwrap();
    let lock = f.raw();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let change =
        command.apply_facts(vec![FactChange::Upsert(member("home", "ann"))], at("2026-03-01T12:00:00Z"));
    tokio::pin!(change);
    let moment = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(moment, &mut change).await.is_err(), "it waits longer than a server does");
    lock.execute_batch("COMMIT").unwrap();
    assert_eq!(change.await.unwrap().upserted, 1);
    command.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_beside_a_server_leaves_the_log_to_it() {
    let f = Fixture::new();
    f.facts([member("home", "ann")]).await;
    let log = f.options.path.with_extension("db-wal");
    let length = || log.metadata().unwrap().len();
    let before = length();
    assert!(before > 0);
    let lock = f.raw();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reading = Store::open_existing(StoreOptions::beside_server(f.options.path.clone())).unwrap();
    assert_eq!(reading.people_after(None, 9).await.unwrap(), [user("ann")]);
    reading.close().await;
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(length(), before, "one that reads writes nothing");
    let writing = Store::open_existing(StoreOptions::beside_server(f.options.path.clone())).unwrap();
    let change = vec![FactChange::Upsert(member("home", "bob"))];
    writing.apply_facts(change, at("2026-03-01T12:00:00Z")).await.unwrap();
    writing.close().await;
    assert!(length() > before);
    assert_eq!(f.store.people_after(None, 9).await.unwrap(), [user("ann"), user("bob")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_open_a_new_file_at_once_all_find_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: folder.path().join("new/nudge.db"), ..StoreOptions::default() };
    let opened: Vec<_> = (0..8)
        .map(|_| {
            let options = options.clone();
            std::thread::spawn(move || Store::open(options))
        })
        .collect();
    for thread in opened {
        let store = thread.join().unwrap().unwrap();
        assert_eq!(store.schema_version().await.unwrap(), 20_261_101_000_300);
    }
    let raw = rusqlite::Connection::open(&options.path).unwrap();
    let history = "SELECT count(*) FROM nudge_schema_migrations";
    assert_eq!(raw.query_row(history, [], |row| row.get::<_, i64>(0)).unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_from_the_future_is_refused_and_left_alone() {
    let f = Fixture::new();
    f.store.close().await;
    f.raw().execute("INSERT INTO nudge_schema_migrations VALUES (20991231000000, 'later', '')", []).unwrap();
    let error = Store::open(f.options.clone()).unwrap_err();
    assert!(
        matches!(error, StoreError::NewerSchema { found: 20_991_231_000_000, known: 20_261_101_000_300, .. }),
        "{error}"
    );
}

#[test]
fn an_absent_or_foreign_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: folder.path().join("none.db"), ..StoreOptions::default() };
    let error = Store::open_existing(options.clone()).unwrap_err();
    assert!(error.to_string().contains("none.db"), "{error}");
    assert!(!options.path.exists());
    std::fs::write(&options.path, "not a database, and long enough to be looked at".repeat(50)).unwrap();
    assert!(matches!(Store::open(options), Err(StoreError::Open { .. })));
}
