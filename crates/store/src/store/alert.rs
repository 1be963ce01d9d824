//! Alerts: where they stand, how they came there, and silences.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Backend, Store};
use crate::alert::{AlertRow, AlertSave, AlertSilence, AlertTransition, RecentRuns};
use crate::error::StoreError;
use crate::record::Actor;

impl Store {
    /// Reads where every alert stands, by rule and instance.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn alerts(&self) -> Result<Vec<AlertRow>, StoreError> {
        on_backend!(self, store => store.alerts().await)
    }

    /// Writes rows of alerts, each only if the stored one still has the revision that it was made from (0: is not
    /// there), and says which were written. The changes of state that go with them are written with them.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn save_alerts(&self, saves: Vec<AlertSave>) -> Result<Vec<bool>, StoreError> {
        on_backend!(self, store => store.save_alerts(saves).await)
    }

    /// Reads the newest changes of state, of one alert or of all, the newest first.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn alert_history(
        &self,
        rule: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AlertTransition>, StoreError> {
        on_backend!(self, store => store.alert_history(rule, limit).await)
    }

    /// Reads the silences, also those that are over, the newest first and at most 1000.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn alert_silences(&self) -> Result<Vec<AlertSilence>, StoreError> {
        on_backend!(self, store => store.alert_silences().await)
    }

    /// Begins a silence and makes its audit entry, both or neither; gives the audit log's new head.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the audit log takes no entry, and as described at [`Store`].
    pub async fn silence_alert(&self, silence: AlertSilence, actor: Actor) -> Result<String, StoreError> {
        on_backend!(self, store => store.silence_alert(silence, actor).await)
    }

    /// Ends a silence and makes its audit entry, both or neither; `None` when there is none in force.
    ///
    /// # Errors
    /// As [`Store::silence_alert`].
    pub async fn lift_silence(
        &self,
        id: Uuid,
        actor: Actor,
        now: Timestamp,
    ) -> Result<Option<AlertSilence>, StoreError> {
        on_backend!(self, store => store.lift_silence(id, actor, now).await)
    }

    /// Deletes the rows of servers that nobody has evaluated since a time, and changes of state and silences from before
    /// another.
    ///
    /// # Errors
    /// As described at [`Store`].
    pub async fn tidy_alerts(&self, servers: Timestamp, history: Timestamp) -> Result<(), StoreError> {
        on_backend!(self, store => store.tidy_alerts(servers, history).await)
    }

    /// Reads what the log of runs says since a time.
    ///
    /// # Errors
    /// As [`Store::load_person`].
    pub async fn recent_runs(&self, since: Timestamp) -> Result<RecentRuns, StoreError> {
        on_backend!(self, store => store.recent_runs(since).await)
    }
}
