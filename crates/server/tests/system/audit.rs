//! `nudge audit verify`

use crate::support::{Folder, eventually};

fn with_three_entries() -> Folder {
    let folder = Folder::with_people(20);
    for user in ["user-000001", "user-000002", "user-000003"] {
        folder.run(&["archetype", "override", user, "big_spender", "--reason", "a <script>"]).good();
    }
    folder
}

#[test]
fn a_whole_chain_verifies_up_to_its_known_head() {
    let folder = with_three_entries();
    let report = folder.run(&["audit", "verify", "--json"]).json();
    assert_eq!(report["entries"], 3);
    let head = report["head"].as_str().unwrap();
    assert_eq!(head.len(), 64);
    folder.run(&["audit", "verify", "--expect-head", head]).good();
    let other = folder.run(&["audit", "verify", "--expect-head", &"0".repeat(64)]);
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.out.contains("BROKEN"), "{}", other.out);
    // The service logs the same head when it starts.
    let server = folder.start(&["serve"]);
    eventually("the head in the log", || server.log().contains(head).then_some(()));
}

#[test]
fn rows_cannot_be_changed_while_the_triggers_stand() {
    let folder = with_three_entries();
    let conn = folder.database();
    for statement in ["UPDATE admin_audit_log SET admin_id = 'x'", "DELETE FROM admin_audit_log WHERE id = 3"]
    {
        let error = conn.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{error}");
    }
}

#[test]
fn every_kind_of_tampering_is_found() {
    for (statement, at) in [
        (
            "UPDATE admin_audit_log SET metadata = replace(metadata, 'big_spender', 'average_user') WHERE id = 2",
            Some(2),
        ),
        ("UPDATE admin_audit_log SET admin_id = 'somebody' WHERE id = 1", Some(1)),
        ("UPDATE admin_audit_log SET created_at = '2020-01-01T00:00:00.000000Z' WHERE id = 3", Some(3)),
        ("DELETE FROM admin_audit_log WHERE id = 2", Some(3)),
        ("DELETE FROM admin_audit_log WHERE id = 1", Some(2)),
        // Cutting off the end leaves a whole chain: only the known head tells.
        ("DELETE FROM admin_audit_log WHERE id = 3", None),
    ] {
        let folder = with_three_entries();
        let head = folder.run(&["audit", "verify", "--json"]).json()["head"].as_str().unwrap().to_owned();
        let conn = folder.database();
        for trigger in ["no_update", "no_delete", "extends_tail"] {
            conn.execute_batch(&format!("DROP TRIGGER admin_audit_log_{trigger}")).unwrap();
        }
        assert_eq!(conn.execute(statement, []).unwrap(), 1, "{statement}");
        let found = folder.run(&["audit", "verify", "--expect-head", &head]);
        assert_eq!(found.code, Some(1), "{statement}: {found:?}");
        let expected = at.map_or_else(|| "BROKEN".to_owned(), |id| format!("BROKEN at entry {id}:"));
        assert!(found.out.contains(&expected), "{statement}: {}", found.out);
    }
}
