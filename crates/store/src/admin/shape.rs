//! How a live schema differs from the migrations.
//!
//! `shape.sql` writes a line for everything of ours that the catalogue knows; `shape.txt` holds the lines of a database
//! that has just been migrated, kept up to date by a test. So a comparison needs no second database.

use std::collections::BTreeSet;

use serde::Serialize;
use tokio_postgres::Client;

use super::error::AdminError;
use super::migration;

/// The tables of facts; a database may have the app's in place of ours.
const FACTS: &[&str] = crate::fact::FactTable::NAMES;

/// Reads the lines.
pub(super) const SHAPE: &str = include_str!("shape.sql");
/// The lines of a database that has just been migrated.
const EXPECTED: &str = include_str!("shape.txt");

const OURS: &str = "SELECT name FROM nudge.facts";

/// How a live schema differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Difference {
    /// What the migrations make and the database lacks.
    pub missing: Vec<String>,
    /// What the database has and no migration makes.
    pub unexpected: Vec<String>,
}

impl Difference {
    /// Says whether there is none.
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty()
    }
}

/// Compares a database with what the migrations of this program make.
///
/// # Errors
/// [`AdminError::Older`] and [`AdminError::Newer`] for a schema of another version; [`AdminError::Database`].
pub async fn diff(client: &Client) -> Result<Difference, AdminError> {
    let found = migration::status(client).await?;
    if found.is_newer() {
        return Err(AdminError::Newer { found: found.version, known: found.known });
    }
    if found.version < found.known {
        return Err(AdminError::Older { found: found.version, known: found.known });
    }
    compare(client).await
}

/// Compares without asking for the version first.
pub(super) async fn compare(client: &Client) -> Result<Difference, AdminError> {
    let reading = AdminError::reading("the catalogue");
    let ours: Vec<String> =
        client.query_typed(OURS, &[]).await.map_err(&reading)?.iter().map(|row| row.get(0)).collect();
    let theirs: Vec<&str> =
        FACTS.iter().copied().filter(|fact| !ours.iter().any(|name| name == fact)).collect();
    let live: BTreeSet<String> = lines(client).await.map_err(reading)?.into_iter().collect();
    let expected: BTreeSet<&str> =
        EXPECTED.lines().filter(|line| !theirs.iter().any(|fact| concerns(line, fact))).collect();
    Ok(Difference {
        missing: expected
            .iter()
            .filter(|line| !live.contains(**line))
            .map(|line| (*line).to_owned())
            .collect(),
        unexpected: live.into_iter().filter(|line| !expected.contains(line.as_str())).collect(),
    })
}

/// Reads the lines of a live database, in the order of their bytes.
pub(super) async fn lines(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    // Names are written with their schema unless they are on the path.
    client.batch_execute("BEGIN READ ONLY; SET LOCAL search_path = ''").await?;
    let rows = client.query_typed(SHAPE, &[]).await;
    client.batch_execute("ROLLBACK").await?;
    Ok(rows?.iter().map(|row| row.get(0)).collect())
}

/// Says whether a line is about a table of `public`.
fn concerns(line: &str, table: &str) -> bool {
    let name = format!("public.{table}");
    line.match_indices(&name).any(|(at, _)| {
        let next = line[at + name.len()..].chars().next();
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}
