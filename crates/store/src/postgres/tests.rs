//! What needs the inside of the backend: every statement against the schema, the plans of reads, connections that break.

use std::collections::BTreeSet;

use super::*;
use testing::TestDatabase;

#[path = "../../tests/shared/postgres.rs"]
#[expect(dead_code, reason = "the tests of several crates share it")]
mod testing;

fn statements() -> Vec<&'static convert::Statement> {
    let modules = [
        archetype::STATEMENTS,
        audit::STATEMENTS,
        change::STATEMENTS,
        decision::STATEMENTS,
        fact::STATEMENTS,
        fact::TABLE_STATEMENTS,
        month::STATEMENTS,
        night::STATEMENTS,
        outcome::STATEMENTS,
        person::STATEMENTS,
        rights::STATEMENTS,
        run::STATEMENTS,
        schema::STATEMENTS,
        source::STATEMENTS,
    ];
    modules.into_iter().flatten().copied().chain(rights::statements()).collect()
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
    assert!(statements().len() > 60, "{}", statements().len());
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

#[test]
fn the_known_version_is_that_of_the_newest_migration() {
    let newest = testing::migrations().pop().unwrap().0;
    assert_eq!(newest, schema::KNOWN.to_string());
}
