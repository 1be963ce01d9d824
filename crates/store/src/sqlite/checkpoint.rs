//! Copies the write-ahead log back into the database without holding commits up.
//!
//! A thread with a connection of its own does the bulk whenever the log has grown by [`STEP_PAGES`]. While commits go on
//! it never reaches the very end, and only a log that is copied whole can start again from its beginning; so the writer
//! copies the small rest itself, between two commits. A store beside a server's leaves all of that to the server: the
//! commits of both count there. Neither helps while somebody reads without a pause, for which there is [`shorten`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::connection;
use super::convert::{Within as _, statements};
use crate::options::StoreOptions;

statements! {
    CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)";
    CHECKPOINT_ALL = "PRAGMA wal_checkpoint(TRUNCATE)";
    CHECKPOINT_AND_RESTART = "PRAGMA wal_checkpoint(RESTART)";
}

/// Pages of 4 KiB after which the log is copied back: 16 MiB.
const STEP_PAGES: i32 = 4096;

/// Bytes from which on the log is long. It shrinks to half of that when it starts again.
pub(super) const LONG: u64 = 128 * 1024 * 1024;
/// Pages that may be left to copy while commits wait: 4 MiB.
const LITTLE: i64 = 1024;
/// How long commits wait for readers to come to an end.
const READERS_END: Duration = Duration::from_millis(50);

/// The writer's side.
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    /// Pages at which the thread is woken next.
    next: AtomicI32,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    beside_server: bool,
}

#[derive(Default)]
struct Shared {
    /// Pages in the log after the newest commit.
    pages: AtomicI32,
    /// The thread has copied the bulk; the rest is the writer's.
    rest: AtomicBool,
}

impl Checkpointer {
    pub(super) fn start(options: &StoreOptions) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let next = AtomicI32::new(STEP_PAGES);
        if options.beside_server {
            return Ok(Self { shared, next, wake: None, thread: None, beside_server: true });
        }
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new().name("nudge-checkpoint".into()).spawn({
            let (shared, options) = (Arc::clone(&shared), options.clone());
            move || copy_when_woken(&woken, &shared, &options)
        })?;
        Ok(Self { shared, next, wake: Some(wake), thread: Some(thread), beside_server: false })
    }

    /// Counts the log's pages at every commit of a connection.
    pub(super) fn watch(&self, conn: &mut Connection) -> rusqlite::Result<()> {
        let shared = Arc::clone(&self.shared);
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            shared.pages.store(pages, Ordering::Relaxed);
            Ok(())
        }))
    }

    /// Wakes the thread when there is enough to copy, and copies the rest when it is done.
    pub(super) fn after_commit(&self, conn: &Connection) {
        let pages = self.shared.pages.load(Ordering::Relaxed);
        if self.shared.rest.swap(false, Ordering::Acquire) {
            copy(conn, CHECKPOINT);
            self.next.store(pages.saturating_add(STEP_PAGES), Ordering::Relaxed);
        } else if pages >= self.next.load(Ordering::Relaxed) {
            self.next.store(pages.saturating_add(STEP_PAGES), Ordering::Relaxed);
            if let Some(wake) = &self.wake {
                // Full: it is awake already.
                let _ = wake.try_send(());
            }
        } else if pages < STEP_PAGES {
            self.next.store(STEP_PAGES, Ordering::Relaxed);
        }
    }

    /// Ends the thread and copies all of the log. Beside a server it does not; and if nothing was written either, closing
    /// writes nothing even as the last to close.
    pub(super) fn stop(mut self, conn: Option<Connection>) {
        drop(self.wake.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("store.checkpoint_thread_died");
        }
        let Some(conn) = conn else { return };
        if !self.beside_server {
            copy(&conn, CHECKPOINT_ALL);
        } else if self.shared.pages.load(Ordering::Relaxed) == 0 {
            // Harmless if it fails: SQLite copies the log back then.
            let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }
}

/// Starts a log again that is longer than so many bytes: it cannot while somebody reads all the time, as a run of the job does. To be called
/// between two such reads, on a thread that may wait. Without effect where another reader is in the middle of something.
pub(super) fn shorten(options: &StoreOptions, long: u64) {
    let mut log = options.path.clone().into_os_string();
    log.push("-wal");
    if std::fs::metadata(log).map_or(0, |log| log.len()) <= long {
        return;
    }
    let conn = connection::reopen_writer(options).and_then(|conn| {
        conn.busy_timeout(READERS_END).within("sqlite_schema")?;
        Ok(conn)
    });
    match conn {
        // Commits go on during the first two, and wait for the last one. Where a reader has kept much from being copied,
        // they would wait in vain.
        Ok(conn) => {
            copy(&conn, CHECKPOINT);
            if copy(&conn, CHECKPOINT).is_some_and(|left| left <= LITTLE) {
                copy(&conn, CHECKPOINT_AND_RESTART);
            }
        }
        Err(error) => tracing::warn!(%error, "store.checkpoint_failed"),
    }
}

fn copy_when_woken(woken: &Receiver<()>, shared: &Shared, options: &StoreOptions) {
    let mut conn = None;
    while woken.recv().is_ok() {
        if conn.is_none() {
            conn = connection::reopen_writer(options).ok();
        }
        match &conn {
            Some(open) if copy(open, CHECKPOINT).is_some() => shared.rest.store(true, Ordering::Release),
            _ => conn = None,
        }
    }
}

/// Copies the log back; gives the pages that are left, if that went well. Nothing is lost when it did not: the log stays.
fn copy(conn: &Connection, sql: &str) -> Option<i64> {
    let left = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
    let result = conn.prepare_cached(sql).and_then(|mut statement| statement.query_row([], left));
    if let Err(error) = &result {
        tracing::warn!(%error, "store.checkpoint_failed");
    }
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_starts_again_unless_somebody_is_reading() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
        let mut conn = connection::set_up(&options, true).unwrap();
        conn.execute_batch("CREATE TABLE t (id TEXT PRIMARY KEY, b BLOB)").unwrap();
        let pages = Arc::new(AtomicI32::new(0));
        let counted = Arc::clone(&pages);
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            counted.store(pages, Ordering::Relaxed);
            Ok(())
        }))
        .unwrap();
        // Writes, and gives the pages in the log then.
        let write = |n: u32| {
            let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
              INSERT INTO t SELECT ?1 || '-' || i, randomblob(1000) FROM n";
            conn.execute(rows, [n]).unwrap();
            pages.load(Ordering::Relaxed)
        };
        let first = write(1);
        let reader = connection::open_reader(&options).unwrap();
        let read = || reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        assert_eq!(read(), 500);
        let second = write(2);
        shorten(&options, 1_000);
        assert!(write(3) > second, "somebody was reading");
        // Little is left: it is tried, and given up after a moment.
        shorten(&options, 1_000);
        assert_eq!(read(), 500, "and reads on");
        reader.execute_batch("COMMIT").unwrap();
        shorten(&options, 1 << 40);
        let fourth = write(4);
        assert!(fourth > 3 * first, "it was not long: {fourth}, {first}");
        shorten(&options, 1_000);
        let again = write(5);
        assert!(again < second, "{again}, {second}");
        assert_eq!(read(), 5 * 500);
    }
}
