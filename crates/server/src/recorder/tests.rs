use nudge_store::StoreOptions;
use tempfile::TempDir;

use super::spool::tests::{full, row, row_of, unwritable};
use super::*;

fn store(folder: &TempDir) -> Store {
    Store::open(StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() }).unwrap()
}

fn recorder(store: &Store, spool: Spool) -> Recorder {
    Recorder::new(store.clone(), spool, Duration::from_secs(20))
}

async fn is_stored(store: &Store, row: &DecisionRow) -> bool {
    store.decision(row.id).await.unwrap().is_some()
}

#[tokio::test]
async fn a_spool_that_takes_nothing_does_not_keep_decisions_from_a_database_that_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    for spool in [unwritable(folder.path()), full(folder.path()).await] {
        let recorder = recorder(&store, spool);
        recorder.away.store(true, Ordering::Release);
        let n = recorder.stats().spool_depth as u64;
        recorder.record(row(n)).await.unwrap();
        assert!(is_stored(&store, &row(n)).await);
        let stats = recorder.stats();
        assert!(!stats.away, "the database has taken one");
        assert_eq!((stats.recorded, stats.spooled), (1, 0));
    }
}

#[tokio::test]
async fn when_neither_takes_it_that_is_said_and_the_database_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let held = rusqlite::Connection::open(folder.path().join("nudge.db")).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let recorder = recorder(&store, unwritable(folder.path()));
    for n in 0..2 {
        assert!(matches!(recorder.record(row(n)).await, Err(RecordError::NoRoom(SpoolError::Io { .. }))));
        assert!(recorder.stats().away);
    }
    held.execute_batch("COMMIT").unwrap();
    // As far as it comes at once: it waits for rows, and none will come.
    tokio::time::timeout(Duration::ZERO, recorder.replay()).await.unwrap_err();
    assert!(!recorder.stats().away, "nothing waits, so the next decision finds out");
    recorder.record(row(3)).await.unwrap();
    assert!(is_stored(&store, &row(3)).await);
}

#[tokio::test]
async fn a_replay_without_rows_does_not_sleep_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = recorder(&store(&folder), Spool::open(folder.path(), 0).unwrap());
    tokio::time::timeout(20 * PROBE, recorder.idle()).await.unwrap();
}

#[tokio::test]
async fn draining_brings_back_all_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let spool = Spool::open(folder.path(), 1 << 20).unwrap();
    let rows: Vec<_> = (0..2 * REPLAY_ROWS as u64 + 9).map(|n| row_of(n, 0)).collect();
    for row in &rows {
        spool.append(Arc::new(row.clone())).await.unwrap();
    }
    let recorder = recorder(&store, spool);
    recorder.away.store(true, Ordering::Release);
    recorder.drain().await.unwrap();
    assert_eq!((recorder.stats().spool_depth, recorder.stats().away), (0, false));
    for row in &rows {
        assert!(is_stored(&store, row).await);
    }
}

#[tokio::test]
async fn a_database_that_is_back_is_used_though_the_spool_cannot_forget_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let spool = Spool::open(folder.path(), 0).unwrap();
    spool.append(Arc::new(row(0))).await.unwrap();
    drop(spool);
    let recorder = recorder(&store, unwritable(folder.path()));
    recorder.away.store(true, Ordering::Release);
    for _ in 0..2 {
        recorder.replay_some().await.unwrap_err();
        assert_eq!((recorder.stats().spool_depth, recorder.stats().away), (1, false));
    }
    recorder.record(row(1)).await.unwrap();
    assert!(is_stored(&store, &row(0)).await && is_stored(&store, &row(1)).await);
}
