//! Brings a server's database to the newest schema, and says where it stands.
//!
//! The history is the Supabase CLI's own table, so that either can go on from the other. What has really run says
//! `nudge.migrations`, into which each file writes its own line: the history also holds the app's migrations, and a file
//! may have been run by `psql`. Each file runs in one transaction with its line of the history. Two pushes at once
//! take turns by an advisory lock of the transaction, which works through transaction poolers too.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::error::{AdminError, tell};
use super::split;

/// A migration: fourteen digits, name, SQL.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The version.
    pub version: i64,
    /// The name.
    pub name: &'static str,
    /// The file's text.
    pub sql: &'static str,
}

/// Every migration, oldest first.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 20_261_031_000_000,
        name: "platform",
        sql: include_str!("../../../../supabase/migrations/20261031000000_platform.sql"),
    },
    Migration {
        version: 20_261_101_000_000,
        name: "facts",
        sql: include_str!("../../../../supabase/migrations/20261101000000_facts.sql"),
    },
    Migration {
        version: 20_261_101_000_100,
        name: "decisions",
        sql: include_str!("../../../../supabase/migrations/20261101000100_decisions.sql"),
    },
    Migration {
        version: 20_261_101_000_200,
        name: "logs",
        sql: include_str!("../../../../supabase/migrations/20261101000200_logs.sql"),
    },
    Migration {
        version: 20_261_101_000_300,
        name: "decision_index",
        sql: include_str!("../../../../supabase/migrations/20261101000300_decision_index.sql"),
    },
    Migration {
        version: 20_261_124_000_000,
        name: "job",
        sql: include_str!("../../../../supabase/migrations/20261124000000_job.sql"),
    },
    Migration {
        version: 20_261_124_000_100,
        name: "log_drains",
        sql: include_str!("../../../../supabase/migrations/20261124000100_log_drains.sql"),
    },
    Migration {
        version: 20_261_124_000_200,
        name: "alerts",
        sql: include_str!("../../../../supabase/migrations/20261124000200_alerts.sql"),
    },
    Migration {
        version: 20_261_124_000_300,
        name: "report",
        sql: include_str!("../../../../supabase/migrations/20261124000300_report.sql"),
    },
    Migration {
        version: 20_261_124_000_301,
        name: "report_requests",
        sql: include_str!("../../../../supabase/migrations/20261124000301_report_requests.sql"),
    },
    Migration {
        version: 20_261_124_000_400,
        name: "dashboard",
        sql: include_str!("../../../../supabase/migrations/20261124000400_dashboard.sql"),
    },
];

/// Names the lock under which one push at a time works.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(1853187175, 4)";
const TRY_LOCK: &str = "SELECT pg_catalog.pg_try_advisory_xact_lock(1853187175, 4)";

/// What a migration may take: as long as it wants, but it waits for no lock so long that everybody else waits for it.
const PATIENCE: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '4s'";

/// Asks the catalogue's tables: `to_regclass` may answer from before a push that has just been waited for.
const TABLES_ARE_THERE: &str =
    "SELECT coalesce(bool_or(n.nspname = 'nudge' AND c.relname = 'migrations'), false),
    coalesce(bool_or(n.nspname = 'supabase_migrations' AND c.relname = 'schema_migrations'), false),
    coalesce(bool_or(n.nspname = 'supabase_migrations' AND c.relname = 'schema_migrations'
      AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))), false)
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relname IN ('migrations', 'schema_migrations')";
const APPLIED: &str = "SELECT version, name, pg_catalog.to_char(applied_at AT TIME ZONE 'UTC',
    'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM nudge.migrations ORDER BY version";
const HISTORY: &str = "SELECT version, name FROM supabase_migrations.schema_migrations";
const HAS_NAMES: &str = "SELECT count(*) = 2 FROM pg_catalog.pg_attribute AS a
  JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid AND c.relname = 'schema_migrations'
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'supabase_migrations'
  WHERE a.attname IN ('name', 'statements') AND NOT a.attisdropped";
/// As the Supabase CLI makes it.
pub(super) const CREATE_HISTORY: &str = "CREATE SCHEMA IF NOT EXISTS supabase_migrations;
  CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (version text NOT NULL PRIMARY KEY);
  ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS statements text[];
  ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS name text";
const NOTE: &str =
    "INSERT INTO supabase_migrations.schema_migrations (version, name, statements) VALUES ($1, $2, $3)
  ON CONFLICT (version) DO NOTHING";

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has run, and the history knows.
    Applied,
    /// It has run, but the history does not know of it: `psql` ran it.
    Unrecorded,
    /// It has not run.
    Pending,
    /// It has run, and this program does not know it.
    Newer,
}

/// A migration in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The version.
    pub version: i64,
    /// The name.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// When it ran, RFC 3339.
    #[serde(rename = "appliedAt")]
    pub applied_at: Option<String>,
}

/// Where a database stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The newest version that has run; 0 for none.
    pub version: i64,
    /// The newest version that this program knows.
    pub known: i64,
    /// Those that the program knows and those that have run, by version.
    pub migrations: Vec<Listed>,
}

impl Status {
    /// Lists what a push would do.
    pub fn to_do(&self) -> impl Iterator<Item = &Listed> {
        self.migrations.iter().filter(|one| matches!(one.state, State::Pending | State::Unrecorded))
    }

    /// Says whether a newer program has made this schema.
    pub fn is_newer(&self) -> bool {
        self.version > self.known
    }
}

/// Gives the newest version that this program knows.
pub const fn newest_known() -> i64 {
    match MIGRATIONS {
        [.., newest] => newest.version,
        [] => 0,
    }
}

/// What happens in a push, as it happens.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Another push is at work.
    Waiting,
    /// A migration begins.
    Running(&'a Migration),
    /// It has run and is noted.
    Done(&'a Migration),
    /// It had run, and is now noted.
    Noted(&'a Migration),
}

/// Reads where a database stands, at one moment: a push may be at work.
///
/// # Errors
/// [`AdminError::Database`], and [`AdminError::Conflict`] where the history has another migration of the same version.
pub async fn status(client: &Client) -> Result<Status, AdminError> {
    const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(BEGIN).await.map_err(AdminError::reading("the migrations"))?;
    let found = read(client).await;
    let ended = client.batch_execute("ROLLBACK").await.map_err(AdminError::reading("the migrations"));
    let found = found?;
    ended.map(|()| found)
}

async fn read(client: &Client) -> Result<Status, AdminError> {
    let reading =
        async |sql| client.query_typed(sql, &[]).await.map_err(AdminError::reading("the migrations"));
    let there = reading(TABLES_ARE_THERE).await?;
    let (has_own, has_history, hidden) =
        there.first().map_or((false, false, false), |row| (row.get(0), row.get(1), row.get(2)));
    let mut applied: BTreeMap<i64, (String, String)> = BTreeMap::new();
    if has_own {
        for row in reading(APPLIED).await? {
            applied.insert(row.get(0), (row.get(1), row.get(2)));
        }
    }
    let mut history: BTreeMap<String, Option<String>> = BTreeMap::new();
    let named = reading(HAS_NAMES).await?.first().is_some_and(|row| row.get(0));
    if has_history && named && !hidden {
        history.extend(reading(HISTORY).await?.iter().map(|row| (row.get(0), row.get(1))));
    }
    let mut migrations = Vec::new();
    for known in MIGRATIONS {
        let noted = history.get(&known.version.to_string());
        let ran = applied.remove(&known.version);
        let state = match (&ran, noted) {
            (Some(_), Some(_)) => State::Applied,
            // Who is not the owner may not see the history, and has nothing to write into it.
            (Some(_), None) if hidden => State::Applied,
            (Some(_), None) => State::Unrecorded,
            (None, None) => State::Pending,
            (None, Some(name)) => {
                let theirs = name.clone().unwrap_or_default();
                return Err(AdminError::Conflict { version: known.version, name: known.name, theirs });
            }
        };
        let applied_at = ran.map(|(_, at)| at);
        migrations.push(Listed { version: known.version, name: known.name.to_owned(), state, applied_at });
    }
    let newer = applied.into_iter().map(|(version, (name, at))| Listed {
        version,
        name,
        state: State::Newer,
        applied_at: Some(at),
    });
    migrations.extend(newer);
    migrations.sort_by_key(|one| one.version);
    let ran = migrations.iter().filter(|one| one.state != State::Pending);
    let version = ran.map(|one| one.version).max().unwrap_or(0);
    Ok(Status { version, known: newest_known(), migrations })
}

/// Runs what has not run, each in one transaction, and notes what the history does not know. Gives what it did.
///
/// # Errors
/// [`AdminError::Newer`] for the schema of a newer program: nothing is changed. [`AdminError::Migration`] for one that
/// failed: those before it stay, and it leaves nothing behind.
pub async fn push(client: &Client, mut tell_of: impl FnMut(Step<'_>)) -> Result<Vec<Listed>, AdminError> {
    let mut done = Vec::new();
    for migration in MIGRATIONS {
        let found = status(client).await?;
        refuse_newer(&found)?;
        if !found.to_do().any(|one| one.version == migration.version) {
            continue;
        }
        let result = push_one(client, migration, &mut tell_of).await;
        if result.is_err() {
            // The connection may be what failed; then there is nothing to roll back on it.
            drop(client.batch_execute("ROLLBACK").await);
        }
        done.extend(result?);
    }
    Ok(done)
}

fn refuse_newer(found: &Status) -> Result<(), AdminError> {
    if found.is_newer() {
        return Err(AdminError::Newer { found: found.version, known: found.known });
    }
    Ok(())
}

async fn push_one(
    client: &Client,
    migration: &'static Migration,
    tell_of: &mut impl FnMut(Step<'_>),
) -> Result<Option<Listed>, AdminError> {
    let running = |error| AdminError::migration(migration, &error);
    client.batch_execute("BEGIN").await.map_err(running)?;
    let free = client.query_typed(TRY_LOCK, &[]).await.map_err(running)?;
    if !free.first().is_some_and(|row| row.get(0)) {
        tell_of(Step::Waiting);
        client.query_typed(LOCK, &[]).await.map_err(running)?;
    }
    // Another push may have done it meanwhile; now none is at work.
    let found = read(client).await?;
    refuse_newer(&found)?;
    let state = found.migrations.iter().find(|one| one.version == migration.version).map(|one| one.state);
    let step = match state {
        Some(State::Pending) => {
            tell_of(Step::Running(migration));
            client.batch_execute(PATIENCE).await.map_err(running)?;
            client.batch_execute(migration.sql).await.map_err(running)?;
            Step::Done(migration)
        }
        Some(State::Unrecorded) => Step::Noted(migration),
        Some(State::Applied | State::Newer) | None => {
            client.batch_execute("COMMIT").await.map_err(running)?;
            return Ok(None);
        }
    };
    note(client, migration).await.map_err(running)?;
    client.batch_execute("COMMIT").await.map_err(running)?;
    tell_of(step);
    let listed = Listed {
        version: migration.version,
        name: migration.name.to_owned(),
        state: State::Applied,
        applied_at: None,
    };
    Ok(Some(listed))
}

/// Writes the history's line, as the Supabase CLI does.
async fn note(client: &Client, migration: &Migration) -> Result<(), tokio_postgres::Error> {
    // Whoever may write there need not be allowed to make schemas.
    let named = client.query_typed(HAS_NAMES, &[]).await?;
    if !named.first().is_some_and(|row| row.get(0)) {
        client.batch_execute(CREATE_HISTORY).await?;
    }
    let (version, statements) = (migration.version.to_string(), split::statements(migration.sql));
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&version, Type::TEXT), (&migration.name, Type::TEXT), (&statements, Type::TEXT_ARRAY)];
    client.execute_typed(NOTE, &values).await.map(drop)
}

const ROLE: &str = "SELECT rolsuper, rolinherit, rolcanlogin FROM pg_catalog.pg_roles WHERE rolname = $1";
/// Gives the statements that make a login for the service, or give one what it lacks.
const SERVICE_ROLE: &str = "SELECT pg_catalog.format('%s GRANT anon, authenticated, service_role TO %I%s; '
      'GRANT CONNECT ON DATABASE %I TO %I;',
    CASE WHEN $2::boolean THEN pg_catalog.format('CREATE ROLE %I LOGIN INHERIT;', $1::text) ELSE '' END, $1::text,
    CASE WHEN pg_catalog.current_setting('server_version_num')::integer >= 160000
      THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END,
    pg_catalog.current_database(), $1::text)";

/// Makes a login for the service: INHERIT, a member of `anon`, `authenticated` and `service_role`, without a password.
/// Says whether it was made; one that is there gets the memberships.
///
/// # Errors
/// [`AdminError::Role`] for one that is a superuser, does not inherit, or cannot log in.
pub async fn make_service_role(client: &Client, name: &str) -> Result<bool, AdminError> {
    let making = |error| AdminError::making("the service's role")(error);
    let found = client.query_typed(ROLE, &[(&name, Type::TEXT)]).await.map_err(making)?;
    if let Some(row) = found.first() {
        let (superuser, inherits, logs_in) =
            (row.get::<_, bool>(0), row.get::<_, bool>(1), row.get::<_, bool>(2));
        let why = match (superuser, inherits, logs_in) {
            (true, ..) => "is a superuser",
            (_, false, _) => "does not inherit: ALTER ROLE … INHERIT",
            (.., false) => "cannot log in: ALTER ROLE … LOGIN",
            _ => "",
        };
        if !why.is_empty() {
            return Err(AdminError::Role { name: name.to_owned(), why });
        }
    }
    let is_new = found.is_empty();
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&name, Type::TEXT), (&is_new, Type::BOOL)];
    let statements = client.query_typed(SERVICE_ROLE, &values).await.map_err(making)?;
    for row in &statements {
        client.batch_execute(row.get(0)).await.map_err(making)?;
    }
    Ok(is_new)
}

impl AdminError {
    /// Says which migration failed, where in its file, and all that the server said.
    fn migration(migration: &Migration, error: &tokio_postgres::Error) -> Self {
        let position = error.as_db_error().and_then(|error| match error.position() {
            Some(tokio_postgres::error::ErrorPosition::Original(at)) => usize::try_from(*at).ok(),
            _ => None,
        });
        // Positions count characters from 1.
        let line = position.map(|at| migration.sql.chars().take(at).filter(|c| *c == '\n').count() + 1);
        let place = line.map(|line| format!(", line {line}")).unwrap_or_default();
        Self::Migration { version: migration.version, name: migration.name, place, detail: tell(error) }
    }
}
