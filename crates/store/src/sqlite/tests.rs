//! What needs the inside of the backend: every statement against the schema, the plans of reads, a full disk.

use super::*;

#[test]
fn every_statement_can_be_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
    let conn = connection::set_up(&options, true).unwrap();
    let modules = [
        alert::STATEMENTS,
        archetype::STATEMENTS,
        audit::STATEMENTS,
        browse::STATEMENTS,
        change::STATEMENTS,
        checkpoint::STATEMENTS,
        decision::STATEMENTS,
        decision_index::STATEMENTS,
        ended_session::STATEMENTS,
        fact::STATEMENTS,
        job::STATEMENTS,
        job::batch::STATEMENTS,
        migration::STATEMENTS,
        night::STATEMENTS,
        outcome::STATEMENTS,
        person::STATEMENTS,
        pool::STATEMENTS,
        reads::STATEMENTS,
        report::STATEMENTS,
        request::STATEMENTS,
        run::STATEMENTS,
        writer::STATEMENTS,
    ];
    let mut count = 0;
    for (name, sql) in modules.into_iter().flatten().copied() {
        conn.prepare(sql).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!sql.contains('*') || sql.contains("count(*)"), "{name}");
        count += 1;
    }
    assert!(count > 60, "{count}");
}

#[test]
fn rows_of_the_log_of_requests_survive_its_becoming_one_tree() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
    let old = Connection::open(&options.path).unwrap();
    old.execute_batch(include_str!("../../migrations/sqlite/20261101000000_facts.sql")).unwrap();
    old.execute_batch(include_str!("../../migrations/sqlite/20261101000100_decisions.sql")).unwrap();
    old.execute_batch(include_str!("../../migrations/sqlite/20261101000200_logs.sql")).unwrap();
    old.execute_batch(
        "CREATE TABLE nudge_schema_migrations (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,
           statements TEXT NOT NULL) STRICT;
         INSERT INTO nudge_schema_migrations VALUES (20261101000000, 'facts', ''), (20261101000100, 'decisions', ''),
           (20261101000200, 'logs', '');
         INSERT INTO edge_function_logs VALUES ('019c167f-cc00-7000-8000-000000000000', 'rest', 'GET', 200, 7, 'ann',
           'r', 'c', '2026-02-01T00:00:00.000000Z');",
    )
    .unwrap();
    drop(old);
    let conn = connection::set_up(&options, false).unwrap();
    let kept = "SELECT count(*) FROM edge_function_logs WHERE id = '019c167f-cc00-7000-8000-000000000000'
      AND function_name = 'rest' AND method = 'GET' AND status = 200 AND response_time_ms = 7 AND user_id = 'ann'
      AND request_id = 'r' AND error_code = 'c' AND created_at = '2026-02-01T00:00:00.000000Z'";
    assert_eq!(conn.query_row(kept, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'edge_function_logs%'";
    assert_eq!(conn.query_row(tables, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn the_catalogue_is_the_schema() {
    use crate::catalog::{ColumnType, TABLES};
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
    let conn = connection::set_up(&options, true).unwrap();
    let names = |sql: &str| -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let tables = names(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'nudge_%'
          AND name NOT LIKE 'sqlite_%' ORDER BY name",
    );
    let mut known: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    known.sort_unstable();
    assert_eq!(tables, known);
    assert!(crate::rights::exposed_tables().eq(TABLES.iter().map(|table| table.name)));
    for table in TABLES {
        // `seq` is this engine's own.
        let sql = format!(
            "SELECT name, type, \"notnull\", pk FROM pragma_table_info('{}') WHERE name <> 'seq' ORDER BY name",
            table.name
        );
        let mut statement = conn.prepare(&sql).unwrap();
        let found = statement.query_map([], |row| {
            let line = format!(
                "{} {} {}",
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, bool>(2)?
            );
            Ok((line, row.get::<_, bool>(3)?))
        });
        let found: Vec<(String, bool)> = found.unwrap().collect::<Result<_, _>>().unwrap();
        let mut expected: Vec<String> = table
            .columns
            .iter()
            .map(|column| {
                let stored = match column.column_type {
                    ColumnType::Integer | ColumnType::BigInt | ColumnType::Boolean => "INTEGER",
                    ColumnType::Numeric { .. } | ColumnType::Double => "REAL",
                    _ => "TEXT",
                };
                format!("{} {stored} {}", column.name, !column.nullable)
            })
            .collect();
        expected.sort_unstable();
        let lines: Vec<_> = found.iter().map(|(line, _)| line.clone()).collect();
        assert_eq!(lines, expected, "{}", table.name);
        for (line, _) in found.iter().filter(|(_, key)| *key) {
            assert!(
                table.key.iter().any(|name| line.starts_with(&format!("{name} "))),
                "{} {line}",
                table.name
            );
        }
        if let Some(own) = rights::own(table.name) {
            conn.prepare(&format!("SELECT 1 FROM {} WHERE {own}", table.name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_takes_nothing_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
    let store = SqliteStore::open(options).unwrap();
    let fill = |conn: &Connection| {
        let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        Ok::<_, StoreError>(())
    };
    store.inner.writer.call(fill).await.unwrap();
    let members = |n: usize| {
        let member = |i| crate::fact::LeaseMemberRow {
            lease_id: nudge_engine::EntityId::parse("home").unwrap(),
            user_id: UserId::parse(&format!("{n}-{i}-{}", "x".repeat(50))).unwrap(),
        };
        (0..200).map(|i| FactChange::Upsert(crate::fact::FactRow::LeaseMember(member(i)))).collect()
    };
    let now = Timestamp::UNIX_EPOCH;
    let full = store.apply_facts(members(1), now).await;
    assert!(matches!(&full, Err(error) if error.is_unavailable()), "{full:?}");
    assert_eq!(store.people_after(None, 9).await.unwrap(), []);
    // The connection that the limit belonged to is gone, as a disk gets room again.
    assert_eq!(store.apply_facts(members(2), now).await.unwrap().upserted, 200);
}

#[test]
fn the_reads_of_a_recommendation_use_indexes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
    let conn = connection::set_up(&options, true).unwrap();
    let hot = person::STATEMENTS.iter().chain(night::STATEMENTS).chain(decision::STATEMENTS);
    for (name, sql) in hot.filter(|(name, _)| !name.contains("COUNT_ARCHETYPES")) {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = statement.parameter_count();
        let values = rusqlite::params_from_iter(vec![rusqlite::types::Null; count]);
        let plan: Vec<String> =
            statement.query_map(values, |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        let plan = plan.join("; ");
        assert!(!plan.contains("SCAN"), "{name}: {plan}");
        let sorts = plan.contains("TEMP B-TREE") && *name != "SELECT_NIGHT";
        assert!(!sorts, "{name}: {plan}");
        if matches!(*name, "SELECT_ASKED" | "SELECT_GOT") {
            assert!(plan.contains("COVERING INDEX"), "{name}: {plan}");
        }
    }
}

fn fresh(adjust: impl FnOnce(&mut StoreOptions)) -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
    adjust(&mut options);
    (folder, SqliteStore::open(options).unwrap())
}

fn member(id: &str) -> FactChange {
    FactChange::Upsert(crate::fact::FactRow::LeaseMember(crate::fact::LeaseMemberRow {
        lease_id: nudge_engine::EntityId::parse("home").unwrap(),
        user_id: UserId::parse(id).unwrap(),
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_job_fails_that_job_alone() {
    let (_folder, store) = fresh(|_| {});
    let half_done = |conn: &Connection| {
        conn.execute("INSERT INTO lease_members (lease_id, user_id) VALUES ('home', 'half')", []).unwrap();
        panic!("as a defect would")
    };
    let panics = store.inner.writer.call::<(), StoreError, _>(half_done);
    let (panicked, applied) =
        tokio::join!(panics, store.apply_facts(vec![member("ann")], Timestamp::UNIX_EPOCH));
    assert!(matches!(panicked, Err(StoreError::Statement { .. })), "{panicked:?}");
    assert_eq!(applied.unwrap().upserted, 1);
    assert_eq!(store.people_after(None, 9).await.unwrap(), [UserId::parse("ann").unwrap()]);
    let later = store.apply_facts(vec![member("bob")], Timestamp::UNIX_EPOCH).await;
    assert_eq!(later.unwrap().upserted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_read_gives_its_place_back() {
    let (_folder, store) = fresh(|options| options.readers = 1);
    let panicked = store.read_at_length::<(), StoreError>(|_| panic!("as a defect would")).await;
    assert!(matches!(panicked, Err(StoreError::Statement { .. })), "{panicked:?}");
    assert!(store.schema_version().await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_has_not_begun_in_time_never_will_and_one_that_has_is_waited_for() {
    let (_folder, store) = fresh(|options| options.call_deadline_ms = 2_000);
    let (begun, has_begun) = oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let long = tokio::spawn({
        let store = store.clone();
        async move {
            let work = move |_: &Connection| {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
                Ok::<_, StoreError>(7)
            };
            store.inner.writer.call(work).await
        }
    });
    has_begun.await.unwrap();
    let late = store.apply_facts(vec![member("ann")], Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert!(late.is_unavailable(), "{late}");
    assert_eq!(late.to_string(), "the database is unavailable: the writer is busy");
    go_on.send(()).unwrap();
    assert_eq!(long.await.unwrap().unwrap(), 7);
    assert_eq!(store.apply_facts(vec![member("bob")], Timestamp::UNIX_EPOCH).await.unwrap().upserted, 1);
    assert_eq!(store.people_after(None, 9).await.unwrap(), [UserId::parse("bob").unwrap()]);
}

/// A decision of one of a few users.
fn decision_of(n: u64) -> crate::record::DecisionRow {
    crate::record::DecisionRow {
        id: Uuid::from_u64_pair(0x0198_0000_0000_7000 + (n << 16), 0x8000_0000_0000_0000 + n),
        user_id: UserId::parse(&format!("user-{}", n % 7)).ok(),
        roommate_id: None,
        lease_id: None,
        target_date: jiff::civil::date(2026, 3, 15),
        primary: nudge_engine::TransactionType::Swap,
        archetype: Archetype::AverageUser,
        archetype_confidence: 0.6,
        days_until_checkin: 14,
        urgency_level: "MEDIUM".into(),
        options: "[]".into(),
        context: "{}".into(),
        rule: "average_medium".into(),
        policy: "rules-v1".into(),
        personalized: true,
        propensity: 1.0,
        confidence: 0.7,
        session_id: None,
        user_agent: None,
        response_time_ms: 1,
        created_at: Timestamp::UNIX_EPOCH,
    }
}

fn ids_of(conn: &Connection, user: &str) -> Vec<String> {
    let mut statement =
        conn.prepare("SELECT id FROM nudge_decisions_of_users WHERE user_id = ?1 ORDER BY id").unwrap();
    statement.query_map([user], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_found_by_its_user_while_runs_are_written_and_merged() {
    let (_folder, store) = fresh(|_| {});
    let runs = |conn: &Connection| {
        let count = |level: i64| {
            let sql = "SELECT count(*) FROM nudge_decision_runs WHERE level = ?1";
            conn.query_row(sql, [level], |row| row.get::<_, i64>(0)).unwrap()
        };
        (count(0), count(1))
    };
    let mut seen = std::collections::BTreeSet::new();
    let step = 600;
    for from in (0..21_000).step_by(step) {
        // Out of order, as they come from the spool, and some of them twice.
        let rows = (from..from + step as u64).rev().map(decision_of).chain([decision_of(from)]).collect();
        assert!(store.replay_decisions(rows).await.unwrap().iter().all(Result::is_ok));
        let check = |conn: &Connection| {
            for user in 0..7 {
                let expected: Vec<String> = (0..from + step as u64)
                    .filter(|n| n % 7 == user)
                    .map(|n| decision_of(n).id.to_string())
                    .collect();
                assert!(ids_of(conn, &format!("user-{user}")) == expected, "user-{user} after {from}");
            }
            seen.insert(runs(conn));
            Ok::<_, StoreError>(())
        };
        store.inner.pool.read(check).unwrap();
    }
    assert!(seen.contains(&(0, 0)) && seen.contains(&(15, 0)), "{seen:?}");
    assert!(seen.iter().any(|(_, merged)| *merged == 1), "{seen:?}");
}

#[test]
fn decisions_of_an_older_file_are_found_after_the_migration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nudge.db");
    let conn = Connection::open(&path).unwrap();
    for sql in [
        include_str!("../../migrations/sqlite/20261101000000_facts.sql"),
        include_str!("../../migrations/sqlite/20261101000100_decisions.sql"),
        include_str!("../../migrations/sqlite/20261101000200_logs.sql"),
    ] {
        conn.execute_batch(sql).unwrap();
    }
    for n in 0..50 {
        decision::insert(&conn, &decision_of(n)).unwrap();
    }
    conn.execute_batch(
        "CREATE TABLE nudge_schema_migrations (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,
           statements TEXT NOT NULL) STRICT;
         INSERT INTO nudge_schema_migrations VALUES (20261101000000, 'facts', ''), (20261101000100, 'decisions', ''),
           (20261101000200, 'logs', '')",
    )
    .unwrap();
    drop(conn);
    let conn = connection::set_up(&StoreOptions { path, ..StoreOptions::default() }, false).unwrap();
    decision::insert(&conn, &decision_of(56)).unwrap();
    let expected: Vec<String> =
        (0..50).step_by(7).chain([56]).map(|n| decision_of(n).id.to_string()).collect();
    assert_eq!(ids_of(&conn, "user-0"), expected);
}
