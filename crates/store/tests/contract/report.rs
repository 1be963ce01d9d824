//! The sums that reports are made of, beside a computation of the test's own from the rows.

use std::collections::BTreeMap;

use crate::support::*;
use jiff::SignedDuration;
use nudge_engine::{Archetype, TransactionType, UrgencyLevel};
use nudge_store::*;

/// Numbers that look random and are the same at every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

const FIRST: &str = "2026-03-01T00:00:00.000001Z";

fn drawn(draw: &mut Draw, n: u64) -> DecisionRow {
    let who = draw.of(&[Some("ann"), Some("ann"), Some("bob"), None]);
    let price = 50 + draw.below(400);
    let options = format!(
        r#"[{{"type":"buyout","price":{price},"platformFee":{},"platformReceives":{}}},
        {{"type":"crash","price":{}.5,"platformFee":5,"platformReceives":10}},
        {{"type":"swap","price":0,"platformFee":5,"platformReceives":5}}]"#,
        price / 60,
        price / 30,
        price / 5
    );
    DecisionRow {
        archetype: draw.of(Archetype::ALL),
        urgency_level: draw.of(UrgencyLevel::ALL).as_str().into(),
        personalized: who.is_some() && draw.below(4) > 0,
        response_time_ms: i64::try_from(draw.below(3)).unwrap() * 700,
        created_at: at(FIRST) + SignedDuration::from_secs(i64::try_from(draw.below(5 * 86_400)).unwrap()),
        options,
        ..decision(n, who, draw.of(TransactionType::ALL))
    }
}

/// Something that may come of a decision; some of it cannot have happened, and is refused.
fn happened(draw: &mut Draw, row: &DecisionRow) -> OutcomeEvent {
    let kind = draw.of(EventKind::ALL);
    let typed = matches!(kind, EventKind::Selected | EventKind::Submitted);
    let seconds = draw.below(3_000);
    OutcomeEvent {
        recommendation_id: row.id,
        kind,
        transaction_type: typed.then(|| draw.of(TransactionType::ALL)),
        time_to_decision_seconds: (kind == EventKind::Selected && draw.below(2) == 0)
            .then_some(seconds as f64 / 7.0),
        nps_score: (kind == EventKind::Nps).then(|| u8::try_from(draw.below(11)).unwrap()),
        occurred_at: Some(row.created_at + SignedDuration::from_secs(i64::try_from(seconds).unwrap())),
    }
}

type Key = (String, &'static str, String, &'static str, &'static str);

/// Figures by name, and observations by name and value.
#[derive(Debug, Default, PartialEq)]
struct Plain(BTreeMap<String, i64>);

impl Plain {
    fn count(&mut self, name: impl Into<String>, times: i64) {
        *self.0.entry(name.into()).or_default() += times;
        self.0.retain(|_, times| *times != 0);
    }
}

/// The same from the rows, one by one.
async fn from_rows(f: &Fixture, rows: &[DecisionRow]) -> BTreeMap<Key, Plain> {
    let mut cells: BTreeMap<Key, Plain> = BTreeMap::new();
    for row in rows {
        let Some(stored) = f.store.decision(row.id).await.unwrap() else { continue };
        let (row, outcome) = (stored.row, stored.outcome);
        let audience = match (&row.user_id, row.personalized) {
            (_, true) => "personalized",
            (Some(_), false) => "neutral",
            (None, false) => "anonymous",
        };
        let cell = cells
            .entry((
                row.created_at.to_string()[..10].to_owned(),
                row.archetype.as_str(),
                row.urgency_level.clone(),
                row.primary.as_str(),
                audience,
            ))
            .or_default();
        cell.count("decisions", 1);
        cell.count(format!("response {}", row.response_time_ms / 10 * 10), 1);
        if let Some(followed) = outcome.followed_recommendation {
            cell.count("decided", 1);
            cell.count("followed", followed.into());
            let ms = (outcome.time_to_decision_seconds.unwrap() * 1_000.0).round() as i64;
            let digits = ms.to_string().len().saturating_sub(3) as u32;
            cell.count(format!("time {}", ms / 10_i64.pow(digits) * 10_i64.pow(digits)), 1);
        }
        cell.count("submitted", outcome.request_submitted.into());
        if let Some(accepted) = outcome.request_accepted {
            cell.count("answered", 1);
            cell.count("accepted", accepted.into());
        }
        if let Some(score) = outcome.nps_score {
            cell.count(format!("score {score}"), 1);
        }
        if let Some(kind) = outcome.final_transaction_type {
            cell.count("completed", 1);
            let options: serde_json::Value = serde_json::from_str(&row.options).unwrap();
            let option = options.as_array().unwrap().iter().find(|o| o["type"] == kind.as_str()).unwrap();
            let cents = |name: &str| (option[name].as_f64().unwrap() * 100.0).round() as i64;
            if kind == TransactionType::Swap {
                cell.count("swaps", 1);
            } else {
                cell.count(format!("price {}", cents("price")), 1);
            }
            cell.count(format!("income {}", cents("platformReceives")), 1);
            cell.count(format!("fee {}", cents("platformFee")), 1);
        }
    }
    cells
}

async fn from_sums(f: &Fixture, first: &str, last: &str) -> BTreeMap<Key, Plain> {
    let cells = f.store.report_cells(day(first), day(last)).await.unwrap();
    cells
        .into_iter()
        .map(|(key, tally)| {
            let mut plain = Plain::default();
            for (name, count) in [
                ("decisions", tally.decisions),
                ("decided", tally.decided),
                ("followed", tally.followed),
                ("submitted", tally.submitted),
                ("answered", tally.answered),
                ("accepted", tally.accepted),
                ("completed", tally.completed),
                ("swaps", tally.swaps),
            ] {
                plain.count(name, count);
            }
            for (name, counts) in [
                ("response", &tally.response_ms),
                ("time", &tally.decision_ms),
                ("price", &tally.price_cents),
                ("income", &tally.income_cents),
                ("fee", &tally.fee_cents),
                ("score", &tally.scores),
            ] {
                for (value, times) in counts.iter() {
                    plain.count(format!("{name} {value}"), times);
                }
            }
            let key = (
                key.day.to_string(),
                key.archetype.as_str(),
                key.urgency.as_str().to_owned(),
                key.default.as_str(),
                key.audience.as_str(),
            );
            (key, plain)
        })
        .collect()
}

async fn sums_are_those_of_the_rows_however_late_outcomes_come_and_whenever_they_are_folded(engine: Engine) {
    let f = Fixture::new(engine).await;
    let mut draw = Draw(7);
    let mut rows: Vec<DecisionRow> = Vec::new();
    let now = at("2026-03-20T00:00:00Z");
    let mut refused = 0;
    for step in 0..600 {
        match draw.below(8) {
            0 | 1 => {
                let row = drawn(&mut draw, rows.len() as u64 + 1);
                f.store.record_decision(row.clone()).await.unwrap();
                rows.push(row);
            }
            // From the spool: some new, some there already.
            2 => {
                let new = drawn(&mut draw, rows.len() as u64 + 1);
                let again = rows.last().cloned();
                let late: Vec<_> = std::iter::once(new.clone()).chain(again).collect();
                f.store.replay_decisions(late).await.unwrap().into_iter().for_each(|row| row.unwrap());
                rows.push(new);
            }
            3 => {
                f.store.fold_report(usize::try_from(draw.below(9)).unwrap() + 1).await.unwrap();
            }
            _ if rows.is_empty() => {}
            _ => {
                let row = draw.of(&(0..rows.len()).collect::<Vec<_>>());
                let events = vec![happened(&mut draw, &rows[row]), happened(&mut draw, &rows[row])];
                match f.store.record_outcomes(OutcomeReporter::Service, events, now).await {
                    Ok(_) => {}
                    Err(OutcomeError::Impossible { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        if step % 60 == 59 {
            assert_eq!(from_sums(&f, "2026-01-01", "2026-12-31").await, from_rows(&f, &rows).await, "{step}");
        }
    }
    assert!(rows.len() > 100 && refused > 20, "{} rows, {refused} refused", rows.len());
    let mut folded = Folded { more: true, ..Folded::default() };
    while folded.more {
        folded = f.store.fold_report(1_000).await.unwrap();
    }
    assert_eq!(f.store.fold_report(1_000).await.unwrap(), Folded::default(), "nothing is left");
    let all = from_rows(&f, &rows).await;
    assert_eq!(from_sums(&f, "2026-01-01", "2026-12-31").await, all);
    let some = all.into_iter().filter(|(key, _)| key.0 == "2026-03-02" || key.0 == "2026-03-03").collect();
    assert_eq!(from_sums(&f, "2026-03-02", "2026-03-03").await, some, "both days are included");
}

async fn a_fold_takes_as_many_decisions_as_it_is_told_however_few_a_commit_has(engine: Engine) {
    let f = Fixture::new(engine).await;
    for n in 0..12 {
        f.store.record_decision(decision(n, Some("ann"), TransactionType::Buyout)).await.unwrap();
    }
    for (wanted, more) in [(5, true), (5, true), (2, false)] {
        let folded = f.store.fold_report(5).await.unwrap();
        assert_eq!((folded.decisions, folded.more), (wanted, more));
    }
}

async fn folding_beside_writers_loses_nothing_and_counts_nothing_twice(engine: Engine) {
    let f = Fixture::new(engine).await;
    let mut draw = Draw(11);
    let rows: Vec<_> = (1..=120).map(|n| drawn(&mut draw, n)).collect();
    let writers = async {
        let mut tasks = tokio::task::JoinSet::new();
        for part in rows.chunks(30) {
            let (store, part) = (f.store.clone(), part.to_vec());
            let mut draw = Draw(part[0].id.as_u128() as u64);
            tasks.spawn(async move {
                for row in part {
                    let events = vec![happened(&mut draw, &row)];
                    store.record_decision(row).await.unwrap();
                    let reported = store
                        .record_outcomes(OutcomeReporter::Service, events, at("2026-03-20T00:00:00Z"))
                        .await;
                    assert!(matches!(reported, Ok(_) | Err(OutcomeError::Impossible { .. })), "{reported:?}");
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    };
    let folders = async {
        for _ in 0..40 {
            let (one, other) = tokio::join!(f.store.fold_report(3), f.store.fold_report(5));
            one.unwrap();
            other.unwrap();
        }
    };
    tokio::join!(writers, folders);
    assert_eq!(from_sums(&f, "2026-01-01", "2026-12-31").await, from_rows(&f, &rows).await);
    while f.store.fold_report(1_000).await.unwrap().more {}
    assert_eq!(from_sums(&f, "2026-01-01", "2026-12-31").await, from_rows(&f, &rows).await);
}

async fn decisions_from_before_the_sums_are_counted_too(engine: Engine) {
    let f = Fixture::new(engine).await;
    let mut draw = Draw(3);
    let rows: Vec<_> = (1..=40).map(|n| drawn(&mut draw, n)).collect();
    for row in &rows {
        f.store.record_decision(row.clone()).await.unwrap();
        let events = vec![happened(&mut draw, row)];
        drop(f.store.record_outcomes(OutcomeReporter::Service, events, at("2026-03-20T00:00:00Z")).await);
    }
    // As a database is that this version has not migrated yet.
    f.sql(
        &format!(
            "DROP TABLE nudge_report_cells; DROP TABLE nudge_report_changes; DROP TABLE nudge_report_state; {}",
            include_str!("../../migrations/sqlite/20261124000300_report.sql")
        ),
        &format!(
            "DROP TABLE nudge.report_cells, nudge.report_changes, nudge.report_arrivals;
             DELETE FROM nudge.migrations WHERE version = 20261124000300; {}",
            include_str!("../../../../supabase/migrations/20261124000300_report.sql")
        ),
    )
    .await
    .unwrap();
    let reopened = f.reopen().await;
    let all = from_rows(&f, &rows).await;
    assert_eq!(from_sums(&f, "2026-01-01", "2026-12-31").await, all);
    while reopened.fold_report(7).await.unwrap().more {}
    assert_eq!(from_sums(&f, "2026-01-01", "2026-12-31").await, all);
}

async fn logs_of_requests_and_runs_are_added_up_by_day(engine: Engine) {
    let f = Fixture::new(engine).await;
    let rows: Vec<_> = [(0, 200, 12), (1, 200, 12), (2, 404, 3), (3, 503, 2_345), (86_400, 500, 1)]
        .into_iter()
        .enumerate()
        .map(|(n, (second, status, response_time_ms))| RequestRow {
            id: id(n as u64),
            function_name: "f",
            method: "GET",
            status,
            response_time_ms,
            user_id: None,
            error_code: None,
            created_at: at("2025-07-13T00:00:00Z") + SignedDuration::from_secs(second),
        })
        .map(std::sync::Arc::new)
        .collect();
    f.store.append_requests(rows[..3].to_vec()).await.unwrap();
    // Some of them again, as after an answer that was lost.
    f.store.append_requests(rows[1..].to_vec()).await.unwrap();
    let figures = f.store.request_figures(day("2025-07-13"), day("2025-07-13")).await.unwrap();
    assert_eq!((figures.requests, figures.refused, figures.failed), (4, 1, 1));
    assert_eq!(figures.response_ms.iter().collect::<Vec<_>>(), [(3, 1), (12, 2), (2_340, 1)]);
    let both = f.store.request_figures(day("2025-07-13"), day("2025-07-14")).await.unwrap();
    assert_eq!((both.requests, both.failed), (5, 2));
    // The same of a log that was there before the sums.
    f.sql(
        &format!(
            "DROP TABLE nudge_report_requests; {}",
            include_str!("../../migrations/sqlite/20261124000301_report_requests.sql")
        ),
        &format!(
            "DROP TABLE nudge.report_requests; DELETE FROM nudge.migrations WHERE version = 20261124000301; {}",
            include_str!("../../../../supabase/migrations/20261124000301_report_requests.sql")
        ),
    )
    .await
    .unwrap();
    let reopened = f.reopen().await;
    assert_eq!(reopened.request_figures(day("2025-07-13"), day("2025-07-14")).await.unwrap(), both);

    for (n, status, started_at) in [
        (1, "completed", "2026-03-01T23:59:59Z"),
        (2, "failed", "2026-03-02T00:00:00Z"),
        (3, "completed", "2026-03-02T02:00:00Z"),
    ] {
        let run = RunRow {
            id: id(n),
            job_type: "j".into(),
            status: status.into(),
            processed_count: 5,
            updated_count: 1,
            failed_count: 2,
            error_message: None,
            metadata: serde_json::json!({ "trigger": if n == 1 { "demo" } else { "schedule" } }),
            started_at: at(started_at),
            completed_at: at(started_at),
        };
        f.store.insert_run(run).await.unwrap();
    }
    let figures = f.store.job_figures(day("2026-03-02"), day("2026-03-02")).await.unwrap();
    assert_eq!(
        figures,
        JobFigures {
            runs: 2,
            completed: 1,
            failed: 1,
            failed_users: 2,
            simulated_until: Some(at("2026-03-01T23:59:59Z"))
        }
    );
    assert_eq!(f.store.job_figures(day("2026-03-01"), day("2026-03-02")).await.unwrap().runs, 3);
    assert_eq!(f.store.job_figures(day("2026-04-01"), day("2026-04-02")).await.unwrap().runs, 0);
}

on_both!(
    sums_are_those_of_the_rows_however_late_outcomes_come_and_whenever_they_are_folded,
    a_fold_takes_as_many_decisions_as_it_is_told_however_few_a_commit_has,
    folding_beside_writers_loses_nothing_and_counts_nothing_twice,
    decisions_from_before_the_sums_are_counted_too,
    logs_of_requests_and_runs_are_added_up_by_day,
);
