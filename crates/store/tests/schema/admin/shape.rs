//! Differences between a live schema and the migrations.

use nudge_store::admin::{AdminError, Difference};

use crate::support::*;

/// Reads the lines of a database as the comparison does.
const SHAPE: &str = include_str!("../../../src/admin/shape.sql");

#[tokio::test]
async fn the_expected_shape_is_that_of_a_fresh_database() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    owner.run("SET search_path = ''").await;
    let lines = owner.column(SHAPE).await.join("\n") + "\n";
    let file = format!("{}/src/admin/shape.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("NUDGE_UPDATE_SHAPE").is_some() {
        std::fs::write(&file, &lines).unwrap();
    }
    let hint = "run this test once with NUDGE_UPDATE_SHAPE=1, and look at what has changed";
    assert!(std::fs::read_to_string(&file).unwrap() == lines, "shape.txt is out of date: {hint}");
}

#[tokio::test]
async fn a_fresh_database_does_not_differ_whatever_the_app_has() {
    for app in [
        "",
        "CREATE TABLE public.profiles (id uuid PRIMARY KEY, role text); CREATE TABLE public.leases (n integer);
         CREATE TABLE public.other (id text); CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE SCHEMA private; CREATE FUNCTION private.app() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    ] {
        let database = Database::empty().await;
        database.owner().await.run(app).await;
        database.migrate().await;
        assert_eq!(database.server().await.diff().await.unwrap(), Difference::default(), "{app}");
    }
}

#[tokio::test]
async fn every_kind_of_change_is_found() {
    let database = Database::migrated().await;
    let (owner, server) = (database.owner().await, database.server().await);
    for (change, missing, unexpected) in [
        ("ALTER TABLE public.leases ADD COLUMN more text", 0, 1),
        ("ALTER TABLE public.leases ALTER COLUMN name SET DEFAULT 'x'", 1, 1),
        ("ALTER TABLE public.leases ALTER COLUMN name SET NOT NULL", 1, 1),
        // With its comment.
        ("ALTER TABLE public.archetype_job_logs DROP COLUMN cursor", 2, 0),
        ("ALTER TABLE public.leases DISABLE ROW LEVEL SECURITY", 1, 1),
        ("ALTER TABLE public.leases FORCE ROW LEVEL SECURITY", 1, 1),
        ("ALTER TABLE public.user_archetypes SET (fillfactor = 90)", 1, 1),
        ("DROP INDEX public.user_archetypes_by_type", 1, 0),
        ("CREATE INDEX more ON public.user_archetypes (policy)", 0, 1),
        ("ALTER TABLE public.profiles DROP CONSTRAINT profiles_role_check", 1, 0),
        ("ALTER TABLE public.admin_audit_log DISABLE TRIGGER admin_audit_log_keep", 1, 1),
        ("DROP POLICY profiles_select ON public.profiles", 1, 0),
        ("CREATE POLICY more ON public.profiles TO PUBLIC USING (true)", 0, 1),
        ("GRANT SELECT ON public.profiles TO anon", 0, 1),
        ("GRANT UPDATE (role) ON public.profiles TO authenticated", 0, 1),
        ("REVOKE SELECT ON public.profiles FROM authenticated", 1, 0),
        ("GRANT EXECUTE ON FUNCTION nudge.audit_tail() TO PUBLIC", 0, 1),
        ("GRANT USAGE ON SCHEMA nudge TO anon", 0, 1),
        (
            "CREATE OR REPLACE FUNCTION private.is_admin() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
               SET search_path = '' AS 'SELECT true'",
            1,
            1,
        ),
        ("ALTER FUNCTION private.is_admin() RESET search_path", 1, 1),
        ("COMMENT ON TABLE public.leases IS 'other'", 1, 1),
        ("CREATE TABLE nudge.more (id integer)", 0, 2),
        ("ALTER TABLE nudge.recommendation_logs_2026_11 DISABLE ROW LEVEL SECURITY", 0, 1),
        ("GRANT SELECT ON nudge.recommendation_logs_2026_11 TO service_role", 0, 1),
    ] {
        // In a transaction the comparison of another connection would not see it.
        owner.run(change).await;
        let found = server.diff().await.unwrap();
        assert_eq!((found.missing.len(), found.unexpected.len()), (missing, unexpected), "{change}: {found:#?}");
        undo(&owner, change).await;
        assert_eq!(server.diff().await.unwrap(), Difference::default(), "after {change} was undone");
    }
}

/// Makes it as it was.
async fn undo(owner: &Client, change: &str) {
    let statement = match change {
        c if c.contains("ADD COLUMN more") => "ALTER TABLE public.leases DROP COLUMN more",
        c if c.contains("SET DEFAULT") => "ALTER TABLE public.leases ALTER COLUMN name DROP DEFAULT",
        c if c.contains("SET NOT NULL") => "ALTER TABLE public.leases ALTER COLUMN name DROP NOT NULL",
        c if c.contains("DROP COLUMN cursor") => {
            "ALTER TABLE public.archetype_job_logs ADD COLUMN cursor text COLLATE \"C\";
             COMMENT ON COLUMN public.archetype_job_logs.cursor IS 'The last user done.'"
        }
        c if c.contains("leases DISABLE ROW") => "ALTER TABLE public.leases ENABLE ROW LEVEL SECURITY",
        c if c.contains("leases FORCE ROW") => "ALTER TABLE public.leases NO FORCE ROW LEVEL SECURITY",
        c if c.contains("fillfactor") => "ALTER TABLE public.user_archetypes SET (fillfactor = 50)",
        c if c.contains("DROP INDEX") => "CREATE INDEX user_archetypes_by_type ON public.user_archetypes (archetype_type)",
        c if c.contains("CREATE INDEX more") => "DROP INDEX public.more",
        c if c.contains("DROP CONSTRAINT") => {
            "ALTER TABLE public.profiles ADD CONSTRAINT profiles_role_check CHECK (role IN ('member', 'admin'))"
        }
        c if c.contains("DISABLE TRIGGER") => {
            "ALTER TABLE public.admin_audit_log ENABLE ALWAYS TRIGGER admin_audit_log_keep"
        }
        c if c.contains("DROP POLICY") => {
            "CREATE POLICY profiles_select ON public.profiles FOR SELECT TO authenticated
               USING (id = (SELECT (SELECT auth.jwt()) ->> 'sub') OR (SELECT private.is_admin()))"
        }
        c if c.contains("CREATE POLICY more") => "DROP POLICY more ON public.profiles",
        "GRANT SELECT ON public.profiles TO anon" => "REVOKE SELECT ON public.profiles FROM anon",
        c if c.contains("UPDATE (role)") => "REVOKE UPDATE (role) ON public.profiles FROM authenticated",
        c if c.starts_with("REVOKE SELECT") => "GRANT SELECT ON public.profiles TO authenticated",
        c if c.contains("audit_tail") => "REVOKE EXECUTE ON FUNCTION nudge.audit_tail() FROM PUBLIC",
        c if c.contains("SCHEMA nudge") => "REVOKE USAGE ON SCHEMA nudge FROM anon",
        c if c.contains("REPLACE FUNCTION") => {
            "CREATE OR REPLACE FUNCTION private.is_admin() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
               SET search_path = '' AS $$
  SELECT EXISTS (SELECT FROM nudge.profiles AS p WHERE p.id = auth.jwt() ->> 'sub' AND p.role = 'admin')
$$"
        }
        c if c.contains("RESET search_path") => "ALTER FUNCTION private.is_admin() SET search_path = ''",
        c if c.contains("COMMENT ON TABLE") => "COMMENT ON TABLE public.leases IS 'Shared homes.'",
        c if c.contains("TABLE nudge.more") => "DROP TABLE nudge.more",
        c if c.contains("2026_11 DISABLE") => {
            "ALTER TABLE nudge.recommendation_logs_2026_11 ENABLE ROW LEVEL SECURITY"
        }
        c if c.contains("2026_11 TO") => "REVOKE SELECT ON nudge.recommendation_logs_2026_11 FROM service_role",
        other => panic!("{other}"),
    };
    owner.run(statement).await;
}

#[tokio::test]
async fn an_older_schema_is_not_compared() {
    let database = Database::empty().await;
    let error = database.server().await.diff().await.unwrap_err();
    assert!(matches!(error, AdminError::Older { found: 0, .. }), "{error}");
    assert!(error.to_string().contains("nudge db push"), "{error}");
}
