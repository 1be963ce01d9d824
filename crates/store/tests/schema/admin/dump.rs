//! Dumps: everything of ours and nothing of the app's, brought back with the same rows.

use std::path::{Path, PathBuf};

use nudge_store::admin::{AdminError, Difference, check_dump};

use crate::support::*;

/// A folder for a test's dumps.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup.sql");
    (folder, path)
}

/// Rows in everything, with texts that are hard to write down.
async fn populate(database: &Database) {
    let owner = database.owner().await;
    let mut sql = String::new();
    for number in 1..=40 {
        sql += &decision(number, &format!("user-{}", number % 7));
        sql += &event(number, &format!("user-{}", number % 7));
    }
    sql += &archetype("ann").replace(
        "'{}', '{}', '{}'",
        r#"'{"a": 1.50, "b": "x"}', '{"it''s","tab	here","NULL",""}', '{"s": [1, 2.0]}'"#,
    );
    sql += &AUDIT_ENTRY.repeat(3);
    sql += "INSERT INTO nudge.user_changes (user_id) VALUES ('ann'), (NULL);
      INSERT INTO nudge.stale_users VALUES ('ann', 1);
      INSERT INTO nudge.report_cells VALUES ('2026-11-10', 'average_user', 'LOW', 'swap', 'neutral', '{\"decisions\": 1}');
      INSERT INTO nudge.report_requests VALUES ('2026-11-10', 200, 3, 7);
      INSERT INTO nudge.report_arrivals VALUES ('{01a1c554-0000-7000-8000-000000000001}');
      INSERT INTO nudge.report_changes VALUES ('01a1c554-0000-7000-8000-000000000001', NULL, '{\"a\": 1.50}');
      INSERT INTO nudge.ended_sessions VALUES ('019ca6a4-d000-7000-8000-000000000000', '2026-11-11T00:00:00Z');
      INSERT INTO nudge.alert_states VALUES ('high_error_rate', 'a:1', 'firing', now(), 7.5, 5, 300, 40,
        '{\"told\": [1.50]}', now(), now(), 3);
      INSERT INTO nudge.alert_transitions VALUES ('01a1c554-0000-7000-8000-000000000000', 'high_error_rate', 'a:1',
        'pending', 'firing', NULL, 5, 300, NULL, now());
      INSERT INTO nudge.alert_silences (id, reason, created_by, created_at, ends_at)
        VALUES ('01a1c554-0000-7000-8000-000000000000', 'it''s known', 'cli', now(), now());
      INSERT INTO nudge.job_requests (config) VALUES ('{\"batchSize\": 5}');
      INSERT INTO nudge.log_drains VALUES ('01a1c554-0000-7000-8000-000000000000', 'logs', 'https://a.example/?k=1',
        'status>=500', '{\"a\": \"b\"}', 'it''s', '2026-11-10T12:00:00Z');
      SELECT nudge.make_partition('recommendation_logs', '2019-01-01');";
    sql += &decision(99, "old").replace("01a1c554", "01683b55");
    owner.run(&sql).await;
}

/// Our own facts, where they are ours.
const FACTS: &str = r"INSERT INTO public.profiles (id, role) VALUES ('ann', 'member'), ('root', 'admin');
  INSERT INTO public.leases (id, name) VALUES ('h', E'line\nbreak \\ back\\.\t…'), ('i', NULL), ('j', '\.');
  INSERT INTO public.lease_members VALUES ('h', 'ann');
  INSERT INTO public.lease_nights VALUES ('h', '2026-12-01', NULL, 150.25, 1.1);
  INSERT INTO public.date_change_requests (id, requester_id, receiver_id, transaction_type, target_night, status,
    created_at) VALUES ('r', 'ann', 'bob', 'swap', '2026-12-01', 'pending', '2026-11-10T12:00:00.123456Z');";

async fn populated() -> Database {
    let database = Database::empty().await;
    database.server().await.push(|_| ()).await.unwrap();
    for parent in PARTITIONED {
        database.owner().await.run(&format!("SELECT nudge.make_partition('{parent}', '2026-11-10')")).await;
    }
    database.owner().await.run(FACTS).await;
    populate(&database).await;
    database
}

/// The service's own tables.
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

/// Every row of everything of ours as text.
async fn rows(database: &Database) -> Vec<String> {
    let owner = database.owner().await;
    owner.run("SET TimeZone = 'UTC'").await;
    let mut all = Vec::new();
    for table in EXPOSED
        .map(|table| format!("public.{table}"))
        .into_iter()
        .chain(OWN.map(|table| format!("nudge.{table}")))
    {
        if owner.one(&format!("SELECT to_regclass('{table}') IS NULL")).await == "t" {
            continue;
        }
        let found =
            owner.column(&format!("SELECT t::text FROM {table} AS t ORDER BY t::text COLLATE \"C\"")).await;
        all.extend(found.into_iter().map(|row| format!("{table} {row}")));
    }
    all
}

#[tokio::test]
async fn a_dump_brings_everything_back_into_an_empty_database() {
    let database = populated().await;
    let (_folder, path) = folder();
    let written = database.server().await.dump(&path).await.unwrap();
    assert_eq!(check_dump(&path).unwrap(), written);
    assert_eq!(written.tables["public.recommendation_logs"].rows, 41);
    assert_eq!(written.tables["public.leases"].rows, 3);
    let ours = "SELECT count(*)::text FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
      AND relnamespace IN ('public'::regnamespace, 'nudge'::regnamespace)";
    let tables = &database.owner().await.rows(ours).await[0][0];
    assert_eq!(&written.tables.len().to_string(), tables, "every table of ours, and none left out");

    let copy = Database::empty().await;
    let server = copy.server().await;
    let restored = server.restore(&path).await.unwrap();
    assert_eq!(restored.manifest, written);
    assert!(restored.empty.is_empty());
    assert_eq!(rows(&copy).await, rows(&database).await);
    assert_eq!(server.diff().await.unwrap(), Difference::default());
    assert_eq!(server.findings().await.unwrap(), []);
    assert!(server.verify_rights().await.unwrap().is_right());
    assert!(server.push(|_| ()).await.unwrap().is_empty());
    // Numbers go on where they were, the chain too, and what is append-only is so again.
    let owner = copy.owner().await;
    let next = owner.one("INSERT INTO nudge.user_changes (user_id) VALUES ('eve') RETURNING revision").await;
    assert_eq!(next, "3");
    owner.run(AUDIT_ENTRY).await;
    assert_eq!(owner.one("SELECT max(id) FROM public.admin_audit_log").await, "4");
    owner.refused("DELETE FROM public.admin_audit_log").await;
    let partitions = "SELECT string_agg(name, ' ' ORDER BY name) FROM nudge.partitions";
    assert_eq!(owner.one(partitions).await, database.owner().await.one(partitions).await);
}

#[tokio::test]
async fn psql_alone_restores_it_too_and_refuses_a_database_that_is_not_empty() {
    let database = populated().await;
    let (_folder, path) = folder();
    database.server().await.dump(&path).await.unwrap();
    let copy = Database::empty().await;
    let file = path.to_string_lossy();
    // As the guide has it: psql $DATABASE_URL < backup.sql
    let restore = |database: &Database| {
        let input = std::fs::File::open(&path).unwrap();
        std::process::Command::new("psql").arg("-X").arg(database.url()).stdin(input).output().unwrap()
    };
    let output = restore(&copy);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(rows(&copy).await, rows(&database).await, "{file}");
    let again = restore(&copy);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("not overwritten"), "{again:?}");
    assert_eq!(rows(&copy).await, rows(&database).await);
}

#[tokio::test]
async fn default_grants_of_the_new_database_give_nothing_away() {
    let database = populated().await;
    let (_folder, path) = folder();
    database.server().await.dump(&path).await.unwrap();
    let copy = Database::empty().await;
    copy.owner()
        .await
        .run(
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, service_role, PUBLIC;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO anon, authenticated, service_role;",
        )
        .await;
    let server = copy.server().await;
    server.restore(&path).await.unwrap();
    assert_eq!(server.diff().await.unwrap(), Difference::default());
    assert!(server.verify_rights().await.unwrap().is_right());
}

/// An app with profiles of its own, a view written by hand, and things of its own that are none of ours.
const APP: &str = "CREATE TABLE public.profiles (id uuid PRIMARY KEY, role text, mystery text);
  INSERT INTO public.profiles VALUES ('00000000-0000-0000-0000-00000000000a', 'admin', 'do not dump me');
  CREATE TABLE public.homes (number int PRIMARY KEY); INSERT INTO public.homes VALUES (7);
  CREATE FUNCTION public.app() RETURNS int LANGUAGE sql AS 'SELECT 1';
  CREATE SCHEMA private; CREATE FUNCTION private.app() RETURNS int LANGUAGE sql AS 'SELECT 1';
  CREATE TABLE private.hoard (mystery text); INSERT INTO private.hoard VALUES ('do not dump me');";
const VIEW: &str = "CREATE OR REPLACE VIEW nudge.leases AS SELECT number::text COLLATE \"C\" AS id,
    NULL::text COLLATE \"C\" AS name, NULL::timestamptz AS created_at FROM public.homes";

#[tokio::test]
async fn nothing_of_the_app_is_dumped_and_views_are_made_where_its_tables_are() {
    let database = Database::empty().await;
    database.owner().await.run(APP).await;
    database.migrate().await;
    database.owner().await.run(VIEW).await;
    populate(&database).await;
    let (_folder, path) = folder();
    let written = database.server().await.dump(&path).await.unwrap();
    assert!(!written.tables.contains_key("public.profiles"));
    let text = std::fs::read_to_string(&path).unwrap();
    for secret in ["do not dump me", "hoard", "private.app", "public.app", "mystery"] {
        assert!(!text.contains(secret), "{secret}");
    }

    // Where the app's tables are, the views read them again.
    let beside = Database::empty().await;
    beside.owner().await.run(APP).await;
    let restored = beside.server().await.restore(&path).await.unwrap();
    assert!(restored.empty.is_empty(), "{:?}", restored.empty);
    let owner = beside.owner().await;
    assert_eq!(owner.column("SELECT id FROM nudge.leases").await, ["7"]);
    assert_eq!(owner.column("SELECT role FROM nudge.profiles").await, ["admin"]);
    assert_eq!(beside.server().await.diff().await.unwrap(), Difference::default());

    // Where they are not, they are empty, and named. Our own table that the view by hand hid is ours again.
    let alone = Database::empty().await;
    let restored = alone.server().await.restore(&path).await.unwrap();
    assert_eq!(restored.empty, ["profiles"]);
    let owner = alone.owner().await;
    assert!(owner.rows("SELECT * FROM nudge.profiles").await.is_empty());
    assert_eq!(owner.one("SELECT state FROM nudge.fact_states WHERE name = 'leases'").await, "own");
    assert_eq!(alone.server().await.diff().await.unwrap(), Difference::default());
}

#[tokio::test]
async fn neither_a_file_nor_a_database_is_overwritten() {
    let database = populated().await;
    let (_folder, path) = folder();
    let server = database.server().await;
    std::fs::write(&path, "mine").unwrap();
    let error = server.dump(&path).await.unwrap_err();
    assert!(matches!(error, AdminError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    std::fs::remove_file(&path).unwrap();
    server.dump(&path).await.unwrap();
    let error = server.restore(&path).await.unwrap_err();
    assert!(
        error.to_string().contains("the schema nudge is there already, and is not overwritten"),
        "{error}"
    );
    // A table of the app where ours would be.
    let other = Database::empty().await;
    other.owner().await.run("CREATE TABLE public.leases (id text)").await;
    let error = other.server().await.restore(&path).await.unwrap_err();
    assert!(error.to_string().contains("the table public.leases is there already"), "{error}");
}

#[tokio::test]
async fn a_dump_that_is_not_whole_is_refused_before_anything_happens() {
    let database = populated().await;
    let (folder, path) = folder();
    database.server().await.dump(&path).await.unwrap();
    let text = std::fs::read(&path).unwrap();
    let copy = Database::empty().await;
    let server = copy.server().await;
    let damaged = folder.path().join("damaged.sql");
    let middle = text.len() / 2;
    let mut changed = text.clone();
    changed[middle] ^= 1;
    let manifest = text.windows(3).rposition(|bytes| bytes == b"-- ").unwrap();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("half of it", text[..middle].to_vec()),
        ("all but the manifest", text[..manifest].to_vec()),
        ("a changed byte", changed),
        ("something behind", [text.as_slice(), b"DROP TABLE public.leases;\n"].concat()),
        ("something before", [b"SELECT 1;\n".as_slice(), &text].concat()),
    ] {
        std::fs::write(&damaged, bytes).unwrap();
        let error = server.restore(&damaged).await.unwrap_err();
        assert!(matches!(error, AdminError::Dump { .. }), "{what}: {error}");
    }
    let error = server.restore(Path::new("/does/not/exist.sql")).await.unwrap_err();
    assert!(matches!(error, AdminError::File { .. }), "{error}");
    assert_eq!(copy.owner().await.one("SELECT to_regnamespace('nudge')").await, "∅");
    server.restore(&path).await.unwrap();
}

#[tokio::test]
async fn a_dump_is_of_one_moment_while_others_write() {
    let database = populated().await;
    let (_folder, path) = folder();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writer = database.owner().await;
    let writing = tokio::spawn(async move {
        let mut number = 1000;
        while stopped.try_recv().is_err() {
            number += 1;
            writer.run(&format!("BEGIN; {} {} COMMIT", decision(number, "ann"), event(number, "ann"))).await;
        }
        number - 1000
    });
    let written = database.server().await.dump(&path).await.unwrap();
    stop.send(()).unwrap();
    assert!(writing.await.unwrap() > 0);
    // A decision and its event are committed together; the one old decision has none.
    let (decisions, events) = ("public.recommendation_logs", "public.recommendation_events");
    assert_eq!(written.tables[decisions].rows, written.tables[events].rows + 1);
    let copy = Database::empty().await;
    assert_eq!(copy.server().await.restore(&path).await.unwrap().manifest, written);
}

#[tokio::test]
async fn a_schema_that_is_not_ours_to_dump_leaves_no_file() {
    let database = Database::empty().await;
    let (folder, path) = folder();
    let error = database.server().await.dump(&path).await.unwrap_err();
    assert!(matches!(error, AdminError::Older { .. }), "{error}");
    database.migrate().await;
    // A table of which the owner may not read the rows: pg_dump says so.
    let superuser = database.superuser().await;
    superuser.run("CREATE TABLE nudge.foreign_table (id integer)").await;
    let error = database.server().await.dump(&path).await.unwrap_err();
    assert!(error.to_string().contains("permission denied for table foreign_table"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn dumps_are_readable_by_their_owner_only() {
    let database = Database::migrated().await;
    let (_folder, path) = folder();
    database.server().await.dump(&path).await.unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}
