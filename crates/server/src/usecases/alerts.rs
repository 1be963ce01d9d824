//! Alerts: evaluated by every server, shown and silenced by people. The loop, the command line and the dashboard come here.
//!
//! Where an alert stands is kept in the database. What is about one server is written by that server alone, and goes on in
//! memory while the database is away, which may well be what is wrong. What is about the service is evaluated by
//! whichever replica comes first; they agree by the row's revision, so that one of them tells and the others do not. A
//! notice that one of them has begun to send and not finished is taken over by another after a minute, so it may come
//! twice then, and never not at all. Where next: `evaluate` is the evaluation.

mod evaluate;
mod held;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nudge_store::{Actor, AlertRow, AlertSilence, AlertState, AlertTransition, Dsn, Store, StoreError};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::alert::channel::{Alertmanager, Channel, Sent};
use crate::alert::config::AlertConfig;
use crate::alert::figures::{RequestFigures, Totals};
use crate::alert::notice::Notice;
use crate::alert::rule::Rule;
use crate::clock::new_id;
use crate::config::{Config, Database};
use crate::outbound::Outbound;

pub use held::key_of;

/// Longest silence.
pub const LONGEST_SILENCE: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Longest reason, in characters.
const LONGEST_REASON: usize = 2_000;
/// A row of a server that has not been evaluated for so long is that of a server that has gone.
const STALE: SignedDuration = SignedDuration::from_mins(5);

/// What a server says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observed {
    /// Counts of requests.
    pub totals: Totals,
    /// Decisions in the spool.
    pub spool_depth: u64,
    /// Share of the spool that is taken, 0 to 1.
    pub spool_used: f64,
    /// Share of the data folder's disk that is taken, 0 to 1, where it can be said.
    pub disk_used: Option<f64>,
}

/// An alert as shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The alert.
    pub rule: Rule,
    /// Where it stands; the instance is empty for the whole service.
    pub row: AlertRow,
    /// Whether the server that it is about has gone.
    pub stale: bool,
    /// The silence that holds it back, if there is one.
    pub silence: Option<AlertSilence>,
    /// What to do about it.
    pub runbook: String,
}

/// What somebody wants to hear nothing of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceWanted {
    /// The alert; `None` for all of them.
    pub rule: Option<Rule>,
    /// The server; `None` for all of them.
    pub instance: Option<String>,
    /// Why.
    pub reason: String,
    /// Until when.
    pub ends_at: Timestamp,
}

/// Why an alert is not silenced.
#[derive(Debug, thiserror::Error)]
pub enum SilenceError {
    /// The reason is empty or too long.
    #[error("the reason must have 1 to {LONGEST_REASON} characters")]
    Reason,
    /// The end is past, or too far away.
    #[error("a silence must end in the future, and within 30 days")]
    End,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Evaluates, shows and silences alerts.
#[derive(Debug)]
pub struct Alerts {
    /// The settings.
    pub config: AlertConfig,
    /// Counts of this server's requests.
    pub figures: Arc<RequestFigures>,
    /// The name of this server.
    pub instance: String,
    store: Store,
    outbound: Outbound,
    channels: Vec<Channel>,
    alertmanager: Option<Alertmanager>,
    /// Where rights can be checked: the database server, if there is one.
    rights: Option<Dsn>,
    evaluation: Mutex<evaluate::Evaluation>,
}

impl Alerts {
    /// Puts the use cases together.
    pub fn new(config: &Config, store: Store, outbound: Outbound) -> Self {
        let alerts = config.alerts.clone();
        let rights = match &config.database {
            Database::File(_) => None,
            Database::Server { dsn, .. } => Some((**dsn).clone()),
        };
        Self {
            channels: Channel::all(&alerts),
            alertmanager: alerts.alertmanager.clone().map(Alertmanager),
            figures: Arc::default(),
            instance: config.instance(),
            evaluation: Mutex::new(evaluate::Evaluation::new(&alerts)),
            config: alerts,
            store,
            outbound,
            rights,
        }
    }

    /// Lists the alerts that apply here, by name: the service's and every server's.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(&self, now: Timestamp) -> Result<Vec<Shown>, StoreError> {
        let silences = self.store.alert_silences().await?;
        let mut rows: BTreeMap<(String, String), AlertRow> =
            self.store.alerts().await?.into_iter().map(|row| (key_of(&row), row)).collect();
        // What this server knows is newer than what it has written.
        for (key, held) in &self.evaluation.lock().await.held {
            if rows.get(key).is_none_or(|row| row.revision <= held.row.revision) {
                rows.insert(key.clone(), held.row.clone());
            }
        }
        let shown = rows.into_values().filter_map(|row| {
            // A rule that this program does not know, of a newer one: not shown, and left alone.
            let rule: Rule = row.rule.parse().ok()?;
            let live =
                |silence: &&AlertSilence| silence.is_live(now) && silence.covers(&row.rule, &row.instance);
            Some(Shown {
                rule,
                stale: rule.is_of_a_server() && now.duration_since(row.evaluated_at) > STALE,
                silence: silences.iter().find(live).cloned(),
                runbook: format!("{}#{}", self.config.runbook, rule.anchor()),
                row,
            })
        });
        let mut shown: Vec<Shown> = shown.collect();
        shown.sort_by(|a, b| (a.rule, &a.row.instance).cmp(&(b.rule, &b.row.instance)));
        Ok(shown)
    }

    /// Reads the newest changes of state, of one alert or of all, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn history(&self, rule: Option<Rule>, limit: u32) -> Result<Vec<AlertTransition>, StoreError> {
        self.store.alert_history(rule.map(Rule::as_str), limit).await
    }

    /// Reads the silences, also those that are over, the newest first and at most 1000.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn silences(&self) -> Result<Vec<AlertSilence>, StoreError> {
        self.store.alert_silences().await
    }

    /// Silences an alert, audited. It is evaluated on; nobody is told.
    ///
    /// # Errors
    /// [`SilenceError`]; nothing was changed then.
    pub async fn silence(
        &self,
        wanted: SilenceWanted,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<AlertSilence, SilenceError> {
        let reason = wanted.reason.trim();
        if reason.is_empty() || reason.chars().count() > LONGEST_REASON || reason.contains('\0') {
            return Err(SilenceError::Reason);
        }
        if wanted.ends_at <= now || wanted.ends_at.duration_since(now) > LONGEST_SILENCE {
            return Err(SilenceError::End);
        }
        let silence = AlertSilence {
            id: new_id(now),
            rule: wanted.rule.map(|rule| rule.as_str().to_owned()),
            instance: wanted.instance,
            reason: reason.to_owned(),
            created_by: actor.id.clone(),
            created_at: now,
            ends_at: wanted.ends_at,
            lifted_at: None,
            lifted_by: None,
        };
        let audit_head = self.store.silence_alert(silence.clone(), actor.clone()).await?;
        tracing::info!(audit.head = %audit_head, "audit.extended");
        Ok(silence)
    }

    /// Ends a silence before its time, audited; `None` when there is none in force with this id.
    ///
    /// # Errors
    /// When the database cannot be written; nothing was changed then.
    pub async fn unsilence(
        &self,
        id: Uuid,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Option<AlertSilence>, StoreError> {
        self.store.lift_silence(id, actor.clone(), now).await
    }

    /// Sends a test through every channel, the log included, and says what became of each.
    pub async fn test(&self, now: Timestamp) -> Vec<(&'static str, Sent)> {
        let notice = Notice::of_a_test(new_id(now), &self.instance, &self.config.runbook, now);
        let mut results = Vec::new();
        for channel in &self.channels {
            results.push((channel.name(), channel.send(&self.outbound, &notice, now).await));
        }
        if let Some(alertmanager) = &self.alertmanager {
            let alert = notice.alertmanager(now, now);
            results.push(("alertmanager", alertmanager.send(&self.outbound, vec![alert]).await));
        }
        results
    }

    /// The alerts that are evaluated here.
    fn rules(&self) -> impl Iterator<Item = Rule> {
        let applies = |rule: &Rule| match rule {
            Rule::RlsCheckFailed => self.rights.is_some(),
            Rule::JobMissed => self.config.job_missed_hours > 0.0,
            _ => true,
        };
        Rule::ALL.into_iter().filter(applies)
    }
}

/// Says whether an alert stands where somebody should look.
pub fn is_firing(shown: &Shown) -> bool {
    shown.row.state == AlertState::Firing
}
