//! `GET /functions/v1/transaction-recommendations`

use nudge::usecases::record::RecordedContext;
use nudge::wire;
use nudge_engine::{Policy, decide};
use serde_json::{Value, json};

use crate::support::facts::{self, insert, member, night, profile, request};
use crate::support::{As, DATE, Harness, NOW, RECOMMENDATIONS, Response, without};

const UUID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
const UUID_LOUD: &str = "A0EEBC999C0B4EF8BB6D6BB9BD380A11";

fn option<'a>(answer: &'a Value, kind: &str) -> &'a Value {
    answer["options"].as_array().unwrap().iter().find(|option| option["type"] == kind).unwrap()
}

/// What two answers for the same night must share.
fn impersonal(answer: Value) -> Value {
    without(answer, &["/recommendationId"])
}

#[test]
fn the_specifications_example_comes_out_of_the_facts() {
    let server = Harness::with_home();
    let mut answer = server.usual();
    let id: uuid::Uuid = answer["recommendationId"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    for option in answer["options"].as_array_mut().unwrap() {
        let option = option.as_object_mut().unwrap();
        let (texts, reasons) = (option.remove("reasoning").unwrap(), option.remove("reasons").unwrap());
        let reasons = reasons.as_array().unwrap().clone();
        assert!(!reasons.is_empty());
        assert_eq!(texts, reasons.iter().map(|reason| reason["text"].clone()).collect::<Value>());
        for reason in reasons {
            assert!(reason["code"].is_string() && reason["params"].is_object() && reason["text"].is_string());
        }
    }
    let expected = json!({
        "primaryRecommendation": "buyout",
        "options": [
            {
                "type": "buyout", "price": 225, "platformFee": 3, "totalCost": 228, "priority": 1,
                "recommended": true, "confidence": 0.75, "roommateReceives": 222, "platformReceives": 6,
                "urgencyMultiplier": 1.25, "estimatedAcceptanceProbability": 0.75 * 0.7
            },
            {
                "type": "crash", "price": 41, "platformFee": 5, "totalCost": 46, "priority": 2,
                "recommended": false, "confidence": 0.5, "roommateReceives": 36, "platformReceives": 10,
                "urgencyMultiplier": 1.25, "estimatedAcceptanceProbability": 0.5 * 0.7 * 1.15,
                "savingsVsBuyout": 182
            },
            {
                "type": "swap", "price": 0, "platformFee": 5, "totalCost": 5, "priority": 3, "recommended": false,
                "confidence": 0.35, "roommateReceives": 0, "platformReceives": 5, "urgencyMultiplier": 1.25,
                "estimatedAcceptanceProbability": 0.35 * 0.7, "savingsVsBuyout": 223, "requiresUserNight": true,
                "potentialMatches": 1
            }
        ],
        "userArchetype": { "type": "big_spender", "confidence": 0.85, "label": "Premium Booker" },
        "contextFactors": {
            "daysUntilCheckIn": 7, "isWeekday": true, "marketDemand": 1.2, "roommateArchetype": "big_spender",
            "urgencyLevel": "HIGH", "overdue": false, "pricingSource": "lease_night"
        },
        "personalized": true,
        "metadata": {
            "computedAt": NOW, "confidence": 0.85, "rule": "big_spender_urgent", "policy": "rules-v1",
            "version": env!("CARGO_PKG_VERSION")
        }
    });
    close(&impersonal(answer), &expected, "");
}

/// Compares JSON; numbers to the last bit but three.
fn close(found: &Value, expected: &Value, at: &str) {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{at}");
            a.iter().for_each(|(key, value)| close(value, &b[key], &format!("{at}/{key}")));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}");
            (0..a.len()).for_each(|i| close(&a[i], &b[i], &format!("{at}/{i}")));
        }
        (Value::Number(a), Value::Number(b)) if b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 4.0 * f64::EPSILON * b.abs(), "{at}: {a} is not {b}");
        }
        _ => assert_eq!(found, expected, "{at}"),
    }
}

#[test]
fn what_a_client_has_seen_is_recorded_and_computes_to_the_same_again() {
    let server = Harness::with_home();
    let target = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob&sessionId=tab%207");
    let asked = server.request(As::User("alice"), "GET", &target).header("user-agent", "transcript/1");
    let answer = asked.send().ok();
    let stored = server.decision(answer["recommendationId"].as_str().unwrap()).unwrap();
    let row = &stored.row;
    assert_eq!(row.user_id.as_ref().unwrap().as_str(), "alice");
    assert_eq!(row.roommate_id.as_ref().unwrap().as_str(), "bob");
    assert_eq!(row.lease_id.as_ref().unwrap().as_str(), "home");
    assert_eq!(row.target_date.to_string(), DATE);
    assert_eq!((row.rule.as_str(), row.policy.as_str()), ("big_spender_urgent", "rules-v1"));
    assert_eq!((row.days_until_checkin, row.urgency_level.as_str()), (7, "HIGH"));
    assert_eq!(row.session_id.as_deref(), Some("tab 7"));
    assert_eq!(row.user_agent.as_deref(), Some("transcript/1"));
    assert_eq!(row.created_at.to_string(), NOW);
    assert!(row.personalized);
    let options: Value = serde_json::from_str(&row.options).unwrap();
    assert_eq!(options, answer["options"]);

    let context: RecordedContext = serde_json::from_str(&row.context).unwrap();
    let again = decide(&context.snapshot, &Policy::default());
    assert_eq!(serde_json::to_value(wire::options(&again)).unwrap(), answer["options"]);
    assert_eq!(again.rule.as_str(), answer["metadata"]["rule"]);
    for other in ["erin", "dave", "bob-got"] {
        assert!(!row.context.contains(other), "no request rows: {}", row.context);
    }
    assert!(row.context.len() < 3_000, "{} bytes", row.context.len());
}

#[test]
fn anonymous_callers_get_the_neutral_default_and_leave_nothing_personal() {
    let server = Harness::with_home();
    let target = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob&sessionId=tab");
    let mut answers = Vec::new();
    for key in [server.anon.as_str(), crate::support::PUBLISHABLE] {
        let asked = server.request(As::Nobody, "GET", &target).header("apikey", key);
        answers.push(asked.header("user-agent", "somebody's browser").send().ok());
    }
    answers.push(server.recommend(As::Anon, "test", DATE, "test2").ok());
    let answer = &answers[0];
    assert_eq!(answer["personalized"], false);
    assert_eq!(answer["primaryRecommendation"], "crash");
    let order: Vec<_> = answer["options"].as_array().unwrap().iter().map(|o| o["type"].clone()).collect();
    assert_eq!(order, ["crash", "swap", "buyout"]);
    assert_eq!(
        answer["userArchetype"],
        json!({ "type": "average_user", "confidence": 0.4, "label": "Standard User" })
    );
    assert_eq!(answer["contextFactors"]["pricingSource"], "default");
    assert_eq!(answer["contextFactors"]["marketDemand"], 1);
    assert!(answer["contextFactors"].get("roommateArchetype").is_none());
    assert_eq!(answer["metadata"]["rule"], "new_user");
    assert_eq!(option(answer, "buyout")["price"], 188, "150 × 1.25 = 187.5, half up");
    for option in answer["options"].as_array().unwrap() {
        assert_eq!(
            (&option["confidence"], &option["estimatedAcceptanceProbability"]),
            (&json!(0.4), &json!(0.2))
        );
        assert!(option.get("potentialMatches").is_none());
    }
    for other in &answers {
        assert_eq!(impersonal(other.clone()), impersonal(answer.clone()));
        let row = server
            .rows(&format!(
                "SELECT user_id, roommate_id, lease_id, session_id, user_agent, context, options
                 FROM recommendation_logs WHERE id = '{}'",
                other["recommendationId"].as_str().unwrap()
            ))
            .remove(0);
        assert_eq!(row[0].as_deref(), Some("anonymous"));
        assert_eq!(row[1..5], [const { None }; 4]);
        let rest = format!("{:?}{:?}", row[5], row[6]);
        assert!(!rest.contains("alice") && !rest.contains("bob"), "{rest}");
    }
    assert_eq!(server.count("SELECT count(*) FROM user_archetypes"), 0, "no archetype was computed");
}

#[test]
fn the_neutral_default_is_equal_for_everybody_who_opted_out() {
    let server = Harness::with_home();
    server.seed([profile("alice", "member", true), profile("carol", "member", true)]);
    let of = |user| server.recommend(As::User(user), user, DATE, "bob").ok();
    let (alice, carol) = (of("alice"), of("carol"));
    assert_eq!(impersonal(alice.clone()), impersonal(carol));
    assert_eq!(alice["personalized"], false);
    assert_eq!(alice["contextFactors"]["pricingSource"], "lease_night");
    assert_eq!(option(&alice, "buyout")["price"], 225);
    assert_eq!(option(&alice, "swap")["estimatedAcceptanceProbability"], 0.2);
    assert!(option(&alice, "swap").get("potentialMatches").is_none());
    assert!(alice["contextFactors"].get("roommateArchetype").is_none());
}

#[test]
fn a_known_user_without_history_is_personalized() {
    let server = Harness::with_home();
    let answer = server.recommend(As::User("carol"), "carol", DATE, "bob").ok();
    assert_eq!(answer["personalized"], true);
    assert_eq!(answer["metadata"]["rule"], "new_user");
    assert_eq!(answer["metadata"]["confidence"], 0.4);
    assert_eq!(answer["contextFactors"]["roommateArchetype"], "big_spender");
    assert_eq!(option(&answer, "buyout")["confidence"], 0.75);
}

#[test]
fn a_new_roommate_accepts_with_forty_percent_of_the_default_rate() {
    let server = Harness::with_home();
    server.seed([night("home", "2026-03-19", Some("carol"), 100.0, 1.0)]);
    let answer = server.recommend(As::User("alice"), "alice", "2026-03-19", "carol").ok();
    for (kind, probability) in [("buyout", 0.2), ("crash", 0.4 * 0.5 * 1.15), ("swap", 0.2)] {
        assert_eq!(option(&answer, kind)["confidence"], 0.4, "{kind}");
        close(&option(&answer, kind)["estimatedAcceptanceProbability"], &json!(probability), kind);
    }
    assert_eq!(
        server
            .put(
                As::Service,
                crate::support::ARCHETYPE,
                &json!({
                    "userId": "carol", "archetypeType": "average_user", "reason": "known from before"
                })
            )
            .status,
        200
    );
    let answer = server.recommend(As::User("alice"), "alice", "2026-03-19", "carol").ok();
    assert_eq!(option(&answer, "buyout")["confidence"], 0.6, "an overridden roommate is not new");
}

#[test]
fn another_users_id_gets_one_answer_whether_or_not_that_user_exists() {
    let server = Harness::with_home();
    let before = server.contents();
    let of_bob = server.recommend(As::User("alice"), "bob", DATE, "carol");
    let of_nobody = server.recommend(As::User("alice"), "nobody-at-all", DATE, "carol");
    assert_eq!(of_bob.refused(403, "forbidden")["error"], "Forbidden");
    assert_eq!(of_bob.comparable(), of_nobody.comparable());
    server.contents().are_still(&before, "what should change nothing");
}

#[test]
fn an_admin_is_who_the_profiles_say_now() {
    let server = Harness::with_home();
    server.seed([profile("root", "admin", false)]);
    let ask = || server.recommend(As::User("root"), "alice", DATE, "bob");
    assert_eq!(ask().ok()["userArchetype"]["type"], "big_spender");
    server.seed([profile("root", "member", false)]);
    ask().refused(403, "forbidden");
    let claims = json!({
        "role": "authenticated", "sub": "root", "exp": crate::support::NOW_SECS + 60,
        "user_metadata": { "role": "admin" }, "app_metadata": { "role": "admin" }
    });
    let target = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob");
    let asked = server.request(As::Nobody, "GET", &target).bearer(&crate::support::token(&claims));
    asked.send().refused(403, "forbidden");
}

#[test]
fn the_service_may_ask_for_anybody_with_either_key() {
    let server = Harness::with_home();
    let answer = server.recommend(As::Service, "alice", DATE, "bob").ok();
    let target = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob");
    let by_key = server.request(As::Nobody, "GET", &target).header("apikey", crate::support::SECRET_KEY);
    assert_eq!(impersonal(by_key.send().ok()), impersonal(answer));
}

#[test]
fn strangers_are_refused_to_users_and_priced_by_default_for_admins_and_the_service() {
    let server = Harness::with_home();
    server.seed([profile("root", "admin", false)]);
    server.recommend(As::User("alice"), "alice", DATE, "dave").refused(403, "no_shared_lease");
    server.recommend(As::User("alice"), "alice", DATE, "no-such-user").refused(403, "no_shared_lease");
    assert_eq!(
        server.recommend(As::User("root"), "root", DATE, "dave").status,
        200,
        "an admin about themselves"
    );
    for caller in [As::Service, As::User("root")] {
        let answer = server.recommend(caller, "alice", DATE, "dave").ok();
        assert_eq!(answer["contextFactors"]["pricingSource"], "default");
        assert_eq!(answer["personalized"], true);
        assert!(option(&answer, "swap").get("potentialMatches").is_none(), "it cannot be counted");
    }
}

#[test]
fn a_night_that_the_roommate_does_not_hold_is_refused() {
    let server = Harness::with_home();
    for caller in [As::User("alice"), As::Service] {
        server.recommend(caller, "alice", "2026-03-17", "bob").bad("targetDate");
        server.recommend(caller, "alice", "2026-03-18", "bob").bad("roommateId");
    }
    assert_eq!(server.count("SELECT count(*) FROM recommendation_logs"), 0);
    server.seed([night("home", "2026-03-18", None, 150.0, 1.0)]);
    let answer = server.recommend(As::User("alice"), "alice", "2026-03-18", "bob").ok();
    assert_eq!(answer["contextFactors"]["pricingSource"], "lease_night", "a night that nobody holds yet");
}

#[test]
fn of_two_shared_leases_the_one_with_the_lower_id_prices_the_night() {
    let server = Harness::with_home();
    let both = |lease, price| {
        [member(lease, "alice"), member(lease, "bob"), night(lease, DATE, Some("bob"), price, 1.0)]
    };
    server.seed(both("a-home", 200.0).into_iter().chain(both("zz-home", 300.0)));
    let answer = server.usual();
    assert_eq!(option(&answer, "buyout")["price"], 250);
    let stored = server.decision(answer["recommendationId"].as_str().unwrap()).unwrap();
    assert_eq!(stored.row.lease_id.unwrap().as_str(), "a-home");
    // Only one of them has this night.
    server.seed([night("zz-home", "2026-03-20", Some("bob"), 300.0, 1.0)]);
    let answer = server.recommend(As::User("alice"), "alice", "2026-03-20", "bob").ok();
    assert_eq!(option(&answer, "buyout")["price"], 330);
}

#[test]
fn a_date_without_a_night_is_priced_by_default() {
    let server = Harness::with_home();
    let answer = server.recommend(As::User("alice"), "alice", "2026-04-20", "bob").ok();
    assert_eq!(answer["contextFactors"]["pricingSource"], "default");
    assert_eq!(option(&answer, "buyout")["price"], 150);
    assert_eq!(answer["metadata"]["rule"], "big_spender_relaxed");
}

#[test]
fn demand_is_limited() {
    let server = Harness::with_home();
    server.seed([
        night("home", "2026-04-20", Some("bob"), 100.0, 5.0),
        night("home", "2026-04-21", Some("bob"), 100.0, 0.1),
    ]);
    for (date, demand, price) in [("2026-04-20", 1.4, 140), ("2026-04-21", 0.7, 70)] {
        let answer = server.recommend(As::User("alice"), "alice", date, "bob").ok();
        assert_eq!(answer["contextFactors"]["marketDemand"], demand);
        assert_eq!(option(&answer, "buyout")["price"], price);
    }
}

#[test]
fn potential_matches_are_the_own_future_nights_on_that_lease_near_the_date() {
    let server = Harness::with_home();
    let matches = || option(&server.usual(), "swap")["potentialMatches"].clone();
    assert_eq!(matches(), 1, "the seventeenth");
    let own = |lease, date| night(lease, date, Some("alice"), 100.0, 1.0);
    server.seed([
        own("home", "2026-03-09"), // today is not future
        own("home", "2026-03-08"),
        own("home", "2026-03-10"), // the first of the future
        own("home", "2026-04-15"), // thirty days after the date
        own("home", "2026-04-16"),
        own("elsewhere", "2026-03-20"),
        night("home", "2026-03-21", None, 100.0, 1.0),
    ]);
    assert_eq!(matches(), 3);
}

#[test]
fn a_past_date_is_overdue() {
    let server = Harness::with_home();
    server.seed([night("home", "2026-03-08", Some("bob"), 100.0, 1.0)]);
    let answer = server.recommend(As::User("alice"), "alice", "2026-03-08", "bob").ok();
    let factors = &answer["contextFactors"];
    assert_eq!((&factors["daysUntilCheckIn"], &factors["overdue"]), (&json!(0), &json!(true)));
    assert_eq!((&factors["urgencyLevel"], &factors["isWeekday"]), (&json!("CRITICAL"), &json!(false)));
    assert_eq!(option(&answer, "buyout")["urgencyMultiplier"], 1.5);
    assert_eq!(option(&answer, "buyout")["price"], 150);
}

#[test]
fn a_uuid_is_the_same_id_in_every_spelling() {
    let server = Harness::with_home();
    server.seed([member("home", UUID_LOUD), night("home", "2026-03-22", Some(UUID), 80.0, 1.0)]);
    let answer = server.recommend(As::User(UUID), UUID_LOUD, DATE, "bob").ok();
    let stored = server.decision(answer["recommendationId"].as_str().unwrap()).unwrap();
    assert_eq!(stored.row.user_id.unwrap().as_str(), UUID);
    server.recommend(As::User(UUID_LOUD), &UUID.to_uppercase(), DATE, "bob").ok();
    server.recommend(As::User(UUID), UUID, DATE, UUID_LOUD).bad("roommateId");
    server.recommend(As::User("alice"), "alice", "2026-03-22", UUID_LOUD).ok();
    // Braces and prefixes make no UUID of it.
    server.recommend(As::User(UUID), &format!("urn:uuid:{UUID}"), DATE, "bob").refused(403, "forbidden");
}

#[test]
fn the_date_of_a_timestamp_counts_as_written() {
    let server = Harness::with_home();
    for date in ["2026-03-16T23:59:59Z", "2026-03-16T00:30:00%2B14:00", "2026-03-16T23:30:00.125-11:00"] {
        let answer = server.recommend(As::User("alice"), "alice", date, "bob").ok();
        assert_eq!(answer["contextFactors"]["daysUntilCheckIn"], 7, "{date}");
        assert_eq!(answer["contextFactors"]["pricingSource"], "lease_night", "{date}");
    }
}

#[test]
fn days_are_counted_in_the_configured_time_zone() {
    let server = Harness::with(&[("NUDGE_TIMEZONE", "Pacific/Kiritimati")]);
    server.seed(facts::home());
    let answer = server.usual();
    assert_eq!(answer["contextFactors"]["daysUntilCheckIn"], 6, "there it is the tenth of March");
}

#[test]
fn what_is_missing_is_named() {
    let server = Harness::start();
    for query in [
        String::new(),
        "?".to_owned(),
        format!("?userId=alice&targetDate={DATE}"),
        "?userId=alice&roommateId=bob".to_owned(),
        format!("?targetDate={DATE}&roommateId=bob"),
        format!("?userId=&targetDate={DATE}&roommateId=bob"),
        format!("?userid=alice&targetDate={DATE}&roommateId=bob"),
    ] {
        for caller in [As::Anon, As::User("alice"), As::Service] {
            let body =
                server.get(caller, &format!("{RECOMMENDATIONS}{query}")).refused(400, "missing_parameter");
            assert_eq!(body["required"], json!(["userId", "targetDate", "roommateId"]), "{query}");
        }
    }
}

#[test]
fn a_known_key_given_twice_is_refused_and_an_unknown_one_ignored() {
    let server = Harness::with_home();
    let ask = |query: &str| server.get(As::User("alice"), &format!("{RECOMMENDATIONS}?{query}"));
    let rest = format!("&targetDate={DATE}&roommateId=bob");
    ask(&format!("userId=alice&userId=victim{rest}")).bad("userId");
    ask(&format!("userId=victim&userId=alice{rest}")).bad("userId");
    ask(&format!("%75serId=victim&userId=alice{rest}")).bad("userId");
    ask(&format!("userId=alice{rest}&sessionId=a&sessionId=a")).bad("sessionId");
    assert_eq!(ask(&format!("userId=alice{rest}&utm=1&utm=2&apikey=x")).status, 200);
}

#[test]
fn session_ids_are_short_printable_ascii() {
    let server = Harness::with_home();
    let ask = |session: &str| -> Response {
        let query = format!("userId=alice&targetDate={DATE}&roommateId=bob&sessionId={session}");
        server.get(As::User("alice"), &format!("{RECOMMENDATIONS}?{query}"))
    };
    assert_eq!(ask("s").status, 200);
    assert_eq!(ask(&"x".repeat(128)).status, 200);
    for bad in ["x".repeat(129), "caf%C3%A9".into(), "a%0Ab".into(), "a%00b".into(), "%7F".into()] {
        ask(&bad).bad("sessionId");
    }
}

#[test]
fn every_rule_can_be_reached_from_facts() {
    let server = Harness::with_home();
    // An average user: asked once, was turned down at the base price.
    let turned_down = json!({
        "status": "rejected", "proposed_price": 100, "base_price": 100, "transaction_type": "buyout",
        "responded_at": "2026-02-20T09:00:00Z"
    });
    server.seed([insert("date_change_requests", request("carol-asked", "carol", "bob", turned_down))]);
    server.seed(
        ["2026-03-11", "2026-03-30", "2026-04-20"].map(|date| night("home", date, Some("bob"), 100.0, 1.0)),
    );
    let rule = |user, date| {
        let answer = server.recommend(As::User(user), user, date, "bob").ok();
        let metadata = &answer["metadata"];
        assert_eq!(answer["primaryRecommendation"], answer["options"][0]["type"]);
        (metadata["rule"].as_str().unwrap().to_owned(), metadata["confidence"].as_f64().unwrap())
    };
    assert_eq!(rule("alice", "2026-03-30"), ("big_spender_relaxed".into(), 0.72));
    server
        .put(
            As::Service,
            crate::support::ARCHETYPE,
            &json!({
                "userId": "carol", "archetypeType": "average_user", "reason": "a test of the rules"
            }),
        )
        .ok();
    assert_eq!(rule("carol", "2026-03-11"), ("average_urgent".into(), 0.75));
    assert_eq!(rule("carol", DATE), ("average_medium".into(), 0.7));
    assert_eq!(rule("carol", "2026-03-30"), ("average_medium".into(), 0.7));
    assert_eq!(rule("carol", "2026-04-20"), ("average_relaxed".into(), 0.65));
    server
        .put(
            As::Service,
            crate::support::ARCHETYPE,
            &json!({
                "userId": "carol", "archetypeType": "high_flexibility", "reason": "a test of the rules"
            }),
        )
        .ok();
    assert_eq!(rule("carol", DATE), ("flexible_swap".into(), 0.78));
}
