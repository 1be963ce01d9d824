//! Where the migrations run: on an empty PostgreSQL, on what Supabase has made, under owners with more or fewer rights.

use tokio_postgres::error::SqlState;

use crate::support::*;

#[tokio::test]
async fn psql_runs_the_files_as_they_are() {
    let database = Database::empty().await;
    for file in migrations() {
        let output = database.psql(&["-q", "-1", "-f", &file.to_string_lossy()]);
        assert!(output.status.success(), "{output:?}");
        // A build of PostgreSQL without lz4 is told of by a notice; nothing is warned of.
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.lines().all(|line| line.contains("NOTICE:")), "{said}");
    }
    let owner = database.owner().await;
    let versions = owner.column("SELECT version FROM nudge.migrations ORDER BY version").await;
    let files: Vec<_> = migrations()
        .iter()
        .map(|file| file.file_name().unwrap().to_string_lossy().split('_').next().unwrap().to_owned())
        .collect();
    assert_eq!(versions, files);
    assert_eq!(
        owner.one("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user").await,
        "f"
    );
}

#[tokio::test]
async fn files_hold_no_transactions_of_their_own_and_note_themselves() {
    for file in migrations() {
        let (sql, name) = (
            std::fs::read_to_string(&file).unwrap(),
            file.file_stem().unwrap().to_string_lossy().into_owned(),
        );
        let (version, name) = name.split_once('_').unwrap();
        assert!(version.len() == 14 && version.bytes().all(|byte| byte.is_ascii_digit()), "{version}");
        for line in sql.lines() {
            let word = line.trim().trim_end_matches(';').to_ascii_uppercase();
            let outside =
                ["COMMIT", "ROLLBACK", "BEGIN TRANSACTION", "START TRANSACTION"].contains(&word.as_str());
            // A block of PL/pgSQL begins without a semicolon.
            assert!(!outside && line.trim() != "BEGIN;", "{name}: {line}");
        }
        let note = format!("INSERT INTO nudge.migrations (version, name) VALUES ({version}, '{name}');");
        assert!(sql.trim_end().ends_with(&note), "{name} ends with {note}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_made_where_they_are_absent_also_by_two_databases_at_once() {
    let cluster = Cluster::start();
    let databases = [cluster.server.database().await, cluster.server.database().await];
    let superuser = databases[0].superuser().await;
    assert_eq!(superuser.one("SELECT count(*) FROM pg_roles WHERE rolname = 'anon'").await, "0");
    if superuser.version().await < 16 {
        let [one, other] = &databases;
        tokio::join!(one.migrate(), other.migrate());
    } else {
        // Whoever makes a role may let others join it, and nobody else but a superuser.
        databases[0].migrate().await;
        let platform = std::fs::read_to_string(&migrations()[0]).unwrap();
        let refused = databases[1].owner().await.refused(&platform).await;
        assert_eq!(refused.code, SqlState::INSUFFICIENT_PRIVILEGE);
        superuser.run(refused.hint.split_once(": ").unwrap().1).await;
        databases[1].migrate().await;
    }
    let roles = superuser
        .rows(
            "SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolbypassrls FROM pg_roles
             WHERE rolname IN ('anon', 'authenticated', 'service_role', 'authenticator') ORDER BY 1",
        )
        .await;
    assert_eq!(
        roles.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(),
        ["anon", "authenticated", "authenticator", "service_role"]
    );
    for role in roles {
        assert!(role[1..].iter().all(|attribute| attribute == "f"), "{role:?}");
    }
    let members = superuser
        .column(
            "SELECT format('%s in %s', m.member::regrole, m.roleid::regrole) FROM pg_auth_members AS m
             WHERE m.member = 'authenticator'::regrole ORDER BY 1",
        )
        .await;
    assert_eq!(
        members,
        ["authenticator in anon", "authenticator in authenticated", "authenticator in service_role"]
    );
    for database in &databases {
        let owner = database.owner().await;
        for role in ["anon", "authenticated", "service_role"] {
            owner.run(&format!("SET ROLE {role}; RESET ROLE")).await;
        }
    }
}

#[tokio::test]
async fn an_owner_who_may_not_make_or_join_the_roles_is_told_what_to_run() {
    let cluster = Cluster::start();
    let database = cluster.server.database_with("NOCREATEROLE", "").await;
    let (owner, superuser) = (database.owner().await, database.superuser().await);
    let platform = std::fs::read_to_string(&migrations()[0]).unwrap();
    // What is told is enough to get on, one after the other.
    let mut told = 0;
    loop {
        let Err(error) = owner.batch_execute(&platform).await else { break };
        let error = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
        let hint = error.hint().unwrap_or_else(|| panic!("{error:?}"));
        let statements = hint.split_once(": ").unwrap().1;
        superuser.run(statements).await;
        told += 1;
        assert!(told <= 5, "{hint}");
    }
    // Four roles; the last of them needs no membership.
    assert_eq!(told, 4);
    database_is_whole(&database).await;
}

/// Goes on after the platform, and sees that the rest fits.
async fn database_is_whole(database: &Database) {
    let owner = database.owner().await;
    for file in &migrations()[1..] {
        owner.run(&std::fs::read_to_string(file).unwrap()).await;
    }
    assert_eq!(owner.one("SELECT count(*) FROM nudge.migrations").await, migrations().len().to_string());
}

#[tokio::test]
async fn an_owner_without_rights_to_the_schemas_is_told_what_to_run() {
    let database = Database::empty().await;
    let (owner, superuser) = (database.owner().await, database.superuser().await);
    superuser
        .run(
            "ALTER SCHEMA public OWNER TO CURRENT_USER; REVOKE ALL ON SCHEMA public FROM PUBLIC;
             CREATE SCHEMA auth; CREATE SCHEMA private;
             CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
               SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
             CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid';
             CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
             REVOKE ALL ON FUNCTION auth.jwt() FROM PUBLIC;",
        )
        .await;
    let platform = std::fs::read_to_string(&migrations()[0]).unwrap();
    let mut told = Vec::new();
    loop {
        let Err(error) = owner.batch_execute(&platform).await else { break };
        let error = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
        let hint = error.hint().unwrap_or_else(|| panic!("{error:?} after {told:?}"));
        superuser.run(hint.split_once(": ").unwrap().1).await;
        told.push(hint.to_owned());
        assert!(told.len() <= 12, "{told:#?}");
    }
    assert!(
        told.iter().any(|hint| hint.contains("GRANT EXECUTE ON FUNCTION auth.jwt() TO authenticated")),
        "{told:#?}"
    );
    database_is_whole(&database).await;
}

/// What Supabase has made of a new project, as far as it matters here: roles (the service role sees all rows), the schema
/// `auth` of another owner with its functions as they were and are, grants by default on everything in `public`, and an
/// owner who is no superuser.
fn supabase(owner: &str, default_grants: bool) -> String {
    let mut sql = format!(
        "CREATE ROLE anon NOLOGIN NOINHERIT; CREATE ROLE authenticated NOLOGIN NOINHERIT;
         CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
         CREATE ROLE authenticator LOGIN NOINHERIT PASSWORD 'x';
         GRANT anon, authenticated, service_role TO authenticator;
         CREATE ROLE supabase_admin LOGIN SUPERUSER; CREATE ROLE supabase_auth_admin NOINHERIT CREATEROLE LOGIN;
         GRANT anon, authenticated, service_role TO {owner} WITH ADMIN OPTION;
         ALTER ROLE anon SET statement_timeout = '3s'; ALTER ROLE authenticated SET statement_timeout = '8s';
         CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
         GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, {owner};
         CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO anon, authenticated, service_role, {owner};
         GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role; GRANT ALL ON SCHEMA public TO {owner};
         SET ROLE supabase_auth_admin;
         CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
           select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
             (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
         CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$
           select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
             (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text $$;
         CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
           select coalesce(nullif(current_setting('request.jwt.claim', true), ''),
             nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
         CREATE TABLE auth.users (id uuid PRIMARY KEY, email text);
         RESET ROLE;"
    );
    if default_grants {
        for kind in ["TABLES", "FUNCTIONS", "SEQUENCES"] {
            sql += &format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public
                   GRANT ALL ON {kind} TO {owner}, anon, authenticated, service_role;"
            );
        }
    }
    sql
}

#[tokio::test]
async fn what_supabase_has_made_is_left_as_it_is() {
    for default_grants in [true, false] {
        let cluster = Cluster::start();
        let database = cluster.server.database_with("CREATEROLE CREATEDB REPLICATION BYPASSRLS", "").await;
        let superuser = database.superuser().await;
        superuser.run(&supabase(&database.owner, default_grants)).await;
        let made = async || {
            superuser
                .rows(
                    "SELECT p.oid::text, pg_get_functiondef(p.oid), p.proacl::text, p.proowner::regrole::text FROM pg_proc AS p
                     WHERE p.pronamespace = 'auth'::regnamespace
                     UNION ALL
                     SELECT r.rolname, r.rolbypassrls::text, r.rolconfig::text, r.rolcanlogin::text FROM pg_roles AS r
                     WHERE r.rolname IN ('anon', 'authenticated', 'service_role', 'authenticator')
                     UNION ALL
                     SELECT m.roleid::regrole::text, m.member::regrole::text, m.admin_option::text, NULL FROM pg_auth_members AS m
                     UNION ALL
                     SELECT n.nspname, n.nspacl::text, n.nspowner::regrole::text, NULL FROM pg_namespace AS n
                     WHERE n.nspname IN ('auth', 'public') ORDER BY 1, 2",
                )
                .await
        };
        let before = made().await;
        database.migrate().await;
        assert_eq!(made().await, before);
        // And the rights are ours.
        let owner = database.owner().await;
        owner.run(&(archetype("00000000-0000-4000-8000-00000000000a") + &archetype("other"))).await;
        for (caller, rows) in [
            (Caller::User("00000000-0000-4000-8000-00000000000a"), 1),
            (Caller::User("other"), 1),
            (Caller::User("stranger"), 0),
            (Caller::Service, 2),
        ] {
            owner.run(&caller.begin()).await;
            assert_eq!(owner.rows("SELECT * FROM public.user_archetypes").await.len(), rows, "{caller:?}");
            owner.run("ROLLBACK").await;
        }
        owner.run(&Caller::Anonymous.begin()).await;
        assert_eq!(
            owner.refused("SELECT * FROM public.user_archetypes").await.code,
            SqlState::INSUFFICIENT_PRIVILEGE
        );
        owner.run("ROLLBACK").await;
    }
}

#[tokio::test]
async fn the_app_s_own_auth_functions_are_called_as_they_are() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    callers_roles(&owner).await;
    owner
        .run(
            "CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO authenticated;
             CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT '{\"sub\":\"ann\"}'::jsonb $$;",
        )
        .await;
    database.migrate().await;
    owner.run(&(archetype("ann") + &archetype("bob"))).await;
    owner.run(&Caller::User("bob").begin()).await;
    assert_eq!(owner.column("SELECT user_id FROM public.user_archetypes").await, ["ann"]);
    owner.run("ROLLBACK").await;
    let functions = owner
        .column("SELECT proname FROM pg_proc WHERE pronamespace = 'auth'::regnamespace ORDER BY 1")
        .await;
    assert_eq!(functions, ["jwt", "role", "uid"]);
}
