//! The archetype that is used: stored or computed, for how long, and who makes it forgotten.

use std::time::Duration;

use nudge_engine::{Archetype, EntityId, Policy, UserId};
use nudge_store::{Actor, ArchetypeChange, FactChange, FactKey};
use serde_json::{Value, json};

use crate::support::facts::{self, delete, insert, profile, request, update};
use crate::support::{ARCHETYPE, As, DATE, Harness, RECOMMENDATIONS, eventually};

fn used(server: &Harness) -> String {
    server.usual()["userArchetype"]["type"].as_str().unwrap().to_owned()
}

fn override_alice(server: &Harness, to: &str, expires_at: Value) {
    let body = json!({ "userId": "alice", "archetypeType": to, "reason": "a test", "expiresAt": expires_at });
    server.put(As::Service, ARCHETYPE, &body).ok();
}

/// Makes alice an average user behind the service's back.
fn turn_the_past(server: &Harness) {
    let sql = "UPDATE date_change_requests SET proposed_price = 100, status = 'pending', responded_at = NULL
               WHERE id = 'alice-asked'";
    server.sql(sql, sql).unwrap();
}

/// What alice asked for: as the facts have it, or as an average user would.
fn asked(by: &str, generously: bool) -> Value {
    let (status, price) = if generously { ("accepted", 150) } else { ("pending", 100) };
    request(
        "alice-asked",
        by,
        "dave",
        json!({
            "transaction_type": "crash", "status": status, "proposed_price": price, "base_price": 100
        }),
    )
}

#[test]
fn a_stored_archetype_is_used_until_its_time_is_over() {
    let server = Harness::with_home();
    assert_eq!(used(&server), "big_spender");
    assert_eq!(
        server.count("SELECT count(*) FROM user_archetypes WHERE user_id IN ('alice', 'bob')"),
        2,
        "stored"
    );
    let seconds = match server.is_embedded() {
        true => "CAST(strftime('%s', computed_at) AS INTEGER)",
        false => "extract(epoch FROM computed_at)::bigint",
    };
    let computed_at = &format!("SELECT {seconds} FROM user_archetypes WHERE user_id = 'alice'");
    let first = server.count(computed_at);
    turn_the_past(&server);
    server.clock.advance(24 * 3_600 - 1);
    assert_eq!(used(&server), "big_spender", "still the stored one");
    assert_eq!(server.count(computed_at), first);
    server.clock.advance(2);
    assert_eq!(used(&server), "average_user", "an unanswered request at the base price makes another person");
    assert_eq!(server.count(computed_at), first + 24 * 3_600 + 1);
}

#[test]
fn the_cache_time_is_a_setting() {
    let server = Harness::with(&[("CACHE_TTL_HOURS", "0.5")]);
    server.seed(facts::home());
    assert_eq!(used(&server), "big_spender");
    turn_the_past(&server);
    server.clock.advance(1_799);
    assert_eq!(used(&server), "big_spender");
    server.clock.advance(2);
    assert_eq!(used(&server), "average_user");
}

#[test]
fn a_stored_archetype_is_used_by_the_next_process() {
    let mut server = Harness::with_home();
    assert_eq!(used(&server), "big_spender");
    turn_the_past(&server);
    server.restart();
    assert_eq!(used(&server), "big_spender", "from the table, not computed again");
}

#[test]
fn an_override_ends_to_the_second() {
    let server = Harness::with_home();
    assert_eq!(used(&server), "big_spender");
    override_alice(&server, "high_flexibility", json!("2026-03-09T10:00:10Z"));
    let answer = server.usual();
    assert_eq!(answer["userArchetype"]["type"], "high_flexibility");
    assert_eq!(answer["userArchetype"]["confidence"], 1);
    server.clock.advance(9);
    assert_eq!(used(&server), "high_flexibility");
    assert_eq!(server.archetype(As::User("alice"), "alice").ok()["isManualOverride"], true);
    server.clock.advance(1);
    assert_eq!(used(&server), "big_spender");
    assert_eq!(server.archetype(As::User("alice"), "alice").ok()["isManualOverride"], false);
}

#[test]
fn an_override_without_an_end_outlives_the_cache_time() {
    let server = Harness::with_home();
    override_alice(&server, "average_user", Value::Null);
    for _ in 0..3 {
        assert_eq!(used(&server), "average_user");
        server.clock.advance(25 * 3_600);
    }
}

#[test]
fn ingested_facts_are_seen_by_the_next_request() {
    let server = Harness::with_home();
    assert_eq!(used(&server), "big_spender");
    let table = "date_change_requests";
    server.seed([update(table, asked("alice", false), asked("alice", true))]);
    assert_eq!(used(&server), "average_user");
    server.seed([update(table, asked("alice", true), asked("alice", false))]);
    assert_eq!(used(&server), "big_spender");
    server.seed([delete(table, json!({ "id": "alice-asked" }))]);
    assert_eq!(server.usual()["metadata"]["rule"], "new_user");
}

#[test]
fn a_request_that_changes_hands_is_forgotten_by_both() {
    let server = Harness::with_home();
    assert_eq!(server.usual()["metadata"]["rule"], "big_spender_urgent");
    assert_eq!(
        server.recommend(As::User("carol"), "carol", DATE, "bob").ok()["metadata"]["rule"],
        "new_user"
    );
    server.seed([update("date_change_requests", asked("carol", true), asked("alice", true))]);
    assert_eq!(server.usual()["metadata"]["rule"], "new_user", "alice has asked for nothing any more");
    let carol = server.recommend(As::User("carol"), "carol", DATE, "bob").ok();
    assert_eq!(carol["metadata"]["rule"], "big_spender_urgent");
}

#[test]
fn a_change_by_another_process_is_seen_within_a_second() {
    let server = Harness::with_home();
    assert_eq!(used(&server), "big_spender");
    let other = server.store_beside();
    let now = server.clock.now();
    let change = ArchetypeChange::Override {
        archetype: Archetype::HighFlexibility,
        reason: "from elsewhere".into(),
        expires_at: None,
        computed: nudge::usecases::compute(&[], now, &Policy::default()),
    };
    let actor = Actor { id: "cli".into(), role: "operator".into(), ip_address: None, user_agent: None };
    let alice = UserId::parse("alice").unwrap();
    server.block_on(other.change_archetype(alice, change, actor, now)).unwrap();
    let waited = eventually(Duration::from_secs(5), "the override", || used(&server) == "high_flexibility");
    assert!(waited < Duration::from_secs(1), "{waited:?}");
}

#[test]
fn concurrent_requests_for_one_user_compute_once() {
    let server = Harness::alone(&[]);
    server.seed(facts::home());
    let misses = server.metric("nudge_archetype_cache_misses_total");
    let target = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob");
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let answer = server.get(As::User("alice"), &target).ok();
                assert!(answer["metadata"].get("degraded").is_none(), "{answer}");
            });
        }
    });
    assert_eq!(server.metric("nudge_archetype_cache_misses_total") - misses, 2, "alice once and bob once");
    // The feed tells of what was just stored, too, so that it may be read once more.
    eventually(Duration::from_secs(5), "both come from memory", || {
        let hits = server.metric("nudge_archetype_cache_hits_total");
        server.usual();
        server.metric("nudge_archetype_cache_hits_total") - hits == 2
    });
}

#[test]
fn an_opt_out_counts_at_once_and_removes_what_is_stored() {
    let server = Harness::with_home();
    override_alice(&server, "high_flexibility", Value::Null);
    assert_eq!(used(&server), "high_flexibility");
    let stored = "SELECT count(*) FROM user_archetypes WHERE user_id = 'alice'";
    assert_eq!(server.count(stored), 1);
    server.seed([profile("alice", "member", true)]);
    assert_eq!(server.count(stored), 0);
    let answer = server.usual();
    assert_eq!((&answer["personalized"], &answer["metadata"]["rule"]), (&json!(false), &json!("new_user")));
    assert_eq!(server.count(stored), 0);
    let row = server.decision(answer["recommendationId"].as_str().unwrap()).unwrap().row;
    assert_eq!(row.user_id.unwrap().as_str(), "alice", "recorded as hers all the same");
    server.seed([profile("alice", "member", false)]);
    assert_eq!(used(&server), "big_spender", "and back, without the override");
}

#[test]
fn an_opted_out_roommate_counts_as_new_and_shows_no_archetype_of_theirs() {
    let server = Harness::with_home();
    server.seed([profile("bob", "member", true)]);
    let answer = server.usual();
    assert_eq!(answer["contextFactors"]["roommateArchetype"], "average_user");
    for option in answer["options"].as_array().unwrap() {
        assert_eq!(option["confidence"], 0.4);
    }
    let id = answer["recommendationId"].as_str().unwrap();
    let context = server.decision(id).unwrap().row.context;
    let context: Value = serde_json::from_str(&context).unwrap();
    let signals = &context["snapshot"]["audience"]["personal"]["roommate"]["signals"];
    assert_eq!(signals["avgTransactionValue"], 0.0, "nothing of bob's past");
    assert_eq!(signals["acceptanceRate"], 0.5, "nothing of bob's past");
}

#[test]
fn a_users_own_insertion_is_visible_without_waiting_for_the_feed() {
    let server = Harness::with_home();
    assert_eq!(
        server.recommend(As::User("carol"), "carol", DATE, "bob").ok()["metadata"]["rule"],
        "new_user"
    );
    let asked = json!({ "transaction_type": "crash", "proposed_price": 150, "base_price": 100 });
    server.seed([insert("date_change_requests", request("carol-1", "carol", "bob", asked))]);
    let rule = server.recommend(As::User("carol"), "carol", DATE, "bob").ok()["metadata"]["rule"].clone();
    assert_ne!(rule, "new_user");
}

#[test]
fn a_night_that_changes_is_priced_anew_by_the_next_request() {
    let server = Harness::with_home();
    let base = |server: &Harness| {
        let answer = server.usual();
        assert_eq!(answer["contextFactors"]["pricingSource"], "lease_night");
        answer["options"].as_array().unwrap().iter().find(|o| o["type"] == "buyout").unwrap()["price"].clone()
    };
    let before = base(&server);
    assert_eq!(base(&server), before, "from memory");
    server.seed([facts::night("home", DATE, Some("bob"), 1_000.0, 1.0)]);
    assert_eq!(base(&server), 1_250, "at once");
    server.seed([facts::night("home", DATE, Some("alice"), 1_000.0, 1.0)]);
    server.recommend(As::User("alice"), "alice", DATE, "bob").bad("targetDate");
    server.seed([delete("lease_nights", json!({ "lease_id": "home", "night": DATE }))]);
    assert_eq!(server.usual()["contextFactors"]["pricingSource"], "default");
}

#[test]
fn a_night_that_another_process_changes_is_seen_within_a_second() {
    let server = Harness::with_home();
    let priced = |server: &Harness| server.usual()["contextFactors"]["pricingSource"].clone();
    assert_eq!(priced(&server), "lease_night");
    let other = server.store_beside();
    let key = FactKey::LeaseNight(EntityId::parse("home").unwrap(), DATE.parse().unwrap());
    let gone = async {
        other.apply_facts(vec![FactChange::Delete(key)], server.clock.now()).await.unwrap();
        other.close().await;
    };
    server.block_on(gone);
    eventually(Duration::from_secs(1), "the night is gone", || priced(&server) == "default");
}
