//! Where an alert stands, and whether somebody is to be told. Pure: `now` and the figure are arguments.
//!
//! ```text
//!            above the threshold             for `pending`
//!   ok ────────────────────────► pending ─────────────────► firing
//!    ▲ ◄──────────────────────────┘                            │
//!    └──────────────── not above `clear` for `resolve` ────────┘
//! ```
//!
//! A figure between `clear` and the threshold changes nothing about a firing alert, and begins none. Without a figure, or
//! with one of too small a sample, an alert stands at no data; a firing one stays so for its window first, as nothing says
//! that what was wrong is over.

use jiff::{SignedDuration, Timestamp};
use nudge_store::AlertState;
use serde::{Deserialize, Serialize};

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// A figure.
    Figure {
        /// Its value.
        value: f64,
        /// How much it is made of.
        sample: u64,
    },
    /// There is none.
    Nothing,
}

/// From where on it is too much, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// A figure above this is too much.
    pub threshold: f64,
    /// A figure that is not above this ends an alert; at most the threshold.
    pub clear: f64,
    /// The time that a figure is about.
    pub window: SignedDuration,
    /// How long it must be too much.
    pub pending: SignedDuration,
    /// How long it must be well for an alert to end.
    pub resolve: SignedDuration,
    /// A figure of a smaller sample is none.
    pub min_sample: u64,
}

/// What somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    /// The alert fires, or still does.
    Firing,
    /// It does no longer.
    Resolved,
}

/// A notice that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// What is told.
    pub tell: Tell,
    /// The notice's id, the same at every attempt.
    pub id: uuid::Uuid,
    /// Channels that have not taken it yet.
    pub left: Vec<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// When it may be tried again; until then whoever began an attempt has it.
    pub next_at: Timestamp,
}

/// What the machine remembers of an alert, besides its state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Since when the figure is too much.
    pub breach_since: Option<Timestamp>,
    /// Since when it is well, or missing, while the alert fires.
    pub clear_since: Option<Timestamp>,
    /// When the alert fired last.
    pub fired_at: Option<Timestamp>,
    /// What was told last, and when.
    pub told: Option<(Tell, Timestamp)>,
    /// The notice that has not come everywhere.
    pub delivery: Option<Delivery>,
}

/// Where an alert stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The state.
    pub state: AlertState,
    /// Since when.
    pub since: Timestamp,
    /// The figure, if there is one.
    pub value: Option<f64>,
    /// How much it is made of.
    pub sample: Option<u64>,
    /// What else is remembered.
    pub memory: Memory,
}

impl Standing {
    /// The beginning: nothing is known.
    pub fn unknown(now: Timestamp) -> Self {
        Self { state: AlertState::NoData, since: now, value: None, sample: None, memory: Memory::default() }
    }

    /// Takes a figure into account.
    #[must_use]
    pub fn step(&self, limits: &Limits, reading: Reading, now: Timestamp) -> Self {
        let mut next = self.clone();
        let figure = match reading {
            Reading::Figure { value, sample } if sample >= limits.min_sample && value.is_finite() => {
                (next.value, next.sample) = (Some(value), Some(sample));
                Some(value)
            }
            Reading::Figure { sample, .. } => {
                (next.value, next.sample) = (None, Some(sample));
                None
            }
            Reading::Nothing => {
                (next.value, next.sample) = (None, None);
                None
            }
        };
        let firing = self.state == AlertState::Firing;
        let lasting = |since: Option<Timestamp>, long: SignedDuration| {
            since.is_some_and(|since| now.duration_since(since) >= long)
        };
        let memory = &mut next.memory;
        let state = match figure {
            Some(value) if value > limits.threshold => {
                memory.clear_since = None;
                let since = *memory.breach_since.get_or_insert(now);
                match firing || lasting(Some(since), limits.pending) {
                    true => AlertState::Firing,
                    false => AlertState::Pending,
                }
            }
            Some(value) if firing && value > limits.clear => {
                memory.clear_since = None;
                AlertState::Firing
            }
            Some(_) if firing => {
                memory.clear_since.get_or_insert(now);
                match lasting(memory.clear_since, limits.resolve) {
                    true => AlertState::Ok,
                    false => AlertState::Firing,
                }
            }
            None if firing => {
                memory.clear_since.get_or_insert(now);
                match lasting(memory.clear_since, limits.resolve.max(limits.window)) {
                    true => AlertState::NoData,
                    false => AlertState::Firing,
                }
            }
            Some(_) => AlertState::Ok,
            None => AlertState::NoData,
        };
        if matches!(state, AlertState::Ok | AlertState::NoData) {
            (memory.breach_since, memory.clear_since) = (None, None);
        }
        if state == AlertState::Firing && !firing {
            memory.fired_at = Some(now);
        }
        if state != self.state {
            (next.state, next.since) = (state, now);
        }
        next
    }

    /// Says what is to be told now: that the alert fires, again after `repeat`, and once that it does no longer, if it
    /// was told that it does. While it is silenced, nothing.
    pub fn due(&self, silenced: bool, repeat: SignedDuration, now: Timestamp) -> Option<Tell> {
        if silenced {
            return None;
        }
        match (self.state, self.memory.told) {
            (AlertState::Firing, Some((Tell::Firing, at))) => {
                (now.duration_since(at) >= repeat).then_some(Tell::Firing)
            }
            (AlertState::Firing, _) => Some(Tell::Firing),
            (AlertState::Ok | AlertState::NoData, Some((Tell::Firing, _))) => Some(Tell::Resolved),
            (AlertState::Ok | AlertState::NoData | AlertState::Pending, _) => None,
        }
    }
}
