//! The same for the embedded engine's file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::error::AdminError;
use super::migration::{Listed, State, Status};
use super::shape::Difference;
use crate::sqlite::migration;

/// How long a read waits for whoever writes.
const BUSY: Duration = Duration::from_secs(10);
/// Pages that a backup copies at once before it lets others in.
const PAGES: i32 = 4_096;
const PAUSE: Duration = Duration::from_millis(1);

const SHAPE: &str = "SELECT type || ' ' || name, sql FROM sqlite_schema
  WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND name <> 'nudge_schema_migrations' ORDER BY 1";
const TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
const INTEGRITY: &str = "PRAGMA integrity_check";

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Version of the schema.
    pub schema: i64,
    /// Rows by table.
    pub tables: BTreeMap<String, i64>,
}

/// Reads where a file stands; one that is not there has nothing.
///
/// # Errors
/// [`AdminError::File`] and [`AdminError::Store`].
pub fn status(path: &Path) -> Result<Status, AdminError> {
    let applied = if path.exists() { migration::applied(&open(path)?)? } else { Vec::new() };
    let known = migration::newest_known();
    let versions: BTreeSet<i64> = applied.iter().map(|(version, _)| *version).collect();
    let mut migrations: Vec<Listed> = migration::known()
        .map(|(version, name)| Listed {
            version,
            name: name.to_owned(),
            state: if versions.contains(&version) { State::Applied } else { State::Pending },
            applied_at: None,
        })
        .collect();
    let newer = applied.into_iter().filter(|(version, _)| *version > known);
    migrations.extend(newer.map(|(version, name)| Listed {
        version,
        name,
        state: State::Newer,
        applied_at: None,
    }));
    Ok(Status { version: versions.last().copied().unwrap_or(0), known, migrations })
}

/// Compares the schema of a file with what the migrations make.
///
/// # Errors
/// [`AdminError::Older`] and [`AdminError::Newer`] for another version.
pub fn diff(path: &Path) -> Result<Difference, AdminError> {
    let conn = open(path)?;
    let (found, known) = (migration::version(&conn)?, migration::newest_known());
    if found > known {
        return Err(AdminError::Newer { found, known });
    }
    if found < known {
        return Err(AdminError::Older { found, known });
    }
    let mut fresh =
        Connection::open_in_memory().map_err(|error| cannot("open", Path::new(":memory:"), &error))?;
    migration::migrate(&mut fresh, Path::new(":memory:"))?;
    let (live, expected) = (shape(&conn, path)?, shape(&fresh, path)?);
    let told = |(name, sql): (&String, &String)| format!("{name}: {}", words(sql));
    let only = |these: &BTreeMap<String, String>, those: &BTreeMap<String, String>| {
        these
            .iter()
            .filter(|(name, sql)| those.get(*name).is_none_or(|other| words(other) != words(sql)))
            .map(told)
            .collect()
    };
    Ok(Difference { missing: only(&expected, &live), unexpected: only(&live, &expected) })
}

fn shape(conn: &Connection, path: &Path) -> Result<BTreeMap<String, String>, AdminError> {
    let read = || -> rusqlite::Result<BTreeMap<String, String>> {
        conn.prepare(SHAPE)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    read().map_err(|error| cannot("read", path, &error))
}

/// Takes comments and white space out of a definition.
fn words(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// Copies a database into a new file while others use it, and checks the copy. The file is whole in itself.
///
/// # Errors
/// [`AdminError::Exists`] where the file is there already. No file is left behind.
pub fn dump(path: &Path, to: &Path) -> Result<Copied, AdminError> {
    refuse_other_version(path)?;
    copy(path, to)
}

/// Copies a dump to where there is no database yet, and checks the copy.
///
/// # Errors
/// [`AdminError::Exists`] where there is one; [`AdminError::Dump`] for a file that is no database of ours, or damaged;
/// [`AdminError::Newer`] for that of a newer program.
pub fn restore(from: &Path, path: &Path) -> Result<Copied, AdminError> {
    let found = refuse_other_version(from)?;
    if found == 0 {
        let problem = "it holds no schema of Nudge".to_owned();
        return Err(AdminError::Dump { path: from.to_owned(), problem });
    }
    for beside in ["-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        if Path::new(&name).exists() {
            return Err(AdminError::Exists { what: name.to_string_lossy().into_owned() });
        }
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| cannot("make", folder, &error))?;
    }
    copy(from, path)
}

fn refuse_other_version(path: &Path) -> Result<i64, AdminError> {
    let (found, known) = (migration::version(&open(path)?)?, migration::newest_known());
    if found > known {
        return Err(AdminError::Newer { found, known });
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> Result<Copied, AdminError> {
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    for taken in [to, partial] {
        if taken.exists() {
            return Err(AdminError::Exists { what: taken.display().to_string() });
        }
    }
    let copied = copy_pages(from, partial).and_then(|()| inspect(partial)).and_then(|copied| {
        // A link takes nobody else's place, as a rename would.
        std::fs::hard_link(partial, to).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => AdminError::Exists { what: to.display().to_string() },
            _ => cannot("write", to, &error),
        })?;
        Ok(copied)
    });
    // Whole or not, this name goes; it may not even be there.
    drop(std::fs::remove_file(partial));
    copied
}

fn copy_pages(from: &Path, to: &Path) -> Result<(), AdminError> {
    let mut file = std::fs::OpenOptions::new();
    file.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    file.open(to).map_err(|error| cannot("write", to, &error))?;
    let source = open(from)?;
    let mut target = Connection::open(to).map_err(|error| cannot("write", to, &error))?;
    let copying = || -> rusqlite::Result<()> {
        Backup::new(&source, &mut target)?.run_to_completion(PAGES, PAUSE, None)?;
        // One file, without a log beside it.
        target.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
    };
    let mut copying = copying;
    copying().map_err(|error| cannot("copy", from, &error))?;
    drop(target);
    let synced = std::fs::File::open(to).and_then(|file| file.sync_all());
    synced.map_err(|error| cannot("write", to, &error))
}

/// Checks a copy from the first page to the last, and counts its rows.
fn inspect(path: &Path) -> Result<Copied, AdminError> {
    let conn = open(path)?;
    let reading = |error: rusqlite::Error| cannot("read", path, &error);
    let problem: String = conn.query_row(INTEGRITY, [], |row| row.get(0)).map_err(reading)?;
    if problem != "ok" {
        return Err(AdminError::Dump { path: path.to_owned(), problem });
    }
    let names =
        || conn.prepare(TABLES)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>();
    let mut tables = BTreeMap::new();
    for name in names().map_err(reading)? {
        // A name of our own schema, or of somebody who wrote into the file: quoted all the same.
        let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows = conn.query_row(&sql, [], |row| row.get(0)).map_err(reading)?;
        tables.insert(name, rows);
    }
    Ok(Copied { schema: migration::version(&conn)?, tables })
}

/// Opens a file that is there, to read it.
fn open(path: &Path) -> Result<Connection, AdminError> {
    if !path.is_file() {
        return Err(AdminError::File {
            doing: "open",
            path: path.to_owned(),
            detail: "there is no such file".to_owned(),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|error| cannot("open", path, &error))?;
    let settle = || {
        conn.busy_timeout(BUSY)?;
        conn.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF")
    };
    settle().map_err(|error| cannot("open", path, &error))?;
    Ok(conn)
}

fn cannot(doing: &'static str, path: &Path, error: &impl std::fmt::Display) -> AdminError {
    AdminError::File { doing, path: path.to_owned(), detail: error.to_string() }
}
