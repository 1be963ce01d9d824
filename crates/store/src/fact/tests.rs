//! What a record may say, as a webhook sends it and as CSV gives it.

use super::*;
use serde_json::json;

fn read(table: FactTable, record: Value) -> Result<FactRow, FieldError> {
    FactRow::from_json(table, record.as_object().unwrap())
}

/// A record with some columns replaced; `null` stands for an empty one.
fn with(base: &Value, changes: Value) -> Value {
    let mut record = base.clone();
    for (key, value) in changes.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

fn request() -> Value {
    json!({
        "id": 17, "lease_id": null, "requester_id": "0198C0DEAAAA7BBB8CCCDDDDEEEEFFFF", "receiver_id": "bob",
        "transaction_type": "buyout", "target_night": "2026-03-15", "proposed_price": 149.99, "base_price": "150",
        "status": "accepted", "created_at": "2026-01-02T01:04:05.678901+00:00", "responded_at": "2026-01-02 03:04:05+01",
        "unknown": {"column": 1},
    })
}

fn night() -> Value {
    json!({"lease_id": "home", "night": "2026-03-15", "base_price": 150})
}

#[test]
fn a_webhook_record_becomes_a_row() {
    let FactRow::DateChangeRequest(row) = read(FactTable::DateChangeRequests, request()).unwrap() else {
        unreachable!()
    };
    assert_eq!(row.id.as_str(), "17");
    assert_eq!(row.requester_id.as_str(), "0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff");
    assert_eq!((row.proposed_price_cents, row.base_price_cents), (Some(14_999), Some(15_000)));
    assert_eq!(row.created_at, "2026-01-02T01:04:05.678901Z".parse().unwrap());
    assert_eq!(row.responded_at, Some("2026-01-02T02:04:05Z".parse().unwrap()));
}

#[test]
fn a_csv_line_becomes_a_row() {
    let line = json!({"lease_id": "home", "night": "2026-03-15", "held_by": "", "base_price": "99.90", "market_demand": "1.23456"});
    let FactRow::LeaseNight(row) = read(FactTable::LeaseNights, line).unwrap() else { unreachable!() };
    assert_eq!((row.base_price_cents, row.demand_ten_thousandths, row.held_by), (9_990, Some(12_346), None));
    let line = json!({"id": "ann", "role": "", "personalization_opt_out": "t", "created_at": ""});
    let FactRow::Profile(row) = read(FactTable::Profiles, line).unwrap() else { unreachable!() };
    assert_eq!((row.role, row.personalization_opt_out, row.created_at), (None, Some(true), None));
}

#[test]
fn a_bad_night_names_its_column() {
    for (changes, field) in [
        (json!({"base_price": "NaN"}), "base_price"),
        (json!({"base_price": -1}), "base_price"),
        (json!({"base_price": 0}), "base_price"),
        (json!({"base_price": 1e12}), "base_price"),
        (json!({"base_price": "1e30"}), "base_price"),
        (json!({"base_price": 100_000.01}), "base_price"),
        (json!({"base_price": "1_000"}), "base_price"),
        (json!({"base_price": 10.001}), "base_price"),
        (json!({"base_price": "0.00000000000000000000000000000000001"}), "base_price"),
        (json!({"base_price": null}), "base_price"),
        (json!({"base_price": true}), "base_price"),
        (json!({"base_price": [1]}), "base_price"),
        (json!({"market_demand": 0}), "market_demand"),
        (json!({"market_demand": "0.00001"}), "market_demand"),
        (json!({"market_demand": 101}), "market_demand"),
        (json!({"market_demand": "inf"}), "market_demand"),
        (json!({"night": "2026-02-30"}), "night"),
        (json!({"night": "20260315"}), "night"),
        (json!({"night": "2026-03-15T00:00:00Z"}), "night"),
        (json!({"night": "1969-12-31"}), "night"),
        (json!({"held_by": "anonymous"}), "held_by"),
        (json!({"held_by": "a b"}), "held_by"),
        (json!({"lease_id": ""}), "lease_id"),
    ] {
        let error = read(FactTable::LeaseNights, with(&night(), changes.clone())).unwrap_err();
        assert_eq!(error.field, field, "{changes}: {error}");
    }
    assert!(read(FactTable::LeaseNights, with(&night(), json!({"base_price": "100000.00"}))).is_ok());
}

#[test]
fn a_bad_request_names_its_column() {
    let swap = json!({"transaction_type": "swap", "proposed_price": null});
    for (changes, field) in [
        (json!({"receiver_id": "0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff"}), "receiver_id"),
        (json!({"transaction_type": "Buyout"}), "transaction_type"),
        (json!({"status": "done"}), "status"),
        (json!({"transaction_type": "swap"}), "proposed_price"),
        (json!({"offered_night": "2026-03-16"}), "offered_night"),
        (json!({"responded_at": "2026-01-02T01:04:05.678900Z"}), "responded_at"),
        (json!({"created_at": "2026-01-02"}), "created_at"),
        (json!({"created_at": "2026-01-02T01:04:05"}), "created_at"),
        (json!({"created_at": "2026-01-02T25:04:05Z"}), "created_at"),
        (json!({"created_at": "2026-01-02T01:04:05Z[UTC]"}), "created_at"),
        (json!({"created_at": "infinity"}), "created_at"),
        (json!({"recommendation_id": "17"}), "recommendation_id"),
        (json!({"proposed_price": "-0.01"}), "proposed_price"),
        (json!({"base_price": "x"}), "base_price"),
    ] {
        let error = read(FactTable::DateChangeRequests, with(&request(), changes.clone())).unwrap_err();
        assert_eq!(error.field, field, "{changes}: {error}");
    }
    let offered = with(&with(&request(), swap), json!({"offered_night": "2026-03-16"}));
    assert!(read(FactTable::DateChangeRequests, offered).is_ok());
    assert!(read(FactTable::DateChangeRequests, with(&request(), json!({"base_price": 0}))).is_ok());
}

#[test]
fn a_key_needs_its_own_columns_only() {
    for (table, record) in [
        (FactTable::Profiles, json!({"id": "ann"})),
        (FactTable::Leases, json!({"id": "home"})),
        (FactTable::LeaseMembers, json!({"lease_id": "home", "user_id": "ann"})),
        (FactTable::LeaseNights, json!({"lease_id": "home", "night": "2026-03-15", "base_price": -1})),
        (FactTable::DateChangeRequests, json!({"id": "1"})),
    ] {
        let key = FactKey::from_json(table, record.as_object().unwrap()).unwrap();
        assert_eq!(key.table(), table);
        assert_eq!(table.as_str().parse::<FactTable>().unwrap(), table);
        let none = FactKey::from_json(table, json!({}).as_object().unwrap()).unwrap_err();
        assert_eq!(none.field, table.columns()[0].0);
        assert_eq!(none.problem, "is missing");
    }
    assert!("users".parse::<FactTable>().is_err());
}
