//! Brings a database file to the newest schema, all of it or nothing.
//!
//! The history is the table `nudge_schema_migrations`. Two processes that open the same file at once queue up behind
//! SQLite's write lock; the second finds nothing to do.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::convert::{Within, statements};
use crate::error::StoreError;

/// A migration: version, name, SQL.
type Migration = (i64, &'static str, &'static str);

/// Every migration, oldest first.
const MIGRATIONS: &[Migration] = &[
    (20_261_101_000_000, "facts", include_str!("../../migrations/sqlite/20261101000000_facts.sql")),
    (20_261_101_000_100, "decisions", include_str!("../../migrations/sqlite/20261101000100_decisions.sql")),
    (20_261_101_000_200, "logs", include_str!("../../migrations/sqlite/20261101000200_logs.sql")),
    (
        20_261_101_000_300,
        "decision_index",
        include_str!("../../migrations/sqlite/20261101000300_decision_index.sql"),
    ),
    (20_261_124_000_000, "job", include_str!("../../migrations/sqlite/20261124000000_job.sql")),
    (20_261_124_000_100, "log_drains", include_str!("../../migrations/sqlite/20261124000100_log_drains.sql")),
    (20_261_124_000_200, "alerts", include_str!("../../migrations/sqlite/20261124000200_alerts.sql")),
    (20_261_124_000_300, "report", include_str!("../../migrations/sqlite/20261124000300_report.sql")),
    (
        20_261_124_000_301,
        "report_requests",
        include_str!("../../migrations/sqlite/20261124000301_report_requests.sql"),
    ),
    (20_261_124_000_400, "dashboard", include_str!("../../migrations/sqlite/20261124000400_dashboard.sql")),
];

/// Makes the table of the history.
const CREATE_HISTORY: &str = "CREATE TABLE IF NOT EXISTS nudge_schema_migrations (
  version INTEGER NOT NULL PRIMARY KEY, -- fourteen digits
  name TEXT NOT NULL,                   -- what the migration is called
  statements TEXT NOT NULL              -- what was run
) STRICT";

/// Says whether there is a history at all.
const HISTORY_EXISTS: &str =
    "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'nudge_schema_migrations'";

statements! {
    NEWEST = "SELECT coalesce(max(version), 0) FROM nudge_schema_migrations";
    APPLIED = "SELECT 1 FROM nudge_schema_migrations WHERE version = ?1";
    ALL = "SELECT version, name FROM nudge_schema_migrations ORDER BY version";
    NOTE = "INSERT INTO nudge_schema_migrations (version, name, statements) VALUES (?1, ?2, ?3)";
}

/// Gives version and name of every migration, oldest first.
pub(crate) fn known() -> impl Iterator<Item = (i64, &'static str)> {
    MIGRATIONS.iter().map(|(version, name, _)| (*version, *name))
}

/// The table that errors name.
const TABLE: &str = "nudge_schema_migrations";

/// Gives the version that this program brings a database to.
pub(crate) fn newest_known() -> i64 {
    MIGRATIONS.last().map_or(0, |(version, ..)| *version)
}

/// Reads the version of a database; 0 for an empty one.
pub(crate) fn version(conn: &Connection) -> Result<i64, StoreError> {
    let exists = conn.prepare_cached(HISTORY_EXISTS).and_then(|mut s| s.exists([])).within(TABLE)?;
    if !exists {
        return Ok(0);
    }
    conn.prepare_cached(NEWEST).and_then(|mut s| s.query_row([], |row| row.get(0))).within(TABLE)
}

/// Lists version and name of what has run, oldest first.
pub(crate) fn applied(conn: &Connection) -> Result<Vec<(i64, String)>, StoreError> {
    if version(conn)? == 0 {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare_cached(ALL).within(TABLE)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).within(TABLE)?;
    rows.collect::<Result<_, _>>().within(TABLE)
}

/// Applies what is missing, in one transaction. Reads first, so that an up-to-date file needs no lock.
///
/// # Errors
/// [`StoreError::NewerSchema`] when the file comes from a newer program; nothing is changed then.
pub(crate) fn migrate(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let check = |found: i64| {
        let known = newest_known();
        if found > known {
            return Err(StoreError::NewerSchema { database: path.display().to_string(), found, known });
        }
        Ok(found == known)
    };
    if check(version(conn)?)? {
        return Ok(());
    }
    let transaction =
        conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).within(TABLE)?;
    check(version(&transaction)?)?;
    transaction.execute_batch(CREATE_HISTORY).within(TABLE)?;
    for (version, name, sql) in MIGRATIONS {
        let applied = transaction.query_row(APPLIED, [version], |_| Ok(())).optional().within(TABLE)?;
        if applied.is_none() {
            transaction.execute_batch(sql).within(TABLE)?;
            transaction.execute(NOTE, params![version, name, sql]).within(TABLE)?;
        }
    }
    transaction.commit().within(TABLE)
}
