//! `/functions/v1/archetype-recalculation-job`

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::facts::{home, insert, profile, request};
use crate::support::{ARCHETYPE, As, Harness, INGEST, Response, eventually};

/// How long what happens in the background may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

const JOB: &str = "/functions/v1/archetype-recalculation-job";

fn run(server: &Harness, body: &Value) -> Response {
    server.post(As::Service, JOB, body)
}

fn everybody(server: &Harness) -> Value {
    run(server, &json!({ "config": { "batchSize": 10, "onlyStaleUsers": false }, "wait": true })).ok()
}

/// What a fresh computation gives for every user of the home.
fn archetypes(server: &Harness) -> Vec<Vec<Option<String>>> {
    server.rows("SELECT user_id, archetype_type, confidence FROM user_archetypes ORDER BY user_id")
}

#[test]
fn the_guide_s_call_recomputes_everybody_and_says_so() {
    let server = Harness::with_home();
    let done = everybody(&server);
    let keys: Vec<_> = done.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["duration", "failed", "jobId", "processed", "status", "success", "timestamp", "updated"]
    );
    assert_eq!((&done["success"], &done["status"]), (&json!(true), &json!("completed")));
    let users = server.count(
        "SELECT count(*) FROM (SELECT requester_id AS id FROM date_change_requests
         UNION SELECT receiver_id FROM date_change_requests UNION SELECT id FROM profiles
         EXCEPT SELECT id FROM profiles WHERE personalization_opt_out) AS everybody",
    );
    assert_eq!((done["processed"].as_i64(), done["failed"].as_i64()), (Some(users), Some(0)));
    assert_eq!(done["timestamp"], "2026-03-09T10:00:00Z");
    assert!(done["duration"].as_str().unwrap().ends_with("ms"));
    assert_eq!(archetypes(&server).len(), users as usize);
    let log = server.rows("SELECT status, processed_count, job_type FROM archetype_job_logs");
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(log, [[text("completed"), text(&users.to_string()), text("archetype_recalculation")]]);
    // What the job stored is what a request finds.
    let shown = server.archetype(As::User("alice"), "alice").ok();
    assert_eq!((&shown["archetypeType"], &shown["cached"]), (&json!("big_spender"), &json!(true)));
}

#[test]
fn a_run_for_stale_users_takes_those_and_no_others() {
    let server = Harness::with_home();
    let first = run(&server, &json!({})).ok();
    assert!(first["processed"].as_i64().unwrap() > 0, "everybody is new: {first}");
    let again = run(&server, &json!({})).ok();
    assert_eq!((&again["processed"], &again["status"]), (&json!(0), &json!("completed")));
    server.seed([insert("date_change_requests", request("late", "alice", "bob", json!({})))]);
    assert_eq!(run(&server, &json!({})).ok()["processed"], 2);
    // A day later less an hour everybody is old.
    server.clock.advance(23 * 3_600);
    let everybody = run(&server, &json!({})).ok();
    assert_eq!(everybody["processed"], first["processed"]);
    let never = json!({ "config": { "staleThresholdHours": 8760 } });
    assert_eq!(run(&server, &never).ok()["processed"], 0);
}

#[test]
fn a_run_is_read_and_cancelled_by_its_id() {
    let server = Harness::with_home();
    let done = everybody(&server);
    let id = done["jobId"].as_str().unwrap();
    let read = server.get(As::Service, &format!("{JOB}?jobId={id}")).ok();
    assert_eq!(read, done);
    let ended = server.delete(As::Service, &format!("{JOB}?jobId={id}"));
    assert_eq!((ended.status, ended.json()["code"].clone()), (409, json!("job_ended")));
    for method in [Harness::get, Harness::delete] {
        let none = method(&server, As::Service, &format!("{JOB}?jobId=00000000-0000-7000-8000-000000000000"));
        assert_eq!((none.status, none.json()["code"].clone()), (404, json!("job_not_found")));
        assert_eq!(method(&server, As::Service, JOB).status, 400);
        let bad = method(&server, As::Service, &format!("{JOB}?jobId=7"));
        assert_eq!((bad.status, bad.json()["field"].clone()), (400, json!("jobId")));
    }
}

#[test]
fn only_admins_and_the_service_come_near_it() {
    let server = Harness::with_home();
    server.seed([profile("root", "admin", false)]);
    for (caller, status) in [
        (As::Nobody, 401),
        (As::Anon, 401),
        (As::User("alice"), 403),
        (As::User("root"), 200),
        (As::Service, 200),
    ] {
        let started = server.post(caller, JOB, &json!({ "wait": true }));
        assert_eq!(started.status, status, "{caller:?}");
        let id = "00000000-0000-7000-8000-000000000000";
        let hidden = if status == 200 { 404 } else { status };
        assert_eq!(server.get(caller, &format!("{JOB}?jobId={id}")).status, hidden, "{caller:?}");
        assert_eq!(server.delete(caller, &format!("{JOB}?jobId={id}")).status, hidden, "{caller:?}");
    }
    let by = server.rows("SELECT metadata FROM archetype_job_logs ORDER BY id");
    let kept = by.iter().any(|row| row[0].as_ref().unwrap().contains("\"root\""));
    assert!(kept, "who asked is kept: {by:?}");
    let audited = server.rows("SELECT action, admin_id FROM admin_audit_log ORDER BY id");
    let started = |who: &str| vec![Some("start_job".to_owned()), Some(who.to_owned())];
    assert_eq!(audited, [started("root"), started("service_role")]);
}

#[test]
fn nothing_starts_when_something_does_not_fit() {
    let server = Harness::with_home();
    for (body, field) in [
        (json!({ "config": { "batchSize": 0 } }), "config.batchSize"),
        (json!({ "config": { "batchSize": 1001 } }), "config.batchSize"),
        (json!({ "config": { "maxConcurrent": 65 } }), "config.maxConcurrent"),
        (json!({ "config": { "staleThresholdHours": -1 } }), "config.staleThresholdHours"),
        (json!({ "config": { "onlyStaleUsers": "yes" } }), "config.onlyStaleUsers"),
        (json!({ "config": { "limit": 5 } }), "config.limit"),
        (json!({ "config": 5 }), "config"),
        (json!({ "wait": 5 }), "wait"),
        (json!({ "waits": true }), "waits"),
    ] {
        let refused = run(&server, &body);
        assert_eq!((refused.status, refused.json()["field"].clone()), (400, json!(field)), "{body}");
    }
    assert_eq!(server.count("SELECT count(*) FROM archetype_job_logs"), 0);
}

#[test]
fn an_empty_body_needs_no_type() {
    let server = Harness::with_home();
    let done = server.request(As::Service, "POST", JOB).send();
    assert_eq!(done.ok()["status"], "completed");
}

#[test]
fn without_waiting_the_answer_is_the_run_s_id() {
    let server = Harness::with_home();
    let begun = run(&server, &json!({ "wait": false }));
    assert!(matches!(begun.status, 200 | 202), "{begun:?}");
    let id = begun.json()["jobId"].as_str().unwrap().to_owned();
    eventually(SOON, "the run ends", || {
        server.get(As::Service, &format!("{JOB}?jobId={id}")).ok()["status"] == "completed"
    });
}

#[test]
fn overrides_and_opt_outs_are_left_alone() {
    let server = Harness::with_home();
    server.seed([profile("bob", "member", true)]);
    let set = json!({ "userId": "alice", "archetypeType": "average_user", "reason": "because" });
    server.put(As::Service, ARCHETYPE, &set).ok();
    let done = everybody(&server);
    assert_eq!(done["failed"], 0);
    let of = |user: &str| {
        archetypes(&server).into_iter().find(|row| row[0].as_deref() == Some(user)).map(|row| row[1].clone())
    };
    assert_eq!(of("alice"), Some(Some("average_user".to_owned())));
    assert_eq!(of("bob"), None);
    let log = server.rows("SELECT metadata FROM archetype_job_logs");
    let metadata: Value = serde_json::from_str(log[0][0].as_ref().unwrap()).unwrap();
    assert_eq!(metadata["totals"]["overrideSkipped"], 1);
    let shares: Vec<f64> = metadata["result"]["distribution"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["share"].as_f64().unwrap())
        .collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
}

#[test]
fn a_share_that_moves_by_more_than_it_may_is_warned_of() {
    let server = Harness::with(&[("NUDGE_JOB_DRIFT_POINTS", "10")]);
    server.seed(home());
    let warned = |run: &Value| {
        let id = run["jobId"].as_str().unwrap();
        crate::support::logs::lines()
            .lines()
            .any(|line| line.contains("job.distribution_moved") && line.contains("WARN") && line.contains(id))
    };
    assert!(!warned(&everybody(&server)), "there is nothing to compare with");
    assert!(!warned(&everybody(&server)), "nothing has moved");
    // Four people without a request make four average users more.
    server.seed((0..4).map(|n| profile(&format!("new-{n}"), "member", false)));
    assert!(warned(&everybody(&server)));
}

#[test]
fn while_the_database_is_away_nothing_starts_and_nothing_changes() {
    let server = Harness::with_home();
    everybody(&server);
    let before = archetypes(&server);
    let lock = server.lock();
    let refused = run(&server, &json!({}));
    assert_eq!(refused.status, 503, "{refused:?}");
    drop(lock);
    assert_eq!(archetypes(&server), before);
    assert_eq!(run(&server, &json!({ "wait": true })).ok()["status"], "completed");
}

#[test]
fn enough_new_requests_recompute_a_user_in_the_background() {
    let server = Harness::with(&[("NUDGE_REFRESH_AFTER_REQUESTS", "3")]);
    server.seed([profile("carl", "member", false)]);
    let asked = |n: u32| {
        insert("date_change_requests", request(&format!("r{n}"), "carl", &format!("other{n}"), json!({})))
    };
    let stored = || server.count("SELECT count(*) FROM user_archetypes WHERE user_id = 'carl'");
    for n in 1..3 {
        server.post(As::Service, INGEST, &asked(n)).ok();
    }
    assert_eq!(stored(), 0, "two are not enough");
    server.post(As::Service, INGEST, &asked(3)).ok();
    eventually(SOON, "the user is recomputed", || stored() == 1);
    assert_eq!(server.count("SELECT count(*) FROM user_archetypes WHERE user_id LIKE 'other%'"), 0);
}

#[test]
fn a_run_that_was_missed_is_made_up_once() {
    let mut server = Harness::with(&[("NUDGE_JOB_SCHEDULE", "0 2 * * *")]);
    server.seed(home());
    server.ask_to_stop();
    server.wait_for_end();
    // Two nights later: the newest is made up, not both.
    server.clock.advance(2 * 24 * 3_600);
    server.start_again();
    let runs = || server.rows("SELECT status, metadata FROM archetype_job_logs");
    eventually(SOON, "the run is made up", || {
        runs().iter().any(|run| run[0].as_deref() == Some("completed"))
    });
    let runs = runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert!(runs[0][1].as_ref().unwrap().contains("schedule"));
    assert!(server.count("SELECT count(*) FROM user_archetypes") > 0);
}

#[test]
fn the_answer_comes_within_two_seconds_also_when_the_run_takes_longer() {
    let server = Harness::with_home();
    // A run that somebody else has the lease of, and that does not end.
    let id = "01a00000-0000-7000-8000-000000000001";
    let log = format!(
        "(id, job_type, status, metadata, started_at) VALUES ('{id}', 'archetype_recalculation', 'running', '{{}}',
         '2026-03-09T09:59:00.000000Z')"
    );
    let lease = format!("SET run_id = '{id}', holder = 'another', expires_at =");
    server
        .sql(
            &format!(
                "INSERT INTO archetype_job_logs {log};
                 UPDATE nudge_job_leases {lease} strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '+50 seconds')"
            ),
            &format!(
                "INSERT INTO public.archetype_job_logs {log};
                 UPDATE nudge.job_leases {lease} clock_timestamp() + interval '50 seconds'"
            ),
        )
        .unwrap();
    // The body that the guide's `net.http_post` sends, which gives up after two seconds.
    let body = json!({ "config": { "batchSize": 100, "onlyStaleUsers": true } });
    let asked = std::time::Instant::now();
    let answer = run(&server, &body);
    let took = asked.elapsed();
    assert_eq!((answer.status, &answer.json()["jobId"]), (202, &json!(id)), "{answer:?}");
    assert_eq!((&answer.json()["success"], &answer.json()["status"]), (&json!(true), &json!("running")));
    assert!(took >= Duration::from_millis(1_500) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(server.delete(As::Service, &format!("{JOB}?jobId={id}")).ok()["status"], "cancelled");
    // A run that was under way was not started.
    let audited = server.rows("SELECT action FROM admin_audit_log ORDER BY id");
    assert_eq!(audited, [[Some("cancel_job".to_owned())]]);
}
