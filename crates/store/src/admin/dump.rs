//! Writes everything of ours into one file that `psql` reads, and brings it back.
//!
//! A dump is SQL text. First the roles and the schema `auth`, where they are missing; then PostgreSQL's own dump of our
//! tables in `public` and of the schema `nudge`, tables before data before indexes, triggers and policies; then the views
//! over the app's tables, the grants and the history. Nothing of the app's is in it. All of it is of one moment: `pg_dump`
//! runs several times on one snapshot. The last line is a manifest: rows and checksum of every table, and the SHA-256 of
//! all that stands before.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::AdminError;
use super::migration::{self, MIGRATIONS};
use super::tools;
use crate::fact::FactTable;
use crate::postgres::dsn::Dsn;

/// What a dump's last line begins with.
const MANIFEST: &str = "-- nudge-dump-manifest: ";
/// Version of the format.
const FORMAT: u32 = 1;

/// Our tables in `public` that are there in any case.
const ALWAYS: [&str; 6] = [
    "user_archetypes",
    "recommendation_logs",
    "recommendation_events",
    "admin_audit_log",
    "archetype_job_logs",
    "edge_function_logs",
];
/// Our tables in `nudge`, partitions left out.
const OWN: [&str; 17] = [
    "alert_silences",
    "alert_states",
    "alert_transitions",
    "ended_sessions",
    "facts",
    "job_failures",
    "job_leases",
    "job_requests",
    "log_drains",
    "migrations",
    "report_arrivals",
    "report_cells",
    "report_changes",
    "report_requests",
    "spool_receipts",
    "stale_users",
    "user_changes",
];

const OUR_FACTS: &str = "SELECT f.name FROM nudge.facts AS f
  WHERE pg_catalog.to_regclass(pg_catalog.format('public.%I', f.name)) IS NOT NULL ORDER BY f.name";
const NOT_OWN_VIEWS: &str = "SELECT name FROM nudge.fact_states WHERE state <> 'own' ORDER BY name";
const EXPORT: &str = "SELECT pg_catalog.pg_export_snapshot()";
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0";
/// So that a row is the same text on every server.
const PLAIN_TEXT: &str =
    "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'postgres';
  SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL search_path = ''";
/// Rows of a table and the sum of their hashes, whatever their order; `$table$` is one of the names above, quoted.
const CHECKSUM: &str =
    "SELECT count(*), coalesce(sum(('x' || left(md5(t::text), 15))::bit(60)::bigint), 0)::text
  FROM $table$ AS t";
const AFTER: &str = include_str!("dump.sql");
const HELPERS: &str = "SELECT pg_catalog.pg_get_functiondef(p.oid) || E';\\n' || pg_catalog.format(E'COMMENT ON FUNCTION %s IS %L;\\n',
    p.oid::regprocedure, pg_catalog.obj_description(p.oid, 'pg_proc'))
  FROM pg_catalog.pg_proc AS p
  WHERE p.oid IN ('private.is_admin()'::regprocedure, 'private.my_leases()'::regprocedure) ORDER BY p.proname";
const HISTORY: &str = "SELECT pg_catalog.format(E'INSERT INTO supabase_migrations.schema_migrations (version, name, statements)\\n'
    '  VALUES (%L, %L, %L) ON CONFLICT (version) DO NOTHING;\\n', h.version, h.name, h.statements::text)
  FROM supabase_migrations.schema_migrations AS h
  JOIN nudge.migrations AS m ON m.version::text = h.version ORDER BY h.version";
const HAS_HISTORY: &str =
    "SELECT pg_catalog.to_regclass('supabase_migrations.schema_migrations') IS NOT NULL";
const TAKEN: &str =
    "SELECT CASE WHEN pg_catalog.to_regnamespace('nudge') IS NOT NULL THEN 'the schema nudge' END
  UNION ALL SELECT 'the table public.' || t.name FROM pg_catalog.unnest($1::text[]) AS t (name)
  WHERE pg_catalog.to_regclass(pg_catalog.format('public.%I', t.name)) IS NOT NULL";

/// A table's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// How many.
    pub rows: i64,
    /// The sum of their hashes.
    pub checksum: String,
}

/// What a dump holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// Version of the schema.
    pub schema: i64,
    /// Every table with its rows, by name.
    pub tables: BTreeMap<String, Rows>,
    /// SHA-256 of all that stands before the manifest, hexadecimal.
    pub sha256: String,
}

/// What became of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// What was in the dump, and is in the database now.
    pub manifest: Manifest,
    /// Facts whose tables are the app's and not here: their views are empty.
    pub empty: Vec<String>,
}

/// Writes a dump into a new file, and reads the file once more to see that it is all there.
///
/// # Errors
/// [`AdminError::Exists`] where the file is there already; [`AdminError::Older`] and [`AdminError::Newer`] for another
/// schema; [`AdminError::Tool`] when `pg_dump` is missing, older than the server, or fails. No file is left behind.
pub async fn dump(client: &Client, dsn: &Dsn, path: &Path) -> Result<Manifest, AdminError> {
    let found = migration::status(client).await?;
    if found.is_newer() {
        return Err(AdminError::Newer { found: found.version, known: found.known });
    }
    if found.version < found.known {
        return Err(AdminError::Older { found: found.version, known: found.known });
    }
    let file = NewFile::create(path)?;
    client.batch_execute(BEGIN).await.map_err(AdminError::reading("the database"))?;
    let written = write(client, dsn, file).await;
    drop(client.batch_execute("ROLLBACK").await);
    let (file, manifest) = written?;
    check(&file.partial)?;
    file.keep()?;
    Ok(manifest)
}

async fn write(client: &Client, dsn: &Dsn, mut file: NewFile) -> Result<(NewFile, Manifest), AdminError> {
    let reading = AdminError::reading("the database");
    let names = async |sql| -> Result<Vec<String>, AdminError> {
        let rows = client.query_typed(sql, &[]).await.map_err(&reading)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    };
    let snapshot = names(EXPORT).await?.remove(0);
    let mut public: Vec<String> = ALWAYS.map(str::to_owned).to_vec();
    public.extend(names(OUR_FACTS).await?);
    let views = names(NOT_OWN_VIEWS).await?;
    client.batch_execute(PLAIN_TEXT).await.map_err(&reading)?;
    let tables = checksums(client, &public).await?;

    file.write(prelude().as_bytes())?;
    let public_tables: Vec<String> = public.iter().map(|name| format!("--table=public.{name}")).collect();
    let mut schema = vec!["--schema=nudge".to_owned()];
    schema.extend(views.iter().map(|view| format!("--exclude-table=nudge.{view}")));
    for section in ["pre-data", "data", "post-data"] {
        for what in [&public_tables, &schema] {
            pg_dump(dsn, &snapshot, section, what, &mut file).await?;
        }
        if section == "pre-data" {
            for helper in names(HELPERS).await? {
                file.write(helper.as_bytes())?;
            }
        }
    }
    let after = client.query_typed(AFTER, &[(&public, Type::TEXT_ARRAY)]).await.map_err(&reading)?;
    file.write(b"\n-- Views over the app's tables, and grants.\n\n")?;
    for row in &after {
        file.write(row.get::<_, &str>(0).as_bytes())?;
    }
    file.write(b"\n-- The history.\n\n")?;
    file.write(migration::CREATE_HISTORY.as_bytes())?;
    file.write(b";\n")?;
    let has_history = client.query_typed(HAS_HISTORY, &[]).await.map_err(&reading)?;
    if has_history.first().is_some_and(|row| row.get(0)) {
        for line in names(HISTORY).await? {
            file.write(line.as_bytes())?;
        }
    }
    let sha256 = file.digest();
    let manifest = Manifest { format: FORMAT, schema: migration::newest_known(), tables, sha256 };
    let line = serde_json::to_string(&manifest)
        .map_err(|error| AdminError::Dump { path: file.path.clone(), problem: error.to_string() })?;
    file.write(format!("{MANIFEST}{line}\n").as_bytes())?;
    file.sync()?;
    Ok((file, manifest))
}

/// What has to be there before everything else.
fn prelude() -> String {
    let platform = MIGRATIONS.first().map_or("", |first| first.sql);
    let shared = platform.split_once("CREATE SCHEMA nudge;").map_or(platform, |(before, _)| before);
    let private = platform
        .split_once("DO $private$")
        .and_then(|(_, rest)| rest.split_once("$private$;"))
        .map_or("", |(body, _)| body);
    format!(
        "-- A dump of Nudge's tables: `nudge db restore FILE`, or `psql -X -1 -f FILE`, into a database without them.\n\n\
         \\set ON_ERROR_STOP on\n\
         DO $empty$\nBEGIN\n  IF to_regnamespace('nudge') IS NOT NULL THEN\n    \
         RAISE EXCEPTION 'the schema nudge is there already, and is not overwritten';\n  END IF;\nEND\n$empty$;\n\n\
         {shared}\nDO $private${private}$private$;\n"
    )
}

/// Appends one section of PostgreSQL's own dump.
async fn pg_dump(
    dsn: &Dsn,
    snapshot: &str,
    section: &str,
    what: &[String],
    file: &mut NewFile,
) -> Result<(), AdminError> {
    const PROGRAM: &str = "pg_dump";
    let mut command = tools::command(PROGRAM, dsn);
    command.args([
        "--no-owner",
        "--no-privileges",
        "--no-tablespaces",
        "--no-publications",
        "--no-subscriptions",
    ]);
    command.args(["--no-security-labels", "--encoding=UTF8", "--lock-wait-timeout=10000"]);
    command.arg(format!("--snapshot={snapshot}")).arg(format!("--section={section}")).args(what);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| tools::cannot_run(PROGRAM, &error))?;
    let failed = |detail: String| AdminError::Tool { program: PROGRAM, detail };
    let (Some(mut output), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("no output".to_owned()));
    };
    let said = tokio::spawn(async move {
        let mut text = String::new();
        errors.read_to_string(&mut text).await.map(|_| text)
    });
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = output.read(&mut buffer).await.map_err(|error| failed(error.to_string()))?;
        if length == 0 {
            break;
        }
        file.write(buffer.get(..length).unwrap_or_default())?;
    }
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    let said = said.await.map_err(|error| failed(error.to_string()))?.unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    let hint = if said.contains("version mismatch") {
        "\n  Install the client programs of the server's version, or name their folder in NUDGE_POSTGRES_BIN."
    } else {
        ""
    };
    Err(failed(format!("{}{hint}", said.trim())))
}

async fn checksums(client: &Client, public: &[String]) -> Result<BTreeMap<String, Rows>, AdminError> {
    let mut tables = BTreeMap::new();
    let names =
        public.iter().map(|name| format!("public.{name}")).chain(OWN.map(|name| format!("nudge.{name}")));
    for name in names {
        let sql = CHECKSUM.replace("$table$", &name);
        let rows = client.query_typed(&sql, &[]).await.map_err(AdminError::reading("the rows"))?;
        if let Some(row) = rows.first() {
            tables.insert(name, Rows { rows: row.get(0), checksum: row.get(1) });
        }
    }
    Ok(tables)
}

/// Reads a dump: its manifest is there, all that stands before it is as it was written, and holds as many rows.
///
/// # Errors
/// [`AdminError::Dump`] that says what is not so.
pub fn check(path: &Path) -> Result<Manifest, AdminError> {
    let reading = |error: std::io::Error| AdminError::File {
        doing: "read",
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let wrong = |problem: String| AdminError::Dump { path: path.to_owned(), problem };
    let mut file = BufReader::with_capacity(1 << 16, std::fs::File::open(path).map_err(reading)?);
    let mut hasher = Sha256::new();
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    let mut table: Option<String> = None;
    let mut line = Vec::new();
    let manifest = loop {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(reading)? == 0 {
            return Err(wrong(
                "it ends before its manifest: it is no dump of `nudge db dump`, or not all of one".into(),
            ));
        }
        // Only outside of rows: a row may begin like anything.
        match &table {
            Some(name) if line == b"\\.\n" => {
                rows.entry(name.clone()).or_default();
                table = None;
            }
            Some(name) => *rows.entry(name.clone()).or_default() += 1,
            None => {
                if let Some(manifest) = line.strip_prefix(MANIFEST.as_bytes()) {
                    break manifest.to_vec();
                }
                table = copied_table(&line);
            }
        }
        hasher.update(&line);
    };
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|error| wrong(format!("its manifest cannot be read: {error}")))?;
    if manifest.format != FORMAT {
        return Err(wrong(format!("its format is {}, and this program knows {FORMAT}", manifest.format)));
    }
    if file.read(&mut [0]).map_err(reading)? != 0 {
        return Err(wrong("something stands after its manifest".into()));
    }
    if hex(hasher) != manifest.sha256 {
        return Err(wrong("its content is not what was written: the SHA-256 differs".into()));
    }
    for (name, expected) in &manifest.tables {
        let found = rows.get(name).copied().unwrap_or(0);
        if found != expected.rows {
            return Err(wrong(format!("{name} has {} rows, and it holds {found}", expected.rows)));
        }
    }
    Ok(manifest)
}

/// Gives the table whose rows a line begins; of a partition its parent.
fn copied_table(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let name = line.strip_prefix("COPY ")?.strip_suffix(" FROM stdin;\n")?.split(" (").next()?;
    let partition = name.strip_prefix("nudge.").and_then(|name| {
        let (parent, month) = name.split_at_checked(name.len().checked_sub("_2026_11".len())?)?;
        let is_month = month.bytes().enumerate().all(|(at, byte)| match at {
            0 | 5 => byte == b'_',
            _ => byte.is_ascii_digit(),
        });
        is_month.then(|| format!("public.{parent}"))
    });
    Some(partition.unwrap_or_else(|| name.to_owned()))
}

/// Brings a dump into a database that has nothing of ours, all of it or nothing, and compares every table with the
/// manifest.
///
/// # Errors
/// [`AdminError::Dump`] for a file that is not whole, and when a table differs afterwards; [`AdminError::Exists`] where
/// something of ours is there already; [`AdminError::Newer`] for the dump of a newer program; [`AdminError::Tool`] with
/// what `psql` said.
pub async fn restore(client: &Client, dsn: &Dsn, path: &Path) -> Result<Restored, AdminError> {
    const PROGRAM: &str = "psql";
    let manifest = check(path)?;
    if manifest.schema > migration::newest_known() {
        return Err(AdminError::Newer { found: manifest.schema, known: migration::newest_known() });
    }
    let reading = AdminError::reading("the database");
    let public: Vec<String> =
        manifest.tables.keys().filter_map(|name| name.strip_prefix("public.").map(str::to_owned)).collect();
    let taken = client.query_typed(TAKEN, &[(&public, Type::TEXT_ARRAY)]).await.map_err(&reading)?;
    if let Some(what) = taken.iter().find_map(|row| row.get::<_, Option<String>>(0)) {
        return Err(AdminError::Exists { what });
    }
    let mut command = tools::command(PROGRAM, dsn);
    command.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f"]).arg(path);
    tools::run(PROGRAM, command).await?;

    client.batch_execute(BEGIN).await.map_err(&reading)?;
    let compared = compare(client, &manifest, &public).await;
    drop(client.batch_execute("ROLLBACK").await);
    let differing = compared?;
    if !differing.is_empty() {
        let problem = format!("what is in the database now differs from it in {}", differing.join(", "));
        return Err(AdminError::Dump { path: path.to_owned(), problem });
    }
    let rows = client.query_typed(NOT_OWN_EMPTY, &[]).await.map_err(&reading)?;
    let empty = rows.iter().map(|row| row.get(0)).collect();
    Ok(Restored { manifest, empty })
}

const NOT_OWN_EMPTY: &str = "SELECT name FROM nudge.fact_states WHERE state = 'empty' ORDER BY name";

async fn compare(client: &Client, manifest: &Manifest, public: &[String]) -> Result<Vec<String>, AdminError> {
    client.batch_execute(PLAIN_TEXT).await.map_err(AdminError::reading("the database"))?;
    let now = checksums(client, public).await?;
    let differs = |(name, rows): (&String, &Rows)| (now.get(name) != Some(rows)).then(|| name.clone());
    Ok(manifest.tables.iter().filter_map(differs).collect())
}

/// Names the tables of facts that a dump holds, for people.
pub fn facts_of(manifest: &Manifest) -> Vec<&'static str> {
    FactTable::NAMES
        .iter()
        .copied()
        .filter(|name| manifest.tables.contains_key(&format!("public.{name}")))
        .collect()
}

/// A file that appears under its name only when it is whole, and takes nobody else's place.
struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    file: std::fs::File,
    hasher: Sha256,
    kept: bool,
}

impl NewFile {
    fn create(path: &Path) -> Result<Self, AdminError> {
        if path.exists() {
            return Err(AdminError::Exists { what: path.display().to_string() });
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let mut open = std::fs::OpenOptions::new();
        open.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
        let file = open.open(&partial).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => AdminError::Exists { what: partial.display().to_string() },
            _ => AdminError::File { doing: "write", path: partial.clone(), detail: error.to_string() },
        })?;
        Ok(Self { path: path.to_owned(), partial, file, hasher: Sha256::new(), kept: false })
    }

    fn failed(&self, error: &std::io::Error) -> AdminError {
        AdminError::File { doing: "write", path: self.partial.clone(), detail: error.to_string() }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), AdminError> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|error| self.failed(&error))
    }

    fn digest(&self) -> String {
        hex(self.hasher.clone())
    }

    fn sync(&self) -> Result<(), AdminError> {
        self.file.sync_all().map_err(|error| self.failed(&error))
    }

    /// Gives the file its name; a link takes no other's place, as a rename would.
    fn keep(mut self) -> Result<(), AdminError> {
        std::fs::hard_link(&self.partial, &self.path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => AdminError::Exists { what: self.path.display().to_string() },
            _ => self.failed(&error),
        })?;
        self.kept = true;
        std::fs::remove_file(&self.partial).map_err(|error| self.failed(&error))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // It may be gone already; there is nothing else to be done.
            drop(std::fs::remove_file(&self.partial));
        }
    }
}

fn hex(hasher: Sha256) -> String {
    use std::fmt::Write as _;
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
