//! How long a report over a million decisions takes, on both engines, and how fast decisions are folded into its sums.
//!
//! ```sh
//! cargo bench -p nudge --bench report
//! NUDGE_TEST_POSTGRES=postgres://… cargo bench -p nudge --bench report     # PostgreSQL too, in a database of its own
//! ```
//!
//! `BENCH_DECISIONS` changes the number. Decisions are spread evenly over 90 days, six in seven of them have outcomes; as
//! many rows are in the log of requests. The rows are made by SQL, as a database has them that was migrated with decisions in
//! it; everything but the newest 2,000 decisions and changes is folded before reports are timed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may stop, and prints what it measured"
)]

use std::time::{Duration, Instant};

use nudge::usecases::report::keep::AT_ONCE;
use nudge::usecases::report::{By, FigureKey, Of, Question, Window, report, trends};
use nudge_store::{PostgresOptions, Store, StoreOptions};

const DAYS: i64 = 90;
/// 2026-06-01.
const FIRST_MS: i64 = 1_780_272_000_000;
const LEFT: usize = 2_000;
const ROUNDS: usize = 7;

/// The columns of decision `i`, by an engine's way to write times, ids and booleans.
struct Dialect {
    id: &'static str,
    time: &'static str,
    yes: &'static str,
    no: &'static str,
    series: &'static str,
    json: &'static str,
}

const SQLITE: Dialect = Dialect {
    id: "printf('%08x-%04x-7000-8000-%012x', ms >> 16, ms & 65535, i)",
    time: "strftime('%Y-%m-%dT%H:%M:%f', ms / 1000.0, 'unixepoch') || '000Z'",
    yes: "1",
    no: "0",
    series: "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $count$)",
    json: "",
};
const POSTGRES: Dialect = Dialect {
    id: "overlay(nudge.first_id(to_timestamp(ms / 1000.0))::text PLACING lpad(to_hex(i), 12, '0') FROM 25)::uuid",
    time: "to_timestamp(ms / 1000.0)",
    yes: "true",
    no: "false",
    series: "WITH n (i) AS (SELECT g FROM generate_series(0::bigint, $count$ - 1) AS g)",
    json: "::jsonb",
};

impl Dialect {
    fn decisions(&self, count: usize) -> String {
        let Self { id, time, yes, no, json, .. } = self;
        let series = self.series.replace("$count$", &count.to_string());
        let step = DAYS * 86_400_000 / i64::try_from(count).unwrap();
        let reasons =
            "Because of something that was computed from data and is told in a sentence. ".repeat(3);
        let option = |kind: &str, price: &str, receives: i64| {
            format!(
                r#"{{"type":"{kind}","price":' || ({price}) || ',"platformFee":5,"totalCost":' || ({price} + 5) || ',"roommateReceives":' || ({price} - {receives} + 5) || ',"platformReceives":{receives},"reasoning":["{reasons}"]}}"#
            )
        };
        let options = format!(
            "'[{},{},{}]'",
            option("buyout", "100 + i * 7919 % 300", 10),
            option("crash", "20 + i * 7919 % 60", 10),
            option("swap", "0", 5)
        );
        format!(
            "{series}, m AS (SELECT i, {FIRST_MS} + i * {step} AS ms FROM n)
            INSERT INTO recommendation_logs (id, user_id, target_date, primary_recommendation, archetype_type,
              archetype_confidence, days_until_checkin, urgency_level, user_selected, time_to_decision_seconds,
              followed_recommendation, request_submitted, request_accepted, final_transaction_type, nps_score, rule, policy,
              personalized, propensity, confidence, response_time_ms, created_at, options, context)
            SELECT {id}, 'user-' || (i * 31 % 20000), '2026-09-01',
              CASE i * 13 % 3 WHEN 0 THEN 'buyout' WHEN 1 THEN 'crash' ELSE 'swap' END,
              CASE i * 17 % 5 WHEN 0 THEN 'big_spender' WHEN 1 THEN 'high_flexibility' ELSE 'average_user' END,
              0.6, 10, CASE i * 19 % 4 WHEN 0 THEN 'CRITICAL' WHEN 1 THEN 'HIGH' WHEN 2 THEN 'MEDIUM' ELSE 'LOW' END,
              CASE WHEN i % 7 > 0 THEN 'crash' END, CASE WHEN i % 7 > 0 THEN 3 + (i * 104729 % 60000) / 1000.0 END,
              CASE WHEN i % 7 > 0 THEN CASE WHEN i * 13 % 3 = 1 THEN {yes} ELSE {no} END END,
              CASE WHEN i % 7 > 1 THEN {yes} ELSE {no} END,
              CASE WHEN i % 7 > 2 THEN CASE WHEN i % 7 > 3 THEN {yes} ELSE {no} END END,
              CASE WHEN i % 7 > 3 THEN 'crash' END, CASE WHEN i % 20 = 6 THEN i * 37 % 11 END, 'rule', 'rules-v1',
              CASE WHEN i % 10 > 0 THEN {yes} ELSE {no} END, 1, 0.7, i * 41 % 12, {time}, ({options}){json}, '{{}}'{json}
            FROM m"
        )
    }

    fn requests(&self, count: usize) -> String {
        let Self { id, time, .. } = self;
        let series = self.series.replace("$count$", &count.to_string());
        let step = DAYS * 86_400_000 / i64::try_from(count).unwrap();
        format!(
            "{series}, m AS (SELECT i, {FIRST_MS} + i * {step} AS ms FROM n)
            INSERT INTO edge_function_logs (id, function_name, method, status, response_time_ms, request_id, created_at)
            SELECT {id}, 'transaction-recommendations', 'GET', CASE WHEN i % 500 = 0 THEN 503 WHEN i % 50 = 0 THEN 400 ELSE 200 END,
              i * 43 % 60, 'r' || i, {time} FROM m"
        )
    }
}

/// The part of a migration that notes what is there, with what it needs emptied before.
fn noted(migration: &str, emptied: &str) -> String {
    let inserts = migration.split(';').map(str::trim).filter(|statement| {
        let statement =
            statement.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join(" ");
        statement.starts_with("INSERT")
            && !statement.contains("migrations")
            && !statement.contains("report_state")
    });
    format!("{emptied}; {}", inserts.collect::<Vec<_>>().join(";\n"))
}

fn count() -> usize {
    std::env::var("BENCH_DECISIONS").ok().map_or(1_000_000, |count| count.parse().unwrap())
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(sqlite());
    match std::env::var("NUDGE_TEST_POSTGRES") {
        Ok(admin) => runtime.block_on(postgres(&admin)),
        Err(_) => println!("postgres: not measured, NUDGE_TEST_POSTGRES is not set"),
    }
}

async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nudge.db");
    let store = Store::open(StoreOptions { path: path.clone(), ..StoreOptions::default() }).unwrap();
    store.close().await;
    let begun = Instant::now();
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA synchronous = OFF").unwrap();
    conn.execute_batch(&SQLITE.decisions(count())).unwrap();
    conn.execute_batch(&SQLITE.requests(count())).unwrap();
    for (migration, emptied) in [
        (
            include_str!("../../store/migrations/sqlite/20261124000300_report.sql"),
            "DELETE FROM nudge_report_changes",
        ),
        (
            include_str!("../../store/migrations/sqlite/20261124000301_report_requests.sql"),
            "DELETE FROM nudge_report_requests",
        ),
    ] {
        conn.execute_batch(&noted(migration, emptied)).unwrap();
    }
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(conn);
    // Or the first fold waits until all of it is on disk.
    std::fs::File::open(&path).unwrap().sync_all().unwrap();
    println!("sqlite: {} decisions made in {:.0?}", count(), begun.elapsed());
    let store = Store::open_existing(StoreOptions { path, ..StoreOptions::default() }).unwrap();
    measure("sqlite", &store).await;
    store.close().await;
}

async fn postgres(admin: &str) {
    let connect = |url: String| async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let begun = Instant::now();
    let owner = connect(admin.to_owned()).await;
    owner.batch_execute("DROP DATABASE IF EXISTS nudge_bench_report").await.unwrap();
    owner.batch_execute("CREATE DATABASE nudge_bench_report").await.unwrap();
    let (server, _) = admin.rsplit_once('/').unwrap();
    let url = format!("{server}/nudge_bench_report");
    let dsn: nudge_store::Dsn = url.parse().unwrap();
    nudge_store::admin::Server::connect(dsn.clone()).await.unwrap().push(|_| ()).await.unwrap();
    let client = connect(url).await;
    let months = "SELECT nudge.make_partition(p, make_date(2026, m, 1))
      FROM unnest('{recommendation_logs, edge_function_logs}'::text[]) AS p, generate_series(6, 8) AS m";
    client.batch_execute(months).await.unwrap();
    client.batch_execute("SET synchronous_commit = off").await.unwrap();
    client.batch_execute(&POSTGRES.decisions(count())).await.unwrap();
    client.batch_execute(&POSTGRES.requests(count())).await.unwrap();
    for (migration, emptied) in [
        (
            include_str!("../../../supabase/migrations/20261124000300_report.sql"),
            "TRUNCATE nudge.report_changes, nudge.report_arrivals",
        ),
        (
            include_str!("../../../supabase/migrations/20261124000301_report_requests.sql"),
            "TRUNCATE nudge.report_requests",
        ),
    ] {
        client.batch_execute(&noted(migration, emptied)).await.unwrap();
    }
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    println!("postgres: {} decisions made in {:.0?}", count(), begun.elapsed());
    let store = Store::connect(PostgresOptions::new(dsn)).await.unwrap();
    measure("postgres", &store).await;
    store.close().await;
    drop(client);
    owner.batch_execute("DROP DATABASE nudge_bench_report WITH (FORCE)").await.unwrap();
}

async fn measure(engine: &str, store: &Store) {
    let last = jiff::civil::date(2026, 8, 29);
    let begun = Instant::now();
    let (mut decisions, mut changes, mut longest) = (0, 0, Duration::ZERO);
    while decisions + LEFT < count() || changes + LEFT < count() * 6 / 7 {
        let one = Instant::now();
        let folded = store.fold_report(AT_ONCE).await.unwrap();
        longest = longest.max(one.elapsed());
        decisions += folded.decisions;
        changes += folded.changes;
        if folded.decisions + folded.changes == 0 {
            break;
        }
    }
    let each = begun.elapsed() / u32::try_from(decisions + changes).unwrap();
    println!(
        "{engine}: {decisions} decisions and {changes} changes folded, {each:.1?} each, at most {longest:.1?} at once"
    );
    for (days, by) in [(7, None), (28, Some(By::Week)), (90, None), (90, Some(By::Archetype))] {
        let window = Window::last_days(days, last);
        let times = timed(async || {
            let question = Question { window, of: Of::Personalized, by };
            let made = report(store, question, jiff::Timestamp::UNIX_EPOCH).await.unwrap();
            made.decisions.total
        })
        .await;
        println!("{engine}: report of {days} days by {by:?}: {times}");
    }
    let times = timed(async || {
        let window = Window::last_days(30, last);
        let trends = trends(store, window, Of::Personalized, FigureKey::OF_DECISIONS).await.unwrap();
        i64::try_from(trends.len()).unwrap()
    })
    .await;
    println!("{engine}: eleven trends of 30 days: {times}");
    let first = last.saturating_sub(jiff::ToSpan::days(DAYS));
    let times = timed(async || store.report_cells(first, last).await.unwrap().len() as i64).await;
    println!("{engine}: the sums of 90 days alone: {times}");
    let times = timed(async || store.request_figures(first, last).await.unwrap().requests).await;
    println!("{engine}: the requests of 90 days alone: {times}");
}

/// Processor time of this process so far. On a busy machine it tells more than the clock; that of PostgreSQL is not in it.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}

/// Median and greatest time of some rounds, their processor time each, and the answer.
async fn timed(work: impl AsyncFn() -> i64) -> String {
    let mut times = Vec::new();
    let mut answer = 0;
    let before = processor();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        answer = work().await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let each = (processor() - before) / u32::try_from(ROUNDS).unwrap();
    format!(
        "median {:.0?}, at most {:.0?}, processor {each:.0?} ({answer})",
        times[ROUNDS / 2],
        times[ROUNDS - 1]
    )
}
