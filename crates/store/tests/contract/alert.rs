//! Alerts: replicas agree by revisions, silences are audited, and what is old goes away.

use crate::support::*;
use nudge_store::*;
use serde_json::json;

const NOON: &str = "2026-03-01T12:00:00Z";

fn row(rule: &str, instance: &str, revision: i64) -> AlertRow {
    AlertRow {
        rule: rule.into(),
        instance: instance.into(),
        state: AlertState::Firing,
        since: at(NOON),
        value: Some(7.25),
        threshold: 5.0,
        window_secs: 300,
        sample_size: Some(40),
        memory: json!({ "told": "firing", "at": NOON }),
        created_at: at("2026-03-01T11:00:00.000001Z"),
        evaluated_at: at(NOON),
        revision,
    }
}

fn transition(n: u64, rule: &str) -> AlertTransition {
    AlertTransition {
        id: id(n),
        rule: rule.into(),
        instance: "a:1".into(),
        from: AlertState::Pending,
        to: AlertState::Firing,
        value: Some(7.25),
        threshold: 5.0,
        window_secs: 300,
        sample_size: None,
        at: at(NOON),
    }
}

fn silence(n: u64, rule: Option<&str>) -> AlertSilence {
    AlertSilence {
        id: id(n),
        rule: rule.map(Into::into),
        instance: None,
        reason: "a known \"fault\"".into(),
        created_by: "root".into(),
        created_at: at(NOON),
        ends_at: at("2026-03-01T14:00:00Z"),
        lifted_at: None,
        lifted_by: None,
    }
}

async fn a_row_is_written_by_whoever_knows_its_revision_and_comes_back_as_it_was(engine: Engine) {
    let f = Fixture::new(engine).await;
    let save =
        |row: AlertRow, transition| AlertSave { row, transitions: Option::into_iter(transition).collect() };
    let first = row("high_error_rate", "a:1", 0);
    let saves = vec![
        save(first.clone(), Some(transition(1, "high_error_rate"))),
        save(row("job_missed", "", 0), None),
    ];
    assert_eq!(f.store.save_alerts(saves.clone()).await.unwrap(), [true, true]);
    let stored = f.store.alerts().await.unwrap();
    assert_eq!(stored[0], AlertRow { revision: 1, ..first.clone() });
    assert_eq!((stored[1].rule.as_str(), stored[1].instance.as_str()), ("job_missed", ""));
    // The same again, as a replica that had read nothing: neither the row nor the change of state is written.
    assert_eq!(f.store.save_alerts(saves).await.unwrap(), [false, false]);
    assert_eq!(f.store.alert_history(None, 10).await.unwrap(), [transition(1, "high_error_rate")]);
    let next = AlertRow { state: AlertState::NoData, value: None, sample_size: None, ..stored[0].clone() };
    let saves = vec![save(next.clone(), Some(transition(2, "high_error_rate"))), save(next.clone(), None)];
    assert_eq!(
        f.store.save_alerts(saves).await.unwrap(),
        [true, false],
        "the second one has an old revision"
    );
    assert_eq!(f.store.alerts().await.unwrap()[0], AlertRow { revision: 2, ..next });
    assert_eq!(f.store.alert_history(None, 1).await.unwrap(), [transition(2, "high_error_rate")]);
    assert_eq!(f.store.alert_history(Some("job_missed"), 10).await.unwrap(), []);
}

async fn of_many_replicas_one_writes_a_row(engine: Engine) {
    let f = Fixture::new(engine).await;
    let tries = (0..8).map(|_| {
        let store = f.store.clone();
        tokio::spawn(async move {
            store
                .save_alerts(vec![AlertSave { row: row("job_missed", "", 0), transitions: vec![] }])
                .await
                .unwrap()
        })
    });
    let mut written = 0;
    for one in tries.collect::<Vec<_>>() {
        written += usize::from(one.await.unwrap() == [true]);
    }
    assert_eq!(written, 1);
}

async fn a_silence_and_its_end_are_audited_each_once(engine: Engine) {
    let f = Fixture::new(engine).await;
    let head = f.store.silence_alert(silence(1, Some("job_missed")), admin()).await.unwrap();
    assert_eq!(f.store.audit_head().await.unwrap(), Some(head));
    f.store.silence_alert(silence(2, None), admin()).await.unwrap();
    assert_eq!(f.store.alert_silences().await.unwrap(), [silence(2, None), silence(1, Some("job_missed"))]);
    let one = at("2026-03-01T13:00:00Z");
    let lifted = f.store.lift_silence(id(1), admin(), one).await.unwrap().unwrap();
    let expected = AlertSilence {
        lifted_at: Some(one),
        lifted_by: Some("root".into()),
        ..silence(1, Some("job_missed"))
    };
    assert_eq!(lifted, expected);
    assert!(!lifted.is_live(one) && silence(2, None).is_live(one));
    assert_eq!(f.store.lift_silence(id(1), admin(), one).await.unwrap(), None, "it is over");
    assert_eq!(
        f.store.lift_silence(id(2), admin(), at("2026-03-01T14:00:00Z")).await.unwrap(),
        None,
        "it has ended"
    );
    assert_eq!(f.store.lift_silence(id(3), admin(), one).await.unwrap(), None, "there is none");
    let report = f.store.verify_audit(None).await.unwrap();
    assert_eq!((report.entries, report.broken), (3, None));
    assert!(silence(2, None).covers("spool_full", "a:1") && lifted.covers("job_missed", ""));
    assert!(!lifted.covers("spool_full", ""));
}

async fn what_nobody_evaluates_and_what_is_old_goes_away(engine: Engine) {
    let f = Fixture::new(engine).await;
    let save = |row, transition| AlertSave { row, transitions: Option::into_iter(transition).collect() };
    let saves = vec![
        save(row("spool_full", "a:1", 0), Some(transition(1, "spool_full"))),
        save(row("job_missed", "", 0), None),
    ];
    f.store.save_alerts(saves).await.unwrap();
    f.store.silence_alert(silence(1, None), admin()).await.unwrap();
    f.store.tidy_alerts(at(NOON), at(NOON)).await.unwrap();
    assert_eq!(f.store.alerts().await.unwrap().len(), 2);
    assert_eq!(f.store.alert_history(None, 10).await.unwrap().len(), 1);
    f.store.tidy_alerts(at("2026-03-01T12:00:01Z"), at("2026-03-02T12:00:00Z")).await.unwrap();
    let left = f.store.alerts().await.unwrap();
    assert_eq!(
        left.iter().map(|row| row.rule.as_str()).collect::<Vec<_>>(),
        ["job_missed"],
        "that of the service stays"
    );
    assert_eq!(f.store.alert_history(None, 10).await.unwrap(), []);
    assert_eq!(f.store.alert_silences().await.unwrap(), []);
}

async fn figures_of_jobs_are_those_of_the_log(engine: Engine) {
    let f = Fixture::new(engine).await;
    assert_eq!(f.store.recent_runs(at(NOON)).await.unwrap(), RecentRuns::default());
    let run = |n, status: &str, end: &str| RunRow {
        id: id(n),
        job_type: "archetype_recalculation".into(),
        status: status.into(),
        processed_count: 10,
        updated_count: 0,
        failed_count: 2,
        error_message: None,
        metadata: json!({}),
        started_at: at("2026-02-27T00:00:00Z"),
        completed_at: at(end),
    };
    for (n, status, end) in [
        (1, "completed", "2026-02-27T02:00:00Z"),
        (2, "failed", "2026-02-27T03:00:00Z"),
        (3, "failed", "2026-03-01T02:00:00Z"),
        (4, "cancelled", "2026-03-01T03:00:00Z"),
    ] {
        f.store.insert_run(run(n, status, end)).await.unwrap();
    }
    let figures = f.store.recent_runs(at("2026-02-28T12:00:00Z")).await.unwrap();
    let last_completed = Some(at("2026-02-27T02:00:00Z"));
    assert_eq!(figures, RecentRuns { failed: 1, finished: 2, last_completed });
}

on_both!(
    a_row_is_written_by_whoever_knows_its_revision_and_comes_back_as_it_was,
    of_many_replicas_one_writes_a_row,
    a_silence_and_its_end_are_audited_each_once,
    what_nobody_evaluates_and_what_is_old_goes_away,
    figures_of_jobs_are_those_of_the_log,
);
