//! A recorded decision, computed again from what was recorded with it. The command line and the pages both come here.

use nudge_engine::{Decision, Policy, decide};
use nudge_store::StoredDecision;
use serde_json::Value;

use super::record::RecordedContext;
use crate::wire;

/// Whether the recorded facts give the recorded answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// They do.
    Same,
    /// They do not.
    Different,
    /// It was recorded with another policy than the one it is computed with, so nothing was compared.
    OtherPolicy,
}

/// A recorded decision with its computation.
#[derive(Debug)]
pub struct Explained {
    /// What was recorded.
    pub context: RecordedContext,
    /// What that gives now.
    pub decision: Decision,
    /// Whether the two are the same.
    pub again: Again,
}

/// Computes a recorded decision again.
///
/// # Errors
/// When what was recorded cannot be read.
pub fn explain(stored: &StoredDecision, policy: &Policy) -> serde_json::Result<Explained> {
    let context: RecordedContext = serde_json::from_str(&stored.row.context)?;
    let decision = decide(&context.snapshot, policy);
    let again = if context.policy == policy.name {
        let recorded: Value = serde_json::from_str(&stored.row.options)?;
        let computed = serde_json::to_value(wire::options(&decision))?;
        let same = recorded == computed && stored.row.rule == decision.rule.as_str();
        if same { Again::Same } else { Again::Different }
    } else {
        Again::OtherPolicy
    };
    Ok(Explained { context, decision, again })
}
