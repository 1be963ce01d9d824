//! `nudge report`: every figure beside a computation of the test's own from the rows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Folder, Keys, Question, Random, eventually};

/// One decision and what came of it, as the rows say.
#[derive(Debug, Clone)]
struct Row {
    day: String,
    archetype: String,
    urgency: String,
    default: String,
    personalized: bool,
    anonymous: bool,
    response_ms: i64,
    followed: Option<bool>,
    seconds: Option<f64>,
    submitted: bool,
    accepted: Option<bool>,
    score: Option<i64>,
    /// Price, what the platform receives, and its fee, of what came about.
    terms: Option<(String, f64, f64, f64)>,
}

fn rows(conn: &rusqlite::Connection) -> Vec<Row> {
    let mut statement = conn
        .prepare(
            "SELECT date(created_at), archetype_type, urgency_level, primary_recommendation, personalized, user_id,
               response_time_ms, followed_recommendation, time_to_decision_seconds, request_submitted,
               request_accepted, nps_score, final_transaction_type, options FROM recommendation_logs",
        )
        .unwrap();
    let found = statement.query_map([], |row| {
        let options: Value = serde_json::from_str(&row.get::<_, String>(13)?).unwrap();
        let terms = row.get::<_, Option<String>>(12)?.map(|kind| {
            let option = options.as_array().unwrap().iter().find(|o| o["type"] == kind.as_str()).unwrap();
            let of = |name: &str| option[name].as_f64().unwrap();
            // The ledger, from its other side.
            (kind, of("price"), of("totalCost") - of("roommateReceives"), of("platformFee"))
        });
        Ok(Row {
            day: row.get(0)?,
            archetype: row.get(1)?,
            urgency: row.get(2)?,
            default: row.get(3)?,
            personalized: row.get(4)?,
            anonymous: row.get::<_, String>(5)? == "anonymous",
            response_ms: row.get(6)?,
            followed: row.get(7)?,
            seconds: row.get(8)?,
            submitted: row.get(9)?,
            accepted: row.get(10)?,
            score: row.get(11)?,
            terms,
        })
    });
    found.unwrap().map(Result::unwrap).collect()
}

fn near(found: &Value, expected: f64, what: &str) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{what}: {found}"));
    assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{what}: {found}, not {expected}");
}

/// Solves the score test's equation (p − k/n)² = z² p (1 − p) / n, whose two roots are Wilson's interval.
fn share(figure: &Value, of: usize, n: usize, what: &str) {
    assert_eq!(figure["n"], n, "{what}");
    if n == 0 {
        assert_eq!((&figure["value"], &figure["interval"]), (&Value::Null, &Value::Null), "{what}");
        return;
    }
    let (p, n, z2) = (of as f64 / n as f64, n as f64, 1.959_963_984_540_054_f64.powi(2));
    near(&figure["value"], p, what);
    let (a, b, c) = (1.0 + z2 / n, -(2.0 * p + z2 / n), p * p);
    let root = (b * b - 4.0 * a * c).max(0.0).sqrt();
    near(&figure["interval"]["low"], ((-b - root) / (2.0 * a)).max(0.0), what);
    near(&figure["interval"]["high"], ((-b + root) / (2.0 * a)).min(1.0), what);
}

/// Three digits, as reports keep them.
fn kept(value: i64) -> i64 {
    let digits = value.to_string();
    digits
        .chars()
        .enumerate()
        .map(|(place, digit)| if place < 3 { digit } else { '0' })
        .collect::<String>()
        .parse()
        .unwrap()
}

/// Sorts, and takes what stands in the middle, or at nineteen twentieths.
fn quantile(figure: &Value, values: Vec<i64>, q: f64, unit: f64, what: &str) {
    let mut values = values;
    values.sort_unstable();
    let n = values.len();
    assert_eq!(figure["n"], n, "{what}");
    if n == 0 {
        assert_eq!(figure["value"], Value::Null, "{what}");
        return;
    }
    let at = |rank: usize| values[rank - 1] as f64 * unit;
    let expected = match (q < 0.6, n % 2) {
        (true, 0) => (at(n / 2) + at(n / 2 + 1)) / 2.0,
        _ => at((q * n as f64).ceil() as usize),
    };
    near(&figure["value"], expected, what);
    // The chance that so many observations lie below the quantile, one by one; its logarithm, as it is tiny at first.
    let mut chance = n as f64 * (1.0 - q).ln();
    let (mut below, mut low, mut high) = (0.0, 0, None);
    for k in 0..=n {
        below += chance.exp();
        if below <= 0.025 {
            low = k + 1;
        }
        if high.is_none() && below >= 0.975 {
            high = Some(k + 1);
        }
        chance += ((n - k) as f64 / (k + 1) as f64 * q / (1.0 - q)).ln();
    }
    let high = high.filter(|rank| *rank <= n);
    match (low, high) {
        (1.., Some(high)) if n < 700 => {
            near(&figure["interval"]["low"], at(low), what);
            near(&figure["interval"]["high"], at(high), what);
        }
        (1.., Some(_)) => assert!(figure["interval"].is_object(), "{what}"),
        _ => assert_eq!(figure["interval"], Value::Null, "{what}: {n}"),
    }
}

fn mean(figure: &Value, values: &[f64], what: &str) {
    assert_eq!(figure["n"], values.len(), "{what}");
    if values.is_empty() {
        assert_eq!(figure["value"], Value::Null, "{what}");
        return;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    near(&figure["value"], mean, what);
    if values.len() < 2 {
        assert_eq!(figure["interval"], Value::Null, "{what}");
        return;
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let (low, high) =
        (figure["interval"]["low"].as_f64().unwrap(), figure["interval"]["high"].as_f64().unwrap());
    near(&json!((low + high) / 2.0), mean, what);
    if variance > 0.0 && values.len() > 60 {
        let t = (high - low) / 2.0 / (variance / n).sqrt();
        // Cornish and Fisher's expansion of Student's quantile.
        let (z, v) = (1.959_963_984_540_054_f64, n - 1.0);
        let expected =
            z + (z.powi(3) + z) / (4.0 * v) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v);
        assert!((t - expected).abs() < 1e-4, "{what}: {t}, not {expected}");
    }
}

fn total(figure: &Value, values: &[f64], what: &str) {
    let sum: f64 = values.iter().sum();
    near(&figure["value"], sum, what);
    assert_eq!(figure["n"], values.len(), "{what}");
    if !values.is_empty() {
        let half = 1.959_963_984_540_054 * values.iter().map(|value| value * value).sum::<f64>().sqrt();
        near(&figure["interval"]["low"], (sum - half).max(0.0), what);
        near(&figure["interval"]["high"], sum + half, what);
    }
}

fn score(figure: &Value, scores: &[i64], what: &str) {
    assert_eq!(figure["n"], scores.len(), "{what}");
    if scores.is_empty() {
        assert_eq!(figure["value"], Value::Null, "{what}");
        return;
    }
    let n = scores.len() as f64;
    let (good, bad) =
        (scores.iter().filter(|s| **s >= 9).count(), scores.iter().filter(|s| **s <= 6).count());
    near(&figure["value"], 100.0 * (good as f64 - bad as f64) / n, what);
    let (good, bad) = ((good as f64 + 0.75) / (n + 3.0), (bad as f64 + 0.75) / (n + 3.0));
    let half = 1.959_963_984_540_054 * ((good + bad - (good - bad).powi(2)) / (n + 3.0)).sqrt();
    near(&figure["interval"]["low"], (100.0 * (good - bad - half)).max(-100.0), what);
    near(&figure["interval"]["high"], (100.0 * (good - bad + half)).min(100.0), what);
}

/// Compares the eleven figures of decisions.
fn compare(figures: &Value, rows: &[&Row], what: &str) {
    let figure = |key: &str| {
        let found = figures.as_array().unwrap().iter().find(|figure| figure["key"] == key);
        found.unwrap_or_else(|| panic!("{what} has no {key}"))
    };
    let count = |wanted: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| wanted(row)).count();
    let decided = count(&|row| row.followed.is_some());
    share(figure("followRate"), count(&|row| row.followed == Some(true)), decided, what);
    share(figure("submittedRate"), count(&|row| row.submitted), rows.len(), what);
    let answered = count(&|row| row.accepted.is_some());
    share(figure("acceptedRate"), count(&|row| row.accepted == Some(true)), answered, what);
    let terms: Vec<_> = rows.iter().filter_map(|row| row.terms.as_ref()).collect();
    let prices: Vec<f64> = terms.iter().filter(|terms| terms.0 != "swap").map(|terms| terms.1).collect();
    mean(figure("averageTransactionValue"), &prices, what);
    let cents = prices.iter().map(|price| (price * 100.0).round() as i64).collect();
    quantile(figure("medianTransactionValue"), cents, 0.5, 0.01, what);
    let income: Vec<f64> = terms.iter().map(|terms| terms.2).collect();
    total(figure("platformIncome"), &income, what);
    mean(figure("incomePerTransaction"), &income, what);
    total(figure("platformFees"), &terms.iter().map(|terms| terms.3).collect::<Vec<_>>(), what);
    let times =
        rows.iter().filter_map(|row| row.seconds).map(|s| kept((s * 1_000.0).round() as i64)).collect();
    quantile(figure("timeToDecision"), times, 0.5, 0.001, what);
    score(figure("netPromoterScore"), &rows.iter().filter_map(|row| row.score).collect::<Vec<_>>(), what);
    let response = rows.iter().map(|row| kept(row.response_ms)).collect();
    quantile(figure("recommendationTimeP95"), response, 0.95, 1.0, what);
}

/// Compares a whole report with the rows.
fn compare_report(report: &Value, all: &[Row], wanted: impl Fn(&Row) -> bool) {
    let (first, last) =
        (report["window"]["first"].as_str().unwrap(), report["window"]["last"].as_str().unwrap());
    let all: Vec<&Row> = all.iter().filter(|row| (first..=last).contains(&row.day.as_str())).collect();
    assert_eq!(report["decisions"]["total"], all.len());
    assert_eq!(report["decisions"]["personalized"], all.iter().filter(|row| row.personalized).count());
    assert_eq!(report["decisions"]["anonymous"], all.iter().filter(|row| row.anonymous).count());
    let rows: Vec<&Row> = all.iter().copied().filter(|row| wanted(row)).collect();
    compare(&report["figures"], &rows, "all");
    let given: Vec<usize> =
        (0..=10).map(|score| rows.iter().filter(|row| row.score == Some(score)).count()).collect();
    assert_eq!(report["scores"]["counts"], json!(given));
    for of in report["followRates"].as_array().unwrap() {
        let rows: Vec<_> = rows.iter().filter(|row| of["archetype"] == row.archetype.as_str()).collect();
        let decided = rows.iter().filter(|row| row.followed.is_some()).count();
        share(of, rows.iter().filter(|row| row.followed == Some(true)).count(), decided, "follow rates");
    }
    let by = report["breakdown"]["by"].as_str().unwrap();
    let mut parts: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        let part = match by {
            "archetype" => row.archetype.clone(),
            "urgency" => row.urgency.clone(),
            "type" => row.default.clone(),
            _ => {
                let week = row.day.parse::<jiff::civil::Date>().unwrap().iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }
        };
        parts.entry(part).or_default().push(row);
    }
    let groups = report["breakdown"]["groups"].as_array().unwrap();
    for group in groups {
        let key = group["key"].as_str().unwrap();
        let rows = parts.remove(key).unwrap_or_default();
        compare(&group["figures"], &rows, &format!("{by} {key}"));
    }
    assert!(parts.is_empty() && !groups.is_empty(), "{by}: no group for {parts:?}");
}

#[test]
fn every_figure_is_that_of_the_rows() {
    let folder = Folder::with_people(1_200);
    let conn = folder.database();
    for by in ["archetype", "urgency", "type", "week"] {
        let report = folder.run(&["report", "--since", "40d", "--by", by, "--json"]).json();
        assert!(report["simulatedUntil"].is_string());
        let all = rows(&conn);
        assert!(all.len() > 150, "{} decisions", all.len());
        compare_report(&report, &all, |row| row.personalized);
    }
    let week = folder.run(&["report", "--by", "type", "--json"]).json();
    compare_report(&week, &rows(&conn), |row| row.personalized);
    // The archetypes of people, and the runs.
    let people: Vec<(String, usize)> = conn
        .prepare("SELECT archetype_type, count(*) FROM user_archetypes GROUP BY 1")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, usize::try_from(row.get::<_, i64>(1)?).unwrap())))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let everybody = people.iter().map(|(_, count)| count).sum();
    for of in week["archetypes"].as_array().unwrap() {
        let count = people.iter().find(|(archetype, _)| of["archetype"] == archetype.as_str()).unwrap().1;
        share(of, count, everybody, "people");
    }
}

#[test]
fn late_outcomes_and_other_audiences_are_in_the_next_report() {
    let folder = Folder::with_people(60);
    let server = folder.start(&["serve"]);
    let (client, keys) = (server.client(), Keys::of(&folder));
    let conn = folder.database();
    let mut random = Random(5);
    let questions = Question::all(&conn);
    let report = |audience: &str| {
        folder.run(&["report", "--since", "40d", "--by", "urgency", "--audience", audience, "--json"]).json()
    };
    for round in 0..4 {
        for _ in 0..15 {
            let question = &questions[random.below(questions.len())];
            let answer = client.get(&question.path(), Some(&keys.service)).unwrap().body;
            let id = answer["recommendationId"].as_str().unwrap();
            let kind = ["buyout", "crash", "swap"][random.below(3)];
            let mut events =
                vec![json!({ "recommendationId": id, "event": "selected", "transactionType": kind })];
            if random.below(3) > 0 {
                events.push(json!({ "recommendationId": id, "event": "submitted", "transactionType": kind }));
                let end = ["accepted", "declined", "expired"][random.below(3)];
                events.push(json!({ "recommendationId": id, "event": end }));
                events.push(json!({ "recommendationId": id, "event": "nps", "npsScore": random.below(11) }));
            }
            let told =
                client.post("/functions/v1/recommendation-outcomes", &keys.service, &events.into()).unwrap();
            assert_eq!(told.status, 200, "{}", told.text);
            let anonymous =
                "/functions/v1/transaction-recommendations?userId=a&targetDate=2027-03-15&roommateId=b";
            assert_eq!(client.get(anonymous, Some(&keys.anon)).unwrap().status, 200);
        }
        // With whatever the server has folded by now.
        let all = rows(&conn);
        compare_report(&report("personalized"), &all, |row| row.personalized);
        compare_report(&report("all"), &all, |_| true);
        let anonymous = report("anonymous");
        compare_report(&anonymous, &all, |row| row.anonymous);
        assert_eq!(anonymous["decisions"]["anonymous"], (round + 1) * 15);
    }
    let waiting = "SELECT count(*) FROM nudge_report_changes";
    eventually("everything folded", || {
        (conn.query_row(waiting, [], |row| row.get::<_, i64>(0)).unwrap() == 0).then_some(())
    });
    compare_report(&report("all"), &rows(&conn), |_| true);
}

#[test]
fn a_report_is_aligned_text_or_markdown_without_colours_in_a_file() {
    let folder = Folder::with_people(60);
    let text = folder.run(&["report", "--since", "28d", "--by", "week"]).good();
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.contains("simulated by `nudge demo`"), "{text}");
    let rates: Vec<&str> = text.lines().filter(|line| line.contains("% interval")).collect();
    assert!(rates.len() > 3, "{text}");
    // Values end where their head does.
    let table: Vec<&str> = text.lines().skip_while(|line| !line.contains("Figure")).take(5).collect();
    let end = |line: &str, word: &str| line[..line.find(word).unwrap() + word.len()].chars().count();
    let value = table[1].split_whitespace().take_while(|word| *word != "–").collect::<Vec<_>>().join(" ");
    assert!(value.starts_with("Follow rate"), "{value}");
    assert_eq!(end(table[0], "Value"), end(table[1], " %"), "{text}");
    let markdown = folder.run(&["report", "--since", "28d", "--markdown"]).good();
    assert!(markdown.starts_with("# Report of "), "{markdown}");
    let pipes = |line: &str| line.matches('|').count();
    let rows: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.iter().all(|row| [5, 6, 7].contains(&pipes(row))), "{markdown}");
    assert!(rows[1].contains("--:"), "{markdown}");
}

#[test]
fn a_day_before_anything_happened_gives_an_empty_report_and_bad_spans_are_refused() {
    let folder = Folder::with_people(20);
    let empty = folder.run(&["report", "--since", "2020-01-01", "--until", "2020-01-07"]).good();
    assert!(empty.contains("0 decisions") && empty.contains("not enough data"), "{empty}");
    assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
    let backwards = folder.run(&["report", "--since", "2026-01-02", "--until", "2026-01-01"]).refused();
    assert!(backwards.contains("2026-01-02"), "{backwards}");
    for (option, value, hint) in [
        ("--since", "7h", "7d"),
        ("--by", "user", "archetype, urgency, type, week"),
        ("--audience", "me", "all"),
    ] {
        let ran = folder.run(&["report", option, value]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(hint), "{}", ran.err);
    }
    let nowhere = Folder::new().run(&["report"]).refused();
    assert!(nowhere.contains("there is no database"), "{nowhere}");
}
