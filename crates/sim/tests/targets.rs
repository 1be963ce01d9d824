//! The population against the targets of the specification, made by an independent implementation of its text.
//!
//! Each target is a mean and a standard deviation over population seeds; four standard deviations pass.

#[cfg(test)]
mod support;

use nudge_engine::RequestStatus;
use nudge_sim::{Ledger, TrueValues, World, WorldConfig, WorldKind};
use support::{now, ruled, shares};

fn assert_within(what: &str, value: f64, mean: f64, sd: f64) {
    let off = (value - mean) / sd;
    assert!(off.abs() <= 4.0, "{what} is {value:.4}, {off:+.1} standard deviations off {mean}");
}

fn assert_shares(world: &World, ledger: &Ledger, targets: [(f64, f64); 3]) {
    let shares = shares(ledger, world);
    for ((what, share), (mean, sd)) in ["big", "flexible", "average"].iter().zip(shares).zip(targets) {
        assert_within(what, share, mean, sd);
    }
}

#[cfg(test)]
fn world(kind: WorldKind, people: usize, seed: u64) -> World {
    World::generate(&WorldConfig::new(kind, people, seed, now())).unwrap()
}

#[test]
fn mature_archetypes_are_on_target() {
    for seed in 1..=2 {
        let world = world(WorldKind::Mature, 8_000, seed);
        assert_shares(&world, &Ledger::new(&world), [(14.3, 0.3), (71.7, 0.5), (14.0, 0.3)]);
    }
}

#[test]
fn young_archetypes_and_the_rules_over_three_months_are_on_target() {
    for seed in 1..=3 {
        let world = world(WorldKind::Young, 20_000, seed);
        let ledger = Ledger::new(&world);
        assert_shares(&world, &ledger, [(17.3, 0.4), (19.8, 0.5), (62.9, 0.6)]);
        // Archetypes and history stay as of now, so that the rules' true value does not depend on a run of chance.
        let intents = world.further_intents(3.0).unwrap();
        let mut sum = TrueValues::default();
        for intent in &intents {
            sum.add(&world.true_values(intent, &ruled(&ledger, intent, now())));
        }
        let n = intents.len() as f64;
        assert_within("submitted", sum.submitted / n, 0.830, 0.002);
        assert_within("accepted of submitted", sum.accepted / sum.submitted, 0.7155, 0.002);
        assert_within("followed of submitted", sum.followed / sum.submitted, 0.586, 0.003);
        assert_within("platform income", sum.platform_income / n, 2.61, 0.010);
        assert_within("requester's surplus", sum.requester_surplus / n, 42.1, 0.8);
        assert_within("responder's surplus", sum.responder_surplus / n, 122.2, 1.2);
    }
}

#[test]
fn what_happens_agrees_with_the_true_values() {
    let world = world(WorldKind::Young, 8_000, 4);
    let ledger = Ledger::new(&world);
    let intents = world.further_intents(6.0).unwrap();
    let (mut expected, mut counted) = (TrueValues::default(), TrueValues::default());
    for intent in &intents {
        let offer = ruled(&ledger, intent, now());
        expected.add(&world.true_values(intent, &offer));
        let Some(request) = world.respond(intent, &offer).unwrap().request else { continue };
        let option = offer.option(request.transaction_type);
        counted.submitted += 1.0;
        counted.followed += f64::from(u8::from(offer.shown() == Some(request.transaction_type)));
        if request.status == RequestStatus::Accepted {
            counted.accepted += 1.0;
            counted.platform_income += option.fee.dollars();
            counted.volume += option.price.dollars();
        }
    }
    // The standard deviations are upper bounds: of a share at one half, of fees up to about 6, of prices about 120.
    let root = (intents.len() as f64).sqrt();
    assert_within("submitted", counted.submitted, expected.submitted, 0.5 * root);
    assert_within("accepted", counted.accepted, expected.accepted, 0.5 * root);
    assert_within("followed", counted.followed, expected.followed, 0.5 * root);
    assert_within("income", counted.platform_income, expected.platform_income, 2.5 * root);
    assert_within("volume", counted.volume, expected.volume, 120.0 * root);
}
