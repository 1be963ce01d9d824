//! What needs the inside of the backend: every statement against the schema, the plans of reads, connections that break.

use std::collections::BTreeSet;

use super::*;
use testing::TestDatabase;

#[path = "../../tests/shared/postgres.rs"]
#[expect(dead_code, reason = "the tests of several crates share it")]
pub(super) mod testing;

fn statements() -> Vec<&'static convert::Statement> {
    let modules = [
        alert::STATEMENTS,
        archetype::STATEMENTS,
        audit::STATEMENTS,
        browse::STATEMENTS,
        change::STATEMENTS,
        decision::STATEMENTS,
        ended_session::STATEMENTS,
        fact::STATEMENTS,
        job::STATEMENTS,
        job::batch::STATEMENTS,
        fact::TABLE_STATEMENTS,
        month::STATEMENTS,
        night::STATEMENTS,
        outcome::STATEMENTS,
        person::STATEMENTS,
        reads::STATEMENTS,
        report::STATEMENTS,
        request::STATEMENTS,
        run::STATEMENTS,
        schema::STATEMENTS,
        source::STATEMENTS,
    ];
    modules.into_iter().flatten().copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_can_be_prepared() {
    let database = TestDatabase::new().await;
    let client = database.owner().await;
    for statement in statements() {
        let prepared = client.prepare_typed(statement.sql, statement.types).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{}: {error:?}", statement.name));
        assert_eq!(prepared.params(), statement.types, "{}", statement.name);
        assert!(!statement.sql.contains("SELECT *") && !statement.sql.contains(".*"), "{}", statement.name);
    }
    assert!(statements().len() > 50, "{}", statements().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_the_schema() {
    use crate::catalog::{ColumnType, TABLES};
    let database = TestDatabase::new().await;
    let client = database.owner().await;
    let columns = "SELECT a.attname::text, format_type(a.atttypid, NULL), a.attnotnull,
        coalesce((SELECT c.collname::text FROM pg_collation AS c WHERE c.oid = a.attcollation), ''),
        coalesce((a.atttypmod - 4) & 65535, 0), a.attnum = ANY (i.indkey)
      FROM pg_attribute AS a
      JOIN pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary
      WHERE a.attrelid = ('public.' || $1)::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    for table in TABLES {
        let mut found = Vec::new();
        let mut key = Vec::new();
        for row in client.query(columns, &[&table.name]).await.unwrap() {
            let (name, kind): (String, String) = (row.get(0), row.get(1));
            if kind == "text" {
                assert_eq!(row.get::<_, String>(3), "C", "{} {name}", table.name);
            }
            let scale = if kind == "numeric" { format!("({})", row.get::<_, i32>(4)) } else { String::new() };
            found.push(format!("{name} {kind}{scale} {}", row.get::<_, bool>(2)));
            if row.get(5) {
                key.push(name);
            }
        }
        let expected = table.columns.iter().map(|column| {
            let scale = match column.column_type {
                ColumnType::Numeric { scale } => format!("({scale})"),
                _ => String::new(),
            };
            format!("{} {}{scale} {}", column.name, column.column_type.name(), !column.nullable)
        });
        assert_eq!(found, expected.collect::<Vec<_>>(), "{}", table.name);
        // A decision's id tells it apart; the user is in the key of the partitioned table for the sake of Citus.
        key.retain(|name| table.name != "recommendation_logs" || name != "user_id");
        key.sort();
        let mut known = table.key.to_vec();
        known.sort_unstable();
        assert_eq!(key, known, "{}", table.name);
    }
    let tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
      AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY relname COLLATE \"C\"";
    let tables: Vec<String> = client.query(tables, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let mut known: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    known.sort_unstable();
    assert_eq!(tables, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_is_left_to_the_search_path() {
    // An app may have tables of these names elsewhere.
    let database = TestDatabase::new().await;
    let client = database.owner().await;
    client.batch_execute("SET search_path = ''").await.unwrap();
    for statement in statements() {
        let prepared = client.prepare_typed(statement.sql, statement.types).await;
        prepared.unwrap_or_else(|error| panic!("{}: {error:?}", statement.name));
    }
    let names: BTreeSet<_> =
        statements().iter().map(|statement| std::ptr::from_ref(*statement).addr()).collect();
    assert_eq!(names.len(), statements().len(), "each has an address of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reads_of_a_recommendation_use_indexes_alone() {
    let database = TestDatabase::new().await;
    let client = database.owner().await;
    // Few rows are read as a whole by themselves; what is asked here is whether an index would serve.
    client.batch_execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan").await.unwrap();
    let hot = person::STATEMENTS
        .iter()
        .chain(night::STATEMENTS)
        .chain(change::STATEMENTS)
        .chain(decision::STATEMENTS);
    let reads = hot.filter(|statement| {
        statement.sql.starts_with(['S', 'W']) && !["COUNT_ARCHETYPES", "LOCK_MARKS"].contains(&statement.name)
    });
    let mut count = 0;
    for statement in reads {
        let types: Vec<&str> = statement.types.iter().map(|kind| kind.name()).collect();
        let types = if types.is_empty() { String::new() } else { format!("({})", types.join(", ")) };
        let nulls = vec!["NULL"; statement.types.len()].join(", ");
        let nulls = if nulls.is_empty() { nulls } else { format!("({nulls})") };
        let name = statement.name;
        client.batch_execute(&format!("PREPARE \"{name}\" {types} AS {}", statement.sql)).await.unwrap();
        let rows = client.query(&format!("EXPLAIN EXECUTE \"{name}\" {nulls}"), &[]).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan"), "{name}:\n{plan}");
        // The newest requests come from the index in their order.
        let sorts = plan.matches("Sort Key").count();
        assert!(name != "SELECT_PERSON" || sorts == 0, "{name}:\n{plan}");
        count += 1;
    }
    assert!(count >= 9, "{count}");
}

#[test]
fn the_known_version_is_that_of_the_newest_migration() {
    let newest = testing::migrations().pop().unwrap().0;
    assert_eq!(newest, schema::KNOWN.to_string());
}
