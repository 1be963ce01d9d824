//! The table of rights, asked of the database itself: caller × table × verb × whose row.

use nudge_store::rights::{exposed_tables, scope};
use nudge_store::{Grade, Scope, Verb};
use tokio_postgres::error::SqlState;

use crate::support::*;

/// Rows of ann, of bob, and of nobody, in every table.
async fn populate(database: &Database) {
    let owner = database.owner().await;
    let mut sql = String::from(
        "INSERT INTO public.profiles (id, role) VALUES ('ann', 'member'), ('bob', 'member'), ('root', 'admin');
         INSERT INTO public.leases (id) VALUES ('ann-home'), ('bob-home');
         INSERT INTO public.lease_members VALUES ('ann-home', 'ann'), ('bob-home', 'bob');
         INSERT INTO public.lease_nights (lease_id, night, held_by, base_price)
           VALUES ('ann-home', '2026-12-01', 'ann', 150), ('bob-home', '2026-12-01', 'bob', 150);
         INSERT INTO public.date_change_requests (id, requester_id, receiver_id, transaction_type, target_night,
             status, created_at)
           VALUES ('1', 'ann', 'eve', 'swap', '2026-12-01', 'pending', now()),
             ('2', 'eve', 'ann', 'swap', '2026-12-01', 'pending', now()),
             ('3', 'bob', 'eve', 'swap', '2026-12-01', 'pending', now());",
    );
    for (number, who) in [(1, "ann"), (2, "bob")] {
        sql += &archetype(who);
        sql += &decision(number, who);
        sql += &event(number, who);
    }
    sql += &decision(3, "anonymous");
    sql += AUDIT_ENTRY;
    sql += &format!(
        "INSERT INTO public.archetype_job_logs (id, job_type, status, started_at)
           VALUES ('{0}', 'full', 'completed', '{DAY}');
         INSERT INTO public.edge_function_logs (id, function_name, method, status, response_time_ms, request_id,
             user_id, created_at)
           VALUES ('{0}', 'x', 'GET', 200, 1, 'r', 'ann', '{DAY}');",
        id(9)
    );
    owner.run(&sql).await;
}

/// Rows of ann, and all rows.
fn rows_of(table: &str) -> (usize, usize) {
    match table {
        "recommendation_logs" => (1, 3),
        "admin_audit_log" | "archetype_job_logs" | "edge_function_logs" => (0, 1),
        "profiles" => (1, 3),
        "date_change_requests" => (2, 3),
        _ => (1, 2),
    }
}

/// A row more of ann's.
fn insert(table: &str) -> String {
    match table {
        "user_archetypes" => archetype("new"),
        "recommendation_logs" => decision(4, "ann"),
        "recommendation_events" => event(4, "ann"),
        "admin_audit_log" => AUDIT_ENTRY.to_owned(),
        "archetype_job_logs" => format!(
            "INSERT INTO public.archetype_job_logs (id, job_type, status, started_at)
               VALUES ('{}', 'full', 'completed', '{DAY}')",
            id(10)
        ),
        "edge_function_logs" => format!(
            "INSERT INTO public.edge_function_logs (id, function_name, method, status, response_time_ms, request_id,
               created_at) VALUES ('{}', 'x', 'GET', 200, 1, 'r', '{DAY}')",
            id(10)
        ),
        "profiles" => "INSERT INTO public.profiles (id, role) VALUES ('new', 'admin')".into(),
        "leases" => "INSERT INTO public.leases (id) VALUES ('new')".into(),
        "lease_members" => "INSERT INTO public.lease_members VALUES ('bob-home', 'ann')".into(),
        "lease_nights" => "INSERT INTO public.lease_nights VALUES ('ann-home', '2026-12-02', 'ann', 1)".into(),
        "date_change_requests" => {
            "INSERT INTO public.date_change_requests (id, requester_id, receiver_id, transaction_type, target_night,
               status) VALUES ('4', 'ann', 'bob', 'swap', '2026-12-01', 'accepted')"
                .into()
        }
        other => panic!("{other} is not exposed"),
    }
}

/// A change of every row that is seen.
fn update(table: &str) -> String {
    let column = match table {
        "recommendation_events" | "lease_members" => "user_id",
        "lease_nights" => "lease_id",
        "user_archetypes" => "policy",
        _ => "id",
    };
    format!("UPDATE public.{table} SET {column} = {column}")
}

const CALLERS: [(Caller, Grade); 5] = [
    (Caller::Anonymous, Grade::Anonymous),
    (Caller::User("ann"), Grade::Member),
    (Caller::User("stranger"), Grade::Member),
    (Caller::User("root"), Grade::Admin),
    (Caller::Service, Grade::Service),
];

/// Walks the matrix and compares with what the service's own table of rights says.
async fn walk(database: &Database) {
    populate(database).await;
    let owner = database.owner().await;
    assert_eq!(exposed_tables().collect::<Vec<_>>(), EXPOSED);
    for (caller, grade) in CALLERS {
        for table in EXPOSED {
            let (own, all) = rows_of(table);
            let visible = match scope(grade, table, Verb::Select) {
                Scope::NoPrivilege => None,
                Scope::Nobody => Some(0),
                Scope::Own => Some(if caller == Caller::User("ann") { own } else { 0 }),
                Scope::All => Some(all),
            };
            for (verb, sql) in [
                (Verb::Select, format!("SELECT * FROM public.{table}")),
                (Verb::Insert, insert(table)),
                (Verb::Update, update(table)),
                (Verb::Delete, format!("DELETE FROM public.{table}")),
            ] {
                let what = format!("{caller:?} {verb:?} {table}");
                owner.run(&caller.begin()).await;
                let may = scope(grade, table, verb);
                if may == Scope::NoPrivilege {
                    assert_eq!(owner.refused(&sql).await.code, SqlState::INSUFFICIENT_PRIVILEGE, "{what}");
                } else if verb == Verb::Select {
                    assert_eq!(Some(owner.rows(&sql).await.len()), visible, "{what}");
                } else if (table, verb) == ("recommendation_events", Verb::Update) {
                    // The privilege is there, and what happened does not change.
                    assert_eq!(owner.refused(&sql).await.code, SqlState::RESTRICT_VIOLATION, "{what}");
                } else {
                    let changed =
                        owner.execute(&sql, &[]).await.unwrap_or_else(|e| panic!("{what}: {}", tell(&e)));
                    assert_eq!(changed, if verb == Verb::Insert { 1 } else { all as u64 }, "{what}");
                }
                owner.run("ROLLBACK").await;
            }
            owner.run(&caller.begin()).await;
            let truncated = owner.refused(&format!("TRUNCATE public.{table}")).await;
            assert_eq!(truncated.code, SqlState::INSUFFICIENT_PRIVILEGE, "{caller:?} TRUNCATE {table}");
            owner.run("ROLLBACK").await;
        }
    }
}

#[tokio::test]
async fn every_caller_has_the_rights_of_the_table_and_no_others() {
    walk(&Database::migrated().await).await;
}

#[tokio::test]
async fn default_grants_of_everything_change_nothing() {
    let everything = ["anon", "authenticated", "service_role", "PUBLIC"].map(|role| {
        ["TABLES", "FUNCTIONS", "SEQUENCES"]
            .map(|kind| {
                format!(
                    "ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {role};
                     ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO {role};"
                )
            })
            .concat()
            + &format!("ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO {role};")
    });
    let database = Database::empty().await;
    let owner = database.owner().await;
    callers_roles(&owner).await;
    owner.run(&everything.concat()).await;
    database.migrate().await;
    walk(&database).await;
    nothing_else_is_granted(&database).await;
}

#[tokio::test]
async fn default_grants_of_nothing_change_nothing() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    callers_roles(&owner).await;
    owner
        .run(
            "ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;
             ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC;
             REVOKE ALL ON SCHEMA public FROM PUBLIC;",
        )
        .await;
    database.migrate().await;
    walk(&database).await;
    nothing_else_is_granted(&database).await;
}

/// What anon, authenticated, service_role and everybody may do with what is ours is exactly this.
async fn nothing_else_is_granted(database: &Database) {
    let owner = database.owner().await;
    let mut granted = owner
        .column(
            "SELECT format('%s %s: %s', object, grantee, string_agg(privilege, ' ' ORDER BY privilege)) FROM (
               SELECT c.oid::regclass::text AS object, coalesce(r.rolname, 'PUBLIC') AS grantee,
                 a.privilege_type AS privilege
               FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee
               WHERE c.relnamespace IN ('public'::regnamespace, 'nudge'::regnamespace)
                 AND a.grantee <> c.relowner
               UNION ALL
               SELECT p.oid::regprocedure::text, coalesce(r.rolname, 'PUBLIC'), a.privilege_type
               FROM pg_proc AS p CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
               LEFT JOIN pg_roles AS r ON r.oid = a.grantee
               WHERE p.pronamespace IN ('private'::regnamespace, 'nudge'::regnamespace)
                 AND a.grantee <> p.proowner
               UNION ALL
               SELECT 'schema ' || n.nspname, coalesce(r.rolname, 'PUBLIC'), a.privilege_type
               FROM pg_namespace AS n CROSS JOIN aclexplode(n.nspacl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee
               WHERE n.nspname IN ('private', 'nudge') AND a.grantee <> n.nspowner
             ) AS g (object, grantee, privilege)
             GROUP BY object, grantee",
        )
        .await;
    granted.sort();
    let granted = granted.join("\n");
    assert!(granted == include_str!("grants.txt").trim_end(), "granted is now\n{granted}");
}

#[tokio::test]
async fn grants_are_exactly_those_listed() {
    nothing_else_is_granted(&Database::migrated().await).await;
}

#[tokio::test]
async fn row_level_security_is_on_everywhere_and_forced_nowhere() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let rows = owner
        .rows(
            "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname",
        )
        .await;
    assert_eq!(rows.len(), EXPOSED.len());
    for row in rows {
        assert_eq!(row[1..], ["t", "f"], "{}", row[0]);
    }
}

#[tokio::test]
async fn a_login_that_inherits_the_roles_works_as_the_service_without_set_role() {
    let database = Database::migrated().await;
    populate(&database).await;
    let login = format!("{}_service", database.name);
    let superuser = database.superuser().await;
    superuser.run(&format!("CREATE ROLE {login} LOGIN PASSWORD 'x' INHERIT")).await;
    superuser.run(&format!("GRANT anon, authenticated, service_role TO {login}")).await;
    {
        let service = database.user(&login).await;
        for table in EXPOSED {
            assert_eq!(service.rows(&format!("SELECT * FROM public.{table}")).await.len(), rows_of(table).1);
            service.run(&format!("BEGIN; {}; ROLLBACK", insert(table))).await;
        }
        for view in ["profiles", "leases", "lease_members", "lease_nights", "date_change_requests"] {
            assert_eq!(service.rows(&format!("SELECT * FROM nudge.{view}")).await.len(), rows_of(view).1);
        }
        service
            .run(
                "INSERT INTO nudge.user_changes (user_id) VALUES ('ann');
                 INSERT INTO nudge.stale_users VALUES ('ann', 1);
                 INSERT INTO nudge.job_requests DEFAULT VALUES;
                 INSERT INTO nudge.ended_sessions VALUES ('019ca6a4-d000-7000-8000-000000000000', now());
                 DELETE FROM nudge.ended_sessions;
                 INSERT INTO nudge.spool_receipts (spool_id, epoch, position)
                   VALUES ('00000000-0000-0000-0000-000000000000', 1, 8192);
                 INSERT INTO nudge.report_cells VALUES ('2026-11-10', 'average_user', 'LOW', 'swap', 'neutral', '{}')
                   ON CONFLICT (day, archetype_type, urgency_level, primary_recommendation, audience)
                   DO UPDATE SET tally = excluded.tally;
                 INSERT INTO nudge.report_arrivals VALUES ('{}'); DELETE FROM nudge.report_arrivals;
                 INSERT INTO nudge.report_changes VALUES ('00000000-0000-0000-0000-000000000000', NULL, '{}');
                 DELETE FROM nudge.report_changes;
                 DELETE FROM nudge.user_changes; DELETE FROM nudge.stale_users; DELETE FROM nudge.job_requests;
                 SELECT nudge.make_partition('recommendation_logs', '2031-01-01');
                 SELECT nudge.drop_partition('recommendation_logs', '2031-01-01');
                 SELECT version FROM nudge.migrations; SELECT * FROM nudge.missing_partitions();
                 SELECT * FROM nudge.fact_states; SELECT * FROM nudge.fact_problems('leases')",
            )
            .await;
        let behind_the_parent = service.refused("SELECT 1 FROM nudge.recommendation_logs_2026_11").await;
        assert_eq!(behind_the_parent.code, SqlState::INSUFFICIENT_PRIVILEGE);
    }
    superuser.run(&format!("DROP ROLE {login}")).await;
}

#[tokio::test]
async fn callers_reach_nothing_in_the_service_s_schema() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let mut objects = owner
        .column("SELECT 'SELECT 1 FROM ' || oid::regclass FROM pg_class WHERE relnamespace = 'nudge'::regnamespace
           AND relkind IN ('r', 'v', 'S')")
        .await;
    assert!(objects.len() > 20, "{objects:?}");
    objects.push("SELECT nudge.audit_tail()".into());
    objects.push("SELECT nudge.make_partition('recommendation_logs', '2030-01-01')".into());
    objects.push("SELECT nextval('nudge.revisions')".into());
    for caller in [Caller::Anonymous, Caller::User("ann"), Caller::User("root")] {
        for sql in &objects {
            owner.run(&caller.begin()).await;
            assert_eq!(owner.refused(sql).await.code, SqlState::INSUFFICIENT_PRIVILEGE, "{caller:?} {sql}");
            owner.run("ROLLBACK").await;
        }
    }
    owner.run(&Caller::Anonymous.begin()).await;
    assert_eq!(owner.refused("SELECT private.is_admin()").await.code, SqlState::INSUFFICIENT_PRIVILEGE);
    owner.run("ROLLBACK").await;
}

#[tokio::test]
async fn claims_that_are_absent_or_strange_see_nothing() {
    let database = Database::migrated().await;
    populate(&database).await;
    let owner = database.owner().await;
    for claims in [
        "",
        "{}",
        r#"{"sub":null}"#,
        r#"{"sub":""}"#,
        r#"{"sub":["ann"]}"#,
        r#"{"sub":"ANN"}"#,
        r#"{"sub":"ann "}"#,
        r#"{"sub":"3f0c3b1e-0000-4000-8000-000000000000","role":"service_role"}"#,
        r#"{"sub":"x","user_metadata":{"role":"admin"},"app_metadata":{"role":"admin"}}"#,
    ] {
        owner.run("BEGIN; SET LOCAL ROLE authenticated").await;
        owner.run(&format!("SELECT set_config('request.jwt.claims', '{claims}', true)")).await;
        for table in EXPOSED {
            let seen = owner.rows(&format!("SELECT * FROM public.{table}")).await;
            assert!(seen.is_empty(), "{claims} sees {seen:?} in {table}");
        }
        owner.run("ROLLBACK").await;
    }
}

#[tokio::test]
async fn a_demoted_admin_is_a_member_at_once() {
    let database = Database::migrated().await;
    populate(&database).await;
    let owner = database.owner().await;
    let seen = async || {
        owner.run(&Caller::User("root").begin()).await;
        let seen = owner.rows("SELECT * FROM public.user_archetypes").await.len();
        owner.run("ROLLBACK").await;
        seen
    };
    assert_eq!(seen().await, 2);
    owner.run("UPDATE public.profiles SET role = 'member' WHERE id = 'root'").await;
    assert_eq!(seen().await, 0);
}
