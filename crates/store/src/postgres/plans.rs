//! The plans of callers' reads on tables of some size: indexes are used, helpers of the policies run once, and planning stays
//! short with the partitions of 27 months.

use nudge_engine::UserId;
use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, Type};

use super::query::{Sql, Value as SqlValue};
use super::reads::{begin, filter};
use super::tests::testing::TestDatabase;
use crate::catalog::TABLES;
use crate::query::plan::Plan;
use crate::query::{Count, Field, OrderTerm, ReadQuery};
use crate::rights::{Caller, Grade};

const USERS: i64 = 20_000;
const MONTHS: i64 = 27;

/// Rows of every table: 20,000 people, 54,000 decisions with an event each, and an admin among them.
const FILL: &str = "
  SELECT nudge.make_partition(v.parent, m.month::date)
  FROM unnest('{recommendation_logs, recommendation_events, edge_function_logs}'::text[]) AS v (parent),
    generate_series('2024-01-01'::timestamp, '2026-03-01', '1 month') AS m (month);
  INSERT INTO profiles (id, role, created_at)
  SELECT 'user-' || n, CASE WHEN n = 0 THEN 'admin' ELSE 'member' END, '2024-01-01'::timestamptz + n * interval '1 minute'
  FROM generate_series(0, 20000) AS n;
  INSERT INTO user_archetypes (user_id, archetype_type, confidence, signals, reasoning, scores, policy, computed_at,
    created_at, updated_at)
  SELECT 'user-' || n, 'average_user', 0.5, '{}', '{}', '{}', 'p', at, at, at
  FROM generate_series(0, 20000) AS n, LATERAL (SELECT '2024-01-01'::timestamptz + n * interval '1 minute' AS at) AS t;
  INSERT INTO leases (id, created_at)
  SELECT 'lease-' || n, '2024-01-01'::timestamptz + n * interval '1 minute' FROM generate_series(0, 10000) AS n;
  INSERT INTO lease_members (lease_id, user_id) SELECT 'lease-' || n / 2, 'user-' || n FROM generate_series(0, 20000) AS n;
  INSERT INTO lease_nights (lease_id, night, held_by, base_price)
  SELECT 'lease-' || n % 10001, '2026-01-01'::date + n / 10001, 'user-' || n % 10001 * 2, 100
  FROM generate_series(0, 59999) AS n;
  INSERT INTO date_change_requests (id, requester_id, receiver_id, transaction_type, target_night, status, created_at)
  SELECT 'request-' || n, 'user-' || n % 20000, 'user-' || (n * 7 + 1) % 20000, 'buyout', '2026-03-01', 'pending',
    '2024-01-01'::timestamptz + n * interval '10 minutes'
  FROM generate_series(0, 59999) AS n WHERE n % 20000 <> (n * 7 + 1) % 20000;
  CREATE TEMP TABLE made AS
  SELECT n, at, overlay(nudge.first_id(at)::text PLACING lpad(to_hex(n), 12, '0') FROM 25)::uuid AS id, 'user-' || n % 20001 AS user_id
  FROM generate_series(0, 53999) AS n,
    LATERAL (SELECT '2024-01-01'::timestamptz + n % 27 * interval '1 month' + n / 27 * interval '20 minutes' AS at) AS t;
  INSERT INTO recommendation_logs (id, user_id, target_date, primary_recommendation, archetype_type, archetype_confidence,
    days_until_checkin, urgency_level, options, context, rule, policy, personalized, propensity, confidence, response_time_ms,
    created_at)
  SELECT id, user_id, '2026-03-01', 'buyout', 'average_user', 0.5, 1, 'LOW', '[]', '{}', 'r', 'p', true, 1, 0.5, 1, at FROM made;
  INSERT INTO recommendation_events (user_id, recommendation_id, event, occurrence, payload, occurred_at, recorded_at)
  SELECT user_id, id, 'viewed', '@', '{}', at, at FROM made;
  INSERT INTO edge_function_logs (id, function_name, method, status, response_time_ms, request_id, created_at)
  SELECT id, 'f', 'GET', 200, 1, 'r', at FROM made;
  INSERT INTO archetype_job_logs (id, job_type, status, started_at, completed_at)
  SELECT id, 'j', 'completed', at, at FROM made WHERE n < 5000;
  ANALYZE";

/// A text of whatever type.
struct Plain(String);

impl<'a> FromSql<'a> for Plain {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// What a plan came to.
#[derive(Debug, Default)]
struct Cost {
    /// Rows that were looked at.
    looked_at: f64,
    /// Greatest number of times that one helper ran.
    helpers: f64,
    planning_ms: f64,
}

impl Cost {
    fn add(&mut self, node: &Value) {
        let number = |key: &str| node[key].as_f64().unwrap_or(0.0);
        let loops = number("Actual Loops");
        let kind = node["Node Type"].as_str().unwrap_or_default();
        if kind.contains("Scan") && !["Function Scan", "Subquery Scan"].contains(&kind) {
            let removed = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
            self.looked_at += (number("Actual Rows") + removed) * loops;
        }
        if node["Parent Relationship"] == "InitPlan" {
            self.helpers = self.helpers.max(loops);
        }
        node["Plans"].as_array().into_iter().flatten().for_each(|child| self.add(child));
    }
}

/// A value as SQL writes it.
fn literal(value: &SqlValue) -> String {
    let quoted = |text: &String| format!("'{}'", text.replace('\'', "''"));
    match value {
        SqlValue::Text(None) => "NULL".to_owned(),
        SqlValue::Text(Some(text)) => quoted(text),
        SqlValue::Texts(texts) => {
            format!("ARRAY[{}]::text[]", texts.iter().map(quoted).collect::<Vec<_>>().join(", "))
        }
        SqlValue::Number(number) => number.to_string(),
    }
}

/// Explains a statement, as it is planned at first, or after so many uses that its plan may be kept for any values.
async fn cost(client: &Client, caller: &Caller, sql: &Sql, uses: usize) -> (Cost, String) {
    let types: Vec<String> =
        sql.typed().iter().map(|(_, kind)| kind.name().replace("_text", "text[]")).collect();
    let values: Vec<String> = sql.values.iter().map(literal).collect();
    let execute = format!("EXECUTE asked ({})", values.join(", "));
    client.batch_execute(&format!("PREPARE asked ({}) AS {}", types.join(", "), sql.text)).await.unwrap();
    begin(client, caller).await.unwrap();
    for _ in 0..uses {
        client.batch_execute(&execute).await.unwrap();
    }
    let rows = client.query_typed(&format!("EXPLAIN (ANALYZE, FORMAT JSON) {execute}"), &[]).await.unwrap();
    client.batch_execute("ROLLBACK; DEALLOCATE asked").await.unwrap();
    let text = rows[0].get::<_, Plain>(0).0;
    let plan: Value = serde_json::from_str(&text).unwrap();
    let mut cost = Cost { planning_ms: plan[0]["Planning Time"].as_f64().unwrap(), ..Cost::default() };
    cost.add(&plan[0]["Plan"]);
    (cost, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_reads_use_indexes_and_run_each_helper_once() {
    let database = TestDatabase::new().await;
    let client = database.owner().await;
    client.batch_execute(FILL).await.unwrap();
    assert_eq!(
        client.query_one("SELECT count(*) FROM profiles", &[]).await.unwrap().get::<_, i64>(0),
        USERS + 1
    );
    let partitions =
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.recommendation_logs'::regclass";
    assert!(client.query_one(partitions, &[]).await.unwrap().get::<_, i64>(0) >= MONTHS);
    let user = |id: &str| Caller::User(UserId::parse(id).unwrap());
    for table in TABLES {
        let newest = ["created_at", "occurred_at", "started_at"]
            .into_iter()
            .find(|name| table.column(name).is_some())
            .map(|name| OrderTerm {
                field: Field { column: name.to_owned(), path: Vec::new() },
                descending: true,
                nulls_first: None,
            });
        let plain = ReadQuery { table: table.name.to_owned(), ..ReadQuery::default() };
        let ordered = ReadQuery { order: newest.into_iter().collect(), limit: Some(10), ..plain.clone() };
        let counted = ReadQuery { count: Some(Count::Exact), ..plain.clone() };
        for (caller, grade, most) in [
            (user("user-7"), Grade::Member, [50.0, 50.0, 50.0]),
            // An admin's page has a thousand rows, of which each partition may be asked for its first ones.
            (user("user-0"), Grade::Admin, [1_100.0, 100.0, f64::INFINITY]),
            (Caller::Service, Grade::Service, [1_100.0, 100.0, f64::INFINITY]),
        ] {
            for ((query, most), what) in
                [&plain, &ordered, &counted].into_iter().zip(most).zip(["plain", "newest", "count"])
            {
                let plan = Plan::of(query).unwrap();
                let filter = filter(&caller, grade, &plan).unwrap();
                let sql = if what == "count" { filter.count(&plan, None) } else { filter.select(&plan) };
                // There is one archetype a user, and no index by their time.
                let sorted = (table.name, what) == ("user_archetypes", "newest") && grade != Grade::Member;
                for uses in [0, 10] {
                    let (cost, text) = cost(&client, &caller, &sql, uses).await;
                    let named = format!("{} {what} as {grade:?} after {uses}: {cost:?}", table.name);
                    assert!(cost.looked_at <= most || sorted, "{named}\n{text}");
                    assert!(cost.helpers <= 1.0, "{named}\n{text}");
                    assert!(cost.planning_ms < 500.0, "{named}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_prepared_is_read_with_the_rights_of_whoever_has_it_run() {
    let database = TestDatabase::new().await;
    let client = database.owner().await;
    client
        .batch_execute(
            "INSERT INTO profiles (id, role) VALUES ('ann', 'member'), ('bob', 'member'), ('root', 'admin')",
        )
        .await
        .unwrap();
    let query = ReadQuery { table: "profiles".to_owned(), ..ReadQuery::default() };
    let plan = Plan::of(&query).unwrap();
    // The text of those who may see everything: only the policies keep others from it.
    let of = |caller: &Caller| filter(caller, Grade::Admin, &plan).unwrap().select(&plan);
    let user = |id: &str| Caller::User(UserId::parse(id).unwrap());
    let text = of(&Caller::Service).text;
    let types: Vec<Type> = of(&Caller::Service).typed().iter().map(|(_, kind)| kind.clone()).collect();
    // As the owner, whom no policy concerns.
    let prepared = client.prepare_typed(&text, &types).await.unwrap();
    // Often enough for a plan that is kept.
    for _ in 0..10 {
        for (caller, seen) in
            [(user("root"), 3), (Caller::Service, 3), (user("ann"), 1), (user("bob"), 1), (user("eve"), 0)]
        {
            let sql = of(&caller);
            assert_eq!(sql.text, text);
            let values: Vec<_> = sql.typed().into_iter().map(|(value, _)| value).collect();
            begin(&client, &caller).await.unwrap();
            assert_eq!(client.query(&prepared, &values).await.unwrap().len(), seen, "{caller:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
    }
}
