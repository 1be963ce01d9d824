//! Throughput of durable decisions: 50 tasks that each wait for their commit, against a bare loop that inserts 32 rows
//! per synced commit into the same tables on the same disk. Rows are 3 kB and belong to 20 000 users.
//!
//! `cargo bench -p nudge-store` prints items (rows) per second.

#![expect(clippy::unwrap_used, reason = "a helper of a test or bench may stop it")]

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use nudge_engine::{Archetype, EntityId, TransactionType, UserId};
use nudge_store::{DecisionRow, Store, StoreOptions};
use uuid::Uuid;

const ROWS: usize = 40_000;
const TASKS: usize = 50;
const USERS: u64 = 20_000;

fn main() {
    divan::main();
}

fn row(n: u64) -> DecisionRow {
    let user = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % USERS;
    let id = |kind: u64, n: u64| Uuid::from_u64_pair(0x0197_0000_0000_4000 + kind, n).to_string();
    let parsed = |text: String| UserId::parse(&text).unwrap();
    DecisionRow {
        id: Uuid::from_u64_pair((0x0198_0000_0000 + n / 25) << 16 | 0x7000, 0x8000_0000_0000_0000 | n),
        user_id: Some(parsed(id(1, user))),
        roommate_id: Some(parsed(id(1, user + 1))),
        lease_id: Some(EntityId::parse(&id(2, user)).unwrap()),
        target_date: "2026-03-15".parse().unwrap(),
        primary: TransactionType::Crash,
        archetype: Archetype::AverageUser,
        archetype_confidence: 0.62,
        days_until_checkin: 14,
        urgency_level: "MEDIUM".into(),
        options: format!("[\"{}\"]", "o".repeat(1_000)),
        context: format!("{{\"x\":\"{}\"}}", "c".repeat(1_700)),
        rule: "average_medium".into(),
        policy: "rules-v1".into(),
        personalized: true,
        propensity: 1.0,
        confidence: 0.7,
        session_id: None,
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64)".into()),
        response_time_ms: 3,
        created_at: "2026-03-01T12:00:00.123456Z".parse().unwrap(),
    }
}

fn fresh() -> (tempfile::TempDir, StoreOptions, Vec<Arc<DecisionRow>>) {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
    (folder, options, (0..ROWS as u64).map(|n| Arc::new(row(n))).collect())
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn record_decision_by_50_tasks(bencher: Bencher) {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let opened = || {
        let (folder, options, rows) = fresh();
        (folder, Store::open(options).unwrap(), rows)
    };
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(opened).bench_values(|(folder, store, rows)| {
        runtime.block_on(async {
            let rows = Arc::new(rows);
            let tasks = (0..TASKS).map(|task| {
                let (store, rows) = (store.clone(), Arc::clone(&rows));
                tokio::spawn(async move {
                    for row in rows.iter().skip(task).step_by(TASKS) {
                        store.record_decision(Arc::clone(row)).await.unwrap();
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
        (folder, store)
    });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn bare_loop_of_32_rows_a_commit(bencher: Bencher) {
    let opened = || {
        let (folder, options, rows) = fresh();
        drop(Store::open(options.clone()).unwrap());
        let conn = rusqlite::Connection::open(&options.path).unwrap();
        conn.execute_batch("PRAGMA synchronous = FULL").unwrap();
        (folder, conn, rows)
    };
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(opened).bench_values(|(folder, conn, rows)| {
        for chunk in rows.chunks(32) {
            conn.execute_batch("BEGIN IMMEDIATE").unwrap();
            let mut insert = conn.prepare_cached(BARE_INSERT).unwrap();
            for row in chunk {
                let values = rusqlite::params![
                    row.id.to_string(),
                    row.user_id.as_ref().map(UserId::as_str),
                    row.target_date.to_string(),
                    row.primary.as_str(),
                    row.archetype.as_str(),
                    row.urgency_level,
                    row.options,
                    row.context,
                ];
                insert.execute(values).unwrap();
            }
            conn.execute_batch("COMMIT").unwrap();
        }
        (folder, conn)
    });
}

const BARE_INSERT: &str = "INSERT INTO recommendation_logs (id, user_id, target_date, primary_recommendation,
    archetype_type, archetype_confidence, days_until_checkin, urgency_level, rule, policy, personalized, propensity,
    confidence, response_time_ms, created_at, options, context)
  VALUES (?1, ?2, ?3, ?4, ?5, 0.62, 14, ?6, 'average_medium', 'rules-v1', 1, 1.0, 0.7, 3,
    '2026-03-01T12:00:00.123456Z', ?7, ?8)";
