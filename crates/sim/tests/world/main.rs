//! Worlds: the same everywhere, and for the demo a calendar, a recent past and archetypes as the guide has them.

#[cfg(test)]
mod demo;
#[cfg(test)]
mod determinism;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

use nudge_sim::{Course, Intent, Ledger, Offer, World};
use support::ruled;

/// Runs the recent intents of a world, each shown what the rules decide on what was known at its time.
#[cfg(test)]
fn run_recent(world: &World) -> (Ledger, Vec<(Intent, Offer, Course)>) {
    let mut ledger = Ledger::new(world);
    let mut courses = Vec::new();
    for intent in world.recent_intents().unwrap() {
        let offer = ruled(&ledger, &intent, intent.at);
        let course = world.respond(&intent, &offer).unwrap();
        if let Some(row) = &course.request {
            ledger.add(intent.requester_index(), row.clone());
        }
        courses.push((intent, offer, course));
    }
    (ledger, courses)
}
