//! What several tests measure.

use jiff::Timestamp;
use nudge_engine::{Archetype, Policy, Rule, classify, compute_signals};
use nudge_sim::{Intent, Ledger, Offer, World};

/// The moment at which the worlds of the tests end.
pub fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// Classifies a person on what was known at a moment.
pub fn archetype(ledger: &Ledger, person: usize, at: Timestamp) -> Archetype {
    let policy = Policy::default();
    classify(&compute_signals(&ledger.requests_of(person, at), at, &policy), &policy).archetype
}

/// Gives the shares of big_spender, high_flexibility and average_user in percent.
pub fn shares(ledger: &Ledger, world: &World) -> [f64; 3] {
    let (mut counts, people) = ([0_u32; 3], world.people().len());
    for person in 0..people {
        counts[match archetype(ledger, person, world.config().now) {
            Archetype::BigSpender => 0,
            Archetype::HighFlexibility => 1,
            Archetype::AverageUser => 2,
        }] += 1;
    }
    counts.map(|n| f64::from(n) * 100.0 / people as f64)
}

/// Shows an intent what `rules-v1` decides on what was known at a moment.
pub fn ruled(ledger: &Ledger, intent: &Intent, at: Timestamp) -> Offer {
    let (policy, person) = (Policy::default(), intent.requester_index());
    let prior = ledger.history_of(person, at, &policy).prior_requests;
    let rule = Rule::select(archetype(ledger, person, at), prior, intent.lead_days, &policy);
    Offer::without_default(intent, &policy).showing(Some(rule.order()[0]))
}
