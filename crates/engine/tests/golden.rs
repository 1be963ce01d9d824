//! Runs every golden case of `tests/golden/*.json` against the engine.
//!
//! The expected values come from `tests/golden/make.py`, a second implementation of the domain specification in exact
//! arithmetic. A failure names the case and the value that differs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use jiff::Timestamp;
use nudge_engine::*;
use serde_json::{Map, Value, json};

/// Numbers differ by less than this, relative to the greater of 1 and their size: less than any written digit.
const TOLERANCE: f64 = 1e-12;

fn cases(text: &str, at_least: usize) -> (Value, Vec<Value>) {
    let mut file: Value = serde_json::from_str(text).unwrap();
    let cases: Vec<Value> = serde_json::from_value(file["cases"].take()).unwrap();
    assert!(cases.len() >= at_least, "{} cases, {at_least} expected: was the file cut?", cases.len());
    (file, cases)
}

/// Compares two JSON values, numbers within the tolerance, and writes down each difference by its path.
fn differences(path: &str, expected: &Value, actual: &Value, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Number(e), Value::Number(a)) => {
            let (e, a) = (e.as_f64().unwrap(), a.as_f64().unwrap());
            if (e - a).abs() > TOLERANCE * e.abs().max(1.0) {
                found.push(format!("{path}: expected {e}, got {a}"));
            }
        }
        (Value::Object(e), Value::Object(a)) => {
            let names: std::collections::BTreeSet<&String> = e.keys().chain(a.keys()).collect();
            for name in names {
                let of = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or(json!("(absent)"));
                differences(&format!("{path}.{name}"), &of(e), &of(a), found);
            }
        }
        (Value::Array(e), Value::Array(a)) if e.len() == a.len() => {
            for (i, (e, a)) in e.iter().zip(a).enumerate() {
                differences(&format!("{path}[{i}]"), e, a, found);
            }
        }
        _ if expected == actual => {}
        _ => found.push(format!("{path}: expected {expected}, got {actual}")),
    }
}

/// Runs the cases and reports all that fail, each by name.
fn run(cases: &[Value], actual: impl Fn(&Value) -> Value, expected: impl Fn(&Value) -> Value) {
    let mut failures = Vec::new();
    for case in cases {
        let mut found = Vec::new();
        differences("", &expected(case), &actual(case), &mut found);
        if !found.is_empty() {
            failures.push(format!("case {}\n    {}", case["name"], found.join("\n    ")));
        }
    }
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn word<T: std::str::FromStr<Err = UnknownWord>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

fn request(row: &Value) -> Request {
    let time = |name: &str| row.get(name).map(|t| t.as_str().unwrap().parse::<Timestamp>().unwrap());
    let cents = |name: &str| row.get(name).map(|c| Cents(c.as_i64().unwrap()));
    Request {
        id: row["id"].as_str().unwrap().into(),
        role: serde_json::from_value(row["role"].clone()).unwrap(),
        transaction_type: word(&row["type"]),
        status: word(&row["status"]),
        proposed_price: cents("proposedCents"),
        base_price: cents("baseCents"),
        created_at: time("createdAt").unwrap(),
        responded_at: time("respondedAt"),
    }
}

fn scores(classification: &Classification) -> Value {
    let scores = &classification.scores;
    json!({
        "big_spender": scores.big_spender,
        "high_flexibility": scores.high_flexibility,
        "average_user": scores.average_user,
    })
}

#[test]
fn signals_are_those_of_the_specification() {
    let policy = Policy::default();
    let (file, cases) = cases(include_str!("golden/signals.json"), 107);
    let now: Timestamp = file["now"].as_str().unwrap().parse().unwrap();
    let actual = |case: &Value| {
        let requests: Vec<Request> = case["requests"].as_array().unwrap().iter().map(request).collect();
        let signals = compute_signals(&requests, now, &policy);
        let classification = classify(&signals, &policy);
        json!({
            "expected": signals,
            "archetype": classification.archetype,
            "scores": scores(&classification),
        })
    };
    let expected = |case: &Value| json!({"expected": case["expected"], "archetype": case["archetype"], "scores": case["scores"]});
    run(&cases, actual, expected);
}

#[test]
fn archetypes_are_those_of_the_specification() {
    let policy = Policy::default();
    let (_, cases) = cases(include_str!("golden/classify.json"), 75);
    let actual = |case: &Value| {
        let signals: Signals = serde_json::from_value(case["signals"].clone()).unwrap();
        let classification = classify(&signals, &policy);
        let texts: Vec<String> = classification.scores.breakdown.iter().map(ScoreRow::text).collect();
        assert_eq!(classification.reasoning(), texts[..texts.len().min(5)], "reasoning of {}", case["name"]);
        json!({
            "archetype": classification.archetype,
            "confidence": classification.confidence,
            "scores": scores(&classification),
            "rows": classification.scores.breakdown,
        })
    };
    run(&cases, actual, |case| case["expected"].clone());
}

/// Fills the signals of a person from the well-known set that the case names.
fn fill_signals(person: &mut Value, like: &Value) {
    let changed = person["signals"].as_object_mut().unwrap();
    let Value::String(name) = changed.remove("like").unwrap() else { panic!("`like` is a name") };
    let mut signals = like[name].as_object().unwrap().clone();
    signals.append(changed);
    person["signals"] = Value::Object(signals);
}

fn dollars(amount: Cents) -> Value {
    json!(amount.dollars())
}

fn option_of(option: &PricedOption) -> Value {
    json!({
        "type": option.transaction_type,
        "price": dollars(option.price),
        "platformFee": dollars(option.platform_fee),
        "totalCost": dollars(option.total_cost),
        "roommateReceives": dollars(option.roommate_receives),
        "platformReceives": dollars(option.platform_receives),
        "savingsVsBuyout": option.savings_vs_buyout.map(dollars),
        "confidence": option.confidence,
        "probability": option.probability,
        "potentialMatches": option.potential_matches,
        "reasons": option.reasons.iter().map(Reason::code).collect::<Vec<_>>(),
    })
}

#[test]
fn decisions_are_those_of_the_specification() {
    let policy = Policy::default();
    let (file, cases) = cases(include_str!("golden/decide.json"), 326);
    let actual = |case: &Value| {
        let mut given = case["snapshot"].clone();
        if let Some(personal) = given["audience"].get_mut("personal") {
            fill_signals(&mut personal["requester"], &file["like"]);
            fill_signals(&mut personal["roommate"], &file["like"]);
        }
        let snapshot: Snapshot = serde_json::from_value(given).unwrap();
        let decision = decide(&snapshot, &policy);
        json!({
            "rule": decision.rule,
            "confidence": decision.confidence,
            "days": decision.urgency.days,
            "overdue": decision.urgency.overdue,
            "level": decision.urgency.level,
            "multiplier": decision.urgency.multiplier(),
            "isWeekday": decision.is_weekday,
            "marketDemand": decision.night.demand.factor(),
            "pricingSource": decision.night.source,
            "personalized": decision.personalized,
            "archetype": decision.archetype,
            "archetypeConfidence": decision.archetype_confidence,
            "roommateArchetype": decision.roommate_archetype,
            "options": decision.options.iter().map(option_of).collect::<Vec<_>>(),
        })
    };
    run(&cases, actual, |case| case["expected"].clone());
}
