//! A row of an alert with what it is made from.

use jiff::Timestamp;
use nudge_store::{AlertRow, AlertSave, AlertState, AlertTransition};

use crate::alert::machine::{Limits, Memory, Standing};
use crate::alert::rule::Rule;
use crate::clock::new_id;

/// Changes of state that wait for a database that is away; older ones are dropped.
const MOST_UNSAVED: usize = 100;

/// Where an alert stands, as this server knows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    /// The row as it is to be written; its revision is that of the stored one.
    pub(super) row: AlertRow,
    /// What is remembered.
    pub(super) memory: Memory,
    /// Changes of state that are not written yet.
    pub(super) unsaved: Vec<AlertTransition>,
}

/// Gives what rows are told apart by.
pub fn key_of(row: &AlertRow) -> (String, String) {
    (row.rule.clone(), row.instance.clone())
}

impl Held {
    /// An alert that nobody has evaluated yet.
    pub(super) fn new(rule: Rule, instance: &str, limits: &Limits, now: Timestamp) -> Self {
        let row = AlertRow {
            rule: rule.as_str().to_owned(),
            instance: instance.to_owned(),
            state: AlertState::NoData,
            since: now,
            value: None,
            threshold: limits.threshold,
            window_secs: limits.window.as_secs(),
            sample_size: None,
            memory: serde_json::json!({}),
            created_at: now,
            evaluated_at: now,
            revision: 0,
        };
        Self { row, memory: Memory::default(), unsaved: Vec::new() }
    }

    /// An alert as it is stored. What cannot be understood of its memory is forgotten: at worst somebody is told twice.
    pub(super) fn stored(row: AlertRow) -> Self {
        let memory = serde_json::from_value(row.memory.clone()).unwrap_or_else(|error| {
            tracing::warn!(alert = row.rule, %error, "alert.memory_unreadable");
            Memory::default()
        });
        Self { row, memory, unsaved: Vec::new() }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            state: self.row.state,
            since: self.row.since,
            value: self.row.value,
            sample: self.row.sample_size.and_then(|size| u64::try_from(size).ok()),
            memory: self.memory.clone(),
        }
    }

    /// Takes over where the alert stands now; says whether the state is another one.
    pub(super) fn take(&mut self, next: Standing, limits: &Limits, now: Timestamp) -> bool {
        let from = self.row.state;
        self.row.state = next.state;
        self.row.since = next.since;
        self.row.value = next.value;
        self.row.sample_size = next.sample.map(|sample| i64::try_from(sample).unwrap_or(i64::MAX));
        self.row.threshold = limits.threshold;
        self.row.window_secs = limits.window.as_secs();
        self.memory = next.memory;
        if from == next.state {
            return false;
        }
        if self.unsaved.len() >= MOST_UNSAVED {
            self.unsaved.remove(0);
        }
        self.unsaved.push(AlertTransition {
            id: new_id(now),
            rule: self.row.rule.clone(),
            instance: self.row.instance.clone(),
            from,
            to: next.state,
            value: self.row.value,
            threshold: self.row.threshold,
            window_secs: self.row.window_secs,
            sample_size: self.row.sample_size,
            at: now,
        });
        true
    }

    /// Gives what is to be written.
    pub(super) fn save(&self) -> AlertSave {
        let memory = serde_json::to_value(&self.memory).unwrap_or_else(|error| {
            tracing::error!(alert = self.row.rule, %error, "alert.memory_not_serializable");
            serde_json::json!({})
        });
        AlertSave { row: AlertRow { memory, ..self.row.clone() }, transitions: self.unsaved.clone() }
    }

    /// Notes that it has been written.
    pub(super) fn saved(&mut self) {
        self.row.revision += 1;
        self.unsaved.clear();
    }
}
