//! The audit log: it is only ever added to, and its chain never forks.

use tokio_postgres::error::SqlState;

use crate::support::*;

#[tokio::test]
async fn entries_are_numbered_one_after_the_other_and_name_the_one_before() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    owner.run(&AUDIT_ENTRY.repeat(3)).await;
    owner.run(&format!("BEGIN; {AUDIT_ENTRY} ROLLBACK; {AUDIT_ENTRY}")).await;
    let chain = owner.rows("SELECT id, prev_hash, hash FROM public.admin_audit_log ORDER BY id").await;
    assert_eq!(chain.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    assert_eq!(chain[0][1], "0".repeat(64));
    for pair in chain.windows(2) {
        assert_eq!(pair[0][2], pair[1][1]);
    }
}

/// An entry with this number and predecessor.
fn entry(number: &str, prev_hash: &str) -> String {
    format!(
        "INSERT INTO public.admin_audit_log (id, admin_id, actor_role, action, metadata, created_at, prev_hash, hash)
         VALUES ({number}, 'root', 'admin', 'test', '{{}}', now(), '{prev_hash}', repeat('a', 64))"
    )
}

#[tokio::test]
async fn an_entry_that_does_not_extend_the_tail_is_refused() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    owner.run(AUDIT_ENTRY).await;
    let tail = owner.one("SELECT hash FROM public.admin_audit_log").await;
    let genesis = "0".repeat(64);
    for (number, prev_hash) in [("NULL", &genesis), ("1", &tail), ("3", &tail), ("0", &tail), ("2", &genesis)]
    {
        let refused = owner.refused(&entry(number, prev_hash)).await;
        assert_eq!(refused.code, SqlState::INTEGRITY_CONSTRAINT_VIOLATION, "{number} {prev_hash}");
    }
    // Also as the second row of one statement.
    let both = format!(
        "{}, (NULL, 'root', 'admin', 'test', '{{}}', now(), '{tail}', repeat('b', 64))",
        entry("2", &tail)
    );
    assert_eq!(owner.refused(&both).await.code, SqlState::INTEGRITY_CONSTRAINT_VIOLATION);
    assert_eq!(owner.one("SELECT count(*) FROM public.admin_audit_log").await, "1");
    owner.run(&entry("NULL", &tail)).await;
    assert_eq!(owner.one("SELECT max(id) FROM public.admin_audit_log").await, "2");
}

#[tokio::test]
async fn nobody_changes_or_removes_an_entry() {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    owner.run(AUDIT_ENTRY).await;
    let superuser = database.superuser().await;
    for statement in [
        "UPDATE public.admin_audit_log SET action = 'other'",
        "UPDATE public.admin_audit_log SET action = 'other' WHERE false",
        "DELETE FROM public.admin_audit_log",
        "DELETE FROM public.admin_audit_log WHERE false",
        "TRUNCATE public.admin_audit_log",
        "MERGE INTO public.admin_audit_log AS l USING (VALUES (1)) AS v (id) ON l.id = v.id WHEN MATCHED THEN DELETE",
        "INSERT INTO public.admin_audit_log (id, admin_id, actor_role, action, metadata, created_at, prev_hash, hash)
           SELECT NULL, 'x', 'x', 'x', '{}', now(), hash, hash FROM nudge.audit_tail()
           ON CONFLICT (id) DO UPDATE SET action = 'other'",
    ] {
        for caller in [Caller::Anonymous, Caller::User("ann"), Caller::User("root"), Caller::Service] {
            owner.run(&caller.begin()).await;
            let code = owner.refused(statement).await.code;
            assert_eq!(code, SqlState::INSUFFICIENT_PRIVILEGE, "{caller:?}: {statement}");
            owner.run("ROLLBACK").await;
        }
        for role in [&owner, &superuser] {
            assert_eq!(role.refused(statement).await.code, SqlState::RESTRICT_VIOLATION, "{statement}");
        }
        // Where ordinary triggers do not fire.
        superuser.run("SET session_replication_role = replica").await;
        assert_eq!(superuser.refused(statement).await.code, SqlState::RESTRICT_VIOLATION, "{statement}");
        superuser.run("RESET session_replication_role").await;
    }
    assert_eq!(owner.column("SELECT action FROM public.admin_audit_log").await, ["test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_make_one_chain() {
    const WRITERS: usize = 8;
    const ENTRIES: usize = 25;
    let database = std::sync::Arc::new(Database::migrated().await);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let database = std::sync::Arc::clone(&database);
        writers.spawn(async move {
            let client = database.owner().await;
            for n in 0..ENTRIES {
                // Some come without having asked for the tail first, with a guess that is mostly wrong; some give up.
                match (writer + n) % 3 {
                    0 => client.run(&format!("BEGIN; {AUDIT_ENTRY} COMMIT")).await,
                    1 => {
                        client
                            .run(&format!("BEGIN; {AUDIT_ENTRY} {AUDIT_ENTRY} ROLLBACK; {AUDIT_ENTRY}"))
                            .await
                    }
                    _ => {
                        let guess =
                            client.one("SELECT coalesce(max(id), 0) + 1 FROM public.admin_audit_log").await;
                        let hash = client
                            .column("SELECT hash FROM public.admin_audit_log ORDER BY id DESC LIMIT 1")
                            .await;
                        let hash = hash.first().map_or_else(|| "0".repeat(64), Clone::clone);
                        if client.batch_execute(&entry(&guess, &hash)).await.is_err() {
                            client.run(AUDIT_ENTRY).await;
                        }
                    }
                }
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let owner = database.owner().await;
    let chain = owner.rows("SELECT id, prev_hash, hash FROM public.admin_audit_log ORDER BY id").await;
    assert_eq!(chain.len(), WRITERS * ENTRIES);
    let mut before = "0".repeat(64);
    for (n, row) in chain.iter().enumerate() {
        assert_eq!(row[0], (n + 1).to_string());
        assert_eq!(row[1], before);
        before.clone_from(&row[2]);
    }
}

#[tokio::test]
async fn a_snapshot_older_than_the_tail_is_refused() {
    let database = Database::migrated().await;
    let (one, other) = (database.owner().await, database.owner().await);
    one.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM public.admin_audit_log").await;
    other.run(AUDIT_ENTRY).await;
    assert_eq!(one.refused(AUDIT_ENTRY).await.code, SqlState::UNIQUE_VIOLATION);
    one.run("ROLLBACK").await;
    assert_eq!(one.one("SELECT count(*) FROM public.admin_audit_log").await, "1");
}

#[tokio::test]
async fn canonical_metadata_survives_the_column() {
    // The hash is over text that is written from the value that was read: numbers and texts must come back the same.
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let metadata = serde_json::json!({
        "old": {"confidence": 0.85, "one": 1.0, "tiny": 1e-7, "huge": 1e300, "third": 1.0 / 3.0, "int": 12, "neg": -0.5},
        "new": null,
        "reason": "ümlaut \"quoted\" \\ 🙂\nline",
    });
    let text = nudge_store::audit::canonical_json(&metadata);
    let stored = owner.query_one("SELECT ($1::text::jsonb)::text", &[&text]).await.unwrap();
    let back: serde_json::Value = serde_json::from_str(stored.get(0)).unwrap();
    assert_eq!(nudge_store::audit::canonical_json(&back), text);
}
