//! The audit log: one transaction with its change, append-only, and a chain that shows tampering.

use crate::support::*;
use nudge_engine::Archetype;
use nudge_store::*;

async fn override_archetype(f: &Fixture, id: &str) -> Result<ArchetypeChanged, StoreError> {
    let change = ArchetypeChange::Override {
        archetype: Archetype::BigSpender,
        reason: "a \"reason\"\nof two lines".into(),
        expires_at: Some(at("2026-04-01T00:00:00Z")),
        computed: computed(Archetype::AverageUser),
    };
    f.store.change_archetype(user(id), change, admin(), at("2026-03-01T12:00:00Z")).await
}

async fn three_entries(engine: Engine) -> Fixture {
    let f = Fixture::new(engine).await;
    for id in ["ann", "bob", "eve"] {
        override_archetype(&f, id).await.unwrap();
    }
    f
}

async fn a_change_whose_audit_entry_fails_is_rolled_back(engine: Engine) {
    let f = three_entries(engine).await;
    f.sql(
        "CREATE TRIGGER broken BEFORE INSERT ON admin_audit_log BEGIN SELECT raise(ABORT, 'no room'); END",
        "CREATE FUNCTION public.broken() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'no room'; END $$;
         CREATE TRIGGER broken BEFORE INSERT ON admin_audit_log FOR EACH ROW EXECUTE FUNCTION public.broken()",
    )
    .await
    .unwrap();
    let result = override_archetype(&f, "dan").await;
    assert!(matches!(result, Err(StoreError::Refused { table: "admin_audit_log", .. })), "{result:?}");
    assert_eq!(f.person("dan").await.archetype, None);
    f.sql("DROP TRIGGER broken", "DROP TRIGGER broken ON admin_audit_log").await.unwrap();
    assert!(override_archetype(&f, "dan").await.is_ok());
}

async fn the_chain_verifies_and_its_head_is_what_the_change_gave(engine: Engine) {
    let f = three_entries(engine).await;
    let ArchetypeChanged::Done { audit_head, .. } = override_archetype(&f, "ann").await.unwrap() else {
        unreachable!()
    };
    let report = f.store.verify_audit(Some(&audit_head)).await.unwrap();
    assert_eq!(report, AuditReport { entries: 4, head: Some(audit_head.clone()), broken: None });
    assert_eq!(f.store.audit_head().await.unwrap(), Some(audit_head.clone()));
    override_archetype(&f, "ann").await.unwrap();
    assert!(
        f.store.verify_audit(Some(&audit_head)).await.unwrap().broken.unwrap().1.contains("others follow")
    );
    assert!(f.store.verify_audit(Some("0000")).await.unwrap().broken.unwrap().1.contains("not in the log"));
}

async fn the_log_refuses_every_statement_that_does_not_extend_its_tail(engine: Engine) {
    let f = three_entries(engine).await;
    for sql in [
        "UPDATE admin_audit_log SET admin_id = 'me'",
        "UPDATE admin_audit_log SET hash = hash WHERE id = 1",
        "DELETE FROM admin_audit_log WHERE id = 3",
        "INSERT OR REPLACE INTO admin_audit_log SELECT * FROM admin_audit_log WHERE id = 3",
        "REPLACE INTO admin_audit_log (id, admin_id, actor_role, action, metadata, created_at, prev_hash, hash)
         SELECT 2, 'me', 'admin', 'x', '{}', created_at, prev_hash, hash FROM admin_audit_log WHERE id = 2",
        "INSERT INTO admin_audit_log (id, admin_id, actor_role, action, metadata, created_at, prev_hash, hash)
         SELECT 4, 'me', 'admin', 'x', '{}', created_at, prev_hash, hash FROM admin_audit_log WHERE id = 3",
        "INSERT INTO admin_audit_log (id, admin_id, actor_role, action, metadata, created_at, prev_hash, hash)
         SELECT 5, 'me', 'admin', 'x', '{}', created_at, hash, hash FROM admin_audit_log WHERE id = 3",
    ] {
        assert!(f.sql(sql, sql).await.is_err(), "{sql}");
    }
    // Without a number: a file refuses it; the server gives it one, so there it has to be a copy of an older entry.
    let unnumbered = |old| {
        format!(
            "INSERT INTO admin_audit_log (admin_id, actor_role, action, metadata, created_at, prev_hash, hash)
             SELECT 'me', 'admin', 'x', '{{}}', created_at, prev_hash, hash FROM admin_audit_log WHERE id = {old}"
        )
    };
    assert!(f.sql(&unnumbered(3), &unnumbered(2)).await.is_err());
    assert!(f.sql("DELETE FROM admin_audit_log WHERE id < 9", "TRUNCATE admin_audit_log").await.is_err());
    assert_eq!(f.store.verify_audit(None).await.unwrap().broken, None);
}

async fn tampering_behind_the_triggers_is_found(engine: Engine) {
    for (sql, id, what) in [
        ("UPDATE admin_audit_log SET target_user_id = 'mallory' WHERE id = 2", 2, "its hash"),
        ("UPDATE admin_audit_log SET metadata = replace(metadata, '1.0', '0.9') WHERE id = 2", 2, "its hash"),
        ("UPDATE admin_audit_log SET ip_address = NULL WHERE id = 1", 1, "its hash"),
        ("DELETE FROM admin_audit_log WHERE id = 2", 3, "its number"),
        ("DELETE FROM admin_audit_log WHERE id = 1", 2, "its number"),
        ("UPDATE admin_audit_log SET prev_hash = hash WHERE id = 3", 3, "it does not name"),
    ] {
        let f = three_entries(engine).await;
        f.sql(
            "DROP TRIGGER admin_audit_log_no_update; DROP TRIGGER admin_audit_log_no_delete",
            "ALTER TABLE admin_audit_log DISABLE TRIGGER admin_audit_log_keep",
        )
        .await
        .unwrap();
        f.sql(
            sql,
            &sql.replace("replace(metadata, '1.0', '0.9')", "jsonb_set(metadata, '{new,confidence}', '0.9')"),
        )
        .await
        .unwrap();
        let broken = f.store.verify_audit(None).await.unwrap().broken.unwrap();
        assert!(broken.0 == id && broken.1.starts_with(what), "{sql}: {broken:?}");
    }
}

on_both!(
    a_change_whose_audit_entry_fails_is_rolled_back,
    the_chain_verifies_and_its_head_is_what_the_change_gave,
    the_log_refuses_every_statement_that_does_not_extend_its_tail,
    tampering_behind_the_triggers_is_found,
);
