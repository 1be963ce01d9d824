//! `nudge recommend` and `nudge classify`: NDJSON in, NDJSON out.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Folder, finish};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/golden");

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("{GOLDEN}/{name}")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Says whether two values are the same, numbers to the last written digit.
fn same(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Number(e), Value::Number(a)) => {
            let (e, a) = (e.as_f64().unwrap(), a.as_f64().unwrap());
            (e - a).abs() <= 1e-9 * e.abs().max(1.0)
        }
        (Value::Array(e), Value::Array(a)) => e.len() == a.len() && e.iter().zip(a).all(|(e, a)| same(e, a)),
        (Value::Object(e), Value::Object(a)) => {
            e.len() == a.len() && e.iter().all(|(name, e)| a.get(name).is_some_and(|a| same(e, a)))
        }
        _ => expected == actual,
    }
}

/// Writes a golden case as a line of input, where the line can say all of it.
fn input(case: &Value, like: &Value) -> Option<Value> {
    let snapshot = &case["snapshot"];
    let personal = snapshot["audience"].get("personal")?;
    let cents = snapshot["night"]["basePriceCents"].as_i64()?;
    let demand = snapshot["night"]["demandTenThousandths"].as_i64()?;
    // Offerable nights and overrides are no part of the line; prices and demands out of range are refused.
    if personal["requester"]["overridden"] == true || personal["roommate"]["overridden"] == true {
        return None;
    }
    if !personal["offerableNights"].is_null()
        || !(1..=10_000_000).contains(&cents)
        || !(1..=1_000_000).contains(&demand)
    {
        return None;
    }
    let party = |name: &str| {
        let given = &personal[name];
        let mut signals = like[given["signals"]["like"].as_str().unwrap()].clone();
        for (signal, value) in
            given["signals"].as_object().unwrap().iter().filter(|(name, _)| *name != "like")
        {
            signals[signal] = value.clone();
        }
        json!({ "archetypeType": given["archetype"], "signals": signals })
    };
    let last = &personal["history"]["last"];
    Some(json!({
        "requestingUser": party("requester"),
        "targetNight": {
            "date": snapshot["targetDate"], "basePrice": cents as f64 / 100.0, "marketDemand": demand as f64 / 10_000.0,
        },
        "daysUntilCheckIn": snapshot["daysUntilCheckIn"],
        "roommate": party("roommate"),
        "userHistory": {
            "previousTransactions": personal["history"]["priorRequests"],
            "lastTransactionType": last["transactionType"], "lastTransactionSuccess": last["accepted"],
        },
    }))
}

/// Brings an option of the output into the shape of the golden cases.
fn shape(option: &Value) -> Value {
    let reasons: Vec<&Value> = option["reasons"].as_array().unwrap().iter().map(|r| &r["code"]).collect();
    json!({
        "type": option["type"], "price": option["price"], "platformFee": option["platformFee"],
        "totalCost": option["totalCost"], "roommateReceives": option["roommateReceives"],
        "platformReceives": option["platformReceives"], "savingsVsBuyout": option["savingsVsBuyout"],
        "confidence": option["confidence"], "probability": option["estimatedAcceptanceProbability"],
        "potentialMatches": option["potentialMatches"], "reasons": reasons,
    })
}

#[test]
fn recommendations_are_those_of_the_golden_cases() {
    let file = golden("decide.json");
    let cases = file["cases"].as_array().unwrap();
    let with_input: Vec<_> =
        cases.iter().filter_map(|case| input(case, &file["like"]).map(|input| (case, input))).collect();
    assert!(with_input.len() >= 200, "{} cases can be written as lines", with_input.len());
    let text: String = with_input.iter().map(|(_, input)| format!("{input}\n")).collect();
    let answers = lines(&Folder::new().feed(&["recommend"], &text).good());
    assert_eq!(answers.len(), with_input.len());
    for ((case, input), answer) in with_input.iter().zip(&answers) {
        let expected = &case["expected"];
        let options: Vec<Value> = answer["options"].as_array().unwrap().iter().map(shape).collect();
        let found = json!({
            "rule": answer["metadata"]["rule"], "confidence": answer["metadata"]["confidence"], "options": options,
        });
        let wanted = json!({
            "rule": expected["rule"], "confidence": expected["confidence"], "options": expected["options"],
        });
        assert!(same(&wanted, &found), "{}\ninput {input}\nwanted {wanted}\nfound {found}", case["name"]);
        assert_eq!(answer["primaryRecommendation"], expected["options"][0]["type"]);
        assert_eq!(answer["metadata"]["policy"], "rules-v1");
        assert_eq!(answer["options"][0]["urgencyMultiplier"].as_f64(), expected["multiplier"].as_f64());
        let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 3, "no ids: {names:?}");
    }
}

#[test]
fn classifications_are_those_of_the_golden_cases() {
    let file = golden("classify.json");
    let cases = file["cases"].as_array().unwrap();
    let text: String =
        cases.iter().map(|case| format!("{}\n", json!({ "signals": case["signals"] }))).collect();
    let ran = Folder::new().feed(&["classify"], &text);
    let answers = lines(&ran.out);
    assert_eq!(answers.len(), cases.len());
    let mut compared = 0;
    for (case, answer) in cases.iter().zip(&answers) {
        if answer.get("error").is_some() {
            // The engine takes any number; the command refuses signals that no history can give.
            continue;
        }
        let expected = &case["expected"];
        compared += 1;
        assert_eq!(answer["archetypeType"], expected["archetype"], "{}", case["name"]);
        assert!(same(&expected["confidence"], &answer["confidence"]), "{}: {answer}", case["name"]);
        for (archetype, score) in expected["scores"].as_object().unwrap() {
            let camel = match archetype.as_str() {
                "big_spender" => "bigSpender",
                "high_flexibility" => "highFlexibility",
                _ => "averageUser",
            };
            let found = answer["scores"].get(archetype).or_else(|| answer["scores"].get(camel));
            assert!(found.is_some_and(|found| same(score, found)), "{}: {answer}", case["name"]);
        }
    }
    assert!(compared >= 60, "{compared} of {} compared", cases.len());
}

fn good_signals() -> Value {
    golden("classify.json")["cases"][0]["signals"].clone()
}

fn good_line() -> Value {
    let file = golden("decide.json");
    let first = file["cases"].as_array().unwrap().iter().find_map(|case| input(case, &file["like"]));
    first.unwrap()
}

#[test]
fn bad_lines_are_answered_in_their_place_and_the_status_is_1() {
    let good = json!({ "signals": good_signals() }).to_string();
    let mut missing = good_signals();
    missing.as_object_mut().unwrap().remove("acceptanceRate");
    let mut impossible = good_signals();
    impossible["acceptanceRate"] = json!(1.5);
    let bad = [
        "not json".to_owned(),
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        json!({ "signals": missing }).to_string(),
        json!({ "signals": impossible }).to_string(),
        json!({ "signals": good_signals(), "more": 1 }).to_string(),
        good.replace("0.33,", "NaN,"),
        "[".repeat(10_000),
        format!("{{\"signals\": \"{}\"}}", "x".repeat(2 << 20)),
    ];
    let text: String = bad.iter().map(|bad| format!("{bad}\n{good}\n")).collect();
    let ran = Folder::new().feed(&["classify"], &text);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let answers = lines(&ran.out);
    assert_eq!(answers.len(), 2 * bad.len());
    for (index, answer) in answers.iter().enumerate() {
        if index % 2 == 0 {
            assert_eq!(answer["line"], index + 1, "{answer}");
            assert!(!answer["error"].as_str().unwrap().is_empty(), "{answer}");
        } else {
            assert_eq!(answer["archetypeType"], "average_user", "{answer}");
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let changes: [(&str, Value, &str); 9] = [
        ("/targetNight/basePrice", json!(0), "basePrice"),
        ("/targetNight/basePrice", json!(-1), "basePrice"),
        ("/targetNight/basePrice", json!(1e12), "basePrice"),
        ("/targetNight/basePrice", json!(1.234), "basePrice"),
        ("/targetNight/marketDemand", json!(0), "marketDemand"),
        ("/targetNight/marketDemand", json!(101), "marketDemand"),
        ("/targetNight/date", json!("2026-02-30"), "date"),
        ("/roommate/signals/acceptanceRate", json!(-0.1), "acceptanceRate"),
        ("/userHistory/previousTransactions", json!(-1), ""),
    ];
    let mut text = String::new();
    for (place, value, _) in &changes {
        let mut line = good_line();
        *line.pointer_mut(place).unwrap() = value.clone();
        text.push_str(&format!("{line}\n"));
    }
    let ran = Folder::new().feed(&["recommend"], &text);
    assert_eq!(ran.code, Some(1));
    for (answer, (place, value, says)) in lines(&ran.out).iter().zip(&changes) {
        assert!(answer["error"].as_str().unwrap().contains(says), "{place} {value}: {answer}");
    }
}

#[test]
fn an_overdue_night_and_a_file_are_taken_and_order_is_kept() {
    let folder = Folder::new();
    let mut text = String::new();
    for days in (-50..50).rev() {
        let mut line = good_line();
        line["daysUntilCheckIn"] = json!(days);
        text.push_str(&format!("{line}\n"));
    }
    let file = folder.file("cases.ndjson", text.trim_end());
    let from_file = folder.feed(&["recommend", file.to_str().unwrap()], "").good();
    assert_eq!(folder.feed(&["recommend", "-"], &text).good(), from_file);
    let multipliers: Vec<f64> =
        lines(&from_file).iter().map(|a| a["options"][0]["urgencyMultiplier"].as_f64().unwrap()).collect();
    assert_eq!(multipliers.len(), 100);
    assert!(multipliers.is_sorted(), "urgency rises as the night comes nearer: {multipliers:?}");
    let complaint = folder.feed(&["classify", "none.ndjson"], "").refused();
    assert!(complaint.contains("cannot read none.ndjson"), "{complaint}");
    assert_eq!(folder.feed(&["classify"], "").good(), "", "nothing in, nothing out");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::new();
    let line = json!({ "signals": good_signals() }).to_string();
    let file = folder.file("many.ndjson", format!("{line}\n").repeat(20_000));
    for command in ["\"$0\" classify \"$1\"", "\"$0\" completions bash", "\"$0\" config"] {
        let pipeline = format!("{{ {command}; echo \"status $?\" >&2; }} | head -n 1");
        let mut shell = Command::new("bash");
        shell.args(["-c", &pipeline, env!("CARGO_BIN_EXE_nudge"), file.to_str().unwrap()]);
        shell.current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = finish(&mut shell, None);
        assert_eq!(ran.out.lines().count(), 1, "{command}: {}", ran.out);
        assert_eq!(ran.err, "status 0\n", "{command}");
    }
}
