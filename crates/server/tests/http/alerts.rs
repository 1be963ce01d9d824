//! From a fault to the one who is told of it: errors injected until an alert fires with the right figures, then its end.

use hmac::{Hmac, KeyInit, Mac};
use nudge::alert::channel::Sent;
use nudge::alert::rule::Rule;
use nudge::outbound::{Bounds, Outbound};
use nudge::usecases::alerts::{Alerts, Observed, SilenceError, SilenceWanted};
use nudge_store::{Actor, AlertState, RunRow};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::receiver::Receiver;
use crate::support::{As, Harness, OUTCOMES, RECOMMENDATIONS, facts};

const SECRET: &str = "a secret of sixteen bytes";
const RUNBOOK: &str = "https://wiki.example.com/OPERATIONS.md";

/// The settings of most tests: told to a webhook on this machine.
fn settings<'a>(webhook: &'a Receiver, more: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
    let mut settings = vec![
        ("NUDGE_ALERT_WEBHOOK_URL", webhook.url.as_str()),
        ("NUDGE_ALERT_WEBHOOK_SECRET", SECRET),
        ("NUDGE_ALERT_RUNBOOK_URL", RUNBOOK),
        ("NUDGE_OUTBOUND_ALLOW_PRIVATE", "127.0.0.0/8"),
        ("NUDGE_INSTANCE", "server-a"),
        // The disk of the machine that runs the tests may be as full as it is.
        ("NUDGE_ALERT_FULL_PERCENT", "100"),
        // Only some tests are about jobs.
        ("NUDGE_ALERT_JOB_MISSED_HOURS", "0"),
    ];
    settings.extend(more);
    settings
}

/// Moves the clock and evaluates.
fn tick(server: &Harness, secs: i64) {
    server.clock.advance(secs);
    server.block_on(server.app.alerts.evaluate(server.app.observed(), server.clock.now()));
}

fn state(server: &Harness, rule: Rule) -> AlertState {
    let shown = server.block_on(server.app.alerts.list(server.clock.now())).unwrap();
    shown.into_iter().find(|shown| shown.rule == rule).unwrap().row.state
}

fn actor() -> Actor {
    Actor { id: "root".into(), role: "admin".into(), ip_address: None, user_agent: None }
}

/// Makes requests fail, as they do while nobody can write.
fn fail(server: &Harness, times: usize) {
    let answer = server.usual();
    let body = json!({ "recommendationId": answer["recommendationId"], "event": "viewed" });
    let lock = server.lock();
    for _ in 0..times {
        assert_eq!(server.post(As::User("alice"), OUTCOMES, &body).status, 503);
    }
    drop(lock);
}

fn succeed(server: &Harness, times: usize) {
    for _ in 0..times {
        server.usual();
    }
}

/// Makes the figures of a server show many requests, some of them errors.
fn count(server: &Harness, good: u64, errors: u64) {
    for n in 0..good + errors {
        server.app.alerts.figures.count(n < errors, Some(std::time::Duration::from_millis(2)));
    }
}

fn fire(server: &Harness) {
    tick(server, 5);
    count(server, 30, 10);
    tick(server, 5);
    tick(server, 15);
    assert_eq!(state(server, Rule::HighErrorRate), AlertState::Firing);
}

fn about(bodies: &[Value], alert: &str) -> Vec<Value> {
    bodies.iter().filter(|body| body["alert"] == alert).cloned().collect()
}

#[test]
fn nobody_who_looks_at_the_alerts_waits_for_a_receiver_that_hangs() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", hanging.local_addr().unwrap());
    let webhook = Receiver::start(200);
    let server = Harness::embedded(&settings(&webhook, &[("NUDGE_ALERT_WEBHOOK_URL", url.as_str())]));
    tick(&server, 5);
    count(&server, 30, 10);
    tick(&server, 5);
    std::thread::scope(|scope| {
        let evaluation = scope.spawn(|| tick(&server, 15));
        let (told, _) = hanging.accept().unwrap();
        assert_eq!(state(&server, Rule::HighErrorRate), AlertState::Firing);
        assert!(!evaluation.is_finished(), "it is still being told");
        drop((told, hanging));
        evaluation.join().unwrap();
    });
    // The notice was not taken: it is sent again.
    let row = server.rows("SELECT memory FROM nudge_alert_states WHERE rule = 'high_error_rate'");
    assert!(row[0][0].as_ref().unwrap().contains("webhook"), "{row:?}");
}

#[test]
fn errors_fire_an_alert_at_the_webhook_with_its_figures_and_their_end_resolves_it() {
    let webhook = Receiver::start(200);
    let server = Harness::embedded(&settings(&webhook, &[]));
    server.seed(facts::home());
    tick(&server, 5);
    let before = server.app.alerts.figures.totals();
    succeed(&server, 19);
    fail(&server, 5);
    let after = server.app.alerts.figures.totals();
    assert_eq!((after.requests - before.requests, after.errors - before.errors), (25, 5));
    tick(&server, 5);
    assert_eq!(state(&server, Rule::HighErrorRate), AlertState::Pending);
    assert_eq!(webhook.received().len(), 0);
    let begun = server.clock.now();
    tick(&server, 15);
    let told = webhook.received();
    assert_eq!(told.len(), 1);
    let body = told[0].json();
    let at = server.clock.now().to_string();
    let expected = json!({
        "version": 1, "id": body["id"], "status": "firing", "alert": "high_error_rate", "title": "High error rate",
        "severity": "critical", "state": "firing", "metric": "error_rate", "unit": "percent", "value": 20.0,
        "threshold": 5.0, "windowSeconds": 300, "sampleSize": 25, "since": at, "at": at, "instance": "server-a",
        "runbook": format!("{RUNBOOK}#alert-high-error-rate"),
        "text": format!("firing: High error rate on server-a. error_rate is 20 % (threshold 5 %) over 5 min, of 25 requests, since {at}"),
    });
    assert_eq!(body, expected);

    // The signature is that of the scheme, worked out here.
    let header = |name: &str| told[0].header(name).unwrap();
    assert_eq!(
        (header("webhook-id"), header("content-type")),
        (body["id"].as_str().unwrap().into(), "application/json".into())
    );
    assert_eq!(header("webhook-timestamp"), server.clock.now().as_second().to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let signed = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp"));
    mac.update(signed.as_bytes());
    mac.update(&told[0].body);
    use base64::Engine as _;
    let mac = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(header("webhook-signature"), format!("v1,{mac}"));

    // Five minutes on the errors have left the window; it ends after another one.
    for _ in 0..58 {
        tick(&server, 5);
    }
    succeed(&server, 40);
    tick(&server, 5);
    assert_eq!((state(&server, Rule::HighErrorRate), webhook.received().len()), (AlertState::Firing, 1));
    for _ in 0..12 {
        tick(&server, 5);
    }
    let told = webhook.bodies();
    assert_eq!(told.len(), 2);
    let resolved = &told[1];
    assert_eq!(
        (&resolved["status"], &resolved["state"], &resolved["value"]),
        (&json!("resolved"), &json!("ok"), &json!(0.0))
    );
    assert_eq!(resolved["sampleSize"], 40);

    // How it came there is in the database.
    let history = server.block_on(server.app.alerts.history(Some(Rule::HighErrorRate), 10)).unwrap();
    let states: Vec<_> =
        history.iter().rev().map(|change| (change.from.as_str(), change.to.as_str())).collect();
    let expected = [("no_data", "pending"), ("pending", "firing"), ("firing", "ok")];
    assert_eq!(states, expected);
    assert_eq!((history[2].at, history[1].value, history[1].sample_size), (begun, Some(20.0), Some(25)));
}

#[test]
fn slow_answers_fire_the_alert_of_p95() {
    let webhook = Receiver::start(200);
    let server = Harness::with(&settings(&webhook, &[("NUDGE_ALERT_PENDING_SECS", "0")]));
    tick(&server, 5);
    for n in 0..40 {
        let millis = if n < 4 { 900 } else { 3 };
        server.app.alerts.figures.count(false, Some(std::time::Duration::from_millis(millis)));
    }
    tick(&server, 5);
    let told = about(&webhook.bodies(), "slow_responses");
    assert_eq!(told.len(), 1);
    // 36 of 40 within 5 ms, 4 between 500 and 1000: the 38th is in the middle of those.
    assert_eq!(
        (&told[0]["value"], &told[0]["threshold"], &told[0]["unit"]),
        (&json!(750.0), &json!(500.0), &json!("milliseconds"))
    );
    assert_eq!((&told[0]["windowSeconds"], &told[0]["sampleSize"]), (&json!(600), &json!(40)));
}

#[test]
fn a_firing_alert_is_told_again_after_the_interval_and_not_before() {
    let webhook = Receiver::start(200);
    let server = Harness::with(&settings(&webhook, &[("NUDGE_ALERT_REPEAT_SECS", "120")]));
    fire(&server);
    for _ in 0..23 {
        tick(&server, 5);
    }
    assert_eq!(webhook.received().len(), 1);
    tick(&server, 5);
    let told = webhook.bodies();
    assert_eq!(told.len(), 2);
    assert_eq!(told[1]["status"], "firing");
    assert_eq!(told[0]["since"], told[1]["since"]);
    assert_ne!(told[0]["id"], told[1]["id"]);
}

#[test]
fn a_silence_holds_back_and_its_end_tells_what_still_is_so() {
    let webhook = Receiver::start(200);
    let server = Harness::with(&settings(&webhook, &[]));
    let alerts = &server.app.alerts;
    let wanted = |rule, hours: i64| SilenceWanted {
        rule,
        instance: None,
        reason: " a known fault ".into(),
        ends_at: server.clock.now() + jiff::SignedDuration::from_hours(hours),
    };
    let silence =
        |wanted: SilenceWanted| server.block_on(alerts.silence(wanted, &actor(), server.clock.now()));
    assert!(matches!(silence(wanted(None, 0)), Err(SilenceError::End)));
    assert!(matches!(silence(wanted(None, 24 * 31)), Err(SilenceError::End)));
    assert!(matches!(
        silence(SilenceWanted { reason: " ".into(), ..wanted(None, 1) }),
        Err(SilenceError::Reason)
    ));
    // Of another alert: it changes nothing.
    silence(wanted(Some(Rule::JobFailures), 1)).unwrap();
    let kept = silence(wanted(Some(Rule::HighErrorRate), 1)).unwrap();
    assert_eq!((kept.reason.as_str(), kept.created_by.as_str()), ("a known fault", "root"));
    fire(&server);
    tick(&server, 5);
    assert_eq!(webhook.received().len(), 0);
    let shown = server.block_on(alerts.list(server.clock.now())).unwrap();
    let shown = shown.iter().find(|shown| shown.rule == Rule::HighErrorRate).unwrap();
    assert_eq!(shown.silence.as_ref().map(|silence| silence.id), Some(kept.id));

    let lifted = server.block_on(alerts.unsilence(kept.id, &actor(), server.clock.now())).unwrap();
    assert!(lifted.is_some());
    assert!(server.block_on(alerts.unsilence(kept.id, &actor(), server.clock.now())).unwrap().is_none());
    tick(&server, 5);
    assert_eq!(webhook.bodies().iter().map(|body| body["status"].clone()).collect::<Vec<_>>(), ["firing"]);
    let actions = server.rows("SELECT action FROM admin_audit_log ORDER BY id");
    let actions: Vec<_> = actions.into_iter().map(|mut row| row.remove(0).unwrap()).collect();
    assert_eq!(actions, ["silence_alert", "silence_alert", "unsilence_alert"]);
    assert_eq!(server.block_on(server.app.store.verify_audit(None)).unwrap().broken, None);
}

#[test]
fn a_notice_that_is_not_taken_is_tried_again_where_it_was_not_taken_only() {
    let (webhook, slack) = (Receiver::start(500), Receiver::start(200));
    let server = Harness::with(&settings(&webhook, &[("NUDGE_ALERT_SLACK_URL", &slack.url)]));
    fire(&server);
    assert_eq!((webhook.received().len(), slack.received().len()), (1, 1));
    tick(&server, 5);
    assert_eq!(webhook.received().len(), 1, "after ten seconds");
    tick(&server, 5);
    assert_eq!(webhook.received().len(), 2);
    webhook.answer(200);
    tick(&server, 15);
    assert_eq!(webhook.received().len(), 2, "after twenty more");
    tick(&server, 5);
    let told = webhook.bodies();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|body| body["id"] == told[0]["id"]), "the same notice");
    for _ in 0..20 {
        tick(&server, 5);
    }
    assert_eq!((webhook.received().len(), slack.received().len()), (3, 1));
    let text = slack.bodies()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with(":red_circle: *High error rate* (critical)\n"), "{text}");
    assert!(text.contains("25 % (threshold 5 %)"), "{text}");
    assert!(text.ends_with(&format!("<{RUNBOOK}#alert-high-error-rate|Runbook>")), "{text}");
}

#[test]
fn an_answer_that_is_final_is_not_tried_again() {
    let webhook = Receiver::start(400);
    let server = Harness::with(&settings(&webhook, &[]));
    fire(&server);
    for _ in 0..30 {
        tick(&server, 5);
    }
    assert_eq!(webhook.received().len(), 1);
}

#[test]
fn a_server_without_its_database_still_tells_and_writes_it_down_later() {
    let webhook = Receiver::start(200);
    let server = Harness::embedded(&settings(&webhook, &[]));
    tick(&server, 5);
    count(&server, 30, 10);
    let lock = server.lock();
    tick(&server, 5);
    tick(&server, 15);
    assert_eq!(webhook.bodies().iter().map(|body| body["status"].clone()).collect::<Vec<_>>(), ["firing"]);
    let history = || server.block_on(server.app.alerts.history(Some(Rule::HighErrorRate), 10)).unwrap();
    assert_eq!(history().len(), 0);
    drop(lock);
    tick(&server, 5);
    let states: Vec<_> = history().iter().rev().map(|change| change.to).collect();
    assert_eq!(states, [AlertState::Pending, AlertState::Firing]);
    assert_eq!(webhook.received().len(), 1);
}

#[test]
fn a_restart_forgets_neither_the_state_nor_what_was_told() {
    let webhook = Receiver::start(200);
    let mut server = Harness::with(&settings(&webhook, &[]));
    fire(&server);
    server.restart();
    tick(&server, 5);
    assert_eq!((state(&server, Rule::HighErrorRate), webhook.received().len()), (AlertState::Firing, 1));
    // No requests: nothing says that it is over, until the window is.
    for _ in 0..59 {
        tick(&server, 5);
    }
    assert_eq!(webhook.received().len(), 1);
    for _ in 0..2 {
        tick(&server, 5);
    }
    let told = webhook.bodies();
    assert_eq!(
        (&told[1]["status"], &told[1]["state"], &told[1]["value"]),
        (&json!("resolved"), &json!("no_data"), &Value::Null)
    );
}

fn failed_run(server: &Harness) {
    let now = server.clock.now();
    let run = RunRow {
        id: nudge::clock::new_id(now),
        job_type: "archetype_recalculation".into(),
        status: "failed".into(),
        processed_count: 10,
        updated_count: 0,
        failed_count: 0,
        error_message: Some("the database is away".into()),
        metadata: json!({}),
        started_at: now,
        completed_at: now,
    };
    server.block_on(server.app.store.insert_run(run)).unwrap();
}

#[test]
fn of_several_replicas_one_tells_what_is_about_the_service() {
    let webhook = Receiver::start(200);
    let server = Harness::with(&settings(&webhook, &[("NUDGE_ALERT_REPEAT_SECS", "86400")]));
    let names = ["server-b", "server-c", "server-d"];
    let replicas: Vec<Alerts> = names
        .iter()
        .map(|name| {
            let config = server.config_of_another(&[("NUDGE_INSTANCE", name)]);
            let outbound = Outbound::new(config.outbound.clone(), Bounds::default(), server.clock.clone());
            Alerts::new(&config, server.store_beside(), outbound)
        })
        .collect();
    let all = |secs| {
        server.clock.advance(secs);
        let now = server.clock.now();
        server.block_on(async {
            let own = Box::pin(server.app.alerts.evaluate(server.app.observed(), now));
            let [b, c, d] =
                [0, 1, 2].map(|n: usize| Box::pin(replicas[n].evaluate(Observed::default(), now)));
            tokio::join!(own, b, c, d);
        });
    };
    all(5);
    failed_run(&server);
    failed_run(&server);
    for _ in 0..6 {
        all(5);
    }
    let told = webhook.bodies();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(
        (&told[0]["alert"], &told[0]["value"], &told[0]["instance"]),
        (&json!("job_failures"), &json!(2.0), &Value::Null)
    );
    // A day later it is over, and that is told once, too.
    all(86_400);
    for _ in 0..4 {
        all(5);
    }
    let statuses: Vec<_> = webhook.bodies().iter().map(|body| body["status"].clone()).collect();
    assert_eq!(statuses, ["firing", "resolved"]);
    // What is about a server has a row for each.
    let shown = server.block_on(server.app.alerts.list(server.clock.now())).unwrap();
    let of = |rule| {
        shown
            .iter()
            .filter(|shown| shown.rule == rule)
            .map(|shown| shown.row.instance.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(Rule::HighErrorRate), ["server-a", "server-b", "server-c", "server-d"]);
    assert_eq!(of(Rule::JobFailures), [""]);
}

#[test]
fn a_job_that_does_not_complete_is_missed_also_where_it_never_has() {
    let webhook = Receiver::start(200);
    let server = Harness::with(&settings(&webhook, &[("NUDGE_ALERT_JOB_MISSED_HOURS", "26")]));
    tick(&server, 5);
    tick(&server, 26 * 3_600);
    assert_eq!(about(&webhook.bodies(), "job_missed").len(), 0);
    tick(&server, 60);
    let told = about(&webhook.bodies(), "job_missed");
    assert_eq!(told.len(), 1);
    assert!((told[0]["value"].as_f64().unwrap() - 26.017).abs() < 1e-9, "{}", told[0]);
    let now = server.clock.now();
    let run = RunRow {
        id: nudge::clock::new_id(now),
        job_type: "archetype_recalculation".into(),
        status: "completed".into(),
        processed_count: 1,
        updated_count: 0,
        failed_count: 0,
        error_message: None,
        metadata: json!({}),
        started_at: now,
        completed_at: now,
    };
    server.block_on(server.app.store.insert_run(run)).unwrap();
    tick(&server, 60);
    assert_eq!(about(&webhook.bodies(), "job_missed")[1]["status"], "resolved");
}

#[test]
fn a_spool_that_does_not_drain_and_one_that_is_full_are_told() {
    let webhook = Receiver::start(200);
    let full = [("NUDGE_ALERT_FULL_PERCENT", "90"), ("NUDGE_ALERT_SPOOL_WINDOW_SECS", "60")];
    let server = Harness::with(&settings(&webhook, &full));
    let with = |depth, used: f64| Observed { spool_depth: depth, spool_used: used, ..server.app.observed() };
    let step = |observed: Observed| {
        server.clock.advance(5);
        server.block_on(
            server.app.alerts.evaluate(Observed { disk_used: Some(0.5), ..observed }, server.clock.now()),
        );
    };
    for n in 0..13 {
        step(with(3 + n, 0.5));
    }
    let told = about(&webhook.bodies(), "spool_not_draining");
    assert_eq!((told.len(), &told[0]["value"]), (1, &json!(3.0)));
    for _ in 0..4 {
        step(with(100, 0.95));
    }
    let told = about(&webhook.bodies(), "spool_full");
    assert_eq!((told.len(), &told[0]["value"], &told[0]["unit"]), (1, &json!(95.0), &json!("percent")));
    for _ in 0..14 {
        step(with(0, 0.0));
    }
    let statuses =
        |alert| about(&webhook.bodies(), alert).iter().map(|body| body["status"].clone()).collect::<Vec<_>>();
    assert_eq!(statuses("spool_full"), ["firing", "resolved"]);
    assert_eq!(statuses("spool_not_draining"), ["firing", "resolved"]);
    assert_eq!(statuses("disk_full").len(), 0);
}

#[test]
fn a_broken_audit_log_is_found_by_the_check() {
    let webhook = Receiver::start(200);
    let server = Harness::with(&settings(&webhook, &[]));
    server.seed(facts::home());
    let change = json!({ "userId": "alice", "archetypeType": "big_spender", "reason": "for the log" });
    server.put(As::Service, crate::support::ARCHETYPE, &change).ok();
    tick(&server, 5);
    server
        .sql(
            "DROP TRIGGER admin_audit_log_no_update; UPDATE admin_audit_log SET actor_role = 'x'",
            "ALTER TABLE admin_audit_log DISABLE TRIGGER USER; UPDATE admin_audit_log SET actor_role = 'x'",
        )
        .unwrap();
    tick(&server, 3_500);
    assert_eq!(about(&webhook.bodies(), "audit_chain_broken").len(), 0, "it is checked every hour");
    tick(&server, 100);
    let told = about(&webhook.bodies(), "audit_chain_broken");
    assert_eq!(
        (told.len(), &told[0]["sampleSize"], &told[0]["severity"]),
        (1, &json!(1), &json!("critical"))
    );
}

#[test]
fn rights_that_are_not_as_they_must_be_are_found_by_the_check() {
    let webhook = Receiver::start(200);
    let server = Harness::on_postgres_with(&settings(&webhook, &[("NUDGE_ALERT_CHECK_SECS", "60")]));
    tick(&server, 5);
    assert_eq!(state(&server, Rule::RlsCheckFailed), AlertState::Ok);
    server.sql("", "ALTER TABLE public.recommendation_logs DISABLE ROW LEVEL SECURITY").unwrap();
    tick(&server, 60);
    let told = about(&webhook.bodies(), "rls_check_failed");
    assert_eq!((told.len(), &told[0]["status"], &told[0]["value"]), (1, &json!("firing"), &json!(1.0)));
    server.sql("", "ALTER TABLE public.recommendation_logs ENABLE ROW LEVEL SECURITY").unwrap();
    tick(&server, 60);
    assert_eq!(about(&webhook.bodies(), "rls_check_failed")[1]["status"], "resolved");
}

#[test]
fn a_test_goes_through_every_channel_and_says_what_became_of_it() {
    let (webhook, slack) = (Receiver::start(200), Receiver::start(404));
    let server = Harness::with(&settings(&webhook, &[("NUDGE_ALERT_SLACK_URL", &slack.url)]));
    let results = server.block_on(server.app.alerts.test(server.clock.now()));
    assert_eq!(results[0], ("log", Sent::Taken));
    assert_eq!(results[1], ("webhook", Sent::Taken));
    assert!(
        matches!(&results[2], ("slack", Sent::Never(why)) if why.ends_with("answers 404")),
        "{results:?}"
    );
    assert_eq!(webhook.bodies()[0]["status"], "test");
    // Without the permission nothing is sent to this machine, and the complaint says which setting.
    let server = Harness::with(&[("NUDGE_ALERT_WEBHOOK_URL", &webhook.url)]);
    let results = server.block_on(server.app.alerts.test(server.clock.now()));
    assert!(
        matches!(&results[1].1, Sent::Never(why) if why.contains("NUDGE_OUTBOUND_ALLOW_PRIVATE")),
        "{results:?}"
    );
    assert_eq!(webhook.received().len(), 1);
}

#[test]
fn preflights_are_no_answers_that_alerts_count() {
    let server = Harness::with_home();
    let counted = || server.app.alerts.figures.totals();
    let before = counted();
    assert_eq!(server.request(As::Nobody, "OPTIONS", RECOMMENDATIONS).send().status, 200);
    assert_eq!(counted(), before);
    server.usual();
    assert_eq!(counted().requests, before.requests + 1);
}
