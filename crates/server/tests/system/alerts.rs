//! Alerts of the whole program: at Debian's own Alertmanager, and on the command line.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Client, Folder, Keys, eventually, number};

/// A real Alertmanager in a folder of its own, ended with the test.
struct Alertmanager {
    child: Child,
    url: String,
}

impl Alertmanager {
    fn start(folder: &Folder) -> Self {
        let config = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
        let config = folder.file("alertmanager.yml", config);
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("/usr/bin/prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().join("alertmanager").display()))
            .arg(format!("--web.listen-address={address}"))
            // Alone, so that it takes no port for others of its kind.
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's prometheus-alertmanager");
        let started = Self { child, url: format!("http://{address}") };
        let client = Client::new(&started.url);
        eventually("Alertmanager", || client.get("/-/ready", None).ok().filter(|ready| ready.status == 200));
        started
    }

    /// The alerts that it believes to fire.
    fn alerts(&self) -> Vec<Value> {
        let answer = Client::new(&self.url).get("/api/v2/alerts", None).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        serde_json::from_value(answer.body).unwrap()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_real_alertmanager_hears_of_an_alert_and_of_its_end_and_people_silence_it() {
    let folder = Folder::new();
    let alertmanager = Alertmanager::start(&folder);
    let settings = [
        ("NUDGE_ALERT_ALERTMANAGER_URL", alertmanager.url.as_str()),
        ("NUDGE_OUTBOUND_ALLOW_PRIVATE", "127.0.0.0/8"),
        ("NUDGE_ALERT_INTERVAL_MS", "100"),
        ("NUDGE_ALERT_PENDING_SECS", "0"),
        ("NUDGE_ALERT_RESOLVE_SECS", "0"),
        ("NUDGE_ALERT_ERROR_WINDOW_SECS", "86400"),
        ("NUDGE_ALERT_P95_MS", "600000"),
        ("NUDGE_ALERT_FULL_PERCENT", "100"),
        ("NUDGE_ALERT_RUNBOOK_URL", "https://wiki.example.com/OPERATIONS.md"),
        ("NUDGE_INSTANCE", "server-a"),
    ];
    let mut command = folder.command(&["serve", "--data-dir", "data", "--port", "0"]);
    let server = folder.start_command(command.envs(settings));
    let (client, key) = (server.client(), Keys::of(&folder).service);
    let row = json!([{ "type": "INSERT", "table": "profiles", "schema": "public", "record": { "id": "ann", "role": null, "personalization_opt_out": null }, "old_record": null }]);
    let ingest = || {
        let answer = client.post("/functions/v1/ingest", &key, &row).unwrap();
        assert!(answer.status != 400, "{}", answer.text);
        answer.status
    };
    assert_eq!(ingest(), 200);

    // Nobody can write, so every change is refused.
    let lock = folder.database();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..25 {
        assert_eq!(ingest(), 503);
    }
    let alert = eventually("the alert at Alertmanager", || alertmanager.alerts().into_iter().next());
    assert_eq!(
        alert["labels"],
        json!({ "alertname": "NudgeHighErrorRate", "alert": "high_error_rate", "severity": "critical",
            "service": "nudge", "instance": "server-a" })
    );
    assert_eq!(alert["annotations"]["threshold"], "5");
    assert_eq!(
        alert["annotations"]["runbook_url"],
        "https://wiki.example.com/OPERATIONS.md#alert-high-error-rate"
    );
    assert!(alert["annotations"]["description"].as_str().unwrap().contains("error_rate is "), "{alert}");
    assert_eq!(alert["status"]["state"], "active");

    // The command line shows it, with a status for scripts, once it could be written down.
    lock.execute_batch("ROLLBACK").unwrap();
    let state = || {
        let ran = folder.run(&["alerts", "list", "--json"]);
        let all: Vec<Value> = serde_json::from_str(&ran.out).unwrap_or_default();
        let found = all.into_iter().find(|alert| alert["alert"] == "high_error_rate")?;
        Some((ran.code, found))
    };
    let (code, shown) = eventually("the state", || state().filter(|(_, alert)| alert["state"] == "firing"));
    assert_eq!((code, &shown["instance"], &shown["threshold"]), (Some(1), &json!("server-a"), &json!(5.0)));
    let args = ["alerts", "silence", "high_error_rate", "--for", "1h", "--reason", "known", "--json"];
    let silence = folder.run(&args).json();
    let (code, shown) = state().unwrap();
    assert_eq!((code, &shown["silence"]["id"]), (Some(0), &silence["id"]), "silenced: nothing to do");
    eventually("the end at Alertmanager while it is silenced", || {
        alertmanager.alerts().is_empty().then_some(())
    });
    folder.run(&["alerts", "unsilence", silence["id"].as_str().unwrap()]).good();
    folder.run(&["alerts", "unsilence", silence["id"].as_str().unwrap()]).refused();
    eventually("the alert after the silence", || alertmanager.alerts().into_iter().next());
    let audited = "SELECT count(*) FROM admin_audit_log WHERE action IN ('silence_alert', 'unsilence_alert')";
    assert_eq!(number(&folder.database(), audited, []), 2);

    // Enough that is well, and it is over.
    for _ in 0..700 {
        assert_eq!(ingest(), 200);
    }
    eventually("the end at Alertmanager", || alertmanager.alerts().is_empty().then_some(()));
    let history = folder.run(&["alerts", "history", "high_error_rate", "--json"]).json();
    let states: Vec<_> =
        history.as_array().unwrap().iter().map(|change| change["to"].as_str().unwrap()).collect();
    assert_eq!(states[..2], ["ok", "firing"]);
}

#[test]
fn a_test_of_the_channels_says_what_became_of_each_and_never_the_url() {
    let folder = Folder::new();
    let mut server = folder.start(&["serve"]);
    server.terminate();
    server.exit_code();
    let mut command = folder.command(&["alerts", "test", "--data-dir", "data"]);
    command.env("NUDGE_ALERT_SLACK_URL", "http://127.0.0.1:1/services/a-secret-path");
    let ran = crate::support::finish(&mut command, None);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("log: sent") && ran.out.contains("slack: NOT sent"), "{}", ran.out);
    assert!(!format!("{}{}", ran.out, ran.err).contains("a-secret-path"), "{ran:?}");
    assert!(folder.run(&["alerts", "list"]).good().contains("evaluated"));
    assert_eq!(
        folder.run(&["alerts", "silence", "no_such_alert", "--for", "1h", "--reason", "x"]).code,
        Some(2)
    );
    folder.run(&["alerts", "silence", "job_missed", "--for", "800h", "--reason", "x"]).refused();
}
