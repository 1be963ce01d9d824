//! What all routes share, and those that need no credentials.

use serde_json::{Value, json};

use crate::support::client::exchange;
use crate::support::{ARCHETYPE, As, DATE, Harness, INGEST, OUTCOMES, RECOMMENDATIONS};

const OPEN: [&str; 5] = ["/", "/health/live", "/health/ready", "/openapi.json", "/metrics"];
const CLOSED: [&str; 4] = [RECOMMENDATIONS, ARCHETYPE, OUTCOMES, INGEST];

#[test]
fn the_served_openapi_document_is_the_committed_one() {
    let server = Harness::start();
    let served = format!("{:#}\n", server.get(As::Nobody, "/openapi.json").ok());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &served).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        served == committed,
        "docs/openapi.json is out of date: UPDATE_OPENAPI=1 cargo test -p nudge --test http openapi"
    );
    let document: Value = serde_json::from_str(&served).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in OPEN.iter().chain(&CLOSED) {
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
}

#[test]
fn options_need_no_credentials() {
    let server = Harness::start();
    for path in OPEN.iter().chain(&CLOSED) {
        let answer = server
            .request(As::Nobody, "OPTIONS", path)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "authorization, x-client-info, apikey, content-type")
            .send();
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.is_empty());
    }
}

#[test]
fn a_wrong_method_is_answered_with_the_right_ones_before_anything_else() {
    let server = Harness::start();
    for (path, allowed) in [
        (RECOMMENDATIONS, "GET"),
        (ARCHETYPE, "GET POST PUT DELETE"),
        (OUTCOMES, "POST"),
        (INGEST, "POST"),
        ("/health/live", "GET"),
        ("/health/ready", "GET"),
        ("/metrics", "GET"),
        ("/openapi.json", "GET"),
        ("/", "GET"),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
            if allowed.split(' ').any(|a| a == method) {
                continue;
            }
            let answer = server.request(As::Nobody, method, path).header("authorization", "nonsense").send();
            answer.refused(405, "method_not_allowed");
            let allow = answer.header("allow").unwrap();
            for allowed in allowed.split(' ') {
                assert!(allow.split(", ").any(|a| a == allowed), "{method} {path}: {allow}");
            }
            assert!(!allow.split(", ").any(|a| a == method));
        }
    }
}

#[test]
fn there_is_nothing_elsewhere() {
    let server = Harness::start();
    for path in [
        "/nothing",
        "/functions/v1",
        "/functions/v1/",
        "/functions/v1/user-archetype/",
        "//",
        "/functions/v1/user-archetype%2F",
        "/FUNCTIONS/V1/user-archetype",
        "/../etc/passwd",
        "/rest",
        "/rest/v2/profiles",
        "/health",
    ] {
        for method in ["GET", "POST"] {
            server.request(As::Nobody, method, path).send().refused(404, "not_found");
        }
    }
}

#[test]
fn head_answers_as_get_does_without_a_body() {
    let server = Harness::with_home();
    let target = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob");
    let of_alice = format!("{ARCHETYPE}?userId=alice");
    for (caller, target, status) in [
        (As::Nobody, "/", 200),
        (As::Nobody, "/health/live", 200),
        (As::Nobody, "/openapi.json", 200),
        (As::User("alice"), of_alice.as_str(), 200),
        (As::User("alice"), ARCHETYPE, 400),
        (As::Nobody, of_alice.as_str(), 401),
        // What nobody sees is no recommendation, and is not recorded as one.
        (As::User("alice"), target.as_str(), 405),
        (As::Nobody, "/nothing", 404),
        (As::Nobody, INGEST, 405),
    ] {
        let answer = server.request(caller, "HEAD", target).send();
        assert_eq!(answer.status, status, "{target}");
        assert!(answer.body.is_empty());
    }
    assert_eq!(server.count("SELECT count(*) FROM recommendation_logs"), 0);
}

#[test]
fn every_answer_has_a_request_id_of_its_own() {
    let server = Harness::start();
    let ids: std::collections::HashSet<_> = (0..20)
        .map(|_| server.get(As::Nobody, "/health/live").header("x-request-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 20);
    let given = server.request(As::Nobody, "GET", "/health/live").header("x-request-id", "mine").send();
    assert_ne!(given.header("x-request-id"), Some("mine"));
}

#[test]
fn refusals_come_in_the_documented_order() {
    let server = Harness::with_home();
    let huge = vec![b'x'; 300 * 1024];
    let alice = As::User("alice");
    // 405 before 401.
    server
        .request(As::Nobody, "PATCH", ARCHETYPE)
        .body(huge.clone())
        .send()
        .refused(405, "method_not_allowed");
    // 401 before the role, the role before 413.
    server.request(As::Nobody, "PUT", ARCHETYPE).body(huge.clone()).send().refused(401, "unauthorized");
    server.request(alice, "PUT", ARCHETYPE).body(huge.clone()).send().refused(403, "role_required");
    // 413 before 415.
    server
        .request(As::Service, "PUT", ARCHETYPE)
        .header("content-type", "text/csv")
        .body(huge)
        .send()
        .refused(413, "too_large");
    // 415 before 400.
    server
        .request(As::Service, "PUT", ARCHETYPE)
        .header("content-type", "text/csv")
        .body("x")
        .send()
        .refused(415, "unsupported_media_type");
    // 400 before 403 of ownership.
    server.recommend(alice, "bob", "2026-02-30", "carol").bad("targetDate");
    server
        .get(alice, &format!("{RECOMMENDATIONS}?userId=bob&targetDate={DATE}"))
        .refused(400, "missing_parameter");
    // 403 of ownership before what the night would say.
    server.recommend(alice, "bob", DATE, "carol").refused(403, "forbidden");
    // 403 before 409.
    let event = json!([
        { "recommendationId": "01980000-0000-7000-8000-000000000000", "event": "accepted" }
    ]);
    server.post(alice, OUTCOMES, &event).refused(403, "not_your_recommendation");
}

#[test]
fn bodies_are_json_by_either_type() {
    let server = Harness::with_home();
    let body = json!({ "userId": "alice" }).to_string();
    let send = |content_type: Option<&str>| {
        let request = server.request(As::Service, "POST", ARCHETYPE).body(body.clone());
        content_type.map_or(request.clone(), |t| request.header("content-type", t)).send()
    };
    for good in [
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "Application/JSON",
        "text/plain;charset=UTF-8",
    ] {
        assert_eq!(send(Some(good)).status, 200, "{good}");
    }
    for bad in [
        "application/x-www-form-urlencoded",
        "text/html",
        "application/jsonp",
        "application/json-patch+json",
        "json",
        "*/*",
    ] {
        send(Some(bad)).refused(415, "unsupported_media_type");
    }
    send(None).refused(415, "unsupported_media_type");
}

#[test]
fn health_says_what_it_knows() {
    let server = Harness::start();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(server.get(As::Nobody, "/health/live").ok(), json!({ "status": "ok", "version": version }));
    let ready = server.get(As::Nobody, "/health/ready").ok();
    assert_eq!(
        (&ready["status"], &ready["database"], &ready["spoolDepth"]),
        (&json!("ready"), &json!("ok"), &json!(0))
    );
    assert!(ready["schemaVersion"].as_i64().unwrap() > 20_000_000_000_000);
    server
        .sql(
            "ALTER TABLE nudge_schema_migrations RENAME COLUMN version TO gone",
            "ALTER TABLE nudge.migrations RENAME COLUMN version TO gone",
        )
        .unwrap();
    let answer = server.get(As::Nobody, "/health/ready");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["database"], "unavailable");
    assert_eq!(server.get(As::Nobody, "/health/live").status, 200);
}

#[test]
fn metrics_count_requests_by_route_method_and_status() {
    let server = Harness::alone(&[]);
    server.seed(crate::support::facts::home());
    let line = "nudge_http_requests_total{route=\"/functions/v1/transaction-recommendations\",method=\"GET\",status=\"200\"}";
    let before = server.metric(line);
    server.usual();
    server.usual();
    assert_eq!(server.metric(line) - before, 2);
    server.get(As::Nobody, "/secret/of/somebody");
    let answer = server.get(As::Nobody, "/metrics");
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    let text = answer.text();
    for name in [
        "nudge_http_requests_total",
        "nudge_http_request_duration_seconds_bucket",
        "nudge_decisions_total",
        "nudge_archetype_cache_hits_total",
        "nudge_archetype_cache_misses_total",
        "nudge_recorder_queue_depth",
        "nudge_spool_depth",
        "nudge_http_in_flight",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing");
    }
    assert!(text.contains("rule=\"big_spender_urgent\""));
    assert!(!text.contains("secret/of") && !text.contains("alice"), "labels are a fixed set");
}

#[test]
fn metrics_are_for_the_service_when_others_can_reach_them() {
    let server = Harness::with(&[("NUDGE_BIND", "0.0.0.0")]);
    server.get(As::Nobody, "/metrics").refused(401, "unauthorized");
    server.get(As::Anon, "/metrics").refused(401, "unauthorized");
    server.get(As::User("alice"), "/metrics").refused(403, "role_required");
    assert_eq!(server.get(As::Service, "/metrics").status, 200);
    assert_eq!(server.get(As::Nobody, "/health/ready").status, 200);
}

#[test]
fn the_start_page_shows_a_working_example_and_no_secret() {
    let server = Harness::start();
    let answer = server.get(As::Nobody, "/");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("text/html"));
    let page = answer.text();
    assert!(page.contains("transaction-recommendations") && page.contains(&server.anon));
    assert!(page.contains("/openapi.json") && page.contains("/health/ready"));
    for secret in [server.service.as_str(), crate::support::SECRET, crate::support::SECRET_KEY] {
        assert!(!page.contains(secret));
    }
}

#[test]
fn what_is_no_http_is_closed_or_refused() {
    let server = Harness::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        b"POST /functions/v1/ingest HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        b"POST /functions/v1/ingest HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let answer = exchange(server.address, bytes, false);
        assert_eq!(answer.status, 400, "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(server.get(As::Nobody, "/health/live").status, 200);
}
