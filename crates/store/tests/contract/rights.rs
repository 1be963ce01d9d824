//! The table of rights: caller × table × verb, and whose rows a read gives.

use crate::support::*;
use nudge_engine::{Archetype, TransactionType};
use nudge_store::query::*;
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

fn all_of(table: &str) -> ReadQuery {
    ReadQuery { table: table.to_owned(), ..ReadQuery::default() }
}

async fn rows(f: &Fixture, caller: &Caller, query: &ReadQuery) -> Vec<serde_json::Value> {
    let answer = f.store.read_as(caller, query).await.unwrap();
    let rows: Vec<_> = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.rows, rows.len() as u64);
    rows
}

async fn each_caller_reads_the_rows_of_the_matrix(engine: Engine) {
    let f = populated(engine).await;
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
        let query = all_of(table);
        let anonymous = f.store.read_as(&Caller::Anonymous, &query).await;
        assert!(matches!(anonymous, Err(ReadError::Denied { table: denied }) if denied == table));
        for (caller, expected) in [
            (Caller::User(user("ann")), own),
            (Caller::User(user("stranger")), 0),
            (Caller::User(user("root")), all),
            (Caller::Service, all),
        ] {
            assert_eq!(rows(&f, &caller, &query).await.len(), expected, "{table} {caller:?}");
            let counted = ReadQuery { count: Some(Count::Exact), shape: Shape::Nothing, ..query.clone() };
            let answer = f.store.read_as(&caller, &counted).await.unwrap();
            assert_eq!((answer.rows, answer.total), (expected as u64, Some(expected as u64)), "{table}");
            assert_eq!(answer.body, b"");
        }
        let second = ReadQuery { limit: Some(1), offset: 1, ..query };
        assert_eq!(rows(&f, &Caller::Service, &second).await.len(), (all - 1).min(1));
    }
    for hidden in ["nudge_stale_users", "sqlite_schema", "profiles; DROP TABLE profiles", ""] {
        for caller in [Caller::Anonymous, Caller::Service] {
            let answer = f.store.read_as(&caller, &all_of(hidden)).await;
            assert!(matches!(answer, Err(ReadError::UnknownTable { .. })), "{hidden}");
        }
    }
}

async fn no_filter_widens_what_a_caller_sees(engine: Engine) {
    let f = populated(engine).await;
    let test = |column: &str, test: Test, negated| Filter::Test {
        field: Field { column: column.into(), path: vec![] },
        negated,
        test,
    };
    let theirs = test("user_id", Test::Compare(Comparison::Equal, None, "bob".into()), false);
    let anybody = test("user_id", Test::Is(Is::Null), true);
    let either = Filter::Tree { negated: false, all: false, filters: vec![theirs.clone(), anybody.clone()] };
    let neither = Filter::Tree { negated: true, all: true, filters: vec![] };
    let ann = Caller::User(user("ann"));
    for (filter, expected) in [(theirs, 0), (anybody, 1), (either, 1), (neither, 0)] {
        let query = ReadQuery { filters: vec![filter], ..all_of("recommendation_logs") };
        assert_eq!(rows(&f, &ann, &query).await.len(), expected, "{query:?}");
    }
}

async fn a_demoted_admin_loses_the_rank_at_once(engine: Engine) {
    let f = populated(engine).await;
    let root = Caller::User(user("root"));
    assert_eq!(f.store.grade(&root).await.unwrap(), Grade::Admin);
    f.facts([profile("root", Some(ProfileRole::Member), None)]).await;
    assert_eq!(rows(&f, &root, &all_of("profiles")).await.len(), 1);
}

async fn rows_are_printed_as_postgresql_prints_them(engine: Engine) {
    let f = populated(engine).await;
    let answer = f.store.read_as(&Caller::User(user("ann")), &all_of("lease_nights")).await.unwrap();
    assert_eq!(
        String::from_utf8(answer.body).unwrap(),
        r#"[{"lease_id":"ann-home","night":"2026-03-15","held_by":"ann","base_price":149.99,"market_demand":1.2345}]"#
    );
    let row = rows(&f, &Caller::User(user("ann")), &all_of("user_archetypes")).await.remove(0);
    assert_eq!(row["is_manual_override"], true);
    assert_eq!(row["reasoning"][0], "because");
    assert_eq!(row["override_expires_at"], serde_json::Value::Null);
    let query = ReadQuery { shape: Shape::Csv, ..all_of("recommendation_events") };
    let answer = f.store.read_as(&Caller::User(user("ann")), &query).await.unwrap();
    assert_eq!(
        String::from_utf8(answer.body).unwrap(),
        format!(
            "user_id,recommendation_id,event,occurrence,transaction_type,payload,occurred_at,recorded_at\n\
             ann,{},viewed,@,,\"{{\"\"source\"\": \"\"api\"\"}}\",\"2026-03-01 13:00:00+00\",\"2026-03-01 13:00:00+00\"",
            id(1)
        )
    );
    let confidence = r#""confidence":1.00,"#;
    let answer = f.store.read_as(&Caller::User(user("ann")), &all_of("user_archetypes")).await.unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains(confidence) && text.contains(r#""updated_at":"2026-03-01T13:00:00"#), "{text}");
}

on_both!(
    each_caller_reads_the_rows_of_the_matrix,
    a_demoted_admin_loses_the_rank_at_once,
    no_filter_widens_what_a_caller_sees,
    rows_are_printed_as_postgresql_prints_them,
);
