//! What the store keeps of alerts: where each stands, how it came there, and who wants to hear nothing of it.
//!
//! Replicas that evaluate the same alert agree by the row's revision: whoever writes first has it, the others read again.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The figure is where it should be.
    Ok,
    /// It is not, but not for long enough.
    Pending,
    /// It is not.
    Firing,
    /// There is no figure, or too little to make one of.
    NoData,
}

impl AlertState {
    /// Gives the word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::NoData => "no_data",
        }
    }
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is no state of an alert.
#[derive(Debug, thiserror::Error)]
#[error("not a state of an alert")]
pub struct NoAlertState;

impl FromStr for AlertState {
    type Err = NoAlertState;

    fn from_str(text: &str) -> Result<Self, NoAlertState> {
        [Self::Ok, Self::Pending, Self::Firing, Self::NoData]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(NoAlertState)
    }
}

/// Where one alert stands: one row of `alert_states`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRow {
    /// The alert.
    pub rule: String,
    /// The server that it is about; empty for the whole service.
    pub instance: String,
    /// Where it stands.
    pub state: AlertState,
    /// Since when.
    pub since: Timestamp,
    /// The figure of the last evaluation; `None` when there was none.
    pub value: Option<f64>,
    /// What the figure must not be above.
    pub threshold: f64,
    /// The time that the figure is about, in seconds.
    pub window_secs: i64,
    /// How much the figure was made of.
    pub sample_size: Option<i64>,
    /// What the evaluation has to remember, an object.
    pub memory: Value,
    /// When it was evaluated first.
    pub created_at: Timestamp,
    /// When it was evaluated last.
    pub evaluated_at: Timestamp,
    /// The number of writes; 0 for a row that is not there yet.
    pub revision: i64,
}

/// A change of an alert's state: one row of `alert_transitions`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertTransition {
    /// UUIDv7, in the order of time.
    pub id: Uuid,
    /// The alert.
    pub rule: String,
    /// The server that it is about; empty for the whole service.
    pub instance: String,
    /// Where it stood.
    pub from: AlertState,
    /// Where it stood then.
    pub to: AlertState,
    /// The figure.
    pub value: Option<f64>,
    /// What the figure must not be above.
    pub threshold: f64,
    /// The time that the figure is about, in seconds.
    pub window_secs: i64,
    /// How much the figure was made of.
    pub sample_size: Option<i64>,
    /// When.
    pub at: Timestamp,
}

/// A write of an alert's row.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertSave {
    /// The row. It is written only if the stored one has its `revision`, which rises by one then.
    pub row: AlertRow,
    /// The changes of state that go with it.
    pub transitions: Vec<AlertTransition>,
}

/// A time in which nobody is told of an alert: one row of `alert_silences`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSilence {
    /// UUIDv7.
    pub id: Uuid,
    /// The alert; `None` for all of them.
    pub rule: Option<String>,
    /// The server; `None` for all of them and the whole service.
    pub instance: Option<String>,
    /// Why.
    pub reason: String,
    /// Who wanted it.
    pub created_by: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
    /// When somebody ended it before that.
    pub lifted_at: Option<Timestamp>,
    /// Who did.
    pub lifted_by: Option<String>,
}

impl AlertSilence {
    /// Says whether it is in force.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.lifted_at.is_none() && now < self.ends_at
    }

    /// Says whether it is about an alert.
    pub fn covers(&self, rule: &str, instance: &str) -> bool {
        let fits =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        fits(&self.rule, rule) && fits(&self.instance, instance)
    }
}

/// What the log of runs says of jobs since a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecentRuns {
    /// Runs that gave up since then.
    pub failed: i64,
    /// Runs that ended since then, those included.
    pub finished: i64,
    /// The end of the newest run that completed, whenever that was.
    pub last_completed: Option<Timestamp>,
}

/// What the audit log keeps of a silence.
pub(crate) fn audited(silence: &AlertSilence) -> Value {
    serde_json::json!({
        "silence": silence.id,
        "rule": silence.rule,
        "instance": silence.instance,
        "reason": silence.reason,
        "ends_at": crate::format::time_text(silence.ends_at),
    })
}
