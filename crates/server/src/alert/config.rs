//! The settings of alerts.

use std::time::Duration;

use jiff::SignedDuration;

use crate::config::{ConfigError, Values};
use crate::outbound::Destination;
use crate::outbound::signature::Signer;

/// The settings.
#[derive(Debug, Clone)]
pub struct AlertConfig {
    /// The interval of evaluation; `None`: nothing is evaluated.
    pub every: Option<Duration>,
    /// Percent of answers that may be 5xx.
    pub error_percent: f64,
    /// The time that they are counted over.
    pub error_window: SignedDuration,
    /// Milliseconds within which 95 of 100 answers must come.
    pub p95_millis: f64,
    /// The time that they are counted over.
    pub p95_window: SignedDuration,
    /// Runs of the job that may fail.
    pub job_failures: f64,
    /// The time that they are counted over.
    pub job_window: SignedDuration,
    /// Hours within which the job must complete; 0: it need not.
    pub job_missed_hours: f64,
    /// The time that decisions may wait in the spool.
    pub spool_window: SignedDuration,
    /// Percent of spool and disk that may be taken.
    pub full_percent: f64,
    /// The interval of the checks of rights and audit log.
    pub check_every: SignedDuration,
    /// The interval at which the log of runs is looked at.
    pub service_every: SignedDuration,
    /// Requests that a share or a P95 is made of at least.
    pub min_requests: u64,
    /// How long a figure must be too much.
    pub pending: SignedDuration,
    /// How long it must be well again.
    pub resolve: SignedDuration,
    /// The interval at which it is said again that an alert fires.
    pub repeat: SignedDuration,
    /// Where the sections of the runbook are.
    pub runbook: String,
    /// A webhook that gets JSON.
    pub webhook: Option<Destination>,
    /// What it is signed with.
    pub signer: Option<Signer>,
    /// A webhook that understands Slack's messages.
    pub slack: Option<Destination>,
    /// An Alertmanager's API.
    pub alertmanager: Option<Destination>,
}

impl AlertConfig {
    pub(crate) fn parse(values: &Values) -> Result<Self, ConfigError> {
        let secs = |name, range| values.number::<i64>(name, range).map(SignedDuration::from_secs);
        let decimal = |name: &'static str, most: f64| {
            let wanted = format!("a number from 0 to {most}");
            let number: f64 = values.parse(name, &wanted)?;
            match (0.0..=most).contains(&number) {
                true => Ok(number),
                false => Err(values.bad(name, format!("must be {wanted}, not {number}"))),
            }
        };
        let destination = |name: &'static str, path: &str| {
            let url = values.text(name).map(|url| format!("{}{path}", url.trim_end_matches('/')));
            url.map(|url| url.parse::<Destination>()).transpose().map_err(|error| values.bad(name, error))
        };
        let every = values.number::<u64>("NUDGE_ALERT_INTERVAL_MS", 0..=3_600_000)?;
        let secret = "NUDGE_ALERT_WEBHOOK_SECRET";
        let signer = values.text(secret).map(Signer::new).transpose();
        Ok(Self {
            every: (every > 0).then(|| Duration::from_millis(every)),
            error_percent: decimal("NUDGE_ALERT_ERROR_PERCENT", 100.0)?,
            error_window: secs("NUDGE_ALERT_ERROR_WINDOW_SECS", 1..=86_400)?,
            p95_millis: decimal("NUDGE_ALERT_P95_MS", 600_000.0)?,
            p95_window: secs("NUDGE_ALERT_P95_WINDOW_SECS", 1..=86_400)?,
            job_failures: decimal("NUDGE_ALERT_JOB_FAILURES", 1_000_000.0)?,
            job_window: secs("NUDGE_ALERT_JOB_WINDOW_SECS", 1..=31_536_000)?,
            job_missed_hours: decimal("NUDGE_ALERT_JOB_MISSED_HOURS", 8_760.0)?,
            spool_window: secs("NUDGE_ALERT_SPOOL_WINDOW_SECS", 1..=86_400)?,
            full_percent: decimal("NUDGE_ALERT_FULL_PERCENT", 100.0)?,
            check_every: secs("NUDGE_ALERT_CHECK_SECS", 1..=31_536_000)?,
            service_every: SignedDuration::from_millis(i64::try_from(every).unwrap_or(i64::MAX).min(30_000)),
            min_requests: values.number("NUDGE_ALERT_MIN_REQUESTS", 1..=1_000_000)?,
            pending: secs("NUDGE_ALERT_PENDING_SECS", 0..=86_400)?,
            resolve: secs("NUDGE_ALERT_RESOLVE_SECS", 0..=86_400)?,
            repeat: secs("NUDGE_ALERT_REPEAT_SECS", 1..=31_536_000)?,
            runbook: values.text("NUDGE_ALERT_RUNBOOK_URL").unwrap_or_default().to_owned(),
            webhook: destination("NUDGE_ALERT_WEBHOOK_URL", "")?,
            signer: signer.map_err(|error| values.bad(secret, error))?,
            slack: destination("NUDGE_ALERT_SLACK_URL", "")?,
            alertmanager: destination("NUDGE_ALERT_ALERTMANAGER_URL", "/api/v2/alerts")?,
        })
    }
}
