//! The table of rights: caller × table × verb, and whose rows a read gives.

use crate::support::*;
use nudge_engine::{Archetype, TransactionType};
use nudge_store::rights::{exposed_tables, scope};
use nudge_store::*;

const PERSONAL: [&str; 8] = [
    "user_archetypes",
    "recommendation_logs",
    "recommendation_events",
    "profiles",
    "leases",
    "lease_members",
    "lease_nights",
    "date_change_requests",
];
const LOGS: [&str; 2] = ["archetype_job_logs", "edge_function_logs"];

/// The letters of the specification's table: – no privilege, n nobody, o own, a all; select, insert, update, delete.
fn written(grade: Grade, table: &str) -> &'static str {
    let audit = table == "admin_audit_log";
    match grade {
        Grade::Anonymous => "----",
        Grade::Member if PERSONAL.contains(&table) => "o---",
        Grade::Member => "n---",
        Grade::Admin => "a---",
        Grade::Service if audit => "aa--",
        Grade::Service => "aaaa",
    }
}

#[test]
fn the_matrix_is_that_of_the_specification() {
    let tables: Vec<_> = exposed_tables().collect();
    assert_eq!(tables.len(), PERSONAL.len() + LOGS.len() + 1);
    for grade in [Grade::Anonymous, Grade::Member, Grade::Admin, Grade::Service] {
        for table in &tables {
            let letters: String = [Verb::Select, Verb::Insert, Verb::Update, Verb::Delete]
                .map(|verb| match scope(grade, table, verb) {
                    Scope::NoPrivilege => '-',
                    Scope::Nobody => 'n',
                    Scope::Own => 'o',
                    Scope::All => 'a',
                })
                .iter()
                .collect();
            assert_eq!(letters, written(grade, table), "{grade:?} {table}");
        }
        for hidden in ["nudge_stale_users", "nudge_user_changes", "sqlite_schema", ""] {
            assert_eq!(scope(grade, hidden, Verb::Select), Scope::NoPrivilege);
        }
    }
}

/// Rows of ann, of bob, and of nobody, in every table.
async fn populated(engine: Engine) -> Fixture {
    let f = Fixture::new(engine).await;
    f.facts([
        profile("ann", None, None),
        profile("bob", None, None),
        profile("root", Some(ProfileRole::Admin), None),
    ])
    .await;
    for (lease, who) in [("ann-home", "ann"), ("bob-home", "bob")] {
        let lease_row = LeaseRow { id: entity(lease), name: None, created_at: None };
        f.facts([FactRow::Lease(lease_row), member(lease, who), night(lease, "2026-03-15", who)]).await;
    }
    f.facts(
        [request(1, "ann", "eve"), request(2, "eve", "ann"), request(3, "bob", "eve")]
            .map(FactRow::DateChangeRequest),
    )
    .await;
    for (n, who) in [(1, "ann"), (2, "bob")] {
        f.compute(who, Archetype::AverageUser).await;
        f.store.record_decision(decision(n, Some(who), TransactionType::Crash)).await.unwrap();
        let viewed = OutcomeEvent {
            recommendation_id: id(n),
            kind: EventKind::Viewed,
            transaction_type: None,
            time_to_decision_seconds: None,
            nps_score: None,
            occurred_at: None,
        };
        f.store
            .record_outcomes(OutcomeReporter::Service, vec![viewed], at("2026-03-01T13:00:00Z"))
            .await
            .unwrap();
    }
    f.store.record_decision(decision(3, None, TransactionType::Crash)).await.unwrap();
    let change = ArchetypeChange::Override {
        archetype: Archetype::BigSpender,
        reason: "x".into(),
        expires_at: None,
        computed: computed(Archetype::AverageUser),
    };
    f.store.change_archetype(user("ann"), change, admin(), at("2026-03-01T13:00:00Z")).await.unwrap();
    let run = RunRow {
        id: id(9),
        job_type: "initial".into(),
        status: "completed".into(),
        processed_count: 2,
        updated_count: 2,
        failed_count: 0,
        error_message: None,
        metadata: serde_json::json!({"by": "test"}),
        started_at: at("2026-03-01T13:00:00Z"),
        completed_at: at("2026-03-01T13:00:01.5Z"),
    };
    f.store.insert_run(run).await.unwrap();
    let log = "INSERT INTO edge_function_logs (id, function_name, method, status, response_time_ms, request_id, created_at)
      VALUES ('01980000-0000-7000-8000-000000000001', 'x', 'GET', 200, 1, 'r', '2026-03-01T13:00:00.000000Z')";
    f.sql(log, log).await.unwrap();
    f
}

async fn each_caller_reads_the_rows_of_the_matrix(engine: Engine) {
    let f = populated(engine).await;
    let count = async |caller: &Caller, table: &str| {
        f.store.rows_as(caller, table, 100, 0).await.map(|rows| rows.len())
    };
    // Table, rows of ann, all rows.
    for (table, own, all) in [
        ("user_archetypes", 1, 2),
        ("recommendation_logs", 1, 3),
        ("recommendation_events", 1, 2),
        ("admin_audit_log", 0, 1),
        ("archetype_job_logs", 0, 1),
        ("edge_function_logs", 0, 1),
        ("profiles", 1, 3),
        ("leases", 1, 2),
        ("lease_members", 1, 2),
        ("lease_nights", 1, 2),
        ("date_change_requests", 2, 3),
    ] {
        let anonymous = count(&Caller::Anonymous, table).await;
        assert!(matches!(anonymous, Err(RightsError::Denied { table: denied }) if denied == table));
        assert_eq!(count(&Caller::User(user("ann")), table).await.unwrap(), own, "{table}");
        assert_eq!(count(&Caller::User(user("stranger")), table).await.unwrap(), 0, "{table}");
        assert_eq!(count(&Caller::User(user("root")), table).await.unwrap(), all, "{table}");
        assert_eq!(count(&Caller::Service, table).await.unwrap(), all, "{table}");
        assert_eq!(f.store.rows_as(&Caller::Service, table, 1, 1).await.unwrap().len(), (all - 1).min(1));
    }
    for hidden in ["nudge_stale_users", "sqlite_schema", "profiles; DROP TABLE profiles"] {
        assert!(matches!(count(&Caller::Service, hidden).await, Err(RightsError::UnknownTable { .. })));
    }
}

async fn a_demoted_admin_loses_the_rank_at_once(engine: Engine) {
    let f = populated(engine).await;
    let root = Caller::User(user("root"));
    assert_eq!(f.store.grade(&root).await.unwrap(), Grade::Admin);
    f.facts([profile("root", Some(ProfileRole::Member), None)]).await;
    assert_eq!(f.store.rows_as(&root, "profiles", 100, 0).await.unwrap().len(), 1);
}

async fn values_have_their_json_types(engine: Engine) {
    let f = populated(engine).await;
    let row = f.store.rows_as(&Caller::User(user("ann")), "user_archetypes", 1, 0).await.unwrap().remove(0);
    assert_eq!(row["is_manual_override"], true);
    assert_eq!(row["confidence"].as_f64(), Some(1.0));
    assert_eq!(row["reasoning"][0], "because");
    assert_eq!(row["override_expires_at"], serde_json::Value::Null);
    let night = f.store.rows_as(&Caller::Service, "lease_nights", 1, 0).await.unwrap().remove(0);
    assert_eq!(night["base_price"], 149.99);
    assert_eq!(night["market_demand"], 1.2345);
}

on_both!(
    each_caller_reads_the_rows_of_the_matrix,
    a_demoted_admin_loses_the_rank_at_once,
    values_have_their_json_types,
);
