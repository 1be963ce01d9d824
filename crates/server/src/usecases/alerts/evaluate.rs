//! One evaluation of every alert: measure, let the machine decide, write, tell.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use metrics::{counter, gauge};
use nudge_store::admin::{self, AdminError, Severity};
use nudge_store::{AlertRow, AlertSilence, AlertState, StoreError};
use serde_json::Value;
use tokio::task::JoinSet;

use super::held::{Held, key_of};
use super::{Alerts, Observed};
use crate::alert::channel::Sent;
use crate::alert::config::AlertConfig;
use crate::alert::machine::{Delivery, Reading, Tell};
use crate::alert::notice::Notice;
use crate::alert::rule::Rule;
use crate::alert::window::Window;
use crate::clock::new_id;

/// A row whose state stays the same is written so often, so that others see that somebody evaluates it.
const WRITTEN_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// For so long whoever has begun to send a notice has it for itself.
const CLAIM: SignedDuration = SignedDuration::from_secs(60);
/// Pause after the first failed attempt; each later one is twice as long, up to the longest.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// A notice that has been tried so often is given up; at that time it is a day old.
const MOST_ATTEMPTS: u32 = 150;
/// Interval at which an Alertmanager hears of alerts that fire on.
const REFRESH: SignedDuration = SignedDuration::from_secs(60);
/// Interval of tidying up, and what is kept.
const TIDY_EVERY: SignedDuration = SignedDuration::from_hours(1);
const KEEP_SERVERS: SignedDuration = SignedDuration::from_hours(24);
const KEEP_HISTORY: SignedDuration = SignedDuration::from_hours(24 * 90);
/// Times that a row is read and written again when replicas meet on it.
const TRIES: usize = 5;

/// What an evaluation leaves for the next one.
#[derive(Debug)]
pub(super) struct Evaluation {
    window: Window,
    /// By rule and instance.
    pub(super) held: BTreeMap<(String, String), Held>,
    silences: Vec<AlertSilence>,
    tidied_at: Option<Timestamp>,
    alertmanager: Posted,
}

/// A notice on its way, by channel.
type Sending = JoinSet<(&'static str, Sent)>;

/// An alert of which somebody is being told.
struct Telling {
    held: Held,
    sending: Sending,
}

/// What an Alertmanager is to hear.
struct Posting {
    alerts: Vec<Value>,
    before: Posted,
    firing: BTreeMap<(String, String), Held>,
}

/// What an Alertmanager has been told.
#[derive(Debug, Clone, Default)]
struct Posted {
    firing: BTreeMap<(String, String), Held>,
    at: Option<Timestamp>,
    next_at: Option<Timestamp>,
}

impl Evaluation {
    pub(super) fn new(config: &AlertConfig) -> Self {
        let longest = config.error_window.max(config.p95_window).max(config.spool_window);
        Self {
            window: Window::new(longest),
            held: BTreeMap::new(),
            silences: Vec::new(),
            tidied_at: None,
            alertmanager: Posted::default(),
        }
    }

    /// Takes over what others have written.
    fn adopt(&mut self, rows: Vec<AlertRow>, instance: &str) {
        let stored: BTreeMap<_, _> = rows
            .into_iter()
            .filter(|row| row.instance.is_empty() || row.instance == instance)
            .map(|row| (key_of(&row), row))
            .collect();
        for (key, held) in &mut self.held {
            if !stored.contains_key(key) {
                held.row.revision = 0;
            }
        }
        for (key, row) in stored {
            if self.held.get(&key).is_none_or(|held| held.row.revision != row.revision) {
                self.held.insert(key, Held::stored(row));
            }
        }
    }

    fn is_silenced(&self, held: &Held, now: Timestamp) -> bool {
        let (rule, instance) = (&held.row.rule, &held.row.instance);
        self.silences.iter().any(|silence| silence.is_live(now) && silence.covers(rule, instance))
    }
}

/// Why a figure cannot be had.
#[derive(Debug, thiserror::Error)]
enum MeasureError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// Whether a row could be written.
enum Written {
    Done,
    /// Another replica was first.
    Lost,
    /// The database is away.
    Away,
}

impl Alerts {
    /// Evaluates every alert once, and tells whom it concerns. To be called every few seconds by one task a server.
    ///
    /// A notice goes out at once, whatever is measured next, and whoever looks at the alerts meanwhile does not wait for a
    /// receiver that hangs.
    pub async fn evaluate(&self, observed: Observed, now: Timestamp) {
        let (telling, firing) = self.judge(observed, now).await;
        let told =
            telling.into_iter().map(async |telling: Telling| (telling.held, failed(telling.sending).await));
        let (told, posted) = tokio::join!(join_all(told), self.tell_alertmanager(firing, now));
        let mut evaluation = self.evaluation.lock().await;
        for (mut held, left) in told {
            self.note_delivery(&mut held, left, now).await;
            evaluation.held.insert(key_of(&held.row), held);
        }
        if let Some(posted) = posted {
            evaluation.alertmanager = posted;
        }
        counter!("nudge_alert_evaluations_total").increment(1);
    }

    /// Evaluates every alert once; gives what is being sent, and what an Alertmanager is to hear.
    async fn judge(&self, observed: Observed, now: Timestamp) -> (Vec<Telling>, Option<Posting>) {
        let mut evaluation = self.evaluation.lock().await;
        let evaluation = &mut *evaluation;
        let mut telling = Vec::new();
        evaluation.window.note(now, observed.totals, observed.spool_depth);
        let stored = self.store.alerts().await;
        let away = stored.is_err();
        match stored {
            Ok(rows) => evaluation.adopt(rows, &self.instance),
            Err(error) => tracing::debug!(%error, "alert.states_unreadable"),
        }
        match self.store.alert_silences().await {
            Ok(silences) => evaluation.silences = silences,
            Err(error) => tracing::debug!(%error, "alert.silences_unreadable"),
        }
        for rule in self.rules() {
            if rule.is_of_a_server() {
                let reading = self.reading(rule, evaluation, &observed);
                telling.extend(self.turn(evaluation, rule, Some(reading), now).await);
            } else if !away {
                telling.extend(self.turn_of_service(evaluation, rule, now).await);
            }
        }
        if !away {
            self.tidy(evaluation, now).await;
        }
        for held in evaluation.held.values() {
            publish(held);
        }
        (telling, self.posting_due(evaluation, now))
    }

    /// Gives the figure of an alert about this server.
    fn reading(&self, rule: Rule, evaluation: &Evaluation, observed: &Observed) -> Reading {
        let window = &evaluation.window;
        let percent = |share: f64| Reading::Figure { value: 100.0 * share, sample: 1 };
        match rule {
            Rule::HighErrorRate => window.error_percent(self.config.error_window),
            Rule::SlowResponses => window.p95_millis(self.config.p95_window),
            Rule::SpoolNotDraining => window.least_spool_depth(self.config.spool_window),
            Rule::SpoolFull => percent(observed.spool_used),
            Rule::DiskFull => observed.disk_used.map_or(Reading::Nothing, percent),
            Rule::JobFailures | Rule::JobMissed | Rule::RlsCheckFailed | Rule::AuditChainBroken => {
                Reading::Nothing
            }
        }
    }

    /// Evaluates an alert about the service, if nobody has done so lately.
    async fn turn_of_service(
        &self,
        evaluation: &mut Evaluation,
        rule: Rule,
        now: Timestamp,
    ) -> Option<Telling> {
        let limits = rule.limits(&self.config);
        let key = (rule.as_str().to_owned(), String::new());
        let held = evaluation.held.entry(key.clone()).or_insert_with(|| Held::new(rule, "", &limits, now));
        let every = rule.every(&self.config);
        if held.row.revision > 0 && now.duration_since(held.row.evaluated_at) < every {
            return self.turn(evaluation, rule, None, now).await;
        }
        // Whoever writes first measures: some of it costs the database something.
        let mut claimed = held.clone();
        claimed.row.evaluated_at = now;
        match self.write(&mut claimed).await {
            Written::Done => *held = claimed,
            Written::Lost | Written::Away => return None,
        }
        let created_at = held.row.created_at;
        match self.measure(rule, created_at, now).await {
            Ok(reading) => self.turn(evaluation, rule, Some(reading), now).await,
            Err(error) => {
                counter!("nudge_alert_failures_total").increment(1);
                tracing::warn!(alert = rule.as_str(), %error, "alert.not_evaluated");
                // Nothing is known of it: an alert that could not look must not go on saying that all is well.
                self.turn(evaluation, rule, Some(Reading::Nothing), now).await
            }
        }
    }

    /// Measures what an alert about the service is about.
    async fn measure(
        &self,
        rule: Rule,
        created_at: Timestamp,
        now: Timestamp,
    ) -> Result<Reading, MeasureError> {
        let figure =
            |value: f64, sample: i64| Reading::Figure { value, sample: u64::try_from(sample).unwrap_or(0) };
        match rule {
            Rule::JobFailures => {
                let since = now.checked_sub(self.config.job_window).unwrap_or(Timestamp::MIN);
                let jobs = self.store.recent_runs(since).await?;
                Ok(figure(jobs.failed as f64, jobs.finished))
            }
            Rule::JobMissed => {
                let jobs = self.store.recent_runs(now).await?;
                // Where it never completed, the time counts since somebody has looked.
                let last = jobs.last_completed.unwrap_or(created_at);
                let hours = now.duration_since(last).as_secs_f64() / 3_600.0;
                Ok(figure(hours.max(0.0), i64::from(jobs.last_completed.is_some())))
            }
            Rule::RlsCheckFailed => {
                let Some(dsn) = &self.rights else { return Ok(Reading::Nothing) };
                let findings = admin::Server::connect(dsn.clone()).await?.findings().await?;
                let refused = findings.iter().filter(|finding| finding.severity() == Severity::Refusal);
                Ok(figure(refused.count() as f64, 1))
            }
            Rule::AuditChainBroken => {
                let report = self.store.verify_audit(None).await?;
                let entries = i64::try_from(report.entries).unwrap_or(i64::MAX);
                Ok(figure(if report.broken.is_some() { 1.0 } else { 0.0 }, entries))
            }
            Rule::HighErrorRate
            | Rule::SlowResponses
            | Rule::SpoolNotDraining
            | Rule::SpoolFull
            | Rule::DiskFull => Ok(Reading::Nothing),
        }
    }

    /// Takes a figure into account, writes what has changed, and sends what is due. Without a figure only the latter.
    async fn turn(
        &self,
        evaluation: &mut Evaluation,
        rule: Rule,
        reading: Option<Reading>,
        now: Timestamp,
    ) -> Option<Telling> {
        let limits = rule.limits(&self.config);
        let instance = if rule.is_of_a_server() { self.instance.as_str() } else { "" };
        let key = (rule.as_str().to_owned(), instance.to_owned());
        let before = match evaluation.held.get(&key) {
            Some(held) => held.clone(),
            None => Held::new(rule, instance, &limits, now),
        };
        let silenced = evaluation.is_silenced(&before, now);
        let mut held = before.clone();
        let measured = reading.is_some();
        if let Some(reading) = reading {
            let next = held.standing().step(&limits, reading, now);
            if held.take(next, &limits, now) {
                let (from, to) = (before.row.state.as_str(), held.row.state.as_str());
                tracing::debug!(alert = rule.as_str(), instance, from, to, "alert.changed");
            }
        }
        let notice = self.notice_due(&mut held, rule, silenced, now);
        let old = measured && now.duration_since(before.row.evaluated_at) >= WRITTEN_EVERY;
        let changed = held.memory != before.memory || !held.unsaved.is_empty();
        if changed || old || held.row.revision == 0 {
            // By this replicas see when it is due again, so only a figure counts.
            if measured {
                held.row.evaluated_at = now;
            }
            match self.write(&mut held).await {
                Written::Done => {}
                // What is stored is read at the next evaluation; whoever wrote it has told, too.
                Written::Lost => return None,
                Written::Away if rule.is_of_a_server() => {}
                Written::Away => return None,
            }
        }
        evaluation.held.insert(key, held.clone());
        notice.map(|notice| Telling { sending: self.tell(&held, &notice, now), held })
    }

    /// Says what is to be sent now, and notes that it is being sent.
    fn notice_due(&self, held: &mut Held, rule: Rule, silenced: bool, now: Timestamp) -> Option<Notice> {
        if let Some(tell) = held.standing().due(silenced, self.config.repeat, now) {
            let left = self.channels.iter().map(|channel| channel.name().to_owned()).collect();
            held.memory.told = Some((tell, now));
            held.memory.delivery = Some(Delivery { tell, id: new_id(now), left, attempts: 0, next_at: now });
        }
        let delivery = held.memory.delivery.as_mut()?;
        if silenced || now < delivery.next_at {
            return None;
        }
        // What was to be said and is no longer so is not said.
        let still_so = match delivery.tell {
            Tell::Firing => held.row.state == AlertState::Firing,
            Tell::Resolved => held.row.state != AlertState::Firing,
        };
        if !still_so {
            held.memory.delivery = None;
            return None;
        }
        delivery.attempts += 1;
        delivery.next_at = now.checked_add(CLAIM).unwrap_or(now);
        let told = (delivery.tell, delivery.id);
        Some(Notice::of(rule, &held.row, told, &self.config.runbook, now))
    }

    /// Begins to send a notice on the channels that have not taken it yet.
    fn tell(&self, held: &Held, notice: &Notice, now: Timestamp) -> Sending {
        let left = held.memory.delivery.as_ref().map(|delivery| delivery.left.clone()).unwrap_or_default();
        let mut sending = JoinSet::new();
        for channel in self.channels.iter().filter(|channel| left.iter().any(|name| name == channel.name())) {
            let (channel, outbound, notice) = (channel.clone(), self.outbound.clone(), notice.clone());
            sending.spawn(async move { (channel.name(), channel.send(&outbound, &notice, now).await) });
        }
        sending
    }

    /// Notes which channels have not taken a notice. Replicas may have written the row meanwhile: what they wrote stays.
    async fn note_delivery(&self, held: &mut Held, left: Vec<String>, now: Timestamp) {
        let id = held.memory.delivery.as_ref().map(|delivery| delivery.id);
        for _ in 0..TRIES {
            let Some(delivery) = held.memory.delivery.as_mut().filter(|delivery| Some(delivery.id) == id)
            else {
                return;
            };
            if left.is_empty() || delivery.attempts >= MOST_ATTEMPTS {
                held.memory.delivery = None;
            } else {
                delivery.left.clone_from(&left);
                let pause = FIRST_PAUSE * 2_i32.pow((delivery.attempts.saturating_sub(1)).min(10));
                delivery.next_at = now.checked_add(pause.min(LONGEST_PAUSE)).unwrap_or(now);
            }
            match self.write(held).await {
                Written::Done | Written::Away => return,
                Written::Lost => {}
            }
            let key = key_of(&held.row);
            let rows = self.store.alerts().await.unwrap_or_default();
            let Some(row) = rows.into_iter().find(|row| key_of(row) == key) else { return };
            *held = Held::stored(row);
        }
    }

    /// Writes a row if it still is what it was made from.
    async fn write(&self, held: &mut Held) -> Written {
        match self.store.save_alerts(vec![held.save()]).await {
            Ok(written) if written.first() == Some(&true) => {
                held.saved();
                Written::Done
            }
            Ok(_) => Written::Lost,
            Err(error) => {
                counter!("nudge_alert_failures_total").increment(1);
                tracing::debug!(alert = held.row.rule, %error, "alert.not_written");
                Written::Away
            }
        }
    }

    /// Says what an Alertmanager is to hear: what fires, at once when that is something else than before, and again every
    /// minute.
    fn posting_due(&self, evaluation: &Evaluation, now: Timestamp) -> Option<Posting> {
        self.alertmanager.as_ref()?;
        let firing: BTreeMap<_, _> = evaluation
            .held
            .iter()
            .filter(|(_, held)| held.row.state == AlertState::Firing && !evaluation.is_silenced(held, now))
            .map(|(key, held)| (key.clone(), held.clone()))
            .collect();
        let posted = &evaluation.alertmanager;
        let same = firing.keys().eq(posted.firing.keys());
        let fresh = posted.at.is_some_and(|at| now.duration_since(at) < REFRESH);
        if same && (firing.is_empty() || fresh) || posted.next_at.is_some_and(|at| now < at) {
            return None;
        }
        let over = posted.firing.iter().filter(|(key, _)| !firing.contains_key(*key));
        let told = firing.values().map(|held| (held, Tell::Firing));
        let told = told.chain(over.map(|(_, held)| (held, Tell::Resolved)));
        let alerts = told.filter_map(|(held, tell)| {
            let rule: Rule = held.row.rule.parse().ok()?;
            let notice = Notice::of(rule, &held.row, (tell, new_id(now)), &self.config.runbook, now);
            Some(notice.alertmanager(held.memory.fired_at.unwrap_or(held.row.since), now))
        });
        Some(Posting { alerts: alerts.collect(), before: posted.clone(), firing })
    }

    /// Tells an Alertmanager; gives what it has been told then.
    async fn tell_alertmanager(&self, posting: Option<Posting>, now: Timestamp) -> Option<Posted> {
        let (Some(alertmanager), Some(posting)) = (&self.alertmanager, posting) else { return None };
        let sent = alertmanager.send(&self.outbound, posting.alerts).await;
        note_sent("alertmanager", &sent);
        Some(match sent {
            Sent::Taken => Posted { firing: posting.firing, at: Some(now), next_at: None },
            Sent::Later(_) | Sent::Never(_) => {
                Posted { next_at: now.checked_add(FIRST_PAUSE).ok(), ..posting.before }
            }
        })
    }

    async fn tidy(&self, evaluation: &mut Evaluation, now: Timestamp) {
        if evaluation.tidied_at.is_some_and(|at| now.duration_since(at) < TIDY_EVERY) {
            return;
        }
        let before = |keep| now.checked_sub(keep).unwrap_or(Timestamp::MIN);
        match self.store.tidy_alerts(before(KEEP_SERVERS), before(KEEP_HISTORY)).await {
            Ok(()) => evaluation.tidied_at = Some(now),
            Err(error) => tracing::debug!(%error, "alert.not_tidied"),
        }
    }
}

/// Waits for the channels, and gives those that have not taken it and may later.
async fn failed(mut sending: Sending) -> Vec<String> {
    let mut failed = Vec::new();
    while let Some(sent) = sending.join_next().await {
        match sent {
            Ok((channel, sent)) => {
                note_sent(channel, &sent);
                if matches!(sent, Sent::Later(_)) {
                    failed.push(channel.to_owned());
                }
            }
            Err(error) => tracing::error!(%error, "alert.sending_died"),
        }
    }
    failed
}

/// Counts an attempt, and logs one that failed.
fn note_sent(channel: &'static str, sent: &Sent) {
    let result = match sent {
        Sent::Taken => "sent",
        Sent::Later(_) | Sent::Never(_) => "failed",
    };
    counter!("nudge_alert_notifications_total", "channel" => channel, "result" => result).increment(1);
    match sent {
        Sent::Taken => {}
        Sent::Later(error) => tracing::warn!(channel, error, "alert.not_sent: it is tried again"),
        Sent::Never(error) => tracing::error!(channel, error, "alert.not_sent: it is not tried again"),
    }
}

/// Sets the gauges of an alert.
fn publish(held: &Held) {
    let Ok(rule) = held.row.rule.parse::<Rule>() else { return };
    let firing = if held.row.state == AlertState::Firing { 1.0 } else { 0.0 };
    gauge!("nudge_alert_firing", "alert" => rule.as_str()).set(firing);
    match (rule, held.row.value) {
        (Rule::RlsCheckFailed, Some(value)) => gauge!("nudge_rls_problems").set(value),
        (Rule::AuditChainBroken, Some(value)) => gauge!("nudge_audit_chain_broken").set(value),
        _ => {}
    }
}
