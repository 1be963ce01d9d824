//! `POST /functions/v1/ingest`

use serde_json::{Value, json};

use crate::support::facts::{delete, insert, member, night, profile, request, update};
use crate::support::{As, DATE, Harness, INGEST, OUTCOMES};

const REQUESTS: &str = "date_change_requests";

fn columns(server: &Harness, id: &str) -> Value {
    serde_json::to_value(server.decision(id).unwrap().outcome).unwrap()
}

fn decided(server: &Harness) -> String {
    server.usual()["recommendationId"].as_str().unwrap().to_owned()
}

/// The request that followed a recommendation for alice.
fn following(id: &str, recommendation: &str, status: &str) -> Value {
    let mut with = json!({
        "recommendation_id": recommendation, "transaction_type": "crash", "proposed_price": 41, "base_price": 150,
        "created_at": "2026-03-09T10:05:00+00:00", "status": status
    });
    if status != "pending" {
        with["responded_at"] = json!("2026-03-09T10:06:00+00:00");
    }
    request(id, "alice", "bob", with)
}

#[test]
fn only_the_service_brings_facts() {
    let server = Harness::with_home();
    server.seed([profile("root", "admin", false)]);
    let before = server.contents();
    let change = profile("alice", "admin", false);
    for caller in [As::User("alice"), As::User("root")] {
        server.post(caller, INGEST, &change).refused(403, "role_required");
    }
    server.post(As::Anon, INGEST, &change).refused(401, "unauthorized");
    server.post(As::Nobody, INGEST, &change).refused(401, "unauthorized");
    server.contents().are_still(&before, "what should change nothing");
}

#[test]
fn one_payload_or_an_array_is_counted_and_twice_changes_nothing() {
    let server = Harness::start();
    let one = server.post(As::Service, INGEST, &profile("alice", "member", false)).ok();
    assert_eq!(one["success"], true);
    assert_eq!((&one["upserted"], &one["deleted"], &one["unchanged"]), (&json!(1), &json!(0), &json!(0)));
    let many = json!([
        member("home", "alice"),
        member("home", "bob"),
        night("home", DATE, Some("bob"), 99.5, 1.1),
        insert("leases", json!({ "id": "home" })),
        insert(REQUESTS, request("r1", "alice", "bob", json!({})))
    ]);
    assert_eq!(server.post(As::Service, INGEST, &many).ok()["upserted"], 5);
    let before = server.contents();
    server.clock.advance(60);
    let again = server.post(As::Service, INGEST, &many).ok();
    assert_eq!((&again["upserted"], &again["unchanged"]), (&json!(0), &json!(5)));
    server.contents().are_still(&before, "what should change nothing");
    let gone = delete("lease_members", json!({ "lease_id": "home", "user_id": "bob" }));
    assert_eq!(server.post(As::Service, INGEST, &gone).ok()["deleted"], 1);
    assert_eq!(server.post(As::Service, INGEST, &gone).ok()["unchanged"], 1);
    server.recommend(As::User("alice"), "alice", DATE, "bob").refused(403, "no_shared_lease");
}

#[test]
fn an_insert_of_a_row_that_is_there_and_an_update_of_one_that_is_not_are_upserts() {
    let server = Harness::start();
    server.seed([night("home", DATE, Some("bob"), 100.0, 1.0), night("home", DATE, Some("bob"), 120.0, 1.0)]);
    assert_eq!(server.count("SELECT CAST(base_price AS INTEGER) FROM lease_nights"), 120);
    let record = json!({ "lease_id": "home", "night": "2026-03-20", "base_price": 80 });
    server.seed([update("lease_nights", record, Value::Null)]);
    assert_eq!(server.count("SELECT count(*) FROM lease_nights"), 2);
}

#[test]
fn an_insert_deletes_nothing_whatever_old_record_says() {
    let server = Harness::with_home();
    let mut change = profile("zoe", "member", false);
    change["old_record"] = json!({ "id": "alice" });
    let answer = server.post(As::Service, INGEST, &change).ok();
    assert_eq!((&answer["upserted"], &answer["deleted"]), (&json!(1), &json!(0)));
}

#[test]
fn an_update_that_changes_the_key_moves_the_row() {
    let server = Harness::with_home();
    let old = json!({ "lease_id": "home", "night": DATE });
    let new = json!({ "lease_id": "home", "night": "2026-03-23", "held_by": "bob", "base_price": 150, "market_demand": 1.2 });
    server.seed([update("lease_nights", new, old)]);
    assert_eq!(server.usual()["contextFactors"]["pricingSource"], "default");
    let moved = server.recommend(As::User("alice"), "alice", "2026-03-23", "bob").ok();
    assert_eq!(moved["contextFactors"]["pricingSource"], "lease_night");
}

#[test]
fn all_of_an_array_or_nothing_of_it() {
    let server = Harness::with_home();
    let before = server.contents();
    let spoiled = json!([profile("zoe", "member", false), profile("yan", "king", false)]);
    server.post(As::Service, INGEST, &spoiled).bad("[1].record.role");
    server.contents().are_still(&before, "what should change nothing");
}

#[test]
fn what_is_not_a_row_is_refused_with_its_index_and_field() {
    let server = Harness::with_home();
    let before = server.contents();
    let with = |field: &str, value: Value| {
        let mut record = json!({ "lease_id": "home", "night": "2026-05-01", "base_price": 100 });
        record[field] = value;
        insert("lease_nights", record)
    };
    let asked =
        |field: &str, value: Value| insert(REQUESTS, request("r", "alice", "bob", json!({ field: value })));
    let envelope = |field: &str, value: Value| {
        let mut change = profile("zoe", "member", false);
        change[field] = value;
        change
    };
    for (change, field) in [
        (envelope("table", json!("recommendation_logs")), "table"),
        (envelope("table", json!("user_archetypes")), "table"),
        (envelope("table", json!("profiles; DROP TABLE profiles")), "table"),
        (envelope("schema", json!("auth")), "schema"),
        (envelope("schema", json!("nudge")), "schema"),
        (envelope("type", json!("TRUNCATE")), "type"),
        (envelope("type", json!("insert")), "type"),
        (envelope("record", Value::Null), "record"),
        (json!({ "type": "DELETE", "table": "profiles", "schema": "public", "record": null }), "old_record"),
        (delete("profiles", json!({})), "old_record.id"),
        (insert("profiles", json!({ "role": "member" })), "record.id"),
        (insert("profiles", json!({ "id": "anonymous" })), "record.id"),
        (insert("profiles", json!({ "id": "a b" })), "record.id"),
        (
            insert("profiles", json!({ "id": "zoe", "personalization_opt_out": "maybe" })),
            "record.personalization_opt_out",
        ),
        (with("base_price", json!("NaN")), "record.base_price"),
        (with("base_price", json!(-1)), "record.base_price"),
        (with("base_price", json!(0)), "record.base_price"),
        (with("base_price", json!(1e12)), "record.base_price"),
        (with("base_price", json!(100_000.01)), "record.base_price"),
        (with("base_price", json!(9.999)), "record.base_price"),
        (with("base_price", Value::Null), "record.base_price"),
        (with("base_price", json!([1])), "record.base_price"),
        (with("market_demand", json!(-1)), "record.market_demand"),
        (with("market_demand", json!("Infinity")), "record.market_demand"),
        (with("night", json!("2026-02-30")), "record.night"),
        (with("night", json!("20260501")), "record.night"),
        (with("night", json!("infinity")), "record.night"),
        (with("held_by", json!("a,b")), "record.held_by"),
        (with("lease_id", Value::Null), "record.lease_id"),
        (asked("transaction_type", json!("rent")), "record.transaction_type"),
        (asked("status", json!("open")), "record.status"),
        (asked("receiver_id", json!("alice")), "record.receiver_id"),
        (asked("responded_at", json!("2026-02-19T00:00:00Z")), "record.responded_at"),
        (asked("created_at", json!("2026-02-19")), "record.created_at"),
        (asked("created_at", Value::Null), "record.created_at"),
        (asked("recommendation_id", json!("17")), "record.recommendation_id"),
        (asked("offered_night", json!(DATE)), "record.offered_night"),
        (asked("proposed_price", json!(1.005)), "record.proposed_price"),
    ] {
        let body = server.post(As::Service, INGEST, &change).bad(&format!("[0].{field}"));
        server
            .post(As::Service, INGEST, &json!([profile("zoe", "member", false), change]))
            .bad(&format!("[1].{field}"));
        assert!(body["message"].as_str().unwrap().len() < 400, "{body}");
    }
    server.contents().are_still(&before, "what should change nothing");
}

#[test]
fn unknown_columns_and_doubled_ones_in_a_record_are_the_apps_own_business() {
    let server = Harness::start();
    let change = r#"{"type":"INSERT","table":"profiles","schema":"public","old_record":null,
        "record":{"id":"zoe","full_name":"Zoë","settings":{"a":[1,2,{"b":null}]},"full_name":"Z."}}"#;
    server.request(As::Service, "POST", INGEST).raw_json(change).send().ok();
    assert_eq!(server.count("SELECT count(*) FROM profiles WHERE id = 'zoe'"), 1);
    for envelope in [
        r#"{"type":"INSERT","table":"profiles","schema":"public","record":{"id":"yan"},"old_record":null,"extra":1}"#,
        r#"{"type":"INSERT","type":"INSERT","table":"profiles","schema":"public","record":{"id":"yan"}}"#,
        r#"["INSERT","profiles","public",{"id":"yan"}]"#,
        r#"[["INSERT","profiles","public",{"id":"yan"}]]"#,
    ] {
        server.request(As::Service, "POST", INGEST).raw_json(envelope).send().refused(400, "invalid_body");
    }
    assert_eq!(server.count("SELECT count(*) FROM profiles"), 1);
}

#[test]
fn a_request_tells_what_came_of_the_decision_that_it_names() {
    for (status, accepted, last) in [
        ("accepted", json!(true), "accepted"),
        ("rejected", json!(false), "declined"),
        ("expired", json!(false), "expired"),
        ("cancelled", Value::Null, "cancelled"),
    ] {
        let server = Harness::with_home();
        let id = decided(&server);
        server.clock.advance(600);
        let pending = insert(REQUESTS, following("r1", &id, "pending"));
        assert_eq!(server.post(As::Service, INGEST, &pending).ok()["outcomesRecorded"], 1);
        let told = columns(&server, &id);
        assert_eq!((&told["userSelected"], &told["requestSubmitted"]), (&json!("crash"), &json!(true)));
        assert_eq!(told["timeToDecisionSeconds"], 300.0);
        let answered = update(REQUESTS, following("r1", &id, status), following("r1", &id, "pending"));
        assert_eq!(server.post(As::Service, INGEST, &answered).ok()["outcomesRecorded"], 1, "{status}");
        assert_eq!(columns(&server, &id)["requestAccepted"], accepted, "{status}");
        let kinds: Vec<_> = server.decision(&id).unwrap().events.iter().map(|e| e.kind.as_str()).collect();
        assert_eq!(kinds, ["submitted", last]);
        assert_eq!(server.post(As::Service, INGEST, &answered).ok()["outcomesRecorded"], 0, "the same again");
    }
}

#[test]
fn the_same_fact_by_both_ways_counts_once() {
    let told = |server: &Harness, id: &str, kind: &str, with_type: bool| {
        let mut event = json!({ "recommendationId": id, "event": kind });
        if with_type {
            event["transactionType"] = json!("crash");
        }
        server.post(As::User("alice"), OUTCOMES, &event).ok()
    };
    // First the app, then the webhook.
    let server = Harness::with_home();
    let id = decided(&server);
    server.clock.advance(600);
    told(&server, &id, "submitted", true);
    told(&server, &id, "accepted", false);
    let answered = server.post(As::Service, INGEST, &insert(REQUESTS, following("r1", &id, "accepted"))).ok();
    assert_eq!(answered["outcomesRecorded"], 0, "counted already");
    assert_eq!(
        server.decision(&id).unwrap().events.len(),
        4,
        "kept by either way, so that their order does not matter"
    );
    let first_way = columns(&server, &id);
    // First the webhook, then the app.
    let id = decided(&server);
    let mut record = following("r2", &id, "accepted");
    record["created_at"] = json!("2026-03-09T10:10:00Z");
    record["responded_at"] = json!("2026-03-09T10:10:00Z");
    assert_eq!(server.post(As::Service, INGEST, &insert(REQUESTS, record)).ok()["outcomesRecorded"], 2);
    assert_eq!(told(&server, &id, "submitted", true)["duplicates"], 1);
    assert_eq!(told(&server, &id, "accepted", false)["duplicates"], 1);
    assert_eq!(columns(&server, &id)["finalTransactionType"], "crash");
    assert_eq!(first_way["finalTransactionType"], "crash");
}

#[test]
fn a_request_that_names_anothers_decision_is_stored_and_tells_nothing() {
    let server = Harness::with_home();
    let id = decided(&server);
    let by_carol =
        json!({ "recommendation_id": id, "status": "accepted", "responded_at": "2026-03-09T11:00:00Z" });
    let change = insert(REQUESTS, request("r1", "carol", "bob", by_carol));
    let answer = server.post(As::Service, INGEST, &change).ok();
    assert_eq!((&answer["upserted"], &answer["outcomesRecorded"]), (&json!(1), &json!(0)));
    assert_eq!(columns(&server, &id)["requestSubmitted"], false);
    let unknown = following("r2", "01980000-0000-7000-8000-000000000000", "pending");
    assert_eq!(server.post(As::Service, INGEST, &insert(REQUESTS, unknown)).ok()["upserted"], 1);
}

#[test]
fn an_answer_that_contradicts_a_known_one_is_stored_but_not_counted() {
    let server = Harness::with_home();
    let id = decided(&server);
    server.clock.advance(600);
    server.seed([insert(REQUESTS, following("r1", &id, "accepted"))]);
    let answer = server.post(As::Service, INGEST, &insert(REQUESTS, following("r1", &id, "rejected"))).ok();
    assert_eq!(answer["outcomesRefused"], 1);
    assert_eq!(columns(&server, &id)["requestAccepted"], true);
    assert_eq!(
        server.count("SELECT count(*) FROM date_change_requests WHERE status = 'rejected' AND id = 'r1'"),
        1
    );
}

#[test]
fn facts_may_fill_four_mebibytes_and_no_more() {
    let server = Harness::start();
    let padded = |bytes: usize| {
        let mut text = insert("profiles", json!({ "id": "zoe" })).to_string();
        text.push_str(&" ".repeat(bytes - text.len()));
        server.request(As::Service, "POST", INGEST).raw_json(text).send()
    };
    padded(4 * 1024 * 1024).ok();
    padded(4 * 1024 * 1024 + 1).refused(413, "too_large");
}
