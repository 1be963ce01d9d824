//! The ways to tell somebody.

use axum::http::{HeaderName, HeaderValue, header};
use jiff::Timestamp;
use serde_json::Value;

use super::config::AlertConfig;
use super::notice::Notice;
use crate::outbound::signature::Signer;
use crate::outbound::{Advice, Destination, Outbound, Post};

/// A way to tell somebody once. Alertmanager is told again and again, see [`Alertmanager`].
#[derive(Debug, Clone)]
pub enum Channel {
    /// The log.
    Log,
    /// A POST of JSON, signed if there is a secret.
    Webhook(Destination, Option<Signer>),
    /// A message for Slack, or what is compatible with it.
    Slack(Destination),
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It was taken.
    Taken,
    /// It may be taken later.
    Later(String),
    /// It never will be.
    Never(String),
}

impl Channel {
    /// Gives the channels that are configured; the log always is.
    pub fn all(config: &AlertConfig) -> Vec<Self> {
        let webhook = config.webhook.clone().map(|to| Self::Webhook(to, config.signer.clone()));
        let slack = config.slack.clone().map(Self::Slack);
        std::iter::once(Self::Log).chain(webhook).chain(slack).collect()
    }

    /// Names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Webhook(..) => "webhook",
            Self::Slack(_) => "slack",
        }
    }

    /// Tells once.
    pub async fn send(&self, outbound: &Outbound, notice: &Notice, now: Timestamp) -> Sent {
        match self {
            Self::Log => {
                log(notice);
                Sent::Taken
            }
            Self::Webhook(to, signer) => {
                let body = match serde_json::to_vec(notice) {
                    Ok(body) => body,
                    Err(error) => return Sent::Never(error.to_string()),
                };
                let id = notice.id.to_string();
                let signed = signer.as_ref().map(|signer| signer.headers(&id, now, &body));
                post(outbound, to, signed.unwrap_or_default(), body).await
            }
            Self::Slack(to) => post(outbound, to, Vec::new(), notice.slack().to_string().into_bytes()).await,
        }
    }
}

/// An Alertmanager: it wants to hear of every alert that fires again and again, and takes care of repetitions, groups and
/// receivers itself.
#[derive(Debug, Clone)]
pub struct Alertmanager(pub Destination);

impl Alertmanager {
    /// Tells of alerts.
    pub async fn send(&self, outbound: &Outbound, alerts: Vec<Value>) -> Sent {
        post(outbound, &self.0, Vec::new(), Value::Array(alerts).to_string().into_bytes()).await
    }
}

async fn post(
    outbound: &Outbound,
    to: &Destination,
    mut headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
) -> Sent {
    headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    match outbound.post(Post { destination: to.clone(), headers, body }).await {
        Ok(answer) => {
            let said = || format!("{to} answers {}", answer.status);
            match answer.advice() {
                Advice::Taken => Sent::Taken,
                Advice::Later => Sent::Later(said()),
                Advice::Never => Sent::Never(said()),
            }
        }
        Err(error) if error.is_worth_a_retry() => Sent::Later(format!("{to}: {error}")),
        Err(error) => Sent::Never(format!("{to}: {error}")),
    }
}

fn log(notice: &Notice) {
    let (alert, instance) = (notice.alert, notice.instance.as_deref().unwrap_or(""));
    let (value, threshold) = (notice.value, notice.threshold);
    let (window, sample) = (notice.window_seconds, notice.sample_size);
    let (since, runbook, text) = (&notice.since, &notice.runbook, &notice.text);
    match notice.status {
        "firing" => tracing::warn!(
            alert,
            instance,
            value,
            threshold,
            window_seconds = window,
            sample_size = sample,
            since,
            runbook,
            text,
            "alert.firing"
        ),
        "resolved" => tracing::info!(
            alert,
            instance,
            value,
            threshold,
            window_seconds = window,
            sample_size = sample,
            since,
            runbook,
            text,
            "alert.resolved"
        ),
        _ => tracing::info!(alert, instance, text, "alert.test"),
    }
}
