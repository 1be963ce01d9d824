//! `nudge archetype`

use crate::support::{Folder, number};

#[test]
fn it_is_shown_overridden_kept_and_reset_and_audited() {
    let folder = Folder::with_people(20);
    let run = |args: &[&str]| folder.run(&[&["archetype"], args].concat());
    let conn = folder.database();
    let user: String = conn
        .query_row(
            "SELECT user_id FROM user_archetypes WHERE archetype_type <> 'big_spender' AND user_id IN
               (SELECT requester_id FROM date_change_requests) LIMIT 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let user = user.as_str();
    let before = run(&["show", user, "--json"]).json();
    assert_ne!(before["archetypeType"], "big_spender");
    assert_eq!(before["signals"].as_object().unwrap().len(), 12, "{before}");

    let done = run(&["override", user, "big_spender", "--reason", "asked by support", "--json"]).json();
    assert_eq!(done["archetypeType"], "big_spender");
    assert!(done["note"].as_str().unwrap().contains("asked by support"), "{done}");
    let kept = run(&["recalculate", user]).good();
    assert!(kept.contains("big_spender"), "a live override stays: {kept}");
    let reset = run(&["reset", user, "--json"]).json();
    assert_eq!(reset["archetypeType"], before["archetypeType"]);
    let shown = run(&["show", user]).good();
    assert!(shown.contains(before["archetypeType"].as_str().unwrap()), "{shown}");

    let actions =
        crate::support::texts(&conn, "SELECT action || ' ' || admin_id FROM admin_audit_log ORDER BY id");
    assert_eq!(actions, ["override_archetype cli", "recalculate_archetype cli", "reset_archetype cli"]);
    assert!(folder.run(&["audit", "verify"]).good().contains("3 entries"));
}

#[test]
fn bad_overrides_are_refused_and_change_nothing() {
    let folder = Folder::with_people(20);
    let run = |args: &[&str]| folder.run(&[&["archetype", "override", "user-000001"], args].concat());
    let long = "x".repeat(2001);
    for (args, says) in [
        (&["big_spender", "--reason", "  "][..], "--reason"),
        (&["big_spender", "--reason", &long], "--reason"),
        (&["big_spender", "--reason", "a\u{7}b"], "--reason"),
        (&["big_spender", "--reason", "x", "--expires-at", "yesterday"], "--expires-at"),
        (&["big_spender", "--reason", "x", "--expires-at", "2020-01-01T00:00:00Z"], "--expires-at"),
    ] {
        let complaint = run(args).refused();
        assert!(complaint.contains(says), "{args:?}: {complaint}");
    }
    for args in [&["BIG_SPENDER", "--reason", "x"][..], &["big_spender"]] {
        let bad = run(args);
        assert_eq!(bad.code, Some(2), "{bad:?}");
    }
    let conn = folder.database();
    assert_eq!(number(&conn, "SELECT count(*) FROM user_archetypes WHERE is_manual_override = 1", []), 0);
    assert_eq!(number(&conn, "SELECT count(*) FROM admin_audit_log", []), 0);
}

#[test]
fn a_person_without_history_has_the_defaults_and_nothing_is_stored() {
    let folder = Folder::with_people(20);
    let shown = folder.run(&["archetype", "show", "nobody", "--json"]).json();
    assert_eq!(shown["archetypeType"], "average_user");
    assert!(shown["note"].as_str().unwrap().contains("not stored"), "{shown}");
    let rows =
        number(&folder.database(), "SELECT count(*) FROM user_archetypes WHERE user_id = 'nobody'", []);
    assert_eq!(rows, 0);
}
