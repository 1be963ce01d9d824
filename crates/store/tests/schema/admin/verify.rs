//! The walk through the table of rights, on databases that are right and on those that are not.

use nudge_store::admin::{Asker, Found, Matrix, Verdict};

use crate::support::*;

async fn walk(database: &Database) -> Matrix {
    database.server().await.verify_rights().await.unwrap()
}

/// Gives what is not right, as `table caller verb verdict`.
fn wrong(matrix: &Matrix) -> Vec<String> {
    let wrong = matrix.cells.iter().filter(|cell| cell.verdict != Verdict::Right);
    wrong
        .map(|cell| format!("{} {} {} {:?}", cell.table, cell.caller.as_str(), cell.verb, cell.verdict))
        .collect()
}

#[tokio::test]
async fn a_fresh_database_is_right_and_nothing_is_left_of_the_walk() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let counts = async || {
        let mut counts = Vec::new();
        for table in
            EXPOSED.map(|table| format!("public.{table}")).iter().chain(&["nudge.user_changes".to_owned()])
        {
            counts.push(owner.one(&format!("SELECT count(*) FROM {table}")).await);
        }
        counts
    };
    let before = counts().await;
    let matrix = walk(&database).await;
    assert!(
        matrix.is_right(),
        "{:#?}",
        matrix.cells.iter().filter(|c| c.verdict != Verdict::Right).collect::<Vec<_>>()
    );
    assert_eq!(matrix.cells.len(), EXPOSED.len() * 4 * 4);
    assert!(matrix.not_ours.is_empty());
    assert_eq!(counts().await, before);
    let events = matrix.cells.iter().find(|cell| {
        (cell.table, cell.caller, cell.verb) == ("recommendation_events", Asker::Service, "update")
    });
    assert_eq!(events.unwrap().found, Found::AppendOnly);
}

#[tokio::test]
async fn leaks_and_blocked_rights_are_told_apart() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    for (change, expected, undone) in [
        (
            "GRANT SELECT ON public.user_archetypes TO anon",
            // The policies give anon no row, but the privilege is there.
            vec!["user_archetypes anon select Leak"],
            "REVOKE SELECT ON public.user_archetypes FROM anon",
        ),
        (
            "CREATE POLICY more ON public.profiles FOR SELECT TO authenticated USING (true)",
            vec!["profiles user select Leak"],
            "DROP POLICY more ON public.profiles",
        ),
        (
            "CREATE POLICY more ON public.admin_audit_log FOR SELECT TO authenticated USING (true)",
            vec!["admin_audit_log user select Leak"],
            "DROP POLICY more ON public.admin_audit_log",
        ),
        (
            "GRANT UPDATE ON public.profiles TO authenticated;
             CREATE POLICY more ON public.profiles FOR UPDATE TO authenticated USING (true)",
            vec!["profiles user update Leak", "profiles admin update Leak"],
            "DROP POLICY more ON public.profiles; REVOKE UPDATE ON public.profiles FROM authenticated",
        ),
        (
            "ALTER TABLE public.lease_nights DISABLE ROW LEVEL SECURITY",
            vec!["lease_nights user select Leak"],
            "ALTER TABLE public.lease_nights ENABLE ROW LEVEL SECURITY",
        ),
        (
            "REVOKE SELECT ON public.leases FROM authenticated",
            vec!["leases user select Blocked", "leases admin select Blocked"],
            "GRANT SELECT ON public.leases TO authenticated",
        ),
        (
            "ALTER POLICY leases_select ON public.leases USING (false)",
            vec!["leases user select Blocked", "leases admin select Blocked"],
            "ALTER POLICY leases_select ON public.leases USING (id = ANY ((SELECT private.my_leases())::text[])
               OR (SELECT private.is_admin()))",
        ),
        (
            "DROP POLICY edge_function_logs_service ON public.edge_function_logs",
            vec![
                "edge_function_logs service select Blocked",
                "edge_function_logs service insert Blocked",
                "edge_function_logs service update Blocked",
                "edge_function_logs service delete Blocked",
            ],
            "CREATE POLICY edge_function_logs_service ON public.edge_function_logs TO service_role
               USING (true) WITH CHECK (true)",
        ),
    ] {
        owner.run(change).await;
        let matrix = walk(&database).await;
        assert!(!matrix.is_right());
        assert_eq!(wrong(&matrix), expected, "{change}");
        owner.run(undone).await;
        assert!(walk(&database).await.is_right(), "after {undone}");
    }
}

#[tokio::test]
async fn the_app_s_tables_are_not_tried_and_what_cannot_be_tried_is_said() {
    let database = Database::empty().await;
    database
        .owner()
        .await
        .run("CREATE TABLE public.profiles (id text, role text); CREATE TABLE public.lease_members (lease_id text, user_id text);")
        .await;
    database.migrate().await;
    let matrix = walk(&database).await;
    assert_eq!(matrix.not_ours, ["profiles", "lease_members"]);
    assert!(!matrix.is_right(), "nobody can be tried as an admin");
    let untried = wrong(&matrix);
    assert!(untried.contains(&"user_archetypes admin select Untried".to_owned()), "{untried:?}");
    assert!(untried.contains(&"lease_nights user select Untried".to_owned()), "{untried:?}");
    assert!(untried.iter().all(|cell| cell.ends_with("Untried")), "{untried:?}");
    // With an admin in the app's table, admins are tried.
    database.owner().await.run("INSERT INTO public.profiles VALUES ('boss', 'admin')").await;
    let untried = wrong(&walk(&database).await);
    assert_eq!(untried, ["leases user select Untried", "lease_nights user select Untried"]);
}

#[tokio::test]
async fn real_rows_are_neither_read_nor_locked() {
    let database = Database::migrated().await;
    let other = database.owner().await;
    other.run(&(archetype("ann") + "BEGIN; UPDATE public.user_archetypes SET policy = 'x'")).await;
    assert!(walk(&database).await.is_right());
    other.run("ROLLBACK").await;
}
