//! What is found wrong with a database, and that what is told mends it.

use nudge_store::admin::{Finding, Severity};

use crate::support::*;

async fn findings(database: &Database) -> Vec<Finding> {
    database.server().await.findings().await.unwrap()
}

/// Changes a database, looks at what is found, does what is told, and looks that it is gone.
async fn found_and_mended(change: &str, expected: &[&str]) {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    assert_eq!(findings(&database).await, []);
    owner.run(change).await;
    let found = findings(&database).await;
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(told, expected, "{change}");
    assert!(found.iter().all(|finding| finding.severity() == Severity::Refusal));
    for finding in &found {
        for statement in finding.remedy() {
            owner.run(&statement).await;
        }
    }
    assert_eq!(findings(&database).await, [], "after what was told for {change}");
}

#[tokio::test]
async fn grants_that_are_not_ours_are_found_and_mended() {
    found_and_mended(
        "GRANT SELECT, INSERT ON public.user_archetypes TO anon",
        &["granted, and not by a migration: INSERT, SELECT ON public.user_archetypes TO anon"],
    )
    .await;
    found_and_mended(
        "GRANT UPDATE, TRUNCATE ON public.admin_audit_log TO service_role",
        &["granted, and not by a migration: TRUNCATE, UPDATE ON public.admin_audit_log TO service_role"],
    )
    .await;
    found_and_mended(
        "GRANT EXECUTE ON FUNCTION nudge.drop_partition(text, date) TO PUBLIC",
        &["granted, and not by a migration: EXECUTE ON FUNCTION nudge.drop_partition(parent text, month date) TO PUBLIC"],
    )
    .await;
    found_and_mended(
        "GRANT SELECT ON nudge.recommendation_logs_2026_11 TO authenticated",
        &["granted, and not by a migration: SELECT ON nudge.recommendation_logs_2026_11 TO authenticated"],
    )
    .await;
}

#[tokio::test]
async fn grants_that_are_gone_are_found_and_mended() {
    found_and_mended(
        "REVOKE SELECT ON public.leases FROM authenticated; REVOKE INSERT ON public.leases FROM service_role",
        &[
            "not granted, though a migration did: SELECT ON public.leases TO authenticated",
            "not granted, though a migration did: INSERT ON public.leases TO service_role",
        ],
    )
    .await;
}

#[tokio::test]
async fn tables_without_row_security_are_found_and_mended() {
    found_and_mended(
        "ALTER TABLE public.leases DISABLE ROW LEVEL SECURITY; ALTER TABLE public.profiles FORCE ROW LEVEL SECURITY;
         ALTER TABLE nudge.recommendation_logs_2026_11 DISABLE ROW LEVEL SECURITY",
        &[
            "row level security of nudge.recommendation_logs_2026_11 is off, or forced on the owner",
            "row level security of public.leases is off, or forced on the owner",
            "row level security of public.profiles is off, or forced on the owner",
        ],
    )
    .await;
}

#[tokio::test]
async fn policies_of_others_are_found() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    owner.run("CREATE POLICY more ON public.profiles TO anon USING (true); DROP POLICY leases_select ON public.leases").await;
    let found = findings(&database).await;
    assert_eq!(found.len(), 2);
    let mut told = found.iter().map(ToString::to_string);
    assert!(told.next().unwrap().starts_with("a policy that no migration makes: more on public.profiles"));
    assert!(told.next().unwrap().starts_with("a policy is gone or changed: leases_select on public.leases"));
}

#[tokio::test]
async fn whoever_may_write_their_own_role_is_found() {
    let mine = "(id = (SELECT auth.jwt() ->> 'sub'))";
    // An app that lets people edit their own row.
    let apps = [
        ("GRANT SELECT, UPDATE ON public.profiles TO authenticated", "UPDATE", true),
        ("GRANT SELECT, INSERT ON public.profiles TO authenticated", "INSERT", true),
        ("GRANT SELECT, UPDATE ON public.profiles TO PUBLIC", "UPDATE", true),
        ("GRANT SELECT, UPDATE (full_name, role) ON public.profiles TO authenticated", "UPDATE", true),
        ("GRANT SELECT, UPDATE (full_name) ON public.profiles TO authenticated", "UPDATE", false),
        ("GRANT SELECT ON public.profiles TO authenticated", "UPDATE", false),
    ];
    for (grant, verb, dangerous) in apps {
        let database = Database::empty().await;
        let owner = database.owner().await;
        owner
            .run(
                "CREATE TABLE public.profiles (id text PRIMARY KEY, full_name text, role text);
                  ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;",
            )
            .await;
        database.migrate().await;
        owner
            .run(&format!("{grant}; CREATE POLICY edit ON public.profiles USING {mine} WITH CHECK {mine}"))
            .await;
        owner.run("CREATE INDEX by_id ON public.profiles ((id COLLATE \"C\"))").await;
        let found = findings(&database).await;
        let writable: Vec<_> = found.iter().filter(|f| matches!(f, Finding::WritableRole { .. })).collect();
        assert_eq!(!writable.is_empty(), dangerous, "{grant}: {found:?}");
        for finding in &writable {
            assert!(finding.to_string().contains(&format!("may {verb} profiles.role")), "{finding}");
            assert_eq!(finding.severity(), Severity::Refusal);
            for statement in finding.remedy() {
                owner.run(&statement).await;
            }
        }
        assert!(
            !findings(&database).await.iter().any(|f| matches!(f, Finding::WritableRole { .. })),
            "{grant}"
        );
        // What people may edit besides, they may still.
        if dangerous && verb == "UPDATE" {
            owner.run("INSERT INTO public.profiles VALUES ('ann', 'Ann', 'member')").await;
            owner.run(&Caller::User("ann").begin()).await;
            owner.run("UPDATE public.profiles SET full_name = 'Anna'; ROLLBACK").await;
        }
    }
}

#[tokio::test]
async fn without_a_policy_the_privilege_alone_is_not_enough_and_without_row_security_it_is() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    callers_roles(&database.superuser().await).await;
    owner
        .run("CREATE TABLE public.profiles (id text, role text); ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
              CREATE POLICY see ON public.profiles FOR SELECT USING (true); GRANT ALL ON public.profiles TO authenticated;")
        .await;
    database.migrate().await;
    let writable =
        async || findings(&database).await.iter().any(|f| matches!(f, Finding::WritableRole { .. }));
    assert!(!writable().await);
    owner.run("CREATE POLICY edit ON public.profiles FOR UPDATE TO service_role USING (true)").await;
    assert!(!writable().await, "a policy for others");
    owner.run("ALTER TABLE public.profiles DISABLE ROW LEVEL SECURITY").await;
    assert!(writable().await);
}

#[tokio::test]
async fn of_a_mapped_view_only_what_role_is_made_of_counts() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    owner
        .run("CREATE TABLE public.people (id text PRIMARY KEY, nick text, opt_out boolean, level int);
              CREATE TABLE public.staff (person text, active boolean);
              GRANT UPDATE (nick, opt_out) ON public.people TO PUBLIC; GRANT UPDATE ON public.staff TO PUBLIC;")
        .await;
    database.migrate().await;
    let columns = async || {
        let found = findings(&database).await;
        let mut columns: Vec<String> = found
            .iter()
            .filter_map(|finding| match finding {
                Finding::WritableRole { table, column, .. } => Some(format!("{table}.{column}")),
                _ => None,
            })
            .collect();
        columns.sort();
        columns.dedup();
        columns
    };
    let view = |role: &str, from: &str| {
        format!(
            "CREATE OR REPLACE VIEW nudge.profiles AS SELECT p.id::text COLLATE \"C\" AS id,
               ({role})::text COLLATE \"C\" AS role, p.opt_out AS personalization_opt_out,
               NULL::timestamptz AS created_at FROM public.people AS p {from}"
        )
    };
    owner.run(&view("CASE WHEN p.level > 9 THEN 'admin' ELSE 'member' END", "")).await;
    assert_eq!(columns().await, Vec::<String>::new());
    owner.run("GRANT UPDATE (level) ON public.people TO PUBLIC").await;
    assert_eq!(columns().await, ["people.level"]);
    owner.run("REVOKE UPDATE (level) ON public.people FROM PUBLIC").await;
    let staff = "LEFT JOIN public.staff AS s ON s.person = p.id";
    owner.run(&view("CASE WHEN s.active THEN 'admin' ELSE 'member' END", staff)).await;
    assert_eq!(columns().await, ["staff.active", "staff.person"]);
}

#[tokio::test]
async fn facts_that_do_not_fit_are_warned_of_with_what_mends_them() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    owner
        .run("CREATE TABLE public.leases (id bigint); CREATE TABLE public.lease_members (lease_id text)")
        .await;
    database.migrate().await;
    let found = findings(&database).await;
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "lease_members.user_id: the column is missing; it is text",
            "leases.id: the column is bigint, not text"
        ]
    );
    assert!(found.iter().all(|finding| finding.severity() == Severity::Warning));
    assert!(found[1].remedy()[0].starts_with("CREATE OR REPLACE VIEW nudge.leases AS SELECT …, (…)::text"));
}

#[tokio::test]
async fn rows_of_ours_that_a_mapped_view_hides_are_found() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    owner.run("CREATE TABLE public.homes (id text); INSERT INTO public.leases (id) VALUES ('x')").await;
    owner
        .run("CREATE OR REPLACE VIEW nudge.leases AS SELECT id::text COLLATE \"C\" AS id, NULL::text COLLATE \"C\" AS name,
                NULL::timestamptz AS created_at FROM public.homes")
        .await;
    let found = findings(&database).await;
    assert_eq!(found, [Finding::Hidden { table: "public.leases".into() }]);
    owner.run("DELETE FROM public.leases").await;
    assert_eq!(findings(&database).await, []);
}

#[tokio::test]
async fn lookups_without_an_index_and_months_without_a_partition_are_warned_of() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    owner.run("CREATE TABLE public.profiles (id uuid PRIMARY KEY, role text)").await;
    database.migrate().await;
    owner.run("SELECT nudge.drop_partition('recommendation_logs', (now() AT TIME ZONE 'UTC' + interval '2 months')::date)").await;
    let found = findings(&database).await;
    assert_eq!(found[0], Finding::NoIndex { fact: "profiles".into(), columns: "id".into() });
    assert!(
        matches!(&found[1], Finding::NoPartition { table, .. } if table == "recommendation_logs"),
        "{found:?}"
    );
    owner.run(&found[1].remedy()[0]).await;
    owner.run("CREATE INDEX ON public.profiles (((id::text) COLLATE \"C\"))").await;
    assert_eq!(findings(&database).await, []);
}

#[tokio::test]
async fn the_service_s_own_login_can_look_too() {
    let database = Database::empty().await;
    database.server().await.push(|_| ()).await.unwrap();
    let (name, superuser) = (format!("{}_login", database.name), database.superuser().await);
    superuser
        .run(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'x'; GRANT anon, authenticated, service_role TO {name}"
        ))
        .await;
    {
        let url = database.url().replace(&format!("//{}:", database.owner), &format!("//{name}:"));
        let server = nudge_store::admin::Server::connect(url.parse().unwrap()).await.unwrap();
        assert_eq!(server.findings().await.unwrap(), []);
        assert!(server.verify_rights().await.unwrap().is_right());
        assert!(server.diff().await.unwrap().is_none());
        assert_eq!(server.status().await.unwrap().to_do().count(), 0);
    }
    superuser.run(&format!("DROP ROLE {name}")).await;
}
