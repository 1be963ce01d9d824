//! How reads run under the policies, with many users and 27 partitions.

use crate::support::*;

/// 20,000 users with an archetype, and 27 months with 54,000 decisions and their events.
async fn many() -> Database {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    owner
        .run(
            "DO $$ BEGIN
               FOR n IN 0..26 LOOP
                 PERFORM nudge.make_partition(t, ('2024-09-01'::date + n * interval '1 month')::date)
                 FROM unnest(ARRAY['recommendation_logs', 'recommendation_events']) AS t;
               END LOOP;
             END $$;
             INSERT INTO public.profiles (id, role) SELECT 'user-' || n, 'member' FROM generate_series(1, 20000) AS n;
             INSERT INTO public.profiles (id, role) VALUES ('root', 'admin');
             INSERT INTO public.user_archetypes (user_id, archetype_type, confidence, signals, reasoning, scores, policy,
                 computed_at, created_at, updated_at)
               SELECT 'user-' || n, 'average_user', 0.6, '{}', '{}', '{}', 'rules-v1', now(), now(), now()
               FROM generate_series(1, 20000) AS n;
             CREATE TEMPORARY TABLE made AS
               SELECT n, 'user-' || (n % 20000 + 1) AS user_id, at, (left(nudge.first_id(at)::text, 14) || '7000-8000-'
                 || lpad(to_hex(n), 12, '0'))::uuid AS id
               FROM generate_series(0, 53999) AS n
               CROSS JOIN LATERAL (SELECT '2024-09-01T00:00:00Z'::timestamptz + n * interval '21 minutes' AS at) AS t;
             INSERT INTO public.recommendation_logs (id, user_id, target_date, primary_recommendation, archetype_type,
                 archetype_confidence, days_until_checkin, urgency_level, options, context, rule, policy, personalized,
                 propensity, confidence, response_time_ms, created_at)
               SELECT id, user_id, '2026-12-01', 'crash', 'average_user', 0.6, 21, 'LOW', '[]', '{}',
                 'average_medium', 'rules-v1', true, 1, 0.7, 3, at FROM made;
             INSERT INTO public.recommendation_events (user_id, recommendation_id, event, occurrence, payload,
                 occurred_at, recorded_at)
               SELECT user_id, id, 'viewed', '@', '{}', at, at FROM made;
             INSERT INTO public.lease_members SELECT 'lease-' || (n / 3), 'user-' || n FROM generate_series(1, 20000) AS n;
             INSERT INTO public.lease_nights (lease_id, night, held_by, base_price)
               SELECT 'lease-' || (n % 6666), '2026-12-01'::date + n / 6666, 'user-1', 100
               FROM generate_series(0, 59999) AS n;
             INSERT INTO public.date_change_requests (id, requester_id, receiver_id, transaction_type, target_night,
                 status, created_at)
               SELECT 'r' || n, 'user-' || (n % 20000 + 1), 'user-' || ((n + 7) % 20000 + 1), 'swap', '2026-12-01',
                 'pending', now() - n * interval '1 minute'
               FROM generate_series(1, 60000) AS n;",
        )
        .await;
    owner.run("ANALYZE").await;
    let partitions = "SELECT count(*) FROM nudge.partitions WHERE parent = 'recommendation_logs'";
    assert!(owner.one(partitions).await.parse::<u32>().unwrap() >= 27);
    database
}

/// Explains a read of a caller, with its times.
async fn explain(owner: &Client, caller: Caller, sql: &str) -> String {
    owner.run(&caller.begin()).await;
    let plan = owner.column(&format!("EXPLAIN (ANALYZE, BUFFERS OFF) {sql}")).await.join("\n");
    owner.run("ROLLBACK").await;
    println!("-- {caller:?}: {sql}\n{plan}\n");
    plan
}

/// Gives a time that a plan ends with.
fn milliseconds(plan: &str, of: &str) -> f64 {
    let rest = plan.split(&format!("{of} Time: ")).nth(1).unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

const ME: Caller = Caller::User("user-77");
const ROOT: Caller = Caller::User("root");

#[tokio::test]
async fn own_rows_are_found_by_an_index_and_helpers_run_once() {
    let database = many().await;
    let owner = database.owner().await;
    // What our server asks on behalf of a user, and what an admin asks: unfiltered, and the newest ten.
    for (table, own, order) in [
        ("user_archetypes", "user_id = 'user-77'", "updated_at"),
        ("recommendation_logs", "user_id = 'user-77'", "created_at"),
        ("recommendation_events", "user_id = 'user-77'", "occurred_at"),
        ("profiles", "id = 'user-77'", "created_at"),
        ("lease_members", "lease_id = ANY ((SELECT private.my_leases())::text[])", "lease_id"),
        ("lease_nights", "lease_id = ANY ((SELECT private.my_leases())::text[])", "lease_id"),
        ("date_change_requests", "(requester_id = 'user-77' OR receiver_id = 'user-77')", "created_at"),
    ] {
        for suffix in [String::new(), format!(" ORDER BY {order} DESC LIMIT 10")] {
            let sql = format!("SELECT * FROM public.{table} WHERE {own}{suffix}");
            let plan = explain(&owner, ME, &sql).await;
            assert!(scans(&plan).is_empty(), "{sql}\n{plan}");
            assert!(once(&plan), "a helper runs for every row: {sql}\n{plan}");
            let took = milliseconds(&plan, "Execution");
            assert!(took < 100.0, "{sql} took {took} ms\n{plan}");
        }
    }
}

/// Gives the scans of whole tables, those of months without a row left out.
fn scans(plan: &str) -> Vec<&str> {
    plan.lines().filter(|line| line.contains("Seq Scan") && !line.contains("cost=0.00..0.00")).collect()
}

/// Says whether whatever does not depend on the row is computed once at most.
fn once(plan: &str) -> bool {
    plan.lines()
        .skip_while(|line| !line.contains("InitPlan"))
        .filter(|line| line.contains("->  Result"))
        .all(|line| line.contains("loops=1") || line.contains("never executed"))
        && !plan.contains("SubPlan")
}

#[tokio::test]
async fn an_admin_s_newest_rows_come_from_the_index_by_time() {
    let database = many().await;
    let owner = database.owner().await;
    for (table, order) in [
        ("recommendation_logs", "created_at"),
        ("recommendation_events", "occurred_at"),
        ("date_change_requests", "created_at"),
        ("profiles", "created_at"),
    ] {
        let sql = format!("SELECT * FROM public.{table} ORDER BY {order} DESC LIMIT 10");
        let plan = explain(&owner, ROOT, &sql).await;
        assert!(scans(&plan).is_empty() && !plan.contains("Sort Method"), "{plan}");
        assert!(once(&plan), "{plan}");
        assert!(milliseconds(&plan, "Execution") < 200.0, "{plan}");
    }
    // Everything is everything: a scan, with the helper evaluated once all the same.
    let plan = explain(&owner, ROOT, "SELECT * FROM public.user_archetypes").await;
    assert!(plan.contains("Seq Scan on user_archetypes") && once(&plan), "{plan}");
}

#[tokio::test]
async fn planning_over_27_partitions_stays_short() {
    let database = many().await;
    let owner = database.owner().await;
    // Warm: catalogue caches of the session are filled by the first one.
    let own = "SELECT * FROM public.recommendation_logs WHERE user_id = 'user-77' ORDER BY created_at DESC LIMIT 10";
    explain(&owner, ME, own).await;
    let plan = explain(&owner, ME, own).await;
    let took = milliseconds(&plan, "Planning");
    assert!(took < 50.0, "planning took {took} ms");
    // By id, one partition is looked at.
    let some = owner.one("SELECT id FROM public.recommendation_logs WHERE user_id = 'user-77' LIMIT 1").await;
    let plan =
        explain(&owner, ROOT, &format!("SELECT * FROM public.recommendation_logs WHERE id = '{some}'")).await;
    assert!(plan.starts_with("Index Scan using recommendation_logs_2"), "{plan}");
}

#[tokio::test]
async fn without_the_own_rows_condition_a_user_s_read_is_a_scan() {
    // Why our server adds it, and why the docs tell other clients to filter by user.
    let database = many().await;
    let owner = database.owner().await;
    let plan = explain(&owner, ME, "SELECT * FROM public.user_archetypes").await;
    assert!(plan.contains("Seq Scan on user_archetypes") && once(&plan), "{plan}");
}
