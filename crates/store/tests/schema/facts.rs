//! Facts that the app already keeps: its tables are left as they are, and read where they fit.

use tokio_postgres::error::SqlState;

use crate::support::*;

/// What can be seen of a table of the app from outside: that a migration has not touched it.
async fn fingerprint(owner: &Client) -> Vec<Vec<String>> {
    owner
        .rows(
            "SELECT c.oid::regclass, c.oid, c.relfilenode, c.relacl, c.relrowsecurity, c.relhastriggers, c.relowner,
               obj_description(c.oid), (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid),
               (SELECT string_agg(format('%s %s %s %s', attname, atttypid::regtype, attnotnull, attacl), ',' ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)
             FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relname ~ '^(profiles|leases|lease_|date_)'
               AND c.relkind IN ('r', 'v', 'i') ORDER BY 1",
        )
        .await
}

/// Makes a database over an app's own tables, and says that they are as they were.
async fn over(app: &str) -> Database {
    let database = Database::empty().await;
    let owner = database.owner().await;
    owner.run(app).await;
    let before = fingerprint(&owner).await;
    database.migrate().await;
    let after = fingerprint(&owner).await;
    for row in &before {
        assert!(after.contains(row), "{row:?} is not as it was");
    }
    database
}

async fn state(owner: &Client, fact: &str) -> String {
    owner.one(&format!("SELECT state FROM nudge.fact_states WHERE name = '{fact}'")).await
}

const VIEWS: [&str; 5] = ["profiles", "leases", "lease_members", "lease_nights", "date_change_requests"];

/// Types and collations of the views' columns; the same whatever is behind them, so that they can be replaced.
async fn shapes(owner: &Client) -> Vec<Vec<String>> {
    owner
        .rows(
            "SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod), attcollation::regcollation
             FROM pg_attribute WHERE attrelid = ANY (ARRAY['nudge.profiles', 'nudge.leases', 'nudge.lease_members',
               'nudge.lease_nights', 'nudge.date_change_requests']::regclass[]) ORDER BY attrelid::regclass::text, attnum",
        )
        .await
}

/// An app with every table, in types that are cast.
const FITTING: &str = "
    CREATE TYPE public.kind AS ENUM ('buyout', 'crash', 'swap');
    CREATE TABLE public.profiles (id uuid PRIMARY KEY, full_name text, role varchar(20));
    CREATE TABLE public.leases (id uuid PRIMARY KEY, name varchar(80), created_at timestamptz DEFAULT now());
    CREATE TABLE public.lease_members (lease_id uuid, user_id uuid, since date);
    CREATE TABLE public.lease_nights (lease_id uuid, night date, held_by uuid, base_price numeric(10, 2));
    CREATE TABLE public.date_change_requests (id char(8), requester_id uuid, receiver_id uuid, transaction_type kind,
      target_night date, proposed_price numeric, status text, created_at timestamptz);
    INSERT INTO public.profiles VALUES
      ('00000000-0000-0000-0000-00000000000A', 'Ann', 'admin'), ('00000000-0000-0000-0000-00000000000b', 'Bob', 'owner'),
      ('00000000-0000-0000-0000-00000000000c', 'Eve', NULL);
    INSERT INTO public.leases VALUES ('10000000-0000-0000-0000-000000000000', 'Home');
    INSERT INTO public.lease_members VALUES
      ('10000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-00000000000b', '2026-01-01');
    INSERT INTO public.lease_nights VALUES ('10000000-0000-0000-0000-000000000000', '2026-12-01', NULL, 150);
    INSERT INTO public.date_change_requests VALUES ('r1', '00000000-0000-0000-0000-00000000000a',
      '00000000-0000-0000-0000-00000000000b', 'swap', '2026-12-01', NULL, 'pending', '2026-11-10T00:00:00Z');";

#[tokio::test]
async fn tables_that_fit_are_read_and_left_alone() {
    let database = over(FITTING).await;
    let owner = database.owner().await;
    for fact in VIEWS {
        assert_eq!(state(&owner, fact).await, "mapped", "{fact}");
        assert!(owner.rows(&format!("SELECT * FROM nudge.fact_problems('{fact}')")).await.is_empty());
    }
    assert!(owner.column("SELECT name FROM nudge.facts").await.is_empty());
    let profiles = owner
        .rows("SELECT id, role, personalization_opt_out, created_at FROM nudge.profiles ORDER BY id")
        .await;
    // Roles that the service does not know are no admins; what the table lacks has its default.
    assert_eq!(
        profiles,
        [
            ["00000000-0000-0000-0000-00000000000a", "admin", "f", "∅"],
            ["00000000-0000-0000-0000-00000000000b", "member", "f", "∅"],
            ["00000000-0000-0000-0000-00000000000c", "member", "f", "∅"],
        ]
    );
    let nights = owner.rows("SELECT base_price, market_demand, held_by FROM nudge.lease_nights").await;
    assert_eq!(nights, [["150.00", "1.0", "∅"]]);
    let requests = owner
        .rows("SELECT id, transaction_type, lease_id, responded_at FROM nudge.date_change_requests")
        .await;
    assert_eq!(requests, [["r1", "swap", "∅", "∅"]]);
    // The helpers of the policies see the same facts.
    owner.run(&archetype("somebody")).await;
    for (who, rows) in
        [("00000000-0000-0000-0000-00000000000a", 1), ("00000000-0000-0000-0000-00000000000b", 0)]
    {
        owner.run(&Caller::User(who).begin()).await;
        assert_eq!(owner.rows("SELECT * FROM public.user_archetypes").await.len(), rows, "{who}");
        owner.run("ROLLBACK").await;
    }
}

#[tokio::test]
async fn views_have_one_shape_whatever_is_behind_them() {
    let own = Database::migrated().await;
    let expected = shapes(&own.owner().await).await;
    assert_eq!(expected.len(), 27);
    for row in &expected {
        assert_eq!(row[3], if row[2] == "text" { "\"C\"" } else { "-" }, "{row:?}");
        assert!(
            ["text", "date", "timestamp with time zone", "numeric", "boolean"].contains(&row[2].as_str())
        );
    }
    let mapped = over(FITTING).await;
    assert_eq!(shapes(&mapped.owner().await).await, expected);
    let empty = over(
        "CREATE TABLE public.profiles (n int); CREATE TABLE public.leases (n int);
      CREATE TABLE public.lease_members (n int); CREATE TABLE public.lease_nights (n int);
      CREATE TABLE public.date_change_requests (n int);",
    )
    .await;
    assert_eq!(shapes(&empty.owner().await).await, expected);
}

#[tokio::test]
async fn absent_tables_are_ours_and_exposed_while_others_are_the_app_s() {
    let database = over(
        "CREATE TABLE public.profiles (id uuid PRIMARY KEY, role text);
      CREATE TABLE public.leases (id text, created_at timestamptz); GRANT SELECT ON public.leases TO PUBLIC;",
    )
    .await;
    let owner = database.owner().await;
    let ours = owner.column("SELECT name FROM nudge.facts ORDER BY name").await;
    assert_eq!(ours, ["date_change_requests", "lease_members", "lease_nights"]);
    for (fact, expected) in VIEWS.iter().zip(["mapped", "mapped", "own", "own", "own"]) {
        assert_eq!(state(&owner, fact).await, expected, "{fact}");
    }
    let policies = owner
        .column("SELECT DISTINCT tablename FROM pg_policies WHERE schemaname = 'public' ORDER BY 1")
        .await;
    assert!(
        !policies.contains(&"profiles".to_owned()) && !policies.contains(&"leases".to_owned()),
        "{policies:?}"
    );
    assert!(policies.contains(&"lease_nights".to_owned()));
}

#[tokio::test]
async fn what_does_not_fit_is_empty_and_said_column_by_column() {
    let database = over(
        "CREATE TABLE public.profiles (id bigint, role int, personalization_opt_out text, created_at timestamp);
         CREATE TABLE public.lease_nights (lease_id text, night timestamptz, base_price money, market_demand float8);
         INSERT INTO public.profiles VALUES (1, 2, 'x', now());",
    )
    .await;
    let owner = database.owner().await;
    let problems = async |fact: &str| {
        owner.rows(&format!("SELECT column_name, problem FROM nudge.fact_problems('{fact}')")).await
    };
    assert_eq!(state(&owner, "profiles").await, "empty");
    assert!(owner.rows("SELECT * FROM nudge.profiles").await.is_empty());
    assert_eq!(
        problems("profiles").await,
        [
            ["id", "the column is bigint, not text"],
            ["role", "the column is integer, not text"],
            ["personalization_opt_out", "the column is text, not boolean"],
            ["created_at", "the column is timestamp without time zone, not timestamptz"],
        ]
    );
    assert_eq!(
        problems("lease_nights").await,
        [
            ["night", "the column is timestamp with time zone, not date"],
            ["base_price", "the column is money, not numeric"],
            ["market_demand", "the column is double precision, not numeric"],
        ]
    );
    let missing = over("CREATE TABLE public.date_change_requests (id text)").await;
    let owner = missing.owner().await;
    let columns = owner.column("SELECT column_name FROM nudge.fact_problems('date_change_requests')").await;
    assert_eq!(
        columns,
        ["requester_id", "receiver_id", "transaction_type", "target_night", "status", "created_at"]
    );
}

#[tokio::test]
async fn an_operator_mends_a_view_with_the_statement_that_is_told() {
    let database = over(
        "CREATE TABLE public.profiles (user_number bigint PRIMARY KEY, kind text);
         INSERT INTO public.profiles VALUES (7, 'boss'), (8, 'guest');",
    )
    .await;
    let owner = database.owner().await;
    assert_eq!(state(&owner, "profiles").await, "empty");
    let remedy =
        owner.one("SELECT remedy FROM nudge.fact_problems('profiles') WHERE column_name = 'id'").await;
    assert!(remedy.contains("(…)::text COLLATE \"C\" AS id"), "{remedy}");
    owner
        .run(
            "CREATE OR REPLACE VIEW nudge.profiles AS SELECT user_number::text COLLATE \"C\" AS id,
               (CASE kind WHEN 'boss' THEN 'admin' ELSE 'member' END)::text COLLATE \"C\" AS role,
               false AS personalization_opt_out, NULL::timestamptz AS created_at FROM public.profiles",
        )
        .await;
    assert_eq!(state(&owner, "profiles").await, "mapped");
    assert_eq!(owner.rows("SELECT id, role FROM nudge.profiles").await, [["7", "admin"], ["8", "member"]]);
    // The grants are as they were, and another shape is refused.
    owner.run("SET ROLE service_role; SELECT * FROM nudge.profiles; RESET ROLE").await;
    let refused = owner
        .refused(
            "CREATE OR REPLACE VIEW nudge.profiles AS SELECT user_number::text AS id, kind AS role,
               false AS personalization_opt_out, NULL::timestamptz AS created_at FROM public.profiles",
        )
        .await;
    assert_eq!(refused.code, SqlState::INVALID_TABLE_DEFINITION);
}

#[tokio::test]
async fn a_table_that_has_been_mended_is_mapped_again() {
    let database = over("CREATE TABLE public.leases (id text)").await;
    let owner = database.owner().await;
    assert_eq!(state(&owner, "leases").await, "mapped");
    let database = over("CREATE TABLE public.lease_members (lease_id text)").await;
    let owner = database.owner().await;
    assert_eq!(state(&owner, "lease_members").await, "empty");
    owner.run("ALTER TABLE public.lease_members ADD COLUMN user_id text").await;
    owner.run("INSERT INTO public.lease_members VALUES ('home', 'ann')").await;
    assert_eq!(owner.one("SELECT nudge.map_fact('lease_members')").await, "mapped");
    assert_eq!(owner.rows("SELECT * FROM nudge.lease_members").await, [["home", "ann"]]);
}

#[tokio::test]
async fn a_view_over_another_table_is_mapped_though_ours_is_there() {
    let database = over("CREATE TABLE public.datechange (id text, who text)").await;
    let owner = database.owner().await;
    assert_eq!(state(&owner, "lease_members").await, "own");
    owner
        .run(
            "CREATE OR REPLACE VIEW nudge.lease_members AS
               SELECT id::text COLLATE \"C\" AS lease_id, who::text COLLATE \"C\" AS user_id FROM public.datechange",
        )
        .await;
    assert_eq!(state(&owner, "lease_members").await, "mapped");
    let row = owner.rows("SELECT ours, reads FROM nudge.fact_states WHERE name = 'lease_members'").await;
    assert_eq!(row, [["t", "{public.datechange}"]]);
    // Back to our own.
    assert_eq!(owner.one("SELECT nudge.map_fact('lease_members')").await, "own");
    assert_eq!(state(&owner, "lease_members").await, "own");
    // Read both: no longer our own alone.
    owner
        .run(
            "CREATE OR REPLACE VIEW nudge.lease_members AS SELECT lease_id, user_id FROM public.lease_members
               UNION ALL SELECT id::text COLLATE \"C\", who::text COLLATE \"C\" FROM public.datechange",
        )
        .await;
    assert_eq!(state(&owner, "lease_members").await, "mapped");
}

/// An app's table that belongs to somebody else.
async fn of_another_owner(sql: &str) -> (Database, String) {
    let database = Database::empty().await;
    let superuser = database.superuser().await;
    let app = format!("{}_app", database.name);
    superuser.run(&format!("CREATE ROLE {app}; GRANT CREATE ON SCHEMA public TO {app}")).await;
    superuser.run(&format!("SET ROLE {app}; {}", sql.replace("OWNER", &database.owner))).await;
    database.migrate().await;
    (database, app)
}

/// Removes what `of_another_owner` has made.
async fn remove(database: &Database, app: &str) {
    database.superuser().await.run(&format!("DROP OWNED BY {app} CASCADE; DROP ROLE {app}")).await;
}

const LEASES_OF_APP: &str = "CREATE TABLE public.leases (id text, name text, created_at timestamptz); INSERT INTO public.leases VALUES ('a');";

#[tokio::test]
async fn rows_hidden_from_the_owner_are_found_out() {
    let hidden = format!(
        "{LEASES_OF_APP} ALTER TABLE public.leases ENABLE ROW LEVEL SECURITY;
      GRANT SELECT ON public.leases TO OWNER;"
    );
    let (database, app) = of_another_owner(&hidden).await;
    let owner = database.owner().await;
    assert!(owner.rows("SELECT * FROM public.leases").await.is_empty(), "without an error");
    assert_eq!(state(&owner, "leases").await, "empty");
    let problem = owner.rows("SELECT problem, remedy FROM nudge.fact_problems('leases')").await;
    assert_eq!(problem.len(), 1);
    assert!(problem[0][0].starts_with("row security hides rows of public.leases"), "{problem:?}");
    // A policy for some rows does not mend it; the statement that is told does.
    let superuser = database.superuser().await;
    superuser.run("CREATE POLICY several ON public.leases USING (id = 'b')").await;
    assert_eq!(owner.one("SELECT nudge.map_fact('leases')").await, "empty");
    superuser.run(&problem[0][1]).await;
    assert_eq!(owner.one("SELECT nudge.map_fact('leases')").await, "mapped");
    assert_eq!(owner.column("SELECT id FROM nudge.leases").await, ["a"]);
    // A restrictive policy hides rows again.
    superuser.run("CREATE POLICY few ON public.leases AS RESTRICTIVE USING (id = 'b')").await;
    assert_eq!(owner.one("SELECT nudge.map_fact('leases')").await, "empty");
    remove(&database, &app).await;
}

#[tokio::test]
async fn a_table_that_the_owner_may_not_read_is_told_with_its_grant() {
    let (database, app) = of_another_owner(LEASES_OF_APP).await;
    let owner = database.owner().await;
    assert_eq!(state(&owner, "leases").await, "empty");
    let problem = owner.rows("SELECT problem, remedy FROM nudge.fact_problems('leases')").await;
    assert_eq!(problem[0][1], format!("GRANT SELECT ON public.leases TO {};", database.owner));
    database.superuser().await.run(&problem[0][1]).await;
    assert_eq!(owner.one("SELECT nudge.map_fact('leases')").await, "mapped");
    remove(&database, &app).await;
}

#[tokio::test]
async fn the_app_s_own_row_security_does_not_hide_rows_from_the_owner_of_the_table() {
    let database =
        over(&format!("{LEASES_OF_APP} ALTER TABLE public.leases ENABLE ROW LEVEL SECURITY;")).await;
    let owner = database.owner().await;
    assert_eq!(state(&owner, "leases").await, "mapped");
    owner.run("ALTER TABLE public.leases FORCE ROW LEVEL SECURITY").await;
    assert_eq!(owner.one("SELECT nudge.map_fact('leases')").await, "empty");
}

#[tokio::test]
async fn an_app_s_view_is_mapped_unless_it_reads_as_its_invoker() {
    let app = "CREATE TABLE public.homes (id text); INSERT INTO public.homes VALUES ('a');
      CREATE VIEW public.leases AS SELECT id FROM public.homes;";
    let database = over(app).await;
    let owner = database.owner().await;
    assert_eq!(state(&owner, "leases").await, "mapped");
    assert_eq!(owner.column("SELECT id FROM nudge.leases").await, ["a"]);
    owner.run("ALTER VIEW public.leases SET (security_invoker = true)").await;
    assert_eq!(owner.one("SELECT nudge.map_fact('leases')").await, "empty");
    // Something of that name that is no table at all.
    let database = over("CREATE SEQUENCE public.leases").await;
    let owner = database.owner().await;
    assert_eq!(state(&owner, "leases").await, "empty");
    assert_eq!(
        owner.one("SELECT problem FROM nudge.fact_problems('leases')").await,
        "public.leases is no table"
    );
}

#[tokio::test]
async fn an_index_behind_a_cast_is_used_in_the_form_that_the_docs_name() {
    let database = over(FITTING).await;
    let owner = database.owner().await;
    owner
        .run(
            "INSERT INTO public.profiles (id) SELECT gen_random_uuid() FROM generate_series(1, 2000);
             CREATE INDEX by_text ON public.profiles (((id::text) COLLATE \"C\")); ANALYZE public.profiles;",
        )
        .await;
    let plan = owner.column("EXPLAIN SELECT role FROM nudge.profiles WHERE id = 'x'").await.join("\n");
    assert!(plan.contains("by_text"), "{plan}");
}

#[tokio::test]
async fn a_helper_of_the_app_is_not_replaced() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    owner
        .run(
            "CREATE SCHEMA private;
             CREATE FUNCTION private.is_admin() RETURNS boolean LANGUAGE sql AS 'SELECT true';",
        )
        .await;
    let [platform, facts] = [0, 1].map(|n| std::fs::read_to_string(&migrations()[n]).unwrap());
    owner.run(&platform).await;
    let refused = owner.refused(&facts).await;
    assert_eq!(refused.code, SqlState::DUPLICATE_FUNCTION);
    assert!(refused.hint.contains("ALTER FUNCTION"), "{refused:?}");
    // All of the file or nothing of it.
    assert_eq!(owner.one("SELECT to_regclass('public.profiles')").await, "∅");
    assert_eq!(owner.one("SELECT to_regclass('nudge.facts')").await, "∅");
    owner.run("ALTER FUNCTION private.is_admin() RENAME TO app_is_admin").await;
    owner.run(&facts).await;
}
