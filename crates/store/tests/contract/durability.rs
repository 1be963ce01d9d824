//! What only a file has: a lock for the whole of it, a log beside it, a schema that the program brings up to date.

use crate::support::*;
use nudge_engine::TransactionType::Crash;
use nudge_store::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_refuses_writes_serves_reads_and_recovers() {
    let f = Fixture::sqlite(|options| options.busy_timeout_ms = 20);
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
async fn a_command_beside_a_server_waits_for_its_turn() {
    let f = Fixture::sqlite(|_| {});
    let command = Store::open_existing(StoreOptions::beside_server(f.file().path.clone())).unwrap();
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
    let f = Fixture::sqlite(|_| {});
    f.facts([member("home", "ann")]).await;
    let log = f.file().path.with_extension("db-wal");
    let length = || log.metadata().unwrap().len();
    let before = length();
    assert!(before > 0);
    let lock = f.raw();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reading = Store::open_existing(StoreOptions::beside_server(f.file().path.clone())).unwrap();
    assert_eq!(reading.people_after(None, 9).await.unwrap(), [user("ann")]);
    reading.close().await;
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(length(), before, "one that reads writes nothing");
    let writing = Store::open_existing(StoreOptions::beside_server(f.file().path.clone())).unwrap();
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
        assert_eq!(store.schema_version().await.unwrap(), *versions().last().unwrap());
    }
    let raw = rusqlite::Connection::open(&options.path).unwrap();
    let history = "SELECT count(*) FROM nudge_schema_migrations";
    assert_eq!(raw.query_row(history, [], |row| row.get::<_, i64>(0)).unwrap(), versions().len() as i64);
}

/// The versions of the migrations, in order.
fn versions() -> Vec<i64> {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite")).unwrap();
    let version = |name: String| name.split('_').next().and_then(|digits| digits.parse().ok());
    let mut versions: Vec<i64> =
        folder.filter_map(|file| version(file.unwrap().file_name().into_string().unwrap())).collect();
    versions.sort_unstable();
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_from_the_future_is_refused_and_left_alone() {
    let f = Fixture::sqlite(|_| {});
    f.store.close().await;
    f.raw().execute("INSERT INTO nudge_schema_migrations VALUES (20991231000000, 'later', '')", []).unwrap();
    let error = Store::open(f.file().clone()).unwrap_err();
    assert!(
        matches!(error, StoreError::NewerSchema { found: 20_991_231_000_000, known, .. }
            if known == *versions().last().unwrap()),
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

#[tokio::test(flavor = "multi_thread")]
async fn closing_copies_the_log_back() {
    let f = Fixture::sqlite(|_| {});
    f.store.record_decision(decision(1, Some("ann"), Crash)).await.unwrap();
    f.store.close().await;
    let log = f.file().path.with_extension("db-wal");
    assert_eq!(log.metadata().map_or(0, |log| log.len()), 0);
}
