//! The app's facts as its webhooks send them.

use serde_json::{Map, Value, json};

use super::DATE;

pub fn insert(table: &str, record: Value) -> Value {
    json!({ "type": "INSERT", "table": table, "schema": "public", "record": record, "old_record": null })
}

pub fn update(table: &str, record: Value, old_record: Value) -> Value {
    json!({ "type": "UPDATE", "table": table, "schema": "public", "record": record, "old_record": old_record })
}

pub fn delete(table: &str, old_record: Value) -> Value {
    json!({ "type": "DELETE", "table": table, "schema": "public", "record": null, "old_record": old_record })
}

pub fn member(lease: &str, user: &str) -> Value {
    insert("lease_members", json!({ "lease_id": lease, "user_id": user }))
}

pub fn night(lease: &str, date: &str, held_by: Option<&str>, price: f64, demand: f64) -> Value {
    let record = json!({
        "lease_id": lease, "night": date, "held_by": held_by, "base_price": price, "market_demand": demand
    });
    insert("lease_nights", record)
}

pub fn profile(user: &str, role: &str, opted_out: bool) -> Value {
    insert("profiles", json!({ "id": user, "role": role, "personalization_opt_out": opted_out }))
}

/// A request's record; `with` adds to it or replaces.
pub fn request(id: &str, from: &str, to: &str, with: Value) -> Value {
    let mut record = json!({
        "id": id, "requester_id": from, "receiver_id": to, "transaction_type": "buyout", "target_night": DATE,
        "status": "pending", "created_at": "2026-02-20T08:00:00Z"
    });
    let Value::Object(with) = with else { panic!("an object") };
    let fields: &mut Map<String, Value> = record.as_object_mut().unwrap();
    fields.extend(with);
    record
}

/// Three people in one home. Alice (big_spender, 0.85: one accepted crash) wants the night of `DATE`, which bob
/// (big_spender, who accepted seven of ten) holds at 150 with demand 1.2; carol is the third tenant.
pub fn home() -> Vec<Value> {
    let mut facts = vec![insert("leases", json!({ "id": "home", "name": "Home" }))];
    facts.extend(["alice", "bob", "carol"].map(|user| member("home", user)));
    facts.push(night("home", DATE, Some("bob"), 150.0, 1.2));
    facts.push(night("home", "2026-03-17", Some("alice"), 150.0, 1.0));
    facts.push(night("home", "2026-03-18", Some("carol"), 150.0, 1.0));
    let accepted = json!({
        "transaction_type": "crash", "status": "accepted", "proposed_price": 150, "base_price": 100,
        "responded_at": "2026-02-20T14:00:00Z"
    });
    facts.push(insert("date_change_requests", request("alice-asked", "alice", "dave", accepted)));
    for n in 0..10 {
        let status = if n < 7 { "accepted" } else { "rejected" };
        let answered = json!({
            "status": status, "proposed_price": 1500, "base_price": 1300, "responded_at": "2026-02-20T14:00:00Z"
        });
        facts.push(insert("date_change_requests", request(&format!("bob-got-{n}"), "erin", "bob", answered)));
    }
    facts
}
