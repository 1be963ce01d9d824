//! What the catalogue says of the schema: everything is explained, ordered alike everywhere, and indexed where it is
//! looked up.

use crate::support::*;

#[tokio::test]
async fn every_table_column_view_function_and_trigger_has_a_comment() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let bare = owner
        .column(
            "SELECT format('%s %s', c.relkind, c.oid::regclass) FROM pg_class AS c
             WHERE c.relnamespace IN ('public'::regnamespace, 'nudge'::regnamespace)
               AND c.relkind IN ('r', 'p', 'v', 'S') AND obj_description(c.oid, 'pg_class') IS NULL
               AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'i' AND c.relkind = 'S')
             UNION ALL
             SELECT format('column %s.%s', a.attrelid::regclass, a.attname) FROM pg_attribute AS a
             JOIN pg_class AS c ON c.oid = a.attrelid
             WHERE c.relnamespace IN ('public'::regnamespace, 'nudge'::regnamespace) AND c.relkind IN ('r', 'p', 'v')
               AND a.attnum > 0 AND NOT a.attisdropped AND col_description(a.attrelid, a.attnum) IS NULL
             UNION ALL
             SELECT format('function %s', p.oid::regprocedure) FROM pg_proc AS p
             WHERE p.pronamespace IN ('nudge'::regnamespace, 'private'::regnamespace, 'auth'::regnamespace)
               AND obj_description(p.oid, 'pg_proc') IS NULL
             UNION ALL
             SELECT format('trigger %s', t.tgname) FROM pg_trigger AS t
             WHERE NOT t.tgisinternal AND obj_description(t.oid, 'pg_trigger') IS NULL
             UNION ALL
             SELECT format('schema %s', n.nspname) FROM pg_namespace AS n
             WHERE n.nspname IN ('nudge', 'private', 'auth') AND obj_description(n.oid, 'pg_namespace') IS NULL",
        )
        .await;
    assert!(bare.is_empty(), "without a comment: {bare:#?}");
}

#[tokio::test]
async fn every_text_column_is_ordered_by_its_bytes() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let others = owner
        .column(
            "SELECT format('%s.%s', a.attrelid::regclass, a.attname) FROM pg_attribute AS a
             JOIN pg_class AS c ON c.oid = a.attrelid
             WHERE c.relnamespace IN ('public'::regnamespace, 'nudge'::regnamespace) AND c.relkind IN ('r', 'p', 'v')
               AND a.atttypid = 'text'::regtype AND a.attnum > 0 AND a.attcollation <> '\"C\"'::regcollation",
        )
        .await;
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn order_is_that_of_bytes_under_any_locale() {
    let options = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'";
    let database = Server::shared().database_with("CREATEROLE", options).await;
    database.migrate().await;
    let owner = database.owner().await;
    owner.run("INSERT INTO public.profiles (id) VALUES ('a'), ('B'), ('ä'), ('b'), ('_'), ('A')").await;
    assert_eq!(owner.one("SELECT 'a' < 'B'").await, "t", "the locale is another than C");
    for relation in ["public.profiles", "nudge.profiles"] {
        let ids = owner.column(&format!("SELECT id FROM {relation} ORDER BY id")).await;
        assert_eq!(ids, ["A", "B", "_", "a", "b", "ä"], "{relation}");
        let after = owner.column(&format!("SELECT id FROM {relation} WHERE id > 'B' ORDER BY id")).await;
        assert_eq!(after, ["_", "a", "b", "ä"], "{relation}");
    }
    // Ids of lease and user are found through the helpers too, whose arrays have no collation of their own.
    owner
        .run(
            "INSERT INTO public.leases (id) VALUES ('h'); INSERT INTO public.lease_members VALUES ('h', 'ä')",
        )
        .await;
    owner.run(&Caller::User("ä").begin()).await;
    assert_eq!(owner.one("SELECT id FROM public.leases").await, "h");
    owner.run("ROLLBACK").await;
}

/// What is looked up by which columns, by the statements of the service and by the policies. The first is where an index
/// has to begin; those that follow it are in it too, in any order.
const LOOKUPS: &[(&str, &[&str])] = &[
    ("public.profiles", &["id"]),
    ("public.leases", &["id"]),
    ("public.lease_members", &["lease_id", "user_id"]),
    ("public.lease_members", &["user_id", "lease_id"]),
    ("public.lease_nights", &["lease_id", "night"]),
    ("public.lease_nights", &["held_by"]),
    ("public.date_change_requests", &["id"]),
    ("public.date_change_requests", &["requester_id", "created_at", "id"]),
    ("public.date_change_requests", &["receiver_id", "created_at", "id"]),
    ("public.date_change_requests", &["recommendation_id"]),
    ("public.date_change_requests", &["lease_id"]),
    ("public.date_change_requests", &["created_at"]),
    ("public.user_archetypes", &["user_id"]),
    ("public.user_archetypes", &["archetype_type"]),
    ("public.recommendation_logs", &["id"]),
    ("public.recommendation_logs", &["user_id", "id"]),
    ("public.recommendation_logs", &["created_at"]),
    ("public.recommendation_events", &["user_id", "recommendation_id", "event", "occurrence"]),
    ("public.recommendation_events", &["recommendation_id"]),
    ("public.recommendation_events", &["occurred_at"]),
    ("public.admin_audit_log", &["id"]),
    ("public.admin_audit_log", &["target_user_id"]),
    ("public.admin_audit_log", &["admin_id"]),
    ("public.admin_audit_log", &["created_at"]),
    ("public.archetype_job_logs", &["id"]),
    ("public.archetype_job_logs", &["started_at"]),
    ("public.archetype_job_logs", &["completed_at"]),
    ("public.edge_function_logs", &["id"]),
    ("public.edge_function_logs", &["created_at"]),
    ("public.edge_function_logs", &["request_id"]),
    ("nudge.stale_users", &["user_id"]),
    ("nudge.user_changes", &["revision"]),
    ("nudge.spool_receipts", &["spool_id"]),
    ("nudge.job_requests", &["id"]),
    ("nudge.job_leases", &["job_type"]),
    ("nudge.job_failures", &["run_id", "user_id"]),
    ("nudge.report_cells", &["day", "archetype_type", "urgency_level", "primary_recommendation", "audience"]),
    ("nudge.report_requests", &["day", "status", "response_time_ms"]),
    ("nudge.log_drains", &["name"]),
    ("nudge.ended_sessions", &["id"]),
    ("nudge.alert_states", &["rule", "instance"]),
    ("nudge.alert_transitions", &["id"]),
    ("nudge.alert_silences", &["id"]),
];

#[tokio::test]
async fn what_is_looked_up_by_is_indexed() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let indexes = owner
        .rows(
            "SELECT i.indrelid::regclass, string_agg(a.attname, ',' ORDER BY k.place) FROM pg_index AS i
             CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE k.place <= i.indnkeyatts GROUP BY i.indexrelid, i.indrelid",
        )
        .await;
    for (table, columns) in LOOKUPS {
        let found = indexes.iter().any(|index| {
            let table = table.strip_prefix("public.").unwrap_or(table);
            let mut keys = index[1].split(',');
            index[0] == table
                && keys.next() == columns.first().copied()
                && columns[1..].iter().all(|column| index[1].split(',').any(|key| key == *column))
        });
        assert!(found, "no index of {table} for {columns:?} in {indexes:?}");
    }
    // And every column that a policy compares is among those lookups, as the first one.
    let policies = owner
        .rows(
            "SELECT p.polrelid::regclass, a.attname FROM pg_policy AS p
             JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.polrelid AND d.refobjsubid > 0
             JOIN pg_attribute AS a ON a.attrelid = p.polrelid AND a.attnum = d.refobjsubid ORDER BY 1, 2",
        )
        .await;
    assert!(policies.len() >= 9, "{policies:?}");
    for policy in policies {
        let table = format!("public.{}", policy[0]);
        assert!(
            LOOKUPS.iter().any(|(of, columns)| *of == table && columns[0] == policy[1]),
            "the policy of {table} compares {}",
            policy[1]
        );
    }
}

#[tokio::test]
async fn functions_find_names_in_no_schema_that_others_can_write_to() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let others = owner
        .column(
            "SELECT oid::regprocedure FROM pg_proc
             WHERE pronamespace IN ('nudge'::regnamespace, 'private'::regnamespace, 'auth'::regnamespace)
               AND NOT coalesce('search_path=\"\"' = ANY (proconfig), false)",
        )
        .await;
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn columns_are_those_of_the_embedded_engine() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let mut embedded: Vec<_> = std::fs::read_dir(format!("{}/migrations/sqlite", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    embedded.sort();
    let versions = |files: &[std::path::PathBuf]| {
        let mut names: Vec<_> =
            files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    // The platform is a matter of PostgreSQL alone.
    assert_eq!(versions(&migrations())[1..], versions(&embedded));
    let sqlite: String = embedded.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for table in EXPOSED {
        // A table that was made anew counts as it was made last.
        let body =
            sqlite.split(&format!("CREATE TABLE {table} (\n")).last().unwrap().split("\n)").next().unwrap();
        let mut columns: Vec<&str> = body
            .lines()
            .filter(|line| line.starts_with("  ") && line.as_bytes()[2].is_ascii_lowercase())
            .map(|line| line.split_whitespace().next().unwrap())
            // The order of arrival is that engine's own, and not exposed.
            .filter(|column| (table, *column) != ("recommendation_logs", "seq"))
            .collect();
        columns.sort_unstable();
        let ours = owner
            .column(&format!(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'public.{table}'::regclass AND attnum > 0
                 ORDER BY attname COLLATE \"C\""
            ))
            .await;
        assert_eq!(ours, columns, "{table}");
    }
}
