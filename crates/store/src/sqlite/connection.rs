//! Opens connections: the writer's, the readers', the checkpointer's, each with its settings.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::convert::Within;
use super::migration;
use crate::error::StoreError;
use crate::options::StoreOptions;

/// How long opening waits for another process that is migrating the same file.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Prepared statements that a connection keeps.
const STATEMENT_CACHE: usize = 64;

/// The writer's settings: every commit is on disk before it returns, the log is copied back by another thread, and
/// shrinks to 64 MiB when it starts again.
const WRITER_SETTINGS: &str =
    "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -4096;
  PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;
  PRAGMA trusted_schema = OFF";
/// A reader's settings: it cannot write, and keeps a small cache, as the operating system has the pages anyway.
const READER_SETTINGS: &str = "PRAGMA query_only = ON; PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY;
  PRAGMA trusted_schema = OFF";

const WRITER_FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Makes the file if it is to be made, sets it up and brings it to the newest schema.
///
/// # Errors
/// [`StoreError::Open`] when it cannot be opened, [`StoreError::NewerSchema`], or what the migration fails with.
pub(super) fn set_up(options: &StoreOptions, create: bool) -> Result<Connection, StoreError> {
    let path = options.path.as_path();
    let cannot_open =
        |error: &dyn std::fmt::Display| StoreError::Open { path: path.to_owned(), detail: error.to_string() };
    if create {
        make_file(path).map_err(|error| cannot_open(&error))?;
    } else if !path.is_file() {
        return Err(cannot_open(&"there is no such file"));
    }
    let mut conn = Connection::open_with_flags(path, WRITER_FLAGS).map_err(|error| cannot_open(&error))?;
    conn.busy_timeout(OPEN_TIMEOUT).map_err(|error| cannot_open(&error))?;
    use_write_ahead_log(&conn).map_err(|error| cannot_open(&error))?;
    settle(&mut conn, WRITER_SETTINGS).within("sqlite_schema")?;
    migration::migrate(&mut conn, path)?;
    conn.busy_timeout(Duration::from_millis(options.busy_timeout_ms)).within("sqlite_schema")?;
    Ok(conn)
}

/// Makes an empty file that only its owner can read, unless there is one.
fn make_file(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut open = std::fs::OpenOptions::new();
    open.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    open.open(path).map(drop)
}

/// Switches the file to WAL. SQLite does not wait for others here, so it is tried again for a while.
fn use_write_ahead_log(conn: &Connection) -> rusqlite::Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut left = OPEN_TIMEOUT;
    loop {
        let result = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match result {
            Err(error) if is_busy(&error) && left > PAUSE => {
                left -= PAUSE;
                std::thread::sleep(PAUSE);
            }
            other => return other.map(drop),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

/// Applies settings, and holds plans still: else SQLite parses a statement with `LIMIT ?` again at every use, in case
/// another limit wants another plan.
fn settle(conn: &mut Connection, settings: &str) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    conn.execute_batch(settings)
}

/// Opens the writer's connection again, after a fault. Never makes a file.
pub(super) fn reopen_writer(options: &StoreOptions) -> Result<Connection, StoreError> {
    let open = || {
        let mut conn = Connection::open_with_flags(&options.path, WRITER_FLAGS)?;
        conn.busy_timeout(Duration::from_millis(options.busy_timeout_ms))?;
        settle(&mut conn, WRITER_SETTINGS)?;
        Ok(conn)
    };
    open().within("sqlite_schema")
}

/// Opens a connection that can only read.
pub(super) fn open_reader(options: &StoreOptions) -> Result<Connection, StoreError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
        let mut conn = Connection::open_with_flags(&options.path, flags)?;
        conn.busy_timeout(Duration::from_millis(options.busy_timeout_ms))?;
        settle(&mut conn, READER_SETTINGS)?;
        Ok(conn)
    };
    open().within("sqlite_schema")
}
