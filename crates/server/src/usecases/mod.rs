//! What the service does, apart from how it is asked: load facts, call the engine, persist.

pub mod admin;
pub mod alerts;
pub mod archetype;
pub mod counterfactual;
pub mod drain;
pub mod explain;
pub mod job;
pub mod job_result;
pub mod nights;
pub mod people;
pub mod preview;
pub mod recommend;
pub mod record;
pub mod refresh;
pub mod report;
pub mod seed;

use nudge_engine::{Policy, Request, classify, compute_signals};
use nudge_store::ComputedArchetype;

/// Computes an archetype from requests.
pub fn compute(requests: &[Request], now: jiff::Timestamp, policy: &Policy) -> ComputedArchetype {
    let signals = compute_signals(requests, now, policy);
    let classification = classify(&signals, policy);
    ComputedArchetype {
        archetype: classification.archetype,
        confidence: classification.confidence,
        signals,
        reasoning: classification.reasoning(),
        scores: serde_json::to_value(&classification.scores).unwrap_or_else(|error| {
            tracing::error!(%error, "archetype.scores_not_serializable");
            serde_json::Value::Null
        }),
        policy: policy.name.clone(),
        computed_at: now,
    }
}
