//! A random tree of conditions, sent as a URL, finds the rows that a naive evaluation in memory finds, in the order asked for.

use std::cmp::Ordering;

use nudge_engine::Archetype;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use super::{archetype, column, override_archetype};
use crate::support::{As, Harness};

type Row = Map<String, Value>;

/// What is compared: a column or something inside one, and its kind.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    Truth,
    Time,
    Array,
    Json,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    /// As written in a URL.
    name: &'static str,
    /// Into the row.
    way: &'static [&'static str],
    kind: Kind,
}

const FIELDS: [Field; 11] = [
    Field { name: "user_id", way: &["user_id"], kind: Kind::Text },
    Field { name: "override_reason", way: &["override_reason"], kind: Kind::Text },
    Field { name: "confidence", way: &["confidence"], kind: Kind::Number },
    Field { name: "is_manual_override", way: &["is_manual_override"], kind: Kind::Truth },
    Field { name: "override_expires_at", way: &["override_expires_at"], kind: Kind::Time },
    Field { name: "reasoning", way: &["reasoning"], kind: Kind::Array },
    Field { name: "reasoning->>0", way: &["reasoning", "0"], kind: Kind::Text },
    Field { name: "scores", way: &["scores"], kind: Kind::Json },
    Field { name: "scores->n", way: &["scores", "n"], kind: Kind::Json },
    Field { name: "scores->>\"t, (t)\"", way: &["scores", "t, (t)"], kind: Kind::Text },
    Field { name: "scores->l->-1", way: &["scores", "l", "-1"], kind: Kind::Json },
];

const TEXTS: [&str; 14] =
    ["ann", "bob", "", " ", "a,b", "(x)", "\"q\"", "a\\b", "100%", "été", "NULL", "null", "{a}", "Ann"];
const NUMBERS: [&str; 8] = ["0", "0.5", "0.50", "0.505", "0.51", "1", "-1", "1e3"];
const TIMES: [&str; 5] = [
    "2026-06-01T00:00:00Z",
    "2026-06-01",
    "2026-06-01 02:00:00+02",
    "2026-06-01T00:00:00.000001Z",
    "1999-12-31",
];
const JSONS: [&str; 14] = [
    "null",
    "true",
    "0",
    "1",
    "1.0",
    "-2.5",
    "\"\"",
    "\"x\"",
    "[]",
    "[1]",
    "{}",
    "{\"n\":1}",
    "[1,\"x\"]",
    "{\"n\":1,\"l\":[1]}",
];
const PATTERNS: [&str; 10] = ["*", "a*", "*b", "*n*", "_nn", "%", "\\%", "100\\%", "ANN", "*\\\\*"];
const EXPRESSIONS: [&str; 6] = ["n", "^a", "b$", "^ann$", "N", "x|é"];

#[derive(Debug, Clone)]
enum Tree {
    Leaf { field: Field, negated: bool, test: Test },
    Branch { negated: bool, all: bool, children: Vec<Tree> },
}

#[derive(Debug, Clone)]
enum Test {
    Compare(&'static str, String),
    AnyOf(&'static str, Vec<String>),
    In(Vec<String>),
    Is(&'static str),
    Distinct(String),
    Like(bool, &'static str),
    Match(bool, &'static str),
    Array(&'static str, Vec<String>),
    Json(&'static str, String),
}

// --- Making trees -------------------------------------------------------------------------------------------------------

fn value(kind: Kind) -> BoxedStrategy<String> {
    let of = |values: &'static [&'static str]| select(values).prop_map(str::to_owned).boxed();
    match kind {
        Kind::Text => of(&TEXTS),
        Kind::Number => of(&NUMBERS),
        Kind::Truth => of(&["true", "false", "t", "no"]),
        Kind::Time => of(&TIMES),
        Kind::Json => of(&JSONS),
        Kind::Array => elements().prop_map(|elements| literal(&elements)).boxed(),
    }
}

fn elements() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(select(&TEXTS[..]).prop_map(str::to_owned), 0..3)
}

fn test(kind: Kind) -> BoxedStrategy<Test> {
    let compare = (select(&["eq", "neq", "gt", "gte", "lt", "lte"][..]), value(kind))
        .prop_map(|(operator, value)| Test::Compare(operator, value));
    let is = select(&["null", "not_null"][..]).prop_map(Test::Is);
    let distinct = value(kind).prop_map(Test::Distinct);
    let several = || prop::collection::vec(value(kind), 0..4);
    let common = prop_oneof![4 => compare, 1 => is, 1 => distinct];
    match kind {
        Kind::Text => prop_oneof![
            4 => common,
            2 => several().prop_map(Test::In),
            1 => (select(&["any", "all"][..]), several()).prop_map(|(which, values)| Test::AnyOf(which, values)),
            2 => (any::<bool>(), select(&PATTERNS[..])).prop_map(|(fold, pattern)| Test::Like(fold, pattern)),
            1 => (any::<bool>(), select(&EXPRESSIONS[..])).prop_map(|(fold, pattern)| Test::Match(fold, pattern)),
        ]
        .boxed(),
        Kind::Truth => prop_oneof![
            3 => common,
            2 => select(&["true", "false", "unknown"][..]).prop_map(Test::Is),
        ]
        .boxed(),
        Kind::Array => prop_oneof![
            1 => common,
            3 => (select(&["cs", "cd", "ov"][..]), elements()).prop_map(|(op, elements)| Test::Array(op, elements)),
        ]
        .boxed(),
        Kind::Json => prop_oneof![
            2 => common,
            1 => several().prop_map(Test::In),
            2 => (select(&["cs", "cd"][..]), value(kind)).prop_map(|(op, value)| Test::Json(op, value)),
        ]
        .boxed(),
        Kind::Number | Kind::Time => prop_oneof![3 => common, 1 => several().prop_map(Test::In)].boxed(),
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (select(&FIELDS[..]), any::<bool>())
        .prop_flat_map(|(field, negated)| (Just(field), Just(negated), test(field.kind)))
        .prop_map(|(field, negated, test)| Tree::Leaf { field, negated, test });
    leaf.prop_recursive(4, 20, 4, |inner| {
        (any::<bool>(), any::<bool>(), prop::collection::vec(inner, 1..4))
            .prop_map(|(negated, all, children)| Tree::Branch { negated, all, children })
    })
}

// --- Writing them down --------------------------------------------------------------------------------------------------

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn literal(elements: &[String]) -> String {
    format!("{{{}}}", elements.iter().map(|element| quoted(element)).collect::<Vec<_>>().join(","))
}

/// The operator and its value, which inside a tree must not hold what ends it.
fn written(test: &Test, inside: bool) -> String {
    let value = |text: &str| if inside { quoted(text) } else { text.to_owned() };
    let list = |values: &[String]| values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(",");
    match test {
        Test::Compare(operator, text) => format!("{operator}.{}", value(text)),
        Test::AnyOf(which, values) => format!("eq({which}).{}", value(&literal(values))),
        Test::In(values) => format!("in.({})", list(values)),
        Test::Is(word) => format!("is.{word}"),
        Test::Distinct(text) => format!("isdistinct.{}", value(text)),
        Test::Like(fold, pattern) => format!("{}.{}", if *fold { "ilike" } else { "like" }, value(pattern)),
        Test::Match(fold, pattern) => {
            format!("{}.{}", if *fold { "imatch" } else { "match" }, value(pattern))
        }
        Test::Array(operator, elements) => format!("{operator}.{}", value(&literal(elements))),
        Test::Json(operator, text) => format!("{operator}.{}", value(text)),
    }
}

fn inside(tree: &Tree) -> String {
    match tree {
        Tree::Leaf { field, negated, test } => {
            format!("{}.{}{}", field.name, if *negated { "not." } else { "" }, written(test, true))
        }
        Tree::Branch { .. } => {
            let (key, value) = outside(tree);
            key + &value
        }
    }
}

/// The tree as a key and a value of a query string.
fn outside(tree: &Tree) -> (String, String) {
    match tree {
        Tree::Leaf { field, negated, test } => {
            (field.name.to_owned(), format!("{}{}", if *negated { "not." } else { "" }, written(test, false)))
        }
        Tree::Branch { negated, all, children } => {
            let word = if *all { "and" } else { "or" };
            let key = format!("{}{word}", if *negated { "not." } else { "" });
            (key, format!("({})", children.iter().map(inside).collect::<Vec<_>>().join(",")))
        }
    }
}

// --- The naive evaluation: SQL's three values, over the rows as they were read ------------------------------------------

fn found<'a>(row: &'a Row, field: &Field) -> Option<&'a Value> {
    let mut value = row.get(field.way[0])?;
    for key in &field.way[1..] {
        value = match (value, key.parse::<i64>()) {
            (Value::Array(elements), Ok(index)) => {
                let length = elements.len() as i64;
                elements.get(usize::try_from(if index < 0 { index + length } else { index }).ok()?)?
            }
            // A scalar is an array of itself.
            (Value::Object(_), Ok(_)) => return None,
            (scalar, Ok(0 | -1)) => scalar,
            (Value::Object(members), Err(_)) => members.get(*key)?,
            _ => return None,
        };
    }
    let inside_json = field.way.len() > 1;
    match value {
        Value::Null if !inside_json || field.kind == Kind::Text => None,
        value => Some(value),
    }
}

fn instant(text: &str) -> jiff::Timestamp {
    let text = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.replace(' ', "T") };
    let text = if text.ends_with("+02") { format!("{text}:00") } else { text };
    text.parse().unwrap()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::String(_) => 1,
        Value::Number(_) => 2,
        Value::Bool(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

fn json_order(a: &Value, b: &Value) -> Ordering {
    let empty = |value: &Value| matches!(value, Value::Array(elements) if elements.is_empty());
    let scalar = |value: &Value| rank(value) < 4;
    match (a, b) {
        (a, b) if empty(a) && scalar(b) => Ordering::Less,
        (a, b) if scalar(a) && empty(b) => Ordering::Greater,
        _ => deep_order(a, b),
    }
}

fn deep_order(a: &Value, b: &Value) -> Ordering {
    let first = |orders: Vec<Ordering>| orders.into_iter().find(|o| o.is_ne()).unwrap_or(Ordering::Equal);
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().unwrap().total_cmp(&b.as_f64().unwrap()),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            a.len().cmp(&b.len()).then(first(a.iter().zip(b).map(|(a, b)| deep_order(a, b)).collect()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let sorted = |members: &Row| {
                let mut members: Vec<_> = members.clone().into_iter().collect();
                members.sort_by_key(|(key, _)| (key.len(), key.clone()));
                members
            };
            let members = sorted(a).into_iter().zip(sorted(b));
            let orders = members.map(|((k, a), (l, b))| k.cmp(&l).then(deep_order(&a, &b)));
            a.len().cmp(&b.len()).then(first(orders.collect()))
        }
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn json_contains(a: &Value, b: &Value, top: bool) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            b.iter().all(|(key, b)| a.get(key).is_some_and(|a| json_contains(a, b, false)))
        }
        (Value::Array(a), Value::Array(b)) => b.iter().all(|b| a.iter().any(|a| json_contains(a, b, false))),
        (Value::Array(a), b) if top && rank(b) < 4 => a.iter().any(|a| deep_order(a, b).is_eq()),
        (a, b) => rank(a) < 4 && deep_order(a, b).is_eq(),
    }
}

fn order(kind: Kind, value: &Value, other: &str) -> Ordering {
    match kind {
        Kind::Text => text(value).as_str().cmp(other),
        Kind::Number => value.as_f64().unwrap().total_cmp(&other.parse().unwrap()),
        Kind::Truth => value.as_bool().unwrap().cmp(&matches!(other, "true" | "t")),
        Kind::Time => instant(value.as_str().unwrap()).cmp(&instant(other)),
        Kind::Json => json_order(value, &serde_json::from_str(other).unwrap()),
        Kind::Array => unreachable!("arrays have an order of their own"),
    }
}

fn array_order(value: &Value, other: &[String]) -> Ordering {
    let own: Vec<String> = value.as_array().unwrap().iter().map(text).collect();
    own.as_slice().cmp(other)
}

/// The elements of a literal of this test.
fn elements_of(literal: &str) -> Vec<String> {
    let inside = &literal[1..literal.len() - 1];
    serde_json::from_str(&format!("[{inside}]")).unwrap()
}

fn like(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*' | '%', rest @ ..] => (0..=text.len()).any(|at| like(rest, &text[at..])),
        ['_', rest @ ..] => !text.is_empty() && like(rest, &text[1..]),
        ['\\', c, rest @ ..] | [c, rest @ ..] => text.first() == Some(c) && like(rest, &text[1..]),
    }
}

fn matches(expression: &str, text: &str) -> bool {
    match expression {
        "n" | "N" => text.contains(expression),
        "^a" => text.starts_with('a'),
        "b$" => text.ends_with('b'),
        "^ann$" => text == "ann",
        "x|é" => text.contains('x') || text.contains('é'),
        other => panic!("{other}"),
    }
}

fn holds(row: &Row, field: &Field, test: &Test) -> Option<bool> {
    let value = found(row, field);
    let ordering = |value: &Value, other: &str| match field.kind {
        Kind::Array => array_order(value, &elements_of(other)),
        kind => order(kind, value, other),
    };
    let folded = |fold: bool, text: &str| if fold { text.to_ascii_lowercase() } else { text.to_owned() };
    match test {
        Test::Is("null" | "unknown") => return Some(value.is_none()),
        Test::Is("not_null") => return Some(value.is_some()),
        Test::Is(word) => return Some(value.is_some_and(|value| value.as_bool() == Some(*word == "true"))),
        Test::Distinct(other) => return Some(value.is_none_or(|value| ordering(value, other).is_ne())),
        Test::In(values) | Test::AnyOf("any", values) if values.is_empty() => return Some(false),
        Test::AnyOf("all", values) if values.is_empty() => return Some(true),
        _ => {}
    }
    let value = value?;
    Some(match test {
        Test::Compare(operator, other) => {
            let ordering = ordering(value, other);
            match *operator {
                "eq" => ordering.is_eq(),
                "neq" => ordering.is_ne(),
                "gt" => ordering.is_gt(),
                "gte" => ordering.is_ge(),
                "lt" => ordering.is_lt(),
                _ => ordering.is_le(),
            }
        }
        Test::In(values) | Test::AnyOf("any", values) => values.iter().any(|v| ordering(value, v).is_eq()),
        Test::AnyOf(_, values) => values.iter().all(|v| ordering(value, v).is_eq()),
        Test::Like(fold, pattern) => {
            let chars = |text: &str| folded(*fold, text).chars().collect::<Vec<_>>();
            like(&chars(pattern), &chars(&text(value)))
        }
        Test::Match(fold, expression) => matches(&folded(*fold, expression), &folded(*fold, &text(value))),
        Test::Array(operator, other) => {
            let own: Vec<String> = value.as_array().unwrap().iter().map(text).collect();
            match *operator {
                "cs" => other.iter().all(|element| own.contains(element)),
                "cd" => own.iter().all(|element| other.contains(element)),
                _ => own.iter().any(|element| other.contains(element)),
            }
        }
        Test::Json(operator, other) => {
            let other: Value = serde_json::from_str(other).unwrap();
            if *operator == "cs" {
                json_contains(value, &other, true)
            } else {
                json_contains(&other, value, true)
            }
        }
        Test::Is(_) | Test::Distinct(_) => unreachable!("answered above"),
    })
}

fn evaluate(row: &Row, tree: &Tree) -> Option<bool> {
    let (negated, value) = match tree {
        Tree::Leaf { field, negated, test } => (*negated, holds(row, field, test)),
        Tree::Branch { negated, all, children } => {
            let values: Vec<_> = children.iter().map(|child| evaluate(row, child)).collect();
            let deciding = Some(!*all);
            let value = if values.contains(&deciding) {
                deciding
            } else if values.contains(&None) {
                None
            } else {
                Some(*all)
            };
            (*negated, value)
        }
    };
    value.map(|value| value != negated)
}

// --- The rows -----------------------------------------------------------------------------------------------------------

fn seed(server: &Harness) {
    let numbers = [
        json!(0),
        json!(1),
        json!(-2.5),
        json!("x"),
        json!(null),
        json!([1]),
        json!({}),
        json!(true),
        json!([]),
    ];
    for (n, text) in TEXTS.iter().cycle().take(28).enumerate() {
        let user = if n < 2 { (*text).to_owned() } else { format!("user-{n}") };
        let mut scores = json!({ "n": numbers[n % numbers.len()], "l": [n % 3, numbers[n % 7]] });
        if n % 3 > 0 {
            scores["t, (t)"] = (*text).into();
        }
        if n % 5 == 0 {
            scores = json!({ "n": 1, "l": [1] });
        }
        let reasoning: Vec<&str> = TEXTS.iter().skip(n % 7).take(n % 3).copied().collect();
        let confidence = [0.5, 0.51, 1.0, 0.4][n % 4];
        archetype(server, &user, Archetype::AverageUser, confidence, &reasoning, scores);
        if n % 4 == 1 {
            let end = [None, Some("2026-06-01T00:00:00Z"), Some("2026-06-01T00:00:00.000001Z")][n % 3];
            override_archetype(server, &user, if text.trim().is_empty() { "x" } else { text }, end);
        }
    }
}

fn rows(server: &Harness, query: &str) -> Value {
    server.get(As::Service, &format!("/rest/v1/user_archetypes?{query}")).ok()
}

fn encoded(pairs: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[test]
fn a_random_filter_finds_what_a_naive_evaluation_finds() {
    let server = Harness::start();
    seed(&server);
    let all = rows(&server, "order=user_id");
    let all: Vec<Row> = all.as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect();
    assert_eq!(all.len(), 28);
    let mut some = 0;
    let trees = prop::collection::vec(tree(), 1..3);
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let result = runner.run(&trees, |trees| {
        let mut pairs: Vec<_> = trees.iter().map(outside).collect();
        pairs.push(("select".into(), "user_id".into()));
        pairs.push(("order".into(), "user_id".into()));
        let query = encoded(&pairs);
        let kept = all.iter().filter(|row| trees.iter().all(|tree| evaluate(row, tree) == Some(true)));
        let expected: Vec<String> = kept.map(|row| text(&row["user_id"])).collect();
        prop_assert_eq!(column(&rows(&server, &query), "user_id"), expected, "{:?}", pairs);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    // That the generator makes conditions that some rows meet, and some do not.
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let tree = tree().new_tree(&mut runner).unwrap().current();
        let met = all.iter().filter(|row| evaluate(row, &tree) == Some(true)).count();
        some += usize::from(met > 0 && met < all.len());
    }
    assert!(some > 50, "{some}");
}

#[test]
fn a_random_order_and_page_are_those_of_a_stable_sort() {
    let server = Harness::start();
    seed(&server);
    let all = rows(&server, "order=user_id");
    let all: Vec<Row> = all.as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect();
    let term = (select(&FIELDS[..]), any::<bool>(), prop::option::of(any::<bool>()));
    let asked = (prop::collection::vec(term, 1..4), 0..30_usize, 0..30_usize);
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let result = runner.run(&asked, |(terms, limit, offset)| {
        let mut sorted: Vec<&Row> = all.iter().collect();
        sorted.sort_by(|a, b| {
            let orders = terms.iter().map(|(field, descending, nulls_first)| {
                let nulls_first = nulls_first.unwrap_or(*descending);
                match (found(a, field), found(b, field)) {
                    (None, None) => Ordering::Equal,
                    (None, Some(_)) => {
                        if nulls_first {
                            Ordering::Less
                        } else {
                            Ordering::Greater
                        }
                    }
                    (Some(_), None) => {
                        if nulls_first {
                            Ordering::Greater
                        } else {
                            Ordering::Less
                        }
                    }
                    (Some(a), Some(b)) => {
                        let order = match field.kind {
                            Kind::Array => {
                                let other: Vec<String> = b.as_array().unwrap().iter().map(text).collect();
                                array_order(a, &other)
                            }
                            Kind::Json => json_order(a, b),
                            kind => order(kind, a, &text(b)),
                        };
                        if *descending { order.reverse() } else { order }
                    }
                }
            });
            orders.into_iter().find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        });
        let order = terms.iter().map(|(field, descending, nulls_first)| {
            let nulls = nulls_first.map_or("", |first| if first { ".nullsfirst" } else { ".nullslast" });
            format!("{}{}{nulls}", field.name, if *descending { ".desc" } else { ".asc" })
        });
        let order = order.collect::<Vec<_>>().join(",");
        let pairs = [
            ("select".to_owned(), "user_id".to_owned()),
            ("order".to_owned(), order),
            ("limit".to_owned(), limit.to_string()),
            ("offset".to_owned(), offset.to_string()),
        ];
        let page = sorted.iter().skip(offset).take(limit);
        let expected: Vec<String> = page.map(|row| text(&row["user_id"])).collect();
        prop_assert_eq!(column(&rows(&server, &encoded(&pairs)), "user_id"), expected, "{:?}", pairs);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
