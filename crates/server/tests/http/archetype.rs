//! `/functions/v1/user-archetype`

use serde_json::{Value, json};

use crate::support::facts::profile;
use crate::support::{ARCHETYPE, As, Harness, NOW_SECS, token};

const ALICE: As<'_> = As::User("alice");

fn put(server: &Harness, caller: As<'_>, archetype: &str, reason: &str) -> crate::support::Response {
    server.put(caller, ARCHETYPE, &json!({ "userId": "alice", "archetypeType": archetype, "reason": reason }))
}

/// The audit log: admin, role, action, target, metadata.
fn audit(server: &Harness) -> Vec<(String, String, String, String, Value)> {
    let sql =
        "SELECT admin_id, actor_role, action, target_user_id, metadata FROM admin_audit_log ORDER BY id";
    let rows = server.rows(sql).into_iter().map(|row| {
        let [admin, role, action, target, metadata] =
            <[Option<String>; 5]>::try_from(row).unwrap().map(Option::unwrap);
        (admin, role, action, target, serde_json::from_str(&metadata).unwrap())
    });
    rows.collect()
}

fn with_admin() -> Harness {
    let server = Harness::with_home();
    server.seed([profile("root", "admin", false)]);
    server
}

#[test]
fn get_shows_signals_scores_and_why() {
    let server = Harness::with_home();
    let shown = server.archetype(ALICE, "alice").ok();
    let keys: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "archetypeType",
            "cached",
            "computedAt",
            "confidence",
            "description",
            "isManualOverride",
            "label",
            "nextUpdateIn",
            "reasoning",
            "scores",
            "signals",
            "userId"
        ]
    );
    assert_eq!(shown["userId"], "alice");
    assert_eq!(shown["archetypeType"], "big_spender");
    assert_eq!(shown["label"], "Premium Booker");
    assert_eq!(shown["confidence"], 0.85);
    assert_eq!(shown["computedAt"], "2026-03-09T10:00:00Z");
    assert_eq!((&shown["cached"], &shown["isManualOverride"]), (&json!(false), &json!(false)));
    assert_eq!(shown["nextUpdateIn"], "24.0h");
    assert_eq!(
        shown["signals"],
        json!({
            "avgTransactionValue": 150, "willingnessToPay": 0.75, "priceRejectionRate": 0, "avgResponseTimeHours": 24,
            "acceptanceRate": 0.5, "requestFrequencyPerMonth": 1.0 / 3.0, "buyoutPreference": 0, "crashPreference": 1,
            "swapPreference": 0, "flexibilityScore": 20, "accommodationHistory": 0, "reciprocityRatio": 0
        })
    );
    assert_eq!(shown["reasoning"].as_array().unwrap().len(), 5, "at most the first five of six");
    assert!(shown["scores"].to_string().contains("willingnessToPay"), "{}", shown["scores"]);

    server.clock.advance(36 * 60);
    let again = server.archetype(ALICE, "alice").ok();
    assert_eq!((&again["cached"], &again["nextUpdateIn"]), (&json!(true), &json!("23.4h")));
    for same in ["archetypeType", "confidence", "signals", "scores", "reasoning", "computedAt"] {
        assert_eq!(again[same], shown[same], "{same}");
    }
    server.clock.advance(24 * 3_600);
    let later = server.archetype(ALICE, "alice").ok();
    assert_eq!((&later["cached"], &later["nextUpdateIn"]), (&json!(false), &json!("24.0h")));
}

#[test]
fn an_id_without_history_has_the_no_data_signals_and_is_not_stored() {
    let server = Harness::with_home();
    for (caller, user) in
        [(As::Service, "never-heard-of"), (As::Service, "carol"), (As::User("carol"), "carol")]
    {
        let shown = server.archetype(caller, user).ok();
        assert_eq!(shown["archetypeType"], "average_user");
        assert_eq!(shown["confidence"], 0.6, "a lead of 35 points, but at most 0.6 for somebody new");
        assert_eq!(
            shown["signals"],
            json!({
                "avgTransactionValue": 0, "willingnessToPay": 0.5, "priceRejectionRate": 0.5, "avgResponseTimeHours": 24,
                "acceptanceRate": 0.5, "requestFrequencyPerMonth": 0, "buyoutPreference": 0.33, "crashPreference": 0.33,
                "swapPreference": 0.34, "flexibilityScore": 50, "accommodationHistory": 0, "reciprocityRatio": 1
            })
        );
        assert_eq!(shown["cached"], false);
    }
    assert_eq!(server.count("SELECT count(*) FROM user_archetypes"), 0);
}

#[test]
fn somebody_who_opted_out_has_no_archetype() {
    let server = with_admin();
    put(&server, As::Service, "big_spender", "before").ok();
    server.seed([profile("alice", "member", true)]);
    for caller in [ALICE, As::Service] {
        let shown = server.archetype(caller, "alice").ok();
        assert_eq!(shown["archetypeType"], "average_user");
        assert_eq!(shown["confidence"], 0.4);
        assert_eq!(shown["optedOut"], true);
        assert_eq!(shown["isManualOverride"], false);
    }
    let before = server.contents();
    put(&server, As::User("root"), "big_spender", "after").refused(409, "opted_out");
    server.post(As::Service, ARCHETYPE, &json!({ "userId": "alice" })).refused(409, "opted_out");
    server.delete(As::Service, &format!("{ARCHETYPE}?userId=alice")).refused(409, "opted_out");
    server.contents().are_still(&before, "what should change nothing");
}

#[test]
fn another_users_archetype_gets_one_answer_whether_or_not_that_user_exists() {
    let server = with_admin();
    let (known, unknown) = (server.archetype(ALICE, "bob"), server.archetype(ALICE, "no-such-user"));
    known.refused(403, "forbidden");
    assert_eq!(known.comparable(), unknown.comparable());
    assert_eq!(server.archetype(As::User("root"), "bob").ok()["archetypeType"], "big_spender");
    server.archetype(As::Service, "bob").ok();
    server.archetype(As::Anon, "alice").refused(401, "unauthorized");
    server.archetype(As::Nobody, "alice").refused(401, "unauthorized");
}

#[test]
fn ids_are_checked_before_anything_is_read() {
    let server = with_admin();
    for bad in [
        "x,id.not.is.null",
        "%00",
        "anonymous",
        "a%20b",
        "caf%C3%A9",
        "%FF",
        &"x".repeat(65),
        &"x".repeat(10_240),
    ] {
        server.archetype(As::Service, bad).bad("userId");
        server.archetype(ALICE, bad).bad("userId");
        server.delete(As::Service, &format!("{ARCHETYPE}?userId={bad}")).bad("userId");
    }
    server.get(ALICE, ARCHETYPE).refused(400, "missing_parameter");
    server.get(ALICE, &format!("{ARCHETYPE}?userId=alice&userId=bob")).bad("userId");
    server.get(ALICE, &format!("{ARCHETYPE}?userId=bob&userId=alice")).bad("userId");
    server.archetype(As::Service, &"x".repeat(64)).ok();
}

#[test]
fn an_override_holds_until_it_is_reset() {
    let server = with_admin();
    server.archetype(ALICE, "alice").ok();
    let done = put(&server, As::User("root"), "high_flexibility", "  asked for it\nby phone  ").ok();
    assert_eq!(done["success"], true);
    assert!(done["message"].as_str().unwrap().contains("overridden"));
    assert_eq!(done["archetype"]["archetypeType"], "high_flexibility");
    assert_eq!(done["archetype"]["confidence"], 1);
    assert_eq!(done["archetype"]["isManualOverride"], true);
    assert_eq!(done["archetype"]["nextUpdateIn"], Value::Null);
    let shown = server.archetype(ALICE, "alice").ok();
    for same in
        ["userId", "archetypeType", "confidence", "signals", "scores", "label", "description", "nextUpdateIn"]
    {
        assert_eq!(
            shown[same], done["archetype"][same],
            "POST, PUT and DELETE answer in the shape of GET: {same}"
        );
    }
    assert_eq!(shown["signals"]["avgTransactionValue"], 150, "the signals stand beside it");

    let kept = server.post(As::Service, ARCHETYPE, &json!({ "userId": "alice" })).ok();
    assert_eq!(kept["archetype"]["archetypeType"], "high_flexibility");
    assert!(kept["message"].as_str().unwrap().contains("override"), "{kept}");
    assert!(kept["message"].as_str().unwrap().contains("kept"), "{kept}");

    let reset = server.delete(As::User("root"), &format!("{ARCHETYPE}?userId=alice")).ok();
    assert_eq!(reset["archetype"]["archetypeType"], "big_spender");
    assert_eq!(reset["archetype"]["isManualOverride"], false);
    let log = audit(&server);
    let entries: Vec<_> =
        log.iter().map(|e| (e.0.as_str(), e.1.as_str(), e.2.as_str(), e.3.as_str())).collect();
    assert_eq!(
        entries,
        [
            ("root", "admin", "override_archetype", "alice"),
            ("service_role", "service_role", "recalculate_archetype", "alice"),
            ("root", "admin", "reset_archetype", "alice"),
        ]
    );
    assert_eq!(log[0].4["old"]["archetypeType"], "big_spender");
    assert_eq!(log[0].4["new"]["archetypeType"], "high_flexibility");
    assert_eq!(log[0].4["reason"], "asked for it\nby phone");
    assert_eq!(log[2].4["old"]["isManualOverride"], true);
    assert_eq!(log[2].4["new"]["archetypeType"], "big_spender");
    let report = server.block_on(server.app.store.verify_audit(None)).unwrap();
    assert_eq!((report.entries, report.broken), (3, None));
}

#[test]
fn resetting_where_there_is_no_override_changes_nothing_and_says_so() {
    let server = with_admin();
    let done = server.delete(As::Service, &format!("{ARCHETYPE}?userId=alice")).ok();
    assert_eq!(done["success"], true);
    assert_eq!(done["archetype"]["archetypeType"], "big_spender");
    assert!(done["message"].as_str().unwrap().contains("No override"));
}

#[test]
fn recalculation_uses_todays_facts_and_is_audited_with_old_and_new() {
    let server = with_admin();
    server.archetype(ALICE, "alice").ok();
    let sql = "UPDATE date_change_requests SET proposed_price = 100, status = 'pending', responded_at = NULL
               WHERE id = 'alice-asked'";
    server.sql(sql, sql).unwrap();
    assert_eq!(
        server.archetype(ALICE, "alice").ok()["archetypeType"],
        "big_spender",
        "within the cache time"
    );
    let done = server.post(As::User("root"), ARCHETYPE, &json!({ "userId": "ALICE" })).ok();
    assert_eq!(done["archetype"]["userId"], "ALICE", "ids are told apart by case");
    let done = server.post(As::User("root"), ARCHETYPE, &json!({ "userId": "alice" })).ok();
    assert_eq!(done["success"], true);
    assert_eq!(done["archetype"]["archetypeType"], "average_user");
    assert_eq!(server.usual()["userArchetype"]["type"], "average_user");
    let log = audit(&server);
    let last = log.last().unwrap();
    assert_eq!((last.2.as_str(), last.3.as_str()), ("recalculate_archetype", "alice"));
    assert_eq!(last.4["old"]["archetypeType"], "big_spender");
    assert_eq!(last.4["new"]["archetypeType"], "average_user");
}

#[test]
fn an_id_never_seen_can_be_overridden() {
    let server = with_admin();
    let body = json!({ "userId": "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "archetypeType": "big_spender", "reason": "vip" });
    let done = server.put(As::Service, ARCHETYPE, &body).ok();
    assert_eq!(done["archetype"]["userId"], "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    assert_eq!(done["archetype"]["isManualOverride"], true);
    let reset =
        server.delete(As::Service, &format!("{ARCHETYPE}?userId=a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")).ok();
    assert_eq!(reset["archetype"]["isManualOverride"], false);
    assert_eq!(server.count("SELECT count(*) FROM user_archetypes"), 0, "nothing to store without history");
}

#[test]
fn a_reason_is_text_of_a_sensible_length() {
    let server = with_admin();
    let before = server.contents();
    for bad in
        ["", "   \n ", &"x".repeat(2_001), "a\u{0}b", "a\tb", "a\rb", "a\u{1b}[31m", "a\u{7f}", "a\u{85}b"]
    {
        put(&server, As::Service, "big_spender", bad).bad("reason");
    }
    server.contents().are_still(&before, "what should change nothing");
    for good in [
        "x",
        &"é".repeat(2_000),
        "two\nlines",
        "<script>alert(1)</script>",
        &format!("  {}  ", "x".repeat(2_000)),
    ] {
        put(&server, As::Service, "big_spender", good).ok();
        assert_eq!(audit(&server).last().unwrap().4["reason"], good.trim());
    }
    let body = json!({ "userId": "alice", "archetypeType": "big_spender" });
    server.put(As::Service, ARCHETYPE, &body).refused(400, "invalid_body");
}

#[test]
fn an_unknown_type_is_answered_with_the_valid_ones() {
    let server = with_admin();
    for bad in [
        json!("BIG_SPENDER"),
        json!("vip"),
        json!(""),
        Value::Null,
        json!(7),
        json!(["big_spender"]),
        json!({}),
    ] {
        let body = json!({ "userId": "alice", "archetypeType": bad, "reason": "a test" });
        let refused = server.put(As::Service, ARCHETYPE, &body);
        assert_eq!(refused.status, 400, "{bad}");
        let refused = refused.json();
        assert_eq!(refused["error"], "Invalid archetypeType", "{bad}");
        assert_eq!(refused["validTypes"], json!(["big_spender", "high_flexibility", "average_user"]));
    }
}

#[test]
fn an_end_of_an_override_is_a_time_to_come() {
    let server = with_admin();
    let with = |expires_at: Value| {
        let body = json!({ "userId": "alice", "archetypeType": "big_spender", "reason": "a test", "expiresAt": expires_at });
        server.put(As::Service, ARCHETYPE, &body)
    };
    for bad in [
        "2026-03-09T10:00:00Z",
        "2026-03-09T09:59:59Z",
        "2026-03-10",
        "tomorrow",
        "",
        "2026-03-10T10:00:00",
        "2026-02-30T00:00:00Z",
        "2027-01-01T00:00:00Z[UTC]",
        "+12026-01-01T00:00:00Z",
    ] {
        with(json!(bad)).bad("expiresAt");
    }
    assert_eq!(with(json!(1_790_000_000)).status, 400);
    let done = with(json!("2026-03-10T12:00:00+02:00")).ok();
    assert_eq!(done["archetype"]["nextUpdateIn"], "24.0h");
    assert_eq!(done["archetype"]["expiresAt"], "2026-03-10T10:00:00Z");
    server.clock.advance(36 * 60);
    assert_eq!(server.archetype(ALICE, "alice").ok()["nextUpdateIn"], "23.4h");
    assert_eq!(with(Value::Null).ok()["archetype"]["nextUpdateIn"], Value::Null);
}

#[test]
fn only_admins_and_the_service_may_change_and_only_now() {
    let server = with_admin();
    let before = server.contents();
    let change = json!({ "userId": "alice", "archetypeType": "big_spender", "reason": "mine" });
    let with_metadata = token(&json!({
        "role": "authenticated", "sub": "alice", "exp": NOW_SECS + 60, "user_metadata": { "role": "admin" }
    }));
    for (caller, status, code) in
        [(ALICE, 403, "role_required"), (As::Anon, 401, "unauthorized"), (As::Nobody, 401, "unauthorized")]
    {
        server.put(caller, ARCHETYPE, &change).refused(status, code);
        server.post(caller, ARCHETYPE, &json!({ "userId": "alice" })).refused(status, code);
        server.delete(caller, &format!("{ARCHETYPE}?userId=alice")).refused(status, code);
        // Whatever the body is like: the role comes first.
        server.request(caller, "PUT", ARCHETYPE).raw_json("nonsense").send().refused(status, code);
        server
            .request(caller, "PUT", ARCHETYPE)
            .header("content-type", "text/csv")
            .body(vec![b'x'; 300 * 1024])
            .send()
            .refused(status, code);
    }
    server
        .request(As::Nobody, "PUT", ARCHETYPE)
        .bearer(&with_metadata)
        .json(&change)
        .send()
        .refused(403, "role_required");
    server.contents().are_still(&before, "what should change nothing");

    server.put(As::User("root"), ARCHETYPE, &change).ok();
    server.seed([profile("root", "member", false)]);
    server.put(As::User("root"), ARCHETYPE, &change).refused(403, "role_required");
    server.archetype(As::User("root"), "alice").refused(403, "forbidden");
    assert_eq!(audit(&server).len(), 1);
}

#[test]
fn without_its_audit_entry_no_change_happens() {
    let server = with_admin();
    server.archetype(ALICE, "alice").ok();
    server.break_audit_log();
    let before = server.contents();
    put(&server, As::Service, "high_flexibility", "unlogged").refused(500, "internal");
    server.post(As::Service, ARCHETYPE, &json!({ "userId": "alice" })).refused(500, "internal");
    server.contents().are_still(&before, "what should change nothing");
    assert_eq!(server.usual()["userArchetype"]["type"], "big_spender");
    server.sql("DROP TRIGGER no_audit", "DROP TRIGGER no_audit ON admin_audit_log").unwrap();
    put(&server, As::Service, "high_flexibility", "logged").ok();
    assert_eq!(server.usual()["userArchetype"]["type"], "high_flexibility");
}

#[test]
fn the_audit_entry_says_from_where() {
    let server = with_admin();
    let body = json!({ "userId": "alice", "archetypeType": "big_spender", "reason": "a test" });
    server.request(As::Service, "PUT", ARCHETYPE).header("user-agent", "console/2").json(&body).send().ok();
    let rows = server.rows("SELECT ip_address, user_agent FROM admin_audit_log");
    assert_eq!(rows, [["127.0.0.1", "console/2"].map(|text| Some(text.to_owned()))]);
}
