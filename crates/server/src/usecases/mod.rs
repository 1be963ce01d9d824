//! What the service does, apart from how it is asked: load facts, call the engine, persist.

pub mod archetype;
pub mod people;
pub mod recommend;
pub mod record;
pub mod seed;

use nudge_engine::{Policy, Request, Signals, classify, compute_signals};
use nudge_store::ComputedArchetype;

/// Computes an archetype from requests.
pub fn compute(requests: &[Request], now: jiff::Timestamp, policy: &Policy) -> ComputedArchetype {
    from_signals(compute_signals(requests, now, policy), now, policy)
}

/// Computes an archetype from signals.
pub fn from_signals(signals: Signals, now: jiff::Timestamp, policy: &Policy) -> ComputedArchetype {
    let classification = classify(&signals, policy);
    ComputedArchetype {
        archetype: classification.archetype,
        confidence: classification.confidence,
        signals,
        reasoning: classification.reasoning(),
        scores: serde_json::to_value(&classification.scores).unwrap_or_default(),
        policy: policy.name.clone(),
        computed_at: now,
    }
}
