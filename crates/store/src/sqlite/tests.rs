//! Every static statement is prepared against the migrated schema.

use super::*;

#[test]
fn every_statement_can_be_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: folder.path().join("nudge.db"), ..StoreOptions::default() };
    let conn = connection::set_up(&options, true).unwrap();
    let modules = [
        archetype::STATEMENTS,
        audit::STATEMENTS,
        change::STATEMENTS,
        checkpoint::STATEMENTS,
        decision::STATEMENTS,
        fact::STATEMENTS,
        migration::STATEMENTS,
        night::STATEMENTS,
        outcome::STATEMENTS,
        person::STATEMENTS,
        pool::STATEMENTS,
        run::STATEMENTS,
        writer::STATEMENTS,
    ];
    let statements = modules.into_iter().flatten().copied().chain(rights::statements());
    let mut count = 0;
    for (name, sql) in statements {
        conn.prepare(sql).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!sql.contains('*') || sql.contains("count(*)"), "{name}");
        count += 1;
    }
    assert!(count > 60, "{count}");
}
