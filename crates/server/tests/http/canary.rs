//! Secrets appear nowhere: not in logs at any level or messages of panics, not in metrics, not in the bodies of errors, not
//! in the log of requests and not in what its drains send.

use std::collections::BTreeMap;
use std::time::Duration;

use nudge_store::{Actor, LogDrain};
use serde_json::json;
use uuid::Uuid;

use crate::request_log::Receiver;
use crate::support::client::exchange;
use crate::support::{
    ARCHETYPE, As, DATE, Harness, INGEST, NOW, NOW_SECS, OUTCOMES, RECOMMENDATIONS, Request, eventually,
    facts, logs, token,
};

const EMAIL: &str = "canary.4711@example.org";
const KEY: &str = "sb_secret_canary_4711_0000";
const JWT_SECRET: &str = "canary-4711-secret-of-the-signatures";
const BODY: &str = "canary-4711-in-a-body";
/// Of a drain, which sends them to its receiver and shows them to nobody else.
const DRAIN_SECRET: &str = "canary-4711-secret-of-a-drain";
const DRAIN_PATH: &str = "canary-4711-path-of-a-drain";

#[test]
fn a_canary_appears_in_no_log_metric_or_error() {
    let server = Harness::with(&[
        ("SUPABASE_SECRET_KEYS", &json!({ "canary": KEY }).to_string()),
        ("SUPABASE_JWT_SECRET", JWT_SECRET),
        ("NUDGE_REQUEST_LOG", "1"),
        ("NUDGE_OUTBOUND_ALLOW_PRIVATE", "127.0.0.1"),
    ]);
    let receiver = Receiver::start();
    let drain = LogDrain {
        id: Uuid::nil(),
        name: "canary".into(),
        destination: receiver.url(DRAIN_PATH),
        filters: String::new(),
        headers: BTreeMap::from([("authorization".into(), format!("Bearer {DRAIN_SECRET}"))]),
        secret: Some(DRAIN_SECRET.into()),
        created_at: NOW.parse().unwrap(),
    };
    let actor = Actor { id: "root".into(), role: "admin".into(), ip_address: None, user_agent: None };
    server.block_on(server.app.store.create_log_drain(drain, actor, json!({}))).unwrap();
    let patience = Duration::from_secs(30);
    eventually(patience, "the drain is taken up", || {
        server.get(As::Nobody, "/metrics").text().contains("nudge_drain_sent_total{drain=\"canary\"}")
    });
    let claims = json!({
        "role": "authenticated", "sub": "alice", "exp": NOW_SECS + 3_600, "email": EMAIL,
        "user_metadata": { "phone": EMAIL }
    });
    let valid = nudge::auth::keys::sign(JWT_SECRET.as_bytes(), &claims).unwrap();
    let forged = token(&claims);
    let service = server.service.clone();
    let with_key =
        |method: &'static str, target: &str| server.request(As::Nobody, method, target).header("apikey", KEY);
    let seeded = with_key("POST", INGEST).json(&json!(facts::home())).send();
    seeded.ok();

    let recommend = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob");
    let leaky = format!("{recommend}&sessionId={BODY}%0A&apikey={KEY}&token={valid}&email={EMAIL}");
    let of_alice = format!("{ARCHETYPE}?userId=alice");
    let by = |token: &str, method: &'static str, target: &str| {
        server.request(As::Nobody, method, target).bearer(token)
    };
    let strange = json!({ "userId": "alice", "archetypeType": BODY, "reason": EMAIL, "password": KEY });
    let wrong_row = facts::insert("profiles", json!({ "id": EMAIL, "role": KEY, "email": EMAIL }));
    let requests: Vec<Request<'_>> = vec![
        by(&valid, "GET", &recommend),
        by(&valid, "GET", &leaky),
        by(&forged, "GET", &recommend),
        by(&valid, "GET", &of_alice),
        by(&forged, "GET", &of_alice),
        by(&valid, "PUT", ARCHETYPE).json(&strange),
        with_key("PUT", ARCHETYPE).json(&strange),
        with_key("PUT", ARCHETYPE).json(&json!({ "userId": "alice", "archetypeType": "big_spender", "reason": format!("{BODY} {EMAIL}") })),
        with_key("POST", ARCHETYPE).json(&json!({ "userId": EMAIL })),
        with_key("DELETE", &of_alice),
        with_key("DELETE", &of_alice).header("origin", "https://app.example"),
        by(&valid, "POST", OUTCOMES).json(&json!({ "recommendationId": BODY, "event": EMAIL })),
        by(&valid, "POST", OUTCOMES).raw_json(format!("{{\"{KEY}\":\"{EMAIL}\"")),
        with_key("POST", INGEST).json(&wrong_row),
        with_key("POST", INGEST).raw_json(format!("[\"{BODY}\", {valid}")),
        by(&service, "POST", INGEST).json(&wrong_row),
        with_key("POST", INGEST).json(&facts::insert(KEY, json!({}))),
        with_key("POST", INGEST).json(&facts::insert("date_change_requests", facts::request("r", "a", "b", json!({ "status": KEY })))),
        with_key("POST", INGEST).json(&facts::insert("date_change_requests", facts::request("r", "a", "b", json!({ "transaction_type": EMAIL })))),
        with_key("POST", INGEST).json(&facts::insert("lease_nights", json!({ "lease_id": "home", "night": EMAIL }))),
        with_key("POST", INGEST).json(&json!({ "type": 7, "table": KEY })),
        with_key("POST", ARCHETYPE).raw_json(format!("\"{KEY}, expected \"")),
        with_key("PUT", ARCHETYPE).raw_json(format!("{{\"userId\":\"a\",\"expiresAt\":[\"{KEY}\"]}}")),
        server.request(As::Nobody, "GET", &format!("/{KEY}/{EMAIL}")),
        server.request(As::Nobody, "GET", &format!("/?apikey={KEY}")).bearer(&valid).header("referer", EMAIL),
        server.request(As::Nobody, "GET", &format!("/openapi.json?email={EMAIL}")).bearer(KEY),
        // Names of tables and columns come back in errors, as PostgREST has it; values do not.
        with_key("GET", &format!("/rest/v1/profiles?id=eq.{EMAIL}")),
        by(&valid, "GET", &format!("/rest/v1/user_archetypes?user_id=eq.{BODY}&policy=eq.{KEY}")),
        by(&forged, "GET", &format!("/rest/v1/profiles?id=eq.{EMAIL}")),
        server.request(As::Nobody, "PATCH", &format!("/functions/v1/{KEY}")).bearer(&valid),
        server.request(As::Nobody, "GET", &recommend).header("apikey", &format!("{KEY}x")),
        server.request(As::Nobody, "GET", &recommend).header("authorization", &format!("Basic {KEY}")),
        server.request(As::Nobody, "GET", &recommend).bearer(KEY).header("apikey", "other"),
        by(&valid, "GET", &recommend).header("user-agent", BODY).header("cookie", KEY).header("x-client-info", EMAIL),
        server.request(As::Nobody, "GET", "/health/ready").bearer(&valid),
        server
            .request(As::Nobody, "POST", "/dashboard/sign-in")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", "http://test")
            .body(format!("token={KEY}&next=/{EMAIL}&form_token={valid}")),
        server.request(As::Nobody, "GET", &format!("/dashboard/sign-in?token={KEY}&next=/dashboard/{EMAIL}")),
        server.request(As::Nobody, "GET", "/dashboard").header("cookie", &format!("nudge_session={KEY}.{valid}")),
        server.request(As::Nobody, "GET", &format!("/dashboard/{KEY}/{EMAIL}")),
    ];
    let mut ids = Vec::new();
    let signature = valid.rsplit('.').next().unwrap().to_owned();
    let payload = valid.split('.').nth(1).unwrap().to_owned();
    let service_signature = service.rsplit('.').next().unwrap().to_owned();
    let secrets = [EMAIL, KEY, JWT_SECRET, &signature, &payload, &service_signature];
    for request in requests {
        let answer = request.send();
        ids.push(answer.header("x-request-id").unwrap().to_owned());
        for secret in secrets {
            assert!(!answer.text().contains(secret) || answer.status == 200, "{secret} in {}", answer.text());
        }
        if answer.status != 200 {
            assert!(!answer.text().contains(&forged) && !answer.text().contains(BODY), "{}", answer.text());
        }
    }
    // Broken inside, with all of it in hand.
    server.break_audit_log();
    let broken = with_key("PUT", ARCHETYPE)
        .json(&json!({ "userId": "alice", "archetypeType": "big_spender", "reason": format!("{BODY} {EMAIL}") }))
        .send();
    broken.refused(500, "internal");
    ids.push(broken.header("x-request-id").unwrap().to_owned());
    exchange(
        server.address,
        format!("GET / HTTP/1.1\r\nauthorization: {valid}\r\nbroken {KEY}\r\n\r\n").as_bytes(),
        false,
    );

    let log = logs::lines();
    for id in &ids {
        assert!(log.contains(id.as_str()), "the log is captured, and has a line for every request");
    }
    let metrics = server.get(As::Nobody, "/metrics").text();
    // Every request that is logged has its row and its event by now; neither says more than what happened.
    let rows = || server.rows("SELECT * FROM edge_function_logs");
    let logged = |id: &String| rows().iter().any(|row| row.contains(&Some(id.clone())));
    eventually(patience, "the last request is in the log", || logged(ids.last().unwrap()));
    eventually(patience, "and at the drain", || receiver.bodies().contains(ids.last().unwrap().as_str()));
    let (rows, events, heads) = (format!("{:?}", rows()), receiver.bodies(), receiver.heads());
    assert!(heads.contains(DRAIN_SECRET), "the receiver gets its header");
    for secret in secrets.iter().copied().chain([BODY, forged.as_str(), DRAIN_SECRET, DRAIN_PATH, "alice"]) {
        assert!(!rows.contains(secret), "{secret} in edge_function_logs");
        assert!(!events.contains(secret), "{secret} in what a drain sent");
        assert!(
            secret == DRAIN_SECRET || secret == DRAIN_PATH || !heads.contains(secret),
            "{secret} in a head"
        );
    }
    for secret in secrets.iter().copied().chain([BODY, forged.as_str(), DRAIN_SECRET, DRAIN_PATH]) {
        assert!(!log.contains(secret), "{secret} in: {:?}", log.lines().find(|line| line.contains(secret)));
        assert!(!metrics.contains(secret), "{secret}");
    }
    // User ids are hashed from `info` up.
    let loud =
        log.lines().filter(|line| [" INFO ", " WARN ", "ERROR "].iter().any(|level| line.contains(level)));
    for line in loud {
        assert!(!line.contains("alice"), "{line}");
    }
}
