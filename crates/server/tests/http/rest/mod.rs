//! `/rest/v1` as its clients see it.

mod answers;
mod engines;
mod property;
mod refusals;
mod rights;

use std::time::Duration;

use nudge_engine::{Archetype, Policy, Signals, UserId};
use nudge_store::{Actor, ArchetypeChange, ComputedArchetype, RunRow, WithRequests};
use serde_json::{Value, json};

use crate::support::facts::{self, insert, profile};
use crate::support::{As, Harness, NOW};

/// The address of a table, with a query in which nothing is encoded yet but what a URL cannot hold as it is.
pub fn table(name: &str, query: &str) -> String {
    let mut target = format!("/rest/v1/{name}?");
    for c in query.chars() {
        match c {
            '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}' | ' ' => {
                target.push_str(&format!("%{:02X}", c as u32))
            }
            c => target.push(c),
        }
    }
    target
}

/// The names of a column in the order of the rows.
#[track_caller]
pub fn column(rows: &Value, name: &str) -> Vec<String> {
    let text = |row: &Value| match &row[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    rows.as_array().unwrap_or_else(|| panic!("{rows}")).iter().map(text).collect()
}

/// Stores an archetype that says what a test wants to find.
pub fn archetype(
    server: &Harness,
    user: &str,
    archetype: Archetype,
    confidence: f64,
    reasoning: &[&str],
    scores: Value,
) {
    let user = UserId::parse(user).unwrap();
    let computed = computed(archetype, confidence, reasoning, scores);
    server.block_on(async {
        let person = server.app.store.load_person(&user, WithRequests::Always, 50, 10).await.unwrap();
        server.app.store.save_archetype(user, computed, person.version).await.unwrap()
    });
}

fn computed(archetype: Archetype, confidence: f64, reasoning: &[&str], scores: Value) -> ComputedArchetype {
    ComputedArchetype {
        archetype,
        confidence,
        signals: Signals::no_data(&Policy::default()),
        reasoning: reasoning.iter().map(|&text| text.to_owned()).collect(),
        scores,
        policy: "rules-v1".into(),
        computed_at: NOW.parse().unwrap(),
    }
}

/// Overrides an archetype.
pub fn override_archetype(server: &Harness, user: &str, reason: &str, expires_at: Option<&str>) {
    let change = ArchetypeChange::Override {
        archetype: Archetype::BigSpender,
        reason: reason.into(),
        expires_at: expires_at.map(|text| text.parse().unwrap()),
        computed: computed(Archetype::AverageUser, 0.5, &[], json!({})),
    };
    let actor = Actor {
        id: "root".into(),
        role: "admin".into(),
        ip_address: None,
        user_agent: Some("a \"test\"".into()),
    };
    let user = UserId::parse(user).unwrap();
    server.block_on(server.app.store.change_archetype(user, change, actor, NOW.parse().unwrap())).unwrap();
}

/// A home, its people and an admin, and at least one row in every table.
pub fn populated() -> Harness {
    populate(Harness::start())
}

pub fn populate(server: Harness) -> Harness {
    server.seed(facts::home());
    server.seed([
        profile("alice", "member", false),
        profile("bob", "member", false),
        profile("root", "admin", false),
    ]);
    server.seed([insert("leases", json!({ "id": "other", "name": null })), facts::member("other", "dave")]);
    server.seed([facts::night("other", "2026-03-16", None, 99.5, 0.95)]);
    let alices = server.usual();
    // So that ids are in one order on every run.
    server.clock.advance(1);
    server
        .get(
            As::Anon,
            "/functions/v1/transaction-recommendations?userId=a&targetDate=2026-03-16&roommateId=b",
        )
        .ok();
    let event = json!({ "recommendationId": alices["recommendationId"], "event": "viewed" });
    server.post(As::User("alice"), "/functions/v1/recommendation-outcomes", &event).ok();
    archetype(
        &server,
        "bob",
        Archetype::HighFlexibility,
        0.666,
        &["one", "two, three", "\"four\""],
        json!({ "a": 1.50, "b": [1, null] }),
    );
    override_archetype(&server, "carol", "asked for it", Some("2026-12-31T23:59:59.5Z"));
    let run = RunRow {
        id: "01980000-0000-7000-8000-000000000001".parse().unwrap(),
        job_type: "recalculation".into(),
        status: "completed".into(),
        processed_count: 3,
        updated_count: 2,
        failed_count: 1,
        error_message: None,
        metadata: json!({ "by": "test" }),
        started_at: NOW.parse().unwrap(),
        completed_at: NOW.parse().unwrap(),
    };
    server.block_on(server.app.store.insert_run(run)).unwrap();
    let log = "INSERT INTO edge_function_logs
        (id, function_name, method, status, response_time_ms, user_id, request_id, created_at)
      VALUES ('019cd20a-0000-7000-8000-000000000002', 'user-archetype', 'GET', 200, 1, 'alice', 'r',
        '2026-03-09T10:00:00.000000Z')";
    server.sql(log, log).unwrap();
    // The usual recommendation stored an archetype for alice, in the background for bob.
    crate::support::eventually(Duration::from_secs(10), "alice's archetype", || {
        server.get(As::Service, &table("user_archetypes", "user_id=eq.alice")).ok() != json!([])
    });
    server
}
