//! What somebody is told, in the forms that channels take.

use jiff::{SignedDuration, Timestamp};
use nudge_store::{AlertRow, AlertState};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::machine::Tell;
use super::rule::Rule;

/// For how long an Alertmanager believes that an alert fires without hearing of it again.
pub const BELIEVED: SignedDuration = SignedDuration::from_mins(5);

/// What somebody is told of an alert; as JSON the body of the webhook.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The form of this body.
    pub version: u8,
    /// UUIDv7, the same at every attempt and on every channel.
    pub id: Uuid,
    /// `firing`, `resolved`, or `test`.
    pub status: &'static str,
    /// The alert.
    pub alert: &'static str,
    /// What is wrong.
    pub title: &'static str,
    /// `critical` or `warning`.
    pub severity: &'static str,
    /// Where it stands: `firing`, `ok` or `no_data`.
    pub state: AlertState,
    /// The figure's name.
    pub metric: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The figure; `null` when there is none any more.
    pub value: Option<f64>,
    /// What it must not be above.
    pub threshold: f64,
    /// The time that it is about.
    pub window_seconds: i64,
    /// How much it is made of.
    pub sample_size: Option<i64>,
    /// Since when the alert stands so.
    pub since: String,
    /// When this is said.
    pub at: String,
    /// The server; `null` for the whole service.
    pub instance: Option<String>,
    /// What to do about it.
    pub runbook: String,
    /// All of this in a sentence.
    pub text: String,
}

impl Notice {
    /// Makes the notice of an alert.
    pub fn of(rule: Rule, row: &AlertRow, (tell, id): (Tell, Uuid), runbook: &str, now: Timestamp) -> Self {
        let status = match tell {
            Tell::Firing => "firing",
            Tell::Resolved => "resolved",
        };
        let instance = (!row.instance.is_empty()).then(|| row.instance.clone());
        let since = time(row.since);
        let place = instance.as_deref().map(|instance| format!(" on {instance}")).unwrap_or_default();
        let figure = match row.value {
            Some(value) => format!("{} is {}", rule.metric(), measured(value, rule.unit())),
            None => format!("{} has no data", rule.metric()),
        };
        let sample = row.sample_size.map(|n| format!(", of {n} {}", rule.sample_of())).unwrap_or_default();
        let window = match row.window_secs {
            0 => String::new(),
            secs => format!(" over {}", spoken(secs)),
        };
        let text = format!(
            "{status}: {}{place}. {figure} (threshold {}){window}{sample}, since {since}",
            rule.title(),
            measured(row.threshold, rule.unit()),
        );
        Self {
            version: 1,
            id,
            status,
            alert: rule.as_str(),
            title: rule.title(),
            severity: rule.severity(),
            state: row.state,
            metric: rule.metric(),
            unit: rule.unit(),
            value: row.value.map(rounded),
            threshold: row.threshold,
            window_seconds: row.window_secs,
            sample_size: row.sample_size,
            since,
            at: time(now),
            instance,
            runbook: format!("{runbook}#{}", rule.anchor()),
            text,
        }
    }

    /// Makes a notice that says that the channel works.
    pub fn of_a_test(id: Uuid, instance: &str, runbook: &str, now: Timestamp) -> Self {
        Self {
            version: 1,
            id,
            status: "test",
            alert: "test",
            title: "A test of the alerts",
            severity: "warning",
            state: AlertState::Ok,
            metric: "test",
            unit: "count",
            value: None,
            threshold: 0.0,
            window_seconds: 0,
            sample_size: None,
            since: time(now),
            at: time(now),
            instance: Some(instance.to_owned()),
            runbook: format!("{runbook}#alerts"),
            text: format!("test: the alerts of {instance} come through"),
        }
    }

    /// Gives the message that Slack and what is compatible with it takes.
    pub fn slack(&self) -> Value {
        let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let sign = match self.status {
            "firing" => ":red_circle:",
            "resolved" => ":large_green_circle:",
            _ => ":white_circle:",
        };
        let runbook = match self.runbook.starts_with("http") {
            true => format!("<{}|Runbook>", self.runbook.replace('|', "%7C").replace('>', "%3E")),
            false => format!("Runbook: {}", escaped(&self.runbook)),
        };
        json!({ "text": format!("{sign} *{}* ({})\n{}\n{runbook}", escaped(self.title), self.severity, escaped(&self.text)) })
    }

    /// Gives the alert as Alertmanager's API takes it: one that fires is believed for a while, one that does not ends now.
    pub fn alertmanager(&self, starts_at: Timestamp, now: Timestamp) -> Value {
        let ends_at = match self.status {
            "resolved" => now,
            _ => now.checked_add(BELIEVED).unwrap_or(now),
        };
        let mut labels = json!({
            "alertname": alertname(self.alert), "severity": self.severity, "service": "nudge", "alert": self.alert,
        });
        if let (Some(instance), Some(labels)) = (&self.instance, labels.as_object_mut()) {
            labels.insert("instance".to_owned(), Value::from(instance.as_str()));
        }
        json!({
            "labels": labels,
            "annotations": {
                "summary": self.title,
                "description": self.text,
                "value": self.value.map(|value| value.to_string()).unwrap_or_default(),
                "threshold": self.threshold.to_string(),
                "window_seconds": self.window_seconds.to_string(),
                "sample_size": self.sample_size.map(|size| size.to_string()).unwrap_or_default(),
                "runbook_url": self.runbook,
            },
            "startsAt": time(starts_at.min(now)),
            "endsAt": time(ends_at),
        })
    }
}

/// Names an alert as ops/prometheus/alerts.yml does: `high_error_rate` is `NudgeHighErrorRate`.
pub fn alertname(alert: &str) -> String {
    let words = alert.split('_').map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect::<String>())
            .unwrap_or_default()
    });
    std::iter::once("Nudge".to_owned()).chain(words).collect()
}

fn time(at: Timestamp) -> String {
    at.to_string()
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Writes a figure with its unit.
pub fn measured(value: f64, unit: &str) -> String {
    let value = rounded(value);
    match unit {
        "percent" => format!("{value} %"),
        "milliseconds" => format!("{value} ms"),
        "hours" => format!("{value} h"),
        _ => value.to_string(),
    }
}

/// Writes a time as people say it.
pub fn spoken(secs: i64) -> String {
    match secs {
        secs if secs % 3_600 == 0 => format!("{} h", secs / 3_600),
        secs if secs % 60 == 0 => format!("{} min", secs / 60),
        secs => format!("{secs} s"),
    }
}
