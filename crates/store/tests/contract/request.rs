//! The log of requests and its drains.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::*;
use nudge_store::catalog;
use nudge_store::query::{ReadQuery, Shape};
use nudge_store::*;

const NOW: &str = "2026-03-01T12:00:00.5Z";

/// Row number `n`, its time that of its id.
fn row(n: u64) -> RequestRow {
    let id = id(n);
    let millis = i64::try_from(id.as_u128() >> 80).unwrap();
    RequestRow {
        id,
        function_name: "transaction-recommendations",
        method: "GET",
        status: 200,
        response_time_ms: 3,
        user_id: None,
        error_code: None,
        created_at: Timestamp::from_millisecond(millis).unwrap(),
    }
}

/// Every row of the log, as the service reads it.
async fn rows(f: &Fixture) -> serde_json::Value {
    assert!(catalog::TABLES.iter().any(|table| table.name == "edge_function_logs"));
    let query = ReadQuery {
        table: "edge_function_logs".into(),
        select: vec![],
        filters: vec![],
        order: vec![],
        limit: None,
        offset: 0,
        count: None,
        shape: Shape::Array,
    };
    let answer = f.store.read_as(&Caller::Service, &query).await.unwrap();
    let mut rows: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).unwrap();
    rows.sort_by_key(|row| row["id"].as_str().unwrap().to_owned());
    rows.into()
}

async fn requests_are_appended_once_with_everything(engine: Engine) {
    let f = Fixture::new(engine).await;
    let failed = RequestRow {
        function_name: "rest",
        method: "POST",
        status: 500,
        response_time_ms: 1_234,
        user_id: Some("u1_00ff".into()),
        error_code: Some("XX000".into()),
        ..row(2)
    };
    let both = vec![Arc::new(row(1)), Arc::new(failed)];
    f.store.append_requests(both.clone()).await.unwrap();
    f.store.append_requests(both).await.unwrap();
    f.store.append_requests(vec![]).await.unwrap();
    let rows = rows(&f).await;
    assert_eq!(rows.as_array().unwrap().len(), 2, "the second time wrote nothing");
    assert_eq!(rows[0]["request_id"], rows[0]["id"]);
    assert_eq!((&rows[0]["user_id"], &rows[0]["error_code"]), (&json!(null), &json!(null)));
    let mut second = rows[1].clone();
    let created_at = second["created_at"].take();
    let same = created_at.as_str().unwrap().replace(' ', "T").replace("+00:00", "Z");
    assert_eq!(same.parse::<Timestamp>().unwrap(), row(2).created_at);
    assert_eq!(
        second,
        json!({ "id": id(2), "function_name": "rest", "method": "POST", "status": 500, "response_time_ms": 1_234,
            "user_id": "u1_00ff", "request_id": id(2), "error_code": "XX000", "created_at": null })
    );
}

async fn a_month_that_is_not_there_is_made_for_requests_too(engine: Engine) {
    let f = Fixture::new(engine).await;
    // 2030.
    let late = RequestRow { id: "01b90e5a-0000-7000-8000-000000000000".parse().unwrap(), ..row(1) };
    f.store.append_requests(vec![Arc::new(row(1)), Arc::new(late)]).await.unwrap();
    assert_eq!(rows(&f).await.as_array().unwrap().len(), 2);
}

async fn old_requests_are_deleted_oldest_first_where_no_month_holds_them(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.store.append_requests((0..10).map(|n| Arc::new(row(n))).collect()).await.unwrap();
    let sixth = row(6).created_at;
    let delete = async |before, limit| f.store.delete_requests(before, limit).await.unwrap();
    if engine == Engine::Postgres {
        assert_eq!(delete(sixth, 100).await, 0, "partitions are dropped");
        assert_eq!(rows(&f).await.as_array().unwrap().len(), 10);
        return;
    }
    let left = async || {
        let rows = rows(&f).await;
        let ids = rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let from = |first: u64| (first..10).map(|n| id(n).to_string()).collect::<Vec<_>>();
    assert_eq!(delete(sixth, 4).await, 4);
    assert_eq!(left().await, from(4));
    assert_eq!(delete(sixth, 4).await, 2);
    assert_eq!(left().await, from(6));
    assert_eq!(delete(sixth, 4).await, 0);
    let end = row(9).created_at + SignedDuration::from_hours(1);
    assert_eq!(delete(end, 100).await, 4);
}

fn drain(name: &str) -> LogDrain {
    LogDrain {
        id: id(1),
        name: name.into(),
        destination: "https://logs.example.com/ingest?key=1".into(),
        filters: "function_name=transaction-recommendations".into(),
        headers: BTreeMap::from([("authorization".to_owned(), "Bearer x".to_owned())]),
        secret: Some("it's a secret".into()),
        created_at: at(NOW),
    }
}

async fn a_drain_is_kept_as_it_is_and_both_changes_are_audited(engine: Engine) {
    let f = Fixture::new(engine).await;
    let metadata = json!({ "name": "b", "destination": "https://logs.example.com/…" });
    let create = async |drain| f.store.create_log_drain(drain, admin(), metadata.clone()).await.unwrap();
    assert_eq!(create(drain("b")).await, DrainCreated::Created);
    let bare = LogDrain { id: id(2), headers: BTreeMap::new(), secret: None, ..drain("a") };
    assert_eq!(create(bare.clone()).await, DrainCreated::Created);
    assert_eq!(create(LogDrain { id: id(3), ..drain("b") }).await, DrainCreated::NameTaken);
    assert_eq!(f.store.log_drains().await.unwrap(), [bare.clone(), drain("b")]);

    assert!(f.store.delete_log_drain("b".into(), admin(), at(NOW)).await.unwrap());
    assert!(!f.store.delete_log_drain("b".into(), admin(), at(NOW)).await.unwrap());
    assert_eq!(f.reopen().await.log_drains().await.unwrap(), [bare]);
    let report = f.store.verify_audit(None).await.unwrap();
    assert_eq!((report.entries, report.broken), (3, None), "what changed nothing has no entry");
}

async fn without_an_audit_entry_no_drain_is_made_or_deleted(engine: Engine) {
    let f = Fixture::new(engine).await;
    f.store.create_log_drain(drain("kept"), admin(), json!({})).await.unwrap();
    f.sql(
        "CREATE TRIGGER no_audit BEFORE INSERT ON admin_audit_log BEGIN SELECT raise(ABORT, 'no room'); END",
        "CREATE FUNCTION public.no_audit() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'no room'; END $$;
         CREATE TRIGGER no_audit BEFORE INSERT ON admin_audit_log FOR EACH ROW EXECUTE FUNCTION public.no_audit()",
    )
    .await
    .unwrap();
    let created = f.store.create_log_drain(LogDrain { id: id(2), ..drain("new") }, admin(), json!({})).await;
    assert!(matches!(created, Err(StoreError::Refused { .. })), "{created:?}");
    let deleted = f.store.delete_log_drain("kept".into(), admin(), at(NOW)).await;
    assert!(matches!(deleted, Err(StoreError::Refused { .. })), "{deleted:?}");
    assert_eq!(f.store.log_drains().await.unwrap(), [drain("kept")]);
}

on_both!(
    requests_are_appended_once_with_everything,
    a_month_that_is_not_there_is_made_for_requests_too,
    old_requests_are_deleted_oldest_first_where_no_month_holds_them,
    a_drain_is_kept_as_it_is_and_both_changes_are_audited,
    without_an_audit_entry_no_drain_is_made_or_deleted,
);
