//! Copies the write-ahead log back into the database without holding commits up.
//!
//! A thread with a connection of its own does the bulk whenever the log has grown by [`STEP_PAGES`]. While commits go on
//! it never reaches the very end, and only a log that is copied whole can start again from its beginning; so the writer
//! copies the small rest itself, between two commits. A store beside a server's leaves all of that to the server: the
//! commits of both count there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::connection;
use super::convert::statements;
use crate::options::StoreOptions;

statements! {
    CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)";
    CHECKPOINT_ALL = "PRAGMA wal_checkpoint(TRUNCATE)";
}

/// Pages of 4 KiB after which the log is copied back: 16 MiB.
const STEP_PAGES: i32 = 4096;

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

fn copy_when_woken(woken: &Receiver<()>, shared: &Shared, options: &StoreOptions) {
    let mut conn = None;
    while woken.recv().is_ok() {
        if conn.is_none() {
            conn = connection::reopen_writer(options).ok();
        }
        match &conn {
            Some(open) if copy(open, CHECKPOINT) => shared.rest.store(true, Ordering::Release),
            _ => conn = None,
        }
    }
}

/// Copies the log back; says whether that went well. Nothing is lost when it did not: the log stays.
fn copy(conn: &Connection, sql: &str) -> bool {
    let result = conn.prepare_cached(sql).and_then(|mut statement| statement.query_row([], |_| Ok(())));
    if let Err(error) = &result {
        tracing::warn!(%error, "store.checkpoint_failed");
    }
    result.is_ok()
}
