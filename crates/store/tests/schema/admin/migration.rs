//! Pushes, alone, together, and after other tools.

use std::sync::Arc;

use nudge_store::admin::{AdminError, MIGRATIONS, Server, State, Step, newest_known, statements};

use crate::support::*;

/// The history as the Supabase CLI makes it and writes into it.
const CLI_HISTORY: &str = "CREATE SCHEMA IF NOT EXISTS supabase_migrations;
  CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (version text NOT NULL PRIMARY KEY);
  ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS statements text[];
  ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS name text;";

async fn push(server: &Server) -> Result<Vec<i64>, AdminError> {
    Ok(server.push(|_| ()).await?.iter().map(|one| one.version).collect())
}

fn versions() -> Vec<i64> {
    MIGRATIONS.iter().map(|migration| migration.version).collect()
}

/// Does with a migration what the CLI does.
async fn push_as_cli(owner: &Client, number: usize) {
    let migration = MIGRATIONS[number];
    owner.run(CLI_HISTORY).await;
    owner.run(&format!("BEGIN; {}", migration.sql)).await;
    let (version, statements) = (migration.version.to_string(), statements(migration.sql));
    owner
        .execute(
            "INSERT INTO supabase_migrations.schema_migrations (version, name, statements) VALUES ($1, $2, $3)",
            &[&version, &migration.name, &statements],
        )
        .await
        .unwrap();
    owner.run("COMMIT").await;
}

#[tokio::test]
async fn an_empty_database_gets_everything_once() {
    let database = Database::empty().await;
    let server = database.server().await;
    let before = server.status().await.unwrap();
    assert_eq!((before.version, before.known), (0, newest_known()));
    assert!(before.migrations.iter().all(|one| one.state == State::Pending));
    let mut steps = Vec::new();
    let done = server
        .push(|step| match step {
            Step::Running(migration) => steps.push(format!("run {}", migration.name)),
            Step::Done(migration) => steps.push(format!("done {}", migration.name)),
            Step::Waiting | Step::Noted(_) => panic!("{step:?}"),
        })
        .await
        .unwrap();
    assert_eq!(done.iter().map(|one| one.version).collect::<Vec<_>>(), versions());
    assert_eq!(steps[..2], ["run platform", "done platform"]);
    let after = server.status().await.unwrap();
    assert_eq!(after.version, newest_known());
    assert!(after.migrations.iter().all(|one| one.state == State::Applied && one.applied_at.is_some()));
    assert_eq!(after.to_do().count(), 0);
    assert!(push(&server).await.unwrap().is_empty());
    // The history is what the Supabase CLI would have written.
    let owner = database.owner().await;
    let history = owner
        .rows("SELECT version, name, cardinality(statements) FROM supabase_migrations.schema_migrations ORDER BY 1")
        .await;
    let expected: Vec<Vec<String>> = MIGRATIONS
        .iter()
        .map(|m| vec![m.version.to_string(), m.name.to_owned(), statements(m.sql).len().to_string()])
        .collect();
    assert_eq!(history, expected);
    let columns = owner
        .rows(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
             WHERE attrelid = 'supabase_migrations.schema_migrations'::regclass AND attnum > 0 ORDER BY attnum",
        )
        .await;
    assert_eq!(columns, [["version", "text", "t"], ["statements", "text[]", "f"], ["name", "text", "f"]]);
}

#[tokio::test]
async fn the_embedded_files_are_those_of_the_folder() {
    let files = migrations();
    assert_eq!(files.len(), MIGRATIONS.len());
    for (file, migration) in files.iter().zip(MIGRATIONS) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        assert_eq!(name, format!("{}_{}", migration.version, migration.name));
        assert_eq!(std::fs::read_to_string(file).unwrap(), migration.sql);
    }
}

#[tokio::test]
async fn either_tool_goes_on_where_the_other_stopped() {
    let database = Database::empty().await;
    let (owner, server) = (database.owner().await, database.server().await);
    push_as_cli(&owner, 0).await;
    push_as_cli(&owner, 1).await;
    assert_eq!(push(&server).await.unwrap(), versions()[2..]);
    assert!(push(&server).await.unwrap().is_empty());
    // The CLI looks whether the history has a version of a file, and there is none that it lacks.
    let history = owner.column("SELECT version FROM supabase_migrations.schema_migrations ORDER BY 1").await;
    assert_eq!(history, versions().iter().map(i64::to_string).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_psql_has_run_is_noted_and_not_run_again() {
    let database = Database::empty().await;
    let (owner, server) = (database.owner().await, database.server().await);
    for migration in &MIGRATIONS[..2] {
        owner.run(migration.sql).await;
    }
    let states: Vec<State> = server.status().await.unwrap().migrations.iter().map(|one| one.state).collect();
    assert_eq!(states[..3], [State::Unrecorded, State::Unrecorded, State::Pending]);
    let mut noted = 0;
    let done = server.push(|step| noted += usize::from(matches!(step, Step::Noted(_)))).await.unwrap();
    assert_eq!((done.len(), noted), (versions().len(), 2));
    assert!(server.status().await.unwrap().migrations.iter().all(|one| one.state == State::Applied));
}

#[tokio::test]
async fn the_app_s_own_history_is_left_alone_and_says_nothing_of_our_schema() {
    let database = Database::empty().await;
    let (owner, server) = (database.owner().await, database.server().await);
    owner.run(CLI_HISTORY).await;
    let app =
        "('20250101000000', 'app', NULL), ('29990101000000', 'facts', NULL), ('20200101000000', NULL, NULL)";
    owner
        .run(&format!(
            "INSERT INTO supabase_migrations.schema_migrations (version, name, statements) VALUES {app}"
        ))
        .await;
    assert_eq!(push(&server).await.unwrap(), versions());
    assert!(!server.status().await.unwrap().is_newer());
    let history = owner.one("SELECT count(*) FROM supabase_migrations.schema_migrations").await;
    assert_eq!(history, (versions().len() + 3).to_string());
}

#[tokio::test]
async fn a_history_that_has_our_version_for_something_else_is_told() {
    let database = Database::empty().await;
    let (owner, server) = (database.owner().await, database.server().await);
    owner.run(CLI_HISTORY).await;
    owner
        .run("INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ('20261101000000', 'mine')")
        .await;
    let error = push(&server).await.unwrap_err();
    assert!(matches!(&error, AdminError::Conflict { theirs, .. } if theirs == "mine"), "{error}");
    assert!(
        error.to_string().contains("supabase migration repair --status reverted 20261101000000"),
        "{error}"
    );
    assert_eq!(owner.one("SELECT to_regnamespace('nudge')").await, "∅");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_pushes_at_once_one_works_and_the_others_find_nothing_to_do() {
    let database = Arc::new(Database::empty().await);
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let database = Arc::clone(&database);
        pushes.spawn(async move { push(&database.server().await).await.unwrap() });
    }
    let mut done: Vec<i64> = Vec::new();
    while let Some(one) = pushes.join_next().await {
        done.extend(one.unwrap());
    }
    done.sort_unstable();
    assert_eq!(done, versions(), "each migration ran once");
}

#[tokio::test]
async fn whoever_comes_second_is_told_to_wait() {
    let database = Database::empty().await;
    let other = database.owner().await;
    other.run("BEGIN; SELECT pg_advisory_xact_lock(1853187175, 4)").await;
    let server = database.server().await;
    let (sender, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    let pushing = tokio::spawn(async move {
        let tell = |step: Step<'_>| {
            if matches!(step, Step::Waiting) {
                sender.send(()).unwrap();
            }
        };
        server.push(tell).await.unwrap().len()
    });
    waiting.recv().await.unwrap();
    other.run("COMMIT").await;
    assert_eq!(pushing.await.unwrap(), versions().len());
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let database = Database::empty().await;
    let (owner, server) = (database.owner().await, database.server().await);
    push(&server).await.unwrap();
    owner.run("INSERT INTO nudge.migrations (version, name) VALUES (29990101000000, 'later')").await;
    let status = server.status().await.unwrap();
    assert!(status.is_newer());
    assert_eq!(status.migrations.last().unwrap().state, State::Newer);
    for error in [push(&server).await.unwrap_err(), server.diff().await.unwrap_err()] {
        assert!(matches!(error, AdminError::Newer { found: 29_990_101_000_000, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_and_the_next_push_goes_on() {
    let database = Database::empty().await;
    let (owner, server) = (database.owner().await, database.server().await);
    owner.run("CREATE SCHEMA private; CREATE FUNCTION private.is_admin() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    let error = push(&server).await.unwrap_err();
    let told = error.to_string();
    assert!(told.starts_with("20261101000000_facts.sql failed, and changed nothing: "), "{told}");
    assert!(told.contains("Rename them"), "{told}");
    let states: Vec<State> = server.status().await.unwrap().migrations.iter().map(|one| one.state).collect();
    assert_eq!(states[..2], [State::Applied, State::Pending]);
    owner.run("DROP FUNCTION private.is_admin()").await;
    assert_eq!(push(&server).await.unwrap(), versions()[1..]);
}

#[tokio::test]
async fn a_login_for_the_service_is_made_once_and_is_fit() {
    let database = Database::empty().await;
    let (server, superuser) = (database.server().await, database.superuser().await);
    push(&server).await.unwrap();
    let name = format!("{} svc", database.name);
    // From 16 on, only who has made the callers' roles may let others join them.
    superuser
        .run(&format!("GRANT anon, authenticated, service_role TO {} WITH ADMIN OPTION", database.owner))
        .await;
    assert!(server.make_service_role(&name).await.unwrap());
    assert!(!server.make_service_role(&name).await.unwrap());
    superuser.run(&format!("ALTER ROLE \"{name}\" PASSWORD 'x'")).await;
    {
        let service = database.user(&name).await;
        assert_eq!(service.one("SELECT count(*) FROM public.user_archetypes").await, "0");
        assert_eq!(
            service.one("SELECT max(version) FROM nudge.migrations").await,
            newest_known().to_string()
        );
    }
    superuser.run(&format!("ALTER ROLE \"{name}\" NOLOGIN")).await;
    assert!(matches!(server.make_service_role(&name).await.unwrap_err(), AdminError::Role { .. }));
    superuser.run(&format!("ALTER ROLE \"{name}\" LOGIN NOINHERIT")).await;
    assert!(matches!(server.make_service_role(&name).await.unwrap_err(), AdminError::Role { .. }));
    superuser.run(&format!("DROP OWNED BY \"{name}\"; DROP ROLE \"{name}\"")).await;
    let root = superuser.one("SELECT current_user").await;
    assert!(server.make_service_role(&root).await.unwrap_err().to_string().contains("superuser"));
}
