//! The table of rights over HTTP: caller × table × verb × row.

use serde_json::json;

use super::{column, populated, table};
use crate::support::{As, Harness};

/// Table, its column that tells rows apart, the rows of alice, and all rows.
const TABLES: [(&str, &str, &[&str], usize); 11] = [
    ("user_archetypes", "user_id", &["alice"], 3),
    ("recommendation_logs", "user_id", &["alice"], 2),
    ("recommendation_events", "user_id", &["alice"], 1),
    ("admin_audit_log", "target_user_id", &[], 1),
    ("archetype_job_logs", "job_type", &[], 1),
    ("edge_function_logs", "function_name", &[], 1),
    ("profiles", "id", &["alice"], 3),
    ("leases", "id", &["home"], 2),
    ("lease_members", "user_id", &["alice", "bob", "carol"], 4),
    ("lease_nights", "night", &["2026-03-16", "2026-03-17", "2026-03-18"], 4),
    ("date_change_requests", "id", &["alice-asked"], 11),
];

fn seen(server: &Harness, caller: As<'_>, name: &str, key: &str, query: &str) -> Vec<String> {
    let answer = server.get(caller, &table(name, &format!("select={key}&order={key}&{query}")));
    column(&answer.ok(), key)
}

#[test]
fn each_caller_reads_the_rows_of_the_matrix() {
    let server = populated();
    for (name, key, own, all) in TABLES {
        let anonymous = server.get(As::Anon, &table(name, "select=*"));
        let body = anonymous.refused(401, "42501");
        assert_eq!(body["message"], format!("permission denied for table {name}"));
        assert_eq!(seen(&server, As::User("alice"), name, key, ""), own, "{name}");
        assert_eq!(seen(&server, As::User("stranger"), name, key, "").len(), 0, "{name}");
        assert_eq!(seen(&server, As::User("root"), name, key, "").len(), all, "{name}");
        assert_eq!(seen(&server, As::Service, name, key, "").len(), all, "{name}");
        // No filter gets around it, whatever it says, and no count tells of others.
        for filter in [
            format!("{key}=not.is.null"),
            format!("or=({key}.is.null,{key}.not.is.null)"),
            format!("not.and=({key}.is.null,{key}.not.is.null)"),
        ] {
            assert_eq!(seen(&server, As::User("alice"), name, key, &filter), own, "{name} {filter}");
        }
        for method in ["GET", "HEAD"] {
            let request =
                server.request(As::User("alice"), method, &table(name, "")).header("prefer", "count=exact");
            let range = request.send().header("content-range").unwrap().to_owned();
            assert!(range.ends_with(&format!("/{}", own.len())), "{name} {range}");
        }
    }
}

#[test]
fn nobody_writes() {
    let server = populated();
    let before = server.contents();
    for (name, key, ..) in TABLES {
        for method in ["POST", "PATCH", "PUT", "DELETE"] {
            let target = table(name, &format!("{key}=eq.x"));
            let send =
                |caller: As<'_>| server.request(caller, method, &target).json(&json!({ key: "x" })).send();
            let body = send(As::Anon).refused(401, "42501");
            assert_eq!(body["message"], format!("permission denied for table {name}"));
            for user in ["alice", "root"] {
                let body = send(As::User(user)).refused(403, "42501");
                assert_eq!(body["message"], format!("permission denied for table {name}"));
            }
            let service = send(As::Service);
            service.refused(405, "PGRST117");
            assert_eq!(service.header("allow"), Some("OPTIONS,GET,HEAD"));
        }
    }
    for caller in [As::Anon, As::User("alice"), As::Service] {
        server.post(caller, "/rest/v1/nope", &json!({})).refused(404, "PGRST205");
    }
    server.contents().are_still(&before, "a refused write");
}

#[test]
fn a_demoted_admin_sees_own_rows_only_at_once() {
    let server = populated();
    assert_eq!(seen(&server, As::User("root"), "profiles", "id", "").len(), 3);
    server.seed([crate::support::facts::profile("root", "member", false)]);
    assert_eq!(seen(&server, As::User("root"), "profiles", "id", ""), ["root"]);
}

#[test]
fn a_token_that_claims_to_be_an_admin_is_a_members() {
    let server = populated();
    let claims = json!({
        "role": "authenticated", "sub": "alice", "exp": crate::support::NOW_SECS + 60,
        "user_metadata": { "role": "admin" }, "app_metadata": { "role": "admin" }, "user_role": "admin",
    });
    let request = server.request(As::Nobody, "GET", &table("profiles", "select=id"));
    let rows = request.bearer(&crate::support::token(&claims)).send().ok();
    assert_eq!(column(&rows, "id"), ["alice"]);
}
