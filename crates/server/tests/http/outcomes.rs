//! `POST /functions/v1/recommendation-outcomes`

use serde_json::{Value, json};

use crate::support::facts::profile;
use crate::support::{As, DATE, Harness, OUTCOMES, Response};

const ALICE: As<'_> = As::User("alice");

fn decided(server: &Harness) -> String {
    server.usual()["recommendationId"].as_str().unwrap().to_owned()
}

/// An event of a recommendation; `with` adds to it.
fn event(id: &str, kind: &str, with: Value) -> Value {
    let mut event = json!({ "recommendationId": id, "event": kind });
    event.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    event
}

/// A time so many seconds after the decision.
fn after(seconds: i64) -> String {
    let decided: jiff::Timestamp = crate::support::NOW.parse().unwrap();
    (decided + jiff::SignedDuration::from_secs(seconds)).to_string()
}

fn tell(server: &Harness, events: Value) -> Response {
    server.post(ALICE, OUTCOMES, &events)
}

fn columns(server: &Harness, id: &str) -> Value {
    serde_json::to_value(server.decision(id).unwrap().outcome).unwrap()
}

fn events(server: &Harness) -> i64 {
    server.count("SELECT count(*) FROM recommendation_events")
}

#[test]
fn the_course_of_a_decision_fills_its_columns() {
    let server = Harness::with_home();
    let id = decided(&server);
    let unknown = json!({
        "userSelected": null, "followedRecommendation": null, "timeToDecisionSeconds": null,
        "requestSubmitted": false, "requestAccepted": null, "finalTransactionType": null, "npsScore": null
    });
    assert_eq!(columns(&server, &id), unknown);
    let one = tell(&server, event(&id, "viewed", json!({}))).ok();
    assert_eq!(one, json!({ "success": true, "recorded": 1, "duplicates": 0 }));
    assert_eq!(columns(&server, &id), unknown);
    server.clock.advance(12);
    tell(&server, event(&id, "selected", json!({ "transactionType": "crash" }))).ok();
    assert_eq!(columns(&server, &id)["timeToDecisionSeconds"], 12.0, "selected less decided");
    assert_eq!(columns(&server, &id)["followedRecommendation"], false);
    let rest = json!([
        event(
            &id,
            "selected",
            json!({ "transactionType": "buyout", "timeToDecisionSeconds": 7.5, "occurredAt": after(20) })
        ),
        event(&id, "submitted", json!({ "transactionType": "buyout" })),
        event(&id, "accepted", json!({})),
        event(&id, "nps", json!({ "npsScore": 9 })),
    ]);
    server.clock.advance(60);
    assert_eq!(tell(&server, rest).ok()["recorded"], 4);
    assert_eq!(
        columns(&server, &id),
        json!({
            "userSelected": "buyout", "followedRecommendation": true, "timeToDecisionSeconds": 7.5,
            "requestSubmitted": true, "requestAccepted": true, "finalTransactionType": "buyout", "npsScore": 9
        })
    );
}

#[test]
fn the_same_event_again_is_a_duplicate_and_changes_nothing() {
    let server = Harness::with_home();
    let id = decided(&server);
    let first = json!([
        event(&id, "selected", json!({ "transactionType": "crash", "timeToDecisionSeconds": 5 })),
        event(&id, "selected", json!({ "transactionType": "crash", "occurredAt": after(1) })),
        event(&id, "nps", json!({ "npsScore": 3 })),
    ]);
    assert_eq!(tell(&server, first.clone()).ok()["recorded"], 3);
    let before = server.contents();
    server.clock.advance(500);
    assert_eq!(tell(&server, first).ok(), json!({ "success": true, "recorded": 0, "duplicates": 3 }));
    // Another time to decision or score makes no other event: recommendation, event, type and given time do.
    let same = json!([
        event(&id, "selected", json!({ "transactionType": "crash", "timeToDecisionSeconds": 99 })),
        event(&id, "nps", json!({ "npsScore": 8 })),
        event(
            &id.to_uppercase(),
            "selected",
            json!({ "transactionType": "crash", "occurredAt": "2026-03-09T11:00:01+01:00" })
        ),
    ]);
    assert_eq!(tell(&server, same).ok()["duplicates"], 3);
    server.contents().are_still(&before, "what should change nothing");
    let other = event(&id, "selected", json!({ "transactionType": "crash", "occurredAt": after(2) }));
    let twice = json!([other, other]);
    assert_eq!(tell(&server, twice).ok(), json!({ "success": true, "recorded": 1, "duplicates": 1 }));
}

#[test]
fn a_decision_takes_one_score() {
    let server = Harness::with_home();
    let id = decided(&server);
    let score =
        |score: u8, second| event(&id, "nps", json!({ "npsScore": score, "occurredAt": after(second) }));
    server.clock.advance(100);
    tell(&server, score(6, 40)).ok();
    assert_eq!(tell(&server, score(6, 40)).ok()["duplicates"], 1);
    let before = server.contents();
    let told = tell(&server, score(9, 50)).refused(409, "impossible_event");
    assert!(told["message"].as_str().unwrap().contains("a score was given already"), "{told}");
    server.contents().are_still(&before, "what should change nothing");
    assert_eq!(columns(&server, &id)["npsScore"], 6);
}

#[test]
fn the_columns_do_not_depend_on_the_order_of_arrival() {
    let server = Harness::with_home();
    let story = |id: &str| {
        [
            event(id, "selected", json!({ "transactionType": "buyout", "occurredAt": after(10) })),
            event(id, "selected", json!({ "transactionType": "crash", "occurredAt": after(20) })),
            event(id, "submitted", json!({ "transactionType": "crash", "occurredAt": after(25) })),
            event(id, "accepted", json!({ "occurredAt": after(30) })),
            event(id, "viewed", json!({ "occurredAt": after(5) })),
            event(id, "nps", json!({ "npsScore": 10, "occurredAt": after(50) })),
        ]
    };
    let mut seen = Vec::new();
    for order in [[0, 1, 2, 3, 4, 5], [2, 3, 1, 0, 5, 4], [5, 4, 2, 1, 0, 3], [1, 2, 0, 4, 3, 5]] {
        let id = decided(&server);
        server.clock.advance(100);
        let id_story = story(&id);
        // Dated by the first decision's clock: this one's own.
        let at = server.decision(&id).unwrap().row.created_at;
        let begun: jiff::Timestamp = crate::support::NOW.parse().unwrap();
        for i in order {
            let mut event = id_story[i].clone();
            let told: jiff::Timestamp = event["occurredAt"].as_str().unwrap().parse().unwrap();
            event["occurredAt"] = json!((at + told.duration_since(begun)).to_string());
            tell(&server, event).ok();
        }
        seen.push(columns(&server, &id));
    }
    assert_eq!(
        seen[0],
        json!({
            "userSelected": "crash", "followedRecommendation": false, "timeToDecisionSeconds": 20.0,
            "requestSubmitted": true, "requestAccepted": true, "finalTransactionType": "crash", "npsScore": 10
        })
    );
    assert!(seen.iter().all(|columns| *columns == seen[0]), "{seen:#?}");
}

#[test]
fn a_submission_implies_that_its_type_was_selected() {
    let server = Harness::with_home();
    let id = decided(&server);
    server.clock.advance(30);
    tell(&server, event(&id, "submitted", json!({ "transactionType": "swap" }))).ok();
    let columns = columns(&server, &id);
    assert_eq!(
        (&columns["userSelected"], &columns["followedRecommendation"]),
        (&json!("swap"), &json!(false))
    );
    assert_eq!(columns["timeToDecisionSeconds"], 30.0);
}

#[test]
fn an_answer_may_come_in_one_call_with_its_submission_in_either_order() {
    let server = Harness::with_home();
    for answer in ["accepted", "declined", "expired"] {
        let id = decided(&server);
        let both = json!([
            event(&id, answer, json!({})),
            event(&id, "submitted", json!({ "transactionType": "crash" }))
        ]);
        assert_eq!(tell(&server, both).ok()["recorded"], 2);
        assert_eq!(columns(&server, &id)["requestAccepted"], answer == "accepted");
    }
}

#[test]
fn cancelled_may_follow_anything() {
    let server = Harness::with_home();
    for before in [
        vec![],
        vec!["viewed"],
        vec!["selected"],
        vec!["submitted"],
        vec!["submitted", "accepted"],
        vec!["submitted", "declined"],
    ] {
        let id = decided(&server);
        for kind in before {
            let typed = if matches!(kind, "selected" | "submitted") {
                json!({ "transactionType": "crash" })
            } else {
                json!({})
            };
            tell(&server, event(&id, kind, typed)).ok();
        }
        server.clock.advance(5);
        assert_eq!(tell(&server, event(&id, "cancelled", json!({}))).ok()["recorded"], 1);
        assert_eq!(columns(&server, &id)["finalTransactionType"], Value::Null);
    }
}

#[test]
fn an_event_that_cannot_have_happened_is_refused_with_everything_beside_it() {
    let server = Harness::with_home();
    let id = decided(&server);
    let submitted = event(&id, "submitted", json!({ "transactionType": "crash" }));
    let impossible = |events: Value| {
        let before = server.contents();
        let body = tell(&server, events).refused(409, "impossible_event");
        server.contents().are_still(&before, "a refused call");
        body
    };
    for answer in ["accepted", "declined", "expired"] {
        let body = impossible(json!([event(&id, "viewed", json!({})), event(&id, answer, json!({}))]));
        assert!(body["message"].as_str().unwrap().contains("Event 1"), "{body}");
    }
    let other = decided(&server);
    impossible(json!([
        event(&other, "submitted", json!({ "transactionType": "crash" })),
        event(&id, "accepted", json!({}))
    ]));
    impossible(json!([submitted, event(&id, "accepted", json!({ "transactionType": "swap" }))]));
    impossible(json!([submitted, event(&id, "accepted", json!({})), event(&id, "declined", json!({}))]));
    impossible(event(&id, "viewed", json!({ "occurredAt": after(-1) })));
    impossible(event(&id, "viewed", json!({ "occurredAt": after(301) })));
    tell(&server, event(&id, "viewed", json!({ "occurredAt": after(300) }))).ok();
    tell(&server, event(&id, "viewed", json!({ "occurredAt": after(0) }))).ok();

    tell(&server, submitted.clone()).ok();
    impossible(event(&id, "submitted", json!({ "transactionType": "buyout" })));
    impossible(event(&id, "declined", json!({ "transactionType": "buyout" })));
    tell(&server, event(&id, "declined", json!({ "transactionType": "crash" }))).ok();
    impossible(event(&id, "accepted", json!({})));
    impossible(event(&id, "expired", json!({ "occurredAt": after(60) })));
    assert_eq!(columns(&server, &id)["requestAccepted"], false);
}

#[test]
fn outcomes_are_told_by_the_user_or_the_service_and_nobody_else() {
    let server = Harness::with_home();
    server.seed([profile("root", "admin", false)]);
    let id = decided(&server);
    let by_service = server.recommend(As::Service, "alice", DATE, "bob").ok();
    let anonymous = server.recommend(As::Anon, "alice", DATE, "bob").ok();
    let before = server.contents();
    let of = |id: &str| event(id, "viewed", json!({}));
    let of_alice = server.post(As::User("bob"), OUTCOMES, &of(&id));
    let of_nobody = server.post(As::User("bob"), OUTCOMES, &of("01980000-0000-7000-8000-000000000000"));
    of_alice.refused(403, "not_your_recommendation");
    assert_eq!(of_alice.comparable(), of_nobody.comparable());
    server
        .post(As::Service, OUTCOMES, &of("01980000-0000-7000-8000-000000000000"))
        .refused(403, "not_your_recommendation");
    server.post(As::User("root"), OUTCOMES, &of(&id)).refused(403, "not_your_recommendation");
    server
        .post(ALICE, OUTCOMES, &of(anonymous["recommendationId"].as_str().unwrap()))
        .refused(403, "not_your_recommendation");
    // One of another's in an array of one's own: nothing of it.
    server
        .post(As::User("bob"), OUTCOMES, &json!([of(&id), of(&id)]))
        .refused(403, "not_your_recommendation");
    server.post(As::Anon, OUTCOMES, &of(&id)).refused(401, "unauthorized");
    server.post(As::Nobody, OUTCOMES, &of(&id)).refused(401, "unauthorized");
    server.contents().are_still(&before, "what should change nothing");
    tell(&server, of(by_service["recommendationId"].as_str().unwrap())).ok();
    server.post(As::Service, OUTCOMES, &of(&id)).ok();
    server.post(As::Service, OUTCOMES, &of(anonymous["recommendationId"].as_str().unwrap())).ok();
}

#[test]
fn what_does_not_fit_the_rules_of_an_event_is_refused() {
    let server = Harness::with_home();
    let id = decided(&server);
    let before = server.contents();
    let typed = json!({ "transactionType": "crash" });
    for (kind, with, field) in [
        ("Viewed", json!({}), "event"),
        ("clicked", json!({}), "event"),
        ("", json!({}), "event"),
        ("selected", json!({}), "transactionType"),
        ("submitted", json!({}), "transactionType"),
        ("selected", json!({ "transactionType": "rent" }), "transactionType"),
        ("selected", json!({ "transactionType": "Crash" }), "transactionType"),
        ("viewed", typed.clone(), "transactionType"),
        ("nps", json!({ "npsScore": 5, "transactionType": "crash" }), "transactionType"),
        ("cancelled", typed.clone(), "transactionType"),
        ("nps", json!({}), "npsScore"),
        ("nps", json!({ "npsScore": -1 }), "npsScore"),
        ("nps", json!({ "npsScore": 11 }), "npsScore"),
        ("viewed", json!({ "npsScore": 5 }), "npsScore"),
        ("selected", json!({ "transactionType": "crash", "npsScore": 5 }), "npsScore"),
        (
            "selected",
            json!({ "transactionType": "crash", "timeToDecisionSeconds": -0.5 }),
            "timeToDecisionSeconds",
        ),
        (
            "selected",
            json!({ "transactionType": "crash", "timeToDecisionSeconds": 604_801 }),
            "timeToDecisionSeconds",
        ),
        (
            "submitted",
            json!({ "transactionType": "crash", "timeToDecisionSeconds": 5 }),
            "timeToDecisionSeconds",
        ),
        ("viewed", json!({ "timeToDecisionSeconds": 5 }), "timeToDecisionSeconds"),
        ("viewed", json!({ "occurredAt": "yesterday" }), "occurredAt"),
        ("viewed", json!({ "occurredAt": "2026-03-09" }), "occurredAt"),
        ("viewed", json!({ "occurredAt": "2026-03-09T10:00:00" }), "occurredAt"),
        ("viewed", json!({ "occurredAt": "2026-03-09T10:00:00Z[UTC]" }), "occurredAt"),
        ("viewed", json!({ "recommendationId": "17" }), "recommendationId"),
        ("viewed", json!({ "recommendationId": "" }), "recommendationId"),
    ] {
        let told = event(&id, kind, with.clone());
        tell(&server, json!([event(&id, "viewed", json!({})), told])).bad(&format!("[1].{field}"));
        tell(&server, told).bad(&format!("[0].{field}"));
    }
    for body in [
        event(&id, "nps", json!({ "npsScore": 5.5 })),
        event(&id, "nps", json!({ "npsScore": "5" })),
        event(&id, "viewed", json!({ "user_id": "bob" })),
        event(&id, "viewed", json!({ "occurredAt": 1_773_050_400 })),
        json!({ "event": "viewed" }),
        json!({ "recommendationId": id }),
        json!([]),
        json!([id, "viewed"]),
        json!([[id, "viewed"]]),
        Value::Null,
    ] {
        tell(&server, body).refused(400, "invalid_body");
    }
    server.contents().are_still(&before, "what should change nothing");
    tell(
        &server,
        event(&id, "selected", json!({ "transactionType": "crash", "timeToDecisionSeconds": 604_800 })),
    )
    .ok();
    tell(&server, event(&id, "nps", json!({ "npsScore": 0 }))).ok();
}

#[test]
fn a_call_takes_at_most_five_hundred_events_and_all_or_none_of_them() {
    let server = Harness::with_home();
    // A decision has at most 200 events.
    let ids: Vec<String> = (0..3).map(|_| decided(&server)).collect();
    let many = |n: i64| {
        (0..n)
            .map(|i| event(&ids[i as usize % 3], "viewed", json!({ "occurredAt": after(i) })))
            .collect::<Value>()
    };
    server.clock.advance(600);
    let mut too_many_and_one_bad = many(501);
    too_many_and_one_bad[7] = json!("no object");
    for events in [many(501), too_many_and_one_bad] {
        tell(&server, events).refused(413, "too_large");
    }
    assert_eq!(events(&server), 0);
    let mut spoiled = many(500);
    spoiled[499]["occurredAt"] = json!(after(-1));
    tell(&server, spoiled).refused(409, "impossible_event");
    assert_eq!(events(&server), 0);
    assert_eq!(tell(&server, many(500)).ok()["recorded"], 500);
    assert_eq!(events(&server), 500);
}

#[test]
fn an_event_without_a_time_happened_when_it_was_received() {
    let server = Harness::with_home();
    let id = decided(&server);
    server.clock.advance(77);
    tell(&server, event(&id, "viewed", json!({}))).ok();
    let stored = server.decision(&id).unwrap().events;
    assert_eq!(stored[0].occurred_at.to_string(), after(77));
    assert_eq!(stored[0].recorded_at.to_string(), after(77));
}
